"""Programs called from the user's own Numba code, as C callbacks, and by SciPy's integrators."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from scipy import integrate

import numgrad as ng
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels import build
from tests.compiler_cases import Case, exact, python_process

F8 = np.dtype(np.float64)


def everything(x: Any, s: Any) -> list[Any]:
    """All kinds of step: nests, all patterns of reduction, library kernels with and without scratch, views, regions."""
    y = ng.tanh(x) * s
    return [
        y,
        ng.sum(y),
        ng.sum(y, axis=0),
        ng.max(y, axis=1),
        ng.cumsum(y, axis=1),
        ng.permute_dims(x[1:], (1, 0)),
        ng.concat([x, y]),
        ng.sum(ng.matmul(x, ng.permute_dims(x, (1, 0))), axis=0),
        ng.sort(x, axis=1),
        ng.argmax(y, axis=0),
        x.shape[0] * s,
        ng.constant(np.arange(100.0)),
    ]


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(everything, (F8, ("n", "m")), (F8, ()))


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (300, 500), (2, 20_000)])
def test_njit_gives_what_the_program_gives(case: Case, shape: tuple[int, int]) -> None:
    function = case.compiled.njit
    x = exact(F8, shape)
    for scale in (0.5, 2.0):
        want = case.compiled(x, scale)
        for mine, theirs in zip(function(x, scale), want):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
            assert np.asarray(mine).dtype == theirs.dtype


def test_njit_is_made_once_and_compiles_no_kernel(case: Case) -> None:
    before = build.counters.compiled
    assert case.compiled.njit is case.compiled.njit
    assert build.counters.compiled == before


def test_njit_inside_the_users_loop() -> None:
    def rosenbrock(x: Any) -> list[Any]:
        value = ng.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
        return [value, *ng.gradients(value, x)]

    f = Case(rosenbrock, (F8, ("n",))).compiled.njit

    @numba.njit
    def descend(x: Any, steps: int) -> Any:
        values = np.empty(steps)
        for k in range(steps):
            value, gradient = f(x)
            values[k] = value
            x = x - 1e-3 * gradient
        return x, values

    x, values = descend(np.array([-1.0, 1.5, 0.5]), 2000)
    assert values[-1] < values[0] / 100 and not np.isnan(x).any()
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool", "complex128"])
def test_njit_with_other_dtypes(dtype: str) -> None:
    function = Case(
        lambda x, s: [ng.where(x == s, s, x), x == x[::-1], ng.sum(ng.cast(x == s, np.int64))],
        (dtype, ("n",)),
        (dtype, ()),
    )
    x = exact(dtype, (7,))
    for mine, theirs in zip(function.compiled.njit(x, x[2]), function.compiled(x, x[2])):
        np.testing.assert_array_equal(mine, theirs)
        assert np.asarray(mine).dtype == theirs.dtype


def test_njit_many_times_leaves_no_memory_behind(case: Case) -> None:
    """Scratch buffers, partial results and tables live until the kernels are done, and no longer."""
    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()
    x = exact(F8, (40, 5000))
    want = [np.copy(v) for v in case.compiled.njit(x, 0.5)]
    before = rtsys.get_allocation_stats()
    for _ in range(30):
        for mine, theirs in zip(case.compiled.njit(x, 0.5), want):
            np.testing.assert_array_equal(mine, theirs)
        np.full(1000, 7.0)
    del mine
    after = rtsys.get_allocation_stats()
    assert after.alloc - after.free == before.alloc - before.free


def test_njit_checks_sizes() -> None:
    with Graph().as_default():
        x, y, z = placeholder(F8, ("n", 3)), placeholder(F8, (None,)), placeholder(F8, (None,))
        half = placeholder(F8, ((x.shape[0] + 1) // 2,))
        total = ng.sum(y * z) + ng.sum(x) + ng.sum(half) + ng.max(y) + ng.sum(ng.zeros((x.shape[0] - 1,)))
        function = compile_graph([x, y, z, half], [total, ng.ones((x.shape[0] - 1,))]).njit
        alone = compile_graph(y, y * 2.0).njit
    assert function(np.ones((2, 3)), np.ones(4), np.ones(4), np.ones(1))[0] == 12
    assert alone(np.ones(2)).tolist() == [2, 2]
    for arrays, message in [
        ((np.ones((2, 4)), np.ones(4), np.ones(4), np.ones(1)), "input placeholder:0 has a wrong size"),
        ((np.ones((2, 3)), np.ones(4), np.ones(5), np.ones(1)), "sizes must fulfil .*test_compiler_export.py"),
        ((np.ones((2, 3)), np.ones(4), np.ones(4), np.ones(2)), "input placeholder_3:0 has a wrong size"),
        ((np.ones((2, 3)), np.ones(0), np.ones(0), np.ones(1)), "max of no elements"),
        ((np.ones((0, 3)), np.ones(4), np.ones(4), np.ones(0)), "negative size, n-1"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(*arrays)


def test_njit_raises_what_library_kernels_report() -> None:
    solve = Case(lambda a, b: ng.linalg.solve(a * 1.0, b), (F8, ("n", "n")), (F8, ("n",))).compiled.njit
    np.testing.assert_allclose(solve(np.diag([2.0, 4.0]), np.ones(2)), [0.5, 0.25])
    with pytest.raises(ValueError, match="singular.*test_compiler_export.py"):
        solve(np.ones((2, 2)), np.ones(2))
    take = Case(lambda x, i: ng.take(x, i, axis=0), (F8, ("n",)), (np.int64, ("k",))).compiled.njit
    assert take(np.arange(3.0), np.array([2, 0])).tolist() == [2, 0]
    with pytest.raises(IndexError, match="take: an index is out of range"):
        take(np.arange(3.0), np.array([3]))


def test_what_numba_does_not_have_is_refused_with_a_reason() -> None:
    with pytest.raises(ng.errors.DtypeError, match="njit: Numba has no float16"):
        _ = Case(lambda x: x * 2.0, (np.float16, ("n",))).compiled.njit
    function = Case(lambda x: x * 2.0, (F8, ("n",))).compiled
    with pytest.raises(TypeError, match="cfunc: wanted one scalar result"):
        function.cfunc("float64(float64)")
    with pytest.raises(TypeError, match="cfunc: wanted one scalar result"):
        function.lowlevel()


USER = """
import numba, numpy as np
import numgrad as ng
from numgrad.tracing.compiled import compile

with ng.Graph().as_default():
    x = ng.placeholder(ng.float64, ("n",))
    y = ng.sum(ng.exp(-x * x))
    f = compile(x, [y, *ng.gradients(y, x)]).njit

@numba.njit(cache=True)
def mean_of_values(points, repeats):
    total = 0.0
    for k in range(repeats):
        value, gradient = f(points * (k + 1))
        total += value + gradient.sum()
    return total / repeats
"""


def test_the_users_cache_serves_a_second_process(tmp_path: Path) -> None:
    module = tmp_path / "user_code.py"
    module.write_text(USER)
    run = (
        f"import sys, numpy as np; sys.path.insert(0, {str(tmp_path)!r}); from user_code import mean_of_values as f\n"
        "print(repr(f(np.linspace(0.0, 1.0, 5), 3)), sum(f.stats.cache_hits.values()))"
    )
    first, second = (python_process(run, tmp_path / "kernels").split() for _ in range(2))
    assert first[1] == "0" and second[1] == "1", "the second process did not use Numba's cache"
    assert first[0] == second[0]
    x = np.linspace(0.0, 1.0, 5)
    want = np.mean([np.exp(-((k * x) ** 2)).sum() + (-2 * k * x * np.exp(-((k * x) ** 2))).sum() for k in (1, 2, 3)])
    assert math.isclose(float(first[0]), want, rel_tol=1e-14)


# -- C callbacks
def test_cfunc_of_scalars_and_of_a_vector() -> None:
    pair = Case(lambda x, y: ng.atan2(x, y) * 2.0, (F8, ()), (F8, ())).compiled.cfunc("float64(float64, float64)")
    assert pair.ctypes(1.0, 2.0) == 2.0 * math.atan2(1.0, 2.0)
    vector = Case(lambda x: ng.sum(x * x), (F8, ("n",))).compiled.cfunc("float64(intc, CPointer(float64))")
    data = (ctypes.c_double * 3)(1.0, 2.0, 3.0)
    assert vector.ctypes(3, data) == 14.0
    packed = Case(lambda x, y: x - y, (F8, ()), (F8, ())).compiled.cfunc("float64(intc, CPointer(float64))")
    assert packed.ctypes(2, data) == -1.0


def test_quad_integrates_a_program() -> None:
    function = Case(lambda x: ng.exp(-x * x), (F8, ())).compiled.lowlevel()
    value, error = integrate.quad(function, -np.inf, np.inf)
    assert abs(value - math.sqrt(math.pi)) < 1e-10 and error < 1e-6


@pytest.mark.parametrize("ranges", [[(0, 1), (0, 2)], [(0, 1), (0, 1), (0, 1)]])
def test_nquad_integrates_a_program_of_a_vector(ranges: Sequence[tuple[float, float]]) -> None:
    function = Case(lambda x: ng.prod(ng.sin(x)), (F8, ("n",))).compiled.lowlevel()
    value, _ = integrate.nquad(function, ranges)
    assert math.isclose(value, math.prod(math.cos(a) - math.cos(b) for a, b in ranges), rel_tol=1e-9)


def test_nquad_integrates_a_program_of_several_scalars() -> None:
    function = Case(lambda x, y: x * y * y, (F8, ()), (F8, ())).compiled.lowlevel()
    value, _ = integrate.nquad(function, [(0, 2), (0, 3)])
    assert math.isclose(value, 2.0 * 9.0, rel_tol=1e-9)

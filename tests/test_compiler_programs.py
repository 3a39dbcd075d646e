"""Compiled programs: new sizes, plans, errors at the user's line, and what programs show of themselves."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.compiler import program as programs
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from numgrad.types import size_max, size_min
from numgrad_kernels import build
from tests.compiler_cases import Case, exact

F8 = np.dtype(np.float64)


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """The test fails when it asks for a kernel that this process does not have yet."""
    before = build.counters.compiled, build.counters.loaded_from_disk
    yield
    assert (build.counters.compiled, build.counters.loaded_from_disk) == before


def loss(x: Any, w: Any) -> list[Any]:
    """A value and a gradient with matrix products, reductions and elementwise functions."""
    y = ng.tanh(ng.matmul(x, w))
    value = ng.sum(y * y) / x.shape[0]
    return [value, *ng.gradients(value, [x, w])]


@pytest.fixture(scope="module")
def gradient() -> Case:
    case = Case(loss, (F8, ("n", "d")), (F8, ("d",)))
    case.compiled(np.ones((2, 3)), np.ones(3))
    return case


# -- sizes
def test_new_sizes_compile_nothing(gradient: Case, nothing_compiled: None) -> None:
    rng = np.random.default_rng(0)
    for n, d in [(3, 4), (1, 1), (70, 5), (2, 3), (3000, 30), (3, 4)]:
        gradient.check(rng.normal(size=(n, d)), rng.normal(size=d), ulps=64, scale=1.0)


SYMBOLIC = {
    "halves": lambda x, y: [x[::2], x[1::2] * 2.0, ng.sum(x[: x.shape[0] // 2])],
    "products": lambda x, y: [
        ng.reshape(ng.expand_dims(x, 1) * y, (-1,)),
        ng.reshape(x[:, None] + y, (x.shape[0] * y.shape[0],)),
    ],
    "sums": lambda x, y: [ng.concat([x, y, x[::-1]]), ng.sum(ng.concat([y, y]) * 2.0)],
    "differences": lambda x, y: [x[1:] - x[:-1], x[2:-1], y[:-1]],
    "numbers": lambda x, y: [ng.sum(x) / x.shape[0], x * (x.shape[0] % 3), y * (x.shape[0] * y.shape[0] + 1)],
    "larger and smaller": lambda x, y: [
        x[: size_min(x.shape[0], y.shape[0])] + y[: size_min(x.shape[0], y.shape[0])],
        ng.ones((size_max(x.shape[0], y.shape[0]), 2)) * 3.0,
    ],
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_sizes_computed_from_sizes(name: str) -> None:
    case = Case(SYMBOLIC[name], (F8, ("n",)), (F8, ("m",)))
    case.compiled(np.ones(4), np.ones(4))
    before = build.counters.compiled
    for n, m in [(5, 3), (4, 4), (9, 600), (3, 7), (1001, 12)]:
        case.check(exact(F8, (n,)), exact(F8, (m,), 1), ulps=4)
    assert build.counters.compiled == before


def test_inputs_may_have_computed_sizes() -> None:
    with Graph().as_default():
        x = placeholder(F8, ("n",))
        half = placeholder(F8, ((x.shape[0] + 1) // 2,))
        run = compile_graph([x, half], x[::2] + half)
    assert run(np.arange(5.0), np.ones(3)).tolist() == [1, 3, 5]
    assert run(np.arange(4.0), np.ones(2)).tolist() == [1, 3]
    with pytest.raises(ng.errors.ShapeError, match=r"axis 0 has size 3, wanted .* = 2"):
        run(np.arange(4.0), np.ones(3))


def test_a_negative_size_is_an_error_and_not_a_crash() -> None:
    case = Case(lambda x: [ng.zeros((x.shape[0] - 3,)), ng.sum(ng.exp(ng.concat([x, x]))[: x.shape[0]])], (F8, ("n",)))
    case.check(np.ones(5), ulps=8)
    with pytest.raises(ng.errors.ShapeError, match=r"size n-3 = -1 .*test_compiler_programs.py"):
        case.compiled(np.ones(2))


def test_equal_sizes_that_meet_elsewhere_in_the_graph_are_assumed_only_where_they_are_known() -> None:
    with Graph().as_default():
        x, y, z = (placeholder(F8, (None,)) for _ in range(3))
        total = ng.sum(x + y) + ng.sum(y + z)
        alone = compile_graph(x, ng.exp(x))
        both = compile_graph([x, z], [x * 2.0, z * 3.0])
        all_three = compile_graph([x, y, z], total)
    assert alone(np.zeros(3)).tolist() == [1, 1, 1]
    assert [v.tolist() for v in both(np.ones(2), np.ones(2))] == [[2, 2], [3, 3]]
    assert all_three(np.ones(2), np.ones(2), np.ones(2)) == 8
    for run, arrays in [(both, (np.ones(2), np.ones(3))), (all_three, (np.ones(2), np.ones(2), np.ones(3)))]:
        with pytest.raises(
            ng.errors.ShapeError, match=r"must fulfil .* they meet in one operation \(.*test_compiler_programs.py"
        ):
            run(*arrays)


def test_a_size_that_no_input_tells_is_named() -> None:
    with Graph().as_default():
        x, y = placeholder(F8, ("n",)), placeholder(F8, ("m",))
        with pytest.raises(ng.errors.GraphError, match=r"the size m is needed, but it is the size of no input's axis"):
            compile_graph(x, [x, ng.zeros(y.shape)])


# -- plans
def test_plans_are_remembered_and_dropped_in_the_order_of_their_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PLANS_KEPT", 4)
    case = Case(lambda x: x * 2.0, (F8, ("n",)))
    plans = {}
    for n in (1, 2, 3, 4, 1, 5):
        case.check(np.ones(n))
        plans[n] = case.program.plan_for(((n,),), [np.ones(n)])
    assert case.program.plan_for(((1,),), [np.ones(1)]) is plans[1]
    assert case.program.plan_for(((2,),), [np.ones(2)]) is not plans[2]
    assert len(case.program._plans) == 4


def test_the_latest_call_outlives_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bind` and others make plans too; the memory that the fast call writes to must not go away with the plan."""
    monkeypatch.setattr(programs, "PLANS_KEPT", 2)
    case = Case(lambda x: ng.sum(ng.exp(x)) * x, (F8, ("n",)))
    x = np.zeros(3)
    case.compiled(x)
    for n in range(10, 20):
        case.compiled.bind(np.ones(n))
    gc.collect()
    filled = [np.full(k, 7) for k in range(1, 3000)]
    assert case.compiled.program.fast(x) is not None
    assert case.compiled(x).tolist() == [0, 0, 0] and len(filled) == 2999


# -- errors
def test_wrong_inputs_are_named() -> None:
    with Graph().as_default():
        x = placeholder(F8, ("n", 3), name="weights")
        k = placeholder(np.int32, (), name="count")
        run = compile_graph([x, k], ng.sum(x) + ng.cast(k, F8))
    assert run(np.ones((2, 3)), 4) == 10
    for arrays, error, message in [
        ((np.ones((2, 3)),), TypeError, r"got 1 arrays, wanted 2 \(.*test_compiler_programs.py"),
        ((np.ones((2, 3)), 1, 2), TypeError, "got 3 arrays, wanted 2"),
        (
            (np.ones((2, 4)), 1),
            ng.errors.ShapeError,
            r"input weights:0: got shape \(2, 4\), wanted \(n,3\) \(axis 1: 4, 3\)",
        ),
        ((np.ones(3), 1), ng.errors.ShapeError, r"input weights:0: got shape \(3,\), wanted 2 axes \(n,3\)"),
        ((np.ones((2, 3)), [1]), ng.errors.ShapeError, r"input count:0: got shape \(1,\), wanted 0 axes"),
        ((np.ones((2, 3)), 1.5), ng.errors.DtypeError, r"input count:0: got float64, wanted int32"),
        ((np.ones((2, 3), complex), 1), ng.errors.DtypeError, r"input weights:0: got complex128, wanted float64"),
        (([["a", "b", "c"]], 1), ng.errors.DtypeError, r"input weights:0: got <U1, wanted float64"),
        ((None, 1), ng.errors.DtypeError, r"input weights:0: got object, wanted float64"),
    ]:
        with pytest.raises(error, match=message):
            run(*arrays)
    assert run(np.ones((2, 3)), 4) == 10


def test_sizes_that_meet_and_differ_name_the_users_line() -> None:
    with Graph().as_default():
        x, y = placeholder(F8, ("n",)), placeholder(F8, (None,))
        z = x * y  # the line that the error names
        run = compile_graph([x, y], z)
    line = test_sizes_that_meet_and_differ_name_the_users_line.__code__.co_firstlineno + 3
    with pytest.raises(ng.errors.ShapeError, match=rf"test_compiler_programs.py:{line} in"):
        run(np.ones(3), np.ones(4))
    assert run(np.ones(3), np.ones(3)).tolist() == [1, 1, 1]
    with pytest.raises(ng.errors.ShapeError, match="axis 0 has size 4, but n is 3 elsewhere"):
        Case(lambda a, b: a + b, (F8, ("n",)), (F8, ("n",))).compiled(np.ones(3), np.ones(4))


def test_bad_targets_inputs_and_graphs_are_refused() -> None:
    with Graph().as_default():
        x, y = placeholder(F8, ()), placeholder(F8, (), name="left_out")
        with pytest.raises(ng.errors.GraphError, match="left_out is not among the inputs"):
            compile_graph(x, x + y)
        with pytest.raises(ng.errors.GraphError, match="inputs must be placeholders"):
            compile_graph(x + 1.0, x + 2.0)
        with pytest.raises(ValueError, match="unknown target 'fpga'"):
            compile_graph(x, x + 1.0, target="fpga")
        with pytest.raises(ng.errors.DeviceError, match="'cuda' cannot run programs yet"):
            compile_graph(x, x + 1.0, target="cuda")
    with pytest.raises(ng.errors.GraphError, match="tensors of a graph"):
        compile_graph([], 3.0)


def test_a_missing_kernel_names_op_dtype_and_target(monkeypatch: pytest.MonkeyPatch) -> None:
    from numgrad_kernels import library
    from numgrad_kernels.scalar import table

    function = lambda x: ng.sum(ng.tanh(ng.cumsum(x)))  # noqa: E731
    Case(function, (F8, ("n",)))
    library.load_families()
    monkeypatch.delitem(library.LIBRARY, "cumsum")
    monkeypatch.setattr(build, "_built", {})
    monkeypatch.setattr(build, "_load_from_disk", lambda key, symbols: None)
    with pytest.raises(
        ng.errors.KernelError, match=r"cumsum: there is no kernel for float64 on target cpu.*test_compiler_programs"
    ):
        Case(function, (F8, ("n",)))
    monkeypatch.delitem(table(), ("tanh", "f"))  # type: ignore[arg-type]
    with pytest.raises(
        ng.errors.KernelError, match=r"cpu: no scalar formula for op 'tanh' on float64.*test_compiler_programs"
    ):
        Case(lambda x: ng.tanh(x), (F8, ("n",)))


def test_a_singular_matrix_raises_at_the_users_line_and_leaves_the_program_usable() -> None:
    def function(a: Any, b: Any) -> Any:
        scaled = a * 2.0 + ng.sum(b) * 0.0
        return ng.sum(ng.linalg.solve(scaled, b)) + ng.sum(b)

    line = function.__code__.co_firstlineno + 2
    case = Case(function, (F8, ("n", "n")), (F8, ("n",)))
    good, bad = np.array([[2.0, 1.0], [1.0, 3.0]]), np.ones((2, 2))
    for _ in range(3):
        case.check(good, np.ones(2), ulps=16)
        with pytest.raises(np.linalg.LinAlgError, match=rf"singular.*test_compiler_programs.py:{line} in function"):
            case.compiled(bad, np.ones(2))
    with pytest.raises(np.linalg.LinAlgError):
        case.compiled(bad, np.ones(2), out=[np.zeros(())])
    bound_matrix = bad.copy()
    bound = case.compiled.bind(bound_matrix, np.ones(2))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        bound()
    bound_matrix[:] = good
    assert bound()[0] == case.compiled(good, np.ones(2))


def test_a_bad_index_raises_IndexError_with_the_op_that_took_it() -> None:
    case = Case(
        lambda x, i, j: [ng.take(x * 2.0, i, axis=0) + 1.0, ng.sum(ng.take(x, j, axis=0))],
        (F8, ("n",)),
        (np.int64, ("k",)),
        (np.int64, ("k",)),
    )
    x = np.arange(4.0)
    case.check(x, np.array([0, 3, -1]), np.array([1, 1, 1]))
    with pytest.raises(IndexError, match=r"take: an index is out of range.*test_compiler_programs"):
        case.compiled(x, np.array([1, 7]), np.array([0, 0]))
    with pytest.raises(IndexError):
        case.compiled(x, np.array([1, 2]), np.array([0, -5]))
    case.check(x, np.array([0, 3]), np.array([1, 2]))


def test_a_failure_inside_of_a_loop_names_the_op_and_its_line() -> None:
    def function(a: Any, b: Any) -> Any:
        last, sums = ng.scan(lambda c, m: (ng.linalg.solve(m, c), ng.sum(c)), b, a)
        return [last, sums]

    case = Case(function, (F8, ("k", "n", "n")), (F8, ("n",)))
    matrices = np.stack([2.0 * np.eye(2)] * 3)
    case.check(matrices, np.ones(2))
    broken = matrices.copy()
    broken[1] = 1.0
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError, match=r"singular.*test_compiler_programs.py"):
            case.compiled(broken, np.ones(2))
        case.check(matrices, np.ones(2))


def test_a_branch_may_avoid_the_largest_of_nothing() -> None:
    def function(x: Any) -> Any:
        return ng.cond(ng.sum(ng.ones_like(x)) > 0.0, lambda: ng.max(x), lambda: ng.constant(-1.0))

    case = Case(function, (F8, ("n",)))
    assert case.compiled(np.array([1.0, 3.0])) == 3
    assert case.compiled(np.zeros(0)) == -1


# -- what programs show
def test_source_plan_and_profile_tell_what_runs() -> None:
    def function(x: Any, a: Any) -> list[Any]:
        hidden = ng.matmul(x, a)
        return [ng.sum(ng.tanh(hidden)), ng.cumsum(ng.exp(x), axis=0)]

    case = Case(function, (F8, ("n", "k")), (F8, ("k", "m")))
    source = case.compiled.source
    assert source.count("def kernel(args, lo, hi):") == sum("library" not in x.source for x in _distinct(case))
    assert "vm_tanh" in source and "# library kernel matmul(float64" in source and "cumsum" in source
    assert {"steps", "kernels", "build_seconds"} == set(case.compiled.plan())
    case.compiled(np.ones((20, 5)), np.ones((5, 6)))
    small = case.compiled.plan()
    case.compiled(np.ones((200, 5)), np.ones((5, 6)))
    large = case.compiled.plan()
    assert small["steps"] == large["steps"] == len(case.program.launches)
    assert small["kernels"] == case.program.kernel_count <= small["steps"]
    assert large["flops"] > 9 * small["flops"] > 9 * 2 * 20 * 5 * 6
    assert large["bytes_moved"] > 5 * small["bytes_moved"] > 0
    assert large["arena_bytes"] > small["arena_bytes"] >= 20 * 6 * 8
    steps = case.compiled.profile(np.ones((20, 5)), np.ones((5, 6)))
    assert [s["step"] for s in steps] == list(range(len(case.program.launches)))
    assert {"matmul", "cumsum"} <= {s["kernel"] for s in steps}
    assert all(0 < s["seconds"] < 1 and math.isfinite(s["seconds"]) for s in steps)
    assert any("test_compiler_programs.py" in s["where"] and "in function" in s["where"] for s in steps)


def _distinct(case: Case) -> list[Any]:
    return list({launch.symbol: launch for launch in case.program.launches}.values())


def test_profile_counts_the_step_that_fills_in_addresses() -> None:
    case = Case(lambda x: [x[2:] * 2.0, ng.sum(x[1:])], (F8, ("n",)))
    steps = case.compiled.profile(np.arange(6.0))
    assert steps[0]["kernel"] == "addresses" and steps[0]["step"] == -1
    case.check(np.arange(6.0))

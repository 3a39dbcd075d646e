"""Programs with loops and branches called from the user's own Numba code and as C callbacks."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from scipy import integrate

import numgrad as ng
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from tests.compiler_cases import Case

F8 = np.dtype(np.float64)
rng = np.random.default_rng(3)


def arrays(s: Any, a: Any, rows: Any) -> list[Any]:
    """A loop over arrays with rows, stacked results and an invariant; backwards and forwards."""
    last, ys = ng.scan(lambda c, u: (ng.sin(a @ c) + u, {"norm": ng.sum(c * c), "all": c}), s, rows)
    back = ng.fold(lambda c, u: c * 0.5 + u, last, rows, reverse=True)
    return [last, ys["norm"], ys["all"], back]


def gradients(s: Any, a: Any, rows: Any) -> list[Any]:
    total = ng.sum(arrays(s, a, rows)[0])
    return [total, *ng.gradients(total, [s, a, rows])]


def until(s: Any, a: Any, rows: Any) -> list[Any]:
    """A while loop, one with a bound, a nested scan, and branches inside a loop."""
    n, x = ng.while_loop(lambda n, x: ng.sum(x * x) > 1.0, lambda n, x: (n + 1, (a @ x) * 0.1), (0, s))
    few = ng.while_loop(lambda x: ng.sum(x) < 1e9, lambda x: x * 2.0 + ng.sum(rows, axis=0), s, maximum_iterations=3)

    def step(c: Any, u: Any) -> Any:
        inner = ng.fold(lambda d, v: ng.cos(d) + v * u[0], c, rows)
        branches = [lambda: inner, lambda: c * 0.5, lambda: inner + c]
        return ng.switch_case(ng.cast(u[1], np.int64), branches), ng.max(inner)

    return [n, x, few, *ng.scan(step, s, rows)]


def counted(s: Any, a: Any, rows: Any) -> list[Any]:
    """The trips are counted before the reverse loop runs."""
    x = ng.while_loop(lambda x: ng.sum(x * x) > 1.0, lambda x: (a @ x) * 0.1, s)
    total = ng.sum(x)
    return [total, *ng.gradients(total, [s, a])]


def numbers(s: Any, a: Any, rows: Any) -> list[Any]:
    return [ng.fold(lambda c, u: ng.tanh(c) + u, 0.0, rows[:, 0])]


SPECS = ((F8, ("n",)), (F8, ("n", "n")), (F8, ("k", "n")))


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {f.__name__: Case(f, *SPECS) for f in (arrays, gradients, until, counted, numbers)}


@pytest.mark.parametrize("name", ["arrays", "gradients", "until", "counted", "numbers"])
@pytest.mark.parametrize(("n", "k"), [(5, 4), (2, 1), (300, 3), (40, 0)])
def test_njit_gives_what_the_program_gives(cases: dict[str, Case], name: str, n: int, k: int) -> None:
    program = cases[name].compiled
    function = program.njit
    args = rng.normal(size=n), rng.normal(size=(n, n)) / n, np.abs(rng.normal(size=(k, n)))
    for _ in range(2):
        given = function(*args)
        for mine, theirs in zip(given if isinstance(given, tuple) else (given,), program(*args), strict=True):
            assert np.asarray(mine).dtype == theirs.dtype
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-13)


def test_an_objective_with_a_loop_inside_the_users_loop() -> None:
    with Graph().as_default():
        x = ng.placeholder(F8, ("n",))
        y = ng.sum(ng.fold(lambda c, _: c + 0.1 * ng.sin(c @ c) * c, x, np.zeros((20, 1))) ** 2)
        function = compile_graph(x, [y, *ng.gradients(y, x)]).njit

    @numba.njit
    def descend(start: Any, steps: int) -> Any:
        point = start.copy()
        first = 0.0
        for k in range(steps):
            value, slope = function(point)
            if k == 0:
                first = value
            point -= 0.002 * slope
        return first, function(point)[0]

    first, last = descend(np.linspace(-0.4, 0.5, 6), 30)
    assert last < first


def test_failures_inside_exported_loops_are_raised() -> None:
    case = Case(lambda m, b: ng.fold(lambda c, u: ng.linalg.solve(u, c), b, m), (F8, ("k", "n", "n")), (F8, ("n",)))
    function = case.compiled.njit
    good = np.stack([np.eye(3), 2 * np.eye(3)])
    np.testing.assert_allclose(function(good, np.ones(3)), 0.5)
    with pytest.raises(ValueError, match="solve"):
        function(good * np.array([1.0, 0.0]).reshape(2, 1, 1), np.ones(3))


def test_scipy_integrates_a_loop_of_unknown_length() -> None:
    """The square root by Newton's method, called back from C."""
    def root(a: Any) -> Any:
        return ng.while_loop(lambda x: ng.abs(x * x - a) > 1e-13, lambda x: 0.5 * (x + a / x), 1.0 + a)

    value, _ = integrate.quad(Case(root, (F8, ())).compiled.lowlevel(), 0.0, 2.0)
    assert math.isclose(value, 2.0 / 3.0 * 2.0**1.5, rel_tol=1e-8)
    with Graph().as_default():
        a = ng.placeholder(F8, ())
        slope, = ng.gradients(root(a), a)
        derivative = compile_graph(a, [slope]).lowlevel()
    value, _ = integrate.quad(derivative, 0.5, 2.0)
    assert math.isclose(value, math.sqrt(2.0) - math.sqrt(0.5), rel_tol=1e-6)

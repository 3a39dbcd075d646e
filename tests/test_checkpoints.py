"""Checkpoint strategies of loops: the schedule is the best there is, gradients are the same, memory is what was asked
for."""

from __future__ import annotations

import functools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.ops.checkpoints import forward_steps, schedule, snapshots, split

STRATEGIES = ["sqrt", "revolve", 1, 40, 1 << 30]
RNG = np.random.default_rng(11)
P, X, V = np.array([0.7, 0.3, 0.5]), RNG.normal(size=37), np.array([1.0, -2.0, 0.5])


@functools.cache
def fewest(steps: int, kept: int) -> int:
    """The fewest forward steps of any schedule, by dynamic programming."""
    if steps <= 1:
        return 0
    if kept == 1:
        return steps * (steps - 1) // 2
    return min(m + fewest(steps - m, kept - 1) + fewest(m, kept) for m in range(1, steps))


@pytest.mark.parametrize("kept", range(1, 8))
def test_schedule_is_right_and_the_shortest(kept: int) -> None:
    """Every step goes back once, in order, from the state before it; no schedule runs fewer steps forward."""
    for steps in range(50):
        places: dict[int, int] = {}
        present, gone, forward = 0, [], 0
        for what, a, b in schedule(steps, kept):
            if what == "keep":
                assert a < kept and b == present
                places[a] = present
            elif what == "restore":
                present = places[a]
                assert present == b
            elif what == "advance":
                assert a == present < b
                present, forward = b, forward + b - a
            else:
                assert a == present
                gone.append(a)
        assert gone == list(reversed(range(steps)))
        assert forward == fewest(steps, kept) == forward_steps(steps, kept)


@pytest.mark.parametrize("kept", [2, 3, 9, 40])
def test_huge_loops_are_divided(kept: int) -> None:
    """The place of the next state lies inside, for lengths that no list of steps could hold."""
    for steps in (10**6, 10**9, 10**12):
        assert 0 < split(steps, kept) < steps


def test_how_many_states_are_kept() -> None:
    """By strategy: with "sqrt" no step runs more than twice, and "revolve" needs a logarithm of states."""
    for steps in (1, 2, 10, 1_000, 100_000):
        assert snapshots("all", steps, 8) == steps
        assert snapshots("sqrt", steps, 8) <= np.sqrt(2 * steps) + 1
        assert forward_steps(steps, snapshots("sqrt", steps, 8)) <= 2 * steps
        assert snapshots("revolve", steps, 8) <= np.log2(steps) + 1
        assert snapshots(80, steps, 8) == min(10, steps)
    assert snapshots(1, 100, 8) == 1 and snapshots("sqrt", 0, 8) == 1
    assert forward_steps(100_000, snapshots("revolve", 100_000, 8)) < 6 * 100_000


def recurrence(p: Any, x: Any, how: Any) -> Any:
    """A scan with a whole number and a bool among its carries, rows, results of its steps and captured values."""

    def step(carry: Any, u: Any) -> Any:
        a, k, up = carry
        a = ng.sin(a * p[0]) + p[1] * u * a + ng.where(up, 0.1, -0.1) * ng.cast(k, float)
        return (a, k + 1, a > 0.2), a * ng.sum(p)

    (a, _, _), ys = ng.scan(step, (p[2] * 1.0, 0, True), x, checkpoint=how)
    return ng.sum(ys ** 2) + a


def backwards(p: Any, x: Any, how: Any) -> Any:
    """From the last row."""
    _, ys = ng.scan(lambda a, u: (ng.cos(a * u) + p[1], a * p[2]), p[0], x, reverse=True, checkpoint=how)
    return ng.sum(ys * ys)


def counted(p: Any, x: Any, how: Any) -> Any:
    """A loop with a counter."""
    n = x.shape[0]
    return ng.sum(ng.fori_loop(1, n, lambda i, a: ng.sin(a) * p + ng.cast(i, float) * 1e-3, p * x[0], checkpoint=how))


def until(p: Any, x: Any, how: Any) -> Any:
    """A loop whose length is found out."""
    value, _ = ng.while_loop(lambda a, k: (a < 3.0) & (k < 60), lambda a, k: (a * 1.1 + p[0] * a * p[1], k + 1),
                             (p[2] + x[0] * x[0], 0), checkpoint=how)
    return value


def nested(p: Any, x: Any, how: Any) -> Any:
    """A loop in a loop, with a branch."""

    def outer(a: Any, u: Any) -> Any:
        inner = ng.fold(lambda b, w: ng.cond(b > w, lambda: b * p[1], lambda: ng.sin(b) + w * p[0]), a, x[:5] * u,
                        checkpoint=how)
        return inner + p[2] * a

    return ng.fold(outer, p[0], x, checkpoint=how)


PROGRAMS = [recurrence, backwards, counted, until, nested]


@functools.cache
def derivatives(f: Any, how: Any, compiled: bool) -> list[np.ndarray[Any, Any]]:
    """Value, gradients, and both second-order products."""
    with ng.Graph().as_default():
        p, x, v = (ng.placeholder(ng.float64, s) for s in ((3,), ("n",), (3,)))
        y = f(p, x, how)
        g, gx = ng.gradients(y, [p, x])
        (reverse,) = ng.gradients(ng.sum(g * v), p)
        (forward,) = ng.hessian_vector_product(y, [p], [v])
        outputs = [y, g, gx, reverse, forward]
        values = {p: P, x: X, v: V}
        return ng.compile(list(values), outputs)(*values.values()) if compiled else ng.run(outputs, values)


@pytest.mark.parametrize("how", STRATEGIES)
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_strategies_change_no_bit(f: Any, how: Any) -> None:
    """Interpreted and compiled, first and second order."""
    for compiled in (False, True):
        for kept, few in zip(derivatives(f, "all", compiled), derivatives(f, how, compiled), strict=True):
            assert_allclose(few, kept, rtol=1e-14, atol=1e-15)
    for few, wanted in zip(derivatives(f, how, True), derivatives(f, "all", False), strict=True):
        assert_allclose(few, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("how", STRATEGIES)
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_forward_over_reverse_and_reverse_over_forward(f: Any, how: Any) -> None:
    """All mixed second orders agree with the product in reverse mode twice."""
    wanted = derivatives(f, "all", False)[3]
    gradient = ng.grad(lambda p: f(p, X, how))
    assert_allclose(ng.jvp(gradient, (P,), (V,))[1], wanted, rtol=1e-10)
    assert_allclose(ng.grad(lambda p: ng.jvp(lambda q: f(q, X, how), (p,), (V,))[1])(P), wanted, rtol=1e-10)
    assert_allclose(ng.hvp(lambda p: f(p, X, how))(P, V), wanted, rtol=1e-10)


@pytest.mark.parametrize("how", ["sqrt", "revolve", 64])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_few_steps(steps: int, how: Any) -> None:
    """Nothing to do, and hardly anything."""
    f = ng.value_and_grad(lambda p, x: recurrence(p, x, how) + backwards(p, x, how), (0, 1))
    g = ng.value_and_grad(lambda p, x: recurrence(p, x, "all") + backwards(p, x, "all"), (0, 1))
    (value, grads), (value_all, grads_all) = f(P, X[:steps]), g(P, X[:steps])
    assert_array_equal(value, value_all)
    for few, kept in zip(grads, grads_all, strict=True):
        assert_array_equal(few, kept)


@pytest.mark.parametrize("f", [recurrence, backwards, nested], ids=lambda f: f.__name__)
def test_batches(f: Any) -> None:
    """vmap of a gradient, gradient of a vmap."""
    points = P + 0.1 * RNG.normal(size=(4, 3))
    gradient = ng.grad(f)
    for how in ("all", "revolve"):
        rows = ng.vmap(lambda p, how=how: gradient(p, X[:9], how))(points)
        assert_allclose(rows, [gradient(p, X[:9], "all") for p in points], rtol=1e-11)


def test_errors_inside() -> None:
    """A failing factorisation ends the sweep with its error, and the next call is right."""

    def f(a: Any, how: Any) -> Any:
        def step(i: Any, m: Any) -> Any:
            factor = ng.linalg.cholesky(m)
            return factor @ factor.T * 0.5 + ng.eye(2) * factor[1, 0]

        return ng.trace(ng.fori_loop(0, 8, step, a, checkpoint=how))

    gradient = ng.grad(f)
    good = np.array([[2.0, 0.3], [0.3, 1.5]])
    wanted = gradient(good, "all")
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError, match="cholesky"):
            gradient(-good, "sqrt")
        assert_allclose(gradient(good, "sqrt"), wanted, rtol=1e-12)


def tape_bytes(how: Any, steps: int, width: int = 8) -> tuple[int, float]:
    """What the plan of a gradient says: bytes of kept states, and how often a step runs again."""
    function = ng.function(ng.grad(lambda a: ng.sum(ng.fori_loop(0, steps, lambda i, b: ng.sin(b) * 1.01, a,
                                                                 checkpoint=how))))
    function(np.full(width, 0.3))
    plan = function.plan()
    (loop,) = plan["loops"]
    assert plan["tape_bytes"] == loop["tape_bytes"] and loop["steps"] == steps
    assert "test_checkpoints.py" in loop["where"]
    return loop["tape_bytes"], loop["recomputation"]


def test_the_plan_says_what_is_kept() -> None:
    """Tape bytes and recomputation of each strategy: O(T), O(sqrt T), O(log T), and no more than was granted."""
    for steps in (100, 1_000, 10_000):
        kept, again = tape_bytes("all", steps)
        assert kept == 64 * steps and again == 0  # nothing reads the counter again
        state = 64 + 8
        kept, again = tape_bytes("sqrt", steps)
        assert kept <= state * (np.sqrt(2 * steps) + 1) and again <= 2
        kept, again = tape_bytes("revolve", steps)
        assert kept <= state * (np.log2(steps) + 1) and again <= np.log2(steps)
        kept, again = tape_bytes(10 * state + 5, steps)
        assert kept == 10 * state and again == forward_steps(steps, 10) / steps


@pytest.mark.parametrize("how, bound", [("sqrt", 200), ("revolve", 40), (1 << 20, 140)])
def test_memory_is_really_not_taken(how: Any, bound: float) -> None:
    """Peak memory of a compiled gradient through 10,000 steps of 8 KiB each, in states; with "all" it is 10,000."""
    steps, width = 10_000, 1024
    function = ng.function(ng.grad(lambda a, n: ng.sum(ng.while_loop(
        lambda i, b: i < n, lambda i, b: (i + 1, b * 0.999 + 0.001), (0, a), checkpoint=how)[1])))
    function(np.ones(width), np.int64(3))
    tracemalloc.start()
    try:
        gradient = function(np.ones(width), np.int64(steps))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_allclose(gradient, 0.999 ** steps, rtol=1e-9)
    assert peak < bound * width * 8


def test_forward_over_reverse_keeps_the_bound() -> None:
    """A Hessian-vector product of a checkpointed loop is a checkpointed loop."""
    function = ng.function(lambda a, v: ng.jvp(ng.grad(lambda b: ng.sum(ng.fori_loop(
        0, 1_000, lambda i, c: ng.sin(c) * 1.01, b, checkpoint="revolve"))), (a,), (v,))[1])
    function(np.full(8, 0.3), np.ones(8))
    assert function.plan()["tape_bytes"] <= (2 * 64 + 8) * 11


def test_recompute_around_a_body() -> None:
    """`recompute_grad` in a loop body, together with checkpoints."""

    def f(p: Any, how: Any) -> Any:
        body = ng.recompute_grad(lambda a, q: ng.exp(-ng.sin(a * q) ** 2))
        return ng.sum(ng.fori_loop(0, 20, lambda i, a: body(a, p), p, checkpoint=how))

    wanted = ng.grad(lambda p: ng.sum(functools.reduce(lambda a, _: ng.exp(-ng.sin(a * p) ** 2), range(20), p)))(P)
    for how in ("all", "sqrt"):
        assert_allclose(ng.grad(f)(P, how), wanted, rtol=1e-12)


@pytest.mark.parametrize("how, error", [("root", ValueError), (0, ValueError), (-8, ValueError), (2.5, TypeError),
                                        (None, TypeError), (True, TypeError)])
def test_strategies_that_do_not_exist(how: Any, error: type[Exception]) -> None:
    """The message lists what there is, and names the user's line."""
    loops = [lambda: ng.scan(lambda c, x: (c, x), 0.0, X, checkpoint=how),
             lambda: ng.while_loop(lambda a: a < 1.0, lambda a: a + 1.0, (0.0,), checkpoint=how),
             lambda: ng.fori_loop(0, 3, lambda i, a: a, 0.0, checkpoint=how),
             lambda: ng.fold(lambda c, x: c, 0.0, X, checkpoint=how)]
    for loop in loops:
        with pytest.raises(error, match=r'"sqrt", "revolve" or a positive number of bytes \(.*test_checkpoints\.py'):
            loop()

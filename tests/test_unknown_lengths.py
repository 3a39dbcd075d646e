"""Reverse mode through loops of unknown length that stand inside other loops and branches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.run import evaluate


def root(a: Any) -> Any:
    """The square root by Newton's method: more steps the larger `a` is."""
    return ng.while_loop(lambda x: np.abs(x * x - a) > 1e-13 * a, lambda x: 0.5 * (x + a / x), 1.0 + a)


def in_a_scan(x: Any, w: Any) -> Any:
    def step(c: Any, u: Any) -> Any:
        r = root(c * c + u)
        return np.tanh(r * w), r

    last, roots = ng.scan(step, x, np.array([0.5, 30.0, 2.0, 900.0]))
    return last + np.sum(roots)


def in_two_scans(x: Any, w: Any) -> Any:
    def outer(c: Any, u: Any) -> Any:
        return ng.fold(lambda d, v: np.sin(d + root(v * u + d * d)) * w, c, np.array([1.0, 40.0])), ()

    return ng.scan(outer, x, np.array([1.0, 5.0, 90.0]))[0]


def in_a_branch(x: Any, w: Any) -> Any:
    return ng.cond(x > 0.0, lambda: root(x + w) * 2.0, lambda: x * w) + ng.cond(x > 10.0, lambda: root(x), lambda: w)


def in_a_branch_of_a_scan(x: Any, w: Any) -> Any:
    def step(c: Any, u: Any) -> Any:
        return ng.cond(u > 1.0, lambda: root(u + c * c), lambda: c * w), ()

    return ng.scan(step, x, np.array([0.5, 30.0, 2.0]))[0]


def in_another(x: Any, w: Any) -> Any:
    """A while loop in a while loop; the outer one is counted first, too."""
    _, y = ng.while_loop(lambda i, y: y < 8.0, lambda i, y: (i + 1, y + root(y * y * w + i)), (0, x * x))
    return y


def with_a_bound(x: Any, w: Any) -> Any:
    def step(c: Any, u: Any) -> Any:
        return ng.while_loop(lambda y: y < u, lambda y: y * w, c * c + 1.0, maximum_iterations=3), ()

    return ng.scan(step, x, np.array([0.5, 2.0, 4.0, 100.0]))[0]


def of_arrays(x: Any, w: Any) -> Any:
    """The inner loop's state is too large for registers; in one of the steps it does nothing."""
    def step(c: Any, u: Any) -> Any:
        n, y = ng.while_loop(lambda n, y: np.sum(y * y) > u, lambda n, y: (n + 1, y * 0.8 * w + 0.01 * np.sin(x)),
                             (0, c))
        return y + 0.3, n

    last, counts = ng.scan(step, np.linspace(0.1, 1.0, 30) * x, np.array([2.0, 1e9, 0.5]))
    return np.sum(last * last) + 0.0 * np.sum(counts)


PROGRAMS = [in_a_scan, in_two_scans, in_a_branch, in_a_branch_of_a_scan, in_another, with_a_bound, of_arrays]
AT = (0.7, 1.1)


def difference(f: Any, at: float, h: float = 1e-3) -> float:
    """Central differences of 8th order."""
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    return sum(w * (float(f(at + k * h)) - float(f(at - k * h))) for k, w in weights.items()) / h


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_reverse_mode_agrees_with_forward_mode(f: Any, k: int) -> None:
    tangents = tuple(float(j == k) for j in range(2))
    forward = ng.jvp(f, AT, tangents)[1]
    np.testing.assert_allclose(ng.grad(f, k)(*AT), forward, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_second_order_in_both_mixes(f: Any) -> None:
    slope = ng.grad(f)
    h = 1e-6 if f in (with_a_bound, of_arrays, in_another) else 1e-3  # where trips change with the argument
    wanted = difference(lambda t: slope(t, AT[1]), AT[0], h)
    tolerance = 1e-6 if h < 1e-3 else 1e-8
    reverse_reverse = ng.grad(lambda x: ng.grad(f)(x, AT[1]))(AT[0])
    forward_reverse = ng.jvp(lambda x: ng.grad(f)(x, AT[1]), (AT[0],), (1.0,))[1]
    np.testing.assert_allclose(reverse_reverse, wanted, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(forward_reverse, reverse_reverse, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("f", [in_a_scan, in_a_branch, in_another, of_arrays], ids=lambda f: f.__name__)
def test_the_interpreter_agrees(f: Any) -> None:
    with ng.Graph().as_default():
        x, w = ng.placeholder(ng.float64, ()), ng.placeholder(ng.float64, ())
        y = f(x, w)
        first = ng.gradients(y, [x, w])
        second = ng.gradients(first[0], [x])
        compiled = ng.compile([x, w], [y, *first, *second])
    for at in (AT, (-0.4, 0.9)):
        wanted = evaluate([y, *first, *second], {x: np.float64(at[0]), w: np.float64(at[1])})
        np.testing.assert_allclose(compiled(*at), wanted, rtol=1e-11, atol=1e-13)


def test_room_is_found_anew_at_every_call() -> None:
    f = ng.value_and_grad(lambda x, rows: ng.fold(lambda c, u: c + root(u * x), 0.0, rows))
    for rows in ([1.0], [1.0, 1e8, 3.0], [], [2.0, 2.0]):
        value, slope = f(2.0, np.array(rows))
        np.testing.assert_allclose(value, np.sum(np.sqrt(2.0 * np.array(rows))), rtol=1e-12)
        np.testing.assert_allclose(slope, value / 4.0, rtol=1e-6, atol=1e-15)


def test_derivatives_taken_inside_of_bodies() -> None:
    """Where the trips do not depend on the loop around; otherwise the room would depend on what is done with it."""
    x, us = np.float64(0.7), np.array([1.0, 7.0, 300.0])
    found = ng.function(lambda x: ng.map(lambda u: ng.grad(root)(x * u), us))(x)
    np.testing.assert_allclose(found, 0.5 / np.sqrt(us * x), rtol=1e-6)
    chosen = ng.function(lambda x: ng.cond(x > 0.0, lambda: ng.grad(root)(x * 1.0), lambda: x))
    np.testing.assert_allclose(chosen(x), 0.5 / np.sqrt(x), rtol=1e-6)
    with pytest.raises(ng.errors.GradientError, match=r"whose number of trips depends on it.*test_unknown"):
        ng.function(lambda x: ng.fold(lambda c, u: c + ng.grad(root)(c * u), x, us))(1.0)
    with pytest.raises(ng.errors.GradientError, match=r"goes back through another loop.*test_unknown"):
        ng.function(lambda x: ng.while_loop(lambda y: y < 9.0, lambda y: y + ng.grad(root)(y), x))(1.0)


def test_checkpoints_around_it_are_refused() -> None:
    def f(x: Any) -> Any:
        return ng.scan(lambda c, u: (root(c * c + u), ()), x, np.arange(1.0, 5.0), checkpoint="sqrt")[0]

    with pytest.raises(ng.errors.GradientError, match=r"with checkpoint='sqrt'.*use checkpoint='all'"):
        ng.grad(f)(1.0)


def test_counting_calls_are_native_once_their_counts_were_seen() -> None:
    f = ng.value_and_grad(lambda a: np.sum(ng.while_loop(lambda x: np.max(x) < 100.0, lambda x: x * 2.0, a) ** 2))
    f(np.array([3.0, 1.0]))
    program = f.variant.program
    for a, trips in (([3.0, 1.0], 6), ([60.0, 0.0], 1), ([3.5, -1.0], 5), ([200.0, 7.0, 1.0], 0), ([1.0, 3.0], 6)):
        given = np.array(a)
        seen = program.fast(given)
        value, slope = f(given)
        np.testing.assert_allclose(value, np.sum(given**2) * 4.0**trips, rtol=1e-14)
        np.testing.assert_allclose(slope, 2.0 * given * 4.0**trips, rtol=1e-14)
        again = program.fast(given)
        assert again is not None and seen is None or seen[0] == again[0] == value


def test_many_counts_are_forgotten_not_kept() -> None:
    f = ng.value_and_grad(lambda a: ng.while_loop(lambda i, y: i < a, lambda i, y: (i + 1.0, y * 0.5), (0.0, a))[1])
    for n in [*range(150), 3, 149]:
        value, slope = f(np.asarray(float(n)))
        np.testing.assert_allclose([value, slope], [n * 0.5**n, 0.5**n], rtol=1e-14)

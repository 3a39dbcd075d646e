"""Loops over a few numbers as one kernel: values in every dtype, nested, both front ends, and what moves where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.tracing.trace import Interpreted
from numgrad_kernels.settings import settings
from numgrad_kernels.translate import translate

ROWS = np.linspace(-1.0, 2.0, 7)


def pendulum(theta: Any, speed: Any) -> Any:
    def step(state: Any, _: Any) -> Any:
        x, v = state
        v = v - 0.1 * np.sin(x)
        return (x + 0.1 * v, v), (x, v * v)

    last, rows = ng.scan(step, (theta, speed), None, length=20)
    return (*last, *rows)


def swapped(a: Any, b: Any) -> Any:
    return ng.scan(lambda c, u: ((c[1], c[0], c[2] + u), c[0]), (a, b, a), ROWS, reverse=True)


def small_arrays(x: Any, w: Any) -> Any:
    m = w * np.array([[0.1, 0.9], [-0.9, 0.2]])

    def step(c: Any, u: Any) -> Any:
        turned = m @ c[:2]
        both = ng.stack([turned[1], c[0] * u])
        return ng.concat([both, np.sum(c * c, keepdims=True) / 10.0]), {"part": c[1:][::-1], "top": ng.max(c)}

    return ng.scan(step, ng.stack([x, w, x * w]), ROWS)


def matrices(x: Any, w: Any) -> Any:
    f = np.array([[1.0, 0.1], [0.0, 0.9]]) * x

    def step(c: Any, u: Any) -> Any:
        c = f @ c @ f.T + u * np.eye(2)
        return c / np.sum(c), c[0]

    return ng.scan(step, w * np.eye(2), ROWS)


def whole_numbers(n: Any, flag: Any) -> Any:
    def step(state: Any, row: Any) -> Any:
        i, yes, small = state
        i = ng.where(yes, 3 * i + 1, i // 2)
        return (i, (i % 2 == 1) ^ (row > 0.5), small * np.int8(3)), (yes, i)

    return ng.scan(step, (n, flag, np.int8(7)), ROWS)


def rounded(x: Any, w: Any) -> Any:
    return ng.scan(lambda c, u: (c * w + ng.cast(u, x.dtype), c), x, ROWS)


def counted(x: Any, w: Any) -> Any:
    return ng.while_loop(lambda i, y: np.abs(y) < 4.0, lambda i, y: (i + 1, y * x + w), (0, 1.0))


def bounded(x: Any, w: Any) -> Any:
    return ng.while_loop(lambda y: y < x, lambda y: y + w, 0.0, maximum_iterations=4)


def nested(x: Any, w: Any) -> Any:
    """A scan over rows that it captures, and a while loop, inside a scan; the inner rows are stacked."""
    def step(c: Any, u: Any) -> Any:
        inner, rows = ng.scan(lambda d, r: (d * w + r, d + u), c, ROWS)
        _, root = ng.while_loop(lambda k, y: k < 3, lambda k, y: (k + 1, 0.5 * (y + (inner * inner + 1.0) / y)),
                                (0, 1.0))
        back, _ = ng.scan(lambda d, r: (d + r * r, ()), 0.0, rows, reverse=True)
        return np.tanh(root + back), (rows, c)

    return ng.scan(step, x, np.arange(3.0))


def branching(x: Any, w: Any) -> Any:
    def step(c: Any, u: Any) -> Any:
        chosen = ng.switch_case(ng.cast(u, np.int64) + 1,
                                [lambda: c * x, lambda: ng.while_loop(lambda y: y < 2.0, lambda y: y + np.exp(w), c),
                                 lambda: ng.cond(c > w, lambda: np.sin(c), lambda: c - w)])
        return chosen, ng.cond(u > 0.5, lambda: ng.stack([c, w]), lambda: ng.stack([w, c * u]))

    return ng.scan(step, x, ROWS)


def computed_rows(x: Any, w: Any) -> Any:
    """An inner loop over rows that the outer body computes."""
    def step(c: Any, u: Any) -> Any:
        rows = ng.stack([c, u, w, c * u])
        return ng.fold(lambda d, r: d * 0.5 + r, c, rows), rows[1:3]

    return ng.scan(step, x, ROWS)


AT = (np.float64(0.7), np.float64(1.3))
CASES: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (pendulum, AT), (swapped, AT), (counted, AT), (bounded, AT), (nested, AT), (branching, AT), (computed_rows, AT),
    (small_arrays, AT), (matrices, AT),
    (whole_numbers, (np.int64(7), np.bool_(True))),
    (whole_numbers, (np.uint16(11), np.bool_(False))),
    *((rounded, (np.asarray(0.75, d), np.asarray(1.25, d))) for d in "efFD"),
    (counted, (np.float64(np.nan), np.float64(1.0))),
    (pendulum, (np.float64(np.inf), np.float64(-0.0))),
]


def leaves(nest: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(leaf) for leaf in ng.nest.flatten(nest)[0]]


def compiled(f: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, list[np.ndarray[Any, Any]]]:
    function = ng.function(f)
    found = leaves(function(*args))
    return function.variant, found


@pytest.fixture
def front_end() -> Iterator[None]:
    yield
    settings.front_end = "direct"


@pytest.mark.parametrize(("f", "args"), CASES, ids=lambda a: a.__name__ if callable(a) else "")
def test_a_loop_is_one_kernel_in_both_front_ends(f: Any, args: Any, front_end: None) -> None:
    variant, direct = compiled(f, args)
    loops = [x for x in variant.program.launches if "registers" in x.title]
    assert len(loops) == 1
    assert not any(x.bodies for x in variant.program.launches)
    assert translate(loops[0].source, "k") is not None, loops[0].source
    wanted = leaves(Interpreted(variant.inputs, variant.outputs)(*(np.asarray(a) for a in args)))
    for mine, theirs in zip(direct, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        tolerance = 1e-12 if mine.dtype.char not in "efF" else 2e-3 if mine.dtype.char == "e" else 1e-6
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)
    settings.front_end = "numba"
    for mine, theirs in zip(direct, compiled(f, args)[1], strict=True):
        same = (mine == theirs) | ((mine != mine) & (theirs != theirs))
        assert np.all(same & (np.signbit(mine.real) == np.signbit(theirs.real)) | (mine != mine))


@pytest.mark.parametrize("f", [f for f, args in CASES if args is AT and f not in (swapped, counted)])
def test_derivatives_of_first_and_second_order(f: Any) -> None:
    def total(x: Any, w: Any) -> Any:
        return sum(np.sum(leaf) for leaf in ng.nest.flatten(f(x, w))[0])

    for k in range(2):
        def along(t: Any, k: int = k) -> Any:
            return total(*(t if j == k else a for j, a in enumerate(AT)))

        first, at, h = ng.grad(along), float(AT[k]), 1e-4
        plain = ng.function(along)
        by_differences = (plain(at - 2 * h) - 8 * plain(at - h) + 8 * plain(at + h) - plain(at + 2 * h)) / (12 * h)
        np.testing.assert_allclose(first(at), by_differences, rtol=1e-8, atol=1e-8)
        again = ng.function(first)
        by_differences = (again(at - 2 * h) - 8 * again(at - h) + 8 * again(at + h) - again(at + 2 * h)) / (12 * h)
        np.testing.assert_allclose(ng.grad(first)(at), by_differences, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_one_kernel_serves_all_lengths(n: int) -> None:
    f = ng.function(lambda x, rows: ng.scan(lambda c, u: (c * x + u, c), 1.0, rows))
    f(2.0, np.ones(3))
    kernel = f.variant.program.launches[-1].symbol
    last, rows = f(0.5, np.arange(float(n)))
    carry, wanted = 1.0, []
    for u in range(n):
        wanted.append(carry)
        carry = carry * 0.5 + u
    np.testing.assert_allclose(last, carry, rtol=1e-15)
    np.testing.assert_allclose(rows, wanted, rtol=1e-15)
    assert f.trace_count == 1
    assert f.variant.program.launches[-1].symbol == kernel


@pytest.mark.parametrize("backwards", [False, True])
def test_no_trips_hand_the_first_state_through(backwards: bool) -> None:
    for f in (ng.function(lambda x: ng.while_loop(lambda y: y > x, lambda y: y * 2.0, x)),
              ng.function(lambda x: ng.scan(lambda c, u: (c + u, ()), x, np.zeros(0), reverse=backwards)[0])):
        assert float(f(3.0)) == 3.0
        assert float(ng.grad(f)(3.0)) == 1.0


def source_of(f: Any, *args: Any) -> str:
    loop, = (x.source for x in compiled(f, args)[0].program.launches if "registers" in x.title)
    return loop


def test_what_does_not_change_is_computed_once_before_the_loop() -> None:
    source = source_of(lambda x, w: ng.while_loop(lambda c: c < 9.0, lambda c: c * np.exp(w) + np.sin(c) ** 2, x), *AT)
    before, after = source.split("    while ")
    assert "vm_exp" in before
    assert "vm_exp" not in after
    assert "vm_sin" in after


def test_what_only_a_branch_needs_is_computed_there() -> None:
    def step(c: Any, u: Any) -> Any:
        heavy = np.exp(c)
        return ng.cond(u > 0.0, lambda: heavy + c, lambda: c * u), ()

    lines = source_of(lambda x: ng.scan(step, x, ROWS)[0], AT[0]).splitlines()
    exp, = (line for line in lines if "vm_exp" in line)
    branch, = (line for line in lines if line.lstrip().startswith("if "))
    assert len(exp) - len(exp.lstrip()) > len(branch) - len(branch.lstrip())


def test_equal_work_of_condition_and_body_is_done_once() -> None:
    source = source_of(lambda a: ng.while_loop(lambda x: np.abs(x * x - a) > 1e-10, lambda x: x - (x * x - a) / (2 * x),
                                               a), AT[1])
    assert source.count(" - x") == 1


@pytest.mark.parametrize("length", [3, 40])
def test_larger_state_runs_step_by_step(length: int) -> None:
    x = np.linspace(0.0, 1.0, 40)
    function = ng.function(lambda s: ng.scan(lambda c, _: (np.sin(c), np.sum(c)), s, None, length=length))
    last, sums = function(x)
    assert [launch.title for launch in function.variant.program.launches] == ["scan"]
    wanted = []
    for _ in range(length):
        wanted.append(x.sum())
        x = np.sin(x)
    np.testing.assert_allclose(last, x, rtol=1e-12)
    np.testing.assert_allclose(sums, wanted, rtol=1e-12)


def loops_of(function: Any, *args: Any) -> int:
    """How many loops the program of a function runs."""
    function(*args)
    return sum(1 for x in function.variant.program.launches if "registers" in x.title or x.bodies)


@pytest.mark.parametrize("f", [pendulum, counted], ids=lambda f: f.__name__)
def test_values_and_tangents_come_from_one_loop(f: Any) -> None:
    def both(x: Any, w: Any) -> Any:
        return ng.jvp(f, (x, w), (1.0, 0.5))

    assert loops_of(ng.function(both), *AT) == 1
    values, tangents = ng.function(both)(*AT)
    plain = leaves(ng.function(f)(*AT))
    moved = [leaves(ng.function(f)(AT[0] + h, AT[1] + 0.5 * h)) for h in (-1e-6, 1e-6)]
    for k, value in enumerate(leaves(values)):
        np.testing.assert_allclose(value, plain[k], rtol=1e-14)
        if value.dtype.kind == "f":
            np.testing.assert_allclose(leaves(tangents)[k], (moved[1][k] - moved[0][k]) / 2e-6, rtol=1e-6, atol=1e-7)


def test_second_derivatives_share_their_loops() -> None:
    def energy(x: Any, w: Any) -> Any:
        return sum(np.sum(leaf) for leaf in pendulum(x, w))

    product = ng.function(lambda x, v, w: ng.hvp(energy)(x, v, w))
    assert loops_of(product, AT[0], 1.0, AT[1]) == 2  # there with tangents, and back with tangents
    slope = ng.grad(energy)
    by_differences = (slope(AT[0] + 1e-6, AT[1]) - slope(AT[0] - 1e-6, AT[1])) / 2e-6
    np.testing.assert_allclose(product(AT[0], 1.0, AT[1]), by_differences, rtol=1e-7)

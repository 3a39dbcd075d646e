"""Functions that are run again for their gradients, and functions whose gradient passes through or stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from tests.custom_gradient_cases import derivative_by_tape

# -- N10: recompute_grad


def wavy(x: Any) -> Any:
    return ng.sin(x) * x


def test_recomputation_has_the_same_derivatives() -> None:
    """N10: first and second order, both modes (observed upstream: -2.65089 at 2)."""
    again = ng.recompute_grad(wavy)
    assert again.__wrapped__ is wavy
    for f in (wavy, again):
        assert float(ng.grad(ng.grad(f))(2.0)) == pytest.approx(-2.65089, abs=1e-5)
    x = ng.asarray(2.0)
    assert float(derivative_by_tape(again, x)) == float(derivative_by_tape(wavy, x))
    assert float(derivative_by_tape(again, x, 2)) == pytest.approx(-2.65089, abs=1e-5)
    np.testing.assert_array_equal(ng.jvp(again, (2.0,), (1.0,)), ng.jvp(wavy, (2.0,), (1.0,)))
    ng.testing.check_gradients(lambda x: ng.sum(again(x)), (np.array([0.5, 2.0]),), order=2)


def test_each_gradient_runs_the_function_once_more() -> None:
    """N10: calls 1, then 2; nothing of the first run is recorded."""
    calls = []

    def counted(x: Any) -> Any:
        calls.append(x)
        return ng.sin(ng.sin(x))

    x = ng.asarray(1.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.recompute_grad(counted)(x)
    assert len(calls) == 1
    recording = tape._recording
    assert recording is not None and [op.type for op in recording.operations] == ["recompute_grad"]
    tape.gradient(y, x)
    assert len(calls) == 2


def test_compiled_programs_hold_less_memory() -> None:
    """N10: the compiled backward part computes again what it does not keep."""
    matrix = np.eye(64) * 0.5

    def block(x: Any) -> Any:
        return ng.tanh(ng.tanh(ng.tanh(x @ matrix) @ matrix) @ matrix)

    def deep(layer: Callable[..., Any]) -> Any:
        def loss(x: Any) -> Any:
            for _ in range(6):
                x = layer(x)
            return ng.sum(x)

        return ng.grad(loss)

    plain, again = deep(block), deep(ng.recompute_grad(block))
    x = np.random.default_rng(0).normal(size=(64, 64))
    np.testing.assert_allclose(again(x), plain(x), rtol=1e-12)
    assert again.plan()["arena_bytes"] < 0.6 * plain.plan()["arena_bytes"]


def test_recomputation_with_all_kinds_of_arguments() -> None:
    """N10: integers, empty arrays, the same argument twice, variables, unconnected arguments, nests."""
    w = ng.Variable(3.0)

    @ng.recompute_grad
    def f(pair: tuple[Any, Any], n: Any, unused: Any, *, power: int = 2) -> Any:
        return {"y": pair[0] * pair[1] ** power * w, "n": n + 1}

    x, n, unused = ng.asarray([2.0, 1.0]), ng.asarray([1, 2]), ng.asarray(5.0)
    with ng.GradientTape(persistent=True) as tape:
        tape.watch([x, unused])
        y = f((x, x), n, unused)
    gx, gw, gu = tape.gradient(y["y"], [x, w, unused])
    np.testing.assert_array_equal(gx.numpy(), 3 * 3.0 * x.numpy() ** 2)
    assert float(gw) == 9.0 and gu is None
    assert ng.grad(lambda x: ng.sum(ng.recompute_grad(ng.exp)(x)))(np.zeros((0, 2))).shape == (0, 2)
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, (2,))
        gradients = ng.gradients(f((p, p), n, unused)["y"], [p, w])
        np.testing.assert_array_equal(ng.run(gradients[0], {p: [2.0, 1.0]}), [36.0, 9.0])
        assert ng.run(gradients[1], {p: [2.0, 1.0]}) == 9.0


def test_recomputation_in_loops_batches_and_methods() -> None:
    """N10"""
    again = ng.recompute_grad(wavy)
    x = np.array([0.3, 0.7])
    want = np.sin(x) + x * np.cos(x)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.vmap(again)(x)))(x), want, rtol=1e-14)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.map(again, x)))(x), want, rtol=1e-14)


# -- N11, N12


def test_gradients_pass_through() -> None:
    """N11: forward f, backward the identity; variables inside get None."""
    straight = ng.grad_pass_through(ng.round)
    np.testing.assert_array_equal(ng.grad(lambda x: ng.sum(straight(x) * 3.0))(np.array([0.4, 1.7])), [3.0, 3.0])
    np.testing.assert_array_equal(ng.jvp(straight, (np.array([0.4]),), (np.array([5.0]),))[1], [5.0])
    w = ng.Variable(2.0)
    x = ng.asarray(3.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.grad_pass_through(lambda x: x * w)(x)
    gx, gw = tape.gradient(y, [x, w])
    assert float(y) == 6.0 and float(gx) == 1.0 and gw is None


def test_passing_through_needs_outputs_like_the_arguments() -> None:
    """N11"""
    with pytest.raises(ValueError, match="expected to return 2 gradients, but returned 1"):
        ng.grad(ng.grad_pass_through(lambda x, y: x + y))(1.0, 2.0)


def test_stop_gradient_is_none_everywhere() -> None:
    """N12: graph, tape and forward mode."""
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ())
        assert ng.gradients(ng.stop_gradient(p), p) == [None]
    x = ng.asarray(2.0)
    assert derivative_by_tape(ng.stop_gradient, x) is None
    with ng.ForwardAccumulator(x, ng.asarray(1.0)) as accumulator:
        y = ng.stop_gradient(x)
    assert accumulator.jvp(y) is None

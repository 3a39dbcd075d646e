"""Random programs: reverse, forward and second order, compiled and interpreted, against complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numgrad as ng

# A step makes of two square matrices a third with entries of moderate size. All steps are analytic, so that NumPy gives
# their derivatives to rounding by a complex step; choices look at real parts.
STEPS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b * 0.5,
    lambda a, b: a * np.cos(b),
    lambda a, b: np.tanh(a) - np.sin(b),
    lambda a, b: a / (2.0 + np.cos(b)),
    lambda a, b: np.exp(np.sin(a)) * np.tanh(b),
    lambda a, b: np.sqrt(2.0 + np.sin(a)) + np.log(3.0 + np.cos(b)),
    lambda a, b: np.arctan(a) ** 2 - np.expm1(np.tanh(b)),
    lambda a, b: np.tanh(a @ b),
    lambda a, b: np.sin(a.T @ b),
    lambda a, b: np.where(np.real(a) > np.real(b), np.sin(a), b),
    lambda a, b: np.sin(np.sum(a, axis=0)) * b,
    lambda a, b: a - np.tanh(np.sum(b, axis=1, keepdims=True)),
    lambda a, b: a * np.cos(np.sum(b)),
    lambda a, b: np.sin(np.cumsum(a, axis=1)) + b.T,
    lambda a, b: np.tanh(np.cumprod(np.cos(a), axis=0)) * b,
    lambda a, b: np.prod(np.cos(a), axis=0) + np.sin(b),
    lambda a, b: np.concatenate([a[1:], np.sin(b[:1])], axis=0),
    lambda a, b: a[::-1] * np.cos(b[:, ::-1]),
    lambda a, b: np.sin(a[np.array([0, -1])][:1] * b),
    lambda a, b: np.einsum("ij,ik->jk", np.tanh(a), np.sin(b)),
    lambda a, b: np.sin(np.roll(a, 1, axis=1)) - np.reshape(np.ravel(b), b.shape),
    lambda a, b: np.tanh(np.linalg.solve(4.0 * np.diag(np.ones_like(a[0])) + np.tanh(a) / (1.0 + a.shape[0]), b)),
    lambda a, b: np.sin(np.stack([a, b])[1]) * np.tanh(np.broadcast_to(a[0], b.shape)),
]
Program = Sequence[tuple[int, int, int]]
INPUTS = 2


def run(program: Program, *inputs: Any) -> Any:
    """The sum of the last values that a program makes."""
    values = list(inputs)
    for step, i, j in program:
        values.append(STEPS[step](values[-1 - i % len(values)], values[-1 - j % len(values)]))
    return np.sum(values[-1] * 0.5 + np.sin(values[-2]))


steps = st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 4), st.integers(0, 4))
programs = st.lists(steps, min_size=1, max_size=9)
many = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
few = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def samples(n: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(seed).uniform(-1.5, 1.5, size=(INPUTS, n, n)))


def by_complex_step(program: Program, inputs: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    gradients = []
    for k, x in enumerate(inputs):
        gradient = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            moved = [v.astype(complex) for v in inputs]
            moved[k][place] += 1e-40j
            gradient[place] = np.imag(run(program, *moved)) / 1e-40
        gradients.append(gradient)
    return gradients


def assert_close(found: Any, wanted: Any, tolerance: float) -> None:
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


def built(program: Program, n: int | None) -> tuple[list[ng.Tensor], ng.Tensor]:
    xs = [ng.placeholder(ng.float64, (n, n) if n is not None else ("n", "n")) for _ in range(INPUTS)]
    return xs, run(program, *xs)


@many
@given(programs, st.integers(1, 3))
def test_reverse_agrees_with_complex_step(program: Program, n: int) -> None:
    inputs = samples(n)
    with ng.Graph().as_default():
        xs, y = built(program, n)
        gradients = ng.gradients(y, xs, unconnected_gradients="zero")
        value, found = ng.run((y, gradients), dict(zip(xs, inputs, strict=True)))
    assert_close(value, run(program, *inputs), 1e-13)
    for gradient, wanted in zip(found, by_complex_step(program, inputs), strict=True):
        assert_close(gradient, wanted, 1e-12)


@many
@given(programs, st.integers(1, 3))
def test_forward_agrees_with_reverse(program: Program, n: int) -> None:
    inputs, along = samples(n), samples(n, 1)
    with ng.Graph().as_default():
        xs, y = built(program, n)
        gradients = ng.gradients(y, xs, unconnected_gradients="zero")
        _, pushed = ng.jvp(lambda *xs: run(program, *xs), tuple(xs), tuple(along))
        found, pushed = ng.run((gradients, pushed), dict(zip(xs, inputs, strict=True)))
    assert_close(pushed, sum(np.sum(g * v) for g, v in zip(found, along, strict=True)), 1e-12)


@many
@given(programs, st.integers(1, 2))
def test_second_order(program: Program, n: int) -> None:
    """Reverse over reverse, forward over reverse, the batched Hessian; differences of complex steps."""
    inputs, along = samples(n), samples(n, 1)
    with ng.Graph().as_default():
        xs, y = built(program, n)
        over = ng.hessian_vector_product(y, xs, along)
        over = [h if h is not None else ng.zeros_like(x) for h, x in zip(over, xs, strict=True)]
        forward = ng.hvp(lambda *xs: run(program, *xs), argnums=(0, 1))(tuple(xs), tuple(along))
        blocks = ng.hessian(lambda *xs: run(program, *xs), argnums=(0, 1))(*xs)
        found = ng.run((over, forward, blocks), dict(zip(xs, inputs, strict=True)))
    step = 1e-4
    ahead, behind = (by_complex_step(program, [x + s * v for x, v in zip(inputs, along, strict=True)])
                     for s in (step, -step))
    over_value, forward_value, block_values = found
    for k in range(INPUTS):
        product = sum(np.tensordot(block, v, axes=2) for block, v in zip(block_values[k], along, strict=True))
        assert_close(over_value[k], forward_value[k], 1e-11)
        assert_close(over_value[k], product, 1e-11)
        if not any(STEPS[s] is STEPS[9] for s, _, _ in program):  # the choice may change between the two points
            assert_close(over_value[k], (ahead[k] - behind[k]) / (2 * step), 1e-4)


@few
@given(programs)
def test_compiled_agrees_with_interpreted_at_every_size(program: Program) -> None:
    f = ng.value_and_grad(lambda *xs: run(program, *xs), argnums=(0, 1))
    for n in (3, 5, 2, 1):
        inputs = samples(n)
        value, gradients = f(*inputs)
        variant = f.variant
        wanted = ng.run(variant.outputs, dict(zip(variant.inputs, inputs, strict=True)))
        for one, other in zip((value, *gradients), wanted, strict=True):
            assert_close(one, other, 1e-13)
        assert_close(value, run(program, *inputs), 1e-13)
    assert f.trace_count <= 2  # an axis of size 1 may be broadcast


@few
@given(programs)
def test_graphs_of_named_sizes_serve_every_size(program: Program) -> None:
    with ng.Graph().as_default():
        xs, y = built(program, None)
        gradients = ng.gradients(y, xs, unconnected_gradients="zero")
    for n in (1, 4, 2):
        inputs = samples(n)
        found = ng.run(gradients, dict(zip(xs, inputs, strict=True)))
        for gradient, wanted in zip(found, by_complex_step(program, inputs), strict=True):
            assert_close(gradient, wanted, 1e-12)


def test_a_wrong_derivative_is_found() -> None:
    """The comparison above is strong enough: a planted fault of one part in 1e10 fails it."""
    program = [(0, 0, 1), (4, 0, 1), (7, 0, 2)]
    inputs = samples(2)
    wanted = by_complex_step(program, inputs)[0]
    assert_close(ng.grad(lambda *xs: run(program, *xs))(*inputs), wanted, 1e-12)
    with pytest.raises(AssertionError):
        assert_close(ng.grad(lambda *xs: run(program, xs[0] * (1 + 1e-10), xs[1]))(*inputs), wanted, 1e-12)

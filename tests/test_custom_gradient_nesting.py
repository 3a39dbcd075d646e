"""Functions with gradients of their own inside each other, in forward mode, traces, loops, branches and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numgrad as ng
from tests.custom_gradient_cases import derivative_by_tape, log1pexp, sigmoid_derivatives, tenfold

# -- N7: nesting, forward mode, everywhere


def test_an_inner_custom_gradient_overrides_the_second_order() -> None:
    """N7"""

    @ng.custom_gradient
    def outer(x: Any) -> Any:
        @ng.custom_gradient
        def first_derivative(x: Any) -> Any:
            return 3.0 * x**2, lambda g: g * 1000.0

        return x**3, lambda g: g * first_derivative(x)

    x = 2.0
    assert float(ng.grad(outer)(x)) == 12.0
    assert float(ng.grad(ng.grad(outer))(x)) == 1000.0
    assert float(derivative_by_tape(outer, ng.asarray(x), 2)) == 1000.0


def test_forward_mode_transposes_the_gradient_function() -> None:
    """N7, P5"""
    y, dy = ng.jvp(tenfold, (np.array([1.0, 2.0]),), (np.array([1.0, 3.0]),))
    np.testing.assert_allclose(y, [1.0, 2.0])
    np.testing.assert_allclose(dy, [10.0, 30.0])
    primal = ng.asarray(0.3)
    with ng.ForwardAccumulator(primal, ng.asarray(1.0)) as accumulator:
        value = log1pexp(primal)
    np.testing.assert_allclose(accumulator.jvp(value).numpy(), sigmoid_derivatives(0.3)[0])


def test_hvp_and_jacobians_go_through() -> None:
    """N7: forward over reverse, and batched rows."""
    x = np.array([0.3, 0.1])
    want = np.array([sigmoid_derivatives(v)[1] for v in x])

    def total(x: Any) -> Any:
        return ng.sum(log1pexp(x))

    np.testing.assert_allclose(ng.hvp(total)(x, np.ones(2)), want, rtol=1e-12)
    np.testing.assert_allclose(ng.hessian(total)(x), np.diag(want), rtol=1e-12)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(ng.jacobian(tenfold, mode=mode)(np.array([1.0, 2.0])), 10.0 * np.eye(2))


def test_compiled_functions_inline_and_keep_it() -> None:
    """N1, J10: inside a traced function, called from another one."""
    inner = ng.function(lambda x: tenfold(x) * 2.0)
    outer = ng.function(lambda x: ng.sum(inner(x)))
    x = np.array([1.0, 2.0])
    assert float(outer(x)) == pytest.approx(6.0)
    np.testing.assert_array_equal(ng.grad(outer)(x), [20.0, 20.0])


def test_it_works_in_the_bodies_of_loops_and_branches() -> None:
    """N1: a body is copied for its derivative; the gradient function follows."""
    x = 1.5

    def looped(x: Any) -> Any:
        return ng.fori_loop(0, 3, lambda i, c: tenfold(c) * 2.0, x)

    def scanned(x: Any) -> Any:
        carry, rows = ng.scan(lambda c, row: (tenfold(c) * row, c), x, ng.asarray([2.0, 2.0, 2.0]))
        return carry

    def branched(x: Any) -> Any:
        return ng.cond(x > 0.0, lambda: tenfold(x) * 8.0, lambda: x)

    for f, want in ((looped, 8000.0), (scanned, 8000.0), (branched, 80.0)):
        assert float(f(ng.asarray(x))) == pytest.approx(12.0)
        np.testing.assert_allclose(ng.grad(f)(x), want)
    curved = ng.grad(lambda x: ng.fori_loop(0, 1, lambda i, c: log1pexp(c), x))
    np.testing.assert_allclose(ng.grad(curved)(0.3), sigmoid_derivatives(0.3)[1], rtol=1e-12)


def test_vmap_batches_the_gradient_function() -> None:
    """N7: gradients within a batch and of a batch, to the second order."""
    x = np.linspace(-1.0, 1.0, 6).reshape(3, 2)
    derivatives = np.array([[sigmoid_derivatives(v)[:2] for v in row] for row in x])
    inside = ng.vmap(ng.grad(lambda row: ng.sum(log1pexp(row))))
    np.testing.assert_allclose(inside(x), derivatives[..., 0], rtol=1e-12)

    def outside(x: Any) -> Any:
        return ng.sum(ng.vmap(log1pexp)(x))

    np.testing.assert_allclose(ng.grad(outside)(x), derivatives[..., 0], rtol=1e-12)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.grad(outside)(x)))(x), derivatives[..., 1], rtol=1e-12)


def test_operations_of_the_body_are_hidden_from_derivatives() -> None:
    """N9: an operation without a derivative in the body is no error."""

    @ng.custom_gradient
    def rounded(x: Any) -> Any:
        y = ng.prevent_gradient(ng.round(x), "a table")
        return y * 1.0, lambda g: g

    assert float(ng.grad(rounded)(0.7)) == 1.0
    assert float(derivative_by_tape(rounded, ng.asarray(0.7))) == 1.0

"""What reverse mode keeps of each step besides states: products, factors and solutions, dear to make again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numgrad as ng
from numgrad.autodiff import control
from numgrad.autodiff.saving import dear_results
from numgrad.graph.body import Body, trace_body
from numgrad.graph.graph import Graph
from numgrad.types import Spec

la = ng.linalg
F64 = np.dtype(np.float64)


def filtered(a: Any, ys: Any, checkpoint: Any = "all") -> Any:
    """A Kalman filter's likelihood: products, a factor and two solves in every step."""
    unit = ng.eye(2)

    def step(state: Any, y: Any) -> Any:
        mean, cov = state
        mean, cov = a @ mean, a @ cov @ a.T + unit
        factor = la.cholesky(cov + unit)
        half = la.triangular_solve(factor, (y - mean)[:, None], lower=True)
        gain = la.triangular_solve(factor, cov, lower=True)
        loss = ng.sum(half * half) + ng.sum(ng.log(la.diagonal(factor)))
        return (mean + gain.T @ half[:, 0], cov - gain.T @ gain), loss

    first = ng.zeros(2), unit
    _, losses = ng.scan(step, first, ys, checkpoint=checkpoint)
    return ng.sum(losses)


def inputs() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return 0.4 * rng.standard_normal((2, 2)), rng.standard_normal((7, 2))


def factorisations(function: Callable[..., Any], *arrays: Any) -> int:
    """How often matrices are factored in the bodies of a function's loops."""
    compiled = ng.function(function)
    compiled(*arrays)
    return str(compiled.source).count("library kernel cholesky(")


def test_factors_are_made_once_a_step() -> None:
    assert factorisations(filtered, *inputs()) == factorisations(ng.grad(filtered), *inputs()) == 1


def test_without_kept_results_factors_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `test_factors_are_made_once_a_step` counts does change."""
    monkeypatch.setattr(control, "dear_results", lambda body, carries, rows: [])
    assert factorisations(ng.grad(filtered), *inputs()) == 2


def test_derivatives_are_those_without_kept_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """First and second order; checkpoints compute all of a step again."""
    a, ys = inputs()
    v = np.array([[1.0, -2.0], [0.5, 3.0]])
    value, product = ng.grad(filtered)(a, ys), ng.hvp(filtered)(a, v, ys)
    assert_allclose(ng.grad(filtered)(a, ys, "sqrt"), value, rtol=1e-12)
    h = 1e-6
    wanted = (ng.grad(filtered)(a + h * v, ys) - ng.grad(filtered)(a - h * v, ys)) / (2 * h)
    assert_allclose(product, wanted, rtol=1e-6, atol=1e-7)
    monkeypatch.setattr(control, "dear_results", lambda body, carries, rows: [])
    assert_allclose(ng.grad(lambda a, ys: filtered(a, ys))(a, ys), value, rtol=1e-12)
    assert_allclose(ng.hvp(lambda a, ys: filtered(a, ys))(a, v, ys), product, rtol=1e-11)


def chosen(step: Callable[..., Any], *shapes: Any, carries: int = 1, rows: int = 0) -> list[str]:
    """The operations whose results would be kept, for a body of inputs of these shapes."""
    graph = Graph()
    body = Body(*trace_body(graph, [Spec(F64, s) for s in shapes], step))
    return [t.op.type for t in dear_results(body, carries, rows) if t.op is not None]


def test_what_is_dear() -> None:
    product = ["matmul"]
    assert chosen(lambda x, w: [ng.tanh(x @ w)], (4, 5), (5, 5)) == product
    assert chosen(lambda x, w: [ng.tanh(w)], (4, 5), (4, 5)) == []  # elementwise functions are made again
    assert chosen(lambda x, w: [x + w @ w], (5, 5), (5, 5)) == []  # it does not change from step to step
    assert chosen(lambda x, w: [x + w @ w], (5, 5), (5, 5), rows=1) == product
    assert chosen(lambda x: [x + ng.sum(x[:, None] @ x[None, :], axis=0)], (5,)) == []  # an outer product
    assert chosen(lambda x, w: [x + ng.sum((x @ w) ** 2)], (5,), (5, 1000)) == []  # it is large beside the state

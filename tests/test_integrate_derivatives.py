"""Derivatives of `ng.integrate.odeint`, against the same steps taken by SciPy's coefficients in complex arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import RK45

import numgrad as ng
from numgrad.integrate import adaptive
from numgrad.integrate.state import System
from tests.ode_cases import PROBLEMS

odeint = ng.integrate.odeint
rng = np.random.default_rng(11)


def steps_of(f: Any, y0: Any, ts: Any, args: Any, **tolerances: Any) -> np.ndarray[Any, Any]:
    settings = adaptive.Settings(tolerances["rtol"], tolerances["atol"], None, None)

    @ng.function
    def find(y0: Any, ts: Any, args: Any) -> Any:
        return adaptive.find_steps(System(f, y0, args), ts[0], ts[-1], settings, 10_000).lengths

    lengths = find(y0, ts, args)
    return lengths[lengths != 0.0]


def replayed(f: Any, y0: Any, ts: Any, args: Any, lengths: Any) -> np.ndarray[Any, Any]:
    t, y = ts[0], y0
    starts, coefficients = [], []
    for h in lengths:
        slopes = [f(y, t, *args)]
        for row, node in zip(RK45.A[1:], RK45.C[1:], strict=True):
            rise = sum(a * k for a, k in zip(row, slopes, strict=False))
            slopes.append(f(y + h * rise, t + node * h, *args))
        new = y + h * sum(b * k for b, k in zip(RK45.B, slopes, strict=True))
        slopes.append(f(new, t + h, *args))
        starts.append(t)
        coefficients.append((y, h, np.array(slopes).T @ RK45.P))
        t, y = t + h, new
    found = [y0]
    for wanted in ts[1:]:
        k = max(np.searchsorted(np.sign(lengths[0]) * np.real(starts), np.sign(lengths[0]) * wanted.real,
                                side="right") - 1, 0)
        y, h, q = coefficients[k]
        place = (wanted - starts[k]) / h
        found.append(y + h * (q @ place ** np.arange(1, 5)))
    return np.array(found)


def fixed_steps(f: Any, y0: Any, ts: Any, args: Any, steps: int) -> np.ndarray[Any, Any]:
    found, y = [y0], y0
    for start, end in zip(ts[:-1], ts[1:], strict=True):
        h = (end - start) / steps
        for i in range(steps):
            t = start + i * h
            k1 = f(y, t, *args)
            k2 = f(y + h / 2 * k1, t + h / 2, *args)
            k3 = f(y + h / 2 * k2, t + h / 2, *args)
            k4 = f(y + h * k3, t + h, *args)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        found.append(y)
    return np.array(found)


class Case:
    """A weighted sum of a solution as a function of one flat vector: y0, times, parameters."""

    def __init__(self, name: str, method: str) -> None:
        self.f, y0, ts, args = PROBLEMS[name]
        self.args = [np.asarray(a, np.float64) for a in args]
        self.shapes = [y0.shape, ts.shape, *(a.shape for a in self.args)]
        self.x = np.concatenate([y0, ts, *(a.ravel() for a in self.args)])
        self.weights = np.random.default_rng(3).normal(size=(len(ts), len(y0)))
        self.method = method
        self.tolerances = {"rtol": 1e-5, "atol": 1e-6}
        if method == "dopri5":
            self.lengths = steps_of(self.f, y0, ts, tuple(self.args), **self.tolerances)

    def parts(self, x: Any) -> list[Any]:
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])
        return [np.reshape(x[end - int(np.prod(s)):end], s) for end, s in zip(ends.tolist(), self.shapes, strict=True)]

    def value(self, x: Any) -> Any:
        y0, ts, *args = self.parts(x)
        options = self.tolerances if self.method == "dopri5" else {"method": "rk4", "steps": 7}
        return np.sum(odeint(self.f, y0, ts, *args, **options) * self.weights)

    def by_hand(self, x: Any) -> Any:
        y0, ts, *args = self.parts(x)
        if self.method == "dopri5":
            return np.sum(replayed(self.f, y0, ts, args, self.lengths) * self.weights)
        return np.sum(fixed_steps(self.f, y0, ts, args, 7) * self.weights)

    def complex_step(self) -> np.ndarray[Any, Any]:
        return np.array([self.by_hand(self.x + 1e-30j * e).imag / 1e-30 for e in np.eye(len(self.x))])


CASES = [(name, method) for name in ("prey", "driven", "backwards", "linear") for method in ("dopri5", "rk4")]


@pytest.mark.parametrize("name,method", CASES)
def test_gradients_are_those_of_the_steps_taken(name: str, method: str) -> None:
    """By y0, times and parameters, exact to rounding."""
    case = Case(name, method)
    value, gradient = ng.value_and_grad(case.value)(case.x)
    np.testing.assert_allclose(value, case.by_hand(case.x), rtol=1e-11)
    wanted = case.complex_step()
    np.testing.assert_allclose(gradient, wanted, rtol=1e-10, atol=1e-11 * np.abs(wanted).max())
    along = rng.normal(size=case.x.shape)
    np.testing.assert_allclose(ng.jvp(case.value, (case.x,), (along,))[1], wanted @ along, rtol=1e-9)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_second_derivatives_in_every_mode(method: str) -> None:
    """Forward over reverse, reverse over reverse, reverse over forward, against differences of complex steps."""
    case = Case("driven", method)
    along = rng.normal(size=case.x.shape) * 0.1

    def slope(s: float) -> float:
        return float(case.by_hand(case.x + s * along + 1e-30j * along).imag / 1e-30)

    h = 1e-2  # differences of 8th order of the exact first derivative
    curvature = sum(w * (slope(k * h) - slope(-k * h))
                    for k, w in {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}.items()) / h
    gradient = ng.grad(case.value)
    forward_reverse = ng.jvp(gradient, (case.x,), (along,))[1]
    reverse_reverse = ng.grad(lambda x: np.sum(gradient(x) * along))(case.x)
    reverse_forward = ng.grad(lambda x: ng.jvp(case.value, (x,), (along,))[1])(case.x)
    np.testing.assert_allclose(along @ forward_reverse, curvature, rtol=1e-7)
    np.testing.assert_allclose(reverse_reverse, forward_reverse, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(reverse_forward, forward_reverse, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ng.hvp(case.value)(case.x, along), forward_reverse, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("checkpoint", ["sqrt", "revolve", 200])
def test_checkpoints_save_memory_and_change_no_derivative(checkpoint: Any) -> None:
    f, y0, _, args = PROBLEMS["driven"]
    ts = np.linspace(0.0, 2.0, 41)

    def energy(y0: Any, ts: Any, keep: str) -> Any:
        return np.sum(odeint(f, y0, ts, *args, method="rk4", steps=30, checkpoint=keep) ** 2)

    plain, frugal = (ng.grad(lambda y0, ts, keep=keep: energy(y0, ts, keep), (0, 1)) for keep in ("all", checkpoint))
    for one, other in zip(frugal(y0, ts), plain(y0, ts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert frugal.plan()["tape_bytes"] < 0.7 * plain.plan()["tape_bytes"]


def test_maps_that_are_applied_later() -> None:
    """The number of steps is found in the first phase, and the arrays it sizes are handed on to the second."""
    case = Case("driven", "dopri5")
    gradient, along = ng.grad(case.value)(case.x), rng.normal(size=case.x.shape)
    _, pull = ng.vjp(case.value, case.x)
    np.testing.assert_allclose(pull(2.0)[0], 2.0 * gradient, rtol=1e-12)
    _, push = ng.linearize(case.value, case.x)
    np.testing.assert_allclose(push(along), gradient @ along, rtol=1e-10)


def test_hessian_agrees_with_products() -> None:
    case = Case("driven", "dopri5")
    hessian = ng.hessian(case.value)(case.x)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-8, atol=1e-9 * np.abs(hessian).max())
    product = ng.hvp(case.value)
    for e in np.eye(len(case.x))[[0, 2, 5, 7]]:
        np.testing.assert_allclose(hessian @ e, product(case.x, e), rtol=1e-8, atol=1e-9 * np.abs(hessian).max())


@pytest.mark.parametrize("ts", [np.array([0.5, 0.7, 1.3]), np.array([1.3, 0.7, 0.5])])
def test_derivative_by_a_time_is_the_slope_there(ts: Any) -> None:
    jacobian = ng.jacobian(lambda ts: odeint(lambda y, t: -y * t, 2.0, ts, rtol=1e-10, atol=1e-12))(ts)
    exact = 2.0 * np.exp((ts[0] ** 2 - ts**2) / 2)
    np.testing.assert_allclose(np.diag(jacobian)[1:], (-exact * ts)[1:], rtol=1e-6)
    np.testing.assert_allclose(jacobian[1:, 0], (exact * ts[0])[1:], rtol=1e-6)
    np.testing.assert_array_equal(jacobian[0], [0.0, 0.0, 0.0])
    assert jacobian[2, 1] == jacobian[1, 2] == 0.0
    y = odeint(lambda y, t: -y * t, 2.0, ts, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jacobian[-1, -1], -y[-1] * ts[-1], rtol=1e-12)  # f at the end, not only close to it

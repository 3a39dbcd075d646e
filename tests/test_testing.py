"""`check_gradients` passes what is right and finds what is planted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.testing import GradientMismatch, check_gradients
from numgrad.testing.numerical import Point, Reference, differences

ALL_MIXES = {"forward over forward", "forward over reverse", "reverse over forward", "reverse over reverse"}
W = np.linspace(-1.0, 1.0, 6).reshape(3, 2)


def cubed(factor: float, element: int | None = None) -> Callable[[Any], Any]:
    """``x ** 3`` whose first derivative is off by a factor, everywhere or at one element."""

    @ng.custom_gradient
    def f(x: Any) -> Any:
        def pull(cotangent: Any) -> Any:
            weights = np.full(x.shape if element is None else (40,), factor if element is None else 1.0)
            if element is not None:
                weights[element] = factor
            return cotangent * 3.0 * x * x * weights

        return x * x * x, pull

    return f


def twice_wrong(x: Any) -> Any:
    """Right at first order, wrong at second: the slope itself claims to be constant."""

    @ng.custom_gradient
    def f(x: Any) -> Any:
        def pull(cotangent: Any) -> Any:
            return cotangent * 3.0 * ng.stop_gradient(x * x)

        return x * x * x, pull

    return f(x)


# -- what is right
@pytest.mark.parametrize("f,args,method", [
    (lambda x: np.sin(x) * np.exp(x), (np.linspace(-1.0, 1.0, 4),), "complex step"),
    (lambda w, x: np.tanh(x @ w), (W, np.ones((2, 3)) / 3), "complex step"),
    (lambda x: np.sum(np.abs(x) ** 1.5), (np.array([1.0, -2.0, 0.3]),), "differences"),
    (lambda x: ng.sum(ng.softplus(x)), (np.array([-40.0, 0.5, 30.0]),), None),
    (lambda p: {"a": p["x"] * p["y"], "b": (np.log(p["x"]), 3)}, ({"x": np.array([2.0, 5.0]), "y": 0.25},), None),
    (lambda x, n, flag: x**n if flag else x, (np.array([1.5, -2.0]), 3, True), "complex step"),
    (lambda A: np.linalg.inv(A), (np.array([[2.0, 0.3], [0.1, 1.0]]),), None),
    (lambda A: ng.linalg.cholesky(A @ np.swapaxes(A, 0, 1) + 3.0 * np.eye(3)), (np.arange(9.0).reshape(3, 3),), None),
    (lambda x, ids: np.take(x, ids, axis=0) ** 2, (W, np.array([2, 0, 2])), "complex step"),
    (lambda z: np.real(z * np.conj(z)) + np.abs(z), (np.array([1 + 2j, -0.5j]),), "differences"),
    (lambda z: np.exp(z) * z, (np.array([1 + 2j, -0.5j, 0.3]),), "differences"),
    (lambda x: x * 1j + x * x, (np.array([0.5, -2.0]),), None),
    (lambda x: np.sum(x), (np.zeros((0, 3)),), None),
    (lambda x: x * 2.0, (1.5,), "complex step"),
    (ng.grad(lambda x: np.sum(np.sin(x) ** 2)), (np.array([0.5, -2.0]),), None),
])
def test_right_derivatives_pass(f: Any, args: Any, method: str | None) -> None:
    report = check_gradients(f, args)
    assert report.passed and report.worst.passed
    assert report.comparisons[0].what == "value"
    if method is not None:
        assert {c.method for c in report.comparisons if c.what in ("reverse", "forward")} == {method}


def test_every_mode_and_mix_is_compared() -> None:
    f, args = (lambda x: np.sum(x**3)), (np.array([1.0, -2.0]),)
    whats = {c.what for c in check_gradients(f, args).comparisons}
    assert whats == {"value", "reverse", "forward"} | ALL_MIXES
    assert {c.what for c in check_gradients(f, args, order=1).comparisons} == {"value", "reverse", "forward"}
    for mode in ("forward", "reverse"):
        whats = {c.what for c in check_gradients(f, args, modes=(mode,)).comparisons}
        assert whats == {"value", mode, f"{mode} over {mode}"}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", ">f8"])
def test_each_dtype_has_its_tolerance(dtype: str) -> None:
    x = np.array([0.5, -1.25, 2.0]).astype(dtype)
    report = check_gradients(lambda x: x * x * 0.5, (x,))
    rtol = {2: 5e-2, 4: 2e-3, 8: 1e-6}[np.dtype(dtype).itemsize // (2 if np.dtype(dtype).kind == "c" else 1)]
    assert max(c.tolerance for c in report.comparisons) < 100 * rtol


def test_elements_are_named_in_the_report() -> None:
    report = check_gradients(lambda p, z: p["w"] * 2.0 + np.real(z * z), ({"w": W}, 1 + 2j))
    places = {c.where for c in report.comparisons}
    assert {"args[0]['w'][2, 1]", "args[1] (real part)", "args[1] (imaginary part)", "a random direction"} <= places


# -- planted faults
@pytest.mark.parametrize("factor", [0.0, -1.0, 1.0 + 1e-5, np.nan, np.inf])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_wrong_first_derivative_is_found(factor: float, mode: str) -> None:
    x = np.array([1.0, -2.0, 0.5])
    with pytest.raises(AssertionError) as caught:
        check_gradients(cubed(factor), (x,), order=1, modes=(mode,))
    assert isinstance(caught.value, GradientMismatch) and isinstance(caught.value, ng.errors.NumgradError)
    worst = caught.value.report.worst
    assert worst.what == mode and not worst.passed
    if np.isfinite(factor) and worst.where != "a random direction":
        number = int(worst.where.removeprefix("args[0][").removesuffix("]"))
        assert worst.got == pytest.approx(3.0 * x[number] ** 2 * factor)
        assert worst.wanted == pytest.approx(3.0 * x[number] ** 2)
    assert check_gradients(cubed(1.0), (x,), order=2, modes=(mode,)).passed


def test_one_wrong_element_among_many_is_found_and_named() -> None:
    x = np.linspace(0.5, 1.5, 40)
    for mode in ("forward", "reverse"):
        with pytest.raises(GradientMismatch, match=r"args\[0\]\[17\]") as caught:
            check_gradients(cubed(1.001, element=17), (x,), order=1, modes=(mode,))
        blamed = [c for c in caught.value.report.comparisons if c.where == "args[0][17]"]
        assert blamed and not blamed[0].passed
        assert blamed[0].got == pytest.approx(3.003 * x[17] ** 2)
        assert blamed[0].wanted == pytest.approx(3.0 * x[17] ** 2)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_wrong_second_derivative_is_found_though_the_first_is_right(mode: str) -> None:
    x = np.array([1.0, -2.0, 0.5])
    assert check_gradients(twice_wrong, (x,), order=1).passed
    with pytest.raises(GradientMismatch, match=f"{mode} over {mode}"):
        check_gradients(twice_wrong, (x,), order=2, modes=(mode,))


def test_a_wrong_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        return x * 2.0 if isinstance(x, np.ndarray) else x * 2.0 + 1e-3

    with pytest.raises(GradientMismatch, match="value, result 0: got 2.001, wanted 2 by NumPy"):
        check_gradients(f, (np.ones(2),), order=1)
    with pytest.raises(ng.errors.DtypeError, match="traced, f gives 2 floating numbers, but 4 when called with NumPy"):
        check_gradients(lambda x: (x, x) if isinstance(x, np.ndarray) else x, (np.ones(2),))


def test_a_kink_is_told_from_a_wrong_derivative() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.where(x > 0.3, np.sqrt(np.maximum(x - 0.3, 0.0)), 0.0))

    with pytest.raises(GradientMismatch, match="differences do not settle: is the function smooth here"):
        check_gradients(f, (np.array([0.3 + 1e-9, 1.0]),), order=1)
    assert check_gradients(f, (np.array([0.31, 1.0]),), order=1).passed


def test_the_report_lists_failures_with_place_figures_and_the_users_line() -> None:
    with pytest.raises(GradientMismatch) as caught:
        check_gradients(cubed(2.0), (np.array([1.0, -2.0]),), order=1, modes=("reverse",))
    text = str(caught.value)
    assert "test_testing.py" in text
    assert "comparisons (value, reverse), 5 outside of the tolerance" in text
    assert "reverse, args[0][1]: got 24, wanted 12 by complex step, error 1.20e+01" in text


def test_tolerances_can_be_given() -> None:
    x = np.array([1.0, -2.0])
    assert check_gradients(cubed(1.01), (x,), order=1, rtol=0.1).passed
    assert check_gradients(cubed(1.01), (x,), order=1, atol=1.0).passed
    with pytest.raises(GradientMismatch):
        check_gradients(cubed(1.01), (x,), order=1, rtol=0.0, atol=1e-3)


# -- arguments
@pytest.mark.parametrize("arguments,error,message", [
    ({"order": 3}, ValueError, "got order 3, wanted 1 or 2"),
    ({"modes": ("backward",)}, ValueError, "got modes .*wanted forward, reverse or both"),
    ({"modes": ()}, ValueError, "got modes"),
    ({"args": np.ones(2)}, TypeError, "got ndarray, wanted a tuple of arguments"),
    ({"args": (3,)}, TypeError, "there is no floating argument"),
    ({"f": lambda x: np.argmax(x)}, TypeError, "there is no floating result"),
])
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"f": np.sin, "args": (np.ones(2),)} | arguments
    with pytest.raises(error, match=message + ".*test_testing.py"):
        check_gradients(given.pop("f"), given.pop("args"), **given)


# -- the numerical method itself
@pytest.mark.parametrize("f,slope", [
    (np.exp, np.exp), (np.sin, np.cos), (lambda t: 1 / (2 + t), lambda t: -1 / (2 + t) ** 2),
    (lambda t: 3 * t, lambda t: 3.0 + 0 * t)])
def test_extrapolated_differences_know_their_error(f: Any, slope: Any) -> None:
    points = np.linspace(-1.0, 1.0, 7)
    found, error = differences(lambda t: f(points + t), 2.0**-4)
    true = np.abs(found - slope(points))
    assert np.all(true < 1e-11) and np.all(true <= 10 * error + 1e-12)
    _, rough = differences(lambda t: np.cbrt(np.full(3, t)), 0.5)
    assert np.all(rough > 1.0)


def test_a_complex_step_is_used_only_for_functions_that_are_analytic() -> None:
    direction = np.array([0.5, -0.25])
    for f, analytic in [(np.exp, True), (np.abs, False), (lambda x: x.real, False), (np.conj, False),
                        (lambda x: np.where(x > 0, x * x, -x), True), (lambda x: x.astype(np.float64), False),
                        (lambda x: np.arctan2(x, 1.0), False), (lambda x: ng.softplus(x), None)]:
        reference = Reference(f, Point((np.array([0.7, -1.3]),)), 2.0**-4)
        reference.settle(direction)
        if analytic is not None:
            assert reference.analytic is analytic
        slope, noise, _ = reference.first(direction, np.ones(2))
        assert np.isfinite(slope) and noise < 1e-8

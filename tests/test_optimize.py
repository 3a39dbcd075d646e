"""SciPy's solvers with exact derivatives: every method, structures, constraints, what is built and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import numgrad as ng
from numgrad.optimize.constraints import exact_constraints
from numgrad.optimize.layout import Layout

METHODS = ["Nelder-Mead", "Powell", "CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "COBYLA", "SLSQP", "trust-constr",
           "dogleg", "trust-ncg", "trust-exact", "trust-krylov", None]
if hasattr(optimize._minimize, "_minimize_cobyqa"):  # from SciPy 1.14 on
    METHODS.append("COBYQA")
WITHOUT_GRADIENTS = {"Nelder-Mead", "Powell", "COBYLA", "COBYQA"}
A = np.array([[3.0, 1.0, 0.2], [1.0, 2.0, -0.3], [0.2, -0.3, 1.5]])
B = np.array([1.0, -2.0, 0.5])


def quadratic(x: Any, A: Any, b: Any) -> Any:
    """A convex function, not quite quadratic; its Hessian is A + diag(cosh(x))."""
    return 0.5 * (x @ A @ x) - b @ x + np.sum(np.cosh(x))


def rosenbrock(x: Any) -> Any:
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def exact_minimum() -> np.ndarray[Any, Any]:
    x = np.zeros(3)
    for _ in range(50):
        x = x - np.linalg.solve(A + np.diag(np.cosh(x)), A @ x - B + np.sinh(x))
    return x


@dataclass
class Line:
    slope: Any
    offset: Any


# -- layout
@pytest.mark.parametrize("nest", [
    np.arange(3.0), np.arange(6.0).reshape(2, 3), np.array(2.5), 3.0, [1.0, 2.0], [[1, 2], [3, 4]],
    {"b": np.ones((2, 2)), "a": (np.zeros(0), np.array(1.0))}, (np.float32(2.0), np.arange(3, dtype=np.int64)),
    Line(np.ones(2), 0.5), [np.ones(2), {"x": np.array([[5.0]])}], np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(4, dtype=">f8")[::2], np.zeros((0, 3)),
], ids=lambda nest: type(nest).__name__)
def test_a_nest_is_flattened_and_comes_back(nest: Any) -> None:
    layout = Layout(nest)
    vector = layout.start
    assert vector.dtype == np.float64 and vector.shape == (layout.size,)
    back = layout.unflatten(vector)
    np.testing.assert_array_equal(layout.flatten(back), vector)
    assert type(back) is (type(nest) if isinstance(nest, (dict, tuple, Line)) or nest.__class__ is list
                          and any(isinstance(v, (np.ndarray, dict)) for v in nest) else np.ndarray)


def test_unflatten_gives_shapes_dtypes_and_copies() -> None:
    layout = Layout({"w": np.ones((2, 2), np.float32), "n": 3})
    vector = np.arange(5.0)
    back = layout.unflatten(vector)
    assert back["w"].dtype == np.float32 and back["w"].shape == (2, 2) and back["n"].dtype == np.float64
    back["w"][...] = 9.0
    np.testing.assert_array_equal(vector, np.arange(5.0))
    with pytest.raises(ng.errors.ShapeError, match=r"got shape \(4,\), wanted \(5,\) .*test_optimize.py"):
        layout.unflatten(np.zeros(4))
    with pytest.raises(ng.errors.ShapeError, match=r"x0\['w'\] has shape \(3,\), wanted \(2, 2\)"):
        layout.flatten({"w": np.ones(3), "n": 1.0})
    with pytest.raises(ValueError, match="got dict of 1, wanted dict of 2"):
        layout.flatten({"w": np.ones((2, 2))})


def test_complex_parameters_are_refused() -> None:
    with pytest.raises(ng.errors.DtypeError, match=r"x0\['z'\]: got complex128, wanted real numbers.*test_optimize.py"):
        ng.optimize.problem(lambda p: 1.0, {"z": np.ones(2, complex)})


# -- problem
def test_problem_gives_exact_derivatives_in_scipys_convention() -> None:
    p = ng.optimize.problem(quadratic, np.zeros(3), A, B)
    x = np.array([0.3, -0.4, 1.1])
    np.testing.assert_allclose(p.fun(x), 0.5 * x @ A @ x - B @ x + np.cosh(x).sum(), rtol=1e-14)
    np.testing.assert_allclose(p.jac(x), A @ x - B + np.sinh(x), rtol=1e-13)
    np.testing.assert_allclose(p.hess(x), A + np.diag(np.cosh(x)), rtol=1e-13)
    np.testing.assert_allclose(p.hessp(x, B), (A + np.diag(np.cosh(x))) @ B, rtol=1e-13)
    assert p.value(x) == pytest.approx(p.fun(x), rel=1e-14)
    assert isinstance(p.fun(x), float) and p.jac(x).dtype == np.float64
    assert optimize.check_grad(p.fun, p.jac, x) < 1e-6


def counted(p: ng.optimize.Problem) -> list[np.ndarray[Any, Any]]:
    """The points at which the shared sweep runs from now on."""
    calls: list[np.ndarray[Any, Any]] = []
    sweep = p._value_and_grad

    def counting(x: Any, *args: Any) -> Any:
        calls.append(np.array(x))
        return sweep(x, *args)

    p._value_and_grad = counting
    return calls


def test_value_and_gradient_share_one_sweep() -> None:
    p = ng.optimize.problem(rosenbrock, np.zeros(4))
    calls = counted(p)
    x = np.linspace(-1.0, 1.0, 4)
    value, gradient = p.fun(x), p.jac(x)
    assert p.fun_and_jac(x)[0] == value and len(calls) == 1
    gradient[:] = np.nan  # what a caller does to its copy is not remembered
    assert np.isfinite(p.jac(x)).all() and len(calls) == 1
    x[0] = 0.5  # the same array with other contents is another point
    assert p.fun(x) != value and len(calls) == 2


def test_the_remembered_point_is_compared_by_its_bits() -> None:
    p = ng.optimize.problem(lambda x: np.sum(np.copysign(np.ones(1), x) * (1.0 + x)), np.zeros(1))
    assert p.fun(np.array([0.0])) == 1.0 and p.fun(np.array([-0.0])) == -1.0
    calls = counted(p)
    for _ in range(2):
        assert np.isnan(p.fun(np.array([np.nan])))
    assert len(calls) == 1


def test_other_data_traces_nothing() -> None:
    p = ng.optimize.problem(quadratic, np.zeros(3), A, B)
    p.fun(p.x0)
    q = p.with_args(2 * A, B)
    assert q.fun(np.ones(3)) != p.fun(np.ones(3))
    assert p._value_and_grad.trace_count == 1
    larger = ng.optimize.problem(lambda x, t: np.sum((x[0] * t - x[1]) ** 2), np.ones(2), np.ones(5))
    larger.fun(larger.x0)
    assert larger.with_args(np.ones(50)).fun(np.array([2.0, 1.0])) == 50.0
    assert larger._value_and_grad.trace_count == 1


def test_a_vector_of_the_wrong_size_is_refused() -> None:
    p = ng.optimize.problem(rosenbrock, np.zeros(4))
    with pytest.raises(ng.errors.ShapeError, match=r"got x of shape \(5,\), wanted \(4,\) .*test_optimize.py"):
        p.fun(np.zeros(5))


def test_results_that_are_no_real_scalar_are_refused_with_the_users_line() -> None:
    def vector(x: Any) -> Any:
        return x * 2.0

    with pytest.raises(ValueError, match=r"vector: returned shape .*wanted a scalar.*ng.sum.*least_squares.*in vector"):
        ng.optimize.minimize(vector, np.zeros(3))
    with pytest.raises(TypeError, match=r"returned complex128, wanted a real number"):
        ng.optimize.minimize(lambda x: np.sum(x + 1j), np.zeros(3))


# -- minimize
@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_scipy_finds_the_minimum(method: str | None) -> None:
    result = ng.optimize.minimize(quadratic, np.zeros(3), args=(A, B), method=method)
    loose = method in WITHOUT_GRADIENTS
    np.testing.assert_allclose(result.x, exact_minimum(), atol=2e-3 if loose else 1e-4)
    assert isinstance(result, optimize.OptimizeResult)
    if not loose and method not in ("trust-constr",):
        assert result.success


def test_every_method_that_scipy_has_is_known() -> None:
    from numgrad.optimize.solvers import _METHODS

    assert set(optimize._minimize.MINIMIZE_METHODS) - {"_custom"} <= set(_METHODS)


@pytest.mark.parametrize("method", sorted(WITHOUT_GRADIENTS & {m for m in METHODS if m}))
def test_no_derivative_is_built_for_a_method_that_uses_none(method: str) -> None:
    @ng.custom_gradient
    def f(x: Any) -> Any:
        def refuse(cotangent: Any) -> Any:
            raise AssertionError("a derivative was built")

        return ng.sum(ng.square(x - 1.5)), refuse

    with pytest.raises(AssertionError, match="a derivative was built"):
        ng.optimize.minimize(f, np.zeros(2), method="BFGS")
    result = ng.optimize.minimize(f, np.zeros(2), method=method)
    np.testing.assert_allclose(result.x, [1.5, 1.5], atol=1e-3)


def test_an_unknown_method_is_named() -> None:
    message = r"unknown method 'newton'; wanted a callable or one of .*trust-ncg.*test_optimize.py"
    with pytest.raises(ValueError, match=message):
        ng.optimize.minimize(rosenbrock, np.zeros(2), method="newton")


def test_a_method_of_the_users_own_gets_all_derivatives() -> None:
    def newton(fun: Any, x0: Any, args: Any, jac: Any, hess: Any, hessp: Any, **rest: Any) -> Any:
        x = x0
        for _ in range(20):
            np.testing.assert_allclose(hess(x) @ np.ones(3), hessp(x, np.ones(3)), rtol=1e-12)
            x = x - np.linalg.solve(hess(x), jac(x))
        return optimize.OptimizeResult(x=x, fun=fun(x), success=True)

    result = ng.optimize.minimize(quadratic, np.zeros(3), args=(A, B), method=newton)
    np.testing.assert_allclose(result.x, exact_minimum(), rtol=1e-12)


def test_newton_methods_take_fewer_steps_than_differences() -> None:
    exact = ng.optimize.minimize(rosenbrock, np.full(6, -1.0), method="trust-exact")
    blind = optimize.minimize(rosenbrock, np.full(6, -1.0), method="BFGS")
    np.testing.assert_allclose(exact.x, np.ones(6), atol=1e-4)
    assert exact.nfev < blind.nfev / 4, (exact.nfev, blind.nfev)


def misfit(p: Any, t: Any, observed: Any) -> Any:
    return np.sum((p["scale"] * np.exp(-p["rates"][0] * t) + p["rates"][1] - observed) ** 2)


def test_structures_come_back_and_reach_the_callback() -> None:
    t = np.linspace(0.0, 4.0, 50)
    data = (t, 3.0 * np.exp(-0.7 * t) + 0.2)
    start = {"scale": 1.0, "rates": np.array([0.1, 0.0])}
    seen: list[Any] = []
    results: list[Any] = []
    fit = ng.optimize.minimize(misfit, start, args=data, method="BFGS", callback=lambda x: seen.append(x))
    np.testing.assert_allclose(fit.x["scale"], 3.0, rtol=1e-5)
    np.testing.assert_allclose(fit.x["rates"], [0.7, 0.2], rtol=1e-4)
    np.testing.assert_array_equal(fit.x_flat, [fit.x["scale"], *fit.x["rates"]])
    assert fit.jac.shape == (3,)
    assert len(seen) == fit.nit and set(seen[0]) == {"scale", "rates"}

    def with_result(intermediate_result: Any) -> None:
        results.append(intermediate_result)
        if len(results) == 3:
            raise StopIteration

    ng.optimize.minimize(misfit, start, args=data, method="BFGS", callback=with_result)
    assert len(results) == 3 and results[0].x["rates"].shape == (2,) and results[0].x_flat.shape == (3,)


def test_a_dataclass_of_parameters() -> None:
    def f(line: Line, t: Any, y: Any) -> Any:
        return np.sum((line.slope * t + line.offset - y) ** 2)

    t = np.linspace(0.0, 1.0, 20)
    fit = ng.optimize.minimize(f, Line(0.0, 0.0), args=(t, 2.0 * t - 1.0), method="trust-ncg")
    assert isinstance(fit.x, Line)
    np.testing.assert_allclose([fit.x.slope, fit.x.offset], [2.0, -1.0], atol=1e-6)


def test_float32_leaves_reach_the_function_as_float32() -> None:
    seen: list[Any] = []

    def f(p: Any) -> Any:
        seen.append(p.dtype)
        return ng.sum(ng.square(p - 1.0))

    fit = ng.optimize.minimize(f, np.zeros(3, np.float32), method="BFGS")
    assert set(seen) == {np.dtype(np.float32)} and fit.x.dtype == np.float32
    np.testing.assert_allclose(fit.x, 1.0, rtol=1e-3)


def test_an_empty_and_a_scalar_start() -> None:
    fit = ng.optimize.minimize(lambda x: (x - 2.0) ** 2, 0.0, method="trust-exact")
    assert fit.x.shape == () and fit.x == pytest.approx(2.0)
    p = ng.optimize.problem(lambda x: np.sum(x), np.zeros(0))
    assert p.fun(p.x0) == 0.0 and p.jac(p.x0).shape == (0,)


# -- bounds and constraints
def test_bounds_are_kept() -> None:
    wanted = optimize.minimize(rosenbrock, np.zeros(3), method="L-BFGS-B", bounds=[(None, 0.4)] * 3, tol=1e-10)
    assert (wanted.x == 0.4).any()
    for method in ("L-BFGS-B", "TNC", "SLSQP", "trust-constr"):
        fit = ng.optimize.minimize(rosenbrock, np.zeros(3), method=method, bounds=[(None, 0.4)] * 3)
        assert np.all(fit.x <= 0.4 + 1e-12)
        np.testing.assert_allclose(fit.x, wanted.x, atol=1e-3)


CIRCLE_ANSWER = -np.array([1.0, 2.0]) / np.sqrt(5.0)


def plane(p: Any) -> Any:
    return p["x"] + 2.0 * p["y"]


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")
@pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
@pytest.mark.parametrize("kind", ["dict", "nonlinear"])
def test_constraints_of_a_structure(method: str, kind: str) -> None:
    def radius(p: Any) -> Any:
        return p["x"] ** 2 + p["y"] ** 2

    constraint: Any = optimize.NonlinearConstraint(radius, 1.0, 1.0)
    if kind == "dict":
        constraint = {"type": "eq", "fun": lambda p, r: radius(p) - r, "args": (1.0,)}
    fit = ng.optimize.minimize(plane, {"x": 0.5, "y": 0.5}, method=method, constraints=constraint)
    np.testing.assert_allclose([fit.x["x"], fit.x["y"]], CIRCLE_ANSWER, atol=1e-5)


def test_constraints_get_exact_jacobians_and_hessians() -> None:
    def g(x: Any) -> Any:
        return np.stack([x[0] * x[1], np.sin(x[0]) + x[2] ** 3])

    made = exact_constraints(optimize.NonlinearConstraint(g, 0.0, 1.0, keep_feasible=True), Layout(np.zeros(3)), True)
    x, v = np.array([0.5, -1.0, 2.0]), np.array([2.0, -3.0])
    np.testing.assert_allclose(made.fun(x), [-0.5, np.sin(0.5) + 8.0])
    np.testing.assert_allclose(made.jac(x), [[-1.0, 0.5, 0.0], [np.cos(0.5), 0.0, 12.0]], rtol=1e-14)
    wanted = 2.0 * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) - 3.0 * np.diag([-np.sin(0.5), 0.0, 12.0])
    np.testing.assert_allclose(made.hess(x, v) @ np.eye(3), wanted, rtol=1e-13)
    assert made.keep_feasible and made.ub == 1.0


def test_a_constraint_with_its_own_jacobian_is_not_traced() -> None:
    kinds: set[type] = set()

    def fun(p: Any) -> Any:
        kinds.add(type(p["x"]))
        return float(p["x"]) ** 2 + float(p["y"]) ** 2 - 1.0

    constraint = {"type": "eq", "fun": fun, "jac": lambda p: np.array([2.0 * float(p["x"]), 2.0 * float(p["y"])])}
    fit = ng.optimize.minimize(plane, {"x": 0.5, "y": 0.5}, method="SLSQP", constraints=[constraint])
    np.testing.assert_allclose([fit.x["x"], fit.x["y"]], CIRCLE_ANSWER, atol=1e-4)
    assert kinds == {np.ndarray}
    linear = optimize.LinearConstraint(np.array([[1.0, 1.0]]), 1.0, 1.0)
    fit = ng.optimize.minimize(lambda x: np.sum(x * x), np.zeros(2), method="trust-constr", constraints=[linear])
    np.testing.assert_allclose(fit.x, [0.5, 0.5], atol=1e-6)


# -- least_squares and root
@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares_uses_the_exact_jacobian(method: str) -> None:
    t = np.linspace(0.0, 4.0, 30)
    y = 3.0 * np.exp(-0.7 * t) + 0.2

    def residuals(p: Any, t: Any, y: Any) -> Any:
        return p["scale"] * np.exp(-p["rates"][0] * t) + p["rates"][1] - y

    start = {"scale": 1.0, "rates": np.array([0.1, 0.0])}
    fit = ng.optimize.least_squares(residuals, start, args=(t, y), method=method)
    np.testing.assert_allclose(fit.x_flat, [3.0, 0.7, 0.2], rtol=1e-6)
    wanted = np.stack([np.exp(-0.7 * t), -3.0 * t * np.exp(-0.7 * t), np.ones(30)], axis=1)
    np.testing.assert_allclose(fit.jac, wanted, atol=1e-5)
    with pytest.raises(TypeError, match="jac is derived from f"):
        ng.optimize.least_squares(residuals, start, args=(t, y), jac="3-point")


@pytest.mark.parametrize("method", ["hybr", "lm", "broyden1", "krylov"])
def test_root(method: str) -> None:
    def f(p: Any) -> Any:
        x, y = p
        return np.stack([np.cos(x) - y, x * y - 0.3])

    found = ng.optimize.root(f, (np.array(0.5), np.array(0.5)), method=method)
    assert found.success and isinstance(found.x, tuple)
    x, y = found.x
    np.testing.assert_allclose([np.cos(x) - y, x * y], [0.0, 0.3], atol=1e-5)

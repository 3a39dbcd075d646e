"""`ng.integrate.odeint`: solutions against SciPy, orders of convergence, nests, transforms, edges and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import numgrad as ng
from tests.ode_cases import MATRIX, PROBLEMS, linear

odeint = ng.integrate.odeint


def reference(name: str) -> np.ndarray[Any, Any]:
    f, y0, ts, args = PROBLEMS[name]
    found = solve_ivp(lambda t, y: f(y, t, *args), (ts[0], ts[-1]), y0, method="DOP853", rtol=1e-13, atol=1e-13,
                      dense_output=True)
    return found.sol(ts).T


@pytest.mark.parametrize("name", PROBLEMS)
def test_solutions_keep_their_tolerance(name: str) -> None:
    """They are no worse than SciPy's by the same method; one trace serves all tolerances."""
    f, y0, ts, args = PROBLEMS[name]
    wanted = reference(name)
    for rtol in (1e-4, 1e-7, 1e-10):
        error = np.abs(odeint(f, y0, ts, *args, rtol=rtol, atol=rtol) - wanted).max()
        like = solve_ivp(lambda t, y: f(y, t, *args), (ts[0], ts[-1]), y0, method="RK45", rtol=rtol, atol=rtol,
                         dense_output=True).sol(ts).T
        assert error <= 4.0 * np.abs(like - wanted).max() + 1e-11


def test_a_linear_system_is_the_exponential_of_its_matrix() -> None:
    ys = odeint(linear, np.eye(3), np.array([0.0, 1.0, 2.5]), MATRIX, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ys, [np.eye(3), expm(MATRIX), expm(2.5 * MATRIX)], rtol=1e-10, atol=1e-10)
    slope = ng.jacobian(lambda y: odeint(linear, y, np.array([0.0, 2.5]), MATRIX, rtol=1e-12, atol=1e-12)[-1])
    np.testing.assert_allclose(slope(np.ones(3)), expm(2.5 * MATRIX), rtol=1e-10, atol=1e-10)


def test_work_is_like_scipys() -> None:
    f, y0, ts, args = PROBLEMS["van der Pol"]
    like = solve_ivp(lambda t, y: f(y, t, *args), (ts[0], ts[-1]), y0, method="RK45", rtol=1e-6, atol=1e-6)
    _, info = odeint(f, y0, ts, *args, rtol=1e-6, atol=1e-6, info=True)
    assert info.success and info.rejected > 0 and info.reached == ts[-1]
    assert info.evaluations == 2 + 6 * (info.accepted + info.rejected)
    assert abs(int(info.evaluations) - like.nfev) < 0.25 * like.nfev


def test_steps_do_not_depend_on_times_in_the_middle() -> None:
    f, y0, ts, args = PROBLEMS["prey"]
    coarse, few = odeint(f, y0, ts[[0, -1]], *args, info=True)
    fine, many = odeint(f, y0, np.linspace(ts[0], ts[-1], 500), *args, info=True)
    assert [int(v) for v in few[:3]] == [int(v) for v in many[:3]]
    np.testing.assert_allclose(fine[-1], coarse[-1], rtol=1e-13)


def slope_of_errors(errors: list[float], factor: float) -> float:
    return float(np.polyfit(np.arange(len(errors)), np.log(errors), 1)[0] / np.log(1.0 / factor))


def test_convergence_orders() -> None:
    f, y0, _, args = PROBLEMS["driven"]
    ts = np.array([0.0, 1.0, 4.0])
    wanted = solve_ivp(lambda t, y: f(y, t, *args), (0.0, 4.0), y0, method="DOP853", rtol=1e-13, atol=1e-14,
                       t_eval=ts).y.T
    fixed = [np.abs(odeint(f, y0, ts, *args, method="rk4", steps=n) - wanted).max() for n in (8, 16, 32, 64)]
    assert 3.8 < slope_of_errors(fixed, 2.0) < 4.3
    loose = {"rtol": 1e6, "atol": 1e6}  # so that every step is as long as it may be
    lengths = [1 / 8, 1 / 16, 1 / 32, 1 / 64]
    steady = [np.abs(odeint(f, y0, ts, *args, **loose, first_step=h, max_step=h) - wanted)[-1].max() for h in lengths]
    assert 4.8 < slope_of_errors(steady, 2.0) < 5.4
    between = np.linspace(0.0, 4.0, 201)
    wanted = solve_ivp(lambda t, y: f(y, t, *args), (0.0, 4.0), y0, method="DOP853", rtol=1e-13, atol=1e-14,
                       t_eval=between).y.T
    inside = [np.abs(odeint(f, y0, between, *args, **loose, first_step=h, max_step=h) - wanted).max() for h in lengths]
    assert 4.6 < slope_of_errors(inside, 2.0) < 5.6  # an interpolant of order 4 has an error of order 5


# -- nests, dtypes, transforms


def test_nests_of_arrays_of_several_shapes() -> None:
    def pendulum(y: Any, t: Any, p: Any) -> Any:
        return {"place": {"angle": y["speed"][0]}, "speed": [-p["g"] * np.sin(y["place"]["angle"])],
                "area": ng.outer(y["speed"][0], y["speed"][0])}

    y0 = {"place": {"angle": np.array([0.3, 0.1])}, "speed": [np.zeros(2)], "area": np.zeros((2, 2))}
    ts = np.linspace(0.0, 2.0, 5)
    for options in ({"rtol": 1e-9, "atol": 1e-9}, {"method": "rk4", "steps": 200}):
        found = odeint(pendulum, y0, ts, {"g": 9.81}, **options)
        flat = solve_ivp(lambda t, y: [y[2], y[3], -9.81 * np.sin(y[0]), -9.81 * np.sin(y[1])], (0.0, 2.0),
                         [0.3, 0.1, 0.0, 0.0], rtol=1e-11, atol=1e-11, t_eval=ts).y.T
        assert list(found) == ["place", "speed", "area"] and found["area"].shape == (5, 2, 2)
        np.testing.assert_allclose(found["place"]["angle"], flat[:, :2], atol=1e-6)
        np.testing.assert_allclose(found["speed"][0], flat[:, 2:], atol=1e-6)
        slope = ng.grad(lambda p, options=options: np.sum(odeint(pendulum, y0, ts, p, **options)["area"]))({"g": 9.81})
        ends = [np.sum(odeint(pendulum, y0, ts, {"g": g}, **options)["area"]) for g in (9.81 - 1e-4, 9.81 + 1e-4)]
        np.testing.assert_allclose(slope["g"], (ends[1] - ends[0]) / 2e-4, rtol=1e-4)


def test_tolerances_may_differ_from_leaf_to_leaf() -> None:
    def f(y: Any, t: Any) -> Any:
        return {"a": -y["a"], "b": 30.0 * np.cos(30.0 * t)}

    y0, ts = {"a": 1.0, "b": 0.0}, np.array([0.0, 3.0])
    _, all_tight = odeint(f, y0, ts, rtol=1e-10, atol=1e-10, info=True)
    _, only_a = odeint(f, y0, ts, rtol=0.0, atol={"a": 1e-10, "b": 1e3}, info=True)
    assert only_a.accepted < all_tight.accepted / 2


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtypes_are_kept(method: str, dtype: Any) -> None:
    ts = np.linspace(0.0, 1.0, 6).astype(np.float32)
    rate = np.asarray(-1.0 + (0.5j if np.dtype(dtype).kind == "c" else 0.0)).astype(dtype)
    for times in (ts, ts.astype(np.float64)):
        y = odeint(lambda y, t, rate: rate * y, np.ones(2, dtype), times, rate, method=method)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, np.exp(rate * ts)[:, None] * np.ones(2), rtol=2e-4)


def test_whole_numbers_and_lists_are_numbers_as_in_scipy() -> None:
    y = odeint(lambda y, t: [y[1], -y[0]], [1, 0], [0, 1])
    np.testing.assert_allclose(y[1], [np.cos(1.0), -np.sin(1.0)], rtol=1e-5)
    inside = ng.function(lambda s: odeint(lambda y, t: [y[1], -s * y[0]], [1, 0], [0, 1]))(1.0)
    np.testing.assert_allclose(inside, y, rtol=1e-13)


def test_one_trace_for_every_number_of_times() -> None:
    f = ng.function(lambda ts: odeint(lambda y, t: -y, 1.0, ts))
    for n in (2, 3, 1, 40):
        np.testing.assert_allclose(f(np.linspace(0.0, 2.0, n)), np.exp(-np.linspace(0.0, 2.0, n)), rtol=1e-5)
    assert f.trace_count == 1


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_graphs_interpreted_and_compiled(method: str) -> None:
    with ng.Graph().as_default():
        k, ts = ng.placeholder(ng.float64, ()), ng.placeholder(ng.float64, ("n",))
        y = odeint(lambda y, t: -k * y, 1.0, ts, method=method)
        slope, = ng.gradients(ng.sum(y), k)
    compiled = ng.compile([k, ts], [y, slope])
    for n in (2, 5):
        times = np.linspace(0.0, 1.0, n)
        for one, other in zip(compiled(3.0, times), ng.run([y, slope], {k: 3.0, ts: times}), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


RATES = np.array([0.5, 3.0, 40.0])
TIMES = np.array([0.0, 0.3, 1.0])


def decay(y0: Any, rate: Any, max_steps: int = 300) -> Any:
    return odeint(lambda y, t, rate: -rate * y, y0, TIMES, rate, rtol=1e-9, atol=1e-11, max_steps=max_steps)


def test_vmap_of_solutions_that_take_different_steps() -> None:
    wanted = np.exp(-RATES[:, None] * TIMES)
    np.testing.assert_allclose(ng.vmap(lambda k: decay(1.0, k))(RATES), wanted, rtol=1e-6, atol=1e-9)
    many = np.linspace(1.0, 60.0, 20)  # more than are repeated side by side
    np.testing.assert_allclose(ng.vmap(lambda k: decay(1.0, k))(many), np.exp(-many[:, None] * TIMES), atol=1e-8)
    each = np.array([ng.grad(lambda k: np.sum(decay(1.0, k)))(k) for k in RATES])
    np.testing.assert_allclose(ng.vmap(ng.grad(lambda k: np.sum(decay(1.0, k))))(RATES), each, rtol=1e-12)


def test_inside_loops_and_branches() -> None:
    def solved(rates: Any) -> Any:
        return ng.map(lambda k: decay(1.0, k), rates)

    np.testing.assert_allclose(ng.function(solved)(RATES), np.exp(-RATES[:, None] * TIMES), rtol=1e-6, atol=1e-9)
    each = np.array([ng.grad(lambda k: np.sum(decay(1.0, k)))(k) for k in RATES])
    np.testing.assert_allclose(ng.grad(lambda k: np.sum(solved(k)))(RATES), each, rtol=1e-12)
    chosen = ng.grad(lambda k: np.sum(ng.cond(k > 1.0, lambda: decay(1.0, k), lambda: TIMES)))
    np.testing.assert_allclose([chosen(3.0), chosen(0.5)], [each[1], 0.0], rtol=1e-12)


def test_a_solution_carried_by_a_loop_and_a_loop_in_the_equation() -> None:
    def chained(y0: Any, rate: Any) -> Any:
        return ng.fori_loop(0, 3, lambda i, y: decay(y, rate, 100)[-1], y0)

    value, slopes = ng.value_and_grad(chained, (0, 1))(1.0, 2.0)
    np.testing.assert_allclose([value, *slopes], np.exp(-6.0) * np.array([1.0, 1.0, -3.0]), rtol=1e-6)

    def halved(y: Any, t: Any) -> Any:
        """-y / 8 while y is between 0.4 and 0.8: as many halvings as it takes to be below 0.1."""
        return -ng.while_loop(lambda z: z > 0.1, lambda z: 0.5 * z, y)

    for method in ("dopri5", "rk4"):
        value, slope = ng.value_and_grad(lambda y, m=method: odeint(halved, y, TIMES, method=m)[-1])(0.7)
        np.testing.assert_allclose([value, slope], [0.7 * np.exp(-0.125), np.exp(-0.125)], rtol=1e-6)


def test_under_a_tape() -> None:
    with ng.GradientTape() as tape:
        k = ng.asarray(3.0)
        tape.watch(k)
        y = ng.sum(decay(1.0, k))
    np.testing.assert_allclose(tape.gradient(y, k), ng.grad(lambda k: np.sum(decay(1.0, k)))(3.0), rtol=1e-12)


# -- edges


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_one_time_and_equal_times(method: str) -> None:
    f, y0 = (lambda y, t: -y * (1.0 + t)), np.array([2.0, 1.0])
    np.testing.assert_array_equal(odeint(f, y0, np.array([1.0]), method=method), [y0])
    np.testing.assert_array_equal(odeint(f, y0, np.array([1.0, 1.0, 1.0]), method=method), [y0, y0, y0])
    repeated = odeint(f, y0, np.array([0.0, 1.0, 1.0, 2.0, 2.0]), method=method)
    np.testing.assert_array_equal(repeated[[1, 3]], repeated[[2, 4]])
    slopes = ng.jacobian(lambda ts: odeint(f, y0, ts, method=method)[:, 0])(np.array([1.0, 1.0]))
    np.testing.assert_allclose(slopes, [[0.0, 0.0], [4.0, -4.0]], rtol=1e-14)


def test_no_elements() -> None:
    assert odeint(lambda y, t: -y, np.zeros((0, 2)), np.array([0.0, 1.0])).shape == (2, 0, 2)


def test_a_right_hand_side_that_is_no_number_ends_the_integration() -> None:
    ts = np.array([0.0, 0.5, 2.0])
    y, info = odeint(lambda y, t: np.where(t > 1.0, np.nan, -y), 1.0, ts, info=True)
    np.testing.assert_allclose(y[:2], np.exp(-ts[:2]), rtol=1e-5)
    assert np.isnan(y[2]) and not info.success and 0.99 < info.reached <= 1.0 and info.rejected > 5
    y, info = odeint(lambda y, t: y * np.inf, np.array([1.0, 0.0]), ts, info=True)
    np.testing.assert_array_equal(y[0], [1.0, 0.0])
    assert np.all(np.isnan(y[1:])) and not info.success and info.reached == 0.0


def test_a_solution_that_runs_away() -> None:
    y, info = odeint(lambda y, t: y * y, 1.0, np.array([0.0, 0.5, 1.5]), info=True)
    np.testing.assert_allclose(y[1], 2.0, rtol=1e-5)
    assert np.isnan(y[2]) and not info.success
    np.testing.assert_allclose(info.reached, 1.0, rtol=1e-5)


def test_too_few_steps_give_nan_in_values_and_gradients() -> None:
    def run(w: Any, **options: Any) -> Any:
        return odeint(lambda y, t, w: [w * y[1], -w * y[0]], np.array([1.0, 0.0]), np.array([0.0, 0.05, 2.0]), w,
                      **options)

    y, info = run(50.0, max_steps=40, info=True)
    np.testing.assert_allclose(y[1], [np.cos(2.5), -np.sin(2.5)], rtol=1e-4)
    assert np.all(np.isnan(y[2])) and not info.success and info.accepted + info.rejected == 40
    assert np.isnan(ng.grad(lambda w: run(w, max_steps=40)[-1, 0])(50.0))
    assert np.isfinite(ng.grad(lambda w: run(w, max_steps=40)[1, 0])(50.0))
    assert np.all(np.isfinite(run(50.0)))


def test_times_beyond_the_last_and_times_that_are_no_numbers() -> None:
    y = odeint(lambda y, t: -y, 1.0, np.array([0.0, 3.0, -1.0, 0.5, np.nan, 1.0]))
    np.testing.assert_allclose(y, [1.0, np.nan, np.nan, np.exp(-0.5), np.nan, np.exp(-1.0)], rtol=1e-5)


def test_rejected_steps_leave_no_trace_in_gradients() -> None:
    """A first step far too long overflows; the gradient is that of the steps that were taken."""
    def end(k: Any, **options: Any) -> Any:
        return odeint(lambda y, t, k: -k * y * np.exp(y * y), 1.0, np.array([0.0, 2.0]), k, rtol=1e-8, atol=1e-50,
                      **options)[-1]

    value, slope = ng.value_and_grad(lambda k: end(k, first_step=2.0))(40.0)
    _, info = odeint(lambda y, t: -40.0 * y * np.exp(y * y), 1.0, np.array([0.0, 2.0]), first_step=2.0, info=True)
    assert info.rejected > 0
    fair, fair_slope = ng.value_and_grad(end)(40.0)
    np.testing.assert_allclose([value, slope], [fair, fair_slope], rtol=1e-5)


def test_max_step_is_kept() -> None:
    _, info = odeint(lambda y, t: 0.0 * y, 1.0, np.array([0.0, 1.0]), first_step=0.01, max_step=0.01, info=True)
    assert info.accepted == 100


# -- errors


@pytest.mark.parametrize("arguments,options,error,message", [
    ((1.0, [0.0, 1.0]), {"method": "euler"}, ValueError,
     r"no method 'euler', wanted one of dopri5, rk4.*test_integrate"),
    ((1.0, [0.0, 1.0]), {"steps": 3}, TypeError, "the method 'dopri5' takes no steps"),
    ((1.0, [0.0, 1.0]), {"checkpoint": "all"}, TypeError, "the method 'dopri5' takes no checkpoint"),
    ((1.0, [0.0, 1.0]), {"method": "rk4", "checkpoint": "some"}, ValueError, "odeint: checkpoint='some'; wanted"),
    ((1.0, [0.0, 1.0]), {"method": "rk4", "rtol": 1e-3}, TypeError, "the method 'rk4' takes no rtol"),
    ((1.0, [0.0, 1.0]), {"method": "rk4", "steps": 0}, ValueError, "steps is 0, wanted a positive integer"),
    ((1.0, [0.0, 1.0]), {"max_steps": 2.5}, ValueError, "max_steps is 2.5, wanted a positive integer"),
    ((1.0, 0.5), {}, ng.errors.ShapeError, r"ts is float64 of shape \(\), wanted real times in one axis"),
    ((1.0, np.zeros((2, 2))), {}, ng.errors.ShapeError, r"wanted real times in one axis"),
    ((1.0, np.zeros(2, complex)), {}, ng.errors.ShapeError, r"ts is complex128"),
    ((1.0, np.zeros(0)), {}, ng.errors.ShapeError, "ts holds no times, wanted at least the initial one"),
    ((True, [0.0, 1.0]), {}, ng.errors.DtypeError, "y0 is bool, wanted numbers"),
    (((), [0.0, 1.0]), {}, TypeError, "y0 holds no arrays"),
])
def test_errors_of_arguments(arguments: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        odeint(lambda y, t: y, *arguments, **options)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("f,y0,error,message", [
    (lambda y, t: (y, y), {"a": 1.0}, TypeError,
     "the result of f: got tuple of 2, wanted dict of 1; f must return dy/dt"),
    (lambda y, t: {"b": y["a"]}, {"a": 1.0}, TypeError, r"keys \['b'\], wanted \['a'\]"),
    (lambda y, t: np.stack([y, y]), np.ones(3), ng.errors.ShapeError,
     r"y0 has shape \(.+,\), but f returned shape \(2,.+\) for its derivative"),
    (lambda y, t: {"a": y["a"][:2]}, {"a": np.ones(3)}, ng.errors.ShapeError, r"y0\['a'\] has shape"),
    (lambda y, t: 1j * y, 1.0, ng.errors.DtypeError, "y0 is float64, but f returned complex128 for its derivative"),
    (lambda y, t: None, 1.0, TypeError, "f returned a NoneType for y0, wanted an array"),
])
def test_errors_of_the_right_hand_side(f: Any, y0: Any, error: Any, message: str, method: str) -> None:
    with pytest.raises(error, match=message):
        odeint(f, y0, np.array([0.0, 1.0]), method=method)

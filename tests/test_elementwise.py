"""Elementwise functions beyond the op table: kinks, traps of `where`, activations, operators and methods of tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import numgrad as ng
from numgrad.autodiff.forward import pushforward

INF, NAN = np.inf, np.nan


def derivative(f: Callable[..., Any], *values: Any, by: int = 0, order: int = 1) -> Any:
    """The derivative of ``sum(f(...))``, by reverse mode in a graph; forward mode must agree."""
    arrays = [np.asarray(v, np.float64) for v in values]
    with ng.Graph().as_default():
        xs = [ng.placeholder(ng.float64, a.shape) for a in arrays]
        y = f(*xs)
        for _ in range(order):
            before, (y,) = y, ng.gradients(y, [xs[by]])
            if y is None:
                return None
        (pushed,) = pushforward([before], [xs[by]], [ng.ones_like(xs[by])])
    reverse, forward = ng.run([y, pushed], dict(zip(xs, arrays)))
    if arrays[by].shape == np.shape(forward):
        np.testing.assert_allclose(forward, reverse, rtol=1e-14, err_msg="forward mode differs from reverse mode")
    return reverse


def test_the_derivative_of_a_reciprocal_divides_once() -> None:
    """One over x is told from other quotients, and both derivatives are right where x is extreme."""
    x = np.array([2.0, -0.25, INF, -INF, 0.0, -0.0, 1e-300, 1e200, NAN])
    found = [np.float64(-0.25), -16.0, -0.0, -0.0, -INF, -INF, -INF, -0.0, NAN]
    np.testing.assert_array_equal(derivative(lambda x: 1.0 / x, x), found)
    np.testing.assert_array_equal(derivative(lambda x: 2.0 / x, x), 2.0 * np.array(found))
    for numerator, divisions in ((1.0, 1), (2.0, 2)):
        with ng.Graph().as_default() as graph:
            t = ng.placeholder(ng.float64, (3,))
            ng.gradients(numerator / t, t)
        assert [op.type for op in graph.operations].count("divide") == divisions


# -- kinks and singular points: section R of the contract
KINKS: list[tuple[str, Callable[..., Any], list[float], list[float]]] = [
    ("abs", ng.abs, [-1, 0, 1], [-1, 0, 1]),
    ("relu", ng.nn.relu, [-1, 0, 1], [0, 0, 1]),
    ("relu6", ng.nn.relu6, [-1, 0, 3, 6, 7], [0, 0, 1, 0, 0]),
    ("leaky_relu", ng.nn.leaky_relu, [-1, 0, 1], [0.2, 0.2, 1]),
    ("maximum with a number second", lambda x: ng.maximum(x, 0.0), [-1, 0, 1], [0, 1, 1]),
    ("minimum with a number second", lambda x: ng.minimum(x, 0.0), [-1, 0, 1], [1, 1, 0]),
    ("maximum with a number first", lambda x: ng.maximum(0.0, x), [-1, 0, 1], [0, 0, 1]),
    ("fmax", lambda x: ng.fmax(x, 0.0), [-1, 0, 1, NAN], [0, 1, 1, 0]),
    ("fmin", lambda x: ng.fmin(0.0, x), [-1, 0, 1, NAN], [1, 0, 0, 0]),
    ("clip", lambda x: ng.clip(x, 0.0, 1.0), [-1, 0, 0.5, 1, 2], [0, 1, 1, 1, 0]),
    ("clip without an upper bound", lambda x: ng.clip(x, 0.0), [-1, 0, 2], [0, 1, 1]),
    ("sqrt", ng.sqrt, [0, 4], [INF, 0.25]),
    ("log", ng.log, [0, 2], [INF, 0.5]),
    ("power 0", lambda x: x**0.0, [0, 2], [0, 0]),
    ("power 0 as a tensor", lambda x: x ** ng.asarray([0.0, 0.0, 2.0]), [0, 2, 0], [0, 0, 0]),
    ("power 2", lambda x: x**2.0, [0, 2], [0, 4]),
    ("power 1", lambda x: x**1.0, [0, -2], [1, 1]),
    ("power by its exponent at 0", lambda x: ng.power(0.0, x), [1, 2.5], [0, 0]),
    ("divide_no_nan by its divisor", lambda x: ng.divide_no_nan(1.0, x), [0, 2], [0, -0.25]),
    ("xlogy of x twice", lambda x: ng.special.xlogy(x, x), [0, 1], [0, 1]),
    ("xlogy by its factor at 0", lambda x: ng.special.xlogy(x, 2.0), [0, 1], [np.log(2), np.log(2)]),
    ("xlog1py of zeros", lambda x: ng.special.xlog1py(x + 1.0, x), [-1, 0], [0, 1]),
    ("sign", ng.sign, [-1, 0, 1], [0, 0, 0]),
    ("hypot at the origin", lambda x: ng.hypot(x, 0.0), [0, -2], [0, -1]),
    ("atan2 at the origin", lambda x: ng.atan2(x, 0.0), [0], [0]),
    ("heaviside at 0 by its height", lambda h: ng.heaviside(ng.asarray([-1.0, 0.0, 1.0]), h), [3, 3, 3], [0, 1, 0]),
    ("copysign at 0", lambda x: ng.copysign(x, -1.0), [-2, 0, 2], [1, 0, -1]),
    ("sinc", ng.sinc, [0, 1], [0, -1]),
    ("remainder", lambda x: x % 2.0, [0.5, -0.5], [1, 1]),
    ("nan_to_num", ng.nan_to_num, [1, NAN, INF, -INF], [1, 0, 0, 0]),
    ("logaddexp", lambda x: ng.logaddexp(x, 0.0), [-INF, INF, 0, 800], [0, 1, 0.5, 1]),
]


@pytest.mark.parametrize("f,x,want", [row[1:] for row in KINKS], ids=[row[0] for row in KINKS])
def test_derivative_at_kinks_and_singular_points(f: Callable[..., Any], x: list[float], want: list[float]) -> None:
    np.testing.assert_allclose(derivative(f, x), want, rtol=1e-14)


@pytest.mark.parametrize(
    "f",
    [
        ng.floor,
        ng.ceil,
        ng.round,
        ng.trunc,
        ng.isnan,
        ng.stop_gradient,
        lambda x: x // 2.0,
        lambda x: x > 0,
        lambda x: ng.cast(ng.cast(x, ng.int32), ng.float64),
        lambda x: ng.round(x, 2),
    ],
)
def test_no_path_is_none_and_not_zero(f: Callable[..., Any]) -> None:
    assert derivative(f, [0.3, 1.7]) is None


def test_zero_derivatives_have_a_second_derivative() -> None:
    np.testing.assert_array_equal(derivative(lambda x: ng.sign(x) * x, [-2.0, 3.0], order=2), [0, 0])
    np.testing.assert_allclose(derivative(ng.sinc, [0.0], order=2), [-(np.pi**2) / 3], rtol=1e-14)
    np.testing.assert_allclose(derivative(lambda x: x**3, [0.0, 2.0], order=3), [6, 6], rtol=1e-14)


TRAPS: list[tuple[str, Callable[..., Any], list[float], list[float]]] = [
    ("sqrt", lambda x: ng.where(x > 0, ng.sqrt(x), 0.0), [-1, 0, 1], [0, 0, 0.5]),
    ("rsqrt", lambda x: ng.where(x > 0, ng.rsqrt(x), 0.0), [-1, 0, 1], [0, 0, -0.5]),
    ("log", lambda x: ng.where(x > 0, ng.log(x), 0.0), [-1, 0, 1], [0, 0, 1]),
    ("reciprocal", lambda x: ng.where(x > 0, 1.0 / x, 0.0), [-1, 0, 1], [0, 0, -1]),
    ("power", lambda x: ng.where(x > 0, x**0.5, 0.0), [-1, 0, 1], [0, 0, 0.5]),
    ("overflowing exp", lambda x: ng.where(x < 50, ng.exp(x), 0.0), [1, 1000], [np.e, 0]),
    ("exp inside", lambda x: ng.where(x < 50, ng.log(ng.exp(x) * 2.0), 0.0), [1, 1000], [1, 0]),
    ("chain", lambda x: ng.where(x > 0, ng.sqrt(ng.log(x + 1.0)), 0.0), [-2, np.e - 1], [0, 0.5 / np.e]),
    ("minimum", lambda x: ng.minimum(ng.exp(x), 10.0), [0, 1000], [1, 0]),
    ("elu", ng.nn.elu, [-1, 0, 1000], [np.exp(-1), 1, 1]),
]


@pytest.mark.parametrize("f,x,want", [row[1:] for row in TRAPS], ids=[row[0] for row in TRAPS])
def test_what_where_did_not_take_leaks_nothing(f: Callable[..., Any], x: list[float], want: list[float]) -> None:
    np.testing.assert_allclose(derivative(f, x), want, rtol=1e-13)
    assert np.all(np.isfinite(derivative(f, x, order=2)))


def test_ties_go_to_the_first_argument_and_clip_bounds_get_what_they_cut() -> None:
    x = [-1.0, 0.0, 0.5, 1.0, 2.0]
    np.testing.assert_array_equal(derivative(ng.maximum, x, x, by=0), np.ones(5))
    np.testing.assert_array_equal(derivative(ng.maximum, x, x, by=1), np.zeros(5))
    lo, hi = np.zeros(5), np.ones(5)
    np.testing.assert_array_equal(derivative(ng.clip, x, lo, hi, by=1), [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(derivative(ng.clip, x, lo, hi, by=2), [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(
        derivative(ng.clip, [0.5], [2.0], [1.0], by=2), [1]
    )  # crossed bounds: the upper one wins


def test_complex_derivatives_follow_the_convention() -> None:
    """dL = Re(conj(g) dz) for a real L."""
    with ng.Graph().as_default():
        z = ng.placeholder(ng.complex128, ())
        results = [
            ng.gradients(ng.real(z * z), z)[0],
            ng.gradients(ng.abs(z), z)[0],
            ng.gradients(ng.conj(z), z, [1 + 1j])[0],
            ng.gradients(ng.angle(z), z)[0],
            ng.gradients(ng.abs(z * 0.0), z)[0],
        ]
    values = ng.run(results, {z: 3 + 4j})
    np.testing.assert_allclose(values, [6 - 8j, 0.6 + 0.8j, 1 - 1j, (-4 + 3j) / 25, 0], rtol=1e-14, atol=1e-16)


def test_cast_passes_derivatives_between_floats_and_complex_numbers() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float32, (2,))
        z = ng.cast(x, ng.complex128)
        (g,) = ng.gradients(ng.sum(ng.real(z * (2.0 + 3.0j))), x)
    assert g.dtype == ng.float32
    np.testing.assert_array_equal(ng.run(g, {x: [1.0, 2.0]}), [2, 2])


def test_prevent_gradient_refuses_in_both_directions() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        y = ng.prevent_gradient(x * 2.0, "a table")
        with pytest.raises(LookupError, match=r"explicitly disabled: a table \(.*test_elementwise.py:"):
            ng.gradients(y, x)
        with pytest.raises(LookupError, match="explicitly disabled: a table"):
            pushforward([y], [x], [x])
    assert ng.run(y, {x: 4.0}) == 8.0


# -- functions made of ops
SAMPLE = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0])


def test_activations_are_their_formulas() -> None:
    x = SAMPLE
    wanted = {
        "relu": np.maximum(x, 0), "relu6": np.clip(x, 0, 6), "leaky_relu": np.where(x > 0, x, 0.2 * x),
        "elu": np.where(x > 0, x, np.expm1(x)), "silu": x * special.expit(x), "gelu": x * special.ndtr(x),
        "selu": 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    }  # fmt: skip
    for name, want in wanted.items():
        np.testing.assert_allclose(getattr(ng.nn, name)(x).numpy(), want, rtol=1e-14, atol=1e-300, err_msg=name)
    np.testing.assert_allclose(ng.nn.gelu(x, approximate=True).numpy(), wanted["gelu"], atol=1e-3)
    assert ng.nn.relu(np.float32(1)).dtype == np.float32


def test_cross_entropies() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 3)), rng.dirichlet(np.ones(3), size=4)
    want = -np.sum(labels * special.log_softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(ng.nn.softmax_cross_entropy(logits, labels).numpy(), want, rtol=1e-14)
    np.testing.assert_allclose(
        derivative(lambda x: ng.nn.softmax_cross_entropy(x, labels), logits),
        special.softmax(logits, axis=1) - labels,
        rtol=1e-13,
    )
    p = special.expit(logits)
    want = -labels * np.log(p) - (1 - labels) * np.log1p(-p)
    np.testing.assert_allclose(ng.nn.sigmoid_cross_entropy(logits, labels).numpy(), want, rtol=1e-13)
    np.testing.assert_allclose(
        derivative(lambda x: ng.nn.sigmoid_cross_entropy(x, labels), logits), p - labels, rtol=1e-12
    )
    impossible = ng.nn.softmax_cross_entropy([[0.0, -INF]], [[1.0, 0.0]]).numpy()
    np.testing.assert_array_equal(impossible, [0])


@pytest.mark.parametrize("decimals", [-2, -1, 0, 1, 3])
def test_round_to_decimals_is_numpys(decimals: int) -> None:
    for x in (
        np.array([123.4567, -55.5, 0.05, 1e300, NAN]),
        np.array([1234, -55, 5]),
        np.array([1.25 + 2.75j]),
        np.float32([2.675]),
    ):
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(ng.round(x, decimals).numpy(), np.round(x, decimals))


def test_nan_to_num_isclose_and_allclose_are_numpys() -> None:
    x = np.array([1.0, NAN, INF, -INF, 1 + 1e-9])
    for a in (x, x.astype(np.float32), x + 1j * x[::-1]):
        np.testing.assert_array_equal(
            ng.nan_to_num(a, nan=3.0, neginf=-7.0).numpy(), np.nan_to_num(a, nan=3.0, neginf=-7.0)
        )
        for equal_nan in (False, True):
            np.testing.assert_array_equal(
                ng.isclose(a[:, None], a, equal_nan=equal_nan).numpy(), np.isclose(a[:, None], a, equal_nan=equal_nan)
            )
    assert bool(ng.allclose(x[[0, 4]], 1.0)) and not bool(ng.allclose(x, x))
    assert bool(ng.allclose(np.zeros((0, 3)), 1.0))


def test_aliases_are_the_same_functions() -> None:
    pairs = """arccos acos arcsin asin arctan atan arctan2 atan2 arccosh acosh arcsinh asinh arctanh atanh pow power
    mod remainder
               absolute abs conjugate conj invert bitwise_invert left_shift bitwise_left_shift true_divide divide expit
               sigmoid
               degrees rad2deg radians deg2rad around round""".split()
    for alias, name in zip(pairs[::2], pairs[1::2], strict=True):
        assert getattr(ng, alias) is getattr(ng, name)


def test_float_power_and_divmod_are_numpys() -> None:
    np.testing.assert_array_equal(ng.float_power(np.int8([2, 4]), -1).numpy(), np.float_power(np.int8([2, 4]), -1))
    for got, want in zip(ng.divmod(np.array([7.5, -7.5]), 2), np.divmod(np.array([7.5, -7.5]), 2), strict=True):
        np.testing.assert_array_equal(got.numpy(), want)


# -- operators and methods of tensors
BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]
BITWISE = [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]


@pytest.mark.parametrize("apply", BINARY, ids=lambda f: f.__name__)
def test_operators_are_numpys_on_either_side(apply: Callable[..., Any]) -> None:
    x, y = np.array([1.5, 2.0, 3.0], np.float32), np.array([2.0, 2.0, 0.5], np.float32)
    for other in (y, 2, 2.0, np.float32(2), [2.0, 1.0, 3.0]):
        numpys = np.asarray(other) if isinstance(other, list) else other
        for got, want in (
            (apply(ng.asarray(x), other), apply(x, numpys)),
            (apply(other, ng.asarray(x)), apply(numpys, x)),
            (apply(ng.asarray(x), ng.asarray(numpys)), apply(x, np.asarray(numpys))),
        ):
            assert isinstance(got, ng.Tensor)
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)


@pytest.mark.parametrize("apply", BITWISE, ids=lambda f: f.__name__)
def test_bitwise_operators_are_numpys(apply: Callable[..., Any]) -> None:
    x, y = np.array([12, 7, 1]), np.array([10, 2, 3])
    np.testing.assert_array_equal(apply(ng.asarray(x), y).numpy(), apply(x, y))
    np.testing.assert_array_equal(apply(5, ng.asarray(y)).numpy(), apply(5, y))


def test_unary_operators_products_and_methods_are_numpys() -> None:
    x = np.arange(6.0).reshape(2, 3) - 2.5
    t = ng.asarray(x)
    wanted: list[tuple[Any, Any]] = [
        (-t, -x), (+t, x), (abs(t), abs(x)), (~ng.asarray([True, False]), np.array([False, True])), (t @ x.T, x @ x.T),
        (x.T @ t, x.T @ x), (t.T, x.T), (t.mT, x.mT), (t.sum(), x.sum()), (t.sum(axis=0), x.sum(axis=0)), (t.mean(1),
                                                                                                           x.mean(1)),
        (t.max(axis=1), x.max(axis=1)), (t.reshape(3, 2), x.reshape(3, 2)), (t.reshape((6,)), x.reshape(6)),
        (t.ravel(), x.ravel()),
        (t.transpose(1, 0), x.T), (t.astype(np.float32), x.astype(np.float32)), (t.clip(0, 1), x.clip(0, 1)), (t.real,
                                                                                                               x.real),
        (t.imag, x.imag), (t.conj(), x), (t.dot(x.T), x.dot(x.T)), (t.std(), x.std()), (t.argmax(1), x.argmax(1)),
        (t.cumsum(0), x.cumsum(0)), (t.round(), x.round()), (t.copy(), x), (divmod(t, 2)[1], divmod(x, 2)[1]), (t**0.5,
                                                                                                                x**0.5),
        (t.swapaxes(0, 1), x.swapaxes(0, 1)), (t.flatten(), x.flatten()), (t.prod(), x.prod()), (t.repeat(2, axis=0),
                                                                                                 x.repeat(2, axis=0)),
    ]  # fmt: skip
    for i, (got, want) in enumerate(wanted):
        assert got.dtype == want.dtype, i
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-14, err_msg=str(i))
    assert t.tolist() == x.tolist() and t.item(1) == x.item(1)


def test_tensors_hash_by_identity_iterate_and_are_immutable() -> None:
    t = ng.asarray([1.0, 2.0])
    assert {t: "found"}[t] == "found" and hash(t) != hash(ng.asarray([1.0, 2.0]))
    assert [float(row) for row in t] == [1.0, 2.0]
    assert (t == None) is False and (t != "text") is True  # noqa: E711
    before = t
    t += 1.0
    assert t is not before and before.tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="immutable.*ng.where.*test_elementwise.py:"):
        t[0] = 3.0
    with pytest.raises(TypeError, match="0-d"):
        iter(ng.asarray(1.0))
    with ng.Graph().as_default(), pytest.raises(ValueError, match="only when the program runs"):
        iter(ng.placeholder(ng.float64, ("n",)))


def test_simple_powers_become_simple_ops() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        assert [(x**p).op.type for p in (2, 1.0, -1, 0.5, 3)] == ["square", "positive", "reciprocal", "sqrt", "power"]
        n = ng.placeholder(ng.int64, ())
        assert (n**2).dtype == np.int64 and (n**2.0).dtype == np.float64 and (n**0.5).dtype == np.float64


def test_errors_name_op_operands_and_line() -> None:
    with pytest.raises(
        ng.errors.ShapeError,
        match=r"add: cannot broadcast shapes \(3,\) and \(4,\) \(axis -1: 3, 4\).*test_elementwise",
    ):
        ng.add(np.ones(3), np.ones(4))
    with pytest.raises(
        ng.errors.DtypeError, match=r"subtract: got bool and bool, wanted integers, floats, complex numbers.*ng.cast"
    ):
        ng.asarray([True]) - ng.asarray([True])
    with pytest.raises(ng.errors.DtypeError, match=r"bitwise_and: got float64 and int, wanted bool, integers"):
        ng.bitwise_and(np.ones(2), 1)
    with pytest.raises(ng.errors.DtypeError, match="where: got a condition alone"):
        ng.where(np.array([True]))
    with pytest.raises(TypeError, match="clip: a bound is given twice"):
        ng.clip(1.0, 0.0, min=0.0)
    with pytest.raises(ng.errors.DtypeError, match="polygamma: the order is 1.5"):
        ng.special.polygamma(1.5, 1.0)


def test_run_takes_any_nest_and_says_what_it_was_not_given() -> None:
    with ng.Graph().as_default():
        x, y = ng.placeholder(ng.float64, (), name="x"), ng.placeholder(ng.float64, (), name="y")
        z = x + y
    got = ng.run({"a": [z, (x, None)]}, {x: 1, y: 2.0})
    assert got["a"][0] == 3.0 and got["a"][1][1] is None and isinstance(got["a"][0], np.ndarray)
    assert ng.run(z, {z: 5.0}) == 5.0
    with pytest.raises(ng.errors.GraphError, match="placeholder y needs a value"):
        ng.run(z, {x: 1.0})
    with pytest.raises(ng.errors.GraphError, match="the outputs hold 3, wanted tensors"):
        ng.run([z, 3], {})

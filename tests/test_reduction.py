"""Reductions: values, dtypes and shapes as NumPy has them, derivatives at zeros, ties and infinities, errors' texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng

STEP = 1e-30
Function = Callable[[Any], Any]


def derivative(f: Function, x: Any, order: int = 1) -> np.ndarray[Any, Any]:
    """The gradient (order 1) of the sum of f, or the whole Hessian (order 2), with sizes unknown to the graph."""
    x = np.asarray(x)
    with ng.Graph().as_default():
        p = ng.placeholder(x.dtype, (None,) * x.ndim)
        (g,) = ng.gradients(f(p), [p])
        if order == 1:
            return ng.run(g, {p: x})
        v = ng.placeholder(x.dtype, p.shape)
        (row,) = ng.gradients(ng.sum(ng.multiply(g, v)), [p])
        rows = []
        for i in range(x.size):
            unit = np.zeros(x.size)
            unit[i] = 1.0
            rows.append(ng.run(row, {p: x, v: unit.reshape(x.shape)}).ravel())
        return np.array(rows)


def complex_steps(f: Function, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The gradient of the sum of a NumPy function, without subtraction."""
    result = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[place] += 1j * STEP
        result[place] = np.sum(f(moved)).imag / STEP
    return result


@pytest.fixture
def x() -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).uniform(0.5, 1.5, (2, 3, 4)) * np.resize([1.0, -1.0, 1.0], (2, 3, 4))


AXES = [None, 0, 1, -1, (0, 2), (2, 0), (-1, -2), (0, 1, 2), ()]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "any", "all", "count_nonzero"])
def test_values_are_numpys(name: str, axis: Any, keepdims: bool, x: Any) -> None:
    x = np.where(x > 0.7, x, 0.0)
    for array in (x, x.astype(np.float32), x.T[::-1], x.astype(int), x > 0, x + 1j * x[::-1], x[:, :, :1]):
        wanted = getattr(np, name)(array, axis=axis, keepdims=keepdims)
        got = getattr(ng, name)(array, axis=axis, keepdims=keepdims).numpy()
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        assert_allclose(got, wanted, rtol=1e-5 if array.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_are_numpys(name: str, x: Any) -> None:
    ties = np.round(x)
    ties[0, 1, 2] = np.nan
    for array in (ties, ties.astype(np.float16), np.round(x).astype(np.int8), x > 0, ties + 1j * ties[::-1]):
        for axis in (None, 0, 1, -1):
            for keepdims in (False, True):
                got = getattr(ng, name)(array, axis=axis, keepdims=keepdims).numpy()
                assert_array_equal(got, getattr(np, name)(array, axis=axis, keepdims=keepdims), strict=True)


@pytest.mark.parametrize("name", ["sum", "prod"])
@pytest.mark.parametrize("dtype", "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split())
def test_dtype_of_sums_is_numpys(name: str, dtype: str) -> None:
    array = np.array([1, 0, 3], dtype)
    assert getattr(ng, name)(array).dtype == getattr(np, name)(array).dtype
    assert getattr(ng, name)(array, dtype=np.int8).dtype == np.int8


def test_small_integers_add_up_wide_and_wrap_when_told_to() -> None:
    many = np.full(300, 100, np.uint8)
    assert int(ng.sum(many).numpy()) == 30000
    assert_array_equal(ng.sum(many, dtype=np.uint8).numpy(), np.sum(many, dtype=np.uint8))
    for name in ("sum", "prod"):
        for bools in ([True, True], [True, False], [False, False], []):
            wanted = getattr(np, name)(np.array(bools, bool), dtype=bool)
            assert_array_equal(getattr(ng, name)(np.array(bools, bool), dtype=bool).numpy(), wanted, strict=True)


def test_float16_adds_up_in_float32() -> None:
    ones = np.ones((2, 5000), np.float16)
    assert_array_equal(ng.sum(ones, axis=1).numpy(), np.array([5000, 5000], np.float16), strict=True)
    assert_array_equal(ng.mean(ones * np.float16(40)).numpy(), np.float16(40.0), strict=True)
    assert ng.std(ones).dtype == np.float16


def test_empty_and_scalar() -> None:
    empty = np.zeros((0, 3))
    assert_array_equal(ng.sum(empty, axis=0).numpy(), np.zeros(3))
    assert_array_equal(ng.prod(empty, axis=0).numpy(), np.ones(3))
    assert ng.max(empty, axis=1).shape == (0,)
    assert bool(ng.all(empty).numpy()) and not bool(ng.any(empty).numpy())
    assert np.isnan(ng.mean(empty).numpy()) and np.isnan(ng.var(empty).numpy())
    assert_array_equal(ng.logsumexp(empty, axis=0).numpy(), np.full(3, -np.inf))
    assert ng.linalg.vector_norm(empty).numpy() == 0.0
    for name in ("sum", "prod", "mean", "max", "min", "logsumexp"):
        assert getattr(ng, name)(2.5).numpy() == 2.5
        assert getattr(ng, name)(2.5, keepdims=True).shape == ()


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_nothing_has_no_extremum(name: str) -> None:
    with pytest.raises(ng.errors.ShapeError, match=rf"{name}: .*float64\(0,3\).*test_reduction.py"):
        getattr(ng, name)(np.zeros((0, 3)), axis=0)
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ("n",))
        y = getattr(ng, name)(p)
        with pytest.raises(ng.errors.ShapeError, match=f"{name}: .*no elements"):
            ng.run(y, {p: np.zeros(0)})


def test_errors_name_op_axis_and_line() -> None:
    with pytest.raises(ng.errors.ShapeError, match=r"sum: axis 3 is out of range for 2 axes \(.*test_reduction.py"):
        ng.sum(np.zeros((2, 3)), axis=3)
    with pytest.raises(ng.errors.ShapeError, match=r"max: axis \(0, -2\) repeats"):
        ng.max(np.zeros((2, 3)), axis=(0, -2))
    with pytest.raises(ng.errors.DtypeError, match=r"mean: got int32\(2,\), wanted float or complex"):
        ng.mean(np.zeros(2), dtype=np.int32)
    with pytest.raises(ng.errors.DtypeError, match=r"logsumexp: got complex128\(2,\), wanted float;"):
        ng.logsumexp(np.zeros(2, complex))
    with pytest.raises(ng.errors.DtypeError, match="var: got both correction=1 and ddof=0"):
        ng.var(np.zeros(2), correction=1, ddof=0)
    with pytest.raises(ng.errors.DtypeError, match="vector_norm: got ord='fro'"):
        ng.linalg.vector_norm(np.zeros(2), ord="fro")


# -- derivatives
def test_sum_repeats_the_cotangent(x: Any) -> None:
    weights = np.arange(3.0)
    got = derivative(lambda p: ng.multiply(ng.sum(p, axis=(0, 2)), weights), x)
    assert_array_equal(got, np.broadcast_to(weights[:, None], x.shape))


def others(values: np.ndarray[Any, Any], *left_out: int) -> float:
    return float(np.prod(np.delete(values, left_out)))


@pytest.mark.parametrize("zeros", [(), (1,), (1, 3), (0, 1, 4)])
def test_prod_with_zeros_is_exact_to_second_order(zeros: tuple[int, ...]) -> None:
    values = np.array([2.0, -3.0, 0.5, 4.0, -1.0])
    values[list(zeros)] = 0.0
    n = len(values)
    assert_allclose(derivative(ng.prod, values), [others(values, i) for i in range(n)], rtol=1e-15)
    hessian = [[others(values, i, j) if i != j else 0.0 for j in range(n)] for i in range(n)]
    assert_allclose(derivative(ng.prod, values, 2), hessian, rtol=1e-15, atol=0)


def test_prod_over_axes_that_are_not_neighbours(x: Any) -> None:
    x[0, 1, 2] = x[1, 2, 0] = x[1, 2, 3] = 0.0
    got = derivative(lambda p: ng.prod(p, axis=(0, 2)), x)
    wanted = np.zeros_like(x)
    for i, j, k in np.ndindex(x.shape):
        wanted[i, j, k] = others(x[:, j].ravel(), i * 4 + k)
    assert_allclose(got, wanted, rtol=1e-14)


def test_compiled_gradient_of_prod_keeps_what_it_reads(x: Any) -> None:
    """Both cumulative products read one rearranged copy: it must outlive the first."""
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ("a", "b", "c"))
        (g,) = ng.gradients(ng.prod(p, axis=(0, 2)), [p])
        assert_allclose(ng.compile([p], [g])(x)[0], ng.run(g, {p: x}), rtol=1e-15)


def test_complex_prod_conjugates() -> None:
    z = np.array([1 + 2j, 0.5 - 1j, -1 + 0.25j])
    with ng.Graph().as_default():
        p = ng.placeholder(z.dtype, (None,))
        (g,) = ng.gradients(ng.real(ng.prod(p)), [p])
        got = ng.run(g, {p: z})
    assert_allclose(got, [np.conj(np.prod(np.delete(z, i))) for i in range(3)], rtol=1e-15)


def test_equal_extrema_share() -> None:
    assert_array_equal(derivative(ng.max, np.array([2.0, 2.0, 1.0])), [0.5, 0.5, 0.0])
    columns = derivative(lambda p: ng.min(p, axis=0), np.array([[2.0, 1.0], [0.0, 1.0]]))
    assert_array_equal(columns, [[0.0, 0.5], [1.0, 0.5]])
    assert_array_equal(derivative(ng.max, np.array([2.0, np.nan, np.nan])), [0.0, 0.5, 0.5])
    assert_array_equal(derivative(ng.max, np.full(6, 3.0, np.float16)), np.full(6, 1 / 6, np.float16))


def test_a_branch_that_is_not_the_extremum_leaks_no_nan() -> None:
    """The slope of the root at 0 is infinite, but the maximum is elsewhere."""
    assert_array_equal(derivative(lambda p: ng.max(ng.sqrt(p)), np.array([0.0, 4.0])), [0.0, 0.25])


@pytest.mark.parametrize("correction", [0, 1, 0.5])
def test_moments_by_complex_step(correction: float, x: Any) -> None:
    def variance(z: Any) -> Any:
        away = z - z.mean(axis=(0, 2), keepdims=True)
        return (away * away).sum(axis=(0, 2)) / (8 - correction)

    assert_allclose(ng.var(x, axis=(0, 2), correction=correction).numpy(), variance(x), rtol=1e-14)
    assert_allclose(derivative(lambda p: ng.var(p, axis=(0, 2), correction=correction), x),
                    complex_steps(variance, x), rtol=1e-12, atol=1e-15)
    assert_allclose(derivative(lambda p: ng.std(p, axis=(0, 2), ddof=correction), x),
                    complex_steps(lambda z: np.sqrt(variance(z)), x), rtol=1e-12, atol=1e-15)


def test_spread_of_too_few() -> None:
    assert np.isinf(ng.var([1.0, 3.0], correction=2).numpy())
    assert np.isnan(ng.var([1.0], correction=1).numpy())
    assert_array_equal(derivative(ng.std, np.full(3, 2.0)), np.zeros(3))


def test_logsumexp_is_stable_and_exact() -> None:
    values = np.array([1000.0, 999.0, -1000.0])
    wanted = mpmath.log(sum(mpmath.exp(mpmath.mpf(v)) for v in values))
    assert_allclose(ng.logsumexp(values).numpy(), float(wanted), rtol=1e-15)
    assert_allclose(derivative(ng.logsumexp, values), [float(mpmath.exp(v - wanted)) for v in values], rtol=1e-13)
    for special, result in (([-np.inf, -np.inf], -np.inf), ([np.inf, 1.0], np.inf), ([np.inf, -np.inf], np.inf),
                            ([np.nan, np.inf], np.nan), ([-np.inf, 2.0], 2.0)):
        assert_array_equal(ng.logsumexp(special).numpy(), result)
    assert_array_equal(derivative(ng.logsumexp, np.array([-np.inf, 2.0])), [0.0, 1.0])
    assert_array_equal(derivative(ng.logsumexp, np.array([-np.inf, -np.inf])), [0.0, 0.0])


def test_logsumexp_to_second_order(x: Any) -> None:
    row = x[0].ravel()
    share = np.exp(row) / np.exp(row).sum()
    assert_allclose(derivative(ng.logsumexp, row, 2), np.diag(share) - np.outer(share, share), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_by_complex_step(name: str, x: Any) -> None:
    weights = np.random.default_rng(3).standard_normal(x.shape)

    def plain(z: Any) -> Any:
        share = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return weights * (share if name == "softmax" else np.log(share))

    ours = getattr(ng.nn, name)
    assert_allclose(ours(x, axis=1).numpy() * weights, plain(x), rtol=1e-14)
    assert_allclose(derivative(lambda p: ng.multiply(ours(p, axis=1), weights), x), complex_steps(plain, x), rtol=1e-11,
                    atol=1e-15)
    assert_allclose(ours([1000.0, 0.0]).numpy(), [1.0, 0.0] if name == "softmax" else [0.0, -1000.0])
    assert ours(np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("order", [2, 1, 0, 3, 0.5, -1, -2, np.inf, -np.inf])
def test_norms_are_numpys(order: float, x: Any) -> None:
    for array in (x, x + 1j * x[::-1], (x * 9).astype(int)):
        for axis in (None, 1, (0, 2)):
            wanted = np.linalg.vector_norm(array, axis=axis, ord=order)
            assert_allclose(ng.linalg.vector_norm(array, axis=axis, ord=order).numpy(), wanted, rtol=1e-13)
    assert ng.linalg.vector_norm(x + 1j, keepdims=True).shape == (1, 1, 1)


@pytest.mark.parametrize("order", ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
def test_norms_of_matrices_are_numpys(order: Any, x: Any) -> None:
    for array in (x, x + 1j * x[::-1]):
        wanted = np.linalg.matrix_norm(array, ord=order, keepdims=True)
        assert_allclose(ng.linalg.matrix_norm(array, ord=order, keepdims=True).numpy(), wanted, rtol=1e-13)
        for axis in ((0, 1), (2, 0), (-1, -2)):
            wanted = np.linalg.norm(array, order, axis=axis)
            assert_allclose(ng.linalg.norm(array, order, axis=axis).numpy(), wanted, rtol=1e-13)
        assert_allclose(ng.linalg.norm(array[0], order).numpy(), np.linalg.norm(array[0], order), rtol=1e-13)


def test_norm_of_vectors_and_of_everything(x: Any) -> None:
    assert_allclose(ng.linalg.norm(x).numpy(), np.linalg.norm(x), rtol=1e-14)
    kept = ng.linalg.norm(x, axis=1, keepdims=True).numpy()
    assert_allclose(kept, np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-14)
    assert_allclose(ng.linalg.norm(x[0, 0], 3).numpy(), np.linalg.norm(x[0, 0], 3), rtol=1e-14)
    with pytest.raises(ng.errors.ShapeError, match=r"norm: got float64\(2,3,4\) with ord=1 and no axis"):
        ng.linalg.norm(x, 1)
    with pytest.raises(ng.errors.ShapeError, match=r"norm: got axis=\(0, 1, 2\), wanted one axis or two"):
        ng.linalg.norm(x, axis=(0, 1, 2))
    with pytest.raises(ng.errors.DtypeError, match="norm: got ord=3, wanted 'fro', 'nuc', 1, -1"):
        ng.linalg.norm(x[0], 3)


def test_gradient_of_norms() -> None:
    assert_allclose(derivative(ng.linalg.vector_norm, np.array([3.0, -4.0])), [0.6, -0.8], rtol=1e-15)
    for order in (2, 3, 1, np.inf):
        got = derivative(lambda p, order=order: ng.linalg.vector_norm(p, ord=order), np.zeros(3))
        assert_array_equal(got, np.zeros(3))
    cube = complex_steps(lambda z: np.sum(z * z * z) ** (1 / 3), np.array([1.0, 2.0]))
    assert_allclose(derivative(lambda p: ng.linalg.vector_norm(p, ord=3), np.array([1.0, 2.0])), cube, rtol=1e-14)


def test_no_derivative_of_counts_and_positions(x: Any) -> None:
    with ng.Graph().as_default():
        p = ng.placeholder(x.dtype, x.shape)
        for f in (ng.argmax, ng.argmin, ng.any, ng.all, ng.count_nonzero):
            assert ng.gradients(ng.astype(f(p), ng.float64), [p]) == [None]


def test_functions_are_documented_under_their_names() -> None:
    assert ng.amax is ng.max and ng.amin is ng.min
    for name in ("max", "min", "any", "all", "argmax", "argmin", "var", "std"):
        assert f"ng.{name}(" in getattr(ng, name).__doc__

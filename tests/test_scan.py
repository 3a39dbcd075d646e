"""Cumulative ops: values as NumPy has them, from both ends, and derivatives that stay exact where factors are zero."""

from __future__ import annotations

import ctypes
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.graph.records import OPS
from numgrad.types import Spec
from numgrad_kernels.build import build_library

KERNELS = ("linear_scan cumsum cumprod logcumsumexp cummax cummin argmax argmin sort top_k searchsorted").split()


def jacobian(f: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of first derivatives of a vector function, by reverse mode."""
    with ng.Graph().as_default():
        p = ng.placeholder(x.dtype, ("n",))
        y = f(p)
        seed = ng.placeholder(x.dtype, y.shape)
        (g,) = ng.gradients(y, [p], grad_ys=[seed])
        return np.array([ng.run(g, {p: x, seed: unit}) for unit in np.eye(ng.run(y, {p: x}).shape[0], dtype=x.dtype)])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_values_are_numpys(name: str, axis: int | None) -> None:
    x = np.random.default_rng(0).integers(-3, 4, (3, 4))
    for array in (x * 0.5, x, x.astype(np.int8), np.abs(x).astype(np.uint16), x > 0, x * (1 + 0.5j), (x * 0.5).T[::2],
                  x[:0], np.float32(2.0), (x * 0.5).astype(np.float16)):
        if np.ndim(array) == 0 and axis is not None:
            continue
        wanted = getattr(np, name)(array, axis=axis)
        assert_array_equal(getattr(ng, name)(array, axis=axis).numpy(), wanted, strict=True)
    assert getattr(ng, name)(x, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize("name,plain", [("cummax", np.maximum), ("cummin", np.minimum)])
def test_running_extrema_are_numpys(name: str, plain: Any) -> None:
    x = np.random.default_rng(0).integers(-3, 4, (5, 6)) * 0.5
    x[2, 3] = np.nan
    for axis in (0, 1):
        assert_array_equal(getattr(ng, name)(x, axis=axis).numpy(), plain.accumulate(x, axis=axis))
        assert_array_equal(getattr(ng, name)(x, axis=axis, reverse=True).numpy(),
                           np.flip(plain.accumulate(np.flip(x, axis), axis=axis), axis))


def test_from_the_end_and_without_the_element_itself() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert_array_equal(ng.cumsum(x, exclusive=True).numpy(), [0, 1, 3, 7])
    assert_array_equal(ng.cumprod(x, reverse=True).numpy(), [64, 64, 32, 8])
    assert_array_equal(ng.logcumsumexp(x, exclusive=True).numpy()[:2], [-np.inf, 1.0])


def test_standard_functions() -> None:
    x = np.arange(1.0, 7.0).reshape(2, 3)
    for name in ("cumulative_sum", "cumulative_prod"):
        ours, theirs = getattr(ng, name), getattr(np, name)
        for axis in (0, -1):
            for initial in (False, True):
                assert_array_equal(ours(x, axis=axis, include_initial=initial).numpy(),
                                   theirs(x, axis=axis, include_initial=initial), strict=True)
        with pytest.raises(ng.errors.ShapeError, match=rf"{name}: got float64\(2,3\) without an axis.*test_scan.py"):
            ours(x)
        assert_array_equal(ours(x[0]).numpy(), theirs(x[0]))


def test_errors() -> None:
    with pytest.raises(ng.errors.DtypeError, match=r"cumsum: got bool\(2,\), wanted integer or float or complex"):
        ng.cumsum([True, False], dtype=bool)
    with pytest.raises(ng.errors.DtypeError, match="cummax: got complex128"):
        ng.cummax([1j])
    with pytest.raises(ng.errors.ShapeError, match="cumprod: axis 1 is out of range for 1 axes"):
        ng.cumprod([1.0], axis=1)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("zeros", [(), (0,), (1, 3), (0, 2, 4)])
def test_cumprod_with_zeros_is_exact(zeros: tuple[int, ...], reverse: bool, exclusive: bool) -> None:
    x = np.array([2.0, -3.0, 0.5, 4.0, -1.0])
    x[list(zeros)] = 0.0
    n = len(x)

    def members(k: int) -> list[int]:
        part = range(k + 1, n) if reverse and exclusive else range(k, n) if reverse else range(k + (not exclusive))
        return list(part)

    def without(k: int, *left_out: int) -> float:
        part = members(k)
        return float(np.prod([x[i] for i in part if i not in left_out])) if set(left_out) <= set(part) else 0.0

    def run(p: Any) -> Any:
        return ng.cumprod(p, reverse=reverse, exclusive=exclusive)

    assert_allclose(jacobian(run, x), [[without(k, j) for j in range(n)] for k in range(n)], rtol=1e-15, atol=0)
    weights = np.array([1.0, -2.0, 3.0, 0.5, 0.25])

    def slope(p: Any) -> Any:
        return ng.gradients(ng.sum(ng.multiply(run(p), weights)), [p])[0]

    second = [[sum(w * without(k, i, j) for k, w in enumerate(weights)) if i != j else 0.0 for j in range(n)]
              for i in range(n)]
    assert_allclose(jacobian(slope, x), second, rtol=1e-14, atol=0)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumsum_transposes_itself(reverse: bool, exclusive: bool) -> None:
    got = jacobian(lambda p: ng.cumsum(p, reverse=reverse, exclusive=exclusive), np.ones(4))
    lower = np.tri(4, k=-1 if exclusive else 0)
    assert_array_equal(got, lower.T if reverse else lower)


@pytest.mark.parametrize("shift", [0.0, 5000.0, -5000.0])
def test_logcumsumexp_against_mpmath(shift: float) -> None:
    x = np.array([0.3, -1.0, 40.0, -700.0, 41.0]) + shift
    exact = [mpmath.log(sum(mpmath.exp(mpmath.mpf(v)) for v in x[: k + 1])) for k in range(5)]
    assert_allclose(ng.logcumsumexp(x).numpy(), [float(e) for e in exact], rtol=1e-15)
    rows = [[float(mpmath.exp(x[j] - exact[k])) if j <= k else 0.0 for j in range(5)] for k in range(5)]
    assert_allclose(jacobian(ng.logcumsumexp, x), rows, rtol=1e-11, atol=1e-300)


def test_logcumsumexp_of_nothing_yet() -> None:
    x = np.array([-np.inf, -np.inf, 1.0, 1.0])
    assert_allclose(ng.logcumsumexp(x).numpy(), [-np.inf, -np.inf, 1.0, 1.0 + np.log(2.0)])
    assert_allclose(jacobian(ng.logcumsumexp, x), [[0] * 4, [0] * 4, [0, 0, 1, 0], [0, 0, 0.5, 0.5]])


def test_first_of_equal_extrema_takes_the_cotangent() -> None:
    x = np.array([1.0, 3.0, 3.0, 2.0])
    assert_array_equal(jacobian(ng.cummax, x), np.eye(4)[[0, 1, 1, 1]])
    assert_array_equal(jacobian(lambda p: ng.cummax(p, reverse=True), x), np.eye(4)[[2, 2, 2, 3]])


def run_kernel(name: str, arrays: list[Any], attrs: Any, cuts: list[float]) -> list[np.ndarray[Any, Any]]:
    """The outputs of an op's kernel, run in as many pieces of its range as there are cuts."""
    record = OPS[name]
    ins = [Spec(a.dtype, a.shape) for a in arrays]
    outs = record.infer(ins, attrs)
    library = record.library
    assert library is not None
    results = [np.full(s.shape, 77, s.dtype) for s in outs]
    scratch = [np.empty(int(count) + 1, dtype) for dtype, count in library.scratch(ins, outs, attrs)]
    table = np.array([a.ctypes.data for a in (*arrays, *results, *scratch)]
                     + [int(size) for size in library.sizes(ins, outs, attrs)], np.int64)
    built = build_library(library.name, tuple(np.dtype(d).name for d in library.dtypes(ins, outs, attrs)))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(built.address)
    span = int(library.span(ins, outs, attrs))
    places = [0, *(int(cut * span) for cut in cuts), span]
    for lo, hi in zip(places[:-1], places[1:], strict=True):
        call(table.ctypes.data, lo, hi)
    return results


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_agree_with_numpy_in_one_piece_and_in_three(name: str) -> None:
    record = OPS[name]
    assert record.samples is not None
    for arrays, attrs in record.samples(np.random.default_rng(0)):
        native = [np.array(a, a.dtype.newbyteorder("="), order="C") for a in map(np.asarray, arrays)]
        wanted = record.evaluate(*native, **attrs)
        for cuts in ([], [0.3, 0.7]):
            got = run_kernel(name, native, attrs, cuts)
            for mine, theirs in zip(got, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                accuracy = {"e": 2e-3, "f": 1e-6, "F": 1e-6, "d": 1e-14, "D": 1e-14}.get(mine.dtype.char, 0.0)
                assert_allclose(mine, theirs, rtol=accuracy, atol=accuracy, err_msg=f"{name} {attrs}")

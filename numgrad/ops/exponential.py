"""Exponentials and logarithms, and the smooth steps made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numgrad.graph.core import Tensor
from numgrad.ops.arithmetic import LN2, LN10, add, multiply, negative, reciprocal, subtract
from numgrad.ops.ufuncs import ufunc

__all__ = [
    "exp", "exp2", "expit", "expm1", "log", "log10", "log1p", "log2", "log_sigmoid", "logaddexp", "logaddexp2",
    "sigmoid", "softplus",
]

exp = ufunc(
    "exp",
    np.exp,
    "The exponential function.",
    "``e ** x``.",
    "ng.exp([0.0, 1.0]).numpy()",
    "array([1.        , 2.71828183])",
    partials=(lambda y, x: y,),
    dtypes="fc",
    domain=((-3.0, 3.0),),
)

# Its derivative is not 1 + y: that loses all digits where y is near -1.
expm1 = ufunc(
    "expm1",
    np.expm1,
    "The exponential function minus one, exact near zero.",
    "``e ** x - 1``.",
    "ng.expm1([0.0, 1e-20]).numpy()",
    "array([0.e+00, 1.e-20])",
    partials=(lambda y, x: exp(x),),
    dtypes="fc",
    domain=((-3.0, 3.0),),
)

exp2 = ufunc(
    "exp2",
    np.exp2,
    "The power of two.",
    "``2 ** x``.",
    "ng.exp2([0.0, 3.0]).numpy()",
    "array([1., 8.])",
    partials=(lambda y, x: multiply(y, LN2),),
    dtypes="fc",
    domain=((-3.0, 3.0),),
)

log = ufunc(
    "log",
    np.log,
    "The natural logarithm.",
    "``ln x``; -inf at 0 and NaN below, the principal branch of complex numbers.",
    "ng.log([1.0, 10.0]).numpy()",
    "array([0.        , 2.30258509])",
    partials=(lambda y, x: reciprocal(x),),
    dtypes="fc",
    domain=((0.2, 4.0),),
)

log1p = ufunc(
    "log1p",
    np.log1p,
    "The natural logarithm of one plus the argument, exact near zero.",
    "``ln(1 + x)``.",
    "ng.log1p([0.0, 1e-20]).numpy()",
    "array([0.e+00, 1.e-20])",
    partials=(lambda y, x: reciprocal(add(x, 1)),),
    dtypes="fc",
    domain=((-0.7, 3.0),),
)

log2 = ufunc(
    "log2",
    np.log2,
    "The logarithm to base two.",
    "``ln x / ln 2``.",
    "ng.log2([1.0, 8.0]).numpy()",
    "array([0., 3.])",
    partials=(lambda y, x: reciprocal(multiply(x, LN2)),),
    dtypes="fc",
    domain=((0.2, 4.0),),
)

log10 = ufunc(
    "log10",
    np.log10,
    "The logarithm to base ten.",
    "``ln x / ln 10``.",
    "ng.log10([1.0, 1000.0]).numpy()",
    "array([0., 3.])",
    partials=(lambda y, x: reciprocal(multiply(x, LN10)),),
    dtypes="fc",
    domain=((0.2, 4.0),),
)

logaddexp = ufunc(
    "logaddexp",
    np.logaddexp,
    "The logarithm of a sum of exponentials, without overflow.",
    "``ln(e**x + e**y)``.",
    "ng.logaddexp([0.0, 1000.0], [0.0, 1000.0]).numpy()",
    "array([6.93147181e-01, 1.00069315e+03])",
    partials=(lambda z, x, y: sigmoid(subtract(x, y)), lambda z, x, y: sigmoid(subtract(y, x))),
    dtypes="f",
)


def _share2(x: Tensor, y: Tensor) -> Tensor:
    return sigmoid(multiply(subtract(x, y), LN2))


logaddexp2 = ufunc(
    "logaddexp2",
    np.logaddexp2,
    "The base-two logarithm of a sum of powers of two, without overflow.",
    "``log2(2**x + 2**y)``.",
    "ng.logaddexp2([0.0, 3.0], [0.0, 3.0]).numpy()",
    "array([1., 4.])",
    partials=(lambda z, x, y: _share2(x, y), lambda z, x, y: _share2(y, x)),
    dtypes="f",
)

softplus = ufunc(
    "softplus",
    lambda x: np.logaddexp(x, x.dtype.type(0)),
    "The smooth ramp.",
    "``ln(1 + e**x)``, computed as ``max(x, 0) + log1p(exp(-abs(x)))``.",
    "ng.softplus([0.0, 1000.0]).numpy()",
    "array([6.93147181e-01, 1.00000000e+03])",
    like=np.cbrt,
    partials=(lambda y, x: sigmoid(x),),
    dtypes="f",
)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1, e) / (1 + e)


sigmoid: Callable[..., Tensor] = ufunc(
    "sigmoid",
    _sigmoid,
    "The logistic function.",
    "``1 / (1 + e**-x)``; its derivative is ``y * sigmoid(-x)``.",
    "ng.sigmoid([0.0, -1000.0]).numpy()",
    "array([0.5, 0. ])",
    like=np.cbrt,
    partials=(lambda y, x: multiply(y, sigmoid(negative(x))),),
    dtypes="f",
)

log_sigmoid = ufunc(
    "log_sigmoid",
    lambda x: -np.logaddexp(-x, x.dtype.type(0)),
    "The logarithm of the logistic function.",
    "``-ln(1 + e**-x)``; its derivative is ``sigmoid(-x)``.",
    "ng.log_sigmoid([0.0, -1000.0]).numpy()",
    "array([-6.93147181e-01, -1.00000000e+03])",
    like=np.cbrt,
    partials=(lambda y, x: sigmoid(negative(x)),),
    dtypes="f",
)

expit = sigmoid

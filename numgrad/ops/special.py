"""Special functions: error function, gamma function and its logarithmic derivatives, products with logarithms."""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.arithmetic import add, multiply, multiply_no_nan, negative, reciprocal, square
from numgrad.ops.exponential import exp
from numgrad.ops.ufuncs import as_floats, enter, ufunc

__all__ = ["digamma", "erf", "erfc", "erfinv", "gammaln", "lgamma", "polygamma", "psi", "xlog1py", "xlogy"]

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _scipy(name: str) -> Callable[..., Any]:
    def evaluate(*arrays: Any) -> Any:
        return getattr(importlib.import_module("scipy.special"), name)(*arrays)

    return evaluate


erf = ufunc(
    "erf",
    _scipy("erf"),
    "The error function.",
    "``2/sqrt(pi)`` times the integral of ``exp(-t*t)`` from 0 to x.",
    "ng.special.erf([0.0, 1.0]).numpy()",
    "array([0.        , 0.84270079])",
    like=np.cbrt,
    partials=(lambda y, x: multiply(exp(negative(square(x))), _TWO_OVER_ROOT_PI),),
    dtypes="f",
    public="special.erf",
)

erfc = ufunc(
    "erfc",
    _scipy("erfc"),
    "The complementary error function, exact in its tail.",
    "``1 - erf(x)``.",
    "ng.special.erfc([0.0, 10.0]).numpy()",
    "array([1.00000000e+00, 2.08848758e-45])",
    like=np.cbrt,
    partials=(lambda y, x: multiply(exp(negative(square(x))), -_TWO_OVER_ROOT_PI),),
    dtypes="f",
    public="special.erfc",
)

erfinv = ufunc(
    "erfinv",
    _scipy("erfinv"),
    "The inverse of the error function.",
    "The y with ``erf(y) = x``; infinite at -1 and 1, NaN beyond. Its derivative is ``sqrt(pi)/2 * exp(y*y)``.",
    "ng.special.erfinv([0.0, 0.5]).numpy()",
    "array([0.        , 0.47693628])",
    like=np.cbrt,
    partials=(lambda y, x: multiply(exp(square(y)), 1 / _TWO_OVER_ROOT_PI),),
    dtypes="f",
    public="special.erfinv",
    domain=((-0.9, 0.9),),
)

lgamma = ufunc(
    "lgamma",
    _scipy("gammaln"),
    "The logarithm of the absolute value of the gamma function.",
    "``ln abs(gamma(x))``; infinite at 0, -1, -2, ... Its derivative is `digamma`.",
    "ng.special.lgamma([1.0, 5.0]).numpy()",
    "array([0.        , 3.17805383])",
    like=np.cbrt,
    partials=(lambda y, x: digamma(x),),
    dtypes="f",
    public="special.lgamma",
    domain=((0.3, 5.0),),
)

digamma: Callable[..., Tensor] = ufunc(
    "digamma",
    _scipy("psi"),
    "The logarithmic derivative of the gamma function.",
    "``gamma'(x) / gamma(x)``. Its derivative is ``polygamma(1, x)``.",
    "ng.special.digamma([1.0, 2.0]).numpy()",
    "array([-0.57721566,  0.42278434])",
    like=np.cbrt,
    partials=(lambda y, x: apply("polygamma", x, n=1),),
    dtypes="f",
    public="special.digamma",
    domain=((0.3, 5.0),),
)


def _evaluate_polygamma(x: Any, n: int) -> Any:
    return _scipy("polygamma")(n, x)


enter(
    "polygamma",
    _evaluate_polygamma,
    np.cbrt,
    "The derivative of order n of the digamma function.",
    partials=(lambda y, x, n: apply("polygamma", x, n=n + 1),),
    dtypes="f",
    domain=((0.3, 5.0),),
    samples=lambda rng: [
        ((rng.uniform(0.3, 5.0, shape).astype(dtype),), {"n": n})
        for n in (0, 1, 2, 3)
        for shape in ((), (4,), (0,))
        for dtype in ("f8", "f4")
    ],
    public="special.polygamma",
)


def polygamma(n: int, x: Any, /) -> Tensor:
    """The derivative of order n of the digamma function.

    Parameters
    ----------
    n : int
        The order, a Python integer that is not negative; 0 is `digamma` itself.
    x : array_like
        Bool, integers, floats; any shape.

    Returns
    -------
    Tensor
        Floats of x's shape.

    Raises
    ------
    DtypeError
        For complex numbers, and for an order that is not a Python integer.
    ValueError
        For a negative order.

    Notes
    -----
    ``(-1)**(n + 1) * n! * sum over k >= 0 of 1 / (x + k)**(n + 1)`` for ``n >= 1``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.special.polygamma(1, [1.0, 2.0]).numpy()
    array([1.64493407, 0.64493407])
    """
    try:
        order = operator.index(n)
    except TypeError as error:
        raise DtypeError(f"polygamma: the order is {n!r}, wanted a Python integer{at(user_line())}") from error
    if order < 0:
        raise ValueError(f"polygamma: the order is {order}, wanted 0 or more{at(user_line())}")
    tensor = as_floats(x, "polygamma")
    return apply("polygamma", tensor, n=order) if order else digamma(tensor)


def _log_where_used(x: Tensor, y: Tensor, log: str, nothing: float) -> Tensor:
    """log y, and 0 where both x and the argument of the logarithm are 0: there x log y stays 0."""
    zero, at_pole, one = (as_tensor(np.asarray(v, y.dtype)) for v in (0, nothing, nothing + 1))
    both = apply("logical_and", apply("equal", x, zero), apply("equal", y, at_pole))
    return apply(log, apply("where", both, one, y))


xlogy = ufunc(
    "xlogy",
    _scipy("xlogy"),
    "The product with a logarithm, and 0 where the first factor is 0.",
    "``x * ln(y)``, 0 where x is 0 and y is not NaN. The partial derivatives are ``ln(y)`` and ``x / y``, taken as 0 "
    "where x and y are 0.",
    "ng.special.xlogy([0.0, 2.0], [0.0, 3.0]).numpy()",
    "array([0.        , 2.19722458])",
    like=np.arctan2,
    partials=(lambda z, x, y: _log_where_used(x, y, "log", 0.0), lambda z, x, y: multiply_no_nan(reciprocal(y), x)),
    dtypes="f",
    public="special.xlogy",
    domain=((-3.0, 3.0), (0.4, 3.0)),
)

xlog1py = ufunc(
    "xlog1py",
    _scipy("xlog1py"),
    "The product with the logarithm of one plus an array, and 0 where the first factor is 0.",
    "``x * ln(1 + y)``, 0 where x is 0 and y is not NaN. The partial derivatives are ``ln(1 + y)`` and ``x / (1 + "
    "y)``, taken as 0 where "
    "x and ``1 + y`` are 0.",
    "ng.special.xlog1py([0.0, 2.0], [-1.0, 2.0]).numpy()",
    "array([0.        , 2.19722458])",
    like=np.arctan2,
    partials=(
        lambda z, x, y: _log_where_used(x, y, "log1p", -1.0),
        lambda z, x, y: multiply_no_nan(reciprocal(add(y, 1)), x),
    ),
    dtypes="f",
    public="special.xlog1py",
    domain=((-3.0, 3.0), (-0.6, 3.0)),
)

gammaln, psi = lgamma, digamma

"""Trigonometric and hyperbolic functions, their inverses, and the plane's radius and angle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad.graph.core import Tensor, apply
from numgrad.ops.arithmetic import add, divide_no_nan, multiply, negative, reciprocal, rsqrt, square, subtract
from numgrad.ops.ufuncs import as_floats, convert, document, publish, ufunc

__all__ = [
    "acos", "acosh", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan",
    "atan2", "atanh", "cos", "cosh", "deg2rad", "degrees", "hypot", "rad2deg", "radians", "sin", "sinc", "sinh", "tan",
    "tanh",
]

sin = ufunc(
    "sin",
    np.sin,
    "The sine.",
    "``sin x``, x in radians.",
    "ng.sin([0.0, 1.0]).numpy()",
    "array([0.        , 0.84147098])",
    partials=(lambda y, x: cos(x),),
    dtypes="fc",
)

cos: Callable[..., Tensor] = ufunc(
    "cos",
    np.cos,
    "The cosine.",
    "``cos x``, x in radians.",
    "ng.cos([0.0, 1.0]).numpy()",
    "array([1.        , 0.54030231])",
    partials=(lambda y, x: negative(sin(x)),),
    dtypes="fc",
)

tan = ufunc(
    "tan",
    np.tan,
    "The tangent.",
    "``sin x / cos x``; its derivative is ``1 + y * y``.",
    "ng.tan([0.0, 1.0]).numpy()",
    "array([0.        , 1.55740772])",
    partials=(lambda y, x: add(square(y), 1),),
    dtypes="fc",
    domain=((-1.2, 1.2),),
)


def _arc(x: Tensor) -> Tensor:
    return multiply(rsqrt(subtract(1, x)), rsqrt(add(x, 1)))  # 1 - x*x would lose digits near the ends


asin = ufunc(
    "asin",
    np.arcsin,
    "The inverse sine.",
    "The angle in ``[-pi/2, pi/2]`` whose sine is x; NaN beyond ``[-1, 1]`` for floats.",
    "ng.asin([0.0, 1.0]).numpy()",
    "array([0.        , 1.57079633])",
    partials=(lambda y, x: _arc(x),),
    dtypes="fc",
    domain=((-0.8, 0.8),),
)

acos = ufunc(
    "acos",
    np.arccos,
    "The inverse cosine.",
    "The angle in ``[0, pi]`` whose cosine is x; NaN beyond ``[-1, 1]`` for floats.",
    "ng.acos([1.0, 0.0]).numpy()",
    "array([0.        , 1.57079633])",
    partials=(lambda y, x: negative(_arc(x)),),
    dtypes="fc",
    domain=((-0.8, 0.8),),
)

atan = ufunc(
    "atan",
    np.arctan,
    "The inverse tangent.",
    "The angle in ``[-pi/2, pi/2]`` whose tangent is x.",
    "ng.atan([0.0, 1.0]).numpy()",
    "array([0.        , 0.78539816])",
    partials=(lambda y, x: reciprocal(add(square(x), 1)),),
    dtypes="fc",
)

hypot = ufunc(
    "hypot",
    np.hypot,
    "The length of the hypotenuse, without overflow.",
    "``sqrt(x*x + y*y)``; its partial derivatives ``x / z`` and ``y / z`` are taken as 0 at the origin.",
    "ng.hypot([3.0, 3e200], [4.0, 4e200]).numpy()",
    "array([5.e+000, 5.e+200])",
    partials=(lambda z, x, y: divide_no_nan(x, z), lambda z, x, y: divide_no_nan(y, z)),
    dtypes="f",
    domain=((0.4, 3.0), (-3.0, 3.0)),
)


def _over_square(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """z / (x*x + y*y) without overflow, 0 at the origin."""
    radius = hypot(x, y)
    return divide_no_nan(divide_no_nan(z, radius), radius)


atan2 = ufunc(
    "atan2",
    np.arctan2,
    "The angle of the point (y, x) with the positive x axis.",
    "``atan(x / y)`` of the first operand x over the second y, in the quadrant of the point. The partial derivatives "
    "are "
    "``y / (x*x + y*y)`` and ``-x / (x*x + y*y)``, taken as 0 at the origin.",
    "ng.atan2([0.0, 1.0], [-1.0, 0.0]).numpy()",
    "array([3.14159265, 1.57079633])",
    partials=(lambda z, x, y: _over_square(x, y, y), lambda z, x, y: negative(_over_square(x, y, x))),
    dtypes="f",
    domain=((-3.0, 3.0), (0.4, 3.0)),
)

sinh = ufunc(
    "sinh",
    np.sinh,
    "The hyperbolic sine.",
    "``(e**x - e**-x) / 2``.",
    "ng.sinh([0.0, 1.0]).numpy()",
    "array([0.        , 1.17520119])",
    partials=(lambda y, x: cosh(x),),
    dtypes="fc",
    domain=((-3.0, 3.0),),
)

cosh: Callable[..., Tensor] = ufunc(
    "cosh",
    np.cosh,
    "The hyperbolic cosine.",
    "``(e**x + e**-x) / 2``.",
    "ng.cosh([0.0, 1.0]).numpy()",
    "array([1.        , 1.54308063])",
    partials=(lambda y, x: sinh(x),),
    dtypes="fc",
    domain=((-3.0, 3.0),),
)

tanh = ufunc(
    "tanh",
    np.tanh,
    "The hyperbolic tangent.",
    "``sinh x / cosh x``; its derivative is ``1 - y * y``.",
    "ng.tanh([0.0, 1.0]).numpy()",
    "array([0.        , 0.76159416])",
    partials=(lambda y, x: subtract(1, square(y)),),
    dtypes="fc",
)


def _asinh_partial(y: Tensor, x: Tensor) -> Tensor:
    # The root of 1 + x*x overflows for large floats, hypot does not.
    return rsqrt(add(square(x), 1)) if x.dtype.kind == "c" else reciprocal(hypot(x, 1))


asinh = ufunc(
    "asinh",
    np.arcsinh,
    "The inverse hyperbolic sine.",
    "``ln(x + sqrt(x*x + 1))``.",
    "ng.asinh([0.0, 1.0]).numpy()",
    "array([0.        , 0.88137359])",
    partials=(_asinh_partial,),
    dtypes="fc",
)

acosh = ufunc(
    "acosh",
    np.arccosh,
    "The inverse hyperbolic cosine.",
    "``ln(x + sqrt(x*x - 1))``; NaN below 1 for floats.",
    "ng.acosh([1.0, 2.0]).numpy()",
    "array([0.        , 1.3169579])",
    partials=(lambda y, x: multiply(rsqrt(subtract(x, 1)), rsqrt(add(x, 1))),),
    dtypes="fc",
    domain=((1.3, 4.0),),
)

atanh = ufunc(
    "atanh",
    np.arctanh,
    "The inverse hyperbolic tangent.",
    "``ln((1 + x) / (1 - x)) / 2``; NaN beyond ``[-1, 1]`` for floats.",
    "ng.atanh([0.0, 0.5]).numpy()",
    "array([0.        , 0.54930614])",
    partials=(lambda y, x: reciprocal(multiply(subtract(1, x), add(x, 1))),),
    dtypes="fc",
    domain=((-0.8, 0.8),),
)


def _angle_unit(name: str, factor: float, summary: str, mathematics: str, example: str, result: str) -> Any:
    def function(x: Any, /) -> Tensor:
        return multiply(as_floats(x, name), factor)

    return publish(
        function,
        name,
        document(
            summary, ("x",), "bool, integers, floats", "Of the dtype that NumPy gives", mathematics, example, result
        ),
    )


radians = deg2rad = _angle_unit(
    "deg2rad",
    math.pi / 180,
    "Angles in radians from degrees.",
    "``x * pi / 180``.",
    "ng.deg2rad([0.0, 180.0]).numpy()",
    "array([0.        , 3.14159265])",
)
degrees = rad2deg = _angle_unit(
    "rad2deg",
    180 / math.pi,
    "Angles in degrees from radians.",
    "``x * 180 / pi``.",
    "ng.rad2deg([0.0, 1.0]).numpy()",
    "array([ 0.        , 57.29577951])",
)

# sin(y)/y loses its derivatives' digits near 0, where the series in y*y has them all.
_SINC_SERIES = [(-1) ** k / math.factorial(2 * k + 1) for k in range(12)]


def sinc(x: Any, /) -> Tensor:
    """The normalised sinc function.

    Parameters
    ----------
    x : array_like
        Bool, integers, floats; any shape.

    Returns
    -------
    Tensor
        Floats of the operand's shape.

    Raises
    ------
    DtypeError
        For complex numbers.

    Notes
    -----
    ``sin(pi x) / (pi x)``, and 1 at 0; by its power series near 0, so that derivatives of any order are exact there.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.sinc([0.0, 0.5]).numpy()
    array([1.        , 0.63661977])
    """
    angle = multiply(as_floats(x, "sinc"), math.pi)
    squared = square(angle)
    series: Any = _SINC_SERIES[-1]
    for coefficient in reversed(_SINC_SERIES[:-1]):
        series = add(multiply(squared, series), coefficient)
    near = apply("less", squared, convert((1.0,), squared.dtype, "sinc")[0])
    return apply("where", near, series, divide_no_nan(sin(angle), angle))


arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh

"""Arithmetic: sums, products, quotients, remainders, roots and powers, and products that treat zero as nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to
from numgrad.ops.ufuncs import publish, strengths, ufunc
from numgrad.types import promote

__all__ = [
    "add", "cbrt", "divide", "divide_no_nan", "divmod", "float_power", "floor_divide", "fmod", "mod", "multiply",
    "multiply_no_nan", "negative", "positive", "pow", "power", "reciprocal", "remainder", "rsqrt", "sqrt", "square",
    "subtract", "true_divide",
]


add = ufunc(
    "add",
    np.add,
    "The sum of two arrays.",
    "``x + y``; the logical or of bools, as in NumPy.",
    "ng.add([1.0, 2.0], 3.0).numpy()",
    "array([4., 5.])",
    partials=(lambda z, x, y: 1, lambda z, x, y: 1),
)

subtract = ufunc(
    "subtract",
    np.subtract,
    "The difference of two arrays.",
    "``x - y``.",
    "ng.subtract([1.0, 2.0], 3.0).numpy()",
    "array([-2., -1.])",
    partials=(lambda z, x, y: 1, lambda z, x, y: -1),
    dtypes="iufc",
)

multiply = ufunc(
    "multiply",
    np.multiply,
    "The product of two arrays, element by element.",
    "``x * y``; the logical and of bools, as in NumPy.",
    "ng.multiply([1.0, 2.0], 3.0).numpy()",
    "array([3., 6.])",
    partials=(lambda z, x, y: y, lambda z, x, y: x),
)

def _by_divisor(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``-x / y**2``, by the quotient; that of ``1 / y`` takes no other division."""
    inverse = x.op is not None and x.op.type == "constant" and np.array_equal(x.op.attrs["value"], 1)
    return negative(square(z) if inverse else divide(z, y))


divide: Callable[..., Tensor] = ufunc(
    "divide",
    np.divide,
    "The quotient of two arrays.",
    "``x / y``; integers and bools give float64. Division by zero gives an infinity or NaN, as IEEE 754 says.",
    "ng.divide([1, 2], 4).numpy()",
    "array([0.25, 0.5 ])",
    partials=(lambda z, x, y: reciprocal(y), _by_divisor),
    dtypes="fc",
    domain=((-3.0, 3.0), (0.4, 3.0)),
)

floor_divide = ufunc(
    "floor_divide",
    np.floor_divide,
    "The largest whole number below the quotient.",
    "``floor(x / y)``, computed so that ``x = y * floor_divide(x, y) + remainder(x, y)``. An integer divided by zero "
    "is 0. "
    "There is no derivative.",
    "ng.floor_divide([7, -7], 2).numpy()",
    "array([ 3, -4])",
    dtypes="iuf",
    smooth=False,
    domain=((-9.0, 9.0), (0.4, 3.0)),
)

remainder = ufunc(
    "remainder",
    np.remainder,
    "The remainder of floor division, which has the divisor's sign.",
    "``x - y * floor(x / y)``, Python's ``%``. Where it is differentiable the partial derivatives are 1 and "
    "``-floor(x / y)``.",
    "ng.remainder([5.5, -5.5], 2.0).numpy()",
    "array([1.5, 0.5])",
    partials=(lambda z, x, y: 1, lambda z, x, y: negative(floor_divide(x, y))),
    dtypes="iuf",
    domain=((-9.0, 9.0), (2.0, 3.0)),
)

fmod = ufunc(
    "fmod",
    np.fmod,
    "The remainder of truncating division, which has the dividend's sign.",
    "``x - y * trunc(x / y)``, C's ``fmod``. Where it is differentiable the partial derivatives are 1 and ``-trunc(x "
    "/ y)``.",
    "ng.fmod([5.5, -5.5], 2.0).numpy()",
    "array([ 1.5, -1.5])",
    partials=(lambda z, x, y: 1, lambda z, x, y: negative(apply("trunc", divide(x, y)))),
    dtypes="iuf",
    domain=((-9.0, 9.0), (2.0, 3.0)),
)

negative: Callable[..., Tensor] = ufunc(
    "negative",
    np.negative,
    "The negation of an array.",
    "``-x``; of unsigned integers modulo ``2**bits``.",
    "ng.negative([1.0, -2.0]).numpy()",
    "array([-1.,  2.])",
    partials=(lambda y, x: -1,),
    dtypes="iufc",
)

positive = ufunc(
    "positive",
    np.positive,
    "An array itself, as a node of its own.",
    "``+x``.",
    "ng.positive([1.0, -2.0]).numpy()",
    "array([ 1., -2.])",
    partials=(lambda y, x: 1,),
    dtypes="iufc",
)

square = ufunc(
    "square",
    np.square,
    "The square of an array.",
    "``x * x``.",
    "ng.square([1.0, -3.0]).numpy()",
    "array([1., 9.])",
    partials=(lambda y, x: multiply(x, 2),),
    dtypes="iufc",
)

sqrt = ufunc(
    "sqrt",
    np.sqrt,
    "The principal square root.",
    "``x ** (1/2)``; NaN for negative floats. The derivative is infinite at 0.",
    "ng.sqrt([4.0, 9.0]).numpy()",
    "array([2., 3.])",
    partials=(lambda y, x: divide(0.5, y),),
    dtypes="fc",
    domain=((0.2, 4.0),),
)

rsqrt = ufunc(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    "The reciprocal of the square root.",
    "``x ** (-1/2)``; infinite at 0.",
    "ng.rsqrt([4.0, 16.0]).numpy()",
    "array([0.5 , 0.25])",
    like=np.sqrt,
    partials=(lambda y, x: multiply(multiply(y, y), multiply(y, -0.5)),),
    dtypes="fc",
    domain=((0.2, 4.0),),
)

cbrt = ufunc(
    "cbrt",
    np.cbrt,
    "The real cube root.",
    "``sign(x) * abs(x) ** (1/3)``. The derivative is infinite at 0.",
    "ng.cbrt([8.0, -27.0]).numpy()",
    "array([ 2., -3.])",
    partials=(lambda y, x: reciprocal(multiply(square(y), 3)),),
    dtypes="f",
    domain=((0.2, 4.0),),
)

reciprocal: Callable[..., Tensor] = ufunc(
    "reciprocal",
    np.reciprocal,
    "The reciprocal.",
    "``1 / x``; of integers the whole part, as in NumPy.",
    "ng.reciprocal([2.0, -4.0]).numpy()",
    "array([ 0.5 , -0.25])",
    partials=(lambda y, x: negative(square(y)),),
    dtypes="iufc",
    domain=((0.4, 3.0),),
)


def fixed_number(tensor: Tensor) -> Any:
    """The value of a scalar constant as a Python number; None for any other tensor."""
    value = tensor._value if tensor.op is None else tensor.op.attrs.get("value")
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else None


def _power_by_base(z: Tensor, x: Tensor, y: Tensor) -> Any:
    exponent = fixed_number(y)
    if exponent is None:
        # Where the exponent is 0 the power is 1 everywhere, also at 0, where 0 * x**-1 would be NaN.
        return multiply_no_nan(apply("power", x, subtract(y, 1)), y)
    if exponent == 0:
        return 0
    return 1 if exponent == 1 else multiply(power(x, exponent - 1), exponent)


def _power_by_exponent(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return multiply_no_nan(apply("log", x), z)  # 0 at x = 0 for y > 0, the limit of x**y * log(x)


_general_power = ufunc(
    "power",
    np.power,
    "The power of an array.",
    "``x ** y``; the power 0 gives 1, and its derivative by x is 0 also at ``x = 0``. The derivative by y is ``x**y * "
    "log(x)``, and 0 at "
    "``x = 0`` for a positive y. Integers must not have negative exponents. A Python exponent 1, 2 or -1 "
    "gives `positive`, `square` or `reciprocal`.",
    "ng.power([2.0, 3.0], 3).numpy()",
    "array([ 8., 27.])",
    partials=(_power_by_base, _power_by_exponent),
    fixed=True,
    dtypes="iufc",
    domain=((0.4, 3.0), (-2.0, 3.0)),
    samples=lambda rng: [
        ((np.array(b, dtype), np.array(e, dtype)), {})
        for dtype in ("i4", "i8", "u1")
        for b, e in (([0, 1, 3, 2], [0, 5, 4, 7]), (3, [1, 2, 3]))
    ],
)


def _power(x: Any, y: Any, /) -> Tensor:
    if isinstance(y, (int, float)) and not isinstance(y, (bool, np.generic)) and y in _SIMPLE_POWERS:
        made, strength = strengths((x,))
        if (
            isinstance(made[0], Tensor)
            and made[0].dtype == promote(made[0].dtype, y)
            and (y > 0 or made[0].dtype.kind in "fc")
        ):
            return _SIMPLE_POWERS[y](made[0])
    return _general_power(x, y)


power = publish(_power, "power", _general_power.__doc__ or "", _general_power.record)  # type: ignore[attr-defined]
_SIMPLE_POWERS: dict[float, Callable[..., Tensor]] = {1: positive, 2: square, -1: reciprocal}


def float_power(x: Any, y: Any, /) -> Tensor:
    """The power of an array, computed in at least float64.

    Parameters
    ----------
    x, y : array_like
        Numbers; shapes that broadcast.

    Returns
    -------
    Tensor
        Float64, or complex128 for complex operands, of the broadcast shape.

    Raises
    ------
    ShapeError
        When the shapes do not broadcast.

    Notes
    -----
    ``x ** y``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.float_power([2, 4], -1).numpy()
    array([0.5 , 0.25])
    """
    base = as_tensor(x)
    return power(cast_to(base, promote(base.dtype, np.float64)), y)


def divmod(x: Any, y: Any, /) -> tuple[Tensor, Tensor]:
    """The floor quotient and the remainder of two arrays.

    Parameters
    ----------
    x, y : array_like
        Integers or floats; shapes that broadcast.

    Returns
    -------
    tuple of Tensor
        ``floor_divide(x, y)`` and ``remainder(x, y)``.

    Raises
    ------
    DtypeError
        For complex numbers.
    ShapeError
        When the shapes do not broadcast.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.divmod(7, 2)
    (ng.asarray(3, dtype=int64), ng.asarray(1, dtype=int64))
    """
    return floor_divide(x, y), remainder(x, y)


divide_no_nan: Callable[..., Tensor] = ufunc(
    "divide_no_nan",
    lambda x, y: np.where(y == 0, np.zeros((), y.dtype), x / y),
    "The quotient, and 0 where the divisor is 0.",
    "``x / y`` where ``y != 0``, else 0, whatever x is. The derivatives are 0 where y is 0.",
    "ng.divide_no_nan([1.0, 1.0], [2.0, 0.0]).numpy()",
    "array([0.5, 0. ])",
    like=np.divide,
    dtypes="fc",
    partials=(lambda z, x, y: divide_no_nan(1, y), lambda z, x, y: negative(divide_no_nan(z, y))),
    domain=((-3.0, 3.0), (0.4, 3.0)),
    masks=True,
)


def _vjp_multiply_no_nan(op: Operation, cts: Sequence[Any]) -> list[Tensor | None]:
    (x, w), (ct,) = op.inputs, cts
    return [apply("multiply_no_nan", ct, _conjugate(w)), apply("multiply_no_nan", _conjugate(x), ct)]


def _jvp_multiply_no_nan(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    (x, w), (tx, tw) = op.inputs, tangents
    parts = [apply("multiply_no_nan", a, b) for a, b in ((tx, w), (x, tw)) if a is not None and b is not None]
    return [parts[0] if len(parts) == 1 else apply("add", *parts)]


def _conjugate(tensor: Tensor) -> Tensor:
    return apply("conj", tensor) if tensor.dtype.kind == "c" else tensor


multiply_no_nan = ufunc(
    "multiply_no_nan",
    lambda x, w: np.where(w == 0, np.zeros((), x.dtype), x * w),
    "The product, and 0 where the second factor is 0.",
    "``x * w`` where ``w != 0``, else 0, also where x is infinite or NaN.",
    "ng.multiply_no_nan([2.0, float('inf')], [3.0, 0.0]).numpy()",
    "array([6., 0.])",
    like=np.multiply,
    dtypes="fc",
    vjp=_vjp_multiply_no_nan,
    jvp=_jvp_multiply_no_nan,
    masks=True,
    instead=dict.fromkeys("biu", multiply),
    names=("x", "w"),
)

mod = remainder
pow = power
true_divide = divide

LN2 = math.log(2.0)
LN10 = math.log(10.0)

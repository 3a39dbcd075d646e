"""Choosing between values: where, minimum and maximum, clipping, rounding, and what lies next to a number."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.comparison import (
    equal,
    greater,
    greater_equal,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
)
from numgrad.ops.complex import sign
from numgrad.ops.kinds import cast_to
from numgrad.ops.ufuncs import convert, document, enter, loop_dtype, publish, strengths, ufunc
from numgrad.types import Spec, broadcast_shapes, promote

__all__ = [
    "around", "ceil", "clip", "copysign", "floor", "fmax", "fmin", "heaviside", "maximum", "minimum", "nan_to_num",
    "nextafter", "rint", "round", "trunc", "where",
]

_ALL = "bool, integers, floats, complex numbers"


# -- where
def _infer_where(specs: Sequence[Spec], attrs: Any) -> tuple[Spec, ...]:
    condition, x, y = specs
    if condition.dtype.kind != "b" or x.dtype != y.dtype:
        raise DtypeError(
            f"where: got {condition.dtype}, {x.dtype} and {y.dtype}, wanted bool and two of one dtype{at(user_line())}"
        )
    return (Spec(x.dtype, broadcast_shapes([s.shape for s in specs], "where")),)


def _vjp_where(op: Operation, cts: Sequence[Any]) -> list[Tensor | None]:
    (condition, _, _), (ct,) = op.inputs, cts
    zero = as_tensor(np.zeros((), ct.dtype))
    return [None, apply("where", condition, ct, zero), apply("where", condition, zero, ct)]


def _jvp_where(op: Operation, tangents: Sequence[Any]) -> list[Tensor | None]:
    _, tx, ty = tangents
    zero = as_tensor(np.zeros((), op.outputs[0].dtype))
    chosen = apply("where", op.inputs[0], tx if tx is not None else zero, ty if ty is not None else zero)
    shape = op.outputs[0].spec.shape
    return [apply("broadcast_to", chosen, shape=shape) if chosen.ndim < len(shape) else chosen]


def _where_samples(rng: Any) -> list[Any]:
    shapes = (((3, 2), (3, 2), (3, 2)), ((3, 1), (2,), ()), ((), (), ()), ((0,), (1,), ()))
    return [
        ((rng.random(c) < 0.5, rng.normal(size=a).astype(dtype), rng.normal(size=b).astype(dtype)), {})
        for dtype in ("f8", "f4", "c16", "i4", "?")
        for c, a, b in shapes
    ]


_where_record = enter(
    "where",
    np.where,
    np._core.umath.clip,  # type: ignore[attr-defined]
    "Elements of one array or another, by a condition.",
    infer=_infer_where,
    vjp=_vjp_where,
    jvp=_jvp_where,
    masks=True,
    samples=_where_samples,
)


def _where(condition: Any, x: Any = None, y: Any = None, /) -> Tensor:
    if x is None or y is None:
        raise DtypeError(
            f"where: got a condition alone; the number of true elements is known only from values. Give both "
            f"alternatives, or use ng.nonzero of an eager array{at(user_line())}"
        )
    made, strength = strengths((x, y))
    return apply(
        "where",
        cast_to(as_tensor(condition), np.bool_),
        *convert(made, promote(*(t(0) if isinstance(t, type) else t for t in strength)), "where"),
    )


where = publish(
    _where,
    "where",
    document(
        "Elements of one array or another, by a condition.",
        ("condition", "x", "y"),
        _ALL,
        "Of the promoted dtype of x and y",
        "``x`` where the condition is true, else ``y``. What was not chosen gets a zero derivative, and infinities or "
        "NaN in its derivative do not leak.",
        "ng.where([True, False], [1.0, 2.0], 0.0).numpy()",
        "array([1., 0.])",
    ),
    _where_record,
)


# -- smaller and larger
def chosen_by(*masks: Callable[..., Tensor]) -> dict[str, Any]:
    """The derivative rules of an op whose output is, element by element, one of its inputs.

    ``masks[i](y, *inputs)`` tells where input i is the output. Cotangents and tangents are selected, not multiplied,
    so that an infinite one does no harm where it takes no part.
    """

    def vjp(op: Operation, cotangents: Sequence[Any]) -> list[Tensor | None]:
        return [where(mask(op.outputs[0], *op.inputs), cotangents[0], 0) for mask in masks]

    def jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        total: Tensor | None = None
        for mask, tangent in zip(masks, tangents, strict=True):
            if tangent is not None:
                part = where(mask(op.outputs[0], *op.inputs), tangent, 0)
                total = part if total is None else apply("add", total, part)
        return [total]

    return {"vjp": vjp, "jvp": jvp, "masks": True}


def _extremum(
    name: str, numpy: np.ufunc, wins: Callable[..., Tensor], summary: str, result: str
) -> Callable[..., Tensor]:
    """`wins(x, y)` tells where the first is at least as good, so that it takes ties."""
    ignoring = name.startswith("f")  # fmin and fmax give the number where the other is NaN

    def first(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return logical_or(wins(x, y), isnan(y if ignoring else x))

    def second(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return logical_not(first(z, x, y))

    notes = "NaN is ignored where the other is a number." if ignoring else "NaN where one of both is NaN."
    notes += " The whole derivative goes to the one that was chosen, and to the first of two equal ones."
    return ufunc(name, numpy, summary, notes, f"ng.{name}([1.0, 5.0], 3.0).numpy()", result, **chosen_by(first, second))


maximum = _extremum(
    "maximum", np.maximum, greater_equal, "The larger of two arrays, element by element.", "array([3., 5.])"
)
minimum = _extremum(
    "minimum", np.minimum, less_equal, "The smaller of two arrays, element by element.", "array([1., 3.])"
)
fmax = _extremum("fmax", np.fmax, greater_equal, "The larger of two arrays, ignoring NaN.", "array([3., 5.])")
fmin = _extremum("fmin", np.fmin, less_equal, "The smaller of two arrays, ignoring NaN.", "array([1., 3.])")


def _inside(y: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    return logical_not(logical_or(less(x, lo), greater(x, hi)))


def _below(y: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    return logical_and(less(x, lo), less_equal(lo, hi))


def _above(y: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    return logical_or(greater(x, hi), logical_and(less(x, lo), greater(lo, hi)))


_clip = ufunc(
    "clip",
    np._core.umath.clip,  # type: ignore[attr-defined]
    "Values limited to an interval.",
    "",
    "",
    "",
    **chosen_by(_inside, _below, _above),
    domain=((-3.0, 3.0), (-1.5, -0.5), (0.5, 1.5)),
)


def clip(x: Any, lo: Any = None, hi: Any = None, /, *, min: Any = None, max: Any = None) -> Tensor:
    """Values limited to an interval.

    Parameters
    ----------
    x, lo, hi : array_like
        Numbers; shapes that broadcast. None for a bound means no bound; `min` and `max` are other names for the bounds.

    Returns
    -------
    Tensor
        Of the dtype that NumPy gives, of the broadcast shape.

    Raises
    ------
    TypeError
        For a bound that is given twice.
    ShapeError
        When the shapes do not broadcast.

    Notes
    -----
    ``minimum(maximum(x, lo), hi)``. The derivative by x is 1 inside and at both ends, 0 outside.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.clip([-1.0, 0.5, 2.0], 0.0, 1.0).numpy()
    array([0. , 0.5, 1. ])
    """
    if (lo is not None and min is not None) or (hi is not None and max is not None):
        raise TypeError(f"clip: a bound is given twice{at(user_line())}")
    lower, upper = (lo if min is None else min), (hi if max is None else max)
    if lower is None:
        return minimum(x, upper) if upper is not None else as_tensor(x)
    return maximum(x, lower) if upper is None else _clip(x, lower, upper)


# -- whole numbers
def _rounding(name: str, numpy: np.ufunc, summary: str, notes: str, result: str) -> Callable[..., Tensor]:
    notes += " Integers are themselves. There is no derivative."
    return ufunc(
        name,
        numpy,
        summary,
        notes,
        f"ng.{name}([-1.5, 0.5, 2.7]).numpy()",
        result,
        dtypes="f",
        smooth=False,
        instead=dict.fromkeys("biu", as_tensor),
        like=np.floor,
    )


floor = _rounding(
    "floor", np.floor, "The largest whole number that is not above.", "``max of n <= x``.", "array([-2.,  0.,  2.])"
)
ceil = _rounding(
    "ceil", np.ceil, "The smallest whole number that is not below.", "``min of n >= x``.", "array([-1.,  1.,  3.])"
)
trunc = _rounding("trunc", np.trunc, "The whole part.", "The next whole number towards 0.", "array([-1.,  0.,  2.])")

enter("round", np.rint, np.rint, "The nearest whole number, halves to the even one.", dtypes="fc", smooth=False)


def rint(x: Any, /) -> Tensor:
    """The nearest whole number, as a float.

    Parameters
    ----------
    x : array_like
        Numbers; any shape.

    Returns
    -------
    Tensor
        Floats or complex numbers of the operand's shape.

    Notes
    -----
    Halves go to the even neighbour. There is no derivative.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.rint([0.5, 1.5, -2.7]).numpy()
    array([ 0.,  2., -3.])
    """
    made, strength = strengths((x,))
    return apply("round", *convert(made, loop_dtype(np.rint, strength, "rint", "fc"), "rint"))


def round(x: Any, /, decimals: int = 0) -> Tensor:
    """Values rounded to a number of decimals, halves to the even neighbour.

    Parameters
    ----------
    x : array_like
        Numbers; any shape.
    decimals : int
        A Python integer; negative ones round to tens, hundreds, ...

    Returns
    -------
    Tensor
        Of the operand's dtype and shape; of bools float16, as in NumPy.

    Notes
    -----
    ``rint(x * 10**decimals) / 10**decimals``. There is no derivative.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.round([0.5, 1.5, 2.346], 2).numpy()
    array([0.5 , 1.5 , 2.35])
    """
    tensor = as_tensor(x)
    if tensor.dtype.kind == "b":
        return rint(tensor)
    if tensor.dtype.kind in "iu":
        return tensor if decimals >= 0 else cast_to(_rounded(cast_to(tensor, np.float64), decimals), tensor.dtype)
    return _rounded(tensor, decimals)


def _rounded(tensor: Tensor, decimals: int) -> Tensor:
    if decimals == 0:
        return apply("round", tensor)
    if tensor.dtype.kind == "c":  # a complex quotient would round once more
        return apply("make_complex", *(_rounded(apply(part, tensor), decimals) for part in ("real", "imag")))
    (scale,) = convert((10.0 ** builtins.abs(decimals),), tensor.dtype, "round")
    first, last = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")
    return apply(last, apply("round", apply(first, tensor, scale)), scale)


# -- signs, steps and neighbours
copysign: Callable[..., Tensor] = ufunc(
    "copysign",
    np.copysign,
    "The size of one array with the sign of another.",
    "``abs(x) * sign(y)``, with the sign bit of y, also of -0.0 and NaN. The derivative by x is ``sign(x) * "
    "sign(y)``, by y it is 0.",
    "ng.copysign([1.0, -2.0], [-0.0, 3.0]).numpy()",
    "array([-1.,  2.])",
    partials=(lambda z, x, y: apply("multiply", sign(x), copysign(1, y)), lambda z, x, y: 0),
    dtypes="f",
    domain=((0.4, 3.0), (0.4, 3.0)),
)

heaviside = ufunc(
    "heaviside",
    np.heaviside,
    "The unit step.",
    "0 for ``x < 0``, 1 for ``x > 0`` and y at 0. The derivative by x is 0, by y it is 1 where x is 0.",
    "ng.heaviside([-1.0, 0.0, 2.0], 0.5).numpy()",
    "array([0. , 0.5, 1. ])",
    partials=(lambda z, x, y: 0, lambda z, x, y: cast_to(equal(x, 0), y.dtype)),
    dtypes="f",
    domain=((0.4, 3.0), (-3.0, 3.0)),
)

nextafter = ufunc(
    "nextafter",
    np.nextafter,
    "The next float towards another.",
    "The neighbour of x on the side of y. The derivative is 1 by x and 0 by y.",
    "(ng.nextafter(1.0, 2.0) - 1.0).numpy()",
    "array(2.22044605e-16)",
    partials=(lambda z, x, y: 1, lambda z, x, y: 0),
    dtypes="f",
    domain=((0.4, 3.0), (0.4, 3.0)),
)


def nan_to_num(x: Any, /, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN and infinities replaced by numbers.

    Parameters
    ----------
    x : array_like
        Numbers; any shape.
    nan : float
        What replaces NaN.
    posinf, neginf : float, optional
        What replaces the infinities; the dtype's largest and smallest finite numbers by default.

    Returns
    -------
    Tensor
        Of the operand's dtype and shape.

    Notes
    -----
    Parts of complex numbers are replaced separately. Replaced elements have a zero derivative.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nan_to_num([1.0, float("nan"), float("inf")], posinf=9.0).numpy()
    array([1., 0., 9.])
    """
    tensor = as_tensor(x)
    if tensor.dtype.kind not in "fc":
        return tensor
    if tensor.dtype.kind == "c":
        return apply(
            "make_complex", *(nan_to_num(apply(part, tensor), nan, posinf, neginf) for part in ("real", "imag"))
        )
    limits = np.finfo(tensor.dtype)
    for special, value in (
        (np.inf, limits.max if posinf is None else posinf),
        (-np.inf, limits.min if neginf is None else neginf),
    ):
        tensor = where(equal(tensor, special), float(value), tensor)
    return where(isnan(tensor), nan, tensor)


around = round

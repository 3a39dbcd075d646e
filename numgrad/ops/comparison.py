"""Comparisons, logical and bitwise functions, and tests for special values; none of them has a derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to
from numgrad.ops.ufuncs import convert, loop_dtype, publish, strengths, ufunc

__all__ = [
    "allclose", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "equal", "greater", "greater_equal", "invert", "isclose", "isfinite",
    "isinf", "isnan", "left_shift", "less", "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor",
    "not_equal", "right_shift", "signbit",
]

_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)


def _comparison(name: str, numpy: np.ufunc, summary: str, sign: str, result: str) -> Callable[..., Tensor]:
    """A comparison that is exact, as NumPy's are, for int64 with uint64 and for Python integers that do not fit."""
    notes = f"``x {sign} y``; NaN {'differs from everything' if name == 'not_equal' else 'never compares true'}."
    if "equal" not in name.split("_")[0] and name != "not_equal":
        notes += " Complex numbers are ordered by real part, then by imaginary part, as in NumPy."
    plain = ufunc(name, numpy, summary, notes, f"ng.{name}([1, 2, 3], 2).numpy()", result, out="bool")

    def function(x: Any, y: Any, /) -> Tensor:
        made, strength = strengths((x, y))
        tensors = [value if isinstance(value, Tensor) else None for value in made]
        for i, (value, other) in enumerate(zip(made, reversed(tensors), strict=True)):
            if type(value) is int and other is not None and other.dtype.kind in "iu" and not _fits(value, other.dtype):
                beyond = np.asarray(np.inf if value > 0 else -np.inf)
                both = (beyond, cast_to(other, np.float64))
                return plain(*both) if i == 0 else plain(*reversed(both))
        if {_INT64, _UINT64} == set(strength):
            assert tensors[0] is not None and tensors[1] is not None
            return _mixed_sign(name, tensors[0], tensors[1])
        return plain(x, y)

    return publish(function, name, plain.__doc__ or "", plain.record)  # type: ignore[attr-defined]


def _fits(value: int, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max)


def _mixed_sign(name: str, x: Tensor, y: Tensor) -> Tensor:
    """int64 against uint64: a negative one is decided by its sign, the others as uint64."""
    signed = x if x.dtype == _INT64 else y
    negative = apply("less", signed, as_tensor(np.zeros((), _INT64)))
    below = name in (("less", "less_equal", "not_equal") if signed is x else ("greater", "greater_equal", "not_equal"))
    as_unsigned = apply(name, cast_to(x, _UINT64), cast_to(y, _UINT64))
    if below:
        return apply("logical_or", negative, as_unsigned)
    return apply("logical_and", apply("logical_not", negative), as_unsigned)


equal = _comparison(
    "equal", np.equal, "Whether two arrays are equal, element by element.", "==", "array([False,  True, False])"
)
not_equal = _comparison(
    "not_equal", np.not_equal, "Whether two arrays differ, element by element.", "!=", "array([ True, False,  True])"
)
less = _comparison(
    "less", np.less, "Whether the first is smaller, element by element.", "<", "array([ True, False, False])"
)
less_equal = _comparison(
    "less_equal",
    np.less_equal,
    "Whether the first is smaller or equal, element by element.",
    "<=",
    "array([ True,  True, False])",
)
greater = _comparison(
    "greater", np.greater, "Whether the first is larger, element by element.", ">", "array([False, False,  True])"
)
greater_equal = _comparison(
    "greater_equal",
    np.greater_equal,
    "Whether the first is larger or equal, element by element.",
    ">=",
    "array([False,  True,  True])",
)


def _logical(name: str, numpy: np.ufunc, summary: str, example: str, result: str) -> Callable[..., Tensor]:
    return ufunc(
        name,
        numpy,
        summary,
        "Other dtypes count as true where they are not zero; NaN is true.",
        example,
        result,
        out="bool",
    )


logical_and = _logical(
    "logical_and",
    np.logical_and,
    "Whether both are true.",
    "ng.logical_and([True, True], [True, False]).numpy()",
    "array([ True, False])",
)
logical_or = _logical(
    "logical_or",
    np.logical_or,
    "Whether one of both is true.",
    "ng.logical_or([True, False], [False, False]).numpy()",
    "array([ True, False])",
)
logical_xor = _logical(
    "logical_xor",
    np.logical_xor,
    "Whether exactly one of both is true.",
    "ng.logical_xor([True, True], [True, False]).numpy()",
    "array([False,  True])",
)
logical_not = _logical(
    "logical_not",
    np.logical_not,
    "Whether it is not true.",
    "ng.logical_not([True, False]).numpy()",
    "array([False,  True])",
)


def _bitwise(name: str, numpy: np.ufunc, summary: str, notes: str, example: str, result: str) -> Callable[..., Tensor]:
    return ufunc(name, numpy, summary, notes, example, result, dtypes="biu")


def _shift(name: str, numpy: np.ufunc, summary: str, notes: str, example: str, result: str) -> Callable[..., Tensor]:
    return ufunc(name, numpy, summary, notes, example, result, dtypes="iu", samples=_shift_samples)


def _shift_samples(rng: Any) -> list[Any]:
    return [
        ((np.array([1, -7, 100], dtype), np.array(counts, dtype)), {})
        for dtype in ("i1", "i4", "i8")
        for counts in ([0, 1, 3], [7, 2, 5], [64, 31, 8])
    ]


bitwise_and = _bitwise(
    "bitwise_and",
    np.bitwise_and,
    "The bits that are set in both.",
    "``x & y``; the logical and of bools.",
    "ng.bitwise_and(12, 10).numpy()",
    "array(8)",
)
bitwise_or = _bitwise(
    "bitwise_or",
    np.bitwise_or,
    "The bits that are set in one of both.",
    "``x | y``; the logical or of bools.",
    "ng.bitwise_or(12, 10).numpy()",
    "array(14)",
)
bitwise_xor = _bitwise(
    "bitwise_xor",
    np.bitwise_xor,
    "The bits that are set in exactly one of both.",
    "``x ^ y``; exclusive or of bools.",
    "ng.bitwise_xor(12, 10).numpy()",
    "array(6)",
)
bitwise_invert = _bitwise(
    "bitwise_invert",
    np.bitwise_invert,
    "All bits flipped.",
    "``~x``; logical not of bools.",
    "ng.bitwise_invert(12).numpy()",
    "array(-13)",
)
bitwise_left_shift = _shift(
    "bitwise_left_shift",
    np.bitwise_left_shift,
    "Bits moved to the left.",
    "``x * 2**y`` modulo the dtype's range; 0 for counts beyond its width.",
    "ng.bitwise_left_shift(3, 2).numpy()",
    "array(12)",
)
bitwise_right_shift = _shift(
    "bitwise_right_shift",
    np.bitwise_right_shift,
    "Bits moved to the right.",
    "``floor(x / 2**y)``; 0 or -1 for counts beyond the dtype's width.",
    "ng.bitwise_right_shift(12, 2).numpy()",
    "array(3)",
)


def _special(name: str, numpy: np.ufunc, summary: str, notes: str, result: str) -> Callable[..., Tensor]:
    return ufunc(
        name, numpy, summary, notes, f"ng.{name}([1.0, float('inf'), float('nan')]).numpy()", result, out="bool"
    )


isnan = _special(
    "isnan",
    np.isnan,
    "Whether it is not a number.",
    "True for NaN, and where a part of a complex number is NaN.",
    "array([False, False,  True])",
)
isinf = _special(
    "isinf",
    np.isinf,
    "Whether it is infinite.",
    "True for both infinities, and where a part of a complex number is infinite.",
    "array([False,  True, False])",
)
isfinite = _special(
    "isfinite",
    np.isfinite,
    "Whether it is finite.",
    "True for what is neither infinite nor NaN.",
    "array([ True, False, False])",
)

signbit = ufunc(
    "signbit",
    np.signbit,
    "Whether the sign bit is set.",
    "True for negative numbers, -0.0 and NaN with a sign.",
    "ng.signbit([1.0, -0.0]).numpy()",
    "array([False,  True])",
    out="bool",
    dtypes="f",
)


def isclose(x: Any, y: Any, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether two arrays agree within a tolerance, element by element.

    Parameters
    ----------
    x, y : array_like
        Numbers; shapes that broadcast.
    rtol, atol : float
        Relative (to y) and absolute tolerance.
    equal_nan : bool
        Whether two NaNs agree.

    Returns
    -------
    Tensor
        Of bools, of the broadcast shape.

    Raises
    ------
    ShapeError
        When the shapes do not broadcast.

    Notes
    -----
    ``abs(x - y) <= atol + rtol * abs(y)`` for a finite y, and ``x == y``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.isclose([1.0, 1.0], [1.0 + 1e-9, 1.1]).numpy()
    array([ True, False])
    """
    made, strength = strengths((x, y))
    dtype = loop_dtype(np.divide, strength, "isclose", "fc")
    a, b = convert(made, dtype, "isclose")
    size = apply("abs", b)
    bound = apply(
        "add",
        apply("multiply", *convert((rtol, size), size.dtype, "isclose")),
        *convert((atol,), size.dtype, "isclose"),
    )
    near = apply("logical_and", less_equal(apply("abs", apply("subtract", a, b)), bound), isfinite(b))
    result = apply("logical_or", near, equal(a, b))
    return apply("logical_or", result, apply("logical_and", isnan(a), isnan(b))) if equal_nan else result


def allclose(x: Any, y: Any, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether two arrays agree within a tolerance everywhere.

    Parameters
    ----------
    x, y : array_like
        Numbers; shapes that broadcast.
    rtol, atol : float
        Relative (to y) and absolute tolerance.
    equal_nan : bool
        Whether two NaNs agree.

    Returns
    -------
    Tensor
        A scalar bool.

    Raises
    ------
    ShapeError
        When the shapes do not broadcast.

    Examples
    --------
    >>> import numgrad as ng
    >>> bool(ng.allclose([1.0, 2.0], [1.0, 2.0 + 1e-9]))
    True
    """
    close = isclose(x, y, rtol, atol, equal_nan)
    return apply("all", close, axes=tuple(range(close.ndim)))


invert = bitwise_not = bitwise_invert
left_shift, right_shift = bitwise_left_shift, bitwise_right_shift

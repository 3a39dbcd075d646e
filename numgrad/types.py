"""Data types and their promotion, broadcasting of shapes, and what is known of a tensor before it has a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.assumptions import Guard, ShapeEnv
from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.sizes import (
    COMPOUND,
    Dim,
    Shape,
    Size,
    canonical,
    canonical_shape,
    dim_key,
    dim_value,
    lone_symbol,
    same_shape,
    same_size,
    size_bits,
    size_isqrt,
    size_max,
    size_min,
    size_product,
)

__all__ = [
    "COMPOUND",
    "SUPPORTED_DTYPES",
    "Dim",
    "Guard",
    "Shape",
    "ShapeEnv",
    "Size",
    "Spec",
    "as_dtype",
    "broadcast_shapes",
    "canonical_shape",
    "dim_key",
    "dim_value",
    "is_trainable",
    "kind_name",
    "lone_symbol",
    "promote",
    "require_equal",
    "same_shape",
    "same_size",
    "show_shape",
    "size_bits",
    "size_isqrt",
    "size_max",
    "size_min",
    "size_product",
]

SUPPORTED_DTYPES = tuple(
    np.dtype(c) for c in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()
)
_CANONICAL = {dtype: dtype for dtype in SUPPORTED_DTYPES}  # to the object that NumPy's own arrays carry
_KIND_NAMES = {"b": "bool", "i": "integer", "u": "integer", "f": "float", "c": "complex"}


def as_dtype(value: Any) -> np.dtype[Any]:
    """The NumPy dtype (native byte order) that `value` names; DtypeError for unsupported ones."""
    try:
        dtype = np.dtype(value)
    except TypeError as error:
        raise DtypeError(f"not a data type: {value!r}; wanted one of bool, int8..uint64, float16..64, complex64/128"
                         f"{at(user_line())}") from error
    found = _CANONICAL.get(dtype) or _CANONICAL.get(dtype.newbyteorder("="))
    if found is None:
        raise DtypeError(f"data type {dtype} is not supported; wanted one of bool, int8..uint64, float16..64, "
                         f"complex64/128{at(user_line())}")
    return found


def is_trainable(dtype: np.dtype[Any]) -> bool:
    """Whether values of this dtype can carry derivatives (floating or complex)."""
    return dtype.kind in "fc"


def promote(*operands: Any) -> np.dtype[Any]:
    """NumPy's promotion (NEP 50) of dtypes and weak Python scalars.

    Parameters
    ----------
    *operands
        Dtypes, arrays, and Python scalars, which adapt to the dtypes beside them.

    Returns
    -------
    numpy.dtype

    Raises
    ------
    DtypeError
        When there is no common dtype.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.extend.promote(ng.float32, 2.0), ng.extend.promote(ng.int32, ng.float32)
    (dtype('float32'), dtype('float64'))
    """
    try:
        return np.dtype(np.result_type(*operands))
    except TypeError as error:
        raise DtypeError(f"no common data type for {', '.join(map(str, operands))}{at(user_line())}") from error


def require_equal(a: Dim, b: Dim, message: Callable[[], str]) -> Dim:
    """The common size of two that must be equal.

    Parameters
    ----------
    a, b : int or unknown size
        Unknown sizes are taken as equal from here on, and checked at each call.
    message : callable
        Makes the text of the error, to which the user's line is added.

    Returns
    -------
    int or unknown size

    Raises
    ------
    ShapeError
        When the sizes differ.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.extend.require_equal(3, 3, lambda: "mix: the lengths differ")
    3
    """
    if isinstance(a, int) and isinstance(b, int):
        if a == b:
            return a
    else:
        env = a.env if isinstance(a, Size) else b.env  # type: ignore[union-attr]
        found = env.unify(a, b)
        if found is not None:
            return found
    raise ShapeError(message() + at(user_line()))


def _broadcast_size(a: Dim, b: Dim) -> Dim | None:
    a, b = canonical(a), canonical(b)
    if isinstance(a, int) and isinstance(b, int):
        return a if a == b or b == 1 else b if a == 1 else None
    if isinstance(a, int) and a == 1:
        return b
    if isinstance(b, int) and b == 1:
        return a
    env = a.env if isinstance(a, Size) else b.env  # type: ignore[union-attr]
    found = env.unify(a, b)
    if found is not None:
        return found
    for one, other in ((a, b), (b, a)):  # the present call shows that one of them is a broadcast axis
        if isinstance(one, Size) and env.hint(one) == 1:
            env.unify(one, 1)
            return other
    return None


def broadcast_shapes(shapes: Sequence[Shape], op: str) -> Shape:
    """NumPy's broadcast of shapes; unknown sizes that meet are taken as equal, and checked at each call.

    Parameters
    ----------
    shapes : sequence of shapes
        At least one.
    op : str
        Who asks, for messages.

    Returns
    -------
    tuple of sizes

    Raises
    ------
    ShapeError
        When sizes along an axis are neither equal nor 1.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.extend.broadcast_shapes([(3, 1), (4,)], "mix")
    (3, 4)
    """
    first = shapes[0]
    if all(s is first or (len(s) == len(first) and all(x is y or (type(x) is int and type(y) is int and x == y)
                                                       for x, y in zip(s, first, strict=True))) for s in shapes):
        return first
    rank = max(map(len, shapes))
    result: list[Dim] = []
    for axis in range(-rank, 0):
        size: Dim = 1
        for shape in shapes:
            if -axis <= len(shape):
                met = _broadcast_size(size, shape[axis])
                if met is None:
                    axes = ", ".join(str(s[axis]) for s in shapes if -axis <= len(s))
                    raise ShapeError(f"{op}: cannot broadcast shapes {' and '.join(map(show_shape, shapes))} "
                                     f"(axis {axis}: {axes}); sizes must be equal or 1{at(user_line())}")
                size = met
        result.append(size)
    return canonical_shape(result)


def show_shape(shape: Sequence[Dim]) -> str:
    """A shape as text, as messages show it.

    Parameters
    ----------
    shape : sequence of int or unknown sizes

    Returns
    -------
    str

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.extend.show_shape((3, 4)), ng.extend.show_shape((3,))
    ('(3,4)', '(3,)')
    """
    return "(" + ",".join(str(canonical(d)) for d in shape) + ("," if len(shape) == 1 else "") + ")"


class Spec(NamedTuple):
    """What is known of a tensor before it has a value: dtype and shape.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int or unknown sizes

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> spec = ng.extend.Spec(np.dtype(np.float64), (2, 3))
    >>> spec.ndim, str(spec)
    (2, 'float64(2,3)')
    """

    dtype: np.dtype[Any]
    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}{show_shape(self.shape)}"


def kind_name(dtype: np.dtype[Any]) -> str:
    """The family of a dtype in words."""
    return _KIND_NAMES[dtype.kind]

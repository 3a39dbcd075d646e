"""Ranges: evenly spaced numbers and the grids made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.axes import moveaxis
from numgrad.ops.creation import filled, index_along
from numgrad.ops.kinds import cast_to, operands, shape_argument
from numgrad.ops.shaping import broadcast_to
from numgrad.ops.sizes import at_least, ceil_divide
from numgrad.types import Dim, Size, as_dtype, broadcast_shapes, promote

__all__ = ["arange", "geomspace", "linspace", "logspace", "meshgrid"]


def _call(name: str, *args: Any) -> Tensor:
    return apply(name, *operands(args, name))


# -- arange


def arange(start: Any, /, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """Count from `start` (0 if only one bound is given) to below `stop`.

    Parameters
    ----------
    start, stop : int, float or size
        Sizes known only when the program runs are fine: ``ng.arange(x.shape[0])``.
    step : int or float
        Not zero; an integer with sizes.
    dtype : data type, optional
        Default: int64 for integers and sizes, float64 for floats.

    Returns
    -------
    Tensor
        ``start + i * step``.

    Raises
    ------
    ShapeError
        For a bound that is a traced tensor (the length would be unknown), or a step of zero.
    DtypeError
        For bounds that are no real numbers.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.arange(1, 10, 3).numpy()
    array([1, 4, 7])
    """
    if stop is None:
        start, stop = 0, start
    bounds = [_number(v) for v in (start, stop, step)]
    if any(isinstance(b, Size) for b in bounds):
        return _count(bounds, np.dtype(np.int64) if dtype is None else as_dtype(dtype))
    if bounds[2] == 0:
        raise ShapeError(f"arange: the step is zero{at(user_line())}")
    values = np.arange(*bounds, dtype=None if dtype is None else as_dtype(dtype))
    wanted = as_dtype(values.dtype)
    if wanted.kind in "bc" or values.size < 2:
        return as_tensor(values)
    # NumPy computes start + i * (second - first), float16 in float32
    inner = np.dtype(np.float32) if wanted == np.float16 else wanted
    first, second = values[:2].astype(inner)
    return cast_to(_affine(index_along((values.size,), 0, inner), first, second - first), wanted)


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value._value is None:
            raise ShapeError(
                f"arange: a bound is the traced tensor {value!r}, so the length is unknown; use x.shape, sizes "
                f"or Python numbers{at(user_line())}"
            )
        value = value.numpy()
    if isinstance(value, Size):
        return value
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "biuf":
        raise DtypeError(f"arange: got the bound {value!r}, wanted a real number{at(user_line())}")
    return array.item() if not isinstance(value, np.generic) else value


def _affine(index: Tensor, first: Any, step: Any) -> Tensor:
    if step != 1:
        index = apply("multiply", index, filled(index.shape, _plain(step), index.dtype))
    if isinstance(first, Size):
        return apply("add", index, broadcast_to(as_tensor(first, index.dtype), index.shape))
    return apply("add", index, filled(index.shape, _plain(first), index.dtype)) if first != 0 else index


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _count(bounds: list[Any], dtype: np.dtype[Any]) -> Tensor:
    """A range with a bound that is an unknown size."""
    start, stop, step = bounds
    if not all(isinstance(b, (int, np.integer, Size)) for b in bounds) or isinstance(step, Size):
        raise DtypeError(
            f"arange: got {start}, {stop} and {step}; with a size the bounds must be integers or sizes and "
            f"the step a fixed integer{at(user_line())}"
        )
    if step == 0:
        raise ShapeError(f"arange: the step is zero{at(user_line())}")
    span: Dim = stop - start if step > 0 else start - stop
    length = ceil_divide(span, abs(int(step))) if at_least(span, 0) else 0
    return _affine(index_along((length,), 0, dtype), start, int(step))


# -- linspace and its kin


def linspace(
    start: Any,
    stop: Any,
    /,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Space numbers evenly between two bounds.

    Parameters
    ----------
    start, stop : array_like
        Bounds, broadcast against each other; derivatives flow to them.
    num : int or size
        How many numbers.
    endpoint : bool
        Whether `stop` is the last of them.
    retstep : bool
        Whether to return the spacing too.
    dtype : data type, optional
        Default: the floating type of the bounds; integers are rounded down.
    axis : int
        Where the new axis stands, for bounds that are arrays.

    Returns
    -------
    Tensor, or (Tensor, Tensor) with `retstep`
        ``start + i * (stop - start) / (num - 1)``, with ``num`` in place of ``num - 1`` without the end point.

    Raises
    ------
    ShapeError
        For a negative number.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linspace(0, 1, 5).numpy()
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    (number,) = shape_argument(num, "linspace")
    if isinstance(number, int) and number < 0:
        raise ShapeError(f"linspace: got {number} numbers, wanted at least 0{at(user_line())}")
    first, last = _bounds(start, stop)
    common = broadcast_shapes([first.shape, last.shape], "linspace")
    shape = (number, *common)
    position = index_along(shape, 0, np.float32 if first.dtype == np.float16 else _real(first.dtype))
    position = cast_to(position, first.dtype)
    parts = number - 1 if endpoint else number
    several = at_least(parts, 1)
    delta = apply("subtract", last, first)
    spacing = (
        _call("divide", delta, cast_to(as_tensor(parts), first.dtype))
        if several
        else filled(common, np.nan, first.dtype)
    )
    values = apply("add", apply("multiply", position, spacing if several else delta), first)
    if endpoint and several:
        at_end = apply("equal", index_along(shape, 0), broadcast_to(as_tensor(number - 1, np.int64), shape))
        values = apply("where", at_end, last, values)
    if dtype is not None:
        wanted = as_dtype(dtype)
        values = cast_to(apply("floor", values) if wanted.kind in "iu" else values, wanted)
    values = moveaxis(values, 0, axis)
    return (values, spacing) if retstep else values


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def _bounds(start: Any, stop: Any) -> list[Tensor]:
    """The bounds as tensors of one floating dtype, as NumPy chooses it: Python scalars are weak."""
    weak = [
        v if isinstance(v, (int, float, complex)) and not isinstance(v, np.generic) else as_tensor(v)
        for v in (start, stop)
    ]
    common = promote(*(v.dtype if isinstance(v, Tensor) else v for v in weak), 1.0)
    return [cast_to(as_tensor(v), common) for v in weak]


def logspace(
    start: Any, stop: Any, /, num: Any = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Tensor:
    """Space numbers evenly on a logarithmic scale, between powers of a base.

    Parameters
    ----------
    start, stop : array_like
        Exponents of the first and the last number.
    num : int or size
        How many numbers.
    endpoint : bool
        Whether ``base ** stop`` is the last of them.
    base : array_like
    dtype : data type, optional
    axis : int
        Where the new axis stands, for bounds that are arrays.

    Returns
    -------
    Tensor
        ``base ** linspace(start, stop, num)``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.logspace(0, 2, 3).numpy()
    array([  1.,  10., 100.])
    """
    first, last = as_tensor(start), as_tensor(stop)
    if isinstance(base, Tensor) or np.ndim(base):
        root = as_tensor(base)
        common = broadcast_shapes([first.shape, last.shape, root.shape], "logspace")
        first, base = broadcast_to(first, common), root
        exponents = linspace(first, last, num, endpoint=endpoint)
        values = moveaxis(_call("power", base, exponents), 0, axis)
    else:
        values = _call("power", base, linspace(start, stop, num, endpoint=endpoint, axis=axis))
    return cast_to(values, as_dtype(dtype)) if dtype is not None else values


def geomspace(
    start: Any, stop: Any, /, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Tensor:
    """Space numbers evenly on a logarithmic scale, between two numbers.

    Parameters
    ----------
    start, stop : array_like
        Bounds of one sign (or complex), not zero.
    num : int or size
        How many numbers.
    endpoint : bool
        Whether `stop` is the last of them.
    dtype : data type, optional
    axis : int
        Where the new axis stands, for bounds that are arrays.

    Returns
    -------
    Tensor
        ``start * (stop / start) ** (i / (num - 1))``.

    Raises
    ------
    ValueError
        For a bound that is known to be zero.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.geomspace(1, 100, 3).numpy()
    array([  1.,  10., 100.])
    """
    first, last = _bounds(start, stop)
    for bound in (first, last):
        if bound._value is not None and not np.all(bound._value):
            raise ValueError(
                f"geomspace: a bound is zero, and no geometric sequence goes through zero{at(user_line())}"
            )
    (number,) = shape_argument(num, "geomspace")
    sign = apply("sign", first)
    logs = [apply("log10", apply("divide", b, sign)) for b in (first, last)]
    values = apply("multiply", logspace(logs[0], logs[1], number, endpoint=endpoint), sign)
    position = index_along(values.shape, 0)
    values = apply("where", apply("equal", position, filled(position.shape, 0, position.dtype)), first, values)
    if endpoint and at_least(number, 2):
        end = broadcast_to(as_tensor(number - 1, np.int64), position.shape)
        values = apply("where", apply("equal", position, end), last, values)
    values = moveaxis(values, 0, axis)
    return cast_to(values, as_dtype(dtype)) if dtype is not None else values


# -- grids


def meshgrid(*arrays: Any, indexing: str = "xy", sparse: bool = False, copy: bool = True) -> tuple[Tensor, ...]:
    """Spread vectors over the axes of a common grid.

    Parameters
    ----------
    *arrays : array_like
        Vectors; a scalar counts as a vector of one element.
    indexing : {"xy", "ij"}
        Whether the first vector runs along the second axis (Cartesian) or along the first (matrix order).
    sparse : bool
        Whether to leave the other axes at size 1, to be broadcast later.
    copy : bool
        Accepted for compatibility; values are never shared visibly.

    Returns
    -------
    tuple of Tensor
        One for each vector.

    Raises
    ------
    ShapeError
        For arrays of several axes, or another `indexing`.

    Examples
    --------
    >>> import numgrad as ng
    >>> x, y = ng.meshgrid([1, 2, 3], [10, 20])
    >>> (x + y).numpy()
    array([[11, 12, 13],
           [21, 22, 23]])
    """
    del copy
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"meshgrid: indexing is {indexing!r}, wanted 'xy' or 'ij'{at(user_line())}")
    vectors = [as_tensor(a) for a in arrays]
    for vector in vectors:
        if vector.ndim > 1:
            raise ShapeError(f"meshgrid: got {vector.spec}, wanted vectors{at(user_line())}")
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[:2] = [1, 0]
    lengths = [v.size for v in vectors]
    shape = [lengths[i] for i in order]
    grids = []
    for axis, vector in zip(order, vectors, strict=True):
        line = apply("reshape", vector, shape=tuple(vector.size if i == axis else 1 for i in range(len(order))))
        grids.append(line if sparse else broadcast_to(line, tuple(shape)))
    return tuple(grids)

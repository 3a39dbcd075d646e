"""Strided slices and diagonals as views, their transposes that embed into zeros, and the functions made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.graph.records import Regions, View
from numgrad.ops.kinds import define, normalize_axes, normalize_axis
from numgrad.ops.shaping import float_samples
from numgrad.ops.sizes import at_least, ceil_divide, clip_count, smaller
from numgrad.types import Dim, Size, Spec, canonical_shape

__all__ = ["diag", "diagonal", "flip", "fliplr", "flipud", "trace"]


# -- slice and unslice: start, count and step per axis


def _numpy_slices(
    start: Sequence[int], count: Sequence[int], step: Sequence[int], sizes: Sequence[int]
) -> tuple[slice, ...]:
    slices = []
    for axis, (first, n, by, size) in enumerate(zip(start, count, step, sizes, strict=True)):
        if n <= 0:
            slices.append(slice(0, 0))
            continue
        last = first + (n - 1) * by
        if not (0 <= first < size and 0 <= last < size):
            raise ShapeError(f"slice: elements {first} to {last} of axis {axis} of size {size}")
        end = last + (1 if by > 0 else -1)
        slices.append(slice(first, end if end >= 0 else None, by))
    return tuple(slices)


def _unslice(
    x: np.ndarray[Any, Any], shape: tuple[int, ...], start: tuple[int, ...], step: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    out = np.zeros(shape, x.dtype)
    out[_numpy_slices(start, x.shape, step, shape)] = x
    return out


def _place(start: Sequence[Dim], step: Sequence[int], strides: Sequence[Dim]) -> tuple[Dim, tuple[Dim, ...]]:
    offset: Dim = 0
    for first, stride in zip(start, strides, strict=True):
        offset = offset + first * stride
    return offset, tuple(stride * by for stride, by in zip(strides, step, strict=True))


define(
    "slice",
    "linear",
    lambda specs, attrs: (Spec(specs[0].dtype, canonical_shape(attrs["count"])),),
    lambda x, start, count, step: x[_numpy_slices(start, count, step, x.shape)],
    vjp=lambda op, cts: [
        apply("unslice", cts[0], shape=op.inputs[0].shape, start=op.attrs["start"], step=op.attrs["step"])
    ],
    view=View(lambda spec_in, spec_out, attrs, strides: _place(attrs["start"], attrs["step"], strides)),
    masks=True,
    samples=lambda rng: [
        (float_samples(rng, (5, 6)), {"start": (1, 5), "count": (3, 3), "step": (1, -2)}),
        (float_samples(rng, (4,)), {"start": (0,), "count": (0,), "step": (1,)}),
        (float_samples(rng, ()), {"start": (), "count": (), "step": ()}),
        ([rng.standard_normal((6, 5)).T], {"start": (0, 1), "count": (5, 2), "step": (1, 3)}),
    ],
    doc="Elements at start, start + step, ... along each axis.",
)
define(
    "unslice",
    "linear",
    lambda specs, attrs: (Spec(specs[0].dtype, canonical_shape(attrs["shape"])),),
    _unslice,
    vjp=lambda op, cts: [
        apply("slice", cts[0], start=op.attrs["start"], count=op.inputs[0].shape, step=op.attrs["step"])
    ],
    regions=Regions(lambda specs, out, attrs, strides: [_place(attrs["start"], attrs["step"], strides)], fill=True),
    samples=lambda rng: [
        (float_samples(rng, (3, 3)), {"shape": (5, 6), "start": (1, 5), "step": (1, -2)}),
        (float_samples(rng, (0,)), {"shape": (4,), "start": (0,), "step": (1,)}),
        (float_samples(rng, ()), {"shape": (), "start": (), "step": ()}),
    ],
    doc="Zeros with the operand written at start, start + step, ... along each axis.",
)


def _is_certain_negative(bound: Dim) -> bool:
    return isinstance(bound, int) and bound < 0


def slice_axis(key: slice, size: Dim, axis: int) -> tuple[Dim, Dim, int]:
    """Start, count and step of a Python slice along an axis of a size that may be unknown; it clips as Python does."""
    step = 1 if key.step is None else int(key.step)
    if step == 0:
        raise ShapeError(f"slice: the step of axis {axis} is zero{at(user_line())}")
    start, stop = (_bound(b) for b in (key.start, key.stop))
    if step > 0:
        if start is None:
            start = 0
        elif _is_certain_negative(start):
            start = start + size
            start = start if at_least(start, 0) else 0
        if stop is None:
            stop = size
        elif _is_certain_negative(stop):
            stop = stop + size
        elif not at_least(size, stop):
            stop = size
        span = stop - start
    else:
        if start is None:
            start = size - 1
        elif _is_certain_negative(start):
            start = start + size
        elif not at_least(size, start + 1):
            start = size - 1
        if stop is None:
            stop = -1
        elif _is_certain_negative(stop):
            stop = stop + size
            stop = stop if at_least(stop, -1) else -1
        span = start - stop
    if not at_least(span, 0):
        return 0, 0, step
    count = ceil_divide(span, abs(step))
    return (0 if isinstance(count, int) and count == 0 else start), count, step


def _bound(value: Any) -> Dim | None:
    if value is None or isinstance(value, Size):
        return value
    return int(value.__index__())


def narrow(tensor: Tensor, axis: int, start: Dim, count: Dim, step: int = 1) -> Tensor:
    """`count` elements from `start` along one axis, all of the others."""
    starts: list[Dim] = [0] * tensor.ndim
    counts, steps = list(tensor.shape), [1] * tensor.ndim
    starts[axis], counts[axis], steps[axis] = start, count, step
    return apply("slice", tensor, start=tuple(starts), count=tuple(counts), step=tuple(steps))


# -- diagonals


def _corner(offset: int) -> tuple[int, int]:
    return max(-offset, 0), max(offset, 0)


def _diagonal(x: np.ndarray[Any, Any], offset: int, axes: tuple[int, int], count: int) -> np.ndarray[Any, Any]:
    return np.diagonal(x, offset, *axes)[..., :count]


def _diagonal_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,) = specs
    return (
        Spec(x.dtype, canonical_shape((*(d for i, d in enumerate(x.shape) if i not in attrs["axes"]), attrs["count"]))),
    )


def _along(strides: Sequence[Dim], attrs: Mapping[str, Any]) -> tuple[Dim, tuple[Dim, ...]]:
    a, b = attrs["axes"]
    row, column = _corner(attrs["offset"])
    return (
        strides[a] * row + strides[b] * column,
        (*(s for i, s in enumerate(strides) if i not in (a, b)), strides[a] + strides[b]),
    )


def _embed_diagonal(
    x: np.ndarray[Any, Any], shape: tuple[int, ...], offset: int, axes: tuple[int, int]
) -> np.ndarray[Any, Any]:
    out = np.zeros(shape, x.dtype)
    (row, column), index = _corner(offset), np.arange(x.shape[-1])
    np.moveaxis(out, axes, (-2, -1))[..., index + row, index + column] = x
    return out


define(
    "diagonal",
    "linear",
    _diagonal_infer,
    _diagonal,
    vjp=lambda op, cts: [
        apply("embed_diagonal", cts[0], shape=op.inputs[0].shape, offset=op.attrs["offset"], axes=op.attrs["axes"])
    ],
    view=View(lambda spec_in, spec_out, attrs, strides: _along(strides, attrs)),
    masks=True,
    public="linalg.diagonal",
    samples=lambda rng: [
        (float_samples(rng, (3, 4)), {"offset": 1, "axes": (0, 1), "count": 3}),
        (float_samples(rng, (3, 2, 4)), {"offset": -1, "axes": (2, 0), "count": 3}),
        (float_samples(rng, (0, 2)), {"offset": 0, "axes": (0, 1), "count": 0}),
    ],
    doc="A diagonal of two axes, as a last axis.",
)
define(
    "embed_diagonal",
    "linear",
    lambda specs, attrs: (Spec(specs[0].dtype, canonical_shape(attrs["shape"])),),
    _embed_diagonal,
    vjp=lambda op, cts: [
        apply("diagonal", cts[0], offset=op.attrs["offset"], axes=op.attrs["axes"], count=op.inputs[0].shape[-1])
    ],
    regions=Regions(lambda specs, out, attrs, strides: [_along(strides, attrs)], fill=True),
    samples=lambda rng: [
        (float_samples(rng, (3,)), {"shape": (3, 4), "offset": 1, "axes": (0, 1)}),
        (float_samples(rng, (2, 3)), {"shape": (3, 2, 4), "offset": -1, "axes": (2, 0)}),
        (float_samples(rng, (0,)), {"shape": (0, 2), "offset": 0, "axes": (0, 1)}),
    ],
    doc="Zeros with the operand's last axis written along a diagonal.",
)


def diagonal(x: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Read a diagonal of two axes.

    Parameters
    ----------
    x : array_like
        At least two axes.
    offset : int
        0 is the main diagonal; positive lies above it, negative below.
    axis1, axis2 : int
        The rows and the columns. (`linalg.diagonal` reads the last two axes.)

    Returns
    -------
    Tensor
        The other axes, then the diagonal.

    Raises
    ------
    ShapeError
        For fewer than two axes, or one axis named twice.

    Notes
    -----
    ``y[..., i] = x[..., i - min(offset, 0), i + max(offset, 0)]``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.diagonal([[1, 2, 3], [4, 5, 6]], offset=1).numpy()
    array([2, 6])
    """
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(f"diagonal: got {tensor.spec}, wanted at least two axes{at(user_line())}")
    axes = (normalize_axis(axis1, tensor.ndim, "diagonal"), normalize_axis(axis2, tensor.ndim, "diagonal"))
    if axes[0] == axes[1]:
        raise ShapeError(f"diagonal: axis1 and axis2 are both {axes[0]}{at(user_line())}")
    row, column = _corner(int(offset))
    count = smaller(clip_count(tensor.shape[axes[0]] - row), clip_count(tensor.shape[axes[1]] - column))
    return apply("diagonal", tensor, offset=int(offset), axes=axes, count=count)


def diag(x: Any, /, k: int = 0) -> Tensor:
    """Make a diagonal matrix of a vector, or read a diagonal of a matrix.

    Parameters
    ----------
    x : array_like
        One or two axes.
    k : int
        Which diagonal.

    Returns
    -------
    Tensor
        For a vector of n elements a square matrix of n + abs(k) rows.

    Raises
    ------
    ShapeError
        For another number of axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.diag([1, 2]).numpy()
    array([[1, 0],
           [0, 2]])
    >>> ng.diag([[1, 2], [3, 4]]).numpy()
    array([1, 4])
    """
    tensor = as_tensor(x)
    if tensor.ndim == 2:
        return diagonal(tensor, k)
    if tensor.ndim != 1:
        raise ShapeError(f"diag: got {tensor.spec}, wanted one or two axes{at(user_line())}")
    side = tensor.shape[0] + abs(int(k))
    return apply("embed_diagonal", tensor, shape=(side, side), offset=int(k), axes=(0, 1))


def trace(x: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    """Sum a diagonal of two axes.

    Parameters
    ----------
    x : array_like
        At least two axes.
    offset : int
        Which diagonal.
    axis1, axis2 : int
        The rows and the columns. (`linalg.trace` takes the last two axes.)
    dtype : data type, optional
        In which to sum; small integers are summed in the widest of their kind by default.

    Returns
    -------
    Tensor
        The other axes.

    Raises
    ------
    ShapeError
        For fewer than two axes, or one axis named twice.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.trace([[1.0, 2.0], [3.0, 4.0]]).numpy()
    array(5.)
    """
    from numgrad.ops.reduction import sum as total

    return total(diagonal(x, offset, axis1, axis2), axis=-1, dtype=dtype)


# -- flips


def flip(x: Any, /, axis: Any = None) -> Tensor:
    """Reverse the order of the elements along axes.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int, optional
        Default: all.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For an axis out of range.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.flip([1, 2, 3]).numpy()
    array([3, 2, 1])
    """
    tensor = as_tensor(x)
    axes = normalize_axes(axis, tensor.ndim, "flip")
    start = tuple(d - 1 if i in axes else 0 for i, d in enumerate(tensor.shape))
    step = tuple(-1 if i in axes else 1 for i in range(tensor.ndim))
    return apply("slice", tensor, start=start, count=tensor.shape, step=step)


def flipud(x: Any, /) -> Tensor:
    """Reverse the rows: `flip` along the first axis.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.flipud([1, 2, 3]).numpy()
    array([3, 2, 1])
    """
    return flip(x, 0)


def fliplr(x: Any, /) -> Tensor:
    """Reverse the columns: `flip` along the second axis.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.fliplr([[1, 2], [3, 4]]).numpy()
    array([[2, 1],
           [4, 3]])
    """
    return flip(x, 1)

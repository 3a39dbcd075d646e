"""Repeating and moving elements: tile, repeat, roll, and quarter turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.axes import swapaxes
from numgrad.ops.kinds import define, normalize_axis
from numgrad.ops.shaping import broadcast_to, float_samples, ravel
from numgrad.ops.sizes import at_least
from numgrad.ops.slicing import flip, narrow
from numgrad.types import Dim, Size

__all__ = ["repeat", "roll", "rot90", "tile"]


def _copies(tensor: Tensor, axis: int, count: Dim, inside: bool) -> Tensor:
    """The array `count` times along an axis: each element in turn (`inside`), or the whole of it."""
    new = axis + 1 if inside else axis
    wide = apply("expand_dims", tensor, axes=(new,))
    shape = list(wide.shape)
    shape[new] = count
    wide = broadcast_to(wide, tuple(shape))
    return apply("reshape", wide, shape=(*tensor.shape[:axis], tensor.shape[axis] * count, *tensor.shape[axis + 1 :]))


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """Repeat a whole array along its axes.

    Parameters
    ----------
    x : array_like
    repetitions : int, size or sequence of them
        For each of the last axes; more entries than axes make new leading axes.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a negative entry.

    Notes
    -----
    The cotangent is summed over the copies.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.tile([1, 2], (2, 2)).numpy()
    array([[1, 2, 1, 2],
           [1, 2, 1, 2]])
    """
    tensor = as_tensor(x)
    counts = list(repetitions) if isinstance(repetitions, (tuple, list, np.ndarray)) else [repetitions]
    counts = [c if isinstance(c, Size) else int(c) for c in counts]
    if any(isinstance(c, int) and c < 0 for c in counts):
        raise ShapeError(f"tile: got {repetitions} repetitions, wanted at least 0{at(user_line())}")
    counts = [1] * (tensor.ndim - len(counts)) + counts
    if len(counts) > tensor.ndim:
        tensor = apply("expand_dims", tensor, axes=tuple(range(len(counts) - tensor.ndim)))
    for axis, count in enumerate(counts):
        if isinstance(count, Size) or count != 1:
            tensor = _copies(tensor, axis, count, inside=False)
    return tensor


def repeat(x: Any, repeats: Any, /, axis: int | None = None) -> Tensor:
    """Repeat each element along an axis.

    Parameters
    ----------
    x : array_like
    repeats : int, size, or array of int
        One number for all elements, or one for each (of fixed values).
    axis : int, optional
        Default: the flattened array.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a negative number, or an array of numbers of another length than the axis.
    DtypeError
        For numbers that are not fixed integers.

    Notes
    -----
    The cotangent is summed over the copies of each element.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.repeat([1, 2], 2).numpy()
    array([1, 1, 2, 2])
    >>> ng.repeat([1, 2], [1, 3]).numpy()
    array([1, 2, 2, 2])
    """
    tensor = ravel(x) if axis is None else as_tensor(x)
    number = normalize_axis(0 if axis is None else axis, tensor.ndim, "repeat")
    if isinstance(repeats, Size):
        return _copies(tensor, number, repeats, inside=True)
    given = as_tensor(repeats)
    if given._value is None or given.dtype.kind not in "biu":
        raise DtypeError(
            f"repeat: got the repeats {repeats!r}, wanted fixed integers, because they decide the size of the "
            f"result{at(user_line())}"
        )
    counts = given.numpy().astype(np.int64)
    if (counts < 0).any():
        raise ShapeError(f"repeat: got {counts.min()} repeats, wanted at least 0{at(user_line())}")
    if counts.size == 1:
        return _copies(tensor, number, int(counts.reshape(())), inside=True)
    size = tensor.shape[number]
    if counts.ndim != 1 or size != counts.size:
        raise ShapeError(
            f"repeat: got repeats of shape {counts.shape} for axis {number} of {tensor.spec}; give one for "
            f"each element{at(user_line())}"
        )
    return apply("take", tensor, as_tensor(np.repeat(np.arange(counts.size), counts)), axis=number)


def roll(x: Any, /, shift: Any, axis: Any = None) -> Tensor:
    """Move elements along axes; those that leave at one end come in at the other.

    Parameters
    ----------
    x : array_like
    shift : int, size or sequence of them
        How far, towards higher indices.
    axis : int or sequence of int, optional
        Default: along the flattened array, which then gets its shape back.

    Returns
    -------
    Tensor
        ``y[i] = x[(i - shift) % n]``.

    Raises
    ------
    ShapeError
        For an axis out of range, or different numbers of shifts and axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.roll([1, 2, 3, 4], 1).numpy()
    array([4, 1, 2, 3])
    """
    tensor = as_tensor(x)
    if axis is None:
        return apply("reshape", roll(ravel(tensor), _total(shift), axis=0), shape=tensor.shape)
    axes = list(axis) if isinstance(axis, (tuple, list)) else [axis]
    shifts = list(shift) if isinstance(shift, (tuple, list, np.ndarray)) else [shift]
    if len(axes) == 1 or len(shifts) == 1:
        axes, shifts = axes * len(shifts), shifts * len(axes)
    if len(axes) != len(shifts):
        raise ShapeError(f"roll: got {len(shifts)} shifts for {len(axes)} axes{at(user_line())}")
    for by, along in zip(shifts, axes, strict=True):
        tensor = _roll(tensor, by if isinstance(by, Size) else int(by), normalize_axis(along, tensor.ndim, "roll"))
    return tensor


def _total(shift: Any) -> Any:
    return sum(shift) if isinstance(shift, (tuple, list, np.ndarray)) else shift


def _roll(tensor: Tensor, shift: Dim, axis: int) -> Tensor:
    size = tensor.shape[axis]
    if isinstance(size, int):
        if not size:
            return tensor
        shift = shift % size
    elif isinstance(shift, int) and shift < 0:
        shift = shift + size if at_least(size, -shift) else shift % size
    elif not at_least(size, shift):
        shift = shift % size
    if isinstance(shift, int) and shift == 0:
        return tensor
    return apply("roll", tensor, shift=shift, axis=axis)


def _pieces(tensor: Tensor, shift: Dim, axis: int) -> Tensor:
    """The same of two slices; the op itself exists because its transpose is one, too, and needs no zeros."""
    stay = tensor.shape[axis] - shift
    return apply("concat", narrow(tensor, axis, stay, shift), narrow(tensor, axis, 0, stay), axis=axis)


def _roll_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (ct,), axis = cts, op.attrs["axis"]
    assert ct is not None
    return [apply("roll", ct, shift=op.inputs[0].shape[axis] - op.attrs["shift"], axis=axis)]


define(
    "roll",
    "linear",
    lambda specs, attrs: (specs[0],),
    lambda x, shift, axis: np.roll(x, shift, axis),
    vjp=_roll_vjp,
    decompose=_pieces,
    public="roll",
    samples=lambda rng: [
        (float_samples(rng, (2, 3)), {"shift": 1, "axis": 1}),
        (float_samples(rng, (4, 2)), {"shift": 4, "axis": 0}),
        (float_samples(rng, (5,)), {"shift": 0, "axis": 0}),
    ],
    doc="Elements moved along an axis, from the end to the start where they leave; by 0 up to the size.",
)


def rot90(x: Any, /, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turn an array by quarter turns in the plane of two axes, from the first towards the second.

    Parameters
    ----------
    x : array_like
    k : int
        How many quarter turns.
    axes : tuple of int

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For axes that are out of range or equal.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.rot90([[1, 2], [3, 4]]).numpy()
    array([[2, 4],
           [1, 3]])
    """
    tensor = as_tensor(x)
    a, b = (normalize_axis(i, tensor.ndim, "rot90") for i in axes)
    if a == b:
        raise ShapeError(f"rot90: the axes {axes} are the same{at(user_line())}")
    turns = k % 4
    if turns == 0:
        return tensor
    if turns == 2:
        return flip(tensor, (a, b))
    return swapaxes(flip(tensor, b), a, b) if turns == 1 else flip(swapaxes(tensor, a, b), b)

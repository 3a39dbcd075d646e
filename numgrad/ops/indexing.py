"""Indexing: `x[key]` as NumPy means it, functional updates of a selection, and gathers along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor, current_graph
from numgrad.ops.creation import filled, index_along
from numgrad.ops.gathering import checked_indices
from numgrad.ops.kinds import cast_to, normalize_axis, operands, shape_argument
from numgrad.ops.selection import read, steps_of, write, written_shape
from numgrad.ops.shaping import broadcast_to
from numgrad.types import as_dtype, broadcast_shapes, canonical_shape

__all__ = ["index_add", "index_update", "one_hot", "take", "take_along_axis"]


def getitem(x: Tensor, key: Any) -> Tensor:
    """``x[key]``: NumPy's basic and advanced indexing.

    Parameters
    ----------
    x : Tensor
    key : index
        Integers, sizes, slices, ``...``, None, arrays of integers, masks (concrete ones), and tuples of these.

    Returns
    -------
    Tensor
        The cotangent goes back to the places that were read; places read twice get the sum.

    Raises
    ------
    IndexError
        For an index out of range, too many indices, or an index of another kind.
    ShapeError
        For a mask of another shape, or one whose values are not known yet.
    """
    return read(x, steps_of(canonical_shape(x.shape), key))


def _values_for(x: Tensor, steps: Any, values: Any, op: str) -> Tensor:
    """What is written, in the dtype of `x` and the shape of the selection."""
    tensor = as_tensor(values)
    if tensor.dtype.kind == "c" and x.dtype.kind != "c":
        raise DtypeError(f"{op}: got complex values for {x.spec}; use ng.real{at(user_line())}")
    shape = written_shape(x.shape, steps)
    while tensor.ndim > len(shape) and tensor.shape[0] == 1:
        tensor = apply("squeeze", tensor, axes=(0,))  # as in NumPy, surplus leading ones do no harm
    return broadcast_to(cast_to(tensor, x.dtype), shape)


def _rows_updated(op: str, x: Tensor, steps: Any, values: Tensor) -> Tensor | None:
    """`x` with `values` written or added where the key is one index of rows (of `x` with its first axes made one)."""
    if not steps or steps[-1].op != "take" or steps[-1].attrs["axis"] or any(s.op != "reshape" for s in steps[:-1]):
        return None
    found = apply(op, read(x, steps[:-1]), steps[-1].indices, values)
    return apply("reshape", found, shape=canonical_shape(x.shape)) if len(steps) > 1 else found


def index_update(x: Any, key: Any, values: Any) -> Tensor:
    """Give a copy of an array in which a selection is replaced: ``x[key] = values`` as a function.

    Parameters
    ----------
    x : array_like
    key : index
        As in ``x[key]``. Where it names a place twice, the last value stays.
    values : array_like
        Broadcast to the selection and cast to the dtype of `x`.

    Returns
    -------
    Tensor
        Derivatives go to `values` where they stayed, and to `x` elsewhere.

    Raises
    ------
    IndexError
        For an index out of range.
    ShapeError
        When the values do not broadcast to the selection.
    DtypeError
        For complex values in a real array.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.index_update([1.0, 2.0, 3.0], slice(1, None), 0.0).numpy()
    array([1., 0., 0.])
    """
    tensor = as_tensor(x)
    steps = steps_of(canonical_shape(tensor.shape), key)
    new = _values_for(tensor, steps, values, "index_update")
    if not steps:
        return new
    updated = _rows_updated("set_rows", tensor, steps, new)
    if updated is not None:
        return updated
    chosen = write(filled(new.shape, True, np.bool_), steps, "set")
    return apply("where", chosen, write(new, steps, "set"), tensor)


def index_add(x: Any, key: Any, values: Any) -> Tensor:
    """Give a copy of an array with values added to a selection; places named several times get every one.

    Parameters
    ----------
    x : array_like
    key : index
        As in ``x[key]``.
    values : array_like
        Broadcast to the selection and cast to the dtype of `x`.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexError
        For an index out of range.
    ShapeError
        When the values do not broadcast to the selection.
    DtypeError
        For complex values in a real array.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.index_add([0.0, 0.0, 0.0], [0, 2, 2], [1.0, 2.0, 3.0]).numpy()
    array([1., 0., 5.])
    """
    tensor = as_tensor(x)
    steps = steps_of(canonical_shape(tensor.shape), key)
    new = _values_for(tensor, steps, values, "index_add")
    updated = _rows_updated("add_rows", tensor, steps, new)
    return updated if updated is not None else apply("add", tensor, write(new, steps, "add"))


def _index_tensor(indices: Any, op: str) -> Tensor:
    if isinstance(indices, list) and not indices:
        indices = np.zeros(0, np.int64)
    tensor = as_tensor(indices)
    if tensor.dtype.kind not in "iu":
        raise DtypeError(f"{op}: indices have dtype {tensor.dtype}, wanted an integer one{at(user_line())}")
    return tensor


def _check_known(indices: Tensor, size: Any, op: str, axis: int) -> None:
    """In a graph, fail where the user stands if the indices and the size are known already."""
    if current_graph() is not None and indices._value is not None and isinstance(size, int):
        checked_indices(indices._value, size, op, axis)


def take(x: Any, indices: Any, /, axis: int | None = None, mode: str = "raise") -> Tensor:
    """Read the elements at given indices along an axis.

    Parameters
    ----------
    x : array_like
    indices : array_like of int
        Of any shape; negative ones count from the end.
    axis : int, optional
        May be left out for an array of one axis only.
    mode : {"raise", "wrap", "clip"}
        What to do with an index out of range: an error, its remainder, or the nearest end.

    Returns
    -------
    Tensor
        Shape ``x.shape[:axis] + indices.shape + x.shape[axis + 1:]``.

    Raises
    ------
    IndexError
        For an index out of range; a compiled program raises it when it runs.
    DtypeError
        For indices that are no integers.
    ShapeError
        Without an axis for an array of several.

    Notes
    -----
    ``y[o, j, i] = x[o, indices[j], i]``; cotangents of equal indices are added up, in order.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.take([10, 20, 30], [2, 0, -1]).numpy()
    array([30, 10, 30])
    """
    tensor, where = as_tensor(x), _index_tensor(indices, "take")
    if axis is None and tensor.ndim != 1:
        raise ShapeError(
            f"take: got {tensor.spec} and no axis; give axis=, or ng.ravel(x) for flat indices{at(user_line())}"
        )
    number = normalize_axis(0 if axis is None else axis, tensor.ndim, "take")
    size = canonical_shape(tensor.shape)[number]
    if mode == "wrap":
        where = apply("remainder", *operands((where, size), "take"))
    elif mode == "clip":
        where = apply("maximum", *operands((where, 0), "take"))
        where = apply("minimum", *operands((where, size - 1), "take"))
    elif mode != "raise":
        raise ShapeError(f"take: mode is {mode!r}, wanted 'raise', 'wrap' or 'clip'{at(user_line())}")
    _check_known(where, size, "take", number)
    return apply("take", tensor, where, axis=number)


def take_along_axis(x: Any, indices: Any, /, axis: int | None = -1) -> Tensor:
    """Read along an axis with an index of its own for each element of the result.

    Parameters
    ----------
    x : array_like
    indices : array_like of int
        As many axes as `x`; the others broadcast against those of `x`. Negative indices count from the end.
    axis : int or None
        None reads the flattened array.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexError
        For an index out of range; a compiled program raises it when it runs.
    DtypeError
        For indices that are no integers.
    ShapeError
        For another number of axes.

    Notes
    -----
    ``y[o, j, i] = x[o, indices[o, j, i], i]``; it undoes `argsort`.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.take_along_axis([[3, 1], [2, 4]], [[1], [0]], axis=1).numpy()
    array([[1],
           [2]])
    """
    tensor, where = as_tensor(x), _index_tensor(indices, "take_along_axis")
    if axis is None:
        tensor, axis = apply("reshape", tensor, shape=(tensor.size,)), 0
    if tensor.ndim != where.ndim:
        raise ShapeError(
            f"take_along_axis: got {tensor.spec} and indices {where.spec}, wanted equally many axes{at(user_line())}"
        )
    number = normalize_axis(axis, tensor.ndim, "take_along_axis")
    sizes, counts = list(canonical_shape(tensor.shape)), list(canonical_shape(where.shape))
    n, m = sizes[number], counts[number]
    sizes[number] = counts[number] = 1
    common = list(broadcast_shapes([tuple(sizes), tuple(counts)], "take_along_axis"))
    tensor = broadcast_to(tensor, (*common[:number], n, *common[number + 1 :]))
    where = broadcast_to(where, (*common[:number], m, *common[number + 1 :]))
    _check_known(where, n, "take_along_axis", number)
    return apply("take_along_axis", tensor, where, axis=number)


def one_hot(indices: Any, num_classes: Any, /, *, axis: int = -1, dtype: Any = np.float64) -> Tensor:
    """Make vectors that are one at an index and zero elsewhere.

    Parameters
    ----------
    indices : array_like of int
        An index out of range gives zeros.
    num_classes : int or size
        The length of the vectors.
    axis : int
        Where the new axis stands in the result.
    dtype : data type, optional

    Returns
    -------
    Tensor
        ``y[..., c] = 1 if indices[...] == c else 0``.

    Raises
    ------
    DtypeError
        For indices that are no integers.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.one_hot([0, 2], 3).numpy()
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    where = _index_tensor(indices, "one_hot")
    number = normalize_axis(axis, where.ndim + 1, "one_hot")
    (length,) = shape_argument(num_classes, "one_hot")
    shape = tuple(length if i == number else 1 for i in range(where.ndim + 1))
    classes = index_along(
        shape, number, where.dtype if where.dtype.kind == "i" and where.dtype.itemsize >= 4 else np.int64
    )
    return cast_to(
        apply("equal", *operands((apply("expand_dims", where, axes=(number,)), classes), "one_hot")), as_dtype(dtype)
    )

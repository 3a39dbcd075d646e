"""Row-sparse tensors: gradients of gathers that touch only some rows of an array."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.graph.graph import Graph
from numgrad.ops.kinds import cast_to
from numgrad.ops.scan import cumsum
from numgrad.ops.sorting import argsort
from numgrad.types import Dim, Shape, canonical_shape, show_shape, size_product

__all__ = ["IndexedSlices", "concatenate", "dense", "row_gradient"]

LARGE = 10**8  # elements from which densifying warns


class IndexedSlices:
    """Rows of an otherwise zero array: ``dense[indices[i]] += values[i]``.

    Parameters
    ----------
    values : Tensor
        Shape ``(m, ...)``.
    indices : Tensor
        Integers of shape ``(m,)``; repeated rows add up.
    dense_shape : tuple, optional
        Shape of the array they are rows of; needed to make it dense.

    Raises
    ------
    DtypeError
        Indices are not integers.
    ShapeError
        Counts of values and indices differ, or ranks do not fit.

    Examples
    --------
    >>> import numgrad as ng
    >>> s = ng.IndexedSlices(ng.asarray([[1.0], [2.0]]), ng.asarray([2, 0]), (3, 1))
    >>> s.to_dense().numpy().ravel()
    array([2., 0., 1.])
    """

    __slots__ = ("dense_shape", "indices", "values")

    def __init__(self, values: Any, indices: Any, dense_shape: Sequence[Dim] | None = None) -> None:
        self.values, self.indices = as_tensor(values), as_tensor(indices)
        if self.indices.dtype.kind not in "iu":
            raise DtypeError(f"IndexedSlices: indices are {self.indices.dtype}, wanted integers{at(user_line())}")
        self.dense_shape: Shape | None = None if dense_shape is None else canonical_shape(dense_shape)
        fits = self.dense_shape is None or len(self.dense_shape) == self.values.ndim
        if self.indices.ndim != 1 or self.values.ndim < 1 or not fits:
            raise ShapeError(f"IndexedSlices: got values {self.values.spec}, indices {self.indices.spec} and dense "
                             f"shape {self.dense_shape}; wanted (m, ...), (m,) and a shape of values' rank"
                             f"{at(user_line())}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def shape(self) -> Shape | None:
        """The dense shape, or None when it is not known."""
        return self.dense_shape

    @property
    def op(self) -> Operation | None:
        """The operation that made the values."""
        return self.values.op

    @property
    def name(self) -> str:
        """The name of the values."""
        return self.values.name

    @property
    def graph(self) -> Graph | None:
        """The graph of the values."""
        return self.values.graph

    @property
    def device(self) -> str:
        """The device label of the values."""
        return self.values.device

    def __tensor__(self) -> Tensor:
        return self.to_dense()

    def to_dense(self) -> Tensor:
        """The whole array; ShapeError without a dense shape, a warning when it is huge.

        Examples
        --------
        >>> import numgrad as ng
        >>> ng.IndexedSlices([1.0, 2.0], [1, 1], (3,)).to_dense().numpy()
        array([0., 3., 0.])
        """
        if self.dense_shape is None:
            raise ShapeError(f"IndexedSlices without a dense shape cannot be made dense{at(user_line())}")
        size = size_product(self.dense_shape)
        if isinstance(size, int) and size >= LARGE:
            mebibytes = size * self.dtype.itemsize >> 20
            warnings.warn(f"numgrad: making IndexedSlices dense takes {size} elements ({mebibytes} MiB)", stacklevel=2)
        return apply("scatter_add", self.indices, self.values, axis=0, size=self.dense_shape[0])

    def sum_duplicates(self) -> IndexedSlices:
        """The same array with each row named at most once among the rows that are not zero.

        Outside a graph repeated rows are merged and the result is shorter. In a graph, where the number of distinct
        rows is known only when it runs, the result has as many rows as before: each sum once, then zeros.

        Examples
        --------
        >>> import numgrad as ng
        >>> s = ng.IndexedSlices([1.0, 2.0, 5.0], [4, 1, 4], (6,)).sum_duplicates()
        >>> s.indices.numpy(), s.values.numpy()
        (array([1, 4]), array([2., 6.]))
        """
        if self.graph is None and self.indices.graph is None:
            rows, inverse = np.unique(self.indices.numpy(), return_inverse=True)
            merged = apply("scatter_add", as_tensor(inverse.reshape(-1)), self.values, axis=0, size=len(rows))
            return IndexedSlices(merged, as_tensor(rows), self.dense_shape)
        count = self.values.shape[0]
        order = argsort(self.indices)
        rows_in_order = apply("take", self.indices, order, axis=0)
        values = apply("take", self.values, order, axis=0)
        position = apply("iota", shape=(count,), axis=0, dtype=np.dtype(np.int64))
        zero, one = as_tensor(np.int64(0)), as_tensor(np.int64(1))
        before = apply("take", rows_in_order, apply("maximum", apply("subtract", position, one), zero), axis=0)
        changes = apply("not_equal", rows_in_order, before)
        starts = apply("logical_and", changes, apply("greater", position, zero))
        group = cumsum(cast_to(starts, np.int64), 0)
        summed = apply("scatter_add", group, values, axis=0, size=count)
        return IndexedSlices(summed, apply("scatter_set", group, rows_in_order, axis=0, size=count), self.dense_shape)

    def __repr__(self) -> str:
        shape = "unknown" if self.dense_shape is None else show_shape(self.dense_shape)
        return f"<numgrad.IndexedSlices values={self.values!r} indices={self.indices!r} dense_shape={shape}>"


def dense(gradient: Tensor | IndexedSlices) -> Tensor:
    """A gradient as a tensor."""
    return gradient.to_dense() if isinstance(gradient, IndexedSlices) else gradient


def concatenate(parts: Sequence[IndexedSlices]) -> IndexedSlices:
    """The sum of several: rows after rows, in order, nothing merged; the dense shape is the first one's."""
    if len(parts) == 1:
        return parts[0]
    dtypes = {p.indices.dtype for p in parts}
    wide = parts[0].indices.dtype if len(dtypes) == 1 else np.dtype(np.int64)
    return IndexedSlices(apply("concat", *(p.values for p in parts), axis=0),
                         apply("concat", *(cast_to(p.indices, wide) for p in parts), axis=0), parts[0].dense_shape)


def row_gradient(op: Operation, cotangent: Tensor) -> IndexedSlices | None:
    """The cotangent of the array that `op` takes rows of, as rows; None when `op` does not take rows."""
    if op.type != "take" or op.attrs["axis"] != 0:
        return None
    x, indices = op.inputs
    count = size_product(indices.shape)
    return IndexedSlices(apply("reshape", cotangent, shape=(count, *x.shape[1:])),
                         apply("reshape", indices, shape=(count,)), x.shape)

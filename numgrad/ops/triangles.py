"""Matrices told by their diagonals: identities, and the lower and upper triangles of an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.creation import filled, index_along
from numgrad.ops.kinds import cast_to, shape_argument
from numgrad.ops.shaping import broadcast_to
from numgrad.types import Dim, as_dtype

__all__ = ["eye", "identity", "tri", "tril", "triu"]


def eye(n_rows: Any, n_cols: Any = None, /, k: Any = 0, dtype: Any = np.float64) -> Tensor:
    """Make a matrix with ones on a diagonal and zeros elsewhere.

    Parameters
    ----------
    n_rows : int or size
    n_cols : int or size, optional
        Default: `n_rows`.
    k : int or size
        Which diagonal: 0 the main one, positive above it, negative below.
    dtype : data type, optional

    Returns
    -------
    Tensor
        ``y[i, j] = 1 if j == i + k else 0``.

    Raises
    ------
    ShapeError
        For a negative size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.eye(2, 3, k=1).numpy()
    array([[0., 1., 0.],
           [0., 0., 1.]])
    """
    target = shape_argument((n_rows, n_rows if n_cols is None else n_cols), "eye")
    rows, columns = index_along(target, 0), index_along(target, 1)
    return cast_to(
        apply("equal", apply("subtract", columns, rows), broadcast_to(as_tensor(k, np.int64), target)), as_dtype(dtype)
    )


def identity(n: Any, dtype: Any = np.float64) -> Tensor:
    """Make the identity matrix.

    Parameters
    ----------
    n : int or size
    dtype : data type, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.identity(2).numpy()
    array([[1., 0.],
           [0., 1.]])
    """
    return eye(n, dtype=dtype)


def lower_mask(shape: Sequence[Dim], k: Any) -> Tensor:
    """True at and below the k-th diagonal of the last two axes; it has two axes."""
    target = tuple(shape[-2:])
    reach = apply("subtract", index_along(target, 1), index_along(target, 0))
    return apply("less_equal", reach, broadcast_to(as_tensor(k, np.int64), target))


def tri(n_rows: Any, n_cols: Any = None, k: Any = 0, dtype: Any = np.float64) -> Tensor:
    """Make a matrix with ones at and below a diagonal.

    Parameters
    ----------
    n_rows : int or size
    n_cols : int or size, optional
        Default: `n_rows`.
    k : int or size
        Which diagonal.
    dtype : data type, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.tri(2, 3).numpy()
    array([[1., 0., 0.],
           [1., 1., 0.]])
    """
    target = shape_argument((n_rows, n_rows if n_cols is None else n_cols), "tri")
    return cast_to(lower_mask(target, k), as_dtype(dtype))


def _matrix(x: Any, op: str) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(f"{op}: got {tensor.spec}, wanted at least two axes{at(user_line())}")
    return tensor


def tril(x: Any, /, k: Any = 0) -> Tensor:
    """Keep the elements at and below a diagonal; the others become zero.

    Parameters
    ----------
    x : array_like
        At least two axes; the last two are the matrix.
    k : int or size
        Which diagonal.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.tril([[1, 2], [3, 4]]).numpy()
    array([[1, 0],
           [3, 4]])
    """
    tensor = _matrix(x, "tril")
    return apply("where", lower_mask(tensor.shape, k), tensor, filled((), 0, tensor.dtype))


def triu(x: Any, /, k: Any = 0) -> Tensor:
    """Keep the elements at and above a diagonal; the others become zero.

    Parameters
    ----------
    x : array_like
        At least two axes; the last two are the matrix.
    k : int or size
        Which diagonal.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.triu([[1, 2], [3, 4]]).numpy()
    array([[1, 2],
           [0, 4]])
    """
    tensor = _matrix(x, "triu")
    return apply("where", lower_mask(tensor.shape, k - 1), filled((), 0, tensor.dtype), tensor)

"""Conversion of values to tensors, and questions about their axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgrad.graph.core import Tensor, as_tensor
from numgrad.ops.kinds import normalize_axis
from numgrad.types import Dim, as_dtype, canonical_shape

__all__ = ["asarray", "ndim", "shape", "size"]


def asarray(value: Any, /, dtype: Any = None, *, copy: bool | None = None) -> Tensor:
    """Make an eager tensor of a value; a tensor is returned as it is.

    Parameters
    ----------
    value : array_like
        NumPy arrays, nested lists, scalars, sizes, tensors, and nests of tensors.
    dtype : data type, optional
        Default: NumPy's choice (float64 for Python floats, int64 for integers).
    copy : bool, optional
        True copies a NumPy array; by default its memory is shared where the dtype allows.

    Returns
    -------
    Tensor

    Raises
    ------
    DtypeError
        For values that are no numbers.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.asarray([1, 2], dtype=ng.float32)
    ng.asarray([1., 2.], dtype=float32)
    """
    if dtype is not None:
        dtype = as_dtype(dtype)
    if copy and not isinstance(value, Tensor):
        value = np.array(value)
    return as_tensor(value, dtype)


def shape(x: Any, /) -> tuple[Dim, ...]:
    """Tell the sizes of an array's axes.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    tuple of int and size

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.shape([[1, 2, 3]])
    (1, 3)
    """
    return canonical_shape(as_tensor(x).shape)


def ndim(x: Any, /) -> int:
    """Tell the number of an array's axes.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    int

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.ndim([[1, 2, 3]])
    2
    """
    return as_tensor(x).ndim


def size(x: Any, /, axis: int | None = None) -> Dim:
    """Tell the number of an array's elements, or the size of one axis.

    Parameters
    ----------
    x : array_like
    axis : int, optional

    Returns
    -------
    int or size

    Raises
    ------
    ShapeError
        For an axis out of range.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.size([[1, 2, 3]]), ng.size([[1, 2, 3]], axis=0)
    (3, 1)
    """
    tensor = as_tensor(x)
    if axis is None:
        return tensor.size
    return canonical_shape(tensor.shape)[normalize_axis(axis, tensor.ndim, "size")]

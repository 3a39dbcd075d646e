"""Creation: constant ops for filled arrays and counted indices, and the functions that make arrays from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to, define, shape_argument
from numgrad.ops.shaping import broadcast_to
from numgrad.types import Dim, Size, Spec, as_dtype, canonical_shape, show_shape

__all__ = [
    "empty",
    "empty_like",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


# -- the ops


def _made(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    for dim in attrs["shape"]:
        if isinstance(dim, int) and dim < 0:
            raise ShapeError(f"the shape {show_shape(attrs['shape'])} has a negative size{at(user_line())}")
    return (Spec(attrs["dtype"], canonical_shape(attrs["shape"])),)


def _iota(shape: tuple[int, ...], axis: int, dtype: Any) -> np.ndarray[Any, Any]:
    along = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    return np.broadcast_to(np.arange(shape[axis]).astype(dtype).reshape(along), shape)


define(
    "full",
    "constant",
    _made,
    lambda shape, value, dtype: np.full(shape, value, dtype),
    public="full",
    samples=lambda rng: [
        ([], {"shape": (2, 3), "value": 1.5, "dtype": np.dtype(np.float64)}),
        ([], {"shape": (), "value": True, "dtype": np.dtype(bool)}),
        ([], {"shape": (0, 2), "value": -3, "dtype": np.dtype(np.int32)}),
    ],
    doc="An array with one value everywhere.",
)
define(
    "iota",
    "constant",
    _made,
    _iota,
    samples=lambda rng: [
        ([], {"shape": (2, 3), "axis": 1, "dtype": np.dtype(np.int64)}),
        ([], {"shape": (4,), "axis": 0, "dtype": np.dtype(np.float32)}),
        ([], {"shape": (3, 0), "axis": 0, "dtype": np.dtype(np.int32)}),
    ],
    doc="The index along one axis.",
)


def _define_like(name: str, value: int, numpy: Any) -> None:
    define(
        name,
        "general",
        lambda specs, attrs: (specs[0],),
        numpy,
        vjp=lambda op, cts: [None],
        jvp=lambda op, tangents: [None],
        decompose=lambda x: apply("full", shape=x.shape, value=value, dtype=x.dtype),
        public=name,
        samples=lambda rng: [
            ([rng.standard_normal((2, 3))], {}),
            ([rng.standard_normal(())], {}),
            ([rng.standard_normal((0, 2))], {}),
        ],
        doc=f"{'Zeros' if value == 0 else 'Ones'} in the shape and dtype of an array; there is no path to it.",
    )


_define_like("zeros_like", 0, np.zeros_like)
_define_like("ones_like", 1, np.ones_like)


# -- filled arrays


def filled(shape: Sequence[Dim], value: Any, dtype: Any) -> Tensor:
    """A tensor of one Python scalar."""
    return apply("full", shape=tuple(shape), value=value, dtype=np.dtype(dtype))


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """Make an array that holds one value everywhere.

    Parameters
    ----------
    shape : int, size or sequence of them
    fill_value : scalar or array_like
        A tensor is broadcast, and derivatives flow to it.
    dtype : data type, optional
        Default: that of the value.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a negative size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.full((2, 2), 7).numpy()
    array([[7, 7],
           [7, 7]])
    """
    target = shape_argument(shape, "full")
    if isinstance(fill_value, (Tensor, Size)):
        tensor = as_tensor(fill_value)
        return broadcast_to(tensor if dtype is None else cast_to(tensor, as_dtype(dtype)), target)
    value = np.asarray(fill_value)
    wanted = as_dtype(value.dtype if dtype is None else dtype)
    if value.ndim:
        return broadcast_to(as_tensor(value.astype(wanted)), target)
    with np.errstate(all="ignore"):
        return filled(target, np.asarray(fill_value, dtype=wanted).item(), wanted)


def zeros(shape: Any, dtype: Any = np.float64) -> Tensor:
    """Make an array of zeros.

    Parameters
    ----------
    shape : int, size or sequence of them
        Sizes known only when the program runs are fine: ``ng.zeros(x.shape)``.
    dtype : data type, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a negative size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.zeros(3).numpy()
    array([0., 0., 0.])
    """
    return filled(shape_argument(shape, "zeros"), 0, as_dtype(dtype))


def ones(shape: Any, dtype: Any = np.float64) -> Tensor:
    """Make an array of ones.

    Parameters
    ----------
    shape : int, size or sequence of them
    dtype : data type, optional

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a negative size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.ones((2, 1), dtype=ng.int32).numpy()
    array([[1],
           [1]], dtype=int32)
    """
    return filled(shape_argument(shape, "ones"), 1, as_dtype(dtype))


def empty(shape: Any, dtype: Any = np.float64) -> Tensor:
    """Make an array whose values do not matter; they are zeros, so that programs stay deterministic.

    Parameters
    ----------
    shape : int, size or sequence of them
    dtype : data type, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.empty((2, 3)).shape
    (2, 3)
    """
    return filled(shape_argument(shape, "empty"), 0, as_dtype(dtype))


def _like(name: str, x: Any, dtype: Any, shape: Any) -> Tensor:
    tensor = as_tensor(x)
    wanted = tensor.dtype if dtype is None else as_dtype(dtype)
    if shape is None and wanted == tensor.dtype:
        return apply(name, tensor)
    target = tensor.shape if shape is None else shape_argument(shape, name)
    return filled(target, 0 if name == "zeros_like" else 1, wanted)


def zeros_like(x: Any, /, dtype: Any = None, shape: Any = None) -> Tensor:
    """Make zeros in the shape and dtype of another array.

    Parameters
    ----------
    x : array_like
    dtype : data type, optional
    shape : int, size or sequence of them, optional

    Returns
    -------
    Tensor
        No derivative leads from it to `x`: `gradients` gives None.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.zeros_like([1.5, 2.5]).numpy()
    array([0., 0.])
    """
    return _like("zeros_like", x, dtype, shape)


def ones_like(x: Any, /, dtype: Any = None, shape: Any = None) -> Tensor:
    """Make ones in the shape and dtype of another array.

    Parameters
    ----------
    x : array_like
    dtype : data type, optional
    shape : int, size or sequence of them, optional

    Returns
    -------
    Tensor
        No derivative leads from it to `x`: `gradients` gives None.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.ones_like([1.5, 2.5]).numpy()
    array([1., 1.])
    """
    return _like("ones_like", x, dtype, shape)


def empty_like(x: Any, /, dtype: Any = None, shape: Any = None) -> Tensor:
    """Make an array like another whose values do not matter; they are zeros.

    Parameters
    ----------
    x : array_like
    dtype : data type, optional
    shape : int, size or sequence of them, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.empty_like([1, 2]).dtype
    dtype('int64')
    """
    return _like("zeros_like", x, dtype, shape)


def full_like(x: Any, /, fill_value: Any, dtype: Any = None, shape: Any = None) -> Tensor:
    """Make an array of one value in the shape and dtype of another array.

    Parameters
    ----------
    x : array_like
    fill_value : scalar or array_like
    dtype : data type, optional
    shape : int, size or sequence of them, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.full_like([1.5, 2.5], 3).numpy()
    array([3., 3.])
    """
    tensor = as_tensor(x)
    return full(tensor.shape if shape is None else shape, fill_value, tensor.dtype if dtype is None else dtype)


def index_along(shape: Sequence[Dim], axis: int, dtype: Any = np.int64) -> Tensor:
    """The index along one axis, in an array of this shape."""
    return apply("iota", shape=tuple(shape), axis=axis, dtype=np.dtype(dtype))

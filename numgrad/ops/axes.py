"""Axes put into another order, and axes of size 1 put in and taken away: views, and the functions made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.graph.records import View
from numgrad.ops.kinds import define, normalize_axes, normalize_axis
from numgrad.ops.shaping import float_samples, is_one
from numgrad.types import Dim, Spec, canonical_shape, require_equal

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "expand_dims",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "squeeze",
    "swapaxes",
    "transpose",
]


# -- order


def _permute_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,) = specs
    return (Spec(x.dtype, tuple(x.shape[a] for a in attrs["axes"])),)


def inverse_permutation(axes: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes `axes`."""
    return tuple(int(i) for i in np.argsort(axes))


define(
    "permute_dims",
    "linear",
    _permute_infer,
    lambda x, axes: np.transpose(x, axes),
    vjp=lambda op, cts: [apply("permute_dims", cts[0], axes=inverse_permutation(op.attrs["axes"]))],
    view=View(lambda spec_in, spec_out, attrs, strides: (0, tuple(strides[a] for a in attrs["axes"]))),
    public="permute_dims",
    samples=lambda rng: [
        (float_samples(rng, (2, 3, 4)), {"axes": (2, 0, 1)}),
        (float_samples(rng, (0, 3)), {"axes": (1, 0)}),
        (float_samples(rng, ()), {"axes": ()}),
        ([rng.standard_normal((4, 6))[::2, ::-1]], {"axes": (1, 0)}),
    ],
    doc="The axes in another order.",
)


def permute_dims(x: Any, /, axes: Any = None) -> Tensor:
    """Put the axes into another order.

    Parameters
    ----------
    x : array_like
    axes : sequence of int, optional
        ``axes[i]`` is the axis of `x` that becomes axis i; default: reversed.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        When `axes` is no permutation.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.permute_dims(ng.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    tensor = as_tensor(x)
    if axes is None:
        order = tuple(reversed(range(tensor.ndim)))
    else:
        given = (axes,) if isinstance(axes, (int, np.integer)) else tuple(axes)
        order = tuple(normalize_axis(a, tensor.ndim, "permute_dims") for a in given)
    if sorted(order) != list(range(tensor.ndim)):
        raise ShapeError(
            f"permute_dims: axes {axes} are no permutation of the {tensor.ndim} axes of {tensor.spec}{at(user_line())}"
        )
    return apply("permute_dims", tensor, axes=order) if order != tuple(range(tensor.ndim)) else tensor


def transpose(x: Any, /, axes: Any = None) -> Tensor:
    """Put the axes into another order, reversed by default: NumPy's name of `permute_dims`.

    Parameters
    ----------
    x : array_like
    axes : sequence of int, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.transpose([[1, 2], [3, 4]]).numpy()
    array([[1, 3],
           [2, 4]])
    """
    return permute_dims(x, axes)


def matrix_transpose(x: Any, /) -> Tensor:
    """Exchange the last two axes.

    Parameters
    ----------
    x : array_like
        At least two axes.

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
    >>> ng.matrix_transpose(ng.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_transpose: got {tensor.spec}, wanted at least two axes{at(user_line())}")
    return swapaxes(tensor, -1, -2)


def swapaxes(x: Any, /, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    Parameters
    ----------
    x : array_like
    axis1, axis2 : int

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
    >>> ng.swapaxes(ng.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    tensor = as_tensor(x)
    a, b = (normalize_axis(i, tensor.ndim, "swapaxes") for i in (axis1, axis2))
    order = list(range(tensor.ndim))
    order[a], order[b] = b, a
    return permute_dims(tensor, order)


def moveaxis(x: Any, /, source: Any, destination: Any) -> Tensor:
    """Move axes to new places; the others keep their order.

    Parameters
    ----------
    x : array_like
    source, destination : int or sequence of int
        As many of the one as of the other.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For an axis out of range or given twice, or different numbers of axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.moveaxis(ng.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    tensor = as_tensor(x)
    lists = [list(a) if isinstance(a, (tuple, list)) else [a] for a in (source, destination)]
    origins, places = ([normalize_axis(a, tensor.ndim, "moveaxis") for a in given] for given in lists)
    if len(origins) != len(places) or len(set(origins)) != len(origins) or len(set(places)) != len(places):
        raise ShapeError(
            f"moveaxis: source {source} and destination {destination} must name equally many different "
            f"axes{at(user_line())}"
        )
    order = [a for a in range(tensor.ndim) if a not in origins]
    for place, origin in sorted(zip(places, origins, strict=True)):
        order.insert(place, origin)
    return permute_dims(tensor, order)


# -- axes of size one


def _expand_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,) = specs
    rest = iter(x.shape)
    axes = set(attrs["axes"])
    return (Spec(x.dtype, tuple(1 if i in axes else next(rest) for i in range(x.ndim + len(axes)))),)


def _expand_access(
    spec_in: Spec, spec_out: Spec, attrs: Mapping[str, Any], strides: Sequence[Dim]
) -> tuple[Dim, Sequence[Dim]]:
    rest = iter(strides)
    axes = set(attrs["axes"])
    return 0, tuple(0 if i in axes else next(rest) for i in range(spec_out.ndim))


@lru_cache(maxsize=256)
def _new_axes(rank: int, axes: tuple[int, ...]) -> tuple[slice | None, ...]:
    """The index that makes axes of size 1; NumPy's own function takes several times as long."""
    return tuple(None if i in axes else slice(None) for i in range(rank + len(axes)))


define(
    "expand_dims",
    "linear",
    _expand_infer,
    lambda x, axes: x[_new_axes(x.ndim, axes)],
    vjp=lambda op, cts: [apply("squeeze", cts[0], axes=op.attrs["axes"])],
    view=View(_expand_access),
    public="expand_dims",
    samples=lambda rng: [
        (float_samples(rng, (3, 4)), {"axes": (0, 2)}),
        (float_samples(rng, ()), {"axes": (0,)}),
        (float_samples(rng, (0,)), {"axes": (1,)}),
    ],
    doc="New axes of size 1.",
)


def _squeeze_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,) = specs
    axes = attrs["axes"]
    for axis in axes:
        require_equal(x.shape[axis], 1, lambda: f"squeeze: the axes {axes} of {x} must have size 1")
    return (Spec(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in axes)),)


def _squeeze_access(
    spec_in: Spec, spec_out: Spec, attrs: Mapping[str, Any], strides: Sequence[Dim]
) -> tuple[Dim, Sequence[Dim]]:
    return 0, tuple(s for i, s in enumerate(strides) if i not in attrs["axes"])


define(
    "squeeze",
    "linear",
    _squeeze_infer,
    lambda x, axes: np.squeeze(x, axes),
    vjp=lambda op, cts: [apply("expand_dims", cts[0], axes=op.attrs["axes"])],
    view=View(_squeeze_access),
    public="squeeze",
    samples=lambda rng: [
        (float_samples(rng, (1, 3, 1)), {"axes": (0, 2)}),
        (float_samples(rng, (1,)), {"axes": (0,)}),
        (float_samples(rng, (0, 1)), {"axes": (1,)}),
    ],
    doc="Axes of size 1 taken away.",
)


def expand_dims(x: Any, /, axis: Any = 0) -> Tensor:
    """Insert axes of size 1.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int
        Where the new axes stand in the result.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For an axis out of range or given twice.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.expand_dims([1, 2], axis=1).shape
    (2, 1)
    """
    tensor = as_tensor(x)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    if not count:
        return tensor
    return apply("expand_dims", tensor, axes=normalize_axes(axis, tensor.ndim + count, "expand_dims"))


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """Remove axes of size 1.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int, optional
        The axes to remove, each of size 1. Default: all that are known to have size 1; an axis of unknown size stays.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        When an axis that is named has another size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.squeeze([[[1], [2]]]).shape
    (2,)
    """
    tensor = as_tensor(x)
    if axis is None:
        axes = tuple(i for i, d in enumerate(canonical_shape(tensor.shape)) if is_one(d))
    else:
        axes = normalize_axes(axis, tensor.ndim, "squeeze")
    return apply("squeeze", tensor, axes=axes) if axes else tensor


def _atleast(x: Any, rank: int) -> Tensor:
    tensor = as_tensor(x)
    missing = rank - tensor.ndim
    if missing <= 0:
        return tensor
    # NumPy puts a vector into the middle axis of three, and a matrix into the first two
    axes = {(3, 1): (0, 2), (3, 2): (2,)}.get((rank, tensor.ndim), tuple(range(missing)))
    return expand_dims(tensor, axes)


def _each(arrays: Sequence[Any], rank: int) -> Any:
    results = tuple(_atleast(a, rank) for a in arrays)
    return results[0] if len(results) == 1 else results


def atleast_1d(*arrays: Any) -> Any:
    """Give arrays at least one axis.

    Parameters
    ----------
    *arrays : array_like

    Returns
    -------
    Tensor, or tuple of Tensor for several arrays

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.atleast_1d(3.0).shape
    (1,)
    """
    return _each(arrays, 1)


def atleast_2d(*arrays: Any) -> Any:
    """Give arrays at least two axes: a vector becomes a row.

    Parameters
    ----------
    *arrays : array_like

    Returns
    -------
    Tensor, or tuple of Tensor for several arrays

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.atleast_2d([1.0, 2.0]).shape
    (1, 2)
    """
    return _each(arrays, 2)


def atleast_3d(*arrays: Any) -> Any:
    """Give arrays at least three axes: (n,) becomes (1, n, 1) and (m, n) becomes (m, n, 1).

    Parameters
    ----------
    *arrays : array_like

    Returns
    -------
    Tensor, or tuple of Tensor for several arrays

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.atleast_3d([1.0, 2.0]).shape
    (1, 2, 1)
    """
    return _each(arrays, 3)

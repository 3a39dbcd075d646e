"""Shaping: ops that read the same elements under another shape, all of them views, and the functions made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.graph.records import View
from numgrad.ops.kinds import define, shape_argument
from numgrad.types import (
    Dim,
    Shape,
    Size,
    Spec,
    broadcast_shapes,
    canonical_shape,
    require_equal,
    same_shape,
    same_size,
    show_shape,
    size_product,
)

__all__ = [
    "broadcast_arrays",
    "broadcast_to",
    "flatten",
    "ravel",
    "reshape",
]


def dense_strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """The strides, in elements, of a C-contiguous array."""
    strides: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


# -- reshape


def _reshape_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,) = specs
    shape = attrs["shape"]
    require_equal(
        size_product(x.shape),
        size_product(shape),
        lambda: (
            f"reshape: cannot reshape {x} of {size_product(x.shape)} elements to {show_shape(shape)} of "
            f"{size_product(shape)}"
        ),
    )
    return (Spec(x.dtype, canonical_shape(shape)),)


def _reshape_access(
    spec_in: Spec, spec_out: Spec, attrs: Mapping[str, Any], strides: Sequence[Dim]
) -> tuple[Dim, Sequence[Dim]] | None:
    wide = [(size, stride) for size, stride in zip(spec_in.shape, strides, strict=True) if not is_one(size)]
    if same_shape([size for size, _ in wide], [size for size in spec_out.shape if not is_one(size)]):
        rest = iter([stride for _, stride in wide])  # only axes of size 1 come and go: any strides will do
        return 0, tuple(0 if is_one(size) else next(rest) for size in spec_out.shape)
    if all(
        same_size(stride, dense)
        for stride, dense, size in zip(strides, dense_strides(spec_in.shape), spec_in.shape, strict=True)
        if not is_one(size)
    ):
        return 0, dense_strides(spec_out.shape)
    return None


def is_one(size: Dim) -> bool:
    """Whether a size is known to be 1."""
    return isinstance(size, int) and size == 1


def float_samples(rng: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """Random arrays of these shapes, for an op's `samples`."""
    return [rng.standard_normal(s) for s in shapes]


define(
    "reshape",
    "linear",
    _reshape_infer,
    lambda x, shape: np.reshape(x, shape),
    vjp=lambda op, cts: [apply("reshape", cts[0], shape=op.inputs[0].shape)],
    view=View(_reshape_access),
    public="reshape",
    samples=lambda rng: [
        (float_samples(rng, (3, 4)), {"shape": (2, 6)}),
        (float_samples(rng, (2, 3, 4)), {"shape": (6, 1, 4)}),
        (float_samples(rng, ()), {"shape": (1, 1)}),
        (float_samples(rng, (0, 3)), {"shape": (3, 0, 2)}),
        ([rng.standard_normal((4, 3)).T], {"shape": (12,)}),
    ],
    doc="The elements in row-major order under another shape.",
)


def resolve_shape(shape: Shape, total: Dim, op: str, source: str) -> Shape:
    """`shape` with a -1 replaced by what makes the number of elements `total`."""
    holes = [i for i, d in enumerate(shape) if isinstance(d, int) and d < 0]
    if not holes:
        return shape
    if len(holes) > 1 or shape[holes[0]] != -1:
        raise ShapeError(
            f"{op}: got the shape {show_shape(shape)}, wanted sizes of at least 0 and at most one -1{at(user_line())}"
        )
    known = size_product(d for i, d in enumerate(shape) if i != holes[0])
    fits = False
    if isinstance(known, Size) or known != 0:
        found = total // known
        fits = isinstance(found, Size) or not isinstance(total, int) or found * known == total
    if not fits:
        raise ShapeError(
            f"{op}: cannot reshape {source} of {total} elements to {show_shape(shape)}: {total} is not a "
            f"multiple of {known}" + (", and 0 leaves the -1 open" if not known else "") + at(user_line())
        )
    return shape[: holes[0]] + (found,) + shape[holes[0] + 1 :]


def reshape(x: Any, /, shape: Any, *, order: str = "C", copy: bool | None = None) -> Tensor:
    """Give the elements of an array another shape.

    Parameters
    ----------
    x : array_like
    shape : int, size or sequence of them
        One entry may be -1: it is what the number of elements leaves. Sizes known only when the program runs are fine,
        as in ``ng.reshape(x, (x.shape[0], -1))``.
    order : {"C", "F"}
        Row-major or column-major reading and writing of the elements.
    copy : bool, optional
        Accepted for compatibility; values are never shared visibly.

    Returns
    -------
    Tensor
        Same dtype, shape `shape`.

    Raises
    ------
    ShapeError
        When the numbers of elements differ, or more than one entry is negative.

    Notes
    -----
    ``y[flat index k] = x[flat index k]``; the cotangent is reshaped back.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.reshape([1, 2, 3, 4, 5, 6], (2, -1)).numpy()
    array([[1, 2, 3],
           [4, 5, 6]])
    """
    del copy
    tensor = as_tensor(x)
    target = resolve_shape(shape_argument(shape, "reshape"), tensor.size, "reshape", str(tensor.spec))
    if order == "F":
        return _reversed_axes(reshape(_reversed_axes(tensor), target[::-1]))
    if order != "C":
        raise ShapeError(f"reshape: order is {order!r}, wanted 'C' or 'F'{at(user_line())}")
    return apply("reshape", tensor, shape=target)


def _reversed_axes(tensor: Tensor) -> Tensor:
    return apply("permute_dims", tensor, axes=tuple(reversed(range(tensor.ndim))))


def ravel(x: Any, /, order: str = "C") -> Tensor:
    """Read an array as one axis, in row-major (``"C"``) or column-major (``"F"``) order.

    Parameters
    ----------
    x : array_like
    order : {"C", "F"}

    Returns
    -------
    Tensor
        Shape ``(x.size,)``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.ravel([[1, 2], [3, 4]]).numpy()
    array([1, 2, 3, 4])
    """
    return reshape(x, -1, order=order) if as_tensor(x).ndim != 1 else as_tensor(x)


def flatten(x: Any, /, order: str = "C") -> Tensor:
    """Read an array as one axis: another name of `ravel`, after the NumPy method.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.flatten([[1, 2], [3, 4]], order="F").numpy()
    array([1, 3, 2, 4])
    """
    return ravel(x, order=order)


# -- broadcasting


def _broadcast_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,) = specs
    shape = attrs["shape"]
    lead = len(shape) - x.ndim

    def message() -> str:
        return f"broadcast_to: cannot broadcast {x} to {show_shape(shape)}; sizes must be equal or 1"

    if lead < 0:
        raise ShapeError(message() + at(user_line()))
    for have, want in zip(x.shape, shape[lead:], strict=True):
        if not is_one(have):
            require_equal(have, want, message)
    return (Spec(x.dtype, canonical_shape(shape)),)


def _broadcast_access(
    spec_in: Spec, spec_out: Spec, attrs: Mapping[str, Any], strides: Sequence[Dim]
) -> tuple[Dim, Sequence[Dim]]:
    lead = spec_out.ndim - spec_in.ndim
    return 0, (0,) * lead + tuple(0 if is_one(d) else s for d, s in zip(spec_in.shape, strides, strict=True))


def _broadcast_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (ct,) = cts
    shape = canonical_shape(op.inputs[0].shape)
    assert ct is not None
    lead = ct.ndim - len(shape)
    spread = tuple(lead + i for i, d in enumerate(shape) if is_one(d) and not is_one(ct.shape[lead + i]))
    axes = tuple(range(lead)) + spread
    if axes:
        ct = apply("sum", ct, axes=axes)
    if spread:
        ct = apply("expand_dims", ct, axes=tuple(a - lead for a in spread))
    return [ct]


def _broadcast(x: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if x.size != 1:
        return np.broadcast_to(x, shape)
    # What NumPy's function does, which takes several times as long.
    result = np.ndarray(shape, x.dtype, x.reshape(()), 0, (0,) * len(shape))
    result.flags.writeable = False
    return result


define(
    "broadcast_to",
    "linear",
    _broadcast_infer,
    _broadcast,
    vjp=_broadcast_vjp,
    view=View(_broadcast_access),
    public="broadcast_to",
    samples=lambda rng: [
        (float_samples(rng, (3, 1)), {"shape": (2, 3, 4)}),
        (float_samples(rng, ()), {"shape": (2, 2)}),
        (float_samples(rng, (1,)), {"shape": (0,)}),
        (float_samples(rng, (2, 3)), {"shape": (2, 3)}),
    ],
    doc="Axes of size 1 repeated without copying.",
)


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """Repeat an array along new leading axes and axes of size 1, as NumPy's broadcasting does.

    Parameters
    ----------
    x : array_like
    shape : int, size or sequence of them

    Returns
    -------
    Tensor
        Same dtype, shape `shape`.

    Raises
    ------
    ShapeError
        When an axis has neither size 1 nor the size wanted.

    Notes
    -----
    The cotangent is summed over the repeated axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.broadcast_to([1.0, 2.0], (2, 2)).numpy()
    array([[1., 2.],
           [1., 2.]])
    """
    tensor = as_tensor(x)
    target = shape_argument(shape, "broadcast_to")
    return tensor if same_shape(tensor.shape, target) else apply("broadcast_to", tensor, shape=target)


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Broadcast arrays against each other.

    Parameters
    ----------
    *arrays : array_like

    Returns
    -------
    list of Tensor
        All of one shape, each with its own dtype.

    Raises
    ------
    ShapeError
        When the shapes do not broadcast.

    Examples
    --------
    >>> import numgrad as ng
    >>> [a.shape for a in ng.broadcast_arrays([1, 2, 3], [[1.0], [2.0]])]
    [(2, 3), (2, 3)]
    """
    tensors = [as_tensor(a) for a in arrays]
    if not tensors:
        return []
    shape = broadcast_shapes([t.shape for t in tensors], "broadcast_arrays")
    return [broadcast_to(t, shape) for t in tensors]

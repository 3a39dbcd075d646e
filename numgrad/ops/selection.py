"""Keys of `x[key]`: NumPy's indexing read once, as steps that run forwards (reading) or backwards (writing)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.axes import inverse_permutation
from numgrad.ops.gathering import checked_indices
from numgrad.ops.kinds import cast_to
from numgrad.ops.shaping import broadcast_to
from numgrad.ops.sizes import at_least
from numgrad.ops.slicing import slice_axis
from numgrad.types import Dim, Shape, Size, broadcast_shapes, canonical_shape, require_equal, show_shape, size_product

__all__ = ["Step", "read", "steps_of", "write", "written_shape"]

_INT64 = np.dtype(np.int64)


class Step(NamedTuple):
    """One op on the way from an array to its selection, and the shape that it finds."""

    op: str
    attrs: dict[str, Any]
    before: Shape
    indices: Tensor | None = None


# -- what stands in a key


class _Mask(NamedTuple):
    """A boolean array: the positions of its true elements, and the sizes it must meet."""

    positions: tuple[np.ndarray[Any, Any], ...]
    shape: tuple[int, ...]


def _read_item(item: Any) -> Any:
    """An item of a key as None, Ellipsis, a slice, an integer or size, a `_Mask`, or an integer tensor."""
    if item is None or item is Ellipsis or isinstance(item, (slice, Size)):
        return item
    if isinstance(item, (bool, np.bool_)):
        return _Mask((np.zeros(int(item), np.int64),), ())
    if isinstance(item, (int, np.integer)):
        return int(item)
    tensor = as_tensor(item)
    if isinstance(item, list) and tensor._value is not None and not tensor._value.size:
        return as_tensor(tensor._value.astype(np.int64))  # [] has no dtype of its own
    if tensor.dtype.kind == "b":
        if tensor._value is None:
            raise ShapeError(
                f"indexing: {tensor!r} is a mask that is known only when the program runs, so the size of the "
                f"result is unknown; use ng.where(mask, x, 0), multiply by weights, or pass a NumPy mask"
                f"{at(user_line())}"
            )
        value = tensor.numpy()
        if not value.ndim:
            return _Mask((np.zeros(int(value), np.int64),), ())
        return _Mask(tuple(value.nonzero()), value.shape)
    if tensor.dtype.kind not in "iu":
        raise IndexError(
            f"indexing: got an index of {tensor.spec}, wanted integers, slices, ellipsis (...), None and "
            f"arrays of integers or bools{at(user_line())}"
        )
    if tensor._value is not None and not tensor.ndim:
        return int(tensor._value)
    return tensor


def _used_axes(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return len(item.shape) if isinstance(item, _Mask) else 1


def _full_key(key: Any, shape: Shape) -> list[Any]:
    """The items of a key with the axes of the ellipsis written out after it."""
    items = [_read_item(i) for i in (key if isinstance(key, tuple) else (key,))]
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    used = sum(map(_used_axes, items))
    if used > len(shape):
        raise IndexError(
            f"indexing: {used} indices for the {len(shape)} axes of an array of shape {show_shape(shape)}"
            f"{at(user_line())}"
        )
    if len(dots) > 1:
        raise IndexError(f"indexing: more than one ellipsis (...){at(user_line())}")
    place = dots[0] if dots else len(items)
    # the ellipsis stays: even of no axes it keeps the index arrays at its sides apart
    return items[: place + 1] + [slice(None)] * (len(shape) - used) + items[place + 1 :]


def _require_mask(shape: Shape, axis: int, mask: _Mask) -> None:
    for have, want in zip(shape[axis:], mask.shape, strict=False):
        require_equal(
            have,
            want,
            lambda: f"indexing: a mask of shape {mask.shape} at axis {axis} of the shape {show_shape(shape)}",
        )


def _single(index: Dim, size: Dim, axis: int) -> Dim:
    """The start of the slice that an integer index means."""
    negative = isinstance(index, int) and index < 0
    position = index + size if negative else index
    if not (at_least(position, 0) and at_least(size, position + 1)):
        raise IndexError(f"indexing: index {index} is out of range for axis {axis} of size {size}{at(user_line())}")
    return position


# -- the steps


def steps_of(shape: Shape, key: Any) -> list[Step]:
    """The ops that select `key` from an array of this shape: views first, then at most one gather."""
    items = _full_key(key, shape)
    start: list[Dim] = []
    count: list[Dim] = []
    step: list[int] = []
    single: list[int] = []  # axes of the sliced array that integers use up
    fresh: list[int] = []  # axes of the array after that which are new
    arrays: list[tuple[int, Any]] = []  # (axis after that, indices)
    advanced: list[int] = []  # where in the key integers and arrays stand
    rank = 0
    for place, item in enumerate(items):
        axis = len(start)
        if item is Ellipsis:
            continue
        if isinstance(item, (int, Size)):
            start.append(_single(item, shape[axis], axis))
            count.append(1)
            step.append(1)
            single.append(axis)
            advanced.append(place)
            continue
        if isinstance(item, slice):
            first, length, by = slice_axis(item, shape[axis], axis)
            start.append(first)
            count.append(length)
            step.append(by)
            rank += 1
            continue
        if item is None or (isinstance(item, _Mask) and not item.shape):
            fresh.append(rank)
        if item is None:
            rank += 1
            continue
        advanced.append(place)
        if isinstance(item, _Mask):
            _require_mask(shape, axis, item)
            for size in item.shape:
                start.append(0)
                count.append(size)
                step.append(1)
        else:
            start.append(0)
            count.append(shape[axis])
            step.append(1)
        for indices in item.positions if isinstance(item, _Mask) else (item,):
            arrays.append((rank, indices))
            rank += 1
    steps = _basic_steps(shape, items, tuple(start), tuple(count), tuple(step), tuple(single), tuple(fresh))
    if arrays:
        together = advanced == list(range(advanced[0], advanced[-1] + 1))
        before = sum(1 for item in items[: advanced[0]] if item is None or isinstance(item, slice))
        here = _after(steps[-1]) if steps else shape
        steps += _gather_steps(here, arrays, before if together else 0)
    return steps


def _after(step: Step) -> Shape:
    """The shape that a view step leaves behind."""
    axes = step.attrs.get("axes", ())
    if step.op == "slice":
        return step.attrs["count"]  # type: ignore[no-any-return]
    if step.op == "squeeze":
        return tuple(d for i, d in enumerate(step.before) if i not in axes)
    if step.op == "expand_dims":
        rest = iter(step.before)
        return tuple(1 if i in axes else next(rest) for i in range(len(step.before) + len(axes)))
    if step.op == "permute_dims":
        return tuple(step.before[a] for a in axes)
    if step.op == "reshape":
        return step.attrs["shape"]  # type: ignore[no-any-return]
    assert step.indices is not None
    axis = step.attrs["axis"]
    return (*step.before[:axis], *step.indices.shape, *step.before[axis + 1 :])


def _basic_steps(
    shape: Shape,
    items: Sequence[Any],
    start: Shape,
    count: Shape,
    step: tuple[int, ...],
    single: tuple[int, ...],
    fresh: tuple[int, ...],
) -> list[Step]:
    steps: list[Step] = []
    if any(isinstance(i, (int, Size)) or (isinstance(i, slice) and i != slice(None)) for i in items):
        steps.append(Step("slice", {"start": start, "count": count, "step": step}, shape))
    if single:
        steps.append(Step("squeeze", {"axes": single}, _after(steps[-1])))
    if fresh:
        steps.append(Step("expand_dims", {"axes": fresh}, _after(steps[-1]) if steps else shape))
    return steps


def _gather_steps(shape: Shape, arrays: Sequence[tuple[int, Any]], destination: int) -> list[Step]:
    """Bring the indexed axes together, make them one, gather, and bring the gathered axes to `destination`."""
    axes = [axis for axis, _ in arrays]
    sizes = [shape[a] for a in axes]
    indices = _one_index([i for _, i in arrays], sizes)
    steps: list[Step] = []
    axis = axes[0]
    if len(axes) > 1:
        if axes != list(range(axis, axis + len(axes))):
            rest = [a for a in range(len(shape)) if a not in axes]
            axis = destination
            steps.append(Step("permute_dims", {"axes": (*rest[:axis], *axes, *rest[axis:])}, shape))
            shape = _after(steps[-1])
        steps.append(
            Step("reshape", {"shape": (*shape[:axis], size_product(sizes), *shape[axis + len(axes) :])}, shape)
        )
        shape = _after(steps[-1])
    steps.append(Step("take", {"axis": axis}, shape, indices))
    if axis != destination and indices.ndim:
        shape = _after(steps[-1])
        block = list(range(axis, axis + indices.ndim))
        rest = [a for a in range(len(shape)) if a not in block]
        steps.append(Step("permute_dims", {"axes": (*rest[:destination], *block, *rest[destination:])}, shape))
    return steps


def _one_index(indices: Sequence[Any], sizes: Sequence[Dim]) -> Tensor:
    """The indices of several axes, broadcast together, as the index of their one merged axis."""
    concrete = [i._value if isinstance(i, Tensor) else i for i in indices]
    if all(c is not None for c in concrete) and all(isinstance(s, int) for s in sizes):
        known = [
            checked_indices(c, s, "indexing", a)  # type: ignore[arg-type]
            for a, (c, s) in enumerate(zip(concrete, sizes, strict=True))
        ]
        if len(known) == 1:
            return as_tensor(known[0])
        broadcast_shapes([k.shape for k in known], "indexing")
        total: Any = 0
        for index, size in zip(known, sizes, strict=True):
            total = total * size + index.astype(np.int64)
        return as_tensor(np.asarray(total))
    tensors = [as_tensor(i) for i in indices]
    if len(tensors) == 1:
        return tensors[0]
    common = broadcast_shapes([t.shape for t in tensors], "indexing")
    return apply("linear_index", *(broadcast_to(cast_to(t, _INT64), common) for t in tensors), sizes=tuple(sizes))


# -- running them


def read(tensor: Tensor, steps: Sequence[Step]) -> Tensor:
    """The selection."""
    for step in steps:
        more = () if step.indices is None else (step.indices,)
        tensor = apply(step.op, tensor, *more, **step.attrs)
    return tensor


def written_shape(shape: Shape, steps: Sequence[Step]) -> Shape:
    """The shape of the selection."""
    return canonical_shape(_after(steps[-1]) if steps else shape)


def write(values: Tensor, steps: Sequence[Step], combine: str) -> Tensor:
    """Values of the selection's shape written to their places in zeros; `combine` is ``"add"`` or ``"set"``."""
    for step in reversed(steps):
        attrs, before = step.attrs, step.before
        if step.op == "slice":
            values = apply("unslice", values, shape=before, start=attrs["start"], step=attrs["step"])
        elif step.op == "squeeze":
            values = apply("expand_dims", values, axes=attrs["axes"])
        elif step.op == "expand_dims":
            values = apply("squeeze", values, axes=attrs["axes"])
        elif step.op == "permute_dims":
            values = apply("permute_dims", values, axes=inverse_permutation(attrs["axes"]))
        elif step.op == "reshape":
            values = apply("reshape", values, shape=before)
        else:
            assert step.indices is not None
            values = apply(f"scatter_{combine}", step.indices, values, axis=attrs["axis"], size=before[attrs["axis"]])
    return values

"""Views as index arithmetic: which buffer a value reads, at which offset and strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numgrad.compiler.rewrite import Node, Value
from numgrad.types import Dim, Shape, dim_key, size_product

__all__ = ["Access", "aligned", "contiguous_strides", "space_key", "space_of", "view_access"]


class Access(NamedTuple):
    """A way to read a buffer: the value that owns it, and offset and strides in elements, per axis of the reader."""

    root: Value
    offset: Dim
    strides: tuple[Dim, ...]

    def key(self) -> tuple[Any, ...]:
        return (self.root.node.number, self.root.index, dim_key(self.offset), tuple(map(dim_key, self.strides)))


def contiguous_strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Strides, in elements, of a C-contiguous array."""
    strides: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def view_access(node: Node, source: Access) -> Access | None:
    """How the output of a view node reads the buffer of its input; None when it cannot without a copy."""
    view = node.record.view
    assert view is not None
    output = node.outputs[0]
    found = view.access(node.inputs[0].spec, output.spec, node.attrs, source.strides)
    if found is None:
        return None
    offset, strides = found
    return Access(source.root, source.offset + offset, tuple(strides))


def space_of(shape: Sequence[Dim]) -> Shape:
    """An iteration space: a shape without its axes of size 1."""
    return tuple([d for d in shape if not (isinstance(d, int) and d == 1)])


def space_key(space: Sequence[Dim]) -> tuple[Any, ...]:
    """What equal spaces have in common, without recording guards."""
    return tuple(map(dim_key, space))


def aligned(access: Access, shape: Sequence[Dim], target: Sequence[Dim]) -> Access:
    """An access to a value of `shape`, broadcast to `target`, with strides over the space of `target`."""
    lead = len(target) - len(shape)
    strides: list[Dim] = []
    for axis, size in enumerate(target):
        if isinstance(size, int) and size == 1:
            continue
        own = shape[axis - lead] if axis >= lead else 1
        strides.append(0 if isinstance(own, int) and own == 1 else access.strides[axis - lead])
    return Access(access.root, access.offset, tuple(strides))


def is_identity(access: Access, space: Sequence[Dim]) -> bool:
    """Whether an access reads its root's elements one after the other over `space`."""
    if not isinstance(access.offset, int) or access.offset != 0:
        return False
    root = space_of(access.root.shape)
    same = root is space or space_key(root) == space_key(space) or (
        dim_key(size_product(root)) == dim_key(size_product(space)))
    return same and space_key(access.strides) == space_key(contiguous_strides(space))


def is_whole(access: Access, shape: Sequence[Dim]) -> bool:
    """Whether an access to a value of `shape` is its root's buffer, whole and in order."""
    return is_identity(aligned(access, shape, shape), space_of(shape))

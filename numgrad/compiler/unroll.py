"""Unroll reductions over, and beside, tiny axes of known size, so that the big axes around them fuse.

Distances between points, say, sum three squares for each of n x n pairs. As a reduction over an axis of size 3 that is
a loop nest of its own, whose n x n results go through memory; as two additions it is elementwise, and fuses with what
follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numgrad.graph.records import OPS
from numgrad.types import Dim, Spec

if TYPE_CHECKING:
    from numgrad.compiler.rewrite import Lowered, Value

__all__ = ["unrolled_reduction"]

SMALL = 4  # axes up to this size are unrolled
DEPTH = 24  # elementwise ops that a position is pushed through
_STEP = {
    "sum": "add",
    "prod": "multiply",
    "max": "maximum",
    "min": "minimum",
    "any": "logical_or",
    "all": "logical_and",
}


def unrolled_reduction(lowered: Lowered, op: str, source: Value, axes: tuple[int, ...], where: Any) -> Value | None:
    """The value of a reduction without its tiny axes; None when there is nothing to gain."""
    if source.node.record.kind != "elementwise":
        return None
    tiny = [a for a in axes if _is_tiny(source.shape[a])]
    if tiny and len(source.shape) > 1 and tiny[-1] == len(source.shape) - 1:
        return _over_tiny_axis(lowered, op, source, axes, tiny[-1], where)
    last = len(source.shape) - 1
    if last not in axes and axes and last > 0 and _is_tiny(source.shape[last]):
        return _beside_tiny_axis(lowered, op, source, axes, last, where)
    return None


def _is_tiny(size: Dim) -> bool:
    return isinstance(size, int) and 1 < size <= SMALL


def _over_tiny_axis(lowered: Lowered, op: str, source: Value, axes: tuple[int, ...], axis: int, where: Any) -> Value:
    pusher = _Pusher(lowered, where)
    parts = [pusher.position(source, axis, k, 0) for k in range(int(source.shape[axis]))]
    total = parts[0]
    for part in parts[1:]:
        total, = lowered.make(OPS[_STEP[op]], (total, part), {}, (total.spec,), where)
    rest = tuple(a - (a > axis) for a in axes if a != axis)
    return _reduced(lowered, op, total, rest, where) if rest else total


def _beside_tiny_axis(lowered: Lowered, op: str, source: Value, axes: tuple[int, ...], axis: int, where: Any) -> Value:
    pusher = _Pusher(lowered, where)
    parts = [
        _reduced(lowered, op, pusher.position(source, axis, k, 0), axes, where) for k in range(int(source.shape[axis]))
    ]
    at = len(parts[0].shape)
    spec = Spec(parts[0].dtype, (*parts[0].shape, len(parts)))
    return lowered.make(OPS["stack"], tuple(parts), {"axis": at}, (spec,), where)[0]


def _reduced(lowered: Lowered, op: str, value: Value, axes: tuple[int, ...], where: Any) -> Value:
    shape = tuple(d for i, d in enumerate(value.shape) if i not in axes)
    return lowered.make(OPS[op], (value,), {"axes": axes}, (Spec(value.dtype, shape),), where)[0]


class _Pusher:
    """Takes one position along an axis of an elementwise expression by taking it of what the expression reads."""

    def __init__(self, lowered: Lowered, where: Any) -> None:
        self.lowered, self.where = lowered, where
        self.known: dict[tuple[Value, int, int], Value] = {}

    def position(self, value: Value, axis: int, k: int, depth: int) -> Value:
        """`value` at position `k` of `axis`, and the axis gone."""
        key = (value, axis, k)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._position(value, axis, k, depth)
        return found

    def _position(self, value: Value, axis: int, k: int, depth: int) -> Value:
        node = value.node
        spec = Spec(value.dtype, tuple(d for i, d in enumerate(value.shape) if i != axis))
        if isinstance(value.shape[axis], int) and value.shape[axis] == 1:
            return self._make("squeeze", (value,), {"axes": (axis,)}, spec)
        if depth < DEPTH and node.record.kind == "elementwise":
            inputs = tuple(self._operand(v, value, axis, k, depth) for v in node.inputs)
            return self.lowered.make(node.record, inputs, node.attrs, (spec,), node.where)[0]
        if node.record.name == "broadcast_to":
            source = self._operand(node.inputs[0], value, axis, k, depth)
            return self._make("broadcast_to", (source,), {"shape": spec.shape}, spec)
        if node.record.name == "expand_dims" and axis not in node.attrs["axes"]:
            axes = node.attrs["axes"]
            inner = axis - sum(1 for a in axes if a < axis)
            source = self.position(node.inputs[0], inner, k, depth + 1)
            return self._make("expand_dims", (source,), {"axes": tuple(a - (a > axis) for a in axes)}, spec)
        start = tuple(k if i == axis else 0 for i in range(len(value.shape)))
        count = tuple(1 if i == axis else d for i, d in enumerate(value.shape))
        part = self._make("slice", (value,), {"start": start, "count": count, "step": (1,) * len(start)},
                          Spec(value.dtype, count))
        return self._make("squeeze", (part,), {"axes": (axis,)}, spec)

    def _operand(self, operand: Value, reader: Value, axis: int, k: int, depth: int) -> Value:
        own = axis - (len(reader.shape) - len(operand.shape))
        return operand if own < 0 else self.position(operand, own, k, depth + 1)

    def _make(self, name: str, inputs: tuple[Value, ...], attrs: dict[str, Any], spec: Spec) -> Value:
        return self.lowered.make(OPS[name], inputs, attrs, (spec,), self.where)[0]

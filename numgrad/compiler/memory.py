"""Where values live: arena slots shared by values whose lives do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numgrad.compiler.rewrite import Value
from numgrad.types import Dim, dim_key, size_product

__all__ = ["Slots", "assign_slots", "bytes_of"]


def bytes_of(value: Value) -> Dim:
    """The size of a value's buffer in bytes."""
    return size_product(value.shape) * value.dtype.itemsize


class Slots:
    """Arena slots: the bytes of each, and the slot of each value."""

    def __init__(self) -> None:
        self.sizes: list[Dim] = []
        self.of: dict[Value, int] = {}


def assign_slots(reads: Sequence[Iterable[Value]], writes: Sequence[Iterable[Value]], resident: set[Value]) -> Slots:
    """Give every written value that is not `resident` elsewhere a slot.

    `reads[i]` and `writes[i]` are the buffers that step i touches. A slot is free again after the last reader of its value;
    only values of the same size in bytes share one, so that the assignment holds for every value of the unknown sizes.
    """
    last: dict[Value, int] = {}
    for step, (read, written) in enumerate(zip(reads, writes, strict=True)):
        for value in (*read, *written):
            last[value] = step
    slots = Slots()
    free: dict[Any, list[int]] = {}
    dying: dict[int, list[Value]] = {}
    for value, step in last.items():
        dying.setdefault(step, []).append(value)
    for step, written in enumerate(writes):
        for value in written:
            if value in resident or value in slots.of:
                continue
            size = bytes_of(value)
            key = dim_key(size)
            pool = free.get(key)
            if pool:
                slots.of[value] = pool.pop()
            else:
                slots.of[value] = len(slots.sizes)
                slots.sizes.append(size)
        for value in dying.get(step, ()):
            slot = slots.of.get(value)
            if slot is not None:
                free.setdefault(dim_key(slots.sizes[slot]), []).append(slot)
    return slots

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
    """Arena slots: the bytes of each, when it is taken, the values in it, and those that live in an output's buffer.

    The values in slots are numbered in the order in which they are written.
    """

    def __init__(self) -> None:
        self.sizes: list[Dim] = []
        self.lives: list[tuple[int, int]] = []  # the first and the last step at which a slot is taken
        self.life_of: dict[Value, tuple[int, int]] = {}
        self.of: dict[Value, int] = {}
        self.number: dict[Value, int] = {}
        self.lodging: dict[Value, Value] = {}


def assign_slots(reads: Sequence[Iterable[Value]], writes: Sequence[Iterable[Value]], resident: set[Value],
                 outputs: Iterable[Value] = ()) -> Slots:
    """Give every written value that is not `resident` elsewhere a slot.

    `reads[i]` and `writes[i]` are the buffers that step i touches. A slot is free again after the last reader of its
    value; only values of the same size in bytes share one, so that the assignment holds for every value of the unknown
    sizes. The buffers of `outputs` serve as slots until the outputs are written.
    """
    last: dict[Value, int] = {}
    for step, (read, written) in enumerate(zip(reads, writes, strict=True)):
        for value in (*read, *written):
            last[value] = step
    first: dict[Value, int] = {}
    for step, written in enumerate(writes):
        for value in written:
            first.setdefault(value, step)
    hosts: dict[Any, list[Value]] = {}
    for output in outputs:
        if first.get(output, 0) > 0:
            hosts.setdefault(dim_key(bytes_of(output)), []).append(output)
    vacant = dict.fromkeys(first, -1)  # the last step at which an output's buffer is taken
    slots = Slots()
    free: dict[Any, list[int]] = {}
    dying: dict[int, list[Value]] = {}
    for value, step in last.items():
        dying.setdefault(step, []).append(value)
    for step, written in enumerate(writes):
        for value in written:
            if value in resident or value in slots.of or value in slots.lodging:
                continue
            size = bytes_of(value)
            key = dim_key(size)
            host = next((o for o in hosts.get(key, ()) if vacant[o] < step and last[value] < first[o]), None)
            if host is not None:
                slots.lodging[value] = host
                vacant[host] = last[value]
                continue
            pool = free.get(key)
            slots.number[value] = len(slots.number)
            life = slots.life_of[value] = step, last[value]
            if pool:
                slot = slots.of[value] = pool.pop()
                slots.lives[slot] = slots.lives[slot][0], life[1]
            else:
                slots.of[value] = len(slots.sizes)
                slots.sizes.append(size)
                slots.lives.append(life)
        for value in dying.get(step, ()):
            slot = slots.of.get(value)  # type: ignore[assignment]
            if slot is not None:
                free.setdefault(dim_key(slots.sizes[slot]), []).append(slot)
    return slots

"""Updates in place: the arrays that a loop carries and whose rows its body writes live in one buffer, not in two."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from numgrad.compiler.rewrite import Value
from numgrad.compiler.schedule import LibraryStep, Schedule
from numgrad.types import Dim, size_product

__all__ = ["Lodged", "lodge"]

_UPDATES = frozenset({"set_rows", "add_rows"})  # their kernels leave the rest alone where input and output are one
_LOOPS = frozenset({"scan", "while_loop"})  # they copy what they carry before they write
_FEW = 16  # elements up to which a loop inside keeps an array in registers


class Lodged(NamedTuple):
    """The carries of a loop's body that are updated in place, and for each value on the way the number of its carry."""

    carries: frozenset[int]
    homes: dict[Value, int]


def lodge(schedule: Schedule, carries: int) -> Lodged:
    """Find the first `carries` outputs of a body that are updates of the inputs of these numbers.

    The schedule's steps are put in an order in which everything else reads an array before it is overwritten; an array
    for which there is no such order is left alone.
    """
    if not carries:
        return Lodged(frozenset(), {})
    flow = _Flow(schedule)
    found: set[int] = set()
    homes: dict[Value, int] = {}
    for k in range(carries):
        chain = flow.chain(k)
        if chain and flow.place(chain):
            found.add(k)
            homes.update((update.after, k) for update in chain)
    if found:
        schedule.steps[:] = [schedule.steps[n] for n in flow.order]
    return Lodged(frozenset(found), homes)


class _Update(NamedTuple):
    """A step that turns one array into another of its shape."""

    before: Value
    step: int
    after: Value


class _Flow:
    """What the steps of a body read and write, and an order of them."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.readers: dict[Value, set[int]] = {}
        self.writers: dict[Value, list[int]] = {}
        self._before: list[set[int]] = []
        for n, step in enumerate(schedule.steps):
            before: set[int] = set()
            for value in step.roots_read():
                root = self._root(value)
                self.readers.setdefault(root, set()).add(n)
                before.update(self.writers.get(root, ()))
            for value in step.roots_written():
                before.update(self.writers.get(value, ()))  # several steps may write parts of one array
                self.writers.setdefault(value, []).append(n)
            self._before.append(before - {n})
        self.order = list(range(len(schedule.steps)))

    def _root(self, value: Value) -> Value:
        return self.schedule.roots.get(value, value)

    def chain(self, k: int) -> list[_Update] | None:
        """The updates between input and output k, from the last to the first."""
        result: list[_Update] = []
        value, first = self.schedule.outputs[k], self.schedule.inputs[k]
        while value is not first:
            writers = self.writers.get(value, [])
            step = self.schedule.steps[writers[0]] if len(writers) == 1 else None
            if not isinstance(step, LibraryStep) or (result and value in self.schedule.outputs):
                return None
            node = step.node
            if node.record.name in _UPDATES:
                source = node.inputs[0]
            elif node.record.name in _LOOPS and value.index < node.attrs["carries"] and not _is_small(value.shape):
                source = node.inputs[value.index]
            else:
                return None
            root = self._root(source)
            if sum(self._root(v) is root for v in node.inputs) > 1 or root.node.record.name == "constant":
                return None
            result.append(_Update(root, writers[0], value))
            value = root
        return result

    def place(self, chain: Sequence[_Update]) -> bool:
        """Demand that all other readers of the arrays of a chain come before its updates; whether that is possible."""
        before = [set(b) for b in self._before]
        for update in chain:
            before[update.step].update(self.readers[update.before] - {update.step})
        order = _sorted(before)
        if order is None:
            return False
        self._before, self.order = before, order
        return True


def _is_small(shape: Sequence[Dim]) -> bool:
    return all(isinstance(d, int) for d in shape) and int(size_product(shape)) <= _FEW


def _sorted(before: Sequence[set[int]]) -> list[int] | None:
    """The numbers in an order that respects what comes before each, else as they are; None in case of a circle."""
    after: list[list[int]] = [[] for _ in before]
    missing = [len(b) for b in before]
    for n, earlier in enumerate(before):
        for m in earlier:
            after[m].append(n)
    ready = [n for n, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        n = heapq.heappop(ready)
        order.append(n)
        for m in after[n]:
            missing[m] -= 1
            if not missing[m]:
                heapq.heappush(ready, m)
    return order if len(order) == len(before) else None

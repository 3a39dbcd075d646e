"""Recipes: how a plan's memory depends on sizes, found once, so that a native loop fills it in for each new size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ALIGN", "ARENA", "MEMORY", "ZERO", "Filled", "Recipe", "Sum"]

ALIGN = 64
PARALLEL_COST = 2_000_000  # estimated work, in 0.1 ns, above which a step may run on several threads
CHUNK_COST = 400_000  # and the work of one of its chunks
LEAST_PACKED = 1 << 14  # bytes below which slots need not share memory
MOST_PACKED = 2000  # slots beyond which finding the best place of each takes longer than it is worth

# The inputs that sums are of: where the plan's words and its arena lie, then the sizes, then chunks, then the slots.
MEMORY, ARENA, SIZES = range(3)

# memory[word] += inputs[source] * factor, for each row (word, source, factor)
FILL = """def kernel(args, lo, hi):
    rows = as_i64(args[0])
    inputs = as_i64(args[1])
    memory = as_i64(args[2])
    for k in range(lo, hi):
        memory[rows[3 * k]] = memory[rows[3 * k]] + inputs[rows[3 * k + 1]] * rows[3 * k + 2]
"""
# First fit: each slot, in the order given, takes the lowest place that no slot alive at the same time overlaps.
# args: bytes, first step, last step, order, offsets (result), placed (scratch), the arena's bytes (result)
PACK = """def kernel(args, lo, hi):
    sizes = as_i64(args[0])
    first = as_i64(args[1])
    last = as_i64(args[2])
    order = as_i64(args[3])
    offsets = as_i64(args[4])
    placed = as_i64(args[5])
    total = as_i64(args[6])
    for i in range(lo, hi):
        slot = order[i]
        at = 0
        searching = 1
        for p in range(lo, i):
            other = placed[p]
            start = offsets[other]
            together = first[slot] <= last[other] and first[other] <= last[slot]
            fits = at + sizes[slot] <= start
            searching = select(fits and together, 0, searching)
            beyond = start + sizes[other]
            blocked = searching == 1 and together
            at = select(blocked and beyond > at, beyond, at)
        offsets[slot] = at
        ends = at + sizes[slot]
        total[0] = select(ends > total[0], ends, total[0])
        rank = lo
        for p in range(lo, i):
            rank = rank + select(offsets[placed[p]] <= at, 1, 0)
        for q in range(0, i - rank):
            placed[i - q] = placed[i - q - 1]
        placed[rank] = slot
"""


class Sum(NamedTuple):
    """An integer that is known when a plan is made: a number plus multiples of a recipe's inputs."""

    number: int = 0
    terms: tuple[tuple[int, int], ...] = ()

    def plus(self, other: Sum) -> Sum:
        """The sum of both."""
        if not other.terms:
            return Sum(self.number + other.number, self.terms) if other.number else self
        return Sum(self.number + other.number, self.terms + other.terms)

    def times(self, factor: int) -> Sum:
        """A multiple."""
        return self if factor == 1 else Sum(self.number * factor, tuple([(s, f * factor) for s, f in self.terms]))


ZERO = Sum()


class Filled(NamedTuple):
    """A recipe filled in for given sizes: the words and what they point into."""

    words: np.ndarray[Any, Any]
    arena: np.ndarray[Any, Any]
    address: int


class Recipe:
    """Words (tables of steps and arguments), what is added to each of them when a plan is made, and slots of the arena.

    Attributes
    ----------
    slots : list of (Sum, int, int)
        For each slot its bytes, and the first and the last step at which it is taken.
    lives : list of (Sum, int, int)
        The same for each buffer by itself, however slots are shared.
    """

    def __init__(self, sizes: int) -> None:
        self._numbers: list[int] = []
        self._rows: list[tuple[int, int, int]] = []
        self._spans: list[tuple[int, int]] = []
        self.slots: list[tuple[Sum, int, int]] = []
        self.lives: list[tuple[Sum, int, int]] = []
        self.cursor = 0  # the next slot; set back, slots are given out again
        self.before_slots = SIZES + sizes

    # -- making
    def reserve(self, count: int) -> int:
        """The first of `count` fresh words."""
        found = len(self._numbers)
        self._numbers.extend([0] * count)
        return found

    def put(self, word: int, value: Sum) -> None:
        """Give a word its value."""
        self._numbers[word] += value.number
        self._rows.extend([(word, source, factor) for source, factor in value.terms])

    def words(self, values: Sequence[Sum]) -> int:
        """The first of fresh words that hold `values`."""
        found = self.reserve(len(values))
        for i, value in enumerate(values):
            self.put(found + i, value)
        return found

    @staticmethod
    def at(word: int) -> Sum:
        """The address of a word."""
        return Sum(8 * word, ((MEMORY, 1),))

    def slot(self, size: Sum, first: int, last: int) -> Sum:
        """The address of a slot of the arena that is taken from step `first` to step `last`."""
        if self.cursor == len(self.slots):
            self.slots.append((size, first, last))
        elif self.slots[self.cursor][0] != size:
            raise AssertionError("slots are given out again in another order")
        self.cursor += 1
        return Sum(0, ((ARENA, 1), (self.before_slots + self.cursor - 1, 1)))

    def parallel(self, word: int, cost: int) -> None:
        """Let the step whose row begins at `word`, with its estimated work in the input `cost`, run on threads."""
        self._spans.append((word, cost))

    def finish(self) -> None:
        """Turn what was collected into arrays."""
        self.template = np.array(self._numbers or [0], np.int64)
        self.rows = np.array(self._rows, np.int64).reshape(-1, 3)
        self._step_words, self._step_costs = np.array(self._spans, np.int64).reshape(-1, 2).T.copy()
        sizes = [size for size, _, _ in self.slots]
        self._size_numbers = np.array([s.number for s in sizes], np.int64)
        self._size_sources = np.array([s.terms[0][0] if s.terms else MEMORY for s in sizes], np.int64)
        self._size_factors = np.array([s.terms[0][1] if s.terms else 0 for s in sizes], np.int64)
        self._first = np.array([first for _, first, _ in self.slots], np.int64)
        self._last = np.array([last for _, _, last in self.slots], np.int64)
        # Where all slots are taken at some one time, nothing is gained by looking for places.
        self._packable = (1 < len(sizes) <= MOST_PACKED and bool(self._first.max() > self._last.min()))

    # -- filling in
    def fill(self, sizes: Sequence[int], tools: Any) -> Filled:
        """The words for given sizes (chunks behind them), and an arena."""
        begin = self.before_slots
        inputs = np.empty(begin + len(self.slots), np.int64)
        inputs[SIZES:begin] = sizes
        arena_bytes = self._place(inputs, tools)
        words = self.template.copy()
        arena = np.empty(arena_bytes + ALIGN, np.uint8)
        address = tools.data_address(words)
        inputs[MEMORY] = address
        inputs[ARENA] = -(-tools.data_address(arena) // ALIGN) * ALIGN
        tools.fill(len(self.rows), tools.data_address(self.rows), tools.data_address(inputs), address)
        if len(self._step_words):
            costs = inputs[self._step_costs]
            if costs.max() > PARALLEL_COST:
                tools.start_threads()
                spans = words[self._step_words + 3]
                chunks = np.maximum(1, spans * CHUNK_COST // np.maximum(1, costs))
                words[self._step_words + 4] = np.where((costs > PARALLEL_COST) & (spans > 1), chunks, 0)
        return Filled(words, arena, address)

    def sizes_of_slots(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The bytes of each slot, in whole lines of the cache."""
        sizes = inputs[self._size_sources]
        sizes *= self._size_factors
        sizes += self._size_numbers + (ALIGN - 1)
        sizes &= -ALIGN
        return sizes

    def _place(self, inputs: np.ndarray[Any, Any], tools: Any) -> int:
        """Write the slots' offsets behind the other inputs; the arena's bytes."""
        if not self.slots:
            return 0
        sizes, offsets = self.sizes_of_slots(inputs), inputs[self.before_slots:]
        np.cumsum(sizes[:-1], out=offsets[1:])
        offsets[0] = 0
        total = int(offsets[-1] + sizes[-1])
        if not self._packable or total <= LEAST_PACKED:
            return total
        order = np.argsort(-sizes, kind="stable")
        placed, end = np.empty_like(order), np.zeros(1, np.int64)
        tools.pack(len(sizes), *map(tools.data_address, (sizes, self._first, self._last, order, offsets, placed, end)))
        return int(end[0])

    def live_bytes(self, sizes: Sequence[int]) -> int:
        """The most bytes that are needed at one step: no arena can be smaller."""
        change = [0] * (2 + max((last for _, _, last in self.lives), default=0))
        for size, first, last in self.lives:
            count = size.number + sum(sizes[source - SIZES] * factor for source, factor in size.terms)
            change[first] += count
            change[last + 1] -= count
        return max(accumulate(change))

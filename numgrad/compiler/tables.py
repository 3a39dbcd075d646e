"""Argument tables and step tables filled in: addresses of buffers, sizes, what is known only when a program runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numgrad.compiler.layout import ControlLayout

if TYPE_CHECKING:
    from numgrad.compiler.code import Code

__all__ = ["ALIGN", "Place", "Tables"]

CHUNK_ELEMENTS = 8192  # elements that one partial result of a full reduction covers
PARALLEL_COST = 2_000_000  # estimated work, in 0.1 ns, above which a step may run on several threads
CHUNK_COST = 400_000  # and the work of one of its chunks
ALIGN = 64
STEP_WORDS = 8


class Place(NamedTuple):
    """Where a buffer is: at an address, or at the address that a word holds when the program starts (`indirect`).

    `offset` bytes are added to it, and `step` bytes after every trip of the loop around.
    """

    address: int
    indirect: bool = False
    offset: int = 0
    step: int = 0


class Tables:
    """The tables of one code for one tuple of sizes.

    Attributes
    ----------
    program : numpy.ndarray
        The step table that the driver walks.
    starts : list of (target word, source word, offset, step)
        Addresses to be written before the program runs, and moved on after every trip.
    alive : list
        The memory that the addresses point into.
    """

    def __init__(self, code: Code, symbol_values: Sequence[int], tools: Any, status_at: int,
                 locate: Callable[[str, int], Place]) -> None:
        layout = code.layout
        self.code, self.layout, self.tools, self.status_at = code, layout, tools, status_at
        self.symbol_values = symbol_values
        self.values = layout.sizes.evaluate(symbol_values)
        self._locate = locate
        self._constants = [tools.data_address(c) for c in code.constants]
        self.starts: list[tuple[int, int, int, int]] = []
        self.alive: list[Any] = [code.constants]
        self._words: dict[Any, int] = {}
        self.bytes = self._allocate()
        self.table = self._array(max(1, layout.table_words))
        self.program = np.zeros((len(layout.launches), STEP_WORDS), np.int64)
        self.alive.append(self.program)
        self._fill()

    # -- memory
    def _array(self, words: int) -> np.ndarray[Any, Any]:
        array = np.zeros(words, np.int64)
        self.alive.append(array)
        return array

    def _word(self, value: int) -> int:
        """The address of a word that holds `value`."""
        array = self._array(1)
        array[0] = value
        return int(self.tools.data_address(array))

    def _chunks(self, k: int) -> tuple[int, int]:
        """Chunk length and number of chunks of the full reduction k."""
        first, below = (self.values[i] for i in self.layout.chunked[k])  # type: ignore[union-attr]
        length = max(1, CHUNK_ELEMENTS // max(1, below))
        return length, max(1, -(-first // length))

    def _allocate(self) -> int:
        """Offsets of slots, scratch and partial results in one arena, and the arena; its bytes."""
        layout, values, total = self.layout, self.values, 0
        self._slots: list[int] = []
        self._scratch: list[int] = []
        self._partials: dict[Any, int] = {}
        for index in layout.slot_bytes:
            self._slots.append(total)
            total += -(-values[index] // ALIGN) * ALIGN
        for index, itemsize in layout.scratch:
            self._scratch.append(total)
            total += -(-values[index] * itemsize // ALIGN) * ALIGN
        partials: dict[Any, int] = {}  # the most bytes that any reduction into a place needs
        count = 1
        for k, (_, entries) in enumerate(layout.rows):
            if layout.chunked[k] is not None:
                count = self._chunks(k)[1]
            for kind, where, _, itemsize in entries:
                if kind == "partials" and count > 1:
                    partials[where] = max(partials.get(where, 0), count * itemsize)
        for where, size in partials.items():
            self._partials[where] = total
            total += -(-size // ALIGN) * ALIGN
        self._base = self._buffer(total)
        pool = self._array(max(1, len(layout.size_nodes)))
        pool[:len(layout.size_nodes)] = [values[i] for i in layout.size_nodes]
        self._pool_at = self.tools.data_address(pool)
        return total

    def _buffer(self, size: int) -> int:
        """The aligned address of fresh memory."""
        memory = np.empty(size + ALIGN, np.uint8)
        self.alive.append(memory)
        return -(-int(self.tools.data_address(memory)) // ALIGN) * ALIGN

    # -- places
    def find(self, kind: str, where: int) -> Place:
        """The place of a buffer of this code."""
        if kind == "arena":
            return Place(self._base + self._slots[where])
        if kind == "constant":
            return Place(self._constants[where])
        if kind == "size":
            return Place(self._pool_at + 8 * where)
        return self._locate(kind, where)

    def still(self, kind: str, where: int) -> Place:
        """The same, as a place that does not move: one that does gets a word of its own that follows it."""
        place = self.find(kind, where)
        if not place.step:
            return place
        if (kind, where) not in self._words:
            word = self._words[kind, where] = self._word(0)
            self.starts.append((word, self.source(place), place.offset, place.step))
        return Place(self._words[kind, where], True)

    def source(self, place: Place) -> int:
        """The address of a word that holds the place's address (without its offset)."""
        return place.address if place.indirect else self._word(place.address)

    # -- filling in
    def _fill(self) -> None:
        layout, values, table = self.layout, self.values, self.table
        table_at = int(self.tools.data_address(table))
        length = count = 1
        for k, (start, entries) in enumerate(layout.rows):
            if layout.chunked[k] is not None:
                length, count = self._chunks(k)
            arguments_at = table_at + 8 * start
            for i, (kind, where, offset, itemsize) in enumerate(entries):
                at = start + i
                if kind == "dim":
                    table[at] = values[where]
                elif kind == "status":
                    table[at] = self.status_at
                elif kind == "scratch":
                    table[at] = self._base + self._scratch[where]
                elif kind == "chunk":
                    table[at] = length
                elif kind == "chunks":
                    table[at] = count
                elif kind == "partials" and count > 1:
                    table[at] = self._base + self._partials[where]
                else:
                    place = self.find(*where) if kind == "partials" else self.find(kind, where)
                    shift = place.offset + (0 if kind == "partials" else values[offset] * itemsize)
                    if place.indirect or place.step:
                        self.starts.append((table_at + 8 * at, self.source(place), shift, place.step))
                    else:
                        table[at] = place.address + shift
            control = layout.controls[k]
            if control is not None:
                arguments_at = self._control(k, control)
            self._row(self.program[k], k, arguments_at, count)

    def _row(self, row: Any, k: int, arguments_at: int, count: int) -> None:
        launch, span = self.layout.launches[k], self.layout.spans[k]
        if span == "chunks":
            high = count
        elif span == "combine":
            high = 1 if count > 1 else 0
        else:
            high = self.values[span]  # type: ignore[index]
        cost = self.values[self.layout.costs[k]]
        chunk = 0
        if launch.parallel and cost > PARALLEL_COST and high > 1:
            chunk = max(1, high * CHUNK_COST // cost)
        row[:6] = (launch.address, arguments_at, 0, high, chunk, self.status_at)

    # -- loops and branches
    def _control(self, k: int, control: ControlLayout) -> int:
        launch = self.layout.launches[k]
        make = {"scan": self._scan, "while_loop": self._while, "trip_count": self._while, "switch": self._switch}
        words = make[launch.title](k, control)
        table = self._array(len(words))
        table[:] = words
        return int(self.tools.data_address(table))

    def _body(self, code: Code, locate: Callable[[str, int], Place]) -> Tables:
        body = Tables(code, self.symbol_values, self.tools, self.status_at, locate)
        self.alive.append(body.alive)
        self.bytes += body.bytes
        return body

    def _rows(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """The number of rows and their address."""
        table = self._array(max(1, 4 * len(rows)))
        if rows:
            table[:4 * len(rows)] = np.asarray(rows, np.int64).reshape(-1)
        return [len(rows), int(self.tools.data_address(table))]

    def _state(self, control: ControlLayout) -> tuple[list[tuple[int, int]], list[int], list[int]]:
        """Two buffers for each carry; rows that copy the first state in, and the last one out."""
        sizes = [self.values[i] for i in control.carries]
        buffers = [(self._buffer(n), self._buffer(n)) for n in sizes]
        self.bytes += 2 * sum(sizes)
        copies, results = [], []
        for place, (a, _), size in zip(control.inputs, buffers, sizes, strict=False):
            found = self.still(*place)
            copies.append((a, self._pointer(found), size, 0))
        for place, (a, b), size in zip(control.outputs, buffers, sizes, strict=False):
            results.append((self._pointer(self.still(*place)), a, b, size))
        return buffers, self._rows(copies), self._rows(results)

    def _pointer(self, place: Place) -> int:
        """The address of a word that holds the place's full address when the program runs."""
        if not place.offset:
            return self.source(place)
        if not place.indirect:
            return self._word(place.address + place.offset)
        word = self._word(0)
        self.starts.append((word, place.address, place.offset, 0))
        return word

    def _scan(self, k: int, control: ControlLayout) -> list[int]:
        launch, values = self.layout.launches[k], self.values
        assert launch.node is not None
        trips = values[control.length]
        backwards = launch.node.attrs["reverse"]
        buffers, copies, results = self._state(control)
        count, rows = len(buffers), len(control.rows)

        def moving(place: tuple[str, int], size: int) -> Place:
            found = self.still(*place)
            first = (trips - 1) * size if backwards else 0
            return found._replace(offset=found.offset + first, step=-size if backwards else size)

        def located(parity: int) -> Callable[[str, int], Place]:
            def locate(kind: str, where: int) -> Place:
                if where < count:
                    return Place(buffers[where][parity if kind == "input" else 1 - parity])
                if kind == "output":
                    return moving(control.outputs[where], values[control.stacked[where - count]])
                if where < count + rows:
                    return moving(control.inputs[where], values[control.rows[where - count]])
                return self.still(*control.inputs[where])

            return locate

        bodies = [self._body(launch.bodies[0], located(parity)) for parity in (0, 1)]
        starts = [row for body in bodies for row in body.starts]
        programs = [int(self.tools.data_address(body.program)) for body in bodies]
        return [*programs, len(bodies[0].program), trips, *self._rows([r for r in starts if not r[3]]),
                *self._rows([r for r in starts if r[3]]), *copies, *results, self.status_at]

    def _while(self, k: int, control: ControlLayout) -> list[int]:
        launch = self.layout.launches[k]
        assert launch.node is not None
        counting = launch.title == "trip_count"
        buffers, copies, results = self._state(control._replace(outputs=[]) if counting else control)
        count = len(buffers)
        flag = self._buffer(ALIGN)

        def located(parity: int, test: bool) -> Callable[[str, int], Place]:
            def locate(kind: str, where: int) -> Place:
                if kind == "output":
                    return Place(flag if test else buffers[where][1 - parity])
                return Place(buffers[where][parity]) if where < count else self.still(*control.inputs[where])

            return locate

        tests = [self._body(launch.bodies[0], located(parity, True)) for parity in (0, 1)]
        bodies = [self._body(launch.bodies[1], located(parity, False)) for parity in (0, 1)]
        starts = [row for body in (*tests, *bodies) for row in body.starts]
        at = self.tools.data_address
        most = launch.node.attrs["maximum"]
        return [*(int(at(t.program)) for t in tests), len(tests[0].program), *(int(at(b.program)) for b in bodies),
                len(bodies[0].program), -1 if most is None else int(most), flag, *self._rows(starts), *copies, *results,
                self.status_at, self._pointer(self.still(*control.outputs[0])) if counting else 0]

    def _switch(self, k: int, control: ControlLayout) -> list[int]:
        launch = self.layout.launches[k]

        def locate(kind: str, where: int) -> Place:
            return self.still(*(control.outputs[where] if kind == "output" else control.inputs[where + 1]))

        bodies = [self._body(code, locate) for code in launch.bodies]
        table = self._array(2 * len(bodies))
        for i, body in enumerate(bodies):
            table[2 * i: 2 * i + 2] = (int(self.tools.data_address(body.program)), len(body.program))
        starts = [row for body in bodies for row in body.starts]
        return [self._pointer(self.still(*control.inputs[0])), len(bodies), int(self.tools.data_address(table)),
                *self._rows(starts)]

"""A plan: a program's tables filled in for one tuple of input shapes, ready to be run by the native entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.compiler.printer_numba import Argument
from numgrad.types import Dim, Size, dim_key

if TYPE_CHECKING:
    from numgrad.compiler.lowering import Launch

__all__ = ["Context", "Plan", "Sizes"]

CHUNK_ELEMENTS = 8192  # elements that one partial result of a full reduction covers
PARALLEL_COST = 2_000_000  # estimated work, in 0.1 ns, above which a step may run on several threads
CHUNK_COST = 400_000  # and the work of one of its chunks
RELEASE_COST = 500_000  # work above which other Python threads may run meanwhile
ALIGN = 64
_STEP_WORDS = 8


class Sizes:
    """All sizes that a program needs, evaluated together by one generated function of the unknown ones."""

    def __init__(self, symbols: Sequence[Any]) -> None:
        self.names = {symbol: f"s{i}" for i, symbol in enumerate(symbols)}
        self.symbols = list(symbols)
        self.expressions: list[Dim] = []
        self._known: dict[Any, int] = {}
        self._function: Callable[..., tuple[int, ...]] | None = None

    def index(self, dim: Dim) -> int:
        """The place of a size in the evaluated tuple."""
        key = dim_key(dim)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.expressions)
            self.expressions.append(dim)
            self._function = None
        return found

    def evaluate(self, values: Sequence[int]) -> tuple[int, ...]:
        """The sizes for given values of the unknown ones, in the order of the symbols."""
        if self._function is None:
            body = ", ".join(self.source(e) for e in self.expressions)
            text = f"lambda {', '.join(self.names.values())}: ({body}{',' if self.expressions else ''})"
            self._function = eval(text, {"__builtins__": {}, "max": max, "min": min})
        return self._function(*values)

    def source(self, dim: Dim) -> str:
        """A size as Python text over the names of the unknown ones."""
        if not isinstance(dim, Size):
            return str(dim)
        return " + ".join("*".join([str(c), *(self._atom(a) for a in m)]) for m, c in dim.terms)

    def _atom(self, atom: Any) -> str:
        if atom in self.names:
            return self.names[atom]
        a, b = (f"({self.source(x)})" for x in atom.args)
        sign = {"floordiv": "//", "mod": "%"}.get(atom.kind)
        return f"({a}{sign}{b})" if sign else f"{atom.kind}({a}, {b})"


class Layout:
    """What is common to all plans of a program: for every launch where its table lies and what goes into it."""

    def __init__(self, launches: Sequence[Launch], sizes: Sizes, place: Callable[[Any], tuple[str, int]],
                 slot_sizes: Sequence[Dim], size_nodes: Sequence[Dim]) -> None:
        self.launches, self.sizes = launches, sizes
        self.table_words = 0
        self.rows: list[tuple[int, list[tuple[str, Any, int, int]]]] = []  # start, [(kind, where, offset index, itemsize)]
        self.slot_bytes = [sizes.index(s) for s in slot_sizes]
        self.size_nodes = [sizes.index(s) for s in size_nodes]
        self.scratch: list[tuple[int, int]] = []  # (size index of the count, itemsize)
        for launch in launches:
            entries: list[tuple[str, Any, int, int]] = []
            for argument in launch.arguments:
                entries.append(self._entry(argument, place))
            self.rows.append((self.table_words, entries))
            self.table_words += len(entries)
        self.spans = [launch.span if isinstance(launch.span, str) else sizes.index(launch.span) for launch in launches]
        self.costs = [sizes.index(launch.cost) for launch in launches]
        self.chunked = [None if launch.chunked is None else tuple(sizes.index(d) for d in launch.chunked)
                        for launch in launches]

    def _entry(self, argument: Any, place: Callable[[Any], tuple[str, int]]) -> tuple[str, Any, int, int]:
        if argument == "status":
            return ("status", 0, 0, 0)
        if not isinstance(argument, Argument):
            self.scratch.append((self.sizes.index(argument.count), argument.dtype.itemsize))
            return ("scratch", len(self.scratch) - 1, 0, 0)
        if argument.kind == "buffer":
            kind, where = place(argument.value)
            assert argument.value is not None
            return (kind, where, self.sizes.index(argument.offset), argument.value.dtype.itemsize)
        if argument.kind == "partials":
            kind, where = place(argument.value)
            assert argument.value is not None
            return ("partials", (kind, where), 0, argument.value.dtype.itemsize)
        if argument.kind == "dim":
            return ("dim", self.sizes.index(argument.dim), 0, 0)
        return (argument.kind, 0, 0, 0)  # chunk, chunks


class Context:
    """Tables and arena of one run at a time; a plan has as many as threads run it at once."""

    __slots__ = ("alive", "block", "call", "entry", "program", "status", "table")

    def __init__(self, entry: Callable[..., int]) -> None:
        self.entry = entry
        self.alive: list[Any] = []
        self.call: Any = None

    def run(self, arrays: Sequence[Any], outputs: Sequence[Any] | None) -> tuple[int, Any]:
        """Run once, into `outputs` or fresh arrays: the entry's code and the outputs."""
        if outputs is not None:
            return self.entry(self.block.address, *arrays, *outputs), outputs
        given = self.call(*arrays)
        return (given, None) if isinstance(given, int) else (1, given)


class Plan:
    """A program for one tuple of input shapes."""

    def __init__(self, layout: Layout, symbol_values: Sequence[int], descriptors: Sequence[Any], constants: Sequence[int],
                 output_specs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]], input_shapes: Sequence[tuple[int, ...]],
                 tools: Any) -> None:
        self.layout, self.tools = layout, tools
        self.symbol_values = list(symbol_values)
        self.values = layout.sizes.evaluate(symbol_values)
        self.descriptors, self.constants = list(descriptors), constants
        self.input_shapes, self.output_specs = input_shapes, output_specs
        self.work = sum(self.values[c] for c in layout.costs)
        self.arena_bytes = 0
        self.contexts = [self.new_context()]

    # -- building
    def _chunks(self, k: int) -> tuple[int, int]:
        """Chunk length and number of chunks of the full reduction k."""
        first, below = (self.values[i] for i in self.layout.chunked[k])  # type: ignore[union-attr]
        length = max(1, CHUNK_ELEMENTS // max(1, below))
        return length, max(1, -(-first // length))

    def new_context(self) -> Context:
        """Tables and arena for one more run at a time."""
        layout, values = self.layout, self.values
        context = Context(self.tools.entry)
        slot_offsets, total = [], 0
        for index in layout.slot_bytes:
            slot_offsets.append(total)
            total += -(-values[index] // ALIGN) * ALIGN
        scratch_offsets = []
        for index, itemsize in layout.scratch:
            scratch_offsets.append(total)
            total += -(-values[index] * itemsize // ALIGN) * ALIGN
        partial_offsets: dict[Any, int] = {}
        chunks = (1, 1)
        for k, (_, entries) in enumerate(layout.rows):
            if layout.chunked[k] is not None:
                chunks = self._chunks(k)
            if chunks[1] > 1:
                for kind, where, _, itemsize in entries:
                    if kind == "partials" and where not in partial_offsets:
                        partial_offsets[where] = total
                        total += -(-chunks[1] * itemsize // ALIGN) * ALIGN
        self.arena_bytes = total
        arena = np.empty(total + ALIGN, np.uint8)
        size_pool = np.array([values[i] for i in layout.size_nodes] or [0], np.int64)
        address = self.tools.data_address
        base = -(-address(arena) // ALIGN) * ALIGN
        table = np.zeros(max(1, layout.table_words), np.int64)
        program = np.zeros((len(layout.launches), _STEP_WORDS), np.int64)
        status = np.zeros(1, np.int64)
        table_at, status_at, pool_at = address(table), address(status), address(size_pool)
        slots: list[list[int]] = [[] for _ in range(len(self.input_shapes) + len(self.output_specs))]
        moved: list[tuple[int, int, int]] = []

        def buffer(kind: str, where: Any, position: int, offset: int) -> int:
            if kind == "arena":
                return base + slot_offsets[where] + offset
            if kind == "constant":
                return self.constants[where] + offset
            if kind == "size":
                return pool_at + 8 * where
            array = where if kind == "input" else len(self.input_shapes) + where
            if offset:
                moved.append((array, table_at + 8 * position, offset))
            else:
                slots[array].append(table_at + 8 * position)
            return 0

        length = count = 1
        for k, (start, entries) in enumerate(layout.rows):
            if layout.chunked[k] is not None:
                length, count = self._chunks(k)
            for i, (kind, where, offset, itemsize) in enumerate(entries):
                position = start + i
                if kind == "dim":
                    table[position] = values[where]
                elif kind == "status":
                    table[position] = status_at
                elif kind == "scratch":
                    table[position] = base + scratch_offsets[where]
                elif kind == "chunk":
                    table[position] = length
                elif kind == "chunks":
                    table[position] = count
                elif kind == "partials":
                    table[position] = base + partial_offsets[where] if count > 1 else buffer(*where, position, 0)
                else:
                    table[position] = buffer(kind, where, position, values[offset] * itemsize)
            self._row(program[k], k, table_at + 8 * start, status_at, count)
        context.alive = [arena, size_pool, table]
        if moved:
            program = self._relocation(context, moved, slots, program, status_at)
        context.table, context.program, context.status = table, program, status
        shapes = [*self.input_shapes, *(shape for _, shape in self.output_specs)]
        writable = [False] * len(self.input_shapes) + [True] * len(self.output_specs)
        context.block = self.tools.PlanBlock(self.descriptors, shapes, writable, slots, program, status,
                                             release_gil=self.work > RELEASE_COST)
        context.call = self._caller(context)
        return context

    def _row(self, row: Any, k: int, table_at: int, status_at: int, count: int) -> None:
        layout = self.layout
        launch, span = layout.launches[k], layout.spans[k]
        if span == "chunks":
            high = count
        elif span == "combine":
            high = 1 if count > 1 else 0
        else:
            high = self.values[span]  # type: ignore[index]
        cost = self.values[layout.costs[k]]
        chunk = 0
        if launch.parallel and cost > PARALLEL_COST and high > 1:
            chunk = max(1, high * CHUNK_COST // cost)
        row[:6] = (launch.address, table_at, 0, high, chunk, status_at)

    def _relocation(self, context: Context, moved: list[tuple[int, int, int]], slots: list[list[int]],
                    program: Any, status_at: int) -> Any:
        """A first step that adds offsets to the addresses of arrays of which a part is read."""
        tools = self.tools
        sources = np.zeros(len(slots), np.int64)
        rows = np.zeros((len(moved), 3), np.int64)
        sources_at = tools.data_address(sources)
        for i, (array, target, offset) in enumerate(moved):
            if sources_at + 8 * array not in slots[array]:
                slots[array].append(sources_at + 8 * array)
            rows[i] = (sources_at + 8 * array, target, offset)
        context.alive += [sources, rows]
        first = np.zeros((1, _STEP_WORDS), np.int64)
        first[0, :6] = (tools.relocate(), tools.data_address(rows), 0, len(moved), 0, status_at)
        return np.concatenate([first, program])

    def _caller(self, context: Context) -> Callable[..., Any]:
        """``call(*inputs)``: fresh outputs, one native call; the tuple of outputs, or the entry's code."""
        names = [f"o{i}" for i in range(len(self.output_specs))]
        # The function may outlive the plan: it keeps what its block points at.
        scope: dict[str, Any] = {"entry": self.tools.entry, "empty": np.empty, "block": context.block.address,
                                 "alive": (context.alive, context.block)}
        lines = ["def call(*arrays):"]
        for i, (dtype, shape) in enumerate(self.output_specs):
            scope[f"d{i}"], scope[f"z{i}"] = dtype, shape
            lines.append(f"    o{i} = empty(z{i}, d{i})")
        lines += [f"    code = entry(block, *arrays, {', '.join(names)})",
                  f"    return ({', '.join(names)},) if code == 1 else code"]
        exec("\n".join(lines), scope)
        return scope.pop("call")  # type: ignore[no-any-return]

    # -- running
    def run(self, arrays: Sequence[Any], outputs: Sequence[Any] | None) -> tuple[int, Any]:
        """Run in the first context that is free, making one if none is: the entry's code and the outputs."""
        k = 0
        while True:
            result = self.contexts[k].run(arrays, outputs)
            if result[0] != 3:
                return result
            k += 1
            if k == len(self.contexts):
                self.contexts.append(self.new_context())

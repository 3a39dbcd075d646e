"""The layout of argument tables: which buffer, size or word each entry of each kernel's table holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numgrad.compiler.memory import Slots, bytes_of
from numgrad.compiler.printer_numba import Argument
from numgrad.ops.checkpoints import snapshots
from numgrad.types import COMPOUND, Dim, Size, dim_key, size_product

if TYPE_CHECKING:
    from numgrad.compiler.lowering import Launch

__all__ = ["BlockLayout", "ControlLayout", "Failure", "Layout", "Sizes"]


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

    def append(self, dim: Dim) -> None:
        """Add a size at the next place, for sizes that have theirs already."""
        self._known.setdefault(dim_key(dim), len(self.expressions))
        self.expressions.append(dim)

    def evaluate(self, values: Sequence[int]) -> tuple[int, ...]:
        """The sizes for given values of the unknown ones, in the order of the symbols."""
        if self._function is None:
            body = ", ".join(self.source(e) for e in self.expressions)
            text = f"lambda {', '.join(self.names.values())}: ({body}{',' if self.expressions else ''})"
            self._function = eval(text, {"__builtins__": {}, **COMPOUND})
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
                 slots: Slots, size_nodes: Sequence[Dim]) -> None:
        self.launches, self.sizes = launches, sizes
        self.table_words = 0
        self.rows: list[
            tuple[int, list[tuple[str, Any, int, int]]]
        ] = []  # start, [(kind, where, offset index, itemsize)]
        self.slot_bytes = [sizes.index(s) for s in slots.sizes]
        self.slot_lives = slots.lives  # first and last step at which each is taken
        self.value_lives = [(sizes.index(slots.sizes[slot]), *slots.life_of[value]) for value, slot in slots.of.items()]
        self.homes = list(slots.of.values())  # the slot of each value, by the value's number
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
        self.controls = [self._control(launch, place) if launch.bodies else None for launch in launches]
        self.chunked = [None if launch.chunked is None else tuple(sizes.index(d) for d in launch.chunked)
                        for launch in launches]
        self.combines = self._count_combines()
        self.moved = [sizes.index(sum((bytes_of(v) for v in (*x.reads, *x.writes)), 0)) for x in launches]
        self.flops = [sizes.index(launch.flops) for launch in launches]
        self.failures = [_failure(launch) for launch in launches]
        # A program evaluates the sizes of its loops' bodies together with its own: where it finds them.
        self.merged = [[[sizes.index(e) for e in body.layout.sizes.expressions] for body in launch.bodies]
                       for launch in launches]

    def _count_combines(self) -> list[int]:
        """For each launch, how many directly after it combine its partial results."""
        found, count = [0] * len(self.spans), 0
        for k in reversed(range(len(self.spans))):
            found[k] = count
            count = count + 1 if self.spans[k] == "combine" else 0
        return found

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

    def _control(self, launch: Launch, place: Callable[[Any], tuple[str, int]]) -> ControlLayout:
        """Where a loop or branch finds what it reads and writes, and how large its state and rows are."""
        node = launch.node
        assert node is not None
        attrs = node.attrs
        carries = attrs.get("carries", 0) + attrs.get("states", 0)
        rows = attrs.get("rows", 0) + attrs.get("results", 0)
        length = attrs.get("length", 0)
        stacked = node.outputs[attrs.get("states", carries):] if "length" in attrs else ()

        def rows_of(value: Any) -> tuple[int, int]:
            size = row_bytes(value)
            return self.sizes.index(size), self.sizes.index((length - 1) * size)

        return ControlLayout(
            [place(v) for v in node.inputs], [place(v) for v in node.outputs],
            [self.sizes.index(bytes_of(v)) for v in node.inputs[:carries]],
            [rows_of(v) for v in node.inputs[carries:carries + rows]], [rows_of(v) for v in stacked],
            self.sizes.index(length), {k: v for k, v in node.attrs.items() if v is None or isinstance(v, (bool, int))},
            self._blocks(node) if launch.title == "adjoint_scan" else None)

    def _blocks(self, node: Any) -> BlockLayout:
        """How a loop that keeps few states lays them out: each is one block."""
        offsets: list[Dim] = [0]
        for value in node.inputs[:node.attrs["carries"]]:
            offsets.append(offsets[-1] + (bytes_of(value) + 7) // 8 * 8)
        block = offsets.pop()
        kept = snapshots(node.attrs["checkpoint"], node.attrs["length"], block)
        index = self.sizes.index
        return BlockLayout([index(o) for o in offsets], index(block), index(kept), index(kept * block),
                           index(kept * 8))


class Failure(NamedTuple):
    """What it means that a kernel sets the status word: operation, text, name of the exception."""

    name: str
    text: str
    raises: str


def _failure(launch: Launch) -> Failure | None:
    library = None if launch.node is None else launch.node.record.library
    if launch.node is None or library is None or not library.status:
        return None
    return Failure(launch.node.record.name, library.error, (library.raises or np.linalg.LinAlgError).__name__)


class ControlLayout(NamedTuple):
    """Places of a control step's inputs and outputs, indices of sizes: bytes of its carries, its length.

    For what is read and written by rows: bytes of a row, and of all rows but the last. Its attributes that are numbers.
    """

    inputs: list[tuple[str, int]]
    outputs: list[tuple[str, int]]
    carries: list[int]
    rows: list[tuple[int, int]]
    stacked: list[tuple[int, int]]
    length: int
    attrs: dict[str, Any]
    blocks: BlockLayout | None = None


class BlockLayout(NamedTuple):
    """How states lie in blocks, as indices of sizes: offsets of carries; bytes of a block; how many blocks are kept,
    their bytes, and the bytes of a word for each."""

    offsets: list[int]
    block: int
    kept: int
    kept_bytes: int
    words: int


def row_bytes(value: Any) -> Dim:
    """The bytes of one row of an array."""
    return size_product(value.shape[1:]) * value.dtype.itemsize

"""A plan: a program's tables filled in for one tuple of input shapes, ready to be run by the native entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.compiler.tables import STEP_WORDS, Place, Tables

if TYPE_CHECKING:
    from numgrad.compiler.code import Code

__all__ = ["Context", "Plan"]

RELEASE_COST = 500_000  # estimated work, in 0.1 ns, above which other Python threads may run meanwhile


class Context:
    """Tables and arena of one run at a time; a plan has as many as threads run it at once."""

    __slots__ = ("alive", "block", "call", "entry", "program", "status", "table")

    def __init__(self, entry: Callable[..., int]) -> None:
        self.entry = entry
        self.alive: list[Any] = []
        self.block: Any = None
        self.call: Any = None
        self.program: Any = None
        self.status: Any = None
        self.table: Any = None

    def run(self, arrays: Sequence[Any], outputs: Sequence[Any] | None) -> tuple[int, Any]:
        """Run once, into `outputs` or fresh arrays: the entry's code and the outputs."""
        if outputs is not None:
            return self.entry(self.block.address, *arrays, *outputs), outputs
        given = self.call(*arrays)
        return (given, None) if isinstance(given, int) else (1, given)


class Plan:
    """A program for one tuple of input shapes."""

    def __init__(self, code: Code, symbol_values: Sequence[int], descriptors: Sequence[Any],
                 output_specs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]], input_shapes: Sequence[tuple[int, ...]],
                 tools: Any) -> None:
        self.code, self.tools = code, tools
        self.symbol_values = list(symbol_values)
        self.descriptors = list(descriptors)
        self.input_shapes, self.output_specs = input_shapes, output_specs
        values = code.layout.sizes.evaluate(symbol_values)
        self.work = sum(values[c] for c in code.layout.costs)
        self.arena_bytes = 0
        self.contexts = [self.new_context()]

    # -- building
    def new_context(self) -> Context:
        """Tables and arena for one more run at a time."""
        context = Context(self.tools.entry)
        address = self.tools.data_address
        status = np.zeros(1, np.int64)
        arrays = len(self.input_shapes) + len(self.output_specs)
        sources = np.zeros(max(1, arrays), np.int64)  # the entry writes the arrays' addresses here
        sources_at = int(address(sources))

        def locate(kind: str, where: int) -> Place:
            return Place(sources_at + 8 * (where if kind == "input" else len(self.input_shapes) + where), True)

        tables = Tables(self.code, self.symbol_values, self.tools, int(address(status)), locate)
        self.arena_bytes = tables.bytes
        slots: list[list[int]] = [[sources_at + 8 * k] for k in range(arrays)]
        moved = []
        for target, source, offset, _ in tables.starts:
            k = (source - sources_at) // 8
            if not offset and 0 <= k < arrays:
                slots[k].append(target)
            else:
                moved.append((source, target, offset))
        program = tables.program
        context.alive = [tables.alive, sources]
        if moved:
            program = self._relocation(context, moved, program, int(address(status)))
        context.table, context.program, context.status = tables.table, program, status
        shapes = [*self.input_shapes, *(shape for _, shape in self.output_specs)]
        writable = [False] * len(self.input_shapes) + [True] * len(self.output_specs)
        context.block = self.tools.PlanBlock(self.descriptors, shapes, writable, slots, program, status,
                                             release_gil=self.work > RELEASE_COST)
        context.call = self._caller(context)
        return context

    def _relocation(self, context: Context, moved: Sequence[tuple[int, int, int]], program: Any, status_at: int) -> Any:
        """A first step that adds offsets to the addresses of arrays of which a part is read."""
        rows = np.array(moved, np.int64)
        context.alive.append(rows)
        first = np.zeros((1, STEP_WORDS), np.int64)
        first[0, :6] = (self.tools.relocate(), self.tools.data_address(rows), 0, len(moved), 0, status_at)
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
                  f"    return ({''.join(f'{n}, ' for n in names)}) if code == 1 else code"]
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

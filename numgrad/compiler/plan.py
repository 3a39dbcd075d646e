"""A plan: a program's tables filled in for one tuple of input shapes, ready to be run by the native entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgrad.compiler.recipe import ALIGN, Filled
from numgrad.compiler.tables import STEP_WORDS, Planner
from numgrad.compiler.timing import recorder

__all__ = ["Context", "CountedCalls", "Plan"]

class Context:
    """Tables and arena of one run at a time; a plan has as many as threads run it at once."""

    __slots__ = ("call", "filled", "plan", "program")

    def __init__(self, plan: Plan, filled: Filled) -> None:
        self.plan, self.filled = plan, filled
        begin, steps = plan.recipe.program, plan.recipe.steps
        self.program = filled.words[begin:begin + STEP_WORDS * steps].reshape(steps, STEP_WORDS)
        self.call = plan.make_call(filled)

    @property
    def block(self) -> int:
        """The address of the plan block."""
        return self.filled.address + 8 * self.plan.recipe.block

    @property
    def steps_done(self) -> int:
        """How many steps of the last run ended well."""
        return self.plan.tools.steps_done(self.filled.words[self.plan.recipe.block:])  # type: ignore[no-any-return]

    def run(self, arrays: Sequence[Any], outputs: Sequence[Any] | None) -> tuple[int, Any]:
        """Run once, into `outputs` or fresh arrays: the entry's code and the outputs."""
        watching = recorder()
        if watching is not None:
            return watching.run(self, arrays, outputs)
        if outputs is not None:
            return self.plan.tools.entry(self.block, *arrays, *outputs), outputs
        given = self.call(*arrays)
        return (given, None) if isinstance(given, int) else (1, given)


class Plan:
    """A program for one tuple of input shapes."""

    def __init__(self, planner: Planner, symbol_values: Sequence[int], tools: Any, counts: Sequence[int]) -> None:
        self.planner, self.symbol_values, self.tools, self.counts = planner, symbol_values, tools, tuple(counts)
        self.recipe, self.sizes = planner.prepare(symbol_values, tools)
        dtypes = planner.dtypes[len(planner.input_shapes):]
        self.output_specs = [(dtype, tuple([self.sizes[i] for i in shape]))
                             for dtype, shape in zip(dtypes, planner.output_shapes, strict=True)]
        self.contexts = [self.new_context()]

    def new_context(self) -> Context:
        """Tables and arena for one more run at a time."""
        return Context(self, self.recipe.fill(self.sizes, self.tools))

    def make_call(self, filled: Filled) -> Callable[..., Any]:
        """``call(*inputs)``: fresh outputs, one native call; the tuple of outputs, or the entry's code."""
        # The call may outlive the plan: it keeps what its block points at.
        outputs = [(shape, dtype) for dtype, shape in self.output_specs]
        found = self.tools.caller(filled.address + 8 * self.recipe.block, (filled, self.planner), outputs)
        return found  # type: ignore[no-any-return]

    @property
    def arena_bytes(self) -> int:
        """The bytes of one context's arena."""
        return len(self.contexts[0].filled.arena) - ALIGN

    @property
    def live_bytes(self) -> int:
        """The most bytes of the arena that are in use at one step: no arena can be smaller."""
        return self.recipe.live_bytes(self.sizes)

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


class CountedCalls:
    """The native calls of a program whose plans depend on counted sizes: by what its counting programs find."""

    def __init__(self, programs: Sequence[Any]) -> None:
        self.programs = programs
        self._calls: dict[tuple[int, ...], Callable[..., Any]] = {}

    def add(self, plan: Plan, most: int) -> None:
        """Remember the call of a plan, and at most so many."""
        if len(self._calls) >= most:
            self._calls.clear()
        self._calls[plan.counts] = plan.contexts[0].call

    def __call__(self, *arrays: Any) -> Any:
        """The tuple of outputs for arrays like those of a plan; anything else where there is none for them."""
        counts = []
        for program in self.programs:
            found = program.fast(*arrays)
            if found is None:
                return None
            counts.append(int(found[0]))
        call = self._calls.get(tuple(counts))
        return None if call is None else call(*arrays)

"""Runs that are timed step by step: what the command ``profile`` collects while a script runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numgrad import clock
from numgrad.compiler.lowering import kernels
from numgrad.errors import user_line
from numgrad.graph.core import state

if TYPE_CHECKING:
    from numgrad.compiler.plan import Context

__all__ = ["Recorder", "Span", "recorder", "recording"]


class Span(NamedTuple):
    """Something that took time: when it began (`time.perf_counter`), how long it took, what it was.

    `kind` is "step" (of a program), "call" (of a program) or "phase" (of tracing and compiling); `made` is the user's
    line that made the operation, `called` the one that ran it; `moved` the bytes that it read and wrote.
    """

    kind: str
    name: str
    begun: float
    seconds: float
    made: str = ""
    called: str = ""
    moved: int = 0


class Recorder:
    """Runs programs a step at a time and writes down how long each step took."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._lock = threading.Lock()

    def phase(self, name: str, begun: float, seconds: float) -> None:
        """A phase of tracing or compiling ended."""
        self.spans.append(Span("phase", name, begun, seconds, called=str(user_line())))

    def step(self, name: str, begun: float, seconds: float, made: Any) -> None:
        """A step that is no kernel ended."""
        self.spans.append(Span("step", name, begun, seconds, str(made), str(user_line())))

    def run(self, context: Context, arrays: Sequence[Any], outputs: Sequence[Any] | None) -> tuple[int, Any]:
        """What `Context.run` does, step by step."""
        plan = context.plan
        made = [np.empty(shape, dtype) for dtype, shape in plan.output_specs] if outputs is None else outputs
        called, begun = str(user_line()), perf_counter()
        with self._lock, kernels("entry").without_steps(context.block):
            code = plan.tools.entry(context.block, *arrays, *made)
            if code != 1:
                return code, None
            code = self._steps(context, called)
        name = str(plan.planner.code.launches[0].title) if plan.planner.code.launches else "nothing"
        self.spans.append(Span("call", f"program: {name} ...", begun, perf_counter() - begun, called=called))
        return (1, tuple(made)) if code == 1 else (code, None)

    def _steps(self, context: Context, called: str) -> int:
        code, sizes = context.plan.planner.code, context.plan.sizes
        run, extra = kernels("driver").run, len(context.program) - len(code.launches)
        for k in range(len(context.program)):
            begun = perf_counter()
            done = run(context.program[k:k + 1])
            seconds = perf_counter() - begun
            if k >= extra:
                launch = code.launches[k - extra]
                self.spans.append(Span("step", launch.title, begun, seconds, str(launch.where), called,
                                       int(sizes[code.layout.moved[k - extra]])))
            if not done:
                kernels("entry").set_steps_done(context.block, k)
                return 2
        return 1


_active: Recorder | None = None


def recorder() -> Recorder | None:
    """The recorder of this process, if one is at work."""
    return _active


@contextmanager
def recording() -> Iterator[Recorder]:
    """Time every step of the programs that run within the block (in other threads, of functions that are new)."""
    global _active
    before, _active = _active, Recorder()
    heard, clock.listener = clock.listener, _active.phase
    checks, state.checks = state.checks, (*state.checks, _nothing)  # functions called before go the long way, too
    try:
        yield _active
    finally:
        _active, clock.listener, state.checks = before, heard, checks


def _nothing(*given: Any) -> None:
    """A check of nothing."""

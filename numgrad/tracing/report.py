"""`compile_report`: where the seconds of a compiled function's first call went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgrad.clock import PHASES, Clock, KernelTime
from numgrad.errors import GraphError, at, user_line
from numgrad.tracing.compiled import Compiled
from numgrad.tracing.function import Function

__all__ = ["CompileReport", "compile_report"]


class CompileReport:
    """Seconds by phase and by kernel; its text is a table.

    Attributes
    ----------
    seconds : dict of str to float
        For each phase, from "trace" to "plan", without the time of phases inside it.
    kernels : list of KernelTime
        For each kernel that was asked for: `symbol`, `origin` ("compiled", "disk", "memory"), and the seconds
        `front_end`, `llvm` and `link`.
    programs : dict of str to int
        How many programs were "made", and how many were found on "disk".
    plans : int
        How many tuples of sizes were planned for.
    """

    def __init__(self, name: str, clocks: Sequence[Clock], origins: Sequence[str]) -> None:
        self.name = name
        self.seconds = {phase: sum(clock.seconds[phase] for clock in clocks) for phase in PHASES}
        self.kernels: list[KernelTime] = [kernel for clock in clocks for kernel in clock.kernels]
        self.programs = {origin: list(origins).count(origin) for origin in ("made", "disk")}
        self.plans = sum(clock.plans for clock in clocks)

    @property
    def total(self) -> float:
        """All seconds together."""
        return sum(self.seconds.values())

    def __str__(self) -> str:
        total = self.total or 1.0
        made, found = self.programs["made"], self.programs["disk"]
        lines = [f"{self.name}: {_seconds(self.total)} before the first result; programs: {made} made, {found} from "
                 f"disk; sizes planned for: {self.plans}"]
        for phase, what in PHASES.items():
            share = 100.0 * self.seconds[phase] / total
            lines.append(f"  {phase:<10} {_seconds(self.seconds[phase]):>9} {share:5.1f} %  {what}")
        counts = {origin: sum(k.origin == origin for k in self.kernels) for origin in ("compiled", "disk", "memory")}
        lines.append("kernels: " + ", ".join(f"{count} {_ORIGINS[origin]}" for origin, count in counts.items()))
        for kernel in sorted(self.kernels, key=lambda k: -k.seconds)[:10]:
            if kernel.origin != "memory":
                lines.append(f"  {kernel.symbol} {kernel.origin:>8}: front end {_seconds(kernel.front_end)}, LLVM "
                             f"{_seconds(kernel.llvm)}, link {_seconds(kernel.link)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<compile report of {self.name}: {_seconds(self.total)}, {len(self.kernels)} kernels>"


_ORIGINS = {"compiled": "compiled", "disk": "from disk", "memory": "in memory already"}


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1.0 else f"{1e3 * seconds:.2f} ms"


def compile_report(f: Any, *args: Any, **kwargs: Any) -> CompileReport:
    """Tell where the seconds of a function's compilation went.

    Parameters
    ----------
    f : Function or Compiled
        What `function`, `grad`, `value_and_grad` and other transforms, or `compile`, returned.
    *args, **kwargs
        Arguments to call it with first, if given; a function that was never called is compiled for nothing yet.

    Returns
    -------
    CompileReport
        ``print`` shows it as a table: tracing, gradients, rewriting, fusion, printing, each kernel (front end, LLVM, or
        found on disk), plans. The attributes hold the numbers, of all traces of the function together.

    Raises
    ------
    GraphError
        For anything else, and for a function that was neither called nor given arguments.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> f = ng.value_and_grad(lambda x: np.sum(np.tanh(x) * x))
    >>> report = ng.compile_report(f, np.ones(3))
    >>> report.plans, sum(report.programs.values()), report.seconds["trace"] > 0.0
    (1, 1, True)
    >>> [line.split()[0] for line in str(report).splitlines()[1:4]]
    ['trace', 'gradients', 'load']
    """
    if isinstance(f, (Function, Compiled)) and (args or kwargs):
        f(*args, **kwargs)
    if isinstance(f, Compiled):
        programs = getattr(f.program, "programs", [f.program])
        return CompileReport("compiled graph", [p.clock for p in programs], [p.origin for p in programs])
    if not isinstance(f, Function):
        raise GraphError(f"compile_report: got {f!r:.80}, wanted what ng.function, ng.grad and other transforms, or "
                         f"ng.compile returned{at(user_line())}")
    variants = f.variants
    if not variants:
        raise GraphError(f"compile_report: {f.__qualname__} was not called yet; give it arguments, as in "
                         f"ng.compile_report(f, x){at(user_line())}")
    programs = [p for v in variants for p in v.programs]
    return CompileReport(f.__qualname__, [v.clock for v in variants], [p.origin for p in programs])

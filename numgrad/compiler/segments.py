"""Programs with steps in Python: native segments, and between them the operations that only Python can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from numgrad.compiler.timing import recorder
from numgrad.errors import KernelError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.graph import Graph
from numgrad.graph.run import bind_sizes, evaluate_op, fed
from numgrad.graph.walk import ancestors

__all__ = ["Segmented", "has_host_steps"]


def _is_host(op: Operation) -> bool:
    return bool(op.record.facts.get("host"))


def has_host_steps(outputs: Sequence[Tensor]) -> bool:
    """Whether any operation behind `outputs` runs in Python."""
    return any(_is_host(op) for op in ancestors(outputs))


def _in_python(op: Operation, run: Callable[[], Any]) -> Any:
    watching, begun = recorder(), perf_counter()
    found = run()
    if watching is not None:
        watching.step(f"{op.type} in Python", begun, perf_counter() - begun, op.where)
    return found


class Segment(NamedTuple):
    """A native program (None where nothing is to be computed), what it takes and gives, the Python steps after it."""

    program: Any
    inputs: list[Tensor]
    outputs: list[Tensor]
    steps: list[Operation]


class Segmented:
    """A program that returns to Python for some of its steps; it is called like a `Program`.

    Attributes
    ----------
    segments : list
        In the order in which they run.
    """

    entry = None  # there is no native call that runs all of it

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], graph: Graph,
                 make: Callable[..., Any]) -> None:
        self.inputs, self.outputs, self.graph = list(inputs), list(outputs), graph
        self.segments = self._cut(make)

    def _cut(self, make: Callable[..., Any]) -> list[Segment]:
        """One segment for each number of Python steps that lie one after the other before an operation."""
        order = [op for op in ancestors(self.outputs) if op.type != "placeholder"]
        depth: dict[Tensor, int] = {}
        levels: dict[Operation, int] = {}
        kept = dict.fromkeys(self.outputs)  # what leaves its segment
        for op in order:
            levels[op] = level = max((depth.get(t, 0) for t in op.inputs), default=0)
            depth.update(dict.fromkeys(op.outputs, level + _is_host(op)))
            kept.update(dict.fromkeys(t for t in op.inputs if _is_host(op) or levels.get(t.op, level) < level))  # type: ignore[arg-type]
        segments = []
        for level in range(max(levels.values(), default=0) + 1):
            here = [op for op in order if levels[op] == level]
            made = {t for op in here if not _is_host(op) for t in op.outputs}
            wanted = [t for t in kept if t in made]
            read = dict.fromkeys(t for op in here if not _is_host(op) for t in op.inputs if t in kept and t not in made)
            given = list(dict.fromkeys([*self.inputs, *read]))  # the program's own inputs tell the sizes
            program = make(given, wanted, self.graph) if wanted else None
            segments.append(Segment(program, given, wanted, [op for op in here if _is_host(op)]))
        return segments

    # -- calls
    def fast(self, *arrays: Any) -> None:
        """None: there is no native call that runs all of it."""

    def __call__(self, *arrays: Any, out: Sequence[np.ndarray[Any, Any]] | None = None) -> list[np.ndarray[Any, Any]]:
        results = self._run(arrays, lambda segment, given: segment.program(*given), _in_python)
        if out is None:
            return results
        if len(out) != len(results):
            raise TypeError(f"out: got {len(out)} arrays, wanted {len(results)}{at(user_line())}")
        for i, (target, result) in enumerate(zip(out, results, strict=True)):
            if target.dtype != result.dtype or target.shape != result.shape:
                raise ShapeError(f"out[{i}]: got {target.dtype}{target.shape}, wanted "
                                 f"{result.dtype}{result.shape}{at(user_line())}")
            target[...] = result
        return list(out)

    def _run(self, arrays: Sequence[Any], native: Callable[..., Any],
             python: Callable[..., Any]) -> list[np.ndarray[Any, Any]]:
        """Run segment after segment through `native(segment, arrays)` and `python(operation, run)`."""
        if len(arrays) != len(self.inputs):
            raise TypeError(f"compiled function: got {len(arrays)} arrays, wanted {len(self.inputs)}{at(user_line())}")
        values = {t: fed(t, a) for t, a in zip(self.inputs, arrays, strict=True)}
        sizes = bind_sizes(self.inputs, [values[t] for t in self.inputs])
        for segment in self.segments:
            if segment.program is not None:
                found = native(segment, [values[t] for t in segment.inputs])
                values.update(zip(segment.outputs, found, strict=True))
            for op in segment.steps:
                found = python(op, lambda op=op: evaluate_op(op, values, sizes))
                values.update(zip(op.outputs, found, strict=True))
        results: list[np.ndarray[Any, Any]] = []
        given = {id(values[t]) for t in self.inputs}
        for tensor in self.outputs:  # a result is an array of the caller's own
            array = values[tensor]
            results.append(array.copy() if id(array) in given else array)
            given.add(id(array))
        return results

    def bind(self, *arrays: np.ndarray[Any, Any]) -> Callable[[], list[np.ndarray[Any, Any]]]:
        """Fix the arrays; calling the result runs the program on what they hold then."""
        return lambda: self(*arrays)

    # -- looking inside
    @property
    def programs(self) -> list[Any]:
        """The native programs, in order."""
        return [segment.program for segment in self.segments if segment.program is not None]

    @property
    def launches(self) -> list[Any]:
        """The native steps, in order."""
        return [launch for program in self.programs for launch in program.launches]

    @property
    def kernel_count(self) -> int:
        """The number of distinct kernels."""
        return len({launch.symbol for launch in self.launches})

    @property
    def source(self) -> str:
        """The kernels of all segments; the steps in Python stand as comments."""
        parts = []
        for segment in self.segments:
            parts += [segment.program.source] if segment.program is not None else []
            parts += [f"# in Python: {op.name}{at(op.where)}\n" for op in segment.steps]
        return "\n".join(parts)

    def plan(self) -> dict[str, Any]:
        """The sums of what the segments' plans tell, and how many steps run in Python."""
        report: dict[str, Any] = {"python_steps": sum(len(segment.steps) for segment in self.segments)}
        for program in self.programs:
            for name, value in program.plan().items():
                report[name] = report.get(name, 0) + value
        return report

    def profile(self, *arrays: Any, repeats: int = 5) -> list[dict[str, Any]]:
        """The seconds of each step, native ones and those in Python, for these arrays."""
        rows: list[dict[str, Any]] = []

        def native(segment: Segment, given: Sequence[Any]) -> Any:
            rows.extend(segment.program.profile(*given, repeats=repeats))
            return segment.program(*given)

        def python(op: Operation, run: Callable[[], Any]) -> Any:
            start = perf_counter()
            found = run()
            rows.append({"kernel": f"{op.type} in Python", "seconds": perf_counter() - start, "where": str(op.where)})
            return found

        self._run(arrays, native, python)
        return [{**row, "step": k} for k, row in enumerate(rows)]

    def _refused(self, what: str) -> KernelError:
        op = next(op for segment in self.segments for op in segment.steps)
        return KernelError(f"{what}: the step {op.name} ({op.type}) runs in Python, and native code cannot call "
                           f"it{at(op.where)}; use "
                           f"ng.njit_function for it")

    @property
    def njit(self) -> Any:
        """Refused: native code cannot run the steps in Python."""
        raise self._refused("njit")

    def cfunc(self, signature: str) -> Any:
        """Refused: native code cannot run the steps in Python."""
        raise self._refused("cfunc")

    def lowlevel(self) -> Any:
        """Refused: native code cannot run the steps in Python."""
        raise self._refused("lowlevel")

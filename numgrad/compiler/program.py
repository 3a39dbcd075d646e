"""Compiled programs: what `ng.compile` returns."""

from __future__ import annotations

import builtins
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from numgrad.clock import Clock, current, phase
from numgrad.compiler.code import failures_at
from numgrad.compiler.export import make_cfunc, make_lowlevel, make_njit
from numgrad.compiler.keep import code_for
from numgrad.compiler.lowering import kernels, ptx_of
from numgrad.compiler.measure import make_measure
from numgrad.compiler.plan import Context, CountedCalls, Plan
from numgrad.compiler.recipe import FILL, PACK
from numgrad.compiler.rewrite import lower
from numgrad.compiler.schedule import Schedule, schedule
from numgrad.compiler.segments import Segmented, has_host_steps
from numgrad.compiler.tables import Planner
from numgrad.compiler.timing import recorder
from numgrad.errors import DeviceError, DtypeError, GraphError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, state
from numgrad.graph.graph import Graph
from numgrad.graph.run import bind_sizes, check_guards
from numgrad.graph.scopes import heard_by
from numgrad.types import Dim, Size, as_dtype, canonical_shape, dim_value, lone_symbol

__all__ = ["Program", "compile_program"]

PLANS_KEPT = 64
_RELOCATE = """def kernel(args, lo, hi):
    for k in range(lo, hi):
        source = as_i64(args[3 * k])
        target = as_i64(args[3 * k + 1])
        target[0] = source[0] + args[3 * k + 2]
"""


class _Tools:
    """The native functions that plans call."""

    def __init__(self) -> None:
        entry, build = kernels("entry"), kernels("build")
        self.entry, self.caller = entry.make_entry(), entry.make_caller()
        self.data_address = entry.make_data_address()
        self.block_size, self.block_words, self.steps_done = entry.block_size, entry.block_words, entry.steps_done
        self.start_threads = kernels("threads").start
        self.fill = entry.make_call(build.build_source(FILL).address)

    @cached_property
    def pack(self) -> Any:
        """Runs `PACK`."""
        return kernels("entry").make_call(kernels("build").build_source(PACK).address)

    @staticmethod
    def relocate() -> int:
        """The address of a kernel that adds offsets to addresses."""
        return kernels("build").build_source(_RELOCATE).address  # type: ignore[no-any-return]


_tools: _Tools | None = None


def _get_tools() -> _Tools:
    global _tools
    if _tools is None:
        _tools = _Tools()
    return _tools


class Program:
    """A compiled graph: called with NumPy arrays in the order of its inputs, returns a list of NumPy arrays.

    Attributes
    ----------
    source : str
        The generated kernels as Python.
    launches : list
        The kernels in the order in which they run.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], graph: Graph) -> None:
        self.inputs, self.outputs, self.graph = list(inputs), list(outputs), graph
        start = perf_counter()
        self.clock = current() or Clock()
        with self.clock.running(), phase("load"):
            build = kernels("build")
            build.fingerprint()
        with self.clock.running(), build.listening(self._heard):
            self.code = code_for(self.inputs, self.outputs, graph.sizes)
        self.launches = self.code.launches
        self.build_seconds = perf_counter() - start
        self.input_dtypes = [as_dtype(t.dtype) for t in self.inputs]
        self.output_specs = [(as_dtype(t.dtype), canonical_shape(t.shape)) for t in self.outputs]
        self.counts = self._count_programs()
        self._require_known_sizes()
        self.planner = Planner(
            self.code, [*self.input_dtypes, *(d for d, _ in self.output_specs)], [t.shape for t in self.inputs],
            [shape for _, shape in self.output_specs])
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.Lock()
        self._last: Any = None
        self._counted = CountedCalls([program for _, program in self.counts])

    def _count_programs(self) -> list[tuple[Any, Program]]:
        """For each size that is found while running (the trips of a loop): its symbol, and a program that counts."""
        needed = {symbol for dim in self._all_sizes() if isinstance(dim, Size) for symbol in dim.symbols()}
        return [(symbol, Program(self.inputs, [symbol.source], self.graph))
                for symbol in self.graph.sizes.counted if symbol in needed]

    def _all_sizes(self) -> list[Dim]:
        """Every size that the program or a body in it needs."""
        codes, found = [self.code], [d for _, shape in self.output_specs for d in shape]
        while codes:
            code = codes.pop()
            found.extend(code.layout.sizes.expressions)
            codes.extend(body for launch in code.launches for body in launch.bodies)
        return found

    def _require_known_sizes(self) -> None:
        """GraphError for a size that no input tells."""
        known = {lone_symbol(d) for t in self.inputs for s in (t.shape, canonical_shape(t.shape)) for d in s}
        known.update(symbol for symbol, _ in self.counts)
        for dim in self._all_sizes():
            for symbol in dim.symbols() if isinstance(dim, Size) else ():
                if symbol not in known:
                    raise GraphError(f"compile: the size {symbol} is needed, but it is the size of no input's axis"
                                     f"{at(user_line())}")

    def _heard(self, kernel: Any) -> None:
        new = kernel.origin != "memory"
        self.clock.kernel(kernel.symbol, kernel.origin, kernel.front_end * new, kernel.llvm * new, kernel.seconds * new)

    # -- plans
    def plan_for(self, shapes: tuple[tuple[int, ...], ...], arrays: Sequence[Any]) -> Plan:
        """The plan for arrays of these shapes: remembered, or made (which compiles nothing)."""
        counts = [int(program(*arrays)[0]) for _, program in self.counts]
        key = (shapes, *counts)
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                return plan
        start = perf_counter()
        tools = _get_tools()
        self.clock.seconds["entry"] += perf_counter() - start
        start = perf_counter()
        plan = Plan(self.planner, self._sizes_of(shapes, counts, arrays), tools, counts)
        self.clock.seconds["plan"] += perf_counter() - start
        self.clock.plans += 1
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > PLANS_KEPT:
                self._plans.popitem(last=False)
        return plan

    @cached_property
    def _measure(self) -> Any:
        return make_measure(self, [symbol for symbol, _ in self.counts])

    def _sizes_of(self, shapes: tuple[tuple[int, ...], ...], counts: Sequence[int],
                  arrays: Sequence[Any]) -> Sequence[int]:
        """The values of the unknown sizes; ShapeError for what was not assumed of them."""
        try:
            found = self._measure(shapes, counts) if min(counts, default=0) >= 0 else None
        except (ValueError, ZeroDivisionError):  # a wrong rank, a size that is no divisor
            found = None
        if found is None:
            values = self._checked_sizes(arrays, [(symbol, n) for (symbol, _), n in zip(self.counts, counts,
                                                                                      strict=True)])
            self._check_sizes(values)
            found = [values[s] for s in self.code.layout.sizes.symbols]
        return found  # type: ignore[no-any-return]

    def _checked_sizes(self, arrays: Sequence[Any], counts: Sequence[tuple[Any, int]]) -> dict[Any, int]:
        """The values of the unknown sizes and of those that they were found equal to; the graph's others are 0."""
        for symbol, count in counts:
            if count < 0:
                raise ShapeError(f"an array would have the size {count}{at(symbol.source.op.where)}; wanted at least 0"
                                 f"{at(user_line())}")
        values = bind_sizes(self.inputs, arrays) | dict(counts)
        for symbol, size in list(values.items()):
            other = lone_symbol(symbol.bound)
            while other is not None:
                values.setdefault(other, size)
                other = lone_symbol(other.bound)
        check_guards(self.graph, values)
        for symbol in self.graph.sizes.symbols:
            values.setdefault(symbol, 0)
        return values

    def _check_sizes(self, values: dict[Any, int]) -> None:
        """Raise ShapeError for a size below 0, and for the largest or smallest of no elements."""
        for dim, where in self.code.checks.computed:
            if dim_value(dim, values) < 0:
                raise ShapeError(f"an array would have the size {dim} = {dim_value(dim, values)}{at(where)}; "
                                 f"wanted at least 0{at(user_line())}")
        for name, dtype, dims, axes, where in self.code.checks.extrema:
            shape = [dim_value(d, values) for d in dims]
            if any(shape[a] <= 0 for a in axes):
                raise ShapeError(
                    f"{name}: the axes {axes} of {dtype}{tuple(shape)} have no elements, and {name} of "
                    f"nothing has no value{at(where)}"
                )

    # -- calls
    @property
    def entry(self) -> Any:
        """The native call of the latest plan: a tuple of outputs for arrays like those, else anything else; or None."""
        return self._last if recorder() is None else None

    def fast(self, *arrays: Any) -> tuple[Any, ...] | None:
        """The outputs for arrays like the last ones (shapes, dtypes, layout), or None: then call the program."""
        last = self._last
        if last is None or state.checks or recorder() is not None:
            return None
        result = last(*arrays)
        return result if result.__class__ is tuple else None

    def __call__(self, *arrays: Any, out: Sequence[np.ndarray[Any, Any]] | None = None) -> list[np.ndarray[Any, Any]]:
        given = self._prepared_all(arrays)
        plan = self.plan_for(tuple([a.shape for a in given]), given)
        targets = None if out is None else self._targets(plan, out, given)
        code, outputs = plan.run(given, targets)
        if code == 2:
            context = (
                plan.new_context()
            )  # other threads may use the first one: find the step that failed in one of our own
            code, outputs = context.run(given, targets)
            if code == 2:
                raise self.failure(context)
        if code != 1:
            raise AssertionError("the native entry refused prepared arrays")
        if self.counts:  # then the plan depends on values, too
            self._counted.add(plan, PLANS_KEPT)
        self._last = self._counted if self.counts else plan.contexts[0].call
        results = list(outputs if out is None else out)
        for check in state.checks:
            check(self.outputs, dict(zip(self.inputs, given, strict=True)), results)
        return results

    def _prepared_all(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        if len(arrays) != len(self.inputs):
            raise TypeError(f"compiled function: got {len(arrays)} arrays, wanted {len(self.inputs)}{at(user_line())}")
        return [self._prepared(k, a) for k, a in enumerate(arrays)]

    def _prepared(self, k: int, value: Any) -> np.ndarray[Any, Any]:
        dtype = self.input_dtypes[k]
        if value.__class__ is np.ndarray and value.dtype is dtype and (
                flags := value.flags).c_contiguous and flags.aligned:
            return value  # type: ignore[no-any-return]
        array = np.asarray(value)
        if array.dtype != dtype and not np.can_cast(array.dtype, dtype, "same_kind"):
            raise DtypeError(f"input {self.inputs[k].name}: got {array.dtype}, wanted {dtype}{at(user_line())}")
        return _plain(np.require(array, dtype, ["C", "A"]), dtype)

    def _targets(self, plan: Plan, out: Sequence[Any], given: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """The arrays of `out` as the entry takes them; TypeError or ShapeError for what cannot be written to."""
        if len(out) != len(plan.output_specs):
            raise TypeError(f"out: got {len(out)} arrays, wanted {len(plan.output_specs)}{at(user_line())}")
        targets: list[np.ndarray[Any, Any]] = []
        for i, (array, (dtype, shape)) in enumerate(zip(out, plan.output_specs, strict=True)):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"out[{i}]: got {type(array).__name__}, wanted a numpy.ndarray{at(user_line())}")
            flags = array.flags
            if array.dtype != dtype or array.shape != shape or not (
                    flags.c_contiguous and flags.aligned and flags.writeable):
                raise ShapeError(f"out[{i}]: got {array.dtype}{array.shape}, wanted a writeable C-contiguous {dtype} "
                                 f"array of shape {shape}{at(user_line())}")
            if any(np.may_share_memory(array, a) for a in [*given, *targets]):
                raise ShapeError(f"out[{i}] shares memory with an input or another output{at(user_line())}")
            targets.append(_plain(array, dtype))
        return targets

    def failure(self, context: Context) -> Exception:
        """The error of the library kernel at which the last run in `context` ended."""
        step = context.steps_done - (len(context.program) - len(self.launches))
        # A loop or branch tells only that one of its steps failed: name each that can.
        found = failures_at(self.code, step)
        errors = dict.fromkeys(f"{failure.name}: {failure.text}{at(where)}" for failure, where in found)
        raises = found[0][0].raises
        kind = np.linalg.LinAlgError if raises == "LinAlgError" else getattr(builtins, raises)
        return kind("; or ".join(errors))  # type: ignore[no-any-return]

    def bind(self, *arrays: np.ndarray[Any, Any]) -> Bound:
        """Fix the arrays: calls then only run the program, on whatever the arrays hold at that moment."""
        if self.counts:
            raise GraphError(f"bind: the program counts the trips of a loop, so its plan depends on values; call it "
                             f"instead{at(user_line())}")
        given = self._prepared_all(arrays)
        for k, (array, prepared) in enumerate(zip(arrays, given, strict=True)):
            if prepared is not array and not (isinstance(array, np.ndarray) and np.shares_memory(prepared, array)):
                raise ShapeError(
                    f"bind: input {k} must be a C-contiguous {self.input_dtypes[k]} array{at(user_line())}"
                )
        return Bound(self, given)

    # -- looking inside
    @property
    def origin(self) -> str:
        """Where the program is from: "disk", or "made" in this process."""
        return "disk" if self.code.schedule is None else "made"

    @cached_property
    def schedule(self) -> Schedule:
        """The fused steps that the launches were made from."""
        return self.code.schedule or schedule(lower(self.inputs, self.outputs, self.graph.sizes))

    @property
    def source(self) -> str:
        """The kernels' generated Python, each once, in the order of their first use."""
        seen: dict[tuple[str, str], str] = {}  # loops of all kinds share a symbol
        for launch in self.launches:
            seen.setdefault((launch.symbol, launch.source), f"# {launch.title}\n{launch.source}")
        return "\n".join(seen.values())

    @property
    def kernel_count(self) -> int:
        """The number of distinct kernels."""
        return len({launch.symbol for launch in self.launches})

    @cached_property
    def njit(self) -> Any:
        """A Numba dispatcher with the program's inputs as arguments, for the user's own ``@njit`` code."""
        return make_njit(self)

    def cfunc(self, signature: str) -> Any:
        """A Numba ``cfunc`` with a given C signature."""
        return make_cfunc(self, signature)

    def lowlevel(self) -> Any:
        """A `scipy.LowLevelCallable`."""
        return make_lowlevel(self)

    def plan(self) -> dict[str, Any]:
        """What the latest plan does: steps, distinct kernels, flops, bytes moved, arena bytes, build seconds.

        ``live_bytes`` is the most that intermediates need at one step: no arena could be smaller.

        For programs that go back through loops also ``tape_bytes``, and ``loops`` with the user's line, steps, tape
        bytes and recomputation of each: how often a step runs forward again, on average, besides once on its way back.
        """
        plan = next(reversed(self._plans.values()), None)
        report: dict[str, Any] = {
            "steps": len(self.launches),
            "kernels": self.kernel_count,
            "build_seconds": self.build_seconds,
        }
        if plan is not None:
            layout, sizes = self.code.layout, plan.sizes
            report |= {"flops": sum(sizes[i] for i in layout.flops), "bytes_moved": sum(sizes[i] for i in layout.moved),
                       "arena_bytes": plan.arena_bytes, "live_bytes": plan.live_bytes}
            values = dict(zip(layout.sizes.symbols, plan.symbol_values, strict=True))
            loops = [tape.report(values, x.where) for x in self.code.all_launches() if (tape := x.tape) is not None]
            if loops:
                report |= {"tape_bytes": sum(loop["tape_bytes"] for loop in loops), "loops": loops}
        return report

    def profile(self, *arrays: Any, repeats: int = 5) -> list[dict[str, Any]]:
        """The median seconds of each step for these arrays, with its kernel's title and the user's line."""
        self(*arrays)
        given = self._prepared_all(arrays)
        plan = self.plan_for(tuple([a.shape for a in given]), given)
        context = plan.new_context()
        outputs = [np.empty(shape, dtype) for dtype, shape in plan.output_specs]
        context.run(given, outputs)  # fills in the addresses
        run = kernels("driver").run
        seconds: list[list[float]] = [[] for _ in range(len(context.program))]
        for _ in range(repeats):
            for k in range(len(context.program)):
                start = perf_counter()
                run(context.program[k: k + 1])
                seconds[k].append(perf_counter() - start)
        extra = len(context.program) - len(self.launches)
        return [{"step": k - extra, "kernel": "addresses" if k < extra else self.launches[k - extra].title,
                 "seconds": float(np.median(seconds[k])), "where": str(self.launches[max(0, k - extra)].where)}
                for k in range(len(context.program))]

    def ptx(self, compute_capability: tuple[int, int] = (8, 0)) -> list[str]:
        """The fused kernels as PTX text for a GPU of the given compute capability."""
        return [text for _, text in ptx_of(self.schedule.steps, compute_capability)]


class Bound:
    """A program with its arrays fixed; the outputs are reused from call to call."""

    def __init__(self, program: Program, arrays: list[np.ndarray[Any, Any]]) -> None:
        self._program, self._arrays = program, arrays
        plan = program.plan_for(tuple([a.shape for a in arrays]), arrays)
        self._context = plan.new_context()
        self.outputs = [np.empty(shape, dtype) for dtype, shape in plan.output_specs]
        self._plan = plan

    def __call__(self) -> list[np.ndarray[Any, Any]]:
        code, _ = self._context.run(self._arrays, self.outputs)
        if code == 2:
            raise self._program.failure(self._context)
        if code != 1:
            raise GraphError(f"a bound array changed its shape or layout, or runs in another thread{at(user_line())}")
        for check in state.checks:
            check(self._program.outputs, dict(zip(self._program.inputs, self._arrays, strict=True)), self.outputs)
        return self.outputs


def _plain(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The same memory as exactly what the entry takes: no subclass, and not an equal but different dtype object (NumPy
    makes those when it unpickles, say)."""
    array = np.asarray(array)
    return array if array.dtype is dtype else array.view(dtype)


def compile_program(inputs: Sequence[Tensor], outputs: Sequence[Tensor], target: str = "cpu") -> Program | Segmented:
    """Compile the part of a graph between placeholders and outputs."""
    if target == "cuda":
        available, reason = kernels("targets.cuda").available()
        raise DeviceError(
            f"compile: target 'cuda' cannot run programs yet{'' if available else f' ({reason})'}; fused kernels "
            f"compile to PTX through Program.ptx(){at(user_line())}"
        )
    if target != "cpu":
        raise ValueError(f"compile: unknown target {target!r}, wanted 'cpu' or 'cuda'{at(user_line())}")
    graph = next((t.graph for t in (*inputs, *outputs) if t.graph is not None), None) or Graph()
    for tensor in inputs:
        if tensor.op is None or tensor.op.type not in ("placeholder", "variable"):
            raise GraphError(f"compile: inputs must be placeholders, got {tensor!r}{at(user_line())}")
    with graph.lock, heard_by(()):  # what is lowered is no operation of the user's
        if has_host_steps(outputs):
            return Segmented(inputs, outputs, graph, Program)
        return Program(inputs, outputs, graph)

"""Print a loop nest as a Python kernel: for Numba's CPU compiler, and for its CUDA compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgrad.compiler.nest import Nest, Ref
from numgrad.compiler.rewrite import Value
from numgrad.types import Dim

__all__ = ["Argument", "COLUMN_BLOCK", "Printed", "Scratch", "print_cpu", "print_cuda"]

COLUMN_BLOCK = 512  # columns that one call of a column reduction keeps in the first cache
SHORT = {np.dtype(c): n for c, n in zip("? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split(),
                                        "b1 i8 i16 i32 i64 u8 u16 u32 u64 f16 f32 f64 c64 c128".split(), strict=True)}
COMBINE = {
    "sum": "sum_add({a}, {v})",
    "prod": "prod_mul({a}, {v})",
    "max": "nan_max({a}, {v})",
    "min": "nan_min({a}, {v})",
    "any": "{a} or {v}",
    "all": "{a} and {v}",
}
COMBINE_FORMULA = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "any": "logical_or",
                   "all": "logical_and"}


@dataclass(frozen=True)
class Argument:
    """One entry of a kernel's argument table: a buffer at an offset, a size, or the length of a chunk."""

    kind: str  # "buffer", "partials", "dim", "chunk"
    value: Value | None = None
    offset: Dim = 0
    dim: Dim = 0


@dataclass(frozen=True)
class Scratch:
    """A buffer that lives only during one step: dtype and number of elements."""

    dtype: np.dtype[Any]
    count: Dim


@dataclass(frozen=True)
class Printed:
    """A kernel's text, its arguments in order, and the typed signature that the CUDA compiler wants."""

    source: str
    arguments: tuple[Argument, ...]
    signature: tuple[str, ...] = ()


def short_name(dtype: Any) -> str:
    """The short name of a dtype in kernels: ``f64``."""
    return SHORT[np.dtype(dtype)]


def start_value(op: str, dtype: np.dtype[Any]) -> str:
    """The neutral element of a reduction, as text."""
    short = "f32" if dtype == np.float16 else short_name(dtype)
    if op in ("any", "all"):
        return "False" if op == "any" else "True"
    if op in ("sum", "prod"):
        return f"{short}({0 if op == 'sum' else 1})"
    if dtype.kind == "b":
        return "False" if op == "max" else "True"
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return f"{short}({info.min if op == 'max' else info.max})"
    number = "-math.inf" if op == "max" else "math.inf"
    return f"{short}({number})" if dtype.kind == "f" else f"{short}(complex({number}, {number}))"


class _Printer:
    """What both targets share: the body of the innermost loop."""

    def __init__(self, nest: Nest, scalar: Any, target: str) -> None:
        self.nest, self.scalar, self.target = nest, scalar, target
        self.rank = len(nest.dims)
        self.arguments: list[Argument] = []
        self.head: list[str] = []
        self.signature: list[str] = []
        self.strides: dict[tuple[str, int], str] = {}
        self.block = scalar.Block()
        self.inputs = [self.block.input(f"x{k}", a.root.dtype) for k, a in enumerate(nest.loads)]
        self.values: list[Any] = []
        for instruction in nest.instructions:
            operands = [self.operand(r) for r in instruction.operands]
            self.values.append(scalar.apply(self.block, instruction.op, operands, instruction.dtype,
                                            _plain(instruction.attrs)))
        self.results = [self.operand(s.ref, s.access.root.dtype) for s in nest.stores]
        self.terms = [self.operand(r.ref, r.dtype) for r in nest.reductions]
        self.updates = [self.update(k) for k in range(len(nest.reductions))]
        wanted = [v for v in self.results + self.terms + self.updates if v is not None]
        self.lines = scalar.print_block(self.block, target, wanted)

    def operand(self, ref: Ref, dtype: Any = None) -> Any:
        kind, what = ref
        if kind == "load":
            value = self.inputs[what]
        elif kind == "value":
            value = self.values[what]
        elif kind == "index":
            value = self.block.input(f"i{what}", np.int64)
        else:
            value = self.block.const(what[0], what[1])
        return value

    def update(self, k: int) -> Any:
        """What the accumulator ``a<k>`` becomes, by the scalar formulas; None where the CPU has an intrinsic."""
        reduction = self.nest.reductions[k]
        if self.target == "cpu" and not (reduction.op in ("max", "min") and reduction.dtype.kind == "c"):
            return None
        accumulator = self.block.input(f"a{k}", reduction.dtype)
        return self.scalar.apply(
            self.block, COMBINE_FORMULA[reduction.op], [accumulator, self.terms[k]], reduction.dtype
        )

    # -- arguments
    def argument(self, name: str, argument: Argument, typed: str) -> None:
        self.arguments.append(argument)
        self.signature.append(typed)
        raise_text = self.bind(name, len(self.arguments) - 1, typed)
        if raise_text:
            self.head.append(raise_text)

    def bind(self, name: str, index: int, typed: str) -> str:
        if typed.startswith("*"):
            return f"{name} = as_{typed[1:]}(args[{index}])"
        return f"{name} = args[{index}]"

    def buffers(self, partials: bool) -> None:
        for k, access in enumerate(self.nest.loads):
            self.argument(f"p{k}", Argument("buffer", access.root, access.offset), "*" + short_name(access.root.dtype))
        for k, store in enumerate(self.nest.stores):
            root = store.access.root
            self.argument(f"q{k}", Argument("buffer", root, store.access.offset), "*" + short_name(root.dtype))
        for k, reduction in enumerate(self.nest.reductions):
            self.argument(f"r{k}", Argument("partials" if partials else "buffer", reduction.target),
                          "*" + short_name(reduction.dtype))
        for d, dim in enumerate(self.nest.dims):
            self.argument(f"n{d}", Argument("dim", dim=dim), "i64")
        for letter, accesses in (("p", self.nest.loads), ("q", [s.access for s in self.nest.stores])):
            for k, access in enumerate(accesses):
                for d, stride in enumerate(access.strides):
                    self.strides[f"{letter}{k}", d] = self.stride(f"{letter}{k}", d, stride)

    def stride(self, name: str, d: int, stride: Dim) -> str:
        if isinstance(stride, int) and stride in (0, 1):
            return str(stride)
        text = f"t{name}_{d}"
        self.argument(text, Argument("dim", dim=stride), "i64")
        return text

    def index(self, name: str, upto: int) -> str:
        """The element index at loop depth `upto` (exclusive), from the running offset of the loops outside."""
        parts = []
        for d in range(upto):
            stride = self.strides[name, d]
            if stride != "0":
                parts.append(f"i{d}" if stride == "1" else f"i{d} * {stride}")
        return " + ".join(parts) or "0"

    def load(self, k: int, index: str) -> str:
        dtype = self.nest.loads[k].root.dtype
        if dtype == np.float16 or dtype.kind == "b":
            return f"x{k} = load_{short_name(dtype)}(p{k}, {index})"
        return f"x{k} = p{k}[{index}]"

    def store(self, pointer: str, index: str, dtype: np.dtype[Any], text: str) -> str:
        if dtype == np.float16 or dtype.kind == "b":
            return f"store_{short_name(dtype)}({pointer}, {index}, {text})"
        return f"{pointer}[{index}] = {text}"

    def body(self) -> list[str]:
        lines = list(self.lines)
        for k, (store, value) in enumerate(zip(self.nest.stores, self.results, strict=True)):
            lines.append(self.store(f"q{k}", self.index(f"q{k}", self.rank), store.access.root.dtype,
                                    self.scalar.spell(value)))
        return lines

    def combine(self, k: int, accumulator: str) -> str:
        """The text of the accumulator's next value; where a formula computes it, the accumulator is ``a<k>``."""
        if self.updates[k] is not None:
            return self.scalar.spell(self.updates[k])
        return COMBINE[self.nest.reductions[k].op].format(a=accumulator, v=self.scalar.spell(self.terms[k]))

    def level_of(self, k: int) -> int:
        """The loop depth at which load k can stand: the innermost dimension along which it moves, plus one."""
        return max((d + 1 for d in range(self.rank) if self.strides[f"p{k}", d] != "0"), default=0)


def print_cpu(nest: Nest, scalar: Any) -> Printed:
    """The kernel ``kernel(args, lo, hi)`` of a nest; `scalar` is the formulas' module."""
    return _CpuPrinter(nest, scalar).print()


class _CpuPrinter(_Printer):
    def __init__(self, nest: Nest, scalar: Any) -> None:
        super().__init__(nest, scalar, "cpu")
        self.out: list[str] = []

    def print(self) -> Printed:
        kinds = self.nest.kinds
        full = "R" in kinds and set(kinds) == {"R"}
        columns = kinds.startswith("R") and "I" in kinds
        self.buffers(partials=full)
        if full:
            self.argument("chunk", Argument("chunk"), "i64")
        depth = 0
        self.hoisted_loads(0, depth)
        if not kinds:
            self.emit(self.body(), depth)
        elif full:
            self.full_reduction()
        elif columns and kinds.count("I") == 1:
            self.column_blocks()
        elif columns:
            self.rows_of_columns()
        else:
            self.outer(0, 0)
        return Printed("def kernel(args, lo, hi):\n" + "\n".join("    " + line for line in self.head + self.out) + "\n",
                       tuple(self.arguments))

    def emit(self, lines: Sequence[str], depth: int) -> None:
        self.out.extend("    " * depth + line for line in lines)

    def hoisted_loads(self, level: int, depth: int) -> None:
        self.emit([self.load(k, self.index(f"p{k}", level)) for k in range(len(self.nest.loads))
                   if self.level_of(k) == level], depth)

    def loop(self, d: int, depth: int, lo: str = "0", hi: str | None = None) -> int:
        self.emit([f"for i{d} in range({lo}, {hi or f'n{d}'}):"], depth)
        self.hoisted_loads(d + 1, depth + 1)
        return depth + 1

    def outer(self, d: int, depth: int) -> None:
        """Loops over O dimensions, then what stands below them."""
        kinds = self.nest.kinds
        while d < self.rank and kinds[d] == "O":
            depth = self.loop(d, depth, *(("lo", "hi") if d == 0 else ()))
            d += 1
        if d == self.rank:
            self.emit(self.body(), depth)
        elif "I" in kinds:
            self.column_sweep(d, depth, None)
        else:
            self.row_reduction(d, depth)

    def row_reduction(self, d: int, depth: int) -> None:
        self.start(depth)
        inner = depth
        for r in range(d, self.rank):
            inner = self.loop(r, inner)
        self.emit(self.body(), inner)
        self.accumulate(inner)
        for k, reduction in enumerate(self.nest.reductions):
            self.emit([self.store(f"r{k}", self.output_index(d, ()), reduction.dtype, f"a{k}")], depth)

    def start(self, depth: int) -> None:
        self.emit([f"a{k} = {start_value(r.op, r.dtype)}" for k, r in enumerate(self.nest.reductions)], depth)

    def accumulate(self, depth: int) -> None:
        self.emit([f"a{k} = {self.combine(k, f'a{k}')}" for k in range(len(self.nest.reductions))], depth)

    def output_index(self, outer: int, inner: Sequence[int]) -> str:
        """The index into a reduction's buffer: row-major over the outer and the given inner dimensions."""
        text = ""
        for d in [*range(outer), *inner]:
            text = f"i{d}" if not text else f"({text}) * n{d} + i{d}"
        return text or "0"

    def full_reduction(self) -> None:
        self.emit(["for c in range(lo, hi):"], 0)
        self.emit(["first = c * chunk", "last = min(n0, first + chunk)"], 1)
        self.start(1)
        depth = self.loop(0, 1, "first", "last")
        for d in range(1, self.rank):
            depth = self.loop(d, depth)
        self.emit(self.body(), depth)
        self.accumulate(depth)
        self.emit([self.store(f"r{k}", "c", r.dtype, f"a{k}") for k, r in enumerate(self.nest.reductions)], 1)

    def column_blocks(self) -> None:
        last = self.rank - 1
        self.emit(["for block in range(lo, hi):"], 0)
        self.emit([f"first = block * {COLUMN_BLOCK}", f"last = min(n{last}, first + {COLUMN_BLOCK})"], 1)
        self.column_sweep(0, 1, ("first", "last"))

    def rows_of_columns(self) -> None:
        first = self.nest.kinds.index("I")
        self.column_sweep(0, 0, ("lo", "hi"), ranged=first)

    def column_sweep(self, d: int, depth: int, span: tuple[str, str] | None, ranged: int | None = None) -> None:
        """Clear the outputs, then add row after row to them: reads stay in order."""
        kinds = self.nest.kinds
        inner = [k for k in range(self.rank) if kinds[k] == "I"]
        reduced = [k for k in range(d, self.rank) if kinds[k] == "R"]
        limited = inner[-1] if ranged is None else ranged

        def inner_loops(at: int, hoist: bool) -> int:
            for k in inner:
                limits = span if span is not None and k == limited else ("0", f"n{k}")
                self.emit([f"for i{k} in range({limits[0]}, {limits[1]}):"], at)
                at += 1
                if hoist:
                    self.hoisted_loads(k + 1, at)
            return at

        index = self.output_index(d, inner)
        at = inner_loops(depth, hoist=False)
        self.emit([self.store(f"r{k}", index, r.dtype, start_value(r.op, r.dtype))
                   for k, r in enumerate(self.nest.reductions)], at)
        at = depth
        for r in reduced:
            at = self.loop(r, at)
        at = inner_loops(at, hoist=True)
        self.emit([f"a{k} = r{k}[{index}]" for k, update in enumerate(self.updates) if update is not None], at)
        self.emit(self.body(), at)
        for k, reduction in enumerate(self.nest.reductions):
            current = f"load_{short_name(reduction.dtype)}(r{k}, {index})" if (
                reduction.dtype == np.float16 or reduction.dtype.kind == "b") else f"r{k}[{index}]"
            self.emit([self.store(f"r{k}", index, reduction.dtype, self.combine(k, current))], at)


def print_cuda(nest: Nest, scalar: Any) -> Printed:
    """The CUDA kernel of a nest: one thread for each element of the output, typed pointers and sizes as parameters."""
    return _CudaPrinter(nest, scalar).print()


class _CudaPrinter(_Printer):
    def __init__(self, nest: Nest, scalar: Any) -> None:
        super().__init__(nest, scalar, "cuda")
        self.names: list[str] = []

    def bind(self, name: str, index: int, typed: str) -> str:
        self.names.append(name)
        return ""

    def print(self) -> Printed:
        nest = self.nest
        kinds = nest.kinds
        full = bool(kinds) and set(kinds) == {"R"}
        self.buffers(partials=full)
        if full:
            self.argument("chunk", Argument("chunk"), "i64")
        threads = [0] if full else [d for d in range(self.rank) if kinds[d] != "R"]
        out: list[str] = []
        if full:
            out += ["total = (n0 + chunk - i64(1)) // chunk"]
        else:
            out += ["total = i64(1)"] + [f"total = total * n{d}" for d in threads]
        out += ["thread = i64(cuda.grid(1))", "step = i64(cuda.gridsize(1))", "while thread < total:"]
        body: list[str] = []
        if full:
            body += ["first = thread * chunk", "last = min(n0, first + chunk)"]
        else:
            body += ["rest = thread"]
            for d in reversed(threads):
                body += [f"i{d} = rest % n{d}", f"rest = rest // n{d}"] if d != threads[0] else [f"i{d} = rest"]
        body += [f"a{k} = {start_value(r.op, r.dtype)}" for k, r in enumerate(nest.reductions)]
        depth = 0
        for d in range(self.rank):
            if kinds[d] == "R":
                lo, hi = ("first", "last") if full and d == 0 else ("i64(0)", f"n{d}")
                body += ["    " * depth + f"i{d} = {lo}", "    " * depth + f"while i{d} < {hi}:"]
                depth += 1
        inside = [self.load(k, self.index(f"p{k}", self.rank)) for k in range(len(nest.loads))] + self.body()
        inside += [f"a{k} = {self.combine(k, f'a{k}')}" for k in range(len(nest.reductions))]
        body += ["    " * depth + line for line in inside]
        for d in reversed([d for d in range(self.rank) if kinds[d] == "R"]):
            body.append("    " * depth + f"i{d} = i{d} + i64(1)")
            depth -= 1
        body += [self.store(f"r{k}", "thread", r.dtype, f"a{k}") for k, r in enumerate(nest.reductions)]
        out += ["    " + line for line in [*body, "thread = thread + step"]]
        header = f"def kernel({', '.join(self.names)}):\n"
        return Printed(
            header + "\n".join("    " + line for line in out) + "\n", tuple(self.arguments), tuple(self.signature)
        )


def _plain(attrs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in attrs.items() if not isinstance(v, np.ndarray)}

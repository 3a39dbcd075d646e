"""From steps to native kernels: the only door to `numgrad_kernels`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from numgrad import config
from numgrad.compiler.access import Access
from numgrad.compiler.nest import Nest, Reduction
from numgrad.compiler.printer_numba import COLUMN_BLOCK, Argument, Printed, Scratch, print_cpu, print_cuda
from numgrad.compiler.printer_sum import SUM_BLOCK, print_sum
from numgrad.compiler.registers import LOOPS, Unfit, loop_in_registers
from numgrad.compiler.rewrite import Node, Value
from numgrad.compiler.schedule import LibraryStep
from numgrad.compiler.tape import Tape, tape_of
from numgrad.errors import KernelError, SourceLine, at
from numgrad.types import Dim, ShapeEnv, Size, Spec, size_product

__all__ = ["Launch", "kernels", "lower_step", "ptx_of"]

# Rough costs in nanoseconds an element, for deciding about threads and the GIL; only their order of magnitude matters.
_COST = {"light": 0.3, "heavy": 2.0}
_HEAVY = frozenset(
    "exp exp2 expm1 log log1p log2 log10 sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc "
    "erfinv lgamma digamma polygamma power hypot cbrt softplus sigmoid log_sigmoid logaddexp logaddexp2 "
    "xlogy xlog1py divide remainder floor_divide".split()
)


def kernels(name: str) -> Any:
    """A module of the kernels package, loaded when it is first asked for."""
    _connect_settings()
    return importlib.import_module(f"numgrad_kernels.{name}")


@cache
def _connect_settings() -> None:
    settings = importlib.import_module("numgrad_kernels.settings").settings
    config.connect(lambda name, value: setattr(settings, name, value))


@dataclass
class Launch:
    """A kernel with its argument table and range: what one row of a program's step table is made from."""

    address: int
    symbol: str
    title: str
    source: str
    arguments: list[Any]  # Argument, Scratch or "status"
    span: Dim | str  # hi, or "chunks" for the number of chunks of a full reduction
    cost: Dim  # estimated work in units of 0.1 ns
    parallel: bool
    reads: list[Value]
    writes: list[Value]
    where: SourceLine | None
    chunked: tuple[Dim, Dim] | None = None  # full reductions: first dimension, elements below it
    node: Node | None = None
    flops: Dim = 0
    bodies: Sequence[Any] = ()  # of a loop or branch: the codes that it runs
    constants: Sequence[Value] = ()  # that it reads besides those of the program around it
    tape: Tape | None = None


def lower_step(step: Nest | LibraryStep, code_of: Callable[[Any, int], Any], sizes: ShapeEnv) -> list[Launch]:
    """The kernel launches of one step; KernelError when a kernel is missing. `code_of` compiles a body and is
    told how many variables it carries."""
    if isinstance(step, Nest):
        return _nest(step)
    if step.node.record.name == "add_n":
        return [_sum(step.node)]
    if not step.node.record.facts.get("bodies"):
        return [_library(step.node)]
    if step.node.record.name in LOOPS:
        with suppress(Unfit):
            return [_loop_in_registers(step.node, sizes)]
    return [_control(step.node, code_of)]


def _loop_in_registers(node: Node, sizes: ShapeEnv) -> Launch:
    """A loop over a few numbers: one kernel, as others."""
    loop = loop_in_registers(node, sizes, kernels("scalar"))
    built = kernels("build").build_source(loop.source)
    work = loop.operations * _trips(node)
    return Launch(built.address, built.symbol, f"{node.record.name} in registers", loop.source, list(loop.arguments), 1,
                  work * 20, False, list(node.inputs), list(node.outputs), node.where, None, None, work, (),
                  loop.constants, tape_of(node))


def _trips(node: Node) -> Dim:
    """The number of steps of a loop, for estimates of its work: a guess where it is not known."""
    return node.attrs.get("length", 100)  # type: ignore[no-any-return]


def _control(node: Node, code_of: Callable[[Any, int], Any]) -> Launch:
    """A loop or branch: a kernel that runs codes of its own."""
    name, attrs = node.record.name, node.attrs
    found = {"scan": ("body",), "while_loop": ("cond", "body"), "trip_count": ("cond", "body"),
             "adjoint_scan": ("forward", "backward")}.get(name)
    bodies = list(attrs["branches"]) if found is None else [attrs[k] for k in found]
    kernel = {"trip_count": "while", "while_loop": "while", "adjoint_scan": "adjoint"}.get(name, name)
    codes = [code_of(body, attrs["carries"] if body is attrs.get("body") else 0) for body in bodies]
    address = kernels("control").address(kernel)
    trips = _trips(node)
    cost = sum((launch.cost for code in codes for launch in code.launches), 0) * trips
    flops = sum((launch.flops for code in codes for launch in code.launches), 0) * trips
    source = "".join(f"# in a {name}\n{launch.source}" for code in codes for launch in code.launches)
    return Launch(
        address,
        f"ng_{kernel}",
        name,
        source,
        [],
        1,
        cost,
        False,
        list(node.inputs),
        list(node.outputs),
        node.where,
        None,
        node,
        flops,
        codes,
        tape=tape_of(node),
    )


def _sum(node: Node) -> Launch:
    """A sum of many stored arrays."""
    printed, elements = print_sum(node), size_product(node.outputs[0].shape)
    built = kernels("build").build_source(printed.source)
    flops = elements * len(node.inputs)
    return Launch(built.address, built.symbol, "add_n", printed.source, list(printed.arguments),
                  (elements + (SUM_BLOCK - 1)) // SUM_BLOCK, flops * 3, True, list(node.inputs), list(node.outputs),
                  node.where, None, None, flops)


def _nest(nest: Nest) -> list[Launch]:
    scalar = kernels("scalar")
    try:
        printed = print_cpu(nest, scalar)
    except LookupError as error:
        raise KernelError(f"cpu: {error.args[0]}{at(nest.where)}") from error
    built = kernels("build").build_source(printed.source)
    kinds = nest.kinds
    full = bool(kinds) and set(kinds) == {"R"}
    span: Dim | str
    if not kinds:
        span = 1
    elif full:
        span = "chunks"
    elif kinds.startswith("R") and kinds.count("I") == 1:
        span = (nest.dims[-1] + (COLUMN_BLOCK - 1)) // COLUMN_BLOCK
    elif kinds.startswith("R"):
        span = nest.dims[kinds.index("I")]
    else:
        span = nest.dims[0]
    each = sum(_COST["heavy" if i.op in _HEAVY else "light"] for i in nest.instructions) + 0.3
    elements = size_product(nest.dims)
    operations = max(1, len(nest.instructions) + len(nest.reductions))
    launch = Launch(built.address, built.symbol, _title(nest), printed.source, list(printed.arguments), span,
                    elements * max(1, int(10 * each)), True, nest.roots_read(), nest.roots_written(), nest.where,
                    (nest.dims[0], size_product(nest.dims[1:])) if full else None, None, elements * operations)
    return [launch, *(_combine(r, scalar, nest.where) for r in nest.reductions)] if full else [launch]


def _combine(reduction: Reduction, scalar: Any, where: SourceLine | None) -> Launch:
    """The launch that reduces the partial results of the chunks, always in the same order."""
    value = reduction.target
    small = Nest(
        (2,), "R", [Access(value, 0, (1,))], [], [], [Reduction(reduction.op, ("load", 0), value, value.dtype)]
    )
    printed = print_cpu(small, scalar)
    built = kernels("build").build_source(printed.source)
    arguments = [Argument("partials", value), Argument("buffer", value), Argument("chunks"), Argument("chunks")]
    return Launch(
        built.address,
        built.symbol,
        f"combine {reduction.op}",
        printed.source,
        arguments,
        "combine",
        1,
        False,
        [value],
        [value],
        where,
    )


def _title(nest: Nest) -> str:
    names = [i.op for i in nest.instructions] + [r.op for r in nest.reductions]
    return " ".join(names[:8]) + (" ..." if len(names) > 8 else "") or "copy"


def _library(node: Node) -> Launch:
    library = node.record.library
    ins, outs = [v.spec for v in node.inputs], [v.spec for v in node.outputs]
    if node.record.facts.get("host"):
        raise KernelError(
            f"{node.record.name}: it runs in Python, and compiled loops and branches cannot return to Python"
            f"{at(node.where)}; use ng.njit_function"
        )
    if library is None:
        listed = ", ".join(str(s) for s in ins)
        raise KernelError(f"{node.record.name}: there is no kernel for ({listed}) on target cpu{at(node.where)}")
    dtypes = tuple(np.dtype(d).name for d in library.dtypes(ins, outs, node.attrs))
    sizes = list(library.sizes(ins, outs, node.attrs))
    try:
        if library.function is None:
            name = library.pick(ins, outs, node.attrs) if library.pick is not None else library.name
            built = kernels("build").build_library(name, dtypes)
            source = f"# library kernel {name}({', '.join(dtypes)})\n"
        else:
            built, integers = _user_kernel(*library.function(node.attrs), ins, outs)
            source, sizes = built.source, sizes + integers
    except (LookupError, TypeError, NotImplementedError, kernels("errors").KernelBuildError) as error:
        raise KernelError(f"{node.record.name}: there is no kernel for {', '.join(dtypes)} on target cpu: {error}"
                          f"{at(node.where)}") from error
    arguments: list[Any] = [Argument("buffer", v) for v in (*node.inputs, *node.outputs)]
    arguments += [Scratch(np.dtype(d), n) for d, n in library.scratch(ins, outs, node.attrs)]
    arguments += [Argument("dim", dim=_integer(n)) for n in sizes]
    if library.status:
        arguments.append("status")
    span = library.span(ins, outs, node.attrs)
    flops = library.flops(ins, outs, node.attrs) if library.flops else sum((size_product(s.shape) for s in outs), 0)
    return Launch(built.address, built.symbol, node.record.name, source, arguments, span, flops * 5, library.parallel,
                  list(node.inputs), list(node.outputs), node.where, None, node, flops)


def _user_kernel(function: Callable[..., Any], attributes: Mapping[str, Any], ins: Sequence[Spec],
                 outs: Sequence[Spec]) -> tuple[Any, list[Dim]]:
    """The kernel of a user's function of arrays, and the integers that it takes after the sizes."""
    integers: dict[str, Any] = {
        k: v for k, v in attributes.items() if isinstance(v, (int, np.integer, Size)) and not isinstance(v, bool)
    }
    constants = {k: v for k, v in attributes.items() if k not in integers}
    built = kernels("user").build_user(
        function,
        [(s.dtype.name, s.ndim) for s in ins],
        [(s.dtype.name, s.ndim) for s in outs],
        list(integers),
        constants,
    )
    return built, list(integers.values())


def _integer(size: Any) -> Dim:
    return int(size) if isinstance(size, (bool, np.integer)) else size


def ptx_of(
    steps: Sequence[Nest | LibraryStep], compute_capability: tuple[int, int] = (8, 0)
) -> list[tuple[Printed, str]]:
    """Every fused nest as CUDA Python and as PTX, for a look at what a GPU would run; needs no GPU."""
    scalar, cuda = kernels("scalar"), kernels("targets.cuda")
    result = []
    for step in steps:
        if isinstance(step, Nest):
            printed = print_cuda(step, scalar)
            result.append(
                (printed, cuda.compile_ptx(printed.source, "kernel", printed.signature, cc=compute_capability))
            )
    return result

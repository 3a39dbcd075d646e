"""A program as a Numba function: what the user's ``@njit`` code, C callbacks and SciPy's low-level callables call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.compiler.measure import size_lines
from numgrad.compiler.recipe import ALIGN
from numgrad.compiler.tables import CHUNK_ELEMENTS
from numgrad.errors import DtypeError, KernelError, at, user_line

if TYPE_CHECKING:
    from numgrad.compiler.program import Program

__all__ = ["make_cfunc", "make_lowlevel", "make_njit", "njit_source"]


def njit_source(program: Program) -> tuple[str, dict[str, Any]]:
    """The text of a function that runs the program step by step, and the arrays and kernels that it names."""
    layout, sizes = program.code.layout, program.code.layout.sizes
    scope: dict[str, Any] = {"np": np}
    names = [f"x{k}" for k in range(len(program.inputs))]
    lines: list[str] = []
    for k, tensor in enumerate(program.inputs):
        if not tensor.shape:
            lines += [
                f"b{k} = np.empty(1, np.{_name(tensor.dtype)})",
                f"b{k}[0] = x{k}",
            ]
        else:
            lines.append(f"b{k} = x{k}")
    lines += size_lines(program, lambda k, axis: f"x{k}.shape[{axis}]", lambda condition, message: [
        f"if {condition}:", f"    raise ValueError({'numgrad: ' + message!r})"])
    size_text = [sizes.source(e) for e in sizes.expressions]
    for i, (dtype, shape) in enumerate(program.output_specs):
        dims = ", ".join(sizes.source(d) for d in shape)
        kind = _name(dtype)
        lines.append(
            f"o{i} = np.empty(({dims}{',' if shape else ''}), np.{kind})" if shape else f"o{i} = np.empty(1, np.{kind})"
        )
    total: list[str] = []
    for slot, index in enumerate(layout.slot_bytes):
        lines.append(f"a{slot} = {' + '.join(total[-1:]) or '0'}")
        lines.append(f"e{slot} = a{slot} + ({size_text[index]} + {ALIGN - 1}) // {ALIGN} * {ALIGN}")
        total.append(f"e{slot}")
    lines.append(f"arena = np.empty({total[-1] if total else '0'} + {ALIGN}, np.uint8)")
    lines.append(f"base = (arena.ctypes.data + {ALIGN - 1}) // {ALIGN} * {ALIGN}")
    lines.append(f"sizes = np.empty({max(1, len(layout.size_nodes))}, np.int64)")
    lines += [f"sizes[{i}] = {size_text[index]}" for i, index in enumerate(layout.size_nodes)]
    lines.append("status = np.zeros(1, np.int64)")
    for i, constant in enumerate(program.code.constants):
        scope[f"c{i}"] = constant
    _steps(program, lines, scope, size_text)
    results = [f"o{i}" if shape else f"o{i}[0]" for i, (_, shape) in enumerate(program.output_specs)]
    lines.append(f"return {', '.join(results)}" if len(results) == 1 else f"return ({', '.join(results)},)")
    text = f"def program({', '.join(names)}):\n" + "\n".join("    " + line for line in lines) + "\n"
    return text, scope


def _name(dtype: np.dtype[Any]) -> str:
    return "bool_" if dtype.kind == "b" else dtype.name


def _steps(program: Program, lines: list[str], scope: dict[str, Any], size_text: list[str]) -> None:
    layout = program.code.layout
    held: dict[str, None] = {}
    for k, (launch, (_, entries)) in enumerate(zip(layout.launches, layout.rows, strict=True)):
        chunked = layout.chunked[k]
        if chunked is not None:
            first, below = (size_text[i] for i in chunked)
            lines.append(f"length = max(1, {CHUNK_ELEMENTS} // max(1, {below}))")
            lines.append(f"count = max(1, ({first} + length - 1) // length)")
        scope[f"k_{launch.symbol}"] = _external(launch.symbol, launch.address)
        lines.append(f"t{k} = np.empty({max(1, len(entries))}, np.int64)")
        for i, (kind, where, offset, itemsize) in enumerate(entries):
            if kind == "scratch":
                index, size = layout.scratch[where]
                held[f"w{where}"] = None
                lines.append(f"w{where} = np.empty(({size_text[index]}) * {size} + {ALIGN}, np.uint8)")
                value = f"(w{where}.ctypes.data + {ALIGN - 1}) // {ALIGN} * {ALIGN}"
            elif kind == "partials":
                # One buffer of partial results a reduction; the launch that combines them names the same one.
                name = f"y_{where[0]}_{where[1]}"
                if layout.chunked[k] is not None:
                    held[name] = None
                    lines.append(f"{name} = np.empty(count * {itemsize} + {ALIGN}, np.uint8)")
                value = f"({name}.ctypes.data + {ALIGN - 1}) // {ALIGN} * {ALIGN}"
            else:
                value = _address(kind, where, size_text[offset] if itemsize else "0", itemsize, size_text)
            lines.append(f"t{k}[{i}] = {value}")
        span = layout.spans[k]
        high = {"chunks": "count", "combine": "1"}[span] if isinstance(span, str) else size_text[span]
        lines.append(f"k_{launch.symbol}(t{k}.ctypes, 0, {high})")
        if launch.node is not None and launch.node.record.library is not None and launch.node.record.library.status:
            library = launch.node.record.library
            error = "IndexError" if library.raises is IndexError else "ValueError"  # Numba knows no LinAlgError
            lines += [
                "if status[0] != 0:",
                f"    raise {error}({f'{launch.node.record.name}: {library.error}{at(launch.where)}'!r})",
            ]
    # The tables hold bare addresses: keep every array alive until the last kernel has returned.
    alive = ["arena", "sizes", "status", *(f"b{i}" for i in range(len(program.inputs))), *held]
    lines.append(f"status[0] = status[0] + 0 * ({' + '.join(f'{a}.size' for a in alive)})")


def _address(kind: str, where: Any, offset: str, itemsize: int, size_text: list[str]) -> str:
    if kind == "dim":
        return size_text[where]
    if kind == "chunk":
        return "length"
    if kind == "chunks":
        return "count"
    if kind == "status":
        return "status.ctypes.data"
    if kind == "size":
        return f"sizes.ctypes.data + {8 * where}"
    shift = "" if offset == "0" else f" + ({offset}) * {itemsize}"
    if kind == "arena":
        return f"base + a{where}{shift}"
    array = {"input": "b", "output": "o", "constant": "c"}[kind]
    return f"{array}{where}.ctypes.data{shift}"


def _external(symbol: str, address: int) -> Any:
    """The kernel as a function that Numba code calls by name, so that the caller's own cache stays valid."""
    import llvmlite.binding
    from numba import types

    llvmlite.binding.add_symbol(symbol, address)
    return types.ExternalFunction(symbol, types.void(types.voidptr, types.int64, types.int64))


def make_njit(program: Program) -> Any:
    """A Numba dispatcher that takes the inputs (arrays C-contiguous, 0-d ones as scalars) and returns the outputs."""
    import numba
    from numba import types

    if any(launch.bodies for launch in program.launches):
        raise KernelError(
            f"njit: programs with loops or branches cannot be called from Numba code yet{at(user_line())}"
        )
    for tensor in program.inputs:
        if tensor.dtype == np.float16:
            raise DtypeError(f"njit: Numba has no float16 on the CPU (input {tensor.name}){at(user_line())}")
    text, scope = njit_source(program)
    exec(compile(text, "<numgrad njit>", "exec"), scope)
    arguments = []
    for tensor in program.inputs:
        element = numba.from_dtype(tensor.dtype)
        arguments.append(types.Array(element, len(tensor.shape), "C") if tensor.shape else element)
    return numba.njit(tuple(arguments), error_model="numpy")(scope["program"])


def make_cfunc(program: Program, signature: str) -> Any:
    """A Numba cfunc of the program.

    `signature` is ``"float64(float64, ...)"`` for programs of scalars, or ``"float64(intc, CPointer(float64))"`` for a
    scalar function of one vector, or of scalars that lie side by side, as SciPy's integrators call it.
    """
    import numba

    scalars = all(not t.shape for t in program.inputs)
    vector = len(program.inputs) == 1 and len(program.inputs[0].shape) == 1
    if len(program.outputs) != 1 or program.outputs[0].shape or not (scalars or vector):
        raise TypeError(f"cfunc: wanted one scalar result of scalars or of one vector, got "
                        f"{', '.join(str(t.spec) for t in program.inputs)} -> "
                        f"{', '.join(str(t.spec) for t in program.outputs)}{at(user_line())}")
    packed = "CPointer" in signature
    if scalars:
        given = ", ".join(f"x[{k}]" if packed else f"x{k}" for k in range(len(program.inputs)))
        text = f"def call({'n, x' if packed else given}):\n    return function({given})\n"
    else:
        text = "def call(n, x):\n    return function(carray(x, (n,)).copy())\n"
    scope = {"function": program.njit, "carray": numba.carray}  # type: ignore[attr-defined]
    exec(text, scope)
    return numba.cfunc(signature)(scope["call"])


def make_lowlevel(program: Program) -> Any:
    """A `scipy.LowLevelCallable`: ``double f(double)`` of a scalar, ``double f(int, double *)`` of a vector or more."""
    from scipy import LowLevelCallable

    if len(program.inputs) == 1 and not program.inputs[0].shape:
        return LowLevelCallable(make_cfunc(program, "float64(float64)").ctypes)
    return LowLevelCallable(make_cfunc(program, "float64(intc, CPointer(float64))").ctypes)

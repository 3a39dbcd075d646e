"""A program as a Numba function: what the user's ``@njit`` code, C callbacks and SciPy's low-level callables call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.compiler.export_steps import StepWriter
from numgrad.compiler.measure import size_lines
from numgrad.errors import DtypeError, at, user_line

if TYPE_CHECKING:
    from numgrad.compiler.program import Program

__all__ = ["make_cfunc", "make_lowlevel", "make_njit", "njit_source"]


def njit_source(program: Program) -> tuple[str, dict[str, Any]]:
    """The text of a function that runs the program step by step, and the arrays and kernels that it names."""
    sizes = program.code.layout.sizes
    scope: dict[str, Any] = {}
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
    counted = [symbol for symbol, _ in program.counts]
    for i, (symbol, counter) in enumerate(program.counts):
        scope[f"count{i}"] = make_njit(counter)
        lines.append(f"{sizes.names[symbol]} = count{i}({', '.join(names)})")
    lines += size_lines(program, lambda k, axis: f"x{k}.shape[{axis}]", lambda condition, message: [
        f"if {condition}:", f"    raise ValueError({'numgrad: ' + message!r})"], counted)
    for i, (dtype, shape) in enumerate(program.output_specs):
        dims = ", ".join(sizes.source(d) for d in shape) + ("," if shape else "1")
        lines.append(f"o{i} = np.empty({f'({dims})' if shape else dims}, np.{_name(dtype)})")
    writer = StepWriter()
    steps = writer.code(program.code, lambda kind, k: f"np.int64({'b' if kind == 'input' else 'o'}{k}.ctypes.data)")
    lines += [*writer.setup, *steps, writer.keep_alive()]
    if program.inputs:
        lines.append(f"status[0] = status[0] + 0 * ({' + '.join(f'b{k}.size' for k in range(len(program.inputs)))})")
    results = [f"o{i}" if shape else f"o{i}[0]" for i, (_, shape) in enumerate(program.output_specs)]
    lines.append(f"return {', '.join(results)}" if len(results) == 1 else f"return ({', '.join(results)},)")
    text = f"def program({', '.join(names)}):\n" + "\n".join("    " + line for line in lines) + "\n"
    return text, scope | writer.scope


def _name(dtype: np.dtype[Any]) -> str:
    return "bool_" if dtype.kind == "b" else dtype.name


def make_njit(program: Program) -> Any:
    """A Numba dispatcher that takes the inputs (arrays C-contiguous, 0-d ones as scalars) and returns the outputs."""
    import numba
    from numba import types

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

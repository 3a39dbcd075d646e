"""A block of scalar instructions as Python source, one assignment per instruction, for the CPU or the CUDA compiler."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from numgrad_kernels.scalar.ir import COMPARISONS, Block, Value

#: Short names of dtypes, which are also the names of the casts in both targets' namespaces.
SHORT_NAMES = {
    np.dtype(bool): "b1",
    **{np.dtype(f"i{n}"): f"i{8 * n}" for n in (1, 2, 4, 8)},
    **{np.dtype(f"u{n}"): f"u{8 * n}" for n in (1, 2, 4, 8)},
    **{np.dtype(f"f{n}"): f"f{8 * n}" for n in (2, 4, 8)},
    **{np.dtype(f"c{n}"): f"c{8 * n}" for n in (8, 16)},
}

_OPERATORS = dict(
    zip(
        "add sub mul div floordiv mod shl shr lt le gt ge eq ne and or xor".split(),
        "+ - * / // % << >> < <= > >= == != & | ^".split(),
        strict=True,
    )
)

#: Instructions that are spelled alike on both targets.
_SHARED_CALLS = {"select": "select", "complex": "complex", "ipow": "int_power"}

_CPU_CALLS = {"float_bits": "float_bits", "bits_float": "bits_float", "round_f16": "round_f16"}

_CUDA_CALLS = {
    ("float_bits", "f32"): "libdevice.float_as_int",
    ("float_bits", "f64"): "libdevice.double_as_longlong",
    ("bits_float", "i32"): "libdevice.int_as_float",
    ("bits_float", "i64"): "libdevice.longlong_as_double",
    ("round_f16", "f32"): "round_f16",
}


def print_block(block: Block, target: str, outputs: Iterable[Value] | None = None) -> list[str]:
    """Return the instructions of `block` as lines of Python, in order.

    Parameters
    ----------
    block : Block
        What to print.
    target : {"cpu", "cuda"}
        Whose function names to use: those of `numgrad_kernels.prelude` or of `numgrad_kernels.targets.cuda`.
    outputs : iterable of Value, optional
        Print only what these need; by default everything.

    Returns
    -------
    list of str
        Lines ``v3 = vm_exp(v2)``. The kernel assigns the inputs' names before them, and afterwards finds each value
        under the name that `spell` gives.

    Examples
    --------
    >>> from numgrad_kernels.scalar import Block, apply, print_block
    >>> block = Block()
    >>> y = apply(block, "exp", [block.input("x", "float32")], "float32")
    >>> print_block(block, "cpu"), print_block(block, "cuda")
    (['v1 = vm_exp(x)'], ['v1 = libdevice.expf(x)'])
    """
    if target not in ("cpu", "cuda"):
        raise ValueError(f"unknown kernel target {target!r}: wanted 'cpu' or 'cuda'")
    wanted = _needed(block, outputs)
    lines = []
    for value in block.values:
        if value.index in wanted:
            line = print_value(value, target)
            lines += [line] if line else []
    return lines


def print_value(value: Value, target: str) -> str:
    """Return the assignment that computes `value` from its operands, or nothing where its name needs none."""
    if value.op == "input" or (value.op == "const" and not _needs_cast(value)):
        return ""
    return f"{spell(value)} = {_const(value) if value.op == 'const' else _expression(value, target)}"


def spell(value: Value) -> str:
    """Return the text that stands for `value` in printed source: an input's name, a plain constant, or ``v<index>``."""
    if value.op == "input":
        return str(value.data)
    if value.op == "const":
        return f"c{value.index}" if _needs_cast(value) else _const(value)
    return f"v{value.index}"


def _needed(block: Block, outputs: Iterable[Value] | None) -> set[int]:
    if outputs is None:
        return {value.index for value in block.values}
    wanted = {value.index for value in outputs}
    for value in reversed(block.values):
        if value.index in wanted:
            wanted.update(operand.index for operand in value.args)
    return wanted


def _needs_cast(const: Value) -> bool:
    """Whether the constant is not what the compiler takes a plain literal for (bool, int64 or finite float64)."""
    short = SHORT_NAMES[const.dtype]
    return short not in ("b1", "i64", "f64") or (short == "f64" and not math.isfinite(const.data))


def _const(const: Value) -> str:
    short, number = SHORT_NAMES[const.dtype], const.data
    if isinstance(number, float) and not math.isfinite(number):
        text = "math.nan" if math.isnan(number) else "math.inf" if number > 0 else "-math.inf"
    else:
        text = repr(number)
    return f"{short}({text})" if _needs_cast(const) else text if number >= 0 or short == "b1" else f"({text})"


def _expression(value: Value, target: str) -> str:
    op, args = value.op, [spell(a) for a in value.args]
    short = SHORT_NAMES[value.dtype]
    if op in _OPERATORS:
        return _typed(f"{args[0]} {_OPERATORS[op]} {args[1]}", value, wide=op in COMPARISONS or value.dtype.kind == "f")
    if op == "neg":
        return _typed(f"-{args[0]}", value, wide=value.dtype.kind == "f")
    if op == "not":
        return f"not {args[0]}" if short == "b1" else _typed(f"~{args[0]}", value)
    if op == "cast":
        return f"{short}({args[0]})"
    if op in ("real", "imag"):
        return f"{args[0]}.{op}"
    return f"{_function(value, target)}({', '.join(args)})"


def _typed(text: str, value: Value, wide: bool = False) -> str:
    """Cast the result of an operator back to the value's dtype, where the compiler would widen a narrow integer."""
    short = SHORT_NAMES[value.dtype]
    return text if wide or short in ("b1", "i64", "u64") else f"{short}({text})"


def _function(value: Value, target: str) -> str:
    op = value.op
    if op in _SHARED_CALLS:
        return _SHARED_CALLS[op]
    short = SHORT_NAMES[value.args[0].dtype]
    if target == "cpu":
        return _CPU_CALLS.get(op, f"vm_{op}")
    return _CUDA_CALLS.get((op, short)) or f"libdevice.{op}{'f' if short == 'f32' else ''}"

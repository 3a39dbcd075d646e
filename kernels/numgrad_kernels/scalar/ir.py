"""A block of typed scalar instructions in single-assignment form: what one element of a fused kernel computes.

Formulas (`numgrad_kernels.scalar.formulas_*`) write instructions into a `Block`, and a printer turns the block into
Python source for a CPU or a CUDA kernel. The instructions are few, have no branches, and work on bool, integers,
float32 and float64; a complex value is built from two real ones and taken apart again, and float16 is computed in
float32. Equal instructions are one instruction, so common subexpressions cost nothing.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

BOOL = np.dtype(bool)

#: Instruction -> number of operands. What each means per target is in `numgrad_kernels.scalar.printer`.
PRIMITIVES = {
    **dict.fromkeys("add sub mul div floordiv mod shl shr ipow".split(), 2),
    **dict.fromkeys("lt le gt ge eq ne and or xor".split(), 2),
    **dict.fromkeys("pow atan2 hypot nextafter fmod copysign complex".split(), 2),
    **dict.fromkeys("neg not cast real imag float_bits bits_float round_f16".split(), 1),
    **dict.fromkeys("sqrt floor ceil trunc rint fabs".split(), 1),
    **dict.fromkeys("exp expm1 exp2 log log1p log2 log10 sin cos tan asin acos atan".split(), 1),
    **dict.fromkeys("sinh cosh tanh asinh acosh atanh erf erfc cbrt lgamma".split(), 1),
    "select": 3,
}

COMPARISONS = frozenset("lt le gt ge eq ne".split())

_RESERVED_NAME = re.compile(r"v\d+|c\d+")


def compute_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype in which values of `dtype` are computed: float32 for float16, otherwise `dtype` itself.

    Examples
    --------
    >>> from numgrad_kernels.scalar.ir import compute_dtype
    >>> compute_dtype("float16"), compute_dtype("int8")
    (dtype('float32'), dtype('int8'))
    """
    dtype = np.dtype(dtype).newbyteorder("=")
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def real_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype of the parts of a complex `dtype`, or `dtype` itself."""
    dtype = np.dtype(dtype)
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


class Value:
    """One scalar of a `Block`: an input, a constant, or the result of an instruction.

    Python's operators on real values write the corresponding instruction; a Python number on either side becomes a
    constant of the value's dtype. ``==`` stays identity (use ``Block.emit("eq", ...)``).
    """

    __slots__ = ("args", "block", "data", "dtype", "index", "op")

    def __init__(self, block: Block, index: int, op: str, dtype: np.dtype[Any], args: tuple[Value, ...], data: Any):
        self.block, self.index, self.op, self.dtype, self.args, self.data = block, index, op, dtype, args, data

    def __repr__(self) -> str:
        operands = ", ".join(f"v{a.index}" for a in self.args) if self.args else repr(self.data)
        return f"v{self.index}: {self.dtype} = {self.op}({operands})"

    def _binary(self, op: str, other: Any, swap: bool = False) -> Value:
        other = other if isinstance(other, Value) else self.block.const(other, self.dtype)
        a, b = (other, self) if swap else (self, other)
        return self.block.emit(op, BOOL if op in COMPARISONS else self.dtype, a, b)

    def __add__(self, other: Any) -> Value:
        return self._binary("add", other)

    def __radd__(self, other: Any) -> Value:
        return self._binary("add", other, swap=True)

    def __sub__(self, other: Any) -> Value:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> Value:
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Any) -> Value:
        return self._binary("mul", other)

    def __rmul__(self, other: Any) -> Value:
        return self._binary("mul", other, swap=True)

    def __truediv__(self, other: Any) -> Value:
        return self._binary("div", other)

    def __rtruediv__(self, other: Any) -> Value:
        return self._binary("div", other, swap=True)

    def __and__(self, other: Any) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Any) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Any) -> Value:
        return self._binary("xor", other)

    def __lt__(self, other: Any) -> Value:
        return self._binary("lt", other)

    def __le__(self, other: Any) -> Value:
        return self._binary("le", other)

    def __gt__(self, other: Any) -> Value:
        return self._binary("gt", other)

    def __ge__(self, other: Any) -> Value:
        return self._binary("ge", other)

    def __neg__(self) -> Value:
        return self.block.emit("neg", self.dtype, self)

    def __invert__(self) -> Value:
        return self.block.emit("not", self.dtype, self)


class Block:
    """A growing list of scalar instructions.

    Examples
    --------
    >>> from numgrad_kernels.scalar.ir import Block
    >>> block = Block()
    >>> x = block.input("x", "float64")
    >>> block.emit("exp", "float64", x) is block.emit("exp", "float64", x)
    True
    >>> (x * 2.0).dtype
    dtype('float64')
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._known: dict[Any, Value] = {}

    def input(self, name: str, dtype: Any) -> Value:
        """Return the value that the kernel holds in the variable `name`; float16 is loaded as float32.

        Raises
        ------
        ValueError
            If `name` could be the name of an instruction (``v`` or ``c`` and digits).
        """
        if _RESERVED_NAME.fullmatch(name):
            raise ValueError(f"the input name {name!r} is reserved for instructions: wanted a name unlike v0 or c0")
        return self._value("input", compute_dtype(dtype), (), name)

    def const(self, value: Any, dtype: Any) -> Value:
        """Return a constant of the compute dtype of `dtype`."""
        dtype = compute_dtype(dtype)
        if dtype.kind == "c":
            part = real_dtype(dtype)
            value = complex(value)
            return self.emit("complex", dtype, self.const(value.real, part), self.const(value.imag, part))
        converters: dict[str, Any] = {"b": bool, "f": float}
        return self._value("const", dtype, (), converters.get(dtype.kind, int)(value))

    def emit(self, op: str, dtype: Any, *args: Value) -> Value:
        """Return the result of instruction `op` on `args`, which has the compute dtype of `dtype`.

        Raises
        ------
        LookupError
            If there is no such instruction.
        TypeError
            If the number of operands is wrong, or operands that must agree in dtype do not.
        """
        if op not in PRIMITIVES:
            raise LookupError(f"no scalar instruction {op!r}; there are {', '.join(sorted(PRIMITIVES))}")
        if len(args) != PRIMITIVES[op]:
            raise TypeError(f"scalar instruction {op!r} got {len(args)} operands, wanted {PRIMITIVES[op]}")
        like = args[1:] if op == "select" else args
        if any(a.dtype != like[0].dtype for a in like):
            raise TypeError(f"scalar instruction {op!r} got operands of dtypes {', '.join(str(a.dtype) for a in like)}")
        dtype = compute_dtype(dtype)
        return self._simplified(op, dtype, args) or self._value(op, dtype, args, None)

    def _simplified(self, op: str, dtype: np.dtype[Any], args: tuple[Value, ...]) -> Value | None:
        """Return an existing value that is bit for bit the same, if one is known."""
        first = args[0]
        if op == "cast" and first.dtype == dtype:
            return first
        if op in ("real", "imag") and first.op == "complex":
            return first.args[op == "imag"]
        if op == "complex" and [a.op for a in args] == ["real", "imag"] and args[0].args == args[1].args:
            return args[0].args[0]
        if op == "not" and first.op == "not":
            return first.args[0]
        if op == "select" and args[1] is args[2]:
            return args[1]
        return None

    def _value(self, op: str, dtype: np.dtype[Any], args: tuple[Value, ...], data: Any) -> Value:
        # repr keeps -0.0 apart from 0.0 and makes one NaN equal to another.
        key = (op, dtype, tuple(a.index for a in args), repr(data))
        value = self._known.get(key)
        if value is None:
            value = self._known[key] = Value(self, len(self.values), op, dtype, args, data)
            self.values.append(value)
        return value

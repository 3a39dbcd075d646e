"""The table of scalar formulas, the handle they are written with, and `apply`, which looks one up and runs it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad_kernels.scalar.ir import BOOL, COMPARISONS, PRIMITIVES, Block, Value, compute_dtype, real_dtype

#: The modules that fill the table, one per family.
FAMILIES = ("arithmetic logic order exponential trigonometric special casts complex complex_inverse").split()

_KIND_NAMES = {
    "e": "float16",
    "b": "bool",
    "i": "signed integers",
    "u": "unsigned integers",
    "f": "floats",
    "c": "complex numbers",
}


class Formula(NamedTuple):
    """One row of the table.

    Parameters
    ----------
    function
        ``f(m, *values, **attrs) -> Value``.
    by
        Which dtype the formula works in: that of the ``"output"``, or the common one of the ``"inputs"``.
    """

    function: Callable[..., Value]
    by: str


_TABLE: dict[tuple[str, str], Formula] = {}


def formula(name: str, kinds: str, by: str = "output") -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Enter a function into the table as the meaning of op `name` for the NumPy dtype kinds in `kinds`."""

    def enter(function: Callable[..., Value]) -> Callable[..., Value]:
        for kind in kinds:
            if (name, kind) in _TABLE:
                raise ValueError(f"scalar formula {name!r} has two meanings for {_KIND_NAMES[kind]}")
            _TABLE[name, kind] = Formula(function, by)
        return function

    return enter


@functools.lru_cache(maxsize=1)
def table() -> Mapping[tuple[str, str], Formula]:
    """Return the table of formulas: (op name, NumPy dtype kind) -> `Formula`.

    Examples
    --------
    >>> from numgrad_kernels.scalar import table
    >>> ("softplus", "f") in table(), ("softplus", "i") in table()
    (True, False)
    """
    for family in FAMILIES:
        importlib.import_module(f"numgrad_kernels.scalar.formulas_{family}")
    return _TABLE


class Maths:
    """The handle that formulas are written with: ``m.exp(x)`` writes an instruction into the block.

    Every name in `numgrad_kernels.scalar.ir.PRIMITIVES` is a method; its result has the dtype of its first operand,
    or bool for a comparison. `dtype` is the dtype the formula works in, `real` that of its parts.
    """

    def __init__(self, block: Block, dtype: Any) -> None:
        self.block = block
        self.dtype = compute_dtype(dtype)
        self.real_dtype = real_dtype(self.dtype)

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name not in PRIMITIVES:
            raise AttributeError(name)

        def write(first: Value, *rest: Any) -> Value:
            others = (v if isinstance(v, Value) else self.block.const(v, first.dtype) for v in rest)
            return self.block.emit(name, BOOL if name in COMPARISONS else first.dtype, first, *others)

        return write

    @property
    def finfo(self) -> np.finfo[Any]:
        """The limits of the floating dtype that the formula works in."""
        return np.finfo(self.real_dtype)

    def const(self, value: Any) -> Value:
        """Return a constant of the (real) dtype that the formula works in."""
        return self.block.const(value, self.real_dtype)

    def where(self, condition: Value, chosen: Any, other: Any) -> Value:
        """Return `chosen` where the condition holds, `other` elsewhere; both are computed."""
        like = chosen if isinstance(chosen, Value) else other
        dtype = like.dtype if isinstance(like, Value) else self.real_dtype
        a, b = (v if isinstance(v, Value) else self.block.const(v, dtype) for v in (chosen, other))
        return self.block.emit("select", dtype, condition, a, b)

    def real(self, z: Value) -> Value:
        """Return the real part of a complex `z`."""
        return self.block.emit("real", real_dtype(z.dtype), z)

    def imag(self, z: Value) -> Value:
        """Return the imaginary part of a complex `z`."""
        return self.block.emit("imag", real_dtype(z.dtype), z)

    def complex(self, re: Value, im: Value) -> Value:
        """Return the complex number with these parts."""
        return self.block.emit("complex", f"c{2 * re.dtype.itemsize}", re, im)

    def cast(self, value: Value, dtype: Any) -> Value:
        """Return a real `value` converted to another real dtype by one conversion instruction."""
        return self.block.emit("cast", dtype, value)

    def float_bits(self, x: Value) -> Value:
        """Return the bits of a float as a signed integer of the same width."""
        return self.block.emit("float_bits", f"i{x.dtype.itemsize}", x)

    def bits_float(self, bits: Value) -> Value:
        """Return the float whose bits are those of a signed integer."""
        return self.block.emit("bits_float", f"f{bits.dtype.itemsize}", bits)

    def isnan(self, x: Value) -> Value:
        """Return whether a real `x` is NaN."""
        return self.ne(x, x)

    def signbit(self, x: Value) -> Value:
        """Return whether the sign bit of a real `x` is set."""
        return self.copysign(self.block.const(1, x.dtype), x) < 0

    def isinf(self, x: Value) -> Value:
        """Return whether a real `x` is an infinity."""
        return self.eq(self.fabs(x), np.inf)

    def isfinite(self, x: Value) -> Value:
        """Return whether a real `x` is neither an infinity nor NaN."""
        return self.fabs(x) < np.inf

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Return the polynomial in `x` with these coefficients, constant term first, by Horner's rule."""
        *rest, last = coefficients
        result: Any = self.const(last)
        for c in reversed(rest):
            result = result * x + c
        return result


def convert(block: Block, value: Value, dtype: Any) -> Value:
    """Return `value` converted as by NumPy's ``astype``, in the compute dtype of `dtype`."""
    dtype = np.dtype(dtype)
    if value.dtype == dtype:
        return value
    found = table()["cast", value.dtype.kind]
    return found.function(Maths(block, value.dtype), value, dtype=dtype)


def apply(
    block: Block, name: str, operands: Sequence[Value], out_dtype: Any, attrs: Mapping[str, Any] | None = None
) -> Value:
    """Write the formula of op `name` on `operands` into `block` and return its result.

    Parameters
    ----------
    block : Block
        The block that the operands belong to.
    name : str
        Name of an elementwise op.
    operands : sequence of Value
        They are converted to the dtype that the formula works in.
    out_dtype : dtype
        The dtype of the op's result; float16 is computed as float32 and rounded when it is stored.
    attrs : mapping, optional
        The op's attributes, such as ``n`` of polygamma and ``dtype`` of cast.

    Raises
    ------
    LookupError
        If the op has no formula for the dtype.

    Examples
    --------
    >>> from numgrad_kernels.scalar import Block, apply
    >>> block = Block()
    >>> x = block.input("x", "float32")
    >>> apply(block, "softplus", [x], "float32").dtype
    dtype('float32')
    """
    rows = table()
    out = np.dtype(out_dtype).newbyteorder("=")
    inputs = [v.dtype for v in operands]
    if name == "where":
        inputs = inputs[1:]
    rule = next((rows[name, kind].by for kind in "fciub" if (name, kind) in rows), None)
    dtype = out if rule == "output" else np.result_type(*inputs)
    # A few ops depend on the spacing of float16 itself, which its compute dtype does not have.
    found = rows.get((name, "e")) if dtype == np.float16 else None
    found = found or rows.get((name, dtype.kind))
    if found is None:
        known = [_KIND_NAMES[kind] for kind in "biufc" if (name, kind) in rows]
        raise LookupError(
            f"no scalar formula for op {name!r} on {dtype.name}: "
            + (f"it is defined for {', '.join(known)}" if known else "no op of that name has a formula")
        )
    maths = Maths(block, dtype)
    work = real_dtype(maths.dtype) if name == "make_complex" else maths.dtype
    arguments = [convert(block, v, BOOL if name == "where" and i == 0 else work) for i, v in enumerate(operands)]
    result = found.function(maths, *arguments, **(attrs or {}))
    return convert(block, result, compute_dtype(out))

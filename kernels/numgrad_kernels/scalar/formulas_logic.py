"""Predicates, logic and bits: ops whose result is bool, and ops on the bits of integers."""

from __future__ import annotations

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.ir import BOOL, Value


def truth(m: Maths, x: Value) -> Value:
    """Return whether `x` is nonzero; NaN is."""
    if x.dtype == BOOL:
        return x
    if x.dtype.kind == "c":
        return m.ne(m.real(x), 0) | m.ne(m.imag(x), 0)
    return m.ne(x, 0)


@formula("logical_and", kinds="biufc", by="inputs")
def logical_and(m: Maths, x: Value, y: Value) -> Value:
    return truth(m, x) & truth(m, y)


@formula("logical_or", kinds="biufc", by="inputs")
def logical_or(m: Maths, x: Value, y: Value) -> Value:
    return truth(m, x) | truth(m, y)


@formula("logical_xor", kinds="biufc", by="inputs")
def logical_xor(m: Maths, x: Value, y: Value) -> Value:
    return truth(m, x) ^ truth(m, y)


@formula("logical_not", kinds="biufc", by="inputs")
def logical_not(m: Maths, x: Value) -> Value:
    return ~truth(m, x)


@formula("bitwise_and", kinds="biu")
def bitwise_and(m: Maths, x: Value, y: Value) -> Value:
    return x & y


@formula("bitwise_or", kinds="biu")
def bitwise_or(m: Maths, x: Value, y: Value) -> Value:
    return x | y


@formula("bitwise_xor", kinds="biu")
def bitwise_xor(m: Maths, x: Value, y: Value) -> Value:
    return x ^ y


@formula("bitwise_invert", kinds="biu")
def bitwise_invert(m: Maths, x: Value) -> Value:
    return ~x


def _shift_fits(m: Maths, y: Value) -> Value:
    """Return whether a shift by `y` leaves any of the bits."""
    bits = 8 * m.dtype.itemsize
    return y < bits if m.dtype.kind == "u" else (y >= 0) & (y < bits)


@formula("bitwise_left_shift", kinds="iu")
def bitwise_left_shift(m: Maths, x: Value, y: Value) -> Value:
    fits = _shift_fits(m, y)
    return m.where(fits, m.shl(x, m.where(fits, y, 0)), 0)


@formula("bitwise_right_shift", kinds="iu")
def bitwise_right_shift(m: Maths, x: Value, y: Value) -> Value:
    if m.dtype.kind == "u":
        fits = _shift_fits(m, y)
        return m.where(fits, m.shr(x, m.where(fits, y, 0)), 0)
    # Past the width only copies of the sign bit remain, which a shift by width - 1 gives too.
    return m.shr(x, m.where(_shift_fits(m, y), y, 8 * m.dtype.itemsize - 1))


@formula("isnan", kinds="f", by="inputs")
def isnan(m: Maths, x: Value) -> Value:
    return m.isnan(x)


@formula("isinf", kinds="f", by="inputs")
def isinf(m: Maths, x: Value) -> Value:
    return m.isinf(x)


@formula("isfinite", kinds="f", by="inputs")
def isfinite(m: Maths, x: Value) -> Value:
    return m.isfinite(x)


@formula("isnan", kinds="biu", by="inputs")
@formula("isinf", kinds="biu", by="inputs")
def never(m: Maths, x: Value) -> Value:
    return m.block.const(False, BOOL)


@formula("isfinite", kinds="biu", by="inputs")
def always(m: Maths, x: Value) -> Value:
    return m.block.const(True, BOOL)


@formula("isnan", kinds="c", by="inputs")
def isnan_complex(m: Maths, z: Value) -> Value:
    return m.isnan(m.real(z)) | m.isnan(m.imag(z))


@formula("isinf", kinds="c", by="inputs")
def isinf_complex(m: Maths, z: Value) -> Value:
    return m.isinf(m.real(z)) | m.isinf(m.imag(z))


@formula("isfinite", kinds="c", by="inputs")
def isfinite_complex(m: Maths, z: Value) -> Value:
    return m.isfinite(m.real(z)) & m.isfinite(m.imag(z))


@formula("signbit", kinds="f", by="inputs")
def signbit(m: Maths, x: Value) -> Value:
    return m.signbit(x)

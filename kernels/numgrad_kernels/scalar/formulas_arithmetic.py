"""Arithmetic on floats and integers as NumPy has it: integers wrap, and dividing an integer by zero gives zero."""

from __future__ import annotations

import numpy as np

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.ir import Value


@formula("add", kinds="iuf")
def add(m: Maths, x: Value, y: Value) -> Value:
    return x + y


@formula("subtract", kinds="iuf")
def subtract(m: Maths, x: Value, y: Value) -> Value:
    return x - y


@formula("multiply", kinds="iuf")
def multiply(m: Maths, x: Value, y: Value) -> Value:
    return x * y


@formula("add", kinds="b")
@formula("maximum", kinds="b")
@formula("fmax", kinds="b")
def either(m: Maths, x: Value, y: Value) -> Value:
    return x | y


@formula("multiply", kinds="b")
@formula("minimum", kinds="b")
@formula("fmin", kinds="b")
def both(m: Maths, x: Value, y: Value) -> Value:
    return x & y


@formula("divide", kinds="f")
def divide(m: Maths, x: Value, y: Value) -> Value:
    return x / y


@formula("divide_no_nan", kinds="f")
def divide_no_nan(m: Maths, x: Value, y: Value) -> Value:
    return m.where(m.eq(y, 0), 0, x / y)


@formula("multiply_no_nan", kinds="f")
def multiply_no_nan(m: Maths, x: Value, y: Value) -> Value:
    return m.where(m.eq(y, 0), 0, x * y)


def _floor_division(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return quotient and remainder of integers as Python has them, 0 where the divisor is 0."""
    # The processor traps on x / 0 and on the least integer / -1, so neither reaches the instruction.
    zero = m.eq(y, 0)
    if m.dtype.kind == "u":
        safe = m.where(zero, 1, y)
        return m.where(zero, 0, m.floordiv(x, safe)), m.where(zero, 0, m.mod(x, safe))
    minus_one = m.eq(y, -1)
    safe = m.where(zero | minus_one, 1, y)
    quotient = m.where(zero, 0, m.where(minus_one, -x, m.floordiv(x, safe)))
    return quotient, m.mod(x, safe)


@formula("floor_divide", kinds="iu")
def floor_divide_integers(m: Maths, x: Value, y: Value) -> Value:
    return _floor_division(m, x, y)[0]


@formula("remainder", kinds="iu")
def remainder_integers(m: Maths, x: Value, y: Value) -> Value:
    return _floor_division(m, x, y)[1]


@formula("fmod", kinds="iu")
def fmod_integers(m: Maths, x: Value, y: Value) -> Value:
    remainder = _floor_division(m, x, y)[1]
    if m.dtype.kind == "u":
        return remainder
    # The remainder has the divisor's sign; fmod has the dividend's.
    return m.where(m.ne(remainder, 0) & ((x < 0) ^ (y < 0)), remainder - y, remainder)


def _float_division(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return quotient and remainder of floats as Python has them, with NumPy's answers for a zero divisor."""
    plain = m.fmod(x, y)
    wrong_sign = m.ne(plain, 0) & ((y < 0) ^ (plain < 0))
    remainder = m.where(wrong_sign, plain + y, m.where(m.eq(plain, 0), m.copysign(m.const(0), y), plain))
    quotient = (x - plain) / y
    quotient = m.where(wrong_sign, quotient - 1, quotient)
    floor = m.floor(quotient)
    floor = m.where(quotient - floor > 0.5, floor + 1, floor)
    floor = m.where(m.eq(quotient, 0), m.copysign(m.const(0), x / y), floor)
    by_zero = m.eq(y, 0)
    return m.where(by_zero, x / y, floor), m.where(by_zero, plain, remainder)


@formula("floor_divide", kinds="f")
def floor_divide(m: Maths, x: Value, y: Value) -> Value:
    return _float_division(m, x, y)[0]


@formula("remainder", kinds="f")
def remainder(m: Maths, x: Value, y: Value) -> Value:
    return _float_division(m, x, y)[1]


@formula("fmod", kinds="f")
def fmod(m: Maths, x: Value, y: Value) -> Value:
    return m.fmod(x, y)


@formula("negative", kinds="if")
def negative(m: Maths, x: Value) -> Value:
    return -x


@formula("negative", kinds="u")
def negative_unsigned(m: Maths, x: Value) -> Value:
    return 0 - x


@formula("positive", kinds="iufc")
@formula("identity", kinds="biufc")
@formula("abs", kinds="bu", by="inputs")
@formula("real", kinds="biuf", by="inputs")
@formula("conj", kinds="biuf")
@formula("floor", kinds="biu")
@formula("ceil", kinds="biu")
@formula("round", kinds="biu")
@formula("trunc", kinds="biu")
def unchanged(m: Maths, x: Value) -> Value:
    return x


@formula("imag", kinds="biuf", by="inputs")
def imag_of_real(m: Maths, x: Value) -> Value:
    return m.block.const(0, x.dtype)


@formula("abs", kinds="i", by="inputs")
def abs_integers(m: Maths, x: Value) -> Value:
    return m.where(x < 0, -x, x)


@formula("abs", kinds="f", by="inputs")
def absolute(m: Maths, x: Value) -> Value:
    return m.fabs(x)


@formula("square", kinds="iuf")
def square(m: Maths, x: Value) -> Value:
    return x * x


@formula("sqrt", kinds="f")
def sqrt(m: Maths, x: Value) -> Value:
    return m.sqrt(x)


@formula("rsqrt", kinds="f")
def rsqrt(m: Maths, x: Value) -> Value:
    return 1 / m.sqrt(x)


@formula("cbrt", kinds="f")
def cbrt(m: Maths, x: Value) -> Value:
    return m.cbrt(x)


@formula("reciprocal", kinds="f")
def reciprocal(m: Maths, x: Value) -> Value:
    return 1 / x


@formula("reciprocal", kinds="iu")
def reciprocal_integers(m: Maths, x: Value) -> Value:
    return m.where(m.eq(x, 1), 1, 0) if m.dtype.kind == "u" else _truncated_reciprocal(m, x)


def _truncated_reciprocal(m: Maths, x: Value) -> Value:
    return m.where(m.eq(x, 1) | m.eq(x, -1), x, 0)


@formula("power", kinds="f")
def power(m: Maths, x: Value, y: Value) -> Value:
    return m.pow(x, y)


@formula("power", kinds="u")
def power_unsigned(m: Maths, x: Value, y: Value) -> Value:
    return m.ipow(x, y)


@formula("power", kinds="i")
def power_integers(m: Maths, x: Value, y: Value) -> Value:
    # NumPy refuses negative exponents; here they give the reciprocal, truncated.
    negative = y < 0
    powered = m.ipow(x, m.where(negative, -y, y))
    return m.where(negative, _truncated_reciprocal(m, powered), powered)


@formula("floor", kinds="f")
def floor(m: Maths, x: Value) -> Value:
    return m.floor(x)


@formula("ceil", kinds="f")
def ceil(m: Maths, x: Value) -> Value:
    return m.ceil(x)


@formula("round", kinds="f")
def round_half_even(m: Maths, x: Value) -> Value:
    return m.rint(x)


@formula("trunc", kinds="f")
def trunc(m: Maths, x: Value) -> Value:
    return m.trunc(x)


@formula("copysign", kinds="f")
def copysign(m: Maths, x: Value, y: Value) -> Value:
    return m.copysign(x, y)


@formula("nextafter", kinds="f")
def nextafter(m: Maths, x: Value, y: Value) -> Value:
    return m.nextafter(x, y)


@formula("nextafter", kinds="e")
def nextafter_half(m: Maths, x: Value, y: Value) -> Value:
    # In float32 a step of float16 is 2 ** 13 units in the last place, and below 2 ** -14 it is always 2 ** -24.
    outward = m.eq(x, 0) | ((y > x) ^ (x < 0))
    bits = m.float_bits(m.fabs(x))
    size = m.bits_float(m.where(outward, bits + 2**13, bits - 2**13))
    subnormal = (m.fabs(x) < 2.0**-14) | (m.eq(m.fabs(x), 2.0**-14) & ~outward)
    size = m.where(subnormal, m.where(outward, m.fabs(x) + 2.0**-24, m.fabs(x) - 2.0**-24), size)
    size = m.where(m.eq(m.fabs(x), np.inf), m.const(65504), m.where(size > 65504, m.const(np.inf), size))
    signed = m.copysign(size, m.where(m.eq(x, 0), y, x))
    return m.where(m.isnan(x) | m.isnan(y), np.nan, m.where(m.eq(x, y), x, signed))


@formula("angle", kinds="f", by="inputs")
def angle_of_real(m: Maths, x: Value) -> Value:
    return m.where(m.isnan(x), x, m.where(m.signbit(x), np.pi, 0))

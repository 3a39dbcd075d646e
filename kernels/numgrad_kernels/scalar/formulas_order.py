"""Comparison, choice and sign; complex numbers are ordered by real part, then by imaginary part, as in NumPy."""

from __future__ import annotations

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.ir import Value


@formula("equal", kinds="biuf", by="inputs")
def equal(m: Maths, x: Value, y: Value) -> Value:
    return m.eq(x, y)


@formula("not_equal", kinds="biuf", by="inputs")
def not_equal(m: Maths, x: Value, y: Value) -> Value:
    return m.ne(x, y)


@formula("equal", kinds="c", by="inputs")
def equal_complex(m: Maths, x: Value, y: Value) -> Value:
    return m.eq(m.real(x), m.real(y)) & m.eq(m.imag(x), m.imag(y))


@formula("not_equal", kinds="c", by="inputs")
def not_equal_complex(m: Maths, x: Value, y: Value) -> Value:
    return ~equal_complex(m, x, y)


@formula("less", kinds="iuf", by="inputs")
def less(m: Maths, x: Value, y: Value) -> Value:
    return x < y


@formula("less", kinds="b", by="inputs")
def less_bool(m: Maths, x: Value, y: Value) -> Value:
    return ~x & y


@formula("less_equal", kinds="iuf", by="inputs")
def less_equal(m: Maths, x: Value, y: Value) -> Value:
    return x <= y


@formula("less_equal", kinds="b", by="inputs")
def less_equal_bool(m: Maths, x: Value, y: Value) -> Value:
    return ~x | y


def _complex_order(m: Maths, x: Value, y: Value, or_equal: bool) -> Value:
    # NumPy's rule in the real part asks that the imaginary parts are numbers.
    numbers = ~(m.isnan(m.imag(x)) | m.isnan(m.imag(y)))
    tie = m.imag(x) <= m.imag(y) if or_equal else m.imag(x) < m.imag(y)
    return ((m.real(x) < m.real(y)) & numbers) | (m.eq(m.real(x), m.real(y)) & tie)


@formula("less", kinds="c", by="inputs")
def less_complex(m: Maths, x: Value, y: Value) -> Value:
    return _complex_order(m, x, y, or_equal=False)


@formula("less_equal", kinds="c", by="inputs")
def less_equal_complex(m: Maths, x: Value, y: Value) -> Value:
    return _complex_order(m, x, y, or_equal=True)


@formula("greater", kinds="iuf", by="inputs")
def greater(m: Maths, x: Value, y: Value) -> Value:
    return x > y


@formula("greater", kinds="b", by="inputs")
def greater_bool(m: Maths, x: Value, y: Value) -> Value:
    return less_bool(m, y, x)


@formula("greater", kinds="c", by="inputs")
def greater_complex(m: Maths, x: Value, y: Value) -> Value:
    return less_complex(m, y, x)


@formula("greater_equal", kinds="iuf", by="inputs")
def greater_equal(m: Maths, x: Value, y: Value) -> Value:
    return x >= y


@formula("greater_equal", kinds="b", by="inputs")
def greater_equal_bool(m: Maths, x: Value, y: Value) -> Value:
    return less_equal_bool(m, y, x)


@formula("greater_equal", kinds="c", by="inputs")
def greater_equal_complex(m: Maths, x: Value, y: Value) -> Value:
    return less_equal_complex(m, y, x)


@formula("where", kinds="biuf")
def where(m: Maths, condition: Value, x: Value, y: Value) -> Value:
    return m.where(condition, x, y)


@formula("where", kinds="c")
def where_complex(m: Maths, condition: Value, x: Value, y: Value) -> Value:
    return m.complex(m.where(condition, m.real(x), m.real(y)), m.where(condition, m.imag(x), m.imag(y)))


@formula("maximum", kinds="iu")
@formula("fmax", kinds="iu")
def maximum_integers(m: Maths, x: Value, y: Value) -> Value:
    return m.where(x >= y, x, y)


@formula("minimum", kinds="iu")
@formula("fmin", kinds="iu")
def minimum_integers(m: Maths, x: Value, y: Value) -> Value:
    return m.where(x <= y, x, y)


@formula("maximum", kinds="f")
def maximum(m: Maths, x: Value, y: Value) -> Value:
    return m.where((x >= y) | m.isnan(x), x, y)


@formula("minimum", kinds="f")
def minimum(m: Maths, x: Value, y: Value) -> Value:
    return m.where((x <= y) | m.isnan(x), x, y)


@formula("fmax", kinds="f")
def fmax(m: Maths, x: Value, y: Value) -> Value:
    return m.where((x >= y) | m.isnan(y), x, y)


@formula("fmin", kinds="f")
def fmin(m: Maths, x: Value, y: Value) -> Value:
    return m.where((x <= y) | m.isnan(y), x, y)


def _has_nan(m: Maths, z: Value) -> Value:
    return m.isnan(m.real(z)) | m.isnan(m.imag(z))


@formula("maximum", kinds="c")
def maximum_complex(m: Maths, x: Value, y: Value) -> Value:
    return where_complex(m, greater_equal_complex(m, x, y) | _has_nan(m, x), x, y)


@formula("minimum", kinds="c")
def minimum_complex(m: Maths, x: Value, y: Value) -> Value:
    return where_complex(m, less_equal_complex(m, x, y) | _has_nan(m, x), x, y)


@formula("fmax", kinds="c")
def fmax_complex(m: Maths, x: Value, y: Value) -> Value:
    return where_complex(m, greater_equal_complex(m, x, y) | _has_nan(m, y), x, y)


@formula("fmin", kinds="c")
def fmin_complex(m: Maths, x: Value, y: Value) -> Value:
    return where_complex(m, less_equal_complex(m, x, y) | _has_nan(m, y), x, y)


@formula("clip", kinds="biu")
def clip_integers(m: Maths, x: Value, low: Value, high: Value) -> Value:
    if m.dtype.kind == "b":
        return (x | low) & high
    return minimum_integers(m, maximum_integers(m, x, low), high)


@formula("clip", kinds="f")
def clip(m: Maths, x: Value, low: Value, high: Value) -> Value:
    return minimum(m, maximum(m, x, low), high)


@formula("clip", kinds="c")
def clip_complex(m: Maths, x: Value, low: Value, high: Value) -> Value:
    return minimum_complex(m, maximum_complex(m, x, low), high)


@formula("sign", kinds="f")
def sign(m: Maths, x: Value) -> Value:
    return m.where(x > 0, 1, m.where(x < 0, -1, m.where(m.eq(x, 0), 0, x)))


@formula("sign", kinds="i")
def sign_integers(m: Maths, x: Value) -> Value:
    one, zero = m.block.const(1, x.dtype), m.block.const(0, x.dtype)
    return m.where(x > 0, one, m.where(x < 0, m.block.const(-1, x.dtype), zero))


@formula("sign", kinds="u")
def sign_unsigned(m: Maths, x: Value) -> Value:
    return m.where(x > 0, m.block.const(1, x.dtype), m.block.const(0, x.dtype))


@formula("heaviside", kinds="f")
def heaviside(m: Maths, x: Value, at_zero: Value) -> Value:
    return m.where(m.isnan(x), x, m.where(m.eq(x, 0), at_zero, m.where(x > 0, m.const(1), m.const(0))))

"""Arithmetic and elementary functions of complex numbers, written in their real and imaginary parts, without branches.

Infinities, NaN and signed zeros follow annex G of the C standard, as NumPy does. Products with an exact zero factor are
kept zero (`_product`), or ``0 * inf`` would make a NaN of a part that is zero on a whole axis.
"""

from __future__ import annotations

import math

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.formulas_order import where_complex
from numgrad_kernels.scalar.ir import Value


def parts(m: Maths, z: Value) -> tuple[Value, Value]:
    """Return the real and imaginary part of `z`."""
    return m.real(z), m.imag(z)


def _product(m: Maths, zero: Value, factor: Value) -> Value:
    """Return ``zero * factor``, and the zero with its sign where `zero` is 0 although `factor` may be infinite."""
    signed_zero = m.copysign(m.const(1), factor) * zero
    return m.where(m.eq(zero, 0) & ~m.isfinite(factor), signed_zero, zero * factor)


@formula("make_complex", kinds="c")
def make_complex(m: Maths, re: Value, im: Value) -> Value:
    return m.complex(re, im)


@formula("real", kinds="c", by="inputs")
def real(m: Maths, z: Value) -> Value:
    return m.real(z)


@formula("imag", kinds="c", by="inputs")
def imag(m: Maths, z: Value) -> Value:
    return m.imag(z)


@formula("conj", kinds="c")
def conj(m: Maths, z: Value) -> Value:
    return m.complex(m.real(z), -m.imag(z))


@formula("abs", kinds="c", by="inputs")
def absolute(m: Maths, z: Value) -> Value:
    return m.hypot(*parts(m, z))


@formula("angle", kinds="c", by="inputs")
def angle(m: Maths, z: Value) -> Value:
    return m.atan2(m.imag(z), m.real(z))


@formula("add", kinds="c")
def add(m: Maths, a: Value, b: Value) -> Value:
    return m.complex(m.real(a) + m.real(b), m.imag(a) + m.imag(b))


@formula("subtract", kinds="c")
def subtract(m: Maths, a: Value, b: Value) -> Value:
    return m.complex(m.real(a) - m.real(b), m.imag(a) - m.imag(b))


@formula("negative", kinds="c")
def negative(m: Maths, z: Value) -> Value:
    return m.complex(-m.real(z), -m.imag(z))


@formula("multiply", kinds="c")
def multiply(m: Maths, a: Value, b: Value) -> Value:
    (ar, ai), (br, bi) = parts(m, a), parts(m, b)
    return m.complex(ar * br - ai * bi, ar * bi + ai * br)


@formula("square", kinds="c")
def square(m: Maths, z: Value) -> Value:
    return multiply(m, z, z)


@formula("divide", kinds="c")
def divide(m: Maths, a: Value, b: Value) -> Value:
    # Smith's method: dividing by the larger part of the divisor first cannot overflow.
    (ar, ai), (br, bi) = parts(m, a), parts(m, b)
    real_is_larger = m.fabs(br) >= m.fabs(bi)
    large, small = m.where(real_is_larger, br, bi), m.where(real_is_larger, bi, br)
    ratio = small / large
    scale = 1 / (large + small * ratio)
    re = m.where(real_is_larger, ar + ai * ratio, ar * ratio + ai) * scale
    im = m.where(real_is_larger, ai - ar * ratio, ai * ratio - ar) * scale
    by_zero = m.eq(large, 0)
    zero = m.fabs(br)
    return m.complex(m.where(by_zero, ar / zero, re), m.where(by_zero, ai / zero, im))


@formula("reciprocal", kinds="c")
def reciprocal(m: Maths, z: Value) -> Value:
    re, im = parts(m, z)
    real_is_larger = m.fabs(re) >= m.fabs(im)
    large, small = m.where(real_is_larger, re, im), m.where(real_is_larger, im, re)
    ratio = small / large
    scale = large + small * ratio
    return m.complex(
        m.where(real_is_larger, m.const(1), ratio) / scale, m.where(real_is_larger, -ratio, m.const(-1)) / scale
    )


@formula("divide_no_nan", kinds="c")
def divide_no_nan(m: Maths, a: Value, b: Value) -> Value:
    return _zero_where_zero(m, b, divide(m, a, b))


@formula("multiply_no_nan", kinds="c")
def multiply_no_nan(m: Maths, a: Value, b: Value) -> Value:
    return _zero_where_zero(m, b, multiply(m, a, b))


def _zero_where_zero(m: Maths, b: Value, value: Value) -> Value:
    zero = m.eq(m.real(b), 0) & m.eq(m.imag(b), 0)
    return where_complex(m, zero, m.complex(m.const(0), m.const(0)), value)


@formula("round", kinds="c")
def round_half_even(m: Maths, z: Value) -> Value:
    return m.complex(m.rint(m.real(z)), m.rint(m.imag(z)))


@formula("sign", kinds="c")
def sign(m: Maths, z: Value) -> Value:
    re, im = parts(m, z)
    size = m.hypot(re, im)
    zero, one = m.const(0), m.const(1)

    def direction(part: Value) -> Value:
        # At infinity along one axis the direction is that axis; along both it is unknown.
        along = m.where(m.isinf(part), m.copysign(one, part), zero)
        along = m.where(m.isinf(re) & m.isinf(im), m.const(math.nan), along)
        return m.where(m.eq(size, 0), zero, m.where(m.isinf(size), along, part / size))

    return m.complex(m.where(m.isnan(size), size, direction(re)), m.where(m.isnan(size), size, direction(im)))


def _scaled_exp(m: Maths, x: Value) -> tuple[Value, Value]:
    """Return two factors of exp(x), neither of which overflows while the parts of exp(x + iy) may still be finite."""
    step = 2.0 ** math.floor(math.log2(math.log(float(m.finfo.max))) - 0.2)
    large = x > math.log(float(m.finfo.max)) - 1
    return m.exp(m.where(large, x - step, x)), m.where(large, m.const(math.exp(step)), m.const(1))


@formula("exp", kinds="c")
def exp(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    size, scale = _scaled_exp(m, x)
    re, im = size * m.cos(y) * scale, size * m.sin(y) * scale
    re = m.where(m.isfinite(y) | m.isnan(x), re, m.where(m.isinf(x), m.where(x > 0, x, m.const(0)), re))
    im = m.where(m.eq(y, 0), y, m.where(m.eq(x, -math.inf) & ~m.isfinite(y), 0, im))
    return m.complex(re, im)


@formula("exp2", kinds="c")
def exp2(m: Maths, z: Value) -> Value:
    ln2 = math.log(2)
    return exp(m, m.complex(m.real(z) * ln2, m.imag(z) * ln2))


@formula("expm1", kinds="c")
def expm1(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    half = m.sin(y * 0.5)
    return m.complex(m.expm1(x) * m.cos(y) - 2 * half * half, m.where(m.eq(y, 0), y, m.exp(x) * m.sin(y)))


def log_abs(m: Maths, x: Value, y: Value) -> Value:
    """Return log |x + iy| without overflow, and without cancellation near the unit circle."""
    a, b = m.fabs(x), m.fabs(y)
    large, small = m.where(a >= b, a, b), m.where(a >= b, b, a)
    huge, tiny = large > float(m.finfo.max) / 4, large < float(m.finfo.smallest_normal) * 2.0**60
    up = 2.0 ** (m.finfo.nmant + 1)
    scale = m.where(huge, m.const(0.25), m.where(tiny, m.const(up), m.const(1)))
    shift = m.where(huge, m.const(math.log(4)), m.where(tiny, m.const(-math.log(up)), m.const(0)))
    far = m.log(m.hypot(x * scale, y * scale)) + shift
    near = 0.5 * m.log1p((large - 1) * (large + 1) + small * small)
    return m.where((large > 0.5) & (large < 2), near, far)


@formula("log", kinds="c")
def log(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    return m.complex(log_abs(m, x, y), m.atan2(y, x))


@formula("log1p", kinds="c")
def log1p(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    near = 0.5 * m.log1p(x * (2 + x) + y * y)
    re = m.where((m.fabs(x) < 0.5) & (m.fabs(y) < 0.5), near, log_abs(m, x + 1, y))
    return m.complex(re, m.atan2(y, x + 1))


@formula("log2", kinds="c")
def log2(m: Maths, z: Value) -> Value:
    return _scaled_log(m, z, 1 / math.log(2))


@formula("log10", kinds="c")
def log10(m: Maths, z: Value) -> Value:
    return _scaled_log(m, z, 1 / math.log(10))


def _scaled_log(m: Maths, z: Value, factor: float) -> Value:
    w = log(m, z)
    return m.complex(m.real(w) * factor, m.imag(w) * factor)


def sqrt_parts(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return the parts of the principal square root of x + iy."""
    large = m.where(m.fabs(x) >= m.fabs(y), m.fabs(x), m.fabs(y))
    huge, tiny = large > float(m.finfo.max) / 4, large < float(m.finfo.smallest_normal) * 4
    even_up = 2.0 ** (2 * m.finfo.nmant)
    scale = m.where(huge, m.const(0.25), m.where(tiny, m.const(even_up), m.const(1)))
    unscale = m.where(huge, m.const(2), m.where(tiny, m.const(even_up**-0.5), m.const(1)))
    xs, ys = x * scale, y * scale
    root = m.sqrt(0.5 * (m.fabs(xs) + m.hypot(xs, ys)))
    other = 0.5 * ys / root
    right = x >= 0
    re, im = m.where(right, root, m.fabs(other)) * unscale, m.where(right, other, m.copysign(root, y)) * unscale
    zero = m.eq(x, 0) & m.eq(y, 0)
    re, im = m.where(zero, 0, re), m.where(zero, y, im)
    # On the infinite parts of the real axis, unless the imaginary part is infinite too.
    at_left, at_right = m.eq(x, -math.inf), m.eq(x, math.inf)
    re = m.where(at_left, m.where(m.isnan(y), y, m.const(0)), m.where(at_right, x, re))
    im = m.where(at_left, m.copysign(m.const(math.inf), y), im)
    im = m.where(at_right, m.where(m.isnan(y), y, m.copysign(m.const(0), y)), im)
    above = m.isinf(y)
    return m.where(above, math.inf, re), m.where(above, y, im)


@formula("sqrt", kinds="c")
def sqrt(m: Maths, z: Value) -> Value:
    return m.complex(*sqrt_parts(m, *parts(m, z)))


@formula("rsqrt", kinds="c")
def rsqrt(m: Maths, z: Value) -> Value:
    return divide(m, m.complex(m.const(1), m.const(0)), sqrt(m, z))


@formula("power", kinds="c")
def power(m: Maths, a: Value, b: Value) -> Value:
    (ar, ai), (br, bi) = parts(m, a), parts(m, b)
    theta = m.atan2(ai, ar)
    size = m.pow(m.hypot(ar, ai), br) * m.exp(-bi * theta)
    turn = bi * log_abs(m, ar, ai) + br * theta
    zero_base, zero_exponent = m.eq(ar, 0) & m.eq(ai, 0), m.eq(br, 0) & m.eq(bi, 0)
    # 0 ** b is 0 where the real part of b is positive, undefined elsewhere; anything ** 0 is 1.
    at_zero = m.where(br > 0, m.const(0), m.const(math.nan))
    re = m.where(zero_exponent, 1, m.where(zero_base, at_zero, size * m.cos(turn)))
    im = m.where(zero_exponent, 0, m.where(zero_base, at_zero, size * m.sin(turn)))
    return m.complex(re, im)


def _unknown_turn(m: Maths, x: Value, y: Value) -> Value:
    """Return whether exp(x + iy) is infinite in an unknown direction."""
    return m.isinf(x) & ~m.isfinite(y)


def sinh_parts(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return the parts of sinh(x + iy)."""
    sine = m.where(m.eq(y, 0), y, m.sin(y))
    re = _product(m, m.sinh(x), m.cos(y))
    return m.where(_unknown_turn(m, x, y), x, re), _product(m, sine, m.cosh(x))


def cosh_parts(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return the parts of cosh(x + iy)."""
    sine, sinh = m.where(m.eq(y, 0), y, m.sin(y)), m.sinh(x)
    im = m.where(m.eq(y, 0), _product(m, sine, sinh), _product(m, sinh, sine))
    return m.where(_unknown_turn(m, x, y), m.fabs(x), m.cosh(x) * m.cos(y)), im


def tanh_parts(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return the parts of tanh(x + iy), by Kahan's formula, and far from the imaginary axis by its limit."""
    t, s = m.where(m.eq(y, 0), y, m.tan(y)), m.sinh(x)
    beta = 1 + t * t
    rho = m.sqrt(1 + s * s)
    below = 1 + beta * s * s
    steep = m.isinf(t)
    re, im = m.where(steep, rho / s, beta * rho * s / below), m.where(steep, 1 / t, t / below)
    far = m.fabs(x) > 0.25 * math.log(float(m.finfo.max))
    decay = m.exp(-m.fabs(x))
    limit = m.where(m.isfinite(y), 4 * m.sin(y) * m.cos(y) * decay * decay, m.copysign(m.const(0), y))
    unknown = m.isfinite(x) & ~m.isfinite(y)
    edge = m.where(unknown, math.nan, m.copysign(m.const(1), x))
    limit = m.where(unknown, math.nan, limit)
    re = m.where(m.eq(x, 0), x, m.where(far, edge, re))
    return re, m.where(m.eq(y, 0), y, m.where(far, limit, im))


@formula("sinh", kinds="c")
def sinh(m: Maths, z: Value) -> Value:
    return m.complex(*sinh_parts(m, *parts(m, z)))


@formula("cosh", kinds="c")
def cosh(m: Maths, z: Value) -> Value:
    return m.complex(*cosh_parts(m, *parts(m, z)))


@formula("tanh", kinds="c")
def tanh(m: Maths, z: Value) -> Value:
    return m.complex(*tanh_parts(m, *parts(m, z)))


@formula("sin", kinds="c")
def sin(m: Maths, z: Value) -> Value:
    # sin z = -i sinh(iz)
    re, im = sinh_parts(m, -m.imag(z), m.real(z))
    return m.complex(im, -re)


@formula("cos", kinds="c")
def cos(m: Maths, z: Value) -> Value:
    return m.complex(*cosh_parts(m, -m.imag(z), m.real(z)))


@formula("tan", kinds="c")
def tan(m: Maths, z: Value) -> Value:
    re, im = tanh_parts(m, -m.imag(z), m.real(z))
    return m.complex(im, -re)

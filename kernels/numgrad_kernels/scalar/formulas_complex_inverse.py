"""Inverse trigonometric and hyperbolic functions of complex numbers.

The formulas are Kahan's ("Branch cuts for complex elementary functions, or much ado about nothing's sign bit", 1987):
each part is a real function of square roots of 1 + z and 1 - z, so that branch cuts follow the sign of zero.
"""

from __future__ import annotations

import math

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.formulas_complex import parts, sqrt_parts
from numgrad_kernels.scalar.ir import Value


def _asin_parts(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    pr, pi = sqrt_parts(m, 1 + x, y)
    mr, mi = sqrt_parts(m, 1 - x, -y)
    re, im = m.atan2(x, mr * pr - mi * pi), m.asinh(mr * pi - mi * pr)
    infinite = m.isinf(x) | m.isinf(y)
    re = m.where(infinite, m.atan2(x, m.fabs(y)), m.where(m.eq(x, 0), x, re))
    return re, m.where(infinite, m.copysign(m.const(math.inf), y), im)


@formula("asin", kinds="c")
def asin(m: Maths, z: Value) -> Value:
    return m.complex(*_asin_parts(m, *parts(m, z)))


@formula("asinh", kinds="c")
def asinh(m: Maths, z: Value) -> Value:
    # asinh z = -i asin(iz)
    re, im = _asin_parts(m, -m.imag(z), m.real(z))
    return m.complex(im, -re)


@formula("acos", kinds="c")
def acos(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    pr, pi = sqrt_parts(m, 1 + x, y)
    mr, mi = sqrt_parts(m, 1 - x, -y)
    infinite = m.isinf(x) | m.isinf(y)
    re = m.where(infinite, m.atan2(m.fabs(y), x), m.where(m.eq(x, 0), math.pi / 2, 2 * m.atan2(mr, pr)))
    return m.complex(re, m.where(infinite, m.copysign(m.const(math.inf), -y), m.asinh(pr * mi - pi * mr)))


@formula("acosh", kinds="c")
def acosh(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    pr, pi = sqrt_parts(m, x + 1, y)
    mr, mi = sqrt_parts(m, x - 1, y)
    infinite = m.isinf(x) | m.isinf(y)
    re = m.where(infinite, math.inf, m.asinh(mr * pr + mi * pi))
    im = m.where(m.eq(x, 0), m.copysign(m.const(math.pi / 2), y), 2 * m.atan2(mi, pr))
    return m.complex(re, m.where(infinite, m.atan2(y, x), im))


def _atanh_parts(m: Maths, x: Value, y: Value) -> tuple[Value, Value]:
    """Return the parts of atanh(x + iy) for x >= 0; on the left the real part's formula would cancel."""
    below = 1 - x
    re = 0.25 * m.log1p(4 * x / (below * below + y * y))
    im = 0.5 * m.atan2(2 * y, below * (1 + x) - y * y)
    size = m.hypot(x, y)
    # The squares overflow far out, where atanh z is 1 / z and a quarter turn.
    far = size > math.sqrt(float(m.finfo.max)) / 4
    inverse = m.where(m.isinf(size), 0, x / size / size)
    quarter = m.where(m.isnan(y), y, m.copysign(m.const(math.pi / 2), y))
    return m.where(m.eq(x, 0), x, m.where(far, inverse, re)), m.where(far, quarter, im)


@formula("atanh", kinds="c")
def atanh(m: Maths, z: Value) -> Value:
    x, y = parts(m, z)
    re, im = _atanh_parts(m, m.fabs(x), y)
    return m.complex(m.copysign(re, x), im)


@formula("atan", kinds="c")
def atan(m: Maths, z: Value) -> Value:
    # atan z = -i atanh(iz)
    x, y = -m.imag(z), m.real(z)
    re, im = _atanh_parts(m, m.fabs(x), y)
    return m.complex(im, -m.copysign(re, x))

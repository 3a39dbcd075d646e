"""Error functions, log-gamma and its derivatives, for real numbers."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.ir import Value


@formula("erf", kinds="f")
def erf(m: Maths, x: Value) -> Value:
    return m.erf(x)


@formula("erfc", kinds="f")
def erfc(m: Maths, x: Value) -> Value:
    return m.erfc(x)


@formula("lgamma", kinds="f")
def lgamma(m: Maths, x: Value) -> Value:
    # C's answer at -inf is inf; SciPy's, which is the meaning of the op, is -inf.
    return m.where(m.eq(x, -math.inf), x, m.lgamma(x))


# With w = -log(1 - x * x): erfinv(x) / x as a polynomial in w - 2.5 for w < 5, and erfinv(|x|) as one in
# sqrt(w) - 4.178 for w < 37.5. Fitted for least relative error at Chebyshev points, which is 7e-7.
_ERFINV_CENTRE = (
    1.501409096, 0.2466411418, -0.004176007913, -0.001254237425,
    0.000217226706, -4.227605442e-06, -3.174073359e-06, 3.282833982e-07,
)  # fmt: skip
_ERFINV_TAIL = (
    4.019543858, 1.009860759, 0.0008443022337, -0.0006527992124,
    0.0002336491116, -7.568477413e-05, 1.635067579e-05, -1.073148273e-06,
)  # fmt: skip
_ERFINV_TAIL_MIDDLE = 4.178033988749895


@formula("erfinv", kinds="f")
def erfinv(m: Maths, x: Value) -> Value:
    size = m.fabs(x)
    rest = 1 - size
    w = -m.log(rest * (1 + size))
    guess = m.polynomial(w - 2.5, _ERFINV_CENTRE) * size
    guess = m.where(w < 5, guess, m.polynomial(m.sqrt(w) - _ERFINV_TAIL_MIDDLE, _ERFINV_TAIL))
    # One step of Halley's method cubes the error. Near 1 the residual is taken from erfc, where nothing cancels.
    residual = m.where(size < 0.5, m.erf(guess) - size, rest - m.erfc(guess))
    newton = residual * m.exp(guess * guess) * (0.5 * math.sqrt(math.pi))
    root = guess - newton / (1 + guess * newton)
    return m.copysign(m.where(m.eq(size, 1), math.inf, root), x)


@functools.lru_cache(maxsize=1)
def _bernoulli_numbers() -> list[Fraction]:
    """Return B0, B2, B4, ..., B24."""
    numbers = [Fraction(1)]
    for n in range(1, 25):
        numbers.append(-sum((math.comb(n + 1, k) * numbers[k] for k in range(n)), Fraction(0)) / (n + 1))
    return numbers[::2]


def _cotangent(m: Maths, x: Value) -> tuple[Value, Value]:
    """Return whether x is an integer, and cot(pi x), accurate near the zeros at half integers too."""
    turn = x - m.rint(x)
    size = m.fabs(turn)
    steep = size < 0.25
    tangent = m.tan(math.pi * m.where(steep, size, 0.5 - size))
    return m.eq(turn, 0), m.copysign(m.where(steep, 1 / tangent, tangent), turn)


_DIGAMMA_SHIFT = 10


@formula("digamma", kinds="f")
def digamma(m: Maths, x: Value) -> Value:
    left = x < 0.5
    z = m.where(left, 1 - x, x)
    # psi(z) = psi(z + 10) - sum of 1 / (z + k): the ten terms in five pairs, (z + k) and (z + 9 - k).
    u = z * (z + 9)
    pairs = sum((1 / (u + k * (9 - k)) for k in range(1, 5)), 1 / u)
    small = z < _DIGAMMA_SHIFT
    shift = m.where(small, (2 * z + 9) * pairs, 0)
    z = m.where(small, z + _DIGAMMA_SHIFT, z)
    # psi(z) = log z - 1/2z - sum of B2k / 2k z^2k.
    inverse = 1 / z
    series = [0.0] + [float(b / (2 * k)) for k, b in enumerate(_bernoulli_numbers()[:9]) if k]
    right_value = m.log(z) - 0.5 * inverse - m.polynomial(inverse * inverse, series) - shift
    # psi(x) = psi(1 - x) - pi cot(pi x)
    is_pole, cotangent = _cotangent(m, x)
    reflected = right_value - math.pi * cotangent
    pole = m.where(m.eq(x, 0), m.copysign(m.const(math.inf), -x), math.nan)
    result = m.where(left, m.where(is_pole | m.isinf(x), pole, reflected), right_value)
    return m.where(m.isnan(x), x, result)


@functools.lru_cache(maxsize=64)
def _cotangent_derivative(n: int) -> tuple[int, ...]:
    """Return the polynomial p with ``d^n/dt^n cot t = p(cot t)``, constant term first."""
    p = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [-(a + b) for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return tuple(p)


@functools.lru_cache(maxsize=64)
def _polygamma_plan(n: int) -> tuple[int, tuple[float, ...]]:
    """Return how far to shift, and the coefficients of z^-2k in the asymptotic series times z^n / (n-1)!."""
    terms = [Fraction(1)]
    for k, b in enumerate(_bernoulli_numbers()[1:], start=1):
        terms.append(b * math.factorial(2 * k + n - 1) / (math.factorial(2 * k) * math.factorial(n - 1)))
    shift = 8
    while abs(terms[-1]) / shift ** (2 * (len(terms) - 1)) > 1e-17:
        shift += 1
    return shift, tuple(float(t) for t in terms)


@formula("polygamma", kinds="f")
def polygamma(m: Maths, x: Value, n: int = 0) -> Value:
    if n < 0 or n != int(n):
        raise ValueError(f"polygamma got order n={n}: wanted an integer of at least 0")
    if n == 0:
        return digamma(m, x)
    sign = 1.0 if n % 2 else -1.0
    factorial = float(math.factorial(n))
    shift, series = _polygamma_plan(n)
    left = x < 0.5
    start = m.where(left, 1 - x, x)
    # With z > 0: psi_n(z) = psi_n(z + N) + sign n! sum of (z + k)^-(n + 1), and an asymptotic series for the first.
    small = start < shift
    terms = [_inverse_power(m, start + k, n + 1) for k in range(shift)]
    ahead = m.where(small, sum(terms[1:], terms[0]) * factorial, 0)
    inverse = 1 / m.where(small, start + shift, start)
    tail = m.polynomial(inverse * inverse, series) * float(math.factorial(n - 1)) + inverse * (0.5 * factorial)
    right_value = (tail * _power(inverse, n) + ahead) * sign
    # (-1)^n psi_n(1 - x) - psi_n(x) = pi d^n/dx^n cot(pi x)
    is_pole, cotangent = _cotangent(m, x)
    bend = m.polynomial(cotangent, [float(c) for c in _cotangent_derivative(n)]) * math.pi ** (n + 1)
    reflected = right_value * -sign - bend
    result = m.where(left, m.where(is_pole, sign * math.inf, reflected), right_value)
    return m.where(m.isnan(x) | m.eq(x, -math.inf), math.nan, result)


def _power(x: Value, n: int) -> Value:
    """Return x ** n for n >= 1 by repeated squaring."""
    if n == 1:
        return x
    half = _power(x, n // 2)
    return half * half * x if n % 2 else half * half


def _inverse_power(m: Maths, x: Value, n: int) -> Value:
    return 1 / _power(x, n)

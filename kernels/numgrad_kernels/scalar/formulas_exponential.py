"""Exponentials, logarithms and the stable functions made of them."""

from __future__ import annotations

import math

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.formulas_order import maximum
from numgrad_kernels.scalar.ir import Value


@formula("exp", kinds="f")
def exp(m: Maths, x: Value) -> Value:
    return m.exp(x)


@formula("expm1", kinds="f")
def expm1(m: Maths, x: Value) -> Value:
    return m.expm1(x)


@formula("exp2", kinds="f")
def exp2(m: Maths, x: Value) -> Value:
    return m.exp2(x)


@formula("log", kinds="f")
def log(m: Maths, x: Value) -> Value:
    return m.log(x)


@formula("log1p", kinds="f")
def log1p(m: Maths, x: Value) -> Value:
    return m.log1p(x)


@formula("log2", kinds="f")
def log2(m: Maths, x: Value) -> Value:
    return m.log2(x)


@formula("log10", kinds="f")
def log10(m: Maths, x: Value) -> Value:
    return m.log10(x)


@formula("logaddexp", kinds="f")
def logaddexp(m: Maths, x: Value, y: Value) -> Value:
    gap = m.log1p(m.exp(-m.fabs(x - y)))
    # Equal infinities have no difference.
    return m.where(m.eq(x, y), x + math.log(2), maximum(m, x, y) + gap)


@formula("logaddexp2", kinds="f")
def logaddexp2(m: Maths, x: Value, y: Value) -> Value:
    gap = m.log1p(m.exp2(-m.fabs(x - y))) * (1 / math.log(2))
    return m.where(m.eq(x, y), x + 1, maximum(m, x, y) + gap)


@formula("softplus", kinds="f")
def softplus(m: Maths, x: Value) -> Value:
    return maximum(m, x, m.const(0)) + m.log1p(m.exp(-m.fabs(x)))


@formula("log_sigmoid", kinds="f")
def log_sigmoid(m: Maths, x: Value) -> Value:
    return -softplus(m, -x)


@formula("sigmoid", kinds="f")
def sigmoid(m: Maths, x: Value) -> Value:
    tail = m.exp(-m.fabs(x))
    share = 1 / (1 + tail)
    return m.where(x >= 0, share, tail * share)


@formula("xlogy", kinds="f")
def xlogy(m: Maths, x: Value, y: Value) -> Value:
    return m.where(m.eq(x, 0) & m.eq(y, y), 0, x * m.log(y))


@formula("xlog1py", kinds="f")
def xlog1py(m: Maths, x: Value, y: Value) -> Value:
    return m.where(m.eq(x, 0) & m.eq(y, y), 0, x * m.log1p(y))

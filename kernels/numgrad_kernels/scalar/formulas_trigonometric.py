"""Trigonometric and hyperbolic functions of real numbers."""

from __future__ import annotations

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.ir import Value


@formula("sin", kinds="f")
def sin(m: Maths, x: Value) -> Value:
    return m.sin(x)


@formula("cos", kinds="f")
def cos(m: Maths, x: Value) -> Value:
    return m.cos(x)


@formula("tan", kinds="f")
def tan(m: Maths, x: Value) -> Value:
    return m.tan(x)


@formula("asin", kinds="f")
def asin(m: Maths, x: Value) -> Value:
    return m.asin(x)


@formula("acos", kinds="f")
def acos(m: Maths, x: Value) -> Value:
    return m.acos(x)


@formula("atan", kinds="f")
def atan(m: Maths, x: Value) -> Value:
    return m.atan(x)


@formula("atan2", kinds="f")
def atan2(m: Maths, y: Value, x: Value) -> Value:
    return m.atan2(y, x)


@formula("sinh", kinds="f")
def sinh(m: Maths, x: Value) -> Value:
    return m.sinh(x)


@formula("cosh", kinds="f")
def cosh(m: Maths, x: Value) -> Value:
    return m.cosh(x)


@formula("tanh", kinds="f")
def tanh(m: Maths, x: Value) -> Value:
    return m.tanh(x)


@formula("asinh", kinds="f")
def asinh(m: Maths, x: Value) -> Value:
    return m.asinh(x)


@formula("acosh", kinds="f")
def acosh(m: Maths, x: Value) -> Value:
    return m.acosh(x)


@formula("atanh", kinds="f")
def atanh(m: Maths, x: Value) -> Value:
    return m.atanh(x)


@formula("hypot", kinds="f")
def hypot(m: Maths, x: Value, y: Value) -> Value:
    return m.hypot(x, y)

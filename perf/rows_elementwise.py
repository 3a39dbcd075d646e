"""Rows of elementwise work: fused chains, and fifty layers that differ in a constant."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.row import row

FAST = frozenset(("reassoc", "contract", "nsz"))


def _pair(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.standard_normal(size), rng.standard_normal(size)


def _light(kit: Any, x: Any, y: Any) -> Any:
    t = x * 2.5 + y
    t = t * x - 0.5
    t = t * t + y
    t = t * 0.125 - x
    return t * y + x


def _light_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath={"contract"})
    def value(x, y):  # type: ignore[no-untyped-def]
        out = np.empty_like(x)
        for i in range(x.size):
            a, b = x[i], y[i]
            t = a * 2.5 + b
            t = t * a - 0.5
            t = t * t + b
            t = t * 0.125 - a
            out[i] = t * b + a
        return out

    return value


row(
    name="chain",
    title="10 light elementwise ops, value",
    sizes=(1_000, 100_000, 4_000_000),
    setup=_pair,
    function=_light,
    mode="value",
    hand={"numba": _light_numba},
)


def _heavy(kit: Any, x: Any, y: Any) -> Any:
    np_ = kit.np
    u = x * y
    return np_.sum(np_.sqrt(1.0 + u * u) * np_.exp(-x * x) + np_.log1p(y * y) * np_.tanh(x))


def _heavy_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(x, y):  # type: ignore[no-untyped-def]
        gx, gy = np.empty_like(x), np.empty_like(y)
        total = 0.0
        for i in range(x.size):
            a, b = x[i], y[i]
            u = a * b
            r = np.sqrt(1.0 + u * u)
            e = np.exp(-a * a)
            m = np.log1p(b * b)
            t = np.tanh(a)
            slope = e * u / r
            total += r * e + m * t
            gx[i] = slope * b - 2.0 * a * r * e + m * (1.0 - t * t)
            gy[i] = slope * a + 2.0 * t * b / (1.0 + b * b)
        return total, (gx, gy)

    return value_and_gradient


def _heavy_numpy() -> Any:
    block = 4096  # a block of every temporary stays in the cache

    def value_and_gradient(x: Any, y: Any) -> Any:
        gx, gy = np.empty_like(x), np.empty_like(y)
        total = 0.0
        for start in range(0, x.size, block):
            part = slice(start, start + block)
            a, b = x[part], y[part]
            u = a * b
            r = np.sqrt(1.0 + u * u)
            e = np.exp(-a * a)
            square = b * b
            m = np.log1p(square)
            t = np.tanh(a)
            slope = e * u / r
            total += r.dot(e) + m.dot(t)
            gx[part] = slope * b - 2.0 * a * r * e + m * (1.0 - t * t)
            gy[part] = slope * a + 2.0 * t * b / (1.0 + square)
        return total, (gx, gy)

    return value_and_gradient


row(
    name="chain_gradient",
    title="sqrt, exp, log1p, tanh and 8 light ops, sum, value and gradient",
    sizes=(1_000, 100_000, 2_000_000),
    setup=_pair,
    function=_heavy,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": _heavy_numba, "numpy": _heavy_numpy},
)

CONSTANTS = tuple(0.5 + 0.013 * i for i in range(50))


def _start(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (rng.standard_normal(size),)


def layers(kit: Any, y: Any) -> Any:
    """Fifty layers that are alike but for a constant."""
    for c in CONSTANTS:
        y = kit.np.tanh(y) * c - kit.np.sum(y)
    return y


def layers_loss(kit: Any, y: Any) -> Any:
    """The sum of the last layer."""
    return kit.np.sum(layers(kit, y))


def _layers_numba() -> Any:
    from numba import njit

    constants = np.array(CONSTANTS)

    @njit(error_model="numpy", fastmath=set(FAST))
    def run(start, constants):  # type: ignore[no-untyped-def]
        y = start.copy()
        for c in constants:
            total = 0.0
            for i in range(y.size):
                total += y[i]
            for i in range(y.size):
                y[i] = np.tanh(y[i]) * c - total
        return y

    return lambda y: run(y, constants)


def _layers_numpy() -> Any:
    def value(start: Any) -> Any:
        y = start.copy()
        for c in CONSTANTS:
            total = y.sum()
            np.tanh(y, y)
            np.multiply(y, c, y)
            np.subtract(y, total, y)
        return y

    return value


row(
    name="layers50",
    title="50 layers tanh(y) * c - sum(y), value",
    sizes=(10, 1_000),
    setup=_start,
    function=layers,
    mode="value",
    hand={"numba": _layers_numba, "numpy": _layers_numpy},
)


def _layers_gradient_numba() -> Any:
    from numba import njit

    constants = np.array(CONSTANTS)

    @njit(error_model="numpy", fastmath=set(FAST))
    def run(start, constants):  # type: ignore[no-untyped-def]
        n = start.size
        saved = np.empty((constants.size, n))
        y = start.copy()
        for k in range(constants.size):
            total = 0.0
            for i in range(n):
                total += y[i]
            for i in range(n):
                t = np.tanh(y[i])
                saved[k, i] = t
                y[i] = t * constants[k] - total
        value = 0.0
        for i in range(n):
            value += y[i]
            y[i] = 1.0
        for k in range(constants.size - 1, -1, -1):
            total = 0.0
            for i in range(n):
                total += y[i]
            for i in range(n):
                t = saved[k, i]
                y[i] = y[i] * constants[k] * (1.0 - t * t) - total
        return value, y

    return lambda y: run(y, constants)


def _layers_gradient_numpy() -> Any:
    def value_and_gradient(start: Any) -> Any:
        y, saved = start, []
        for c in CONSTANTS:
            total = y.sum()
            t = np.tanh(y)
            saved.append(t)
            y = t * c
            y -= total
        g = np.ones_like(start)
        for c, t in zip(reversed(CONSTANTS), reversed(saved)):
            total = g.sum()
            np.multiply(t, t, t)
            np.subtract(1.0, t, t)
            g *= c
            g *= t
            g -= total
        return y.sum(), g

    return value_and_gradient


row(
    name="layers50_gradient",
    title="50 layers tanh(y) * c - sum(y), value and gradient of the sum",
    sizes=(10, 1_000),
    setup=_start,
    function=layers_loss,
    mode="value_and_grad",
    hand={"numba": _layers_gradient_numba, "numpy": _layers_gradient_numpy},
)

"""Rows where the arrays are so small that calls and steps are what is timed."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.row import row


def _three(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.standard_normal(size), rng.standard_normal(size), rng.standard_normal(size)


def _small(kit: Any, a: Any, b: Any, c: Any) -> Any:
    return kit.np.sum(a * b + c * c * a)


def _small_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    def value_and_gradient(a, b, c):  # type: ignore[no-untyped-def]
        ga, gb, gc = np.empty_like(a), np.empty_like(a), np.empty_like(a)
        total = 0.0
        for i in range(a.size):
            square = c[i] * c[i]
            total += a[i] * b[i] + square * a[i]
            ga[i] = b[i] + square
            gb[i] = a[i]
            gc[i] = 2.0 * c[i] * a[i]
        return total, (ga, gb, gc)

    return value_and_gradient


def _small_numpy() -> Any:
    def value_and_gradient(a: Any, b: Any, c: Any) -> Any:
        factor = b + c * c
        return a.dot(factor), (factor, a.copy(), 2.0 * c * a)

    return value_and_gradient


row(
    name="call",
    title="call of value and gradient, 3 arrays",
    sizes=(10,),
    setup=_three,
    function=_small,
    mode="value_and_grad",
    argnums=(0, 1, 2),
    hand={"numba": _small_numba, "numpy": _small_numpy},
)

LAYERS = 50


def _matrices(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (rng.standard_normal((size, 16)), *[rng.standard_normal((16, 16)) / 4 for _ in range(LAYERS)])


def _dense(kit: Any, y: Any, *matrices: Any) -> Any:
    for matrix in matrices:
        y = kit.np.tanh(y @ matrix)
    return y


def _dense_numpy() -> Any:
    def value(y: Any, *matrices: Any) -> Any:
        for matrix in matrices:
            y = y @ matrix
            np.tanh(y, y)
        return y

    return value


row(
    name="dense50",
    title="50 layers tanh(y @ W), (n x 16) @ (16 x 16), value",
    sizes=(8,),
    setup=_matrices,
    function=_dense,
    mode="value",
    hand={"numpy": _dense_numpy},
)

"""Rows of eager functions: each call runs the function operation by operation, records it, and differentiates it."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.row import row

CHAIN = 50


def _vector(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (rng.standard_normal(size),)


def _operations(kit: Any, x: Any) -> Any:
    return kit.np.sum(kit.np.sin(x) * kit.np.exp(-x * x) + kit.np.log(1.0 + x * x))


def _operations_numpy() -> Any:
    def value_and_gradient(x: Any) -> Any:
        sine, square = np.sin(x), x * x
        bell, shifted = np.exp(-square), 1.0 + square
        value = np.sum(sine * bell + np.log(shifted))
        return value, bell * (np.cos(x) - 2.0 * x * sine) + 2.0 * x / shifted

    return value_and_gradient


row(
    name="tape",
    title="10 operations one by one, recorded, value and gradient",
    sizes=(10, 1000, 100_000),
    setup=_vector,
    function=_operations,
    mode="value_and_grad",
    eager=True,
    hand={"numpy": _operations_numpy},
)


def _chain(kit: Any, x: Any) -> Any:
    for _ in range(CHAIN):
        x = kit.np.tanh(x * 1.01)
    return kit.np.sum(x)


def _chain_numpy() -> Any:
    def value_and_gradient(x: Any) -> Any:
        saved = []
        for _ in range(CHAIN):
            x = np.tanh(x * 1.01)
            saved.append(x)
        gradient = np.ones_like(x)
        for y in reversed(saved):
            gradient = gradient * (1.0 - y * y) * 1.01
        return np.sum(x), gradient

    return value_and_gradient


row(
    name="tape_chain",
    title="100 operations one by one, recorded, value and gradient",
    sizes=(10, 1000, 100_000),
    setup=_vector,
    function=_chain,
    mode="value_and_grad",
    eager=True,
    hand={"numpy": _chain_numpy},
)


def _network(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (
        rng.standard_normal((size, 16)),
        rng.standard_normal((16, 32)) / 4,
        rng.standard_normal(32),
        rng.standard_normal((32, 4)) / 6,
        rng.standard_normal(4),
    )


def _layers(kit: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    result = kit.np.tanh(x @ w1 + b1) @ w2 + b2
    return kit.np.sum(result * result)


def _layers_numpy() -> Any:
    def value_and_gradient(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = np.tanh(x @ w1 + b1)
        result = hidden @ w2 + b2
        g = 2.0 * result
        inner = (g @ w2.T) * (1.0 - hidden * hidden)
        return np.sum(result * result), (x.T @ inner, inner.sum(0), hidden.T @ g, g.sum(0))

    return value_and_gradient


row(
    name="tape_layers",
    title="two layers one operation after the other, recorded, value and gradient",
    sizes=(8, 128),
    setup=_network,
    function=_layers,
    mode="value_and_grad",
    argnums=(1, 2, 3, 4),
    eager=True,
    hand={"numpy": _layers_numpy},
)

"""Rows whose time is spent in loops: simulations, filters and iterations of many small steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf import hand_simulation as hand
from perf.row import row

PEERS = ("jax", "torch", "autograd", "pytensor")
STEP = 0.01


def _pendulum(steps: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return np.array([0.3, 9.81, 1.2, -0.4]), np.sin(STEP * 3.0 * np.arange(1, steps + 1))


def _pendulum_and_vector(steps: int, rng: np.random.Generator) -> tuple[Any, ...]:
    p, observed = _pendulum(steps, rng)
    return p, rng.standard_normal(4), observed


def _swing(kit: Any, p: Any, observed: Any) -> Any:
    """How far the angles of a damped pendulum, by Runge and Kutta's method, are from those observed."""
    damping, gravity = p[0], p[1]

    def slope(angle: Any, speed: Any) -> Any:
        return speed, -damping * speed - gravity * kit.np.sin(angle)

    def step(state: Any, seen: Any) -> Any:
        a, w = state
        a1, w1 = slope(a, w)
        a2, w2 = slope(a + 0.5 * STEP * a1, w + 0.5 * STEP * w1)
        a3, w3 = slope(a + 0.5 * STEP * a2, w + 0.5 * STEP * w2)
        a4, w4 = slope(a + STEP * a3, w + STEP * w3)
        a = a + STEP / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
        w = w + STEP / 6.0 * (w1 + 2.0 * w2 + 2.0 * w3 + w4)
        return (a, w), (a - seen) ** 2

    _, squares = kit.scan(step, (p[2], p[3]), observed)
    return kit.np.mean(squares)


row(
    name="pendulum",
    title="damped pendulum, RK4, n steps, value and gradient",
    sizes=(100, 1_000, 10_000),
    setup=_pendulum,
    function=_swing,
    mode="value_and_grad",
    hand={"numba": lambda: hand.pendulum(STEP)},
    libraries=PEERS,
)
row(
    name="pendulum_hvp",
    title="damped pendulum, RK4, n steps, Hessian-vector product",
    sizes=(100, 1_000, 10_000),
    setup=_pendulum_and_vector,
    function=_swing,
    mode="hvp",
    hand={"numba": lambda: hand.pendulum_product(STEP)},
    libraries=PEERS,
)

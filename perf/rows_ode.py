"""Rows whose time is spent in a differential equation's solver with steps of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf import hand_ode as hand
from perf.row import row

RTOL, ATOL = 1e-6, 1e-8


def _hares(years: int, rng: np.random.Generator) -> tuple[Any, ...]:
    times = np.arange(years + 1.0)
    turn = 2.0 * np.pi * times / 10.0
    seen = np.log(np.stack([35.0 + 25.0 * np.cos(turn), 20.0 + 15.0 * np.sin(turn)], axis=-1))
    return np.log(np.array([0.545, 0.028, 0.80, 0.024, 34.0, 5.9])), times, seen


def _misfit(kit: Any, q: Any, times: Any, seen: Any) -> Any:
    """How far the numbers of a predator and its prey are, in logarithms, from those seen every year."""
    p = kit.np.exp(q)

    def slope(y: Any, t: Any, p: Any) -> Any:
        eaten = y[0] * y[1]
        return kit.np.stack([p[0] * y[0] - p[1] * eaten, p[3] * eaten - p[2] * y[1]])

    y = kit.odeint(slope, p[4:], times, p, rtol=RTOL, atol=ATOL)
    return kit.np.mean((kit.np.log(y) - seen) ** 2)


row(
    name="ode_fit",
    title="misfit of predator and prey over n years, Dormand and Prince's method, value and gradient",
    sizes=(20, 200),
    setup=_hares,
    function=_misfit,
    mode="value_and_grad",
    hand={"numba": lambda: hand.predator_and_prey(RTOL, ATOL)},
    libraries=("jax",),
    tolerance=1e-3,  # JAX integrates the adjoint equation, with an error of its own
)

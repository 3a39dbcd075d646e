"""Gradients of simulations as an expert writes them for Numba: states kept in buffers of their own, swept backwards.

Each factory gives ``f(*arguments)`` for a row of `perf.rows_loops`; buffers are made once for a size and used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Buffers", "pendulum", "pendulum_product"]

FAST = frozenset(("reassoc", "contract", "nsz"))
HALVES = (0.0, 0.5, 0.5, 1.0, 0.0)
WEIGHTS = (1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0)


class Buffers:
    """Scratch arrays of the last sizes asked for."""

    def __init__(self, make: Callable[..., tuple[Any, ...]]) -> None:
        self._make, self._sizes = make, ()
        self._arrays: tuple[Any, ...] = ()

    def __call__(self, *sizes: Any) -> tuple[Any, ...]:
        if sizes != self._sizes:
            self._arrays, self._sizes = self._make(*sizes), sizes
        return self._arrays


def pendulum(h: float) -> Any:
    """Value and gradient of the pendulum; angles, speeds and sines of all stages are kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(p, observed, angles, speeds, sines, errors):  # type: ignore[no-untyped-def]
        damping, gravity, a, w = p
        steps = observed.size
        total = 0.0
        for t in range(steps):
            ka = kw = moved = pushed = 0.0
            for j in range(4):
                angle = a + h * HALVES[j] * ka
                speed = w + h * HALVES[j] * kw
                sine = np.sin(angle)
                angles[t, j], speeds[t, j], sines[t, j] = angle, speed, sine
                ka = speed
                kw = -damping * speed - gravity * sine
                moved += WEIGHTS[j] * ka
                pushed += WEIGHTS[j] * kw
            a += h * moved
            w += h * pushed
            errors[t] = a - observed[t]
            total += errors[t] * errors[t]
        by_damping = by_gravity = by_a = by_w = 0.0
        for t in range(steps - 1, -1, -1):
            by_a += 2.0 / steps * errors[t]
            new_a, new_w = by_a, by_w
            next_a = next_w = 0.0
            for j in range(3, -1, -1):
                by_ka = h * (WEIGHTS[j] * by_a + HALVES[j + 1] * next_a)
                by_kw = h * (WEIGHTS[j] * by_w + HALVES[j + 1] * next_w)
                by_damping -= speeds[t, j] * by_kw
                by_gravity -= sines[t, j] * by_kw
                next_a = -gravity * np.cos(angles[t, j]) * by_kw
                next_w = by_ka - damping * by_kw
                new_a += next_a
                new_w += next_w
            by_a, by_w = new_a, new_w
        return total / steps, np.array([by_damping, by_gravity, by_a, by_w])

    buffers = Buffers(lambda n: (np.empty((n, 4)), np.empty((n, 4)), np.empty((n, 4)), np.empty(n)))
    return lambda p, observed: sweep(p, observed, *buffers(observed.size))


def pendulum_product(h: float) -> Any:
    """Hessian-vector product of the pendulum: the sweep above and its tangent, side by side."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(p, v, observed, kept, errors):  # type: ignore[no-untyped-def]
        damping, gravity, a, w = p
        d_damping, d_gravity, da, dw = v
        steps = observed.size
        for t in range(steps):
            ka = kw = dka = dkw = moved = pushed = d_moved = d_pushed = 0.0
            for j in range(4):
                angle, d_angle = a + h * HALVES[j] * ka, da + h * HALVES[j] * dka
                speed, d_speed = w + h * HALVES[j] * kw, dw + h * HALVES[j] * dkw
                sine, cosine = np.sin(angle), np.cos(angle)
                kept[t, j, 0], kept[t, j, 1], kept[t, j, 2] = sine, cosine, speed
                kept[t, j, 3], kept[t, j, 4] = d_angle, d_speed
                ka, dka = speed, d_speed
                kw = -damping * speed - gravity * sine
                dkw = -d_damping * speed - damping * d_speed - d_gravity * sine - gravity * cosine * d_angle
                moved += WEIGHTS[j] * ka
                pushed += WEIGHTS[j] * kw
                d_moved += WEIGHTS[j] * dka
                d_pushed += WEIGHTS[j] * dkw
            a += h * moved
            w += h * pushed
            da += h * d_moved
            dw += h * d_pushed
            errors[t, 0], errors[t, 1] = a - observed[t], da
        by_a = by_w = d_by_a = d_by_w = r_damping = r_gravity = 0.0
        for t in range(steps - 1, -1, -1):
            by_a += 2.0 / steps * errors[t, 0]
            d_by_a += 2.0 / steps * errors[t, 1]
            new_a, new_w, d_new_a, d_new_w = by_a, by_w, d_by_a, d_by_w
            next_a = next_w = d_next_a = d_next_w = 0.0
            for j in range(3, -1, -1):
                sine, cosine, speed = kept[t, j, 0], kept[t, j, 1], kept[t, j, 2]
                d_angle, d_speed = kept[t, j, 3], kept[t, j, 4]
                by_ka = h * (WEIGHTS[j] * by_a + HALVES[j + 1] * next_a)
                by_kw = h * (WEIGHTS[j] * by_w + HALVES[j + 1] * next_w)
                d_by_ka = h * (WEIGHTS[j] * d_by_a + HALVES[j + 1] * d_next_a)
                d_by_kw = h * (WEIGHTS[j] * d_by_w + HALVES[j + 1] * d_next_w)
                r_damping -= d_speed * by_kw + speed * d_by_kw
                r_gravity -= cosine * d_angle * by_kw + sine * d_by_kw
                next_a = -gravity * cosine * by_kw
                d_next_a = gravity * (sine * d_angle * by_kw - cosine * d_by_kw) - d_gravity * cosine * by_kw
                next_w = by_ka - damping * by_kw
                d_next_w = d_by_ka - d_damping * by_kw - damping * d_by_kw
                new_a += next_a
                new_w += next_w
                d_new_a += d_next_a
                d_new_w += d_next_w
            by_a, by_w, d_by_a, d_by_w = new_a, new_w, d_new_a, d_new_w
        return np.array([r_damping, r_gravity, d_by_a, d_by_w])

    buffers = Buffers(lambda n: (np.empty((n, 4, 5)), np.empty((n, 2))))
    return lambda p, v, observed: sweep(p, v, observed, *buffers(observed.size))

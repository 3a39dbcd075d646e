"""The classical Runge-Kutta method with steps of equal length between two output times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgrad.graph.core import Tensor, apply
from numgrad.integrate.state import Leaves, System, moved
from numgrad.tracing.loops import fori_loop, scan

__all__ = ["solve"]


def _step(system: System, y: Leaves, t: Tensor, h: Tensor) -> Leaves:
    half = 0.5 * h
    k1 = system.slope(y, t)
    k2 = system.slope(moved(y, half, [k1], [1.0]), t + half)
    k3 = system.slope(moved(y, half, [k2], [1.0]), t + half)
    k4 = system.slope(moved(y, h, [k3], [1.0]), t + h)
    return moved(y, h / 6.0, [k1, k2, k3, k4], [1.0, 2.0, 2.0, 1.0])


def solve(system: System, ts: Tensor, steps: int, checkpoint: Any) -> Leaves:
    """y at the times, stacked, with so many steps between two of them."""
    def interval(y: Leaves, row: Sequence[Tensor]) -> tuple[Leaves, Leaves]:
        t, duration = row
        h = duration / steps if steps > 1 else duration

        def step(i: Any, y: Leaves) -> Leaves:
            return _step(system, y, t + i * h, h)

        y = fori_loop(0, steps, step, y, checkpoint) if steps > 1 else _step(system, y, t, h)
        return y, y

    _, later = scan(interval, system.start, [ts[:-1], ts[1:] - ts[:-1]], checkpoint=checkpoint)
    return [apply("concat", apply("expand_dims", first, axes=(0,)), rest, axis=0)
            for first, rest in zip(system.start, later, strict=True)]

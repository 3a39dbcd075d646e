"""The method of Dormand and Prince of orders 5 and 4: one step, its error, its continuous solution, the first step.

The coefficients are those of Dormand and Prince (1980); the continuous solution of order 4 is Shampine's (1986) in the
form of Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), section II.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.graph.core import Tensor
from numgrad.integrate.state import Leaves, System, combined, moved, real_of
from numgrad.ops.arithmetic import sqrt
from numgrad.ops.choice import maximum, minimum, where
from numgrad.ops.exponential import log
from numgrad.ops.kinds import cast_to
from numgrad.ops.reduction import sum as total_of
from numgrad.types import size_max, size_product

__all__ = ["ORDER", "Tolerances", "dense_at", "dense_rows", "first_step", "stages"]

ORDER = 5
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_DENSE = (-12715105075 / 11282082432, 0.0, 87487479700 / 32700410799, -10690763975 / 1880347072,
          701980252875 / 199316789632, -1453857185 / 822651844, 69997945 / 29380423)


def stages(system: System, y: Leaves, t: Tensor, h: Tensor, k1: Leaves) -> tuple[Leaves, list[Leaves]]:
    """y after a step of length h, and the seven slopes; the last is that of the new y."""
    slopes = [k1]
    point = y
    for node, weights in zip(_NODES, _STAGES, strict=True):
        point = moved(y, h, slopes, weights)
        slopes.append(system.slope(point, t + h if node == 1.0 else t + node * h))
    return point, slopes


def dense_rows(y: Leaves, new: Leaves, h: Tensor, slopes: Sequence[Leaves]) -> tuple[Leaves, ...]:
    """What the continuous solution within a step is made of, five lists of leaves."""
    return y, new, slopes[0], slopes[-1], combined(h, slopes, _DENSE)


def dense_at(place: Any, h: Any, start: Any, end: Any, first: Any, last: Any, inner: Any) -> Tensor:
    """The continuous solution at a place between 0 and 1 in its step of length h, for one leaf of `dense_rows`."""
    rise, rest = end - start, 1.0 - place
    bend = h * first - rise
    found: Tensor = start + place * (rise + rest * (bend + place * (rise - h * last - bend + rest * inner)))
    return found


class Tolerances:
    """The weights of the error norm of Hairer, Norsett and Wanner, section II.4."""

    def __init__(self, system: System, rtol: Any, atol: Any) -> None:
        dtypes = [real_of(y.dtype) for y in system.start]
        self._dtype = np.result_type(*dtypes)
        self._rtol, self._atol = system.per_leaf(rtol, "rtol"), system.per_leaf(atol, "atol")
        total: Any = 0
        for y in system.start:
            total = total + size_product(y.spec.shape)
        self._count = size_max(total, 1)

    def scales(self, *sides: Leaves) -> list[Any]:
        """``atol + rtol * max |y|`` for each leaf."""
        found = []
        for values, rtol, atol in zip(zip(*sides, strict=True), self._rtol, self._atol, strict=True):
            size: Any = abs(values[0])
            for other in values[1:]:
                size = maximum(size, abs(other))
            found.append(atol + rtol * size)
        return found

    def norm(self, values: Sequence[Any], scales: Sequence[Any]) -> Any:
        """The root of the mean square of the scaled values."""
        return sqrt(self._mean_square(values, scales))

    def _mean_square(self, values: Sequence[Any], scales: Sequence[Any]) -> Any:
        total: Any = 0.0
        for value, scale in zip(values, scales, strict=True):
            part = cast_to(total_of((abs(value) / scale) ** 2), self._dtype)
            total = part if isinstance(total, float) else total + part
        count = self._count if isinstance(self._count, int) else cast_to(self._count.tensor(), self._dtype)
        return total / count

    def log_error(self, y: Leaves, new: Leaves, h: Tensor, slopes: Sequence[Leaves]) -> Any:
        """The logarithm of a step's estimated error: 0 is just tolerable, infinity stands for what is no number."""
        square = self._mean_square(combined(h, slopes, _ERROR), self.scales(y, new))
        return 0.5 * log(where(square >= 0.0, square, np.inf))


def first_step(system: System, tolerances: Tolerances, start: Any, end: Any, k1: Leaves) -> Any:
    """The length of a first step (Hairer, Norsett and Wanner, section II.4)."""
    y, scales = system.start, tolerances.scales(system.start)
    size, speed = tolerances.norm(y, scales), tolerances.norm(k1, scales)
    h0 = cast_to(where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed), start.dtype)
    h0 = minimum(h0, abs(end - start))
    ahead = where(end < start, -h0, h0)
    k2 = system.slope(moved(y, ahead, [k1], [1.0]), start + ahead)
    bend = tolerances.norm([b - a for a, b in zip(k1, k2, strict=True)], scales) / cast_to(h0, speed.dtype)
    steepest: Any = cast_to(maximum(speed, bend), start.dtype)
    return minimum(100.0 * h0, where(steepest <= 1e-15, maximum(1e-6, 1e-3 * h0), (0.01 / steepest) ** (1.0 / ORDER)))

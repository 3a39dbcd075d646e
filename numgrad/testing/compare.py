"""Two answers side by side: along random directions, along each axis, and down to the element to blame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from numgrad.errors import DtypeError, at, user_line
from numgrad.testing.numerical import Derivative, Point, Vector, real_vector
from numgrad.testing.report import RANDOM_DIRECTION, Comparison

__all__ = ["Case", "Checker"]

_SECOND_ORDER = 10.0  # how much coarser the second order is compared
_ALL_ELEMENTS = 32  # up to so many elements every one is checked, beyond only random directions are
_ALLOWED_NOISE = 1e-3  # how much of a derivative the numerical method's own error may excuse


@dataclass(frozen=True)
class Case:
    """A derivative to compare: what numgrad says along a direction, and what the numerical method says."""

    what: str
    got: Derivative
    wanted: Callable[[Vector], tuple[float, float, str]]


class Checker:
    """Compares cases along directions and finds the element to blame."""

    def __init__(self, point: Point, rtol: float, atol: float | None) -> None:
        self.point, self.rtol, self.atol = point, rtol, atol
        self.scale = point.scale()
        self.comparisons: list[Comparison] = []

    def random(self, generator: np.random.Generator) -> Vector:
        """A random direction, as long as the function may be taken as smooth, exact in the arguments' dtypes."""
        drawn = generator.normal(size=self.scale.size)
        drawn *= self.scale / np.max(np.abs(drawn), initial=1e-300)
        return real_vector(self.point.pieces(drawn, exact=True))

    def values(self, got: Vector, wanted: Vector) -> None:
        """Compare what the compiled function returns with the reference."""
        if got.shape != wanted.shape:
            raise DtypeError(f"check_gradients: traced, f gives {got.size} floating numbers, but {wanted.size} when "
                             f"called with NumPy arrays{at(user_line())}")
        same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
        error = np.where(same, 0.0, np.abs(np.where(same, 0.0, got) - np.where(same, 0.0, wanted)))
        magnitude = float(np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted)))
        tolerance = self._tolerance("value", magnitude, magnitude)
        for i in [int(np.argmax(np.where(np.isnan(error), np.inf, error)))] if error.size else []:
            self.comparisons.append(Comparison("value", f"result {i}", float(got[i]), float(wanted[i]), float(error[i]),
                                               tolerance, "NumPy"))

    def _tolerance(self, what: str, size: float, magnitude: float) -> float:
        rtol = self.rtol * (_SECOND_ORDER if " over " in what else 1.0)
        return (rtol * 1e-2 * magnitude if self.atol is None else self.atol) + rtol * size

    def compare(self, cases: Sequence[Case], direction: Vector, elements: bool) -> None:
        """Compare each case along a random direction and, if `elements`, along the axes of a small point."""
        for case in cases:
            tried = [self._measure(case, direction, RANDOM_DIRECTION, 1.0)]
            if elements and self.scale.size <= _ALL_ELEMENTS:
                tried += [self._along_axis(case, i) for i in range(self.scale.size)]
            magnitude = max((abs(c.wanted) for c in tried if np.isfinite(c.wanted)), default=0.0)
            judged = [self._judged(c, magnitude) for c in tried]
            if len(judged) == 1 and not judged[0].passed:
                judged.append(self._judged(self._blame(case, direction), magnitude))
            self.comparisons += judged

    def _measure(self, case: Case, direction: Vector, where: str, unit: float) -> Comparison:
        wanted, noise, method = case.wanted(direction)
        got, wanted, noise = case.got(direction) / unit, wanted / unit, noise / unit
        return Comparison(case.what, where, got, wanted, abs(got - wanted), noise, method)

    def _along_axis(self, case: Case, number: int) -> Comparison:
        axis = np.zeros_like(self.scale)
        axis[number] = self.scale[number]
        axis = real_vector(self.point.pieces(axis, exact=True))
        return self._measure(case, axis, self.point.element(number), float(axis[number]))

    def _judged(self, c: Comparison, magnitude: float) -> Comparison:
        """A measurement, whose tolerance holds the noise of the numerical method, with the final tolerance."""
        size = max(abs(c.got), abs(c.wanted)) if np.isfinite(c.got) and np.isfinite(c.wanted) else 0.0
        allowed = _ALLOWED_NOISE * size
        tolerance = self._tolerance(c.what, size, magnitude) + (min(4 * c.tolerance, allowed) if allowed else 0.0)
        settled = c.error <= tolerance or c.tolerance <= _ALLOWED_NOISE * abs(c.wanted)
        return replace(c, tolerance=tolerance, settled=settled)

    def _blame(self, case: Case, direction: Vector) -> Comparison:
        """The element that differs most, looked for by halving the direction."""
        numbers = np.arange(direction.size)
        while numbers.size > 1:
            halves = np.array_split(numbers, 2)
            errors = []
            for half in halves:
                part = np.zeros_like(direction)
                part[half] = direction[half]
                errors.append(self._measure(case, part, "", 1.0).error)
            numbers = halves[int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))]
        return self._along_axis(case, int(numbers[0]))

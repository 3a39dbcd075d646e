"""What a check found: comparisons, the report of all of them, and the error that carries it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numgrad.errors import NumgradError

__all__ = ["RANDOM_DIRECTION", "Comparison", "GradientMismatch", "GradientReport"]

RANDOM_DIRECTION = "a random direction"


@dataclass(frozen=True)
class Comparison:
    """One derivative beside its numerical value.

    Attributes
    ----------
    what : str
        "value", "reverse", "forward", "forward over reverse", ...
    where : str
        An element such as ``args[0]['w'][2, 1]``, or "a random direction".
    got, wanted, error, tolerance : float
    method : str
        "complex step" or "differences".
    settled : bool
        False where the numerical method did not converge: f is not smooth there.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.testing.check_gradients(np.sum, (np.ones(2),), order=1).worst.passed
    True
    """

    what: str
    where: str
    got: float
    wanted: float
    error: float
    tolerance: float
    method: str
    settled: bool = True

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance (False for nan)."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        text = (f"{self.what}, {self.where}: got {self.got:.10g}, wanted {self.wanted:.10g} by {self.method}, error "
                f"{self.error:.2e}, tolerance {self.tolerance:.2e}")
        return text if self.settled else text + "; differences do not settle: is the function smooth here?"


@dataclass(frozen=True)
class GradientReport:
    """All comparisons of one `check_gradients`.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> report = ng.testing.check_gradients(lambda x: np.sum(x ** 3), (np.array([1.0, -2.0]),))
    >>> report.passed, report.worst.error < 1e-6
    (True, True)
    """

    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its tolerance."""
        return all(c.passed for c in self.comparisons)

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest error in units of its tolerance; an element's where one failed."""
        def badness(c: Comparison) -> float:
            ratio = c.error / c.tolerance if c.tolerance else (np.inf if c.error else 0.0)
            return float(np.inf if np.isnan(ratio) else ratio)

        elements = [c for c in self.comparisons if not c.passed and c.where != RANDOM_DIRECTION]
        return max(elements or self.comparisons, key=badness)

    def __str__(self) -> str:
        failed = [c for c in self.comparisons if not c.passed]
        kinds = list(dict.fromkeys(c.what for c in self.comparisons))
        head = f"{len(self.comparisons)} comparisons ({', '.join(kinds)}), {len(failed)} outside of the tolerance"
        return "\n".join([head, *(f"  {c}" for c in failed)])


class GradientMismatch(NumgradError, AssertionError):
    """A derivative that differs from its numerical value; ``report`` holds all comparisons."""

    def __init__(self, message: str, report: GradientReport) -> None:
        super().__init__(message)
        self.report = report

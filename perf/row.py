"""What is measured: rows (a function timed again and again) and probes (a process timed once), and the tables of both.

This module and the row files import NumPy alone, so that they load in any library's own virtual environment.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["PROBES", "ROWS", "Probe", "Row", "load", "probe", "row", "worst_difference"]

Arrays = tuple[np.ndarray[Any, Any], ...]
Make = Callable[[], Callable[..., Any]]

FILES = (
    "rows_calls",
    "rows_elementwise",
    "rows_math",
    "rows_models",
    "rows_fitting",
    "rows_matrices",
    "rows_fields",
    "rows_tape",
    "rows_loops",
    "rows_ode",
    "probes_start",
    "probes_graph",
    "probes_loops",
    "probes_ratios",
)
LIBRARIES = ("jax", "torch", "autograd", "pytensor")


@dataclass(frozen=True)
class Row:
    """One function in every version of it.

    Parameters
    ----------
    name, title
        What the command line calls it, and what the table says.
    sizes
        From the smallest to the largest; the smallest is run by the tests.
    setup
        ``setup(size, rng)`` gives the arguments as NumPy arrays.
    function
        ``function(kit, *arguments)``, written once for numgrad and all libraries: `kit.np` is the library's array
        namespace, and `kit` itself has what they name differently (see `perf.libraries`).
    mode
        "value", "value_and_grad", "jacobian", "hessian" or "hvp" (then the arguments are x, v, and the function's
        others).
    argnums
        With respect to which arguments is differentiated.
    eager
        Whether every version runs its operations one by one, at each call; then nothing is compiled.
    hand
        Versions written by hand, by name ("numba", "numpy"): factories of ``f(*arguments)`` with the same results.
    tolerance
        Greatest difference from numgrad's result that is allowed, relative to the result's largest element.
    libraries
        The peers that run it.
    forward
        The peers that cannot go back through the row's loop and get its gradient in forward mode.
    """

    name: str
    title: str
    sizes: Sequence[Any]
    setup: Callable[[Any, np.random.Generator], Arrays]
    function: Callable[..., Any]
    mode: str
    hand: dict[str, Make]
    argnums: tuple[int, ...] = (0,)
    tolerance: float = 1e-9
    eager: bool = False
    libraries: tuple[str, ...] = ("jax", "torch", "autograd")
    forward: tuple[str, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """The names of all versions, numgrad's first."""
        return ("numgrad", *self.hand, *self.libraries)

    def arguments(self, size: Any) -> Arrays:
        """The arguments of one size, the same in every process."""
        return self.setup(size, np.random.default_rng(20240917))


@dataclass(frozen=True)
class Probe:
    """Something that is measured in a fresh process, because it happens once in a process.

    Each version is ``version(size)``: it returns facts by name, of which those that end in "_s" are seconds. The fact
    "wall_s", the whole process with all imports, is added. `warm` runs the process once before, with the same cache.
    """

    name: str
    title: str
    sizes: Sequence[Any]
    versions: dict[str, Callable[[Any], dict[str, Any]]]
    warm: bool = False
    repeats: int = 3
    wall: bool = True
    notes: dict[str, str] = field(default_factory=dict)


ROWS: dict[str, Row] = {}
PROBES: dict[str, Probe] = {}


def row(**facts: Any) -> Row:
    """Make a row and enter it into the table."""
    made = Row(**facts)
    assert made.name not in ROWS and made.name not in PROBES, made.name
    ROWS[made.name] = made
    return made


def probe(**facts: Any) -> Probe:
    """Make a probe and enter it into the table."""
    made = Probe(**facts)
    assert made.name not in ROWS and made.name not in PROBES, made.name
    PROBES[made.name] = made
    return made


def load() -> None:
    """Fill the tables."""
    for name in FILES:
        importlib.import_module(f"perf.{name}")


def worst_difference(got: Sequence[Any], wanted: Sequence[Any]) -> float:
    """The largest difference, relative to the largest element of the wanted array; inf where shapes differ."""
    if len(got) != len(wanted):
        return float("inf")
    worst = 0.0
    for a, b in zip(got, wanted):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        if a.size:
            scale = float(np.max(np.abs(b))) or 1.0
            worst = max(worst, float(np.max(np.abs(a / scale - b / scale))))
    return worst

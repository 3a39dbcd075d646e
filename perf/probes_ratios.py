"""Probe of how much more than a value its gradient takes, and than a gradient a product with the Hessian."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from perf.libraries import numgrad_kit
from perf.row import ROWS, probe

SECONDS = 0.02
TURNS = 5
# Rows of scalar functions: (name, index of the size).
MEASURED = (
    ("logistic", 1),
    ("logistic", 2),
    ("gaussian_process", 1),
    ("all_pairs", 1),
    ("mixture", 1),
    ("counts", 1),
    ("classes", 1),
    ("network", 1),
    ("factors", 1),
    ("lattice", 1),
    ("variation", 1),
    ("rosenbrock", 1),
    ("pendulum", 1),
    ("heat1d", 1),
)


def _shortest(call: Callable[..., Any], arguments: Sequence[Any]) -> float:
    """The shortest of the calls that fit into a turn."""
    ends, best = time.perf_counter() + SECONDS, float("inf")
    while True:
        begun = time.perf_counter()
        call(*arguments)
        now = time.perf_counter()
        best = min(best, now - begun)
        if now > ends:
            return best


def _ratios(case: tuple[str, int]) -> dict[str, Any]:
    """Value, gradient and product by the row's first argument, timed in turn."""
    import numgrad as ng

    name, index = case
    row = ROWS[name]
    kit = numgrad_kit()
    arguments = row.arguments(row.sizes[index])

    def function(*given: Any) -> Any:
        return row.function(kit, *given)

    direction = np.cos(np.arange(arguments[0].size)).reshape(arguments[0].shape)
    calls = {
        "value_s": (ng.function(function), arguments),
        "gradient_s": (ng.value_and_grad(function), arguments),
        "hvp_s": (ng.hvp(function), (arguments[0], direction, *arguments[1:])),
    }
    for call, given in calls.values():
        call(*given)
    times: dict[str, list[float]] = {key: [] for key in calls}
    for _ in range(TURNS):
        for key, (call, given) in calls.items():
            times[key].append(_shortest(call, given))
    found = {key: statistics.median(seen) for key, seen in times.items()}
    return {
        **found,
        "gradient_over_value": found["gradient_s"] / found["value_s"],
        "hvp_over_gradient": found["hvp_s"] / found["gradient_s"],
    }


probe(
    name="ratios",
    title="value, value and gradient, Hessian-vector product by the first argument",
    sizes=MEASURED,
    repeats=1,
    wall=False,
    versions={"numgrad": _ratios},
)

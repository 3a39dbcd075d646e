"""Functions with gradients of their own, and ways to differentiate them, that several test files use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import numgrad as ng


@ng.custom_gradient
def log1pexp(x: Any) -> Any:
    """log(1 + exp(x)) with a gradient that does not overflow."""
    e = ng.exp(x)
    return ng.log(1 + e), lambda g: g * (1 - 1 / (1 + e))


@ng.custom_gradient
def tenfold(x: Any) -> Any:
    """x, with ten times its gradient."""
    return ng.exp(ng.log(x)), lambda g: 10.0 * g


def derivative_by_tape(f: Callable[..., Any], x: Any, order: int = 1) -> Any:
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = f(x) if order == 1 else derivative_by_tape(f, x, order - 1)
    return tape.gradient(y, x)


def sigmoid_derivatives(x: float) -> list[float]:
    s = 1 / (1 + np.exp(-x))
    return [s, s * (1 - s), s * (1 - s) * (1 - 2 * s)]

"""Differential equations for the tests of `ng.integrate`: right-hand sides, initial values, times, parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["MATRIX", "PROBLEMS", "driven", "linear", "prey", "van_der_pol"]

MATRIX = np.array([[-0.3, 1.1, 0.0], [-0.9, -0.2, 0.4], [0.1, 0.0, -0.5]])


def prey(y: Any, t: Any, *p: Any) -> Any:
    """Lotka and Volterra; of NumPy arrays and traced values alike."""
    a, b, c, d = p
    return np.stack([a * y[0] - b * y[0] * y[1], -c * y[1] + d * y[0] * y[1]])


def van_der_pol(y: Any, t: Any, mu: Any) -> Any:
    return np.stack([y[1], mu * (1.0 - y[0] * y[0]) * y[1] - y[0]])


def driven(y: Any, t: Any, *p: Any) -> Any:
    """Depends on t, so that derivatives by times have an explicit part."""
    a, w = p
    return np.stack([y[1] + np.sin(w * t), -a * y[0] + t * y[1] * 0.1])


def linear(y: Any, t: Any, A: Any) -> Any:
    return A @ y


HARES = (0.55, 0.028, 0.84, 0.026)
PROBLEMS = {
    "prey": (prey, np.array([33.0, 6.0]), np.linspace(0.0, 20.0, 21), HARES),
    "van der Pol": (van_der_pol, np.array([2.0, 0.0]), np.linspace(0.0, 30.0, 8), (20.0,)),
    "driven": (driven, np.array([0.3, -0.2]), np.array([-1.0, 0.2, 0.25, 3.0]), (1.7, 2.0)),
    "backwards": (driven, np.array([0.3, -0.2]), np.array([2.0, 1.5, 1.5, -1.0]), (1.7, 2.0)),
    "linear": (linear, np.array([1.0, 0.0, -1.0]), np.array([0.0, 0.5, 4.0]), (MATRIX,)),
}

"""The two models of the demonstration, for numgrad and, written by hand, for NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgrad.data import load_breast_cancer, load_wine
from numgrad.linalg import cholesky, diagonal, triangular_solve
from numgrad.ops.activation import softplus

__all__ = ["HandWritten", "cancer", "gaussian_process", "gaussian_process_start", "logistic", "numpy_gaussian_process",
           "wines"]

Floats = NDArray[np.float64]

PENALTY = 0.005
JITTER = 1e-8


def cancer() -> tuple[Floats, Floats]:
    """569 patients: 30 standardised measurements and the diagnosis, 1 for malignant."""
    X, y, _ = load_breast_cancer()
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def logistic(w: Any, X: Any, y: Any) -> Any:
    """Mean negative log-likelihood of labels y in {0, 1} plus an L2 penalty."""
    score = X @ w
    return np.mean(softplus(score) - y * score) + PENALTY * np.sum(w * w)


class HandWritten:
    """`logistic` in NumPy, with the gradient and the Hessian-vector product that a careful person would write."""

    def __init__(self, X: Floats, y: Floats) -> None:
        self.X, self.y = X, y

    def fun(self, w: Floats) -> float:
        """The value."""
        score = self.X @ w
        return float(np.mean(np.logaddexp(0.0, score) - self.y * score) + PENALTY * (w @ w))

    def _probability(self, w: Floats) -> Floats:
        return 1.0 / (1.0 + np.exp(-(self.X @ w)))

    def jac(self, w: Floats) -> Floats:
        """X'(p - y) / n plus the penalty's gradient."""
        return self.X.T @ (self._probability(w) - self.y) / len(self.y) + 2.0 * PENALTY * w

    def hessp(self, w: Floats, v: Floats) -> Floats:
        """X' diag(p (1 - p)) X v / n plus the penalty's product."""
        p = self._probability(w)
        return self.X.T @ (p * (1.0 - p) * (self.X @ v)) / len(self.y) + 2.0 * PENALTY * v


def wines(count: int) -> tuple[Floats, Floats]:
    """`count` wines, drawn once and for all: 12 standardised constituents and the alcohol content."""
    X, y, _ = load_wine()
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    chosen = np.random.default_rng(0).permutation(len(y))[:count]
    return X[chosen], y[chosen]


def gaussian_process_start(X: Floats) -> dict[str, Any]:
    """Logarithms of the length scales (one for each column), of the signal and of the noise."""
    return {"length": np.ones(X.shape[1]), "signal": np.array(0.0), "noise": np.array(-1.0)}


def gaussian_process(p: Any, X: Any, y: Any) -> Any:
    """Negative log marginal likelihood, without its constant, of a squared-exponential process with noise."""
    A = X / np.exp(p["length"])
    squares = np.sum(A * A, axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (A @ A.T)
    noise = np.exp(2.0 * p["noise"]) + JITTER
    L = cholesky(np.exp(2.0 * p["signal"] - 0.5 * distances) + noise * np.eye(X.shape[0]))
    alpha: Any = triangular_solve(L, y, lower=True)
    return 0.5 * np.sum(alpha * alpha) + np.sum(np.log(diagonal(L)))


def numpy_gaussian_process(parameters: Floats, X: Floats, y: Floats) -> float:
    """`gaussian_process` of the flat vector, by NumPy and SciPy alone."""
    from scipy.linalg import LinAlgError, solve_triangular

    A = X / np.exp(parameters[:-2])
    squares = np.sum(A * A, axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (A @ A.T)
    K = np.exp(2.0 * parameters[-2] - 0.5 * distances) + (np.exp(2.0 * parameters[-1]) + JITTER) * np.eye(len(y))
    try:
        L = np.linalg.cholesky(K)
    except LinAlgError:
        return float("inf")
    alpha = solve_triangular(L, y, lower=True)
    return float(0.5 * (alpha @ alpha) + np.sum(np.log(np.diagonal(L))))

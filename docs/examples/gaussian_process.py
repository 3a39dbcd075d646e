"""A Gaussian process fitted by its marginal likelihood, whose gradient goes through a Cholesky factor."""

from __future__ import annotations

import numpy as np

import numgrad as ng
from numgrad.data import load_wine


def covariance(log_parameters: dict[str, np.ndarray], A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Squared-exponential covariance of the rows of A and of B, one length scale per column."""
    scale = np.exp(log_parameters["length"])
    A, B = A / scale, B / scale
    squared = np.sum(A * A, axis=1)[:, None] + np.sum(B * B, axis=1)[None, :] - 2.0 * (A @ B.T)
    return np.exp(2.0 * log_parameters["signal"] - 0.5 * squared)


def negative_log_likelihood(log_parameters: dict[str, np.ndarray], X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y' K^-1 y / 2 + log det(K) / 2: -log p(y | X) up to a constant, for K with noise on its diagonal."""
    noise = np.exp(2.0 * log_parameters["noise"])
    L = ng.linalg.cholesky(covariance(log_parameters, X, X) + noise * ng.eye(X.shape[0]))
    alpha = ng.linalg.triangular_solve(L, y, lower=True)
    return 0.5 * np.sum(alpha * alpha) + np.sum(np.log(ng.linalg.diagonal(L)))


def main() -> None:
    X, y, names = load_wine()
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:130], order[130:]
    start = {"length": np.ones(X.shape[1]), "signal": np.array(0.0), "noise": np.array(-1.0)}
    data = X[train], y[train]
    ng.testing.check_gradients(lambda p: negative_log_likelihood(p, *data), (start,), order=1)
    result = ng.optimize.minimize(negative_log_likelihood, start, args=data, method="L-BFGS-B")
    print(f"{result.message}: negative log-likelihood {result.fun:.4f} after {result.nit} iterations")
    fitted = result.x
    noise = np.exp(2.0 * fitted["noise"])
    K = covariance(fitted, X[train], X[train]) + noise * np.eye(len(train))
    prediction = covariance(fitted, X[test], X[train]) @ np.linalg.solve(K, y[train])
    error = np.sqrt(np.mean((prediction - y[test]) ** 2))
    shortest = np.argsort(fitted["length"])[:3]
    print(f"error on {len(test)} wines left out: {error:.3f} standard deviations")
    print(f"most telling: {', '.join(names[i] for i in shortest)}")
    assert error < 0.8


if __name__ == "__main__":
    main()

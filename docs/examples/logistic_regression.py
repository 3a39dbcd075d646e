"""Logistic regression by Newton's method, whose steps need Hessian-vector products and never a Hessian."""

from __future__ import annotations

import functools

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

import numgrad as ng
from numgrad.data import load_breast_cancer

PENALTY = 0.005


def loss(w: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean negative log-likelihood of labels y in {0, 1} plus an L2 penalty."""
    score = X @ w
    return np.mean(ng.softplus(score) - y * score) + PENALTY * np.sum(w * w)


def main() -> None:
    X, y, names = load_breast_cancer()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    value_and_gradient, product = ng.value_and_grad(loss), ng.hvp(loss)
    w = np.zeros(X.shape[1])
    for step in range(20):
        value, gradient = value_and_gradient(w, X, y)
        size = np.linalg.norm(gradient)
        print(f"step {step:2d}  loss {float(value):.10f}  gradient norm {size:.1e}")
        if size < 1e-10:
            break
        apply = functools.partial(lambda w, v: product(w, np.ravel(v), X, y), w)
        hessian = LinearOperator((w.size, w.size), matvec=apply, dtype=np.float64)
        newton_step, status = cg(hessian, -gradient, rtol=1e-8)
        assert status == 0, "conjugate gradients did not converge"
        w = w + newton_step
    else:
        raise SystemExit("Newton's method did not converge in 20 steps")
    accuracy = np.mean((X @ w > 0) == (y == 1))
    strongest = np.argsort(-np.abs(w))[:3]
    print(f"accuracy on the training data {accuracy:.3f}; strongest features: {', '.join(names[i] for i in strongest)}")
    assert accuracy > 0.97


if __name__ == "__main__":
    main()

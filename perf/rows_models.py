"""Rows that people minimise: logistic regression, the likelihood of a Gaussian process, the energy of particles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perf.row import row

FAST = frozenset(("reassoc", "contract", "nsz"))
PENALTY = 1e-3
SIZES = ((60, 5), (569, 30), (20_000, 50), (200_000, 50))


def observations(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, Any, Any]:
    n, d = size
    x = rng.standard_normal((n, d))
    w = rng.standard_normal(d) / math.sqrt(d)
    signs = np.where(x @ w + rng.standard_normal(n) > 0, 1.0, -1.0)
    return 0.5 * w, x, signs


def logistic(kit: Any, w: Any, x: Any, signs: Any) -> Any:
    return kit.np.sum(kit.softplus(-signs * (x @ w))) + 0.5 * PENALTY * kit.np.sum(w * w)


def _logistic_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(w, x, signs):  # type: ignore[no-untyped-def]
        n, d = x.shape
        g = np.zeros(d)
        total = 0.0
        for i in range(n):
            z = 0.0
            for j in range(d):
                z += x[i, j] * w[j]
            z *= -signs[i]
            e = np.exp(-abs(z))
            total += max(z, 0.0) + np.log1p(e)
            factor = -signs[i] * (1.0 if z >= 0.0 else e) / (1.0 + e)
            for j in range(d):
                g[j] += factor * x[i, j]
        penalty = 0.0
        for j in range(d):
            penalty += w[j] * w[j]
            g[j] += PENALTY * w[j]
        return total + 0.5 * PENALTY * penalty, g

    return value_and_gradient


def _logistic_numpy() -> Any:
    def value_and_gradient(w: Any, x: Any, signs: Any) -> Any:
        z = x @ w
        z *= signs
        e = np.exp(-np.abs(z))
        value = (np.log1p(e) - np.minimum(z, 0.0)).sum() + 0.5 * PENALTY * w.dot(w)
        factor = np.where(z >= 0.0, e, 1.0)
        factor /= 1.0 + e
        factor *= signs
        return value, PENALTY * w - factor @ x

    return value_and_gradient


row(
    name="logistic",
    title="logistic regression, value and gradient",
    sizes=SIZES,
    setup=observations,
    function=logistic,
    mode="value_and_grad",
    hand={"numba": _logistic_numba, "numpy": _logistic_numpy},
)


def _observations_and_vector(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    w, x, signs = observations(size, rng)
    return w, rng.standard_normal(w.size), x, signs


def _logistic_product_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def product(w, v, x, signs):  # type: ignore[no-untyped-def]
        n, d = x.shape
        result = np.zeros(d)
        for i in range(n):
            z, u = 0.0, 0.0
            for j in range(d):
                z += x[i, j] * w[j]
                u += x[i, j] * v[j]
            e = np.exp(-abs(z))
            factor = u * e / ((1.0 + e) * (1.0 + e))
            for j in range(d):
                result[j] += factor * x[i, j]
        for j in range(d):
            result[j] += PENALTY * v[j]
        return result

    return product


def _logistic_product_numpy() -> Any:
    def product(w: Any, v: Any, x: Any, signs: Any) -> Any:
        z = x @ w
        e = np.exp(-np.abs(z))
        factor = x @ v
        factor *= e
        e += 1.0
        e *= e
        factor /= e
        return factor @ x + PENALTY * v

    return product


row(
    name="logistic_hvp",
    title="logistic regression, Hessian-vector product",
    sizes=SIZES,
    setup=_observations_and_vector,
    function=logistic,
    mode="hvp",
    hand={"numba": _logistic_product_numba, "numpy": _logistic_product_numpy},
)


def _process(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    x = rng.uniform(-2, 2, (size, 2))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + 0.1 * rng.standard_normal(size)
    return np.log([0.7, 1.2, 0.3]), x, y


def _likelihood(kit: Any, theta: Any, x: Any, y: Any) -> Any:
    np_ = kit.np
    length, scale, noise = np_.exp(2.0 * theta[0]), np_.exp(2.0 * theta[1]), np_.exp(2.0 * theta[2])
    difference = x[:, None, :] - x[None, :, :]
    squares = np_.sum(difference * difference, axis=-1)
    covariance = scale * np_.exp(-0.5 * squares / length) + noise * kit.eye(x.shape[0], x)
    factor = kit.cholesky(covariance)
    solved = kit.cho_solve(factor, y)
    return 0.5 * np_.sum(y * solved) + np_.sum(np_.log(kit.diagonal(factor))) + 0.5 * math.log(2 * math.pi) * y.shape[0]


def _likelihood_hand() -> Any:
    from numba import njit
    from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

    @njit(error_model="numpy", fastmath=set(FAST))
    def covariance(x, length, scale, noise):  # type: ignore[no-untyped-def]
        n, d = x.shape
        squares, kernel, full = np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
        for i in range(n):
            for j in range(i + 1):
                total = 0.0
                for k in range(d):
                    total += (x[i, k] - x[j, k]) ** 2
                squares[i, j] = total
                kernel[i, j] = full[i, j] = scale * np.exp(-0.5 * total / length)
            full[i, i] += noise
        return squares, kernel, full

    @njit(error_model="numpy", fastmath=set(FAST))
    def slopes(inverse, solved, squares, kernel, length, noise):  # type: ignore[no-untyped-def]
        n = solved.size
        by_length = by_scale = trace = 0.0
        for i in range(n):
            for j in range(i):
                weight = 2.0 * (inverse[i, j] - solved[i] * solved[j]) * kernel[i, j]
                by_length += weight * squares[i, j]
                by_scale += weight
            diagonal = inverse[i, i] - solved[i] * solved[i]
            by_scale += diagonal * kernel[i, i]
            trace += diagonal
        return np.array([0.5 * by_length / length, by_scale, noise * trace])

    def value_and_gradient(theta: Any, x: Any, y: Any) -> Any:
        length, scale, noise = np.exp(2.0 * theta)
        squares, kernel, full = covariance(x, length, scale, noise)
        factor, _ = dpotrf(
            full.T, lower=0, clean=0, overwrite_a=1
        )  # the upper triangle in Fortran's order is the lower in ours
        solved, _ = dpotrs(factor, y, lower=0)
        value = 0.5 * y.dot(solved) + np.log(np.diagonal(factor)).sum() + 0.5 * math.log(2 * math.pi) * y.size
        inverse, _ = dpotri(factor, lower=0, overwrite_c=1)
        return value, slopes(inverse.T, solved, squares, kernel, length, noise)

    return value_and_gradient


row(
    name="gaussian_process",
    title="Gaussian process, marginal likelihood, value and gradient",
    sizes=(20, 200, 1_000),
    setup=_process,
    function=_likelihood,
    mode="value_and_grad",
    hand={"numba": _likelihood_hand},
    tolerance=1e-7,
)

SOFTENING = 1e-2


def particles(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.standard_normal((size, 3)), rng.choice([-1.0, 1.0], size)


def pair_energy(kit: Any, p: Any, q: Any) -> Any:
    difference = p[:, None, :] - p[None, :, :]
    squares = kit.np.sum(difference * difference, axis=-1)
    return 0.5 * kit.np.sum(q[:, None] * q[None, :] / kit.np.sqrt(squares + SOFTENING))


def _energy_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def run(x, y, z, q):  # type: ignore[no-untyped-def]
        n = q.size
        gx, gy, gz = np.zeros(n), np.zeros(n), np.zeros(n)
        total = 0.0
        for i in range(n):
            xi, yi, zi, qi = x[i], y[i], z[i], q[i]
            fx = fy = fz = pairs = 0.0
            for j in range(i + 1, n):
                dx, dy, dz = xi - x[j], yi - y[j], zi - z[j]
                inverse = 1.0 / (dx * dx + dy * dy + dz * dz + SOFTENING)
                term = qi * q[j] * np.sqrt(inverse)
                pairs += term
                factor = term * inverse
                fx += factor * dx
                fy += factor * dy
                fz += factor * dz
                gx[j] += factor * dx
                gy[j] += factor * dy
                gz[j] += factor * dz
            gx[i] -= fx
            gy[i] -= fy
            gz[i] -= fz
            total += pairs + 0.5 * qi * qi / np.sqrt(SOFTENING)
        return total, gx, gy, gz

    def value_and_gradient(p: Any, q: Any) -> Any:
        x, y, z = np.ascontiguousarray(p.T)
        total, gx, gy, gz = run(x, y, z, q)
        return total, np.stack([gx, gy, gz], axis=-1)

    return value_and_gradient


row(
    name="all_pairs",
    title="energy of all pairs of particles, value and gradient",
    sizes=(50, 500, 2_000),
    setup=particles,
    function=pair_energy,
    mode="value_and_grad",
    hand={"numba": _energy_numba},
)

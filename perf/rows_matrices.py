"""Rows whose derivative is a dense matrix: the Jacobian of a fit's residuals, the Hessian of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.row import row
from perf.rows_models import PENALTY, logistic, observations

FAST = frozenset(("reassoc", "contract", "nsz"))


def _peaks_data(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, k = size
    t = np.linspace(0.0, k, n)
    heights, centres, rates = rng.uniform(0.5, 2.0, k), np.arange(k) + 0.5, rng.uniform(1.0, 3.0, k)
    z = t[:, None] - centres
    y = (heights * np.exp(-rates * z * z)).sum(axis=1) + 0.1 * rng.standard_normal(n)
    return 1.1 * heights, centres + 0.05, 0.9 * rates, t, y


def _peaks(kit: Any, heights: Any, centres: Any, rates: Any, t: Any, y: Any) -> Any:
    z = t[:, None] - centres[None, :]
    return kit.np.exp(-rates[None, :] * z * z) @ heights - y


def _peaks_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def jacobian(heights, centres, rates, t, y):  # type: ignore[no-untyped-def]
        n, k = t.size, heights.size
        by_height, by_centre, by_rate = np.empty((n, k)), np.empty((n, k)), np.empty((n, k))
        for i in range(n):
            for j in range(k):
                z = t[i] - centres[j]
                e = np.exp(-rates[j] * z * z)
                peak = heights[j] * e
                by_height[i, j] = e
                by_centre[i, j] = 2.0 * rates[j] * z * peak
                by_rate[i, j] = -z * z * peak
        return by_height, by_centre, by_rate

    return jacobian


def _peaks_numpy() -> Any:
    def jacobian(heights: Any, centres: Any, rates: Any, t: Any, y: Any) -> Any:
        z = t[:, None] - centres
        by_height = z * z
        by_rate = -by_height
        by_height *= -rates
        np.exp(by_height, out=by_height)
        z *= 2.0 * rates * heights
        z *= by_height
        by_rate *= heights
        by_rate *= by_height
        return by_height, z, by_rate

    return jacobian


row(
    name="peaks_jacobian",
    title="residuals of a fit of peaks, (observations, peaks), Jacobian by 3 parameters of each peak",
    sizes=((50, 2), (1_000, 5), (50_000, 10)),
    setup=_peaks_data,
    function=_peaks,
    mode="jacobian",
    argnums=(0, 1, 2),
    hand={"numba": _peaks_numba, "numpy": _peaks_numpy},
    libraries=("jax", "torch"),  # autograd goes back once for each of the residuals
)


def _logistic_hessian_numba() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def hessian(w, x, signs):  # type: ignore[no-untyped-def]
        n, d = x.shape
        result = np.zeros((d, d))
        for i in range(n):
            z = 0.0
            for j in range(d):
                z += x[i, j] * w[j]
            e = np.exp(-abs(z))
            factor = e / ((1.0 + e) * (1.0 + e))
            for j in range(d):
                scaled = factor * x[i, j]
                for k in range(j + 1):
                    result[j, k] += scaled * x[i, k]
        for j in range(d):
            result[j, j] += PENALTY
            for k in range(j):
                result[k, j] = result[j, k]
        return result

    return hessian


def _logistic_hessian_numpy() -> Any:
    def hessian(w: Any, x: Any, signs: Any) -> Any:
        e = np.exp(-np.abs(x @ w))
        scaled = x * (np.sqrt(e) / (1.0 + e))[:, None]
        result = scaled.T @ scaled  # one operand twice: NumPy asks BLAS for one triangle
        result.flat[:: w.size + 1] += PENALTY
        return result

    return hessian


row(
    name="logistic_hessian",
    title="logistic regression, Hessian",
    sizes=((60, 5), (569, 30), (20_000, 50)),
    setup=observations,
    function=logistic,
    mode="hessian",
    hand={"numba": _logistic_hessian_numba, "numpy": _logistic_hessian_numpy},
)

"""Rows that fit models to data: a mixture, counts by group, classes, a small network, a matrix with gaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perf.row import row

FAST = frozenset(("reassoc", "contract", "nsz"))


def _mixture_data(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, k = size
    centres = np.linspace(-3.0, 3.0, k)
    y = centres[rng.integers(k, size=n)] + 0.5 * rng.standard_normal(n)
    return centres + 0.1, np.full(k, -0.3), np.zeros(k), y


def _mixture(kit: Any, means: Any, logs: Any, weights: Any, y: Any) -> Any:
    z = (y[:, None] - means[None, :]) * kit.np.exp(-logs)[None, :]
    parts = (weights - logs)[None, :] - 0.5 * z * z
    return -kit.np.sum(kit.logsumexp(parts, 1)) + y.shape[0] * kit.logsumexp(weights, 0)


def _mixture_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(means, logs, weights, y):  # type: ignore[no-untyped-def]
        n, k = y.size, means.size
        scales = np.exp(-logs)
        by_mean, by_log, by_weight, part, z = np.zeros(k), np.zeros(k), np.zeros(k), np.empty(k), np.empty(k)
        total = 0.0
        for i in range(n):
            top = -np.inf
            for j in range(k):
                z[j] = (y[i] - means[j]) * scales[j]
                part[j] = weights[j] - logs[j] - 0.5 * z[j] * z[j]
                top = max(top, part[j])
            below = 0.0
            for j in range(k):
                part[j] = np.exp(part[j] - top)
                below += part[j]
            total += top + np.log(below)
            for j in range(k):
                share = part[j] / below
                by_mean[j] -= share * z[j] * scales[j]
                by_log[j] += share * (1.0 - z[j] * z[j])
                by_weight[j] -= share
        top = weights.max()
        chances = np.exp(weights - top)
        below = chances.sum()
        for j in range(k):
            by_weight[j] += n * chances[j] / below
        return -total + n * (top + np.log(below)), by_mean, by_log, by_weight

    return value_and_gradient


row(
    name="mixture",
    title="mixture of Gaussians, (observations, components), log likelihood and gradient",
    sizes=((100, 3), (5_000, 8), (200_000, 8)),
    setup=_mixture_data,
    function=_mixture,
    mode="value_and_grad",
    argnums=(0, 1, 2),
    hand={"numba": _mixture_hand},
)


def _counts_data(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, groups = size
    group, x = rng.integers(groups, size=n), rng.standard_normal((n, 4))
    levels, slopes = 0.3 * rng.standard_normal(groups), np.array([0.2, -0.1, 0.3, 0.0])
    counts = rng.poisson(np.exp(levels[group] + x @ slopes)).astype(float)
    return 0.5 * levels, 0.5 * slopes, group, x, counts


def _counts(kit: Any, levels: Any, slopes: Any, group: Any, x: Any, counts: Any) -> Any:
    rate = kit.take(levels, group) + x @ slopes
    return kit.np.sum(kit.np.exp(rate) - counts * rate) + 0.5 * kit.np.sum(levels * levels)


def _counts_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(levels, slopes, group, x, counts):  # type: ignore[no-untyped-def]
        by_level, by_slope = levels.copy(), np.zeros(slopes.size)
        total = 0.0
        for i in range(levels.size):
            total += 0.5 * levels[i] * levels[i]
        for i in range(group.size):
            rate = levels[group[i]]
            for j in range(slopes.size):
                rate += x[i, j] * slopes[j]
            e = np.exp(rate)
            total += e - counts[i] * rate
            slope = e - counts[i]
            by_level[group[i]] += slope
            for j in range(slopes.size):
                by_slope[j] += slope * x[i, j]
        return total, by_level, by_slope

    return value_and_gradient


row(
    name="counts",
    title="Poisson regression with levels by group, (observations, groups), value and gradient",
    sizes=((100, 5), (10_000, 100), (500_000, 20_000)),
    setup=_counts_data,
    function=_counts,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": _counts_hand},
)


def _classes_data(size: tuple[int, int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, d, k = size
    x, w = rng.standard_normal((n, d)), rng.standard_normal((d, k)) / math.sqrt(d)
    chosen = np.argmax(x @ w + rng.gumbel(size=(n, k)), axis=1)
    return 0.5 * w, x, np.eye(k)[chosen]


def _classes(kit: Any, w: Any, x: Any, chosen: Any) -> Any:
    scores = x @ w
    return kit.np.sum(kit.logsumexp(scores, 1)) - kit.np.sum(scores * chosen)


def _classes_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def shares(scores, chosen):  # type: ignore[no-untyped-def]
        n, k = scores.shape
        total = 0.0
        for i in range(n):
            top = -np.inf
            for j in range(k):
                total -= scores[i, j] * chosen[i, j]
                top = max(top, scores[i, j])
            below = 0.0
            for j in range(k):
                scores[i, j] = np.exp(scores[i, j] - top)
                below += scores[i, j]
            total += top + np.log(below)
            for j in range(k):
                scores[i, j] = scores[i, j] / below - chosen[i, j]
        return total

    def value_and_gradient(w: Any, x: Any, chosen: Any) -> Any:
        scores = x @ w
        total = shares(scores, chosen)
        return total, x.T @ scores

    return value_and_gradient


row(
    name="classes",
    title="softmax regression, (observations, features, classes), value and gradient",
    sizes=((60, 4, 3), (2_000, 20, 10), (50_000, 50, 10)),
    setup=_classes_data,
    function=_classes,
    mode="value_and_grad",
    hand={"numba": _classes_hand},
)


def _network_data(size: tuple[int, int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, d, h = size
    x = rng.standard_normal((n, d))
    weights = rng.standard_normal((d, h)) / math.sqrt(d), 0.1 * rng.standard_normal(h), rng.standard_normal(h)
    return *weights, x, np.sin(x.sum(axis=1))


def _network(kit: Any, w: Any, b: Any, u: Any, x: Any, y: Any) -> Any:
    r = kit.np.tanh(x @ w + b) @ u - y
    return 0.5 * kit.np.sum(r * r)


def _network_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def inside(z, b, u, y, by_bias, by_output):  # type: ignore[no-untyped-def]
        n, h = z.shape
        total = 0.0
        for i in range(n):
            r = -y[i]
            for j in range(h):
                z[i, j] = np.tanh(z[i, j] + b[j])
                r += z[i, j] * u[j]
            total += 0.5 * r * r
            for j in range(h):
                t = z[i, j]
                by_output[j] += r * t
                z[i, j] = r * u[j] * (1.0 - t * t)
                by_bias[j] += z[i, j]
        return total

    def value_and_gradient(w: Any, b: Any, u: Any, x: Any, y: Any) -> Any:
        z = x @ w
        by_bias, by_output = np.zeros(b.size), np.zeros(u.size)
        total = inside(z, b, u, y, by_bias, by_output)
        return total, x.T @ z, by_bias, by_output

    return value_and_gradient


row(
    name="network",
    title="regression by a network with one layer, (observations, features, hidden), value and gradient",
    sizes=((50, 3, 8), (1_000, 10, 32), (50_000, 20, 64)),
    setup=_network_data,
    function=_network,
    mode="value_and_grad",
    argnums=(0, 1, 2),
    hand={"numba": _network_hand},
)


def _ratings(size: tuple[int, int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, people, rank = size
    things = people // 2
    u, v = rng.standard_normal((people, rank)), rng.standard_normal((things, rank))
    i, j = rng.integers(people, size=n), rng.integers(things, size=n)
    return 0.3 * u, 0.3 * v, i, j, (u[i] * v[j]).sum(axis=1) + 0.1 * rng.standard_normal(n)


def _factors(kit: Any, u: Any, v: Any, i: Any, j: Any, ratings: Any) -> Any:
    r = kit.np.sum(kit.take(u, i) * kit.take(v, j), -1) - ratings
    return 0.5 * kit.np.sum(r * r) + 0.05 * (kit.np.sum(u * u) + kit.np.sum(v * v))


def _factors_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(u, v, i, j, ratings):  # type: ignore[no-untyped-def]
        rank = u.shape[1]
        by_u, by_v = 0.1 * u, 0.1 * v
        total = 0.05 * ((u * u).sum() + (v * v).sum())
        for k in range(ratings.size):
            a, b = i[k], j[k]
            r = -ratings[k]
            for m in range(rank):
                r += u[a, m] * v[b, m]
            total += 0.5 * r * r
            for m in range(rank):
                by_u[a, m] += r * v[b, m]
                by_v[b, m] += r * u[a, m]
        return total, by_u, by_v

    return value_and_gradient


row(
    name="factors",
    title="factors of a matrix with gaps, (entries, rows, rank), value and gradient",
    sizes=((100, 20, 3), (20_000, 500, 8), (1_000_000, 10_000, 16)),
    setup=_ratings,
    function=_factors,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": _factors_hand},
)

"""Gradients of filters, recurrences and iterations as experts write them for Numba, like `perf.hand_simulation`'s."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perf.hand_simulation import FAST, Buffers

__all__ = ["kalman", "kepler", "lstm"]


def _small_matrices() -> tuple[Any, Any, Any]:
    """Products and the inverse of matrices too small for BLAS and LAPACK."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def product(out, a, b):  # type: ignore[no-untyped-def]
        """out = a @ b."""
        for i in range(a.shape[0]):
            for j in range(b.shape[1]):
                out[i, j] = a[i, 0] * b[0, j]
            for k in range(1, a.shape[1]):
                factor = a[i, k]
                for j in range(b.shape[1]):
                    out[i, j] += factor * b[k, j]

    @njit(error_model="numpy", fastmath=set(FAST))
    def add_product(out, a, b, scale):  # type: ignore[no-untyped-def]
        """out += scale * a.T @ b."""
        for k in range(a.shape[0]):
            for i in range(a.shape[1]):
                factor = scale * a[k, i]
                for j in range(b.shape[1]):
                    out[i, j] += factor * b[k, j]

    @njit(error_model="numpy", fastmath=set(FAST))
    def invert(s, factor, inverse):  # type: ignore[no-untyped-def]
        """The inverse of a positive definite matrix and half the logarithm of its determinant."""
        m = s.shape[0]
        half = 0.0
        for j in range(m):
            for i in range(j, m):
                total = s[i, j]
                for k in range(j):
                    total -= factor[i, k] * factor[j, k]
                factor[i, j] = np.sqrt(total) if i == j else total / factor[j, j]
            half += np.log(factor[j, j])
        for c in range(m):
            for i in range(m):
                total = 1.0 if i == c else 0.0
                for k in range(i):
                    total -= factor[i, k] * inverse[k, c]
                inverse[i, c] = total / factor[i, i]
            for i in range(m - 1, -1, -1):
                total = inverse[i, c]
                for k in range(i + 1, m):
                    total -= factor[k, i] * inverse[k, c]
                inverse[i, c] = total / factor[i, i]
        return half

    return product, add_product, invert


def kalman() -> Any:
    """Negative log likelihood and gradient of a Kalman filter; every step's gain and what made it are kept.

    Covariances are symmetric, and so are their cotangents, of which the backward sweep makes use.
    """
    from numba import njit

    product, add_product, invert = _small_matrices()

    @njit(error_model="numpy", fastmath=set(FAST))
    def forward(a, at, q, r, h, ht, ys, kept, work):  # type: ignore[no-untyped-def]
        means, carried, seen, gains, inverses, errors, weights = kept
        cov, moved, _, s, factor, _ = work
        d, m = a.shape[0], ys.shape[1]
        for i in range(d):
            means[0, i] = 0.0
            for j in range(d):
                cov[i, j] = 1.0 if i == j else 0.0
        total = 0.0
        for t in range(ys.shape[0]):
            mean, new, hp, inverse = means[t], means[t + 1], seen[t], inverses[t]
            product(carried[t], a, cov)
            product(moved, carried[t], at)
            for i in range(d):
                moved[i, i] += q
                new[i] = 0.0
                for k in range(d):
                    new[i] += a[i, k] * mean[k]
            product(hp, h, moved)
            product(s, hp, ht)
            for i in range(m):
                s[i, i] += r
                errors[t, i] = ys[t, i]
                for k in range(d):
                    errors[t, i] -= h[i, k] * new[k]
            total += invert(s, factor, inverse)
            product(gains[t], inverse, hp)
            for i in range(m):
                weight = 0.0
                for k in range(m):
                    weight += inverse[i, k] * errors[t, k]
                weights[t, i] = weight
                total += 0.5 * errors[t, i] * weight
                for k in range(d):
                    new[k] += hp[i, k] * weight
            for i in range(d):
                for j in range(d):
                    cov[i, j] = moved[i, j]
            add_product(cov, hp, gains[t], -1.0)
        return total

    @njit(error_model="numpy", fastmath=set(FAST))
    def backward(a, at, h, kept, work):  # type: ignore[no-untyped-def]
        means, carried, seen, gains, inverses, errors, weights = kept
        by_cov, other, by_hp, by_s, _, vectors = work
        d, m = a.shape[0], errors.shape[1]
        by_mean, by_new, by_weight, solved = vectors[0], vectors[1], vectors[2], vectors[3]
        by_a, by_noises = np.zeros((d, d)), np.zeros(2)
        for i in range(d):
            by_mean[i] = 0.0
            for j in range(d):
                by_cov[i, j] = 0.0
        for t in range(errors.shape[0] - 1, -1, -1):
            gain, hp, inverse, weight = gains[t], seen[t], inverses[t], weights[t]
            product(by_hp, gain, by_cov)
            for i in range(m):
                by_weight[i] = 0.5 * errors[t, i]
                for k in range(d):
                    by_weight[i] += hp[i, k] * by_mean[k]
            for i in range(m):
                solved[i] = 0.0
                for k in range(m):
                    solved[i] += inverse[i, k] * by_weight[k]
            for i in range(m):
                for j in range(m):
                    slope = 0.5 * (inverse[i, j] - solved[i] * weight[j] - weight[i] * solved[j])
                    for k in range(d):
                        slope += by_hp[i, k] * gain[j, k]
                    by_s[i, j] = slope
                by_noises[1] += by_s[i, i]
            for i in range(m):
                for k in range(d):
                    by_hp[i, k] = weight[i] * by_mean[k] - 2.0 * by_hp[i, k]
                    for j in range(m):
                        by_hp[i, k] += by_s[i, j] * h[j, k]
            # Half of it on either side of the diagonal: by_cov stays symmetric.
            add_product(by_cov, h, by_hp, 0.5)
            add_product(by_cov, by_hp, h, 0.5)
            for k in range(d):
                by_new[k] = by_mean[k]
                for i in range(m):
                    by_new[k] -= h[i, k] * (solved[i] + 0.5 * weight[i])
                by_noises[0] += by_cov[k, k]
            for k in range(d):
                by_mean[k] = 0.0
            for i in range(d):
                for k in range(d):
                    by_a[i, k] += by_new[i] * means[t, k]
                    by_mean[k] += by_new[i] * a[i, k]
            # by_cov is symmetric, so this adds 2 by_cov @ a @ cov.
            add_product(by_a, by_cov, carried[t], 2.0)
            product(other, by_cov, a)
            product(by_cov, at, other)
        return by_a, by_noises

    def make(steps: int, d: int, m: int) -> tuple[Any, ...]:
        shapes = (steps + 1, d), (steps, d, d), (steps, m, d), (steps, m, d), (steps, m, m), (steps, m), (steps, m)
        scratch = (d, d), (d, d), (m, d), (m, m), (m, m), (4, max(d, m))
        return tuple(map(np.empty, shapes)), tuple(map(np.empty, scratch))

    buffers = Buffers(make)

    def value_and_gradient(a: Any, noises: Any, h: Any, ys: Any) -> Any:
        kept, work = buffers(ys.shape[0], *h.shape[::-1])
        at, variances = a.T.copy(), np.exp(noises)
        total = forward(a, at, variances[0], variances[1], h, h.T.copy(), ys, kept, work)
        by_a, by_noises = backward(a, at, h, kept, work)
        return total + 0.5 * math.log(2.0 * math.pi) * ys.size, (by_a, by_noises * variances)

    return value_and_gradient


def lstm() -> Any:
    """Value and gradient of an LSTM: the products that need no state are done for all steps at once, by BLAS."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def forward(u, b, gates, cells, hiddens, product):  # type: ignore[no-untyped-def]
        steps, batch, n = cells.shape[0] - 1, cells.shape[1], cells.shape[2]
        for t in range(steps):
            np.dot(hiddens[t], u, product)
            for i in range(batch):
                g, old, new, hidden, p = gates[t, i], cells[t, i], cells[t + 1, i], hiddens[t + 1, i], product[i]
                for k in range(3 * n):
                    g[k] = 1.0 / (1.0 + np.exp(-(g[k] + p[k] + b[k])))
                for k in range(3 * n, 4 * n):
                    g[k] = np.tanh(g[k] + p[k] + b[k])
                for k in range(n):
                    new[k] = g[k + n] * old[k] + g[k] * g[k + 3 * n]
                    hidden[k] = g[k + 2 * n] * np.tanh(new[k])

    @njit(error_model="numpy", fastmath=set(FAST))
    def backward(ut, gates, cells, by_gates, by_hidden, by_cell):  # type: ignore[no-untyped-def]
        steps, batch, n = cells.shape[0] - 1, cells.shape[1], cells.shape[2]
        for t in range(steps - 1, -1, -1):
            for i in range(batch):
                g, back, old, new = gates[t, i], by_gates[t, i], cells[t, i], cells[t + 1, i]
                by_h, by_c = by_hidden[i], by_cell[i]
                for k in range(n):
                    enter, forget, out, add = g[k], g[k + n], g[k + 2 * n], g[k + 3 * n]
                    squashed = np.tanh(new[k])
                    slope = by_c[k] + by_h[k] * out * (1.0 - squashed * squashed)
                    back[k] = slope * add * enter * (1.0 - enter)
                    back[k + n] = slope * old[k] * forget * (1.0 - forget)
                    back[k + 2 * n] = by_h[k] * squashed * out * (1.0 - out)
                    back[k + 3 * n] = slope * enter * (1.0 - add * add)
                    by_c[k] = slope * forget
            np.dot(by_gates[t], ut, by_hidden)

    def make(steps: int, batch: int, n: int) -> tuple[Any, ...]:
        shapes = (steps, batch, 4 * n), (steps + 1, batch, n), (steps + 1, batch, n), (batch, 4 * n)
        shapes += (steps, batch, 4 * n), (batch, n), (batch, n)
        return tuple(map(np.empty, shapes))

    buffers = Buffers(make)

    def value_and_gradient(w: Any, u: Any, b: Any, xs: Any, target: Any) -> Any:
        steps, batch, width = xs.shape
        n = u.shape[0]
        gates, cells, hiddens, product, by_gates, by_hidden, by_cell = buffers(steps, batch, n)
        cells[0], hiddens[0], by_cell[:] = 0.0, 0.0, 0.0
        flat = xs.reshape(-1, width)
        np.dot(flat, w, gates.reshape(-1, 4 * n))
        forward(u, b, gates, cells, hiddens, product)
        error = hiddens[steps] - target
        np.multiply(error, 2.0 / error.size, by_hidden)
        backward(np.ascontiguousarray(u.T), gates, cells, by_gates, by_hidden, by_cell)
        rows = by_gates.reshape(-1, 4 * n)
        by_u = hiddens[:steps].reshape(-1, n).T @ rows
        return np.mean(error * error), (flat.T @ rows, by_u, rows.sum(axis=0))

    return value_and_gradient


def kepler(tolerance: float) -> Any:
    """Value and gradient of a fit with Kepler's equation by Newton's method; the iterates are kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(p, means, observed, kept):  # type: ignore[no-untyped-def]
        e, phase, size = p
        n = means.size
        for i in range(n):
            kept[0, i] = means[i] + phase
        trips, largest = 0, 1.0
        while largest > tolerance:
            largest = 0.0
            for i in range(n):
                x = kept[trips, i]
                step = (x - e * np.sin(x) - means[i] - phase) / (1.0 - e * np.cos(x))
                kept[trips + 1, i] = x - step
                largest = max(largest, abs(step))
            trips += 1
        total = by_e = by_phase = by_size = 0.0
        for i in range(n):
            x = kept[trips, i]
            cosine = np.cos(x)
            error = size * cosine - observed[i]
            total += error * error
            by_size += error * cosine
            back = -error * size * np.sin(x)
            for t in range(trips - 1, -1, -1):
                x = kept[t, i]
                sine, cosine = np.sin(x), np.cos(x)
                inverse = 1.0 / (1.0 - e * cosine)
                step = (x - e * sine - means[i] - phase) * inverse
                by_e += back * inverse * (sine - step * cosine)
                by_phase += back * inverse
                back *= step * inverse * e * sine
            by_phase += back
        return total / n, 2.0 / n * np.array([by_e, by_phase, by_size])

    buffers = Buffers(lambda n: (np.empty((100, n)),))
    return lambda p, means, observed: sweep(p, means.reshape(-1), observed.reshape(-1), *buffers(means.size))

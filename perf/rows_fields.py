"""Rows of physics and of test functions: fields on lattices, images, pairs of particles, sums of many terms."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.row import row
from perf.rows_models import FAST, SOFTENING, pair_energy, particles

MASS, COUPLING = 0.4, 0.1


def _field(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (rng.standard_normal((size, size)),)


def _action(kit: Any, phi: Any) -> Any:
    down, right = phi - kit.roll(phi, 1, 0), phi - kit.roll(phi, 1, 1)
    square = phi * phi
    return kit.np.sum(0.5 * (down * down + right * right) + 0.5 * MASS * square + COUPLING * square * square)


def _action_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(phi):  # type: ignore[no-untyped-def]
        n, m = phi.shape
        slope = np.empty((n, m))
        total = 0.0
        for i in range(n):
            above, below = phi[i - 1 if i else n - 1], phi[i + 1 if i + 1 < n else 0]
            here = phi[i]
            for j in range(1, m - 1):
                p = here[j]
                a, b, square = p - above[j], p - here[j - 1], p * p
                total += 0.5 * (a * a + b * b) + 0.5 * MASS * square + COUPLING * square * square
                slope[i, j] = 4.0 * p - above[j] - below[j] - here[j - 1] - here[j + 1] + MASS * p + (
                    4.0 * COUPLING) * square * p
            for j in (0, m - 1):
                p, before, after = here[j], here[j - 1 if j else m - 1], here[j + 1 if j + 1 < m else 0]
                a, b, square = p - above[j], p - before, p * p
                total += 0.5 * (a * a + b * b) + 0.5 * MASS * square + COUPLING * square * square
                slope[i, j] = 4.0 * p - above[j] - below[j] - before - after + MASS * p + 4.0 * COUPLING * square * p
        return total, slope

    return value_and_gradient


row(
    name="lattice",
    title="action of a field on a periodic lattice, n x n, value and gradient",
    sizes=(8, 128, 2_000),
    setup=_field,
    function=_action,
    mode="value_and_grad",
    hand={"numba": _action_hand},
)

ROUND = 1e-3


def _image(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    at = np.arange(size)
    seen = np.add.outer(1.0 * (at > size // 3), 1.0 * (at > size // 2)) + 0.1 * rng.standard_normal((size, size))
    return 0.5 * seen, seen


def _variation(kit: Any, u: Any, seen: Any) -> Any:
    down, right = u[1:, :-1] - u[:-1, :-1], u[:-1, 1:] - u[:-1, :-1]
    r = u - seen
    return 0.5 * kit.np.sum(r * r) + 0.2 * kit.np.sum(kit.np.sqrt(down * down + right * right + ROUND))


def _variation_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(u, seen):  # type: ignore[no-untyped-def]
        n, m = u.shape
        slope = np.empty((n, m))
        total = 0.0
        for i in range(n):
            for j in range(m):
                r = u[i, j] - seen[i, j]
                total += 0.5 * r * r
                slope[i, j] = r
        edges = 0.0
        for i in range(n - 1):
            for j in range(m - 1):
                a, b = u[i + 1, j] - u[i, j], u[i, j + 1] - u[i, j]
                length = np.sqrt(a * a + b * b + ROUND)
                edges += length
                a, b = 0.2 * a / length, 0.2 * b / length
                slope[i, j] -= a + b
                slope[i + 1, j] += a
                slope[i, j + 1] += b
        return total + 0.2 * edges, slope

    return value_and_gradient


row(
    name="variation",
    title="smoothed total variation of an image, n x n, value and gradient",
    sizes=(8, 128, 2_000),
    setup=_image,
    function=_variation,
    mode="value_and_grad",
    hand={"numba": _variation_hand},
)


def _point(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (1.0 + 0.1 * rng.standard_normal(size),)


def _point_and_vector(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return 1.0 + 0.1 * rng.standard_normal(size), rng.standard_normal(size)


def _valley(kit: Any, x: Any) -> Any:
    a, b = x[1:] - x[:-1] * x[:-1], 1.0 - x[:-1]
    return kit.np.sum(100.0 * a * a + b * b)


def _valley_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(x):  # type: ignore[no-untyped-def]
        n = x.size
        slope = np.empty(n)
        total, before = 0.0, 0.0
        for i in range(n - 1):
            a, b = x[i + 1] - x[i] * x[i], 1.0 - x[i]
            total += 100.0 * a * a + b * b
            slope[i] = before - 400.0 * a * x[i] - 2.0 * b
            before = 200.0 * a
        slope[n - 1] = before
        return total, slope

    return value_and_gradient


row(
    name="rosenbrock",
    title="Rosenbrock's function, value and gradient",
    sizes=(10, 10_000, 1_000_000),
    setup=_point,
    function=_valley,
    mode="value_and_grad",
    hand={"numba": _valley_hand},
)


def _valley_product_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def product(x, v):  # type: ignore[no-untyped-def]
        n = x.size
        result = np.empty(n)
        before = 0.0
        for i in range(n - 1):
            a = x[i + 1] - x[i] * x[i]
            moved = v[i + 1] - 2.0 * x[i] * v[i]
            result[i] = before - 400.0 * (moved * x[i] + a * v[i]) + 2.0 * v[i]
            before = 200.0 * moved
        result[n - 1] = before
        return result

    return product


row(
    name="rosenbrock_hvp",
    title="Rosenbrock's function, Hessian-vector product",
    sizes=(10, 10_000, 1_000_000),
    setup=_point_and_vector,
    function=_valley,
    mode="hvp",
    hand={"numba": _valley_product_hand},
)


def _particles_and_vector(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    p, q = particles(size, rng)
    return p, rng.standard_normal(p.shape), q


def _pairs_product_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def run(x, y, z, vx, vy, vz, q):  # type: ignore[no-untyped-def]
        n = q.size
        rx, ry, rz = np.zeros(n), np.zeros(n), np.zeros(n)
        for i in range(n):
            fx = fy = fz = 0.0
            for j in range(i + 1, n):
                dx, dy, dz = x[i] - x[j], y[i] - y[j], z[i] - z[j]
                wx, wy, wz = vx[i] - vx[j], vy[i] - vy[j], vz[i] - vz[j]
                inverse = 1.0 / (dx * dx + dy * dy + dz * dz + SOFTENING)
                factor = q[i] * q[j] * inverse * np.sqrt(inverse)
                along = 3.0 * inverse * factor * (dx * wx + dy * wy + dz * wz)
                ax, ay, az = along * dx - factor * wx, along * dy - factor * wy, along * dz - factor * wz
                fx += ax
                fy += ay
                fz += az
                rx[j] -= ax
                ry[j] -= ay
                rz[j] -= az
            rx[i] += fx
            ry[i] += fy
            rz[i] += fz
        return rx, ry, rz

    def product(p: Any, v: Any, q: Any) -> Any:
        return np.stack(run(*np.ascontiguousarray(p.T), *np.ascontiguousarray(v.T), q), axis=-1)

    return product


row(
    name="all_pairs_hvp",
    title="energy of all pairs of particles, Hessian-vector product",
    sizes=(50, 500, 2_000),
    setup=_particles_and_vector,
    function=pair_energy,
    mode="hvp",
    hand={"numba": _pairs_product_hand},
)

USES = 200
FACTORS = 0.5 + 0.005 * np.arange(USES)


def _many_uses(kit: Any, x: Any) -> Any:
    total = 0.0
    for factor in FACTORS:
        total = total + kit.np.sum(kit.np.sin(x * float(factor)))
    return total


def _many_uses_hand() -> Any:
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def value_and_gradient(x):  # type: ignore[no-untyped-def]
        slope = np.zeros(x.size)
        total = 0.0
        for first in range(0, x.size, 512):
            last = min(x.size, first + 512)
            for k in range(USES):
                factor = FACTORS[k]
                for i in range(first, last):
                    z = x[i] * factor
                    total += np.sin(z)
                    slope[i] += factor * np.cos(z)
        return total, slope

    return value_and_gradient


row(
    name="many_uses",
    title="200 terms sum(sin(c x)) of one array, value and gradient",
    sizes=(10, 1_000, 100_000),
    setup=_point,
    function=_many_uses,
    mode="value_and_grad",
    hand={"numba": _many_uses_hand},
    tolerance=1e-8,
)

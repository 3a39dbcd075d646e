"""Gradients of simulations as an expert writes them for Numba: states kept in buffers of their own, swept backwards.

Each factory gives ``f(*arguments)`` for a row of `perf.rows_loops`; buffers are made once for a size and used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Buffers", "bodies", "pendulum", "pendulum_product", "plate", "rod", "rod_product"]

FAST = frozenset(("reassoc", "contract", "nsz"))
HALVES = (0.0, 0.5, 0.5, 1.0, 0.0)
WEIGHTS = (1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0)


class Buffers:
    """Scratch arrays of the last sizes asked for."""

    def __init__(self, make: Callable[..., tuple[Any, ...]]) -> None:
        self._make, self._sizes = make, ()
        self._arrays: tuple[Any, ...] = ()

    def __call__(self, *sizes: Any) -> tuple[Any, ...]:
        if sizes != self._sizes:
            self._arrays, self._sizes = self._make(*sizes), sizes
        return self._arrays


def pendulum(h: float) -> Any:
    """Value and gradient of the pendulum; angles, speeds and sines of all stages are kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(p, observed, angles, speeds, sines, errors):  # type: ignore[no-untyped-def]
        damping, gravity, a, w = p
        steps = observed.size
        total = 0.0
        for t in range(steps):
            ka = kw = moved = pushed = 0.0
            for j in range(4):
                angle = a + h * HALVES[j] * ka
                speed = w + h * HALVES[j] * kw
                sine = np.sin(angle)
                angles[t, j], speeds[t, j], sines[t, j] = angle, speed, sine
                ka = speed
                kw = -damping * speed - gravity * sine
                moved += WEIGHTS[j] * ka
                pushed += WEIGHTS[j] * kw
            a += h * moved
            w += h * pushed
            errors[t] = a - observed[t]
            total += errors[t] * errors[t]
        by_damping = by_gravity = by_a = by_w = 0.0
        for t in range(steps - 1, -1, -1):
            by_a += 2.0 / steps * errors[t]
            new_a, new_w = by_a, by_w
            next_a = next_w = 0.0
            for j in range(3, -1, -1):
                by_ka = h * (WEIGHTS[j] * by_a + HALVES[j + 1] * next_a)
                by_kw = h * (WEIGHTS[j] * by_w + HALVES[j + 1] * next_w)
                by_damping -= speeds[t, j] * by_kw
                by_gravity -= sines[t, j] * by_kw
                next_a = -gravity * np.cos(angles[t, j]) * by_kw
                next_w = by_ka - damping * by_kw
                new_a += next_a
                new_w += next_w
            by_a, by_w = new_a, new_w
        return total / steps, np.array([by_damping, by_gravity, by_a, by_w])

    buffers = Buffers(lambda n: (np.empty((n, 4)), np.empty((n, 4)), np.empty((n, 4)), np.empty(n)))
    return lambda p, observed: sweep(p, observed, *buffers(observed.size))


def pendulum_product(h: float) -> Any:
    """Hessian-vector product of the pendulum: the sweep above and its tangent, side by side."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(p, v, observed, kept, errors):  # type: ignore[no-untyped-def]
        damping, gravity, a, w = p
        d_damping, d_gravity, da, dw = v
        steps = observed.size
        for t in range(steps):
            ka = kw = dka = dkw = moved = pushed = d_moved = d_pushed = 0.0
            for j in range(4):
                angle, d_angle = a + h * HALVES[j] * ka, da + h * HALVES[j] * dka
                speed, d_speed = w + h * HALVES[j] * kw, dw + h * HALVES[j] * dkw
                sine, cosine = np.sin(angle), np.cos(angle)
                kept[t, j, 0], kept[t, j, 1], kept[t, j, 2] = sine, cosine, speed
                kept[t, j, 3], kept[t, j, 4] = d_angle, d_speed
                ka, dka = speed, d_speed
                kw = -damping * speed - gravity * sine
                dkw = -d_damping * speed - damping * d_speed - d_gravity * sine - gravity * cosine * d_angle
                moved += WEIGHTS[j] * ka
                pushed += WEIGHTS[j] * kw
                d_moved += WEIGHTS[j] * dka
                d_pushed += WEIGHTS[j] * dkw
            a += h * moved
            w += h * pushed
            da += h * d_moved
            dw += h * d_pushed
            errors[t, 0], errors[t, 1] = a - observed[t], da
        by_a = by_w = d_by_a = d_by_w = r_damping = r_gravity = 0.0
        for t in range(steps - 1, -1, -1):
            by_a += 2.0 / steps * errors[t, 0]
            d_by_a += 2.0 / steps * errors[t, 1]
            new_a, new_w, d_new_a, d_new_w = by_a, by_w, d_by_a, d_by_w
            next_a = next_w = d_next_a = d_next_w = 0.0
            for j in range(3, -1, -1):
                sine, cosine, speed = kept[t, j, 0], kept[t, j, 1], kept[t, j, 2]
                d_angle, d_speed = kept[t, j, 3], kept[t, j, 4]
                by_ka = h * (WEIGHTS[j] * by_a + HALVES[j + 1] * next_a)
                by_kw = h * (WEIGHTS[j] * by_w + HALVES[j + 1] * next_w)
                d_by_ka = h * (WEIGHTS[j] * d_by_a + HALVES[j + 1] * d_next_a)
                d_by_kw = h * (WEIGHTS[j] * d_by_w + HALVES[j + 1] * d_next_w)
                r_damping -= d_speed * by_kw + speed * d_by_kw
                r_gravity -= cosine * d_angle * by_kw + sine * d_by_kw
                next_a = -gravity * cosine * by_kw
                d_next_a = gravity * (sine * d_angle * by_kw - cosine * d_by_kw) - d_gravity * cosine * by_kw
                next_w = by_ka - damping * by_kw
                d_next_w = d_by_ka - d_damping * by_kw - damping * d_by_kw
                new_a += next_a
                new_w += next_w
                d_new_a += d_next_a
                d_new_w += d_next_w
            by_a, by_w, d_by_a, d_by_w = new_a, new_w, d_new_a, d_new_w
        return np.array([r_damping, r_gravity, d_by_a, d_by_w])

    buffers = Buffers(lambda n: (np.empty((n, 4, 5)), np.empty((n, 2))))
    return lambda p, v, observed: sweep(p, v, observed, *buffers(observed.size))


def rod(h: float) -> Any:
    """Value and gradient of the rod's heat by conductivities and first temperatures; all temperatures are kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(k, target, steps, kept, back, by_k):  # type: ignore[no-untyped-def]
        n = target.size
        for t in range(steps):
            u, new = kept[t], kept[t + 1]
            new[0] = u[0] + h * k[0] * (u[1] - u[0])
            for i in range(1, n - 1):
                new[i] = u[i] + h * (k[i] * (u[i + 1] - u[i]) - k[i - 1] * (u[i] - u[i - 1]))
            new[n - 1] = u[n - 1] - h * k[n - 2] * (u[n - 1] - u[n - 2])
        total = 0.0
        for i in range(n):
            error = kept[steps, i] - target[i]
            total += error * error
            back[0, i] = 2.0 / n * error
        for t in range(steps - 1, -1, -1):
            u, old, new = kept[t], back[(steps - 1 - t) % 2], back[(steps - t) % 2]
            for i in range(n - 1):
                by_k[i] += h * (old[i] - old[i + 1]) * (u[i + 1] - u[i])
            new[0] = old[0] + h * k[0] * (old[1] - old[0])
            for i in range(1, n - 1):
                new[i] = old[i] + h * (k[i] * (old[i + 1] - old[i]) - k[i - 1] * (old[i] - old[i - 1]))
            new[n - 1] = old[n - 1] - h * k[n - 2] * (old[n - 1] - old[n - 2])
        return total / n

    buffers = Buffers(lambda n, steps: (np.empty((steps + 1, n)), np.empty((2, n)), np.empty(n - 1)))

    def value_and_gradient(k: Any, first: Any, target: Any, steps: Any) -> Any:
        kept, back, by_k = buffers(first.size, steps.size)
        kept[0], by_k[:] = first, 0.0
        value = sweep(k, target, steps.size, kept, back, by_k)
        return value, (by_k.copy(), back[steps.size % 2].copy())

    return value_and_gradient


def rod_product(h: float) -> Any:
    """Hessian-vector product of the rod by conductivities; temperatures and their tangents are kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def flow(new, u, k, n):  # type: ignore[no-untyped-def]
        new[0] = u[0] + h * k[0] * (u[1] - u[0])
        for i in range(1, n - 1):
            new[i] = u[i] + h * (k[i] * (u[i + 1] - u[i]) - k[i - 1] * (u[i] - u[i - 1]))
        new[n - 1] = u[n - 1] - h * k[n - 2] * (u[n - 1] - u[n - 2])

    @njit(error_model="numpy", fastmath=set(FAST))
    def flow_both(new, d_new, u, du, k, dk, n):  # type: ignore[no-untyped-def]
        flow(new, u, k, n)
        d_new[0] = du[0] + h * (k[0] * (du[1] - du[0]) + dk[0] * (u[1] - u[0]))
        for i in range(1, n - 1):
            right = k[i] * (du[i + 1] - du[i]) + dk[i] * (u[i + 1] - u[i])
            left = k[i - 1] * (du[i] - du[i - 1]) + dk[i - 1] * (u[i] - u[i - 1])
            d_new[i] = du[i] + h * (right - left)
        right = k[n - 2] * (du[n - 1] - du[n - 2]) + dk[n - 2] * (u[n - 1] - u[n - 2])
        d_new[n - 1] = du[n - 1] - h * right

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(k, dk, target, steps, kept, d_kept, back, d_back):  # type: ignore[no-untyped-def]
        n = target.size
        for t in range(steps):
            flow_both(kept[t + 1], d_kept[t + 1], kept[t], d_kept[t], k, dk, n)
        for i in range(n):
            back[0, i] = 2.0 / n * (kept[steps, i] - target[i])
            d_back[0, i] = 2.0 / n * d_kept[steps, i]
        result = np.zeros(n - 1)
        for t in range(steps - 1, -1, -1):
            u, du, now, then = kept[t], d_kept[t], (steps - 1 - t) % 2, (steps - t) % 2
            old, d_old = back[now], d_back[now]
            for i in range(n - 1):
                change = (d_old[i] - d_old[i + 1]) * (u[i + 1] - u[i]) + (old[i] - old[i + 1]) * (du[i + 1] - du[i])
                result[i] += h * change
            flow_both(back[then], d_back[then], old, d_old, k, dk, n)
        return result

    buffers = Buffers(
        lambda n, steps: (np.empty((steps + 1, n)), np.empty((steps + 1, n)), np.empty((2, n)), np.empty((2, n)))
    )

    def product(k: Any, v: Any, first: Any, target: Any, steps: Any) -> Any:
        kept, d_kept, back, d_back = buffers(first.size, steps.size)
        kept[0], d_kept[0] = first, 0.0
        return sweep(k, v, target, steps.size, kept, d_kept, back, d_back)

    return product


def plate(h: float) -> Any:
    """Value and gradient of the plate's heat by two conductivities and the first temperatures, which are all kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def flow(new, u, across, along):  # type: ignore[no-untyped-def]
        n, m = u.shape
        centre = 1.0 - 2.0 * (across + along)
        for i in range(n):
            here, above, below, out = u[i], u[i - 1 if i else n - 1], u[i + 1 if i < n - 1 else 0], new[i]
            out[0] = centre * here[0] + across * (above[0] + below[0]) + along * (here[m - 1] + here[1])
            for j in range(1, m - 1):
                out[j] = centre * here[j] + across * (above[j] + below[j]) + along * (here[j - 1] + here[j + 1])
            out[m - 1] = centre * here[m - 1] + across * (above[m - 1] + below[m - 1]) + along * (here[m - 2] + here[0])

    @njit(error_model="numpy", fastmath=set(FAST))
    def slopes(back, u):  # type: ignore[no-untyped-def]
        n, m = u.shape
        by_across = by_along = 0.0
        for i in range(n):
            here, above, below, b = u[i], u[i - 1 if i else n - 1], u[i + 1 if i < n - 1 else 0], back[i]
            for j in range(m):
                by_across += b[j] * (above[j] + below[j] - 2.0 * here[j])
            by_along += b[0] * (here[m - 1] + here[1] - 2.0 * here[0])
            for j in range(1, m - 1):
                by_along += b[j] * (here[j - 1] + here[j + 1] - 2.0 * here[j])
            by_along += b[m - 1] * (here[m - 2] + here[0] - 2.0 * here[m - 1])
        return by_across, by_along

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(k, target, steps, kept, back):  # type: ignore[no-untyped-def]
        across, along = h * k[0], h * k[1]
        n, m = target.shape
        for t in range(steps):
            flow(kept[t + 1], kept[t], across, along)
        total = 0.0
        for i in range(n):
            for j in range(m):
                error = kept[steps, i, j] - target[i, j]
                total += error * error
                back[0, i, j] = 2.0 / (n * m) * error
        by_k = np.zeros(2)
        for t in range(steps - 1, -1, -1):
            old = back[(steps - 1 - t) % 2]
            by_across, by_along = slopes(old, kept[t])
            by_k[0] += h * by_across
            by_k[1] += h * by_along
            flow(back[(steps - t) % 2], old, across, along)
        return total / (n * m), by_k

    buffers = Buffers(lambda shape, steps: (np.empty((steps + 1, *shape)), np.empty((2, *shape))))

    def value_and_gradient(k: Any, first: Any, target: Any, steps: Any) -> Any:
        kept, back = buffers(first.shape, steps.size)
        kept[0] = first
        value, by_k = sweep(k, target, steps.size, kept, back)
        return value, (by_k, back[steps.size % 2].copy())

    return value_and_gradient


def bodies(h: float, softening: float) -> Any:
    """Value and gradient of particles that attract each other; the positions at which forces act are kept."""
    from numba import njit

    @njit(error_model="numpy", fastmath=set(FAST))
    def sweep(x, v, masses, target, steps, kept, speed, by_x, by_v, force):  # type: ignore[no-untyped-def]
        n = masses.size
        for i in range(n):
            for c in range(3):
                kept[0, c, i], speed[c, i] = x[c, i] + 0.5 * h * v[c, i], v[c, i]
        for t in range(steps):
            p, px, py, pz = kept[t], kept[t, 0], kept[t, 1], kept[t, 2]
            for i in range(n):
                xi, yi, zi, ax, ay, az = px[i], py[i], pz[i], 0.0, 0.0, 0.0
                for j in range(n):
                    dx, dy, dz = px[j] - xi, py[j] - yi, pz[j] - zi
                    inverse = 1.0 / (dx * dx + dy * dy + dz * dz + softening)
                    w = masses[j] * inverse * np.sqrt(inverse)
                    ax += w * dx
                    ay += w * dy
                    az += w * dz
                speed[0, i] += h * ax
                speed[1, i] += h * ay
                speed[2, i] += h * az
            # The second half of this step and the first of the next.
            move = h if t < steps - 1 else 0.5 * h
            for c in range(3):
                for i in range(n):
                    kept[t + 1, c, i] = p[c, i] + move * speed[c, i]
        total = 0.0
        for i in range(n):
            for c in range(3):
                error = kept[steps, c, i] - target[c, i]
                total += error * error
                by_x[c, i], by_v[c, i] = 2.0 * error, 0.0
        for t in range(steps - 1, -1, -1):
            px, py, pz = kept[t, 0], kept[t, 1], kept[t, 2]
            move = h if t < steps - 1 else 0.5 * h
            for c in range(3):
                for i in range(n):
                    by_v[c, i] += move * by_x[c, i]
                    force[c, i] = h * by_v[c, i]
            fx, fy, fz = force[0], force[1], force[2]
            for i in range(n):
                xi, yi, zi, mi, gx, gy, gz = px[i], py[i], pz[i], masses[i], 0.0, 0.0, 0.0
                bx, by, bz = fx[i], fy[i], fz[i]
                for j in range(n):
                    dx, dy, dz = px[j] - xi, py[j] - yi, pz[j] - zi
                    ux = masses[j] * bx - mi * fx[j]
                    uy = masses[j] * by - mi * fy[j]
                    uz = masses[j] * bz - mi * fz[j]
                    inverse = 1.0 / (dx * dx + dy * dy + dz * dz + softening)
                    w = inverse * np.sqrt(inverse)
                    along = 3.0 * w * inverse * (ux * dx + uy * dy + uz * dz)
                    gx += along * dx - w * ux
                    gy += along * dy - w * uy
                    gz += along * dz - w * uz
                by_x[0, i] += gx
                by_x[1, i] += gy
                by_x[2, i] += gz
        for c in range(3):
            for i in range(n):
                by_v[c, i] += 0.5 * h * by_x[c, i]
        return total

    def make(n: int, steps: int) -> tuple[Any, ...]:
        return (np.empty((steps + 1, 3, n)), *[np.empty((3, n)) for _ in range(4)])

    buffers = Buffers(make)

    def value_and_gradient(x: Any, v: Any, masses: Any, target: Any, steps: Any) -> Any:
        kept, speed, by_x, by_v, force = buffers(masses.size, steps.size)
        value = sweep(x, v, masses, target, steps.size, kept, speed, by_x, by_v, force)
        return value, (by_x.copy(), by_v.copy())

    return value_and_gradient

"""A fit of Lotka and Volterra's equations by hand, for Numba: Dormand and Prince's steps and their discrete adjoint.

The steps are found as `ng.integrate.odeint` finds them (Hairer, Norsett and Wanner's DOPRI5), so that results agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["predator_and_prey"]

NODES = np.array([0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0])
STAGES = np.array([
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [1 / 5, 0.0, 0.0, 0.0, 0.0, 0.0],
    [3 / 40, 9 / 40, 0.0, 0.0, 0.0, 0.0],
    [44 / 45, -56 / 15, 32 / 9, 0.0, 0.0, 0.0],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0.0, 0.0],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0.0],
    [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
])
ERROR = np.array([71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])
DENSE = np.array([-12715105075 / 11282082432, 0.0, 87487479700 / 32700410799, -10690763975 / 1880347072,
                  701980252875 / 199316789632, -1453857185 / 822651844, 69997945 / 29380423])


def predator_and_prey(rtol: float, atol: float) -> Any:
    """Value and gradient of the row "ode_fit"."""
    from numba import njit as compiled

    njit = compiled(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

    @njit
    def slope(p: Any, u: float, v: float) -> tuple[float, float]:
        return p[0] * u - p[1] * u * v, -p[2] * v + p[3] * u * v

    @njit
    def pull(p: Any, u: float, v: float, a: float, b: float, g: Any) -> tuple[float, float]:
        """Cotangents of u and v from those of their slopes; those of the rates are added to g."""
        g[0] += a * u
        g[1] -= a * u * v
        g[2] -= b * v
        g[3] += b * u * v
        return a * (p[0] - p[1] * v) + b * p[3] * v, b * (p[3] * u - p[2]) - a * p[1] * u

    @njit
    def norm(a: float, b: float, sa: float, sb: float) -> float:
        return np.sqrt(((a / sa) ** 2 + (b / sb) ** 2) / 2.0)  # type: ignore[no-any-return]

    @njit
    def first_step(p: Any, u: float, v: float, a: float, b: float, span: float) -> float:
        su, sv = atol + rtol * abs(u), atol + rtol * abs(v)
        size, speed = norm(u, v, su, sv), norm(a, b, su, sv)
        h0 = min(1e-6 if size < 1e-5 or speed < 1e-5 else 0.01 * size / speed, span)
        c, d = slope(p, u + h0 * a, v + h0 * b)
        steepest = max(speed, norm(c - a, d - b, su, sv) / h0)
        return min(100.0 * h0, max(1e-6, 1e-3 * h0) if steepest <= 1e-15 else (0.01 / steepest) ** 0.2)

    @njit
    def run(q: Any, times: Any, seen: Any, y: Any, k: Any, start: Any, length: Any) -> tuple[float, Any, int]:
        """The value, the gradient by logarithms, and the number of steps: -1 asks for longer buffers."""
        p = np.exp(q)
        end, most = times[-1], len(length)
        t, n, before, rejected, last = times[0], 0, 1e-4, False, False
        y[0, 0], y[0, 1] = p[4], p[5]
        k[0, 0, 0], k[0, 0, 1] = slope(p, p[4], p[5])
        h = first_step(p, p[4], p[5], k[0, 0, 0], k[0, 0, 1], end - t)
        while not last:
            if n == most:
                return 0.0, p, -1
            last = end - t <= 1.01 * h
            if last:
                h = end - t
            u, v = y[n, 0], y[n, 1]
            for i in range(1, 7):
                a, b = u, v
                for j in range(i):
                    a += h * STAGES[i, j] * k[n, j, 0]
                    b += h * STAGES[i, j] * k[n, j, 1]
                k[n, i, 0], k[n, i, 1] = slope(p, a, b)
            ea = eb = 0.0
            for i in range(7):
                ea += h * ERROR[i] * k[n, i, 0]
                eb += h * ERROR[i] * k[n, i, 1]
            error = norm(ea, eb, atol + rtol * max(abs(u), abs(a)), atol + rtol * max(abs(v), abs(b)))
            raised = error**0.17
            if error <= 1.0:
                divisor = min(max(raised / (before**0.04 * 0.9), 0.1), 5.0)
                if rejected:
                    divisor = max(divisor, 1.0)
                start[n], length[n] = t, h
                t, n, before, rejected = t + h, n + 1, max(error, 1e-4), False
                y[n, 0], y[n, 1] = a, b
                k[n, 0, 0], k[n, 0, 1] = k[n - 1, 6, 0], k[n - 1, 6, 1]
            else:
                divisor, rejected, last = min(raised / 0.9, 5.0), True, False
            h /= divisor

        total, g = 0.0, np.zeros(6)
        bar, cots = np.zeros((7, 2)), np.zeros(2)  # of the slopes of a step, and of y after it
        row = len(times) - 1
        for s in range(n - 1, -1, -1):
            h = length[s]
            bar[6] = bar[0]  # the first slope of the next step is the last one of this
            bar[:6] = 0.0
            before_cots = np.zeros(2)
            while row > 0 and (times[row] > start[s] or (s == 0 and times[row] == start[s])):
                x = (times[row] - start[s]) / h
                r = 1.0 - x
                for c in range(2):
                    rise = y[s + 1, c] - y[s, c]
                    bend = h * k[s, 0, c] - rise
                    fifth = 0.0
                    for i in range(7):
                        fifth += h * DENSE[i] * k[s, i, c]
                    value = y[s, c] + x * (rise + r * (bend + x * (rise - h * k[s, 6, c] - bend + r * fifth)))
                    residual = np.log(value) - seen[row, c]
                    total += residual * residual
                    d = 2.0 * residual / value
                    by_rise = d * x * (1.0 - r + 2.0 * x * r)
                    before_cots[c] += d - by_rise
                    cots[c] += by_rise
                    bar[0, c] += d * x * r * r * h
                    bar[6, c] -= d * x * x * r * h
                    for i in range(7):
                        bar[i, c] += d * x * x * r * r * h * DENSE[i]
                row -= 1
            a, b = pull(p, y[s + 1, 0], y[s + 1, 1], bar[6, 0], bar[6, 1], g)
            cots[0] += a
            cots[1] += b
            for j in range(6):
                bar[j, 0] += h * STAGES[6, j] * cots[0]
                bar[j, 1] += h * STAGES[6, j] * cots[1]
            cots += before_cots
            for i in range(5, 0, -1):
                u, v = y[s, 0], y[s, 1]
                for j in range(i):
                    u += h * STAGES[i, j] * k[s, j, 0]
                    v += h * STAGES[i, j] * k[s, j, 1]
                a, b = pull(p, u, v, bar[i, 0], bar[i, 1], g)
                cots[0] += a
                cots[1] += b
                for j in range(i):
                    bar[j, 0] += h * STAGES[i, j] * a
                    bar[j, 1] += h * STAGES[i, j] * b
        a, b = pull(p, y[0, 0], y[0, 1], bar[0, 0], bar[0, 1], g)
        g[4] += cots[0] + a
        g[5] += cots[1] + b
        for c in range(2):  # at the first time the solution is its initial value
            residual = q[4 + c] - seen[0, c]
            total += residual * residual
            g[4 + c] += 2.0 * residual / p[4 + c]
        return total / seen.size, g * p / seen.size, n

    room = 0
    buffers: tuple[Any, ...] = ()

    def value_and_gradient(q: Any, times: Any, seen: Any) -> Any:
        nonlocal room, buffers
        while True:
            if room:
                value, gradient, steps = run(q, times, seen, *buffers)
                if steps >= 0:
                    return value, gradient
            room = 2 * room or 256
            buffers = (np.empty((room + 1, 2)), np.empty((room + 1, 7, 2)), np.empty(room), np.empty(room))

    return value_and_gradient

"""Rows whose time is spent in loops: simulations, filters and iterations of many small steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perf import hand_sequences as sequences
from perf import hand_simulation as hand
from perf.row import row

PEERS = ("jax", "torch", "autograd", "pytensor")
STEP = 0.01


def _pendulum(steps: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return np.array([0.3, 9.81, 1.2, -0.4]), np.sin(STEP * 3.0 * np.arange(1, steps + 1))


def _pendulum_and_vector(steps: int, rng: np.random.Generator) -> tuple[Any, ...]:
    p, observed = _pendulum(steps, rng)
    return p, rng.standard_normal(4), observed


def _swing(kit: Any, p: Any, observed: Any) -> Any:
    """How far the angles of a damped pendulum, by Runge and Kutta's method, are from those observed."""
    damping, gravity = p[0], p[1]

    def slope(angle: Any, speed: Any) -> Any:
        return speed, -damping * speed - gravity * kit.np.sin(angle)

    def step(state: Any, seen: Any) -> Any:
        a, w = state
        a1, w1 = slope(a, w)
        a2, w2 = slope(a + 0.5 * STEP * a1, w + 0.5 * STEP * w1)
        a3, w3 = slope(a + 0.5 * STEP * a2, w + 0.5 * STEP * w2)
        a4, w4 = slope(a + STEP * a3, w + STEP * w3)
        a = a + STEP / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4)
        w = w + STEP / 6.0 * (w1 + 2.0 * w2 + 2.0 * w3 + w4)
        return (a, w), (a - seen) ** 2

    _, squares = kit.scan(step, (p[2], p[3]), observed)
    return kit.np.mean(squares)


row(
    name="pendulum",
    title="damped pendulum, RK4, n steps, value and gradient",
    sizes=(100, 1_000, 10_000),
    setup=_pendulum,
    function=_swing,
    mode="value_and_grad",
    hand={"numba": lambda: hand.pendulum(STEP)},
    libraries=PEERS,
)
row(
    name="pendulum_hvp",
    title="damped pendulum, RK4, n steps, Hessian-vector product",
    sizes=(100, 1_000, 10_000),
    setup=_pendulum_and_vector,
    function=_swing,
    mode="hvp",
    hand={"numba": lambda: hand.pendulum_product(STEP)},
    libraries=PEERS,
)

# Steps without rows are as many as an array of this argument is long, so that sizes are shapes for every library.


def _rod(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, steps = size
    place = np.linspace(0.0, 1.0, n)
    k = 20.0 + 10.0 * np.sin(7.0 * place[:-1])
    return k, np.exp(-20.0 * (place - 0.4) ** 2), np.exp(-8.0 * (place - 0.5) ** 2), np.zeros(steps)


def _rod_and_vector(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    k, first, target, steps = _rod(size, rng)
    return k, rng.standard_normal(k.size), first, target, steps


def _rod_error(kit: Any, k: Any, first: Any, target: Any, steps: Any) -> Any:
    """How far an insulated rod, with a conductivity between any two places, is from the temperatures wanted."""

    def step(state: Any, _: Any) -> Any:
        (u,) = state
        flux = k * (u[1:] - u[:-1])
        return (u + STEP * (kit.pad(flux, 0, 1) - kit.pad(flux, 1, 0)),), None

    (u,), _ = kit.scan(step, (first,), steps)
    return kit.np.mean((u - target) ** 2)


ROD = ((32, 100), (256, 1_000), (4_096, 1_000))
row(
    name="heat1d",
    title="heat in a rod, (places, steps), value and gradient",
    sizes=ROD,
    setup=_rod,
    function=_rod_error,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": lambda: hand.rod(STEP)},
    libraries=PEERS,
)
row(
    name="heat1d_hvp",
    title="heat in a rod, (places, steps), Hessian-vector product by conductivities",
    sizes=ROD,
    setup=_rod_and_vector,
    function=_rod_error,
    mode="hvp",
    hand={"numba": lambda: hand.rod_product(STEP)},
    libraries=PEERS,
)


def _plate(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, steps = size
    place = np.linspace(0.0, 2.0 * np.pi, n, endpoint=False)
    first = np.sin(place)[:, None] + np.cos(2.0 * place) + 0.1 * rng.standard_normal((n, n))
    return np.array([15.0, 8.0]), first, np.cos(place)[:, None] * np.sin(place), np.zeros(steps)


def _plate_error(kit: Any, k: Any, first: Any, target: Any, steps: Any) -> Any:
    """How far a periodic plate, with one conductivity for each axis, is from the temperatures wanted."""
    across, along = STEP * k[0], STEP * k[1]
    roll = kit.np.roll

    def step(state: Any, _: Any) -> Any:
        (u,) = state
        over = roll(u, 1, 0) + roll(u, -1, 0) - 2.0 * u
        beside = roll(u, 1, 1) + roll(u, -1, 1) - 2.0 * u
        return (u + across * over + along * beside,), None

    (u,), _ = kit.scan(step, (first,), steps)
    return kit.np.mean((u - target) ** 2)


row(
    name="heat2d",
    title="heat in a plate, (n x n, steps), value and gradient",
    sizes=((8, 20), (64, 200), (256, 100)),
    setup=_plate,
    function=_plate_error,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": lambda: hand.plate(STEP)},
    libraries=PEERS,
)

SOFTENING = 0.05


def _bodies(size: tuple[int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    n, steps = size
    masses = rng.uniform(0.5, 1.5, n) / n
    x, v = rng.standard_normal((3, n)), 0.3 * rng.standard_normal((3, n))
    return x, v, masses, x + 0.1 * rng.standard_normal((3, n)), np.zeros(steps)


def _bodies_error(kit: Any, x: Any, v: Any, masses: Any, target: Any, steps: Any) -> Any:
    """How far bodies that attract each other are from a target, after so many steps of the leapfrog method.

    Coordinates come first, as who writes for speed has them: the long axes are the innermost ones.
    """
    np_, h = kit.np, 0.2 * STEP

    def step(state: Any, _: Any) -> Any:
        x, v = state
        x = x + 0.5 * h * v
        between = x[:, None, :] - x[:, :, None]
        inverse = 1.0 / (np_.sum(between * between, axis=0) + SOFTENING)
        weights = masses[None, :] * inverse * np_.sqrt(inverse)
        v = v + h * np_.sum(weights[None, :, :] * between, axis=2)
        return (x + 0.5 * h * v, v), None

    (x, _), _ = kit.scan(step, (x, v), steps)
    return np_.sum((x - target) ** 2)


row(
    name="nbody",
    title="bodies that attract each other, leapfrog, (bodies, steps), value and gradient",
    sizes=((4, 50), (16, 1_000), (64, 200)),
    setup=_bodies,
    function=_bodies_error,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": lambda: hand.bodies(0.2 * STEP, SOFTENING)},
    libraries=PEERS,
)


def _filtered(size: tuple[int, int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    d, m, steps = size
    a = 0.9 * np.linalg.qr(rng.standard_normal((d, d)))[0]
    h = rng.standard_normal((m, d)) / math.sqrt(d)
    return a, np.log([0.2, 0.5]), h, np.cumsum(0.3 * rng.standard_normal((steps, m)), axis=0)


def _likelihood(kit: Any, a: Any, noises: Any, h: Any, ys: Any) -> Any:
    """The negative log likelihood of observations of a linear system with noise in its steps and in what is seen."""
    np_ = kit.np
    moves, sees = np_.exp(noises[0]) * kit.eye(a.shape[0], a), np_.exp(noises[1]) * kit.eye(h.shape[0], a)

    def step(state: Any, y: Any) -> Any:
        mean, cov = state
        mean, cov = a @ mean, a @ cov @ a.T + moves
        error, seen = y - h @ mean, h @ cov
        factor = kit.cholesky(seen @ h.T + sees)
        weight = kit.cho_solve(factor, error)
        loss = 0.5 * np_.sum(error * weight) + np_.sum(np_.log(kit.diagonal(factor)))
        return (mean + seen.T @ weight, cov - seen.T @ kit.cho_solve(factor, seen)), loss

    first = np_.zeros_like(a[0]), kit.eye(a.shape[0], a)
    _, losses = kit.scan(step, first, ys)
    return np_.sum(losses) + 0.5 * math.log(2.0 * math.pi) * ys.shape[0] * ys.shape[1]


row(
    name="kalman",
    title="Kalman filter, (state, observed, steps), log likelihood and gradient",
    sizes=((2, 1, 50), (4, 2, 300), (8, 3, 300)),
    setup=_filtered,
    function=_likelihood,
    mode="value_and_grad",
    argnums=(0, 1),
    hand={"numba": sequences.kalman},
    libraries=PEERS,
)


def _sequence(size: tuple[int, int, int, int], rng: np.random.Generator) -> tuple[Any, ...]:
    steps, batch, width, n = size
    w = rng.standard_normal((width, 4 * n)) / math.sqrt(width)
    u = rng.standard_normal((n, 4 * n)) / math.sqrt(n)
    xs, target = rng.standard_normal((steps, batch, width)), rng.standard_normal((batch, n))
    return w, u, np.zeros(4 * n), xs, target


def _lstm(kit: Any, w: Any, u: Any, b: Any, xs: Any, target: Any) -> Any:
    """How far the last state of an LSTM is from a target; the inputs meet their matrix before the loop."""
    n, np_ = u.shape[0], kit.np

    def step(state: Any, entering: Any) -> Any:
        hidden, cell = state
        z = entering + hidden @ u
        gates = kit.sigmoid(z[:, : 3 * n])
        cell = gates[:, n : 2 * n] * cell + gates[:, :n] * np_.tanh(z[:, 3 * n :])
        return (gates[:, 2 * n :] * np_.tanh(cell), cell), None

    zeros = np_.zeros_like(target)
    (hidden, _), _ = kit.scan(step, (zeros, zeros), xs @ w + b)
    return np_.mean((hidden - target) ** 2)


row(
    name="lstm",
    title="LSTM, (steps, batch, inputs, hidden), value and gradient",
    sizes=((10, 4, 8, 16), (200, 16, 32, 32), (200, 16, 32, 64)),
    setup=_sequence,
    function=_lstm,
    mode="value_and_grad",
    argnums=(0, 1, 2),
    hand={"numba": sequences.lstm},
    libraries=PEERS,
)

TOLERANCE = 1e-10


def _orbit(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    shape = () if size == 1 else (size,)  # one place is a number
    p, means = np.array([0.7, 0.3, 1.5]), rng.uniform(0.0, 2.0 * np.pi, shape)
    return p, np.asarray(means), np.asarray(rng.standard_normal(shape))


def _orbit_error(kit: Any, p: Any, means: Any, observed: Any) -> Any:
    """How far the places on an orbit are from those observed; Newton's method solves Kepler's equation for each."""
    np_, e, moved = kit.np, p[0], means + p[1]

    def far(x: Any, step: Any) -> Any:
        return np_.max(np_.abs(step)) > TOLERANCE

    def newton(x: Any, step: Any) -> Any:
        step = (x - e * np_.sin(x) - moved) / (1.0 - e * np_.cos(x))
        return x - step, step

    x, _ = kit.while_loop(far, newton, (moved, np_.ones_like(moved)))
    return np_.mean((p[2] * np_.cos(x) - observed) ** 2)


row(
    name="newton",
    title="Newton's method until it converges, value and gradient by 3 parameters (jax: forward mode)",
    sizes=(1, 100, 10_000),
    setup=_orbit,
    function=_orbit_error,
    mode="value_and_grad",
    hand={"numba": lambda: sequences.kepler(TOLERANCE)},
    libraries=PEERS,
    forward=("jax",),
)

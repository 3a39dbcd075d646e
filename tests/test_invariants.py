"""What scans compute anew in every step though nothing that it reads changes moves out of their bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numgrad as ng

rng = np.random.default_rng(5)
ROWS = rng.normal(size=(6, 40))
W, M = rng.normal(size=40), rng.normal(size=(40, 40)) / 8.0


def dear(x: Any, w: Any, m: Any) -> Any:
    """Exponentials, a product and a sum of captured arrays, and a view of one of them."""
    def step(c: Any, u: Any) -> Any:
        kernel = np.exp(-w * w)
        square = m @ m.T
        return np.tanh(square @ c) * kernel[::-1] + u * np.sum(w), kernel * c

    return ng.scan(step, x, ROWS)


def cheap(x: Any, w: Any, m: Any) -> Any:
    return ng.scan(lambda c, u: (c * 0.5 + (w + 1.0) * u, c), x, ROWS)


def nested(x: Any, w: Any, m: Any) -> Any:
    """What the inner loop captures of the outer one's state changes with the outer one's steps only."""
    def outer(c: Any, u: Any) -> Any:
        return ng.fold(lambda d, v: d * np.cos(c) + v * np.exp(w), c, ROWS[:3]), np.sum(c)

    return ng.scan(outer, x, ROWS)


def expected(f: Any, x: Any, w: Any, m: Any) -> list[Any]:
    c, rows = x, []
    for u in ROWS:
        if f is dear:
            kernel = np.exp(-w * w)
            c, row = np.tanh(m @ m.T @ c) * kernel[::-1] + u * np.sum(w), kernel * c
        elif f is cheap:
            c, row = c * 0.5 + (w + 1.0) * u, c
        else:
            row, d = np.sum(c), c
            for v in ROWS[:3]:
                d = d * np.cos(c) + v * np.exp(w)
            c = d
        rows.append(row)
    return [c, np.array(rows)]


def text(loop: Any) -> str:
    """The kernels in a loop's body and in the loops in it."""
    return "".join(x.source for body in loop.bodies for x in body.all_launches() if not x.bodies)


def loop_of(function: Any) -> Any:
    loop, = (x for x in function.variant.program.launches if x.bodies)
    return loop


@pytest.mark.parametrize("f", [dear, cheap, nested], ids=lambda f: f.__name__)
def test_values_and_derivatives(f: Any) -> None:
    for mine, theirs in zip(ng.function(f)(W, W, M), expected(f, W, W, M), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-12)

    def total(w: Any) -> Any:
        last, rows = f(W, w, M)
        return np.sum(last) + np.sum(rows)

    v = rng.normal(size=40)
    slope = ng.grad(total)(W) @ v
    assert abs(slope - (ng.function(total)(W + 1e-6 * v) - ng.function(total)(W - 1e-6 * v)) / 2e-6) < 1e-5 * abs(slope)


def test_dear_ones_move_out_and_cheap_ones_stay() -> None:
    function = ng.function(dear)
    function(W, W, M)
    loop = loop_of(function)
    assert "vm_exp" not in text(loop) and "vm_tanh" in text(loop)
    titles = [x.title for x in function.variant.program.launches]
    assert titles.index("gram") < titles.index("scan")
    assert "gram" not in [x.title for x in loop.bodies[0].launches]
    function = ng.function(cheap)
    function(W, W, M)
    assert [x.title for x in function.variant.program.launches] == ["scan"]


def test_inner_loops_give_to_the_outer_one() -> None:
    function = ng.function(nested)
    function(W, W, M)
    outer = loop_of(function)
    inner, = (x for x in outer.bodies[0].launches if x.bodies)
    assert "vm_cos" in text(outer) and "vm_cos" not in text(inner) and "vm_exp" not in text(inner)


def test_what_could_fail_stays_in_loops_that_may_not_run() -> None:
    bad = np.zeros((3, 3))
    f = ng.function(lambda m, rows: ng.fold(lambda c, u: c + u * np.linalg.cholesky(m)[0, 0], 0.0, rows))
    assert float(f(bad, np.zeros(0))) == 0.0
    with pytest.raises(np.linalg.LinAlgError):
        f(bad, np.ones(2))
    assert float(f(np.eye(3), np.ones(2))) == 2.0

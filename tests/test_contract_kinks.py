"""The gradient contract, section R: derivatives at kinks and singular points, with numgrad's own choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numgrad as ng

INF = np.inf
# What f is, at which points, and the gradient of the sum: function, input, wanted.
TABLE: dict[str, tuple[Any, list[float], list[float]]] = {
    "abs": (ng.abs, [-1, 0, 1], [-1, 0, 1]),
    "relu": (lambda x: ng.nn.relu(x), [-1, 0, 1], [0, 0, 1]),
    "relu6": (lambda x: ng.nn.relu6(x), [0, 6, 3], [0, 0, 1]),
    "reduce_max": (ng.max, [2, 2, 1], [0.5, 0.5, 0]),
    "reduce_min": (ng.min, [1, 2, 1], [0.5, 0, 0.5]),
    "top_k": (lambda x: ng.nn.top_k(x, 1)[0], [2, 2, 3, 3], [0, 0, 1, 0]),
    "sort": (lambda x: ng.sort(x) * np.array([1.0, 2.0, 3.0, 4.0]), [2, 2, 3, 1], [2, 3, 4, 1]),
    "clip": (lambda x: ng.clip(x, 0.0, 1.0), [-1, 0, 0.5, 1, 2], [0, 1, 1, 1, 0]),
    "sqrt": (ng.sqrt, [0], [INF]),
    "log": (ng.log, [0], [INF]),
    "where sqrt": (lambda x: ng.where(x > 0, ng.sqrt(x), 0.0), [-1, 0, 1], [0, 0, 0.5]),
    "where rsqrt": (lambda x: ng.where(x > 0, ng.rsqrt(x), 0.0), [-1, 0, 1], [0, 0, -0.5]),
    "where log": (lambda x: ng.where(x > 0, ng.log(x), 0.0), [-1, 0, 1], [0, 0, 1]),
    "where 1/x": (lambda x: ng.where(x > 0, 1 / x, 0.0), [-1, 0, 1], [0, 0, -1]),
    "where x**0.5": (lambda x: ng.where(x > 0, x**0.5, 0.0), [-1, 0, 1], [0, 0, 0.5]),
    "where exp": (lambda x: ng.where(x < 50, ng.exp(x), 0.0), [1, 1000], [np.e, 0]),
    "x**0": (lambda x: x**0.0, [0], [0]),
    "x**2": (lambda x: x**2.0, [0], [0]),
    "norm": (ng.linalg.norm, [0, 0], [0, 0]),
    "prod": (ng.prod, [0, 2, 3], [6, 0, 0]),
    "prod of two zeros": (ng.prod, [0, 0, 3], [0, 0, 0]),
    "cumprod": (ng.cumprod, [0, 2, 3], [9, 0, 0]),
    "divide_no_nan": (lambda x: ng.divide_no_nan(1.0, x), [0], [0]),
    "xlogy": (lambda x: ng.special.xlogy(x, x), [0], [0]),
    "sign": (ng.sign, [-2, 0, 2], [0, 0, 0]),
    "segment max by scatter": (lambda x: ng.max(ng.reshape(x, (2, 2)), axis=1), [1, 1, 3, 2], [0.5, 0.5, 1, 0]),
}
# Rows where numgrad differs from the contract's table, each explained in docs/contract.md.
OWN = {"where log", "where 1/x", "where x**0.5", "where exp", "x**0", "norm", "cumprod"}


def gradient(f: Any, x: Any, compiled: bool, dtype: Any) -> Any:
    with ng.Graph().as_default():
        p = ng.placeholder(dtype, ("n",))
        (g,) = ng.gradients(ng.sum(f(p)), p)
        return ng.compile(p, g)(np.array(x, dtype)) if compiled else ng.run(g, {p: np.array(x, dtype)})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("compiled", [False, True], ids=["run", "compile"])
@pytest.mark.parametrize("row", TABLE)
def test_kinks(row: str, compiled: bool, dtype: str) -> None:
    """R1, U10: the table, row by row, interpreted and compiled."""
    f, x, wanted = TABLE[row]
    got = gradient(f, x, compiled, dtype)
    assert got.dtype == dtype
    assert_allclose(got, wanted, rtol=2 * np.finfo(dtype).eps, atol=0)


def test_ties_of_two_operands() -> None:
    """R1: at equality the first operand of maximum and minimum takes the whole gradient."""
    with ng.Graph().as_default():
        x, z = ng.placeholder(ng.float64, (3,)), ng.placeholder(ng.float64, (3,))
        feeds = {x: [-1.0, 0.0, 1.0], z: [0.0, 0.0, 0.0]}
        for f, first in ((ng.maximum, [0.0, 1.0, 1.0]), (ng.minimum, [1.0, 1.0, 0.0])):
            found = ng.run(ng.gradients(f(x, z), [x, z]), feeds)
            assert [g.tolist() for g in found] == [first, [1.0 - v for v in first]]


def test_traps_stay_shut_at_second_order_and_in_forward_mode() -> None:
    """R1, U10: no NaN from the branch that was not taken, in hessians and tangents either."""
    for f in (lambda x: ng.where(x > 0, ng.log(x), 0.0), lambda x: ng.where(x > 0, ng.sqrt(x), 0.0),
              lambda x: ng.where(x > 0, x**-1.5, 0.0)):
        x0 = np.array([-1.0, 0.0, 4.0])
        assert np.isfinite(gradient(lambda p, f=f: ng.gradients(ng.sum(f(p)), p)[0], x0, False, np.float64)).all()
        assert np.isfinite(ng.jvp(f, (x0,), (np.ones(3),))[1]).all()


def test_broadcast_operands() -> None:
    """R2: the gradient of a broadcast operand is summed over the axes that were stretched."""
    with ng.Graph().as_default():
        a, b, c = ng.placeholder(ng.float64, (2, 2)), ng.placeholder(ng.float64, (2,)), ng.placeholder(ng.float64, ())
        feeds = {a: [[1.0, 2.0], [3.0, 4.0]], b: [10.0, 20.0], c: 0.0}
        found = ng.run(ng.gradients(a * b + c, [a, b, c]), feeds)
        assert [g.tolist() for g in found] == [[[10.0, 20.0], [10.0, 20.0]], [4.0, 6.0], 4.0]

"""Compiled functions under tapes and accumulators: one recorded call, compiled derivatives, any order, tapes inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from tests.test_tape import numbers
from tests.test_tape_gradients import taped


def test_a_call_is_one_recorded_operation() -> None:
    """J1: the function takes and returns tensors, is traced once, and its backward function is compiled and kept."""
    runs: list[int] = []

    @ng.function
    def f(x: Any, y: Any) -> Any:
        runs.append(1)
        return {"product": x * y, "sum": ng.sum(ng.sin(x))}

    for _ in range(3):
        tape, result, (x, y) = taped(f, [1.0, 2.0], [3.0, 5.0], persistent=True)
        assert isinstance(result["sum"], ng.Tensor) and len(tape._recording.operations) == 1
        gx, gy = tape.gradient(result, [x, y])
        assert_allclose(gx.numpy(), [3.0 + np.cos(1.0), 5.0 + np.cos(2.0)])
        assert_allclose(gy.numpy(), [1.0, 2.0])
    assert f.trace_count == 1 and len(f.derived) == 1 and len(runs) == 2
    tape.gradient(result["sum"], x)
    assert len(f.derived) == 2


def test_nothing_is_recorded_without_watched_inputs() -> None:
    """J1: arrays give arrays, tensors give tensors, and tapes keep nothing."""
    f = ng.function(lambda x: x * x)
    with ng.GradientTape() as tape:
        assert type(f(np.ones(2))) is np.ndarray
        assert isinstance(f(ng.asarray([1.0])), ng.Tensor)
    assert tape._recording.operations == []


def test_every_order() -> None:
    """J1, J8, J10: nested tapes, a persistent tape and transforms around and inside functions agree."""
    f = ng.function(lambda x: ng.sum(x**4))
    x = ng.asarray([1.0, 2.0])
    with ng.GradientTape() as t3, ng.GradientTape() as t2, ng.GradientTape() as t1:
        for tape in (t1, t2, t3):
            tape.watch(x)
        first = t1.gradient(f(x), x)
        second = t2.gradient(first, x)
    third = t3.gradient(second, x)
    assert_allclose([first.numpy(), second.numpy(), third.numpy()],
                    [[4.0, 32.0], [12.0, 48.0], [24.0, 48.0]])
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        first = tape.gradient(f(x), x)
        second = tape.gradient(first, x)
    assert_allclose(tape.jacobian(second, x).numpy(), np.diag([24.0, 48.0]))
    tape, g, (x,) = taped(ng.grad(f), [1.0, 2.0])
    assert_allclose(tape.gradient(g, x).numpy(), [12.0, 48.0])


def test_tapes_inside_functions_inside_tapes() -> None:
    """J10: a tape, and `gradients`, within a traced function under an outer tape: 27 and 18 for x cubed at 3."""
    @ng.function
    def slope(x: Any) -> Any:
        with ng.GradientTape() as inner:
            inner.watch(x)
            y = x * x * x
        return inner.gradient(y, x), ng.gradients(y, x)[0]

    tape, (first, other), (x,) = taped(slope, 3.0, persistent=True)
    assert numbers([first, other, tape.gradient(first, x), tape.gradient(other, x)]) == [27.0, 27.0, 18.0, 18.0]


def test_missing_paths_are_none() -> None:
    """J4, J9: an argument without a path to the target, whatever other outputs do; integer outputs; stopped ones."""
    @ng.function
    def f(x: Any, w: Any) -> Any:
        return x * x, 2.0 * w, ng.cast(x, ng.int64), ng.stop_gradient(x) * w

    tape, (a, b, n, s), (x, w) = taped(f, 3.0, 5.0, persistent=True)
    found = numbers([tape.gradient(t, [x, w]) for t in (a, b, n, s)])
    assert found == [[6.0, None], [None, 2.0], [None, None], [None, 3.0]]
    assert numbers(tape.gradient(a, w, unconnected_gradients="zero")) == 0.0


def test_captured_tensors() -> None:
    """J5: tensors from outside that the function uses are sources, in every order; values are those of the trace."""
    c = ng.asarray([3.0, 4.0])
    f = ng.function(lambda x: ng.sum(x * c * c))
    x = ng.asarray([1.0, 2.0])
    with ng.GradientTape() as outer:
        outer.watch(c)
        with ng.GradientTape() as inner:
            inner.watch([x, c])
            y = f(x)
        gx, gc = inner.gradient(y, [x, c])
    assert numbers([gx, gc]) == [[9.0, 16.0], [6.0, 16.0]]
    assert numbers(outer.gradient([gx, gc], c)) == [6.0 + 2.0, 8.0 + 4.0]


def test_variables_read_before_and_after_an_assignment() -> None:
    """O19, J5: backward functions use the values that the call used, and assign nothing."""
    v = ng.Variable([1.0, 2.0])

    @ng.function
    def f(x: Any) -> Any:
        y = ng.sum(v * v * x)
        v.assign_add(x)
        return y, ng.sum(v * v)

    tape, (y, z), (x,) = taped(f, [10.0, 20.0], persistent=True)
    assert_array_equal(v.numpy(), [11.0, 22.0])
    assert numbers(tape.gradient(y, [x, v])) == [[1.0, 4.0], [20.0, 80.0]]
    assert numbers(tape.gradient(z, [x, v])) == [None, [22.0, 44.0]]
    v.assign([0.0, 0.0])
    assert numbers(tape.gradient(y, v)) == [20.0, 80.0]
    assert_array_equal(v.numpy(), [0.0, 0.0])


def test_rows_flow_out_of_functions() -> None:
    """J3: gradients of gathers inside are row-sparse, and row-sparse cotangents are made dense."""
    table = ng.Variable(np.arange(6.0).reshape(3, 2))
    look_up = ng.function(lambda rows: ng.take(table, rows, axis=0))
    with ng.GradientTape(persistent=True) as tape:
        taken = look_up(np.array([2, 2, 0]))
        y = ng.sum(taken**2)
        picked = ng.take(ng.function(lambda x: x * 2.0)(table.value()), [1], axis=0)
    g = tape.gradient(y, table)
    assert isinstance(g, ng.IndexedSlices) and numbers(g.indices) == [2, 2, 0]
    assert_allclose(g.to_dense().numpy(), [[0.0, 2.0], [0.0, 0.0], [16.0, 20.0]])
    assert numbers(tape.gradient(picked, table)) == [[0.0, 0.0], [2.0, 2.0], [0.0, 0.0]]


def test_static_arguments_and_numbers() -> None:
    """J1: Python numbers, static values and nests of arguments are what they were in the call."""
    @ng.function(static_argnames="power")
    def f(data: Any, scale: Any, *, power: Any, mode: str = "plain") -> Any:
        y = data["x"]
        for _ in range(power):
            y = y * data["x"]
        return y * scale if mode == "plain" else -y

    x = ng.asarray([2.0, 3.0])
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        plain = f({"x": x, "unused": np.ones(3)}, 10.0, power=2)
        other = f({"x": x, "unused": np.ones(3)}, 10.0, power=1, mode="minus")
    assert_allclose(tape.gradient(plain, x).numpy(), [120.0, 270.0])
    assert_allclose(tape.gradient(other, x).numpy(), [-4.0, -6.0])


def test_broadcast_sizes_and_new_sizes() -> None:
    """J1: an axis of size one that is broadcast, empty arrays, other sizes without another trace of the backward."""
    f = ng.function(lambda x, y: ng.sum(x * y))
    for shape_x, shape_y in (((3, 1), (3, 2)), ((2, 1), (2, 4)), ((1, 2), (5, 2)), ((0, 2), (0, 2))):
        a, b = np.random.default_rng(0).normal(size=shape_x), np.random.default_rng(1).normal(size=shape_y)
        tape, y, (x, z) = taped(f, a, b)
        gx, gz = tape.gradient(y, [x, z])
        axes = tuple(i for i in range(2) if shape_x[i] == 1 != shape_y[i])
        assert_allclose(gx.numpy(), b.sum(axis=axes, keepdims=True))
        assert_allclose(gz.numpy(), np.broadcast_to(a, shape_y))


def test_missing_rules_show_when_the_gradient_is_taken() -> None:
    """J7: the call itself succeeds, watched or not."""
    f = ng.function(lambda x: ng.prevent_gradient(x, "no") * 2.0)
    tape, y, (x,) = taped(f, 3.0)
    assert numbers(y) == 6.0
    with pytest.raises(LookupError, match="explicitly disabled"):
        tape.gradient(y, x)


def test_jacobians_of_functions() -> None:
    """O23, J1: many rows at a time through a compiled function."""
    f = ng.function(lambda x: ng.cumsum(x * x))
    tape, y, (x,) = taped(f, [1.0, 2.0, 3.0], persistent=True)
    expected = np.tril(np.ones((3, 3))) * [2.0, 4.0, 6.0]
    assert_allclose(tape.jacobian(y, x).numpy(), expected)
    assert_allclose(tape.jacobian(y, x, experimental_use_pfor=False).numpy(), expected)


def test_tangents_of_functions() -> None:
    """P7: forward mode through a call, over tapes and under them."""
    f = ng.function(lambda x, n: (ng.sum(x**3), n, ng.cumprod(x)))
    x, v = ng.asarray([1.0, 2.0, 3.0]), ng.asarray([1.0, 0.0, -1.0])
    with ng.ForwardAccumulator(x, v) as accumulator:
        with ng.GradientTape() as tape:
            tape.watch(x)
            y, n, products = f(x, np.array([1, 2]))
        g = tape.gradient(y, x)
    dy, dn, dp = accumulator.jvp([y, n, products])
    assert numbers([dy, dn]) == [-24.0, None]
    assert_allclose(dp.numpy(), [1.0, 2.0, 6.0 - 2.0])
    assert_allclose(accumulator.jvp(g).numpy(), [6.0, 0.0, -18.0])


@pytest.mark.parametrize("what", ["vjp", "linearize"])
def test_derivative_maps_under_tapes(what: str) -> None:
    """J1: what `vjp` and `linearize` give eager tensors is recorded, in the primals and in the late inputs."""
    def f(x: Any) -> Any:
        return ng.sum(x**3)

    x, t = ng.asarray([1.0, 2.0]), ng.asarray(2.0) if what == "vjp" else ng.asarray([1.0, 10.0])
    with ng.GradientTape(persistent=True) as tape:
        tape.watch([x, t])
        y, apply_map = getattr(ng, what)(f, x)
        result = apply_map(t)[0] if what == "vjp" else apply_map(t)
    assert_allclose(tape.gradient(y, x).numpy(), [3.0, 12.0])
    if what == "vjp":
        assert_allclose(result.numpy(), [6.0, 24.0])
        assert_allclose(tape.gradient(result, x).numpy(), [12.0, 24.0])
        assert_allclose(tape.gradient(result, t).numpy(), 15.0)
    else:
        assert_allclose(result.numpy(), 123.0)
        assert_allclose(tape.gradient(result, x).numpy(), [6.0, 120.0])
        assert_allclose(tape.gradient(result, t).numpy(), [3.0, 12.0])


def test_control_flow_inside_functions() -> None:
    """K15, P7: loops and branches of a function under a tape are differentiated as compiled loops and branches."""
    @ng.function
    def f(x: Any) -> Any:
        y = ng.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * x), (0, x))[1]
        return ng.cond(x > 0.0, lambda: y * y, lambda: x)

    tape, y, (x,) = taped(f, 1.5)
    assert_allclose(float(tape.gradient(y, x)), 8 * 1.5**7)
    tape, y, (x,) = taped(f, -1.5)
    assert float(tape.gradient(y, x)) == 1.0

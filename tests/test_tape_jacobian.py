"""Jacobians of tapes: of one target, of a batch of examples, many rows at a time or one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.autodiff import rows
from tests.test_tape import numbers
from tests.test_tape_gradients import taped

ROUTES = [{}, {"experimental_use_pfor": False}, {"parallel_iterations": 2}]


@pytest.mark.parametrize("route", ROUTES)
def test_shape_and_nest(route: dict[str, Any]) -> None:
    """O23: target.shape + source.shape for each source, in the nest of the sources."""
    tape, y, (a, b) = taped(lambda a, b: ng.stack([a * a, a * b]), [1.0, 2.0, 3.0], 5.0, persistent=True)
    found = tape.jacobian(y, {"a": a, "b": [b]}, **route)
    expected = np.zeros((2, 3, 3))
    expected[0], expected[1] = np.diag([2.0, 4.0, 6.0]), 5.0 * np.eye(3)
    assert_array_equal(found["a"].numpy(), expected)
    assert_array_equal(found["b"][0].numpy(), [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: ng.sin(x) * x,
    "cumulative": lambda x: ng.cumsum(x * x, axis=0),
    "product": lambda x: x @ ng.matrix_transpose(x),
    "gather": lambda x: ng.take(x, [2, 0, 2], axis=0) ** 2,
    "reduction": lambda x: ng.max(x, axis=1) * ng.sum(x),
    "sort": lambda x: ng.sort(x * x, axis=0),
    "softmax": lambda x: ng.nn.softmax(x, axis=1),
    "solve": lambda x: ng.linalg.solve(x @ ng.matrix_transpose(x) + ng.eye(3), x),
    "where": lambda x: ng.where(x > 1.0, ng.log(x), x * x),
    "concat": lambda x: ng.concat([x, x * x], axis=1)[:, 1:3],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_routes_agree(name: str) -> None:
    """O23, O24: many rows at a time, one after the other, a few at a time, and in a compiled function."""
    f, point = FUNCTIONS[name], np.random.default_rng(5).uniform(0.2, 2.0, (3, 2))
    tape, y, (x,) = taped(f, point, persistent=True)
    first, *others = [tape.jacobian(y, x, **route).numpy() for route in ROUTES]
    for other in others:
        assert_allclose(other, first, rtol=1e-12, atol=1e-12)

    @ng.function
    def inside(x: Any) -> Any:
        with ng.GradientTape() as own:
            own.watch(x)
            z = f(x)
        return own.jacobian(z, x)

    assert_allclose(inside(point), first, rtol=1e-10, atol=1e-12)
    step = 1e-6
    for index in np.ndindex(3, 2):
        moved = np.zeros((3, 2))
        moved[index] = step
        slope = (f(ng.asarray(point + moved)).numpy() - f(ng.asarray(point - moved)).numpy()) / (2 * step)
        assert_allclose(first[(..., *index)], slope, rtol=1e-6, atol=1e-8)


def test_scalars_and_empty_arrays() -> None:
    """O23: a scalar target gives the gradient, an empty one an empty Jacobian."""
    tape, y, (x,) = taped(lambda x: x * x, 3.0, persistent=True)
    assert numbers(tape.jacobian(y, x)) == 6.0
    for route in ROUTES:
        tape, y, (x,) = taped(lambda x: ng.exp(x) * 2.0, np.zeros((0,)), persistent=True)
        assert tape.jacobian(y, x, **route).shape == (0, 0)
        assert tape.jacobian(y, ng.asarray(1.0), **route) is None


def test_no_path() -> None:
    """O23: None, or zeros of the full shape; the target itself has the identity."""
    tape, y, (x, z) = taped(lambda x, z: x * 2.0, [1.0, 2.0], [1.0, 2.0, 3.0], persistent=True)
    assert tape.jacobian(y, z) is None
    zeros = tape.jacobian(y, z, unconnected_gradients="zero")
    assert_array_equal(zeros.numpy(), np.zeros((2, 3)))
    assert_array_equal(tape.jacobian(x, x).numpy(), np.eye(2))
    assert tape.jacobian(ng.argsort(x), x) is None


def test_rows_of_gathers_are_dense() -> None:
    """O23: row-sparse gradients become dense."""
    v = ng.Variable([1.0, 2.0, 3.0])
    with ng.GradientTape(persistent=True) as tape:
        y = ng.take(v, [2, 2], axis=0)
    for route in ROUTES:
        assert_array_equal(tape.jacobian(y, v, **route).numpy(), [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_complex() -> None:
    """O23, D6: rows of a holomorphic function are its complex derivative."""
    tape, y, (z,) = taped(lambda z: z * z, [1.0 + 2.0j, 3.0], persistent=True)
    for route in ROUTES:
        assert_allclose(tape.jacobian(y, z, **route).numpy(), np.diag([2.0 + 4.0j, 6.0]))


def test_targets_and_sources_that_are_refused() -> None:
    """O23: one tensor as target, tensors and variables as sources."""
    tape, y, (x,) = taped(lambda x: x * x, [1.0])
    for bad in ([y], None, 1.0):
        with pytest.raises(TypeError, match="target"):
            tape.jacobian(bad, x)
    with pytest.raises(TypeError, match="sources"):
        tape.jacobian(y, [None])
    with pytest.raises(ValueError, match="unconnected"):
        tape.jacobian(y, x, unconnected_gradients="some")


def test_one_after_the_other_needs_a_persistent_tape() -> None:
    """O24: RuntimeError for eager targets, and not in graphs; fewer than one row at a time is a ValueError."""
    tape, y, (x,) = taped(lambda x: x * x, [[1.0, 2.0]])
    for method in (tape.jacobian, tape.batch_jacobian):
        with pytest.raises(RuntimeError, match="persistent"):
            method(y, x, experimental_use_pfor=False)
        with pytest.raises(ValueError, match="parallel_iterations"):
            method(y, x, parallel_iterations=0)
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, (2,))
        with ng.GradientTape() as inside:
            inside.watch(p)
            z = p * p
        found = inside.jacobian(z, p, experimental_use_pfor=False)
    assert_array_equal(ng.run(found, {p: [1.0, 2.0]}), np.diag([2.0, 4.0]))


def test_what_cannot_be_batched() -> None:
    """O24: a rule that looks at values is a ValueError that names the way out, and the way out works."""
    def f(x: Any) -> Any:
        return ng.custom_gradient(lambda v: (v * 2.0, lambda g: g * float(ng.sum(g))))(x)

    tape, y, (x,) = taped(f, [1.0, 2.0], persistent=True)
    with pytest.raises(ValueError, match="experimental_use_pfor=False"):
        tape.jacobian(y, x)
    assert_array_equal(tape.jacobian(y, x, experimental_use_pfor=False).numpy(), np.eye(2))


def test_callbacks_are_repeated_for_each_row() -> None:
    """O24: a Python function with a derivative needs no way out."""
    def f(x: Any) -> Any:
        return ng.py_function(lambda a: 2.0 * a, x, x, vjp=lambda op, g: f(g))

    tape, y, (x,) = taped(lambda x: f(x) * x, [1.0, 2.0])
    assert_array_equal(tape.jacobian(y, x, parallel_iterations=1).numpy(), np.diag([4.0, 8.0]))


def test_missing_rules_stay_lookup_errors() -> None:
    """O16, O24: an operation without a derivative is not blamed on batching."""
    tape, y, (x,) = taped(lambda x: ng.prevent_gradient(x, "no"), [1.0, 2.0])
    with pytest.raises(LookupError, match="explicitly disabled"):
        tape.jacobian(y, x)


def test_rows_come_in_chunks_of_a_byte_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """O24: as many rows at a time as fit; the result does not depend on it."""
    tape, y, (x,) = taped(lambda x: ng.cumsum(ng.sin(x), axis=0), np.linspace(0.0, 1.0, 50), persistent=True)
    whole = tape.jacobian(y, x).numpy()
    counts: list[int] = []
    sweep = rows._Sweep.__call__
    monkeypatch.setattr(rows._Sweep, "__call__",
                        lambda self, units: counts.append(units.shape[0]) or sweep(self, units))
    monkeypatch.setattr(rows, "BATCH_BYTES", 50 * 8 * 3 * 7)
    assert_array_equal(tape.jacobian(y, x).numpy(), whole)
    assert sum(counts) == 50 and 1 < len(counts) < 50 and max(counts) <= 21
    counts.clear()
    tape.jacobian(y, x, parallel_iterations=20)
    assert max(counts) <= 20


def test_jacobians_are_recorded_by_tapes_outside() -> None:
    """O20, O23: second order through Jacobians, inside the block of the same persistent tape and of an outer one."""
    x = ng.asarray([1.0, 2.0])
    with ng.GradientTape() as outer:
        outer.watch(x)
        with ng.GradientTape() as inner:
            inner.watch(x)
            y = x**3
        j = inner.jacobian(y, x)
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 0], expected[1, 1, 1] = 6.0, 12.0
    assert_allclose(outer.jacobian(j, x).numpy(), expected)
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = ng.sum(x**4)
        hessian = tape.jacobian(tape.gradient(y, x), x)
        assert_allclose(hessian.numpy(), np.diag([12.0, 48.0]))
        assert_allclose(tape.gradient(hessian, x).numpy(), [24.0, 48.0])


def test_jacobians_carry_tangents() -> None:
    """O23, P6: an accumulator outside sees the computation of a Jacobian."""
    x = ng.asarray([1.0, 2.0])
    with ng.ForwardAccumulator(x, ng.asarray([1.0, 10.0])) as accumulator:
        with ng.GradientTape() as tape:
            tape.watch(x)
            y = x**3
        j = tape.jacobian(y, x)
    assert_allclose(accumulator.jvp(j).numpy(), np.diag([6.0, 120.0]))


# -- batches


@pytest.mark.parametrize("route", ROUTES)
def test_batch_jacobian(route: dict[str, Any]) -> None:
    """O25: one Jacobian for each example, of shape (b, y..., x...)."""
    point = np.random.default_rng(3).uniform(0.5, 1.5, (4, 2, 3))
    tape, y, (x,) = taped(lambda x: ng.sum(x, axis=2) * x[:, :, 0] ** 2, point, persistent=True)
    found = tape.batch_jacobian(y, x, **route).numpy()
    assert found.shape == (4, 2, 2, 3)
    for k in range(4):
        alone, z, (row,) = taped(lambda r: ng.sum(r, axis=1) * r[:, 0] ** 2, point[k])
        assert_allclose(found[k], alone.jacobian(z, row).numpy())


def test_batch_jacobian_sums_over_examples_that_mix() -> None:
    """O25: dependence between examples is not looked for; its derivatives are summed."""
    tape, y, (x,) = taped(lambda x: ng.stack([x[0] + x[1], x[1] * 2.0]), [[1.0, 2.0], [3.0, 4.0]])
    assert_array_equal(tape.batch_jacobian(y, x).numpy(), [np.eye(2), 3.0 * np.eye(2)])


def test_batch_jacobian_without_a_path_or_elements() -> None:
    """O25, U5: zeros of the target's dtype whatever the option; no examples, or examples of no elements, are fine."""
    other = ng.asarray(np.ones((2, 5), np.float32))
    for option in ("none", "zero"):
        tape, y, (x,) = taped(lambda x: x * x, [[1.0], [2.0]])
        zeros = tape.batch_jacobian(y, other, unconnected_gradients=option)
        assert zeros.shape == (2, 1, 5) and zeros.dtype == np.float64 and not zeros.numpy().any()
    for shape in ((0, 3), (1, 0), (2, 0)):
        tape, y, (x,) = taped(lambda x: x * x, np.ones(shape))
        assert tape.batch_jacobian(y, x).shape == (*shape, shape[1])


def test_batch_jacobian_refuses_other_shapes() -> None:
    """O25: rank two at least, and as many examples in the target as in the source."""
    tape, (y, flat, long), (x, row) = taped(
        lambda x, row: (x * x, ng.sum(x, axis=1), ng.concat([x, x])), [[1.0], [2.0]], [1.0, 2.0])
    for target, source in ((y, row), (flat, x)):
        with pytest.raises(ValueError, match="at least 2"):
            tape.batch_jacobian(target, source)
    with pytest.raises(ValueError, match="Need first dimension"):
        tape.batch_jacobian(long, x)
    with pytest.raises(TypeError, match="source"):
        tape.batch_jacobian(y, [x])


def test_nested_batch_jacobian() -> None:
    """O20, O25: twice in a row gives the second derivatives of each example."""
    x = ng.asarray([[1.0, 2.0], [3.0, 4.0]])
    with ng.GradientTape() as outer:
        outer.watch(x)
        with ng.GradientTape() as inner:
            inner.watch(x)
            y = x**3
        first = inner.batch_jacobian(y, x)
    second = outer.batch_jacobian(first, x).numpy()
    assert second.shape == (2, 2, 2, 2)
    for k in range(2):
        for i in range(2):
            assert second[k, i, i, i] == 6.0 * x.numpy()[k, i] and np.count_nonzero(second[k, i]) == 1


def test_jacobian_of_unknown_size_in_a_function() -> None:
    """O23: the number of rows may be known only when the program runs."""
    @ng.function
    def f(x: Any) -> Any:
        with ng.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x * x
            z = ng.expand_dims(x, axis=1) * 3.0
        return tape.jacobian(y, x), tape.batch_jacobian(z, ng.expand_dims(x, axis=1))

    for size in (1, 3, 6):
        point = np.arange(1.0, size + 1.0)
        jacobian, zeros = f(point)
        assert_array_equal(jacobian, np.diag(2.0 * point))
        assert_array_equal(zeros, np.zeros((size, 1, 1)))
    assert f.trace_count <= 2

"""The contract's section M: `hessians` and `hessian_vector_product`, by clause."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.autodiff.aggregate import AggregationMethod

A = np.random.default_rng(0).normal(size=(3, 3))
X = np.array([1.0, -2.0, 0.5])


def test_signatures() -> None:
    """A2, A3: argument names and their order."""
    assert list(inspect.signature(ng.hessians).parameters) == [
        "ys", "xs", "gate_gradients", "aggregation_method", "name"]
    assert list(inspect.signature(ng.compat.v1.hessians).parameters) == [
        "ys", "xs", "name", "colocate_gradients_with_ops", "gate_gradients", "aggregation_method"]
    assert list(inspect.signature(ng.hessian_vector_product).parameters) == [
        "ys", "xs", "v", "unconnected_gradients"]


def test_outside_a_graph() -> None:
    """A4: a RuntimeError before any other check."""
    eager = ng.asarray(1.0)
    for call in (lambda: ng.hessians(eager, eager), lambda: ng.compat.v1.hessians(eager, eager),
                 lambda: ng.hessian_vector_product(eager, [eager], [eager, eager])):
        with pytest.raises(RuntimeError, match="not supported outside a graph"):
            call()


# -- products


def quadratic(x: Any) -> Any:
    return ng.matmul(x, ng.matmul(A, x))


@pytest.mark.parametrize("compiled", [False, True])
def test_product_of_a_quadratic_form(compiled: bool) -> None:
    """M2: (A + A^T) v."""
    with ng.Graph().as_default():
        x, v = ng.placeholder(ng.float64, (None,)), ng.placeholder(ng.float64, (None,))
        (product,) = ng.hessian_vector_product(quadratic(x), [x], [v])
    value = ng.compile([x, v], product)(X, X * 2) if compiled else ng.run(product, {x: X, v: X * 2})
    np.testing.assert_allclose(value, (A + A.T) @ X * 2, rtol=1e-13)


def test_lengths_and_kinds_of_xs_and_v() -> None:
    """M1: sequences of one length."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        with pytest.raises(ValueError, match="1 xs and 2 vectors"):
            ng.hessian_vector_product(x * x, [x], [x, x])
        with pytest.raises(TypeError, match="xs is a Tensor, wanted a list or tuple"):
            ng.hessian_vector_product(x * x, x, [x])
        with pytest.raises(TypeError, match="v is a Tensor"):
            ng.hessian_vector_product(x * x, [x], x)


def test_vector_is_constant_and_cross_blocks_are_included() -> None:
    """M2: v made of x adds no terms; the Hessian is that of all xs together."""
    with ng.Graph().as_default():
        x, y = ng.placeholder(ng.float64, (2,)), ng.placeholder(ng.float64, (2,))
        (product,) = ng.hessian_vector_product(ng.sum(x**3), [x], [x])
        assert ng.run(product, {x: [2.0, 3.0]}).tolist() == [24.0, 54.0]
        both = ng.hessian_vector_product(ng.sum(x**2 * y), [x, y], (y, x))
        found = ng.run(both, {x: [1.0, 2.0], y: [5.0, 7.0]})
    x_value, y_value = np.array([1.0, 2.0]), np.array([5.0, 7.0])
    np.testing.assert_array_equal(found[0], 2 * y_value * y_value + 2 * x_value * x_value)
    np.testing.assert_array_equal(found[1], 2 * x_value * y_value)


def test_none_in_products() -> None:
    """M3: no first gradient, or none of the second order, is None and keeps the others in their places."""
    with ng.Graph().as_default():
        w, x, i = (ng.placeholder(t, (2,)) for t in (ng.float64, ng.float64, ng.int64))
        first, second, third = ng.hessian_vector_product(ng.sum(x**2), [w, x, i], [w, x, i])
        assert first is None and third is None
        assert ng.run(second, {x: [1.0, 2.0]}).tolist() == [2.0, 4.0]
        assert ng.hessian_vector_product(ng.sum(x), [x], [x]) == [None]
        assert ng.hessian_vector_product(ng.sum(x), [w, i], [w, i]) == [None, None]


def test_vectors_broadcast() -> None:
    """M4: scalars and rows."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2, 2))
        for v, wanted in ((2.0, [[2.0, 2.0], [2.0, 2.0]]), (np.array([[1.0, 3.0]]), [[1.0, 3.0], [1.0, 3.0]])):
            (product,) = ng.hessian_vector_product(ng.sum(x**2) / 2, [x], [v])
            assert ng.run(product, {x: np.ones((2, 2))}).tolist() == wanted


def test_row_sparse_first_gradients_are_made_dense() -> None:
    """M4: a product with the gradient of a gather."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (3, 2))
        rows = ng.take(x, np.array([0, 0, 1]), axis=0)
        (product,) = ng.hessian_vector_product(ng.sum(rows**2), [x], [x])
        assert ng.run(product, {x: np.ones((3, 2))}).tolist() == [[4.0, 4.0], [2.0, 2.0], [0.0, 0.0]]


# -- Hessians


@pytest.mark.parametrize("hessians", [ng.hessians, ng.compat.v1.hessians])
@pytest.mark.parametrize("compiled", [False, True])
def test_blocks_of_several_xs(hessians: Any, compiled: bool) -> None:
    """M5: ys are summed, one diagonal block for each x, no mixed ones."""
    with ng.Graph().as_default():
        xs = [ng.placeholder(ng.float64, (3,)) for _ in range(3)]
        found = hessians([quadratic(x) for x in xs] + [xs[0] * xs[1]], xs)
    assert isinstance(found, list) and len(found) == 3
    values = ng.compile(xs, found)(X, X, X) if compiled else ng.run(found, dict.fromkeys(xs, X))
    for value in values:
        np.testing.assert_allclose(value, A + A.T, rtol=1e-13)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (3, 3), (2, 1, 2), (0,), (0, 2)])
@pytest.mark.parametrize("fixed", [True, False])
def test_shapes_of_blocks(shape: tuple[int, ...], fixed: bool) -> None:
    """M5 M7: x.shape + x.shape, known or not, empty ones too."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, shape if fixed else [None] * len(shape))
        (block,) = ng.hessians(x**3, x)
    assert block.ndim == 2 * len(shape)
    assert [d for d in block.shape if isinstance(d, int)] == (list(shape * 2) if fixed else [])
    size = int(np.prod(shape))
    wanted = np.diag(np.full(size, 12.0)).reshape(shape * 2)
    value = np.full(shape, 2.0)
    np.testing.assert_array_equal(ng.run(block, {x: value}), wanted)
    np.testing.assert_array_equal(ng.compile([x], block)(value), wanted)


@pytest.mark.parametrize("case", ["unconnected", "integer", "stopped", "linear", "floor", "constant", "one of two"])
def test_missing_second_derivatives_are_errors(case: str) -> None:
    """M6: the whole call fails, also when other xs are fine."""
    with ng.Graph().as_default():
        x, w = ng.placeholder(ng.float64, (2,), name="x"), ng.placeholder(ng.float64, (2,), name="w")
        n = ng.placeholder(ng.int64, (2,), name="n")
        ys, xs = {
            "unconnected": (w**2, x), "integer": (ng.cast(n, ng.float64) ** 2, n), "linear": (x, x),
            "stopped": (ng.stop_gradient(x) ** 2, x), "floor": (ng.floor(x) * x, x), "constant": (3.0, x),
            "one of two": (w**2, [w, x]),
        }[case]
        with pytest.raises(ValueError, match=r"no second derivative for x \d \(\w:0\): .*ng.hessian gives zeros"):
            ng.hessians(ys, xs)


def test_zero_blocks_are_blocks() -> None:
    """M6: an op that gives zeros is a path; ng.hessian gives zeros for all."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        (block,) = ng.hessians(ng.sign(x) * x, x)
        np.testing.assert_array_equal(ng.run(block, {x: [1.0, -1.0]}), np.zeros((2, 2)))
    for f in (np.sum, lambda x: np.sum(np.floor(x) * x), lambda x: 3.0):
        np.testing.assert_array_equal(ng.hessian(f)(np.ones(2)), np.zeros((2, 2)))


def test_complex_xs_are_type_errors() -> None:
    """M7."""
    with ng.Graph().as_default():
        z = ng.placeholder(ng.complex128, (2,))
        with pytest.raises(TypeError, match="x 0 .* is complex128; second derivatives are for real xs"):
            ng.hessians(ng.abs(z) ** 2, z)


def test_options_of_hessians() -> None:
    """M8: the aggregation method is checked and used for the first gradient; the name is a scope."""
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (2,))
        with pytest.raises(ValueError, match="aggregation_method: got 17"):
            ng.hessians(x**2, x, aggregation_method=17)
        for method in (AggregationMethod.ADD_N, AggregationMethod.EXPERIMENTAL_TREE, AggregationMethod.ACCUMULATE):
            (block,) = ng.hessians(x**2 + x**3 + ng.exp(x) + x * x, x, gate_gradients=True, aggregation_method=method,
                                   name="second")
            np.testing.assert_allclose(ng.run(block, {x: [0.0, 1.0]}), np.diag([5.0, 10.0 + np.e]), rtol=1e-14)
        assert any(op.name.startswith("second") for op in graph.operations)
        assert block.op.name.startswith("second")


def test_third_derivatives() -> None:
    """M9: blocks are nodes like others."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        (block,) = ng.hessians(x**4, x)
        (third,) = ng.gradients(block, x)
        np.testing.assert_allclose(ng.run(third, {x: [1.0, 2.0]}), [24.0, 48.0], rtol=1e-14)


def test_hessian_takes_one_batched_sweep() -> None:
    """M9: the number of operations does not grow with the size."""
    counts = []
    for n in (2, 50):
        with ng.Graph().as_default() as graph:
            x = ng.placeholder(ng.float64, (n,))
            ng.hessians(ng.sum(ng.tanh(x)) ** 2, x)
        counts.append(len(graph.operations))
    assert counts[0] == counts[1]

"""The gradient contract, section M: hessians and Hessian-vector products in a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from tests.contract import made_by, scalar, value, values

AM = ng.AggregationMethod


def test_product_arguments() -> None:
    """M1: xs and v are sequences of one length."""
    with ng.Graph().as_default():
        x = scalar()
        with pytest.raises(ValueError, match="1 xs and 2 vectors"):
            ng.hessian_vector_product(x**3, [x], [1.0, 1.0])
        for xs, v in ((x, [1.0]), ([x], ng.constant(1.0))):
            with pytest.raises(TypeError, match="list or tuple"):
                ng.hessian_vector_product(x**3, xs, v)


def test_product_includes_cross_blocks_and_holds_v_constant() -> None:
    """M2: the full Hessian of all xs together; a v made from x adds no terms."""
    with ng.Graph().as_default():
        x, z = scalar(), scalar()
        y = x**2 * z
        found = ng.hessian_vector_product(y, [x, z], [ng.constant(10.0), ng.constant(100.0)])
        assert values(found, {x: 2.0, z: 3.0}) == [2 * 3 * 10 + 2 * 2 * 100.0, 2 * 2 * 10.0]
        (own,) = ng.hessian_vector_product(ng.sum(x**3), [x], [x])
        assert value(own, {x: 2.0}) == 24.0


def test_product_equals_the_matrix() -> None:
    """M2, M5: for x'Ax the product is (A + A')v and the Hessian A + A'."""
    rng = np.random.default_rng(0)
    a, v0, x0 = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    with ng.Graph().as_default():
        x, v = ng.placeholder(ng.float64, ("n",)), ng.placeholder(ng.float64, ("n",))
        y = x @ (ng.constant(a) @ x)
        product, hessian = ng.hessian_vector_product(y, [x], [v])[0], ng.hessians(y, x)[0]
        found = ng.compile([x, v], [product, hessian])(x0, v0)
    assert_allclose(found[0], (a + a.T) @ v0, rtol=1e-13)
    assert_allclose(found[1], a + a.T, rtol=1e-13)


def test_product_keeps_places_of_unconnected_xs() -> None:
    """M3: an x without a path is None and the others stay where they are; all None when nothing is left; linear is
    None."""
    with ng.Graph().as_default():
        x, w = scalar(), scalar()
        assert values(ng.hessian_vector_product(x**3, [w, x], [1.0, 1.0]), {x: 2.0}) == [None, 12.0]
        assert ng.hessian_vector_product(x**3, [w], [1.0]) == [None]
        assert ng.hessian_vector_product(3.0 * x, [x], [1.0]) == [None]
        assert ng.hessian_vector_product(x**3 + 5.0 * w, [x, w], [1.0, 1.0])[1] is None


@pytest.mark.parametrize("choice", ["zero", ng.UnconnectedGradients.ZERO])
def test_product_gives_zeros_on_request(choice: Any) -> None:
    """M3, A3: zeros of each x's shape and dtype where no second derivative exists; what exists is unaffected."""
    with ng.Graph().as_default():
        x, w = scalar(), ng.placeholder(ng.float32, ("n", 2))
        i = ng.placeholder(ng.int32, ())
        feeds = {x: 2.0, w: np.ones((3, 2)), i: 1}
        y = x**3 + ng.cast(ng.sum(w), ng.float64)
        one = ng.constant(1.0)
        found = ng.run(ng.hessian_vector_product(y, [w, x, i], [one, one, one], unconnected_gradients=choice), feeds)
        assert_array_equal(found[0], np.zeros((3, 2), np.float32), strict=True)
        assert found[1] == 12.0 and found[2] == 0 and found[2].dtype == np.int32
        for linear in (ng.sum(w), ng.stop_gradient(x) ** 2):  # nothing at all has a second derivative
            (zeros,) = ng.hessian_vector_product(linear, [w], [one], choice)
            assert_array_equal(ng.compile(w, zeros)(np.ones((3, 2), np.float32)), np.zeros((3, 2), np.float32))
        with pytest.raises(ValueError, match="Unknown value for unconnected_gradients: 'zeros'"):
            ng.hessian_vector_product(y, [x], [1.0], unconnected_gradients="zeros")


def test_product_broadcasts_v_and_takes_row_sparse_gradients() -> None:
    """M4: a scalar v and one of shape (1, n); rows of the first gradient are made dense for the product."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (3,))
        feeds = {x: [1.0, 2.0, 3.0]}
        assert values(ng.hessian_vector_product(x**3, [x], [2.0]), feeds) == [[12.0, 24.0, 36.0]]
        row = ng.constant([[1.0, 0.0, 1.0]])
        assert values(ng.hessian_vector_product(x**3, [x], [row]), feeds) == [[6.0, 0.0, 18.0]]
        rows = ng.take(x, [0, 0, 1], axis=0)
        assert values(ng.hessian_vector_product(rows**3, [x], [np.ones(3)]), feeds) == [[12.0, 12.0, 0.0]]


@pytest.mark.parametrize("shape, known", [((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), ("n", 3)),
                                          ((2, 1, 2), (None, 1, "m"))])
def test_hessians_of_any_rank(shape: tuple[int, ...], known: tuple[Any, ...]) -> None:
    """M5: shape x.shape + x.shape, static and with sizes known only when it runs; interpreted and compiled."""
    x0 = np.random.default_rng(1).uniform(0.5, 1.5, shape)
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, known)
        (h,) = ng.hessians(ng.sum(x**3) + ng.sum(x) ** 2, x)
        assert h.ndim == 2 * len(shape) and [h.shape[k] for k in range(len(shape))] == list(x.shape)
        found = [ng.run(h, {x: x0}), ng.compile(x, h)(x0)]
    size = x0.size
    wanted = (np.diag(6.0 * x0.reshape(-1)) + 2.0 * np.ones((size, size))).reshape(shape + shape)
    for got in found:
        assert_allclose(got, wanted, rtol=1e-13)


def test_hessians_are_the_diagonal_blocks_of_the_sum_of_ys() -> None:
    """M5: ys are summed, elements too; no blocks between different xs."""
    with ng.Graph().as_default():
        x, z = ng.placeholder(ng.float64, (2,)), scalar()
        found = ng.hessians([x**3, ng.sum(x) * z**2], [x, z])
        assert values(found, {x: [1.0, 2.0], z: 5.0}) == [[[6.0, 0.0], [0.0, 12.0]], 6.0]


@pytest.mark.parametrize("y", [
    lambda x, w: w**2, lambda x, w: 3.0 * x, lambda x, w: ng.stop_gradient(x**2), lambda x, w: ng.floor(x) * x,
    lambda x, w: ng.cast(ng.cast(x, ng.int64), ng.float64) * w,
], ids=["unconnected", "linear", "stopped", "floor", "integers"])
def test_missing_second_derivative_is_an_error(y: Any) -> None:
    """M6, U1: ValueError for the whole call that says for which x and why, even beside an x with one."""
    with ng.Graph().as_default():
        x, w = scalar(), scalar()
        for xs in ([x], [w, x]):
            with pytest.raises(ValueError, match="no second derivative for x"):
                ng.hessians([y(x, w), w**2], xs)
        i = ng.placeholder(ng.int32, ())
        with pytest.raises(ValueError, match="no second derivative for x"):
            ng.hessians(ng.cast(i, ng.float64) ** 2, i)


def test_zero_second_derivative_is_a_block() -> None:
    """M6: where the first derivative gives zeros there are zeros; `ng.hessian` of a linear function gives zeros."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        assert values(ng.hessians(ng.sign(x) * x, x), {x: [1.0, -2.0]}) == [[[0.0, 0.0], [0.0, 0.0]]]
    assert ng.hessian(lambda x: ng.sum(3.0 * x))(np.ones(2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_complex_and_empty_xs() -> None:
    """M7: a complex x is a TypeError; an empty x gives an empty block, its size known or not."""
    with ng.Graph().as_default():
        z = ng.placeholder(ng.complex128, (2,))
        with pytest.raises(TypeError, match="complex128"):
            ng.hessians(ng.sum(ng.abs(z) ** 2), z)
        for shape in ((0,), ("n",)):
            x = ng.placeholder(ng.float64, shape)
            (h,) = ng.hessians(ng.sum(x**3), x)
            for got in (ng.run(h, {x: np.ones(0)}), ng.compile(x, h)(np.ones(0))):
                assert_array_equal(got, np.ones((0, 0)), strict=True)


def test_hessians_inside_a_traced_function() -> None:
    """M7, J6: with respect to an argument of a traced function."""
    @ng.function
    def f(x: Any) -> Any:
        return ng.hessians(ng.sum(x**3), x)[0]

    assert f(np.array([1.0, 2.0])).tolist() == [[6.0, 0.0], [0.0, 12.0]]


def test_options_are_those_of_the_first_gradient() -> None:
    """M8: a bad aggregation constant raises, gating adds its identities; operations stand under `name`."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        with pytest.raises(ValueError, match="aggregation_method"):
            ng.hessians(x**3, x, aggregation_method="TREE")
        y = ng.sin(x) * ng.cos(x)
        _, made = made_by(graph, lambda: ng.hessians(y, x, gate_gradients=True, name="curvature"))
        assert all(op.name.startswith("curvature/") for op in made)
        assert any("control_dependency" in op.name for op in made)
        for method in (AM.TREE, AM.ACCUMULATE):
            (h,) = ng.hessians(y, x, aggregation_method=method)
            assert_allclose(value(h, {x: 0.3}), -2.0 * np.sin(0.6), rtol=1e-13)


def test_one_batched_pull_for_all_rows() -> None:
    """M9: the number of operations does not grow with the number of elements, and both control-flow styles are the
    same."""
    counts = []
    for n in (3, 300):
        with ng.Graph().as_default() as graph:
            x = ng.placeholder(ng.float64, (n,))
            y = ng.sum(ng.exp(x) * x)
            counts.append(len(made_by(graph, lambda x=x, y=y: ng.hessians(y, x))[1]))
    assert counts[0] == counts[1]

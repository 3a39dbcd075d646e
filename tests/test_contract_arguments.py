"""The gradient contract, sections A to C: entry points, how arguments are normalised and checked, grad_ys."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numgrad as ng
from tests.contract import copies, made_by, scalar, value, values


def test_signatures() -> None:
    """A1, A2, A3: names and order of the parameters of the current and the v1 entry points."""
    def names(f: Any) -> list[str]:
        return list(inspect.signature(f).parameters)

    now = ["ys", "xs", "grad_ys", "name", "gate_gradients", "aggregation_method", "stop_gradients",
           "unconnected_gradients"]
    assert names(ng.gradients) == now
    assert names(ng.compat.v1.gradients) == [*now[:4], "colocate_gradients_with_ops", *now[4:]]
    assert names(ng.hessians) == ["ys", "xs", "gate_gradients", "aggregation_method", "name"]
    assert names(ng.compat.v1.hessians) == ["ys", "xs", "name", "colocate_gradients_with_ops", "gate_gradients",
                                            "aggregation_method"]
    assert names(ng.hessian_vector_product)[:3] == ["ys", "xs", "v"]


def test_v1_takes_the_label_of_the_forward_op_only_when_asked() -> None:
    """A1, H5: v2 always colocates, v1 by its flag, which is off at first."""
    with ng.Graph().as_default():
        x = scalar()
        with ng.device("cpu:1"):
            y = ng.square(x)
        with ng.device("cpu:2"):
            assert ng.gradients(y, x)[0].device == "cpu:1"
            assert ng.compat.v1.gradients(y, x)[0].device == "cpu:2"
            assert ng.compat.v1.gradients(y, x, colocate_gradients_with_ops=True)[0].device == "cpu:1"


@pytest.mark.parametrize("ys, xs", [(1.0, 2.0), ({}, None), (ng.asarray(1.0), ng.asarray(2.0))])
def test_outside_a_graph_is_a_runtime_error_before_anything_else(ys: Any, xs: Any) -> None:
    """A4, B9: eagerly the entry points refuse, whatever else is wrong with the arguments."""
    for call in (lambda: ng.gradients(ys, xs, unconnected_gradients="?"), lambda: ng.compat.v1.gradients(ys, xs),
                 lambda: ng.hessians(ys, xs), lambda: ng.hessian_vector_product(ys, [xs], [1.0])):
        with pytest.raises(RuntimeError, match=r"GradientTape|graph"):
            call()


def test_result_is_a_list_with_an_entry_for_each_x() -> None:
    """A5: a list for one x, a tuple of xs, no xs; all None for no ys; tensors, row-sparse gradients and None."""
    with ng.Graph().as_default():
        x, z = ng.placeholder(ng.float64, (4,)), scalar()
        for xs in (x, [x], (x,)):
            result = ng.gradients(x * 2.0, xs)
            assert type(result) is list and len(result) == 1
        rows, tensor, nothing = ng.gradients([ng.take(x, [1, 1], axis=0), z * z], [x, z, scalar()])
        assert isinstance(rows, ng.IndexedSlices) and isinstance(tensor, ng.Tensor) and nothing is None
        assert ng.gradients(x, []) == [] and ng.gradients([], []) == []
        assert ng.gradients([], [x, z]) == [None, None]


def test_sum_over_ys_and_elements_with_repeats() -> None:
    """A6: ys add up, repeated ys count twice, repeated xs get the full value each, ys may depend on each other."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        y = x * x
        feeds = {x: [2.0, 3.0]}
        assert values(ng.gradients([y, y], [x, x]), feeds) == [[8.0, 12.0]] * 2
        assert values(ng.gradients([y, x], x), feeds) == [[5.0, 7.0]]
        assert values(ng.gradients([y, ng.sum(y)], x, [np.array([1.0, 10.0]), 2.0]), feeds) == [[12.0, 72.0]]


def test_y_that_is_an_x() -> None:
    """A7: it contributes its cotangent directly, and flow goes on to other xs above it."""
    with ng.Graph().as_default():
        x = scalar()
        y = x * x
        assert values(ng.gradients(x, x), {x: 5.0}) == [1.0]
        assert values(ng.gradients(x, x, grad_ys=7.0), {x: 5.0}) == [7.0]
        assert values(ng.gradients(y, [y, x]), {x: 3.0}) == [1.0, 6.0]


def test_new_operations_go_into_the_graph_of_ys_and_xs() -> None:
    """A8: whatever graph is the default; tensors of two graphs are refused, in grad_ys and stop_gradients too."""
    first, second = ng.Graph(), ng.Graph()
    with first.as_default():
        x = scalar()
        y = x * x
    with second.as_default():
        other = scalar()
        (g,) = ng.gradients(y, x)
        assert g.graph is first and second.operations == [other.op]
    assert value(g, {x: 4.0}) == 8.0
    for call in (lambda: ng.gradients(y, other), lambda: ng.gradients([y, other], x),
                 lambda: ng.gradients(y, x, grad_ys=other), lambda: ng.gradients(y, x, stop_gradients=[other])):
        with pytest.raises(ValueError, match="from the same graph"):
            call()


def test_sequences_and_what_is_refused() -> None:
    """B1, B2: lists and tuples are sequences, a nested y is packed, numbers are constants; dicts, None and text are
    TypeErrors."""
    with ng.Graph().as_default():
        x = scalar()
        y = x * x
        assert values(ng.gradients([[y, 3.0 * x]], x), {x: 1.0}) == [5.0]
        assert ng.gradients(2.0, x) == [None] and ng.gradients(y, 2.0) == [None] and ng.gradients(y, [2]) == [None]
        for ys, xs in (({"y": y}, x), (y, {"x": x}), (y, [[x]]), (None, x), (y, None), ([None], x), (y, [None]),
                       ("y", x), (y, "x"), (y, object()), (y, (t for t in [x]))):
            with pytest.raises(TypeError, match=r"gradients: (ys|xs)"):
                ng.gradients(ys, xs)


def test_number_of_grad_ys() -> None:
    """B4: the counts must be equal, and a flat list is as many cotangents as it has entries."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        y = x * x
        with pytest.raises(ValueError, match="2 grad_ys for 1 ys"):
            ng.gradients(y, x, grad_ys=[3.0, 4.0])
        with pytest.raises(ValueError, match="1 grad_ys for 2 ys"):
            ng.gradients([y, y], x, grad_ys=[np.ones(2)])
        assert values(ng.gradients(y, x, grad_ys=[[3.0, 4.0]]), {x: [1.0, 1.0]}) == [[6.0, 8.0]]
        assert values(ng.gradients(y, x, grad_ys=np.array([3.0, 4.0])), {x: [1.0, 1.0]}) == [[6.0, 8.0]]


@pytest.mark.parametrize("given", [None, "ZERO", "nonsense", 1, True, []])
def test_unknown_value_for_unconnected_gradients(given: Any) -> None:
    """B5: the member or its text; anything else is a ValueError that quotes it, even with nothing to do."""
    with ng.Graph().as_default():
        with pytest.raises(ValueError, match="Unknown value for unconnected_gradients") as caught:
            ng.gradients([], [], unconnected_gradients=given)
        assert repr(given) in str(caught.value)


def test_values_of_unconnected_gradients() -> None:
    """B5: both spellings of both members."""
    with ng.Graph().as_default():
        x, z = scalar(), scalar()
        for none in ("none", ng.UnconnectedGradients.NONE):
            assert ng.gradients(x, z, unconnected_gradients=none) == [None]
        for zero in ("zero", ng.UnconnectedGradients.ZERO):
            assert values(ng.gradients(x, z, unconnected_gradients=zero), {z: 4.0}) == [0.0]


@pytest.mark.parametrize("given", ["ADD_N", 6, -1, 1.5, True])
def test_unknown_aggregation_method(given: Any) -> None:
    """B6: None and the constants; anything else is a ValueError that lists them, visited or not."""
    with ng.Graph().as_default():
        x = scalar()
        for ys in (x * x, scalar()):
            with pytest.raises(ValueError, match="EXPERIMENTAL_TREE"):
                ng.gradients(ys, x, aggregation_method=given)


def test_stop_gradients_argument() -> None:
    """B7: None, a tensor or a sequence; anything else is a TypeError."""
    with ng.Graph().as_default():
        x = scalar()
        y = x * x
        for stop in (None, [], ()):
            assert values(ng.gradients(y, x, stop_gradients=stop), {x: 3.0}) == [6.0]
        assert ng.gradients(2.0 * y, x, stop_gradients=y) == ng.gradients(2.0 * y, x, stop_gradients=(y,)) == [None]
        for wrong in (3.0, [None], {"y": y}, ["y"], np.ones(())):
            with pytest.raises(TypeError, match="stop_gradients"):
                ng.gradients(y, x, stop_gradients=wrong)


def test_row_sparse_ys_and_xs() -> None:
    """B8, U4: IndexedSlices as a y are made dense, as an x they are refused."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        rows = ng.IndexedSlices(x * x, [3, 3], (5,))
        assert values(ng.gradients(rows, x), {x: [1.0, 2.0]}) == [[2.0, 4.0]]
        assert values(ng.gradients(rows, x, grad_ys=np.arange(5.0)), {x: [1.0, 2.0]}) == [[6.0, 12.0]]
        with pytest.raises(ValueError, match="dense shape"):
            ng.gradients(ng.IndexedSlices(x, [0, 1]), x)
        with pytest.raises(TypeError, match="IndexedSlices"):
            ng.gradients(x, rows)


def test_order_of_checks_and_no_rolling_back() -> None:
    """B9: option before counts, counts before dtypes, dtypes before rules; what was added before an error stays."""
    with ng.Graph().as_default() as graph:
        x, z = scalar(), scalar(ng.complex128)
        y = ng.Tensor.__neg__(x)
        (bad,) = copies(graph, y, "ContractNoRule")
        with pytest.raises(ValueError, match="unconnected_gradients"):
            ng.gradients([bad, z], x, grad_ys=[None], unconnected_gradients="?")
        with pytest.raises(ValueError, match="grad_ys for 2 ys"):
            ng.gradients([bad, z], x, grad_ys=[None])
        with pytest.raises(TypeError, match="complex128"):
            ng.gradients([bad, z], x)
        before = len(graph.operations)
        with pytest.raises(LookupError):
            ng.gradients(bad, x)
        assert len(graph.operations) > before
        assert values(ng.gradients(y, x), {x: 1.0}) == [-1.0]


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float16", "float32", "float64"])
def test_default_cotangents_are_ones_of_ys_dtype(dtype: str) -> None:
    """C1, D4: for integers and bools too, where y itself is x."""
    with ng.Graph().as_default():
        x = ng.placeholder(dtype, (2,))
        for given in (None, [None]):
            (g,) = ng.gradients(x, x, grad_ys=given)
            assert_array_equal(ng.run(g, {x: np.zeros(2, dtype)}), np.ones(2, dtype), strict=True)


def test_none_entries_of_grad_ys_mean_ones() -> None:
    """C1: beside given ones."""
    with ng.Graph().as_default():
        x = scalar()
        assert values(ng.gradients([x * x, 3.0 * x], x, grad_ys=[None, 10.0]), {x: 2.0}) == [34.0]


def test_complex_y_needs_a_cotangent() -> None:
    """C2: TypeError that names the dtype, even when no x is above it."""
    with ng.Graph().as_default():
        z, x = scalar(ng.complex64), scalar()
        for ys in (z * z, [x * x, z]):
            with pytest.raises(TypeError, match="complex64.*must set grad_ys"):
                ng.gradients(ys, x)
        assert values(ng.gradients(z * z, z, grad_ys=1.0 + 0.0j), {z: 1 + 2j}) == [2 - 4j]


@pytest.mark.parametrize("y, taken, refused", [
    ("float32", ("float64", "float16", "int32"), ("complex64", "bool")),
    ("int32", ("int64", "float32"), ("complex64", "bool")),
    ("complex64", ("complex128",), ("float32", "int32", "bool")),
    ("bool", (), ("bool", "int32", "float32", "complex64")),
])
def test_kinds_of_cotangents(y: str, taken: tuple[str, ...], refused: tuple[str, ...]) -> None:
    """C3, C4: a cotangent of a kind that fits is cast to y's dtype, so that the gradient has x's; others name both
    dtypes."""
    with ng.Graph().as_default():
        x = ng.placeholder(y, ())
        for dtype in taken:
            (g,) = ng.gradients(x, x, grad_ys=ng.constant(3, dtype=dtype))
            assert g.dtype == x.dtype and value(g, {x: 0}) == 3
        for dtype in refused:
            with pytest.raises(TypeError, match=rf"{dtype}.*{y}"):
                ng.gradients(x, x, grad_ys=ng.constant(1, dtype=dtype))


def test_cotangent_of_another_precision_gives_the_dtype_of_x() -> None:
    """C4, C6, U2: NumPy arrays and lists of float64 for a float32 y go through arithmetic and come out as float32."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float32, (2,))
        for given in (np.array([1.0, 2.0]), [[1.0, 2.0]], [[1, 2]]):
            (g,) = ng.gradients(x * x, x, grad_ys=given)
            assert g.dtype == np.float32 and value(g, {x: [3.0, 3.0]}) == [6.0, 12.0]
            assert ng.gradients(x, x, grad_ys=given)[0].dtype == np.float32


def test_shape_of_cotangents_is_checked_at_once() -> None:
    """C5, C2: a shape that would only broadcast is refused, also for a y that no x is above."""
    with ng.Graph().as_default():
        x, other = ng.placeholder(ng.float64, (2, 3)), scalar()
        for given in (np.ones(3), 1.0, np.ones((2, 3, 1)), np.ones((3, 2))):
            for y, about in ((x * 2.0, x), (x, x), (x * 2.0, other)):
                with pytest.raises(ValueError, match=r"grad_ys\[0\].*wanted \(2,3\)"):
                    ng.gradients(y, about, grad_ys=[given])


def test_cotangent_of_unknown_size() -> None:
    """C5, E9: sizes that only a run can tell apart are taken as equal; the gradient has x's shape; a run checks."""
    with ng.Graph().as_default():
        x, seed = ng.placeholder(ng.float64, ("n", 3)), ng.placeholder(ng.float64, (None, 3))
        (g,) = ng.gradients(x * 2.0, x, grad_ys=seed)
        assert value(g, {x: np.ones((2, 3)), seed: np.ones((2, 3))}) == [[2.0] * 3] * 2
        with pytest.raises(ValueError, match="size"):
            ng.run(g, {x: np.ones((2, 3)), seed: np.ones((4, 3))})


def test_row_sparse_cotangents() -> None:
    """C7, G8: they pass identity-like ops as they are; arithmetic makes them dense; a missing dense shape is y's."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2, 2))
        for dense_shape in ((2, 2), None):
            given = ng.IndexedSlices(ng.constant([[10.0, 20.0]]), ng.constant([1]), dense_shape)
            for y in (x, ng.positive(x), ng.asarray(x)):
                (g,) = ng.gradients(y, x, grad_ys=given)
                assert isinstance(g, ng.IndexedSlices) and g.dense_shape == (2, 2)
                assert (value(g.values), value(g.indices)) == ([[10.0, 20.0]], [1])
            (g,) = ng.gradients(x * 3.0, x, grad_ys=given)
            assert isinstance(g, ng.Tensor) and value(g, {x: np.ones((2, 2))}) == [[0.0, 0.0], [30.0, 60.0]]
        with pytest.raises(ValueError, match=r"wanted \(2,2\)"):
            ng.gradients(x, x, grad_ys=ng.IndexedSlices(ng.constant([[1.0, 2.0]]), ng.constant([1]), (3, 2)))


def test_names_of_cotangents() -> None:
    """C8: identities and default ones are called grad_ys_<i>, parts of row-sparse ones by what they are."""
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (2,))
        rows = ng.IndexedSlices(ng.constant([1.0]), ng.constant([1]), (2,))
        _, made = made_by(graph, lambda: ng.gradients([x * 2.0, x * 3.0, x], x, grad_ys=[np.ones(2), None, rows]))
        names = {op.name: op.type for op in made}
        assert names["gradients/grad_ys_0"] == "identity" and names["gradients/grad_ys_1"] == "ones_like"
        assert names["gradients/grad_ys_2_values"] == names["gradients/grad_ys_2_indices"] == "identity"


@pytest.mark.parametrize("wrong", [{"a": 1.0}, "text", object(), (t for t in [1.0])])
def test_what_is_no_cotangent(wrong: Any) -> None:
    """C3, B9: TypeError that says which entry it is."""
    with ng.Graph().as_default():
        x = scalar()
        with pytest.raises(TypeError, match=r"grad_ys\[1\]"):
            ng.gradients([x, x], x, grad_ys=[None, wrong])

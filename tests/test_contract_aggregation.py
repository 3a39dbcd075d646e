"""The gradient contract, section G: how several contributions to one gradient are summed, dense and row-sparse."""

from __future__ import annotations

import functools
import math
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.autodiff.aggregate import Facts, add_tree, choose
from numgrad.graph.core import Tensor
from numgrad.graph.walk import ancestors
from tests.contract import made_by, scalar, value, values

AM = ng.AggregationMethod
METHODS = [None, AM.ADD_N, AM.TREE, AM.ACCUMULATE, AM.AUTO, AM.EXPERIMENTAL_TREE, AM.EXPERIMENTAL_ACCUMULATE_N]


def depth(tensor: Tensor, name: str) -> int:
    """How many operations of a sum stand above each other."""
    heights: dict[Any, int] = {}
    for op in ancestors([tensor]):
        below = max((heights[t.op] for t in op.inputs), default=0)
        heights[op] = below + (name in op.name)
    return heights[tensor.op]


def ten_terms(method: Any) -> tuple[Tensor, Tensor, list[Any]]:
    x = scalar(name="x")
    y = ng.add_n([ng.sin(x) * (k + 1.0) for k in range(10)])
    (g,), made = made_by(x.graph, lambda: ng.gradients(y, x, aggregation_method=method))
    return x, g, made


def test_constants() -> None:
    """G1: the two EXPERIMENTAL names keep their numbers, DEFAULT is ADD_N; TREE, ACCUMULATE and AUTO are our own."""
    assert (AM.ADD_N, AM.DEFAULT, AM.EXPERIMENTAL_TREE, AM.EXPERIMENTAL_ACCUMULATE_N) == (0, 0, 1, 2)
    assert len({AM.ADD_N, 1, 2, AM.TREE, AM.ACCUMULATE, AM.AUTO}) == 6


@pytest.mark.parametrize("method", METHODS)
def test_values_agree(method: Any) -> None:
    """G1, G3, G4: every strategy gives the sum."""
    with ng.Graph().as_default():
        x, g, _ = ten_terms(method)
        assert_allclose(value(g, {x: 0.5}), 55.0 * np.cos(0.5), rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_one_contribution_is_returned_as_it_is(method: Any) -> None:
    """G2: no operation is added, dense or row-sparse."""
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (3,))
        seed = ng.constant([1.0, 2.0, 3.0])
        (g,), made = made_by(graph, lambda: ng.gradients(x, x, grad_ys=seed, aggregation_method=method))
        assert [op.type for op in made] == ["identity"] and g.op is made[0]
        y = ng.take(x, [0, 0], axis=0)
        (g,), made = made_by(graph, lambda: ng.gradients(y, x, aggregation_method=method))
        assert isinstance(g, ng.IndexedSlices)
        assert not {"add", "add_n", "concat", "scatter_add"} & {op.type for op in made}


def test_strategies_are_visible_in_the_graph() -> None:
    """G3, G4: one n-ary sum; a balanced tree; a running sum; each named after what is summed and how."""
    with ng.Graph().as_default():
        x, g, made = ten_terms(AM.ADD_N)
        assert g.op.type == "add_n" and g.op.name == "gradients/add_n" and len(g.op.inputs) == 10
        for method, word, levels in ((AM.TREE, "tree", 4), (AM.EXPERIMENTAL_TREE, "tree", 4),
                                     (AM.ACCUMULATE, "accumulate", 9), (AM.EXPERIMENTAL_ACCUMULATE_N, "accumulate", 9)):
            x, g, made = ten_terms(method)
            sums = [op for op in made if "gradient_sum" in op.name]
            assert len(sums) == 9 and all(op.type == "add" for op in sums)
            assert all(f"{x.op.name}_gradient_sum/{word}" in op.name for op in sums)
            assert depth(g, "gradient_sum") == levels


def test_accumulated_terms_are_added_as_they_come() -> None:
    """G4: between two additions stand only the operations of one term."""
    with ng.Graph().as_default():
        _, _, made = ten_terms(AM.ACCUMULATE)
        alive = most = 0
        for op in made:
            if op.name.startswith("gradients/sin"):
                alive += op.name.endswith("multiply") or "sin_grad/multiply_" in op.name
            alive -= "gradient_sum" in op.name
            most = max(most, alive)
        assert 0 < most <= 2


def test_sums_by_device() -> None:
    """G3, H5: terms of one device label are summed there, then all, labelled as their first term; "" comes first."""
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (2,))
        terms = []
        for label in ("cpu:1", "cpu:0", "cpu:1", ""):
            with ng.device(label):
                terms.append(ng.exp(x))
        (g,), made = made_by(graph, lambda: ng.gradients(terms, x, aggregation_method=AM.ADD_N))
        partial, total = [op for op in made if op.type.startswith("add")]
        assert g.op is total and total.type == "add_n" and partial.type == "add"
        assert partial.device == "cpu:1" and {t.device for t in partial.inputs} == {"cpu:1"}
        assert [t.device for t in total.inputs] == ["", "cpu:0", "cpu:1"] and total.inputs[2].op is partial
        assert total.device == ""
        for method in (AM.TREE, AM.ACCUMULATE):
            (g,), made = made_by(graph, lambda method=method: ng.gradients(terms, x, aggregation_method=method))
            assert {op.device for op in made if "gradient_sum" in op.name} == {x.device}


def mixed(method: Any, dense_too: bool) -> tuple[Tensor, Any]:
    x = ng.placeholder(ng.float64, (4, 2))
    ys = [ng.sum(ng.take(x, [3, 0], axis=0) * 2.0), ng.sum(ng.take(x, np.array([3], np.int32), axis=0) * 5.0)]
    if dense_too:
        ys.insert(1, ng.sum(x * 10.0))
    return x, ng.gradients(ys, x, aggregation_method=method)[0]


@pytest.mark.parametrize("method", METHODS)
def test_dense_and_row_sparse(method: Any) -> None:
    """G5: rows are made dense and everything is summed, whatever the method."""
    with ng.Graph().as_default():
        x, g = mixed(method, dense_too=True)
        assert isinstance(g, Tensor)
        assert value(g, {x: np.zeros((4, 2))}) == [[12.0] * 2, [10.0] * 2, [10.0] * 2, [17.0] * 2]


@pytest.mark.parametrize("method", METHODS)
def test_row_sparse_alone(method: Any) -> None:
    """G6: rows after rows, repeated ones kept, int32 indices widened beside int64; the dense shape is the first
    one's."""
    with ng.Graph().as_default():
        x, g = mixed(method, dense_too=False)
        assert isinstance(g, ng.IndexedSlices) and g.dense_shape == (4, 2) and g.indices.dtype == np.int64
        feeds = {x: np.zeros((4, 2))}
        rows = dict(zip(value(g.indices), [v[0] for v in value(g.values, feeds)], strict=True))
        assert sorted(value(g.indices)) == [0, 3, 3] and rows[0] == 2.0
        assert value(g.to_dense(), feeds) == [[2.0] * 2, [0.0] * 2, [0.0] * 2, [7.0] * 2]
        taken = [ng.take(x, np.array([k], np.int32), axis=0) for k in (1, 2)]
        (same,) = ng.gradients(taken, x, aggregation_method=method)
        assert same.indices.dtype == np.int32


def test_nothing_to_sum() -> None:
    """G7, U9: where every contribution is None the gradient is None."""
    with ng.Graph().as_default():
        x = scalar()
        assert ng.gradients([ng.floor(x), ng.ceil(x)], x) == [None]
        assert values(ng.gradients([ng.floor(x), x * 2.0, ng.ceil(x)], x), {x: 1.0}) == [2.0]


def test_where_row_sparse_gradients_come_from() -> None:
    """G8, C7: rows along axis 0, of rows of rows, through identities; other axes and arithmetic on the array are
    dense."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (4, 3))
        feeds = {x: np.arange(12.0).reshape(4, 3)}

        def of(y: Any) -> Any:
            return ng.gradients(ng.sum(y * y), x)[0]

        assert isinstance(of(ng.take(x, [[1, 2], [1, 0]], axis=0)), ng.IndexedSlices)
        assert isinstance(of(ng.take(ng.positive(x), [1], axis=0)), ng.IndexedSlices)
        twice = of(ng.take(ng.take(x, [3, 1, 2], axis=0), [0, 0], axis=0))
        assert isinstance(twice, ng.IndexedSlices) and value(twice.indices) == [3, 1, 2]
        assert value(twice.values, feeds) == [[36.0, 40.0, 44.0], [0.0] * 3, [0.0] * 3]
        for y in (ng.take(x, [1], axis=1), ng.take(x * 1.0, [1], axis=0)):
            assert isinstance(of(y), Tensor)


def test_negative_rows() -> None:
    """G8: rows counted from the end are the same rows when made dense."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (4,))
        (g,) = ng.gradients(ng.take(x, [-1, 3], axis=0), x)
        assert value(g, {x: np.zeros(4)}) == [0.0, 0.0, 0.0, 2.0]


def test_second_derivative_through_row_sparse_gradients() -> None:
    """G8, O18: differentiating the values of a row-sparse gradient."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (4,))
        (g,) = ng.gradients(ng.sum(ng.take(x, [1, 1, 2], axis=0) ** 3), x)
        (h,) = ng.gradients(g.values, x)
        assert value(h, {x: [1.0, 2.0, 3.0, 4.0]}) == [0.0, 24.0, 18.0, 0.0]


def test_rows_stand_where_tensors_do() -> None:
    """C7, G5: operations, lists, ng.run and ng.compile take row-sparse gradients as the arrays they stand for."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (3,))
        (g,) = ng.gradients(ng.take(x, np.array([2, 2], np.int64), axis=0), x)
        assert value(ng.multiply(g, 3.0), {x: np.ones(3)}) == [0.0, 0.0, 6.0]
        assert value(x + g, {x: np.ones(3)}) == [1.0, 1.0, 3.0]
        assert value(ng.stack([g, x]), {x: np.ones(3)}) == [[0.0, 0.0, 2.0], [1.0] * 3]
        f = ng.compile(x, [g, g.values, g.indices])
    assert [r.tolist() for r in f(np.zeros(3))] == [[0.0, 0.0, 2.0], [1.0, 1.0], [2, 2]]


@pytest.mark.parametrize("compiled", [False, True], ids=["run", "compile"])
def test_merging_repeated_rows(compiled: bool) -> None:
    """G6: on request repeated rows are merged; in a graph the sums stand once each, among rows of zeros."""
    rng = np.random.default_rng(0)
    rows, vals = rng.integers(0, 5, 20), rng.normal(size=(20, 3))
    with ng.Graph().as_default():
        i, v = ng.placeholder(ng.int64, ("n",)), ng.placeholder(ng.float64, ("n", 3))
        merged = ng.IndexedSlices(v, i, (6, 3)).sum_duplicates()
        outputs = [merged.to_dense(), merged.indices, merged.values]
        found = ng.compile([i, v], outputs)(rows, vals) if compiled else ng.run(outputs, {i: rows, v: vals})
    wanted = np.zeros((6, 3))
    np.add.at(wanted, rows, vals)
    assert_allclose(found[0], wanted, rtol=1e-13, atol=1e-15)
    alive = np.any(found[2] != 0.0, axis=1)
    assert sorted(found[1][alive]) == sorted(set(rows))
    eager = ng.IndexedSlices(vals, rows, (6, 3)).sum_duplicates()
    assert_array_equal(eager.indices.numpy(), np.unique(rows))


def test_huge_densification_warns() -> None:
    """G9: from 1e8 elements of known size there is a warning that tells how much; without a dense shape an error."""
    with ng.Graph().as_default():
        rows = ng.IndexedSlices(ng.constant(np.ones((1, 100))), ng.constant([0]), (10**6, 100))
        with pytest.warns(UserWarning, match="100000000 elements .762 MiB"):
            rows.to_dense()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ng.IndexedSlices(ng.constant(np.ones((1, 100))), ng.constant([0]), (10**5, 100)).to_dense()
        with pytest.raises(ValueError, match="dense shape"):
            ng.IndexedSlices(ng.constant([1.0]), ng.constant([0])).to_dense()


@pytest.mark.parametrize("terms, size, method, wanted", [
    (3, 8, AM.AUTO, "ADD_N"), (100_000, 8, AM.ADD_N, "ADD_N"), (200, 8 * 10**6, AM.AUTO, "ACCUMULATE"),
    (5, None, AM.AUTO, "ADD_N"), (5000, 800, AM.AUTO, "TREE"), (2, 8, AM.EXPERIMENTAL_TREE, "TREE"),
    (2, 8, AM.EXPERIMENTAL_ACCUMULATE_N, "ACCUMULATE"),
])
def test_choice_of_a_strategy(terms: int, size: int | None, method: int, wanted: str) -> None:
    """G1, G10: a pure function of facts; AUTO takes few terms at once, many by tree, much memory as a running sum."""
    assert choose(Facts(terms, size, True, method)) == wanted


# -- what the strategies promise

def test_error_of_a_tree_follows_the_logarithm() -> None:
    """G4: beside exact sums of 1e5 float32 terms the error stays within log2(n) roundings, and a running sum's does
    not."""
    rng = np.random.default_rng(5)
    unit = float(np.finfo(np.float32).eps) / 2
    for n in (100, 1000, 10_000, 100_000):
        data = rng.uniform(0.0, 1.0, (n, 4)).astype(np.float32)
        exact = np.array([math.fsum(column) for column in data.T.astype(np.float64)])
        total = add_tree([ng.asarray(row) for row in data]).numpy()
        assert total.dtype == np.float32
        error = np.max(np.abs(total - exact) / exact)
        assert error <= math.ceil(math.log2(n)) * unit * 1.01, (n, error / unit)
    running = np.max(np.abs(np.add.accumulate(data, axis=0)[-1] - exact) / exact)
    assert running > math.ceil(math.log2(n)) * unit, "the bound tells a tree from a running sum"


def test_gradient_of_many_terms_is_that_tree() -> None:
    """G4: 2000 contributions to one x in a graph: exact to log2(n) roundings, interpreted."""
    rng = np.random.default_rng(6)
    data = rng.uniform(0.0, 1.0, (2000, 4)).astype(np.float32)
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float32, (4,))
        (g,) = ng.gradients([x] * 2000, x, grad_ys=list(data), aggregation_method=AM.TREE)
        total = ng.run(g, {})
    exact = np.array([math.fsum(column) for column in data.T.astype(np.float64)])
    assert np.max(np.abs(total - exact) / exact) <= 11 * np.finfo(np.float32).eps / 2 * 1.01


def stored_terms(method: int, terms: int) -> tuple[Any, Tensor, list[Tensor]]:
    """The gradient of a sum of matrix products: every term is an array of x's size that must be stored before it is
    added."""
    x, w, c = (ng.placeholder(ng.float64, s) for s in (("n", 32), (32, 32), ("n", 32)))
    y = ng.add_n([ng.sum((x @ (w * (1.0 + k))) * c) for k in range(terms)])
    return ng.gradients(y, x, aggregation_method=method)[0], x, [x, w, c]


def test_running_sum_of_200_terms_of_a_million_keeps_two() -> None:
    """G4, G10: the compiled program's memory beside inputs and output is two terms; the interpreter has a third, the
    new sum."""
    n = 31_250
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=s) for s in ((n, 32), (32, 32), (n, 32))]
    with ng.Graph().as_default():
        g, _, inputs = stored_terms(AM.ACCUMULATE, 200)
        f = ng.compile(inputs, g)
    f(arrays[0][:-1], arrays[1], arrays[2][:-1])  # what a first large run imports is no part of the sum
    tracemalloc.start()
    try:
        f(*arrays)
        compiled = tracemalloc.get_traced_memory()[1]
        few = [arrays[0][:10_000], arrays[1], arrays[2][:10_000]]
        tracemalloc.clear_traces()
        ng.run(g, dict(zip(inputs, few, strict=True)))
        interpreted = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    factors = 200 * 32 * 256  # what every term is made from, 8 KiB, is computed first
    assert f.plan()["arena_bytes"] <= 2.01 * n * 256 + factors
    assert compiled <= 3.1 * n * 256 + factors  # and the output
    assert interpreted <= 3.1 * 10_000 * 256 + factors
    assert_allclose(f(*few), ng.run(g, dict(zip(inputs, few, strict=True))), rtol=1e-9)


def test_all_at_once_keeps_every_term() -> None:
    """G3: what ACCUMULATE saves is real: with ADD_N the stored terms are alive together."""
    with ng.Graph().as_default():
        g, _, inputs = stored_terms(AM.ADD_N, 20)
        f = ng.compile(inputs, g)
    f(np.ones((1000, 32)), np.ones((32, 32)), np.ones((1000, 32)))
    assert f.plan()["arena_bytes"] >= 19 * 1000 * 256


@pytest.mark.parametrize("terms", [2, 3, 8, 12, 15, 16, 17, 24, 200])
def test_n_ary_sum_is_one_pass(terms: int) -> None:
    """G3: ADD_N of n terms in the compiled program is one kernel with n reads and one write, in the
    order in which gradients meet: the last use first."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ("n",))
        factors = [ng.placeholder(ng.float64, ("n",)) for _ in range(terms)]
        (g,) = ng.gradients([x * c for c in factors], x, aggregation_method=AM.ADD_N)
        f = ng.compile([x, *factors], g)
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=5000) for _ in range(terms + 1)]
    assert_array_equal(f(*arrays), functools.reduce(np.add, arrays[:0:-1]))
    plan = f.plan()
    assert plan["steps"] == 1 and plan["arena_bytes"] == 0 and plan["bytes_moved"] == (terms + 1) * 5000 * 8
    few = [a[:1] for a in arrays]
    assert_array_equal(f(*few), functools.reduce(np.add, few[:0:-1]))
    assert f(*(a[:0] for a in arrays)).shape == (0,)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float16", "float32", "complex64", "complex128"])
def test_n_ary_sum_of_every_kind(dtype: str) -> None:
    """G3: of all dtypes, and of terms of which some are views."""
    with ng.Graph().as_default():
        xs = [ng.placeholder(dtype, ("n", "m")) for _ in range(20)]
        row = ng.placeholder(dtype, ("m",))
        n, m = xs[0].shape
        turned = ng.placeholder(dtype, (m, n))
        f = ng.compile([*xs, row, turned], ng.add_n([*xs[:10], ng.broadcast_to(row, (n, m)), turned.T, *xs[10:]]))
    rng = np.random.default_rng(5)
    arrays = [(20 * rng.normal(size=s)).astype(np.int64).astype(dtype) for s in [(7, 5)] * 20 + [(5,), (5, 7)]]
    with np.errstate(all="ignore"):
        wanted = functools.reduce(np.add, [*arrays[:20], arrays[20] + 0 * arrays[0], arrays[21].T])
    assert_array_equal(f(*arrays), wanted)


def test_terms_that_can_be_computed_where_they_are_summed_are_not_stored() -> None:
    """G3: 200 elementwise uses of one array need the memory of a few sums, not of 200 terms."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ("n",))
        y = ng.add_n([ng.sum(ng.sin(x * (1.0 + 0.01 * k))) for k in range(200)])
        (g,) = ng.gradients(y, x)
        f = ng.compile(x, [y, g])
    at = np.linspace(-1.0, 1.0, 10_000)
    factors = 1.0 + 0.01 * np.arange(200)
    assert_allclose(f(at)[1], np.cos(np.outer(at, factors)) @ factors, rtol=1e-12, atol=1e-10)
    assert f.plan()["arena_bytes"] <= 6 * at.nbytes

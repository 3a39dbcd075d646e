"""The gradient contract, section J: gradients through and inside traced functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numgrad as ng
from tests.contract import made_by, scalar, value, values


def test_calls_differentiate_to_any_order() -> None:
    """J1: through the body of a call in a graph, four times; an operation of the forward call is never changed."""
    @ng.function
    def cosine(x: Any) -> Any:
        return ng.cos(x)

    with ng.Graph().as_default() as graph:
        x = scalar()
        y = cosine(x)
        forward = [(op.type, op.inputs, op.outputs) for op in graph.operations]
        found = []
        for _ in range(5):
            found.append(value(y, {x: 0.3}))
            (y,) = ng.gradients(y, x)
        assert_allclose(found, [np.cos(0.3), -np.sin(0.3), -np.cos(0.3), np.sin(0.3), np.cos(0.3)], rtol=1e-14)
        assert [(op.type, op.inputs, op.outputs) for op in graph.operations[: len(forward)]] == forward


def test_functions_of_functions() -> None:
    """J1, J4: nested calls, several outputs, an argument that an output does not use has no path to it."""
    @ng.function
    def inner(x: Any, w: Any) -> Any:
        return x * x, 2.0 * w

    @ng.function
    def outer(x: Any, w: Any) -> Any:
        a, b = inner(x, w)
        return {"a": inner(a, b)[0], "b": b, "unused": ng.stop_gradient(a) * w}

    with ng.Graph().as_default():
        x, w = scalar(), scalar()
        y = outer(x, w)
        feeds = {x: 2.0, w: 5.0}
        assert values(ng.gradients(y["a"], [x, w]), feeds) == [32.0, None]
        assert values(ng.gradients(y["b"], [x, w]), feeds) == [None, 2.0]
        assert values(ng.gradients(y["unused"], [x, w]), feeds) == [None, 4.0]
    assert ng.grad(lambda x: outer(x, 1.0)["a"])(2.0) == 32.0


def test_row_sparse_gradients_cross_calls() -> None:
    """J3: rows made inside come out as rows; a row-sparse cotangent of a call goes in."""
    @ng.function
    def gather(p: Any) -> Any:
        return ng.take(p, np.array([1, 1]), axis=0)

    @ng.function
    def doubled(p: Any) -> Any:
        return p * 2.0

    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (3,))
        (g,) = ng.gradients(gather(x), x)
        assert isinstance(g, ng.IndexedSlices) and values([g.indices, g], {x: np.zeros(3)}) == [[1, 1], [0.0, 2.0, 0.0]]
        rows = ng.IndexedSlices(ng.constant([5.0]), ng.constant([2]), (3,))
        assert values(ng.gradients(doubled(x), x, grad_ys=rows), {x: np.zeros(3)}) == [[0.0, 0.0, 10.0]]


def test_gradients_inside_see_what_is_captured() -> None:
    """J5: with respect to tensors of the graph around, what an outer function computed, and captured eager tensors."""
    with ng.Graph().as_default():
        x = scalar()
        a = 3.0 * x

        @ng.function
        def inner(z: Any) -> Any:
            return ng.gradients(a * a * z, [a, x, z])

        z = scalar()
        assert values(inner(z), {x: 2.0, z: 10.0}) == [120.0, 360.0, 36.0]

    @ng.function
    def outer(z: Any) -> Any:
        b = 2.0 * z

        @ng.function
        def inside(q: Any) -> Any:
            return ng.gradients(b * b * q, [b, q])

        return inside(ng.exp(z))

    assert_allclose(outer(1.5), [6.0 * np.exp(1.5), 9.0], rtol=1e-14)
    eager = ng.asarray(5.0)

    @ng.function
    def scaled(z: Any) -> Any:
        return ng.gradients(eager * z * z, [z, eager])

    assert [float(g) for g in scaled(2.0)] == [20.0, 4.0]


def test_a_missing_derivative_is_no_matter_of_the_call() -> None:
    """J7: the call succeeds, the gradient raises."""
    @ng.function
    def guarded(z: Any) -> Any:
        return ng.prevent_gradient(z * 2.0, "a table")

    assert guarded(3.0) == 6.0
    with pytest.raises(LookupError, match="explicitly disabled: a table"):
        ng.grad(guarded)(3.0)


def test_integer_outputs_have_no_path() -> None:
    """J9, U12: None in a graph, beside a float output that counts."""
    @ng.function
    def both(z: Any) -> Any:
        return z * 2.0, ng.cast(z, ng.int64)

    with ng.Graph().as_default() as graph:
        x = scalar()
        floating, whole = both(x)
        assert ng.gradients(whole, x) == [None]
        found, _ = made_by(graph, lambda: ng.gradients([floating, whole], x))
        assert values(found, {x: 1.5}) == [2.0]

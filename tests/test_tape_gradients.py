"""GradientTape as a differentiator: targets, sources, cotangents, what has no path, nesting, graphs, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numgrad as ng
from numgrad.graph.core import apply
from tests.test_tape import numbers


def taped(f: Callable[..., Any], *values: Any, **options: Any) -> tuple[ng.GradientTape, Any, list[ng.Tensor]]:
    """A tape that recorded ``f`` of watched tensors, its result, and the tensors."""
    xs = [ng.asarray(v) for v in values]
    with ng.GradientTape(**options) as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape, y, xs


# -- targets and sources


def test_nests_of_targets_and_sources() -> None:
    """O9: the result has the nest of the sources, targets are summed over every nest."""
    tape, y, (a, b) = taped(lambda a, b: {"u": a * b, "v": [a * 10.0, (b * 100.0,)]}, 2.0, 5.0, persistent=True)
    assert numbers(tape.gradient(y, {"x": a, "rest": [b, (a, b)]})) == {"x": 15.0, "rest": [102.0, (15.0, 102.0)]}
    assert numbers(tape.gradient(y, a)) == 15.0
    assert numbers(tape.gradient(y, (a,))) == (15.0,)
    assert tape.gradient([], a) is None and numbers(tape.gradient([], [a, b])) == [None, None]
    assert tape.gradient(y, []) == []


@pytest.mark.parametrize("bad", [None, 1.0, "text", np.ones(2), [None]])
def test_what_is_no_tensor_is_a_type_error(bad: Any) -> None:
    """O9: None, numbers, arrays and strings are refused as targets and as sources, and the tape is not used up."""
    tape, y, (x,) = taped(lambda x: x * x, 3.0)
    with pytest.raises(TypeError, match="target"):
        tape.gradient(bad, x)
    with pytest.raises(TypeError, match="sources"):
        tape.gradient(y, bad)
    with pytest.raises(TypeError, match="target"):
        tape.gradient([y, bad], x)
    assert numbers(tape.gradient(y, x)) == 6.0


def test_targets_that_are_sources() -> None:
    """O10: the gradient is one, unwatched and integer ones included, for each time that it is a target."""
    tape, y, (x, z) = taped(lambda x, z: x * x + 2.0 * z, 2.0, 3.0, persistent=True)
    n, other = ng.asarray([1, 2]), ng.asarray(1.0)
    assert numbers(tape.gradient(x, x)) == 1.0
    assert numbers(tape.gradient([x, y], x)) == 5.0
    assert numbers(tape.gradient([x, x], x)) == 2.0
    assert numbers(tape.gradient([x, y, z], [x, z])) == [5.0, 3.0]
    assert numbers(tape.gradient([n, other, n], [n, other])) == [[2, 2], 1.0]
    assert tape.gradient(n, n).dtype == np.int64
    assert numbers(tape.gradient(y, [y, x])) == [1.0, 4.0]
    assert numbers(tape.gradient(y, y, output_gradients=4.0)) == 4.0


def test_variables_as_targets() -> None:
    """O10: a variable stands for its handle; what was read from it is differentiated."""
    v, w = ng.Variable([1.0, 2.0]), ng.Variable(3.0)
    with ng.GradientTape(persistent=True) as tape:
        read = v.value()
        y = v * w
    assert numbers(tape.gradient(v, v)) == [1.0, 1.0]
    assert tape.gradient(v, w) is None
    assert numbers(tape.gradient(read, v)) == [1.0, 1.0]
    assert numbers(tape.gradient(y, [v, w])) == [[3.0, 3.0], 3.0]


def test_sources_without_a_path() -> None:
    """O11: downstream of the target, or unrelated; a repeated source gives the same gradient twice."""
    tape, (y, z), (x,) = taped(lambda x: (x * x, x * x * x), 2.0, persistent=True)
    assert tape.gradient(y, z) is None and tape.gradient(ng.asarray(1.0), x) is None
    first, second = tape.gradient(y, [x, x])
    assert first is second and numbers(first) == 4.0


def test_complex_targets_start_from_ones() -> None:
    """O12, D6: without cotangents; gradients are conjugated as in graphs."""
    tape, y, (z,) = taped(lambda z: z * z, 1.0 + 2.0j, persistent=True)
    assert numbers(tape.gradient(y, z)) == 2.0 - 4.0j
    assert numbers(tape.gradient(y, z, output_gradients=1j)) == 1j * (2.0 - 4.0j)


# -- cotangents


def test_output_gradients_are_matched_to_targets() -> None:
    """O13: in the targets' nest or flat, of any array type; None is ones; integers and other floats are cast."""
    tape, y, (x,) = taped(lambda x: [x * 2.0, x * 3.0], [1.0, 1.0], persistent=True)
    want = [[2.0 + 30.0, 4.0 + 60.0]]
    for given in ([[1.0, 2.0], [10.0, 20.0]], [np.array([1, 2]), ng.asarray([10.0, 20.0])],
                  (np.float32([1, 2]), [10.0, 20.0])):
        assert numbers(tape.gradient(y, [x], output_gradients=given)) == want
    assert numbers(tape.gradient(y, x, output_gradients=[None, [1.0, 2.0]])) == [5.0, 8.0]
    assert numbers(tape.gradient(y, x, output_gradients=None)) == [5.0, 5.0]
    single = y[0]
    for given in ([1.0, 2.0], [[1.0, 2.0]], [ng.asarray([1.0, 2.0])], np.array([1.0, 2.0])):
        assert numbers(tape.gradient(single, x, output_gradients=given)) == [2.0, 4.0]
    rows = ng.IndexedSlices([5.0], [1], (2,))
    assert numbers(tape.gradient(single, x, output_gradients=rows)) == [0.0, 10.0]
    nested, z, (a,) = taped(lambda a: {"p": a * 2.0, "q": a * 3.0}, 1.0, persistent=True)
    assert numbers(nested.gradient(z, a, output_gradients={"q": 10.0, "p": 1.0})) == 32.0
    assert numbers(nested.gradient(z, a, output_gradients=[1.0, 10.0])) == 32.0


@pytest.mark.parametrize("given, error", [
    ([1.0, 2.0], ValueError), ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], ValueError),
    ([[[1.0, 1.0]], [1.0, 1.0]], ValueError), ([[1.0], [1.0, 1.0]], ValueError),
    ([[1j, 1.0], None], TypeError), (["x", None], TypeError),
    ([[True, False], None], TypeError)])
def test_output_gradients_of_a_wrong_number_shape_or_kind(given: Any, error: type[Exception]) -> None:
    """O13, U3: nothing is broadcast, left out or taken for something else."""
    tape, y, (x,) = taped(lambda x: [x * 2.0, x * 3.0], [1.0, 1.0], persistent=True)
    with pytest.raises(error, match="output_gradients"):
        tape.gradient(y, x, output_gradients=given)
    with pytest.raises(ValueError, match="output_gradients"):
        tape.gradient(y[0], x, output_gradients=1.0)
    with pytest.raises(ValueError, match="output_gradients"):
        tape.gradient(y[0], x, output_gradients=[y[0], y[1]])


def test_unconnected_gradients_are_none_or_zeros() -> None:
    """O14, F1, F3: zeros have the source's shape and dtype, for variables, integers and dead paths too."""
    v = ng.Variable(np.ones((2, 1), np.float32))
    tape, y, (x, z, n) = taped(lambda x, z, n: x * ng.stop_gradient(z), 3.0, [1.0 + 1j, 2.0], [1, 2], persistent=True)
    assert numbers(tape.gradient(y, [z, v, n])) == [None, None, None]
    for option in ("zero", ng.UnconnectedGradients.ZERO):
        zeros = tape.gradient(y, [x, z, v, n], unconnected_gradients=option)
        assert numbers(zeros[1:]) == [[0, 0], [[0], [0]], [0, 0]]
        assert [g.dtype for g in zeros] == [np.float64, np.complex128, np.float32, np.int64]
    for bad in ("nonsense", None):
        with pytest.raises(ValueError, match="Unknown value for unconnected_gradients"):
            tape.gradient(y, x, unconnected_gradients=bad)


# -- rules


def test_outputs_that_nobody_used() -> None:
    """O15, D4: an unused sibling is unconnected; an integer output has no gradient."""
    def f(x: Any) -> Any:
        values, indices = ng.nn.top_k(x, 2)
        return values, indices

    tape, (values, indices), (x,) = taped(f, [1.0, 3.0, 2.0], persistent=True)
    assert numbers(tape.gradient(values, x)) == [0.0, 1.0, 1.0]
    assert tape.gradient(indices, x) is None
    tape, (a, b), (x,) = taped(lambda x: ng.split(x, 2), [1.0, 2.0], persistent=True)
    assert tape.gradient(a * 1.0, b) is None


def test_operations_without_a_rule() -> None:
    """O16, E6, E12: LookupError when the gradient is taken, naming the operation and the line."""
    def f(x: Any) -> Any:
        return ng.prevent_gradient(x, "not here") * 2.0

    tape, y, (x,) = taped(f, 1.0)
    with pytest.raises(LookupError, match=r"not here.*test_tape_gradients\.py"):
        tape.gradient(y, x)


def test_rules_are_verified() -> None:
    """O16, O17: a rule that returns a wrong number or shape of gradients is a ValueError."""
    for answer in (lambda g: (g, g), lambda g: ng.ones((7,))):
        def f(x: Any, answer: Any = answer) -> Any:
            return ng.custom_gradient(lambda v: (v * 2.0, answer))(x)

        tape, y, (x,) = taped(f, [1.0, 2.0])
        with pytest.raises(ValueError):
            tape.gradient(y, x)


def test_errors_in_rules_surface() -> None:
    """O16: what a user's rule raises is not replaced."""
    def rule(g: Any) -> Any:
        raise ArithmeticError("mine")

    tape, y, (x,) = taped(ng.custom_gradient(lambda x: (x * 2.0, rule)), 1.0)
    with pytest.raises(ArithmeticError, match="mine"):
        tape.gradient(y, x)


def test_nothing_behind_stop_gradient_is_differentiated() -> None:
    """O15, N12: an operation that would refuse is never asked."""
    def f(x: Any) -> Any:
        return ng.stop_gradient(ng.prevent_gradient(x, "never")) * x

    tape, y, (x,) = taped(f, 3.0)
    assert numbers(tape.gradient(y, x)) == 3.0


def test_where_leaks_nothing_from_the_branch_not_taken() -> None:
    """O1, R: masking works on tapes as in graphs."""
    tape, y, (x,) = taped(lambda x: ng.sum(ng.where(x > 0.0, ng.log(x), 0.0)), [-1.0, 0.0, 2.0])
    assert numbers(tape.gradient(y, x)) == [0.0, 0.0, 0.5]


def test_row_sparse_gradients() -> None:
    """O18, G5, G6: gathers of rows give rows, two of them are joined, a dense term makes the sum dense."""
    v = ng.Variable([[1.0], [2.0], [3.0]])
    with ng.GradientTape(persistent=True) as tape:
        one = ng.take(v, [2, 2], axis=0)
        two = one * 2.0, ng.take(v, [0], axis=0)
        both = ng.sum(v * v), one
    g = tape.gradient(one, v)
    assert isinstance(g, ng.IndexedSlices) and numbers([g.values, g.indices]) == [[[1.0], [1.0]], [2, 2]]
    joined = tape.gradient(two, v)
    assert isinstance(joined, ng.IndexedSlices)
    rows = sorted(zip(numbers(joined.indices), numbers(joined.values), strict=True))
    assert rows == [(0, [1.0]), (2, [2.0]), (2, [2.0])]
    assert numbers(tape.gradient(both, v)) == [[2.0], [4.0], [8.0]]
    with pytest.raises(TypeError, match="values"):
        tape.gradient(g, v)
    with pytest.raises(TypeError, match="values"):
        tape.gradient(one, g)


def test_second_order_through_rows() -> None:
    """O18: the values of a row-sparse gradient are differentiated like any tensor."""
    v = ng.Variable([1.0, 2.0, 3.0])
    with ng.GradientTape() as outer:
        with ng.GradientTape() as inner:
            y = ng.sum(ng.take(v, [2, 0], axis=0) ** 3)
        g = inner.gradient(y, v)
    assert numbers(ng.asarray(outer.gradient(g.values, v))) == [6.0, 0.0, 18.0]


def test_assignments() -> None:
    """O19: no derivative flows through an assignment; a read after it counts as a read."""
    v, x = ng.Variable(2.0), ng.asarray(3.0)
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        before = v * v
        v.assign(x * x)
        after = v * v
    assert numbers(tape.gradient(after, [v, x])) == [18.0, None]
    assert numbers(tape.gradient(before, v)) == 4.0
    assert numbers(tape.gradient([before, after], v)) == 22.0


# -- nesting


def test_nested_tapes() -> None:
    """O20: what an inner tape computes within the block of an outer one is recorded; watching is per tape."""
    x, v = ng.asarray(3.0), ng.Variable(2.0)
    with ng.GradientTape() as outer:
        with ng.GradientTape() as inner:
            inner.watch(x)
            y = x * x * v * v
        g, h = inner.gradient(y, [x, v])
    assert numbers([g, h]) == [24.0, 36.0]
    assert numbers(outer.gradient([g, h], [x, v])) == [None, 24.0 + 36.0 / 2]


def test_nested_to_order_four() -> None:
    """O20, O3: four tapes, and four orders on one persistent tape."""
    x = ng.asarray(0.7)
    with ng.GradientTape() as t4, ng.GradientTape() as t3, ng.GradientTape() as t2, ng.GradientTape() as t1:
        for tape in (t1, t2, t3, t4):
            tape.watch(x)
        y = ng.sin(x) * x
        orders = []
        for tape in (t1, t2, t3):
            y = tape.gradient(y, x)
            orders.append(y)
    orders.append(t4.gradient(y, x))
    s, c = np.sin(0.7), np.cos(0.7)
    assert_allclose([float(o) for o in orders], [s + 0.7 * c, 2 * c - 0.7 * s, -3 * s - 0.7 * c, -4 * c + 0.7 * s])


def test_python_control_flow_is_recorded_as_it_runs() -> None:
    """O27, K15: loops and branches of Python, and the library's own run eagerly, are ordinary recorded operations."""
    def f(x: Any) -> Any:
        y = x
        for _ in range(3):
            y = y * x if float(y) < 10.0 else y + x
        z = ng.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * x), (0, x))[1]
        _, ys = ng.scan(lambda carry, row: (carry * row, carry), x, ng.asarray([1.0, 2.0]))
        return y, z, ng.cond(x > 0.0, lambda: x * 5.0, lambda: x), ys

    tape, (y, z, w, ys), (x,) = taped(f, 2.0, persistent=True)
    assert [numbers(tape.gradient(t, x)) for t in (y, z, w, ys)] == [32.0, 32.0, 5.0, 2.0]


def test_python_functions() -> None:
    """O27: an opaque function with a derivative of its own is recorded, what NumPy does to plain values is not."""
    def square(x: Any) -> Any:
        return ng.py_function(np.square, x, x, vjp=lambda op, g: g * 2.0 * op.inputs[0])

    tape, (y, z), (x,) = taped(lambda x: (square(x), x * float(x.numpy() * 2.0)), 3.0, persistent=True)
    assert numbers(tape.gradient([y, z], x)) == 12.0
    assert tape.gradient(ng.asarray(np.square(x.numpy())), x) is None


# -- in graphs


def test_tape_in_a_graph() -> None:
    """O21: a tape records nodes, and its gradients are nodes under gradient_tape/ with the forward op's name."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ("n",), name="x")
        early = x * x
        with ng.GradientTape(persistent=True) as tape:
            tape.watch(x)
            with ng.name_scope("layer"):
                y = ng.sum(early * ng.sin(x))
            g = tape.gradient(y, x)
            h = tape.gradient(g, x)
        zero = tape.gradient(early, x, unconnected_gradients="zero")
        none = tape.gradient(early, x)
    assert none is None and g.op.name.startswith("gradient_tape/layer/")
    at = np.array([0.3, 0.5])
    assert_allclose(ng.run(g, {x: at}), at**2 * np.cos(at))
    assert_allclose(ng.run(h, {x: at}), -at**2 * np.sin(at))
    assert_allclose(ng.run(zero, {x: at}), [0.0, 0.0])


def test_watched_tensors_that_enter_a_graph() -> None:
    """O1, J5: an eager tensor that was watched is a source for targets in the graph that uses it."""
    x = ng.asarray([1.0, 2.0])
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        eager = x * x
        with ng.Graph().as_default():
            p = ng.placeholder(ng.float64, (2,))
            y = ng.sum(eager * p) + ng.sum(x)
            g, e = tape.gradient(y, [x, eager])
    assert_allclose(ng.run([g, e], {p: [10.0, 100.0]}), [[21.0, 401.0], [10.0, 100.0]])
    assert numbers(tape.gradient(eager, x)) == [2.0, 4.0]


def test_tape_in_the_body_of_a_loop() -> None:
    """O21, J6: a tape inside the body differentiates with respect to what stands outside."""
    v = ng.Variable(3.0)

    @ng.function
    def f(x: Any) -> Any:
        def body(i: Any, total: Any) -> Any:
            with ng.GradientTape() as tape:
                tape.watch(x)
                y = x * x * v
            gx, gv = tape.gradient(y, [x, v])
            return i + 1, total + gx + gv

        return ng.while_loop(lambda i, total: i < 2, body, (0, x * 0.0))[1]

    assert float(f(np.array(2.0))) == 2 * (12.0 + 4.0)


def test_eager_gradients_while_a_graph_is_being_built() -> None:
    """O9: eager targets are differentiated at once, whatever graph is the default."""
    tape, y, (x,) = taped(lambda x: x * x, 3.0)
    with ng.Graph().as_default() as graph:
        assert numbers(tape.gradient(y, x)) == 6.0
    assert not graph.operations


def test_empty_arrays() -> None:
    """O9: gradients of arrays without elements have their shape."""
    tape, y, (x,) = taped(lambda x: ng.sum(ng.exp(x)), np.zeros((0, 3)))
    assert tape.gradient(y, x).shape == (0, 3)


def test_unusual_memory() -> None:
    """O9: views, read-only arrays and other byte orders are differentiated like any array."""
    data = np.arange(6.0).reshape(2, 3).T[::-1]
    data.flags.writeable = False
    for array in (data, data.astype(">f8")):
        tape, y, (x,) = taped(lambda x: ng.sum(x * x), array)
        assert_allclose(tape.gradient(y, x).numpy(), 2 * data)


def test_apply_is_what_is_recorded() -> None:
    """O1: every operation of the table is recorded the same way, public function or not."""
    tape, y, (x,) = taped(lambda x: apply("identity", x), 3.0)
    assert numbers(tape.gradient(y, x)) == 1.0 and y is not x

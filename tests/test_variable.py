"""Variables: values, assignment, reads in graphs, compiled programs and functions, gradients with respect to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from tests.test_tape import numbers

# -- values


def test_initial_values_are_copied() -> None:
    """O4: of arrays, tensors, numbers and variables; dtype and shape are fixed from then on."""
    data = np.array([1.0, 2.0])
    v = ng.Variable(data, name="v")
    data[0] = 9.0
    assert_array_equal(v.numpy(), [1.0, 2.0])
    assert (v.dtype, v.shape, v.ndim, v.size, v.name, v.trainable) == (np.float64, (2,), 1, 2, "v", True)
    assert ng.Variable(v, dtype=np.float32).dtype == np.float32
    assert ng.Variable(ng.asarray([[1, 2]]), trainable=False).shape == (1, 2)
    assert ng.Variable(np.ones(2, ">f8")).dtype == np.dtype("f8")
    assert repr(v) == "<numgrad.Variable 'v' float64(2,)>"


def test_values_handed_out_do_not_change() -> None:
    """O19: numpy() is a copy, tensors keep the value of their read, and the memory cannot be written."""
    v = ng.Variable([1.0, 2.0])
    copy, read = v.numpy(), v.value()
    copy[0] = 7.0
    v.assign([3.0, 4.0])
    assert_array_equal(read.numpy(), [1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        v.value().numpy()[0] = 1.0
    assert_array_equal(v.read_value().numpy(), [3.0, 4.0])


def test_variables_stand_for_tensors() -> None:
    """B3: operators from both sides, indexing, functions of numgrad and NumPy, lists, conversions."""
    v, n = ng.Variable([[1.0, 2.0], [3.0, 4.0]]), ng.Variable(3)
    x = v.numpy()
    for got, want in ((v + 1.0, x + 1.0), (2.0 - v, 2.0 - x), (v @ v, x @ x), (x @ v, x @ x), (-v, -x), (v**2, x**2),
                      (v[0, 1], x[0, 1]), (v[:, 0], x[:, 0]), (v > 2.0, x > 2.0), (ng.exp(v), np.exp(x)),
                      (np.sin(v), np.sin(x)), (np.sum(v, axis=0), x.sum(axis=0)), (v.T, x.T), (v.sum(), x.sum()),
                      (v.reshape(4), x.reshape(4)), (ng.stack([v, v]), np.stack([x, x])), (abs(v), abs(x)),
                      (ng.asarray([n, 2]), np.array([3, 2])), (ng.asarray(v) + v, 2 * x)):
        assert isinstance(got, ng.Tensor)
        assert_array_equal(got.numpy(), want)
    assert (len(v), int(n), float(n), complex(n), bool(n), list(range(5))[n.value()]) == (2, 3, 3.0, 3 + 0j, True, 3)
    assert_array_equal(np.asarray(v), x)
    assert [float(row[0]) for row in v] == [1.0, 3.0]
    with pytest.raises(TypeError):
        len(n)
    assert {v: 1, n: 2}[v] == 1


# -- assignment


def test_assignment() -> None:
    """O19: the three kinds return the variable and copy; integers and narrower floats are cast."""
    v = ng.Variable([1.0, 2.0])
    data = np.array([3.0, 4.0])
    assert v.assign(data) is v
    data[0] = 9.0
    assert_array_equal(v.assign_add([1, 1]).assign_sub(np.float32([0.5, 0.5])).numpy(), [3.5, 4.5])
    assert_array_equal(v.assign(v * 2.0).numpy(), [7.0, 9.0])
    assert_array_equal(v.assign_add(v).numpy(), [14.0, 18.0])
    n = ng.Variable(np.int8(100))
    assert n.assign_add(np.int8(100)).numpy() == -56 and n.dtype == np.int8


@pytest.mark.parametrize("value, error", [
    ([1.0], ValueError), (1.0, ValueError), ([[1.0, 2.0]], ValueError), ([1j, 0], TypeError), (["a", "b"], TypeError)])
def test_values_that_do_not_fit(value: Any, error: type[Exception]) -> None:
    """O19: another shape is a ValueError, another kind of dtype a TypeError, and the value stays."""
    v = ng.Variable([1.0, 2.0])
    for assign in (v.assign, v.assign_add, v.assign_sub):
        with pytest.raises(error):
            assign(value)
    assert_array_equal(v.numpy(), [1.0, 2.0])
    with pytest.raises(TypeError):
        ng.Variable([1, 2]).assign([1.5, 2.5])


def test_rows_are_added_in_place_unless_somebody_looks() -> None:
    """G6, O18: repeated rows add up; tensors that were read, views and recordings keep their values."""
    v = ng.Variable(np.zeros((4, 2)))
    memory = v.array.ctypes.data
    v.scatter_add([1, 1, 3], np.ones((3, 2)))
    assert v.array.ctypes.data == memory
    assert_array_equal(v.numpy(), [[0, 0], [2, 2], [0, 0], [1, 1]])
    read = v.value()
    v.scatter_add(ng.IndexedSlices([[5.0, 5.0]], [0], (4, 2)))
    assert_array_equal(read.numpy()[0], [0.0, 0.0])
    assert_array_equal(v.numpy()[0], [5.0, 5.0])
    row = v.value().numpy()[1:2]
    v.scatter_add([1], [[1.0, 1.0]])
    assert_array_equal(row, [[2.0, 2.0]])
    refused = (([0], [1.0, 1.0], ValueError), ([9], [[1.0, 1.0]], IndexError), ([0], [[1j, 0]], TypeError))
    for rows, values, error in refused:
        with pytest.raises(error):
            v.scatter_add(rows, values)
    assert_array_equal(v.numpy()[1], [3.0, 3.0])


def test_a_step_that_touches_only_rows() -> None:
    """O18: the gradient of an embedding is applied to the rows that were read."""
    table = ng.Variable(np.ones((5, 2)))
    with ng.GradientTape() as tape:
        loss = ng.sum(ng.take(table, [4, 4, 0], axis=0) ** 2)
    g = tape.gradient(loss, table)
    table.scatter_add(ng.IndexedSlices(-0.1 * g.values, g.indices, g.dense_shape))
    assert_allclose(table.numpy(), [[0.8, 0.8], [1, 1], [1, 1], [1, 1], [0.6, 0.6]])


def test_a_compiled_step_that_touches_only_rows() -> None:
    """O18, G6: in a traced function too the rows are added in place, and reads that follow see them."""
    table, count = ng.Variable(np.ones((5, 2))), ng.Variable(0)

    @ng.function
    def step(ids: Any, read: bool = False) -> Any:
        with ng.GradientTape() as tape:
            loss = ng.sum(ng.take(table, ids, axis=0) ** 2)
        g = tape.gradient(loss, table)
        table.scatter_add(ng.IndexedSlices(-0.1 * g.values, g.indices, g.dense_shape))
        count.assign_add(1)
        return (loss, table * 1.0) if read else loss

    memory = table.array.ctypes.data
    assert float(step(np.array([4, -1, 0]))) == 6.0
    assert_allclose(table.numpy(), [[0.8, 0.8], [1, 1], [1, 1], [1, 1], [0.6, 0.6]])
    assert table.array.ctypes.data == memory and int(count) == 1
    before = table.value()  # a tensor that still shows the rows
    _, after = step(np.array([1]), True)
    assert_allclose(after, [[0.8, 0.8], [0.8, 0.8], [1, 1], [1, 1], [0.6, 0.6]])
    assert_allclose(table.numpy(), after)
    assert before.numpy()[1, 0] == 1.0
    with pytest.raises(IndexError):
        step(np.array([5]))
    assert_allclose(table.numpy(), after)
    assert int(count) == 2, "nothing is assigned when a row is missing"
    with ng.GradientTape() as tape:
        loss = step(np.array([2]))
    assert_allclose(tape.gradient(loss, table).to_dense().numpy()[2], [2.0, 2.0])
    assert_allclose(table.numpy()[2], [0.8, 0.8])

    @ng.function
    def twice(rows: Any) -> None:
        table.scatter_add(rows, np.ones((1, 2)))
        table.scatter_add(rows, np.ones((1, 2)))

    twice(np.array([3]))
    assert_allclose(table.numpy()[3], [3.0, 3.0])

    @ng.function
    def missing(rows: Any) -> None:
        count.assign_add(1)
        table.scatter_add(rows, np.ones((1, 2)))

    with pytest.raises(IndexError, match="rows 7 to 7 of .*, which has 5"):
        missing(np.array([7]))
    assert int(count) == 3


# -- in graphs


def test_reads_in_a_graph_take_the_value_when_it_runs() -> None:
    """B3, A8: one node for each variable, evaluated and compiled with the value of the moment."""
    v = ng.Variable([1.0, 2.0], name="weights")
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (2,))
        y = ng.sum(x * v) + v[0]
        f = ng.compile(x, [y, *ng.gradients(y, [x, v])])
        bound = f.bind(np.array([10.0, 20.0]))
    assert v.handle_in(graph).op.name == "weights" and "weights: float64(2,) = variable" in ng.show(graph)
    for value in ([1.0, 2.0], [3.0, 5.0]):
        v.assign(value)
        want = 10.0 * value[0] + 20.0 * value[1] + value[0]
        assert float(ng.run(y, {x: [10.0, 20.0]})) == want
        for results in (f(np.array([10.0, 20.0])), bound()):
            assert float(results[0]) == want
            assert_array_equal(results[1], value)
            assert_array_equal(results[2], [11.0, 20.0])


def test_gradients_in_a_graph() -> None:
    """B3, F1: through every read, also of variables that are not trainable; zeros of their shape without a path."""
    v, w, unused = ng.Variable(3.0, trainable=False), ng.Variable([1.0, 2.0]), ng.Variable(np.float32([[1, 2]]))
    with ng.Graph().as_default():
        y = v * v + ng.sum(w) * v.value()
        found = ng.gradients(y, [v, w, unused], unconnected_gradients="zero")
        assert numbers_of(found) == [9.0, [3.0, 3.0], [[0.0, 0.0]]]
        assert found[2].dtype == np.float32
        assert ng.gradients(y, unused) == [None]
        assert numbers_of(ng.gradients(v, v)) == [1.0]
        assert numbers_of(ng.gradients(y, w, stop_gradients=[v])) == [[3.0, 3.0]]


def numbers_of(nodes: Any) -> Any:
    return [ng.run(n).tolist() for n in nodes]


def test_hessians_with_respect_to_variables() -> None:
    """M7, J6: in a graph and in a traced function."""
    v = ng.Variable([1.0, 2.0])
    with ng.Graph().as_default():
        assert numbers_of(ng.hessians(ng.sum(v**3), v)) == [[[6.0, 0.0], [0.0, 12.0]]]

    @ng.function
    def f() -> Any:
        return ng.hessians(ng.sum(v**3), v)[0]

    assert_array_equal(f(), [[6.0, 0.0], [0.0, 12.0]])


def test_a_graph_only_computes() -> None:
    """O19: assignment of or in a graph that is no function's is refused, and so is a node as initial value."""
    v, row = ng.Variable(1.0), ng.Variable([1.0])
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        for assign in (lambda: v.assign(x), lambda: v.assign_add(1.0), lambda: row.scatter_add([0], [1.0])):
            with pytest.raises(ng.errors.GraphError, match="function"):
                assign()
        with pytest.raises(ng.errors.GraphError, match="no value yet"):
            ng.Variable(x)
    with pytest.raises(ng.errors.GraphError):
        v.assign(x)
    assert float(v) == 1.0


# -- in functions


def test_functions_read_the_current_value() -> None:
    """J5: one trace, compiled, serves all values; transforms see variables as well."""
    v = ng.Variable([1.0, 2.0])

    @ng.function
    def f(x: Any) -> Any:
        return ng.sum(x * v)

    slope = ng.grad(lambda x: ng.sum(x * x * v))
    for value in ([1.0, 2.0], [3.0, 5.0]):
        v.assign(value)
        assert float(f(np.array([1.0, 10.0]))) == value[0] + 10.0 * value[1]
        assert_array_equal(slope(np.ones(2)), 2.0 * np.array(value))
    assert f.trace_count == 1


def test_assignment_in_a_function() -> None:
    """O19, J5: it takes place when the function has run, later reads in it see it, gradients do not pass it."""
    v, count = ng.Variable([1.0, 2.0]), ng.Variable(0)

    @ng.function
    def f(x: Any) -> Any:
        before = ng.sum(v)
        v.assign(x * v)
        count.assign_add(1)
        after = ng.sum(v * v)
        return before, after, *ng.gradients([before, after], [v, x])

    x = np.array([2.0, 3.0])
    before, after, dv, dx = f(x)
    assert (float(before), float(after)) == (3.0, 40.0)
    assert_array_equal(dv, [1.0 + 4.0, 1.0 + 12.0])
    assert_array_equal(v.numpy(), [2.0, 6.0])
    assert_array_equal(x, [2.0, 3.0])
    assert float(f(x)[0]) == 8.0 and int(count) == 2
    assert dx is None


def test_a_variable_that_is_only_assigned() -> None:
    """O19: even when nothing else is computed."""
    v = ng.Variable([1.0, 2.0])

    @ng.function
    def keep(x: Any) -> None:
        v.assign(x)

    assert keep(np.array([5.0, 6.0])) is None
    assert_array_equal(v.numpy(), [5.0, 6.0])


def test_a_training_step() -> None:
    """O4, J10: a tape inside a function, gradients with respect to what was read there, and an update."""
    rng = np.random.default_rng(1)
    inputs, target = rng.normal(size=(20, 3)), rng.normal(size=20)
    w, b = ng.Variable(np.zeros(3)), ng.Variable(0.0)

    @ng.function
    def step(x: Any, y: Any, rate: float) -> Any:
        with ng.GradientTape() as tape:
            loss = ng.mean((x @ w + b - y) ** 2)
        variables = tape.watched_variables()
        for variable, g in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(rate * g)
        return loss

    losses = [float(step(inputs, target, 0.1)) for _ in range(600)]
    assert step.trace_count == 1 and losses[-1] < losses[0]
    design = np.column_stack([inputs, np.ones(20)])
    best = np.linalg.lstsq(design, target, rcond=None)[0]
    assert_allclose(np.append(w.numpy(), b.numpy()), best, rtol=1e-5, atol=1e-6)


def test_reads_in_loops_and_branches() -> None:
    """J6: a variable that is read in a body is one of the values that it captures; it cannot be assigned there."""
    v = ng.Variable(2.0)

    @ng.function
    def f(x: Any) -> Any:
        y = ng.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * v), (0, x))[1]
        return y, *ng.gradients(y, [v, x])

    assert [float(r) for r in f(np.array(5.0))] == [40.0, 60.0, 8.0]

    @ng.function
    def g(x: Any) -> Any:
        def body(i: Any, t: Any) -> Any:
            v.assign(t)
            return i + 1, t

        return ng.while_loop(lambda i, t: i < 3, body, (0, x))

    with pytest.raises(ng.errors.GraphError, match="body of a loop"):
        g(np.array(5.0))


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """O19: reads and assignments are the same when Numba's compiler is switched off."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    v = ng.Variable([1.0, 2.0])

    @ng.function
    def f(x: Any) -> Any:
        v.assign_add(x)
        return ng.sum(v)

    assert [float(f(np.ones(2))) for _ in range(2)] == [5.0, 7.0]
    assert_array_equal(v.numpy(), [3.0, 4.0])


def test_tapes_and_variables_of_functions() -> None:
    """O4, J1: a function that is called under a tape has its variables watched, and gradients reach them."""
    v, fixed = ng.Variable(3.0), ng.Variable(5.0, trainable=False)

    @ng.function
    def f(x: Any) -> Any:
        return v * v * x * fixed

    with ng.GradientTape(persistent=True) as tape:
        y = f(ng.asarray(2.0))
        z = f(np.float64(2.0))
    assert tape.watched_variables() == (v,)
    assert numbers(tape.gradient([y, z], [v, fixed])) == [120.0, None]


def test_variables_are_freed() -> None:
    """O4: variables have no registry: dropping one frees its memory."""
    import gc
    import weakref

    v = ng.Variable(np.ones(1000))
    with ng.GradientTape() as tape:
        y = ng.sum(v * v)
    tape.gradient(y, v)
    held = weakref.ref(v)
    gc.disable()
    try:
        del v, tape
        assert held() is None
    finally:
        gc.enable()

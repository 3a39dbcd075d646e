"""`ng.function`: what a trace holds for, kinds of arguments and results, static values, threads, processes."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import multiprocessing
import os
import pickle
import threading
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import numgrad as ng
from numgrad.errors import GraphError, ShapeError
from numgrad.tracing.function import Function
from numgrad_kernels.build import counters


@ng.function
def importable(x: Any) -> Any:
    """Twice the array."""
    return x + x


def undecorated(x: Any, power: int) -> Any:
    return x**power


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Model:
    weights: Any
    bias: Any
    name: str = "m"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError("a name is text")


class Kind(enum.IntEnum):
    ONE = 1
    TWO = 2


# -- what one trace serves


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64", "bool"])
def test_one_trace_for_each_dtype_and_rank_serves_all_sizes(dtype: str) -> None:
    f = ng.function(lambda x, y: {"sum": np.sum(x + y, axis=0), "both": (x * y, x.shape[0])})
    rng = np.random.default_rng(0)
    built = None
    for rows, columns in [(3, 4), (1, 1), (0, 4), (4, 0), (0, 0), (1, 5), (7, 1), (50, 3)]:
        x, y = ((rng.normal(size=(rows, columns)) * 3).astype(dtype) for _ in range(2))
        result = f(x, y)
        np.testing.assert_allclose(result["sum"], np.sum(x + y, axis=0), rtol=1e-5)
        np.testing.assert_array_equal(result["both"][0], x * y)
        assert result["both"][0].dtype == x.dtype
        assert int(result["both"][1]) == rows
        built = built if built is not None else counters.compiled
    assert f.trace_count == 1
    assert counters.compiled == built  # a new size compiles nothing


def test_another_dtype_or_rank_is_another_trace() -> None:
    f = ng.function(lambda x: x * 2)
    for x in (np.ones(2), np.ones(3), np.ones(2, np.float32), np.ones((2, 2)), np.float64(1.0), np.array(1.0)):
        assert f(x).dtype == x.dtype
    assert f.trace_count == 4


def test_broadcasting_against_an_axis_of_size_1_is_a_trace_of_its_own() -> None:
    f = ng.function(lambda x, y: x + y)
    for shapes in [((3,), (3,)), ((5,), (5,)), ((1,), (4,)), ((1,), (6,)), ((4,), (1,)), ((1,), (1,)), ((0,), (0,))]:
        x, y = (np.arange(float(n[0])) for n in shapes)
        np.testing.assert_array_equal(f(x, y), x + y)
    assert f.trace_count == 3
    with pytest.raises(ShapeError, match=r"add: cannot broadcast shapes .*test_function.py"):
        f(np.ones(2), np.ones(3))
    np.testing.assert_array_equal(f(np.ones(8), np.ones(8)), np.full(8, 2.0))
    assert f.trace_count == 3


def test_sizes_that_python_looks_at_get_traces_of_their_own() -> None:
    @ng.function
    def total(x: Any) -> Any:
        if x.shape[0] > 3:
            return np.sum(x)
        return sum((x[i] for i in range(x.shape[0])), 10.0)

    for n in (5, 6, 2, 100, 2, 3):
        wanted = float(np.sum(np.arange(n))) + (0 if n > 3 else 10)
        assert float(total(np.arange(float(n)))) == wanted
    assert total.trace_count == 3


@pytest.mark.parametrize("turned", (False, True))
def test_a_size_is_solved_for_where_it_meets_a_multiple_of_another(turned: bool) -> None:
    def gates(u: Any) -> Any:
        n = u.shape[0]
        last, first = u[:, 3 * n :], u[:, :n]
        both = last * first if turned else first * last
        return ng.sum(both + ng.sin(u[:, n : 2 * n])), ng.reshape(u, (n, 4, n))

    traced = ng.function(gates)
    for n in (3, 5):
        u = np.arange(4.0 * n * n).reshape(n, 4 * n)
        total, parts = traced(u)
        np.testing.assert_allclose(total, np.sum(u[:, :n] * u[:, 3 * n :] + np.sin(u[:, n : 2 * n])))
        np.testing.assert_array_equal(parts, u.reshape(n, 4, n))
    assert traced.trace_count == 1
    with pytest.raises(ng.errors.ShapeError):
        traced(np.ones((3, 13)))


def test_equal_sizes_are_not_taken_for_the_same_size() -> None:
    f = ng.function(lambda x: (x @ x.T, np.sum(x, axis=1)))
    for shape in [(3, 3), (2, 5), (5, 2)]:
        x = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_allclose(f(x)[0], x @ x.T, rtol=1e-12)
    assert f.trace_count == 1


def test_guards_hold_after_many_shapes() -> None:
    f = ng.function(lambda x, y: x * y)
    for n in range(1, 40):
        f(np.ones(n), np.ones(n))
        np.testing.assert_array_equal(f(np.ones((1,)), np.full(n, 2.0)), np.full(n, 2.0))
    assert f.trace_count <= 3


# -- kinds of arguments


ARRAYS = {
    "transposed": lambda a: a.T.copy().T,
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    "big-endian": lambda a: a.astype(">f8"),
    "fortran": np.asfortranarray,
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, a.strides, writeable=False),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view("f8").reshape(a.shape),
    "list": lambda a: a.tolist(),
    "list of scalars": lambda a: [[np.float64(v) for v in row] for row in a],
    "subclass": lambda a: a.view(Subclass),
}


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize("kind", ARRAYS)
def test_layouts_and_kinds_of_arrays(kind: str) -> None:
    f = ng.function(lambda x: (x * 2, np.sum(x, axis=0)))
    a = np.random.default_rng(2).normal(size=(3, 4))
    for _ in range(2):
        given = ARRAYS[kind](a)
        before = np.array(given)
        double, total = f(given)
        np.testing.assert_array_equal(double, before * 2)
        np.testing.assert_allclose(total, before.sum(axis=0), rtol=1e-14)
        assert type(double) is np.ndarray and double.flags.writeable and double.flags.c_contiguous
        np.testing.assert_array_equal(np.array(given), before)
        np.testing.assert_array_equal(f(a)[0], a * 2)
    assert f.trace_count == 1


def test_results_share_no_memory() -> None:
    constant = np.arange(3.0)
    f = ng.function(lambda x: (x, x, x.T, constant, x[0]))
    x = np.ones((3, 3))
    results = [*f(x), *f(x)]
    for i, one in enumerate(results):
        one[...] = i + 10.0
    assert [float(np.ravel(r)[0]) for r in results] == [i + 10.0 for i in range(10)]
    np.testing.assert_array_equal(x, np.ones((3, 3)))
    np.testing.assert_array_equal(f(x)[3], np.arange(3.0))


def test_nests_of_arguments_and_results() -> None:
    @ng.function
    def f(tree: Any, *, scale: Any) -> Any:
        model, point = tree["model"], tree["list"][1]
        assert isinstance(model, Model) and isinstance(point, Point)
        ordered = collections.OrderedDict(b=model.bias, a=None)
        return Model(model.weights * scale, point.x + point.y, model.name), [ordered, (), {"n": tree["none"]}]

    tree = {"model": Model(np.ones(2), np.zeros(())), "list": [np.ones(1), Point(1.0, np.ones(3))], "none": None}
    model, (ordered, empty, rest) = f(tree, scale=3.0)
    assert model.name == "m" and isinstance(ordered, collections.OrderedDict) and list(ordered) == ["b", "a"]
    np.testing.assert_array_equal(model.weights, [3.0, 3.0])
    np.testing.assert_array_equal(model.bias, [2.0, 2.0, 2.0])
    assert ordered["a"] is None and empty == () and rest == {"n": None}


def test_eager_tensors_give_eager_tensors() -> None:
    result = importable(ng.asarray([1.0, 2.0]))
    assert isinstance(result, ng.Tensor)
    np.testing.assert_array_equal(result.numpy(), [2.0, 4.0])


def test_keywords_positions_and_defaults_make_one_trace() -> None:
    @ng.function
    def f(x: Any, y: Any = 2.0, *, z: Any = 1.0) -> Any:
        return x * y + z

    x = np.ones(2)
    for result in (f(x, 3.0, z=4.0), f(x, y=3.0, z=4.0), f(z=4.0, y=3.0, x=x)):
        np.testing.assert_array_equal(result, [7.0, 7.0])
    assert f.trace_count == 1
    np.testing.assert_array_equal(f(x), [3.0, 3.0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
        f(x, w=1)
    with pytest.raises(TypeError, match="missing"):
        f()


def test_methods_are_traced_with_their_object() -> None:
    class Scaled:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @ng.function
        def times(self, x: Any) -> Any:
            return x * self.factor

    np.testing.assert_array_equal(Scaled(3.0).times(np.ones(2)), [3.0, 3.0])
    np.testing.assert_array_equal(Scaled(4.0).times(np.ones(2)), [4.0, 4.0])


# -- numbers and static values


def test_numbers_are_traced_and_stay_weak() -> None:
    f = ng.function(lambda x, rate: (x * rate, 1 - rate * 2, x / (2 * rate)))
    for rate in (0.5, 0.25, np.float64(0.125).item()):
        scaled, rest, divided = f(np.ones(2, np.float32), rate)
        assert scaled.dtype == np.float32 and divided.dtype == np.float32 and rest.dtype == np.float64
        assert float(rest) == 1 - rate * 2
        np.testing.assert_array_equal(scaled, np.full(2, rate, np.float32))
    assert f.trace_count == 1
    scaled, _, divided = f(np.ones(2, np.float32), 3)
    assert scaled.dtype == np.float32 and divided.dtype == np.float32
    assert f(np.ones(2, np.float32), 1j)[0].dtype == np.complex64
    assert f(np.ones(2, np.float32), np.float64(3.0))[0].dtype == np.float64  # NumPy's own scalars are strong
    assert f.trace_count == 4


def test_numbers_that_python_looks_at_become_static() -> None:
    @ng.function
    def f(x: Any, n: int, rate: float) -> Any:
        for _ in range(n + 1):
            x = x * rate
        return x if rate > 0 else -x

    for n in (0, 2, 1):
        for rate in (0.5, -2.0):
            np.testing.assert_array_equal(f(np.ones(2), n, rate), np.full(2, rate ** (n + 1) * (1 if rate > 0 else -1)))
    assert f.trace_count == 6


@pytest.mark.parametrize("value", ["relu", True, None, Kind.TWO, np.sin, 2**70, frozenset({1}), b"x"])
def test_other_values_are_static(value: Any) -> None:
    seen = []
    f = ng.function(lambda x, given: (seen.append(given), x)[1])
    for _ in range(3):
        f(np.ones(2), given=value)
    assert len(seen) == 1
    assert seen[0] == value


def test_static_values_are_told_apart_by_type_and_sign() -> None:
    f = ng.function(lambda x, s: x * s, static_argnums=1)
    for value in (1, 1.0, True, 0.0, -0.0, float("nan"), float("nan")):
        f(np.ones(2), value)
    assert f.trace_count == 6
    assert np.signbit(f(np.ones(1), -0.0)) and not np.signbit(f(np.ones(1), 0.0))


@pytest.mark.parametrize("options", [{"static_argnums": 1}, {"static_argnames": "n"}, {"static_argnums": (-1,)}])
def test_static_arguments_by_position_and_name(options: dict[str, Any]) -> None:
    def f(x: Any, n: int) -> Any:
        assert type(n) is int
        return x * n

    g = ng.function(f, **options)
    np.testing.assert_array_equal(g(np.ones(2), 3), [3.0, 3.0])
    np.testing.assert_array_equal(g(np.ones(2), n=3), [3.0, 3.0])
    np.testing.assert_array_equal(g(np.ones(5), 3), np.full(5, 3.0))
    assert g.trace_count == 1
    with pytest.raises(TypeError, match="argument n: a list is neither an array nor hashable.*test_function.py"):
        g(np.ones(2), [1])


def test_unknown_static_name() -> None:
    f = ng.function(lambda x: x, static_argnames="y")
    with pytest.raises(TypeError, match="static_argnames .'y'. are not arguments; it has x"):
        f(np.ones(2))


def test_arrays_from_outside_are_constants() -> None:
    outside = np.ones(2)
    f = ng.function(lambda x: x + outside)
    f(np.ones(2))
    outside[:] = 100.0
    np.testing.assert_array_equal(f(np.ones(2)), [2.0, 2.0])


# -- inside graphs and other functions


def test_called_in_a_graph_it_adds_to_the_graph() -> None:
    count = importable.trace_count
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, ("n",))
        y = importable(x)
        z = importable(np.ones(2))
    assert y.graph is graph and z.graph is graph and y.op.type == "add"
    np.testing.assert_array_equal(ng.run(y, {x: [1.0, 2.0]}), [2.0, 4.0])
    assert importable(x).graph is graph  # its graph is no longer the default one
    assert importable.trace_count == count


def test_functions_call_functions_and_close_over_traced_values() -> None:
    @ng.function
    def outer(x: Any) -> Any:
        inner = ng.function(lambda y: importable(y) * x)
        return inner(x) + inner(np.ones(2))

    np.testing.assert_array_equal(outer(np.array([1.0, 3.0])), [4.0, 24.0])
    assert outer.trace_count == 1


def test_recursion_over_static_numbers() -> None:
    @ng.function
    def power(x: Any, n: int) -> Any:
        return x if n == 1 else x * power(x, n - 1)

    np.testing.assert_array_equal(power(np.array([2.0, 3.0]), 5), [32.0, 243.0])


# -- looking, copying, threads, processes


def test_what_a_function_shows() -> None:
    f = ng.function(lambda x: np.sum(np.exp(x)))
    with pytest.raises(GraphError, match="nothing is traced yet"):
        f.graph  # noqa: B018
    f(np.ones(3))
    assert "exp" in [op.type for op in f.graph.operations]
    assert "exp" in f.source
    assert importable.__doc__ == "Twice the array." and importable.__name__ == "importable"
    assert importable.__wrapped__(3) == 6
    assert "numgrad.Function" in repr(importable)
    assert f.plan()["steps"] >= 1
    nested = ng.function(lambda tree, rate: tree["x"] * rate)
    assert "multiply" in str(nested.profile({"x": np.ones(3)}, rate=2.0))
    f.clear_cache()
    assert f.trace_count == 0
    assert float(f(np.zeros(2))) == 2.0


def test_pickling_and_copying() -> None:
    assert pickle.loads(pickle.dumps(importable)) is importable
    assert copy.deepcopy(importable) is importable
    made = pickle.loads(pickle.dumps(ng.function(undecorated, static_argnames="power")))
    assert isinstance(made, Function)
    np.testing.assert_array_equal(made(np.full(2, 3.0), 2), [9.0, 9.0])
    gradient = pickle.loads(pickle.dumps(ng.grad(undecorated)))
    assert float(gradient(3.0, 2)) == 6.0
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(ng.function(lambda x: x))


def test_eight_threads_trace_once() -> None:
    f = ng.function(lambda x: np.sum(np.tanh(x) * 2))
    ready = threading.Barrier(8)
    results: list[float] = []

    def call() -> None:
        ready.wait()
        for n in range(1, 20):
            results.append(float(f(np.zeros(n))))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0.0] * (8 * 19)
    assert f.trace_count == 1


def _in_child(queue: Any) -> None:
    fresh = ng.function(lambda x: np.cos(x))
    queue.put((importable(np.ones(2)).tolist(), fresh(np.zeros(2)).tolist()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_goes_on() -> None:
    importable(np.ones(3))
    with importable._lock:  # held by somebody who does not exist in the child
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of the runner
            child = context.Process(target=_in_child, args=(queue,))
            child.start()
        assert queue.get(timeout=60) == ([2.0, 2.0], [1.0, 1.0])
        child.join(timeout=60)
    assert child.exitcode == 0


def test_compiled_and_interpreted_agree() -> None:
    f = ng.function(lambda x, y: (np.sum(np.sqrt(np.abs(x @ y))), np.where(x > 0, x, 0.0)))
    x, y = np.random.default_rng(3).normal(size=(2, 3, 3))
    compiled = f(x, y)
    variant = f.variant
    interpreted = ng.run(variant.outputs, dict(zip(variant.inputs, (x, y), strict=True)))
    for a, b in zip(compiled, interpreted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_coordinates_of_points_are_part_of_the_trace():
    f = ng.function(lambda p: np.sum(np.sqrt(1.0 + np.sum((p[:, None] - p[None]) ** 2, axis=-1))))
    rng = np.random.default_rng(4)

    def wanted(p):
        return np.sum(np.sqrt(1.0 + np.sum((p[:, None] - p[None]) ** 2, axis=-1)))
    traced = []
    for shape in ((16, 3), (100, 3), (40, 2), (17, 2), (16, 4), (30, 7), (20, 9), (5, 3), (40, 1), (100, 3)):
        p = rng.normal(size=shape)
        np.testing.assert_allclose(f(p), wanted(p), rtol=1e-12)
        np.testing.assert_allclose(ng.grad(f)(p), ng.grad(wanted)(p), rtol=1e-9)
        traced.append(f.trace_count)
    assert traced[:5] == [1, 1, 2, 2, 3]
    assert traced[5] == traced[7] == 4  # all others share one, as far as they broadcast alike

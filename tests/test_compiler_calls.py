"""What programs take and give: inputs of every layout and type, outputs of their own, `out=`, `bind` and fast calls."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from tests.compiler_cases import Case, exact
from tests.op_cases import layouts

F8 = np.dtype(np.float64)


# -- inputs
@pytest.mark.parametrize("label", sorted(layouts(np.zeros((2, 2)))))
@pytest.mark.parametrize("dtype", ["float64", "int16", "bool", "complex64", "float16"])
def test_inputs_of_every_layout(label: str, dtype: str) -> None:
    array = layouts(exact(dtype, (5, 6)))[label]
    before = array.copy()
    case = Case(lambda x: [ng.where(x == x, x, x), x[::-1], ng.permute_dims(x, (1, 0))], (dtype, ("a", "b")))
    for _ in range(2):
        case.check(array)
    assert np.array_equal(array, before)
    assert all(v.flags.c_contiguous and v.flags.writeable and v.dtype.isnative for v in case.compiled(array))


def test_inputs_of_other_types() -> None:
    case = Case(lambda x, s: [x * s, ng.sum(x) - s], (F8, ("n",)), (F8, ()))
    want = [[2.0, 4.0, 6.0], 4.0]

    class Subclass(np.ndarray):
        pass

    for x in (
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], np.int8),
        np.array([1, 2, 3], np.float16),
        np.arange(1.0, 4.0).view(Subclass),
        np.asfortranarray([1.0, 2.0, 3.0]),
        np.array([1, 2, 3], ">i4"),
        memoryview(np.arange(1.0, 4.0)),
        range(1, 4),
    ):
        for s in (2, 2.0, True + 1, np.float32(2), np.float64(2), np.array(2.0), np.int64(2)):
            got = case.compiled(x, s)
            assert [v.tolist() for v in got] == want
            assert [type(v) for v in got] == [np.ndarray, np.ndarray]


def test_arrays_with_a_dtype_object_of_their_own() -> None:
    """Unpickled arrays may hold an equal dtype that is another object; the native entry compares objects."""
    x = pickle.loads(pickle.dumps(np.arange(3.0)))
    own = np.ndarray((3,), np.dtype(np.float64, copy=True), x.tobytes())
    case = Case(lambda a: a + 1.0, (F8, ("n",)))
    assert case.compiled(own).tolist() == [1, 2, 3]
    out = np.zeros(3).view(np.dtype(np.float64, copy=True))
    assert case.compiled(own, out=out) is out
    assert out.tolist() == [1, 2, 3]


def test_empty_arrays_and_programs_without_inputs() -> None:
    case = Case(
        lambda x: [x * 2.0, ng.sum(x, axis=0), ng.sum(x, axis=1), ng.prod(x), ng.concat([x, x])], (F8, ("n", "m"))
    )
    for shape in [(0, 0), (0, 3), (3, 0), (2, 2)]:
        case.check(np.ones(shape))
    with Graph().as_default():
        one = ng.constant([1.0, 2.0])
        run = compile_graph([], [one * 2.0, one, ng.sum(one)])
    assert [v.tolist() for v in run()] == [[2, 4], [1, 2], 3]


# -- outputs
def test_outputs_alias_neither_inputs_nor_each_other() -> None:
    with Graph().as_default():
        x = placeholder(F8, ("n", "m"))
        y = x * 2.0
        fixed = ng.constant(np.arange(100.0))
        run = compile_graph(
            x,
            [
                x,
                x,
                y,
                y,
                ng.reshape(y, (-1,)),
                ng.permute_dims(x, (1, 0)),
                fixed,
                fixed,
                ng.zeros(x.shape),
                ng.ones((3,)),
                ng.ones((3,)),
                y[0],
                x.shape[0].tensor(),
            ],
        )
    array = np.ones((3, 4))
    first, second = run(array), run(array)
    everything = [array, *first, *second]
    for i, a in enumerate(everything):
        assert not any(np.shares_memory(a, b) for b in everything[:i])
    for v in first:
        v[...] = -1
    assert array.tolist() == np.ones((3, 4)).tolist()
    for mine, again in zip(run(array), second):
        assert np.array_equal(mine, again)
    assert second[6].tolist() == list(range(100)) and second[-1] == 3


def test_out_writes_where_it_is_told() -> None:
    case = Case(lambda x: [x * 2.0, ng.sum(x)], (F8, ("n",)))
    out = [np.full(3, np.nan), np.full((), np.nan)]
    for scale in (1.0, 2.0):
        got = case.compiled(scale * np.arange(3.0), out=out)
        assert all(a is b for a, b in zip(got, out))
        assert out[0].tolist() == [0, 2 * scale, 4 * scale] and out[1] == 3 * scale
    assert case.compiled(np.ones(3))[0].tolist() == [2, 2, 2]
    assert out[1] == 6


def test_wrong_out_is_refused_before_anything_is_written() -> None:
    case = Case(lambda x: [x * 2.0, x + 1.0], (F8, ("n",)))
    x = np.arange(4.0)
    good = np.zeros(4)
    locked = np.zeros(4)
    locked.flags.writeable = False
    shared = np.zeros(8)
    for out, error, message in [
        ([good], TypeError, "out: got 1 arrays, wanted 2"),
        ([good, 0.0], TypeError, r"out\[1\]: got float, wanted a numpy.ndarray"),
        ([good, np.zeros(3)], ng.errors.ShapeError, r"out\[1\]: got float64\(3,\), wanted .* shape \(4,\)"),
        ([good, np.zeros(4, np.float32)], ng.errors.ShapeError, r"out\[1\]: got float32"),
        ([good, np.zeros(8)[::2]], ng.errors.ShapeError, "C-contiguous"),
        ([locked, good], ng.errors.ShapeError, "writeable"),
        ([good, good], ng.errors.ShapeError, r"out\[1\] shares memory with an input or another output"),
        ([shared[:4], shared[2:6]], ng.errors.ShapeError, "shares memory"),
        ([good, x], ng.errors.ShapeError, "shares memory"),
    ]:
        with pytest.raises(error, match=message):
            case.compiled(x, out=out)
    assert not good.any() and x.tolist() == [0, 1, 2, 3]
    strided = np.arange(8.0)
    assert case.compiled(strided[::2], out=[strided[:4], good])[0].tolist() == [0, 4, 8, 12]  # the input was copied


def test_out_has_the_nest_of_the_outputs() -> None:
    with Graph().as_default():
        x = placeholder(F8, ("n",))
        run = compile_graph(x, {"double": x * 2.0, "pair": (x + 1.0, ng.sum(x))})
    out = {"double": np.zeros(2), "pair": (np.zeros(2), np.zeros(()))}
    got = run(np.ones(2), out=out)
    assert got["double"] is out["double"] and got["pair"][1] is out["pair"][1]
    assert out["pair"][1] == 2


def test_bind_runs_on_what_the_arrays_hold_then() -> None:
    case = Case(lambda x, y: [x * y, ng.sum(x)], (F8, ("n",)), (F8, ()))
    x, y = np.ones(3), np.array(2.0)
    step = case.compiled.bind(x, y)
    first = step()
    assert [v.tolist() for v in first] == [[2, 2, 2], 3]
    x[:] = 5.0
    y[...] = -1.0
    again = step()
    assert [v.tolist() for v in again] == [[-5, -5, -5], 15]
    assert all(a is b for a, b in zip(first, again))
    other = case.compiled.bind(x, y)
    assert not np.shares_memory(other()[0], again[0])
    for arrays, error in [
        ((x,), TypeError),
        ((x[::2], y), ng.errors.ShapeError),
        ((x, 2.0), ng.errors.ShapeError),
        ((x.astype(np.float32), y), ng.errors.ShapeError),
        ((x, x), ng.errors.ShapeError),
    ]:
        with pytest.raises(error):
            case.compiled.bind(*arrays)


def test_the_fast_call_refuses_what_it_was_not_made_for() -> None:
    case = Case(lambda x: x + 1.0, (F8, ("n",)))
    assert case.program.fast(np.ones(3)) is None
    case.compiled(np.ones(3))
    assert case.program.fast(np.ones(3)) is not None
    for other in (np.ones(4), np.ones((3, 1)), np.ones(3, np.float32), np.ones(6)[::2], [1.0, 1.0, 1.0], 1.0, None):
        assert case.program.fast(other) is None
    assert case.program.fast() is None and case.program.fast(np.ones(3), np.ones(3)) is None
    assert case.compiled([1.0, 2.0]).tolist() == [2, 3]

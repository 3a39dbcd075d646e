"""Creation, ranges, grids and conversion: NumPy's answers, sizes that are not known, gradients of bounds, errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.errors import DtypeError, GraphError, ShapeError
from tests.shaping_cases import agree

RNG = np.random.default_rng(11)
V = RNG.standard_normal(5)

SAME: dict[str, tuple[Any, Any]] = {
    "zeros": (lambda: ng.zeros((2, 3), ng.int32), lambda: np.zeros((2, 3), np.int32)),
    "zeros of one axis": (lambda: ng.zeros(3), lambda: np.zeros(3)),
    "ones": (lambda: ng.ones((), np.complex64), lambda: np.ones((), np.complex64)),
    "full": (lambda: ng.full((2, 0), 7), lambda: np.full((2, 0), 7)),
    "full of bools": (lambda: ng.full(2, True), lambda: np.full(2, True)),
    "full of an array": (lambda: ng.full((2, 2), [1.5, 2.5]), lambda: np.full((2, 2), [1.5, 2.5])),
    "full cast": (lambda: ng.full(2, 3.7, np.int8), lambda: np.full(2, 3.7, np.int8)),
    "full of nan": (lambda: ng.full(2, np.nan, np.float16), lambda: np.full(2, np.nan, np.float16)),
    "full of minus zero": (lambda: ng.full(2, -0.0), lambda: np.full(2, -0.0)),
    "zeros_like": (lambda: ng.zeros_like(V), lambda: np.zeros_like(V)),
    "zeros_like of a dtype": (lambda: ng.zeros_like(V, dtype=bool), lambda: np.zeros_like(V, dtype=bool)),
    "ones_like of a shape": (lambda: ng.ones_like(V, shape=(2, 1)), lambda: np.ones_like(V, shape=(2, 1))),
    "full_like": (lambda: ng.full_like([1, 2], 2.5), lambda: np.full_like([1, 2], 2.5)),
    "eye": (lambda: ng.eye(3, 5, k=-1), lambda: np.eye(3, 5, k=-1)),
    "eye of nothing": (lambda: ng.eye(0), lambda: np.eye(0)),
    "identity": (lambda: ng.identity(3, np.float32), lambda: np.identity(3, np.float32)),
    "tri": (lambda: ng.tri(3, 4, 1, dtype=int), lambda: np.tri(3, 4, 1, dtype=int)),
    "arange": (lambda: ng.arange(5), lambda: np.arange(5)),
    "arange down": (lambda: ng.arange(7, -2, -2), lambda: np.arange(7, -2, -2)),
    "arange of nothing": (lambda: ng.arange(3, 3), lambda: np.arange(3, 3)),
    "arange of floats": (lambda: ng.arange(0.1, 2, 0.3), lambda: np.arange(0.1, 2, 0.3)),
    "arange of a dtype": (lambda: ng.arange(3, dtype=np.float32), lambda: np.arange(3, dtype=np.float32)),
    "arange of scalars": (lambda: ng.arange(np.float32(1), np.float32(3)),
                          lambda: np.arange(np.float32(1), np.float32(3))),
    "arange of a tensor": (lambda: ng.arange(ng.asarray(4)), lambda: np.arange(4)),
    "linspace": (lambda: ng.linspace(-1, 2, 7), lambda: np.linspace(-1, 2, 7)),
    "linspace without end": (lambda: ng.linspace(0, 1, 6, endpoint=False),
                             lambda: np.linspace(0, 1, 6, endpoint=False)),
    "linspace of one": (lambda: ng.linspace(3, 4, 1), lambda: np.linspace(3, 4, 1)),
    "linspace of none": (lambda: ng.linspace(3, 4, 0), lambda: np.linspace(3, 4, 0)),
    "linspace of integers": (lambda: ng.linspace(-3, 4, 6, dtype=int), lambda: np.linspace(-3, 4, 6, dtype=int)),
    "linspace of arrays": (lambda: ng.linspace(V, 1, 4, axis=-1), lambda: np.linspace(V, 1, 4, axis=-1)),
    "linspace of complex": (lambda: ng.linspace(0, 1 + 1j, 3), lambda: np.linspace(0, 1 + 1j, 3)),
    "linspace of float32": (lambda: ng.linspace(np.float32(0), np.float32(1), 3),
                            lambda: np.linspace(np.float32(0), np.float32(1), 3)),
    "ndim": (lambda: ng.asarray(ng.ndim(V)), lambda: np.asarray(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_values_are_numpys_eagerly_in_graphs_and_compiled(name: str) -> None:
    ours, numpys = SAME[name]
    assert_array_equal(ours().numpy(), numpys(), strict=True)
    with ng.Graph().as_default():
        node = ng.add(ours(), ng.zeros_like(ours())) if ours().dtype != bool else ng.logical_or(ours(), False)
        assert_array_equal(ng.run(node, {}), numpys(), strict=True)


def test_all_of_them_compiled() -> None:
    with ng.Graph().as_default():
        nodes = [ours() for ours, _ in SAME.values()]
        for got, (name, (_, numpys)) in zip(ng.compile([], nodes)(), SAME.items(), strict=True):
            assert_array_equal(got, numpys(), err_msg=name, strict=True)


@given(some.floats(-9, 9), some.floats(-9, 9), some.floats(0.1, 3), some.sampled_from("f2 f4 f8".split()))
def test_arange_counts_and_rounds_as_numpy(start: float, stop: float, step: float, dtype: str) -> None:
    for by in (step, -step):
        ours, numpys = ng.arange(start, stop, by, dtype=dtype).numpy(), np.arange(start, stop, by, dtype=dtype)
        assert (ours.shape, ours.dtype) == (numpys.shape, numpys.dtype)
        # NumPy adds up in the dtype itself, so that its narrow results are the less exact ones.
        np.testing.assert_allclose(ours, numpys, rtol=0, atol=200 / step * float(np.finfo(dtype).eps))
    assert_array_equal(ng.arange(int(start), int(stop), 2).numpy(), np.arange(int(start), int(stop), 2), strict=True)


@given(some.floats(-1e9, 1e9), some.floats(-1e9, 1e9), some.integers(0, 30), some.booleans())
def test_linspace_rounds_as_numpy(start: float, stop: float, num: int, endpoint: bool) -> None:
    values, step = ng.linspace(start, stop, num, endpoint=endpoint, retstep=True)
    wanted, wanted_step = np.linspace(start, stop, num, endpoint=endpoint, retstep=True)
    assert_array_equal(values.numpy(), wanted, strict=True)
    assert_array_equal(step.numpy(), wanted_step)


def test_bounds_carry_gradients() -> None:
    a, b = V[:3] ** 2 + 0.5, V[1:4] ** 2 + 1.5
    agree(
        lambda a, b: ng.linspace(a, b, 5, axis=1),
        lambda a, b: np.linspace(a, b, 5, axis=1),
        a,
        b,
        unknown=False,
        compiled=True,
    )
    agree(lambda a, b: ng.logspace(a, b, 4), lambda a, b: np.logspace(a, b, 4), a, b, unknown=False, exact=False)
    agree(
        lambda a, b: ng.logspace(a, b, 4, base=np.array([2.0, 3.0, 4.0]), axis=-1),
        lambda a, b: np.logspace(a, b, 4, base=np.array([2.0, 3.0, 4.0]), axis=-1),
        a,
        b,
        unknown=False,
        exact=False,
    )
    agree(
        lambda a, b: ng.geomspace(-a, -b, 5, axis=1),
        lambda a, b: np.geomspace(-a, -b, 5, axis=1),
        a,
        b,
        unknown=False,
        exact=False,
        compiled=True,
    )
    agree(lambda a: ng.full((2, 3), a), lambda a: np.full((2, 3), a), a, unknown=False)


def test_geomspace_ends_exactly_and_takes_complex_numbers() -> None:
    assert_array_equal(ng.geomspace(3, 7000, 9).numpy()[[0, -1]], [3, 7000])
    assert_allclose(ng.geomspace(1j, -8j + 1, 4).numpy(), np.geomspace(1j, -8j + 1, 4), rtol=1e-12)
    assert_allclose(
        ng.geomspace(1, 256, 4, endpoint=False, dtype=int).numpy(), np.geomspace(1, 256, 4, endpoint=False, dtype=int)
    )


# -- sizes that are not known


def test_sizes_of_arrays_make_arrays() -> None:
    def made(xp: Any) -> Any:
        def function(x: Any, y: Any) -> list[Any]:
            n, m = x.shape[0], y.shape[0]
            return [xp.zeros((n, m)), xp.ones(n * m), xp.full((m, n), 2), xp.eye(n, m, k=1), xp.arange(n),
                    xp.arange(1, n + m), xp.arange(n, -1, -2), xp.linspace(0, 1, n), xp.tri(n, m),
                    xp.arange(n, dtype=np.float64) * x, xp.zeros_like(x),
                    xp.linspace(x[0], y[0], m, endpoint=False)]  # fmt: skip

        return function

    agree(made(ng), made(np), V, RNG.standard_normal(3), compiled=True)


def test_a_size_as_a_value() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder("f8", ("n",))
        outputs = [ng.full(2, x.shape[0]), ng.full((2,), x.shape[0], np.float32), ng.asarray(x.shape[0] * 2)]
        got = ng.run(outputs, {x: V})
        assert_array_equal(got[0], np.array([5, 5]), strict=True)
        assert_array_equal(got[1], np.array([5, 5], np.float32), strict=True)
        assert int(got[2]) == 10
        assert ng.shape(x) == x.shape and ng.size(x) == x.shape[0] and ng.size(x, 0) == x.shape[0]


def test_one_trace_serves_ranges_of_all_sizes() -> None:
    traces = []

    @ng.function
    def weighted(x: Any) -> Any:
        traces.append(x)
        return ng.sum(x * ng.arange(x.shape[0])) + ng.trace(ng.eye(x.shape[0]))

    for n in (4, 1, 9):
        x = RNG.standard_normal(n)
        assert_allclose(weighted(x), x @ np.arange(n) + n)
    assert len(traces) == 1


# -- grids


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("sparse", [False, True])
def test_meshgrid(indexing: Any, sparse: bool) -> None:
    arrays = V[:2], V[2:], np.array(1.5)
    for count in (1, 2, 3):
        agree(
            lambda *a: ng.meshgrid(*a, indexing=indexing, sparse=sparse),
            lambda *a: np.meshgrid(*a, indexing=indexing, sparse=sparse),
            *arrays[:count],
            compiled=count == 3,
        )
    assert ng.meshgrid() == ()


# -- conversion


def test_asarray() -> None:
    x = np.arange(3.0)
    shared, copied = ng.asarray(x), ng.asarray(x, copy=True)
    x[0] = 9
    assert shared.numpy()[0] == 9 and copied.numpy()[0] == 0
    assert ng.asarray(shared) is shared
    assert ng.asarray(x.astype(">f4")).dtype == np.dtype("=f4")
    assert_array_equal(ng.asarray([[1, 2], [3, 4.5]]).numpy(), [[1, 2], [3, 4.5]])
    assert_array_equal(ng.asarray([shared, 2 * shared]).numpy(), [x, 2 * x])
    assert ng.asarray(2**40).dtype == np.int64 and ng.asarray(True).dtype == np.bool_
    assert_array_equal(ng.asarray(shared, dtype=np.int32).numpy(), np.array([9, 1, 2], np.int32), strict=True)


def test_nests_of_traced_values_are_stacked() -> None:
    agree(
        lambda x, y: ng.asarray([[x[0], 2.0], [y, x[1] * y]]),
        lambda x, y: np.array([[x[0], 2.0], [y, x[1] * y]]),
        V,
        np.array(1.5),
        compiled=True,
    )


# -- no path


def test_likes_have_no_path() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder("f8", (3,))
        assert ng.gradients([ng.sum(ng.zeros_like(x))], [x]) == [None]
        assert ng.gradients([ng.sum(ng.ones_like(x)), ng.sum(ng.full_like(x, 3.0))], [x]) == [None]


# -- errors

ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: ng.zeros((2, -1)), ShapeError, r"\(2,-1\) has a negative size"),
    (lambda: ng.arange(0, 3, 0), ShapeError, r"arange: the step is zero"),
    (lambda: ng.arange("a"), DtypeError, r"got the bound 'a', wanted a real number"),
    (lambda: ng.arange([1, 2]), DtypeError, r"wanted a real number"),
    (lambda: ng.arange(2j), DtypeError, r"wanted a real number"),
    (lambda: ng.linspace(0, 1, -2), ShapeError, r"linspace: got -2 numbers"),
    (lambda: ng.geomspace(0, 1), ValueError, r"no geometric sequence goes through zero"),
    (lambda: ng.meshgrid(V, indexing="yx"), ShapeError, r"indexing is 'yx', wanted 'xy' or 'ij'"),
    (lambda: ng.meshgrid(V[None]), ShapeError, r"got float64\(1,5\), wanted vectors"),
    (lambda: ng.asarray("text"), DtypeError, r"data type|make an array"),
    (lambda: ng.asarray([[1], [1, 2]]), DtypeError, r"cannot make an array of list"),
    (lambda: ng.zeros(2, dtype="datetime64[s]"), DtypeError, r"is not supported"),
    (lambda: ng.size(V, 1), ShapeError, r"size: axis 1 is out of range for 1 axes"),
]  # fmt: skip


@pytest.mark.parametrize("call,error,text", ERRORS, ids=[text for _, _, text in ERRORS])
def test_errors_say_what_and_where(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert re.search(r"test_creation\.py:\d+", str(caught.value))


def test_errors_about_what_is_traced() -> None:
    with ng.Graph().as_default():
        x, n = ng.placeholder("f8", ("n",)), ng.placeholder("i8", ())
        with pytest.raises(ShapeError, match=r"a bound is the traced tensor .*use x\.shape"):
            ng.arange(n)
        with pytest.raises(ShapeError, match=r"must be integers and sizes, not a traced tensor"):
            ng.zeros(n)
        with pytest.raises(DtypeError, match=r"with a size the bounds must be integers or sizes"):
            ng.arange(0.5, x.shape[0])
    with pytest.raises(GraphError, match=r"outside its graph"):
        ng.zeros(x.shape)

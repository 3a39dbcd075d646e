"""Indexing: NumPy's answers for any key, updates and gradients of selections, gathers, and errors where they belong."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.errors import DtypeError, ShapeError
from tests.shaping_cases import agree

RNG = np.random.default_rng(5)
X = RNG.standard_normal((4, 5, 6))
M = RNG.standard_normal((4, 6))
V = RNG.standard_normal(7)

KEYS: list[Any] = [
    0, -1, np.int8(2), np.array(1), (1, 2, 3), (0, slice(1, 3)), (..., 0), (None, 0, ..., None),
    (slice(None, None, -2), slice(-3, None)), [1, 2], [], ([0, 1], slice(None), [1, 2]), ([0, 1], [1, 2]),
    (slice(None), [0, 1], [1, 2]), (0, slice(None), [1, 2]), (slice(None), 0, [1, 2]), ([0, 1], None, [1, 2]),
    (slice(None), [[0], [1]], None, [0, 1]), ([0, -1, 0], ..., slice(1, 5, 2)),
    (np.array([[0, 1]]), np.array([[1], [2]]), slice(None, None, 2)), ([2], [[1]], [[[3]]]),
    np.array([[3, 0], [1, 1]], np.uint8), X > 0, X[..., 0] > 0, (X[..., 0] > 0, 0), (X[..., 0] > 0, [0]),
    (slice(None), X[0] > 0), (0, X[0] > 0), X[:, 0, 0] > 9, True, False, (True, [0, 1]),
    ([0], True, slice(None), [1]), (slice(10, 2),), (slice(2, 2), [1]), ..., (), None,
    (slice(None), np.array([], np.int64), np.array([], np.int64)), ([True, False, True, False], slice(None), 2),
    (slice(None), 0, ..., slice(None)), (1, slice(None), [0, 2], ...), (slice(None), 1, [0], ...),
    (slice(None), 1, ..., [0]), (0, 1, ..., [0]),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda k: re.sub(r"\s+", "", repr(k))[:60])
def test_reading_is_numpys(key: Any) -> None:
    agree(lambda x: x[key], lambda x: x[key], X, unknown=False)


def test_reading_of_unknown_sizes_compiled() -> None:
    keys = [k for k in KEYS if k is not False]
    agree(lambda x: [x[k] for k in keys], lambda x: [x[k] for k in keys], X, compiled=True)


@some.composite
def selections(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and a key for it of integers, slices, new axes, an ellipsis, index arrays, and a mask."""
    shape = tuple(draw(some.lists(some.integers(1, 4), min_size=1, max_size=4)))
    block = tuple(draw(some.lists(some.integers(1, 3), max_size=2)))
    key: list[Any] = []
    axis = 0
    used_ellipsis = False
    while axis < len(shape) or draw(some.integers(0, 3)) == 3:
        kind = draw(some.sampled_from("isssaaamin."))
        size = shape[axis] if axis < len(shape) else 0
        if kind == "n":
            key.append(None)
        elif kind == ".":
            if used_ellipsis:
                continue
            used_ellipsis = True
            key.append(...)
            axis += draw(some.integers(0, len(shape) - axis)) if axis < len(shape) else 0
        elif not size:
            break
        elif kind == "s":
            bound = some.none() | some.integers(-size - 1, size + 1)
            key.append(slice(draw(bound), draw(bound), draw(some.sampled_from([None, 1, 2, 3, -1, -2]))))
            axis += 1
        elif kind == "i":
            key.append(draw(some.integers(-size, size - 1)))
            axis += 1
        elif kind == "m" and not any(isinstance(k, np.ndarray) for k in key):
            mask = np.array(draw(some.lists(some.booleans(), min_size=size, max_size=size)))
            count = int(mask.sum())
            if block and block[-1] != count and block[-1] != 1 and count != 1:
                continue
            key.append(mask)
            axis += 1
        elif kind == "a":
            given = tuple(draw(some.sampled_from([n, 1])) for n in block)
            count = int(np.prod(given))
            values = draw(some.lists(some.integers(-size, size - 1), min_size=count, max_size=count))
            key.append(np.array(values, np.int64).reshape(given))
            axis += 1
    return shape, tuple(key)


@settings(max_examples=150, deadline=None)
@given(selections())
def test_reading_updating_adding_and_gradients_for_random_keys(case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, key = case
    x = np.random.default_rng(1).standard_normal(shape)
    try:
        want = x[key]
    except IndexError:  # masks that do not broadcast with the other indices, or an ellipsis that left too little
        with pytest.raises((IndexError, ShapeError)):
            ng.asarray(x)[key]
        return
    assert_array_equal(ng.asarray(x)[key].numpy(), want)
    values = np.random.default_rng(2).standard_normal(want.shape)
    updated, added, weighed = x.copy(), x.copy(), np.zeros(shape)
    updated[key] = values
    np.add.at(added, key, values)
    np.add.at(weighed, key, values)
    assert_array_equal(ng.index_update(x, key, values).numpy(), updated)
    assert_allclose(ng.index_add(x, key, values).numpy(), added, rtol=1e-12)
    with ng.Graph().as_default():
        node = ng.placeholder("f8", shape)
        (gradient,) = ng.gradients(ng.sum(node[key] * values), [node], unconnected_gradients="zero")
        assert_allclose(ng.run(gradient, {node: x}), weighed, rtol=1e-12, atol=1e-15)


# -- traced indices


def test_indices_that_are_traced() -> None:
    def keys(x: Any, i: Any, j: Any) -> list[Any]:
        return [
            x[i],
            x[:, j],
            x[i, 1:],
            x[i, :, j],
            x[:, i, j],
            x[i, j],
            x[0, i],
            x[i[0]],
            x[..., j, i],
            x[i, [0, 1, 2]],
        ]

    i, j = np.array([0, 2, -1]), np.array([[1], [3]])
    agree(keys, keys, X, i, j, unknown=False, compiled=True)
    agree(keys, keys, X, i, np.array([0, 1, 4]), compiled=True)


def test_updates_by_traced_indices() -> None:
    i = np.array([0, 2, 2])
    values = RNG.standard_normal((3, 6))

    def added(x: Any, i: Any, v: Any) -> Any:
        result = x.copy()
        np.add.at(result, i, v)
        return result

    def updated(x: Any, i: Any, v: Any) -> Any:
        result = x.copy()
        result[i, 1:] = v[:, 1:]
        return result

    agree(lambda x, i, v: ng.index_add(x, i, v), added, M, i, values, compiled=True, exact=False)
    agree(lambda x, i, v: ng.index_update(x, (i, slice(1, None)), v[:, 1:]), updated, M, i, values, compiled=True)


def test_update_of_all_of_it_and_of_leading_ones() -> None:
    assert_array_equal(ng.index_update(V, ..., 1.0).numpy(), np.ones(7))
    assert_array_equal(ng.index_update(M, 0, np.ones((1, 1, 6))).numpy()[0], np.ones(6))
    assert ng.index_update(np.arange(3), 1, 7.9).numpy().tolist() == [0, 7, 2]


def test_no_nan_leaks_out_of_what_was_replaced() -> None:
    x = np.array([0.0, 1.0, 4.0])
    gradient = ng.grad(lambda x: ng.sum(ng.sqrt(ng.index_update(x, 0, 1.0))))(x)
    assert_allclose(gradient, [0.0, 0.5, 0.25])
    assert_allclose(ng.grad(lambda x: ng.sum(ng.log(x)[1:]))(x), [0.0, 1.0, 0.25])
    assert_allclose(ng.grad(lambda x: ng.sum(ng.take(ng.log(x), [1, 1])))(x), [0.0, 2.0, 0.0])


def test_second_derivatives_of_a_gather() -> None:
    index = np.array([0, 3, 3, 6])
    hessian = ng.hessian(lambda x: ng.sum(x[index] ** 3))(V)
    assert_allclose(hessian, np.diag(6 * V * np.bincount(index, minlength=7)), atol=1e-12)


# -- take and its kin


INDICES = [np.array([2, 0, -1]), np.array(1), np.array([[0], [1]], "i4"), np.array([], "i8"), np.array([3, 3], "u2")]


@pytest.mark.parametrize("index", INDICES, ids=lambda i: f"{i.dtype}{i.shape}")
def test_take(index: Any) -> None:
    agree(
        lambda x, i: [ng.take(x, i, axis=a) for a in (0, 1, -1)],
        lambda x, i: [np.take(x, i, axis=a) for a in (0, 1, -1)],
        X,
        index,
        compiled=index.ndim == 1,
    )


@pytest.mark.parametrize("mode", ["wrap", "clip"])
def test_take_modes(mode: Any) -> None:
    index = np.array([-9, -1, 0, 5, 6, 17])
    agree(
        lambda x, i: ng.take(x, i, axis=1, mode=mode),
        lambda x, i: np.take(x, i, axis=1, mode=mode),
        M,
        index,
        compiled=True,
    )


def test_take_along_axis() -> None:
    order = np.argsort(X, axis=1)
    agree(
        lambda x, i: ng.take_along_axis(x, i, axis=1),
        lambda x, i: np.take_along_axis(x, i, axis=1),
        X,
        order,
        compiled=True,
    )
    agree(
        lambda x, i: ng.take_along_axis(x, i),
        lambda x, i: np.take_along_axis(x, i, -1),
        M,
        np.array([[0], [5], [-1], [2]]),
    )
    agree(
        lambda x, i: ng.take_along_axis(x, i, axis=0),
        lambda x, i: np.take_along_axis(x, i, 0),
        M,
        np.array([[0, 3, 1, 1, 2, -4]]),
        unknown=False,
    )
    agree(
        lambda x, i: ng.take_along_axis(x, i, axis=None),
        lambda x, i: np.take_along_axis(x, i, None),
        M,
        np.array([0, 23]),
    )


def test_one_hot() -> None:
    index = np.array([[0, 2], [1, 5]], np.int32)
    assert_array_equal(ng.one_hot(index, 3).numpy(), (index[..., None] == np.arange(3)).astype("f8"), strict=True)
    assert_array_equal(
        ng.one_hot(index, 3, axis=0, dtype=bool).numpy(), index == np.arange(3)[:, None, None], strict=True
    )
    with ng.Graph().as_default():
        i, x = ng.placeholder("i8", (None,)), ng.placeholder("f8", ("n",))
        hot = ng.run(ng.one_hot(i, x.shape[0]), {i: [6, 0], x: V})
    assert_array_equal(hot, np.eye(7)[[6, 0]])


@pytest.mark.parametrize("dtype", "? i1 u4 i8 f2 f4 c8 c16".split())
def test_gathers_keep_dtypes_compiled(dtype: str) -> None:
    x = (M * 3).astype(dtype)
    i = np.array([3, 0, 3], np.int32)
    agree(
        lambda x, i: [x[i], ng.take(x, i, axis=1), ng.index_add(x, i, x[:3])],
        lambda x, i: [x[i], np.take(x, i, axis=1), added(x, i)],
        x,
        i,
        compiled=True,
        gradient=False,
    )


def added(x: Any, i: Any) -> Any:
    result = x.copy()
    np.add.at(result, i, x[:3])
    return result


# -- masks


def test_a_traced_mask_is_refused_with_advice() -> None:
    with pytest.raises(
        ShapeError, match=r"a mask that is known only when the program runs.*ng\.where\(mask, x, 0\).*test_indexing\.py"
    ):
        ng.function(lambda x: x[x > 0])(V)


# -- errors

ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: ng.asarray(V)[7], IndexError, r"index 7 is out of range for axis 0 of size 7"),
    (lambda: ng.asarray(M)[0, -7], IndexError, r"index -7 is out of range for axis 1 of size 6"),
    (lambda: ng.asarray(V)[[0, 9]], IndexError, r"index 9 is out of range for axis 0 of size 7"),
    (lambda: ng.asarray(M)[[0, 1], [0, 6]], IndexError, r"index 6 is out of range for axis 1 of size 6"),
    (lambda: ng.asarray(V)[0, 0], IndexError, r"2 indices for the 1 axes of an array of shape \(7,\)"),
    (lambda: ng.asarray(V)[..., ...], IndexError, r"more than one ellipsis"),
    (lambda: ng.asarray(V)[1.5], IndexError, r"got an index of float64\(\), wanted integers, slices"),
    (lambda: ng.asarray(V)[[1.5]], IndexError, r"got an index of float64\(1,\)"),
    (lambda: ng.asarray(V)[[True, False]], ShapeError, r"a mask of shape \(2,\) at axis 0 of the shape \(7,\)"),
    (lambda: ng.asarray(M)[[0, 1], [0, 1, 2]], ShapeError, r"indexing: cannot broadcast shapes"),
    (lambda: ng.take(V, 7), IndexError, r"take: index 7 is out of range for axis 0 of size 7"),
    (lambda: ng.take(M, [0]), ShapeError, r"take: got float64\(4,6\) and no axis"),
    (lambda: ng.take(V, [0.5]), DtypeError, r"take: indices have dtype float64, wanted an integer one"),
    (lambda: ng.take(V, [0], mode="no"), ShapeError, r"mode is 'no'"),
    (lambda: ng.take_along_axis(M, [0]), ShapeError, r"wanted equally many axes"),
    (lambda: ng.take_along_axis(M, [[6]]), IndexError, r"take_along_axis: index 6 is out of range"),
    (lambda: ng.index_update(M, 0, np.ones(5)), ShapeError, r"cannot broadcast float64\(5,\) to \(6,\)"),
    (lambda: ng.index_add(V, 0, 1j), DtypeError, r"index_add: got complex values for float64\(7,\)"),
    (lambda: ng.one_hot([0.5], 2), DtypeError, r"one_hot: indices have dtype float64"),
]  # fmt: skip


@pytest.mark.parametrize("call,error,text", ERRORS, ids=[text for _, _, text in ERRORS])
def test_errors_say_what_and_where(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert re.search(r"test_indexing\.py:\d+", str(caught.value))


@pytest.mark.parametrize("function", [
    lambda x, i: x[i], lambda x, i: x[i, i], lambda x, i: ng.take(x, i, axis=1),
    lambda x, i: ng.take_along_axis(x, i[:, None], 0),
    lambda x, i: ng.index_add(x, i, 1.0), lambda x, i: ng.index_update(x, i, 1.0),
])  # fmt: skip
def test_compiled_programs_refuse_indices_out_of_range(function: Any) -> None:
    compiled = ng.function(function)
    square = RNG.standard_normal((4, 4))
    wanted = function(ng.asarray(square), ng.asarray(np.array([0, 3, -4, 1]))).numpy()
    assert_array_equal(compiled(square, np.array([0, 3, -4, 1])), wanted)
    for bad in (4, -5, 2**62, -(2**63)):
        with pytest.raises(IndexError, match=r"out of range.*test_indexing\.py"):
            compiled(square, np.array([0, bad, 1, 1]))


def test_a_known_index_out_of_range_is_found_while_the_graph_is_made() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder("f8", (4, None))
        for make in (lambda: x[4], lambda: x[[4]], lambda: ng.take(x, [4], axis=0)):
            with pytest.raises(IndexError, match=r"4 is out of range for axis 0 of size 4"):
                make()

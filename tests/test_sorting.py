"""Sorting and searching: NumPy's answers, ties and NaN in their places, derivatives by position, errors' texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal

import numgrad as ng

NUMBERS = some.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_values_are_numpys(axis: int | None) -> None:
    x = np.random.default_rng(0).integers(-4, 5, (20, 7))
    odd = np.where(x == 3, np.nan, x * 0.5)
    for array in (odd, odd.astype(np.float32), odd.astype(np.float16), x, x.astype(np.int8), np.abs(x).astype("u8"),
                  x > 0, odd + 2j, odd.T[::2], odd[:0]):
        assert_array_equal(ng.sort(array, axis=axis).numpy(), np.sort(array, axis=axis), strict=True)
        order = np.argsort(array, axis=axis, kind="stable")
        assert_array_equal(ng.argsort(array, axis=axis).numpy(), order, strict=True)


@given(arrays.arrays(np.float64, some.integers(0, 40), elements=NUMBERS))
def test_descending_is_stable_with_nan_first(x: np.ndarray[Any, Any]) -> None:
    order = ng.argsort(x, descending=True).numpy()
    ranks = np.where(np.isnan(x), np.inf, np.where(np.isinf(x), np.sign(x) * 1e9, x))
    assert_array_equal(order, sorted(range(len(x)), key=lambda i: (-ranks[i], i)))
    assert_array_equal(ng.sort(x, descending=True).numpy(), x[order])


@given(arrays.arrays(np.float64, some.integers(0, 40), elements=NUMBERS), some.data())
def test_top_k_is_the_front_of_a_descending_sort(x: np.ndarray[Any, Any], data: Any) -> None:
    k = data.draw(some.integers(0, len(x)))
    values, indices = ng.nn.top_k(x, k)
    assert_array_equal(values.numpy(), ng.sort(x, descending=True).numpy()[:k])
    assert_array_equal(indices.numpy(), ng.argsort(x, descending=True).numpy()[:k], strict=True)


@given(arrays.arrays(np.float64, some.integers(0, 30), elements=NUMBERS),
       arrays.arrays(np.float64, (2, 3), elements=NUMBERS), some.sampled_from(["left", "right"]))
def test_searchsorted_is_numpys(x: np.ndarray[Any, Any], values: np.ndarray[Any, Any], side: Any) -> None:
    order = np.argsort(x)
    ordered = x[order]
    assert_array_equal(ng.searchsorted(ordered, values, side=side).numpy(), np.searchsorted(ordered, values, side))
    assert_array_equal(ng.searchsorted(x, values, side=side, sorter=order).numpy(),
                       np.searchsorted(x, values, side, sorter=order))


def test_searchsorted_promotes() -> None:
    assert int(ng.searchsorted([1, 2, 3], 1.5).numpy()) == 1
    assert ng.searchsorted(np.arange(3, dtype=np.int8), np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_median_is_numpys(axis: Any, keepdims: bool) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for array in (x, x[:, :3, 1:], (x * 9).astype(int), x.astype(np.float32), np.where(x > 1.5, np.nan, x)):
        wanted = np.median(array, axis=axis, keepdims=keepdims)
        assert_array_equal(ng.median(array, axis=axis, keepdims=keepdims).numpy(), wanted)
    assert np.isnan(ng.median(np.zeros(0)).numpy())


def test_median_of_an_even_number_shares() -> None:
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ("n",))
        (g,) = ng.gradients(ng.median(p), [p])
        assert_array_equal(ng.run(g, {p: [4.0, 1.0, 3.0, 2.0]}), [0.0, 0.0, 0.5, 0.5])
        assert_array_equal(ng.run(g, {p: [4.0, 1.0, 3.0]}), [0.0, 0.0, 1.0])


def test_cotangents_follow_the_elements() -> None:
    x = np.array([[3.0, 1.0, 2.0, 3.0], [0.0, 5.0, 5.0, -1.0]])
    weights = np.array([1.0, 10.0, 100.0, 1000.0])
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, (None, None))
        (up,) = ng.gradients(ng.multiply(ng.sort(p), weights), [p])
        (best,) = ng.gradients(ng.nn.top_k(p, 1)[0], [p])
        second = ng.gradients(ng.gradients(ng.square(ng.sort(p, axis=0)), [p])[0], [p])[0]
        assert_array_equal(ng.run(up, {p: x}), [[100.0, 1.0, 10.0, 1000.0], [10.0, 100.0, 1000.0, 1.0]])
        assert_array_equal(ng.run(best, {p: x}), [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        assert_array_equal(ng.run(second, {p: x}), np.full(x.shape, 2.0))
        assert ng.gradients(ng.astype(ng.argsort(p), ng.float64), [p]) == [None]


def test_unknown_k_must_fit() -> None:
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ("n",))
        values, _ = ng.nn.top_k(p, p.shape[0] - 1)
        assert_array_equal(ng.run(values, {p: [1.0, 3.0, 2.0]}), [3.0, 2.0])


@pytest.mark.parametrize("k", [-1, 4])
def test_top_k_of_too_many(k: int) -> None:
    with pytest.raises(ng.errors.ShapeError, match=rf"top_k: k is {k}, wanted 0 to 3.*float64\(2,3\).*test_sorting.py"):
        ng.nn.top_k(np.zeros((2, 3)), k)


def test_errors() -> None:
    with pytest.raises(ng.errors.ShapeError, match="sort: axis -1 is out of range for 0 axes"):
        ng.sort(3.0)
    with pytest.raises(ng.errors.ShapeError, match=r"searchsorted: the sorted array is float64\(1,2\), wanted 1-d"):
        ng.searchsorted([[1.0, 2.0]], 1.0)
    with pytest.raises(ng.errors.ShapeError, match="side is 'middle', wanted 'left' or 'right'"):
        ng.searchsorted([1.0, 2.0], 1.0, side="middle")


def test_distinct_elements() -> None:
    x = np.array([[3.0, 1.0, 3.0], [np.nan, 1.0, np.nan]])
    ours, theirs = ng.unique_all(x), np.unique_all(x)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert_array_equal(mine.numpy(), wanted)
    assert_array_equal(ng.unique_values(x).numpy(), np.unique_values(x))
    assert_array_equal(ng.unique_counts(x).counts.numpy(), np.unique_counts(x).counts)
    assert_array_equal(ng.unique_inverse([2, 0, 2]).inverse_indices.numpy(), [1, 0, 1])
    assert ng.unique_values(np.zeros((0, 2))).shape == (0,)


def test_distinct_elements_of_a_traced_array_are_refused() -> None:
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, (3,))
        with pytest.raises(ng.errors.ShapeError, match=r"unique: .*traced array float64\(3,\).*ng.sort.*test_sort"):
            ng.unique_values(p)

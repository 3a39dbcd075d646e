"""Plans for new sizes: the recipe that fills them in, and where their slots of memory lie."""

from __future__ import annotations

import builtins
import itertools
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numgrad as ng
from numgrad.compiler import program as programs
from numgrad.compiler import tables
from numgrad.compiler.recipe import ALIGN, ARENA, LEAST_PACKED, MEMORY, SIZES, ZERO, Recipe, Sum


def tools() -> Any:
    return programs._get_tools()


def test_words_are_sums_of_what_is_known_when_a_plan_is_made() -> None:
    recipe = Recipe(2)
    first = recipe.words([Sum(7), Sum(1, ((SIZES, 3), (SIZES + 1, -2))), ZERO])
    recipe.put(first + 2, recipe.at(first))
    slot = recipe.slot(Sum(0, ((SIZES, 8),)), 0, 0)
    word = recipe.words([slot, slot.plus(Sum(16)), Sum(5).times(-2)])
    recipe.finish()
    for n, m in ((10, 4), (1000, 7)):
        words, arena, address = recipe.fill([n, m], tools())
        assert words[first:first + 3].tolist() == [7, 1 + 3 * n - 2 * m, address + 8 * first]
        assert len(arena) == -(-8 * n // ALIGN) * ALIGN + ALIGN
        assert words[word] % ALIGN == 0 and 0 <= words[word] - arena.ctypes.data < ALIGN
        assert words[word + 1:].tolist() == [words[word] + 16, -10]
    assert (MEMORY, ARENA) == (0, 1)


lives = st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 6))


@settings(max_examples=150, deadline=None)
@given(st.lists(lives, min_size=1, max_size=24))
def test_slots_that_are_taken_together_never_overlap(given_lives: list[tuple[int, int, int]]) -> None:
    unit = LEAST_PACKED // 8
    recipe = Recipe(1)
    slots = [(size * unit, first, first + length) for size, first, length in given_lives]
    places = [recipe.slot(Sum(size), first, last) for size, first, last in slots]
    recipe.lives = [(Sum(size), first, last) for size, first, last in slots]
    word = recipe.words(places)
    recipe.finish()
    words, arena, _ = recipe.fill([1], tools())
    base = -(-arena.ctypes.data // ALIGN) * ALIGN
    begins = [int(w) - base for w in words[word:word + len(slots)]]
    for i, (size, first, last) in enumerate(slots):
        assert 0 <= begins[i] and begins[i] + size <= len(arena) - ALIGN
        for j in range(i):
            other, start, end = slots[j]
            if first <= end and start <= last:
                assert begins[i] + size <= begins[j] or begins[j] + other <= begins[i]
    bound = recipe.live_bytes([1])
    assert bound <= len(arena) - ALIGN <= max(2 * bound, LEAST_PACKED)


def test_values_of_different_sizes_share_memory() -> None:
    @ng.function
    def f(x: Any) -> Any:
        total = np.sum(x)
        for k in range(2, 8):  # each copy is larger than the one before, and dead after its sum
            total = np.tanh(total + 1e-9 * np.sum(ng.cumsum(ng.concat([x * total] * k), axis=0)))
        return total

    x = np.linspace(1e-6, 1e-5, 20_000)
    want = np.sum(x)
    for k in range(2, 8):
        want = np.tanh(want + 1e-9 * np.sum(np.cumsum(np.concatenate([x * want] * k))))
    assert float(f(x)) == pytest.approx(float(want), rel=1e-9)
    plan = f.plan()
    assert plan["live_bytes"] <= plan["arena_bytes"] <= 1.2 * plan["live_bytes"]
    assert plan["arena_bytes"] < 3 * 7 * x.nbytes


def test_a_new_size_runs_no_new_code(monkeypatch: pytest.MonkeyPatch) -> None:
    f = ng.value_and_grad(lambda w, x: np.sum(ng.softplus(x @ w)) + np.sum(w * w))
    for n in (3, 4):
        f(np.ones(2), np.ones((n, 2)))

    def refuse(*given: Any) -> Any:
        raise AssertionError("a new size runs new Python code")

    found = {}
    with monkeypatch.context() as patch:
        for name in ("exec", "eval", "compile"):
            patch.setattr(builtins, name, refuse)
        for n in (5, 6, 500):
            found[n] = f(np.ones(2), np.ones((n, 2)))
    for n, (value, gradient) in found.items():
        assert float(value) == pytest.approx(n * np.log1p(np.exp(2.0)) + 2.0)
        assert gradient == pytest.approx(np.full(2, n / (1 + np.exp(-2.0)) + 2.0))


def test_a_new_size_takes_microseconds() -> None:
    """With room for slow machines: filling in takes some 0.05 ms, printing or tracing would take several."""
    f = ng.value_and_grad(lambda x: np.sum(np.tanh(x) * x))
    arrays = [np.ones(n) for n in range(3, 60)]
    for x in arrays[:5]:
        f(x)
    begun = time.perf_counter()
    for x in arrays[5:]:
        f(x)
    assert (time.perf_counter() - begun) / len(arrays[5:]) < 2e-3
    assert f.trace_count == 1


def test_two_sizes_in_turn_are_remembered_by_dtypes_and_ranks() -> None:
    f = ng.function(lambda x, y: x * 2.0 + y)
    for _ in range(2):
        for n in (2, 3):
            for dtype in (np.float32, np.float64):
                x = np.ones(n, dtype)
                assert f(x, x).dtype == dtype and f(x, x).tolist() == [3.0] * n
            with pytest.raises(ng.errors.ShapeError):
                f(np.ones(n), np.ones(n + 2))
            assert f(np.ones((n, 1)), np.ones(())).shape == (n, 1)
            assert f(np.ones(n)[::-1], 2.0).tolist() == [4.0] * n
            assert f(np.ones(n, ">f8"), np.ones(n)).tolist() == [3.0] * n
    f.clear_cache()
    assert f(np.ones(2), np.ones(2)).tolist() == [3.0, 3.0] and f.trace_count == 1


def _network(parameters: Any, x: Any) -> Any:
    for weights, bias in parameters:
        x = np.tanh(x @ weights + bias)
    return np.sum(x * x)


def _terms(x: Any) -> Any:
    total = ng.zeros_like(x)
    for k in range(200):
        total = total + np.sin(x * (0.1 + 0.01 * k))
    return np.sum(total)


def _programs() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    rng = np.random.default_rng(0)
    widths = (16, 128, 32, 256, 8, 64)
    parameters = [(rng.standard_normal((a, b)) * 0.05, np.zeros(b)) for a, b in itertools.pairwise(widths)]
    return {"layers of many widths": (_network, (parameters, rng.standard_normal((500, 16)))),
            "200 terms": (_terms, (rng.standard_normal(100_000),))}


@pytest.mark.parametrize("name", _programs())
def test_arenas_are_no_larger_than_what_is_alive(name: str) -> None:
    function, data = _programs()[name]
    f = ng.value_and_grad(function)
    f(*data)
    plan = f.plan()
    assert 0 < plan["live_bytes"] <= plan["arena_bytes"] <= 1.2 * plan["live_bytes"]
    if name == "200 terms":
        assert plan["arena_bytes"] <= 6 * data[0].nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults")
def test_a_steady_call_touches_no_fresh_pages() -> None:
    import resource

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    for function, data in _programs().values():
        f = ng.value_and_grad(function)
        for _ in range(5):
            f(*data)
        pages = f.plan()["arena_bytes"] // 4096
        before = faults()
        for _ in range(20):
            f(*data)
        assert (faults() - before) / 20 < 0.2 * pages


def test_programs_of_very_many_values_share_slots_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_VALUES", 3)

    def chain(x: Any) -> Any:
        for k in range(40):
            x = ng.cumsum(x, axis=0) if k % 2 else ng.flip(ng.cumsum(x * 0.5, axis=0), 0)
        return x

    x = np.linspace(0.0, 1e-3, 5000)
    f = ng.function(chain)
    want = x
    for k in range(40):
        want = np.cumsum(want) if k % 2 else np.cumsum(want * 0.5)[::-1]
    np.testing.assert_allclose(f(x), want, rtol=1e-9)
    assert f.plan()["arena_bytes"] <= 4 * (x.nbytes + ALIGN)


"""What is done again and again leaves nothing behind: objects, blocks of memory and arrays are counted, not pages."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import numgrad as ng

X, W = np.linspace(0.1, 1.0, 50), np.ones(50)
FEW = 50  # blocks or bytes that the interpreter itself may keep meanwhile, whatever the number of calls


@pytest.fixture(autouse=True)
def only_what_is_called_here() -> Iterator[None]:
    """Cycles would be leaks until they are collected: no collection helps."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def kept(measure: Callable[[], int], call: Callable[[], Any], calls: int) -> int:
    """What `calls` calls leave behind, in the best of four rounds: what leaks, leaks in every one."""
    found = []
    for _ in range(4):
        before = measure()
        for _ in range(calls):
            call()
        found.append(measure() - before)
    return min(found)


def leaves_nothing(call: Callable[[], Any], calls: int) -> None:
    gc.collect()
    assert kept(lambda: len(gc.get_objects()), call, 20) <= 0
    assert kept(sys.getallocatedblocks, call, calls // 4) <= FEW
    tracemalloc.start()
    try:
        assert kept(lambda: tracemalloc.get_traced_memory()[0], call, calls // 40) <= FEW
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("leak", [lambda kept: kept.append(object()), lambda kept: kept.append(np.ones(3))])
def test_a_leak_is_seen(leak: Callable[[Any], Any]) -> None:
    """What is measured below can fail."""
    everything: list[Any] = []
    with pytest.raises(AssertionError):
        leaves_nothing(lambda: leak(everything), 2000)


def test_calls_of_a_compiled_gradient() -> None:
    """P8, J1: 2e4 calls of one compiled gradient, of one shape and of a few."""
    gradient = ng.value_and_grad(lambda x, w: ng.sum(ng.tanh(x * w) ** 2), (0, 1))
    leaves_nothing(lambda: gradient(X, W), 20_000)
    sizes = [X[:n] for n in (3, 10, 50)]
    leaves_nothing(lambda: [gradient(x, x) for x in sizes], 2000)


def taped() -> Any:
    x = ng.asarray(X)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.sum(ng.tanh(x * x) + ng.take(x, [1, 2]).sum())
    return tape.gradient(y, x)


def taped_variable() -> Any:
    with ng.GradientTape() as tape:
        y = ng.sum(ng.tanh(VARIABLE * VARIABLE))
    VARIABLE.assign_sub(1e-9 * tape.gradient(y, VARIABLE))
    return tape


def nested() -> Any:
    x = ng.asarray(X)
    with ng.GradientTape() as outer:
        outer.watch(x)
        with ng.GradientTape() as inner:
            inner.watch(x)
            y = ng.sum(ng.exp(x) * x)
        first = inner.gradient(y, x)
    return outer.gradient(first, x)


def pushed() -> Any:
    x = ng.asarray(X)
    with ng.ForwardAccumulator(x, ng.asarray(W)) as accumulator:
        y = ng.sum(ng.tanh(x) * x)
    return accumulator.jvp(y)


def abandoned() -> Any:
    """A tape that is never used, and one that fails."""
    x = ng.asarray(X)
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = ng.prevent_gradient(x * x, "no")
    try:
        tape.gradient(y, x)
    except LookupError:
        return None
    raise AssertionError("prevent_gradient let a gradient through")


def through_a_function() -> Any:
    x = ng.asarray(X)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.sum(COMPILED(x))
    return tape.gradient(y, x)


VARIABLE = ng.Variable(X)
COMPILED = ng.function(lambda x: ng.sin(x) * x)


@pytest.mark.parametrize("call", [taped, taped_variable, nested, pushed, abandoned, through_a_function])
def test_tapes(call: Callable[[], Any]) -> None:
    """O7, P8: 2e3 tapes, plain, of variables, nested, forward, left alone after an error, around compiled calls."""
    leaves_nothing(call, 2000)


def jacobian_by_tape() -> Any:
    x = ng.asarray(X[:4])
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.sin(x) * x
    return tape.jacobian(y, x)


def graph_and_gradient() -> Any:
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ("n",))
        return ng.gradients(ng.sum(ng.exp(x) * x), x)


@pytest.mark.parametrize("call", [jacobian_by_tape, graph_and_gradient])
def test_graphs(call: Callable[[], Any]) -> None:
    """A5, O23: graphs, those of Jacobians too, go with their last tensor; their operations and tensors are cycles."""
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    assert kept(blocks, call, 100) <= FEW


def test_a_gradient_frees_the_tape_on_the_way() -> None:
    """O2: the most that lives while a tape that is not persistent is differentiated is little more than it recorded."""
    x = ng.asarray(np.linspace(0.0, 1.0, 100_000))
    steps = 30

    def differentiate() -> int:
        with ng.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(steps):
                y = ng.tanh(y * 1.01)
        recorded = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        tape.gradient(y, x)
        return tracemalloc.get_traced_memory()[1] - recorded

    for _ in range(3):  # the rules are traced at the third time
        tracemalloc.start()
        try:
            extra = differentiate()
        finally:
            tracemalloc.stop()
    assert extra <= 4 * x.numpy().nbytes

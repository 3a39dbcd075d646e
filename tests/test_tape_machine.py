"""Tapes, in any order of watching, computing, nesting, pausing, resetting, differentiating, agree with forward mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from numpy.testing import assert_allclose

import numgrad as ng
from numgrad.graph.scopes import heard_by

UNARY: dict[str, Callable[[Any], Any]] = {
    "sin": ng.sin,
    "tanh": lambda x: ng.tanh(x) * 2.0,
    "bell": lambda x: ng.exp(-x * x),
    "cumulative": lambda x: ng.cumsum(x) * 0.5,
    "turned": lambda x: ng.flip(x) + x[0],
    "rows": lambda x: ng.take(x, [2, 2, 0], axis=0),
    "sorted": ng.sort,
    "largest": lambda x: ng.max(x) * ng.cos(x),
    "branch": lambda x: ng.where(x > 0.0, ng.log1p(ng.abs(x)), x),
    "stopped": lambda x: ng.stop_gradient(x) * 0.5,
    "half stopped": lambda x: ng.stop_gradient(x) + ng.sin(x),
    "rounded": ng.floor,
    "integer": lambda x: ng.cast(ng.cast(x, ng.int64), ng.float64),
    "flat": ng.sign,
    "custom": ng.custom_gradient(lambda x: (ng.sin(x), lambda g: 3.0 * g * x)),
    "recomputed": ng.recompute_grad(lambda x: ng.sin(x) * ng.cos(x)),
    "compiled": ng.function(lambda x: ng.sin(x) * x),
    "compiled loop": ng.function(lambda x: ng.fori_loop(0, 3, lambda i, t: ng.tanh(t + x), x)),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: (x + y) * 0.5,
    "multiply": lambda x, y: ng.tanh(x * y),
    "divide": lambda x, y: x / (2.0 + y * y),
    "outer": lambda x, y: ng.tanh(ng.outer(x, y) @ x),
    "larger": ng.maximum,
    "joined": lambda x, y: ng.concat([x[:1], y[1:]]),
    "compiled": ng.function(lambda x, y: ng.tanh(x) + ng.sin(y) * x),
}
SIZE = 3
places = st.integers(0, 10**6)


class Tapes(RuleBasedStateMachine):
    """One persistent tape, and beside it one accumulator for each watched tensor, paused and dropped with it."""

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pool = [ng.asarray(self.rng.uniform(-1.5, 1.5, SIZE)) for _ in range(2)]
        self.variable = ng.Variable(self.rng.uniform(-1.5, 1.5, SIZE))
        self.tape = ng.GradientTape(persistent=True, watch_accessed_variables=False)
        self.tape.__enter__()
        self.followed: list[tuple[Any, np.ndarray[Any, Any], ng.ForwardAccumulator]] = []
        self._watch(self.pool[0])

    def teardown(self) -> None:
        if hasattr(self, "followed"):
            self._leave()
            self.tape.__exit__()

    def _pick(self, place: int) -> ng.Tensor:
        return self.pool[place % len(self.pool)]

    def _leave(self) -> None:
        for _, _, accumulator in self.followed:
            accumulator.__exit__()

    def _return(self) -> None:
        for _, _, accumulator in self.followed:
            accumulator.__enter__()

    def _watch(self, source: Any) -> None:
        if any(source is s for s, _, _ in self.followed):
            return
        recorded_before = source is not self.variable and self.tape.follows(source)
        self.tape.watch(source)
        if recorded_before:
            return  # as something computed; what came of it counts, which accumulators that start now do not see
        direction = self.rng.normal(size=SIZE)
        accumulator = ng.ForwardAccumulator(source, ng.asarray(direction))
        accumulator.__enter__()
        self.followed.append((source, direction, accumulator))

    # -- what users do
    @precondition(lambda self: len(self.followed) < 3)
    @rule(place=places)
    def watch(self, place: int) -> None:
        self._watch(self._pick(place))

    @precondition(lambda self: len(self.followed) < 3)
    @rule()
    def watch_variable(self) -> None:
        self._watch(self.variable)

    @rule(name=st.sampled_from(sorted(UNARY)), place=places)
    def compute(self, name: str, place: int) -> None:
        self._add(UNARY[name](self._pick(place)))

    @rule(name=st.sampled_from(sorted(BINARY)), left=places, right=places)
    def combine(self, name: str, left: int, right: int) -> None:
        self._add(BINARY[name](self._pick(left), self._pick(right)))

    @rule(place=places)
    def read_variable(self, place: int) -> None:
        self._add(ng.tanh(self.variable * self._pick(place)))

    @rule()
    def assign_variable(self) -> None:
        self.variable.assign(self.rng.uniform(-1.5, 1.5, SIZE))

    @rule(name=st.sampled_from(sorted(UNARY)), place=places)
    def compute_while_paused(self, name: str, place: int) -> None:
        with self.tape.stop_recording():
            self._leave()
            y = UNARY[name](self._pick(place))
        self._return()
        self._add(y)

    @rule(name=st.sampled_from(sorted(UNARY)), place=places)
    def compute_outside(self, name: str, place: int) -> None:
        self._leave()
        self.tape.__exit__()
        y = UNARY[name](self._pick(place))
        self.tape.__enter__()
        self._return()
        self._add(y)

    @rule()
    def reset(self) -> None:
        self.tape.reset()
        self._leave()
        self.followed = []

    @rule(first=st.sampled_from(sorted(UNARY)), second=st.sampled_from(sorted(BINARY)), place=places, other=places)
    def nest(self, first: str, second: str, place: int, other: int) -> None:
        """The gradient that an inner tape gives is one more value, with derivatives of its own."""
        source = self._pick(place)
        with ng.GradientTape() as inner:
            inner.watch(source)
            y = BINARY[second](UNARY[first](source), self._pick(other))
        gradient = inner.gradient(y, source)
        if gradient is not None:
            self._add(ng.tanh(ng.asarray(gradient)))

    # -- what must hold
    def _add(self, y: ng.Tensor) -> None:
        self.pool.append(y)
        self._compare(y, None)

    def _compare(self, y: ng.Tensor, weights: np.ndarray[Any, Any] | None) -> None:
        for source, direction, accumulator in self.followed:
            with self.tape.stop_recording(), heard_by(()):
                gradient = self.tape.gradient(y, source, output_gradients=weights)
                if gradient is not None:
                    gradient = ng.asarray(gradient).numpy()
            tangent = accumulator.jvp(y)
            assert (gradient is None) == (tangent is None)
            if gradient is not None:
                assert gradient.shape == (SIZE,)
                total = np.sum(tangent.numpy() * (1.0 if weights is None else weights))
                assert_allclose(gradient @ direction, total, rtol=1e-8, atol=1e-10)

    @rule(place=places)
    def differentiate(self, place: int) -> None:
        self._compare(self._pick(place), self.rng.normal(size=SIZE))

    @rule(place=places)
    def differentiate_by_rows(self, place: int) -> None:
        y = self._pick(place)
        for source, direction, accumulator in self.followed[:1]:
            with self.tape.stop_recording(), heard_by(()):
                jacobian = self.tape.jacobian(y, source)
            tangent = accumulator.jvp(y)
            assert (jacobian is None) == (tangent is None)
            if jacobian is not None:
                assert_allclose(jacobian.numpy() @ direction, tangent.numpy(), rtol=1e-8, atol=1e-10)

    @rule(place=places, other=places)
    def what_is_not_watched_has_no_gradient(self, place: int, other: int) -> None:
        y, x = self._pick(place), ng.asarray(np.ones(SIZE))
        with self.tape.stop_recording(), heard_by(()):
            assert self.tape.gradient(y, x) is None
        followed = any(s is self.variable for s, _, _ in self.followed)
        assert self.tape.watched_variables() == ((self.variable,) if followed else ())


Tapes.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None,
                                   suppress_health_check=[HealthCheck.too_slow])
TestTapes = Tapes.TestCase

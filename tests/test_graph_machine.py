"""Graphs and tapes in them, in any order of computing, nesting, stopping, resetting, differentiating, obey calculus."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from numpy.testing import assert_allclose

import numgrad as ng
from numgrad.autodiff.forward import pushforward
from tests.test_tape_machine import BINARY, SIZE, UNARY, places

LIMIT = 40  # values, so that gradients of gradients stay small


class Graphs(RuleBasedStateMachine):
    """One graph with two inputs, and a persistent tape that is entered in it."""

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = ng.Graph()
        with self.graph.as_default():
            self.xs = [ng.placeholder(ng.float64, (SIZE,)), ng.placeholder(ng.float64, ("n",))]
            self.pool = [*self.xs, self.xs[0] * ng.sin(self.xs[1])]  # the sizes are the same from here on
        self.feeds = {x: self.rng.uniform(-1.5, 1.5, SIZE) for x in self.xs}
        self.tape = ng.GradientTape(persistent=True)
        self.constant = self._made_since(0)  # for the tape
        self.claims: list[tuple[Any, Any]] = []
        self.tape.__enter__()
        self.tape.watch(self.xs)

    def teardown(self) -> None:
        """What was found while the graph grew is what a program of the whole graph computes."""
        if not hasattr(self, "claims"):
            return
        self.tape.__exit__()
        if self.claims:
            found = ng.compile(self.xs, [g for g, _ in self.claims])(*self.feeds.values())
            for value, (_, wanted) in zip(found, self.claims, strict=True):
                assert_allclose(value, wanted, rtol=1e-9, atol=1e-11)

    def _pick(self, place: int) -> Any:
        return self.pool[place % len(self.pool)]

    def _made_since(self, number: int) -> list[Any]:
        return [t for op in self.graph.operations[number:] for t in op.outputs if op.type != "placeholder"]

    def _value(self, node: Any) -> np.ndarray[Any, Any]:
        return np.asarray(ng.run(ng.asarray(node), self.feeds))

    def _same(self, node: Any, other: Any) -> None:
        assert (node is None) == (other is None)
        if node is not None:
            value = self._value(node)
            assert_allclose(value, self._value(other), rtol=1e-9, atol=1e-11)
            if len(self.claims) < 4:
                self.claims.append((ng.asarray(node), value))

    # -- what users do
    @precondition(lambda self: len(self.pool) < LIMIT)
    @rule(name=st.sampled_from(sorted(UNARY)), place=places)
    def compute(self, name: str, place: int) -> None:
        with self.graph.as_default():
            self.pool.append(UNARY[name](self._pick(place)))

    @precondition(lambda self: len(self.pool) < LIMIT)
    @rule(name=st.sampled_from(sorted(BINARY)), left=places, right=places)
    def combine(self, name: str, left: int, right: int) -> None:
        with self.graph.as_default():
            self.pool.append(BINARY[name](self._pick(left), self._pick(right)))

    @precondition(lambda self: len(self.pool) < LIMIT)
    @rule(name=st.sampled_from(sorted(UNARY)), place=places)
    def compute_while_paused(self, name: str, place: int) -> None:
        before = len(self.graph.operations)
        with self.graph.as_default(), self.tape.stop_recording():
            self.pool.append(UNARY[name](self._pick(place)))
        self.constant += self._made_since(before)

    @rule()
    def reset(self) -> None:
        self.tape.reset()
        self.tape.watch(self.xs)
        self.constant = self._made_since(0)

    @precondition(lambda self: len(self.pool) < LIMIT)
    @rule(place=places, source=st.integers(0, 1), by_tape=st.booleans())
    def nest(self, place: int, source: int, by_tape: bool) -> None:
        """A gradient is one more value."""
        y, x = self._pick(place), self.xs[source]
        with self.graph.as_default():
            if by_tape:
                with ng.GradientTape() as inner:
                    inner.watch(x)
                    z = ng.tanh(y * x)
                gradient = inner.gradient(z, x)
            else:
                (gradient,) = ng.gradients(y, x)
            if gradient is not None:
                self.pool.append(ng.tanh(ng.asarray(gradient)) * 0.5)

    # -- what must hold
    @rule(place=places, weighted=st.booleans())
    def forward_and_reverse_agree(self, place: int, weighted: bool) -> None:
        y = self._pick(place)
        weights = self.rng.normal(size=SIZE) if weighted else np.ones(SIZE)
        direction = self.rng.normal(size=SIZE)
        with self.graph.as_default():
            for x, gradient in zip(self.xs, ng.gradients(y, self.xs, [weights] if weighted else None), strict=True):
                (tangent,) = pushforward([y], [x], [ng.constant(direction)])
                assert (gradient is None) == (tangent is None)
                if gradient is not None:
                    assert_allclose(self._value(gradient) @ direction, self._value(tangent) @ weights, rtol=1e-8,
                                    atol=1e-10)

    @rule(place=places, stop=places)
    def stops_split_the_derivative(self, place: int, stop: int) -> None:
        """The whole is what does not pass through `middle`, and what does, by the chain rule."""
        y, middle = self._pick(place), self._pick(stop)
        if middle.op.type == "placeholder" or len(middle.op.outputs) > 1:
            return
        with self.graph.as_default():
            for x in self.xs:
                (whole,) = ng.gradients(y, x, unconnected_gradients="zero")
                (around,) = ng.gradients(y, x, stop_gradients=[middle], unconnected_gradients="zero")
                (outer,) = ng.gradients(y, middle, unconnected_gradients="zero")
                (through,) = ng.gradients(middle, x, [outer], unconnected_gradients="zero")
                self._same(whole, ng.asarray(around) + ng.asarray(through))

    @rule(place=places)
    def tapes_are_graphs(self, place: int) -> None:
        """The tape's gradient is the graph's, with all that the tape did not record stopped."""
        y = self._pick(place)
        with self.graph.as_default():
            wanted = ng.gradients(y, self.xs, stop_gradients=self.constant)
            with self.tape.stop_recording():
                found = self.tape.gradient(y, self.xs)
            for gradient, other in zip(found, wanted, strict=True):
                self._same(gradient, other)


Graphs.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None,
                                    suppress_health_check=[HealthCheck.too_slow])
TestGraphs = Graphs.TestCase

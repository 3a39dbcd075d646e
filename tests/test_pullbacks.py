"""Pullbacks that are traced once and replayed: the rules' numbers, and nothing written that is not theirs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.autodiff import pullbacks
from numgrad.autodiff.pullbacks import replayed
from numgrad.autodiff.recording import Recorded
from numgrad.autodiff.rules import pull
from numgrad.graph.core import apply_all, as_tensor
from numgrad.graph.records import OPS
from numgrad.types import is_trainable
from tests.op_cases import WITHOUT_CASES, derivative_cases, generator

NAMES = [n for n, r in OPS.items() if r.differentiable and n not in WITHOUT_CASES and not n.startswith("test_")
         and n != "prevent_gradient"]
#: Operations whose rules are not replayed, and why.
RULES_THEMSELVES = {
    "read_variable": "its rule is not one of an operation on arrays",
    "recompute_point": "its rule is not one of an operation on arrays",
}


def third(op: Any, cotangents: Any, needed: Any, masked: bool) -> Any:
    """What is replayed when an operation comes for the third time."""
    found = None
    for _ in range(3):
        found = replayed(op, cotangents, needed, masked, False)
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_replayed_is_the_rule(name: str, masked: bool) -> None:
    """Bit for bit what the rule computes, with every array that was given left as it was."""
    compared = 0
    for case in derivative_cases(name):
        inputs = tuple(as_tensor(np.array(a)) for a in case.arrays)
        outputs = apply_all(name, *inputs, **case.attrs)
        op: Any = Recorded(OPS[name], inputs, outputs, dict(case.attrs), None)
        rng = generator(name, case.label)
        cotangents = [as_tensor(np.asarray(rng.normal(size=y.shape), y.dtype)) if is_trainable(y.dtype) else None
                      for y in outputs]
        if not any(is_trainable(t.dtype) for t in outputs):
            continue
        for needed in ([is_trainable(t.dtype) for t in inputs], [False, *[is_trainable(t.dtype) for t in inputs[1:]]]):
            before = [t._value.copy() for t in (*inputs, *outputs, *[g for g in cotangents if g is not None])]
            wanted = pull(op, cotangents, needed, masked)
            found = third(op, cotangents, needed, masked)
            after = [t._value for t in (*inputs, *outputs, *[g for g in cotangents if g is not None])]
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a, b)
            if found is None:
                continue
            compared += 1
            assert [g is None for g in found] == [g is None for g in wanted]
            for g, w in zip(found, wanted, strict=True):
                if g is not None:
                    assert g.dtype == w.dtype and g.shape == w.shape and g._value.shape == w.shape
                    np.testing.assert_array_equal(g.numpy(), w.numpy())
    assert bool(compared) is (name not in RULES_THEMSELVES)


def test_tapes_agree_with_tapes_that_are_heard() -> None:
    """A tape inside another runs the rules; alone it replays: equal for the fourth time as for the first."""
    def loss(x: Any, w: Any) -> Any:
        h = ng.tanh(x @ w)
        return ng.sum(ng.where(h > 0, ng.log(h), h) * x[:, :1] ** 2 + ng.max(h, axis=1, keepdims=True))

    rng = np.random.default_rng(0)
    x, w = ng.asarray(rng.normal(size=(4, 3))), ng.asarray(rng.normal(size=(3, 3)))

    def gradients(heard: bool) -> Any:
        with ng.GradientTape(persistent=True) as outer:
            outer.watch([x, w])
            with ng.GradientTape() as tape:
                tape.watch([x, w])
                y = loss(x, w)
            if heard:
                return [g.numpy() for g in tape.gradient(y, [x, w])]
        return [g.numpy() for g in tape.gradient(y, [x, w])]

    wanted = gradients(True)
    for _ in range(4):
        for g, v in zip(gradients(False), wanted, strict=True):
            np.testing.assert_array_equal(g, v)


def test_exponents_are_part_of_the_signature() -> None:
    """The rule of a power makes use of the exponent's value."""
    for exponent in (3.0, 0.0, 1.0, 2.5, 3.0, 0.0):
        for _ in range(4):
            x = ng.asarray([0.0, 2.0])
            with ng.GradientTape() as tape:
                tape.watch(x)
                y = x ** ng.asarray(exponent)
            expected = [0.0, 0.0] if exponent == 0 else exponent * np.array([0.0, 2.0]) ** (exponent - 1)
            np.testing.assert_array_equal(tape.gradient(y, x).numpy(), expected)


def test_rules_of_users_run_each_time() -> None:
    """Only rules of the library are replayed."""
    calls = []

    def vjp(op: Any, g: Any) -> Any:
        calls.append(g)
        return [2.0 * g]

    twice = ng.extend.op("test_pullbacks_twice", lambda x: ng.extend.Spec(x.dtype, x.shape), evaluate=lambda x: 2 * x,
                         vjp=vjp)
    for _ in range(5):
        x = ng.asarray([1.0])
        with ng.GradientTape() as tape:
            tape.watch(x)
            y = twice(x)
        assert tape.gradient(y, x).numpy() == [2.0]
    assert len(calls) == 5


def test_errors_are_those_of_the_rule() -> None:
    """Singular systems on the way back name the operation, whether or not the rule was traced before."""
    def gradient(matrix: Any) -> Any:
        a = ng.asarray(matrix)
        with ng.GradientTape() as tape:
            tape.watch(a)
            y = ng.linalg.det(a)
        return tape.gradient(y, a)

    for _ in range(4):
        gradient(np.eye(2))
    assert np.isfinite(gradient(np.array([[1.0, 2.0], [3.0, 4.0]])).numpy()).all()
    with ng.debug_nans(), pytest.raises(FloatingPointError, match="sqrt|multiply"):
        for _ in range(4):
            x = ng.asarray([0.0, 1.0])
            with ng.GradientTape() as tape:
                tape.watch(x)
                y = ng.sum(ng.sqrt(x) * 0.0)
            tape.gradient(y, x)


def test_threads_trace_at_once() -> None:
    """Several threads that meet an operation at the same time get the same gradients."""
    pullbacks._pullbacks.clear()
    pullbacks._met.clear()
    wrong: list[Any] = []

    def work(k: int) -> None:
        for i in range(30):
            x = ng.asarray(np.linspace(0.1, 1.0, 3 + i % 5))
            with ng.GradientTape() as tape:
                tape.watch(x)
                y = ng.sum(ng.exp(x) * ng.log(x))
            g = tape.gradient(y, x).numpy()
            if not np.allclose(g, np.exp(x.numpy()) * (np.log(x.numpy()) + 1 / x.numpy())):
                wrong.append(g)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert any(p is not None for p in pullbacks._pullbacks.values())

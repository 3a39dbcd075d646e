"""ForwardAccumulator: construction, what it follows, when, nesting with others and with tapes, memory."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numgrad as ng
from tests.test_tape import numbers


def pushed(f: Callable[..., Any], value: Any, tangent: Any) -> Any:
    """The tangent of ``f`` at a value along a tangent."""
    x = ng.asarray(value)
    with ng.ForwardAccumulator(x, ng.asarray(tangent)) as accumulator:
        y = f(x)
    return accumulator.jvp(y)


# -- construction


def test_primals_and_tangents_have_one_nest() -> None:
    """P1: nests, arrays and tensors as tangents, cast within the kind; lists for a tensor are another nest."""
    a, b = ng.asarray(np.float32([1.0, 2.0])), ng.asarray(3.0)
    tangents = {"a": np.array([1, 10]), "b": (ng.asarray(np.float32(2.0)),)}
    with ng.ForwardAccumulator({"a": a, "b": (b,)}, tangents) as accumulator:
        y = ng.sum(a) * b
    assert accumulator.jvp(a).dtype == np.float32
    assert numbers(accumulator.jvp(y)) == 11.0 * 3.0 + 3.0 * 2.0
    for tangents in ([1.0, 2.0], {"a": a}, (a, b), None):
        with pytest.raises(ValueError):
            ng.ForwardAccumulator(a, tangents)
    with pytest.raises(ValueError):
        ng.ForwardAccumulator([a, b], [a])


def test_what_is_refused() -> None:
    """P1: a primal twice, a tangent of another shape or kind, what is no tensor."""
    a, v = ng.asarray([1.0, 2.0]), ng.Variable(1.0)
    for primals in ([a, a], [v, v]):
        with pytest.raises(ValueError, match="multiple times"):
            ng.ForwardAccumulator(primals, [np.ones(p.shape) for p in primals])
    with pytest.raises(ValueError, match="shape"):
        ng.ForwardAccumulator(a, np.ones(3))
    with pytest.raises(TypeError, match="complex128"):
        ng.ForwardAccumulator(a, np.ones(2) * 1j)
    for bad in (np.ones(2), 1.0, None):
        with pytest.raises(TypeError, match="primals"):
            ng.ForwardAccumulator(bad, bad)


def test_equal_primals_are_different_primals() -> None:
    """P1: identity counts, not value."""
    a, b = ng.asarray(1.0), ng.asarray(1.0)
    with ng.ForwardAccumulator([a, b], [np.float64(1.0), np.float64(10.0)]) as accumulator:
        y = a * 3.0 + b * 5.0
    assert numbers(accumulator.jvp([y, a, b])) == [53.0, 1.0, 10.0]


# -- asking


def test_jvp_is_a_look_up() -> None:
    """P2: any nest, as often as wanted, before, inside and after the block; None or zeros without a path."""
    x, other = ng.asarray([1.0, 2.0]), ng.asarray([[1, 2]])
    accumulator = ng.ForwardAccumulator(x, ng.asarray([1.0, 0.0]))
    assert numbers(accumulator.jvp(x)) == [1.0, 0.0]
    with accumulator:
        y = x * x
        inside = accumulator.jvp({"y": y, "rest": [x, (other,)]})
    assert numbers(inside) == {"y": [2.0, 0.0], "rest": [[1.0, 0.0], (None,)]}
    assert accumulator.jvp(y) is inside["y"]
    assert numbers(accumulator.jvp([y, other], unconnected_gradients="zero")) == [[2.0, 0.0], [[0, 0]]]
    with pytest.raises(ValueError, match="unconnected"):
        accumulator.jvp(y, unconnected_gradients="one")
    for bad in (None, 1.0, np.ones(2)):
        with pytest.raises(TypeError):
            accumulator.jvp(bad)


def test_entering_and_leaving() -> None:
    """P3: only while active; entering again goes on; twice at once, or leaving when inactive, is a ValueError."""
    x = ng.asarray(3.0)
    accumulator = ng.ForwardAccumulator(x, ng.asarray(1.0))
    before = x * x
    with accumulator:
        y = x * x
        with pytest.raises(ValueError, match="entered again"):
            accumulator.__enter__()
    between = y * x
    with accumulator:
        z = y * x
    assert numbers(accumulator.jvp([before, y, between, z])) == [None, 6.0, None, 27.0]
    with pytest.raises(ValueError, match="not active"):
        accumulator.__exit__()


def test_only_the_entering_thread() -> None:
    """S3: operations in another thread have no tangent."""
    x = ng.asarray(3.0)
    made: list[ng.Tensor] = []
    with ng.ForwardAccumulator(x, ng.asarray(1.0)) as accumulator:
        thread = threading.Thread(target=lambda: made.append(x * x))
        thread.start()
        thread.join()
    assert accumulator.jvp(made[0]) is None


# -- what it follows


def test_operations_without_a_derivative() -> None:
    """P4: stopped, integer and constant results have no tangent; an integer primal is logged."""
    x = ng.asarray([3.5, 1.5])
    with ng.ForwardAccumulator(x, ng.asarray([1.0, 2.0])) as accumulator:
        dead = [ng.stop_gradient(x), ng.argmax(x), ng.cast(x, ng.int64), ng.floor(x), x > 2.0, ng.zeros_like(x)]
        alive = ng.sign(x) + x
    assert [accumulator.jvp(t) for t in dead[:5]] == [None] * 5
    assert numbers(accumulator.jvp(alive)) == [1.0, 2.0]


def test_integer_primals_only_warn(caplog: pytest.LogCaptureFixture) -> None:
    """P4: nothing is followed from them."""
    n = ng.asarray([1, 2])
    with caplog.at_level(logging.WARNING, "numgrad"), ng.ForwardAccumulator(n, ng.asarray([1, 1])) as accumulator:
        y = n * n
    assert "int64" in caplog.text and accumulator.jvp(y) is None


def test_operations_that_refuse() -> None:
    """P5: LookupError for an operation without a rule, at the operation."""
    with pytest.raises(LookupError, match="explicitly disabled"):
        pushed(lambda x: ng.prevent_gradient(x, "no"), 1.0, 1.0)


RULES: dict[str, Callable[[Any], Any]] = {
    "partials": lambda x: ng.sin(x) * ng.exp(x) / (1.0 + x),
    "linear": lambda x: ng.reshape(ng.concat([x, 2.0 * x]), (2, -1)),
    "transposed": lambda x: ng.linalg.inv(ng.outer(x, x) + ng.eye(3)),
    "sort": lambda x: ng.sort(x * x),
    "top_k": lambda x: ng.nn.top_k(x, 2)[0],
    "gather": lambda x: ng.take(x, [2, 0, 2]) * x,
    "cumulative": lambda x: ng.cumprod(x),
    "max": lambda x: ng.max(x) * x,
    "where": lambda x: ng.where(x > 1.0, ng.log(x), x),
    "matmul": lambda x: ng.outer(x, x) @ x,
    "custom": lambda x: ng.custom_gradient(lambda v: (ng.exp(v), lambda g: g * ng.exp(v)))(x),
    "recompute": lambda x: ng.recompute_grad(lambda v: ng.sin(v) * v)(x),
    "loop": lambda x: ng.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * x), (0, x))[1],
    "cond": lambda x: ng.cond(x[0] > 0.0, lambda: x * x, lambda: x),
    "scan": lambda x: ng.scan(lambda c, row: (c * row, c + row), ng.asarray(1.0), x)[1],
    "function": lambda x: ng.function(lambda v: ng.sin(v) * v)(x),
}


@pytest.mark.parametrize("name", RULES)
def test_tangents_agree_with_differences_and_with_tapes(name: str) -> None:
    """P5, P7: every kind of rule, control flow, functions: J t is the difference quotient, <u, J t> = <J^T u, t>."""
    f, rng = RULES[name], np.random.default_rng(7)
    x, t = np.array([0.7, 1.9, 1.2]), rng.normal(size=3)
    tangent = pushed(f, x, t).numpy()
    step = 1e-6
    slope = (f(ng.asarray(x + step * t)).numpy() - f(ng.asarray(x - step * t)).numpy()) / (2 * step)
    assert_allclose(tangent, slope, rtol=1e-6, atol=1e-8)
    u, source = rng.normal(size=tangent.shape), ng.asarray(x)
    with ng.GradientTape() as tape:
        tape.watch(source)
        y = f(source)
    back = tape.gradient(y, source, output_gradients=u)
    assert_allclose(np.sum(u * tangent), np.sum(np.asarray(ng.asarray(back).numpy()) * t), rtol=1e-10)


def test_complex_tangents() -> None:
    """P5: a holomorphic function multiplies the tangent by its derivative."""
    assert_allclose(numbers(pushed(lambda z: z * z * z, 1.0 + 2.0j, 1.0j)), 3.0 * (1 + 2j) ** 2 * 1j)


def test_variables_as_primals() -> None:
    """P7: reads carry the variable's tangent, eagerly and in graphs; the variable itself has one; unread ones too."""
    v, w = ng.Variable([1.0, 2.0]), ng.Variable(3.0)
    with ng.ForwardAccumulator([v, w], [np.array([1.0, 10.0]), np.float64(2.0)]) as accumulator:
        y = ng.sum(v * v)
        v.assign([5.0, 5.0])
        z = ng.sum(v)
    assert numbers(accumulator.jvp([y, z, v, w])) == [42.0, 11.0, [1.0, 10.0], 2.0]
    assert accumulator.jvp(ng.Variable(1.0)) is None
    with ng.Graph().as_default(), ng.ForwardAccumulator(w, np.float64(2.0)) as accumulator:
        y = w * w
        tangent = accumulator.jvp(y)
    assert float(ng.run(tangent)) == 12.0


def test_in_a_graph() -> None:
    """P7: nodes get tangents that are nodes."""
    with ng.Graph().as_default():
        x, t = ng.placeholder(ng.float64, ("n",)), ng.placeholder(ng.float64, ("n",))
        with ng.ForwardAccumulator(x, t) as accumulator:
            y = ng.cumsum(x * ng.sin(x))
        dy = accumulator.jvp(y)
    at, along = np.array([0.3, 0.8]), np.array([1.0, -2.0])
    assert_allclose(ng.run(dy, {x: at, t: along}), np.cumsum((np.sin(at) + at * np.cos(at)) * along))


# -- nesting


def test_order_of_nesting() -> None:
    """P6: the outer accumulator sees the inner one's tangents, not the other way round."""
    x = ng.asarray(2.0)
    with ng.ForwardAccumulator(x, ng.asarray(1.0)) as outer, ng.ForwardAccumulator(x, ng.asarray(1.0)) as inner:
        y = x * x * x
    assert numbers(outer.jvp(inner.jvp(y))) == 12.0
    assert inner.jvp(outer.jvp(y)) is None


def test_four_orders() -> None:
    """P6: x**3.5, and the third derivative of a function whose rule is transposed."""
    x, one = ng.asarray(1.3), ng.asarray(1.0)
    accumulators = [ng.ForwardAccumulator(x, one) for _ in range(4)]
    with accumulators[0], accumulators[1], accumulators[2], accumulators[3]:
        y = x**3.5
    factor = 1.0
    for order, accumulator in enumerate(reversed(accumulators)):
        y = accumulator.jvp(y)
        factor *= 3.5 - order
        assert_allclose(float(y), factor * 1.3 ** (2.5 - order))
    with accumulators[0], accumulators[1], accumulators[2]:
        z = ng.sum(ng.cumprod(ng.stack([x, x, x])))
    for accumulator in accumulators[2::-1]:
        z = accumulator.jvp(z)
    assert_allclose(float(z), 6.0)


@pytest.mark.parametrize("tape_outside", [True, False])
def test_hessian_vector_products(tape_outside: bool) -> None:
    """P6: forward over backward and backward over forward give the same product."""
    x, v = ng.asarray([1.0, 2.0, 3.0]), ng.asarray([1.0, -1.0, 0.5])

    def f(x: Any) -> Any:
        return ng.sum(ng.cumprod(x)) * ng.sum(x * x)

    if tape_outside:
        with ng.GradientTape() as tape:
            tape.watch(x)
            with ng.ForwardAccumulator(x, v) as accumulator:
                y = f(x)
            slope = accumulator.jvp(y)
        product = tape.gradient(slope, x)
    else:
        with ng.ForwardAccumulator(x, v) as accumulator:
            with ng.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            gradient = tape.gradient(y, x)
        product = accumulator.jvp(gradient)
    assert_allclose(product.numpy(), ng.hvp(f)(x.numpy(), v.numpy()))


def test_inner_tapes_ignore_the_tangents_of_accumulators_outside() -> None:
    """P6: whichever was made first, the tape that is entered later does not record the tangents."""
    x = ng.asarray(3.0)
    tape = ng.GradientTape()
    with ng.ForwardAccumulator(x, ng.asarray(1.0)) as accumulator, tape:
        tape.watch(x)
        y = x * x
        tangent = accumulator.jvp(y)
    assert tape.gradient(tangent, x) is None


def test_memory_follows_the_values() -> None:
    """P8: a tangent is released with its tensor."""
    x = ng.asarray(np.ones(10))
    gc.disable()
    try:
        with ng.ForwardAccumulator(x, ng.asarray(np.ones(10))) as accumulator:
            y = x * x
            tangent = weakref.ref(accumulator.jvp(y))
            assert tangent() is not None
            del y
            assert tangent() is None
            for _ in range(100):
                z = ng.sin(x)
        assert len(accumulator._tangents) == 2 and z.shape == (10,)
        held = weakref.ref(accumulator)
        del accumulator
        assert held() is None
    finally:
        gc.enable()


def test_errors_in_rules_surface() -> None:
    """P8: what a user's rule raises is not replaced, and the accumulator is left."""
    def rule(g: Any) -> Any:
        raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        pushed(ng.custom_gradient(lambda x: (x * 2.0, rule)), 1.0, 1.0)
    assert numbers(pushed(lambda x: x * x, 3.0, 1.0)) == 6.0


def test_empty_and_scalar_values() -> None:
    """P1: arrays without elements or axes."""
    assert pushed(ng.exp, np.zeros((0, 2)), np.zeros((0, 2))).shape == (0, 2)
    assert numbers(pushed(lambda x: ng.sum(x * x), [], [])) == 0.0

"""Functions with gradients of their own, functions that are run again, functions whose gradient passes through."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.autodiff import registry


@ng.custom_gradient
def log1pexp(x: Any) -> Any:
    """log(1 + exp(x)) with a gradient that does not overflow."""
    e = ng.exp(x)
    return ng.log(1 + e), lambda g: g * (1 - 1 / (1 + e))


@ng.custom_gradient
def tenfold(x: Any) -> Any:
    """x, with ten times its gradient."""
    return ng.exp(ng.log(x)), lambda g: 10.0 * g


def derivative_by_tape(f: Callable[..., Any], x: Any, order: int = 1) -> Any:
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = f(x) if order == 1 else derivative_by_tape(f, x, order - 1)
    return tape.gradient(y, x)


def sigmoid_derivatives(x: float) -> list[float]:
    s = 1 / (1 + np.exp(-x))
    return [s, s * (1 - s), s * (1 - s) * (1 - 2 * s)]


# -- N1: what is returned, and what the gradient function gets


def test_the_gradient_function_stands_in_for_the_derivative_in_a_graph() -> None:
    """N1"""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        y = log1pexp(x)
        (g,) = ng.gradients(y, x)
        compiled = ng.compile(x, [y, g])
    assert ng.run(g, {x: 100.0}) == 1.0  # the derivative of the body is nan there
    value, gradient = compiled(100.0)
    assert value == 100.0 and gradient == 1.0


@pytest.mark.parametrize("order", [1, 2, 3])
def test_higher_orders_differentiate_what_the_gradient_function_does(order: int) -> None:
    """N7, N1: in graphs, in transforms and under nested tapes alike."""
    want = sigmoid_derivatives(0.3)[order - 1]
    f: Any = log1pexp
    for _ in range(order):
        f = ng.grad(f)
    np.testing.assert_allclose(f(0.3), want, rtol=1e-12)
    np.testing.assert_allclose(derivative_by_tape(log1pexp, ng.asarray(0.3), order).numpy(), want, rtol=1e-12)
    with ng.Graph().as_default():
        x = y = ng.placeholder(ng.float64, ())
        y = log1pexp(x)
        for _ in range(order):
            (y,) = ng.gradients(y, x)
    np.testing.assert_allclose(ng.run(y, {x: 0.3}), want, rtol=1e-12)


def test_a_constant_gradient_has_no_second_derivative() -> None:
    """N7: a constant factor gives None."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        (g,) = ng.gradients(tenfold(x), x)
        assert ng.gradients(g, x) == [None]
    assert derivative_by_tape(tenfold, ng.asarray(2.0), 2) is None


@pytest.mark.parametrize("result", [3.0, (3.0,), (3.0, 4.0), None])
def test_a_function_that_returns_no_pair_is_a_type_error(result: Any) -> None:
    """N1"""
    with pytest.raises(TypeError, match=r"wanted a pair \(outputs, gradient function\).*test_custom_gradient"):
        ng.custom_gradient(lambda x: result)(1.0)


def test_unused_outputs_give_zeros_and_integer_outputs_give_none() -> None:
    """N1"""
    seen: list[Any] = []

    @ng.custom_gradient
    def several(x: Any) -> Any:
        def gradient(*cotangents: Any) -> Any:
            seen.extend(cotangents)
            return cotangents[0] + cotangents[1]

        return (2.0 * x, 3.0 * x, ng.cast(x, ng.int64)), gradient

    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        (g,) = ng.gradients(several(x)[0], x)
        np.testing.assert_array_equal(ng.run([g, seen[1]], {x: [1.0, 2.0]}), [[1.0, 1.0], [0.0, 0.0]])
    assert len(seen) == 3 and seen[2] is None


def test_none_among_the_gradients_is_no_path() -> None:
    """N1: None entries are allowed."""

    @ng.custom_gradient
    def product(x: Any, y: Any) -> Any:
        return x * y, lambda g: (g * y, None)

    with ng.Graph().as_default():
        x, y = (ng.placeholder(ng.float64, ()) for _ in range(2))
        dx, dy = ng.gradients(product(x, y), [x, y])
        assert dy is None and ng.run(dx, {x: 2.0, y: 5.0}) == 5.0


# -- N2, N3: what is checked


@pytest.mark.parametrize("build", ["graph", "tape", "transform"])
@pytest.mark.parametrize(
    "gradient,error,text",
    [
        (lambda g: g, ValueError, "expected to return 2 gradients, but returned 1"),
        (lambda g: (g, g, g), ValueError, "expected to return 2 gradients, but returned 3"),
        (lambda g: (ng.zeros((7,)), g), ValueError, r"input 0 has shape \(7,\), wanted"),
        (lambda g: (g, "text"), TypeError, "input 1"),
        (lambda g: (g, ng.cast(g, ng.complex128)), TypeError, "complex128, wanted float64"),
    ],
)
def test_wrong_gradients_are_errors_everywhere(build: str, gradient: Any, error: type[Exception], text: str) -> None:
    """N2, N3: counts, shapes and kinds are checked in graphs and on tapes."""
    wrong = ng.custom_gradient(lambda x, y: (x + y, gradient))
    with pytest.raises(error, match=text):
        if build == "graph":
            with ng.Graph().as_default():
                x, y = (ng.placeholder(ng.float64, (2,)) for _ in range(2))
                ng.gradients(wrong(x, y), [x, y])
        elif build == "tape":
            x, y = ng.asarray([1.0, 2.0]), ng.asarray([3.0, 4.0])
            with ng.GradientTape() as tape:
                tape.watch([x, y])
                z = wrong(x, y)
            tape.gradient(z, [x, y])
        else:
            ng.grad(lambda x, y: ng.sum(wrong(x, y)), argnums=(0, 1))(np.ones(2), np.ones(2))


def test_a_gradient_of_another_precision_is_cast() -> None:
    """N3"""
    wide = ng.custom_gradient(lambda x: (x * 2, lambda g: ng.cast(g, ng.float64)))
    gradient = ng.grad(lambda x: ng.sum(wide(x)))(np.ones(2, np.float32))
    assert gradient.dtype == np.float32


# -- N4: variables


def test_variables_that_the_body_reads_get_gradients() -> None:
    """N4"""
    w, b = ng.Variable(2.0, name="w"), ng.Variable(1.0, name="b")

    @ng.custom_gradient
    def affine(x: Any) -> Any:
        def gradient(g: Any, variables: Any = None) -> Any:
            assert variables == [w, b]  # in the order in which they were made
            return g * 10.0, [g * 100.0, g * 1000.0]

        return b + x * w, gradient

    x = ng.asarray(3.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = affine(x)
    assert [float(g) for g in tape.gradient(y, [x, w, b])] == [10.0, 100.0, 1000.0]
    assert set(tape.watched_variables()) == {w, b} and float(y) == 7.0
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ())
        assert [float(g) for g in ng.run(ng.gradients(affine(p), [p, w, b]), {p: 3.0})] == [10.0, 100.0, 1000.0]


def test_variables_need_a_gradient_function_that_takes_them() -> None:
    """N4: TypeError without the argument, ValueError for a wrong count."""
    w = ng.Variable(2.0, name="weight")
    with pytest.raises(TypeError, match=r"weight.*variables="):
        ng.custom_gradient(lambda x: (x * w, lambda g: g))(1.0)
    short = ng.custom_gradient(lambda x: (x * w, lambda g, **named: (g, [])))
    x = ng.asarray(1.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = short(x)
    with pytest.raises(ValueError, match="returned 0 variable gradients, wanted 1"):
        tape.gradient(y, x)


def test_variables_that_are_not_trainable_are_constants() -> None:
    """N4: trainable ones only."""
    w = ng.Variable(2.0, trainable=False)
    assert float(ng.custom_gradient(lambda x: (x * w, lambda g: g))(3.0)) == 6.0


# -- N5, N8: arguments


def test_arguments_by_keyword_count_in_their_position() -> None:
    """N5: in graphs, too; keyword-only arguments are settings without a gradient."""

    @ng.custom_gradient
    def scaled(x: Any, y: Any, *, factor: float = 1.0) -> Any:
        return x * y * factor, lambda g: (g * 100.0, g * 1000.0)

    with ng.Graph().as_default():
        x, y = (ng.placeholder(ng.float64, ()) for _ in range(2))
        z = scaled(y=y, x=x, factor=3.0)
        gradients = ng.gradients(z, [x, y])
        assert [float(v) for v in ng.run([z, *gradients], {x: 2.0, y: 5.0})] == [30.0, 100.0, 1000.0]
    with pytest.raises(TypeError, match="test_custom_gradient"):
        scaled(1.0, z=2.0)


def test_nests_go_in_and_out_and_gradients_come_back_in_them() -> None:
    """N8"""

    @ng.custom_gradient
    def layer(parameters: dict[str, Any], scale: Any) -> Any:
        def gradient(ga: Any, gb: Any) -> Any:
            return {"b": gb * 7.0, "w": ga * 5.0}, None

        return {"first": parameters["w"] * scale, "second": (parameters["b"],)}, gradient

    def loss(parameters: dict[str, Any]) -> Any:
        out = layer(parameters, 2.0)
        return ng.sum(out["first"]) + ng.sum(out["second"][0])

    gradient = ng.grad(loss)({"w": np.ones(2), "b": np.ones(3)})
    assert list(gradient) == ["w", "b"]
    np.testing.assert_array_equal(gradient["w"], [5.0, 5.0])
    np.testing.assert_array_equal(gradient["b"], [7.0, 7.0, 7.0])


class Model:
    """Has a decorated method."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @ng.custom_gradient
    def scaled(self, x: Any) -> Any:
        """x times the factor."""
        return x * self.factor, lambda g: g * 50.0


def test_methods_can_be_decorated() -> None:
    """N8"""
    model = Model(3.0)
    assert float(model.scaled(2.0)) == 6.0
    assert float(ng.grad(model.scaled)(2.0)) == 50.0
    assert model.scaled.__doc__ == "x times the factor."


def test_decoration_without_a_function_and_numpy_inputs() -> None:
    """N8: `custom_gradient()` returns a decorator; NumPy arrays are accepted."""

    @ng.custom_gradient()
    def doubled(x: Any) -> Any:
        return x * 2, lambda g: g * 2

    result = doubled(np.array([1.0, 2.0]))
    assert isinstance(result, ng.Tensor)
    np.testing.assert_array_equal(result.numpy(), [2.0, 4.0])
    assert doubled.__name__ == "doubled" and doubled.__wrapped__ is not doubled
    with pytest.raises(TypeError, match="wanted a function"):
        ng.custom_gradient(3)


def test_strings_and_other_objects_have_no_gradient_slot() -> None:
    """N8"""

    @ng.custom_gradient
    def chosen(x: Any, how: str, table: object, y: Any) -> Any:
        return (x + y if how == "sum" else x * y), lambda g: (g, g * 2.0)

    gradients = ng.grad(lambda x, y: chosen(x, "sum", object(), y), argnums=(0, 1))(1.0, 2.0)
    assert [float(g) for g in gradients] == [1.0, 2.0]


def test_errors_of_the_gradient_function_come_out_unchanged() -> None:
    """N8, P8"""

    class Peculiar(Exception):
        pass

    @ng.custom_gradient
    def failing(x: Any) -> Any:
        def gradient(g: Any) -> Any:
            raise Peculiar

        return x * 2, gradient

    assert float(failing(2.0)) == 4.0
    for derive in (ng.grad(failing), lambda x: ng.jvp(failing, (x,), (1.0,))):
        with pytest.raises(Peculiar):
            derive(1.0)


def test_one_decorated_function_pickles_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(log1pexp)) is log1pexp


# -- N6: outputs, and nothing left behind


def test_outputs_are_fresh_tensors() -> None:
    """N6"""
    same = ng.custom_gradient(lambda x: (x, lambda g: g * 3.0))
    x = ng.asarray(2.0)
    assert same(x) is not x
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ())
        y = same(p)
        assert y is not p
        assert ng.run(ng.gradients(y, p)[0], {p: 1.0}) == 3.0


def test_calls_leave_nothing_in_the_registry_and_are_collected() -> None:
    """N6, U8: no entry is left behind by a call."""
    before = len(registry._rules)

    class Token:
        pass

    def once() -> weakref.ref[Token]:
        token = Token()

        @ng.custom_gradient
        def f(x: Any) -> Any:
            return x * 2, lambda g, token=token: g

        x = ng.asarray(1.0)
        with ng.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        tape.gradient(y, x)
        return weakref.ref(token)

    dead = once()
    gc.collect()
    assert dead() is None
    assert len(registry._rules) == before


def test_outputs_of_several_graphs_are_an_error() -> None:
    """N6"""
    with ng.Graph().as_default():
        other = ng.placeholder(ng.float64, ())
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        with pytest.raises(ValueError, match="two different graphs"):
            ng.custom_gradient(lambda x: ((x, other), lambda *g: g[0]))(x)


def test_the_graph_of_the_arguments_is_used_whichever_is_the_default() -> None:
    """N6, A8"""
    with ng.Graph().as_default() as first:
        x = ng.placeholder(ng.float64, ())
    with ng.Graph().as_default() as second:
        y = log1pexp(x)
    assert y.graph is first and not second.operations


# -- N7: nesting, forward mode, everywhere


def test_an_inner_custom_gradient_overrides_the_second_order() -> None:
    """N7"""

    @ng.custom_gradient
    def outer(x: Any) -> Any:
        @ng.custom_gradient
        def first_derivative(x: Any) -> Any:
            return 3.0 * x**2, lambda g: g * 1000.0

        return x**3, lambda g: g * first_derivative(x)

    x = 2.0
    assert float(ng.grad(outer)(x)) == 12.0
    assert float(ng.grad(ng.grad(outer))(x)) == 1000.0
    assert float(derivative_by_tape(outer, ng.asarray(x), 2)) == 1000.0


def test_forward_mode_transposes_the_gradient_function() -> None:
    """N7, P5"""
    y, dy = ng.jvp(tenfold, (np.array([1.0, 2.0]),), (np.array([1.0, 3.0]),))
    np.testing.assert_allclose(y, [1.0, 2.0])
    np.testing.assert_allclose(dy, [10.0, 30.0])
    primal = ng.asarray(0.3)
    with ng.ForwardAccumulator(primal, ng.asarray(1.0)) as accumulator:
        value = log1pexp(primal)
    np.testing.assert_allclose(accumulator.jvp(value).numpy(), sigmoid_derivatives(0.3)[0])


def test_hvp_and_jacobians_go_through() -> None:
    """N7: forward over reverse, and batched rows."""
    x = np.array([0.3, 0.1])
    want = np.array([sigmoid_derivatives(v)[1] for v in x])

    def total(x: Any) -> Any:
        return ng.sum(log1pexp(x))

    np.testing.assert_allclose(ng.hvp(total)(x, np.ones(2)), want, rtol=1e-12)
    np.testing.assert_allclose(ng.hessian(total)(x), np.diag(want), rtol=1e-12)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(ng.jacobian(tenfold, mode=mode)(np.array([1.0, 2.0])), 10.0 * np.eye(2))


def test_compiled_functions_inline_and_keep_it() -> None:
    """N1, J10: inside a traced function, called from another one."""
    inner = ng.function(lambda x: tenfold(x) * 2.0)
    outer = ng.function(lambda x: ng.sum(inner(x)))
    x = np.array([1.0, 2.0])
    assert float(outer(x)) == pytest.approx(6.0)
    np.testing.assert_array_equal(ng.grad(outer)(x), [20.0, 20.0])


def test_it_works_in_the_bodies_of_loops_and_branches() -> None:
    """N1: a body is copied for its derivative; the gradient function follows."""
    x = 1.5

    def looped(x: Any) -> Any:
        return ng.fori_loop(0, 3, lambda i, c: tenfold(c) * 2.0, x)

    def scanned(x: Any) -> Any:
        carry, rows = ng.scan(lambda c, row: (tenfold(c) * row, c), x, ng.asarray([2.0, 2.0, 2.0]))
        return carry

    def branched(x: Any) -> Any:
        return ng.cond(x > 0.0, lambda: tenfold(x) * 8.0, lambda: x)

    for f, want in ((looped, 8000.0), (scanned, 8000.0), (branched, 80.0)):
        assert float(f(ng.asarray(x))) == pytest.approx(12.0)
        np.testing.assert_allclose(ng.grad(f)(x), want)
    curved = ng.grad(lambda x: ng.fori_loop(0, 1, lambda i, c: log1pexp(c), x))
    np.testing.assert_allclose(ng.grad(curved)(0.3), sigmoid_derivatives(0.3)[1], rtol=1e-12)


def test_vmap_batches_the_gradient_function() -> None:
    """N7: gradients within a batch and of a batch, to the second order."""
    x = np.linspace(-1.0, 1.0, 6).reshape(3, 2)
    derivatives = np.array([[sigmoid_derivatives(v)[:2] for v in row] for row in x])
    inside = ng.vmap(ng.grad(lambda row: ng.sum(log1pexp(row))))
    np.testing.assert_allclose(inside(x), derivatives[..., 0], rtol=1e-12)

    def outside(x: Any) -> Any:
        return ng.sum(ng.vmap(log1pexp)(x))

    np.testing.assert_allclose(ng.grad(outside)(x), derivatives[..., 0], rtol=1e-12)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.grad(outside)(x)))(x), derivatives[..., 1], rtol=1e-12)


def test_operations_of_the_body_are_hidden_from_derivatives() -> None:
    """N9: an operation without a derivative in the body is no error."""

    @ng.custom_gradient
    def rounded(x: Any) -> Any:
        y = ng.prevent_gradient(ng.round(x), "a table")
        return y * 1.0, lambda g: g

    assert float(ng.grad(rounded)(0.7)) == 1.0
    assert float(derivative_by_tape(rounded, ng.asarray(0.7))) == 1.0


# -- N10: recompute_grad


def wavy(x: Any) -> Any:
    return ng.sin(x) * x


def test_recomputation_has_the_same_derivatives() -> None:
    """N10: first and second order, both modes (observed upstream: -2.65089 at 2)."""
    again = ng.recompute_grad(wavy)
    assert again.__wrapped__ is wavy
    for f in (wavy, again):
        assert float(ng.grad(ng.grad(f))(2.0)) == pytest.approx(-2.65089, abs=1e-5)
    x = ng.asarray(2.0)
    assert float(derivative_by_tape(again, x)) == float(derivative_by_tape(wavy, x))
    assert float(derivative_by_tape(again, x, 2)) == pytest.approx(-2.65089, abs=1e-5)
    np.testing.assert_array_equal(ng.jvp(again, (2.0,), (1.0,)), ng.jvp(wavy, (2.0,), (1.0,)))
    ng.testing.check_gradients(lambda x: ng.sum(again(x)), (np.array([0.5, 2.0]),), order=2)


def test_each_gradient_runs_the_function_once_more() -> None:
    """N10: calls 1, then 2; nothing of the first run is recorded."""
    calls = []

    def counted(x: Any) -> Any:
        calls.append(x)
        return ng.sin(ng.sin(x))

    x = ng.asarray(1.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.recompute_grad(counted)(x)
    assert len(calls) == 1
    recording = tape._recording
    assert recording is not None and [op.type for op in recording.operations] == ["recompute_grad"]
    tape.gradient(y, x)
    assert len(calls) == 2


def test_compiled_programs_hold_less_memory() -> None:
    """N10: the compiled backward part computes again what it does not keep."""
    matrix = np.eye(64) * 0.5

    def block(x: Any) -> Any:
        return ng.tanh(ng.tanh(ng.tanh(x @ matrix) @ matrix) @ matrix)

    def deep(layer: Callable[..., Any]) -> Any:
        def loss(x: Any) -> Any:
            for _ in range(6):
                x = layer(x)
            return ng.sum(x)

        return ng.grad(loss)

    plain, again = deep(block), deep(ng.recompute_grad(block))
    x = np.random.default_rng(0).normal(size=(64, 64))
    np.testing.assert_allclose(again(x), plain(x), rtol=1e-12)
    assert again.plan()["arena_bytes"] < 0.6 * plain.plan()["arena_bytes"]


def test_recomputation_with_all_kinds_of_arguments() -> None:
    """N10: integers, empty arrays, the same argument twice, variables, unconnected arguments, nests."""
    w = ng.Variable(3.0)

    @ng.recompute_grad
    def f(pair: tuple[Any, Any], n: Any, unused: Any, *, power: int = 2) -> Any:
        return {"y": pair[0] * pair[1] ** power * w, "n": n + 1}

    x, n, unused = ng.asarray([2.0, 1.0]), ng.asarray([1, 2]), ng.asarray(5.0)
    with ng.GradientTape(persistent=True) as tape:
        tape.watch([x, unused])
        y = f((x, x), n, unused)
    gx, gw, gu = tape.gradient(y["y"], [x, w, unused])
    np.testing.assert_array_equal(gx.numpy(), 3 * 3.0 * x.numpy() ** 2)
    assert float(gw) == 9.0 and gu is None
    assert ng.grad(lambda x: ng.sum(ng.recompute_grad(ng.exp)(x)))(np.zeros((0, 2))).shape == (0, 2)
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, (2,))
        gradients = ng.gradients(f((p, p), n, unused)["y"], [p, w])
        np.testing.assert_array_equal(ng.run(gradients[0], {p: [2.0, 1.0]}), [36.0, 9.0])
        assert ng.run(gradients[1], {p: [2.0, 1.0]}) == 9.0


def test_recomputation_in_loops_batches_and_methods() -> None:
    """N10"""
    again = ng.recompute_grad(wavy)
    x = np.array([0.3, 0.7])
    want = np.sin(x) + x * np.cos(x)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.vmap(again)(x)))(x), want, rtol=1e-14)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.map(again, x)))(x), want, rtol=1e-14)


# -- N11, N12


def test_gradients_pass_through() -> None:
    """N11: forward f, backward the identity; variables inside get None."""
    straight = ng.grad_pass_through(ng.round)
    np.testing.assert_array_equal(ng.grad(lambda x: ng.sum(straight(x) * 3.0))(np.array([0.4, 1.7])), [3.0, 3.0])
    np.testing.assert_array_equal(ng.jvp(straight, (np.array([0.4]),), (np.array([5.0]),))[1], [5.0])
    w = ng.Variable(2.0)
    x = ng.asarray(3.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = ng.grad_pass_through(lambda x: x * w)(x)
    gx, gw = tape.gradient(y, [x, w])
    assert float(y) == 6.0 and float(gx) == 1.0 and gw is None


def test_passing_through_needs_outputs_like_the_arguments() -> None:
    """N11"""
    with pytest.raises(ValueError, match="expected to return 2 gradients, but returned 1"):
        ng.grad(ng.grad_pass_through(lambda x, y: x + y))(1.0, 2.0)


def test_stop_gradient_is_none_everywhere() -> None:
    """N12: graph, tape and forward mode."""
    with ng.Graph().as_default():
        p = ng.placeholder(ng.float64, ())
        assert ng.gradients(ng.stop_gradient(p), p) == [None]
    x = ng.asarray(2.0)
    assert derivative_by_tape(ng.stop_gradient, x) is None
    with ng.ForwardAccumulator(x, ng.asarray(1.0)) as accumulator:
        y = ng.stop_gradient(x)
    assert accumulator.jvp(y) is None

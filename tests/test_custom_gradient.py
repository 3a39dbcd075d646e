"""Functions with gradients of their own: what they give, get and return, variables, arguments, errors."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.autodiff import registry
from tests.custom_gradient_cases import derivative_by_tape, log1pexp, sigmoid_derivatives, tenfold

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

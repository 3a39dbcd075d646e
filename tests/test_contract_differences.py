"""Where numgrad differs from the gradient contract's upstream on purpose, and no other module tests it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import Operation
from numgrad.testing import GradientMismatch, check_gradients
from tests.contract import made_by, scalar, value, values


def power_loop(x: Any, n: Any, w: Any = None) -> Any:
    """``x ** (n + 1)``, by a loop that captures x, and w without use."""
    def body(i: Any, a: Any) -> Any:
        if w is not None:
            ng.exp(w)
        return i + 1, a * x

    return ng.while_loop(lambda i, a: i < n, body, (0, x))[1]


def facts(operations: list[Operation]) -> list[Any]:
    """What would tell that an operation was changed."""
    return [(op, op.record, op.inputs, op.outputs, op.control_inputs, [*op.attrs.values()]) for op in operations]


def test_gating_is_an_argument() -> None:
    """H7: no optimiser has gating constants; any truthy `gate_gradients` gates each operation."""
    assert not [name for name in (*dir(ng), *dir(ng.optimize)) if name.lower().startswith("gate")]
    with ng.Graph().as_default() as graph:
        x, y = scalar(), scalar()
        z = x * y
        counts = [sum(op.type == "identity" and "control_dependency" in op.name for op in
                      made_by(graph, lambda gate=gate: ng.gradients(z, [x, y], gate_gradients=gate))[1])
                  for gate in (False, 0, True, 1, 2)]
        assert counts == [0, 0, 2, 2, 2]


def test_one_kind_of_function_with_a_gradient() -> None:
    """J2: a traced function with a gradient of its own is a `custom_gradient`; it has every order."""
    @ng.custom_gradient
    def tripled(x: Any) -> Any:
        return x * x, lambda g: 3.0 * g * x

    f = ng.function(lambda x: tripled(x))
    assert float(f(2.0)) == 4.0
    assert float(ng.grad(f)(2.0)) == 6.0 and float(ng.grad(ng.grad(f))(2.0)) == 3.0
    assert "grad" not in " ".join(inspect.signature(ng.function).parameters)


@pytest.mark.parametrize("option", ["back_prop", "parallel_iterations", "swap_memory"])
def test_loops_take_no_hints(option: str) -> None:
    """K3, K5: these arguments are TypeErrors; `stop_gradient` on the result switches the derivative off."""
    with pytest.raises(TypeError, match=option):
        ng.while_loop(lambda x: x < 3.0, lambda x: x + 1.0, 1.0, **{option: 1})
    with ng.Graph().as_default():
        x = scalar()
        y = power_loop(x, 3)
        assert ng.gradients(ng.stop_gradient(y), x) == [None]
        assert values(ng.gradients(y, x), {x: 2.0}) == [32.0]


def test_gradients_of_loops_leave_the_forward_graph_alone() -> None:
    """K6, K7, S2: every operation is as it was; a second loop forwards saves rows, a third one goes back over them."""
    with ng.Graph().as_default() as graph:
        x, n = scalar(), scalar(np.int64)
        y = power_loop(x, n)
        before = facts(graph.operations)
        compiled = ng.compile([x, n], y)
        _, made = made_by(graph, lambda: ng.gradients(y, x))
        after = facts(graph.operations[:len(before)])
        assert all(a is b or all(i is j for i, j in zip(a, b, strict=True))
                   for left, right in zip(before, after, strict=True) for a, b in zip(left, right, strict=True))
        loops = [op for op in made if op.type == "scan"]
        assert [op.attrs["reverse"] for op in loops] == [False, True]
        assert set(loops[1].inputs) & set(loops[0].outputs), "the way back reads what the second loop saved"
        assert compiled(2.0, 3) == 16.0, "what was compiled before stays valid"


def test_captures_that_do_not_matter_have_no_path() -> None:
    """K8, F5: None for what a loop or branch captures without use; zeros on request."""
    with ng.Graph().as_default():
        x, w, p = scalar(), scalar(), scalar(bool)
        for y in (power_loop(x, 2, w), ng.cond(p, lambda: (ng.exp(w), x * x)[1], lambda: x)):
            assert ng.gradients(y, w) == [None]
            assert ng.gradients(y, [x, w])[1] is None
            assert values(ng.gradients(y, w, unconnected_gradients="zero"), {x: 2.0, w: 3.0, p: True}) == [0.0]


def test_backward_branches_compute_again_what_they_need() -> None:
    """K14: the backward branch holds the forward one's operations, and hands nothing over."""
    with ng.Graph().as_default() as graph:
        x, p = scalar(), scalar(bool)
        y = ng.cond(p, lambda: ng.sin(ng.exp(x)), lambda: x)
        forward = graph.operations[-1]
        (gradient,), made = made_by(graph, lambda: ng.gradients(y, x))
        (backward,) = [op for op in made if op.type == "switch"]
        taken = [op.type for op in backward.attrs["branches"][0].graph.operations]
        assert "exp" in taken and "cos" in taken
        assert len(forward.outputs) == 1 and not set(backward.inputs) & set(forward.outputs)
        assert value(gradient, {x: 0.3, p: True}) == pytest.approx(np.cos(np.exp(0.3)) * np.exp(0.3), rel=1e-15)
        assert value(gradient, {x: 0.3, p: False}) == 1.0


def test_gradient_loops_count_their_own_inputs() -> None:
    """K16, E8: the loop that goes back has inputs of its own number, and its rule is verified like any other."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        y = power_loop(x, 3)
        (first,), made = made_by(graph, lambda: ng.gradients(y, x))
        back = [op for op in made if op.type == "scan"][-1]
        assert len(back.inputs) != len(y.op.inputs)
        (second,) = ng.gradients(first, x)  # differentiates the gradient loop; counts and shapes are verified
        assert (value(first, {x: 2.0}), value(second, {x: 2.0})) == (32.0, 48.0)


@pytest.mark.parametrize("name", ["foo", "gradients", "", None, "gradients_foo/bar"])
def test_any_scope_for_gradients_of_arrays(name: str | None) -> None:
    """L2: calls are told apart by their operations, whatever they are named."""
    with ng.Graph().as_default():
        x = scalar()
        array = ng.TensorArray(ng.float64, 2, ()).write(0, x * x)
        ys = [array.read(0), 2.0 * array.read(0)]
        found = [ng.gradients(y, x, name=name)[0] for y in ys]
        assert values(found, {x: 3.0}) == [6.0, 12.0]


def test_elements_of_arrays_are_ys() -> None:
    """L3: an array is no tensor and no y; what is read or stacked from it is."""
    with ng.Graph().as_default():
        x = scalar()
        array = ng.TensorArray(ng.float64, 2, ()).write(0, x * x).write(1, 3.0 * x)
        with pytest.raises(TypeError):
            ng.gradients(array, x)
        assert values(ng.gradients(array.stack(), x), {x: 2.0}) == [7.0]
        assert values(ng.gradients([array.read(0)], x, grad_ys=[5.0]), {x: 2.0}) == [20.0]


def test_helpers_for_functions() -> None:
    """O26: `grad`, `value_and_grad` and `vjp` choose parameters by number, take nests, and refuse None."""
    def f(x: Any, w: Any) -> Any:
        return x * x * w

    assert float(ng.grad(f)(3.0, 2.0)) == 12.0
    both = ng.grad(f, (0, 1))(3.0, 2.0)
    assert [float(g) for g in both] == [12.0, 9.0]
    y, gradient = ng.value_and_grad(f, 1)(3.0, 2.0)
    assert (float(y), float(gradient)) == (18.0, 9.0)
    same = ng.asarray(3.0)
    assert [float(g) for g in ng.grad(lambda a, b: a + 2.0 * b, (0, 1))(same, same)] == [1.0, 2.0]  # two inputs
    value_, pull = ng.vjp(f, 3.0, 2.0)
    assert float(value_) == 18.0
    assert [float(g) for g in pull(2.0)] == [24.0, 18.0] and [float(g) for g in pull(1.0)] == [12.0, 9.0]
    for transform in (ng.grad, ng.value_and_grad):
        with pytest.raises(TypeError, match="wanted one scalar"):
            transform(lambda x: None)(1.0)
        with pytest.raises(TypeError):
            transform(f)(3.0, 2.0, w=1.0)


# -- the numerical checker


def test_the_checker_returns_a_report_or_raises() -> None:
    """Q1: both modes, by complex steps or extrapolated differences; a report, or an error with the worst element."""
    report = check_gradients(lambda x: ng.sum(ng.exp(x) * x), (np.array([0.5, -1.0]),))
    assert report.passed and {"forward", "reverse"} <= {c.what for c in report.comparisons}
    assert {c.method for c in report.comparisons if c.what in ("forward", "reverse")} <= {"complex step", "differences"}
    report = check_gradients(lambda x: ng.sum(ng.abs(x) * x), (np.array([0.5, -1.0]),))
    assert {c.method for c in report.comparisons if c.what == "reverse"} == {"differences"}

    @ng.custom_gradient
    def wrong(x: Any) -> Any:
        return x * x, lambda g: g * x * np.array([2.0, 2.5, 2.0])

    with pytest.raises(GradientMismatch, match=r"reverse, args\[0\]\[1\]: got -2.5, wanted -2 ") as caught:
        check_gradients(lambda x: ng.sum(wrong(x)), (np.array([0.5, -1.0, 2.0]),), order=1, modes=("reverse",))
    assert caught.value.report.worst.where == "args[0][1]" and not caught.value.report.passed
    for args in ([1.0], 1.0):
        with pytest.raises(TypeError, match="wanted a tuple"):
            check_gradients(lambda x: x, args)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no floating argument"):
        check_gradients(lambda i: i, (np.array([1, 2]),))


@pytest.mark.parametrize("f, columns", [
    (lambda z: (5 + 7j) * z, [[5.0, -7.0], [7.0, 5.0]]),
    (lambda z: ng.conj(z), [[1.0, 0.0], [0.0, -1.0]]),
], ids=["product", "conjugate"])
def test_complex_arguments_along_real_and_imaginary_directions(f: Callable[..., Any], columns: Any) -> None:
    """Q2: the derivatives by real and imaginary part, each named, with the values of the contract's matrices."""
    report = check_gradients(f, (1 + 2j,), order=1, modes=("forward",))
    found = {c.where: c.got for c in report.comparisons if c.what == "forward" and "part" in c.where}
    sums = np.sum(columns, axis=0)  # the first weights are ones: the sum of both parts of the result
    assert found["args[0] (real part)"] == pytest.approx(sums[0])
    assert found["args[0] (imaginary part)"] == pytest.approx(sums[1])
    for k, unit in enumerate((1.0, 1j)):
        pushed = complex(ng.jvp(f, (1 + 2j,), (unit,))[1])
        assert [pushed.real, pushed.imag] == [row[k] for row in columns]


def test_empty_results_pass_and_nan_never_does() -> None:
    """Q3: nothing to compare is no error, a gradient of the wrong empty shape is one, NaN fails."""
    for f, x in ((lambda x: x @ np.ones((0, 4)), np.ones((3, 0))), (lambda x: x @ np.ones((0, 4)), np.ones((0, 0))),
                 (lambda x: ng.exp(x) * x, np.ones((0, 3)))):
        report = check_gradients(f, (x,))
        assert report.passed and all(c.error == 0 for c in report.comparisons)

    @ng.custom_gradient
    def misshapen(x: Any) -> Any:
        return x * 1.0, lambda g: ng.zeros((0, 7))

    with pytest.raises(ValueError, match="shape"):
        check_gradients(misshapen, (np.zeros((0, 3)),))

    @ng.custom_gradient
    def undefined(x: Any) -> Any:
        return x * 1.0, lambda g: g * np.nan

    with pytest.raises(GradientMismatch, match="got nan"):
        check_gradients(lambda x: ng.sum(undefined(x)), (np.ones(2),), order=1)

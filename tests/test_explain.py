"""Explanations of gradients, and the search for the operation at which a NaN arises."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng

POINT = np.array([0.5, 1.5])


def kinds(report: ng.Explanation) -> list[tuple[str, str]]:
    return [(cut.kind, cut.type) for cut in report.cuts]


@pytest.mark.parametrize(
    "f,status,cuts",
    [
        (lambda x: ng.sum(ng.floor(x)), "none", [("none", "floor")]),
        (lambda x: ng.sum(ng.cast(ng.cast(x, ng.int64), ng.float64)), "none", [("none", "cast")]),
        (lambda x: ng.sum(ng.stop_gradient(x)), "none", [("none", "stop_gradient")]),
        (lambda x: ng.argmax(x), "none", [("none", "argmax")]),
        (lambda x: ng.sum(ng.sign(x)), "zero", [("zero", "sign")]),
        (lambda x: ng.sum(0.0 * x), "zero", [("zero", "multiply")]),
        (lambda x: ng.sum(ng.where(x > 5.0, x, 0.0)), "zero", [("none", "greater"), ("zero", "where")]),
        (lambda x: ng.sum(ng.prevent_gradient(x, "a table")), "undefined", [("undefined", "prevent_gradient")]),
        (lambda x: ng.sum(ng.py_function(np.sort, x, x)), "undefined", [("undefined", "py_function")]),
        (lambda x: ng.sum(x * ng.stop_gradient(x)), "value", [("none", "stop_gradient")]),
        (lambda x: ng.sum(ng.exp(x)), "value", []),
        (lambda x: 3.0, "none", []),
    ],
)
def test_status_and_cuts(f: Callable[..., Any], status: str, cuts: list[tuple[str, str]]) -> None:
    """D2, D7, E12, N12: None, zero and errors are told apart, with the operation that decides."""
    report = ng.explain_gradient(f, POINT)
    assert report.status == status
    assert kinds(report) == cuts


def test_a_status_agrees_with_the_gradient_itself() -> None:
    """F5: None stands for no path and nothing else."""
    for f in (ng.floor, ng.sign, ng.exp, ng.stop_gradient, lambda x: 0.0 * x):
        with ng.Graph().as_default():
            x = ng.placeholder(ng.float64, (2,))
            y = f(x)
            report = ng.explain_gradient(y, x, {x: POINT})
            (gradient,) = ng.gradients(y, x)
        assert (gradient is None) == (report.status == "none")
        if gradient is not None:
            value = ng.run(gradient, {x: POINT})
            np.testing.assert_array_equal(report.gradient, value)
            assert (not value.any()) == (report.status == "zero")


def test_an_integer_x_is_the_cut() -> None:
    """D2: integers are constants."""
    report = ng.explain_gradient(lambda n: n * 2, np.array([1, 2]))
    assert report.status == "none"
    assert "x is int64" in report.cuts[0].reason


def test_paths_are_counted_and_every_cut_is_listed() -> None:
    report = ng.explain_gradient(lambda x: ng.sum(ng.floor(x) + ng.stop_gradient(x) + ng.round(x)), POINT)
    assert report.paths == 3
    assert sorted(type_ for _, type_ in kinds(report)) == ["floor", "round", "stop_gradient"]


def test_the_number_of_paths_can_be_astronomic() -> None:
    def deep(x: Any) -> Any:
        for _ in range(100):
            x = x + x
        return x

    assert ng.explain_gradient(deep, np.array(1.0)).paths == 2**100


def test_a_nan_of_the_backward_part_is_traced_to_its_operation_and_line() -> None:
    def root(x: Any) -> Any:
        return ng.sum(ng.sqrt(x) * 0.0)  # 0 times infinity at 0

    line = inspect.getsourcelines(root)[1] + 1
    report = ng.explain_gradient(root, np.array([0.0, 1.0]))
    assert report.status == "nan"
    (cut,) = [cut for cut in report.cuts if cut.kind == "nan"]
    assert cut.type == "sqrt" and cut.where is not None and cut.where.line == line
    assert "backward" in cut.reason and f"test_explain.py:{line}" in str(report)


def test_a_nan_of_the_forward_part_is_traced() -> None:
    report = ng.explain_gradient(lambda x: ng.sum(ng.exp(ng.log(x))), np.array([-1.0, 1.0]))
    assert ("nan", "log") in kinds(report)
    assert "nan" in str(report) and "NaN arises at" in str(report)


def test_the_graph_is_left_as_it_was() -> None:
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, ("n",), name="x")
        y = ng.sum(ng.exp(x) / x)
        names, count = [op.name for op in graph.operations], len(graph.sizes.guards)
        report = ng.explain_gradient(y, x)
        assert report.status == "connected" and report.gradient is None
        assert [op.name for op in graph.operations] == names and len(graph.sizes.guards) == count
        z = ng.exp(x)
    assert z.op is not None and z.op.name == "exp_1"


def test_an_unrelated_tensor_and_wrong_arguments() -> None:
    with ng.Graph().as_default():
        x, y = (ng.placeholder(ng.float64, ()) for _ in range(2))
        report = ng.explain_gradient(y, x)
    assert report.status == "none" and report.paths == 0 and "does not depend" in str(report)
    with pytest.raises(ng.errors.GraphError, match="nodes of one graph"):
        ng.explain_gradient(ng.asarray(1.0), ng.asarray(1.0))


def test_a_tensor_that_is_x_itself() -> None:
    """A7: a y that is x has the gradient 1."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        report = ng.explain_gradient(x, x, {x: 2.0})
    assert report.status == "value" and report.gradient == 1.0


def test_a_custom_gradient_that_returns_none_is_named() -> None:
    @ng.custom_gradient
    def opaque(x: Any) -> Any:
        return ng.exp(x), lambda g: None

    report = ng.explain_gradient(lambda x: ng.sum(opaque(x)), POINT)
    assert report.status == "none"
    assert ("none", "custom_gradient") in kinds(report)


# -- debug_nans


def logs(x: Any) -> Any:
    return ng.sum(ng.log(x))


LOG_LINE = inspect.getsourcelines(logs)[1] + 1
BAD = np.array([1.0, -1.0])


def test_compiled_functions_name_the_operation_the_operands_and_the_line() -> None:
    f = ng.function(logs)
    f(np.ones(2))
    assert np.isnan(f(BAD))  # the native call that served last must not be taken within debug_nans
    with ng.debug_nans():
        with pytest.raises(ng.errors.NotANumberError) as caught:
            f(BAD)
        assert f(np.ones(2)) == 0.0
    text = str(caught.value)
    assert "log" in text and "forward" in text and f"test_explain.py:{LOG_LINE}" in text
    assert "operand 0: float64(2,): -1.0 to 1.0" in text and "1 nan" in text
    assert np.isnan(f(BAD))


def test_the_backward_part_is_told_from_the_forward_part() -> None:
    def f(x: Any) -> Any:
        return ng.sum(ng.sqrt(x) * 0.0)

    gradient = ng.grad(f)
    assert np.isnan(gradient(np.array([0.0, 1.0]))[0])
    with ng.debug_nans(), pytest.raises(FloatingPointError, match=r"in the backward part of 'sqrt'"):
        gradient(np.array([0.0, 1.0]))


def test_graphs_compiled_programs_and_bound_ones() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        y = logs(x)
        compiled = ng.compile(x, y)
    step = compiled.bind(BAD)
    for call in (lambda: ng.run(y, {x: BAD}), lambda: compiled(BAD), step):
        call()
        with ng.debug_nans(), pytest.raises(FloatingPointError, match=rf"log .*\n?.*test_explain.py:{LOG_LINE}"):
            call()


def test_eager_operations_are_looked_at_one_by_one() -> None:
    x = ng.asarray(BAD)
    with ng.debug_nans():
        assert ng.exp(x).numpy().all()
        with pytest.raises(FloatingPointError, match=r"log gave NaN in the forward part .*test_explain"):
            ng.where(x > 0.0, ng.log(x), 0.0)
    assert np.isnan(ng.log(x).numpy()).any()


def test_a_masked_nan_and_a_nan_in_the_arguments_pass() -> None:
    f = ng.function(lambda x: ng.sum(ng.where(x > 0.0, ng.log(x), 0.0)))
    with ng.debug_nans():
        assert f(BAD) == 0.0
        assert np.isnan(ng.function(logs)(np.array([np.nan, 1.0])))
        assert np.isnan((ng.asarray([np.nan]) + 1.0).numpy()).all()


def test_leaving_the_block_by_an_error_restores_what_was() -> None:
    with pytest.raises(ZeroDivisionError), ng.debug_nans():
        raise ZeroDivisionError
    assert np.isnan(ng.log(ng.asarray(-1.0)).numpy())


# -- sums


@pytest.mark.parametrize("method, name, reason", [
    (None, "ADD_N", "by default"), (ng.AggregationMethod.TREE, "TREE", "asked for"),
    (ng.AggregationMethod.EXPERIMENTAL_ACCUMULATE_N, "ACCUMULATE", "asked for"),
    (ng.AggregationMethod.AUTO, "ADD_N", "no more than 16 terms are one pass")])
def test_how_terms_are_summed(method: Any, name: str, reason: str) -> None:
    """G1, G4: every place where terms meet, with the strategy that the gradient builder takes, and why."""
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, ("n",), name="x")
        middle = ng.sin(x)
        y = ng.sum(middle * ng.exp(middle) + middle * x)
        report = ng.explain_gradient(y, x, aggregation_method=method)
        assert [(s.tensor, s.terms, s.method, s.reason) for s in report.sums] == [
            (middle.name, 3, name, reason), ("x:0", 2, name, reason)]
        assert f"{middle.name}: 3 by {name} ({reason}) (" in str(report) and "test_explain.py" in str(report)
        before = len(graph.operations)
        ng.gradients(y, x, aggregation_method=method)
        made = [op.name for op in graph.operations[before:]]
        assert any({"ADD_N": "add_n", "TREE": "_sum/tree", "ACCUMULATE": "_sum/accumulate"}[name] in n for n in made)
    with pytest.raises(ValueError, match="aggregation_method"):
        ng.explain_gradient(y, x, aggregation_method="TREE")


def test_automatic_sums_say_why() -> None:
    """G1: memory and rounding are the reasons for other ways than one pass."""
    def report(terms: int, size: int) -> Any:
        return ng.explain_gradient(lambda x: ng.sum(ng.add_n([x * (1.0 + k) for k in range(terms)])), np.ones(size),
                                   aggregation_method=ng.AggregationMethod.AUTO).sums[0]

    assert (report(20, 100_000).method, report(20, 100_000).reason) == (
        "ACCUMULATE", "20 terms of 800000 bytes would be alive together")
    assert (report(100, 10).method, report(100, 10).reason) == (
        "TREE", "rounding grows with the logarithm of 100 terms")
    assert (report(20, 1).method, report(20, 1).reason) == ("ADD_N", "20 numbers are one pass")
    assert not ng.explain_gradient(lambda x: ng.sum(ng.sin(x)), np.ones(3)).sums

"""What `ng.function` refuses, and how it says so: traced values used as Python values, arguments, kept values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.errors import DtypeError, GraphError, ShapeError


def test_traced_values_used_as_python_values() -> None:
    x = np.ones(3)
    cases = [
        (lambda x: x if np.sum(x) > 0 else -x, DtypeError, "truth value of a traced value.*ng.where or ng.cond"),
        (lambda x: x * int(x[0]), DtypeError, r"int\(\) of a traced value.*ng.cast"),
        (lambda x: x * float(x[0]), DtypeError, r"float\(\) of a traced value"),
        (lambda x: list(range(x[0])), DtypeError, "an index or a count of a traced value|cannot be interpreted"),
        (lambda x: np.asarray(x), DtypeError, "a NumPy array of a traced value"),
        (lambda x: ng.sum(x).numpy(), GraphError, "has no value"),
        (lambda x: "text", DtypeError, "returned a str .'text'.; wanted tensors, arrays"),
        (lambda x: {"f": np.sin}, DtypeError, "returned a ufunc"),
    ]
    for f, error, text in cases:
        with pytest.raises(error, match=f"{text}.*test_function_errors.py" if error is DtypeError else text):
            ng.function(f)(x)


def test_arguments_that_are_refused() -> None:
    f = ng.function(lambda x: x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix([[1.0]])
    refused = [
        (matrix, DtypeError, r"argument x: a matrix follows rules of its own.*np.asarray"),
        (np.ma.masked_array([1.0], [True]), DtypeError, "a MaskedArray follows rules of its own.*weight"),
        (np.array([1, None]), DtypeError, "an array of Python objects"),
        (np.array(["a"]), DtypeError, r"argument x: data type <U1 is not supported"),
        (np.array(["2020"], "datetime64[Y]"), DtypeError, "is not supported"),
        (np.zeros(1, [("a", "f8")]), DtypeError, "is not supported"),
        ([[1.0], [2.0, 3.0]], ShapeError, "rows differ in length"),
        (bytearray(3), TypeError, "neither an array nor hashable"),
        ({1, 2}, TypeError, "a set is neither an array nor hashable"),
    ]
    for given, error, text in refused:
        with pytest.raises(error, match=text):
            f(given)
    with pytest.raises(DtypeError, match=r"argument x\['deep'\]\[1\]: an array of Python objects"):
        f({"deep": [np.ones(2), np.array([None])]})
    with pytest.raises(TypeError, match="wanted a callable"):
        ng.function(3)


def test_values_kept_from_one_trace_to_the_next_are_refused() -> None:
    kept: list[Any] = []

    @ng.function
    def f(x: Any) -> Any:
        kept.append(x)
        return kept[0]

    f(np.ones(2))
    with pytest.raises(GraphError, match="a tensor of another graph; traced values must not be kept"):
        f(np.ones((2, 2)))


def test_an_error_in_the_function_leaves_it_usable() -> None:
    fail = [True]

    @ng.function
    def f(x: Any) -> Any:
        if fail:
            raise RuntimeError("mine")
        return x * 2

    with pytest.raises(RuntimeError, match="mine"):
        f(np.ones(2))
    fail.clear()
    np.testing.assert_array_equal(f(np.ones(2)), [2.0, 2.0])
    assert ng.graph.core.current_graph() is None

"""Branches for traced programs: `cond`, `case`, `switch_case`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.unknown import rooms_of_switch
from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.body import Body, trace_body
from numgrad.graph.core import Tensor, apply, apply_all, as_tensor
from numgrad.nest import Structure, flatten, unflatten
from numgrad.ops.kinds import as_node, cast_to
from numgrad.tracing.variables import graph_for, same_nest
from numgrad.types import same_shape

__all__ = ["case", "cond", "switch_case"]


def cond(predicate: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """``true_fn()`` if the predicate holds, else ``false_fn()``; only one of them runs.

    Parameters
    ----------
    predicate : scalar bool
    true_fn, false_fn : callable
        Take nothing (they read what they need); return the same nest with the same dtypes and shapes.

    Returns
    -------
    nest of tensors

    Raises
    ------
    TypeError, ShapeError
        The branches differ in nest, dtypes or shapes; the predicate is no scalar bool.

    Examples
    --------
    >>> import numgrad as ng
    >>> f = ng.grad(lambda x: ng.cond(x > 0.0, lambda: ng.log(x), lambda: -x))
    >>> float(f(2.0)), float(f(-3.0))
    (0.5, -1.0)
    """
    if isinstance(predicate, (bool, np.bool_)):
        return true_fn() if predicate else false_fn()
    test = as_tensor(predicate)
    if test.dtype != bool or test.shape:
        raise DtypeError(f"cond: the predicate is {test.spec}, wanted a scalar bool{at(user_line())}")
    return _switch(apply("cast", apply("logical_not", test), dtype=np.dtype(np.int64)), [true_fn, false_fn], "cond")


def switch_case(index: Any, branches: Sequence[Callable[[], Any]], default: Callable[[], Any] | None = None) -> Any:
    """The branch with a given number; only that one runs.

    Parameters
    ----------
    index : scalar integer
    branches : sequence of callables
        Take nothing; return the same nest with the same dtypes and shapes.
    default : callable, optional
        For an index out of range; without it the last branch.

    Returns
    -------
    nest of tensors

    Raises
    ------
    TypeError, ShapeError
        The branches differ, or the index is no scalar integer.

    Examples
    --------
    >>> import numgrad as ng
    >>> x = ng.asarray(3.0)
    >>> float(ng.switch_case(1, [lambda: x, lambda: x * x]))
    9.0
    """
    chosen = as_tensor(index)
    if chosen.dtype.kind not in "iu" or chosen.shape:
        raise DtypeError(f"switch_case: the index is {chosen.spec}, wanted a scalar integer{at(user_line())}")
    if not branches:
        raise TypeError(f"switch_case: there are no branches{at(user_line())}")
    every = [*branches, *([default] if default is not None else [])]
    return _switch(cast_to(chosen, np.int64), every, "switch_case")


def case(pairs: Sequence[tuple[Any, Callable[[], Any]]], default: Callable[[], Any] | None = None) -> Any:
    """The branch of the first predicate that holds.

    Parameters
    ----------
    pairs : sequence of (scalar bool, callable)
    default : callable, optional
        When none holds; without it the last branch.

    Returns
    -------
    nest of tensors

    Raises
    ------
    TypeError, ShapeError
        As `cond`.

    Examples
    --------
    >>> import numgrad as ng
    >>> x = ng.asarray(2.0)
    >>> float(ng.case([(x > 3.0, lambda: x), (x > 1.0, lambda: -x)], default=lambda: 0.0 * x))
    -2.0
    """
    if not pairs:
        raise TypeError(f"case: there are no branches{at(user_line())}")
    index = as_tensor(np.int64(len(pairs) - (default is None)))
    for k, (predicate, _) in reversed(list(enumerate(pairs))):
        index = apply("where", as_tensor(predicate), as_tensor(np.int64(k)), index)
    every = [function for _, function in pairs] + ([default] if default is not None else [])
    return _switch(index, every, "case")


def _switch(index: Tensor, functions: Sequence[Callable[[], Any]], what: str) -> Any:
    graph = graph_for([index])
    if graph is None:
        k = int(index)
        return functions[k if 0 <= k < len(functions) else len(functions) - 1]()
    nests: list[Structure] = []

    def run(function: Callable[[], Any]) -> list[Tensor]:
        leaves, nest = flatten(function())
        nests.append(nest)
        return [as_tensor(leaf) for leaf in leaves]

    with graph.as_default():
        traced = [trace_body(graph, (), lambda function=function: run(function)) for function in functions]
        for (_, _, outputs), nest in zip(traced, nests, strict=True):
            same_nest(nest, nests[0], what)
            for k, (mine, first) in enumerate(zip(outputs, traced[0][2], strict=True)):
                if mine.dtype != first.dtype or not same_shape(mine.spec.shape, first.spec.shape):
                    raise ShapeError(f"{what}: result {k} is {first.spec} in the first branch, {mine.spec} in another; "
                                     f"all branches must agree{at(user_line())}")
        outer = list(dict.fromkeys(t for inner, _, _ in traced for t in inner.reached))
        branches = tuple(Body(inner, [inner.capture(t) for t in outer], outputs) for inner, _, outputs in traced)
        rooms_of_switch(graph, as_node(graph, index), outer, branches)
        found = apply_all("switch", as_node(graph, index), *outer, branches=branches)
    return unflatten(nests[0], found)

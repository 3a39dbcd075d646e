"""Loops for traced programs: `while_loop`, `fori_loop`, `scan`, `map`, `fold`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.control import closed
from numgrad.autodiff.unknown import rooms_of_scan
from numgrad.errors import DtypeError, GradientError, ShapeError, at, user_line
from numgrad.graph.body import Body, trace_body
from numgrad.graph.core import Tensor, apply, apply_all, as_tensor
from numgrad.nest import Structure, flatten, unflatten
from numgrad.ops.checkpoints import check_strategy
from numgrad.ops.kinds import as_node
from numgrad.tracing.variables import declared, graph_for, like_variables, same_nest
from numgrad.types import Dim, Size, Spec, require_equal

__all__ = ["fold", "fori_loop", "map", "scan", "while_loop"]


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, length: Dim | None = None,
         reverse: bool = False, checkpoint: Any = "all") -> tuple[Any, Any]:
    """Run ``carry, y = f(carry, x)`` over the leading axis of `xs`.

    Parameters
    ----------
    f : callable
        ``f(carry, x) -> (carry, y)``; the carry keeps its nest, dtypes and shapes.
    init : nest of tensors
        The first carry.
    xs : nest of tensors or None
        Arrays with one leading axis of equal size; f gets their rows.
    length : int, optional
        The number of steps, when `xs` is None.
    reverse : bool
        Go from the last row to the first; y's are stacked in xs' order all the same.
    checkpoint : "all", "sqrt", "revolve" or int
        How many carries reverse mode keeps: all of them; about the square root of twice the number of steps, so that
        each step runs at most twice more; about its binary logarithm; or what fits into so many bytes. What is not
        kept is computed again, by the binomial schedule. Eager loops on tapes keep everything.

    Returns
    -------
    (carry, ys)
        The last carry, and the y's stacked along a new leading axis.

    Raises
    ------
    TypeError, ShapeError
        The carry changes its nest, dtype or shape; sizes differ; neither xs nor length is given.
    ValueError
        No such checkpoint strategy.

    Notes
    -----
    The derivative keeps the carries of all steps and recomputes the rest of each step: memory O(length x carry). With
    `checkpoint` it keeps fewer: Griewank & Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000).

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> total, partial = ng.scan(lambda s, x: (s + x, s + x), 0.0, np.array([1.0, 2.0, 3.0]))
    >>> float(total), partial
    (6.0, ng.asarray([1., 3., 6.], dtype=float64))
    """
    checkpoint = check_strategy(checkpoint, "scan")
    carry_leaves, carry_nest = flatten(init)
    row_leaves, row_nest = flatten(xs)
    carry, rows = [as_tensor(v) for v in carry_leaves], [as_tensor(v) for v in row_leaves]
    if any(not r.shape for r in rows):
        raise ShapeError(f"scan: xs must have a leading axis, got a scalar{at(user_line())}")
    count = rows[0].shape[0] if rows else length
    if count is None:
        raise TypeError(f"scan: give xs or a length{at(user_line())}")
    for r in rows[1:]:
        count = require_equal(count, r.shape[0], lambda: "scan: the leading axes of xs differ in size")
    if rows and length is not None:
        count = require_equal(count, length, lambda: f"scan: xs have {count} rows, but length is {length}")

    shapes = declared(init, None, "scan")

    def step(values: Sequence[Tensor], row: Sequence[Tensor]) -> tuple[list[Tensor], list[Any], Structure]:
        result = f(unflatten(carry_nest, values), unflatten(row_nest, row))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"scan: the body must return (carry, y){at(user_line())}")
        new, new_nest = flatten(result[0])
        same_nest(new_nest, carry_nest, "scan")
        ys, y_nest = flatten(result[1])
        return like_variables(new, values, shapes, "scan"), ys, y_nest

    graph = graph_for([*carry, *rows])
    if graph is None:
        return _eager_scan(step, carry, carry_nest, rows, int(count), reverse)
    nests: list[Structure] = []

    def body(*values: Tensor) -> list[Tensor]:
        new, ys, y_nest = step(values[:len(carry)], values[len(carry):])
        nests.append(y_nest)
        return [*new, *(as_tensor(y) for y in ys)]

    with graph.as_default():
        specs = [t.spec for t in carry] + [Spec(r.dtype, r.spec.shape[1:]) for r in rows]
        inner, inputs, outputs = trace_body(graph, specs, body)
        closed_body, outer = closed(inner, inputs, outputs)
        given = [as_node(graph, t) for t in (*carry, *rows)]
        rooms_of_scan(graph, closed_body, len(carry), given[len(carry):], outer, length=count, reverse=reverse)
        found = apply_all("scan", *given, *outer, body=closed_body, carries=len(carry), rows=len(rows), length=count,
                          reverse=reverse, extends=None, checkpoint=checkpoint)
    return unflatten(carry_nest, found[:len(carry)]), unflatten(nests[-1], found[len(carry):])


def _eager_scan(step: Any, carry: list[Tensor], carry_nest: Structure, rows: Sequence[Tensor], count: int,
                reverse: bool) -> tuple[Any, Any]:
    stacked: list[list[Tensor]] = []
    y_nest: Structure | None = None
    for i in reversed(range(count)) if reverse else range(count):
        carry, ys, y_nest = step(carry, [r[i] for r in rows])
        stacked.append([as_tensor(y) for y in ys])
    if y_nest is None:
        raise ShapeError(f"scan: no rows, so the shapes of the y's are not known outside a trace{at(user_line())}")
    if reverse:
        stacked.reverse()
    columns = [apply("stack", *column, axis=0) for column in zip(*stacked, strict=True)]
    return unflatten(carry_nest, carry), unflatten(y_nest, columns)


def while_loop(cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any,
               maximum_iterations: int | None = None, shape_invariants: Any = None, checkpoint: Any = "all") -> Any:
    """Run ``loop_vars = body(*loop_vars)`` for as long as ``cond(*loop_vars)``.

    Parameters
    ----------
    cond : callable
        Takes the loop variables, returns a scalar bool.
    body : callable
        Takes the loop variables, returns as many of the same dtypes and shapes.
    loop_vars : tuple, list or a single nest
        Their first values.
    maximum_iterations : int, optional
        Stop after so many trips in any case.
    shape_invariants : nest, optional
        In the nest of `loop_vars`, for each variable the shape that it keeps, with None for a size that may change;
        None for a variable that keeps its shape. Only outside traces can shapes change: a traced loop writes what grows
        into a `TensorArray` or a `TensorList` with room for all.
    checkpoint : "all", "sqrt", "revolve" or int
        How many states reverse mode keeps, as for `scan`.

    Returns
    -------
    nest
        The loop variables when the condition fails, in the nest of `loop_vars`.

    Raises
    ------
    TypeError, ShapeError
        A variable changes its dtype, or its shape where that is not declared (in a trace, at all); the condition is no
        scalar bool.
    ValueError
        No such checkpoint strategy.

    Notes
    -----
    Reverse mode counts the trips first, then runs them again keeping the variables: memory O(trips), or less with
    `checkpoint`.

    Examples
    --------
    >>> import numgrad as ng
    >>> i, x = ng.while_loop(lambda i, x: x < 100.0, lambda i, x: (i + 1, x * 2.0), (0, 1.0))
    >>> int(i), float(x)
    (7, 128.0)
    """
    checkpoint = check_strategy(checkpoint, "while_loop")
    sequence = isinstance(loop_vars, (tuple, list))
    leaves, nest = flatten(loop_vars)
    variables = [as_tensor(v) for v in leaves]
    shapes = declared(loop_vars, shape_invariants, "while_loop")

    def call(function: Callable[..., Any], values: Sequence[Tensor]) -> Any:
        given = unflatten(nest, values)
        return function(*given) if sequence else function(given)

    def test(*values: Tensor) -> list[Tensor]:
        answer = as_tensor(call(cond, values))
        if answer.dtype != bool or answer.shape:
            raise DtypeError(f"while_loop: the condition returned {answer.spec}, wanted a scalar bool{at(user_line())}")
        return [answer]

    def step(*values: Tensor) -> list[Tensor]:
        result = call(body, values)
        if sequence and not isinstance(result, (tuple, list)):
            result = (result,)
        new, new_nest = flatten(type(loop_vars)(result) if sequence else result)
        same_nest(new_nest, nest, "while_loop")
        return like_variables(new, variables, shapes, "while_loop")

    graph = graph_for(variables)
    if graph is None:
        trips = 0
        while (maximum_iterations is None or trips < maximum_iterations) and bool(test(*variables)[0]):
            variables = step(*variables)
            trips += 1
        return unflatten(nest, variables)
    with graph.as_default():
        specs = [t.spec for t in variables]
        traced = [trace_body(graph, specs, function) for function in (test, step)]
        if any(inner.rooms for inner, _, _ in traced):
            raise GradientError(f"while_loop: a derivative inside of it goes back through another loop of unknown "
                                f"length{at(user_line())}; use ng.scan or ng.fori_loop for one, or forward mode")
        outer = list(dict.fromkeys(t for inner, _, _ in traced for t in inner.reached))
        bodies = [Body(inner, [*inputs, *(inner.capture(t) for t in outer)], outputs)
                  for inner, inputs, outputs in traced]
        found = apply_all("while_loop", *(as_node(graph, t) for t in variables), *outer, cond=bodies[0], body=bodies[1],
                          carries=len(variables), maximum=maximum_iterations, checkpoint=checkpoint)
    return unflatten(nest, found)


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any, checkpoint: Any = "all") -> Any:
    """Run ``value = body(i, value)`` for i from `lower` to `upper` - 1.

    Parameters
    ----------
    lower, upper : int, size or integer tensor
    body : callable
        ``body(i, value) -> value``; the value keeps its nest, dtypes and shapes.
    init : nest of tensors
    checkpoint : "all", "sqrt", "revolve" or int
        How many values reverse mode keeps, as for `scan`.

    Returns
    -------
    nest
        The last value; `init` when there is nothing to do.

    Raises
    ------
    TypeError, ShapeError
        The value changes its nest, dtype or shape.
    ValueError
        No such checkpoint strategy.

    Examples
    --------
    >>> import numgrad as ng
    >>> float(ng.fori_loop(0, 4, lambda i, x: x * 2.0, 1.0))
    16.0
    """
    checkpoint = check_strategy(checkpoint, "fori_loop")
    if all(isinstance(bound, (int, np.integer, Size)) for bound in (lower, upper)):
        steps = upper - lower
        if isinstance(steps, (int, np.integer)) and steps <= 0:
            leaves, nest = flatten(init)
            return unflatten(nest, [as_tensor(v) for v in leaves])
        (_, result), _ = scan(lambda carry, _: ((carry[0] + 1, body(carry[0], carry[1])), ()),
                              (as_tensor(np.int64(0)) + lower, init), None, length=steps, checkpoint=checkpoint)
        return result
    _, result = while_loop(lambda i, value: i < upper, lambda i, value: (i + 1, body(i, value)), (lower, init),
                           checkpoint=checkpoint)
    return result


def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """``f`` of each row of `xs`, stacked.

    Parameters
    ----------
    f : callable
    xs : nest of tensors
        Arrays with one leading axis of equal size.

    Returns
    -------
    nest of tensors

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.map(lambda x: ng.sum(x * x), np.array([[1.0, 2.0], [3.0, 4.0]])).numpy()
    array([ 5., 25.])
    """
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def fold(f: Callable[[Any, Any], Any], init: Any, xs: Any, reverse: bool = False, checkpoint: Any = "all") -> Any:
    """``carry = f(carry, x)`` over the rows of `xs`; the last carry.

    Parameters
    ----------
    f : callable
    init : nest of tensors
    xs : nest of tensors
        Arrays with one leading axis of equal size.
    reverse : bool
        From the last row to the first.
    checkpoint : "all", "sqrt", "revolve" or int
        How many carries reverse mode keeps, as for `scan`.

    Returns
    -------
    nest of tensors

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> float(ng.fold(lambda s, x: 2.0 * s + x, 0.0, np.array([1.0, 0.0, 1.0])))
    5.0
    """
    return scan(lambda carry, x: (f(carry, x), ()), init, xs, reverse=reverse, checkpoint=checkpoint)[0]

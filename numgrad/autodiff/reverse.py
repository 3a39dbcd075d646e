"""Reverse mode: `gradients` adds to a graph the nodes that compute derivatives."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.aggregate import Facts, Sum, check_method, make_sum
from numgrad.autodiff.rules import pull, refuse
from numgrad.errors import GraphError, ShapeError, at, user_line
from numgrad.graph.core import Graph, Operation, Tensor, apply, as_tensor, current_graph
from numgrad.graph.scopes import scope_in
from numgrad.graph.walk import between
from numgrad.ops.kinds import as_node, cast_to
from numgrad.types import is_trainable, same_shape, show_shape

__all__ = ["UnconnectedGradients", "gradients"]


class UnconnectedGradients(enum.Enum):
    """What `gradients` returns for an x that no y depends on: None, or zeros.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.UnconnectedGradients("zero") is ng.UnconnectedGradients.ZERO
    True
    """

    NONE = "none"
    ZERO = "zero"


def gradients(ys: Any, xs: Any, grad_ys: Any = None, name: str = "gradients", gate_gradients: bool = False,
              aggregation_method: int | None = None, stop_gradients: Any = None,
              unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE) -> list[Tensor | None]:
    """The sum of the derivatives of ys with respect to each x, as new nodes of their graph.

    Parameters
    ----------
    ys : Tensor or sequence of Tensor
        What is differentiated; any shapes. Integer and bool ys contribute nothing.
    xs : Tensor or sequence of Tensor
        With respect to what.
    grad_ys : sequence of Tensor or None, optional
        One cotangent for each y, of y's shape; None means ones. Cast within y's kind of dtype.
    name : str
        Name scope of the new operations.
    gate_gradients : bool
        Accepted for the contract; evaluation order does not change values here.
    aggregation_method : int, optional
        A constant of `AggregationMethod`.
    stop_gradients : Tensor or sequence of Tensor, optional
        Their producing operations are taken as constants.
    unconnected_gradients : UnconnectedGradients or str
        What stands for an x that no y depends on.

    Returns
    -------
    list of Tensor or None
        For each x: ``sum over ys of sum(grad_y * dy/dx)``, of x's shape and dtype.

    Raises
    ------
    RuntimeError
        Outside a graph.
    LookupError
        An operation on the path has no derivative rule.
    TypeError, ValueError
        Wrong kinds of arguments, counts, dtypes or shapes.

    Notes
    -----
    With a real loss L the gradient g of a complex z satisfies ``dL = Re(conj(g) dz)``.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, (2,))
    ...     g, = ng.gradients(ng.sum(x**3), x)
    >>> ng.run(g, {x: [1.0, 2.0]})
    array([ 3., 12.])
    """
    y_list, x_list = _sequence(ys, "ys"), _sequence(xs, "xs")
    graph = _common_graph(y_list + x_list)
    unconnected = _unconnected(unconnected_gradients)
    method = check_method(aggregation_method)
    with graph.as_default(), graph.lock:
        with scope_in(graph, name):
            y_tensors = [as_node(graph, y) for y in y_list]
            x_tensors = [as_node(graph, x) for x in x_list]
            stops = [as_node(graph, s) for s in _sequence(stop_gradients, "stop_gradients")]
            cotangents = _grad_ys(grad_ys, y_tensors)
            result = build_gradients(y_tensors, x_tensors, cotangents, stops, method)
        if unconnected is UnconnectedGradients.ZERO:
            result = [g if g is not None else apply("zeros_like", x) for g, x in zip(result, x_tensors, strict=True)]
    return result


def build_gradients(ys: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Tensor | None],
                    stops: Sequence[Tensor] = (), method: int = 0) -> list[Tensor | None]:
    """The loop over the reversed order; arguments are nodes of one graph, checked."""
    path, reached = between(ys, xs, lambda t: is_trainable(t.dtype), frozenset(s.op for s in stops if s.op is not None))
    flowing = reached | {x for x in xs if is_trainable(x.dtype)}
    pending = _pending(path, ys, flowing)
    sums: dict[Tensor, Sum] = {}
    closed: dict[Tensor, Tensor] = {}
    masked: set[Tensor] = set()

    def arrive(tensor: Tensor, term: Tensor, is_masked: bool) -> None:
        total = sums.get(tensor)
        if total is None:
            shape = tensor.spec.shape
            known = all(isinstance(d, int) for d in shape)
            size = int(np.prod([int(d) for d in shape])) * tensor.dtype.itemsize if known else None
            total = sums[tensor] = make_sum(Facts(pending.get(tensor, 1), size, tensor.dtype.kind in "fc", method))
        total.add(term)
        if is_masked:
            masked.add(tensor)

    def close(tensor: Tensor) -> Tensor | None:
        if tensor not in closed and tensor in sums:
            closed[tensor] = sums[tensor].total()
        return closed.get(tensor)

    for y, cotangent in zip(ys, cotangents, strict=True):
        if cotangent is not None and y in flowing and is_trainable(y.dtype):
            arrive(y, cotangent, False)
    for op in reversed(path):
        outputs = [close(t) for t in op.outputs]
        if all(c is None for c in outputs):
            continue
        if op.record.vjp is None and op.record.partials is None:
            if not op.record.smooth:  # declared to have no derivative: nothing flows
                continue
            raise refuse(op)
        needed = [t in flowing for t in op.inputs]
        is_masked = op.record.masks or any(t in masked for t in op.outputs)
        was_masked = any(t in masked for t in op.outputs)
        for tensor, term in zip(op.inputs, pull(op, outputs, needed, was_masked), strict=True):
            if term is not None:
                arrive(tensor, term, is_masked)
    return [close(x) if is_trainable(x.dtype) else None for x in xs]


def _pending(path: Sequence[Operation], ys: Sequence[Tensor], flowing: set[Tensor]) -> dict[Tensor, int]:
    """How many terms each tensor's sum can get."""
    counts: dict[Tensor, int] = {}
    for y in ys:
        counts[y] = counts.get(y, 0) + 1
    for op in path:
        for tensor in op.inputs:
            if tensor in flowing:
                counts[tensor] = counts.get(tensor, 0) + 1
    return counts


def _sequence(value: Any, what: str) -> list[Any]:
    if value is None:
        if what == "stop_gradients":
            return []
        raise TypeError(f"gradients: {what} is None, wanted a tensor or a sequence of tensors{at(user_line())}")
    if isinstance(value, dict):
        raise TypeError(f"gradients: {what} is a dict, wanted a tensor or a list or tuple of tensors{at(user_line())}")
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    for item in items:
        if item is None or isinstance(item, (str, dict)) or (what != "ys" and isinstance(item, (list, tuple))):
            raise TypeError(f"gradients: {what} holds {item!r}, wanted tensors{at(user_line())}")
        if what == "stop_gradients" and not isinstance(item, Tensor):
            raise TypeError(f"gradients: stop_gradients holds {item!r}, wanted tensors{at(user_line())}")
    return items


def _common_graph(items: Sequence[Any]) -> Graph:
    graph: Graph | None = None
    for item in items:
        if isinstance(item, Tensor) and item.graph is not None:
            if graph is not None and item.graph is not graph:
                raise GraphError(f"gradients: ys and xs are of two different graphs; all must be from the same graph"
                                 f"{at(user_line())}")
            graph = item.graph
    graph = graph or current_graph()
    if graph is None:
        raise RuntimeError(f"gradients is not supported outside a graph; use ng.grad, ng.vjp or ng.GradientTape for eager tensors"
                           f"{at(user_line())}")
    return graph


def _unconnected(value: Any) -> UnconnectedGradients:
    try:
        return UnconnectedGradients(value)
    except ValueError as error:
        raise ValueError(f"Unknown value for unconnected_gradients: {value!r}; wanted 'none' or 'zero'"
                         f"{at(user_line())}") from error


def _grad_ys(grad_ys: Any, ys: Sequence[Tensor]) -> list[Tensor | None]:
    given = [None] * len(ys) if grad_ys is None else list(grad_ys) if isinstance(grad_ys, (list, tuple)) else [grad_ys]
    if len(given) != len(ys):
        raise ValueError(f"gradients: passed {len(given)} grad_ys for {len(ys)} ys{at(user_line())}")
    return [check_cotangent(g, y, i) for i, (g, y) in enumerate(zip(given, ys, strict=True))]


def check_cotangent(given: Any, y: Tensor, index: int) -> Tensor | None:
    """A cotangent for y: ones for None, else `given` cast within y's kind of dtype; its shape must be y's."""
    if given is None:
        if y.dtype.kind == "c":
            raise TypeError(f"gradients: y {index} ({y.name}) is {y.dtype}; complex ys must set grad_ys{at(user_line())}")
        return apply("ones_like", y, op_name=f"grad_ys_{index}")
    cotangent = as_tensor(given)
    fits = {"f": "fiu", "i": "fiu", "u": "fiu", "c": "c"}.get(y.dtype.kind, "")
    if cotangent.dtype.kind not in fits:
        raise TypeError(f"gradients: grad_ys[{index}] is {cotangent.dtype} for a y of {y.dtype}{at(user_line())}")
    if not same_shape(cotangent.spec.shape, y.spec.shape):
        raise ShapeError(f"gradients: grad_ys[{index}] has shape {show_shape(cotangent.shape)}, wanted y's {show_shape(y.shape)}"
                         f"{at(user_line())}")
    return apply("identity", cast_to(cotangent, y.dtype), op_name=f"grad_ys_{index}")

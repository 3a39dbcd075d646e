"""What users pass to `gradients`: made into tensors of one graph, and checked."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.slices import IndexedSlices
from numgrad.errors import DtypeError, GraphError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor, current_graph
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import device
from numgrad.graph.variable import Variable
from numgrad.ops.kinds import as_node, cast_to

__all__ = ["UnconnectedGradients", "common_graph", "cotangents_of", "nodes", "sequence", "unconnected_of"]


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


def sequence(value: Any, what: str) -> list[Any]:
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
        if what == "stop_gradients" and not isinstance(item, (Tensor, Variable)):
            raise TypeError(f"gradients: stop_gradients holds {item!r}, wanted tensors{at(user_line())}")
    return items


def nodes(graph: Graph, items: Sequence[Any], what: str) -> list[Tensor]:
    """Each item as a node of `graph`: numbers and arrays as constants, row-sparse ys made dense."""
    result = []
    for item in items:
        if isinstance(item, IndexedSlices) and what != "ys":
            raise TypeError(f"gradients: {what} holds IndexedSlices; pass their .values, or .to_dense()"
                            f"{at(user_line())}")
        if isinstance(item, Variable) and what != "ys":
            item = item.handle_in(graph)  # so that gradients arrive through every read of it
        try:
            result.append(as_node(graph, item))
        except DtypeError as error:
            raise TypeError(f"gradients: {what} holds {item!r}, wanted tensors{at(user_line())}") from error
    return result


def _leaves(value: Any) -> Iterator[Any]:
    """What stands in lists and tuples, of any depth."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def common_graph(*arguments: Any) -> Graph:
    """The graph of all tensors among the arguments, else the current one; RuntimeError when there is none."""
    graph: Graph | None = None
    for item in _leaves(arguments):
        if isinstance(item, (Tensor, IndexedSlices)) and item.graph is not None:
            if graph is not None and item.graph is not graph:
                raise GraphError(f"gradients: ys, xs, grad_ys and stop_gradients are of two different graphs; all must "
                                 f"be from the same graph{at(user_line())}")
            graph = item.graph
    graph = graph or current_graph()
    if graph is None:
        raise RuntimeError(f"gradients is not supported outside a graph; use ng.grad, ng.vjp or ng.GradientTape for "
                           f"eager tensors{at(user_line())}")
    return graph


def unconnected_of(value: Any) -> UnconnectedGradients:
    try:
        return UnconnectedGradients(value)
    except ValueError as error:
        raise ValueError(f"Unknown value for unconnected_gradients: {value!r}; wanted 'none' or 'zero'"
                         f"{at(user_line())}") from error


def cotangents_of(grad_ys: Any, ys: Sequence[Tensor], colocate: bool) -> list[Tensor | IndexedSlices | None]:
    """One cotangent for each y, checked; made under the y's device label if `colocate`."""
    given = [grad_ys]
    if grad_ys is None or isinstance(grad_ys, (list, tuple)):
        given = [None] * len(ys) if grad_ys is None else list(grad_ys)
    if len(given) != len(ys):
        raise ValueError(f"gradients: passed {len(given)} grad_ys for {len(ys)} ys{at(user_line())}")
    result = []
    for i, (cotangent, y) in enumerate(zip(given, ys, strict=True)):
        with device(y.device) if colocate else nullcontext():
            result.append(check_cotangent(cotangent, y, i))
    return result


def check_cotangent(given: Any, y: Tensor, index: int) -> Tensor | IndexedSlices | None:
    """A cotangent for y: ones for None, else `given` cast within y's kind of dtype; its shape must be y's."""
    if isinstance(given, IndexedSlices):
        if given.dense_shape is None:
            given = IndexedSlices(given.values, given.indices, y.shape)
        require_shape(given.dense_shape, y.spec.shape, f"gradients: grad_ys[{index}], IndexedSlices,")
        values = check_cotangent_dtype(given.values, y, f"gradients: grad_ys[{index}]")
        return IndexedSlices(apply("identity", values, op_name=f"grad_ys_{index}_values"),
                             apply("identity", given.indices, op_name=f"grad_ys_{index}_indices"), given.dense_shape)
    if given is None:
        if y.dtype.kind == "c":
            raise TypeError(f"gradients: y {index} ({y.name}) is {y.dtype}; complex ys must set grad_ys"
                            f"{at(user_line())}")
        return apply("ones_like", y, op_name=f"grad_ys_{index}")
    try:
        tensor = as_tensor(given)
    except DtypeError as error:
        raise TypeError(f"gradients: grad_ys[{index}] is {given!r}, wanted a tensor{at(user_line())}") from error
    cotangent = check_cotangent_dtype(tensor, y, f"gradients: grad_ys[{index}]")
    require_shape(cotangent.spec.shape, y.spec.shape, f"gradients: grad_ys[{index}]")
    return apply("identity", cotangent, op_name=f"grad_ys_{index}")


def check_cotangent_dtype(cotangent: Tensor, y: Tensor, what: str) -> Tensor:
    """A cotangent cast to y's dtype; TypeError when it is of another kind."""
    fits = {"f": "fiu", "i": "fiu", "u": "fiu", "c": "c"}.get(y.dtype.kind, "")
    if cotangent.dtype.kind not in fits:
        raise TypeError(f"{what} is {cotangent.dtype} for a y of {y.dtype}{at(user_line())}")
    return cast_to(cotangent, y.dtype)

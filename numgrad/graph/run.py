"""Evaluate a graph with NumPy: the meaning that every compiled program is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, GraphError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, state
from numgrad.graph.walk import ancestors
from numgrad.types import Size, dim_value, lone_symbol, show_shape

__all__ = ["bind_sizes", "evaluate"]


def bind_sizes(inputs: Sequence[Tensor], arrays: Sequence[np.ndarray[Any, Any]]) -> dict[Any, int]:
    """The values of the unknown sizes that make the placeholders' shapes those of `arrays`.

    Raises ShapeError naming the input when the rank or a known size differs.
    """
    values: dict[Any, int] = {}
    composed: list[tuple[Tensor, int, Size, int]] = []
    for tensor, array in zip(inputs, arrays, strict=True):
        if len(tensor.shape) != array.ndim:
            raise ShapeError(f"input {tensor.name}: got shape {array.shape}, wanted {len(tensor.shape)} axes "
                             f"{show_shape(tensor.shape)}{at(user_line())}")
        for axis, (dim, size) in enumerate(zip(tensor.shape, array.shape, strict=True)):
            if isinstance(dim, Size):
                symbol = lone_symbol(dim)
                if symbol is None:
                    composed.append((tensor, axis, dim, size))
                    continue
                known = values.setdefault(symbol, size)
                if known != size:
                    raise ShapeError(f"input {tensor.name}: axis {axis} has size {size}, but {dim} is {known} elsewhere"
                                     f"{at(user_line())}")
            elif dim != size:
                raise ShapeError(f"input {tensor.name}: got shape {array.shape}, wanted {show_shape(tensor.shape)} "
                                 f"(axis {axis}: {size}, {dim}){at(user_line())}")
    for tensor, axis, dim, size in composed:
        if all(symbol in values for symbol in dim.symbols()) and dim.evaluate(values) != size:
            raise ShapeError(f"input {tensor.name}: axis {axis} has size {size}, wanted {dim} = {dim.evaluate(values)}"
                             f"{at(user_line())}")
    return values


def check_guards(graph: Any, values: Mapping[Any, int]) -> None:
    """Raise ShapeError for the first assumption about sizes that `values` break.

    Other parts of the graph have others.
    """
    for guard in graph.sizes.guards:
        if all(symbol in values for symbol in guard.symbols()) and not guard.holds(values):
            raise ShapeError(f"sizes {guard.left} = {dim_value(guard.left, values)} and {guard.right} = "
                             f"{dim_value(guard.right, values)} must fulfil {guard.left} {guard.sign} {guard.right}: "
                             f"they meet in one operation{at(guard.where)}; "
                             f"give an axis that broadcasts the fixed size 1")


def fed(tensor: Tensor, value: Any) -> np.ndarray[Any, Any]:
    """A value for `tensor` as an array of its dtype; DtypeError when it is of another kind."""
    array = np.asarray(value)
    if array.dtype != tensor.dtype:
        if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
            raise DtypeError(f"input {tensor.name}: got {array.dtype}, wanted {tensor.dtype}{at(user_line())}")
        array = array.astype(tensor.dtype)
    return array


def evaluate(outputs: Sequence[Tensor], feeds: Mapping[Tensor, Any]) -> list[np.ndarray[Any, Any]]:
    """The values of `outputs` for given values of placeholders (or of any other tensors)."""
    values: dict[Tensor, np.ndarray[Any, Any]] = {}
    for tensor, value in feeds.items():
        if not isinstance(tensor, Tensor) or tensor.op is None:
            raise GraphError(f"run: feeds must have tensors of a graph as keys, got {tensor!r}{at(user_line())}")
        values[tensor] = fed(tensor, value)
    sizes = bind_sizes([t for t in values if t.op is not None and t.op.type == "placeholder"],
                       [v for t, v in values.items() if t.op is not None and t.op.type == "placeholder"])
    if not state.checks:
        return evaluate_with(outputs, values, sizes)
    given = dict(values)
    results = evaluate_with(outputs, values, sizes)
    for check in state.checks:
        check(outputs, given, results)
    return results


def evaluate_with(outputs: Sequence[Tensor], values: dict[Tensor, Any],
                  sizes: dict[Any, int]) -> list[np.ndarray[Any, Any]]:
    """The values of `outputs` from those of other tensors and of unknown sizes; both mappings are filled in further."""
    order = ancestors(outputs, stop=lambda t: t in values)
    if order:
        check_guards(order[0].graph, sizes)
    readers: dict[Tensor, int] = {}
    for op in order:
        for tensor in op.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    kept = set(outputs)
    for op in order:
        for tensor, value in zip(op.outputs, evaluate_op(op, values, sizes), strict=True):
            values.setdefault(tensor, value)
        for tensor in op.inputs:
            readers[tensor] -= 1
            if not readers[tensor] and tensor not in kept:
                values.pop(tensor, None)  # a value dies with its last reader
    return [values[t] if t._value is None else t._value for t in outputs]


def evaluate_op(op: Operation, values: Mapping[Tensor, Any],
                sizes: dict[Any, int]) -> tuple[np.ndarray[Any, Any], ...]:
    """The output values of one operation."""
    if op.type == "placeholder":
        raise GraphError(f"run: the placeholder {op.name} needs a value{at(op.where)}")
    attrs = resolve(op.attrs, sizes) if op.dynamic else op.attrs
    try:
        with np.errstate(all="ignore"):
            given = [values[t] for t in op.inputs]
            if op.record.facts.get("bodies"):  # loops and branches evaluate graphs of their own, with the same sizes
                result = op.record.evaluate(*given, sizes=sizes, **attrs)
            else:
                result = op.record.evaluate(*given, **attrs)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(f"{op.type}: {error}{at(op.where)}") from None
    if "binds" in op.attrs:  # a trip count is the value of a size from here on
        sizes[lone_symbol(op.attrs["binds"].size)] = int(result)
    results = result if isinstance(result, tuple) else (result,)
    return tuple(np.asarray(r, dtype=t.dtype) for r, t in zip(results, op.outputs, strict=True))


def resolve(attrs: Mapping[str, Any], sizes: Mapping[Any, int]) -> dict[str, Any]:
    """Attributes with every unknown size replaced by its value."""
    return {name: _resolved(value, sizes) for name, value in attrs.items()}


def _resolved(value: Any, sizes: Mapping[Any, int]) -> Any:
    if isinstance(value, Size):
        return dim_value(value, sizes)
    return tuple(_resolved(v, sizes) for v in value) if type(value) is tuple else value

"""Differentiate a Python function in the graph being built: arguments made distinct, results checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.forward import pushforward
from numgrad.autodiff.reverse import build_gradients
from numgrad.autodiff.rules import require_shape
from numgrad.clock import phase
from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, WeakTensor, apply, as_tensor, weaken
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import scope_in
from numgrad.ops.kinds import as_node, cast_to
from numgrad.types import is_trainable, show_shape

__all__ = ["cotangents_for", "fresh", "pull_back", "push_along", "scalar_result", "tangents_for"]


def fresh(graph: Graph, values: Sequence[Any], what: str, names: Sequence[str]) -> list[Tensor]:
    """A node of its own for each value with respect to which is differentiated.

    So the arguments of nested transforms stay distinct even when the same array is passed for both. DtypeError for
    integers.
    """
    result = []
    for value, name in zip(values, names, strict=True):
        tensor = as_tensor(value)
        if not is_trainable(tensor.dtype):
            raise DtypeError(f"{what}: {name} is {tensor.dtype}; derivatives need a floating or complex argument: "
                             f"pass 3.0 for 3, or x.astype(float); leave integers out of argnums{at(user_line())}")
        own = apply("identity", as_node(graph, tensor))
        is_number = isinstance(value, (WeakTensor, float, complex)) and not isinstance(value, np.generic)
        result.append(weaken(own) if is_number else own)
    return result


def scalar_result(graph: Graph, leaves: Sequence[Any], what: str) -> Tensor:
    """The one real scalar that a function to be differentiated returned."""
    if len(leaves) != 1:
        raise TypeError(f"{what}: the function returned a nest of {len(leaves)} values, wanted one scalar; return "
                        f"(value, extras) with has_aux=True, or use ng.jacobian or ng.vjp{at(user_line())}")
    y = as_node(graph, leaves[0])
    if y.shape:
        raise ShapeError(f"{what}: the function returned shape {show_shape(y.shape)}, wanted a scalar; use "
                         f"ng.jacobian, or reduce it with np.sum or np.mean{at(user_line())}")
    if y.dtype.kind != "f":
        raise DtypeError(f"{what}: the function returned {y.dtype}, wanted a real floating scalar"
                         + ("; take its real part or absolute value" if y.dtype.kind == "c" else "") + at(user_line()))
    return y


def pull_back(graph: Graph, ys: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Tensor | None],
              name: str) -> list[Tensor]:
    """The cotangents of xs; zeros where no y depends on one."""
    with phase("gradients"), graph.lock, scope_in(graph, name):
        found = build_gradients(ys, xs, cotangents)
        return [g if g is not None else apply("zeros_like", x) for g, x in zip(found, xs, strict=True)]


def push_along(graph: Graph, ys: Sequence[Tensor], xs: Sequence[Tensor],
               tangents: Sequence[Tensor | None]) -> list[Tensor]:
    """The tangents of ys; zeros where one depends on no x that has a tangent."""
    moving = [(x, t) for x, t in zip(xs, tangents, strict=True) if t is not None]
    with phase("gradients"), graph.lock:
        found = pushforward(ys, [x for x, _ in moving], [t for _, t in moving])
        return [t if t is not None else apply("zeros_like", y) for t, y in zip(found, ys, strict=True)]


def tangents_for(graph: Graph, given: Sequence[Any], xs: Sequence[Tensor], what: str,
                 names: Sequence[str]) -> list[Tensor | None]:
    """Tangents checked against their primals: of the same shape, cast within floating point; None is zero."""
    return [None if t is None else _fitted(as_node(graph, t), x, f"{what}: the tangent of {name}")
            for t, x, name in zip(given, xs, names, strict=True)]


def cotangents_for(graph: Graph, given: Sequence[Any], ys: Sequence[Tensor], what: str) -> list[Tensor | None]:
    """Cotangents checked against the results; None is zero, and so is that of an integer result."""
    return [_fitted(as_node(graph, c), y, f"{what}: cotangent {i}")
            if c is not None and is_trainable(y.dtype) else None
            for i, (c, y) in enumerate(zip(given, ys, strict=True))]


def _fitted(tensor: Tensor, like: Tensor, what: str) -> Tensor:
    require_shape(tensor.spec.shape, like.spec.shape, what)
    if tensor.dtype.kind == "c" and like.dtype.kind != "c":
        raise DtypeError(f"{what} is {tensor.dtype}, wanted {like.dtype}{at(user_line())}")
    return cast_to(tensor, like.dtype)

"""Variables of loops: their graph, their nests, and their dtypes and shapes from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor, current_graph
from numgrad.graph.graph import Graph
from numgrad.nest import Structure, arrange, flatten, leaf_paths
from numgrad.ops.kinds import cast_to
from numgrad.tracing.arrays import TensorArray
from numgrad.tracing.lists import TensorList
from numgrad.types import Dim, require_equal, same_size, show_shape

__all__ = ["declared", "graph_for", "like_variables", "same_nest"]

# The shape that a variable keeps, with None for sizes that may change; None for a variable that keeps its own.
Kept = tuple[Dim | None, ...] | None


def graph_for(tensors: Sequence[Tensor]) -> Graph | None:
    """The graph in which a loop over these tensors is built; None outside a trace."""
    current = current_graph()
    return current or next((t.graph for t in tensors if t.graph is not None), None)


def declared(tree: Any, shape_invariants: Any, what: str) -> list[Kept]:
    """For each tensor of a nest of loop variables the shape that it keeps, None standing for sizes that may change.

    None for a tensor that keeps the shape it starts with. Arrays of elements that differ in size and lists that grow
    declare their own. ShapeError for a declaration that the first values do not fulfil.
    """
    parts, structure = flatten(tree, is_leaf=lambda part: isinstance(part, (TensorArray, TensorList)))
    given: list[Kept] = [None] * len(parts)
    if shape_invariants is not None:
        entries = _spread(tree, shape_invariants, structure, what)
        given = [entry if entry is None else tuple(entry) for entry in entries]
    found: list[Kept] = []
    for part, shape in zip(parts, given, strict=True):
        if isinstance(part, (TensorArray, TensorList)):
            found.extend(part.leaf_shapes())
            continue
        if shape is not None and not _fits(as_tensor(part), shape):
            raise ShapeError(f"{what}: shape_invariants declare {_shown(shape)} for loop variable {len(found)}, which "
                             f"starts with shape {show_shape(as_tensor(part).shape)}{at(user_line())}")
        found.append(shape)
    return found


def _spread(tree: Any, invariants: Any, structure: Structure, what: str) -> list[Any]:
    """One declaration for each leaf; None at the place of a whole variable stands for all its leaves."""
    if not isinstance(tree, (tuple, list)) or hasattr(tree, "_fields"):
        return arrange(invariants, structure, f"{what}: shape_invariants")
    if not isinstance(invariants, (tuple, list)) or len(invariants) != len(tree):
        raise ValueError(f"{what}: shape_invariants must have one entry for each of the {len(tree)} loop variables"
                         f"{at(user_line())}")
    found: list[Any] = []
    for entry, inner in zip(invariants, structure[2], strict=True):
        leaves = len(leaf_paths(inner))
        found += [None] * leaves if entry is None else arrange(entry, inner, f"{what}: shape_invariants")
    return found


def _fits(tensor: Tensor, shape: Sequence[Dim | None]) -> bool:
    return tensor.ndim == len(shape) and all(
        want is None or same_size(have, want) for have, want in zip(tensor.spec.shape, shape, strict=True))


def _shown(shape: Sequence[Dim | None]) -> str:
    inside = ", ".join(str(d) for d in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def _changed(what: str, k: int, variable: Tensor, tensor: Tensor, shape: Kept) -> str:
    if shape is None:
        instead = "its shape must stay the same"
    elif current_graph() is None:
        instead = f"shape_invariants declare {_shown(shape)}"
    else:
        instead = ("a traced loop keeps all shapes, whatever shape_invariants declare; write into an ng.TensorArray or "
                   "an ng.TensorList with room for all")
    return (f"{what}: loop variable {k} has shape {show_shape(variable.shape)}, but the body returns "
            f"{show_shape(tensor.shape)}; {instead}")


def like_variables(values: Sequence[Any], like: Sequence[Tensor], shapes: Sequence[Kept],
                   what: str) -> list[Tensor]:
    """A body's results as the loop variables' dtypes and shapes; errors name the variable that changed.

    `shapes` are those of `declared`. Sizes that they leave open may change outside a trace.
    """
    result = []
    for k, (value, variable, shape) in enumerate(zip(values, like, shapes, strict=True)):
        tensor = as_tensor(value)
        if tensor.dtype != variable.dtype and not np.can_cast(tensor.dtype, variable.dtype, "same_kind"):
            raise DtypeError(f"{what}: loop variable {k} is {variable.dtype}, but the body returns {tensor.dtype}; "
                             f"start it with that dtype or cast the result{at(user_line())}")
        message = partial(_changed, what, k, variable, tensor, shape)
        changes = shape is not None and current_graph() is None
        if tensor.ndim != variable.ndim or (changes and not _fits(tensor, shape)):  # type: ignore[arg-type]
            raise ShapeError(message() + at(user_line()))
        if not changes:
            for own, new in zip(variable.spec.shape, tensor.spec.shape, strict=True):
                require_equal(own, new, message)
        result.append(cast_to(tensor, variable.dtype))
    return result


def same_nest(structure: Structure, wanted: Structure, what: str) -> None:
    """TypeError when a body's results do not have the nest of the variables."""
    if structure != wanted:
        raise TypeError(f"{what}: the body's loop variables come back as another nest than they went in"
                        f"{at(user_line())}")

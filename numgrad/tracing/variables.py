"""Variables of loops: their graph, their nests, and their dtypes and shapes from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor, current_graph
from numgrad.graph.graph import Graph
from numgrad.nest import Structure
from numgrad.ops.kinds import cast_to
from numgrad.types import require_equal, show_shape

__all__ = ["graph_for", "like_variables", "same_nest"]


def graph_for(tensors: Sequence[Tensor]) -> Graph | None:
    """The graph in which a loop over these tensors is built; None outside a trace."""
    current = current_graph()
    return current or next((t.graph for t in tensors if t.graph is not None), None)


def _changed(what: str, k: int, variable: Tensor, tensor: Tensor) -> str:
    return (f"{what}: loop variable {k} has shape {show_shape(variable.shape)}, but the body returns "
            f"{show_shape(tensor.shape)}; its shape must stay the same")


def like_variables(values: Sequence[Any], like: Sequence[Tensor], what: str) -> list[Tensor]:
    """A body's results as the loop variables' dtypes and shapes; errors name the variable that changed."""
    result = []
    for k, (value, variable) in enumerate(zip(values, like, strict=True)):
        tensor = as_tensor(value)
        if tensor.dtype != variable.dtype and not np.can_cast(tensor.dtype, variable.dtype, "same_kind"):
            raise DtypeError(f"{what}: loop variable {k} is {variable.dtype}, but the body returns {tensor.dtype}; "
                             f"start it with that dtype or cast the result{at(user_line())}")
        message = partial(_changed, what, k, variable, tensor)
        if tensor.ndim != variable.ndim:
            raise ShapeError(message() + at(user_line()))
        for own, new in zip(variable.spec.shape, tensor.spec.shape, strict=True):
            require_equal(own, new, message)
        result.append(cast_to(tensor, variable.dtype))
    return result


def same_nest(structure: Structure, wanted: Structure, what: str) -> None:
    """TypeError when a body's results do not have the nest of the variables."""
    if structure != wanted:
        raise TypeError(f"{what}: the body's loop variables come back as another nest than they went in"
                        f"{at(user_line())}")

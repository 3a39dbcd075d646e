"""The public interpreter: any nest of tensors evaluated with NumPy, nothing compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numgrad.errors import GraphError, at, user_line
from numgrad.graph.core import Tensor, as_tensor
from numgrad.graph.run import evaluate
from numgrad.nest import flatten, unflatten

__all__ = ["run"]


def run(outputs: Any, feeds: Mapping[Tensor, Any] | None = None) -> Any:
    """Evaluate tensors of a graph with NumPy, without compiling anything.

    Parameters
    ----------
    outputs : Tensor or nest of Tensor
        What is wanted; nests are tuples, lists, dicts, named tuples, dataclasses and None, which stays None.
    feeds : mapping, optional
        Tensor of the graph -> its value (array_like). Every placeholder that is needed must have one; a value for
        another tensor
        replaces what the graph would compute.

    Returns
    -------
    ndarray or nest of ndarray
        The values, in the nest of `outputs`.

    Raises
    ------
    GraphError
        For a placeholder without a value, and outputs or keys that are no tensors.
    ShapeError
        For a value that does not have its placeholder's shape.
    DtypeError
        For a value of another kind than its placeholder's.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ("n",))
    ...     y = {"double": 2 * x, "square": x * x}
    >>> ng.run(y, {x: [1.0, 3.0]})
    {'double': array([2., 6.]), 'square': array([1., 9.])}
    """
    leaves, structure = flatten(outputs)
    leaves = [as_tensor(leaf) if hasattr(type(leaf), "__tensor__") else leaf for leaf in leaves]
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise GraphError(f"run: the outputs hold {leaf!r}, wanted tensors{at(user_line())}")
    return unflatten(structure, evaluate(leaves, feeds or {}))

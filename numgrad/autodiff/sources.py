"""What users pass to tapes and accumulators: nests of tensors and variables, cotangents, what stands for no path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.arguments import UnconnectedGradients, check_cotangent_dtype
from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.slices import IndexedSlices, dense
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor, state
from numgrad.graph.graph import Graph
from numgrad.graph.variable import Variable
from numgrad.nest import LEAF, Structure, arrange, flatten

__all__ = ["cotangents_for_targets", "leaves_of", "or_zeros", "tensors_in", "zeros_of"]


def leaves_of(nest: Any, what: str) -> tuple[list[Any], Structure]:
    """The tensors and variables of a nest; TypeError for anything else."""
    leaves, structure = flatten(nest, lambda v: v is None)
    for leaf in leaves:
        if isinstance(leaf, IndexedSlices):
            raise TypeError(f"{what}: got IndexedSlices; pass their .values{at(user_line())}")
        if not isinstance(leaf, (Tensor, Variable)):
            raise TypeError(f"{what}: got {'None' if leaf is None else type(leaf).__name__}, wanted tensors and "
                            f"variables{at(user_line())}")
    return leaves, structure


def tensors_in(leaves: Sequence[Any], graph: Graph | None) -> list[Tensor]:
    """Variables replaced by what stands for them in a graph, or outside of one."""
    return [leaf.handle_in(graph) if isinstance(leaf, Variable) else leaf for leaf in leaves]


def cotangents_for_targets(given: Any, ys: Sequence[Tensor], nest: Structure) -> list[Tensor]:
    """A cotangent for each target, checked: from the same nest, or from a flat one."""
    leaves = [None] * len(ys) if given is None else _matched(given, ys, nest)
    if len(leaves) != len(ys):
        raise ValueError(f"output_gradients: got {len(leaves)} for {len(ys)} targets{at(user_line())}")
    return [_cotangent(g, y, i) for i, (g, y) in enumerate(zip(leaves, ys, strict=True))]


def _matched(given: Any, ys: Sequence[Tensor], nest: Structure) -> list[Any]:
    if nest == LEAF:
        return list(given) if isinstance(given, (list, tuple)) and _is_flat(given, ys[0].ndim) else [given]
    try:
        return arrange(given, nest, "output_gradients", lambda v: v is None)
    except ValueError:
        if isinstance(given, (list, tuple)) and len(given) == len(ys):
            return list(given)
        return flatten(given, lambda v: v is None)[0]


def _is_flat(given: Sequence[Any], rank: int) -> bool:
    """Whether a sequence for a single target holds cotangents, and is not one cotangent written as a list."""
    if any(g is None or isinstance(g, (Tensor, IndexedSlices)) for g in given):
        return True
    return len(given) == 1 and np.ndim(given[0]) == rank


def _cotangent(given: Any, y: Tensor, index: int) -> Tensor:
    if given is None:
        if y._value is None or state.graphs:
            return apply("ones_like", y)
        return Tensor(y.dtype, y.shape, None, 0, np.ones(y.shape, y.dtype))
    what = f"output_gradients[{index}]"
    try:
        cotangent = dense(given) if isinstance(given, IndexedSlices) else as_tensor(given)
    except DtypeError as error:
        raise TypeError(f"{what} is {given!r:.60}, wanted a tensor{at(user_line())}") from error
    cotangent = check_cotangent_dtype(cotangent, y, what)
    require_shape(cotangent.spec.shape, y.spec.shape, what)
    return cotangent


def or_zeros(gradient: Any, x: Tensor, unconnected: UnconnectedGradients) -> Any:
    """A derivative, or what stands for it where there is no path."""
    return apply("zeros_like", x) if gradient is None and unconnected is UnconnectedGradients.ZERO else gradient


def zeros_of(shape: Sequence[Any], dtype: Any) -> Tensor:
    """Zeros, without an array of them where that can be avoided."""
    zero = as_tensor(np.zeros((), dtype))
    return apply("broadcast_to", zero, shape=tuple(shape))

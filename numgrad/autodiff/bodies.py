"""What derivatives of loops and branches share: closed bodies, and lists of tensors picked apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgrad.graph.body import Body
from numgrad.graph.core import Tensor, apply
from numgrad.ops.kinds import cast_to
from numgrad.types import Spec, is_trainable

__all__ = ["closed", "divided", "floats", "or_zeros", "present", "row_spec"]


def closed(graph: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[Body, list[Tensor]]:
    """A body whose last inputs carry what it reads of outer graphs, and these outer tensors."""
    outer, inner = list(graph.reached), list(graph.reached.values())
    return Body(graph, [*inputs, *inner], outputs), outer


def floats(tensors: Sequence[Tensor]) -> list[int]:
    """The places of those that have derivatives."""
    return [i for i, t in enumerate(tensors) if is_trainable(t.dtype)]


def or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    """A gradient, or zeros where there is none."""
    return cast_to(gradient, like.dtype) if gradient is not None else apply("zeros_like", like)


def present(tangents: Sequence[Tensor | None], indices: Sequence[int]) -> list[Tensor]:
    """Those of `indices` that are not None."""
    return [t for i in indices if (t := tangents[i]) is not None]


def divided(values: Sequence[Tensor], *counts: int) -> list[Sequence[Tensor]]:
    """`values` in parts of the given lengths; what is left over goes nowhere."""
    parts, start = [], 0
    for count in counts:
        parts.append(values[start:start + count])
        start += count
    return parts


def row_spec(tensor: Tensor) -> Spec:
    """What one row of a stacked tensor is."""
    return Spec(tensor.dtype, tensor.spec.shape[1:])

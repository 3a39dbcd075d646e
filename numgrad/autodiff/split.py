"""Split a graph in two phases: what is known early, what waits for late inputs, the residuals between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numgrad.graph.core import Tensor, apply_all, placeholder
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import source_line
from numgrad.graph.walk import ancestors

__all__ = ["Phases", "split"]


class Phases(NamedTuple):
    """The second phase as a graph of its own inputs.

    `residuals` are values of the first phase; `stand_ins` the placeholders that carry them into the second, which
    computes `outputs` from the early inputs, the stand-ins and the late inputs.
    """

    residuals: list[Tensor]
    stand_ins: list[Tensor]
    outputs: list[Tensor]


def split(graph: Graph, outputs: Sequence[Tensor], late: Sequence[Tensor]) -> Phases:
    """Cut what `outputs` need of early values where the operations begin that depend on `late` placeholders."""
    waiting: set[Tensor] = set(late)
    second = []
    for op in ancestors(outputs):
        if any(t in waiting for t in op.inputs):
            second.append(op)
            waiting.update(op.outputs)
    known: dict[Tensor, Tensor] = {t: t for t in late}
    residuals: list[Tensor] = []
    with graph.as_default(), graph.lock:
        for tensor in [t for op in second for t in op.inputs] + list(outputs):
            if tensor in waiting or tensor in known or tensor.op is None:
                continue
            if tensor.op.record.kind == "constant":  # placeholders and what costs nothing to make again
                known[tensor] = tensor
            else:
                residuals.append(tensor)
                known[tensor] = placeholder(tensor.dtype, tensor.spec.shape, "residual")
        stand_ins = [known[t] for t in residuals]
        for op in second:
            with source_line(op.where):
                made = apply_all(op.type, *[known[t] for t in op.inputs], **op.attrs)
            known.update(zip(op.outputs, made, strict=True))
    return Phases(residuals, stand_ins, [known[t] for t in outputs])

"""Bodies of loops and branches: graphs of their own, with explicit inputs for all that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgrad.graph.core import Operation, Tensor, apply_all
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS
from numgrad.graph.run import evaluate_with
from numgrad.graph.scopes import source_line
from numgrad.graph.walk import ancestors
from numgrad.types import Spec

__all__ = ["Body", "inline", "trace_body"]


class Body:
    """A graph with inputs and outputs; compared by identity, never changed once it is made."""

    __slots__ = ("graph", "inputs", "outputs")

    def __init__(self, graph: Graph, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.graph, self.inputs, self.outputs = graph, tuple(inputs), tuple(outputs)

    def evaluate(self, values: Sequence[Any], sizes: dict[Any, int]) -> list[Any]:
        """The outputs' NumPy values for given inputs."""
        return evaluate_with(self.outputs, dict(zip(self.inputs, values, strict=True)), dict(sizes))

    def __repr__(self) -> str:
        return f"<body with {len(self.graph.operations)} operations>"


def trace_body(outer: Graph, specs: Sequence[Spec],
               function: Callable[..., Sequence[Tensor]]) -> tuple[Graph, list[Tensor], list[Tensor]]:
    """Run `function` on placeholders in a new graph inside `outer`: (graph, placeholders, outputs).

    The tensors of outer graphs that it reads are in ``graph.reached`` afterwards.
    """
    graph = Graph()
    graph.outer, graph.sizes = outer, outer.sizes
    with graph.as_default():
        inputs = [graph.add(OPS["placeholder"], (), {}, (spec,), "argument").outputs[0] for spec in specs]
        outputs = [graph.capture(t) if t.op is None or t.op.graph is not graph else t for t in function(*inputs)]
    return graph, inputs, outputs


def inline(body: Body, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copy a body's operations into the current graph, reading `inputs`; the copies of its outputs."""
    known = dict(zip(body.inputs, inputs, strict=True))
    copies: dict[Any, Any] = {}  # of operations, for attributes that name others
    for op in ancestors(body.outputs, stop=lambda t: t in known):
        if all(t in known for t in op.outputs):
            continue
        attrs = op.attrs
        if "extends" in attrs or "serves" in attrs:
            attrs = {k: copies.get(v, v) if isinstance(v, Operation) else v for k, v in attrs.items()}
        with source_line(op.where):
            outputs = apply_all(op.type, *(known[t] for t in op.inputs), **attrs)
        copies[op] = outputs[0].op if outputs else None
        known.update(zip(op.outputs, outputs, strict=True))
    return [known[t] for t in body.outputs]

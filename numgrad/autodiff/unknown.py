"""Reverse mode through loops of unknown length inside other loops and branches: room for the most trips of any.

Inside, the number of trips changes from step to step. All the carries of the longest run are kept: a pass over the loop
around finds out how many trips that is, before that loop is gone back through, and the inner loop becomes one of so
many steps, of which the last do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.bodies import closed
from numgrad.errors import GradientError, at
from numgrad.graph.body import Body, trace_body
from numgrad.graph.core import Operation, Tensor, apply, apply_all
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS
from numgrad.graph.walk import ancestors
from numgrad.ops.control import CountedSize
from numgrad.ops.kinds import as_node, cast_to
from numgrad.types import Size, Spec

__all__ = ["pull_unknown", "rooms_of_scan", "rooms_of_switch"]

_INT64 = np.dtype(np.int64)
#: ``pull(body, init, captured, keep, cts, length)``: the cotangents of a scan's carries and captured tensors;
#: ``keep(tensors of the body)`` gives their values of all steps, stacked.
Pull = Callable[..., list[Tensor | None]]


def pull_unknown(op: Operation, cts: Sequence[Tensor | None], pull: Pull) -> list[Tensor | None]:
    """The cotangents of a while loop's inputs, where the loop stands in the body of another loop or branch."""
    carries, graph = op.attrs["carries"], op.graph
    init, captured = op.inputs[:carries], op.inputs[carries:]
    trips = apply("trip_count", *op.inputs, **{k: op.attrs[k] for k in ("cond", "body", "carries", "maximum")})
    size = graph.sizes.fresh()
    graph.rooms.append((size, trips))

    def step(*given: Tensor) -> list[Tensor]:
        """The body while there are trips left; then nothing changes."""
        carry, i = given[:-1], given[-1]
        inside = [*carry, *(apply("identity", t) for t in captured)]
        left = apply("less", i, apply("identity", trips))
        index = cast_to(apply("logical_not", left), _INT64)
        assert index.graph is not None
        over = Body(*trace_body(index.graph, [t.spec for t in inside], lambda *values: values[:carries]))
        return [*apply_all("switch", index, *inside, branches=(op.attrs["body"], over)), i + 1]

    inner, inputs, outputs = trace_body(graph, [*(t.spec for t in init), Spec(_INT64, ())], step)
    masked, outer = closed(inner, inputs, outputs)
    start = [*init, as_node(graph, np.int64(0))]

    def keep(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        more = Body(inner, masked.inputs, (*outputs, *tensors))
        return apply_all("scan", *start, *outer, body=more, carries=carries + 1, rows=0, length=size, reverse=False,
                         extends=None)[carries + 1:]

    answers = pull(masked, start, outer, keep, [*cts, None], size)
    known = dict(zip(outer, answers[carries + 1:], strict=True))
    return [*answers[:carries], *(known.pop(t, None) for t in captured)]


def _make_room(outside: Graph, size: Size, most: Tensor) -> None:
    """Let a size be a number that is known in `outside`: at once, or when what is around `outside` is complete."""
    if outside.outer is not None:
        outside.rooms.append((size, most))
    else:
        outside.sizes.count(size, apply("as_size", most, binds=CountedSize(size)))


def rooms_of_scan(outside: Graph, body: Body, carries: int, stacked: Sequence[Tensor], outer: Sequence[Tensor],
                  **attrs: Any) -> None:
    """Find the room that loops in a scan's body need: the most trips in any of its steps."""
    graph = body.graph
    for size, trips in graph.rooms:
        with graph.as_default():
            most = graph.add(OPS["placeholder"], (), {}, (trips.spec,), "most").outputs[0]
            more = apply("maximum", most, trips)
        read = _read(more)
        if not read.isdisjoint(body.inputs[:carries]):
            raise GradientError(f"while_loop: a derivative is taken inside a loop, through another one whose number of "
                                f"trips depends on it{at(trips.op.where)}; "  # type: ignore[union-attr]
                                f"use ng.scan or ng.fori_loop for the inner loop, or forward mode")
        given = [*stacked, *outer]
        needed = [k for k, t in enumerate(body.inputs[carries:]) if t in read]
        counting = Body(graph, [most, *(body.inputs[carries + k] for k in needed)], [more])
        rows = sum(1 for k in needed if k < len(stacked))
        found = apply_all("scan", as_node(outside, np.int64(0)), *(given[k] for k in needed), body=counting, carries=1,
                          rows=rows, extends=None, **attrs)
        _make_room(outside, size, found[0])


def rooms_of_switch(outside: Graph, index: Tensor, operands: Sequence[Tensor], branches: Sequence[Body]) -> None:
    """Find the room that loops in branches need: their trips where the branch is taken."""
    for chosen in branches:
        for size, trips in chosen.graph.rooms:
            read = _read(trips)
            needed = [i for i, t in enumerate(chosen.inputs) if t in read]
            counting = []
            for branch in branches:
                with branch.graph.as_default():
                    count = trips if branch is chosen else as_node(branch.graph, np.int64(0))
                counting.append(Body(branch.graph, [branch.inputs[i] for i in needed], [count]))
            found = apply_all("switch", index, *(operands[i] for i in needed), branches=tuple(counting))
            _make_room(outside, size, found[0])


def _read(*tensors: Tensor) -> set[Tensor]:
    """The placeholders that tensors depend on, and the tensors themselves."""
    return {t for op in ancestors(tensors) if op.type == "placeholder" for t in op.outputs} | set(tensors)

"""Iterative walks over graphs: what lies between tensors, who consumes what, and a stable order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from numgrad.graph.core import Operation, Tensor
from numgrad.types import Size

_NOTHING: Mapping[Any, Collection[Tensor]] = {}

__all__ = ["along", "ancestors", "between", "consumers"]


def ancestors(tensors: Iterable[Tensor], stop: Callable[[Tensor], bool] | None = None) -> list[Operation]:
    """The operations that `tensors` depend on, in the order in which they were made.

    `stop(tensor)` true means that the tensor's own operation is not entered.
    """
    seen: set[Operation] = set()
    stack = [t for t in tensors if t.op is not None]
    while stack:
        tensor = stack.pop()
        op = tensor.op
        if op is None or op in seen or (stop is not None and stop(tensor)):
            continue
        seen.add(op)
        stack.extend(op.inputs)
        if op.graph.sizes.counted and (op.dynamic or op.record.facts.get("bodies")):
            stack.extend(_sources(op))
        for control in op.control_inputs:
            if control not in seen and control.outputs:
                stack.append(control.outputs[0])
    return sorted(seen, key=lambda op: op.number)


def _sources(op: Operation) -> list[Tensor]:
    """The counts of the same graph from which sizes take their values, among an operation's attributes or in bodies."""
    found: list[Tensor] = []
    pending, graphs = [op], {op.graph}
    while pending:
        for value in pending.pop().attrs.values():
            for part in value if isinstance(value, tuple) else (value,):
                graph = getattr(part, "graph", None)
                if isinstance(part, Size):
                    found.extend(symbol.source for symbol in part.symbols() if symbol.source is not None)
                elif graph is not None and graph not in graphs:
                    graphs.add(graph)
                    pending.extend(o for o in graph.operations if o.dynamic or o.record.facts.get("bodies"))
    return [source for source in found if source.op is not None and source.op.graph is op.graph]


def consumers(operations: Iterable[Operation]) -> dict[Tensor, list[Operation]]:
    """For each tensor, the operations among `operations` that read it."""
    readers: dict[Tensor, list[Operation]] = {}
    for op in operations:
        for tensor in op.inputs:
            readers.setdefault(tensor, []).append(op)
    return readers


def between(ys: Sequence[Tensor], xs: Sequence[Tensor], crosses: Callable[[Tensor], bool],
            stopped: frozenset[Operation] = frozenset()) -> tuple[list[Operation], set[Tensor]]:
    """The operations on paths from `xs` to `ys`, in order, and the tensors that depend on `xs`.

    A path goes only through tensors for which `crosses` is true, and ends at operations in `stopped`.
    """
    return along(ancestors(ys), ys, xs, crosses, stopped)


def along(order: Iterable[Any], ys: Sequence[Tensor], xs: Sequence[Tensor], crosses: Callable[[Tensor], bool],
          stopped: frozenset[Operation] = frozenset(),
          constant: Mapping[Any, Collection[Tensor]] = _NOTHING) -> tuple[list[Any], set[Tensor]]:
    """`between` for operations given in their order, which holds all that `ys` depend on.

    `constant` names inputs of operations through which no path goes.
    """
    reached: set[Tensor] = {x for x in xs if crosses(x)}
    forward: list[Any] = []
    for op in order:
        if stopped and op in stopped:
            continue
        for tensor in op.inputs:
            if tensor in reached and not (constant and tensor in constant.get(op, ())):
                forward.append(op)
                for output in op.outputs:
                    if crosses(output):
                        reached.add(output)
                break
    wanted = {t for t in ys if t in reached}
    result: list[Any] = []
    for op in reversed(forward):
        for tensor in op.outputs:
            if tensor in wanted:
                result.append(op)
                wanted.update([t for t in op.inputs if t in reached and not (constant and t in constant.get(op, ()))])
                break
    result.reverse()
    return result, reached & wanted

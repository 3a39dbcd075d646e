"""What a scan's body computes anew in every step though nothing that it reads changes: computed before the loop."""

from __future__ import annotations

from collections.abc import Sequence

from numgrad.graph.body import Body
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.walk import ancestors

__all__ = ["invariants", "with_inputs"]

#: Elementwise operations that cost less where they are fused than their results cost to be read from memory.
_CHEAP = frozenset(
    "add subtract multiply negative cast abs square conj real imag make_complex minimum maximum where less less_equal "
    "greater greater_equal equal not_equal logical_and logical_or logical_not logical_xor identity stop_gradient "
    "prevent_gradient positive sign zeros_like ones_like".split()
)


def invariants(body: Body, moving: int) -> list[Tensor]:
    """The tensors of a body that are worth computing before the loop, given that its first `moving` inputs change.

    They depend on the other inputs alone, cost more than a few additions or are single numbers, and are no views of
    what is there anyway. What could fail is left where it is: the loop may have no steps.
    """
    given = dict.fromkeys(body.inputs)
    steady = dict.fromkeys(body.inputs[moving:], False)  # -> whether computing it takes more than reading it
    order = [op for op in ancestors(body.outputs, stop=given.__contains__) if op.outputs and op.outputs[0] not in given]
    free: set[Tensor] = set()  # constants and the like, which depend on nothing
    for op in order:
        if not op.inputs:
            free.update(op.outputs)
        elif all(t in steady or t in free for t in op.inputs) and _can_move(op) and any(t in steady for t in op.inputs):
            dear = not _is_view(op) and (op.type not in _CHEAP or not op.outputs[0].shape)
            steady.update(dict.fromkeys(op.outputs, dear or any(steady.get(t, False) for t in op.inputs)))
    found: dict[Tensor, None] = {}
    for op in order:
        if op.outputs[0] not in steady:
            found.update(dict.fromkeys(_source(t, given) for t in op.inputs if steady.get(t, False)))
    found.update(dict.fromkeys(_source(t, given) for t in body.outputs if steady.get(t, False)))
    return [t for t in found if t not in given]


def with_inputs(body: Body, more: Sequence[Tensor]) -> Body:
    """A body that is given some of the tensors which it would compute."""
    return Body(body.graph, [*body.inputs, *more], body.outputs)


def _can_move(op: Operation) -> bool:
    record = op.record
    if record.kind == "effect" or op.type == "recompute_point" or any(record.facts.get(f) for f in ("bodies", "host")):
        return False
    return record.library is None or not record.library.status


def _is_view(op: Operation) -> bool:
    return op.record.view is not None


def _source(tensor: Tensor, given: dict[Tensor, None]) -> Tensor:
    """What a view is a view of: it is read as such in the body, and needs no memory of its own."""
    while tensor not in given and tensor.op is not None and _is_view(tensor.op):
        tensor = tensor.op.inputs[0]
    return tensor

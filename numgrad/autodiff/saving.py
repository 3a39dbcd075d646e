"""What the loop that goes back reads of the loop that went forward: states, or what was read of arrays in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numgrad.graph.body import Body
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.graph.walk import ancestors

__all__ = ["into_rows", "read_again", "read_of_arrays"]

_UPDATES = ("set_rows", "add_rows", "reshape")


def read_of_arrays(body: Body, carries: int) -> dict[Tensor, list[Tensor]]:
    """For each carried array that a loop's body only updates by rows, what operations make directly of it.

    These are the elements that the body reads: with them at hand, going back needs none of the array.
    """
    order = ancestors(body.outputs)
    arrays: dict[Tensor, list[Tensor]] = {}
    for k in range(carries):
        array = body.inputs[k]
        if not _is_updated(body.outputs[k], array):
            continue
        found: dict[Tensor, None] = {}
        same = {array}
        for op in order:
            if any(t in same for t in op.inputs):
                updates = op.type in _UPDATES and op.inputs[0] in same and not any(t in same for t in op.inputs[1:])
                if updates:
                    same.add(op.outputs[0])
                else:
                    found.update(dict.fromkeys(op.outputs))
        arrays[array] = list(found)
    return arrays


def _is_updated(tensor: Tensor, array: Tensor) -> bool:
    """Whether `tensor` is `array` with some rows written."""
    if tensor is array:
        return False
    while tensor is not array:
        op = tensor.op
        if op is None or op.type not in _UPDATES:
            return False
        tensor = op.inputs[0]
    return True


def read_again(outputs: Sequence[Tensor], states: Mapping[Tensor, Tensor],
               arrays: Mapping[Tensor, Mapping[Tensor, Tensor]]) -> dict[Tensor, Tensor]:
    """What to keep of each step, and the tensors behind `outputs` that it stands for on the way back.

    `states` are the loop's variables, `arrays` what was read of those that are only updated by rows. Of an array that
    is needed itself nothing else is kept.
    """
    left = dict(arrays)
    while True:
        known = {**states, **{t: inner for reads in left.values() for t, inner in reads.items()}}
        stops = set(known.values())
        reached = set(outputs)
        for op in ancestors(outputs, stop=stops.__contains__):
            reached.update(op.inputs)
        whole = [array for array in left if states[array] in reached]
        if not whole:
            return {t: inner for t, inner in known.items() if inner in reached}
        for array in whole:
            del left[array]


def into_rows(total: Tensor) -> Tensor:
    """A sum whose terms are partly updates scattered into zeros, as one array to whose rows the updates are added."""
    dense: list[Tensor] = []
    scattered: list[Operation] = []
    pending = [total]
    while pending:
        tensor = pending.pop()
        op = tensor.op
        if op is not None and op.type in ("add", "add_n") and op.graph is total.graph and not op.device \
                and all(t.dtype == total.dtype and t.ndim == total.ndim for t in op.inputs):
            pending.extend(reversed(op.inputs))
        elif op is not None and op.type == "scatter_add" and not op.attrs["axis"] and op.graph is total.graph:
            scattered.append(op)
        else:
            dense.append(tensor)
    if not dense or not scattered:
        return total
    result = dense[0] if len(dense) == 1 else apply("add_n", *dense)
    for op in scattered:
        result = apply("add_rows", result, op.inputs[0], op.inputs[1])
    return result

"""What the loop that goes back reads of the loop that went forward.

That is states, what was read of arrays in them, and results that are dear to compute again: products and factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from numgrad.graph.body import Body
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.graph.walk import ancestors
from numgrad.types import Dim

__all__ = ["dear_results", "into_rows", "read_again", "read_of_arrays"]

#: An array kept of each step has at most so many times the elements that the states have, where that is known.
MOST_KEPT = 8
FEW_TERMS = 2  # products that sum no more are as cheap as elementwise functions

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


def dear_results(body: Body, carries: int, rows: int) -> list[Tensor]:
    """What a loop's body computes with many operations an element: products, factors and solutions of matrices.

    They change from step to step, and are not of a larger kind than the states are.
    """
    changing = set(body.inputs[:carries + rows])
    sizes = [_extent(t) for t in body.inputs[:carries]]
    unknown = max((u for u, _ in sizes), default=0)
    most = MOST_KEPT * sum(count for u, count in sizes if u == unknown)
    found = []
    for op in ancestors(body.outputs):
        if changing.isdisjoint(op.inputs):
            continue
        changing.update(op.outputs)
        if _is_dear(op):
            found += [t for t in op.outputs if (extent := _extent(t))[0] < unknown
                      or (extent[0] == unknown and extent[1] <= most)]
    return found


def _is_dear(op: Operation) -> bool:
    """Whether an operation takes more than a few operations for each element of its results."""
    library = op.record.library
    if library is None or library.flops is None or op.type in _UPDATES:
        return False
    if op.type != "matmul":
        return True
    inner: Dim = op.inputs[0].shape[-2 if op.attrs["transpose_a"] else -1]
    return not isinstance(inner, int) or inner > FEW_TERMS


def _extent(tensor: Tensor) -> tuple[int, int]:
    """How many of an array's sizes are unknown, and the product of the others."""
    known = [d for d in tensor.shape if isinstance(d, int)]
    return tensor.ndim - len(known), int(np.prod(known, dtype=np.int64))


def read_again(outputs: Sequence[Tensor], states: Mapping[Tensor, Tensor],
               arrays: Mapping[Tensor, Mapping[Tensor, Tensor]], dear: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """What to keep of each step, and the tensors behind `outputs` that it stands for on the way back.

    `states` are the loop's variables, `arrays` what was read of those that are only updated by rows, `dear` what is
    rather kept than computed again. Of an array that is needed itself nothing else is kept.
    """
    left = dict(arrays)
    while True:
        known = {**states, **dear, **{t: inner for reads in left.values() for t, inner in reads.items()}}
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

"""Loops and branches as ops: their shapes and their meaning; bodies are attributes, what these read are inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.body import Body
from numgrad.graph.core import apply, as_tensor
from numgrad.ops.kinds import cast_to, define
from numgrad.types import Dim, Size, Spec, canonical_shape

__all__ = ["CountedSize", "infer_scan", "infer_switch", "infer_while", "known_shape", "run_count", "run_scan",
           "run_switch", "run_while", "size_of_value"]


class CountedSize:
    """A size that a trip count gives its value when the program runs."""

    __slots__ = ("size",)

    def __init__(self, size: Any) -> None:
        self.size = size


def _run_as_size(value: Any, binds: CountedSize) -> Any:
    if value < 0:
        raise ShapeError(f"as_size: an array would have the size {value}; wanted at least 0{at(user_line())}")
    return value


define("as_size", "general", lambda specs, attrs: tuple(specs), _run_as_size, smooth=False,
       decompose=lambda value, binds: apply("identity", value),
       doc="An integer that becomes the size of an axis when the program runs.")


def size_of_value(value: Any, what: str) -> Dim:
    """An integer, a size or a scalar integer tensor as a size; a traced tensor gives its value when the program runs.

    Raises DtypeError for anything else, ShapeError for a negative number and for a value that is known only inside a
    loop or branch.
    """
    if isinstance(value, Size):
        return value
    tensor = as_tensor(value)
    if tensor.dtype.kind not in "iu" or tensor.ndim:
        raise DtypeError(f"{what}: the size is {tensor.spec}, wanted a scalar integer{at(user_line())}")
    if tensor._value is not None:
        if tensor._value < 0:
            raise ShapeError(f"{what}: the size is {int(tensor._value)}, wanted at least 0{at(user_line())}")
        return int(tensor._value)
    graph = tensor.graph
    assert graph is not None
    if graph.outer is not None:
        raise ShapeError(f"{what}: the size {tensor!r} is known only inside a loop or branch{at(user_line())}; make "
                         f"the array around it, with a size that is known there")
    for symbol in graph.sizes.counted:
        if symbol.source.op.type == "as_size" and symbol.source.op.inputs[0] is tensor:
            return Size((((symbol,), 1),))
    with graph.as_default():
        size = graph.sizes.fresh()
        graph.sizes.count(size, apply("as_size", cast_to(tensor, np.int64), binds=CountedSize(size)))
    return size


def infer_scan(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    """The carries, then the stacked rows."""
    body, carries = attrs["body"], attrs["carries"]
    rows = [t.spec for t in body.outputs[carries:]]
    return (*specs[:carries], *(Spec(r.dtype, canonical_shape((attrs["length"], *r.shape))) for r in rows))


def run_scan(*values: Any, body: Body, carries: int, rows: int, length: int, reverse: bool,
             sizes: dict[Any, int], extends: Any = None, checkpoint: Any = "all", serves: Any = None,
             places: Sequence[int] = ()) -> tuple[Any, ...]:
    """Evaluate a scan: the body once for each row, in order or from the last.

    `extends`, `serves`, `places` and `checkpoint` matter to compiled programs and to derivatives.
    """
    carry, given, captured = list(values[:carries]), values[carries:carries + rows], values[carries + rows:]
    stacked = [np.empty((length, *known_shape(t, sizes)), t.dtype) for t in body.outputs[carries:]]
    for i in reversed(range(length)) if reverse else range(length):
        found = body.evaluate([*carry, *(x[i] for x in given), *captured], sizes)
        carry = found[:carries]
        for stack, row in zip(stacked, found[carries:], strict=True):
            stack[i] = row
    return (*(np.array(c) for c in carry), *stacked)


def known_shape(tensor: Any, sizes: dict[Any, int]) -> tuple[int, ...]:
    """A tensor's shape, given the values of unknown sizes."""
    return tuple(d if isinstance(d, int) else d.evaluate(sizes) for d in canonical_shape(tensor.shape))


def infer_while(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    """The loop variables."""
    return tuple(specs[:attrs["carries"]])


def _trips(values: Sequence[Any], cond: Body, body: Body, carries: int, maximum: int | None,
           sizes: dict[Any, int]) -> tuple[list[Any], int]:
    carry, captured, count = list(values[:carries]), values[carries:], 0
    while (maximum is None or count < maximum) and bool(cond.evaluate([*carry, *captured], sizes)[0]):
        carry = body.evaluate([*carry, *captured], sizes)
        count += 1
    return carry, count


def run_while(*values: Any, cond: Body, body: Body, carries: int, maximum: int | None,
              sizes: dict[Any, int], checkpoint: Any = "all", serves: Any = None,
              places: Sequence[int] = ()) -> tuple[Any, ...]:
    """Evaluate a loop of unknown length: its variables when the condition fails."""
    return tuple(np.array(c) for c in _trips(values, cond, body, carries, maximum, sizes)[0])


def run_count(*values: Any, cond: Body, body: Body, carries: int, maximum: int | None, sizes: dict[Any, int],
              binds: CountedSize | None = None, checkpoint: Any = "all") -> Any:
    """How often a loop of unknown length runs its body."""
    return np.int64(_trips(values, cond, body, carries, maximum, sizes)[1])


def infer_switch(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    """The first branch's outputs; all branches agree."""
    return tuple(t.spec for t in attrs["branches"][0].outputs)


def run_switch(index: Any, *values: Any, branches: tuple[Body, ...], sizes: dict[Any, int]) -> tuple[Any, ...]:
    """Evaluate the branch of an index; one that is out of range takes the last."""
    k = int(index)
    chosen = branches[k if 0 <= k < len(branches) else len(branches) - 1]
    return tuple(np.array(v) for v in chosen.evaluate(values, sizes))


def length_of(specs: Sequence[Spec]) -> Dim | None:
    """The common first size of the rows of a scan, or None without rows."""
    return specs[0].shape[0] if specs else None

"""What tapes keep: the operations that depend on watched tensors, in order, and the sweep back over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from numgrad.autodiff.aggregate import AggregationMethod, add_n
from numgrad.autodiff.reverse import walk_back
from numgrad.autodiff.slices import IndexedSlices, dense
from numgrad.errors import SourceLine, user_line
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, OpRecord
from numgrad.graph.scopes import backward_of, start, stop
from numgrad.graph.walk import along
from numgrad.types import is_trainable

__all__ = ["Recorded", "Recording", "gradients_through", "recorded"]

_NOWHERE: AbstractContextManager[None] = nullcontext()


class Recorded:
    """An eager operation as derivative rules see it: the same fields as an `Operation`, and no graph."""

    __slots__ = ("attrs", "inputs", "outputs", "record", "where")
    graph: Graph | None = None
    override: str | None = None
    device = ""
    control_inputs: tuple[Operation, ...] = ()

    def __init__(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                 attrs: dict[str, Any], where: SourceLine | None) -> None:
        self.record, self.inputs, self.outputs, self.attrs, self.where = record, inputs, outputs, attrs, where

    @property
    def type(self) -> str:
        """The op's name in the op table."""
        return self.record.name

    name = type


def recorded(record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    """The operation that was just made: a node where it is one, else a `Recorded`."""
    operation = outputs[0].op
    # Between here and the user are at least a recorder, `tell` and what tells.
    return operation if operation is not None else Recorded(record, inputs, outputs, attrs, user_line(4))


class Recording:
    """The operations that depend on watched tensors, eager ones and nodes of graphs alike."""

    __slots__ = ("operations", "tracked")

    def __init__(self) -> None:
        self.operations: list[Any] = []
        self.tracked: dict[Tensor, int] = {}  # each with the number of operations before it counted

    def watch(self, tensor: Tensor) -> None:
        """Record what is computed from a tensor from now on; a no-op for integers, which have no derivatives."""
        if is_trainable(tensor.dtype):
            self.tracked.setdefault(tensor, len(self.operations))

    def read(self, variable: Any, handle: Tensor) -> None:
        """Reads are operations on the variable's handle, and handles are watched like any tensor."""

    def follows(self, tensor: Tensor) -> bool:
        """Whether operations on a tensor are kept."""
        return tensor in self.tracked

    def operation(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                  attrs: dict[str, Any]) -> None:
        """Keep the operation if it depends on what is watched."""
        tracked = self.tracked
        for tensor in inputs:
            if tensor in tracked:
                break
        else:
            return
        operation: Any = outputs[0].op
        if operation is None:  # between here and the user are at least `tell` and what tells
            operation = Recorded(record, inputs, outputs, attrs, user_line(3))
        else:
            self._follow_captures(inputs, operation)
        self.operations.append(operation)
        for tensor in outputs:
            if tensor.dtype.kind in "fc":
                tracked[tensor] = 0

    def _follow_captures(self, inputs: tuple[Tensor, ...], operation: Operation) -> None:
        """Where a watched tensor entered a graph, let the node that stands for it there be an identity of it."""
        for given, node in zip(inputs, operation.inputs, strict=True):
            if given is not node and given in self.tracked and node not in self.tracked:
                self.operations.append(Recorded(OPS["identity"], (given,), (node,), {}, operation.where))
                self.tracked[node] = 0

    def sweep(self, ys: Sequence[Tensor], xs: Sequence[Tensor]) -> Sweep:
        """The recorded operations between xs and ys."""
        return Sweep(self, ys, xs)

    def gradients(self, ys: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Tensor | None], *,
                  rows: bool = True, release: bool = False) -> list[Tensor | IndexedSlices | None]:
        """The sum over ys of the derivatives with respect to each x; `rows` keeps gradients of gathers row-sparse.

        With `release` the recording is used up, and frees its memory on the way.
        """
        sweep = Sweep(self, ys, xs)
        if release:
            self.operations.clear()
            self.tracked.clear()
        return sweep.gradients(cotangents, rows=rows, release=release)


class Sweep:
    """The way back from ys to xs over a recording; it can be gone more than once.

    An x that is not watched has a gradient only as a y. What happened before an x was watched does not count for it.
    """

    def __init__(self, recording: Recording, ys: Sequence[Tensor], xs: Sequence[Tensor]) -> None:
        self.ys, self.xs = ys, xs
        tracked = recording.tracked
        self.followed = [x for x in xs if x in tracked]
        self.constant: dict[Any, set[Tensor]] = {}
        late = {x: tracked[x] for x in self.followed if tracked[x]}
        for number, operation in enumerate(recording.operations[:max(late.values(), default=0)]):
            early = {x for x in operation.inputs if late.get(x, 0) > number}
            if early:
                self.constant[operation] = early
        self.path, self.reached = along(recording.operations, ys, self.followed, lambda t: t.dtype.kind in "fc",
                                        constant=self.constant)

    def gradients(self, cotangents: Sequence[Tensor | None], *, rows: bool,
                  release: bool = False) -> list[Tensor | IndexedSlices | None]:
        """The sum over ys of the derivatives with respect to each x; `rows` keeps gradients of gathers row-sparse.

        With `release` the way can be gone no more.
        """
        gradients = walk_back(self.path, self._taken() if release else self.reached, self.ys, self.followed, cotangents,
                              AggregationMethod.AUTO, _around, rows=rows, constant=self.constant, release=release)
        found = dict(zip(self.followed, gradients, strict=True))
        return [found[x] if x in found else _own(x, self.ys, cotangents) for x in self.xs]

    def _taken(self) -> set[Tensor]:
        """What was reached, kept alive by nobody else."""
        reached, self.reached = self.reached, set()
        return reached


def _around(operation: Any) -> AbstractContextManager[Any]:
    return _NOWHERE if operation.graph is None else backward_of(operation, colocate=False)


def _own(x: Tensor, ys: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> Tensor | None:
    terms = [ct for y, ct in zip(ys, cotangents, strict=True) if y is x and ct is not None]
    return add_n(terms) if terms else None


def gradients_through(function: Callable[[], Sequence[Tensor | None]], xs: Sequence[Tensor],
                      cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Run `function`, eagerly, and pull back a cotangent for each of its results to xs."""
    recording = Recording()
    for x in xs:
        recording.watch(x)
    start(recording)
    try:
        results = function()
    finally:
        stop(recording)
    pairs = [(y, ct) for y, ct in zip(results, cotangents, strict=True) if y is not None and ct is not None]
    found = recording.gradients([y for y, _ in pairs], xs, [ct for _, ct in pairs], rows=False)
    return [g if g is None else dense(g) for g in found]

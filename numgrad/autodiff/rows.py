"""Jacobians of recordings: the sweep back for many rows of cotangents at once, or for one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from numgrad.autodiff.batching import UNROLLED, basis, batched, repeats, seed, spread
from numgrad.autodiff.recording import Recording
from numgrad.autodiff.slices import dense
from numgrad.errors import NumgradError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all, as_tensor, state
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import heard_by, source_line
from numgrad.graph.walk import ancestors
from numgrad.types import Dim, is_trainable, size_product

__all__ = ["batch_jacobian_of", "jacobian_of"]

BATCH_BYTES = 1 << 28  # what the values computed from one batch of rows may take

# rows(first, count) -> cotangents, one along the first axis for each row
Rows = Callable[[int, int], Tensor]


def jacobian_of(recording: Recording, y: Tensor, xs: Sequence[Tensor], at_a_time: int | None,
                batch: bool) -> list[Tensor | None]:
    """``dy/dx`` for each x, of shape ``y.shape + x.shape``; None where there is no path."""
    shape = y.spec.shape

    def units(first: int, count: int) -> Tensor:
        return as_tensor(np.eye(count, int(size_product(shape)), first, dtype=y.dtype).reshape(count, *shape))

    found = _rows(recording, y, xs, size_product(shape), units, at_a_time, batch)
    return [g if g is None else apply("reshape", g, shape=(*shape, *x.spec.shape))
            for g, x in zip(found, xs, strict=True)]


def batch_jacobian_of(recording: Recording, y: Tensor, x: Tensor, at_a_time: int | None, batch: bool) -> Tensor | None:
    """``dy[k]/dx[k]`` for each k, of shape ``y.shape + x.shape[1:]``; None where there is no path."""
    shape = y.spec.shape
    length, width = shape[0], size_product(shape[1:])

    def units(first: int, count: int) -> Tensor:
        unit = np.eye(count, int(width), first, dtype=y.dtype).reshape(count, 1, *shape[1:])
        return apply("broadcast_to", as_tensor(unit), shape=(count, *shape))

    found = _rows(recording, y, [x], width, units, at_a_time, batch)[0]
    if found is None:
        return None
    whole = apply("permute_dims", found, axes=(1, 0, *range(2, 1 + x.ndim)))
    return apply("reshape", whole, shape=(length, *shape[1:], *x.spec.shape[1:]))


def _rows(recording: Recording, y: Tensor, xs: Sequence[Tensor], count: Dim, units: Rows, at_a_time: int | None,
          batch: bool) -> list[Tensor | None]:
    """For each x the gradients for all cotangents of `units`, along a new first axis."""
    if not is_trainable(y.dtype):
        return [None] * len(xs)
    if not isinstance(count, int):
        if not batch:
            raise ShapeError(f"jacobian: the target has {count} rows, a number that is known only when the program "
                             f"runs; leave experimental_use_pfor on{at(user_line())}")
        return _batched_node(recording, y, xs)
    try:
        sweep = _Sweep(recording, y, xs) if batch and count else None
        if sweep is not None and state.recorders and not sweep.recordable:
            sweep = None
        rows = min(count, at_a_time or count)
        if sweep is not None and y.op is None:
            rows = min(rows, sweep.rows_at_most)
        parts = [_part(recording, y, xs, units(lo, min(rows, count - lo)), sweep)
                 for lo in range(0, count, max(rows, 1))]
    except (NumgradError, NotImplementedError) as error:
        if not batch or isinstance(error, LookupError):
            raise
        raise ValueError(f"jacobian: an operation cannot be differentiated for several rows at once; pass "
                         f"experimental_use_pfor=False: {error}") from error
    if not parts:
        reached = recording.sweep([y], xs).reached
        return [_conjugate(apply("zeros_like", apply("broadcast_to", x, shape=(0, *x.spec.shape))))
                if x in reached else None for x in xs]
    whole = [None if column[0] is None else column[0] if len(column) == 1 else apply("concat", *column, axis=0)
             for column in zip(*parts, strict=True)]
    return [None if g is None else _conjugate(g) for g in whole]


def _conjugate(rows: Tensor) -> Tensor:
    """A pull gives the conjugate of a row."""
    return apply("conj", rows) if rows.dtype.kind == "c" else rows


def _part(recording: Recording, y: Tensor, xs: Sequence[Tensor], cotangents: Tensor,
          sweep: _Sweep | None) -> list[Tensor | None]:
    if sweep is not None:
        return sweep(cotangents)
    way = recording.sweep([y], xs)
    pulled = [way.gradients([cotangents[i]], rows=False)  # type: ignore[index]
              for i in range(cotangents.shape[0])]  # type: ignore[arg-type]
    return [None if column[0] is None else apply("stack", *map(dense, column), axis=0)
            for column in zip(*pulled, strict=True)]


def _batched_node(recording: Recording, y: Tensor, xs: Sequence[Tensor]) -> list[Tensor | None]:
    """As many rows as y turns out to have, as one node."""
    cotangent = seed(y)
    pulled = [g if g is None else dense(g) for g in recording.gradients([y], xs, [cotangent], rows=False)]
    connected = [g for g in pulled if g is not None]
    rows = basis(y)
    found = iter(batched(connected, {cotangent: rows}) if connected else [])
    return [None if g is None else _conjugate(_or_spread(next(found), g, rows)) for g in pulled]


def _or_spread(rows: Tensor | None, gradient: Tensor, cotangents: Tensor) -> Tensor:
    """Rows of a gradient; where it does not depend on the cotangent, as with `sign`, it is every row."""
    return rows if rows is not None else spread(gradient, cotangents.spec.shape[0])


class _Sweep:
    """The sweep back from y to xs, built once for a cotangent without a value, and run for batches of them."""

    def __init__(self, recording: Recording, y: Tensor, xs: Sequence[Tensor]) -> None:
        self.in_graph = y.op is not None
        self.graph = y.op.graph if y.op is not None else Graph()
        if self.in_graph:
            self._build(recording, y, xs)
            self.fixed: dict[Tensor, Tensor] = {}
            return
        with self.graph.as_default(), heard_by(()):  # a plan: what it computes is heard when it is run
            self._build(recording, y, xs)
        self.fixed = {node: tensor for tensor, node in self.graph.captured.values()}

    def _build(self, recording: Recording, y: Tensor, xs: Sequence[Tensor]) -> None:
        self.cotangent = seed(y)
        found = recording.gradients([y], xs, [self.cotangent], rows=False)
        self.gradients = [g if g is None else dense(g) for g in found]
        self.outputs = [g for g in self.gradients if g is not None]
        order = ancestors(self.outputs, stop=lambda t: t is self.cotangent)
        moving = {self.cotangent}
        self.fixed_operations: list[Operation] = []
        moved: list[Operation] = []
        for op in order:
            if any(t in moving for t in op.inputs):
                moving.update(op.outputs)
                moved.append(op)
            elif op.type != "cotangent_seed":
                self.fixed_operations.append(op)
        # What eager loops and branches do in their bodies cannot be recorded from outside.
        self.recordable = self.in_graph or not any(op.record.facts.get("bodies") for op in order)
        bytes_a_row = sum(_bytes(t) for op in moved for t in op.outputs)
        self.rows_at_most = max(1, BATCH_BYTES // max(1, bytes_a_row))
        if repeats(moved):
            self.rows_at_most = min(self.rows_at_most, UNROLLED)

    def _run_what_is_fixed(self) -> None:
        """Compute what does not depend on the cotangent, once, from the recorded tensors."""
        operations, self.fixed_operations = self.fixed_operations, []
        for op in operations:
            if op.outputs[0] in self.fixed:
                continue
            if op.type == "constant":
                self.fixed[op.outputs[0]] = as_tensor(op.attrs["value"])
                continue
            with source_line(op.where):
                made = apply_all(op.type, *[self.fixed[t] for t in op.inputs], **op.attrs)
            self.fixed.update(zip(op.outputs, made, strict=True))

    def __call__(self, cotangents: Tensor) -> list[Tensor | None]:
        if not self.in_graph:
            self._run_what_is_fixed()
        found = iter(batched(self.outputs, {self.cotangent: cotangents}, self.fixed) if self.outputs else [])
        return [None if g is None else _or_spread(next(found), self.fixed.get(g, g), cotangents)
                for g in self.gradients]


def _bytes(tensor: Tensor) -> int:
    size = size_product(tensor.spec.shape)
    return size * tensor.dtype.itemsize if isinstance(size, int) else 0

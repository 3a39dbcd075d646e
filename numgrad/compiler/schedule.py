"""From groups to steps: what is stored, what is recomputed, and in which order it all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgrad.compiler.access import Access, aligned, contiguous_strides, is_identity, space_key, space_of
from numgrad.compiler.fusion import Fuser, Group, is_small_constant
from numgrad.compiler.nest import Instruction, Nest, Reduction, Ref, Store, collapse
from numgrad.compiler.rewrite import Lowered, Node, Value
from numgrad.types import Shape, size_product

__all__ = ["LibraryStep", "Schedule", "schedule"]


@dataclass
class LibraryStep:
    """A call of a hand-written kernel."""

    node: Node

    def roots_read(self) -> list[Value]:
        """The values whose buffers are read."""
        return list(self.node.inputs)

    def roots_written(self) -> list[Value]:
        """The values whose buffers are written."""
        return list(self.node.outputs)


@dataclass
class Schedule:
    """Steps in order, the values that programs take and give, and for each library input the buffer it stands for."""

    steps: list[Nest | LibraryStep]
    inputs: list[Value]
    outputs: list[Value]
    roots: dict[Value, Value]
    lowered: Lowered


def schedule(lowered: Lowered) -> Schedule:
    """Fuse a lowered program and put its steps in order."""
    fuser = Fuser(lowered)
    needed: set[Value] = set(fuser.outputs)
    blocks: list[list[Nest | LibraryStep]] = []
    for group in reversed(fuser.groups):
        if group.single is not None:
            if any(v in needed for v in group.single.outputs):
                blocks.append(_single(fuser, group.single, needed))
        else:
            stored = [v for v in group.members if v in needed]
            reduced = [n for n in group.reductions if n.outputs[0] in needed]
            if stored or reduced:
                blocks.append([_Builder(fuser, group, needed).nest(stored, reduced)])
    steps = [step for block in reversed(blocks) for step in block]
    for step in steps:
        if isinstance(step, Nest):
            collapse(step)
    roots = {v: fuser.accesses[v].root for v in fuser.accesses}
    return Schedule(steps, lowered.inputs, fuser.outputs, roots, lowered)


def _single(fuser: Fuser, node: Node, needed: set[Value]) -> list[Nest | LibraryStep]:
    if node.record.regions is not None:
        return list(_regions(fuser, node, needed))
    if node.record.name == "iota":
        value = node.outputs[0]
        index = Instruction("cast", (("index", 0),), value.dtype, {"dtype": value.dtype})
        return [Nest(value.shape, "O", [], [index], [Store(("value", 0), Access(value, 0, (1,)))], [], node.where)]
    needed.update(fuser.accesses[v].root for v in node.inputs)
    return [LibraryStep(node)]


def _regions(fuser: Fuser, node: Node, needed: set[Value]) -> list[Nest]:
    """A nest for each input that copies it to its place, after one that fills the output with zeros where needed."""
    regions, output = node.record.regions, node.outputs[0]
    assert regions is not None
    strides = contiguous_strides(output.shape)
    result = []
    if regions.fill:
        space: Shape = (size_product(output.shape),)
        zero: Ref = ("number", (0, output.dtype))
        result.append(Nest(space, "O", [], [], [Store(zero, Access(output, 0, (1,)))], [], node.where))
    places = regions.place([v.spec for v in node.inputs], output.spec, node.attrs, strides)
    for value, (offset, target) in zip(node.inputs, places, strict=True):
        space = space_of(value.shape)
        read = aligned(fuser.accesses[value], value.shape, value.shape)
        written = aligned(Access(output, offset, tuple(target)), value.shape, value.shape)
        needed.add(read.root)
        number = is_small_constant(read.root)
        ref: Ref = ("load", 0) if number is None else ("number", (number, value.dtype))
        result.append(Nest(space, "O" * len(space), [read] if number is None else [], [], [Store(ref, written)], [],
                           node.where))
    return result


class _Builder:
    """Writes the nest of one group."""

    def __init__(self, fuser: Fuser, group: Group, needed: set[Value]) -> None:
        self.fuser, self.group, self.needed = fuser, group, needed
        self.loads: dict[Any, int] = {}
        self.accesses: list[Access] = []
        self.instructions: list[Instruction] = []
        self.refs: dict[Value, Ref] = {}

    def nest(self, stored: Sequence[Value], reduced: Sequence[Node]) -> Nest:
        group = self.group
        for value in self._live(stored, reduced):
            self._emit(value)
        strides = contiguous_strides(group.space)
        stores = [Store(self.refs[v], Access(v, 0, strides)) for v in stored]
        reductions = [
            Reduction(n.record.name, self._read(n.inputs[0], n.inputs[0].shape), n.outputs[0], n.outputs[0].dtype)
            for n in reduced
        ]
        kinds = group.pattern if reduced and group.pattern else "O" * len(group.space)
        where = (stored[0].node if stored else reduced[0]).where
        return Nest(tuple(group.space), kinds, self.accesses, self.instructions, stores, reductions, where)

    def _live(self, stored: Sequence[Value], reduced: Sequence[Node]) -> list[Value]:
        members = self.group.members
        wanted = set(stored)
        for node in reduced:
            root = self.fuser.accesses[node.inputs[0]].root
            if root in members:
                wanted.add(root)
        for value in reversed(list(members)):
            if value in wanted:
                wanted.update(r for r in (self.fuser.accesses[v].root for v in value.node.inputs) if r in members)
        return [v for v in members if v in wanted]

    def _emit(self, value: Value) -> None:
        if value in self.refs:
            return
        operands = tuple([self._read(v, value.shape) for v in value.node.inputs])
        self.instructions.append(Instruction(value.op, operands, value.dtype, value.node.attrs))
        self.refs[value] = ("value", len(self.instructions) - 1)

    def _read(self, value: Value, shape: Any) -> Ref:
        access = aligned(self.fuser.accesses[value], value.shape, shape)
        root = access.root
        number = is_small_constant(root)
        if number is not None:
            return ("number", (number, np.dtype(root.dtype)))
        if is_identity(access, self.group.space):
            known = self.refs.get(root)
            if known is not None:
                return known
            same = space_key(space_of(root.shape)) == space_key(self.group.space)  # not so behind a reshape
            recipe = self.fuser.recipe(root) if self.group.space and same else None
            if recipe is not None and root not in self.needed:
                for part in recipe:
                    self._emit(part)
                return self.refs[root]
        key = access.key()
        if key not in self.loads:
            self.loads[key] = len(self.accesses)
            self.accesses.append(access)
            self.needed.add(root)
        return ("load", self.loads[key])

"""Cut lowered values into groups: loop nests over one iteration space, and single library calls.

Groups run in the order in which they were opened. A value may join a group when all that it reads is ready by then, so
no search for cycles is needed and the pass is linear in the number of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.compiler.access import (
    Access,
    aligned,
    contiguous_strides,
    is_identity,
    is_whole,
    space_key,
    space_of,
    view_access,
)
from numgrad.compiler.rewrite import REDUCTIONS, Lowered, Node, Value
from numgrad.graph.records import OPS
from numgrad.types import Shape, Spec, same_size, size_product

__all__ = ["Group", "Fuser"]

MAX_OPS = 64  # a group with more takes in only what reads its members ...
MAX_OPS_JOINED = 160  # ... up to this many
MAX_LOADS = 64
MAX_STREAMS = 14  # arrays read side by side; beyond some 16, the processor's prefetchers lose track of them
RECOMPUTE_COST = 6  # of values that read one whole stored array; each op costs what _COST says, others are dear
RECOMPUTE_COST_FREE = 40  # of values that read only arrays that are broadcast
SCALARS_FUSED = 150  # programs with more 0-d operations run them one by one, so that kernels are shared
_COST = dict.fromkeys(
    "add subtract multiply negative cast abs minimum maximum where less less_equal greater greater_equal "
    "equal not_equal logical_and logical_or logical_not square conj real imag".split(),
    1,
) | dict.fromkeys("divide reciprocal sqrt rsqrt".split(), 4)


class Group:
    """Nodes that run together: a fused nest over `space`, or one library or region node (`single`)."""

    __slots__ = ("loads", "members", "ops", "pattern", "position", "reductions", "single", "space", "streams")

    def __init__(self, position: int, space: Shape, single: Node | None = None) -> None:
        self.position, self.space, self.single = position, space, single
        self.members: dict[Value, None] = {}
        self.reductions: list[Node] = []
        self.pattern: str | None = None
        self.loads: set[Any] = set()
        self.ops = self.streams = 0


class Fuser:
    """Assigns every computed value of a lowered program to a group."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.groups: list[Group] = []
        self.accesses: dict[Value, Access] = {}
        self.home: dict[Value, Group] = {}
        self._open: dict[Any, Group] = {}
        self._copies: dict[Value, Value] = {}
        self._recipes: dict[Value, list[Value] | None] = {}
        self._recipe_loads: dict[Value, list[Access]] = {}  # of values with a recipe: what it reads
        scalars = sum(1 for n in lowered.nodes if n.record.kind == "elementwise" and not n.outputs[0].shape)
        self.fuse_scalars = scalars <= SCALARS_FUSED
        for node in list(lowered.nodes):
            self._place(node)
        self.outputs = self._own_outputs(lowered.outputs)

    # -- placing nodes
    def _place(self, node: Node) -> None:
        record = node.record
        if record.name in ("placeholder", "constant", "size"):
            self._own(node)
        elif record.view is not None:
            self._place_view(node)
        elif record.name == "add_n":
            self._place_sum(node)
        elif record.kind == "elementwise":
            self._place_elementwise(node)
        elif record.name in REDUCTIONS:
            self._place_reduction(node)
        else:
            self._place_single(node)

    def _own(self, node: Node) -> None:
        for value in node.outputs:
            self.accesses[value] = Access(value, 0, contiguous_strides(value.shape))

    def _place_view(self, node: Node) -> None:
        source = node.inputs[0]
        access = view_access(node, self.accesses[source])
        if access is None:
            access = view_access(node, self.accesses[self._copy(source)])
            assert access is not None, node
        self.accesses[node.outputs[0]] = access

    def _place_elementwise(self, node: Node) -> None:
        output = node.outputs[0]
        space = space_of(output.shape)
        node.inputs = tuple([self._in_order(v, output.shape) for v in node.inputs])
        reads = [aligned(self.accesses[v], v.shape, output.shape) for v in node.inputs]
        group = self._group_for(space, reads, None, 1)
        group.members[output] = None
        self.home[output] = group
        self._own(node)

    def _place_sum(self, node: Node) -> None:
        """Many stored terms in one pass; then, in the order of their groups, those that are summed where they arise."""
        output = node.outputs[0]
        computed: list[Value] = []
        stored: list[Value] = []
        for term in node.inputs:
            access = self.accesses[term]
            home = self.home.get(access.root)
            (computed if home is not None and access.root in home.members else stored).append(term)
        whole = [v for v in stored if is_whole(self.accesses[v], v.shape)]
        if len(whole) > MAX_STREAMS and output.dtype.kind in "fciu" and output.dtype != np.float16:
            several = self.lowered._append(node.record, tuple(whole), {}, (output.spec,), node.where)
            self._place_single(several)
            once = set(whole)
            stored = [several.outputs[0], *(v for v in stored if v not in once)]
        computed.sort(key=lambda v: self.home[self.accesses[v].root].position)
        total, *rest = [*stored, *computed]
        for term in rest:
            added = self.lowered._append(OPS["add"], (total, term), {}, (output.spec,), node.where)
            self._place_elementwise(added)
            total = added.outputs[0]
        self.accesses[output] = self.accesses[total]

    def _place_reduction(self, node: Node) -> None:
        source = node.inputs[0]
        axes = set(node.attrs["axes"])
        space = space_of(source.shape)
        kinds = "".join("R" if i in axes else "O" for i, d in enumerate(source.shape)
                        if not (isinstance(d, int) and d == 1))
        if "R" not in kinds:  # every reduced axis has size 1: a reshape
            self._place_copy_of_reshape(node)
            return
        last = kinds.rindex("R")
        first = len(kinds[: last + 1].rstrip("R"))
        if set(kinds) == {"R"} and len(kinds) > 1 and self._reads_broadcast(source, space):
            first = last  # rows first: their sums share a pass with other row reductions
        if "R" in kinds[:first]:
            self._split_reduction(node, kinds, first, last)
            return
        pattern = kinds[: last + 1] + "I" * (len(kinds) - last - 1)
        read = aligned(self.accesses[source], source.shape, source.shape)
        group = self._group_for(space, [read], pattern, 1)
        group.reductions.append(node)
        group.pattern = pattern
        self.home[node.outputs[0]] = group
        self._own(node)

    def _reads_broadcast(self, source: Value, space: Shape) -> bool:
        """Whether the group that computes `source` reads anything that is not a whole array over `space`."""
        root = self.accesses[source].root
        group = self.home.get(root)
        if group is None or root not in group.members:
            return False
        return any(not is_identity(a, space) for v in group.members
                   for a in (aligned(self.accesses[u], u.shape, v.shape) for u in v.node.inputs)
                   if a.root not in group.members and is_small_constant(a.root) is None)

    def _place_copy_of_reshape(self, node: Node) -> None:
        copy = self._copy(node.inputs[0])
        self.accesses[node.outputs[0]] = Access(copy, 0, contiguous_strides(node.outputs[0].shape))

    def _split_reduction(self, node: Node, kinds: str, first: int, last: int) -> None:
        """Reduce the last block of axes first, the others after it."""
        source = node.inputs[0]
        real = [i for i, d in enumerate(source.shape) if not (isinstance(d, int) and d == 1)]
        now = tuple(real[first: last + 1])
        rest = tuple(a for a in node.attrs["axes"] if a not in now)
        shape = tuple(d for i, d in enumerate(source.shape) if i not in now)
        partial = self.lowered._append(node.record, (source,), {**node.attrs, "axes": now},
                                       (Spec(node.outputs[0].dtype, shape),), node.where)
        self._place(partial)
        moved = tuple(a - sum(1 for b in now if b < a) for a in rest)
        final = self.lowered._append(node.record, (partial.outputs[0],), {**node.attrs, "axes": moved},
                                     (node.outputs[0].spec,), node.where)
        self._place(final)
        self.accesses[node.outputs[0]] = self.accesses[final.outputs[0]]

    def _place_single(self, node: Node) -> None:
        record = node.record
        if record.library is not None or record.facts.get("bodies"):
            inputs = tuple([self._whole(v) for v in node.inputs])
            if inputs != node.inputs:
                node.inputs = inputs
        group = self._new_group((), node)
        for value in node.outputs:
            self.home[value] = group
        self._own(node)

    # -- groups
    def _new_group(self, space: Shape, single: Node | None = None) -> Group:
        group = Group(len(self.groups), space, single)
        self.groups.append(group)
        return group

    def _ready(self, access: Access) -> int:
        home = self.home.get(access.root)
        return home.position if home is not None else -1

    def _group_for(self, space: Shape, reads: Sequence[Access], pattern: str | None, ops: int) -> Group:
        key = space_key(space)
        latest = max([self._ready(a) for a in reads], default=-1)
        candidates = []
        if latest >= 0:
            candidates.append(self.groups[latest])
        newest = self._open.get(key)
        if newest is not None and newest.position >= latest and newest not in candidates:
            candidates.append(newest)
        for group in candidates:
            if self._fits(group, key, reads, pattern, ops):
                self._enter(group, reads, ops)
                return group
        group = self._new_group(space)
        self._enter(group, reads, ops)
        self._open[key] = group
        return group

    def _fits(self, group: Group, key: Any, reads: Sequence[Access], pattern: str | None, ops: int) -> bool:
        if group.single is not None or space_key(group.space) != key:
            return False
        if not group.space and not self.fuse_scalars:
            return False
        if pattern is not None and group.pattern is not None and group.pattern != pattern:
            return False
        joins = any(a.root in group.members for a in reads)
        if group.ops + ops > (MAX_OPS_JOINED if joins else MAX_OPS):
            return False
        loads = self._loads(group, reads)
        if loads and (len(group.loads) + len(loads) > MAX_LOADS
                      or group.streams + sum(map(_is_stream, loads.values())) > MAX_STREAMS):
            return False
        return all(self._ready(a) < group.position or (a.root in group.members and is_identity(a, group.space))
                   for a in reads)

    def _enter(self, group: Group, reads: Sequence[Access], ops: int) -> None:
        group.ops += ops
        loads = self._loads(group, reads)
        group.loads.update(loads)
        group.streams += sum(map(_is_stream, loads.values()))

    def _loads(self, group: Group, reads: Sequence[Access]) -> dict[Any, Access]:
        """What the group would have to load for these reads and does not load yet; cheap values are recomputed."""
        found: dict[Any, Access] = {}
        for access in reads:
            if access.root in group.members:
                continue
            recipe = self.recipe(access.root) if group.space and is_identity(access, group.space) else None
            for part in (access,) if recipe is None else self._recipe_loads[access.root]:
                key = part.key()
                if key not in group.loads and part.root not in group.members:
                    found[key] = part
        return found

    # -- copies and outputs
    def _copy(self, value: Value) -> Value:
        found = self._copies.get(value)
        if found is None:
            node = self.lowered._append(OPS["identity"], (value,), {}, (value.spec,), value.node.where)
            self._place_elementwise(node)
            found = self._copies[value] = node.outputs[0]
        return found

    def _whole(self, value: Value) -> Value:
        """A value whose buffer holds exactly `value`, in order."""
        return value if is_whole(self.accesses[value], value.shape) else self._copy(value)

    def _in_order(self, value: Value, shape: Shape) -> Value:
        """`value`, or a copy of it when it is broadcast and read with a stride, which keeps loops from vectorising."""
        strides = aligned(self.accesses[value], value.shape, shape).strides
        strided = bool(strides) and not (isinstance(strides[-1], int) and strides[-1] in (0, 1))
        return self._copy(value) if strided and len(space_of(value.shape)) < len(space_of(shape)) else value

    def _own_outputs(self, outputs: Sequence[Value]) -> list[Value]:
        """For each output a value with a buffer of its own; the buffer's root is written by this program."""
        taken: set[Value] = set()
        owned = []
        for value in outputs:
            access = self.accesses[value]
            if access.root not in self.home or access.root in taken or not is_whole(access, value.shape):
                node = self.lowered._append(OPS["identity"], (value,), {}, (value.spec,), value.node.where)
                self._place_elementwise(node)
                access = self.accesses[node.outputs[0]]
            taken.add(access.root)
            owned.append(access.root)
        return owned

    # -- recomputation
    def recipe(self, value: Value) -> list[Value] | None:
        """The cheap elementwise values, in order, that recompute `value`; None when storing it is better."""
        if value in self._recipes:
            return self._recipes[value]
        found = self._recipes[value] = self._find_recipe(value)
        return found

    def _find_recipe(self, value: Value) -> list[Value] | None:
        home = self.home.get(value)
        if home is None or value not in home.members:
            return None
        result: list[Value] = []
        pending, seen, full_loads, loads = [value], {value}, set(), []
        size = size_product(value.shape)
        cost = 0
        while pending:
            current = pending.pop()
            result.append(current)
            cost += _COST.get(current.op, RECOMPUTE_COST_FREE)
            if cost > RECOMPUTE_COST_FREE:
                return None
            for operand in current.node.inputs:
                access = aligned(self.accesses[operand], operand.shape, current.shape)
                root = access.root
                space = space_of(current.shape)
                inside = (root in self.home and root in self.home[root].members
                          and space_key(space_of(root.shape)) == space_key(space))
                if inside and is_identity(access, space):
                    if root not in seen:
                        seen.add(root)
                        pending.append(root)
                    continue
                if is_small_constant(root) is None:
                    loads.append(access)
                if same_size(size_product(root.shape), size) and not same_size(size, 1):
                    full_loads.add(access.key())
        allowed = (RECOMPUTE_COST_FREE, RECOMPUTE_COST)[len(full_loads)] if len(full_loads) <= 1 else 0
        if cost > allowed:
            return None
        self._recipe_loads[value] = loads
        return sorted(result, key=lambda v: v.node.number)


def _is_stream(access: Access) -> bool:
    """Whether it moves on through memory with the innermost loop, as scalars and broadcast columns do not."""
    return bool(access.strides) and not (isinstance(access.strides[-1], int) and access.strides[-1] == 0)


def is_small_constant(value: Value) -> float | None:
    """The number of a one-element constant that is written into kernels instead of being passed to them."""
    if value.op != "constant" or value.dtype.kind not in "biuf" or value.node.attrs["value"].size != 1:
        return None
    number = value.node.attrs["value"].reshape(())[()]
    if np.isfinite(number) and float(number) in (0.0, 1.0, -1.0) and not (number == 0 and np.signbit(float(number))):
        return number.item()  # type: ignore[no-any-return]
    return None

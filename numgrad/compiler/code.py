"""Code: the kernels of one graph or loop body, in order, and the layout of their argument tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.clock import phase
from numgrad.compiler.in_place import Lodged, lodge
from numgrad.compiler.layout import Failure, Layout, Sizes
from numgrad.compiler.lowering import Launch, lower_step
from numgrad.compiler.memory import assign_slots
from numgrad.compiler.rewrite import Value, lower
from numgrad.compiler.schedule import Schedule, schedule
from numgrad.graph.core import Tensor
from numgrad.types import Dim, Shape, ShapeEnv, Size, dim_key, lone_symbol

__all__ = ["Checks", "Code", "Extremum", "failures_at"]


class Extremum(NamedTuple):
    """A reduction that needs an element: its name, what it reduces, over which axes, the user's line."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    axes: tuple[int, ...]
    where: Any


class Checks(NamedTuple):
    """What new sizes are tried on: sizes that could be negative, with the user's line, and reductions of something."""

    computed: list[tuple[Dim, Any]]
    extrema: list[Extremum]


class Code:
    """What computes `outputs` from `inputs`, whatever the sizes; bodies of loops and branches are codes of their own.

    Attributes
    ----------
    launches : list of Launch
        The kernels in the order in which they run.
    layout : Layout
        What goes into their argument tables.
    constants : list of numpy.ndarray
        Arrays that they read.
    checks : Checks
        What new sizes are tried on.
    in_place : frozenset of int
        Those of the first `carries` outputs, of a loop's body, whose buffers are those of the inputs of that number.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv, carries: int = 0) -> None:
        with phase("rewrite"):
            lowered = lower(inputs, outputs, sizes)
        with phase("fusion"):
            self.schedule: Schedule | None = schedule(lowered)
        lodged = lodge(self.schedule, carries)
        self.in_place = lodged.carries
        self.launches: list[Launch] = []
        for step in self.schedule.steps:
            self.launches.extend(lower_step(step, lambda body, n: Code(body.inputs, body.outputs, sizes, n), sizes))
        self.constants: list[np.ndarray[Any, Any]] = []
        self.layout = self._make_layout(self.schedule, lodged, sizes)
        self.checks = self._find_checks()

    @classmethod
    def kept(cls, launches: list[Launch], layout: Layout, constants: list[np.ndarray[Any, Any]],
             checks: Checks, in_place: frozenset[int]) -> Code:
        """A code that was made before, without its schedule."""
        code = cls.__new__(cls)
        code.schedule, code.launches, code.layout = None, launches, layout
        code.constants, code.checks, code.in_place = constants, checks, in_place
        return code

    def _find_checks(self) -> Checks:
        computed: dict[Any, tuple[Dim, Any]] = {}
        extrema: dict[Any, Extremum] = {}
        for launch in self.launches:
            for value in launch.writes:
                for dim in value.shape:
                    if isinstance(dim, Size) and lone_symbol(dim) is None:
                        computed.setdefault(dim_key(dim), (dim, launch.where))
                node = value.node
                if node.record.name in ("max", "min", "argmax", "argmin"):
                    axes = node.attrs.get("axes") or (node.attrs["axis"],)
                    spec = node.inputs[0].spec
                    extrema[node] = Extremum(node.record.name, spec.dtype, spec.shape, tuple(axes), node.where)
            for body in launch.bodies:  # but not their extrema, which may be there to avoid the question
                for dim, where in body.checks.computed:
                    computed.setdefault(dim_key(dim), (dim, where))
        return Checks(list(computed.values()), list(extrema.values()))

    def _make_layout(self, found: Schedule, lodged: Lodged, sizes: ShapeEnv) -> Layout:
        places: dict[Value, tuple[str, int]] = {v: ("input", i) for i, v in enumerate(found.inputs)}
        size_nodes: list[Dim] = []
        own = [n.outputs[0] for n in found.lowered.nodes if n.record.name == "constant"]
        for value in (*own, *(c for launch in self.launches for c in launch.constants)):
            self.constants.append(np.ascontiguousarray(value.node.attrs["value"]))
            places[value] = ("constant", len(self.constants) - 1)
        for node in found.lowered.nodes:
            if node.record.name == "size":
                places[node.outputs[0]] = ("size", len(size_nodes))
                size_nodes.append(node.attrs["value"])
        for i, value in enumerate(found.outputs):
            places[value] = ("output", i)
        roots = found.roots
        reads = [[roots.get(value, value) for value in x.reads] for x in self.launches]  # a view keeps its buffer alive
        places |= {value: ("output", k) for value, k in lodged.homes.items()}
        written = [v for v in found.outputs if places[v][0] == "output" and v not in lodged.homes]
        slots = assign_slots(reads, [x.writes for x in self.launches], set(places), written)
        places |= {value: places[output] for value, output in slots.lodging.items()}

        def place(value: Value) -> tuple[str, int]:
            root = roots.get(value, value)
            known = places.get(root)
            return known if known is not None else ("arena", slots.number[root])

        return Layout(self.launches, Sizes(sizes.symbols), place, slots, size_nodes)

    def all_launches(self) -> list[Launch]:
        """The launches of this code and of the bodies in it."""
        found = []
        for launch in self.launches:
            found.append(launch)
            for body in launch.bodies:
                found.extend(body.all_launches())
        return found


def failures_at(code: Code, step: int) -> list[tuple[Failure, Any]]:
    """What it may mean that the status word is set after a step, with the user's lines: all that a loop's may."""
    own = code.layout.failures[step]
    found = [] if own is None else [(own, code.launches[step].where)]
    for body in code.launches[step].bodies:
        for k in range(len(body.launches)):
            found.extend(failures_at(body, k))
    return found

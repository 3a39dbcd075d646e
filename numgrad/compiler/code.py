"""Code: the kernels of one graph or loop body, in order, and the layout of their argument tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.compiler.in_place import lodge
from numgrad.compiler.layout import Layout, Sizes
from numgrad.compiler.lowering import Launch, lower_step
from numgrad.compiler.memory import assign_slots
from numgrad.compiler.rewrite import Value, lower
from numgrad.compiler.schedule import schedule
from numgrad.graph.core import Tensor
from numgrad.types import Dim, ShapeEnv

__all__ = ["Code"]


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
    in_place : frozenset of int
        Those of the first `carries` outputs, of a loop's body, whose buffers are those of the inputs of that number.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv, carries: int = 0) -> None:
        lowered = lower(inputs, outputs, sizes)
        self.schedule = schedule(lowered)
        self._lodged = lodge(self.schedule, carries)
        self.in_place = self._lodged.carries
        self.launches: list[Launch] = []
        for step in self.schedule.steps:
            self.launches.extend(lower_step(step, lambda body, n: Code(body.inputs, body.outputs, sizes, n), sizes))
        self.constants: list[np.ndarray[Any, Any]] = []
        self.layout = self._make_layout(sizes)

    def _make_layout(self, sizes: ShapeEnv) -> Layout:
        places: dict[Value, tuple[str, int]] = {v: ("input", i) for i, v in enumerate(self.schedule.inputs)}
        size_nodes: list[Dim] = []
        own = [n.outputs[0] for n in self.schedule.lowered.nodes if n.record.name == "constant"]
        for value in (*own, *(c for launch in self.launches for c in launch.constants)):
            self.constants.append(np.ascontiguousarray(value.node.attrs["value"]))
            places[value] = ("constant", len(self.constants) - 1)
        for node in self.schedule.lowered.nodes:
            if node.record.name == "size":
                places[node.outputs[0]] = ("size", len(size_nodes))
                size_nodes.append(node.attrs["value"])
        for i, value in enumerate(self.schedule.outputs):
            places[value] = ("output", i)
        roots = self.schedule.roots
        reads = [[roots.get(value, value) for value in x.reads] for x in self.launches]  # a view keeps its buffer alive
        places |= {value: ("output", k) for value, k in self._lodged.homes.items()}
        written = [v for v in self.schedule.outputs if places[v][0] == "output" and v not in self._lodged.homes]
        slots = assign_slots(reads, [x.writes for x in self.launches], set(places), written)
        places |= {value: places[output] for value, output in slots.lodging.items()}

        def place(value: Value) -> tuple[str, int]:
            root = roots.get(value, value)
            found = places.get(root)
            return found if found is not None else ("arena", slots.of[root])

        return Layout(self.launches, Sizes(sizes.symbols), place, slots, size_nodes)

    def all_launches(self) -> list[Launch]:
        """The launches of this code and of the bodies in it."""
        found = []
        for launch in self.launches:
            found.append(launch)
            for body in launch.bodies:
                found.extend(body.all_launches())
        return found

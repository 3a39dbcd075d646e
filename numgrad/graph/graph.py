"""Graphs: growing lists of operations, with their names, their unknown sizes and what they read from outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from numgrad.errors import at, user_line
from numgrad.graph.core import Operation, Tensor, WeakTensor, state, weaken
from numgrad.graph.records import OPS, OpRecord
from numgrad.types import ShapeEnv, Spec

__all__ = ["Graph"]

_PYTHON_ARITHMETIC = frozenset("add subtract multiply divide floor_divide remainder power negative abs".split())


class Graph:
    """A growing list of operations; it keeps the identity of everything that the user makes.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default() as g:
    ...     x = ng.placeholder(ng.float64, ("n",), name="x")
    ...     y = ng.sum(x * x)
    >>> float(ng.run(y, {x: [1.0, 2.0, 3.0]}))
    14.0
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.sizes = ShapeEnv()
        self.lock = threading.RLock()
        self.captured: dict[int, tuple[Tensor, Tensor]] = {}
        self.outer: Graph | None = None  # for the body of a loop or branch: the graph that it stands in
        self.reached: dict[Tensor, Tensor] = {}  # tensors of outer graphs that it reads, and the inputs that carry them
        self.rooms: list[tuple[Any, Tensor]] = []  # of a body: sizes that must reach numbers known only inside
        self.overrides: list[dict[str, str]] = []
        self.variables: dict[Any, Tensor] = {}  # the nodes that stand for variables that are read here
        self.assigned: dict[Any, Tensor] | None = None  # their new values, in the graph of a function
        self._names: dict[str, int] = {}
        self._scope = ""

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        """Make this the graph that operations go into, within a ``with`` block and this thread."""
        state.graphs.append(self)
        try:
            yield self
        finally:
            state.graphs.pop()

    @contextmanager
    def gradient_override_map(self, overrides: dict[str, str]) -> Iterator[None]:
        """Give operations of some types, made inside the ``with`` block, gradient rules of other names.

        Parameters
        ----------
        overrides : dict of str to str
            Op type -> name registered with `RegisterGradient`; looked up when a gradient is built. An inner map stands
            in place of an outer one and the outer one is back afterwards.

        Raises
        ------
        TypeError
            Anything but a dict from strings to strings.
        """
        if not isinstance(overrides, dict) or not all(isinstance(x, str) for item in overrides.items() for x in item):
            raise TypeError(f"gradient_override_map: got {overrides!r}, wanted a dict from op types to registered names"
                            f"{at(user_line())}")
        self.overrides.append({**(self.overrides[-1] if self.overrides else {}), **overrides})
        try:
            yield
        finally:
            self.overrides.pop()

    def unique_name(self, base: str) -> str:
        """`base` under the current name scope, with a number when it is taken."""
        full = self._scope + base
        count = self._names.get(full)
        if count is None:
            self._names[full] = 1
            return full
        while True:
            candidate = f"{full}_{count}"
            count += 1
            if candidate not in self._names:
                break
        self._names[full] = count
        self._names[candidate] = 1
        return candidate

    def add(self, record: OpRecord, inputs: tuple[Tensor, ...], attrs: dict[str, Any],
            specs: Sequence[Spec], name: str | None = None) -> Operation:
        """Append one operation whose outputs have `specs`."""
        where = state.lines[-1] if state.lines else user_line()
        with self.lock:
            operation = Operation(record, inputs, attrs, self.unique_name(name or record.name), self,
                                  len(self.operations), where)
            operation.outputs = tuple(
                Tensor(spec.dtype, spec.shape, operation, i) for i, spec in enumerate(specs))
            if inputs and type(inputs[0]) is WeakTensor and record.name in _PYTHON_ARITHMETIC and all(
                    type(t) is WeakTensor for t in inputs):
                weaken(operation.outputs[0])
            if state.controls:
                operation.control_inputs = tuple(
                    c for group in state.controls for c in group if c.graph is self)
            if state.devices:
                operation.device = state.devices[-1]
            if self.overrides:
                operation.override = self.overrides[-1].get(record.name)
            self.operations.append(operation)
        return operation

    def constant(self, value: np.ndarray[Any, Any], name: str | None = None) -> Tensor:
        """A constant node that holds a copy of `value`."""
        value = np.array(value, order="C")
        value.flags.writeable = False
        return self.add(OPS["constant"], (), {"value": value}, (Spec(value.dtype, value.shape),), name).outputs[0]

    def capture(self, tensor: Tensor) -> Tensor:
        """The node that stands for an eager tensor, or for one of an outer graph, in this graph; one for each."""
        if tensor._value is None:
            return self._reach(tensor)
        found = self.captured.get(id(tensor))
        if found is None:
            assert tensor._value is not None
            found = (tensor, self.constant(tensor._value))
            if type(tensor) is WeakTensor:
                weaken(found[1])
            self.captured[id(tensor)] = found
        return found[1]

    def _reach(self, tensor: Tensor) -> Tensor:
        assert tensor.op is not None
        if tensor.op.graph is self:
            return tensor
        found = self.reached.get(tensor)
        if found is None:
            assert self.outer is not None
            self.outer.capture(tensor)  # through the graphs between
            found = self.add(OPS["placeholder"], (), {}, (tensor.spec,), "captured").outputs[0]
            self.reached[tensor] = found
        return found

    def within(self, graph: Graph) -> bool:
        """Whether this graph is `graph` or the body of a loop or branch in it."""
        inner: Graph | None = self
        while inner is not None and inner is not graph:
            inner = inner.outer
        return inner is graph

    def __repr__(self) -> str:
        return f"<numgrad.Graph with {len(self.operations)} operations>"

"""What is in force for operations made inside a ``with`` block: names, devices, control inputs, lines, recorders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from numgrad.errors import GraphError, SourceLine, at, user_line
from numgrad.graph.core import Operation, Recorder, Tensor, current_graph, state
from numgrad.graph.graph import Graph

__all__ = ["backward_of", "control_dependencies", "device", "heard_by", "name_scope", "scope_in", "source_line",
           "start", "stop", "without_graph"]


@contextmanager
def name_scope(name: str) -> Iterator[str]:
    """Prefix the names of operations made inside with ``name/``.

    Parameters
    ----------
    name : str
        The prefix; made unique in the graph. Outside a graph it has no effect.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     with ng.name_scope("layer"):
    ...         y = ng.tanh(x)
    >>> y.op.name
    'layer/tanh'
    """
    graph = current_graph()
    if graph is None:
        yield name + "/"
        return
    with scope_in(graph, name) as full:
        yield full


@contextmanager
def scope_in(graph: Graph, name: str) -> Iterator[str]:
    """`name_scope` in a given graph."""
    before = graph._scope
    graph._scope = graph.unique_name(name) + "/"
    try:
        yield graph._scope
    finally:
        graph._scope = before


@contextmanager
def backward_of(op: Operation, colocate: bool) -> Iterator[None]:
    """Make operations as the backward part of `op`: under ``<its name>_grad/``, with its source line and device."""
    graph = op.graph
    before, graph._scope = graph._scope, f"{graph._scope}{op.name}_grad/"
    state.lines.append(op.where)
    if colocate:
        state.devices.append(op.device)
    try:
        yield
    finally:
        graph._scope = before
        state.lines.pop()
        if colocate:
            state.devices.pop()


@contextmanager
def device(label: str) -> Iterator[None]:
    """Label the operations made inside with a device.

    Parameters
    ----------
    label : str
        Any text, such as ``"cpu:0"``; "" removes the label.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default(), ng.device("cpu:1"):
    ...     y = ng.exp(ng.placeholder(ng.float64, ()))
    >>> y.device
    'cpu:1'
    """
    state.devices.append(label)
    try:
        yield
    finally:
        state.devices.pop()


@contextmanager
def control_dependencies(ops: Sequence[Operation | Tensor]) -> Iterator[None]:
    """Make operations made inside run after `ops`.

    Parameters
    ----------
    ops : sequence of Operation or Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     first = ng.exp(x)
    ...     with ng.control_dependencies([first]):
    ...         second = ng.sin(x)
    >>> second.op.control_inputs[0] is first.op
    True
    """
    wanted = []
    for item in ops:
        operation = item.op if isinstance(item, Tensor) else item
        if not isinstance(operation, Operation):
            raise GraphError(f"control_dependencies: got {item!r}, wanted operations or tensors of a graph"
                             f"{at(user_line())}")
        wanted.append(operation)
    state.controls.append(tuple(wanted))
    try:
        yield
    finally:
        state.controls.pop()


@contextmanager
def source_line(where: SourceLine | None) -> Iterator[None]:
    """Give operations made inside a fixed source line (gradient ops carry their forward op's)."""
    state.lines.append(where)
    try:
        yield
    finally:
        state.lines.pop()


def start(recorder: Recorder) -> None:
    """Tell `recorder` about what happens in this thread from now on."""
    state.recorders = (*state.recorders, recorder)


def stop(recorder: Recorder) -> None:
    """Tell it no more."""
    state.recorders = tuple([r for r in state.recorders if r is not recorder])


@contextmanager
def heard_by(recorders: Sequence[Recorder]) -> Iterator[None]:
    """Tell only these recorders about what happens inside."""
    before, state.recorders = state.recorders, recorders
    try:
        yield
    finally:
        state.recorders = before


@contextmanager
def without_graph() -> Iterator[None]:
    """Run operations on eager tensors at once, also while a graph is being built."""
    before, state.graphs = state.graphs, []
    try:
        yield
    finally:
        state.graphs = before

"""The grammar of a legal graph: every law that the rest of the house relies on, checked from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.errors import GraphError, at
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.graph import Graph
from numgrad.graph.records import KINDS, OPS
from numgrad.types import SUPPORTED_DTYPES, Guard, Size, Spec, same_shape, show_shape

__all__ = ["check_graph"]

# `infer` does not know what these hold: their specs are stated where they are made.
_STATED = frozenset({"placeholder"})


def check_graph(graph: Graph) -> None:
    """Check that a graph obeys the grammar: order, names, edges, records, attributes, dtypes and shapes.

    The laws:

    1. An operation belongs to the graph, and its number is its place in the list.
    2. Names are unique and not empty.
    3. An operation's record is the one in the op table, and its kind is known.
    4. Inputs are outputs of earlier operations of the same graph; so are control inputs, as operations.
    5. Attributes are plain values; a size among them is made of this graph's unknown sizes; no tensor hides there.
    6. Outputs know their operation and index; dtype and shape are those that the op's rule derives again from the
    inputs, under
       the sizes already found equal: deriving them again must not assume anything new.

    Parameters
    ----------
    graph : Graph

    Raises
    ------
    GraphError
        For the first law that is broken, naming the operation and the line where the user made it.

    Examples
    --------
    >>> import numgrad as ng
    >>> from numgrad.graph.check import check_graph
    >>> with ng.Graph().as_default() as g:
    ...     y = ng.exp(ng.placeholder(ng.float64, ("n",)))
    >>> check_graph(g)
    """
    names: set[str] = set()
    members: set[int] = set()
    for place, op in enumerate(graph.operations):
        if op.graph is not graph:
            raise _broken(op, "belongs to another graph")
        if op.number != place:
            raise _broken(op, f"has number {op.number}, wanted its place in the graph, {place}")
        if not op.name or op.name in names:
            raise _broken(op, "has a name that another operation has" if op.name else "has no name")
        names.add(op.name)
        _check_record(op)
        _check_edges(op, members)
        for name, value in op.attrs.items():
            _check_attribute(op, name, value)
        _check_outputs(op)
        members.add(id(op))


def _broken(op: Operation, what: str) -> GraphError:
    return GraphError(f"operation {op.name!r} ({op.type}) {what}{at(op.where)}")


def _check_record(op: Operation) -> None:
    if OPS.get(op.record.name) is not op.record:
        raise _broken(op, "has a record that is not in the op table")
    if op.record.kind not in KINDS:
        raise _broken(op, f"is of unknown kind {op.record.kind!r}, wanted one of {', '.join(KINDS)}")


def _check_edges(op: Operation, members: set[int]) -> None:
    for i, tensor in enumerate(op.inputs):
        if not isinstance(tensor, Tensor):
            raise _broken(op, f"has input {i} = {tensor!r}, wanted a tensor")
        source = tensor.op
        if tensor._value is not None or source is None:
            raise _broken(op, f"has the eager tensor {tensor!r} as input {i}, wanted a node of its graph")
        if source.graph is not op.graph:
            raise _broken(op, f"reads {tensor.name} of another graph as input {i}")
        if id(source) not in members:
            raise _broken(op, f"reads {tensor.name} as input {i}, which is made later or is not in the graph")
        if not 0 <= tensor.index < len(source.outputs) or source.outputs[tensor.index] is not tensor:
            raise _broken(op, f"reads {tensor.name} as input {i}, which is not an output of {source.name!r}")
    for control in op.control_inputs:
        if not isinstance(control, Operation) or id(control) not in members:
            raise _broken(op, f"has the control input {control!r}, wanted an earlier operation of its graph")


def _check_attribute(op: Operation, name: str, value: Any) -> None:
    if isinstance(value, Size):
        if any(symbol.env is not op.graph.sizes for symbol in value.symbols()):
            raise _broken(op, f"has attribute {name} = {value}, a size of another graph")
    elif isinstance(value, (tuple, slice)):
        for part in value if isinstance(value, tuple) else (value.start, value.stop, value.step):
            _check_attribute(op, name, part)
    elif isinstance(value, (Tensor, Operation)):
        raise _broken(op, f"hides {value!r} in attribute {name}, wanted it among the inputs")
    elif isinstance(value, np.ndarray):
        if value.flags.writeable:
            raise _broken(op, f"has a writable array in attribute {name}, wanted a read-only one")
    elif isinstance(value, (list, dict, set, bytearray)):
        raise _broken(op, f"has a {type(value).__name__} in attribute {name}, wanted a value that cannot change")


def _check_outputs(op: Operation) -> None:
    for i, tensor in enumerate(op.outputs):
        if tensor.op is not op or tensor.index != i:
            raise _broken(op, f"has an output {i} that does not know its operation or index")
        if tensor.dtype not in SUPPORTED_DTYPES or not tensor.dtype.isnative:
            raise _broken(op, f"has output {i} of dtype {tensor.dtype}, which is not supported")
        for dim in tensor.shape:
            if isinstance(dim, Size):
                if any(symbol.env is not op.graph.sizes for symbol in dim.symbols()):
                    raise _broken(op, f"has output {i} with size {dim} of another graph")
            elif type(dim) is not int or dim < 0:
                raise _broken(op, f"has output {i} with size {dim!r}, wanted a non-negative integer or a size")
    if op.record.name in _STATED:
        return
    wanted = _derive_again(op)
    if len(wanted) != len(op.outputs):
        raise _broken(op, f"has {len(op.outputs)} outputs, wanted {len(wanted)} by its rule")
    for i, (spec, tensor) in enumerate(zip(wanted, op.outputs, strict=True)):
        if spec.dtype != tensor.dtype:
            raise _broken(op, f"has output {i} of dtype {tensor.dtype}, wanted {spec.dtype} by its rule")
        if not same_shape(spec.shape, tensor.shape):
            raise _broken(op, f"has output {i} of shape {show_shape(tensor.shape)}, wanted {show_shape(spec.shape)} "
                              f"by its rule")


def _same_guard(a: Guard, b: Guard) -> bool:
    return a.sign == b.sign and (same_shape((a.left, a.right), (b.left, b.right))
                                 or same_shape((a.left, a.right), (b.right, b.left)))


def _derive_again(op: Operation) -> Sequence[Spec]:
    """The output specs by the op's rule; whatever the rule assumes anew is taken back and reported."""
    sizes = op.graph.sizes
    guards, bound = len(sizes.guards), [symbol.bound for symbol in sizes.symbols]
    try:
        specs = op.record.infer([t.spec for t in op.inputs], op.attrs)
    except Exception as error:  # a rule that meets what it was not made for may raise anything
        raise _broken(op, f"breaks its own rule: {error!r}") from error
    finally:
        known = sizes.guards[:guards]
        assumed = [g for g in sizes.guards[guards:] if g.sign == "==" and not any(_same_guard(g, k) for k in known)]
        fresh = len(sizes.symbols) > len(bound)
        del sizes.guards[guards:]
        del sizes.symbols[len(bound):]
        for symbol, before in zip(sizes.symbols, bound, strict=True):
            symbol.bound = before
    if assumed:
        raise _broken(op, f"has inputs of shapes {', '.join(show_shape(t.shape) for t in op.inputs)} that fit only if "
                          f"{assumed[0].left} == {assumed[0].right}, which the graph does not assume")
    if fresh:
        raise _broken(op, "derives a new unknown size each time, wanted sizes of its inputs")
    return specs

"""Lower a graph into hash-consed values: equal expressions become one, and trivial ones disappear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.compiler.invariants import invariants, with_inputs
from numgrad.compiler.products import read_transposes_in_place, simpler_product, swaps_the_last_two
from numgrad.compiler.unroll import unrolled_reduction
from numgrad.errors import GraphError, SourceLine, at
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, OpRecord
from numgrad.graph.walk import ancestors
from numgrad.types import Shape, ShapeEnv, Size, Spec, canonical_shape, same_shape, size_product

__all__ = ["REDUCTIONS", "Lowered", "Node", "Value", "lower"]

#: Loop -> a wider one, and the places of the loop's outputs among its outputs.
_Wider = dict[Operation, tuple[Operation, Sequence[int]]]
FOLD_LIMIT = 1 << 14  # constants up to this many elements are computed while compiling
REDUCTIONS = frozenset("sum prod max min any all".split())
_FORWARDED = frozenset({"identity", "stop_gradient", "prevent_gradient", "positive"})


class Node:
    """One computation: an op record, values in, values out."""

    __slots__ = ("attrs", "inputs", "number", "outputs", "record", "where")

    def __init__(self, record: OpRecord, inputs: tuple[Value, ...], attrs: dict[str, Any], specs: Sequence[Spec],
                 number: int, where: SourceLine | None) -> None:
        self.record, self.inputs, self.attrs, self.number, self.where = record, inputs, attrs, number, where
        self.outputs = tuple([Value(self, i, s.dtype, canonical_shape(s.shape)) for i, s in enumerate(specs)])

    def __repr__(self) -> str:
        return f"{self.record.name}#{self.number}"


class Value:
    """One output of a node."""

    __slots__ = ("dtype", "index", "node", "shape")

    def __init__(self, node: Node, index: int, dtype: np.dtype[Any], shape: Shape) -> None:
        self.node, self.index, self.dtype, self.shape = node, index, dtype, shape

    @property
    def spec(self) -> Spec:
        return Spec(self.dtype, self.shape)

    @property
    def op(self) -> str:
        return self.node.record.name

    def __repr__(self) -> str:
        return f"{self.node!r}.{self.index}"


class Lowered:
    """A graph in lowered form: nodes in order, the placeholders' values, the outputs' values."""

    def __init__(self, sizes: ShapeEnv) -> None:
        self.sizes = sizes
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self._known: dict[Any, Node] = {}

    # -- construction
    def make(self, record: OpRecord, inputs: tuple[Value, ...], attrs: dict[str, Any], specs: Sequence[Spec],
             where: SourceLine | None) -> tuple[Value, ...]:
        """The values of a computation: known ones when it was made before, simpler ones when it is trivial."""
        simpler = self._simplify(record, inputs, attrs, specs, where)
        if simpler is not None:
            return simpler
        key = (record.name, tuple([(v.node.number, v.index) for v in inputs]), _frozen(attrs))
        node = self._known.get(key)
        if node is None:
            node = self._append(record, inputs, attrs, specs, where)
            self._known[key] = node
        return node.outputs

    def _append(self, record: OpRecord, inputs: tuple[Value, ...], attrs: dict[str, Any], specs: Sequence[Spec],
                where: SourceLine | None) -> Node:
        node = Node(record, inputs, attrs, specs, len(self.nodes), where)
        self.nodes.append(node)
        return node

    def constant(self, array: np.ndarray[Any, Any]) -> Value:
        """The value of a constant array; one for equal small ones."""
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else ("id", id(array))
        node = self._known.get(key)
        if node is None:
            node = self._append(OPS["constant"], (), {"value": array}, (Spec(array.dtype, array.shape),), None)
            self._known[key] = node
        return node.outputs[0]

    def _simplify(self, record: OpRecord, inputs: tuple[Value, ...], attrs: dict[str, Any], specs: Sequence[Spec],
                  where: SourceLine | None) -> tuple[Value, ...] | None:
        name = record.name
        if name in _FORWARDED:
            return (inputs[0],)
        if name == "constant":
            return (self.constant(attrs["value"]),)
        if name == "recompute_point":  # a view that stays, so that what reads it is not what was computed before
            key = (name, inputs[0].node.number, inputs[0].index)
            if key not in self._known:
                self._known[key] = self._append(OPS["reshape"], inputs, {"shape": inputs[0].shape}, specs, where)
            return self._known[key].outputs
        if name == "cast":
            source = inputs[0]
            if source.dtype == specs[0].dtype:
                return (source,)
        elif name in ("zeros_like", "ones_like", "full"):
            number = {"zeros_like": 0, "ones_like": 1}.get(name)
            fill = np.asarray(attrs["value"] if number is None else number, dtype=specs[0].dtype)
            return self._broadcast(self.constant(fill), specs[0], where)
        elif name == "multiply":
            for one, other in (inputs, inputs[::-1]):
                if _filled_with(other, 1) and same_shape(one.shape, specs[0].shape):
                    return (one,)
        elif name == "iota" and len(attrs["shape"]) > 1:
            return self._iota(attrs, specs[0], where)
        elif name in REDUCTIONS:
            unrolled = unrolled_reduction(self, name, inputs[0], attrs["axes"], where)
            if unrolled is not None:
                return (unrolled,)
        elif name == "divide":
            if _filled_with(inputs[1], 1) and same_shape(inputs[0].shape, specs[0].shape):
                return (inputs[0],)
        elif name == "permute_dims":
            node = inputs[0].node
            if tuple(attrs["axes"]) == tuple(range(len(attrs["axes"]))):
                return (inputs[0],)
            if node.record.name == "gram" and swaps_the_last_two(attrs["axes"]):
                return (inputs[0],)
            if node.record.name == "permute_dims":
                axes = tuple(node.attrs["axes"][a] for a in attrs["axes"])
                return self.make(record, node.inputs, {"axes": axes}, specs, where)
        elif name == "matmul":
            simpler = simpler_product(self, inputs, attrs, specs[0], where)
            if simpler is not None:
                return simpler
        elif name in ("reshape", "broadcast_to"):
            if same_shape(inputs[0].shape, specs[0].shape):
                return (inputs[0],)
            node = inputs[0].node
            if node.record.name == name:
                return self.make(record, node.inputs, attrs, specs, where)
        if (record.kind != "effect" and inputs and all(v.op == "constant" for v in inputs)
                and not record.facts.get("bodies")  # a body reads sizes of the graph around it
                and not any(isinstance(d, Size) for s in specs for d in s.shape)
                and sum(int(size_product(s.shape)) for s in specs) <= FOLD_LIMIT and not _any_size(attrs)):
            return self._fold(record, inputs, attrs, specs)
        if record.view is not None and inputs and _is_fill(inputs[0]) and len(inputs) == 1:
            return self._broadcast(_fill_source(inputs[0]), specs[0], where)
        return None

    def _broadcast(self, scalar: Value, spec: Spec, where: SourceLine | None) -> tuple[Value, ...]:
        if not spec.shape and not scalar.shape:
            return (scalar,)
        node = self._known.get(("fill", scalar.node.number, _frozen(tuple(spec.shape))))
        if node is None:
            node = self._append(OPS["broadcast_to"], (scalar,), {"shape": tuple(spec.shape)}, (spec,), where)
            self._known[("fill", scalar.node.number, _frozen(tuple(spec.shape)))] = node
        return node.outputs

    def _iota(self, attrs: dict[str, Any], spec: Spec, where: SourceLine | None) -> tuple[Value, ...]:
        """The index along one axis of several: a vector of indices, broadcast."""
        axis, size = attrs["axis"], spec.shape[attrs["axis"]]
        line = self.make(OPS["iota"], (), {"shape": (size,), "axis": 0, "dtype": attrs["dtype"]},
                         (Spec(spec.dtype, (size,)),), where)
        flat = tuple(size if i == axis else 1 for i in range(len(spec.shape)))
        placed = self.make(OPS["reshape"], line, {"shape": flat}, (Spec(spec.dtype, flat),), where)
        return self.make(OPS["broadcast_to"], placed, {"shape": spec.shape}, (spec,), where)

    def _fold(self, record: OpRecord, inputs: tuple[Value, ...], attrs: dict[str, Any],
              specs: Sequence[Spec]) -> tuple[Value, ...] | None:
        try:
            with np.errstate(all="ignore"):
                result = record.evaluate(*[v.node.attrs["value"] for v in inputs], **attrs)
        except (np.linalg.LinAlgError, IndexError):
            return None  # the program raises it where the user asked for it
        results = result if isinstance(result, tuple) else (result,)
        return tuple(self.constant(np.ascontiguousarray(r, dtype=s.dtype).reshape(np.shape(r)))
                     for r, s in zip(results, specs, strict=True))

    # -- from graphs
    def add_graph(self, outputs: Sequence[Tensor], known: dict[Tensor, Value]) -> list[Value]:
        """Lower what `outputs` depend on, given the values of some tensors."""
        order = ancestors(outputs, stop=lambda t: t in known)
        wider = _wider(order)
        for op in order:
            self._lower_once(op, known, wider)
        return [known[t] if t.op is not None else self.constant(np.ascontiguousarray(t.numpy())) for t in outputs]

    def _lower_once(self, op: Operation, known: dict[Tensor, Value], wider: _Wider) -> None:
        """Lower an operation, or in its place the widest loop that computes its outputs, too."""
        if all(t in known for t in op.outputs):
            return
        chain: list[tuple[Operation, Sequence[int]]] = [(op, ())]
        while chain[-1][0] in wider:
            chain.append(wider[chain[-1][0]])
        while True:
            last, places = chain.pop()
            missing = ancestors([t for t in last.inputs if t not in known], stop=known.__contains__) if chain else []
            if op not in missing:
                break
        for other in missing:
            self._lower_once(other, known, wider)
        known.update(zip(last.outputs, self._lower_op(last, known), strict=True))
        while chain:
            found = [known[t] for t in last.outputs]
            last, below = chain.pop()
            known.update({t: found[k] for t, k in zip(last.outputs, places, strict=True)})
            places = below

    def _lower_op(self, op: Operation, known: dict[Tensor, Value]) -> Sequence[Value]:
        if op.type == "placeholder":
            raise GraphError(f"compile: the placeholder {op.name} is not among the inputs{at(op.where)}")
        inputs = tuple([known[t] for t in op.inputs])
        record = op.record
        if record.decompose is not None:
            return self._decompose(op, inputs)
        if op.type == "scan":
            return self._scan(op, inputs)
        return self.make(record, inputs, op.attrs, [t.spec for t in op.outputs], op.where)

    def _scan(self, op: Operation, inputs: tuple[Value, ...]) -> Sequence[Value]:
        """A scan whose body is given what it would compute in every step alike."""
        body, moving = op.attrs["body"], op.attrs["carries"] + op.attrs["rows"]
        attrs, found = op.attrs, invariants(body, moving)
        if found:
            values = self.add_graph(found, dict(zip(body.inputs[moving:], inputs[moving:], strict=True)))
            attrs, inputs = {**attrs, "body": with_inputs(body, found)}, (*inputs, *values)
        return self.make(op.record, inputs, attrs, [t.spec for t in op.outputs], op.where)

    def _decompose(self, op: Operation, inputs: tuple[Value, ...]) -> Sequence[Value]:
        key = (op.type, tuple([(v.node.number, v.index) for v in inputs]), _frozen(op.attrs))
        found = self._known.get(key)
        if found is not None:
            return found  # type: ignore[return-value]
        scratch = Graph()
        scratch.sizes = self.sizes
        with scratch.as_default():
            tensors = [scratch.add(OPS["placeholder"], (), {}, (v.spec,)).outputs[0] for v in inputs]
            assert op.record.decompose is not None
            result = op.record.decompose(*tensors, **op.attrs)
        results = result if isinstance(result, (tuple, list)) else (result,)
        values = tuple(self.add_graph(results, dict(zip(tensors, inputs, strict=True))))
        self._known[key] = values  # type: ignore[assignment]
        return values


def lower(inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv) -> Lowered:
    """Lower the part of a graph that computes `outputs` from the placeholders `inputs`."""
    lowered = Lowered(sizes)
    known: dict[Tensor, Value] = {}
    for tensor in inputs:
        node = lowered._append(OPS["placeholder"], (), {}, (tensor.spec,), tensor.op.where if tensor.op else None)
        known[tensor] = node.outputs[0]
        lowered.inputs.append(node.outputs[0])
    lowered.outputs = lowered.add_graph(outputs, known)
    read_transposes_in_place(lowered)
    return lowered


def _wider(order: Sequence[Operation]) -> _Wider:
    """Loops that compute what others do, and more: those that keep states for the way back, and those with tangents."""
    found: _Wider = {}
    for op in order:
        if op.attrs.get("serves") is not None:
            found[op.attrs["serves"]] = (op, op.attrs["places"])
    for op in order:
        if op.attrs.get("extends") is not None:
            found[op.attrs["extends"]] = (op, range(len(op.attrs["extends"].outputs)))
    return found


def _is_fill(value: Value) -> bool:
    node = value.node
    return node.record.name == "broadcast_to" and node.inputs[0].op == "constant" and _array(node.inputs[0]).size == 1


def _fill_source(value: Value) -> Value:
    return value.node.inputs[0]


def _filled_with(value: Value, number: int) -> bool:
    source = _fill_source(value) if _is_fill(value) else value
    return source.op == "constant" and _array(source).size == 1 and bool(_array(source).reshape(()) == number)


def _array(constant: Value) -> np.ndarray[Any, Any]:
    return constant.node.attrs["value"]  # type: ignore[no-any-return]


def _any_size(attrs: dict[str, Any]) -> bool:
    return any(isinstance(v, Size) or (isinstance(v, tuple) and any(isinstance(x, Size) for x in v))
               for v in attrs.values())


def _frozen(value: Any) -> Any:
    """A hashable stand-in for an attribute; sizes by structure, so that looking them up records no guard."""
    if isinstance(value, dict):
        return tuple([(k, _frozen(v)) for k, v in sorted(value.items())])
    if isinstance(value, (tuple, list)):
        return tuple([_frozen(v) for v in value])
    if isinstance(value, Size):
        return ("size", repr(value.canonical()))
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes()) if value.size <= 64 else ("id", id(value))
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, (bool, complex)):
        return (type(value).__name__, str(value))
    return value

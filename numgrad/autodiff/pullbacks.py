"""Pullbacks of eager operations: what a derivative rule of the library does, traced once and replayed on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.rules import pull
from numgrad.autodiff.slices import IndexedSlices
from numgrad.errors import NumgradError
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.eager import is_plain
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, OpRecord
from numgrad.graph.scopes import heard_by
from numgrad.graph.walk import ancestors
from numgrad.silence import silence, unsilence

__all__ = ["replayed"]

# pullback(inputs, outputs, cotangents) -> a tensor or None for each input; all are eager
Pullback = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Any]], list[Any]]

_KEPT = 1 << 12
_TRACED_AFTER = 2  # a rule is traced when the same operation on the same shapes comes for the third time
_pullbacks: dict[Any, Pullback | None] = {}
_met: dict[Any, int] = {}


def replayed(op: Any, cotangents: Sequence[Any], needed: Sequence[bool], masked: bool,
             rows: bool) -> list[Tensor | IndexedSlices | None] | None:
    """`pull` for an eager operation that nobody listens to, without making the tensors between.

    None where the rule itself has to run: before it was traced, and where it cannot be; with `rows` also where the
    result is row-sparse.
    """
    record, inputs, attrs = op.record, op.inputs, op.attrs
    if attrs and ((rows and record.name == "take") or not all(map(is_plain, attrs.values()))):
        return None
    if cotangents[0].__class__ is IndexedSlices:
        return None
    key: list[Any] = [record.name, masked, *needed]
    for tensor in inputs:
        key += (tensor.dtype, tensor.shape)
    if attrs:
        key += attrs.items()
    if len(cotangents) > 1:
        key += [g is None for g in cotangents]
    if record.facts.get("fixed"):
        key += [_fixed(t) for t in inputs]
    signature = tuple(key)
    pullback = _pullbacks.get(signature)
    if pullback is None:
        if signature in _pullbacks:
            return None
        times = _met[signature] = _met.get(signature, 0) + 1
        if times <= _TRACED_AFTER:
            return None
        if len(_met) > _KEPT:
            _met.clear()
            _pullbacks.clear()
        pullback = _pullbacks[signature] = _traced(op, cotangents, needed, masked)
        if pullback is None:
            return None
    before = silence()
    try:
        return pullback(inputs, op.outputs, cotangents)
    except np.linalg.LinAlgError:
        return None  # the rule itself will say so, and where
    finally:
        unsilence(before)


def _fixed(tensor: Tensor) -> Any:
    """The value of a number, of which a rule may make use; not of an array."""
    return None if tensor.shape else tensor._value.item()  # type: ignore[union-attr]


def _of_the_library(record: OpRecord) -> bool:
    rules = record.partials or (record.vjp,)
    return record.kind != "effect" and all(
        rule is None or getattr(rule, "__module__", "").startswith("numgrad.ops.") for rule in rules)


class _Rehearsed:
    """An operation as its rule sees it while it is traced."""

    graph = override = where = None
    device = ""

    def __init__(self, op: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.record, self.type, self.name, self.attrs = op.record, op.type, op.name, op.attrs
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)


def _traced(op: Any, cotangents: Sequence[Tensor | None], needed: Sequence[bool], masked: bool) -> Pullback | None:
    if not _of_the_library(op.record):
        return None
    graph = Graph()
    inputs, outputs, seeds = ([t if t is None else _stand_in(graph, t) for t in given]
                              for given in (op.inputs, op.outputs, cotangents))
    if op.record.facts.get("fixed"):
        inputs = [t if not t.shape else s for t, s in zip(op.inputs, inputs, strict=True)]
    rehearsed: Any = _Rehearsed(op, inputs, outputs)  # type: ignore[arg-type]
    try:
        with graph.as_default(), heard_by(()):
            pulled = pull(rehearsed, seeds, needed, masked)
    except (NumgradError, NotImplementedError):
        return None  # the rule itself will say so, and where
    results = []
    for g in pulled:
        if isinstance(g, IndexedSlices):
            return None
        results.append(g if g is None or g.op is not None else graph.capture(g))
    given = {t: f"{name}[{i}]._value" for name, tensors in (("x", inputs), ("y", outputs), ("g", seeds))
             for i, t in enumerate(tensors) if t is not None}
    return _Text(given).of(results)


def _stand_in(graph: Graph, tensor: Tensor) -> Tensor:
    return graph.add(OPS["placeholder"], (), {}, (tensor.spec,)).outputs[0]


class _Text:
    """A pullback as the text of a Python function: a line for each operation, temporaries written over when dead."""

    def __init__(self, given: dict[Tensor, str]) -> None:
        self.names = given
        self.own: set[Tensor] = set()  # arrays that ufuncs made here and nothing else has seen
        self.world: dict[str, Any] = {"Tensor": Tensor, "array": _array}
        self.lines: list[str] = []

    def of(self, results: Sequence[Tensor | None]) -> Pullback | None:
        wanted = [t for t in results if t is not None]
        order = ancestors(wanted, stop=lambda t: t in self.names)
        if any(op.record.kind == "effect" or op.record.facts.get("bodies") or len(op.outputs) != 1 for op in order):
            return None
        self.last = {t: op for op in order for t in op.inputs}
        self.last.update(dict.fromkeys(wanted, None))  # type: ignore[arg-type]
        for op in order:
            self._line(op)
        body = "\n    ".join([*self.lines, f"return [{', '.join(map(self._result, results))}]"])
        exec(f"def pullback(x, y, g):\n    {body}\n", self.world)
        return self.world["pullback"]  # type: ignore[no-any-return]

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.world)}"
        self.world[name] = value
        return name

    def _line(self, op: Operation) -> None:
        output, = op.outputs
        if op.type == "constant":
            self.names[output] = self._constant(op.attrs["value"])
            return
        evaluate = op.record.evaluate
        arguments = [self.names[t] for t in op.inputs]
        plain = isinstance(evaluate, np.ufunc) and bool(output.shape) and not op.attrs
        dead = next((t for t in op.inputs if self.last[t] is op and t in self.own and t.dtype == output.dtype
                     and t.shape == output.shape), None) if plain else None
        if dead is not None:
            arguments.append(f"out={self.names[dead]}")
        elif op.attrs:
            arguments.append(f"**{self._constant(op.attrs)}")
        call = f"{self._constant(evaluate)}({', '.join(arguments)})"
        name = self.names[output] = f"t{len(self.lines)}"
        if plain:
            self.own.add(output)
        else:
            self.own.difference_update(op.inputs)  # the result may be a view
            call = f"array({call}, {self._constant(output.dtype)})"
        self.lines.append(f"{name} = {call}")

    def _result(self, tensor: Tensor | None) -> str:
        if tensor is None:
            return "None"
        name = self.names[tensor]
        if name.endswith("._value"):
            return name.removesuffix("._value")
        return f"Tensor({self._constant(tensor.dtype)}, {tensor.shape!r}, None, 0, {name})"


def _array(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if value.__class__ is not np.ndarray or value.dtype is not dtype:
        value = np.asarray(value, dtype=dtype)
    return value

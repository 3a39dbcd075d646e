"""Loops whose state fits into registers: a whole loop over a few numbers, nested loops and branches too, as one kernel.

Every value of the body is a few scalars (arrays of small known shapes count as such), so the loop needs no buffers
between its steps: carried values are local variables, rows are read and written where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numgrad.compiler.access import contiguous_strides
from numgrad.compiler.fusion import is_small_constant
from numgrad.compiler.printer_loops import INT, LoopText, Scope
from numgrad.compiler.printer_numba import COMBINE_FORMULA, Argument, Scratch, short_name
from numgrad.compiler.rewrite import REDUCTIONS, Lowered, Node, Value, lower
from numgrad.graph.body import Body
from numgrad.types import Dim, ShapeEnv, Spec, dim_key, size_product

__all__ = ["RegisterLoop", "Unfit", "loop_in_registers"]

MOST_ELEMENTS = 16  # of an array that is taken apart
MOST_VALUES = 2500  # scalar instructions in one kernel
LOOPS = frozenset({"scan", "while_loop", "trip_count"})


class Unfit(Exception):
    """The loop holds what does not fit into registers."""


@dataclass(frozen=True)
class RegisterLoop:
    """The kernel of a loop: its text, the arguments of its table in order, and the constants of its bodies."""

    source: str
    arguments: list[Argument | Scratch]
    constants: list[Value]
    operations: int  # of one step


class Memory(NamedTuple):
    """An array in memory that loops read and write row by row: element e of row r lies at ``base + r * size + e``."""

    pointer: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...]
    base: Any = 0  # a scalar value, or 0


Held = Any  # an object array of scalar values, or Memory


def loop_in_registers(node: Node, sizes: ShapeEnv, scalar: Any) -> RegisterLoop:
    """The kernel of a loop's node; Unfit if there is none. `scalar` is the formulas' module."""
    builder = _Builder(sizes, scalar)
    try:
        return builder.kernel(node)
    except LookupError as error:  # a formula is missing: whoever compiles the body step by step says so
        raise Unfit from error


class _Builder:
    def __init__(self, sizes: ShapeEnv, scalar: Any) -> None:
        self.sizes, self.scalar = sizes, scalar
        self.text = LoopText(scalar)
        self.arguments: list[Argument | Scratch] = []
        self.head: list[str] = []
        self.constants: list[Value] = []
        self._dims: dict[Any, Any] = {}
        self._pointers: dict[Value, str] = {}
        self._lowered: dict[Body, Lowered] = {}

    def kernel(self, node: Node) -> RegisterLoop:
        name, carries = node.record.name, node.attrs["carries"]
        rows = node.attrs["rows"] if name == "scan" else 0
        given = [self._memory(v) if carries <= k < carries + rows or not _is_small(v.shape) else self._element_loads(v)
                 for k, v in enumerate(node.inputs)]
        results = [Memory(self._pointer("q", v), v.dtype, v.shape) for v in node.outputs]
        if name == "scan":
            found = self._scan(node.attrs, given, results[carries:])
        else:
            found = self._while(node.attrs, given, name == "trip_count")
        for target, held in zip(results, found, strict=False):
            self._write(target, held)
        lines = self.text.finish()
        source = "def kernel(args, lo, hi):\n" + "".join(f"    {line}\n" for line in (*self.head, *lines))
        return RegisterLoop(source, self.arguments, self.constants, len(self.text.block.values))

    # -- arguments
    def _argument(self, name: str, argument: Argument | Scratch, short: str | None) -> None:
        entry = f"args[{len(self.arguments)}]"
        self.head.append(f"{name} = {entry if short is None else f'as_{short}({entry})'}")
        self.arguments.append(argument)

    def _pointer(self, letter: str, value: Value) -> str:
        if value not in self._pointers:
            self._pointers[value] = name = self.text.fresh(letter)
            self._argument(name, Argument("buffer", value), short_name(value.dtype))
        return self._pointers[value]

    def _memory(self, value: Value) -> Memory:
        return Memory(self._pointer("p", value), value.dtype, value.shape)

    def _element_loads(self, value: Value) -> Held:
        """The elements of a small array that no loop of this kernel writes."""
        number = is_small_constant(value)
        if number is not None:
            return _array([self.text.block.const(number, value.dtype)], tuple(int(d) for d in value.shape))
        outside, self.text.scope = self.text.scope, self.text.root
        held = self._elements(self._memory(value))
        self.text.scope = outside
        return held

    def _dim(self, dim: Dim) -> Any:
        """A size as a scalar value: an argument of the kernel."""
        key = dim_key(dim)
        if key not in self._dims:
            name = self.text.fresh("n")
            self._argument(name, Argument("dim", dim=dim), None)
            outside, self.text.scope = self.text.scope, self.text.root
            self._dims[key] = self.text.named(name, INT)
            self.text.scope = outside
        return self._dims[key]

    def _scratch(self, spec: Spec, shape: tuple[Dim, ...]) -> Memory:
        name = self.text.fresh("w")
        self._argument(name, Scratch(spec.dtype, size_product(shape)), short_name(spec.dtype))
        return Memory(name, spec.dtype, shape)

    # -- memory
    def _elements(self, memory: Memory) -> Held:
        """The elements of a small array in memory, read in the current scope."""
        count = int(size_product(memory.shape))
        loads = [self.text.load(memory.pointer, memory.dtype, self._place(memory, e)) for e in range(count)]
        return _array(loads, tuple(int(d) for d in memory.shape))

    def _scalars(self, held: Held) -> Held:
        """An array as its elements, read in the current scope where they are in memory."""
        if not isinstance(held, Memory):
            return held
        if not _is_small(held.shape):
            raise Unfit
        return self._elements(held)

    def _in_memory(self, held: Held, lines: list[str | Scope]) -> Memory:
        """An array as a loop reads its rows: from memory, into which `lines` write it first."""
        if isinstance(held, Memory):
            return held
        spec = Spec(held.reshape(-1)[0].dtype, held.shape)
        memory = self._scratch(spec, held.shape)
        for e, value in enumerate(held.reshape(-1)):
            lines.append(self.text.storing(memory.pointer, memory.dtype, e, value))
        return memory

    def _place(self, memory: Memory, element: Any) -> Any:
        return self.text.integer("add", element, memory.base)

    def _row(self, memory: Memory, row: Any) -> Memory:
        """One row of an array in memory, as an array in memory."""
        size = size_product(memory.shape[1:])
        step = self.text.integer("mul", row, size if isinstance(size, int) else self._dim(size))
        return memory._replace(shape=memory.shape[1:], base=self._place(memory, step))

    def _write(self, target: Memory, held: Held) -> None:
        """Store an array at the end of the current scope."""
        if not isinstance(held, Memory):
            for e, value in enumerate(held.reshape(-1)):
                self.text.scope.tail.append(
                    self.text.storing(target.pointer, target.dtype, self._place(target, e), value))
            return
        counter, high = self.text.fresh("i"), self._dim(size_product(target.shape))
        head = f"for {counter} in range(0, {self.text.spelled(high)}):"
        with self.text.inside(True) as scope:
            e = self.text.named(counter, INT)
            value = self.text.load(held.pointer, held.dtype, self._place(held, e))
            scope.tail.append(self.text.storing(target.pointer, target.dtype, self._place(target, e), value))
        self.text.scope.tail += [head, scope]

    # -- bodies
    def _run(self, body: Body, given: Sequence[Held]) -> list[Held]:
        """The outputs of a body, for given inputs, in the current scope."""
        if body not in self._lowered:
            self._lowered[body] = lower(body.inputs, body.outputs, self.sizes)
        lowered = self._lowered[body]
        known = dict(zip(lowered.inputs, given, strict=True))
        live = set(lowered.outputs)
        for node in reversed(lowered.nodes):
            if not live.isdisjoint(node.outputs):
                live.update(node.inputs)
        for node in lowered.nodes:
            if node.outputs[0] in known or live.isdisjoint(node.outputs):
                continue
            found = self._node(node, [known[v] for v in node.inputs], live)
            known.update(zip(node.outputs, found, strict=True))
            if len(self.text.block.values) > MOST_VALUES:
                raise Unfit
        return [known[v] for v in lowered.outputs]

    def _node(self, node: Node, inputs: Sequence[Held], live: set[Value]) -> Sequence[Held]:
        record, attrs = node.record, node.attrs
        if record.name == "scan":
            stacked = node.outputs[attrs["carries"]:]
            targets = [self._scratch(v.spec, v.shape) if v in live else None for v in stacked]
            return [*self._scan(attrs, inputs, targets), *targets]
        if record.name in LOOPS:
            return self._while(attrs, inputs, record.name == "trip_count")
        if record.name == "switch":
            return self._switch(attrs["branches"], inputs, node.outputs)
        output = node.outputs[0]
        if record.name == "size":
            return [_array([self._dim(attrs["value"])], ())]
        if not _is_small(output.shape):
            raise Unfit
        inputs = [self._scalars(held) for held in inputs]
        shape = tuple(int(d) for d in output.shape)
        if record.name == "constant":
            if is_small_constant(output) is None:
                self.constants.append(output)
            return [self._element_loads(output)]
        if record.name == "iota":
            numbers = np.arange(shape[0]).astype(output.dtype)
            return [_array([self.text.block.const(n, output.dtype) for n in numbers.tolist()], shape)]
        if record.view is not None:
            strides = contiguous_strides(inputs[0].shape)
            access = record.view.access(node.inputs[0].spec, output.spec, attrs, strides)
            assert access is not None, node  # of what lies in order every view is index arithmetic
            return [_taken(inputs[0].reshape(-1), _indices(shape, *access))]
        if record.name == "add_n":
            terms = zip(*(held.reshape(-1) for held in inputs), strict=True)
            return [_array([self._folded("add", term, output.dtype) for term in terms], shape)]
        if record.kind == "elementwise":
            return [self._elementwise(record.name, inputs, output, attrs)]
        if record.name in REDUCTIONS:
            return [self._reduction(record.name, inputs[0], attrs["axes"], output.dtype)]
        if record.regions is not None:
            return [self._regions(node, inputs, shape)]
        if record.name == "matmul":
            return [self._matmul(inputs[0], inputs[1], attrs, output.dtype)]
        raise Unfit

    # -- what nodes do
    def _apply(self, op: str, operands: Sequence[Any], dtype: np.dtype[Any], attrs: Mapping[str, Any]) -> Any:
        return self.scalar.apply(self.text.block, op, operands, dtype, attrs)

    def _elementwise(self, op: str, inputs: Sequence[Held], output: Value, attrs: Mapping[str, Any]) -> Held:
        shape = tuple(int(d) for d in output.shape)
        plain = {k: v for k, v in attrs.items() if not isinstance(v, np.ndarray)}
        flat = [np.broadcast_to(held, shape).reshape(-1) for held in inputs]
        return _array([self._apply(op, operands, output.dtype, plain) for operands in zip(*flat, strict=True)], shape)

    def _reduction(self, op: str, source: Held, axes: Sequence[int], dtype: np.dtype[Any]) -> Held:
        kept = [a for a in range(source.ndim) if a not in axes]
        shape = tuple(source.shape[a] for a in kept)
        terms = source.transpose([*kept, *axes]).reshape((*shape, -1)).reshape((int(np.prod(shape, dtype=int)), -1))
        if not terms.shape[1]:
            raise Unfit
        return _array([self._folded(COMBINE_FORMULA[op], row, dtype) for row in terms], shape)

    def _folded(self, op: str, terms: Sequence[Any], dtype: np.dtype[Any]) -> Any:
        total = terms[0]
        for term in terms[1:]:
            total = self._apply(op, [total, term], dtype, {})
        return total

    def _regions(self, node: Node, inputs: Sequence[Held], shape: tuple[int, ...]) -> Held:
        regions, output = node.record.regions, node.outputs[0]
        assert regions is not None
        flat = _array([self.text.block.const(0, output.dtype)], (int(np.prod(shape, dtype=int)),))
        strides = contiguous_strides(shape)
        places = regions.place([v.spec for v in node.inputs], output.spec, node.attrs, strides)
        for held, (offset, steps) in zip(inputs, places, strict=True):
            for place, value in zip(_indices(held.shape, offset, steps).reshape(-1), held.reshape(-1), strict=True):
                flat[place] = value
        return flat.reshape(shape)

    def _matmul(self, a: Held, b: Held, attrs: Mapping[str, Any], dtype: np.dtype[Any]) -> Held:
        a = np.swapaxes(a, -1, -2) if attrs["transpose_a"] else a
        b = np.swapaxes(b, -1, -2) if attrs["transpose_b"] else b
        shape = (*a.shape[:-1], b.shape[-1])
        if not a.shape[-1] or dtype.kind == "b":
            raise Unfit
        if len(self.text.block.values) + a.size * b.shape[-1] > MOST_VALUES:
            raise Unfit
        cells = []
        for *batch, i, j in np.ndindex(*shape):
            terms = [self._apply("multiply", [x, y], dtype, {})
                     for x, y in zip(a[(*batch, i)], b[(*batch, slice(None), j)], strict=True)]
            cells.append(self._folded("add", terms, dtype))
        return _array(cells, shape)

    # -- loops and branches
    def _cells(self, start: Sequence[Held]) -> tuple[list[tuple[list[str], Any]], list[str | Scope]]:
        """Names for carried arrays (with their scalars for dtypes and shapes), and the lines that start them."""
        start = [self._scalars(held) for held in start]
        cells = [([self.text.fresh("s") for _ in held.reshape(-1)], held) for held in start]
        return cells, [*self._set(cells, start)]

    def _set(self, cells: Sequence[tuple[list[str], Any]], values: Sequence[Held]) -> list[str]:
        return [f"{name} = {self.text.spelled(value)}" for (names, _), held in zip(cells, values, strict=True)
                for name, value in zip(names, held.reshape(-1), strict=True)]

    def _current(self, cells: Sequence[tuple[list[str], Any]], dtype: Callable[[str, Any], Any]) -> list[Held]:
        return [_array([dtype(name, v.dtype) for name, v in zip(names, held.reshape(-1), strict=True)], held.shape)
                for names, held in cells]

    def _entering(self, name: str, dtype: Any) -> Any:
        """A carried value as it is when the step begins: a name of its own, which the step's end does not change."""
        return self.text.defined(dtype, name)

    def _rounded(self, body: Body, values: Sequence[Held]) -> list[Held]:
        """Carries as they would come back from memory: float16 is computed in float32 and rounded."""
        values = [self._scalars(held) for held in values]
        return [_array([self.text.block.emit("round_f16", v.dtype, v) for v in held.reshape(-1)], held.shape)
                if t.dtype == np.float16 else held
                for t, held in zip(body.outputs, values, strict=False)]

    def _scan(self, attrs: Mapping[str, Any], inputs: Sequence[Held],
              targets: Sequence[Memory | None]) -> list[Held]:
        """A for loop; its carries afterwards. `targets` receive the stacked rows, where they are wanted."""
        body, carries, rows = attrs["body"], attrs["carries"], attrs["rows"]
        cells, lines = self._cells(inputs[:carries])
        stacks = [self._in_memory(held, lines) for held in inputs[carries:carries + rows]]
        length, counter = self._dim(attrs["length"]), self.text.fresh("i")
        head = f"for {counter} in range(0, {self.text.spelled(length)}):"
        with self.text.inside(True) as scope:
            at = self.text.named(counter, INT)
            if attrs["reverse"]:
                at = self.text.integer("sub", self.text.integer("sub", length, at), 1)
            given = self._current(cells, self._entering)
            for stack in stacks:
                row = self._row(stack, at)
                given.append(self._elements(row) if _is_small(row.shape) else row)
            found = self._run(body, [*given, *inputs[carries + rows:]])
            for target, held in zip(targets, found[carries:], strict=True):
                if target is not None:
                    self._write(self._row(target, at), held)
            scope.tail += self._set(cells, self._rounded(body, found[:carries]))
        self.text.put([*lines, head, scope])
        return self._current(cells, self.text.named)

    def _while(self, attrs: Mapping[str, Any], inputs: Sequence[Held], counting: bool) -> list[Held]:
        """A while loop; its carries afterwards, or the number of its trips."""
        body, carries = attrs["body"], attrs["carries"]
        cells, lines = self._cells(inputs[:carries])
        captured, going, trips = inputs[carries:], self.text.fresh("g"), self.text.fresh("t")
        most = None if attrs["maximum"] is None else self.text.spelled(self._dim(int(attrs["maximum"])))
        counted = counting or most is not None
        lines.append(f"{going} = {'True' if most is None else f'0 < {most}'}")
        lines += [f"{trips} = 0"] if counted else []
        with self.text.inside(True) as around:
            current = self._current(cells, self._entering)
            test, = self._run(attrs["cond"], [*current, *captured])
            around.tail += [f"{going} = {self.text.spelled(self._scalars(test)[()])}", f"if {going}:"]
            with self.text.inside(False) as scope:
                found = self._run(body, [*current, *captured])
                scope.tail += self._set(cells, self._rounded(body, found))
                scope.tail += [f"{trips} = {trips} + 1"] if counted else []
                if most is not None:
                    scope.tail.append(f"{going} = {trips} < {self.text.spelled(self._dim(int(attrs['maximum'])))}")
            around.tail.append(scope)
        self.text.put([*lines, f"while {going}:", around])
        if counting:
            return [_array([self.text.named(trips, INT)], ())]
        return self._current(cells, self.text.named)

    def _switch(self, branches: Sequence[Body], inputs: Sequence[Held], outputs: Sequence[Value]) -> list[Held]:
        """An if statement with a branch for each index; others take the last."""
        if len(branches) == 1:
            return self._run(branches[0], inputs[1:])
        index = self.text.spelled(self._scalars(inputs[0])[()])
        parts: list[str | Scope] = []
        cells: list[tuple[list[str], Any]] = []
        for k, branch in enumerate(branches):
            with self.text.inside(False) as scope:
                found = [self._scalars(held) for held in self._run(branch, inputs[1:])]
                if not cells:
                    cells = [([self.text.fresh("s") for _ in held.reshape(-1)], held) for held in found]
                scope.tail += self._set(cells, found)
            parts += ["else:" if k == len(branches) - 1 else f"{'el' * bool(k)}if {index} == {k}:", scope]
        self.text.put(parts)
        return self._current(cells, self.text.named)


def _is_small(shape: Sequence[Dim]) -> bool:
    """Whether an array of this shape is taken apart: few elements, known while compiling."""
    return all(isinstance(d, int) for d in shape) and 0 < int(size_product(shape)) <= MOST_ELEMENTS


def _array(values: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array of scalar values; a single one fills it."""
    result = np.empty(int(np.prod(shape, dtype=int)), object)
    for e in range(result.size):
        result[e] = values[e if len(values) > 1 else 0]
    return result.reshape(shape)


def _taken(flat: Any, places: Any) -> np.ndarray[Any, Any]:
    return _array([flat[place] for place in places.reshape(-1)], places.shape)


def _indices(shape: Sequence[int], offset: Any, strides: Sequence[Any]) -> Any:
    """The places of an array's elements in a flat array, from an offset and a stride for each axis."""
    places = np.full(tuple(shape), int(offset))
    for axis, stride in enumerate(strides):
        steps = np.arange(shape[axis]) * int(stride)
        places += steps.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return places

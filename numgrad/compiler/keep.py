"""Programs on disk: what a new process needs to run a graph without scheduling, fusing and printing it again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.assumptions import Guard
from numgrad.clock import phase
from numgrad.compiler.code import Checks, Code, Extremum
from numgrad.compiler.identity import Identity, identify
from numgrad.compiler.layout import BlockLayout, ControlLayout, Failure, Layout, Sizes
from numgrad.compiler.lowering import Launch, kernels
from numgrad.compiler.tape import Tape
from numgrad.graph.core import Tensor
from numgrad.sizes import compound_atom
from numgrad.types import Dim, ShapeEnv, Size, dim_key

__all__ = ["code_for"]

LEAST_KERNELS = 3  # programs of fewer steps are made as quickly as found
_LOG = logging.getLogger("numgrad")


def code_for(inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv) -> Code:
    """The code of the part of a graph between `inputs` and `outputs`: from disk if it was made before."""
    disk = kernels("disk")
    with phase("look up"):
        identity = identify(inputs, outputs, sizes) if disk.path() is not None else None
        content = None if identity is None else disk.load(identity.key, disk.PROGRAM)
        code = None if identity is None or content is None else _restored(content.code, identity, sizes)
    if code is not None:
        return code
    with phase("print"):
        return _made(inputs, outputs, sizes, identity)


def _made(inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv, identity: Identity | None) -> Code:
    """A new code, kept on disk where that is possible and worth it."""
    if identity is None:
        return Code(inputs, outputs, sizes)
    disk = kernels("disk")
    symbols, guards, bounds = len(sizes.symbols), len(sizes.guards), [s.bound for s in sizes.symbols]
    code = Code(inputs, outputs, sizes)
    if len(code.all_launches()) >= LEAST_KERNELS and symbols == len(sizes.symbols) and bounds == [
            s.bound for s in sizes.symbols]:
        payload = _Writer(identity).program(code, sizes.guards[guards:])
        if payload is not None:
            disk.store(disk.Entry(identity.key, (), (), payload), disk.PROGRAM)
    return code


class Unkept(Exception):
    """The code holds what cannot be written down."""


class _Writer:
    """Turns a code into JSON: sizes and sources once each, lines and constants by their place in the graph."""

    def __init__(self, identity: Identity) -> None:
        self._lines = {id(line): i for i, line in reversed(list(enumerate(identity.lines))) if line is not None}
        self._arrays = {a.ctypes.data: i for i, a in enumerate(identity.arrays) if a.nbytes > 64}
        self._known: dict[Any, int] = {}
        self.dims: list[Any] = []
        self._kernels: dict[tuple[int, str], int] = {}
        self.kernels: list[list[str]] = []  # reference, source

    def program(self, code: Code, guards: Sequence[Guard]) -> bytes | None:
        """The bytes of a program's file; None if it cannot be kept."""
        try:
            content = {"code": self.code(code), "guards": [
                [self.dim(g.left), g.sign, self.dim(g.right), self.line(g.where)] for g in guards]}
            return json.dumps({**content, "dims": self.dims, "kernels": self.kernels}, separators=(",", ":")).encode()
        except (Unkept, TypeError):
            return None

    def code(self, code: Code) -> dict[str, Any]:
        layout = code.layout
        plain = {name: getattr(layout, name) for name in _PLAIN_FIELDS}
        return {
            "launches": [[self.kernel(x), x.title, x.parallel, self.line(x.where), [self.code(b) for b in x.bodies],
                          self.tape(x.tape)] for x in code.launches],
            "sizes": [self.dim(e) for e in layout.sizes.expressions], "layout": plain,
            "constants": [self.constant(c) for c in code.constants],
            "in_place": sorted(code.in_place),
            "computed": [[self.dim(dim), self.line(where)] for dim, where in code.checks.computed],
            "extrema": [[e.name, e.dtype.str, [self.dim(d) for d in e.shape], e.axes, self.line(e.where)]
                        for e in code.checks.extrema]}

    def kernel(self, launch: Launch) -> int:
        key = launch.address, launch.source  # loops of all kinds share kernels, and show their bodies' text
        found = self._kernels.get(key)
        if found is None:
            reference = f"control:{launch.symbol.removeprefix('ng_')}" if launch.bodies else (
                kernels("build").key_of(launch.address))
            if reference is None:
                raise Unkept
            found = self._kernels[key] = len(self.kernels)
            self.kernels.append([reference, launch.source])
        return found

    def tape(self, tape: Tape | None) -> Any:
        return None if tape is None else [self.dim(tape.steps), self.dim(tape.state), tape.checkpoint]

    def line(self, where: Any) -> Any:
        """The place of an operation with this line, or the line as text."""
        return None if where is None else self._lines.get(id(where), str(where))

    def constant(self, array: np.ndarray[Any, Any]) -> Any:
        place = self._arrays.get(array.ctypes.data)
        return place if place is not None else [array.dtype.str, array.shape, array.tobytes().hex()]

    def dim(self, dim: Dim) -> int:
        key = dim_key(dim)
        found = self._known.get(key)
        if found is None:
            plain = dim if isinstance(dim, int) else [[c, [self._atom(a) for a in m]] for m, c in dim.terms]
            found = self._known[key] = len(self.dims)  # after those that it is made of
            self.dims.append(plain)
        return found

    def _atom(self, atom: Any) -> Any:
        return [atom.kind, *(self.dim(a) for a in atom.args)] if hasattr(atom, "kind") else atom.number


# What a layout holds besides its launches, its sizes, and tuples that JSON would turn into lists.
_PLAIN_FIELDS = ("table_words rows slot_bytes slot_lives value_lives homes size_nodes scratch spans costs controls "
                 "chunked combines moved flops failures merged").split()


class _Reader:
    """Turns the JSON back, for the graph of this process."""

    def __init__(self, content: dict[str, Any], identity: Identity, sizes: ShapeEnv) -> None:
        self._identity, self._sizes = identity, sizes
        self._dims: list[Dim] = []
        for plain in content["dims"]:
            self._dims.append(plain if isinstance(plain, int) else Size(tuple(
                [(tuple([self._atom(a) for a in atoms]), factor) for factor, atoms in plain])))
        self._kernels = [self._kernel(reference, source) for reference, source in content["kernels"]]

    def _atom(self, atom: Any) -> Any:
        if isinstance(atom, int):
            return self._sizes.symbols[atom]
        kind, first, second = atom
        return compound_atom(kind, self._dims[first], self._dims[second])

    def _kernel(self, reference: str, source: str) -> tuple[int, str, str]:
        kind, _, name = reference.rpartition(":")
        if kind:
            return kernels("control").address(name), f"ng_{name}", source
        built = kernels("build").find_built(reference, source)
        if built is None:
            raise Unkept
        return built.address, built.symbol, source

    def line(self, line: Any) -> Any:
        return self._identity.lines[line] if isinstance(line, int) else line

    def _tape(self, steps: int, state: int, checkpoint: Any) -> Tape:
        return Tape(self._dims[steps], self._dims[state], checkpoint)

    def guards(self, plain: Sequence[Any]) -> list[Guard]:
        return [Guard(self._dims[left], sign, self._dims[right], self.line(where))
                for left, sign, right, where in plain]

    def code(self, plain: dict[str, Any]) -> Code:
        launches = []
        found = plain["layout"]
        for kernel, title, parallel, where, bodies, tape in plain["launches"]:
            address, symbol, source = self._kernels[kernel]
            launches.append(Launch(address, symbol, title, source, [], 0, 0, parallel, [], [], self.line(where),
                                   bodies=[self.code(b) for b in bodies],
                                   tape=None if tape is None else self._tape(*tape)))
        layout = Layout.__new__(Layout)
        layout.launches, layout.sizes = launches, Sizes(self._sizes.symbols)
        for dim in plain["sizes"]:
            layout.sizes.append(self._dims[dim])
        vars(layout).update(found)
        layout.rows = [(start, [(kind, tuple(where) if kind == "partials" else where, offset, itemsize)
                                for kind, where, offset, itemsize in entries]) for start, entries in found["rows"]]
        layout.controls = [None if c is None else _control(*c) for c in found["controls"]]
        layout.failures = [None if f is None else Failure(*f) for f in found["failures"]]
        constants = [self._identity.arrays[c] if isinstance(c, int) else _array(*c) for c in plain["constants"]]
        checks = Checks([(self._dims[dim], self.line(where)) for dim, where in plain["computed"]],
                        [Extremum(name, np.dtype(dtype), tuple([self._dims[d] for d in shape]), tuple(axes),
                                  self.line(where)) for name, dtype, shape, axes, where in plain["extrema"]])
        return Code.kept(launches, layout, [np.ascontiguousarray(c) for c in constants], checks,
                         frozenset(plain["in_place"]))


def _control(*fields: Any) -> ControlLayout:
    found = ControlLayout(*fields)
    return found if found.blocks is None else found._replace(blocks=BlockLayout(*found.blocks))


def _array(dtype: str, shape: Sequence[int], content: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytes.fromhex(content), np.dtype(dtype)).reshape(shape)


def _restored(content: bytes, identity: Identity, sizes: ShapeEnv) -> Code | None:
    """The code in a file's bytes, or None if one of its kernels is gone."""
    try:
        plain = json.loads(content)
        reader = _Reader(plain, identity, sizes)
        code = reader.code(plain["code"])
        guards = reader.guards(plain["guards"])
    except Unkept:
        return None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        _LOG.info("program cache: ignored %s: %s", identity.key, error)
        return None
    sizes.guards.extend(guards)
    return code

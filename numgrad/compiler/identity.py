"""The identity of a graph: a hash of all that shapes its program, the same in every process."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from numgrad.compiler.lowering import kernels
from numgrad.errors import SourceLine
from numgrad.graph.body import Body
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.walk import ancestors
from numgrad.ops.control import CountedSize
from numgrad.types import Dim, ShapeEnv, Size, dim_key

__all__ = ["Identity", "identify", "versions"]

_PLAIN = (bool, int, float, complex, str, bytes)
_SMALL = 1024  # bytes up to which an array is written down instead of hashed
# The rest of numgrad shapes graphs, not what is made of them.
_SOURCES = ("autodiff", "compiler", "graph", "ops", "tracing", "assumptions.py", "extend.py", "sizes.py", "types.py")


class Unkeyed(Exception):
    """The graph holds what means something in this process only."""


class Identity:
    """A graph's key, and what a program that is found by it refers to in this process's graph.

    Attributes
    ----------
    key : str
        64 hexadecimal digits.
    lines : list
        The user's line of each operation, those of loops' bodies behind the loop.
    arrays : list of numpy.ndarray
        The constants, in the same order.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv) -> None:
        self.lines: list[SourceLine | None] = []
        self.arrays: list[np.ndarray[Any, Any]] = []
        self._bodies: dict[int, int] = {}
        bounds = [(s.number, None if s.bound is None else dim_key(s.bound)) for s in sizes.symbols]
        parts = [versions(), _settings(), bounds, self._graph(inputs, outputs, sizes)]
        self.key = hashlib.sha256(marshal.dumps(parts, 2)).hexdigest()  # version 2 writes equal things alike

    def _graph(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv | None = None) -> list[Any]:
        given = {t: (-1, i) for i, t in enumerate(inputs)}
        order = ancestors(outputs, stop=given.__contains__)
        place: dict[Operation, int] = {op: i for i, op in enumerate(order)}

        def reference(tensor: Tensor) -> tuple[int, int]:
            found = given.get(tensor)
            if found is not None:
                return found
            if tensor.op is None or tensor.op not in place:
                raise Unkeyed(repr(tensor))
            return place[tensor.op], tensor.index

        parts: list[Any] = [[_spec(t) for t in inputs]]
        for op in order:
            if op.record.infer.__module__ == "numgrad.extend":
                raise Unkeyed  # an operation of the user's, known by its name only
            self.lines.append(op.where)
            attrs = [(name, place.get(value, -1) if isinstance(value, Operation) else self._plain(value))
                     for name, value in sorted(op.attrs.items())]
            parts.append((op.type, [reference(t) for t in op.inputs], attrs, [_spec(t) for t in op.outputs]))
        parts.append([reference(t) for t in outputs])
        counted = [symbol for symbol in sizes.counted if symbol.source.op in place] if sizes is not None else []
        parts.append([(symbol.number, reference(symbol.source)) for symbol in counted])
        return parts

    def _plain(self, value: Any) -> Any:
        """A value as what is written down alike in all processes."""
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, Size):
            return ("size", value.key)
        if isinstance(value, CountedSize):
            return ("counted", value.size.key)
        if isinstance(value, (tuple, list)):
            return ("tuple", *[self._plain(v) for v in value])
        if isinstance(value, np.dtype):
            return ("dtype", value.str)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return ("scalar", value.dtype.str, value.tobytes())
        if isinstance(value, dict):
            return ("dict", [(self._plain(k), self._plain(v)) for k, v in value.items()])
        if isinstance(value, slice):
            return ("slice", self._plain((value.start, value.stop, value.step)))
        if isinstance(value, Body):
            known = self._bodies.setdefault(id(value), len(self._bodies))
            return ("body", known, self._graph(value.inputs, value.outputs))
        raise Unkeyed(type(value).__name__)

    def _array(self, array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        if array.dtype.hasobject:
            raise Unkeyed(array.dtype.str)
        self.arrays.append(array)
        content = array.tobytes()
        if len(content) > _SMALL:
            content = hashlib.sha256(content).digest()
        return ("array", array.dtype.str, array.shape, content)


def _spec(tensor: Tensor) -> tuple[str, tuple[Any, ...]]:
    return tensor.dtype.str, tuple([_key(d) for d in tensor.shape])


def _key(dim: Dim) -> Any:
    return dim if isinstance(dim, int) else dim.key


@cache
def versions() -> str:
    """A hash of the code that makes programs: numgrad's own, and what the kernels' keys depend on."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256(kernels("build").fingerprint())
    for name in _SOURCES:
        place = root / name
        for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _settings() -> tuple[str, str]:
    settings = kernels("settings").settings
    return settings.vector_math, settings.front_end


def identify(inputs: Sequence[Tensor], outputs: Sequence[Tensor], sizes: ShapeEnv) -> Identity | None:
    """The identity of the part of a graph between `inputs` and `outputs`; None where it means nothing elsewhere."""
    try:
        return Identity(inputs, outputs, sizes)
    except Unkeyed:
        return None

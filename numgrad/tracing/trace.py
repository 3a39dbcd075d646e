"""A trace: a Python function run once on symbolic arguments, its graph, the sizes it holds for, its program."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.clock import Clock, phase
from numgrad.compiler.layout import Sizes
from numgrad.compiler.program import compile_program
from numgrad.errors import DtypeError, GraphError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, TracedValueError, apply, as_tensor, placeholder, weaken
from numgrad.graph.graph import Graph
from numgrad.graph.run import evaluate
from numgrad.graph.scopes import heard_by
from numgrad.graph.variable import Variable
from numgrad.graph.walk import ancestors
from numgrad.nest import LEAF, Structure, assembler, flatten, unflatten
from numgrad.tracing.stateful import with_variables
from numgrad.types import Guard, as_dtype, dim_key, lone_symbol

__all__ = ["Argument", "Static", "Variant", "describe", "numbers_behind", "result_tensors", "trace"]


class Static:
    """A value that is part of the program: it is compared by type and value, never traced."""

    __slots__ = ("key", "value")

    def __init__(self, value: Any, where: str) -> None:
        self.value = value
        self.key = _static_key(value)
        try:
            hash(self.key)
        except TypeError as error:
            raise TypeError(f"{where}: a {type(value).__name__} is neither an array nor hashable; pass arrays, "
                            f"numbers, nests of them, or hashable static values{at(user_line())}") from error


def _static_key(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return kind, value.hex()  # tells -0.0 from 0.0 and finds nan again
    if kind is complex:
        return kind, value.real.hex(), value.imag.hex()
    if kind is tuple:
        return kind, tuple(_static_key(v) for v in value)
    return kind, value


class Argument(NamedTuple):
    """One leaf of the arguments: what is traced for it, or its static value."""

    kind: Any  # dtype of an array, "f" "i" "c" for a Python number, "static"
    detail: Any  # rank of an array, key of a static value
    value: Any  # the array, the number, the static value


_NUMBERS = {int: "i", float: "f", complex: "c"}
_NUMBER_DTYPES = {"i": np.dtype(np.int64), "f": np.dtype(np.float64), "c": np.dtype(np.complex128)}
_INT64 = np.iinfo(np.int64)


def describe(leaf: Any, where: Callable[[], str]) -> Argument:
    """How an argument's leaf enters the trace; `where` names it in errors."""
    kind = type(leaf)
    if kind is np.ndarray:
        dtype = leaf.dtype
        if not dtype.isnative or dtype.kind not in "biufc":
            return _array(leaf, where)
        return Argument(dtype, leaf.ndim, leaf)
    if kind is Static:
        return Argument("static", leaf.key, leaf.value)
    if kind in _NUMBERS and not (kind is int and not _INT64.min <= leaf <= _INT64.max):
        return Argument(_NUMBERS[kind], 0, leaf)
    if isinstance(leaf, Tensor):
        value = leaf.numpy()
        return Argument(value.dtype, value.ndim, value)
    if kind is list or isinstance(leaf, (np.ndarray, np.generic)) or (
            hasattr(leaf, "__array__") and not isinstance(leaf, type)):
        return _array(leaf, where)
    static = Static(leaf, where())
    return Argument("static", static.key, leaf)


def _array(leaf: Any, where: Callable[[], str]) -> Argument:
    if isinstance(leaf, (np.matrix, np.ma.MaskedArray)):
        instead = "m.filled(value), and a 0/1 weight array for the mask"
        if isinstance(leaf, np.matrix):
            instead = "np.asarray(m)"
        raise DtypeError(f"{where()}: a {type(leaf).__name__} follows rules of its own and is not traced; pass "
                         f"{instead}{at(user_line())}")
    try:
        array = np.asarray(leaf)
    except ValueError as error:
        raise ShapeError(f"{where()}: a nested list whose rows differ in length is no array: "
                         f"{error}{at(user_line())}") from error
    if array.dtype == object:
        raise DtypeError(f"{where()}: an array of Python objects (dtype object); wanted numbers, of one dtype; "
                         f"convert it with .astype(float), or pass a list or dict of arrays as a nest{at(user_line())}")
    try:
        dtype = as_dtype(array.dtype)
    except DtypeError as error:
        raise DtypeError(f"{where()}: {error}") from error
    return Argument(dtype, array.ndim, array.astype(dtype, copy=False))


def call_array(argument: Argument) -> np.ndarray[Any, Any]:
    """The C-contiguous array that a program takes for an argument."""
    if isinstance(argument.kind, str):
        return np.asarray(argument.value, dtype=_NUMBER_DTYPES[argument.kind])
    return np.asarray(argument.value, order="C")


# What counts as a list of points, whose coordinates are unrolled: the lengths of the last axis, the number of points.
FEW_COORDINATES = 4
MANY_POINTS = 16


class Variant:
    """One trace, with the sizes that it holds for.

    `inputs` are the placeholders of the arguments' arrays and numbers, in order; `outputs` the results' tensors.
    """

    def __init__(self, graph: Graph, inputs: list[Tensor], outputs: list[Tensor], structure: Structure,
                 assigned: Mapping[Variable, Tensor] | None = None) -> None:
        self.graph, self.inputs, self.outputs, self.structure = graph, inputs, outputs, structure
        self.assigned = assigned or {}
        self.finish = None if structure == LEAF else assembler(structure)  # None: the one output as it is
        unique = {(dim_key(g.left), g.sign, dim_key(g.right)): g for g in graph.sizes.guards}
        self.guards: tuple[Guard, ...] = tuple(unique.values())
        self.clock = Clock()
        self._lock = threading.Lock()
        self._program: Any = None

    def holds(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether what was relied upon about sizes while tracing is true of these shapes."""
        try:
            return self._test(shapes)  # type: ignore[no-any-return]
        except ZeroDivisionError:
            return False

    @functools.cached_property
    def _test(self) -> Any:
        """The test of shapes, as generated code."""
        symbols = [lone_symbol(dim) for t in self.inputs for dim in t.shape]
        sizes = Sizes(list(dict.fromkeys(s for s in symbols if s is not None)))
        shapes = [[f"d{k}_{axis}" for axis in range(len(t.shape))] for k, t in enumerate(self.inputs)]
        lines = [f"{''.join(f'[{chr(44).join(names)}], ' for names in shapes)} = shapes"] if shapes else []
        lines += [f"{sizes.names[s]} = {name}" for s, name in zip(symbols, (n for names in shapes for n in names),
                                                                 strict=True) if s is not None]
        tests = [f"({sizes.source(g.left)}) {g.sign} ({sizes.source(g.right)})" for g in self.guards]
        lines.append(f"return {' and '.join(tests) or 'True'}")
        scope: dict[str, Any] = {}
        exec("\n    ".join(["def test(shapes):", *lines]), scope)
        return scope["test"]

    @property
    def program(self) -> Any:
        """What computes the outputs' arrays from the inputs'; made at the first call."""
        if self._program is None:
            with self._lock:
                if self._program is None:
                    with self.clock.running():
                        self._program = with_variables(make_program, self.inputs, self.outputs, self.assigned)
        return self._program

    @property
    def programs(self) -> list[Any]:
        """The native programs, one or, with steps in Python between them, several; none before the first call."""
        found = self._program if not hasattr(self._program, "program") else self._program.program
        return getattr(found, "programs", [found] if hasattr(found, "origin") else [])

    def forget_locks(self) -> None:
        """Give a forked child a lock of its own."""
        self._lock = threading.Lock()


class Interpreted:
    """A program by NumPy evaluation, op by op."""

    entry = None

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.inputs, self.outputs = list(inputs), list(outputs)

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        # views of the arguments and read-only constants become arrays of the caller's own
        return [np.array(a) for a in evaluate(self.outputs, dict(zip(self.inputs, arrays, strict=True)))]


def make_program(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Any:
    """The program of a trace: compiled, or interpreted where the user has switched Numba's compiler off."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return Interpreted(inputs, outputs)
    return compile_program(inputs, outputs)


def trace(function: Callable[..., Any], arguments: Sequence[Argument], structure: Structure,
          names: Sequence[str]) -> Variant:
    """Run `function` on placeholders for the arguments that are not static."""
    clock = Clock()
    with clock.running(), phase("trace"):
        variant = _trace(function, arguments, structure, names)
    variant.clock = clock
    return variant


def _trace(function: Callable[..., Any], arguments: Sequence[Argument], structure: Structure,
           names: Sequence[str]) -> Variant:
    graph = Graph()
    graph.assigned = {}
    inputs: list[Tensor] = []
    leaves: list[Any] = []
    with graph.as_default(), heard_by(()):  # tapes outside see the call, not the trace
        for argument, name in zip(arguments, names, strict=True):
            if argument.kind == "static":
                leaves.append(argument.value)
                continue
            if isinstance(argument.kind, str):
                tensor = weaken(placeholder(_NUMBER_DTYPES[argument.kind], (), name))
            else:
                sizes = [graph.sizes.fresh(hint=n) for n in argument.value.shape]
                if _lists_points(argument.value.shape):
                    graph.sizes.unify(sizes[-1], argument.value.shape[-1])
                tensor = placeholder(argument.kind, sizes, name)
            inputs.append(tensor)
            leaves.append(tensor)
        args, kwargs = unflatten(structure, leaves)
        outputs, out_structure = result_tensors(function(*args, **kwargs), graph, function)
    return Variant(graph, inputs, outputs, out_structure, graph.assigned)


def _lists_points(shape: tuple[int, ...]) -> bool:
    """Whether the last axis holds the few coordinates of each of many points.

    Their number is then part of the trace, and calls with another one are traced anew: what is done for each coordinate
    becomes straight code, so that energies of all pairs of points, say, are 10 times faster.
    """
    return len(shape) > 1 and 1 < shape[-1] <= FEW_COORDINATES and math.prod(shape[:-1]) >= MANY_POINTS


def result_tensors(result: Any, graph: Graph | None, function: Callable[..., Any]) -> tuple[list[Tensor], Structure]:
    """A function's results as tensors, each a node of its own if `graph` is given, and their structure."""
    leaves, structure = flatten(result)
    seen: set[Tensor] = set()
    tensors = []
    for leaf in leaves:
        if isinstance(leaf, str) or callable(leaf):
            raise _bad_result(function, leaf)
        try:
            tensor = as_tensor(leaf)
        except DtypeError as error:
            raise _bad_result(function, leaf) from error
        if graph is not None:
            if tensor.op is None:
                tensor = graph.capture(tensor)
            elif tensor.op.graph is not graph:
                raise GraphError(f"{_name(function)}: returned {tensor!r}, a tensor of another graph; traced values "
                                 f"must not be kept from one trace to the next{at(tensor.op.where)}")
            if tensor in seen or (tensor.op is not None and tensor.op.type in ("placeholder", "constant")):
                tensor = apply("identity", tensor)  # a result never shares memory with an argument or another result
            seen.add(tensor)
        tensors.append(tensor)
    return tensors, structure


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _bad_result(function: Callable[..., Any], leaf: Any) -> DtypeError:
    return DtypeError(f"{_name(function)}: returned a {type(leaf).__name__} ({leaf!r:.60}); wanted tensors, arrays, "
                      f"numbers, None, or tuples, lists, dicts and dataclasses of them{at(user_line())}")


def numbers_behind(error: TracedValueError, variant_inputs: Sequence[Tensor]) -> list[int]:
    """Which inputs a looked-at value depends on, by position, if all of them are Python numbers; else nothing."""
    ops = [op for op in ancestors([error.tensor]) if op.type == "placeholder"]
    position = {t.op: i for i, t in enumerate(variant_inputs)}
    found = [position[op] for op in ops if op in position]
    return found if len(found) == len(ops) else []

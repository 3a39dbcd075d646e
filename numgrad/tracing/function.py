"""`function`: a Python function that is traced once per dtype and rank, compiled, and called with NumPy arrays."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np

from numgrad.errors import GraphError, at, user_line
from numgrad.graph.core import Tensor, TracedValueError, as_tensor, state
from numgrad.graph.graph import Graph
from numgrad.nest import Structure, flatten, leaf_paths, unflatten
from numgrad.tracing.calls import call_inputs, record_call
from numgrad.tracing.trace import Argument, Static, Variant, call_array, describe, numbers_behind, result_tensors, trace
from numgrad.types import Size

__all__ = ["Function", "function", "in_graph", "is_list_of_numbers"]

_SHAPES_KEPT = 4096
_functions: weakref.WeakSet[Function] = weakref.WeakSet()


class _Entry:
    """The traces of one key, and which of them served which shapes."""

    __slots__ = ("by_shapes", "variants")

    def __init__(self) -> None:
        self.variants: list[Variant] = []
        self.by_shapes: dict[tuple[Any, ...], Variant] = {}

    def find(self, shapes: tuple[Any, ...]) -> Variant | None:
        found = self.by_shapes.get(shapes)
        if found is None:
            found = next((v for v in reversed(self.variants) if v.holds(shapes)), None)
            if found is not None:
                if len(self.by_shapes) >= _SHAPES_KEPT:
                    self.by_shapes = {}
                self.by_shapes[shapes] = found
        return found


class Function:
    """A compiled callable made of a Python function; see `function`.

    Attributes
    ----------
    graph : Graph
        Of the latest trace.
    trace_count : int
        How many traces were made so far.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> @ng.function
    ... def f(x):
    ...     return np.sum(x * x)
    >>> float(f(np.array([1.0, 2.0]))), float(f(np.ones(5))), f.trace_count
    (5.0, 5.0, 1)
    """

    def __init__(self, python: Callable[..., Any], static_argnums: int | Iterable[int] = (),
                 static_argnames: str | Iterable[str] = (), remake: tuple[Any, ...] | None = None) -> None:
        if not callable(python):
            raise TypeError(f"function: got a {type(python).__name__}, wanted a callable{at(user_line())}")
        functools.update_wrapper(self, python, updated=())
        self.__wrapped__ = python
        self.__qualname__: str = getattr(python, "__qualname__", type(python).__name__)
        self._remake = remake
        self._static_numbers = {static_argnums} if isinstance(static_argnums, int) else set(static_argnums)
        self._static_names = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
        self.trace_count = 0
        self._latest: Variant | None = None
        self._direct: tuple[Any, Any] = (None, None)  # the native call that served last, what to make of its outputs
        self.clear_cache()
        _functions.add(self)

    # -- calling
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        entry, finish = self._direct
        if entry is not None and not kwargs and not (state.graphs or state.checks or state.recorders):
            found = entry(*args)
            if found.__class__ is tuple:
                return found[0] if finish is None else finish(found)
        return self._call(args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not kwargs and not (state.graphs or state.recorders):
            entry = self._by_arrays.get(tuple([(a.dtype, a.ndim) if a.__class__ is np.ndarray else None for a in args]))
            variant = None if entry is None else entry.find(tuple([a.shape for a in args]))
            if variant is not None:
                found = variant.program(*args)
                self._direct = variant.program.entry, variant.finish
                return found[0] if variant.finish is None else variant.finish(tuple(found))
        leaves, structure = self._flatten(args, kwargs)
        if in_graph(leaves):
            return self._inline(leaves, structure)
        key, variant, arguments = self._served(leaves, structure)
        arrays = [call_array(a) for a in arguments if a.kind != "static"]
        world = call_inputs(variant) if state.recorders else []
        results = _results(variant.program, arrays)
        if world or any(isinstance(x, Tensor) for x in leaves):
            results = record_call(self, key, variant, leaves, structure, arguments, world, results)
        elif not kwargs and len(args) == len(arrays) and all(type(a) is np.ndarray for a in args):
            self._direct = variant.program.entry, variant.finish
            if all(a is b.value for a, b in zip(args, arguments, strict=True)):
                self._by_arrays[tuple([(a.dtype, a.ndim) for a in args])] = self._entries[key]
        return results[0] if variant.finish is None else variant.finish(tuple(results))

    def run_flat(self, *args: Any) -> tuple[Variant, list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
        """The trace that serves these arguments outside of any graph, its inputs' arrays and its outputs' arrays."""
        _, variant, arguments = self._served(*self._flatten(args, {}))
        arrays = [call_array(a) for a in arguments if a.kind != "static"]
        return variant, arrays, list(_results(variant.program, arrays))

    def _served(self, leaves: Sequence[Any], structure: Structure) -> tuple[Any, Variant, list[Argument]]:
        """The cache key, the trace that serves these arguments, and how each of them enters it."""
        described = self._describe(leaves, structure)
        key, arguments = self._key(structure, described)
        entry = self._entries.get(key)
        variant = entry.find(_shapes(arguments)) if entry is not None else None
        if variant is None:
            variant = self._trace(structure, described)
            key, arguments = self._key(structure, described)  # while tracing, numbers may have been found to be static
        return key, variant, arguments

    def _flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Structure]:
        if kwargs and self._signature is not None:
            try:
                bound = self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.__qualname__}: {error}{at(user_line())}") from error
            args, kwargs = bound.args, bound.kwargs  # one key, however an argument was passed
        numbers, names = self._static
        if numbers:
            args = tuple([Static(a, self._argument_name(i)) if i in numbers or i - len(args) in numbers else a
                          for i, a in enumerate(args)])
        if names:
            kwargs = {k: Static(v, f"{self.__qualname__}: argument "
                                   f"{k}") if k in names else v for k, v in kwargs.items()}
        return flatten((args, kwargs), is_list_of_numbers)

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.__wrapped__)
        except (TypeError, ValueError):
            return None

    @functools.cached_property
    def _static(self) -> tuple[frozenset[int], frozenset[str]]:
        """Positions and names of static arguments; a name of a positional argument gives its position too."""
        numbers, names = set(self._static_numbers), set(self._static_names)
        if self._signature is not None:
            parameters = list(self._signature.parameters.values())
            for i, parameter in enumerate(parameters):
                if parameter.name in names and parameter.kind is not parameter.KEYWORD_ONLY:
                    numbers.add(i)
                elif i in numbers:
                    names.add(parameter.name)
            takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
            unknown = names - {p.name for p in parameters}
            if unknown and not takes_any:
                raise TypeError(f"{self.__qualname__}: static_argnames {sorted(unknown)} are not arguments; it has "
                                f"{', '.join(p.name for p in parameters)}{at(user_line())}")
        return frozenset(numbers), frozenset(names)

    def _argument_name(self, position: int) -> str:
        return f"{self.__qualname__}: argument {self._names(position + 1)[position]}"

    def _names(self, count: int) -> list[str]:
        given = [] if self._signature is None else [
            p.name for p in self._signature.parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return given[:count] + [f"arg{i}" for i in range(len(given), count)]

    def _leaf_names(self, structure: Structure) -> list[str]:
        positional, keyword = structure[2]
        roots = [*zip(self._names(len(positional[2])), positional[2], strict=True),
                 *zip(keyword[1], keyword[2], strict=True)]
        return [path for root, inner in roots for path in leaf_paths(inner, root)]

    def _describe(self, leaves: Sequence[Any], structure: Structure) -> list[Argument]:
        def name() -> str:
            return f"{self.__qualname__}: argument {self._leaf_names(structure)[len(found)]}"

        found: list[Argument] = []
        for leaf in leaves:
            found.append(describe(leaf, name))
        return found

    def _key(self, structure: Structure, arguments: list[Argument]) -> tuple[Any, list[Argument]]:
        """The cache key; numbers whose value was looked at in an earlier trace become static."""
        key = (structure, tuple([a[:2] for a in arguments]))
        looked_at = self._looked_at.get(key)
        if looked_at is None:
            return key, arguments
        arguments = [Argument("static", (static := Static(a.value, "")).key, static.value) if i in looked_at else a
                     for i, a in enumerate(arguments)]
        return (structure, tuple([a[:2] for a in arguments])), arguments

    def _trace(self, structure: Structure, given: list[Argument]) -> Variant:
        with self._lock:
            while True:
                key, arguments = self._key(structure, given)
                entry = self._entries.setdefault(key, _Entry())
                shapes = _shapes(arguments)
                variant = entry.find(shapes)
                if variant is None:
                    try:
                        variant = trace(self.__wrapped__, arguments, structure, self._leaf_names(structure))
                    except TracedValueError as error:
                        if not self._look_at(error, structure, given, arguments):
                            raise
                        continue
                    self.trace_count += 1
                    entry.variants.append(variant)
                    entry.by_shapes[shapes] = variant
                self._latest = variant
                return variant

    def _look_at(self, error: TracedValueError, structure: Structure, given: list[Argument],
                 arguments: list[Argument]) -> bool:
        """Make static the Python numbers that a looked-at value comes from; False when it comes from arrays too."""
        graph = error.tensor.graph
        if graph is None:
            return False
        inputs = [op.outputs[0] for op in graph.operations if op.type == "placeholder"]
        traced = [i for i, a in enumerate(arguments) if a.kind != "static"]
        found = numbers_behind(error, inputs)
        if len(inputs) != len(traced) or not found:
            return False
        if any(not isinstance(arguments[traced[i]].kind, str) for i in found):
            return False
        key = (structure, tuple([a[:2] for a in given]))
        self._looked_at[key] = self._looked_at.get(key, frozenset()) | {traced[i] for i in found}
        return True

    def _inline(self, leaves: Sequence[Any], structure: Structure) -> Any:
        """Run the Python function within the graph that is being built."""
        graph = next((x.graph for x in leaves if isinstance(x, Tensor) and x.graph is not None), None)
        values = [x.value if isinstance(x, Static) else
                  as_tensor(x) if isinstance(x, (np.ndarray, np.generic, list)) else x for x in leaves]
        args, kwargs = unflatten(structure, values)
        if graph is None or (state.graphs and state.graphs[-1] is graph):
            tensors, out = result_tensors(self.__wrapped__(*args, **kwargs), None, self.__wrapped__)
        else:
            with graph.as_default():
                tensors, out = result_tensors(self.__wrapped__(*args, **kwargs), None, self.__wrapped__)
        return unflatten(out, tensors)

    # -- looking
    def clear_cache(self) -> None:
        """Forget all traces and their programs."""
        self._lock = threading.RLock()
        self._entries: dict[Any, _Entry] = {}
        self._by_arrays: dict[Any, _Entry] = {}  # the same for arguments that are arrays, by dtypes and ranks alone
        self._looked_at: dict[Any, frozenset[int]] = {}
        self._latest = None
        self.derived: dict[Any, Function] = {}  # functions that compute derivatives of recorded calls
        self._direct = (None, None)
        self.trace_count = 0

    @property
    def variant(self) -> Variant:
        """The latest trace; GraphError before the first call."""
        if self._latest is None:
            raise GraphError(f"{self.__qualname__}: nothing is traced yet; call it once with "
                             f"arguments{at(user_line())}")
        return self._latest

    @property
    def variants(self) -> list[Variant]:
        """All traces."""
        return [variant for entry in self._entries.values() for variant in entry.variants]

    @property
    def graph(self) -> Graph:
        """The graph of the latest trace."""
        return self.variant.graph

    @property
    def source(self) -> str:
        """The generated source of the latest trace's program."""
        return self.variant.program.source  # type: ignore[no-any-return]

    @property
    def njit(self) -> Any:
        """The latest trace's program as a Numba dispatcher, for the user's own compiled code."""
        return self.variant.program.njit

    def cfunc(self, signature: Any) -> Any:
        """The latest trace's program as a C function of a given Numba signature."""
        return self.variant.program.cfunc(signature)

    def lowlevel(self) -> Any:
        """The latest trace's program as a `scipy.LowLevelCallable`."""
        return self.variant.program.lowlevel()

    def plan(self) -> Any:
        """What the latest trace's program does: kernels, flops, bytes, seconds spent on compiling."""
        return self.variant.program.plan()

    def profile(self, *args: Any, **kwargs: Any) -> Any:
        """The median seconds of each step for these arguments, with its kernel's title and the user's line."""
        _, variant, arguments = self._served(*self._flatten(args, kwargs))
        return variant.program.profile(*[call_array(a) for a in arguments if a.kind != "static"])

    def __repr__(self) -> str:
        return f"<numgrad.Function {self.__qualname__} with {self.trace_count} traces>"

    # -- moving between processes
    def __reduce__(self) -> Any:
        if self._remake is not None:
            return self._remake
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self:
            return self.__qualname__
        return Function, (self.__wrapped__, tuple(self._static_numbers), tuple(self._static_names))


def _results(program: Any, arrays: list[np.ndarray[Any, Any]]) -> Sequence[np.ndarray[Any, Any]]:
    """The outputs' arrays: from the latest plan if these arrays are like the last ones."""
    if program.entry is not None and not state.checks:
        found = program.entry(*arrays)
        if found.__class__ is tuple:
            return found  # type: ignore[no-any-return]
    return program(*arrays)  # type: ignore[no-any-return]


def in_graph(values: Iterable[Any]) -> bool:
    """Whether a call with these leaves adds to a graph: one is being built, or a value belongs to one."""
    return bool(state.graphs) or any(
        isinstance(x, (Size, Tensor)) and getattr(x, "_value", None) is None for x in values)


def is_list_of_numbers(value: Any) -> bool:
    """Lists of numbers are arrays, as NumPy takes them."""
    return type(value) is list and _is_numbers(value)


def _is_numbers(value: list[Any]) -> bool:
    return bool(value) and all(
        _is_numbers(v) if type(v) is list else isinstance(v, (int, float, complex, np.generic)) for v in value)


def _shapes(arguments: Sequence[Argument]) -> tuple[Any, ...]:
    return tuple([() if isinstance(a.kind, str) else a.value.shape for a in arguments if a.kind != "static"])


def _in_child_after_fork() -> None:
    for each in list(_functions):
        each._lock = threading.RLock()
        for entry in each._entries.values():
            for variant in entry.variants:
                variant.forget_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child_after_fork)


@overload
def function(f: Callable[..., Any], /, *, static_argnums: int | Iterable[int] = ...,
             static_argnames: str | Iterable[str] = ...) -> Function: ...
@overload
def function(*, static_argnums: int | Iterable[int] = ...,
             static_argnames: str | Iterable[str] = ...) -> Callable[[Callable[..., Any]], Function]: ...


def function(f: Callable[..., Any] | None = None, /, *, static_argnums: int | Iterable[int] = (),
             static_argnames: str | Iterable[str] = ()) -> Any:
    """Make a Python function into a compiled one, traced once for each combination of dtypes and ranks.

    Parameters
    ----------
    f : callable, optional
        Written with ``ng.*``, ``np.*``, operators and indexing. Without it a decorator is returned.
    static_argnums, static_argnames : optional
        Arguments whose values are part of the program. They must be hashable; each new value is a new trace.

    Returns
    -------
    Function
        NumPy arrays (or eager tensors) in, the same kind out. Arguments and results may be nested in tuples, lists,
        dicts, named tuples and dataclasses. Sizes are free: one trace serves all of them, except where Python code
        looks at one (``if x.shape[0] > 3``, a loop over it) or where an axis of size 1 is broadcast; such sizes get
        traces of their own.

    Raises
    ------
    TypeError
        A traced value is used as a Python bool, int or array; an argument is neither an array nor hashable.

    Notes
    -----
    Python numbers are traced as weak scalars, so that a new number is no new trace; a number whose value the function
    looks at (``range(n)``, ``if rate > 0``) becomes static by itself. Bools, strings, None, callables and other
    hashable objects are static. Lists of numbers are arrays. Arrays from outside of the function are constants:
    changing them later has no effect. Called with tensors of a graph, or within another traced function, the function's
    operations go into that graph.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> @ng.function
    ... def scaled(x, factor):
    ...     return {"sum": np.sum(x) * factor, "rows": x.shape[0]}
    >>> result = scaled(np.ones((3, 2)), 0.5)
    >>> float(result["sum"]), int(result["rows"])
    (3.0, 3)
    """
    if f is None:
        return functools.partial(function, static_argnums=static_argnums, static_argnames=static_argnames)
    return Function(f, static_argnums, static_argnames)

"""What functions with derivatives of their own share: calls taken apart, decorated functions, variables read."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import at, user_line
from numgrad.graph.core import Tensor, WeakTensor, apply_all, as_tensor, current_graph, weaken
from numgrad.graph.records import OpRecord
from numgrad.graph.variable import Variable
from numgrad.nest import Structure, flatten, unflatten

__all__ = ["Call", "Decorated", "Reads", "name_of", "passed_on", "taken_apart", "within"]


class Call(NamedTuple):
    """A call taken apart: arrays and numbers among its arguments are inputs, the rest is passed on as it is."""

    function: Callable[..., Any]
    leaves: tuple[Any, ...]
    structure: Structure
    positions: tuple[int, ...]  # of the inputs among the leaves
    keywords: dict[str, Any]

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """The function's result for these inputs."""
        values = list(self.leaves)
        for position, tensor in zip(self.positions, inputs, strict=True):
            values[position] = tensor
        return self.function(*unflatten(self.structure, values), **self.keywords)

    def nest(self) -> Structure:
        """The structure of the inputs alone: arguments without any are left out, other values are None."""
        inputs = set(self.positions)
        marked = unflatten(self.structure, [True if i in inputs else None for i in range(len(self.leaves))])
        return flatten(tuple(m for m in marked if any(flatten(m)[0])))[1]


def taken_apart(function: Callable[..., Any], args: tuple[Any, ...],
                keywords: dict[str, Any]) -> tuple[Call, list[Tensor]]:
    if keywords:  # an argument counts the same however it was passed
        try:
            bound = inspect.signature(function).bind(*args, **keywords)
        except TypeError as error:
            raise TypeError(f"{name_of(function)}: {error}{at(user_line())}") from error
        args, keywords = bound.args, bound.kwargs
    leaves, structure = flatten(args)
    positions = [i for i, leaf in enumerate(leaves) if _is_input(leaf)]
    call = Call(function, tuple(leaves), structure, tuple(positions), keywords)
    return call, [_tensor(leaves[i]) for i in positions]


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, (Tensor, Variable, np.ndarray, np.generic, bool, int, float, complex))


def _tensor(leaf: Any) -> Tensor:
    tensor = as_tensor(leaf)
    is_number = isinstance(leaf, (int, float, complex)) and not isinstance(leaf, (bool, np.generic))
    return weaken(tensor) if is_number else tensor


def name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


@contextmanager
def within(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Make operations in the graph of these tensors, whichever graph is the default."""
    graph = next((t.graph for t in tensors if t.graph is not None), None)
    current = current_graph()
    with nullcontext() if graph is None or graph is current else graph.as_default():
        yield


class Decorated:
    """A function whose calls go through `call(function, args, keywords)`; bound to an instance it is a method."""

    def __init__(self, function: Callable[..., Any], call: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"{call.__name__}: got a {type(function).__name__}, wanted a function{at(user_line())}")
        functools.update_wrapper(self, function, updated=())
        self.__wrapped__, self._call = function, call

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        return self._call(self.__wrapped__, args, keywords)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else Decorated(self.__wrapped__.__get__(instance, owner), self._call)

    def __reduce__(self) -> Any:
        name: str = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (Decorated, (self.__wrapped__, self._call))


class Reads:
    """The trainable variables that are read while it listens, and the tensors that stand for them there."""

    def __init__(self) -> None:
        self.handles: dict[Variable, Tensor] = {}

    def read(self, variable: Variable, handle: Tensor) -> None:
        if variable.trainable:
            self.handles.setdefault(variable, handle)

    def operation(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                  attrs: dict[str, Any]) -> None:
        """Operations are not its concern."""

    def follows(self, tensor: Tensor) -> bool:
        return False

    def in_order(self) -> tuple[tuple[Variable, ...], list[Tensor]]:
        """The variables in the order in which they were made, and their tensors."""
        variables = tuple(sorted(self.handles, key=lambda v: v.number))
        return variables, [self.handles[v] for v in variables]


def passed_on(name: str, outputs: list[Tensor], inputs: list[Tensor], rule: Any) -> tuple[Tensor, ...]:
    """The outputs once more, as results of an operation that has a derivative with respect to `inputs`."""
    if not outputs:
        return ()
    made = apply_all(name, *outputs, *inputs, count=len(outputs), rule=rule)
    for tensor, output in zip(made, outputs, strict=True):
        if type(output) is WeakTensor:
            weaken(tensor)
    return made

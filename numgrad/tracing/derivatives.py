"""What the transforms share: arguments to differentiate by, functions of functions, traces kept with them."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from numgrad.autodiff.calls import fresh
from numgrad.errors import at, user_line
from numgrad.graph.core import Tensor, current_graph
from numgrad.graph.graph import Graph
from numgrad.nest import Structure, flatten, leaf_paths, unflatten
from numgrad.ops.kinds import as_node
from numgrad.tracing.function import Function

__all__ = ["Argnums", "Chosen", "function_of", "kept_with", "no_pickle", "position_of", "result_nodes"]

Argnums = int | Sequence[int]


class Chosen:
    """The arguments with respect to which is differentiated, as nodes of their own in the graph being built."""

    def __init__(self, what: str, args: Sequence[Any], argnums: Argnums) -> None:
        graph = current_graph()
        assert graph is not None
        self.graph, self.what, self.args, self.argnums = graph, what, list(args), argnums
        self.numbers = [position_of(n, len(args), what) for n in ((argnums,) if isinstance(argnums, int) else argnums)]
        if len(set(self.numbers)) != len(self.numbers):
            raise ValueError(f"{what}: argnums {argnums} repeat{at(user_line())}")
        leaves, self.structure = flatten([args[n] for n in self.numbers])
        self.names = [path for n, child in zip(self.numbers, self.structure[2], strict=True)
                      for path in leaf_paths(child, f"argument {n}")]
        self.xs = fresh(graph, leaves, what, self.names)
        for number, value in zip(self.numbers, unflatten(self.structure, self.xs), strict=True):
            self.args[number] = value

    def nest(self, leaves: Sequence[Any]) -> Any:
        """Leaves in the structure of the chosen arguments: one nest, or a tuple for a tuple of argnums."""
        values = unflatten(self.structure, leaves)
        return values[0] if isinstance(self.argnums, int) else tuple(values)


def position_of(number: int, count: int, what: str) -> int:
    if not -count <= number < count:
        raise ValueError(f"{what}: argnums has {number}, but {count} positional arguments were given{at(user_line())}")
    return number % count


def function_of(f: Callable[..., Any], name: str, body: Callable[..., Any], remake: tuple[Any, ...],
               signature: bool = True) -> Function:
    """A Function of `body` that carries f's name and, unless its arguments differ, f's signature."""
    if not callable(f):
        raise TypeError(f"{name}: got a {type(f).__name__}, wanted a function{at(user_line())}")
    body.__name__ = f"{name}({getattr(f, '__name__', type(f).__name__)})"
    body.__qualname__ = f"{name}({getattr(f, '__qualname__', type(f).__name__)})"
    body.__module__ = getattr(f, "__module__", __name__)
    if signature:
        body.__wrapped__ = f  # type: ignore[attr-defined]
    numbers, names = getattr(f, "static_arguments", ((), ()))
    return Function(body, numbers if signature else (), names if signature else (), remake)


def kept_with(f: Callable[..., Any], name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, kept with the function so that a second call does not trace again."""
    own = None if isinstance(f, types.MethodType) else getattr(f, "__dict__", None)
    if own is None:
        return make()
    kept = own.setdefault("__numgrad__", {})
    if name not in kept:
        kept[name] = make()
    return kept[name]


def result_nodes(graph: Graph, result: Any) -> tuple[list[Tensor], Structure]:
    leaves, structure = flatten(result)
    return [as_node(graph, leaf) for leaf in leaves], structure


def no_pickle(what: str) -> None:
    raise TypeError(f"{what} closes over its primals and cannot be pickled")

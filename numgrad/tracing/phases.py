"""Functions that are traced once and run in two phases: the value now, the derivative map whenever it is called."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.calls import pull_back, push_along
from numgrad.autodiff.split import Phases, split
from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor, current_graph, placeholder, state
from numgrad.graph.graph import Graph
from numgrad.nest import Structure, arrange, flatten, unflatten
from numgrad.tracing.derivatives import Chosen, function_of, kept_with, no_pickle, result_nodes
from numgrad.tracing.function import in_graph
from numgrad.tracing.trace import Variant
from numgrad.types import is_trainable

__all__ = ["in_two_phases"]

ValueAndMap = tuple[Any, Callable[[Any], Any]]


class _Late:
    """The second phase of one trace of `vjp` or `linearize`: late inputs in, derivatives out."""

    def __init__(self, likes: list[Tensor], structure: Structure, late: list[Tensor | None], phases: Phases,
                 out_structure: Structure) -> None:
        self.likes, self.structure, self.late = likes, structure, late
        self.phases, self.out_structure = phases, out_structure
        self.variant: Variant | None = None

    def program(self, inputs: list[Tensor], graph: Graph) -> Any:
        """Early inputs, residuals and late inputs in; the derivatives out."""
        if self.variant is None:
            late = [t for t in self.late if t is not None]
            early = [*inputs, *self.phases.stand_ins]
            self.variant = Variant(graph, [*early, *late], self.phases.outputs, self.out_structure)
        return self.variant.program

    def arrays(self, nest: Any, shapes: Sequence[tuple[int, ...]], what: str) -> list[np.ndarray[Any, Any]]:
        """The late inputs' arrays of a user's nest, checked; None is zeros."""
        result = []
        given = arrange(nest, self.structure, what)
        for i, (value, like, late) in enumerate(zip(given, self.likes, self.late, strict=True)):
            if late is None:
                continue
            array = np.zeros(shapes[i]) if value is None else np.asarray(value)
            if array.shape != shapes[i]:
                raise ShapeError(f"{what}: entry {i} has shape {array.shape}, wanted {shapes[i]}{at(user_line())}")
            if array.dtype.kind not in "fiub" + like.dtype.kind:
                raise DtypeError(f"{what}: entry {i} is {array.dtype}, wanted {like.dtype}{at(user_line())}")
            result.append(np.asarray(array, dtype=like.dtype, order="C"))
        return result


class _TwoPhase:
    """A function traced once, and split: value and residuals at once, the derivative map when it is called."""

    def __init__(self, f: Callable[..., Any], what: str) -> None:
        self.f, self.what = f, what
        self.late: weakref.WeakKeyDictionary[Graph, _Late] = weakref.WeakKeyDictionary()
        self.first = function_of(f, what, lambda given: self._trace(given), (no_pickle, (what,)), signature=False)

    def _trace(self, primals: Any) -> Any:
        chosen = Chosen(self.what, primals, range(len(primals)))
        graph = chosen.graph
        ys, structure = result_nodes(graph, self.f(*chosen.args))
        backwards = self.what == "vjp"
        likes = ys if backwards else chosen.xs
        late = [placeholder(t.dtype, t.spec.shape, "late") if is_trainable(t.dtype) else None for t in likes]
        if backwards:
            derivatives, nest = pull_back(graph, ys, chosen.xs, late, "vjp"), chosen.structure
        else:
            derivatives, nest = push_along(graph, ys, chosen.xs, late), structure
        phases = split(graph, derivatives, [t for t in late if t is not None])
        self.late[graph] = _Late(likes, structure if backwards else chosen.structure, late, phases, nest)
        return unflatten(structure, ys), phases.residuals

    def __call__(self, primals: tuple[Any, ...]) -> tuple[Any, Callable[[Any], Any]]:
        variant, inputs, results = self.first.run_flat(primals)
        later = self.late[variant.graph]
        structure = variant.structure[2][0]
        ys = results[:len(results) - len(later.phases.residuals)]
        residuals = results[len(ys):]
        eager = any(isinstance(leaf, Tensor) for leaf in flatten(primals)[0])
        wrap = as_tensor if eager else np.asarray
        like = ys if self.what == "vjp" else inputs
        shapes = [a.shape for a in like]

        def apply_map(nest: Any) -> Any:
            arrays = later.arrays(nest, shapes, self.what)
            found = later.program(variant.inputs, variant.graph)(*inputs, *residuals, *arrays)
            return unflatten(later.out_structure, [wrap(a) for a in found])

        return unflatten(structure, [wrap(y) for y in ys]), apply_map


def in_two_phases(what: str, f: Callable[..., Any], primals: tuple[Any, ...],
                  in_the_graph: Callable[[Graph, Chosen], ValueAndMap]) -> ValueAndMap:
    """The value of f at the primals and its derivative map; within a graph, what `in_the_graph` makes."""
    leaves = flatten(primals)[0]
    if state.recorders and not in_graph(leaves) and any(isinstance(leaf, Tensor) for leaf in leaves):
        return _recorded(what, f, primals, in_the_graph)
    if not in_graph(leaves):
        return kept_with(f, what, lambda: _TwoPhase(f, what))(primals)  # type: ignore[no-any-return]
    graph = next((t.graph for t in leaves if isinstance(t, Tensor) and t.graph is not None), None) or current_graph()
    assert graph is not None
    with graph.as_default():
        return in_the_graph(graph, Chosen(what, primals, range(len(primals))))


def _recorded(what: str, f: Callable[..., Any], primals: tuple[Any, ...],
              in_the_graph: Callable[[Graph, Chosen], ValueAndMap]) -> ValueAndMap:
    """The value and the derivative map as functions of primals and late inputs; tapes and accumulators record calls."""
    def value(given: Any) -> Any:
        return f(*given)

    def derivative(given: Any, late: Any) -> Any:
        graph = current_graph()
        assert graph is not None
        return in_the_graph(graph, Chosen(what, given, range(len(given))))[1](late)

    def make() -> tuple[Any, Any]:
        return tuple(function_of(f, what, body, (no_pickle, (what,)), signature=False)  # type: ignore[return-value]
                     for body in (value, derivative))

    values, derivatives = kept_with(f, f"recorded {what}", make)
    return values(primals), lambda late: derivatives(primals, late)

"""Calls of compiled functions as recorders see them: one operation, whose derivatives are compiled functions too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numgrad.autodiff.forward import pushforward
from numgrad.autodiff.reverse import build_row_gradients
from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.slices import IndexedSlices
from numgrad.graph.core import Tensor, apply, as_tensor, current_graph, state, tell
from numgrad.graph.graph import Graph
from numgrad.graph.records import OpRecord
from numgrad.graph.variable import Variable, root_of
from numgrad.nest import Structure, flatten, unflatten
from numgrad.tracing.trace import Argument, Variant
from numgrad.types import is_trainable

if TYPE_CHECKING:
    from numgrad.tracing.function import Function

__all__ = ["call_inputs", "record_call"]


class _Call:
    """One call: the function, its arguments, and what else its trace read of the world outside."""

    def __init__(self, function: Function, key: Any, structure: Structure, leaves: Sequence[Any],
                 static: Sequence[bool], variables: Sequence[Variable], captured: Sequence[Tensor],
                 values: Sequence[Any], followed: Sequence[int]) -> None:
        self.function, self.structure = function, structure
        self.leaves, self.static = leaves, static
        self.variables, self.captured = variables, captured
        self.values, self.followed = values, followed
        self.key = (key, tuple(followed))

    def pull(self, op: Any, cotangents: Sequence[Tensor | None]) -> list[Any]:
        """The cotangents of the inputs that are followed, by a compiled function of the inputs and cotangents."""
        return self._derived("gradient", op, cotangents, _pulled)

    def push(self, op: Any, tangents: Sequence[Tensor | None]) -> list[Any]:
        """The tangents of the outputs, by a compiled function of the inputs and tangents."""
        return self._derived("tangent", op, tangents, _pushed)

    def _derived(self, what: str, op: Any, given: Sequence[Tensor | None], rule: Any) -> list[Any]:
        present = tuple(i for i, t in enumerate(given) if t is not None)
        kept = self.function.derived
        key = (what, self.key, present)
        if key not in kept:
            kept[key] = self._function(what, present, rule)
        values = list(self.values)
        for i, tensor in zip(self.followed, op.inputs, strict=True):
            values[i] = tensor
        found = kept[key](values, [given[i] for i in present])
        return [IndexedSlices(g[0], g[1], t.shape) if isinstance(g, tuple) else g
                for g, t in zip(found, op.inputs if what == "gradient" else op.outputs, strict=True)]

    def _function(self, what: str, present: tuple[int, ...], rule: Any) -> Function:
        original = self.function.__wrapped__
        leaves = [leaf if fixed else None for leaf, fixed in zip(self.leaves, self.static, strict=True)]
        static, structure, variables, captured = self.static, self.structure, self.variables, self.captured
        followed = self.followed

        def derivative(values: Sequence[Any], given: Sequence[Tensor]) -> list[Any]:
            own = list(values)
            for i in followed:
                own[i] = apply("identity", as_tensor(values[i]))
            arguments = iter(own)
            args, kwargs = unflatten(structure, [leaf if fixed else next(arguments)
                                                 for leaf, fixed in zip(leaves, static, strict=True)])
            rest = list(arguments)
            _fit(rest, [*variables, *captured])
            graph = current_graph()
            assert graph is not None
            with _standing_in(graph, dict(zip(variables, rest, strict=False)), captured, rest[len(variables):]):
                found, _ = flatten(original(*args, **kwargs))
                outputs = [as_tensor(leaf) for leaf in found]
                return rule(outputs, [own[i] for i in followed], present, given)  # type: ignore[no-any-return]

        derivative.__name__ = f"{what} of {getattr(original, '__name__', 'function')}"
        derivative.__qualname__ = f"{what} of {self.function.__qualname__}"
        return type(self.function)(derivative)


def _pulled(outputs: Sequence[Tensor], xs: Sequence[Tensor], present: Sequence[int],
            cotangents: Sequence[Tensor]) -> list[Any]:
    """Tensors, None, and pairs of values and row numbers for what is row-sparse."""
    ys = [outputs[i] for i in present]
    _fit(cotangents, ys)
    return [(g.values, g.indices) if isinstance(g, IndexedSlices) else g
            for g in build_row_gradients(ys, xs, cotangents)]


def _pushed(outputs: Sequence[Tensor], xs: Sequence[Tensor], present: Sequence[int],
            tangents: Sequence[Tensor]) -> list[Tensor | None]:
    moving = [xs[i] for i in present]
    _fit(tangents, moving)
    return pushforward(outputs, moving, tangents)


def _fit(given: Sequence[Any], likes: Sequence[Any]) -> None:
    """Let the sizes of derivatives, which are arguments of their own, be those of the values that they belong to."""
    for tensor, like in zip(given, likes, strict=True):
        require_shape(tensor.spec.shape, like.spec.shape, "a derivative")


@contextmanager
def _standing_in(graph: Graph, variables: Mapping[Variable, Tensor], captured: Sequence[Tensor],
                 nodes: Sequence[Tensor]) -> Iterator[None]:
    """Let nodes stand for variables and captured tensors where these are used; assignments are forgotten."""
    root = root_of(graph)
    read, taken, assigned = root.variables, graph.captured, root.assigned
    root.variables = {**read, **{v: as_tensor(t) for v, t in variables.items()}}
    root.assigned = {}
    graph.captured = {**taken, **{id(t): (t, as_tensor(node)) for t, node in zip(captured, nodes, strict=True)}}
    try:
        yield
    finally:
        taken.update((k, v) for k, v in graph.captured.items() if k not in {id(t) for t in captured})
        read.update((k, v) for k, v in root.variables.items() if k not in variables)
        root.variables, graph.captured, root.assigned = read, taken, assigned


_RECORD = OpRecord("call", "general", lambda specs, attrs: (), lambda **attrs: (),
                   vjp=lambda op, cts: op.attrs["call"].pull(op, cts), jvp=lambda op, ts: op.attrs["call"].push(op, ts),
                   doc="A call of a compiled function.")


def call_inputs(variant: Variant) -> list[Tensor]:
    """The tensors, besides arguments, that a traced function reads: of its variables, and those it was made with."""
    return [v.value() for v in variant.graph.variables] + [t for t, _ in variant.graph.captured.values()]


def record_call(function: Function, key: Any, variant: Variant, leaves: Sequence[Any], structure: Structure,
                arguments: Sequence[Argument], world: Sequence[Tensor], results: Sequence[Any]) -> list[Any]:
    """The results, as tensors if an argument is one; the call is recorded by all who follow one of its inputs."""
    static = [a.kind == "static" for a in arguments]
    values = [leaf for leaf, fixed in zip(leaves, static, strict=True) if not fixed] + list(world)
    followed = [i for i, t in enumerate(values)
                if isinstance(t, Tensor) and is_trainable(t.dtype) and any(r.follows(t) for r in state.recorders)]
    if not followed and not any(isinstance(leaf, Tensor) for leaf in leaves):
        return list(results)
    outputs = [as_tensor(r) for r in results]
    if followed:
        variables = list(variant.graph.variables)
        call = _Call(function, key, structure, [a.value for a in arguments], static, variables, world[len(variables):],
                     values, followed)
        tell(_RECORD, tuple(values[i] for i in followed), tuple(outputs), {"call": call})
    return outputs

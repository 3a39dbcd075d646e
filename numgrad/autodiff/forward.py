"""Forward mode: push tangents from xs to ys through a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgrad.autodiff.recording import gradients_through
from numgrad.autodiff.registry import rule_of
from numgrad.autodiff.reverse import build_gradients
from numgrad.autodiff.rules import pull, refuse, scaled
from numgrad.autodiff.slices import dense
from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import scope_in, source_line
from numgrad.graph.walk import between
from numgrad.ops.kinds import cast_to, define, linear_jvp, masking
from numgrad.types import Spec, is_trainable, same_shape, show_shape

__all__ = ["push", "pushforward"]


def pushforward(ys: Sequence[Tensor], xs: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor | None]:
    """The directional derivatives of ys along `tangents` of xs, as new nodes of their graph.

    Parameters
    ----------
    ys, xs : sequences of Tensor
        Nodes of one graph.
    tangents : sequence of Tensor
        One for each x, of its shape.

    Returns
    -------
    list of Tensor or None
        ``sum over x of dy/dx tangent``, of y's shape and dtype; None where y depends on no x.

    Raises
    ------
    ShapeError
        A tangent does not have its x's shape.
    """
    graph: Graph | None = next((t.graph for t in (*ys, *xs) if t.graph is not None), None)
    if graph is None:
        return [None for _ in ys]
    with graph.as_default(), graph.lock, scope_in(graph, "tangents"):
        known: dict[Tensor, Tensor] = {}
        for x, tangent in zip(xs, tangents, strict=True):
            if not same_shape(x.spec.shape, tangent.spec.shape):
                raise ShapeError(f"forward mode: a tangent of shape {show_shape(tangent.shape)} for an x of shape "
                                 f"{show_shape(x.shape)}{at(user_line())}")
            known[x] = cast_to(tangent, x.dtype)
        path, _ = between(ys, xs, lambda t: is_trainable(t.dtype))
        for op in path:
            given = [known.get(t) for t in op.inputs]
            if all(t is None for t in given):
                continue
            for tensor, tangent_out in zip(op.outputs, push(op, given), strict=True):
                if tangent_out is not None and tensor not in known and is_trainable(tensor.dtype):
                    known[tensor] = cast_to(tangent_out, tensor.dtype)
        return [known.get(y) for y in ys]


def push(op: Any, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The tangents of an op's outputs from those of its inputs."""
    record = op.record
    before, masking.active = masking.active, False
    try:
        with source_line(op.where):
            user, rule = rule_of(op)
            if user:
                return [None] * len(op.outputs) if rule is None else _transposed_vjp(op, tangents, rule)
            if record.jvp is not None:
                return list(record.jvp(op, tangents))
            if record.partials is not None:
                return [_elementwise_jvp(op, tangents)]
            if record.kind == "linear":
                return linear_jvp(op, tangents)
            if record.vjp is not None:
                return _transposed_vjp(op, tangents)
            if record.smooth and any(is_trainable(t.dtype) for t in op.outputs):
                raise refuse(op)
            return [None] * len(op.outputs)
    finally:
        masking.active = before


def _elementwise_jvp(op: Any, tangents: Sequence[Tensor | None]) -> Tensor | None:
    partials = op.record.partials
    assert partials is not None
    output = op.outputs[0]
    total: Tensor | None = None
    for tangent, partial in zip(tangents, partials, strict=True):
        if tangent is None or partial is None:
            continue
        factor = partial(output, *op.inputs, **op.attrs)
        if factor is None:
            continue
        term = scaled(tangent, factor)
        total = term if total is None else apply("add", total, term)
    if total is None:
        return None
    total = cast_to(total, output.dtype)
    if not same_shape(total.spec.shape, output.spec.shape):
        total = apply("broadcast_to", total, shape=output.spec.shape)
    return total


def _no_value() -> Any:
    raise AssertionError("a cotangent seed has no value")


define("cotangent_seed", "constant", lambda specs, attrs: (attrs["spec"],), lambda spec: _no_value(),
       doc="Stands for a cotangent while a vjp is transposed; never evaluated.")


def _transposed_vjp(op: Any, tangents: Sequence[Tensor | None],
                    rule: Callable[..., Any] | None = None) -> list[Tensor | None]:
    """J t as the transpose of u -> J^H u, so that one rule serves both directions."""
    eager = op.graph is None
    seeds = [None if not is_trainable(t.dtype) else apply("zeros_like", t) if eager else
             apply("cotangent_seed", spec=Spec(t.dtype, t.spec.shape)) for t in op.outputs]
    wanted = [s for s in seeds if s is not None]
    needed = [t is not None for t in tangents]

    def pulled() -> list[Tensor | None]:
        return [g if g is None else dense(g) for g in pull(op, seeds, needed, masked=False, rule=rule)]

    if eager:  # the map is linear in the seeds, so that their value does not matter
        found = iter(gradients_through(pulled, wanted, tangents))
    else:
        pairs = [(p, t) for p, t in zip(pulled(), tangents, strict=True) if p is not None and t is not None]
        if not pairs:
            return [None] * len(seeds)
        found = iter(build_gradients([p for p, _ in pairs], wanted, [t for _, t in pairs]))
    return [next(found) if s is not None else None for s in seeds]

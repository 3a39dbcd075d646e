"""Reverse mode: `gradients` adds to a graph the nodes that compute derivatives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from numgrad.autodiff.aggregate import Terms, check_method
from numgrad.autodiff.arguments import (
    UnconnectedGradients,
    common_graph,
    cotangents_of,
    nodes,
    sequence,
    unconnected_of,
)
from numgrad.autodiff.pullbacks import replayed
from numgrad.autodiff.registry import rule_of
from numgrad.autodiff.rules import pull, refuse
from numgrad.autodiff.slices import IndexedSlices, dense, row_gradient
from numgrad.graph.core import Operation, Tensor, apply, state
from numgrad.graph.scopes import backward_of, control_dependencies, scope_in
from numgrad.graph.walk import between
from numgrad.types import is_trainable

__all__ = ["build_gradients", "build_row_gradients", "differentiate", "gradients", "pending_terms", "walk_back"]


def gradients(ys: Any, xs: Any, grad_ys: Any = None, name: str = "gradients", gate_gradients: bool = False,
              aggregation_method: int | None = None, stop_gradients: Any = None,
              unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
              ) -> list[Tensor | IndexedSlices | None]:
    """The sum of the derivatives of ys with respect to each x, as new nodes of their graph.

    Parameters
    ----------
    ys : Tensor or sequence of Tensor
        What is differentiated; any shapes. Integer and bool ys contribute nothing.
    xs : Tensor or sequence of Tensor
        With respect to what.
    grad_ys : sequence of Tensor or None, optional
        One cotangent for each y, of y's shape; None means ones. Cast within y's kind of dtype.
    name : str
        Name scope of the new operations.
    gate_gradients : bool
        Whether the cotangents of an operation's inputs wait for each other.
    aggregation_method : int, optional
        A constant of `AggregationMethod`.
    stop_gradients : Tensor or sequence of Tensor, optional
        Their producing operations are taken as constants.
    unconnected_gradients : UnconnectedGradients or str
        What stands for an x that no y depends on.

    Returns
    -------
    list of Tensor, IndexedSlices or None
        For each x: ``sum over ys of sum(grad_y * dy/dx)``, of x's shape and dtype. It is row-sparse when x is only read
        by gathers along its first axis.

    Raises
    ------
    RuntimeError
        Outside a graph.
    LookupError
        An operation on the path has no derivative rule.
    TypeError, ValueError
        Wrong kinds of arguments, counts, dtypes or shapes.

    Notes
    -----
    With a real loss L the gradient g of a complex z satisfies ``dL = Re(conj(g) dz)``.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, (2,))
    ...     g, = ng.gradients(ng.sum(x**3), x)
    >>> ng.run(g, {x: [1.0, 2.0]})
    array([ 3., 12.])
    """
    return differentiate(ys, xs, grad_ys, name, gate_gradients, aggregation_method, stop_gradients,
                         unconnected_gradients, colocate=True)


def differentiate(ys: Any, xs: Any, grad_ys: Any, name: str | None, gate_gradients: Any,
                  aggregation_method: int | None, stop_gradients: Any, unconnected_gradients: Any, *,
                  colocate: bool) -> list[Tensor | IndexedSlices | None]:
    """`gradients` with the choice whether gradient operations take the forward operations' device labels."""
    graph = common_graph(ys, xs, grad_ys, stop_gradients)
    y_list, x_list, stop_list = sequence(ys, "ys"), sequence(xs, "xs"), sequence(stop_gradients, "stop_gradients")
    unconnected = unconnected_of(unconnected_gradients)
    method = check_method(aggregation_method)
    with graph.as_default(), graph.lock:
        with nullcontext() if name == "" else scope_in(graph, "gradients" if name is None else name):
            y_tensors, x_tensors = nodes(graph, y_list, "ys"), nodes(graph, x_list, "xs")
            stops = nodes(graph, stop_list, "stop_gradients")
            cotangents = cotangents_of(grad_ys, y_tensors, colocate)
            result = _sweep(y_tensors, x_tensors, cotangents, stops, method, bool(gate_gradients), colocate, rows=True)
        if unconnected is UnconnectedGradients.ZERO:
            result = [g if g is not None else apply("zeros_like", x) for g, x in zip(result, x_tensors, strict=True)]
    return result


def build_gradients(ys: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Tensor | IndexedSlices | None],
                    stops: Sequence[Tensor] = (), method: int = 0, *, gate: bool = False,
                    colocate: bool = True) -> list[Tensor | None]:
    """The loop over the reversed order, with dense results; arguments are nodes of one graph, checked."""
    found = _sweep(ys, xs, cotangents, stops, method, gate, colocate, rows=False)
    return [dense(g) if g is not None else None for g in found]


def build_row_gradients(ys: Sequence[Tensor], xs: Sequence[Tensor],
                        cotangents: Sequence[Tensor | None]) -> list[Tensor | IndexedSlices | None]:
    """`build_gradients` that leaves the gradients of gathers row-sparse."""
    return _sweep(ys, xs, cotangents, (), 0, False, True, rows=True)


def _sweep(ys: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Tensor | IndexedSlices | None],
           stops: Sequence[Tensor], method: int, gate: bool, colocate: bool,
           rows: bool) -> list[Tensor | IndexedSlices | None]:
    """Differentiate along the operations between xs and ys."""
    path, reached = between(ys, xs, lambda t: is_trainable(t.dtype), frozenset(s.op for s in stops if s.op is not None))
    return walk_back(path, reached, ys, xs, cotangents, method, lambda op: backward_of(op, colocate), gate=gate,
                     colocate=colocate, rows=rows)


def walk_back(path: list[Any], reached: set[Tensor], ys: Sequence[Tensor], xs: Sequence[Tensor],
              cotangents: Sequence[Tensor | IndexedSlices | None], method: int,
              around: Callable[[Any], AbstractContextManager[Any]], *, gate: bool = False, colocate: bool = False,
              rows: bool = True, seen: Callable[[Any, Sequence[Any], Sequence[Any]], None] | None = None,
              constant: Mapping[Any, Collection[Tensor]] | None = None,
              release: bool = False) -> list[Tensor | IndexedSlices | None]:
    """Visit every operation of `path`, which is in order, once, backwards, each within ``around(operation)``.

    `reached` are the tensors on the way from xs; `rows` keeps gradients of gathers row-sparse; ``seen(operation,
    cotangents of its outputs, cotangents of its inputs)`` is told about each step; `constant` names inputs of
    operations that take no cotangent. With `release` what was visited is taken out of `path`, so that eager tensors
    free their memory on the way.
    """
    wanted = set(xs)
    pending = pending_terms(path, ys, reached | wanted)
    del reached
    terms = Terms(pending, method, colocate, kept=wanted)
    masked: set[Tensor] = set()
    for y, cotangent in zip(ys, cotangents, strict=True):
        if cotangent is not None and (y in pending or y in wanted):  # an integer y that is an x is its own gradient
            terms.add(y, cotangent)
    alone = not (gate or state.recorders or state.graphs or state.checks)
    rest = path if release else list(path)
    while rest:
        op = rest.pop()
        outputs, inputs = op.outputs, op.inputs
        if release:
            for tensor in outputs:
                pending.pop(tensor, None)
        given: list[Tensor | IndexedSlices | None]
        if len(outputs) == 1:
            given = [terms.last(outputs[0])]
        else:
            given = [terms.last(t) if t.dtype.kind in "fc" else None for t in outputs]
        for cotangent in given:
            if cotangent is not None:
                break
        else:
            continue
        is_masked = bool(masked) and any(t in masked for t in outputs)
        needed = [t in pending for t in inputs]
        if constant:
            needed = [n and t not in constant.get(op, ()) for n, t in zip(needed, inputs, strict=True)]
        pulled = replayed(op, given, needed, is_masked, rows) if alone and op.graph is None else None
        if pulled is None:
            with around(op):
                pulled = _pulled(op, given, needed, is_masked, rows)
                if gate:
                    pulled = _gated(pulled)
        if seen is not None:
            seen(op, given, pulled)
        for tensor, term in zip(inputs, pulled, strict=True):
            if term is not None:
                terms.add(tensor, term)
                if is_masked or op.record.masks:
                    masked.add(tensor)
        if masked:
            masked.difference_update(outputs)
    return [terms.total(x) for x in xs]


def _pulled(op: Operation, given: Sequence[Tensor | IndexedSlices | None], needed: Sequence[bool], masked: bool,
            rows: bool) -> list[Tensor | IndexedSlices | None]:
    """The cotangents of an operation's inputs: row-sparse ones pass only where that is the rule."""
    user, rule = rule_of(op)
    if user and rule is None:
        return [None] * len(op.inputs)
    if not user:
        if op.record.partials is not None and isinstance(given[0], Tensor):
            return pull(op, given, needed, masked)  # type: ignore[arg-type]
        if op.record.vjp is None and op.record.partials is None:
            if not op.record.smooth:  # declared to have no derivative: nothing flows
                return [None] * len(op.inputs)
            raise refuse(op)
        if op.type in ("identity", "positive", "read_variable") and isinstance(given[0], IndexedSlices):
            return [given[0], *[None] * (len(op.inputs) - 1)]
    cotangents = [dense(g) if g is not None else None for g in given]
    if user:
        cotangents = [apply("zeros_like", t) if g is None and is_trainable(t.dtype) else g
                      for g, t in zip(cotangents, op.outputs, strict=True)]
    if rows and not user and cotangents[0] is not None:
        sparse = row_gradient(op, cotangents[0])
        if sparse is not None:
            return [sparse if needed[0] else None, *[None] * (len(op.inputs) - 1)]
    return pull(op, cotangents, needed, masked, rule)


def _gated(terms: Sequence[Tensor | IndexedSlices | None]) -> list[Tensor | IndexedSlices | None]:
    """Make several cotangents of one operation wait for each other."""
    present = [t for t in terms if t is not None]
    if len(present) < 2:
        return list(terms)
    ops = [t.op for t in present if t.op is not None]

    def waiting(term: Tensor | IndexedSlices | None) -> Tensor | IndexedSlices | None:
        if term is None:
            return None
        if isinstance(term, IndexedSlices):
            return IndexedSlices(apply("identity", term.values), term.indices, term.dense_shape)
        return apply("identity", term, op_name="control_dependency")

    with control_dependencies(ops):
        return [waiting(t) for t in terms]


def pending_terms(path: Sequence[Any], ys: Sequence[Tensor], reached: set[Tensor]) -> dict[Tensor, int]:
    """How many terms the sum of each tensor on the way can get."""
    counts = {t: 0 for t in reached if is_trainable(t.dtype)}
    for y in ys:
        if y in counts:
            counts[y] += 1
    for op in path:
        for tensor in op.inputs:
            if tensor in counts:
                counts[tensor] += 1
    return counts

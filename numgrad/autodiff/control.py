"""Derivatives of loops and branches: each is again a loop or branch, so that every order follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.adjoint import there_and_back
from numgrad.autodiff.bodies import closed, divided, floats, or_zeros, present, row_spec
from numgrad.autodiff.forward import pushforward
from numgrad.autodiff.reverse import build_gradients
from numgrad.autodiff.saving import dear_results, into_rows, read_again, read_of_arrays
from numgrad.autodiff.unknown import pull_unknown, rooms_of_scan, rooms_of_switch
from numgrad.errors import GradientError, at
from numgrad.graph.body import Body, inline, trace_body
from numgrad.graph.core import Operation, Tensor, apply, apply_all
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS
from numgrad.ops.control import (
    CountedSize,
    infer_scan,
    infer_switch,
    infer_while,
    run_count,
    run_scan,
    run_switch,
    run_while,
)
from numgrad.ops.kinds import cast_to, define
from numgrad.types import Spec, is_trainable

__all__ = ["closed"]

# -- scan


def _scan_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A forward scan that also keeps what is read again, and one the other way that pulls back step after step."""
    attrs, body = op.attrs, op.attrs["body"]
    carries, rows = attrs["carries"], attrs["rows"]
    init, xs, captured = op.inputs[:carries], op.inputs[carries:carries + rows], op.inputs[carries + rows:]
    checkpoint = attrs.get("checkpoint", "all")
    if checkpoint != "all":
        return _pull_steps(op.graph, body, init, xs, captured, None, cts, attrs["length"], not attrs["reverse"],
                           checkpoint)

    def keep(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        more = Body(body.graph, body.inputs, (*body.outputs, *tensors))
        return apply_all("scan", *op.inputs, **{**attrs, "body": more, "extends": op})[len(op.outputs):]

    return _pull_steps(op.graph, body, init, xs, captured, keep, cts, attrs["length"], not attrs["reverse"])


def _pull_steps(outside: Graph, body: Body, init: Sequence[Tensor], xs: Sequence[Tensor], captured: Sequence[Tensor],
                keep: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None, cts: Sequence[Tensor | None], length: Any,
                reverse: bool, checkpoint: Any = "all") -> list[Tensor | None]:
    """The cotangents of a scan's inputs.

    ``keep(tensors of the body)`` gives their values of all steps, stacked; without it the steps are computed again.
    """
    carries = len(init)
    flowing = floats(init)
    row_cts = [(k, ct) for k, ct in enumerate(cts[carries:], carries) if ct is not None]
    specs = [init[i].spec for i in flowing] + [t.spec for t in init]
    specs += [row_spec(t) for t in (*xs, *(ct for _, ct in row_cts))]
    reads = {} if keep is None else read_of_arrays(body, carries)
    dear = [] if keep is None else dear_results(body, carries, len(xs))
    direct = list(dict.fromkeys([*(t for tensors in reads.values() for t in tensors), *dear]))
    extended = Body(body.graph, body.inputs, (*body.outputs, *direct))
    found: dict[str, Any] = {}

    def step(*given: Tensor) -> list[Tensor]:
        ct_carry, rest = given[:len(flowing)], given[len(flowing):]
        carry, row, row_ct = rest[:carries], rest[carries:carries + len(xs)], rest[carries + len(xs):]
        inside = [apply("identity", t) for t in captured]
        outputs = inline(extended, [*carry, *row, *inside])
        found["direct"] = dict(zip(direct, outputs[len(body.outputs):], strict=True))
        ys = [outputs[i] for i in flowing] + [outputs[k] for k, _ in row_cts]
        wanted = [carry[i] for i in flowing] + [t for t in (*row, *inside) if is_trainable(t.dtype)]
        gradients = iter(build_gradients(ys, wanted, [*ct_carry, *row_ct]))
        found["carry"] = [into_rows(or_zeros(next(gradients), carry[i])) for i in flowing]
        found["rows"] = [next(gradients) if is_trainable(t.dtype) else None for t in row]
        found["captured"] = [next(gradients) if is_trainable(t.dtype) else None for t in inside]
        return found["carry"]

    graph, inputs, _ = trace_body(outside, specs, step)
    sums = [i for i, g in enumerate(found["captured"]) if g is not None]
    with graph.as_default():
        totals = [graph.add(OPS["placeholder"], (), {}, (captured[i].spec,), "total").outputs[0] for i in sums]
        added = [into_rows(apply("add", t, cast_to(found["captured"][i], t.dtype)))
                 for t, i in zip(totals, sums, strict=True)]
    live_rows = [i for i, g in enumerate(found["rows"]) if g is not None]
    results = [*found["carry"], *added, *(found["rows"][i] for i in live_rows)]
    kept = dict(zip(body.inputs, inputs[len(flowing):len(flowing) + carries], strict=False))
    if keep is not None:
        read = [*results, *(trips for _, trips in graph.rooms)]
        inner = found["direct"]
        kept = read_again(read, kept, {a: {t: inner[t] for t in ts} for a, ts in reads.items()},
                          {t: inner[t] for t in dear})
    given = [*inputs[:len(flowing)], *totals, *kept.values(), *inputs[len(flowing) + carries:]]
    pullback, outer = closed(graph, given, results)
    start = [or_zeros(cts[i], init[i]) for i in flowing] + [apply("zeros_like", captured[i]) for i in sums]
    if keep is None:
        if graph.rooms:
            raise GradientError(f"while_loop: reverse mode through a loop of unknown length inside a loop with "
                                f"checkpoint={checkpoint!r}{at(graph.rooms[0][1].op.where)}; "  # type: ignore[union-attr]
                                f"use checkpoint='all', or ng.scan or ng.fori_loop for the inner loop")
        forward = Body(body.graph, body.inputs, body.outputs[:carries])
        result = there_and_back(forward, captured, pullback, outer, init, start, xs, [ct for _, ct in row_cts],
                                length=length, reverse=not reverse, checkpoint=checkpoint)
    else:
        stacked = [*keep(list(kept)), *xs, *(ct for _, ct in row_cts)]
        rooms_of_scan(outside, pullback, len(start), stacked, outer, length=length, reverse=reverse)
        result = apply_all("scan", *start, *stacked, *outer, body=pullback, carries=len(start), rows=len(stacked),
                           length=length, reverse=reverse, extends=None)
    answers: list[Tensor | None] = [None] * (carries + len(xs) + len(captured))
    for value, i in zip(result, flowing, strict=False):
        answers[i] = value
    for value, i in zip(result[len(flowing):], sums, strict=False):
        answers[carries + len(xs) + i] = value
    for value, i in zip(result[len(start):], live_rows, strict=True):
        answers[carries + i] = value
    return answers


def _scan_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """One scan over the values and their tangents."""
    attrs, body = op.attrs, op.attrs["body"]
    carries, rows = attrs["carries"], attrs["rows"]
    flowing = floats(op.inputs[:carries])
    given_rows = [i for i in range(carries, carries + rows) if tangents[i] is not None]
    given_captured = [i for i in range(carries + rows, len(op.inputs)) if tangents[i] is not None]
    live_rows = [k for k in range(carries, len(body.outputs)) if is_trainable(body.outputs[k].dtype)]
    specs = [t.spec for t in op.inputs[:carries]] + [op.inputs[i].spec for i in flowing]
    specs += [row_spec(op.inputs[i]) for i in [*range(carries, carries + rows), *given_rows]]

    def step(*given: Tensor) -> list[Tensor]:
        parts = divided(given, carries, len(flowing), rows, len(given_rows))
        carry, d_carry, row, d_row = parts
        inside = [apply("identity", t) for t in op.inputs[carries + rows:]]
        outputs = inline(body, [*carry, *row, *inside])
        xs = [carry[i] for i in flowing] + [row[i - carries] for i in given_rows]
        xs += [inside[i - carries - rows] for i in given_captured]
        moves = [*d_carry, *d_row, *present(tangents, given_captured)]
        pushed = pushforward(outputs, xs, [apply("identity", t) for t in moves])
        return [*outputs[:carries], *(or_zeros(pushed[i], outputs[i]) for i in flowing), *outputs[carries:],
                *(or_zeros(pushed[k], outputs[k]) for k in live_rows)]

    graph, inputs, outputs = trace_body(op.graph, specs, step)
    pushing, outer = closed(graph, inputs, outputs)
    start = [*op.inputs[:carries], *(or_zeros(tangents[i], op.inputs[i]) for i in flowing)]
    stacked = [*op.inputs[carries:carries + rows], *present(tangents, given_rows)]
    places = (*range(carries), *range(len(start), len(start) + len(op.outputs) - carries))
    result = apply_all("scan", *start, *stacked, *outer, body=pushing, carries=len(start), rows=len(stacked),
                       length=attrs["length"], reverse=attrs["reverse"], extends=None, serves=op, places=places,
                       checkpoint=attrs.get("checkpoint", "all"))
    answers: list[Tensor | None] = [None] * len(op.outputs)
    for value, i in zip(result[carries:len(start)], flowing, strict=True):
        answers[i] = value
    for value, k in zip(result[len(start) + len(op.outputs) - carries:], live_rows, strict=True):
        answers[k] = value
    return answers




# -- while


def _while_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Count the trips, run them again as a scan of that length that keeps its carries, and pull back through it."""
    attrs, carries = op.attrs, op.attrs["carries"]
    if op.graph.outer is not None:
        return pull_unknown(op, cts, lambda body, init, captured, keep, cts, length: _pull_steps(
            op.graph, body, init, (), captured, keep, cts, length, True))
    size = op.graph.sizes.fresh()
    op.graph.sizes.count(size, apply("trip_count", *op.inputs, binds=CountedSize(size), **{k: attrs[k] for k in (
        "cond", "body", "carries", "maximum")}))
    body = attrs["body"]
    init, captured = op.inputs[:carries], op.inputs[carries:]
    checkpoint = attrs.get("checkpoint", "all")
    if checkpoint != "all":
        return _pull_steps(op.graph, body, init, (), captured, None, cts, size, True, checkpoint)

    def keep(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        more = Body(body.graph, body.inputs, (*body.outputs, *tensors))
        return apply_all("scan", *op.inputs, body=more, carries=carries, rows=0, length=size, reverse=False,
                         extends=op)[carries:]

    return _pull_steps(op.graph, body, init, (), captured, keep, cts, size, True)


def _while_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """One loop over the variables and their tangents."""
    attrs, body, cond, carries = op.attrs, op.attrs["body"], op.attrs["cond"], op.attrs["carries"]
    flowing = floats(op.inputs[:carries])
    given = [i for i in range(carries, len(op.inputs)) if tangents[i] is not None]
    specs = [t.spec for t in op.inputs[:carries]] + [op.inputs[i].spec for i in flowing]

    def step(*values: Tensor) -> list[Tensor]:
        carry, d_carry = values[:carries], values[carries:]
        inside = [apply("identity", t) for t in op.inputs[carries:]]
        outputs = inline(body, [*carry, *inside])
        moves = [*d_carry, *present(tangents, given)]
        pushed = pushforward(outputs, [*(carry[i] for i in flowing), *(inside[i - carries] for i in given)],
                             [apply("identity", t) for t in moves])
        return [*outputs, *(or_zeros(pushed[i], outputs[i]) for i in flowing)]

    graph, inputs, outputs = trace_body(op.graph, specs, step)
    test_graph, test_inputs, test = trace_body(
        op.graph, specs, lambda *v: inline(cond, [*v[:carries], *(apply("identity", t) for t in op.inputs[carries:])]))
    outer = list(dict.fromkeys([*graph.reached, *test_graph.reached]))
    bodies = [Body(g, [*i, *(g.capture(t) for t in outer)], o)
              for g, i, o in ((test_graph, test_inputs, test), (graph, inputs, outputs))]
    start = [*op.inputs[:carries], *(or_zeros(tangents[i], op.inputs[i]) for i in flowing)]
    result = apply_all("while_loop", *start, *outer, cond=bodies[0], body=bodies[1], carries=len(start),
                       maximum=attrs["maximum"], checkpoint=attrs.get("checkpoint", "all"), serves=op,
                       places=tuple(range(carries)))
    answers: list[Tensor | None] = [None] * len(op.outputs)
    for value, i in zip(result[carries:], flowing, strict=True):
        answers[i] = value
    return answers


# -- branches


def _switch_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The branch that was taken pulls back; what it does not read gets zeros."""
    operands = op.inputs[1:]
    given = [(k, ct) for k, ct in enumerate(cts) if ct is not None]
    flowing = floats(operands)
    specs = [t.spec for t in operands] + [ct.spec for _, ct in given]
    traced = []
    for branch in op.attrs["branches"]:
        paths: list[Tensor | None] = []

        def pull(*values: Tensor, branch: Body = branch, paths: list[Tensor | None] = paths) -> list[Tensor]:
            own, pulled = values[:len(operands)], values[len(operands):]
            outputs = inline(branch, own)
            paths.extend(build_gradients([outputs[k] for k, _ in given], [own[i] for i in flowing], pulled))
            return [or_zeros(g, own[i]) for g, i in zip(paths, flowing, strict=True)]

        traced.append((trace_body(op.graph, specs, pull), paths))
    live = [j for j in range(len(flowing)) if any(paths[j] is not None for _, paths in traced)]
    answers: list[Tensor | None] = [None] * len(op.inputs)
    if live:
        branches = tuple(Body(graph, inputs, [outputs[j] for j in live]) for (graph, inputs, outputs), _ in traced)
        inputs = [*operands, *(ct for _, ct in given)]
        rooms_of_switch(op.graph, op.inputs[0], inputs, branches)
        result = apply_all("switch", op.inputs[0], *inputs, branches=branches)
        for value, j in zip(result, live, strict=True):
            answers[1 + flowing[j]] = value
    return answers


def _switch_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The branch that was taken pushes forward."""
    operands = op.inputs[1:]
    given = [i for i, t in enumerate(tangents[1:]) if t is not None]
    live = floats(op.outputs)
    specs = [t.spec for t in operands] + [operands[i].spec for i in given]
    branches = []
    for branch in op.attrs["branches"]:

        def push(*values: Tensor, branch: Body = branch) -> list[Tensor]:
            own, moves = values[:len(operands)], values[len(operands):]
            outputs = inline(branch, own)
            pushed = pushforward(outputs, [own[i] for i in given], moves)
            return [or_zeros(pushed[k], outputs[k]) for k in live]

        branches.append(Body(*trace_body(op.graph, specs, push)))
    answers: list[Tensor | None] = [None] * len(op.outputs)
    if live:
        moves = [t for t in tangents[1:] if t is not None]
        result = apply_all("switch", op.inputs[0], *operands, *moves, branches=tuple(branches))
        for value, k in zip(result, live, strict=True):
            answers[k] = value
    return answers


define("scan", "general", infer_scan, run_scan, vjp=_scan_vjp, jvp=_scan_jvp, bodies=True, masks=True,
       doc="A body run once for each row of arrays, carrying values from step to step and stacking its other results.")
define("while_loop", "general", infer_while, run_while, vjp=_while_vjp, jvp=_while_jvp, bodies=True, masks=True,
       doc="A body run on its own results for as long as a condition holds.")
define("trip_count", "general", lambda specs, attrs: (Spec(np.dtype(np.int64), ()),), run_count, smooth=False,
       bodies=True, doc="How often a loop runs its body.")
define("switch", "general", infer_switch, run_switch, vjp=_switch_vjp, jvp=_switch_jvp, bodies=True, masks=True,
       doc="One of several bodies, chosen by an index.")

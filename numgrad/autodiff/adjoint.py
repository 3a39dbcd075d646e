"""A loop forward and a loop backward as one op that keeps few states: what differentiated loops become on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgrad.autodiff.bodies import closed, divided, floats, or_zeros, present, row_spec
from numgrad.autodiff.forward import pushforward
from numgrad.autodiff.reverse import build_gradients
from numgrad.graph.body import Body, inline, trace_body
from numgrad.graph.core import Operation, Tensor, apply, apply_all
from numgrad.ops.checkpoints import infer_adjoint, run_adjoint
from numgrad.ops.kinds import define

__all__ = ["there_and_back"]


def there_and_back(forward: Body, mine: Sequence[Tensor], backward: Body, others: Sequence[Tensor],
                   init: Sequence[Tensor], start: Sequence[Tensor], xs: Sequence[Tensor], ws: Sequence[Tensor], *,
                   length: Any, reverse: bool, checkpoint: Any) -> tuple[Tensor, ...]:
    """Run `forward` from `init` over the rows `xs`, then `backward` from `start` the other way.

    Parameters
    ----------
    forward : Body
        (carry, row of xs, `mine`) -> carry.
    backward : Body
        (state, carry before the step, row of xs, row of ws, `others`) -> state and results of the step.

    Returns
    -------
    tuple of Tensor
        The last state, and the steps' results stacked.
    """
    return apply_all("adjoint_scan", *init, *start, *xs, *ws, *mine, *others, forward=forward, backward=backward,
                     carries=len(init), states=len(start), rows=len(xs), results=len(ws), shared=len(mine),
                     length=length, reverse=reverse, checkpoint=checkpoint)


def _parts(op: Operation, values: Sequence[Any]) -> list[Sequence[Any]]:
    """Carries, states, rows of xs and of ws, what the forward body captures and what the backward one does."""
    attrs = op.attrs
    return divided(values, *(attrs[k] for k in ("carries", "states", "rows", "results", "shared")), len(values))


def _as_two_scans(op: Operation, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The same as a scan that keeps all its carries and a scan back."""
    attrs, forward = op.attrs, op.attrs["forward"]
    init, start, xs, ws, mine, others = _parts(op, inputs)
    keep = Body(forward.graph, forward.inputs, (*forward.outputs, *forward.inputs[:len(init)]))
    common = {"length": attrs["length"], "extends": None}
    kept = apply_all("scan", *init, *xs, *mine, body=keep, carries=len(init), rows=len(xs), reverse=attrs["reverse"],
                     **common)[len(init):]
    rows = [*kept, *xs, *ws]
    return list(apply_all("scan", *start, *rows, *others, body=attrs["backward"], carries=len(start), rows=len(rows),
                          reverse=not attrs["reverse"], **common))


def _adjoint_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Through the two scans that it stands for: reverse mode of reverse mode keeps all carries."""
    inputs = [apply("identity", t) for t in op.inputs]
    outputs = _as_two_scans(op, inputs)
    given = [k for k, ct in enumerate(cts) if ct is not None]
    live = floats(inputs)
    answers: list[Tensor | None] = [None] * len(inputs)
    gradients = build_gradients([outputs[k] for k in given], [inputs[i] for i in live], present(cts, given))
    for i, gradient in zip(live, gradients, strict=True):
        answers[i] = gradient
    return answers


class _Moved:
    """One group of inputs with tangents: which of them have one."""

    def __init__(self, values: Sequence[Tensor], tangents: Sequence[Tensor | None], always: bool = False) -> None:
        self.values = values
        self.live = floats(values) if always else [i for i, t in enumerate(tangents) if t is not None]
        self.tangents = ([or_zeros(tangents[i], values[i]) for i in self.live] if always
                         else present(tangents, self.live))

    @property
    def all(self) -> list[Tensor]:
        return [*self.values, *self.tangents]

    def counts(self) -> tuple[int, int]:
        return len(self.values), len(self.live)

    def inside(self) -> tuple[list[Tensor], list[Tensor]]:
        """Captured values and tangents as tensors of the body that is being traced."""
        return [apply("identity", t) for t in self.values], [apply("identity", t) for t in self.tangents]


def _pushed(body: Body, groups: Sequence[tuple[Sequence[Tensor], Sequence[int], Sequence[Tensor]]],
            states: int) -> list[Tensor]:
    """A body's outputs and their tangents: states, their tangents, results, their tangents."""
    outputs = inline(body, [t for values, _, _ in groups for t in values])
    xs = [values[i] for values, live, _ in groups for i in live]
    pushed = pushforward(outputs, xs, [apply("identity", t) for _, _, moves in groups for t in moves])
    live = floats(outputs)
    tangents = {k: or_zeros(pushed[k], outputs[k]) for k in live}
    return [*outputs[:states], *(tangents[k] for k in live if k < states), *outputs[states:],
            *(tangents[k] for k in live if k >= states)]


def _adjoint_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The same kind of op over values and tangents, with as few states kept."""
    attrs = op.attrs
    groups = [_Moved(v, t, always=k < 2) for k, (v, t) in enumerate(
        zip(_parts(op, op.inputs), _parts(op, tangents), strict=True))]
    init, start, xs, ws, mine, others = groups

    def traced(body: Body, captured: _Moved, before: Sequence[_Moved], rows: Sequence[_Moved]) -> tuple[Body, Any]:
        counts = [n for g in (*before, *rows) for n in g.counts()]

        def step(*given: Tensor) -> list[Tensor]:
            parts = divided(given, *counts)
            inside = captured.inside()
            pairs = [(parts[2 * k], g.live, parts[2 * k + 1]) for k, g in enumerate((*before, *rows))]
            return _pushed(body, [*pairs, (inside[0], captured.live, inside[1])], len(before[0].values))

        specs = [t.spec for g in before for t in g.all] + [row_spec(t) for g in rows for t in g.all]
        return closed(*trace_body(op.graph, specs, step))

    forward, mine_outer = traced(attrs["forward"], mine, [init], [xs])
    backward, others_outer = traced(attrs["backward"], others, [start, init], [xs, ws])
    found = there_and_back(forward, mine_outer, backward, others_outer, init.all, start.all, xs.all, ws.all,
                           length=attrs["length"], reverse=attrs["reverse"], checkpoint=attrs["checkpoint"])
    states, count = attrs["states"], len(op.outputs)
    live = floats(op.outputs)
    answers: list[Tensor | None] = [None] * count
    moved = [*found[states:states + len(start.live)], *found[count + len(start.live):]]
    for k, value in zip(live, moved, strict=True):
        answers[k] = value
    return answers


define("adjoint_scan", "general", infer_adjoint, run_adjoint, vjp=_adjoint_vjp, jvp=_adjoint_jvp, bodies=True,
       masks=True, doc="A loop forward, and a loop backward that reads its states, of which few are kept.")

"""`recompute_grad`: functions that are run again for their derivatives instead of being remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.autodiff.accumulator import ForwardAccumulator
from numgrad.autodiff.batching import RULES, spread
from numgrad.autodiff.decorated import Call, Decorated, Reads, passed_on, taken_apart, within
from numgrad.autodiff.recording import gradients_through
from numgrad.graph.core import Operation, Tensor, apply, as_tensor, current_graph, state
from numgrad.graph.scopes import heard_by
from numgrad.graph.variable import Variable
from numgrad.nest import flatten, unflatten
from numgrad.ops.kinds import as_node, define, infer_same
from numgrad.types import Dim, is_trainable

__all__ = ["recompute_grad"]

define("recompute_point", "linear", infer_same("recompute_point"), np.asarray, vjp=lambda op, cts: [cts[0]],
       samples=lambda rng: [([rng.normal(size=shape)], {}) for shape in ((), (3,), (0, 2))],
       doc="The same values, from which what was computed before is computed again.")


class _Again(NamedTuple):
    """What it takes to run a function again: the call, and the variables that it read."""

    call: Call
    variables: tuple[Variable, ...]

    def results(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        graph = current_graph()
        leaves, _ = flatten(self.call.run(inputs[:len(inputs) - len(self.variables)]))
        return [as_node(graph, leaf) if graph is not None else as_tensor(leaf) for leaf in leaves]

    def handles(self) -> list[Tensor]:
        graph = current_graph()
        return [v.handle_in(graph) for v in self.variables]


def _recompute_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Any]:
    """Run the function again on the inputs and pull back through that."""
    count, again = op.attrs["count"], op.attrs["rule"]
    inputs = [apply("recompute_point", t) for t in op.inputs[count:len(op.inputs) - len(again.variables)]]
    sources = [*inputs, *again.handles()]
    found = gradients_through(lambda: again.results(sources), sources, cts)
    return [None] * count + [g if is_trainable(x.dtype) else None for g, x in zip(found, sources, strict=True)]


def _recompute_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    count, again = op.attrs["count"], op.attrs["rule"]
    inputs = [apply("identity", t) for t in op.inputs[count:len(op.inputs) - len(again.variables)]] + again.handles()
    moving = [(x, t) for x, t in zip(inputs, tangents[count:], strict=True) if t is not None]
    if not moving:
        return [None] * count
    with ForwardAccumulator([x for x, _ in moving], [t for _, t in moving]) as accumulator:
        results = again.results(inputs)
    return list(accumulator.jvp(results))


define("recompute_grad", "general", lambda specs, attrs: tuple(specs[:attrs["count"]]),
       lambda *arrays, count, rule: tuple(arrays[:count]), vjp=_recompute_vjp, jvp=_recompute_jvp,
       decompose=lambda *tensors, count, rule: tensors[:count],
       doc="The first of its inputs, whose derivative computes them again from the others.")


def _batch(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> list[Tensor]:
    """The batched outputs: their derivative goes through what computed them, and nothing is run again."""
    count = op.attrs["count"]
    return [x if flag else spread(x, size) for x, flag in zip(inputs[:count], flags[:count], strict=True)]


RULES["recompute_grad"] = _batch
RULES["recompute_point"] = lambda op, inputs, flags, size: apply("recompute_point", inputs[0])


def _call_recompute(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    call, inputs = taken_apart(function, args, keywords)
    reads = Reads()
    with within(inputs):
        with heard_by((reads,)):
            leaves, structure = flatten(call.run(inputs))
        variables, handles = reads.in_order()
        for variable, handle in zip(variables, handles, strict=True):
            for recorder in state.recorders:
                recorder.read(variable, handle)
        outputs = [as_tensor(leaf) for leaf in leaves]
        made = passed_on("recompute_grad", outputs, [*inputs, *handles], _Again(call, variables))
    return unflatten(structure, made)


def recompute_grad(f: Callable[..., Any]) -> Any:
    """Keep nothing of a function for its gradient; run it again instead.

    Parameters
    ----------
    f : callable
        A function of arrays and nests of them; without side effects, as it runs again for every gradient.

    Returns
    -------
    callable
        The same function. Its derivative holds on to the arguments only, at the cost of a second evaluation.
        ``__wrapped__`` is `f`.

    Raises
    ------
    TypeError
        `f` is not callable.

    Notes ----- Derivatives of every order, and forward mode, are those of `f`. Forward mode needs no second
    evaluation. See Griewank and Walther, "Evaluating Derivatives" (2008), chapter 12, on trading storage for
    computation.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> block = ng.recompute_grad(lambda x: ng.sin(ng.sin(x)))
    >>> bool(ng.grad(block)(1.0) == np.cos(np.sin(1.0)) * np.cos(1.0))
    True
    """
    return Decorated(f, _call_recompute)

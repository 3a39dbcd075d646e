"""Loops run forward and back in bounded memory: which states are kept, and the meaning of such a pair of loops.

The schedule is binomial checkpointing: with s kept states, C(s + r, s) steps can be reversed so that none runs forward
more than r times, and no schedule does better (Griewank & Walther, Algorithm 799, ACM TOMS 26, 2000).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import at, user_line
from numgrad.graph.body import Body
from numgrad.ops.control import known_shape
from numgrad.types import Dim, Spec, canonical_shape, size_bits, size_isqrt, size_max, size_min

__all__ = ["check_strategy", "forward_steps", "infer_adjoint", "run_adjoint", "schedule", "snapshots", "split"]

STRATEGIES = ("all", "sqrt", "revolve")


def check_strategy(strategy: Any, what: str) -> Any:
    """The strategy, or ValueError or TypeError with the accepted ones."""
    accepted = f"wanted \"all\", \"sqrt\", \"revolve\" or a positive number of bytes{at(user_line())}"
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise ValueError(f"{what}: checkpoint={strategy!r}; {accepted}")
        return strategy
    if isinstance(strategy, bool) or not isinstance(strategy, (int, np.integer)):
        raise TypeError(f"{what}: checkpoint={strategy!r}; {accepted}")
    if strategy <= 0:
        raise ValueError(f"{what}: checkpoint={strategy!r}; {accepted}")
    return int(strategy)


def snapshots(strategy: Any, steps: Dim, state_bytes: Dim) -> Dim:
    """How many states a strategy keeps for a loop of so many steps, the first among them; at least 1."""
    if strategy == "sqrt":
        kept = size_isqrt(size_max(0, 2 * steps - 1)) + 1  # enough for every step to run at most twice
    elif strategy == "revolve":
        kept = size_bits(steps)
    elif strategy == "all":
        kept = steps
    else:
        kept = strategy // size_max(1, state_bytes)
    return size_max(1, size_min(kept, steps))


def split(steps: int, kept: int) -> int:
    """After how many of `steps` steps the next state is kept, when `kept` > 1 (the present one is one of them)."""
    # reach(s, r) = C(s + r, s): the steps that s states reverse with r runs each.
    repeats, reach, before = 0, 1, 0
    while reach < steps:
        repeats += 1
        before, reach = reach, reach * (kept + repeats) // repeats
    right = before * kept // (kept + repeats - 1)  # reach(kept - 1, repeats - 1)
    return min(before, steps - right)


def schedule(steps: int, kept: int) -> Iterator[tuple[str, int, int]]:
    """What a loop does that goes back over `steps` steps with `kept` states.

    ("restore", k, step): the state before `step`, kept in place k, is the present one. ("advance", step, to): run
    forward. ("keep", k, step): keep the present state. ("back", step, step): run the step's reverse.
    """
    places, end, present = [0], steps, 0
    yield "keep", 0, 0
    while end > 0:
        start = places[-1]
        free = kept - len(places)
        target = start + split(end - start, free + 1) if free and end - start > 1 else end - 1
        if present != start and present != target:
            yield "restore", len(places) - 1, start
            present = start
        if present != target:
            yield "advance", present, target
            present = target
        if target < end - 1:
            places.append(target)
            yield "keep", len(places) - 1, target
            continue
        end -= 1
        yield "back", end, end
        if places[-1] == end and len(places) > 1:
            places.pop()


def forward_steps(steps: int, kept: int) -> int:
    """How many steps `schedule` runs forward in all: r n - C(s + r, s + 1), r being the most runs of a step."""
    repeats, reach = 0, 1
    while reach < steps:
        repeats += 1
        reach = reach * (kept + repeats) // repeats
    return repeats * steps - math.comb(kept + repeats, kept + 1)


def infer_adjoint(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    """The last backward state, then the stacked results of the backward steps."""
    carries, states = attrs["carries"], attrs["states"]
    rows = [t.spec for t in attrs["backward"].outputs[states:]]
    return (*specs[carries:carries + states],
            *(Spec(r.dtype, canonical_shape((attrs["length"], *r.shape))) for r in rows))


def run_adjoint(*values: Any, forward: Body, backward: Body, carries: int, states: int, rows: int, results: int,
                shared: int, length: int, reverse: bool, checkpoint: Any, sizes: dict[Any, int]) -> tuple[Any, ...]:
    """Evaluate a loop forward and then backward, keeping the states that the strategy allows."""
    parts, start = [], 0
    for count in (carries, states, rows, results, shared, len(values)):
        parts.append(list(values[start:start + count]))
        start += count
    carry, state, xs, ws, mine, others = parts
    stacked = [np.empty((length, *known_shape(t, sizes)), t.dtype) for t in backward.outputs[states:]]
    places: list[Any] = [None] * snapshots(checkpoint, length, sum(np.asarray(c).nbytes for c in carry))

    def row(step: int) -> int:
        return length - 1 - step if reverse else step

    for what, a, b in schedule(length, len(places)):
        if what == "restore":
            carry = places[a]
        elif what == "keep":
            places[a] = carry
        elif what == "advance":
            for step in range(a, b):
                carry = forward.evaluate([*carry, *(x[row(step)] for x in xs), *mine], sizes)
        else:
            i = row(a)
            found = backward.evaluate([*state, *carry, *(x[i] for x in xs), *(w[i] for w in ws), *others], sizes)
            state = found[:states]
            for stack, value in zip(stacked, found[states:], strict=True):
                stack[i] = value
    return (*(np.array(s) for s in state), *stacked)

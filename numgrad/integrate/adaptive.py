"""Adaptive steps of Dormand and Prince's method: found first, then taken again as constants and differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numgrad.autodiff.counting import room_for
from numgrad.graph.core import Tensor, as_tensor, current_graph
from numgrad.integrate.dopri5 import Tolerances, dense_at, dense_rows, first_step, stages
from numgrad.integrate.state import Leaves, System, real_of
from numgrad.nest import map_leaves
from numgrad.ops.axes import expand_dims
from numgrad.ops.casting import stop_gradient
from numgrad.ops.choice import clip, maximum, minimum, where
from numgrad.ops.comparison import less
from numgrad.ops.creation import zeros_like
from numgrad.ops.exponential import exp
from numgrad.ops.indexing import take
from numgrad.ops.joining import concat
from numgrad.ops.kinds import cast_to
from numgrad.ops.reduction import any as any_of
from numgrad.ops.shaping import broadcast_to, reshape
from numgrad.ops.sorting import searchsorted
from numgrad.tracing.branches import cond
from numgrad.tracing.loops import scan, while_loop
from numgrad.types import Dim

__all__ = ["Outcome", "Settings", "Steps", "find_steps", "solve"]

BLOCK = 8  # attempts between two looks at whether the end is reached; the lengths of loops are multiples of it
# Step control of Hairer, Norsett and Wanner's DOPRI5: its names are SAFE, FAC1, FAC2, BETA.
_SAFETY, _LEAST, _MOST, _BETA = 0.9, 0.2, 10.0, 0.04
_EXPONENT = 0.2 - 0.75 * _BETA
_SMALL = float(np.log(1e-4))  # errors below are taken for this one where they are remembered


class Settings(NamedTuple):
    """What the user asks of the step control."""

    rtol: Any
    atol: Any
    first_step: Any
    max_step: Any


class Outcome(NamedTuple):
    """y at the times, and how the integration went."""

    y: Leaves
    accepted: Tensor
    rejected: Tensor
    success: Tensor
    reached: Tensor


class _State(NamedTuple):
    """Between two attempts at a step. `h` is the length to try; `error` the logarithm of that of the last good step."""

    t: Any
    h: Any
    y: Leaves
    slope: Leaves
    error: Any
    done: Any
    after_rejection: Any
    accepted: Any
    rejected: Any


class _Control:
    """Finds the steps; nothing in here is differentiated."""

    def __init__(self, system: System, start: Tensor, end: Tensor, settings: Settings, most: int) -> None:
        self._system, self._end, self._longest, self._most = system, end, settings.max_step, most
        self._tolerances = Tolerances(system, settings.rtol, settings.atol)
        self.direction: Any = cast_to(where(less(end, start), -1.0, 1.0), start.dtype)
        slope = system.slope(system.start, start)
        if settings.first_step is None:
            h = first_step(system, self._tolerances, start, end, slope)
        else:
            h = cast_to(as_tensor(settings.first_step), start.dtype)
        none, no = as_tensor(np.int64(0)), as_tensor(np.bool_(False))
        self.first = _State(start, self._limited(h), system.start, slope, as_tensor(start.dtype.type(_SMALL)),
                            start == end, no, none, none)

    def _limited(self, h: Tensor) -> Tensor:
        return h if self._longest is None else minimum(h, cast_to(as_tensor(self._longest), h.dtype))

    def going(self, state: _State) -> Any:
        """Whether there is another step to try: the end is not reached, and h is a number that moves t."""
        tried = state.accepted + state.rejected
        least = 10.0 * np.finfo(state.t.dtype).eps * abs(state.t)
        return ~state.done & (state.h > least) & (tried < self._most)

    def attempt(self, state: _State) -> tuple[_State, tuple[Tensor, Tensor]]:
        """Try a step: the new state, and the step's length (0 if it is not taken) and a key that grows with its start.

        Where there is nothing left to do the state stays as it is.
        """
        going = self.going(state)
        left: Any = abs(self._end - state.t)
        last = left <= 1.01 * state.h
        h = where(last, left, state.h)
        along = self.direction * h
        y, slopes = stages(self._system, state.y, state.t, along, state.slope)
        error: Any = cast_to(self._tolerances.log_error(state.y, y, along, slopes), h.dtype)
        good = error <= 0.0
        grown = exp(_EXPONENT * error - where(good, _BETA * state.error, 0.0)) / _SAFETY
        divisor = clip(grown, where(good & ~state.after_rejection, 1.0 / _MOST, 1.0), 1.0 / _LEAST)
        taken = going & good
        new = _State(
            t=where(taken, state.t + along, state.t),
            h=where(going, self._limited(h / divisor), state.h),
            y=[where(taken, b, a) for a, b in zip(state.y, y, strict=True)],
            slope=[where(taken, b, a) for a, b in zip(state.slope, slopes[-1], strict=True)],
            error=where(taken, maximum(error, _SMALL), state.error),
            done=state.done | (taken & last),
            after_rejection=where(going, ~good, state.after_rejection),
            accepted=state.accepted + cast_to(taken, np.int64),
            rejected=state.rejected + cast_to(going & ~good, np.int64),
        )
        return new, (where(taken, along, 0.0), where(going, self.direction * state.t, np.inf))

    def room(self) -> Dim:
        """How many attempts to make room for: one at least, as many as are needed, or as many as are allowed.

        In the body of a loop or branch no array can have a size that is found out there.
        """
        graph = current_graph()
        if graph is None or graph.outer is not None:
            return -(-self._most // BLOCK) * BLOCK

        def block(blocks: Tensor, state: _State) -> tuple[Tensor, _State]:
            return blocks + 1, scan(lambda s, _: (self.attempt(s)[0], ()), state, None, length=BLOCK)[0]

        blocks, _ = while_loop(lambda _, state: self.going(state), block, (np.int64(0), self.first))
        return room_for(maximum(blocks, 1) * BLOCK)


def _in_blocks(step: Callable[..., Any], carry: Any, xs: Tensor | None, room: Dim, busy: Callable[..., Tensor],
               blank: Callable[[Any], Any]) -> tuple[Any, Any]:
    """A scan; where there is room for more steps than are needed, blocks of steps that are not `busy` are skipped.

    ``blank(carry)`` is what takes the place of the y of a step that is skipped.
    """
    if not isinstance(room, int):
        return scan(step, carry, xs, length=room)

    def block(carry: Any, rows: Any) -> tuple[Any, Any]:
        def skipped() -> tuple[Any, Any]:
            return carry, map_leaves(lambda t: broadcast_to(t, (BLOCK, *t.shape)), blank(carry))

        taken: tuple[Any, Any] = cond(busy(carry, rows), lambda: scan(step, carry, rows, length=BLOCK), skipped)
        return taken

    grouped = None if xs is None else reshape(xs, (room // BLOCK, BLOCK))
    carry, found = scan(block, carry, grouped, length=room // BLOCK)
    return carry, map_leaves(lambda t: reshape(t, (room, *t.shape[2:])), found)


def _replay(system: System, start: Tensor, lengths: Tensor, room: Dim) -> tuple[Tensor, tuple[Leaves, ...]]:
    """Take steps of given lengths: where each starts, and what its continuous solution is made of."""
    def step(carry: tuple[Any, Leaves, Leaves], h: Any) -> tuple[Any, Any]:
        t, y, slope = carry
        new, slopes = stages(system, y, t, h, slope)
        return (t + h, new, slopes[-1]), (t, dense_rows(y, new, h, slopes))

    def blank(carry: tuple[Tensor, Leaves, Leaves]) -> tuple[Tensor, tuple[Leaves, ...]]:
        t, y, slope = carry
        return t, (y, y, slope, slope, [zeros_like(leaf) for leaf in y])

    first = (start, system.start, system.slope(system.start, start))
    _, found = _in_blocks(step, first, lengths, room, lambda _, rows: any_of(rows != 0.0), blank)
    starts, rows = found
    return starts, rows


class Steps(NamedTuple):
    """The attempts of an integration: the last state, and for each its length, 0 if it failed, and its key."""

    last: _State
    lengths: Tensor
    keys: Tensor
    direction: Tensor
    room: Dim


def find_steps(system: System, start: Tensor, end: Tensor, settings: Settings, most: int) -> Steps:
    """Integrate from `start` to `end` in `most` attempts at most; the steps are constants from here on."""
    control = _Control(system.constant(), stop_gradient(start), stop_gradient(end), settings, most)
    room = control.room()
    last, (lengths, keys) = _in_blocks(lambda s, _: control.attempt(s), control.first, None, room,
                                       lambda s, _: control.going(s), lambda s: (0.0 * s.t, 0.0 * s.t + np.inf))
    return Steps(last, stop_gradient(lengths), stop_gradient(keys), control.direction, room)


def solve(system: System, ts: Tensor, settings: Settings, most: int) -> Outcome:
    """y at the times, stacked."""
    start, end = ts[0], ts[-1]
    state, lengths, keys, direction, room = find_steps(system, start, end, settings, most)
    starts, rows = _replay(system, start, lengths, room)
    wanted: Any = ts[1:]
    # Attempts that failed start where the next one does, and the last of equal keys is found: the one that did not.
    index = maximum(searchsorted(keys, stop_gradient(wanted) * direction, side="right") - 1, 0)
    length: Any = take(lengths, index, axis=0)
    # Where no step was taken the solution is followed over length 1, so that its derivative by time is right.
    length = where(length == 0.0, 1.0, length)
    place = (wanted - take(starts, index, axis=0)) / length
    reached: Any = stop_gradient(where(state.done, end, state.t))
    inside = ((wanted - start) * direction >= 0.0) & ((reached - wanted) * direction >= 0.0)
    honest = where(inside, 1.0, np.nan)  # a factor, so that derivatives are not numbers either
    result = []
    for i, first in enumerate(system.start):
        real, more = real_of(first.dtype), tuple(range(1, 1 + first.ndim))
        spread, h, factor = (expand_dims(cast_to(v, real), axis=more) for v in (place, length, honest))
        later = factor * dense_at(spread, h, *(take(row[i], index, axis=0) for row in rows))
        result.append(concat([expand_dims(first, axis=0), later]))
    return Outcome(result, state.accepted, state.rejected, state.done, reached)

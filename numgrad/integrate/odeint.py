"""`odeint`: the solution of an initial value problem at given times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor
from numgrad.integrate import adaptive, rk4
from numgrad.integrate.state import System, floating
from numgrad.nest import flatten
from numgrad.ops.checkpoints import check_strategy
from numgrad.tracing.derivatives import function_of, kept_with, no_pickle
from numgrad.tracing.function import in_graph
from numgrad.types import Size, show_shape

__all__ = ["Info", "odeint"]

METHODS = ("dopri5", "rk4")


class Info(NamedTuple):
    """How an integration went.

    Attributes
    ----------
    accepted, rejected : int64
        The steps that were taken, and those whose error was too large.
    evaluations : int64
        How often the integration itself evaluates f. (Reverse mode and the continuous solution take the steps again.)
    success : bool
        Whether the last time was reached.
    reached : float
        The time that was reached.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> _, info = ng.integrate.odeint(lambda y, t: -y, 1.0, np.array([0.0, 1.0]), method="rk4", steps=10, info=True)
    >>> int(info.accepted), int(info.evaluations), bool(info.success)
    (10, 40, True)
    """

    accepted: Any
    rejected: Any
    evaluations: Any
    success: Any
    reached: Any


def odeint(f: Callable[..., Any], y0: Any, ts: Any, *args: Any, method: str = "dopri5", rtol: Any = None,
           atol: Any = None, first_step: Any = None, max_step: Any = None, max_steps: int | None = None,
           steps: int | None = None, checkpoint: Any = None, info: bool = False) -> Any:
    """Solve ``dy/dt = f(y, t, *args)`` with ``y = y0`` at ``ts[0]``, and give y at all times of `ts`.

    Parameters
    ----------
    f : callable
        ``f(y, t, *args) -> dy/dt``; takes and returns the nest of `y0` (a list of numbers and tensors will do for an
        array). It must be a function of its arguments alone.
    y0 : nest of arrays
        Real or complex; whole numbers become float64. The solution keeps nest, dtypes and shapes.
    ts : float array, shape (n,), n >= 1
        The times, increasing or decreasing; equal ones may follow each other. The first is that of `y0`.
    *args
        Nests of arrays for f, by which the solution can be differentiated, as by `y0` and `ts`.
    method : "dopri5" or "rk4"
        Dormand and Prince's method of order 5 with steps that fit the tolerances, or the classical method of order 4
        with `steps` equal steps between two times.
    rtol, atol : float or nest like `y0`
        dopri5: the tolerated error of a step is ``atol + rtol * abs(y)``, in the root mean square over all elements.
        1e-6 and 1e-8 by default.
    first_step, max_step : float, optional
        dopri5: the length of the first step to try, and the greatest length.
    max_steps : int
        dopri5: how many steps may be tried; 10000 by default.
    steps : int
        rk4: steps between two times; 1 by default.
    checkpoint : "all", "sqrt", "revolve" or int
        rk4: how many states reverse mode keeps, of the times and of the steps between two of them; see `ng.scan`. "all"
        by default.
    info : bool
        Return also an `Info`: numbers of steps and evaluations of f, and whether the end was reached.

    Returns
    -------
    nest of arrays, shapes (n, ...)
        y at the times, or ``(y, Info)``. What dopri5 does not reach, because `max_steps` are used up or because no step
        that still moves t has a tolerable error (f gives NaN, the solution runs away), is NaN, and so are derivatives.
        Times that do not lie between the first and the last are NaN, too.

    Raises
    ------
    TypeError, ShapeError, DtypeError
        f returns another nest, shape or kind than y's; ts is no vector of times; an option of the other method is used.
    ValueError
        There is no such method or checkpoint strategy, or a number of steps is not positive.

    Notes
    -----
    dopri5 chooses steps without regard to the times in the middle: values there come from a continuous solution of
    order 4 (Shampine 1986). Error norm, first step and step control are those of Hairer, Norsett and Wanner, Solving
    Ordinary Differential Equations I, 2nd ed. (1993), sections II.4 to II.6.

    Derivatives are those of the computed solution (the discrete adjoint), exact to rounding and to any order: the steps
    that were found are taken as constants, and the method with these steps is differentiated. The derivative by the
    last time is f there, that by the first moves all steps. rk4's steps are parts of the intervals, so their lengths
    are differentiated by ts.

    Outside a traced function the trace is kept with `f`: pass the same function again rather than a new lambda.
    In the body of a loop or branch, room is made for all `max_steps`.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ts = np.array([0.0, 1.0, 2.0])
    >>> ng.integrate.odeint(lambda y, t, rate: -rate * y, 1.0, ts, 0.5).round(5)
    array([1.     , 0.60653, 0.36788])
    >>> end = lambda rate: ng.integrate.odeint(lambda y, t, rate: -rate * y, 1.0, ts, rate, rtol=1e-10)[-1]
    >>> ng.grad(end)(0.5).round(6), round(-2.0 * np.exp(-1.0), 6)
    (np.float64(-0.735759), np.float64(-0.735759))
    """
    if method not in METHODS:
        raise ValueError(f"odeint: there is no method {method!r}, wanted one of {', '.join(METHODS)}{at(user_line())}")
    own = {"steps": steps, "checkpoint": checkpoint}
    if method == "rk4":
        own = {"rtol": rtol, "atol": atol, "first_step": first_step, "max_step": max_step, "max_steps": max_steps}
    for name, value in own.items():
        if value is not None:
            raise TypeError(f"odeint: the method {method!r} takes no {name}{at(user_line())}")
    for name, value in (("steps", steps), ("max_steps", max_steps)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
            raise ValueError(f"odeint: {name} is {value!r}, wanted a positive integer{at(user_line())}")

    keep = "all" if checkpoint is None else check_strategy(checkpoint, "odeint")
    if method == "rk4":
        most, wanted = 1 if steps is None else int(steps), None
    else:
        most = 10_000 if max_steps is None else int(max_steps)
        wanted = adaptive.Settings(1e-6 if rtol is None else rtol, 1e-8 if atol is None else atol, first_step, max_step)

    def solved(y0: Any, ts: Any, args: tuple[Any, ...], wanted: adaptive.Settings | None) -> Any:
        system, times = System(f, y0, args), _times(ts)
        if wanted is None:
            y, facts = rk4.solve(system, times, most, keep), _count(times, most)
        else:
            found = adaptive.solve(system, times, wanted, most)
            y, facts = found.y, _adaptive_info(found, 2 if wanted.first_step is None else 1)
        return (system.nest(y), facts) if info else system.nest(y)

    if in_graph(flatten((y0, ts, args, wanted))[0]):
        return solved(y0, ts, args, wanted)
    kept: Callable[..., Any] = kept_with(
        f, f"odeint {method} {most} {keep} {info}",
        lambda: function_of(f, "odeint", solved, (no_pickle, ("odeint",)), signature=False))
    return kept(y0, ts, args, wanted)


def _count(times: Tensor, steps: int) -> Info:
    taken = steps * as_tensor(times.shape[0] - 1)
    return Info(taken, as_tensor(np.int64(0)), 4 * taken, as_tensor(np.bool_(True)), times[-1])


def _adaptive_info(found: adaptive.Outcome, before: int) -> Info:
    tried: Any = found.accepted + found.rejected
    return Info(found.accepted, found.rejected, 6 * tried + before, found.success, found.reached)


def _times(ts: Any) -> Tensor:
    """The times as a floating vector with at least one element."""
    times = floating(ts, "ts")
    if times.dtype.kind != "f" or times.ndim != 1:
        raise ShapeError(f"odeint: ts is {times.dtype} of shape {show_shape(times.shape)}, wanted real times in one "
                         f"axis{at(user_line())}")
    count = times.shape[0]
    if not isinstance(count, Size) or count.env.hint(count) is not None:
        if count < 1:
            raise ShapeError(f"odeint: ts holds no times, wanted at least the initial one{at(user_line())}")
    return times

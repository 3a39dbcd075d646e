"""Probes of how much memory going back through a loop takes, when nobody knows beforehand how long the loop runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from perf.memory import forget_peak, peak_mb, resident_mb
from perf.row import probe

WIDTH = 128  # numbers in the loop's state, a kilobyte
STRATEGIES = ("all", "sqrt", "revolve")


def _relaxed(kit: Any, w: Any, first: Any, until: Any, **options: Any) -> Any:
    """Steps of one unit of time until a time that is data."""
    _, u = kit.while_loop(
        lambda now, u: now < until,
        lambda now, u: (now + 1.0, u + 0.01 * (kit.np.tanh(w * u) - 0.5 * u)),
        (0.0 * until, first),
        **options,
    )
    return kit.np.sum(u * u)


def _data(steps: int) -> tuple[Any, ...]:
    return np.linspace(0.5, 1.5, WIDTH), np.linspace(-1.0, 1.0, WIDTH), np.array(float(steps))


def _memory(call: Callable[..., Any]) -> dict[str, Any]:
    """What a call takes beyond what was resident, and its second run's time; `call` has run with little data before."""
    forget_peak()
    before = resident_mb()
    call()
    peak = max(0.0, peak_mb() - before)
    begun = time.perf_counter()
    call()
    return {"call_s": time.perf_counter() - begun, "peak_mb": peak}


def _numgrad(strategy: str) -> Callable[[int], dict[str, Any]]:
    def version(steps: int) -> dict[str, Any]:
        from types import SimpleNamespace

        import numgrad as ng

        kit = SimpleNamespace(np=ng, while_loop=ng.while_loop)
        f = ng.value_and_grad(lambda *given: _relaxed(kit, *given, checkpoint=strategy), (0, 1))
        f(*_data(10))
        facts = _memory(lambda: f(*_data(steps)))
        plan = f.plan()
        (loop,) = plan["loops"]
        return {
            **facts,
            "trips": loop["steps"],
            "tape_bytes": plan["tape_bytes"],
            "recomputation": loop["recomputation"],
        }

    return version


def _torch(steps: int) -> dict[str, Any]:
    from types import SimpleNamespace

    import torch

    from perf.libraries import python_while

    kit = SimpleNamespace(np=torch, while_loop=python_while)

    def call(count: int) -> Any:
        w, first, until = (torch.from_numpy(a) for a in _data(count))
        wanted = w.requires_grad_(), first.requires_grad_()
        return torch.autograd.grad(_relaxed(kit, w, first, until), wanted)

    call(10)
    return _memory(lambda: call(steps))


probe(
    name="while_memory",
    title=f"gradient through a while loop of n trips over {WIDTH} numbers",
    sizes=(1_000, 10_000, 100_000),
    versions={
        **{"numgrad" if s == "all" else f"numgrad {s}": _numgrad(s) for s in STRATEGIES},
        "torch": _torch,
    },
    repeats=1,
    wall=False,
    notes={"torch": "runs the loop in Python"},
)

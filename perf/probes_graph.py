"""Probes of the graph itself: how long tracing, gradients and scheduling take, and what a new size costs."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from perf.memory import peak_mb
from perf.row import probe


def _chain(np_: Any, x: Any, count: int) -> Any:
    """A chain of `count` ops, of which every fourth also reads x."""
    y = x
    for i in range(count // 4):
        y = np_.sin(np_.cos(y) * (0.5 + 1e-6 * i)) + x
    return y


def _numgrad_graph(size: int) -> dict[str, Any]:
    import numgrad as ng
    from numgrad.compiler.rewrite import lower
    from numgrad.compiler.schedule import schedule

    before = peak_mb()
    times = [time.process_time()]
    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, ("n",))
        y = ng.sum(_chain(ng, x, size))
        times.append(time.process_time())
        (gradient,) = ng.gradients(y, x)
        times.append(time.process_time())
        lowered = lower([x], [y, gradient], graph.sizes)
        times.append(time.process_time())
        steps = schedule(lowered).steps
        times.append(time.process_time())
    trace, gradients, lowering, scheduling = np.diff(times).tolist()
    nodes = len(graph.operations)
    return {
        "trace_s": trace,
        "gradients_s": gradients,
        "lower_s": lowering,
        "schedule_s": scheduling,
        "total_s": times[-1] - times[0],
        "nodes": nodes,
        "steps": len(steps),
        "ms_a_node": 1e3 * (times[-1] - times[0]) / nodes,
        "peak_mb": peak_mb() - before,
    }


def _jax_graph(size: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    x = jnp.linspace(-1.0, 1.0, 10)

    def function(x: Any) -> Any:
        return jnp.sum(_chain(jnp, x, size))

    before = peak_mb()
    begun = time.process_time()
    jax.make_jaxpr(function)(x)
    traced = time.process_time()
    jax.make_jaxpr(jax.grad(function))(x)
    ended = time.process_time()
    return {
        "trace_s": traced - begun,
        "gradients_s": ended - traced,
        "total_s": ended - traced,
        "peak_mb": peak_mb() - before,
    }


def _torch_graph(size: int) -> dict[str, Any]:
    import torch

    x = torch.linspace(-1.0, 1.0, 10, dtype=torch.float64, requires_grad=True)
    before = peak_mb()
    begun = time.process_time()
    y = torch.sum(_chain(torch, x, size))
    traced = time.process_time()
    torch.autograd.grad(y, x)
    ended = time.process_time()
    return {
        "trace_s": traced - begun,
        "gradients_s": ended - traced,
        "total_s": ended - begun,
        "peak_mb": peak_mb() - before,
    }


def _autograd_graph(size: int) -> dict[str, Any]:
    import autograd
    import autograd.numpy as anp

    before = peak_mb()
    x = np.linspace(-1.0, 1.0, 10)
    begun = time.process_time()
    pull, y = autograd.core.make_vjp(lambda x: anp.sum(_chain(anp, x, size)), x)
    traced = time.process_time()
    pull(1.0)
    ended = time.process_time()
    return {
        "trace_s": traced - begun,
        "gradients_s": ended - traced,
        "total_s": ended - begun,
        "peak_mb": peak_mb() - before,
    }


probe(
    name="graph",
    title="chain of n ops: trace, gradients and schedule, no kernels; CPU time",
    sizes=(1_000, 25_000, 50_000, 100_000),
    repeats=1,
    wall=False,
    versions={"numgrad": _numgrad_graph, "jax": _jax_graph, "torch": _torch_graph, "autograd": _autograd_graph},
    notes={
        "jax": "the jaxprs of the function and of its gradient, nothing compiled",
        "torch": "evaluates while it builds",
        "autograd": "evaluates while it builds",
    },
)

SECOND = (237, 11)


def _objective(kit: Any, w: Any, x: Any, signs: Any) -> Any:
    return kit.np.sum(kit.softplus(-signs * (x @ w))) + 0.5e-3 * kit.np.sum(w * w)


def _data(shape: tuple[int, int]) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    return rng.standard_normal(shape[1]), rng.standard_normal(shape), np.sign(rng.standard_normal(shape[0]))


def _numgrad_size(size: tuple[int, int]) -> dict[str, Any]:
    import numgrad as ng

    kit = SimpleNamespace(np=ng, softplus=ng.softplus)
    f = ng.value_and_grad(lambda *given: _objective(kit, *given))
    f(*_data(size))
    from numgrad_kernels.build import counters

    other = _data(SECOND)
    counters.reset()
    begun = time.perf_counter()
    value, gradient = f(*other)
    ended = time.perf_counter()
    builds = counters.compiled + counters.loaded_from_disk
    f(*other)
    begun_again = time.perf_counter()
    f(*other)
    again = time.perf_counter() - begun_again
    return {
        "new_size_s": ended - begun,
        "same_size_s": again,
        "builds": builds,
        "traces": f.trace_count,
        "difference": _difference(other, value, gradient),
    }


def _difference(arguments: tuple[Any, ...], value: Any, gradient: Any) -> float:
    """From the same, written in NumPy."""
    w, x, signs = arguments
    z = -signs * (x @ w)
    wanted = np.logaddexp(z, 0.0).sum() + 0.5e-3 * w @ w
    slope = x.T @ (-signs / (1.0 + np.exp(-z))) + 1e-3 * w
    return float(max(abs(value - wanted) / abs(wanted), np.max(np.abs(gradient - slope)) / np.max(np.abs(slope))))


def _jax_size(size: tuple[int, int]) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    kit = SimpleNamespace(np=jnp, softplus=lambda x: jnp.logaddexp(x, 0.0))
    f = jax.jit(jax.value_and_grad(lambda *given: _objective(kit, *given)))
    jax.block_until_ready(f(*_data(size)))
    other = _data(SECOND)
    begun = time.perf_counter()
    value, gradient = jax.block_until_ready(f(*other))
    ended = time.perf_counter()
    jax.block_until_ready(f(*other))
    again = time.perf_counter() - ended
    return {
        "new_size_s": ended - begun,
        "same_size_s": again,
        "difference": _difference(other, np.asarray(value), np.asarray(gradient)),
    }


probe(
    name="new_size",
    title="logistic regression, value and gradient: the first call with another size",
    sizes=((100, 5),),
    repeats=5,
    wall=False,
    versions={"numgrad": _numgrad_size, "jax": _jax_size},
)

"""Probes of what a new process waits for: imports, and first results without and with kernels on disk."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from perf.row import probe
from perf.rows_elementwise import layers_loss


def _import_time(name: str) -> Callable[[Any], dict[str, Any]]:
    def version(size: Any) -> dict[str, Any]:
        begun = time.perf_counter()
        importlib.import_module(name)
        return {"import_s": time.perf_counter() - begun, "numba_loaded": "numba" in sys.modules}

    return version


probe(
    name="import",
    title="import, over NumPy's own",
    sizes=("-",),
    wall=False,
    repeats=7,
    versions={name: _import_time(name) for name in ("numgrad", "numba", "jax", "torch", "autograd")},
)


def numgrad_first(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Facts about the first and second call of ``value_and_grad`` of a function of (kit, *arguments)."""
    begun = time.perf_counter()
    import numgrad as ng

    imported = time.perf_counter()
    kit = SimpleNamespace(np=ng, softplus=ng.softplus, scan=ng.scan)
    f = ng.value_and_grad(lambda *given: function(kit, *given))
    f(*arguments)
    first = time.perf_counter()
    f(*arguments)
    second = time.perf_counter()
    from numgrad_kernels.build import counters

    program = f.variant.program
    return {
        "import_s": imported - begun,
        "first_s": first - imported,
        "second_s": second - first,
        "kernels": program.kernel_count,
        "steps": len(program.launches),
        "compiled": counters.compiled,
        "from_disk": counters.loaded_from_disk,
        "building_s": counters.seconds,
    }


def jax_first(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """The same for JAX, with its own cache of compiled programs beside numgrad's."""
    begun = time.perf_counter()
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    if os.environ.get("NUMGRAD_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", os.path.join(os.environ["NUMGRAD_CACHE_DIR"], "jax"))
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    imported = time.perf_counter()
    kit = SimpleNamespace(np=jnp, softplus=lambda x: jnp.logaddexp(x, 0.0), scan=jax.lax.scan)
    f = jax.jit(jax.value_and_grad(lambda *given: function(kit, *given)))
    jax.block_until_ready(f(*arguments))
    first = time.perf_counter()
    jax.block_until_ready(f(*arguments))
    second = time.perf_counter()
    return {"import_s": imported - begun, "first_s": first - imported, "second_s": second - first}


def torch_first(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """The same for torch, which compiles nothing here."""
    begun = time.perf_counter()
    import torch

    imported = time.perf_counter()
    zero = torch.zeros((), dtype=torch.float64)
    kit = SimpleNamespace(np=torch, softplus=lambda x: torch.logaddexp(x, zero))
    given = [torch.from_numpy(np.array(a, np.float64)) for a in arguments]
    given[0].requires_grad_()

    def call() -> Any:
        y = function(kit, *given)
        return y, torch.autograd.grad(y, given[0])

    call()
    first = time.perf_counter()
    call()
    second = time.perf_counter()
    return {"import_s": imported - begun, "first_s": first - imported, "second_s": second - first}


def autograd_first(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """The same for autograd, which compiles nothing."""
    begun = time.perf_counter()
    import autograd
    import autograd.numpy as anp

    imported = time.perf_counter()
    kit = SimpleNamespace(np=anp, softplus=lambda x: anp.logaddexp(x, 0.0))
    f = autograd.value_and_grad(lambda *given: function(kit, *given))
    f(*arguments)
    first = time.perf_counter()
    f(*arguments)
    second = time.perf_counter()
    return {"import_s": imported - begun, "first_s": first - imported, "second_s": second - first}


FIRSTS = {"numgrad": numgrad_first, "jax": jax_first, "torch": torch_first, "autograd": autograd_first}


def _firsts(
    function: Callable[..., Any], arguments: Callable[[Any], tuple[Any, ...]], names: tuple[str, ...] = tuple(FIRSTS)
) -> dict[str, Callable[[Any], dict[str, Any]]]:
    def version(name: str) -> Callable[[Any], dict[str, Any]]:
        return lambda size: FIRSTS[name](function, *arguments(size))

    return {name: version(name) for name in names}


_layers = _firsts(layers_loss, lambda size: (np.linspace(-1.0, 1.0, size),))
probe(
    name="layers50_cold",
    title="50 layers, value and gradient: first result, no cache",
    sizes=(1_000,),
    versions=_layers,
)
probe(
    name="layers50_warm",
    title="50 layers, value and gradient: first result, caches on disk filled",
    sizes=(1_000,),
    warm=True,
    versions={name: _layers[name] for name in ("numgrad", "jax")},
)


def _objective(kit: Any, w: Any, x: Any, signs: Any) -> Any:
    return kit.np.sum(kit.softplus(-signs * (x @ w))) + 0.5e-3 * kit.np.sum(w * w)


def _observations(size: tuple[int, int]) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    return rng.standard_normal(size[1]), rng.standard_normal(size), np.sign(rng.standard_normal(size[0]))


_small = _firsts(_objective, _observations)
probe(
    name="objective_cold",
    title="logistic regression, value and gradient: first result, no cache",
    sizes=((569, 30),),
    versions=_small,
)
probe(
    name="objective_warm",
    title="logistic regression, value and gradient: first result, caches on disk filled",
    sizes=((569, 30),),
    warm=True,
    versions={name: _small[name] for name in ("numgrad", "jax")},
)


def _recurrence(kit: Any, w: Any, first: Any, rows: Any) -> Any:
    """A scan whose body has ten operations."""

    def step(c: Any, u: Any) -> Any:
        a = kit.np.tanh(c * w + u)
        b = a * a - c
        return a + 0.5 * kit.np.exp(-b * b), b

    last, stacked = kit.scan(step, first, rows)
    return kit.np.sum(last) + kit.np.sum(stacked)


def _recurred(size: tuple[int, ...]) -> tuple[Any, ...]:
    steps, *shape = size
    return np.full(shape, 0.7), np.full(shape, 0.3), np.linspace(0.0, 1.0, int(np.prod(size))).reshape(size)


probe(
    name="scan_cold",
    title="scan of n steps with ten operations on a number, or a vector, value and gradient: first result, no cache",
    sizes=((100,), (100, 32)),
    versions=_firsts(_recurrence, _recurred, ("numgrad", "jax")),
)


def _expression(count: int) -> Callable[..., Any]:
    def function(kit: Any, x: Any) -> Any:
        y = x
        for i in range(count // 3):
            y = kit.np.sin(y) * x + (0.3 + 1e-4 * i)
        return y

    return function


def _scalar(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda size: FIRSTS[name](_expression(size), np.array(0.7))


probe(
    name="scalar_cold",
    title="expression of n scalar ops, value and gradient: first result, no cache",
    sizes=(300, 5_000),
    versions={name: _scalar(name) for name in FIRSTS},
    repeats=2,
)

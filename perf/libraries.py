"""How each library is asked for a value, a gradient or a Hessian-vector product of a row's function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from perf.row import Row

__all__ = ["Version", "version"]


@dataclass(frozen=True)
class Version:
    """A row's function as one library runs it: what is timed is ``call(*arguments)`` and nothing else.

    `arguments` are the library's own arrays, so that no library pays for conversions; `read` gives NumPy arrays from
    what `call` returned.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    read: Callable[[Any], list[np.ndarray[Any, Any]]]


def version(row: Row, name: str, arrays: Sequence[np.ndarray[Any, Any]], threads: int) -> Version:
    """The version `name` of a row for these arguments."""
    if name in row.hand:
        return Version(row.hand[name](), tuple(arrays), _flat)
    return _MAKERS[name](row, tuple(arrays), threads)


def _flat(result: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays of a nest of tuples and lists."""
    if isinstance(result, (tuple, list)):
        return [a for part in result for a in _flat(part)]
    return [np.asarray(result)]


def _argnums(row: Row) -> int | tuple[int, ...]:
    return row.argnums[0] if len(row.argnums) == 1 else row.argnums


def numgrad_function(row: Row) -> Any:
    """The compiled numgrad callable of a row."""
    import numgrad as ng

    kit = SimpleNamespace(
        np=ng,
        softplus=ng.softplus,
        cholesky=lambda a: ng.linalg.cholesky(a),
        cho_solve=lambda c, b: ng.linalg.cho_solve(c, b),
        diagonal=lambda a: ng.linalg.diagonal(a),
        eye=lambda n, like: ng.eye(n, dtype=like.dtype),
    )

    def function(*arguments: Any) -> Any:
        return row.function(kit, *arguments)

    if row.mode == "value":
        return ng.function(function)
    return ng.hvp(function) if row.mode == "hvp" else ng.value_and_grad(function, _argnums(row))


def _numgrad(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    return Version(numgrad_function(row), arrays, _flat)


def _jax(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import jax
    import jax.numpy as jnp
    import jax.scipy.linalg as linalg

    jax.config.update("jax_enable_x64", True)
    kit = SimpleNamespace(
        np=jnp,
        softplus=lambda x: jnp.logaddexp(x, 0.0),
        cholesky=jnp.linalg.cholesky,
        cho_solve=lambda c, b: linalg.cho_solve((c, True), b),
        diagonal=jnp.diagonal,
        eye=lambda n, like: jnp.eye(n, dtype=like.dtype),
    )

    def function(*arguments: Any) -> Any:
        return row.function(kit, *arguments)

    def product(x: Any, v: Any, *rest: Any) -> Any:
        return jax.jvp(lambda x: jax.grad(function)(x, *rest), (x,), (v,))[1]

    compiled = jax.jit(
        function
        if row.mode == "value"
        else product
        if row.mode == "hvp"
        else jax.value_and_grad(function, _argnums(row))
    )
    return Version(
        lambda *arguments: jax.block_until_ready(compiled(*arguments)), tuple([jnp.asarray(a) for a in arrays]), _flat
    )


def _torch(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import torch

    torch.set_num_threads(threads)
    zero = torch.zeros((), dtype=torch.float64)
    kit = SimpleNamespace(
        np=torch,
        softplus=lambda x: torch.logaddexp(x, zero),
        cholesky=torch.linalg.cholesky,
        cho_solve=lambda c, b: torch.cholesky_solve(b[:, None], c)[:, 0],
        diagonal=torch.diagonal,
        eye=lambda n, like: torch.eye(n, dtype=like.dtype),
    )
    arguments = tuple([torch.from_numpy(a.copy()) for a in arrays])
    if row.mode != "value":
        for i in row.argnums:
            arguments[i].requires_grad_()
    chosen = [arguments[i] for i in row.argnums]

    def value(*given: Any) -> Any:
        with torch.no_grad():
            return row.function(kit, *given)

    def value_and_grad(*given: Any) -> Any:
        y = row.function(kit, *given)
        return y, torch.autograd.grad(y, chosen)

    def product(x: Any, v: Any, *rest: Any) -> Any:
        (gradient,) = torch.autograd.grad(row.function(kit, x, *rest), x, create_graph=True)
        return torch.autograd.grad(gradient, x, v)

    call = {"value": value, "value_and_grad": value_and_grad, "hvp": product}[row.mode]
    return Version(call, arguments, lambda result: [t.detach().numpy() for t in _tensors(result)])


def _tensors(result: Any) -> list[Any]:
    return [t for part in result for t in _tensors(part)] if isinstance(result, (tuple, list)) else [result]


def _autograd(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import autograd
    import autograd.numpy as anp

    kit = SimpleNamespace(
        np=anp,
        softplus=lambda x: anp.logaddexp(x, 0.0),
        cholesky=anp.linalg.cholesky,
        cho_solve=lambda c, b: anp.linalg.solve(c.T, anp.linalg.solve(c, b)),
        diagonal=anp.diag,
        eye=lambda n, like: anp.eye(n),
    )

    def function(*arguments: Any) -> Any:
        return row.function(kit, *arguments)

    def product(x: Any, v: Any, *rest: Any) -> Any:
        return autograd.hessian_vector_product(function)(x, *rest, v)

    call = {"value": function, "hvp": product}.get(row.mode)
    return Version(call or autograd.value_and_grad(function, _argnums(row)), arrays, _flat)


_MAKERS: dict[str, Callable[[Row, tuple[Any, ...], int], Version]] = {
    "numgrad": _numgrad,
    "jax": _jax,
    "torch": _torch,
    "autograd": _autograd,
}

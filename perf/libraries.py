"""How each library is asked for a value, a gradient, a Jacobian, a Hessian or a product with it of a row's function.

Loops of rows are written as ``kit.scan(f, init, xs, length)``, which is numgrad's and JAX's, and
``kit.while_loop(cond, body, variables)``; libraries without loops of their own run them in Python.
"""

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


def _python_scan(stack: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """A scan for libraries that record what Python runs."""

    def scan(f: Callable[..., Any], carry: Any, xs: Any, length: int | None = None) -> tuple[Any, Any]:
        results = []
        for row in xs if xs is not None else [None] * (length or 0):
            carry, y = f(carry, row)
            results.append(y)
        return carry, None if results[0] is None else stack(results)

    return scan


def python_while(cond: Callable[..., Any], body: Callable[..., Any], variables: tuple[Any, ...]) -> tuple[Any, ...]:
    while cond(*variables):
        variables = body(*variables)
    return variables


def numgrad_kit() -> SimpleNamespace:
    """What rows ask of numgrad."""
    import numgrad as ng

    return SimpleNamespace(
        np=ng,
        softplus=ng.softplus,
        cholesky=lambda a: ng.linalg.cholesky(a),
        cho_solve=lambda c, b: ng.linalg.cho_solve(c, b),
        diagonal=lambda a: ng.linalg.diagonal(a),
        eye=lambda n, like: ng.eye(n, dtype=like.dtype),
        sigmoid=ng.nn.sigmoid,
        take=lambda x, i: ng.take(x, i, axis=0),
        roll=lambda x, shift, axis: ng.roll(x, shift, axis=axis),
        logsumexp=lambda x, axis: ng.logsumexp(x, axis=axis),
        pad=lambda x, before, after: ng.pad(x, (before, after)),
        scan=ng.scan,
        while_loop=ng.while_loop,
        odeint=ng.integrate.odeint,
    )


def numgrad_function(row: Row) -> Any:
    """The compiled numgrad callable of a row."""
    import numgrad as ng

    kit = numgrad_kit()

    def function(*arguments: Any) -> Any:
        return row.function(kit, *arguments)

    if row.mode == "value":
        return ng.function(function)
    if row.mode == "hvp":
        return ng.hvp(function)
    derivative = {"value_and_grad": ng.value_and_grad, "jacobian": ng.jacobian, "hessian": ng.hessian}[row.mode]
    return derivative(function, _argnums(row))


def _numgrad_eagerly(row: Row, arrays: tuple[Any, ...]) -> Version:
    import numgrad as ng

    def value_and_grad(*arguments: Any) -> Any:
        chosen = [arguments[i] for i in row.argnums]
        with ng.GradientTape() as tape:
            tape.watch(chosen)
            y = row.function(SimpleNamespace(np=ng), *arguments)
        return y, tape.gradient(y, chosen)

    return Version(value_and_grad, tuple([ng.asarray(a) for a in arrays]), _flat)


def _numgrad(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    if row.eager:
        return _numgrad_eagerly(row, arrays)
    return Version(numgrad_function(row), arrays, _flat)


def _jax(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import jax
    import jax.numpy as jnp
    import jax.scipy.linalg as linalg
    from jax.experimental.ode import odeint

    jax.config.update("jax_enable_x64", True)
    kit = SimpleNamespace(
        np=jnp,
        softplus=lambda x: jnp.logaddexp(x, 0.0),
        cholesky=jnp.linalg.cholesky,
        cho_solve=lambda c, b: linalg.cho_solve((c, True), b),
        diagonal=jnp.diagonal,
        eye=lambda n, like: jnp.eye(n, dtype=like.dtype),
        sigmoid=jax.nn.sigmoid,
        take=lambda x, i: jnp.take(x, i, axis=0),
        roll=lambda x, shift, axis: jnp.roll(x, shift, axis),
        logsumexp=lambda x, axis: jax.scipy.special.logsumexp(x, axis=axis),
        pad=lambda x, before, after: jnp.pad(x, (before, after)),
        scan=jax.lax.scan,
        while_loop=lambda cond, body, variables: jax.lax.while_loop(
            lambda v: cond(*v), lambda v: tuple(body(*v)), tuple(variables)
        ),
        odeint=odeint,
    )

    def function(*arguments: Any) -> Any:
        return row.function(kit, *arguments)

    def product(x: Any, v: Any, *rest: Any) -> Any:
        return jax.jvp(lambda x: jax.grad(function)(x, *rest), (x,), (v,))[1]

    def pushed(*arguments: Any) -> Any:
        def twice(*given: Any) -> Any:
            y = function(*given)
            return y, y

        gradient, value = jax.jacfwd(twice, _argnums(row), has_aux=True)(*arguments)
        return value, gradient

    backwards = jax.value_and_grad(function, _argnums(row))
    gradient = pushed if "jax" in row.forward else backwards
    wanted = {
        "value": function,
        "value_and_grad": gradient,
        "hvp": product,
        "jacobian": jax.jacfwd(function, _argnums(row)),
        "hessian": jax.hessian(function, _argnums(row)),
    }[row.mode]
    run = wanted if row.eager else jax.jit(wanted)
    return Version(
        lambda *arguments: jax.block_until_ready(run(*arguments)), tuple([jnp.asarray(a) for a in arrays]), _flat
    )


def _torch(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import torch

    torch.set_num_threads(threads)
    zero = torch.zeros((), dtype=torch.float64)
    kit = SimpleNamespace(
        np=torch,
        softplus=lambda x: torch.logaddexp(x, zero),
        cholesky=torch.linalg.cholesky,
        cho_solve=lambda c, b: torch.cholesky_solve(b.reshape(b.shape[0], -1), c).reshape(b.shape),
        diagonal=torch.diagonal,
        eye=lambda n, like: torch.eye(n, dtype=like.dtype),
        sigmoid=torch.sigmoid,
        take=lambda x, i: x[i],
        roll=lambda x, shift, axis: torch.roll(x, shift, axis),
        logsumexp=torch.logsumexp,
        pad=lambda x, before, after: torch.nn.functional.pad(x, (before, after)),
        scan=_python_scan(torch.stack),
        while_loop=python_while,
    )
    arguments = tuple([torch.from_numpy(a.copy()) for a in arrays])
    if row.mode in ("value_and_grad", "hvp"):
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

    def of_kit(*given: Any) -> Any:
        return row.function(kit, *given)

    call = {
        "value": value,
        "value_and_grad": value_and_grad,
        "hvp": product,
        "jacobian": torch.func.jacfwd(of_kit, _argnums(row)),
        "hessian": torch.func.hessian(of_kit, _argnums(row)),
    }[row.mode]
    return Version(call, arguments, lambda result: [t.detach().numpy() for t in _tensors(result)])


def _tensors(result: Any) -> list[Any]:
    return [t for part in result for t in _tensors(part)] if isinstance(result, (tuple, list)) else [result]


def _autograd(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy import special

    kit = SimpleNamespace(
        np=anp,
        softplus=lambda x: anp.logaddexp(x, 0.0),
        cholesky=anp.linalg.cholesky,
        cho_solve=lambda c, b: anp.linalg.solve(c.T, anp.linalg.solve(c, b)),
        diagonal=anp.diag,
        eye=lambda n, like: anp.eye(n),
        sigmoid=lambda x: 0.5 * (anp.tanh(0.5 * x) + 1.0),
        take=lambda x, i: x[i],
        roll=lambda x, shift, axis: anp.roll(x, shift, axis),
        logsumexp=lambda x, axis: special.logsumexp(x, axis=axis),
        pad=lambda x, before, after: anp.pad(x, (before, after), "constant"),
        scan=_python_scan(anp.stack),
        while_loop=python_while,
    )

    def function(*arguments: Any) -> Any:
        return row.function(kit, *arguments)

    def product(x: Any, v: Any, *rest: Any) -> Any:
        return autograd.hessian_vector_product(function)(x, *rest, v)

    call = {"value": function, "hvp": product, "hessian": autograd.hessian(function)}.get(row.mode)
    return Version(call or autograd.value_and_grad(function, _argnums(row)), arrays, _flat)


def _pytensor(row: Row, arrays: tuple[Any, ...], threads: int) -> Version:
    import pytensor
    import pytensor.tensor as pt
    from pytensor.scan.utils import until

    def scan(f: Callable[..., Any], init: Any, xs: Any, length: int | None = None) -> tuple[Any, Any]:
        given, count, stacked = [] if xs is None else [xs], len(init), []

        def step(*values: Any) -> list[Any]:
            row_of, carry = values[: len(given)], values[len(given) :]
            carry, y = f(tuple(carry), row_of[0] if row_of else None)
            stacked.append(y is not None)
            return [*carry, *([] if y is None else [y])]

        # Whether there is a y must be said before the body was asked, so it is asked twice.
        step(*[x[0] for x in given], *init)
        found = pytensor.scan(
            step,
            sequences=given,
            outputs_info=[*init, *([None] if stacked[0] else [])],
            n_steps=length,
            return_list=True,
            return_updates=False,
        )
        return tuple(v[-1] for v in found[:count]), found[-1] if stacked[0] else None

    def while_loop(cond: Callable[..., Any], body: Callable[..., Any], variables: tuple[Any, ...]) -> tuple[Any, ...]:
        def step(*values: Any) -> Any:
            new = body(*values)
            return list(new), until(pt.invert(cond(*new)))

        found = pytensor.scan(
            step, outputs_info=list(variables), n_steps=10_000, return_list=True, return_updates=False
        )
        return tuple(v[-1] for v in found)

    kit = SimpleNamespace(
        np=pt,
        softplus=pt.softplus,
        cholesky=pt.linalg.cholesky,
        cho_solve=lambda c, b: pt.linalg.cho_solve((c, True), b),
        diagonal=pt.diagonal,
        eye=lambda n, like: pt.eye(n, dtype=like.dtype),
        sigmoid=pt.sigmoid,
        take=lambda x, i: x[i],
        roll=lambda x, shift, axis: pt.roll(x, shift, axis=axis),
        logsumexp=lambda x, axis: pt.logsumexp(x, axis=axis),
        pad=lambda x, before, after: pt.pad(x, (before, after)),
        scan=scan,
        while_loop=while_loop,
    )
    inputs = [pt.tensor(dtype=str(a.dtype), shape=a.shape) for a in arrays]
    x, v, *rest = inputs if row.mode == "hvp" else [inputs[0], None]
    y = row.function(kit, *([x, *rest] if row.mode == "hvp" else inputs))
    if row.mode in ("jacobian", "hessian"):
        derivative = pytensor.gradient.jacobian if row.mode == "jacobian" else pytensor.gradient.hessian
        outputs = derivative(y, [inputs[i] for i in row.argnums])
    elif row.mode == "hvp":
        outputs = [pytensor.grad(pt.sum(pytensor.grad(y, x) * v), x)]
    else:
        outputs = [y, *(pytensor.grad(y, [inputs[i] for i in row.argnums]) if row.mode == "value_and_grad" else [])]
    call = pytensor.function(inputs, outputs, trust_input=True)
    return Version(call, arrays, _flat)


_MAKERS: dict[str, Callable[[Row, tuple[Any, ...], int], Version]] = {
    "numgrad": _numgrad,
    "jax": _jax,
    "torch": _torch,
    "autograd": _autograd,
    "pytensor": _pytensor,
}

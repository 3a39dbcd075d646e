"""Derivatives of Python functions: `grad`, `value_and_grad`, `jvp`, `vjp`, `linearize`, `hvp`; traced, compiled, nesting to any order."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numgrad.autodiff.calls import cotangents_for, fresh, node, pull_back, push_along, scalar_result, tangents_for
from numgrad.errors import at, user_line
from numgrad.graph.core import Graph, Tensor, apply, current_graph
from numgrad.graph.walk import ancestors
from numgrad.tracing.function import Function
from numgrad.tracing.nest import LEAF, Structure, arrange, flatten, leaf_paths, unflatten

__all__ = ["grad", "hvp", "jvp", "linearize", "value_and_grad", "vjp"]

Argnums = int | Sequence[int]


class Chosen:
    """The arguments with respect to which is differentiated, as nodes of their own in the graph being built."""

    def __init__(self, what: str, args: Sequence[Any], argnums: Argnums) -> None:
        graph = current_graph()
        assert graph is not None
        self.graph, self.what, self.args, self.argnums = graph, what, list(args), argnums
        self.numbers = [_position(n, len(args), what) for n in ((argnums,) if isinstance(argnums, int) else argnums)]
        if len(set(self.numbers)) != len(self.numbers):
            raise ValueError(f"{what}: argnums {argnums} repeat{at(user_line())}")
        leaves, self.structure = flatten([args[n] for n in self.numbers])
        self.names = [path for n, child in zip(self.numbers, self.structure[2], strict=True)
                      for path in leaf_paths(child, f"argument {n}")]
        self.xs = fresh(graph, leaves, what, self.names)
        for number, value in zip(self.numbers, unflatten(self.structure, self.xs), strict=True):
            self.args[number] = value

    def nest(self, leaves: Sequence[Any]) -> Any:
        """Leaves in the structure of the chosen arguments: one nest, or a tuple for a tuple of argnums."""
        values = unflatten(self.structure, leaves)
        return values[0] if isinstance(self.argnums, int) else tuple(values)


def _position(number: int, count: int, what: str) -> int:
    if not -count <= number < count:
        raise ValueError(f"{what}: argnums has {number}, but {count} positional arguments were given{at(user_line())}")
    return number % count


def _transform(f: Callable[..., Any], name: str, body: Callable[..., Any], remake: tuple[Any, ...],
               signature: bool = True) -> Function:
    """A Function of `body` that carries f's name and, unless its arguments differ, f's signature."""
    if not callable(f):
        raise TypeError(f"{name}: got a {type(f).__name__}, wanted a function{at(user_line())}")
    body.__name__ = f"{name}({getattr(f, '__name__', type(f).__name__)})"
    body.__qualname__ = f"{name}({getattr(f, '__qualname__', type(f).__name__)})"
    body.__module__ = getattr(f, "__module__", __name__)
    if signature:
        body.__wrapped__ = f  # type: ignore[attr-defined]
    numbers, names = getattr(f, "static_arguments", ((), ()))
    return Function(body, numbers if signature else (), names if signature else (), remake)


def _remade(transform: Callable[..., Any], f: Any, arguments: dict[str, Any]) -> tuple[Any, ...]:
    return functools.partial(transform, **arguments), (f,)


def _ones(y: Tensor) -> Tensor:
    return apply("ones_like", y)


def _value_aux_grads(what: str, f: Callable[..., Any], args: Any, kwargs: Any, argnums: Argnums,
                     has_aux: bool) -> tuple[Tensor, Any, Any]:
    chosen = Chosen(what, args, argnums)
    result = f(*chosen.args, **kwargs)
    aux = None
    if has_aux:
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(f"{what}: with has_aux=True the function must return (value, extras){at(user_line())}")
        result, aux = result
    y = scalar_result(chosen.graph, flatten(result)[0], what)
    return y, aux, chosen.nest(pull_back(chosen.graph, [y], chosen.xs, [_ones(y)], what))


def grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar function, as a function of the same arguments.

    Parameters
    ----------
    f : callable
        Returns one real scalar; with `has_aux`, ``(scalar, extras)``.
    argnums : int or sequence of int
        Which positional arguments to differentiate; each may be a nest of arrays.
    has_aux : bool
        Whether `f` returns extras that are passed through.

    Returns
    -------
    Function
        Gives the gradient in the structure, shapes and dtypes of the argument (a tuple of them for a sequence of argnums); with
        `has_aux`, ``(gradient, extras)``. An argument on which the result does not depend gets zeros.

    Raises
    ------
    ShapeError (a ValueError)
        The result is no scalar.
    DtypeError (a TypeError)
        A chosen argument is an integer, or the result is not real.

    Notes
    -----
    ``g[i] = df/dx[i]``. For a complex argument z the gradient g satisfies ``df = Re(conj(g) dz)``, so that ``-g`` points downhill.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.grad(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> float(ng.grad(ng.grad(np.sin))(0.5)) == -np.sin(0.5)
    True
    """
    def gradient(*args: Any, **kwargs: Any) -> Any:
        _, aux, grads = _value_aux_grads("grad", f, args, kwargs, argnums, has_aux)
        return (grads, aux) if has_aux else grads

    return _transform(f, "grad", gradient, _remade(grad, f, {"argnums": argnums, "has_aux": has_aux}))


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The value and the gradient of a scalar function from one sweep.

    Parameters
    ----------
    f : callable
        Returns one real scalar; with `has_aux`, ``(scalar, extras)``.
    argnums : int or sequence of int
        Which positional arguments to differentiate; each may be a nest of arrays.
    has_aux : bool
        Whether `f` returns extras that are passed through.

    Returns
    -------
    Function
        Gives ``(value, gradient)``; with `has_aux`, ``((value, extras), gradient)``. See `grad`.

    Raises
    ------
    ShapeError (a ValueError)
        The result is no scalar.
    DtypeError (a TypeError)
        A chosen argument is an integer, or the result is not real.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> value, gradient = ng.value_and_grad(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """
    def both(*args: Any, **kwargs: Any) -> Any:
        y, aux, grads = _value_aux_grads("value_and_grad", f, args, kwargs, argnums, has_aux)
        return ((y, aux) if has_aux else y), grads

    return _transform(f, "value_and_grad", both,
                      _remade(value_and_grad, f, {"argnums": argnums, "has_aux": has_aux}))


def hvp(f: Callable[..., Any], argnums: Argnums = 0) -> Function:
    """The product of a scalar function's Hessian with a vector, by forward mode over reverse mode.

    Parameters
    ----------
    f : callable
        Returns one real scalar.
    argnums : int or sequence of int
        Which positional arguments of `f` to differentiate.

    Returns
    -------
    Function
        ``(x, v, *args) -> H v``: x is the differentiated argument (a tuple of them for a sequence of argnums), v has its structure, and
        args are f's other arguments in their order. The result has the structure of x.

    Raises
    ------
    ShapeError (a ValueError)
        The result of `f` is no scalar, or v does not have the shapes of x.
    DtypeError (a TypeError)
        A chosen argument is an integer.

    Notes
    -----
    ``d/dt grad f(x + t v)`` at t = 0: a few times the cost of the gradient, whatever the size of x (Pearlmutter 1994, "Fast
    exact multiplication by the Hessian").

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> product = ng.hvp(lambda x: np.sum(x ** 3))
    >>> product(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([  6., 120.])
    """
    def product(x: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        count = len(numbers) + len(args)
        rest = iter(args)
        chosen_values = dict(zip([_position(n, count, "hvp") for n in numbers],
                                 [x] if isinstance(argnums, int) else list(x), strict=True))
        full = [chosen_values[i] if i in chosen_values else next(rest) for i in range(count)]
        chosen = Chosen("hvp", full, argnums)
        given = arrange([v] if isinstance(argnums, int) else list(v), chosen.structure, "hvp: the vector")
        tangents = tangents_for(chosen.graph, given, chosen.xs, "hvp", chosen.names)
        y = scalar_result(chosen.graph, flatten(f(*chosen.args, **kwargs))[0], "hvp")
        gradients = pull_back(chosen.graph, [y], chosen.xs, [_ones(y)], "hvp")
        return chosen.nest(push_along(chosen.graph, gradients, chosen.xs, tangents))

    return _transform(f, "hvp", product, _remade(hvp, f, {"argnums": argnums}), signature=False)


def _kept(f: Callable[..., Any], name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, kept with the function so that a second call does not trace again."""
    own = None if isinstance(f, types.MethodType) else getattr(f, "__dict__", None)
    if own is None:
        return make()
    kept = own.setdefault("__numgrad__", {})
    if name not in kept:
        kept[name] = make()
    return kept[name]


def _primals(what: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{what}: got a {type(values).__name__}, wanted a tuple with one entry for each argument{at(user_line())}")
    return tuple(values)


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of a function and its directional derivative, by forward mode.

    Parameters
    ----------
    f : callable
    primals : tuple
        The arguments, one entry each; nests of arrays are fine.
    tangents : tuple
        Directions in the structure and shapes of `primals`; None is zero.

    Returns
    -------
    tuple
        ``(y, dy)`` in the structure of f's result.

    Raises
    ------
    ValueError, TypeError
        The tangents do not have the structure, shapes or kinds of the primals; a primal is an integer.

    Notes
    -----
    ``dy = J(x) dx``. The trace is kept with `f`: pass the same function again rather than a new lambda.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> y, dy = ng.jvp(np.exp, (np.array([0.0, 1.0]),), (np.array([1.0, 0.0]),))
    >>> dy
    array([1., 0.])
    """
    given, along = _primals("jvp: primals", primals), _primals("jvp: tangents", tangents)
    if len(given) != len(along):
        raise ValueError(f"jvp: {len(given)} primals and {len(along)} tangents{at(user_line())}")

    def make() -> Function:
        def directional(xs: Any, vs: Any) -> Any:
            chosen = Chosen("jvp", xs, range(len(xs)))
            values = arrange(list(vs), chosen.structure, "jvp: tangents")
            moving = tangents_for(chosen.graph, values, chosen.xs, "jvp", chosen.names)
            ys, structure = _nodes(chosen.graph, f(*chosen.args))
            return unflatten(structure, ys), unflatten(structure, push_along(chosen.graph, ys, chosen.xs, moving))

        return _transform(f, "jvp", directional, (_no_pickle, ("jvp",)), signature=False)

    return _kept(f, "jvp", make)(given, along)  # type: ignore[no-any-return]


def _nodes(graph: Graph, result: Any) -> tuple[list[Tensor], Structure]:
    leaves, structure = flatten(result)
    return [node(graph, leaf) for leaf in leaves], structure


def _no_pickle(what: str) -> None:
    raise TypeError(f"{what} closes over its primals and cannot be pickled")

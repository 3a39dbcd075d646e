"""Derivatives as maps at a point: `jvp`, `vjp` and `linearize`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgrad.autodiff.calls import cotangents_for, pull_back, push_along, tangents_for
from numgrad.errors import at, user_line
from numgrad.graph.graph import Graph
from numgrad.nest import arrange, unflatten
from numgrad.tracing.derivatives import Chosen, function_of, kept_with, no_pickle, result_nodes
from numgrad.tracing.function import Function
from numgrad.tracing.phases import in_two_phases

__all__ = ["jvp", "linearize", "vjp"]


def _primals(what: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{what}: got a {type(values).__name__}, wanted a tuple with one entry for each "
                        f"argument{at(user_line())}")
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
            ys, structure = result_nodes(chosen.graph, f(*chosen.args))
            return unflatten(structure, ys), unflatten(structure, push_along(chosen.graph, ys, chosen.xs, moving))

        return function_of(f, "jvp", directional, (no_pickle, ("jvp",)), signature=False)

    return kept_with(f, "jvp", make)(given, along)  # type: ignore[no-any-return]


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of a function, and the map that pulls a cotangent of it back to the arguments.

    Parameters
    ----------
    f : callable
    *primals
        Its arguments; nests of floating or complex arrays.

    Returns
    -------
    tuple
        ``(y, pull)``. ``pull(cotangent)`` takes the structure and shapes of y (None entries are zeros) and gives a
        tuple with one entry for each argument. The forward values are computed once, whatever the number of pulls.

    Raises
    ------
    ValueError, TypeError
        A cotangent does not have y's structure, shape or kind; a primal is an integer.

    Notes
    -----
    ``pull(g) = J(x)^H g``. The trace is kept with `f`: pass the same function again rather than a new lambda.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> y, pull = ng.vjp(np.sin, np.array([0.0, np.pi]))
    >>> pull(np.array([2.0, 2.0]))
    (array([ 2., -2.]),)
    """
    def in_the_graph(graph: Graph, chosen: Chosen) -> tuple[Any, Callable[[Any], Any]]:
        ys, structure = result_nodes(graph, f(*chosen.args))

        def pull(cotangent: Any) -> tuple[Any, ...]:
            with graph.as_default():
                given = cotangents_for(graph, arrange(cotangent, structure, "vjp"), ys, "vjp")
                return tuple(unflatten(chosen.structure, pull_back(graph, ys, chosen.xs, given, "vjp")))

        return unflatten(structure, ys), pull

    y, apply_map = in_two_phases("vjp", f, primals, in_the_graph)
    return y, lambda cotangent: tuple(apply_map(cotangent))


def linearize(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of a function, and the linear map that pushes tangents of the arguments to it.

    Parameters
    ----------
    f : callable
    *primals
        Its arguments; nests of floating or complex arrays.

    Returns
    -------
    tuple
        ``(y, push)``. ``push(*tangents)`` takes one tangent for each argument and gives the tangent of y. The values at
        which `f` is linearised are computed once, whatever the number of pushes.

    Raises
    ------
    ValueError, TypeError
        A tangent does not have its primal's structure, shape or kind; a primal is an integer.

    Notes
    -----
    ``push(v) = J(x) v``. The trace is kept with `f`: pass the same function again rather than a new lambda.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> y, push = ng.linearize(lambda x: x * x, np.array([1.0, 2.0]))
    >>> push(np.array([1.0, 10.0]))
    array([ 2., 40.])
    """
    def in_the_graph(graph: Graph, chosen: Chosen) -> tuple[Any, Callable[[Any], Any]]:
        ys, structure = result_nodes(graph, f(*chosen.args))

        def push(tangents: Any) -> Any:
            with graph.as_default():
                values = arrange(list(tangents), chosen.structure, "linearize")
                given = tangents_for(graph, values, chosen.xs, "linearize", chosen.names)
                return unflatten(structure, push_along(graph, ys, chosen.xs, given))

        return unflatten(structure, ys), push

    y, apply_map = in_two_phases("linearize", f, primals, in_the_graph)
    return y, lambda *tangents: apply_map(list(tangents))



"""Derivatives of Python functions: `grad`, `value_and_grad`, `jvp`, `vjp`, `linearize`, `hvp`; traced, compiled, nesting to any order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from numgrad.autodiff.calls import cotangents_for, pull_back, push_along, scalar_result, tangents_for
from numgrad.autodiff.batching import example_of, moved_axis, of_all_examples
from numgrad.autodiff.derived import full_jacobian
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Graph, Tensor, apply, current_graph
from numgrad.nest import arrange, flatten, unflatten
from numgrad.ops.kinds import as_node
from numgrad.tracing.derivatives import Argnums, Chosen, function_of, kept_with, no_pickle, position_of, result_nodes
from numgrad.tracing.function import Function
from numgrad.tracing.phases import in_two_phases

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "linearize", "value_and_grad", "vjp", "vmap"]

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
    >>> round(float(ng.grad(ng.grad(np.sin))(0.5)), 6)
    -0.479426
    """
    def gradient(*args: Any, **kwargs: Any) -> Any:
        _, aux, grads = _value_aux_grads("grad", f, args, kwargs, argnums, has_aux)
        return (grads, aux) if has_aux else grads

    return function_of(f, "grad", gradient, _remade(grad, f, {"argnums": argnums, "has_aux": has_aux}))


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

    return function_of(f, "value_and_grad", both,
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
        chosen_values = dict(zip([position_of(n, count, "hvp") for n in numbers],
                                 [x] if isinstance(argnums, int) else list(x), strict=True))
        full = [chosen_values[i] if i in chosen_values else next(rest) for i in range(count)]
        chosen = Chosen("hvp", full, argnums)
        given = arrange([v] if isinstance(argnums, int) else list(v), chosen.structure, "hvp: the vector")
        tangents = tangents_for(chosen.graph, given, chosen.xs, "hvp", chosen.names)
        y = scalar_result(chosen.graph, flatten(f(*chosen.args, **kwargs))[0], "hvp")
        gradients = pull_back(chosen.graph, [y], chosen.xs, [_ones(y)], "hvp")
        return chosen.nest(push_along(chosen.graph, gradients, chosen.xs, tangents))

    return function_of(f, "hvp", product, _remade(hvp, f, {"argnums": argnums}), signature=False)


def jacobian(f: Callable[..., Any], argnums: Argnums = 0, mode: str = "auto") -> Function:
    """The Jacobian of a function, as a function of the same arguments.

    Parameters
    ----------
    f : callable
        Returns an array or a nest of arrays.
    argnums : int or sequence of int
        Which positional arguments to differentiate; each may be a nest of arrays.
    mode : {"auto", "forward", "reverse"}
        One batched push for each argument, one batched pull for each result, or whichever has fewer of them.

    Returns
    -------
    Function
        Gives the nest of f's results, each leaf replaced by the nest of the argument (a tuple for a sequence of argnums) with blocks of
        shape ``y.shape + x.shape``; zeros where y does not depend on x.

    Raises
    ------
    DtypeError (a TypeError)
        A chosen argument is an integer; forward mode for a real result of a complex argument.
    ValueError
        An unknown mode.

    Notes
    -----
    ``J[i, j] = dy[i]/dx[j]``. For complex x and real y, ``dy = Re(J dx)``; for complex x and y the function is taken as holomorphic.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.jacobian(lambda x: x[::-1] * x[0])(np.array([2.0, 3.0]))
    array([[3., 2.],
           [4., 0.]])
    """
    def blocks(*args: Any, **kwargs: Any) -> Any:
        chosen = Chosen("jacobian", args, argnums)
        ys, structure = result_nodes(chosen.graph, f(*chosen.args, **kwargs))
        with chosen.graph.lock:
            found = full_jacobian(ys, chosen.xs, mode)
        return unflatten(structure, [chosen.nest(row) for row in found])

    return function_of(f, "jacobian", blocks, _remade(jacobian, f, {"argnums": argnums, "mode": mode}))


def hessian(f: Callable[..., Any], argnums: Argnums = 0) -> Function:
    """The Hessian of a scalar function, by batched forward mode over reverse mode.

    Parameters
    ----------
    f : callable
        Returns one real scalar.
    argnums : int or sequence of int
        Which positional arguments to differentiate; each may be a nest of real arrays.

    Returns
    -------
    Function
        Gives the nest of the argument, each leaf a nest of the argument again, with blocks of shape ``a.shape + b.shape``; zeros where
        there is no dependence.

    Raises
    ------
    ShapeError (a ValueError)
        The result is no scalar.
    DtypeError (a TypeError)
        A chosen argument is an integer or complex.

    Notes
    -----
    ``H[i, j] = d^2 f / dx[i] dx[j]``, in memory proportional to the number of elements squared; `hvp` needs no matrix.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0]))
    array([[6., 2.],
           [2., 0.]])
    """
    def blocks(*args: Any, **kwargs: Any) -> Any:
        chosen = Chosen("hessian", args, argnums)
        for x, name in zip(chosen.xs, chosen.names, strict=True):
            if x.dtype.kind == "c":
                raise DtypeError(f"hessian: {name} is {x.dtype}; second derivatives are for real arguments{at(user_line())}")
        y = scalar_result(chosen.graph, flatten(f(*chosen.args, **kwargs))[0], "hessian")
        gradients = pull_back(chosen.graph, [y], chosen.xs, [_ones(y)], "hessian")
        with chosen.graph.lock:
            found = full_jacobian(gradients, chosen.xs, "forward")
        return chosen.nest([chosen.nest(row) for row in found])

    return function_of(f, "hessian", blocks, _remade(hessian, f, {"argnums": argnums}))


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0) -> Function:
    """A function of one example made into a function of many at once.

    Parameters
    ----------
    f : callable
        Takes and returns arrays of one example, or nests of them.
    in_axes : int, None, or a sequence of them
        For each argument the axis along which its arrays hold the examples; None: the same for all examples.
    out_axes : int
        Where the axis of examples stands in the results.

    Returns
    -------
    Function
        Of the same arguments, with the axis of examples.

    Raises
    ------
    ShapeError (a ValueError)
        Arguments hold different numbers of examples, or have no such axis.
    ValueError
        `in_axes` has another length than there are arguments, or holds None only.

    Notes
    -----
    ``result[i] = f(x[i])``, computed by one program over the whole axis: no loop over the examples.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> rows = ng.vmap(np.dot, in_axes=(0, None))
    >>> rows(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
    array([21., 43.])
    """
    def examples(*args: Any, **kwargs: Any) -> Any:
        graph = current_graph()
        assert graph is not None
        axes = list(in_axes) if isinstance(in_axes, (tuple, list)) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ValueError(f"vmap: {len(axes)} in_axes for {len(args)} arguments{at(user_line())}")
        values: dict[Tensor, Tensor] = {}
        singles = []
        for arg, axis in zip(args, axes, strict=True):
            leaves, structure = flatten(arg)
            if axis is not None:
                leaves = [example_of(as_node(graph, leaf), axis, values) for leaf in leaves]
            singles.append(unflatten(structure, leaves))
        if not values:
            raise ValueError(f"vmap: in_axes holds None only, so there is no axis of examples{at(user_line())}")
        ys, structure = result_nodes(graph, f(*singles, **kwargs))
        return unflatten(structure, [moved_axis(y, 0, out_axes, "vmap") for y in of_all_examples(ys, values)])

    return function_of(f, "vmap", examples, _remade(vmap, f, {"in_axes": in_axes, "out_axes": out_axes}))


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
        ``(y, pull)``. ``pull(cotangent)`` takes the structure and shapes of y (None entries are zeros) and gives a tuple with one
        entry for each argument. The forward values are computed once, whatever the number of pulls.

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
        ``(y, push)``. ``push(*tangents)`` takes one tangent for each argument and gives the tangent of y. The values at which
        `f` is linearised are computed once, whatever the number of pushes.

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
                given = tangents_for(graph, arrange(list(tangents), chosen.structure, "linearize"), chosen.xs, "linearize",
                                     chosen.names)
                return unflatten(structure, push_along(graph, ys, chosen.xs, given))

        return unflatten(structure, ys), push

    y, apply_map = in_two_phases("linearize", f, primals, in_the_graph)
    return y, lambda *tangents: apply_map(list(tangents))



"""Derivatives of Python functions and their vectorisation: traced, compiled, nesting to any order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numgrad.autodiff.batching import example_of, moved_axis, of_all_examples
from numgrad.autodiff.calls import pull_back, push_along, scalar_result, tangents_for
from numgrad.autodiff.derived import full_jacobian
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, apply, current_graph
from numgrad.nest import arrange, flatten, unflatten
from numgrad.ops.kinds import as_node
from numgrad.tracing.derivatives import Argnums, Chosen, function_of, position_of, result_nodes
from numgrad.tracing.function import Function
from numgrad.tracing.maps import jvp, linearize, vjp

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
        Gives the gradient in the structure, shapes and dtypes of the argument (a tuple of them for a sequence of
        argnums); with `has_aux`, ``(gradient, extras)``. An argument on which the result does not depend gets zeros.

    Raises
    ------
    ShapeError (a ValueError)
        The result is no scalar.
    DtypeError (a TypeError)
        A chosen argument is an integer, or the result is not real.

    Notes
    -----
    ``g[i] = df/dx[i]``. For a complex argument z the gradient g satisfies ``df = Re(conj(g) dz)``, so that ``-g``
    points downhill.

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
        ``(x, v, *args) -> H v``: x is the differentiated argument (a tuple of them for a sequence of argnums), v has
        its structure, and args are f's other arguments in their order. The result has the structure of x.

    Raises
    ------
    ShapeError (a ValueError)
        The result of `f` is no scalar, or v does not have the shapes of x.
    DtypeError (a TypeError)
        A chosen argument is an integer.

    Notes
    -----
    ``d/dt grad f(x + t v)`` at t = 0: a few times the cost of the gradient, whatever the size of x (Pearlmutter 1994,
    "Fast exact multiplication by the Hessian").

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
        Gives the nest of f's results, each leaf replaced by the nest of the argument (a tuple for a sequence of
        argnums) with blocks of shape ``y.shape + x.shape``; zeros where y does not depend on x.

    Raises
    ------
    DtypeError (a TypeError)
        A chosen argument is an integer; forward mode for a real result of a complex argument.
    ValueError
        An unknown mode.

    Notes
    -----
    ``J[i, j] = dy[i]/dx[j]``. For complex x and real y, ``dy = Re(J dx)``; for complex x and y the function is taken as
    holomorphic.

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
        Gives the nest of the argument, each leaf a nest of the argument again, with blocks of shape ``a.shape +
        b.shape``; zeros where there is no dependence.

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
                raise DtypeError(f"hessian: {name} is {x.dtype}; second derivatives are for real "
                                 f"arguments{at(user_line())}")
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

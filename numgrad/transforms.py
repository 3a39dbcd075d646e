"""Derivatives of Python functions: `grad`, `value_and_grad`, `jvp`, `vjp`, `linearize`, `hvp`; traced, compiled, nesting to any order."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.calls import cotangents_for, fresh, node, pull_back, push_along, scalar_result, tangents_for
from numgrad.autodiff.split import Phases, split
from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Graph, Tensor, apply, as_tensor, current_graph, placeholder
from numgrad.tracing.function import Function, in_graph
from numgrad.nest import Structure, arrange, flatten, leaf_paths, unflatten
from numgrad.tracing.trace import Variant
from numgrad.types import is_trainable

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


class _Late:
    """The second phase of one trace of `vjp` or `linearize`: late inputs in, derivatives out."""

    def __init__(self, likes: list[Tensor], structure: Structure, late: list[Tensor | None], phases: Phases,
                 out_structure: Structure) -> None:
        self.likes, self.structure, self.late = likes, structure, late
        self.phases, self.out_structure = phases, out_structure
        self.variant: Variant | None = None

    def program(self, inputs: list[Tensor], graph: Graph) -> Any:
        """Early inputs, residuals and late inputs in; the derivatives out."""
        if self.variant is None:
            late = [t for t in self.late if t is not None]
            self.variant = Variant(graph, [*inputs, *self.phases.stand_ins, *late], self.phases.outputs, self.out_structure)
        return self.variant.program

    def arrays(self, nest: Any, shapes: Sequence[tuple[int, ...]], what: str) -> list[np.ndarray[Any, Any]]:
        """The late inputs' arrays of a user's nest, checked; None is zeros."""
        result = []
        for i, (value, like, late) in enumerate(zip(arrange(nest, self.structure, what), self.likes, self.late, strict=True)):
            if late is None:
                continue
            array = np.zeros(shapes[i]) if value is None else np.asarray(value)
            if array.shape != shapes[i]:
                raise ShapeError(f"{what}: entry {i} has shape {array.shape}, wanted {shapes[i]}{at(user_line())}")
            if array.dtype.kind not in "fiub" + like.dtype.kind:
                raise DtypeError(f"{what}: entry {i} is {array.dtype}, wanted {like.dtype}{at(user_line())}")
            result.append(np.asarray(array, dtype=like.dtype, order="C"))
        return result


class _TwoPhase:
    """A function that is traced once, and split: its value and residuals at once, its derivative map when it is called."""

    def __init__(self, f: Callable[..., Any], what: str) -> None:
        self.f, self.what = f, what
        self.late: weakref.WeakKeyDictionary[Graph, _Late] = weakref.WeakKeyDictionary()
        self.first = _transform(f, what, lambda given: self._trace(given), (_no_pickle, (what,)), signature=False)

    def _trace(self, primals: Any) -> Any:
        chosen = Chosen(self.what, primals, range(len(primals)))
        graph = chosen.graph
        ys, structure = _nodes(graph, self.f(*chosen.args))
        backwards = self.what == "vjp"
        likes = ys if backwards else chosen.xs
        late = [placeholder(t.dtype, t.spec.shape, "late") if is_trainable(t.dtype) else None for t in likes]
        if backwards:
            derivatives, nest = pull_back(graph, ys, chosen.xs, late, "vjp"), chosen.structure
        else:
            derivatives, nest = push_along(graph, ys, chosen.xs, late), structure
        phases = split(graph, derivatives, [t for t in late if t is not None])
        self.late[graph] = _Late(likes, structure if backwards else chosen.structure, late, phases, nest)
        return unflatten(structure, ys), phases.residuals

    def __call__(self, primals: tuple[Any, ...]) -> tuple[Any, Callable[[Any], Any]]:
        variant, inputs, results = self.first.run_flat(primals)
        later = self.late[variant.graph]
        structure = variant.structure[2][0]
        ys = results[:len(results) - len(later.phases.residuals)]
        residuals = results[len(ys):]
        eager = any(isinstance(leaf, Tensor) for leaf in flatten(primals)[0])
        wrap = as_tensor if eager else np.asarray
        like = ys if self.what == "vjp" else inputs
        shapes = [a.shape for a in like]

        def apply_map(nest: Any) -> Any:
            arrays = later.arrays(nest, shapes, self.what)
            found = later.program(variant.inputs, variant.graph)(*inputs, *residuals, *arrays)
            return unflatten(later.out_structure, [wrap(a) for a in found])

        return unflatten(structure, [wrap(y) for y in ys]), apply_map


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
        ys, structure = _nodes(graph, f(*chosen.args))

        def pull(cotangent: Any) -> tuple[Any, ...]:
            with graph.as_default():
                given = cotangents_for(graph, arrange(cotangent, structure, "vjp"), ys, "vjp")
                return tuple(unflatten(chosen.structure, pull_back(graph, ys, chosen.xs, given, "vjp")))

        return unflatten(structure, ys), pull

    y, apply_map = _two_phase("vjp", f, primals, in_the_graph)
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
        ys, structure = _nodes(graph, f(*chosen.args))

        def push(tangents: Any) -> Any:
            with graph.as_default():
                given = tangents_for(graph, arrange(list(tangents), chosen.structure, "linearize"), chosen.xs, "linearize",
                                     chosen.names)
                return unflatten(structure, push_along(graph, ys, chosen.xs, given))

        return unflatten(structure, ys), push

    y, apply_map = _two_phase("linearize", f, primals, in_the_graph)
    return y, lambda *tangents: apply_map(list(tangents))


def _two_phase(what: str, f: Callable[..., Any], primals: tuple[Any, ...],
               in_the_graph: Callable[[Graph, Chosen], tuple[Any, Callable[[Any], Any]]]) -> tuple[Any, Callable[[Any], Any]]:
    leaves = flatten(primals)[0]
    if not in_graph(leaves):
        return _kept(f, what, lambda: _TwoPhase(f, what))(primals)  # type: ignore[no-any-return]
    graph = next((t.graph for t in leaves if isinstance(t, Tensor) and t.graph is not None), None) or current_graph()
    assert graph is not None
    with graph.as_default():
        return in_the_graph(graph, Chosen(what, primals, range(len(primals))))

"""Functions with derivatives of their own: `custom_gradient`, `recompute_grad`, `grad_pass_through`."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from numgrad.autodiff.forward import pushforward
from numgrad.autodiff.reverse import build_gradients
from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.slices import IndexedSlices, dense
from numgrad.errors import DtypeError, GraphError, SourceLine, at, user_line
from numgrad.graph.core import (
    Graph,
    Operation,
    Tensor,
    WeakTensor,
    apply,
    apply_all,
    as_tensor,
    current_graph,
    placeholder,
    weaken,
)
from numgrad.graph.scopes import heard_by
from numgrad.graph.walk import ancestors
from numgrad.nest import Structure, arrange, flatten, unflatten
from numgrad.ops.kinds import as_node, cast_to, define, infer_same
from numgrad.types import is_trainable

__all__ = ["custom_gradient", "grad_pass_through", "recompute_grad"]


class _Call(NamedTuple):
    """A call taken apart: the arrays and numbers among its arguments are inputs, everything else is passed on as it is."""

    function: Callable[..., Any]
    leaves: tuple[Any, ...]
    structure: Structure
    positions: tuple[int, ...]  # of the inputs among the leaves
    keywords: dict[str, Any]

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """The function's result for these inputs."""
        values = list(self.leaves)
        for position, tensor in zip(self.positions, inputs, strict=True):
            values[position] = tensor
        return self.function(*unflatten(self.structure, values), **self.keywords)

    def nest(self) -> Structure:
        """The structure of the inputs alone: arguments that hold none are left out, other values in the rest are None."""
        inputs = set(self.positions)
        marked = unflatten(self.structure, [True if i in inputs else None for i in range(len(self.leaves))])
        return flatten(tuple(m for m in marked if any(flatten(m)[0])))[1]


def _taken_apart(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[_Call, list[Tensor]]:
    if keywords:  # an argument counts the same however it was passed
        try:
            bound = inspect.signature(function).bind(*args, **keywords)
        except TypeError as error:
            raise TypeError(f"{_name(function)}: {error}{at(user_line())}") from error
        args, keywords = bound.args, bound.kwargs
    leaves, structure = flatten(args)
    positions = [i for i, leaf in enumerate(leaves) if _is_input(leaf)]
    call = _Call(function, tuple(leaves), structure, tuple(positions), keywords)
    return call, [_tensor(leaves[i]) for i in positions]


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, (Tensor, np.ndarray, np.generic, bool, int, float, complex))


def _tensor(leaf: Any) -> Tensor:
    tensor = as_tensor(leaf)
    return weaken(tensor) if isinstance(leaf, (int, float, complex)) and not isinstance(leaf, (bool, np.generic)) else tensor


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


@contextmanager
def _within(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Make operations in the graph of these tensors, whichever graph is the default."""
    graph = next((t.graph for t in tensors if t.graph is not None), None)
    current = current_graph()
    with nullcontext() if graph is None or graph is current else graph.as_default():
        yield


class _Decorated:
    """A function whose calls go through `call(function, args, keywords)`; bound to an instance it is a method."""

    def __init__(self, function: Callable[..., Any], call: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"{call.__name__}: got a {type(function).__name__}, wanted a function{at(user_line())}")
        functools.update_wrapper(self, function, updated=())
        self.__wrapped__, self._call = function, call

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        return self._call(self.__wrapped__, args, keywords)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _Decorated(self.__wrapped__.__get__(instance, owner), self._call)

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (_Decorated, (self.__wrapped__, self._call))


# -- custom_gradient


class _Rule:
    """What one call of a function with a gradient of its own left behind: its gradient function, and what that closes over."""

    __slots__ = ("given", "grad_fn", "name", "nest", "where")

    def __init__(self, name: str, grad_fn: Callable[..., Any], nest: Structure, where: SourceLine | None) -> None:
        self.name, self.grad_fn, self.nest, self.where = name, grad_fn, nest, where
        self.given: tuple[Tensor, ...] = ()  # outputs and inputs of the function, as its gradient function knows them

    def pull(self, cotangents: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Any]:
        """The gradient function's answer: one tensor, `IndexedSlices` or None for each input, checked."""
        leaves = self._in_order(self.grad_fn(*cotangents), len(inputs))
        return [self._checked(i, g, x) for i, (g, x) in enumerate(zip(leaves, inputs, strict=True))]

    def _in_order(self, result: Any, count: int) -> list[Any]:
        """Gradients in the nest of the inputs, or flat, or one for the only argument, as a list."""
        nests = [tuple(result)] if isinstance(result, (tuple, list)) else []
        nests += [(result,)] if len(self.nest[2]) == 1 else []
        for nest in nests:
            try:
                return arrange(nest, self.nest, self.name)
            except ValueError:
                continue
        leaves, _ = flatten(result, lambda v: v is None)
        if len(leaves) != count:
            raise ValueError(f"custom_gradient: the gradient function of {self.name} was expected to return {count} gradients, but "
                             f"returned {len(leaves)}; wanted one for each array or number among the arguments{at(self.where)}")
        return leaves

    def _checked(self, index: int, given: Any, like: Tensor) -> Any:
        if given is None or not is_trainable(like.dtype):
            return None
        if isinstance(given, IndexedSlices):
            return given
        what = f"custom_gradient: what the gradient function of {self.name} returned for input {index}"
        try:
            gradient = as_tensor(given)
        except DtypeError as error:
            raise TypeError(f"{what} is {given!r}, wanted a tensor or None{at(self.where)}") from error
        require_shape(gradient.spec.shape, like.spec.shape, what, self.where)
        if gradient.dtype.kind == "c" and like.dtype.kind != "c":
            raise TypeError(f"{what} is {gradient.dtype}, wanted {like.dtype}{at(self.where)}")
        return cast_to(gradient, like.dtype)


def _custom_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Any]:
    """The user's gradient for the inputs; the outputs of the body, which come first, pass nothing on."""
    rule, count = op.attrs["rule"], op.attrs["count"]
    filled = [apply("zeros_like", t) if ct is None and is_trainable(t.dtype) else ct
              for ct, t in zip(cts, op.outputs, strict=True)]
    inputs = op.inputs[count:]
    home = next((t.graph for t in rule.given if t.graph is not None), None)
    if home is None:
        with _standing_in(op.graph, rule.given, op.inputs):
            found = rule.pull(filled, inputs)
    elif all(a is b for a, b in zip(rule.given, op.inputs, strict=True)):
        found = rule.pull(filled, inputs)
    else:
        found = _elsewhere(rule, home, op, filled)
    return [None] * count + found


@contextmanager
def _standing_in(graph: Graph | None, eager: Sequence[Tensor], nodes: Sequence[Tensor]) -> Iterator[None]:
    """Let `nodes` stand for eager tensors wherever these are used in a graph."""
    new: list[int] = []
    if graph is not None:
        for tensor, node in zip(eager, nodes, strict=True):
            if id(tensor) not in graph.captured:
                graph.captured[id(tensor)] = (tensor, node)
                new.append(id(tensor))
    try:
        yield
    finally:
        for key in new:
            del graph.captured[key]  # type: ignore[union-attr]


def _elsewhere(rule: _Rule, home: Graph, op: Operation, cotangents: Sequence[Tensor | None]) -> list[Any]:
    """The gradients for a copy of the operation: the gradient function runs in its own graph, its result is copied over."""
    count = op.attrs["count"]
    with home.as_default(), home.lock:
        known: dict[Tensor, Tensor] = dict(zip(rule.given, op.inputs, strict=True))
        stand_ins: list[Tensor | None] = []
        for cotangent in cotangents:
            stand_in = None if cotangent is None else placeholder(cotangent.dtype, cotangent.spec.shape, "cotangent")
            stand_ins.append(stand_in)
            if stand_in is not None and cotangent is not None:
                known[stand_in] = cotangent
        found = [None if g is None else as_node(home, dense(g)) for g in rule.pull(stand_ins, rule.given[count:])]
    for outer, inner in home.reached.items():
        known.setdefault(inner, outer)
    enclosing = op.graph.within(home)  # then what depends on nothing that changed can stay as it is
    for each in ancestors([g for g in found if g is not None], stop=lambda t: t in known):
        if all(t in known for t in each.outputs) or (enclosing and not any(t in known for t in each.inputs)):
            continue
        if each.type == "placeholder":
            raise GraphError(f"custom_gradient: the gradient function of {rule.name} reads {each.name}, which is not among the "
                             f"arguments of {rule.name}; pass it as one{at(rule.where)}")
        made = apply_all(each.type, *(known.get(t, t) for t in each.inputs), **each.attrs)
        for tensor, copy in zip(each.outputs, made, strict=True):
            known.setdefault(tensor, copy)
    return [None if g is None else known.get(g, g) for g in found]


define("custom_gradient", "general", lambda specs, attrs: tuple(specs[:attrs["count"]]),
       lambda *arrays, count, rule: tuple(arrays[:count]), vjp=_custom_vjp,
       decompose=lambda *tensors, count, rule: tensors[:count],
       doc="The first of its inputs, with a gradient of the user's for the others.")


def _call_custom(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    call, inputs = _taken_apart(function, args, keywords)
    with _within(inputs):
        result = call.run(inputs)
        if not isinstance(result, tuple) or len(result) != 2 or not callable(result[1]):
            raise TypeError(f"custom_gradient: {_name(function)} returned {result!r:.80}, wanted a pair (outputs, gradient function)"
                            f"{at(user_line())}")
        leaves, structure = flatten(result[0])
        rule = _Rule(_name(function), result[1], call.nest(), user_line())
        outputs = [as_tensor(leaf) for leaf in leaves]
        made = _passed_on("custom_gradient", outputs, inputs, rule)
    return unflatten(structure, made)


def _passed_on(name: str, outputs: list[Tensor], inputs: list[Tensor], rule: Any) -> tuple[Tensor, ...]:
    """The outputs once more, as results of an operation that has a derivative with respect to `inputs`."""
    if not outputs:
        return ()
    made = apply_all(name, *outputs, *inputs, count=len(outputs), rule=rule)
    if isinstance(rule, _Rule):
        rule.given = made[0].op.inputs if made[0].op is not None else (*outputs, *inputs)
    for tensor, output in zip(made, outputs, strict=True):
        if type(output) is WeakTensor:
            weaken(tensor)
    return made


def custom_gradient(f: Callable[..., Any] | None = None) -> Any:
    """Give a function a gradient of its own.

    Parameters
    ----------
    f : callable, optional
        Returns ``(outputs, grad_fn)``; outputs may be a nest. ``grad_fn(*cotangents)`` is called when a derivative is built, with
        one cotangent for each output in flat order (zeros for outputs that nothing depends on, None for integer ones), and returns
        one gradient for each array or number among the arguments of `f`: flat, in the nest of the arguments, or a single one; None
        where there is none. Without `f` a decorator is returned.

    Returns
    -------
    callable
        Takes what `f` takes and returns its outputs as fresh tensors: eagerly, in graphs, under tapes, in `ng.function` and in
        every transform. Arguments given by keyword count in their position. Keyword-only arguments, strings, None and other
        objects are passed on and have no gradient.

    Raises
    ------
    TypeError
        `f` does not return a pair; a gradient is of a wrong kind.
    ValueError
        `grad_fn` returns a wrong number of gradients, or one of a wrong shape.

    Notes
    -----
    For ``y = f(x)`` and cotangent g of y, ``grad_fn(g)`` stands for ``J(x)^H g``. Derivatives of higher order differentiate
    what `grad_fn` does. Forward mode transposes `grad_fn`, which therefore must be linear in the cotangents.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> @ng.custom_gradient
    ... def log1pexp(x):
    ...     e = ng.exp(x)
    ...     return ng.log(1 + e), lambda g: g * (1 - 1 / (1 + e))
    >>> float(ng.grad(log1pexp)(100.0))
    1.0
    """
    return custom_gradient if f is None else _Decorated(f, _call_custom)


# -- recompute_grad

define("recompute_point", "linear", infer_same("recompute_point"), np.asarray, vjp=lambda op, cts: [cts[0]],
       samples=lambda rng: [([rng.normal(size=shape)], {}) for shape in ((), (3,), (0, 2))],
       doc="The same values, from which what was computed before is computed again.")


def _recomputed(op: Operation, inputs: Sequence[Tensor]) -> list[Tensor]:
    graph = inputs[0].graph if inputs else current_graph()
    leaves, _ = flatten(op.attrs["rule"].run(inputs))
    return [as_node(graph, leaf) if graph is not None else as_tensor(leaf) for leaf in leaves]


def _recompute_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Any]:
    """Run the function again on the inputs and pull back through that."""
    count = op.attrs["count"]
    inputs = [apply("recompute_point", t) for t in op.inputs[count:]]
    pairs = [(y, ct) for y, ct in zip(_recomputed(op, inputs), cts, strict=True) if ct is not None]
    found = build_gradients([y for y, _ in pairs], inputs, [ct for _, ct in pairs])
    return [None] * count + [g if is_trainable(x.dtype) else None for g, x in zip(found, inputs, strict=True)]


def _recompute_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    count = op.attrs["count"]
    inputs = [apply("identity", t) for t in op.inputs[count:]]
    moving = [(x, t) for x, t in zip(inputs, tangents[count:], strict=True) if t is not None]
    if not moving:
        return [None] * count
    return pushforward(_recomputed(op, inputs), [x for x, _ in moving], [t for _, t in moving])


define("recompute_grad", "general", lambda specs, attrs: tuple(specs[:attrs["count"]]),
       lambda *arrays, count, rule: tuple(arrays[:count]), vjp=_recompute_vjp, jvp=_recompute_jvp,
       decompose=lambda *tensors, count, rule: tensors[:count],
       doc="The first of its inputs, whose derivative computes them again from the others.")


def _call_recompute(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    call, inputs = _taken_apart(function, args, keywords)
    with _within(inputs):
        with heard_by(()):
            leaves, structure = flatten(call.run(inputs))
        made = _passed_on("recompute_grad", [as_tensor(leaf) for leaf in leaves], inputs, call)
    return unflatten(structure, made)


def recompute_grad(f: Callable[..., Any]) -> Any:
    """Keep nothing of a function for its gradient; run it again instead.

    Parameters
    ----------
    f : callable
        A function of arrays and nests of them; without side effects, as it runs again for every gradient.

    Returns
    -------
    callable
        The same function. Its derivative holds on to the arguments only, at the cost of a second evaluation. ``__wrapped__``
        is `f`.

    Raises
    ------
    TypeError
        `f` is not callable.

    Notes
    -----
    Derivatives of every order, and forward mode, are those of `f`. Forward mode needs no second evaluation. See Griewank and
    Walther, "Evaluating Derivatives" (2008), chapter 12, on trading storage for computation.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> block = ng.recompute_grad(lambda x: ng.sin(ng.sin(x)))
    >>> bool(ng.grad(block)(1.0) == np.cos(np.sin(1.0)) * np.cos(1.0))
    True
    """
    return _Decorated(f, _call_recompute)


# -- grad_pass_through


def _call_through(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    @functools.wraps(function)
    def passing(*values: Any, **named: Any) -> Any:
        return function(*values, **named), lambda *cotangents: cotangents

    return _call_custom(passing, args, keywords)


def grad_pass_through(f: Callable[..., Any]) -> Any:
    """Let a function compute its value, and let its gradient be that of the identity.

    Parameters
    ----------
    f : callable
        Has as many outputs as array arguments, of their shapes.

    Returns
    -------
    callable
        The same function; cotangents pass it unchanged ("straight-through").

    Raises
    ------
    ValueError
        When a derivative is built and outputs and arguments differ in number or shape.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> float(ng.grad(lambda x: ng.grad_pass_through(ng.round)(x) * 3.0)(0.7))
    3.0
    """
    return _Decorated(f, _call_through)

"""Functions with gradients of the user's: `custom_gradient` and `grad_pass_through`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numgrad.autodiff.batching import RULES, batched, spread
from numgrad.autodiff.decorated import Decorated, Reads, name_of, passed_on, taken_apart, within
from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.slices import IndexedSlices, dense
from numgrad.errors import DtypeError, GraphError, SourceLine, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all, as_tensor, placeholder
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import start, stop
from numgrad.graph.variable import Variable
from numgrad.graph.walk import ancestors
from numgrad.nest import Structure, arrange, flatten, unflatten
from numgrad.ops.kinds import as_node, cast_to, define
from numgrad.types import Dim, Spec, is_trainable

__all__ = ["custom_gradient", "grad_pass_through"]


class _Rule:
    """What one call of a function with a gradient of its own left behind: its gradient function and its tensors."""

    __slots__ = ("given", "grad_fn", "name", "nest", "variables", "where")

    def __init__(self, name: str, grad_fn: Callable[..., Any], nest: Structure, variables: tuple[Variable, ...],
                 where: SourceLine | None) -> None:
        self.name, self.grad_fn, self.nest, self.variables, self.where = name, grad_fn, nest, variables, where
        self.given: tuple[Tensor, ...] = ()  # outputs, inputs and variables, as the gradient function knows them
        if variables and not _takes_variables(grad_fn):
            raise TypeError(f"custom_gradient: {name} reads the variables {', '.join(v.name for v in variables)}, so "
                            f"its gradient "
                            f"function must take the argument variables=, and return (input gradients, variable "
                            f"gradients)"
                            f"{at(where)}")

    def pull(self, cotangents: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Any]:
        """The gradient function's answer: one tensor, `IndexedSlices` or None for each input and variable, checked."""
        count = len(inputs) - len(self.variables)
        if not self.variables:
            leaves = self._in_order(self.grad_fn(*cotangents), count)
        else:
            result = self.grad_fn(*cotangents, variables=list(self.variables))
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise ValueError(f"custom_gradient: the gradient function of {self.name}, which reads variables, "
                                 f"returned {result!r:.80}, "
                                 f"wanted a pair (input gradients, variable gradients){at(self.where)}")
            of_variables = list(result[1]) if isinstance(result[1], (tuple, list)) else [result[1]]
            if len(of_variables) != len(self.variables):
                raise ValueError(f"custom_gradient: the gradient function of {self.name} returned {len(of_variables)} "
                                 f"variable gradients, "
                                 f"wanted {len(self.variables)}, one for each of "
                                 f"{', '.join(v.name for v in self.variables)}{at(self.where)}")
            leaves = [*self._in_order(result[0], count), *of_variables]
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
            raise ValueError(f"custom_gradient: the gradient function of {self.name} was expected to return {count} "
                             f"gradients, but "
                             f"returned {len(leaves)}; wanted one for each array or number among the "
                             f"arguments{at(self.where)}")
        return leaves

    def _checked(self, index: int, given: Any, like: Tensor) -> Any:
        if given is None or not is_trainable(like.dtype):
            return None
        if isinstance(given, IndexedSlices):
            return given
        position = index - (len(self.given) - len(self.variables))
        place = f"variable {self.variables[position].name}" if position >= 0 else f"input {index}"
        what = f"custom_gradient: what the gradient function of {self.name} returned for {place}"
        try:
            gradient = as_tensor(given)
        except DtypeError as error:
            raise TypeError(f"{what} is {given!r}, wanted a tensor or None{at(self.where)}") from error
        require_shape(gradient.spec.shape, like.spec.shape, what, self.where)
        if gradient.dtype.kind == "c" and like.dtype.kind != "c":
            raise TypeError(f"{what} is {gradient.dtype}, wanted {like.dtype}{at(self.where)}")
        return cast_to(gradient, like.dtype)


def _takes_variables(grad_fn: Callable[..., Any]) -> bool:
    parameters = inspect.signature(grad_fn).parameters
    named = parameters.get("variables")
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or (
        named is not None and named.kind in (named.POSITIONAL_OR_KEYWORD, named.KEYWORD_ONLY))


def _custom_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Any]:
    """The user's gradient for the inputs; the outputs of the body, which come first, pass nothing on."""
    rule, count = op.attrs["rule"], op.attrs["count"]
    filled = [apply("zeros_like", t) if ct is None and is_trainable(t.dtype) else ct
              for ct, t in zip(cts, op.outputs, strict=True)]
    inputs = op.inputs[count:]
    home = next((t.graph for t in rule.given if t.graph is not None), None)
    if all(a is b for a, b in zip(rule.given, op.inputs, strict=True)):
        found = rule.pull(filled, inputs)
    elif home is None:
        with _standing_in(op.graph, rule.given, op.inputs):
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
    """The gradients for a copy of the operation: the gradient function runs in its own graph, and is copied over."""
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
            raise GraphError(f"custom_gradient: the gradient function of {rule.name} reads {each.name}, which is not "
                             f"among the "
                             f"arguments of {rule.name}; pass it as one{at(rule.where)}")
        made = apply_all(each.type, *(known.get(t, t) for t in each.inputs), **each.attrs)
        for tensor, copy in zip(each.outputs, made, strict=True):
            known.setdefault(tensor, copy)
    return [None if g is None else known.get(g, g) for g in found]


define("custom_gradient", "general", lambda specs, attrs: tuple(specs[:attrs["count"]]),
       lambda *arrays, count, rule: tuple(arrays[:count]), vjp=_custom_vjp,
       decompose=lambda *tensors, count, rule: tensors[:count],
       doc="The first of its inputs, with a gradient of the user's for the others.")


class _BatchedRule:
    """The rule for a batch of calls: the user's gradient for one element, batched."""

    def __init__(self, rule: Any, size: Dim) -> None:
        self.rule, self.size, self.name, self.where = rule, size, rule.name, rule.where
        self.given: tuple[Tensor, ...] = ()

    def pull(self, cotangents: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Any]:
        known = dict(zip(self.rule.given, self.given, strict=True))
        each: list[Tensor | None] = []
        for cotangent in cotangents:
            one = None
            if cotangent is not None:
                one = apply("cotangent_seed", spec=Spec(cotangent.dtype, tuple(cotangent.spec.shape[1:])))
                known[one] = cotangent
            each.append(one)
        found = [None if g is None else dense(g) for g in self.rule.pull(each, self.rule.given[-len(inputs):])]
        nodes = iter(batched([g for g in found if g is not None and g.op is not None], known))
        all_of = [None if g is None or g.op is None else next(nodes) for g in found]
        return [None if g is None else b if b is not None else spread(g, self.size)
                for g, b in zip(found, all_of, strict=True)]


def _batch(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    given = [x if flag else spread(x, size) for x, flag in zip(inputs, flags, strict=True)]
    rule = _BatchedRule(op.attrs["rule"], size)
    made = apply_all("custom_gradient", *given, count=op.attrs["count"], rule=rule)
    assert made[0].op is not None
    rule.given = made[0].op.inputs
    return made


RULES["custom_gradient"] = _batch


def _call_custom(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    call, inputs = taken_apart(function, args, keywords)
    reads = Reads()
    with within(inputs):
        start(reads)
        try:
            result = call.run(inputs)
        finally:
            stop(reads)
        if not isinstance(result, tuple) or len(result) != 2 or not callable(result[1]):
            raise TypeError(f"custom_gradient: {name_of(function)} returned {result!r:.80}, wanted a pair (outputs, "
                            f"gradient function)"
                            f"{at(user_line())}")
        leaves, structure = flatten(result[0])
        variables, handles = reads.in_order()
        rule = _Rule(name_of(function), result[1], call.nest(), variables, user_line())
        outputs = [as_tensor(leaf) for leaf in leaves]
        rule.given = (*outputs, *inputs, *handles)
        made = passed_on("custom_gradient", outputs, [*inputs, *handles], rule)
        if made and made[0].op is not None:
            rule.given = made[0].op.inputs  # eager inputs are nodes there
    return unflatten(structure, made)


def custom_gradient(f: Callable[..., Any] | None = None) -> Any:
    """Give a function a gradient of its own.

    Parameters
    ----------
    f : callable, optional
        Returns ``(outputs, grad_fn)``; outputs may be a nest. ``grad_fn(*cotangents)`` is called when a derivative is
        built, with one cotangent for each output in flat order (zeros for outputs that nothing depends on, None for
        integer ones), and returns one gradient for each array or number among the arguments of `f`: flat, in the nest
        of the arguments, or a single one; None where there is none. If `f` reads trainable variables, `grad_fn` is
        called with ``variables=[...]``, in the order in which they were made, and returns ``(input gradients, variable
        gradients)``. Without `f` a decorator is returned.

    Returns
    -------
    callable
        Takes what `f` takes and returns its outputs as fresh tensors: eagerly, in graphs, under tapes, in
        `ng.function` and in every transform. Arguments given by keyword count in their position. Keyword-only
        arguments, strings, None and other objects are passed on and have no gradient.

    Raises
    ------
    TypeError
        `f` does not return a pair; a gradient is of a wrong kind; `f` reads variables and `grad_fn` does not take them.
    ValueError
        `grad_fn` returns a wrong number of gradients, or one of a wrong shape.

    Notes ----- For ``y = f(x)`` and cotangent g of y, ``grad_fn(g)`` stands for ``J(x)^H g``. Derivatives of higher
    order differentiate what `grad_fn` does. Forward mode transposes `grad_fn`, which therefore must be linear in the
    cotangents.

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
    return custom_gradient if f is None else Decorated(f, _call_custom)


# -- grad_pass_through


def _call_through(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    @functools.wraps(function)
    def passing(*values: Any, **named: Any) -> Any:
        def gradients(*cotangents: Any, variables: Sequence[Any] = ()) -> Any:
            return (cotangents, [None] * len(variables)) if variables else cotangents

        return function(*values, **named), gradients

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
    return Decorated(f, _call_through)

"""The state of a differential equation as a list of leaves, and its right-hand side as a function of that list."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor
from numgrad.nest import arrange, flatten, leaf_paths, map_leaves, unflatten
from numgrad.ops.casting import stop_gradient
from numgrad.ops.conversion import asarray
from numgrad.ops.kinds import cast_to
from numgrad.tracing.function import is_list_of_numbers
from numgrad.types import is_trainable, require_equal, show_shape

__all__ = ["Leaves", "System", "combined", "floating", "moved", "real_of"]

Leaves = list[Tensor]


def _stopped(value: Any) -> Any:
    return stop_gradient(value) if isinstance(value, Tensor) and is_trainable(value.dtype) else value


def floating(value: Any, name: str) -> Tensor:
    """`value` as a real or complex tensor; whole numbers become float64."""
    tensor = asarray(value)
    if tensor.dtype.kind == "b":
        raise DtypeError(f"odeint: {name} is bool, wanted numbers{at(user_line())}")
    return cast_to(tensor, tensor.dtype if tensor.dtype.kind in "fc" else np.float64)


def real_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The real dtype of the same precision."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


class System:
    """The equation dy/dt = f(y, t, *args) over the leaves of y, in y's own dtypes."""

    def __init__(self, f: Callable[..., Any], y0: Any, args: Sequence[Any]) -> None:
        leaves, self.structure = flatten(y0, is_list_of_numbers)
        self._f, self._args = f, args
        self._names = leaf_paths(self.structure, "y0")
        if not leaves:
            raise TypeError(f"odeint: y0 holds no arrays{at(user_line())}")
        self.start: Leaves = [floating(v, name) for v, name in zip(leaves, self._names, strict=True)]

    def nest(self, leaves: Sequence[Any]) -> Any:
        """The leaves in the nest of y0."""
        return unflatten(self.structure, leaves)

    def constant(self) -> System:
        """The same equation, taken as a constant by derivatives as far as y0 and args go."""
        return System(self._f, self.nest([stop_gradient(y) for y in self.start]), map_leaves(_stopped, self._args))

    def per_leaf(self, value: Any, name: str) -> list[Any]:
        """A setting for each leaf: one for all of them, or a nest like y0."""
        given, structure = flatten(value)
        if structure == self.structure:
            return given
        if len(given) == 1:
            return given * len(self.start)
        return arrange(value, self.structure, f"odeint: {name}")

    def slope(self, leaves: Sequence[Tensor], t: Tensor) -> Leaves:
        """dy/dt, in the dtypes and shapes of y."""
        result = self._f(self.nest(leaves), t, *self._args)
        try:
            given = arrange(result, self.structure, "odeint: the result of f")
        except ValueError as error:
            raise TypeError(f"{error}; f must return dy/dt in the nest of y0{at(user_line())}") from None
        return [self._like(value, leaf, name)
                for value, leaf, name in zip(given, leaves, self._names, strict=True)]

    def _like(self, value: Any, leaf: Tensor, name: str) -> Tensor:
        try:
            tensor = asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"odeint: f returned a {type(value).__name__} for {name}, wanted an array of shape "
                            f"{show_shape(leaf.shape)}{at(user_line())}") from error
        if not np.can_cast(tensor.dtype, leaf.dtype, "same_kind"):
            raise DtypeError(f"odeint: {name} is {leaf.dtype}, but f returned {tensor.dtype} for its derivative; start "
                             f"with y0 of that dtype{at(user_line())}")
        message = functools.partial(_reshaped, name, leaf, tensor)
        if tensor.ndim != leaf.ndim:
            raise ShapeError(message() + at(user_line()))
        for own, new in zip(leaf.spec.shape, tensor.spec.shape, strict=True):
            require_equal(own, new, message)
        return cast_to(tensor, leaf.dtype)


def _reshaped(name: str, leaf: Tensor, tensor: Tensor) -> str:
    return (f"odeint: {name} has shape {show_shape(leaf.shape)}, but f returned shape {show_shape(tensor.shape)} for "
            f"its derivative")


def combined(h: Tensor, slopes: Sequence[Leaves], weights: Sequence[float]) -> Leaves:
    """``h * sum of weight * slope`` for each leaf, in its dtype."""
    chosen = [(k, w) for k, w in zip(slopes, weights, strict=True) if w]
    result = []
    for parts in zip(*(k for k, _ in chosen), strict=True):
        terms = [part if weight == 1.0 else weight * part for part, (_, weight) in zip(parts, chosen, strict=True)]
        result.append(cast_to(h, real_of(parts[0].dtype)) * functools.reduce(operator.add, terms))
    return result


def moved(leaves: Leaves, h: Tensor, slopes: Sequence[Leaves], weights: Sequence[float]) -> Leaves:
    """``y + h * sum of weight * slope`` for each leaf."""
    return [y + rise for y, rise in zip(leaves, combined(h, slopes, weights), strict=True)]

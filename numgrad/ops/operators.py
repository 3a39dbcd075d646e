"""Python's operators, methods and properties of tensors, installed on the class by the names of public functions."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor
from numgrad.types import Size

__all__ = ["install"]

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "divmod": "divmod",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_UNARY = {"neg": "negative", "pos": "positive", "invert": "bitwise_invert", "abs": "abs"}

# Methods whose arguments are those of the function; the array comes first.
_METHODS = """all any argmax argmin argsort clip conj conjugate cumprod cumsum diagonal dot flatten max mean min prod
ravel repeat
round searchsorted sort squeeze std sum swapaxes take trace var""".split()
_PROPERTIES = {"real": "real", "imag": "imag", "mT": "matrix_transpose"}


@functools.cache
def function_of(name: str) -> Callable[..., Any]:
    """The public function of a family; looked up when called, because families are imported one after another."""
    return getattr(importlib.import_module("numgrad.ops"), name)  # type: ignore[no-any-return]


def _is_operand(value: Any) -> bool:
    return isinstance(value, (Tensor, Size, bool, int, float, complex, np.ndarray, np.generic, list, tuple)) or hasattr(
        type(value), "__tensor__")


def _forward(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if other.__class__ is Tensor or _is_operand(other):
            return function_of(name)(self, other)
        return NotImplemented

    return method


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return function_of(name)(other, self) if _is_operand(other) else NotImplemented

    return method


def _unary(name: str) -> Callable[..., Any]:
    def method(self: Any) -> Any:
        return function_of(name)(self)

    return method


def _method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function_of(name)(self, *args, **kwargs)

    return method


def _power(self: Tensor, other: Any) -> Any:
    if not _is_operand(other):
        return NotImplemented
    if isinstance(other, float) and other == 0.5 and self.dtype.kind in "fc":
        return function_of("sqrt")(self)  # as NumPy's own operator does
    return function_of("power")(self, other)


def _varied(args: tuple[Any, ...]) -> Any:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    return args[0] if len(args) == 1 else args


def _reshape(self: Tensor, *shape: Any, order: str = "C") -> Tensor:
    return function_of("reshape")(self, _varied(shape), order=order)  # type: ignore[no-any-return]


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    wanted = _varied(axes) if axes else None
    if wanted is None:
        wanted = tuple(range(self.ndim))[::-1]
    return function_of("permute_dims")(self, wanted)  # type: ignore[no-any-return]


def _astype(self: Tensor, dtype: Any, *, copy: bool = True) -> Tensor:
    return function_of("astype")(self, dtype, copy=copy)  # type: ignore[no-any-return]


def _copy(self: Tensor) -> Tensor:
    return function_of("positive")(self) if self.dtype.kind != "b" else self  # type: ignore[no-any-return]


def _getitem(self: Tensor, key: Any) -> Tensor:
    return importlib.import_module("numgrad.ops.indexing").getitem(as_tensor(self), key)  # type: ignore[no-any-return]


def _setitem(self: Tensor, key: Any, value: Any) -> None:
    raise DtypeError(
        f"tensors are immutable: x[...] = value cannot change {self!r}; make a new array with ng.where or "
        f"ng.index_update{at(user_line())}"
    )


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if not self.shape:
        raise DtypeError(f"iteration over a 0-d tensor{at(user_line())}")
    return iter([self[i] for i in range(len(self))])


def _item(self: Tensor, *index: Any) -> Any:
    return self.numpy().item(*index)


def _tolist(self: Tensor) -> Any:
    return self.numpy().tolist()


def install(tensor: type[Any] = Tensor) -> None:
    """Give the class of tensors NumPy's operators, methods and properties; hashing stays by identity."""
    for short, name in _BINARY.items():
        setattr(tensor, f"__{short}__", _forward(name))
        setattr(tensor, f"__r{short}__", _reflected(name))
    for short, name in _COMPARISONS.items():
        setattr(tensor, f"__{short}__", _forward(name))
    for short, name in _UNARY.items():
        setattr(tensor, f"__{short}__", _unary(name))
    for name in _METHODS:
        setattr(tensor, name, _documented(_method(name), name))
    for short, name in _PROPERTIES.items():
        setattr(tensor, short, property(_unary(name), doc=f"See ``ng.{name}``."))
    others: dict[str, Any] = {
        "__pow__": _power,
        "__rpow__": _reflected("power"),
        "__getitem__": _getitem,
        "__setitem__": _setitem,
        "__iter__": _iterate,
        "T": property(_transpose, doc="The axes in reverse order."),
        "reshape": _reshape,
        "transpose": _transpose,
        "astype": _astype,
        "copy": _copy,
        "item": _item,
        "tolist": _tolist,
    }
    for name, method in others.items():
        setattr(
            tensor, name, method if name.startswith("__") or isinstance(method, property) else _documented(method, name)
        )


def _documented(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"As NumPy's ``ndarray.{name}``; see ``ng.{name}``."
    return method

"""NumPy functions of tensors that have no function of their own in the library, composed of those that have."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor
from numgrad.ops.kinds import normalize_axis
from numgrad.types import Size

__all__ = ["COMPOSED"]

COMPOSED: dict[str, Callable[..., Any]] = {}


def _enter(function: Callable[..., Any]) -> Callable[..., Any]:
    COMPOSED[function.__name__] = function
    return function


class _Ops:
    """The public functions of all families, by name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("numgrad.ops"), name)


ops = _Ops()


@_enter
def copy(a: Any) -> Tensor:
    return ops.where(True, a, a) if as_tensor(a).dtype.kind == "b" else ops.positive(a)  # type: ignore[no-any-return]


@_enter
def append(arr: Any, values: Any, axis: int | None = None) -> Tensor:
    if axis is None:
        arr, values, axis = ops.ravel(arr), ops.ravel(values), 0
    return ops.concat([arr, values], axis=axis)  # type: ignore[no-any-return]


@_enter
def array_equal(a1: Any, a2: Any) -> Any:
    a, b = as_tensor(a1), as_tensor(a2)
    if a.ndim != b.ndim or any(
            isinstance(m, int) and isinstance(n, int) and m != n for m, n in zip(a.shape, b.shape, strict=True)):
        return as_tensor(np.False_)
    return ops.all(ops.equal(a, b))


@_enter
def average(a: Any, axis: Any = None, weights: Any = None, *, keepdims: bool = False) -> Tensor:
    if weights is None:
        return ops.mean(a, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]
    x, w = as_tensor(a), as_tensor(weights)
    if w.ndim != x.ndim and w.ndim == 1 and isinstance(axis, int):
        w = ops.reshape(w, tuple(w.shape[0] if i == axis % x.ndim else 1 for i in range(x.ndim)))
    total = ops.sum(ops.multiply(x, w), axis=axis, keepdims=keepdims)
    return ops.divide(total, ops.sum(ops.broadcast_to(w, x.shape), axis=axis, keepdims=keepdims))  # type: ignore[no-any-return]


@_enter
def diff(a: Any, n: int = 1, axis: int = -1) -> Tensor:
    x: Any = as_tensor(a)
    axis = normalize_axis(axis, x.ndim, "diff")
    for _ in range(n):
        after = x[tuple(slice(1, None) if i == axis else slice(None) for i in range(x.ndim))]
        before = x[tuple(slice(None, -1) if i == axis else slice(None) for i in range(x.ndim))]
        x = ops.not_equal(after, before) if x.dtype.kind == "b" else ops.subtract(after, before)
    return x  # type: ignore[no-any-return]


@_enter
def ptp(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return ops.subtract(ops.max(a, axis=axis, keepdims=keepdims), ops.min(a, axis=axis, keepdims=keepdims))  # type: ignore[no-any-return]


@_enter
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    values: Any = as_tensor(y)
    axis = normalize_axis(axis, values.ndim, "trapezoid")
    after = values[tuple(slice(1, None) if i == axis else slice(None) for i in range(values.ndim))]
    before = values[tuple(slice(None, -1) if i == axis else slice(None) for i in range(values.ndim))]
    step: Any = dx
    if x is not None:
        places = as_tensor(x)
        step = diff(places, axis=-1 if places.ndim == 1 else axis)
        if places.ndim == 1 and values.ndim > 1:
            step = ops.reshape(step, tuple(step.shape[0] if i == axis else 1 for i in range(values.ndim)))
    return ops.sum(ops.multiply(ops.multiply(ops.add(after, before), 0.5), step), axis=axis)  # type: ignore[no-any-return]


def _without_nan(a: Any, fill: float) -> Tensor:
    x = as_tensor(a)
    return ops.where(ops.isnan(x), fill, x) if x.dtype.kind in "fc" else x  # type: ignore[no-any-return]


@_enter
def nansum(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    return ops.sum(_without_nan(a, 0.0), axis=axis, dtype=dtype, keepdims=keepdims)  # type: ignore[no-any-return]


@_enter
def nanprod(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    return ops.prod(_without_nan(a, 1.0), axis=axis, dtype=dtype, keepdims=keepdims)  # type: ignore[no-any-return]


@_enter
def nanmean(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    count = ops.sum(ops.logical_not(ops.isnan(a)), axis=axis, keepdims=keepdims)
    return ops.divide(nansum(a, axis, keepdims=keepdims), ops.astype(count, as_tensor(a).dtype))  # type: ignore[no-any-return]


@_enter
def nanmax(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return _nan_extremum("max", a, -np.inf, axis, keepdims)


@_enter
def nanmin(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return _nan_extremum("min", a, np.inf, axis, keepdims)


def _nan_extremum(name: str, a: Any, fill: float, axis: Any, keepdims: bool) -> Tensor:
    found = getattr(ops, name)(_without_nan(a, fill), axis=axis, keepdims=keepdims)
    if as_tensor(a).dtype.kind != "f":
        return found  # type: ignore[no-any-return]
    return ops.where(ops.all(ops.isnan(a), axis=axis, keepdims=keepdims), np.nan, found)  # type: ignore[no-any-return]


@_enter
def polyval(p: Any, x: Any) -> Tensor:
    coefficients = as_tensor(p)
    if coefficients.ndim != 1 or not isinstance(coefficients.shape[0], (int, Size)):
        raise ShapeError(f"np.polyval: got coefficients with {coefficients.ndim} axes, wanted one{at(user_line())}")
    powers = ops.flip(ops.arange(coefficients.shape[0]))
    return ops.sum(ops.multiply(coefficients, ops.power(ops.expand_dims(x, axis=-1), powers)), axis=-1)  # type: ignore[no-any-return]


@_enter
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tensor:
    result = default
    for condition, choice in zip(reversed(list(condlist)), reversed(list(choicelist)), strict=True):
        result = ops.where(condition, choice, result)
    return result  # type: ignore[no-any-return]


@_enter
def diagflat(v: Any, k: int = 0) -> Tensor:
    return ops.diag(ops.ravel(v), k)  # type: ignore[no-any-return]


@_enter
def cov(m: Any, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Tensor:
    x = ops.atleast_2d(m)
    x = x if rowvar or as_tensor(m).ndim == 1 else ops.matrix_transpose(x)
    centred = ops.subtract(x, ops.mean(x, axis=1, keepdims=True))
    taken = (0 if bias else 1) if ddof is None else ddof
    product = ops.matmul(centred, ops.conj(ops.matrix_transpose(centred)))
    return ops.squeeze(ops.divide(product, x.shape[1] - taken)) if as_tensor(m).ndim == 1 else ops.divide(  # type: ignore[no-any-return]
        product, x.shape[1] - taken)


def _splitter(name: str, axis: int) -> None:
    def function(ary: Any, indices_or_sections: Any) -> Any:
        return ops.split(ary, indices_or_sections, axis=0 if as_tensor(ary).ndim == 1 else axis)

    COMPOSED[name] = function


_splitter("hsplit", 1)
_splitter("vsplit", 0)
_splitter("dsplit", 2)


@_enter
def fix(x: Any) -> Tensor:
    return ops.trunc(x)  # type: ignore[no-any-return]


@_enter
def isposinf(x: Any) -> Tensor:
    return ops.equal(x, np.inf)  # type: ignore[no-any-return]


@_enter
def isneginf(x: Any) -> Tensor:
    return ops.equal(x, -np.inf)  # type: ignore[no-any-return]


@_enter
def iscomplexobj(x: Any) -> bool:
    return as_tensor(x).dtype.kind == "c"


@_enter
def isrealobj(x: Any) -> bool:
    return as_tensor(x).dtype.kind != "c"


@_enter
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    return np.result_type(*(a.dtype if isinstance(a, Tensor) else a for a in arrays_and_dtypes))


@_enter
def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, Tensor) else from_, to, casting)  # type: ignore[arg-type]

"""Means and spreads, and sums of exponentials: `mean var std logsumexp softmax log_softmax`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to, define, normalize_axes, normalize_axis, times
from numgrad.ops.reduction import floating, infer_reduction, keep, reduce, spread
from numgrad.types import Dim, Size, Spec, same_size, size_max, size_product

__all__ = ["logsumexp", "mean", "std", "var"]


# -- moments
def _number(value: Dim, dtype: Any) -> Tensor:
    """A size as a scalar tensor of `dtype`."""
    return cast_to(value.tensor(), dtype) if isinstance(value, Size) else as_tensor(np.asarray(value, dtype))


def _working(x: Tensor) -> tuple[Tensor, np.dtype[Any]]:
    """`x` in the dtype in which moments add up (float32 for float16), and the dtype of the result."""
    return cast_to(x, np.float32) if x.dtype == np.float16 else x, x.dtype


def mean(x: Any, /, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over axes.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    axis : int or tuple of int, optional
        Axes to average over, negative ones from the end; all of them by default.
    dtype : data type, optional
        Floating or complex; by default that of `x`, or float64 for integers and bools.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        NaN where there are no elements. float16 is added up in float32.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.
    DtypeError
        For a `dtype` that is neither floating nor complex.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.mean([[1.0, 2.0], [3.0, 6.0]], axis=1).numpy()
    array([1.5, 4.5])
    """
    tensor, wanted = _working(floating(x, dtype, "mean"))
    axes = normalize_axes(axis, tensor.ndim, "mean")
    return keep(cast_to(_mean(tensor, axes), wanted), axes, keepdims)


def _mean(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    number = size_product(tensor.shape[a] for a in axes)
    return apply("divide", reduce("sum", tensor, axes), _number(number, tensor.dtype))


def _centred(x: Any, axis: Any, dtype: Any, correction: Any, ddof: Any, op: str) -> tuple[Any, ...]:
    """Deviations from the mean, their axes, the divisor of their squares, and the dtype of the result."""
    tensor, wanted = _working(floating(x, dtype, op))
    axes = normalize_axes(axis, tensor.ndim, op)
    if correction is not None and ddof is not None:
        raise DtypeError(f"{op}: got both correction={correction} and ddof={ddof}; they are two names of one number"
                         f"{at(user_line())}")
    less = correction if correction is not None else ddof if ddof is not None else 0
    number = size_product(tensor.shape[a] for a in axes)
    real = real_dtype(tensor.dtype)
    if isinstance(number, int) or int(less) == less:
        left = number - (less if isinstance(number, int) else int(less))
        divisor = _number(size_max(left, 0) if isinstance(left, Size) else max(left, 0), real)
    else:
        left = apply("subtract", _number(number, real), as_tensor(np.asarray(less, real)))
        divisor = apply("maximum", left, as_tensor(np.zeros((), real)))
    away = apply("subtract", tensor, spread(_mean(tensor, axes), axes, tensor.spec.shape))
    return away, axes, divisor, real_dtype(wanted)


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the parts of a complex number; a real dtype itself."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def squares(x: Tensor) -> Tensor:
    """The squared absolute values, real."""
    if x.dtype.kind == "c":
        return apply("add", apply("square", apply("real", x)), apply("square", apply("imag", x)))
    return apply("square", x)


_MOMENT = """{what} over axes.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    axis : int or tuple of int, optional
        Axes to look along, negative ones from the end; all of them by default.
    dtype : data type, optional
        In which it is computed; by default that of `x`, or float64 for integers and bools.
    ddof, correction : int or float, optional
        Two names for what is taken off the number of elements in the divisor; 0 by default.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        Real; NaN or infinite where the divisor is not positive. float16 is computed in float32.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.
    DtypeError
        For a `dtype` that is neither floating nor complex, and when both `ddof` and `correction` are given.

    Notes
    -----
    {mathematics}

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([1.0, 3.0, 5.0, 7.0]).numpy()
    array({first})
    >>> ng.{name}([1.0, 3.0, 5.0, 7.0], correction=3).numpy()
    array({second})
    """


def var(x: Any, /, axis: Any = None, dtype: Any = None, ddof: Any = None, keepdims: bool = False, *,
        correction: Any = None) -> Tensor:
    away, axes, divisor, wanted = _centred(x, axis, dtype, correction, ddof, "var")
    return keep(cast_to(apply("divide", reduce("sum", squares(away), axes), divisor), wanted), axes, keepdims)


def std(x: Any, /, axis: Any = None, dtype: Any = None, ddof: Any = None, keepdims: bool = False, *,
        correction: Any = None) -> Tensor:
    away, axes, divisor, wanted = _centred(x, axis, dtype, correction, ddof, "std")
    length = apply("norm2", away, axes=axes)  # its gradient at equal elements is 0, where that of a root is infinite
    return keep(cast_to(apply("divide", length, apply("sqrt", divisor)), wanted), axes, keepdims)


var.__doc__ = _MOMENT.format(what="Variance", name="var", first="5.", second="20.", mathematics=(
    "``sum(|x - mean(x)|**2) / max(n - correction, 0)`` in two passes."))
std.__doc__ = _MOMENT.format(
    what="Standard deviation", name="std", first="2.23606798", second="4.47213595", mathematics=(
        "``sqrt(sum(|x - mean(x)|**2) / max(n - correction, 0))``. The gradient is 0 where all elements are equal."))


# -- sums of exponentials
def _finite(values: Tensor) -> Tensor:
    """`values` with 0 for -inf, NaN and inf: what exponents may be shifted by."""
    return apply("where", apply("isfinite", values), values, apply("zeros_like", values))


def _above_nothing(values: Tensor) -> Tensor:
    """`values` with 0 for -inf, so that the share of -inf in a sum of nothing is ``exp(-inf - 0) = 0``."""
    lowest = as_tensor(np.asarray(-np.inf, values.dtype))
    return apply("where", apply("equal", values, lowest), apply("zeros_like", values), values)


def _evaluate_logsumexp(x: Any, axes: tuple[int, ...]) -> Any:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    top = np.max(wide, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, wide.dtype.type(0))
    total = np.sum(np.exp(wide - top), axis=axes, keepdims=True)
    return np.squeeze(np.log(total) + top, axis=axes).astype(x.dtype)


def _decompose_logsumexp(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    if _empty(x, axes):
        return apply("log", reduce("sum", x, axes))
    top = _finite(reduce("max", x, axes))
    shifted = apply("subtract", x, spread(top, axes, x.spec.shape))
    return apply("add", apply("log", reduce("sum", apply("exp", shifted), axes)), top)


def _vjp_logsumexp(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (x,), (y,), (g,), axes = op.inputs, op.outputs, cts, op.attrs["axes"]
    shape = x.spec.shape
    share = apply("exp", apply("subtract", x, spread(_above_nothing(y), axes, shape)))
    return [times(spread(g, axes, shape), share)]


def _infer_softmax(name: str) -> Any:
    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        infer_reduction(name, "f")(specs, {"axes": (attrs["axis"],)})
        return (specs[0],)

    return infer


def _empty(x: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether there is certainly nothing along the axes: then there is no largest element."""
    return any(same_size(x.shape[a], 0) for a in axes)


def _shifted(x: Tensor, axis: int) -> Tensor:
    if _empty(x, (axis,)):
        return x
    return apply("subtract", x, spread(apply("max", x, axes=(axis,)), (axis,), x.spec.shape))


def _over(x: Tensor, axis: int) -> Tensor:
    """Sum along an axis, repeated along it."""
    return spread(apply("sum", x, axes=(axis,)), (axis,), x.spec.shape)


def _evaluate_softmax(x: Any, axis: int) -> Any:
    powers, total = _exponentials(x, axis)[1:]
    return (powers / total).astype(x.dtype)


def _evaluate_log_softmax(x: Any, axis: int) -> Any:
    shifted, _, total = _exponentials(x, axis)
    return (shifted - np.log(total)).astype(x.dtype)


def _exponentials(x: Any, axis: int) -> tuple[Any, Any, Any]:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    shifted = wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    powers = np.exp(shifted)
    return shifted, powers, np.sum(powers, axis=axis, keepdims=True)


def _decompose_softmax(x: Tensor, axis: int) -> Tensor:
    powers = apply("exp", _shifted(x, axis))
    return apply("divide", powers, _over(powers, axis))


def _decompose_log_softmax(x: Tensor, axis: int) -> Tensor:
    shifted = _shifted(x, axis)
    return apply("subtract", shifted, apply("log", _over(apply("exp", shifted), axis)))


def _vjp_softmax(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (y,), (g,), axis = op.outputs, cts, op.attrs["axis"]
    return [times(apply("subtract", g, _over(times(g, y), axis)), y)]


def _vjp_log_softmax(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (y,), (g,), axis = op.outputs, cts, op.attrs["axis"]
    return [apply("subtract", g, times(_over(g, axis), apply("exp", y)))]


def _samples(attribute: str) -> Any:
    def samples(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
        x = rng.standard_normal((2, 3, 4))
        found = [(x, 0), (x, 1), (x, 2), (x[0, :, ::2].T, 1), (x[0, 0], 0), (x * 400, 2), (x[:, :0], 2), (x[:, :0], 0),
                 (rng.standard_normal((3, 70)), 1), (x.astype(np.float32), 1), (x.astype(np.float16), 2),
                 (np.array([[0.0, -np.inf, 2.0], [np.nan, 0.0, 1.0]]), 1)]
        if attribute == "axis":
            return [([array], {"axis": axis}) for array, axis in found]
        more = [(x, (0, 2)), (x, (0, 1, 2)), (x[0, 0, 0], ()), (x[:, :0], (1,)), (np.full((2, 2), -np.inf), (1,)),
                (np.array([np.inf, 1.0, -np.inf]), (0,))]
        return [([array], {"axes": (axis,)}) for array, axis in found] + [([a], {"axes": axes}) for a, axes in more]

    return samples


define("logsumexp", "general", infer_reduction("logsumexp", "f"), _evaluate_logsumexp, vjp=_vjp_logsumexp,
       decompose=_decompose_logsumexp, dtypes="f", samples=_samples("axes"), public="logsumexp",
       doc="Logarithm of the sum of exponentials over axes.")
define("softmax", "general", _infer_softmax("softmax"), _evaluate_softmax, vjp=_vjp_softmax, dtypes="f",
       decompose=_decompose_softmax, samples=_samples("axis"), public="nn.softmax",
       doc="Exponentials along an axis, divided by their sum.")
define("log_softmax", "general", _infer_softmax("log_softmax"), _evaluate_log_softmax, vjp=_vjp_log_softmax, dtypes="f",
       decompose=_decompose_log_softmax, samples=_samples("axis"), public="nn.log_softmax",
       doc="Logarithm of the softmax along an axis.")


def logsumexp(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of exponentials over axes, safe from overflow.

    Parameters
    ----------
    x : array_like
        Real, any shape; integers and bools become float64.
    axis : int or tuple of int, optional
        Axes to add over, negative ones from the end; all of them by default.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        ``-inf`` where there is nothing to add or all elements are ``-inf``; ``inf`` where one is; NaN where one is.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.
    DtypeError
        For complex input.

    Notes
    -----
    ``m + log(sum(exp(x - m)))`` with m the largest element. The derivative is the softmax.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.logsumexp([1000.0, 1000.0]).numpy()
    array(1000.69314718)
    """
    tensor = floating(x, None, "logsumexp", "f")
    axes = normalize_axes(axis, tensor.ndim, "logsumexp")
    return keep(reduce("logsumexp", tensor, axes), axes, keepdims)


_SOFTMAX = """{what} along an axis.

    Parameters
    ----------
    x : array_like
        Real, at least one axis; integers and bools become float64.
    axis : int
        The last one by default.

    Returns
    -------
    Tensor
        Of `x`'s shape; NaN along a row that is all ``-inf``, or holds ``inf`` or NaN.

    Raises
    ------
    ShapeError
        For an axis out of range.
    DtypeError
        For complex input.

    Notes
    -----
    {mathematics}

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nn.{name}([0.0, 0.0, 0.0, 0.0]).numpy()
    array([{example}])
    """


def softmax(x: Any, /, axis: int = -1) -> Tensor:
    tensor = floating(x, None, "softmax", "f")
    return apply("softmax", tensor, axis=normalize_axis(axis, tensor.ndim, "softmax"))


def log_softmax(x: Any, /, axis: int = -1) -> Tensor:
    tensor = floating(x, None, "log_softmax", "f")
    return apply("log_softmax", tensor, axis=normalize_axis(axis, tensor.ndim, "log_softmax"))


softmax.__doc__ = _SOFTMAX.format(what="Softmax", name="softmax", example="0.25, 0.25, 0.25, 0.25", mathematics=(
    "``exp(x - m) / sum(exp(x - m))`` with m the largest element."))
log_softmax.__doc__ = _SOFTMAX.format(
    what="Logarithm of the softmax", name="log_softmax",
    example="-1.38629436, -1.38629436, -1.38629436, -1.38629436",
    mathematics="``x - m - log(sum(exp(x - m)))`` with m the largest element: small probabilities keep their digits.")

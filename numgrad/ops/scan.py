"""Cumulative ops along an axis: running sums, products and sums of exponentials, and linear recurrences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import define, normalize_axis, times
from numgrad.ops.matmul import conjugate, reshape_to
from numgrad.ops.reduction import accumulated, floating, require_kind
from numgrad.types import Dim, Spec, require_equal, size_product

__all__ = ["cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "logcumsumexp"]


# -- pieces that the ops along one axis share
def lanes(spec: Spec, axis: int) -> tuple[Dim, Dim, Dim]:
    """How many elements lie before, along and after an axis of a C-contiguous array."""
    return size_product(spec.shape[:axis]), spec.shape[axis], size_product(spec.shape[axis + 1:])


def flat_or_axis(tensor: Tensor, axis: Any, op: str) -> tuple[Tensor, int]:
    """The tensor and a non-negative axis; without an axis the tensor is flattened, as NumPy does."""
    if axis is None:
        return reshape_to(tensor, (tensor.size,)), 0
    return tensor, normalize_axis(axis, tensor.ndim, op)


def rows(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Dim:
    return lanes(ins[0], attrs["axis"])[0]


def scan_library(name: str) -> Library:
    def sizes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
        flags = [int(attrs[key]) for key in ("reverse", "exclusive") if key in attrs]
        return (*lanes(ins[0], attrs["axis"])[1:], *flags)

    return Library(name, sizes=sizes, span=rows, dtypes=lambda ins, outs, attrs: [ins[0].dtype], parallel=True)


def _infer(name: str, dtypes: str) -> Any:
    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        require_kind(specs[0], dtypes, name)
        return (specs[0],)

    return infer


def along(step: Callable[[Any, int], Any], x: Any, axis: int, reverse: bool, exclusive: bool, start: Any) -> Any:
    """A running NumPy function from either end; `exclusive` leaves each element itself out."""
    view = np.flip(x, axis) if reverse else x
    result = step(view, axis)
    if exclusive:
        moved = np.moveaxis(result, axis, 0)
        moved = np.concatenate([np.full_like(moved[:1], start), moved[:-1]])
        result = np.moveaxis(moved, 0, axis)
    return np.flip(result, axis) if reverse else result


def scan_samples(dtypes: str, two: bool = False, exclusive: bool = True) -> Any:
    """Arrays of each shape and dtype; the first also with each direction."""

    def samples(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
        x = rng.uniform(0.5, 1.5, (2, 3, 4)) * rng.choice([-1.0, 1.0], (2, 3, 4))
        flags: list[dict[str, bool]] = [{"reverse": r} for r in (False, True)]
        if exclusive:
            flags = [{**f, "exclusive": e} for f in flags for e in (False, True)]
        found = [(x, {"axis": axis, **f}) for axis in range(3) for f in flags]
        others: list[Any] = [(x[0, 0], 0), (x[:, :, ::2].T, 1), (x[:, :0], 1), (x[:, :0], 2), (x[:, :1], 1),
                  (rng.uniform(0.9, 1.1, 100), 0), (x.astype(np.float32), 1), (x.astype(np.float16), 2),
                  (x.astype(">f8"), 0),
                  (np.array([0.0, 2.0, 3.0, np.inf, np.nan, 1.0]), 0), (np.array([-np.inf, -np.inf, 1.0, 1.0]), 0)]
        if "c" in dtypes:
            others += [(x + 1j * x[::-1], 1), ((x - 2j).astype(np.complex64), 2)]
        if "i" in dtypes:
            others += [((x * 9).astype(name), 1) for name in ("int8", "int32", "int64")]
            others += [(np.abs(x * 9).astype(name), 2) for name in ("uint8", "uint64")]
        found += [(array, {"axis": axis, **flags[i % len(flags)]}) for i, (array, axis) in enumerate(others)]
        return [([array[::-1], array] if two else [array], attrs) for array, attrs in found]

    return samples


# -- the linear recurrence that derivatives of running products are made of
def _infer_linear_scan(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    a, b = specs
    require_kind(a, "iufc", "linear_scan")
    if a.dtype != b.dtype or a.ndim != b.ndim:
        raise ShapeError(f"linear_scan: got {a} and {b}, wanted equal shapes and dtypes{at(user_line())}")
    for x, y in zip(a.shape, b.shape, strict=True):
        require_equal(x, y, lambda: f"linear_scan: got {a} and {b}, wanted equal shapes")
    return (b,)


def _evaluate_linear_scan(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    a, b = (np.moveaxis(np.flip(v, axis) if reverse else v, axis, 0) for v in (a, b))
    result = np.zeros_like(b)
    for k in range(1, len(b)):
        result[k] = a[k - 1] * result[k - 1] + b[k - 1]
    result = np.moveaxis(result, 0, axis)
    return np.flip(result, axis) if reverse else result


def linear_scan(a: Tensor, b: Tensor, axis: int, reverse: bool) -> Tensor:
    """``y[0] = 0``, ``y[k + 1] = a[k] y[k] + b[k]`` along an axis, from its end if `reverse`."""
    return apply("linear_scan", a, b, axis=axis, reverse=reverse)


def _vjp_linear_scan(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    # y[j] = sum over i < j of b[i] prod over i < k < j of a[k]: its transpose is the same recurrence from the other end
    (a, _), (y,), (g,) = op.inputs, op.outputs, cts
    back = linear_scan(conjugate(a), g, op.attrs["axis"], not op.attrs["reverse"])
    return [times(back, conjugate(y)), back]


define("linear_scan", "general", _infer_linear_scan, _evaluate_linear_scan, vjp=_vjp_linear_scan, dtypes="iufc",
       library=scan_library("linear_scan"), samples=scan_samples("iufc", two=True, exclusive=False),
       doc="First-order linear recurrence along an axis, starting from zero.")


def _back(factors: Tensor, g: Tensor, axis: int, reverse: bool, exclusive: bool) -> Tensor:
    """``sum over k >= j of g[k] prod over j < i <= k of factors[i]``; if `exclusive`, k > j and i < k."""
    if exclusive:
        return linear_scan(factors, g, axis, not reverse)
    return apply("add", g, linear_scan(factors, times(g, factors), axis, not reverse))


# -- the ops
def _vjp_cumsum(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (g,) = cts
    return [apply("cumsum", g, **{**op.attrs, "reverse": not op.attrs["reverse"]})]


def _vjp_cumprod(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (x,), (g,) = op.inputs, cts
    before = apply("cumprod", x, **{**op.attrs, "exclusive": True})
    return [times(_back(conjugate(x), g, **op.attrs), conjugate(before))]


def _vjp_logcumsumexp(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    """Products of ``exp(y[k - 1] - y[k])``, none above 1, carry cotangents back: nothing overflows."""
    (x,), (g,) = op.inputs, cts
    inclusive, before = (apply("logcumsumexp", x, **{**op.attrs, "exclusive": e}) for e in (False, True))
    lowest = as_tensor(np.asarray(-np.inf, x.dtype))
    level = apply("where", apply("equal", inclusive, lowest), apply("zeros_like", inclusive), inclusive)
    share, ratio = (apply("exp", apply("subtract", part, level)) for part in (x, before))
    return [times(_back(ratio, g, **op.attrs), share)]


def _logaddexp(x: Any, axis: int) -> Any:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    return np.logaddexp.accumulate(wide, axis=axis).astype(x.dtype)


def _evaluate(step: Callable[[Any, int], Any], start: float) -> Any:
    def evaluate(x: Any, axis: int, reverse: bool, exclusive: bool) -> Any:
        return along(step, x, axis, reverse, exclusive, start)

    return evaluate


define("cumsum", "linear", _infer("cumsum", "iufc"),
       _evaluate(lambda x, axis: np.add.accumulate(x, axis=axis, dtype=x.dtype), 0), vjp=_vjp_cumsum, dtypes="iufc",
       library=scan_library("cumsum"), samples=scan_samples("iufc"), public="cumsum", doc="Running sum along an axis.")
define("cumprod", "general", _infer("cumprod", "iufc"),
       _evaluate(lambda x, axis: np.multiply.accumulate(x, axis=axis, dtype=x.dtype), 1), vjp=_vjp_cumprod,
       library=scan_library("cumprod"), samples=scan_samples("iufc"), dtypes="iufc", public="cumprod",
       doc="Running product along an axis.")
define("logcumsumexp", "general", _infer("logcumsumexp", "f"), _evaluate(_logaddexp, -np.inf), vjp=_vjp_logcumsumexp,
       library=scan_library("logcumsumexp"), samples=scan_samples("f"), dtypes="f", public="logcumsumexp",
       doc="Running logarithm of the sum of exponentials along an axis.")


# -- public functions
def _cumulative(name: str, x: Any, axis: Any, dtype: Any, reverse: bool, exclusive: bool) -> Tensor:
    tensor, number = flat_or_axis(accumulated(x, dtype), axis, name)
    return apply(name, tensor, axis=number, reverse=bool(reverse), exclusive=bool(exclusive))


_RUNNING = """Running {word} along an axis.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    axis : int, optional
        Negative ones from the end; without it the array is flattened.
    dtype : data type, optional
        Of the result, not bool; by default that of `x`, or int64 (uint64) for bools and smaller integers (unsigned
        ones).
    reverse : bool
        Whether to run from the end of the axis.
    exclusive : bool
        Whether each element itself is left out, so that the first result is {start}.

    Returns
    -------
    Tensor
        Of `x`'s shape, or 1-d without `axis`.

    Raises
    ------
    ShapeError
        For an axis out of range.
    DtypeError
        For ``dtype=bool``.

    Notes
    -----
    {mathematics}

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([1.0, 2.0, 4.0]).numpy()
    array([{first}])
    >>> ng.{name}([1.0, 2.0, 4.0], reverse=True, exclusive=True).numpy()
    array([{second}])
    """


def cumsum(x: Any, /, axis: Any = None, dtype: Any = None, *, reverse: bool = False, exclusive: bool = False) -> Tensor:
    return _cumulative("cumsum", x, axis, dtype, reverse, exclusive)


def cumprod(x: Any, /, axis: Any = None, dtype: Any = None, *, reverse: bool = False,
            exclusive: bool = False) -> Tensor:
    return _cumulative("cumprod", x, axis, dtype, reverse, exclusive)


cumsum.__doc__ = _RUNNING.format(word="sum", start="0", name="cumsum", first="1., 3., 7.", second="6., 4., 0.",
                                 mathematics="Linear: its transpose is the running sum from the other end.")
cumprod.__doc__ = _RUNNING.format(word="product", start="1", name="cumprod", first="1., 2., 8.", second="8., 4., 1.",
                                  mathematics="The derivative needs no division: it is exact at zeros, to any order.")

_STANDARD = """Running {word} along an axis, as the Array API standard has it.

    Parameters
    ----------
    x : array_like
        At least one axis, any dtype.
    axis : int, optional
        May be left out for 1-d arrays only.
    dtype : data type, optional
        Of the result; by default that of `x`, or int64 (uint64) for bools and smaller integers (unsigned ones).
    include_initial : bool
        Whether the result begins with {start}, and is longer by one along the axis.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For an axis out of range, or none for an array that is not 1-d.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.cumulative_{name}([1.0, 2.0, 4.0], include_initial=True).numpy()
    array([{example}])
    """


def _standard(name: str, start: int, x: Any, axis: Any, dtype: Any, include_initial: bool) -> Tensor:
    tensor = accumulated(x, dtype)
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"cumulative_{name[3:]}: got {tensor.spec} without an axis, which only a 1-d array may lack; "
                         f"pass axis=, or use ng.{name} to flatten{at(user_line())}")
    number = normalize_axis(0 if axis is None else axis, tensor.ndim, f"cumulative_{name[3:]}")
    result = apply(name, tensor, axis=number, reverse=False, exclusive=False)
    if not include_initial:
        return result
    shape = tensor.spec.shape
    first = apply("broadcast_to", as_tensor(np.asarray(start, tensor.dtype)),
                  shape=(*shape[:number], 1, *shape[number + 1:]))
    return apply("concat", first, result, axis=number)


def cumulative_sum(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    return _standard("cumsum", 0, x, axis, dtype, include_initial)


def cumulative_prod(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    return _standard("cumprod", 1, x, axis, dtype, include_initial)


cumulative_sum.__doc__ = _STANDARD.format(word="sum", start="0", name="sum", example="0., 1., 3., 7.")
cumulative_prod.__doc__ = _STANDARD.format(word="product", start="1", name="prod", example="1., 1., 2., 8.")

def logcumsumexp(x: Any, /, axis: Any = None, *, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """Running logarithm of the sum of exponentials along an axis, safe from overflow.

    Parameters
    ----------
    x : array_like
        Real, any shape; integers and bools become float64.
    axis : int, optional
        Negative ones from the end; without it the array is flattened.
    reverse : bool
        Whether to run from the end of the axis.
    exclusive : bool
        Whether each element itself is left out, so that the first result is ``-inf``.

    Returns
    -------
    Tensor
        Of `x`'s shape, or 1-d without `axis`.

    Raises
    ------
    ShapeError
        For an axis out of range.
    DtypeError
        For complex input.

    Notes
    -----
    ``y[k] = log(exp(x[0]) + ... + exp(x[k]))``; ``dy[k]/dx[j] = exp(x[j] - y[k])`` for j up to k.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.logcumsumexp([1000.0, 1000.0]).numpy()
    array([1000.        , 1000.69314718])
    """
    tensor, number = flat_or_axis(floating(x, None, "logcumsumexp", "f"), axis, "logcumsumexp")
    return apply("logcumsumexp", tensor, axis=number, reverse=bool(reverse), exclusive=bool(exclusive))

"""Sorting and searching: `sort argsort median top_k searchsorted`, and the distinct elements of concrete arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, apply_all, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.extrema import jvp_by_position, vjp_by_position
from numgrad.ops.kinds import cast_to, define, normalize_axes
from numgrad.ops.matmul import reshape_to
from numgrad.ops.reduction import as_rows, floating, keep
from numgrad.ops.scan import flat_or_axis, lanes
from numgrad.ops.sizes import at_least
from numgrad.ops.slicing import narrow
from numgrad.types import Dim, Size, Spec, promote, same_size, size_product

__all__ = [
    "argsort", "median", "searchsorted", "sort", "unique_all", "unique_counts", "unique_inverse", "unique_values",
]


# -- sort and top_k: values and positions
def _infer_sort(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (x,), axis = specs, attrs["axis"]
    shape = (*x.shape[:axis], attrs.get("k", x.shape[axis]), *x.shape[axis + 1:])
    return Spec(x.dtype, shape), Spec(np.dtype(np.int64), shape)


def _evaluate_sort(x: Any, axis: int, descending: bool) -> Any:
    if descending:  # equal elements stay in order: turn round, sort, and turn round again
        index = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        index = np.argsort(x, axis=axis, kind="stable")
    return np.take_along_axis(x, index, axis), index


def _evaluate_top_k(x: Any, axis: int, k: int) -> Any:
    first = (slice(None),) * axis + (slice(k),)
    return tuple(part[first] for part in _evaluate_sort(x, axis, True))


def _sort_library(kernel: str) -> Library:
    def sizes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
        return (*lanes(ins[0], attrs["axis"])[1:], attrs["k"] if "k" in attrs else int(attrs["descending"]))

    def span(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Dim:
        return lanes(ins[0], attrs["axis"])[0]

    def scratch(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[tuple[Any, Dim]]:
        (x,) = ins
        count = attrs["k"] if "k" in attrs else 2 * x.shape[attrs["axis"]]
        return (x.dtype, count), (np.dtype(np.int64), count)

    return Library(kernel, sizes=sizes, span=span, scratch=scratch, dtypes=lambda ins, outs, attrs: [ins[0].dtype])


def _samples_sort(top: bool) -> Any:
    def samples(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
        x = rng.permutation(60).reshape(3, 5, 4) * 0.25 - 7.0
        ties = rng.integers(-2, 3, (4, 50))
        odd = np.array([2.0, np.nan, -np.inf, 0.0, -0.0, np.nan, np.inf, -1.0])
        found = [(x, 0), (x, 1), (x, 2), (x.T[::2], 1), (x[0, 0], 0), (x[:, :0], 0), (x[:0], 1),
                 (rng.permutation(1000) * 0.5, 0), (odd, 0), (odd.astype(np.float16), 0), (x.astype(np.float32), 1),
                 (x.astype(">f8"), 1), (ties.astype(np.int8), 1), (ties, 0), (np.abs(ties).astype(np.uint64), 1),
                 (ties > 0, 1), (ties + 1j * ties[::-1], 1), (np.stack([odd, odd[::-1]], 1).view(complex)[:, 0], 0)]
        if top:
            return [([a], {"axis": axis, "k": k}) for a, axis in found
                    for k in sorted({0, 1, a.shape[axis] // 2, a.shape[axis]}) if k <= a.shape[axis]]
        return [([a], {"axis": axis, "descending": d}) for a, axis in found for d in (False, True)]

    return samples


define("sort", "general", _infer_sort, _evaluate_sort, vjp=vjp_by_position, jvp=jvp_by_position, public="sort",
       library=_sort_library("sort"), samples=_samples_sort(False),
       doc="Elements in order along an axis, and the positions that they came from.")
define("top_k", "general", _infer_sort, _evaluate_top_k, vjp=vjp_by_position, jvp=jvp_by_position, masks=True,
       library=_sort_library("top_k"), samples=_samples_sort(True), public="nn.top_k",
       doc="The k largest elements along an axis in falling order, and their positions.")


# -- searchsorted
def _infer_searchsorted(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    rows, values = specs
    if rows.ndim != 1:
        raise ShapeError(f"searchsorted: the sorted array is {rows}, wanted 1-d{at(user_line())}")
    if rows.dtype != values.dtype:
        raise DtypeError(f"searchsorted: got {rows} and {values}, wanted one data type{at(user_line())}")
    if attrs["side"] not in ("left", "right"):
        raise ShapeError(f"searchsorted: side is {attrs['side']!r}, wanted 'left' or 'right'{at(user_line())}")
    return (Spec(np.dtype(np.int64), values.shape),)


def _sizes_searchsorted(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
    return ins[0].shape[0], int(attrs["side"] == "right")


def _samples_searchsorted(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    steps = np.sort(rng.integers(0, 9, 20))
    values = rng.integers(-2, 11, (3, 7))
    odd = np.array([-np.inf, -1.0, 0.0, 0.0, 2.0, np.inf, np.nan, np.nan])
    pairs = [(steps * 0.5, values * 0.5), (steps.astype(np.float32), values.astype(np.float32)), (odd, odd[::-1]),
             (odd.astype(np.float16), odd.astype(np.float16)), (odd[:0], odd), (odd, odd[:0]), (odd, np.array(0.0)),
             (steps.astype(np.int8), values.astype(np.int8)),
             (steps.astype(np.uint64), np.abs(values).astype(np.uint64)), (steps > 4, values > 4),
             (np.sort(odd + 1j), odd + 1j), (steps[::-2][::-1] * 1.0, values.T[::2] * 1.0)]
    return [([a, v], {"side": side}) for a, v in pairs for side in ("left", "right")]


define("searchsorted", "general", _infer_searchsorted, lambda a, v, side: np.searchsorted(a, v, side), smooth=False,
       library=Library("searchsorted", sizes=_sizes_searchsorted, parallel=True,
                       span=lambda ins, outs, attrs: size_product(outs[0].shape),
                       dtypes=lambda ins, outs, attrs: [ins[0].dtype]),
       samples=_samples_searchsorted, public="searchsorted", doc="Where to insert values into a sorted array.")


# -- public functions
_SORT = """{what} along an axis.

    Parameters
    ----------
    x : array_like
        Any dtype, at least one axis.
    axis : int, optional
        The last one by default; None flattens the array.
    descending : bool
        Whether the largest comes first. NaN counts as larger than all numbers; complex numbers are ordered by real,
        then imaginary part.
    stable : bool
        Accepted for the Array API's sake: equal elements always keep their order.

    Returns
    -------
    Tensor
        {returns}

    Raises
    ------
    ShapeError
        For an axis out of range.

    Notes
    -----
    {mathematics}

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([3.0, 1.0, 2.0]).numpy()
    array([{first}])
    >>> ng.{name}([3.0, 1.0, 2.0], descending=True).numpy()
    array([{second}])
    """


def _sorted(op: str, x: Any, axis: Any, descending: bool) -> tuple[Tensor, ...]:
    tensor, number = flat_or_axis(as_tensor(x), axis, op)
    return apply_all("sort", tensor, axis=number, descending=bool(descending))


def sort(x: Any, /, axis: Any = -1, *, descending: bool = False, stable: bool = True) -> Tensor:
    return _sorted("sort", x, axis, descending)[0]


def argsort(x: Any, /, axis: Any = -1, *, descending: bool = False, stable: bool = True) -> Tensor:
    return _sorted("argsort", x, axis, descending)[1]


sort.__doc__ = _SORT.format(
    what="Elements in order", name="sort", first="1., 2., 3.", second="3., 2., 1.", returns="Of `x`'s dtype and shape.",
    mathematics="Each cotangent goes back to where its element came from.")
argsort.__doc__ = _SORT.format(
    what="Positions of the elements in order", name="argsort", first="1, 2, 0", second="0, 2, 1",
    returns="Of dtype int64 and `x`'s shape.", mathematics="It has no derivative.")


def top_k(x: Any, /, k: Any, axis: Any = -1) -> tuple[Tensor, Tensor]:
    """The k largest elements along an axis, in falling order, and where they are.

    Parameters
    ----------
    x : array_like
        Any dtype, at least one axis.
    k : int
        Between 0 and the size of the axis.
    axis : int
        The last one by default.

    Returns
    -------
    values, indices : Tensor
        Of `x`'s dtype, and int64. Of equal elements the first comes first; NaN counts as larger than all numbers.

    Raises
    ------
    ShapeError
        For an axis out of range, and when `k` is negative or exceeds the axis.

    Notes
    -----
    Each cotangent of `values` goes back to where its element came from.

    Examples
    --------
    >>> import numgrad as ng
    >>> values, indices = ng.nn.top_k([3.0, 1.0, 4.0, 1.0, 5.0], 2)
    >>> values.numpy(), indices.numpy()
    (array([5., 4.]), array([4, 2]))
    """
    tensor, number = flat_or_axis(as_tensor(x), axis, "top_k")
    count = k if isinstance(k, Size) else int(k.__index__())
    size = tensor.spec.shape[number]
    if not at_least(count, 0) or not at_least(size, count):
        raise ShapeError(f"top_k: k is {count}, wanted 0 to {size}, the size of axis {number} of {tensor.spec}"
                         f"{at(user_line())}")
    values, indices = apply_all("top_k", tensor, axis=number, k=count)
    return values, indices


def median(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Median over axes: the middle element in order, or the mean of the two middle ones.

    Parameters
    ----------
    x : array_like
        Any shape and dtype; integers and bools become float64.
    axis : int or tuple of int, optional
        Axes to look along, negative ones from the end; all of them by default.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        NaN where an element is, and where there are no elements.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.

    Notes
    -----
    The cotangent goes to the middle element, or half each to the two middle ones.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.median([[1.0, 9.0, 2.0], [4.0, 4.0, 8.0]], axis=1).numpy()
    array([2., 4.])
    """
    tensor = floating(x, None, "median")
    axes = normalize_axes(axis, tensor.ndim, "median")
    rows = as_rows(tensor, axes)
    along = rows.ndim - 1
    n = rows.spec.shape[along]
    if same_size(n, 0):
        total = apply("sum", rows, axes=(along,))
        return keep(apply("divide", total, apply("zeros_like", total)), axes, keepdims)
    ordered = apply_all("sort", rows, axis=along, descending=False)[0]
    low, high, last = (apply("squeeze", narrow(ordered, along, start, 1), axes=(along,))
                       for start in ((n - 1) // 2, n // 2, n - 1))
    half = as_tensor(np.asarray(0.5, tensor.dtype))
    middle = apply("add", apply("multiply", low, half), apply("multiply", high, half))
    return keep(apply("where", apply("equal", last, last), middle, last), axes, keepdims)


def searchsorted(x1: Any, x2: Any, /, side: str = "left", sorter: Any = None) -> Tensor:
    """Where to insert values into a sorted array so that it stays sorted.

    Parameters
    ----------
    x1 : array_like
        1-d, in rising order (NaN last).
    x2 : array_like
        Any shape.
    side : {"left", "right"}
        Before or after elements that are equal.
    sorter : array_like of int, optional
        Positions that sort `x1`, as `argsort` gives them.

    Returns
    -------
    Tensor
        Of dtype int64 and `x2`'s shape. It has no derivative.

    Raises
    ------
    ShapeError
        When `x1` is not 1-d, or for another `side`.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.searchsorted([1.0, 2.0, 2.0, 3.0], [2.0, 9.0]).numpy()
    array([1, 4])
    >>> ng.searchsorted([1.0, 2.0, 2.0, 3.0], 2.0, side="right").numpy()
    array(3)
    """
    ordered, values = as_tensor(x1), as_tensor(x2)
    if sorter is not None:
        ordered = apply("take_along_axis", ordered, as_tensor(sorter), axis=0)
    common = promote(ordered.dtype, values.dtype)
    return apply("searchsorted", cast_to(ordered, common), cast_to(values, common), side=side)


class UniqueAll(NamedTuple):
    """Distinct values, where each is first met, which of them each element is, and how often each occurs."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """Distinct values, and how often each occurs."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """Distinct values, and which of them each element is."""

    values: Tensor
    inverse_indices: Tensor


_UNIQUE = """Distinct elements{what}.

    Parameters
    ----------
    x : array_like
        Any shape and dtype, with a value: how many elements are distinct depends on it.

    Returns
    -------
    {returns}
        The values in rising order, 1-d; each NaN is distinct from all others. Positions and counts are int64.

    Raises
    ------
    ShapeError
        For a traced array.

    Notes
    -----
    Each value's cotangent goes to the element that is met first.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([3, 1, 3]){pick}.numpy()
    array([{example}])
    """


def unique_all(x: Any, /) -> UniqueAll:
    tensor = as_tensor(x)
    if tensor.op is not None:
        raise ShapeError(f"unique: how many elements of the traced array {tensor.spec} are distinct is known only when "
                         f"the program runs; call it on a concrete array, or use ng.sort{at(user_line())}")
    _, first, inverse, counts = np.unique(tensor.numpy(), return_index=True, return_inverse=True, return_counts=True,
                                          equal_nan=False)
    index, kinds, numbers = (as_tensor(np.asarray(part, np.int64)) for part in (first, inverse, counts))
    values = apply("take_along_axis", reshape_to(tensor, (tensor.size,)), index, axis=0)
    return UniqueAll(values, index, reshape_to(kinds, tensor.shape), numbers)


def unique_counts(x: Any, /) -> UniqueCounts:
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    return unique_all(x).values


unique_all.__doc__ = _UNIQUE.format(
    what=", where each is first met, which of them each element is, and how often each occurs", returns="UniqueAll",
    name="unique_all", pick=".indices", example="1, 0")
unique_counts.__doc__ = _UNIQUE.format(what=", and how often each occurs", returns="UniqueCounts", name="unique_counts",
                                       pick=".counts", example="1, 2")
unique_inverse.__doc__ = _UNIQUE.format(what=", and which of them each element is", returns="UniqueInverse",
                                        name="unique_inverse", pick=".inverse_indices", example="1, 0, 1")
unique_values.__doc__ = _UNIQUE.format(what="", returns="Tensor", name="unique_values", pick="", example="1, 3")

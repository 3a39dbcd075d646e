"""Running totals of any associative function: `associative_scan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.nest import flatten, unflatten
from numgrad.ops.kinds import normalize_axis
from numgrad.ops.sizes import at_least
from numgrad.tracing.loops import scan
from numgrad.tracing.variables import graph_for, like_variables, same_nest
from numgrad.types import Dim, require_equal

__all__ = ["associative_scan"]

# What combines two lists of leaves: `f` on the nests.
_Combine = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def associative_scan(f: Callable[[Any, Any], Any], xs: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Combine the first element, the first two, the first three, ... with an associative function.

    Parameters
    ----------
    f : callable
        ``f(a, b)`` takes two nests like `xs`, whose arrays hold equally many elements along `axis`, and combines them
        element by element; the result has their nest, dtypes and shapes.
    xs : nest of tensors
        Arrays with equally many elements along `axis`.
    reverse : bool
        Combine the last element, the last two, and so on: ``f`` then takes the later elements first.
    axis : int
        Where the elements lie.

    Returns
    -------
    nest of tensors
        Like `xs`: ``y[0] = x[0]``, ``y[k] = f(y[k - 1], x[k])``.

    Raises
    ------
    ShapeError
        When sizes along the axis differ, or f changes a shape.
    TypeError
        When f changes the nest or a dtype.

    Notes
    -----
    In a trace this is one loop over the elements, which does the least work and serves every size. Outside of one f is
    called about ``2 log2(n)`` times with many elements at once; results may differ in rounding. Derivatives of every
    order are those of the steps taken.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.associative_scan(np.maximum, np.array([1.0, 3.0, 2.0, 4.0])).numpy()
    array([1., 3., 3., 4.])
    """
    leaves, nest = flatten(xs)
    arrays = [as_tensor(v) for v in leaves]
    if not arrays:
        return xs
    if any(not a.shape for a in arrays):
        raise ShapeError(f"associative_scan: xs must have an axis to go along, got a scalar{at(user_line())}")
    axes = [normalize_axis(axis, a.ndim, "associative_scan") for a in arrays]
    count = arrays[0].spec.shape[axes[0]]
    for a, k in zip(arrays, axes, strict=True):
        count = require_equal(count, a.spec.shape[k], lambda: "associative_scan: xs differ in size along the axis")

    def combine(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
        found, found_nest = flatten(f(unflatten(nest, a), unflatten(nest, b)))
        same_nest(found_nest, nest, "associative_scan")
        return like_variables(found, a, [None] * len(found), "associative_scan")

    if not at_least(count, 1):
        return unflatten(nest, arrays)
    if reverse:
        arrays = [_reversed(a, k) for a, k in zip(arrays, axes, strict=True)]
    if graph_for(arrays) is None:
        arrays = _in_rounds(combine, arrays, axes, int(count))
    else:
        arrays = _in_a_loop(combine, arrays, axes)
    if reverse:
        arrays = [_reversed(a, k) for a, k in zip(arrays, axes, strict=True)]
    return unflatten(nest, arrays)


def _reversed(array: Tensor, axis: int) -> Tensor:
    return _part(array, axis, array.spec.shape[axis] - 1, array.spec.shape[axis], -1)


def _part(array: Tensor, axis: int, start: Dim, count: Dim, step: int = 1) -> Tensor:
    shape = array.spec.shape
    return apply("slice", array, start=(*(0 for _ in shape[:axis]), start, *(0 for _ in shape[axis + 1:])),
                 count=(*shape[:axis], count, *shape[axis + 1:]),
                 step=(*(1 for _ in shape[:axis]), step, *(1 for _ in shape[axis + 1:])))


def _in_a_loop(combine: _Combine, arrays: Sequence[Tensor], axes: Sequence[int]) -> list[Tensor]:
    """One element after the other."""
    count = arrays[0].spec.shape[axes[0]]
    first = [_part(a, k, 0, 1) for a, k in zip(arrays, axes, strict=True)]
    rest = [_part(a, k, 1, count - 1) for a, k in zip(arrays, axes, strict=True)]
    rows = [apply("permute_dims", a, axes=(k, *(i for i in range(a.ndim) if i != k)))
            for a, k in zip(rest, axes, strict=True)]

    def step(total: list[Tensor], row: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new = combine(total, [apply("expand_dims", r, axes=(k,)) for r, k in zip(row, axes, strict=True)])
        return new, [apply("squeeze", t, axes=(k,)) for t, k in zip(new, axes, strict=True)]

    _, stacked = scan(step, first, rows)
    result = []
    for head, rows_after, k in zip(first, stacked, axes, strict=True):
        order = (*range(1, k + 1), 0, *range(k + 1, head.ndim))
        result.append(apply("concat", head, apply("permute_dims", rows_after, axes=order), axis=k))
    return result


def _in_rounds(combine: _Combine, arrays: list[Tensor], axes: Sequence[int], count: int) -> list[Tensor]:
    """Pairs first, then the same among the results; the elements between follow from their neighbours."""
    if count < 2:
        return arrays

    def parts(values: Sequence[Tensor], start: int, number: int, step: int = 1) -> list[Tensor]:
        return [_part(v, k, start, number, step) for v, k in zip(values, axes, strict=True)]

    half = count // 2
    odd = _in_rounds(combine, combine(parts(arrays, 0, half, 2), parts(arrays, 1, half, 2)), axes, half)
    between = (count - 1) // 2
    even = parts(arrays, 0, 1)
    if between:
        later = combine(parts(odd, 0, between), parts(arrays, 2, between, 2))
        even = [apply("concat", a, b, axis=k) for a, b, k in zip(even, later, axes, strict=True)]
    return [_woven(a, b, k) for a, b, k in zip(even, odd, axes, strict=True)]


def _woven(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """The elements of two arrays in turn; `even` may have one more."""
    half = odd.shape[axis]
    pairs = apply("stack", _part(even, axis, 0, half), odd, axis=axis + 1)
    shape = odd.shape
    joined = apply("reshape", pairs, shape=(*shape[:axis], 2 * half, *shape[axis + 1:]))
    if even.shape[axis] == half:
        return joined
    return apply("concat", joined, _part(even, axis, half, 1), axis=axis)

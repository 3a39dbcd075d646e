"""Gathers and scatters along an axis: every index is checked before memory is touched, and sums run in a fixed order.

A dense array is seen as (outer, n, inner) with the indexed axis in the middle; chunks of `lo..hi` are ranges of the
outer axis (of the rows of the result in `take`), so that several threads never write to one place. An index out of
range puts 1 into the status word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad_kernels.blas import pointer_to
from numgrad_kernels.library import library
from numgrad_kernels.prelude import namespace
from numgrad_kernels.symbols import inlined

__all__: list[str] = []


def _resolver(index_dtype: np.dtype[Any]) -> Any:
    """Make ``resolve(raw, n)``: the position that an index means, or -1 if it is out of range."""
    i64 = namespace()["i64"]

    if index_dtype.kind == "u":

        @inlined
        def resolve(raw: Any, n: Any) -> Any:
            position = i64(raw)  # beyond int64 it comes out negative, which is out of range too
            return position if 0 <= position < n else i64(-1)

    else:

        @inlined
        def resolve(raw: Any, n: Any) -> Any:
            position = i64(raw)
            if position < 0:
                position += n
            return position if 0 <= position < n else i64(-1)

    return resolve


def _combiner(dtype: np.dtype[Any], add: bool) -> Any:
    """Make ``combine(out, place, values, source)``: write one element, or add it to what is there."""
    names = namespace()
    load_f16, store_f16 = names["load_f16"], names["store_f16"]

    if not add:

        @inlined
        def combine(out: Any, place: Any, values: Any, source: Any) -> None:
            out[place] = values[source]

    elif dtype == np.float16:

        @inlined
        def combine(out: Any, place: Any, values: Any, source: Any) -> None:
            store_f16(out, place, load_f16(out, place) + load_f16(values, source))

    elif dtype == np.bool_:

        @inlined
        def combine(out: Any, place: Any, values: Any, source: Any) -> None:
            out[place] |= values[source]

    else:

        @inlined
        def combine(out: Any, place: Any, values: Any, source: Any) -> None:
            out[place] += values[source]

    return combine


@library("take", family="indexing")
def take(x_dtype: np.dtype[Any], index_dtype: np.dtype[Any]) -> Callable[..., None]:
    """Gather ``out[o, j, i] = x[o, index[j], i]``; sizes outer, n, inner, m; `lo..hi` are rows (o, j)."""
    as_x, as_index, as_status = pointer_to(x_dtype), pointer_to(index_dtype), namespace()["as_i64"]
    resolve = _resolver(index_dtype)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        x, index, out = as_x(args[0]), as_index(args[1]), as_x(args[2])
        n, inner, m = args[4], args[5], args[6]
        if lo >= hi:
            return
        o = lo // m
        j = lo - o * m
        for row in range(lo, hi):
            position = resolve(index[j], n)
            if position < 0:
                as_status(args[7])[0] = 1
                return
            source, place = (o * n + position) * inner, row * inner
            for i in range(inner):
                out[place + i] = x[source + i]
            j += 1
            if j == m:
                o, j = o + 1, 0

    return kernel


def _scatter(dtype: np.dtype[Any], index_dtype: np.dtype[Any], add: bool) -> Callable[..., None]:
    as_x, as_index, as_status = pointer_to(dtype), pointer_to(index_dtype), namespace()["as_i64"]
    mem_zero, bytes_each = namespace()["mem_zero"], dtype.itemsize
    resolve, combine = _resolver(index_dtype), _combiner(dtype, add)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        index, updates, out = as_index(args[0]), as_x(args[1]), as_x(args[2])
        n, inner, m = args[4], args[5], args[6]
        mem_zero(args[2] + lo * n * inner * bytes_each, (hi - lo) * n * inner * bytes_each)
        for o in range(lo, hi):
            for j in range(m):
                position = resolve(index[j], n)
                if position < 0:
                    as_status(args[7])[0] = 1
                    return
                place, source = (o * n + position) * inner, (o * m + j) * inner
                for i in range(inner):
                    combine(out, place + i, updates, source + i)

    return kernel


@library("scatter_add", family="indexing")
def scatter_add(index_dtype: np.dtype[Any], dtype: np.dtype[Any]) -> Callable[..., None]:
    """Sum into zeros ``out[o, index[j], i] += updates[o, j, i]``, j in order; sizes outer, n, inner, m."""
    return _scatter(dtype, index_dtype, add=True)


@library("scatter_set", family="indexing")
def scatter_set(index_dtype: np.dtype[Any], dtype: np.dtype[Any]) -> Callable[..., None]:
    """Write into zeros ``out[o, index[j], i] = updates[o, j, i]``, the last j wins; sizes outer, n, inner, m."""
    return _scatter(dtype, index_dtype, add=False)


def _update(dtype: np.dtype[Any], index_dtype: np.dtype[Any], add: bool) -> Callable[..., None]:
    as_x, as_index, as_status = pointer_to(dtype), pointer_to(index_dtype), namespace()["as_i64"]
    mem_copy, bytes_each = namespace()["mem_copy"], dtype.itemsize
    resolve, combine = _resolver(index_dtype), _combiner(dtype, add)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        index, updates, out = as_index(args[1]), as_x(args[2]), as_x(args[3])
        n, inner, m = args[4], args[5], args[6]
        if args[0] != args[3]:
            mem_copy(args[3], args[0], n * inner * bytes_each)
        for j in range(m):
            position = resolve(index[j], n)
            if position < 0:
                as_status(args[7])[0] = 1
                return
            for i in range(inner):
                combine(out, position * inner + i, updates, j * inner + i)

    return kernel


@library("set_rows", family="indexing")
def set_rows(dtype: np.dtype[Any], index_dtype: np.dtype[Any]) -> Callable[..., None]:
    """Write ``out[index[j], i] = updates[j, i]`` into a copy of x, or into x itself where out is x; sizes n, inner, m.
    """
    return _update(dtype, index_dtype, add=False)


@library("add_rows", family="indexing")
def add_rows(dtype: np.dtype[Any], index_dtype: np.dtype[Any]) -> Callable[..., None]:
    """Add ``out[index[j], i] += updates[j, i]`` to a copy of x, or to x itself where out is x; sizes n, inner, m."""
    return _update(dtype, index_dtype, add=True)


@library("take_along_axis", family="indexing")
def take_along_axis(x_dtype: np.dtype[Any], index_dtype: np.dtype[Any]) -> Callable[..., None]:
    """Gather ``out[o, j, i] = x[o, index[o, j, i], i]``; sizes outer, n, inner, m."""
    as_x, as_index, as_status = pointer_to(x_dtype), pointer_to(index_dtype), namespace()["as_i64"]
    resolve = _resolver(index_dtype)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        x, index, out = as_x(args[0]), as_index(args[1]), as_x(args[2])
        n, inner, m = args[4], args[5], args[6]
        for o in range(lo, hi):
            for j in range(m):
                for i in range(inner):
                    here = (o * m + j) * inner + i
                    position = resolve(index[here], n)
                    if position < 0:
                        as_status(args[7])[0] = 1
                        return
                    out[here] = x[(o * n + position) * inner + i]

    return kernel


@library("put_along_axis_add", family="indexing")
def put_along_axis_add(index_dtype: np.dtype[Any], dtype: np.dtype[Any]) -> Callable[..., None]:
    """Sum into zeros ``out[o, index[o, j, i], i] += updates[o, j, i]``, j in order; sizes outer, n, inner, m."""
    as_x, as_index, as_status = pointer_to(dtype), pointer_to(index_dtype), namespace()["as_i64"]
    mem_zero, bytes_each = namespace()["mem_zero"], dtype.itemsize
    resolve, combine = _resolver(index_dtype), _combiner(dtype, True)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        index, updates, out = as_index(args[0]), as_x(args[1]), as_x(args[2])
        n, inner, m = args[4], args[5], args[6]
        mem_zero(args[2] + lo * n * inner * bytes_each, (hi - lo) * n * inner * bytes_each)
        for o in range(lo, hi):
            for j in range(m):
                for i in range(inner):
                    here = (o * m + j) * inner + i
                    position = resolve(index[here], n)
                    if position < 0:
                        as_status(args[7])[0] = 1
                        return
                    combine(out, (o * n + position) * inner + i, updates, here)

    return kernel


@library("linear_index", family="indexing")
def linear_index(*dtypes: np.dtype[Any]) -> Callable[..., None]:
    """Row-major position of index tuples: ``out[e] = (i0[e] * n1 + i1[e]) * n2 + ...``; sizes n0, n1, ..."""
    count = len(dtypes) - 1
    as_index, as_status = namespace()["as_i64"], namespace()["as_i64"]
    resolve = _resolver(np.dtype(np.int64))

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        out = as_index(args[count])
        for e in range(lo, hi):
            total = 0
            for k in range(count):
                n = args[count + 1 + k]
                position = resolve(as_index(args[k])[e], n)
                if position < 0:
                    as_status(args[2 * count + 1])[0] = 1
                    return
                total = total * n + position
            out[e] = total

    return kernel

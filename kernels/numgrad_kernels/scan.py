"""Running sums, products, extrema and recurrences along the middle axis of (outer, n, inner) arrays.

Each kernel takes rows `lo` to `hi` of the outer axis. Elements that lie side by side (inner > 1) run together, so that
memory is read in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad_kernels.access import access, wins
from numgrad_kernels.library import library
from numgrad_kernels.symbols import inlined


def _running(dtype: np.dtype[Any], start: float, combine: Any) -> Callable[..., None]:
    """The kernel that combines each element with what came before it; from the end, or without itself, by flags."""
    pointer, load, store, number = access(dtype)

    def kernel(args, lo, hi):
        x, out = pointer(args[0]), pointer(args[1])
        n, inner, reverse, exclusive = args[2], args[3], args[4], args[5]
        step = -inner if reverse else inner
        for row in range(lo, hi if n else lo):
            at = row * n * inner
            if reverse:
                at += (n - 1) * inner
            if inner == 1:
                total = load(x, at)
                store(out, at, number(start) if exclusive else total)
                for _ in range(1, n):
                    at += step
                    if exclusive:
                        store(out, at, total)
                        total = combine(total, load(x, at))
                    else:
                        total = combine(total, load(x, at))
                        store(out, at, total)
            else:
                for j in range(at, at + inner):
                    store(out, j, number(start) if exclusive else load(x, j))
                for k in range(1, n):
                    at += step
                    ahead = -step if exclusive and k > 1 else 0
                    if exclusive and k == 1:
                        for j in range(at, at + inner):
                            store(out, j, load(x, j - step))
                    else:
                        for j in range(at, at + inner):
                            store(out, j, combine(load(out, j - step), load(x, j + ahead)))

    return kernel


@library("cumsum", family="scan")
def cumsum(dtype):
    number = access(dtype).number

    def combine(a, b):
        return number(a + b)

    return _running(dtype, 0, inlined(combine))


@library("cumprod", family="scan")
def cumprod(dtype):
    number = access(dtype).number

    def combine(a, b):
        return number(a * b)

    return _running(dtype, 1, inlined(combine))


@library("logcumsumexp", family="scan")
def logcumsumexp(dtype):
    import math

    number = access(dtype).number
    log2 = math.log(2.0)

    def combine(a, b):
        if a == b:  # the difference of equal infinities is no number
            return number(a + number(log2))
        high, low = (a, b) if a > b else (b, a)
        return number(high + math.log1p(math.exp(low - high)))

    return _running(dtype, -np.inf, inlined(combine))


@library("linear_scan", family="scan")
def linear_scan(dtype):
    pointer, load, store, number = access(dtype)

    def kernel(args, lo, hi):
        a, b, out = pointer(args[0]), pointer(args[1]), pointer(args[2])
        n, inner, reverse = args[3], args[4], args[5]
        step = -inner if reverse else inner
        for row in range(lo, hi if n else lo):
            at = row * n * inner
            if reverse:
                at += (n - 1) * inner
            if inner == 1:
                total = number(0)
                store(out, at, total)
                for _ in range(1, n):
                    total = number(number(load(a, at) * total) + load(b, at))
                    at += step
                    store(out, at, total)
            else:
                for j in range(at, at + inner):
                    store(out, j, number(0))
                for _ in range(1, n):
                    for j in range(at, at + inner):
                        store(out, j + step, number(number(load(a, j) * load(out, j)) + load(b, j)))
                    at += step

    return kernel


def _extremum(dtype: np.dtype[Any], largest: bool) -> Callable[..., None]:
    """The kernel that writes the best element so far, and where it was first met."""
    pointer, load, store, _ = access(dtype)
    positions, _, store_position, _ = access(np.dtype(np.int64))
    better = wins(dtype, largest)

    def kernel(args, lo, hi):
        x, out, index = pointer(args[0]), pointer(args[1]), positions(args[2])
        n, inner, reverse = args[3], args[4], args[5]
        step = -inner if reverse else inner
        for row in range(lo, hi if n else lo):
            at = row * n * inner
            place = 0
            if reverse:
                at += (n - 1) * inner
                place = n - 1
            for j in range(at, at + inner):
                store(out, j, load(x, j))
                store_position(index, j, place)
            for _ in range(1, n):
                at += step
                place += -1 if reverse else 1
                for j in range(at, at + inner):
                    value, best, found = load(x, j), load(out, j - step), index[j - step]
                    if better(value, best):
                        best, found = value, place
                    store(out, j, best)
                    store_position(index, j, found)

    return kernel


@library("cummax", family="scan")
def cummax(dtype):
    return _extremum(dtype, True)


@library("cummin", family="scan")
def cummin(dtype):
    return _extremum(dtype, False)

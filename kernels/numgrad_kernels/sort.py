"""Stable merge sort and selection of values with their positions, and binary search in sorted arrays."""

from __future__ import annotations

import numpy as np

from numgrad_kernels.access import access, before
from numgrad_kernels.library import library
from numgrad_kernels.symbols import inlined

# Runs of this length are sorted by insertion before they are merged.
RUN = 16


@library("sort", family="sort")
def sort(dtype):
    """For (outer, n, inner) input: the middle axis in order, and the positions that its elements came from.

    Scratch: 2 n values and 2 n positions; one half is merged into the other, and then back.
    """
    pointer, load, store, _ = access(dtype)
    positions = access(np.dtype(np.int64)).pointer
    earlier = before(dtype)

    def kernel(args, lo, hi):
        x, out, index = pointer(args[0]), pointer(args[1]), positions(args[2])
        values, places = pointer(args[3]), positions(args[4])
        n, inner, descending = args[5], args[6], args[7]
        for column in range(lo * inner, hi * inner):
            row, j = column // inner, column % inner
            for i in range(n):
                # insertion: move what stands behind the new element to the right
                value = load(x, (row * n + i) * inner + j)
                at = i
                bottom = i - i % RUN
                while at > bottom:
                    other = load(values, at - 1)
                    if not (earlier(other, value) if descending else earlier(value, other)):
                        break
                    store(values, at, other)
                    places[at] = places[at - 1]
                    at -= 1
                store(values, at, value)
                places[at] = i
            source, target, width = 0, n, RUN
            while width < n:
                at = 0
                while at < n:
                    left, middle, end = at, min(at + width, n), min(at + 2 * width, n)
                    right = middle
                    while left < middle and right < end:
                        a, b = load(values, source + left), load(values, source + right)
                        if earlier(a, b) if descending else earlier(b, a):
                            store(values, target + at, b)
                            places[target + at] = places[source + right]
                            right += 1
                        else:
                            store(values, target + at, a)
                            places[target + at] = places[source + left]
                            left += 1
                        at += 1
                    rest = left if left < middle else right
                    while at < end:
                        store(values, target + at, load(values, source + rest))
                        places[target + at] = places[source + rest]
                        rest += 1
                        at += 1
                source, target = target, source
                width *= 2
            for i in range(n):
                to = (row * n + i) * inner + j
                store(out, to, load(values, source + i))
                index[to] = places[source + i]

    return kernel


@library("top_k", family="sort")
def top_k(dtype):
    """For (outer, n, inner) input: the k largest of the middle axis in falling order, and their positions.

    Scratch: a heap of k values and positions with the least of them, of equal ones the last, on top.
    """
    pointer, load, store, _ = access(dtype)
    positions = access(np.dtype(np.int64)).pointer
    earlier = before(dtype)

    @inlined
    def less(a, place, b, other):
        return earlier(a, b) or (not earlier(b, a) and place > other)

    @inlined
    def settle(values, places, size, value, place):
        """Put an element on top of the heap and let it sink to where it belongs."""
        at = 0
        while 2 * at + 1 < size:
            child = 2 * at + 1
            if child + 1 < size and less(
                load(values, child + 1), places[child + 1], load(values, child), places[child]
            ):
                child += 1
            if not less(load(values, child), places[child], value, place):
                break
            store(values, at, load(values, child))
            places[at] = places[child]
            at = child
        store(values, at, value)
        places[at] = place

    def kernel(args, lo, hi):
        x, out, index = pointer(args[0]), pointer(args[1]), positions(args[2])
        values, places = pointer(args[3]), positions(args[4])
        n, inner, k = args[5], args[6], args[7]
        for column in range(lo * inner, hi * inner if k else lo * inner):
            row, j = column // inner, column % inner
            for i in range(k):
                # the new element rises from the bottom
                value = load(x, (row * n + i) * inner + j)
                at = i
                while at > 0:
                    parent = (at - 1) // 2
                    if not less(value, i, load(values, parent), places[parent]):
                        break
                    store(values, at, load(values, parent))
                    places[at] = places[parent]
                    at = parent
                store(values, at, value)
                places[at] = i
            for i in range(k, n):
                value = load(x, (row * n + i) * inner + j)
                if earlier(load(values, 0), value):
                    settle(values, places, k, value, i)
            for left in range(k - 1, -1, -1):
                to = (row * k + left) * inner + j
                store(out, to, load(values, 0))
                index[to] = places[0]
                settle(values, places, left, load(values, left), places[left])

    return kernel


@library("searchsorted", family="sort")
def searchsorted(dtype):
    """For values `lo` to `hi`: how many of the n sorted ones stand before it (or, by a flag, not after it)."""
    pointer, load, _, _ = access(dtype)
    positions = access(np.dtype(np.int64)).pointer
    earlier = before(dtype)

    def kernel(args, lo, hi):
        ordered, values, out = pointer(args[0]), pointer(args[1]), positions(args[2])
        n, right = args[3], args[4]
        for i in range(lo, hi):
            value = load(values, i)
            low, high = 0, n
            while low < high:
                middle = low + (high - low) // 2
                other = load(ordered, middle)
                if not earlier(value, other) if right else earlier(other, value):
                    low = middle + 1
                else:
                    high = middle
            out[i] = low

    return kernel

"""Positions of extrema along the middle axis of (outer, n, inner) arrays; other reductions are generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad_kernels.access import access, wins
from numgrad_kernels.library import library


def _position(dtype: np.dtype[Any], largest: bool) -> Callable[..., None]:
    """The kernel that writes where the best element of rows `lo` to `hi` is first met."""
    pointer, load, _, _ = access(dtype)
    positions = access(np.dtype(np.int64)).pointer
    better = wins(dtype, largest)

    def kernel(args, lo, hi):
        x, out, n, inner = pointer(args[0]), positions(args[1]), args[2], args[3]
        for row in range(lo, hi):
            first = row * n * inner
            to = row * inner
            if inner == 1:
                best, found = load(x, first), 0
                for k in range(1, n):
                    value = load(x, first + k)
                    if better(value, best):
                        best, found = value, k
                out[to] = found
            else:
                for j in range(inner):
                    out[to + j] = 0
                for k in range(1, n):
                    at = first + k * inner
                    for j in range(inner):
                        if better(load(x, at + j), load(x, first + out[to + j] * inner + j)):
                            out[to + j] = k

    return kernel


@library("argmax", family="reduction")
def argmax(dtype):
    return _position(dtype, True)


@library("argmin", family="reduction")
def argmin(dtype):
    return _position(dtype, False)

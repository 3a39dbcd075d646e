"""Decisions about sizes that may be unknown: bounds that are certain, and assumptions that each call checks."""

from __future__ import annotations

from typing import Any

from numgrad.types import Dim, Size, same_size, size_max, size_min

__all__ = ["at_least", "ceil_divide", "clip_count", "lower_bound", "smaller"]


def lower_bound(dim: Dim) -> int | None:
    """The largest integer that `dim` is certain to reach whatever the unknown sizes (all at least 0), or None."""
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        product = 1
        for atom in monomial:
            bound = _atom_bound(atom)
            if bound is None or bound < 0:
                return None
            product *= bound
        if monomial and coefficient < 0:
            return None
        total += coefficient * product
    return total


def _atom_bound(atom: Any) -> int | None:
    kind = getattr(atom, "kind", None)
    if kind is None:
        return 0
    known = [bound for bound in map(lower_bound, atom.args) if bound is not None]
    if kind == "max":
        return max(known) if known else None
    if len(known) < len(atom.args):
        return None
    if kind == "min":
        return min(known)
    return 0 if min(known) >= 0 else None


def at_least(a: Dim, b: Dim) -> bool:
    """Whether ``a >= b``.

    Certain answers cost nothing. While a function is traced the sizes of the present call decide, and the answer
    becomes a guard of the trace. In a graph of placeholders there is no call yet: the natural case (a slice that fits)
    is taken, and every run checks it.
    """
    difference = a - b
    if isinstance(difference, Size):
        difference = difference.canonical()
    if isinstance(difference, int):
        return difference >= 0
    low = lower_bound(difference)
    if low is not None and low >= 0:
        return True
    high = lower_bound(-difference)
    if high is not None and high >= 1:
        return False
    env = difference.env
    if env.hint(difference) is None:
        env.guard(a, ">=", b)
        return True
    return difference >= 0


def smaller(a: Dim, b: Dim) -> Dim:
    """The smaller of two sizes, as a plain size where that can be decided."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    if same_size(a, b):
        return a
    difference = a - b
    if isinstance(difference, Size):
        for one, other in ((difference, b), (-difference, a)):
            low = lower_bound(one)
            if low is not None and low >= 0:
                return other
        if difference.env.hint(difference) is None:
            return size_min(a, b)
    return b if difference >= 0 else a


def clip_count(count: Dim) -> Dim:
    """`count`, or 0 if it is negative."""
    if isinstance(count, int):
        return max(count, 0)
    low = lower_bound(count)
    if low is not None and low >= 0:
        return count
    if count.env.hint(count) is None:
        return size_max(count, 0)
    return count if count >= 0 else 0


def ceil_divide(a: Dim, b: int) -> Dim:
    """``a / b`` rounded up, for b > 0."""
    if b == 1:
        return a
    rest = a % b
    return a // b if isinstance(rest, int) and rest == 0 else (a + (b - 1)) // b

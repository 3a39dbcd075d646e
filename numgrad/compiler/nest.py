"""Loop nests as data: what a fused kernel reads, computes, stores and reduces, over which dimensions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numgrad.compiler.access import Access
from numgrad.compiler.rewrite import Value
from numgrad.types import Dim, same_size

__all__ = ["Instruction", "Nest", "Reduction", "Ref", "collapse"]

# ("load", k), ("value", k), ("number", (python number, dtype)) or ("index", dimension)
Ref = tuple[str, Any]


@dataclass
class Instruction:
    """One elementwise op applied to refs."""

    op: str
    operands: tuple[Ref, ...]
    dtype: np.dtype[Any]
    attrs: dict[str, Any]


@dataclass
class Store:
    """A ref written to a buffer, at an offset and strides over the nest's dimensions."""

    ref: Ref
    access: Access


@dataclass
class Reduction:
    """A ref combined over the reduced dimensions into a buffer over the others."""

    op: str
    ref: Ref
    target: Value
    dtype: np.dtype[Any]


@dataclass
class Nest:
    """A loop nest; `kinds` has a letter for each dimension: O outer, R reduced, I inner (below a reduction)."""

    dims: tuple[Dim, ...]
    kinds: str
    loads: list[Access] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    where: Any = None

    def roots_read(self) -> list[Value]:
        """The values whose buffers are read."""
        return [a.root for a in self.loads]

    def roots_written(self) -> list[Value]:
        """The values whose buffers are written."""
        return [s.access.root for s in self.stores] + [r.target for r in self.reductions]


def collapse(nest: Nest) -> None:
    """Merge neighbouring dimensions of one kind that every access walks as one."""
    accesses = nest.loads + [s.access for s in nest.stores]
    dims, kinds = list(nest.dims), list(nest.kinds)
    strides = [list(a.strides) for a in accesses]
    d = len(dims) - 2
    while d >= 0:
        if kinds[d] == kinds[d + 1] and all(_mergeable(s[d], s[d + 1], dims[d + 1]) for s in strides):
            dims[d: d + 2] = [dims[d] * dims[d + 1]]
            del kinds[d]
            for s in strides:
                del s[d]
        d -= 1
    nest.dims, nest.kinds = tuple(dims), "".join(kinds)
    merged = [Access(a.root, a.offset, tuple(s)) for a, s in zip(accesses, strides, strict=True)]
    nest.loads = merged[: len(nest.loads)]
    for store, access in zip(nest.stores, merged[len(nest.loads):], strict=True):
        store.access = access


def _mergeable(outer: Dim, inner: Dim, size: Dim) -> bool:
    return same_size(outer, inner * size)



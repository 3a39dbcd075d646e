"""Sizes that are the values of whole numbers which a program computes, for loops whose length is found out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from numgrad.autodiff.batching import RULES
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.ops.control import CountedSize
from numgrad.ops.kinds import define
from numgrad.types import Dim, ShapeEnv, Size, Spec

__all__ = ["size_from"]


def size_from(count: Tensor) -> Size:
    """The size whose value is that of `count`, a scalar int64 node of a graph that is no body of a loop or branch.

    For a batch it is the largest of the counts: a loop of this length must not mind steps that are too many.
    """
    op = count.op
    assert op is not None and op.graph.outer is None
    size: Size = op.graph.sizes.fresh()
    op.graph.sizes.count(size, apply("size_from", count, binds=CountedSize(size)))
    return size


def _largest(op: Operation, inputs: list[Tensor], flags: Sequence[bool], size: Dim) -> list[Tensor]:
    binds = op.attrs["binds"]
    largest = apply("max", inputs[0], axes=(0,))
    op.graph.sizes.count(binds.size, apply("size_from", largest, binds=binds))
    return [apply("broadcast_to", largest, shape=(size,))]


RULES["size_from"] = _largest
define("size_from", "general", lambda specs, attrs: (Spec(np.dtype(np.int64), ()),), lambda count, binds: count,
       decompose=lambda count, binds: apply("identity", count), smooth=False, dtypes="i",
       samples=lambda rng: [((np.int64(3),), {"binds": CountedSize(ShapeEnv().fresh())})],
       doc="A whole number that is the value of a size from here on.")

"""Room for steps whose number a program finds out: sizes that are large enough, for loops that do not mind more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from numgrad.autodiff.batching import RULES
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.ops.control import CountedSize
from numgrad.ops.kinds import define
from numgrad.types import Dim, ShapeEnv, Size, Spec

__all__ = ["room_for"]


def room_for(count: Tensor) -> Size:
    """A size that is at least `count`, a scalar int64 node of a graph that is no body of a loop or branch.

    It is that number; for a batch it is the largest of them, which is what sets it apart from `size_of_value`.
    """
    op = count.op
    assert op is not None and op.graph.outer is None
    size: Size = op.graph.sizes.fresh()
    op.graph.sizes.count(size, apply("as_room", count, binds=CountedSize(size)))
    return size


def _largest(op: Operation, inputs: list[Tensor], flags: Sequence[bool], size: Dim) -> list[Tensor]:
    binds = op.attrs["binds"]
    largest = apply("max", inputs[0], axes=(0,))
    op.graph.sizes.count(binds.size, apply("as_room", largest, binds=binds))
    return [apply("broadcast_to", largest, shape=(size,))]


RULES["as_room"] = _largest
define("as_room", "general", lambda specs, attrs: (Spec(np.dtype(np.int64), ()),), lambda count, binds: count,
       decompose=lambda count, binds: apply("identity", count), smooth=False, dtypes="i",
       samples=lambda rng: [((np.int64(3),), {"binds": CountedSize(ShapeEnv().fresh())})],
       doc="A whole number for which a size makes room when the program runs.")

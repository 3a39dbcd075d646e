"""Updates of rows: an array with rows written or added at given indices, which loops do in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.graph.records import Library
from numgrad.ops.gathering import OUT_OF_RANGE, checked_indices, require_indices, storage, winners
from numgrad.ops.kinds import define
from numgrad.types import Dim, Spec, require_equal, size_product

__all__: list[str] = []


def _infer(name: str) -> Any:
    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        x, indices, updates = specs
        wanted = (*indices.shape, *x.shape[1:])

        def message() -> str:
            return f"{name}: updates {updates} do not fit indices {indices} and the rows of {x}"

        require_indices(indices, name)
        if not x.ndim or updates.ndim != len(wanted) or updates.dtype != x.dtype:
            raise ShapeError(message() + at(user_line()))
        for have, want in zip(updates.shape, wanted, strict=True):
            require_equal(have, want, message)
        return (x,)

    return infer


def _run(name: str, add: bool) -> Any:
    def evaluate(x: np.ndarray[Any, Any], indices: np.ndarray[Any, Any],
                 updates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = x.copy()
        places = checked_indices(indices, x.shape[0], name, 0).reshape(-1).astype(np.intp)
        values = updates.reshape(places.size, *x.shape[1:])
        if add:
            np.add.at(out, places, values)
        else:
            out[places] = values
        return out

    return evaluate


def _library(name: str, moves: bool) -> Library:
    def sizes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
        return ins[0].shape[0], size_product(ins[0].shape[1:]), size_product(ins[1].shape)

    def dtypes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Any]:
        return [storage(ins[0].dtype) if moves else ins[0].dtype, ins[1].dtype]

    return Library(name, sizes=sizes, dtypes=dtypes, flops=lambda ins, outs, attrs: size_product(ins[2].shape),
                   status=True, raises=IndexError, error=OUT_OF_RANGE)


def _vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    x, indices, updates = op.inputs
    (ct,) = cts
    assert ct is not None
    read = apply("take", ct, indices, axis=0)
    if op.type == "add_rows":
        return [ct, None, read]
    zeros = apply("zeros_like", read)
    if indices.ndim:  # of several rows written to one place the last one stays
        wins = winners(indices, x.shape[0])
        wins = apply("reshape", wins, shape=(*indices.shape, *(1,) * (x.ndim - 1)))
        read = apply("where", wins, read, zeros)
    return [apply("set_rows", ct, indices, zeros), None, read]


def _jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    x, indices, updates = op.inputs
    dx, _, du = tangents
    if du is None and op.type == "add_rows":
        return [dx]
    dx = dx if dx is not None else apply("zeros_like", x)
    return [apply(op.type, dx, indices, du if du is not None else apply("zeros_like", updates))]


def _samples(rng: Any) -> list[Any]:
    return [
        ([rng.standard_normal((4, 3)), rng.integers(-4, 4, 5), rng.standard_normal((5, 3))], {}),
        ([rng.standard_normal(4), np.asarray(rng.integers(0, 4)), np.asarray(rng.standard_normal())], {}),
        ([rng.standard_normal((4, 2)).T, np.array([[1, 0]], np.int32), rng.standard_normal((1, 2, 4))], {}),
        ([rng.standard_normal((2, 0)), np.array([1], np.uint8), rng.standard_normal((1, 0))], {}),
        ([rng.standard_normal((3, 2)), np.zeros(0, np.int64), rng.standard_normal((0, 2))], {}),
    ]


define("set_rows", "general", _infer("set_rows"), _run("set_rows", False), vjp=_vjp, jvp=_jvp, masks=True,
       library=_library("set_rows", True), samples=_samples,
       doc="An array with its rows at given indices replaced; the last of several wins.")
define("add_rows", "general", _infer("add_rows"), _run("add_rows", True), vjp=_vjp, jvp=_jvp,
       library=_library("add_rows", False), samples=_samples,
       doc="An array with updates added to its rows at given indices, in order.")

"""Gathers along an axis by index tensors, and the scatters that are their transposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.graph.records import Library
from numgrad.ops.kinds import define
from numgrad.types import Dim, Spec, canonical_shape, require_equal, size_product

__all__ = ["OUT_OF_RANGE", "checked_indices", "require_indices", "storage", "winners"]

_INT64 = np.dtype(np.int64)
OUT_OF_RANGE = "an index is out of range for the axis"


# -- pieces that the ops share


def checked_indices(indices: np.ndarray[Any, Any], size: int, op: str, axis: int) -> np.ndarray[Any, Any]:
    """Indices with negative ones counted from the end; IndexError for one out of range."""
    bad = (indices < -size) | (indices >= size)
    if bad.any():
        raise IndexError(
            f"{op}: index {indices[bad].flat[0]} is out of range for axis {axis} of size {size}{at(user_line())}"
        )
    return np.where(indices < 0, indices + size, indices) if indices.dtype.kind == "i" else indices


def require_indices(spec: Spec, op: str) -> None:
    """DtypeError for indices that are no integers."""
    if spec.dtype.kind not in "iu":
        raise DtypeError(f"{op}: indices have dtype {spec.dtype}, wanted an integer one{at(user_line())}")


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What a kernel that only moves elements takes them for, so that dtypes of one width share it."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.itemsize <= 8 else dtype


def _split_at(shape: Sequence[Dim], axis: int) -> tuple[Dim, Dim, Dim]:
    return size_product(shape[:axis]), shape[axis], size_product(shape[axis + 1 :])


def _kernel(name: str, whole: int, moves: bool) -> Library:
    """The library facts of a kernel over (outer, n, inner) of operand `whole` (-1: the output) and m indices."""

    def sizes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
        outer, n, inner = _split_at((outs[0] if whole < 0 else ins[whole]).shape, attrs["axis"])
        indices = ins[0] if whole < 0 else ins[1]
        along = indices.shape[attrs["axis"]] if "along" in name else size_product(indices.shape)
        return outer, n, inner, along

    def dtypes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Any]:
        return [storage(s.dtype) if moves and s.dtype.kind != "i" else s.dtype for s in ins]

    def span(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Dim:
        outer, _, _, m = sizes(ins, outs, attrs)
        return outer * m if name == "take" else outer

    return Library(
        name,
        sizes=sizes,
        span=span,
        dtypes=dtypes,
        status=True,
        parallel=True,
        raises=IndexError,
        error=OUT_OF_RANGE,
    )


def _blocks(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    return int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :]))


# -- take and its transposes


def _take_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    x, indices = specs
    axis = attrs["axis"]
    require_indices(indices, "take")
    return (Spec(x.dtype, canonical_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))),)


def _take(x: np.ndarray[Any, Any], indices: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    checked = checked_indices(indices, x.shape[axis], "take", axis).astype(np.intp)
    if not checked.size:
        return np.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    return np.take(x, checked, axis)


def _take_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    x, indices = op.inputs
    axis = op.attrs["axis"]
    (ct,) = cts
    assert ct is not None
    return [apply("scatter_add", indices, ct, axis=axis, size=x.shape[axis]), None]


def _indices(rng: Any, size: int, shape: tuple[int, ...], dtype: Any = np.int64) -> Any:
    return rng.integers(-size, size, shape).astype(dtype)


define(
    "take",
    "general",
    _take_infer,
    _take,
    vjp=_take_vjp,
    masks=True,
    jvp=lambda op, tangents: [
        apply("take", tangents[0], op.inputs[1], **op.attrs) if tangents[0] is not None else None
    ],
    library=_kernel("take", 0, True),
    public="take",
    samples=lambda rng: [
        ([rng.standard_normal((2, 4, 3)), _indices(rng, 4, (5,))], {"axis": 1}),
        ([rng.standard_normal((4,)), _indices(rng, 4, (2, 3), np.int32)], {"axis": 0}),
        ([rng.standard_normal((3, 4)), _indices(rng, 4, ())], {"axis": 1}),
        ([rng.standard_normal((0, 4)), _indices(rng, 4, (0,))], {"axis": 1}),
        ([rng.standard_normal((4, 3)).T, np.array([2, 0, 2], np.uint8)], {"axis": 0}),
    ],
    doc="The elements at given indices along an axis.",
)


def _scatter_infer(name: str) -> Any:
    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        indices, updates = specs
        axis, block = attrs["axis"], attrs["axis"] + indices.ndim

        def message() -> str:
            return f"{name}: updates {updates} do not fit indices {indices} at axis {axis}"

        require_indices(indices, name)
        if updates.ndim < block:
            raise ShapeError(message() + at(user_line()))
        for have, want in zip(updates.shape[axis:block], indices.shape, strict=True):
            require_equal(have, want, message)
        return (Spec(updates.dtype, canonical_shape((*updates.shape[:axis], attrs["size"], *updates.shape[block:]))),)

    return infer


def _scatter(name: str, add: bool) -> Any:
    def evaluate(
        indices: np.ndarray[Any, Any], updates: np.ndarray[Any, Any], axis: int, size: int
    ) -> np.ndarray[Any, Any]:
        shape = (*updates.shape[:axis], size, *updates.shape[axis + indices.ndim :])
        outer, _, inner = _blocks(shape, axis)
        out = np.zeros((outer, size, inner), updates.dtype)
        places = checked_indices(indices, size, name, axis).reshape(-1).astype(np.intp)
        values = updates.reshape(outer, places.size, inner)
        if add:
            np.add.at(out, (slice(None), places), values)  # type: ignore[arg-type]
        else:
            out[:, places] = values
        return out.reshape(shape)

    return evaluate


def _scatter_samples(rng: Any) -> list[Any]:
    return [
        ([_indices(rng, 4, (5,)), rng.standard_normal((2, 5, 3))], {"axis": 1, "size": 4}),
        ([_indices(rng, 4, (2, 3), np.int32), rng.standard_normal((2, 3))], {"axis": 0, "size": 4}),
        ([_indices(rng, 4, ()), rng.standard_normal((3,))], {"axis": 1, "size": 4}),
        ([_indices(rng, 4, (0,)), rng.standard_normal((2, 0))], {"axis": 1, "size": 4}),
    ]


def _scatter_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [apply(op.type, op.inputs[0], tangents[1], **op.attrs) if tangents[1] is not None else None]


define(
    "scatter_add",
    "general",
    _scatter_infer("scatter_add"),
    _scatter("scatter_add", True),
    jvp=_scatter_jvp,
    vjp=lambda op, cts: [None, apply("take", cts[0], op.inputs[0], axis=op.attrs["axis"])],
    library=_kernel("scatter_add", -1, False),
    samples=_scatter_samples,
    doc="Zeros with the updates added at given indices along an axis, in order.",
)


def winners(indices: Tensor, size: Dim) -> Tensor:
    """For each index, whether no later index names the same place."""
    count = indices.size
    flat = apply("reshape", indices, shape=(count,))
    order = apply("iota", shape=(count,), axis=0, dtype=_INT64)
    last = apply("take", apply("scatter_set", flat, order, axis=0, size=size), flat, axis=0)
    return apply("reshape", apply("equal", last, order), shape=indices.shape)


def _scatter_set_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    indices, updates = op.inputs
    axis = op.attrs["axis"]
    (ct,) = cts
    assert ct is not None
    read = apply("take", ct, indices, axis=axis)
    after = updates.ndim - axis - indices.ndim
    wins = winners(indices, op.attrs["size"])
    wins = apply("reshape", wins, shape=(*indices.shape, *(1,) * after))
    return [None, apply("where", wins, read, apply("zeros_like", read))]


define(
    "scatter_set",
    "general",
    _scatter_infer("scatter_set"),
    _scatter("scatter_set", False),
    jvp=_scatter_jvp,
    vjp=_scatter_set_vjp,
    masks=True,
    library=_kernel("scatter_set", -1, True),
    samples=_scatter_samples,
    doc="Zeros with the updates written at given indices along an axis; the last of several wins.",
)


# -- one index for each element


def _along_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    x, indices = specs
    axis = attrs["axis"]

    def message() -> str:
        return f"take_along_axis: indices {indices} do not fit {x} along axis {axis}"

    require_indices(indices, "take_along_axis")
    if x.ndim != indices.ndim:
        raise ShapeError(message() + at(user_line()))
    shape = [
        n if i == axis else require_equal(d, n, message)
        for i, (d, n) in enumerate(zip(x.shape, indices.shape, strict=True))
    ]
    return (Spec(x.dtype, canonical_shape(shape)),)


def _take_along(x: np.ndarray[Any, Any], indices: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    checked = checked_indices(indices, x.shape[axis], "take_along_axis", axis).astype(np.intp)
    return np.take_along_axis(x, checked, axis)


def _put_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    indices, updates = specs
    axis = attrs["axis"]

    def message() -> str:
        return f"put_along_axis_add: updates {updates} do not fit indices {indices}"

    require_indices(indices, "put_along_axis_add")
    if updates.ndim != indices.ndim:
        raise ShapeError(message() + at(user_line()))
    shape = [require_equal(d, n, message) for d, n in zip(updates.shape, indices.shape, strict=True)]
    return (Spec(updates.dtype, canonical_shape((*shape[:axis], attrs["size"], *shape[axis + 1 :]))),)


def _put_along(
    indices: np.ndarray[Any, Any], updates: np.ndarray[Any, Any], axis: int, size: int
) -> np.ndarray[Any, Any]:
    out = np.zeros((*updates.shape[:axis], size, *updates.shape[axis + 1 :]), updates.dtype)
    places = list(np.indices(indices.shape, sparse=True))
    places[axis] = checked_indices(indices, size, "put_along_axis_add", axis).astype(np.intp)
    np.add.at(out, tuple(places), updates)
    return out


define(
    "take_along_axis",
    "general",
    _along_infer,
    _take_along,
    masks=True,
    vjp=lambda op, cts: [
        apply(
            "put_along_axis_add", op.inputs[1], cts[0], axis=op.attrs["axis"], size=op.inputs[0].shape[op.attrs["axis"]]
        ),
        None,
    ],
    jvp=lambda op, tangents: [
        apply("take_along_axis", tangents[0], op.inputs[1], **op.attrs) if tangents[0] is not None else None
    ],
    library=_kernel("take_along_axis", 0, True),
    public="take_along_axis",
    samples=lambda rng: [
        ([rng.standard_normal((2, 4, 3)), _indices(rng, 4, (2, 5, 3))], {"axis": 1}),
        ([rng.standard_normal((4,)), _indices(rng, 4, (2,), np.int32)], {"axis": 0}),
        ([rng.standard_normal((2, 4)), _indices(rng, 4, (2, 0))], {"axis": 1}),
    ],
    doc="The elements at an index of their own each along an axis.",
)
define(
    "put_along_axis_add",
    "general",
    _put_infer,
    _put_along,
    jvp=_scatter_jvp,
    vjp=lambda op, cts: [None, apply("take_along_axis", cts[0], op.inputs[0], axis=op.attrs["axis"])],
    library=_kernel("put_along_axis_add", -1, False),
    samples=lambda rng: [
        ([_indices(rng, 4, (2, 5, 3)), rng.standard_normal((2, 5, 3))], {"axis": 1, "size": 4}),
        ([_indices(rng, 4, (2,), np.int32), rng.standard_normal((2,))], {"axis": 0, "size": 4}),
        ([_indices(rng, 4, (2, 0)), rng.standard_normal((2, 0))], {"axis": 1, "size": 4}),
    ],
    doc="Zeros with each update added at an index of its own along an axis, in order.",
)


# -- several indices as one


def _linear_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    shape = list(specs[0].shape)
    for spec in specs:
        if spec.dtype != _INT64 or spec.ndim != len(shape):
            raise DtypeError(
                f"linear_index: got {', '.join(map(str, specs))}, wanted int64 of one shape{at(user_line())}"
            )
        shape = [
            require_equal(a, b, lambda: f"linear_index: got {', '.join(map(str, specs))}, wanted one shape")
            for a, b in zip(shape, spec.shape, strict=True)
        ]
    return (Spec(_INT64, canonical_shape(shape)),)


def _linear(*indices: np.ndarray[Any, Any], sizes: tuple[int, ...]) -> np.ndarray[Any, Any]:
    total = np.zeros(indices[0].shape, np.int64)
    for axis, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        total = total * size + checked_indices(index, size, "indexing", axis)
    return total


define(
    "linear_index",
    "general",
    _linear_infer,
    _linear,
    library=Library(
        "linear_index",
        sizes=lambda ins, outs, attrs: attrs["sizes"],
        span=lambda ins, outs, attrs: size_product(outs[0].shape),
        status=True,
        parallel=True,
        raises=IndexError,
        error=OUT_OF_RANGE,
    ),
    samples=lambda rng: [
        ([_indices(rng, 3, (4,)), _indices(rng, 5, (4,))], {"sizes": (3, 5)}),
        ([_indices(rng, 2, ()), _indices(rng, 3, ()), _indices(rng, 4, ())], {"sizes": (2, 3, 4)}),
        ([_indices(rng, 3, (0, 2)), _indices(rng, 5, (0, 2))], {"sizes": (3, 5)}),
    ],
    dtypes="i",
    doc="The row-major position that several indices name together.",
)

"""Batching: what a graph computes from one value, for a whole leading axis of values at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.bodies import closed
from numgrad.errors import KernelError, ShapeError, at, user_line
from numgrad.graph.body import trace_body
from numgrad.graph.core import Operation, Tensor, apply, apply_all
from numgrad.graph.scopes import source_line
from numgrad.graph.walk import ancestors
from numgrad.ops.kinds import normalize_axis
from numgrad.types import Dim, Spec, require_equal, size_product

__all__ = ["RULES", "UNROLLED", "basis", "batched", "example_of", "moved_axis", "of_all_examples", "repeats", "seed",
           "spread"]

# rule(op, inputs, which of them are batched, size of the batch) -> the outputs, batched along a new first axis
Rule = Callable[[Operation, list[Tensor], list[bool], Dim], Any]
RULES: dict[str, Rule] = {}
UNROLLED = 16  # an op without a rule is repeated this often at most; beyond, it becomes the body of a loop


def seed(like: Tensor) -> Tensor:
    """A node that stands for one value of like's dtype and shape; it is never evaluated."""
    return apply("cotangent_seed", spec=like.spec)


def basis(like: Tensor) -> Tensor:
    """All unit vectors of like's shape along a new first axis: the identity matrix, reshaped."""
    shape = like.spec.shape
    count = size_product(shape)
    index = [apply("iota", shape=(count, count), axis=axis, dtype=np.dtype(np.int64)) for axis in (0, 1)]
    eye = apply("cast", apply("equal", *index), dtype=like.dtype)
    return eye if len(shape) == 1 else apply("reshape", eye, shape=(count, *shape))


def spread(tensor: Tensor, size: Dim) -> Tensor:
    """The same value for every element of the batch."""
    return apply("broadcast_to", tensor, shape=(size, *tensor.spec.shape))


def batched(outputs: Sequence[Tensor], values: Mapping[Tensor, Tensor],
            fixed: Mapping[Tensor, Tensor] | None = None) -> list[Tensor | None]:
    """For each output its values when seeds take all of `values` along their first axis; None where no seed matters.

    `fixed` may hold other tensors for nodes on which no seed has an influence.
    """
    known: dict[Tensor, Tensor] = dict(values)
    others = fixed or {}
    size: Dim = next(iter(values.values())).spec.shape[0]
    for op in ancestors(outputs, stop=lambda t: t in values):
        flags = [t in known for t in op.inputs]
        if not any(flags):
            continue
        inputs = [known[t] if t in known else others.get(t, t) for t in op.inputs]
        with source_line(op.where):
            found = _rule_of(op)(op, inputs, flags, size)
        results = found if isinstance(found, (tuple, list)) else (found,)
        known.update(zip(op.outputs, results, strict=True))
    return [known.get(t) for t in outputs]


def moved_axis(tensor: Tensor, source: int, target: int, what: str) -> Tensor:
    """`tensor` with one axis moved to another place."""
    rank = len(tensor.shape)
    start, end = normalize_axis(source, rank, what), normalize_axis(target, rank, what)
    if start == end:
        return tensor
    axes = [a for a in range(rank) if a != start]
    axes.insert(end, start)
    return apply("permute_dims", tensor, axes=tuple(axes))


def example_of(tensor: Tensor, axis: int, values: dict[Tensor, Tensor]) -> Tensor:
    """A seed for one example of a tensor that holds them along `axis`; all their values are entered into `values`."""
    if not tensor.shape:
        raise ShapeError(f"vmap: an argument is a scalar and has no axis {axis} of examples; give it "
                         f"in_axes=None{at(user_line())}")
    moved = moved_axis(tensor, axis, 0, "vmap")
    if values:
        count = next(iter(values.values())).spec.shape[0]
        require_equal(moved.spec.shape[0], count, lambda: f"vmap: arguments hold {moved.shape[0]} and {count} examples")
    single = apply("cotangent_seed", spec=Spec(moved.dtype, moved.spec.shape[1:]))
    values[single] = moved
    return single


def of_all_examples(outputs: Sequence[Tensor], values: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """`batched`, with outputs that depend on no example repeated."""
    size = next(iter(values.values())).spec.shape[0]
    return [found if found is not None else spread(single, size)
            for found, single in zip(batched(outputs, values), outputs, strict=True)]


def _rule_of(op: Operation) -> Rule:
    rule = RULES.get(op.type)
    if rule is not None:
        return rule
    if op.record.kind == "elementwise":
        return _elementwise
    if op.record.kind == "reduction":
        return _shifted
    if "binds" in op.attrs:
        raise KernelError(f"{op.type}: the reverse derivative of a loop of unknown length counts its trips, which "
                          f"differ among the elements of a batch; use ng.scan, ng.fori_loop or forward mode"
                          f"{at(op.where)}")
    if op.record.kind == "effect":
        raise KernelError(f"{op.type}: an operation with an effect cannot be repeated for each element of a batch"
                          f"{at(op.where)}")
    return _one_by_one


# -- rules


def _lead(op: Operation, inputs: Sequence[Tensor], flags: Sequence[bool], size: Dim) -> list[Tensor]:
    return [x if flag else spread(x, size) for x, flag in zip(inputs, flags, strict=True)]


def _after(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes whose axes count one more."""
    moved = dict(attrs)
    for name in ("axis", "axes"):
        if name in moved:
            value = moved[name]
            moved[name] = tuple(a + 1 for a in value) if isinstance(value, tuple) else value + 1
    return moved


def _padded(x: Tensor, rank: int) -> Tensor:
    """A batched operand with axes of size 1 after the first, so that it broadcasts against `rank` axes."""
    missing = rank + 1 - len(x.shape)
    return apply("expand_dims", x, axes=tuple(range(1, 1 + missing))) if missing else x


def _elementwise(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    rank = len(op.outputs[0].shape)
    aligned = [_padded(x, rank) if flag else x for x, flag in zip(inputs, flags, strict=True)]
    return apply_all(op.type, *aligned, **op.attrs)


def _same_rank(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    """Ops whose operands have one shape."""
    return apply_all(op.type, *_lead(op, inputs, flags, size), **op.attrs)


def _shifted(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    return apply_all(op.type, *_lead(op, inputs, flags, size), **_after(op.attrs))


def _permute_dims(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    return apply("permute_dims", inputs[0], axes=(0, *(a + 1 for a in op.attrs["axes"])))


def _reshape(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    return apply("reshape", inputs[0], shape=(size, *op.attrs["shape"]))


def _broadcast_to(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    shape = op.attrs["shape"]
    return apply("broadcast_to", _padded(inputs[0], len(shape)), shape=(size, *shape))


def _slice(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    attrs = op.attrs
    return apply("slice", inputs[0], start=(0, *attrs["start"]), count=(size, *attrs["count"]),
                 step=(1, *attrs["step"]))


def _unslice(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    attrs = op.attrs
    return apply("unslice", inputs[0], shape=(size, *attrs["shape"]), start=(0, *attrs["start"]),
                 step=(1, *attrs["step"]))


def _embed_diagonal(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    attrs = _after(op.attrs)
    return apply("embed_diagonal", inputs[0], **{**attrs, "shape": (size, *attrs["shape"])})


def _matmul(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    """One large product where one matrix serves the whole batch, else a stack of products."""
    a, b = inputs
    if all(flags) or len(op.inputs[0].shape) > 2:
        return apply("matmul", *_lead(op, inputs, flags, size), **op.attrs)
    rows, columns = op.outputs[0].spec.shape
    if flags[0]:
        if op.attrs["transpose_a"]:
            a = apply("permute_dims", a, axes=(0, 2, 1))
        flat = apply("reshape", a, shape=(size * rows, a.spec.shape[2]))
        product = apply("matmul", flat, b, transpose_a=False, transpose_b=op.attrs["transpose_b"])
        return apply("reshape", product, shape=(size, rows, columns))
    if not op.attrs["transpose_b"]:
        b = apply("permute_dims", b, axes=(0, 2, 1))
    flat = apply("reshape", b, shape=(size * columns, b.spec.shape[2]))
    product = apply("matmul", flat, a, transpose_a=False, transpose_b=not op.attrs["transpose_a"])
    return apply("permute_dims", apply("reshape", product, shape=(size, columns, rows)), axes=(0, 2, 1))


def _joined(indices: Tensor, size: Dim, length: Dim) -> Tensor:
    """Indices into the elements of a batch as indices into its concatenation; negative ones count from each end."""
    shape = indices.spec.shape
    wide = apply("cast", indices, dtype=np.dtype(np.int64))
    number = apply("iota", shape=tuple(shape), axis=0, dtype=np.dtype(np.int64))
    flat = apply("linear_index", number, wide, sizes=(size, length))
    return apply("reshape", flat, shape=(size_product(shape),))


def _front(x: Tensor, axis: int) -> Tensor:
    """The batch axis, and then `axis` of what it holds; the rest follows in order."""
    rest = [a for a in range(1, len(x.shape)) if a != axis + 1]
    return x if not axis else apply("permute_dims", x, axes=(0, axis + 1, *rest))


def _take(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    x, indices = inputs
    axis, rank = op.attrs["axis"], len(op.inputs[1].shape)
    if not flags[1]:
        return apply("take", x, indices, axis=axis + 1)
    if not flags[0]:
        found = apply("take", x, indices, axis=axis)
        before = tuple(range(axis))
        return apply("permute_dims", found, axes=(axis, *before, *range(axis + 1, len(found.shape))))
    moved = _front(x, axis)
    length, rest = moved.spec.shape[1], moved.spec.shape[2:]
    rows = apply("reshape", moved, shape=(size * length, *rest))
    found = apply("take", rows, _joined(indices, size, length), axis=0)
    found = apply("reshape", found, shape=(*indices.spec.shape, *rest))
    before = tuple(range(1 + rank, 1 + rank + axis))
    after = tuple(range(1 + rank + axis, len(found.shape)))
    return apply("permute_dims", found, axes=(0, *before, *range(1, 1 + rank), *after))


def _scatter(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    indices, updates = inputs
    axis, length, rank = op.attrs["axis"], op.attrs["size"], len(op.inputs[0].shape)
    if not flags[0]:
        return apply(op.type, indices, updates, axis=axis + 1, size=length)
    if not flags[1]:
        updates = spread(updates, size)
    own = range(axis + 1, axis + 1 + rank)
    rest = [a for a in range(1, len(updates.shape)) if a not in own]
    moved = apply("permute_dims", updates, axes=(0, *own, *rest))
    inner = moved.spec.shape[1 + rank:]
    flat = apply("reshape", moved, shape=(size_product(indices.spec.shape), *inner))
    found = apply(op.type, _joined(indices, size, length), flat, axis=0, size=size * length)
    found = apply("reshape", found, shape=(size, length, *inner))
    return apply("permute_dims", found, axes=(0, *range(2, 2 + axis), 1, *range(2 + axis, len(found.shape))))


def _update_rows(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    x, indices, updates = inputs
    rank, length = len(op.inputs[1].shape), op.inputs[0].spec.shape[0]
    x, updates = (v if flag else spread(v, size) for v, flag in ((x, flags[0]), (updates, flags[2])))
    if flags[1]:  # one array of the rows of all examples
        inner, count = x.spec.shape[2:], size_product(indices.spec.shape)
        flat = apply(op.type, apply("reshape", x, shape=(size * length, *inner)), _joined(indices, size, length),
                     apply("reshape", updates, shape=(count, *inner)))
        return apply("reshape", flat, shape=(size, length, *inner))
    moved = [apply("permute_dims", v, axes=(*range(1, k), 0, *range(k, len(v.shape))))
             for v, k in ((x, 2), (updates, 1 + rank))]
    found = apply(op.type, moved[0], indices, moved[1])
    return apply("permute_dims", found, axes=(1, 0, *range(2, len(found.shape))))


def _searchsorted(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    return apply("searchsorted", *inputs, **op.attrs) if not flags[0] else _one_by_one(op, inputs, flags, size)


for _name in ("concat stack expand_dims squeeze softmax log_softmax logsumexp norm2 argmax argmin cummax cummin "
              "cumprod cumsum logcumsumexp roll sort top_k linear_scan take_along_axis put_along_axis_add "
              "diagonal").split():
    RULES[_name] = _shifted
for _name in ("zeros_like ones_like linear_index add_n cholesky cholesky_pullback cholesky_pushforward eigh "
              "lower_product lu lu_det lu_slogdet lu_solve qr svd triangular_solve").split():
    RULES[_name] = _same_rank
RULES.update(permute_dims=_permute_dims, reshape=_reshape, broadcast_to=_broadcast_to, slice=_slice, unslice=_unslice,
             embed_diagonal=_embed_diagonal, matmul=_matmul, take=_take, scatter_add=_scatter, scatter_set=_scatter,
             set_rows=_update_rows, add_rows=_update_rows, searchsorted=_searchsorted)


# -- ops without a rule


def repeats(operations: Sequence[Operation]) -> bool:
    """Whether one of these operations would be repeated for each element of a batch."""
    return any(_rule_of(op) is _one_by_one for op in operations)


def _one_by_one(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    if isinstance(size, int) and 0 < size <= UNROLLED:
        each = [apply_all(op.type, *(_element(x, i) if flag else x for x, flag in zip(inputs, flags, strict=True)),
                          **op.attrs) for i in range(size)]
        return [apply("stack", *parts, axis=0) for parts in zip(*each, strict=True)]
    return _in_a_loop(op, inputs, flags, size)


def _element(x: Tensor, i: int) -> Tensor:
    inner = x.spec.shape[1:]
    row = apply("slice", x, start=(i, *(0 for _ in inner)), count=(1, *inner), step=(1,) * len(x.shape))
    return apply("squeeze", row, axes=(0,))


def _in_a_loop(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    rows = [x for x, flag in zip(inputs, flags, strict=True) if flag]

    def step(*given: Tensor) -> Sequence[Tensor]:
        own = iter(given)
        mixed = [next(own) if flag else x for x, flag in zip(inputs, flags, strict=True)]
        return apply_all(op.type, *mixed, **op.attrs)

    graph, arguments, outputs = trace_body(op.graph, [Spec(x.dtype, x.spec.shape[1:]) for x in rows], step)
    body, outer = closed(graph, arguments, outputs)
    return apply_all("scan", *rows, *outer, body=body, carries=0, rows=len(rows), length=size, reverse=False,
                     extends=None)

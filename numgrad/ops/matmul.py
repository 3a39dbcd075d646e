"""The matrix product: the op `matmul`, its public face with broadcasting, and what products are put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply
from numgrad.graph.records import Library
from numgrad.ops.kinds import cast_to, define, operands
from numgrad.types import (
    Dim,
    Shape,
    Spec,
    broadcast_shapes,
    require_equal,
    same_shape,
    same_size,
    show_shape,
    size_product,
)

__all__ = ["matmul"]


# -- the op
def _core(spec: Spec, transposed: Any) -> tuple[Dim, Dim]:
    """Rows and columns of an operand as the product sees it."""
    rows, columns = spec.shape[-2:]
    return (columns, rows) if transposed else (rows, columns)


def _infer_matmul(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    a, b = specs
    if a.dtype != b.dtype:
        raise DtypeError(f"matmul: operands must have one data type, got {a} and {b}{at(user_line())}")
    if a.ndim < 2 or b.ndim != a.ndim:
        raise ShapeError(f"matmul: operands must be stacks of matrices of equal rank, got {a} and {b}{at(user_line())}")
    m, k = _core(a, attrs["transpose_a"])
    k2, n = _core(b, attrs["transpose_b"])
    require_equal(k, k2, lambda: f"matmul: inner sizes {k} and {k2} differ in {a} @ {b}"
                                 f"{' with the first transposed' if attrs['transpose_a'] else ''}"
                                 f"{' with the second transposed' if attrs['transpose_b'] else ''}")
    batch = tuple(require_equal(x, y, lambda: f"matmul: stacks {show_shape(a.shape[:-2])} and "
                                              f"{show_shape(b.shape[:-2])} differ in {a} @ {b}")
                  for x, y in zip(a.shape[:-2], b.shape[:-2], strict=True))
    return (Spec(a.dtype, (*batch, m, n)),)


def _evaluate_matmul(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    return np.matmul(np.swapaxes(a, -1, -2) if transpose_a else a, np.swapaxes(b, -1, -2) if transpose_b else b)


def _vjp_matmul(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    a, b = op.inputs
    ta, tb = op.attrs["transpose_a"], op.attrs["transpose_b"]
    (g,) = cts
    if g is None:
        return [None, None]
    ca, cb = conjugate(a), conjugate(b)
    return [product(cb, g, tb, True) if ta else product(g, cb, False, not tb),
            product(g, ca, True, ta) if tb else product(ca, g, not ta, False)]


def _jvp_matmul(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    a, b = op.inputs
    da, db = tangents
    terms = []
    if da is not None:
        terms.append(product(da, b, **op.attrs))
    if db is not None:
        terms.append(product(a, db, **op.attrs))
    if not terms:
        return [None]
    return [terms[0] if len(terms) == 1 else apply("add", *terms)]


def _sizes_matmul(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
    *batch, m, n = outs[0].shape
    _, k = _core(ins[0], attrs["transpose_a"])
    return (size_product(batch), m, n, k, int(attrs["transpose_a"]), int(attrs["transpose_b"]))


def _span_matmul(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Dim:
    # BLAS takes whole matrices and splits them itself; the loops for other dtypes go by rows.
    blas = outs[0].dtype.char in "fdFD"
    return size_product(outs[0].shape[:-2] if blas else outs[0].shape[:-1])


def _pick_matmul(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> str:
    vector = any(isinstance(d, int) and d == 1 for d in outs[0].shape[-2:])
    return "matvec" if vector and outs[0].dtype.char in "fdFD" else "matmul"


def _flops_matmul(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Dim:
    _, k = _core(ins[0], attrs["transpose_a"])
    return size_product((2, *outs[0].shape, k))


def _samples_matmul(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    def pair(batch: tuple[int, ...], m: int, k: int, n: int, ta: bool, tb: bool) -> Any:
        a = rng.standard_normal((*batch, k, m) if ta else (*batch, m, k))
        b = rng.standard_normal((*batch, n, k) if tb else (*batch, k, n))
        return [a, b], {"transpose_a": ta, "transpose_b": tb}

    result = [pair(batch, m, k, n, ta, tb) for ta in (False, True) for tb in (False, True)
              for batch, m, k, n in (((), 3, 4, 2), ((2,), 11, 9, 10))]
    result += [pair((), 1, 12, 9, False, True), pair((), 10, 12, 1, True, False), pair((3,), 1, 17, 1, False, False),
               pair((2, 2), 3, 0, 2, False, False), pair((0,), 2, 3, 2, False, False), pair((), 0, 3, 2, True, False)]
    (a, b), attrs = pair((2,), 9, 10, 11, False, True)
    result.append(([a + 1j * a[:, ::-1], b - 2j * b[::-1]], attrs))
    (a, b), attrs = pair((2,), 5, 6, 7, True, False)
    result.append(([np.asarray(a * 9, np.int32), np.asarray(b * 9, np.int32)], attrs))
    return result


define("matmul", "general", _infer_matmul, _evaluate_matmul, vjp=_vjp_matmul, jvp=_jvp_matmul, dtypes="biufc",
       library=Library("matmul", sizes=_sizes_matmul, span=_span_matmul, flops=_flops_matmul, parallel=True,
                       pick=_pick_matmul),
       samples=_samples_matmul, public="matmul", doc="Matrix product over the last two axes.")


# -- a matrix times its own transpose: what the compiler makes of such products
def _infer_gram(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    n, _ = _core(specs[0], attrs["transpose"])
    return (Spec(specs[0].dtype, (*specs[0].shape[:-2], n, n)),)


def _vjp_gram(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (x,), (g,) = op.inputs, cts
    if g is None:
        return [None]
    both = apply("add", g, transposed(g))
    return [product(conjugate(x), both) if op.attrs["transpose"] else product(both, conjugate(x))]


def _samples_gram(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    shapes = [(3, 4), (4, 3), (2, 11, 9), (2, 40, 70), (0, 3), (3, 0), (0, 2, 2), (1, 1)]
    found = [([rng.standard_normal(s)], {"transpose": t}) for s in shapes for t in (False, True)]
    found += [([rng.standard_normal((5, 9)) * (1 + 2j)], {"transpose": True}),
              ([rng.standard_normal((12, 9)).astype(np.float32)], {"transpose": False})]
    return found  # type: ignore[return-value]


define("gram", "general", _infer_gram,
       lambda x, transpose: np.matmul(np.swapaxes(x, -1, -2), x) if transpose else np.matmul(x, np.swapaxes(x, -1, -2)),
       vjp=_vjp_gram, dtypes="fc",
       library=Library("gram", sizes=lambda ins, outs, attrs: (
                           size_product(outs[0].shape[:-2]), *reversed(_core(ins[0], not attrs["transpose"])),
                           int(attrs["transpose"])),
                       span=lambda ins, outs, attrs: size_product(outs[0].shape[:-2]), parallel=True,
                       flops=lambda ins, outs, attrs: size_product((*ins[0].shape, outs[0].shape[-1]))),
       samples=_samples_gram, doc="A matrix times its own transpose (`transpose`: the other way round).")


# -- pieces that products share
def product(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """The op `matmul` itself: equal dtypes and equal stacks."""
    return apply("matmul", a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def conjugate(tensor: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    return apply("conj", tensor) if tensor.dtype.kind == "c" else tensor


def reshape_to(tensor: Tensor, shape: Shape) -> Tensor:
    """`tensor` with this shape; itself if it has it."""
    return tensor if same_shape(tensor.shape, shape) else apply("reshape", tensor, shape=tuple(shape))


def permute(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """`tensor` with its axes in this order; itself if they are in order."""
    order = tuple(axes)
    return tensor if order == tuple(range(len(order))) else apply("permute_dims", tensor, axes=order)


def transposed(tensor: Tensor) -> Tensor:
    """The last two axes exchanged."""
    n = tensor.ndim
    return permute(tensor, (*range(n - 2), n - 1, n - 2))


def stretch(tensor: Tensor, shape: Shape) -> Tensor:
    """`tensor` broadcast to this shape; itself if it has it."""
    return tensor if same_shape(tensor.shape, shape) else apply("broadcast_to", tensor, shape=tuple(shape))


def _is_one(dim: Dim) -> bool:
    return same_size(dim, 1)


def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` for operands of one dtype and rank at least 2 whose stacks broadcast."""
    lead_a, lead_b = a.shape[:-2], b.shape[:-2]
    if same_shape(lead_a, lead_b):
        return product(a, b)
    if all(map(_is_one, lead_b)) and len(lead_b) <= len(lead_a):  # a stack times one matrix is one long product
        flat = reshape_to(a, (size_product(a.shape[:-1]), a.shape[-1]))
        result = product(flat, reshape_to(b, b.shape[-2:]))
        return reshape_to(result, (*a.shape[:-1], b.shape[-1]))
    batch = broadcast_shapes([lead_a, lead_b], "matmul")
    return product(stretch(a, (*batch, *a.shape[-2:])), stretch(b, (*batch, *b.shape[-2:])))


def add_over(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Sum over axes in the tensor's own dtype (bools by `or`), as products of integers and bools add up."""
    if not axes:
        return tensor
    ordered = tuple(sorted(axes))
    if tensor.dtype.kind == "b":
        return apply("any", tensor, axes=ordered)
    return cast_to(apply("sum", tensor, axes=ordered), tensor.dtype)


# -- public functions
def matmul(x1: Any, x2: Any, /) -> Tensor:
    """Matrix product.

    Parameters
    ----------
    x1, x2 : array_like
        Shapes ``(..., m, k)`` and ``(..., k, n)``; leading axes broadcast. A 1-d first operand is a row, a 1-d second
        one a column; the axis that was added is removed from the result. Any dtype; integers wrap, bools combine by
        `and` and `or`.

    Returns
    -------
    Tensor
        Shape ``(..., m, n)``, of the promoted dtype.

    Raises
    ------
    ShapeError
        For 0-d operands, or when ``k`` differs or the leading axes do not broadcast.

    Notes
    -----
    With cotangent G the derivatives are ``G x2^H`` and ``x1^H G``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).numpy()
    array([3., 7.])
    """
    a, b = operands((x1, x2), "matmul")
    if not a.ndim or not b.ndim:
        raise ShapeError(f"matmul: got {a.spec} and {b.spec}, wanted at least one axis each; use ng.multiply for "
                         f"scalars{at(user_line())}")
    k, k2 = a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[0]
    require_equal(k, k2, lambda: f"matmul: cannot multiply {a.spec} by {b.spec}: the last axis of the first has size "
                                 f"{k}, the {'second to last' if b.ndim > 1 else 'only'} axis of the second {k2}; "
                                 f"they must be equal")
    if a.ndim == 1 and b.ndim == 1:
        return add_over(apply("multiply", a, b), (0,))
    left = apply("expand_dims", a, axes=(0,)) if a.ndim == 1 else a
    right = apply("expand_dims", b, axes=(1,)) if b.ndim == 1 else b
    result = matrix_product(left, right)
    if a.ndim == 1:
        return apply("squeeze", result, axes=(result.ndim - 2,))
    return apply("squeeze", result, axes=(result.ndim - 1,)) if b.ndim == 1 else result

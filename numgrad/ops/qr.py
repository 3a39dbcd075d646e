"""The QR factorisation of stacks of matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import GradientError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.joining import concat
from numgrad.ops.kinds import define
from numgrad.ops.linalg import BLOCK, adjoint, batch_of, matrices, on_diagonal, rectangular_samples
from numgrad.ops.matmul import conjugate, product
from numgrad.ops.slicing import narrow
from numgrad.ops.triangles import tril
from numgrad.types import Dim, Spec, same_size, size_max, size_min, size_product

__all__ = ["QRResult", "qr"]


def _infer_qr(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    dtype, (*lead, m, n) = specs[0].dtype, specs[0].shape
    k = m if attrs["complete"] else size_min(m, n)
    return Spec(dtype, (*lead, m, k)), Spec(dtype, (*lead, k, n))


def _evaluate_qr(a: Any, complete: bool) -> Any:
    return tuple(np.linalg.qr(a, mode="complete" if complete else "reduced"))


def _tall_cotangent(q: Tensor, r: Tensor, to_q: Tensor | None, to_r: Tensor | None) -> Tensor:
    """The cotangent of a matrix with at least as many rows as columns, from those of its reduced factors."""
    parts = []
    if to_r is not None:
        parts.append(product(r, conjugate(to_r), False, True))
    if to_q is not None:
        parts.append(apply("negative", product(conjugate(to_q), q, True, False)))
    inner = parts[0] if len(parts) == 1 else apply("add", *parts)
    below = tril(inner, -1)
    middle = apply("multiply", apply("add", inner, conjugate(inner)), as_tensor(np.asarray(0.5, inner.dtype)))
    mirrored = on_diagonal(inner.shape[-1], middle, apply("add", below, adjoint(below)))
    total = product(q, mirrored)
    if to_q is not None:
        total = apply("add", to_q, total)
    return adjoint(apply("triangular_solve", r, adjoint(total), lower=False, trans=0, unit_diagonal=False))


def _vjp_qr(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (to_q, to_r), (q, r), (a,) = cts, op.outputs, op.inputs
    if to_q is None and to_r is None:
        return [None]
    m, n = a.shape[-2:]
    tall = same_size(m, n) or bool(m > n)
    if not tall:  # a = q (u, v): the first m columns are a square problem, and v = q^H y
        last = a.ndim - 1
        left = narrow(r, last, 0, m)
        to_left = None
        if to_r is not None:
            to_left, to_right = narrow(to_r, last, 0, m), narrow(to_r, last, m, n - m)
            turned = product(narrow(a, last, m, n - m), conjugate(to_right), False, True)
            to_q = turned if to_q is None else apply("add", to_q, turned)
        first = _tall_cotangent(q, left, to_q, to_left)
        second = product(q, to_right) if to_r is not None else apply("zeros_like", narrow(a, last, m, n - m))
        return [concat([first, second], axis=-1)]
    if op.attrs["complete"] and not same_size(m, n):
        raise GradientError(f"qr: with mode='complete' the columns of Q beyond the first {n} of {a.spec} are not "
                            f"determined and have no derivative; use mode='reduced'{at(op.where)}")
    return [_tall_cotangent(q, r, to_q, to_r)]


def _scratch_qr(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[tuple[Any, Dim]]:
    dtype, (m, n) = ins[0].dtype, ins[0].shape[-2:]
    return [(dtype, m * n), (dtype, size_min(m, n)), (dtype, BLOCK * size_max(m, n) + 1)]


define("qr", "general", _infer_qr, _evaluate_qr, vjp=_vjp_qr, dtypes="fc",
       library=Library("qr", sizes=lambda ins, outs, attrs: (
                           batch_of(ins[0]), *ins[0].shape[-2:], outs[0].shape[-1]),
                       span=lambda ins, outs, attrs: batch_of(ins[0]), scratch=_scratch_qr,
                       flops=lambda ins, outs, attrs: 4 * size_product((*ins[0].shape, outs[0].shape[-1]))),
       samples=lambda rng: rectangular_samples(rng, complete=False), public="linalg.qr",
       doc="Orthonormal columns times an upper triangle.")


class QRResult(NamedTuple):
    """What `qr` returns.

    Attributes
    ----------
    Q : Tensor
    R : Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.qr([[2.0]])._fields
    ('Q', 'R')
    """

    Q: Tensor
    R: Tensor


def qr(a: Any, /, mode: str = "reduced") -> QRResult | Tensor:
    """Factor matrices into orthonormal columns and an upper triangle.

    Parameters
    ----------
    a : array_like
        Shape ``(..., m, n)``. float32, float64, complex64, complex128; integers become float64.
    mode : {"reduced", "complete", "r"}
        ``"complete"`` makes Q square, ``"r"`` gives R alone.

    Returns
    -------
    QRResult
        ``Q`` of shape ``(..., m, k)`` and ``R`` of shape ``(..., k, n)`` with ``k = min(m, n)`` (m for "complete").

    Raises
    ------
    ShapeError, DtypeError
        For fewer than two axes or another mode; for float16.
    GradientError
        For derivatives of "complete" with more rows than columns.
    numpy.linalg.LinAlgError
        For derivatives where the first k columns are linearly dependent.

    Notes
    -----
    With ``M = R Gr^H - Gq^H Q`` the cotangent of a is ``(Gq + Q C) R^-H``, where C repeats the lower triangle of M
    above the diagonal, conjugated (S. F. Walter, "Structured higher-order algorithmic differentiation in the
    forward and reverse mode", 2012). For more columns than rows it holds for the first m, and ``Q Gr`` for the
    others.

    Examples
    --------
    >>> import numgrad as ng
    >>> q, r = ng.linalg.qr([[3.0, 1.0], [4.0, 2.0]])
    >>> bool(abs(r.numpy()[0, 0]) == 5.0)
    True
    """
    if mode not in ("reduced", "complete", "r"):
        raise ShapeError(f"qr: mode is {mode!r}, wanted 'reduced', 'complete' or 'r'{at(user_line())}")
    (x,) = matrices("qr", a)
    result = QRResult(*apply_all("qr", x, complete=mode == "complete"))
    return result.R if mode == "r" else result

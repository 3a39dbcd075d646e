"""Eigenvalues of Hermitian matrices and singular values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import GradientError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import cast_to, define
from numgrad.ops.linalg import (
    BLOCK,
    adjoint,
    batch_of,
    hermitian_part,
    lapack,
    matrices,
    on_diagonal,
    over_stack,
    rectangular_samples,
    require_square,
    square_samples,
)
from numgrad.ops.matmul import conjugate, product
from numgrad.ops.statistics import real_dtype
from numgrad.types import Dim, Spec, same_size, size_max, size_min, size_product

__all__ = ["EighResult", "SVDResult", "eigh", "eigvalsh", "svd", "svdvals"]


def _column(values: Tensor, dtype: Any) -> Tensor:
    """Values of each item as a column, in `dtype`."""
    return apply("expand_dims", cast_to(values, dtype), axes=(values.ndim,))


def _row(values: Tensor, dtype: Any) -> Tensor:
    return apply("expand_dims", cast_to(values, dtype), axes=(values.ndim - 1,))


def _safe_reciprocal(x: Tensor) -> Tensor:
    """``1/x``, and 0 where x is 0."""
    zero = as_tensor(np.zeros((), x.dtype))
    vanishes = apply("equal", x, zero)
    one = as_tensor(np.ones((), x.dtype))
    return apply("where", vanishes, zero, apply("divide", one, apply("where", vanishes, one, x)))


# -- eigh
def _infer_eigh(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    require_square("eigh", specs[0])
    return Spec(real_dtype(specs[0].dtype), specs[0].shape[:-1]), specs[0]


_NO_EIGENVALUES = "the eigenvalues did not converge; check the matrix for NaN and infinity"


def _evaluate_eigh(a: Any) -> Any:
    w, v = np.zeros(a.shape[:-1], real_dtype(a.dtype)), np.array(a)
    if a.size:
        routine = lapack("heevd" if a.dtype.kind == "c" else "syevd", a.dtype)
        if over_stack(lambda m: routine(m, compute_v=1, lower=1), [w, v], a):
            raise np.linalg.LinAlgError(_NO_EIGENVALUES)
    return w, v


def _vjp_eigh(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (to_w, to_v), (w, v) = cts, op.outputs
    if to_w is None and to_v is None:
        return [None]
    diagonal = _column(to_w if to_w is not None else apply("zeros_like", w), v.dtype)
    if to_v is None:
        return [hermitian_part(product(v, apply("multiply", diagonal, adjoint(v))))]
    gaps = _safe_reciprocal(apply("subtract", _row(w, w.dtype), _column(w, w.dtype)))
    inner = apply("multiply", cast_to(gaps, v.dtype), product(conjugate(v), to_v, True, False))
    core = on_diagonal(v.shape[-1], diagonal, inner)
    return [hermitian_part(product(product(v, core), conjugate(v), False, True))]


def _scratch_eigh(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[tuple[Any, Dim]]:
    dtype, n = ins[0].dtype, ins[0].shape[-1]
    square, ints = n * n, (np.dtype(np.int32), 3 + 5 * n)
    if dtype.kind == "c":
        work = [(dtype, square + (2 + BLOCK) * n + 1), (real_dtype(dtype), 2 * square + 5 * n + 1)]
    else:
        work = [(dtype, 2 * square + (6 + BLOCK) * n + 1)]
    return [(dtype, square), ints, *work]


def _hermitian_samples(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    return [([a + np.conj(np.swapaxes(a, -1, -2))], {}) for a in square_samples(rng)]


define("eigh", "general", _infer_eigh, _evaluate_eigh, vjp=_vjp_eigh, dtypes="fc",
       library=Library("eigh", sizes=lambda ins, outs, attrs: (batch_of(ins[0]), ins[0].shape[-1]),
                       span=lambda ins, outs, attrs: batch_of(ins[0]), scratch=_scratch_eigh, status=True,
                       flops=lambda ins, outs, attrs: 9 * size_product((*ins[0].shape, ins[0].shape[-1])),
                       error=_NO_EIGENVALUES),
       samples=_hermitian_samples, public="linalg.eigh",
       doc="Eigenvalues and eigenvectors of Hermitian matrices.")


class EighResult(NamedTuple):
    """What `eigh` returns.

    Attributes
    ----------
    eigenvalues : Tensor
    eigenvectors : Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.eigh([[2.0]])._fields
    ('eigenvalues', 'eigenvectors')
    """

    eigenvalues: Tensor
    eigenvectors: Tensor


def eigh(a: Any, /, UPLO: str = "L") -> EighResult:  # noqa: N803
    """Eigenvalues and eigenvectors of Hermitian (real symmetric) matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64.
    UPLO : {"L", "U"}
        Which triangle is read.

    Returns
    -------
    EighResult
        Real ``eigenvalues`` of shape ``(..., n)``, ascending, and ``eigenvectors`` of shape ``(..., n, n)``, the
        columns v with ``a v = w v``.

    Raises
    ------
    numpy.linalg.LinAlgError
        When the iteration does not converge (NaN or infinity in a matrix).
    ShapeError, DtypeError
        For matrices that are not square; for float16.

    Notes
    -----
    With cotangents g of w and G of V the cotangent of a is the Hermitian part of ``V (diag(g) + F * (V^H G)) V^H``,
    where ``F[i, j] = 1 / (w[j] - w[i])`` and 0 on the diagonal (M. Giles, "Collected matrix derivative results for
    forward and reverse mode algorithmic differentiation", 2008). Eigenvectors of equal eigenvalues are not
    determined; F is 0 there, which is exact for every loss that does not depend on their choice, nor on the phases
    of the vectors. The derivative is along Hermitian changes of `a`, shared evenly by both triangles.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.eigh([[2.0, 0.0], [0.0, 1.0]]).eigenvalues.numpy()
    array([1., 2.])
    """
    (x,) = matrices("eigh", a)
    if UPLO.upper() not in ("L", "U"):
        raise ShapeError(f"eigh: UPLO is {UPLO!r}, wanted 'L' or 'U'{at(user_line())}")
    return EighResult(*apply_all("eigh", adjoint(x) if UPLO.upper() == "U" else x))


def eigvalsh(a: Any, /, UPLO: str = "L") -> Tensor:  # noqa: N803
    """Eigenvalues of Hermitian (real symmetric) matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``; dtypes as for `eigh`.
    UPLO : {"L", "U"}
        Which triangle is read.

    Returns
    -------
    Tensor
        Real, of shape ``(..., n)``, ascending.

    Raises
    ------
    numpy.linalg.LinAlgError
        When the iteration does not converge.
    ShapeError, DtypeError
        For matrices that are not square; for float16.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.eigvalsh([[0.0, 1.0], [1.0, 0.0]]).numpy()
    array([-1.,  1.])
    """
    return eigh(a, UPLO).eigenvalues


# -- svd
_NO_VALUES = "the singular values did not converge; check the matrix for NaN and infinity"


def _infer_svd(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    dtype, (*lead, m, n) = specs[0].dtype, specs[0].shape
    k = size_min(m, n)
    rows, columns = (m, n) if attrs["full_matrices"] else (k, k)
    return Spec(dtype, (*lead, m, rows)), Spec(real_dtype(dtype), (*lead, k)), Spec(dtype, (*lead, columns, n))


def _evaluate_svd(a: Any, full_matrices: bool) -> Any:
    specs = _infer_svd([Spec(a.dtype, a.shape)], {"full_matrices": full_matrices})
    if not a.size:
        return tuple(np.linalg.svd(a, full_matrices=full_matrices))
    u, s, vh = (np.zeros(spec.shape, spec.dtype) for spec in specs)
    routine = lapack("gesdd", a.dtype)
    if over_stack(lambda m: routine(m, compute_uv=1, full_matrices=int(full_matrices)), [u, s, vh], a):
        raise np.linalg.LinAlgError(_NO_VALUES)
    return u, s, vh


def _skew(x: Tensor) -> Tensor:
    return apply("subtract", x, adjoint(x))


def _vjp_svd(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (to_u, to_s, to_vh), (u, s, vh) = cts, op.outputs
    m, n = op.inputs[0].shape[-2:]
    if op.attrs["full_matrices"] and not same_size(m, n):
        raise GradientError(f"svd: with full_matrices=True the singular vectors of {op.inputs[0].spec} beyond the "
                            f"first min(m, n) are not determined and have no derivative; use full_matrices=False"
                            f"{at(op.where)}")
    if to_u is None and to_s is None and to_vh is None:
        return [None]
    dtype, k = u.dtype, s.shape[-1]
    row, column = _row(s, dtype), _column(s, dtype)
    real_row, real_column = _row(s, s.dtype), _column(s, s.dtype)
    gaps = cast_to(_safe_reciprocal(apply("multiply", apply("subtract", real_row, real_column),
                                          apply("add", real_row, real_column))), dtype)
    diagonal = _column(to_s if to_s is not None else apply("zeros_like", s), dtype)
    uhg = product(conjugate(u), to_u, True, False) if to_u is not None else None
    ghv = product(vh, conjugate(to_vh), False, True) if to_vh is not None else None  # V^H Gv, where Gv = G^H
    terms = []
    if uhg is not None:
        terms.append(apply("multiply", apply("multiply", _skew(uhg), gaps), row))
        if ghv is not None and dtype.kind == "c":
            half_inverse = cast_to(_safe_reciprocal(apply("add", real_column, real_column)), dtype)
            turn = apply("multiply", _skew(uhg), half_inverse)
            diagonal = apply("add", diagonal, turn)
    if ghv is not None:
        terms.append(apply("multiply", column, apply("multiply", _skew(ghv), gaps)))
    rest = apply("add", *terms) if len(terms) == 2 else terms[0] if terms else apply("zeros_like", gaps)
    result = product(product(u, on_diagonal(k, diagonal, rest)), vh)
    inverse_row = cast_to(_safe_reciprocal(real_row), dtype)
    if to_u is not None and uhg is not None and not same_size(m, k):  # the part of the change outside u's columns
        outside = apply("subtract", to_u, product(u, uhg))
        result = apply("add", result, product(apply("multiply", outside, inverse_row), vh))
    if to_vh is not None and ghv is not None and not same_size(n, k):
        outside = apply("subtract", to_vh, product(adjoint(ghv), vh))
        result = apply("add", result, product(apply("multiply", u, inverse_row), outside))
    return [result]


def _scratch_svd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[tuple[Any, Dim]]:
    dtype, (m, n) = ins[0].dtype, ins[0].shape[-2:]
    small, large = size_min(m, n), size_max(m, n)
    sides = [(dtype, size_product(outs[0].shape[-2:])), (dtype, size_product(outs[2].shape[-2:]))]
    ints = (np.dtype(np.int32), 8 * small)
    work = 4 * small * small + (7 + 3 * BLOCK) * (small + large) + 1
    reals = [(real_dtype(dtype), 5 * small * small + 2 * large * small + 7 * small + 1)] if dtype.kind == "c" else []
    return [(dtype, m * n), *sides, ints, (dtype, work), *reals]


define("svd", "general", _infer_svd, _evaluate_svd, vjp=_vjp_svd, dtypes="fc",
       library=Library("svd", sizes=lambda ins, outs, attrs: (
                           batch_of(ins[0]), *ins[0].shape[-2:], int(attrs["full_matrices"])),
                       span=lambda ins, outs, attrs: batch_of(ins[0]), scratch=_scratch_svd, status=True,
                       flops=lambda ins, outs, attrs: 20 * size_product((*ins[0].shape, outs[1].shape[-1])),
                       error=_NO_VALUES),
       samples=lambda rng: rectangular_samples(rng, full_matrices=False), public="linalg.svd",
       doc="Singular value decomposition.")


class SVDResult(NamedTuple):
    """What `svd` returns.

    Attributes
    ----------
    U : Tensor
    S : Tensor
    Vh : Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.svd([[2.0]])._fields
    ('U', 'S', 'Vh')
    """

    U: Tensor
    S: Tensor
    Vh: Tensor


def svd(a: Any, /, full_matrices: bool = True, compute_uv: bool = True) -> SVDResult | Tensor:
    """Singular value decomposition of matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., m, n)``. float32, float64, complex64, complex128; integers become float64.
    full_matrices : bool
        Whether U and Vh are square; only with False, or for square matrices, they have derivatives.
    compute_uv : bool
        With False only the singular values are returned.

    Returns
    -------
    SVDResult
        ``U`` of shape ``(..., m, k)``, real ``S`` of shape ``(..., k)``, descending, and ``Vh`` of shape ``(..., k,
        n)`` with ``a = U diag(S) Vh`` and ``k = min(m, n)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        When the iteration does not converge (NaN or infinity in a matrix).
    ShapeError, DtypeError
        For fewer than two axes; for float16.
    GradientError
        For derivatives with `full_matrices` of a matrix that is not square.

    Notes
    -----
    With ``E[i, j] = 1 / (s[j]**2 - s[i]**2)`` (0 where the two are equal), cotangents Gu, g, Gv and ``skew(X) = X -
    X^H``, the cotangent of a is ``U ((skew(U^H Gu) * E) S + S (skew(V^H Gv) * E) + diag(g)) V^H + (1 - U U^H) Gu
    S^-1 V^H + U S^-1 Gv^H (1 - V V^H)``, and for complex matrices the diagonal also has ``skew(U^H Gu) / 2s`` (M.
    Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation", 2008;
    Z.-Q. Wan and S.-X. Zhang, "Automatic differentiation for complex valued SVD", 2019). Vectors of equal singular
    values, the common phases of u and v, and ``1/s`` at ``s = 0`` are not determined and count as 0: exact for
    every loss that does not depend on them.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.svd([[0.0, 2.0], [1.0, 0.0]]).S.numpy()
    array([2., 1.])
    """
    (x,) = matrices("svd", a)
    result = SVDResult(*apply_all("svd", x, full_matrices=bool(full_matrices and compute_uv)))
    return result if compute_uv else result.S


def svdvals(a: Any, /) -> Tensor:
    """Singular values of matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., m, n)``; dtypes as for `svd`.

    Returns
    -------
    Tensor
        Real, of shape ``(..., min(m, n))``, descending.

    Raises
    ------
    numpy.linalg.LinAlgError
        When the iteration does not converge.
    ShapeError, DtypeError
        For fewer than two axes; for float16.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.svdvals([[3.0, 0.0], [0.0, 4.0]]).numpy()
    array([4., 3.])
    """
    (x,) = matrices("svdvals", a)
    return apply_all("svd", x, full_matrices=False)[1]

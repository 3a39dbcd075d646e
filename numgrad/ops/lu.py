"""Equations, inverses and determinants of general square matrices, all from one LU factorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all
from numgrad.graph.records import Library
from numgrad.ops.kinds import define, operands
from numgrad.ops.linalg import (
    batch_of,
    identity_like,
    lapack,
    matrices,
    over_stack,
    require_square,
    solve_broadcast,
    solve_cotangents,
    square_samples,
)
from numgrad.ops.matmul import conjugate, product, reshape_to
from numgrad.ops.statistics import real_dtype
from numgrad.types import Spec, size_product

__all__ = ["SlogdetResult", "det", "inv", "matrix_power", "slogdet", "solve"]

SINGULAR = "a matrix is singular"


# -- lu: the factors of A^T, which is what LAPACK sees of a row-major A without a copy
def _infer_lu(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    require_square("lu", specs[0])
    return (specs[0], Spec(np.dtype(np.int32), specs[0].shape[:-1]))


def _evaluate_lu(a: Any) -> Any:
    factors, pivots = np.array(a), np.zeros(a.shape[:-1], np.int32)
    if a.size:
        getrf = lapack("getrf", a.dtype)

        def one(m: Any) -> Any:
            lu, order, info = getrf(m.T)
            return lu.T, order + 1, info

        over_stack(one, [factors, pivots], a)
    return factors, pivots


define("lu", "general", _infer_lu, _evaluate_lu, dtypes="fc", smooth=False,
       library=Library("lu", sizes=lambda ins, outs, attrs: (batch_of(ins[0]), ins[0].shape[-1]),
                       span=lambda ins, outs, attrs: batch_of(ins[0]), parallel=True,
                       flops=lambda ins, outs, attrs: 2 * size_product((*ins[0].shape, ins[0].shape[-1])) // 3),
       samples=lambda rng: [([a], {}) for a in square_samples(rng)],
       doc="Packed LU factors of the transposes of matrices, and LAPACK's row exchanges; derivatives go around it, "
           "through the ops that are given both the matrix and its factors.")


def lu_factors(a: Tensor) -> tuple[Tensor, Tensor]:
    """The factors and exchanges that `lu_solve`, `lu_det` and `lu_slogdet` take next to `a`."""
    factors, pivots = apply_all("lu", apply("stop_gradient", a))
    return factors, pivots


# -- lu_solve
def _infer_solve(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    return (specs[3],)


def _evaluate_solve(a: Any, lu: Any, pivots: Any, b: Any, trans: int) -> Any:
    x = np.array(b)
    if x.size:
        if np.any(np.diagonal(lu, axis1=-2, axis2=-1) == 0):
            raise np.linalg.LinAlgError(SINGULAR)
        getrs = lapack("getrs", a.dtype)

        def one(m: Any, order: Any, right: Any) -> Any:
            # The factors are of A^T: A is their transpose, A^T themselves, A^H their conjugate.
            if trans == 2:
                found, info = getrs(m.T, order - 1, np.conj(right), trans=0)
                return np.conj(found), info
            return getrs(m.T, order - 1, right, trans=1 - trans)

        over_stack(one, [x], lu, pivots, b)
    return x


def _solve(a: Tensor, lu: Tensor, pivots: Tensor, b: Tensor, trans: int = 0) -> Tensor:
    return apply("lu_solve", a, lu, pivots, b, trans=trans)


def _vjp_solve(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (g,), (a, lu, pivots, _) = cts, op.inputs
    if g is None:
        return [None] * 4
    to_a, to_b = solve_cotangents(op, g, lambda b, trans: _solve(a, lu, pivots, b, trans))
    return [to_a, None, None, to_b]


def _samples_solve(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    result: list[tuple[Sequence[Any], Mapping[str, Any]]] = []
    for number, a in enumerate(square_samples(rng)):
        b = rng.standard_normal((*a.shape[:-1], 1 + number % 3)).astype(a.dtype)
        result += [([a, *_evaluate_lu(a), b], {"trans": trans}) for trans in (0, 1, 2)]
    return result


define("lu_solve", "general", _infer_solve, _evaluate_solve, vjp=_vjp_solve, dtypes="fc",
       library=Library("lu_solve", sizes=lambda ins, outs, attrs: (
                           batch_of(ins[3]), *ins[3].shape[-2:], attrs["trans"]),
                       span=lambda ins, outs, attrs: batch_of(ins[3]), status=True, parallel=True, error=SINGULAR,
                       flops=lambda ins, outs, attrs: 2 * size_product((*ins[3].shape, ins[3].shape[-2]))),
       samples=_samples_solve,
       doc="Solution of equations with a matrix whose LU factors are given; derivatives go to the matrix itself.")


# -- determinants
def _sign_of(lu: Any, pivots: Any) -> Any:
    swaps = np.sum(pivots != np.arange(1, lu.shape[-1] + 1), axis=-1)
    return np.where(swaps % 2 == 0, 1, -1).astype(lu.dtype)


def _infer_det(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    return (Spec(specs[0].dtype, specs[0].shape[:-2]),)


def _evaluate_det(a: Any, lu: Any, pivots: Any) -> Any:
    return _sign_of(lu, pivots) * np.prod(np.diagonal(lu, axis1=-2, axis2=-1), axis=-1)


def _scale_inverse(op: Operation, factor: Tensor) -> list[Tensor | None]:
    """Cotangents of (a, factors, exchanges) that are ``factor a^-H``."""
    a, lu, pivots = op.inputs
    inverse = _solve(a, lu, pivots, identity_like(a), trans=2)
    return [apply("multiply", reshape_to(factor, (*factor.shape, 1, 1)), inverse), None, None]


def _vjp_det(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (g,), (y,) = cts, op.outputs
    return [None] * 3 if g is None else _scale_inverse(op, apply("multiply", g, conjugate(y)))


def _infer_slogdet(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    a = specs[0]
    return Spec(a.dtype, a.shape[:-2]), Spec(real_dtype(a.dtype), a.shape[:-2])


def _evaluate_slogdet(a: Any, lu: Any, pivots: Any) -> Any:
    diagonal = np.diagonal(lu, axis1=-2, axis2=-1)
    return (_sign_of(lu, pivots) * np.prod(np.sign(diagonal), axis=-1), np.sum(np.log(np.abs(diagonal)), axis=-1))


def _vjp_slogdet(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (to_sign, to_log), (sign, _) = cts, op.outputs
    # With d = tr(a^-1 da): the logarithm changes by Re d, the sign by i Im(d) sign.
    factor = to_log
    if sign.dtype.kind == "c":
        real = to_log if to_log is not None else apply("zeros_like", op.outputs[1])
        turn = (apply("imag", apply("multiply", to_sign, conjugate(sign))) if to_sign is not None
                else apply("zeros_like", op.outputs[1]))
        factor = apply("make_complex", real, turn)
    return [None] * 3 if factor is None else _scale_inverse(op, factor)


for _name, _infer, _evaluate, _vjp, _doc in (
        ("lu_det", _infer_det, _evaluate_det, _vjp_det, "Determinants of matrices whose LU factors are given."),
        ("lu_slogdet", _infer_slogdet, _evaluate_slogdet, _vjp_slogdet,
         "Signs and logarithms of absolute values of determinants of matrices whose LU factors are given.")):
    define(_name, "general", _infer, _evaluate, vjp=_vjp, dtypes="fc",
           library=Library(_name, sizes=lambda ins, outs, attrs: (batch_of(ins[0]), ins[0].shape[-1]),
                           span=lambda ins, outs, attrs: batch_of(ins[0]), parallel=True),
           samples=lambda rng: [([a, *_evaluate_lu(a)], {}) for a in square_samples(rng)], doc=_doc)


# -- public functions
def solve(a: Any, b: Any, /) -> Tensor:
    """Solve systems of linear equations.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64.
    b : array_like
        Shape ``(n,)`` or ``(..., n, r)``; leading axes broadcast against those of `a`.

    Returns
    -------
    Tensor
        x with ``a x = b``.

    Raises
    ------
    numpy.linalg.LinAlgError
        When a matrix is singular.
    ShapeError, DtypeError
        When shapes do not fit; for float16.

    Notes
    -----
    With cotangent G of x and ``H = a^-H G`` the cotangents are H for b and ``-H x^H`` for a: one more solve with the
    same factors (M. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008).

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.solve([[2.0, 1.0], [1.0, 3.0]], [3.0, 4.0]).numpy()
    array([1., 1.])
    """
    x, y = matrices("solve", a, b)
    if not y.ndim:
        raise ShapeError(f"solve: the right side is 0-d, wanted a vector or matrices{at(user_line())}")
    require_square("solve", x.spec)
    return solve_broadcast("solve", x, lu_factors(x), y, _solve)


def inv(a: Any, /) -> Tensor:
    """Inverses of square matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64.

    Returns
    -------
    Tensor

    Raises
    ------
    numpy.linalg.LinAlgError
        When a matrix is singular.
    ShapeError, DtypeError
        For matrices that are not square; for float16.

    Notes
    -----
    With cotangent G of ``Y = a^-1`` the cotangent of a is ``-Y^H G Y^H``. To multiply by an inverse, `solve` is faster
    and more accurate.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.inv([[2.0, 0.0], [0.0, 4.0]]).numpy()
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    (x,) = matrices("inv", a)
    require_square("inv", x.spec)
    return _solve(x, *lu_factors(x), identity_like(x))


def det(a: Any, /) -> Tensor:
    """Determinants of square matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64.

    Returns
    -------
    Tensor
        Shape ``(...)``; 1 for ``n = 0``.

    Raises
    ------
    ShapeError, DtypeError
        For matrices that are not square; for float16.
    numpy.linalg.LinAlgError
        When a derivative is wanted where a matrix is singular.

    Notes
    -----
    With cotangent g the cotangent of a is ``g conj(det) a^-H``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.det([[2.0, 1.0], [1.0, 3.0]]).numpy()
    array(5.)
    """
    (x,) = matrices("det", a)
    require_square("det", x.spec)
    return apply("lu_det", x, *lu_factors(x))


class SlogdetResult(NamedTuple):
    """What `slogdet` returns.

    Attributes
    ----------
    sign : Tensor
    logabsdet : Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.slogdet([[2.0]])._fields
    ('sign', 'logabsdet')
    """

    sign: Tensor
    logabsdet: Tensor


def slogdet(a: Any, /) -> SlogdetResult:
    """Signs and logarithms of the absolute values of determinants.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64.

    Returns
    -------
    SlogdetResult
        ``sign`` of absolute value 1 (0 for a singular matrix) and real ``logabsdet`` (-inf for a singular matrix), both
        of shape ``(...)``, with ``det = sign * exp(logabsdet)``.

    Raises
    ------
    ShapeError, DtypeError
        For matrices that are not square; for float16.
    numpy.linalg.LinAlgError
        When a derivative is wanted where a matrix is singular.

    Notes
    -----
    With cotangent g of logabsdet the cotangent of a is ``g a^-H``.

    Examples
    --------
    >>> import numgrad as ng
    >>> sign, logabsdet = ng.linalg.slogdet([[0.0, 1.0], [1.0, 0.0]])
    >>> float(sign), float(logabsdet)
    (-1.0, 0.0)
    """
    (x,) = matrices("slogdet", a)
    require_square("slogdet", x.spec)
    return SlogdetResult(*apply_all("lu_slogdet", x, *lu_factors(x)))


def matrix_power(a: Any, n: int, /) -> Tensor:
    """Integer powers of square matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., m, m)``; any dtype for ``n >= 0``, as for `inv` otherwise.
    n : int
        A Python integer; 0 gives identities, negative ones powers of the inverse.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For matrices that are not square.
    numpy.linalg.LinAlgError
        When `n` is negative and a matrix is singular.

    Notes
    -----
    Repeated squaring: at most ``2 log2(n)`` products.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.matrix_power([[1.0, 1.0], [0.0, 1.0]], 5).numpy()
    array([[1., 5.],
           [0., 1.]])
    """
    power = int(n)
    x = inv(a) if power < 0 else operands((a,), "matrix_power", dtypes="biufc")[0]
    if x.ndim < 2:
        raise ShapeError(f"matrix_power: got {x.spec}, wanted two or more axes{at(user_line())}")
    require_square("matrix_power", x.spec)
    result: Tensor | None = None
    for bit in bin(abs(power))[2:]:
        if result is not None:
            result = product(result, result)
        if bit == "1":
            result = x if result is None else product(result, x)
    return identity_like(x) if result is None else result

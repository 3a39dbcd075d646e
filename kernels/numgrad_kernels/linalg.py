"""LU factors, triangular systems, the solves that use them, and determinants: stacks of matrices, by LAPACK and BLAS.

Arrays are row-major and the routines column-major, so a routine sees the transpose of every matrix. Triangles then
change sides, and a solve ``A X = B`` is one with the unknown on the left of the matrix: ``X^T A^T = B^T``. Nothing is
copied but the right side, which the routines overwrite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad_kernels import cholesky, spectral
from numgrad_kernels.blas import FEW, LETTERS, STORAGE, fortran, pointer_to, routines
from numgrad_kernels.library import library
from numgrad_kernels.prelude import namespace
from numgrad_kernels.symbols import inlined

__all__ = ["cholesky", "spectral"]

_RIGHT = ord("R")
_LOWER, _UPPER = ord("L"), ord("U")
_PLAIN, _TRANS, _ADJOINT = ord("N"), ord("T"), ord("C")
_UNIT, _GIVEN = ord("U"), ord("N")


def _triangular_routines(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    letter = LETTERS[dtype.char]
    return (fortran("blas", f"{letter}trsm", f"ccccii{letter.upper()}pipi"),
            fortran("blas", f"{letter}trsv", "cccipipi"))


def _one_unknown() -> Any:
    """A step of a small triangular solve: row k of x from that of b and rows that are known."""

    @inlined
    def unknown(a, b, x, k, begin, end, r, row, along, scale):  # type: ignore[no-untyped-def]
        blocks = r // 4
        for block in range(blocks):  # four columns at a time, which do not wait for each other
            s = 4 * block
            at = k * r + s
            t0, t1, t2, t3 = b[at], b[at + 1], b[at + 2], b[at + 3]
            for p in range(begin, end):
                factor, known = a[k * row + p * along], p * r + s
                t0 = t0 - factor * x[known]
                t1 = t1 - factor * x[known + 1]
                t2 = t2 - factor * x[known + 2]
                t3 = t3 - factor * x[known + 3]
            x[at] = t0 * scale
            x[at + 1] = t1 * scale
            x[at + 2] = t2 * scale
            x[at + 3] = t3 * scale
        for s in range(4 * blocks, r):
            total = b[k * r + s]
            for p in range(begin, end):
                total = total - a[k * row + p * along] * x[p * r + s]
            x[k * r + s] = total * scale

    return unknown


@library("triangular_solve", family="linalg", requires=routines("blas:?trsm", "blas:?trsv"), brief=True)
def triangular_solve(a_dtype: np.dtype[Any], b_dtype: np.dtype[Any], x_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, b, x, then batch, n, r, lower, trans, unit diagonal, then the status word."""
    trsm, trsv = _triangular_routines(x_dtype)
    names = namespace()
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    mem_copy, as_word, as_x = names["mem_copy"], names["as_i64"], pointer_to(x_dtype)
    item, one, zero = x_dtype.itemsize, x_dtype.type(1), x_dtype.type(0)
    is_complex = x_dtype.kind == "c"
    cast, real = names[STORAGE[x_dtype.char]], names["real"]
    few = 0 if is_complex else FEW  # quotients of complex numbers are left to the routines
    unknown = _one_unknown()

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n, r, trans = args[4], args[5], args[7]
        uplo = _UPPER if args[6] != 0 else _LOWER
        diagonal = _UNIT if args[8] != 0 else _GIVEN
        small = n <= few and r <= few
        row, along = (n, 1) if trans == 0 else (1, n)
        forward = (args[6] != 0) == (trans == 0)
        if small:
            for i in range(lo, hi):
                a, b, x = (as_x(args[0] + i * n * n * item), as_x(args[1] + i * n * r * item),
                           as_x(args[2] + i * n * r * item))  # fmt: skip
                for step in range(n):
                    k = step if forward else n - 1 - step
                    begin, end = (0, k) if forward else (k + 1, n)
                    scale = cast(real(one) / real(a[k * n + k])) if diagonal == _GIVEN else one
                    if diagonal == _GIVEN and r > 0 and a[k * n + k] == zero:
                        as_word(args[9])[0] = 1
                    unknown(a, b, x, k, begin, end, r, row, along, scale)
        elif n > 0 and r > 0:
            limited = blas_begin(n * n * r)
            for i in range(lo, hi):
                at_a = args[0] + i * n * n * item
                at_x = args[2] + i * n * r * item
                mem_copy(at_x, args[1] + i * n * r * item, n * r * item)
                if diagonal == _GIVEN:
                    a = as_x(at_a)
                    for j in range(n):
                        if a[j * n + j] == zero:
                            as_word(args[9])[0] = 1
                if r == 1 and not (is_complex and trans == 2):
                    trsv(uplo, _TRANS if trans == 0 else _PLAIN, diagonal, n, at_a, n, at_x, 1)
                else:
                    how = _PLAIN if trans == 0 else _TRANS if trans == 1 else _ADJOINT
                    trsm(_RIGHT, uplo, how, diagonal, r, n, one, at_a, n, at_x, r)
            blas_end(limited)

    return kernel


@library("lu", family="linalg", requires=routines("lapack:?getrf"), brief=True)
def lu(a_dtype: np.dtype[Any], lu_dtype: np.dtype[Any], pivots_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, factors of its transpose, exchanges (from 1), then batch, n. A zero pivot is left to the readers."""
    getrf = fortran("lapack", f"{LETTERS[lu_dtype.char]}getrf", "iipipo")
    names = namespace()
    mem_copy, blas_begin, blas_end = names["mem_copy"], names["blas_begin"], names["blas_end"]
    as_x, as_int, cast = pointer_to(lu_dtype), names["as_i32"], names[STORAGE[lu_dtype.char]]
    item, one, zero = lu_dtype.itemsize, lu_dtype.type(1), lu_dtype.type(0)
    few = 0 if lu_dtype.kind == "c" else FEW
    size_of, real = names["vm_fabs"], names["real"]

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[4]
        limited = blas_begin(0 if n <= few else 2 * n * n * n // 3)
        if n > 0:
            for i in range(lo, hi):
                at_lu = args[1] + i * n * n * item
                mem_copy(at_lu, args[0] + i * n * n * item, n * n * item)
                if n > few:
                    getrf(n, n, at_lu, n, args[2] + i * n * 4)
                else:  # column j of the matrix that the routine sees is row j
                    f, pivots = as_x(at_lu), as_int(args[2] + i * n * 4)
                    for j in range(n):
                        best = j
                        for k in range(j + 1, n):
                            if size_of(real(f[j * n + k])) > size_of(real(f[j * n + best])):
                                best = k
                        pivots[j] = best + 1
                        if best != j:
                            for c in range(n):
                                kept = f[c * n + j]
                                f[c * n + j] = f[c * n + best]
                                f[c * n + best] = kept
                        if f[j * n + j] != zero:
                            inverse = cast(real(one) / real(f[j * n + j]))
                            for k in range(j + 1, n):
                                f[j * n + k] = f[j * n + k] * inverse
                        for c in range(j + 1, n):
                            factor = f[c * n + j]
                            for k in range(j + 1, n):
                                f[c * n + k] = f[c * n + k] - factor * f[j * n + k]
        blas_end(limited)

    return kernel


@library("lu_solve", family="linalg", requires=routines("blas:?trsm", "blas:?trsv"), brief=True)
def lu_solve(a_dtype: np.dtype[Any], lu_dtype: np.dtype[Any], pivots_dtype: np.dtype[Any], b_dtype: np.dtype[Any],
             x_dtype: np.dtype[Any]) -> Callable[..., None]:  # fmt: skip
    """``args``: a (not read), factors, exchanges, b, x, then batch, n, r, trans, then the status word.

    With ``A^T = P L U`` a solve with A is ``X^T = B^T U^-1 L^-1 P^-1``, one with its transpose
    ``X^T = B^T P L^-T U^-T``; P exchanges columns of X^T, which are rows of the row-major X.
    """
    trsm, trsv = _triangular_routines(x_dtype)
    names = namespace()
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    mem_copy, as_word, as_int, as_x = names["mem_copy"], names["as_i64"], names["as_i32"], pointer_to(x_dtype)
    item, one, zero = x_dtype.itemsize, x_dtype.type(1), x_dtype.type(0)
    is_complex = x_dtype.kind == "c"
    cast, real = names[STORAGE[x_dtype.char]], names["real"]
    few = 0 if is_complex else FEW
    unknown = _one_unknown()

    @inlined
    def exchange(x, i, j, r):  # type: ignore[no-untyped-def]
        if i != j:
            for s in range(r):
                kept = x[i * r + s]
                x[i * r + s] = x[j * r + s]
                x[j * r + s] = kept

    @inlined
    def lower_then_upper(f, x, n, r, row, along, below, above):  # type: ignore[no-untyped-def]
        """Both triangular solves; `below` and `above` say which triangle's diagonal is given, not ones."""
        for k in range(n):
            unknown(f, x, x, k, 0, k, r, row, along, cast(real(one) / real(f[k * n + k])) if below != 0 else one)
        for step in range(n):
            k = n - 1 - step
            unknown(f, x, x, k, k + 1, n, r, row, along, cast(real(one) / real(f[k * n + k])) if above != 0 else one)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n, r, trans = args[6], args[7], args[8]
        vector = r == 1 and not (is_complex and trans == 2)
        how = _TRANS if trans == 1 else _ADJOINT
        small = n <= few and r <= few
        limited = blas_begin(0 if small else 2 * n * n * r)
        if n > 0 and r > 0:
            for i in range(lo, hi):
                at_lu = args[1] + i * n * n * item
                at_x = args[4] + i * n * r * item
                mem_copy(at_x, args[3] + i * n * r * item, n * r * item)
                factors, pivots, x = as_x(at_lu), as_int(args[2] + i * n * 4), as_x(at_x)
                for j in range(n):
                    if factors[j * n + j] == zero:
                        as_word(args[9])[0] = 1
                if trans == 0:
                    if small:
                        lower_then_upper(factors, x, n, r, n, 1, 1, 0)
                    elif vector:
                        trsv(_UPPER, _TRANS, _GIVEN, n, at_lu, n, at_x, 1)
                        trsv(_LOWER, _TRANS, _UNIT, n, at_lu, n, at_x, 1)
                    else:
                        trsm(_RIGHT, _UPPER, _PLAIN, _GIVEN, r, n, one, at_lu, n, at_x, r)
                        trsm(_RIGHT, _LOWER, _PLAIN, _UNIT, r, n, one, at_lu, n, at_x, r)
                    for back in range(n):
                        j = n - 1 - back
                        exchange(x, j, pivots[j] - 1, r)
                else:
                    for j in range(n):
                        exchange(x, j, pivots[j] - 1, r)
                    if small:
                        lower_then_upper(factors, x, n, r, 1, n, 0, 1)
                    elif vector:
                        trsv(_LOWER, _PLAIN, _UNIT, n, at_lu, n, at_x, 1)
                        trsv(_UPPER, _PLAIN, _GIVEN, n, at_lu, n, at_x, 1)
                    else:
                        trsm(_RIGHT, _LOWER, how, _UNIT, r, n, one, at_lu, n, at_x, r)
                        trsm(_RIGHT, _UPPER, how, _GIVEN, r, n, one, at_lu, n, at_x, r)
        blas_end(limited)

    return kernel


@library("lu_det", family="linalg")
def lu_det(a_dtype: np.dtype[Any], lu_dtype: np.dtype[Any], pivots_dtype: np.dtype[Any],
           out_dtype: np.dtype[Any]) -> Callable[..., None]:  # fmt: skip
    """``args``: a (not read), factors, exchanges, out, then batch, n."""
    as_int, as_x = namespace()["as_i32"], pointer_to(out_dtype)
    one = out_dtype.type(1)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[5]
        factors, pivots, out = as_x(args[1]), as_int(args[2]), as_x(args[3])
        for i in range(lo, hi):
            total = one
            for j in range(n):
                pivot = factors[(i * n + j) * n + j]
                total = total * (pivot if pivots[i * n + j] == j + 1 else -pivot)
            out[i] = total

    return kernel


@library("lu_slogdet", family="linalg")
def lu_slogdet(a_dtype: np.dtype[Any], lu_dtype: np.dtype[Any], pivots_dtype: np.dtype[Any],
               sign_dtype: np.dtype[Any], log_dtype: np.dtype[Any]) -> Callable[..., None]:  # fmt: skip
    """``args``: a (not read), factors, exchanges, sign, logarithm, then batch, n."""
    names = namespace()
    as_int, math, as_x, as_log = names["as_i32"], names["math"], pointer_to(sign_dtype), pointer_to(log_dtype)
    one, nothing, zero = sign_dtype.type(1), log_dtype.type(0), sign_dtype.type(0)
    is_complex = sign_dtype.kind == "c"
    unit = sign_dtype.type(1j) if is_complex else one

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[6]
        factors, pivots, sign, logarithm = as_x(args[1]), as_int(args[2]), as_x(args[3]), as_log(args[4])
        for i in range(lo, hi):
            turn, total = one, nothing
            for j in range(n):
                pivot = factors[(i * n + j) * n + j]
                size = abs(pivot)
                if size == nothing:
                    turn = zero
                    total = total - math.inf
                else:
                    if pivots[i * n + j] != j + 1:
                        size = -size
                    if is_complex:  # by parts: a quotient of complex numbers may raise
                        turn = turn * (pivot.real / size + unit * (pivot.imag / size))
                    else:
                        turn = turn * (pivot / size)
                    total = total + math.log(abs(size))
            sign[i] = turn
            logarithm[i] = total

    return kernel

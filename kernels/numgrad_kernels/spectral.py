"""Eigenvalues, singular values and QR factors of stacks of matrices, by LAPACK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad_kernels.blas import LETTERS, fortran, pointer_to
from numgrad_kernels.library import library
from numgrad_kernels.prelude import namespace

_VECTORS, _LOWER = ord("V"), ord("L")
_ALL, _SOME = ord("A"), ord("S")
_BLOCK = 64  # columns for which workspaces have room


def _eigenvalue_routine(dtype: np.dtype[Any]) -> tuple[str, str]:
    """Name and signature of the divide-and-conquer routine for Hermitian matrices."""
    letter = LETTERS[dtype.char]
    return (f"{letter}heevd", "ccipippipipio") if dtype.kind == "c" else (f"{letter}syevd", "ccipippipio")


@library("eigh", family="linalg", requires=lambda dtypes: (f"lapack:{_eigenvalue_routine(np.dtype(dtypes[0]))[0]}",))
def eigh(a_dtype: np.dtype[Any], w_dtype: np.dtype[Any], v_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, w, v, then scratch (matrix, integers, work and, for complex ones, real work), then batch, n, status.

    The routine gets the lower triangle in column-major order, as NumPy gives it, so that the vectors come out with
    NumPy's signs.
    """
    syevd = fortran("lapack", *_eigenvalue_routine(v_dtype))
    names = namespace()
    as_word, as_x = names["as_i64"], pointer_to(v_dtype)
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    item, real_item = v_dtype.itemsize, w_dtype.itemsize
    is_complex = v_dtype.kind == "c"
    first = 7 if is_complex else 6

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[first + 1]
        limited = blas_begin(9 * n * n * n)
        if n > 0:
            copy = as_x(args[3])
            for i in range(lo, hi):
                a, v = as_x(args[0] + i * n * n * item), as_x(args[2] + i * n * n * item)
                for row in range(n):
                    for column in range(n):
                        copy[column * n + row] = a[row * n + column]
                at_w = args[1] + i * n * real_item
                if is_complex:
                    info = syevd(_VECTORS, _LOWER, n, args[3], n, at_w, args[5], n * n + (2 + _BLOCK) * n + 1,
                                 args[6], 2 * n * n + 5 * n + 1, args[4], 3 + 5 * n)  # fmt: skip
                else:
                    info = syevd(_VECTORS, _LOWER, n, args[3], n, at_w, args[5], 2 * n * n + (6 + _BLOCK) * n + 1,
                                 args[4], 3 + 5 * n)  # fmt: skip
                if info != 0:
                    as_word(args[first + 2])[0] = 1
                for row in range(n):
                    for column in range(n):
                        v[row * n + column] = copy[column * n + row]
        blas_end(limited)

    return kernel


def _value_routine(dtype: np.dtype[Any]) -> tuple[str, str]:
    """Name and signature of the divide-and-conquer routine for singular values."""
    return f"{LETTERS[dtype.char]}gesdd", "ciipippipipippo" if dtype.kind == "c" else "ciipippipipipo"


@library("svd", family="linalg", requires=lambda dtypes: (f"lapack:{_value_routine(np.dtype(dtypes[0]))[0]}",))
def svd(a_dtype: np.dtype[Any], u_dtype: np.dtype[Any], s_dtype: np.dtype[Any],
        vh_dtype: np.dtype[Any]) -> Callable[..., None]:  # fmt: skip
    """``args``: a, u, s, vh, then scratch, then batch, m, n, full matrices, status.

    Scratch: a, u and vh by columns, integers, work and, for complex ones, real work. The routine gets the matrix in
    column-major order, as NumPy gives it, so that the vectors come out with NumPy's signs.
    """
    gesdd = fortran("lapack", *_value_routine(u_dtype))
    names = namespace()
    as_word, as_x = names["as_i64"], pointer_to(u_dtype)
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    item, real_item = u_dtype.itemsize, s_dtype.itemsize
    one, zero = u_dtype.type(1), u_dtype.type(0)
    is_complex = u_dtype.kind == "c"
    first = 10 if is_complex else 9

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        m, n = args[first + 1], args[first + 2]
        small, large = min(m, n), max(m, n)
        full = args[first + 3] != 0
        rows, columns = (m, n) if full else (small, small)
        job = _ALL if full else _SOME
        limited = blas_begin(20 * m * n * small)
        room = 4 * small * small + (7 + 3 * _BLOCK) * (small + large) + 1
        copy, by_u, by_v = as_x(args[4]), as_x(args[5]), as_x(args[6])
        for i in range(lo, hi):
            a, u, vh = (as_x(args[0] + i * m * n * item), as_x(args[1] + i * m * rows * item),
                        as_x(args[3] + i * columns * n * item))  # fmt: skip
            if small == 0:
                for row in range(m):
                    for column in range(rows):
                        u[row * rows + column] = one if row == column else zero
                for row in range(columns):
                    for column in range(n):
                        vh[row * n + column] = one if row == column else zero
                continue
            for row in range(m):
                for column in range(n):
                    copy[column * m + row] = a[row * n + column]
            at_s = args[2] + i * small * real_item
            if is_complex:
                info = gesdd(job, m, n, args[4], m, at_s, args[5], m, args[6], columns, args[8], room, args[9], args[7])
            else:
                info = gesdd(job, m, n, args[4], m, at_s, args[5], m, args[6], columns, args[8], room, args[7])
            if info != 0:
                as_word(args[first + 4])[0] = 1
            for row in range(m):
                for column in range(rows):
                    u[row * rows + column] = by_u[column * m + row]
            for row in range(columns):
                for column in range(n):
                    vh[row * n + column] = by_v[column * columns + row]
        blas_end(limited)

    return kernel


def _qr_routines(dtype: np.dtype[Any]) -> tuple[str, str]:
    letter = LETTERS[dtype.char]
    return f"{letter}gelqf", f"{letter}unglq" if dtype.kind == "c" else f"{letter}orglq"


@library("qr", family="linalg", requires=lambda dtypes: tuple(f"lapack:{r}" for r in _qr_routines(np.dtype(dtypes[0]))))
def qr(a_dtype: np.dtype[Any], q_dtype: np.dtype[Any], r_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, q, r, then scratch (matrix, reflector scales, work), then batch, m, n, columns of q.

    The routines see A^T; its LQ factors are the transposes of the QR factors of A, in place.
    """
    factor_name, generate_name = _qr_routines(q_dtype)
    gelqf, orglq = fortran("lapack", factor_name, "iipippio"), fortran("lapack", generate_name, "iiipippio")
    names = namespace()
    mem_copy, as_x = names["mem_copy"], pointer_to(q_dtype)
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    item, zero = q_dtype.itemsize, q_dtype.type(0)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        m, n, k = args[7], args[8], args[9]
        small = min(m, n)
        room = _BLOCK * max(m, n) + 1
        copy = as_x(args[3])
        limited = blas_begin(4 * m * n * k)
        for i in range(lo, hi):
            mem_copy(args[3], args[0] + i * m * n * item, m * n * item)
            if small > 0:
                gelqf(n, m, args[3], n, args[4], args[5], room)
            at_q = args[1] + i * m * k * item
            q, r = as_x(at_q), as_x(args[2] + i * k * n * item)
            for row in range(k):
                for column in range(n):
                    r[row * n + column] = copy[row * n + column] if row <= column and row < small else zero
            for row in range(m):
                for column in range(small):
                    q[row * k + column] = copy[row * n + column]
            if m > 0 and k > 0:
                orglq(k, m, small, at_q, k, args[4], args[5], room)
        blas_end(limited)

    return kernel

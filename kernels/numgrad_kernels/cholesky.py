"""Cholesky factors of stacks of matrices, and the two linear maps that are their derivative, in blocked form.

``L L^H = A`` gives ``X L^H + L X^H = dA`` for the change X of L. The pushforward finds X of dA, the pullback is its
adjoint. Both run over blocks of columns as the factorisation itself does (I. Murray, "Differentiation of the Cholesky
decomposition", 2016): nearly all work is in matrix products, and it is twice that of the factorisation. Up to one
block no routine is called.

Arrays are row-major and the routines column-major, so a routine sees the transpose of every block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad_kernels.blas import FEW, LETTERS, STORAGE, fortran, pointer_to, routines
from numgrad_kernels.library import library
from numgrad_kernels.prelude import namespace

_LEFT, _RIGHT, _UPPER = ord("L"), ord("R"), ord("U")
_PLAIN, _TRANS, _ADJOINT, _GIVEN = ord("N"), ord("T"), ord("C"), ord("N")
_BLOCK = 64  # columns that are treated together
_TILE = 32  # rows and columns of the squares in which a matrix is mirrored


def _products(dtype: np.dtype[Any]) -> dict[str, str]:
    """Names and signatures of the routines behind both maps: product, triangular solve, Hermitian product, rank 2 k."""
    letter, scalar = LETTERS[dtype.char], LETTERS[dtype.char].upper()
    kind = f"{letter}he" if dtype.kind == "c" else f"{letter}sy"
    real_scalar = {"C": "S", "Z": "D"}.get(scalar, scalar)
    return {
        f"{letter}gemm": f"cciii{scalar}pipi{scalar}pi",
        f"{letter}trsm": f"ccccii{scalar}pipi",
        f"{kind}mm": f"ccii{scalar}pipi{scalar}pi",
        f"{kind}r2k": f"ccii{scalar}pipi{real_scalar}pi",
    }


@library("cholesky", family="linalg", requires=routines("lapack:?potrf"), brief=True)
def cholesky(a_dtype: np.dtype[Any], out_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, factor, then batch, n, then the status word.

    The routine's upper triangle U with ``A^T = U^H U`` lies where the row-major lower one ``L = U^T`` with
    ``A = L L^H`` belongs.
    """
    potrf = fortran("lapack", f"{LETTERS[out_dtype.char]}potrf", "cipio")
    names = namespace()
    mem_copy, mem_zero, as_word = names["mem_copy"], names["mem_zero"], names["as_i64"]
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    as_x, conj, real, root = pointer_to(out_dtype), names["conj"], names["real"], names["vm_sqrt"]
    cast = names[STORAGE[out_dtype.char]]
    item, one, zero, nothing = out_dtype.itemsize, out_dtype.type(1), out_dtype.type(0), out_dtype.type(0).real

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[3]
        if n <= FEW:
            for i in range(lo, hi):
                a, factor = as_x(args[0] + i * n * n * item), as_x(args[1] + i * n * n * item)
                for row in range(n):
                    for column in range(row):
                        total = a[row * n + column]
                        for p in range(column):
                            total = total - factor[row * n + p] * conj(factor[column * n + p])
                        factor[row * n + column] = total * cast(real(one) / real(factor[column * n + column]))
                    pivot = real(a[row * n + row])
                    for p in range(row):
                        pivot = pivot - real(factor[row * n + p] * conj(factor[row * n + p]))
                    if not pivot > nothing:
                        as_word(args[4])[0] = 1
                    factor[row * n + row] = cast(root(pivot))
                    for column in range(row + 1, n):
                        factor[row * n + column] = zero
        else:
            limited = blas_begin(n * n * n // 3)
            for i in range(lo, hi):
                at_a, at_out = args[0] + i * n * n * item, args[1] + i * n * n * item
                for row in range(n):
                    mem_copy(at_out + row * n * item, at_a + row * n * item, (row + 1) * item)
                    mem_zero(at_out + (row * n + row + 1) * item, (n - row - 1) * item)
                if potrf(_UPPER, n, at_out, n) != 0:
                    as_word(args[4])[0] = 1
            blas_end(limited)

    return kernel


@library("cholesky_pullback", family="linalg", brief=True,
         requires=lambda dtypes: tuple(f"blas:{name}" for name in _products(np.dtype(dtypes[0]))))  # fmt: skip
def cholesky_pullback(l_dtype: np.dtype[Any], g_dtype: np.dtype[Any],
                      out_dtype: np.dtype[Any]) -> Callable[..., None]:  # fmt: skip
    """``args``: factor L, its cotangent G, the Hermitian cotangent of A, then batch, n.

    While blocks are worked on, the lower triangle of `out` holds twice the result below and on the diagonal: the slope
    along an element and its mirror image together.
    """
    gemm, trsm, symm, _ = (fortran("blas", *pair) for pair in _products(out_dtype).items())
    names = namespace()
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    mem_copy, as_x, conj, real = names["mem_copy"], pointer_to(out_dtype), names["conj"], names["real"]
    cast = names[STORAGE[out_dtype.char]]
    item, one, minus, half = out_dtype.itemsize, out_dtype.type(1), out_dtype.type(-1), out_dtype.type(0.5)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[4]
        limited = blas_begin(0 if n <= _BLOCK else 2 * n * n * n // 3)
        blocks = (n + (_BLOCK - 1)) // _BLOCK
        for i in range(lo, hi):
            at_l, at_f = args[0] + i * n * n * item, args[2] + i * n * n * item
            mem_copy(at_f, args[1] + i * n * n * item, n * n * item)
            factor, f = as_x(at_l), as_x(at_f)
            for back in range(blocks):
                begin = (blocks - 1 - back) * _BLOCK
                end = min(begin + _BLOCK, n)
                below, width = n - end, end - begin
                # The blocks of L and F: R left of the diagonal block D, C below D, B below R.
                r, d, b, c = begin * n * item, (begin * n + begin) * item, end * n * item, (end * n + begin) * item
                if below > 0:
                    trsm(_LEFT, _UPPER, _PLAIN, _GIVEN, width, below, one, at_l + d, n, at_f + c, n)
                    gemm(_PLAIN, _ADJOINT, width, width, below, minus, at_l + c, n, at_f + c, n, one, at_f + d, n)
                    if begin > 0:
                        gemm(_PLAIN, _PLAIN, begin, below, width, minus, at_l + r, n, at_f + c, n, one, at_f + b, n)
                        gemm(_PLAIN, _ADJOINT, begin, width, below, minus, at_l + b, n, at_f + c, n, one, at_f + r, n)
                for up in range(width):
                    k = end - 1 - up
                    pivot = real(factor[k * n + k])
                    inverse = cast(real(one) / pivot)
                    own = real(f[k * n + k])
                    for row in range(k + 1, end):
                        slope = f[row * n + k] * inverse
                        f[row * n + k] = slope
                        own = own - real(conj(slope) * factor[row * n + k])
                    twice = cast(own / pivot)
                    f[k * n + k] = twice
                    for row in range(k + 1, end):
                        slope = f[row * n + k]
                        turned = conj(slope)
                        for p in range(begin, k):
                            f[row * n + p] = f[row * n + p] - slope * factor[k * n + p]
                            f[k * n + p] = f[k * n + p] - turned * factor[row * n + p]
                    for p in range(begin, k):
                        f[k * n + p] = f[k * n + p] - twice * factor[k * n + p]
                if begin > 0:
                    symm(_RIGHT, _UPPER, begin, width, minus, at_f + d, n, at_l + r, n, one, at_f + r, n)
            for left in range((n + (_TILE - 1)) // _TILE):
                for top in range(left, (n + (_TILE - 1)) // _TILE):
                    for row in range(top * _TILE, min(top * _TILE + _TILE, n)):
                        for column in range(left * _TILE, min(left * _TILE + _TILE, row + 1)):
                            value = f[row * n + column] * half
                            f[row * n + column] = value
                            f[column * n + row] = conj(value)
        blas_end(limited)

    return kernel


@library("cholesky_pushforward", family="linalg",
         requires=lambda dtypes: tuple(f"blas:{name}" for name in _products(np.dtype(dtypes[0]))))  # fmt: skip
def cholesky_pushforward(l_dtype: np.dtype[Any], a_dtype: np.dtype[Any],
                         out_dtype: np.dtype[Any]) -> Callable[..., None]:  # fmt: skip
    """``args``: factor L, a change of A of which the Hermitian part counts, the change of L, then batch, n."""
    gemm, trsm, _, rank = (fortran("blas", *pair) for pair in _products(out_dtype).items())
    names = namespace()
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    as_x, conj, real, sum_add = pointer_to(out_dtype), names["conj"], names["real"], names["sum_add"]
    cast = names[STORAGE[out_dtype.char]]
    item, zero, half = out_dtype.itemsize, out_dtype.type(0), out_dtype.type(0.5)
    one, minus, real_one = out_dtype.type(1), out_dtype.type(-1), out_dtype.type(1).real
    adjoint = _ADJOINT if out_dtype.kind == "c" else _TRANS

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n = args[4]
        limited = blas_begin(0 if n <= _BLOCK else 2 * n * n * n // 3)
        blocks = (n + (_BLOCK - 1)) // _BLOCK
        tiles = (n + (_TILE - 1)) // _TILE
        for i in range(lo, hi):
            at_l, at_x = args[0] + i * n * n * item, args[2] + i * n * n * item
            factor, a, x = as_x(at_l), as_x(args[1] + i * n * n * item), as_x(at_x)
            for left in range(tiles):
                for top in range(left, tiles):
                    for row in range(top * _TILE, min(top * _TILE + _TILE, n)):
                        for column in range(left * _TILE, min(left * _TILE + _TILE, row)):
                            x[row * n + column] = (a[row * n + column] + conj(a[column * n + row])) * half
                            x[column * n + row] = zero
            for row in range(n):
                x[row * n + row] = cast(real(a[row * n + row]))
            for block in range(blocks):
                begin = block * _BLOCK
                end = min(begin + _BLOCK, n)
                below, width = n - end, end - begin
                r, d, b, c = begin * n * item, (begin * n + begin) * item, end * n * item, (end * n + begin) * item
                if begin > 0:
                    rank(_UPPER, adjoint, width, begin, minus, at_l + r, n, at_x + r, n, real_one, at_x + d, n)
                for row in range(begin, end):
                    for column in range(begin, row):
                        total = x[row * n + column]
                        for p in range(begin, column):
                            total = sum_add(total, -(x[row * n + p] * conj(factor[column * n + p])))
                            total = sum_add(total, -(factor[row * n + p] * conj(x[column * n + p])))
                        total = total - factor[row * n + column] * x[column * n + column]
                        x[row * n + column] = total * cast(real(one) / real(factor[column * n + column]))
                    own = real(x[row * n + row]) * real(half)
                    for p in range(begin, row):
                        own = sum_add(own, -real(x[row * n + p] * conj(factor[row * n + p])))
                    x[row * n + row] = cast(own / real(factor[row * n + row]))
                if below > 0:
                    if begin > 0:
                        gemm(_ADJOINT, _PLAIN, width, below, begin, minus, at_l + r, n, at_x + b, n, one, at_x + c, n)
                    gemm(_ADJOINT, _PLAIN, width, below, end, minus, at_x + r, n, at_l + b, n, one, at_x + c, n)
                    trsm(_LEFT, _UPPER, _ADJOINT, _GIVEN, width, below, one, at_l + d, n, at_x + c, n)
        blas_end(limited)

    return kernel


@library("lower_product", family="linalg", requires=routines("blas:?gemm"))
def lower_product(a_dtype: np.dtype[Any], b_dtype: np.dtype[Any], out_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, b, out, scratch (a block), then batch, n, scale: the lower triangle of a times that of b."""
    letter, scalar = LETTERS[out_dtype.char], LETTERS[out_dtype.char].upper()
    gemm = fortran("blas", f"{letter}gemm", f"cciii{scalar}pipi{scalar}pi")
    names = namespace()
    as_x, mem_zero, cast = pointer_to(out_dtype), names["mem_zero"], names[STORAGE[out_dtype.char]]
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    real_of = names[STORAGE[out_dtype.type(0).real.dtype.char]]
    item, one, zero = out_dtype.itemsize, out_dtype.type(1), out_dtype.type(0)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n, scale = args[5], cast(real_of(args[6]))
        block = as_x(args[3])
        limited = blas_begin(2 * n * n * n // 3)
        for i in range(lo, hi):
            at_a, at_b, at_c = args[0] + i * n * n * item, args[1] + i * n * n * item, args[2] + i * n * n * item
            b = as_x(at_b)
            for number in range((n + (_BLOCK - 1)) // _BLOCK):
                begin = number * _BLOCK
                end = min(begin + _BLOCK, n)
                width = end - begin
                for row in range(width):
                    for column in range(width):
                        block[row * width + column] = (
                            b[(begin + row) * n + begin + column] if column <= row else zero)  # fmt: skip
                from_row = begin * n
                gemm(_PLAIN, _PLAIN, width, n - begin, width, scale, args[3], width,
                     at_a + (from_row + begin) * item, n, zero, at_c + (from_row + begin) * item, n)  # fmt: skip
                if end < n:
                    gemm(_PLAIN, _PLAIN, width, n - begin, n - end, scale, at_b + (end * n + begin) * item, n,
                         at_a + (from_row + end) * item, n, one, at_c + (from_row + begin) * item, n)  # fmt: skip
            for row in range(n):
                mem_zero(at_c + (row * n + row + 1) * item, (n - row - 1) * item)
        blas_end(limited)

    return kernel

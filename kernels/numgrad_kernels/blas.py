"""Calls of Fortran routines (BLAS, LAPACK) out of kernels, and the matrix product that is built on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from numgrad_kernels.library import library
from numgrad_kernels.prelude import namespace
from numgrad_kernels.symbols import Routine, inlined, is_symbolic

#: NumPy's dtype letter -> BLAS's.
LETTERS = {"f": "s", "d": "d", "F": "c", "D": "z"}

#: NumPy's dtype letter -> the prelude's name of the storage.
STORAGE = {
    "?": "b1", "b": "i8", "B": "u8", "h": "i16", "H": "u16", "i": "i32", "I": "u32", "l": "i64", "L": "u64",
    "q": "i64", "Q": "u64", "e": "f16", "f": "f32", "d": "f64", "F": "c64", "D": "c128",
}  # fmt: skip


_SMALL = 8  # up to this size loops are faster than a call
FEW = 12  # the same for factors and solves, whose routines have more to set up
_TILE = 32  # rows and columns of the squares in which a matrix is mirrored


def pointer_to(dtype: np.dtype[Any]) -> Any:
    """The prelude's cast from an address to a pointer to elements of this dtype."""
    return namespace()[f"as_{STORAGE[dtype.char]}"]


def routines(*names: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """What a kernel requires: names such as "blas:?trsm" with the letter of its first dtype."""

    def required(dtypes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.replace("?", LETTERS[np.dtype(dtypes[0]).char]) for name in names)

    return required


def fortran(table: str, routine: str, signature: str) -> Any:
    """Make a Fortran routine callable out of a kernel.

    Parameters
    ----------
    table
        "blas" or "lapack".
    routine
        Name with its dtype letter, such as "dgemm".
    signature
        One letter per argument: ``c`` a character (given as an integer code), ``i`` an int32, ``s d c z`` written as
        ``S D C Z`` a scalar of that type, ``p`` an address; ``o`` is the status argument, which the caller leaves out.

    Returns
    -------
    intrinsic or Routine
        Takes the arguments by value, puts them on the stack and passes their addresses; returns the status (0 without
        an ``o``).
    """
    symbol = f"ng_{table}_{routine}"
    return Routine(symbol, signature) if is_symbolic() else _intrinsic(routine, symbol, signature)


@cache
def _intrinsic(routine: str, symbol: str, signature: str) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    kinds = {"c": types.int8, "i": types.int32, "S": types.float32, "D": types.float64, "C": types.complex64,
             "Z": types.complex128, "p": types.int64}  # fmt: skip
    given = [kinds[letter] for letter in signature if letter != "o"]
    byte_pointer = ir.IntType(8).as_pointer()

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        status = cgutils.alloca_once(builder, ir.IntType(32))
        builder.store(ir.Constant(ir.IntType(32), 0), status)
        values = iter(zip(args, given, strict=True))
        passed = []
        for letter in signature:
            if letter == "o":
                passed.append(builder.bitcast(status, byte_pointer))
                continue
            value, kind = next(values)
            if letter == "p":
                passed.append(builder.inttoptr(value, byte_pointer))
            else:
                slot = cgutils.alloca_once(builder, context.get_value_type(kind))
                builder.store(value, slot)
                passed.append(builder.bitcast(slot, byte_pointer))
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer] * len(passed))
        builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), passed)
        return builder.load(status)

    names = ", ".join(f"a{i}" for i in range(len(given)))
    scope: dict[str, Any] = {"signature_of": lambda: types.int32(*given), "codegen": codegen}
    # An intrinsic needs a fixed number of named arguments.
    exec(f"def {routine}(typingctx, {names}):\n    return signature_of(), codegen", scope)
    return intrinsic(scope[routine])


def _routines(dtypes: tuple[str, ...]) -> tuple[str, ...]:
    letter = LETTERS.get(np.dtype(dtypes[0]).char)
    return (f"blas:{letter}gemm",) if letter else ()


@library("matmul", family="linalg", requires=_routines, brief=True)
def matmul(a_dtype: np.dtype[Any], b_dtype: np.dtype[Any], out_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: a, b, out, then batch, m, n, k, transpose_a, transpose_b."""
    if out_dtype.char in LETTERS:
        return _blas_matmul(out_dtype)
    if out_dtype.char == "e":
        return _f16_matmul()
    return _bool_matmul() if out_dtype.char == "?" else _int_matmul(out_dtype)


def _blas_matmul(dtype: np.dtype[Any]) -> Callable[..., None]:
    """Whole matrices lo..hi of the stack.

    Row-major C = A B is column-major C^T = B^T A^T, so the operands change places.
    """
    letter = LETTERS[dtype.char]
    scalar = letter.upper()
    gemm = fortran("blas", f"{letter}gemm", f"cciii{scalar}pipi{scalar}pi")
    names = namespace()
    mem_zero, as_x, blas_begin, blas_end = names["mem_zero"], pointer_to(dtype), names["blas_begin"], names["blas_end"]
    item = dtype.itemsize
    one, zero = dtype.type(1), dtype.type(0)
    plain, trans = ord("N"), ord("T")
    little = _little_product(zero)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        m, n, k = args[4], args[5], args[6]
        ta, tb = args[7] != 0, args[8] != 0
        row_a, col_a = (1, m) if ta else (k, 1)
        if k == 0:
            mem_zero(args[2] + lo * m * n * item, (hi - lo) * m * n * item)
        elif m <= _SMALL and n <= _SMALL and k <= _SMALL:
            for i in range(lo, hi):
                a, b, c = (as_x(args[0] + i * m * k * item), as_x(args[1] + i * k * n * item),
                           as_x(args[2] + i * m * n * item))  # fmt: skip
                if tb:
                    little(a, b, c, m, n, k, row_a, col_a, 1, k)
                else:
                    little(a, b, c, m, n, k, row_a, col_a, n, 1)
        elif m > 0 and n > 0:
            limited = blas_begin(2 * m * n * k)
            for i in range(lo, hi):
                at_a = args[0] + i * m * k * item
                at_b = args[1] + i * k * n * item
                at_c = args[2] + i * m * n * item
                gemm(trans if tb else plain, trans if ta else plain, n, m, k, one,
                     at_b, k if tb else n, at_a, m if ta else k, zero, at_c, n)  # fmt: skip
            blas_end(limited)

    return kernel


def _little_product(zero: Any) -> Any:
    """The product of matrices too small for a call: four columns at a time, whose sums do not wait for each other."""

    @inlined
    def little(a, b, c, m, n, k, row_a, col_a, row_b, col_b):  # type: ignore[no-untyped-def]
        blocks = n // 4
        for r in range(m):
            for block in range(blocks):
                s = 4 * block
                t0, t1, t2, t3 = zero, zero, zero, zero
                for p in range(k):
                    factor, at = a[r * row_a + p * col_a], p * row_b + s * col_b
                    t0 = t0 + factor * b[at]
                    t1 = t1 + factor * b[at + col_b]
                    t2 = t2 + factor * b[at + 2 * col_b]
                    t3 = t3 + factor * b[at + 3 * col_b]
                to = r * n + s
                c[to] = t0
                c[to + 1] = t1
                c[to + 2] = t2
                c[to + 3] = t3
            if n - 4 * blocks >= 2:
                s = 4 * blocks
                t0, t1 = zero, zero
                for p in range(k):
                    factor, at = a[r * row_a + p * col_a], p * row_b + s * col_b
                    t0 = t0 + factor * b[at]
                    t1 = t1 + factor * b[at + col_b]
                to = r * n + s
                c[to] = t0
                c[to + 1] = t1
            if n % 2 == 1:
                total = zero
                for p in range(k):
                    total = total + a[r * row_a + p * col_a] * b[p * row_b + (n - 1) * col_b]
                c[r * n + n - 1] = total

    return little


@library("matvec", family="linalg", requires=routines("blas:?gemv"), brief=True)
def matvec(a_dtype: np.dtype[Any], b_dtype: np.dtype[Any], out_dtype: np.dtype[Any]) -> Callable[..., None]:
    """Products of which one operand is a column or a row; ``args`` as for `matmul`."""
    letter = LETTERS[out_dtype.char]
    scalar = letter.upper()
    gemv = fortran("blas", f"{letter}gemv", f"cii{scalar}pipi{scalar}pi")
    names = namespace()
    mem_zero, as_x = names["mem_zero"], pointer_to(out_dtype)
    blas_begin, blas_end = names["blas_begin"], names["blas_end"]
    item = out_dtype.itemsize
    one, zero = out_dtype.type(1), out_dtype.type(0)
    plain, trans = ord("N"), ord("T")
    little = _little_product(zero)

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        k = args[6]
        column = args[5] == 1
        rows = args[4] if column else args[5]
        matrices, vectors = (args[0], args[1]) if column else (args[1], args[0])
        across = args[7] != 0 if column else args[8] == 0  # the rows of the product are the matrix's columns in memory
        if rows <= 0 or k <= 0:
            mem_zero(args[2] + lo * rows * item, (hi - lo) * rows * item)
        elif rows <= _SMALL and k <= _SMALL:
            for i in range(lo, hi):
                a, x = as_x(matrices + i * rows * k * item), as_x(vectors + i * k * item)
                y = as_x(args[2] + i * rows * item)
                if across:
                    little(x, a, y, 1, rows, k, k, 1, rows, 1)
                else:
                    little(x, a, y, 1, rows, k, k, 1, 1, k)
        else:
            limited = blas_begin(2 * rows * k)
            for i in range(lo, hi):
                at_a, at_x = matrices + i * rows * k * item, vectors + i * k * item
                at_y = args[2] + i * rows * item
                mem_zero(at_y, rows * item)  # a routine may scale what it finds, and 0 * NaN is NaN
                if across:
                    gemv(plain, rows, k, one, at_a, rows, at_x, 1, zero, at_y, 1)
                else:
                    gemv(trans, k, rows, one, at_a, k, at_x, 1, zero, at_y, 1)
            blas_end(limited)

    return kernel


@library("gram", family="linalg", requires=routines("blas:?syrk"))
def gram(x_dtype: np.dtype[Any], out_dtype: np.dtype[Any]) -> Callable[..., None]:
    """``args``: x, out, then batch, n (rows of out), k, transpose: ``x x^T`` of (n, k), or ``x^T x`` of (k, n)."""
    letter = LETTERS[out_dtype.char]
    scalar = letter.upper()
    syrk = fortran("blas", f"{letter}syrk", f"ccii{scalar}pi{scalar}pi")
    names = namespace()
    mem_zero, as_x, blas_begin, blas_end = (
        names["mem_zero"], pointer_to(out_dtype), names["blas_begin"], names["blas_end"])  # fmt: skip
    item = out_dtype.itemsize
    one, zero = out_dtype.type(1), out_dtype.type(0)
    plain, trans, upper = ord("N"), ord("T"), ord("U")

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        n, k, transpose = args[3], args[4], args[5] != 0
        row, along = (1, n) if transpose else (k, 1)
        small = n <= _SMALL and k <= _SMALL
        limited = blas_begin(0 if small else n * n * k)
        for i in range(lo, hi):
            at_x, at_c = args[0] + i * n * k * item, args[1] + i * n * n * item
            x, c = as_x(at_x), as_x(at_c)
            if small:
                for r in range(n):
                    for s in range(r + 1):
                        total = zero
                        for p in range(k):
                            total = total + x[r * row + p * along] * x[s * row + p * along]
                        c[r * n + s] = total
            elif k == 0:
                mem_zero(at_c, n * n * item)
            else:  # the routine's upper triangle is the row-major lower one
                syrk(upper, plain if transpose else trans, n, k, one, at_x, n if transpose else k, zero, at_c, n)
            for left in range((n + (_TILE - 1)) // _TILE):
                for top in range(left, (n + (_TILE - 1)) // _TILE):
                    for r in range(top * _TILE, min(top * _TILE + _TILE, n)):
                        for s in range(left * _TILE, min(left * _TILE + _TILE, r)):
                            c[s * n + r] = c[r * n + s]
        blas_end(limited)

    return kernel


def _int_matmul(dtype: np.dtype[Any]) -> Callable[..., None]:
    """Rows lo..hi of the stack; sums wrap, so their order is free."""
    as_x = pointer_to(dtype)
    cast = namespace()[STORAGE[dtype.char]]

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        a, b, c = as_x(args[0]), as_x(args[1]), as_x(args[2])
        m, n, k = args[4], args[5], args[6]
        row_a, col_a = (1, m) if args[7] != 0 else (k, 1)
        for row in range(lo, hi):
            i = row // m
            at_a = i * m * k + (row - i * m) * row_a
            at_b = i * k * n
            at_c = row * n
            if args[8] != 0:
                for s in range(n):
                    total = cast(0)
                    for p in range(k):
                        total = cast(total + a[at_a + p * col_a] * b[at_b + s * k + p])
                    c[at_c + s] = total
            else:
                for s in range(n):
                    c[at_c + s] = cast(0)
                for p in range(k):
                    factor = a[at_a + p * col_a]
                    for s in range(n):
                        c[at_c + s] = cast(c[at_c + s] + factor * b[at_b + p * n + s])

    return kernel


def _f16_matmul() -> Callable[..., None]:
    """Rows lo..hi of the stack; sums are kept in float32."""
    names = namespace()
    as_x, load, store, f32 = names["as_f16"], names["load_f16"], names["store_f16"], names["f32"]

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        a, b, c = as_x(args[0]), as_x(args[1]), as_x(args[2])
        m, n, k = args[4], args[5], args[6]
        row_a, col_a = (1, m) if args[7] != 0 else (k, 1)
        row_b, col_b = (1, k) if args[8] != 0 else (n, 1)
        for row in range(lo, hi):
            i = row // m
            at_a = i * m * k + (row - i * m) * row_a
            for s in range(n):
                total = f32(0)
                for p in range(k):
                    total += load(a, at_a + p * col_a) * load(b, i * k * n + p * row_b + s * col_b)
                store(c, row * n + s, total)

    return kernel


def _bool_matmul() -> Callable[..., None]:
    """Rows lo..hi of the stack; whether any pair is true in both."""
    names = namespace()
    as_x, load, store = names["as_b1"], names["load_b1"], names["store_b1"]

    def kernel(args, lo, hi):  # type: ignore[no-untyped-def]
        a, b, c = as_x(args[0]), as_x(args[1]), as_x(args[2])
        m, n, k = args[4], args[5], args[6]
        row_a, col_a = (1, m) if args[7] != 0 else (k, 1)
        row_b, col_b = (1, k) if args[8] != 0 else (n, 1)
        for row in range(lo, hi):
            i = row // m
            at_a = i * m * k + (row - i * m) * row_a
            for s in range(n):
                found = False
                for p in range(k):
                    if load(a, at_a + p * col_a) and load(b, i * k * n + p * row_b + s * col_b):
                        found = True
                        break
                store(c, row * n + s, found)

    return kernel

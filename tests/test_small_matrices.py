"""Products, factors and solves of matrices that are too small for BLAS: every size, against sums in plain Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numgrad_kernels import build, codegen, library
from numgrad_kernels.settings import settings
from numgrad_kernels.translate_library import translate_library
from tests.kernel_tables import table

SIZES = (1, 2, 3, 4, 5, 8, 9)
F64 = np.dtype(np.float64)


@pytest.fixture(params=["direct", "numba"])
def front_end(request: pytest.FixtureRequest) -> Iterator[str]:
    before = settings.front_end
    settings.front_end = request.param
    yield request.param
    settings.front_end = before


def run(name: str, arrays: list[np.ndarray[Any, Any]], *integers: Any) -> None:
    """Call the kernel of this name for two stacked problems."""
    count = {"matmul": 3, "matvec": 3, "triangular_solve": 3, "cholesky": 2}[name]
    address = build.build_library(name, ("float64",) * count).address
    face = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    args = table(*arrays, *integers)
    face(address)(args.ctypes.data, 0, 2)


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    """Small integers, so that sums have no rounding, whatever their order."""
    return np.random.default_rng(shape).integers(-4, 5, shape).astype(F64)


def test_products_of_every_small_size(front_end: str) -> None:
    for m, n, k, ta, tb in product(SIZES, SIZES, SIZES, (0, 1), (0, 1)):
        a, b = numbers(2, *((k, m) if ta else (m, k))), numbers(2, *((n, k) if tb else (k, n)))
        left, right = np.swapaxes(a, 1, 2) if ta else a, np.swapaxes(b, 1, 2) if tb else b
        wanted = np.einsum("bij,bjk->bik", left, right)
        for name in ("matmul", "matvec") if m == 1 or n == 1 else ("matmul",):
            out = np.full((2, m, n), np.nan)
            run(name, [a, b, out], 2, m, n, k, ta, tb)
            assert_array_equal(out, wanted, str((name, m, n, k, ta, tb)))


def test_triangular_solves_of_every_small_size(front_end: str) -> None:
    for n, r, lower, trans, unit in product((1, 2, 3, 5, 12, 13), SIZES, (0, 1), (0, 1), (0, 1)):
        a, x = numbers(2, n, n), numbers(2, n, r)
        a[:, range(n), range(n)] = 1.0 if unit else 0.5  # quotients are exact
        whole = np.tril(a) if lower else np.triu(a)
        b = np.einsum("bji,bjk->bik" if trans else "bij,bjk->bik", whole, x)
        out, status = np.full((2, n, r), np.nan), np.zeros(1, np.int64)
        run("triangular_solve", [a, b, out], 2, n, r, lower, trans, unit, status)
        assert_array_equal(out, x, str((n, r, lower, trans, unit)))
        assert status[0] == 0


def test_factors_of_every_small_size(front_end: str) -> None:
    for n in (1, 2, 3, 5, 12, 13):
        factor = np.tril(numbers(2, n, n))
        factor[:, range(n), range(n)] = 2.0
        a = factor @ np.swapaxes(factor, 1, 2)
        out, status = np.full((2, n, n), np.nan), np.zeros(1, np.int64)
        run("cholesky", [a, out], 2, n, status)
        assert_array_equal(out, factor, str(n))
        assert status[0] == 0
        a[1, n - 1, n - 1] = -1.0
        run("cholesky", [a, out], 2, n, status)
        assert status[0] == 1


@pytest.mark.parametrize("name", ["matmul", "matvec", "triangular_solve", "cholesky", "lu", "lu_solve"])
def test_kernels_of_short_loops_are_translated_and_say_so(name: str) -> None:
    """Numba is not needed for them, and LLVM is told to leave their loops short."""
    entry = library.find(name)
    dtypes = {"cholesky": [F64] * 2, "lu": [F64, F64, np.dtype(np.int32)],
              "lu_solve": [F64, F64, np.dtype(np.int32), F64, F64]}.get(name, [F64] * 3)
    assert entry.brief
    text = translate_library(entry.factory, tuple(dtypes), "k")
    assert text is not None
    brief, plain = (len(codegen.engine.emit_object(text, internalize=("k",), brief=b)[0]) for b in (True, False))
    assert brief < plain

"""The direct front end of library kernels: they go through it, mean what Numba makes of them, and need no Numba."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from numgrad.graph.core import apply_all, placeholder
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels import engine, library
from numgrad_kernels.settings import settings
from numgrad_kernels.symbols import inlined
from numgrad_kernels.translate_library import translate_library
from tests.op_cases import samples
from tests.test_compiler_translate import same_bits
from tests.test_layers import run_python

library.load_families()
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

#: Kernels that Numba compiles for some dtypes, and why.
LEFT_TO_NUMBA = {
    "logcumsumexp": "functions of Python's math module that LLVM has no instruction for",
    "lu_slogdet": "quotients of real and complex numbers, and float32 with an infinity",
}
#: Parameters whose dtype is not that of the numbers.
FIXED = {"index_dtype": "int64", "pivots_dtype": "int32"}
REAL = {"w_dtype", "s_dtype", "log_dtype"}


@pytest.fixture
def front_end() -> Iterator[None]:
    yield
    settings.front_end = "direct"


def dtypes_of(factory: Callable[..., Any], dtype: str) -> tuple[np.dtype[Any], ...]:
    real = {"complex128": "float64", "complex64": "float32"}.get(dtype, dtype)
    return tuple(np.dtype(FIXED.get(name, real if name in REAL else dtype)) for name in
                 inspect.signature(factory).parameters)  # fmt: skip


@pytest.mark.parametrize("name", sorted(library.LIBRARY))
def test_library_kernels_are_translated(name: str) -> None:
    if name in LEFT_TO_NUMBA:
        pytest.skip(LEFT_TO_NUMBA[name])
    factory = library.LIBRARY[name].factory
    for dtype in ("float64", "float32", "complex128"):
        assert translate_library(factory, dtypes_of(factory, dtype), "k") is not None, dtype


OPS_WITH_KERNELS = [
    name for name, record in OPS.items() if record.library is not None and record.library.function is None
    and record.samples is not None
]  # fmt: skip


#: Ops that are compared for complex numbers, too; Numba takes a second for each kernel.
COMPLEX = ("matmul", "cholesky_pullback", "cumprod", "sort")


@pytest.mark.parametrize("name", OPS_WITH_KERNELS)
def test_both_front_ends_compute_the_same_bits(name: str, front_end: None) -> None:
    chosen: dict[Any, Any] = {}
    for case in samples(OPS[name]):  # the largest sample of each combination of dtypes
        key = tuple(a.dtype for a in case.arrays)
        if {dtype.char for dtype in key} - set("dliD" if name in COMPLEX else "dli"):
            continue
        if key not in chosen or sum(a.size for a in case.arrays) > sum(a.size for a in chosen[key].arrays):
            chosen[key] = case
    assert chosen
    results = []
    for choice in ("direct", "numba"):
        settings.front_end = choice
        found = []
        for case in chosen.values():
            with Graph().as_default():
                xs = [placeholder(a.dtype, a.shape) for a in case.arrays]
                program = compile_graph(xs, list(apply_all(name, *xs, **case.attrs)))
            found += program(*case.arrays)
        results.append(found)
    for direct, numba in zip(*results, strict=True):
        assert same_bits(direct, numba)


def test_a_program_of_linear_algebra_is_compiled_without_numba(tmp_path: Any) -> None:
    code = """
import sys
import numpy as np
import numgrad as ng
def loss(w, x):
    factor = ng.linalg.cholesky(x.T @ x + ng.eye(3))
    return ng.sum(ng.linalg.cho_solve((factor, True), x.T @ (x @ w)) ** 2) + ng.sum(ng.linalg.solve(factor, w))
value, slope = ng.value_and_grad(loss)(np.arange(3.0), np.arange(12.0).reshape(4, 3) ** 0.5)
assert np.isfinite(value) and slope.shape == (3,)
print([name for name in ("numba", "scipy.linalg._decomp") if name in sys.modules])
"""
    assert run_python(code, NUMGRAD_CACHE_DIR=str(tmp_path)).strip() == "[]"


# -- forms of Python: each kernel also runs as it stands, on a list
def _forms() -> list[Callable[..., None]]:
    four = 4
    truth = True

    def smallest(a, b):
        if a < b:
            return a
        return b

    def first_multiple(a, b):
        """A loop that is left from inside."""
        for k in range(1, 100):
            if k * a % b == 0:
                return k
        return -1

    small, multiple = inlined(smallest), inlined(first_multiple)

    def branches(args, lo, hi):
        for i in range(lo, hi):
            if args[i] > 3:
                args[i] = args[i] * 2
            elif args[i] < 0 or args[i] == 2:
                args[i] = -1
            else:
                args[i] += four
            args[i] = args[i] if truth else args[i] // 0

    def loops(args, lo, hi):
        total, k = 0, 0
        while True:
            k += 1
            if k % 3 == 0:
                continue
            if k > 17:
                break
            total += k
        for i in range(hi - 1, lo - 1, -1):
            total = total * 3 + args[i]
            if not total < 10000:
                return
            args[i] = total

    def helpers(args, lo, hi):
        for i in range(lo, hi):
            a, b = args[i], i + 1
            a, b = (b, a) if a > b else (a, b)
            args[i] = small(a, multiple(max(a, 1), b)) - min(b, 7)

    def divisions(args, lo, hi):
        for i in range(lo, hi):
            args[i] = args[i] // -3 + 100 * (args[i] % 5) if lo <= i < hi - 1 else -(args[i] // 2)

    return [branches, loops, helpers, divisions]


FORMS = {form.__name__: form for form in _forms()}


@pytest.mark.parametrize("name", FORMS)
def test_forms_mean_what_python_means(name: str) -> None:
    text = translate_library(lambda: {f.__name__: f for f in _forms()}[name], (), f"form_{name}")
    assert text is not None
    address = engine.compile_ir(text, (f"form_{name}",))[f"form_{name}"]
    native = KERNEL(address)
    start = [5, 2, -7, 0, 3, 11, 1, 4]
    want, got = list(start), np.array(start, np.int64)
    FORMS[name](want, 0, len(start))
    native(got.ctypes.data, 0, len(start))
    assert got.tolist() == want


def test_division_by_zero_gives_zero_as_in_numba() -> None:
    def factory() -> Callable[..., None]:
        def kernel(args, lo, hi):
            args[0] = args[0] // lo
            args[1] = args[1] % lo

        return kernel

    text = translate_library(factory, (), "by_zero")
    assert text is not None
    native = KERNEL(engine.compile_ir(text, ("by_zero",))["by_zero"])
    got = np.array([7, 7], np.int64)
    native(got.ctypes.data, 0, 0)
    assert got.tolist() == [0, 0]


def _unknown_forms() -> list[Callable[..., None]]:
    def waits(args, lo, hi):
        pytest.approx(lo)

    def mixes(args, lo, hi):
        args[0] = lo if hi else 0.5

    def packs(args, lo, hi):
        args[0] = (lo, hi)[0]

    def steps(args, lo, hi):
        for i in range(lo, hi, 2):
            args[i] = 0

    return [waits, mixes, packs, steps]


@pytest.mark.parametrize("number", range(len(_unknown_forms())))
def test_what_is_not_known_is_left_to_numba(number: int) -> None:
    assert translate_library(lambda: _unknown_forms()[number], (), "k") is None


def test_a_kernel_without_its_text_is_left_to_numba() -> None:
    scope: dict[str, Any] = {}
    exec("def kernel(args, lo, hi):\n    args[0] = lo\n", scope)
    assert translate_library(lambda: scope["kernel"], (), "k") is None


def test_pointers_of_routines_come_without_scipys_linear_algebra() -> None:
    code = """
import sys
from numgrad_kernels import engine
symbol = engine.blas_symbol("lapack:dpotrf")
assert engine.address_of(symbol) and "scipy.linalg" not in sys.modules
import numpy as np
import scipy.linalg  # what was loaded by itself does not stand in its way
from scipy.linalg import cython_lapack, lapack
assert "dpotrf" in cython_lapack.__pyx_capi__ and lapack.dpotrf(np.eye(2))[1] == 0
print("fine")
"""
    assert run_python(code).strip() == "fine"

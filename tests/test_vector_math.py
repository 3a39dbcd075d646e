"""Vector mathematics: loops really call the vector functions, which are accurate and right at the edges."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from numgrad_kernels import engine, vmath
from numgrad_kernels.build import build_source
from numgrad_kernels.codegen import compile_kernel
from numgrad_kernels.prelude import namespace
from numgrad_kernels.settings import settings

NEEDS_LIBRARY = pytest.mark.skipif(not engine.vector_symbols(), reason="this system has no glibc libmvec")


def loop(name: str, dtype: str) -> str:
    """Source of a loop over one function."""
    arguments = "p[i], r[i]" if name in vmath.BINARY else "p[i]"
    return (
        "def kernel(args, lo, hi):\n"
        f"    p = as_{dtype}(args[0])\n    q = as_{dtype}(args[1])\n    r = as_{dtype}(args[2])\n"
        f"    for i in range(lo, hi):\n        q[i] = vm_{name}({arguments})\n"
    )


def run(name: str, dtype: str, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """Run one function over arrays."""
    out = np.empty_like(x)
    addresses = np.array([a.ctypes.data for a in (x, out, x if y is None else y)], np.int64)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    kernel(build_source(loop(name, dtype)).address)(addresses.ctypes.data, 0, x.size)
    return out


def symbols_of(source: str) -> tuple[str, ...]:
    """External symbols that the object code of a kernel calls."""
    names = namespace()
    exec(source, names)
    return compile_kernel(names["kernel"], "ng_under_test", "kernel under test").needs


@NEEDS_LIBRARY
@pytest.mark.parametrize("name", [*vmath.UNARY, *vmath.BINARY])
def test_loops_call_vector_functions(name: str) -> None:
    for dtype in ("f32", "f64"):
        needs = symbols_of(loop(name, dtype))
        known = {symbol for _, symbol in vmath.variants(name, dtype)}
        assert bool(known & set(needs)) == bool(known), (dtype, needs)
        if name not in ("lgamma", "nextafter", "fmod"):
            assert known


@NEEDS_LIBRARY
def test_several_functions_in_one_loop_are_all_vectors() -> None:
    source = (
        "def kernel(args, lo, hi):\n    p = as_f64(args[0])\n    q = as_f64(args[1])\n"
        "    for i in range(lo, hi):\n        q[i] = vm_tanh(vm_exp(p[i]) + vm_pow(p[i], 3.0)) * vm_hypot(p[i], 1.0)\n"
    )
    needs = set(symbols_of(source))
    for name in ("tanh", "exp", "pow", "hypot"):
        assert needs & {symbol for _, symbol in vmath.variants(name, "f64")}, name


def test_scalar_mode_names_no_vector_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "vector_math", "scalar")
    assert vmath.mode() == "scalar"
    assert vmath.report()["float64"] == {}
    assert not [symbol for symbol in symbols_of(loop("exp", "f64")) if symbol.startswith("_ZGV")]
    x = np.linspace(-5, 5, 101)
    np.testing.assert_array_equal(run("exp", "f64", x), [math.exp(v) for v in x])


def test_report_names_mode_and_lanes() -> None:
    report = vmath.report()
    assert report["mode"] in ("libmvec", "scalar")
    if report["mode"] == "libmvec":
        assert all(width in (2, 4, 8) for width in report["float64"]["exp"])
        assert all(width in (4, 8, 16) for width in report["float32"]["exp"])


@NEEDS_LIBRARY
def test_vector_functions_are_within_four_ulp() -> None:
    rows = vmath.accuracy_table()
    assert len(rows) == 2 * (len(vmath.UNARY) - 1 + 3)
    worst = {(row["function"], row["dtype"]): round(row["worst_ulp"], 2) for row in rows if row["worst_ulp"] > 4}
    assert not worst


EDGES = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1.0,
    -1.0,
    5e-324,
    -5e-324,
    1e-310,
    1e308,
    -1e308,
    1e-30,
    710.0,
    -746.0,
    0.5,
]
NUMPY = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "pow": "power", "atan2": "arctan2",
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", [n for n in (*vmath.UNARY, *vmath.BINARY) if n not in ("lgamma", "erf", "erfc")])
def test_edges(name: str, dtype: str) -> None:
    """Infinities, NaN, signed zeros, subnormal and huge numbers, each in every lane."""
    edges = np.array(EDGES, "float64" if dtype == "f64" else "float32")
    x, y = np.repeat(edges, edges.size), np.tile(edges, edges.size)
    function = getattr(np, NUMPY.get(name, name))
    got = run(name, dtype, x, y)
    want = function(x, y) if name in vmath.BINARY else function(x)
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(x.dtype).eps, atol=0)
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_edges_of_error_functions(dtype: str) -> None:
    x = np.tile(
        np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 30.0, -30.0], "float64" if dtype == "f64" else "float32"), 8
    )
    np.testing.assert_array_equal(run("erf", dtype, x), [math.erf(v) for v in x])
    np.testing.assert_allclose(run("erfc", dtype, x), [math.erfc(v) for v in x], atol=1e-38)


@pytest.mark.parametrize(
    ("combine", "reference"), [("sum_add", np.sum), ("prod_mul", np.prod), ("nan_max", np.max), ("nan_min", np.min)]
)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "c64", "c128"])
def test_reductions(combine: str, reference, dtype: str) -> None:
    numpy_dtype = {"u8": "uint8", "c64": "complex64", "c128": "complex128"}.get(dtype)
    numpy_dtype = np.dtype(numpy_dtype or {"f": "float", "i": "int"}[dtype[0]] + dtype[1:])
    x = np.random.default_rng(3).uniform(0.9, 3.1, 1001).astype(numpy_dtype)
    x = x + x[::-1] * np.array(0.001j, numpy_dtype) if numpy_dtype.kind == "c" else x
    x = x[:40] if combine == "prod_mul" else x
    out = np.zeros(1, numpy_dtype)
    source = (
        f"def kernel(args, lo, hi):\n    p = as_{dtype}(args[0])\n    total = p[0]\n"
        f"    for i in range(1, hi):\n        total = {combine}(total, p[i])\n    as_{dtype}(args[1])[0] = total\n"
    )
    addresses = np.array([x.ctypes.data, out.ctypes.data], np.int64)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(build_source(source).address)
    kernel(addresses.ctypes.data, 0, x.size)
    want = reference(x, dtype=numpy_dtype) if combine in ("sum_add", "prod_mul") else reference(x)
    np.testing.assert_allclose(out[0], want, rtol=1e-5 if dtype in ("f32", "c64") else 1e-13)
    if numpy_dtype.kind in "fc":
        for bad in (np.nan, np.inf):
            x[len(x) // 2] = bad
            kernel(addresses.ctypes.data, 0, x.size)
            want = reference(x)
            assert np.isnan(out[0]) == np.isnan(want)
            assert np.isinf(out[0]) == np.isinf(want)


@pytest.mark.parametrize("combine", ["sum_add", "nan_max"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32"])
def test_reductions_are_vectorised(combine: str, dtype: str) -> None:
    names = namespace()
    source = (
        f"def kernel(args, lo, hi):\n    p = as_{dtype}(args[0])\n    total = p[0]\n"
        f"    for i in range(lo, hi):\n        total = {combine}(total, p[i])\n    as_{dtype}(args[1])[0] = total\n"
    )
    exec(source, names)
    from llvmlite import binding

    from numgrad_kernels import codegen

    _, module = engine.emit_object(codegen._lower(names["kernel"], "ng_reduction"), internalize=("ng_reduction",))
    assert isinstance(module, binding.ModuleRef)
    word = {"f32": "float", "f64": "double", "i32": "i32"}[dtype]
    assert f" x {word}>" in str(module)


def test_memory_intrinsics() -> None:
    a, b = np.arange(10.0), np.ones(10)
    source = (
        "def kernel(args, lo, hi):\n    mem_copy(as_f64(args[1]), args[0], 24)\n"
        "    p = as_f64(args[1])\n    mem_zero(address_of(p) + 40, 16)\n"
    )
    addresses = np.array([a.ctypes.data, b.ctypes.data], np.int64)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(build_source(source).address)
    kernel(addresses.ctypes.data, 0, 10)
    np.testing.assert_array_equal(b, [0, 1, 2, 1, 1, 0, 0, 1, 1, 1])

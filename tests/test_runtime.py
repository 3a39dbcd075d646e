"""The native runtime: engine, building, driver, threads, and the entry from Python."""

from __future__ import annotations

import ctypes
import linecache
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from numgrad_kernels import build, driver, engine, library
from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.settings import Settings, settings
from tests.kernel_tables import COMPLAIN, DOUBLE, EXP, data_address, environment, step, table


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache directory for these tests alone."""
    before = settings.cache_dir
    settings.cache_dir = tmp_path_factory.mktemp("cache")
    yield
    settings.cache_dir = before


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = settings.num_threads
    yield
    settings.num_threads = before


# --- engine -------------------------------------------------------------------------------------------------------


def test_engine_compiles_ir_and_resolves_libm() -> None:
    text = """
    declare double @cbrt(double)
    define double @test_twice_cbrt(double %x) {
      %r = call double @cbrt(double %x)
      %s = fadd double %r, %r
      ret double %s
    }
    """
    address = engine.compile_ir(text, ("test_twice_cbrt",))["test_twice_cbrt"]
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(27.0) == pytest.approx(6.0)
    assert engine.address_of("test_twice_cbrt") == address


def test_unknown_symbol_is_an_error_not_a_crash() -> None:
    text = """
    declare void @ng_no_such_function()
    define void @test_calls_nothing() {
      call void @ng_no_such_function()
      ret void
    }
    """
    with pytest.raises(KernelBuildError, match="ng_no_such_function"):
        engine.compile_ir(text, ("test_calls_nothing",))


def test_blas_is_found_by_symbol() -> None:
    text = """
    declare double @ng_blas_ddot(ptr, ptr, ptr, ptr, ptr)
    define double @test_dot(ptr %n, ptr %x, ptr %one, ptr %y) {
      %r = call double @ng_blas_ddot(ptr %n, ptr %x, ptr %one, ptr %y, ptr %one)
      ret double %r
    }
    """
    pointer = ctypes.c_void_p
    dot = ctypes.CFUNCTYPE(ctypes.c_double, pointer, pointer, pointer, pointer)(
        engine.compile_ir(text, ("test_dot",))["test_dot"]
    )
    x, y = np.arange(4.0), np.arange(4.0) + 1
    n, one = np.array([4], np.int32), np.array([1], np.int32)
    assert dot(*map(data_address, (n, x, one, y))) == x @ y
    assert engine.blas_symbol("dpotrf") == "ng_lapack_dpotrf"
    with pytest.raises(KernelBuildError, match="no_such"):
        engine.blas_symbol("blas:no_such")


def test_vector_symbols_exist_and_suit_the_processor() -> None:
    from numgrad_kernels.cpu import has_feature

    symbols = engine.vector_symbols()
    assert all(engine.address_of(name) for name in symbols)
    assert has_feature("avx512f") or not any(name.startswith("_ZGVe") for name in symbols)
    assert all(engine.has_symbol(name) for name in symbols)
    assert not engine.has_symbol("_ZGVdN4v_no_such")


# --- settings -----------------------------------------------------------------------------------------------------


def test_settings_refuse_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Settings()
    for name, value in (("num_threads", 0), ("num_threads", 1.5), ("vector_math", "fast")):
        before = getattr(fresh, name)
        with pytest.raises(ValueError, match=name):
            setattr(fresh, name, value)
        assert getattr(fresh, name) == before
    monkeypatch.setenv("NUMGRAD_CACHE_DIR", "")
    monkeypatch.setenv("NUMGRAD_NUM_THREADS", "3")
    assert Settings().cache_dir is None
    assert Settings().num_threads == 3


# --- building -----------------------------------------------------------------------------------------------------


def test_built_once_then_from_memory() -> None:
    first = build.build_source(DOUBLE + "# once\n")
    second = build.build_source(DOUBLE + "# once\n")
    assert (first.origin, second.origin) == ("compiled", "memory")
    assert first.address == second.address
    assert first.symbol == f"ng_{first.key[:16]}"


def test_kernel_source_is_known_to_tracebacks() -> None:
    kernel = build.build_source(DOUBLE)
    assert linecache.getline(f"<numgrad kernel {kernel.symbol}>", 6).strip() == "out[i] = 2.0 * x[i]"


def test_key_depends_on_vector_math(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for mode in ("auto", "scalar"):
        monkeypatch.setattr(settings, "vector_math", mode)
        keys.add(build.build_source(DOUBLE).key)
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def kernel(args, lo, hi):\n    args[0] = no_such_name\n", "no_such_name"),
        ("def kernel(args, lo, hi)\n", "definition"),
        ("def other(args, lo, hi):\n    pass\n", "definition"),
        ("def kernel(args, lo, hi):\n    assert lo < hi\n", "raise a Python exception"),
        (
            "def kernel(args, lo, hi):\n    for i in range(0, hi, lo):\n        args[i] = 0\n",
            "raise a Python exception",
        ),
        ("import numpy as np\ndef kernel(args, lo, hi):\n    args[0] = np.zeros(hi).size\n", "allocates|raise"),
    ],
)
def test_bad_kernels_are_refused(source: str, message: str) -> None:
    with pytest.raises(KernelBuildError, match=message):
        build.build_source(source)


def test_eight_threads_compile_once() -> None:
    source = DOUBLE + "# for eight threads\n"
    barrier = threading.Barrier(8)
    compiled, hits = build.counters.compiled, build.counters.memory_hits
    addresses = []

    def work() -> None:
        barrier.wait()
        addresses.append(build.build_source(source).address)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(set(addresses)) == 1
    assert build.counters.compiled == compiled + 1
    assert build.counters.memory_hits == hits + 7


def test_library_kernel_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    library.load_families()  # or they would register in the copy, and be gone after the test
    monkeypatch.setattr(library, "LIBRARY", dict(library.LIBRARY))

    @library.library("test_fill", family="shaping")
    def fill(dtype: np.dtype[Any]) -> Callable[..., None]:
        from numba import carray

        from numgrad_kernels.prelude import namespace

        pointer, value = namespace()[{"float64": "as_f64", "int32": "as_i32"}[dtype.name]], dtype.type(7)

        def kernel(args: Any, lo: int, hi: int) -> None:
            out = carray(pointer(args[0]), hi)
            for i in range(lo, hi):
                out[i] = value

        return kernel

    for dtype in (np.float64, np.int32):
        built = build.build_library("test_fill", (np.dtype(dtype).name,))
        out = np.zeros(5, dtype)
        driver.run(np.array([step(built.address, args := table(out), 1, 4)]))
        assert out.tolist() == [0, 7, 7, 7, 0]
        assert args.size == 1
    with pytest.raises(KernelBuildError, match="defined twice"):
        library.library("test_fill", family="shaping")(fill)
    with pytest.raises(KernelBuildError, match="no library kernel 'no_such'"):
        build.build_library("no_such", ("float64",))
    with pytest.raises(KernelBuildError, match="family"):
        library.library("test_other", family="no_such_family")


# --- driver -------------------------------------------------------------------------------------------------------


def test_driver_runs_steps_in_order() -> None:
    kernel = build.build_source(DOUBLE).address
    a = np.arange(6.0)
    b, c = np.zeros(6), np.zeros(6)
    first, second = table(a, b), table(b, c)
    program = np.array([step(kernel, first, 0, 6), step(kernel, second, 2, 5)])
    assert driver.run(program) == 2
    assert b.tolist() == (2 * a).tolist()
    assert c.tolist() == [0, 0, 8, 12, 16, 0]
    assert driver.run(program[:0]) == 0


def test_driver_stops_at_the_first_status() -> None:
    kernel = build.build_source(COMPLAIN).address
    status = np.zeros(1, np.int64)
    args = table(status)
    program = np.array([step(kernel, args, value, 0, status=status) for value in (0, 5, 6)])
    assert driver.run(program) == 1
    assert status[0] == 5
    program[:, driver.STATUS] = 0
    assert driver.run(program) == 3
    assert status[0] == 6


@pytest.mark.parametrize("length", [0, 1, 64, 65, 6401])
def test_chunks_give_the_same_bits_on_one_and_two_threads(length: int, threads_restored: None) -> None:
    kernel = build.build_source(EXP).address
    x = np.linspace(-3.0, 3.0, length)
    results = []
    for threads in (1, 2):
        settings.num_threads = threads
        out = np.zeros(length)
        args = table(x, out)
        assert driver.run(np.array([step(kernel, args, 0, length, chunk=64)])) == 1
        results.append(out)
    assert results[0].tobytes() == results[1].tobytes()
    np.testing.assert_allclose(results[0], np.exp(x) + x, rtol=1e-14)


def test_raising_the_number_of_threads_starts_the_pool_for_old_programs() -> None:
    script = (
        "from numgrad_kernels import build, driver, threads\n"
        "import numpy as np\n"
        "from numgrad_kernels.settings import settings\n"
        "settings.num_threads = 1\n"
        f"kernel = build.build_source({COMPLAIN!r}).address\n"
        "out = np.zeros(1, np.int64); args = np.array([out.ctypes.data])\n"
        "program = np.array([[kernel, args.ctypes.data, 0, 8, 4, 0, 0, 0]])\n"
        "driver.run(program); before = threads.layer()\n"
        "settings.num_threads = 2\n"
        "print(before, threads.layer() != 'serial')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(settings.cache_dir),
    )
    assert result.stdout.split() == ["serial", "True"], result.stderr


def test_chunks_cover_the_range_once(threads_restored: None) -> None:
    count = build.build_source(
        "def kernel(args, lo, hi):\n"
        "    seen = as_i64(args[0])\n"
        "    calls = as_i64(args[1])\n"
        "    calls[lo] = hi\n"
        "    for i in range(lo, hi):\n"
        "        seen[i] += 1\n"
    ).address
    for threads in (1, 2):
        settings.num_threads = threads
        seen, calls = np.zeros(100, np.int64), np.zeros(100, np.int64)
        args = table(seen, calls)
        driver.run(np.array([step(count, args, 3, 98, chunk=10)]))
        assert seen.tolist() == [0] * 3 + [1] * 95 + [0] * 2
        assert {lo: hi for lo, hi in enumerate(calls) if hi} == {lo: min(lo + 10, 98) for lo in range(3, 98, 10)}


def test_threads_in_several_python_threads_at_once(threads_restored: None) -> None:
    settings.num_threads = 2
    kernel = build.build_source(EXP).address
    x = np.linspace(0.0, 1.0, 5000)
    wrong = []

    def work() -> None:
        out = np.zeros(5000)
        args = table(x, out)
        program = np.array([step(kernel, args, 0, 5000, chunk=100)])
        for _ in range(50):
            out[:] = 0
            driver.run(program)
            if not np.allclose(out, np.exp(x) + x):
                wrong.append(out)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize(
    "program",
    [np.zeros((2, 4), np.int64), np.zeros((2, 8)), np.zeros(8, np.int64), np.zeros((4, 16), np.int64)[:, ::2]],
)
def test_driver_refuses_other_arrays(program: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a program is"):
        driver.run(program)


FORK = """
import os
import numpy as np
from numgrad_kernels import build, driver, entry, threads
from numgrad_kernels.settings import settings

settings.num_threads = 2
address = entry.make_data_address()
kernel = build.build_source(SOURCE).address
x = np.linspace(0.0, 1.0, 5000)
out = np.zeros(5000)
args = np.array([address(x), address(out)])
program = np.array([[kernel, address(args), 0, 5000, 100, 0, 0, 0]])
driver.run(program)
assert threads.layer() != "serial"
expected = out.copy()
child = os.fork()
if child == 0:
    out[:] = 0
    driver.run(program)
    fresh = build.build_source(SOURCE + "# in the child").address
    good = bool((out == expected).all()) and threads.layer() == "serial" and not threads.ensure() and fresh
    os._exit(0 if good else 1)
assert os.waitpid(child, 0)[1] == 0
out[:] = 0
driver.run(program)
assert (out == expected).all()
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="fork exists on POSIX systems only")
def test_forked_child_runs_serially() -> None:
    script = FORK.replace("SOURCE", repr(EXP))
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment(settings.cache_dir)
    )
    assert result.returncode == 0, result.stderr


def test_blas_follows_the_thread_setting():
    from numgrad_kernels import blas_threads

    engine.blas_symbol("dgemm")
    before = settings.num_threads
    if blas_threads.count() is None:
        pytest.skip("this SciPy brings a BLAS that does not tell its threads")
    try:
        settings.num_threads = 1
        assert blas_threads.count() == 1
        settings.num_threads = 2
        assert blas_threads.count() == 2
    finally:
        settings.num_threads = before

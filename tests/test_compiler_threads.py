"""Compiled programs called from many threads at once, in forked and spawned processes, with any number of threads."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad_kernels.settings import settings
from tests.compiler_cases import Case, python_process
from tests.kernel_tables import environment

F8 = np.dtype(np.float64)
WORKERS = 8


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = settings.num_threads
    yield
    settings.num_threads = before


def at_once(work: Callable[[int], None], count: int = WORKERS) -> None:
    """Run ``work(0), work(1), ...`` in threads that start together; what they raise is raised here."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


def function(x: Any, s: Any) -> list[Any]:
    """Elementwise work, all kinds of reduction, a library kernel, and an intermediate value in the arena."""
    y = ng.tanh(x * s) + ng.cumsum(x, axis=1)
    return [y, ng.sum(y), ng.sum(y, axis=0), ng.max(y, axis=1), ng.cumsum(y * y, axis=0)]


def specs() -> Any:
    return (F8, ("n", "m")), (F8, ())


def same(got: Any, want: Any) -> bool:
    """Whether all outputs are equal bit for bit."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("shape", [(3, 4), (700, 900)], ids=["small, holding the GIL", "large, on several threads"])
def test_eight_threads_call_one_program(shape: tuple[int, int], threads_restored: None) -> None:
    settings.num_threads = 2
    case = Case(function, *specs())
    x = np.random.default_rng(1).normal(size=shape)
    wanted = [case.compiled(x, 1.0 + k) for k in range(WORKERS)]
    repeats = 200 if x.size < 100 else 4

    def work(number: int) -> None:
        for _ in range(repeats):
            assert same(case.compiled(x, 1.0 + number), wanted[number])

    at_once(work)
    if x.size > 100:
        plan = case.program.plan_for((shape, ()), [x, np.array(1.0)])
        assert 1 < len(plan.contexts) <= WORKERS


def test_eight_threads_bring_sizes_of_their_own() -> None:
    case = Case(function, *specs())
    arrays = [np.random.default_rng(k).normal(size=(k + 1, 2 * k + 1)) for k in range(WORKERS)]
    wanted = [Case(function, *specs()).compiled(a, 0.5) for a in arrays]

    def work(number: int) -> None:
        for step in range(60):
            k = (number + step) % WORKERS
            assert same(case.compiled(arrays[k], 0.5), wanted[k])

    at_once(work)


def test_eight_threads_compile_the_same_graph() -> None:
    results: list[Any] = [None] * WORKERS

    def work(number: int) -> None:
        results[number] = Case(function, *specs()).compiled(np.ones((2, 3)), 0.25)

    at_once(work)
    assert all(same(r, results[0]) for r in results)


def test_threads_with_failing_and_with_good_calls_do_not_mix() -> None:
    """A status that one thread's call leaves must neither fail nor excuse another's."""
    case = Case(lambda a: ng.linalg.solve(a * 1.0, ng.sum(a, axis=1)), (F8, ("n", "n")))
    good, bad = np.array([[2.0, 1.0], [1.0, 3.0]]), np.ones((2, 2))

    def work(number: int) -> None:
        for _ in range(150):
            if number % 2:
                with pytest.raises(np.linalg.LinAlgError, match="singular"):
                    case.compiled(bad)
            else:
                np.testing.assert_allclose(case.compiled(good), [1.0, 1.0], rtol=1e-14)

    at_once(work)


def test_bound_programs_in_threads() -> None:
    case = Case(function, *specs())

    def work(number: int) -> None:
        x = np.full((5, 6), float(number))
        step = case.compiled.bind(x, np.array(0.5))
        for _ in range(100):
            got = step()
        assert same(got, case.compiled(x, 0.5))

    at_once(work)


def test_results_do_not_depend_on_the_number_of_threads(threads_restored: None) -> None:
    case = Case(function, *specs())
    reductions = Case(lambda v: [ng.sum(v), ng.sum(ng.exp(-v * v)), ng.max(v), ng.prod(1.0 + v * 1e-6)], (F8, ("n",)))
    x = np.random.default_rng(2).normal(size=(1200, 1100))
    results = []
    for threads in (1, 2):
        settings.num_threads = threads
        results.append([*case.compiled(x, 0.7), *reductions.compiled(x.ravel())])
    assert same(*results)
    case.check(x, 0.7, ulps=1e4, scale=1e3)


SCRIPT = """
import numpy as np
import numgrad as ng
from numgrad.tracing.compiled import compile
with ng.Graph().as_default():
    x = ng.placeholder(ng.float64, ("n", "m"))
    run = compile(x, [ng.sum(ng.tanh(x)), ng.sum(ng.exp(x), axis=0), ng.cumsum(x, axis=1)])
rng = np.random.default_rng(0)
big, small = rng.normal(size=(900, 1000)), rng.normal(size=(3, 4))
"""

DIGEST = "print([v.tobytes().hex()[:64] for a in (big, small) for v in run(a)])\n"

FORK = """
import os, threading
want = [v.copy() for a in (big, small) for v in run(a)]
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            got = [v for a in (big, small) for v in run(a)]
            with ng.Graph().as_default():
                y = ng.placeholder(ng.float64, ("n",))
                fresh = compile(y, ng.sum(ng.sin(y) * 2.0))
            good = all(np.array_equal(a, b) for a, b in zip(got, want))
            good &= abs(fresh(np.ones(4)) - 8 * np.sin(1)) < 1e-14
            os._exit(0 if good else 3)
        finally:
            os._exit(4)
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
print(all(np.array_equal(a, b) for a, b in zip([v for a in (big, small) for v in run(a)], want)))
"""


def test_processes_with_one_and_two_threads_print_the_same_bits(tmp_path: Path) -> None:
    printed = {python_process(SCRIPT + DIGEST, tmp_path, NUMGRAD_NUM_THREADS=n) for n in ("1", "2", "2")}
    assert len(printed) == 1 and printed.pop().count("'") == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork exists on POSIX systems only")
def test_forked_children_of_a_warm_process_compute_and_compile(tmp_path: Path) -> None:
    printed = python_process(SCRIPT + FORK, tmp_path, NUMGRAD_NUM_THREADS="2")
    assert printed.split("\n")[:2] == ["[0, 0, 0]", "True"]


def _digest() -> list[bytes]:
    return [v.tobytes() for v in Case(function, *specs()).compiled(np.ones((2, 3)), 0.25)]


def test_a_spawned_process_computes_the_same() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_digest).result(timeout=120) == _digest()


FIRST_RESULT = """
import os, sys, time
import numpy as np
import numgrad as ng
from numgrad_kernels import threads

f = ng.value_and_grad(lambda x: np.sum(np.tanh(x) * x))
x = np.linspace(-3.0, 3.0, 400_000)
first = f(x)
if sys.argv[1:] == ["fork"]:  # while the threads are being started
    child = os.fork()
    if child == 0:
        value, gradient = f(x)
        os._exit(int(not (value == first[0] and np.array_equal(gradient, first[1]))))
    print(os.waitpid(child, 0)[1])
if sys.argv[1:] == ["exit"]:
    sys.exit()
layer = threads.layer()
value, gradient = f(x)
print(layer != "serial", value == first[0] and np.array_equal(gradient, first[1]))
"""


@pytest.mark.parametrize("how", ["", "fork", "exit"])
def test_the_first_result_does_not_wait_for_threads_and_has_the_same_bits(how: str, tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", FIRST_RESULT, *([how] if how else [])], text=True, timeout=300,
                              capture_output=True, env={**environment(tmp_path), "NUMGRAD_NUM_THREADS": "2"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == {"": ["True", "True"], "fork": ["0", "True", "True"], "exit": []}[how]

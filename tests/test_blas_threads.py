"""Small BLAS and LAPACK calls run on one thread, large ones on all, and none on more than numgrad's own leave free."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels import blas_threads
from numgrad_kernels.settings import settings
from numgrad_kernels.thread_state import BLAS_SETTER, BLAS_THREADS, state
from tests.matrix_cases import matrix, positive
from tests.test_layers import run_python

la = ng.linalg
SETTER = ctypes.CFUNCTYPE(None, ctypes.c_int32)


@pytest.fixture
def told() -> Iterator[list[int]]:
    """The numbers of threads that kernels ask BLAS for, with two threads in the settings."""
    # The first program, and the first routine of each table, set the number of threads.
    compiled(lambda x: la.cholesky(x @ x), np.eye(3))
    before = settings.num_threads
    settings.num_threads = 2
    kept, numbers = state[BLAS_SETTER], []
    setter = SETTER(numbers.append)
    state[BLAS_SETTER] = ctypes.cast(setter, ctypes.c_void_p).value
    yield numbers
    state[BLAS_SETTER] = kept
    settings.num_threads = before


def compiled(function: Any, *arrays: Any) -> Any:
    with Graph().as_default():
        xs = [placeholder(a.dtype, (None,) * a.ndim) for a in arrays]
        result = function(*xs)
        return compile_graph(xs, list(result) if isinstance(result, tuple) else [result])


FUNCTIONS = {
    "matmul": (lambda a: a @ a, matrix),
    "matvec": (lambda a: a @ a[0], matrix),
    "cholesky": (la.cholesky, positive),
    "pullback": (lambda a: ng.gradients(ng.sum(la.cholesky(a)), a)[0], positive),
    "triangular_solve": (lambda a: la.triangular_solve(a, a, lower=True), positive),
    "solve": (la.solve, None),
    "eigh": (la.eigvalsh, positive),
    "svd": (la.svdvals, matrix),
    "qr": (la.qr, matrix),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_small_calls_run_on_one_thread_and_leave_the_number_as_it_was(name: str, told: list[int]) -> None:
    function, make = FUNCTIONS[name]
    arrays = [positive(20, 20), matrix(20, 3)] if make is None else [make(20, 20)]
    program = compiled(function, *arrays)
    told.clear()
    program(*arrays)
    assert told and told == [1, 2] * (len(told) // 2)


@pytest.mark.parametrize("name", ["matmul", "matvec", "cholesky", "pullback", "triangular_solve", "solve"])
def test_what_calls_no_routine_leaves_the_setting_alone(name: str, told: list[int]) -> None:
    function, make = FUNCTIONS[name]
    arrays = [positive(5, 5), matrix(5, 3)] if make is None else [make(5, 5)]
    program = compiled(function, *arrays)
    told.clear()
    program(*arrays)
    assert told == []


def test_large_calls_keep_all_threads(told: list[int]) -> None:
    a = positive(400, 400)
    program = compiled(lambda x: la.cholesky(x) @ x, a)
    told.clear()
    (got,) = program(a)
    assert told == []
    np.testing.assert_allclose(got, np.linalg.cholesky(a) @ a, rtol=1e-10)


def test_calls_inside_numgrads_own_threads_run_on_one(told: list[int]) -> None:
    a = matrix(8, 300, 300)
    program = compiled(lambda x: ng.matmul(x, x), a)
    program(a)
    told.clear()
    (got,) = program(a)
    np.testing.assert_allclose(got, a @ a, rtol=1e-9, atol=1e-9)
    assert set(told[:-1]) == {1} and told[-1] == 2


def test_with_one_thread_nothing_is_set(told: list[int]) -> None:
    settings.num_threads = 1
    assert state[BLAS_SETTER] == 0 and state[BLAS_THREADS] == 1
    a = matrix(20, 20)
    compiled(lambda x: x @ x, a)(a)
    assert told == []


def test_the_number_of_threads_is_blas_own_after_a_call() -> None:
    before = settings.num_threads
    try:
        settings.num_threads = 2
        a = matrix(20, 20)
        compiled(lambda x: x @ x, a)(a)
        if blas_threads.count() is None:
            pytest.skip("this BLAS does not tell its number of threads")
        assert blas_threads.count() == 2
    finally:
        settings.num_threads = before


@pytest.mark.parametrize("given", ["", "20"])
def test_idle_threads_sleep_soon_unless_the_user_says_otherwise(given: str) -> None:
    code = """
import os
from numgrad_kernels import blas_threads, engine
with blas_threads.short_spins():
    inside = os.environ.get("OPENBLAS_THREAD_TIMEOUT")
engine.blas_symbol("dgemm")
print(inside, os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
"""
    settings_of = {"OPENBLAS_THREAD_TIMEOUT": given} if given else {}
    assert run_python(code, **settings_of).split() == ([given, given] if given else ["16", "None"])

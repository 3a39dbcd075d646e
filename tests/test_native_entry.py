"""The way in from Python: what the native entry and its Python twin take, refuse and report."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numgrad_kernels import build, engine, entry, native_entry
from tests.kernel_tables import COMPLAIN, DOUBLE, PlanBlock, data_address, step, table


class Plan:
    """A plan that doubles a float64 array of shape (2, 3), with its memory."""

    def __init__(self, release_gil: bool = False) -> None:
        self.args = np.zeros(2, np.int64)
        self.mirror = np.zeros(1, np.int64)
        self.status = np.zeros(1, np.int64)
        self.kernel = build.build_source(DOUBLE).address
        self.block = PlanBlock(
            descrs=[np.dtype(np.float64)] * 2,
            shapes=[(2, 3)] * 2,
            writable=[False, True],
            slots=[[data_address(self.args), data_address(self.mirror)], [data_address(self.args) + 8]],
            program=np.array([step(self.kernel, self.args, 0, 6)]),
            status=self.status,
            release_gil=release_gil,
        )


ENTRIES = {"native": entry.make_entry(), "python": entry.python_entry}


@pytest.fixture(params=ENTRIES)
def call(request: pytest.FixtureRequest) -> Callable[..., int]:
    return ENTRIES[request.param]


def test_native_entry_is_in_use() -> None:
    assert native_entry.offsets_hold()
    assert ENTRIES["native"] is not entry.python_entry


@pytest.mark.parametrize("release_gil", [False, True])
def test_entry_runs_the_plan(call: Callable[..., int], release_gil: bool) -> None:
    plan = Plan(release_gil)
    x = np.arange(6.0).reshape(2, 3)
    x.flags.writeable = False
    out = np.zeros((2, 3))
    plan.status[0] = 9
    assert call(plan.block.address, x, out) == entry.OK
    assert out.tolist() == (2 * x).tolist()
    assert plan.mirror[0] == data_address(x)
    assert (plan.block.status, plan.block.steps_done) == (0, 1)


class Subclass(np.ndarray):
    pass


def refused() -> dict[str, tuple[Any, ...]]:
    """Argument lists that the plan must not take."""
    good, out = np.ones((2, 3)), np.ones((2, 3))
    readonly = np.ones((2, 3))
    readonly.flags.writeable = False
    unaligned = np.frombuffer(bytes(56), np.uint8)[1:49].view(np.float64).reshape(2, 3)
    return {
        "float32": (good.astype(np.float32), out),
        "int64": (good.astype(np.int64), out),
        "big-endian": (good.astype(">f8"), out),
        "other shape": (np.ones((3, 2)), out),
        "fewer dims": (np.ones(6), out),
        "0-d": (np.array(1.0), out),
        "empty": (np.ones((0, 3)), out),
        "transposed": (np.ones((3, 2)).T, out),
        "strided": (np.ones((2, 6))[:, ::2], out),
        "unaligned": (unaligned, out),
        "read-only output": (good, readonly),
        "subclass": (good.view(Subclass), out),
        "list": ([[1.0] * 3] * 2, out),
        "scalar": (np.float64(1.0), out),
        "float": (1.0, out),
        "none": (None, out),
        "too few": (good,),
        "too many": (good, out, out),
    }


@pytest.mark.parametrize("case", refused())
def test_entry_refuses_and_touches_nothing(call: Callable[..., int], case: str) -> None:
    plan = Plan()
    plan.status[0] = 9
    arrays = refused()[case]
    assert call(plan.block.address, *arrays) == entry.MISMATCH
    assert plan.args.tolist() == [0, 0]
    assert plan.mirror[0] == 0
    assert plan.status[0] == 9


def test_entry_takes_empty_0d_and_no_arrays(call: Callable[..., int]) -> None:
    kernel = build.build_source(COMPLAIN).address
    status, seen = np.zeros(1, np.int64), np.zeros(1, np.int64)
    args = table(seen)
    program = np.array([step(kernel, args, 4, 0)])
    for arrays in ([], [np.array(2.0)], [np.zeros((0, 3))], [np.zeros((1,) * 12)]):
        seen[0] = 0
        block = PlanBlock(
            [a.dtype for a in arrays],
            [a.shape for a in arrays],
            [True] * len(arrays),
            [[]] * len(arrays),
            program,
            status,
        )
        assert call(block.address, *arrays) == entry.OK
        assert seen[0] == 4


def test_entry_reports_the_status(call: Callable[..., int]) -> None:
    kernel = build.build_source(COMPLAIN).address
    status = np.zeros(1, np.int64)
    args = table(status)
    program = np.array([step(kernel, args, value, 0, status=status) for value in (0, 3)])
    block = PlanBlock([], [], [], [], program, status)
    assert call(block.address) == entry.STATUS_SET
    assert (block.status, block.steps_done) == (3, 1)


def test_entry_refuses_wrong_calls() -> None:
    native = ENTRIES["native"]
    with pytest.raises(TypeError, match="plan block"):
        native()
    with pytest.raises(TypeError):
        native("address")
    for broken in ([1, 2], None, 3.0):
        with pytest.raises(TypeError, match="numpy.ndarray"):
            data_address(broken)  # type: ignore[arg-type]


def test_other_threads_run_meanwhile_and_find_the_plan_busy() -> None:
    text = """
    declare i32 @usleep(i32)
    define void @test_sleep(ptr %args, i64 %lo, i64 %hi) {
      %r = call i32 @usleep(i32 400000)
      ret void
    }
    """
    kernel = engine.compile_ir(text, ("test_sleep",))["test_sleep"]
    program = np.array([step(kernel, np.zeros(1, np.int64), 0, 0)])
    block = PlanBlock([], [], [], [], program, np.zeros(1, np.int64), release_gil=True)
    native = ENTRIES["native"]
    answers = []
    worker = threading.Thread(target=lambda: answers.append(native(block.address)))
    worker.start()
    deadline = time.monotonic() + 10
    while not (answer := native(block.address)) == entry.BUSY and time.monotonic() < deadline:
        pass
    assert answer == entry.BUSY
    assert worker.is_alive()
    worker.join()
    assert answers == [entry.OK]
    assert native(block.address) == entry.OK


def test_strange_array_struct_means_python_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    native_entry.native_functions.cache_clear()
    monkeypatch.setattr(native_entry, "_DESCR_AT", 48)
    try:
        assert not native_entry.offsets_hold()
        assert entry.make_entry() is entry.python_entry
        assert entry.make_data_address()(array := np.ones(3)) == array.ctypes.data
    finally:
        native_entry.native_functions.cache_clear()


CALLERS = {"native": entry.make_caller(), "python": entry.python_caller}


@pytest.fixture(params=CALLERS)
def caller(request: pytest.FixtureRequest) -> Callable[..., Callable[..., Any]]:
    return CALLERS[request.param]


def test_native_caller_is_in_use() -> None:
    plan = Plan()
    assert type(CALLERS["native"](plan.block.address, None, [])).__name__ == "builtin_function_or_method"


@pytest.mark.parametrize("release_gil", [False, True])
def test_call_makes_outputs_of_its_own(caller: Callable[..., Callable[..., Any]], release_gil: bool) -> None:
    plan = Plan(release_gil)
    call = caller(plan.block.address, plan, [((2, 3), np.dtype(np.float64))])
    x = np.arange(6.0).reshape(2, 3)
    first, second = call(x), call(x + 1.0)
    assert first[0].tolist() == (2 * x).tolist() and second[0].tolist() == (2 * x + 2).tolist()
    assert first[0].dtype is x.dtype and first[0].flags.owndata and first[0].flags.carray


@pytest.mark.parametrize("case", [name for name in refused() if name not in ("read-only output", "too many")])
def test_call_refuses_and_touches_nothing(caller: Callable[..., Callable[..., Any]], case: str) -> None:
    plan = Plan()
    call = caller(plan.block.address, plan, [((2, 3), np.dtype(np.float64))])
    arrays = refused()[case][:1] if case != "too few" else ()
    assert call(*arrays) == entry.MISMATCH
    assert plan.args.tolist() == [0, 0]


def test_call_keeps_the_plan_alive_and_leaks_nothing(caller: Callable[..., Callable[..., Any]]) -> None:
    class Owner:
        pass

    plan, owner, dtype = Plan(), Owner(), np.dtype(np.float64)
    alive = weakref.ref(owner)
    call = caller(plan.block.address, (plan, owner), [((2, 3), dtype)])
    del owner
    x = np.ones((2, 3))
    before = sys.getrefcount(dtype)
    for _ in range(1000):
        call(x)
        call(x.T)
    assert abs(sys.getrefcount(dtype) - before) < 100
    assert alive() is not None
    del call
    gc.collect()
    assert alive() is None


def test_call_with_a_status_gives_no_outputs(caller: Callable[..., Callable[..., Any]]) -> None:
    status = np.zeros(1, np.int64)
    program = np.array([step(build.build_source(COMPLAIN).address, table(status), 3, 0, status=status)])
    block = PlanBlock([np.dtype(np.float64)], [(2,)], [True], [[]], program, status)
    assert caller(block.address, block, [((2,), np.dtype(np.float64))])() == entry.STATUS_SET
    program[0, 2] = 0
    (made,) = caller(block.address, block, [((2,), np.dtype(np.float64))])()
    assert made.shape == (2,)
    empty = PlanBlock([], [], [], [], program, status)
    assert caller(empty.address, empty, [])() == ()


def test_data_address_of_arrays_and_subclasses() -> None:
    base = np.arange(10.0)
    for array in (base, base[3:], base.view(Subclass), np.array(1.0), np.zeros(0)):
        assert data_address(array) == array.ctypes.data == entry.python_data_address(array)

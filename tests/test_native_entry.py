"""The way in from Python: what the native entry and its Python twin take, refuse and report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numgrad_kernels import build, engine, entry, native_entry
from tests.kernel_tables import COMPLAIN, DOUBLE, data_address, step, table


class Plan:
    """A plan that doubles a float64 array of shape (2, 3), with its memory."""

    def __init__(self, release_gil: bool = False) -> None:
        self.args = np.zeros(2, np.int64)
        self.mirror = np.zeros(1, np.int64)
        self.status = np.zeros(1, np.int64)
        self.kernel = build.build_source(DOUBLE).address
        self.block = entry.PlanBlock(
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
        block = entry.PlanBlock(
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
    block = entry.PlanBlock([], [], [], [], program, status)
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


def test_plan_block_checks_its_parts() -> None:
    program, status = np.zeros((0, 8), np.int64), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="one item for each array"):
        entry.PlanBlock([np.dtype(float)], [], [], [], program, status)
    with pytest.raises(ValueError, match="status word"):
        entry.PlanBlock([], [], [], [], program, np.zeros(1))
    with pytest.raises(ValueError, match="a program is"):
        entry.PlanBlock([], [], [], [], np.zeros(8), status)


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
    block = entry.PlanBlock([], [], [], [], program, np.zeros(1, np.int64), release_gil=True)
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


def test_data_address_of_arrays_and_subclasses() -> None:
    base = np.arange(10.0)
    for array in (base, base[3:], base.view(Subclass), np.array(1.0), np.zeros(0)):
        assert data_address(array) == array.ctypes.data == entry.python_data_address(array)

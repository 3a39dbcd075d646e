"""The way in from Python: one call checks the arrays of a plan, stores their data pointers and runs its program.

The entry is a builtin function (`native_entry`); where that cannot be used, a Python function with the same contract
takes its place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numgrad_kernels import driver
from numgrad_kernels.native_entry import ALIGNED, C_CONTIGUOUS, WRITEABLE, native_functions

MISMATCH, OK, STATUS_SET, BUSY = range(4)

# Words of a plan block: header, then one record per array, then dims and slots. `native_entry` counts on them.
_COUNT, _PROGRAM, _STEPS, _STATUS, _RELEASE, _BUSY, _DONE, _RECORDS = range(8)
_DESCR, _FLAGS, _NDIM, _DIMS, _SLOT_COUNT, _SLOTS = range(6)
_HEADER_WORDS, _RECORD_WORDS = 8, 6


class PlanBlock:
    """The C memory that tells the entry what arrays a plan takes, where their pointers go, and what to run.

    Parameters
    ----------
    descrs
        Dtype of each array; an array is accepted only if it holds the very same dtype object.
    shapes
        Shape of each array.
    writable
        Whether the plan writes to the array.
    slots
        For each array the addresses of the int64 words that receive its data pointer.
    program
        Table of steps, int64 of shape (steps, 8); see `driver`.
    status
        Int64 array with one element, reset before each run; kernels that know its address may write to it.
    release_gil
        Whether other Python threads may run meanwhile; worth it above some ten microseconds.

    Raises
    ------
    ValueError
        If the lists differ in length, or the program or the status word has the wrong form.
    """

    def __init__(
        self,
        descrs: Sequence[np.dtype[Any]],
        shapes: Sequence[tuple[int, ...]],
        writable: Sequence[bool],
        slots: Sequence[Sequence[int]],
        program: npt.NDArray[np.int64],
        status: npt.NDArray[np.int64],
        release_gil: bool = False,
    ) -> None:
        driver.check_program(program)
        if status.dtype != np.int64 or status.size != 1:
            raise ValueError(f"the status word is one int64, not {status.dtype} of shape {status.shape}")
        count = len(descrs)
        if not count == len(shapes) == len(writable) == len(slots):
            raise ValueError("descrs, shapes, writable and slots must have one item for each array")
        words = _HEADER_WORDS + _RECORD_WORDS * count + sum(map(len, shapes)) + sum(map(len, slots))
        self.memory = np.zeros(words, np.int64)
        self.address = base = int(self.memory.ctypes.data)
        # The block holds bare addresses; these objects must live as long as it does.
        self._alive = (tuple(descrs), program, status)
        self._status = status
        memory = self.memory
        memory[_COUNT], memory[_PROGRAM], memory[_STEPS] = count, program.ctypes.data, len(program)
        memory[_STATUS], memory[_RELEASE] = status.ctypes.data, release_gil
        memory[_RECORDS] = base + 8 * _HEADER_WORDS
        free = _HEADER_WORDS + _RECORD_WORDS * count
        for k in range(count):
            record = memory[_HEADER_WORDS + _RECORD_WORDS * k :][:_RECORD_WORDS]
            ndim, slot_count = len(shapes[k]), len(slots[k])
            record[:] = (
                id(descrs[k]),
                C_CONTIGUOUS | ALIGNED | (WRITEABLE if writable[k] else 0),
                ndim,
                base + 8 * free,
                slot_count,
                base + 8 * (free + ndim),
            )
            memory[free : free + ndim] = shapes[k]
            memory[free + ndim : free + ndim + slot_count] = slots[k]
            free += ndim + slot_count

    @property
    def status(self) -> int:
        """The status word after the last run: 0, or what a kernel wrote."""
        return int(self._status.reshape(-1)[0])

    @property
    def steps_done(self) -> int:
        """Number of steps of the last run that ended well."""
        return int(self.memory[_DONE])


def make_entry() -> Callable[..., int]:
    """The function `entry(address, *arrays)` that runs a plan on arrays.

    Returns
    -------
    callable
        Takes `PlanBlock.address` (the block must be alive) and the arrays in order. Returns `MISMATCH` (0), nothing
        touched, if an argument is not exactly a `numpy.ndarray` of the expected dtype, shape and C-contiguous
        layout, aligned, and writable where needed; `OK` (1); `STATUS_SET` (2) if a kernel set the status word; `BUSY`
        (3), nothing touched, if another thread is running this plan.
    """
    native = native_functions()
    return native[0] if native is not None else python_entry


def make_data_address() -> Callable[[npt.NDArray[Any]], int]:
    """The function `data_address(array)`: the address of an array's first element.

    Returns
    -------
    callable
        Raises TypeError for anything but an array.
    """
    native = native_functions()
    return native[1] if native is not None else python_data_address


def python_data_address(array: npt.NDArray[Any]) -> int:
    """What `make_data_address` returns where the native function cannot be used."""
    if not isinstance(array, np.ndarray):
        raise TypeError("data_address() needs a numpy.ndarray")
    return int(array.__array_interface__["data"][0])


def python_entry(address: int, *arrays: Any) -> int:
    """What `make_entry` returns where the native function cannot be used: the same, some microseconds slower."""

    def words(at: int, count: int) -> Any:
        return (ctypes.c_int64 * count).from_address(at)

    header = words(address, _HEADER_WORDS)
    if len(arrays) != header[_COUNT]:
        return MISMATCH
    if header[_BUSY]:
        return BUSY
    records = [words(header[_RECORDS] + 8 * _RECORD_WORDS * k, _RECORD_WORDS) for k in range(len(arrays))]
    for array, record in zip(arrays, records, strict=True):
        if type(array) is not np.ndarray or id(array.dtype) != record[_DESCR]:
            return MISMATCH
        if not (array.flags.c_contiguous and array.flags.aligned):
            return MISMATCH
        if record[_FLAGS] & WRITEABLE and not array.flags.writeable:
            return MISMATCH
        if array.shape != tuple(words(record[_DIMS], record[_NDIM])):
            return MISMATCH
    for array, record in zip(arrays, records, strict=True):
        for slot in words(record[_SLOTS], record[_SLOT_COUNT]):
            words(slot, 1)[0] = python_data_address(array)
    status = words(header[_STATUS], 1)
    status[0] = 0
    header[_BUSY] = 1
    header[_DONE] = driver.run_at(header[_PROGRAM], header[_STEPS])
    header[_BUSY] = 0
    return STATUS_SET if status[0] else OK

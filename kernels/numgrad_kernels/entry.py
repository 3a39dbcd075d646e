"""The way in from Python: one call checks the arrays of a plan, stores their data pointers and runs its program.

The entry is a builtin function (`native_entry`); where that cannot be used, a Python function with the same contract
takes its place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from numgrad_kernels import driver
from numgrad_kernels.native_entry import ALIGNED, C_CONTIGUOUS, WRITEABLE, native_functions

MISMATCH, OK, STATUS_SET, BUSY = range(4)

# Words of a plan block: header, then one record per array, then dims and slots. `native_entry` counts on them.
_COUNT, _PROGRAM, _STEPS, _STATUS, _RELEASE, _BUSY, _DONE, _RECORDS, _INPUTS = range(9)
_DESCR, _FLAGS, _NDIM, _DIMS, _SLOT_COUNT, _SLOTS = range(6)
_HEADER_WORDS, _RECORD_WORDS = 9, 6


def steps_done(block: npt.NDArray[np.int64]) -> int:
    """Number of steps of a plan block's last run that ended well."""
    return int(block[_DONE])


def set_steps_done(block: int, count: int) -> None:
    """Say how many steps of the plan block at this address ended well, for one that was run from outside."""
    ctypes.c_int64.from_address(block + 8 * _DONE).value = count


@contextmanager
def without_steps(block: int) -> Iterator[None]:
    """Let the plan block at this address have no steps within the block: entering it only stores addresses."""
    word = ctypes.c_int64.from_address(block + 8 * _STEPS)
    count, word.value = word.value, 0
    try:
        yield
    finally:
        word.value = count


Record = tuple[int, bool, Sequence[Any], Sequence[Any]]  # id of the dtype, writable, shape, slots


def block_size(records: Sequence[Record]) -> int:
    """The number of words of a plan block for these arrays."""
    return _HEADER_WORDS + sum(_RECORD_WORDS + len(shape) + len(slots) for _, _, shape, slots in records)


def block_words(at: Callable[[int], Any], records: Sequence[Record], program: Any, steps: Any, status: Any,
                release_gil: Any) -> list[Any]:
    """The words of a plan block: what tells the entry what arrays a plan takes, where their pointers go, what to run.

    They are integers, and whatever stands for integers that are not known yet.

    Parameters
    ----------
    at
        Gives the address of a word of the block.
    records
        For each array the identity of its dtype object (no other is accepted), whether it is written to, its shape,
        and its slots: the addresses of the words that receive its data pointer. Those that are written to come last.
    program, steps, status
        Address and length of the table of steps (see `driver`), address of the status word: reset before each run;
        kernels that know it may write to it.
    release_gil
        Whether other Python threads may run meanwhile; worth it above some ten microseconds.
    """
    inputs = sum(not writable for _, writable, _, _ in records)
    words = [len(records), program, steps, status, release_gil, 0, 0, at(_HEADER_WORDS), inputs]
    free = _HEADER_WORDS + _RECORD_WORDS * len(records)
    rest: list[Any] = []
    for descr, writable, shape, slots in records:
        here = free + len(rest)
        words += (descr, C_CONTIGUOUS | ALIGNED | (WRITEABLE if writable else 0), len(shape), at(here), len(slots),
                  at(here + len(shape)))
        rest += shape
        rest += slots
    return words + rest


def address_of(array: npt.NDArray[Any]) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


def make_entry() -> Callable[..., int]:
    """The function `entry(address, *arrays)` that runs a plan on arrays.

    Returns
    -------
    callable
        Takes the address of a plan block (which must be alive) and the arrays in order. Returns `MISMATCH` (0), nothing
        touched, if an argument is not exactly a `numpy.ndarray` of the expected dtype, shape and C-contiguous
        layout, aligned, and writable where needed; `OK` (1); `STATUS_SET` (2) if a kernel set the status word; `BUSY`
        (3), nothing touched, if another thread is running this plan.
    """
    native = native_functions()
    return native[0] if native is not None else python_entry


def make_call(address: int) -> Callable[..., None]:
    """The function ``call(count, *tables)``: a kernel over 0 to `count`, its arguments being the addresses `tables`."""
    kernel = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)

    def call(count: int, *tables: int) -> None:
        kernel((ctypes.c_int64 * len(tables))(*tables), 0, count)

    return call


def make_caller() -> Callable[..., Callable[..., Any]]:
    """The function ``caller(address, alive, outputs)``: it makes the call of one plan.

    Returns
    -------
    callable
        Takes the address of a plan block, what must live as long as the block, and (shape, dtype) of each array that
        the plan writes to. Its result takes the other arrays, and returns a tuple of fresh arrays that the plan
        wrote to, or what the entry answers where it does not answer `OK`.
    """
    native = native_functions()
    if native is None:
        return python_caller
    make = native[2]
    return lambda address, alive, outputs: make((address, alive))


def python_caller(address: int, alive: Any, outputs: Sequence[tuple[Any, Any]]) -> Callable[..., Any]:
    """What `make_caller` returns where the native function cannot be used."""

    def call(*arrays: Any) -> Any:
        made = tuple([np.empty(shape, dtype) for shape, dtype in outputs])
        code = python_entry(address, *arrays, *made)
        return made if code == OK else code

    call.alive = alive  # type: ignore[attr-defined]
    return call


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
    return address_of(array)


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

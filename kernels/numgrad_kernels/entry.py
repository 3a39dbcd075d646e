"""The way in from Python: one call checks the arrays of a plan, stores their data pointers and runs its program.

The entry is a builtin function compiled from LLVM IR. It reads NumPy's array struct directly, at offsets that are tested
against real arrays first; if they do not fit, a Python function with the same contract takes its place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from numgrad_kernels import build, driver, engine

MISMATCH, OK, STATUS_SET, BUSY = range(4)

# Words of a plan block: header, then one record per array, then dims and slots.
_COUNT, _PROGRAM, _STEPS, _STATUS, _RELEASE, _BUSY, _DONE, _RECORDS = range(8)
_DESCR, _FLAGS, _NDIM, _DIMS, _SLOT_COUNT, _SLOTS = range(6)
_HEADER_WORDS, _RECORD_WORDS = 8, 6

# Bits of NumPy's array flags, and offsets in its array struct on 64-bit machines with a plain object header.
_C_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
_TYPE_AT, _DATA_AT, _NDIM_AT, _DIMS_AT, _STRIDES_AT, _DESCR_AT, _FLAGS_AT = 8, 16, 24, 32, 40, 56, 64

_IR = """
@ng_array_type = external global i8
@ng_type_error = external global i8
@ng_no_plan = private constant [42 x i8] c"entry() needs the address of a plan block\\00"
@ng_no_array = private constant [37 x i8] c"data_address() needs a numpy.ndarray\\00"

declare i64 @ng_run(ptr, i64)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @PyErr_SetString(ptr, ptr)
declare i32 @PyType_IsSubtype(ptr, ptr)

define ptr @ng_data_address(ptr %self, ptr %object) nounwind {
  %type.at = getelementptr i8, ptr %object, i64 TYPE_AT
  %type = load ptr, ptr %type.at
  %exact = icmp eq ptr %type, @ng_array_type
  br i1 %exact, label %array, label %related
related:
  %sub = call i32 @PyType_IsSubtype(ptr %type, ptr @ng_array_type)
  %is = icmp ne i32 %sub, 0
  br i1 %is, label %array, label %other
array:
  %data.at = getelementptr i8, ptr %object, i64 DATA_AT
  %data = load i64, ptr %data.at
  %result = call ptr @PyLong_FromLongLong(i64 %data)
  ret ptr %result
other:
  call void @PyErr_SetString(ptr @ng_type_error, ptr @ng_no_array)
  ret ptr null
}

define ptr @ng_entry(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %some = icmp sgt i64 %given, 0
  br i1 %some, label %address, label %no.plan
no.plan:
  call void @PyErr_SetString(ptr @ng_type_error, ptr @ng_no_plan)
  ret ptr null
address:
  %first = load ptr, ptr %args
  %where = call i64 @PyLong_AsLongLong(ptr %first)
  %failed = icmp eq i64 %where, -1
  br i1 %failed, label %raise, label %plan
raise:
  ret ptr null
plan:
  %block = inttoptr i64 %where to ptr
  %count = load i64, ptr %block
  %expected = add i64 %count, 1
  %complete = icmp eq i64 %given, %expected
  br i1 %complete, label %free, label %answer
free:
  %busy.at = getelementptr i64, ptr %block, i64 5
  %busy = load i64, ptr %busy.at
  %idle = icmp eq i64 %busy, 0
  br i1 %idle, label %begin, label %answer
begin:
  %records.at = getelementptr i64, ptr %block, i64 7
  %records = load ptr, ptr %records.at
  %arrays = getelementptr ptr, ptr %args, i64 1
  %none = icmp eq i64 %count, 0
  br i1 %none, label %run, label %check

check:
  %i = phi i64 [0, %begin], [%i.next, %checked]
  %array.at = getelementptr ptr, ptr %arrays, i64 %i
  %array = load ptr, ptr %array.at
  %record.words = mul i64 %i, 6
  %record = getelementptr i64, ptr %records, i64 %record.words
  %type.at = getelementptr i8, ptr %array, i64 TYPE_AT
  %type = load ptr, ptr %type.at
  %is.array = icmp eq ptr %type, @ng_array_type
  br i1 %is.array, label %check.descr, label %answer
check.descr:
  %descr.at = getelementptr i8, ptr %array, i64 DESCR_AT
  %descr = load i64, ptr %descr.at
  %want.descr = load i64, ptr %record
  %same.descr = icmp eq i64 %descr, %want.descr
  br i1 %same.descr, label %check.flags, label %answer
check.flags:
  %flags.at = getelementptr i8, ptr %array, i64 FLAGS_AT
  %flags = load i32, ptr %flags.at
  %want.flags.at = getelementptr i64, ptr %record, i64 1
  %want.flags = load i32, ptr %want.flags.at
  %common = and i32 %flags, %want.flags
  %has.flags = icmp eq i32 %common, %want.flags
  br i1 %has.flags, label %check.ndim, label %answer
check.ndim:
  %ndim.at = getelementptr i8, ptr %array, i64 NDIM_AT
  %ndim = load i32, ptr %ndim.at
  %want.ndim.at = getelementptr i64, ptr %record, i64 2
  %want.ndim = load i32, ptr %want.ndim.at
  %same.ndim = icmp eq i32 %ndim, %want.ndim
  br i1 %same.ndim, label %dims, label %answer
dims:
  %dims.at = getelementptr i8, ptr %array, i64 DIMS_AT
  %shape = load ptr, ptr %dims.at
  %want.dims.at = getelementptr i64, ptr %record, i64 3
  %want.shape = load ptr, ptr %want.dims.at
  %n = zext i32 %ndim to i64
  br label %dim
dim:
  %d = phi i64 [0, %dims], [%d.next, %dim.same]
  %all = icmp eq i64 %d, %n
  br i1 %all, label %checked, label %dim.compare
dim.compare:
  %length.at = getelementptr i64, ptr %shape, i64 %d
  %length = load i64, ptr %length.at
  %want.length.at = getelementptr i64, ptr %want.shape, i64 %d
  %want.length = load i64, ptr %want.length.at
  %same.length = icmp eq i64 %length, %want.length
  br i1 %same.length, label %dim.same, label %answer
dim.same:
  %d.next = add i64 %d, 1
  br label %dim
checked:
  %i.next = add i64 %i, 1
  %unchecked = icmp ult i64 %i.next, %count
  br i1 %unchecked, label %check, label %store

store:
  %j = phi i64 [0, %checked], [%j.next, %stored]
  %given.at = getelementptr ptr, ptr %arrays, i64 %j
  %given.array = load ptr, ptr %given.at
  %data.at = getelementptr i8, ptr %given.array, i64 DATA_AT
  %data = load i64, ptr %data.at
  %words = mul i64 %j, 6
  %from = getelementptr i64, ptr %records, i64 %words
  %slot.count.at = getelementptr i64, ptr %from, i64 4
  %slot.count = load i64, ptr %slot.count.at
  %slots.at = getelementptr i64, ptr %from, i64 5
  %slots = load ptr, ptr %slots.at
  br label %slot
slot:
  %s = phi i64 [0, %store], [%s.next, %slot.store]
  %full = icmp eq i64 %s, %slot.count
  br i1 %full, label %stored, label %slot.store
slot.store:
  %target.at = getelementptr ptr, ptr %slots, i64 %s
  %target = load ptr, ptr %target.at
  store i64 %data, ptr %target
  %s.next = add i64 %s, 1
  br label %slot
stored:
  %j.next = add i64 %j, 1
  %unstored = icmp ult i64 %j.next, %count
  br i1 %unstored, label %store, label %run

run:
  %program.at = getelementptr i64, ptr %block, i64 1
  %program = load ptr, ptr %program.at
  %steps.at = getelementptr i64, ptr %block, i64 2
  %steps = load i64, ptr %steps.at
  %status.at = getelementptr i64, ptr %block, i64 3
  %status.word = load ptr, ptr %status.at
  store i64 0, ptr %status.word
  %done.at = getelementptr i64, ptr %block, i64 6
  %release.at = getelementptr i64, ptr %block, i64 4
  %release = load i64, ptr %release.at
  %keep = icmp eq i64 %release, 0
  br i1 %keep, label %run.holding, label %run.released
run.holding:
  %done1 = call i64 @ng_run(ptr %program, i64 %steps)
  store i64 %done1, ptr %done.at
  br label %finish
run.released:
  store i64 1, ptr %busy.at
  %thread = call ptr @PyEval_SaveThread()
  %done2 = call i64 @ng_run(ptr %program, i64 %steps)
  store i64 %done2, ptr %done.at
  call void @PyEval_RestoreThread(ptr %thread)
  store i64 0, ptr %busy.at
  br label %finish
finish:
  %status = load i64, ptr %status.word
  %clean = icmp eq i64 %status, 0
  %verdict = select i1 %clean, i64 1, i64 2
  br label %answer
answer:
  %code = phi i64 [0, %plan], [3, %free], [0, %check], [0, %check.descr], [0, %check.flags], [0, %check.ndim],
                  [0, %dim.compare], [%verdict, %finish]
  %result = call ptr @PyLong_FromLongLong(i64 %code)
  ret ptr %result
}
"""


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
                _C_CONTIGUOUS | _ALIGNED | (_WRITEABLE if writable[k] else 0),
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


def offsets_hold() -> bool:
    """Whether NumPy's array struct looks as the entry expects, tried on arrays of several kinds."""
    readonly = np.zeros((2, 3), np.float32)
    readonly.flags.writeable = False
    samples = (np.arange(5.0), np.zeros((3, 4), np.int32)[:, ::2], np.array(1.0), readonly, np.zeros((0, 2), np.complex128))
    return all(_struct_fits(sample) for sample in samples)


def _struct_fits(array: npt.NDArray[Any]) -> bool:
    """Whether the fields of this array are found where the entry reads them."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return False

    def pointer(offset: int) -> int | None:
        return ctypes.c_void_p.from_address(id(array) + offset).value

    def numbers(offset: int) -> tuple[int, ...]:
        address = pointer(offset)
        return tuple((ctypes.c_int64 * array.ndim).from_address(address)) if array.ndim and address else ()

    flags = ctypes.c_int32.from_address(id(array) + _FLAGS_AT).value
    wanted = {
        _C_CONTIGUOUS: array.flags.c_contiguous,
        _ALIGNED: array.flags.aligned,
        _WRITEABLE: array.flags.writeable,
    }
    return (
        pointer(_TYPE_AT) == id(np.ndarray)
        and pointer(_DATA_AT) == array.ctypes.data
        and ctypes.c_int32.from_address(id(array) + _NDIM_AT).value == array.ndim
        and pointer(_DESCR_AT) == id(array.dtype)
        and numbers(_DIMS_AT) == array.shape
        and numbers(_STRIDES_AT) == array.strides
        and all(bool(flags & bit) == value for bit, value in wanted.items())
    )


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


_METH_O, _METH_FASTCALL = 0x8, 0x80


@cache
def _native_functions() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """The builtin functions (entry, data_address), or None where the array struct is not the expected one."""
    if not offsets_hold():
        return None
    for name in (
        "PyLong_AsLongLong PyLong_FromLongLong PyEval_SaveThread PyEval_RestoreThread PyErr_SetString PyType_IsSubtype"
    ).split():
        engine.register_symbol(name, _address(getattr(ctypes.pythonapi, name)))
    engine.register_symbol("ng_array_type", id(np.ndarray))
    engine.register_symbol("ng_type_error", id(TypeError))
    engine.register_symbol("ng_run", driver.run_address())
    text = _IR
    for field, offset in (
        ("TYPE_AT", _TYPE_AT),
        ("DATA_AT", _DATA_AT),
        ("NDIM_AT", _NDIM_AT),
        ("DIMS_AT", _DIMS_AT),
        ("DESCR_AT", _DESCR_AT),
        ("FLAGS_AT", _FLAGS_AT),
    ):
        text = text.replace(field, str(offset))
    addresses = build.build_ir(text, ("ng_entry", "ng_data_address"))
    return (
        _builtin("entry", addresses["ng_entry"], _METH_FASTCALL),
        _builtin("data_address", addresses["ng_data_address"], _METH_O),
    )


def _address(function: Any) -> int:
    """Address of a function that ctypes knows."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


_definitions: list[_MethodDef] = []  # Python keeps pointers to these for as long as the builtins live


def _builtin(name: str, address: int, flags: int) -> Callable[..., Any]:
    """A builtin function around native code."""
    _definitions.append(_MethodDef(name.encode(), address, flags, None))
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return new(ctypes.addressof(_definitions[-1]), None, None)  # type: ignore[no-any-return]


def make_entry() -> Callable[..., int]:
    """The function `entry(address, *arrays)` that runs a plan on arrays.

    Returns
    -------
    callable
        Takes `PlanBlock.address` (the block must be alive) and the arrays in order. Returns `MISMATCH` (0) without having
        touched anything if an argument is not exactly a `numpy.ndarray` of the expected dtype, shape and C-contiguous
        layout, aligned, and writable where needed; `OK` (1); `STATUS_SET` (2) if a kernel set the status word; `BUSY`
        (3), nothing touched, if another thread is running this plan.
    """
    native = _native_functions()
    return native[0] if native is not None else python_entry


def make_data_address() -> Callable[[npt.NDArray[Any]], int]:
    """The function `data_address(array)`: the address of an array's first element.

    Returns
    -------
    callable
        Raises TypeError for anything but an array.
    """
    native = _native_functions()
    return native[1] if native is not None else python_data_address


def python_data_address(array: npt.NDArray[Any]) -> int:
    """What `make_data_address` returns where the native function cannot be used."""
    if not isinstance(array, np.ndarray):
        raise TypeError("data_address() needs a numpy.ndarray")
    return int(array.__array_interface__["data"][0])


def python_entry(address: int, *arrays: Any) -> int:
    """What `make_entry` returns where the native function cannot be used; the same contract, some microseconds slower."""

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
        if record[_FLAGS] & _WRITEABLE and not array.flags.writeable:
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

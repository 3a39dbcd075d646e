"""The entry as native code: builtin functions, compiled from LLVM IR, that read NumPy's array struct themselves.

The struct is read at fixed offsets. They are tested against real arrays before anything is compiled.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from numgrad_kernels import build, driver, engine

# Bits of NumPy's array flags, and offsets in its array struct on 64-bit machines with a plain object header.
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
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


def offsets_hold() -> bool:
    """Whether NumPy's array struct looks as the entry expects, tried on arrays of several kinds."""
    readonly = np.zeros((2, 3), np.float32)
    readonly.flags.writeable = False
    samples = (
        np.arange(5.0),
        np.zeros((3, 4), np.int32)[:, ::2],
        np.array(1.0),
        readonly,
        np.zeros((0, 2), np.complex128),
    )
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
        C_CONTIGUOUS: array.flags.c_contiguous,
        ALIGNED: array.flags.aligned,
        WRITEABLE: array.flags.writeable,
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
def native_functions() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
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

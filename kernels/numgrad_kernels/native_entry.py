"""The entry as native code: builtin functions, compiled from LLVM IR, that read NumPy's array struct themselves.

The struct is read at fixed offsets. They are tested against real arrays before anything is compiled.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from numgrad_kernels import build, driver, engine
from numgrad_kernels.entry_ir import IR

# Bits of NumPy's array flags, and offsets in its array struct on 64-bit machines with a plain object header.
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
_TYPE_AT, _DATA_AT, _NDIM_AT, _DIMS_AT, _STRIDES_AT, _DESCR_AT, _FLAGS_AT = 8, 16, 24, 32, 40, 56, 64
_ITEMS_AT = 24  # a tuple's items
_ARRAY_EMPTY = 184  # the place of PyArray_Empty in NumPy's table of C functions, the same in all its versions


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
    return all(_struct_fits(sample) for sample in samples) and _tuple_fits() and _empty_fits()


def _tuple_fits() -> bool:
    """Whether a tuple's items are found where the entry reads them."""
    sample = (samples := [object(), object()])[0], samples[1]
    found = (ctypes.c_void_p * 2).from_address(id(sample) + _ITEMS_AT)
    return list(found) == [id(x) for x in samples]


def _array_empty() -> int:
    """Address of NumPy's C function PyArray_Empty."""
    capsule = sys.modules["numpy._core._multiarray_umath"]._ARRAY_API
    table = engine.capsule_pointer(capsule)
    return int(ctypes.c_void_p.from_address(table + ctypes.sizeof(ctypes.c_void_p) * _ARRAY_EMPTY).value or 0)


def _empty_fits() -> bool:
    """Whether that function makes the array it is asked for."""
    face = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_int, ctypes.c_void_p, ctypes.py_object, ctypes.c_int)
    dtype = np.dtype(np.float32)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dtype))
    made = face(_array_empty())(2, (ctypes.c_int64 * 2)(3, 4), dtype, 0)
    return type(made) is np.ndarray and made.shape == (3, 4) and made.dtype is dtype and made.flags.carray


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
def native_functions() -> tuple[Callable[..., Any], Callable[..., Any], Callable[[Any], Any]] | None:
    """(entry, data_address, make_call), or None where the array struct is not the expected one.

    ``make_call((address, ...))`` is the builtin that makes the outputs of a plan block and runs it.
    """
    if not offsets_hold():
        return None
    for name in (
        "PyLong_AsLongLong PyLong_FromLongLong PyEval_SaveThread PyEval_RestoreThread PyErr_SetString"
        " PyType_IsSubtype PyTuple_New PyTuple_SetItem Py_IncRef Py_DecRef"
    ).split():
        engine.register_symbol(name, _address(getattr(ctypes.pythonapi, name)))
    engine.register_symbol("ng_array_type", id(np.ndarray))
    engine.register_symbol("ng_type_error", id(TypeError))
    engine.register_symbol("ng_array_empty", _array_empty())
    engine.register_symbol("ng_run", driver.run_address())
    text = IR
    for field, offset in (
        ("TYPE_AT", _TYPE_AT),
        ("DATA_AT", _DATA_AT),
        ("NDIM_AT", _NDIM_AT),
        ("DIMS_AT", _DIMS_AT),
        ("DESCR_AT", _DESCR_AT),
        ("FLAGS_AT", _FLAGS_AT),
        ("ITEMS_AT", _ITEMS_AT),
    ):
        text = text.replace(field, str(offset))
    addresses = build.build_ir(text, ("ng_entry", "ng_data_address", "ng_call"), level=0)
    call = _MethodDef(b"call", addresses["ng_call"], _METH_FASTCALL, None)
    _definitions.append(call)
    new, at = _new_builtin(), ctypes.addressof(call)
    return (
        _builtin("entry", addresses["ng_entry"], _METH_FASTCALL),
        _builtin("data_address", addresses["ng_data_address"], _METH_O),
        lambda plan: new(at, plan, None),
    )


def _address(function: Any) -> int:
    """Address of a function that ctypes knows."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


_definitions: list[_MethodDef] = []  # Python keeps pointers to these for as long as the builtins live


def _builtin(name: str, address: int, flags: int) -> Callable[..., Any]:
    """A builtin function around native code."""
    _definitions.append(_MethodDef(name.encode(), address, flags, None))
    return _new_builtin()(ctypes.addressof(_definitions[-1]), None, None)  # type: ignore[no-any-return]


@cache
def _new_builtin() -> Callable[..., Any]:
    """Python's maker of builtin functions: definition, self, module."""
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )

"""Conversions between dtypes, as NumPy's ``astype`` makes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgrad_kernels.scalar.formula import Maths, formula
from numgrad_kernels.scalar.formulas_logic import truth
from numgrad_kernels.scalar.ir import BOOL, Value, real_dtype


@formula("cast", kinds="biuf", by="inputs")
def cast(m: Maths, x: Value, dtype: Any) -> Value:
    dtype = np.dtype(dtype)
    if dtype == BOOL:
        return truth(m, x)
    if dtype.kind == "c":
        part = real_dtype(dtype)
        return m.complex(m.cast(x, part), m.block.const(0, part))
    if dtype == np.float16:
        return _to_half(m, x)
    if x.dtype.kind == "f" and dtype.kind in "iu":
        return _to_integer(m, x, dtype)
    return m.cast(x, dtype)


@formula("cast", kinds="c", by="inputs")
def cast_complex(m: Maths, z: Value, dtype: Any) -> Value:
    dtype = np.dtype(dtype)
    if dtype == BOOL:
        return truth(m, z)
    if dtype.kind == "c":
        part = real_dtype(dtype)
        return m.complex(m.cast(m.real(z), part), m.cast(m.imag(z), part))
    # NumPy drops the imaginary part.
    return cast(m, m.real(z), dtype)


def _to_integer(m: Maths, x: Value, dtype: np.dtype[Any]) -> Value:
    """Truncate towards zero; out of range, do what C compilers do, since NumPy is compiled by one."""
    if dtype.itemsize < 4:
        return m.cast(m.cast(x, np.int32), dtype)
    if dtype == np.uint32:
        return m.cast(m.cast(x, np.int64), dtype)
    if dtype == np.uint64:
        half = 2.0**63
        upper = x >= half
        low = m.cast(m.cast(m.where(upper, x - half, x), np.int64), np.uint64)
        return m.where(upper, low ^ (1 << 63), low)
    return m.cast(x, dtype)


def _to_half(m: Maths, x: Value) -> Value:
    """Round to float16, held as float32."""
    if x.dtype == np.float32 or (x.dtype.kind in "biu" and x.dtype.itemsize <= 2):
        return m.round_f16(m.cast(x, np.float32))
    # Two roundings in a row could differ from one. Rounding first to odd (towards zero, then setting the last bit if
    # anything was lost) makes the second rounding the only one that counts.
    x = m.cast(x, np.float64)
    near = m.cast(x, np.float32)
    back = m.cast(near, np.float64)
    bits = m.float_bits(near)
    toward_zero = m.where(m.fabs(back) > m.fabs(x), bits - 1, bits)
    odd = m.where(m.ne(back, x) & m.isfinite(near), toward_zero | 1, bits)
    return m.round_f16(m.bits_float(odd))

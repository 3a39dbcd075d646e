"""How hand-written kernels read and write elements of any dtype, and how they order them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from numgrad_kernels.prelude import namespace
from numgrad_kernels.symbols import inlined


class Access(NamedTuple):
    """What a kernel needs to know of a dtype, as names that kernels call.

    Parameters
    ----------
    pointer
        From an address to a pointer.
    load, store
        ``load(pointer, index)`` and ``store(pointer, index, value)``.
    number
        Rounds a value to the dtype: what arithmetic between two stores has to keep to. float16 computes in float32.
    """

    pointer: Any
    load: Any
    store: Any
    number: Any


def access(dtype: np.dtype[Any]) -> Access:
    """How to get at elements of this dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numgrad_kernels.access import access
    >>> access(np.dtype("int16")).number
    int16
    """
    names = namespace()
    short = "b1" if dtype.kind == "b" else f"{dtype.kind}{8 * dtype.itemsize}"
    pointer = names[f"as_{short}"]
    if short == "f16":
        return Access(pointer, names["load_f16"], names["store_f16"], names["round_f16"])
    if short == "b1":
        return Access(pointer, names["load_b1"], names["store_b1"], names["boolean"])
    return Access(pointer, names["load"], names["store"], names[short])


def before(dtype: np.dtype[Any]) -> Any:
    """``before(a, b)``: whether a stands before b in a sorted array. NaN stands last, as in NumPy's sort.

    Complex numbers go by real, then imaginary part; those with a NaN stand last, in the order: imaginary part NaN, real
    part NaN, both.
    """
    if dtype.kind == "c":

        def complex_before(a, b):
            a_last, b_last = a.real != a.real, b.real != b.real
            if a_last == b_last:
                a_odd, b_odd = a.imag != a.imag, b.imag != b.imag
                if a_odd == b_odd:
                    if a.real == b.real or a_last:
                        return a.imag < b.imag
                    return a.real < b.real
                return b_odd
            return b_last

        return inlined(complex_before)
    if dtype.kind == "f":

        def float_before(a, b):
            return a < b or (b != b and a == a)

        return inlined(float_before)

    def whole_before(a, b):
        return a < b

    return inlined(whole_before)


def wins(dtype: np.dtype[Any], largest: bool) -> Any:
    """``wins(a, b)``: whether a is a better extremum than b. A NaN beats numbers, and nothing beats a NaN."""
    if dtype.kind == "c":

        def complex_wins(a, b):
            if b != b:
                return False
            if a != a:
                return True
            if a.real == b.real:
                return a.imag > b.imag if largest else a.imag < b.imag
            return a.real > b.real if largest else a.real < b.real

        return inlined(complex_wins)
    if dtype.kind == "f":

        def float_wins(a, b):
            return (not (a <= b) if largest else not (a >= b)) and b == b

        return inlined(float_wins)

    def whole_wins(a, b):
        return a > b if largest else a < b

    return inlined(whole_wins)

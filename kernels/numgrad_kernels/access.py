"""How hand-written kernels read and write elements of any dtype, and how they order them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from numgrad_kernels.prelude import namespace


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


@cache
def access(dtype: np.dtype[Any]) -> Access:
    """How to get at elements of this dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numgrad_kernels.access import access
    >>> access(np.dtype("int16")).number
    int16
    """
    from numba import types

    names = namespace()
    short = "b1" if dtype.kind == "b" else f"{dtype.kind}{8 * dtype.itemsize}"
    pointer = names[f"as_{short}"]
    if short == "f16":
        return Access(pointer, names["load_f16"], names["store_f16"], names["round_f16"])
    if short == "b1":
        return Access(pointer, names["load_b1"], names["store_b1"], types.boolean)
    load, store = _element()
    return Access(pointer, load, store, names[short])


@cache
def _element() -> tuple[Any, Any]:
    """Make the load and store of elements that are stored as they are computed with."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def load(typingctx: Any, pointer: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(builder.gep(args[0], [args[1]]))

        return pointer.dtype(pointer, types.intp), codegen

    @intrinsic
    def store(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], builder.gep(args[0], [args[1]]))
            return context.get_dummy_value()

        return types.void(pointer, types.intp, pointer.dtype), codegen

    return load, store


def inlined(function: Callable[..., Any]) -> Any:
    """`function` for use in kernels: its code is put where it is called."""
    from numba import njit

    return njit(inline="always")(function)


@cache
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
        return inlined(lambda a, b: a < b or (b != b and a == a))
    return inlined(lambda a, b: a < b)


@cache
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
        if largest:
            return inlined(lambda a, b: not (a <= b) and b == b)
        return inlined(lambda a, b: not (a >= b) and b == b)
    return inlined(lambda a, b: a > b) if largest else inlined(lambda a, b: a < b)

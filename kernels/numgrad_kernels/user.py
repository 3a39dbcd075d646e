"""Kernels that call a user's own Numba function on views of their arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numgrad_kernels.build import BuiltKernel
from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.locks import forkable_lock

_built: dict[Any, tuple[BuiltKernel, Any]] = {}  # and what keeps the code alive
_lock = forkable_lock()


def build_user(
    function: Callable[..., Any],
    inputs: Sequence[tuple[str, int]],
    outputs: Sequence[tuple[str, int]],
    integers: Sequence[str] = (),
    constants: Mapping[str, Any] | None = None,
) -> BuiltKernel:
    """Build a kernel that calls ``function(*inputs, *outputs, **attributes)``.

    Parameters
    ----------
    function
        A Numba dispatcher, or a Python function to be compiled as one. It fills the outputs in; it may allocate.
    inputs, outputs
        Dtype name and number of axes of each array. Inputs without axes are passed as numbers.
    integers
        Names of attributes that are passed when the kernel runs.
    constants
        Values of attributes that are part of the code.

    Returns
    -------
    BuiltKernel
        Its table: addresses of inputs and outputs; the sizes of all axes in order; the integers; the address of a
        status word, which an exception in `function` sets to 1.

    Raises
    ------
    KernelBuildError
        If Numba cannot compile the function for these arrays.

    Examples
    --------
    >>> from numgrad_kernels.user import build_user
    >>> def double(x, out):
    ...     for i in range(x.size):
    ...         out[i] = 2 * x[i]
    >>> build_user(double, [("float64", 1)], [("float64", 1)]).address != 0
    True
    """
    baked = dict(constants or {})
    fixed = tuple(sorted((k, repr(v)) for k, v in baked.items()))
    key = (function, tuple(inputs), tuple(outputs), tuple(integers), fixed)
    with _lock:
        if key not in _built:
            _built[key] = _compiled(function, inputs, outputs, integers, baked)
        return _built[key][0]


def source(inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]], integers: Sequence[str],
           constants: Mapping[str, Any]) -> str:
    """The text of the kernel; ``user`` in it is the function."""
    place = len(inputs) + len(outputs)
    arguments = []
    for i, (dtype, rank) in enumerate([*inputs, *outputs]):
        pointer = f"as_{dtype}(args[{i}])"
        if rank == 0 and i < len(inputs):
            arguments.append(f"{pointer}[0]")
            continue
        sizes = ", ".join(f"args[{place + k}]" for k in range(rank))
        arguments.append(f"carray({pointer}, ({sizes}{',' if rank == 1 else ''}))")
        place += rank
    arguments += [f"{name}=args[{place + k}]" for k, name in enumerate(integers)]
    arguments += [f"{name}=constant_{name}" for name in constants]
    place += len(integers)
    return (f"def kernel(args, lo, hi):\n    try:\n        user({', '.join(arguments)})\n    except Exception:\n"
            f"        as_int64(args[{place}])[0] = 1\n")


def _compiled(function: Callable[..., Any], inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]],
              integers: Sequence[str], constants: Mapping[str, Any]) -> tuple[BuiltKernel, Any]:
    import numba
    from numba import carray, types  # type: ignore[attr-defined]
    from numba.core.errors import NumbaError

    from numgrad_kernels.prelude import pointer_maker

    title = getattr(function, "__qualname__", None) or repr(function)
    started = time.perf_counter()
    user = function if hasattr(function, "py_func") else numba.njit(function)
    names: dict[str, Any] = {"user": user, "carray": carray}
    names |= {f"constant_{name}": value for name, value in constants.items()}
    for dtype in {"int64", *(dtype for dtype, _ in (*inputs, *outputs))}:
        element = types.boolean if dtype == "bool" else getattr(types, dtype)
        names[f"as_{dtype}"] = pointer_maker(f"as_{dtype}", element)
    text = source(inputs, outputs, integers, constants)
    exec(compile(text, f"<numgrad kernel for {title}>", "exec"), names)
    try:
        native = numba.cfunc(types.void(types.CPointer(types.int64), types.int64, types.int64))(names["kernel"])
    except (NumbaError, NotImplementedError) as error:  # the latter for dtypes that Numba has no values of
        listed = ", ".join(f"{dtype} with {rank} axes" for dtype, rank in (*inputs, *outputs))
        raise KernelBuildError(f"{title} does not compile for arrays of {listed}: {error}") from error
    address = native.address
    assert address is not None
    symbol = f"ng_user_{title.rpartition('.')[2]}"
    kernel = BuiltKernel(symbol, symbol, address, text, time.perf_counter() - started, "compiled")
    return kernel, native

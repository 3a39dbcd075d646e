"""The only module that imports a CUDA compiler: it turns kernel source into PTX, with or without a GPU in the machine.

A CUDA kernel is Python source ``def kernel(p0, p1, ..., n0, ...)`` with typed pointers and integers, so that loads and
stores go straight to global memory. Its names are those of `cuda_namespace`; scalar code comes from
`numgrad_kernels.scalar.print_block(..., "cuda")`. The compiler is numba-cuda; replacing it means rewriting this file.
"""

from __future__ import annotations

import functools
import math
import re
from importlib import import_module
from typing import Any

import numpy as np

from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.intrinsics import portable
from numgrad_kernels.prelude import CASTS, POINTERS

_ENTRY = re.compile(r"\.visible \.entry (\w+)\(")


@functools.lru_cache(maxsize=1)
def _compiler() -> Any:
    """Import numba-cuda; raise KernelBuildError where it is missing."""
    # numba-cuda 0.30 calls np.row_stack when it is imported, and NumPy 2.5 no longer has that name for np.vstack.
    if not hasattr(np, "row_stack"):
        np.vstack = np.vstack
    try:
        from numba import cuda
        from numba.cuda import libdevice as _  # noqa: F401
    except ImportError as error:
        raise KernelBuildError(
            f"the CUDA compiler cannot be imported ({error}): wanted the package numba-cuda; "
            "install it with: pip install 'numgrad[cuda]'"
        ) from error
    return cuda


def missing() -> str | None:
    """Return why CUDA kernels cannot be compiled here, or None if they can."""
    try:
        _compiler()
    except KernelBuildError as error:
        return str(error)
    return None


def available() -> tuple[bool, str]:
    """Return whether kernels can run on a GPU here, and if not, why.

    Compiling to PTX needs no GPU; see `compile_ptx`.

    Examples
    --------
    >>> from numgrad_kernels.targets.cuda import available
    >>> usable, reason = available()
    >>> usable or bool(reason)
    True
    """
    reason = missing()
    if reason is not None:
        return False, reason
    try:
        usable = bool(_compiler().is_available())
    except Exception as error:  # a broken driver raises many things, and each means no GPU
        return False, f"the CUDA driver does not answer: {error}"
    return usable, "" if usable else "no CUDA driver or no GPU was found"


def cuda_namespace() -> dict[str, Any]:
    """Return the names that generated CUDA kernel source may use.

    Returns
    -------
    dict
        ``cuda``, ``libdevice``, ``math``; casts ``f32 f64 i8 .. u64 c64 c128``; ``select``, ``int_power``,
        ``round_f16``; ``load_f16``, ``store_f16``, ``load_b1``, ``store_b1``.
    """
    return dict(_names())


@functools.lru_cache(maxsize=1)
def _names() -> dict[str, Any]:
    cuda = _compiler()
    from numba.cuda import libdevice, types
    from numba.cuda.extending import intrinsic

    names: dict[str, Any] = {"math": math, "cuda": cuda, "libdevice": libdevice}
    for short in CASTS:
        names[short] = getattr(types, POINTERS[short])
    names.update(portable(intrinsic, types))
    return names


def compile_ptx(source: str, entry_name: str, signature: tuple[str, ...], cc: tuple[int, int] = (8, 0)) -> str:
    """Compile kernel source to PTX.

    Parameters
    ----------
    source : str
        Python that defines ``kernel`` with the names of `cuda_namespace`.
    entry_name : str
        Name of the kernel in the PTX.
    signature : tuple of str
        The parameters' types: ``"f32"``, ``"i64"``, ... for scalars, ``"*f32"`` for pointers; ``"*f16"`` and
        ``"*b1"`` are pointers to their storage.
    cc : (int, int)
        Compute capability to compile for.

    Returns
    -------
    str
        The PTX, whose only entry is `entry_name`.

    Raises
    ------
    KernelBuildError
        If the compiler is missing or refuses the source; the text carries the source.

    Examples
    --------
    >>> from numgrad_kernels.targets.cuda import compile_ptx
    >>> source = "def kernel(p, n):\\n    i = cuda.grid(1)\\n    if i < n:\\n        p[i] = p[i] * f32(2.0)\\n"
    >>> ".entry double_all(" in compile_ptx(source, "double_all", ("*f32", "i64"))
    True
    """
    cuda, types = _compiler(), import_module("numba.cuda.types")

    def parameter(text: str) -> Any:
        kind = getattr(types, POINTERS[text.removeprefix("*")])
        return types.CPointer(kind) if text.startswith("*") else kind

    names = cuda_namespace()
    try:
        exec(compile(source, f"<numgrad kernel {entry_name}>", "exec"), names)
        arguments = tuple(parameter(text) for text in signature)
        ptx, _ = cuda.compile(names["kernel"], arguments, device=False, abi="numba", cc=cc, output="ptx")
    except Exception as error:  # the compiler raises errors of several libraries; all of them mean this
        raise KernelBuildError(
            f"CUDA kernel {entry_name!r} did not compile for compute capability {cc[0]}.{cc[1]}: {error}\n{source}"
        ) from error
    text = ptx if isinstance(ptx, str) else ptx.decode()
    entries = _ENTRY.findall(text)
    if len(entries) != 1:
        raise KernelBuildError(f"CUDA kernel {entry_name!r} has {len(entries)} entries in its PTX: wanted one")
    return text.replace(entries[0], entry_name)

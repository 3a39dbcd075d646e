"""One thread setting for kernels and for the BLAS that they call: OpenBLAS as SciPy's wheels carry it.

Other BLAS libraries keep their own setting, through their own environment variables.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from numgrad_kernels.settings import settings, watch
from numgrad_kernels.thread_state import BLAS_SETTER, BLAS_THREADS, state

_NAMES = ("scipy_openblas_{}_num_threads", "scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads")
_TIMEOUT, _SPIN_BITS = "OPENBLAS_THREAD_TIMEOUT", "16"  # a power of two of clock ticks
_wanted = False


@cache
def _library() -> Any:
    """The OpenBLAS that is loaded from SciPy's folder of libraries, or None."""
    folder = Path(sysconfig.get_paths()["platlib"])
    for pattern in ("scipy.libs/*openblas*", "scipy/.dylibs/*openblas*"):
        for path in sorted(folder.glob(pattern)):
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def _function(verb: str) -> Any:
    library = _library()
    found = (getattr(library, name.format(verb), None) for name in _NAMES) if library is not None else ()
    return next((f for f in found if f is not None), None)


@contextlib.contextmanager
def short_spins() -> Iterator[None]:
    """Let idle threads of an OpenBLAS that is loaded now sleep soon, not after some 20 milliseconds in a loop."""
    if _TIMEOUT in os.environ:
        yield
        return
    os.environ[_TIMEOUT] = _SPIN_BITS
    try:
        yield
    finally:
        os.environ.pop(_TIMEOUT, None)


def follow() -> None:
    """Let BLAS use as many threads as the kernels may; called when its routines are first linked, and on changes.

    Kernels leave it at one thread while they make small calls (`few_threads`).
    """
    global _wanted
    _wanted = True
    setter = _function("set")
    if setter is not None:
        setter(ctypes.c_int(settings.num_threads))
        several = settings.num_threads > 1
        state[BLAS_SETTER] = ctypes.cast(setter, ctypes.c_void_p).value or 0 if several else 0
        state[BLAS_THREADS] = settings.num_threads


def count() -> int | None:
    """The number of threads that BLAS may use, or None where it does not tell."""
    getter = _function("get")
    return int(getter()) if getter is not None else None


watch("num_threads", lambda: follow() if _wanted else None)

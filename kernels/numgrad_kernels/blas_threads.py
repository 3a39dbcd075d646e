"""One thread setting for kernels and for the BLAS that they call: OpenBLAS as SciPy's wheels carry it.

Other BLAS libraries keep their own setting, through their own environment variables.
"""

from __future__ import annotations

import ctypes
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from numgrad_kernels.settings import settings, watch

_NAMES = ("scipy_openblas_{}_num_threads", "scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads")
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


def follow() -> None:
    """Let BLAS use as many threads as the kernels may; called when its routines are first linked, and on changes."""
    global _wanted
    _wanted = True
    setter = _function("set")
    if setter is not None:
        setter(ctypes.c_int(settings.num_threads))


def count() -> int | None:
    """The number of threads that BLAS may use, or None where it does not tell."""
    getter = _function("get")
    return int(getter()) if getter is not None else None


watch("num_threads", lambda: follow() if _wanted else None)

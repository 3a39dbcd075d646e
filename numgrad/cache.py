"""Kernels and programs on disk: where they are, and how to ship them to other machines."""

from __future__ import annotations

import os
from pathlib import Path

from numgrad.compiler import runtime

__all__ = ["clear", "export", "load", "path"]


def path() -> Path | None:
    """The directory in which kernels and programs are kept, or None where caching is off.

    Returns
    -------
    pathlib.Path or None
        Inside `ng.config.cache_dir`. A directory that others may write to is not used: kernels are machine code.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.config.cache_dir(None):
    ...     ng.cache.path() is None
    True
    """
    return runtime.cache_path()


def clear() -> int:
    """Delete what is kept.

    Returns
    -------
    int
        How many kernels and programs there were. What this process has loaded goes on working.

    Examples
    --------
    >>> import tempfile, numgrad as ng
    >>> with tempfile.TemporaryDirectory() as folder, ng.config.cache_dir(folder):
    ...     ng.cache.clear()
    0
    """
    return runtime.cache_clear()


def export(file: str | os.PathLike[str]) -> int:
    """Write all kept kernels and programs to one file, for other machines of the same kind.

    Parameters
    ----------
    file : path
        Where to; an old file is replaced, and a half-written one never seen.

    Returns
    -------
    int
        How many kernels and programs the file holds.

    Raises
    ------
    OSError
        The file cannot be written.

    Notes
    -----
    Run what the cluster will run once on one machine, export, and `load` on the others, or point `NUMGRAD_CACHE_DIR` of
    all at a directory that only you may write to. Also ``python -m numgrad cache export FILE``.

    Examples
    --------
    >>> import os, tempfile, numpy as np, numgrad as ng
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ng.config.cache_dir(os.path.join(folder, "one")):
    ...         _ = ng.function(lambda x: np.sin(x) * 2.5)(np.ones(3))
    ...         written = ng.cache.export(os.path.join(folder, "kernels.zip"))
    ...     with ng.config.cache_dir(os.path.join(folder, "other")):
    ...         ng.cache.load(os.path.join(folder, "kernels.zip")) == written
    True
    """
    return runtime.cache_export(Path(file))


def load(file: str | os.PathLike[str]) -> int:
    """Add the kernels and programs of a file that `export` wrote to those kept here.

    Parameters
    ----------
    file : path
        Load only files that you trust: kernels are machine code.

    Returns
    -------
    int
        How many of them are new here.

    Raises
    ------
    DeviceError
        The file was made on another kind of processor, or by other versions of numgrad, Numba or llvmlite, is damaged,
        or the cache is off. Nothing is changed then.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.cache.load(ng.__file__)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    numgrad.errors.DeviceError: cache.load: ... is no archive of cached kernels, or is damaged: ...
    """
    return runtime.cache_load(Path(file))

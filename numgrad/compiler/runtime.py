"""What the kernels run on and where they are kept, for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numgrad._version import __version__
from numgrad.compiler.identity import versions
from numgrad.compiler.lowering import kernels
from numgrad.errors import DeviceError, at, user_line

__all__ = ["cache_clear", "cache_entries", "cache_export", "cache_load", "cache_path", "runtime_info"]


def runtime_info() -> dict[str, Any]:
    """Facts about processor, vector mathematics, threads, GPU and cache; starts the threads to name their layer."""
    cpu, vmath, threads, disk = kernels("cpu"), kernels("vmath"), kernels("threads"), kernels("disk")
    threads.ensure()
    usable, reason = kernels("targets.cuda").available()
    return {
        "cpu": cpu.cpu_name(),
        "cpu_features": cpu.cpu_features(),
        "vector_math": vmath.report(),
        "threads": kernels("settings").settings.num_threads,
        "threading_layer": threads.layer(),
        "gpu": "available" if usable else reason,
        "cache_path": disk.path(),
        "cache_entries": len(disk.entries()),
        "cache_bytes": disk.size(),
    }


def cache_path() -> Path | None:
    """The directory of cached kernels, or None where caching is off."""
    return kernels("disk").path()  # type: ignore[no-any-return]


def cache_entries() -> list[Any]:
    """The cached kernels, the latest used first: key, path, size in bytes, time of use in seconds since the epoch."""
    return kernels("disk").entries()  # type: ignore[no-any-return]


def cache_clear() -> int:
    """Delete the cached kernels; return how many there were."""
    return kernels("disk").clear()  # type: ignore[no-any-return]


def _facts() -> dict[str, str]:
    return {"numgrad": __version__, "compiler": versions()}


def cache_export(file: Path) -> int:
    """Write all cached kernels and programs to a file; how many there are."""
    return kernels("archive").export(file, _facts())  # type: ignore[no-any-return]


def cache_load(file: Path) -> int:
    """Add the kernels and programs of a file to the cache; how many are new. DeviceError if they do not fit here."""
    if cache_path() is None:
        raise DeviceError(f"cache.load: there is no cache to load into; set ng.config.cache_dir{at(user_line())}")
    try:
        new, _ = kernels("archive").load(file, _facts())
    except (OSError, kernels("errors").KernelBuildError) as error:
        raise DeviceError(f"cache.load: {error}{at(user_line())}") from error
    return new  # type: ignore[no-any-return]

"""What the kernels run on and where they are kept, for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numgrad.compiler.lowering import kernels

__all__ = ["cache_clear", "cache_entries", "cache_path", "runtime_info"]


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

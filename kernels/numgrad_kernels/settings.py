"""What the user may set about kernels: where they are cached, how many threads and which mathematics they use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

VECTOR_MATH_MODES = ("auto", "scalar")
FRONT_ENDS = ("direct", "numba")


def _default_cache_dir() -> Path | None:
    """Directory from NUMGRAD_CACHE_DIR (empty text: no cache), otherwise the user's cache directory."""
    given = os.environ.get("NUMGRAD_CACHE_DIR")
    if given is not None:
        return Path(given) if given else None
    from platformdirs import user_cache_path

    return user_cache_path("numgrad", appauthor=False)


def _default_threads() -> int:
    """Number from NUMGRAD_NUM_THREADS, otherwise the number of processors that this process may use."""
    given = os.environ.get("NUMGRAD_NUM_THREADS")
    if given:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Settings:
    """Settings of the kernel package, read from the environment at import and free to change afterwards.

    Parameters
    ----------
    cache_dir
        Directory of the kernel cache, or None for no cache on disk (NUMGRAD_CACHE_DIR).
    vector_math
        "auto" lets loops call the vector functions of the C library, "scalar" only the scalar ones, for results that
        do not depend on an element's position in its array (NUMGRAD_VECTOR_MATH).
    num_threads
        Greatest number of threads on which one kernel runs (NUMGRAD_NUM_THREADS).
    front_end
        "direct" turns generated kernels straight into LLVM IR (a few milliseconds each), "numba" compiles the same
        text with Numba, for comparison and debugging (NUMGRAD_FRONT_END).
    cache_enabled
        Whether kernels are read from and written to `cache_dir`.
    cache_max_bytes
        Size beyond which the least recently used kernels are deleted from `cache_dir`.

    Raises
    ------
    ValueError
        If a value is set that has no meaning; the old value stays.

    Examples
    --------
    >>> from numgrad_kernels.settings import Settings
    >>> Settings(num_threads=2).num_threads
    2
    """

    cache_dir: Path | None = field(default_factory=_default_cache_dir)
    vector_math: str = field(default_factory=lambda: os.environ.get("NUMGRAD_VECTOR_MATH", "auto"))
    num_threads: int = field(default_factory=_default_threads)
    front_end: str = field(default_factory=lambda: os.environ.get("NUMGRAD_FRONT_END", "direct"))
    cache_enabled: bool = True
    cache_max_bytes: int = 1 << 30

    def __setattr__(self, name: str, value: object) -> None:
        """Check a new value, store it, and tell those who watch this field."""
        if name == "vector_math" and value not in VECTOR_MATH_MODES:
            raise ValueError(f"vector_math (NUMGRAD_VECTOR_MATH) is {value!r}, but must be one of {VECTOR_MATH_MODES}")
        if name == "front_end" and value not in FRONT_ENDS:
            raise ValueError(f"front_end (NUMGRAD_FRONT_END) is {value!r}, but must be one of {FRONT_ENDS}")
        if name == "num_threads" and (not isinstance(value, int) or value < 1):
            raise ValueError(f"num_threads (NUMGRAD_NUM_THREADS) is {value!r}, but must be an integer of at least 1")
        if name == "cache_dir" and value is not None:
            value = Path(value)  # type: ignore[arg-type]
        object.__setattr__(self, name, value)
        for watcher in _watchers.get(name, ()):
            watcher()


_watchers: dict[str, list[Callable[[], None]]] = {}


def watch(name: str, watcher: Callable[[], None]) -> None:
    """Call `watcher` after every change of the setting `name` (for state that native code reads)."""
    _watchers.setdefault(name, []).append(watcher)


settings = Settings()

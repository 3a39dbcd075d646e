"""What users may set: each setting by an environment variable, by a call, or for the length of a with block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

__all__ = ["Setting", "cache_dir", "connect", "log_level", "num_threads", "vector_math"]

_T = TypeVar("_T")
_NOT_SET: Any = object()
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_VECTOR_MATH = ("auto", "scalar")
_sink: Callable[[str, Any], None] | None = None


class Setting(Generic[_T]):
    """One setting of the process: read with `get`, changed with `set`, or for a while by a call in a ``with``.

    Settings hold for all threads. A change counts for what runs or is compiled from then on.

    Raises
    ------
    ValueError
        For a value without meaning, naming the setting, the value and what is wanted; the old value stays.

    Examples
    --------
    >>> import numgrad as ng
    >>> before = ng.config.num_threads.get()
    >>> with ng.config.num_threads(1):
    ...     ng.config.num_threads.get()
    1
    >>> ng.config.num_threads.get() == before
    True
    """

    def __init__(self, name: str, variable: str, parse: Callable[[Any], _T], default: Callable[[], _T],
                 doc: str, applied: Callable[[_T], None]) -> None:
        self.name, self.variable, self.__doc__ = name, variable, doc
        self._parse, self._default, self._applied = parse, default, applied
        self._value: _T = _NOT_SET

    def get(self) -> _T:
        """The value in force: the one set, else the environment variable's, else the default."""
        if self._value is _NOT_SET:
            given = os.environ.get(self.variable)
            self._value = self._default() if given is None else self._checked(given, self.variable)
        return self._value

    def set(self, value: Any) -> None:
        """Change the setting for the rest of the process."""
        checked = self._checked(value, f"ng.config.{self.name}")
        self._applied(checked)
        self._value = checked

    @contextmanager
    def __call__(self, value: Any) -> Iterator[None]:
        before = self.get()
        self.set(value)
        try:
            yield
        finally:
            self.set(before)

    def _checked(self, value: Any, source: str) -> _T:
        try:
            return self._parse(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: got {value!r}, wanted {error}") from None

    def __repr__(self) -> str:
        return f"<numgrad.config.{self.name} = {self.get()!r}>"


def connect(sink: Callable[[str, Any], None]) -> None:
    """Send the kernels' settings to `sink(name, value)` now and after every change; called when the kernels load."""
    global _sink
    _sink = sink
    for setting in (cache_dir, num_threads, vector_math):
        sink(setting.name, setting.get())


def _send(name: str) -> Callable[[Any], None]:
    def send(value: Any) -> None:
        if _sink is not None:
            _sink(name, value)

    return send


def _parse_cache_dir(value: Any) -> Path | None:
    if value is None or value == "":
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError("a path, or None for no cache on disk")
    return Path(value).expanduser()


def _default_cache_dir() -> Path | None:
    from platformdirs import user_cache_path

    return user_cache_path("numgrad", appauthor=False)


def _parse_num_threads(value: Any) -> int:
    wanted = "an integer of at least 1"
    if isinstance(value, str) and not value:
        return _default_num_threads()
    try:
        number = int(value) if isinstance(value, str) else value.__index__()
    except (AttributeError, ValueError):
        raise ValueError(wanted) from None
    if number < 1 or isinstance(value, bool):
        raise ValueError(wanted)
    return int(number)


def _default_num_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parse_vector_math(value: Any) -> str:
    if value not in _VECTOR_MATH:
        raise ValueError(f"one of {', '.join(_VECTOR_MATH)}")
    return str(value)


def _parse_log_level(value: Any) -> str:
    name = value.upper() if isinstance(value, str) else value
    if name not in _LEVELS:
        raise ValueError(f"one of {', '.join(_LEVELS)}")
    return str(name)


def _apply_log_level(level: str) -> None:
    """Set the level of the logger ``numgrad``; a first handler is given to it if nobody would see its messages."""
    import logging

    logger = logging.getLogger("numgrad")
    logger.setLevel(level)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s: %(message)s"))
        logger.addHandler(handler)


cache_dir: Setting[Path | None] = Setting(
    "cache_dir", "NUMGRAD_CACHE_DIR", _parse_cache_dir, _default_cache_dir,
    "Directory of kernels and programs on disk, or None for no cache (NUMGRAD_CACHE_DIR).", _send("cache_dir"))
num_threads: Setting[int] = Setting(
    "num_threads", "NUMGRAD_NUM_THREADS", _parse_num_threads, _default_num_threads,
    "Greatest number of threads on which one kernel runs (NUMGRAD_NUM_THREADS).", _send("num_threads"))
vector_math: Setting[str] = Setting(
    "vector_math", "NUMGRAD_VECTOR_MATH", _parse_vector_math, lambda: "auto",
    "Whether loops may call vector functions, \"auto\", or only scalar ones, \"scalar\" (NUMGRAD_VECTOR_MATH).",
    _send("vector_math"))
log_level: Setting[str] = Setting(
    "log_level", "NUMGRAD_LOG", _parse_log_level, lambda: "WARNING",
    "Level of the logger ``numgrad``: DEBUG, INFO, WARNING, ERROR or CRITICAL (NUMGRAD_LOG).", _apply_log_level)

if os.environ.get("NUMGRAD_LOG"):
    _apply_log_level(log_level.get())

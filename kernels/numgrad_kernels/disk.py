"""Kernels' object code and descriptions of programs on disk, found by the hash of everything that shaped them.

One file each: a magic line, a JSON header, the content. Files appear by atomic rename: readers need no lock.
Object code is code: the directory must belong to this user and be writable by nobody else, or it is not used at all.
Anything unexpected in a file makes it a miss, and the next store replaces it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from numgrad_kernels.locks import forkable_lock
from numgrad_kernels.settings import settings

FORMAT_VERSION = 1
KERNEL, PROGRAM = "o", "program"  # kinds of entries, and how their files' names end
_MAGIC = b"numgrad-kernel "
_KEY = re.compile(r"[0-9a-f]{64}")
_TOUCH_AFTER = 3600.0  # a file's time of last use is this coarse, so that warm starts write nothing
_PRUNE_AFTER = 86400.0
_LOG = logging.getLogger("numgrad")

_lock = forkable_lock()
_judged: dict[Path, bool] = {}
_written: dict[Path, int] = {}


@dataclass(frozen=True)
class Entry:
    """One kernel or program as it lies on disk: its key, the symbols it defines and needs, its content."""

    key: str
    symbols: tuple[str, ...]
    needs: tuple[str, ...]
    code: bytes


@dataclass(frozen=True)
class FileInfo:
    """One cached file: key, kind, path, size in bytes, the time of its last use in seconds since the epoch."""

    key: str
    kind: str
    path: Path
    size: int
    used: float


def path() -> Path | None:
    """Directory of the kernels in use now, or None where caching is off (by setting, or because it is not safe)."""
    if not settings.cache_enabled or settings.cache_dir is None:
        return None
    directory = settings.cache_dir / f"kernels-v{FORMAT_VERSION}"
    with _lock:
        safe = _judged.get(directory)
        if safe is None or (safe and not directory.is_dir()):
            safe = _judged[directory] = _prepare(directory)
    return directory if safe else None


def _prepare(directory: Path) -> bool:
    """Create the directory if need be; False, and one warning, if others could have put code into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in (directory, directory.parent):
            found = place.stat()
            if hasattr(os, "getuid") and found.st_uid != os.getuid():
                _LOG.warning("kernel cache off: %s belongs to user %d, not to you", place, found.st_uid)
                return False
            sticky = found.st_mode & stat.S_ISVTX and place != directory
            if os.name == "posix" and found.st_mode & 0o022 and not sticky:
                _LOG.warning("kernel cache off: others may write to %s (mode %o)", place, stat.S_IMODE(found.st_mode))
                return False
    except OSError as error:
        _LOG.warning("kernel cache off: %s", error)
        return False
    return True


def _file_of(directory: Path, key: str, kind: str) -> Path:
    if not _KEY.fullmatch(key):
        raise ValueError(f"a kernel key is 64 hexadecimal digits, not {key!r}")
    return directory / key[:2] / f"{key}.{kind}"


def load(key: str, kind: str = KERNEL) -> Entry | None:
    """The entry with this key, or None if there is none that is whole and ours."""
    directory = path()
    if directory is None:
        return None
    file = _file_of(directory, key, kind)
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read()
    except OSError:
        return None
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        _LOG.warning("kernel cache: ignored %s, which belongs to user %d", file, status.st_uid)
        return None
    entry = decode(content, key)
    if entry is None:
        _LOG.info("kernel cache: ignored %s, which is damaged or of another version", file)
        return None
    if time.time() - status.st_mtime > _TOUCH_AFTER:
        with contextlib.suppress(OSError):
            os.utime(file)
    return entry


def encode(entry: Entry) -> bytes:
    """The bytes of an entry's file."""
    header = json.dumps(
        {
            "version": FORMAT_VERSION,
            "key": entry.key,
            "symbols": entry.symbols,
            "needs": entry.needs,
            "size": len(entry.code),
            "sha256": hashlib.sha256(entry.code).hexdigest(),
        }
    ).encode("ascii")
    return _MAGIC + b"%d\n" % len(header) + header + b"\n" + entry.code


def decode(content: bytes, key: str) -> Entry | None:
    """The entry in a file's bytes, or None unless every part of it is as `encode` would have written it."""
    try:
        line, rest = content.split(b"\n", 1)
        if not line.startswith(_MAGIC):
            return None
        length = int(line[len(_MAGIC) :])
        header, code = json.loads(rest[:length]), rest[length + 1 :]
        if header["version"] != FORMAT_VERSION or header["key"] != key or header["size"] != len(code):
            return None
        if header["sha256"] != hashlib.sha256(code).hexdigest():
            return None
        symbols, needs = header["symbols"], header["needs"]
        if not all(isinstance(name, str) and name.isascii() for name in (*symbols, *needs)):
            return None
        return Entry(key, tuple(symbols), tuple(needs), code)
    except (ValueError, KeyError, TypeError):
        return None


def store(entry: Entry, kind: str = KERNEL) -> bool:
    """Write an entry; False if the directory does not take it (read-only, full, caching off)."""
    directory = path()
    if directory is None:
        return False
    file = _file_of(directory, entry.key, kind)
    content = encode(entry)
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.replace(temporary, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        _LOG.info("kernel cache: could not write %s: %s", file, error)
        return False
    _prune_if_due(directory, len(content))
    return True


def _files(directory: Path) -> Iterator[FileInfo]:
    for file in directory.glob("??/*.*"):
        kind = file.suffix[1:]
        if kind in (KERNEL, PROGRAM):
            with contextlib.suppress(OSError):
                status = file.stat()
                yield FileInfo(file.stem, kind, file, status.st_size, status.st_mtime)


def entries() -> list[FileInfo]:
    """All cached files, the most recently used one first."""
    directory = path()
    return sorted(_files(directory), key=lambda info: -info.used) if directory else []


def size() -> int:
    """Bytes that the cached files take."""
    return sum(info.size for info in entries())


def clear() -> int:
    """Delete all cached files and return how many there were."""
    removed = 0
    for info in entries():
        with contextlib.suppress(OSError):
            info.path.unlink()
            removed += 1
    return removed


def _prune_if_due(directory: Path, written: int) -> None:
    """Prune once a day, and whenever this process has written a sixteenth of what may lie there."""
    with _lock:
        _written[directory] = _written.get(directory, 0) + written
        due = _written[directory] * 16 > settings.cache_max_bytes
        if due:
            _written[directory] = 0
    stamp = directory / "pruned"
    with contextlib.suppress(OSError):
        due = due or time.time() - stamp.stat().st_mtime > _PRUNE_AFTER
        if not due:
            return
    with contextlib.suppress(OSError):
        prune()
        stamp.touch()


def prune() -> int:
    """Delete the least recently used files until four fifths of the allowed size are left; return how many went.

    Another process that is pruning already makes this one return 0 at once.
    """
    import filelock

    directory = path()
    if directory is None:
        return 0
    try:
        with filelock.FileLock(directory / "prune.lock", timeout=0):
            for leftover in directory.glob("*/.*.tmp"):
                with contextlib.suppress(OSError):
                    if time.time() - leftover.stat().st_mtime > _TOUCH_AFTER:
                        leftover.unlink()
            found = entries()
            total = sum(info.size for info in found)
            if total <= settings.cache_max_bytes:
                return 0
            removed = 0
            while found and total * 5 > settings.cache_max_bytes * 4:
                oldest = found.pop()
                with contextlib.suppress(OSError):
                    oldest.path.unlink()
                    removed += 1
                total -= oldest.size
            return removed
    except filelock.Timeout:
        return 0

"""What the cache on disk holds as one file, to be carried to other machines with the same processor and versions.

A zip file: `manifest.json` says what the entries were made by, and each entry lies under the name that it has in the
cache. Every entry is checked as one that is read from the cache is; names of files are never taken from the archive.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from numgrad_kernels import disk
from numgrad_kernels.build import fingerprint
from numgrad_kernels.cpu import cpu_name
from numgrad_kernels.errors import KernelBuildError

FORMAT_VERSION = 1
_NAME = re.compile(rf"([0-9a-f]{{64}})\.({disk.KERNEL}|{disk.PROGRAM})")
_MANIFEST = "manifest.json"


def _facts(more: Mapping[str, str]) -> dict[str, str]:
    return {
        "format": str(FORMAT_VERSION),
        "processor": cpu_name(),
        "kernels": fingerprint().hex(),
        **more,
    }


def export(file: Path, more: Mapping[str, str]) -> int:
    """Write all entries of the cache to a file, which appears whole or not at all; return how many there are.

    Parameters
    ----------
    file
        Where to; an old file is replaced.
    more
        Facts that must be equal where the file is read, besides processor, versions and this package's code.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    count = 0
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_MANIFEST, json.dumps(_facts(more)))
            for info in disk.entries():
                entry = disk.load(info.key, info.kind)
                if entry is not None:
                    archive.writestr(f"{info.key}.{info.kind}", disk.encode(entry))
                    count += 1
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
    return count


def load(file: Path, more: Mapping[str, str]) -> tuple[int, int]:
    """Put the entries of a file into the cache; return how many are new, and how many were there.

    Raises
    ------
    KernelBuildError
        If the file is no such archive, is damaged, or was made by other versions or for another processor; nothing is
        changed then.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check(json.loads(archive.read(_MANIFEST)), _facts(more), file)
            entries = []
            for name in archive.namelist():
                match = _NAME.fullmatch(name)
                if name == _MANIFEST:
                    continue
                entry = disk.decode(archive.read(name), match[1]) if match else None
                if match is None or entry is None:
                    raise KernelBuildError(f"{file}: the entry {name!r:.100} is damaged or none of numgrad's")
                entries.append((entry, match[2]))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise KernelBuildError(f"{file} is no archive of cached kernels, or is damaged: {error}") from error
    new = [(entry, kind) for entry, kind in entries if disk.load(entry.key, kind) is None]
    stored = sum(disk.store(entry, kind) for entry, kind in new)
    if stored < len(new):
        raise KernelBuildError(f"the kernel cache took {stored} of {len(new)} entries; is it writable ({disk.path()})?")
    return stored, len(entries) - stored


def _check(found: Mapping[str, object], wanted: Mapping[str, str], file: Path) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            shown = (f"{str(v)[:40]!r}" for v in (found.get(name), value))
            raise KernelBuildError(
                f"{file}: made with another {name} ({next(shown)}) than here ({next(shown)}); kernels fit only the"
                " processor and the versions that they were made with: export them again on such a machine"
            )

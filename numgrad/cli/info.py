"""``info`` and ``cache``: what numgrad runs on, and the kernels it keeps on disk."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from numgrad import config
from numgrad._version import __version__
from numgrad.cli.terminal import console, fail, table
from numgrad.compiler.runtime import cache_clear, cache_entries, cache_export, cache_load, cache_path, runtime_info

__all__ = ["cache", "info"]

_KINDS = {"o": "kernel"}
_LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "numba-cuda", "matplotlib")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def info() -> int:
    """Print versions, processor, vector mathematics, threads, GPU and cache."""
    facts = runtime_info()
    out = console()
    rows: list[tuple[str, Any]] = [("numgrad", __version__), ("Python", f"{platform.python_implementation()} "
                                                              f"{platform.python_version()} on {platform.platform()}")]
    rows += [(name, _version(name)) for name in _LIBRARIES]
    rows += [("processor", facts["cpu"]), ("features", " ".join(facts["cpu_features"]))]
    rows += _vector_rows(facts["vector_math"])
    rows += [("threads", f"{facts['threads']} ({facts['threading_layer']})"), ("GPU", facts["gpu"]),
             ("log level", config.log_level.get()), ("cache", facts["cache_path"] or "off"),
             ("cached kernels", f"{facts['cache_entries']}, {_bytes(facts['cache_bytes'])}")]
    table(out, "numgrad", ("what", "value"), rows, left=2)
    return 0


def _vector_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """For each dtype, the functions with vector variants, and for how many elements at once."""
    rows = [("vector math", f"{report['mode']} (set to {report['setting']})")]
    for dtype in ("float64", "float32"):
        texts = [f"{name} x{'/'.join(map(str, widths))}" for name, widths in sorted(report[dtype].items())]
        rows.append((f"  {dtype}", ", ".join(texts) or "scalar functions only"))
    return rows


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def cache(action: str, file: str | None) -> int:
    """List, delete, locate, write out or read in the cached kernels and programs."""
    out = console()
    if (file is None) != (action not in ("export", "import")):
        return fail(f"cache {action}: " + ("wanted a FILE" if file is None else f"takes no file, got {file}"))
    if action == "path":
        print(cache_path() or "off")
    elif action == "clear":
        print(f"deleted {cache_clear()} kernels and programs")
    elif action == "export":
        try:
            print(f"wrote {cache_export(Path(str(file)))} kernels and programs to {file}")
        except OSError as error:
            return fail(f"cache export: {error}")
    elif action == "import":
        print(f"{cache_load(Path(str(file)))} new kernels and programs from {file}")
    else:
        now = time.time()
        rows = [(e.key[:16], _KINDS.get(e.kind, e.kind), _bytes(e.size), f"{max(0.0, now - e.used) / 3600:.1f} h ago")
                for e in cache_entries()]
        table(out, f"kernels and programs in {cache_path() or 'no cache'}", ("key", "kind", "size", "last use"), rows,
              left=2)
    return 0

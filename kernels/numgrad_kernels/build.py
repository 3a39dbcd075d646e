"""From kernel source, or the name of a hand-written kernel, to an address: out of memory, from disk, or compiled."""

from __future__ import annotations

import hashlib
import linecache
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from numgrad_kernels import disk, engine, library
from numgrad_kernels.codegen import KernelObject, compile_kernel
from numgrad_kernels.cpu import cpu_name, feature_string
from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.locks import forkable_lock
from numgrad_kernels.settings import settings
from numgrad_kernels.translate import translate

# Files that decide how and when kernels are built and run, but not what their code is.
_NOT_CODE = frozenset(
    f"{name}.py"
    for name in (
        "__init__ archive blas_threads build cpu disk driver entry entry_ir errors library locks native_entry settings"
        " thread_state threads user"
    ).split()
)


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel that can be called at `address`.

    Parameters
    ----------
    key
        Hash of all that shaped the code.
    symbol
        Name of the C function.
    address
        Where it is.
    source
        Text it was made from (for a hand-written kernel: its name and dtypes).
    seconds
        Time that this process spent on it.
    origin
        "compiled", "disk", or "memory" if an earlier call of this process had built it.
    front_end, llvm
        Those of the seconds that went from the text to LLVM's language, and from there to machine code.
    """

    key: str
    symbol: str
    address: int
    source: str
    seconds: float
    origin: str
    front_end: float = 0.0
    llvm: float = 0.0


@dataclass
class Counters:
    """How many kernels this process compiled, loaded from disk, or had already, and the seconds spent."""

    compiled: int = 0
    loaded_from_disk: int = 0
    memory_hits: int = 0
    seconds: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, kernel: BuiltKernel) -> None:
        """Count one kernel by its origin."""
        name = {"compiled": "compiled", "disk": "loaded_from_disk", "memory": "memory_hits"}[kernel.origin]
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)
            if kernel.origin != "memory":
                self.seconds += kernel.seconds

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self.compiled = self.loaded_from_disk = self.memory_hits = 0
            self.seconds = 0.0


counters = Counters()

_LOG = logging.getLogger("numgrad")
_lock = forkable_lock()
_built: dict[str, BuiltKernel] = {}
_keys: dict[int, str] = {}
_building: dict[str, Lock] = {}
if hasattr(os, "register_at_fork"):
    # A thread that was building in the parent does not exist in the child, and would never release its lock there.
    os.register_at_fork(after_in_child=_building.clear)


def build_source(source: str, *, namespace_name: str = "prelude", requires: tuple[str, ...] = ()) -> BuiltKernel:
    """Build a kernel from the text of `def kernel(args, lo, hi)`.

    Parameters
    ----------
    source
        Python text that defines a function called `kernel`; it may use the names of the namespace and nothing else.
    namespace_name
        Module of this package whose `namespace()` gives those names.
    requires
        External routines that the text calls, such as `("blas:dgemm",)`.

    Returns
    -------
    BuiltKernel
        Callable as `void (int64 *args, int64 lo, int64 hi)`.

    Raises
    ------
    KernelBuildError
        If the text does not compile; the message holds Numba's reason and the source.

    Examples
    --------
    >>> from numgrad_kernels.build import build_source
    >>> text = "def kernel(args, lo, hi):\\n    x = as_f64(args[0])\\n    x[lo] = math.sqrt(x[hi])\\n"
    >>> build_source(text).symbol == build_source(text).symbol
    True
    """
    front_end = settings.front_end if namespace_name == "prelude" and not requires else "numba"
    key = _key("source", namespace_name, source, front_end, *requires)

    def compiled(symbol: str) -> KernelObject:
        text = translate(source, symbol) if front_end == "direct" else None
        if text is not None:
            _show_in_tracebacks(source, symbol)
            return _assembled(text, symbol)
        function = _define(source, symbol, import_module(f"numgrad_kernels.{namespace_name}").namespace())
        return compile_kernel(function, symbol, f"generated kernel\n{source}\n")

    return _build(key, source, compiled, lambda: requires)


def _assembled(text: str, symbol: str, brief: bool = False) -> KernelObject:
    """Object code of LLVM IR text that defines `symbol`."""
    code, _ = engine.emit_object(text, internalize=(symbol,), brief=brief)
    return KernelObject(code, symbol, engine.undefined_symbols(code))


def build_library(name: str, dtypes: tuple[str, ...]) -> BuiltKernel:
    """Build the hand-written kernel `name` for these dtypes.

    Parameters
    ----------
    name
        Name under which `library.library` registered it.
    dtypes
        NumPy dtype names, as its factory takes them.

    Raises
    ------
    KernelBuildError
        If there is no such kernel, or it does not compile for these dtypes.
    """
    import numpy

    key = _key("library", name, settings.front_end, *dtypes)
    title = f"library kernel {name}({', '.join(dtypes)})"

    def compiled(symbol: str) -> KernelObject:
        entry, given = library.find(name), tuple(numpy.dtype(dtype) for dtype in dtypes)
        from numgrad_kernels.translate_library import translate_library  # it is wanted only where something is compiled

        text = translate_library(entry.factory, given, symbol) if settings.front_end == "direct" else None
        if text is not None:
            return _assembled(text, symbol, entry.brief)
        return compile_kernel(entry.factory(*given), symbol, title, entry.brief)

    return _build(key, title, compiled, lambda: library.find(name).requires(dtypes))


def _build(
    key: str,
    source: str,
    compiled: Callable[[str], KernelObject],
    requires: Callable[[], tuple[str, ...]],
) -> BuiltKernel:
    """The kernel with this key from memory, else from disk, else compiled; at most one thread builds a key."""
    found = _built.get(key)
    if found is None:
        with _one_builder(key):
            found = _built.get(key)
            if found is None:
                started, front_end, llvm = time.perf_counter(), 0.0, 0.0
                symbol = f"ng_{key[:16]}"
                addresses, origin = _load_from_disk(key, (symbol,)), "disk"
                if addresses is None:
                    for routine in requires():
                        engine.blas_symbol(routine)
                    made, front_end, llvm = _timed(compiled, symbol)
                    addresses, origin = _keep(disk.Entry(key, (symbol,), made.needs, made.code)), "compiled"
                address = addresses[symbol]
                seconds = time.perf_counter() - started
                kernel = BuiltKernel(key, symbol, address, source, seconds, origin, front_end, llvm)
                _register(kernel)
                return kernel
    _count(found)
    return found


def _timed(compiled: Callable[[str], KernelObject], symbol: str) -> tuple[KernelObject, float, float]:
    """A compiled kernel, and the seconds that its front end and LLVM took."""
    started, before = time.perf_counter(), engine.llvm_seconds()
    made = compiled(symbol)
    llvm = engine.llvm_seconds() - before
    return made, time.perf_counter() - started - llvm, llvm


def find_built(key: str, source: str) -> BuiltKernel | None:
    """The kernel with this key, whose source is known from elsewhere, out of memory or from disk; or None."""
    found = _built.get(key)
    if found is None:
        symbol = f"ng_{key[:16]}"
        with _one_builder(key):
            started = time.perf_counter()
            addresses = None if key in _built else _load_from_disk(key, (symbol,))
            if addresses is not None:
                kernel = BuiltKernel(key, symbol, addresses[symbol], source, time.perf_counter() - started, "disk")
                _register(kernel)
                return kernel
            found = _built.get(key)
    if found is not None:
        _count(found)
    return found


def key_of(address: int) -> str | None:
    """The key of the kernel at an address, or None if it was not built here."""
    return _keys.get(address)


def _register(kernel: BuiltKernel) -> None:
    _built[kernel.key] = replace(kernel, origin="memory")
    _keys[kernel.address] = kernel.key
    _count(kernel)


class _Local(threading.local):
    listener: Callable[[BuiltKernel], None] | None = None


_local = _Local()


def _count(kernel: BuiltKernel) -> None:
    counters.add(kernel)
    if _local.listener is not None:
        _local.listener(kernel)


@contextmanager
def listening(listener: Callable[[BuiltKernel], None]) -> Iterator[None]:
    """Tell `listener` of every kernel that this thread asks for within the block."""
    before, _local.listener = _local.listener, listener
    try:
        yield
    finally:
        _local.listener = before


@contextmanager
def _one_builder(key: str) -> Iterator[None]:
    """Let one thread at a time build this key; different keys do not wait for each other here."""
    with _lock:
        lock = _building.setdefault(key, Lock())
    with lock:
        yield
    with _lock:
        _building.pop(key, None)


def _load_from_disk(key: str, symbols: tuple[str, ...]) -> dict[str, int] | None:
    """Addresses of the cached functions, or None if there are none or they cannot be linked here."""
    entry = disk.load(key)
    if entry is None or entry.symbols != symbols:
        return None
    try:
        return engine.load_object(entry.code, symbols, entry.needs)
    except KernelBuildError as error:
        _LOG.info("kernel cache: %s", error)
        return None


def _keep(entry: disk.Entry) -> dict[str, int]:
    """Link freshly compiled code, put it on disk, and return the addresses of its functions."""
    addresses = engine.load_object(entry.code, entry.symbols, entry.needs)
    disk.store(entry)
    return addresses


def build_ir(text: str, symbols: tuple[str, ...], level: int = 3) -> dict[str, int]:
    """Addresses of the functions in a hand-written LLVM IR text, from disk if it was compiled before."""
    key = _key("ir", str(level), text, *symbols)
    with _one_builder(key):
        addresses = _load_from_disk(key, symbols)
        if addresses is None:
            code, _ = engine.emit_object(text, level=level)
            addresses = _keep(disk.Entry(key, symbols, engine.undefined_symbols(code), code))
        return addresses


def _show_in_tracebacks(source: str, symbol: str) -> str:
    """Make the lines of the text known to tracebacks and debuggers; the file name that they know it by."""
    filename = f"<numgrad kernel {symbol}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return filename


def _define(source: str, symbol: str, names: dict[str, object]) -> Callable[..., None]:
    """Run the text and return its function `kernel`."""
    try:
        exec(compile(source, _show_in_tracebacks(source, symbol), "exec"), names)
        function = names["kernel"]
    except (SyntaxError, KeyError, NameError) as error:
        raise KernelBuildError(
            f"generated kernel is not a definition of kernel(args, lo, hi): {error}\n{source}"
        ) from error
    function.__name__ = function.__qualname__ = symbol  # type: ignore[attr-defined]
    return function  # type: ignore[return-value]


@cache
def fingerprint() -> bytes:
    """Hash of what shapes code besides the kernel's own text: this package, the compilers, the processor."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if file.parent != root or file.name not in _NOT_CODE:
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    for part in (_version("numba"), _version("llvmlite"), cpu_name(), feature_string()):
        digest.update(part.encode() + b"\0")
    return digest.digest()


def _version(package: str) -> str:
    """What tells one release of a package from another, without importing it, nor the reader of its metadata."""
    found = find_spec(package)
    file = Path(found.origin).parent / "_version.py" if found is not None and found.origin else None
    if file is not None and file.is_file():
        return file.read_text()
    from importlib.metadata import version

    return version(package)


def _key(*parts: str) -> str:
    """Key of a kernel: hash of its own parts, the fingerprint, and the kind of vector mathematics."""
    digest = hashlib.sha256(fingerprint())
    for part in (settings.vector_math, *parts):
        encoded = part.encode()
        digest.update(b"%d:" % len(encoded) + encoded)
    return digest.hexdigest()

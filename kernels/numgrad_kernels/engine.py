"""The one LLVM engine of the process: IR text or object code goes in, addresses of functions come out.

Only llvmlite is used here, never Numba, so that a process whose kernels are all on disk starts without it. Object code
refers to everything outside itself by symbol, and every symbol is looked up before the object is linked, because LLVM
ends the process when it meets one that it cannot resolve.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import platform
import struct
import sys
import threading
import time
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from pathlib import Path
from typing import Any

from numgrad_kernels import blas_threads, thread_state
from numgrad_kernels.cpu import cpu_name, feature_string, has_feature
from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.locks import forkable_lock

_lock = forkable_lock()
_defined: dict[str, int] = {}

# Vector variants of libmvec: letter of the instruction set, lanes of float64, feature that must be present.
_VECTOR_ISAS = (("b", 2, "sse4.1"), ("d", 4, "avx2"), ("e", 8, "avx512f"), ("n", 2, "neon"))
_VECTOR_FUNCTIONS = (
    "acos acosh asin asinh atan atanh cbrt cos cosh erf erfc exp exp10 exp2 expm1"
    " log log10 log1p log2 sin sinh tan tanh"
).split()
_VECTOR_FUNCTIONS_2 = ("atan2", "hypot", "pow")


@cache
def _machine() -> Any:
    """The target machine of this processor."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    # JIT code on x86 is linked at its final place: static relocation, as LLVM's own JIT asks for.
    relocation = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=cpu_name(), features=feature_string(), opt=3, reloc=relocation, codemodel="jitdefault", jit=True
    )


@cache
def _engine() -> Any:
    """The MCJIT engine that holds all code of this process."""
    from llvmlite import binding

    machine = _machine()
    empty = binding.parse_assembly("")
    empty.triple = binding.get_process_triple()
    return binding.create_mcjit_compiler(empty, machine)


@cache
def _load_libraries() -> None:
    """Load the C library's mathematics, and its vector variants where there are some, for the life of the process."""
    from llvmlite import binding

    for name in ("libm.so.6", "libmvec.so.1"):
        # Elsewhere than on glibc the scalar functions are in the process already, and there are no vector variants.
        with contextlib.suppress(RuntimeError):
            binding.load_library_permanently(name)


@cache
def vector_symbols() -> frozenset[str]:
    """Names of the vector functions that are loaded and that this processor can run.

    Returns
    -------
    frozenset of str
        For example "_ZGVdN4v_exp" (four float64 in AVX2 registers); empty without glibc's libmvec.
    """
    from llvmlite import binding

    with _lock:
        _load_libraries()
        names = []
        for letter, lanes, feature in _VECTOR_ISAS:
            if has_feature(feature):
                for function in (*_VECTOR_FUNCTIONS, *_VECTOR_FUNCTIONS_2):
                    operands = "vv" if function in _VECTOR_FUNCTIONS_2 else "v"
                    names.append(f"_ZGV{letter}N{lanes}{operands}_{function}")
                    names.append(f"_ZGV{letter}N{2 * lanes}{operands}_{function}f")
        return frozenset(name for name in names if binding.address_of_symbol(name))


def has_symbol(name: str) -> bool:
    """Whether object code may call `name`: a vector function this processor can run, or any other known symbol."""
    if name.startswith("_ZGV"):
        return name in vector_symbols()
    return address_of(name) is not None


def address_of(symbol: str) -> int | None:
    """Address of a symbol that this engine, the process or its libraries define, or None."""
    from llvmlite import binding

    with _lock:
        _load_libraries()
        found = _defined.get(symbol)
        return found if found is not None else binding.address_of_symbol(symbol)


def register_symbol(name: str, address: int) -> None:
    """Make `address` known to object code under `name`."""
    from llvmlite import binding

    with _lock:
        binding.add_symbol(name, address)
        _defined[name] = address


@cache
def _linear_algebra_table(name: str) -> dict[str, Any]:
    """SciPy's table of BLAS or LAPACK pointers, as Cython exports it."""
    with blas_threads.short_spins():
        table = _extension(f"scipy.linalg.cython_{name}").__pyx_capi__
    blas_threads.follow()
    return table  # type: ignore[no-any-return]


def _extension(name: str) -> Any:
    """An extension module of SciPy, loaded by itself: importing its package takes ten times as long.

    Where it cannot be found or loaded so (a package inside an archive, a platform whose libraries the package has to
    find first), it is imported.
    """
    if name not in sys.modules:
        package, _, module = name.partition(".")
        found = importlib.util.find_spec(package)
        parts = module.split(".")
        for folder in (found.submodule_search_locations or ()) if found is not None else ():
            finder = FileFinder(str(Path(folder, *parts[:-1])), (ExtensionFileLoader, EXTENSION_SUFFIXES))
            spec = finder.find_spec(name)
            if spec is not None and spec.loader is not None:
                with contextlib.suppress(ImportError):
                    loaded = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(loaded)
                    return loaded
    return importlib.import_module(name)


def blas_symbol(name: str) -> str:
    """Make a BLAS or LAPACK routine known to object code and return its symbol.

    Parameters
    ----------
    name
        "dgemm", "dpotrf" and so on; "blas:dgemm" and "lapack:dpotrf" say which table to look in.

    Returns
    -------
    str
        "ng_blas_dgemm" or "ng_lapack_dpotrf"; the routine takes pointers to its arguments, in column-major order.

    Raises
    ------
    KernelBuildError
        If SciPy exports no such routine.
    """
    family, _, routine = name.rpartition(":")
    for table in (family,) if family else ("blas", "lapack"):
        capsule = _linear_algebra_table(table).get(routine) if table in ("blas", "lapack") else None
        if capsule is not None:
            symbol = f"ng_{table}_{routine}"
            with _lock:
                if symbol not in _defined:
                    register_symbol(symbol, capsule_pointer(capsule))
            return symbol
    raise KernelBuildError(f"SciPy exports no routine {name!r} in scipy.linalg.cython_blas or cython_lapack")


def capsule_pointer(capsule: object) -> int:
    """Address inside a PyCapsule."""
    api = ctypes.pythonapi
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    return int(pointer_of(capsule, name_of(capsule)))


def resolve(symbols: list[str] | tuple[str, ...]) -> None:
    """Make sure that every symbol has an address, fetching BLAS, LAPACK and Numba's helpers where they are meant.

    Raises
    ------
    KernelBuildError
        If a symbol stays unknown.
    """
    for symbol in symbols:
        if address_of(symbol) is not None:
            continue
        family, _, routine = symbol.removeprefix("ng_").partition("_")
        if symbol == thread_state.SYMBOL:
            register_symbol(symbol, thread_state.address())
        elif symbol.startswith(("ng_blas_", "ng_lapack_")):
            blas_symbol(f"{family}:{routine}")
        elif symbol.startswith(("numba_", "NRT_")):
            # Numba registers its C helpers with LLVM when its CPU target starts.
            from numba.core.registry import cpu_target

            cpu_target.target_context.refresh()
        if address_of(symbol) is None:
            raise KernelBuildError(
                f"object code needs the symbol {symbol!r}, which no loaded library defines on this machine"
                f" ({platform.machine()}, {cpu_name()}); the kernel must do without it"
            )


def emit_object(
    text: str, *, internalize: tuple[str, ...] | None = None, level: int = 3, brief: bool = False
) -> tuple[bytes, Any]:
    """Optimise IR text and return its object code together with the optimised module.

    Parameters
    ----------
    text
        LLVM IR; triple and data layout are set here.
    internalize
        Names that stay visible; all other definitions become private, so that equal names in different objects can
        never be mixed up. None leaves the linkage alone.
    level
        How much LLVM optimises, 0 to 3. IR that was written by hand is as it should be: 0 only inlines what says so,
        in a third of the time.
    brief
        That loops run few steps: they are not unrolled, which costs more than such loops themselves, and what they do
        side by side becomes vectors.
    """
    from llvmlite import binding

    started = time.perf_counter()
    with _lock:
        machine = _machine()
        module = binding.parse_assembly(text)
        module.triple = binding.get_process_triple()
        module.data_layout = str(machine.target_data)
        if internalize is not None:
            for value in (*module.functions, *module.global_variables):
                if not value.is_declaration and value.name not in internalize and not value.name.startswith("llvm."):
                    value.linkage = "internal"
        module.verify()
        options = binding.create_pipeline_tuning_options(speed_level=level)
        options.loop_vectorization = True
        options.slp_vectorization = brief  # as in Numba: it costs compile time, and loops are what kernels consist of
        options.loop_unrolling = not brief
        builder = binding.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        code = machine.emit_object(module)
    _local.llvm += time.perf_counter() - started
    return code, module


class _Local(threading.local):
    llvm = 0.0


_local = _Local()


def llvm_seconds() -> float:
    """The seconds that this thread has spent on turning IR into object code."""
    return _local.llvm


def load_object(code: bytes, names: tuple[str, ...], needs: tuple[str, ...] | list[str] = ()) -> dict[str, int]:
    """Link object code into the process and return the addresses of the functions `names`.

    Raises
    ------
    KernelBuildError
        If a symbol that the code needs (`needs`, and what `undefined_symbols` finds) cannot be resolved, or the code
        does not define one of `names`.
    """
    from llvmlite import binding

    # Outside the lock: resolving may import Numba, which takes locks of its own.
    resolve([*needs, *undefined_symbols(code)])
    with _lock:
        engine = _engine()
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        addresses = {name: engine.get_function_address(name) for name in names}
        missing = [name for name, address in addresses.items() if not address]
        if missing:
            raise KernelBuildError(f"object code does not define {', '.join(missing)}")
        _defined.update(addresses)
        return addresses


def compile_ir(text: str, names: tuple[str, ...]) -> dict[str, int]:
    """Compile IR text into the process and return the addresses of the functions `names`."""
    code, _ = emit_object(text)
    return load_object(code, names)


def undefined_symbols(code: bytes) -> tuple[str, ...]:
    """Names that an ELF object refers to without defining them; nothing for other formats.

    The list is read from the object, not from the IR, because code generation adds calls of its own (conversions of
    float16, 128-bit division) that no declaration shows.

    Raises
    ------
    KernelBuildError
        If the object starts like ELF but its tables do not hang together.
    """
    if code[:6] != b"\x7fELF\x02\x01":
        return ()
    try:
        sections_at, entry_size, count = (
            struct.unpack_from("<Q", code, 0x28)[0],
            *struct.unpack_from("<HH", code, 0x3A),
        )
        headers = [struct.unpack_from("<IIQQQQIIQQ", code, sections_at + k * entry_size) for k in range(count)]
        found = []
        for _, kind, _, _, offset, size, link, _, _, stride in headers:
            if kind != 2:  # SHT_SYMTAB
                continue
            strings_at = headers[link][4]
            for at in range(offset + stride, offset + size, stride):  # the first symbol is the null symbol
                name, _, _, section = struct.unpack_from("<IBBH", code, at)
                if section == 0 and name:  # SHN_UNDEF
                    start = strings_at + name
                    found.append(code[start : code.index(b"\0", start)].decode("ascii"))
    except (struct.error, IndexError, ValueError) as error:
        raise KernelBuildError(f"damaged object code: {error}") from error
    return tuple(name for name in found if name != "_GLOBAL_OFFSET_TABLE_")

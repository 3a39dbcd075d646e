"""From a Python kernel `kernel(args, lo, hi)` to object code: Numba lowers it, the engine's LLVM does the rest.

Numba's own second half (its engine, its wrappers, its cache) is left out. The object then holds one visible symbol,
ours, and no mangled names that another process may have given to other code; it needs no Python at run time; and it
can be linked without Numba being imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numgrad_kernels import engine
from numgrad_kernels.errors import KernelBuildError

# The kernel's C face. Numba's functions return a status, and a kernel has nobody to tell it to: the call to
# RAISED survives optimisation only if the status can be other than zero, and then the kernel is refused.
_RAISED = "ng_kernel_raised"
_FACE = """
define void @{symbol}(ptr %args, i64 %lo, i64 %hi) {{
  %result = alloca ptr
  %exception = alloca ptr
  %status = call i32 @"{inner}"(ptr %result, ptr %exception, ptr %args, i64 %lo, i64 %hi)
  %bad = icmp ne i32 %status, 0
  br i1 %bad, label %raised, label %done
raised:
  call void @{raised}()
  br label %done
done:
  ret void
}}
declare void @{raised}()
"""

# Views over pointers carry a null owner. Numba would count references to it through functions that it forbids to
# inline, which keeps loops from being vectorised; kernels own nothing, so the counting is replaced by nothing.
_NO_COUNTING = """
define void @NRT_incref(ptr %owner) alwaysinline { ret void }
define void @NRT_decref(ptr %owner) alwaysinline { ret void }
"""


@dataclass(frozen=True)
class KernelObject:
    """Object code of one kernel, the symbol it defines, and the symbols it needs."""

    code: bytes
    symbol: str
    needs: tuple[str, ...]


def compile_kernel(function: Callable[..., None], symbol: str, title: str, brief: bool = False) -> KernelObject:
    """Compile `function(args, lo, hi)` to object code that defines `symbol`.

    Parameters
    ----------
    function
        Python function with `args` a pointer to int64 (addresses and sizes) and `lo`, `hi` int64; returns nothing.
    symbol
        Name of the C function `void symbol(int64 *args, int64 lo, int64 hi)`.
    title
        What errors call the kernel.
    brief
        That its loops run few steps (see `engine.emit_object`).

    Raises
    ------
    KernelBuildError
        If Numba cannot compile the function, or the compiled function could raise a Python exception or allocate.
    """
    from numba.core.errors import NumbaError

    try:
        text = _lower(function, symbol)
    except NumbaError as error:
        raise KernelBuildError(f"{title} does not compile: {error}") from error
    code, module = engine.emit_object(text, internalize=(symbol,), brief=brief)
    declared = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    if _RAISED in declared:
        raise KernelBuildError(
            f"{title} can raise a Python exception (an assert, a raise, a range with a step that may be zero, an array"
            " conversion); kernels run without Python: report through a status word instead"
        )
    needs = engine.undefined_symbols(code) or tuple(declared)
    if any(name.startswith("NRT_") for name in needs):
        raise KernelBuildError(
            f"{title} allocates an array; kernels get all of their memory through their argument table: pass scratch"
        )
    return KernelObject(code, symbol, needs)


def _lower(function: Callable[..., None], symbol: str) -> str:
    """LLVM IR of the function, of what it calls, and of its C face."""
    from numba.core import types
    from numba.core.compiler import Flags, compile_extra
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    flags: Any = Flags()
    flags.no_compile = True  # the library stays open: nothing is optimised or linked by Numba
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.boundscheck = False
    flags.nrt = True  # typing of array views over pointers asks for it; allocating is refused in compile_kernel
    arguments = (types.CPointer(types.int64), types.int64, types.int64)
    with global_compiler_lock:
        result = compile_extra(
            cpu_target.typing_context,
            cpu_target.target_context,
            function,
            args=arguments,
            return_type=types.none,
            flags=flags,
            locals={},
        )
        return _linked_text(result.library) + _FACE.format(
            symbol=symbol, inner=result.fndesc.llvm_func_name, raised=_RAISED
        )


def _linked_text(library: Any) -> str:
    """IR of an open Numba library with the compiled callees that it refers to."""
    from llvmlite import binding

    module = library._final_module
    module.link_in(binding.parse_assembly(_NO_COUNTING))
    for callee in library._linking_libraries:
        module.link_in(callee._get_module_for_linking(), preserve=True)
    return str(module)

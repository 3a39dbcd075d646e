"""How kernels keep small BLAS and LAPACK calls on one thread.

Threads that wait for each other over microseconds of work lose by it, and lose a thousandfold on a machine that is
busy: a thread that waits in a loop keeps the processor from the one that it waits for. So a kernel says before its
calls how much work they are, and below a limit, or inside numgrad's own threads, BLAS gets one thread. Work of 0 says
that there will be no calls: then the setting, which takes longer than a small kernel, stays as it is.
"""

from __future__ import annotations

from typing import Any

from numgrad_kernels.thread_state import BLAS_SETTER, BLAS_THREADS, BUSY, SYMBOL

#: Floating point operations that make a second thread worth its while: a quarter of a millisecond.
WORTHWHILE = 10_000_000


def _word(builder: Any, number: int) -> Any:
    """The value of one word of the block."""
    from llvmlite import ir

    word = ir.IntType(64)
    module = builder.module
    block = module.globals.get(SYMBOL)
    if block is None:
        block = ir.GlobalVariable(module, ir.ArrayType(word, BUSY + 3), SYMBOL)
        block.linkage = "external"
    return builder.load(builder.gep(block, [word(0), word(number)]))


def _set_threads(builder: Any, count: Any) -> None:
    from llvmlite import ir

    narrow = ir.IntType(32)
    face = ir.FunctionType(ir.VoidType(), [narrow]).as_pointer()
    builder.call(builder.inttoptr(_word(builder, BLAS_SETTER), face), [count])


def emit_begin(builder: Any, work: Any) -> Any:
    """Emit the step to one thread if `work` (int64) is little; the int64 that `emit_end` takes."""
    word = work.type
    known = builder.icmp_unsigned("!=", _word(builder, BLAS_SETTER), word(0))
    little = builder.icmp_signed("<", work, word(WORTHWHILE))
    shared = builder.icmp_unsigned("!=", _word(builder, BUSY), word(0))
    calls = builder.icmp_signed("!=", work, word(0))
    limited = builder.and_(builder.and_(known, calls), builder.or_(little, shared))
    with builder.if_then(limited):
        from llvmlite import ir

        _set_threads(builder, ir.IntType(32)(1))
    return builder.zext(limited, word)


def emit_end(builder: Any, limited: Any) -> None:
    """Emit the step back to as many threads as there were; while the pool runs the driver does it, afterwards."""
    from llvmlite import ir

    zero = limited.type(0)
    idle = builder.icmp_unsigned("==", _word(builder, BUSY), zero)
    with builder.if_then(builder.and_(builder.icmp_unsigned("!=", limited, zero), idle)):
        _set_threads(builder, builder.trunc(_word(builder, BLAS_THREADS), ir.IntType(32)))


def namespace() -> dict[str, Any]:
    """Numba intrinsics ``blas_begin(work) -> limited`` and ``blas_end(limited)``."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def blas_begin(typingctx: Any, work: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit_begin(builder, *args)

        return types.int64(types.int64), codegen

    @intrinsic
    def blas_end(typingctx: Any, limited: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit_end(builder, *args)
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return {"blas_begin": blas_begin, "blas_end": blas_end}

"""Branch-free scalar operations as single LLVM instructions: select, bit casts, roundings, loads of float16 and bool.

Python's conditional expression makes basic blocks, which cost five times as much to compile and can stop the loop
vectoriser; ``math.floor`` returns an integer; Numba has no float16 on the CPU. These are the operations as LLVM has
them. Those that CUDA has no library function for are made for either compiler by `portable`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

#: Name in kernel source -> LLVM intrinsic, one floating operand.
_UNARY = {
    "vm_sqrt": "llvm.sqrt",
    "vm_floor": "llvm.floor",
    "vm_ceil": "llvm.ceil",
    "vm_trunc": "llvm.trunc",
    "vm_rint": "llvm.rint",
    "vm_fabs": "llvm.fabs",
}


@functools.lru_cache(maxsize=1)
def namespace() -> dict[str, Any]:
    """Return the intrinsics of this module by the names that generated CPU source uses."""
    from numba import types
    from numba.extending import intrinsic

    names = portable(intrinsic, types)
    for name, llvm_name in _UNARY.items():
        names[name] = _llvm_call(name, llvm_name, 1)
    names["vm_copysign"] = _llvm_call("vm_copysign", "llvm.copysign", 2)
    names["float_bits"] = _bit_cast("float_bits", {types.float32: types.int32, types.float64: types.int64})
    names["bits_float"] = _bit_cast("bits_float", {types.int32: types.float32, types.int64: types.float64})
    return names


def portable(intrinsic: Any, types: Any) -> dict[str, Any]:
    """Make the intrinsics that both targets need, with a compiler's ``intrinsic`` decorator and ``types`` module.

    Returns
    -------
    dict
        ``select(condition, a, b)``, ``int_power(base, exponent)``, ``round_f16(x)``, and for storage without
        arithmetic ``load_f16(p, i)``, ``store_f16(p, i, x)``, ``load_b1(p, i)``, ``store_b1(p, i, x)``.
    """
    from llvmlite import ir

    half, single, byte = ir.HalfType(), ir.FloatType(), ir.IntType(8)
    halves, flags = types.CPointer(types.uint16), types.CPointer(types.uint8)

    @intrinsic
    def select(typingctx: Any, condition: Any, chosen: Any, other: Any) -> Any:
        kind = types.unliteral(chosen)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(*args)

        return kind(types.boolean, kind, kind), codegen

    @intrinsic
    def int_power(typingctx: Any, base: Any, exponent: Any) -> Any:
        kind = types.unliteral(base)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit_int_power(builder, *args)

        return kind(kind, kind), codegen

    @intrinsic
    def round_f16(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.fpext(builder.fptrunc(args[0], half), single)

        return types.float32(types.float32), codegen

    @intrinsic
    def load_f16(typingctx: Any, pointer: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = builder.load(builder.gep(args[0], [args[1]]))
            return builder.fpext(builder.bitcast(word, half), single)

        return types.float32(halves, types.int64), codegen

    @intrinsic
    def store_f16(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = builder.bitcast(builder.fptrunc(args[2], half), ir.IntType(16))
            builder.store(word, builder.gep(args[0], [args[1]]))
            return context.get_dummy_value()

        return types.void(halves, types.int64, types.float32), codegen

    @intrinsic
    def load_b1(typingctx: Any, pointer: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.icmp_unsigned("!=", builder.load(builder.gep(args[0], [args[1]])), byte(0))

        return types.boolean(flags, types.int64), codegen

    @intrinsic
    def store_b1(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(builder.zext(args[2], byte), builder.gep(args[0], [args[1]]))
            return context.get_dummy_value()

        return types.void(flags, types.int64, types.boolean), codegen

    made = (select, int_power, round_f16, load_f16, store_f16, load_b1, store_b1)
    return {function.__name__: function for function in made}


def emit_int_power(builder: Any, base: Any, exponent: Any) -> Any:
    """Emit repeated squaring, modulo the width of the integer; the exponent is read as unsigned."""
    word = base.type
    before = builder.block
    head = builder.append_basic_block("power.head")
    body = builder.append_basic_block("power.body")
    done = builder.append_basic_block("power.done")
    builder.branch(head)
    builder.position_at_end(head)
    result, square, left = (builder.phi(word) for _ in range(3))
    result.add_incoming(word(1), before)
    square.add_incoming(base, before)
    left.add_incoming(exponent, before)
    builder.cbranch(builder.icmp_unsigned("!=", left, word(0)), body, done)
    builder.position_at_end(body)
    odd = builder.icmp_unsigned("!=", builder.and_(left, word(1)), word(0))
    result.add_incoming(builder.mul(result, builder.select(odd, square, word(1))), body)
    square.add_incoming(builder.mul(square, square), body)
    left.add_incoming(builder.lshr(left, word(1)), body)
    builder.branch(head)
    builder.position_at_end(done)
    return result


def _llvm_call(name: str, llvm_name: str, arity: int) -> Any:
    from llvmlite import ir
    from numba import types

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = args[0].type
        shape = ir.FunctionType(word, [word] * arity)
        return builder.call(builder.module.declare_intrinsic(llvm_name, [word], shape), args)

    def typed(kind: Any) -> Any:
        kind = kind if kind == types.float32 else types.float64
        return kind(*([kind] * arity)), codegen

    return of_arity(name, arity, lambda kinds: typed(kinds[0]))


def of_arity(name: str, arity: int, signature_and_codegen: Callable[[tuple[Any, ...]], Any]) -> Any:
    """Make an intrinsic of one or two operands: Numba reads their number off a Python function's parameters."""
    from numba.extending import intrinsic

    def unary(typingctx: Any, x: Any) -> Any:
        return signature_and_codegen((x,))

    def binary(typingctx: Any, x: Any, y: Any) -> Any:
        return signature_and_codegen((x, y))

    function: Callable[..., Any] = unary if arity == 1 else binary
    function.__name__ = function.__qualname__ = name
    return intrinsic(function)


def _bit_cast(name: str, mapping: dict[Any, Any]) -> Any:
    from numba import types

    def typed(kinds: tuple[Any, ...]) -> Any:
        kind = types.unliteral(kinds[0])
        if kind not in mapping:
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(mapping[kind]))

        return mapping[kind](kind), codegen

    return of_arity(name, 1, typed)

"""The names that generated CPU kernel source may use: typed casts, typed pointers, and reductions that vectorise.

A kernel is ``def kernel(args, lo, hi)`` with ``args`` a ``CPointer(int64)`` of addresses and integers. It turns an
address into a typed pointer with ``as_f64(args[0])`` and then reads and writes ``p[i]``. Everything here is a Numba
intrinsic, never a compiled callee, because an extra callee costs more to compile than a whole small kernel.

float16 arrays are ``uint16`` storage read and written through ``load_f16`` and ``store_f16`` (arithmetic is float32);
bool arrays are ``uint8`` storage read and written through ``load_b1`` and ``store_b1``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from numgrad_kernels import few_threads, intrinsics, symbols, vmath

#: Storage name -> name of the Numba type that the pointer ``as_<name>`` points at.
POINTERS = {
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "c64": "complex64",
    "c128": "complex128",
    "b1": "uint8",
    "f16": "uint16",
}

#: Names that cast a scalar; storage-only names have no arithmetic of their own.
CASTS = tuple(name for name in POINTERS if name not in ("b1", "f16"))


def namespace() -> dict[str, Any]:
    """Return a fresh dict with every name that generated CPU kernel source may use.

    Returns
    -------
    dict
        ``math``; casts ``f32 f64 i8 .. u64 c64 c128``; ``as_<dtype>(address)`` pointer makers; ``load_f16``,
        ``store_f16``, ``load_b1``, ``store_b1``; the ``vm_*`` functions and ``select``; ``sum_add``, ``prod_mul``,
        ``nan_max``, ``nan_min``; ``mem_copy``, ``mem_zero``; ``address_of``; ``conj`` and ``real`` of floats and
        complex numbers; ``load`` and ``store`` of elements that are stored as they are computed with; ``boolean``;
        ``blas_begin`` and ``blas_end`` around calls of routines.

    Examples
    --------
    >>> from numgrad_kernels.prelude import namespace
    >>> sorted(name for name in namespace() if name.startswith("mem"))
    ['mem_copy', 'mem_zero']
    """
    return symbols.Names() if symbols.is_symbolic() else dict(_names())


@functools.lru_cache(maxsize=1)
def _names() -> dict[str, Any]:
    from numba import types

    names: dict[str, Any] = {"math": math, "boolean": types.boolean}
    for short in CASTS:
        names[short] = getattr(types, POINTERS[short])
    for short, long in POINTERS.items():
        names[f"as_{short}"] = pointer_maker(f"as_{short}", getattr(types, long))
    names.update(intrinsics.namespace())
    names.update(vmath.namespace())
    names.update(_reduction_intrinsics())
    names.update(_memory_intrinsics())
    names.update(_complex_intrinsics())
    names.update(few_threads.namespace())
    return names


def pointer_maker(name: str, pointee: Any) -> Any:
    """Make the intrinsic that turns an integer address into a pointer to `pointee`."""
    from numba import types
    from numba.extending import intrinsic

    pointer = types.CPointer(pointee)

    def as_pointer(typingctx: Any, address: Any) -> Any:
        if not isinstance(address, types.Integer):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(pointer))

        return pointer(address), codegen

    as_pointer.__name__ = as_pointer.__qualname__ = name
    return intrinsic(as_pointer)


def _reduction_intrinsics() -> dict[str, Any]:
    """Make the combining steps of reductions.

    Sums and products carry only LLVM's ``reassoc`` flag: the vectoriser may keep several partial sums, while NaN and
    infinity stay as IEEE says. Maxima use ``llvm.maximum``, which propagates NaN and is a reduction LLVM knows.
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    loose = ("reassoc",)

    def common(typingctx: Any, a: Any, b: Any) -> Any:
        """Return the type in which `a` and `b` meet, or None; int32 with int32 stays int32."""
        a, b = types.unliteral(a), types.unliteral(b)
        kind = a if a == b else typingctx.unify_types(a, b)
        return kind if isinstance(kind, (types.Float, types.Complex, types.Integer, types.Boolean)) else None

    def componentwise(context: Any, builder: Any, kind: Any, args: Any, combine: Any) -> Any:
        a, b = (context.make_complex(builder, kind, value) for value in args)
        result = context.make_complex(builder, kind)
        result.real, result.imag = combine((a.real, a.imag), (b.real, b.imag))
        return result._getvalue()

    @intrinsic
    def sum_add(typingctx: Any, a: Any, b: Any) -> Any:
        kind = common(typingctx, a, b)
        if kind is None:
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if isinstance(kind, types.Float):
                return builder.fadd(*args, flags=loose)
            if isinstance(kind, types.Boolean):
                return builder.or_(*args)
            if isinstance(kind, types.Integer):
                return builder.add(*args)
            return componentwise(
                context,
                builder,
                kind,
                args,
                lambda a, b: [builder.fadd(x, y, flags=loose) for x, y in zip(a, b, strict=True)],
            )

        return kind(kind, kind), codegen

    @intrinsic
    def prod_mul(typingctx: Any, a: Any, b: Any) -> Any:
        kind = common(typingctx, a, b)
        if kind is None:
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if isinstance(kind, types.Float):
                return builder.fmul(*args, flags=loose)
            if isinstance(kind, types.Boolean):
                return builder.and_(*args)
            if isinstance(kind, types.Integer):
                return builder.mul(*args)

            def product(a: Any, b: Any) -> Any:
                multiply = builder.fmul
                return (
                    builder.fsub(multiply(a[0], b[0]), multiply(a[1], b[1])),
                    builder.fadd(multiply(a[0], b[1]), multiply(a[1], b[0])),
                )

            return componentwise(context, builder, kind, args, product)

        return kind(kind, kind), codegen

    def extremum(name: str, llvm_name: str, order: str) -> Any:
        def choose(typingctx: Any, a: Any, b: Any) -> Any:
            kind: Any = common(typingctx, a, b)
            if kind is None:
                return None

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                if isinstance(kind, types.Float):
                    word = args[0].type
                    function = builder.module.declare_intrinsic(llvm_name, [word], ir.FunctionType(word, [word, word]))
                    return builder.call(function, args)
                if isinstance(kind, types.Boolean):
                    return builder.or_(*args) if order == ">" else builder.and_(*args)
                if isinstance(kind, types.Integer):
                    compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned  # type: ignore[attr-defined]
                    return builder.select(compare(order, *args), *args)
                return complex_extremum(context, builder, kind, args)

            return kind(kind, kind), codegen

        def complex_extremum(context: Any, builder: Any, kind: Any, args: Any) -> Any:
            # NumPy orders complex numbers by real part, then imaginary part; a NaN in either part wins.
            a, b = (context.make_complex(builder, kind, value) for value in args)
            a_is_nan = builder.fcmp_unordered("uno", a.real, a.imag)
            before = builder.or_(
                builder.fcmp_ordered(order, a.real, b.real),
                builder.and_(
                    builder.fcmp_ordered("==", a.real, b.real), builder.fcmp_ordered(order + "=", a.imag, b.imag)
                ),
            )
            b_is_nan = builder.fcmp_unordered("uno", b.real, b.imag)
            take_a = builder.or_(a_is_nan, builder.and_(before, builder.not_(b_is_nan)))
            result = context.make_complex(builder, kind)
            result.real = builder.select(take_a, a.real, b.real)
            result.imag = builder.select(take_a, a.imag, b.imag)
            return result._getvalue()

        choose.__name__ = choose.__qualname__ = name
        return intrinsic(choose)

    return {
        "sum_add": sum_add,
        "prod_mul": prod_mul,
        "nan_max": extremum("nan_max", "llvm.maximum", ">"),
        "nan_min": extremum("nan_min", "llvm.minimum", "<"),
    }


def _memory_intrinsics() -> dict[str, Any]:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    byte_pointer = ir.IntType(8).as_pointer()

    def is_place(kind: Any) -> bool:
        return isinstance(kind, (types.Integer, types.CPointer))

    def pointer(builder: Any, value: Any) -> Any:
        if isinstance(value.type, ir.PointerType):
            return builder.bitcast(value, byte_pointer)
        return builder.inttoptr(value, byte_pointer)

    @intrinsic
    def mem_copy(typingctx: Any, destination: Any, source: Any, size: Any) -> Any:
        if not (is_place(destination) and is_place(source) and isinstance(size, types.Integer)):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            cgutils.raw_memcpy(builder, pointer(builder, args[0]), pointer(builder, args[1]), args[2], 1)
            return context.get_dummy_value()

        return types.void(destination, source, types.intp), codegen

    @intrinsic
    def mem_zero(typingctx: Any, destination: Any, size: Any) -> Any:
        if not (is_place(destination) and isinstance(size, types.Integer)):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            cgutils.memset(builder, pointer(builder, args[0]), args[1], 0)
            return context.get_dummy_value()

        return types.void(destination, types.intp), codegen

    @intrinsic
    def address_of(typingctx: Any, pointer: Any) -> Any:
        if not isinstance(pointer, types.CPointer):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.ptrtoint(args[0], ir.IntType(64))

        return types.int64(pointer), codegen

    @intrinsic
    def load(typingctx: Any, pointer: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(builder.gep(args[0], [args[1]]))

        return pointer.dtype(pointer, types.intp), codegen

    @intrinsic
    def store(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], builder.gep(args[0], [args[1]]))
            return context.get_dummy_value()

        return types.void(pointer, types.intp, pointer.dtype), codegen

    return {"mem_copy": mem_copy, "mem_zero": mem_zero, "address_of": address_of, "load": load, "store": store}


def _complex_intrinsics() -> dict[str, Any]:
    """Parts of numbers that may be real or complex, so that one kernel text serves both."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def conj(typingctx: Any, value: Any) -> Any:
        if not isinstance(value, (types.Float, types.Complex)):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if isinstance(value, types.Float):
                return args[0]
            number = context.make_complex(builder, value, args[0])
            number.imag = builder.fneg(number.imag)
            return number._getvalue()

        return value(value), codegen

    @intrinsic
    def real(typingctx: Any, value: Any) -> Any:
        if not isinstance(value, (types.Float, types.Complex)):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return args[0] if isinstance(value, types.Float) else context.make_complex(builder, value, args[0]).real

        return (value if isinstance(value, types.Float) else value.underlying_float)(value), codegen

    return {"conj": conj, "real": real}

"""What `translate_library` computes with beyond printed kernels: complex numbers, memory, and calls of routines."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from numgrad_kernels.few_threads import emit_begin, emit_end
from numgrad_kernels.symbols import Routine
from numgrad_kernels.translate import Translator
from numgrad_kernels.typed_ir import PARTS, Typed, Untranslated

_SCALARS = {"S": "f32", "D": "f64", "C": "c64", "Z": "c128"}


def parts_of(kind: str, value: Any) -> tuple[Any, ...]:
    """The LLVM values of a number: two for a complex one."""
    return value if kind in PARTS else (value,)


class LibraryValues(Translator):
    """Writes the instructions that compute values of library kernels."""

    def constant(self, value: Any) -> Typed:
        """A literal, or a number that the factory computed, in its own kind."""
        if isinstance(value, (complex, np.complexfloating)):
            kind = "c64" if isinstance(value, np.complex64) else "c128"
            part = self.types[PARTS[kind]]
            return Typed(kind, (part(float(value.real)), part(float(value.imag))))
        if isinstance(value, np.float32):
            return Typed("f32", self.types["f32"](float(value)))
        return super().constant(value)

    def binary(self, op: ast.operator, a: Typed, b: Typed) -> Typed:
        """As in `Values`, and complex sums, differences and products."""
        if a.kind not in PARTS or a.kind != b.kind:
            return super().binary(op, a, b)
        (p, q), (r, s), builder = a.value, b.value, self.builder
        if isinstance(op, (ast.Add, ast.Sub)):
            method = builder.fadd if isinstance(op, ast.Add) else builder.fsub
            return Typed(a.kind, (method(p, r), method(q, s)))
        if isinstance(op, ast.Mult):
            return self.combine("prod_mul", a, b)
        raise Untranslated

    def divide(self, remainder: bool, a: Typed, b: Typed) -> Typed:
        """As in `Values`, with 0 for a division by zero."""
        zero = self.builder.icmp_unsigned("==", b.value, self.word(0))
        found = super().divide(remainder, a, Typed(b.kind, self.builder.select(zero, self.word(1), b.value)))
        return Typed(a.kind, self.builder.select(zero, self.word(0), found.value))

    def negated(self, value: Typed) -> Typed:
        """Minus a value."""
        if value.kind in PARTS:
            return Typed(value.kind, tuple(self.builder.fneg(part) for part in value.value))
        return super().negated(value)

    def compare(self, op: ast.cmpop, a: Typed, b: Typed) -> Typed:
        """As in `Values`, and whether complex numbers are equal."""
        if a.kind not in PARTS or a.kind != b.kind or not isinstance(op, (ast.Eq, ast.NotEq)):
            return super().compare(op, a, b)
        same = [self.builder.fcmp_ordered("==", x, y) for x, y in zip(a.value, b.value, strict=True)]
        equal = self.builder.and_(*same)
        return Typed("b1", equal if isinstance(op, ast.Eq) else self.builder.not_(equal))

    def least_or_greatest(self, least: bool, a: Typed, b: Typed) -> Typed:
        """Python's ``min`` or ``max`` of two signed integers."""
        a, b = self.matched(a, b)
        if a.kind[0] != "i":
            raise Untranslated
        test = self.builder.icmp_signed("<" if least else ">", a.value, b.value)
        return Typed(a.kind, self.builder.select(test, a.value, b.value))

    def symbol(self, name: str, args: list[Typed]) -> Typed | None:
        """A call of a function of the prelude."""
        if name == "mem_copy":
            self.memory("llvm.memcpy", *args)
            return None
        if name == "mem_zero":
            self.memory("llvm.memset", *args)
            return None
        if name in ("store", "store_f16", "store_b1"):
            pointer, index, value = args
            if name == "store_f16" and value.kind != "f32":
                raise Untranslated
            self.store(pointer, index, value)
            return None
        if name == "blas_begin":
            return Typed("i64", emit_begin(self.builder, self.as_index(args[0])))
        if name == "blas_end":
            emit_end(self.builder, self.as_index(args[0]))
            return None
        if name == "load":
            return self.load(*args)
        if name == "boolean":
            return self.converted(args[0], "b1")
        if name == "conj":
            (value,) = args
            if value.kind not in PARTS:
                return value
            return Typed(value.kind, (value.value[0], self.builder.fneg(value.value[1])))
        if name == "real":
            (value,) = args
            return Typed(PARTS[value.kind], value.value[0]) if value.kind in PARTS else value
        return self.call(name, args)

    def memory(self, name: str, target: Typed, *rest: Typed) -> None:
        """LLVM's copy of memory from one address to another, or its filling with zeros."""
        builder, ir = self.builder, self.ir
        byte = ir.IntType(8)
        place = byte.as_pointer()
        values = [self.as_index(v) for v in rest]
        flag = ir.IntType(1)
        to, size = builder.inttoptr(self.as_index(target), place), values[-1]
        if name == "llvm.memcpy":
            face = ir.FunctionType(ir.VoidType(), [place, place, self.word, flag])
            function = self.module.declare_intrinsic(name, [place, place, self.word], face)
            builder.call(function, [to, builder.inttoptr(values[0], place), size, flag(0)])
        else:
            face = ir.FunctionType(ir.VoidType(), [place, byte, self.word, flag])
            function = self.module.declare_intrinsic(name, [place, self.word], face)
            builder.call(function, [to, byte(0), size, flag(0)])

    def routine(self, routine: Routine, args: list[Typed]) -> Typed:
        """A call of a Fortran routine, which takes addresses; its status (0 for one without)."""
        builder, ir = self.builder, self.ir
        place, narrow = ir.IntType(8).as_pointer(), ir.IntType(32)
        status: Any = None
        given, passed = iter(args), []
        for letter in routine.signature:
            if letter == "p":
                passed.append(builder.inttoptr(self.as_index(next(given)), place))
                continue
            if letter == "o":
                parts = [narrow(0)]
            elif letter in _SCALARS:
                value = self.converted(next(given), _SCALARS[letter])
                parts = list(parts_of(value.kind, value.value))
            else:
                parts = [builder.trunc(self.as_index(next(given)), ir.IntType(8) if letter == "c" else narrow)]
            with builder.goto_entry_block():
                slot = builder.alloca(ir.ArrayType(parts[0].type, len(parts)))
            for i, part in enumerate(parts):
                builder.store(part, builder.gep(slot, [narrow(0), narrow(i)]))
            if letter == "o":
                status = slot
            passed.append(builder.bitcast(slot, place))
        face = ir.FunctionType(ir.VoidType(), [place] * len(passed))
        function = self.module.globals.get(routine.symbol) or ir.Function(self.module, face, routine.symbol)
        builder.call(function, passed)
        if status is None:
            return Typed("i64", self.word(0))
        found = builder.load(builder.gep(status, [narrow(0), narrow(0)]))
        return Typed("i64", builder.sext(found, self.word))

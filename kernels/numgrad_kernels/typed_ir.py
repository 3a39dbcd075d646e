"""Typed LLVM values for `translate`: numbers of every dtype, their conversions, arithmetic and mathematics."""

from __future__ import annotations

import ast
from typing import Any

from numgrad_kernels import intrinsics, vmath

#: Kind of a complex number -> kind of its parts.
PARTS = {"c64": "f32", "c128": "f64"}
_BINARY = {
    ast.Add: ("add", "fadd"),
    ast.Sub: ("sub", "fsub"),
    ast.Mult: ("mul", "fmul"),
    ast.BitAnd: ("and_", None),
    ast.BitOr: ("or_", None),
    ast.BitXor: ("xor", None),
    ast.LShift: ("shl", None),
    ast.Div: (None, "fdiv"),
}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_LLVM_UNARY = "sqrt floor ceil trunc rint fabs".split()


class Untranslated(Exception):
    """The text leaves the translated subset of Python."""


class Typed:
    """A value: the short name of its dtype (or ``*dtype`` for a pointer), and its LLVM value (a pair for complex)."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: Any) -> None:
        self.kind, self.value = kind, value


class Values:
    """Writes the instructions that compute values.

    Kinds that do not meet (a float and an integer, integers of either sign) are `Untranslated`: Numba has rules for
    them.
    """

    builder: Any

    def __init__(self, symbol: str) -> None:
        from llvmlite import ir

        self.ir = ir
        self.word = ir.IntType(64)
        self.types = {"f16": ir.HalfType(), "f32": ir.FloatType(), "f64": ir.DoubleType(), "b1": ir.IntType(1)}
        for bits in (8, 16, 32, 64):
            self.types[f"i{bits}"] = self.types[f"u{bits}"] = ir.IntType(bits)
        self.module = ir.Module(symbol)

    def constant(self, value: Any) -> Typed:
        """A literal, in the kind that Numba gives it."""
        if isinstance(value, bool):
            return Typed("b1", self.types["b1"](int(value)))
        if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
            return Typed("i64" if value < 1 << 63 else "u64", self.word(value))
        if isinstance(value, float):
            return Typed("f64", self.types["f64"](value))
        raise Untranslated

    # -- operators
    def negated(self, value: Typed) -> Typed:
        """Minus a value."""
        if value.kind[0] == "f":
            return Typed(value.kind, self.builder.fneg(value.value))
        value = self.widened(value)
        return Typed(value.kind, self.builder.neg(value.value))

    def inverted(self, value: Typed) -> Typed:
        """The value with every bit turned."""
        value = self.widened(value)
        return Typed(value.kind, self.builder.not_(value.value))

    def binary(self, op: ast.operator, a: Typed, b: Typed) -> Typed:
        """An arithmetic or bitwise operator; integers are computed with 64 bits, as by Numba."""
        a, b = self.matched(a, b)
        builder = self.builder
        if a.kind == "b1":
            if not isinstance(op, (ast.BitAnd, ast.BitOr, ast.BitXor)):
                raise Untranslated
        elif a.kind[0] in "iu":
            a, b = self.widened(a), self.widened(b)
            if isinstance(op, (ast.FloorDiv, ast.Mod)):
                return self.divide(isinstance(op, ast.Mod), a, b)
            if isinstance(op, ast.RShift):
                return Typed(a.kind, (builder.ashr if a.kind[0] == "i" else builder.lshr)(a.value, b.value))
        names = _BINARY.get(type(op))
        method = names[a.kind[0] == "f"] if names is not None and a.kind not in PARTS else None
        if method is None:
            raise Untranslated
        return Typed(a.kind, getattr(builder, method)(a.value, b.value))

    def divide(self, remainder: bool, a: Typed, b: Typed) -> Typed:
        """Python's floor division and remainder; formulas have replaced divisors for which these are undefined."""
        builder = self.builder
        if a.kind[0] == "u":
            return Typed(a.kind, (builder.urem if remainder else builder.udiv)(a.value, b.value))
        rest = builder.srem(a.value, b.value)
        zero = self.word(0)
        apart = builder.icmp_signed("<", builder.xor(rest, b.value), zero)
        adjust = builder.and_(builder.icmp_signed("!=", rest, zero), apart)
        if remainder:
            return Typed(a.kind, builder.select(adjust, builder.add(rest, b.value), rest))
        quotient = builder.sdiv(a.value, b.value)
        return Typed(a.kind, builder.select(adjust, builder.sub(quotient, self.word(1)), quotient))

    def compare(self, op: ast.cmpop, a: Typed, b: Typed) -> Typed:
        """A comparison; with a NaN only ``!=`` is true."""
        sign = _COMPARE.get(type(op))
        a, b = self.matched(a, b)
        if sign is None or a.kind in PARTS:
            raise Untranslated
        builder = self.builder
        if a.kind[0] == "f":
            test = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        else:
            test = builder.icmp_signed if a.kind[0] == "i" else builder.icmp_unsigned
        return Typed("b1", test(sign, a.value, b.value))

    def matched(self, a: Typed, b: Typed) -> tuple[Typed, Typed]:
        """Both values in one kind."""
        if a.kind[0] == "*" or b.kind[0] == "*":
            raise Untranslated
        if a.kind == b.kind:
            return a, b
        if a.kind[0] == b.kind[0] and a.kind[0] in "iu":
            return self.widened(a), self.widened(b)
        raise Untranslated

    # -- conversions
    def widened(self, value: Typed) -> Typed:
        """An integer with 64 bits."""
        if value.kind[0] not in "iu":
            raise Untranslated
        return self.converted(value, value.kind[0] + "64")

    def as_index(self, value: Typed) -> Any:
        """The LLVM value of a signed integer that addresses or counts."""
        if value.kind[0] != "i":
            raise Untranslated
        return self.converted(value, "i64").value

    def converted(self, value: Typed, kind: str) -> Typed:
        """A value in another kind, by one conversion instruction."""
        if value.kind == kind:
            return value
        builder, wanted, given = self.builder, self.types[PARTS.get(kind, kind)], value.kind
        if kind in PARTS:
            part = PARTS[kind]
            pair = value.value if given in PARTS else (value.value, None)
            own = PARTS.get(given, given)
            real = self.converted(Typed(own, pair[0]), part).value
            imag = self.types[part](0.0) if pair[1] is None else self.converted(Typed(own, pair[1]), part).value
            return Typed(kind, (real, imag))
        if given in PARTS or given.startswith("*"):
            raise Untranslated
        number = value.value
        if kind == "b1":
            zero = number.type(0)
            is_float = given[0] == "f"
            result = (builder.fcmp_unordered if is_float else builder.icmp_unsigned)("!=", number, zero)
        elif given[0] == "f" and kind[0] == "f":
            result = (builder.fpext if int(kind[1:]) > int(given[1:]) else builder.fptrunc)(number, wanted)
        elif given[0] == "f":
            result = (builder.fptosi if kind[0] == "i" else builder.fptoui)(number, wanted)
        elif kind[0] == "f":
            result = (builder.sitofp if given[0] == "i" else builder.uitofp)(number, wanted)
        else:
            width, own_width = wanted.width, number.type.width
            if width == own_width:
                result = number
            elif width < own_width:
                result = builder.trunc(number, wanted)
            else:
                result = (builder.sext if given[0] == "i" else builder.zext)(number, wanted)
        return Typed(kind, result)

    # -- functions of the prelude
    def select(self, condition: Typed, chosen: Typed, other: Typed) -> Typed:
        """One of two values of one kind."""
        if chosen.kind != other.kind:
            raise Untranslated
        test = self.converted(condition, "b1").value
        if chosen.kind in PARTS:
            pair = tuple(self.builder.select(test, a, b) for a, b in zip(chosen.value, other.value, strict=True))
            return Typed(chosen.kind, pair)
        return Typed(chosen.kind, self.builder.select(test, chosen.value, other.value))

    def complex(self, re: Typed, im: Typed) -> Typed:
        """The complex number with these parts."""
        part = "f32" if re.kind == im.kind == "f32" else "f64"
        return Typed("c64" if part == "f32" else "c128", tuple(self.converted(v, part).value for v in (re, im)))

    def smaller(self, a: Typed, b: Typed) -> Typed:
        """Python's ``min`` of two signed integers."""
        a, b = self.matched(a, b)
        if a.kind[0] != "i":
            raise Untranslated
        return Typed(a.kind, self.builder.select(self.builder.icmp_signed("<", a.value, b.value), a.value, b.value))

    def recast_bits(self, value: Typed) -> Typed:
        """The bits of a float as an integer, or the other way round."""
        other = {"f32": "i32", "f64": "i64", "i32": "f32", "i64": "f64"}.get(value.kind)
        if other is None:
            raise Untranslated
        return Typed(other, self.builder.bitcast(value.value, self.types[other]))

    def rounded_to_f16(self, value: Typed) -> Typed:
        """A float32 rounded to float16."""
        if value.kind != "f32":
            raise Untranslated
        return Typed("f32", self.builder.fpext(self.builder.fptrunc(value.value, self.types["f16"]), self.types["f32"]))

    def int_power(self, a: Typed, b: Typed) -> Typed:
        """An integer to the power of another, modulo the width."""
        a, b = self.matched(a, b)
        if a.kind[0] not in "iu":
            raise Untranslated
        return Typed(a.kind, intrinsics.emit_int_power(self.builder, a.value, b.value))

    def combine(self, name: str, a: Typed, b: Typed) -> Typed:
        """A step of a sum or product: only ``reassoc``, so that lanes are allowed and NaN and infinity stay."""
        a, b = self.matched(a, b)
        builder, loose = self.builder, ("reassoc",)
        if a.kind[0] == "f":
            method = builder.fadd if name == "sum_add" else builder.fmul
            return Typed(a.kind, method(a.value, b.value, flags=loose))
        if a.kind in PARTS:
            (p, q), (r, s) = a.value, b.value
            if name == "sum_add":
                return Typed(a.kind, (builder.fadd(p, r, flags=loose), builder.fadd(q, s, flags=loose)))
            real = builder.fsub(builder.fmul(p, r), builder.fmul(q, s))
            return Typed(a.kind, (real, builder.fadd(builder.fmul(p, s), builder.fmul(q, r))))
        if a.kind == "b1":
            return Typed("b1", (builder.or_ if name == "sum_add" else builder.and_)(a.value, b.value))
        return Typed(a.kind, (builder.add if name == "sum_add" else builder.mul)(a.value, b.value))

    def extremum(self, name: str, a: Typed, b: Typed) -> Typed:
        """A step of a maximum or minimum; NaN stays."""
        a, b = self.matched(a, b)
        builder = self.builder
        if a.kind[0] == "f":
            return Typed(
                a.kind, self.intrinsic("llvm.maximum" if name == "nan_max" else "llvm.minimum", a.value, b.value)
            )
        if a.kind == "b1":
            return Typed("b1", (builder.or_ if name == "nan_max" else builder.and_)(a.value, b.value))
        if a.kind in PARTS:
            raise Untranslated
        test = builder.icmp_signed if a.kind[0] == "i" else builder.icmp_unsigned
        sign = ">" if name == "nan_max" else "<"
        return Typed(a.kind, builder.select(test(sign, a.value, b.value), a.value, b.value))

    def intrinsic(self, name: str, *values: Any) -> Any:
        """A call of LLVM's own function `name`."""
        word = values[0].type
        function = self.module.declare_intrinsic(name, [word], self.ir.FunctionType(word, [word] * len(values)))
        return self.builder.call(function, values)

    def mathematics(self, name: str, args: list[Typed]) -> Typed:
        """A function of the vector mathematics, by its name without ``vm_``."""
        kind = "f32" if all(a.kind == "f32" for a in args) else "f64"
        values = [self.converted(a, kind).value for a in args]
        arity = 2 if name in vmath.BINARY or name == "copysign" else 1
        if len(args) == arity and (name in _LLVM_UNARY or name == "copysign"):
            return Typed(kind, self.intrinsic(f"llvm.{name}", *values))
        if len(args) == arity and (name in vmath.UNARY or name in vmath.BINARY):
            return Typed(kind, vmath.emit_call(self.builder, name, kind, values))
        raise Untranslated

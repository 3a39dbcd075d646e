"""Generated kernels straight to LLVM IR: a small front end for the few forms of Python that the kernel printer writes.

The printed text stays the definition: Numba compiles the same text to the same results, and tests hold the two equal. But
Numba's type inference costs some 80 ms a kernel and half a second before the first one; this costs a few milliseconds and
does not import Numba. A text that uses anything else is not translated (`translate` returns None), and Numba takes it.
"""

from __future__ import annotations

import ast
import math
from typing import Any

from numgrad_kernels import intrinsics, vmath

_POINTERS = "f16 f32 f64 i8 i16 i32 i64 u8 u16 u32 u64 b1 c64 c128".split()
_PARTS = {"c64": "f32", "c128": "f64"}
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


class _Untranslated(Exception):
    """The text leaves the translated subset of Python."""


class _Typed:
    """A value: the short name of its dtype (or ``*dtype`` for a pointer), and its LLVM value (a pair for complex)."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: Any) -> None:
        self.kind, self.value = kind, value


def translate(source: str, symbol: str) -> str | None:
    """LLVM IR text that defines ``void symbol(int64 *args, int64 lo, int64 hi)``, or None if the text needs Numba.

    Parameters
    ----------
    source : str
        Text of ``def kernel(args, lo, hi)`` as the compiler's printer writes it.
    symbol : str
        The name of the function in the object code.

    Examples
    --------
    >>> from numgrad_kernels.translate import translate
    >>> text = "def kernel(args, lo, hi):\\n    p0 = as_f64(args[0])\\n    for i0 in range(lo, hi):\\n        p0[i0] = p0[i0] * 2.0\\n"
    >>> "fmul double" in translate(text, "k")
    True
    >>> translate("def kernel(args, lo, hi):\\n    print(lo)\\n", "k") is None
    True
    """
    try:
        return str(_Translator(symbol).module_of(ast.parse(source)))
    except _Untranslated:
        return None


class _Translator:
    def __init__(self, symbol: str) -> None:
        from llvmlite import ir

        self.ir = ir
        self.word = ir.IntType(64)
        self.types = {"f16": ir.HalfType(), "f32": ir.FloatType(), "f64": ir.DoubleType(), "b1": ir.IntType(1)}
        for bits in (8, 16, 32, 64):
            self.types[f"i{bits}"] = self.types[f"u{bits}"] = ir.IntType(bits)
        self.module = ir.Module(symbol)
        face = ir.FunctionType(ir.VoidType(), [self.word.as_pointer(), self.word, self.word])
        self.function = ir.Function(self.module, face, symbol)
        self.function.attributes.add("nounwind")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.names: dict[str, _Typed] = {}
        self.cells: dict[str, Any] = {}  # names assigned more than once: their stack slots
        self.often: set[str] = set()

    def module_of(self, tree: ast.Module) -> Any:
        function = tree.body[0]
        if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef):
            raise _Untranslated
        args, low, high = self.function.args
        self.names = {"args": _Typed("*i64", args), "lo": _Typed("i64", low), "hi": _Typed("i64", high)}
        self.often = _assigned_often(function)
        self.statements(function.body)
        self.builder.ret_void()
        return self.module

    # -- statements
    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                self.assign(statement.targets[0], statement.value)
            elif isinstance(statement, ast.For):
                self.loop(statement)
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                self.store_call(statement.value)
            else:
                raise _Untranslated

    def assign(self, target: ast.expr, expression: ast.expr) -> None:
        value = self.expression(expression)
        if isinstance(target, ast.Subscript):
            pointer, index = self.expression(target.value), self.expression(target.slice)
            self.store(pointer, index, value)
        elif isinstance(target, ast.Name):
            self.name(target.id, value)
        else:
            raise _Untranslated

    def name(self, name: str, value: _Typed) -> None:
        if name not in self.often:
            self.names[name] = value
            return
        if name not in self.cells:
            with self.builder.goto_entry_block():
                parts = value.value if value.kind in _PARTS else (value.value,)
                self.cells[name] = (value.kind, [self.builder.alloca(p.type) for p in parts])
        kind, cells = self.cells[name]
        value = self.converted(value, kind)
        for cell, part in zip(cells, value.value if kind in _PARTS else (value.value,), strict=True):
            self.builder.store(part, cell)

    def loop(self, statement: ast.For) -> None:
        call = statement.iter
        if not (isinstance(statement.target, ast.Name) and isinstance(call, ast.Call) and not statement.orelse
                and isinstance(call.func, ast.Name) and call.func.id == "range" and len(call.args) == 2):
            raise _Untranslated
        builder = self.builder
        low, high = (self.converted(self.expression(a), "i64").value for a in call.args)
        head, body, done = (self.function.append_basic_block(n) for n in ("head", "body", "done"))
        before = builder.block
        builder.cbranch(builder.icmp_signed("<", low, high), body, done)
        builder.position_at_end(body)
        counter = builder.phi(self.word)
        counter.add_incoming(low, before)
        self.names[statement.target.id] = _Typed("i64", counter)
        self.statements(statement.body)
        builder.branch(head)
        builder.position_at_end(head)
        following = builder.add(counter, self.word(1), flags=("nsw",))
        counter.add_incoming(following, head)
        builder.cbranch(builder.icmp_signed("<", following, high), body, done)
        builder.position_at_end(done)

    def store_call(self, call: ast.Call) -> None:
        if not isinstance(call.func, ast.Name) or call.func.id not in ("store_f16", "store_b1"):
            raise _Untranslated
        pointer, index, value = (self.expression(a) for a in call.args)
        self.store(pointer, index, self.converted(value, "f16" if call.func.id == "store_f16" else "b1"))

    # -- memory
    def place(self, pointer: _Typed, index: _Typed) -> Any:
        return self.builder.gep(pointer.value, [self.converted(index, "i64").value])

    def store(self, pointer: _Typed, index: _Typed, value: _Typed) -> None:
        kind, builder = pointer.kind[1:], self.builder
        place = self.place(pointer, index)
        value = self.converted(value, kind)
        if kind in _PARTS:
            for i, part in enumerate(value.value):
                builder.store(part, builder.gep(place, [self.ir.IntType(32)(0), self.ir.IntType(32)(i)]))
        elif kind == "b1":
            builder.store(builder.zext(value.value, self.ir.IntType(8)), place)
        else:
            builder.store(value.value, place)

    def load(self, pointer: _Typed, index: _Typed) -> _Typed:
        kind, builder = pointer.kind[1:], self.builder
        place = self.place(pointer, index)
        if kind in _PARTS:
            zero, one = (self.ir.IntType(32)(i) for i in (0, 1))
            return _Typed(kind, (builder.load(builder.gep(place, [zero, zero])), builder.load(builder.gep(place, [zero, one]))))
        loaded = builder.load(place)
        if kind == "b1":
            return _Typed("b1", builder.icmp_unsigned("!=", loaded, self.ir.IntType(8)(0)))
        if kind == "f16":
            return _Typed("f32", builder.fpext(loaded, self.types["f32"]))
        return _Typed(kind, loaded)

    def pointer(self, kind: str, address: _Typed) -> _Typed:
        if kind in _PARTS:
            part = self.types[_PARTS[kind]]
            pointee: Any = self.ir.LiteralStructType([part, part])
        else:
            pointee = self.ir.IntType(8) if kind == "b1" else self.types[kind]
        return _Typed(f"*{kind}", self.builder.inttoptr(address.value, pointee.as_pointer()))

    # -- expressions
    def expression(self, node: ast.expr) -> _Typed:
        if isinstance(node, ast.Name):
            return self.read(node.id)
        if isinstance(node, ast.Constant):
            return self.constant(node.value)
        if isinstance(node, ast.Subscript):
            return self.load(self.expression(node.value), self.expression(node.slice))
        if isinstance(node, ast.BinOp):
            return self.binary(node.op, self.expression(node.left), self.expression(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self.compare(node.ops[0], self.expression(node.left), self.expression(node.comparators[0]))
        if isinstance(node, ast.UnaryOp):
            return self.unary(node)
        if isinstance(node, ast.BoolOp):
            first, second = (self.expression(v) for v in node.values)
            join = self.builder.or_ if isinstance(node.op, ast.Or) else self.builder.and_
            return _Typed("b1", join(self.converted(first, "b1").value, self.converted(second, "b1").value))
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.call(node.func.id, [self.expression(a) for a in node.args])
        raise _Untranslated

    def read(self, name: str) -> _Typed:
        if name in self.cells:
            kind, cells = self.cells[name]
            parts = tuple(self.builder.load(c) for c in cells)
            return _Typed(kind, parts if kind in _PARTS else parts[0])
        if name not in self.names:
            raise _Untranslated
        return self.names[name]

    def constant(self, value: Any) -> _Typed:
        if isinstance(value, bool):
            return _Typed("b1", self.types["b1"](int(value)))
        if isinstance(value, int):
            return _Typed("i64" if value < 1 << 63 else "u64", self.word(value))
        if isinstance(value, float):
            return _Typed("f64", self.types["f64"](value))
        raise _Untranslated

    def attribute(self, node: ast.Attribute) -> _Typed:
        if isinstance(node.value, ast.Name) and node.value.id == "math":
            return self.constant(float(getattr(math, node.attr)))
        value = self.expression(node.value)
        if value.kind not in _PARTS or node.attr not in ("real", "imag"):
            raise _Untranslated
        return _Typed(_PARTS[value.kind], value.value[node.attr == "imag"])

    def unary(self, node: ast.UnaryOp) -> _Typed:
        value, builder = self.expression(node.operand), self.builder
        if isinstance(node.op, ast.Not):
            return _Typed("b1", builder.not_(self.converted(value, "b1").value))
        if isinstance(node.op, ast.Invert):
            value = self.widened(value)
            return _Typed(value.kind, builder.not_(value.value))
        if isinstance(node.op, ast.USub):
            if isinstance(node.operand, ast.Constant):
                return self.constant(-node.operand.value)
            if value.kind[0] == "f":
                return _Typed(value.kind, builder.fneg(value.value))
            if value.kind[0] in "iu":
                value = self.widened(value)
                return _Typed(value.kind, builder.neg(value.value))
        raise _Untranslated

    def binary(self, op: ast.operator, a: _Typed, b: _Typed) -> _Typed:
        a, b = self.matched(a, b)
        builder = self.builder
        if a.kind == "b1":
            if not isinstance(op, (ast.BitAnd, ast.BitOr, ast.BitXor)):
                raise _Untranslated
        elif a.kind[0] in "iu":
            a, b = self.widened(a), self.widened(b)
            if isinstance(op, (ast.FloorDiv, ast.Mod)):
                return self.divide(isinstance(op, ast.Mod), a, b)
            if isinstance(op, ast.RShift):
                return _Typed(a.kind, (builder.ashr if a.kind[0] == "i" else builder.lshr)(a.value, b.value))
        names = _BINARY.get(type(op))
        method = names[a.kind[0] == "f"] if names is not None and a.kind not in _PARTS else None
        if method is None:
            raise _Untranslated
        return _Typed(a.kind, getattr(builder, method)(a.value, b.value))

    def divide(self, remainder: bool, a: _Typed, b: _Typed) -> _Typed:
        """Python's floor division and remainder; formulas have replaced divisors for which these are undefined."""
        builder = self.builder
        if a.kind[0] == "u":
            return _Typed(a.kind, (builder.urem if remainder else builder.udiv)(a.value, b.value))
        rest = builder.srem(a.value, b.value)
        zero = self.word(0)
        apart = builder.icmp_signed("<", builder.xor(rest, b.value), zero)
        adjust = builder.and_(builder.icmp_signed("!=", rest, zero), apart)
        if remainder:
            return _Typed(a.kind, builder.select(adjust, builder.add(rest, b.value), rest))
        quotient = builder.sdiv(a.value, b.value)
        return _Typed(a.kind, builder.select(adjust, builder.sub(quotient, self.word(1)), quotient))

    def compare(self, op: ast.cmpop, a: _Typed, b: _Typed) -> _Typed:
        sign = _COMPARE.get(type(op))
        a, b = self.matched(a, b)
        if sign is None or a.kind in _PARTS:
            raise _Untranslated
        builder = self.builder
        if a.kind[0] == "f":
            test = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        else:
            test = builder.icmp_signed if a.kind[0] == "i" else builder.icmp_unsigned
        return _Typed("b1", test(sign, a.value, b.value))

    def matched(self, a: _Typed, b: _Typed) -> tuple[_Typed, _Typed]:
        if a.kind == b.kind:
            return a, b
        if a.kind[0] in "iu" and b.kind == "i64" and isinstance(b.value, self.ir.Constant):
            return a, self.converted(b, a.kind)
        if a.kind[0] == b.kind[0] and a.kind[0] in "iu":
            return self.widened(a), self.widened(b)
        raise _Untranslated

    def widened(self, value: _Typed) -> _Typed:
        return self.converted(value, value.kind[0] + "64")

    def converted(self, value: _Typed, kind: str) -> _Typed:
        if value.kind == kind:
            return value
        builder, wanted, given = self.builder, self.types.get(kind), value.kind
        if kind in _PARTS:
            part = _PARTS[kind]
            pair = value.value if given in _PARTS else (value.value, None)
            own = _PARTS.get(given, given)
            real = self.converted(_Typed(own, pair[0]), part).value
            imag = self.types[part](0.0) if pair[1] is None else self.converted(_Typed(own, pair[1]), part).value
            return _Typed(kind, (real, imag))
        if given in _PARTS or given.startswith("*"):
            raise _Untranslated
        number = value.value
        if kind == "b1":
            zero = number.type(0)
            result = builder.fcmp_unordered("!=", number, zero) if given[0] == "f" else builder.icmp_unsigned("!=", number, zero)
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
        return _Typed(kind, result)

    # -- calls
    def call(self, name: str, args: list[_Typed]) -> _Typed:
        builder = self.builder
        if name.startswith("as_") and name[3:] in _POINTERS:
            return self.pointer(name[3:], args[0])
        if name in self.types and name not in ("f16", "b1") or name in _PARTS:
            return self.converted(args[0], name)
        if name in ("load_f16", "load_b1"):
            return self.load(*args)
        if name == "min":
            a, b = self.matched(*args)
            return _Typed(a.kind, builder.select(builder.icmp_signed("<", a.value, b.value), a.value, b.value))
        if name == "select":
            return self.select(*args)
        if name == "complex":
            part = "f32" if all(a.kind == "f32" for a in args) else "f64"
            pair = tuple(self.converted(a, part).value for a in args)
            return _Typed("c64" if part == "f32" else "c128", pair)
        if name in ("sum_add", "prod_mul"):
            return self.combine(name, *args)
        if name in ("nan_max", "nan_min"):
            return self.extremum(name, *args)
        if name in ("float_bits", "bits_float"):
            other = {"f32": "i32", "f64": "i64", "i32": "f32", "i64": "f64"}[args[0].kind]
            return _Typed(other, builder.bitcast(args[0].value, self.types[other]))
        if name == "round_f16":
            return _Typed("f32", builder.fpext(builder.fptrunc(args[0].value, self.types["f16"]), self.types["f32"]))
        if name == "int_power":
            a, b = self.matched(*args)
            return _Typed(a.kind, intrinsics.emit_int_power(builder, a.value, b.value))
        if name.startswith("vm_"):
            return self.mathematics(name[3:], args)
        raise _Untranslated

    def select(self, condition: _Typed, chosen: _Typed, other: _Typed) -> _Typed:
        chosen, other = self.matched(chosen, other)
        test = self.converted(condition, "b1").value
        if chosen.kind in _PARTS:
            pair = tuple(self.builder.select(test, a, b) for a, b in zip(chosen.value, other.value, strict=True))
            return _Typed(chosen.kind, pair)
        return _Typed(chosen.kind, self.builder.select(test, chosen.value, other.value))

    def combine(self, name: str, a: _Typed, b: _Typed) -> _Typed:
        """A step of a sum or product: only ``reassoc``, so that lanes are allowed and NaN and infinity stay."""
        b = self.converted(b, a.kind)
        builder, loose = self.builder, ("reassoc",)
        if a.kind[0] == "f":
            method = builder.fadd if name == "sum_add" else builder.fmul
            return _Typed(a.kind, method(a.value, b.value, flags=loose))
        if a.kind in _PARTS:
            (p, q), (r, s) = a.value, b.value
            if name == "sum_add":
                return _Typed(a.kind, (builder.fadd(p, r, flags=loose), builder.fadd(q, s, flags=loose)))
            real = builder.fsub(builder.fmul(p, r), builder.fmul(q, s))
            return _Typed(a.kind, (real, builder.fadd(builder.fmul(p, s), builder.fmul(q, r))))
        if a.kind == "b1":
            return _Typed("b1", (builder.or_ if name == "sum_add" else builder.and_)(a.value, b.value))
        return _Typed(a.kind, (builder.add if name == "sum_add" else builder.mul)(a.value, b.value))

    def extremum(self, name: str, a: _Typed, b: _Typed) -> _Typed:
        b = self.converted(b, a.kind)
        builder = self.builder
        if a.kind[0] == "f":
            return _Typed(a.kind, self.intrinsic("llvm.maximum" if name == "nan_max" else "llvm.minimum", a.value, b.value))
        if a.kind == "b1":
            return _Typed("b1", (builder.or_ if name == "nan_max" else builder.and_)(a.value, b.value))
        if a.kind in _PARTS:
            raise _Untranslated
        test = builder.icmp_signed if a.kind[0] == "i" else builder.icmp_unsigned
        return _Typed(a.kind, builder.select(test(">" if name == "nan_max" else "<", a.value, b.value), a.value, b.value))

    def intrinsic(self, name: str, *values: Any) -> Any:
        word = values[0].type
        function = self.module.declare_intrinsic(name, [word], self.ir.FunctionType(word, [word] * len(values)))
        return self.builder.call(function, values)

    def mathematics(self, name: str, args: list[_Typed]) -> _Typed:
        kind = "f32" if all(a.kind == "f32" for a in args) else "f64"
        values = [self.converted(a, kind).value for a in args]
        if name in _LLVM_UNARY or name == "copysign":
            return _Typed(kind, self.intrinsic(f"llvm.{name}", *values))
        if name in vmath.UNARY or name in vmath.BINARY:
            return _Typed(kind, vmath.emit_call(self.builder, name, kind, values))
        raise _Untranslated


def _assigned_often(function: ast.FunctionDef) -> set[str]:
    """Names with more than one assignment in the text; loop counters are values of their own."""
    counts: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            counts[node.targets[0].id] = counts.get(node.targets[0].id, 0) + 1
    return {name for name, count in counts.items() if count > 1}

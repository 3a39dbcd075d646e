"""Generated kernels straight to LLVM IR: a small front end for the few forms of Python that the kernel printer writes.

The printed text stays the definition: Numba compiles the same text to the same results, and tests hold the two equal.
But Numba's type inference costs some 80 ms a kernel and half a second before the first one; this costs a few
milliseconds and does not import Numba. A text that uses anything else is not translated (`translate` returns None), and
Numba takes it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

from numgrad_kernels.independence import AccessGroup, independent
from numgrad_kernels.typed_ir import PARTS, Typed, Untranslated, Values

_POINTERS = "f16 f32 f64 i8 i16 i32 i64 u8 u16 u32 u64 b1 c64 c128".split()
_CASTS = frozenset(_POINTERS) - {"f16", "b1"}
_PARAMETERS = ["args", "lo", "hi"]
#: Functions of the prelude -> number of arguments.
_ARITY = {
    **dict.fromkeys("load_f16 load_b1 min complex sum_add prod_mul nan_max nan_min int_power".split(), 2),
    **dict.fromkeys("float_bits bits_float round_f16".split(), 1),
    "select": 3,
}


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
    >>> text = "def kernel(args, lo, hi):\\n    p = as_f64(args[0])\\n    p[lo] = p[hi] * 2.0\\n"
    >>> "fmul double" in translate(text, "k")
    True
    >>> translate("def kernel(args, lo, hi):\\n    print(lo)\\n", "k") is None
    True
    """
    translator = Translator(symbol)
    try:
        module = translator.module_of(ast.parse(source))
        return "".join([str(module), *translator.notes])
    except (Untranslated, SyntaxError):
        return None


class Translator(Values):
    """Writes the function of one kernel."""

    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        ir = self.ir
        face = ir.FunctionType(ir.VoidType(), [self.word.as_pointer(), self.word, self.word])
        self.function = ir.Function(self.module, face, symbol)
        self.function.attributes.add("nounwind")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.names: dict[str, Typed] = {}
        self.cells: dict[str, Any] = {}  # names assigned more than once: their stack slots
        self.often: set[str] = set()
        self.group: AccessGroup | None = None  # of the loop that is being translated, if its steps are independent
        self.notes: list[str] = []  # metadata that follows the module's text

    def module_of(self, tree: ast.Module) -> Any:
        function = tree.body[0] if len(tree.body) == 1 else None
        if not isinstance(function, ast.FunctionDef) or function.name != "kernel":
            raise Untranslated
        if ast.unparse(function.args) != ", ".join(_PARAMETERS):
            raise Untranslated
        args, low, high = self.function.args
        self.names = {"args": Typed("*i64", args), "lo": Typed("i64", low), "hi": Typed("i64", high)}
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
            elif isinstance(statement, ast.While) and not statement.orelse:
                self.repeat(statement)
            elif isinstance(statement, ast.If):
                self.choose(statement)
            elif isinstance(statement, ast.Pass):
                continue
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                self.store_call(statement.value)
            else:
                raise Untranslated

    def assign(self, target: ast.expr, expression: ast.expr) -> None:
        value = self.expression(expression)
        if isinstance(target, ast.Subscript):
            pointer, index = self.expression(target.value), self.expression(target.slice)
            self.store(pointer, index, value)
        elif isinstance(target, ast.Name):
            self.name(target.id, value)
        else:
            raise Untranslated

    def name(self, name: str, value: Typed) -> None:
        if name not in self.often:
            self.names[name] = value
            return
        if name not in self.cells:
            with self.builder.goto_entry_block():
                parts = value.value if value.kind in PARTS else (value.value,)
                self.cells[name] = (value.kind, [self.builder.alloca(p.type) for p in parts])
        kind, cells = self.cells[name]
        if value.kind != kind:
            raise Untranslated
        for cell, part in zip(cells, value.value if kind in PARTS else (value.value,), strict=True):
            self.builder.store(part, cell)

    def loop(self, statement: ast.For) -> None:
        call = statement.iter
        if not (
            isinstance(statement.target, ast.Name)
            and isinstance(call, ast.Call)
            and not statement.orelse
            and isinstance(call.func, ast.Name)
            and call.func.id == "range"
            and len(call.args) == 2
        ):
            raise Untranslated
        builder = self.builder
        low, high = (self.as_index(self.expression(a)) for a in call.args)
        head, body, done = (self.function.append_basic_block(n) for n in ("head", "body", "done"))
        before, outside = builder.block, dict(self.names)
        builder.cbranch(builder.icmp_signed("<", low, high), body, done)
        builder.position_at_end(body)
        counter = builder.phi(self.word)
        counter.add_incoming(low, before)
        self.names[statement.target.id] = Typed("i64", counter)
        group = AccessGroup(len(self.notes)) if independent(statement) else None
        self.group = group
        self.statements(statement.body)
        self.group = None
        builder.branch(head)
        builder.position_at_end(head)
        following = builder.add(counter, self.word(1), flags=("nsw",))
        counter.add_incoming(following, head)
        jump = builder.cbranch(builder.icmp_signed("<", following, high), body, done)
        if group is not None:
            self.notes.append(group.close(jump))
        builder.position_at_end(done)
        self.names = outside  # what the body named has no value where the loop ran no time

    def repeat(self, statement: ast.While) -> None:
        head, body, done = (self.function.append_basic_block(n) for n in ("test", "body", "done"))
        outside = dict(self.names)
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self.test(statement.test), body, done)
        self.builder.position_at_end(body)
        self.statements(statement.body)
        self.builder.branch(head)
        self.builder.position_at_end(done)
        self.names = outside

    def choose(self, statement: ast.If) -> None:
        yes, no, done = (self.function.append_basic_block(n) for n in ("yes", "no", "done"))
        outside = dict(self.names)
        self.builder.cbranch(self.test(statement.test), yes, no)
        for block, body in ((yes, statement.body), (no, statement.orelse)):
            self.builder.position_at_end(block)
            self.statements(body)
            self.builder.branch(done)
            self.names = dict(outside)
        self.builder.position_at_end(done)

    def test(self, expression: ast.expr) -> Any:
        """The bit that decides where to go on."""
        value = self.expression(expression)
        if value.kind != "b1":
            raise Untranslated
        return value.value

    def store_call(self, call: ast.Call) -> None:
        if not isinstance(call.func, ast.Name) or call.func.id not in ("store_f16", "store_b1") or len(call.args) != 3:
            raise Untranslated
        pointer, index, value = (self.expression(a) for a in call.args)
        kind = call.func.id.removeprefix("store_")
        if pointer.kind != f"*{kind}" or (kind == "f16" and value.kind != "f32"):
            raise Untranslated
        self.store(pointer, index, self.converted(value, kind))

    # -- memory
    def place(self, pointer: Typed, index: Typed) -> Any:
        if not pointer.kind.startswith("*"):
            raise Untranslated
        return self.builder.gep(pointer.value, [self.as_index(index)])

    def store(self, pointer: Typed, index: Typed, value: Typed) -> None:
        kind, builder = pointer.kind[1:], self.builder
        place = self.place(pointer, index)
        value = self.converted(value, kind)
        if kind in PARTS:
            for i, part in enumerate(value.value):
                self.marked(builder.store(part, builder.gep(place, [self.ir.IntType(32)(0), self.ir.IntType(32)(i)])))
        elif kind == "b1":
            self.marked(builder.store(builder.zext(value.value, self.ir.IntType(8)), place))
        else:
            self.marked(builder.store(value.value, place))

    def marked(self, access: Any) -> Any:
        """A load or store, in the group of the loop around it."""
        if self.group is not None:
            self.group.mark(access)
        return access

    def load(self, pointer: Typed, index: Typed) -> Typed:
        kind, builder = pointer.kind[1:], self.builder
        place = self.place(pointer, index)
        if kind in PARTS:
            zero, one = (self.ir.IntType(32)(i) for i in (0, 1))
            parts = [self.marked(builder.load(builder.gep(place, [zero, part]))) for part in (zero, one)]
            return Typed(kind, tuple(parts))
        loaded = self.marked(builder.load(place))
        if kind == "b1":
            return Typed("b1", builder.icmp_unsigned("!=", loaded, self.ir.IntType(8)(0)))
        if kind == "f16":
            return Typed("f32", builder.fpext(loaded, self.types["f32"]))
        return Typed(kind, loaded)

    def pointer(self, kind: str, address: Typed) -> Typed:
        if kind in PARTS:
            part = self.types[PARTS[kind]]
            pointee: Any = self.ir.LiteralStructType([part, part])
        else:
            pointee = self.ir.IntType(8) if kind == "b1" else self.types[kind]
        return Typed(f"*{kind}", self.builder.inttoptr(self.as_index(address), pointee.as_pointer()))

    # -- expressions
    def expression(self, node: ast.expr) -> Typed:
        if isinstance(node, ast.Name):
            return self.read(node.id)
        if isinstance(node, ast.Constant):
            return self.constant(node.value)
        if isinstance(node, ast.Subscript):
            pointer = self.expression(node.value)
            if pointer.kind in ("*f16", "*b1"):  # storage without arithmetic of its own
                raise Untranslated
            return self.load(pointer, self.expression(node.slice))
        if isinstance(node, ast.BinOp):
            return self.binary(node.op, self.expression(node.left), self.expression(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self.compare(node.ops[0], self.expression(node.left), self.expression(node.comparators[0]))
        if isinstance(node, ast.UnaryOp):
            return self.unary(node)
        if isinstance(node, ast.BoolOp) and len(node.values) == 2:
            first, second = (self.expression(v) for v in node.values)
            if first.kind != "b1" or second.kind != "b1":
                raise Untranslated
            join = self.builder.or_ if isinstance(node.op, ast.Or) else self.builder.and_
            return Typed("b1", join(first.value, second.value))
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.call(node.func.id, [self.expression(a) for a in node.args])
        raise Untranslated

    def read(self, name: str) -> Typed:
        if name in self.cells:
            kind, cells = self.cells[name]
            parts = tuple(self.builder.load(c) for c in cells)
            return Typed(kind, parts if kind in PARTS else parts[0])
        if name not in self.names:
            raise Untranslated
        return self.names[name]

    def attribute(self, node: ast.Attribute) -> Typed:
        if isinstance(node.value, ast.Name) and node.value.id == "math":
            return self.constant(getattr(math, node.attr, None))
        value = self.expression(node.value)
        if value.kind not in PARTS or node.attr not in ("real", "imag"):
            raise Untranslated
        return Typed(PARTS[value.kind], value.value[node.attr == "imag"])

    def unary(self, node: ast.UnaryOp) -> Typed:
        if (
            isinstance(node.op, ast.USub)
            and isinstance(node.operand, ast.Constant)
            and not isinstance(node.operand.value, bool)
        ):
            number = node.operand.value
            return self.constant(-number if isinstance(number, (int, float)) else None)
        value = self.expression(node.operand)
        if isinstance(node.op, ast.Not):
            return Typed("b1", self.builder.not_(self.converted(value, "b1").value))
        if isinstance(node.op, ast.Invert):
            return self.inverted(value)
        if isinstance(node.op, ast.USub):
            return self.negated(value)
        raise Untranslated

    def call(self, name: str, args: list[Typed]) -> Typed:
        if len(args) == 1 and name.startswith("as_") and name[3:] in _POINTERS:
            return self.pointer(name[3:], args[0])
        if len(args) == 1 and name in _CASTS:
            return self.converted(args[0], name)
        if name.startswith("vm_"):
            return self.mathematics(name[3:], args)
        if _ARITY.get(name) != len(args):
            raise Untranslated
        if name.startswith("load_"):
            if args[0].kind != f"*{name[5:]}":
                raise Untranslated
            return self.load(*args)
        if name in ("sum_add", "prod_mul"):
            return self.combine(name, *args)
        if name in ("nan_max", "nan_min"):
            return self.extremum(name, *args)
        if name in ("float_bits", "bits_float"):
            return self.recast_bits(args[0])
        methods: dict[str, Callable[..., Typed]] = {
            "min": self.smaller,
            "select": self.select,
            "complex": self.complex,
            "int_power": self.int_power,
            "round_f16": self.rounded_to_f16,
        }
        return methods[name](*args)


def _assigned_often(function: ast.FunctionDef) -> set[str]:
    """Names with more than one assignment in the text; loop counters and parameters are values of their own."""
    counts: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            counts[node.targets[0].id] = counts.get(node.targets[0].id, 0) + 1
    counters = {n.target.id for n in ast.walk(function) if isinstance(n, ast.For) and isinstance(n.target, ast.Name)}
    if counts.keys() & (counters | set(_PARAMETERS)):
        raise Untranslated
    return {name for name, count in counts.items() if count > 1}

"""Hand-written kernels straight to LLVM IR: the front end of `translate` for the Python that library kernels use.

Beyond what printed kernels hold these have branches, loops of every kind, helper functions (put where they are called),
values of the factory around them, complex arithmetic, and calls of BLAS and LAPACK. What is not known here makes
`translate_library` return None, and Numba compiles the same kernel.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import textwrap
from collections import Counter
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from numgrad_kernels.library_ir import LibraryValues, parts_of
from numgrad_kernels.symbols import Routine, Symbol, symbolic
from numgrad_kernels.typed_ir import PARTS, Typed, Untranslated

_MATHEMATICS = frozenset("log exp sqrt".split())


def translate_library(factory: Callable[..., Any], dtypes: tuple[np.dtype[Any], ...], symbol: str) -> str | None:
    """LLVM IR text of the kernel that a factory makes for these dtypes, or None if it needs Numba.

    Examples
    --------
    >>> import numpy as np
    >>> from numgrad_kernels.library import find
    >>> from numgrad_kernels.translate_library import translate_library
    >>> "ng_blas_dgemm" in translate_library(find("matmul").factory, (np.dtype("f8"),) * 3, "k")
    True
    """
    try:
        with symbolic():
            return str(_LibraryTranslator(symbol).module_for(factory(*dtypes)))
    except (Untranslated, OSError):  # OSError: the kernel's text is not at hand
        return None


class _Frame:
    """What one function body sees: its names, the values around it, and where `return` leads."""

    def __init__(self, function: FunctionType, exit_block: Any) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        if not isinstance(tree, ast.FunctionDef):
            raise Untranslated
        self.tree = tree
        self.often = {name for name, count in _assignments(tree).items() if count > 1}
        self.around = dict(vars(builtins)) | function.__globals__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.around[name] = cell.cell_contents
        self.names: dict[str, Typed] = {}
        self.cells: dict[str, Any] = {}
        self.exit = exit_block
        self.result: tuple[str, list[Any]] | None = None


def _assignments(tree: ast.FunctionDef) -> Counter[str]:
    """How often each name is set: parameters count, and so does changing a name in place, twice."""
    counts = Counter(a.arg for a in tree.args.args)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                stored = (n for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
                counts.update(n.id for n in stored)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            counts[node.target.id] += 2
    return counts


class _LibraryTranslator(LibraryValues):
    frame: _Frame

    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        self.loops: list[tuple[Any, Any]] = []  # where `continue` and `break` lead

    def module_for(self, kernel: FunctionType) -> Any:
        args, low, high = self.function.args
        self.inline(kernel, [Typed("*i64", args), Typed("i64", low), Typed("i64", high)])
        self.builder.ret_void()
        return self.module

    def inline(self, function: FunctionType, given: list[Typed]) -> Typed | None:
        """Put a function's body here; what it returns."""
        before, names, loops = getattr(self, "frame", None), self.names, self.loops
        self.enter(_Frame(function, self.function.append_basic_block("exit")))
        self.loops = []
        frame = self.frame
        if len(given) != function.__code__.co_argcount or function.__code__.co_kwonlyargcount:
            raise Untranslated
        for parameter, value in zip(frame.tree.args.args, given, strict=True):
            self.name(parameter.arg, value)
        self.statements(frame.tree.body)
        self.go(frame.exit)
        self.builder.position_at_end(frame.exit)
        self.loops = loops
        if before is not None:
            self.enter(before)
            self.names = names
        return None if frame.result is None else self.from_cells(*frame.result)

    def enter(self, frame: _Frame) -> None:
        self.frame, self.cells, self.often = frame, frame.cells, frame.often
        self.names = frame.names

    # -- names
    def cells_for(self, kind: str, value: Any) -> list[Any]:
        with self.builder.goto_entry_block():
            return [self.builder.alloca(part.type) for part in parts_of(kind, value)]

    def fill(self, cells: list[Any], value: Typed) -> None:
        for cell, part in zip(cells, parts_of(value.kind, value.value), strict=True):
            self.builder.store(part, cell)

    def from_cells(self, kind: str, cells: list[Any]) -> Typed:
        parts = tuple(self.builder.load(cell) for cell in cells)
        return Typed(kind, parts if kind in PARTS else parts[0])

    def name(self, name: str, value: Typed) -> None:
        value = self.kept(value)
        if name not in self.often:
            self.names[name] = value
            return
        if name not in self.cells:
            self.cells[name] = (value.kind, self.cells_for(value.kind, value.value))
        kind, cells = self.cells[name]
        if value.kind != kind:
            raise Untranslated
        self.fill(cells, value)

    def kept(self, value: Typed | None) -> Typed:
        """A value as a name holds it: integers have 64 bits."""
        if value is None:
            raise Untranslated
        return self.widened(value) if value.kind[0] in "iu" else value

    def read(self, name: str) -> Typed:
        if name in self.cells:
            return self.from_cells(*self.cells[name])
        if name in self.names:
            return self.names[name]
        return self.constant(self.frame.around.get(name))

    def fixed(self, test: ast.expr) -> bool | None:
        """The truth of a condition that the factory has decided, or None."""
        if isinstance(test, ast.Name) and test.id not in self.names and test.id not in self.cells:
            value = self.frame.around.get(test.id)
            return value if isinstance(value, bool) else None
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            value = self.fixed(test.operand)
            return None if value is None else not value
        return None

    # -- statements
    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                self.assign(statement.targets[0], statement.value)
            elif isinstance(statement, ast.AugAssign):
                self.assign(statement.target, ast.BinOp(_loaded(statement.target), statement.op, statement.value))
            elif isinstance(statement, ast.For):
                self.loop(statement)
            elif isinstance(statement, ast.While):
                self.repeat(statement)
            elif isinstance(statement, ast.If):
                self.choose(statement)
            elif isinstance(statement, ast.Expr):
                if isinstance(statement.value, ast.Call):
                    self.called(statement.value)
            elif isinstance(statement, ast.Return):
                self.leave(statement.value)
                return
            elif isinstance(statement, (ast.Break, ast.Continue)):
                self.go(self.loops[-1][isinstance(statement, ast.Break)])
                return
            else:
                raise Untranslated

    def go(self, block: Any) -> None:
        """Branch, unless the block has ended already."""
        if not self.builder.block.is_terminated:
            self.builder.branch(block)

    def assign(self, target: ast.expr, expression: ast.expr) -> None:
        if not isinstance(target, ast.Tuple):
            super().assign(target, expression)
            return
        if isinstance(expression, ast.IfExp) and isinstance(expression.body, ast.Tuple):
            if not isinstance(expression.orelse, ast.Tuple):
                raise Untranslated
            arms = zip(expression.body.elts, expression.orelse.elts, strict=True)
            expression = ast.Tuple([ast.IfExp(expression.test, a, b) for a, b in arms], ast.Load())
        if not isinstance(expression, ast.Tuple):
            raise Untranslated
        values = [self.expression(e) for e in expression.elts]
        for part, value in zip(target.elts, values, strict=True):
            if not isinstance(part, ast.Name):
                raise Untranslated
            self.name(part.id, value)

    def leave(self, expression: ast.expr | None) -> None:
        frame = self.frame
        if expression is not None:
            value = self.kept(self.expression(expression))
            if frame.result is None:
                frame.result = (value.kind, self.cells_for(value.kind, value.value))
            if frame.result[0] != value.kind:
                raise Untranslated
            self.fill(frame.result[1], value)
        self.go(frame.exit)

    def inside(self, body: list[ast.stmt], following: Any) -> None:
        """A body whose names do not outlive it, and where it leads."""
        outside = dict(self.names)
        self.statements(body)
        self.go(following)
        self.names = outside

    def choose(self, statement: ast.If) -> None:
        decided = self.fixed(statement.test)
        if decided is not None:
            self.statements(statement.body if decided else statement.orelse)
            return
        yes, no, done = (self.function.append_basic_block(n) for n in ("yes", "no", "done"))
        self.builder.cbranch(self.truth(statement.test), yes, no)
        for block, body in ((yes, statement.body), (no, statement.orelse)):
            self.builder.position_at_end(block)
            self.inside(body, done)
        self.builder.position_at_end(done)

    def repeat(self, statement: ast.While) -> None:
        if statement.orelse:
            raise Untranslated
        test, body, done = (self.function.append_basic_block(n) for n in ("test", "body", "done"))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self.truth(statement.test), body, done)
        self.builder.position_at_end(body)
        self.loops.append((test, done))
        self.inside(statement.body, test)
        self.loops.pop()
        self.builder.position_at_end(done)

    def loop(self, statement: ast.For) -> None:
        call, target = statement.iter, statement.target
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"
                and isinstance(target, ast.Name) and target.id not in self.often and not statement.orelse):
            raise Untranslated
        bounds = [self.as_index(self.expression(a)) for a in call.args[:2]]
        low, high = (self.word(0), bounds[0]) if len(bounds) == 1 else bounds
        step = ast.literal_eval(call.args[2]) if len(call.args) == 3 else 1
        if step not in (1, -1):
            raise Untranslated
        builder, order = self.builder, "<" if step == 1 else ">"
        following, body, done = (self.function.append_basic_block(n) for n in ("next", "body", "done"))
        before = builder.block
        builder.cbranch(builder.icmp_signed(order, low, high), body, done)
        builder.position_at_end(body)
        counter = builder.phi(self.word)
        counter.add_incoming(low, before)
        outside = dict(self.names)
        self.names[target.id] = Typed("i64", counter)
        self.loops.append((following, done))
        self.inside(statement.body, following)
        self.loops.pop()
        self.names = outside
        builder.position_at_end(following)
        moved = builder.add(counter, self.word(step), flags=("nsw",))
        counter.add_incoming(moved, following)
        builder.cbranch(builder.icmp_signed(order, moved, high), body, done)
        builder.position_at_end(done)

    # -- expressions
    def expression(self, node: ast.expr) -> Typed:
        if isinstance(node, ast.Call):
            return self.kept_kind(self.called(node))
        if isinstance(node, ast.IfExp):
            return self.either(node)
        if isinstance(node, ast.BoolOp):
            return self.joined(isinstance(node.op, ast.Or), node.values)
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            pairs = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
            return self.joined(False, [ast.Compare(a, [op], [b]) for a, op, b in pairs])
        return super().expression(node)

    def kept_kind(self, value: Typed | None) -> Typed:
        if value is None:
            raise Untranslated
        return value

    def truth(self, node: ast.expr) -> Any:
        return self.converted(self.expression(node), "b1").value

    def either(self, node: ast.IfExp) -> Typed:
        decided = self.fixed(node.test)
        if decided is not None:
            return self.expression(node.body if decided else node.orelse)
        return self.merged(self.truth(node.test), lambda: self.expression(node.body),
                           lambda: self.expression(node.orelse))  # fmt: skip

    def merged(self, test: Any, chosen: Callable[[], Typed], other: Callable[[], Typed]) -> Typed:
        """One of two values, of which only that one is computed."""
        yes, no, done = (self.function.append_basic_block(n) for n in ("yes", "no", "done"))
        self.builder.cbranch(test, yes, no)
        cells: tuple[str, list[Any]] | None = None
        for block, make in ((yes, chosen), (no, other)):
            self.builder.position_at_end(block)
            value = self.kept(make())
            if cells is None:
                cells = (value.kind, self.cells_for(value.kind, value.value))
            if value.kind != cells[0]:
                raise Untranslated
            self.fill(cells[1], value)
            self.builder.branch(done)
        self.builder.position_at_end(done)
        assert cells is not None
        return self.from_cells(*cells)

    def joined(self, is_or: bool, values: list[ast.expr]) -> Typed:
        """`and` or `or`, which looks at a value only if it has to."""
        first = self.truth(values[0])
        if len(values) == 1:
            return Typed("b1", first)
        settled = Typed("b1", self.types["b1"](int(is_or)))
        rest = lambda: self.joined(is_or, values[1:])  # noqa: E731
        return self.merged(first, *((lambda: settled, rest) if is_or else (rest, lambda: settled)))

    def attribute(self, node: ast.Attribute) -> Typed:
        if isinstance(node.value, ast.Name) and self.around(node.value.id) is math:
            return self.constant(getattr(math, node.attr, None))
        value = self.expression(node.value)
        if value.kind[0] == "f" and node.attr == "real":
            return value
        if value.kind not in PARTS or node.attr not in ("real", "imag"):
            raise Untranslated
        return Typed(PARTS[value.kind], value.value[node.attr == "imag"])

    def around(self, name: str) -> Any:
        """A value of the factory or of Python, unless the kernel uses the name itself."""
        return None if name in self.names or name in self.cells else self.frame.around.get(name)

    # -- calls
    def called(self, node: ast.Call) -> Typed | None:
        if node.keywords:
            raise Untranslated
        function = node.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if self.around(function.value.id) is not math or function.attr not in _MATHEMATICS:
                raise Untranslated
            (value,) = (self.expression(a) for a in node.args)
            if value.kind not in ("f32", "f64"):
                raise Untranslated
            return Typed(value.kind, self.intrinsic(f"llvm.{function.attr}", value.value))
        if not isinstance(function, ast.Name):
            raise Untranslated
        target = self.around(function.id)
        args = [self.expression(a) for a in node.args]
        if isinstance(target, Symbol):
            return self.symbol(target.name, args)
        if isinstance(target, Routine):
            return self.routine(target, args)
        if isinstance(target, FunctionType):
            return self.inline(target, args)
        if target is min or target is max:
            return self.least_or_greatest(target is min, *args)
        if target is complex:
            return self.complex(*args)
        if target is abs and args[0].kind in ("f32", "f64"):
            return self.mathematics("fabs", args)
        raise Untranslated

def _loaded(target: ast.expr) -> ast.expr:
    """The expression that reads what an assignment changes in place."""
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    raise Untranslated

"""Print loops and branches over scalars as a Python kernel: scopes, and in which of them each value is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from numgrad.compiler.printer_numba import short_name

__all__ = ["LoopText", "Scope"]

INT = np.dtype(np.int64)


class Scope:
    """A block of statements: the kernel's own, the body of a loop, or a branch.

    `depth` counts the loops around it, `level` the scopes. `tail` is what runs last, in order.
    """

    __slots__ = ("depth", "level", "parent", "statements", "tail")

    def __init__(self, parent: Scope | None, looping: bool) -> None:
        self.parent = parent
        self.level: int = 0 if parent is None else parent.level + 1
        self.depth: int = (0 if parent is None else parent.depth) + looping
        self.statements: list[tuple[int, int, list[str | Scope]]] = []
        self.tail: list[str | Scope] = []


class LoopText:
    """The text of a kernel in the making.

    All scopes write into one block of scalar instructions, where equal ones are one. They have no side effects, so
    each may stand in any scope between that of its operands and the innermost one around its uses. Of these the one in
    the fewest loops is taken, and among them the innermost: what does not change moves out of loops, what only a branch
    needs is computed there.
    """

    def __init__(self, scalar: Any) -> None:
        self.scalar, self.block = scalar, scalar.Block()
        self.root = self.scope = Scope(None, False)
        self._homes: dict[int, Scope] = {}  # of named values: the scope that gives them their value
        self._definitions: dict[int, tuple[str, tuple[Any, ...]]] = {}
        self._uses: dict[int, Scope] = {}  # the innermost scope around all uses
        self._names = 0

    # -- values
    def fresh(self, letter: str) -> str:
        """A new name."""
        self._names += 1
        return f"{letter}{self._names}"

    def named(self, name: str, dtype: Any) -> Any:
        """The value of a variable that a statement before this point of the current scope has set."""
        value = self.block.input(name, dtype)
        self._homes[value.index] = self.scope
        return value

    def defined(self, dtype: Any, text: str, *operands: Any) -> Any:
        """The value of an expression; `text` holds ``{}`` for each operand."""
        value = self.named(self.fresh("x"), dtype)
        self._definitions[value.index] = (text, operands)
        return value

    def load(self, pointer: str, dtype: np.dtype[Any], index: Any) -> Any:
        """An element of a buffer that nothing writes within reach of this scope."""
        if isinstance(index, int):
            index = self.block.const(index, INT)
        text = f"load_{short_name(dtype)}({pointer}, {{}})" if _stored_apart(dtype) else f"{pointer}[{{}}]"
        return self.defined(dtype, text, index)

    def integer(self, op: str, a: Any, b: Any) -> Any:
        """``add``, ``sub`` or ``mul`` of two 64-bit integers, which may be Python integers."""
        neutral = int(op == "mul")
        if isinstance(b, int) and b == neutral:
            return a
        if isinstance(a, int) and a == neutral and op != "sub":
            return b
        a, b = (self.block.const(v, INT) if isinstance(v, int) else v for v in (a, b))
        return self.block.emit(op, INT, a, b)

    def spelled(self, value: Any) -> str:
        """The text of a value that a statement of the current scope uses."""
        self._use(value, self.scope)
        return str(self.scalar.spell(value))

    def _use(self, value: Any, scope: Scope) -> None:
        known = self._uses.get(value.index)
        self._uses[value.index] = scope if known is None else _around(known, scope)

    # -- statements
    def storing(self, pointer: str, dtype: np.dtype[Any], index: Any, value: Any) -> str:
        """A statement of the current scope that writes to a buffer."""
        place, text = index if isinstance(index, int) else self.spelled(index), self.spelled(value)
        if _stored_apart(dtype):
            return f"store_{short_name(dtype)}({pointer}, {place}, {text})"
        return f"{pointer}[{place}] = {text}"

    @contextmanager
    def inside(self, looping: bool) -> Iterator[Scope]:
        """A new scope, current within the with statement; its place in the text is for `put` or a tail."""
        outside, self.scope = self.scope, Scope(self.scope, looping)
        try:
            yield self.scope
        finally:
            self.scope = outside

    def put(self, parts: Sequence[str | Scope]) -> None:
        """Add a compound statement to the current scope: after all values so far, before all values to come."""
        self.scope.statements.append((len(self.block.values), 0, list(parts)))

    def finish(self, target: str = "cpu") -> list[str]:
        """The lines of the text; nothing may be added afterwards."""
        early = self._earliest()
        for value in reversed(self.block.values):
            late = self._uses.get(value.index)
            if late is None:
                continue
            chosen = scope = late
            while scope is not early[value.index]:
                assert scope.parent is not None
                scope = scope.parent
                if scope.depth < chosen.depth:
                    chosen = scope
            text, operands = self._definitions.get(value.index, (None, value.args))
            for operand in operands:
                self._use(operand, chosen)
            if text is not None:
                line = f"{self.scalar.spell(value)} = {text.format(*map(self.scalar.spell, operands))}"
            else:
                line = self.scalar.print_value(value, target)
            if line:
                chosen.statements.append((value.index, 1, [line]))
        return _lines(self.root, "")

    def _earliest(self) -> dict[int, Scope]:
        """For each value the outermost scope in which its operands are known."""
        early: dict[int, Scope] = {}
        for value in self.block.values:
            _, operands = self._definitions.get(value.index, ("", value.args))
            scopes = [early[o.index] for o in operands]
            if value.index in self._homes:
                scopes.append(self._homes[value.index])
            early[value.index] = max(scopes, key=lambda s: s.level, default=self.root)
        return early


def _stored_apart(dtype: np.dtype[Any]) -> bool:
    return dtype == np.float16 or dtype.kind == "b"


def _around(a: Scope, b: Scope) -> Scope:
    """The innermost scope around two."""
    while a is not b:
        if a.level < b.level:
            a, b = b, a
        assert a.parent is not None
        a = a.parent
    return a


def _lines(scope: Scope, indent: str) -> list[str]:
    ordered = sorted(scope.statements, key=lambda s: s[:2])
    result: list[str] = []
    for part in (*(p for _, _, parts in ordered for p in parts), *scope.tail):
        result += [indent + part] if isinstance(part, str) else _lines(part, indent + "    ")
    return result or [indent + "pass"]

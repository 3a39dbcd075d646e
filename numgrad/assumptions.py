"""What was found out about the unknown sizes of one graph: which are equal, and the guards of a trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from numgrad.errors import SourceLine, at, user_line
from numgrad.sizes import SIGNS, Dim, Size, Symbol, canonical, lone_symbol, same_size

__all__ = ["Guard", "ShapeEnv"]


class Guard(NamedTuple):
    """A relation between sizes that held while tracing and must hold for a call to use the trace."""

    left: Dim
    sign: str
    right: Dim
    where: SourceLine | None

    def symbols(self) -> Iterable[Any]:
        """The unknown sizes that it is about."""
        for side in (self.left, self.right):
            if isinstance(side, Size):
                yield from side.symbols()

    def holds(self, values: Mapping[Any, int]) -> bool:
        left, right = (x if isinstance(x, int) else x.evaluate(values) for x in (self.left, self.right))
        return SIGNS[self.sign](left, right)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}{at(self.where)}"


class ShapeEnv:
    """The unknown sizes of one graph, what was found equal among them, and the guards of a trace."""

    def __init__(self) -> None:
        self.symbols: list[Symbol] = []
        self.named: dict[str, Size] = {}
        self.guards: list[Guard] = []
        self.counted: list[Symbol] = []

    def fresh(self, name: str | None = None, hint: int | None = None) -> Size:
        """A new unknown size; the same named size for a name used before."""
        if name is not None and name in self.named:
            return self.named[name]
        symbol = Symbol(self, name, hint, len(self.symbols))
        self.symbols.append(symbol)
        size = Size((((symbol,), 1),))
        if name is not None:
            self.named[name] = size
        return size

    def count(self, size: Size, source: Any) -> None:
        """Let a size take the value that the tensor `source` has when the program runs."""
        symbol = lone_symbol(size)
        assert symbol is not None
        symbol.source = source
        self.counted.append(symbol)

    def hint(self, dim: Dim) -> int | None:
        """The value of a size in the call being traced, or None."""
        if isinstance(dim, int):
            return dim
        values: dict[Any, int] = {}
        for symbol in dim.symbols():
            if symbol.hint is None:
                return None
            values[symbol] = symbol.hint
        return dim.evaluate(values)

    def guard(self, left: Dim, sign: str, right: Dim) -> None:
        """Record that `left sign right` was relied upon."""
        self.guards.append(Guard(left, sign, right, user_line()))

    def unify(self, a: Dim, b: Dim) -> Dim | None:
        """Take two sizes as equal from here on (checked at every call); None when they cannot be."""
        a, b = canonical(a), canonical(b)
        if same_size(a, b):
            return a
        if isinstance(a, int) and isinstance(b, int):
            return None
        hints = self.hint(a), self.hint(b)
        if None not in hints and hints[0] != hints[1]:
            return None
        self.guard(a, "==", b)
        for one, other in ((a, b), (b, a)):
            symbol = lone_symbol(one)
            if symbol is not None and not (isinstance(other, Size) and symbol in set(other.symbols())):
                if isinstance(other, Size) and symbol.name is not None and lone_symbol(other) is not None:
                    continue  # keep the named one of two as the representative
                symbol.bound = other
                return other
        found = _solved(a - b)
        if found is not None:
            symbol, value = found
            symbol.bound = value
        return canonical(a)


def _solved(difference: Dim) -> tuple[Symbol, Dim] | None:
    """A symbol that occurs once, alone, in a size that is zero, and what it is then: ``k - 4n`` gives k and ``4n``."""
    found = None
    for monomial, coefficient in difference.terms if isinstance(difference, Size) else ():
        if abs(coefficient) == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            value = Size(((monomial, 1),)) - coefficient * difference
            if not (isinstance(value, Size) and monomial[0] in set(value.symbols())):
                found = monomial[0], value
                if monomial[0].name is None:
                    break  # a name is kept where there is a choice
    return found

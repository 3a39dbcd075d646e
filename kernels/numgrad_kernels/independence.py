"""Loops whose steps are independent of each other, found in the text of generated kernels, and how LLVM is told so.

Without it LLVM compares the bounds of all arrays before the loop runs, and leaves loops alone that touch many.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

__all__ = ["AccessGroup", "independent"]

_STORES = ("store_f16", "store_b1")
_LOADS = ("load_f16", "load_b1")


class _Node:
    """A node of metadata by its number: llvmlite writes none that refer to themselves, as those of loops must."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_reference(self) -> str:
        """What an instruction writes."""
        return f"!{self.number}"


class AccessGroup:
    """Metadata for one loop: marks its accesses to memory and its jump back, as text for the module's end."""

    FIRST = 1_000_000  # llvmlite numbers its own nodes from 0

    def __init__(self, index: int) -> None:
        self._group, self._loop, self._fact = (_Node(self.FIRST + 3 * index + k) for k in range(3))

    def mark(self, access: Any) -> None:
        """Enter a load or store into the group."""
        access.set_metadata("llvm.access.group", self._group)

    def close(self, jump: Any) -> str:
        """Say at the loop's jump back that no step waits for another one's accesses; the text of the nodes."""
        jump.set_metadata("llvm.loop", self._loop)
        group, loop, fact = (n.get_reference() for n in (self._group, self._loop, self._fact))
        return (
            f"{group} = distinct !{{}}\n"
            f"{loop} = distinct !{{{loop}, {fact}}}\n"
            f'{fact} = !{{!"llvm.loop.parallel_accesses", {group}}}\n'
        )


def independent(loop: ast.For) -> bool:
    """Whether no step of an innermost loop reads or writes what another step writes.

    Each array that is written is touched at one place only, which moves with the loop's counter. Arrays of different
    names may be the same memory only if they are so element by element: a step of a program writes no buffer that it
    reads otherwise.
    """
    assert isinstance(loop.target, ast.Name)
    nodes = [node for statement in loop.body for node in ast.walk(statement)]
    if any(isinstance(node, (ast.For, ast.While, ast.If)) for node in nodes):
        return False
    named = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    places: dict[str, set[str]] = {}
    written: dict[str, ast.expr] = {}
    for array, index, stores in _accesses(nodes):
        if not isinstance(array, ast.Name) or array.id in named:
            return False
        places.setdefault(array.id, set()).add(ast.dump(index))
        if stores:
            written[array.id] = index
    return bool(written) and all(
        len(places[array]) == 1 and _moves(index, loop.target.id, named) for array, index in written.items()
    )


def _accesses(nodes: list[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """Array, index and whether it is written, of all accesses to memory."""
    for node in nodes:
        if isinstance(node, ast.Subscript):
            yield node.value, node.slice, isinstance(node.ctx, ast.Store)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in (*_STORES, *_LOADS):
            yield node.args[0], node.args[1], node.func.id in _STORES


def _moves(index: ast.expr, counter: str, named: set[str]) -> bool:
    """Whether an index is a sum of products of numbers that the loop does not change, and of its counter, once."""
    names = [n.id for n in ast.walk(index) if isinstance(n, ast.Name)]
    return (
        names.count(counter) == 1
        and not named.intersection(names)
        and all(
            isinstance(n, (ast.BinOp, ast.Name, ast.Constant, ast.Add, ast.Mult, ast.expr_context))
            for n in ast.walk(index)
        )
    )

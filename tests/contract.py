"""What the tests of the gradient contract share: graphs in one line, values, reports of clauses."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import numgrad as ng
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.graph import Graph
from numgrad.graph.records import OpRecord
from numgrad.types import Spec

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "contract.md"
CLAUSE = re.compile(r"\b([A-S]|U)(\d+)\b")
TABLE_ROW = re.compile(r"^\| ((?:[A-S]|U)\d+) \| (.+?) \|(?: (.+?) \|)?$", re.MULTILINE)


def value(gradient: Any, feeds: Mapping[Tensor, Any] | None = None) -> Any:
    """A gradient's value by the interpreter, as nested lists; None stays None."""
    return None if gradient is None else ng.run(gradient, feeds or {}).tolist()


def values(gradients: Any, feeds: Mapping[Tensor, Any] | None = None) -> list[Any]:
    return [value(g, feeds) for g in gradients]


def scalar(dtype: Any = np.float64, name: str | None = None) -> Tensor:
    return ng.placeholder(dtype, (), name=name)


def made_by(graph: Graph, action: Callable[[], Any]) -> tuple[Any, list[Operation]]:
    """The result of `action`, and the operations that it added to the graph."""
    before = len(graph.operations)
    result = action()
    return result, graph.operations[before:]


def copies(graph: Graph, x: Tensor, op_type: str, dtypes: tuple[Any, ...] = (None,), name: str | None = None,
           **facts: Any) -> tuple[Tensor, ...]:
    """The outputs of an operation outside the op table: x as each of `dtypes` (None: its own); no rule but what
    `facts` hold."""
    specs = tuple(Spec(x.dtype if d is None else np.dtype(d), x.shape) for d in dtypes)
    record = OpRecord(op_type, "general", lambda given, attrs: specs,
                      lambda array: tuple(array.astype(s.dtype) for s in specs), **facts)
    return graph.add(record, (x,), {}, specs, name).outputs


# -- which clauses are covered

def clauses_in(docstring: str) -> set[str]:
    """The clause ids before the first full stop or colon that ends the list at a docstring's head: ``C4, E9 to E11:
    ...``."""
    head, colon, _ = docstring.partition(":")
    if not colon:
        return set()
    found: set[str] = set()
    for part in head.replace("\n", " ").split(","):
        ids = CLAUSE.findall(part)
        rest = CLAUSE.sub("", part).replace("to", "").strip()
        if rest or not ids:
            return set()
        if len(ids) == 2:
            (letter, first), (_, last) = ids
            found |= {f"{letter}{k}" for k in range(int(first), int(last) + 1)}
        else:
            found |= {letter + number for letter, number in ids}
    return found


def clauses_of_tests() -> dict[str, list[str]]:
    """For each clause, the tests whose docstrings begin with it."""
    found: dict[str, list[str]] = {}
    for path, function in _tests():
        for clause in clauses_in(ast.get_docstring(function) or ""):
            found.setdefault(clause, []).append(f"{path.name}::{function.name}")
    return found


def _tests() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield path, node


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading of docs/contract.md: clause -> the other columns."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {m.group(1): [c for c in m.groups()[1:] if c] for m in TABLE_ROW.finditer(section)}

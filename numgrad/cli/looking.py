"""``show`` and ``profile``: look at the graph of a function, and time the steps of its program."""

from __future__ import annotations

import importlib
import inspect
import runpy
from pathlib import Path
from typing import Any

from numgrad.cli.terminal import console, fail, table
from numgrad.errors import GraphError
from numgrad.graph.graph import Graph
from numgrad.graph.show import show as show_graph
from numgrad.tracing.compiled import Compiled
from numgrad.tracing.function import Function, function

__all__ = ["profile", "show"]


def _find(case: str) -> Any:
    """What a text ``MODULE:NAME`` or ``FILE.py:NAME`` names; GraphError when it names nothing."""
    place, _, name = case.rpartition(":")
    if not place or not name:
        raise GraphError(f"got {case!r}, wanted MODULE:NAME or FILE.py:NAME")
    try:
        space = runpy.run_path(place) if place.endswith(".py") else vars(importlib.import_module(place))
    except (ImportError, OSError) as error:
        raise GraphError(f"cannot load {place}: {error}") from error
    if name not in space:
        raise GraphError(f"{place} has no {name!r}")
    return space[name]


def _is_maker(found: Any) -> bool:
    """Whether it is a plain function without arguments."""
    return inspect.isfunction(found) and not inspect.signature(found).parameters


def _subject(case: str) -> tuple[Any, tuple[Any, ...] | None]:
    """The graph or callable of a case, and its arguments if the case gives them."""
    found = _find(case)
    if _is_maker(found):
        found = found()
    if isinstance(found, tuple) and len(found) == 2 and callable(found[0]) and isinstance(found[1], tuple):
        f, args = found
        return (f if isinstance(f, (Function, Compiled)) else function(f)), args
    if not isinstance(found, (Graph, Function, Compiled)):
        raise GraphError(f"{case} is a {type(found).__name__}, wanted a graph, a compiled callable, or a function "
                         f"without arguments that returns one of them or a pair (function, tuple of arguments)")
    return found, None


def show(case: str, format: str, output: Path | None) -> int:
    """Print the graph of a case, or write it to a file."""
    subject, args = _subject(case)
    if args is not None:
        subject(*args)
    text = show_graph(subject, format)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {output}")
    return 0


def profile(case: str) -> int:
    """Print the seconds of each step of a case's program, the slowest first."""
    subject, args = _subject(case)
    if args is None or isinstance(subject, Graph):
        return fail(f"{case}: profile needs arguments; return a pair (function, tuple of arguments)")
    steps = subject.profile(*args)
    total = sum(step["seconds"] for step in steps)
    rows = []
    for step in sorted(steps, key=lambda s: -s["seconds"]):
        microseconds, share = f"{1e6 * step['seconds']:.2f}", f"{100 * step['seconds'] / total:.1f}"
        rows.append((step["step"], step["kernel"], microseconds, share, step["where"]))
    title = f"{len(steps)} steps, {1e6 * total:.2f} µs"
    table(console(), title, ("step", "kernel", "µs", "%", "made at"), rows, left=2)
    return 0

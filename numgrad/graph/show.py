"""Graphs for human eyes: stable text and DOT here, drawings (SVG, HTML) through `draw`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from numgrad.errors import GraphError, at, user_line
from numgrad.graph.core import Operation, Tensor
from numgrad.graph.draw import html_page, svg_drawing
from numgrad.graph.graph import Graph
from numgrad.graph.walk import ancestors
from numgrad.types import Size

__all__ = ["show"]

_FORMATS = ("text", "dot", "svg", "html")
_SHOWN_ELEMENTS = 6  # constants up to this many elements are written out
_LONGEST_LABEL = 60
_DOT_SECONDS = 60


def show(graph_or_function: Any, format: str = "text") -> str:
    """Show a graph as text, as a DOT program, as an SVG drawing or as an HTML page.

    Parameters
    ----------
    graph_or_function : Graph, Tensor, sequence of Tensor, or a compiled callable
        A callable shows its ``.graph``; tensors show the operations that they depend on.
    format : {"text", "dot", "svg", "html"}
        Text has one line for each operation: ``name: dtype(shape) = type(inputs, attributes)``, in the order in which
        they were made, and depends on nothing else; then the assumptions about sizes. SVG is drawn by Graphviz if its
        program ``dot`` is installed, otherwise by numgrad's own layered layout. HTML stands alone: a drawing and a
        table that can be searched, with the line of the user's source for each operation.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For an unknown format.
    GraphError
        When there is no graph to show: an eager tensor, a function that was not traced yet.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default() as g:
    ...     x = ng.placeholder(ng.float64, ("n",), name="x")
    ...     y = ng.sum(ng.exp(x), axis=0)
    >>> print(ng.show(g))
    graph of 3 operations
      x: float64(n,) = placeholder()
      exp: float64(n,) = exp(x)
      sum: float64() = sum(exp, axes=(0,))
    """
    if format not in _FORMATS:
        raise ValueError(f"show: unknown format {format!r}, wanted one of {', '.join(_FORMATS)}{at(user_line())}")
    operations, guards = _subject(graph_or_function)
    if format == "text":
        lines = [f"graph of {len(operations)} operation{'' if len(operations) == 1 else 's'}"]
        lines += [f"  {_line(op)}" for op in operations]
        lines += [f"  assumes {guard}" for guard in guards]
        return "\n".join(lines)
    if format == "dot":
        return _dot(operations)
    drawing = _graphviz(operations) or svg_drawing(operations, [_label(op) for op in operations])
    if format == "svg":
        return drawing
    return html_page(operations, drawing, [_line(op) for op in operations])


def _subject(thing: Any) -> tuple[Sequence[Operation], list[str]]:
    """The operations to show, and the assumptions about sizes as text."""
    graph = thing if isinstance(thing, Graph) else None
    if isinstance(thing, (Tensor, list, tuple)):
        tensors = [thing] if isinstance(thing, Tensor) else list(thing)
        if tensors and all(isinstance(t, Tensor) and t.op is not None for t in tensors):
            return ancestors(tensors), []
    elif graph is None:
        graph = getattr(thing, "graph", None)
    if not isinstance(graph, Graph):
        raise GraphError(f"show: {thing!r} has no graph; wanted a graph, tensors of a graph, or a compiled callable "
                         f"(wrap a function in ng.function and call it once){at(user_line())}")
    return graph.operations, _distinct(f"{g.left} {g.sign} {g.right}" for g in graph.sizes.guards)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _name(tensor: Tensor) -> str:
    assert tensor.op is not None
    return tensor.op.name if len(tensor.op.outputs) == 1 else tensor.name


def _line(op: Operation) -> str:
    specs = ", ".join(str(t.spec) for t in op.outputs) or "nothing"
    inputs = [_name(t) for t in op.inputs]
    attributes = [f"{name}={_value(value)}" for name, value in op.attrs.items()]
    text = f"{op.name}: {specs} = {op.type}({', '.join(inputs + attributes)})"
    if op.control_inputs:
        text += f" after {', '.join(c.name for c in op.control_inputs)}"
    return f"{text} on {op.device}" if op.device else text


def _value(value: Any) -> str:
    """An attribute as text that does not depend on the process or on print options."""
    if isinstance(value, np.ndarray):
        if value.size <= _SHOWN_ELEMENTS:
            return str(value.tolist())
        return f"<{value.dtype.name}({','.join(map(str, value.shape))}{',' if value.ndim == 1 else ''})>"
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, Size):
        return str(value.canonical())
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_value, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, Graph):
        return f"<graph of {len(value.operations)} operations>"
    if callable(value):
        return f"<{getattr(value, '__qualname__', type(value).__name__)}>"
    return repr(value)


def _label(op: Operation) -> tuple[str, str]:
    """The two lines in a drawing's box: what the operation is, and what it yields."""
    specs = ", ".join(str(t.spec) for t in op.outputs)
    what = op.type
    if op.type == "placeholder":
        what = op.name
    elif op.type == "constant" and op.attrs["value"].size <= 1:
        what = _value(op.attrs["value"])
    else:
        attributes = ", ".join(f"{name}={_value(value)}" for name, value in op.attrs.items() if name != "value")
        what += f" {attributes}" if attributes else ""
    return tuple(t if len(t) <= _LONGEST_LABEL else t[:_LONGEST_LABEL - 1] + "…" for t in (what, specs))  # type: ignore[return-value]


def _dot(operations: Sequence[Operation]) -> str:
    """A program for Graphviz: one box for each operation, dashed edges for control inputs."""
    shown = {op.number for op in operations}
    lines = ["digraph numgrad {", '  node [shape=box, style=rounded, fontname="sans-serif", fontsize=11];']
    for op in operations:
        text = "\\n".join(_dot_escape(part) for part in _label(op))
        lines.append(f'  n{op.number} [label="{text}", tooltip="{_dot_escape(op.name)}"];')
    for op in operations:
        for tensor in op.inputs:
            assert tensor.op is not None
            port = f' [label="{tensor.index}"]' if len(tensor.op.outputs) > 1 else ""
            if tensor.op.number in shown:
                lines.append(f"  n{tensor.op.number} -> n{op.number}{port};")
        lines += [f"  n{control.number} -> n{op.number} [style=dashed];"
                  for control in op.control_inputs if control.number in shown]
    return "\n".join([*lines, "}"])


def _dot_escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _graphviz(operations: Sequence[Operation]) -> str | None:
    """The drawing by Graphviz, or None where it is not installed or gives up."""
    program = shutil.which("dot")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-Tsvg"], input=_dot(operations), capture_output=True, text=True,
                              encoding="utf-8", timeout=_DOT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    start = done.stdout.find("<svg")
    return done.stdout[start:].rstrip() if done.returncode == 0 and start >= 0 else None

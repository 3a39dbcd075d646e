"""Drawings of graphs: a layered layout as SVG, and an HTML page that stands alone."""

from __future__ import annotations

import html
from collections.abc import Sequence

from numgrad.graph.core import Operation

__all__ = ["html_page", "svg_drawing"]

_CHARACTER = 6.6  # width of one character, in pixels, at the font size below
_FONT = 11
_BOX_HEIGHT = 38.0
_GAP_X, _GAP_Y = 18.0, 34.0
_MARGIN = 12.0
_SWEEPS = 4
_COLOURS = {"constant": "#f3ead2", "elementwise": "#e4eefa", "reduction": "#e3f3e2", "linear": "#efe6f7",
            "general": "#fbe5e1", "effect": "#eeeeee"}
_INPUT_COLOUR = "#ffffff"


def _edges(operations: Sequence[Operation]) -> list[tuple[int, int, bool]]:
    """Pairs of places (from, to) in `operations`, and whether the edge is a control input; each once."""
    place = {op: i for i, op in enumerate(operations)}
    edges: dict[tuple[int, int, bool], None] = {}
    for i, op in enumerate(operations):
        for tensor in op.inputs:
            if tensor.op in place:
                edges[place[tensor.op], i, False] = None
        for control in op.control_inputs:
            if control in place:
                edges[place[control], i, True] = None
    return list(edges)


def _layers(count: int, edges: Sequence[tuple[int, int, bool]]) -> list[list[int]]:
    """Places by layer, ordered within each so that neighbours lie near each other."""
    depth = [0] * count
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target, _ in edges:  # sources come before targets, so one pass finds the longest path
        depth[target] = max(depth[target], depth[source] + 1)
        before[target].append(source)
        after[source].append(target)
    for i in reversed(range(count)):
        if after[i]:  # constants and inputs sink to where they are used first
            depth[i] = max(depth[i], min(depth[t] for t in after[i]) - 1)
    layers: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for i in range(count):
        layers[depth[i]].append(i)
    rank = [0.0] * count
    for layer in layers:
        for position, i in enumerate(layer):
            rank[i] = position / len(layer)
    for sweep in range(_SWEEPS):  # the barycentre rule, downwards and upwards
        neighbours = before if sweep % 2 == 0 else after
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {i: sum(rank[n] for n in neighbours[i]) / len(neighbours[i]) if neighbours[i] else rank[i]
                      for i in layer}
            layer.sort(key=lambda i: (wanted[i], i))
            for position, i in enumerate(layer):
                rank[i] = position / len(layer)
    return layers


def svg_drawing(operations: Sequence[Operation], labels: Sequence[tuple[str, str]]) -> str:
    """An SVG drawing: inputs above, layers downwards, a box of two lines for each operation."""
    edges = _edges(operations)
    layers = _layers(len(operations), edges)
    widths = [max(map(len, label)) * _CHARACTER + 16.0 for label in labels]
    spans = [sum(widths[i] for i in layer) + _GAP_X * (len(layer) - 1) for layer in layers]
    total = max(spans, default=0.0)
    left, top = [0.0] * len(operations), [0.0] * len(operations)
    for number, layer in enumerate(layers):
        x = _MARGIN + (total - spans[number]) / 2
        for i in layer:
            left[i], top[i] = x, _MARGIN + number * (_BOX_HEIGHT + _GAP_Y)
            x += widths[i] + _GAP_X
    width = total + 2 * _MARGIN
    height = len(layers) * (_BOX_HEIGHT + _GAP_Y) - (_GAP_Y if layers else 0.0) + 2 * _MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
             f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="{_FONT}">',
             '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" '
             'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>']
    for source, target, control in edges:
        x1, y1 = left[source] + widths[source] / 2, top[source] + _BOX_HEIGHT
        x2, y2 = left[target] + widths[target] / 2, top[target]
        middle_y = (y1 + y2) / 2
        dashes = ' stroke-dasharray="4 3"' if control else ""
        parts.append(f'<path d="M{x1:.1f},{y1:.1f} C{x1:.1f},{middle_y:.1f} {x2:.1f},{middle_y:.1f} {x2:.1f},{y2:.1f}"'
                     f' fill="none" stroke="#667"{dashes} marker-end="url(#tip)"/>')
    for i, (op, (what, specs)) in enumerate(zip(operations, labels, strict=True)):
        middle = left[i] + widths[i] / 2
        colour = _INPUT_COLOUR if op.type == "placeholder" else _COLOURS[op.record.kind]
        parts.append(f'<g id="n{op.number}"><title>{html.escape(op.name)}</title>'
                     f'<rect x="{left[i]:.1f}" y="{top[i]:.1f}" width="{widths[i]:.1f}" height="{_BOX_HEIGHT:.0f}" '
                     f'rx="5" fill="{colour}" stroke="#667"/>'
                     f'<text x="{middle:.1f}" y="{top[i] + 16:.1f}" text-anchor="middle">{html.escape(what)}</text>'
                     f'<text x="{middle:.1f}" y="{top[i] + 30:.1f}" text-anchor="middle" fill="#556">'
                     f'{html.escape(specs)}</text></g>')
    return "\n".join([*parts, "</svg>"])


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>numgrad graph</title>
<style>
body {{ font-family: sans-serif; margin: 1.5em; color: #223; }}
.drawing {{ overflow: auto; border: 1px solid #ccd; max-height: 70vh; }}
table {{ border-collapse: collapse; margin-top: 1em; font-size: 0.85em; }}
td, th {{ text-align: left; padding: 0.15em 1em 0.15em 0; border-bottom: 1px solid #eef; }}
code {{ white-space: pre-wrap; }}
</style>
</head>
<body>
<h1>Graph of {count}</h1>
<div class="drawing">
{drawing}
</div>
<p><input id="filter" type="search" placeholder="filter operations" aria-label="filter operations"></p>
<table>
<thead><tr><th>operation</th><th>made at</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<script>
document.getElementById("filter").addEventListener("input", function (event) {{
  var wanted = event.target.value.toLowerCase();
  document.querySelectorAll("tbody tr").forEach(function (row) {{
    row.hidden = row.textContent.toLowerCase().indexOf(wanted) < 0;
  }});
}});
</script>
</body>
</html>"""


def html_page(operations: Sequence[Operation], drawing: str, lines: Sequence[str]) -> str:
    """A page with the drawing and a table of operations that can be searched; it loads nothing from elsewhere."""
    rows = "\n".join(f"<tr><td><code>{html.escape(line)}</code></td><td>{html.escape(str(op.where or ''))}</td></tr>"
                     for op, line in zip(operations, lines, strict=True))
    count = f"{len(operations)} operation{'' if len(operations) == 1 else 's'}"
    return _PAGE.format(count=count, drawing=drawing, rows=rows)

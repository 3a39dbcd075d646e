"""``profile SCRIPT``: run a script and show where its compiled programs spend time and move bytes."""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from numgrad.cli.terminal import console, fail, table
from numgrad.compiler.timing import Span, recording

__all__ = ["profile_script"]

_ROWS = 25  # of a table
_WIDTH, _ROW = 1200, 18  # of the flame graph, in pixels


class _Sum(NamedTuple):
    times: int = 0
    seconds: float = 0.0
    moved: int = 0

    def plus(self, span: Span) -> _Sum:
        return _Sum(self.times + 1, self.seconds + span.seconds, self.moved + span.moved)


def profile_script(script: Path, arguments: Sequence[str], flame: Path | None, trace: Path | None) -> int:
    """Run a script as ``python SCRIPT ARGUMENTS`` would and report; the exit status is the script's."""
    if not script.is_file():
        return fail(f"profile: there is no script {script}")
    before, status, begun = (sys.argv[:], sys.path[:]), 0, perf_counter()
    sys.argv, sys.path[0:0] = [str(script), *arguments], [str(script.resolve().parent)]
    try:
        with recording() as found:
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as exit:
                status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    finally:
        sys.argv, sys.path[:] = before
    report(found.spans, perf_counter() - begun)
    for path, write in ((flame, flame_graph), (trace, chrome_trace)):
        if path is not None:
            path.write_text(write(found.spans, begun), encoding="utf-8")
            print(f"wrote {path}")
    return status


def _sums(spans: Iterable[Span], key: Callable[[Span], str]) -> list[tuple[str, _Sum]]:
    found: dict[str, _Sum] = {}
    for span in spans:
        found[key(span)] = found.get(key(span), _Sum()).plus(span)
    return sorted(found.items(), key=lambda item: -item[1].seconds)


def report(spans: Sequence[Span], seconds: float) -> None:
    """Print tables: by phase, by operation, by the line that made it, by the line that called the program."""
    out = console()
    steps = [s for s in spans if s.kind == "step"]
    running, calls = sum(s.seconds for s in steps), sum(s.kind == "call" for s in spans)
    out.print(f"{seconds:.3f} s in all, {running:.3f} s in {len(steps)} steps of {calls} calls of compiled programs")
    phases = [s for s in spans if s.kind == "phase"]
    for title, of, key in (("phases of tracing and compiling, each with those inside it", phases, lambda s: s.name),
                           ("by operation", steps, lambda s: s.name),
                           ("by the line that made the operation", steps, lambda s: s.made),
                           ("by the line that called", steps, lambda s: s.called)):
        sums = _sums(of, key)
        total = sum(s.seconds for _, s in sums) or 1.0
        here = f"{Path.cwd()}{os.sep}"
        rows = [(name.removeprefix(here), s.times, f"{1e3 * s.seconds:.3f}", f"{100 * s.seconds / total:.1f}",
                 f"{s.moved / 1e6:.2f}", f"{s.moved / s.seconds / 1e9:.2f}" if s.moved and s.seconds else "")
                for name, s in sums[:_ROWS]]
        if rows:
            table(out, title, ("what", "times", "ms", "%", "MB moved", "GB/s"), rows)
        if len(sums) > _ROWS:
            out.print(f"and {len(sums) - _ROWS} more")


def chrome_trace(spans: Sequence[Span], begun: float) -> str:
    """The spans as trace events, for chrome://tracing and ui.perfetto.dev."""
    tracks = {"phase": 0, "call": 1, "step": 2}
    events: list[dict[str, Any]] = [{"name": "thread_name", "ph": "M", "pid": 0, "tid": track, "args": {"name": name}}
                                    for name, track in (("tracing and compiling", 0), ("calls", 1), ("steps", 2))]
    for s in sorted(spans, key=lambda s: s.begun):
        events.append({"name": s.name, "ph": "X", "pid": 0, "tid": tracks[s.kind], "ts": 1e6 * (s.begun - begun),
                       "dur": 1e6 * s.seconds, "args": {"made": s.made, "called": s.called, "bytes": s.moved}})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


class _Node:
    def __init__(self, name: str) -> None:
        self.name, self.seconds, self.inner = name, 0.0, dict[str, _Node]()

    def add(self, names: Sequence[str], seconds: float) -> None:
        node = self
        node.seconds += seconds
        for name in names:
            node = node.inner.setdefault(name, _Node(name))
            node.seconds += seconds

    @property
    def depth(self) -> int:
        return 1 + max((n.depth for n in self.inner.values()), default=0)


def flame_graph(spans: Sequence[Span], begun: float) -> str:
    """Time in steps as an SVG: the calling line, above it the line that made the operation, then the operation."""
    root = _Node("compiled programs")
    for s in spans:
        if s.kind == "step":
            root.add([s.called, s.made, s.name], s.seconds)
    height = _ROW * (root.depth + 1)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="monospace" '
             f'font-size="11">']

    def draw(node: _Node, left: float, level: int) -> None:
        width = _WIDTH * node.seconds / (root.seconds or 1.0)
        if width < 0.3:
            return
        top = height - _ROW * (level + 1)
        share = 100.0 * node.seconds / (root.seconds or 1.0)
        label = f"{node.name}: {1e3 * node.seconds:.3f} ms, {share:.1f} %"
        shown = escape(node.name[-int(width / 6.7):]) if width > 20 else ""
        hue = 10 + sum(map(ord, node.name)) % 45  # the same name has the same colour
        parts.append(f'<g><title>{escape(label)}</title><rect x="{left:.2f}" y="{top}" width="{width:.2f}" '
                     f'height="{_ROW - 1}" fill="hsl({hue},80%,65%)"/><text x="{left + 3:.2f}" '
                     f'y="{top + 13}">{shown}</text></g>')
        for inner in sorted(node.inner.values(), key=lambda n: -n.seconds):
            draw(inner, left, level + 1)
            left += _WIDTH * inner.seconds / (root.seconds or 1.0)

    draw(root, 0.0, 0)
    return "\n".join([*parts, "</svg>", ""])

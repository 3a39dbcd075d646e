"""A timeline of one row from the import to the single kernel, as a file for Chrome's tracing page or Perfetto."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from perf.libraries import numgrad_function
from perf.report import show_size, show_time
from perf.row import ROWS, Row

__all__ = ["Timeline", "main", "record"]

# Functions whose calls become spans: module that defines it, name, title of the span.
WATCHED = (
    ("numgrad.tracing.trace", "trace", "trace"),
    ("numgrad.autodiff.calls", "pull_back", "gradients"),
    ("numgrad.autodiff.calls", "push_along", "tangents"),
    ("numgrad.compiler.rewrite", "lower", "rewrite"),
    ("numgrad.compiler.schedule", "schedule", "schedule"),
    ("numgrad.compiler.lowering", "lower_step", "step"),
    ("numgrad.compiler.plan", "Plan", "plan"),
    ("numgrad_kernels.build", "build_source", "build"),
    ("numgrad_kernels.build", "build_library", "build"),
)
CALLS = 10


class Timeline:
    """Spans with their times, in the format of Chrome's trace events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._zero = time.perf_counter()
        for track, title in enumerate(("numgrad", "steps of one call")):
            self.events.append({"name": "thread_name", "ph": "M", "pid": 0, "tid": track, "args": {"name": title}})

    def add(self, name: str, begun: float, seconds: float, track: int = 0, **facts: Any) -> None:
        """A span that began at a reading of `time.perf_counter`."""
        self.events.append(
            {
                "name": name,
                "ph": "X",
                "pid": 0,
                "tid": track,
                "ts": (begun - self._zero) * 1e6,
                "dur": seconds * 1e6,
                "args": facts,
            }
        )

    @contextmanager
    def span(self, name: str, **facts: Any) -> Iterator[dict[str, Any]]:
        """A span around a block; facts may be added to the dictionary while it runs."""
        begun = time.perf_counter()
        try:
            yield facts
        finally:
            self.add(name, begun, time.perf_counter() - begun, **facts)

    def watch(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, with a span around each call; what it says of a kernel is kept."""

        @functools.wraps(function, updated=())
        def watched(*arguments: Any, **options: Any) -> Any:
            with self.span(name) as facts:
                result = function(*arguments, **options)
                facts.update(
                    {key: getattr(result, key) for key in ("symbol", "origin", "source") if hasattr(result, key)}
                )
                return result

        return watched

    def spans(self, name: str) -> list[dict[str, Any]]:
        """All spans of a name."""
        return [e for e in self.events if e["ph"] == "X" and e["name"] == name]


def record(row: Row, size: Any, cache: Path) -> Timeline:
    """Run a row from the import on, with kernels kept in `cache`, and write down what takes how long."""
    timeline = Timeline()
    with timeline.span("import numgrad"):
        import numgrad as ng
    with timeline.span("import kernels"):
        for module in sorted({module for module, _, _ in WATCHED}):
            importlib.import_module(module)
    arguments = row.arguments(size)
    with ExitStack() as stack:
        stack.enter_context(ng.config.cache_dir(cache))
        for module, name, title in WATCHED:
            found = getattr(sys.modules[module], name)
            watched = timeline.watch(found, title)
            for user in [m for m in sys.modules.values() if m.__name__.startswith("numgrad")]:
                if vars(user).get(name) is found:  # callers look the name up in their own module
                    stack.enter_context(mock.patch.object(user, name, watched))
        function = numgrad_function(row)
        with timeline.span("first call"):
            function(*arguments)
    for _ in range(CALLS):
        with timeline.span("call"):
            function(*arguments)
    begun = time.perf_counter()
    for step in function.profile(*arguments):
        timeline.add(step["kernel"], begun, step["seconds"], track=1, step=step["step"], where=step["where"])
        begun += step["seconds"]
    return timeline


def summary(timeline: Timeline) -> list[str]:
    """Lines for the terminal: seconds by kind of span, and the dearest steps."""
    lines = []
    for name in (
        "import numgrad",
        "import kernels",
        "first call",
        *dict.fromkeys(title for _, _, title in WATCHED),
        "call",
    ):
        spans = timeline.spans(name)
        if spans:
            total = sum(s["dur"] for s in spans) * 1e-6
            shortest = min(s["dur"] for s in spans) * 1e-6
            lines.append(f"{name:16} {len(spans):5} x, {show_time(total):>9} in all, shortest {show_time(shortest)}")
    steps = [e for e in timeline.events if e.get("tid") == 1 and e["ph"] == "X"]
    for step in sorted(steps, key=lambda e: -e["dur"])[:10]:
        lines.append(
            f"step {step['args']['step']:4} {show_time(step['dur'] * 1e-6):>9}  {step['name']}  {step['args']['where']}"
        )
    return lines


def main(arguments: list[str]) -> int:
    """The command ``trace``."""
    parser = argparse.ArgumentParser(prog="python -m perf trace", description=__doc__)
    parser.add_argument("row", choices=list(ROWS))
    parser.add_argument("-o", "--output", type=Path, default=Path("trace.json"))
    parser.add_argument(
        "--size", type=int, default=-1, metavar="K", help="which of the row's sizes, counted from 0 (default: the last)"
    )
    options = parser.parse_args(arguments)
    row = ROWS[options.row]
    size = row.sizes[options.size]
    with tempfile.TemporaryDirectory(prefix="numgrad-perf-") as cache:
        timeline = record(row, size, Path(cache))
    options.output.write_text(json.dumps({"traceEvents": timeline.events, "displayTimeUnit": "ms"}))
    print(f"{row.title}, size {show_size(size)}")
    print("\n".join(summary(timeline)))
    print(f"written: {options.output} (open it in chrome://tracing or ui.perfetto.dev)")
    return 0

"""Results as JSON and as Markdown, with a description of the machine."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np

from perf.row import LIBRARIES, PROBES, ROWS
from perf.summary import memory_table, other_probes, plots, ratio_table, summary

__all__ = ["machine", "markdown", "publish", "show_time", "write"]

FACTS_SHOWN = (
    "import_s",
    "first_s",
    "new_size_s",
    "same_size_s",
    "trace_s",
    "gradients_s",
    "lower_s",
    "schedule_s",
    "total_s",
    "wall_s",
    "call_s",
    "ms_a_node",
    "peak_mb",
    "trips",
    "tape_bytes",
    "recomputation",
    "nodes",
    "steps",
    "kernels",
    "compiled",
    "from_disk",
    "builds",
    "traces",
    "numba_loaded",
)


def machine(libraries: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Processor, cores, versions, and the bandwidth of a copy on one core."""
    versions = {"python": platform.python_version()}
    for name in ("numpy", "numba", "llvmlite", "scipy", "numgrad"):
        try:
            versions[name] = installed(name)
        except PackageNotFoundError:
            pass
    versions.update({name: version for name, (_, version) in libraries.items()})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cores,
        "versions": versions,
        "copy_gb_s": round(_copy_bandwidth(), 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in facts.items()}
    model = named.get("model name", platform.machine())
    family = f" family {named['cpu family']} model {named['model']}" if {"cpu family", "model"} <= named.keys() else ""
    vector = next(
        (f for f in ("avx512f", "avx2", "asimd") if f in named.get("flags", named.get("Features", "")).split()), ""
    )
    return f"{model}{family}{', ' + vector if vector else ''}"


def _copy_bandwidth() -> float:
    """Bytes read and written in a nanosecond by the best of some copies of an array that no cache holds."""
    source, target = np.ones(1 << 23), np.ones(1 << 23)
    best = float("inf")
    for _ in range(7):
        begun = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - begun)
    return 2 * source.nbytes / best * 1e-9


def show_time(seconds: float) -> str:
    """Seconds with a fitting unit and three digits."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def show_size(size: Any) -> str:
    """A size as the tables have it."""
    return " x ".join(map(str, size)) if isinstance(size, (tuple, list)) else str(size)


def best_hand(result: dict[str, Any]) -> tuple[str, float] | None:
    """The fastest of the versions written by hand: its name and time."""
    times = [
        (facts["time_s"], name)
        for name, facts in result["versions"].items()
        if name in ROWS[result["row"]].hand and "time_s" in facts
    ]
    return (min(times)[1], min(times)[0]) if times else None


def _cell(facts: dict[str, Any] | None, own: float | None) -> str:
    if facts is None:
        return ""
    if "time_s" not in facts:
        return "failed"
    return show_time(facts["time_s"]) + (f" ({own / facts['time_s']:.2f})" if own else "")


def row_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of the table of rows; in brackets numgrad's time divided by the other's."""
    shown = [name for name in LIBRARIES if any(name in r["versions"] for r in results)]
    lines = [f"| row | size | threads | numgrad | by hand | {' | '.join(shown)} |", "|" + "---|" * (5 + len(shown))]
    for result in results:
        versions = result["versions"]
        own = versions.get("numgrad", {}).get("time_s")
        hand = best_hand(result)
        by_hand = f"{_cell({'time_s': hand[1]}, own)} {hand[0]}" if hand else ""
        cells = [
            ROWS[result["row"]].title,
            show_size(result["size"]),
            str(result["threads"]),
            _cell(versions.get("numgrad"), None),
            by_hand,
            *[_cell(versions.get(name), own) for name in shown],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def probe_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of the table of probes: a line for each version."""
    lines = ["| what | size | version | facts |", "|---|---|---|---|"]
    for result in results:
        probe = PROBES[result["row"]]
        for name, facts in result["versions"].items():
            text = facts.get("error") or ", ".join(_fact(key, facts[key]) for key in FACTS_SHOWN if key in facts)
            note = f" ({probe.notes[name]})" if name in probe.notes else ""
            lines.append(f"| {probe.title} | {show_size(result['size'])} | {name} | {text}{note} |")
    return lines


def _fact(key: str, value: Any) -> str:
    if key.endswith("_s"):
        return f"{key[:-2].replace('_', ' ')} {show_time(value)}"
    return f"{key.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"


def failures(results: Sequence[dict[str, Any]]) -> list[str]:
    """What did not run or did not agree, a line each."""
    return [
        f"{r['row']} {show_size(r['size'])} {name}: {facts['error']}"
        for r in results
        for name, facts in r["versions"].items()
        if "error" in facts
    ]


def markdown(facts: dict[str, Any], results: Sequence[dict[str, Any]], commands: Sequence[str]) -> str:
    """The whole report."""
    rows = [r for r in results if r["row"] in ROWS]
    probes = other_probes(results)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        "# Measurements",
        "",
        f"Made on {facts['date']} by {', then '.join(f'`{c}`' for c in commands)}.",
        "",
        f"- Processor: {facts['processor']}; {facts['cores']} cores; {facts['system']}.",
        f"- A copy moves {facts['copy_gb_s']} GB/s on one core (bytes read and written).",
        f"- Versions: {versions}.",
        "- A time is the median over interleaved rounds of the shortest sample of a round.",
        "- In brackets: numgrad's time divided by this version's, so below 1 numgrad is faster.",
        "- `by hand` is the faster of a Numba and a NumPy/BLAS version.",
        "- Every library gets its own arrays, the same number of threads, float64; results are compared before timing.",
        "",
    ]
    lines += summary(results)
    if rows:
        lines += ["## Rows", "", *row_table(rows), ""]
    lines += [*ratio_table(results), *memory_table(results)]
    if probes:
        lines += ["## Processes that are new", "", *probe_table(probes), ""]
    failed = failures(results)
    if failed:
        lines += ["## Failed", "", *[f"- {line}" for line in failed], ""]
    return "\n".join(lines)


def earlier(folder: Path) -> dict[str, Any]:
    """What results.json in a folder holds."""
    data = folder / "results.json"
    return json.loads(data.read_text()) if data.exists() else {}  # type: ignore[no-any-return]


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All results in the order of the tables, of the same case the newest."""

    def case(result: dict[str, Any]) -> tuple[str, str, int]:
        return result["row"], show_size(result["size"]), result["threads"]

    order = [*ROWS, *PROBES]
    kept = {case(r): r for r in [*old, *new] if r["row"] in order}
    return sorted(kept.values(), key=lambda r: order.index(r["row"]))


def write(folder: Path, facts: dict[str, Any], results: Sequence[dict[str, Any]], update: bool) -> tuple[Path, Path]:
    """Write results.json and results.md; with `update` the folder's other results stay in them."""
    folder.mkdir(parents=True, exist_ok=True)
    before = earlier(folder) if update else {}
    # Paths are private, and would say nothing on another machine.
    command = " ".join(["python -m perf", *[Path(a).name if os.sep in a else a for a in sys.argv[1:]]])
    commands, everything = [*before.get("commands", []), command], merged(before.get("results", []), results)
    data, text = folder / "results.json", folder / "results.md"
    whole = {"machine": facts, "commands": commands, "results": everything}
    data.write_text(json.dumps(whole, indent=1, default=str) + "\n")
    text.write_text(markdown(facts, everything, commands))
    return data, text


def publish(folder: Path, target: Path) -> Path:
    """Join results.md, drawings in plots/ and, where it exists, aggregate.md into one file."""
    parts = [folder / "results.md", folder / "aggregate.md"]
    texts = [part.read_text() for part in parts if part.exists()]
    drawn = plots(earlier(folder).get("results", []), target.parent / "plots")
    if drawn:
        images = [f"![numgrad's time over others', row by row](plots/{path.name})\n" for path in drawn]
        texts.insert(1, "\n".join(["## Plots\n", *images]))
    target.write_text("\n".join(texts))
    return target

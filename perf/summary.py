"""What the results say together: how far from hand-written code, ahead of whom, ratios, memory, plots."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.row import LIBRARIES, PROBES, ROWS

__all__ = ["memory_table", "plots", "ratio_table", "summary"]

STEPS = (1.25, 1.5, 2.0)
GRADIENT_BOUND, PRODUCT_BOUND = "4 to 5", "2 to 2.5"
COLOURS = {"hand": "#1f77b4", "peer": "#d95f02"}


def times_over(result: dict[str, Any], names: Sequence[str]) -> tuple[float, str] | None:
    """numgrad's time over the shortest one of these versions, and whose that is; None where one is missing."""
    versions = result["versions"]
    own = versions.get("numgrad", {}).get("time_s")
    others = [(versions[n]["time_s"], n) for n in names if "time_s" in versions.get(n, {})]
    if own is None or not others:
        return None
    best, name = min(others)
    return own / best, name


def _larger(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compiled rows that differentiate, at every size but the smallest where there are several."""
    return [
        r
        for r in results
        if r["row"] in ROWS
        and not ROWS[r["row"]].eager
        and ROWS[r["row"]].mode != "value"
        and _index(r) >= min(1, len(ROWS[r["row"]].sizes) - 1)
    ]


def _index(result: dict[str, Any]) -> int:
    """Which of the row's sizes it is; sizes read from JSON are lists."""
    return [_plain(size) for size in ROWS[result["row"]].sizes].index(_plain(result["size"]))


def _plain(size: Any) -> Any:
    return tuple(size) if isinstance(size, (tuple, list)) else size


def _named(result: dict[str, Any]) -> str:
    size = _plain(result["size"])
    return f"{result['row']} {' x '.join(map(str, size)) if isinstance(size, tuple) else size}"


def summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines that count, for each number of threads, the rows near the hand-written version and ahead of all peers."""
    lines = []
    for threads in sorted({r["threads"] for r in _larger(results)}):
        lines += _counted([r for r in _larger(results) if r["threads"] == threads], threads)
    if not lines:
        return []
    note = "Rows that differentiate and are compiled, at all sizes but the smallest; a row counts by its worst size."
    return ["## Summary", "", note, "", *lines, ""]


def _counted(results: Sequence[dict[str, Any]], threads: int) -> list[str]:
    hand: dict[str, list[tuple[float, str]]] = {}
    peer: dict[str, list[tuple[float, str]]] = {}
    for r in results:
        for worst, names in ((hand, tuple(ROWS[r["row"]].hand)), (peer, LIBRARIES)):
            found = times_over(r, names)
            if found:
                worst.setdefault(r["row"], []).append((found[0], f"{_named(r)} ({found[0]:.2f} {found[1]})"))
    sizes = [case for cases in hand.values() for case in cases]
    within = "; ".join(
        f"{_count(hand, step)} of {len(hand)} rows and {sum(c[0] <= step for c in sizes)} of {len(sizes)} sizes"
        f" within {step:g} times"
        for step in STEPS
    )
    lines = [f"- {threads} thread{'s' if threads > 1 else ''}, to the version by hand: {within}."]
    lines += _missed(hand, STEPS[0], f"  Beyond {STEPS[0]:g} times")
    if peer:
        lines.append(f"- Ahead of every peer that was run: {_count(peer, 1.0)} of {len(peer)} rows.")
        lines += _missed(peer, 1.0, "  Behind one")
    return lines


def _count(worst: dict[str, list[tuple[float, str]]], bound: float) -> int:
    return sum(max(cases)[0] <= bound for cases in worst.values())


def _missed(worst: dict[str, list[tuple[float, str]]], bound: float, title: str) -> list[str]:
    beyond = sorted((case for cases in worst.values() for case in cases if case[0] > bound), reverse=True)
    return [f"{title}: {', '.join(text for _, text in beyond)}."] if beyond else []


def ratio_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of the table of the probe "ratios"."""
    from perf.report import show_time

    cells = []
    for r in results:
        facts = r["versions"].get("numgrad", {})
        if r["row"] != "ratios" or "value_s" not in facts:
            continue
        name, index = r["size"]
        size = _named({"row": name, "size": ROWS[name].sizes[index]})
        times = " | ".join(show_time(facts[key]) for key in ("value_s", "gradient_s", "hvp_s"))
        cells.append(
            f"| {size} | {times} | {facts['gradient_over_value']:.2f} | {GRADIENT_BOUND} "
            f"| {facts['hvp_over_gradient']:.2f} | {PRODUCT_BOUND} |"
        )
    if not cells:
        return []
    return [
        "## Ratios",
        "",
        "numgrad alone, one thread, by the row's first argument; `gradient` is value and gradient in one call. The",
        "bounds count operations: a value with its gradient takes at most 4 to 5 times the value, a Hessian-vector",
        "product 2 to 2.5 times the gradient (Griewank and Walther, Evaluating Derivatives, 2nd edition, 2008).",
        "",
        "| row | value | gradient | product | gradient / value | bound | product / gradient | bound |",
        "|---|---|---|---|---|---|---|---|",
        *cells,
        "",
    ]


def memory_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of the table of peak memory: rows at their largest size that was measured."""
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for r in results:
        if r["row"] in ROWS and any("peak_mb" in facts for facts in r["versions"].values()):
            last[r["row"], r["threads"]] = r
    if not last:
        return []
    names = [n for n in ("numgrad", "numba", "numpy", *LIBRARIES) if any(n in r["versions"] for r in last.values())]
    lines = [
        "## Peak memory",
        "",
        "MB by which the worker's resident memory grew, at its highest, while the version was made and called twice:",
        "compilers, what they keep, and arrays; the arguments were there before, and so is what the process freed",
        "after other rows and got back now. At the largest size measured.",
        "",
        f"| row | size | threads | {' | '.join(names)} |",
        "|" + "---|" * (3 + len(names)),
    ]
    for (row, threads), r in last.items():
        found = [r["versions"].get(n, {}).get("peak_mb") for n in names]
        cells = " | ".join("" if v is None else f"{v:.1f}" for v in found)
        lines.append(f"| {row} | {_named(r).removeprefix(row).strip()} | {threads} | {cells} |")
    return [*lines, ""]


def plots(results: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Drawings of numgrad's time over the version by hand's and the best peer's; none without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "numgrad"})
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for threads in sorted({r["threads"] for r in results if r["row"] in ROWS}):
        cases = [r for r in _larger(results) if r["threads"] == threads]
        if cases:
            written.append(_plot(cases, threads, folder / f"ratios-{threads}.svg"))
    return written


def _plot(results: Sequence[dict[str, Any]], threads: int, path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 0.19 * len(results) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(results))
    for label, key in (("the version by hand", "hand"), ("the fastest peer", "peer")):
        found = [times_over(r, tuple(ROWS[r["row"]].hand) if key == "hand" else LIBRARIES) for r in results]
        seen = [(f[0], place) for f, place in zip(found, places) if f]
        axes.scatter([s[0] for s in seen], [s[1] for s in seen], s=16, color=COLOURS[key], label=label)
    axes.set_xscale("log")
    axes.set_yticks(list(places), [_named(r) for r in results], fontsize=7)
    axes.invert_yaxis()
    axes.grid(True, axis="both", linewidth=0.3)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.axvline(STEPS[0], color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel(f"numgrad's time divided by that of …, {threads} thread{'s' if threads > 1 else ''}")
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    text = path.read_text()
    path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE))
    return path


def other_probes(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The probes that have no table of their own."""
    return [r for r in results if r["row"] in PROBES and r["row"] != "ratios"]

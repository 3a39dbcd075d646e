"""How gradient terms are best summed: each strategy's time and memory, and the thresholds that follow from them.

``python -m perf aggregate``: one array is used many times. The terms of its gradient are either elementwise, so that
they can be computed where they are summed ("fused"), or come from matrix products, so that each is an array of its own
("stored"). The thresholds are those of `numgrad.autodiff.aggregate`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perf.fleet import ROOT, environment
from perf.probes_graph import peak_mb
from perf.report import show_time

__all__ = ["Case", "build", "main", "measure", "thresholds"]

METHODS = ("ADD_N", "TREE", "ACCUMULATE")
KINDS = ("fused", "stored")
WIDTH = 8  # columns of the matrices of stored terms
TERMS = (4, 8, 16, 32, 64, 200, 1_000)
SIZES = (100, 10_000, 1_000_000)
FAN_OUT = 200
MOST_ELEMENTS = 200_000_000  # terms times size
MARGIN = 1.1  # times within this factor count as equal


@dataclass
class Case:
    """What was measured for one kind, number of terms, size and strategy."""

    kind: str
    terms: int
    size: int
    method: str
    seconds: float
    arena_bytes: int
    steps: int
    error: float


def build(kind: str, terms: int, method: str, dtype: Any) -> Any:
    """The compiled gradient of a sum of `terms` uses of x, with the terms summed by one strategy."""
    import numgrad as ng

    with ng.Graph().as_default():
        x = ng.placeholder(dtype, ("n",) if kind == "fused" else ("n", WIDTH))
        inputs = [x]
        if kind == "stored":
            inputs += [ng.placeholder(dtype, (WIDTH, WIDTH)), ng.placeholder(dtype, ("n", WIDTH))]
        parts = []
        for i in range(terms):
            if kind == "fused":
                parts.append(ng.sum(ng.sin(x * _factor(i))))
            else:
                parts.append(ng.sum((x @ (inputs[1] * _factor(i))) * inputs[2]))
        total = ng.add_n(parts) if len(parts) > 1 else parts[0]
        (gradient,) = ng.gradients(total, x, aggregation_method=getattr(ng.AggregationMethod, method))
        return ng.compile(inputs, gradient)


def _factor(i: int) -> float:
    return 0.5 + 0.001 * i


def arguments(kind: str, size: int, dtype: Any) -> list[np.ndarray[Any, Any]]:
    """x; for stored terms also a matrix and the cotangent of the products, so that no forward value is needed."""
    rng = np.random.default_rng(3)
    shapes = ((size,),) if kind == "fused" else ((size // WIDTH, WIDTH), (WIDTH, WIDTH), (size // WIDTH, WIDTH))
    return [rng.uniform(0.0, 1.0, shape).astype(dtype) for shape in shapes]


def exact(kind: str, terms: int, given: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The gradient in float64, by NumPy."""
    x, *others = [a.astype(np.float64) for a in given]
    factors = [_factor(i) for i in range(terms)]
    if kind == "fused":
        return np.sum([c * np.cos(c * x) for c in factors], axis=0)
    return np.sum(factors) * (others[1] @ others[0].T)


def _best(call: Any, given: Sequence[Any], seconds: float) -> float:
    best, ends = float("inf"), time.perf_counter() + seconds
    while True:
        begun = time.perf_counter()
        call(*given)
        now = time.perf_counter()
        best = min(best, now - begun)
        if now > ends:
            return best


def measure(kind: str, terms: int, size: int, seconds: float = 0.03, rounds: int = 3) -> list[Case]:
    """All strategies in turn, each checked against NumPy in float32 and timed in float64."""
    given, small = arguments(kind, size, np.float64), arguments(kind, min(size, 1_000), np.float32)
    wanted = exact(kind, terms, small)
    programs = {method: build(kind, terms, method, np.float64) for method in METHODS}
    times = {method: float("inf") for method in METHODS}
    cases = []
    for _ in range(rounds):
        for method, program in programs.items():
            times[method] = min(times[method], _best(program, given, seconds))
    for method, program in programs.items():
        got = build(kind, terms, method, np.float32)(*small)
        error = float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted)) / np.finfo(np.float32).eps)
        plan = program.plan()
        cases.append(Case(kind, terms, size, method, times[method], plan["arena_bytes"], plan["steps"], error))
    return cases


def peak(kind: str, terms: int, size: int, method: str) -> float:
    """Megabytes by which a process grows when it first computes the gradient."""
    program = build(kind, terms, method, np.float64)
    program(*arguments(kind, 64, np.float64))
    given = arguments(kind, size, np.float64)
    before = peak_mb()
    program(*given)
    return peak_mb() - before


def _peak_apart(*case: Any) -> float:
    """`peak` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "perf", "aggregate", "--peak", *map(str, case)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def thresholds(cases: Sequence[Case]) -> dict[str, int | None]:
    """What the measurements say about the constants of `numgrad.autodiff.aggregate`; None: never seen.

    ADD_N_TERMS: the greatest number of terms up to which the n-ary sum is nowhere slower than the running one.
    ADD_N_BYTES: the smallest number of bytes of all terms from which the running sum is never slower, and somewhere
    faster. TREE_TERMS: the smallest number of terms from which the tree halves the rounding error of the n-ary sum for
    at most twice its time.
    """
    by_case: dict[tuple[str, int, int], dict[str, Case]] = {}
    for case in cases:
        by_case.setdefault((case.kind, case.terms, case.size), {})[case.method] = case
    groups = list(by_case.values())
    terms = sorted({case.terms for case in cases})

    def all_of(count: int, test: Any) -> bool:
        return all(test(g) for g in groups if g["ADD_N"].terms == count)

    add_n_terms = None
    for count in terms:
        if not all_of(count, lambda g: g["ADD_N"].seconds <= MARGIN * g["ACCUMULATE"].seconds):
            break
        add_n_terms = count
    tree_terms = next(
        (
            count
            for k, count in enumerate(terms)
            if all(
                all_of(
                    c,
                    lambda g: g["TREE"].error <= 0.5 * g["ADD_N"].error and g["TREE"].seconds <= 2 * g["ADD_N"].seconds,
                )
                for c in terms[k:]
            )
        ),
        None,
    )
    stored = {g["ADD_N"].terms * g["ADD_N"].size * 8: g for g in groups if g["ADD_N"].kind == "stored"}
    add_n_bytes = None
    for total, g in sorted(stored.items(), key=lambda item: item[0], reverse=True):
        if g["ACCUMULATE"].seconds > MARGIN * g["ADD_N"].seconds:
            break
        if MARGIN * g["ACCUMULATE"].seconds < g["ADD_N"].seconds:
            add_n_bytes = total
    return {"ADD_N_TERMS": add_n_terms, "ADD_N_BYTES": add_n_bytes, "TREE_TERMS": tree_terms}


def table(cases: Sequence[Case], peaks: dict[str, dict[str, float]]) -> list[str]:
    """Lines of Markdown."""
    heads = [f"{method} {what}" for method in METHODS for what in ("time", "arena", "error")]
    lines = ["| terms are | terms | size | " + " | ".join(heads) + " |", "|" + "---|" * (3 + len(heads))]
    for first in range(0, len(cases), len(METHODS)):
        group = cases[first : first + len(METHODS)]
        cells = [f"{show_time(c.seconds)} | {c.arena_bytes / 1e6:.3g} MB | {c.error:.2g} eps" for c in group]
        lines.append(f"| {group[0].kind} | {group[0].terms} | {group[0].size} | {' | '.join(cells)} |")
    lines.append("")
    for title, by_method in peaks.items():
        lines.append(
            f"- {title}: the process grew by "
            + ", ".join(f"{mb:.0f} MB ({method})" for method, mb in by_method.items())
            + "."
        )
    return lines


def main(options: list[str]) -> int:
    """The command ``aggregate``."""
    parser = argparse.ArgumentParser(prog="python -m perf aggregate", description=__doc__)
    parser.add_argument(
        "--peak",
        nargs=4,
        default=None,
        metavar=("KIND", "TERMS", "SIZE", "METHOD"),
        help="only print the peak of one case",
    )
    parser.add_argument("--terms", type=int, nargs="*", default=TERMS)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).resolve().parent / "results")
    chosen = parser.parse_args(options)
    # One thread for BLAS too, which reads these when it is loaded: with the first kernel.
    os.environ.update({name: value for name, value in environment(1, "").items() if name.endswith("_THREADS")})
    if chosen.peak:
        kind, terms, size, method = chosen.peak
        print(peak(kind, int(terms), int(size), method))
        return 0
    cases: list[Case] = []
    for kind in KINDS:
        for terms in chosen.terms:
            for size in chosen.sizes:
                if terms * size <= MOST_ELEMENTS:
                    cases += measure(kind, terms, size)
                    print(table(cases[-len(METHODS) :], {})[2], flush=True)
    largest = max(chosen.sizes)
    peaks = {
        f"{FAN_OUT} {kind} terms of {largest}": {
            method: _peak_apart(kind, FAN_OUT, largest, method) for method in METHODS
        }
        for kind in KINDS
    }
    lines = table(cases, peaks)
    head = ["## Sums of gradient terms", "", "One thread. Errors are of float32, relative to the largest element.", ""]
    lines = head + lines + [f"- The data support {name} = {value}." for name, value in thresholds(cases).items()]
    print("\n".join(lines[-5:]))
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "aggregate.md").write_text("\n".join(lines) + "\n")
    (chosen.output / "aggregate.json").write_text(
        json.dumps({"cases": [asdict(c) for c in cases], "peaks_mb": peaks}, indent=1) + "\n"
    )
    return 0

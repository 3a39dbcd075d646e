"""The process that runs one version of a row or probe; it needs NumPy and the version's library alone.

``python -m perf.worker VERSION THREADS`` serves rows: a line of JSON in, a line out.
``python -m perf.worker --probe NAME VERSION SIZE`` runs a probe and prints its facts.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
from typing import Any

import numpy as np

from perf import row as tables
from perf.memory import FORGETS, forget_peak, peak_mb, resident_mb

SAMPLE_SECONDS = 1e-3


class Worker:
    """Holds one version of one row."""

    def __init__(self, version: str, threads: int) -> None:
        self.name, self.threads = version, threads
        self.version: Any = None
        self.repeats = 1

    def load(self, row: str, size_index: int, results: str) -> dict[str, Any]:
        """Make the version, run it once, and leave its results in a file."""
        from perf.libraries import version

        self.version = None
        gc.collect()
        wanted = tables.ROWS[row]
        arrays = wanted.arguments(wanted.sizes[size_index])
        forget_peak()
        resident = resident_mb()
        begun = time.perf_counter()
        made = version(wanted, self.name, arrays, self.threads)
        found = made.read(made.call(*made.arguments))
        first = time.perf_counter() - begun
        made.call(*made.arguments)
        peak = peak_mb() - resident
        np.savez(results, *found)
        self.version = made
        self._calibrate()
        return {"first_s": first, "peak_mb": max(0.0, peak)} if FORGETS else {"first_s": first}

    def _calibrate(self) -> None:
        """How many calls make a sample long enough for the clock."""
        self.repeats = 1
        while self._sample() * self.repeats < SAMPLE_SECONDS and self.repeats < 1 << 20:
            self.repeats *= 2

    def _sample(self) -> float:
        """Seconds a call, over `repeats` calls."""
        call, arguments = self.version.call, self.version.arguments
        rounds = itertools.repeat(None, self.repeats)
        begun = time.perf_counter_ns()
        for _ in rounds:
            call(*arguments)
        return (time.perf_counter_ns() - begun) / self.repeats * 1e-9

    def time(self, seconds: float) -> dict[str, Any]:
        """Samples for about so many seconds, at least one."""
        gc.collect()
        gc.disable()
        try:
            ends = time.perf_counter() + seconds
            samples = [self._sample()]
            while time.perf_counter() < ends:
                samples.append(self._sample())
        finally:
            gc.enable()
        return {"samples": samples}


def serve(version: str, threads: int) -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not get between the answers
    worker = Worker(version, threads)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")


def run_probe(name: str, version: str, size_index: int) -> None:
    """Print the facts of one probe."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    found = tables.PROBES[name]
    try:
        facts = found.versions[version](found.sizes[size_index])
    except Exception as error:
        facts = {"error": f"{type(error).__name__}: {error}"[:500]}
    answers.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    tables.load()
    if sys.argv[1] == "--probe":
        run_probe(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        serve(sys.argv[1], int(sys.argv[2]))

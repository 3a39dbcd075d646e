"""The processes of all versions: who runs where, and measurements in turn."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perf.row import LIBRARIES, PROBES, ROWS, Row, worst_difference

__all__ = ["Fleet", "find_libraries", "measure_probe", "measure_row"]

ROOT = Path(__file__).resolve().parent.parent
OWN = ("numgrad", "numba", "numpy", "scipy", "llvmlite")
_LOOK = """import importlib.util, json, sys
from importlib.metadata import version
print(json.dumps({n: version(n) for n in sys.argv[1:] if importlib.util.find_spec(n)}))"""


def find_libraries(interpreters: Sequence[str]) -> dict[str, tuple[str, str]]:
    """For each library that is installed: (interpreter, version), from the first interpreter that has it."""
    found: dict[str, tuple[str, str]] = {}
    for interpreter in interpreters:
        done = subprocess.run(
            [interpreter, "-c", _LOOK, *LIBRARIES], capture_output=True, text=True, check=True, timeout=60
        )
        for name, version in json.loads(done.stdout).items():
            found.setdefault(name, (interpreter, version))
    return found


def environment(threads: int, cache: str) -> dict[str, str]:
    """Environment variables that hold every library to so many threads."""
    # Where numgrad itself comes from: the checkout, or an installation.
    spec = importlib.util.find_spec("numgrad_kernels")
    kernels = [str(Path(spec.origin).parent.parent)] if spec is not None and spec.origin else []
    count = str(threads)
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA", "NUMGRAD", "VECLIB_MAXIMUM")
    flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": count for name in names},
        "NPROC": count,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTENSOR_FLAGS": f"base_compiledir={cache}/pytensor",
        "NUMGRAD_CACHE_DIR": cache,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *kernels]),
    }


class Process:
    """A worker, asked over its standard input."""

    def __init__(self, interpreter: str, version: str, threads: int, cache: str, log: Any) -> None:
        self.version = version
        self._process = subprocess.Popen(
            [interpreter, "-m", "perf.worker", version, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment(threads, cache),
        )

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        """The answer; one with "error" if the process fails, or says nothing for `limit` seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], limit)
            line = self._process.stdout.readline() if ready else ""
        except BrokenPipeError:
            line, ready = "", [None]
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        self.close()
        return {"error": f"ended with status {self._process.returncode}" if ready else f"no answer in {limit:.0f} s"}

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        if self.alive:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class Fleet:
    """Workers by (version, threads), started when first needed."""

    def __init__(self, libraries: dict[str, tuple[str, str]], limit: float = 120.0) -> None:
        self.libraries, self.limit = libraries, limit
        self._workers: dict[tuple[str, int], Process] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="numgrad-perf-")
        self.folder = Path(self._folder.name)
        self._log = open(self.folder / "workers.log", "w")

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
        self._log.close()
        self._folder.cleanup()

    def interpreter(self, version: str) -> str | None:
        """What runs a version, or None if its library is not installed."""
        if version in LIBRARIES:
            return self.libraries[version][0] if version in self.libraries else None
        return sys.executable

    def worker(self, version: str, threads: int) -> Process | None:
        """The living worker of a version."""
        found = self._workers.get((version, threads))
        if found is None or not found.alive:
            interpreter = self.interpreter(version)
            if interpreter is None:
                return None
            found = Process(interpreter, version, threads, str(self.folder / "cache"), self._log)
            self._workers[version, threads] = found
        return found


def measure_row(
    fleet: Fleet,
    row: Row,
    size_index: int,
    threads: int,
    rounds: int,
    seconds: float,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Time all versions of a row at one size, in turn, after their results were compared with numgrad's.

    The time of a version is the median over the rounds of the shortest sample of each: a neighbour on the machine makes
    samples longer, never shorter.
    """
    versions: dict[str, dict[str, Any]] = {}
    wanted: list[np.ndarray[Any, Any]] | None = None
    running: list[Process] = []
    for name in row.versions:
        worker = fleet.worker(name, threads) if only is None or name == "numgrad" or name in only else None
        if worker is None:
            continue
        file = fleet.folder / f"{name}.npz"
        facts = versions[name] = worker.ask(
            fleet.limit, do="load", row=row.name, size_index=size_index, results=str(file)
        )
        if "error" in facts:
            continue
        with np.load(file) as stored:
            results = [stored[f"arr_{i}"] for i in range(len(stored.files))]
        if wanted is None:
            wanted = results
        facts["difference"] = worst_difference(results, wanted)
        if facts["difference"] > row.tolerance:
            facts["error"] = f"differs from {next(iter(versions))} by {facts['difference']:.1e}"
        else:
            running.append(worker)
    shortest: dict[str, list[float]] = {worker.version: [] for worker in running}
    everything: dict[str, list[float]] = {worker.version: [] for worker in running}
    for turn in range(rounds):
        for worker in running[turn % len(running) :] + running[: turn % len(running)] if running else []:
            answer = worker.ask(fleet.limit, do="time", seconds=seconds)
            if "error" in answer:
                versions[worker.version]["error"] = answer["error"]
                running = [other for other in running if other is not worker]
            else:
                shortest[worker.version].append(min(answer["samples"]))
                everything[worker.version].extend(answer["samples"])
    for name, rounds_of in shortest.items():
        if rounds_of:
            versions[name].update(
                time_s=statistics.median(rounds_of),
                least_s=min(rounds_of),
                median_s=statistics.median(everything[name]),
                samples=len(everything[name]),
            )
    return {"row": row.name, "size": row.sizes[size_index], "threads": threads, "versions": versions}


def measure_probe(
    fleet: Fleet, name: str, size_index: int, threads: int, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Run a probe's versions in fresh processes, in turn: the median of each time, the last of every other fact."""
    probe = PROBES[name]
    versions = [
        v for v in probe.versions if fleet.interpreter(v) is not None and (only is None or v == "numgrad" or v in only)
    ]
    seen: dict[str, list[dict[str, Any]]] = {v: [] for v in versions}
    for _ in range(probe.repeats):
        for version in versions:
            if not any("error" in facts for facts in seen[version]):
                seen[version].append(_probe_once(fleet, name, version, size_index, threads))
    results = {
        v: {key: _middle([facts[key] for facts in all_facts if key in facts]) for key in all_facts[-1]}
        for v, all_facts in seen.items()
    }
    return {"row": name, "size": probe.sizes[size_index], "threads": threads, "versions": results}


def _middle(values: Sequence[Any]) -> Any:
    return statistics.median(values) if isinstance(values[-1], float) else values[-1]


def _probe_once(fleet: Fleet, name: str, version: str, size_index: int, threads: int) -> dict[str, Any]:
    interpreter = fleet.interpreter(version)
    assert interpreter is not None
    probe = PROBES[name]
    with tempfile.TemporaryDirectory(dir=fleet.folder) as cache:
        for _ in range(2 if probe.warm else 1):
            begun = time.perf_counter()
            try:
                done = subprocess.run(
                    [interpreter, "-m", "perf.worker", "--probe", name, version, str(size_index)],
                    cwd=ROOT,
                    text=True,
                    capture_output=True,
                    timeout=fleet.limit,
                    env=environment(threads, cache),
                )
            except subprocess.TimeoutExpired:
                return {"error": f"not done in {fleet.limit:.0f} s"}
            wall = time.perf_counter() - begun
            if not done.stdout:
                last = (done.stderr.strip().splitlines() or [""])[-1]
                return {"error": f"ended with status {done.returncode}: {last}"[:300]}
            facts: dict[str, Any] = json.loads(done.stdout)
    return {**facts, "wall_s": wall} if probe.wall else facts


def cases(names: Sequence[str], largest: int | None) -> Iterator[tuple[str, int]]:
    """(row or probe, index of size) for all sizes, or for the `largest` first ones."""
    for name in names:
        sizes = (ROWS.get(name) or PROBES[name]).sizes
        for index in range(len(sizes) if largest is None else min(largest, len(sizes))):
            yield name, index

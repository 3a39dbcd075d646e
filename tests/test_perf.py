"""The measurements of perf/ run: every row at its smallest size, numgrad and the versions by hand, which must agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perf import bench_aggregate, row, timeline
from perf.fleet import Fleet, measure_probe, measure_row
from perf.libraries import version
from perf.report import machine, markdown, merged

row.load()
ROOT = Path(__file__).resolve().parent.parent
# Functions that a probe runs in this process; what they say of a first call is only true of a process of its own.
WITHIN = [name for name, probe in row.PROBES.items() if name != "import" and not probe.warm]


@pytest.mark.parametrize("name", row.ROWS)
def test_row_agrees_with_its_versions_by_hand(name):
    wanted = row.ROWS[name]
    arrays = wanted.arguments(wanted.sizes[0])
    assert wanted.hand
    own = version(wanted, "numgrad", arrays, 1)
    results = own.read(own.call(*own.arguments))
    assert all(np.all(np.isfinite(r)) for r in results)
    for hand in wanted.hand:
        other = version(wanted, hand, arrays, 1)
        assert row.worst_difference(results, other.read(other.call(*other.arguments))) <= wanted.tolerance, hand


@pytest.mark.parametrize("name", WITHIN)
def test_probe_gives_facts(name):
    probe = row.PROBES[name]
    facts = probe.versions["numgrad"](probe.sizes[0])
    assert all(value >= 0 for key, value in facts.items() if key.endswith("_s"))
    if name == "new_size":
        assert facts["builds"] == 0 and facts["traces"] == 1
        assert facts["difference"] < 1e-12
    if name == "graph":
        assert facts["nodes"] > 2 * probe.sizes[0]
    if name == "while_memory":
        assert facts["trips"] == probe.sizes[0]
        tapes = [probe.versions[f"numgrad {s}"](probe.sizes[0])["tape_bytes"] for s in ("sqrt", "revolve")]
        assert facts["tape_bytes"] > 15 * tapes[0] > 50 * tapes[1]


def test_differences_are_seen():
    a, b = np.array([1.0, 2.0]), np.array([1.0, 2.2])
    assert row.worst_difference([a], [a]) == 0
    assert row.worst_difference([a], [b]) == pytest.approx(0.2 / 2.2)
    assert row.worst_difference([a, a], [a]) == float("inf")
    assert row.worst_difference([a[:1]], [a]) == float("inf")
    assert row.worst_difference([np.array([np.nan, 2.0])], [a]) == float("inf")


def test_processes_measure_and_report(tmp_path):
    with Fleet({}) as fleet:
        timed = measure_row(fleet, row.ROWS["call"], 0, 1, rounds=2, seconds=0.001)
        started = measure_probe(fleet, "import", 0, 1, only=["numgrad"])
    assert set(timed["versions"]) == {"numgrad", "numba", "numpy"}
    assert all(facts["time_s"] > 0 for facts in timed["versions"].values())
    assert started["versions"]["numgrad"]["numba_loaded"] is False
    text = markdown(machine({}), [timed, started], ["python -m perf"])
    assert "call of value and gradient" in text and "Failed" not in text


def test_newer_results_replace_older_ones():
    old = [{"row": name, "size": size, "threads": 1, "versions": {}} for name, size in (("graph", 1000), ("call", 10))]
    new = [{"row": "graph", "size": 1000, "threads": 1, "versions": {"numgrad": {}}}]
    assert merged(old, new) == [old[1], new[0]]


def test_results_that_differ_fail():
    wrong = row.Row(**{**vars(row.ROWS["call"]), "tolerance": -1.0})
    with Fleet({}) as fleet:
        facts = measure_row(fleet, wrong, 0, 1, rounds=1, seconds=0.001)["versions"]
    assert all("differs" in f["error"] and "time_s" not in f for f in facts.values())


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    whole = [sys.executable, "-m", "perf", *arguments]
    return subprocess.run(whole, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_command_refuses_unknown_rows():
    done = command("nothing")
    assert done.returncode == 2 and "there is no nothing" in done.stderr and "layers50" in done.stdout


def test_timeline_has_all_spans(tmp_path):
    done = command("trace", "logistic_hvp", "--size", "0", "-o", str(tmp_path / "trace.json"))
    assert done.returncode == 0, done.stderr
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["name"] for e in events}
    assert names >= {title for _, _, title in timeline.WATCHED} | {"import numgrad", "first call", "call"}
    assert all(e["dur"] >= 0 for e in events if e["ph"] == "X")
    assert any(e["tid"] == 1 and e["ph"] == "X" for e in events)
    assert any(e["args"].get("origin") == "compiled" for e in events if e["name"] == "build")


@pytest.mark.parametrize("kind", bench_aggregate.KINDS)
def test_strategies_agree(kind):
    cases = bench_aggregate.measure(kind, 20, 64, seconds=0.0, rounds=1)
    assert [c.method for c in cases] == list(bench_aggregate.METHODS)
    assert all(c.error < 20 for c in cases)


def test_thresholds_follow_from_times():
    def case(terms, size, method, seconds, error=1.0):
        return bench_aggregate.Case("stored", terms, size, method, seconds, 0, 1, error)

    cases = [
        case(terms, size, method, {"ADD_N": slow if terms > 8 else 1.0, "TREE": 1.0, "ACCUMULATE": 1.0}[method],
             0.1 if method == "TREE" and terms > 8 else 1.0)
        for terms in (4, 8, 16) for size, slow in ((100, 1.05), (10_000, 2.0)) for method in bench_aggregate.METHODS
    ]  # fmt: skip
    assert bench_aggregate.thresholds(cases) == {"ADD_N_TERMS": 8, "ADD_N_BYTES": 16 * 10_000 * 8, "TREE_TERMS": 16}

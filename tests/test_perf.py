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
from perf.memory import FORGETS
from perf.report import machine, markdown, merged, publish
from perf.summary import memory_table, ratio_table, summary

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
    if name == "ratios":
        assert facts["gradient_over_value"] > 0 and facts["hvp_over_gradient"] > 0
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
        row_of = measure_row(fleet, row.ROWS["call"], 0, 1, rounds=2, seconds=0.001)
        started = measure_probe(fleet, "import", 0, 1, only=["numgrad"])
    assert set(row_of["versions"]) == {"numgrad", "numba", "numpy"}
    assert all(facts["time_s"] > 0 for facts in row_of["versions"].values())
    assert all(("peak_mb" in facts) == FORGETS for facts in row_of["versions"].values())
    assert started["versions"]["numgrad"]["numba_loaded"] is False
    text = markdown(machine({}), [row_of, started], ["python -m perf"])
    assert "call of value and gradient" in text and "Failed" not in text


def timed(name, index, **times):
    versions = {version: {"time_s": seconds, "peak_mb": 3.0} for version, seconds in times.items()}
    return {"row": name, "size": row.ROWS[name].sizes[index], "threads": 1, "versions": versions}


RESULTS = (
    timed("logistic", 0, numgrad=9.0, numba=1.0),  # the smallest size does not count
    timed("logistic", 1, numgrad=1.0, numba=2.0, numpy=1.0, jax=2.0, torch=3.0),
    timed("logistic", 2, numgrad=1.4, numba=2.0, numpy=1.0, jax=2.0),
    timed("mixture", 1, numgrad=6.0, numba=2.0, jax=5.0, torch=7.0),
    timed("chain", 1, numgrad=9.0, numba=1.0),  # nor does what is not differentiated
)


def test_summary_counts_rows_by_their_worst_size():
    text = "\n".join(summary(json.loads(json.dumps(RESULTS))))
    assert "0 of 2 rows and 1 of 3 sizes within 1.25 times" in text
    assert "1 of 2 rows and 2 of 3 sizes within 1.5 times" in text
    assert "Beyond 1.25 times: mixture 5000 x 8 (3.00 numba), logistic 20000 x 50 (1.40 numpy)." in text
    assert "Ahead of every peer that was run: 1 of 2 rows.\n  Behind one: mixture 5000 x 8 (1.20 jax)." in text
    assert summary([]) == []


def test_ratios_and_memory_have_tables():
    facts = {"value_s": 1e-6, "gradient_s": 3e-6, "hvp_s": 6e-6, "gradient_over_value": 3.0, "hvp_over_gradient": 2.0}
    ratios = ratio_table([{"row": "ratios", "size": ["logistic", 1], "threads": 1, "versions": {"numgrad": facts}}])
    assert ratios[-2] == "| logistic 569 x 30 | 1 µs | 3 µs | 6 µs | 3.00 | 4 to 5 | 2.00 | 2 to 2.5 |"
    memory = memory_table(RESULTS)
    assert any(line.startswith("| logistic | 20000 x 50 | 1 | 3.0 |") for line in memory)
    assert ratio_table([]) == memory_table([]) == []


def test_published_results_refer_to_their_plots(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"results": RESULTS}))
    (tmp_path / "results.md").write_text("# Measurements\n")
    text = publish(tmp_path, tmp_path / "RESULTS.md").read_text()
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert "svg" not in text
    else:
        assert "plots/ratios-1.svg" in text and "logistic 20000 x 50" in (tmp_path / "plots/ratios-1.svg").read_text()


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

"""`python -m numgrad profile SCRIPT`: the script runs as it would alone, and its time is told by operation and line."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.cli import main
from numgrad.compiler.timing import recorder, recording

SCRIPT = """import sys
import numpy as np
import numgrad as ng


def loss(w, x):
    rows = np.cumsum(x @ w)
    return np.sum(np.tanh(rows)) + np.sum(w * w)


f = ng.value_and_grad(loss)
for _ in range(3):
    value, gradient = f(np.ones(4), np.ones((5, 4)))
print("script", __name__, sys.argv[1:], float(value), gradient.shape)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # lines of scripts here are shown without the folder
    place = tmp_path / "script.py"
    place.write_text(SCRIPT)
    return place


def test_tables_name_operations_lines_and_phases(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, path = sys.argv[:], sys.path[:]
    assert main(["profile", str(script), "a", "--b"]) == 0
    text = capsys.readouterr().out
    value = float(np.sum(np.tanh(4.0 * np.arange(1, 6)))) + 4.0
    assert "script __main__ ['a', '--b'] " in text and f"{value:.8f}"[:9] in text
    assert "steps of 3 calls of compiled programs" in text
    flat = text.replace("\n", "")
    assert "script.py:7 in loss" in flat and "script.py:13 in <module>" in flat and "matmul" in flat
    assert all(phase in text for phase in ("trace", "gradients", "GB/s", "MB moved"))
    assert sys.argv == argv and sys.path == path and recorder() is None


def test_flame_graph_and_timeline_are_written(script: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    flame, trace = tmp_path / "flame.svg", tmp_path / "trace.json"
    assert main(["profile", "--flame", str(flame), "--trace", str(trace), str(script)]) == 0
    assert f"wrote {flame}" in capsys.readouterr().out.replace("\n", "")
    root = ElementTree.parse(flame).getroot()
    space = "{http://www.w3.org/2000/svg}"
    titles = [t.text or "" for t in root.iter(f"{space}title")]
    assert titles[0].startswith("compiled programs: ") and titles[0].endswith("100.0 %")
    assert any("script.py:7 in loss" in t for t in titles)
    widths = [float(r.get("width", 0)) for r in root.iter(f"{space}rect")]
    assert max(widths) == widths[0] == 1200.0
    events = json.loads(trace.read_text())["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    calls, steps = ([e for e in spans if e["tid"] == track] for track in (1, 2))
    assert len(calls) == 3 and len(steps) >= 9 and {e["name"] for e in spans if e["tid"] == 0} >= {"trace", "load"}
    for step in steps:  # each lies within a call
        assert any(c["ts"] <= step["ts"] and step["ts"] + step["dur"] <= c["ts"] + c["dur"] + 1.0 for c in calls)
    assert any(step["args"]["bytes"] >= 5 * 4 * 8 for step in steps)


def test_scripts_that_end_or_are_missing_give_their_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "ends.py"
    place.write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    assert main(["profile", str(place), "3"]) == 3
    assert main(["profile", str(place), "0"]) == 0
    assert main(["profile", str(tmp_path / "none.py")]) == 1
    assert "there is no script" in capsys.readouterr().err
    place.write_text("raise ZeroDivisionError('of the script')\n")
    with pytest.raises(ZeroDivisionError, match="of the script"):
        main(["profile", str(place)])
    assert recorder() is None


def test_recorded_runs_give_the_same_results() -> None:
    rng = np.random.default_rng(0)

    def scanned(x: Any) -> Any:
        return ng.sum(ng.scan(lambda c, r: (ng.tanh(c + ng.cumsum(r, axis=0)), c), x[0], x)[1])

    with ng.Graph().as_default():
        n = ng.placeholder(ng.float64, ("n",))
        mixed = ng.compile(n, ng.py_function(lambda a: a + 1.0, n * 2.0, (np.float64, (3,))) * 4.0)
    functions = [(ng.value_and_grad(scanned), (rng.standard_normal((6, 30)),)),
                 (ng.grad(lambda x: np.sum(x[::2] * x[1::2])), (rng.standard_normal(10),)),
                 (ng.function(lambda x: np.sum(np.sin(x))), (rng.standard_normal(1_000_000),)),
                 (mixed, (np.arange(3.0),))]
    for f, given in functions:
        plain = f(*given)
        with recording() as found:
            timed = f(*given)
        again = f(*given)
        for a, b in ((plain, timed), (plain, again)):
            for p, q in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
                assert np.array_equal(p, q)
        assert [s for s in found.spans if s.kind == "step"] and all(s.seconds >= 0.0 for s in found.spans)
        if f is mixed:
            assert any("in Python" in s.name for s in found.spans)


def test_errors_of_kernels_are_raised_while_recording() -> None:
    f = ng.function(lambda a: ng.linalg.solve(a, ng.ones((2, 1))) * 2.0)
    with recording(), pytest.raises(np.linalg.LinAlgError, match=r"singular.*test_profile_script.py"):
        f(np.ones((2, 2)))
    assert f(np.eye(2)).tolist() == [[2.0], [2.0]]

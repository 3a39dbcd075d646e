"""compile_report: the seconds of each phase and kernel add up, and say what was made and what was found."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad import clock
from numgrad.compiler.lowering import kernels
from numgrad_kernels import build


def loss(w: Any, x: Any) -> Any:
    return np.sum(np.tanh(x @ w) ** 2) + np.sum(w * w) + np.max(x)


def test_phases_add_up_to_the_time_that_was_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels("build")
    monkeypatch.setattr(build, "_built", {})
    with ng.config.cache_dir(tmp_path):
        reports = []
        for _ in range(2):
            f = ng.value_and_grad(loss)
            begun = time.perf_counter()
            report = ng.compile_report(f, np.ones(3), np.ones((4, 3)))
            waited = time.perf_counter() - begun
            assert 0.5 * waited < report.total <= waited
            assert list(report.seconds) == list(clock.PHASES) and min(report.seconds.values()) >= -1e-9
            assert report.plans == 1 and report.seconds["plan"] > 0.0
            assert report.seconds["trace"] > 0.0 and report.seconds["gradients"] > 0.0
            reports.append(report)
    made, found = reports
    assert made.programs == {"made": 1, "disk": 0} and found.programs == {"made": 0, "disk": 1}
    assert made.seconds["fusion"] > 0.0 and found.seconds["fusion"] == found.seconds["rewrite"] == 0.0
    compiled = [k for k in made.kernels if k.origin == "compiled"]
    assert compiled and all(k.llvm > 0.0 and k.front_end > 0.0 for k in compiled)
    assert sum(k.llvm for k in made.kernels) == pytest.approx(made.seconds["LLVM"])
    assert {k.origin for k in found.kernels} == {"memory"} and found.seconds["LLVM"] == 0.0
    text = str(made)
    assert all(name in text for name in clock.PHASES) and compiled[0].symbol in text
    assert "1 made, 0 from disk" in text and "0 made, 1 from disk" in str(found)


def test_kernels_from_disk_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ng.config.cache_dir(tmp_path):
        for origin in ("compiled", "disk"):
            monkeypatch.setattr(build, "_built", {})
            report = ng.compile_report(ng.function(lambda x: np.exp(x) - 12.5 * np.sum(x)), np.ones(3))
            assert origin in {k.origin for k in report.kernels}


def test_more_traces_and_sizes_are_counted_together() -> None:
    f = ng.function(lambda x: x * 2.0 + 1.0)
    for x in (np.ones(2), np.ones(3), np.ones((2, 2)), np.ones(2, np.float32)):
        f(x)
    report = ng.compile_report(f)
    assert report.plans == 4 and sum(report.programs.values()) == 3 == len(f.variants)
    assert repr(report).startswith("<compile report of ")


def test_graphs_and_steps_in_python_report_too() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ("n",))
        f = ng.compile(x, ng.sum(x * 3.0))
        g = ng.compile(x, ng.py_function(lambda a: a + 1.0, x * 2.0, (np.float64, (3,))) * 4.0)
    report = ng.compile_report(f, np.ones(3))
    assert report.name == "compiled graph" and report.plans == 1 and report.seconds["trace"] == 0.0
    assert sum(ng.compile_report(g, np.ones(3)).programs.values()) == 2


def test_what_has_no_report_says_what_does() -> None:
    with pytest.raises(ng.errors.GraphError, match=r"compile_report: got .*wanted what ng.function.*test_report.py"):
        ng.compile_report(np.sin, 1.0)
    with pytest.raises(ng.errors.GraphError, match=r"was not called yet; give it arguments.*test_report.py"):
        ng.compile_report(ng.function(lambda x: x))


def test_clocks_are_of_their_thread_and_nest() -> None:
    outer, inner = clock.Clock(), clock.Clock()
    seen: list[Any] = []
    with outer.running(), clock.phase("trace"):
        time.sleep(0.02)
        with clock.phase("gradients"):
            time.sleep(0.03)
        thread = threading.Thread(target=lambda: seen.append(clock.current()))
        thread.start()
        thread.join()
        with inner.running(), clock.phase("print"):
            assert clock.current() is inner
        assert clock.current() is outer
    assert seen == [None] and clock.current() is None
    assert 0.02 <= outer.seconds["trace"] < 0.05 + 0.5 and outer.seconds["gradients"] >= 0.03
    with pytest.raises(ZeroDivisionError), outer.running(), clock.phase("plan"):
        raise ZeroDivisionError
    assert outer.seconds["plan"] > 0.0 and clock.current() is None

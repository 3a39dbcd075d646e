"""The command line, and the settings that it shows."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.cli import demo, main, models
from numgrad.compiler.lowering import kernels

ROOT = Path(__file__).resolve().parent.parent
CASES = """
import numpy as np
import numgrad as ng

def f(x):
    return np.sum(np.tanh(x) * x)

def case():
    return f, (np.ones(10),)

def compiled():
    with ng.Graph().as_default():
        x = ng.placeholder("float64", ("n",))
        return ng.compile([x], ng.exp(x))

with ng.Graph().as_default() as graph:
    ng.placeholder("float64", (), name="lonely")

number = 3
"""


@pytest.fixture
def cases(tmp_path: Path) -> str:
    file = tmp_path / "cases.py"
    file.write_text(CASES, encoding="utf-8")
    return str(file)


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "kernels")))
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": path, **environment})


# -- demo
@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration with fewer wines."""
    monkeypatch.setattr(demo, "_WINES", 25)


@pytest.mark.usefixtures("small_demo")
def test_demo_compares_checks_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the plot is an extra")
    picture = tmp_path / "way.png"
    assert main(["demo", "--plot", str(picture)]) == 0
    text = capsys.readouterr().out
    for wanted in ("569 x 30", "numgrad, exact", "NumPy, by hand", "SciPy, differences", "trust-ncg", "trust-exact",
                   "L-BFGS-B", "0.10241657", "9 of 9 checks passed", f"convergence plot: {picture}"):
        assert wanted in text
    assert "FAILED" not in text and "\x1b" not in text
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.usefixtures("small_demo")
@pytest.mark.parametrize("fault", ["gradient", "derivative"])
def test_demo_fails_where_a_check_fails(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    if fault == "gradient":
        right = models.HandWritten.jac
        monkeypatch.setattr(models.HandWritten, "jac", lambda self, w: right(self, w) * (1.0 + 1e-6))
        failing = "gradient agrees with the one written by hand"
    else:
        def wrong(w: Any, X: Any, y: Any) -> Any:
            return ng.custom_gradient(lambda v: (ng.sum(v * v), lambda cotangent: cotangent * 3.0 * v))(w)

        def with_wrong(tell: Any) -> Any:
            monkeypatch.setattr(models, "logistic", wrong)
            return checks(tell)

        checks = demo._derivative_checks
        monkeypatch.setattr(demo, "_derivative_checks", with_wrong)
        failing = "derivatives of the logistic regression"
    assert main(["demo", "--no-plot"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert failing in line
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_by_hand_is_right() -> None:
    X, y = models.cancer()
    hand = models.HandWritten(X, y)
    w, v, h = np.linspace(-0.3, 0.3, 30), np.linspace(1.0, -1.0, 30), 1e-5
    assert hand.jac(w) @ v == pytest.approx((hand.fun(w + h * v) - hand.fun(w - h * v)) / (2 * h), rel=1e-7)
    np.testing.assert_allclose(hand.hessp(w, v), (hand.jac(w + h * v) - hand.jac(w - h * v)) / (2 * h), rtol=1e-6)
    X, y = models.wines(15)
    p = ng.optimize.problem(models.gaussian_process, models.gaussian_process_start(X), X, y)
    assert p.value(p.x0) == pytest.approx(models.numpy_gaussian_process(p.x0, X, y), rel=1e-12)


# -- info and cache
def test_info_tells_versions_processor_threads_and_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for wanted in (ng.__version__, np.__version__, "numba", "llvmlite", "scipy", "vector math", "float64", "GPU"):
        assert wanted in text
    assert kernels("cpu").cpu_name() in text
    assert "\x1b" not in text


def test_cache_is_listed_located_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ng.config.cache_dir(tmp_path / "kernels"):
        assert main(["cache", "path"]) == 0
        place = Path(capsys.readouterr().out.strip())
        assert place.parent == tmp_path / "kernels"
        # A loop that this process has not built before.
        text = " + ".join(f"np.sin({k}.5 * x)" for k in range(5)) + " - np.cosh(np.arctan(x) * x)"
        ng.function(eval(f"lambda x: {text}", {"np": np}))(np.ones(3))
        count = len(list(place.glob("*/*.o")))
        assert count >= 1
        assert main(["cache", "ls"]) == 0
        listed = capsys.readouterr().out
        assert all(file.stem[:16] in listed for file in place.glob("*/*.o"))
        assert main(["cache", "clear"]) == 0
        assert f"deleted {count} kernels" in capsys.readouterr().out
        assert list(place.glob("*/*.o")) == []
    with ng.config.cache_dir(None):
        assert main(["cache", "path"]) == 0
        assert capsys.readouterr().out.strip() == "off"


# -- show and profile
def test_show_prints_and_writes_graphs(cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{cases}:case"]) == 0
    assert "= tanh(" in capsys.readouterr().out
    assert main(["show", f"{cases}:compiled", "--format", "dot"]) == 0
    assert "digraph" in capsys.readouterr().out
    assert main(["show", f"{cases}:graph"]) == 0
    assert capsys.readouterr().out == "graph of 1 operation\n  lonely: float64() = placeholder()\n"
    page = tmp_path / "page.html"
    assert main(["show", f"{cases}:case", "--format", "html", "--output", str(page)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_profile_times_each_step(cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", f"{cases}:case"]) == 0
    text = capsys.readouterr().out
    assert "tanh" in text and "µs" in text and "made at" in text


@pytest.mark.parametrize("command,case,message", [
    ("show", "nowhere", "wanted MODULE:NAME or FILE.py:NAME"),
    ("show", "no_such_module:f", "cannot load no_such_module"),
    ("show", "no_such_file.py:f", "cannot load no_such_file.py"),
    ("show", "{cases}:missing", "has no 'missing'"),
    ("show", "{cases}:number", "is a int, wanted a graph"),
    ("profile", "{cases}:graph", "profile needs arguments"),
])
def test_wrong_cases_are_explained(command: str, case: str, message: str, cases: str,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, case.format(cases=cases)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err


@pytest.mark.parametrize("arguments", [[], ["dance"], ["cache"], ["cache", "eat"], ["show"]])
def test_wrong_commands_show_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: python -m numgrad" in capsys.readouterr().err


def test_the_module_runs_as_a_program() -> None:
    done = run_python("-m", "numgrad", "--version")
    assert done.returncode == 0 and done.stdout.strip() == f"numgrad {ng.__version__}"
    assert run_python("-m", "numgrad", "show", "nowhere").returncode == 1


# -- settings
def test_a_setting_is_changed_for_a_while_and_reaches_the_kernels() -> None:
    settings = kernels("settings").settings
    before = ng.config.num_threads.get()
    with ng.config.num_threads(1), ng.config.vector_math("scalar"):
        assert settings.num_threads == 1 and settings.vector_math == "scalar"
        assert ng.config.num_threads.get() == 1
    assert ng.config.num_threads.get() == settings.num_threads == before
    with pytest.raises(RuntimeError), ng.config.num_threads(1):
        raise RuntimeError
    assert ng.config.num_threads.get() == before


@pytest.mark.parametrize("name,value,wanted", [
    ("num_threads", 0, "an integer of at least 1"), ("num_threads", 1.5, "an integer of at least 1"),
    ("num_threads", True, "an integer of at least 1"), ("num_threads", "two", "an integer of at least 1"),
    ("vector_math", "fast", "one of auto, scalar"), ("log_level", "LOUD", "one of DEBUG, INFO"),
    ("cache_dir", 3, "a path, or None for no cache on disk"),
])
def test_values_without_meaning_are_refused_and_the_old_one_stays(name: str, value: Any, wanted: str) -> None:
    setting = getattr(ng.config, name)
    before = setting.get()
    with pytest.raises(ValueError, match=f"ng.config.{name}: got {value!r}, wanted {wanted}"):
        setting.set(value)
    assert setting.get() == before


def test_the_environment_is_read_and_wrong_values_are_named() -> None:
    code = """
import json, logging
import numgrad as ng
c = ng.config
values = [c.num_threads.get(), c.vector_math.get(), c.log_level.get(), str(c.cache_dir.get())]
from numgrad.compiler.lowering import kernels
settings = kernels("settings").settings
values += [settings.num_threads, settings.vector_math, logging.getLogger("numgrad").level, str(settings.cache_dir)]
print(json.dumps(values))
"""
    done = run_python("-c", code, NUMGRAD_NUM_THREADS="3", NUMGRAD_VECTOR_MATH="scalar", NUMGRAD_LOG="info",
                      NUMGRAD_CACHE_DIR="")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [3, "scalar", "INFO", "None", 3, "scalar", logging.INFO, "None"]
    done = run_python("-c", "import numgrad as ng; ng.config.num_threads.get()", NUMGRAD_NUM_THREADS="many")
    assert "ValueError: NUMGRAD_NUM_THREADS: got 'many', wanted an integer of at least 1" in done.stderr


def test_messages_of_the_logger_are_seen_once_a_level_is_set() -> None:
    code = """
import logging
import numgrad as ng
logging.getLogger("numgrad").info("not seen")
with ng.config.log_level("INFO"):
    logging.getLogger("numgrad").info("seen")
logging.getLogger("numgrad").info("not seen again")
"""
    done = run_python("-c", code)
    assert done.returncode == 0 and done.stderr.splitlines() == ["numgrad INFO: seen"]

"""Imports go down the floors of the house, and importing numgrad stays cheap."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).resolve().parent.parent
SEVERAL_TRIES = 7
SECONDS_OVER_NUMPY = 0.2
HEAVY = {"numba", "llvmlite", "scipy", "matplotlib", "rich", "numgrad_kernels"}


def run_python(code: str, **settings: str) -> str:
    """Return what a fresh interpreter prints that sees the checkout and nothing of this process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "kernels"))), **settings}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lint(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    # The linter reads sources through sys.path and puts the current folder first.
    monkeypatch.chdir(config.parent)
    logger = logging.getLogger("numgrad")
    before = logger.disabled
    try:
        status = cli.lint_imports(config_filename=str(config), no_cache=True)
    finally:
        logger.disabled = before  # the linter's own set-up of logging silences every logger that exists
    return status, capsys.readouterr().out


def test_layer_contract_holds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, report = lint(ROOT / "pyproject.toml", capsys, monkeypatch)
    assert status == cli.EXIT_STATUS_SUCCESS, report


def test_layer_contract_reports_a_planted_upward_import(tmp_path: Path) -> None:
    """A copy with upward and sideways imports must break the contracts that forbid them."""
    for package in ("numgrad", "numgrad_kernels"):
        source = ROOT / package if package == "numgrad" else ROOT / "kernels" / package
        for file in source.rglob("*.py"):
            copy = tmp_path / package / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    faults = {
        "numgrad/graph/planted.py": "from numgrad.autodiff import reverse\n",
        "numgrad/autodiff/planted.py": "def late():\n    from numgrad import compiler\n    return compiler\n",
        "numgrad/ops/planted.py": "import numgrad_kernels\n",
        "numgrad_kernels/planted.py": "import numgrad.types\n",
    }
    for name, source_code in faults.items():
        (tmp_path / name).write_text(f'"""A planted fault."""\n{source_code}', encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode != 0
    for name in faults:
        module = name.removesuffix(".py").replace("/", ".")
        assert f"{module} ->" in done.stdout, done.stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = set(json.loads(run_python("import json, sys, numgrad; print(json.dumps(sorted(sys.modules)))")))
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_building_a_graph_and_its_gradient_loads_no_numba() -> None:
    code = """
import json, sys
import numgrad as ng
with ng.Graph().as_default():
    x = ng.placeholder("float64", ("n",))
    ng.gradients(ng.sum(ng.tanh(x) * x), [x])
print(json.dumps(sorted(sys.modules)))
"""
    assert not set(json.loads(run_python(code))) & {"numba", "llvmlite", "numgrad_kernels"}


def test_import_takes_less_than_a_fifth_of_a_second_over_numpy(tmp_path: Path) -> None:
    # Installed packages have their bytecode; a checkout may not, and a shell may forbid to write it.
    bytecode = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    run_python("import numgrad", **bytecode)
    assert list(tmp_path.rglob("numgrad/**/*.pyc"))
    # The processor's time, and the least of several tries: what a busy machine adds is not numgrad's.
    code = "import numpy, time; begun = time.process_time(); import numgrad; print(time.process_time() - begun)"
    seconds = []
    for _ in range(SEVERAL_TRIES):
        seconds.append(float(run_python(code, **bytecode)))
        if seconds[-1] < SECONDS_OVER_NUMPY:
            return
    pytest.fail(f"import numgrad took {min(seconds):.3f} s over numpy in the best of {SEVERAL_TRIES} tries")

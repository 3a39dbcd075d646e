"""The cache as one file: what is written out is read in elsewhere, and anything that does not fit is refused whole."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.cli import main
from numgrad_kernels import archive, build, disk
from tests.kernel_tables import environment


def fill(folder: Path) -> None:
    """A cache with some kernels and a program."""
    with ng.config.cache_dir(folder):
        f = ng.value_and_grad(lambda x: np.sum(np.tanh(x) * x) + np.sum(np.cumsum(x) * 0.5))
        f(np.ones(4))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An exported file."""
    ng.cache.path()
    monkeypatch.setattr(build, "_built", {})
    fill(tmp_path / "one")
    file = tmp_path / "kernels.zip"
    with ng.config.cache_dir(tmp_path / "one"):
        assert ng.cache.export(file) == len(disk.entries()) >= 4
        assert {info.kind for info in disk.entries()} == {disk.KERNEL, disk.PROGRAM}
    return file


def test_what_is_exported_is_loaded_once(written: Path, tmp_path: Path) -> None:
    with ng.config.cache_dir(tmp_path / "one"):
        here = {(info.key, info.kind): info.path.read_bytes() for info in disk.entries()}
    with ng.config.cache_dir(tmp_path / "other"):
        assert ng.cache.load(written) == len(here)
        assert {(info.key, info.kind): info.path.read_bytes() for info in disk.entries()} == here
        assert ng.cache.load(str(written)) == 0
        disk.entries()[0].path.write_bytes(b"damaged")
        assert ng.cache.load(written) == 1
        assert ng.cache.clear() == len(here)
    assert not list(tmp_path.glob(".*.tmp"))


SCRIPT = """
import sys
import numpy as np, numgrad as ng
from numgrad_kernels.build import counters
print(ng.cache.load(sys.argv[1]) if sys.argv[1:] else 0)
f = ng.value_and_grad(lambda x: np.sum(np.tanh(x) * x) + np.sum(np.cumsum(x) * 0.5))
f(np.ones(4))
print(counters.compiled, f.variant.program.origin)
"""


def test_another_machine_compiles_nothing(tmp_path: Path) -> None:
    def run(folder: str, *given: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", SCRIPT, *given], env=environment(tmp_path / folder),
                              text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert int(run("one")[1]) > 0
    file = tmp_path / "kernels.zip"
    with ng.config.cache_dir(tmp_path / "one"):
        ng.cache.export(file)
    count, compiled, origin = run("other", str(file))
    assert int(count) > 0 and (compiled, origin) == ("0", "disk")


def rewritten(file: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """The same archive with changed entries."""
    with zipfile.ZipFile(file) as old:
        content = {name: change(name, old.read(name)) for name in old.namelist()}
    with zipfile.ZipFile(file, "w") as new:
        for name, data in content.items():
            if data is not None:
                new.writestr(name, data)


def other(fact: str) -> Callable[[str, bytes], bytes]:
    return lambda name, data: json.dumps({**json.loads(data), fact: "other"}).encode() if "json" in name else data


def added(name: str) -> Callable[[Path], Any]:
    def add(file: Path) -> None:
        with zipfile.ZipFile(file, "a") as found:
            found.writestr(name, b"x")

    return add


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda file: file.unlink(), "No such file"),
    "no archive": (lambda file: file.write_bytes(b"text"), "no archive"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-30]), "no archive"),
    "no manifest": (lambda file: rewritten(file, lambda n, d: None if "json" in n else d), "no archive"),
    "a bit flipped": (lambda file: rewritten(file, lambda n, d: d if "json" in n else d[:-1] + b"~"), "damaged"),
    "a way out": (added("../../evil.o"), "damaged or none of numgrad's"),
    "another name": (added("0" * 64 + ".py"), "damaged or none of numgrad's"),
    **{f"another {fact}": (lambda file, fact=fact: rewritten(file, other(fact)), f"another {fact} .*export them again")
       for fact in ("format", "processor", "kernels", "numgrad", "compiler")},
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_refused_and_changes_nothing(name: str, written: Path, tmp_path: Path) -> None:
    change, message = FAULTS[name]
    change(written)
    with ng.config.cache_dir(tmp_path / "other"):
        with pytest.raises(ng.errors.DeviceError, match=rf"cache.load: .*{message}.*test_cache_archive.py"):
            ng.cache.load(written)
        assert disk.entries() == []
    assert not list(tmp_path.rglob("evil*"))


def test_without_a_cache_nothing_is_loaded_and_little_is_written(written: Path, tmp_path: Path) -> None:
    with ng.config.cache_dir(None):
        with pytest.raises(ng.errors.DeviceError, match="set ng.config.cache_dir"):
            ng.cache.load(written)
        assert ng.cache.export(tmp_path / "nothing.zip") == 0
        assert ng.cache.path() is None


def test_an_export_that_fails_leaves_the_old_file(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()

    def full(entry: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.disk, "encode", full)
    with ng.config.cache_dir(tmp_path / "one"), pytest.raises(OSError, match="No space"):
        ng.cache.export(written)
    assert written.read_bytes() == before and not list(tmp_path.glob(".*.tmp"))


def test_the_command_line_exports_and_imports(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "again.zip"
    with ng.config.cache_dir(tmp_path / "one"):
        assert main(["cache", "export", str(file)]) == 0
        assert main(["cache", "ls"]) == 0
    assert "kernels and programs to" in (text := capsys.readouterr().out) and "program" in text
    with ng.config.cache_dir(tmp_path / "other"):
        assert main(["cache", "import", str(file)]) == 0
        assert "new kernels and programs from" in capsys.readouterr().out
        assert len(disk.entries()) >= 4
    assert main(["cache", "import"]) == 1
    assert main(["cache", "ls", str(file)]) == 1
    assert main(["cache", "export", str(tmp_path / "no" / "folder.zip")]) == 1
    assert main(["cache", "import", str(tmp_path / "none.zip")]) == 1
    assert "cache.load" in capsys.readouterr().err

"""What is installed agrees with what is in the tree, and no file outgrows its house."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = {"numgrad": ROOT, "numgrad_kernels": ROOT / "kernels"}
LONGEST_FILE = 450


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def packages_in_tree() -> set[str]:
    """Return the dotted names of the folders that hold Python files."""
    found = set()
    for name, source_root in SOURCE_ROOTS.items():
        for file in (source_root / name).rglob("*.py"):
            found.add(".".join(file.parent.relative_to(source_root).parts))
    return found


def python_files() -> list[Path]:
    return sorted(
        file for folder in ("numgrad", "kernels", "tests", "perf", "docs") for file in (ROOT / folder).rglob("*.py")
    )


def test_packages_listed_are_the_folders_that_hold_python_files(setup: configparser.ConfigParser) -> None:
    listed = setup["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_in_tree()


def test_every_package_has_an_init() -> None:
    for name in packages_in_tree():
        folder = SOURCE_ROOTS[name.partition(".")[0]].joinpath(*name.split("."))
        assert (folder / "__init__.py").is_file(), f"{name} is a namespace package: add {folder / '__init__.py'}"


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_file_is_short_enough_and_opens_with_a_sentence(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST_FILE, f"{len(lines)} lines: split it by subject"
    assert not lines or lines[0].startswith(('"""', 'r"""')), "a module opens by saying what lives there"


def test_wheel_holds_packages_types_and_data(setup: configparser.ConfigParser, tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    # Building in a copy leaves the tree without build/ and egg-info, and two runs at once do not meet.
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "numgrad", "kernels"):
        (copy / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    build += ["--wheel-dir", str(tmp_path), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("numgrad-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {name for name in names if name.endswith(".py")}
    expected = {
        str(file.relative_to(SOURCE_ROOTS[root]))
        for root in SOURCE_ROOTS
        for file in (SOURCE_ROOTS[root] / root).rglob("*.py")
    }
    assert modules == expected
    tables = {f"numgrad/data/{name}.csv" for name in ("breast_cancer", "lynx_hare", "wine")}
    assert {"numgrad/py.typed", *tables} <= names
    assert "numgrad/data/README.md" in names, "the licence of the data must travel with the data"
    assert any(name.endswith("/LICENSE") for name in names)


def test_requirements_are_those_of_the_house(setup: configparser.ConfigParser) -> None:
    required = {line.split(">")[0].split("=")[0] for line in setup["options"]["install_requires"].split()}
    assert required == {"numpy", "numba", "llvmlite", "scipy", "filelock", "platformdirs", "rich"}
    assert setup["options"]["python_requires"] == ">=3.11"


def test_data_sets_are_what_their_authors_published() -> None:
    from numgrad.data import load_breast_cancer, load_lynx_hare, load_wine

    features, malignant, names = load_breast_cancer()
    assert features.shape == (569, 30) and malignant.shape == (569,) and len(names) == 30
    assert set(malignant) == {0.0, 1.0} and malignant.sum() == 212
    ranges = {"mean_radius": (6.981, 28.11), "mean_area": (143.5, 2501.0), "worst_area": (185.2, 4254.0)}
    for name, (low, high) in ranges.items():
        column = features[:, names.index(name)]
        assert (column.min(), column.max()) == (low, high)
    constituents, alcohol, names = load_wine()
    assert constituents.shape == (178, 12) and alcohol.shape == (178,) and len(names) == 12
    assert (constituents[:, names.index("proline")].min(), constituents[:, names.index("proline")].max()) == (278, 1680)
    assert round(alcohol.mean(), 1) == 13.0
    year, hare, lynx = load_lynx_hare()
    assert year.tolist() == list(range(1900, 1921))
    assert (hare.min(), hare.max(), round(hare.sum(), 1)) == (7.6, 77.4, 715.7)
    assert (lynx.min(), lynx.max(), round(lynx.sum(), 1)) == (4.0, 59.4, 423.5)

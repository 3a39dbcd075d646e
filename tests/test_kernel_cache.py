"""The kernel cache on disk: reuse by other processes, and every way in which a file or a directory can be bad."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from numgrad_kernels import build, disk, engine
from numgrad_kernels.settings import settings
from tests.kernel_tables import environment

CODE = b"\x00code\n with newlines\n" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh cache directory; the kernels' own directory inside it is returned."""
    monkeypatch.setattr(settings, "cache_dir", tmp_path / "cache")
    found = disk.path()
    assert found is not None
    return found


def key(number: int) -> str:
    return f"{number:064x}"


def entry(number: int, code: bytes = CODE) -> disk.Entry:
    return disk.Entry(key(number), (f"ng_{number}",), ("exp",), code)


def file_of(cache: Path, number: int) -> Path:
    return cache / key(number)[:2] / f"{key(number)}.o"


def test_what_is_stored_is_loaded(cache: Path) -> None:
    assert disk.load(key(1)) is None
    assert disk.store(entry(1))
    assert disk.load(key(1)) == entry(1)
    assert [info.key for info in disk.entries()] == [key(1)]
    assert disk.size() == file_of(cache, 1).stat().st_size > len(CODE)
    assert disk.clear() == 1
    assert disk.load(key(1)) is None
    assert disk.entries() == []


@pytest.mark.skipif(os.name != "posix", reason="permission bits exist on POSIX systems only")
def test_directory_and_files_are_private(cache: Path) -> None:
    disk.store(entry(1))
    for place in (cache, file_of(cache, 1).parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(cache, 1).stat().st_mode) & 0o077 == 0


def _rewrite_header(content: bytes, change: dict[str, object]) -> bytes:
    """The same file with some header fields changed, and the length of the header set right."""
    first, rest = content.split(b"\n", 1)
    length = int(first.split()[1])
    header = json.dumps({**json.loads(rest[:length]), **change}).encode()
    return b"%s %d\n" % (first.split()[0], len(header)) + header + rest[length:]


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "no newline": lambda content: b"numgrad-kernel",
    "foreign format": lambda content: b"\x7fELF" + content,
    "truncated code": lambda content: content[:-1],
    "truncated header": lambda content: content[:40],
    "something appended": lambda content: content + b"x",
    "one bit flipped": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "not a length": lambda content: content.replace(b" ", b" x", 1),
    "not JSON": lambda content: content.replace(b"{", b"[", 1),
    "other version": lambda content: _rewrite_header(content, {"version": disk.FORMAT_VERSION + 1}),
    "other key": lambda content: _rewrite_header(content, {"key": key(2)}),
    "symbols not text": lambda content: _rewrite_header(content, {"symbols": [1]}),
    "symbols not a list": lambda content: _rewrite_header(content, {"symbols": None}),
    "a list for a header": lambda content: content.replace(
        content[content.index(b"{") : content.index(b"}") + 1], b"[]"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_file_is_a_miss_and_is_replaced(cache: Path, fault: str) -> None:
    disk.store(entry(1))
    file = file_of(cache, 1)
    good = file.read_bytes()
    file.write_bytes(FAULTS[fault](good))
    assert file.read_bytes() != good
    assert disk.load(key(1)) is None
    assert disk.store(entry(1))
    assert disk.load(key(1)) == entry(1)


def test_file_under_another_key_is_a_miss(cache: Path) -> None:
    disk.store(entry(1))
    file_of(cache, 1).rename(file_of(cache, 2))
    assert disk.load(key(2)) is None


@pytest.mark.parametrize("name", ["../../x", "", "A" * 64, key(1) + "\n"])
def test_keys_are_hashes(cache: Path, name: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        disk.load(name)


def test_code_with_wrong_symbol_or_unknown_need_is_compiled_again(cache: Path) -> None:
    source = "def kernel(args, lo, hi):\n    args[0] = lo + 17\n"
    built = build.build_source(source)
    stored = disk.load(built.key)
    assert stored is not None
    for bad in (
        disk.Entry(built.key, ("ng_other",), (), stored.code),
        disk.Entry(built.key, stored.symbols, ("ng_no_such_symbol",), stored.code),
        disk.Entry(built.key, stored.symbols, (), stored.code[:200]),
    ):
        disk.store(bad)
        del build._built[built.key]
        assert build.build_source(source).origin == "compiled"
        assert disk.load(built.key) == stored


def test_objects_hold_no_python_and_no_numba(cache: Path) -> None:
    built = build.build_source(
        "def kernel(args, lo, hi):\n"
        "    x = as_f64(args[0])\n"
        "    for i in range(lo, hi):\n"
        "        x[i] = math.log1p(x[i]) / x[i]\n"
    )
    stored = disk.load(built.key)
    assert stored is not None
    assert stored.symbols == (built.symbol,)
    assert all(engine.has_symbol(name) for name in stored.needs)
    assert not [name for name in stored.needs if name.startswith(("Py", "_Py", "numba", "NRT"))]


@pytest.mark.skipif(os.name != "posix", reason="permission bits exist on POSIX systems only")
@pytest.mark.parametrize("which", ["kernels", "parent"])
def test_directory_that_others_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    parent = tmp_path / "cache"
    kernels = parent / f"kernels-v{disk.FORMAT_VERSION}"
    kernels.mkdir(parents=True)
    (kernels if which == "kernels" else parent).chmod(0o777)
    monkeypatch.setattr(settings, "cache_dir", parent)
    with caplog.at_level(logging.WARNING, "numgrad"):
        assert disk.path() is None
        assert not disk.store(entry(1))
        assert disk.load(key(1)) is None
    assert [record.message for record in caplog.records if "others may write" in record.message]
    assert len(caplog.records) == 1
    assert list(kernels.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners exist on POSIX systems only")
def test_foreign_directory_and_foreign_file_are_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk.store(entry(1))
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with caplog.at_level(logging.WARNING, "numgrad"):
        assert disk.load(key(1)) is None
        monkeypatch.setattr(settings, "cache_dir", tmp_path)
        assert disk.path() is None
    assert ["belongs to user" in record.message for record in caplog.records] == [True, True]


def test_read_only_directory_is_read_and_tolerated(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.store(entry(1))

    def refuse(*_: object, **__: object) -> None:
        # The system's own answer cannot be had in a test that runs as root, who may write anywhere.
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    os_stat_time = file_of(cache, 1).stat().st_mtime
    monkeypatch.setattr(time, "time", lambda: os_stat_time + 1e6)
    assert disk.load(key(1)) == entry(1)
    assert not disk.store(entry(2))
    built = build.build_source("def kernel(args, lo, hi):\n    args[0] = lo + 18\n")
    assert built.origin == "compiled"


def test_directory_that_cannot_be_made_turns_the_cache_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(settings, "cache_dir", tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING, "numgrad"):
        assert disk.path() is None
    assert "kernel cache off" in caplog.text


def test_cache_can_be_turned_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cache_enabled", False)
    assert not disk.store(entry(1))
    assert disk.entries() == []
    monkeypatch.setattr(settings, "cache_enabled", True)
    monkeypatch.setattr(settings, "cache_dir", None)
    assert disk.path() is None


def test_directory_deleted_meanwhile_is_made_again(cache: Path) -> None:
    cache.rmdir()
    assert disk.load(key(1)) is None
    assert disk.store(entry(1))
    assert disk.load(key(1)) == entry(1)


def test_least_recently_used_go_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for number in range(10):
        disk.store(entry(number))
        os.utime(file_of(cache, number), (now - 1e5 + number,) * 2)
    one = file_of(cache, 0).stat().st_size
    assert disk.load(key(0)) is not None  # a use makes it young again
    leftover = cache / "00" / ".left.tmp"
    leftover.write_bytes(b"x")
    os.utime(leftover, (now - 1e5,) * 2)
    monkeypatch.setattr(settings, "cache_max_bytes", int(one * 6.5))
    removed = disk.prune()
    left = {info.key for info in disk.entries()}
    assert left == {key(n) for n in (0, 6, 7, 8, 9)}
    assert removed == 5
    assert not leftover.exists()
    assert disk.prune() == 0


def test_storing_keeps_the_size_in_bounds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 50_000
    monkeypatch.setattr(settings, "cache_max_bytes", limit)
    for number in range(60):
        disk.store(entry(number, bytes(3000)))
    assert limit / 2 < disk.size() <= limit * 1.1


BUILD_AND_RUN = """
import sys
import numpy as np
from numgrad_kernels import build, driver, entry

sources = [
    "def kernel(args, lo, hi):\\n"
    "    x = as_f64(args[0])\\n"
    "    for i in range(lo, hi):\\n"
    f"        x[i] = math.exp(x[i]) + {n}.0\\n"
    for n in range(3)
]
address = entry.make_data_address()
for n, source in enumerate(sources):
    x = np.linspace(0.0, 1.0, 11)
    expected = np.exp(x) + n
    args = np.array([address(x)])
    assert driver.run(np.array([[build.build_source(source).address, address(args), 0, 11, 0, 0, 0, 0]])) == 1
    np.testing.assert_allclose(x, expected, rtol=1e-13)
print(build.counters.compiled, build.counters.loaded_from_disk, "numba" in sys.modules)
"""


def start(cache: Path, script: str = BUILD_AND_RUN) -> subprocess.Popen[str]:
    """A new process that runs a script, by default one that builds three kernels and prints its counters."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cache.parent),
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


def test_second_process_compiles_nothing_and_needs_no_numba(cache: Path) -> None:
    assert finish(start(cache)) == ["3", "0", "True"]
    assert finish(start(cache)) == ["0", "3", "False"]
    for info in disk.entries():
        info.path.write_bytes(info.path.read_bytes()[:-7])
    assert finish(start(cache)) == ["3", "0", "True"]
    assert finish(start(cache)) == ["0", "3", "False"]


GAMMA = """
import sys
import numpy as np
from numgrad_kernels import build, driver, entry

x = np.array([4.0])
address = entry.make_data_address()
args = np.array([address(x)])
text = "def kernel(args, lo, hi):\\n    x = as_f64(args[0])\\n    x[0] = math.gamma(x[0])\\n"
built = build.build_source(text)
driver.run(np.array([[built.address, address(args), 0, 1, 0, 0, 0, 0]]))
print(built.origin, x[0], "numba" in sys.modules)
"""


def test_code_that_needs_numbas_helpers_loads_numba_first(cache: Path) -> None:
    assert finish(start(cache, GAMMA)) == ["compiled", "6.0", "True"]
    assert finish(start(cache, GAMMA)) == ["disk", "6.0", "True"]


def test_two_processes_at_once(cache: Path) -> None:
    both = [start(cache), start(cache)]
    for process in both:
        compiled, loaded, _ = finish(process)
        assert int(compiled) + int(loaded) == 3
    assert finish(start(cache)) == ["0", "3", "False"]
    assert not list(cache.glob("*/.*.tmp"))

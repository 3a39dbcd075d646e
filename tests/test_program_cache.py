"""Programs on disk: found by equal graphs in any process, by no others, and ignored when anything about them is off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.compiler import identity, keep
from numgrad.compiler.lowering import kernels
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.nest import flatten
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels import build, disk
from tests.kernel_tables import environment


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh cache directory, under which programs of any size are kept."""
    monkeypatch.setattr(keep, "LEAST_KERNELS", 1)
    kernels("settings")
    with ng.config.cache_dir(tmp_path / "cache"):
        found = disk.path()
        assert found is not None
        yield found


F8 = np.float64
Made = Callable[..., Any]


def compiled(function: Made, *specs: tuple[Any, tuple[Any, ...]]) -> tuple[Any, list[Any], Any]:
    """A compiled graph, its inputs and its outputs."""
    with Graph().as_default():
        inputs = [placeholder(dtype, shape) for dtype, shape in specs]
        outputs = function(*inputs)
        return compile_graph(inputs, outputs), inputs, outputs


def twice(function: Made, *specs: tuple[Any, tuple[Any, ...]]) -> tuple[Any, Any]:
    """The same graph compiled twice, the second time from disk."""
    first, second = (compiled(function, *specs)[0] for _ in range(2))
    assert (first.program.origin, second.program.origin) == ("made", "disk")
    return first, second


def scan_of(x: Any, y: Any) -> Any:
    carry, rows = ng.scan(lambda c, r: (ng.tanh(c * r + ng.sum(y)), c @ y * r), ng.sin(y[0]), x, reverse=True)
    return [ng.sum(carry), rows, *ng.gradients(ng.sum(carry) + ng.sum(rows), [x, y])]


def trips_of(x: Any, y: Any) -> Any:
    found = ng.while_loop(lambda i, a: ng.sum(a) < 50.0, lambda i, a: (i + 1, a * 1.5 + ng.sum(y * y)),
                          (0, ng.abs(x[0])))
    return [found[1], *ng.gradients(ng.sum(found[1]), [x, y])]


def branch_of(x: Any, y: Any) -> Any:
    return ng.cond(ng.sum(x) > 0.0, lambda: ng.cumsum(x @ y, axis=0), lambda: ng.flip(x @ y, 0))


def large_constant(x: Any, y: Any) -> Any:
    return x @ ng.constant(np.arange(16.0).reshape(4, 4)) + 3.25 + ng.sum(y)


def sizes_of(x: Any, y: Any) -> Any:
    n = x.shape[0]
    half = ng.reshape(x, (n * 2, 2))[: n // 2 + 1]
    return [half, ng.sum(half) / n, ng.max(x, axis=0), ng.cumsum(ng.concat([x, y], axis=0), axis=1)[1:, ::2]]


PROGRAMS: dict[str, Made] = {
    "elementwise and products": lambda x, y: [ng.tanh(x @ y), *ng.gradients(ng.sum(ng.exp(-x @ y)), [x, y])],
    "full reductions": lambda x, y: [ng.sum(x), ng.max(ng.sin(y)), ng.mean(x) * ng.prod(y)],
    "a factorisation": lambda x, y: ng.linalg.cholesky(y @ y.T + 4.0 * ng.eye(4)),
    "solve": lambda x, y: ng.linalg.solve(y, ng.ones((4, 1))),
    "sorting": lambda x, y: [ng.sort(x, axis=0), ng.argsort(y, axis=1), ng.max(x, axis=0)],
    "scan": scan_of, "while": trips_of, "branch": branch_of, "constants": large_constant, "sizes": sizes_of,
    "many steps": lambda x, y: [ng.cumsum(ng.cumsum(x, axis=0) * k, axis=1) for k in range(5)],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_from_disk_is_the_same(name: str) -> None:
    first, second = twice(PROGRAMS[name], (F8, ("n", 4)), (F8, (4, 4)))
    rng = np.random.default_rng(0)
    for n in (4, 7, 3000):
        x, y = rng.standard_normal((n, 4)), rng.standard_normal((4, 4))
        a, b = (flatten(f(x, y))[0] for f in (first, second))
        assert all(np.array_equal(p, q, equal_nan=True) and p.dtype == q.dtype for p, q in zip(a, b, strict=True))
    assert {k: v for k, v in first.plan().items() if k != "build_seconds"} == {
        k: v for k, v in second.plan().items() if k != "build_seconds"}
    assert first.source == second.source
    lines = [[step["kernel"] for step in f.profile(x, y, repeats=1)] for f in (first, second)]
    assert lines[0] == lines[1]


def test_every_loop_shows_its_own_text() -> None:
    def two_loops(x: Any, y: Any) -> Any:
        return (ng.scan(lambda c, r: (ng.tanh(c @ y), r * 2.0), x, x)[0],
                ng.scan(lambda c, r: (ng.cosh(c @ y) * 0.1, r * 3.0), x, x)[0])

    first, second = twice(two_loops, (F8, ("n", 4)), (F8, (4, 4)))
    assert first.source == second.source and "vm_tanh" in second.source and "vm_cosh" in second.source


def test_errors_name_the_lines_of_this_process() -> None:
    def first(x: Any) -> Any:
        return ng.linalg.solve(x, ng.ones((2, 1))) + ng.max(x) + 1.0

    def second(x: Any) -> Any:  # the same graph, written elsewhere
        grown = ng.max(x)
        return ng.linalg.solve(x, ng.ones((2, 1))) + grown + 1.0

    line = first.__code__.co_firstlineno + 1
    a, b = twice(first, (F8, (2, 2)))
    for f in (a, b):
        assert f.program.origin in ("made", "disk")
        with pytest.raises(np.linalg.LinAlgError, match=rf"singular.*test_program_cache.py:{line} in first"):
            f(np.ones((2, 2)))
    assert any(f":{line} in first" in step["where"] for step in b.profile(np.eye(2)))
    empty = [compiled(lambda x: [ng.max(x), ng.cumsum(x, axis=0)], (F8, ("n",)))[0] for _ in range(2)]
    assert [f.program.origin for f in empty] == ["made", "disk"]
    for f in empty:
        with pytest.raises(ng.errors.ShapeError, match=r"max: the axes .*test_program_cache.py"):
            f(np.zeros(0))


DIFFERENT: dict[str, Made] = {
    "as it is": lambda x: ng.sum(ng.cumsum(x * 2.0, axis=0)) + ng.cumsum(x, axis=1),
    "a constant": lambda x: ng.sum(ng.cumsum(x * 3.0, axis=0)) + ng.cumsum(x, axis=1),
    "an attribute": lambda x: ng.sum(ng.cumsum(x * 2.0, axis=1)) + ng.cumsum(x, axis=1),
    "an operation": lambda x: ng.max(ng.cumsum(x * 2.0, axis=0)) + ng.cumsum(x, axis=1),
    "an operand": lambda x: ng.sum(ng.cumsum(x * x, axis=0)) + ng.cumsum(x, axis=1),
    "an order": lambda x: ng.cumsum(x, axis=1) + ng.sum(ng.cumsum(x * 2.0, axis=0)),
    "a dtype": lambda x: ng.sum(ng.cumsum(x * 2.0, axis=0)) + ng.cumsum(x.astype(np.complex128), axis=1),
    "outputs": lambda x: [ng.sum(ng.cumsum(x * 2.0, axis=0)) + ng.cumsum(x, axis=1)] * 2,
    "a large constant": lambda x: ng.constant(np.arange(500.0)) + ng.sum(ng.cumsum(x, axis=0)),
    "another one": lambda x: ng.constant(np.arange(500.0) + 1e-9) + ng.sum(ng.cumsum(x, axis=0)),
    "a body": lambda x: ng.scan(lambda c, r: (c + r, c), x[0], x),
    "another body": lambda x: ng.scan(lambda c, r: (c * r, c), x[0], x),
}


def test_other_graphs_have_other_programs() -> None:
    specs: list[tuple[Any, tuple[Any, ...]]] = [
        (F8, ("n", "m")), (F8, (3, 4)), (F8, (3, "m")), (F8, ("n", "n")), (np.float32, ("n", "m"))]
    keys = set()
    for function in DIFFERENT.values():
        for spec in specs:
            _, inputs, outputs = compiled(function, spec)
            found = identity.identify(inputs, flatten(outputs)[0], inputs[0].graph.sizes)
            assert found is not None
            keys.add(found.key)
            again = identity.identify(inputs, flatten(outputs)[0], inputs[0].graph.sizes)
            assert again is not None and again.key == found.key
    assert len(keys) == len(DIFFERENT) * len(specs)


def test_settings_are_part_of_the_key() -> None:
    _, inputs, y = compiled(lambda x: ng.exp(x), (F8, ("n",)))
    keys = set()
    for mode in ("auto", "scalar"):
        with ng.config.vector_math(mode):
            found = identity.identify(inputs, [y], y.graph.sizes)
            assert found is not None
            keys.add(found.key)
    assert len(keys) == 2


def test_what_means_something_in_one_process_only_is_not_kept(cache: Path) -> None:
    own = ng.extend.op("kept_nowhere", lambda x: x, evaluate=lambda x: x + 1.0,
                       decompose=lambda x: x + 1.0)
    for function in (lambda x: ng.cumsum(own(x), axis=0) + ng.sum(x),
                     lambda x: ng.njit_function(lambda a, out: None, (F8, (3,)))(x) + 1.0):
        try:
            f = compiled(function, (F8, (3,)))[0]
        except ng.errors.NumgradError:
            continue
        assert all(p.origin == "made" for p in getattr(f.program, "programs", [f.program]))
    assert not list(cache.glob("*/*.program"))


def _program(cache: Path) -> Path:
    (found,) = cache.glob("*/*.program")
    return found


def _change(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write a program with other content, and a header that is true of it."""
    entry = disk.load(file.stem, disk.PROGRAM)
    assert entry is not None
    content = json.loads(entry.code)
    change(content)
    disk.store(disk.Entry(entry.key, (), (), json.dumps(content).encode()), disk.PROGRAM)


FAULTS: dict[str, Callable[[Path], Any]] = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-3]),
    "one bit": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"~" + file.read_bytes()[-8:]),
    "empty": lambda file: file.write_bytes(b""),
    "a field gone": lambda file: _change(file, lambda found: found.pop("dims")),
    "a kernel gone": lambda file: _change(file, lambda found: found["kernels"][0].__setitem__(0, "0" * 64)),
    "no kernel's key": lambda file: _change(file, lambda found: found["kernels"][0].__setitem__(0, "../x")),
    "a size of no symbol": lambda file: _change(file, lambda found: found["dims"].append([[1, [99]]])),
    "a list for a table": lambda file: _change(file, lambda found: found.__setitem__("code", [])),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_programs_are_made_again(name: str, cache: Path) -> None:
    def function(x: Any) -> Any:
        return ng.sum(ng.cumsum(x, axis=0)) + ng.cumsum(x * 2.0, axis=0)

    twice(function, (F8, ("n",)))
    FAULTS[name](_program(cache))
    f = compiled(function, (F8, ("n",)))[0]
    assert f.program.origin == "made"
    assert f(np.arange(3.0)).tolist() == [4.0, 6.0, 10.0]
    assert compiled(function, (F8, ("n",)))[0].program.origin == "disk"


def test_deleted_kernels_are_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(x: Any) -> Any:
        return ng.sum(ng.cumsum(x, axis=0)) + ng.tanh(x * 2.0)

    twice(function, (F8, ("n",)))
    for file in cache.glob("*/*.o"):
        file.unlink()
    monkeypatch.setattr(build, "_built", {})
    assert compiled(function, (F8, ("n",)))[0].program.origin == "made"
    assert compiled(function, (F8, ("n",)))[0].program.origin == "disk"


def test_no_cache_no_programs(cache: Path) -> None:
    with ng.config.cache_dir(None):
        for _ in range(2):
            f = compiled(lambda x: ng.sum(ng.cumsum(x, axis=0)) + x, (F8, ("n",)))[0]
            assert f.program.origin == "made"
    assert not list(cache.glob("*/*.program"))


SCRIPT = """
import sys
import numpy as np
import numgrad as ng
import numgrad.compiler.code as code, numgrad.compiler.schedule as schedule

calls = []
honest = code.schedule
code.schedule = lambda *given: calls.append(1) or honest(*given)

def loss(w, x, y):
    z = ng.softplus(-y * (x @ w))
    return np.sum(z) + 0.5 * np.sum(w * w)

f = ng.value_and_grad(loss)
value, gradient = f(np.full(3, 0.25), np.arange(12.0).reshape(4, 3), np.array([1.0, -1.0, 1.0, -1.0]))
print(len(calls), value, gradient.tobytes().hex(), "numba" in sys.modules)
"""


def test_another_process_schedules_nothing(cache: Path) -> None:
    def run() -> list[str]:
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment(cache.parent), text=True,
                              capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    first, second = run(), run()
    assert int(first[0]) > 0 and second[0] == "0"
    assert first[1:3] == second[1:3] and second[3] == "False"

"""What the tests of the compiler share: small graphs, exact numbers, the comparison with the interpreter, processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import numgrad as ng
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.nest import flatten
from numgrad.tracing.compiled import Compiled
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels import build
from tests.op_cases import disagreement, generator

PLACES = [str(Path(module.__file__).parents[1]) for module in (ng, build)]
DTYPES = [np.dtype(c) for c in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()]


class Case:
    """A function of placeholders, as a graph, compiled and interpreted."""

    def __init__(self, function: Callable[..., Any], *specs: tuple[Any, Sequence[Any]]) -> None:
        with Graph().as_default():
            self.inputs = [placeholder(dtype, shape) for dtype, shape in specs]
            self.outputs = function(*self.inputs)
            self.compiled: Compiled = compile_graph(self.inputs, self.outputs)
        self.program = self.compiled.program

    def interpreted(self, *arrays: Any) -> list[Any]:
        """The outputs by NumPy, as a flat list."""
        return flatten(ng.run(self.outputs, dict(zip(self.inputs, arrays, strict=True))))[0]

    def check(self, *arrays: Any, ulps: float = 0.0, scale: float = 0.0) -> list[Any]:
        """The compiled outputs, after they were held against the interpreted ones."""
        got = flatten(self.compiled(*arrays))[0]
        wanted = self.interpreted(*arrays)
        assert len(got) == len(wanted)
        for k, (mine, theirs) in enumerate(zip(got, wanted)):
            why = disagreement(mine, theirs, ulps, scale)
            assert not why, f"output {k} for shapes {[np.shape(a) for a in arrays]}: {why}"
        return got


def exact(dtype: Any, shape: Sequence[int], seed: Any = 0) -> Any:
    """Numbers of a dtype whose sums, differences and products are exact in any order: small whole numbers."""
    dtype = np.dtype(dtype)
    rng = generator("exact", dtype.name, tuple(shape), seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.6
    values = rng.integers(0 if dtype.kind == "u" else -3, 4, shape)
    if dtype.kind == "c":
        return (values + 1j * rng.integers(-3, 4, shape)).astype(dtype)
    return values.astype(dtype)


def units(dtype: Any, shape: Sequence[int], seed: Any = 0) -> Any:
    """Numbers whose products are exact in any order and never grow: units, and a few zeros are left out."""
    dtype = np.dtype(dtype)
    rng = generator("units", dtype.name, tuple(shape), seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.9
    choices = [1, -1, 1j, -1j] if dtype.kind == "c" else [1] if dtype.kind == "u" else [1, -1]
    return rng.choice(choices, shape).astype(dtype)


def python_process(code: str, cache: Path, **variables: str) -> str:
    """What a fresh interpreter prints that keeps its kernels in `cache`; its errors fail the test."""
    environment = {**os.environ, "NUMGRAD_CACHE_DIR": str(cache), **variables, "PYTHONPATH": os.pathsep.join(PLACES)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout

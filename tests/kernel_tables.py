"""What tests of native kernels share: sources of tiny kernels, argument tables, steps, processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numgrad_kernels import build, entry

DOUBLE = """
def kernel(args, lo, hi):
    x = as_f64(args[0])
    out = as_f64(args[1])
    for i in range(lo, hi):
        out[i] = 2.0 * x[i]
"""

EXP = """
def kernel(args, lo, hi):
    x = as_f64(args[0])
    out = as_f64(args[1])
    for i in range(lo, hi):
        out[i] = math.exp(x[i]) + x[i]
"""

COMPLAIN = """
def kernel(args, lo, hi):
    status = as_i64(args[0])
    status[0] = lo
"""


data_address = entry.make_data_address()


def table(*values: np.ndarray | int) -> np.ndarray:
    """An argument table: addresses of arrays, and integers as they are."""
    return np.array([data_address(v) if isinstance(v, np.ndarray) else v for v in values], np.int64)


def step(
    kernel: int, args: np.ndarray, lo: int, hi: int, chunk: int = 0, status: np.ndarray | None = None
) -> list[int]:
    return [kernel, data_address(args), lo, hi, chunk, data_address(status) if status is not None else 0, 0, 0]


def environment(cache: Path) -> dict[str, str]:
    """The environment of a Python process that finds this package and keeps its kernels in `cache`."""
    places = [str(Path(build.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "NUMGRAD_CACHE_DIR": str(cache),
    }


class PlanBlock:
    """A plan block with its memory, and all that it points at."""

    def __init__(
        self,
        descrs: Sequence[np.dtype[Any]],
        shapes: Sequence[tuple[int, ...]],
        writable: Sequence[bool],
        slots: Sequence[Sequence[int]],
        program: np.ndarray,
        status: np.ndarray,
        release_gil: bool = False,
    ) -> None:
        records = list(zip(map(id, descrs), writable, shapes, slots, strict=True))
        self.memory = np.zeros(entry.block_size(records), np.int64)
        self.address = base = data_address(self.memory)
        self.alive = (descrs, program, status)
        self._status = status
        self.memory[:] = entry.block_words(
            lambda k: base + 8 * k, records, data_address(program), len(program), data_address(status), release_gil
        )

    @property
    def status(self) -> int:
        return int(self._status[0])

    @property
    def steps_done(self) -> int:
        return entry.steps_done(self.memory)

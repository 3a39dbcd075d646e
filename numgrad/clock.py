"""Where the seconds of tracing and compiling go: a clock that is told when a phase begins and ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

__all__ = ["PHASES", "Clock", "KernelTime", "current", "phase"]

#: The phases in the order in which they come, and what happens in each.
PHASES = {
    "trace": "the Python function runs on symbolic arrays",
    "gradients": "derivative nodes are added to the graph",
    "load": "the kernels' package and LLVM are imported, once a process",
    "look up": "the graph's hash, and the program that lies on disk under it",
    "rewrite": "equal nodes are merged, trivial ones dropped",
    "fusion": "nodes are put together to loops, and these in order",
    "print": "loops become text, memory is laid out",
    "front end": "kernels: from text to LLVM's language",
    "LLVM": "kernels: machine code",
    "link": "kernels: read from disk, linked into the process",
    "entry": "the native entry and driver are made ready, once a process",
    "plan": "tables filled in, once for each tuple of sizes",
}


class KernelTime(NamedTuple):
    """One kernel: its symbol, whether it was "compiled", found on "disk" or in "memory", the seconds of each phase."""

    symbol: str
    origin: str
    front_end: float
    llvm: float
    link: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.front_end + self.llvm + self.link


class Clock:
    """The seconds of each phase, without those of phases inside it, and of each kernel."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.kernels: list[KernelTime] = []
        self.plans = 0
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make this the clock that `phase` tells, in this thread."""
        before, _local.clock = current(), self
        try:
            yield
        finally:
            _local.clock = before

    def enter(self, name: str) -> None:
        """A phase begins; one that is open waits."""
        self._count()
        self._open.append(name)

    def leave(self) -> None:
        """The latest phase ends."""
        self._count()
        self._open.pop()

    def _count(self) -> None:
        now = perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def kernel(self, symbol: str, origin: str, front_end: float, llvm: float, seconds: float) -> None:
        """A kernel was built within the open phase: its seconds are moved to phases of their own."""
        link = max(0.0, seconds - front_end - llvm)
        self.kernels.append(KernelTime(symbol, origin, front_end, llvm, link))
        for name, part in (("front end", front_end), ("LLVM", llvm), ("link", link)):
            self.seconds[name] += part
        if self._open:
            self.seconds[self._open[-1]] -= front_end + llvm + link


class _Local(threading.local):
    clock: Clock | None = None


_local = _Local()

#: Called with the name, the beginning and the seconds of each phase that ends.
listener: Callable[[str, float, float], None] | None = None


def current() -> Clock | None:
    """The clock that runs in this thread."""
    return _local.clock


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Tell the running clock and the listener, if there are any, that a phase lasts as long as the block."""
    clock, begun = _local.clock, perf_counter()
    if clock is not None:
        clock.enter(name)
    try:
        yield
    finally:
        if clock is not None:
            clock.leave()
        if listener is not None:
            listener(name, begun, perf_counter() - begun)

"""Plain names in place of Numba's functions, for the factories of library kernels while these are translated directly.

A factory asks `prelude.namespace`, `blas.fortran` and `access.inlined` for what its kernel calls. While `symbolic` is
on they give the objects of this module, so that neither the factory nor the translation of its kernel imports Numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_symbolic: ContextVar[bool] = ContextVar("symbolic", default=False)


@dataclass(frozen=True)
class Symbol:
    """A function of the prelude."""

    name: str


@dataclass(frozen=True)
class Routine:
    """A Fortran routine: the symbol that object code calls, and a letter for each argument (see `blas.fortran`)."""

    symbol: str
    signature: str


@contextmanager
def symbolic() -> Iterator[None]:
    """Let factories see names in place of Numba's functions."""
    token = _symbolic.set(True)
    try:
        yield
    finally:
        _symbolic.reset(token)


def is_symbolic() -> bool:
    """Whether factories see names now."""
    return _symbolic.get()


class Names(dict[str, Any]):
    """The prelude's names, each for itself; the translator knows which of them it can translate."""

    def __missing__(self, name: str) -> Any:
        return math if name == "math" else Symbol(name)


def inlined(function: Callable[..., Any]) -> Any:
    """`function` for use in kernels: its code is put where it is called."""
    if is_symbolic():
        return function
    from numba import njit

    return njit(inline="always")(function)

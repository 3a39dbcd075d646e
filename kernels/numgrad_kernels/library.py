"""The registry of hand-written kernels: who made them, and how to find the one with a given name.

A family module (`reduction`, `sort`, ...) decorates factories; nothing is compiled, and no family is imported, before
a kernel of it is wanted and not yet in the cache.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numgrad_kernels.errors import KernelBuildError

FAMILIES = ("reduction", "scan", "indexing", "sort", "linalg", "shaping")


@dataclass(frozen=True)
class LibraryKernel:
    """A hand-written kernel: `factory(*numpy_dtypes)` returns its Python function `kernel(args, lo, hi)`."""

    name: str
    family: str
    factory: Callable[..., Callable[..., None]]
    requires: Callable[[tuple[str, ...]], tuple[str, ...]]
    brief: bool = False


LIBRARY: dict[str, LibraryKernel] = {}


def _nothing(dtypes: tuple[str, ...]) -> tuple[str, ...]:
    return ()


def library(
    name: str, *, family: str, requires: Callable[[tuple[str, ...]], tuple[str, ...]] = _nothing, brief: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated factory as the hand-written kernel `name`.

    Parameters
    ----------
    name
        Name under which `build.build_library` finds it; once per process.
    family
        Name of the module that holds it, one of `FAMILIES`.
    requires
        From dtype names to the external routines used, such as `("blas:dgemm",)`.
    brief
        That its own loops run few steps, and others are left to routines.

    Raises
    ------
    KernelBuildError
        If the name is taken or the family unknown.
    """
    if family not in FAMILIES:
        raise KernelBuildError(f"library kernel {name!r}: family {family!r} is not one of {', '.join(FAMILIES)}")

    def register(factory: Callable[..., Any]) -> Callable[..., Any]:
        if name in LIBRARY:
            raise KernelBuildError(f"library kernel {name!r} is defined twice: {LIBRARY[name].factory} and {factory}")
        LIBRARY[name] = LibraryKernel(name, family, factory, requires, brief)
        return factory

    return register


def load_families() -> None:
    """Import every family module that this installation has, so that `LIBRARY` is complete."""
    for family in FAMILIES:
        if importlib.util.find_spec(f"numgrad_kernels.{family}") is not None:
            importlib.import_module(f"numgrad_kernels.{family}")


def find(name: str) -> LibraryKernel:
    """The hand-written kernel called `name`.

    Raises
    ------
    KernelBuildError
        If no family defines it.
    """
    if name not in LIBRARY:
        load_families()
    try:
        return LIBRARY[name]
    except KeyError:
        raise KernelBuildError(
            f"there is no library kernel {name!r}; there are {', '.join(sorted(LIBRARY)) or 'none'}"
        ) from None

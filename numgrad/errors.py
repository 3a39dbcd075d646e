"""The tree of errors, and the user's source line that every message points at."""

from __future__ import annotations

import functools
import os
import sys
from types import CodeType
from typing import NamedTuple

__all__ = [
    "DeviceError",
    "DtypeError",
    "GradientError",
    "GraphError",
    "KernelError",
    "NotANumberError",
    "NumgradError",
    "ShapeError",
]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_own_files: dict[str, bool] = {functools.__file__: True}  # cached properties and wrappers are called from there


class NumgradError(Exception):
    """Root of all errors that numgrad raises on purpose.

    Examples
    --------
    >>> import numgrad as ng
    >>> issubclass(ng.errors.ShapeError, (ng.errors.NumgradError, ValueError))
    True
    """


class ShapeError(NumgradError, ValueError):
    """Shapes that do not fit together, or a size that is not known yet."""


class DtypeError(NumgradError, TypeError):
    """Data types that an operation does not take."""


class GraphError(NumgradError, ValueError):
    """Tensors of different graphs, or a graph that breaks the grammar of graphs."""


class GradientError(NumgradError, LookupError):
    """An operation on the path has no derivative."""


class KernelError(NumgradError, NotImplementedError):
    """No kernel exists for an operation, dtype and target."""


class DeviceError(NumgradError, RuntimeError):
    """A device that is asked for cannot be used."""


class NotANumberError(NumgradError, FloatingPointError):
    """A NaN arose while `debug_nans` was in force."""


class SourceLine(NamedTuple):
    """A place in the user's source: a code object and a line, formatted only in errors."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line} in {self.code.co_name}"


def user_line(inside: int = 0) -> SourceLine | None:
    """The innermost line outside numgrad that led here, or None when there is none.

    `inside` callers of this function's caller are known to be numgrad's own.
    """
    frame = sys._getframe(1 + inside)
    while frame is not None:
        code = frame.f_code
        name = code.co_filename  # hashed once, which code objects are not
        own = _own_files.get(name)
        if own is None:
            own = _own_files[name] = name.startswith((_PACKAGE, "<numgrad"))
        if not own:
            return SourceLine(code, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def at(where: SourceLine | None) -> str:
    """The tail of an error message that names a source line: `` (file:line in f)`` or nothing."""
    return f" ({where})" if where is not None else ""

"""Tables and messages: coloured in a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["console", "fail", "table"]

_WIDTH_OF_FILES = 130


def console() -> Console:
    """Where to print: as wide as the terminal, or fixed where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDTH_OF_FILES)


def table(out: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> None:
    """Print a table whose first `left` columns are text and whose others are numbers."""
    style = box.ROUNDED if out.is_terminal and not out.legacy_windows else box.ASCII
    made = Table(title=title, box=style, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(str, row))
    out.print(made)


def fail(message: str) -> int:
    """Print an error; returns the exit status."""
    style = "red" if sys.stderr.isatty() else ""
    Console(stderr=True, highlight=False).print(f"numgrad: {message}", style=style, markup=False, soft_wrap=True)
    return 1

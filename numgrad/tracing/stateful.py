"""Programs that read variables, and assign to them when they have run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.graph.core import Tensor
from numgrad.graph.variable import Variable, variables_of
from numgrad.graph.walk import ancestors

__all__ = ["Stateful", "with_variables"]


class Stateful:
    """A program that takes the values of variables besides its arguments; everything else is the program's.

    The last outputs of `program` are the new values of the variables `assigned`, or, for those in `by_rows`, the
    numbers of rows and what is added to them.
    """

    entry = None  # the native entry knows nothing of variables

    def __init__(self, program: Any, read: Sequence[Variable], assigned: Sequence[Variable],
                 by_rows: Sequence[Variable]) -> None:
        self.program, self.read, self.assigned, self.by_rows = program, list(read), list(assigned), list(by_rows)

    def __call__(self, *arrays: Any, out: Any = None) -> list[np.ndarray[Any, Any]]:
        options = {} if out is None else {"out": out}
        results = list(self.program(*arrays, *self._values(), **options))
        first = len(results) - len(self.assigned) - 2 * len(self.by_rows)
        rows = results[first + len(self.assigned):]
        for variable, numbers in zip(self.by_rows, rows[::2], strict=True):
            variable.check_rows(numbers)
        for variable, value in zip(self.assigned, results[first:first + len(self.assigned)], strict=True):
            variable.store(value)
        for variable, numbers, values in zip(self.by_rows, rows[::2], rows[1::2], strict=True):
            variable.add_rows(numbers, values)
        return results[:first]

    def _values(self) -> list[np.ndarray[Any, Any]]:
        return [v.array for v in self.read]

    def bind(self, *arrays: Any) -> Callable[[], list[np.ndarray[Any, Any]]]:
        """Fix the arrays; variables are read at each call."""
        return functools.partial(self, *arrays)

    def profile(self, *arrays: Any, **options: Any) -> Any:
        """The program's profile at the variables' values."""
        return self.program.profile(*arrays, *self._values(), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)


def with_variables(make: Callable[[Sequence[Tensor], Sequence[Tensor]], Any], inputs: Sequence[Tensor],
                   outputs: Sequence[Tensor], assigned: Mapping[Variable, Tensor]) -> Any:
    """What ``make(inputs, outputs)`` gives, in charge of the variables that the outputs depend on and of `assigned`."""
    by_rows = {variable: rows for variable, value in assigned.items() if (rows := _rows(variable, value)) is not None}
    whole = {variable: value for variable, value in assigned.items() if variable not in by_rows}
    everything = [*outputs, *whole.values(), *(t for rows in by_rows.values() for t in rows)]
    given = set(inputs)
    nodes = variables_of(ancestors(everything, stop=given.__contains__))
    if not nodes and not assigned:
        return make(inputs, outputs)
    assert all(node.op is not None for node in nodes)
    return Stateful(make([*inputs, *nodes], everything), [node.op.attrs["variable"] for node in nodes],  # type: ignore[union-attr]
                    list(whole), list(by_rows))


def _rows(variable: Variable, value: Tensor) -> tuple[Tensor, ...] | None:
    """The row numbers and what is added to them, where a variable's new value is the old one plus rows."""
    while value.op is not None and value.op.type == "identity":
        value = value.op.inputs[0]
    if value.op is None or value.op.type != "add":
        return None
    old, change = (t.op for t in value.op.inputs)
    assert old is not None and change is not None
    if old.attrs.get("variable") is not variable or change.type != "scatter_add" or change.attrs["axis"] != 0:
        return None
    return change.inputs

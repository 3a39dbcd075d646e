"""`debug_nans`: the operation at which a NaN arises, named as soon as one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from numgrad.errors import NotANumberError, SourceLine, at, user_line
from numgrad.graph.core import Operation, Tensor, state
from numgrad.graph.records import OpRecord
from numgrad.graph.run import bind_sizes, evaluate_op
from numgrad.graph.scopes import heard_by, start, stop
from numgrad.graph.walk import ancestors

__all__ = ["all_values", "debug_nans", "has_nan", "origin", "summary"]

_BACKWARD = "_grad/"  # the scope of every operation of a derivative ends so


def has_nan(value: Any) -> bool:
    """Whether a value holds a NaN."""
    array = np.asarray(value)
    return array.dtype.kind in "fc" and bool(np.isnan(array).any())


def summary(value: Any) -> str:
    """What a value looks like: dtype, shape, range, and how many elements are NaN, infinite or zero."""
    array = np.asarray(value)
    text = f"{array.dtype}{array.shape}"
    if array.size == 0:
        return text
    if array.ndim == 0:
        return f"{text} = {array[()]}"
    size = np.abs(array) if array.dtype.kind == "c" else array
    finite = size[np.isfinite(size)] if array.dtype.kind in "fc" else size
    parts = [f"{'magnitude ' if array.dtype.kind == 'c' else ''}{finite.min()} to "
             f"{finite.max()}"] if finite.size else []
    if array.dtype.kind in "fc":
        counts = {"nan": np.isnan(array).sum(), "inf": np.isinf(array).sum()}
        parts += [f"{n} {word}" for word, n in counts.items() if n]
    zeros = int((array == 0).sum())
    return f"{text}: {', '.join(parts + ([f'{zeros} zero'] if zeros else []))}"


def _forward_name(name: str) -> str | None:
    """For an operation of a derivative the operation that it differentiates, else None."""
    before, found, _ = name.rpartition(_BACKWARD)
    return before.rpartition("/")[2] if found else None


def _error(what: str, name: str | None, inputs: Sequence[Any], outputs: Sequence[Any],
           where: SourceLine | None) -> NotANumberError:
    differentiated = _forward_name(name) if name is not None else None
    place = f"in the backward part of {differentiated!r}" if differentiated else "in the forward part"
    lines = [f"debug_nans: {what} gave NaN {place}{at(where)}"]
    lines += [f"  operand {i}: {summary(v)}" for i, v in enumerate(inputs)]
    lines += [f"  result{f' {i}' if len(outputs) > 1 else ''}: {summary(v)}" for i, v in enumerate(outputs)]
    return NotANumberError("\n".join(lines))


class _Eager:
    """Looks at the result of every eager operation."""

    def operation(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                  attrs: dict[str, Any]) -> None:
        values = [t._value for t in outputs]
        if any(v is None for v in values) or not any(has_nan(v) for v in values):
            return
        given = [t._value for t in inputs]
        if not any(has_nan(v) for v in given):
            raise _error(record.name, None, given, values, state.lines[-1] if state.lines else user_line())

    def read(self, variable: Any, handle: Tensor) -> None:
        """Variables hold what they were given."""

    def follows(self, tensor: Tensor) -> bool:
        """Compiled functions are looked at as a whole."""
        return False


def all_values(outputs: Sequence[Tensor], feeds: Mapping[Tensor, Any]) -> dict[Tensor, Any]:
    """The values of everything that `outputs` depend on."""
    values: dict[Tensor, Any] = dict(feeds)
    fed = [t for t in values if t.op is not None and t.op.type == "placeholder"]
    sizes = bind_sizes(fed, [values[t] for t in fed])
    for op in ancestors(outputs, stop=lambda t: t in values):
        for tensor, value in zip(op.outputs, evaluate_op(op, values, sizes), strict=True):
            values.setdefault(tensor, value)
    return values


def origin(tensor: Tensor, values: Mapping[Tensor, Any]) -> Operation | None:
    """The operation that made the NaN in a tensor: on the way back, the first whose operands hold none.

    None where an input holds it."""
    while tensor.op is not None and tensor.op.type != "placeholder":
        carried = next((t for t in tensor.op.inputs if has_nan(values[t])), None)
        if carried is None:
            return tensor.op
        tensor = carried
    return None


def _check_run(outputs: Sequence[Tensor], feeds: Mapping[Tensor, Any], results: Sequence[Any]) -> None:
    """Where a result holds a NaN, evaluate once more and follow it back."""
    bad = [t for t, r in zip(outputs, results, strict=True) if has_nan(r) and t.op is not None]
    if not bad:
        return
    with heard_by(()):
        values = all_values(bad, feeds)
    for tensor in bad:
        found = origin(tensor, values) if has_nan(values[tensor]) else None
        if found is not None:
            raise _error(f"{found.name} ({found.type})", found.name, [values[t] for t in found.inputs],
                         [values[t] for t in found.outputs], found.where)


@contextmanager
def debug_nans() -> Iterator[None]:
    """Raise an error at the operation where a NaN arises, inside a ``with`` block and this thread.

    Eager operations are looked at one by one. A run of a graph and a call of a compiled function are looked at when a
    result holds a NaN: they are then evaluated again with NumPy, and the NaN is followed back to the operation that
    made it. NaNs that were in the arguments are nobody's fault and pass.

    Raises
    ------
    NotANumberError (a FloatingPointError)
        Names the operation, its operands' and results' ranges, the user's line, and whether the operation belongs to
        the forward or the backward part.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> f = ng.function(lambda x: ng.sum(ng.log(x)))
    >>> with ng.debug_nans():
    ...     try:
    ...         f(np.array([1.0, -1.0]))
    ...     except FloatingPointError as error:
    ...         print(str(error).splitlines()[1])
      operand 0: float64(2,): -1.0 to 1.0
    """
    watcher = _Eager()
    start(watcher)
    before, state.checks = state.checks, (*state.checks, _check_run)
    try:
        yield
    finally:
        state.checks = before
        stop(watcher)

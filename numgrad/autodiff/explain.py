"""`explain_gradient`: why a gradient is None, zero, NaN or an error, path by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgrad.autodiff.aggregate import check_method, choice, facts_of
from numgrad.autodiff.nans import all_values, has_nan, origin, summary
from numgrad.autodiff.registry import rule_of
from numgrad.autodiff.reverse import pending_terms, walk_back
from numgrad.autodiff.slices import IndexedSlices, dense
from numgrad.errors import GradientError, GraphError, SourceLine, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor, placeholder, state
from numgrad.graph.graph import Graph
from numgrad.graph.run import fed
from numgrad.graph.scopes import backward_of, heard_by
from numgrad.graph.walk import between
from numgrad.types import is_trainable

__all__ = ["Cut", "Explanation", "Sum", "explain_gradient"]

_SHOWN = 12  # cuts, and sums, that are written out
_ZERO_STAYS = frozenset({"reshape", "identity", "broadcast_to", "permute_dims", "negative", "cast", "sum"})


@dataclass(frozen=True)
class Cut:
    """A place where a gradient ends, vanishes or becomes NaN.

    Attributes
    ----------
    kind : str
        "none", "zero", "nan" or "undefined".
    op, type : str
        Name and type of the operation.
    operand : int or None
        The input whose gradient it is; None for the whole operation.
    reason : str
    where : SourceLine or None
        The user's line that made the operation.

    Examples
    --------
    >>> import numgrad as ng
    >>> report = ng.explain_gradient(lambda x: ng.sum(ng.floor(x)), [0.5])
    >>> [(cut.kind, cut.type) for cut in report.cuts]
    [('none', 'floor')]
    """

    kind: str
    op: str
    type: str
    operand: int | None
    reason: str
    where: SourceLine | None

    def __str__(self) -> str:
        operand = "" if self.operand is None else f", operand {self.operand}"
        place = at(self.where)
        return f"{self.op} ({self.type}{operand}): {self.reason}" + (place if place not in self.reason else "")


@dataclass(frozen=True)
class Sum:
    """A tensor on the way whose gradient is the sum of several terms.

    Attributes
    ----------
    tensor : str
        Its name.
    terms : int
    method : str
        "ADD_N", "TREE" or "ACCUMULATE".
    reason : str
        Why that one.
    where : SourceLine or None
        The user's line that made the tensor.

    Examples
    --------
    >>> import numgrad as ng
    >>> report = ng.explain_gradient(lambda x: ng.sum(x * ng.sin(x)), [0.5])
    >>> [(s.tensor, s.terms, s.method, s.reason) for s in report.sums]
    [('argument0:0', 2, 'ADD_N', 'by default')]
    """

    tensor: str
    terms: int
    method: str
    reason: str
    where: SourceLine | None

    def __str__(self) -> str:
        return f"{self.tensor}: {self.terms} by {self.method} ({self.reason}){at(self.where)}"


@dataclass(frozen=True)
class Explanation:
    """What `explain_gradient` found; ``str()`` of it is for reading.

    Attributes
    ----------
    status : str
        "none": there is no path. "undefined": taking the gradient is an error. "zero", "nan", "value": so is the
        gradient where it was evaluated. "connected": there is a path, and nothing was evaluated.
    paths : int
        How many ways lead from x to y, whether they carry a derivative or not.
    cuts : tuple of Cut
        Where paths end, and where zero and NaN arise, in backward order.
    gradient : ndarray or None
        The value, where it was evaluated.
    sums : tuple of Sum
        Where several terms meet, in backward order, and how they are summed.

    Examples
    --------
    >>> import numgrad as ng
    >>> report = ng.explain_gradient(lambda x: ng.sum(x * ng.stop_gradient(x)), [1.0, 2.0])
    >>> report.status, report.paths, report.gradient
    ('value', 2, array([1., 2.]))
    """

    status: str
    paths: int
    cuts: tuple[Cut, ...]
    gradient: Any
    summary: str
    sums: tuple[Sum, ...] = ()

    def __str__(self) -> str:
        lines = [self.summary]
        headings = {"undefined": "it is an error at", "none": "paths end at", "zero": "zeros arise at",
                    "nan": "NaN arises at"}
        for kind, heading in headings.items():
            found = [cut for cut in self.cuts if cut.kind == kind]
            if found:
                lines.append(f"{heading}:")
                lines += [f"  {cut}" for cut in found[:_SHOWN]]
                lines += [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        if self.sums:
            lines.append("terms are summed at:")
            lines += [f"  {each}" for each in self.sums[:_SHOWN]]
            lines += [f"  and {len(self.sums) - _SHOWN} more"] if len(self.sums) > _SHOWN else []
        return "\n".join(lines)


def explain_gradient(y: Any, x: Any, feeds: Mapping[Tensor, Any] | None = None,
                     aggregation_method: int | None = None) -> Explanation:
    """Tell why the gradient of y with respect to x is None, zero, NaN or an error, and how its terms are summed.

    Parameters
    ----------
    y : Tensor or callable
        A node of a graph, or a function of arrays.
    x : Tensor, or array_like or tuple of array_like
        A node of the same graph; for a function its argument, or a tuple of arguments of which the first is
        differentiated.
    feeds : mapping, optional
        Values of placeholders, as for `run`: the gradient is then evaluated, and what is zero or NaN is traced to
        where it arises. A function is evaluated at its arguments.
    aggregation_method : int, optional
        As in `gradients`: the constant whose choice of a strategy is shown.

    Returns
    -------
    Explanation

    Raises
    ------
    GraphError
        y and x are not nodes of one graph.
    ValueError
        An unknown aggregation method.

    Notes
    -----
    None means that no path carries a derivative; zero that one does, and that it is zero. The graph is left as it was.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, (2,), name="x")
    ...     y = ng.sum(ng.cast(ng.cast(x, ng.int64), ng.float64))
    >>> report = ng.explain_gradient(y, x)
    >>> report.status, report.cuts[0].reason
    ('none', 'it turns float64 into int64, and integers carry no derivatives')
    """
    method = check_method(aggregation_method)
    if callable(y) and not isinstance(y, Tensor):
        arguments = [np.asarray(a) for a in (x if isinstance(x, tuple) else (x,))]
        with Graph().as_default(), heard_by(()):
            inputs = [placeholder(as_tensor(a).dtype, a.shape, f"argument{i}") for i, a in enumerate(arguments)]
            output = as_tensor(y(*inputs))
        if output.op is None:
            return Explanation("none", 0, (), None, "the function returned a value that does not depend on its "
                                                    "argument")
        return explain_gradient(output, inputs[0], dict(zip(inputs, arguments, strict=True)), method)
    if not (isinstance(y, Tensor) and isinstance(x, Tensor)) or y.graph is None or y.graph is not x.graph:
        raise GraphError(f"explain_gradient: got {y!r} and {x!r}, wanted two nodes of one graph, or a function and "
                         f"its arguments"
                         f"{at(user_line())}")
    with y.graph.as_default(), y.graph.lock, _undone(y.graph), heard_by(()), _unchecked():
        values = {t: fed(t, v) for t, v in feeds.items()} if feeds is not None else None
        return _Search(y, x, method).explanation(values)


@contextmanager
def _undone(graph: Graph) -> Iterator[None]:
    """Take back what is added to a graph inside."""
    operations, names, captured = len(graph.operations), dict(graph._names), dict(graph.captured)
    sizes = graph.sizes
    guards, bound = len(sizes.guards), [symbol.bound for symbol in sizes.symbols]
    try:
        yield
    finally:
        del graph.operations[operations:]
        graph._names, graph.captured = names, captured
        del sizes.guards[guards:]
        del sizes.symbols[len(bound):]
        for symbol, before in zip(sizes.symbols, bound, strict=True):
            symbol.bound = before


@contextmanager
def _unchecked() -> Iterator[None]:
    before, state.checks = state.checks, ()
    try:
        yield
    finally:
        state.checks = before


class _Search:
    """One sweep backwards from y to x, with what each operation got and gave."""

    def __init__(self, y: Tensor, x: Tensor, method: int) -> None:
        self.y, self.x, self.method = y, x, method
        self.pending: dict[Tensor, int] = {}
        self.cuts: list[Cut] = []
        self.steps: list[tuple[Operation, Sequence[Any], Sequence[Any]]] = []
        self.every, self.reached = between([y], [x], lambda t: True)  # also through what carries no derivative
        self.paths = self._count()
        self.flowing: set[Tensor] = {x}
        self.error: GradientError | None = None

    def _count(self) -> int:
        """How many ways lead from x to y."""
        ways: dict[Tensor, int] = {self.x: 1}
        for op in self.every:
            total = sum(ways.get(t, 0) for t in op.inputs)
            for tensor in op.outputs:
                ways[tensor] = ways.get(tensor, 0) + total
        return ways.get(self.y, 0)

    def _cut(self, kind: str, op: Operation, operand: int | None, reason: str) -> None:
        self.cuts.append(Cut(kind, op.name, op.type, operand, reason, op.where))

    def explanation(self, feeds: Mapping[Tensor, Any] | None) -> Explanation:
        """Differentiate, look at every step, and evaluate if there are values."""
        if not self.paths:
            return Explanation("none", 0, (), None, f"{self.y.name} does not depend on {self.x.name}: the gradient is "
                                                    f"None")
        gradient = self._differentiate()
        self._integers()
        for op, given, pulled in self.steps:
            self._missing(op, given, pulled)
        status, value = "connected", None
        if self.error is not None:
            status = "undefined"
        elif gradient is None:
            status = "none"
        elif feeds is not None:
            status, value = self._evaluated(gradient, feeds)
        elif all(_is_zero(p[i]) for p, i in self._arrivals()):
            status = "zero"
        return Explanation(status, self.paths, tuple(self.cuts), value, self._summary(status, value),
                           tuple(self._sums()))

    def _sums(self) -> Iterator[Sum]:
        """Where terms met, by the facts from which the gradient builder chooses."""
        met: dict[Tensor, int] = {}
        for op, _, pulled in self.steps:
            for tensor, term in zip(op.inputs, pulled, strict=True):
                if term is not None:
                    met[tensor] = met.get(tensor, 0) + 1
        for tensor, terms in met.items():
            if terms > 1:
                method, reason = choice(facts_of(tensor, self.pending[tensor], self.method))
                yield Sum(tensor.name, terms, method, reason, tensor.op.where if tensor.op is not None else None)

    def _summary(self, status: str, value: Any) -> str:
        ways = f"{self.paths} path{'' if self.paths == 1 else 's'} from {self.x.name} to {self.y.name}"
        meaning = {"none": "none carries a derivative: the gradient is None", "undefined": "the gradient is an error",
                   "zero": "the gradient is zero", "connected": "the gradient is connected",
                   "nan": "the gradient is NaN", "value": "the gradient has a value"}[status]
        return f"{ways}; {meaning}" + ("" if value is None else f": {summary(value)}")

    def _differentiate(self) -> Tensor | None:
        crosses: Callable[[Tensor], bool] = lambda t: is_trainable(t.dtype)  # noqa: E731 - one rule, used twice
        if not (crosses(self.x) and crosses(self.y)):
            return None
        path, reached = between([self.y], [self.x], crosses)
        self.flowing |= reached
        self.pending = pending_terms(path, [self.y], self.flowing)
        seed = apply("ones_like", self.y)
        try:
            found = walk_back(path, reached, [self.y], [self.x], [seed], self.method, self._entered, rows=False,
                              seen=lambda op, given, pulled: self.steps.append((op, given, pulled)))
        except GradientError as error:
            self.error = error
            self._cut("undefined", self._at, None, str(error))
            return None
        return None if found[0] is None else dense(found[0])

    def _entered(self, op: Operation) -> Any:
        self._at = op
        return backward_of(op, False)

    def _integers(self) -> None:
        """Cuts where a path goes through integers and bools."""
        if not is_trainable(self.x.dtype) and self.x.op is not None:
            self._cut("none", self.x.op, None, f"x is {self.x.dtype}, and integers carry no derivatives")
            return
        for op in reversed(self.every):
            dtypes = {t.dtype for t in op.outputs if t in self.reached or t is self.y}
            if dtypes and not any(map(is_trainable, dtypes)):
                entering = [t.dtype for t in op.inputs if (t in self.reached or t is self.x) and is_trainable(t.dtype)]
                if entering:
                    self._cut("none", op, None, f"it turns {entering[0]} into {', '.join(map(str, dtypes))}, and "
                                                f"integers carry no "
                                                f"derivatives")

    def _missing(self, op: Operation, given: Sequence[Any], pulled: Sequence[Any]) -> None:
        """Cuts where an operation passes nothing on, or zeros by its rule."""
        user, rule = rule_of(op)
        for i, (tensor, term) in enumerate(zip(op.inputs, pulled, strict=True)):
            if tensor not in self.flowing:
                continue
            if term is None:
                if user and rule is None:
                    reason = "it is declared to be not differentiable"
                elif op.type == "stop_gradient":
                    reason = "stop_gradient takes its operand as a constant"
                elif op.type == "custom_gradient":
                    if i < op.attrs["count"]:
                        continue  # the body, in whose place the user's gradient stands
                    reason = "the user's gradient function returned None"
                elif op.type == "recompute_grad" and i < op.attrs["count"]:
                    continue
                elif not op.record.differentiable:
                    reason = "it has no derivative (it is constant almost everywhere)"
                else:
                    reason = "its rule gives no derivative with respect to this operand"
                self._cut("none", op, i, reason)
            elif _is_zero(term) and not all(g is None or _is_zero(g) for g in given):
                self._cut("zero", op, i, "its derivative is zero by its rule")

    def _arrivals(self) -> list[tuple[Sequence[Any], int]]:
        """The terms that x itself got."""
        return [(pulled, i) for op, _, pulled in self.steps for i, t in enumerate(op.inputs)
                if t is self.x and pulled[i] is not None]

    def _evaluated(self, gradient: Tensor, feeds: Mapping[Tensor, Any]) -> tuple[str, Any]:
        """The gradient's value, and where in the forward part or backward part NaN and zero arise."""
        terms = [_array(t) for _, given, pulled in self.steps for t in (*given, *pulled) if t is not None]
        values = all_values([self.y, gradient, *terms], feeds)
        value = np.asarray(values[gradient])
        if has_nan(values[self.y]):
            source = origin(self.y, values)
            if source is not None:
                self._cut("nan", source, None, f"in the forward part: {self._operands(source, values)}")
        clean = True
        for op, given, pulled in self.steps:
            before = [values[_array(g)] for g in given if g is not None]
            for i, term in enumerate(pulled):
                if term is None:
                    continue
                after = values[_array(term)]
                if clean and has_nan(after) and not any(map(has_nan, before)):
                    clean = False
                    self._cut("nan", op, i, f"in the backward part, of {self._operands(op, values)}")
                if after.size and not after.any() and any(b.any() for b in before) and not _is_zero(term):
                    self._cut("zero", op, i, f"every element is multiplied by zero or masked; "
                                             f"{self._operands(op, values)}")
        if has_nan(value):
            return "nan", value
        return ("value" if value.any() or not value.size else "zero"), value

    @staticmethod
    def _operands(op: Operation, values: Mapping[Tensor, Any]) -> str:
        return "operands " + "; ".join(summary(values[t]) for t in op.inputs if t in values)


def _array(term: Tensor | IndexedSlices) -> Tensor:
    return term.values if isinstance(term, IndexedSlices) else term


def _is_zero(term: Any) -> bool:
    """Whether a term is zero whatever the values: made as zeros, and at most reshaped since."""
    tensor = _array(term)
    while tensor.op is not None and tensor.op.type in _ZERO_STAYS:
        tensor = tensor.op.inputs[0]
    if tensor.op is None:
        return False
    if tensor.op.type == "zeros_like":
        return True
    if tensor.op.type in ("multiply", "multiply_no_nan"):
        return any(_is_zero(t) for t in tensor.op.inputs)
    value = tensor.op.attrs.get("value") if tensor.op.type in ("constant", "full") else None
    return value is not None and not np.any(value)

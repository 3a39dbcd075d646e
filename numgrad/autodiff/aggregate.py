"""How several cotangent terms of one tensor are summed: the strategies, and the pure function that chooses one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgrad.autodiff.slices import IndexedSlices, concatenate
from numgrad.errors import at, user_line
from numgrad.graph.core import Tensor, apply, state
from numgrad.graph.scopes import device
from numgrad.silence import silence, unsilence

__all__ = ["AggregationMethod", "Facts", "Terms", "check_method", "choice", "choose", "facts_of"]


_ANYWHERE: AbstractContextManager[None] = nullcontext()


class AggregationMethod:
    """Names for the ways in which gradient terms are summed.

    ``ADD_N`` (and ``DEFAULT``): one n-ary sum, one pass over all terms. ``TREE``: balanced pairwise sums, depth log n,
    so that the rounding error grows with log n. ``ACCUMULATE``: a running sum, so that two terms are alive at a time.
    ``AUTO``: chosen from the number and size of the terms. ``EXPERIMENTAL_TREE`` and ``EXPERIMENTAL_ACCUMULATE_N`` are
    the names of the TensorFlow contract for TREE and ACCUMULATE.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     g, = ng.gradients(x * x + ng.sin(x), x, aggregation_method=ng.AggregationMethod.TREE)
    >>> float(ng.run(g, {x: 0.0}))
    1.0
    """

    ADD_N = 0
    DEFAULT = 0
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2
    TREE = 3
    ACCUMULATE = 4
    AUTO = 5


_NAMES = {0: "ADD_N", 1: "TREE", 2: "ACCUMULATE", 3: "TREE", 4: "ACCUMULATE", 5: "AUTO"}

# Measured by `python -m perf aggregate`. For up to 200 stored terms the three ways take the same time within 10 %, so
# memory and error decide: a running sum keeps two terms alive, not all, and a tree of 64 float32 terms has a tenth of
# the n-ary sum's rounding error.
ADD_N_TERMS = 16
ADD_N_BYTES = 1 << 22
TREE_TERMS = 64


@dataclass(frozen=True)
class Facts:
    """What is known about a sum: how many terms, bytes a term (None: unknown), whether floating point."""

    terms: int
    bytes: int | None
    inexact: bool
    method: int


def choice(facts: Facts) -> tuple[str, str]:
    """The strategy, ``"ADD_N"``, ``"TREE"`` or ``"ACCUMULATE"``, for a sum with these facts, and why; pure."""
    name = _NAMES[facts.method]
    if name != "AUTO":
        return name, "by default" if facts.method == AggregationMethod.DEFAULT else "asked for"
    if facts.terms <= ADD_N_TERMS:
        return "ADD_N", f"no more than {ADD_N_TERMS} terms are one pass"
    if facts.bytes is not None and facts.terms * facts.bytes > ADD_N_BYTES:
        return "ACCUMULATE", f"{facts.terms} terms of {facts.bytes} bytes would be alive together"
    if facts.inexact and facts.terms >= TREE_TERMS:
        return "TREE", f"rounding grows with the logarithm of {facts.terms} terms"
    if facts.bytes is not None and facts.bytes <= 8:
        return "ADD_N", f"{facts.terms} numbers are one pass"
    return "ACCUMULATE", f"{facts.terms} terms of {'unknown size' if facts.bytes is None else f'{facts.bytes} bytes'}"


def choose(facts: Facts) -> str:
    """The strategy of `choice`."""
    return choice(facts)[0]


def facts_of(tensor: Tensor, terms: int, method: int) -> Facts:
    """What is known about the sum of so many terms of a tensor's shape and dtype."""
    sizes = tensor.spec.shape
    known = all(isinstance(d, int) for d in sizes)
    size = math.prod(int(d) for d in sizes) * tensor.dtype.itemsize if known else None
    return Facts(terms, size, tensor.dtype.kind in "fc", method)


def check_method(method: Any) -> int:
    """A valid aggregation constant (None is the default); ValueError lists the accepted ones."""
    if method is None:
        return AggregationMethod.DEFAULT
    if isinstance(method, bool) or not isinstance(method, int) or method not in _NAMES:
        raise ValueError(f"aggregation_method: got {method!r}, wanted None or a constant of AggregationMethod: ADD_N, "
                         f"DEFAULT, EXPERIMENTAL_TREE, EXPERIMENTAL_ACCUMULATE_N, TREE, ACCUMULATE, AUTO"
                         f"{at(user_line())}")
    return method


class _AllTerms:
    """Keeps the terms; sums them when asked, as one n-ary node or as a balanced tree."""

    def __init__(self, tensor: Tensor, tree: bool) -> None:
        self.terms: list[Tensor] = []
        self.tensor, self.tree = tensor, tree

    def add(self, term: Tensor) -> None:
        self.terms.append(term)

    def total(self) -> Tensor:
        return add_tree(self.terms, _sum_name(self.tensor, "tree")) if self.tree else add_n(self.terms)


class _Running:
    """Adds every term as it comes."""

    def __init__(self, tensor: Tensor) -> None:
        self.sum: Tensor | None = None
        self.name = _sum_name(tensor, "accumulate")

    def add(self, term: Tensor) -> None:
        self.sum = term if self.sum is None else apply("add", self.sum, term, op_name=self.name)

    def total(self) -> Tensor:
        assert self.sum is not None
        return self.sum


def _sum_name(tensor: Tensor, strategy: str) -> str:
    """The name of a sum's operations: whose gradient it is, and how it is summed."""
    return f"{tensor.op.name}_gradient_sum/{strategy}" if tensor.op is not None else strategy


def make_sum(tensor: Tensor, facts: Facts) -> _AllTerms | _Running:
    """An empty sum of a tensor's terms, of the kind that `choose` picks."""
    strategy = choose(facts)
    return _Running(tensor) if strategy == "ACCUMULATE" else _AllTerms(tensor, strategy == "TREE")


class Terms:
    """The cotangent terms of every tensor, dense and row-sparse, and their sums.

    Row-sparse terms alone are concatenated; with a dense one among them they are made dense and everything is one sum.
    With `colocate` a sum takes the device label of the operation that made the tensor (n-ary sums their first term's).
    `kept` are the tensors whose sums are asked for at the end.
    """

    def __init__(self, pending: dict[Tensor, int], method: int, colocate: bool, kept: Collection[Tensor]) -> None:
        self._pending, self._method, self._colocate, self._kept = pending, method, colocate, kept
        self._dense: dict[Tensor, Tensor | _AllTerms | _Running] = {}
        self._rows: dict[Tensor, list[IndexedSlices]] = {}
        self._closed: dict[Tensor, Tensor | IndexedSlices] = {}
        self._own: set[Tensor] = set()  # eager sums that were made here

    def add(self, tensor: Tensor, term: Tensor | IndexedSlices) -> None:
        """One more term for `tensor`."""
        if isinstance(term, IndexedSlices):
            self._rows.setdefault(tensor, []).append(term)
            return
        before = self._dense.get(tensor)
        if before is None:
            self._dense[tensor] = term  # most tensors have one
            return
        if tensor.op is None and before.__class__ is Tensor:
            terms = self._pending.get(tensor, 0)
            if terms <= ADD_N_TERMS and before._value is not None and term._value is not None and not state.recorders:
                self._dense[tensor] = self._sum_eagerly(before, term)  # type: ignore[arg-type]
                return
            if terms == 2:
                self._dense[tensor] = apply("add", before, term)  # type: ignore[arg-type]
                return
        with self._placed(tensor):
            if isinstance(before, Tensor):
                before = self._dense[tensor] = self._begun(tensor, before)
            before.add(term)

    def _sum_eagerly(self, before: Tensor, term: Tensor) -> Tensor:
        """The sum so far of few eager terms; the strategies do not differ for them. It is written over when nobody else
        has it."""
        a, b = before._value, term._value
        assert a is not None and b is not None
        silent = silence()
        try:
            if before in self._own:
                np.add(a, b, out=a)
                return before
            total = Tensor(before.dtype, before.shape, None, 0, np.asarray(np.add(a, b)))
        finally:
            unsilence(silent)
        self._own.add(total)
        return total

    def _begun(self, tensor: Tensor, first: Tensor) -> _AllTerms | _Running:
        started = make_sum(tensor, facts_of(tensor, self._pending.get(tensor, 1), self._method))
        started.add(first)
        return started

    def _placed(self, tensor: Tensor) -> AbstractContextManager[None]:
        return device(tensor.device) if self._colocate else _ANYWHERE

    def last(self, tensor: Tensor) -> Tensor | IndexedSlices | None:
        """`total`, and forget the terms of a tensor that is not kept, so that eager ones free their memory."""
        if tensor in self._kept:
            return self.total(tensor)
        dense = self._dense.get(tensor)
        if not self._rows and (dense is None or dense.__class__ is Tensor):
            total: Any = dense
        else:
            total = self.total(tensor)
            self._rows.pop(tensor, None)
            self._closed.pop(tensor, None)
        self._dense.pop(tensor, None)
        if self._own:
            self._own.discard(total)
        return total  # type: ignore[no-any-return]

    def total(self, tensor: Tensor) -> Tensor | IndexedSlices | None:
        """The sum of a tensor's terms, made once; None when there are none."""
        sums = self._dense.get(tensor)
        if not self._rows and (sums is None or isinstance(sums, Tensor)):
            return sums
        closed = self._closed.get(tensor)
        if closed is not None:
            return closed
        rows = self._rows.get(tensor)
        if rows is not None:
            if tensor in self._dense:
                for term in rows:
                    with self._placed(tensor):
                        self.add(tensor, term.to_dense())
            else:
                with self._placed(tensor):
                    closed = concatenate(rows)
        if closed is None:
            sums = self._dense.get(tensor)
            if sums is None:
                return None
            if isinstance(sums, Tensor):
                closed = sums
            else:
                with self._placed(tensor):
                    closed = sums.total()
        self._closed[tensor] = closed
        return closed


def add_n(terms: Sequence[Tensor]) -> Tensor:
    """One n-ary sum, or one for each device label and one over those, each labelled as its first term; a single term is
    returned as it is."""
    if len(terms) == 1:
        return terms[0]
    name = "add" if len(terms) == 2 else "add_n"
    if all(term.op is None for term in terms):
        return apply(name, *terms)
    by_device: dict[str, list[Tensor]] = {}
    for term in terms:
        by_device.setdefault(term.device, []).append(term)
    if len(by_device) > 1:
        terms = [add_n(by_device[label]) for label in sorted(by_device)]
    with device(terms[0].device):
        return apply("add" if len(terms) == 2 else "add_n", *terms, op_name="add_n")


def add_tree(terms: Sequence[Tensor], name: str | None = None) -> Tensor:
    """Balanced pairwise sum."""
    level = list(terms)
    while len(level) > 1:
        paired = [apply("add", a, b, op_name=name) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]

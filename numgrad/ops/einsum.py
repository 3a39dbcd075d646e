"""Contractions of named axes: `einsum` and `tensordot`, as permutations, products of matrices and sums."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from itertools import product as combinations
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply
from numgrad.ops.kinds import normalize_axis, operands
from numgrad.ops.matmul import add_over, permute, product, reshape_to
from numgrad.ops.slicing import diagonal
from numgrad.types import Dim, Size, require_equal, same_size, size_product

__all__ = ["einsum", "tensordot"]

Label = Any  # a letter, or a negative integer for an axis under an ellipsis, counted from the right
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_UNKNOWN_SIZE = 64  # stands for a size that is not known when the order of contraction is chosen


# -- one pair of tensors
def contract_pair(a: Tensor, names_a: Sequence[Label], b: Tensor, names_b: Sequence[Label],
                  keep: set[Label]) -> tuple[Tensor, list[Label]]:
    """The product of two tensors, summed over the axes that both have and that `keep` does not name.

    Axes that only one of them has must be in `keep`. Returns the tensor and the names of its axes.
    """
    shared = [n for n in names_a if n in names_b]
    batch = [n for n in shared if n in keep]
    inner = [n for n in shared if n not in keep]
    only_a = [n for n in names_a if n not in shared]
    only_b = [n for n in names_b if n not in shared]
    names = batch + only_a + only_b
    if not inner or not (only_a or only_b):
        # No matrix product: elementwise, and summed in the same loop nest.
        total = apply("multiply", _spread(a, names_a, names + inner), _spread(b, names_b, names + inner))
        return add_over(total, range(len(names), len(names) + len(inner))), names
    sizes_a, sizes_b = dict(zip(names_a, a.shape, strict=True)), dict(zip(names_b, b.shape, strict=True))
    flip_a, flip_b, batch, inner = _cheapest_layout(list(names_a), list(names_b), only_a, only_b, batch, inner)
    m, n = size_product(sizes_a[i] for i in only_a), size_product(sizes_b[i] for i in only_b)
    k = size_product(sizes_a[i] for i in inner)
    stack = tuple(sizes_a[i] for i in batch)
    left = permute(a, [names_a.index(i) for i in (*batch, *(inner + only_a if flip_a else only_a + inner))])
    right = permute(b, [names_b.index(i) for i in (*batch, *(only_b + inner if flip_b else inner + only_b))])
    result = product(reshape_to(left, (*stack, k, m) if flip_a else (*stack, m, k)),
                     reshape_to(right, (*stack, n, k) if flip_b else (*stack, k, n)), flip_a, flip_b)
    shape = (*stack, *(sizes_a[i] for i in only_a), *(sizes_b[i] for i in only_b))
    return reshape_to(result, shape), batch + only_a + only_b


def _cheapest_layout(names_a: list[Label], names_b: list[Label], only_a: list[Label], only_b: list[Label],
                     batch: list[Label], inner: list[Label]) -> tuple[bool, bool, list[Label], list[Label]]:
    """Whether each operand is taken transposed, and the orders of the common axes, so that the fewest operands move."""
    batches = [batch, [n for n in names_b if n in batch]]
    inners = [inner, [n for n in names_b if n in inner]]

    def moves(choice: tuple[bool, bool, list[Label], list[Label]]) -> int:
        flip_a, flip_b, outer, summed = choice
        return ((names_a != outer + (summed + only_a if flip_a else only_a + summed))
                + (names_b != outer + (only_b + summed if flip_b else summed + only_b)))

    return min(combinations((False, True), (False, True), batches, inners), key=moves)


def _spread(tensor: Tensor, names: Sequence[Label], wanted: Sequence[Label]) -> Tensor:
    """`tensor` with its axes in the order of `wanted`, and axes of size 1 for names that it lacks."""
    moved = permute(tensor, [names.index(n) for n in wanted if n in names])
    missing = tuple(i for i, n in enumerate(wanted) if n not in names)
    return apply("expand_dims", moved, axes=missing) if missing else moved


# -- einsum
def _parse(given: tuple[Any, ...]) -> tuple[list[str], str | None, list[Any]]:
    """The subscripts of the operands, of the result (None when implicit), and the operands."""
    if not given:
        raise ShapeError(f"einsum: got no operands{at(user_line())}")
    if isinstance(given[0], str):
        text = given[0].replace(" ", "")
        left, arrow, right = text.partition("->")
        terms = left.split(",")
        values = list(given[1:])
        if len(terms) != len(values):
            raise ShapeError(f"einsum: {given[0]!r} names {len(terms)} operands, got {len(values)}{at(user_line())}")
        return terms, right if arrow else None, values
    values = list(given[0:len(given) - len(given) % 2:2])
    terms = [_from_list(t) for t in given[1::2]]
    return terms, _from_list(given[-1]) if len(given) % 2 else None, values


def _from_list(subscripts: Any) -> str:
    try:
        return "".join("..." if s is Ellipsis else _LETTERS[int(s)] for s in subscripts)
    except (TypeError, IndexError, ValueError) as error:
        raise ShapeError(f"einsum: a list of subscripts holds numbers from 0 to {len(_LETTERS) - 1} and Ellipsis, got "
                         f"{subscripts!r}{at(user_line())}") from error


def _labels(term: str, rank: int, what: str) -> list[Label]:
    """One label for each of `rank` axes."""
    before, dots, after = term.partition("...")
    bad = next((c for c in before + after if c not in _LETTERS), None)
    if bad is not None:
        raise ShapeError(f"einsum: {bad!r} is no subscript in {term!r}; letters, '...', ',' and '->' are"
                         f"{at(user_line())}")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ShapeError(f"einsum: {what} has {rank} axes, its subscripts {term!r} name {len(before) + len(after)}"
                         f"{at(user_line())}")
    return [*before, *range(-hidden, 0), *after]


def _output_labels(term: str | None, inputs: Sequence[Sequence[Label]]) -> list[Label]:
    every = [n for names in inputs for n in names]
    hidden = sorted({n for n in every if isinstance(n, int)})
    if term is None:
        return [*hidden, *sorted(n for n in set(every) if isinstance(n, str) and every.count(n) == 1)]
    if hidden and "..." not in term:
        raise ShapeError(f"einsum: the operands have axes under '...', the result {term!r} has none{at(user_line())}")
    named = term.replace("...", "")
    names = _labels(term, len(named) + (len(hidden) if "..." in term else 0), "the result")
    for name in named:
        if name not in every or named.count(name) > 1:
            why = "stands in no operand" if name not in every else "stands twice in the result"
            raise ShapeError(f"einsum: the subscript {name!r} {why} {term!r}{at(user_line())}")
    return names


def _sizes_of(tensors: Sequence[Tensor], names: Sequence[Sequence[Label]]) -> dict[Label, Dim]:
    """The size of each label; a size of 1 stretches to what others say."""
    sizes: dict[Label, Dim] = {}
    for number, (tensor, labels) in enumerate(zip(tensors, names, strict=True)):
        for name, dim in zip(labels, tensor.shape, strict=True):
            known = sizes.get(name)
            if known is None or same_size(known, 1):
                sizes[name] = dim
            elif not same_size(dim, 1):
                sizes[name] = require_equal(known, dim, _size_clash(name, known, dim, number))
    return sizes


def _size_clash(name: Label, known: Dim, dim: Dim, number: int) -> Callable[[], str]:
    if isinstance(name, str):
        return lambda: f"einsum: the subscript {name!r} has size {known} before operand {number} and {dim} in it"
    return lambda: f"einsum: sizes {known} and {dim} under '...' do not broadcast (operand {number})"


def _take_diagonals(tensor: Tensor, names: list[Label], number: int) -> tuple[Tensor, list[Label]]:
    """`tensor` with one axis for each name."""
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            m, n = tensor.shape[first], tensor.shape[second]
            message = f"einsum: the subscript {name!r} stands for sizes {m} and {n} in operand {number}"
            require_equal(m, n, message.__str__)
            tensor = diagonal(tensor, 0, first, second)
            names = [n for i, n in enumerate(names) if i not in (first, second)] + [name]
    return tensor, names


def _drop_single(tensor: Tensor, names: list[Label], sizes: dict[Label, Dim]) -> tuple[Tensor, list[Label]]:
    """Remove axes of size 1 that stretch: they hold for every index of the other operands."""
    single = tuple(i for i, (n, d) in enumerate(zip(names, tensor.shape, strict=True))
                   if same_size(d, 1) and not same_size(sizes[n], 1))
    if not single:
        return tensor, names
    return apply("squeeze", tensor, axes=single), [n for i, n in enumerate(names) if i not in single]


def _sum_alone(tensor: Tensor, names: list[Label], keep: set[Label]) -> tuple[Tensor, list[Label]]:
    """Sum over the axes that nothing else needs."""
    return add_over(tensor, [i for i, n in enumerate(names) if n not in keep]), [n for n in names if n in keep]


def _order(names: Sequence[Sequence[Label]], out: Sequence[Label], sizes: dict[Label, Dim],
           optimize: Any) -> list[tuple[int, ...]]:
    """Which operands meet in each step; results are put at the end of the list."""
    count = len(names)
    if count <= 2 or optimize is False or len(sizes) > len(_LETTERS):
        return [(0, 1), *((0, count - 1 - i) for i in range(1, count - 1))] if count > 1 else []
    letters = dict(zip(sizes, _LETTERS, strict=False))
    typical = {n: (d.env.hint(d) or _UNKNOWN_SIZE) if isinstance(d, Size) else d for n, d in sizes.items()}
    shapes = [np.broadcast_to(0.0, tuple(typical[n] for n in labels)) for labels in names]
    text = ",".join("".join(letters[n] for n in labels) for labels in names) + "->" + "".join(letters[n] for n in out)
    path: Any = "greedy" if optimize is True else optimize
    return list(np.einsum_path(text, *shapes, optimize=(path, 2.0 ** 60))[0][1:])


def einsum(*args: Any, optimize: Any = "greedy") -> Tensor:
    """Sum of products over axes that are named by subscripts.

    Parameters
    ----------
    *args
        Either a string such as ``"ij,jk->ik"`` and the operands, or operands and lists of axis numbers by turns with an
        optional list for the result. All of NumPy's notation: without ``->`` the result has the subscripts that stand
        once, in alphabetical order; a subscript that repeats within an operand takes its diagonal; ``...`` stands for
        axes that broadcast. Operands of any dtypes.
    optimize : bool or {"greedy", "optimal"}
        How the order of contraction is chosen when there are more than two operands; False goes from left to right.

    Returns
    -------
    Tensor
        Of the promoted dtype.

    Raises
    ------
    ShapeError
        When subscripts and operands do not fit together.

    Notes
    -----
    Each step contracts two operands by one product of matrices, or elementwise where no axis is summed. The order is
    chosen on known sizes as by ``numpy.einsum_path``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0]).numpy()
    array([21., 43.])
    """
    terms, result_term, values = _parse(args)
    if not isinstance(optimize, (bool, str)) or (isinstance(optimize, str) and optimize not in ("greedy", "optimal")):
        raise DtypeError(f"einsum: optimize is {optimize!r}, wanted a bool, 'greedy' or 'optimal'{at(user_line())}")
    tensors = operands(values, "einsum", dtypes="biufc")
    names = [_labels(t, x.ndim, f"operand {i}") for i, (t, x) in enumerate(zip(terms, tensors, strict=True))]
    out = _output_labels(result_term, names)
    parts = [_take_diagonals(x, n, i) for i, (x, n) in enumerate(zip(tensors, names, strict=True))]
    tensors, names = [x for x, _ in parts], [n for _, n in parts]
    sizes = _sizes_of(tensors, names)
    parts = [_drop_single(x, n, sizes) for x, n in zip(tensors, names, strict=True)]
    tensors, names = [x for x, _ in parts], [n for _, n in parts]
    for i in range(len(tensors)):
        keep = set(out).union(*(n for j, n in enumerate(names) if j != i))
        tensors[i], names[i] = _sum_alone(tensors[i], names[i], keep)
    for step in _order(names, out, sizes, optimize):
        chosen = sorted(step)
        taken = [(tensors[i], names[i]) for i in chosen]
        for i in reversed(chosen):
            del tensors[i], names[i]
        total, labels = taken[0]
        for i, (other, other_labels) in enumerate(taken[1:]):
            later = set(out).union(*names, *(n for _, n in taken[i + 2:]))
            total, labels = contract_pair(total, labels, other, other_labels, later)
        tensors.append(total)
        names.append(labels)
    return permute(tensors[0], [names[0].index(n) for n in out])


# -- tensordot
def tensordot(a: Any, b: Any, /, axes: Any = 2) -> Tensor:
    """Sum of products over pairs of axes.

    Parameters
    ----------
    a, b : array_like
        Any dtypes.
    axes : int or pair of sequences of int
        The number of last axes of `a` that meet the first axes of `b`, or the axes of each that meet, pairwise.

    Returns
    -------
    Tensor
        The remaining axes of `a`, then those of `b`.

    Raises
    ------
    ShapeError
        When axes that meet differ in size, repeat, or do not exist.

    Notes
    -----
    One product of matrices after the axes are brought together.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.tensordot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]], axes=2).numpy()
    array(5.)
    """
    x, y = operands((a, b), "tensordot")
    pairs = _meeting_axes(x, y, axes)
    names_x: list[Label] = [("a", i) for i in range(x.ndim)]
    names_y: list[Label] = [("b", i) for i in range(y.ndim)]
    for i, j in pairs:
        message = (f"tensordot: axis {i} of {x.spec} has size {x.shape[i]}, axis {j} of {y.spec} has size "
                   f"{y.shape[j]}; they must be equal")
        require_equal(x.shape[i], y.shape[j], message.__str__)
        names_y[j] = names_x[i]
    out = [n for n in names_x if n not in names_y] + [n for n in names_y if n not in names_x]
    result, names = contract_pair(x, names_x, y, names_y, set(out))
    return permute(result, [names.index(n) for n in out])


def _meeting_axes(x: Tensor, y: Tensor, axes: Any) -> list[tuple[int, int]]:
    if isinstance(axes, (int, np.integer)):
        count = int(axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot: {count} axes cannot meet in {x.spec} and {y.spec}{at(user_line())}")
        return [(x.ndim - count + i, i) for i in range(count)]
    first, second = ([int(i) for i in (s if isinstance(s, (list, tuple, np.ndarray)) else (s,))] for s in axes)
    if len(first) != len(second):
        raise ShapeError(f"tensordot: {len(first)} axes of the first operand for {len(second)} of the second"
                         f"{at(user_line())}")
    ones = [normalize_axis(i, x.ndim, "tensordot") for i in first]
    others = [normalize_axis(i, y.ndim, "tensordot") for i in second]
    if len(set(ones)) < len(ones) or len(set(others)) < len(others):
        raise ShapeError(f"tensordot: an axis repeats in {axes}{at(user_line())}")
    return list(zip(ones, others, strict=True))

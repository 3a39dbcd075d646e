"""Products of vectors, matrices and stacks of them, written with `matmul`, `tensordot` and elementwise ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply
from numgrad.ops.axes import moveaxis
from numgrad.ops.einsum import tensordot
from numgrad.ops.kinds import normalize_axis, operands
from numgrad.ops.matmul import add_over, conjugate, matmul, matrix_product, reshape_to
from numgrad.ops.slicing import narrow
from numgrad.types import Dim, Size, broadcast_shapes, require_equal

__all__ = ["cross", "dot", "inner", "kron", "matmul", "matvec", "outer", "tensordot", "vdot", "vecdot", "vecmat"]


def _inner_sizes(name: str, a: Tensor, b: Tensor, axis_a: int, axis_b: int) -> None:
    k, k2 = a.shape[axis_a], b.shape[axis_b]
    require_equal(k, k2, lambda: f"{name}: axis {axis_a} of {a.spec} has size {k}, axis {axis_b} of {b.spec} has size "
                                 f"{k2}; they must be equal")


def dot(a: Any, b: Any, /) -> Tensor:
    """Product over the last axis of one array and the second to last of another.

    Parameters
    ----------
    a, b : array_like
        Any dtypes. 1-d arrays: their inner product; a 0-d one: the elementwise product; 2-d ones: the matrix product;
        else the sum over the last axis of `a` and the second to last (or only) axis of `b`, with all other axes kept.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        When the axes that meet differ in size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.dot([1.0, 2.0], [3.0, 4.0]).numpy()
    array(11.)
    """
    x, y = operands((a, b), "dot")
    if not x.ndim or not y.ndim:
        return apply("multiply", x, y)
    if x.ndim <= 2 and y.ndim <= 2:
        return matmul(x, y)
    axis = -2 if y.ndim > 1 else -1
    _inner_sizes("dot", x, y, -1, axis)
    return tensordot(x, y, axes=((-1,), (axis,)))


def vdot(a: Any, b: Any, /) -> Tensor:
    """Inner product of all elements of two arrays, the first conjugated.

    Parameters
    ----------
    a, b : array_like
        Equal numbers of elements; any dtypes.

    Returns
    -------
    Tensor
        0-d: ``sum(conj(a) * b)``.

    Raises
    ------
    ShapeError
        When the numbers of elements differ.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.vdot([1j, 2.0], [1j, 1.0]).numpy()
    array(3.+0.j)
    """
    x, y = operands((a, b), "vdot")
    require_equal(x.size, y.size, lambda: f"vdot: {x.spec} has {x.size} elements and {y.spec} has {y.size}; they must "
                                          f"be equal in number")
    return add_over(apply("multiply", conjugate(reshape_to(x, (x.size,))), reshape_to(y, (y.size,))), (0,))


def inner(a: Any, b: Any, /) -> Tensor:
    """Sum of products over the last axes of two arrays.

    Parameters
    ----------
    a, b : array_like
        Last axes of equal size, or a 0-d array: then the elementwise product. Any dtypes.

    Returns
    -------
    Tensor
        The other axes of `a`, then those of `b`.

    Raises
    ------
    ShapeError
        When the last axes differ in size.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.inner([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).numpy()
    array([3., 7.])
    """
    x, y = operands((a, b), "inner")
    if not x.ndim or not y.ndim:
        return apply("multiply", x, y)
    _inner_sizes("inner", x, y, -1, -1)
    return tensordot(x, y, axes=((-1,), (-1,)))


def outer(a: Any, b: Any, /) -> Tensor:
    """Every element of one array times every element of another.

    Parameters
    ----------
    a, b : array_like
        Flattened first; any dtypes.

    Returns
    -------
    Tensor
        Shape ``(a.size, b.size)``.

    Raises
    ------
    DtypeError
        When there is no common dtype.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.outer([1.0, 2.0], [1.0, 10.0]).numpy()
    array([[ 1., 10.],
           [ 2., 20.]])
    """
    x, y = operands((a, b), "outer")
    return apply("multiply", reshape_to(x, (x.size, 1)), reshape_to(y, (1, y.size)))


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """Inner products of vectors along an axis, the first conjugated.

    Parameters
    ----------
    x1, x2 : array_like
        Of equal size along `axis`; the other axes broadcast. Any dtypes.
    axis : int

    Returns
    -------
    Tensor
        ``sum(conj(x1) * x2)`` over `axis`.

    Raises
    ------
    ShapeError
        When the sizes along `axis` differ or the other axes do not broadcast.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).numpy()
    array([3., 7.])
    """
    x, y = (moveaxis(t, normalize_axis(axis, t.ndim, "vecdot"), -1) for t in operands((x1, x2), "vecdot"))
    _inner_sizes("vecdot", x, y, -1, -1)
    total = apply("multiply", conjugate(x), y)
    return add_over(total, (total.ndim - 1,))


def matvec(x1: Any, x2: Any, /) -> Tensor:
    """Products of matrices and vectors.

    Parameters
    ----------
    x1, x2 : array_like
        Shapes ``(..., m, n)`` and ``(..., n)``; leading axes broadcast. Any dtypes.

    Returns
    -------
    Tensor
        Shape ``(..., m)``.

    Raises
    ------
    ShapeError
        When ``n`` differs or the leading axes do not broadcast.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.matvec([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).numpy()
    array([3., 7.])
    """
    a, x = _matrix_and_vector("matvec", x1, x2)
    _inner_sizes("matvec", a, x, -1, -1)
    result = matrix_product(a, apply("expand_dims", x, axes=(x.ndim,)))
    return apply("squeeze", result, axes=(result.ndim - 1,))


def vecmat(x1: Any, x2: Any, /) -> Tensor:
    """Products of conjugated vectors and matrices.

    Parameters
    ----------
    x1, x2 : array_like
        Shapes ``(..., n)`` and ``(..., n, m)``; leading axes broadcast. Any dtypes.

    Returns
    -------
    Tensor
        Shape ``(..., m)``: ``conj(x1) @ x2``.

    Raises
    ------
    ShapeError
        When ``n`` differs or the leading axes do not broadcast.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.vecmat([1.0, 1.0], [[1.0, 2.0], [3.0, 4.0]]).numpy()
    array([4., 6.])
    """
    a, x = _matrix_and_vector("vecmat", x2, x1)
    _inner_sizes("vecmat", x, a, -1, -2)
    result = matrix_product(apply("expand_dims", conjugate(x), axes=(x.ndim - 1,)), a)
    return apply("squeeze", result, axes=(result.ndim - 2,))


def _matrix_and_vector(name: str, matrix: Any, vector: Any) -> tuple[Tensor, Tensor]:
    a, x = operands((matrix, vector), name)
    if a.ndim < 2 or not x.ndim:
        raise ShapeError(f"{name}: got a matrix of {a.spec} and a vector of {x.spec}, wanted at least 2 axes and 1 axis"
                         f"{at(user_line())}")
    return a, x


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """Cross products of vectors with three components.

    Parameters
    ----------
    x1, x2 : array_like
        Of size 3 along `axis`; the other axes broadcast. Numbers of any dtype.
    axis : int

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        When the size along `axis` is not 3 or the other axes do not broadcast.

    Notes
    -----
    ``y[0] = x1[1] x2[2] - x1[2] x2[1]`` and so on around the circle.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]).numpy()
    array([0., 0., 1.])
    """
    a, b = operands((x1, x2), "cross", dtypes="iufc")
    shape = broadcast_shapes([a.shape, b.shape], "cross")
    place = normalize_axis(axis, len(shape), "cross")
    parts = []
    for tensor in (a, b):
        along = place - len(shape) + tensor.ndim
        size = tensor.shape[along] if along >= 0 else 1
        message = f"cross: vectors must have size 3 along axis {axis}, got {size} in {a.spec} and {b.spec}"
        require_equal(size, 3, message.__str__)
        parts.append([apply("squeeze", narrow(tensor, along, i, 1), axes=(along,)) for i in range(3)])
    x, y = parts
    turns = [apply("subtract", apply("multiply", x[i], y[j]), apply("multiply", x[j], y[i]))
             for i, j in ((1, 2), (2, 0), (0, 1))]
    return apply("stack", *turns, axis=place)


def kron(a: Any, b: Any, /) -> Tensor:
    """Kronecker product: every element of one array times the whole other array.

    Parameters
    ----------
    a, b : array_like
        Any ranks (the lower is raised by leading axes of size 1) and dtypes.

    Returns
    -------
    Tensor
        Size along each axis: the product of the operands' sizes.

    Raises
    ------
    DtypeError
        When there is no common dtype.

    Notes
    -----
    ``y[i * n + j] = a[i] * b[j]`` along each axis, n the size of b there.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.kron([1.0, 10.0], [1.0, 2.0]).numpy()
    array([ 1.,  2., 10., 20.])
    """
    x, y = operands((a, b), "kron")
    rank = max(x.ndim, y.ndim)
    x, y = (reshape_to(t, (*[1] * (rank - t.ndim), *t.shape)) for t in (x, y))
    if not rank:
        return apply("multiply", x, y)
    total = apply("multiply", apply("expand_dims", x, axes=tuple(range(1, 2 * rank, 2))),
                  apply("expand_dims", y, axes=tuple(range(0, 2 * rank, 2))))
    return apply("reshape", total, shape=tuple(m * n for m, n in zip(x.shape, y.shape, strict=True)))


def multi_dot(arrays: Sequence[Any], /) -> Tensor:
    """Product of a chain of matrices, in the order that takes the fewest multiplications.

    Parameters
    ----------
    arrays : sequence of array_like
        At least two; 2-d, but the first and the last may be 1-d (a row, a column). Any dtypes.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        When neighbours do not fit, or there are fewer than two.

    Notes
    -----
    The order is the optimum of the recursion
    ``cost(i, j) = min over s of cost(i, s) + cost(s+1, j) + rows(i) columns(s) columns(j)``. Sizes that are known only
    when the program runs count as they were when it was traced, or as 1.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.multi_dot([[1.0, 2.0], [[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0]]).numpy()
    array(11.)
    """
    tensors = operands(list(arrays), "multi_dot")
    inner_ranks = [t.ndim for t in tensors[1:-1]]
    if len(tensors) < 2 or any(r != 2 for r in inner_ranks) or any(t.ndim not in (1, 2) for t in tensors):
        raise ShapeError(f"multi_dot: got ranks {[t.ndim for t in tensors]}, wanted two or more matrices; only the "
                         f"first and the last may be 1-d{at(user_line())}")
    chain = list(tensors)
    if chain[0].ndim == 1:
        chain[0] = apply("expand_dims", chain[0], axes=(0,))
    if chain[-1].ndim == 1:
        chain[-1] = apply("expand_dims", chain[-1], axes=(1,))
    for left, right in zip(chain, chain[1:], strict=False):
        _inner_sizes("multi_dot", left, right, -1, -2)
    sizes = [_typical(chain[0].shape[0]), *(_typical(t.shape[1]) for t in chain)]
    result = _chain_product(chain, _best_splits(sizes), 0, len(chain) - 1)
    gone = ((0,) if tensors[0].ndim == 1 else ()) + ((1,) if tensors[-1].ndim == 1 else ())
    return apply("squeeze", result, axes=gone) if gone else result


def _typical(dim: Dim) -> int:
    if isinstance(dim, Size):
        hint = dim.env.hint(dim)
        return 1 if hint is None else hint
    return dim


def _best_splits(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """After which matrix each part (i, j) of the chain is cut; matrix i is ``sizes[i]`` by ``sizes[i + 1]``."""
    count = len(sizes) - 1
    cost = np.zeros((count, count))
    split: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [cost[i, s] + cost[s + 1, j] + sizes[i] * sizes[s + 1] * sizes[j + 1] for s in range(i, j)]
            best = int(np.argmin(options))
            cost[i, j], split[i, j] = options[best], i + best
    return split


def _chain_product(chain: Sequence[Tensor], split: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return chain[i]
    s = split[i, j]
    return matrix_product(_chain_product(chain, split, i, s), _chain_product(chain, split, s + 1, j))

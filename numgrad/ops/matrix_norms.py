"""Norms of matrices, the all-purpose `norm`, pseudo-inverses, and diagonals of the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops import slicing
from numgrad.ops.axes import moveaxis
from numgrad.ops.kinds import normalize_axes, normalize_axis
from numgrad.ops.linalg import adjoint, matrices
from numgrad.ops.lu import inv
from numgrad.ops.matmul import product, reshape_to
from numgrad.ops.norms import vector_norm
from numgrad.ops.reduction import floating, keep, reduce
from numgrad.ops.spectral import SVDResult, svd, svdvals
from numgrad.ops.statistics import real_dtype
from numgrad.types import size_max

__all__ = ["cond", "matrix_norm", "norm", "pinv"]


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:  # noqa: A002
    """Norms of matrices.

    Parameters
    ----------
    x : array_like
        Shape ``(..., m, n)``; integers become float64.
    keepdims : bool
        Whether the last two axes stay, with size 1.
    ord : {"fro", "nuc", 1, -1, 2, -2, inf, -inf}
        Square root of the sum of squares; sum of the singular values; largest (smallest, for -1) sum of absolute values
        in a column; largest (smallest) singular value; largest (smallest) sum of absolute values in a row.

    Returns
    -------
    Tensor
        Real, of shape ``(...)``.

    Raises
    ------
    ShapeError
        For fewer than two axes or another `ord`.
    numpy.linalg.LinAlgError
        When singular values do not converge.

    Notes
    -----
    The derivative of the sum of squares' root at zero is 0; singular values that are equal share the derivative as
    their decomposition chose them.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.matrix_norm([[3.0, 0.0], [0.0, 4.0]]).numpy()
    array(5.)
    """
    tensor = floating(x, None, "matrix_norm")
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_norm: got {tensor.spec}, wanted two or more axes{at(user_line())}")
    return _matrix_norm(tensor, "fro" if ord is None else ord, keepdims)


def _matrix_norm(x: Tensor, order: Any, keepdims: bool) -> Tensor:
    rows, columns = x.ndim - 2, x.ndim - 1
    if order == "fro":
        return vector_norm(x, axis=(rows, columns), keepdims=keepdims)
    if isinstance(order, str):
        if order != "nuc":
            raise ShapeError(f"norm: ord is {order!r}, wanted 'fro', 'nuc', 1, -1, 2, -2, inf or -inf{at(user_line())}")
        total = reduce("sum", svdvals(x), (rows,))
    elif abs(order) == 2:
        total = reduce("max" if order > 0 else "min", svdvals(x), (rows,))
    elif abs(order) == 1 or np.isinf(order):
        summed = rows if abs(order) == 1 else columns
        total = reduce("max" if order > 0 else "min", reduce("sum", apply("abs", x), (summed,)), (rows,))
    else:
        raise ShapeError(f"norm: ord is {order!r}, wanted 'fro', 'nuc', 1, -1, 2, -2, inf or -inf{at(user_line())}")
    return keep(total, (rows, columns), keepdims)


def norm(x: Any, /, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:  # noqa: A002
    """Norm of vectors or matrices.

    Parameters
    ----------
    x : array_like
        Integers become float64.
    ord : number or {"fro", "nuc"}, optional
        As of `vector_norm` or `matrix_norm`; by default the square root of the sum of squares.
    axis : int or pair of int, optional
        One axis: vectors along it; two: matrices. By default the whole array: of any rank without `ord`, else 1-d or
        2-d.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        Real.

    Raises
    ------
    ShapeError
        When axes are out of range, repeat, are more than two, or `ord` fits neither.
    numpy.linalg.LinAlgError
        When singular values do not converge.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.norm([[3.0, 0.0], [0.0, 4.0]], ord=2).numpy()
    array(4.)
    """
    tensor = floating(x, None, "norm")
    if axis is None and ord is None:
        return vector_norm(tensor, keepdims=keepdims)
    given = tuple(range(tensor.ndim)) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    normalize_axes(given, tensor.ndim, "norm")
    places = tuple(normalize_axis(a, tensor.ndim, "norm") for a in given)
    if len(places) == 1:
        if isinstance(ord, str):
            raise ShapeError(f"norm: ord={ord!r} is for matrices, got vectors along axis {given[0]}{at(user_line())}")
        return vector_norm(tensor, axis=places, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(places) != 2:
        raise ShapeError(f"norm: ord={ord!r} needs one axis or two, got {len(places)} of {tensor.spec}"
                         f"{at(user_line())}")
    result = _matrix_norm(moveaxis(tensor, places, (-2, -1)), "fro" if ord is None else ord, False)
    return keep(result, tuple(sorted(places)), keepdims)


def cond(x: Any, p: Any = None) -> Tensor:
    """Condition numbers of matrices.

    Parameters
    ----------
    x : array_like
        Shape ``(..., m, n)``; square for `p` other than None, 2 and -2. Integers become float64.
    p : {None, 1, -1, 2, -2, inf, -inf, "fro", "nuc"}
        The norm; None is 2.

    Returns
    -------
    Tensor
        Real, of shape ``(...)``: ``norm(x) norm(x^-1)``, the ratio of the largest and smallest singular value for 2.

    Raises
    ------
    ShapeError, DtypeError
        For fewer than two axes; for float16.
    numpy.linalg.LinAlgError
        For a singular matrix, with a norm that needs the inverse.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.cond([[2.0, 0.0], [0.0, 4.0]]).numpy()
    array(2.)
    """
    (tensor,) = matrices("cond", x)
    if p is None or p in (2, -2):
        values = svdvals(tensor)
        last = (values.ndim - 1,)
        largest, smallest = reduce("max", values, last), reduce("min", values, last)
        return apply("divide", smallest, largest) if p == -2 else apply("divide", largest, smallest)
    return apply("multiply", matrix_norm(tensor, ord=p), matrix_norm(inv(tensor), ord=p))


def pinv(x: Any, /, rtol: Any = None) -> Tensor:
    """Pseudo-inverses (Moore and Penrose) of matrices.

    Parameters
    ----------
    x : array_like
        Shape ``(..., m, n)``. float32, float64, complex64, complex128; integers become float64.
    rtol : float, optional
        Singular values up to `rtol` times the largest one count as 0; by default ``max(m, n)`` times the dtype's
        epsilon.

    Returns
    -------
    Tensor
        Shape ``(..., n, m)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        When singular values do not converge.
    ShapeError, DtypeError
        For fewer than two axes; for float16.

    Notes
    -----
    ``V diag(1/s) U^H`` over the singular values that count. Derivatives go through the singular value decomposition and
    so hold where the values that count are different from each other and the others stay 0.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.pinv([[2.0, 0.0], [0.0, 0.0]]).numpy()
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    (tensor,) = matrices("pinv", x)
    decomposition = svd(tensor, full_matrices=False)
    assert isinstance(decomposition, SVDResult)
    u, s, vh = decomposition
    real = real_dtype(tensor.dtype)
    if rtol is None:
        rtol = apply("multiply", as_tensor(size_max(*tensor.shape[-2:]), real),
                     as_tensor(np.asarray(np.finfo(real).eps, real)))
    largest = keep(reduce("max", s, (s.ndim - 1,)), (s.ndim - 1,), True)
    counts = apply("greater", s, apply("multiply", largest, as_tensor(rtol, real)))
    one, zero = as_tensor(np.ones((), real)), as_tensor(np.zeros((), real))
    inverse = apply("where", counts, apply("divide", one, apply("where", counts, s, one)), zero)
    column = as_tensor(reshape_to(inverse, (*inverse.shape, 1)), tensor.dtype)
    return product(adjoint(vh), apply("multiply", column, adjoint(u)))


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """Read a diagonal of the last two axes.

    Parameters
    ----------
    x : array_like
        Shape ``(..., m, n)``, any dtype.
    offset : int
        0 the main diagonal, positive above it, negative below.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.diagonal([[1.0, 2.0], [3.0, 4.0]]).numpy()
    array([1., 4.])
    """
    return slicing.diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """Sum of a diagonal of the last two axes.

    Parameters
    ----------
    x : array_like
        Shape ``(..., m, n)``, any dtype.
    offset : int
        0 the main diagonal, positive above it, negative below.
    dtype : data type, optional
        In which it is summed.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.trace([[1.0, 2.0], [3.0, 4.0]]).numpy()
    array(5.)
    """
    return slicing.trace(x, offset, -2, -1, dtype)

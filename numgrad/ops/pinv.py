"""Pseudo-inverses, condition numbers, and the diagonals of the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops import slicing
from numgrad.ops.linalg import adjoint, matrices
from numgrad.ops.lu import inv
from numgrad.ops.matmul import product, reshape_to
from numgrad.ops.norms import matrix_norm
from numgrad.ops.reduction import keep, reduce
from numgrad.ops.spectral import SVDResult, svd, svdvals
from numgrad.ops.statistics import real_dtype
from numgrad.types import size_max

__all__ = ["cond", "pinv"]


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

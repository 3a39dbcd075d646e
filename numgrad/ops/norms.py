"""Norms: the op `norm2`, whose gradient at zero is zero, and `vector_norm`, `matrix_norm` and `norm` of any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to, define, normalize_axes, normalize_axis, times
from numgrad.ops.matmul import permute
from numgrad.ops.reduction import floating, infer_reduction, keep, reduce, spread
from numgrad.ops.spectral import svdvals
from numgrad.ops.statistics import real_dtype, squares
from numgrad.types import Spec

__all__: list[str] = []


def _infer_norm2(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    (reduced,) = infer_reduction("norm2", "fc")(specs, attrs)
    return (Spec(real_dtype(reduced.dtype), reduced.shape),)


def _evaluate_norm2(x: Any, axes: tuple[int, ...]) -> Any:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    total = np.sum(wide.real * wide.real + wide.imag * wide.imag if x.dtype.kind == "c" else wide * wide, axis=axes)
    return np.sqrt(total).astype(real_dtype(x.dtype))


def _decompose_norm2(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    wide = cast_to(x, np.float32) if x.dtype == np.float16 else x
    return cast_to(apply("sqrt", reduce("sum", squares(wide), axes)), real_dtype(x.dtype))


def _vjp_norm2(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (x,), (y,), (g,), axes = op.inputs, op.outputs, cts, op.attrs["axes"]
    scale = cast_to(apply("divide_no_nan", g, y), x.dtype)
    return [times(spread(scale, axes, x.spec.shape), x)]


def _samples(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    x = rng.uniform(0.5, 1.5, (2, 3, 4)) * rng.choice([-1.0, 1.0], (2, 3, 4))
    found = [(x, (0,)), (x, (1,)), (x, (0, 2)), (x, (0, 1, 2)), (x[0, 0, 0], ()), (x[:, :0], (1,)), (x[:, :0], (0,)),
             (x.T[::2], (0, 1)), (x + 1j * x[::-1], (1,)), (x.astype(np.float32), (2,)), (x.astype(np.float16), (1,)),
             ((x - 1j).astype(np.complex64), (0, 1, 2)), (np.array([[np.inf, 1.0], [np.nan, 0.0]]), (1,))]
    return [([array], {"axes": axes}) for array, axes in found]


define("norm2", "general", _infer_norm2, _evaluate_norm2, vjp=_vjp_norm2, decompose=_decompose_norm2, dtypes="fc",
       samples=_samples, public="linalg.vector_norm",
       doc="Square root of the sum of squared absolute values over axes.")


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    """Norm of the vectors along axes.

    Parameters
    ----------
    x : array_like
        Any shape; integers and bools become float64.
    axis : int or tuple of int, optional
        Axes that hold one vector; by default all of them, as one long vector.
    keepdims : bool
        Whether the axes stay, with size 1.
    ord : float
        The order p; ``inf`` and ``-inf`` give the largest and smallest absolute value, 0 the number of non-zeros.

    Returns
    -------
    Tensor
        Real; 0 for an empty vector of a positive finite order.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice, and for an empty vector of infinite order.
    DtypeError
        When `ord` is not a number.

    Notes
    -----
    ``sum(|x|**p)**(1/p)``. Squares overflow beyond 1e154 in float64, as NumPy's do. The gradient at a zero vector is 0.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.vector_norm([3.0, 4.0]).numpy()
    array(5.)
    >>> ng.linalg.vector_norm([[3.0, -4.0], [1.0, 1.0]], axis=1, ord=1).numpy()
    array([7., 2.])
    """
    tensor = floating(x, None, "vector_norm")
    axes = normalize_axes(axis, tensor.ndim, "vector_norm")
    if isinstance(ord, (str, bytes)) or not np.isscalar(ord) or isinstance(ord, complex):
        raise DtypeError(f"vector_norm: got ord={ord!r}, wanted a real number, inf or -inf{at(user_line())}")
    if ord == 2:
        return keep(apply("norm2", tensor, axes=axes), axes, keepdims)
    return keep(_norm_of_order(tensor, axes, float(ord)), axes, keepdims)


def _norm_of_order(x: Tensor, axes: tuple[int, ...], order: float) -> Tensor:
    real = real_dtype(x.dtype)
    if order == 0:
        return reduce("sum", cast_to(cast_to(x, np.bool_), real), axes)
    size = apply("abs", x)
    if np.isinf(order):
        return reduce("max" if order > 0 else "min", size, axes)
    if order == 1:
        return reduce("sum", size, axes)
    total = reduce("sum", apply("power", size, as_tensor(np.asarray(order, real))), axes)
    # the root's own slope at 0 is infinite: take it of 1 there and put the 0 back
    nothing = apply("equal", total, apply("zeros_like", total))
    root = apply("power", apply("where", nothing, apply("ones_like", total), total),
                 as_tensor(np.asarray(1.0 / order, real)))
    at_nothing = as_tensor(np.asarray(np.inf if order < 0 else 0.0, real))
    return apply("where", nothing, apply("add", apply("zeros_like", root), at_nothing), root)


_SINGULAR = {2: "max", -2: "min", "nuc": "sum"}
_LINES = {1: ("max", 0), -1: ("min", 0), np.inf: ("max", 1), -np.inf: ("min", 1)}  # which sums of a row or column wins


def _norm_of_matrices(x: Tensor, axes: tuple[int, int], order: Any, op: str) -> Tensor:
    """The norm of the matrices whose rows and columns lie along two axes."""
    both = tuple(sorted(axes))
    if order in ("fro", None):
        return apply("norm2", x, axes=both)
    if order in _LINES:
        outer, along = _LINES[order]
        sums = apply("sum", apply("abs", x), axes=(axes[along],))
        left = axes[1 - along]
        return apply(outer, sums, axes=(left - (axes[along] < left),))
    if order in _SINGULAR:
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        values = svdvals(permute(x, (*rest, *axes)))
        return apply(_SINGULAR[order], values, axes=(values.ndim - 1,))
    raise DtypeError(f"{op}: got ord={order!r}, wanted 'fro', 'nuc', 1, -1, 2, -2, inf or -inf for matrices"
                     f"{at(user_line())}")


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """Norm of the matrices in the last two axes.

    Parameters
    ----------
    x : array_like
        Shape ``(..., m, n)``; integers and bools become float64.
    keepdims : bool
        Whether the two axes stay, with size 1.
    ord : {"fro", "nuc", 1, -1, 2, -2, inf, -inf}
        Frobenius norm; sum of the singular values; largest (smallest) sum of absolute values of a column; largest
        (smallest) singular value; largest (smallest) sum of absolute values of a row.

    Returns
    -------
    Tensor
        Real, shape ``(...)``.

    Raises
    ------
    ShapeError
        For less than two axes, and for matrices that have no rows or columns to choose from.
    DtypeError
        For another `ord`.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.matrix_norm([[3.0, 0.0], [4.0, 0.0]]).numpy()
    array(5.)
    >>> ng.linalg.matrix_norm([[3.0, 0.0], [4.0, 0.0]], ord=1).numpy()
    array(7.)
    """
    tensor = floating(x, None, "matrix_norm")
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_norm: got {tensor.spec}, wanted at least two axes{at(user_line())}")
    axes = (tensor.ndim - 2, tensor.ndim - 1)
    return keep(_norm_of_matrices(tensor, axes, ord, "matrix_norm"), axes, keepdims)


def norm(x: Any, /, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Norm of vectors or matrices, as `numpy.linalg.norm` has it.

    Parameters
    ----------
    x : array_like
        Any shape; integers and bools become float64.
    ord : float or str, optional
        As in `vector_norm` for one axis and in `matrix_norm` for two; by default the root of the sum of squares.
    axis : int or pair of int, optional
        The axis of the vectors, or the rows and columns of the matrices. Without it, and with `ord`, `x` must be a
        vector or a matrix; without both, all elements make one vector.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        Real.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice, more than two axes, or `ord` without `axis` for another number of axes.
    DtypeError
        For an `ord` that there is not.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.norm([[3.0, 0.0], [0.0, 4.0]]).numpy()
    array(5.)
    >>> ng.linalg.norm([[3.0, 0.0], [0.0, 4.0]], axis=0).numpy()
    array([3., 4.])
    """
    tensor = floating(x, None, "norm")
    if axis is None:
        if ord is None:
            return vector_norm(tensor, keepdims=keepdims)
        if tensor.ndim not in (1, 2):
            raise ShapeError(f"norm: got {tensor.spec} with ord={ord!r} and no axis, wanted a vector or a matrix; pass "
                             f"axis=, or use ng.linalg.vector_norm{at(user_line())}")
        axis = tuple(range(tensor.ndim))
    axes = tuple(normalize_axis(a, tensor.ndim, "norm") for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    if len(axes) == 2 and axes[0] != axes[1]:
        return keep(_norm_of_matrices(tensor, axes, ord, "norm"), tuple(sorted(axes)), keepdims)
    if len(axes) != 1:
        raise ShapeError(f"norm: got axis={axis}, wanted one axis or two different ones{at(user_line())}")
    return vector_norm(tensor, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)

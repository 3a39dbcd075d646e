"""Functions of nests as functions of flat vectors with compiled derivatives, in SciPy's calling convention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.optimize.layout import Layout, Vector
from numgrad.tracing.function import function
from numgrad.transforms import hessian, hvp, jacobian, value_and_grad
from numgrad.types import show_shape

__all__ = ["Problem", "Residuals", "problem"]


class Problem:
    """A scalar function of a nest of arrays as SciPy wants it; see `problem`.

    Attributes
    ----------
    x0 : float64 array, shape (n,)
        The start, flat.
    layout : Layout
        Where each array of the nest stands in a flat vector.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> p = ng.optimize.problem(lambda x: np.sum(x * x), np.array([1.0, 2.0]))
    >>> p.fun(p.x0), p.jac(p.x0)
    (5.0, array([2., 4.]))
    """

    def __init__(self, f: Callable[..., Any], layout: Layout, args: tuple[Any, ...]) -> None:
        flat = _flat_scalar(f, layout)
        self._value = function(flat)
        self._value_and_grad = value_and_grad(flat)
        self._hvp, self._hessian = hvp(flat), hessian(flat)
        self.layout, self._args = layout, args
        self._last: tuple[Vector, float, Vector] | None = None

    @property
    def x0(self) -> Vector:
        """The start as a flat vector (a copy)."""
        return self.layout.start.copy()

    def flatten(self, nest: Any) -> Vector:
        """The flat vector of a nest like x0."""
        return self.layout.flatten(nest)

    def unflatten(self, x: Any) -> Any:
        """The nest like x0 of a flat vector."""
        return self.layout.unflatten(x)

    def with_args(self, *args: Any) -> Problem:
        """The same problem with other data; nothing is traced or compiled anew unless dtypes or ranks change."""
        other = object.__new__(Problem)
        other.__dict__.update(self.__dict__, _args=args, _last=None)
        return other

    def _vector(self, x: Any) -> Vector:
        vector = np.ascontiguousarray(x, dtype=np.float64)
        if vector.shape != (self.layout.size,):
            raise ShapeError(f"problem: got x of shape {vector.shape}, wanted ({self.layout.size},){at(user_line())}")
        return vector

    def _sweep(self, x: Any) -> tuple[float, Vector]:
        """Value and gradient, remembered for the latest x (by its bits: -0.0 is not 0.0, and nan is itself)."""
        vector = self._vector(x)
        last = self._last
        if last is not None and np.array_equal(last[0].view(np.int64), vector.view(np.int64)):
            return last[1], last[2]
        value, gradient = self._value_and_grad(vector, *self._args)
        self._last = vector.copy(), float(value), gradient
        return self._last[1], gradient

    def value(self, x: Any) -> float:
        """The value alone, without building or running a derivative."""
        return float(self._value(self._vector(x), *self._args))

    def fun(self, x: Any) -> float:
        """The value; its gradient is computed in the same sweep and remembered."""
        return self._sweep(x)[0]

    def jac(self, x: Any) -> Vector:
        """The gradient, shape (n,)."""
        return self._sweep(x)[1].copy()

    def fun_and_jac(self, x: Any) -> tuple[float, Vector]:
        """Value and gradient, for ``jac=True``."""
        value, gradient = self._sweep(x)
        return value, gradient.copy()

    def hess(self, x: Any) -> NDArray[np.float64]:
        """The Hessian, shape (n, n)."""
        return self._hessian(self._vector(x), *self._args)  # type: ignore[no-any-return]

    def hessp(self, x: Any, p: Any) -> Vector:
        """The Hessian times a vector, shape (n,)."""
        return self._hvp(self._vector(x), self._vector(p), *self._args)  # type: ignore[no-any-return]


class Residuals:
    """A vector-valued function of a nest, as one of a flat vector: values, Jacobian, Hessian of ``v @ values``."""

    def __init__(self, f: Callable[..., Any], layout: Layout, args: tuple[Any, ...]) -> None:
        flat = _flat_vector(f, layout)
        self._value, self._jacobian = function(flat), jacobian(flat)
        self._weighted_hvp = hvp(_weighted(flat))
        self.layout, self._args = layout, args

    def fun(self, x: Any) -> Vector:
        """The values, shape (m,)."""
        return self._value(_contiguous(x), *self._args)  # type: ignore[no-any-return]

    def jac(self, x: Any) -> NDArray[np.float64]:
        """The Jacobian, shape (m, n)."""
        return self._jacobian(_contiguous(x), *self._args)  # type: ignore[no-any-return]

    def hess(self, x: Any, v: Any) -> Any:
        """The Hessian of ``v @ fun(x)`` as a `scipy.sparse.linalg.LinearOperator`, shape (n, n)."""
        from scipy.sparse.linalg import LinearOperator

        point, weights = np.array(x, dtype=np.float64), np.array(v, dtype=np.float64)

        def product(p: Any) -> Vector:
            return self._weighted_hvp(point, _contiguous(np.ravel(p)), weights, *self._args)  # type: ignore[no-any-return]

        return LinearOperator((point.size, point.size), matvec=product, rmatvec=product, dtype=np.float64)


def _contiguous(x: Any) -> Vector:
    return np.ascontiguousarray(x, dtype=np.float64)


def _flat_scalar(f: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """`f` of a flat vector, as a real scalar."""

    def flat(x: Any, *args: Any) -> Any:
        value = as_tensor(f(layout.unflatten(x), *args))
        if value.shape:
            raise ShapeError(f"{_name(f)}: returned shape {show_shape(value.shape)}, wanted a scalar; reduce it with "
                             f"ng.sum or ng.mean, or use ng.optimize.least_squares{at(_made(value))}")
        return _real(value, f)

    return _named(flat, f)


def _flat_vector(f: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """`f` of a flat vector, as a real vector."""

    def flat(x: Any, *args: Any) -> Any:
        value = _real(as_tensor(f(layout.unflatten(x), *args)), f)
        return value if value.ndim == 1 else apply("reshape", value, shape=(value.size,))

    return _named(flat, f)


def _weighted(flat: Callable[..., Any]) -> Callable[..., Any]:
    """``weights @ flat(x)``."""

    def weighted(x: Any, weights: Any, *args: Any) -> Any:
        return np.sum(weights * flat(x, *args))

    return _named(weighted, flat)


def _named(made: Callable[..., Any], f: Callable[..., Any]) -> Callable[..., Any]:
    """`made` under f's name, for messages; its signature is its own."""
    made.__name__, made.__qualname__ = getattr(f, "__name__", "f"), _name(f)
    made.__module__ = getattr(f, "__module__", __name__)
    return made


def _real(value: Tensor, f: Callable[..., Any]) -> Tensor:
    if value.dtype.kind == "c":
        raise DtypeError(f"{_name(f)}: returned {value.dtype}, wanted a real number; take ng.real or ng.abs of it"
                         f"{at(_made(value))}")
    return value if value.dtype == np.float64 else apply("cast", value, dtype=np.dtype(np.float64))


def _made(value: Tensor) -> Any:
    """The line that made a tensor, or where the user is now."""
    return value.op.where if value.op is not None and value.op.where is not None else user_line()


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__qualname__", None) or repr(f)


def problem(f: Callable[..., Any], x0: Any, *args: Any) -> Problem:
    """Make a scalar function of a nest of arrays into the functions that SciPy asks for, over flat float64 vectors.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` with a real scalar result, written with ``ng.*`` or ``np.*``.
    x0 : nest of arrays
        Where to start, and the structure of x: an array, or tuples, lists, dicts and dataclasses of real arrays.
    *args
        Data, as in `ng.function`: arrays are traced, so that others with the same dtypes and ranks compile nothing.

    Returns
    -------
    Problem
        With ``fun(x)``, ``jac(x)``, ``fun_and_jac(x)``, ``hess(x)``, ``hessp(x, p)``, ``value(x)``, ``x0``,
        ``flatten(nest)``, ``unflatten(x)`` and ``with_args(*args)``. x has shape (n,), the gradient (n,), the Hessian
        (n, n). `fun` and `jac` share one compiled sweep and remember the latest x; the data must not be changed in
        place between the two.

    Raises
    ------
    ShapeError
        When f's result is not a scalar, or x has another size.
    DtypeError
        When a parameter or the result is complex.

    Notes
    -----
    f(unflatten(z)) is differentiated by z, so a gradient is the concatenation of the raveled gradients by each array.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> def f(p, t):
    ...     return np.sum((p["a"] * t + p["b"]) ** 2)
    >>> p = ng.optimize.problem(f, {"a": 1.0, "b": np.zeros(2)}, np.array([1.0, 2.0]))
    >>> p.fun_and_jac(np.array([1.0, 0.0, 0.0]))
    (5.0, array([10.,  2.,  4.]))
    >>> p.hess(p.x0).shape, float(p.unflatten(p.x0)["a"])
    ((3, 3), 1.0)
    """
    return Problem(f, Layout(x0), args)

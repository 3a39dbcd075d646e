"""`gradients` and `hessians` with TensorFlow 1's signatures, `colocate_gradients_with_ops` among the arguments."""

from __future__ import annotations

from typing import Any

from numgrad.autodiff.arguments import UnconnectedGradients
from numgrad.autodiff.derived import second_derivatives
from numgrad.autodiff.reverse import differentiate
from numgrad.autodiff.slices import IndexedSlices
from numgrad.graph.core import Tensor

__all__ = ["gradients", "hessians"]


def gradients(ys: Any, xs: Any, grad_ys: Any = None, name: str = "gradients", colocate_gradients_with_ops: bool = False,
              gate_gradients: bool = False, aggregation_method: int | None = None, stop_gradients: Any = None,
              unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
              ) -> list[Tensor | IndexedSlices | None]:
    """The sum of the derivatives of ys with respect to each x; see `numgrad.gradients`.

    Parameters
    ----------
    ys, xs : Tensor or sequence of Tensor
    grad_ys, name, gate_gradients, aggregation_method, stop_gradients, unconnected_gradients
        As in `numgrad.gradients`.
    colocate_gradients_with_ops : bool
        Whether gradient operations take the device label of the operations that they belong to.

    Returns
    -------
    list of Tensor, IndexedSlices or None

    Raises
    ------
    RuntimeError, LookupError, TypeError, ValueError
        As `numgrad.gradients`.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     g, = ng.compat.v1.gradients(x * x, x, None, "grads", True)
    >>> float(ng.run(g, {x: 3.0}))
    6.0
    """
    return differentiate(ys, xs, grad_ys, name, gate_gradients, aggregation_method, stop_gradients,
                         unconnected_gradients, colocate=colocate_gradients_with_ops)


def hessians(ys: Any, xs: Any, name: str = "hessians", colocate_gradients_with_ops: bool = False,
             gate_gradients: bool = False, aggregation_method: int | None = None) -> list[Tensor]:
    """The second derivatives of the sum of ys with respect to each x; see `numgrad.hessians`.

    Parameters
    ----------
    ys, xs : Tensor or sequence of Tensor
    name, gate_gradients, aggregation_method
        As in `numgrad.hessians`.
    colocate_gradients_with_ops : bool
        Whether gradient operations take the device label of the operations that they belong to.

    Returns
    -------
    list of Tensor
        For each x a block of shape ``x.shape + x.shape``.

    Raises
    ------
    RuntimeError, TypeError, ValueError
        As `numgrad.hessians`.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     h, = ng.compat.v1.hessians(x ** 3, x)
    >>> float(ng.run(h, {x: 2.0}))
    12.0
    """
    return second_derivatives(ys, xs, gate_gradients, aggregation_method, name, colocate=colocate_gradients_with_ops)

"""Activations and cross entropies of neural networks, made of the elementwise ops."""

from __future__ import annotations

import math
from typing import Any

from numgrad.graph.core import Tensor
from numgrad.ops.arithmetic import add, multiply, multiply_no_nan, negative, subtract
from numgrad.ops.choice import maximum, minimum, where
from numgrad.ops.comparison import greater
from numgrad.ops.exponential import expm1, sigmoid, softplus
from numgrad.ops.reduction import sum as sum_over
from numgrad.ops.special import erfc
from numgrad.ops.statistics import log_softmax
from numgrad.ops.trigonometric import tanh
from numgrad.ops.ufuncs import as_floats, document, publish

__all__ = [
    "elu", "gelu", "leaky_relu", "relu", "relu6", "selu", "sigmoid_cross_entropy", "silu", "softmax_cross_entropy",
    "swish",
]

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _activation(name: str, body: Any, summary: str, notes: str, example: str, result: str) -> Any:
    def function(x: Any, /) -> Tensor:
        return body(as_floats(x, name))  # type: ignore[no-any-return]

    return publish(
        function, name, document(summary, ("x",), "bool, integers, floats", "Floats", notes, example, result)
    )


# The constant comes first in maximum and minimum, so that it takes the ties: the derivative is 0 at the kinks.
relu = _activation(
    "relu",
    lambda x: maximum(0, x),
    "The ramp.",
    "``max(x, 0)``; the derivative is taken as 0 at 0.",
    "ng.nn.relu([-1.0, 0.0, 2.0]).numpy()",
    "array([0., 0., 2.])",
)

relu6 = _activation(
    "relu6",
    lambda x: minimum(6, maximum(0, x)),
    "The ramp that ends at 6.",
    "``min(max(x, 0), 6)``; the derivative is taken as 0 at 0 and 6.",
    "ng.nn.relu6([-1.0, 3.0, 8.0]).numpy()",
    "array([0., 3., 6.])",
)

selu = _activation(
    "selu",
    lambda x: multiply(elu(x, _SELU_ALPHA), _SELU_SCALE),
    "The self-normalising exponential linear unit.",
    "``s * x`` for ``x > 0``, else ``s * a * (e**x - 1)``, with s = 1.0507... and a = 1.6732... (Klambauer et al., "
    "2017).",
    "ng.nn.selu([-1.0, 1.0]).numpy()",
    "array([-1.11133074,  1.05070099])",
)

silu = swish = _activation(
    "silu",
    lambda x: multiply(x, sigmoid(x)),
    "The argument times its logistic function.",
    "``x / (1 + e**-x)``.",
    "ng.nn.silu([-1.0, 1.0]).numpy()",
    "array([-0.26894142,  0.73105858])",
)


def leaky_relu(x: Any, /, alpha: float = 0.2) -> Tensor:
    """The ramp with a small slope below zero.

    Parameters
    ----------
    x : array_like
        Bool, integers, floats; any shape.
    alpha : float
        The slope for ``x <= 0``.

    Returns
    -------
    Tensor
        Floats of x's shape.

    Raises
    ------
    DtypeError
        For complex numbers.

    Notes
    -----
    ``x`` for ``x > 0``, else ``alpha * x``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nn.leaky_relu([-1.0, 2.0]).numpy()
    array([-0.2,  2. ])
    """
    values = as_floats(x, "leaky_relu")
    return where(greater(values, 0), values, multiply(values, alpha))


def elu(x: Any, /, alpha: float = 1.0) -> Tensor:
    """The exponential linear unit.

    Parameters
    ----------
    x : array_like
        Bool, integers, floats; any shape.
    alpha : float
        The negative of the limit at minus infinity.

    Returns
    -------
    Tensor
        Floats of x's shape.

    Raises
    ------
    DtypeError
        For complex numbers.

    Notes
    -----
    ``x`` for ``x > 0``, else ``alpha * (e**x - 1)``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nn.elu([-1.0, 2.0]).numpy()
    array([-0.63212056,  2.        ])
    """
    values = as_floats(x, "elu")
    return where(greater(values, 0), values, multiply(expm1(values), alpha))


def gelu(x: Any, /, approximate: bool = False) -> Tensor:
    """The Gaussian error linear unit.

    Parameters
    ----------
    x : array_like
        Bool, integers, floats; any shape.
    approximate : bool
        Whether the normal distribution is approximated by a hyperbolic tangent.

    Returns
    -------
    Tensor
        Floats of x's shape.

    Raises
    ------
    DtypeError
        For complex numbers.

    Notes
    -----
    ``x * erfc(-x / sqrt(2)) / 2``; approximately ``x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3))) / 2`` (Hendrycks
    and Gimpel, 2016).

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nn.gelu([-1.0, 1.0]).numpy()
    array([-0.15865525,  0.84134475])
    """
    values = as_floats(x, "gelu")
    half = multiply(values, 0.5)
    if not approximate:
        return multiply(half, erfc(multiply(values, -math.sqrt(0.5))))
    cubed = multiply(multiply(values, values), values)
    return multiply(half, add(tanh(multiply(add(values, multiply(cubed, 0.044715)), math.sqrt(2 / math.pi))), 1))


def sigmoid_cross_entropy(logits: Any, labels: Any, /) -> Tensor:
    """The cross entropy of independent yes-or-no probabilities, from their logits.

    Parameters
    ----------
    logits, labels : array_like
        Floats; shapes that broadcast. Labels are probabilities.

    Returns
    -------
    Tensor
        The loss of each element, of the broadcast shape.

    Raises
    ------
    ShapeError
        When the shapes do not broadcast.

    Notes
    -----
    ``-z*ln(sigmoid(x)) - (1 - z)*ln(1 - sigmoid(x))``, computed as ``z*softplus(-x) + (1 - z)*softplus(x)``, which
    keeps all digits.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nn.sigmoid_cross_entropy([0.0, 1000.0], [1.0, 1.0]).numpy()
    array([0.69314718, 0.        ])
    """
    x = as_floats(logits, "sigmoid_cross_entropy")
    return add(multiply(labels, softplus(negative(x))), multiply(subtract(1, labels), softplus(x)))


def softmax_cross_entropy(logits: Any, labels: Any, /, axis: int = -1) -> Tensor:
    """The cross entropy between label probabilities and the softmax of logits.

    Parameters
    ----------
    logits, labels : array_like
        Floats; shapes that broadcast. Labels are probabilities along the axis (one-hot rows, for example).
    axis : int
        Along which the classes lie.

    Returns
    -------
    Tensor
        The loss of each row: the operands' shape without the axis.

    Raises
    ------
    ShapeError
        When the shapes do not broadcast, or the axis does not exist.

    Notes
    -----
    ``-sum(labels * log_softmax(logits))``; a class of label 0 counts nothing, whatever its logit.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.nn.softmax_cross_entropy([[0.0, 0.0], [1000.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]).numpy()
    array([0.69314718, 0.        ])
    """
    logs = log_softmax(as_floats(logits, "softmax_cross_entropy"), axis)
    return sum_over(multiply_no_nan(negative(logs), labels), axis=axis)

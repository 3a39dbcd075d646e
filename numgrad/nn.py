"""Activations, softmax and cross entropies of neural networks."""

from numgrad.ops.activation import (
    elu,
    gelu,
    leaky_relu,
    relu,
    relu6,
    selu,
    sigmoid_cross_entropy,
    silu,
    softmax_cross_entropy,
    swish,
)
from numgrad.ops.exponential import log_sigmoid, sigmoid, softplus
from numgrad.ops.sorting import top_k
from numgrad.ops.statistics import log_softmax, softmax
from numgrad.ops.trigonometric import tanh

__all__ = [
    "elu", "gelu", "leaky_relu", "log_sigmoid", "log_softmax", "relu", "relu6", "selu", "sigmoid",
    "sigmoid_cross_entropy", "silu", "softmax", "softmax_cross_entropy", "softplus", "swish", "tanh", "top_k",
]

"""What the tests of linear algebra share: random matrices, and derivatives of whole functions along lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import numgrad as ng
from numgrad.autodiff.forward import pushforward
from numgrad.graph.core import Tensor, placeholder
from numgrad.graph.graph import Graph
from tests.op_cases import along, generator, inner


def matrix(*shape: int, dtype: Any = np.float64, seed: Any = 0) -> Any:
    """Normal numbers, with normal imaginary parts for complex dtypes."""
    rng = generator("matrix", shape, np.dtype(dtype).name, seed)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def adjoint(a: Any) -> Any:
    """The conjugate transpose of each matrix."""
    return np.conj(np.swapaxes(a, -1, -2))


def regular(*shape: int, dtype: Any = np.float64, seed: Any = 0) -> Any:
    """Square matrices that are far from singular and not symmetric."""
    return (matrix(*shape, dtype=dtype, seed=seed) + 2 * shape[-1] * np.eye(shape[-1])).astype(dtype)


def positive(*shape: int, dtype: Any = np.float64, seed: Any = 0) -> Any:
    """Hermitian positive definite matrices."""
    a = matrix(*shape, dtype=dtype, seed=seed)
    return (a @ adjoint(a) + shape[-1] * np.eye(shape[-1])).astype(dtype)


def weighted(result: Tensor, seed: Any = 0) -> Tensor:
    """A real number that every element of `result` takes part in, and that is curved."""
    weight = matrix(*result.shape, dtype=result.dtype, seed=("weight", seed))
    return ng.sin(ng.sum(ng.real(ng.conj(ng.asarray(weight)) * result)))


def check_derivatives(function: Callable[..., Any], *arrays: Any, hermitian: Sequence[int] = (),
                      limit: float = 1e-8) -> None:
    """Reverse, forward and second derivatives of a real function along a random line, against differences of order 8.

    Along the line the arrays at positions `hermitian` stay Hermitian.
    """
    directions = [matrix(*a.shape, dtype=a.dtype, seed=("direction", i)) * 0.3 for i, a in enumerate(arrays)]
    for i in hermitian:
        directions[i] = (directions[i] + adjoint(directions[i])) / 2
    with Graph().as_default():
        xs = [placeholder(a.dtype, a.shape) for a in arrays]
        ts = [placeholder(a.dtype, a.shape) for a in arrays]
        y = function(*xs)
        gs = ng.gradients(y, xs)
        slope = sum((ng.sum(ng.real(ng.conj(g) * t)) for g, t in zip(gs, ts, strict=True)
                     if g is not None), ng.asarray(0.0))
        (pushed,) = pushforward([y], xs, ts)
        hs = ng.gradients(slope, xs)
        (turned,) = pushforward([slope], xs, ts)

    def feeds(s: float) -> dict[Tensor, Any]:
        moved = [a + s * d for a, d in zip(arrays, directions, strict=True)]
        return dict(zip([*xs, *ts], [*moved, *directions], strict=True))

    first, second = along(lambda s: float(ng.run(y, feeds(s))))
    kept = [(i, h) for i, h in enumerate(hs) if h is not None]
    values = ng.run([slope, pushed, [h for _, h in kept], turned], feeds(0.0))
    curvature = sum(inner([h], [directions[i]]) for (i, _), h in zip(kept, values[2], strict=True))

    def compare(got: Any, want: float, tolerance: float, what: str) -> None:
        value = 0.0 if got is None else float(got)
        assert abs(value - want) <= tolerance * (1 + abs(want)), f"{what}: got {value!r}, differences give {want!r}"

    compare(values[0], first, limit, "reverse")
    compare(values[1], first, limit, "forward")
    compare(curvature, second, limit * 1e3, "reverse over reverse")
    compare(values[3], second, limit * 1e3, "forward over reverse")

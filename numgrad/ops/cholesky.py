"""Cholesky factors, and their derivative as two linear maps that are each other's adjoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import define
from numgrad.ops.linalg import adjoint, batch_of, matrices, require_square, square_samples
from numgrad.ops.matmul import conjugate, product
from numgrad.ops.triangles import tril
from numgrad.types import Dim, Spec, size_product

__all__ = ["cholesky"]

LOWER_BLOCK = 64  # columns that the kernel of `lower_product` treats together
NOT_POSITIVE = ("a matrix is not positive definite; check that it is symmetric, or add a small multiple of "
                "the identity")


# -- the factor
def _infer_cholesky(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    require_square("cholesky", specs[0])
    return (specs[0],)


def _evaluate_cholesky(a: Any) -> Any:
    try:
        return np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(NOT_POSITIVE) from None


def _vjp_cholesky(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if cts[0] is None else apply("cholesky_pullback", op.outputs[0], cts[0])]


def _jvp_cholesky(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if tangents[0] is None else apply("cholesky_pushforward", op.outputs[0], tangents[0])]


def _cube(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Dim:
    return size_product((*ins[0].shape, ins[0].shape[-1]))


def _stack(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Dim, Dim]:
    return batch_of(ins[0]), ins[0].shape[-1]


define("cholesky", "general", _infer_cholesky, _evaluate_cholesky, vjp=_vjp_cholesky, jvp=_jvp_cholesky, dtypes="fc",
       library=Library("cholesky", sizes=_stack, span=lambda ins, outs, attrs: batch_of(ins[0]), status=True,
                       parallel=True, error=NOT_POSITIVE, flops=lambda ins, outs, attrs: _cube(ins, outs, attrs) // 3),
       samples=lambda rng: [([a], {}) for a in square_samples(rng, positive=True)], public="linalg.cholesky",
       doc="Lower triangular factor of Hermitian positive definite matrices.")


# -- its derivative
def _infer_map(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    require_square("cholesky", specs[0])
    return (specs[1],)


def _halved(a: Any) -> Any:
    """The lower triangle, with half of the real part of the diagonal."""
    return np.tril(a, -1) + np.eye(a.shape[-1], dtype=a.dtype) * np.real(a) / 2


def _conjugate_transpose(a: Any) -> Any:
    return np.conj(np.swapaxes(a, -1, -2))


def _between(factor: Any, middle: Any, adjoint_outside: bool) -> Any:
    """``L^-1 M L^-H``, or ``L^-H M L^-1``."""
    inverse = np.linalg.inv(np.tril(factor))
    turned = _conjugate_transpose(inverse)
    return turned @ middle @ inverse if adjoint_outside else inverse @ middle @ turned


def _evaluate_pullback(factor: Any, g: Any) -> Any:
    lower = np.tril(factor)
    found = _between(factor, _halved(_conjugate_transpose(lower) @ np.tril(g)), True)
    return (found + _conjugate_transpose(found)) / 2


def _evaluate_pushforward(factor: Any, change: Any) -> Any:
    middle = _between(factor, (change + _conjugate_transpose(change)) / 2, False)
    return np.tril(factor) @ _halved(middle)


def _infer_lower_product(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    require_square("lower_product", specs[0])
    return (specs[1],)


def _vjp_lower_product(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (a, b), (g,), scale = op.inputs, cts, op.attrs["scale"]
    if g is None:
        return [None, None]
    lower = tril(apply("multiply", g, as_tensor(np.asarray(scale, g.dtype))))
    return [product(lower, conjugate(tril(b)), False, True), apply("lower_product", adjoint(a), g, scale=scale)]


def _jvp_lower_product(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    (a, b), (of_a, of_b) = op.inputs, tangents
    pairs = [(x, y) for x, y in ((of_a, b), (a, of_b)) if x is not None and y is not None]
    return [_sum_of([apply("lower_product", x, y, **op.attrs) for x, y in pairs]) if pairs else None]


define("lower_product", "general", _infer_lower_product,
       lambda a, b, scale: np.tril(np.matmul(a, np.tril(b))) * a.dtype.type(scale), vjp=_vjp_lower_product,
       jvp=_jvp_lower_product, dtypes="fc",
       library=Library("lower_product", sizes=lambda ins, outs, attrs: (
                           batch_of(ins[0]), ins[0].shape[-1], int(attrs["scale"])),
                       span=lambda ins, outs, attrs: batch_of(ins[0]),
                       scratch=lambda ins, outs, attrs: [(ins[0].dtype, LOWER_BLOCK * LOWER_BLOCK)],
                       flops=lambda ins, outs, attrs: 2 * _cube(ins, outs, attrs) // 3),
       samples=lambda rng: [([a, rng.standard_normal(a.shape).astype(a.dtype)], {"scale": -2})
                            for a in square_samples(rng)] + [
                                (list(rng.uniform(0.5, 1.5, (2, 2, 70, 70))), {"scale": 3})],
       doc="The lower triangle of a matrix times a lower triangle, times an integer.")


def _weighed(s: Tensor, x: Tensor) -> Tensor:
    """The lower triangle of ``-2 S X``: what a change of L does to the equation ``X L^H + L X^H = dA``, seen by S."""
    return apply("lower_product", s, x, scale=-2)


# With S the result of the pullback (Hermitian) and X that of the pushforward, a change E of L changes both through
# <dS, dA> = <S, -(X E^H + E X^H)> for each dA, X being the pushforward of dA.
def _vjp_pullback(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (factor, _), (s,) = op.inputs, op.outputs
    if cts[0] is None:
        return [None, None]
    x = apply("cholesky_pushforward", factor, cts[0])
    return [_weighed(s, x), x]


def _jvp_pullback(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    (factor, _), (s,), (of_factor, of_g) = op.inputs, op.outputs, tangents
    terms = [t for t in (of_g, None if of_factor is None else _weighed(s, of_factor)) if t is not None]
    return [apply("cholesky_pullback", factor, _sum_of(terms)) if terms else None]


def _vjp_pushforward(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (factor, _), (x,) = op.inputs, op.outputs
    if cts[0] is None:
        return [None, None]
    s = apply("cholesky_pullback", factor, cts[0])
    return [_weighed(s, x), s]


def _jvp_pushforward(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    (factor, _), (x,), (of_factor, of_change) = op.inputs, op.outputs, tangents
    turned = None
    if of_factor is not None:  # the Hermitian part of -2 E X^H
        turned = apply("multiply", product(tril(of_factor), adjoint(x)), as_tensor(np.asarray(-2, x.dtype)))
    terms = [t for t in (of_change, turned) if t is not None]
    return [apply("cholesky_pushforward", factor, _sum_of(terms)) if terms else None]


def _sum_of(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else apply("add", *terms)


def _samples_map(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    factors = [np.linalg.cholesky(a) for a in square_samples(rng, positive=True)]
    result: list[tuple[Sequence[Any], Mapping[str, Any]]] = []
    for factor in factors:
        other = rng.standard_normal(factor.shape).astype(factor.dtype)
        result.append(([factor, other + 1j * other[::-1] if other.dtype.kind == "c" else other], {}))
    return result


for _name, _evaluate, _vjp, _jvp, _doc in (
        ("cholesky_pullback", _evaluate_pullback, _vjp_pullback, _jvp_pullback,
         "From a lower Cholesky factor and its cotangent to the Hermitian cotangent of the matrix."),
        ("cholesky_pushforward", _evaluate_pushforward, _vjp_pushforward, _jvp_pushforward,
         "From a lower Cholesky factor and a change of the matrix (its Hermitian part) to the change of the factor.")):
    define(_name, "general", _infer_map, _evaluate, vjp=_vjp, jvp=_jvp, dtypes="fc",
           library=Library(_name, sizes=_stack, span=lambda ins, outs, attrs: batch_of(ins[0]), parallel=True,
                           flops=lambda ins, outs, attrs: 2 * _cube(ins, outs, attrs) // 3),
           samples=_samples_map, doc=_doc)


# -- public function
def cholesky(a: Any, /, *, upper: bool = False) -> Tensor:
    """Triangular factor of Hermitian positive definite matrices.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64. Only the lower
        triangle is read (the upper one with `upper`).
    upper : bool
        Whether to return the upper triangular factor U with ``U^H U = a`` in place of the lower one.

    Returns
    -------
    Tensor
        L with ``L L^H = a``; zeros above the diagonal.

    Raises
    ------
    numpy.linalg.LinAlgError
        When a matrix is not positive definite.
    ShapeError, DtypeError
        For matrices that are not square; for float16.

    Notes
    -----
    With cotangent G of L the cotangent of `a` is the Hermitian part of ``L^-H P L^-1``, where P is the lower triangle
    of ``L^H G`` with its diagonal halved. It is found without an inverse in one pass over blocks of columns, at twice
    the work of the factorisation (I. Murray, "Differentiation of the Cholesky decomposition", 2016); so is the change
    of L along a change of `a`. It is the derivative along Hermitian changes of `a`, shared evenly by both triangles.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.cholesky([[4.0, 2.0], [2.0, 2.0]]).numpy()
    array([[2., 0.],
           [1., 1.]])
    """
    (x,) = matrices("cholesky", a)
    return adjoint(apply("cholesky", adjoint(x))) if upper else apply("cholesky", x)

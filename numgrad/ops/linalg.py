"""Triangular systems, and the helpers that all ops on stacks of square matrices share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import cast_to, define
from numgrad.ops.matmul import conjugate, permute, product, reshape_to, stretch, transposed
from numgrad.ops.triangles import eye, tril, triu
from numgrad.types import Dim, Spec, broadcast_shapes, promote, require_equal, same_size, size_product

__all__ = ["cho_solve", "triangular_solve"]

BLOCK = 64  # columns that LAPACK treats together; workspaces have room for it
ZERO_DIAGONAL = "a matrix is singular: its diagonal holds a zero"


# -- shared
def matrices(op: str, *values: Any) -> list[Tensor]:
    """The operands in one floating or complex dtype, each with two axes or more; the first may not be a vector."""
    tensors = [as_tensor(v) for v in values]
    common = promote(*(t.dtype if t.dtype.kind in "fc" else np.dtype(np.float64) for t in tensors))
    if common == np.float16:
        raise DtypeError(f"{op}: float16 is not supported; cast to float32 with ng.astype{at(user_line())}")
    if tensors[0].ndim < 2:
        raise ShapeError(f"{op}: got {tensors[0].spec}, wanted a matrix or a stack of them (two or more axes)"
                         f"{at(user_line())}")
    return [cast_to(t, common) for t in tensors]


def require_square(op: str, spec: Spec) -> Dim:
    """The size n of a stack of n by n matrices."""
    return require_equal(spec.shape[-2], spec.shape[-1], lambda: (
        f"{op}: the last two axes must be equal, got {spec}"))


def batch_of(spec: Spec) -> Dim:
    """How many matrices a stack holds."""
    return size_product(spec.shape[:-2])


def over_stack(routine: Callable[..., Any], outputs: Sequence[Any], *stacks: Any) -> bool:
    """Call ``routine(*items)`` for each item of the stacks, of which the first is one of matrices, and fill `outputs`.

    The routine's last result is LAPACK's status; whether any was not zero is returned.
    """
    failed = False
    for index in np.ndindex(stacks[0].shape[:-2]):
        *values, info = routine(*(a[index] for a in stacks))
        failed |= info != 0
        for target, value in zip(outputs, values, strict=True):
            target[index] = value
    return failed


def lapack(name: str, dtype: Any) -> Callable[..., Any]:
    """SciPy's wrapper of a LAPACK routine for a dtype."""
    from scipy.linalg import get_lapack_funcs

    return get_lapack_funcs(name, dtype=dtype)  # type: ignore[no-any-return]


def adjoint(tensor: Tensor) -> Tensor:
    """The conjugate transpose of each matrix."""
    return conjugate(transposed(tensor))


def hermitian_part(tensor: Tensor) -> Tensor:
    """Half the sum of each matrix and its conjugate transpose."""
    half = as_tensor(np.asarray(0.5, tensor.dtype))
    return apply("multiply", apply("add", tensor, adjoint(tensor)), half)


def identity_like(tensor: Tensor) -> Tensor:
    """A stack of identities of a square stack's shape."""
    return stretch(eye(tensor.shape[-1], dtype=tensor.dtype), tensor.shape)


def square_samples(rng: Any, positive: bool = False) -> list[Any]:
    """Stacks of well-conditioned square matrices: sizes 0, 1, 3 and 9, a batch, an empty batch, float32, complex."""
    def one(*shape: int, dtype: Any = np.float64) -> Any:
        a = rng.standard_normal(shape).astype(dtype)
        if np.dtype(dtype).kind == "c":
            a = a + 1j * rng.standard_normal(shape)
        if positive:
            a = a @ np.conj(np.swapaxes(a, -1, -2))
        return (a + shape[-1] * np.eye(shape[-1])).astype(dtype)

    return [one(3, 3), one(1, 1), one(2, 3, 3), one(9, 9), one(0, 0), one(0, 2, 2), one(3, 3, dtype=np.complex128),
            one(3, 3, dtype=np.float32)]


def rectangular_samples(rng: Any, **attrs: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    """Stacks of rectangular matrices of full rank, tall, wide, square and empty."""
    shapes = [(3, 3), (4, 2), (2, 5), (2, 4, 3), (0, 3, 2), (1, 1), (3, 0), (0, 3)]
    result: list[tuple[Sequence[Any], Mapping[str, Any]]] = [([rng.standard_normal(s)], attrs) for s in shapes]
    result.append(([rng.standard_normal((4, 3)) + 1j * rng.standard_normal((4, 3))], attrs))
    return result


def on_diagonal(n: Dim, diagonal: Tensor, rest: Tensor) -> Tensor:
    """`rest` with its diagonal replaced by `diagonal` (a column of values)."""
    return apply("where", eye(n, dtype=np.bool_), diagonal, rest)


def solve_cotangents(op: Operation, g: Tensor, again: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Cotangents of A and B for ``X = op(A)^-1 B``; ``again(B, trans)`` solves with the same factors.

    With ``H = op(A)^-H G`` they are H for B and ``-H X^H`` for op(A).
    """
    trans, (x,) = op.attrs["trans"], op.outputs
    if trans == 1:
        h = conjugate(again(conjugate(g), 0))
    else:
        h = again(g, 2 if trans == 0 else 0)
    to_a = (product(h, conjugate(x), False, True), product(conjugate(x), h, False, True),
            product(x, conjugate(h), False, True))[trans]
    return apply("negative", to_a), h


def solve_broadcast(name: str, a: Tensor, factors: Sequence[Tensor], b: Tensor, solve: Callable[..., Tensor]) -> Tensor:
    """``solve(a, *factors, b)`` for a right side that is a vector, or whose stack broadcasts against that of `a`."""
    vector = b.ndim == 1
    if vector:
        b = apply("expand_dims", b, axes=(1,))
    n, rows = a.shape[-1], b.shape[-2]
    require_equal(n, rows, lambda: f"{name}: a matrix of {a.spec} needs a right side with {n} rows, got {b.spec}")
    lead_a, lead_b = a.shape[:-2], b.shape[:-2]
    if lead_b and all(same_size(d, 1) for d in lead_a) and len(lead_a) <= len(lead_b):
        # One matrix for a stack of right sides: they become columns of one.
        count = len(lead_b)
        wide = reshape_to(permute(b, (count, *range(count), count + 1)), (n, size_product((*lead_b, b.shape[-1]))))
        flat = [reshape_to(t, t.shape[len(lead_a):]) for t in (a, *factors)]
        x = reshape_to(solve(*flat, wide), (n, *lead_b, b.shape[-1]))
        result = permute(x, (*range(1, count + 1), 0, count + 1))
    else:
        lead = broadcast_shapes([lead_a, lead_b], name)
        same = [stretch(t, (*lead, *t.shape[len(lead_a):])) for t in (a, *factors)]
        result = solve(*same, stretch(b, (*lead, *b.shape[-2:])))
    return apply("squeeze", result, axes=(result.ndim - 1,)) if vector else result


# -- triangular_solve
def _infer_triangular(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    require_square("triangular_solve", specs[0])
    return (specs[-1],)


def _evaluate_triangular(a: Any, b: Any, lower: bool, trans: int, unit_diagonal: bool) -> Any:
    x = np.array(b)
    if not unit_diagonal and x.size and np.any(np.diagonal(a, axis1=-2, axis2=-1) == 0):
        raise np.linalg.LinAlgError(ZERO_DIAGONAL)
    if x.size:
        solver = lapack("trtrs", a.dtype)
        over_stack(lambda m, r: solver(m, r, lower=lower, trans=trans, unitdiag=unit_diagonal), [x], a, b)
    return x


def _triangular(a: Tensor, b: Tensor, lower: bool = True, trans: int = 0, unit_diagonal: bool = False) -> Tensor:
    return apply("triangular_solve", a, b, lower=lower, trans=trans, unit_diagonal=unit_diagonal)


def _vjp_triangular(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (g,), a, attrs = cts, op.inputs[0], op.attrs
    if g is None:
        return [None, None]
    to_a, to_b = solve_cotangents(op, g, lambda b, trans: _triangular(a, b, **{**attrs, "trans": trans}))
    strict = int(attrs["unit_diagonal"])
    return [tril(to_a, -strict) if attrs["lower"] else triu(to_a, strict), to_b]


def _samples_triangular(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    result: list[tuple[Sequence[Any], Mapping[str, Any]]] = []
    for number, a in enumerate(square_samples(rng)):
        b = rng.standard_normal((*a.shape[:-1], 1 + number % 3)).astype(a.dtype)
        for trans in (0, 1, 2):
            result.append(([a, b], {"lower": (number + trans) % 2 == 0, "trans": trans, "unit_diagonal": number == 2}))
    return result


define("triangular_solve", "general", _infer_triangular, _evaluate_triangular, vjp=_vjp_triangular, dtypes="fc",
       library=Library("triangular_solve", sizes=lambda ins, outs, attrs: (
           batch_of(ins[1]), *ins[1].shape[-2:], int(attrs["lower"]), attrs["trans"], int(attrs["unit_diagonal"])),
           span=lambda ins, outs, attrs: batch_of(ins[1]), status=True, parallel=True, error=ZERO_DIAGONAL,
           flops=lambda ins, outs, attrs: size_product((*ins[1].shape, ins[1].shape[-2]))),
       samples=_samples_triangular, public="linalg.triangular_solve", doc="Solution of triangular systems.")

_TRANS = {0: 0, 1: 1, 2: 2, "N": 0, "T": 1, "C": 2}


def triangular_solve(a: Any, b: Any, /, *, lower: bool = False, trans: int | str = 0,
                     unit_diagonal: bool = False) -> Tensor:
    """Solve triangular systems of equations.

    Parameters
    ----------
    a : array_like
        Shape ``(..., n, n)``. float32, float64, complex64, complex128; integers become float64. Only one triangle is
        read.
    b : array_like
        Shape ``(n,)`` or ``(..., n, r)``; leading axes broadcast against those of `a`.
    lower : bool
        Which triangle of `a` is read.
    trans : {0, 1, 2, "N", "T", "C"}
        Solve with `a`, its transpose or its conjugate transpose.
    unit_diagonal : bool
        Whether the diagonal is taken as ones and not read.

    Returns
    -------
    Tensor
        ``x`` with ``op(a) x = b``, of b's shape.

    Raises
    ------
    numpy.linalg.LinAlgError
        When the diagonal holds a zero.
    ShapeError, DtypeError
        When shapes do not fit; for float16.

    Notes
    -----
    With cotangent G of x and ``H = op(a)^-H G`` the cotangents are H for b and the triangle of ``-H x^H`` for op(a)
    (M. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation", 2008).

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.linalg.triangular_solve([[2.0, 0.0], [1.0, 1.0]], [2.0, 3.0], lower=True).numpy()
    array([1., 2.])
    """
    x, y = matrices("triangular_solve", a, b)
    if not y.ndim:
        raise ShapeError(f"triangular_solve: the right side is 0-d, wanted a vector or matrices{at(user_line())}")
    if trans not in _TRANS:
        raise ShapeError(f"triangular_solve: trans is {trans!r}, wanted 0, 1, 2, 'N', 'T' or 'C'{at(user_line())}")
    require_square("triangular_solve", x.spec)

    def solve(m: Tensor, r: Tensor) -> Tensor:
        return _triangular(m, r, bool(lower), _TRANS[trans], bool(unit_diagonal))

    return solve_broadcast("triangular_solve", x, (), y, solve)


def cho_solve(factor: Any, b: Any, /) -> Tensor:
    """Solve equations with Hermitian positive definite matrices, given their Cholesky factors.

    Parameters
    ----------
    factor : tuple (c, lower)
        A triangular factor of shape ``(..., n, n)`` and whether it is the lower one, as of `cholesky`; or the lower
        factor alone.
    b : array_like
        Shape ``(n,)`` or ``(..., n, r)``; leading axes broadcast.

    Returns
    -------
    Tensor
        x with ``L L^H x = b`` (``U^H U x = b``).

    Raises
    ------
    numpy.linalg.LinAlgError
        When the factor's diagonal holds a zero.
    ShapeError, DtypeError
        When shapes do not fit; for float16.

    Notes
    -----
    Two triangular solves.

    Examples
    --------
    >>> import numgrad as ng
    >>> L = ng.linalg.cholesky([[4.0, 2.0], [2.0, 2.0]])
    >>> ng.linalg.cho_solve((L, True), [6.0, 4.0]).numpy()
    array([1., 1.])
    """
    c, lower = factor if isinstance(factor, (tuple, list)) and len(factor) == 2 else (factor, True)
    x, y = matrices("cho_solve", c, b)
    if not y.ndim:
        raise ShapeError(f"cho_solve: the right side is 0-d, wanted a vector or matrices{at(user_line())}")
    require_square("cho_solve", x.spec)

    def solve(m: Tensor, r: Tensor) -> Tensor:
        first, second = (0, 2) if lower else (2, 0)
        return _triangular(m, _triangular(m, r, bool(lower), first), bool(lower), second)

    return solve_broadcast("cho_solve", x, (), y, solve)

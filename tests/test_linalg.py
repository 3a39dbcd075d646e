"""Factorisations, solves and determinants: values against NumPy and SciPy, derivatives along lines, failures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import numgrad as ng
from numgrad.graph.core import apply, placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from tests.matrix_cases import adjoint, check_derivatives, matrix, positive, regular, weighted

la = ng.linalg
DTYPES = ["float64", "float32", "complex128", "complex64"]
LIMITS = {"float64": 1e-11, "complex128": 1e-11, "float32": 2e-4, "complex64": 2e-4}
SQUARE = [(3, 3), (1, 1), (9, 9), (2, 3, 3), (2, 1, 4, 4), (0, 0), (0, 2, 2), (2, 0, 0)]
RECTANGULAR = [*SQUARE, (4, 2), (2, 5), (2, 3, 4), (3, 0), (0, 3), (17, 3), (3, 17)]


def agree(got: Any, want: Any) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, (got.dtype, got.shape, want.dtype, want.shape)
    limit = LIMITS[want.dtype.name]
    np.testing.assert_allclose(got, want, rtol=limit, atol=limit * (1 + np.max(np.abs(want), initial=0)))


def magnitude(v: Any) -> Any:
    """Squared absolute values: what is left of a vector when its phase is free."""
    return ng.real(ng.conj(v) * v)


def identities(lead: tuple[int, ...], n: int, dtype: str) -> Any:
    return np.broadcast_to(np.eye(n, dtype=dtype), (*lead, n, n))


def both_ways(function: Callable[..., Any], *arrays: Any) -> list[list[Any]]:
    """What a function gives eagerly, and compiled."""
    eager = function(*(ng.asarray(a) for a in arrays))
    with Graph().as_default():
        xs = [placeholder(a.dtype, a.shape) for a in arrays]
        ys = function(*xs)
        many = isinstance(ys, (list, tuple))
        program = compile_graph(xs, list(ys) if many else [ys])
    return [[t.numpy() for t in (eager if many else [eager])], list(program(*arrays))]


# -- values
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "cholesky": (la.cholesky, np.linalg.cholesky, positive),
    "cholesky upper": (lambda a: la.cholesky(a, upper=True), lambda a: adjoint(np.linalg.cholesky(a)), positive),
    "inv": (la.inv, np.linalg.inv, regular),
    "det": (la.det, np.linalg.det, matrix),
    "slogdet": (la.slogdet, np.linalg.slogdet, matrix),
    "eigvalsh": (la.eigvalsh, np.linalg.eigvalsh, positive),
    "eigvalsh U": (lambda a: la.eigvalsh(a, "U"), lambda a: np.linalg.eigvalsh(a, "U"), matrix),
    "eigvalsh L": (la.eigvalsh, np.linalg.eigvalsh, matrix),
    "matrix_power": (lambda a: la.matrix_power(a, -2), lambda a: np.linalg.matrix_power(a, -2), regular),
    "trace": (la.trace, np.linalg.trace, matrix),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_square_matrices_are_numpys(name: str, dtype: str) -> None:
    function, oracle, make = FUNCTIONS[name]
    for shape in SQUARE:
        a = make(*shape, dtype=dtype)
        want = oracle(a)
        for got in both_ways(function, a):
            for g, w in zip(got, want if isinstance(want, tuple) else [want], strict=True):
                agree(g, w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_put_the_matrix_together(dtype: str) -> None:
    for shape in RECTANGULAR:
        a = matrix(*shape, dtype=dtype)
        small = min(shape[-2:])
        real = np.linalg.svd(a, compute_uv=False)
        for full in (False, True):
            for u, s, vh in both_ways(lambda x, full=full: la.svd(x, full_matrices=full), a):
                agree(s, real)
                agree((u[..., :, :small] * s[..., None, :]) @ vh[..., :small, :], a)
                agree(adjoint(u) @ u, identities(shape[:-2], u.shape[-1], dtype))
                agree(vh @ adjoint(vh), identities(shape[:-2], vh.shape[-2], dtype))
        agree(la.svdvals(a).numpy(), real)
        for mode in ("reduced", "complete"):
            want = np.linalg.qr(a, mode=mode)
            for q, r in both_ways(lambda x, mode=mode: la.qr(x, mode), a):
                agree(q, want.Q)
                agree(r, want.R)
        agree(la.qr(a, mode="r").numpy(), np.linalg.qr(a, mode="r"))
    for shape in SQUARE:
        a = positive(*shape, dtype=dtype)
        for w, v in both_ways(la.eigh, a):
            agree(w, np.linalg.eigvalsh(a))
            agree((v * w[..., None, :]) @ adjoint(v), a)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans", [0, 1, 2, "N", "T", "C"])
def test_triangular_solve_is_scipys(dtype: str, trans: Any) -> None:
    for n in (0, 1, 3, 12):
        a = regular(n, n, dtype=dtype)
        for r in (None, 0, 1, 4):
            b = matrix(n, dtype=dtype) if r is None else matrix(n, r, dtype=dtype)
            for lower, unit in product((False, True), (False, True)):
                which: dict[str, Any] = {"lower": lower, "trans": trans, "unit_diagonal": unit}
                want = scipy.linalg.solve_triangular(a, b, **which) if b.size else b
                agree(la.triangular_solve(a, b, **which).numpy(), want)
                if (n, r) in ((3, 4), (12, 1)):
                    agree(both_ways(lambda x, y, which=which: la.triangular_solve(x, y, **which), a, b)[1][0], want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_solves_broadcast_as_numpys(dtype: str) -> None:
    for shape_a, shape_b in [
            ((3, 3), (3,)), ((3, 3), (3, 2)), ((3, 3), (5, 3, 2)), ((5, 3, 3), (3,)), ((5, 3, 3), (3, 2)),
            ((2, 1, 3, 3), (5, 3, 2)), ((1, 3, 3), (5, 3, 1)), ((0, 0), (0, 2)), ((0, 3, 3), (0, 3, 2)),
            ((3, 3), (3, 0)), ((9, 9), (9, 11))]:  # fmt: skip
        a, b = regular(*shape_a, dtype=dtype), matrix(*shape_b, dtype=dtype)
        want = np.linalg.solve(a, b)
        for (x,) in both_ways(la.solve, a, b):
            agree(x, want)
        p = positive(*shape_a, dtype=dtype)
        for (x,) in both_ways(lambda m, r: la.cho_solve((la.cholesky(m), True), r), p, b):
            agree(x, np.linalg.solve(p, b))
        agree(la.cho_solve((la.cholesky(p, upper=True), False), b).numpy(), np.linalg.solve(p, b))


@pytest.mark.parametrize("n", [2, 5, 11, 12, 13])
def test_stacks_of_systems_that_need_row_exchanges(n: int) -> None:
    """Sizes on both sides of the one up to which kernels do without a routine."""
    a, b = matrix(6, n, n), matrix(6, n, 2)
    a[:, 0, 0] = 0
    a[0] = np.roll(np.eye(n), 1, axis=0)
    p = positive(6, n, n)
    for (x,), (y,), (sign, log), (l,) in zip(
        both_ways(la.solve, a, b), both_ways(lambda m, r: la.solve(ng.matrix_transpose(m), r), a, b),
        both_ways(la.slogdet, a), both_ways(la.cholesky, p), strict=True):  # fmt: skip
        np.testing.assert_allclose(a @ x, b, atol=1e-9)
        np.testing.assert_allclose(np.swapaxes(a, -1, -2) @ y, b, atol=1e-9)
        for got, want in zip((sign, log), np.linalg.slogdet(a), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
        agree(l, np.linalg.cholesky(p))


def test_one_triangle_is_read() -> None:
    a = positive(4, 4)
    spoilt = np.tril(a) + np.triu(np.full((4, 4), np.nan), 1)
    agree(la.cholesky(spoilt).numpy(), np.linalg.cholesky(a))
    agree(la.cholesky(spoilt.T, upper=True).numpy(), np.linalg.cholesky(a).T)
    agree(la.eigvalsh(spoilt).numpy(), np.linalg.eigvalsh(a))
    agree(la.triangular_solve(spoilt, a, lower=True).numpy(), scipy.linalg.solve_triangular(np.tril(a), a, lower=True))


def test_integers_become_float64_and_float16_is_refused() -> None:
    whole = np.array([[2, 1], [1, 3]], np.int8)
    for function in (la.cholesky, la.inv, la.det, la.qr, la.svdvals, la.eigvalsh):
        result = function(whole)
        assert (result[0] if isinstance(result, tuple) else result).dtype == np.float64
        with pytest.raises(ng.errors.DtypeError, match="float16 is not supported"):
            function(whole.astype(np.float16))
    assert la.solve(whole, np.ones(2, np.float32)).dtype == np.float64


@pytest.mark.parametrize("order", [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
def test_condition_and_norms_are_numpys(order: Any) -> None:
    a = regular(2, 3, 3)
    if order is not None:
        agree(la.norm(a[0], order).numpy(), np.linalg.norm(a[0], order))
    agree(la.cond(a, order).numpy(), np.linalg.cond(a, order))


def test_pinv_is_numpys() -> None:
    for a in (matrix(4, 3), matrix(2, 3, 5), matrix(3, 3, dtype="c16"), np.diag([1.0, 2.0, 0.0])):
        agree(la.pinv(a).numpy(), np.linalg.pinv(a))
    agree(la.pinv(np.diag([1.0, 1e-3]), rtol=1e-2).numpy(), np.diag([1.0, 0.0]))


def test_odd_layouts_and_new_sizes() -> None:
    with Graph().as_default():
        a, b = placeholder(np.float64, ("n", "n")), placeholder(np.float64, ("n",))
        outputs = [la.solve(a, b), la.cholesky(a), la.slogdet(a).logabsdet, la.eigh(a).eigenvalues, la.svdvals(a),
                   la.qr(a).R]  # fmt: skip
        program = compile_graph([a, b], outputs)
    for n in (2, 5, 0, 40):
        p, r = positive(n, n), matrix(n)
        want = [np.linalg.solve(p, r), np.linalg.cholesky(p), np.linalg.slogdet(p)[1], np.linalg.eigvalsh(p),
                np.linalg.svd(p, compute_uv=False), np.linalg.qr(p, mode="r")]  # fmt: skip
        strided = np.zeros((2 * n, 2 * n))[::2, ::-2]
        strided[...] = p
        for given in (p, np.asfortranarray(p), strided, p.astype(">f8")):
            for got, expected in zip(program(given, np.repeat(r, 2)[::2]), want, strict=True):
                agree(got, expected)


# -- derivatives
KINDS = pytest.mark.parametrize("dtype", ["float64", "complex128"])


@KINDS
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3)])
def test_cholesky_derivatives(dtype: str, shape: tuple[int, ...]) -> None:
    a = positive(*shape, dtype=dtype)
    check_derivatives(lambda x: weighted(la.cholesky(x)), a, hermitian=(0,))
    check_derivatives(lambda x: weighted(la.cholesky(x, upper=True)), a, hermitian=(0,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 64), (65, 65), (2, 130, 130)])
def test_cholesky_derivatives_in_blocks(dtype: str, shape: tuple[int, ...]) -> None:
    """Matrices of one block, of one and a bit, and of three, for which the kernels call routines."""
    factor, g = np.linalg.cholesky(positive(*shape, dtype=dtype)), matrix(*shape, dtype=dtype, seed=1)
    wide = np.result_type(dtype, np.float64)
    inverse = np.linalg.inv(factor.astype(wide))

    def halved(a: Any) -> Any:
        return np.tril(a, -1) + np.eye(shape[-1]) * np.real(a) / 2

    pulled = adjoint(inverse) @ halved(adjoint(factor) @ np.tril(g)) @ inverse
    pushed = factor @ halved(inverse @ (g + adjoint(g)) @ adjoint(inverse) / 2)
    spoilt = factor + np.triu(np.full(shape, np.nan), 1).astype(dtype)
    for name, want in (("cholesky_pullback", (pulled + adjoint(pulled)) / 2), ("cholesky_pushforward", pushed)):
        for given in (factor, spoilt):
            (got,) = both_ways(lambda l, x, name=name: apply(name, l, x), given, g)[1]
            agree(got, want.astype(dtype))


@KINDS
def test_cholesky_derivatives_of_a_matrix_of_two_blocks(dtype: str) -> None:
    check_derivatives(lambda x: weighted(la.cholesky(x)), positive(70, 70, dtype=dtype), hermitian=(0,))


def test_a_derivative_of_cholesky_is_one_pass() -> None:
    """The gradient adds one step to the factorisation, and a Hessian-vector product no second factorisation."""
    with Graph().as_default():
        x, v = placeholder(np.float64, ("n", "n")), placeholder(np.float64, ("n", "n"))
        y = ng.sum(ng.log(la.diagonal(la.cholesky(x))))
        (g,) = ng.gradients(y, x)
        (h,) = ng.gradients(ng.sum(g * v), x)
        program = compile_graph([x, v], [y, g, h])
    steps = [launch.title for launch in program.program.launches]
    assert steps.count("cholesky") == steps.count("cholesky_pullback") - 1 == steps.count("cholesky_pushforward") == 1
    assert not {"triangular_solve", "lu", "matmul"} & set(steps)


@KINDS
@pytest.mark.parametrize("trans", [0, 1, 2])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_triangular_solve_derivatives(dtype: str, trans: int, lower: bool, unit: bool) -> None:
    a, b = regular(4, 4, dtype=dtype) / 8, matrix(4, 3, dtype=dtype)
    which: dict[str, Any] = {"lower": lower, "trans": trans, "unit_diagonal": unit}
    check_derivatives(lambda x, y: weighted(la.triangular_solve(x, y, **which)), a, b)


@KINDS
@pytest.mark.parametrize("shape_a,shape_b", [
    ((4, 4), (4, 3)), ((4, 4), (4,)), ((3, 3), (5, 3, 2)), ((2, 1, 3, 3), (5, 3, 2))])  # fmt: skip
def test_solve_derivatives(dtype: str, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
    a, b = regular(*shape_a, dtype=dtype), matrix(*shape_b, dtype=dtype)
    check_derivatives(lambda x, y: weighted(la.solve(x, y)), a, b)
    p = positive(*shape_a, dtype=dtype)
    check_derivatives(lambda x, y: weighted(la.cho_solve((la.cholesky(x), True), y)), p, b, hermitian=(0,))


@KINDS
@pytest.mark.parametrize("trans", [1, 2])
def test_solve_with_transposes_derivatives(dtype: str, trans: int) -> None:
    from numgrad.ops.lu import lu_factors

    a, b = regular(4, 4, dtype=dtype), matrix(4, 3, dtype=dtype)
    check_derivatives(lambda x, y: weighted(apply("lu_solve", x, *lu_factors(x), y, trans=trans)), a, b)


@KINDS
def test_inverse_and_determinant_derivatives(dtype: str) -> None:
    a = regular(2, 3, 3, dtype=dtype) / 4
    check_derivatives(lambda x: weighted(la.inv(x)), a)
    check_derivatives(lambda x: weighted(la.det(x)), a)
    check_derivatives(lambda x: weighted(la.slogdet(x).logabsdet), a)
    check_derivatives(lambda x: weighted(la.slogdet(x).sign) + weighted(la.slogdet(x).logabsdet, 1), a)
    check_derivatives(lambda x: weighted(la.trace(x)), a)


@KINDS
def test_eigh_derivatives(dtype: str) -> None:
    a = positive(4, 4, dtype=dtype)
    check_derivatives(lambda x: weighted(la.eigvalsh(x)), a, hermitian=(0,), limit=1e-7)
    check_derivatives(lambda x: weighted(la.eigvalsh(x, "U")), a, hermitian=(0,), limit=1e-7)
    check_derivatives(lambda x: weighted(magnitude(la.eigh(x).eigenvectors)), a, hermitian=(0,), limit=1e-7)

    def root(x: Any) -> Any:
        w, v = la.eigh(x)
        return weighted((v * ng.astype(ng.sqrt(w), v.dtype)) @ ng.conj(ng.matrix_transpose(v)))

    check_derivatives(root, a, hermitian=(0,))


@KINDS
@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5), (2, 3, 2)])
def test_svd_and_qr_derivatives(dtype: str, shape: tuple[int, ...]) -> None:
    a = matrix(*shape, dtype=dtype, seed=5)

    def root(x: Any) -> Any:
        u, s, vh = la.svd(x, full_matrices=False)
        return weighted((u * ng.astype(ng.sqrt(s), u.dtype)[..., None, :]) @ vh)

    check_derivatives(lambda x: weighted(la.svdvals(x)), a, limit=1e-6)
    check_derivatives(lambda x: weighted(magnitude(la.svd(x, full_matrices=False).U)), a, limit=1e-5)
    check_derivatives(lambda x: weighted(magnitude(la.svd(x, full_matrices=False).Vh)), a, limit=1e-5)
    check_derivatives(root, a, limit=1e-6)
    check_derivatives(lambda x: weighted(la.qr(x).R), a, limit=1e-6)
    check_derivatives(lambda x: weighted(la.qr(x).Q), a, limit=1e-6)
    check_derivatives(lambda x: weighted(la.qr(x).Q) + weighted(la.qr(x).R, 1), a, limit=1e-6)


def test_pinv_and_norm_derivatives() -> None:
    a = matrix(4, 3)
    check_derivatives(lambda x: weighted(la.pinv(x)), a, limit=1e-7)
    for order in ("fro", "nuc", 2, 1, np.inf):
        check_derivatives(lambda x, order=order: ng.exp(-la.norm(x, order)), a, limit=1e-7)
    check_derivatives(lambda x: ng.log(la.cond(x)), a, limit=1e-6)


def test_gradients_of_symmetric_functions_are_symmetric() -> None:
    a = positive(3, 3)
    with Graph().as_default():
        x = placeholder(np.float64, (3, 3))
        (g,) = ng.gradients(2 * ng.sum(ng.log(la.diagonal(la.cholesky(x)))), x)
        (h,) = ng.gradients(ng.sum(ng.log(la.eigvalsh(x))), x)
    agree(ng.run(g, {x: a}), np.linalg.inv(a))
    agree(ng.run(h, {x: a}), np.linalg.inv(a))


def test_equal_eigenvalues_and_singular_values_give_finite_gradients() -> None:
    """Functions of the spectrum as a whole do not depend on the vectors that the routine chose."""
    with Graph().as_default():
        x = placeholder(np.float64, (3, 3))
        w, v = la.eigh(x)
        (g,) = ng.gradients(ng.sum(ng.exp(w)), x)
        (p,) = ng.gradients(ng.sum((v * ng.exp(w)) @ ng.matrix_transpose(v)), x)
        (s,) = ng.gradients(ng.sum(la.svdvals(x) ** 2), x)
    e = 2 * np.eye(3)
    agree(ng.run(g, {x: e}), np.exp(2) * np.eye(3))
    assert np.isfinite(ng.run(p, {x: e})).all()
    agree(ng.run(s, {x: e}), 2 * e)


def test_factors_are_computed_once() -> None:
    with Graph().as_default() as graph:
        a, b = placeholder(np.float64, (3, 3)), placeholder(np.float64, (3, 2))
        y = ng.sum(la.solve(a, b) ** 2)
        g = ng.gradients(y, [a, b])
        ng.gradients(ng.sum(g[0]), [a, b])
    types = [op.type for op in graph.operations]
    assert types.count("lu") == 1
    assert types.count("lu_solve") >= 3


def test_det_and_solve_of_one_matrix_share_their_factors_when_compiled() -> None:
    with Graph().as_default():
        a, b = placeholder(np.float64, ("n", "n")), placeholder(np.float64, ("n",))
        program = compile_graph([a, b], [la.solve(a, b), la.slogdet(a).logabsdet, la.det(a)])
    names = [launch.symbol if hasattr(launch, "symbol") else str(launch) for launch in program.program.launches]
    assert sum("lu(" in n or n == "lu" for n in names) <= 1
    m, r = regular(4, 4), matrix(4)
    wants = [np.linalg.solve(m, r), np.linalg.slogdet(m)[1], np.linalg.det(m)]
    for got, want in zip(program(m, r), wants, strict=True):
        agree(got, want)


# -- failures
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
FAILURES = {
    "cholesky": (lambda a: la.cholesky(a), -np.eye(2), r"cholesky: a matrix is not positive definite"),
    "triangular_solve": (lambda a: la.triangular_solve(a, np.ones(2)), np.diag([1.0, 0.0]),
     r"triangular_solve: a matrix is singular"),
    "solve": (lambda a: la.solve(a, np.ones(2)), SINGULAR, r"lu_solve: a matrix is singular"),
    "inv": (lambda a: la.inv(a), SINGULAR, r"lu_solve: a matrix is singular"),
    "eigh": (lambda a: la.eigvalsh(a), np.full((3, 3), np.nan), r"eigh: the eigenvalues did not converge"),
    "svd": (lambda a: la.svdvals(a), np.full((3, 3), np.nan), r"svd: the singular values did not converge"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_linalg_errors_in_every_way_of_running(name: str) -> None:
    function, bad, text = FAILURES[name]
    good = np.eye(len(bad)) * np.arange(1.0, len(bad) + 1)
    with pytest.raises(np.linalg.LinAlgError, match=text) as eager:
        function(bad)
    with Graph().as_default():
        x = placeholder(np.float64, (None, None))
        y = function(x)
        program = compile_graph([x], y)
    with pytest.raises(np.linalg.LinAlgError, match=text) as interpreted:
        ng.run(y, {x: bad})
    with pytest.raises(np.linalg.LinAlgError, match=text) as compiled:
        program(bad)
    for caught in (eager, interpreted, compiled):
        assert "test_linalg.py" in str(caught.value)
    agree(program(good), function(good).numpy())  # a failure leaves the program as it was


def test_determinants_of_singular_matrices() -> None:
    agree(la.det(np.zeros((2, 2))).numpy(), np.array(0.0))
    for sign, log in both_ways(la.slogdet, np.zeros((2, 2))):
        assert sign == 0 and log == -np.inf
    assert la.det(np.zeros((0, 0))).numpy() == 1


SHAPE = ng.errors.ShapeError


@pytest.mark.parametrize("call,error,text", [
    (lambda: la.cholesky(np.ones((2, 3))), SHAPE, r"cholesky: the last two axes must be equal, got float64\(2,3\)"),
    (lambda: la.cholesky(np.ones(3)), SHAPE, r"cholesky: got float64\(3,\), wanted a matrix"),
    (lambda: la.solve(np.ones((2, 3)), np.ones(2)), SHAPE, r"solve: the last two axes must be equal"),
    (lambda: la.solve(np.eye(2), np.ones(3)), SHAPE,
     r"solve: a matrix of float64\(2,2\) needs a right side with 2 rows"),
    (lambda: la.solve(np.eye(2), 1.0), SHAPE, r"solve: the right side is 0-d"),
    (lambda: la.triangular_solve(np.eye(2), np.ones(2), trans="X"), SHAPE, r"triangular_solve: trans is 'X'"),
    (lambda: la.eigh(np.eye(2), "X"), SHAPE, r"eigh: UPLO is 'X'"),
    (lambda: la.qr(np.eye(2), "full"), SHAPE, r"qr: mode is 'full', wanted 'reduced', 'complete' or 'r'"),
    (lambda: la.matrix_power(np.ones((2, 3)), 2), SHAPE, r"matrix_power: the last two axes must be equal"),
])  # fmt: skip
def test_errors_say_what_where_and_what_was_wanted(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert "test_linalg.py" in str(caught.value)


def test_derivatives_that_do_not_exist_are_refused() -> None:
    with Graph().as_default():
        x = placeholder(np.float64, (4, 2))
        with pytest.raises(ng.errors.GradientError, match="svd: with full_matrices=True .* use full_matrices=False"):
            ng.gradients(ng.sum(la.svd(x).U), x)
        with pytest.raises(ng.errors.GradientError, match="qr: with mode='complete' .* use mode='reduced'"):
            ng.gradients(ng.sum(la.qr(x, mode="complete").Q), x)

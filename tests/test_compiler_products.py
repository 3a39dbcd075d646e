"""Matrix products as the compiler runs them: transposes in place, outer products fused, Gram matrices by half."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from tests.matrix_cases import check_derivatives, matrix, positive, weighted


def steps(function: Any, *arrays: Any) -> tuple[list[str], list[Any]]:
    """The titles of a compiled function's steps, and its results."""
    with Graph().as_default():
        xs = [placeholder(a.dtype, tuple(d if d == 1 else None for d in a.shape)) for a in arrays]
        result = function(*xs)
        program = compile_graph(xs, list(result) if isinstance(result, (list, tuple)) else [result])
    return [launch.title for launch in program.program.launches], list(program(*arrays))


def transposed(a: Any) -> Any:
    return ng.matrix_transpose(a)


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "int32", "float16"])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_transposed_operands_and_results_are_not_copied(dtype: str, lead: tuple[int, ...]) -> None:
    a, b = (matrix(*lead, *s, dtype="float64", seed=s) * 4 for s in ((9, 5), (9, 7)))
    a, b = (a + 1j * a, b - 2j * b) if dtype == "complex128" else (a.astype(dtype), b.astype(dtype))
    t = np.swapaxes
    for function, want in (
        (lambda x, y: transposed(x) @ y, t(a, -1, -2) @ b),
        (lambda x, y: transposed(transposed(y) @ x), t(t(b, -1, -2) @ a, -1, -2)),
        (lambda x, y: transposed(x) @ transposed(transposed(y)), t(a, -1, -2) @ b),
    ):
        titles, (got,) = steps(function, a, b)
        assert titles == ["matmul"]
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-3 if dtype in ("float16", "float32") else 1e-12, atol=1e-5)


def test_a_product_that_is_used_both_ways_is_computed_once() -> None:
    a, b = matrix(9, 9), matrix(9, 9, seed=1)
    titles, (one, other) = steps(lambda x, y: [x @ y, transposed(x @ y) + 1.0], a, b)
    assert titles.count("matmul") == 1
    np.testing.assert_allclose(one, a @ b)
    np.testing.assert_allclose(other, (a @ b).T + 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
@pytest.mark.parametrize("shape", [(3, 4), (40, 70), (70, 40), (2, 33, 9), (0, 3), (3, 0), (1, 5)])
def test_a_matrix_times_its_transpose_is_computed_by_half(dtype: str, shape: tuple[int, ...]) -> None:
    a = matrix(*shape, dtype=dtype)
    t = np.swapaxes(a, -1, -2)
    limit = 1e-4 if a.real.dtype == np.float32 else 1e-12
    for function, want in ((lambda x: x @ transposed(x), a @ t), (lambda x: transposed(x) @ x, t @ a)):
        titles, (got,) = steps(function, a)
        if 1 not in shape[-2:]:
            assert titles == ["gram"]
        np.testing.assert_allclose(got, want, rtol=limit, atol=limit)
        if got.size:
            assert np.array_equal(got, np.swapaxes(got, -1, -2))
    titles, (got,) = steps(lambda x: transposed(x @ transposed(x)), a)
    np.testing.assert_allclose(got, a @ t, rtol=limit, atol=limit)


def test_a_hermitian_product_is_no_gram_matrix() -> None:
    a = matrix(4, 6, dtype="complex128")
    titles, (got,) = steps(lambda x: x @ ng.conj(transposed(x)), a)
    assert "gram" not in titles
    np.testing.assert_allclose(got, a @ a.conj().T)


@pytest.mark.parametrize("dtype", ["float64", "complex64", "int16", "bool", "float16"])
def test_outer_products_fuse(dtype: str) -> None:
    a, b = np.arange(-3, 4).astype(dtype).reshape(7, 1), np.arange(5).astype(dtype).reshape(1, 5)
    titles, (got,) = steps(lambda x, y: x @ y, a, b)
    assert "matmul" not in titles and len(titles) == 1
    assert got.dtype == (a @ b).dtype and np.array_equal(got, a @ b)


def test_gradients_of_solves_with_vectors_hold_no_outer_product() -> None:
    a, b = positive(12, 12), matrix(12)

    def function(x: Any, y: Any) -> Any:
        return ng.gradients(ng.sum(ng.linalg.solve(x, y) ** 2), [x, y])

    titles, (to_a, to_b) = steps(function, a, b)
    assert "matmul" not in titles and titles.count("lu") == 1 and titles.count("lu_solve") == 2
    h = np.linalg.solve(a.T, 2 * np.linalg.solve(a, b))
    np.testing.assert_allclose(to_b, h)
    np.testing.assert_allclose(to_a, -np.outer(h, np.linalg.solve(a, b)))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_derivatives_of_products_with_transposes(dtype: str) -> None:
    a, b = matrix(5, 4, dtype=dtype), matrix(5, 3, dtype=dtype, seed=1)
    check_derivatives(lambda x, y: weighted(transposed(transposed(x) @ y)), a, b)
    check_derivatives(lambda x: weighted(transposed(x) @ x) + weighted(x @ transposed(x), 1), a)


@pytest.mark.parametrize("name", ["solve", "slogdet", "det", "inv"])
def test_value_gradient_and_second_derivative_share_one_factorisation(name: str) -> None:
    a, v = positive(5, 5), matrix(5, 5)

    def function(x: Any, t: Any) -> Any:
        y = {
            "solve": lambda: ng.sum(ng.linalg.solve(x, t) ** 2),
            "slogdet": lambda: ng.linalg.slogdet(x).logabsdet,
            "det": lambda: ng.linalg.det(x),
            "inv": lambda: ng.sum(ng.linalg.inv(x) ** 2),
        }[name]()
        (g,) = ng.gradients(y, [x])
        return [y, g, *ng.gradients(ng.sum(g * t), [x])]

    titles, results = steps(function, a, v)
    assert titles.count("lu") == 1
    assert all(np.all(np.isfinite(r)) for r in results)

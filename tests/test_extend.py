"""Operations of the user's: whole ones with kernels, Python functions, functions compiled by Numba."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import apply
from numgrad.graph.graph import Graph

RNG = np.random.default_rng(5)


# -- ng.extend.op: tridiagonal systems


@ng.extend.kernel
def thomas(lower: Any, diagonal: Any, upper: Any, b: Any, x: Any) -> None:
    """Elimination without pivoting, for each system of a batch."""
    n = b.shape[-1]
    lower, diagonal, upper = lower.reshape((-1, n)), diagonal.reshape((-1, n)), upper.reshape((-1, n))
    b, out = b.reshape((-1, n)), x.reshape((-1, n))
    c = np.empty(n, b.dtype)
    for k in range(b.shape[0]):
        for i in range(n):
            m = diagonal[k, i] - (lower[k, i] * c[i - 1] if i > 0 else 0.0)
            c[i] = upper[k, i] / m
            out[k, i] = (b[k, i] - (lower[k, i] * out[k, i - 1] if i > 0 else 0.0)) / m
        for i in range(n - 2, -1, -1):
            out[k, i] -= c[i] * out[k, i + 1]


def pulled(op: Any, g: Any) -> list[Any]:
    lower, diagonal, upper, _ = op.inputs
    (x,) = op.outputs
    z = tridiagonal_solve(ng.roll(upper, 1, axis=-1), diagonal, ng.roll(lower, -1, axis=-1), g)
    i = ng.arange(x.shape[-1])
    return [
        ng.where(i > 0, -z * ng.roll(x, 1, axis=-1), 0.0),
        -z * x,
        ng.where(i < x.shape[-1] - 1, -z * ng.roll(x, -1, axis=-1), 0.0),
        z,
    ]


tridiagonal_solve = ng.extend.op(
    "test_tridiagonal_solve",
    lambda lower, diagonal, upper, b: ng.extend.Spec(b.dtype, b.shape),
    kernel=thomas,
    vjp=pulled,
    batch="leading",
    doc="Solutions of tridiagonal systems.",
)


def system(*batch: int) -> list[Any]:
    parts = [RNG.normal(size=(*batch, 5)) for _ in range(4)]
    parts[1] = parts[1] + 5.0
    return parts


def dense_solution(lower: Any, diagonal: Any, upper: Any, b: Any) -> Any:
    return np.linalg.solve(np.diag(diagonal) + np.diag(lower[1:], -1) + np.diag(upper[:-1], 1), b)


def test_an_operation_runs_eagerly_interpreted_and_compiled() -> None:
    parts = system(2)
    want = [dense_solution(*(p[k] for p in parts)) for k in range(2)]
    np.testing.assert_allclose(tridiagonal_solve(*parts).numpy(), want, rtol=1e-12)
    f = ng.function(lambda *p: tridiagonal_solve(*p) * 1.0)
    np.testing.assert_allclose(f(*parts), want, rtol=1e-12)
    np.testing.assert_allclose(f(*system(3)).shape, (3, 5))
    assert f.trace_count == 1
    with Graph().as_default():
        xs = [ng.placeholder(ng.float64, ("k", "n")) for _ in range(4)]
        y = tridiagonal_solve(*xs)
    np.testing.assert_allclose(ng.run(y, dict(zip(xs, parts, strict=True))), want, rtol=1e-12)
    assert y.op is not None and y.op.type == "test_tridiagonal_solve"


def test_its_derivatives_to_the_second_order() -> None:
    ng.testing.check_gradients(lambda *p: ng.sum(tridiagonal_solve(*p) ** 2), tuple(system(2)), order=2)


def test_a_batch_is_one_call() -> None:
    parts = system(4)
    batched = ng.vmap(lambda *p: tridiagonal_solve(*p))
    np.testing.assert_allclose(batched(*parts), [dense_solution(*(p[k] for p in parts)) for k in range(4)], rtol=1e-12)
    assert sum(op.type == "test_tridiagonal_solve" for op in batched.graph.operations) <= 2  # one of them is not used
    gradient = ng.grad(lambda b: ng.sum(ng.vmap(tridiagonal_solve)(*parts[:3], b)))(parts[3])
    whole = ng.grad(lambda b: ng.sum(tridiagonal_solve(*parts[:3], b)))(parts[3])
    np.testing.assert_allclose(gradient, whole, rtol=1e-12)


def test_attributes_reach_meaning_kernel_and_derivative() -> None:
    @ng.extend.kernel
    def shifted(x: Any, out: Any, by: int, factor: float, wrap: bool) -> None:
        for i in range(x.size):
            k = i - by
            out[i] = factor * x[k % x.size] if wrap or 0 <= k < x.size else 0.0

    def pull(op: Any, g: Any) -> Any:
        return shift(g, **{**op.attrs, "by": -op.attrs["by"]})

    shift = ng.extend.op("test_shift", lambda x, **_: ng.extend.Spec(x.dtype, x.shape), kernel=shifted, vjp=pull)
    x = np.arange(4.0)
    for by, factor, wrap in ((1, 2.0, True), (-1, 3.0, False), (2, -1.0, True)):
        want = factor * (np.roll(x, by) if wrap else np.array([1.0, 2.0, 3.0, 0.0]))
        f = lambda x, by=by, factor=factor, wrap=wrap: shift(x, by=by, factor=factor, wrap=wrap)  # noqa: E731
        np.testing.assert_array_equal(f(x).numpy(), want)
        np.testing.assert_array_equal(ng.function(f)(x), want)
        ng.testing.check_gradients(lambda x, f=f: ng.sum(f(x) * ng.asarray(x)), (x,), order=2)


def test_several_outputs_a_decomposition_and_a_rule_for_forward_mode() -> None:
    def infer(x: Any) -> Any:
        return [ng.extend.Spec(x.dtype, x.shape), ng.extend.Spec(x.dtype, ())]

    pair = ng.extend.op(
        "test_pair",
        infer,
        lambda x: (2 * x, x.sum()),
        decompose=lambda x: (2.0 * x, ng.sum(x)),
        vjp=lambda op, g, s: 2.0 * g + s,
        jvp=lambda op, tangents: [2.0 * tangents[0], ng.sum(tangents[0])],
    )
    x = np.array([1.0, 2.0])
    both = ng.function(lambda x: tuple(pair(x)))
    np.testing.assert_array_equal(both(x)[0], [2.0, 4.0])
    assert float(both(x)[1]) == 3.0
    np.testing.assert_array_equal(ng.grad(lambda x: pair(x)[1])(x), [1.0, 1.0])
    assert float(ng.jvp(lambda x: pair(x)[1], (x,), (x,))[1]) == 3.0


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="needs evaluate or kernel"):
        ng.extend.op("test_nothing", lambda x: x)
    with pytest.raises(ValueError, match="already in the table"):
        ng.extend.op("exp", lambda x: x, np.exp)
    with pytest.raises(ValueError, match="wanted None or 'leading'"):
        ng.extend.op("test_batch", lambda x: x, np.exp, batch="trailing")
    with pytest.raises(TypeError, match="wanted a function"):
        ng.extend.kernel(3)  # type: ignore[arg-type]
    bare = ng.extend.op("test_bare", lambda x: ng.extend.Spec(x.dtype, x.shape), np.exp)
    with pytest.raises(LookupError, match="test_bare"):
        ng.grad(bare)(1.0)
    with pytest.raises(ng.errors.KernelError, match="test_bare"):
        ng.function(bare)(np.ones(2))


# -- py_function


def cube(x: Any, **options: Any) -> Any:
    return ng.py_function(lambda a: a**3, x, x, vjp=lambda op, g: g * 3.0 * op.inputs[0] ** 2, **options)


def test_python_functions_run_in_every_way() -> None:
    """O27: a Python function with a derivative is differentiable."""
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(cube(x).numpy(), [1.0, 8.0])
    with Graph().as_default():
        p = ng.placeholder(ng.float64, ("n",))
        y = cube(p)
        outputs = [y, *ng.gradients(y, p)]
        compiled = ng.compile(p, outputs)
    for found in (ng.run(outputs, {p: x}), compiled(x)):
        np.testing.assert_array_equal(found, [[1.0, 8.0], [3.0, 12.0]])
    targets = [np.zeros(2), np.zeros(2)]
    assert compiled(x, out=targets)[1] is targets[1]
    np.testing.assert_array_equal(targets, [[1.0, 8.0], [3.0, 12.0]])
    np.testing.assert_array_equal(compiled.bind(x)(), [[1.0, 8.0], [3.0, 12.0]])
    ng.testing.check_gradients(lambda x: ng.sum(cube(x)), (x,), order=2)


def test_programs_return_to_python_between_native_segments() -> None:
    threads: list[int] = []

    def python(a: Any) -> Any:
        threads.append(threading.get_ident())
        return np.sort(a)

    def ranked(x: Any) -> Any:
        return ng.py_function(python, x, x)

    f = ng.function(lambda x, y: (ranked(ranked(x * 2.0) + y), ranked(y), x * 3.0, y, ng.exp(y)))
    x, y = np.array([3.0, 1.0, 2.0]), np.array([0.5, -5.0, 0.25])
    got = f(x, y)
    want = (np.sort(np.sort(2 * x) + y), np.sort(y), x * 3, y, np.exp(y))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)
    assert got[3] is not y and not np.shares_memory(got[3], y)
    assert len(threads) == 3
    assert f(x[:2], y[:2])[0].shape == (2,) and f.trace_count == 1
    assert f.plan()["python_steps"] == 3
    assert f.source.count("# in Python: py_function") == 3
    assert sum("in Python" in row["kernel"] for row in f.profile(x, y)) == 3
    for looked_at in (lambda: f.njit, f.lowlevel, lambda: f.cfunc("void(voidptr)")):
        with pytest.raises(ng.errors.KernelError, match=r"runs in Python.*test_extend"):
            looked_at()


def test_specs_of_all_kinds() -> None:
    two = ng.py_function(lambda a, b: [a + b, a.sum()], [np.ones(2), 3.0], [(np.float64, (2,)), (float, ())])
    assert [t.shape for t in two] == [(2,), ()]
    by_inputs = ng.py_function(lambda a: a[:1], np.ones((3, 2)), lambda x: (np.float32, (1, x.shape[1])))
    assert by_inputs.dtype == np.float32 and by_inputs.shape == (1, 2)
    f = ng.function(lambda x: ng.py_function(lambda a: np.tile(a, 2), x, (x.dtype, (2 * x.shape[0],))))
    assert f(np.ones(3)).shape == (6,) and f(np.ones(4)).shape == (8,) and f.trace_count == 1


def test_promises_are_held_against_results() -> None:
    with pytest.raises(ng.errors.ShapeError, match=r"shape \(3,\), wanted \(2,\)"):
        ng.py_function(lambda a: np.ones(3), np.ones(2), (float, (2,)))
    with pytest.raises(ng.errors.DtypeError, match="complex128, wanted float64"):
        ng.py_function(lambda a: a * 1j, np.ones(2), (float, (2,)))
    with pytest.raises(ValueError, match="returned 1 arrays, wanted 2"):
        ng.py_function(lambda a: [a], np.ones(2), [(float, (2,)), (float, (2,))])
    with pytest.raises(TypeError, match="output_specs holds 3"):
        ng.py_function(lambda a: a, np.ones(2), 3)
    with pytest.raises(TypeError, match="wanted a function"):
        ng.py_function(3, np.ones(2), (float, (2,)))  # type: ignore[arg-type]


def test_arguments_cannot_be_changed() -> None:
    def change(a: Any) -> Any:
        a += 1
        return a

    x = np.ones(2)
    for run in (lambda: ng.py_function(change, x, x), lambda: ng.function(lambda x: ng.py_function(change, x, x))(x)):
        with pytest.raises(ValueError, match="read-only"):
            run()
    np.testing.assert_array_equal(x, [1.0, 1.0])


def test_without_a_derivative_there_is_a_lookup_error() -> None:
    """E6"""
    with pytest.raises(LookupError, match=r"was given no derivative.*vjp="):
        ng.grad(lambda x: ng.sum(ng.py_function(np.sort, x, x)))(np.ones(2))


@pytest.mark.parametrize("vectorized", [False, True])
def test_batches_of_python_functions(vectorized: bool) -> None:
    shapes: list[tuple[int, ...]] = []

    def python(a: Any) -> Any:
        shapes.append(a.shape)
        return a**3

    def f(x: Any) -> Any:
        return ng.py_function(python, x, x, lambda op, g: g * 3.0 * op.inputs[0] ** 2, vectorized=vectorized)

    x = RNG.normal(size=(3, 2))
    np.testing.assert_allclose(ng.vmap(f)(x), x**3)
    assert shapes == ([(3, 2)] if vectorized else [(2,)] * 3)
    np.testing.assert_allclose(ng.vmap(ng.grad(lambda row: ng.sum(f(row))))(x), 3 * x**2, rtol=1e-14)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.vmap(f)(x)))(x), 3 * x**2, rtol=1e-14)
    nested = ng.vmap(ng.vmap(f))(x)
    np.testing.assert_allclose(nested, x**3)
    assert ng.vmap(f)(np.ones((0, 2))).shape == (0, 2)


def test_a_compiled_loop_cannot_hold_a_call_and_says_so() -> None:
    f = ng.function(lambda x: ng.fori_loop(0, 3, lambda i, c: cube(c), x))
    with pytest.raises(ng.errors.KernelError, match=r"py_function: it runs in Python.*njit_function"):
        f(np.array(1.1))
    np.testing.assert_allclose(ng.fori_loop(0, 2, lambda i, c: cube(c), ng.asarray(1.1)).numpy(), 1.1**9)


# -- njit_function


@numba.njit
def running(x: Any, decay: float, out: Any, total: Any) -> None:
    """A decaying sum, and its last value; allocates, which kernels of users may."""
    state = np.zeros(1)
    for i in range(x.size):
        state[0] = decay * state[0] + x[i]
        out[i] = state[0]
    total[()] = state[0]


def decaying_pull(op: Any, g: Any, last: Any) -> list[Any]:
    x, decay = op.inputs
    n = x.shape[0]
    cotangent = g + ng.where(ng.arange(n) == n - 1, last, 0.0)
    back, _ = decaying(ng.flip(cotangent), decay)
    shifted = ng.where(ng.arange(n) > 0, ng.roll(op.outputs[0], 1), 0.0)
    return [ng.flip(back), ng.sum(ng.flip(back) * shifted)]


decaying = ng.njit_function(running, lambda x, decay: [x, (x.dtype, ())], vjp=decaying_pull)


def test_functions_compiled_by_numba_are_called_natively() -> None:
    x = np.array([1.0, 2.0, 3.0])
    f = ng.function(lambda x, decay: decaying(x * 1.0, decay)[0] + 1.0)
    np.testing.assert_allclose(f(x, 0.5), [2.0, 3.5, 5.25])
    np.testing.assert_allclose(f(np.ones(1), 0.5), [2.0])
    assert f.trace_count == 1 and "user(" in f.source
    np.testing.assert_allclose(decaying(x, 0.5)[0].numpy(), [1.0, 2.5, 4.25])
    np.testing.assert_allclose(f.njit(x, 0.5), [2.0, 3.5, 5.25])


def test_their_derivatives_to_the_second_order() -> None:
    def loss(x: Any, decay: Any) -> Any:
        out, last = decaying(x, decay)
        return ng.sum(out**2) + last**3

    ng.testing.check_gradients(loss, (np.array([1.0, -2.0, 0.5]), 0.7), order=2)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float32", "float64", "complex64", "complex128"])
def test_dtypes_of_native_functions(dtype: str) -> None:
    @numba.njit
    def reverse(x: Any, out: Any) -> None:
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                out[i, j] = x[x.shape[0] - 1 - i, j]

    x = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    f = ng.function(ng.njit_function(reverse, lambda x: x))
    for given in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[:0]):
        got = f(given)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got, given[::-1])


def test_loops_and_batches_call_native_functions() -> None:
    def last(x: Any) -> Any:
        return decaying(x, 0.5)[1]

    x = RNG.normal(size=(20, 3))
    want = x @ np.array([0.25, 0.5, 1.0])
    np.testing.assert_allclose(ng.vmap(last)(x), want, rtol=1e-12)
    np.testing.assert_allclose(ng.function(lambda x: ng.map(last, x))(x), want, rtol=1e-12)
    np.testing.assert_allclose(ng.grad(lambda x: ng.sum(ng.vmap(last)(x)))(x), np.tile([0.25, 0.5, 1.0], (20, 1)))


def test_failures_of_native_functions_are_errors() -> None:
    @numba.njit
    def picky(x: Any, out: Any) -> None:
        if x[0] < 0.0:
            raise ValueError("negative")
        out[:] = x

    f = ng.function(ng.njit_function(picky, lambda x: x))
    np.testing.assert_array_equal(f(np.ones(2)), [1.0, 1.0])
    with pytest.raises(RuntimeError, match=r"raised an exception.*test_extend"):
        f(-np.ones(2))
    np.testing.assert_array_equal(f(np.ones(2)), [1.0, 1.0])
    with pytest.raises(ng.errors.KernelError, match=r"picky does not compile for arrays of float16"):
        f(np.ones(2, np.float16))
    with pytest.raises(TypeError, match="wanted a function"):
        ng.njit_function(3, lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="picky was given no derivative"):
        ng.grad(lambda x: ng.sum(ng.njit_function(picky, lambda x: x)(x)))(np.ones(2))


def test_batched_rules_know_the_recomputation_point() -> None:
    """A point of recomputation is batched as what it is."""
    with Graph().as_default():
        x = ng.placeholder(ng.float64, (3, 2))
        y = ng.vmap(lambda row: apply("recompute_point", row) * 2.0)(x)
    np.testing.assert_array_equal(ng.run(y, {x: np.ones((3, 2))}), 2.0 * np.ones((3, 2)))

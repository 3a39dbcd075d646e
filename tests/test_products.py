"""Products and contractions: values against NumPy, derivatives along lines, errors' texts, compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numgrad as ng
from numgrad.graph.core import placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from tests.matrix_cases import check_derivatives, matrix, regular, weighted

#: Shapes of operands of matmul.
PRODUCTS = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)), ((5, 2, 3), (1, 3, 4)), ((1, 2, 3), (5, 3, 4)),
    ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((0,), (0,)), ((0, 2, 3), (3, 4)), ((1, 9), (9, 1)), ((12, 9), (9, 11)),
]  # fmt: skip
DTYPES = ["float64", "float32", "float16", "complex128", "complex64", "int64", "int8", "uint16", "bool"]
LIMITS = {"float64": 1e-13, "complex128": 1e-13, "float32": 1e-5, "complex64": 1e-5, "float16": 5e-3}


def values(shape: tuple[int, ...], dtype: str, seed: Any = 0) -> Any:
    if np.dtype(dtype).kind in "fc":
        return matrix(*shape, dtype=dtype, seed=seed)
    return (matrix(*shape, seed=seed) * 9).astype(np.int64).astype(dtype)


def agree(got: Any, want: Any) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, (got.dtype, got.shape, want.dtype, want.shape)
    limit = LIMITS.get(want.dtype.name, 0)
    np.testing.assert_allclose(got, want, rtol=limit, atol=limit * (1 + np.max(np.abs(want), initial=0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_is_numpys_eagerly_and_compiled(dtype: str) -> None:
    cases = [(values(a, dtype, "a"), values(b, dtype, "b")) for a, b in PRODUCTS]
    with Graph().as_default():
        inputs = [[placeholder(x.dtype, x.shape) for x in case] for case in cases]
        program = compile_graph([x for pair in inputs for x in pair], [ng.matmul(*pair) for pair in inputs])
    results = program(*(x for case in cases for x in case))
    for (a, b), compiled in zip(cases, results, strict=True):
        agree(ng.matmul(a, b).numpy(), np.matmul(a, b))
        agree(compiled, np.matmul(a, b))


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_transposes_compiled(transpose_a: bool, transpose_b: bool) -> None:
    with Graph().as_default():
        a, b = placeholder(np.float64, ("m", "k")), placeholder(np.float64, ("k", "n"))
        left = ng.matrix_transpose(a) if transpose_a else a
        right = ng.matrix_transpose(b) if transpose_b else b
        y = ng.matmul(left, right)
        program = compile_graph([a, b], y)
    for n in (4, 30):  # the named sizes that meet are the same from here on: square matrices fit every choice
        x, z = matrix(n, n, seed=1), matrix(n, n, seed=2)
        agree(program(x, z), (x.T if transpose_a else x) @ (z.T if transpose_b else z))


def test_operands_of_any_layout() -> None:
    a, b = matrix(6, 8), matrix(8, 10, seed=1)
    with Graph().as_default():
        x, y = placeholder(np.float64, (None, None)), placeholder(np.float64, (None, None))
        program = compile_graph([x, y], x @ y)
    for left, right in ((a[::2, ::-1], b[::-1, ::3]), (a.T[:3, :4].T, b[:3, :2]), (a.astype(">f8"), b)):
        frozen = left.copy()
        frozen.flags.writeable = False
        agree(ng.matmul(left, right).numpy(), np.matmul(left, right).astype(float))
        agree(program(frozen, right), np.matmul(left, right).astype(float))


def test_nothing_summed_is_zero_and_nan_stays() -> None:
    with Graph().as_default():
        x, y = placeholder(np.float64, (None, None)), placeholder(np.float64, (None, None))
        program = compile_graph([x, y], x @ y)
    agree(program(np.ones((2, 0)), np.ones((0, 3))), np.zeros((2, 3)))
    for m, n in ((1, 20), (20, 1), (2, 2), (20, 20)):
        a = np.zeros((m, 9))
        a[0, 0] = np.nan
        got = program(a, np.ones((9, n)))
        assert np.isnan(got[0]).all() and not got[1:].any()


SAME_AS_NUMPY: list[tuple[str, Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = [
    ("dot 0-d", ng.dot, np.dot, (matrix(), matrix(3))),
    ("dot 1-d", ng.dot, np.dot, (matrix(3), matrix(3, seed=1))),
    ("dot 2-d", ng.dot, np.dot, (matrix(2, 3), matrix(3, 4))),
    ("dot n-d", ng.dot, np.dot, (matrix(2, 3, 4), matrix(5, 4, 3))),
    ("dot n-d by 1-d", ng.dot, np.dot, (matrix(2, 3, 4), matrix(4))),
    ("inner", ng.inner, np.inner, (matrix(2, 3, 4), matrix(5, 4))),
    ("inner complex", ng.inner, np.inner, (matrix(2, 3, dtype="c16"), matrix(3, dtype="c16"))),
    ("outer", ng.outer, np.outer, (matrix(2, 3), matrix(4))),
    ("vdot", ng.vdot, np.vdot, (matrix(2, 3, dtype="c16"), matrix(6, dtype="c16"))),
    ("vdot real", ng.vdot, np.vdot, (matrix(2, 3), matrix(3, 2))),
    ("vecdot", ng.vecdot, np.vecdot, (matrix(2, 3, dtype="c16"), matrix(3, dtype="c16"))),
    ("vecdot axis", lambda a, b: ng.vecdot(a, b, axis=0),
     lambda a, b: np.vecdot(a, b, axis=0), (matrix(3, 2), matrix(3, 1))),
    ("matvec", ng.matvec, np.matvec, (matrix(4, 2, 3), matrix(3))),
    ("vecmat", ng.vecmat, np.vecmat, (matrix(5, 1, 2, dtype="c16"), matrix(4, 2, 3))),
    ("kron", ng.kron, np.kron, (matrix(2, 3), matrix(4, 2, 2))),
    ("kron 0-d", ng.kron, np.kron, (matrix(), matrix(2))),
    ("cross", ng.cross, np.cross, (matrix(2, 3), matrix(3))),
    ("cross axis", lambda a, b: ng.cross(a, b, axis=0),
     lambda a, b: np.cross(a, b, axis=0), (matrix(3, 2), matrix(3, 2, seed=1))),
    ("tensordot", ng.tensordot, np.tensordot, (matrix(2, 3, 4), matrix(3, 4, 5))),
    ("tensordot 0", lambda a, b: ng.tensordot(a, b, axes=0),
     lambda a, b: np.tensordot(a, b, axes=0), (matrix(2, 3), matrix(2))),
    ("tensordot pairs", lambda a, b: ng.tensordot(a, b, axes=((0, 2), (1, 0))),
     lambda a, b: np.tensordot(a, b, axes=((0, 2), (1, 0))),
     (matrix(2, 3, 4), matrix(4, 2, 5))),
    ("multi_dot", lambda *a: ng.linalg.multi_dot(a), lambda *a: np.linalg.multi_dot(a),
     (matrix(4), matrix(4, 5), matrix(5, 2), matrix(2, seed=1))),
    ("matrix_power", lambda a: ng.linalg.matrix_power(a, 5),
     lambda a: np.linalg.matrix_power(a, 5), (matrix(2, 3, 3) / 2,)),
    ("matrix_power 0", lambda a: ng.linalg.matrix_power(a, 0), lambda a: np.linalg.matrix_power(a, 0), (matrix(3, 3),)),
    ("matrix_power -3", lambda a: ng.linalg.matrix_power(a, -3),
     lambda a: np.linalg.matrix_power(a, -3), (regular(3, 3),)),
]  # fmt: skip


@pytest.mark.parametrize(
    "function,oracle,arrays", [row[1:] for row in SAME_AS_NUMPY], ids=[row[0] for row in SAME_AS_NUMPY]
)
def test_products_are_numpys_and_have_derivatives(function: Any, oracle: Any, arrays: tuple[Any, ...]) -> None:
    np.testing.assert_allclose(function(*arrays).numpy(), oracle(*arrays), rtol=1e-12, atol=1e-12)
    assert function(*arrays).shape == np.shape(oracle(*arrays))
    check_derivatives(lambda *xs: weighted(function(*xs)), *arrays)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool"])
def test_products_of_integers_and_bools(dtype: str) -> None:
    a, b = values((2, 3), dtype), values((3, 4), dtype, 1)
    agree(ng.dot(a, b).numpy(), np.dot(a, b))
    agree(ng.inner(a, b.T).numpy(), np.inner(a, b.T))
    agree(ng.outer(a, b).numpy(), np.outer(a, b))
    agree(ng.vdot(a, b.T[:2]).numpy(), np.vdot(a, b.T[:2]))
    agree(ng.tensordot(a, b, axes=1).numpy(), np.tensordot(a, b, axes=1))
    agree(ng.kron(a, b).numpy(), np.kron(a, b))


@st.composite
def contractions(draw: Any) -> tuple[str, list[Any]]:
    """Subscripts with repeats, sums, ellipses and sizes that stretch, and operands for them."""
    sizes = {name: draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, 3)) for name in "ijkL"}
    hidden = draw(st.lists(st.integers(1, 3), max_size=2))
    dtype = draw(st.sampled_from(["float64", "complex128", "int8", "bool"]))
    terms, operands = [], []
    for number in range(draw(st.integers(1, 4))):
        names = draw(st.lists(st.sampled_from("ijkL"), max_size=3))
        shape = [1 if names.count(n) == 1 and draw(st.integers(0, 7)) == 0 else sizes[n] for n in names]
        term = "".join(names)
        if draw(st.booleans()):
            at = draw(st.integers(0, len(names)))
            depth = draw(st.integers(0, len(hidden)))
            own = [1 if draw(st.integers(0, 4)) == 0 else d for d in hidden[len(hidden) - depth:]]
            shape[at:at] = own
            term = term[:at] + "..." + term[at:]
        terms.append(term)
        operands.append(values(tuple(shape), dtype, number))
    text = ",".join(terms)
    if draw(st.booleans()):
        every = sorted({n for t in terms for n in t.replace(".", "")})
        out = draw(st.permutations(every))[: draw(st.integers(0, len(every)))]
        at = draw(st.integers(0, len(out)))
        dots = "..." if any("..." in t for t in terms) else ""
        text += "->" + "".join(out[:at]) + dots + "".join(out[at:])
    return text, operands


@settings(max_examples=300, deadline=None)
@given(contractions())
def test_einsum_is_numpys(case: tuple[str, list[Any]]) -> None:
    text, operands = case
    try:
        want = np.einsum(text, *operands)
    except ValueError:
        with pytest.raises(ng.errors.ShapeError):
            ng.einsum(text, *operands)
        return
    agree(ng.einsum(text, *operands).numpy(), want)


@pytest.mark.parametrize("text,shapes", [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)]),
    ("i,i->", [(3,), (3,)]), ("ij,kj,kl->il", [(2, 3), (4, 3), (4, 5)]), ("...ij,jk", [(5, 2, 3), (3, 4)]),
    ("ij,ij->ij", [(1, 3), (2, 3)]), ("ijk->ki", [(2, 3, 4)]), ("aab,b->a", [(2, 2, 3), (3,)]),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_einsum_derivatives(text: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    arrays = [matrix(*s, dtype=dtype, seed=i) for i, s in enumerate(shapes)]
    check_derivatives(lambda *xs: weighted(ng.einsum(text, *xs)), *arrays)


def test_einsum_with_lists_and_orders() -> None:
    a, b, c = matrix(2, 3), matrix(3, 4), matrix(4, 2)
    agree(ng.einsum(a, [0, 1], b, [1, 2], [0, 2]).numpy(), np.einsum(a, [0, 1], b, [1, 2], [0, 2]))
    agree(ng.einsum(a, [0, ...]).numpy(), np.einsum(a, [0, ...]))
    for optimize in (True, False, "greedy", "optimal"):
        np.testing.assert_allclose(ng.einsum("ij,jk,kl->il", a, b, c, optimize=optimize).numpy(), a @ b @ c)


def test_einsum_of_unknown_sizes_is_one_product_without_copies() -> None:
    with Graph().as_default() as graph:
        x, y = placeholder(np.float64, (None, None)), placeholder(np.float64, (None, None))
        z = ng.einsum("ij,kj->ik", x, y)
    types = [op.type for op in graph.operations]
    assert types.count("matmul") == 1 and "permute_dims" not in types
    a, b = matrix(2, 3), matrix(4, 3, seed=1)
    agree(ng.run(z, {x: a, y: b}), a @ b.T)


def test_a_stack_times_one_matrix_is_one_product() -> None:
    with Graph().as_default():
        x, y = placeholder(np.float64, ("b", "m", "k")), placeholder(np.float64, ("k", "n"))
        z = x @ y
        product = next(op for op in x.graph.operations if op.type == "matmul")
    assert [t.ndim for t in product.inputs] == [2, 2]
    a, b = matrix(2, 3, 4), matrix(4, 5)
    agree(ng.run(z, {x: a, y: b}), a @ b)


def test_gradient_of_a_weight_is_a_product_with_the_first_transposed() -> None:
    with Graph().as_default():
        x, w = placeholder(np.float64, ("b", "m")), placeholder(np.float64, ("m", "n"))
        (g,) = ng.gradients(ng.matmul(x, w), w)
    assert g.op.type == "matmul" and g.op.attrs["transpose_a"] and not g.op.attrs["transpose_b"]


SHAPE = ng.errors.ShapeError


@pytest.mark.parametrize("call,error,text", [
    (lambda: ng.matmul(1.0, np.ones(2)), SHAPE, r"matmul: got float64\(\) and float64\(2,\), wanted at least one axis"),
    (lambda: ng.matmul(np.ones((3, 4)), np.ones((5, 6))), SHAPE,
     r"matmul: cannot multiply float64\(3,4\) by float64\(5,6\): the last axis of the first has size 4, "
     r"the second to last axis of the second 5"),
    (lambda: ng.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), SHAPE,
     r"matmul: cannot broadcast shapes \(2,\) and \(3,\)"),
    (lambda: ng.dot(np.ones((2, 3, 4)), np.ones((3, 4))), SHAPE,
     r"dot: axis -1 of .* has size 4, axis -2 .* has size 3"),
    (lambda: ng.inner(np.ones(2), np.ones(3)), SHAPE, r"inner: axis -1"),
    (lambda: ng.vdot(np.ones(2), np.ones(3)), SHAPE, r"vdot: float64\(2,\) has 2 elements and float64\(3,\) has 3"),
    (lambda: ng.cross(np.ones(2), np.ones(2)), SHAPE, r"cross: vectors must have size 3 along axis -1, got 2"),
    (lambda: ng.matvec(np.ones(2), np.ones(2)), SHAPE, r"matvec: got a matrix of float64\(2,\)"),
    (lambda: ng.linalg.multi_dot([np.ones(2)]), SHAPE, r"multi_dot: got ranks \[1\]"),
    (lambda: ng.tensordot(np.ones(2), np.ones(3), axes=1), SHAPE,
     r"tensordot: axis 0 of .* has size 2, axis 0 of .* has size 3"),
    (lambda: ng.tensordot(np.ones(2), np.ones(3), axes=2), SHAPE, r"tensordot: 2 axes cannot meet"),
    (lambda: ng.tensordot(np.ones((2, 2)), np.ones(2), axes=((0, 0), (0, 0))), SHAPE, r"tensordot: an axis repeats"),
    (lambda: ng.einsum("ij,jk", np.ones((2, 3))), SHAPE, r"einsum: 'ij,jk' names 2 operands, got 1"),
    (lambda: ng.einsum("i!", np.ones(2)), SHAPE, r"einsum: '!' is no subscript"),
    (lambda: ng.einsum("ij", np.ones(2)), SHAPE, r"einsum: operand 0 has 1 axes, its subscripts 'ij' name 2"),
    (lambda: ng.einsum("i,i", np.ones(2), np.ones(3)), SHAPE,
     r"einsum: the subscript 'i' has size 2 before operand 1 and 3 in it"),
    (lambda: ng.einsum("i->j", np.ones(2)), SHAPE, r"einsum: the subscript 'j' stands in no operand"),
    (lambda: ng.einsum("i->ii", np.ones(2)), SHAPE, r"einsum: the subscript 'i' stands twice"),
    (lambda: ng.einsum("...->", np.ones(2)), SHAPE, r"einsum: the operands have axes under"),
    (lambda: ng.einsum("ii", np.ones((2, 3))), SHAPE,
     r"einsum: the subscript 'i' stands for sizes 2 and 3 in operand 0"),
    (lambda: ng.einsum("i", np.ones(2), optimize=3), ng.errors.DtypeError, r"einsum: optimize is 3"),
])  # fmt: skip
def test_errors_say_what_where_and_what_was_wanted(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert "test_products.py" in str(caught.value)

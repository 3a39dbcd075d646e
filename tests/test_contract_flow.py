"""The gradient contract, sections D to F: what is differentiable, how paths are cut, what unconnected xs get."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng
from numgrad.graph.records import OPS
from numgrad.types import SUPPORTED_DTYPES
from tests.contract import copies, made_by, scalar, value, values

numbers = itertools.count()


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES, ids=str)
def test_trainable_dtypes(dtype: np.dtype[Any]) -> None:
    """D1, D2: floating and complex numbers carry derivatives, integers and bools are constants: None, never an
    error."""
    with ng.Graph().as_default():
        x = ng.placeholder(dtype, (2,))
        y = x & x if dtype.kind == "b" else x * x
        seed = np.ones(2, dtype) if dtype.kind == "c" else None
        (g,) = ng.gradients(y, x, grad_ys=[seed])
        if dtype.kind in "fc":
            assert_array_equal(ng.run(g, {x: np.array([1, 2], dtype)}), np.array([2, 4], dtype), strict=True)
        else:
            assert g is None


def test_flow_does_not_cross_integers() -> None:
    """D2, D4: integer x, a cast to integers on the way, sizes: None; an integer y contributes nothing beside a float
    one."""
    with ng.Graph().as_default():
        x, i = ng.placeholder(ng.float64, ("n",)), ng.placeholder(ng.int32, ("n",))
        through = ng.cast(ng.cast(x * 3.0, ng.int32), ng.float64)
        size = ng.cast(ng.asarray(x.shape[0]), ng.float64)
        assert ng.gradients([i * i, ng.cast(i, ng.float64) * 2.0], i) == [None]
        assert ng.gradients(through, x) == [None] and ng.gradients(size, x) == [None]
        assert ng.gradients(ng.cast(x, ng.int64), x) == [None]
        assert values(ng.gradients([ng.cast(x, ng.int64), x * 2.0], x), {x: [1.5]}) == [[2.0]]


def test_ops_of_booleans_and_integers_need_no_rule() -> None:
    """D3: ops without a rule that give only bools or integers never raise."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (3,))
        flags = [ng.isnan(x), ng.isfinite(x), x > 0.0, ng.signbit(x), ng.argmax(x), ng.argsort(x), ng.count_nonzero(x),
                 ng.searchsorted(x, x)]
        assert all(not OPS[f.op.type].differentiable or f.dtype.kind in "bi" for f in flags)
        assert ng.gradients([ng.cast(f, ng.float64) for f in flags], x) == [None]


def test_integer_output_beside_a_float_one() -> None:
    """D4, D5: the integer output of an op with several is no path and its rule gets None for it; asked for as x it is
    its own."""
    seen: list[Any] = []

    def rule(op: Any, value_ct: Any, index_ct: Any) -> Any:
        seen.append((value_ct, index_ct))
        return value_ct * 5.0

    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (2,))
        top, where = copies(graph, x, "ContractWithIndex", (None, np.int64), vjp=lambda op, cts: [rule(op, *cts)])
        assert ng.gradients(where, x) == [None]
        assert not seen
        g, own = ng.gradients([top, where], [x, where])
        assert value(g, {x: [3.0, 1.0]}) == [5.0, 5.0]
        assert seen and seen[-1][1] is None
        assert_array_equal(ng.run(own, {x: [3.0, 1.0]}), np.ones(2, np.int64), strict=True)


@pytest.mark.parametrize("f, z, wanted", [
    (lambda z: ng.real(z * z), 1 + 2j, 2 - 4j),
    (lambda z: ng.abs(z), 3 + 4j, 0.6 + 0.8j),
    (lambda z: ng.imag(ng.exp(z)), 0.5j, 1j * np.exp(-0.5j)),
])
def test_complex_convention(f: Any, z: complex, wanted: complex) -> None:
    """D6: dL = Re(conj(g) dz) for a real loss, so holomorphic functions multiply by the conjugate of f'."""
    with ng.Graph().as_default():
        p = scalar(ng.complex128)
        (g,) = ng.gradients(f(p), p)
        got = complex(ng.run(g, {p: z}))
        assert_allclose(got, wanted, rtol=1e-14)
        for step in (1e-6, 1e-6j):
            moved = [float(ng.run(f(p), {p: z + s})) for s in (step, -step)]
            assert_allclose((moved[0] - moved[1]) / 2e-6, (got.conjugate() * step / 1e-6).real, rtol=1e-6, atol=1e-9)


def test_conjugate_takes_the_conjugate_cotangent() -> None:
    """D6: conj with the cotangent 1+1j gives 1-1j."""
    with ng.Graph().as_default():
        z = scalar(ng.complex128)
        assert values(ng.gradients(ng.conj(z), z, grad_ys=1 + 1j), {z: 2 + 3j}) == [1 - 1j]


@pytest.mark.parametrize("f", [ng.floor, ng.ceil, ng.round, ng.trunc, lambda x: ng.floor_divide(x, 2.0),
                               lambda x: ng.cast(ng.argmax(x), ng.float64),
                               lambda x: ng.cast(ng.argmin(x), ng.float64)])
def test_steps_have_no_path(f: Any) -> None:
    """D7, F5, E7, U12: rounding, whole division and argmax have no derivative: None, and zeros only when asked for."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        assert ng.gradients(f(x), x) == [None]
        assert values(ng.gradients(f(x), x, unconnected_gradients="zero"), {x: [1.5, 2.5]}) == [[0.0, 0.0]]
        assert values(ng.gradients(ng.sum(f(x)) + ng.sum(x), x), {x: [1.5, 2.5]}) == [[1.0, 1.0]]


def test_zero_is_a_path() -> None:
    """D7, F5, U12: sign and a product with zero are paths, so zeros, a tensor; the remainder counts its first
    operand."""
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, (2,))
        for y, wanted in ((ng.sign(x), [0.0, 0.0]), (0.0 * x, [0.0, 0.0]), (x % 2.0, [1.0, 1.0])):
            assert values(ng.gradients(y, x), {x: [1.5, -2.5]}) == [wanted]
        for y in (x > 0.0, ng.equal(x, x)):
            assert ng.gradients(y, x) == [None]


def test_every_operation_is_visited_once_after_all_its_cotangents() -> None:
    """E1: a chain of diamonds has a gradient whose size is linear in it."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        y = x
        for _ in range(50):
            y = y * y + y
        _, made = made_by(graph, lambda: ng.gradients(y, x))
        names = [op.name for op in made]
        assert len(made) < 50 * 8 and sum(name.endswith("multiply_grad/multiply") for name in names) == 1


def test_only_what_lies_between_is_visited() -> None:
    """E1: nothing is added for operations that are above no y or below no x."""
    with ng.Graph().as_default() as graph:
        x, z = scalar(), scalar()
        aside = ng.exp(x)
        before = ng.exp(z)
        y = x * before
        _, made = made_by(graph, lambda: ng.gradients(y, x))
        assert not any("exp" in op.name for op in made) and aside.op not in made
        assert not any(op.name.startswith("gradients/multiply_grad/multiply_1") for op in made)


def test_order_of_terms_in_a_sum() -> None:
    """E1: terms stand in the order in which they were made, so that sums are reproducible."""
    with ng.Graph().as_default():
        x = scalar()
        y = ng.sin(x) + ng.cos(x) + ng.exp(x)
        (g,) = ng.gradients(y, x)
        numbers = [t.op.number for t in g.op.inputs]
        assert g.op.type == "add_n" and numbers == sorted(numbers) and len(numbers) == 3


def test_xs_above_and_below_each_other() -> None:
    """E2: an x with another x above it is walked through; the op of an x without one needs no rule."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        y = x * x
        assert values(ng.gradients(y * y, [x, y]), {x: 2.0}) == [32.0, 8.0]
        (opaque,) = copies(graph, x, "ContractNoRule")
        assert values(ng.gradients(opaque * 2.0, opaque), {x: 1.0}) == [2.0]
        with pytest.raises(LookupError):
            ng.gradients(opaque * 2.0, [opaque, x])


def test_stop_gradients_stop_operations() -> None:
    """E3, U11: all outputs of the operation that made the tensor are constants for what lies above; their own
    gradients are given."""
    with ng.Graph().as_default():
        a = ng.placeholder(ng.float64, (3, 3))
        w, v = ng.linalg.eigh(a)
        y = 2.0 * ng.sum(w) + 3.0 * ng.sum(v)
        assert w.op is v.op
        assert ng.gradients(y, a, stop_gradients=[w]) == [None]
        own = ng.gradients(y, [w, v], stop_gradients=[w])
        assert values(own, {a: np.eye(3)}) == [[2.0] * 3, [[3.0] * 3] * 3]


def test_stop_at_y_and_at_x() -> None:
    """E4: y's own gradient stays, that of what lies above it is None; a stop at an x changes nothing for it."""
    with ng.Graph().as_default():
        x = scalar()
        y = 3.0 * x
        z = y * y
        assert values(ng.gradients(z, [z, x], stop_gradients=z), {x: 1.0}) == [1.0, None]
        assert values(ng.gradients(z, x, stop_gradients=x), {x: 1.0}) == [18.0]
        assert values(ng.gradients(z, y, stop_gradients=[y, x]), {x: 1.0}) == [6.0]
        assert ng.gradients(ng.stop_gradient(y) * 2.0, x, stop_gradients=[y]) == [None]


@pytest.mark.parametrize("subset", range(8))
def test_stop_argument_equals_stop_nodes(subset: int) -> None:
    """E3, E4: for every subset of the inner nodes of a graph, the argument gives what stop_gradient nodes give."""
    def build(stops: bool) -> tuple[list[Any], list[Any], list[Any]]:
        a, b = scalar(), scalar()
        chosen = []

        def node(k: int, t: Any) -> Any:
            if not subset >> k & 1:
                return t
            chosen.append(t)
            return ng.stop_gradient(t) if stops else t

        c = node(0, a * b)
        d = node(1, ng.sin(c) + a)
        e = node(2, d * c)
        return [e * d + c * a], [a, b], chosen

    results = []
    for stops in (True, False):
        with ng.Graph().as_default():
            ys, xs, chosen = build(stops)
            found = ng.gradients(ys, xs, stop_gradients=None if stops else chosen, unconnected_gradients="zero")
            results.append(values(found, dict(zip(xs, (1.5, 0.5), strict=True))))
    assert_allclose(results[0], results[1], rtol=1e-14)


def test_partial_and_total_derivatives() -> None:
    """E2, E3: stop_gradients turns total derivatives into partial ones."""
    with ng.Graph().as_default():
        a = scalar()
        b = 2.0 * a
        y = a + b
        assert values(ng.gradients(y, [a, b]), {a: 0.0}) == [3.0, 1.0]
        assert values(ng.gradients(y, [a, b], stop_gradients=[a, b]), {a: 0.0}) == [1.0, 1.0]


def test_unused_output_of_a_live_operation() -> None:
    """E5, F3, U12: an output that no y uses has no path: None whichever xs are asked for, zeros on request."""
    with ng.Graph().as_default():
        a = ng.placeholder(ng.float64, (2, 2))
        w, v = ng.linalg.eigh(a)
        y = ng.sum(w)
        assert ng.gradients(y, v) == [None]
        feeds = {a: np.diag([1.0, 2.0])}
        assert values(ng.gradients(y, [w, v, a]), feeds) == [[1.0, 1.0], None, [[1.0, 0.0], [0.0, 1.0]]]
        assert values(ng.gradients(y, [v], unconnected_gradients="zero"), feeds) == [[[0.0, 0.0]] * 2]
        assert ng.gradients(ng.stop_gradient(y), [w, v, a]) == [None] * 3


def test_registered_rules_get_zeros_for_unused_outputs() -> None:
    """E5, D5, I2: a user's rule need not look for None among the cotangents of floating outputs."""
    seen = []

    @ng.RegisterGradient("ContractTwoOutputs")
    def rule(op: Any, first: Any, second: Any) -> Any:
        seen.append((first, second))
        return first + second

    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (2,))
        first, _ = copies(graph, x, "ContractTwoOutputs", (None, None))
        (g,) = ng.gradients(first * 4.0, x)
        assert value(g, {x: [1.0, 1.0]}) == [4.0, 4.0]
        assert value(seen[-1][1], {x: [1.0, 1.0]}) == [0.0, 0.0]
        count = len(seen)
        assert ng.gradients(scalar(), x) == [None] and len(seen) == count


def test_missing_rule() -> None:
    """E6: LookupError that names the operation, its type and both ways out, whatever the option for unconnected xs."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        (y,) = copies(graph, x, "ContractNoRule", name="opaque")
        for option in ("none", "zero"):
            text = r"'opaque'.*'ContractNoRule'.*RegisterGradient.*stop_gradient"
            with pytest.raises(LookupError, match=text) as caught:
                ng.gradients(y * 2.0, x, unconnected_gradients=option)
            assert isinstance(caught.value, ng.errors.GradientError)
        assert values(ng.gradients(ng.stop_gradient(y) * x, x), {x: 3.0}) == [3.0]
        assert values(ng.gradients(y * x, x, stop_gradients=y), {x: 3.0}) == [3.0]
        assert ng.gradients(scalar(), x) == [None]
        assert ng.gradients(ng.constant(1.0), x) == [None]


def rule_that_returns(result: Any) -> str:
    """Register `result(op, cotangent)` as a gradient rule under a new name."""
    name = f"ContractReturns{next(numbers)}"
    ng.RegisterGradient(name)(result)
    return name


@pytest.mark.parametrize("result, error, text", [
    (lambda op, ct: [ct], ValueError, "1 gradients for 2"),
    (lambda op, ct: ct, ValueError, "1 gradients for 2"),
    (lambda op, ct: (ct, ct, ct), ValueError, "3 gradients for 2"),
    (lambda op, ct: (ct, ng.zeros((7,))), ValueError, r"input 1 of prod.*\(7,\), wanted \(2,\)"),
    (lambda op, ct: (ng.sum(ct), ct), ValueError, r"input 0 of prod.*\(\), wanted \(2,\)"),
    (lambda op, ct: (ct, ng.cast(ct, ng.complex128)), TypeError, "complex128 for input 1 of prod"),
    (lambda op, ct: (ct, ct > 0.0), TypeError, "bool for input 1 of prod"),
    (lambda op, ct: (object(), ct), TypeError, "input 0 of prod"),
    (lambda op, ct: (ct, "text"), TypeError, "'text' for input 1 of prod"),
])
def test_what_rules_return_is_verified(result: Any, error: type[Exception], text: str) -> None:
    """E8, E9, E10, E11, U2: count, shape, dtype and kind of thing; the error names the operation and the input."""
    with ng.Graph().as_default() as graph:
        x, z = ng.placeholder(ng.float64, (2,)), ng.placeholder(ng.float64, (2,))
        with graph.gradient_override_map({"multiply": rule_that_returns(result)}):
            y = graph.add(OPS["multiply"], (x, z), {}, (x.spec,), "prod").outputs[0]
        with pytest.raises(error, match=text):
            ng.gradients(y, [x, z])


@pytest.mark.parametrize("result, wanted", [
    (lambda op, ct: (None, ct), [None, [1.0, 1.0]]),
    (lambda op, ct: (np.full(2, 3.0), [4, 5]), [[3.0, 3.0], [4.0, 5.0]]),
    (lambda op, ct: (np.full(2, 3.0, np.float32), ct), [[3.0, 3.0], [1.0, 1.0]]),
])
def test_what_rules_may_return(result: Any, wanted: list[Any]) -> None:
    """E8, E10, E11: None, arrays and lists; another precision is cast to the input's dtype."""
    with ng.Graph().as_default() as graph:
        x, z = ng.placeholder(ng.float64, (2,)), ng.placeholder(ng.float64, (2,))
        with graph.gradient_override_map({"multiply": rule_that_returns(result)}):
            y = x * z
        found = ng.gradients(y, [x, z])
        assert all(g is None or g.dtype == np.float64 for g in found)
        assert values(found, {x: [0.0, 0.0], z: [0.0, 0.0]}) == wanted


def test_single_gradient_of_a_rule_needs_no_list() -> None:
    """E8: a result that is no sequence is one gradient."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        with graph.gradient_override_map({"square": rule_that_returns(lambda op, ct: ct * 9.0)}):
            y = ng.square(x)
        assert values(ng.gradients(y, x), {x: 1.0}) == [9.0]


def test_prevent_gradient() -> None:
    """E12, I6: LookupError with the reason as soon as a path goes through it, in reverse and forward mode."""
    with ng.Graph().as_default():
        x = scalar()
        y = ng.prevent_gradient(x * 2.0, "it is a table")
        assert value(y, {x: 3.0}) == 6.0
        with pytest.raises(LookupError, match="explicitly disabled: it is a table"):
            ng.gradients(y, x)
        assert values(ng.gradients(ng.stop_gradient(y) * x, x), {x: 3.0}) == [6.0]
    with pytest.raises(LookupError, match="explicitly disabled"):
        ng.jvp(lambda t: ng.prevent_gradient(t), (1.0,), (1.0,))


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES, ids=str)
def test_unconnected_zeros_have_xs_shape_and_dtype(dtype: np.dtype[Any]) -> None:
    """F1, F4: zeros of any dtype, of sizes known when it runs; connected gradients are as without the option."""
    with ng.Graph().as_default():
        x, z = ng.placeholder(dtype, ("n", 2)), scalar()
        zero, slope = ng.gradients(z * 3.0, [x, z], unconnected_gradients="zero")
        assert_array_equal(ng.run(zero, {x: np.ones((3, 2), dtype)}), np.zeros((3, 2), dtype), strict=True)
        assert value(slope, {z: 1.0}) == 3.0
        assert ng.gradients(z * 3.0, x) == [None]


def test_zeros_are_made_outside_the_gradient_scope() -> None:
    """F2: named zeros_like at the caller's level."""
    with ng.Graph().as_default() as graph:
        x, z = scalar(), scalar()
        with ng.name_scope("outer"):
            _, made = made_by(graph, lambda: ng.gradients(z * 2.0, x, unconnected_gradients="zero"))
        assert made[-1].name == "outer/zeros_like"


def test_zero_stands_for_paths_that_were_cut() -> None:
    """F3: stop_gradient, stop_gradients and a dead output give zeros as well."""
    with ng.Graph().as_default():
        x = scalar()
        y = x * x
        for found in (ng.gradients(ng.stop_gradient(y), x, unconnected_gradients="zero"),
                      ng.gradients(2.0 * y, x, stop_gradients=y, unconnected_gradients="zero")):
            assert values(found, {x: 3.0}) == [0.0]

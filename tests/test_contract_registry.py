"""The gradient contract, section I: registered rules, override maps, and which operations have derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.records import OPS
from tests.contract import copies, scalar, values


def test_registering() -> None:
    """I1: the decorator returns the function; a name is taken once, by a rule or by None; names are strings."""
    def rule(op: Any, ct: Any) -> Any:
        return ct

    assert ng.RegisterGradient("ContractOnce")(rule) is rule
    ng.NotDifferentiable("ContractNever")
    for again in (lambda: ng.RegisterGradient("ContractOnce")(rule), lambda: ng.NotDifferentiable("ContractOnce"),
                  lambda: ng.RegisterGradient("ContractNever")(rule), lambda: ng.NotDifferentiable("ContractNever")):
        with pytest.raises(KeyError, match="registered already"):
            again()
    for wrong in (None, 3, b"bytes", rule):
        with pytest.raises(TypeError, match="must be a string"):
            ng.RegisterGradient(wrong)
        with pytest.raises(TypeError, match="must be a string"):
            ng.NotDifferentiable(wrong)


@pytest.mark.parametrize("op_type", ["square", "matmul", "where", "floor", "stop_gradient", "prevent_gradient",
                                     "argmax"])
def test_ops_of_the_library_keep_their_rules(op_type: str) -> None:
    """I1: what the table says, a derivative or none, is a registration like any other."""
    with pytest.raises(KeyError):
        ng.RegisterGradient(op_type)(lambda op, ct: ct)
    with pytest.raises(KeyError):
        ng.NotDifferentiable(op_type)


def test_rule_of_an_op_without_one() -> None:
    """I2, I3, E6, E7: it gets the operation and the cotangent, by the op's type; NotDifferentiable gives None."""
    seen = []

    @ng.RegisterGradient("ContractRuled")
    def rule(op: Any, ct: Any) -> Any:
        seen.append(op)
        return [ct * 2.0 * op.inputs[0]]

    ng.NotDifferentiable("ContractFlat")
    with ng.Graph().as_default() as graph:
        x = scalar()
        (y,) = copies(graph, x, "ContractRuled")
        assert values(ng.gradients(y * 10.0, x), {x: 3.0}) == [60.0] and seen == [y.op]
        (flat,) = copies(graph, x, "ContractFlat")
        assert ng.gradients(flat, x) == [None]
        assert values(ng.gradients(flat + x, x), {x: 3.0}) == [1.0]


def test_row_sparse_gradient_of_a_rule() -> None:
    """I2: a rule may return rows."""
    @ng.RegisterGradient("ContractRows")
    def rule(op: Any, ct: Any) -> Any:
        return ng.IndexedSlices(ct[1:], [1, 2], op.inputs[0].shape)

    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, (3,))
        (y,) = copies(graph, x, "ContractRows")
        (g,) = ng.gradients(y * 2.0, x)
        assert isinstance(g, ng.IndexedSlices) and values([g, g.indices], {x: np.zeros(3)}) == [[0.0, 2.0, 2.0], [1, 2]]


def test_rules_compile() -> None:
    """I2: what a registered rule builds is part of the compiled program."""
    @ng.RegisterGradient("ContractSteep")
    def rule(op: Any, ct: Any) -> Any:
        return ct * 100.0

    with ng.Graph().as_default() as graph:
        x = ng.placeholder(ng.float64, ("n",))
        with graph.gradient_override_map({"tanh": "ContractSteep"}):
            y = ng.tanh(x)
        f = ng.compile(x, ng.gradients(y, x))
    assert f(np.zeros(2))[0].tolist() == [100.0, 100.0]


def test_override_map() -> None:
    """I3, I4: operations made inside the block, an inner map over an outer one, which is back afterwards."""
    for name, factor in (("ContractTimes2", 2.0), ("ContractTimes3", 3.0)):
        ng.RegisterGradient(name)(lambda op, ct, factor=factor: ct * factor)
    with ng.Graph().as_default() as graph:
        x = scalar()
        made = [ng.square(x)]
        with graph.gradient_override_map({"square": "ContractTimes2", "exp": "ContractTimes2"}):
            made.append(ng.square(x))
            with graph.gradient_override_map({"square": "ContractTimes3"}):
                made += [ng.square(x), ng.exp(x)]
            made.append(ng.square(x))
        made.append(ng.square(x))
        assert values([ng.gradients(y, x)[0] for y in made], {x: 5.0}) == [10.0, 2.0, 3.0, 2.0, 2.0, 10.0]


def test_override_map_is_checked_when_it_must() -> None:
    """I4: a dict of strings or a TypeError; an unknown name fails only when it is differentiated."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        for wrong in (None, [("square", "a")], {"square": None}, {1: "a"}, {"square": lambda op, ct: ct}):
            with pytest.raises(TypeError, match="gradient_override_map"), graph.gradient_override_map(wrong):
                pass
        with graph.gradient_override_map({"square": "ContractNobody"}):
            y = ng.square(x)
        assert values([y], {x: 3.0}) == [9.0]
        with pytest.raises(LookupError, match=r"'ContractNobody'.*RegisterGradient"):
            ng.gradients(y, x)


def test_names_with_a_namespace() -> None:
    """I5: any text is a type's name."""
    ng.RegisterGradient("Contract>Doubled")(lambda op, ct: ct * 2.0)
    with ng.Graph().as_default() as graph:
        x = scalar()
        (y,) = copies(graph, x, "Contract>Doubled")
        assert values(ng.gradients(y, x), {x: 1.0}) == [2.0]


def test_rules_that_always_raise() -> None:
    """I6: an error raised in a rule reaches the user as it is."""
    class Own(Exception):
        pass

    @ng.RegisterGradient("ContractRaises")
    def rule(op: Any, ct: Any) -> Any:
        raise Own("of the user's own")

    with ng.Graph().as_default() as graph:
        x = scalar()
        (y,) = copies(graph, x, "ContractRaises")
        with pytest.raises(Own, match="of the user's own"):
            ng.gradients(y, x)


def test_every_op_of_floats_has_a_derivative_or_is_declared_to_have_none() -> None:
    """I7: no op of the table that gives floats raises LookupError on its path."""
    rng = np.random.default_rng(0)
    missing = []
    for name, record in OPS.items():
        if record.differentiable or not record.smooth or record.kind == "constant" or record.samples is None:
            continue
        arrays, attrs = record.samples(rng)[0]
        result = record.evaluate(*[np.asarray(a) for a in arrays], **attrs)
        if any(np.asarray(r).dtype.kind in "fc" for r in (result if isinstance(result, tuple) else (result,))):
            missing.append(name)
    assert missing == []


def _positive(x: Any) -> Any:
    return x @ ng.matrix_transpose(x) + 3.0 * ng.eye(3)


SECOND = {
    "matmul": lambda x: x @ x,
    "cholesky": lambda x: ng.linalg.cholesky(_positive(x)),
    "inv": lambda x: ng.linalg.inv(_positive(x)),
    "det": lambda x: ng.linalg.det(x),
    "slogdet": lambda x: ng.linalg.slogdet(_positive(x))[1],
    "eigh": lambda x: ng.linalg.eigh(_positive(x))[0],
    "svd": lambda x: ng.linalg.svd(x)[1],
    "qr": lambda x: ng.linalg.qr(x)[1],
    "solve": lambda x: ng.linalg.solve(_positive(x), x),
    "triangular_solve": lambda x: ng.linalg.triangular_solve(ng.tril(x) + 3.0 * ng.eye(3), x, lower=True),
    "pinv": lambda x: ng.linalg.pinv(x),
    "lgamma": lambda x: ng.special.lgamma(x + 2.0),
    "erfinv": lambda x: ng.special.erfinv(x / 9.0),
    "elu-like: softplus": ng.softplus,
    "logsumexp": lambda x: ng.logsumexp(x, axis=0),
    "cumsum": lambda x: ng.cumsum(x * x, 0),
    "cumprod": lambda x: ng.cumprod(x, 0),
    "max": lambda x: ng.max(x * x, axis=0),
    "sort": lambda x: ng.sort(x * x * x, axis=0),
    "remainder": lambda x: ng.remainder(x * x, 0.3),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_exist(name: str) -> None:
    """I7, I8, U10: second derivatives are there and agree with differences of the first, also for det and the
    remainder."""
    f = SECOND[name]
    x0 = np.random.default_rng(7).uniform(0.5, 1.5, (3, 3))
    v0 = np.random.default_rng(8).normal(size=(3, 3))
    with ng.Graph().as_default():
        x, v = ng.placeholder(ng.float64, (3, 3)), ng.placeholder(ng.float64, (3, 3))
        y = f(x)
        (first,) = ng.gradients(ng.sum(y * np.cos(np.arange(float(np.prod(y.shape))).reshape(y.shape))), x)
        (second,) = ng.gradients(ng.sum(first * v), x)
        assert second is not None
        got = ng.run(second, {x: x0, v: v0})
        h = 1e-6
        moved = [ng.run(first, {x: x0 + s * v0}) for s in (h, -h)]
    np.testing.assert_allclose(got, (moved[0] - moved[1]) / (2 * h), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (5, 2)])
def test_factorisations_of_any_shape_have_derivatives(shape: tuple[int, int]) -> None:
    """I9: singular values and the thin QR factor R of tall, square and wide matrices, with sizes known only when it
    runs."""
    rng = np.random.default_rng(3)
    a0, d0 = rng.normal(size=shape), rng.normal(size=shape)
    for f in (lambda a: ng.linalg.svd(a, full_matrices=False)[1], lambda a: ng.linalg.qr(a)[1]):
        with ng.Graph().as_default():
            a = ng.placeholder(ng.float64, shape)
            y = ng.sum(ng.sin(f(a)))
            (g,) = ng.gradients(y, a)
            slope = float(np.sum(ng.run(g, {a: a0}) * d0))
            moved = [float(ng.run(y, {a: a0 + s * d0})) for s in (1e-6, -1e-6)]
        assert slope == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-6)

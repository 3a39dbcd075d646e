"""The transforms: values against NumPy and complex step, nests, nesting to any order, errors, traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.autodiff.batching import RULES
from numgrad.errors import DtypeError, ShapeError

RNG = np.random.default_rng(0)
X, V = RNG.normal(size=(2, 4))
W = RNG.normal(size=(3, 4))


def energy(x: Any) -> Any:
    return np.sum(np.tanh(W @ x) ** 2) + np.prod(np.sin(x)) + np.exp(x[0] * x[-1])


def layers(x: Any) -> Any:
    return np.tanh(W @ x) * x[0] + np.cumsum(x)[:3]


def complex_step(f: Callable[[Any], Any], x: np.ndarray[Any, Any], v: np.ndarray[Any, Any]) -> Any:
    """The directional derivative of an analytic NumPy function, to rounding."""
    return np.imag(f(x + 1e-30j * v)) / 1e-30


GRADIENT = np.array([complex_step(energy, X, e) for e in np.eye(4)])
JACOBIAN = np.stack([complex_step(layers, X, e) for e in np.eye(4)], axis=1)
HESSIAN = np.stack([(np.array([complex_step(energy, X + 1e-5 * d, e) - complex_step(energy, X - 1e-5 * d, e)
                               for e in np.eye(4)]) / 2e-5) for d in np.eye(4)])


# -- values


def test_gradient_and_value() -> None:
    np.testing.assert_allclose(ng.grad(energy)(X), GRADIENT, rtol=1e-13)
    value, gradient = ng.value_and_grad(energy)(X)
    np.testing.assert_allclose(value, energy(X), rtol=1e-14)
    np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-13)
    assert type(value) is np.ndarray and value.shape == ()


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian(mode: str) -> None:
    np.testing.assert_allclose(ng.jacobian(layers, mode=mode)(X), JACOBIAN, rtol=1e-12)
    np.testing.assert_allclose(ng.jacobian(energy, mode=mode)(X), GRADIENT, rtol=1e-12)


def test_forward_and_reverse_maps() -> None:
    y, dy = ng.jvp(layers, (X,), (V,))
    np.testing.assert_allclose(y, layers(X), rtol=1e-14)
    np.testing.assert_allclose(dy, JACOBIAN @ V, rtol=1e-12)
    y, push = ng.linearize(layers, X)
    np.testing.assert_allclose(push(V), JACOBIAN @ V, rtol=1e-12)
    np.testing.assert_allclose(push(X), JACOBIAN @ X, rtol=1e-12)
    y, pull = ng.vjp(layers, X)
    np.testing.assert_allclose(y, layers(X), rtol=1e-14)
    for cotangent in (np.ones(3), np.arange(3.0)):
        (found,) = pull(cotangent)
        np.testing.assert_allclose(found, cotangent @ JACOBIAN, rtol=1e-12)


def test_hessian_and_its_products() -> None:
    hessian = ng.hessian(energy)(X)
    np.testing.assert_allclose(hessian, HESSIAN, rtol=1e-7)
    np.testing.assert_allclose(ng.hvp(energy)(X, V), hessian @ V, rtol=1e-11)
    routes = [ng.jacobian(ng.grad(energy), mode="reverse"), ng.jacobian(ng.grad(energy), mode="forward"),
              ng.jacobian(ng.jacobian(energy, mode="forward"), mode="reverse")]
    for route in routes:
        np.testing.assert_allclose(route(X), hessian, rtol=1e-11)
    np.testing.assert_allclose(ng.grad(lambda x: ng.jvp(energy, (x,), (V,))[1])(X), hessian @ V, rtol=1e-11)
    np.testing.assert_allclose(ng.jvp(ng.grad(energy), (X,), (V,))[1], hessian @ V, rtol=1e-11)
    (over,) = ng.vjp(ng.grad(energy), X)[1](V)
    np.testing.assert_allclose(over, hessian @ V, rtol=1e-11)
    np.testing.assert_allclose(ng.linearize(ng.grad(energy), X)[1](V), hessian @ V, rtol=1e-11)


@pytest.mark.parametrize("order", range(6))
def test_any_order(order: int) -> None:
    f: Any = np.sin
    for _ in range(order):
        f = ng.grad(f)
    wanted = [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)][order % 4](0.7)
    np.testing.assert_allclose(ng.function(f)(0.7), wanted, rtol=1e-13)


def test_complex_arguments_follow_the_rule() -> None:
    z = np.array([1 + 2j, 3 - 1j])
    np.testing.assert_allclose(ng.grad(lambda z: np.sum(np.abs(z) ** 2))(z), 2 * z, rtol=1e-14)
    np.testing.assert_allclose(ng.grad(lambda z: np.sum(np.real(z * z)))(z), 2 * np.conj(z), rtol=1e-14)
    for mode in ("auto", "reverse", "forward"):
        np.testing.assert_allclose(ng.jacobian(lambda z: z**2 * 1j, mode=mode)(z), np.diag(2j * z), rtol=1e-14)
    x = np.array([0.3, 0.4])
    np.testing.assert_allclose(ng.jacobian(lambda x: np.exp(1j * x))(x), np.diag(1j * np.exp(1j * x)), rtol=1e-14)
    np.testing.assert_allclose(ng.jacobian(lambda z: np.real(1j * z))(z), np.diag([1j, 1j]), rtol=1e-14)
    with pytest.raises(DtypeError, match="real result of a complex argument"):
        ng.jacobian(lambda z: np.real(z), mode="forward")(z)
    with pytest.raises(DtypeError, match="take its real part or absolute value"):
        ng.grad(lambda z: np.sum(z))(z)
    with pytest.raises(DtypeError, match="hessian: argument 0 is complex128"):
        ng.hessian(lambda z: np.sum(np.abs(z)))(z)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_of_the_argument_is_kept(dtype: str) -> None:
    x = np.ones(3, dtype)
    for result in (ng.grad(np.sum)(x), ng.hvp(lambda x: np.sum(x**3))(x, x), ng.jacobian(lambda x: x * 2)(x),
                   ng.hessian(lambda x: np.sum(x**3))(x), *ng.vjp(lambda x: x * 2, x)[1](np.ones(3)),
                   ng.jvp(lambda x: x * 2, (x,), (np.ones(3),))[1]):
        assert result.dtype == dtype


# -- arguments


@dataclasses.dataclass
class Net:
    w: Any
    b: Any
    kind: str = "tanh"


def test_gradient_has_the_structure_of_the_argument() -> None:
    def loss(net: Net, data: dict[str, Any], rate: float) -> Any:
        assert net.kind == "tanh"
        return np.sum(net.w @ data["x"] + net.b) * rate

    net = Net(np.ones((2, 3)), np.zeros(2))
    gradient = ng.grad(loss)(net, {"x": np.arange(3.0)}, 0.5)
    assert isinstance(gradient, Net) and gradient.kind == "tanh"
    np.testing.assert_array_equal(gradient.w, np.outer([0.5, 0.5], np.arange(3.0)))
    np.testing.assert_array_equal(gradient.b, [0.5, 0.5])
    both = ng.grad(loss, argnums=(-1, 0))(net, {"x": np.arange(3.0)}, 0.5)
    assert isinstance(both, tuple)
    assert float(both[0]) == 6.0 and isinstance(both[1], Net)
    product = ng.hvp(loss, argnums=(0, 2))((net, 0.5), (Net(np.ones((2, 3)), None), 1.0), {"x": np.arange(3.0)})
    np.testing.assert_array_equal(product[0].b, [1.0, 1.0])
    assert float(product[1]) == 6.0
    hessian = ng.hessian(loss, argnums=(0, 2))(net, {"x": np.arange(3.0)}, 0.5)
    np.testing.assert_array_equal(hessian[0].b[1], [1.0, 1.0])
    assert hessian[0].w[0].b.shape == (2, 3, 2)
    blocks = ng.jacobian(lambda p: {"y": p["a"] * 2, "z": (p["b"],)})({"a": np.ones(2), "b": np.ones(())})
    np.testing.assert_array_equal(blocks["y"]["a"], 2 * np.eye(2))
    np.testing.assert_array_equal(blocks["y"]["b"], np.zeros(2))
    assert float(blocks["z"][0]["b"]) == 1.0


def test_unused_arguments_have_zero_gradients() -> None:
    x, y = np.ones(2), np.ones((3,), np.float32)
    gradients = ng.grad(lambda x, y: np.sum(x), argnums=(0, 1))(x, y)
    np.testing.assert_array_equal(gradients[1], np.zeros(3, np.float32))
    assert gradients[1].dtype == np.float32
    np.testing.assert_array_equal(ng.grad(lambda x: np.sum(ng.stop_gradient(x)))(x), [0.0, 0.0])
    np.testing.assert_array_equal(ng.grad(lambda x: 3.0)(x), [0.0, 0.0])
    np.testing.assert_array_equal(ng.hessian(np.sum)(x), np.zeros((2, 2)))
    np.testing.assert_array_equal(ng.hvp(np.sum)(x, x), np.zeros(2))
    np.testing.assert_array_equal(ng.jvp(lambda x: np.floor(x), (x,), (x,))[1], np.zeros(2))


def test_extras_are_passed_through() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return np.sum(y**2), {"y": y, "n": x.shape[0]}

    (value, extras), gradient = ng.value_and_grad(f, has_aux=True)(np.ones(3))
    assert float(value) == 12.0 and int(extras["n"]) == 3
    np.testing.assert_array_equal(gradient, np.full(3, 8.0))
    gradient, extras = ng.grad(f, has_aux=True)(np.ones(2))
    np.testing.assert_array_equal(extras["y"], [2.0, 2.0])
    with pytest.raises(TypeError, match="with has_aux=True the function must return"):
        ng.grad(lambda x: np.sum(x), has_aux=True)(np.ones(3))


def test_same_array_for_several_arguments_stays_several() -> None:
    x = np.array([2.0, 3.0])
    product = lambda a, b: np.sum(a**2 * b)  # noqa: E731
    np.testing.assert_array_equal(ng.grad(product, argnums=(0, 1))(x, x)[1], x**2)
    outer = ng.function(lambda x: ng.grad(product, argnums=0)(x, x))
    np.testing.assert_array_equal(outer(x), 2 * x * x)
    mixed = ng.grad(lambda a: np.sum(ng.grad(lambda b: np.sum(a * b**2))(a)))
    np.testing.assert_array_equal(mixed(x), 4 * x)  # d/da (2 a b) at b = a, both ways
    inner = ng.grad(lambda a: a * ng.grad(lambda b: a + b)(1.0))
    assert float(inner(1.0)) == 1.0


def test_sizes_and_kinds_share_traces() -> None:
    for make in (ng.grad, ng.value_and_grad, ng.hessian, ng.jacobian):
        f = make(lambda x: np.sum(np.sin(x) * x))
        for n in (3, 5, 0, 1):
            f(np.ones(n))
        assert f.trace_count == 1
    f = ng.hvp(lambda x, rate: np.sum(x**3) * rate)
    for n in (3, 4, 0, 1):
        np.testing.assert_array_equal(f(np.ones(n), np.ones(n), 0.5 * n), np.full(n, 3.0 * n))
    assert f.trace_count == 1


def test_maps_are_traced_once_for_a_function() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(x)
        return np.exp(x)

    for n in (2, 3, 4):
        ng.vjp(f, np.ones(n))[1](np.ones(n))
        ng.jvp(f, (np.ones(n),), (np.ones(n),))
        ng.linearize(f, np.ones(n))[1](np.ones(n))
    assert len(calls) == 3


def test_maps_compute_the_function_once() -> None:
    """The second phase holds no exp of the primal."""
    f = lambda x: np.exp(x @ x) * x  # noqa: E731
    _, pull = ng.vjp(f, X)
    pull(np.ones(4))
    second = next(iter(f.__dict__["__numgrad__"]["vjp"].late.values())).variant.program
    assert "exp" not in second.source and "matmul" not in second.source


def test_nests_and_integers_in_maps() -> None:
    f = lambda tree, n: {"y": tree["a"] * tree["b"], "count": np.argmax(tree["a"])}  # noqa: E731
    tree = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 5.0])}
    g = lambda tree: f(tree, 1)  # noqa: E731
    y, pull = ng.vjp(g, tree)
    assert int(y["count"]) == 1
    (found,) = pull({"y": np.ones(2), "count": None})
    np.testing.assert_array_equal(found["a"], [3.0, 5.0])
    (found,) = pull({"count": 0, "y": None})
    np.testing.assert_array_equal(found["b"], [0.0, 0.0])
    y, dy = ng.jvp(g, (tree,), ({"b": None, "a": np.ones(2)},))
    np.testing.assert_array_equal(dy["y"], [3.0, 5.0])
    eager, pull = ng.vjp(np.sin, ng.asarray([0.0]))
    assert isinstance(eager, ng.Tensor) and isinstance(pull(np.ones(1))[0], ng.Tensor)


# -- vmap


VMAPPED = {
    "elementwise": lambda x, w: np.maximum(x, w[0]) * np.where(x > 0, x, w[1]),
    "reductions": lambda x, w: np.sum(x) + np.prod(w, axis=1) + np.max(x) * np.linalg.norm(x),
    "products": lambda x, w: (w @ x, x @ w.T, w.T @ w, np.outer(x, w[0]), np.dot(x, x)),
    "shapes": lambda x, w: np.concatenate([np.reshape(w, (-1,)), x[::-1], np.ravel(w.T)[1:3], np.repeat(x, 2)]),
    "stacks": lambda x, w: np.stack([x, w[1]], axis=1) + np.expand_dims(x, 1),
    "indices": lambda x, w: (x[np.array([0, 0, -1])], w[1:, 2], np.take(w, [1, 0], axis=0), np.diagonal(w)),
    "scans": lambda x, w: (np.cumsum(x), np.cumprod(w, axis=0), np.sort(x), np.argmax(w, axis=1), np.argsort(x)),
    "linear algebra": lambda x, w: (np.linalg.inv(w @ w.T + np.eye(3)), np.linalg.cholesky(w @ w.T + np.eye(3)),
                                    np.linalg.solve(w @ w.T + np.eye(3), w), np.linalg.det(w @ w.T)),
    "softmaxes": lambda x, w: (ng.nn.softmax(x), ng.logsumexp(w, axis=0), ng.nn.log_softmax(w, axis=1)),
    "pads": lambda x, w: (np.pad(x, (1, 2)), np.roll(w, 1, axis=1), np.tril(w), np.tile(x, 2)),
    "constants": lambda x, w: (np.ones(2), np.zeros_like(x), 3.0),
}


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)], ids=str)
@pytest.mark.parametrize("name", VMAPPED)
def test_vmap_equals_a_loop(name: str, axes: tuple[int | None, ...]) -> None:
    f = VMAPPED[name]
    count = 3
    values = []
    for axis, shape in zip(axes, ((4,), (3, 4)), strict=True):
        full = RNG.normal(size=shape if axis is None else (*shape[:axis], count, *shape[axis:]))
        values.append(full)
    rows = [f(*(v if a is None else np.take(v, i, axis=a) for v, a in zip(values, axes, strict=True)))
            for i in range(count)] if name != "softmaxes" else [
        ng.function(f)(*(v if a is None else np.take(v, i, axis=a) for v, a in zip(values, axes, strict=True)))
        for i in range(count)]
    found = ng.vmap(f, in_axes=axes)(*values)
    parts = zip(*rows, strict=True) if isinstance(found, tuple) else [rows]
    for one, each in zip(found if isinstance(found, tuple) else (found,), parts, strict=True):
        np.testing.assert_allclose(one, np.stack([np.asarray(e) for e in each]), rtol=1e-10, atol=1e-12)


def test_vmap_with_indices_of_each_example() -> None:
    x, i = RNG.normal(size=(3, 5, 4)), RNG.integers(-4, 4, size=(3, 2))
    found = ng.vmap(lambda x, i: (np.take(x, i, axis=1), x[i], np.take(x[0], i)))(x, i)
    for axis, (one, two, three) in enumerate(zip(*found, strict=True)):
        np.testing.assert_array_equal(one, x[axis][:, i[axis]])
        np.testing.assert_array_equal(two, x[axis][i[axis]])
        np.testing.assert_array_equal(three, x[axis][0][i[axis]])
    fixed = ng.vmap(lambda i: ng.take(X, i))(i)
    np.testing.assert_array_equal(fixed, X[i])
    gradient = ng.vmap(ng.grad(lambda x, i: np.sum(np.take(x, i, axis=0) ** 2)))(x, i)
    wanted = np.zeros_like(x)
    for row, (values, index) in enumerate(zip(x, i, strict=True)):
        np.add.at(wanted[row], index, 2 * values[index])
    np.testing.assert_allclose(gradient, wanted, rtol=1e-13)


def test_vmap_of_loops_and_of_transforms() -> None:
    x = RNG.normal(size=(3, 4))
    loop = lambda x: ng.fori_loop(0, 3, lambda i, c: np.sin(c) * x, x)  # noqa: E731
    found = ng.vmap(loop)(x)
    wanted = x.copy()
    for _ in range(3):
        wanted = np.sin(wanted) * x
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(ng.vmap(ng.grad(energy))(x), np.stack([ng.grad(energy)(row) for row in x]), rtol=1e-12)
    np.testing.assert_allclose(ng.vmap(ng.vmap(np.sin))(x), np.sin(x), rtol=1e-14)
    total = ng.grad(lambda x: np.sum(ng.vmap(energy)(x)))
    np.testing.assert_allclose(total(x), ng.vmap(ng.grad(energy))(x), rtol=1e-12)
    np.testing.assert_array_equal(ng.vmap(lambda x: x * 2, in_axes=1, out_axes=-1)(x), x * 2)


def test_vmap_of_branches_and_unknown_trip_counts() -> None:
    x = np.array([2.0, -3.0, 5.0] * 7)
    branch = lambda x: ng.cond(x > 0, lambda: np.sin(x), lambda: x * x)  # noqa: E731
    np.testing.assert_allclose(ng.vmap(branch)(x), np.where(x > 0, np.sin(x), x * x), rtol=1e-14)
    np.testing.assert_allclose(ng.vmap(ng.grad(branch))(x), np.where(x > 0, np.cos(x), 2 * x), rtol=1e-14)
    grow = lambda x: ng.while_loop(lambda c: c < 100.0, lambda c: c * x, x)  # noqa: E731
    np.testing.assert_array_equal(ng.vmap(grow)(np.array([2.0, 3.0, 5.0])), [128.0, 243.0, 125.0])
    with pytest.raises(ng.errors.KernelError, match="counts its trips.*use ng.scan, ng.fori_loop or forward mode"):
        ng.vmap(ng.grad(grow))(np.array([2.0, 3.0]))
    tangents = ng.vmap(lambda x: ng.jvp(grow, (x,), (np.ones(()),))[1])(np.array([2.0, 3.0]))
    np.testing.assert_array_equal(tangents, [7 * 2.0**6, 5 * 3.0**4])


def test_vmap_serves_every_number_of_examples() -> None:
    f = ng.vmap(lambda x: np.sum(x**2))
    for count in (3, 1, 0, 40):
        assert f(np.ones((count, 2))).shape == (count,)
    assert f.trace_count == 1


def test_errors_of_vmap() -> None:
    with pytest.raises(ShapeError, match="arguments hold"):
        ng.vmap(np.add)(np.ones(2), np.ones(3))
    with pytest.raises(ShapeError, match="an argument is a scalar"):
        ng.vmap(np.sin)(1.0)
    with pytest.raises(ShapeError, match="axis 2 is out of range"):
        ng.vmap(np.sin, in_axes=2)(np.ones(2))
    with pytest.raises(ValueError, match="2 in_axes for 1 arguments"):
        ng.vmap(np.sin, in_axes=(0, 0))(np.ones(2))
    with pytest.raises(ValueError, match="None only"):
        ng.vmap(np.sin, in_axes=None)(np.ones(2))


def test_every_batching_rule_is_of_an_op() -> None:
    assert set(RULES) <= set(ng.graph.records.OPS)


# -- errors


def test_errors_name_what_to_do() -> None:
    x = np.ones(3)
    with pytest.raises(ShapeError, match=r"grad: the function returned shape .*a scalar; use ng.jacobian.*test_tra"):
        ng.grad(lambda x: x * 2)(x)
    with pytest.raises(TypeError, match="returned a nest of 2 values, wanted one scalar.*has_aux"):
        ng.grad(lambda x: (np.sum(x), x))(x)
    with pytest.raises(DtypeError, match="argument 0 is int64; derivatives need a floating.*pass 3.0 for 3"):
        ng.grad(np.sum)(np.arange(3))
    with pytest.raises(DtypeError, match=r"argument 0\['n'\] is int64"):
        ng.grad(lambda p: p["x"] * p["n"])({"x": 1.0, "n": 2})
    with pytest.raises(DtypeError, match="returned int64, wanted a real floating scalar"):
        ng.grad(lambda x: np.argmax(x))(x)
    with pytest.raises(ValueError, match="argnums has 2, but 1 positional"):
        ng.grad(np.sum, argnums=2)(x)
    with pytest.raises(ValueError, match=r"argnums \(0, -1\) repeat"):
        ng.grad(np.sum, argnums=(0, -1))(x)
    with pytest.raises(ValueError, match="unknown mode 'sideways'"):
        ng.jacobian(np.sin, mode="sideways")(x)
    with pytest.raises(TypeError, match="grad: got a int, wanted a function"):
        ng.grad(3)
    with pytest.raises(ShapeError, match=r"hvp: the tangent of argument 0 has shape .*wanted"):
        ng.hvp(np.sum)(x, np.ones((3, 1)))
    with pytest.raises(ShapeError, match=r"jvp: the tangent of argument 0 has shape"):
        ng.jvp(np.sin, (x,), (np.ones(2),))
    with pytest.raises(ValueError, match="jvp: 1 primals and 2 tangents"):
        ng.jvp(np.sin, (x,), (x, x))
    with pytest.raises(TypeError, match="jvp: primals: got a ndarray, wanted a tuple"):
        ng.jvp(np.sin, x, x)
    with pytest.raises(ValueError, match="jvp: tangents: got a dict with keys"):
        ng.jvp(lambda p: p["a"], ({"a": x},), ({"b": x},))
    with pytest.raises(ShapeError, match=r"vjp: entry 0 has shape \(2,\), wanted \(3,\)"):
        ng.vjp(np.sin, x)[1](np.ones(2))
    with pytest.raises(DtypeError, match="vjp: entry 0 is complex128, wanted float64"):
        ng.vjp(np.sin, x)[1](np.ones(3) * 1j)
    with pytest.raises(ValueError, match="vjp: got ndarray, wanted tuple of 2"):
        ng.vjp(lambda x: (x, x), x)[1](x)


def test_names_and_documentation_follow_the_function() -> None:
    def loss(x: Any, *, scale: float = 1.0) -> Any:
        """Lose."""
        return np.sum(x) * scale

    gradient = ng.grad(loss)
    assert gradient.__name__ == "grad(loss)"
    np.testing.assert_array_equal(gradient(np.ones(2), scale=3.0), [3.0, 3.0])

"""associative_scan: outside traces and in them, over nests and axes, every size, with derivatives."""

import itertools

import numpy as np
import pytest

import numgrad as ng

rng = np.random.default_rng(3)


def matrices(a, b):
    return a @ b


def affine(a, b):
    """x -> a0 x + a1, then x -> b0 x + b1."""
    return {"slope": a["slope"] * b["slope"], "shift": b["slope"] * a["shift"] + b["shift"]}


def one_by_one(f, x, reverse=False):
    rows = list(x[::-1] if reverse else x)
    found = list(itertools.accumulate(rows, f))
    return np.stack(found[::-1] if reverse else found)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 33])
def test_products_of_matrices(n, reverse):
    x = rng.standard_normal((n, 2, 2))
    wanted = one_by_one(np.matmul, x, reverse)
    np.testing.assert_allclose(ng.associative_scan(matrices, x, reverse=reverse).numpy(), wanted, rtol=1e-9)
    program = ng.function(lambda x: ng.associative_scan(matrices, x, reverse=reverse))
    np.testing.assert_allclose(program(x), wanted, rtol=1e-12)

    def other_axis(a, b):
        return ng.permute_dims(ng.permute_dims(a, (1, 0, 2)) @ ng.permute_dims(b, (1, 0, 2)), (1, 0, 2))

    moved = ng.associative_scan(other_axis, np.moveaxis(x, 0, 1), reverse, axis=1)
    np.testing.assert_allclose(np.moveaxis(moved.numpy(), 1, 0), wanted, rtol=1e-9)


def test_one_trace_for_every_size():
    traced = []

    def f(x):
        traced.append(x)
        return ng.associative_scan(np.add, x, axis=-1)

    program = ng.function(f)
    for n in (1, 5, 100):
        x = rng.standard_normal((3, n))
        np.testing.assert_allclose(program(x), np.cumsum(x, 1), rtol=1e-12)
    assert len(traced) == 1
    assert program(np.zeros((3, 0))).shape == (3, 0)
    assert ng.associative_scan(np.add, np.zeros((0, 2))).shape == (0, 2)


def last_value(slopes, shifts):
    found = ng.associative_scan(affine, {"slope": slopes, "shift": shifts})
    return ng.sum(found["shift"] ** 2) + found["slope"][-1]


def plain(slopes, shifts):
    x, total, product = 0.0, 0.0, 1.0
    for a, b in zip(slopes, shifts):
        x, product = a * x + b, product * a
        total = total + x * x
    return total + product


def test_nests_and_derivatives():
    """Recurrences by composition of affine maps: both ways of running, gradients and a second derivative."""
    slopes, shifts = rng.uniform(0.5, 1.5, 9), rng.standard_normal(9)
    np.testing.assert_allclose(last_value(ng.asarray(slopes), ng.asarray(shifts)).numpy(), plain(slopes, shifts))
    np.testing.assert_allclose(ng.function(last_value)(slopes, shifts), plain(slopes, shifts))
    wanted = [plain(slopes + 1e-30j * e, shifts).imag / 1e-30 for e in np.eye(9)]
    np.testing.assert_allclose(ng.grad(last_value)(slopes, shifts), wanted, rtol=1e-12)
    given = ng.asarray(slopes)
    with ng.GradientTape() as tape:
        tape.watch(given)
        y = last_value(given, ng.asarray(shifts))
    np.testing.assert_allclose(tape.gradient(y, given).numpy(), wanted, rtol=1e-12)
    direction = rng.standard_normal(9)
    h = 1e-4
    bend = [np.array(ng.grad(last_value)(slopes + k * h * direction, shifts)) for k in (-2, -1, 1, 2)]
    np.testing.assert_allclose(ng.hvp(last_value)(slopes, direction, shifts),
                               (bend[0] - 8 * bend[1] + 8 * bend[2] - bend[3]) / (12 * h), rtol=1e-7)


def test_errors():
    with pytest.raises(ng.errors.ShapeError, match="got a scalar"):
        ng.associative_scan(np.add, 1.0)
    with pytest.raises(ng.errors.ShapeError, match="differ in size"):
        ng.associative_scan(lambda a, b: a, (np.ones(2), np.ones(3)))
    with pytest.raises(TypeError, match="another nest"):
        ng.associative_scan(lambda a, b: (a, b), np.ones(3))
    with pytest.raises(ng.errors.ShapeError, match="must stay the same"):
        ng.associative_scan(lambda a, b: ng.sum(a), np.ones(3))

"""Arrays that loops carry and update by rows: one buffer, and every reader sees what it asked for."""

import numpy as np
import pytest

import numgrad as ng
from numgrad.tracing.compiled import compile as compile_graph

rng = np.random.default_rng(11)
X = rng.standard_normal(40)


def bodies_of(f, *args):
    """The bodies of the loops of the compiled function, outermost first, and its outputs."""
    with ng.Graph().as_default():
        inputs = [ng.placeholder(np.asarray(a).dtype, [None] * np.ndim(a)) for a in args]
        outputs = f(*inputs)
        run = compile_graph(inputs, list(outputs) if isinstance(outputs, tuple) else [outputs])
    launches = run.program.code.all_launches()
    return [launch.bodies[-1] for launch in launches if launch.bodies], run(*args)


def check(f, *args, in_place):
    """Compiled results are the eager ones; the loops' carries in place are those expected."""
    bodies, got = bodies_of(f, *args)
    assert [set(body.in_place) for body in bodies] == in_place
    wanted = f(*map(ng.asarray, args))
    for mine, theirs in zip(got, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-12)


def written(x):
    def body(i, a):
        return i + 1, a.write(i, ng.sin(a.read(i - 1)) + 1.0)

    return ng.while_loop(lambda i, a: i < 40, body, (1, empty(40).write(0, x[0])))[1].stack()


def empty(size):
    return ng.TensorArray(ng.float64, size, ())


def nested(x):
    def row(i, a):
        return ng.fori_loop(0, 6, lambda j, a: a.write(6 * i + j, x[0] * j + a.read(ng.maximum(6 * i + j - 6, 0))), a)

    return ng.fori_loop(0, 6, row, empty(36).write(3, x[1])).stack()


def twice_a_step(x):
    """Two updates of one array, which is read before, between and after them."""
    def body(a, i):
        new = a.write(i, a.read(i + 1)).write(i + 2, a.read(i) * 0.3)
        return new, (new.stack(), new.read(i), a.read(i))

    a, ys = ng.scan(body, empty(40).unstack(x), np.arange(30))
    return (a.stack(), *ys)


def exchanged(x):
    """Arrays that change places cannot stay where they are."""
    def body(c, i):
        a, b = c
        return (b.write(i, a.read(i + 1)), a.write(i + 1, x[2])), a.read(i) * b.read(i)

    (a, b), y = ng.scan(body, (empty(40).unstack(x), empty(40)), np.arange(30))
    return a.stack(), b.stack(), y


def old_and_new(x):
    """The old array is asked for with what depends on the new one: it needs a buffer of its own."""
    def body(a, i):
        new = a.write(i, 2.0 * a.read(i))
        return new, ng.sum(a.stack() * ng.sin(new.read(i + 1)))

    a, y = ng.scan(body, empty(40).unstack(x), np.arange(30))
    return a.stack(), y


def by_indexing(x):
    def body(c, i):
        return ng.index_add(ng.index_update(c, i, c[i + 1]), i + 1, c[i]), ()

    return ng.scan(body, x, np.arange(30))[0]


def by_two_indices(x):
    table = ng.zeros((40, 40)) + x[0]

    def body(c, i):
        return ng.index_update(c, (i, i + 1), c[i + 1, i] + x[1]), ()

    return ng.scan(body, table, np.arange(30))[0]


@pytest.mark.parametrize("f, in_place", [
    (written, [{1}]), (nested, [{1}, {1}]), (twice_a_step, [{0}]), (exchanged, [set()]), (old_and_new, [set()]),
    (by_indexing, [{0}]), (by_two_indices, [{0}])], ids=lambda p: getattr(p, "__name__", ""))
def test_values(f, in_place):
    check(f, X, in_place=in_place)


@pytest.mark.parametrize("f", [written, nested, twice_a_step, exchanged, old_and_new, by_indexing, by_two_indices],
                         ids=lambda f: f.__name__)
def test_derivatives(f):
    def total(x):
        found = f(x)
        return sum(ng.sum(ng.sin(y)) for y in (found if isinstance(found, tuple) else (found,)))

    x = ng.asarray(X)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = total(x)
    wanted = ng.asarray(tape.gradient(y, x)).numpy()
    np.testing.assert_allclose(ng.grad(total)(X), wanted, rtol=1e-11, atol=1e-12)
    direction = rng.standard_normal(40)
    np.testing.assert_allclose(ng.jvp(total, (X,), (direction,))[1], wanted @ direction, rtol=1e-11)
    steps = [np.array(ng.grad(total)(X + k * 1e-4 * direction)) for k in (-2, -1, 1, 2)]
    np.testing.assert_allclose(ng.hvp(total)(X, direction), (steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / 12e-4,
                               rtol=1e-7, atol=1e-7)


def test_steps_take_no_longer_for_longer_arrays():
    """The work of a step does not depend on the size of the array that it writes to."""
    def steps(n):
        start = ng.TensorArray(ng.float64, n, ())
        return ng.fori_loop(0, 1000, lambda i, a: a.write(i, 1.0 * i), start).read(-1)

    bodies, _ = bodies_of(steps, np.int64(1 << 20))
    assert [set(body.in_place) for body in bodies] == [{1}]
    assert sum(int(launch.flops) for launch in bodies[0].launches) < 100


def test_tapes_of_arrays_grow_with_steps_alone():
    """Going back needs the elements that each step read: not the array as it was before each step."""
    def total(x, n):
        def body(i, a):
            return i + 1, a.write(i, ng.sin(a.read(i - 1)) * x)

        start = ng.TensorArray(ng.float64, n, ()).write(0, x)
        return ng.sum(ng.while_loop(lambda i, a: i < n, body, (1, start))[1].stack())

    gradient = ng.function(ng.grad(total))
    for n in (10, 1000):
        y, slope = np.sin(0.9) * 0.9, np.cos(0.9) * 0.9 + np.sin(0.9)
        total_slope = 1.0 + slope
        for _ in range(n - 2):
            y, slope = np.sin(y) * 0.9, np.cos(y) * slope * 0.9 + np.sin(y)
            total_slope += slope
        np.testing.assert_allclose(gradient(0.9, np.int64(n)), total_slope, rtol=1e-10)
        assert gradient.plan()["tape_bytes"] <= 3 * 8 * n


def test_gathers_from_captured_arrays_add_up_in_place():
    """K11: what a loop reads of an array around it gets its cotangents row by row, in one array."""
    def f(table, ids):
        return ng.scan(lambda c, i: (c + ng.sum(ng.take(table, i, axis=0) ** 2), ()), 0.0, ids)[0]

    table, ids = rng.standard_normal((50, 2)), np.array([3, 7, 3, 49])
    with ng.Graph().as_default():
        inputs = [ng.placeholder(ng.float64, (50, 2)), ng.placeholder(ng.int64, (None,))]
        run = compile_graph(inputs, ng.gradients(f(*inputs), inputs[0]))
    wanted = np.zeros((50, 2))
    np.add.at(wanted, ids, 2 * table[ids])
    np.testing.assert_allclose(run(table, ids)[0], wanted)
    backward = [launch.bodies[-1] for launch in run.program.code.all_launches() if launch.bodies]
    assert any(body.in_place for body in backward)

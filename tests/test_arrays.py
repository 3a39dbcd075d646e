"""Tensor arrays and lists: elements written and read one by one, in traces and loops and outside, and derivatives."""

import numpy as np
import pytest

import numgrad as ng

WEIGHTS = np.array([2.0, -1.0, 0.5])


def empty(size=3, shape=(), **options):
    return ng.TensorArray(ng.float64, size, shape, **options)


def taped(f, *args):
    """Gradients by a tape."""
    tensors = [ng.asarray(a) for a in args]
    with ng.GradientTape() as tape:
        for t in tensors:
            tape.watch(t)
        y = f(*tensors)
    return [None if g is None else ng.asarray(g).numpy() for g in tape.gradient(y, tensors)]


def in_graph(f, *args):
    """Gradients in a graph, by the interpreter."""
    with ng.Graph().as_default():
        xs = [ng.placeholder(ng.float64, np.shape(a)) for a in args]
        found = ng.gradients(f(*xs), xs)
        return [None if g is None else ng.run(ng.asarray(g), dict(zip(xs, args))) for g in found]


def compiled(f, *args):
    """Gradients of the compiled function, which gives zeros where there is no path."""
    return [ng.grad(f, k)(*args) for k in range(len(args))]


def agree(f, args, wanted, **tolerance):
    for way in (taped, in_graph, compiled):
        for got, want in zip(way(f, *args), wanted, strict=True):
            if got is None or want is None:
                assert want is None and (got is None or not np.any(got)), way.__name__
            else:
                np.testing.assert_allclose(got, want, err_msg=way.__name__, **tolerance)
    for k, (arg, want) in enumerate(zip(args, wanted, strict=True)):  # forward mode, along every unit vector
        for place in np.ndindex(np.shape(arg)):
            tangents = tuple(np.zeros(np.shape(a)) for a in args)
            tangents[k][place] = 1.0
            _, pushed = ng.jvp(f, args, tangents)
            np.testing.assert_allclose(pushed, 0.0 if want is None else np.asarray(want)[place], **tolerance)


# -- derivatives
def test_several_reads_of_an_element_add():
    """L1, U7: cotangents of all reads of one element are summed, in any scope and under any name."""
    def f(x):
        a = empty().write(1, x)
        return 2.0 * a.read(1) + 3.0 * a.read(1)

    agree(f, (1.5,), (5.0,))
    with ng.Graph().as_default():
        x = ng.placeholder(ng.float64, ())
        with ng.name_scope("foo/bar"):
            y = f(x)
        found = [ng.gradients(y, x, name=name)[0] for name in ("gradients", "foo", "gradients")]
        assert [float(ng.run(g, {x: 1.0})) for g in found] == [5.0, 5.0, 5.0]


def test_writes_and_reads_are_transposes():
    """L1: what is written gets the cotangent of the element that it became."""
    def f(x, y):
        a = empty().write(0, x * x).write(2, y)
        return WEIGHTS[0] * a.read(0) * a.read(2) + ng.sum(a.stack() * WEIGHTS)

    agree(f, (3.0, 4.0), (2.0 * 6.0 * 4.0 + 2.0 * 6.0, 2.0 * 9.0 + 0.5))


def test_gathers_and_scatters_are_transposes():
    """L1: a gather's cotangents are scattered and added, a scatter's are gathered; the last of equal indices counts."""
    def gathered(x):
        return ng.sum(empty(3, (2,)).unstack(x).gather(np.array([2, 0, 2])) ** 2)

    x = np.arange(6.0).reshape(3, 2)
    agree(gathered, (x,), (np.stack([2 * x[0], 0 * x[1], 4 * x[2]]),))

    def scattered(x):
        return ng.sum(empty(3, (2,)).scatter(np.array([1, 0, 1]), x).stack() ** 2)

    agree(scattered, (x,), (np.stack([0 * x[0], 2 * x[1], 2 * x[2]]),))


@pytest.mark.parametrize("lengths", [2, [1, 2, 3]], ids=["equal", "ragged"])
def test_concat_and_split_are_transposes(lengths):
    """L1: splitting undoes joining, and each is the derivative of the other."""
    values = np.arange(6.0)

    def there_and_back(x):
        return empty(3, None if np.ndim(lengths) else (2,)).split(x, lengths).concat()

    np.testing.assert_array_equal(there_and_back(values).numpy(), values)
    agree(lambda x: ng.sum(there_and_back(x) ** 3), (values,), (3 * values**2,))

    def first_rows(x):
        return ng.sum(empty(3, None if np.ndim(lengths) else (2,)).split(x, lengths).read(1) ** 2)

    wanted = np.zeros(6)
    wanted[slice(2, 4) if lengths == 2 else slice(1, 3)] = 2 * values[slice(2, 4) if lengths == 2 else slice(1, 3)]
    agree(first_rows, (values,), (wanted,))


def test_unset_and_overwritten_elements():
    """L4: unset elements read as zeros and take no gradient; overwriting leaves gradient to the last write alone."""
    agree(lambda x: empty().write(0, x).read(1) * x + x, (2.0,), (1.0,))
    assert empty(3, (2,)).read(2).numpy().tolist() == [0.0, 0.0]

    def overwritten(x, y):
        return 5.0 * empty().write(1, x).write(1, y).read(1)

    agree(overwritten, (2.0, 3.0), (0.0, 5.0))

    def read_between(x, y):
        a = empty().write(1, x)
        return a.read(1) * 2.0 + 5.0 * a.write(1, y).read(1)

    agree(read_between, (2.0, 3.0), (2.0, 5.0))
    with pytest.raises(ng.errors.ShapeError, match="element_shape"):
        empty(3, None).read(0)


def recurrence(x, n):
    """y[i] = sin(y[i-1]) + x * y[i-2], kept in an array that the loop carries."""
    def body(i, y):
        return i + 1, y.write(i, ng.sin(y.read(i - 1)) + x * y.read(i - 2))

    start = ng.TensorArray(ng.float64, n, ()).write(0, x).write(1, 1.0)
    return ng.sum(ng.while_loop(lambda i, y: i < n, body, (2, start))[1].stack() ** 2)


def plain_recurrence(x, n):
    y = [x, 1.0 + 0 * x]
    for i in range(2, n):
        y.append(np.sin(y[i - 1]) + x * y[i - 2])
    return sum(v * v for v in y)


def test_arrays_in_loops_of_every_length():
    """L1: an array carried by a loop, read and written at indices that the loop computes, to the second order."""
    program = ng.function(recurrence)
    h = 1e-30
    for n in (2, 3, 7, 20):
        size = np.int64(n)
        np.testing.assert_allclose(program(0.7, size), plain_recurrence(0.7, n), rtol=1e-14)
        np.testing.assert_allclose(recurrence(ng.asarray(0.7), n).numpy(), plain_recurrence(0.7, n), rtol=1e-14)
        slope = plain_recurrence(0.7 + 1j * h, n).imag / h
        np.testing.assert_allclose(ng.grad(recurrence)(0.7, size), slope, rtol=1e-12)
        np.testing.assert_allclose(taped(lambda x, n=n: recurrence(x, n), 0.7)[0], slope, rtol=1e-12)
        np.testing.assert_allclose(ng.jvp(lambda x, n=size: recurrence(x, n), (0.7,), (1.0,))[1], slope, rtol=1e-12)
        bend = [plain_recurrence(0.7 + s * 2e-4 + 1j * h, n).imag / h for s in (-2, -1, 1, 2)]
        bend = (bend[0] - 8 * bend[1] + 8 * bend[2] - bend[3]) / 24e-4
        np.testing.assert_allclose(ng.grad(ng.grad(recurrence))(0.7, size), bend, rtol=1e-7)
        mixed = ng.jvp(lambda x, n=size: ng.grad(recurrence)(x, n), (0.7,), (1.0,))[1]
        np.testing.assert_allclose(mixed, bend, rtol=1e-7)


def test_batches_of_arrays():
    """Every example of a batch has an array of its own, whatever its indices."""
    def f(x, k):
        return ng.sum(empty(4).write(k, x).write(k + 1, x * x).stack() * np.arange(4.0))

    xs, ks = np.array([1.0, 2.0, 3.0]), np.array([0, 2, 1])
    np.testing.assert_allclose(ng.vmap(f)(xs, ks), [f(ng.asarray(x), k).numpy() for x, k in zip(xs, ks)])
    np.testing.assert_allclose(ng.vmap(ng.grad(f), in_axes=(0, None))(xs, 2), 2.0 + 6.0 * xs)


# -- what arrays are
def test_arrays_are_nests():
    """Functions take and return them; a gradient with respect to one is one."""
    made = ng.function(lambda x: empty(3, (2,)).write(0, x))(np.array([1.0, 2.0]))
    assert isinstance(made, ng.TensorArray) and made.size == 3 and made.element_shape == (2,)
    np.testing.assert_array_equal(made.read(0).numpy(), [1.0, 2.0])
    slope = ng.grad(lambda a: ng.sum(a.stack() ** 2))(made)
    np.testing.assert_array_equal(slope.stack().numpy(), [[2.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    assert repr(made) == "<numgrad.TensorArray size=3 element_shape=(2,) dtype=float64>"


def test_the_size_may_be_a_tensor():
    f = ng.function(lambda n, x: ng.TensorArray(ng.float64, 2 * n - 1, ()).write(-1, x).stack())
    for n in (1, 4):
        wanted = np.zeros(2 * n - 1)
        wanted[-1] = 3.0
        np.testing.assert_array_equal(f(np.int64(n), 3.0), wanted)
    with pytest.raises(ng.errors.ShapeError, match=r"size -1 .*test_arrays"):
        f(np.int64(0), 3.0)
    with pytest.raises(ng.errors.ShapeError, match=r"size is -1, wanted at least 0"):
        empty(-1)
    with ng.Graph().as_default():
        n = ng.placeholder(ng.int32, ())
        stacked = ng.TensorArray(ng.float64, n, (2,)).stack()
        assert ng.run(stacked, {n: 3}).shape == (3, 2)
        with pytest.raises(ng.errors.ShapeError, match="wanted at least 0"):
            ng.run(stacked, {n: -3})
    with pytest.raises(ng.errors.ShapeError, match="known only inside a loop"):
        ng.function(lambda x: ng.fori_loop(0, 3, lambda i, y: y + ng.sum(empty(i + 0).stack()), x))(1.0)
    with pytest.raises(ng.errors.DtypeError, match="wanted a scalar integer"):
        empty(1.5)


def test_elements_read_once():
    a = empty(3, clear_after_read=True).write(0, 1.0).write(1, 2.0)
    assert float(a.read(0)) == 1.0
    with pytest.raises(IndexError, match=r"element 0 was read before.*test_arrays"):
        a.read(0)
    again = a.write(0, 5.0)
    assert float(again.read(0)) == 5.0
    with pytest.raises(IndexError, match="TensorArray.stack: element 0"):
        again.stack()
    _, total = ng.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s + a.write(0, 1.0).read(0)), (0, 0.0))
    assert float(total) == 3.0
    with pytest.raises(IndexError, match="read before"):
        ng.while_loop(lambda i, b: i < 2, lambda i, b: (i + 1, b.write(2, b.read(1))), (0, again))
    ragged = empty(2, (None,), clear_after_read=True).write(0, [1.0])
    ragged.read(0)
    with pytest.raises(IndexError, match="read before"):
        ragged.read(0)


def test_ragged_arrays():
    a = empty(3, (None, 2)).write(0, np.ones((2, 2))).write(2, np.zeros((1, 2)))
    assert a.ragged and [a.read(k).shape for k in range(3)] == [(2, 2), (0, 2), (1, 2)]
    assert a.concat().shape == (3, 2) and a.grow(5).size == 5
    with pytest.raises(ng.errors.ShapeError, match=r"the elements have shapes \(2,2\), \(0,2\), \(1,2\)"):
        a.stack()
    with pytest.raises(ng.errors.ShapeError, match=r"shape \(2,3\), wanted \(any, 2\)"):
        a.write(1, np.zeros((2, 3)))
    loop = ng.while_loop(lambda i, b: i < 3, lambda i, b: (i + 1, b.write(i, np.full(int(i), 1.0 * i))),
                         (0, empty(3, (None,))))
    np.testing.assert_array_equal(loop[1].concat().numpy(), [1.0, 2.0, 2.0])
    with pytest.raises(ng.errors.ShapeError, match="the index must be known"):
        ng.function(lambda k: empty(3, (None,)).read(k))(np.int64(1))


def test_growing_and_joining():
    a = empty(2, (2,)).unstack([[1.0, 2.0], [3.0, 4.0]])
    assert a.grow(3).stack().numpy().tolist() == [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]
    assert a.concat().numpy().tolist() == [1.0, 2.0, 3.0, 4.0] and len(a) == 2 and a.dtype == np.float64
    with pytest.raises(ng.errors.ShapeError, match="do not fit into 1"):
        a.grow(1)
    with pytest.raises(ng.errors.ShapeError, match="scalars have no axis"):
        empty().concat()
    with pytest.raises(ng.errors.ShapeError, match=r"pieces of \[1, 3\]"):
        empty(2, (2,)).split(np.arange(4.0), [1, 3])


def test_errors_name_method_and_line():
    for bad, error, message in (
            (lambda: empty().read(3), IndexError, r"TensorArray.read: index 3 is out of range for 3 .*test_arrays"),
            (lambda: empty().write(-4, 1.0), IndexError, "TensorArray.write: index -4"),
            (lambda: empty().write(0, [1.0]), ng.errors.ShapeError, r"an element of shape \(1,\), wanted \(\)"),
            (lambda: empty().write(0, 1j), ng.errors.DtypeError, "got complex128 for an array of float64"),
            (lambda: empty().write(0.0, 1.0), ng.errors.DtypeError, "wanted a scalar integer"),
            (lambda: empty().unstack(1.0), ng.errors.ShapeError, "got a scalar"),
            (lambda: empty().scatter(0, [1.0]), ng.errors.ShapeError, "wanted one axis")):
        with pytest.raises(error, match=message):
            bad()
    f = ng.function(lambda k, x: empty().write(k, x).stack())
    assert f(np.int64(-1), 2.0).tolist() == [0.0, 0.0, 2.0]
    with pytest.raises(IndexError, match=r"out of range for the axis .*test_arrays"):
        f(np.int64(3), 2.0)
    assert f(np.int64(0), 2.0).tolist() == [2.0, 0.0, 0.0]


# -- lists
def halves(x, capacity=None):
    """The numbers x, x / 3, ... above 1, each times the last of them."""
    held = ng.TensorList(ng.float64, (), capacity)
    _, held = ng.while_loop(lambda y, a: y > 1.0, lambda y, a: (y / 3.0, a.push_back(y)), (x, held))
    return held.stack() * held.get(-1)


def test_lists_of_a_length_that_depends_on_data():
    f, slope = ng.function(lambda x: halves(x, 20)), ng.grad(lambda x: ng.sum(halves(x, 20)))
    for x in (2.0, 100.0, 5e8):
        wanted = np.array([x / 3.0**k for k in range(int(np.ceil(np.log(x) / np.log(3.0))))])
        np.testing.assert_allclose(halves(ng.asarray(x)).numpy(), wanted * wanted[-1], rtol=1e-14)
        np.testing.assert_allclose(f(x), wanted * wanted[-1], rtol=1e-14)
        np.testing.assert_allclose(slope(x), 2 * np.sum(wanted * wanted[-1]) / x, rtol=1e-13)
        np.testing.assert_allclose(taped(lambda x: ng.sum(halves(x)), x)[0], 2 * np.sum(wanted * wanted[-1]) / x)
    with pytest.raises(IndexError, match=r"out of range.*test_arrays"):
        f(1e30)
    with pytest.raises(ng.errors.ShapeError, match="a traced list cannot grow.*give TensorList a capacity"):
        ng.function(halves)(3.0)


def test_both_ends_of_lists():
    held = ng.TensorList(ng.float64, (2,)).push_back([1.0, 2.0]).push_back([3.0, 4.0])
    shorter, last = held.pop_back()
    assert len(held) == 2 and len(shorter) == 1 and last.numpy().tolist() == [3.0, 4.0]
    assert held.set(-2, [0.0, 0.0]).stack().numpy().tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert held.element_shape == (2,) and held.dtype == np.float64
    for bad, message in ((lambda: held.get(2), "get: index 2 is out of range for 2"),
                         (lambda: shorter.pop_back()[0].pop_back(), "index -1 is out of range for 0"),
                         (lambda: ng.TensorList(ng.float64, (), 0).push_back(1.0), "the list is full")):
        with pytest.raises(IndexError, match=message):
            bad()

    def popped(x):
        held, last = ng.TensorList(ng.float64, (), 4).push_back(x).push_back(x * x).pop_back()
        return last + 3.0 * held.get(0) + held.push_back(2.0 * x).get(1)

    agree(popped, (5.0,), (10.0 + 3.0 + 2.0,))
    with pytest.raises(IndexError, match="out of range"):
        ng.function(lambda x: ng.TensorList(ng.float64, (), 4).push_back(x).get(1))(1.0)


# -- shapes that change
def test_shapes_change_where_they_are_declared():
    """K1: a loop variable may grow outside traces where shape_invariants say so, with derivatives of every order."""
    def powers(x, invariants=(None, (None,))):
        return ng.sum(ng.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, ng.concat([y, y[-1:] * x])),
                                    (0, ng.reshape(x, (1,))), shape_invariants=invariants)[1])

    assert float(powers(ng.asarray(2.0))) == 62.0
    assert taped(powers, 2.0)[0] == 1.0 + 4.0 + 12.0 + 32.0 + 80.0
    assert taped(lambda x: _slope(powers, x), 2.0)[0] == 2.0 + 12.0 + 48.0 + 160.0
    x = ng.asarray(2.0)
    with pytest.raises(ng.errors.ShapeError, match="its shape must stay the same"):
        powers(x, None)
    with pytest.raises(ng.errors.ShapeError, match=r"returns \(2,\); shape_invariants declare \(1,\)"):
        powers(x, (None, (1,)))
    with pytest.raises(ng.errors.ShapeError, match=r"declare \(None, 2\) for loop variable 1, which starts with"):
        powers(x, (None, (None, 2)))
    with pytest.raises(ValueError, match="one entry for each of the 2"):
        powers(x, (None,))
    with pytest.raises(ng.errors.ShapeError, match="traced loop keeps all shapes.*TensorArray"):
        ng.function(powers)(2.0)


def _slope(f, x):
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x)

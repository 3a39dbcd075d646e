"""NumPy's functions on tensors: the same values and dtypes as on arrays, and refusals that help."""

import warnings

import numpy as np
import pytest
import scipy.special

import numgrad as ng
from numgrad import protocols
from numgrad.tracing import composed

a = np.array([[1.0, 2.0], [3.0, 4.5]])

CASES = {
    "sin": lambda x: np.sin(x),
    "sum": lambda x: np.sum(x, axis=0),
    "sumk": lambda x: np.sum(x, axis=1, keepdims=True),
    "mean": lambda x: np.mean(x),
    "std": lambda x: np.std(x, axis=0),
    "solve": lambda x: np.linalg.solve(x, np.ones(2)),
    "cat": lambda x: np.concatenate([x, a], axis=1),
    "where": lambda x: np.where(x>2, x, 0.0),
    "einsum": lambda x: np.einsum('ij, jk->ik', x, a),
    "norm": lambda x: np.linalg.norm(x),
    "norm1": lambda x: np.linalg.norm(x, axis=1),
    "dot": lambda x: np.dot(a, x),
    "mm": lambda x: a@x,
    "radd": lambda x: a+x,
    "rmul": lambda x: 2*x,
    "pow": lambda x: x**2,
    "T": lambda x: x.T@a,
    "stack": lambda x: np.stack([x, x]),
    "vstack": lambda x: np.vstack([x, a]),
    "clip": lambda x: np.clip(x, 1.5, 3),
    "max": lambda x: np.max(x, axis=1),
    "redu": lambda x: np.add.reduce(x),
    "acc": lambda x: np.multiply.accumulate(x, axis=1),
    "outer": lambda x: np.multiply.outer(x[0], x[1]),
    "diag": lambda x: np.diag(x),
    "trace": lambda x: np.trace(x),
    "inv": lambda x: np.linalg.inv(x),
    "det": lambda x: np.linalg.det(x),
    "slog": lambda x: np.linalg.slogdet(x)[1],
    "cum": lambda x: np.cumsum(x, axis=0),
    "tril": lambda x: np.tril(x),
    "pad": lambda x: np.pad(x, 1, mode='edge'),
    "resh": lambda x: np.reshape(x, (4, )),
    "ravel": lambda x: np.ravel(x),
    "tr": lambda x: np.transpose(x),
    "roll": lambda x: np.roll(x, 1, axis=0),
    "tens": lambda x: np.tensordot(x, a, axes=1),
    "exp2": lambda x: np.exp2(x),
    "log1p": lambda x: np.log1p(x),
    "argmax": lambda x: np.argmax(x, axis=1),
    "sort": lambda x: np.sort(x, axis=0),
    "abs": lambda x: np.abs(x),
    "round": lambda x: np.round(x, 1),
    "chol": lambda x: np.linalg.cholesky(x@x.T),
    "outer2": lambda x: np.outer(x[0], x[1]),
    "zeros": lambda x: np.zeros_like(x)+x,
    "sq": lambda x: np.square(x),
    "exd": lambda x: np.expand_dims(x, 0),
    "swap": lambda x: np.swapaxes(x, 0, 1),
    "prod": lambda x: np.prod(x),
    "min": lambda x: x.min(),
    "any": lambda x: np.any(x>3),
    "arctan2": lambda x: np.arctan2(x, a),
    "hyp": lambda x: np.hypot(x, a),
    "logaddexp": lambda x: np.logaddexp(x, a),
    "tile": lambda x: np.tile(x, (2, 1)),
    "rep": lambda x: np.repeat(x, 2, axis=0),
    "take": lambda x: np.take(x, [0, 0], axis=0),
    "quad": lambda x: x[0]@x@x[1],
    "var": lambda x: np.var(x, ddof=1),
    "median": lambda x: np.median(x),
    "split": lambda x: np.split(x, 2)[1],
    "eigh": lambda x: np.linalg.eigh(x@x.T)[0],
    "svd": lambda x: np.linalg.svd(x)[1],
    "isclose": lambda x: np.isclose(x, a),
    "cross": lambda x: np.cross(np.array([1., 2, 3]), np.concatenate([x[0], x[0, :1]])),
    "kron": lambda x: np.kron(x, a),
    "size": lambda x: x/np.size(x),
    "shape": lambda x: x*np.shape(x)[0],
    "atleast": lambda x: np.atleast_2d(x),
    "flip": lambda x: np.flip(x, 0),
    "nan": lambda x: np.nan_to_num(x),
    "amax": lambda x: np.amax(x),
    "meshgrid": lambda x: np.meshgrid(x[0], x[1])[0],
    "apply": lambda x: np.full_like(x, 2.0)*x,
    "count": lambda x: np.count_nonzero(x>2),
    "searchs": lambda x: np.searchsorted(x[0], x[1]),
    "cond": lambda x: np.linalg.cond(x),
    "fl": lambda x: np.floor(x),
    "mod": lambda x: np.mod(x, 1.5),
    "sgn": lambda x: np.sign(x),
    "bcast": lambda x: np.broadcast_to(x, (3, 2, 2)),
    "mv": lambda x: np.moveaxis(x, 0, 1),
    "sinc": lambda x: np.sinc(x),
    "deg": lambda x: np.deg2rad(x),
    "vdot": lambda x: np.vdot(x, a),
    "inner": lambda x: np.inner(x, a),
    "matrix_power": lambda x: np.linalg.matrix_power(x, 3),
    "pinv": lambda x: np.linalg.pinv(x),
}


@pytest.mark.parametrize("name", CASES)
def test_numpy_functions_take_traced_tensors(name):
    found, wanted = np.asarray(ng.function(CASES[name])(a)), np.asarray(CASES[name](a))
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_numpy_functions_take_eager_tensors(name):
    found = CASES[name](ng.asarray(a))
    assert isinstance(found, ng.Tensor)
    np.testing.assert_allclose(found.numpy(), CASES[name](a), rtol=1e-12, atol=1e-12)


def _unary_ufuncs():
    return [u for u in (getattr(np, n) for n in sorted(dir(np))) if isinstance(u, np.ufunc) and u.nin == u.nout == 1]


@pytest.mark.parametrize("ufunc", _unary_ufuncs(), ids=lambda u: u.__name__)
def test_every_unary_ufunc_agrees_or_refuses(ufunc):
    x = np.array([0.25, 0.5])
    try:
        wanted = ufunc(x)
    except TypeError:
        pytest.skip("NumPy does not take floats here")
    if protocols.ufunc_for(ufunc) is None:
        with pytest.raises(ng.errors.DtypeError, match="not implemented for tensors"):
            ufunc(ng.asarray(x))
    else:
        np.testing.assert_allclose(ufunc(ng.asarray(x)).numpy(), wanted, rtol=1e-13)


def test_ufuncs_without_a_twin_are_few():
    missing = {u.__name__ for u in _unary_ufuncs() if protocols.ufunc_for(u) is None}
    assert missing <= {"spacing", "isnat", "bitwise_count"}


def test_methods_of_ufuncs():
    t = ng.asarray(a)
    np.testing.assert_array_equal(np.add.reduce(t).numpy(), np.add.reduce(a))
    np.testing.assert_array_equal(np.maximum.accumulate(t, axis=1).numpy(), np.maximum.accumulate(a, axis=1))
    np.testing.assert_array_equal(np.subtract.outer(t[0], t[1]).numpy(), np.subtract.outer(a[0], a[1]))
    quotient, rest = np.divmod(t, 2.0)
    np.testing.assert_array_equal(quotient.numpy(), a // 2.0)
    np.testing.assert_array_equal(rest.numpy(), a % 2.0)
    with pytest.raises(ng.errors.DtypeError, match="numpy.add.reduceat is not implemented"):
        np.add.reduceat(t, [0, 1])


def test_scipy_special_functions():
    f = ng.grad(lambda x: np.sum(scipy.special.expit(x) * scipy.special.gammaln(x)))
    s = scipy.special.expit(1.5)
    wanted = s * (1 - s) * scipy.special.gammaln(1.5) + s * scipy.special.psi(1.5)
    np.testing.assert_allclose(f(np.array([1.5])), [wanted], rtol=1e-13)


def test_what_cannot_be_done_is_refused_with_advice():
    t = ng.asarray(a)
    with pytest.raises(ng.errors.DtypeError, match="out= cannot be used.*test_protocols.py"):
        np.sin(t, out=np.empty((2, 2)))
    with pytest.raises(ng.errors.DtypeError, match="where= cannot be used"):
        np.sum(t, where=a > 2)
    with pytest.raises(ng.errors.DtypeError, match="numpy.fft.* is not implemented for tensors"):
        np.fft.fft(t)


def test_arrays_on_the_left_give_tensors():
    for result in (a + ng.asarray(a), a @ ng.asarray(a), 2 * ng.asarray(a), np.float64(2.0) * ng.asarray(a)):
        assert isinstance(result, ng.Tensor)


def test_namespace():
    assert ng.asarray(a).__array_namespace__() is ng


ARGUMENTS = {
    "axis and dtype by position": lambda x: np.sum(x, 0, np.float32),
    "everything at its default": lambda x: np.sum(x, None, None, None, np._NoValue, np._NoValue, np._NoValue),
    "keepdims by position": lambda x: np.max(x, 1, None, True),
    "ddof by position": lambda x: np.var(x, 0, None, None, 1),
    "correction": lambda x: np.std(x, correction=1),
    "bounds by name": lambda x: np.clip(x, a_min=1.5, a_max=None),
    "bounds of the Array API": lambda x: np.clip(x, min=1.5),
    "order of a reshape": lambda x: np.reshape(x, (4,), "F"),
    "offset and axes": lambda x: np.diagonal(x, 1, 0, 1),
    "axis of a take": lambda x: np.take(x, [1, 0], 1),
    "axis of a concatenation": lambda x: np.concatenate((x, x), 1),
    "padding options": lambda x: np.pad(x, 1, constant_values=3.0),
    "indexing of a grid": lambda x: np.meshgrid(x[0], x[1], indexing="ij")[1],
    "optimize": lambda x: np.einsum("ij,jk->ki", x, x, optimize=True),
    "ord and axis": lambda x: np.linalg.norm(x, 1, 0, True),
    "dtype of a ufunc": lambda x: np.multiply(x, x, dtype=np.float32),
    "reduce": lambda x: np.logical_and.reduce(x > 1, axis=None),
    "reduce by position": lambda x: np.add.reduce(x, 1),
    "accumulate by position": lambda x: np.minimum.accumulate(x, 1),
    "logaddexp.reduce": lambda x: np.logaddexp.reduce(x, axis=1),
}
COMPOSED = {
    "append": lambda x: np.append(x, x[:1], axis=0),
    "append flat": lambda x: np.append(x, 1.0),
    "array_equal": lambda x: np.array_equal(x, x),
    "array_equal of other shapes": lambda x: np.array_equal(x, x[0]),
    "average": lambda x: np.average(x),
    "average by weights": lambda x: np.average(x, axis=0, weights=x),
    "average by weights of an axis": lambda x: np.average(x, axis=1, weights=np.array([1.0, 3.0])),
    "copy": lambda x: np.copy(x),
    "copy of bools": lambda x: np.copy(x > 2),
    "cov": lambda x: np.cov(x),
    "cov of columns": lambda x: np.cov(x, rowvar=False, bias=True),
    "diagflat": lambda x: np.diagflat(x, 1),
    "diff": lambda x: np.diff(x, axis=0),
    "second diff": lambda x: np.diff(np.concatenate([x, x], 1), 2),
    "diff of bools": lambda x: np.diff(x > 2),
    "fix": lambda x: np.fix(x - 2.5),
    "hsplit": lambda x: np.hsplit(x, 2)[1],
    "vsplit": lambda x: np.vsplit(x, 2)[1],
    "isneginf": lambda x: np.isneginf(np.log(x - 1)),
    "isposinf": lambda x: np.isposinf(1 / (x - 1)),
    "nansum": lambda x: np.nansum(np.log(2.5 - x), axis=1),
    "nanprod": lambda x: np.nanprod(np.log(2.5 - x)),
    "nanmean": lambda x: np.nanmean(np.log(2.5 - x), axis=0, keepdims=True),
    "nanmax": lambda x: np.nanmax(np.log(2.5 - x), axis=1),
    "nanmin": lambda x: np.nanmin(np.log(2.5 - x)),
    "polyval": lambda x: np.polyval(x[1], x),
    "ptp": lambda x: np.ptp(x, axis=1),
    "select": lambda x: np.select([x < 1.5, x < 2.5], [x, x * 10], -1.0),
    "trapezoid": lambda x: np.trapezoid(x),
    "trapezoid over places": lambda x: np.trapezoid(x, np.array([0.0, 3.0]), axis=0),
}


@pytest.mark.parametrize("name", [*ARGUMENTS, *COMPOSED])
def test_arguments_have_numpys_meaning(name):
    f = ARGUMENTS.get(name) or COMPOSED[name]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows that hold nan only
        wanted = np.asarray(f(a))
    found = ng.function(f)(a)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if wanted.dtype == np.float32 else 1e-12)


def test_every_composed_function_is_tested():
    tested = {name.split()[0] for name in COMPOSED}
    assert set(composed.COMPOSED) - tested == {"dsplit", "iscomplexobj", "isrealobj", "result_type", "can_cast"}
    t = ng.asarray(a)
    assert np.iscomplexobj(t * 1j) and np.isrealobj(t) and np.can_cast(t, np.float32) is False
    assert np.result_type(t, np.float32) == np.float64
    assert len(np.dsplit(ng.reshape(t, (1, 2, 2)), 2)) == 2


def test_derivatives_flow_through_numpy_functions():
    f = lambda x: np.average(np.diff(np.cumsum(x, axis=0), axis=1), weights=x[:, :1] ** 2) + np.nanmean(np.log(x))  # noqa: E731
    gradient, step = ng.grad(f)(a), 1e-6
    for place in np.ndindex(a.shape):
        moved = np.zeros_like(a)
        moved[place] = step
        np.testing.assert_allclose(gradient[place], (f(a + moved) - f(a - moved)) / (2 * step), rtol=1e-6)


REFUSED = {
    "nonzero": (lambda x: np.nonzero(x), "the size of its result depends on values"),
    "unique": (lambda x: np.unique(x), "weights of 0 and 1"),
    "put": (lambda x: np.put(x, 0, 1.0), "never changed in place; use ng.where"),
    "add.at": (lambda x: np.add.at(x, 0, 1.0), "never changed in place"),
    "eig": (lambda x: np.linalg.eig(x), "use ng.linalg.eigh"),
    "histogram": (lambda x: np.histogram(x), "look for it under ng"),
    "prepend": (lambda x: np.diff(x, prepend=1.0), "prepend= cannot be used"),
    "initial": (lambda x: np.sum(x, initial=3.0), "initial= cannot be used"),
    "frexp": (lambda x: np.frexp(x), "numpy.frexp is not implemented"),
    "out of a function": (lambda x: np.sum(x, out=np.zeros(())), "out= cannot be used"),
    "in place": (lambda x: np.ones((2, 2)).__iadd__(x), "out= cannot be used"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_use(name):
    f, text = REFUSED[name]
    for call in (lambda: f(ng.asarray(a)), lambda: ng.function(f)(a)):
        with pytest.raises(ng.errors.DtypeError, match=f"{text}.*test_protocols.py"):
            call()


def test_other_libraries_arrays_go_first():
    class Other:
        __array_priority__ = 1e9

        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            return "other"

    assert np.add(ng.asarray(a), Other()) == "other"

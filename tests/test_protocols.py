"""NumPy's functions on tensors: the same values and dtypes as on arrays, and refusals that help."""

import numpy as np
import pytest
import scipy.special

import numgrad as ng
from numgrad import protocols

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

"""Cases and oracles for tests that enumerate the op table: arrays, meanings by name, derivatives by differences."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import mpmath
import numpy as np
from scipy import special

from numgrad.graph.core import Tensor, apply_all, as_tensor, placeholder
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, OpRecord

DTYPES = [np.dtype(c) for c in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()]

#: Ops that the oracles cannot be asked about, and why.
WITHOUT_CASES = {
    "constant": "its value is its attribute",
    "placeholder": "has no value of its own",
    "size": "holds a size of a graph",
    "cotangent_seed": "is never evaluated",
    "variable": "its value is its variable's: tests/test_variable.py",
    "custom_gradient": "its derivative is the user's: tests/test_custom_gradient.py",
    "py_function": "its value and derivative are the user's: tests/test_extend.py",
    "njit_function": "its value and derivative are the user's: tests/test_extend.py",
    "recompute_grad": "its derivative is that of a function: tests/test_recompute.py",
    "scan": "its meaning is its body's: tests/test_control.py",
    "adjoint_scan": "its meaning is its bodies': tests/test_checkpoints.py",
    "while_loop": "its meaning is its body's: tests/test_control.py",
    "switch": "its meaning is its branches': tests/test_control.py",
    "trip_count": "counts the trips of a body: tests/test_control.py",
    "as_size": "gives its value to a size of the graph: tests/test_arrays.py",
}

NUMPY_NAMES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "atan2": "arctan2", "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
    "bitwise_invert": "invert",
    "round": "rint", "identity": "positive",
}  # fmt: skip


def _no_nan(function: np.ufunc) -> Callable[..., Any]:
    return lambda x, y: function(x, y, out=np.zeros(np.broadcast_shapes(x.shape, y.shape), x.dtype), where=y != 0)


def _pairs(re: Any, im: Any) -> Any:
    return np.stack(np.broadcast_arrays(re, im), axis=-1).astype(re.dtype.newbyteorder("="))


def _cast(x: Any, dtype: Any) -> Any:
    return (x.real if np.iscomplexobj(x) and np.dtype(dtype).kind in "iuf" else x).astype(dtype)


MEANINGS: dict[str, Callable[..., Any]] = {
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": special.expit,
    "log_sigmoid": special.log_expit,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": special.erf,
    "erfc": special.erfc,
    "erfinv": special.erfinv,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
    "polygamma": lambda x, n: special.polygamma(n, x),
    "xlogy": special.xlogy,
    "xlog1py": special.xlog1py,
    "divide_no_nan": _no_nan(np.divide),
    "multiply_no_nan": _no_nan(np.multiply),
    "make_complex": lambda re, im: _pairs(re, im).view(np.result_type(re, np.complex64))[..., 0],
    "identity": np.array,
    "stop_gradient": np.array,
    "prevent_gradient": lambda x, message: np.array(x),
    "clip": np.clip,
    "cast": _cast,
    "real": np.real,
    "imag": np.imag,
    "angle": np.angle,
    "where": np.where,
    "add_n": lambda *arrays: np.sum(np.stack(arrays), axis=0, dtype=arrays[0].dtype),
}


def meaning(name: str) -> Callable[..., Any]:
    """The NumPy or SciPy function that an elementwise op is promised to be: by its name, not through its record."""
    return MEANINGS.get(name) or getattr(np, NUMPY_NAMES.get(name, name))


class Case(NamedTuple):
    """Arrays and attributes for one op."""

    arrays: tuple[Any, ...]
    attrs: Mapping[str, Any]
    label: str


def generator(*words: Any) -> np.random.Generator:
    """Random numbers that depend on the words alone."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def operand_dtypes(record: OpRecord, dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
    """The dtypes of an elementwise op's operands when its main dtype is `dtype`."""
    count = record.facts.get("arity", 1)
    return [np.dtype(bool) if record.name == "where" and i == 0 else dtype for i in range(count)]


def ordinary(record: OpRecord, dtype: np.dtype[Any], shape: Sequence[int], position: int, seed: Any = 0) -> Any:
    """Random numbers inside an op's domain."""
    rng = generator(record.name, dtype.name, position, seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        low = 1 if record.name == "reciprocal" else 0 if dtype.kind == "u" or position and _counts(record) else -5
        return rng.integers(low, 6, shape).astype(dtype)
    lo, hi = (record.domain[position] if position < len(record.domain) else None) or (-3.0, 3.0)
    values = rng.uniform(lo, hi, shape)
    return (values + 1j * rng.uniform(0.2, 0.8, shape) if dtype.kind == "c" else values).astype(dtype)


def _counts(record: OpRecord) -> bool:
    return record.name in ("power", "bitwise_left_shift", "bitwise_right_shift")  # negative ones have no meaning


def _special(dtype: np.dtype[Any]) -> list[float]:
    if dtype.kind != "f":
        return []
    info = np.finfo(dtype)
    return [
        np.nan,
        np.inf,
        -np.inf,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.5,
        -2.5,
        12.0,
        float(info.max),
        float(info.tiny),
    ]


def value_cases(record: OpRecord) -> Iterator[Case]:
    """Vectors of every dtype that an elementwise op takes: ordinary numbers, and all pairs of special floats."""
    for dtype in DTYPES:
        if dtype.kind not in record.dtypes or (record.name == "make_complex" and dtype == np.float16):
            continue
        dtypes = operand_dtypes(record, dtype)
        columns = []
        for position, own in enumerate(dtypes):
            extra = np.array(_special(own) if len(dtypes) < 3 else _special(own)[:6], own)
            columns.append(np.concatenate([ordinary(record, own, (7,), position), extra]))
        grid = np.meshgrid(*columns, indexing="ij")
        yield Case(tuple(np.ascontiguousarray(g.ravel()) for g in grid), {}, dtype.name)


def layouts(array: Any) -> dict[str, Any]:
    """The same kind of array in the ways in which memory can be laid out."""
    frozen = array.copy()
    frozen.flags.writeable = False
    return {
        "contiguous": array,
        "strided": np.repeat(array, 2, axis=-1)[..., ::2],
        "transposed": np.ascontiguousarray(array.T).T,
        "reversed": array[::-1, ::-1].copy()[::-1, ::-1],
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "read-only": frozen,
        "broadcast": np.broadcast_to(array[:1, :1], array.shape),
    }


def main_dtype(record: OpRecord) -> np.dtype[Any]:
    """The dtype in which shapes and layouts are tried."""
    return next(d for d in map(np.dtype, ("f8", "c16", "i8", "?")) if d.kind in record.dtypes)


def layout_cases(record: OpRecord) -> Iterator[Case]:
    """Matrices in every layout, 0-d, empty and broadcast operands."""
    dtypes = operand_dtypes(record, main_dtype(record))
    matrices = [ordinary(record, d, (3, 4), i) for i, d in enumerate(dtypes)]
    for label in layouts(matrices[0]):
        yield Case(tuple(layouts(m)[label] for m in matrices), {}, label)
    shapes: dict[str, list[tuple[int, ...]]] = {"0-d": [()] * 3, "empty": [(0, 4)] * 3}
    if len(dtypes) > 1:
        shapes |= {
            "columns and rows": [(3, 1), (4,), ()],
            "scalar first": [(), (3, 4), (3, 1)],
            "empty and one": [(0, 4), (1, 4), ()],
        }
    for label, wanted in shapes.items():
        yield Case(tuple(ordinary(record, d, s, i) for i, (d, s) in enumerate(zip(dtypes, wanted))), {}, label)


def samples(record: OpRecord) -> list[Case]:
    """The inputs that a record states for its tests."""
    if record.samples is None:
        return []
    found = record.samples(generator(record.name))
    return [Case(tuple(np.asarray(a) for a in arrays), attrs, f"sample {i}") for i, (arrays, attrs) in enumerate(found)]


# -- three ways to run an op
def eagerly(name: str, case: Case) -> list[Any]:
    """The values of an op outside of a graph."""
    return [t.numpy() for t in apply_all(name, *(as_tensor(a) for a in case.arrays), **case.attrs)]


def in_graph(name: str, cases: Sequence[Case]) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
    """The placeholders of all cases, and each case's outputs; elementwise ops get unknown sizes but for 0 and 1."""
    inputs: list[Tensor] = []
    outputs = []
    unknown = OPS[name].kind == "elementwise"  # the attributes of other ops may be made for the very shapes of a sample
    with Graph().as_default():
        for case in cases:
            own = []
            for array in case.arrays:
                shape = tuple(n if n < 2 else None for n in array.shape) if unknown else array.shape
                own.append(placeholder(array.dtype.newbyteorder("="), shape))
            inputs += own
            outputs.append(apply_all(name, *own, **case.attrs))
    return inputs, outputs


#: Functions that are 0 at ordinary numbers: near those their error is absolute.
WITH_ZEROS = frozenset("logaddexp logaddexp2 lgamma digamma".split())


def disagreement(got: Any, want: Any, ulps: float, scale: float = 0.0) -> str:
    """Why two results are not the same: dtype, shape, or elements further apart than `ulps`; "" if they are.

    Elements smaller than `scale` are compared with its precision.
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.dtype != want.dtype.newbyteorder("=") or got.shape != want.shape:
        return f"got {got.dtype}{got.shape}, wanted {want.dtype}{want.shape}"
    with np.errstate(all="ignore"):
        if want.dtype.kind not in "fc":
            same = got == want
        else:
            info = np.finfo(want.dtype)
            wide = np.result_type(want.dtype, np.float64)
            size = np.maximum(np.abs(want.astype(wide)), max(float(info.tiny), scale))
            near = np.abs(got.astype(wide) - want.astype(wide)) <= ulps * info.eps * size
            same = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.isfinite(want) & near)
    if np.all(same):
        return ""
    first = tuple(int(i[0]) for i in np.nonzero(~np.atleast_1d(same)))
    return (
        f"{np.count_nonzero(~same)} of {same.size} elements, first at {first}: got {np.atleast_1d(got)[first]!r}, "
        f"wanted "
        f"{np.atleast_1d(want)[first]!r}"
    )


# -- mathematics to high precision
MATHEMATICS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "divide_no_nan": lambda x, y: x / y,
    "multiply_no_nan": lambda x, y: x * y,
    "remainder": lambda x, y: x - y * mpmath.floor(x / y),
    "fmod": lambda x, y: x - y * (mpmath.floor(x / y) if x / y > 0 else mpmath.ceil(x / y)),
    "negative": lambda x: -x,
    "positive": lambda x: x,
    "identity": lambda x: x,
    "abs": abs,
    "sign": mpmath.sign,
    "square": lambda x: x * x,
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "cbrt": mpmath.cbrt,
    "reciprocal": lambda x: 1 / x,
    "power": mpmath.power,
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "exp2": lambda x: mpmath.power(2, x),
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "log2": lambda x: mpmath.log(x, 2),
    "log10": mpmath.log10,
    "logaddexp": lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)),
    "logaddexp2": lambda x, y: mpmath.log(mpmath.power(2, x) + mpmath.power(2, y), 2),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log_sigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "asin": mpmath.asin,
    "acos": mpmath.acos,
    "atan": mpmath.atan,
    "atan2": mpmath.atan2,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "tanh": mpmath.tanh,
    "asinh": mpmath.asinh,
    "acosh": mpmath.acosh,
    "atanh": mpmath.atanh,
    "hypot": mpmath.hypot,
    "copysign": lambda x, y: abs(x) * mpmath.sign(y),
    "heaviside": lambda x, y: mpmath.mpf(x > 0),
    "nextafter": lambda x, y: x,
    "minimum": lambda x, y: min(x, y),
    "maximum": lambda x, y: max(x, y),
    "fmin": lambda x, y: min(x, y),
    "fmax": lambda x, y: max(x, y),
    "clip": lambda x, lo, hi: min(max(x, lo), hi),
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "erfinv": mpmath.erfinv,
    "lgamma": mpmath.loggamma,
    "digamma": mpmath.digamma,
    "xlogy": lambda x, y: x * mpmath.log(y),
    "xlog1py": lambda x, y: x * mpmath.log1p(y),
    "angle": lambda x: mpmath.mpf(0) if x > 0 else mpmath.pi,
    "real": lambda x: x,
    "imag": lambda x: mpmath.mpf(0),
    "conj": lambda x: x,
}


def derivative(function: Callable[..., Any], point: Sequence[float], orders: Sequence[int]) -> float:
    """A partial derivative at a point, by differences of 40 digits."""
    with mpmath.workdps(40):
        at = tuple(mpmath.mpf(float(v)) for v in point)
        if len(at) == 1:
            return float(mpmath.re(mpmath.diff(function, at[0], orders[0])))
        return float(mpmath.re(mpmath.diff(function, at, tuple(orders))))


# -- differences of an op's value along a line
FIRST = ((4 / 5, 1), (-1 / 5, 2), (4 / 105, 3), (-1 / 280, 4))
SECOND = ((8 / 5, 1), (-1 / 5, 2), (8 / 315, 3), (-1 / 560, 4))
CENTRE = -205 / 72
STEP = 2.0**-13


def along(f: Callable[[float], float], step: float = STEP) -> tuple[float, float]:
    """The first and second derivative of `f` at 0, by central differences of order 8."""
    ahead = {k: (f(k * step), f(-k * step)) for _, k in FIRST}
    first = sum(c * (ahead[k][0] - ahead[k][1]) for c, k in FIRST) / step
    second = (CENTRE * f(0.0) + sum(c * (ahead[k][0] + ahead[k][1]) for c, k in SECOND)) / step**2
    return first, second


#: Ops that read one triangle of a matrix that is promised to be Hermitian: only Hermitian directions have a meaning.
HERMITIAN = frozenset({"cholesky", "eigh"})
#: Ops that are given a triangular factor whose diagonal is promised to be real.
REAL_DIAGONAL = frozenset({"cholesky_pullback", "cholesky_pushforward"})
#: Ops that are given the factors of an operand next to it: how their value depends on the operand itself.
WITH_FACTORS: dict[str, Callable[..., Any]] = {
    "lu_solve": lambda a, lu, pivots, b, trans: np.linalg.solve(
        (a, a.swapaxes(-1, -2), np.conj(a).swapaxes(-1, -2))[trans], b
    ),
    "lu_det": lambda a, lu, pivots: np.linalg.det(a),
    "lu_slogdet": lambda a, lu, pivots: tuple(np.linalg.slogdet(a)),
}
#: Outputs that are determined but for a phase when they are complex.
FREE_PHASES = {"eigh": (1,), "svd": (0, 2)}


def directions(name: str, case: Case) -> list[Any]:
    """A random direction for each operand, within what the op promises to read."""
    found = [random_like(a, name, case.label, "direction", i) for i, a in enumerate(case.arrays)]
    if name in HERMITIAN:
        return [d + np.conj(d).swapaxes(-1, -2) for d in found]
    if name in REAL_DIAGONAL and found[0].dtype.kind == "c":
        found[0] = found[0] - 1j * np.eye(found[0].shape[-1]) * found[0].imag
    if name in WITH_FACTORS:
        found[1] = np.zeros_like(found[1])
    return found


def weights(name: str, case: Case, values: Sequence[Any]) -> list[Any]:
    """Random cotangents of an op's outputs; zeros where nothing can be compared."""
    return [
        np.zeros_like(v)
        if v.dtype.kind == "c" and i in FREE_PHASES.get(name, ())
        else random_like(v, name, case.label, "weight", i)
        for i, v in enumerate(values)
    ]


def inner(u: Sequence[Any], v: Sequence[Any]) -> float:
    """The real inner product of two lists of arrays: sum of Re(conj(u) v)."""
    return float(sum(np.sum(np.real(np.conj(a) * b)) for a, b in zip(u, v, strict=True)))


def random_like(array: Any, *words: Any) -> Any:
    """Normal numbers of the array's shape and dtype; zeros for integers and bools."""
    rng = generator(*words)
    if array.dtype.kind not in "fc":
        return np.zeros_like(array)
    values = rng.normal(size=array.shape)
    return (values + 1j * rng.normal(size=array.shape) if array.dtype.kind == "c" else values).astype(array.dtype)


@functools.cache
def derivative_cases(name: str) -> tuple[Case, ...]:
    """Finite double precision inputs at which an op's derivatives are compared with differences."""
    record = OPS[name]
    found = samples(record)
    if record.kind == "elementwise" and not any(c.attrs or name == "add_n" for c in found):
        for dtype in (np.dtype(np.float64), np.dtype(np.complex128)):
            if dtype.kind in record.dtypes:
                arrays = [
                    ordinary(record, d, (5,), i, "derivative") for i, d in enumerate(operand_dtypes(record, dtype))
                ]
                found.append(Case(tuple(arrays), {}, dtype.name))
    return tuple(c for c in found if _in_double_precision(c.arrays) and _in_double_precision(eagerly(name, c)))


def _in_double_precision(arrays: Sequence[Any]) -> bool:
    return any(a.dtype.kind in "fc" for a in arrays) and all(
        a.size and np.all(np.isfinite(a)) and (a.dtype.kind not in "fc" or np.finfo(a.dtype).bits == 64) for a in arrays
    )

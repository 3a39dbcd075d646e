"""What every scalar formula means in NumPy and SciPy, values to try it on, and how to run it as a compiled kernel."""

from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from numgrad_kernels.build import build_source
from numgrad_kernels.scalar import Block, apply, compute_dtype, print_block, table
from numgrad_kernels.scalar.formula import Formula
from numgrad_kernels.scalar.printer import SHORT_NAMES, spell

DTYPES = {
    "b": ["bool"],
    "i": ["int8", "int16", "int32", "int64"],
    "u": ["uint8", "uint16", "uint32", "uint64"],
    "f": ["float16", "float32", "float64"],
    "e": ["float16"],
    "c": ["complex64", "complex128"],
}


def _no_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: np.where(y == 0, np.zeros_like(x), function(x, y))


def _make_complex(re: Any, im: Any) -> Any:
    out = np.empty(re.shape, np.result_type(re, 1j))
    out.real, out.imag = re, im
    return out


def _int_reciprocal(x: Any) -> Any:
    return np.where(x == 0, 0, np.reciprocal(np.where(x == 0, 1, x)))


def _int_power(x: Any, y: Any) -> Any:
    unsigned = x.dtype.str.replace("i", "u")
    magnitude = np.where(y < 0, np.negative(y), y).view(unsigned)
    powered = np.power(x.view(unsigned), magnitude).view(x.dtype)
    return np.where(y < 0, np.where(np.abs(powered) == 1, powered, 0), powered)


NUMPY_NAMES = {
    "bitwise_invert": "invert", "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "atan2": "arctan2",
}  # fmt: skip

MEANINGS: dict[str, Callable[..., Any]] = {
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": special.expit,
    "log_sigmoid": special.log_expit,
    "softplus": lambda x: np.logaddexp(x, np.zeros_like(x)),
    "erf": special.erf,
    "erfc": special.erfc,
    "erfinv": special.erfinv,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
    "polygamma": lambda x: special.polygamma(2, x).astype(x.dtype),
    "xlogy": special.xlogy,
    "xlog1py": special.xlog1py,
    "divide_no_nan": _no_nan(np.divide),
    "multiply_no_nan": _no_nan(np.multiply),
    "make_complex": _make_complex,
    "identity": np.copy,
    "where": lambda c, x, y: np.where(c, x, y),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "real": lambda x: np.real(x).copy(),
    "imag": lambda x: np.imag(x).copy(),
    "isinf": np.isinf,
    "cast": lambda x: x.real.astype("float32"),
}

#: Where NumPy has no meaning for a kind, or one that a kernel cannot have.
KIND_MEANINGS: dict[tuple[str, str], Callable[..., Any]] = {
    ("power", "i"): _int_power,
    ("reciprocal", "i"): _int_reciprocal,
    ("reciprocal", "u"): _int_reciprocal,
    ("log1p", "c"): lambda z: special.log1p(z.astype("complex128")).astype(z.dtype),
    ("round", "b"): np.copy,
    ("conj", "b"): np.copy,
}

ATTRIBUTES: dict[str, dict[str, Any]] = {"polygamma": {"n": 2}, "cast": {"dtype": np.dtype("float32")}}


class Case(NamedTuple):
    """One op on one dtype."""

    name: str
    kind: str
    dtype: str

    @property
    def formula(self) -> Formula:
        """The row of the table."""
        return table()[self.name, self.kind]

    @property
    def operand_dtypes(self) -> list[np.dtype[Any]]:
        """Dtypes of the operands: all alike, but for where's condition and the parts of a complex number."""
        parameters = inspect.signature(self.formula.function).parameters.values()
        count = sum(p.annotation == "Value" for p in parameters)
        dtype = np.dtype(self.dtype)
        if self.name == "make_complex":
            dtype = np.zeros(0, dtype).real.dtype
        return [np.dtype(bool) if self.name == "where" and i == 0 else dtype for i in range(count)]

    def meaning(self, *operands: Any) -> Any:
        """The op on arrays, by NumPy or SciPy."""
        function = KIND_MEANINGS.get((self.name, self.kind)) or MEANINGS.get(self.name)
        function = function or getattr(np, NUMPY_NAMES.get(self.name, self.name))
        with np.errstate(all="ignore"):
            return np.asarray(function(*operands))


def all_cases() -> list[Case]:
    """Every row of the table of formulas with every dtype that it is for."""
    cases = []
    for name, kind in table():
        dtypes = [d for d in DTYPES[kind] if not (d == "float16" and kind == "f" and (name, "e") in table())]
        cases += [Case(name, kind, dtype) for dtype in dtypes]
    return cases


def values(dtype: Any) -> Any:
    """Special and ordinary values of a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        ordinary = [0, 1, 2, 3, 5, 7, 8, 31, 63, 64, 100, info.max, info.max - 1, info.max // 2]
        return np.array(ordinary + ([-1, -2, -3, -7, -8, -64, info.min, info.min + 1] if info.min else []), dtype)
    if dtype.kind == "c":
        parts = np.array(
            [np.inf, -np.inf, np.nan, 0.0, -0.0, 0.3, -0.7, 1.0, -1.0, 2.5, -40.0, 1e-4], np.zeros(0, dtype).real.dtype
        )
        return np.array([_make_complex(a, b) for a, b in itertools.product(parts, parts)], dtype)
    info = np.finfo(dtype)
    special_values = [
        0.0,
        1.0,
        np.inf,
        float(info.max),
        float(info.tiny),
        float(info.smallest_subnormal),
        0.5,
        2.5,
        3.5,
    ]
    ordinary = [0.1, 0.3, 0.75, 0.999, 1.4, 1.75, 2.0, 3.0, 7.5, 12.0, 40.0, 700.0, 1e3, 3e4, 1e-3, 1e-5]
    both = special_values + ordinary
    return np.array([np.nan, *both, *(-v for v in both)], dtype)


def operands(case: Case) -> list[Any]:
    """Every combination of the values of the operands, thinned out for three of them."""
    columns = [values(dtype) for dtype in case.operand_dtypes]
    if len(columns) == 3:
        columns = [c if c.dtype == bool else c[::3] for c in columns]
    elif len(columns) == 2 and columns[0].dtype.kind == "c":
        columns = [columns[0], columns[1][::4]]
    grid = np.meshgrid(*columns, indexing="ij")
    return [np.ascontiguousarray(g.ravel()) for g in grid]


def load(name: str, dtype: np.dtype[Any]) -> str:
    """Text that reads element ``i`` of the pointer `name`, on either target."""
    short = SHORT_NAMES[dtype]
    return f"load_{short}({name}, i)" if short in ("f16", "b1") else f"{name}[i]"


def store(name: str, dtype: np.dtype[Any], value: str) -> str:
    """Text that writes element ``i`` of the pointer `name`, on either target."""
    short = SHORT_NAMES[dtype]
    return f"store_{short}({name}, i, {value})" if short in ("f16", "b1") else f"{name}[i] = {value}"


class Loop(NamedTuple):
    """Lines of a loop body over pointers ``p0, p1, ...``, and the dtypes behind them, inputs and outputs mixed."""

    body: list[str]
    pointers: list[np.dtype[Any]]
    block: Block


def loop(cases: list[tuple[Case, np.dtype[Any], dict[str, Any]]], target: str) -> Loop:
    """Write the body of one loop that computes several cases, each with operands and an output of its own."""
    block, pointers, body, stores = Block(), [], [], []
    for case, out, attributes in cases:
        inputs = []
        for dtype in case.operand_dtypes:
            place = len(pointers)
            body.append(f"x{place} = {load(f'p{place}', dtype)}")
            inputs.append(block.input(f"x{place}", dtype))
            pointers.append(dtype)
        result = apply(block, case.name, inputs, out, attributes)
        assert result.dtype == compute_dtype(out)
        stores.append((f"p{len(pointers)}", out, result))
        pointers.append(out)
    body += print_block(block, target, [result for _, _, result in stores])
    body += [store(name, out, spell(result)) for name, out, result in stores]
    return Loop(body, pointers, block)


def cpu_source(cases: list[tuple[Case, np.dtype[Any], dict[str, Any]]]) -> str:
    """Source of the CPU kernel with `loop` as its loop."""
    body, pointers, _ = loop(cases, "cpu")
    head = [f"    p{i} = as_{SHORT_NAMES[dtype]}(args[{i}])" for i, dtype in enumerate(pointers)]
    return "\n".join(
        ["def kernel(args, lo, hi):", *head, "    for i in range(lo, hi):", *("        " + line for line in body), ""]
    )


def run(source: str, arrays: list[Any], size: int) -> None:
    """Compile a kernel and run it over `size` elements."""
    kernel = build_source(source)
    addresses = np.array([a.ctypes.data for a in arrays], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(kernel.address)(
        addresses.ctypes.data, 0, size
    )


def output_dtype(case: Case) -> np.dtype[Any]:
    """The dtype of the op's result."""
    if case.formula.by == "output":
        return np.dtype(case.dtype)
    return case.meaning(*(np.ones(1, dtype) for dtype in case.operand_dtypes)).dtype


@functools.cache
def _group_results(group: tuple[Case, ...]) -> dict[Case, tuple[Any, Any, list[Any]]]:
    size = max(len(operands(case)[0]) for case in group)
    buffers, answers = [], {}
    for case in group:
        arrays = operands(case)
        with np.errstate(all="ignore"):
            expected = case.meaning(*arrays).astype(output_dtype(case))
        buffers += [np.resize(a, size) for a in arrays]
        buffers.append(np.zeros(size, expected.dtype))
        answers[case] = (buffers[-1][: len(expected)], expected, arrays)
    run(cpu_source([(case, output_dtype(case), ATTRIBUTES.get(case.name, {})) for case in group]), buffers, size)
    return answers


def results(case: Case) -> tuple[Any, Any, list[Any]]:
    """The compiled result, the meaning, and the operands of a case."""
    return _group_results(groups()[case])[case]


@functools.lru_cache(maxsize=1)
def groups() -> dict[Case, tuple[Case, ...]]:
    """Cases that share a kernel: eight small ones, or three complex ones, of one dtype."""
    found = {}
    for dtype in sorted({c.dtype for c in all_cases()}):
        members = [c for c in all_cases() if c.dtype == dtype]
        step = 3 if dtype.startswith("complex") else 8
        for start in range(0, len(members), step):
            group = tuple(members[start : start + step])
            found.update(dict.fromkeys(group, group))
    return found

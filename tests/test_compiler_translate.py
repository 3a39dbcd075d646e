"""The direct front end: formulas and nests go through it, mean what Numba makes of them, and it knows its limits."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import numgrad as ng
from numgrad.graph.core import apply
from numgrad_kernels import build
from numgrad_kernels import translate as front
from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.settings import settings
from numgrad_kernels.translate import translate
from tests.compiler_cases import Case as GraphCase
from tests.compiler_cases import exact
from tests.scalar_samples import ATTRIBUTES, all_cases, cpu_source, operands, output_dtype, run

HEAD = "def kernel(args, lo, hi):\n"


@pytest.fixture
def front_end() -> Iterator[None]:
    yield
    settings.front_end = "direct"


def kernel(*lines: str) -> str:
    """The text of a kernel with these lines."""
    return HEAD + "".join(f"    {line}\n" for line in lines)


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays are equal bit for bit; NaNs may differ in sign and payload, which IEEE leaves open."""
    if a.dtype.kind in "fc":
        parts = np.zeros(0, a.dtype).real.dtype
        a, b = np.atleast_1d(a).view(parts), np.atleast_1d(b).view(parts)
        both = np.isnan(a) & np.isnan(b)
        a, b = np.where(both, 0, a), np.where(both, 0, b)
    return bool(a.tobytes() == b.tobytes())


# -- formulas
@pytest.mark.parametrize("dtype", sorted({c.dtype for c in all_cases()}))
def test_every_formula_is_translated(dtype: str) -> None:
    for case in all_cases():
        if case.dtype == dtype:
            text = cpu_source([(case, output_dtype(case), ATTRIBUTES.get(case.name, {}))])
            assert translate(text, "k") is not None, text


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "uint8", "bool", "complex128"])
def test_both_front_ends_compute_the_same_bits(dtype: str, front_end: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Numba does not tell LLVM that steps are independent; a loop over so many arrays is then no loop of vectors, whose
    # mathematics may differ in the last bit.
    monkeypatch.setattr(front, "independent", lambda loop: False)
    cases = [c for c in all_cases() if c.dtype == dtype]
    size = min(2000, max(len(operands(case)[0]) for case in cases))
    buffers, places = [], []
    for case in cases:
        arrays = operands(case)
        chosen = np.linspace(0, len(arrays[0]) - 1, size).astype(int)  # from the whole grid of special values
        buffers += [np.ascontiguousarray(a[chosen]) for a in arrays]
        places.append(len(buffers))
        buffers.append(np.zeros(size, output_dtype(case)))
    source = cpu_source([(case, output_dtype(case), ATTRIBUTES.get(case.name, {})) for case in cases])
    results = []
    for choice in ("direct", "numba"):
        settings.front_end = choice
        for place in places:
            buffers[place].view(np.uint8)[:] = 1
        run(source, buffers, size)
        results.append([buffers[place].copy() for place in places])
    for case, direct, numba in zip(cases, *results):
        assert same_bits(direct, numba), f"{case}: first at {[a for a in zip(direct, numba) if a[0] != a[1]][:1]}"


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint64", "bool", "complex64"])
def test_both_front_ends_agree_on_nests(dtype: str, front_end: None) -> None:
    """Reductions over full, row, column and middle axes, strided and broadcast reads, several outputs."""
    ops = ("any", "all", "max", "min") if dtype == "bool" else ("sum", "prod", "max", "min")

    def function(x: Any, y: Any) -> list[Any]:
        z = ng.logical_xor(x, y) if dtype == "bool" else x + y
        reduced = [apply(op, z, axes=axes) for op in ops for axes in ((0, 1, 2), (2,), (1,), (0,), (0, 1))]
        return [z, ng.equal(x, y), *reduced, ng.permute_dims(x, (2, 0, 1)), ng.flip(x, 1)]

    arrays = exact(dtype, (3, 4, 70)), exact(dtype, (4, 1))
    results = []
    for choice in ("direct", "numba"):
        settings.front_end = choice
        case = GraphCase(function, (dtype, ("a", "b", "c")), (dtype, ("b", 1)))
        assert all(translate(launch.source, "k") is not None for launch in case.program.launches)
        results.append(case.compiled(*arrays))
    for direct, numba in zip(*results):
        assert same_bits(direct, numba)


# -- the language
def integers_by(text: str, a: Any, b: Any) -> Any:
    """A translated integer expression of ``a`` and ``b``, for every pair."""
    source = kernel(
        "x = as_i64(args[0])",
        "y = as_i64(args[1])",
        "z = as_i64(args[2])",
        "for i in range(lo, hi):",
        "    a = x[i]",
        "    b = y[i]",
        f"    z[i] = {text}",
    )
    assert translate(source, "k") is not None, text
    out = np.zeros_like(a)
    run(source, [a, b, out], len(a))
    return out


_LEAVES = st.sampled_from(["a", "b", "1", "7", "(-3)", "(-9223372036854775808)"])
_EXPRESSIONS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "&", "|", "^"]), inner),
        st.builds("({} {} (({} & 15) + 1))".format, inner, st.sampled_from(["//", "%", "<<", ">>"]), inner),
        st.builds("({} {} ((-2) - ({} & 15)))".format, inner, st.sampled_from(["//", "%"]), inner),
        st.builds("(-{})".format, inner),
        st.builds("(~{})".format, inner),
        st.builds("select({0} {2} {1}, {0}, {1})".format, inner, inner, st.sampled_from("< <= > >= == !=".split())),
        st.builds("min({}, {})".format, inner, inner),
        st.builds("i64(i32({}))".format, inner),
        st.builds("i64(u8({}))".format, inner),
    ),
    max_leaves=8,
)  # fmt: skip


@hypothesis_settings(max_examples=60, deadline=None)
@given(_EXPRESSIONS)
def test_integer_expressions_mean_what_they_mean_in_python(text: str) -> None:
    """Floor division, remainder, shifts, wrap-around, conversions and comparisons, held against NumPy's int64."""
    sample = np.array([0, 1, -1, 5, -7, 64, 2**31, -(2**40), 2**63 - 1, -(2**63)], np.int64)
    a, b = (np.ascontiguousarray(g.ravel()) for g in np.meshgrid(sample, sample))
    names = {
        "a": a, "b": b, "select": np.where, "min": np.minimum, "i64": lambda x: x.astype(np.int64),
        "i32": lambda x: x.astype(np.int32), "u8": lambda x: x.astype(np.uint8),
        "number": lambda digits: np.full(a.shape, digits).astype(np.int64),
    }  # fmt: skip
    with np.errstate(all="ignore"):
        want = eval(re.sub(r"(?<!\w)(\d+)", r"number(\1)", text), names)
    np.testing.assert_array_equal(integers_by(text, a, b), want, err_msg=text)


def test_loops_nest_run_no_time_and_reuse_their_counters() -> None:
    source = kernel(
        "total = 0",
        "x = as_i64(args[0])",
        "for i in range(lo, hi):",
        "    for j in range(i, 4):",
        "        total = total + 10 * i + j",
        "for i in range(hi, lo):",
        "    total = total + 1000",
        "for j in range(lo, 2):",
        "    total = total + 100 * j",
        "x[0] = total",
    )
    assert translate(source, "k") is not None
    for size in (0, 1, 3):
        out = np.zeros(1, np.int64)
        run(source, [out], size)
        assert out[0] == sum(10 * i + j for i in range(size) for j in range(i, 4)) + 100


OUTSIDE = """
x[1.5] = 1.0; x[0] = x[1] << x[2]; x[0] = ~x[1]; x[0] = x[0] + 1; x[0] = min(x[1], x[2]); x[0] = load_f16(x, 0)
x[0] = math.no_such_number; x[0] = select(lo < hi); lo[0] = 1; x[0] = x[1] ** x[2]; x[0] = 'a'; x[0] += 1.0
x[0] = x; x = x + x; a, b = lo, hi; lo = lo + 1; args[0] = 99999999999999999999999; args[0] = lo / hi
x[0] = vm_exp(x[0], x[1]); x[0] = vm_no_such_function(x[0]); x[0] = 1.0 if lo < hi else 2.0; print(lo); return
args[0] = 1 < lo < hi; args[0] = u64(1) + i64(1); x[0] = sum_add(x[0], f32(1.0)); args[0] = float_bits(i8(1))
args[0] = lo or hi; x[0] = as_b1(args[1])[0]; store_b1(x, 0, lo < hi)
"""


@pytest.mark.parametrize("line", OUTSIDE.strip().replace("\n", "; ").split("; "))
def test_texts_outside_the_language_are_left_to_numba(line: str) -> None:
    assert translate(kernel("x = as_f64(args[0])", line), "k") is None


@pytest.mark.parametrize("text", [
    "", "x = 1\n", "def kernel(args, lo, hi)\n", "def kernel(args, lo):\n    args[0] = lo\n",
    "def kernel(args, lo, hi=3):\n    args[0] = lo\n", "def kernel(args, lo, hi, *rest):\n    args[0] = lo\n",
    kernel("for i in range(lo, hi, 2):", "    args[0] = i"), kernel("for i in range(hi):", "    args[0] = i"),
    kernel("for i in range(lo, 2.5):", "    args[0] = i"), kernel("while hi:", "    args[0] = 1"),
    kernel("while lo < hi:", "    args[0] = 1", "else:", "    args[0] = 2"), kernel("while lo < hi:", "    break"),
    kernel("if lo < hi:", "    a = lo", "args[0] = a"), kernel("if hi:", "    args[0] = 1"),
    kernel("for i in range(lo, hi):", "    args[0] = i", "else:", "    args[0] = 1"),
    kernel("for i in range(lo, hi):", "    args[0] = i", "args[1] = i"),
    kernel("for i in range(lo, hi):", "    j = i", "args[1] = j"),
    kernel("for i in range(lo, hi):", "    i = i + 1", "    args[0] = i"),
    kernel("a = lo", "a = 0.5", "args[0] = i64(a)"),
])  # fmt: skip
def test_forms_outside_the_language_are_left_to_numba(text: str) -> None:
    assert translate(text, "k") is None


def test_while_and_if() -> None:
    """Collatz's numbers: trips, and the sum of what odd numbers above 9, other odd ones and even ones count for."""
    source = kernel(
        "x = as_i64(args[0])", "y = as_i64(args[1])", "for i in range(lo, hi):", "    n = x[i]", "    t = 0",
        "    while n != 1:", "        if n % 2 == 0:", "            n = n // 2", "            w = 1",
        "        elif n > 9:", "            n = 3 * n + 1", "            w = 100", "        else:",
        "            n = 3 * n + 1", "            w = 10000", "        t = t + w", "    y[i] = t",
    )  # fmt: skip
    assert translate(source, "k") is not None
    given, found = np.arange(1, 40), np.zeros(39, np.int64)
    run(source, [given, found], 39)
    for n, total in zip(given.tolist(), found.tolist()):
        while n != 1:
            total -= 1 if n % 2 == 0 else 100 if n > 9 else 10000
            n = n // 2 if n % 2 == 0 else 3 * n + 1
        assert total == 0


def test_what_is_left_to_numba_still_runs(front_end: None) -> None:
    source = kernel(
        "x = as_f64(args[0])", "i = lo", "while i < hi:", "    x[i] = 2.0 if i % 2 == 0 else 3.0 * i", "    i += 1"
    )
    assert translate(source, "k") is None
    out = np.zeros(5)
    run(source, [out], 5)
    assert out.tolist() == [2.0, 3.0, 2.0, 9.0, 2.0]
    with pytest.raises(KernelBuildError, match="no_such_name"):
        build.build_source(kernel("args[0] = no_such_name(lo)"))


def test_the_front_end_is_part_of_a_kernels_key(front_end: None) -> None:
    source = kernel("args[0] = hi - lo")
    keys = []
    for choice in ("direct", "numba"):
        settings.front_end = choice
        keys.append(build.build_source(source).key)
    assert len(set(keys)) == 2
    with pytest.raises(ValueError, match="NUMGRAD_FRONT_END"):
        settings.front_end = "fortran"


@pytest.mark.parametrize("fault", ["binary", "compare", "divide", "store"])
def test_a_planted_fault_in_the_front_end_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of both front ends fails when the direct one computes something else."""
    honest = getattr(front.Translator, fault)

    def wrong(self: Any, *args: Any) -> Any:
        if fault == "compare":
            return honest(self, args[0], args[2], args[1])
        if fault == "divide":
            return honest(self, not args[0], *args[1:])
        if fault == "binary":
            return honest(self, ast.Sub() if isinstance(args[0], ast.Add) else args[0], *args[1:])
        return None

    text = "select(a < b, a + 2, a % 7)"
    sample = np.arange(-9, 10)
    want = np.where(sample < sample[::-1], sample + 2, sample % 7)
    assert np.array_equal(integers_by(text, sample, sample[::-1].copy()), want)
    monkeypatch.setattr(front.Translator, fault, wrong)
    monkeypatch.setattr(build, "_built", {})
    monkeypatch.setattr(settings, "cache_enabled", False)
    source = text + f" + 0 * {len(fault)}"
    assert not np.array_equal(integers_by(source, sample, sample[::-1].copy()), want)

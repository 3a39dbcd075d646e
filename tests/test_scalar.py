"""Every scalar formula, on every dtype that it is for, computes what NumPy or SciPy computes."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest

from numgrad_kernels.scalar import Block, apply, print_block, table
from numgrad_kernels.scalar.printer import spell
from tests.scalar_samples import SHORT_NAMES, Case, all_cases, cpu_source, results, run, values

#: Ops that round more than once: how many units in the last place NumPy and the formula may be apart.
ULPS = {"lgamma": 40, "digamma": 250, "polygamma": 40, "erfinv": 16, "logaddexp": 16, "logaddexp2": 16, "power": 16}
DEFAULT_ULPS = 8
#: A complex result is compared as a whole: these units times its modulus.
COMPLEX_ULPS = {"power": 4000}
DEFAULT_COMPLEX_ULPS = 16
#: Ops with zeros at ordinary numbers, near which the error is absolute, in units of 1.
ABSOLUTE_EPS = {"logaddexp": 2, "logaddexp2": 4, "lgamma": 4, "digamma": 8, "polygamma": 40}
#: Ops that are exact or rounded once (for complex numbers: real and imag only).
EXACT = frozenset(
    "add subtract multiply divide floor_divide remainder fmod negative positive abs square sqrt reciprocal copysign "
    "heaviside minimum maximum fmin fmax clip where floor ceil round trunc nextafter sign cast identity real imag conj "
    "make_complex angle divide_no_nan multiply_no_nan".split()
)
#: NumPy itself gives either zero for zeros of different sign, by the length of the array; erfinv(-0.0) is 0.0 in SciPy.
ANY_ZERO = frozenset("minimum maximum fmin fmax clip erfinv".split())


def differs_by_design(case: Case, x: np.ndarray, y: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Where the compiled result is meant to differ from NumPy or SciPy."""
    none = np.zeros(x.shape, bool)
    if case.kind == "c":
        infinite = ~np.isfinite(x)
        if case.name == "expm1":
            # NumPy takes 0 * inf in a part that is zero on the whole real axis.
            return infinite
        if case.name == "power":
            # NumPy multiplies repeatedly for small whole exponents, and loses what overflows on the way.
            return infinite | ~np.isfinite(y) | ~np.isfinite(want)
        return none
    if case.name == "lgamma":
        # SciPy overflows at the least subnormal number.
        return (x != 0) & (np.abs(x) < 1e-320)
    if case.name == "polygamma":
        # psi_2 oscillates between infinities on the way to -inf; SciPy answers -inf.
        return x == -np.inf
    return none


def agrees_real(case: Case, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Whether two real results are the same NaN, infinity or zero, or near enough."""
    one_step = case.name in EXACT and (case.kind != "c" or case.name in ("real", "imag"))
    ulps = 0 if one_step else ULPS.get(case.name, DEFAULT_ULPS)
    if want.dtype.kind != "f":
        return got == want
    sign = np.signbit(got) == np.signbit(want)
    if case.name in ANY_ZERO:
        sign |= want == 0
    room = ulps * np.spacing(np.abs(want)) + ABSOLUTE_EPS.get(case.name, 0) * np.finfo(want.dtype).eps
    near = np.isfinite(want) & (np.abs(got - want) <= room)
    return (np.isnan(got) & np.isnan(want)) | (((got == want) | near) & (sign | (room >= np.abs(want)) & (want != 0)))


def agrees_complex(case: Case, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Whether two complex results are near for the modulus of the result, or alike in each part if not finite."""
    ulps = COMPLEX_ULPS.get(case.name, DEFAULT_COMPLEX_ULPS)
    info = np.finfo(want.dtype)
    near = np.abs(got - want) <= ulps * info.eps * np.maximum(np.abs(want), info.tiny)
    # C leaves the sign of an infinity open where the other part is NaN.
    nan = np.isnan(want.real) | np.isnan(want.imag)
    alike = np.ones(want.shape, bool)
    for a, b in ((got.real, want.real), (got.imag, want.imag)):
        alike &= (a == b) | (np.isnan(a) & np.isnan(b)) | (nan & np.isinf(a) & np.isinf(b))
    return alike | (np.isfinite(want) & near)


@pytest.mark.parametrize("case", all_cases(), ids=lambda c: f"{c.name}-{c.dtype}")
def test_formula_means_what_numpy_means(case: Case) -> None:
    got, want, operands = results(case)
    with np.errstate(all="ignore"):
        agree = (agrees_complex if want.dtype.kind == "c" else agrees_real)(case, got, want)
    agree |= differs_by_design(case, operands[0], operands[-1], want)
    wrong = np.nonzero(~agree)[0]
    shown = [f"{[a[i] for a in operands]} gave {got[i]!r}, wanted {want[i]!r}" for i in wrong[:5]]
    assert not wrong.size, f"{wrong.size} of {want.size}: " + "; ".join(shown)


def test_every_op_name_of_the_contract_has_a_formula() -> None:
    names = """
        add subtract multiply divide floor_divide remainder fmod negative positive abs square sqrt rsqrt cbrt
        reciprocal power equal not_equal less less_equal greater greater_equal logical_and logical_or
        logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_invert bitwise_left_shift
        bitwise_right_shift exp expm1 exp2 log log1p log2 log10 logaddexp logaddexp2 softplus sigmoid
        log_sigmoid sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh hypot sign copysign
        heaviside signbit angle real imag conj make_complex minimum maximum fmin fmax clip where floor ceil
        round trunc isnan isinf isfinite nextafter erf erfc erfinv lgamma digamma polygamma xlogy xlog1py
        divide_no_nan multiply_no_nan cast identity
    """.split()
    assert sorted({name for name, _ in table()}) == sorted(names)


@pytest.mark.parametrize("source", [str(d) for d in SHORT_NAMES])
def test_cast_means_astype(source: str) -> None:
    targets = list(SHORT_NAMES)
    x = values(source)
    if x.dtype.kind in "fc":
        # Out of the range of an integer, astype is left open by C.
        x = np.concatenate([x[np.abs(x) < 120], np.array([0.49, 2049.0, 65519.9, 1 + 2**-11 + 2**-24], x.dtype)])
    case = Case("cast", x.dtype.kind, source)
    outs = [np.zeros(x.shape, t) for t in targets]
    arrays = list(itertools.chain.from_iterable((x, out) for out in outs))
    run(cpu_source([(case, t, {"dtype": t}) for t in targets]), arrays, x.size)
    for target, out in zip(targets, outs, strict=True):
        with np.errstate(all="ignore"):
            real = x.real if x.dtype.kind == "c" and target.kind != "c" and target.kind != "b" else x
            want = real.astype(target)
            fits = np.ones(x.shape, bool)
            if target.kind in "iu" and x.dtype.kind in "fc":
                low = 0 if target.kind == "u" else -100
                fits = (x.real > low - 1) & (x.real < np.iinfo(target).max)
        np.testing.assert_array_equal(out[fits], want[fits], err_msg=f"{source} to {target}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "attributes", "oracle", "ulps"),
    [
        ("erfinv", {}, mpmath.erfinv, 4),
        ("digamma", {}, mpmath.digamma, 20),
        *[("polygamma", {"n": n}, lambda x, n=n: mpmath.psi(n, x), 20) for n in (1, 2, 3, 4, 6)],
    ],
    ids=lambda v: str(v.get("n", "")) if isinstance(v, dict) else None,
)
def test_special_functions_are_accurate(name, attributes, oracle, ulps, dtype) -> None:
    generator = np.random.default_rng(7)
    if name == "erfinv":
        near_one = 1 - 10.0 ** generator.uniform(-7 if dtype == "float32" else -16, 0, 200)
        x = np.concatenate([generator.uniform(-1, 1, 300), near_one, 10.0 ** generator.uniform(-30, -1, 100)])
    else:
        x = np.concatenate([10.0 ** generator.uniform(-4, 4, 300), generator.uniform(-20, 20, 300)])
    x = x.astype(dtype)
    x = x[np.abs(x) < 1] if name == "erfinv" else x
    out = np.zeros_like(x)
    run(cpu_source([(Case(name, "f", dtype), x.dtype, attributes)]), [x, out], x.size)
    with mpmath.workdps(40):
        want = [oracle(mpmath.mpf(float(v))) for v in x]
        # A zero of digamma, and of polygamma on the left, is a difference of numbers of order 1.
        has_zeros = [name == "digamma" or (name == "polygamma" and v < 0) for v in x]
        scale = [max(abs(w), 1) if near else abs(w) for w, near in zip(want, has_zeros, strict=True)]
        errors = [abs(float((mpmath.mpf(float(g)) - w) / s)) for g, w, s in zip(out, want, scale, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= ulps * np.finfo(dtype).eps, (x[worst], out[worst], want[worst])


def test_large_arguments_of_stable_functions() -> None:
    x = np.array([-1000.0, 1000.0, -745.0, 710.0])
    outs = [np.zeros_like(x) for _ in range(3)]
    cases = [(Case(name, "f", "float64"), x.dtype, {}) for name in ("sigmoid", "softplus", "log_sigmoid")]
    run(cpu_source(cases), [x, outs[0], x, outs[1], x, outs[2]], x.size)
    np.testing.assert_array_equal(outs[0][:2], [0, 1])
    np.testing.assert_allclose(outs[0][2:], [5e-324, 1])
    np.testing.assert_allclose(outs[1], [0, 1000, 5e-324, 710])
    np.testing.assert_allclose(outs[2], [-1000, 0, -745, 0], atol=1e-300)


def test_equal_instructions_are_one() -> None:
    block = Block()
    x = block.input("x", "float32")
    a = apply(block, "softplus", [x], "float32")
    count = len(block.values)
    assert apply(block, "softplus", [x], "float32") is a
    assert len(block.values) == count
    assert block.const(0.0, "float32") is not block.const(-0.0, "float32")


def test_printing_leaves_out_what_no_output_needs() -> None:
    block = Block()
    z = block.input("z", "complex128")
    w = apply(block, "exp", [z], "complex128")
    real = apply(block, "real", [w], "float64")
    lines = print_block(block, "cpu", [real])
    assert any("vm_cos" in line for line in lines)
    assert not any("vm_sin" in line for line in lines)
    assert lines[-1].startswith(spell(real) + " = ")


def test_missing_formula_names_op_and_dtype() -> None:
    block = Block()
    x = block.input("x", "int32")
    with pytest.raises(LookupError, match=r"'softplus' on int32.*floats"):
        apply(block, "softplus", [x], "int32")
    with pytest.raises(LookupError, match="no_such_op"):
        apply(block, "no_such_op", [x], "int32")


def test_operands_of_instructions_are_checked() -> None:
    block = Block()
    x, n = block.input("x", "float32"), block.input("n", "int32")
    with pytest.raises(TypeError, match="float32, int32"):
        block.emit("add", "float32", x, n)
    with pytest.raises(TypeError, match="wanted 2"):
        block.emit("add", "float32", x)
    with pytest.raises(LookupError, match="no scalar instruction 'sum'"):
        block.emit("sum", "float32", x)
    with pytest.raises(ValueError, match="reserved"):
        block.input("v3", "float32")
    with pytest.raises(ValueError, match="target 'metal'"):
        print_block(block, "metal")


@pytest.mark.parametrize("n", [-1, 1.5])
def test_polygamma_order_is_checked(n: float) -> None:
    block = Block()
    with pytest.raises(ValueError, match="order"):
        apply(block, "polygamma", [block.input("x", "float64")], "float64", {"n": n})

"""Every op of the table: its value in three ways of running, its derivatives in both directions, its record."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mpmath
import numpy as np
import pytest

import numgrad as ng
from numgrad.autodiff.forward import pushforward
from numgrad.graph.core import apply_all, placeholder
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, OpRecord
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels.scalar import formula
from tests.op_cases import (
    DTYPES,
    MATHEMATICS,
    STEP,
    WITH_FACTORS,
    WITH_ZEROS,
    WITHOUT_CASES,
    Case,
    along,
    derivative,
    derivative_cases,
    directions,
    disagreement,
    eagerly,
    in_graph,
    inner,
    layout_cases,
    meaning,
    operand_dtypes,
    ordinary,
    samples,
    value_cases,
    weights,
)

OWN = [n for n in sorted(OPS) if not n.startswith("test_")]  # other modules of tests enter ops of their own
NAMES = [n for n in OWN if n not in WITHOUT_CASES]
ELEMENTWISE = [n for n in NAMES if OPS[n].kind == "elementwise"]
#: Elementwise ops that have attributes or any number of operands are tried on their samples.
BY_SAMPLES = [n for n in NAMES if OPS[n].samples is not None]
BY_DTYPE = [n for n in ELEMENTWISE if n not in ("add_n", "cast", "polygamma", "prevent_gradient")]
#: Compiled formulas and NumPy may each round several times; tests/test_scalar.py holds every formula to its own limit.
ULPS = {"float64": 300.0, "complex128": 5000.0}


# -- checkers; the planted faults below prove that they can fail
def check_eager_values(name: str, cases: Sequence[Case]) -> None:
    """Eager and interpreted values are those of NumPy or SciPy."""
    inputs, outputs = in_graph(name, cases)
    given = iter(inputs)
    for case, (output,) in zip(cases, outputs):
        with np.errstate(all="ignore"):
            want = np.asarray(meaning(name)(*case.arrays, **case.attrs)).astype(output.dtype)
        (got,) = eagerly(name, case)
        # The meaning of some ops is another formula for the same function: it rounds otherwise.
        assert not (why := disagreement(got, want, ulps=8)), f"{name} {case.label}, eager: {why}"
        interpreted = ng.run(output, {next(given): a for a in case.arrays})
        assert not (why := disagreement(interpreted, got, ulps=0)), f"{name} {case.label}, interpreted: {why}"


def check_compiled_values(name: str, cases: Sequence[Case]) -> None:
    """Compiled values are the eager ones, for all cases in one program."""
    inputs, outputs = in_graph(name, cases)
    results = compile_graph(inputs, [list(group) for group in outputs])(*(a for case in cases for a in case.arrays))
    for case, got in zip(cases, results, strict=True):
        for i, (value, want) in enumerate(zip(got, eagerly(name, case), strict=True)):
            why = disagreement(value, want, ULPS.get(want.dtype.name, 32.0), scale=float(name in WITH_ZEROS))
            assert not why, f"{name} {case.label}, output {i} compiled: {why}"


def check_against_mathematics(name: str, points: int = 4) -> None:
    """Values, both first and all second derivatives of a real function at random points, against 40 digits."""
    record, function = OPS[name], MATHEMATICS[name]
    arity = record.facts["arity"]
    arrays = [ordinary(record, np.dtype(np.float64), (points,), i, "mathematics") for i in range(arity)]
    with Graph().as_default():
        xs = [placeholder(np.float64, (points,)) for _ in range(arity)]
        (y,) = apply_all(name, *xs)
        first = ng.gradients(y, xs)
        pushed = [pushforward([y], [x], [ng.ones_like(x)])[0] for x in xs]
        second = [ng.gradients(g, xs) if g is not None else [None] * arity for g in first]
        both = [[pushforward([g], [x], [ng.ones_like(x)])[0] if g is not None else None for x in xs] for g in first]
    zero = np.zeros(points)
    values = ng.run([y, first, pushed, second, both], dict(zip(xs, arrays)))

    def compare(got: Any, orders: tuple[int, ...], what: str) -> None:
        want = [derivative(function, point, orders) for point in zip(*arrays)]
        np.testing.assert_allclose(
            zero if got is None else got, want, rtol=2e-12, atol=2e-13, err_msg=f"{name}, {what}"
        )

    compare(values[0], (0,) * arity, "value")
    for i in range(arity):
        one = tuple(int(k == i) for k in range(arity))
        compare(values[1][i], one, f"reverse by input {i}")
        compare(values[2][i], one, f"forward by input {i}")
        for j in range(arity):
            two = tuple(int(k == i) + int(k == j) for k in range(arity))
            compare(values[3][i][j], two, f"reverse over reverse by inputs {i} and {j}")
            compare(values[4][i][j], two, f"forward over reverse by inputs {i} and {j}")


def check_along_a_line(name: str, case: Case) -> bool:
    """Reverse, forward and second derivatives along a random direction, against differences of the record's meaning.

    False where the sample lies on a kink, so that there is nothing to compare with: conventions at kinks are the
    families' tests.
    """
    value = WITH_FACTORS.get(name, OPS[name].evaluate)
    moves = directions(name, case)

    def outputs_at(s: float) -> list[Any]:
        moved = [a + s * d if a.dtype.kind in "fc" else a for a, d in zip(case.arrays, moves)]
        with np.errstate(all="ignore"):
            result = value(*moved, **case.attrs)
        return [np.asarray(r) for r in (result if isinstance(result, tuple) else (result,))]

    with Graph().as_default():
        xs = [placeholder(a.dtype, a.shape) for a in case.arrays]
        ts = [placeholder(a.dtype, a.shape) for a in case.arrays]
        ys = list(apply_all(name, *xs, **case.attrs))
        places = [i for i, y in enumerate(ys) if y.dtype.kind in "fc"]
        us = [placeholder(ys[i].dtype, ys[i].shape) for i in places]
        flowing = [i for i, x in enumerate(xs) if x.dtype.kind in "fc"]
        gs = ng.gradients([ys[i] for i in places], [xs[i] for i in flowing], us)
        slopes = [ng.sum(ng.real(ng.conj(g) * ts[i])) for i, g in zip(flowing, gs) if g is not None]
        slope = sum(slopes[1:], slopes[0]) if slopes else None
        pushed = pushforward([ys[i] for i in places], [xs[i] for i in flowing], [ts[i] for i in flowing])
        hs = ng.gradients(slope, [xs[i] for i in flowing]) if slope is not None else []
        turned = (
            pushforward([slope], [xs[i] for i in flowing], [ts[i] for i in flowing])[0] if slope is not None else None
        )
    values = outputs_at(0.0)
    all_weights = weights(name, case, values)
    chosen = [all_weights[i] for i in places]

    def weighted(s: float) -> float:
        outputs = outputs_at(s)
        return inner(chosen, [outputs[i] for i in places])

    first, second = along(weighted)
    if not np.allclose(second, along(weighted, STEP / 2)[1], rtol=1e-3, atol=1e-3):
        return False
    feeds = dict(zip([*xs, *ts, *us], [*case.arrays, *moves, *chosen]))
    got = ng.run([slope, pushed, hs, turned], feeds)
    size = 1.0 + max((float(np.max(np.abs(v), initial=0.0)) for v in values if v.dtype.kind in "fc"), default=0.0)

    def compare(value: float, want: float, limit: float, what: str) -> None:
        assert abs(value - want) <= limit * (size + abs(want)), (
            f"{name} {case.label}, {what}: got {value!r}, differences give {want!r}"
        )

    compare(float(got[0]) if got[0] is not None else 0.0, first, 1e-9, "reverse")
    compare(
        inner(*zip(*((w, p) for w, p in zip(chosen, got[1]) if p is not None)))
        if any(p is not None for p in got[1])
        else 0.0,
        first,
        1e-9,
        "forward",
    )
    curvature = sum(inner([h], [moves[i]]) for i, h in zip(flowing, got[2]) if h is not None)
    compare(float(curvature), second, 1e-6, "reverse over reverse")
    compare(float(got[3]) if got[3] is not None else 0.0, second, 1e-6, "forward over reverse")
    return True


# -- values
@pytest.mark.parametrize("name", BY_DTYPE)
def test_eager_and_interpreted_values_are_numpys(name: str) -> None:
    cases = list(layout_cases(OPS[name]))
    cases += list(value_cases(OPS[name]))
    check_eager_values(name, cases)


@pytest.mark.parametrize("name", BY_DTYPE)
def test_compiled_values_are_numpys_for_every_dtype(name: str) -> None:
    check_compiled_values(name, list(value_cases(OPS[name])))


@pytest.mark.parametrize("name", BY_DTYPE)
def test_compiled_values_are_numpys_for_every_layout(name: str) -> None:
    check_compiled_values(name, list(layout_cases(OPS[name])))


@pytest.mark.parametrize("name", BY_SAMPLES)
def test_samples_run_alike_eagerly_interpreted_and_compiled(name: str) -> None:
    cases = samples(OPS[name])
    inputs, outputs = in_graph(name, cases)
    given = iter(inputs)
    for case, group in zip(cases, outputs):
        feeds = {next(given): a for a in case.arrays}
        for got, want in zip(ng.run(list(group), feeds), eagerly(name, case), strict=True):
            assert not (why := disagreement(got, want, ulps=0)), f"{name} {case.label}, interpreted: {why}"
    if OPS[name].kind != "effect":
        check_compiled_values(name, cases)


# -- dtypes
def like_of(name: str) -> np.ufunc:
    """The NumPy ufunc whose dtype rules a public function is promised to follow."""
    real = "erf erfc erfinv lgamma digamma softplus sigmoid log_sigmoid".split()
    others = {
        "xlogy": np.arctan2,
        "xlog1py": np.arctan2,
        "rsqrt": np.sqrt,
        "divide_no_nan": np.divide,
        "multiply_no_nan": np.multiply,
    }
    return np.cbrt if name in real else others.get(name) or meaning(name)


FOLLOWING_NUMPY = [
    n
    for n in BY_DTYPE
    if n not in ("where", "clip", "round", "make_complex", "stop_gradient", "identity", "real", "imag", "angle")
]
WEAK = [2, 2.5, 1 + 1j, True]


@pytest.mark.parametrize("name", FOLLOWING_NUMPY)
def test_public_function_has_numpys_dtypes_and_refusals(name: str) -> None:
    """Every dtype, every pair of dtypes, and every dtype with each kind of Python scalar (NEP 50)."""
    function, like = public(OPS[name]), like_of(name)
    operands = [np.ones(2, d) for d in DTYPES]
    if like.nin == 1:
        combinations = [(x,) for x in operands]
    else:
        combinations = [
            *itertools.product(operands, operands),
            *itertools.product(operands, WEAK),
            *itertools.product(WEAK, operands),
        ]
    for given in combinations:
        what = f"{name}({', '.join(str(getattr(x, 'dtype', x)) for x in given)})"
        try:
            want = like(*given).dtype
        except TypeError:
            with pytest.raises(TypeError, match=f"^{name}: got .*wanted .*test_ops.py:"):
                function(*given)
                pytest.fail(f"{what} is refused by NumPy")
            continue
        got = function(*given).dtype
        assert got == want, f"{what} gives {got}, NumPy {want}"


def test_choice_and_rounding_functions_have_numpys_dtypes() -> None:
    for a, b in itertools.product([np.ones(2, d) for d in DTYPES], [*(np.ones(2, d) for d in DTYPES), *WEAK]):
        assert ng.where([True, False], a, b).dtype == np.where([True, False], a, b).dtype
    for x in (np.array([1, 0, 3]).astype(d) for d in DTYPES):
        assert ng.round(x).dtype == np.round(x).dtype
        if x.dtype.kind != "b":
            assert ng.clip(x, 1, 2).dtype == np.clip(x, 1, 2).dtype
        for name in ("real", "imag", "angle", "conj", "nan_to_num"):
            assert getattr(ng, name)(x).dtype == getattr(np, name)(x).dtype, name


def test_comparisons_are_exact_where_promotion_would_lose_digits() -> None:
    signed = np.array([-1, 2**62 + 1, 2**63 - 1, 0], np.int64)
    unsigned = np.array([2**64 - 1, 2**62, 2**63, 0], np.uint64)
    for name in "equal not_equal less less_equal greater greater_equal".split():
        function, numpy = getattr(ng, name), getattr(np, name)
        for x, y in itertools.product((signed, unsigned), repeat=2):
            np.testing.assert_array_equal(function(x[:, None], y).numpy(), numpy(x[:, None], y), err_msg=name)
        for x, scalar in itertools.product((signed, np.array([3, 200], np.uint8)), (300, -1, 2**70, -(2**70))):
            np.testing.assert_array_equal(function(x, scalar).numpy(), numpy(x, scalar), err_msg=f"{name} {scalar}")
            np.testing.assert_array_equal(function(scalar, x).numpy(), numpy(scalar, x), err_msg=f"{scalar} {name}")


def test_a_python_integer_that_does_not_fit_is_an_overflow_error() -> None:
    with pytest.raises(OverflowError, match="^add: .*300.*test_ops.py:"):
        ng.add(np.uint8(1), 300)


# -- derivatives
@pytest.mark.parametrize("name", sorted(MATHEMATICS))
def test_value_and_derivatives_are_those_of_mathematics(name: str) -> None:
    check_against_mathematics(name)


def has_derivatives(name: str) -> bool:
    return OPS[name].differentiable and OPS[name].smooth


@pytest.mark.parametrize("name", [n for n in NAMES if has_derivatives(n)])
def test_derivatives_agree_with_differences(name: str) -> None:
    compared = [check_along_a_line(name, case) for case in derivative_cases(name)]
    assert any(compared), f"{name} is differentiable, but no sample of it is smooth and in double precision"


@pytest.mark.parametrize("n", [0, 1, 2])
def test_polygamma_of_each_order_is_that_of_mathematics(n: int) -> None:
    x = np.array([0.3, 1.7, 4.2])
    with Graph().as_default():
        node = placeholder(np.float64, (3,))
        y = ng.special.polygamma(n, node)
        (first,) = ng.gradients(y, node)
        (second,) = ng.gradients(first, node)
    for k, tensor in enumerate((y, first, second)):
        np.testing.assert_allclose(ng.run(tensor, {node: x}), [float(mpmath.psi(n + k, v)) for v in x], rtol=1e-12)


@pytest.mark.parametrize("name", [n for n in NAMES if not has_derivatives(n)])
def test_ops_without_derivatives_say_so(name: str) -> None:
    """Nothing flows back, or asking is an error; a gradient is never silently wrong."""
    record = OPS[name]
    cases = samples(record) or [
        Case(
            tuple(
                ordinary(record, d, (3,), i)
                for i, d in enumerate(operand_dtypes(record, np.dtype("f8" if "f" in record.dtypes else "i8")))
            ),
            {},
            "",
        )
    ]
    case = next((c for c in cases if any(a.dtype.kind in "fc" for a in c.arrays)), cases[0])
    with Graph().as_default():
        xs = [placeholder(a.dtype, a.shape) for a in case.arrays]
        ys = [y for y in apply_all(name, *xs, **case.attrs) if y.dtype.kind == "f"]
        if ys and name == "prevent_gradient":
            with pytest.raises(LookupError, match="explicitly disabled: no"):
                ng.gradients(ys, xs)
        elif ys and xs:
            assert ng.gradients(ys, xs) == [None] * len(xs)
            assert pushforward(ys, xs, [ng.ones_like(x) for x in xs]) == [None] * len(ys)


# -- records
def public(record: OpRecord) -> Any:
    found: Any = ng
    for part in record.public.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", OWN)
def test_record_is_complete(name: str) -> None:
    record = OPS[name]
    assert record.name == name
    assert record.doc.endswith(".") and record.doc[0].isupper() and "\n" not in record.doc
    assert not record.public or callable(public(record)), f"{record.public} does not lead to a function"
    assert set(record.dtypes) <= set("biufc") and record.dtypes
    if name not in WITHOUT_CASES:
        assert record.samples is not None or record.kind == "elementwise", "nothing tells the tests how to call it"
    if record.partials is not None:
        assert record.vjp is None and record.jvp is None, "its derivative is written twice"
        assert len(record.partials) == record.facts["arity"]
    for interval in record.domain:
        assert interval is None or interval[0] < interval[1]
    if not record.differentiable and name not in WITHOUT_CASES and "f" in record.dtypes:
        cases = samples(record) or list(value_cases(record))
        dtypes = {v.dtype.kind for c in cases for v in eagerly(name, c) if any(a.dtype.kind == "f" for a in c.arrays)}
        assert not record.smooth or not dtypes & set("fc"), "it gives floats and says nothing about its derivative"


def test_every_smooth_elementwise_op_is_held_against_mathematics_or_samples() -> None:
    smooth = {n for n in ELEMENTWISE if has_derivatives(n)}
    assert smooth - set(MATHEMATICS) == {n for n in smooth if OPS[n].samples is not None} - set(MATHEMATICS) | {
        "make_complex"
    }


# -- planted faults: the checkers above find them
@contextmanager
def planted(name: str, **changes: Any) -> Iterator[None]:
    """The op table with some facts about one op replaced."""
    before = OPS[name]
    OPS[name] = dataclasses.replace(before, **changes)
    try:
        yield
    finally:
        OPS[name] = before


FAULTY_PARTIALS = {
    "tanh": (lambda y, x: 1 - y,),
    "log1p": (lambda y, x: 1 / x,),
    "multiply": (lambda z, x, y: y, lambda z, x, y: y),
    "softplus": (lambda y, x: ng.tanh(x),),
    "subtract": (lambda z, x, y: 1, lambda z, x, y: 1),
    "sin": (lambda y, x: ng.stop_gradient(ng.cos(x)),),  # right at first order, and only there
    "square": (lambda y, x: 2 * x * (1 + 1e-10),),
}


@pytest.mark.parametrize("name", FAULTY_PARTIALS)
def test_checkers_catch_a_wrong_partial(name: str) -> None:
    with planted(name, partials=FAULTY_PARTIALS[name]), pytest.raises(AssertionError, match=name):
        check_against_mathematics(name)
    check_against_mathematics(name)


@pytest.mark.parametrize("name", ["tanh", "multiply", "sin"])
def test_checker_along_a_line_catches_a_wrong_partial(name: str) -> None:
    case = derivative_cases(name)[0]
    with (
        planted(name, partials=FAULTY_PARTIALS[name]),
        pytest.raises(AssertionError, match=f"{name} .*differences give"),
    ):
        check_along_a_line(name, case)


def test_checker_along_a_line_catches_a_wrong_jvp_and_a_forgotten_conjugate() -> None:
    case = next(c for c in derivative_cases("conj") if c.label == "complex128")
    with (
        planted("conj", jvp=lambda op, tangents: list(tangents)),
        pytest.raises(AssertionError, match="conj .*forward"),
    ):
        check_along_a_line("conj", case)
    with planted("conj", vjp=lambda op, cts: list(cts)), pytest.raises(AssertionError, match="conj .*reverse"):
        check_along_a_line("conj", case)


def test_checkers_catch_a_wrong_meaning_and_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = list(layout_cases(OPS["exp2"]))
    with (
        planted("exp2", evaluate=lambda x: np.exp(x) * (1 + 1e-14)),
        pytest.raises(AssertionError, match="exp2 .*eager"),
    ):
        check_eager_values("exp2", cases)
    rows = formula.table()
    monkeypatch.setitem(rows, ("exp2", "f"), rows["exp2", "f"]._replace(function=lambda m,
                                                                        x: m.exp(x)))  # type: ignore[arg-type]
    # Nothing that the fault makes may stay on disk, where the program would be found by what it should compute.
    with ng.config.cache_dir(None), pytest.raises(AssertionError, match="exp2 .*compiled"):
        check_compiled_values("exp2", cases)

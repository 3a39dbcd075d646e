"""Compiled loop nests of every pattern against the interpreter: elementwise, views, reductions, regions, and mixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import apply
from numgrad_kernels.settings import settings
from tests.compiler_cases import DTYPES, Case, exact, units

SHAPES = [(), (0,), (1,), (7,), (3, 4), (1, 5), (4, 0), (2, 3, 4), (2, 1, 4), (2, 0, 3), (2, 3, 2, 5), (1, 1, 1, 1)]
#: Around the length of a chunk of a full reduction, and of a block of columns.
LENGTHS = [0, 1, 2, 7, 8191, 8192, 8193, 100_003]
WIDTHS = [0, 1, 2, 511, 512, 513, 1025]


def named(rank: int) -> tuple[str, ...]:
    """A shape of unknown sizes."""
    return tuple("abcd"[:rank])


# -- elementwise
@pytest.mark.parametrize("shape", SHAPES)
def test_elementwise_nests_of_every_rank(shape: tuple[int, ...]) -> None:
    case = Case(
        lambda x, y: [x * y - x, ng.maximum(x, -y), ng.where(x < y, x, 2.0 * y)],
        (np.float64, named(len(shape))),
        (np.float64, named(len(shape))),
    )
    case.check(exact(np.float64, shape), exact(np.float64, shape, 1))


@pytest.mark.parametrize("left", [(), (1,), (5,), (1, 5), (4, 1), (3, 1, 5), (3, 4, 1), (2, 1, 1, 5), (2, 3, 4, 5)])
def test_broadcast_operands(left: tuple[int, ...]) -> None:
    sizes = {5: "c", 4: "b", 3: "a", 2: "z", 1: 1}
    case = Case(
        lambda x, y, z: [x + y, z - x, (x + y) * z],
        *((np.float64, tuple(sizes[n] for n in shape)) for shape in (left, (3, 4, 5), (4, 1))),
    )
    case.check(exact(np.float64, left), exact(np.float64, (3, 4, 5)), exact(np.float64, (4, 1)))
    if 5 in left:
        others = {5: 7, 4: 2, 3: 6, 2: 1, 1: 1}
        case.check(*(exact(np.float64, [others[n] for n in shape]) for shape in (left, (3, 4, 5), (4, 1))))


def test_special_values_go_through_unharmed() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1.7976931348623157e308, -1.0, 1.0])
    x, y = (np.ascontiguousarray(g) for g in np.meshgrid(values, values))
    case = Case(
        lambda a, b: [
            a + b,
            a * b,
            a / b,
            0.0 * a,
            a - a,
            -a,
            a * 1.0,
            a + 0.0,
            ng.maximum(a, b),
            ng.sqrt(a),
            ng.where(a == b, a, b),
            ng.abs(b),
            ng.exp(a - b),
        ],
        (np.float64, ("n", "n")),
        (np.float64, ("n", "n")),
    )
    got = case.check(x, y, ulps=2)
    for k, (mine, theirs) in enumerate(zip(got, case.interpreted(x, y))):
        same = np.signbit(mine) == np.signbit(theirs)
        either = (x == y) if k == 8 else False  # NumPy gives either zero, by the length of the array
        assert np.all(same | np.isnan(theirs) | either), f"output {k}: the sign of a zero or infinity is lost"


# -- views
VIEWS = {
    "transpose": lambda x: ng.permute_dims(x, (2, 0, 1)),
    "flip": lambda x: ng.flip(x, (0, 2)),
    "slice": lambda x: x[1:, ::2, -3:],
    "backwards": lambda x: x[::-1, ::-2, 1::3],
    "one row": lambda x: x[1],
    "one column": lambda x: x[..., -1],
    "merged axes": lambda x: ng.reshape(x, (-1, x.shape[2])),
    "merged transposed axes": lambda x: ng.reshape(ng.permute_dims(x, (1, 2, 0)), (-1, x.shape[0])),
    "split": lambda x: ng.reshape(x[:4], (2, 2, -1, x.shape[2])),
    "new axes": lambda x: ng.expand_dims(ng.expand_dims(x, 0), 3),
    "broadcast": lambda x: ng.broadcast_to(x, (2, *x.shape)),
    "diagonal": lambda x: ng.diagonal(x, axis1=0, axis2=1),
    "view of views": lambda x: ng.flip(ng.permute_dims(x[1:, :, ::2], (2, 1, 0))[::-1], 1),
    "same": lambda x: x,
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_read_in_place_and_copied_out(name: str) -> None:
    view = VIEWS[name]
    case = Case(
        lambda x: [
            view(x),
            view(x) * 2.0,
            view(x + 1.0),
            ng.sum(view(x)),
            ng.max(view(x), axis=-1),
            ng.sum(view(x), axis=0),
            view(x),
        ],
        (np.float64, named(3)),
    )
    for shape in [(5, 6, 7), (4, 4, 4), (9, 3, 600)]:
        array = exact(np.float64, shape)
        got = case.check(array)
        assert not any(np.shares_memory(g, array) for g in got)
        assert not np.shares_memory(got[0], got[-1])


# -- reductions
AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reductions_of_every_dtype_over_all_axes(dtype: np.dtype[Any]) -> None:
    names = ("any", "all", "max", "min") if dtype.kind == "b" else ("sum", "max", "min")
    case = Case(lambda x: [apply(name, x, axes=axes) for name in names for axes in AXES], (dtype, named(3)))
    products = (
        None if dtype.kind == "b" else Case(lambda x: [apply("prod", x, axes=axes) for axes in AXES], (dtype, named(3)))
    )
    for shape in [(3, 4, 5), (1, 1, 1), (2, 1, 513), (1, 9000, 2), (3, 2, 1)]:
        case.check(exact(dtype, shape))
        if products is not None:
            products.check(units(dtype, shape))


@pytest.mark.parametrize("axes", [(0, 2), (1, 3), (0, 3), (0, 1, 3), (0, 2, 3), (1,), (2,), (1, 2), (0, 1, 2, 3)])
def test_axes_that_are_not_neighbours(axes: tuple[int, ...]) -> None:
    case = Case(lambda x: [apply(name, x, axes=axes) for name in ("sum", "max", "min")], (np.float64, named(4)))
    for shape in [(2, 3, 4, 5), (3, 1, 2, 520), (1, 4, 1, 3), (6, 2, 5, 1)]:
        case.check(exact(np.float64, shape))


@pytest.mark.parametrize("length", LENGTHS)
def test_full_reductions_around_the_length_of_a_chunk(length: int) -> None:
    case = Case(
        lambda x, y: [
            ng.sum(x),
            ng.sum(x * y),
            ng.min(ng.concat([x, [9.0]])),
            ng.any(x > 2.5),
            ng.prod(y),
            ng.sum(x[::2]),
        ],
        (np.float64, ("n",)),
        (np.float64, ("n",)),
    )
    case.check(exact(np.float64, (length,)), units(np.float64, (length,)))


@pytest.mark.parametrize("width", WIDTHS)
def test_column_reductions_around_the_width_of_a_block(width: int) -> None:
    case = Case(
        lambda x: [ng.sum(x, axis=0), ng.sum(2.0 * x, axis=0) - 1.0, ng.sum(x, axis=(0, 1)), ng.sum(x, axis=1)],
        (np.float64, named(3)),
    )
    for rows in (0, 1, 5):
        case.check(exact(np.float64, (rows, 3, width)))


def test_float16_columns_add_up_as_the_interpreter_says() -> None:
    ones = np.ones((1500, 3), np.float16)
    case = Case(lambda x: [ng.sum(x, axis=0), ng.sum(x, axis=1), ng.sum(x)], (np.float16, named(2)))
    case.check(ones)


def test_nan_wins_and_signed_zeros_stay_in_extrema() -> None:
    case = Case(
        lambda x: [apply(op, x, axes=axes) for op in ("max", "min") for axes in ((0,), (1,), (0, 1))],
        (np.float64, named(2)),
    )
    x = np.array([[1.0, np.nan, -np.inf, 3.0], [np.inf, 2.0, -np.inf, -3.0]])
    case.check(x)
    case.check(x[:, 2:].copy())
    assert np.isnan(case.compiled(np.full((2, 2), np.nan))[2])
    complex_case = Case(lambda z: [ng.max(z), ng.min(z, axis=0), ng.max(z, axis=1)], (np.complex128, named(2)))
    complex_case.check(np.array([[1 + 2j, 1 - 2j, 0.5], [complex(np.nan, 1), 1j, -3]]))


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
@pytest.mark.parametrize(("shape", "axes", "fails"), [
    ((0,), (0,), True), ((3, 0), (1,), True), ((0, 3), (1,), False), ((0, 3), (0,), True), ((0, 0), (1,), True),
])  # fmt: skip
def test_extrema_of_nothing_raise_as_in_numpy(
    name: str, shape: tuple[int, ...], axes: tuple[int, ...], fails: bool
) -> None:
    function = getattr(ng, name)
    case = Case(lambda x: function(x, axis=axes[0]), (np.float64, named(len(shape))))
    array = np.zeros(shape)
    if not fails:
        case.check(array)
        return
    with pytest.raises(ValueError):
        getattr(np, name)(array, axis=axes[0])
    with pytest.raises(ng.errors.ShapeError, match=rf"{name}: the axes .* have no elements.*test_compiler_nests.py"):
        case.compiled(array)
    case.check(np.ones([max(n, 2) for n in shape]))


def test_extrema_of_nothing_over_several_axes() -> None:
    case = Case(lambda x: ng.max(x, axis=(0, 2)), (np.float64, named(3)))
    case.check(np.zeros((2, 0, 3)))
    for shape in [(0, 2, 0), (0, 2, 3), (2, 3, 0)]:
        with pytest.raises(ng.errors.ShapeError, match="no elements"):
            case.compiled(np.zeros(shape))


def test_values_behind_a_reshape_are_not_recomputed_in_other_loops() -> None:
    def function(x: Any) -> list[Any]:
        y = ng.concat([x, x]) + 1.0
        flat = ng.reshape(y, (-1,))
        return [ng.sum(flat), flat * 2.0, ng.sum(ng.reshape(y * 3.0, (-1,)) - 1.0)]

    case = Case(function, (np.float64, ("a", "b", 1)))
    for shape in [(2, 3, 1), (1, 1, 1), (3, 5000, 1)]:
        case.check(exact(np.float64, shape))


# -- several outputs, shared work
def test_many_outputs_and_reductions_of_one_nest() -> None:
    def function(x: Any, y: Any) -> list[Any]:
        z = x * y
        return [z, x + y, ng.sum(z), ng.max(x + y), ng.min(z), ng.any(z > 3.0), ng.sum(x * x), z]

    case = Case(function, (np.float64, ("n",)), (np.float64, ("n",)))
    for size in (1, 5, 9000):
        got = case.check(exact(np.float64, (size,)), exact(np.float64, (size,), 1))
        assert not np.shares_memory(got[0], got[-1])
    assert case.program.kernel_count <= 6


def test_reductions_that_depend_on_reductions() -> None:
    def softmax_like(x: Any) -> list[Any]:
        top = ng.max(x, axis=1, keepdims=True)
        weights = ng.where(x == top, 1.0, 0.0)
        total = ng.sum(weights, axis=1, keepdims=True)
        return [weights - total, ng.sum(weights - total), ng.sum(ng.max(weights - total, axis=0))]

    case = Case(softmax_like, (np.float64, named(2)))
    for shape in [(3, 4), (1, 1), (100, 3), (2, 2000)]:
        case.check(exact(np.float64, shape))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bool", "complex64"])
def test_dtypes_mix_within_a_nest(dtype: str) -> None:
    def function(x: Any, y: Any, keep: Any) -> list[Any]:
        wide = ng.astype(x, np.complex128 if np.dtype(dtype).kind == "c" else np.float64)
        return [ng.where(keep, x, ng.zeros_like(x)), wide + y, ng.sum(wide * y, axis=0), ng.any(keep, axis=1), x == x]

    case = Case(function, (dtype, named(2)), (np.float64, named(2)), (bool, named(2)))
    case.check(exact(dtype, (4, 600)), exact(np.float64, (4, 600)), exact(bool, (4, 600)))


# -- regions
def test_concat_stack_and_pads_write_strided_regions() -> None:
    def function(x: Any, y: Any) -> list[Any]:
        joined = [ng.concat([x, y * 2.0, x], axis=axis) for axis in (0, 1, 2)]
        stacked = [ng.stack([x, y, x + y], axis=axis) for axis in (0, 2, 3)]
        sliced = ng.gradients([ng.sum(x[1:, ::2, -2:] * 3.0), ng.sum(ng.flip(x, 1)[:, 0])], x)
        traced = ng.gradients(ng.sum(ng.diagonal(x, axis1=0, axis2=1) * 5.0), x)
        return [*joined, *stacked, *sliced, *traced]

    case = Case(function, (np.float64, named(3)), (np.float64, named(3)))
    for shape in [(2, 3, 4), (1, 1, 2), (3, 2, 600)]:
        case.check(exact(np.float64, shape), exact(np.float64, shape, 1))


def test_pieces_of_different_and_of_no_size_are_joined() -> None:
    case = Case(
        lambda x, y: [ng.concat([x, y]), ng.concat([y, x, y]), ng.sum(ng.concat([x, y]))],
        (np.int32, ("n", 2)),
        (np.int32, ("m", 2)),
    )
    for n, m in [(3, 4), (0, 2), (2, 0), (0, 0), (1, 700)]:
        case.check(exact(np.int32, (n, 2)), exact(np.int32, (m, 2)))


def test_a_region_of_a_view_of_a_reduction_of_a_region() -> None:
    def function(x: Any) -> list[Any]:
        first = ng.concat([x, -x], axis=1)
        second = ng.sum(first[:, ::-1], axis=0)
        third = ng.stack([second[1:], second[:-1]])
        return [third, ng.permute_dims(third, (1, 0)), ng.concat([second, second[:2]])]

    case = Case(function, (np.float64, named(2)))
    for shape in [(3, 4), (1, 2), (50, 300)]:
        case.check(exact(np.float64, shape))


# -- planted faults: the comparison above must see each of them
def _kernels_with(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from numgrad.compiler import lowering

    honest = lowering.print_cpu

    def printed(nest: Any, scalar: Any) -> Any:
        result = honest(nest, scalar)
        return type(result)(change(result.source), result.arguments, result.signature)

    monkeypatch.setattr(lowering, "print_cpu", printed)
    monkeypatch.setattr(settings, "cache_enabled", False)  # what is made with a fault must not be kept


FAULTS: dict[str, tuple[Any, Sequence[Any]]] = {
    "a wrong formula": (lambda text: text.replace(" * ", " + "), (lambda x: x * x,)),
    "a wrong stride": (lambda text: text.replace(" * tp0_1", ""), (lambda x: ng.permute_dims(x, (1, 0)) + 1.0,)),
    "a missing store": (lambda text: text.replace("q1[", "q0["), (lambda x: [x + 1.0, x * 2.0],)),
    "a wrong start": (lambda text: text.replace("f64(0)", "f64(1)"), (lambda x: ng.sum(x, axis=1),)),
    "a short loop": (lambda text: text.replace("range(0, n1)", "range(1, n1)"), (lambda x: ng.sum(x, axis=1),)),
    "a lost chunk": (lambda text: text.replace("first = c * chunk", "first = c * chunk + 1"), (lambda x: ng.sum(x),)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_in_kernels_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, (function,) = FAULTS[name]
    array = exact(np.float64, (5, 7)) + 5.0
    Case(function, (np.float64, named(2))).check(array)
    _kernels_with(monkeypatch, change)
    with pytest.raises(AssertionError, match="output"):
        Case(function, (np.float64, named(2))).check(array)


def test_planted_faults_in_the_schedule_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from numgrad.compiler import access, schedule

    honest = access.aligned

    def misaligned(found: Any, shape: Any, target: Any) -> Any:
        read = honest(found, shape, target)
        return read._replace(offset=read.offset + 1) if len(read.strides) == 2 else read

    array = exact(np.float64, (5, 7), "schedule")
    Case(lambda x: x[1:, :-1] * 2.0, (np.float64, named(2))).check(array)
    monkeypatch.setattr(schedule, "aligned", misaligned)
    monkeypatch.setattr(settings, "cache_enabled", False)
    with pytest.raises(AssertionError, match="output 0"):
        Case(lambda x: x[1:, :-1] * 2.0, (np.float64, named(2))).check(array)

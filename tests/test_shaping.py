"""Shaping, slicing, joining, repeating and padding: NumPy's answers eagerly, in graphs, compiled; gradients; errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.errors import DtypeError, KernelError, ShapeError
from tests.shaping_cases import agree

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 3, 4))
M = RNG.standard_normal((4, 6))
V = RNG.standard_normal(6)
ODD_LAYOUTS = [M.T, M[::2, ::-1], np.asfortranarray(M), M.astype(">f8"), M[:0], M[:, :0], np.broadcast_to(V, (4, 6))]

SHAPING: dict[str, tuple[Any, Any, Any]] = {
    "reshape": (lambda x: ng.reshape(x, (4, -1)), lambda x: np.reshape(x, (4, -1)), X),
    "reshape by sizes": (lambda x: ng.reshape(x, (x.shape[1], x.shape[0] * x.shape[2])),
                         lambda x: np.reshape(x, (x.shape[1], -1)), X),
    "reshape in Fortran order": (lambda x: ng.reshape(x, (6, 4), order="F"), lambda x: np.reshape(x, (6, 4), "F"), X),
    "reshape of a transpose": (lambda x: ng.reshape(x.T, (-1,)), lambda x: x.T.reshape(-1), X),
    "ravel": (ng.ravel, np.ravel, X),
    "flatten": (lambda x: ng.flatten(x, "F"), lambda x: x.flatten("F"), M),
    "expand_dims": (lambda x: ng.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)), M),
    "squeeze": (lambda x: ng.squeeze(x[:, None, :, None], (1, -1)), lambda x: x, M),
    "broadcast_to": (lambda x: ng.broadcast_to(x, (2, *x.shape)), lambda x: np.broadcast_to(x, (2, *x.shape)), M),
    "broadcast of ones": (lambda x: ng.broadcast_to(x[:, :1], x.shape),
                          lambda x: np.broadcast_to(x[:, :1], x.shape), M),
    "permute_dims": (lambda x: ng.permute_dims(x, (1, 2, 0)), lambda x: np.transpose(x, (1, 2, 0)), X),
    "transpose": (ng.transpose, np.transpose, X),
    "matrix_transpose": (ng.matrix_transpose, np.matrix_transpose, X),
    "swapaxes": (lambda x: ng.swapaxes(x, 0, -1), lambda x: np.swapaxes(x, 0, -1), X),
    "moveaxis": (lambda x: ng.moveaxis(x, (0, 1), (-1, 0)), lambda x: np.moveaxis(x, (0, 1), (-1, 0)), X),
    "atleast_3d": (ng.atleast_3d, np.atleast_3d, M),
    "atleast_2d": (ng.atleast_2d, np.atleast_2d, V),
    "flip": (ng.flip, np.flip, X),
    "flip of axes": (lambda x: ng.flip(x, (0, 2)), lambda x: np.flip(x, (0, 2)), X),
    "flipud": (ng.flipud, np.flipud, M),
    "fliplr": (ng.fliplr, np.fliplr, M),
    "rot90": (lambda x: [ng.rot90(x, k, (2, 0)) for k in range(-1, 4)],
              lambda x: [np.rot90(x, k, (2, 0)) for k in range(-1, 4)], X),
    "diagonal": (lambda x: [ng.diagonal(x, k, 2, 0) for k in (-3, -1, 0, 1, 2)],
                 lambda x: [np.diagonal(x, k, 2, 0) for k in (-3, -1, 0, 1, 2)], RNG.standard_normal((4, 2, 4))),
    "diag of a vector": (lambda x: [ng.diag(x, k) for k in (-2, 0, 1)],
                         lambda x: [np.diag(x, k) for k in (-2, 0, 1)], V),
    "diag of a matrix": (lambda x: [ng.diag(x, k) for k in (-2, 0, 1)],
                         lambda x: [np.diag(x, k) for k in (-2, 0, 1)], M),
    "tril": (lambda x: [ng.tril(x, k) for k in (-1, 0, 2)], lambda x: [np.tril(x, k) for k in (-1, 0, 2)], X),
    "triu": (lambda x: [ng.triu(x, k) for k in (-1, 0, 2)], lambda x: [np.triu(x, k) for k in (-1, 0, 2)], X),
    "slices": (lambda x: [x[1:], x[:-1], x[::2], x[::-1], x[-2:], x[1:-1:2], x[5:0:-2], x[:3, -3:], x[-1], x[2, 1:]],
               lambda x: [x[1:], x[:-1], x[::2], x[::-1], x[-2:], x[1:-1:2], x[5:0:-2], x[:3, -3:], x[-1], x[2, 1:]],
               RNG.standard_normal((6, 5))),
    "differences": (lambda x: x[1:] - x[:-1], lambda x: x[1:] - x[:-1], V),
    "slices by sizes": (lambda x: [x[:x.shape[0] - 1], x[x.shape[0] // 2:], x[x.shape[0] - 1]],
                        lambda x: [x[:-1], x[len(x) // 2:], x[-1]], V),
    "concat with itself": (lambda x: ng.concat([x, x[:, :2], x], axis=1),
                           lambda x: np.concatenate([x, x[:, :2], x], 1), M),
    "concat of flattened": (lambda x: ng.concat([x, x[0]], axis=None), lambda x: np.concatenate([x, x[0]], None), M),
    "stack": (lambda x: ng.stack([x, 2 * x], -1), lambda x: np.stack([x, 2 * x], -1), M),
    "vstack": (lambda x: ng.vstack([x, x]), lambda x: np.vstack([x, x]), V),
    "hstack": (lambda x: ng.hstack([x, x]), lambda x: np.hstack([x, x]), M),
    "dstack": (lambda x: ng.dstack([x, x]), lambda x: np.dstack([x, x]), M),
    "column_stack": (lambda x: ng.column_stack([x[0], x.T]), lambda x: np.column_stack([x[0], x.T]), M),
    "split": (lambda x: ng.split(x, 2, 1), lambda x: np.split(x, 2, 1), M),
    "split at": (lambda x: ng.split(x, [1, 3], 1), lambda x: np.split(x, [1, 3], 1), M),
    "array_split": (lambda x: ng.array_split(x, 4, 1), lambda x: np.array_split(x, 4, 1), M),
    "tile": (lambda x: ng.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3)), M),
    "repeat": (lambda x: ng.repeat(x, 3, axis=0), lambda x: np.repeat(x, 3, axis=0), M),
    "repeat flattened": (lambda x: ng.repeat(x, 2), lambda x: np.repeat(x, 2), M),
    "roll": (lambda x: [ng.roll(x, s, axis=1) for s in (-2, 0, 1, 4)],
             lambda x: [np.roll(x, s, 1) for s in (-2, 0, 1, 4)], M),
    "roll flattened": (lambda x: ng.roll(x, 3), lambda x: np.roll(x, 3), M),
    "roll of two axes": (lambda x: ng.roll(x, (1, -2), (0, 1)), lambda x: np.roll(x, (1, -2), (0, 1)), M),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPING)
def test_values_and_gradients_are_numpys(name: str) -> None:
    ours, numpys, x = SHAPING[name]
    agree(ours, numpys, x)


def test_compiled_programs_agree_for_sizes_that_are_not_known() -> None:
    """Everything above in a few programs, so that few kernels are compiled."""
    for rank in (1, 2, 3):
        cases = [case for case in SHAPING.values() if np.ndim(case[2]) == rank]
        arrays = [case[2] for case in cases]

        def all_of(which: int, cases: list[Any] = cases) -> Any:
            def function(*inputs: Any) -> list[Any]:
                results: list[Any] = []
                for case, x in zip(cases, inputs, strict=True):
                    result = case[which](x)
                    results += result if isinstance(result, list) else [result]
                return results

            return function

        agree(all_of(0), all_of(1), *arrays, compiled=True)


@pytest.mark.parametrize("x", ODD_LAYOUTS, ids=lambda x: f"{x.dtype.str}{x.shape}{x.strides}")
def test_layouts(x: Any) -> None:
    agree(
        lambda x: [ng.reshape(x, (-1, 1)), ng.permute_dims(x), ng.flip(x, 0), x[:, 1::2], ng.concat([x, x])],
        lambda x: [np.reshape(x, (-1, 1)), np.transpose(x), np.flip(x, 0), x[:, 1::2], np.concatenate([x, x])],
        x.astype("f8") if x.dtype.byteorder == ">" else x,
        unknown=0 not in x.shape,
        gradient=False,
    )
    assert ng.reshape(x, (x.size,)).numpy().dtype.isnative


@pytest.mark.parametrize("dtype", "? i1 u2 i4 i8 f2 f4 c8 c16".split())
def test_dtypes_stay(dtype: str) -> None:
    x = (M * 3).astype(dtype)
    for ours, numpys in (
        (lambda x: ng.pad(x, 1), lambda x: np.pad(x, 1)),
        (ng.triu, np.triu),
        (ng.diag, np.diag),
        (lambda x: ng.roll(x, 1, 0), lambda x: np.roll(x, 1, 0)),
        (ng.ravel, np.ravel),
    ):
        np.testing.assert_array_equal(ours(x).numpy(), numpys(x), strict=True)


def test_joining_promotes() -> None:
    for arrays in (
        [np.arange(2, dtype="i4"), np.arange(2.0)],
        [np.array([True]), np.array([1], "u1")],
        [np.array([1j], "c8"), np.array([1.0])],
    ):
        np.testing.assert_array_equal(ng.concat(arrays).numpy(), np.concatenate(arrays), strict=True)
    assert ng.stack([1, 2.5]).dtype == np.float64
    assert ng.concat([[1], [2]], dtype=np.float32).dtype == np.float32


def test_broadcast_arrays() -> None:
    x, y, z = RNG.standard_normal((3, 1)), RNG.standard_normal(4), np.array(2.0)
    agree(lambda *a: ng.broadcast_arrays(*a), lambda *a: list(np.broadcast_arrays(*a)), x, y, z, unknown=False)
    assert ng.broadcast_arrays() == []


def test_iteration_and_unstack() -> None:
    x = ng.asarray(M)
    for ours, numpys in zip(x, M, strict=True):
        np.testing.assert_array_equal(ours.numpy(), numpys)
    for ours, numpys in zip(ng.unstack(x, axis=1), M.T, strict=True):
        np.testing.assert_array_equal(ours.numpy(), numpys)


def test_iteration_fixes_a_size_that_is_traced_and_asks_for_one_that_is_unknown() -> None:
    traces = []

    @ng.function
    def horner(c: Any, x: Any) -> Any:
        traces.append(c.shape)
        total = 0.0 * x
        for row in c:
            total = total * x + row
        return total

    for n in (4, 4, 2):
        np.testing.assert_allclose(horner(V[:n], 1.5), np.polyval(V[:n], 1.5))
    assert len(traces) == 2
    with ng.Graph().as_default():
        x = ng.placeholder("f8", ("n",))
        with pytest.raises(ShapeError, match=r"needs the value of the size n.*test_shaping\.py"):
            list(x)


def test_second_derivatives_go_through_views_and_regions() -> None:
    """The Hessian of sum(join(views(x))**3) is diagonal: 6 x for each time that an element takes part."""

    def f(x: Any) -> Any:
        return ng.sum(ng.concat([x[1:], ng.flip(x[::2]), ng.roll(x, 2)]) ** 3)

    times = np.ones(6) + (np.arange(6) >= 1) + (np.arange(6) % 2 == 0)
    np.testing.assert_allclose(ng.hessian(f)(V), np.diag(6 * V * times), atol=1e-12)


# -- padding

PAD_MODES: list[dict[str, Any]] = [
    {"mode": "constant"}, {"mode": "constant", "constant_values": 2.5},
    {"mode": "constant", "constant_values": ((1, 2), (3, 4))},
    {"mode": "edge"}, {"mode": "wrap"}, {"mode": "linear_ramp"},
    {"mode": "linear_ramp", "end_values": ((-1, 2), (0, 5))},
    {"mode": "maximum"}, {"mode": "minimum", "stat_length": 2}, {"mode": "mean"},
    {"mode": "mean", "stat_length": ((1, 2), (9, 3))},
    {"mode": "median"}, {"mode": "median", "stat_length": 2},
    {"mode": "reflect"}, {"mode": "reflect", "reflect_type": "odd"},
    {"mode": "symmetric"}, {"mode": "symmetric", "reflect_type": "odd"},
]  # fmt: skip


@pytest.mark.parametrize("options", PAD_MODES, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("widths", [1, (2, 0), ((0, 3), (2, 1))], ids=str)
def test_pad_modes(options: dict[str, Any], widths: Any) -> None:
    # NumPy forms means in another order of additions
    agree(lambda x: ng.pad(x, widths, **options), lambda x: np.pad(x, widths, **options), M, exact=False)


@pytest.mark.parametrize(
    "options",
    [o for o in PAD_MODES if o["mode"] in ("reflect", "symmetric", "wrap")],
    ids=lambda o: "-".join(map(str, o.values())),
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pad_goes_round_several_times(options: dict[str, Any], size: int) -> None:
    x = np.arange(1.0, size + 1) ** 2
    for widths in ((7, 8), (0, 5), (9, 0)):
        agree(
            lambda x, w=widths: ng.pad(x, w, **options),
            lambda x, w=widths: np.pad(x, w, **options),
            x,
            unknown=False,
            exact=False,
        )


@pytest.mark.parametrize(
    "options", [o for o in PAD_MODES if "constant_values" not in o], ids=lambda o: "-".join(map(str, o.values()))
)
def test_pad_of_integers(options: dict[str, Any]) -> None:
    x = np.array([[3, -1, 4, 1], [5, -9, 2, 6]])
    np.testing.assert_array_equal(ng.pad(x, 2, **options).numpy(), np.pad(x, 2, **options), strict=True)


def test_pad_compiled_in_every_mode() -> None:
    def all_of(pad: Any) -> Any:
        return lambda x: [pad(x, ((1, 2), (3, 0)), **options) for options in PAD_MODES]

    agree(all_of(ng.pad), all_of(np.pad), M, compiled=True, exact=False)


def test_pad_values_carry_gradients() -> None:
    x, c = RNG.standard_normal(3), np.array(1.5)
    agree(lambda x, c: ng.pad(x, (1, 2), constant_values=c), lambda x, c: np.concatenate([[c], x, [c, c]]), x, c)


def test_pad_forms_of_width() -> None:
    np.testing.assert_array_equal(ng.pad(M, {1: (1, 2)}).numpy(), np.pad(M, ((0, 0), (1, 2))))
    np.testing.assert_array_equal(ng.pad(M, {-1: 2}, mode="edge").numpy(), np.pad(M, ((0, 0), (2, 2)), mode="edge"))
    np.testing.assert_array_equal(ng.pad(M[:0], 1).numpy(), np.pad(M[:0], 1))
    np.testing.assert_array_equal(ng.pad(M, ((1,), (2,))).numpy(), np.pad(M, ((1,), (2,))))
    np.testing.assert_array_equal(ng.pad(M, 1, mode="empty").numpy()[1:-1, 1:-1], M)
    with ng.Graph().as_default():
        x = ng.placeholder("f8", ("n",))
        y = ng.pad(x, (x.shape[0], 1))
        np.testing.assert_array_equal(ng.run(y, {x: V}), np.pad(V, (6, 1)))


# -- sizes that are not known


def test_one_trace_serves_slices_of_all_sizes_that_fit() -> None:
    traces = []

    @ng.function
    def f(x: Any) -> Any:
        traces.append(x.shape)
        return x[1:] - x[:-1], x[::2], x[-3:]

    for n in (5, 6, 9):
        x = RNG.standard_normal(n)
        for ours, numpys in zip(f(x), (np.diff(x), x[::2], x[-3:]), strict=True):
            np.testing.assert_array_equal(ours, numpys)
    assert len(traces) == 1
    for n in (2, 1, 0):  # the clipped cases are other traces, with Python's answers
        x = RNG.standard_normal(n)
        for ours, numpys in zip(f(x), (np.diff(x), x[::2], x[-3:]), strict=True):
            np.testing.assert_array_equal(ours, numpys)
    assert len(traces) > 1


def test_a_slice_that_does_not_fit_an_unknown_size_says_so_when_it_runs() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder("f8", ("n",))
        y = x[:3] * 2
        np.testing.assert_array_equal(ng.run(y, {x: V}), V[:3] * 2)
        with pytest.raises(ShapeError, match=r"n.*3.*test_shaping\.py"):
            ng.run(y, {x: V[:2]})
        with pytest.raises(ShapeError, match=r"n.*3"):
            ng.compile([x], y)(V[:2])


# -- errors

ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: ng.reshape(M, (5, 5)), ShapeError, r"cannot reshape float64\(4,6\) of 24 elements to \(5,5\) of 25"),
    (lambda: ng.reshape(M, (5, -1)), ShapeError, r"24 is not a multiple of 5"),
    (lambda: ng.reshape(M, (-1, -1)), ShapeError, r"at most one -1"),
    (lambda: ng.reshape(M[:0], (0, -1)), ShapeError, r"0 leaves the -1 open"),
    (lambda: ng.reshape(M, 24, order="K"), ShapeError, r"order is 'K', wanted 'C' or 'F'"),
    (lambda: ng.squeeze(M, 0), ShapeError, r"squeeze: the axes \(0,\) of float64\(4,6\) must have size 1"),
    (lambda: ng.expand_dims(M, 5), ShapeError, r"expand_dims: axis 5 is out of range for 3 axes"),
    (lambda: ng.broadcast_to(M, (4, 5)), ShapeError, r"broadcast_to: cannot broadcast float64\(4,6\) to \(4,5\)"),
    (lambda: ng.broadcast_to(M, 6), ShapeError, r"cannot broadcast"),
    (lambda: ng.permute_dims(M, (0, 0)), ShapeError, r"are no permutation of the 2 axes"),
    (lambda: ng.matrix_transpose(V), ShapeError, r"wanted at least two axes"),
    (lambda: ng.moveaxis(X, (0, 0), (1, 2)), ShapeError, r"equally many different axes"),
    (lambda: ng.diagonal(V), ShapeError, r"diagonal: got float64\(6,\), wanted at least two axes"),
    (lambda: ng.diagonal(M, 0, 1, -1), ShapeError, r"axis1 and axis2 are both 1"),
    (lambda: ng.diag(X), ShapeError, r"diag: got float64\(2,3,4\), wanted one or two axes"),
    (lambda: ng.tril(V), ShapeError, r"tril: got float64\(6,\)"),
    (lambda: ng.asarray(M)[::0], ShapeError, r"the step of axis 0 is zero"),
    (lambda: ng.concat([]), ShapeError, r"concat: got no arrays"),
    (lambda: ng.concat([M, V]), ShapeError, r"wanted equally many axes"),
    (lambda: ng.concat([M, M.T]), ShapeError, r"along axis 0; the other axes must have equal sizes"),
    (lambda: ng.concat([1.0, 2.0]), ShapeError, r"use ng\.stack"),
    (lambda: ng.stack([M, M.T]), ShapeError, r"wanted one shape"),
    (lambda: ng.split(V, 4), ShapeError, r"has size 6, no multiple of 4; ng\.array_split"),
    (lambda: ng.split(V, 0), ShapeError, r"got 0 parts"),
    (lambda: ng.tile(V, -1), ShapeError, r"wanted at least 0"),
    (lambda: ng.repeat(V, -1), ShapeError, r"got -1 repeats"),
    (lambda: ng.repeat(V, [1, 2]), ShapeError, r"give one for each element"),
    (lambda: ng.repeat(V, 1.5), DtypeError, r"wanted fixed integers"),
    (lambda: ng.roll(M, (1, 2, 3), (0, 1)), ShapeError, r"got 3 shifts for 2 axes"),
    (lambda: ng.rot90(M, 1, (0, 0)), ShapeError, r"are the same"),
    (lambda: ng.pad(V, -1), ShapeError, r"pad_width holds -1, wanted at least 0"),
    (lambda: ng.pad(V, 1.5), DtypeError, r"pad_width holds 1\.5, wanted integers"),
    (lambda: ng.pad(V, ((1, 2), (3, 4))), ShapeError, r"wanted a number, a pair, or 1 pairs"),
    (lambda: ng.pad(V, 1, mode="mirror"), ValueError, r"mode is 'mirror', wanted one of constant"),
    (lambda: ng.pad(V, 1, mode=lambda *a: None), KernelError, r"a function as mode"),
    (lambda: ng.pad(V, 1, mode="edge", end_values=1), ValueError, r"'edge' has no option 'end_values'; it has none"),
    (lambda: ng.pad(V, 1, mode="wrap", reflect_type=1), ValueError, r"no option 'reflect_type'"),
    (lambda: ng.pad(V, 1, mode="reflect", reflect_type="x"), ValueError, r"wanted 'even' or 'odd'"),
    (lambda: ng.pad(V, 1, mode="mean", stat_length=0), ShapeError, r"stat_length holds 0"),
    (lambda: ng.pad(V[:0], 1, mode="edge"), ShapeError, r"is empty, and mode 'edge' has nothing to copy"),
]  # fmt: skip


@pytest.mark.parametrize("call,error,text", ERRORS, ids=[text for _, _, text in ERRORS])
def test_errors_say_what_and_where(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert re.search(r"test_shaping\.py:\d+", str(caught.value))

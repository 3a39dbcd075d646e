"""Extrema along an axis and where they are: running maxima and minima, `argmax` and `argmin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import define
from numgrad.ops.reduction import keep, kept_shape, require_kind
from numgrad.ops.scan import along, flat_or_axis, lanes, rows, scan_library, scan_samples
from numgrad.types import Dim, Spec, same_size

__all__ = ["argmax", "argmin", "cummax", "cummin"]


# -- running extrema: the value and where it was first met
def _infer_extremum(name: str) -> Any:
    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        require_kind(specs[0], "biuf", name)
        return specs[0], Spec(np.dtype(np.int64), specs[0].shape)

    return infer


def _evaluate_extremum(ufunc: np.ufunc, before: np.ufunc) -> Any:
    def positions(x: Any, axis: int) -> Any:
        moved = np.moveaxis(x, axis, 0)
        level = ufunc.accumulate(moved, axis=0)
        fresh = np.ones(moved.shape, bool)
        fresh[1:] = before(level[:-1], moved[1:]) | ((moved[1:] != moved[1:]) & (level[:-1] == level[:-1]))
        steps = np.arange(len(moved)).reshape((-1,) + (1,) * (moved.ndim - 1))
        return np.moveaxis(np.maximum.accumulate(np.where(fresh, steps, 0), axis=0), 0, axis)

    def evaluate(x: Any, axis: int, reverse: bool) -> Any:
        index = along(positions, x, axis, reverse, False, 0)
        index = x.shape[axis] - 1 - index if reverse else index
        return np.take_along_axis(x, index, axis), index

    return evaluate


def vjp_by_position(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """For outputs (values, positions): each value's cotangent goes to the element that it was taken from."""
    (x,), (_, index), (g, _), axis = op.inputs, op.outputs, cts, op.attrs["axis"]
    return [None if g is None else apply("put_along_axis_add", index, g, axis=axis, size=x.spec.shape[axis])]


def jvp_by_position(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """For outputs (values, positions): the tangents of the elements that the values were taken from."""
    (t,) = tangents
    return [None if t is None else apply("take_along_axis", t, op.outputs[1], axis=op.attrs["axis"]), None]


for _name, _ufunc, _before in (("cummax", np.maximum, np.less), ("cummin", np.minimum, np.greater)):
    define(_name, "general", _infer_extremum(_name), _evaluate_extremum(_ufunc, _before), vjp=vjp_by_position,
           jvp=jvp_by_position, masks=True, library=scan_library(_name), samples=scan_samples("biuf", exclusive=False),
           dtypes="biuf", public=_name,
           doc=f"Running {'maximum' if _name == 'cummax' else 'minimum'} along an axis, and where it was first met.")


# -- positions of extrema
def _infer_position(name: str) -> Any:
    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        (x,), axis = specs, attrs["axis"]
        kept = kept_shape(x.shape, (axis,))
        if same_size(x.shape[axis], 0) and not any(same_size(d, 0) for d in kept):
            raise ShapeError(f"{name}: axis {axis} of {x} has no elements, so none is the "
                             f"{'largest' if name == 'argmax' else 'smallest'}{at(user_line())}")
        return (Spec(np.dtype(np.int64), kept),)

    return infer


def _evaluate_position(name: str, function: Any) -> Any:
    def evaluate(x: Any, axis: int) -> Any:
        _infer_position(name)([Spec(x.dtype, x.shape)], {"axis": axis})
        return function(x, axis=axis)

    return evaluate


def _sizes_position(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> Sequence[Dim]:
    return lanes(ins[0], attrs["axis"])[1:]


def _samples_position(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
    x = rng.integers(-3, 4, (3, 5, 4)) * 0.5
    found = [(x, 0), (x, 1), (x, 2), (x[0, :, 0], 0), (x.T[::2], 1), (x[:0], 1), (x.astype(np.float32), 1),
             (x.astype(np.float16), 2), ((x * 2).astype(np.int8), 0), (np.abs(x * 2).astype(np.uint64), 1), (x > 0, 2),
             (x + 1j * x[::-1], 1), (np.array([[1.0, np.nan, 7.0, np.nan], [-0.0, 0.0, -np.inf, -0.0]]), 1),
             (np.array([1.0, complex(0, np.nan), complex(np.nan, 9), 5.0]), 0)]
    return [([array], {"axis": axis}) for array, axis in found]


for _name, _function in (("argmax", np.argmax), ("argmin", np.argmin)):
    define(_name, "general", _infer_position(_name), _evaluate_position(_name, _function), public=_name,
           samples=_samples_position, smooth=False,
           library=Library(_name, sizes=_sizes_position, span=rows, parallel=True,
                           dtypes=lambda ins, outs, attrs: [ins[0].dtype]),
           doc=f"Position of the first {'largest' if _name == 'argmax' else 'smallest'} element along an axis.")


# -- public functions
_EXTREME = """Running {word} along an axis.

    Parameters
    ----------
    x : array_like
        Real or bool, any shape.
    axis : int, optional
        Negative ones from the end; without it the array is flattened.
    reverse : bool
        Whether to run from the end of the axis.

    Returns
    -------
    Tensor
        Of `x`'s dtype and shape, or 1-d without `axis`; NaN from the first NaN on.

    Raises
    ------
    ShapeError
        For an axis out of range.
    DtypeError
        For complex input.

    Notes
    -----
    Of equal elements the one that is met first takes the cotangent.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([2.0, 1.0, 3.0, 0.0]).numpy()
    array([{example}])
    """


def _extremum(name: str, x: Any, axis: Any, reverse: bool) -> Tensor:
    tensor, number = flat_or_axis(as_tensor(x), axis, name)
    return apply_all(name, tensor, axis=number, reverse=bool(reverse))[0]


def cummax(x: Any, /, axis: Any = None, *, reverse: bool = False) -> Tensor:
    return _extremum("cummax", x, axis, reverse)


def cummin(x: Any, /, axis: Any = None, *, reverse: bool = False) -> Tensor:
    return _extremum("cummin", x, axis, reverse)


cummax.__doc__ = _EXTREME.format(word="maximum", name="cummax", example="2., 2., 3., 3.")
cummin.__doc__ = _EXTREME.format(word="minimum", name="cummin", example="2., 1., 1., 0.")

_POSITION = """Position of the {word} element along an axis.

    Parameters
    ----------
    x : array_like
        Any shape and dtype; complex numbers are ordered by real, then imaginary part.
    axis : int, optional
        Negative ones from the end; without it the array is flattened.
    keepdims : bool
        Whether the axis (without `axis`: all of them) stays, with size 1.

    Returns
    -------
    Tensor
        Of dtype int64; of several the first, and a NaN before all numbers. It has no derivative.

    Raises
    ------
    ShapeError
        For an axis out of range, and where there are no elements.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([[1.0, 5.0, 5.0], [7.0, 3.0, 4.0]], axis=1).numpy()
    array([{example}])
    """


def _position(name: str, x: Any, axis: Any, keepdims: bool) -> Tensor:
    tensor = as_tensor(x)
    flat, number = flat_or_axis(tensor, axis, name)
    return keep(apply(name, flat, axis=number), tuple(range(tensor.ndim)) if axis is None else (number,), keepdims)


def argmax(x: Any, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return _position("argmax", x, axis, keepdims)


def argmin(x: Any, /, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    return _position("argmin", x, axis, keepdims)


argmax.__doc__ = _POSITION.format(word="largest", name="argmax", example="1, 0")
argmin.__doc__ = _POSITION.format(word="smallest", name="argmin", example="0, 1")

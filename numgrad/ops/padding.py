"""Padding in NumPy's modes: zeros by embedding, everything else as strided pieces side by side, axis by axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, KernelError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.ops.creation import filled
from numgrad.ops.kinds import cast_to
from numgrad.ops.ranges import linspace
from numgrad.ops.reduction import max as maximum
from numgrad.ops.reduction import min as minimum
from numgrad.ops.shaping import broadcast_to
from numgrad.ops.sizes import at_least, smaller
from numgrad.ops.slicing import narrow
from numgrad.ops.sorting import median
from numgrad.ops.statistics import mean
from numgrad.types import Dim, Shape, Size

__all__ = ["pad"]

_STATISTICS: dict[str, Callable[..., Tensor]] = {"maximum": maximum, "minimum": minimum, "mean": mean, "median": median}
_PERIODIC = ("reflect", "symmetric", "wrap")
_OPTIONS: dict[str, dict[str, Any]] = {
    "constant": {"constant_values": 0},
    "linear_ramp": {"end_values": 0},
    "edge": {},
    "empty": {},
    "wrap": {},
    "reflect": {"reflect_type": "even"},
    "symmetric": {"reflect_type": "even"},
    **{name: {"stat_length": None} for name in _STATISTICS},
}


def pad(x: Any, /, pad_width: Any, mode: str = "constant", **options: Any) -> Tensor:
    """Widen an array at its edges.

    Parameters
    ----------
    x : array_like
    pad_width : int, size, (before, after), sequence of such pairs, or dict from axis to a width or pair
        One pair serves all axes.
    mode : str
        ``"constant"`` (`constant_values`), ``"edge"``, ``"linear_ramp"`` (`end_values`), ``"maximum"``, ``"mean"``,
        ``"median"``, ``"minimum"`` (`stat_length`), ``"reflect"``, ``"symmetric"`` (`reflect_type` ``"even"`` or
        ``"odd"``), ``"wrap"``, ``"empty"`` (here: zeros).
    **options
        The option named with its mode. `constant_values` and `end_values` may be tensors, in the forms of
        `pad_width`.

    Returns
    -------
    Tensor
        Size ``before + n + after`` along each axis.

    Raises
    ------
    ShapeError
        For a negative width, a width of another form, or an axis of size 0 that needs elements to copy.
    ValueError
        For an unknown mode or option.
    KernelError
        For a function as mode.

    Notes
    -----
    ``reflect`` leaves out the edge itself, ``symmetric`` repeats it; ``odd`` continues with ``2 * edge - value``.
    An unknown size is taken to be at least as large as the padding that is copied from it, and every call checks that.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.pad([1, 2, 3], (2, 1), mode="reflect").numpy()
    array([3, 2, 1, 2, 3, 2])
    """
    tensor = as_tensor(x)
    if callable(mode):
        raise KernelError(
            f"pad: a function as mode runs in Python, element by element; wanted one of {', '.join(_OPTIONS)}"
            f"{at(user_line())}"
        )
    if mode not in _OPTIONS:
        raise ValueError(f"pad: mode is {mode!r}, wanted one of {', '.join(_OPTIONS)}{at(user_line())}")
    for name in options:
        if name not in _OPTIONS[mode]:
            raise ValueError(
                f"pad: mode {mode!r} has no option {name!r}; it has "
                f"{', '.join(_OPTIONS[mode]) or 'none'}{at(user_line())}"
            )
    settings = {**_OPTIONS[mode], **options}
    widths = [tuple(map(_width, pair)) for pair in _pairs(pad_width, tensor.ndim, "pad_width")]
    if mode == "empty" or (mode == "constant" and _is_zero(settings["constant_values"])):
        return _zero_padded(tensor, widths)
    values = next(
        (
            _pairs(settings[name], tensor.ndim, name)
            for name in ("constant_values", "end_values", "stat_length")
            if settings.get(name) is not None
        ),
        [(None, None)] * tensor.ndim,
    )
    for axis, ((before, after), extra) in enumerate(zip(widths, values, strict=True)):
        if isinstance(before, int) and isinstance(after, int) and before == after == 0:
            continue
        size = tensor.shape[axis]
        if mode != "constant" and isinstance(size, int) and size == 0:
            raise ShapeError(
                f"pad: axis {axis} of {tensor.spec} is empty, and mode {mode!r} has nothing to copy{at(user_line())}"
            )
        if mode in _PERIODIC:
            pieces = _periodic(tensor, axis, before, after, mode, settings.get("reflect_type", "even"))
        else:
            ends = [
                _end(tensor, axis, width, value, mode, side)
                for side, (width, value) in enumerate(zip((before, after), extra, strict=True))
            ]
            pieces = [ends[0], tensor, ends[1]]
        tensor = apply("concat", *pieces, axis=axis)
    return tensor


# -- arguments


def _is_scalar(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, Size)
        or (isinstance(value, Tensor) and not value.ndim)
        or (not isinstance(value, (Tensor, tuple, list)) and np.ndim(value) == 0)
    )


def _pairs(value: Any, rank: int, name: str) -> list[tuple[Any, Any]]:
    """One (before, after) for each axis out of any of the forms that NumPy takes."""
    if isinstance(value, dict):
        given: list[Any] = [(0, 0)] * rank
        for axis, entry in value.items():
            given[axis] = (entry, entry) if _is_scalar(entry) else tuple(entry)
        return given
    if _is_scalar(value):
        return [(value, value)] * rank
    items = list(value)
    if all(map(_is_scalar, items)):
        items = [items]
    pairs = [tuple(item) * 2 if len(item) == 1 else tuple(item) for item in items]
    if len(pairs) == 1:
        pairs *= rank
    if len(pairs) != rank or any(len(p) != 2 or not all(map(_is_scalar, p)) for p in pairs):
        raise ShapeError(
            f"pad: {name} is {value!r}, wanted a number, a pair, or {rank} pairs (before, after){at(user_line())}"
        )
    return pairs  # type: ignore[return-value]


def _width(value: Any) -> Dim:
    if isinstance(value, Size):
        return value
    if isinstance(value, float) or (isinstance(value, np.generic) and value.dtype.kind not in "iu"):
        raise DtypeError(f"pad: pad_width holds {value!r}, wanted integers{at(user_line())}")
    width = int(value)
    if width < 0:
        raise ShapeError(f"pad: pad_width holds {width}, wanted at least 0{at(user_line())}")
    return width


def _is_zero(value: Any) -> bool:
    return (
        not isinstance(value, (Tensor, Size))
        and isinstance(value, (int, float, complex, np.generic, np.ndarray))
        and (not np.any(value))
    )


# -- the modes


def _zero_padded(tensor: Tensor, widths: Sequence[tuple[Dim, ...]]) -> Tensor:
    if all(isinstance(w, int) and w == 0 for pair in widths for w in pair):
        return tensor
    shape = tuple(before + d + after for d, (before, after) in zip(tensor.shape, widths, strict=True))
    return apply("unslice", tensor, shape=shape, start=tuple(before for before, _ in widths), step=(1,) * tensor.ndim)


def _widened(tensor: Tensor, axis: int, count: Dim) -> Shape:
    return (*tensor.shape[:axis], count, *tensor.shape[axis + 1 :])


def _end(tensor: Tensor, axis: int, width: Dim, value: Any, mode: str, side: int) -> Tensor:
    """The piece at one side: 0 is before, 1 after."""
    shape, size = _widened(tensor, axis, width), tensor.shape[axis]
    if mode == "constant":
        return _constant(value, shape, tensor.dtype)
    if mode == "edge":
        return broadcast_to(narrow(tensor, axis, size - 1 if side else 0, 1), shape)
    if mode == "linear_ramp":
        edge = narrow(tensor, axis, size - 1 if side else 0, 1)
        first = broadcast_to(_constant(value, (), tensor.dtype), edge.shape)
        return _ramp(first, edge, axis, width, side)
    length = size if value is None else _stat_length(value, size)
    part = narrow(tensor, axis, size - length if side else 0, length)
    result = _STATISTICS[mode](part, axis=axis, keepdims=True)
    if tensor.dtype.kind in "iu" and mode in ("mean", "median"):
        result = apply("round", result)
    return broadcast_to(cast_to(result, tensor.dtype), shape)


def _constant(value: Any, shape: Shape, dtype: Any) -> Tensor:
    if isinstance(value, Tensor):
        return broadcast_to(cast_to(value, dtype), shape)
    if isinstance(value, Size):
        return broadcast_to(as_tensor(value, dtype), shape)
    return filled(shape, np.asarray(value).astype(dtype).item(), dtype)


def _ramp(first: Tensor, edge: Tensor, axis: int, width: Dim, side: int) -> Tensor:
    """From the end value towards the edge, which itself is not repeated."""
    lowest, highest = (apply("squeeze", t, axes=(axis,)) for t in (first, edge))
    values = linspace(lowest, highest, width, endpoint=False, dtype=edge.dtype, axis=axis)
    return _reversed(values, axis) if side else values


def _reversed(tensor: Tensor, axis: int) -> Tensor:
    return narrow(tensor, axis, tensor.shape[axis] - 1, tensor.shape[axis], -1)


def _stat_length(value: Any, size: Dim) -> Dim:
    length = value if isinstance(value, Size) else int(value)
    if isinstance(length, int) and length < 1:
        raise ShapeError(f"pad: stat_length holds {length}, wanted at least 1{at(user_line())}")
    return smaller(length, size)


def _periodic(tensor: Tensor, axis: int, before: Dim, after: Dim, mode: str, reflect_type: str) -> list[Tensor]:
    """The array between copies of itself, every second one reversed for the reflecting modes.

    Copy q stands where the indices begin at ``q * period``; the copies of ``reflect`` share their edges.
    """
    if reflect_type not in ("even", "odd"):
        raise ValueError(f"pad: reflect_type is {reflect_type!r}, wanted 'even' or 'odd'{at(user_line())}")
    size = tensor.shape[axis]
    shared = 1 if mode == "reflect" else 0
    period = size - shared
    if not at_least(period, 1):  # one element reflects into itself
        return [broadcast_to(narrow(tensor, axis, 0, 1), _widened(tensor, axis, before + 1 + after))]
    pieces = [tensor]
    for number, count in enumerate(_lengths(before, period), 1):
        pieces.insert(0, _copy(tensor, axis, -number, period - count, count, mode, reflect_type))
    for number, count in enumerate(_lengths(after, period), 1):
        pieces.append(_copy(tensor, axis, number, shared, count, mode, reflect_type))
    return pieces


def _lengths(width: Dim, period: Dim) -> list[Dim]:
    """How much of each copy is used, outwards from the array."""
    if isinstance(width, int) and width == 0:
        return []
    lengths: list[Dim] = []
    while not at_least(period, width):
        lengths.append(period)
        width = width - period
    return [*lengths, width]


def _copy(tensor: Tensor, axis: int, number: int, start: Dim, count: Dim, mode: str, reflect_type: str) -> Tensor:
    """Elements ``start .. start + count`` of copy `number`."""
    last = tensor.shape[axis] - 1
    if mode == "wrap":
        return narrow(tensor, axis, start, count)
    mirrored = number % 2 == 1
    piece = narrow(tensor, axis, last - start, count, -1) if mirrored else narrow(tensor, axis, start, count)
    if reflect_type == "even":
        return piece
    # odd about both edges: a mirrored copy is 2 * edge - value, and each further period adds (last - first)
    if mirrored:
        piece, multiples = apply("negative", piece), (1 - number, 1 + number)
    else:
        multiples = (-number, number)
    for index, multiple in zip((0, last), multiples, strict=True):
        if multiple:
            edge = narrow(tensor, axis, index, 1)
            piece = apply("add", piece, apply("multiply", edge, filled(edge.shape, multiple, edge.dtype)))
    return piece

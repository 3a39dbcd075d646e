"""Joining and repeating: arrays written side by side into one, taken apart again, and repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.graph.records import Regions
from numgrad.ops.axes import atleast_1d, atleast_2d, atleast_3d, expand_dims
from numgrad.ops.kinds import cast_to, define, normalize_axis
from numgrad.ops.shaping import float_samples
from numgrad.ops.slicing import narrow, slice_axis
from numgrad.types import Dim, Size, Spec, as_dtype, canonical_shape, promote, require_equal

__all__ = [
    "array_split",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "split",
    "stack",
    "unstack",
    "vstack",
]


def _one_dtype(name: str, specs: Sequence[Spec]) -> np.dtype[Any]:
    dtypes = {s.dtype for s in specs}
    if len(dtypes) != 1:
        raise DtypeError(f"{name}: got {', '.join(map(str, specs))}, wanted one data type{at(user_line())}")
    return specs[0].dtype


# -- concat


def _concat_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    axis, first = attrs["axis"], specs[0]
    dtype = _one_dtype("concat", specs)

    def message() -> str:
        return f"concat: got {', '.join(map(str, specs))} along axis {axis}; the other axes must have equal sizes"

    shape = list(first.shape)
    for spec in specs[1:]:
        if spec.ndim != first.ndim:
            raise ShapeError(f"concat: got {', '.join(map(str, specs))}, wanted equally many axes{at(user_line())}")
        for i, dim in enumerate(spec.shape):
            shape[i] = shape[i] + dim if i == axis else require_equal(shape[i], dim, message)
    return (Spec(dtype, canonical_shape(shape)),)


def _concat_vjp(op: Operation, cts: Sequence[Tensor | None]) -> list[Tensor | None]:
    (ct,) = cts
    assert ct is not None
    axis, start = op.attrs["axis"], 0
    results: list[Tensor | None] = []
    for tensor in op.inputs:
        results.append(narrow(ct, axis, start, tensor.shape[axis]))
        start = start + tensor.shape[axis]
    return results


def _concat_place(
    specs: Sequence[Spec], out: Spec, attrs: Mapping[str, Any], strides: Sequence[Dim]
) -> list[tuple[Dim, Sequence[Dim]]]:
    axis, start = attrs["axis"], 0
    places: list[tuple[Dim, Sequence[Dim]]] = []
    for spec in specs:
        places.append((start * strides[axis], tuple(strides)))
        start = start + spec.shape[axis]
    return places


define(
    "concat",
    "linear",
    _concat_infer,
    lambda *arrays, axis: np.concatenate(arrays, axis),
    vjp=_concat_vjp,
    regions=Regions(_concat_place),
    public="concat",
    samples=lambda rng: [
        (float_samples(rng, (2, 3), (2, 1), (2, 2)), {"axis": 1}),
        (float_samples(rng, (2,)), {"axis": 0}),
        (float_samples(rng, (0, 3), (2, 3)), {"axis": 0}),
    ],
    doc="Arrays one after the other along an axis.",
)


def _stack_infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    axis, shape = attrs["axis"], list(specs[0].shape)
    dtype = _one_dtype("stack", specs)

    def message() -> str:
        return f"stack: got {', '.join(map(str, specs))}, wanted one shape"

    for spec in specs[1:]:
        if spec.ndim != len(shape):
            raise ShapeError(message() + at(user_line()))
        shape = [require_equal(a, b, message) for a, b in zip(shape, spec.shape, strict=True)]
    return (Spec(dtype, canonical_shape((*shape[:axis], len(specs), *shape[axis:]))),)


def _stack_place(
    specs: Sequence[Spec], out: Spec, attrs: Mapping[str, Any], strides: Sequence[Dim]
) -> list[tuple[Dim, Sequence[Dim]]]:
    axis = attrs["axis"]
    rest = tuple(s for i, s in enumerate(strides) if i != axis)
    return [(i * strides[axis], rest) for i in range(len(specs))]


define(
    "stack",
    "linear",
    _stack_infer,
    lambda *arrays, axis: np.stack(arrays, axis),
    vjp=lambda op, cts: [row(cts[0], op.attrs["axis"], i) for i in range(len(op.inputs))],
    regions=Regions(_stack_place),
    public="stack",
    samples=lambda rng: [
        (float_samples(rng, (2, 3), (2, 3)), {"axis": 1}),
        (float_samples(rng, (), (), ()), {"axis": 0}),
        (float_samples(rng, (0, 3)), {"axis": 2}),
    ],
    doc="Arrays side by side along a new axis.",
)


def row(tensor: Tensor, axis: int, index: Dim) -> Tensor:
    """One position along an axis, and the axis gone."""
    return apply("squeeze", narrow(tensor, axis, index, 1), axes=(axis,))


def _together(arrays: Any, name: str, dtype: Any = None) -> list[Tensor]:
    """The arrays as tensors of one dtype."""
    tensors = [as_tensor(a) for a in (unstack(arrays) if isinstance(arrays, Tensor) else arrays)]
    if not tensors:
        raise ShapeError(f"{name}: got no arrays, wanted at least one{at(user_line())}")
    common = promote(*(t.dtype for t in tensors)) if dtype is None else as_dtype(dtype)
    return [cast_to(t, common) for t in tensors]


def concat(arrays: Any, /, axis: int | None = 0, dtype: Any = None) -> Tensor:
    """Write arrays one after the other along an axis.

    Parameters
    ----------
    arrays : sequence of array_like
        Equal sizes along all other axes; data types are promoted.
    axis : int or None
        None joins the arrays flattened.
    dtype : data type, optional
        Of the result.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For no arrays, different numbers of axes, or sizes that differ along another axis.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.concat([[1, 2], [3.0]]).numpy()
    array([1., 2., 3.])
    """
    tensors = _together(arrays, "concat", dtype)
    if axis is None:
        tensors, axis = [apply("reshape", t, shape=(t.size,)) for t in tensors], 0
    if not tensors[0].ndim:
        raise ShapeError(f"concat: got arrays without axes, wanted at least one axis; use ng.stack{at(user_line())}")
    return apply("concat", *tensors, axis=normalize_axis(axis, tensors[0].ndim, "concat"))


def concatenate(arrays: Any, /, axis: int | None = 0, dtype: Any = None) -> Tensor:
    """Write arrays one after the other along an axis: NumPy's name of `concat`.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.concatenate([[[1, 2]], [[3, 4]]], axis=1).numpy()
    array([[1, 2, 3, 4]])
    """
    return concat(arrays, axis, dtype)


def stack(arrays: Any, /, axis: int = 0, dtype: Any = None) -> Tensor:
    """Write arrays of one shape side by side along a new axis.

    Parameters
    ----------
    arrays : sequence of array_like
        Data types are promoted.
    axis : int
        Where the new axis stands in the result.
    dtype : data type, optional
        Of the result.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For no arrays, or shapes that differ.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.stack([[1, 2], [3, 4]], axis=1).numpy()
    array([[1, 3],
           [2, 4]])
    """
    tensors = _together(arrays, "stack", dtype)
    return apply("stack", *tensors, axis=normalize_axis(axis, tensors[0].ndim + 1, "stack"))


def vstack(arrays: Any, /) -> Tensor:
    """Write arrays one below the other: along the first axis, vectors as rows.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.vstack([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    return concat([atleast_2d(a) for a in _together(arrays, "vstack")], 0)


def hstack(arrays: Any, /) -> Tensor:
    """Write arrays beside each other: along the second axis, vectors along their only one.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.hstack([[1, 2], [3, 4]]).numpy()
    array([1, 2, 3, 4])
    """
    tensors = [atleast_1d(a) for a in _together(arrays, "hstack")]
    return concat(tensors, 0 if tensors[0].ndim == 1 else 1)


def dstack(arrays: Any, /) -> Tensor:
    """Write arrays behind each other: along the third axis.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.dstack([[1, 2], [3, 4]]).shape
    (1, 2, 2)
    """
    return concat([atleast_3d(a) for a in _together(arrays, "dstack")], 2)


def column_stack(arrays: Any, /) -> Tensor:
    """Write vectors as columns, and matrices, beside each other.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.column_stack([[1, 2], [3, 4]]).numpy()
    array([[1, 3],
           [2, 4]])
    """
    tensors = _together(arrays, "column_stack")
    columns = [expand_dims(t, tuple(range(t.ndim, 2))) for t in tensors]  # () to (1,1), (n,) to (n,1)
    return concat(columns, 1)


# -- taking apart


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Take an array apart along an axis.

    Parameters
    ----------
    x : array_like
    axis : int

    Returns
    -------
    tuple of Tensor
        Without that axis. The size of the axis becomes fixed where it was unknown.

    Raises
    ------
    ShapeError
        For an axis out of range, or of unknown size in a graph of placeholders.

    Examples
    --------
    >>> import numgrad as ng
    >>> [t.numpy().tolist() for t in ng.unstack([[1, 2], [3, 4]], axis=1)]
    [[1, 3], [2, 4]]
    """
    tensor = as_tensor(x)
    number = normalize_axis(axis, tensor.ndim, "unstack")
    return tuple(row(tensor, number, i) for i in range(int(tensor.shape[number])))


def _parts(size: Dim, cuts: Any) -> list[tuple[Dim, Dim]]:
    """(start, count) of each part between cuts, which clip as slices do."""
    points = [None, *(c if isinstance(c, Size) else int(c) for c in cuts), None]
    return [slice_axis(slice(a, b), size, 0)[:2] for a, b in zip(points[:-1], points[1:], strict=True)]


def split(x: Any, /, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut an array into parts along an axis.

    Parameters
    ----------
    x : array_like
    indices_or_sections : int or sequence of int or size
        A number of equal parts, or the indices at which to cut.
    axis : int

    Returns
    -------
    list of Tensor

    Raises
    ------
    ShapeError
        When equal parts are asked for and the size is no multiple of their number.

    Examples
    --------
    >>> import numgrad as ng
    >>> [t.numpy().tolist() for t in ng.split([1, 2, 3, 4, 5], [2, 3])]
    [[1, 2], [3], [4, 5]]
    """
    tensor = as_tensor(x)
    number = normalize_axis(axis, tensor.ndim, "split")
    size = tensor.shape[number]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ShapeError(f"split: got {sections} parts, wanted at least one{at(user_line())}")
        each = size // sections
        require_equal(
            each * sections,
            size,
            lambda: (
                f"split: axis {number} of {tensor.spec} has size {size}, no multiple of {sections}; "
                "ng.array_split makes parts of different sizes"
            ),
        )
        parts = [(each * i, each) for i in range(sections)]
    else:
        parts = _parts(size, indices_or_sections)
    return [narrow(tensor, number, start, count) for start, count in parts]


def array_split(x: Any, /, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut an array into parts along an axis, of sizes that differ by at most one.

    Parameters
    ----------
    x : array_like
    indices_or_sections : int or sequence of int or size
        A number of parts, or the indices at which to cut.
    axis : int

    Returns
    -------
    list of Tensor
        The first ``size % sections`` parts have one element more than the others.

    Raises
    ------
    ShapeError
        For less than one part.

    Examples
    --------
    >>> import numgrad as ng
    >>> [t.numpy().tolist() for t in ng.array_split([1, 2, 3, 4, 5], 2)]
    [[1, 2, 3], [4, 5]]
    """
    if not isinstance(indices_or_sections, (int, np.integer)) or indices_or_sections <= 0:
        return split(x, indices_or_sections, axis)
    tensor, sections = as_tensor(x), int(indices_or_sections)
    size = tensor.shape[normalize_axis(axis, tensor.ndim, "array_split")]
    # part i starts at the sum of the sizes before it: ceil((size - j) / sections) for j < i
    cuts: list[Dim] = [0]
    for i in range(sections - 1):
        cuts.append(cuts[-1] + (size + (sections - 1 - i)) // sections)
    cuts.append(size)
    return [
        narrow(tensor, normalize_axis(axis, tensor.ndim, "array_split"), a, b - a)
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]

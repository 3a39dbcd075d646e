"""The maker of op records, and what the families' rules share: promotion, axes, shapes, masking products."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, WeakTensor, apply, apply_all, as_tensor, current_graph, weaken
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, Library, OpRecord, Regions, View, register
from numgrad.types import Shape, Size, Spec, as_dtype, broadcast_shapes, kind_name, promote

__all__ = ["cast_to", "define", "infer_same", "normalize_axes", "normalize_axis", "operands", "times"]

Infer = Callable[[Sequence[Spec], Mapping[str, Any]], tuple[Spec, ...]]
_WEAK_ZEROS: dict[str, Any] = {"b": False, "i": 0, "u": 0, "f": 0.0, "c": 0j}


class _Masking(threading.local):
    """Whether the cotangent at hand may hold exact zeros for elements that did not take part."""

    active = False


masking = _Masking()  # set by the gradient builder around each rule


def times(cotangent: Tensor, factor: Any) -> Tensor:
    """``cotangent * factor`` for a derivative rule.

    Where the cotangent may be masked (a `where`, a slice, ... lies downstream), ``0 * inf`` and ``0 * nan`` are 0, so
    that a branch that was not taken leaks no NaN.
    """
    if factor.__class__ is Tensor:
        value = factor
    elif isinstance(factor, (int, float)) and factor == 1:
        return cotangent
    else:
        value = as_tensor(factor, cotangent.dtype if isinstance(factor, (int, float, complex)) else None)
    if value.dtype != cotangent.dtype:
        common = promote(value.dtype, cotangent.dtype)
        value, cotangent = cast_to(value, common), cast_to(cotangent, common)
    if masking.active and isinstance(factor, Tensor) and (value.op is None or value.op.type != "constant"):
        return apply("multiply_no_nan", value, cotangent)
    return apply("multiply", cotangent, value)


def cast_to(tensor: Tensor, dtype: Any) -> Tensor:
    """`tensor` itself if it has `dtype`, else a cast of it.

    Parameters
    ----------
    tensor : Tensor
    dtype : dtype

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.extend.cast_to(ng.asarray([1, 2]), ng.float64)
    ng.asarray([1., 2.], dtype=float64)
    """
    return tensor if tensor.dtype == dtype else apply("cast", tensor, dtype=np.dtype(dtype))


def operands(values: Sequence[Any], op: str, *, dtypes: str = "biufc") -> list[Tensor]:
    """The operands of an elementwise op as tensors of one promoted dtype (Python scalars are weak, NEP 50).

    Parameters
    ----------
    values : sequence
        Tensors, arrays, sizes and Python scalars.
    op : str
        Named in errors.
    dtypes : str
        Kinds (``"biufc"``) that the op takes; bool is raised to int8 and below by NumPy's own rules where it is not
        taken.
    """
    weak: list[Any] = []
    made: list[Any] = []
    strong = False
    for value in values:
        if isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic):
            weak.append(value)
            made.append(value)
            continue
        tensor = as_tensor(value)
        made.append(tensor)
        if isinstance(value, (Size, WeakTensor)):  # what was a Python number in the user's code stays as weak as one
            weak.append(_WEAK_ZEROS[tensor.dtype.kind])
        else:
            weak.append(tensor.dtype)
            strong = True
    common = promote(*weak)
    if common.kind not in dtypes:
        if common.kind == "b" and "i" in dtypes:
            common = np.dtype(np.int8)
        else:
            wanted = ", ".join(sorted({kind_name(np.dtype(c)) for c in ("?", "i8", "f8", "c16")
                                       if np.dtype(c).kind in dtypes}))
            raise DtypeError(f"{op}: got {kind_name(common)} ({common}), wanted {wanted}; use ng.cast{at(user_line())}")
    result = []
    for value in made:
        if isinstance(value, Tensor):
            result.append(cast_to(value, common))
        else:
            try:
                result.append(as_tensor(np.asarray(value, dtype=common)))
            except OverflowError as error:
                raise OverflowError(f"{op}: {error}{at(user_line())}") from error
    if not strong and any(isinstance(value, (Size, WeakTensor)) for value in values):
        return [weaken(t) for t in result]
    return result


def infer_same(op: str, out: str | None = None) -> Infer:
    """Shape rule of an elementwise op: broadcast; the operands' dtype, or a fixed one (``"bool"``, ``"real"``)."""

    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        shape = specs[0].shape if len(specs) == 1 else broadcast_shapes([s.shape for s in specs], op)
        dtype = specs[-1].dtype
        if out == "bool":
            dtype = np.dtype(bool)
        elif out == "real" and dtype.kind == "c":
            dtype = np.dtype(f"f{dtype.itemsize // 2}")
        return (Spec(dtype, shape),)

    return infer


def define(name: str, kind: str, infer: Infer, evaluate: Callable[..., Any], *, vjp: Any = None, jvp: Any = None,
           decompose: Any = None, library: Library | None = None, view: View | None = None,
           regions: Regions | None = None, masks: bool = False, smooth: bool = True, samples: Any = None,
           public: str = "", doc: str = "", dtypes: str = "biufc",
           domain: tuple[tuple[float, float] | None, ...] = (), **facts: Any) -> OpRecord:
    """Enter an op of another kind. For ``kind="linear"`` forward mode applies the op itself to the tangents
    (missing ones are zeros) unless `jvp` is given."""
    return register(OpRecord(
        name=name, kind=kind, infer=infer, evaluate=evaluate, vjp=vjp, jvp=jvp, decompose=decompose, library=library,
        view=view, regions=regions, masks=masks, smooth=smooth, samples=samples, public=public, doc=doc, dtypes=dtypes,
        domain=domain, facts=facts))


def normalize_axis(axis: Any, ndim: int, op: str) -> int:
    """A non-negative axis; ShapeError when it is out of range."""
    number = int(axis)
    if not -ndim <= number < ndim:
        raise ShapeError(f"{op}: axis {number} is out of range for {ndim} axes{at(user_line())}")
    return number % ndim


def normalize_axes(axis: Any, ndim: int, op: str) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all; ShapeError for a repeated or impossible one."""
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(sorted(normalize_axis(a, ndim, op) for a in given))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axis {axis} repeats{at(user_line())}")
    return axes


def shape_argument(shape: Any, op: str) -> Shape:
    """A user's shape argument: an integer, a size, or a sequence of them."""
    if isinstance(shape, Tensor):
        shape = shape.numpy().tolist() if shape.op is None else shape
        if isinstance(shape, Tensor):
            raise ShapeError(f"{op}: the shape must be integers and sizes, not a traced tensor; use x.shape"
                             f"{at(user_line())}")
    items = (shape,) if isinstance(shape, (int, np.integer, Size)) else tuple(shape)
    return tuple(d if isinstance(d, Size) else int(d) for d in items)


def size_as_tensor(size: Size) -> Tensor:
    """The scalar int64 tensor that holds a size."""
    return apply("size", value=size)


Size.lift = size_as_tensor

define("constant", "constant", lambda specs, attrs: (Spec(attrs["value"].dtype, attrs["value"].shape),),
       lambda value: value, doc="A fixed array.")
define("placeholder", "constant", lambda specs, attrs: (), lambda: None, doc="An input of a graph.")
define("size", "constant", lambda specs, attrs: (Spec(np.dtype(np.int64), ()),), lambda value: np.int64(value),
       doc="A size of an array, as a scalar.")


def make_constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor with a fixed value: a node in a graph, an eager tensor outside of one.

    Parameters
    ----------
    value : array_like
    dtype : data type, optional
    shape : tuple of int, optional
        The value is broadcast or reshaped to it.
    name : str, optional

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.constant([1, 2], dtype=ng.float64).numpy()
    array([1., 2.])
    """
    array = np.asarray(value.numpy() if isinstance(value, Tensor) else value, dtype=dtype)
    array = array.astype(as_dtype(array.dtype), copy=False)
    if shape is not None:
        array = np.broadcast_to(array, shape) if array.size == 1 else array.reshape(shape)
    graph = current_graph()
    return graph.constant(array, name) if graph is not None else as_tensor(np.array(array))


def as_node(graph: Graph, value: Any) -> Tensor:
    """`value` as a node of `graph`: a tensor of it as it stands, anything else as a constant."""
    tensor = as_tensor(value)
    return tensor if tensor.op is not None else graph.capture(tensor)


def record_of(name: str) -> OpRecord:
    """The record of an op of the table."""
    return OPS[name]


def linear_jvp(op: Operation, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The jvp of an op that is linear in all its inputs together: the op itself, applied to the tangents."""
    filled = [t if t is not None else apply("zeros_like", x) for t, x in zip(tangents, op.inputs, strict=True)]
    return list(apply_all(op.type, *filled, **op.attrs))

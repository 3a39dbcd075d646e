"""Reductions over any axes: the ops `sum prod max min any all` and the public functions of those names."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to, define, linear_jvp, normalize_axes, times
from numgrad.ops.matmul import conjugate, permute, reshape_to, stretch
from numgrad.types import Shape, Spec, as_dtype, kind_name, same_size, size_product

__all__ = ["all", "amax", "amin", "any", "count_nonzero", "max", "min", "prod", "sum"]


# -- pieces that the families of reductions share
def kept_shape(shape: Shape, axes: Sequence[int]) -> Shape:
    """`shape` without `axes`."""
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def spread(tensor: Tensor, axes: tuple[int, ...], shape: Shape) -> Tensor:
    """A reduced tensor repeated along the axes that were reduced, up to `shape`."""
    return stretch(keep(tensor, axes, True), shape)


def keep(tensor: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """A reduced tensor, with the reduced axes put back at size 1 if `keepdims`."""
    return apply("expand_dims", tensor, axes=axes) if keepdims and axes else tensor


def reduce(name: str, tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The reduction op `name`; over no axes it is the tensor itself."""
    return apply(name, tensor, axes=axes) if axes else tensor


def axes_last(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    """All axes, in order, with `axes` after the others."""
    return (*(i for i in range(ndim) if i not in axes), *axes)


def as_rows(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A tensor whose last axis holds what lay along `axes`."""
    shape = tensor.spec.shape
    lanes = permute(tensor, axes_last(tensor.ndim, axes))
    return reshape_to(lanes, (*kept_shape(shape, axes), size_product(shape[a] for a in axes)))


def require_kind(spec: Spec, dtypes: str, op: str) -> None:
    """DtypeError unless the spec's kind of dtype is among the letters."""
    if spec.dtype.kind not in dtypes:
        names = (kind_name(dtype) for dtype in map(np.dtype, ("?", "i8", "f8", "c16")) if dtype.kind in dtypes)
        raise DtypeError(f"{op}: got {spec}, wanted {' or '.join(names)}; use ng.cast{at(user_line())}")


def floating(x: Any, dtype: Any, op: str, kinds: str = "fc") -> Tensor:
    """`x` as a tensor of `dtype`, by default its own or, for integers and bools, float64."""
    tensor = as_tensor(x)
    own = tensor.dtype if tensor.dtype.kind in "fc" else np.dtype(np.float64)
    wanted = as_dtype(dtype) if dtype is not None else own
    require_kind(Spec(wanted, tensor.spec.shape), kinds, op)
    return cast_to(tensor, wanted)


# -- the ops
def infer_reduction(name: str, dtypes: str = "iufc", identity: bool = True) -> Any:
    """Shape rule of a reduction: the axes vanish and the dtype stays; one `identity`-less refuses to reduce nothing."""

    def infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        (x,) = specs
        axes = attrs["axes"]
        require_kind(x, dtypes, name)
        kept = kept_shape(x.shape, axes)
        if not identity and builtins.any(same_size(x.shape[a], 0) for a in axes) and not builtins.any(
                same_size(d, 0) for d in kept):
            raise ShapeError(f"{name}: the axes {axes} of {x} have no elements, and {name} of nothing has no value; "
                             f"reduce other axes, or append a lowest or highest value first{at(user_line())}")
        return (Spec(x.dtype, kept),)

    return infer


def _evaluate(ufunc: np.ufunc) -> Any:
    def evaluate(x: Any, axes: tuple[int, ...]) -> Any:
        # float16 adds up in float32, as the kernels do
        inner = np.float32 if x.dtype == np.float16 else x.dtype
        return ufunc.reduce(x, axis=axes, dtype=inner).astype(x.dtype, copy=False)

    return evaluate


def _evaluate_extremum(name: str, ufunc: np.ufunc) -> Any:
    def evaluate(x: Any, axes: tuple[int, ...]) -> Any:
        infer_reduction(name, "biufc", False)([Spec(x.dtype, x.shape)], {"axes": axes})
        return ufunc.reduce(x, axis=axes)

    return evaluate


def _vjp_sum(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    (g,) = cts
    return [spread(g, op.attrs["axes"], op.inputs[0].spec.shape)]


def _vjp_prod(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    """The product of all others, from both sides: exact where elements are zero."""
    (x,), (g,), axes = op.inputs, cts, op.attrs["axes"]
    if not axes:
        return [g]
    shape = x.spec.shape
    order = axes_last(x.ndim, axes)
    moved = tuple(shape[i] for i in order)
    lanes = as_rows(x, axes)
    before, after = (apply("cumprod", lanes, axis=lanes.ndim - 1, reverse=r, exclusive=True) for r in (False, True))
    others = permute(reshape_to(apply("multiply", before, after), moved), np.argsort(order).tolist())
    return [times(spread(g, axes, shape), conjugate(others))]


def _vjp_extremum(op: Operation, cts: Sequence[Tensor]) -> list[Tensor | None]:
    """The elements that equal the extremum share the cotangent; NaNs are the extremum where there are any."""
    (x,), (y,), (g,), axes = op.inputs, op.outputs, cts, op.attrs["axes"]
    if not axes:
        return [g]
    shape = x.spec.shape
    winners = apply("logical_or", apply("equal", x, spread(y, axes, shape)), apply("not_equal", x, x))
    number = apply("sum", cast_to(winners, np.float32 if g.dtype == np.float16 else g.dtype), axes=axes)
    share = spread(apply("divide", g, cast_to(number, g.dtype)), axes, shape)
    return [apply("where", winners, share, apply("zeros_like", share))]


def _samples(dtypes: str = "fciu", empty: bool = True) -> Any:
    def samples(rng: Any) -> list[tuple[Sequence[Any], Mapping[str, Any]]]:
        x = rng.uniform(0.5, 1.5, (2, 3, 4)) * rng.choice([-1.0, 1.0], (2, 3, 4))
        found: list[Any] = []
        if "f" in dtypes:
            found += [(x, axes) for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))]
            found += [(x[0, 0, 0], ()), (x[:, :, 0], ()), (x.transpose(2, 0, 1)[:, ::-1], (1,)),
                      (x[::-1, :, ::2], (0, 2)), (rng.uniform(0.9, 1.1, (5, 67)), (1,)),
                      (rng.uniform(0.9, 1.1, 130), (0,)), (np.zeros((0, 3)), (1,)),
                      (x.astype(np.float32), (1,)), (x.astype(np.float16), (2,)), (x.astype(">f8"), (0,)),
                      (np.array([[1.0, np.nan, 2.0], [np.inf, 0.0, -0.0]]), (1,))]
        if "f" in dtypes and empty:
            found += [(np.zeros((0, 3)), (0,)), (np.zeros((2, 0, 3)), (1, 2))]
        if "c" in dtypes:
            found += [(x + 1j * x[::-1, ::-1], (1,)), ((x + 2j).astype(np.complex64), (0, 2))]
        for kind, names in (("i", ("int8", "int32", "int64")), ("u", ("uint8", "uint64"))):
            found += [(np.abs(x * 9).astype(name), axes) for name in names if kind in dtypes for axes in ((1,), (0, 2))]
        if "b" in dtypes:
            found += [(x > 0.0, axes) for axes in ((0,), (1, 2), (0, 1, 2))] + [(x[:0] > 0.0, (1,))]
        return [([array], {"axes": axes}) for array, axes in found]

    return samples


define("sum", "reduction", infer_reduction("sum"), _evaluate(np.add), vjp=_vjp_sum, jvp=linear_jvp, samples=_samples(),
       dtypes="iufc", public="sum", doc="Sum over axes, in the operand's own dtype.")
define("prod", "reduction", infer_reduction("prod"), _evaluate(np.multiply), vjp=_vjp_prod, samples=_samples(),
       dtypes="iufc", public="prod", doc="Product over axes, in the operand's own dtype.")
for _name, _ufunc in (("max", np.maximum), ("min", np.minimum)):
    define(_name, "reduction", infer_reduction(_name, "biufc", False), _evaluate_extremum(_name, _ufunc),
           vjp=_vjp_extremum, masks=True, samples=_samples("fciub", False), public=_name,
           doc=f"{'Largest' if _name == 'max' else 'Smallest'} element over axes; NaN if there is one.")
for _name, _logical in (("any", np.logical_or), ("all", np.logical_and)):
    define(_name, "reduction", infer_reduction(_name, "b"), _evaluate(_logical), dtypes="b", samples=_samples("b"),
           public=_name, doc=f"Whether {_name} element{'s' if _name == 'all' else ''} over axes is true.")


# -- public functions
def accumulated(x: Any, dtype: Any) -> Tensor:
    """`x` in the dtype in which NumPy adds it up: bools and small integers in 64 bits."""
    tensor = as_tensor(x)
    if dtype is not None:
        return cast_to(tensor, as_dtype(dtype))
    if tensor.dtype.kind in "bi" and tensor.dtype.itemsize < 8:
        return cast_to(tensor, np.int64)
    return cast_to(tensor, np.uint64) if tensor.dtype.kind == "u" else tensor


def _public(name: str, tensor: Tensor, axis: Any, keepdims: bool) -> Tensor:
    axes = normalize_axes(axis, tensor.ndim, name)
    if tensor.dtype.kind == "b":  # bools add up by `or` and multiply by `and`
        name = {"sum": "any", "prod": "all"}.get(name, name)
    return keep(reduce(name, tensor, axes), axes, keepdims)


def sum(x: Any, /, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum of the elements over axes.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    axis : int or tuple of int, optional
        Axes to add over, negative ones from the end; all of them by default.
    dtype : data type, optional
        Of the sum; by default that of `x`, or int64 (uint64) for bools and smaller integers (unsigned ones).
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        0 where there is nothing to add. float16 is added up in float32.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.

    Notes
    -----
    Linear: the cotangent is repeated along the axes.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.sum([[1.0, 2.0], [3.0, 4.0]], axis=0).numpy()
    array([4., 6.])
    """
    return _public("sum", accumulated(x, dtype), axis, keepdims)


def prod(x: Any, /, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Product of the elements over axes.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    axis : int or tuple of int, optional
        Axes to multiply over, negative ones from the end; all of them by default.
    dtype : data type, optional
        Of the product; by default that of `x`, or int64 (uint64) for bools and smaller integers (unsigned ones).
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        1 where there is nothing to multiply.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.

    Notes
    -----
    The derivative by an element is the product of all others, formed without division: exact at zeros, to any order.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> ng.prod([1.0, 2.0, 4.0]).numpy()
    array(8.)
    >>> ng.grad(ng.prod)(np.array([0.0, 2.0, 4.0]))
    array([8., 0., 0.])
    """
    return _public("prod", accumulated(x, dtype), axis, keepdims)


_EXTREMUM = """{Word} element over axes.

    Parameters
    ----------
    x : array_like
        Any shape and dtype; complex numbers are ordered by real, then imaginary part.
    axis : int or tuple of int, optional
        Axes to look along, negative ones from the end; all of them by default.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        Of `x`'s dtype; NaN where there is one.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice, and where there are no elements.

    Notes
    -----
    Equal {word} elements share the cotangent equally.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([[1.0, 5.0], [7.0, 3.0]], axis=1).numpy()
    array([{example}])
    """


def max(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    return _public("max", as_tensor(x), axis, keepdims)


def min(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    return _public("min", as_tensor(x), axis, keepdims)


max.__doc__ = _EXTREMUM.format(Word="Largest", word="largest", name="max", example="5., 7.")
min.__doc__ = _EXTREMUM.format(Word="Smallest", word="smallest", name="min", example="1., 3.")
amax, amin = max, min

_TRUTH = """Whether {what} over axes is true.

    Parameters
    ----------
    x : array_like
        Any shape and dtype; numbers other than 0, NaN among them, are true.
    axis : int or tuple of int, optional
        Axes to look along, negative ones from the end; all of them by default.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        Of dtype bool; {empty} where there are no elements. It has no derivative.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.{name}([[True, False], [True, True]], axis=1).numpy()
    array([{example}])
    """


def any(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    return _public("any", cast_to(as_tensor(x), np.bool_), axis, keepdims)


def all(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    return _public("all", cast_to(as_tensor(x), np.bool_), axis, keepdims)


any.__doc__ = _TRUTH.format(what="at least one element", empty="False", name="any", example=" True,  True")
all.__doc__ = _TRUTH.format(what="each element", empty="True", name="all", example="False,  True")


def count_nonzero(x: Any, /, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Number of elements over axes that are not zero.

    Parameters
    ----------
    x : array_like
        Any shape and dtype; NaN is not zero.
    axis : int or tuple of int, optional
        Axes to count along, negative ones from the end; all of them by default.
    keepdims : bool
        Whether the axes stay, with size 1.

    Returns
    -------
    Tensor
        Of dtype int64. It has no derivative.

    Raises
    ------
    ShapeError
        For an axis out of range or named twice.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.count_nonzero([0.0, 3.0, 0.0, -1.0]).numpy()
    array(2)
    """
    return _public("sum", cast_to(cast_to(as_tensor(x), np.bool_), np.int64), axis, keepdims)

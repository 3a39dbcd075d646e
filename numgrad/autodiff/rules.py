"""Apply one op's reverse rule, and check what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgrad.autodiff.slices import IndexedSlices
from numgrad.errors import DtypeError, GradientError, ShapeError, SourceLine, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.kinds import cast_to, masking, times
from numgrad.types import Shape, Size, canonical_shape, same_shape, same_size, show_shape

__all__ = ["pull", "refuse", "require_shape", "scaled", "sum_to"]


def require_shape(given: Shape, wanted: Shape, what: str, where: SourceLine | None = None) -> None:
    """ShapeError unless a cotangent has the shape it needs; sizes that only a run can tell apart are taken as equal."""
    given, wanted = canonical_shape(given), canonical_shape(wanted)
    if same_shape(given, wanted):
        return
    fits = len(given) == len(wanted)
    for a, b in zip(given, wanted, strict=False):
        env = a.env if isinstance(a, Size) else b.env if isinstance(b, Size) else None
        fits = fits and (same_size(a, b) or (env is not None and env.unify(a, b) is not None))
    if not fits:
        raise ShapeError(f"{what} has shape {show_shape(given)}, wanted {show_shape(wanted)}{at(where or user_line())}")


def sum_to(cotangent: Tensor, like: Tensor) -> Tensor:
    """Undo broadcasting: sum a cotangent over the axes along which `like` was broadcast."""
    target, shape = like.spec.shape, cotangent.spec.shape
    if same_shape(shape, target):
        return cotangent
    lead = len(shape) - len(target)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, d in enumerate(target)
        if isinstance(d, int) and d == 1 and not same_size(shape[lead + i], 1))
    result = apply("sum", cotangent, axes=axes) if axes else cotangent
    return result if same_shape(result.spec.shape, target) else apply("reshape", result, shape=target)


def _conjugated(value: Any) -> Any:
    if isinstance(value, Tensor):
        return apply("conj", value) if value.dtype.kind == "c" else value
    return value.conjugate() if isinstance(value, complex) else value


def _elementwise_vjp(op: Operation, cotangent: Tensor, needed: Sequence[bool]) -> list[Tensor | None]:
    partials = op.record.partials
    assert partials is not None
    result: list[Tensor | None] = []
    output, inputs, attrs = op.outputs[0], op.inputs, op.attrs
    for need, partial in zip(needed, partials, strict=True):
        factor = partial(output, *inputs, **attrs) if need and partial is not None else None
        if factor.__class__ is Tensor and factor.dtype.kind == "f":
            factor = times(cotangent, factor)
        elif factor is not None:
            factor = scaled(cotangent, _conjugated(factor))
        result.append(factor)
    return result


def scaled(term: Tensor, factor: Any) -> Tensor:
    """``term * factor`` in a derivative rule; -1 becomes a negation."""
    if isinstance(factor, (int, float)) and factor == -1:
        return apply("negative", term)
    return times(term, factor)


def pull(op: Operation, cotangents: Sequence[Tensor | None], needed: Sequence[bool], masked: bool,
         rule: Callable[..., Any] | None = None) -> list[Tensor | IndexedSlices | None]:
    """The cotangents of an op's inputs from those of its outputs; checked for count, shape and dtype.

    `needed[i]` false spares the work for input i. `masked`: the cotangents may be exact zeros where nothing took part.
    `rule` stands in place of the op's own.
    """
    record = op.record
    before = masking.active
    if before is not masked:
        masking.active = masked
    try:
        if rule is not None:
            given = rule(op, *cotangents)
        elif record.partials is not None:
            assert cotangents[0] is not None
            given = _elementwise_vjp(op, cotangents[0], needed)
        elif record.vjp is not None:
            given = record.vjp(op, cotangents)
        else:
            given = [None] * len(op.inputs)
        if not isinstance(given, (list, tuple)):
            given = [given]
        if len(given) != len(op.inputs):
            raise ValueError(f"{op.type}: its derivative rule returned {len(given)} gradients for {len(op.inputs)} "
                             f"inputs of {op.name}{at(op.where)}")
        return [_checked(op, i, g) if n else None for i, (g, n) in enumerate(zip(given, needed, strict=True))]
    finally:
        if before is not masked:
            masking.active = before


def _checked(op: Operation, index: int, given: Any) -> Tensor | IndexedSlices | None:
    if given is None or isinstance(given, IndexedSlices):
        return given
    tensor = op.inputs[index]
    if (given.__class__ is Tensor and given.dtype is tensor.dtype and given._value is not None
            and tensor._value is not None and given.shape == tensor.shape):
        return given  # type: ignore[no-any-return]
    try:
        gradient = as_tensor(given)
    except DtypeError as error:
        raise TypeError(f"{op.type}: its derivative rule returned {given!r} for input {index} of {op.name}, wanted a "
                        f"tensor, IndexedSlices or None{at(op.where)}") from error
    if op.record.kind == "elementwise" and same_shape(gradient.spec.shape, op.outputs[0].spec.shape):
        gradient = sum_to(gradient, tensor)
    require_shape(gradient.spec.shape, tensor.spec.shape,
                  f"{op.type}: the gradient that its derivative rule returned for input {index} of {op.name}", op.where)
    if gradient.dtype != tensor.dtype:
        if gradient.dtype.kind not in ("fiuc" if tensor.dtype.kind == "c" else "fiu"):
            raise TypeError(f"{op.type}: its derivative rule returned {gradient.dtype} for input {index} of {op.name}, "
                            f"wanted {tensor.dtype}{at(op.where)}")
        gradient = cast_to(gradient, tensor.dtype)
    return gradient


def refuse(op: Operation) -> GradientError:
    """The error for an op on the path that has no rule."""
    return GradientError(f"no gradient is defined for operation {op.name!r} of type {op.type!r}{at(op.where)}; "
                         f"register one with ng.RegisterGradient({op.type!r}), declare "
                         f"ng.NotDifferentiable({op.type!r}), or cut the path with ng.stop_gradient")

"""Absolute value, direction and parts of numbers; as they are not holomorphic, each op states both its derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.arithmetic import divide_no_nan, multiply, negative, subtract
from numgrad.ops.kinds import cast_to, times
from numgrad.ops.ufuncs import as_floats, convert, document, enter, loop_dtype, publish, strengths, ufunc
from numgrad.types import Spec, broadcast_shapes

__all__ = ["abs", "absolute", "angle", "conj", "conjugate", "fabs", "imag", "make_complex", "real", "sign"]

Terms = list[Tensor | None]
_ALL = "bool, integers, floats, complex numbers"


def _zero(dtype: Any) -> Tensor:
    return as_tensor(np.zeros((), dtype))


# -- size and direction
def _direction(op: Operation) -> Tensor:
    (x,) = op.inputs
    return divide_no_nan(x, cast_to(op.outputs[0], x.dtype)) if x.dtype.kind == "c" else apply("sign", x)


def _vjp_abs(op: Operation, cts: Sequence[Any]) -> Terms:
    return [times(cts[0], _direction(op))]


def _jvp_abs(op: Operation, tangents: Sequence[Any]) -> Terms:
    (tangent,) = tangents
    if tangent.dtype.kind != "c":
        return [multiply(tangent, _direction(op))]
    return [apply("real", multiply(apply("conj", _direction(op)), tangent))]


abs = ufunc(
    "abs",
    np.absolute,
    "The absolute value.",
    "``sqrt(re*re + im*im)``, without overflow, for complex numbers; ``max(x, -x)`` for others. The derivative is "
    "taken as 0 at 0.",
    "ng.abs([-2.0, 3 + 4j]).numpy()",
    "array([2., 5.])",
    vjp=_vjp_abs,
    jvp=_jvp_abs,
    out="real",
)


def _vjp_sign(op: Operation, cts: Sequence[Any]) -> Terms:
    (x,) = op.inputs
    (ct,) = cts
    if x.dtype.kind != "c":
        return [apply("zeros_like", x)]
    return [_across(op, ct)]


def _across(op: Operation, term: Tensor) -> Tensor:
    """The part of `term` perpendicular to z in the plane, over abs(z): the derivative of ``z / abs(z)``, symmetric."""
    (x,), (s,) = op.inputs, op.outputs
    along = apply("real", multiply(apply("conj", s), term))
    return divide_no_nan(subtract(term, multiply(s, cast_to(along, s.dtype))), cast_to(abs(x), x.dtype))


def _jvp_sign(op: Operation, tangents: Sequence[Any]) -> Terms:
    (tangent,) = tangents
    return [apply("zeros_like", op.outputs[0]) if tangent.dtype.kind != "c" else _across(op, tangent)]


sign = ufunc(
    "sign",
    np.sign,
    "The sign: -1, 0 or 1; the direction of complex numbers.",
    "``x / abs(x)``, 0 at 0 and NaN for NaN. The derivative of real signs is 0.",
    "ng.sign([-2.0, 0.0, 3.0]).numpy()",
    "array([-1.,  0.,  1.])",
    vjp=_vjp_sign,
    jvp=_jvp_sign,
    dtypes="iufc",
)


# -- parts
def _part(name: str, numpy: Any, summary: str, result: str) -> Any:
    """`real` or `imag`: of a real array the node is the array itself, or zeros."""

    def vjp(op: Operation, cts: Sequence[Any]) -> Terms:
        (x,), (ct,) = op.inputs, cts
        if x.dtype.kind != "c":
            return [ct if name == "real" else apply("zeros_like", x)]
        zero = _zero(ct.dtype)
        return [apply("make_complex", *((ct, zero) if name == "real" else (zero, ct)))]

    def jvp(op: Operation, tangents: Sequence[Any]) -> Terms:
        return [apply(name, *tangents)]

    record = enter(name, numpy, np.conjugate, summary, vjp=vjp, jvp=jvp, out="real")

    def function(x: Any, /) -> Tensor:
        return apply(name, as_tensor(x))

    notes = f"A real array is {'itself' if name == 'real' else 'zero'}."
    return publish(
        function,
        name,
        document(
            summary, ("x",), _ALL, "Of the operand's real dtype", notes, f"ng.{name}([1 + 2j, 3.0]).numpy()", result
        ),
        record,
    )


real = _part("real", np.real, "The real part.", "array([1., 3.])")
imag = _part("imag", np.imag, "The imaginary part.", "array([2., 0.])")


def _conjugated(op: Operation, terms: Sequence[Any]) -> Terms:
    (term,) = terms
    return [apply("conj", term) if term.dtype.kind == "c" else term]


conj = ufunc(
    "conj",
    np.conjugate,
    "The complex conjugate.",
    "``re - i*im``; a real array is itself.",
    "ng.conj([1 + 2j, 3.0]).numpy()",
    "array([1.-2.j, 3.-0.j])",
    vjp=_conjugated,
    jvp=_conjugated,
)


def _parts_over_square(op: Operation) -> tuple[Tensor, Tensor]:
    """re / abs(z)**2 and im / abs(z)**2, 0 at 0."""
    (x,) = op.inputs
    size = abs(x)
    re, im = (divide_no_nan(divide_no_nan(apply(part, x), size), size) for part in ("real", "imag"))
    return re, im


def _vjp_angle(op: Operation, cts: Sequence[Any]) -> Terms:
    (x,), (ct,) = op.inputs, cts
    if x.dtype.kind != "c":
        return [apply("zeros_like", x)]
    re, im = _parts_over_square(op)
    return [apply("make_complex", times(ct, negative(im)), times(ct, re))]


def _jvp_angle(op: Operation, tangents: Sequence[Any]) -> Terms:
    (tangent,) = tangents
    if tangent.dtype.kind != "c":
        return [apply("zeros_like", op.outputs[0])]
    re, im = _parts_over_square(op)
    return [subtract(multiply(re, apply("imag", tangent)), multiply(im, apply("real", tangent)))]


_angle_record = enter(
    "angle",
    np.angle,
    np.sqrt,
    "The angle of a complex number with the positive real axis.",
    vjp=_vjp_angle,
    jvp=_jvp_angle,
    out="real",
    dtypes="fc",
)


def _angle(x: Any, /, deg: bool = False) -> Tensor:
    tensor = as_tensor(x)
    if tensor.dtype.kind in "biu":
        tensor = cast_to(tensor, np.float64) if tensor.dtype.kind == "b" else as_floats(tensor, "angle")
    result = apply("angle", tensor)
    return multiply(result, 180 / np.pi) if deg else result


angle = publish(
    _angle,
    "angle",
    document(
        "The angle of a complex number with the positive real axis.",
        ("x",),
        _ALL,
        "Of the operand's real dtype; floats for integers",
        "``atan2(im, re)`` in radians, in degrees with ``deg=True``; 0 or pi for real numbers. The derivative is "
        "taken as 0 at 0.",
        "ng.angle([1j, -1.0]).numpy()",
        "array([1.57079633, 3.14159265])",
    ),
    _angle_record,
)


# -- putting together
def _infer_make_complex(specs: Sequence[Spec], attrs: Any) -> tuple[Spec, ...]:
    return (
        Spec(np.dtype(f"c{2 * specs[0].dtype.itemsize}"), broadcast_shapes([s.shape for s in specs], "make_complex")),
    )


def _evaluate_make_complex(re: Any, im: Any) -> Any:
    # Not re + 1j * im: that turns an infinite part into NaN.
    result = np.empty(np.broadcast_shapes(np.shape(re), np.shape(im)), f"c{2 * re.dtype.itemsize}")
    result.real, result.imag = re, im
    return result


def _jvp_make_complex(op: Operation, tangents: Sequence[Any]) -> Terms:
    re, im = (t if t is not None else apply("zeros_like", x) for t, x in zip(tangents, op.inputs, strict=True))
    return [apply("make_complex", re, im)]


_make_record = enter(
    "make_complex",
    _evaluate_make_complex,
    np.arctan2,
    "The complex numbers with given parts.",
    infer=_infer_make_complex,
    jvp=_jvp_make_complex,
    vjp=lambda op, cts: [apply("real", cts[0]), apply("imag", cts[0])],
    dtypes="f",
)


def _make_complex(re: Any, im: Any, /) -> Tensor:
    made, strength = strengths((re, im))
    dtype = np.dtype(
        np.promote_types(loop_dtype(np.arctan2, strength, "make_complex", "f"), np.float32)
    )  # no smaller complex
    return apply("make_complex", *convert(made, dtype, "make_complex"))


make_complex = publish(
    _make_complex,
    "make_complex",
    document(
        "The complex numbers with given real and imaginary parts.",
        ("re", "im"),
        "integers, floats",
        "Complex64 or complex128, whichever holds the parts",
        "``re + i*im``; infinities and NaN stay in their part.",
        "ng.make_complex([1.0, 2.0], [0.0, -1.0]).numpy()",
        "array([1.+0.j, 2.-1.j])",
    ),
    _make_record,
)


def fabs(x: Any, /) -> Tensor:
    """The absolute value as a float.

    Parameters
    ----------
    x : array_like
        Bool, integers, floats; any shape.

    Returns
    -------
    Tensor
        Floats of the operand's shape.

    Raises
    ------
    DtypeError
        For complex numbers.

    Notes
    -----
    ``max(x, -x)``.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.fabs([-1, 2]).numpy()
    array([1., 2.])
    """
    return abs(as_floats(x, "fabs"))


absolute, conjugate = abs, conj

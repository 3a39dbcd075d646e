"""Changes of dtype, and what passes a value on with another derivative: identity, stop_gradient, prevent_gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, GradientError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor
from numgrad.ops.ufuncs import enter
from numgrad.types import Spec, as_dtype, is_trainable

__all__ = [
    "astype", "bool", "cast", "complex128", "complex64", "e", "float16", "float32", "float64", "inf", "int16", "int32",
    "int64", "int8", "nan", "newaxis", "pi", "prevent_gradient", "stop_gradient", "uint16", "uint32", "uint64",
    "uint8",
]

bool, int8, int16, int32, int64 = (np.dtype(c) for c in "? i1 i2 i4 i8".split())
uint8, uint16, uint32, uint64 = (np.dtype(c) for c in "u1 u2 u4 u8".split())
float16, float32, float64, complex64, complex128 = (np.dtype(c) for c in "f2 f4 f8 c8 c16".split())
e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None


def _infer_cast(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    return (Spec(attrs["dtype"], specs[0].shape),)


def _evaluate_cast(x: Any, dtype: np.dtype[Any]) -> Any:
    return np.asarray(x.real if x.dtype.kind == "c" and dtype.kind not in "cb" else x).astype(dtype)


def _vjp_cast(op: Operation, cts: Sequence[Any]) -> list[Tensor | None]:
    # Also between real and complex: the real part is the transpose of taking a real number as a complex one.
    (x,), (ct,) = op.inputs, cts
    return [apply("cast", ct, dtype=x.dtype) if is_trainable(x.dtype) else None]


def _jvp_cast(op: Operation, tangents: Sequence[Any]) -> list[Tensor | None]:
    dtype = op.attrs["dtype"]
    return [apply("cast", tangents[0], dtype=dtype) if is_trainable(dtype) else None]


def _cast_samples(rng: Any) -> list[Any]:
    # In the range of every dtype: out of range the answer is the processor's.
    values = {
        "b": [True, False],
        "u": [0, 1, 100],
        "i": [0, 1, 100],
        "f": [0.0, 1.5, 99.75],
        "c": [0.5 + 2j, 3.0, 99.25 - 1j],
    }
    names = "? i1 i4 i8 u1 u8 f2 f4 f8 c8 c16".split()
    return [
        ((np.array(values[np.dtype(source).kind], source),), {"dtype": np.dtype(target)})
        for source in names
        for target in names
    ]


enter(
    "cast",
    _evaluate_cast,
    np.positive,
    "The values of an array in another dtype.",
    infer=_infer_cast,
    vjp=_vjp_cast,
    jvp=_jvp_cast,
    samples=_cast_samples,
)


def cast(x: Any, dtype: Any, /) -> Tensor:
    """The values of an array in another dtype.

    Parameters
    ----------
    x : array_like
        Numbers; any shape.
    dtype : data type
        As NumPy's `numpy.dtype` takes it.

    Returns
    -------
    Tensor
        Of that dtype and x's shape; x itself if it has the dtype.

    Raises
    ------
    DtypeError
        For an unsupported dtype.

    Notes
    -----
    Floats are cut to integers towards 0, complex numbers to their real part, everything but 0 becomes True.
    Derivatives pass between
    floats and complex numbers; an integer has none.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.cast([1.7, -1.7], ng.int32).numpy()
    array([ 1, -1], dtype=int32)
    """
    wanted = as_dtype(dtype)
    tensor = as_tensor(x)
    return tensor if tensor.dtype == wanted else apply("cast", tensor, dtype=wanted)


def astype(x: Any, dtype: Any, /, *, copy: Any = True) -> Tensor:
    """The values of an array in another dtype, under the Array API's name.

    Parameters
    ----------
    x : array_like
        Numbers; any shape.
    dtype : data type
        As NumPy's `numpy.dtype` takes it.
    copy : bool
        Accepted for the standard; tensors are immutable, so that no copy can be told from its origin.

    Returns
    -------
    Tensor
        Of that dtype and x's shape.

    Raises
    ------
    DtypeError
        For an unsupported dtype.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.astype([1, 0], ng.bool).numpy()
    array([ True, False])
    """
    return cast(x, dtype)


enter(
    "identity",
    lambda x: x,
    np.positive,
    "The same values, as a node of its own.",
    partials=(lambda y, x: 1,),
    public="",
)
enter("stop_gradient", lambda x: x, np.positive, "The same values, taken as a constant by derivatives.", smooth=False)


def stop_gradient(x: Any, /) -> Tensor:
    """The same values, taken as a constant by derivatives.

    Parameters
    ----------
    x : array_like
        Any dtype and shape.

    Returns
    -------
    Tensor
        Of x's dtype and shape.

    Notes
    -----
    There is no path through it: `gradients` gives None, forward mode no tangent.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     g, = ng.gradients(x * ng.stop_gradient(x), x)
    >>> float(ng.run(g, {x: 3.0}))
    3.0
    """
    return apply("stop_gradient", as_tensor(x))


def _refuse(op: Operation, terms: Sequence[Any]) -> list[Tensor | None]:
    reason = op.attrs["message"]
    raise GradientError(
        f"the gradient of {op.name!r} is explicitly disabled{': ' if reason else ''}{reason}{at(op.where)}"
    )


enter(
    "prevent_gradient",
    lambda x, message: x,
    np.positive,
    "The same values; derivatives through it are an error.",
    vjp=_refuse,
    jvp=_refuse,
    smooth=False,
    samples=lambda rng: [((rng.normal(size=shape),), {"message": "no"}) for shape in ((), (3,), (0,))],
)


def prevent_gradient(x: Any, /, message: str = "") -> Tensor:
    """The same values; a derivative through it is an error.

    Parameters
    ----------
    x : array_like
        Any dtype and shape.
    message : str
        Why; part of the error's text.

    Returns
    -------
    Tensor
        Of x's dtype and shape.

    Raises
    ------
    GradientError
        When a derivative is taken through the result; not before.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ())
    ...     try:
    ...         ng.gradients(ng.prevent_gradient(x, "it is a table"), x)
    ...     except LookupError as error:
    ...         "explicitly disabled: it is a table" in str(error)
    True
    """
    if not isinstance(message, str):
        raise DtypeError(f"prevent_gradient: the message is {message!r}, wanted a string{at(user_line())}")
    return apply("prevent_gradient", as_tensor(x), message=message)

"""How to add an operation of one's own: its shapes, its NumPy meaning, its Numba kernel and its derivative."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.batching import RULES, spread
from numgrad.autodiff.opaque import all_sizes, filled, user_vjp
from numgrad.errors import at, user_line
from numgrad.graph.core import Operation, Tensor, apply_all, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import cast_to, define
from numgrad.types import Dim, Spec, broadcast_shapes, promote, require_equal, show_shape

__all__ = ["Spec", "broadcast_shapes", "cast_to", "kernel", "op", "promote", "require_equal", "show_shape"]

Infer = Callable[..., Any]


class Kernel:
    """A function of arrays that Numba compiles when a program needs it; see `kernel`."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.__name__, self.__doc__ = getattr(function, "__name__", "kernel"), function.__doc__

    def __call__(self, *arrays: Any, **attributes: Any) -> None:
        self.function(*arrays, **attributes)


def kernel(f: Callable[..., None]) -> Kernel:
    """Mark a function of arrays as the kernel of an operation.

    Parameters
    ----------
    f : callable
        ``f(*inputs, *outputs, **attributes)`` reads C-contiguous input arrays, numbers for inputs without axes, and
        fills the output arrays. A Python function, or an ``@numba.njit`` one. Numba is not imported before a program
        is compiled.

    Returns
    -------
    Kernel
        To be given to `op`; called, it runs the Python function.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> @ng.extend.kernel
    ... def double(x, out):
    ...     for i in range(x.size):
    ...         out[i] = 2 * x[i]
    >>> out = np.zeros(2)
    >>> double(np.array([1.0, 3.0]), out)
    >>> out
    array([2., 6.])
    """
    if not callable(f):
        raise TypeError(f"extend.kernel: got a {type(f).__name__}, wanted a function{at(user_line())}")
    return Kernel(f)


def op(name: str, infer: Infer, evaluate: Callable[..., Any] | None = None, *,
       kernel: Kernel | Callable[..., None] | None = None, vjp: Callable[..., Any] | None = None,
       jvp: Callable[..., Any] | None = None, decompose: Callable[..., Any] | None = None,
       batch: str | None = None, masks: bool = False, doc: str = "") -> Callable[..., Any]:
    """Enter a new operation into the op table.

    Parameters
    ----------
    name : str
        New in the table; as an identifier that nobody else uses, such as ``"mylab_median"``.
    infer : callable
        ``infer(*specs, **attributes)`` gives the `Spec` of the output, or a list of them; a spec has ``dtype``,
        ``shape`` and ``ndim``. Sizes may be unknown: compare them by `require_equal` or `broadcast_shapes`, compute
        with ``+ - * //``.
    evaluate : callable, optional
        ``evaluate(*arrays, **attributes)``: the meaning in NumPy; an array, or a tuple for several outputs. The
        default runs the kernel as Python.
    kernel : Kernel or callable, optional
        How compiled programs compute it; see `kernel`.
    vjp : callable, optional
        ``vjp(op, *cotangents)`` returns one tensor or None for each of ``op.inputs``, by operations of numgrad, this
        one among them; higher derivatives follow. Attributes are in ``op.attrs``. Without it derivatives are a
        LookupError.
    jvp : callable, optional
        ``jvp(op, tangents)`` returns one tensor or None for each of ``op.outputs``; `tangents` hold None for inputs
        that do not move. Without it forward mode transposes `vjp`.
    decompose : callable, optional
        ``decompose(*tensors, **attributes)``: the same in other operations, for compiled programs in place of a kernel.
    batch : {"leading"}, optional
        "leading" says that further axes in front of every operand are mapped over, so that a batch is one call.
        Otherwise a batch is computed one element after the other.
    masks : bool
        Whether `vjp` gives exact zeros for elements that took no part; NaN and infinity upstream of such zeros are
        then ignored.
    doc : str
        One sentence.

    Returns
    -------
    callable
        ``f(*arrays, **attributes)``: a tensor, or a list of them; eagerly, in graphs, in functions and transforms.

    Raises
    ------
    ValueError
        The name is taken; neither a meaning nor a kernel is given.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> @ng.extend.kernel
    ... def weighted(x, w, out):
    ...     out[()] = 0.0
    ...     for i in range(x.size):
    ...         out[()] += w[i] * x[i]
    >>> dot = ng.extend.op("doctest_dot", lambda x, w: ng.extend.Spec(x.dtype, ()), kernel=weighted,
    ...                    vjp=lambda op, g: [g * op.inputs[1], g * op.inputs[0]])
    >>> float(dot([1.0, 2.0], [3.0, 4.0]))
    11.0
    >>> ng.grad(dot)(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    array([3., 4.])
    """
    if evaluate is None and kernel is None:
        raise ValueError(f"extend.op: {name!r} needs evaluate or kernel{at(user_line())}")
    if batch not in (None, "leading"):
        raise ValueError(f"extend.op: batch is {batch!r}, wanted None or 'leading'{at(user_line())}")

    def infer_all(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
        found = infer(*specs, **attrs)
        return tuple(found) if isinstance(found, list) else (found,)

    def meaning(*arrays: Any, **attrs: Any) -> Any:
        if evaluate is not None:
            return evaluate(*arrays, **attrs)
        specs = infer_all([Spec(a.dtype, a.shape) for a in map(np.asarray, arrays)], attrs)
        return filled(kernel, arrays, specs, attrs)  # type: ignore[arg-type]

    library = None
    if kernel is not None:
        native = kernel.function if isinstance(kernel, Kernel) else kernel
        library = Library(name, sizes=all_sizes, status=True, error="the kernel raised an "
                                                                    "exception", raises=RuntimeError,
                          function=lambda attrs: (native, attrs))
    record = define(name, "general", infer_all, meaning, library=library, jvp=jvp, decompose=decompose, masks=masks,
                    doc=doc, vjp=None if vjp is None else lambda operation, cts: user_vjp(vjp, operation, cts))
    if batch == "leading":
        RULES[name] = _leading

    def call(*arrays: Any, **attributes: Any) -> Any:
        made = apply_all(record.name, *(as_tensor(a) for a in arrays), **attributes)
        return made[0] if len(made) == 1 else list(made)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    return call


def _leading(operation: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    given = [x if flag else spread(x, size) for x, flag in zip(inputs, flags, strict=True)]
    return apply_all(operation.type, *given, **operation.attrs)

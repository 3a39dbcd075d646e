"""Operations around functions that numgrad does not look into: `py_function` and `njit_function`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.autodiff.batching import RULES, batched, spread
from numgrad.errors import DtypeError, GradientError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, apply_all, as_tensor
from numgrad.graph.records import Library
from numgrad.ops.kinds import define, shape_argument
from numgrad.types import Dim, Spec, as_dtype, is_trainable

__all__ = ["filled", "njit_function", "py_function", "user_vjp"]

Rule = Callable[..., Any]


def user_vjp(rule: Rule, op: Operation, cts: Sequence[Tensor | None]) -> list[Any]:
    """What a rule ``rule(op, *cotangents)`` answers; floating outputs that nothing depends on get zeros."""
    given = [apply("zeros_like", t) if ct is None and is_trainable(t.dtype) else ct
             for ct, t in zip(cts, op.outputs, strict=True)]
    result = rule(op, *given)
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _vjp_in_attributes(op: Operation, cts: Sequence[Tensor | None]) -> list[Any]:
    if op.attrs["vjp"] is None:
        name = getattr(op.attrs["function"], "__qualname__", repr(op.attrs["function"]))
        raise GradientError(f"{op.type}: {name} was given no derivative (operation {op.name!r}){at(op.where)}; pass "
                            f"vjp=, or cut the "
                            f"path with ng.stop_gradient")
    return user_vjp(op.attrs["vjp"], op, cts)


def _specs(given: Any, inputs: Sequence[Tensor], what: str) -> tuple[tuple[tuple[Any, Any], ...], bool]:
    """Dtypes and shapes of the outputs as plain tuples, and whether there are several."""
    if callable(given) and not isinstance(given, (type, np.dtype)):
        given = given(*(t.spec for t in inputs))
    several = isinstance(given, list)
    return tuple([_spec(g, what) for g in (given if several else [given])]), several


def _spec(given: Any, what: str) -> tuple[Any, Any]:
    if isinstance(given, (Tensor, np.ndarray)):
        return as_dtype(given.dtype), tuple(given.shape)
    if isinstance(given, tuple) and len(given) == 2:
        return as_dtype(given[0]), shape_argument(given[1], what)
    raise TypeError(f"{what}: output_specs holds {given!r}, wanted (dtype, shape), an array of that dtype and shape, "
                    f"or a list of "
                    f"them{at(user_line())}")


def _infer(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    return tuple([Spec(dtype, tuple(shape)) for dtype, shape in attrs["specs"]])


def _call_python(*arrays: np.ndarray[Any, Any], function: Callable[..., Any], specs: Any, several: bool,
                 vjp: Rule | None, vectorized: bool, rows: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Call the user's function, once or for each element of the first `rows` axes."""
    if not rows:
        return _call_once(arrays, function, specs, several)
    outputs = tuple([np.empty(tuple(shape), dtype) for dtype, shape in specs])
    each = [(dtype, tuple(shape)[rows:]) for dtype, shape in specs]
    for index in np.ndindex(*tuple(specs[0][1])[:rows]):
        results = _call_once([a[index] for a in arrays], function, each, several)
        for output, result in zip(outputs, results, strict=True):
            output[index] = result
    return outputs


def _call_once(arrays: Sequence[Any], function: Callable[..., Any], specs: Any,
               several: bool) -> tuple[np.ndarray[Any, Any], ...]:
    """Call the user's function with arrays that it cannot change, and hold its results against what was promised."""
    result = function(*[_read_only(a) for a in arrays])
    results = list(result) if several else [result]
    name = getattr(function, "__qualname__", repr(function))
    if len(results) != len(specs):
        raise ValueError(f"py_function: {name} returned {len(results)} arrays, wanted {len(specs)}")
    return tuple([_fitting(r, dtype, shape, f"py_function: result {i} of {name}")
                  for i, (r, (dtype, shape)) in enumerate(zip(results, specs, strict=True))])


def _read_only(array: Any) -> np.ndarray[Any, Any]:
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _fitting(result: Any, dtype: Any, shape: Any, what: str) -> np.ndarray[Any, Any]:
    array = np.asarray(result)
    if array.shape != tuple(shape):
        raise ShapeError(f"{what} has shape {array.shape}, wanted {tuple(shape)}")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise DtypeError(f"{what} is {array.dtype}, wanted {dtype}")
    return np.array(array, dtype)


define("py_function", "general", _infer, _call_python, vjp=_vjp_in_attributes, host=True,
       doc="A Python function of arrays, called when the program runs.")


class _BatchedRule:
    """The derivative rule of a batch of calls: the user's rule on one element, batched."""

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        self.attrs = attrs

    def __call__(self, op: Operation, *cotangents: Tensor | None) -> list[Any]:
        size = op.inputs[0].spec.shape[0]
        each = [_element_of(t) for t in op.inputs]
        outputs = apply_all("py_function", *each, **self.attrs)
        pulled = [None if ct is None else _element_of(ct) for ct in cotangents]
        assert outputs[0].op is not None
        found = user_vjp(self.attrs["vjp"], outputs[0].op, pulled)
        known = dict(zip((*each, *outputs), (*op.inputs, *op.outputs), strict=True))
        known |= {one: ct for one, ct in zip(pulled, cotangents, strict=True) if one is not None and ct is not None}
        terms = [None if g is None else as_tensor(g) for g in found]
        return [None if g is None else all_of if all_of is not None else spread(g, size)
                for g, all_of in zip(terms, _each_batched(terms, known), strict=True)]


def _element_of(batch: Tensor) -> Tensor:
    return apply("cotangent_seed", spec=Spec(batch.dtype, tuple(batch.spec.shape[1:])))


def _each_batched(terms: Sequence[Tensor | None], known: dict[Tensor, Tensor]) -> list[Tensor | None]:
    present = iter(batched([t for t in terms if t is not None and t.op is not None], known))
    return [None if t is None or t.op is None else next(present) for t in terms]


def _batch_of_calls(op: Operation, inputs: list[Tensor], flags: list[bool], size: Dim) -> Any:
    """One call with a further axis in front where the function takes that, else one step that calls it row by row."""
    attrs = op.attrs
    given = [x if flag else spread(x, size) for x, flag in zip(inputs, flags, strict=True)]
    specs = tuple([(dtype, (size, *shape)) for dtype, shape in attrs["specs"]])
    rows = attrs["rows"] + (0 if attrs["vectorized"] else 1)
    rule = None if attrs["vjp"] is None else _BatchedRule(attrs)
    return apply_all("py_function", *given, **{**attrs, "specs": specs, "rows": rows, "vjp": rule})


RULES["py_function"] = _batch_of_calls


def py_function(f: Callable[..., Any], inputs: Any, output_specs: Any, vjp: Rule | None = None, *,
                vectorized: bool = False) -> Any:
    """Call a Python function of NumPy arrays when the program runs.

    Parameters
    ----------
    f : callable
        Gets read-only NumPy arrays, one for each input, and returns one array, or a list of them for a list of specs.
        It may call any library. It must not depend on anything but its arguments.
    inputs : array_like or list of array_like
        Any dtypes and shapes.
    output_specs : (dtype, shape), array_like, list of these, or callable
        What `f` returns. Shapes may hold sizes such as ``x.shape[0]``; an array or tensor stands for its own dtype and
        shape; a callable gets one object with ``dtype`` and ``shape`` for each input and returns the specs.
    vjp : callable, optional
        ``vjp(op, *cotangents)`` returns one tensor or None for each input, from ``op.inputs`` and ``op.outputs``, by
        operations of numgrad or by `py_function` again. Without it derivatives are a LookupError.
    vectorized : bool
        Whether `f` takes and returns arrays with further axes in front, so that `vmap` calls it once for a whole
        batch. Otherwise it is called row by row.

    Returns
    -------
    Tensor or list of Tensor

    Raises
    ------
    TypeError
        `f` is not callable, or a spec is none.
    ShapeError, DtypeError
        `f` returned something else than it promised; when it runs.
    LookupError
        A derivative is taken and there is no `vjp`.

    Notes ----- A compiled program runs natively up to the call, returns to Python for it, and runs natively from
    there. Such a program has no ``njit``, ``cfunc`` or ``lowlevel``, and loops cannot hold the call; `njit_function`
    has none of these limits.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> def cube(x):
    ...     return ng.py_function(lambda a: a**3, x, x, vjp=lambda op, g: g * 3.0 * op.inputs[0]**2)
    >>> ng.grad(lambda x: ng.sum(cube(x)))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    if not callable(f):
        raise TypeError(f"py_function: got a {type(f).__name__}, wanted a function{at(user_line())}")
    tensors = [as_tensor(v) for v in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
    specs, several = _specs(output_specs, tensors, "py_function")
    made = apply_all("py_function", *tensors, function=f, specs=specs, several=several, vjp=vjp,
                     vectorized=bool(vectorized), rows=0)
    return list(made) if several else made[0]


# -- functions compiled by Numba


def filled(function: Callable[..., Any], arrays: Sequence[Any], specs: Sequence[Any],
           attributes: Mapping[str, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """The outputs that a function of arrays fills in; inputs without axes are given as numbers."""
    outputs = [np.empty(tuple(shape), dtype) for dtype, shape in specs]
    inputs = [np.array(a, order="C") for a in arrays]
    function(*[a if a.ndim else a[()] for a in inputs], *outputs, **attributes)
    return tuple(outputs)


def all_sizes(ins: Sequence[Spec], outs: Sequence[Spec], attrs: Mapping[str, Any]) -> list[Dim]:
    """The sizes of all axes of all arrays, in order."""
    return [d for s in (*ins, *outs) for d in s.shape]


def _call_njit(*arrays: np.ndarray[Any, Any], function: Callable[..., Any], specs: Any, several: bool,
               vjp: Rule | None) -> tuple[np.ndarray[Any, Any], ...]:
    return filled(function, arrays, specs, {})


define("njit_function", "general", _infer, _call_njit, vjp=_vjp_in_attributes,
       library=Library("njit_function", sizes=all_sizes, status=True, error="the function raised an "
                                                                            "exception", raises=RuntimeError,
                       function=lambda attrs: (attrs["function"], {})),
       doc="A function of arrays compiled by Numba, called by compiled programs without Python.")


def njit_function(f: Callable[..., Any], output_specs: Any, vjp: Rule | None = None) -> Callable[..., Any]:
    """Make an operation of a user's ``@numba.njit`` function, which compiled programs call natively.

    Parameters
    ----------
    f : Numba dispatcher
        ``f(*inputs, *outputs)`` reads C-contiguous input arrays (numbers for inputs without axes) and fills the output
        arrays. A plain Python function is compiled by Numba when a program needs it. float16 is not supported.
    output_specs : (dtype, shape), list of these, or callable
        As for `py_function`; a callable is the way to let shapes follow the inputs.
    vjp : callable, optional
        As for `py_function`.

    Returns
    -------
    callable
        Takes arrays or tensors, returns a tensor, or a list of them for a list of specs.

    Raises
    ------
    TypeError
        `f` is not callable.
    KernelError
        Numba cannot compile `f` for the dtypes and ranks; when a program is compiled.
    RuntimeError
        `f` raised an exception within a compiled program.
    LookupError
        A derivative is taken and there is no `vjp`.

    Examples
    --------
    >>> import numba, numpy as np, numgrad as ng
    >>> @numba.njit
    ... def running_max(x, out):
    ...     best = -np.inf
    ...     for i in range(x.size):
    ...         best = max(best, x[i])
    ...         out[i] = best
    >>> highest = ng.njit_function(running_max, lambda x: x)
    >>> ng.function(lambda x: highest(x) + 1.0)(np.array([1.0, 3.0, 2.0]))
    array([2., 4., 4.])
    """
    if not callable(f):
        raise TypeError(f"njit_function: got a {type(f).__name__}, wanted a function{at(user_line())}")

    def call(*arrays: Any) -> Any:
        tensors = [as_tensor(a) for a in arrays]
        specs, several = _specs(output_specs, tensors, "njit_function")
        made = apply_all("njit_function", *tensors, function=f, specs=specs, several=several, vjp=vjp)
        return list(made) if several else made[0]

    call.__name__ = call.__qualname__ = getattr(f, "__name__", "njit_function")
    call.__doc__ = getattr(f, "__doc__", None)
    return call

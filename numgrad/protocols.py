"""NumPy's functions on tensors: `np.sin(t)`, `np.sum(t)`, `array + t`, `np.linalg.solve(t, b)` do what ng.* does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numgrad import linalg, nn, ops, special
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor
from numgrad.graph.variable import Variable
from numgrad.tracing.composed import COMPOSED
from numgrad.types import Size

__all__ = ["function_for", "install", "ufunc_for"]

_Function = Callable[..., Any]

# NumPy's and SciPy's names where ours is another one.
_RENAMED = {"absolute": "abs", "around": "round", "concatenate": "concat", "conjugate": "conj", "fabs": "abs",
            "gammaln": "lgamma", "psi": "digamma", "rint": "round", "true_divide": "divide"}
_ARGUMENTS = {"a_min": "min", "a_max": "max", "rcond": "rtol"}
_REDUCE = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all",
           "logical_or": "any", "logaddexp": "logsumexp"}
_ACCUMULATE = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin",
               "logaddexp": "logcumsumexp"}

_SIZE_BY_VALUES = ("the size of its result depends on values; keep the whole array, and use ng.where or weights of 0 "
                   "and 1")
_IN_PLACE = "tensors are never changed in place; use ng.where, ng.index_update or ng.index_add"
_NEEDS_VALUES = "it needs values; use x.numpy() outside of traced functions"
_ADVICE = {
    **dict.fromkeys("nonzero argwhere flatnonzero extract compress unique intersect1d setdiff1d union1d".split(),
                    _SIZE_BY_VALUES),
    **dict.fromkeys("put place putmask copyto fill_diagonal put_along_axis".split(), _IN_PLACE),
    **dict.fromkeys("array_str array_repr array2string save savez savez_compressed savetxt".split(), _NEEDS_VALUES),
    "eig": "use ng.linalg.eigh for symmetric matrices",
    "eigvals": "use ng.linalg.eigvalsh for symmetric matrices",
    "lstsq": "use ng.linalg.pinv, ng.linalg.qr, or ng.linalg.solve on the normal equations",
    "apply_along_axis": "use ng.vmap",
    "piecewise": "use ng.where or np.select",
    "at": _IN_PLACE,
}


def _named(name: str, *homes: Any) -> _Function | None:
    for home in homes:
        found = getattr(home, _RENAMED.get(name, name), None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def ufunc_for(ufunc: np.ufunc) -> _Function | None:
    """The function of this library that does what a NumPy or SciPy ufunc does, or None."""
    own = getattr(np, ufunc.__name__, None) is ufunc  # SciPy's may share a name with another function of ours
    homes: list[Any] = [ops, special, nn] if own else [special, ops, nn]
    return _named(ufunc.__name__, *homes)


def function_for(function: Any) -> _Function | None:
    """The function of this library that does what a NumPy function does, or None."""
    name, module = function.__name__, getattr(function, "__module__", "") or ""
    if name in _ADVICE or name.startswith("_"):
        return None
    if module == "numpy.linalg":
        return _named(name, linalg)
    if module == "numpy":
        return COMPOSED.get(name) or _named(name, ops, linalg)
    return None


def _refuse(what: str) -> DtypeError:
    advice = _ADVICE.get(what.rpartition(".")[2], "look for it under ng.*, or compute it with NumPy before and pass "
                                                  "the result as an array")
    return DtypeError(f"{what} is not implemented for tensors; {advice}{at(user_line())}")


def _refuse_options(options: Mapping[str, Any], what: str) -> None:
    """DtypeError for arguments of NumPy's that tensors do not take and that are not at their defaults."""
    for name, value in options.items():
        if name == "out":
            if value is None or (isinstance(value, tuple) and all(o is None for o in value)):
                continue
            raise DtypeError(f"{what}: out= cannot be used with tensors: they are never changed in place; use the "
                             f"result{at(user_line())}")
        if name == "where":
            if value is True or value is np._NoValue:
                continue
            raise DtypeError(f"{what}: where= cannot be used with tensors; use ng.where on the result{at(user_line())}")
        if not (value is None or value is np._NoValue or name in ("casting", "order", "subok", "device")):
            raise DtypeError(f"{what}: {name}= cannot be used with tensors{at(user_line())}")


# -- ufuncs


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    if any(hasattr(type(x), "__array_ufunc__") and not isinstance(x, (Tensor, Variable, Size, np.ndarray, np.generic))
           for x in inputs):
        return NotImplemented
    what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    table = {"reduce": _REDUCE, "accumulate": _ACCUMULATE}.get(method)
    if table is not None:
        if ufunc.__name__ not in table:
            raise _refuse(what)
        axis = inputs[1] if len(inputs) > 1 else kwargs.pop("axis", 0)
        taken = {k: kwargs.pop(k) for k in ("keepdims", "dtype") if kwargs.get(k) is not None}
        _refuse_options(kwargs, what)
        return getattr(ops, table[ufunc.__name__])(inputs[0], axis=axis, **taken)
    function = ufunc_for(ufunc)
    if function is None or method not in ("__call__", "outer"):
        raise _refuse(what)
    dtype = kwargs.pop("dtype", None)
    _refuse_options(kwargs, what)
    if dtype is not None:
        inputs = tuple(ops.astype(x, dtype) for x in inputs)
    if method == "outer":
        a, b = (as_tensor(x) for x in inputs)
        inputs = (ops.reshape(a, (*a.shape, *(1,) * b.ndim)), b)
    return function(*inputs)


# -- functions


def _array_function(self: Tensor, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not all(issubclass(t, (Tensor, Variable, np.ndarray, Size)) for t in types):
        return NotImplemented
    what = f"{getattr(func, '__module__', 'numpy')}.{func.__name__}"
    function = function_for(func)
    if function is None:
        raise _refuse(what)
    positional, keywords = _adapted(func, function, args, kwargs, what)
    return function(*positional, **keywords)


@functools.lru_cache(maxsize=512)
def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _adapted(func: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
             what: str) -> tuple[list[Any], dict[str, Any]]:
    """NumPy's arguments as those of our function: by name where it has the name, leading arrays by position.

    What our function does not take must be at NumPy's default.
    """
    theirs, ours = _parameters(func), _parameters(function)
    positional: list[Any] = []
    if any(p.kind is p.VAR_POSITIONAL for p in theirs.values()):
        positional, given = list(args), dict(kwargs)
    else:
        given = dict(inspect.signature(func).bind(*args, **kwargs).arguments)
    arrays = sum(p.kind is p.POSITIONAL_ONLY for p in ours.values())
    options = any(p.kind is p.VAR_KEYWORD for p in ours.values())
    keywords: dict[str, Any] = {}
    for name, value in given.items():
        parameter = theirs.get(name)
        if parameter is not None and parameter.kind is parameter.VAR_KEYWORD:
            keywords.update(value)
            continue
        if parameter is not None and _is_default(value, parameter.default):
            continue
        own = ours.get(_ARGUMENTS.get(name, name))
        if own is not None and own.kind in (own.KEYWORD_ONLY, own.POSITIONAL_OR_KEYWORD):
            keywords[own.name] = value
        elif len(positional) < arrays:
            positional.append(value)
        elif options:
            keywords[name] = value
        else:
            _refuse_options({name: value}, what)
    return positional, keywords


def _is_default(value: Any, default: Any) -> bool:
    plain = isinstance(value, (str, bool, int, float)) and type(value) is type(default)
    return value is default or (plain and bool(value == default))


def install(namespace: Any) -> None:
    """Teach tensors and variables NumPy's protocols; `namespace` is what ``t.__array_namespace__()`` answers."""
    methods: dict[str, Any] = {
        "__array_ufunc__": _array_ufunc,
        "__array_function__": _array_function,
        "__array_namespace__": lambda self, *, api_version=None: namespace,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)
        setattr(Variable, name, method)

"""NumPy's functions on tensors: `np.sin(t)`, `np.sum(t)`, `array + t`, `np.linalg.solve(t, b)` do what ng.* does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgrad import linalg, nn, ops, special
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor

__all__ = ["function_for", "install", "ufunc_for"]

_Function = Callable[..., Any]

# NumPy's and SciPy's names where ours is another one.
_RENAMED = {
    "absolute": "abs",
    "around": "round",
    "concatenate": "concat",
    "conjugate": "conj",
    "fabs": "abs",
    "gammaln": "lgamma",
    "psi": "digamma",
    "rint": "round",
    "true_divide": "divide",
}
_REDUCE = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all",
           "logical_or": "any"}
_ACCUMULATE = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin"}
_NOT_OURS = frozenset({"copyto", "put", "place", "putmask", "fill_diagonal", "savetxt", "save", "array_repr",
                       "array_str"})


def _named(name: str, *homes: Any) -> _Function | None:
    for home in homes:
        found = getattr(home, _RENAMED.get(name, name), None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def ufunc_for(ufunc: np.ufunc) -> _Function | None:
    """The function of this library that does what a NumPy or SciPy ufunc does, or None."""
    return _named(ufunc.__name__, ops, special, nn)


def function_for(function: Any) -> _Function | None:
    """The function of this library that does what a NumPy function does, or None."""
    name, module = function.__name__, getattr(function, "__module__", "") or ""
    if name in _NOT_OURS or not module.startswith("numpy") or module.startswith("numpy.fft"):
        return None
    if module == "numpy.linalg":
        return _named(name, linalg)
    return _named(name, ops, linalg) if not name.startswith("_") else None


def _refuse(what: str) -> DtypeError:
    return DtypeError(f"{what} is not implemented for tensors; look for it under ng.*, or compute it with NumPy before "
                      f"and pass the result as an array{at(user_line())}")


def _without_out(kwargs: dict[str, Any], what: str) -> dict[str, Any]:
    """Keyword arguments without those that are at their defaults; `out` and `where` cannot be given."""
    rest = dict(kwargs)
    out = rest.pop("out", None)
    if out is not None and not (isinstance(out, tuple) and all(o is None for o in out)):
        raise DtypeError(f"{what}: out= cannot be used with tensors: they are never changed in place; use the result"
                         f"{at(user_line())}")
    if rest.pop("where", True) is not True:
        raise DtypeError(f"{what}: where= cannot be used with tensors; use ng.where on the result{at(user_line())}")
    for name in ("casting", "order", "subok"):
        rest.pop(name, None)
    return rest


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    rest = _without_out(kwargs, what)
    if method == "__call__":
        if ufunc is np.divmod:
            return ops.floor_divide(*inputs), ops.remainder(*inputs)
        function = ufunc_for(ufunc)
        if function is None:
            raise _refuse(what)
        dtype = rest.pop("dtype", None)
        if dtype is not None:
            inputs = tuple(ops.astype(x, dtype) for x in inputs)
        return function(*inputs, **rest)
    table = {"reduce": _REDUCE, "accumulate": _ACCUMULATE}.get(method, {})
    if ufunc.__name__ in table:
        rest.setdefault("axis", 0)
        rest = {k: v for k, v in rest.items() if k not in ("initial",) and v is not None or k == "axis"}
        return getattr(ops, table[ufunc.__name__])(*inputs, **rest)
    if method == "outer" and ufunc_for(ufunc) is not None:
        a, b = (as_tensor(x) for x in inputs)
        return _array_ufunc(self, ufunc, "__call__", ops.reshape(a, (*a.shape, *(1,) * b.ndim)), b, **rest)
    raise _refuse(what)


def _array_function(self: Tensor, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    what = f"{getattr(func, '__module__', 'numpy')}.{func.__name__}"
    function = function_for(func)
    if function is None:
        raise _refuse(what)
    limited = kwargs.keys() & {"out", "where"}
    return function(*args, **(_without_out(kwargs, what) if limited else kwargs))


def install(namespace: Any) -> None:
    """Teach `Tensor` NumPy's protocols; `namespace` is what ``t.__array_namespace__()`` answers."""
    methods: dict[str, Any] = {
        "__array_ufunc__": _array_ufunc,
        "__array_function__": _array_function,
        "__array_namespace__": lambda self, *, api_version=None: namespace,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)

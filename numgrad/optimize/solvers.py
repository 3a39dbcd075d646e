"""SciPy's solvers, given the exact derivatives that each of their methods uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numgrad.errors import at, user_line
from numgrad.optimize.constraints import exact_constraints
from numgrad.optimize.layout import Layout
from numgrad.optimize.objective import Problem, Residuals

__all__ = ["least_squares", "minimize", "root"]

# What SciPy's methods ask for: nothing, gradients, products or whole Hessians (the last two besides gradients).
_VALUES, _GRADIENTS, _PRODUCTS, _HESSIANS = "values", "gradients", "products", "hessians"
_METHODS = {
    "nelder-mead": _VALUES, "powell": _VALUES, "cobyla": _VALUES, "cobyqa": _VALUES,
    "cg": _GRADIENTS, "bfgs": _GRADIENTS, "l-bfgs-b": _GRADIENTS, "tnc": _GRADIENTS, "slsqp": _GRADIENTS,
    "newton-cg": _PRODUCTS, "trust-ncg": _PRODUCTS, "trust-krylov": _PRODUCTS, "trust-constr": _PRODUCTS,
    "dogleg": _HESSIANS, "trust-exact": _HESSIANS,
}
_ROOT_METHODS_WITH_JACOBIAN = frozenset({"hybr", "lm"})


def _args_tuple(args: Any) -> tuple[Any, ...]:
    return args if isinstance(args, tuple) else (args,)


def _derivatives(p: Problem, method: Any) -> dict[str, Any]:
    """SciPy's ``fun``, ``jac``, ``hess`` and ``hessp`` for a method."""
    if callable(method):
        return {"fun": p.fun, "jac": p.jac, "hess": p.hess, "hessp": p.hessp}
    used = _GRADIENTS if method is None else _METHODS.get(str(method).lower())
    if used is None:
        raise ValueError(f"minimize: unknown method {method!r}; wanted a callable or one of "
                         f"{', '.join(sorted(_METHODS))}{at(user_line())}")
    if used == _VALUES:
        return {"fun": p.value}
    made: dict[str, Any] = {"fun": p.fun, "jac": p.jac}
    if used == _PRODUCTS:
        made["hessp"] = p.hessp
    elif used == _HESSIANS:
        made["hess"] = p.hess
    return made


def _structured(callback: Callable[..., Any] | None, layout: Layout) -> Callable[..., Any] | None:
    """A callback that gets x in the user's structure; SciPy looks at its signature, so that is kept."""
    if callback is None or layout.plain:
        return callback
    try:
        names = set(inspect.signature(callback).parameters)
    except (TypeError, ValueError):
        names = set()
    if names == {"intermediate_result"}:
        def with_result(intermediate_result: Any) -> Any:
            return callback(intermediate_result=_with_structure(intermediate_result, layout))

        return with_result
    return lambda x, *state: callback(layout.unflatten(x), *state)


def _with_structure(result: Any, layout: Layout) -> Any:
    """SciPy's result with `x` in the user's structure and the flat vector as `x_flat`."""
    from scipy.optimize import OptimizeResult

    return OptimizeResult({**result, "x": layout.unflatten(result.x), "x_flat": result.x})


def minimize(f: Callable[..., Any] | Problem, x0: Any = None, args: Any = (), method: Any = None, *,
             bounds: Any = None, constraints: Any = (), tol: float | None = None,
             callback: Callable[..., Any] | None = None, options: dict[str, Any] | None = None) -> Any:
    """Minimise a scalar function with `scipy.optimize.minimize` and exact derivatives.

    Parameters
    ----------
    f : callable or Problem
        ``f(x, *args)`` with a real scalar result, written with ``ng.*`` or ``np.*``. A `Problem` is not traced and
        compiled again; it has its own data.
    x0 : nest of arrays
        Where to start: an array, or tuples, lists, dicts and dataclasses of real arrays. By default a problem's own
        start.
    args : tuple
        Data for f: traced, neither differentiated nor part of the program.
    method : str or callable, optional
        Any of SciPy's. It decides what is built: values alone (Nelder-Mead, Powell, COBYLA, COBYQA), gradients (CG,
        BFGS, L-BFGS-B, TNC, SLSQP), Hessian-vector products too (Newton-CG, trust-ncg, trust-krylov, trust-constr), or
        whole Hessians too (dogleg, trust-exact).
    bounds : optional
        As in SciPy, in the order of the flat vector (``ng.optimize.problem(f, x0).flatten`` gives it).
    constraints : optional
        As in SciPy: dicts and `scipy.optimize.NonlinearConstraint` with functions of x in the structure of x0, which
        get exact Jacobians and, for trust-constr, exact Hessians of ``v @ fun(x)``; or `LinearConstraint` over the flat
        vector. A constraint with a callable ``jac`` of its own is left as it is and need not be traceable.
    tol, callback, options : optional
        As in SciPy; the callback gets x in the structure of x0.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With ``x`` in the structure of x0 and ``x_flat``, the vector; all else as from SciPy, ``jac`` flat.

    Raises
    ------
    ValueError
        For an unknown method, or when f's result is not a scalar (`ShapeError`).
    DtypeError
        When a parameter or the result is complex.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> def rosenbrock(x):
    ...     return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    >>> result = ng.optimize.minimize(rosenbrock, np.zeros(4), method="trust-ncg")
    >>> result.success, np.round(result.x, 6).tolist()
    (True, [1.0, 1.0, 1.0, 1.0])
    """
    from scipy import optimize

    if isinstance(f, Problem):
        if args != ():
            raise TypeError(f"minimize: a problem has its own data; use its with_args instead of args{at(user_line())}")
        p, layout, start = f, f.layout, f.x0 if x0 is None else f.flatten(x0)
    else:
        layout = Layout(x0)
        p, start = Problem(f, layout, _args_tuple(args)), layout.start.copy()
    derivatives = _derivatives(p, method)
    derivatives["fun"](start)  # errors of f name the user's line, not SciPy's; the sweep is remembered
    hessians = callable(method) or str(method).lower() == "trust-constr"
    result = optimize.minimize(
        x0=start, method=method, bounds=bounds, constraints=exact_constraints(constraints, layout, hessians),
        tol=tol, callback=_structured(callback, layout), options=options, **derivatives)
    return _with_structure(result, layout)


def least_squares(f: Callable[..., Any], x0: Any, args: Any = (), **options: Any) -> Any:
    """Minimise half the sum of squares of a function's values with `scipy.optimize.least_squares` and the exact
    Jacobian.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` with a real array as result, the residuals.
    x0 : nest of arrays
    args : tuple
        Data for f: traced, neither differentiated nor part of the program.
    **options
        SciPy's: ``bounds``, ``method``, ``loss``, ``x_scale``, ``ftol``, ``max_nfev`` and so on.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With ``x`` in the structure of x0 and ``x_flat``, the vector; ``jac`` has shape (m, n).

    Raises
    ------
    TypeError
        For ``jac`` among the options, which is derived from f.
    DtypeError
        When a parameter or the result is complex.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> t = np.linspace(0.0, 2.0, 9)
    >>> fit = ng.optimize.least_squares(lambda p, t, y: p["a"] * np.exp(p["b"] * t) - y, {"a": 1.0, "b": 0.0},
    ...                                 args=(t, 2.0 * np.exp(-t)))
    >>> round(float(fit.x["a"]), 6), round(float(fit.x["b"]), 6)
    (2.0, -1.0)
    """
    from scipy import optimize

    if "jac" in options:
        raise TypeError(f"least_squares: jac is derived from f; use scipy.optimize.least_squares to give your own"
                        f"{at(user_line())}")
    layout = Layout(x0)
    residuals = Residuals(f, layout, _args_tuple(args))
    residuals.fun(layout.start)
    if options.get("callback") is not None:
        options = {**options, "callback": _structured(options["callback"], layout)}
    result = optimize.least_squares(residuals.fun, layout.start.copy(), jac=residuals.jac, **options)
    return _with_structure(result, layout)


def root(f: Callable[..., Any], x0: Any, args: Any = (), method: str = "hybr", *, tol: float | None = None,
         callback: Callable[..., Any] | None = None, options: dict[str, Any] | None = None) -> Any:
    """Find a zero of a function from n numbers to n numbers with `scipy.optimize.root` and the exact Jacobian.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` with a real array of as many elements as x as result.
    x0 : nest of arrays
    args : tuple
        Data for f: traced, neither differentiated nor part of the program.
    method : str
        Any of SciPy's; "hybr" and "lm" use the Jacobian, the others only values.
    tol, callback, options : optional
        As in SciPy.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With ``x`` in the structure of x0 and ``x_flat``, the vector.

    Raises
    ------
    DtypeError
        When a parameter or the result is complex.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> found = ng.optimize.root(lambda x: np.cos(x) - x, np.array([0.5]))
    >>> found.success, round(float(found.x[0]), 6)
    (True, 0.739085)
    """
    from scipy import optimize

    layout = Layout(x0)
    residuals = Residuals(f, layout, _args_tuple(args))
    residuals.fun(layout.start)
    jac = residuals.jac if method.lower() in _ROOT_METHODS_WITH_JACOBIAN else None
    result = optimize.root(residuals.fun, layout.start.copy(), method=method, jac=jac, tol=tol,
                           callback=_structured(callback, layout), options=options)
    return _with_structure(result, layout)

"""SciPy's constraints with exact derivatives: their functions take the user's nest, SciPy sees flat vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numgrad.optimize.layout import Layout
from numgrad.optimize.objective import Residuals

__all__ = ["exact_constraints"]


def exact_constraints(constraints: Any, layout: Layout, hessians: bool) -> Any:
    """The constraints as SciPy takes them, with exact Jacobians, and `hessians` for the methods that use them.

    A constraint that brings a callable ``jac`` of its own is not traced; linear constraints go through as they are.
    """
    if isinstance(constraints, (list, tuple)):
        return [_exact(c, layout, hessians) for c in constraints]
    return _exact(constraints, layout, hessians)


def _exact(constraint: Any, layout: Layout, hessians: bool) -> Any:
    from scipy.optimize import NonlinearConstraint

    if isinstance(constraint, Mapping):
        return _from_mapping(constraint, layout)
    if isinstance(constraint, NonlinearConstraint):
        c = constraint
        if callable(c.jac):
            hess = _of_nest(c.hess, layout) if callable(c.hess) else c.hess
            fun, jac = _of_nest(c.fun, layout), _of_nest(c.jac, layout)
            return NonlinearConstraint(fun, c.lb, c.ub, jac, hess, c.keep_feasible)
        residuals = Residuals(c.fun, layout, ())
        # Methods that use no Hessian warn about one.
        hess = residuals.hess if hessians else c.hess
        return NonlinearConstraint(residuals.fun, c.lb, c.ub, residuals.jac, hess, c.keep_feasible)
    return constraint


def _from_mapping(constraint: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    made = dict(constraint)
    if callable(made.get("jac")):
        made["fun"], made["jac"] = _of_nest(made["fun"], layout), _of_nest(made["jac"], layout)
        return made
    residuals = Residuals(made["fun"], layout, tuple(made.pop("args", ())))
    made["fun"], made["jac"] = residuals.fun, residuals.jac
    return made


def _of_nest(f: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    if layout.plain:
        return f
    return lambda x, *rest: f(layout.unflatten(x), *rest)

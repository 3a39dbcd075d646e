"""Gradient rules that users register by name, and the lookup of the rule of an operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numgrad.errors import GradientError, at, user_line
from numgrad.graph.core import Operation
from numgrad.graph.records import OPS

__all__ = ["NotDifferentiable", "RegisterGradient", "rule_of"]

Rule = Callable[..., Any]
_rules: dict[str, Rule | None] = {}
_lock = threading.Lock()


def _enter(name: Any, rule: Rule | None, what: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what}: the op type must be a string, got {name!r}{at(user_line())}")
    with _lock:
        known = OPS.get(name)
        if name in _rules or (known is not None and (known.differentiable or not known.smooth)):
            raise KeyError(f"{what}: a gradient for {name!r} is registered already{at(user_line())}")
        _rules[name] = rule


class RegisterGradient:
    """Decorator that registers the gradient rule of an op type, or a rule for `Graph.gradient_override_map`.

    The rule takes the operation and one cotangent for each of its outputs (None for integer and bool outputs, zeros for
    other outputs that nobody used), and returns one tensor, `IndexedSlices` or None for each input.

    Parameters
    ----------
    op_type : str
        Name of an op without a rule of its own, or a new name for use in an override map.

    Raises
    ------
    TypeError
        The name is not a string.
    KeyError
        The name has a rule already; rules cannot be replaced.

    Examples
    --------
    >>> import numgrad as ng
    >>> @ng.RegisterGradient("DoctestClipped")
    ... def clipped(op, cotangent):
    ...     return ng.clip(cotangent, -1.0, 1.0)
    >>> with ng.Graph().as_default() as g:
    ...     x = ng.placeholder(ng.float64, ())
    ...     with g.gradient_override_map({"square": "DoctestClipped"}):
    ...         y = ng.square(x)
    ...     dx, = ng.gradients(5.0 * y, x)
    >>> float(ng.run(dx, {x: 3.0}))
    1.0
    """

    def __init__(self, op_type: str) -> None:
        if not isinstance(op_type, str):
            raise TypeError(f"RegisterGradient: the op type must be a string, got {op_type!r}{at(user_line())}")
        self._op_type = op_type

    def __call__(self, rule: Rule) -> Rule:
        _enter(self._op_type, rule, "RegisterGradient")
        return rule


def NotDifferentiable(op_type: str) -> None:  # noqa: N802 - the contract's name
    """Declare that an op type has no derivative: gradients through it are None.

    Parameters
    ----------
    op_type : str

    Raises
    ------
    TypeError, KeyError
        As `RegisterGradient`.

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.NotDifferentiable("DoctestOpaque")
    >>> ng.NotDifferentiable("DoctestOpaque")
    Traceback (most recent call last):
    ...
    KeyError: ...
    """
    _enter(op_type, None, "NotDifferentiable")


def rule_of(op: Operation) -> tuple[bool, Rule | None]:
    """(found, rule): the user's rule for an operation; found without a rule means that it is not differentiable.

    An override that was in force when the operation was made comes first, then a rule registered for its type. Not
    found: the op record decides.
    """
    if op.override is not None:
        if op.override not in _rules:
            raise GradientError(f"gradient_override_map named {op.override!r} for operation {op.name!r}{at(op.where)}, "
                                f"but no rule of that name is registered with ng.RegisterGradient")
        return True, _rules[op.override]
    if op.type in _rules and not op.record.differentiable:
        return True, _rules[op.type]
    return False, None

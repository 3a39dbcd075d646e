"""Initial value problems of ordinary differential equations: `odeint`, differentiable to any order."""

from numgrad.integrate.odeint import Info, odeint

__all__ = ["Info", "odeint"]

"""SciPy's optimisers with exact, compiled derivatives."""

from numgrad.optimize.objective import Problem, problem
from numgrad.optimize.solvers import least_squares, minimize, root

__all__ = ["Problem", "least_squares", "minimize", "problem", "root"]

"""Checks that users run on their own functions: derivatives against an independent numerical method."""

from numgrad.testing.gradients import check_gradients
from numgrad.testing.report import Comparison, GradientMismatch, GradientReport

__all__ = ["Comparison", "GradientMismatch", "GradientReport", "check_gradients"]

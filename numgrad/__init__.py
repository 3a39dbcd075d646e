"""Gradients of NumPy programs, in graphs and functions, compiled by Numba: the public face, re-exports only."""

import sys as _sys
from types import ModuleType as _ModuleType

from numgrad import cache, compat, config, data, errors, extend, integrate, linalg, nn, optimize, special, testing
from numgrad import protocols as _protocols
from numgrad._version import __version__
from numgrad.autodiff.accumulator import ForwardAccumulator
from numgrad.autodiff.aggregate import AggregationMethod
from numgrad.autodiff.arguments import UnconnectedGradients
from numgrad.autodiff.custom import custom_gradient, grad_pass_through
from numgrad.autodiff.derived import hessian_vector_product, hessians
from numgrad.autodiff.explain import Cut, Explanation, explain_gradient
from numgrad.autodiff.nans import debug_nans
from numgrad.autodiff.opaque import njit_function, py_function
from numgrad.autodiff.recompute import recompute_grad
from numgrad.autodiff.registry import NotDifferentiable, RegisterGradient
from numgrad.autodiff.reverse import gradients
from numgrad.autodiff.slices import IndexedSlices
from numgrad.autodiff.tape import GradientTape
from numgrad.graph.core import Operation, Tensor, placeholder
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import control_dependencies, device, name_scope
from numgrad.graph.show import show
from numgrad.graph.variable import Variable
from numgrad.ops.aggregation import *
from numgrad.ops.arithmetic import *
from numgrad.ops.axes import *
from numgrad.ops.casting import *
from numgrad.ops.choice import *
from numgrad.ops.comparison import *
from numgrad.ops.complex import *
from numgrad.ops.conversion import *
from numgrad.ops.creation import *
from numgrad.ops.einsum import *
from numgrad.ops.exponential import *
from numgrad.ops.extrema import *
from numgrad.ops.indexing import *
from numgrad.ops.joining import *
from numgrad.ops.kinds import make_constant as constant
from numgrad.ops.padding import *
from numgrad.ops.products import *
from numgrad.ops.ranges import *
from numgrad.ops.reduction import *
from numgrad.ops.repeating import *
from numgrad.ops.scan import *
from numgrad.ops.shaping import *
from numgrad.ops.slicing import *
from numgrad.ops.sorting import *
from numgrad.ops.statistics import *
from numgrad.ops.triangles import *
from numgrad.ops.trigonometric import *
from numgrad.tracing.arrays import TensorArray
from numgrad.tracing.associative import associative_scan
from numgrad.tracing.branches import case, cond, switch_case
from numgrad.tracing.compiled import Compiled, compile
from numgrad.tracing.function import function
from numgrad.tracing.lists import TensorList
from numgrad.tracing.loops import fold, fori_loop, map, scan, while_loop
from numgrad.tracing.report import compile_report
from numgrad.tracing.run import run
from numgrad.transforms import *

_protocols.install(_sys.modules[__name__])

# What stands here is what is exported; sub-namespaces are modules and are named.
__all__ = ["__version__", "cache", "compat", "config", "data", "errors", "extend", "integrate", "linalg", "nn"]
__all__ += ["optimize", "special", "testing"]
__all__ += sorted(
    name for name, item in globals().items() if not name.startswith("_") and not isinstance(item, _ModuleType)
)

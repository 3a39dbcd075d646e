"""What users type exists under the promised names, and each public function shows an example that runs."""

from __future__ import annotations

import doctest
import inspect
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import numgrad as ng
from numgrad.autodiff import registry
from numgrad.graph.records import OPS

# The promised names, by namespace; "" is numgrad itself.
PROMISED = {
    "": """
        asarray constant Graph placeholder name_scope device control_dependencies run compile Tensor Operation
        gradients hessians hessian_vector_product UnconnectedGradients AggregationMethod stop_gradient
        compile_report function grad value_and_grad jvp vjp linearize jacobian hessian hvp vmap show
        GradientTape ForwardAccumulator Variable IndexedSlices custom_gradient grad_pass_through recompute_grad
        RegisterGradient NotDifferentiable py_function njit_function explain_gradient debug_nans prevent_gradient
        cond case switch_case while_loop fori_loop scan map fold TensorArray TensorList
        associative_scan
        cache linalg special nn compat config data errors extend integrate optimize testing

        add subtract multiply divide floor_divide remainder negative positive
        equal not_equal less less_equal greater greater_equal
        logical_and logical_or logical_xor logical_not
        bitwise_and bitwise_or bitwise_xor bitwise_invert bitwise_left_shift bitwise_right_shift
        exp expm1 exp2 log log1p log2 log10 logaddexp sqrt rsqrt cbrt square reciprocal pow power
        sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh
        arcsin arccos arctan arctan2 arcsinh arccosh arctanh
        softplus sigmoid log_sigmoid sign copysign heaviside hypot abs angle real imag conj
        minimum maximum fmin fmax clip where floor ceil round trunc isnan isinf isfinite nextafter astype

        sum prod mean var std max min any all argmax argmin logsumexp count_nonzero
        cumulative_sum cumulative_prod cumsum cumprod

        reshape permute_dims matrix_transpose broadcast_to expand_dims squeeze concat stack unstack split tile repeat
        flip roll pad take take_along_axis index_update index_add diag tril triu eye arange
        linspace zeros ones full zeros_like ones_like full_like meshgrid
        sort argsort searchsorted one_hot

        matmul tensordot vecdot dot vdot inner outer einsum kron
    """,
    "linalg": """
        vector_norm norm diagonal trace cross outer matmul tensordot
        cholesky triangular_solve cho_solve solve inv pinv det slogdet eigh eigvalsh qr svd svdvals
    """,
    "special": "erf erfc erfinv lgamma digamma xlogy xlog1py logsumexp",
    "nn": "softplus sigmoid log_sigmoid",
    "optimize": "problem minimize least_squares root",
    "extend": "op kernel Spec",
    "testing": "check_gradients",
    "cache": "path clear export load",
    "data": "load_breast_cancer load_lynx_hare load_wine",
    "integrate": "odeint Info",
    "compat.v1": "gradients hessians",
    "errors": "NumgradError ShapeError DtypeError GraphError GradientError KernelError DeviceError NotANumberError",
}

ERROR_BASES = {
    "ShapeError": ValueError,
    "DtypeError": TypeError,
    "GraphError": ValueError,
    "GradientError": LookupError,
    "KernelError": NotImplementedError,
    "DeviceError": RuntimeError,
    "NotANumberError": FloatingPointError,
}
COMPILED_ATTRIBUTES = "source graph plan bind"
TENSOR_ATTRIBUTES = "dtype shape ndim size T name op graph device numpy"
OPERATION_ATTRIBUTES = "type name inputs outputs attrs control_inputs device"


def namespace(path: str) -> Any:
    found = ng
    for part in filter(None, path.split(".")):
        found = getattr(found, part)
    return found


def public_objects() -> list[tuple[str, Any]]:
    """Return the functions and classes that the namespaces above export, each once, under the first of its names."""
    seen: dict[int, tuple[str, Any]] = {}
    for path in PROMISED:
        space = namespace(path)
        for name in space.__all__:
            item = getattr(space, name)
            if callable(item):
                seen.setdefault(id(item), (f"{path}.{name}".lstrip("."), item))
    return list(seen.values())


@pytest.mark.parametrize("path,name", [(path, name) for path, names in PROMISED.items() for name in names.split()])
def test_promised_name_is_exported(path: str, name: str) -> None:
    space = namespace(path)
    assert hasattr(space, name)
    assert name in space.__all__


@pytest.mark.parametrize("path", PROMISED)
def test_all_is_true(path: str) -> None:
    space = namespace(path)
    assert len(space.__all__) == len(set(space.__all__))
    for name in space.__all__:
        assert hasattr(space, name), f"{path}.__all__ promises {name}"
        assert not name.startswith("_") or name == "__version__"
        assert name in dir(space)


def test_nothing_public_is_left_out_of_all() -> None:
    """What stands in the face without an underscore is exported, modules apart."""
    for name, item in vars(ng).items():
        if not name.startswith("_") and not isinstance(item, types.ModuleType) and name != "annotations":
            assert name in ng.__all__, f"numgrad.{name} is visible and not exported"


@pytest.mark.parametrize("name,item", public_objects(), ids=lambda value: value if isinstance(value, str) else "")
def test_docstring_has_a_sentence_and_an_example_that_runs(name: str, item: Any) -> None:
    text = inspect.getdoc(item) or ""
    assert text.split("\n\n")[0].rstrip().endswith("."), f"the docstring of {name} opens with a sentence"
    if isinstance(item, type) and issubclass(item, BaseException):
        return
    assert ">>>" in text, f"the docstring of {name} has no example"
    # pytest's own collection misses what makers build: their functions belong, for doctest, to the module of the maker.
    examples = doctest.DocTestParser().get_doctest(text, {"ng": ng}, name, None, 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with own_registries():
        runner.run(examples, out=report.append)
    assert runner.failures == 0, "".join(report)


@contextmanager
def own_registries() -> Iterator[None]:
    """Let an example register its rule or op, though pytest's doctests of the same text may have done so or will."""
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [(t, dict(t)) for t in (registry._rules, OPS)]
    for table, saved in tables:
        for name in saved:
            if name.lower().startswith("doctest"):
                del table[name]
    try:
        yield
    finally:
        for table, saved in tables:
            table.clear()
            table.update(saved)


@pytest.mark.parametrize("name,base", ERROR_BASES.items())
def test_errors_derive_from_the_root_and_the_builtin_that_fits(name: str, base: type[Exception]) -> None:
    error = getattr(ng.errors, name)
    assert issubclass(error, ng.errors.NumgradError)
    assert issubclass(error, base)


def test_tensors_operations_and_compiled_callables_have_the_promised_attributes() -> None:
    with ng.Graph().as_default():
        x = ng.placeholder("float64", ("n",))
        y = ng.sum(ng.square(x))
    assert [name for name in TENSOR_ATTRIBUTES.split() if name not in dir(y)] == []
    assert [name for name in OPERATION_ATTRIBUTES.split() if not hasattr(y.op, name)] == []
    compiled = ng.compile([x], y)
    assert [name for name in COMPILED_ATTRIBUTES.split() if not hasattr(compiled, name)] == []

"""Every scalar formula, on every dtype, prints as CUDA source that compiles to PTX without a GPU."""

from __future__ import annotations

import re

import numpy as np
import pytest

from numgrad_kernels.errors import KernelBuildError
from numgrad_kernels.targets import cuda
from tests.scalar_samples import ATTRIBUTES, SHORT_NAMES, Case, all_cases, loop, output_dtype

pytestmark = pytest.mark.skipif(
    cuda.missing() is not None, reason=f"PTX is compiled only where numba-cuda is installed: {cuda.missing()}"
)

#: Their slow path for huge arguments reduces modulo pi with one float64 multiplication, in NVIDIA's library itself.
REDUCE_IN_FLOAT64 = frozenset(("sin", "cos", "tan"))


def ptx(cases: list[Case], name: str) -> str:
    """PTX of one kernel that computes several cases."""
    made = loop([(case, output_dtype(case), ATTRIBUTES.get(case.name, {})) for case in cases], "cuda")
    parameters = [f"p{i}" for i in range(len(made.pointers))]
    lines = [f"def kernel({', '.join(parameters)}, n):", "    i = cuda.grid(1)", "    if i < n:"]
    source = "\n".join([*lines, *("        " + line for line in made.body), ""])
    return cuda.compile_ptx(source, name, (*("*" + SHORT_NAMES[dtype] for dtype in made.pointers), "i64"))


def reduces_in_float64(case: Case) -> bool:
    """Whether the case calls one of the library functions that use float64 inside."""
    block = loop([(case, output_dtype(case), ATTRIBUTES.get(case.name, {}))], "cuda").block
    return any(value.op in REDUCE_IN_FLOAT64 for value in block.values)


@pytest.mark.parametrize("dtype", sorted({case.dtype for case in all_cases()}))
def test_formulas_compile_to_ptx(dtype: str) -> None:
    cases = [case for case in all_cases() if case.dtype == dtype]
    narrow = dtype in ("float16", "float32", "complex64")
    plain = [case for case in cases if not (narrow and reduces_in_float64(case))]
    text = ptx(plain, f"all_{dtype}")
    assert f".entry all_{dtype}(" in text
    assert text.count("st.global") >= len(plain)
    if narrow:
        assert not re.search(r"\.f64\b", text)
        rest = [case for case in cases if case not in plain]
        assert f".entry rest_{dtype}(" in ptx(rest, f"rest_{dtype}")


def test_pointers_and_integers_are_the_parameters() -> None:
    source = "def kernel(p, q, n):\n    i = cuda.grid(1)\n    if i < n:\n        q[i] = p[i] * f32(2.0)\n"
    text = cuda.compile_ptx(source, "twice", ("*f32", "*f32", "i64"), cc=(9, 0))
    assert ".target sm_90" in text
    assert re.findall(r"\.param \.(\w+) twice_param_(\d)", text) == [("u64", "0"), ("u64", "1"), ("u64", "2")]
    assert "ld.global.f32" in text


def test_a_source_that_does_not_compile_is_shown() -> None:
    with pytest.raises(KernelBuildError, match="'broken' did not compile for compute capability 8.0") as caught:
        cuda.compile_ptx("def kernel(p):\n    p[0] = no_such_name(1)\n", "broken", ("*f32",))
    assert "no_such_name(1)" in str(caught.value)


def test_availability_has_a_reason() -> None:
    usable, reason = cuda.available()
    assert usable == (reason == "")


def test_the_shim_stands_in_for_the_name_that_numpy_dropped() -> None:
    cuda.cuda_namespace()
    assert np.array_equal(np.vstack(([1, 2], [3, 4])), np.vstack(([1, 2], [3, 4])))

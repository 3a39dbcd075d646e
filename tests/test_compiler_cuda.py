"""Fused nests on their second target: every kind prints for CUDA, compiles to PTX, and runs right in the simulator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import numgrad as ng
from numgrad.compiler.lowering import ptx_of
from numgrad.compiler.nest import Nest
from numgrad.graph.core import apply
from numgrad_kernels.targets import cuda
from tests.compiler_cases import Case, python_process

pytestmark = pytest.mark.skipif(
    cuda.missing() is not None, reason=f"PTX is compiled only where numba-cuda is installed: {cuda.missing()}"
)
AXES = {"full": (0, 1, 2), "rows": (2,), "middle": (1,), "columns": (0,)}


def reductions(dtype: str, axes: tuple[int, ...]) -> Any:
    """All reductions of a dtype over some axes, of something computed in the same nest."""
    names = ("any", "all", "max", "min") if dtype == "bool" else ("sum", "prod", "max", "min")
    return lambda x, y: [apply(name, ng.where(x == y, x, y), axes=axes) for name in names]


NESTS = {
    "copy": lambda x, y: [x, ng.permute_dims(y, (2, 0, 1))],
    "views": lambda x, y: [ng.where(x[::-1, 1:], x[::-1, 1:], y[:, :-1]), ng.flip(x, 2)],
    "broadcast": lambda x, y: [x == y[:1, :1], ng.where(x[0] == y, x[0], y)],
    "scalars": lambda x, y: [ng.equal(x[0, 0, 0], y[0, 0, 0])],
    "regions": lambda x, y: [ng.concat([x, y], axis=1), ng.stack([x, y], axis=0)],
    "several": lambda x, y: [ng.equal(x, y), ng.where(x == y, x, y), apply("max", x, axes=(1,))],
}  # fmt: skip


def texts(function: Any, dtype: str) -> list[str]:
    """The PTX of every nest of a program of two arrays."""
    case = Case(function, (dtype, ("a", "b", "c")), (dtype, ("a", "b", "c")))
    nests = [s for s in case.program.schedule.steps if isinstance(s, Nest)]
    found = case.program.ptx()
    assert len(found) == len(nests) > 0
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "uint8", "bool", "complex64"])
@pytest.mark.parametrize("name", AXES)
def test_reductions_compile_to_ptx(name: str, dtype: str) -> None:
    for text in texts(reductions(dtype, AXES[name]), dtype):
        assert ".visible .entry kernel(" in text and "st.global" in text
        if dtype != "float64":
            assert not re.search(r"\.f64\b", text)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("name", NESTS)
def test_nests_compile_to_ptx(name: str, dtype: str) -> None:
    for text in texts(NESTS[name], dtype):
        assert "st.global" in text and not re.search(r"\.f64\b", text)


def test_formulas_of_float32_stay_in_float32() -> None:
    def function(x: Any, y: Any) -> list[Any]:
        z = ng.tanh(x) * ng.exp(-y) + ng.log1p(ng.abs(x)) / 3.0
        return [z, ng.sum(z), ng.sum(ng.sqrt(ng.abs(z)), axis=0), ng.sum(z * 0.1, axis=2)]

    for text in texts(function, "float32"):
        assert not re.search(r"\.f64\b", text) and ".f32" in text


def test_compute_capability_and_signature() -> None:
    case = Case(lambda x: ng.sum(x * 2.0, axis=0), ("float32", ("n", "m")))
    ((printed, text),) = ptx_of(case.program.schedule.steps, (9, 0))
    assert ".target sm_90" in text
    assert sorted(set(printed.signature)) == ["*f32", "i64"]
    assert len(printed.signature) == len(printed.arguments)


SIMULATOR = '''
"""Run whole programs in the CUDA simulator, with objects for pointers and NumPy's scalars for typed ones."""
import types
import numpy as np
from numba import cuda
import numgrad as ng
from numgrad.compiler.lowering import kernels
from numgrad.compiler.nest import Nest
from numgrad.compiler.printer_numba import print_cuda
from numgrad.types import dim_value
from tests.compiler_cases import Case, exact

SHORT = "i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 c64 c128".split()
LONG = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128".split()


class Libdevice:
    def __getattr__(self, name):
        names = {"fabs": "abs", "fmax": "fmax"}
        function = getattr(np, names.get(name.removesuffix("f") if name != "erf" else name, name.removesuffix("f")))
        return function


class Pointer:
    """What a typed pointer does: any element before or after it, as long as that lies in the buffer."""

    def __init__(self, array, offset=0):
        self.array, self.offset = array, offset

    def place(self, index):
        place = self.offset + int(index)
        assert 0 <= place < len(self.array), f"element {index} lies outside of the buffer"
        return place

    def __getitem__(self, index):
        return self.array[self.place(index)]

    def __setitem__(self, index, value):
        self.array[self.place(index)] = value


def namespace():
    names = {short: getattr(np, long) for short, long in zip(SHORT, LONG)}
    names.update(cuda=cuda, math=np, libdevice=Libdevice(), select=lambda test, a, b: a if test else b,
                 load_b1=lambda p, i: bool(p[i]), load_f16=lambda p, i: np.float32(p[i]))

    def store(p, i, value):
        p[i] = value

    names.update(store_b1=store, store_f16=store, round_f16=lambda v: np.float32(np.float16(v)))
    return names


COMBINE = dict(sum=np.add, prod=np.multiply, max=np.maximum, min=np.minimum, any=np.logical_or, all=np.logical_and)
CHUNK = 3


def simulate(case, arrays):
    """The outputs of a program, every nest of which is run in the simulator."""
    laid_out = case.program.plan_for(tuple(a.shape for a in arrays), arrays)
    sizes = dict(zip(case.program.graph.sizes.symbols, laid_out.symbol_values, strict=True))
    buffers = {}
    plan = case.program.schedule
    for value, array in zip(plan.inputs, arrays):
        buffers[value] = np.ascontiguousarray(array).reshape(-1)

    def shape_of(value):
        return [dim_value(d, sizes) for d in value.shape]

    def buffer(value):
        if value not in buffers:
            if value.op == "constant":
                buffers[value] = value.node.attrs["value"].reshape(-1)
            elif value.op == "size":
                buffers[value] = np.array([dim_value(value.node.attrs["value"], sizes)])
            else:
                buffers[value] = np.zeros(int(np.prod(shape_of(value))), value.dtype)
        return buffers[value]

    for step in plan.steps:
        assert isinstance(step, Nest), step
        printed = print_cuda(step, kernels("scalar"))
        names = namespace()
        exec(printed.source, names)
        given, partials = [], []
        for argument in printed.arguments:
            if argument.kind == "buffer":
                given.append(Pointer(buffer(argument.value), dim_value(argument.offset, sizes)))
            elif argument.kind == "partials":
                count = -(-dim_value(step.dims[0], sizes) // CHUNK)
                partials.append((argument.value, np.zeros(max(count, 1), argument.value.dtype)))
                given.append(Pointer(partials[-1][1]))
            else:
                given.append(CHUNK if argument.kind == "chunk" else dim_value(argument.dim, sizes))
        cuda.jit(names["kernel"])[2, 4](*given)
        for (target, parts), reduction in zip(partials, step.reductions):
            buffer(target)[0] = COMBINE[reduction.op].reduce(parts, dtype=parts.dtype)
    return [buffer(v).reshape(shape_of(v)) for v in plan.outputs]


def check(function, *arrays):
    case = Case(function, *((a.dtype, ("a", "b", "c")[: a.ndim]) for a in arrays))
    for mine, theirs in zip(simulate(case, arrays), case.interpreted(*arrays), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)
        assert mine.dtype == theirs.dtype, (mine.dtype, theirs.dtype)
    return len(case.program.schedule.steps)


count = 0
for dtype in (np.float64, np.float32, np.int32, np.float16):
    x, y = exact(dtype, (3, 4, 5)), exact(dtype, (3, 4, 5), 1)
    count += check(lambda x, y: [x + y * x, ng.permute_dims(x, (2, 0, 1)), x[::-1, 1:] - y[:1, :-1], x[0] + y], x, y)
    count += check(lambda x, y: [f(x * y, axis=a) for f in (ng.max, ng.min) for a in (0, 1, 2, None, (0, 1))], x, y)
    count += check(lambda x, y: [ng.concat([x, y], axis=1), ng.stack([x, y[::-1]], axis=3)], x, y)
floats = exact(np.float64, (3, 4, 5))
sums = lambda x: [ng.sum(x, axis=a) for a in (0, 1, 2, None, (0, 2))]
count += check(lambda x: [*sums(x), ng.tanh(x), ng.exp(-x * x), ng.prod(x / 3.0)], floats)
flags = exact(bool, (3, 4, 5))
count += check(lambda x: [f(x, axis=a) for f in (ng.any, ng.all) for a in (0, 1, 2, None)] + [~x], flags)
waves = exact(np.complex128, (3, 4))
count += check(lambda z: [z * z, ng.sum(z, axis=0), ng.max(z, axis=1), ng.prod(z), ng.abs(z)], waves)

try:
    # The simulator must notice a kernel that is wrong.
    import numgrad.compiler.printer_numba as printer
    honest = printer._CudaPrinter.combine
    printer._CudaPrinter.combine = lambda self, k, accumulator: accumulator
    check(lambda x: ng.sum(x, axis=1), floats + 1.0)
except AssertionError:
    print("seen", count)
'''


def test_printed_kernels_run_in_the_simulator(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    printed = python_process(
        f"import sys; sys.path.insert(0, {root!r})\n" + SIMULATOR, tmp_path, NUMBA_ENABLE_CUDASIM="1"
    )
    seen, count = printed.split()
    assert seen == "seen" and int(count) > 40

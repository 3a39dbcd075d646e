"""Mathematical functions for CPU kernels whose calls LLVM's loop vectoriser may replace by vector variants.

``vm_exp(x)`` is an ordinary call of libm's ``exp``. The call instruction also says which vector functions compute the
same thing on 2, 4, 8 or 16 lanes (the ``vector-function-abi-variant`` attribute), so an ordinary loop over ``vm_exp``
becomes a loop over vectors. The vector functions are those of glibc's libmvec; a name is declared only if the engine
found it, because a missing one would end the process when the kernel is linked. Where there is no libmvec, or when the
setting ``vector_math`` is ``"scalar"``, the same names are plain libm calls.

A vector variant is correct to 4 units in the last place, libm's scalar function to about 1; the remainder of a loop
uses the scalar function, so the last bits of a result can depend on its position in the array. The setting
``vector_math = "scalar"`` gives results that do not.
"""

from __future__ import annotations

import functools
from typing import Any

from numgrad_kernels import engine
from numgrad_kernels.intrinsics import of_arity
from numgrad_kernels.settings import settings

#: Unary functions of libm that kernels may call as ``vm_<name>``.
UNARY = (
    "exp expm1 exp2 log log1p log2 log10 sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh "
    "erf erfc cbrt lgamma"
).split()
#: Binary functions of libm that kernels may call as ``vm_<name>``.
BINARY = "pow atan2 hypot nextafter fmod".split()

#: Letters of the vector function ABI, and the bytes in a vector: SSE4, AVX2, AVX-512, NEON.
_VECTOR_WIDTHS = (("b", 16), ("d", 32), ("e", 64), ("n", 16))


def mode() -> str:
    """Return ``"libmvec"`` where calls name vector variants, else ``"scalar"``."""
    return "libmvec" if settings.vector_math != "scalar" and engine.vector_symbols() else "scalar"


@functools.lru_cache(maxsize=256)
def variants(name: str, dtype: str) -> tuple[tuple[int, str], ...]:
    """Return ``(lanes, symbol)`` of the vector variants of a function that this machine has.

    Parameters
    ----------
    name : str
        A name in ``UNARY`` or ``BINARY``.
    dtype : str
        ``"f32"`` or ``"f64"``.

    Returns
    -------
    tuple of (int, str)
        Empty where the scalar function is to be used.

    Examples
    --------
    >>> from numgrad_kernels.vmath import variants
    >>> all(symbol.startswith("_ZGV") for lanes, symbol in variants("exp", "f64"))
    True
    """
    known = engine.vector_symbols()
    arguments = "vv" if name in BINARY else "v"
    found = []
    for letter, width in _VECTOR_WIDTHS:
        lanes = width // (4 if dtype == "f32" else 8)
        symbol = f"_ZGV{letter}N{lanes}{arguments}_{name}{'f' if dtype == 'f32' else ''}"
        if symbol in known:
            found.append((lanes, symbol))
    return tuple(found)


@functools.lru_cache(maxsize=1)
def namespace() -> dict[str, Any]:
    """Return Numba intrinsics ``vm_<name>`` for the functions in ``UNARY`` and ``BINARY``, float32 and float64."""
    return {f"vm_{name}": _intrinsic(name, 2 if name in BINARY else 1) for name in (*UNARY, *BINARY)}


def _intrinsic(name: str, arity: int) -> Any:
    from numba import types

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_call(builder, name, "f32" if signature.return_type == types.float32 else "f64", args)

    def typed(kinds: tuple[Any, ...]) -> Any:
        kinds = tuple(types.unliteral(kind) for kind in kinds)
        if not all(isinstance(kind, (types.Float, types.Integer)) for kind in kinds):
            return None
        kind = types.float32 if all(kind == types.float32 for kind in kinds) else types.float64
        return kind(*([kind] * arity)), codegen

    return of_arity(f"vm_{name}", arity, typed)


def emit_call(builder: Any, name: str, dtype: str, args: Any) -> Any:
    """Emit the call of libm's function, naming its vector variants."""
    from llvmlite import ir

    module = builder.module
    word = args[0].type
    symbol = name + ("f" if dtype == "f32" else "")
    function = module.globals.get(symbol) or _declare(module, symbol, ir.FunctionType(word, [word] * len(args)))
    call = builder.call(function, args)
    found = variants(name, dtype) if mode() == "libmvec" else ()
    if found:
        mappings = []
        for lanes, variant in found:
            if variant not in module.globals:
                vector = ir.VectorType(word, lanes)
                _keep_alive(module, _declare(module, variant, ir.FunctionType(vector, [vector] * len(args))))
            arguments = "v" * len(args)
            mappings.append(f"_ZGV_LLVM_N{lanes}{arguments}_{symbol}({variant})")
        _add_attribute(call.attributes, f'"vector-function-abi-variant"="{",".join(mappings)}"')
    return call


def _declare(module: Any, symbol: str, function_type: Any) -> Any:
    from llvmlite import ir

    function = ir.Function(module, function_type, symbol)
    for attribute in ("nounwind", "readnone", "willreturn"):
        _add_attribute(function.attributes, attribute)
    return function


def _add_attribute(attributes: Any, text: str) -> None:
    # llvmlite's AttributeSet is a set that accepts only the names it knows; LLVM itself accepts these.
    set.add(attributes, text)


def _keep_alive(module: Any, function: Any) -> None:
    """Add `function` to ``llvm.compiler.used``, or LLVM drops the declaration before the vectoriser sees it."""
    from llvmlite import ir

    byte_pointer = ir.IntType(8).as_pointer()
    used = module.globals.get("llvm.compiler.used")
    members = list(used.initializer.constant) if used is not None else []
    members.append(function.bitcast(byte_pointer))
    array = ir.ArrayType(byte_pointer, len(members))
    if used is None:
        used = ir.GlobalVariable(module, array, "llvm.compiler.used")
        used.linkage, used.section = "appending", "llvm.metadata"
    # A module has one such table, so it grows in place.
    used.value_type, used.type = array, array.as_pointer()
    used.initializer = ir.Constant(array, members)


def report() -> dict[str, Any]:
    """Return which functions have vector variants here, for ``python -m numgrad info``.

    Returns
    -------
    dict
        ``mode`` (``"libmvec"`` or ``"scalar"``), ``setting``, and ``float32`` and ``float64``: for each function with
        variants, the numbers of lanes.

    Examples
    --------
    >>> from numgrad_kernels.vmath import report
    >>> sorted(report())
    ['float32', 'float64', 'mode', 'setting']
    """
    answer: dict[str, Any] = {"mode": mode(), "setting": settings.vector_math}
    for dtype, long in (("f32", "float32"), ("f64", "float64")):
        lanes = {name: [width for width, _ in variants(name, dtype)] for name in (*UNARY, *BINARY)}
        answer[long] = {name: widths for name, widths in lanes.items() if widths} if mode() == "libmvec" else {}
    return answer


#: Where `accuracy_table` samples each function: bounds for float64, bounds for float32, and whether uniformly in the
#: logarithm. Binary functions take both operands from the same interval.
_SAMPLED = {
    "exp": ((-700, 700), (-86, 88), False),
    "expm1": ((-40, 700), (-40, 88), False),
    "exp2": ((-1000, 1000), (-124, 127), False),
    "log": ((1e-300, 1e300), (1e-36, 1e38), True),
    "log1p": ((1e-12, 1e300), (1e-6, 1e38), True),
    "log2": ((1e-300, 1e300), (1e-36, 1e38), True),
    "log10": ((1e-300, 1e300), (1e-36, 1e38), True),
    "sin": ((-1e4, 1e4), (-1e4, 1e4), False),
    "cos": ((-1e4, 1e4), (-1e4, 1e4), False),
    "tan": ((-1e4, 1e4), (-1e4, 1e4), False),
    "asin": ((-1, 1), (-1, 1), False),
    "acos": ((-1, 1), (-1, 1), False),
    "atan": ((-50, 50), (-50, 50), False),
    "sinh": ((-700, 700), (-86, 86), False),
    "cosh": ((-700, 700), (-86, 86), False),
    "tanh": ((-20, 20), (-10, 10), False),
    "asinh": ((-1e3, 1e3), (-1e3, 1e3), False),
    "acosh": ((1, 1e3), (1, 1e3), False),
    "atanh": ((-1, 1), (-1, 1), False),
    "erf": ((-6, 6), (-4, 4), False),
    "erfc": ((-6, 26), (-4, 9), False),
    "cbrt": ((1e-300, 1e300), (1e-36, 1e36), True),
    "pow": ((1e-2, 50), (1e-1, 15), False),
    "atan2": ((-10, 10), (-10, 10), False),
    "hypot": ((1e-150, 1e150), (1e-18, 1e18), True),
}


def accuracy_table(samples: int = 512) -> list[dict[str, Any]]:
    """Measure how far the compiled functions are from the exact values, in units in the last place.

    Parameters
    ----------
    samples : int
        Points per function and dtype; the same ones in every call.

    Returns
    -------
    list of dict
        One row per function and dtype with vector variants here: ``function``, ``dtype``, ``lanes``, ``low`` and
        ``high`` (where it was sampled), ``worst_ulp``, and ``at``, the operands of the worst.

    Raises
    ------
    ImportError
        If mpmath, which gives the exact values, is not installed.

    Examples
    --------
    >>> from numgrad_kernels.vmath import accuracy_table
    >>> all(row["worst_ulp"] <= 4 for row in accuracy_table(samples=16))
    True
    """
    import numpy as np

    generator = np.random.default_rng(2024)
    rows = []
    for name, (*bounds, logarithmic) in _SAMPLED.items():
        for dtype, (low, high) in zip(("f64", "f32"), bounds, strict=True):
            if mode() != "libmvec" or not variants(name, dtype):
                continue
            shape = (2 if name in BINARY else 1, samples)
            if logarithmic:
                points = np.exp(generator.uniform(np.log(low), np.log(high), shape))
            else:
                points = generator.uniform(low, high, shape)
            points = points.astype("float64" if dtype == "f64" else "float32")
            errors = _errors_in_ulp(name, dtype, points)
            worst = int(errors.argmax())
            rows.append(
                {
                    "function": name,
                    "dtype": points.dtype.name,
                    "lanes": [lanes for lanes, _ in variants(name, dtype)],
                    "low": low,
                    "high": high,
                    "worst_ulp": float(errors[worst]),
                    "at": points[:, worst].tolist(),
                }
            )
    return rows


def _errors_in_ulp(name: str, dtype: str, points: Any) -> Any:
    """Run a compiled loop over the columns of `points`, and measure each result against mpmath."""
    import ctypes

    import mpmath  # type: ignore[import-untyped]
    import numpy as np

    from numgrad_kernels.build import build_source

    arguments = ", ".join(f"p{i}[i]" for i in range(len(points)))
    source = "\n".join(
        [
            "def kernel(args, lo, hi):",
            *(f"    p{i} = as_{dtype}(args[{i}])" for i in range(len(points))),
            f"    q = as_{dtype}(args[{len(points)}])",
            "    for i in range(lo, hi):",
            f"        q[i] = vm_{name}({arguments})",
            "",
        ]
    )
    results = np.empty_like(points[0])
    addresses = np.array([*(row.ctypes.data for row in points), results.ctypes.data], np.int64)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(build_source(source).address)
    kernel(addresses.ctypes.data, 0, results.size)
    exact = {"pow": mpmath.power, "exp2": lambda x: mpmath.power(2, x), "log2": lambda x: mpmath.log(x, 2)}
    function = exact.get(name) or getattr(mpmath, name)
    errors = []
    with mpmath.workdps(60):
        for got, column in zip(results, points.T, strict=True):
            want = function(*(mpmath.mpf(float(x)) for x in column))
            unit = float(np.spacing(np.abs(results.dtype.type(want))))
            errors.append(abs(float((mpmath.mpf(float(got)) - want) / unit)))
    return np.array(errors)

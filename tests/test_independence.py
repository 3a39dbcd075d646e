"""Loops whose steps are independent are told from others, and LLVM makes vectors of them however many arrays meet."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

import numgrad as ng
from numgrad_kernels import engine
from numgrad_kernels.independence import independent
from numgrad_kernels.translate import translate
from tests.scalar_samples import run

HEAD = """def kernel(args, lo, hi):
    x = as_f64(args[0])
    y = as_f64(args[1])
    n = args[2]
    for i in range(lo, hi):
"""


def with_body(body: str) -> str:
    """The text of a kernel whose loop has these statements."""
    return HEAD + "".join(f"        {line}\n" for line in body.split("; "))


def marked(body: str) -> bool:
    """Whether the loop is taken for one of independent steps; what is translated says the same."""
    source = with_body(body)
    loop = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For))
    text = translate(source, "k")
    found = independent(loop)
    assert text is None or found == ("llvm.loop.parallel_accesses" in text)
    return found


@pytest.mark.parametrize("body", [
    "y[i] = x[i]", "y[i] = x[i + 1]", "y[i] = y[i] + x[i]", "y[(n) * 3 + i] = x[n] + x[0]", "y[n * i] = x[i * n + 1]",
    "v = x[i]; w = v * v; y[i] = w",
])  # fmt: skip
def test_independent(body: str) -> None:
    assert marked(body)


@pytest.mark.parametrize("body", [
    "y[i] = y[i + 1]", "y[i + 1] = y[i] + x[i]", "y[0] = x[i]", "y[n] = y[n] + x[i]", "y[i * i] = x[i]",
    "y[i + i] = x[i]", "y[i // 2] = x[i]", "y[i % n] = x[i]", "j = i64(x[i]); y[j] = 1.0",
    "j = args[i]; y[i + j] = 1.0", "y[args[i]] = x[i]", "y[i] = 1.0; y[n + i] = 2.0",
    "y = as_f64(args[i]); y[i] = 1.0", "as_f64(args[1])[i] = x[i]",
    "v = x[i]", "y[n - i] = x[i]; y[i] = x[i]", "if lo < n: ; y[i] = 1.0".replace(": ; ", ":\n            "),
    "for j in range(lo, n):\n            y[i] = x[j]",
])  # fmt: skip
def test_dependent(body: str) -> None:
    source = with_body(body)
    loop = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For))
    assert not independent(loop)


def test_every_step_sees_what_the_steps_before_it_wrote() -> None:
    source = with_body("y[i + 1] = y[i] + x[i]")
    x, y = np.arange(1.0, 101.0), np.zeros(101)
    run(source, [x, y], 100)
    np.testing.assert_array_equal(y[1:], np.cumsum(x))


def test_loops_over_many_arrays_are_vectors() -> None:
    arrays = 10
    lines = [f"    p{k} = as_f64(args[{k}])" for k in range(2 * arrays)]
    lines += ["    for i in range(lo, hi):"]
    lines += [f"        p{arrays + k}[i] = p{k}[i] * p{(k + 1) % arrays}[i]" for k in range(arrays)]
    text = translate("\n".join(["def kernel(args, lo, hi):", *lines, ""]), "k")
    assert text is not None

    def optimised(ir: str) -> str:
        return str(engine.emit_object(ir)[1])

    wide = re.compile(r"fmul <\d+ x double>")
    assert wide.search(optimised(text))
    plain = re.sub(r", !llvm\.[a-z.]+ !\d+", "", text)
    assert plain != text and not wide.search(optimised(plain))


def test_many_results_of_one_loop() -> None:
    xs = [np.random.default_rng(k).standard_normal((5, 7)) for k in range(6)]

    def results(*arrays: ng.Tensor) -> list[ng.Tensor]:
        return [ng.tanh(a[1:, ::2]) * b[1:, 1::2].sum() + a[:-1, 1:5] for a, b in zip(arrays, arrays[1:])]

    for found, (a, b) in zip(ng.function(results)(*xs), zip(xs, xs[1:])):
        np.testing.assert_allclose(found, np.tanh(a[1:, ::2]) * b[1:, 1::2].sum() + a[:-1, 1:5], rtol=1e-13)

"""Random graphs of elementwise ops, views, reductions, regions and library ops, compiled, for several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import Tensor, apply, placeholder
from numgrad.graph.graph import Graph
from numgrad.tracing.compiled import compile as compile_graph
from numgrad_kernels import build
from tests.op_cases import disagreement

SIZES = [{"a": 3, "b": 4, "c": 5}, {"a": 1, "b": 2, "c": 1}, {"a": 7, "b": 1, "c": 9}, {"a": 5, "b": 3, "c": 600}]
EXACT = 2.0**50  # whole numbers below are added and subtracted without rounding, in any order


class Grower:
    """Grows a random graph whose values are whole numbers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs = [
            placeholder(np.float64, self.shape(int(self.rng.integers(0, 4)))) for _ in range(self.rng.integers(1, 4))
        ]
        self.pool: list[Tensor] = list(self.inputs)

    def shape(self, rank: int) -> tuple[Any, ...]:
        return tuple(1 if name == "1" else name for name in self.rng.choice(["a", "b", "c", "1"], rank).tolist())

    def one(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def axis(self, x: Tensor) -> int:
        return int(self.rng.integers(x.ndim))

    def pick(self) -> Tensor:
        recent = self.pool[-6:] if self.rng.random() < 0.7 else self.pool
        return recent[self.rng.integers(len(recent))]

    # -- one step each; None when it does not suit the operand
    def combine(self, x: Tensor) -> Tensor | None:
        y = self.pick()
        for d, e in zip(x.shape[::-1], y.shape[::-1]):
            if str(d) != str(e) and str(d) != "1" and str(e) != "1":
                return None
        operation: Callable[..., Any] = self.one(
            lambda p, q: p + q, lambda p, q: p - q, ng.maximum, ng.minimum, lambda p, q: ng.where(p < q, p, q + 1.0)
        )
        return operation(x, y)  # type: ignore[no-any-return]

    def change(self, x: Tensor) -> Tensor:
        operation: Callable[..., Any] = self.one(lambda p: -p, ng.abs, lambda p: p * 2.0, lambda p: p + 1.0, ng.sign)
        return operation(x)  # type: ignore[no-any-return]

    def transpose(self, x: Tensor) -> Tensor:
        return ng.permute_dims(x, tuple(int(i) for i in self.rng.permutation(x.ndim)))

    def slice(self, x: Tensor) -> Tensor | None:
        parts = (slice(None), slice(None, None, 2), slice(1, None), slice(None, -1), slice(None, None, -1), slice(0, 1))
        return x[tuple(self.one(*parts) for _ in range(x.ndim))] if x.ndim else None  # type: ignore[no-any-return]

    def reduce(self, x: Tensor) -> Tensor | None:
        if not x.ndim:
            return None
        axes = self.rng.choice(x.ndim, int(self.rng.integers(1, x.ndim + 1)), replace=False)
        return apply(self.one("sum", "sum", "max", "min"), x, axes=tuple(sorted(int(a) for a in axes)))

    def expand(self, x: Tensor) -> Tensor:
        return ng.expand_dims(x, int(self.rng.integers(x.ndim + 1)))

    def flatten(self, x: Tensor) -> Tensor:
        return ng.reshape(x, (-1,))

    def repeat(self, x: Tensor) -> Tensor | None:
        return ng.broadcast_to(x, (3, *x.shape)) if x.ndim < 3 else None

    def join(self, x: Tensor) -> Tensor | None:
        return ng.concat([x, self.one(x, x + 1.0)], axis=self.axis(x)) if x.ndim else None

    def stack(self, x: Tensor) -> Tensor:
        return ng.stack([x, -x], axis=int(self.rng.integers(x.ndim + 1)))

    def differentiate(self, x: Tensor) -> Tensor | None:
        return ng.gradients(ng.sum(x[1:] * 2.0), x)[0] if x.ndim else None

    def accumulate(self, x: Tensor) -> Tensor | None:
        return ng.cumsum(x, axis=self.axis(x)) if x.ndim else None

    def grow(self, steps: int) -> None:
        kinds = (
            [self.combine] * 6
            + [self.change] * 3
            + [self.reduce] * 4
            + [
                self.transpose,
                self.slice,
                self.slice,
                self.expand,
                self.flatten,
                self.repeat,
                self.join,
                self.stack,
                self.differentiate,
                self.accumulate,
            ]
        )
        for _ in range(steps):
            try:
                made = self.one(*kinds)(self.pick())
            except ng.errors.ShapeError:  # a slice leaves nothing, or axes that are known to differ meet
                continue
            if made is not None and made.ndim <= 4:
                self.pool.append(made)


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_run_as_interpreted(seed: int) -> None:
    with Graph().as_default():
        grower = Grower(seed)
        grower.grow(24)
        picks = grower.rng.integers(0, len(grower.pool), 3)
        outputs = [*(grower.pool[i] for i in picks), grower.pool[-1]]
        run = compile_graph(grower.inputs, outputs)
    compiled = build.counters.compiled
    compared = 0
    for sizes in SIZES:
        arrays = [
            grower.rng.integers(-3, 4, [d if isinstance(d, int) else sizes[str(d)] for d in x.shape]).astype(float)
            for x in grower.inputs
        ]
        try:
            wanted = ng.run(outputs, dict(zip(grower.inputs, arrays)))
        except ValueError:  # the largest of an empty slice, or sizes that meet and differ
            with pytest.raises(ValueError):
                run(*arrays)
            continue
        for k, (mine, theirs) in enumerate(zip(run(*arrays), wanted)):
            if np.max(np.abs(theirs), initial=0.0) < EXACT:
                why = disagreement(mine, theirs, 0)
                assert not why, f"output {k} for {sizes}: {why}"
                compared += 1
    assert compared
    assert build.counters.compiled == compiled, "a new size compiled something"

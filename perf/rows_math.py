"""Rows of single functions of one array that the caches hold: what exp, tanh and the like cost an element."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.row import row

SIZE = 4_096
# Name, interval of the arguments.
FUNCTIONS = (
    ("exp", -10.0, 10.0),
    ("log", 1e-3, 1e3),
    ("tanh", -3.0, 3.0),
    ("sin", -10.0, 10.0),
    ("cos", -10.0, 10.0),
    ("log1p", -0.5, 10.0),
    ("expm1", -2.0, 2.0),
    ("sqrt", 0.0, 100.0),
)


def _enter(name: str, low: float, high: float) -> None:
    def setup(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
        return (rng.uniform(low, high, size),)

    def function(kit: Any, x: Any) -> Any:
        return getattr(kit.np, name)(x)

    def numba_version() -> Any:
        from numba import njit

        scalar = getattr(np, name)

        @njit(error_model="numpy")
        def value(x):  # type: ignore[no-untyped-def]
            out = np.empty_like(x)
            for i in range(x.size):
                out[i] = scalar(x[i])
            return out

        return value

    row(
        name=f"math_{name}",
        title=f"{name} of one array, value",
        sizes=(SIZE,),
        setup=setup,
        function=function,
        mode="value",
        hand={"numba": numba_version, "numpy": lambda: getattr(np, name)},
    )


for _name, _low, _high in FUNCTIONS:
    _enter(_name, _low, _high)

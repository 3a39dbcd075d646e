"""Three ways of running a shaping function, and its derivative by differences of NumPy's function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

import numgrad as ng

Array = np.ndarray[Any, Any]


def parts(result: Any) -> list[Any]:
    """The arrays of a result that may be one or several."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def as_nodes(function: Callable[..., Any], arrays: Sequence[Array], sizes: str) -> tuple[list[Any], list[Any]]:
    """Placeholders of known or unknown sizes, and what `function` makes of them; inside a graph."""
    inputs = [ng.placeholder(a.dtype, a.shape if sizes == "known" else (None,) * a.ndim) for a in arrays]
    return inputs, parts(function(*inputs))


def agree(
    function: Callable[..., Any],
    meaning: Callable[..., Any],
    *arrays: Any,
    unknown: bool = True,
    compiled: bool = False,
    exact: bool = True,
    gradient: bool = True,
) -> None:
    """Hold `function` against NumPy's `meaning`: in every way of running, and its gradients."""
    arrays = tuple(np.asarray(a) for a in arrays)
    wanted = parts(meaning(*arrays))
    same = assert_array_equal if exact else (lambda a, b, **kw: assert_allclose(a, b, rtol=1e-12, atol=1e-14))
    for got, want in zip(parts(function(*map(ng.asarray, arrays))), wanted, strict=True):
        assert got.dtype == np.asarray(want).dtype
        same(got.numpy(), want, strict=True)
    for sizes in ("known", "unknown") if unknown else ("known",):
        with ng.Graph().as_default():
            inputs, outputs = as_nodes(function, arrays, sizes)
            for got, want in zip(ng.run(outputs, dict(zip(inputs, arrays, strict=True))), wanted, strict=True):
                same(got, want, strict=True)
            if compiled:
                for got, want in zip(ng.compile(inputs, outputs)(*arrays), wanted, strict=True):
                    same(got, want, strict=True)
            if gradient:
                gradients_agree(inputs, outputs, meaning, arrays, compiled)


def gradients_agree(
    inputs: list[Any], outputs: list[Any], meaning: Callable[..., Any], arrays: Sequence[Array], compiled: bool = False
) -> None:
    """The gradient of a random weighting of the outputs, along a random direction, against central differences."""
    rng = np.random.default_rng(7)
    places = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    if not places:
        return
    weights = [rng.standard_normal(np.shape(o)) for o in parts(meaning(*arrays))]
    total = sum(ng.sum(ng.asarray(w) * y) for w, y in zip(weights, outputs, strict=True))
    found = ng.gradients(total, [inputs[i] for i in places], unconnected_gradients="zero")
    directions = [rng.standard_normal(arrays[i].shape) for i in places]
    feeds = dict(zip(inputs, arrays, strict=True))
    values = ng.compile(inputs, found)(*arrays) if compiled else ng.run(found, feeds)
    ours = sum(np.sum(g * d) for g, d in zip(values, directions, strict=True))

    def loss(step: float) -> float:
        moved = list(arrays)
        for i, d in zip(places, directions, strict=True):
            moved[i] = arrays[i] + step * d
        return float(sum(np.sum(w * y) for w, y in zip(weights, parts(meaning(*moved)), strict=True)))

    h = 1e-4
    fourth_order = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert_allclose(ours, fourth_order, rtol=1e-8, atol=1e-8)

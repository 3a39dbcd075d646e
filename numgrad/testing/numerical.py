"""Derivatives by a complex step or by extrapolated differences, of a function that NumPy evaluates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgrad.graph.core import Tensor
from numgrad.nest import flatten, leaf_paths, unflatten

__all__ = ["COMPLEX_STEP", "Derivative", "Point", "Reference", "Vector", "real_vector"]

Vector = NDArray[np.float64]
Derivative = Callable[[Vector], float]

COMPLEX_STEP = 1e-20
_ROWS = 9


class Point:
    """The arguments as one real vector: where each differentiable element stands, and the way back."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        leaves, self.structure = flatten(args)
        names = leaf_paths(self.structure, "args")
        self.leaves = [array(leaf) for leaf in leaves]
        self.chosen = [i for i, leaf in enumerate(self.leaves)
                       if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fc"]
        self.names = [names[i] for i in self.chosen]
        self.arrays = tuple(self.leaves[i] for i in self.chosen)
        self.is_complex = any(a.dtype.kind == "c" for a in self.arrays)
        self.vector = real_vector(self.arrays)

    def arguments(self, arrays: Sequence[Any]) -> Any:
        """The user's arguments with these arrays in place of the differentiable ones."""
        leaves = list(self.leaves)
        for i, array in zip(self.chosen, arrays, strict=True):
            leaves[i] = array
        return unflatten(self.structure, leaves)

    def pieces(self, vector: NDArray[Any], exact: bool) -> tuple[NDArray[Any], ...]:
        """A real vector (complex for a complex step) as arrays of full precision, or `exact`ly in their own dtypes."""
        found, begin = [], 0
        for array in self.arrays:
            count = array.size * (2 if array.dtype.kind == "c" else 1)
            piece = vector[begin:begin + count]
            begin += count
            if array.dtype.kind == "c":
                piece = np.ascontiguousarray(piece).view(np.complex128)
            piece = piece.reshape(array.shape)
            found.append(piece.astype(array.dtype) if exact else piece)
        return tuple(found)

    def element(self, number: int) -> str:
        """The name of an element of the vector."""
        for name, array in zip(self.names, self.arrays, strict=True):
            parts = 2 if array.dtype.kind == "c" else 1
            if number < array.size * parts:
                index = ", ".join(str(int(k)) for k in np.unravel_index(number // parts, array.shape))
                part = "" if parts == 1 else (" (real part)" if number % 2 == 0 else " (imaginary part)")
                return f"{name}[{index}]{part}" if index else name + part
            number -= array.size * parts
        raise IndexError(number)

    def scale(self) -> Vector:
        """A length for each element over which a function of it may be taken as smooth."""
        size = np.abs(self.vector)
        return np.where(size == 0, 1.0, np.minimum(size, 1.0))


def array(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.numpy()
    return np.asarray(leaf) if isinstance(leaf, (float, complex, np.generic)) else leaf


def real_vector(arrays: Sequence[Any]) -> Vector:
    """Arrays raveled one after the other, complex numbers as pairs, in float64."""
    parts = [np.ravel(a) for a in arrays]
    parts = [p.astype(np.complex128).view(np.float64) if p.dtype.kind == "c" else p.astype(np.float64) for p in parts]
    return np.concatenate(parts) if parts else np.zeros(0)


def differences(values: Callable[[float], NDArray[Any]], step: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The derivative of `values` at 0 and an estimate of its error: central differences, extrapolated to step 0.

    Halving the step and eliminating one even power of it after the other (Richardson 1911); the entry of the tableau
    that agrees best with its neighbours is taken (Ridders 1982, doi:10.1016/S0141-1195(82)80057-0).
    """
    best: NDArray[Any] = np.zeros(0)
    error: NDArray[Any] = np.zeros(0)
    previous: list[NDArray[Any]] = []
    for row in range(_ROWS):
        h = step / 2**row
        current = [(values(h) - values(-h)) / (2 * h)]
        if row == 0:
            best, error = current[0], np.full(current[0].shape, np.inf)
        for k in range(1, row + 1):
            current.append(current[k - 1] + (current[k - 1] - previous[k - 1]) / (4.0**k - 1))
            change = np.maximum(np.abs(current[k] - current[k - 1]), np.abs(current[k] - previous[k - 1]))
            better = change < error
            best, error = np.where(better, current[k], best), np.where(better, change, error)
        previous = current
        if np.all(error <= 1e-13 * np.abs(best)):
            break
    return best, error


class Reference:
    """f by NumPy in full precision, and its numerical derivatives along directions."""

    def __init__(self, f: Callable[..., Any], point: Point, step: float) -> None:
        self.f, self.point, self.step = f, point, step
        self.analytic = False

    def values(self, vector: NDArray[Any]) -> NDArray[Any]:
        """All floating outputs as one vector; complex where `vector` is."""
        with np.errstate(all="ignore"):
            result = self.f(*self.point.arguments(self.point.pieces(vector, exact=False)))
        outputs = floating(result)
        if np.iscomplexobj(vector):
            return np.concatenate([np.ravel(o).astype(np.complex128) for o in outputs])
        return real_vector(outputs)

    def settle(self, direction: Vector) -> None:
        """Find out whether a complex step works: whether f takes complex numbers and is analytic in them."""
        if self.point.is_complex:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an imaginary part that is dropped is no derivative
                found = self._complex_step(direction)
        except Exception:  # whatever f cannot do with complex numbers, differences can
            return
        wanted, error = self._differences(direction)
        if found.shape == wanted.shape:
            scale = np.max(np.abs(wanted), initial=0.0)
            self.analytic = bool(np.all(np.abs(found - wanted) <= 1e-5 * scale + 10 * error))

    def _complex_step(self, direction: Vector) -> NDArray[Any]:
        return self.values(self.point.vector + 1j * COMPLEX_STEP * direction).imag / COMPLEX_STEP

    def _differences(self, direction: Vector) -> tuple[NDArray[Any], NDArray[Any]]:
        return differences(lambda t: self.values(self.point.vector + t * direction), self.step)

    def first(self, direction: Vector, u: Vector) -> tuple[float, float, str]:
        """The derivative of ``u @ f`` along a direction, the error of that number, and the method."""
        if self.analytic:
            return float(u @ self._complex_step(direction)), 0.0, "complex step"
        slope, error = self._differences(direction)
        return float(u @ slope), float(np.abs(u) @ error), "differences"

    def second(self, direction: Vector, along: Derivative) -> tuple[float, float, str]:
        """The derivative of ``along(x)`` along a direction."""
        slope, error = differences(lambda t: np.asarray(along(self.point.vector + t * direction)), self.step)
        return float(slope), float(error), "differences"


def floating(result: Any) -> list[Any]:
    """The results that can carry derivatives, as arrays."""
    arrays = [np.asarray(leaf.numpy() if isinstance(leaf, Tensor) else leaf) for leaf in flatten(result)[0]]
    return [a for a in arrays if a.dtype.kind in "fc"]

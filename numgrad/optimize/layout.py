"""How a nest of parameters lies in the flat float64 vector that SciPy works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor
from numgrad.nest import LEAF, arrange, flatten, leaf_paths, unflatten

__all__ = ["Layout", "Vector"]

Vector = NDArray[np.float64]


class Layout:
    """Where each array of a nest stands in a flat vector, made from an example.

    Leaves are raveled in order and put one after the other. Integers and bools become float64; float32 and float16
    leaves get their own dtype back. A list or tuple of numbers alone is one array, as in SciPy.
    """

    def __init__(self, example: Any) -> None:
        leaves, self.structure = flatten(example, _is_leaf)
        self.names = leaf_paths(self.structure, "x0")
        arrays = [_real_array(leaf, name) for leaf, name in zip(leaves, self.names, strict=True)]
        self.shapes = [a.shape for a in arrays]
        self.dtypes = [a.dtype for a in arrays]
        ends = np.cumsum([0, *(a.size for a in arrays)]).tolist()
        self.places = list(zip(ends[:-1], ends[1:], strict=True))
        self.size: int = ends[-1]
        self.start = self._join(arrays)

    @property
    def plain(self) -> bool:
        """Whether the nest is the vector itself."""
        return self.structure == LEAF and self.shapes[0] == (self.size,) and self.dtypes[0] == np.float64

    def _join(self, arrays: list[NDArray[Any]]) -> Vector:
        parts = [np.ravel(a) for a in arrays]
        return np.concatenate(parts, dtype=np.float64) if parts else np.zeros(0)

    def flatten(self, nest: Any) -> Vector:
        """The vector of a nest of this layout; ValueError where structure or shapes differ."""
        leaves = arrange(nest, self.structure, "flatten", _is_leaf)
        arrays = [_real_array(leaf, name) for leaf, name in zip(leaves, self.names, strict=True)]
        for name, array, shape in zip(self.names, arrays, self.shapes, strict=True):
            if array.shape != shape:
                raise ShapeError(f"flatten: {name} has shape {array.shape}, wanted {shape}{at(user_line())}")
        return self._join(arrays)

    def unflatten(self, vector: Any) -> Any:
        """The nest of a vector: copies of the pieces of an array, nodes for a traced vector.

        ValueError where the vector has another size.
        """
        if not isinstance(vector, Tensor):
            # A copy: what the user keeps does not change under the solver's hands.
            vector = np.array(vector, dtype=np.float64)
            if vector.shape != (self.size,):
                raise ShapeError(f"unflatten: got shape {vector.shape}, wanted ({self.size},){at(user_line())}")
        if self.plain:
            return vector
        leaves = []
        for (begin, end), shape, dtype in zip(self.places, self.shapes, self.dtypes, strict=True):
            piece = vector if end - begin == self.size else vector[begin:end]
            piece = piece if shape == (end - begin,) else np.reshape(piece, shape)
            leaves.append(piece if dtype == np.float64 else piece.astype(dtype))
        return unflatten(self.structure, leaves)


def _is_leaf(value: Any) -> bool:
    """A list or tuple of numbers, however deep, is one array."""
    return type(value) in (list, tuple) and len(value) > 0 and all(
        _is_leaf(v) if type(v) in (list, tuple) else isinstance(v, (int, float, complex, np.generic)) for v in value)


def _real_array(leaf: Any, name: str) -> NDArray[Any]:
    array = np.asarray(leaf.numpy() if isinstance(leaf, Tensor) else leaf)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DtypeError(f"{name}: got {array.dtype}, wanted real numbers of at most 64 bits; give a complex "
                         f"parameter as its real and imaginary parts{at(user_line())}")
    return array.astype(array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.float64, copy=False)

"""Arrays whose elements are written and read one by one: `TensorArray`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import numpy as np

from numgrad.errors import DtypeError, ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor
from numgrad.nest import register
from numgrad.ops.control import size_of_value
from numgrad.ops.kinds import cast_to
from numgrad.ops.shaping import reshape
from numgrad.types import Dim, Shape, Size, as_dtype, canonical_shape, require_equal, show_shape

__all__ = ["TensorArray", "checked_index", "fitted", "zeros_of"]

# For the tensors of arrays with clear_after_read, while they live: which of their rows were read. Keys are identities,
# because tensors compare by element.
_spent: dict[int, tuple[ref[Tensor], set[int]]] = {}


def _spent_of(tensor: Tensor) -> set[int]:
    key = id(tensor)
    if key not in _spent:
        _spent[key] = ref(tensor, lambda _: _spent.pop(key, None)), set()
    return _spent[key][1]


def zeros_of(dtype: Any, shape: Sequence[Dim]) -> Tensor:
    """Zeros of a shape that may hold unknown sizes."""
    return apply("broadcast_to", as_tensor(np.zeros((), dtype)), shape=canonical_shape(tuple(shape)))


def checked_index(index: Any, size: Dim | None, what: str) -> Tensor:
    """A scalar index as an int64 tensor; IndexError where it is known to be out of range (None: of any)."""
    tensor = as_tensor(index)
    if tensor.dtype.kind not in "iu" or tensor.ndim:
        raise DtypeError(f"{what}: the index is {tensor.spec}, wanted a scalar integer{at(user_line())}")
    if tensor._value is not None and isinstance(size, int) and not -size <= int(tensor._value) < size:
        raise IndexError(f"{what}: index {int(tensor._value)} is out of range for {size} elements{at(user_line())}")
    return cast_to(tensor, np.int64)


def fitted(value: Any, dtype: np.dtype[Any], shape: Sequence[Dim | None] | None, what: str) -> Tensor:
    """An element in the array's dtype; errors when its kind or its shape (None: any size) is another."""
    tensor = as_tensor(value)
    if tensor.dtype != dtype and not np.can_cast(tensor.dtype, dtype, "same_kind") \
            and not (tensor.dtype.kind in "biu" and dtype.kind in "fc"):
        raise DtypeError(f"{what}: got {tensor.dtype} for an array of {dtype}; cast it{at(user_line())}")
    if shape is not None:
        def message() -> str:
            wanted = "(" + ", ".join("any" if d is None else str(d) for d in shape) + ")"
            return f"{what}: got an element of shape {show_shape(tensor.shape)}, wanted {wanted}"

        if tensor.ndim != len(shape):
            raise ShapeError(message() + at(user_line()))
        for have, want in zip(tensor.spec.shape, shape, strict=True):
            if want is not None:
                require_equal(have, want, message)
    return cast_to(tensor, dtype)


class TensorArray:
    """An array of tensors that are written and read one by one; what writes gives a new array.

    Parameters
    ----------
    dtype : data type
    size : int, size or integer tensor
        The number of elements. A tensor that is traced gives its value when the program runs.
    element_shape : tuple, optional
        The shape of every element. With None among its sizes the elements may differ there (`ragged`): then `size` is
        an integer, and elements are addressed by integers that Python knows. Without an element_shape the first
        write fixes it; a loop variable needs one.
    clear_after_read : bool
        Whether an element may be read only once after each write. Outside a trace a second read is an error; a trace
        does not look.

    Raises
    ------
    IndexError
        For an index out of range: at once where it is known, else when the program runs. Negative ones count from
        the end.
    ShapeError, DtypeError
        For an element of another shape or kind.

    Notes
    -----
    Elements that were never written read as zeros (as empty where ragged) and take no gradient. Reading and writing,
    gathering and scattering, joining and splitting are each other's derivatives: several reads of one element add
    their cotangents, and of several writes to one element the last takes all. The arrays are nests, so that loops carry
    them and functions take and return them. In a compiled loop whose body writes a carried array the writes go to
    one buffer, in time that does not depend on the size.

    Examples
    --------
    >>> import numgrad as ng
    >>> squares = ng.TensorArray(ng.float64, size=4, element_shape=())
    >>> _, squares = ng.while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a.write(i, 1.0 * i * i)), (0, squares))
    >>> squares.stack().numpy(), float(squares.read(-1))
    (array([0., 1., 4., 9.]), 9.0)
    """

    __slots__ = ("_clear", "_dtype", "_rows", "_shape", "_size")

    def __init__(self, dtype: Any, size: Any, element_shape: Sequence[Any] | None = None,
                 clear_after_read: bool = False) -> None:
        self._dtype, self._clear = as_dtype(dtype), bool(clear_after_read)
        self._size = size_of_value(size, "TensorArray")
        self._shape = None if element_shape is None else tuple(
            d if d is None or isinstance(d, Size) else int(d) for d in element_shape)
        # Rows stacked in one tensor; a tuple of tensors where they are ragged; None before the first write.
        self._rows: Any = None
        if self._shape is not None and None in self._shape:
            if not isinstance(self._size, int):
                raise ShapeError(f"TensorArray: elements of shape {element_shape} differ in size, and then the number "
                                 f"of elements must be known, got {self._size}{at(user_line())}")
            self._rows = tuple(self._empty() for _ in range(self._size))
        elif self._shape is not None:
            self._rows = zeros_of(self._dtype, (self._size, *(d for d in self._shape if d is not None)))

    def _empty(self) -> Tensor:
        assert self._shape is not None
        return apply("identity", zeros_of(self._dtype, [0 if d is None else d for d in self._shape]))

    def _with(self, rows: Any, size: Dim | None = None) -> TensorArray:
        """An array like this one with other elements."""
        made = object.__new__(TensorArray)
        made._dtype, made._clear, made._rows = self._dtype, self._clear, rows
        made._size = self._size if size is None else size
        made._shape = self._shape if isinstance(rows, tuple) else rows.shape[1:]
        return made

    # -- what it is
    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' data type."""
        return self._dtype

    @property
    def size(self) -> Dim:
        """The number of elements."""
        return self._size

    @property
    def element_shape(self) -> tuple[Any, ...] | None:
        """The elements' shape: None for a size that differs among them; None for all of it before the first write."""
        return self._shape

    @property
    def ragged(self) -> bool:
        """Whether elements may differ in size."""
        return isinstance(self._rows, tuple)

    def __len__(self) -> int:
        return int(self._size)

    def __repr__(self) -> str:
        return f"<numgrad.TensorArray size={self._size} element_shape={self._shape} dtype={self._dtype}>"

    # -- one element
    def write(self, index: Any, value: Any) -> TensorArray:
        """The array with `value` at `index`."""
        place = checked_index(index, self._size, "TensorArray.write")
        element = fitted(value, self._dtype, self._shape, "TensorArray.write")
        if self.ragged:
            k = self._known(place, "write")
            return self._with((*self._rows[:k], apply("identity", element), *self._rows[k + 1:]))
        return self._mark(self._with(apply("set_rows", self._before(element.shape), place, element)), [place])

    def read(self, index: Any) -> Tensor:
        """The element at `index`."""
        place = checked_index(index, self._size, "TensorArray.read")
        self._spend([place], "read")
        if self.ragged:
            return self._rows[self._known(place, "read")]  # type: ignore[no-any-return]
        return apply("take", self._stacked(), place, axis=0)

    def _known(self, index: Tensor, what: str) -> int:
        if index._value is None:
            raise ShapeError(f"TensorArray.{what}: the elements of this array differ in size, so that the index must "
                             f"be known while tracing; give all elements one shape{at(user_line())}")
        return int(index._value) % int(self._size)

    # -- many elements
    def gather(self, indices: Any) -> Tensor:
        """The elements at `indices`, stacked."""
        places = as_tensor(indices)
        self._spend([as_tensor(i) for i in places._value.reshape(-1)] if places._value is not None else [], "gather")
        if self.ragged:
            return apply("stack", *(self._rows[self._known(as_tensor(i), "gather")] for i in places.numpy()), axis=0)
        return apply("take", self._stacked(), places, axis=0)

    def scatter(self, indices: Any, values: Any) -> TensorArray:
        """The array with rows of `values` at `indices`; of equal indices the last stays."""
        places, rows = as_tensor(indices), as_tensor(values)
        if places.ndim != 1:
            raise ShapeError(f"TensorArray.scatter: the indices are {places.spec}, wanted one axis{at(user_line())}")
        if self.ragged:
            result = self
            for i, k in enumerate(places.numpy()):
                result = result.write(k, rows[i])
            return result
        rows = fitted(rows, self._dtype, (places.spec.shape[0], *(rows.spec.shape[1:] if self._shape is None
                                                                  else self._shape)), "TensorArray.scatter")
        made = self._with(apply("set_rows", self._before(rows.shape[1:]), places, rows))
        return self._mark(made, [as_tensor(i) for i in places._value] if places._value is not None else [])

    def stack(self) -> Tensor:
        """All elements along a new first axis."""
        self._spend_all("stack")
        if self.ragged:
            if len({tuple(r.shape) for r in self._rows}) != 1:
                shapes = ", ".join(show_shape(r.shape) for r in self._rows)
                raise ShapeError(f"TensorArray.stack: the elements have shapes {shapes}, wanted one; use concat"
                                 f"{at(user_line())}")
            return apply("stack", *self._rows, axis=0)
        return self._stacked()

    def unstack(self, values: Any) -> TensorArray:
        """The array whose elements are the rows of `values`."""
        rows = as_tensor(values)
        if not rows.ndim:
            raise ShapeError(f"TensorArray.unstack: got a scalar, wanted an array of elements{at(user_line())}")
        if self.ragged:
            return self.scatter(np.arange(len(self)), rows)
        shape = rows.spec.shape[1:] if self._shape is None else self._shape
        wanted: tuple[Dim | None, ...] = (self._size, *shape)
        return self._with(apply("identity", fitted(rows, self._dtype, wanted, "TensorArray.unstack")))

    def concat(self) -> Tensor:
        """All elements joined along their first axis."""
        shape = self._shape if self.ragged else self._stacked().shape[1:]
        if not shape:
            raise ShapeError(f"TensorArray.concat: scalars have no axis to be joined along; use stack{at(user_line())}")
        self._spend_all("concat")
        if self.ragged:
            return apply("concat", *self._rows, axis=0)
        rows = self._stacked()
        return reshape(rows, (rows.shape[0] * rows.shape[1], *rows.shape[2:]))

    def split(self, values: Any, lengths: Any) -> TensorArray:
        """The array whose elements are pieces of `values` along its first axis, of lengths that Python knows."""
        rows = as_tensor(values)
        counts = [int(n) for n in np.broadcast_to(np.asarray(lengths), (int(self._size),))]
        if not rows.ndim or any(n < 0 for n in counts):
            raise ShapeError(f"TensorArray.split: got {rows.spec} and lengths {counts}{at(user_line())}")
        require_equal(rows.spec.shape[0], sum(counts), lambda: f"TensorArray.split: {rows.spec} in pieces of {counts}")
        if not self.ragged and len(set(counts)) <= 1:
            shape = rows.spec.shape[1:]
            return self.unstack(reshape(rows, (len(counts), counts[0] if counts else 0, *shape)))
        if self._shape is not None and not self.ragged:
            raise ShapeError(f"TensorArray.split: pieces of {counts} rows, but the elements have the shape "
                             f"{self._shape}; give element_shape=(None, ...){at(user_line())}")
        result = self if self.ragged else TensorArray(self._dtype, self._size, (None, *rows.shape[1:]), self._clear)
        ends = np.cumsum(counts)
        for k, (end, count) in enumerate(zip(ends, counts, strict=True)):
            result = result.write(k, rows[int(end) - count:int(end)])
        return result

    def grow(self, size: Any) -> TensorArray:
        """The array with room for `size` elements, at least as many as now; the new ones are unset."""
        more = size_of_value(size, "TensorArray.grow") - self._size
        if isinstance(more, int) and more < 0:
            raise ShapeError(f"TensorArray.grow: {self._size} elements do not fit into {size}{at(user_line())}")
        if self.ragged:
            return self._with((*self._rows, *(self._empty() for _ in range(int(more)))), self._size + more)
        rows = self._stacked()
        return self._with(apply("concat", rows, zeros_of(self._dtype, (more, *rows.shape[1:])), axis=0),
                          self._size + more)

    # -- storage
    def _before(self, shape: Shape) -> Tensor:
        """The rows before a write of elements of this shape."""
        return self._stacked() if self._rows is not None else zeros_of(self._dtype, (self._size, *shape))

    def _stacked(self) -> Tensor:
        if self._rows is None:
            raise ShapeError(f"TensorArray: nothing has been written and no element_shape is given, so that the shape "
                             f"of its elements is unknown{at(user_line())}; give element_shape")
        if not isinstance(self._rows, Tensor):
            self._rows = as_tensor(self._rows)  # the NumPy array that a function returned
        return self._rows

    # -- elements that may be read once
    def _spend(self, places: Sequence[Tensor], what: str) -> None:
        """Mark elements as read, and raise IndexError for one that was read before; traces do not look."""
        if not self._clear or not all(p._value is not None for p in places):
            return
        for place in places:
            k = int(place._value) % int(self._size)  # type: ignore[arg-type]
            holder, number = (self._rows[k], 0) if self.ragged else (self._stacked(), k)
            if holder._value is None:
                return
            gone = _spent_of(holder)
            if number in gone:
                raise IndexError(f"TensorArray.{what}: element {k} was read before, and the array was made with "
                                 f"clear_after_read=True{at(user_line())}; write it again or leave that out")
            gone.add(number)

    def _spend_all(self, what: str) -> None:
        if self._clear and isinstance(self._size, int):
            self._spend([as_tensor(k) for k in range(self._size)], what)

    def _mark(self, made: TensorArray, written: Sequence[Tensor]) -> TensorArray:
        """What was read stays read in the array after a write, apart from the elements written."""
        if self._clear and self._rows is not None:
            fresh = {int(p._value) % int(self._size) for p in written if p._value is not None}
            _spent_of(made._rows).update(_spent_of(self._rows) - fresh)
        return made

    def leaf_shapes(self) -> list[tuple[Any, ...] | None]:
        """For each tensor inside, the shape that it keeps in a loop: None for its own, None for sizes that change."""
        return [self._shape] * len(self._rows) if self.ragged else [None]


def _apart(array: TensorArray) -> tuple[Any, Any, Sequence[Any]]:
    if array.ragged:
        plain = tuple(d if isinstance(d, int) else None for d in array._shape or ())
        names = tuple(f"elements[{k}]" for k in range(len(array._rows)))
        return names, (array._dtype, array._clear, plain), array._rows
    rows = array._rows if array._rows is not None else array._stacked()
    return ("elements",), (array._dtype, array._clear, None), [rows]


def _together(facts: Any, values: list[Any]) -> TensorArray:
    made = object.__new__(TensorArray)
    made._dtype, made._clear, made._shape = facts
    if made._shape is not None:
        made._rows, made._size = tuple(values), len(values)
        return made
    (made._rows,) = values
    shape = getattr(made._rows, "shape", None)
    made._size, made._shape = (shape[0], tuple(shape[1:])) if shape else (0, None)
    return made


register(TensorArray, _apart, _together)

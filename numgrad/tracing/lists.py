"""Lists of tensors of one shape that grow and shrink at their end: `TensorList`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line
from numgrad.graph.core import Tensor, apply, as_tensor, current_graph
from numgrad.nest import register
from numgrad.ops.control import size_of_value
from numgrad.ops.kinds import cast_to
from numgrad.tracing.arrays import checked_index, fitted, zeros_of
from numgrad.types import Size, as_dtype

__all__ = ["TensorList"]

_FIRST_ROOM = 8


class TensorList:
    """A list of tensors of one shape; what changes it gives a new list.

    Parameters
    ----------
    dtype : data type
    element_shape : tuple
        The shape of every element.
    capacity : int, size or integer tensor, optional
        The most elements that fit. Without it the list grows as needed, which only happens outside traces: a traced
        loop needs room that is known when it starts.

    Raises
    ------
    IndexError
        When an element is asked for that is not there, or does not fit: at once where that is known, else when the
        program runs.
    ShapeError, DtypeError
        For an element of another shape or kind; for a list that would have to grow in a trace.

    Notes
    -----
    The number of elements may depend on data. `stack` has as many rows: in a trace that is a size which is known when
    the program runs. Derivatives go to the elements that are in the list.

    Examples
    --------
    >>> import numgrad as ng
    >>> halves = ng.TensorList(ng.float64, ())
    >>> x, halves = ng.while_loop(lambda x, a: x > 1.0, lambda x, a: (x / 2.0, a.push_back(x)), (5.0, halves))
    >>> halves.stack().numpy()
    array([5.  , 2.5 , 1.25])
    """

    __slots__ = ("_grows", "_length", "_rows")

    def __init__(self, dtype: Any, element_shape: Sequence[Any], capacity: Any = None) -> None:
        shape = tuple(d if isinstance(d, Size) else int(d) for d in element_shape)
        room = _FIRST_ROOM if capacity is None else size_of_value(capacity, "TensorList")
        self._grows = capacity is None
        self._rows: Any = zeros_of(as_dtype(dtype), (room, *shape))
        self._length: Any = as_tensor(np.int64(0))

    def _with(self, rows: Tensor, length: Tensor) -> TensorList:
        return _together(self._grows, [rows, length])

    # -- what it is
    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' data type."""
        return self._rows.dtype  # type: ignore[no-any-return]

    @property
    def element_shape(self) -> tuple[Any, ...]:
        """The elements' shape."""
        return tuple(self._rows.shape[1:])

    @property
    def length(self) -> Tensor:
        """The number of elements, an int64 scalar."""
        return as_tensor(self._length)

    def __len__(self) -> int:
        return int(self.length)

    def __repr__(self) -> str:
        return f"<numgrad.TensorList element_shape={self.element_shape} dtype={self.dtype}>"

    # -- the end
    def push_back(self, value: Any) -> TensorList:
        """The list with `value` after its last element."""
        element = fitted(value, self.dtype, self.element_shape, "TensorList.push_back")
        rows, length = as_tensor(self._rows), self.length
        room = rows.shape[0]
        if self._grows:
            if length._value is None or rows._value is None or current_graph() is not None:
                raise ShapeError(f"TensorList.push_back: a traced list cannot grow{at(user_line())}; give TensorList a "
                                 f"capacity")
            if int(length) == room:
                rows = apply("concat", rows, zeros_of(self.dtype, (max(room, _FIRST_ROOM), *rows.shape[1:])), axis=0)
        elif length._value is not None and isinstance(room, int) and int(length) >= room:
            raise IndexError(f"TensorList.push_back: the list is full, its capacity is {room}{at(user_line())}")
        return self._with(apply("set_rows", rows, length, element), apply("add", length, as_tensor(np.int64(1))))

    def pop_back(self) -> tuple[TensorList, Tensor]:
        """The list without its last element, and that element."""
        last = apply("subtract", self.length, as_tensor(np.int64(1)))
        return self._with(as_tensor(self._rows), last), self._element(last, "pop_back")

    # -- any element
    def _place(self, index: Tensor, what: str) -> Tensor:
        """The row of an element; for one that is not there, a row that is not there either."""
        length = self.length
        if index._value is not None and length._value is not None:
            count, k = int(length), int(index)
            if not 0 <= k < count:
                raise IndexError(f"TensorList.{what}: index {k} is out of range for {count} elements{at(user_line())}")
            return index
        inside = apply("logical_and", apply("greater_equal", index, as_tensor(np.int64(0))),
                       apply("less", index, length))
        return apply("where", inside, index, as_tensor(self._rows.shape[0]))

    def _element(self, index: Tensor, what: str) -> Tensor:
        return apply("take", as_tensor(self._rows), self._place(index, what), axis=0)

    def _counted(self, index: Any, what: str) -> Tensor:
        """An index with negative ones counted from the end of the list."""
        tensor = checked_index(index, None, f"TensorList.{what}")
        if tensor._value is not None and tensor._value >= 0:
            return tensor
        below = apply("less", tensor, as_tensor(np.int64(0)))
        return apply("where", below, apply("add", tensor, self.length), tensor)

    def get(self, index: Any) -> Tensor:
        """The element at `index`; negative ones count from the end."""
        return self._element(self._counted(index, "get"), "get")

    def set(self, index: Any, value: Any) -> TensorList:
        """The list with another element at `index`."""
        element = fitted(value, self.dtype, self.element_shape, "TensorList.set")
        place = self._place(self._counted(index, "set"), "set")
        return self._with(apply("set_rows", as_tensor(self._rows), place, element), self.length)

    def stack(self) -> Tensor:
        """All elements along a new first axis."""
        rows = as_tensor(self._rows)
        count = size_of_value(apply("minimum", self.length, as_tensor(rows.shape[0])), "TensorList.stack")
        rest = rows.shape[1:]
        return apply("slice", rows, start=(0,) * rows.ndim, count=(count, *rest), step=(1,) * rows.ndim)

    def leaf_shapes(self) -> list[tuple[Any, ...] | None]:
        """For each tensor inside, the shape that it keeps in a loop: None for its own, None for sizes that change."""
        return [(None, *self.element_shape) if self._grows else None, None]


def _together(grows: bool, values: list[Any]) -> TensorList:
    made = object.__new__(TensorList)
    made._grows = grows
    made._rows, made._length = values
    return made


register(TensorList, lambda held: (("elements", "length"), held._grows, [held._rows, cast_to(held.length, np.int64)]),
         _together)

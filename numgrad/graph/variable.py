"""Variables: arrays that change by assignment, and are read into eager tensors, graphs and functions."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, GraphError, ShapeError, at, user_line
from numgrad.graph.core import Operation, Tensor, apply, as_tensor, current_graph, state
from numgrad.graph.graph import Graph
from numgrad.graph.records import OPS, OpRecord, register
from numgrad.types import Shape, Spec, as_dtype, require_equal, show_shape

__all__ = ["Variable", "root_of", "variables_of"]

_numbers = itertools.count()
_OWN_REFERENCES = 3  # to an array that only its variable holds: the handle, a local name, the argument of getrefcount


class Variable:
    """An array that changes by assignment; derivatives with respect to it reach every read of it.

    Parameters
    ----------
    value : array_like
        The initial value, copied. Its shape and dtype stay.
    trainable : bool
        Whether tapes watch the variable when it is read.
    name : str, optional
        For messages and drawings.
    dtype : data type, optional

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int
    trainable : bool
    name : str

    Raises
    ------
    GraphError
        The value is a node of a graph, which has no value yet.

    Notes
    -----
    Wherever a tensor is expected the variable is read. Outside a graph a read gives the value of that moment. In a
    graph it is a node whose value is taken when the graph runs, by `run` and by compiled programs alike, so that one
    trace serves all values. Assignment replaces the value; tensors that were read before keep theirs.

    Examples
    --------
    >>> import numgrad as ng
    >>> w = ng.Variable([1.0, 2.0], name="w")
    >>> with ng.GradientTape() as tape:
    ...     loss = ng.sum(w * w)
    >>> w.assign_sub(0.5 * tape.gradient(loss, w)).numpy()
    array([0., 0.])
    """

    __slots__ = ("__weakref__", "dtype", "handle", "name", "number", "shape", "trainable")
    __array_priority__ = 100.0

    def __init__(self, value: Any, trainable: bool = True, name: str | None = None, dtype: Any = None) -> None:
        if isinstance(value, Tensor) and value.op is not None:
            raise GraphError(f"Variable: the initial value {value!r} is a node of a graph and has no value yet; make "
                             f"variables outside of traced functions{at(user_line())}")
        array = np.array(value.numpy() if isinstance(value, (Tensor, Variable)) else value, dtype=dtype, order="C")
        array = array.astype(as_dtype(array.dtype), copy=False)
        array.flags.writeable = False
        self.dtype, self.shape = array.dtype, array.shape
        self.trainable, self.name, self.number = bool(trainable), name or "variable", next(_numbers)
        # The eager tensor that stands for the variable in recordings; alone among tensors its value changes.
        self.handle = Tensor(array.dtype, array.shape, None, 0, array)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def spec(self) -> Spec:
        """The dtype and shape."""
        return Spec(self.dtype, self.shape)

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The current value's memory, which is read-only."""
        assert self.handle._value is not None
        return self.handle._value

    __hash__ = object.__hash__  # by identity, also where `==` compares elements

    def __repr__(self) -> str:
        return f"<numgrad.Variable {self.name!r} {self.spec}>"

    # -- reading
    def value(self) -> Tensor:
        """The current value as a tensor; in a graph, the node that takes it when the graph runs.

        Examples
        --------
        >>> import numgrad as ng
        >>> ng.Variable([1.0, 2.0]).value()
        ng.asarray([1., 2.], dtype=float64)
        """
        graph = current_graph()
        if graph is None:
            if not state.recorders:
                return Tensor(self.dtype, self.shape, None, 0, self.array)
            self._announce(self.handle)
            return apply("read_variable", self.handle)
        handle = self.handle_in(graph)
        self._announce(handle)
        assigned = root_of(graph).assigned
        if not assigned or self not in assigned:
            return handle
        return apply("read_variable", handle, assigned[self])

    read_value = value
    __tensor__ = value

    def _announce(self, handle: Tensor) -> None:
        for recorder in state.recorders:
            recorder.read(self, handle)

    def handle_in(self, graph: Graph | None) -> Tensor:
        """What stands for the variable in a graph, and outside of one: that with respect to which is differentiated."""
        if graph is None:
            return self.handle
        root = root_of(graph)
        with root.lock:
            found = root.variables.get(self)
            if found is None:
                found = root.add(OPS["variable"], (), {"variable": self}, (self.spec,), self.name).outputs[0]
                root.variables[self] = found
        return found if root is graph else graph.capture(found)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy of the current value."""
        return self.array.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self.array.astype(self.dtype if dtype is None else dtype, copy=copy is not False)

    def __len__(self) -> int:
        if not self.shape:
            raise DtypeError(f"len() of a 0-d variable{at(user_line())}")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __complex__(self) -> complex:
        return complex(self.array)

    # -- assignment
    def assign(self, value: Any) -> Variable:
        """Replace the value.

        Parameters
        ----------
        value : array_like
            Of the variable's shape; cast within its kind of dtype. Copied.

        Returns
        -------
        Variable
            This variable.

        Raises
        ------
        ShapeError
            Another shape; nothing is broadcast.
        DtypeError
            A value that can be cast only by losing its kind.
        GraphError
            Within a graph that is no traced function, or within the body of a loop or branch.

        Notes
        -----
        In a traced function the assignment takes place when the function has run; reads after it, in the function, give
        the new value. No derivative flows from a later read to what was assigned.

        Examples
        --------
        >>> import numgrad as ng
        >>> ng.Variable(1.0).assign(3.0).numpy()
        array(3.)
        """
        graph = current_graph()
        if graph is not None or (isinstance(value, Tensor) and value.op is not None):
            self._assign_in(graph, as_tensor(value))
            return self
        self.store(np.array(self._fitting(as_tensor(value)).numpy(), order="C"))
        return self

    def assign_add(self, delta: Any) -> Variable:
        """Add to the value.

        Parameters
        ----------
        delta : array_like
            Of the variable's shape, as in `assign`.

        Returns
        -------
        Variable

        Raises
        ------
        ShapeError, DtypeError, GraphError
            As `assign`.

        Examples
        --------
        >>> import numgrad as ng
        >>> ng.Variable(1.0).assign_add(3.0).numpy()
        array(4.)
        """
        return self._assign_changed("add", delta)

    def assign_sub(self, delta: Any) -> Variable:
        """Subtract from the value.

        Parameters
        ----------
        delta : array_like
            Of the variable's shape, as in `assign`.

        Returns
        -------
        Variable

        Raises
        ------
        ShapeError, DtypeError, GraphError
            As `assign`.

        Examples
        --------
        >>> import numgrad as ng
        >>> ng.Variable(1.0).assign_sub(3.0).numpy()
        array(-2.)
        """
        return self._assign_changed("subtract", delta)

    def _assign_changed(self, op: str, delta: Any) -> Variable:
        graph = current_graph()
        change = self._fitting(as_tensor(delta))
        if graph is None and change.op is None:
            return self.assign(OPS[op].evaluate(self.array, change.numpy()))
        return self.assign(apply(op, self.value(), change))

    def scatter_add(self, rows: Any, values: Any = None) -> Variable:
        """Add rows to some of the variable's rows; the others are not touched.

        Parameters
        ----------
        rows : IndexedSlices, or array_like of int
            A row-sparse change, or the numbers of the rows; repeated rows add up.
        values : array_like, optional
            The change of each row, of shape ``(number of rows, *shape[1:])``, when `rows` are numbers.

        Returns
        -------
        Variable

        Raises
        ------
        ShapeError
            The values do not have the rows' shape.
        IndexError
            A row number out of range.
        GraphError
            As `assign`.

        Notes
        -----
        Outside a graph, and in a traced function as the only assignment of this variable, the rows are added in place,
        in time proportional to their number; the whole array is copied only if a tensor that was read still shows it.

        Examples
        --------
        >>> import numgrad as ng
        >>> v = ng.Variable([[1.0], [2.0], [3.0]])
        >>> v.scatter_add(ng.IndexedSlices([[10.0], [20.0]], [2, 2], (3, 1))).numpy().ravel()
        array([ 1.,  2., 33.])
        """
        if not self.shape:
            raise ShapeError(f"scatter_add: {self!r} has no rows{at(user_line())}")
        if values is None:
            rows, values = rows.indices, rows.values
        indices, change = as_tensor(rows), as_tensor(values)
        _require_shape(change.shape, (*indices.shape, *self.shape[1:]),
                       lambda: f"scatter_add: values of shape {show_shape(change.shape)} for rows of shape "
                               f"{show_shape(indices.shape)} of {self!r}")
        if current_graph() is not None or change.op is not None or indices.op is not None:
            whole = apply("scatter_add", indices, self._of_kind(change), axis=0, size=self.shape[0])
            return self.assign(apply("add", self.value(), whole))
        self.check_rows(indices.numpy())
        self.add_rows(indices.numpy(), self._of_kind(change).numpy())
        return self

    def check_rows(self, rows: np.ndarray[Any, Any]) -> None:
        """IndexError for a row number out of range."""
        count = self.shape[0]
        if rows.size and not -count <= int(rows.min()) <= int(rows.max()) < count:
            raise IndexError(f"scatter_add: rows {int(rows.min())} to {int(rows.max())} of {self!r}, which has {count}"
                             f"{at(user_line())}")

    def add_rows(self, rows: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> None:
        """Add to rows that exist; in place when no tensor that was read, and nobody else, can see the memory."""
        array = self.array
        if sys.getrefcount(array) > _OWN_REFERENCES:
            array = array.copy()
        array.flags.writeable = True
        np.add.at(array, rows, values)
        self.store(array)

    def store(self, array: np.ndarray[Any, Any]) -> None:
        """Make an array of the right shape and dtype, which nobody else holds, the value."""
        array.flags.writeable = False
        self.handle._value = array

    def _assign_in(self, graph: Graph | None, value: Tensor) -> None:
        if graph is None or root_of(graph).assigned is None:
            raise GraphError(f"assign: {self!r} cannot be assigned in a graph, which only computes; return the new "
                             f"value and assign that, or assign within an ng.function{at(user_line())}")
        if root_of(graph) is not graph:
            raise GraphError(f"assign: {self!r} cannot be assigned within the body of a loop or branch; make it one of "
                             f"the loop's variables and assign the result{at(user_line())}")
        self.handle_in(graph)
        assert graph.assigned is not None
        graph.assigned[self] = apply("identity", self._fitting(value))

    def _of_kind(self, value: Tensor) -> Tensor:
        if value.dtype == self.dtype:
            return value
        if not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise DtypeError(f"assign: {self!r} takes no {value.dtype}; use ng.cast{at(user_line())}")
        return apply("cast", value, dtype=self.dtype)

    def _fitting(self, value: Tensor) -> Tensor:
        _require_shape(value.shape, self.shape,
                       lambda: f"assign: a value of shape {show_shape(value.shape)} for {self!r}")
        return self._of_kind(value)


def _require_shape(given: Shape, wanted: Shape, message: Callable[[], str]) -> None:
    if len(given) != len(wanted):
        raise ShapeError(message() + at(user_line()))
    for a, b in zip(given, wanted, strict=True):
        require_equal(a, b, message)


def root_of(graph: Graph) -> Graph:
    """The graph in which the bodies of loops and branches stand."""
    while graph.outer is not None:
        graph = graph.outer
    return graph


def variables_of(operations: Sequence[Operation]) -> list[Tensor]:
    """The nodes among these operations that stand for variables."""
    return [op.outputs[0] for op in operations if op.type == "variable"]


def _infer_last(specs: Sequence[Spec], attrs: Mapping[str, Any]) -> tuple[Spec, ...]:
    return (specs[-1],)


register(OpRecord("variable", "constant", lambda specs, attrs: (attrs["variable"].spec,),
                  lambda variable: variable.array, doc="The value that a variable has when the graph runs."))
register(OpRecord(
    "read_variable", "general", _infer_last, lambda *arrays: arrays[-1],
    vjp=lambda op, cts: [cts[0], *[None] * (len(op.inputs) - 1)], jvp=lambda op, tangents: [tangents[0]],
    decompose=lambda *tensors: tensors[-1],
    samples=lambda rng: [([rng.normal(size=shape)], {}) for shape in ((), (3,), (0, 2))],
    doc="A variable's value: of its handle, or of what was assigned; derivatives are with respect to the handle."))

"""Tensors and operations, and the one way to make them: `apply`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from numgrad.errors import DtypeError, GraphError, ShapeError, SourceLine, at, user_line
from numgrad.graph.eager import calculated, evaluated, has_size, inferred
from numgrad.graph.records import OPS, OpRecord
from numgrad.types import Dim, Shape, Size, Spec, as_dtype, canonical_shape, show_shape

if TYPE_CHECKING:
    from numgrad.graph.graph import Graph

__all__ = [
    "Operation",
    "Recorder",
    "Tensor",
    "TracedValueError",
    "WeakTensor",
    "apply",
    "as_tensor",
    "current_graph",
    "placeholder",
]


class TracedValueError(DtypeError):
    """A value that is known only when the program runs was used as a Python number or array; `tensor` is the value."""

    def __init__(self, message: str, tensor: Tensor) -> None:
        super().__init__(message)
        self.tensor = tensor


class _State(threading.local):
    """What is in force in this thread: default graphs, devices, control inputs, eager scopes."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.devices: list[str] = []
        self.controls: list[tuple[Operation, ...]] = []
        self.lines: list[SourceLine | None] = []
        self.recorders: Sequence[Recorder] = ()
        self.checks: Sequence[Check] = ()


# What looks at each run of a graph: the outputs, what was fed, and the outputs' values.
Check = Callable[[Sequence["Tensor"], Mapping["Tensor", Any], Sequence[Any]], None]


class Recorder(Protocol):
    """What is told about every operation and every read of a variable in its thread, outermost first."""

    def operation(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                  attrs: dict[str, Any]) -> None:
        """An operation was made, eagerly or in a graph; `inputs` are what was given, before any of it was captured."""

    def read(self, variable: Any, handle: Tensor) -> None:
        """A variable is about to be read; `handle` stands for it, eagerly or in the current graph."""

    def follows(self, tensor: Tensor) -> bool:
        """Whether operations on this tensor matter."""


state = _State()


class Operation:
    """A node of a graph: what is computed, from which tensors, and where the user asked for it.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     y = ng.exp(ng.placeholder(ng.float64, (3,)))
    >>> y.op.type, y.op.name, len(y.op.inputs)
    ('exp', 'exp', 1)
    """

    __slots__ = ("attrs", "control_inputs", "device", "dynamic", "graph", "inputs", "name", "number", "outputs",
                 "override", "record", "where")

    def __init__(self, record: OpRecord, inputs: tuple[Tensor, ...], attrs: dict[str, Any], name: str, graph: Graph,
                 number: int, where: SourceLine | None) -> None:
        self.record, self.inputs, self.attrs = record, inputs, attrs
        self.name, self.graph, self.number, self.where = name, graph, number, where
        self.outputs: tuple[Tensor, ...] = ()
        self.control_inputs: tuple[Operation, ...] = ()
        self.device = ""
        self.override: str | None = None
        self.dynamic = any(has_size(value) for value in attrs.values()) if attrs else False

    @property
    def type(self) -> str:
        """The op's name in the op table."""
        return self.record.name

    def __repr__(self) -> str:
        return f"<numgrad.Operation {self.name!r} type={self.type}>"


class Tensor:
    """An array of the library: a node's output in a graph, or a NumPy value outside of one.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple
        Integers, and sizes that are known only when the program runs.

    Examples
    --------
    >>> import numgrad as ng
    >>> t = ng.asarray([1.0, 2.0])
    >>> (t * t).numpy()
    array([1., 4.])
    """

    __slots__ = ("__weakref__", "_value", "dtype", "index", "op", "shape")
    __array_priority__ = 100.0

    def __init__(self, dtype: np.dtype[Any], shape: Shape, op: Operation | None = None, index: int = 0,
                 value: np.ndarray[Any, Any] | None = None) -> None:
        self.dtype, self.shape, self.op, self.index, self._value = dtype, shape, op, index, value

    @property
    def graph(self) -> Graph | None:
        """The graph that this tensor is a node of; None for an eager one."""
        return self.op.graph if self.op is not None else None

    @property
    def name(self) -> str:
        """``op name:output index`` in a graph; an error for an eager tensor."""
        if self.op is None:
            raise GraphError(f"an eager tensor has no name{at(user_line())}")
        return f"{self.op.name}:{self.index}"

    @property
    def device(self) -> str:
        """The device label under which the tensor's op was made."""
        return self.op.device if self.op is not None else ""

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """The number of elements."""
        total: Dim = 1
        for dim in self.shape:
            total = total * dim
        return total

    @property
    def spec(self) -> Spec:
        """The dtype and shape."""
        if self._value is not None:
            return Spec(self.dtype, self.shape)
        return Spec(self.dtype, canonical_shape(self.shape))

    def numpy(self) -> np.ndarray[Any, Any]:
        """The NumPy value of an eager tensor; GraphError for a symbolic one."""
        if self._value is None:
            raise GraphError(f"{self!r} is a node of a graph and has no value; use ng.run or ng.compile"
                             f"{at(user_line())}")
        return self._value

    def __repr__(self) -> str:
        if self._value is not None:
            return f"ng.asarray({np.array2string(self._value, separator=', ')}, dtype={self.dtype})"
        return f"<numgrad.Tensor {self.name!r} shape={show_shape(self.shape)} dtype={self.dtype}>"

    __hash__ = object.__hash__  # by identity, also where `==` compares elements

    if TYPE_CHECKING:  # numgrad.ops.operators gives the class these and more
        def __getitem__(self, key: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __mod__ = __floordiv__ = __add__

    # -- what a traced value cannot do
    def _concrete(self, what: str, instead: str) -> np.ndarray[Any, Any]:
        if self._value is not None:
            return self._value
        made = at(self.op.where if self.op is not None else None)
        raise TracedValueError(f"{what} of a traced value {self!r} made{made}: it is known only when the program runs; "
                               f"{instead}{at(user_line())}", self)

    def __bool__(self) -> bool:
        return bool(self._concrete("the truth value", "use ng.where or ng.cond, or mark the argument as static"))

    def __int__(self) -> int:
        return int(self._concrete("int()", "use ng.cast(x, ng.int64), or pass the number as a static Python argument"))

    def __index__(self) -> int:
        value = self._concrete("an index or a count",
                               "use ng.take, indexing with tensors, or a static Python argument")
        return value.item().__index__()  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return float(self._concrete("float()", "keep it as a tensor (ng.* and np.* functions take it)"))

    def __complex__(self) -> complex:
        return complex(self._concrete("complex()", "keep it as a tensor"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        value = self._concrete("a NumPy array", "use the ng.* function of the same name, or np.* functions that "
                                                "numgrad implements")
        result = value.astype(dtype) if dtype is not None else value
        return result.copy() if copy else result

    def __len__(self) -> int:
        if not self.shape:
            raise DtypeError(f"len() of a 0-d tensor{at(user_line())}")
        return int(self.shape[0])


class WeakTensor(Tensor):
    """A Python number in a trace: like the number itself it takes the dtype of the arrays that it meets (NEP 50).

    Python's arithmetic between weak tensors gives weak tensors; every other operation gives ordinary ones.
    """

    __slots__ = ()


def weaken(tensor: Tensor) -> Tensor:
    """Make a tensor a weak one, in place."""
    tensor.__class__ = WeakTensor
    return tensor


def current_graph() -> Graph | None:
    """The innermost default graph of this thread, or None."""
    return state.graphs[-1] if state.graphs else None


def placeholder(dtype: Any, shape: Sequence[Dim | str | None] | None = None, name: str | None = None) -> Tensor:
    """An input of the current graph, given a value when the graph runs.

    Parameters
    ----------
    dtype : data type
    shape : sequence of int, None or str
        Sizes; None is an unknown size, a name is an unknown size that is the same wherever the name stands in the
        graph. The number of axes must be known.
    name : str, optional

    Returns
    -------
    Tensor

    Raises
    ------
    GraphError
        Outside a graph.
    ShapeError
        When the rank is not given or a size is negative.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float32, (None, 3), name="x")
    >>> x.ndim, x.shape[1], x.name
    (2, 3, 'x:0')
    """
    graph = current_graph()
    if graph is None:
        raise GraphError(f"placeholder: there is no graph here; use `with ng.Graph().as_default():`{at(user_line())}")
    if shape is None:
        raise ShapeError(f"placeholder: the number of axes must be known; give a tuple, with None for each unknown "
                         f"size (() is a scalar){at(user_line())}")
    sizes: list[Dim] = []
    for dim in (shape,) if isinstance(shape, (int, str)) else shape:
        if dim is None:
            sizes.append(graph.sizes.fresh())
        elif isinstance(dim, str):
            sizes.append(graph.sizes.fresh(dim))
        elif isinstance(dim, Size):
            sizes.append(dim)
        else:
            if int(dim) < 0:
                raise ShapeError(f"placeholder: negative size {dim}{at(user_line())}")
            sizes.append(int(dim))
    spec = Spec(as_dtype(dtype), tuple(sizes))
    return graph.add(OPS["placeholder"], (), {}, (spec,), name).outputs[0]


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """`value` as a tensor: unchanged if it is one, else its NumPy value (an eager tensor).

    Objects with a method ``__tensor__`` (row-sparse gradients) say themselves which tensor they stand for.
    """
    if not isinstance(value, Tensor) and hasattr(type(value), "__tensor__"):
        value = value.__tensor__()
    if isinstance(value, Tensor):
        if dtype is not None and value.dtype != dtype:
            return apply("cast", value, dtype=as_dtype(dtype))
        return value
    if isinstance(value, Size):
        value = value.tensor()
        return as_tensor(value, dtype) if dtype is not None else value  # type: ignore[no-any-return]
    if state.recorders and isinstance(value, (list, tuple)) and _holds_tensor(value):
        return _stack_nested(value, dtype)  # NumPy would take the values and lose where they come from
    try:
        array = np.asarray(value, dtype=dtype)
    except (ValueError, TypeError) as error:
        if _holds_tensor(value):
            return _stack_nested(value, dtype)
        raise DtypeError(f"cannot make an array of {type(value).__name__}: {error}{at(user_line())}") from error
    if array.dtype == object and _holds_tensor(value):
        return _stack_nested(value, dtype)
    wanted = as_dtype(array.dtype)
    if array.dtype != wanted:
        array = array.astype(wanted)
    return Tensor(array.dtype, array.shape, None, 0, array)


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, (Tensor, Size)) or hasattr(type(value), "__tensor__") or (
        isinstance(value, (list, tuple)) and any(_holds_tensor(v) for v in value))


def _stack_nested(value: Any, dtype: Any) -> Tensor:
    if isinstance(value, (list, tuple)):
        parts = [as_tensor(v, dtype) for v in value]
        common = np.result_type(*(p.dtype for p in parts))
        return apply("stack", *(as_tensor(p, common) for p in parts), axis=0)
    return as_tensor(value, dtype)


def _graph_of(inputs: Sequence[Tensor], name: str) -> Graph | None:
    graphs = state.graphs
    current = graphs[-1] if graphs else None
    graph = None
    for tensor in inputs:
        if tensor._value is None and tensor.op is not None:
            own = tensor.op.graph
            if graph is None or own is graph:
                graph = own
            elif current is None or not (current.within(own) and current.within(graph)):
                raise GraphError(f"{name}: inputs are of two different graphs; all must be from the same graph"
                                 f"{at(user_line())}")
    if graph is None or (current is not None and current is not graph and current.within(graph)):
        return current
    return graph


def apply_all(name: str, *inputs: Tensor, op_name: str | None = None, **attrs: Any) -> tuple[Tensor, ...]:
    """Make the operation `name` of the op table and return all its outputs.

    In a graph a node is added; outside one the NumPy meaning is evaluated at once. Inputs must be tensors; the public
    functions convert and promote before they come here.
    """
    record = OPS[name]
    graph = _graph_of(inputs, name)
    if graph is None:
        return _apply_eagerly(record, inputs, attrs)
    specs = record.infer([t.spec for t in inputs], attrs)
    nodes = tuple([t if t._value is None and t.op is not None and t.op.graph is graph else graph.capture(t)
                   for t in inputs])
    outputs = graph.add(record, nodes, attrs, specs, op_name).outputs
    if state.recorders:
        tell(record, inputs, outputs, attrs)
    return outputs


def _apply_eagerly(record: OpRecord, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> tuple[Tensor, ...]:
    if not attrs and record.facts.get("direct") and inputs[0].dtype.kind in "fc":  # NumPy makes int8 of some bools
        value = calculated(record, inputs)
        outputs: tuple[Tensor, ...] = (Tensor(value.dtype, value.shape, None, 0, value),)
        if state.recorders:
            tell(record, inputs, outputs, attrs)
        return outputs
    specs = inferred(record, inputs, attrs)
    result = evaluated(record, inputs, attrs)
    if isinstance(result, tuple):
        outputs = tuple([_eager(v, s.dtype, i) for i, (s, v) in enumerate(zip(specs, result, strict=True))])
    else:
        outputs = (_eager(result, specs[0].dtype, 0),)
    if state.recorders:
        tell(record, inputs, outputs, attrs)
    return outputs


def _eager(value: Any, dtype: np.dtype[Any], index: int) -> Tensor:
    if value.__class__ is not np.ndarray or value.dtype is not dtype:
        value = np.asarray(value, dtype=dtype)
    return Tensor(dtype, value.shape, None, index, value)


def tell(record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> None:
    """Tell the recorders of this thread about an operation."""
    for recorder in state.recorders:
        recorder.operation(record, inputs, outputs, attrs)


def apply(name: str, *inputs: Tensor, op_name: str | None = None, **attrs: Any) -> Tensor:
    """`apply_all` for operations with one output."""
    if not state.graphs:
        for tensor in inputs:
            if tensor._value is None:
                break
        else:
            return _apply_eagerly(OPS[name], inputs, attrs)[0]
    return apply_all(name, *inputs, op_name=op_name, **attrs)[0]

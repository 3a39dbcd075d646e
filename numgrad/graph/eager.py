"""What eager operations need at every call, made quick: their specs, remembered, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.errors import GraphError, at, user_line
from numgrad.graph.records import OpRecord
from numgrad.silence import silence, unsilence
from numgrad.types import Size, Spec

if TYPE_CHECKING:
    from numgrad.graph.core import Tensor

__all__ = ["calculated", "evaluated", "has_size", "inferred", "is_plain"]

_specs: dict[Any, Sequence[Spec]] = {}  # what `infer` answered, by op, inputs and attributes
_SPECS = 1 << 13
_PLAIN = frozenset({int, str, bool, type(None)})


def is_plain(value: Any) -> bool:
    """Whether equal values of this kind mean the same, are cheap to compare, and hold nothing alive."""
    return type(value) in _PLAIN or isinstance(value, np.dtype) or (type(value) is tuple and all(map(is_plain, value)))


def has_size(value: Any) -> bool:
    """Whether an attribute holds a size that is known only when a program runs."""
    return isinstance(value, Size) or (isinstance(value, tuple) and any(has_size(v) for v in value))


def _key(record: OpRecord, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    if not attrs:
        if len(inputs) == 2:
            a, b = inputs
            return record.name, a.dtype, a.shape, b.dtype, b.shape
        if len(inputs) == 1:
            return record.name, inputs[0].dtype, inputs[0].shape
    elif not all(map(is_plain, attrs.values())):
        return None
    key: list[Any] = [record.name, *attrs.items()]
    for tensor in inputs:
        key.append(tensor.dtype)
        key.append(tensor.shape)
    return tuple(key)


def inferred(record: OpRecord, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Sequence[Spec]:
    """The specs of the outputs of an eager operation; errors are those of the record's `infer`."""
    key = _key(record, inputs, attrs)
    specs = _specs.get(key)
    if specs is not None:
        return specs
    if any(has_size(value) for value in attrs.values()):
        raise GraphError(f"{record.name}: a size that is known only when a program runs was used outside its graph"
                         f"{at(user_line())}")
    specs = record.infer([t.spec for t in inputs], attrs)
    if key is not None:
        if len(_specs) >= _SPECS:
            _specs.clear()
        _specs[key] = specs
    return specs


def calculated(record: OpRecord, inputs: tuple[Tensor, ...]) -> np.ndarray[Any, Any]:
    """The result of an operation that is one of NumPy's ufuncs, without NumPy's floating point warnings."""
    before = silence()
    try:
        value = record.evaluate(*[t._value for t in inputs])
    except ValueError:
        inferred(record, inputs, {})  # says which shapes do not broadcast, and where
        raise
    finally:
        unsilence(before)
    return value if value.__class__ is np.ndarray else np.asarray(value)


def evaluated(record: OpRecord, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    """The NumPy meaning of an operation on eager tensors, without NumPy's floating point warnings."""
    before = silence()
    try:
        if not attrs:
            return record.evaluate(*[t._value for t in inputs])
        if record.facts.get("bodies"):  # loops and branches evaluate graphs of their own
            return record.evaluate(*[t._value for t in inputs], **attrs, sizes={})
        return record.evaluate(*[t._value for t in inputs], **attrs)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(f"{record.name}: {error}{at(user_line())}") from None
    finally:
        unsilence(before)

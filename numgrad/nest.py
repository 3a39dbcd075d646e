"""Nests of values: tuples, lists, dicts, named tuples, dataclasses, registered classes and None, taken apart and put
together again."""

from __future__ import annotations

import dataclasses
import enum
import operator
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["LEAF", "Structure", "arrange", "assembler", "flatten", "leaf_paths", "map_leaves", "register", "unflatten"]

# A structure is data: LEAF, or (type, what else is needed to rebuild it, the structures inside). Tuples hash and
# compare natively, so that a structure is a cache key as it stands.
Structure = tuple[Any, ...]
LEAF: Structure = ("leaf",)
_NONE: Structure = (None, None, ())

# Containers of other modules: how they come apart, (names, what else is needed, values), and how they are rebuilt.
_registered: dict[type, tuple[Callable[[Any], tuple[Any, Any, Sequence[Any]]], Callable[[Any, list[Any]], Any]]] = {}


def register(kind: type, apart: Callable[[Any], tuple[Any, Any, Sequence[Any]]],
             together: Callable[[Any, list[Any]], Any]) -> None:
    """Let instances of a class be nests.

    ``apart(tree)`` gives the names of its values, whatever else rebuilds it (hashable), and the values;
    ``together(else, values)`` rebuilds it.
    """
    _registered[kind] = apart, together


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Structure]:
    """The leaves of a nest in order, and its structure.

    `is_leaf` true stops the descent. Dictionaries keep their own order; dataclasses are entered field by field.
    """
    leaves: list[Any] = []
    return leaves, _enter(tree, leaves, is_leaf)


_leaf_types: set[type] = set()  # types found to be no containers


def _enter(tree: Any, leaves: list[Any], is_leaf: Callable[[Any], bool] | None) -> Structure:
    if type(tree) in _leaf_types:
        leaves.append(tree)
        return LEAF
    if is_leaf is not None and is_leaf(tree):
        leaves.append(tree)
        return LEAF
    if tree is None:
        return _NONE
    parts = _parts(tree)
    if parts is None:
        _leaf_types.add(type(tree))
        leaves.append(tree)
        return LEAF
    kind, extra, children = parts
    return kind, extra, tuple([_enter(child, leaves, is_leaf) for child in children])


def _parts(tree: Any) -> tuple[Any, Any, Sequence[Any]] | None:
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind, None, tree
    if kind in _registered:
        names, extra, values = _registered[kind][0](tree)
        return kind, (names, extra), values
    if isinstance(tree, dict):
        if isinstance(tree, defaultdict):
            return defaultdict, (tree.default_factory, *tree), list(tree.values())
        return (OrderedDict if isinstance(tree, OrderedDict) else dict), tuple(tree), list(tree.values())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind, tree._fields, tree
    if isinstance(tree, (tuple, list)):
        return (tuple if isinstance(tree, tuple) else list), None, tree
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        values = [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
        fixed = tuple([(name, value) for name, value in values if _is_fixed(value)])
        names = tuple([name for name, value in values if not _is_fixed(value)])
        return kind, (names, fixed), [value for _, value in values if not _is_fixed(value)]
    return None


def _is_fixed(value: Any) -> bool:
    """Whether a field's value is no part of the mathematics: it belongs to the structure."""
    return isinstance(value, (str, bytes, bool, enum.Enum, type, types.FunctionType))


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The nest of a structure with given leaves."""
    return _build(structure, iter(leaves))


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure is LEAF or structure == LEAF:
        return next(leaves)
    kind, extra, children = structure
    if kind is None:
        return None
    values = [_build(child, leaves) for child in children]
    if kind is list:
        return values
    if kind is tuple:
        return tuple(values)
    if kind is defaultdict:
        return defaultdict(extra[0], zip(extra[1:], values, strict=True))
    if kind is dict or kind is OrderedDict:
        return kind(zip(extra, values, strict=True))
    if issubclass(kind, tuple):
        return kind(*values)
    if kind in _registered:
        return _registered[kind][1](extra[1], values)
    rebuilt = object.__new__(kind)  # a dataclass: without its __init__, whose checks are not meant for traced values
    names, fixed = extra
    for name, value in (*zip(names, values, strict=True), *fixed):
        object.__setattr__(rebuilt, name, value)
    return rebuilt


def arrange(tree: Any, structure: Structure, what: str, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of `tree` in the order of `structure`; ValueError when the structures differ.

    Dictionaries match by key, whatever their order.
    """
    leaves: list[Any] = []
    _match(tree, structure, what, is_leaf, leaves)
    return leaves


def _match(tree: Any, structure: Structure, what: str, is_leaf: Callable[[Any], bool] | None,
           leaves: list[Any]) -> None:
    if structure == LEAF:
        leaves.append(tree)
        return
    kind, extra, children = structure
    if kind is None:
        if tree is not None:
            raise ValueError(f"{what}: got {type(tree).__name__} where the nest has None")
        return
    parts = None if is_leaf is not None and is_leaf(tree) else _parts(tree)
    if parts is None or parts[0] is not kind or len(parts[2]) != len(children):
        got = type(tree).__name__ if parts is None else f"{parts[0].__name__} of {len(parts[2])}"
        raise ValueError(f"{what}: got {got}, wanted {kind.__name__} of {len(children)}")
    values = parts[2]
    if kind in (dict, OrderedDict, defaultdict):
        keys = extra[1:] if kind is defaultdict else extra
        if set(tree) != set(keys):
            raise ValueError(f"{what}: got a {kind.__name__} with keys {list(tree)}, wanted {list(keys)}")
        values = [tree[key] for key in keys]
    for value, child in zip(values, children, strict=True):
        _match(value, child, what, is_leaf, leaves)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The nest with `function` applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def leaf_paths(structure: Structure, prefix: str = "") -> list[str]:
    """For each leaf, where it stands: ``x['weights'][0]``."""
    if structure == LEAF:
        return [prefix]
    kind, extra, children = structure
    if kind is None:
        return []
    if kind in (dict, OrderedDict, defaultdict):
        steps = [f"[{key!r}]" for key in (extra[1:] if kind is defaultdict else extra)]
    elif kind in (tuple, list):
        steps = [f"[{i}]" for i in range(len(children))]
    else:
        steps = [f".{name}" for name in (extra if issubclass(kind, tuple) else extra[0])]
    return [path for step, child in zip(steps, children, strict=True) for path in leaf_paths(child, prefix + step)]


def assembler(structure: Structure) -> Callable[[tuple[Any, ...]], Any]:
    """A function that puts a tuple of leaves together as `structure`, as fast as Python allows."""
    if structure == LEAF:
        return operator.itemgetter(0)
    if structure[0] is tuple and all(child == LEAF for child in structure[2]):
        return tuple
    text = _assembly(structure, iter(range(1 << 30)))
    if text is None:
        return lambda leaves: unflatten(structure, leaves)
    return eval(f"lambda v: {text}", {"__builtins__": {}})  # type: ignore[no-any-return]


def _assembly(structure: Structure, numbers: Iterator[int]) -> str | None:
    """The expression that builds a nest from the leaves ``v``; None unless of tuples, lists, dicts by text and None."""
    if structure == LEAF:
        return f"v[{next(numbers)}]"
    kind, extra, inner = structure
    if kind is None:
        return "None"
    if kind not in (tuple, list, dict) or (kind is dict and not all(type(key) in (str, int) for key in extra)):
        return None
    children = [_assembly(child, numbers) for child in inner]
    if any(child is None for child in children):
        return None
    if kind is dict:
        return "{" + ", ".join(f"{key!r}: {child}" for key, child in zip(extra, children, strict=True)) + "}"
    inside = ", ".join(str(child) for child in children)
    return f"[{inside}]" if kind is list else f"({inside}{',' if len(children) == 1 else ''})"

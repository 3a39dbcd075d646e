"""Matrix products in the form that costs least: transposes are read in place, outer products are multiplications."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from numgrad.graph.records import OPS
from numgrad.types import Shape, Spec

if TYPE_CHECKING:
    from numgrad.compiler.rewrite import Lowered, Value
    from numgrad.errors import SourceLine

__all__ = ["read_transposes_in_place", "simpler_product"]


def swaps_the_last_two(axes: Any) -> bool:
    """Whether a permutation of axes transposes matrices and leaves stacks alone."""
    n = len(axes)
    return n >= 2 and tuple(axes) == (*range(n - 2), n - 1, n - 2)


def _untransposed(value: Value, flag: bool) -> tuple[Value, bool]:
    """The operand of a product without the transpose that the product can do itself."""
    node = value.node
    if node.record.name == "permute_dims" and swaps_the_last_two(node.attrs["axes"]):
        return node.inputs[0], not flag
    return value, flag


def _is_one(dim: Any) -> bool:
    return isinstance(dim, int) and dim == 1


def simpler_product(lowered: Lowered, inputs: tuple[Value, ...], attrs: dict[str, Any], spec: Spec,
                    where: SourceLine | None) -> tuple[Value, ...] | None:
    """A product's value in another form, or None if it is best as it stands.

    Transposed operands are read where they are. An inner size of one makes an outer product, which fuses with what
    stands around it. A matrix times its own transpose is computed by half.
    """
    (a, ta), (b, tb) = _untransposed(inputs[0], attrs["transpose_a"]), _untransposed(inputs[1], attrs["transpose_b"])
    if _is_one(a.shape[-2 if ta else -1]):
        column, row = (*spec.shape[:-1], 1), (*spec.shape[:-2], 1, spec.shape[-1])
        factors = (_shaped(lowered, a, column, where), _shaped(lowered, b, row, where))
        return lowered.make(OPS["multiply"], factors, {}, (spec,), where)
    if a is b and ta != tb and spec.dtype.char in "fdFD" and not _is_one(spec.shape[-1]):
        return lowered.make(OPS["gram"], (a,), {"transpose": ta}, (spec,), where)
    if a is inputs[0] and b is inputs[1]:
        return None
    return lowered.make(OPS["matmul"], (a, b), {"transpose_a": ta, "transpose_b": tb}, (spec,), where)


def _shaped(lowered: Lowered, value: Value, shape: Shape, where: SourceLine | None) -> Value:
    return lowered.make(OPS["reshape"], (value,), {"shape": shape}, (Spec(value.dtype, shape),), where)[0]


def read_transposes_in_place(lowered: Lowered) -> None:
    """Let products whose only use is their transpose compute that."""
    uses = Counter(value for node in lowered.nodes for value in node.inputs)
    uses.update(lowered.outputs)
    for node in lowered.nodes:
        if node.record.name != "permute_dims" or not swaps_the_last_two(node.attrs["axes"]):
            continue
        product = node.inputs[0]
        if product.op == "matmul" and uses[product] == 1:
            a, b = product.node.inputs
            attrs = product.node.attrs
            node.record, node.inputs = product.node.record, (b, a)
            node.attrs = {"transpose_a": not attrs["transpose_b"], "transpose_b": not attrs["transpose_a"]}

"""Derivatives built of derivatives: Jacobians, `hessians` and `hessian_vector_product` as nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgrad.autodiff.aggregate import check_method
from numgrad.autodiff.arguments import (
    UnconnectedGradients,
    common_graph,
    cotangents_of,
    nodes,
    sequence,
    unconnected_of,
)
from numgrad.autodiff.batching import basis, batched, seed
from numgrad.autodiff.forward import pushforward
from numgrad.autodiff.reverse import build_gradients, differentiate
from numgrad.autodiff.slices import dense
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, apply
from numgrad.graph.graph import Graph
from numgrad.graph.scopes import scope_in
from numgrad.ops.kinds import as_node
from numgrad.types import Dim, Shape, is_trainable, size_product

__all__ = ["choose_mode", "full_jacobian", "hessians", "hessian_vector_product", "jacobian_blocks"]


def choose_mode(ys: Sequence[Tensor], xs: Sequence[Tensor]) -> str:
    """``"forward"`` when the xs are fewer than the ys as far as sizes are known, else ``"reverse"``.

    Complex results of real arguments need forward mode, real results of complex arguments reverse mode.
    """
    if any(x.dtype.kind == "c" for x in xs):
        return "reverse"
    if any(y.dtype.kind == "c" for y in ys):
        return "forward"
    counts = [_count(xs), _count(ys)]
    return "forward" if None not in counts and counts[0] < counts[1] else "reverse"  # type: ignore[operator]


def _count(tensors: Sequence[Tensor]) -> int | None:
    total = 0
    for tensor in tensors:
        size: Dim = size_product(tensor.spec.shape)
        known = size if isinstance(size, int) else size.env.hint(size)
        if known is None:
            return None
        total += known
    return total


def jacobian_blocks(ys: Sequence[Tensor], xs: Sequence[Tensor], mode: str) -> list[list[Tensor | None]]:
    """``dy/dx`` for each y and x, of shape ``y.shape + x.shape``; None where there is no path.

    One batched pull for each y, or one batched push for each x.
    """
    if mode == "forward":
        _require_same_field(ys, xs)
        columns = [_columns(ys, x) for x in xs]
        return [[column[i] for column in columns] for i in range(len(ys))]
    return [_rows(y, xs) for y in ys]


def _require_same_field(ys: Sequence[Tensor], xs: Sequence[Tensor]) -> None:
    if any(x.dtype.kind == "c" for x in xs) and any(y.dtype.kind != "c" for y in ys):
        raise DtypeError(f"jacobian: a real result of a complex argument has no forward Jacobian; use mode='reverse'"
                         f"{at(user_line())}")


def _rows(y: Tensor, xs: Sequence[Tensor]) -> list[Tensor | None]:
    if not is_trainable(y.dtype):
        return [None] * len(xs)
    cotangent = seed(y)
    pulled = build_gradients([y], xs, [cotangent])
    connected = [g for g in pulled if g is not None]
    found = iter(batched(connected, {cotangent: basis(y)}) if connected else [])
    result: list[Tensor | None] = []
    for gradient, x in zip(pulled, xs, strict=True):
        block = next(found) if gradient is not None else None
        if gradient is not None and block is None:  # a path, but zero whatever the cotangent: sign
            block = _zeros(y, x)
        if block is not None and x.dtype.kind == "c":
            block = apply("conj", block)  # a pull gives the conjugate of a row
        result.append(_shaped(block, y.spec.shape + x.spec.shape) if block is not None else None)
    return result


def _columns(ys: Sequence[Tensor], x: Tensor) -> list[Tensor | None]:
    tangent = seed(x)
    pushed = pushforward(ys, [x], [tangent])
    connected = [t for t in pushed if t is not None]
    found = iter(batched(connected, {tangent: basis(x)}) if connected else [])
    result: list[Tensor | None] = []
    for move, y in zip(pushed, ys, strict=True):
        block = next(found) if move is not None else None
        if move is not None and block is None:
            block = _zeros(y, x)
        elif block is not None:
            rank = len(y.shape)
            if rank:
                block = apply("permute_dims", block, axes=(*range(1, rank + 1), 0))
            block = _shaped(block, y.spec.shape + x.spec.shape)
        result.append(block)
    return result


def _shaped(tensor: Tensor, shape: Shape) -> Tensor:
    return tensor if len(shape) == len(tensor.shape) else apply("reshape", tensor, shape=shape)


def full_jacobian(ys: Sequence[Tensor], xs: Sequence[Tensor], mode: str) -> list[list[Tensor]]:
    """`jacobian_blocks` with zeros where there is no path."""
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f"jacobian: unknown mode {mode!r}, wanted 'auto', 'forward' or 'reverse'{at(user_line())}")
    blocks = jacobian_blocks(ys, xs, choose_mode(ys, xs) if mode == "auto" else mode)
    return [[block if block is not None else _zeros(y, x) for block, x in zip(row, xs, strict=True)]
            for row, y in zip(blocks, ys, strict=True)]


def _zeros(y: Tensor, x: Tensor) -> Tensor:
    dtype = y.dtype if y.dtype.kind == "c" or x.dtype.kind != "c" else x.dtype
    return apply("full", shape=y.spec.shape + x.spec.shape, value=0, dtype=dtype)


def _own_nodes(graph: Graph, ys: Any, xs: Any, what: str) -> tuple[list[Tensor], list[Tensor]]:
    return nodes(graph, sequence(ys, "ys"), "ys"), nodes(graph, sequence(xs, "xs"), "xs")


def hessians(ys: Any, xs: Any, gate_gradients: bool = False, aggregation_method: int | None = None,
             name: str = "hessians") -> list[Tensor]:
    """The second derivatives of the sum of ys with respect to each x, as new nodes of their graph.

    Parameters
    ----------
    ys : Tensor or sequence of Tensor
        Any shapes; all their elements are summed.
    xs : Tensor or sequence of Tensor
    gate_gradients, aggregation_method
        As in `gradients`; for the first derivatives.
    name : str
        Name scope of the new operations.

    Returns
    -------
    list of Tensor
        For each x a block of shape ``x.shape + x.shape``; no blocks between different xs.

    Raises
    ------
    RuntimeError
        Outside a graph.
    ValueError
        An x has no second derivative: no y depends on it, or every y is linear in it. `ng.hessian` gives zeros there.
    TypeError
        An x is complex.

    Notes
    -----
    ``H[i, j] = d^2(sum ys) / dx[i] dx[j]``: one gradient, and its pullback batched over all unit vectors.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ("n",))
    ...     h, = ng.hessians(ng.sum(x ** 3), x)
    >>> ng.run(h, {x: [1.0, 2.0]})
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return second_derivatives(ys, xs, gate_gradients, aggregation_method, name, colocate=True)


def second_derivatives(ys: Any, xs: Any, gate_gradients: bool, aggregation_method: int | None, name: str, *,
                       colocate: bool) -> list[Tensor]:
    """`hessians` with the choice whether gradient operations take the forward operations' device labels."""
    graph = common_graph(ys, xs)
    check_method(aggregation_method)
    with graph.as_default(), graph.lock, scope_in(graph, name):
        y_list, x_list = _own_nodes(graph, ys, xs, name)
        first = differentiate(y_list, x_list, None, "", gate_gradients, aggregation_method, None, "none",
                              colocate=colocate)
        result = []
        for i, (gradient, x) in enumerate(zip(first, x_list, strict=True)):
            if x.dtype.kind == "c":
                raise TypeError(f"hessians: x {i} ({x.name}) is {x.dtype}; second derivatives are for real "
                                f"xs{at(user_line())}")
            block = jacobian_blocks([dense(gradient)], [x], "reverse")[0][0] if gradient is not None else None
            if block is None:
                why = "no y depends on it" if gradient is None else "every y is linear in it"
                raise ValueError(f"hessians: there is no second derivative for x {i} ({x.name}): {why}; ng.hessian "
                                 f"gives zeros{at(user_line())}")
            result.append(block)
    return result


def hessian_vector_product(
    ys: Any, xs: Sequence[Any], v: Sequence[Any],
    unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE) -> list[Tensor | None]:
    """The product of the Hessian of the sum of ys with a vector, as new nodes of their graph.

    Parameters
    ----------
    ys : Tensor or sequence of Tensor
        Any shapes; all their elements are summed.
    xs : sequence of Tensor
    v : sequence of Tensor
        One for each x, of its shape or of one that broadcasts to it; taken as constant.
    unconnected_gradients : UnconnectedGradients or str
        What stands for an x without a second derivative: None, or zeros of its shape and dtype.

    Returns
    -------
    list of Tensor or None
        ``sum over j of d^2(sum ys)/dx_i dx_j v_j`` for each x; by default None where no second derivative exists.

    Raises
    ------
    RuntimeError
        Outside a graph.
    ValueError
        `xs` and `v` differ in length; an unknown choice for unconnected gradients.
    TypeError
        `xs` or `v` is no sequence.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ("n",))
    ...     hv, = ng.hessian_vector_product(ng.sum(x ** 3), [x], [ng.constant([1.0, 10.0])])
    >>> ng.run(hv, {x: [1.0, 2.0]})
    array([  6., 120.])
    """
    for what, given in (("xs", xs), ("v", v)):
        if not isinstance(given, (list, tuple)):
            raise TypeError(f"hessian_vector_product: {what} is a {type(given).__name__}, wanted a list or tuple of "
                            f"tensors{at(user_line())}")
    graph = common_graph(ys, xs, v)
    unconnected = unconnected_of(unconnected_gradients)
    if len(xs) != len(v):
        raise ValueError(f"hessian_vector_product: {len(xs)} xs and {len(v)} vectors{at(user_line())}")
    with graph.as_default(), graph.lock, scope_in(graph, "hessian_vector_product"):
        y_list, x_list = _own_nodes(graph, ys, xs, "hessian_vector_product")
        first = build_gradients(y_list, x_list, cotangents_of(None, y_list, True))
        pairs = [(g, apply("stop_gradient", as_node(graph, t))) for g, t in zip(first, v, strict=True) if g is not None]
        products = [apply("multiply", g, _like(t, g)) for g, t in pairs]
        found: list[Tensor | None] = [None] * len(x_list)
        if products:
            found = build_gradients(products, x_list, cotangents_of(None, products, True))
        if unconnected is UnconnectedGradients.NONE:
            return found
        return [apply("zeros_like", x) if g is None else g for g, x in zip(found, x_list, strict=True)]


def _like(vector: Tensor, gradient: Tensor) -> Tensor:
    if vector.dtype.kind == "c" and gradient.dtype.kind != "c":
        raise DtypeError(f"hessian_vector_product: a vector is {vector.dtype} for an x of "
                         f"{gradient.dtype}{at(user_line())}")
    return vector if vector.dtype == gradient.dtype else apply("cast", vector, dtype=gradient.dtype)

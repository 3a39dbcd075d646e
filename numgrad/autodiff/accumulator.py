"""`ForwardAccumulator`: carries tangents along with the values while they are computed."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

from numgrad.autodiff.arguments import UnconnectedGradients, unconnected_of
from numgrad.autodiff.forward import push
from numgrad.autodiff.recording import recorded
from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.sources import leaves_of, or_zeros
from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, as_tensor, current_graph, state
from numgrad.graph.records import OpRecord
from numgrad.graph.scopes import heard_by, start, stop
from numgrad.graph.variable import Variable
from numgrad.nest import arrange, unflatten
from numgrad.ops.kinds import cast_to
from numgrad.types import is_trainable

__all__ = ["ForwardAccumulator"]

_log = logging.getLogger("numgrad")


class ForwardAccumulator:
    """Compute directional derivatives together with the values.

    Parameters
    ----------
    primals : Tensor, Variable or nest of them
        With respect to what, each once.
    tangents : nest of array_like
        The direction: for each primal an array or tensor of its shape, in the same nest. Cast within the primal's kind
        of dtype.

    Raises
    ------
    ValueError
        Nests or shapes differ; a primal is named twice.
    TypeError
        A primal that is no tensor or variable; a tangent of a wrong kind.

    Notes
    -----
    While the accumulator is active in the thread that entered it, each operation on a value v with tangent t also
    computes ``J(v) t``. These computations are seen by accumulators and tapes that were entered before, not by those
    entered later: ``outer.jvp(inner.jvp(y))`` is a second derivative, and so is
    ``accumulator.jvp(tape.gradient(y, x))``, a product of the Hessian with the tangent. Tangents live as long as their
    tensors.

    Examples
    --------
    >>> import numgrad as ng
    >>> x = ng.asarray([1.0, 2.0])
    >>> with ng.ForwardAccumulator(x, [1.0, 10.0] * ng.asarray(1.0)) as accumulator:
    ...     with ng.GradientTape() as tape:
    ...         tape.watch(x)
    ...         y = ng.sum(x**3)
    ...     gradient = tape.gradient(y, x)
    >>> accumulator.jvp(y), accumulator.jvp(gradient).numpy()
    (ng.asarray(123., dtype=float64), array([  6., 120.]))
    """

    def __init__(self, primals: Any, tangents: Any) -> None:
        leaves, nest = leaves_of(primals, "ForwardAccumulator: primals")
        given = arrange(tangents, nest, "ForwardAccumulator: tangents")
        self._tangents: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._variables: dict[Variable, Tensor] = {}
        self._thread: int | None = None
        seen: set[Any] = set()
        for i, (primal, tangent) in enumerate(zip(leaves, given, strict=True)):
            if primal in seen:
                raise ValueError(f"ForwardAccumulator: primal {i} was specified multiple times{at(user_line())}")
            seen.add(primal)
            if not is_trainable(primal.dtype):
                _log.warning("ForwardAccumulator: %s primals have no derivatives", primal.dtype)
                continue
            self._begin(primal, _tangent(tangent, primal, i))

    def _begin(self, primal: Any, tangent: Tensor) -> None:
        if isinstance(primal, Variable):
            self._variables[primal] = tangent
            primal = primal.handle_in(current_graph())
        self._set(primal, tangent)

    def _set(self, tensor: Tensor, tangent: Tensor) -> None:
        key, table = id(tensor), self._tangents
        table[key] = (weakref.ref(tensor, lambda _: table.pop(key, None)), tangent)

    def _get(self, tensor: Tensor) -> Tensor | None:
        found = self._tangents.get(id(tensor))
        return found[1] if found is not None else None

    # -- recording
    def __enter__(self) -> ForwardAccumulator:
        if self._thread is not None:
            raise ValueError(f"ForwardAccumulator: it is active already and cannot be entered again{at(user_line())}")
        self._thread = threading.get_ident()
        start(self)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._thread is None:
            raise ValueError(f"ForwardAccumulator: it is not active{at(user_line())}")
        self._thread = None
        stop(self)

    def read(self, variable: Any, handle: Tensor) -> None:
        """Called before every read of a variable in the thread while the accumulator is active."""
        if variable in self._variables and self._get(handle) is None:
            self._set(handle, self._variables[variable])

    def follows(self, tensor: Tensor) -> bool:
        """Whether a tensor has a tangent."""
        return id(tensor) in self._tangents

    def operation(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                  attrs: dict[str, Any]) -> None:
        """Called for every operation of the thread while the accumulator is active."""
        table = self._tangents
        for tensor in inputs:
            if id(tensor) in table:
                break
        else:
            return
        outer = state.recorders[:state.recorders.index(self)] if self in state.recorders else ()
        with heard_by(outer):
            found = push(recorded(record, inputs, outputs, attrs), [self._get(t) for t in inputs])
            for tensor, tangent in zip(outputs, found, strict=True):
                if tangent is not None and is_trainable(tensor.dtype):
                    self._set(tensor, cast_to(tangent, tensor.dtype))

    # -- asking
    def jvp(self, primals: Any,
            unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE) -> Any:
        """The tangents that were computed along with some values.

        Parameters
        ----------
        primals : Tensor, Variable or nest of them
        unconnected_gradients : UnconnectedGradients or str
            What stands for a value that depends on no primal: None, or zeros.

        Returns
        -------
        nest
            In the nest of `primals`, for each the tangent, of its shape and dtype, or None. Nothing is computed.

        Raises
        ------
        ValueError
            An unknown choice for unconnected gradients.
        TypeError
            What is no tensor or variable.

        Notes
        -----
        ``sum over the accumulator's primals of dy/dx tangent``.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = ng.asarray(2.0)
        >>> with ng.ForwardAccumulator(x, ng.asarray(1.0)) as accumulator:
        ...     y = x * x
        >>> accumulator.jvp({"y": y, "x": x})
        {'y': ng.asarray(4., dtype=float64), 'x': ng.asarray(1., dtype=float64)}
        """
        unconnected = unconnected_of(unconnected_gradients)
        leaves, nest = leaves_of(primals, "jvp")
        return unflatten(nest, [self._answer(leaf, unconnected) for leaf in leaves])

    def _answer(self, leaf: Any, unconnected: UnconnectedGradients) -> Any:
        if isinstance(leaf, Variable):
            return or_zeros(self._variables.get(leaf), leaf.handle_in(current_graph()), unconnected)
        return or_zeros(self._get(leaf), leaf, unconnected)


def _tangent(given: Any, primal: Any, index: int) -> Tensor:
    what = f"ForwardAccumulator: tangent {index}"
    if given is None or isinstance(given, (list, tuple, dict)):
        raise ValueError(f"{what} is a {type(given).__name__}, wanted an array or tensor: tangents have the nest of "
                         f"the primals{at(user_line())}")
    tangent = as_tensor(given)
    require_shape(tangent.spec.shape, primal.spec.shape, what)
    if tangent.dtype.kind == "c" and primal.dtype.kind != "c":
        raise DtypeError(f"{what} is {tangent.dtype} for a primal of {primal.dtype}{at(user_line())}")
    return cast_to(tangent, primal.dtype)

"""`GradientTape`: records what is computed from watched tensors and variables, and differentiates the recording."""

from __future__ import annotations

from typing import Any

from numgrad.autodiff.arguments import UnconnectedGradients, unconnected_of
from numgrad.autodiff.rows import batch_jacobian_of, jacobian_of
from numgrad.autodiff.rules import require_shape
from numgrad.autodiff.sources import cotangents_for_targets, leaves_of, or_zeros, tensors_in, zeros_of
from numgrad.autodiff.tape_recording import RecordingTape
from numgrad.errors import at, user_line
from numgrad.graph.core import Tensor
from numgrad.graph.variable import Variable
from numgrad.nest import unflatten

__all__ = ["GradientTape"]


class GradientTape(RecordingTape):
    """Record operations, and differentiate the recording.

    Parameters
    ----------
    persistent : bool
        Whether derivatives can be taken more than once. Otherwise the recording is dropped with the first.
    watch_accessed_variables : bool
        Whether trainable variables are watched when they are read.

    Notes
    -----
    An operation is recorded if one of its inputs, of a floating or complex dtype, is watched or was computed from what
    is watched, while the tape is active in the thread that entered it. Inside a graph or a traced function the tape
    records the nodes that are made, and derivatives are further nodes. Derivatives are computed by operations of the
    library, so that tapes that are still active record them: tapes nest to any order. The recording is kept until it
    is used, until the tape is entered anew, or until the tape is dropped.

    Examples
    --------
    >>> import numgrad as ng
    >>> x = ng.asarray(3.0)
    >>> with ng.GradientTape() as outer:
    ...     outer.watch(x)
    ...     with ng.GradientTape() as inner:
    ...         inner.watch(x)
    ...         y = x * x * x
    ...     first = inner.gradient(y, x)
    >>> first.numpy(), outer.gradient(first, x).numpy()
    (array(27.), array(18.))
    """

    def gradient(self, target: Any, sources: Any, output_gradients: Any = None,
                 unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE) -> Any:
        """The sum of the derivatives of the targets with respect to each source.

        Parameters
        ----------
        target : Tensor, Variable or nest of them
            What is differentiated; the elements of all targets are summed. A variable stands for itself: differentiate
            what was read from it.
        sources : Tensor, Variable or nest of them
            With respect to what.
        output_gradients : nest, optional
            A cotangent for each target, in the targets' nest or in a flat list, of its shape; None is ones. Cast within
            the target's kind of dtype.
        unconnected_gradients : UnconnectedGradients or str
            What stands for a source on which no target depends: None, or zeros.

        Returns
        -------
        nest
            In the nest of `sources`, each entry of the source's shape and dtype: a Tensor, IndexedSlices where a source
            was only read by gathers along its first axis, or None.

        Raises
        ------
        RuntimeError
            A second derivative of a tape that is not persistent; a tape that was never entered; a tape that another
            thread is recording with.
        TypeError
            Targets or sources that are no tensors or variables; a cotangent of a wrong kind.
        ValueError
            Cotangents of a wrong number or shape; an unknown choice for unconnected gradients.
        LookupError
            An operation on the path has no derivative rule.

        Notes
        -----
        ``sum over targets of J^H cotangent``; with a real loss L the gradient g of a complex z satisfies
        ``dL = Re(conj(g) dz)``. Within the ``with`` block a persistent tape records the computation of the gradient as
        well, at the cost of memory; a tape that is not persistent stops recording.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = ng.asarray([1.0, 2.0])
        >>> with ng.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = ng.sum(x**3)
        >>> tape.gradient(y, x).numpy()
        array([ 3., 12.])
        """
        unconnected = unconnected_of(unconnected_gradients)
        targets, target_nest = leaves_of(target, "target")
        leaves, nest = leaves_of(sources, "sources")
        with self._used("gradient", targets) as (recording, graph):
            ys, xs = tensors_in(targets, graph), tensors_in(leaves, graph)
            cotangents = cotangents_for_targets(output_gradients, ys, target_nest)
            found = recording.gradients(ys, xs, cotangents, release=not self._persistent)
            return unflatten(nest, [or_zeros(g, x, unconnected) for g, x in zip(found, xs, strict=True)])

    def jacobian(self, target: Any, sources: Any,
                 unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
                 parallel_iterations: int | None = None, experimental_use_pfor: bool = True) -> Any:
        """The derivatives of every element of the target with respect to every element of each source.

        Parameters
        ----------
        target : Tensor or Variable
            One; of any shape.
        sources : Tensor, Variable or nest of them
            With respect to what.
        unconnected_gradients : UnconnectedGradients or str
            What stands for a source on which the target does not depend: None, or zeros.
        parallel_iterations : int, optional
            At most how many elements of the target are differentiated at a time. By default as many as fit into
            256 MiB with what is computed from them.
        experimental_use_pfor : bool
            Whether several elements are differentiated at a time, by batched operations. Otherwise one after the other,
            which needs a persistent tape outside of graphs.

        Returns
        -------
        nest
            In the nest of `sources`, dense tensors of shape ``target.shape + source.shape``, or None.

        Raises
        ------
        RuntimeError
            As `gradient`; elements one after the other with a tape that is not persistent.
        TypeError
            A target that is no tensor; sources that are no tensors or variables.
        ValueError
            An operation that cannot be batched, such as a Python callback; fewer than one element at a time.
        LookupError
            An operation on the path has no derivative rule.

        Notes
        -----
        Entry ``[i, j]`` is ``d target[i] / d source[j]``. It counts as the one use of a tape that is not persistent.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = ng.asarray([1.0, 2.0])
        >>> with ng.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.jacobian(y, x).numpy()
        array([[2., 0.],
               [0., 4.]])
        """
        unconnected = unconnected_of(unconnected_gradients)
        y = self._one(target, "jacobian", "target")
        leaves, nest = leaves_of(sources, "sources")
        self._check_rows("jacobian", y, parallel_iterations, experimental_use_pfor)
        with self._used("jacobian", [y]) as (recording, graph):
            (y,), xs = tensors_in([y], graph), tensors_in(leaves, graph)
            found = jacobian_of(recording, y, xs, parallel_iterations, experimental_use_pfor)
            shape = tuple(y.spec.shape)
            zeros = unconnected is UnconnectedGradients.ZERO
            return unflatten(nest, [zeros_of((*shape, *x.spec.shape), x.dtype) if g is None and zeros else g
                                    for g, x in zip(found, xs, strict=True)])

    def batch_jacobian(self, target: Any, source: Any,
                       unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
                       parallel_iterations: int | None = None, experimental_use_pfor: bool = True) -> Tensor:
        """The Jacobians of many independent examples, along the first axis of target and source.

        Parameters
        ----------
        target : Tensor or Variable
            Shape ``(b, y...)``; row i must depend on row i of the source only.
        source : Tensor or Variable
            Shape ``(b, x...)``.
        unconnected_gradients : UnconnectedGradients or str
            Checked, and without effect: the result is zeros when there is no path.
        parallel_iterations, experimental_use_pfor
            As in `jacobian`.

        Returns
        -------
        Tensor
            Shape ``(b, y..., x...)``.

        Raises
        ------
        ValueError
            Fewer than two axes, or first axes of different sizes; as `jacobian`.
        RuntimeError, TypeError, LookupError
            As `jacobian`.

        Notes
        -----
        Entry ``[k, i, j]`` is ``sum over l of d target[l, i] / d source[k, j]``. That rows do not depend on each other
        is not checked.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = ng.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> with ng.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.batch_jacobian(y, x).numpy()[1]
        array([[6., 0.],
               [0., 8.]])
        """
        unconnected_of(unconnected_gradients)
        y, x = self._one(target, "batch_jacobian", "target"), self._one(source, "batch_jacobian", "source")
        for leaf, what in ((y, "target"), (x, "source")):
            if leaf.ndim < 2:
                raise ValueError(f"batch_jacobian: the {what} must have rank at least 2, got {leaf.spec}"
                                 f"{at(user_line())}")
        require_shape(x.spec.shape[:1], y.spec.shape[:1],
                      "batch_jacobian: Need first dimension of target and source to be equal: that of the source")
        self._check_rows("batch_jacobian", y, parallel_iterations, experimental_use_pfor)
        with self._used("batch_jacobian", [y]) as (recording, graph):
            (y,), (x,) = tensors_in([y], graph), tensors_in([x], graph)
            found = batch_jacobian_of(recording, y, x, parallel_iterations, experimental_use_pfor)
            return zeros_of((*y.spec.shape, *x.spec.shape[1:]), y.dtype) if found is None else found

    def _one(self, given: Any, what: str, role: str) -> Any:
        if not isinstance(given, (Tensor, Variable)):
            raise TypeError(f"{what}: the {role} is a {type(given).__name__}, wanted one tensor{at(user_line())}")
        return given

    def _check_rows(self, what: str, target: Any, parallel_iterations: int | None, use_pfor: bool) -> None:
        if parallel_iterations is not None and parallel_iterations < 1:
            raise ValueError(f"{what}: parallel_iterations is {parallel_iterations}, wanted at least 1"
                             f"{at(user_line())}")
        eager = isinstance(target, Variable) or target.op is None
        if not use_pfor and eager and not self._persistent:
            raise RuntimeError(f"{what}: experimental_use_pfor=False differentiates the target's elements one after "
                               f"the other, which needs GradientTape(persistent=True){at(user_line())}")

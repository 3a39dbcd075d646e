"""`compile`: a graph's outputs as a callable, NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from numgrad.compiler.program import Bound, Program, compile_program
from numgrad.errors import GraphError, at, user_line
from numgrad.graph.core import Tensor
from numgrad.graph.graph import Graph
from numgrad.nest import LEAF, flatten, unflatten
from numgrad.ops.kinds import as_node
from numgrad.tracing.stateful import with_variables

__all__ = ["Compiled", "compile"]


class Compiled:
    """A compiled part of a graph; see `compile`.

    Attributes
    ----------
    program : Program
        The kernels and their order.
    graph : Graph
        The graph that was compiled.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ("n",))
    ...     f = ng.compile(x, ng.sum(x * x))
    >>> float(f([1.0, 2.0]))
    5.0
    """

    def __init__(self, program: Program, structure: Any) -> None:
        self.program, self._structure = program, structure
        self._single = structure == LEAF

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        if out is None:
            values: Sequence[Any] | None = self.program.fast(*arrays)
            if values is None:
                values = self.program(*arrays)
        else:
            values = self.program(*arrays, out=flatten(out)[0])
        return values[0] if self._single else unflatten(self._structure, values)

    def bind(self, *arrays: np.ndarray[Any, Any]) -> Bound:
        """Fix the arrays; calling the result runs the program on what they hold then, into reused outputs.

        Parameters
        ----------
        *arrays : numpy.ndarray
            C-contiguous arrays of the inputs' dtypes; they are not copied.

        Returns
        -------
        Bound
            Called without arguments; returns the list of outputs.

        Raises
        ------
        ShapeError
            For an array that would have to be copied.

        Examples
        --------
        >>> import numpy as np
        >>> import numgrad as ng
        >>> with ng.Graph().as_default():
        ...     x = ng.placeholder(ng.float64, (2,))
        ...     f = ng.compile(x, x + 1.0)
        >>> data = np.zeros(2)
        >>> step = f.bind(data)
        >>> data[:] = 5.0
        >>> step()[0]
        array([6., 6.])
        """
        return self.program.bind(*arrays)

    @property
    def graph(self) -> Graph:
        """The graph that was compiled."""
        return self.program.graph

    @property
    def source(self) -> str:
        """The generated kernels as Python text."""
        return self.program.source

    @property
    def njit(self) -> Any:
        """A Numba dispatcher with the same arguments, for use inside the user's own ``@njit`` code."""
        return self.program.njit

    def cfunc(self, signature: str) -> Any:
        """A Numba ``cfunc``; see `Program.cfunc`."""
        return self.program.cfunc(signature)

    def lowlevel(self) -> Any:
        """A `scipy.LowLevelCallable`; see `Program.lowlevel`."""
        return self.program.lowlevel()

    def plan(self) -> dict[str, Any]:
        """Steps, kernels, flops and bytes for the sizes of the latest call."""
        return self.program.plan()

    def profile(self, *arrays: Any, repeats: int = 5) -> list[dict[str, Any]]:
        """Seconds of each step, with its kernel and the user's line."""
        return self.program.profile(*arrays, repeats=repeats)


def compile(inputs: Any, outputs: Any, target: str = "cpu") -> Compiled:
    """Compile the part of a graph between placeholders and outputs.

    Parameters
    ----------
    inputs : Tensor or sequence of Tensor
        Placeholders, in the order in which the callable takes arrays.
    outputs : Tensor or nest of tensors
        What the callable returns: an array for a tensor, the same nest of arrays for a nest.
    target : {"cpu", "cuda"}
        Where it runs.

    Returns
    -------
    Compiled
        Takes arrays of the placeholders' dtypes (cast within a kind) and ranks; any sizes that fit, without compiling
        again.

    Raises
    ------
    GraphError
        When an input is no placeholder, or an output depends on a placeholder that is not an input.
    KernelError
        When an operation has no kernel for its dtypes.
    DeviceError
        For a target that cannot be used here.

    Examples
    --------
    >>> import numgrad as ng
    >>> with ng.Graph().as_default():
    ...     x = ng.placeholder(ng.float64, ("n",))
    ...     y = ng.sum(ng.exp(x))
    ...     f = ng.compile([x], [y, *ng.gradients(y, x)])
    >>> f([0.0, 0.0])
    [array(2.), array([1., 1.])]
    """
    given: Sequence[Any] = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    leaves, structure = flatten(outputs)
    graph = next((t.graph for t in (*given, *leaves) if isinstance(t, Tensor) and t.graph is not None), None)
    if graph is None:
        raise GraphError(f"compile: inputs and outputs must be tensors of a graph{at(user_line())}")
    program = with_variables(functools.partial(compile_program, target=target), given,
                             [as_node(graph, leaf) for leaf in leaves], {})
    return Compiled(program, structure)

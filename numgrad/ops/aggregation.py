"""The n-ary sum that gradient terms meet in."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from numgrad.graph.core import Operation, Tensor, apply, apply_all
from numgrad.ops.kinds import define, infer_same, operands

__all__ = ["add_n"]


def _add_n_vjp(op: Operation, cts: Any) -> list[Tensor | None]:
    return [cts[0]] * len(op.inputs)


def _add_n_jvp(op: Operation, tangents: Any) -> list[Tensor | None]:
    given = [t for t in tangents if t is not None]
    return [apply("add_n", *given) if len(given) > 1 else given[0]]


define("add_n", "elementwise", infer_same("add_n"), lambda *arrays: functools.reduce(np.add, arrays), vjp=_add_n_vjp,
       jvp=_add_n_jvp,
       samples=lambda rng: [([rng.normal(size=(2, 3)) for _ in range(k)], {}) for k in (1, 2, 5)],
       doc="The sum of any number of tensors of one shape.", public="add_n")


def add_n(values: Any) -> Tensor:
    """The elementwise sum of a sequence of tensors.

    Parameters
    ----------
    values : sequence of tensors
        Of equal shapes; dtypes are promoted.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numgrad as ng
    >>> ng.add_n([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).numpy()
    array([ 9., 12.])
    """
    return apply_all("add_n", *operands(list(values), "add_n"))[0]

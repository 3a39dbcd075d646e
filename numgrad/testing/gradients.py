"""`check_gradients`: derivatives in all modes and their mixes against an independent numerical method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgrad.errors import DtypeError, at, user_line
from numgrad.nest import flatten
from numgrad.testing.compare import Case, Checker
from numgrad.testing.numerical import COMPLEX_STEP, Derivative, Point, Reference, Vector, real_vector
from numgrad.testing.report import GradientMismatch, GradientReport
from numgrad.tracing.function import function
from numgrad.transforms import jvp, vjp

__all__ = ["check_gradients"]

_RTOL = {2: 5e-2, 4: 2e-3, 8: 1e-6}  # by bytes of the least precise real dtype that takes part
_FIRST_STEP = 2.0**-4
_ALL_FORWARD = "forward over forward"


class Derivatives:
    """What numgrad computes: compiled once, for any point, cotangent and direction."""

    def __init__(self, f: Callable[..., Any], point: Point) -> None:
        self.point = point

        def core(*arrays: Any) -> tuple[Any, ...]:
            leaves = flatten(f(*point.arguments(arrays)))[0]
            floating = tuple(leaf for leaf in leaves if getattr(leaf, "dtype", np.dtype(object)).kind in "fc")
            if not floating:
                raise _nothing_to_check("result")
            return floating

        def pulled(us: Any) -> Callable[..., Any]:
            return lambda *xs: vjp(core, *xs)[1](us)

        def pushed(vs: Any) -> Callable[..., Any]:
            return lambda *xs: jvp(core, xs, vs)[1]

        self.outputs = function(lambda xs: core(*xs))(point.arrays)
        self._modes = {
            "reverse": function(lambda xs, us: pulled(us)(*xs)),
            "forward": function(lambda xs, vs: pushed(vs)(*xs)),
            "forward over reverse": function(lambda xs, us, vs: jvp(pulled(us), xs, vs)[1]),
            "reverse over forward": function(lambda xs, us, vs: vjp(pushed(vs), *xs)[1](us)),
            "reverse over reverse": function(lambda xs, us, vs: vjp(pulled(us), *xs)[1](vs)),
            _ALL_FORWARD: function(lambda xs, vs, ws: jvp(pushed(vs), xs, ws)[1]),
        }

    def cotangent(self, u: Vector) -> tuple[NDArray[Any], ...]:
        """A real vector as cotangents of the outputs."""
        found, begin = [], 0
        for output in self.outputs:
            count = output.size * (2 if output.dtype.kind == "c" else 1)
            piece = np.ascontiguousarray(u[begin:begin + count])
            begin += count
            piece = piece.view(np.complex128) if output.dtype.kind == "c" else piece
            found.append(piece.reshape(output.shape).astype(output.dtype))
        return tuple(found)

    def __call__(self, mode: str, vector: Vector, *others: tuple[NDArray[Any], ...]) -> Vector:
        return real_vector(self._modes[mode](self.point.pieces(vector, exact=True), *others))


def all_cases(d: Derivatives, reference: Reference, order: int, modes: Sequence[str], u: Vector,
              v: Vector) -> list[Case]:
    point = d.point
    us, vs = d.cotangent(u), point.pieces(v, exact=True)
    v = real_vector(vs)  # as rounded to the arguments' dtypes

    def dotted(vector: Vector) -> Derivative:
        return lambda direction: float(vector @ direction)

    def exactly(direction: Vector) -> tuple[NDArray[Any], ...]:
        return point.pieces(direction, exact=True)

    def first(direction: Vector) -> tuple[float, float, str]:
        return reference.first(direction, u)

    cases = []
    if "reverse" in modes:
        cases.append(Case("reverse", dotted(d("reverse", point.vector, us)), first))
    if "forward" in modes:
        cases.append(Case("forward", lambda w: float(u @ d("forward", point.vector, exactly(w))), first))
    if order == 1:
        return cases

    def along(x: Vector) -> float:
        if reference.analytic:
            return float(u @ reference.values(x + 1j * COMPLEX_STEP * v).imag) / COMPLEX_STEP
        if "reverse" in modes:  # compared above, so that its own differences are a fair measure of the second order
            return float(d("reverse", x, us) @ v)
        return float(u @ d("forward", x, vs))

    def second(direction: Vector) -> tuple[float, float, str]:
        return reference.second(direction, along)

    mixes = [f"{outer} over {inner}" for outer in modes for inner in modes]
    for mix in mixes:
        if mix == _ALL_FORWARD:
            cases.append(Case(mix, lambda w: float(u @ d(_ALL_FORWARD, point.vector, vs, exactly(w))), second))
        else:
            cases.append(Case(mix, dotted(d(mix, point.vector, us, vs)), second))
    return cases


def _nothing_to_check(what: str) -> DtypeError:
    return DtypeError(f"check_gradients: there is no floating {what}, so nothing to differentiate{at(user_line())}")


def check_gradients(f: Callable[..., Any], args: tuple[Any, ...], order: int = 2,
                    modes: Sequence[str] = ("forward", "reverse"), *, rtol: float | None = None,
                    atol: float | None = None, eps: float | None = None, directions: int = 2,
                    seed: int = 0) -> GradientReport:
    """Compare derivatives of a function with an independent numerical method, and raise where they differ.

    Parameters
    ----------
    f : callable
        ``f(*args)``, of arrays or nests of arrays to arrays or nests of them; written with ``ng.*`` or ``np.*``. Smooth
        at `args`: at a kink the numerical derivative does not settle, which the error says.
    args : tuple
        The point. Floating and complex arrays and numbers are differentiated, all else is held fixed.
    order : {1, 2}
        1: values and first derivatives. 2: second derivatives too, in every mix of the modes.
    modes : sequence of {"forward", "reverse"}
    rtol, atol : float, optional
        An error up to ``atol + rtol * max(|got|, |wanted|)`` passes. By default rtol is 1e-6 for float64, 2e-3 for
        float32 and 5e-2 for float16, ten times that at second order, and atol a hundredth of rtol times the largest
        derivative seen.
    eps : float, optional
        The first step of the differences, relative to min(1, \\|x\\|); 1/16 by default.
    directions : int
        How many random directions and second directions are drawn; results are summed for the first and weighted at
        random for the others. Up to 32 elements each is checked on its
        own as well; beyond that an element is looked for only after a direction failed.
    seed : int
        For the random directions.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientMismatch (an AssertionError)
        With the element that differs most: argument, index, got, wanted, error, tolerance; `report` is attached.
    DtypeError
        When no argument or no result is floating.
    ValueError
        For another order or mode.

    Notes
    -----
    f is evaluated with NumPy on float64 copies of `args`. First derivatives of ``u @ f`` come from a complex step,
    ``Im f(x + i h v) / h`` with h = 1e-20 (Squire and Trapp 1998, doi:10.1137/S003614459631241X), if f takes complex
    numbers and agrees with differences there, otherwise from central differences extrapolated to step 0, whose
    estimated error widens the tolerance by at most a thousandth of the derivative. Second derivatives are such
    differences of first derivatives by a complex step, or else of numgrad's own first derivatives, compared before.

    Examples
    --------
    >>> import numpy as np, numgrad as ng
    >>> report = ng.testing.check_gradients(lambda w, x: np.tanh(x @ w), (np.ones(3), np.eye(3) / 2))
    >>> report.passed
    True
    """
    if order not in (1, 2):
        raise ValueError(f"check_gradients: got order {order!r}, wanted 1 or 2{at(user_line())}")
    if not modes or any(m not in ("forward", "reverse") for m in modes):
        raise ValueError(f"check_gradients: got modes {modes!r}, wanted forward, reverse or both{at(user_line())}")
    if not isinstance(args, tuple):
        raise TypeError(f"check_gradients: got {type(args).__name__}, wanted a tuple of arguments{at(user_line())}")
    point = Point(args)
    if not point.arrays:
        raise _nothing_to_check("argument")
    derivatives = Derivatives(f, point)
    least = min(a.dtype.itemsize // (2 if a.dtype.kind == "c" else 1) for a in (*point.arrays, *derivatives.outputs))
    checker = Checker(point, _RTOL[least] if rtol is None else rtol, atol)
    reference = Reference(f, point, _FIRST_STEP if eps is None else eps)
    checker.values(real_vector(derivatives.outputs), reference.values(point.vector))
    count = real_vector(derivatives.outputs).size
    if point.vector.size and count:
        generator = np.random.default_rng(seed)
        reference.settle(checker.random(generator))
        for draw in range(directions):
            weights = generator.normal(size=count) if draw else np.ones(count)  # the sum first: its figures can be read
            u = real_vector(derivatives.cotangent(weights))
            cases = all_cases(derivatives, reference, order, modes, u, checker.random(generator))
            checker.compare(cases, checker.random(generator), elements=draw == 0)
    else:  # no element to compare, but rules must give what is as empty
        all_cases(derivatives, reference, order, modes, np.zeros(count), np.zeros(point.vector.size))
    report = GradientReport(tuple(checker.comparisons))
    if not report.passed:
        raise GradientMismatch(f"check_gradients: {report.worst}{at(user_line())}\n{report}", report)
    return report

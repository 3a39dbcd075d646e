"""Random programs of loops and branches: eager, interpreted, compiled, against plain Python with exact derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import numgrad as ng
from tests.loop_programs import Jet, Plain, Traced, programs, result

many = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
few = settings(many, max_examples=6, phases=[Phase.explicit, Phase.generate])  # smaller ones would take minutes
POINT, LINE = (0.63, -0.41), (0.8, -0.6)
points = st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0)).map(lambda p: (round(p[0], 3), round(p[1], 3)))


def wanted(program: Any, point: Any) -> Jet:
    """The value, and the derivatives along the line."""
    return result(Plain(), program, *(Jet(x, d) for x, d in zip(point, LINE)))


def along(program: Any, point: Any) -> Any:
    """The program as a function of the place on the line."""
    return lambda t: result(Traced(), program, *(x + d * t for x, d in zip(point, LINE)))


def close(got: Any, want: float, what: str) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9, err_msg=what)


def slope_by_tape(f: Any, t: Any) -> Any:
    with ng.GradientTape() as tape:
        tape.watch(t)
        y = f(t)
    return tape.gradient(y, t, unconnected_gradients="zero")


@many
@given(programs(), points)
def test_eager_programs(program: Any, point: Any) -> None:
    """Values, slopes and second derivatives by tapes, whose loops run step by step."""
    want, f, t = wanted(program, point), along(program, point), ng.asarray(0.0)
    close(f(t), want.v, "value")
    close(slope_by_tape(f, t), want.d, "tape")
    close(slope_by_tape(lambda t: slope_by_tape(f, t), t), want.dd, "tape over tape")
    with ng.ForwardAccumulator(t, ng.asarray(1.0)) as forward:
        slope = slope_by_tape(f, t)
    close(forward.jvp(slope) if forward.jvp(slope) is not None else 0.0, want.dd, "forward over tape")


def derivatives(f: Any, t: Any) -> tuple[list[str], list[Any]]:
    """Nodes of all derivatives to the second order."""
    from numgrad.autodiff.forward import pushforward

    def slope(y: Any) -> Any:
        return ng.gradients(y, t, unconnected_gradients="zero")[0]

    def push(y: Any) -> Any:
        found = pushforward([y], [t], [ng.ones_like(t)])[0]
        return found if found is not None else ng.zeros_like(t)

    y = f(t)
    first = push(y)
    backward = slope(y)
    named = {"value": y, "forward": first, "forward over forward": push(first), "reverse": backward,
             "reverse over reverse": slope(backward), "forward over reverse": push(backward),
             "reverse over forward": slope(first)}
    return list(named), list(named.values())


def compare(names: Any, values: Any, want: Jet) -> None:
    for name, value in zip(names, values, strict=True):
        close(value, (want.v if name == "value" else want.dd if "over" in name else want.d), name)


@many
@given(programs(), points)
def test_interpreted_graphs(program: Any, point: Any) -> None:
    """Every mix of modes, in a graph that the interpreter runs."""
    with ng.Graph().as_default():
        t = ng.placeholder(ng.float64, ())
        names, nodes = derivatives(along(program, point), t)
    compare(names, ng.run(nodes, {t: 0.0}), wanted(program, point))


@few
@given(programs(), points)
def test_compiled_programs(program: Any, point: Any) -> None:
    """Every mix of modes, compiled, at two points with one program."""
    with ng.Graph().as_default():
        t, x, y = (ng.placeholder(ng.float64, ()) for _ in range(3))
        names, nodes = derivatives(lambda t: result(Traced(), program, x + LINE[0] * t, y + LINE[1] * t), t)
        run = ng.compile([t, x, y], nodes)
    for at in (point, POINT):
        compare(names, run(0.0, *at), wanted(program, at))

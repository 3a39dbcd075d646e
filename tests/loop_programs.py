"""Random programs of loops and branches: how they are drawn, and how they run in numgrad and in plain Python.

A program is a block: a list of statements that change named scalars ``a b c`` and a vector ``v`` of three. All values
stay below about 1, and all functions are analytic, so that plain Python over `Jet` numbers gives first and second
derivatives to rounding. Choices are made by comparison with odd constants, so that none is ever at its kink.
"""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

import numgrad as ng

SCALARS = ("a", "b", "c")
WIDTH = 3
ROWS = (0.31, -0.82, 0.57, 1.13)
THRESHOLDS = (-0.41731, -0.1372, 0.0537, 0.29117)


# -- drawing programs
def expressions(depth: int, inside: bool) -> st.SearchStrategy[Any]:
    """Scalar expressions of the variables; `inside` a loop also of its row or counter."""
    leaves = [st.sampled_from(SCALARS).map(lambda n: ("var", n)),
              st.sampled_from((0.7, -1.2, 0.35)).map(lambda c: ("num", c)),
              st.just(("sum",))]
    if inside:
        leaves.append(st.just(("row",)))
    leaf = st.one_of(leaves)
    if not depth:
        return leaf
    below = expressions(depth - 1, inside)
    return st.one_of(leaf, st.tuples(st.sampled_from(("add", "sub", "mul", "div")), below, below),
                     st.tuples(st.sampled_from(("sin", "cos", "tanh")), below))


def statements(depth: int, inside: bool) -> st.SearchStrategy[Any]:
    """Statements; those with blocks of their own while `depth` lasts."""
    name, value = st.sampled_from(SCALARS), expressions(2, inside)
    found = [st.tuples(st.just("let"), name, value), st.tuples(st.just("mix"), value),
             st.tuples(st.just("map"), name, expressions(1, True))]
    if depth:
        inner, here = blocks(depth - 1, True), blocks(depth - 1, inside)
        found += [
            st.tuples(st.just("scan"), name, st.booleans(), expressions(1, True), inner),
            st.tuples(st.just("for"), st.integers(0, 3), inner),
            st.tuples(st.just("times"), value, inner),
            st.tuples(st.just("while"), st.sampled_from(THRESHOLDS), st.integers(0, 4), inner),
            st.tuples(st.just("cond"), value, st.sampled_from(THRESHOLDS), here, here),
            st.tuples(st.just("switch"), value, here, here, here),
            st.tuples(st.just("array"), name, st.integers(1, 4), st.integers(0, 3), value, inner),
            st.tuples(st.just("list"), name, st.sampled_from(THRESHOLDS), value),
        ]
    return st.one_of(found)


def blocks(depth: int, inside: bool = False) -> st.SearchStrategy[Any]:
    return st.lists(statements(depth, inside), min_size=1, max_size=3).map(tuple)


def programs(depth: int = 2) -> st.SearchStrategy[Any]:
    return blocks(depth)


# -- numbers that carry two derivatives along one line
class Jet:
    """A value with its first and second derivative by one variable."""

    __slots__ = ("d", "dd", "v")

    def __init__(self, v: float, d: float = 0.0, dd: float = 0.0) -> None:
        self.v, self.d, self.dd = v, d, dd

    def through(self, f: float, f1: float, f2: float) -> Jet:
        return Jet(f, f1 * self.d, f2 * self.d * self.d + f1 * self.dd)

    def __add__(self, other: Any) -> Jet:
        o = jet(other)
        return Jet(self.v + o.v, self.d + o.d, self.dd + o.dd)

    def __mul__(self, other: Any) -> Jet:
        o = jet(other)
        return Jet(self.v * o.v, self.d * o.v + self.v * o.d, self.dd * o.v + 2 * self.d * o.d + self.v * o.dd)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Any) -> Jet:
        return self + jet(other) * -1.0

    def __rsub__(self, other: Any) -> Jet:
        return jet(other) - self

    def __rtruediv__(self, other: Any) -> Jet:
        return jet(other) / self

    def __truediv__(self, other: Any) -> Jet:
        o = jet(other)
        return self * o.through(1 / o.v, -1 / o.v**2, 2 / o.v**3)


def jet(value: Any) -> Jet:
    return value if isinstance(value, Jet) else Jet(float(value))


# -- running them
class Plain:
    """Plain Python over jets."""

    def function(self, name: str, x: Any) -> Jet:
        x = jet(x)
        if name == "tanh":
            t = math.tanh(x.v)
            return x.through(t, 1 - t * t, -2 * t * (1 - t * t))
        s, c = math.sin(x.v), math.cos(x.v)
        return x.through(s, c, -s) if name == "sin" else x.through(c, -s, -c)

    def vector(self, values: list[Any]) -> list[Any]:
        return values

    def mixed(self, v: list[Any], x: Any) -> list[Any]:
        return [self.function("sin", p * x + q * 0.5) for p, q in zip(v, v[::-1])]

    def total(self, v: list[Any]) -> Any:
        return v[0] * v[0] + v[1] * v[1] + v[2] * v[2]

    def scan(self, step: Any, state: Any, reverse: bool) -> tuple[Any, Any]:
        out: Any = 0.0
        for row in reversed(ROWS) if reverse else ROWS:
            state, y = step(state, row)
            out = jet(y) * row + out
        return state, out

    def steps(self, count: int, step: Any, state: Any) -> Any:
        for i in range(count):
            state = step(i, float(i), state)
        return state

    def times(self, x: Any, step: Any, state: Any) -> Any:
        return self.steps(math.floor(jet(x).v * 1.3 + 2.0717), step, state)

    def repeat(self, going: Any, step: Any, state: Any, most: int) -> Any:
        for i in range(most):
            if not going(state):
                break
            state = step(float(i), state)
        return state

    def above(self, x: Any, threshold: float) -> bool:
        return jet(x).v > threshold

    def branch(self, which: Any, choices: list[Any]) -> Any:
        return choices[int(which)]()

    def third(self, x: Any) -> int:
        return min(max(math.floor(jet(x).v * 1.5 + 1.517), 0), 2)

    def mapped(self, f: Any) -> Any:
        return sum((jet(f(row)) * row for row in ROWS), Jet(0.0))

    def array(self, size: int) -> Any:
        return [Jet(0.0)] * size

    def write(self, array: Any, i: Any, x: Any) -> Any:
        return [jet(x) if k == i % len(array) else y for k, y in enumerate(array)]

    def read(self, array: Any, i: Any) -> Any:
        return array[i % len(array)]

    def weighted(self, array: Any) -> Any:
        return sum((x * (0.5 + k) for k, x in enumerate(array)), Jet(0.0))

    def pushed(self, array: Any, x: Any) -> Any:
        return [*array, jet(x)]

    def held(self, capacity: int) -> Any:
        return []

    def summed(self, held: Any) -> Any:
        out = Jet(0.0)
        while held:
            out, held = self.function("sin", out + held[-1]), held[:-1]
        return out


class Traced:
    """numgrad's loops and branches, eager or traced."""

    def function(self, name: str, x: Any) -> Any:
        return getattr(ng, name)(x)

    def vector(self, values: list[Any]) -> Any:
        return ng.stack([ng.asarray(v) if isinstance(v, float) else v for v in values])

    def mixed(self, v: Any, x: Any) -> Any:
        return ng.sin(v * x + v[::-1] * 0.5)

    def total(self, v: Any) -> Any:
        return ng.sum(v * v)

    def scan(self, step: Any, state: Any, reverse: bool) -> tuple[Any, Any]:
        state, ys = ng.scan(lambda s, row: step(s, row), state, ng.asarray(ROWS), reverse=reverse)
        return state, ng.sum(ys * ng.asarray(ROWS))

    def steps(self, count: Any, step: Any, state: Any) -> Any:
        return ng.fori_loop(0, count, lambda i, s: step(i, ng.astype(i, ng.float64), s), state)

    def times(self, x: Any, step: Any, state: Any) -> Any:
        return self.steps(ng.astype(ng.floor(ng.asarray(x) * 1.3 + 2.0717), ng.int64), step, state)

    def repeat(self, going: Any, step: Any, state: Any, most: int) -> Any:
        return ng.while_loop(lambda i, s: going(s), lambda i, s: (i + 1.0, step(i, s)), (0.0, state),
                             maximum_iterations=most)[1]

    def above(self, x: Any, threshold: float) -> Any:
        return ng.asarray(x) > threshold

    def branch(self, which: Any, choices: list[Any]) -> Any:
        if which.dtype == bool:
            return ng.cond(which, choices[1], choices[0])
        return ng.switch_case(which, choices)

    def third(self, x: Any) -> Any:
        return ng.astype(ng.clip(ng.floor(ng.asarray(x) * 1.5 + 1.517), 0.0, 2.0), ng.int64)

    def mapped(self, f: Any) -> Any:
        return ng.sum(ng.map(lambda row: f(row) + 0.0 * row, ng.asarray(ROWS)) * ng.asarray(ROWS))

    def array(self, size: int) -> Any:
        return ng.TensorArray(ng.float64, size, ())

    def write(self, array: Any, i: Any, x: Any) -> Any:
        return array.write(i % len(array), x)

    def read(self, array: Any, i: Any) -> Any:
        return array.read(i % len(array))

    def weighted(self, array: Any) -> Any:
        return ng.sum(array.stack() * (ng.arange(len(array)) + 0.5))

    def pushed(self, held: Any, x: Any) -> Any:
        return held.push_back(x)

    def held(self, capacity: int) -> Any:
        return ng.TensorList(ng.float64, (), capacity)

    def summed(self, held: Any) -> Any:
        def step(out: Any, held: Any) -> Any:
            held, last = held.pop_back()
            return ng.sin(out + last), held

        return ng.while_loop(lambda out, held: held.length > 0, step, (0.0, held))[0]


def evaluate(machine: Any, expression: Any, state: dict[str, Any]) -> Any:
    kind, *parts = expression
    if kind == "var":
        return state[parts[0]]
    if kind == "num":
        return parts[0]
    if kind == "row":
        return state["row"]
    if kind == "sum":
        return machine.total(state["v"])
    values = [evaluate(machine, part, state) for part in parts]
    if kind in ("sin", "cos", "tanh"):
        return machine.function(kind, values[0])
    a, b = values
    if kind == "div":
        return a / (machine.function("cos", b) + 2.0)
    return a + b if kind == "add" else a - b if kind == "sub" else a * b


def changed(block: Any) -> set[str]:
    """The variables that a block assigns; only these are variables of a loop, the others are read from around it."""
    found: set[str] = set()
    for statement in block:
        kind = statement[0]
        found |= {"v"} if kind == "mix" else set()
        found |= {statement[1]} if kind in ("let", "scan", "map", "array", "list") else set()
        for part in statement[1:]:
            if isinstance(part, tuple) and part and isinstance(part[0], tuple):
                found |= changed(part)
    return found


def execute(machine: Any, block: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state after a block."""
    state = dict(state)
    for statement in block:
        kind, *parts = statement
        bodies = [p for p in parts if isinstance(p, tuple) and p and isinstance(p[0], tuple)]
        names = sorted(set().union(*(changed(b) for b in bodies)) if bodies else set())
        own = {n: state[n] for n in names}

        def body(block: Any, values: Any, row: Any = None, state: Any = state, names: Any = names) -> Any:
            inside = state | values | ({"row": row} if row is not None else {})
            after = execute(machine, block, inside)
            return {n: after[n] for n in names}

        if kind == "let":
            state[parts[0]] = machine.function("sin", evaluate(machine, parts[1], state))
        elif kind == "mix":
            state["v"] = machine.mixed(state["v"], evaluate(machine, parts[0], state))
        elif kind == "map":
            row_of = lambda row, state=state, e=parts[1]: evaluate(machine, e, state | {"row": row})  # noqa: E731
            state[parts[0]] = machine.function("tanh", machine.mapped(row_of) + state[parts[0]])
        elif kind == "scan":
            name, reverse, result, block_inside = parts
            after, total = machine.scan(
                lambda s, row, b=block_inside, e=result, state=state: (
                    (new := body(b, s, row)), evaluate(machine, e, state | new | {"row": row}) + 0.0 * row),
                own, reverse)
            state |= after
            state[name] = machine.function("sin", total + state[name])
        elif kind == "for":
            state |= machine.steps(parts[0], lambda i, x, s, b=parts[1]: body(b, s, x), own)
        elif kind == "times":
            count = machine.function("tanh", evaluate(machine, parts[0], state))
            state |= machine.times(count, lambda i, x, s, b=parts[1]: body(b, s, x), own)
        elif kind == "while":
            threshold, most, block_inside = parts
            state |= machine.repeat(lambda s, t=threshold, state=state: machine.above((state | s)["a"], t),
                                    lambda x, s, b=block_inside: body(b, s, x), own, most)
        elif kind == "cond":
            test = machine.above(evaluate(machine, parts[0], state), parts[1])
            state |= machine.branch(test, [lambda b=b, own=own: body(b, own) for b in (parts[3], parts[2])])
        elif kind == "switch":
            which = machine.third(evaluate(machine, parts[0], state))
            state |= machine.branch(which, [lambda b=b, own=own: body(b, own) for b in parts[1:]])
        elif kind == "array":
            state |= array_statement(machine, parts, state, own, body)
        else:
            state |= list_statement(machine, parts, state)
    return state


def array_statement(machine: Any, parts: Any, state: Any, own: Any, body: Any) -> dict[str, Any]:
    """A loop that writes and reads elements of an array while it runs a block."""
    name, size, stride, value, block = parts

    def step(i: Any, x: Any, carried: Any) -> Any:
        array, own = carried
        own = body(block, own, x)
        now = state | own | {"row": x}
        array = machine.write(array, i * stride + 1, machine.read(array, i) * 0.5 + evaluate(machine, value, now))
        return machine.write(array, i, machine.function("sin", machine.read(array, i + 1))), own

    array, own = machine.steps(size, step, (machine.array(size), own))
    return own | {name: machine.function("tanh", machine.weighted(array) + (state | own)[name])}


def list_statement(machine: Any, parts: Any, state: Any) -> dict[str, Any]:
    """A loop of unknown length that pushes to a list, and one that pops from it."""
    name, threshold, value = parts
    pushed = evaluate(machine, value, state)

    def step(x: Any, carried: Any) -> Any:
        held, y = carried
        return machine.pushed(held, y), machine.function("cos", y + x + pushed)

    start = machine.function("cos", pushed + state[name])
    held, _ = machine.repeat(lambda s: machine.above(s[1], threshold), step, (machine.held(6), start), 5)
    return {name: machine.summed(held)}


def result(machine: Any, program: Any, x: Any, y: Any) -> Any:
    """The number that a program makes of two."""
    start = {"a": machine.function("sin", x), "b": machine.function("cos", y), "c": x * y}
    start["v"] = machine.vector([start["a"], x * 0.5, y * 0.3])
    state = execute(machine, program, start)
    return state["a"] + state["b"] * 0.7 + state["c"] * 0.4 + machine.total(state["v"]) * 0.3

"""Graphs as text, DOT, SVG and HTML; and the checker, which finds every planted fault."""

from __future__ import annotations

import stat
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.errors import GraphError
from numgrad.graph import show as show_module
from numgrad.graph.check import check_graph
from numgrad.graph.core import Operation, Tensor, apply_all
from numgrad.graph.records import OPS
from numgrad.graph.show import show

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def no_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings are numgrad's own, whatever is installed here."""
    monkeypatch.setattr(show_module.shutil, "which", lambda name: None)


def energy() -> ng.Graph:
    with ng.Graph().as_default() as graph:
        x = ng.placeholder("float64", ("n",), name="x")
        with ng.name_scope("energy"), ng.device("cpu:1"):
            y = ng.sum(ng.log(ng.cosh(x)), axis=0)
        with ng.control_dependencies([y]):
            ng.multiply(y, ng.constant(2.0), )
        ng.constant(np.arange(10.0), name="table")
    return graph


def gradients() -> ng.Graph:
    """A graph with views, products, several outputs, unknown sizes that were found equal, and its gradients."""
    with ng.Graph().as_default() as graph:
        x = ng.placeholder("float64", ("n", None), name="x")
        w = ng.placeholder("float64", (None,), name="w")
        q, r = np.linalg.qr(ng.matmul(ng.matrix_transpose(x), x))
        y = ng.sum(ng.tanh(ng.matmul(x, w))) + ng.sum(q) + ng.sum(r) + ng.sum(ng.concat([w, w[1:]], axis=0))
        grads = ng.gradients(y, [x, w])
        ng.gradients(ng.sum(grads[1]), [w])
    return graph


# -- text
def test_text_is_stable_and_complete() -> None:
    assert show(energy()) == """graph of 7 operations
  x: float64(n,) = placeholder()
  energy/cosh: float64(n,) = cosh(x) on cpu:1
  energy/log: float64(n,) = log(energy/cosh) on cpu:1
  energy/sum: float64() = sum(energy/log, axes=(0,)) on cpu:1
  constant: float64() = constant(value=2.0) after energy/sum
  multiply: float64() = multiply(energy/sum, constant) after energy/sum
  table: float64(10,) = constant(value=<float64(10,)>)"""
    assert show(energy()) == show(energy())


def test_text_shows_assumptions_several_outputs_and_what_tensors_depend_on() -> None:
    graph = gradients()
    text = show(graph)
    assert "qr:0" in text and "assumes" in text
    y = energy().operations[2].outputs[0]
    assert [line.split(":")[0].strip() for line in show(y).splitlines()[1:]] == ["x", "energy/cosh", "energy/log"]
    assert show([y]) == show(y)


def test_functions_and_compiled_callables_show_their_graph() -> None:
    @ng.function
    def f(x: Any) -> Any:
        return np.sum(x * x)

    with pytest.raises(GraphError, match="call it once"):
        show(f)
    f(np.ones(3))
    assert "multiply" in show(f) and show(f) == show(f.graph)
    with ng.Graph().as_default() as graph:
        x = ng.placeholder("float64", ())
        compiled = ng.compile([x], ng.exp(x))
    assert "exp" in show(compiled) and "exp" in show(graph)


@pytest.mark.parametrize("thing", [3, ng.asarray([1.0]), [], np.sin], ids=str)
def test_what_has_no_graph_is_refused(thing: Any) -> None:
    with pytest.raises(GraphError, match="has no graph; wanted a graph.*test_show_check.py"):
        show(thing)


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ValueError, match="unknown format 'pdf', wanted one of text, dot, svg, html"):
        show(energy(), "pdf")


# -- drawings
def test_dot_has_a_node_for_each_operation_and_an_edge_for_each_input() -> None:
    graph = gradients()
    text = show(graph, "dot")
    assert text.startswith("digraph numgrad {") and text.endswith("}")
    assert text.count("[label=\"") - text.count("-> ") <= len(graph.operations)
    for op in graph.operations:
        assert f"  n{op.number} [label=" in text
        for tensor in op.inputs:
            assert f"  n{tensor.op.number} -> n{op.number}" in text
    assert "style=dashed" in show(energy(), "dot")


def test_labels_are_escaped() -> None:
    with ng.Graph().as_default() as graph:
        ng.placeholder("float64", (), name='a"<b>\\&')
    assert '"a\\"<b>\\\\&\\nfloat64()"' in show(graph, "dot")
    root = ElementTree.fromstring(show(graph, "svg"))
    assert root.find(f".//{SVG}title").text == 'a"<b>\\&'  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [energy, gradients, ng.Graph])
def test_svg_draws_every_operation_once_without_overlap(make: Callable[[], ng.Graph]) -> None:
    graph = make()
    root = ElementTree.fromstring(show(graph, "svg"))
    boxes = {g.get("id"): g.find(f"{SVG}rect") for g in root.iter(f"{SVG}g")}
    assert set(boxes) == {f"n{op.number}" for op in graph.operations}
    places = {}
    for name, box in boxes.items():
        places[name] = tuple(float(box.get(k)) for k in ("x", "y", "width", "height"))  # type: ignore[union-attr, arg-type]
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for name, (x, y, w, h) in places.items():
        assert 0 <= x and x + w <= width + 1 and 0 <= y and y + h <= height + 1
        for other, (u, v, s, _) in places.items():
            assert other == name or v != y or x + w <= u or u + s <= x, f"{name} on {other}"
    for op in graph.operations:
        for tensor in op.inputs:
            assert places[f"n{tensor.op.number}"][1] < places[f"n{op.number}"][1]
    edges = {(t.op, op) for op in graph.operations for t in op.inputs}
    controls = {(c, op) for op in graph.operations for c in op.control_inputs}
    assert len([p for p in root.iter(f"{SVG}path") if p.get("marker-end")]) == len(edges) + len(controls)
    assert show(graph, "svg") == show(graph, "svg")


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_stands_alone_and_lists_operations_with_their_lines() -> None:
    graph = energy()
    page = Collector()
    page.feed(show(graph, "html"))
    assert page.loaded == []
    assert page.tags.count("svg") == 1 and page.tags.count("tr") == len(graph.operations) + 1
    assert "energy/log: float64(n,) = log(energy/cosh) on cpu:1" in page.text
    assert page.text.count("test_show_check.py") == len(graph.operations)


def test_graphviz_draws_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nread first\necho '<?xml?><svg>drawn of' $first '</svg>'\nexit ${DOT_STATUS:-0}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(show_module.shutil, "which", lambda name: str(program))
    assert show(energy(), "svg") == "<svg>drawn of digraph numgrad { </svg>"
    monkeypatch.setenv("DOT_STATUS", "1")
    assert "xmlns" in show(energy(), "svg")
    monkeypatch.setattr(show_module.shutil, "which", lambda name: str(tmp_path / "missing"))
    assert "xmlns" in show(energy(), "svg")


def test_a_deep_graph_is_shown_and_checked_without_recursion() -> None:
    with ng.Graph().as_default() as graph:
        x = ng.placeholder("float64", ())
        for _ in range(3000):
            x = ng.sin(x)
    check_graph(graph)
    assert len(show(graph).splitlines()) == 3002
    assert show(graph, "svg").count("<rect") == 3001


# -- the checker
@pytest.mark.parametrize("make", [energy, gradients, ng.Graph])
def test_legal_graphs_pass_and_are_left_as_they_are(make: Callable[[], ng.Graph]) -> None:
    graph = make()
    before = show(graph), len(graph.sizes.guards), len(graph.sizes.symbols)
    check_graph(graph)
    assert before == (show(graph), len(graph.sizes.guards), len(graph.sizes.symbols))


def test_graphs_of_traced_derivatives_pass() -> None:
    def f(x: Any, w: Any) -> Any:
        return np.sum(np.where(x @ w > 0, np.exp(x @ w), 0.0)) + np.mean(x[:, 1:] ** 2)

    x, w = np.ones((4, 3)), np.ones(3)
    for made in (ng.value_and_grad(f, argnums=(0, 1)), ng.hessian(f, argnums=1), ng.jacobian(ng.grad(f))):
        made(x, w)
        check_graph(made.graph)


def swap(graph: ng.Graph) -> None:
    a, b = graph.operations[1:3]
    graph.operations[1:3] = [b, a]
    a.number, b.number = b.number, a.number


def set_on(index: int, name: str, value: Any) -> Callable[[ng.Graph], None]:
    def plant(graph: ng.Graph) -> None:
        setattr(graph.operations[index], name, value(graph) if callable(value) else value)

    return plant


def set_output(index: int, name: str, value: Any) -> Callable[[ng.Graph], None]:
    def plant(graph: ng.Graph) -> None:
        setattr(graph.operations[index].outputs[0], name, value(graph) if callable(value) else value)

    return plant


def other_size(graph: ng.Graph) -> Any:
    return (ng.Graph().sizes.fresh("k"),)


def foreign(graph: ng.Graph) -> tuple[Tensor, ...]:
    return (energy().operations[0].outputs[0],)


def unassumed(graph: ng.Graph) -> None:
    """An operation that adds n and m numbers while nothing says that n == m."""
    n, m = graph.sizes.fresh("n"), graph.sizes.fresh("m")
    with graph.as_default():
        a = ng.placeholder("float64", (n,))
        b = ng.placeholder("float64", (m,))
        spec = a.spec
        graph.add(OPS["add"], (a, b), {}, (spec,))


def misfit(graph: ng.Graph) -> None:
    """An operation that adds 10 and 3 numbers."""
    table, three = graph.operations[6].outputs[0], graph.constant(np.ones(3))
    graph.add(OPS["add"], (table, three), {}, (table.spec,))


# In `energy`: 0 x, 1 cosh, 2 log, 3 sum, 4 constant, 5 multiply, 6 table.
FAULTS: dict[str, tuple[Callable[[ng.Graph], None], str]] = {
    "order": (swap, "which is made later or is not in the graph"),
    "number": (set_on(2, "number", 9), "has number 9, wanted its place in the graph, 2"),
    "missing operation": (lambda g: g.operations.pop(1), "has number 2, wanted its place"),
    "graph": (set_on(1, "graph", lambda g: ng.Graph()), "belongs to another graph"),
    "same name": (set_on(2, "name", "x"), "has a name that another operation has"),
    "no name": (set_on(2, "name", ""), "has no name"),
    "record": (set_on(1, "record", lambda g: replace(OPS["cosh"])), "has a record that is not in the op table"),
    "another record": (set_on(3, "record", lambda g: OPS["cosh"]), r"has output 0 of shape \(\), wanted \(n,\)"),
    "foreign input": (set_on(1, "inputs", foreign), "reads x:0 of another graph"),
    "eager input": (set_on(1, "inputs", lambda g: (ng.asarray(1.0),)), "has the eager tensor"),
    "input that is no tensor": (set_on(1, "inputs", (3.0,)), "has input 0 = 3.0, wanted a tensor"),
    "input twin": (lambda g: setattr(g.operations[1], "inputs", (Tensor(np.dtype("f8"), (), g.operations[0], 0),)),
                   "which is not an output of 'x'"),
    "cycle": (lambda g: setattr(g.operations[1], "inputs", g.operations[2].outputs), "made later"),
    "control later": (lambda g: setattr(g.operations[1], "control_inputs", (g.operations[3],)),
                      "wanted an earlier operation"),
    "dtype": (set_output(1, "dtype", np.dtype("f4")), "dtype float32, wanted float64 by its rule"),
    "unsupported dtype": (set_output(1, "dtype", np.dtype("M8[s]")), "is not supported"),
    "byte order": (set_output(1, "dtype", np.dtype(">f8")), "is not supported"),
    "shape": (set_output(1, "shape", (3,)), r"shape \(3,\), wanted \(n,\) by its rule"),
    "negative size": (set_output(1, "shape", (-1,)), "size -1, wanted a non-negative integer"),
    "size of another graph": (set_output(1, "shape", other_size), "size k of another graph"),
    "output index": (set_output(1, "index", 1), "does not know its operation or index"),
    "outputs missing": (set_on(1, "outputs", ()), "is not an output of|has 0 outputs, wanted 1"),
    "tensor in attributes": (lambda g: g.operations[3].attrs.update(axes=g.operations[0].outputs[0]), "hides"),
    "size in attributes": (lambda g: g.operations[3].attrs.update(k=(ng.Graph().sizes.fresh("k"),)),
                           "a size of another graph"),
    "list in attributes": (lambda g: g.operations[3].attrs.update(axes=[0]), "has a list in attribute axes"),
    "writable constant": (lambda g: g.operations[6].attrs.update(value=np.zeros(10)),
                          "a writable array in attribute value"),
    "attributes against the rule": (lambda g: g.operations[3].attrs.update(axes=()), r"shape \(\), wanted \(n,\)"),
    "rule refuses": (misfit, "breaks its own rule: ShapeError.*cannot broadcast"),
    "attribute missing": (lambda g: g.operations[3].attrs.clear(), "breaks its own rule: KeyError"),
    "sizes that nothing says are equal": (unassumed, "fit only if n == m, which the graph does not assume"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    graph = energy()
    plant, message = FAULTS[name]
    for op in graph.operations:
        if op.attrs:
            op.attrs = dict(op.attrs)
    plant(graph)
    with pytest.raises(GraphError, match=message) as caught:
        check_graph(graph)
    assert "operation '" in str(caught.value) and "test_show_check.py" in str(caught.value)


def test_the_checker_leaves_an_illegal_graph_as_it_is() -> None:
    graph = energy()
    unassumed(graph)
    guards, bound = len(graph.sizes.guards), [s.bound for s in graph.sizes.symbols]
    for _ in range(2):
        with pytest.raises(GraphError, match="n == m"):
            check_graph(graph)
    assert (guards, bound) == (len(graph.sizes.guards), [s.bound for s in graph.sizes.symbols])


def test_every_sample_of_every_operation_makes_a_legal_graph() -> None:
    rng = np.random.default_rng(0)
    checked: set[str] = set()
    for name, record in OPS.items():
        if record.samples is None:
            continue
        for arrays, attrs in record.samples(rng):
            with ng.Graph().as_default() as graph:
                inputs = [ng.placeholder(np.asarray(a).dtype, np.shape(a)) for a in arrays]
                outputs = apply_all(name, *inputs, **attrs)
            assert isinstance(outputs[0].op, Operation)
            check_graph(graph)
            checked.add(name)
    assert len(checked) > 50

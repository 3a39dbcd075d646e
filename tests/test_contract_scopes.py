"""The gradient contract, sections H and S: names, gating, control inputs, device labels, threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import numgrad as ng
from numgrad.graph.core import current_graph
from tests.contract import made_by, scalar, value, values


def test_name_of_the_scope() -> None:
    """H1: `name`, None is "gradients", "" is the caller's scope; made unique for each call, nested in the active
    scope."""
    with ng.Graph().as_default() as graph:
        x = scalar(name="x")
        y = ng.square(x)
        for kwargs, prefix in (({}, "gradients/"), ({"name": None}, "gradients_1/"), ({"name": "slope"}, "slope/"),
                               ({"name": "slope"}, "slope_1/"), ({"name": ""}, "")):
            _, made = made_by(graph, lambda kwargs=kwargs: ng.gradients(y, x, **kwargs))
            assert [op.name for op in made][0] == f"{prefix}grad_ys_0"
            assert all(op.name.startswith(prefix) for op in made)
        with ng.name_scope("outer"):
            _, made = made_by(graph, lambda: ng.gradients(y, x))
            assert all(op.name.startswith("outer/gradients/") for op in made)
            _, made = made_by(graph, lambda: ng.gradients(y, x, name=""))
            assert made[0].name == "outer/grad_ys_0"


def test_scope_of_each_operation() -> None:
    """H2: gradient operations stand under <scope>/<forward name>_grad/ and carry the forward operation's line; seeds
    do not."""
    with ng.Graph().as_default() as graph:
        with ng.name_scope("outer"):
            x = scalar()
            y = graph.add(ng.square(x).op.record, (x,), {}, (x.spec,), "sq").outputs[0]
            _, made = made_by(graph, lambda: ng.gradients(y, x))
        backward = [op for op in made if "_grad/" in op.name]
        assert backward and all(op.name.startswith("outer/gradients/outer/sq_grad/") for op in backward)
        assert {str(op.where) for op in backward} == {str(y.op.where)} and str(made[0].where) != str(y.op.where)


def test_no_name_is_reserved() -> None:
    """H3: after a call with name="" the name uid is free."""
    with ng.Graph().as_default():
        x = scalar()
        ng.gradients(x * x, x, name="")
        assert ng.constant(1.0, name="uid").op.name == "uid"


def test_what_is_in_force_around_the_call_applies() -> None:
    """H4, H5: control inputs and, without colocation, the device label of the caller."""
    with ng.Graph().as_default() as graph:
        x, first = scalar(), scalar()
        with ng.device("cpu:1"):
            y = ng.square(x)
        with ng.control_dependencies([first]), ng.device("cpu:2"):
            _, made = made_by(graph, lambda: ng.compat.v1.gradients(y, x))
            assert all(first.op in op.control_inputs for op in made)
            assert {op.device for op in made} == {"cpu:2"}
        _, made = made_by(graph, lambda: ng.gradients(y, x))
        assert not any(op.control_inputs for op in made)


def test_labels_under_colocation() -> None:
    """H5: seeds take y's label, gradient operations their forward operation's, sums the summed tensor's."""
    with ng.Graph().as_default() as graph:
        with ng.device("cpu:0"):
            x = scalar()
        with ng.device("cpu:1"):
            a = ng.sin(x)
        with ng.device("cpu:2"):
            y = a * ng.exp(x)
        with ng.device("cpu:9"):
            _, made = made_by(graph, lambda: ng.gradients(y, x, aggregation_method=ng.AggregationMethod.TREE))
        labels = {op.name: op.device for op in made}
        assert labels["gradients/grad_ys_0"] == "cpu:2"
        for part, label in (("multiply_grad", "cpu:2"), ("sin_grad", "cpu:1"), ("exp_grad", "cpu:2"),
                            ("gradient_sum", "cpu:0")):
            assert {d for n, d in labels.items() if part in n} == {label}, part


@pytest.mark.parametrize("gate", [False, True, 2])
def test_gating(gate: Any) -> None:
    """H6: the cotangents of an operation with several wait for each other; others do not; values are the same."""
    with ng.Graph().as_default() as graph:
        x, z = scalar(), scalar()
        y = ng.exp(x * z)
        (dx, dz), made = made_by(graph, lambda: ng.gradients(y, [x, z], gate_gradients=gate))
        gates = [op for op in made if "control_dependency" in op.name]
        if gate:
            assert [op.name for op in gates] == ["gradients/multiply_grad/control_dependency",
                                                 "gradients/multiply_grad/control_dependency_1"]
            assert {op.type for op in gates} == {"identity"} and [dx.op, dz.op] == gates
            waited = {op.inputs[0].op for op in gates}
            assert len(waited) == 2 and all(set(op.control_inputs) == waited for op in gates)
        else:
            assert gates == []
        assert values([dx, dz], {x: 0.5, z: 2.0}) == [2.0 * np.exp(1.0), 0.5 * np.exp(1.0)]
        f = ng.compile([x, z], [dx, dz])
    assert np.allclose(f(0.5, 2.0), [2.0 * np.e, 0.5 * np.e], rtol=1e-15)


def test_gated_rows_stay_rows() -> None:
    """H6: a row-sparse cotangent beside a dense one passes the gate as it is."""
    @ng.RegisterGradient("ContractGatedRows")
    def rule(op: Any, ct: Any) -> Any:
        return ng.IndexedSlices(ct, [0, 1], (2,)), ct

    with ng.Graph().as_default() as graph:
        x, z = ng.placeholder(ng.float64, (2,)), ng.placeholder(ng.float64, (2,))
        with graph.gradient_override_map({"multiply": "ContractGatedRows"}):
            y = x * z
        rows, tensor = ng.gradients(y, [x, z], gate_gradients=True)
        assert isinstance(rows, ng.IndexedSlices) and isinstance(tensor, ng.Tensor)
        assert values([rows, tensor], {x: np.ones(2), z: np.ones(2)}) == [[1.0, 1.0], [1.0, 1.0]]


def test_one_graph_and_its_gradients_built_from_several_threads() -> None:
    """S1: threads add to one graph, and take gradients in it, at the same time; every result is right and every name
    is one's own."""
    graph = ng.Graph()
    with graph.as_default():
        x = scalar()
    start = threading.Barrier(4)

    def work(k: int) -> Any:
        with graph.as_default():
            start.wait()
            y = x
            for _ in range(20):
                y = ng.sin(y) * (k + 1.0)
            return y, ng.gradients(y, x)[0]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    names = [op.name for op in graph.operations]
    assert len(names) == len(set(names)) and [op.number for op in graph.operations] == list(range(len(names)))
    for k, (y, g) in enumerate(found):
        wanted, slope = 0.5, 1.0
        for _ in range(20):
            wanted, slope = np.sin(wanted) * (k + 1.0), np.cos(wanted) * (k + 1.0) * slope
        assert value(y, {x: 0.5}) == pytest.approx(wanted, rel=1e-12)
        assert value(g, {x: 0.5}) == pytest.approx(slope, rel=1e-9)


def test_running_while_another_thread_adds() -> None:
    """S1: compiled and interpreted runs of a graph to which another thread adds gradients."""
    graph = ng.Graph()
    with graph.as_default():
        x = ng.placeholder(ng.float64, ("n",))
        y = ng.sum(ng.exp(x) * x)
        (g,) = ng.gradients(y, x)
        f = ng.compile(x, g)
    wanted = np.exp(0.5) * 1.5
    stop = threading.Event()
    added = []

    def build() -> None:
        with graph.as_default():
            while not stop.is_set() and len(added) < 300:
                added.append(ng.gradients(y, x)[0])

    builder = threading.Thread(target=build)
    builder.start()
    try:
        for n in range(1, 60):
            for got in (f(np.full(n, 0.5)), ng.run(g, {x: np.full(n, 0.5)})):
                np.testing.assert_allclose(got, np.full(n, wanted), rtol=1e-14)
    finally:
        stop.set()
        builder.join()
    assert added and value(added[-1], {x: [0.5]}) == pytest.approx([wanted])


def test_the_forward_graph_is_left_as_it_is() -> None:
    """S2, K7: gradients only add; calling again gives independent, equal results."""
    with ng.Graph().as_default() as graph:
        x = scalar()
        y = ng.exp(x) * ng.sin(x)

        def facts() -> list[Any]:
            return [(op.name, op.type, op.inputs, op.outputs, op.control_inputs, dict(op.attrs)) for op in forward]

        forward = list(graph.operations)
        before = facts()
        first, second = ng.gradients(y, x)[0], ng.gradients(y, x)[0]
        assert graph.operations[: len(forward)] == forward and facts() == before
        assert first is not second and value(first, {x: 1.0}) == value(second, {x: 1.0})


def test_default_graphs_belong_to_threads() -> None:
    """S3: a graph entered in one thread is not the default of another."""
    with ng.Graph().as_default(), ThreadPoolExecutor(1) as pool:
        assert current_graph() is not None and pool.submit(current_graph).result() is None

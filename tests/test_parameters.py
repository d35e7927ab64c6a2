"""Launch parameters that have names: on the reference target, and on the CUDA target with a fake driver."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConstantArgument, KernelNode
from forerun.ir.parameters import named_parameters, with_values
from forerun.ir.refinement.certificate import certify
from forerun.ir.text import parse_graph, print_graph
from forerun.kernels import rmsnorm
from forerun.runtime.parameters import Parameters
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import BAD
from tests.runtime.cuda.support import on_fake

X = np.arange(1, 9, dtype=np.float32)


def norms(*, body: bool = False, eps: float = 1.0) -> Graph:
    """Two norms with one eps, and one with a constant of its own."""
    builder = forerun.GraphBuilder("norms")
    x, w = builder.input("x", "f32", 8), builder.weight("w", "f32", 8)
    named = builder.parameter("eps", eps)
    for name, value in (("a", named), ("b", named), ("c", 1.0)):
        y = builder.output(name, "f32", 8)
        builder.launch(rmsnorm, node=name, x=x, w=w, y=y, eps=value)
    graph = builder.build()
    return inside(graph) if body else graph


def inside(graph: Graph) -> Graph:
    """The graph as a child graph."""
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    return Graph("outer", *tables, [ChildGraphNode("child", graph.without_tables())])


def expected(eps: float) -> np.ndarray:
    return X / np.sqrt(np.mean(X * X) + np.float32(eps))


@contextmanager
def on_reference(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> Iterator[Any]:
    with forerun.compile(graph, pipeline="", weights={"w": np.ones(8, np.float32)}) as program:
        yield program


@contextmanager
def adversarial(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> Iterator[Any]:
    target = "reference{schedule=adversarial}"
    with forerun.compile(graph, target, "exact", weights={"w": np.ones(8, np.float32)}) as program:
        yield program


@contextmanager
def on_fake_cuda(monkeypatch: pytest.MonkeyPatch, graph: Graph, api: FakeCuda | None = None) -> Iterator[Any]:
    weights = {"w": np.ones(8, np.float32)}
    with (
        on_fake(monkeypatch, api),
        forerun.compile(graph, forerun.CudaTarget(prove=False), "", weights=weights) as program,
    ):
        yield program


TARGETS = [on_reference, adversarial, on_fake_cuda]


@pytest.mark.parametrize("loaded", TARGETS)
def test_all_nodes_that_use_a_name_get_the_value(loaded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with loaded(monkeypatch, norms()) as program:
        parameters = program.parameters
        assert (dict(parameters), len(parameters), "eps" in parameters) == ({"eps": 1.0}, 1, True)
        assert parameters.nodes("eps") == ("a", "b")
        assert repr(parameters) == "Parameters({'eps': 1.0})"
        for eps in (1.0, 4.0, np.float32(0.5), 2):
            parameters["eps"] = eps
            found = program(x=X)
            assert parameters["eps"] == eps
            assert type(parameters["eps"]) is float
            for name, value in (("a", eps), ("b", eps), ("c", 1.0)):
                np.testing.assert_allclose(found[name], expected(float(value)), rtol=1e-6)


def test_state_and_weights_stay() -> None:
    builder = forerun.GraphBuilder("state")
    x, m = builder.input("x", "f32", 8), builder.state("m", "f32", 8)
    builder.launch(rmsnorm, x=x, w=m, y=m, eps=builder.parameter("eps", 1.0), node="norm")
    with forerun.compile(builder.build(), pipeline="") as program:
        program.write("m", X)
        program.parameters["eps"] = 3.0
        np.testing.assert_allclose(program.read("m"), X)
        program(x=X)
        np.testing.assert_allclose(program.read("m"), X * expected(3.0), rtol=1e-6)


WRONG = [
    ("epz", 1.0, "no launch parameter is named 'epz'\nhint: did you mean 'eps'"),
    ("eps", "1.0", "parameter 'eps' is f32, and not '1.0'"),
    ("eps", True, "and not True"),
    ("eps", None, "and not None"),
    ("eps", 1j, "and not 1j"),
    ("eps", 10**400, "too large"),
    ("eps", 1e300, "too large"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
@pytest.mark.parametrize("loaded", TARGETS)
def test_wrong_assignments_change_nothing(
    loaded: Callable[..., Any], name: str, value: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(monkeypatch, norms()) as program:
        with pytest.raises(InvalidInput, match=said):
            program.parameters.update({"eps": 9.0, name: value})
        assert program.parameters["eps"] == 1.0
        np.testing.assert_allclose(program(x=X)["a"], expected(1.0), rtol=1e-6)
    with pytest.raises(InvalidInput, match="is closed"):
        program.parameters["eps"] = 2.0


def test_integers() -> None:
    text = """
        forerun 1 graph g
        buffer %y : f32[1] state
        kernel @a(y: f32[1], n: scalar u8) { role r { phase p writes y scalars n ref "forerun.kernels.add:run" } }
        node #a = @a(y=%y, n=1 as n)
    """
    given: list[Any] = []
    parameters = Parameters(named_parameters(parse_graph(text)), given.append)
    parameters["n"] = np.int64(255)
    assert given == [{"n": 255}]
    for value, said in ((256, "256 is not in 0..255"), (-1, "-1 is not in"), (1.0, "1.0 is not an integer")):
        with pytest.raises(InvalidInput, match=said):
            parameters["n"] = value
    parameters["n"] = 255
    assert given == [{"n": 255}]


def test_what_has_other_bits_is_assigned() -> None:
    given: list[Any] = []
    parameters = Parameters(named_parameters(norms(eps=0.0)), given.append)
    for value in (0, -0.0, -0.0, math.nan, math.nan):
        parameters["eps"] = value
    assert [str(values["eps"]) for values in given] == ["-0.0", "nan", "nan"]


def test_a_graph_without_names_says_how_to_give_them() -> None:
    with forerun.compile(norms(eps=1.0), pipeline="", weights={"w": X}) as program:
        assert "x" not in program.parameters
        assert program.parameters.get("x", 7) == 7
        assert program.parameters.get("eps") == 1.0
    builder = forerun.GraphBuilder("none")
    builder.output("y", "f32", 1)
    builder.fill("y")
    with (
        forerun.compile(builder.build()) as program,
        pytest.raises(InvalidInput, match=r"hint: GraphBuilder\.parameter makes one"),
    ):
        program.parameters["eps"] = 1.0


def test_the_driver_is_told_of_the_nodes_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    with on_fake_cuda(monkeypatch, norms(), api) as program:
        program.parameters["eps"] = 2.0
        assert api.log.count("cuGraphExecNodeSetParams") == 2
        program.parameters["eps"] = 2.0
        assert api.log.count("cuGraphExecNodeSetParams") == 2


def test_if_the_driver_refuses_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCuda()
    with on_fake_cuda(monkeypatch, norms(), api) as program:
        original, calls = api.cuGraphExecNodeSetParams, []

        def refuse_second(*arguments: Any) -> Any:
            calls.append(arguments)
            return (BAD,) if len(calls) == 2 else original(*arguments)

        monkeypatch.setattr(api, "cuGraphExecNodeSetParams", refuse_second, raising=False)
        with pytest.raises(forerun.ForerunError, match="cuGraphExecNodeSetParams"):
            program.parameters["eps"] = 2.0
        assert program.parameters["eps"] == 1.0
        found = program(x=X)
        np.testing.assert_allclose(found["a"], expected(1.0), rtol=1e-6)
        np.testing.assert_allclose(found["b"], expected(1.0), rtol=1e-6)


def test_nodes_in_bodies_are_refused_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_fake_cuda(monkeypatch, norms(body=True)) as program:
        assert program.parameters.nodes("eps") == ("child/a", "child/b")
        with pytest.raises(Unsupported, match="node 'child/a' uses a parameter that is to change"):
            program.parameters["eps"] = 2.0
        assert program.parameters["eps"] == 1.0
    with on_reference(monkeypatch, norms(body=True)) as program:
        program.parameters["eps"] = 2.0
        np.testing.assert_allclose(program(x=X)["b"], expected(2.0), rtol=1e-6)


# The constants themselves


def test_names_count() -> None:
    assert ConstantArgument(1.0, "a") != ConstantArgument(1.0)
    assert len({ConstantArgument(1.0, "a"), ConstantArgument(1.0, "b"), ConstantArgument(1.0, "a")}) == 2


def test_text() -> None:
    graph = norms()
    text = print_graph(graph)
    assert "eps=1.0 as eps)" in text
    assert parse_graph(text) == graph
    assert named_parameters(graph)["eps"].nodes == ("a", "b")


def test_passes_conclude_nothing_from_a_value_that_may_change() -> None:
    """Norms with one parameter are the same; one with an equal constant is another."""
    builder = forerun.GraphBuilder("twice")
    x, w = builder.input("x", "f32", 8), builder.weight("w", "f32", 8)
    eps = builder.parameter("eps", 1.0)
    for name, value in (("a", eps), ("b", eps), ("c", 1.0)):
        inner, out = builder.temp(f"t{name}", "f32", 8), builder.output(f"o{name}", "f32", 8)
        builder.launch(rmsnorm, node=name, x=x, w=w, y=inner, eps=value)
        builder.launch(rmsnorm, node=f"again_{name}", x=inner, w=w, y=out, eps=2.0)
    after = forerun.PassManager("merge-equal-nodes").run(builder.build()).graph
    assert [name for name in ("a", "b", "c") if name in after.nodes] == ["a", "c"]


def test_a_certificate_notices_a_name_that_is_lost() -> None:
    graph = norms()
    edit = graph.edit()
    node = graph.nodes["a"]
    assert isinstance(node, KernelNode)
    arguments = tuple((p, ConstantArgument(1.0) if p == "eps" else a) for p, a in node.arguments)
    edit.replace_node(replace(node, arguments=arguments))
    assert not certify(graph, edit.commit()).proved


def test_other_values() -> None:
    graph = norms(body=True)
    other = with_values(graph, {"eps": 2.0})
    assert named_parameters(other)["eps"].value == 2.0
    assert with_values(other, {"eps": 1.0}) == graph
    assert with_values(graph, {}) is graph


def test_values_without_names() -> None:
    values: Any = [("eps", 2.0)]
    with forerun.compile(norms(), "reference", weights={"w": X}) as program:
        with pytest.raises(InvalidInput, match="values are given by name, not as list"):
            program.parameters.update(values)
        assert program.parameters["eps"] == 1.0

"""The text form of any graph parses back to the graph, exactly."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given

from forerun.ir.affine import Affine
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import (
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EmptyNode,
    KernelNode,
    Node,
)
from forerun.ir.text import parse_graph, print_graph, print_kernel, print_node
from forerun.ir.types import HOST, BufferRole, DType
from forerun.support.diagnostics import InvalidInput
from tests.programs import Style, programs
from tests.strategies import every_nonsense, graphs, graphs_of_nonsense, portion, tidy_graphs

STRING = re.compile(r'(?<!!)"(?:[^"\\]|\\.)*"')


def round_trip(graph: Graph) -> Graph:
    text = print_graph(graph)
    back = parse_graph(text)
    assert back == graph
    assert print_graph(back) == text
    for table in ("buffers", "kernels", "nodes"):
        assert list(getattr(back, table)) == list(getattr(graph, table))
    return back


@portion(60)
@given(graph=graphs())
def test_broken_graphs(graph: Graph) -> None:
    back = round_trip(graph)
    for kind, count in Counter(type(node).__name__ for node in back).items():
        event(f"{kind}: {count}")
    event(f"dangling: {sum(d.target not in graph.nodes for d in graph.dependencies)}")


@portion(10)
@given(graph=graphs(depth=3))
def test_nested_bodies(graph: Graph) -> None:
    round_trip(graph)


@portion(25)
@given(graph=tidy_graphs())
def test_tidy_graphs(graph: Graph) -> None:
    event(f"nodes: {len(graph)}")
    round_trip(graph)


@portion(25)
@given(graph=programs(Style()))
def test_programs(graph: Graph) -> None:
    round_trip(graph)


@portion(25)
@given(graph=graphs_of_nonsense())
def test_nonsense_is_marked_rather_than_misread(graph: Graph) -> None:
    event(marked_or_equal(graph))


def marked_or_equal(graph: Graph) -> str:
    text = print_graph(graph)
    assert print_graph(graph) == text
    if "!" in STRING.sub("", text):
        with pytest.raises(InvalidInput) as caught:
            parse_graph(text)
        assert "P10" in {d.code for d in caught.value.diagnostics}
        return "marked"
    assert parse_graph(text) == graph
    return "equal"


@pytest.mark.parametrize("table", ["allocations", "buffers", "kernels", "nodes", "dependencies"])
def test_nonsense_in_every_field(table: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "text-format.md").read_text(encoding="utf-8")
    graph = parse_graph(page.split("```forerun\n")[1].split("```")[0])
    found = Counter()
    for element in graph.dependencies if table == "dependencies" else getattr(graph, table).values():
        for odd in every_nonsense(element):
            found[marked_or_equal(Graph("g", **{table: [odd]}))] += 1
    assert found["marked"] > 10 * found["equal"] > 0


def constants(*values: float) -> Graph:
    arguments = tuple((f"a{i}", ConstantArgument(value)) for i, value in enumerate(values))
    return Graph("g", nodes=[KernelNode("n", "k", arguments)])


def test_numbers_keep_their_type_and_all_their_bits() -> None:
    values = [1, 1.0, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1, math.inf, -math.inf, 2**63, -(10**4900)]
    node = round_trip(constants(*values)).nodes["n"]
    assert isinstance(node, KernelNode)
    found = [argument.value for _, argument in node.arguments if isinstance(argument, ConstantArgument)]
    assert [repr(v) if isinstance(v, float) else v for v in found] == [
        repr(v) if isinstance(v, float) else v for v in values
    ]
    assert list(map(type, found)) == list(map(type, values))


def test_integers_have_a_limit() -> None:
    round_trip(constants(16**4094 - 1))
    assert marked_or_equal(constants(16**4094)) == "marked"


def test_numbers_of_numpy() -> None:
    assert print_graph(constants(np.float32(0.5), np.float64(0.1), np.int64(3))) == print_graph(constants(0.5, 0.1, 3))


def test_not_a_number_equals_itself() -> None:
    round_trip(constants(math.nan))


def test_an_allocation_of_its_own_has_no_line() -> None:
    buffer = Buffer("x", DType.F32, (4,), BufferRole.TEMP, "x")
    graph = Graph("g", [Allocation("x", 16, HOST)], [buffer])
    assert print_graph(graph) == "forerun 1\ngraph g\n\nbuffer %x : f32[4] temp on host\n"
    round_trip(graph)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_allocation_of_another_size_has_a_line(size: int) -> None:
    graph = Graph("g", [Allocation("x", size)], [Buffer("x", DType.F32, (4,), BufferRole.TEMP, "x")])
    assert f"alloc $x : {size} on device:0\nbuffer %x : f32[4] temp at $x\n" in print_graph(graph)
    round_trip(graph)


def test_a_second_view_of_an_allocation_that_has_no_line() -> None:
    views = [Buffer(name, DType.U8, (n,), BufferRole.TEMP, "x", 4 - n) for name, n in (("x", 4), ("y", 2))]
    graph = Graph("g", [Allocation("x", 4)], views)
    assert print_graph(graph).endswith("buffer %x : u8[4] temp\nbuffer %y : u8[2] temp at $x + 2\n")
    round_trip(graph)


def test_dependencies_are_printed_in_launch_order_and_dangling_ones_last() -> None:
    ends = [("b", "c"), ("zz", "c"), ("a", "c"), ("aa", "c"), ("a", "nowhere"), ("c", "c")]
    graph = Graph("g", nodes=map(EmptyNode, "abc"), dependencies=[Dependency(*pair) for pair in ends])
    *_, text = print_graph(graph).partition("node #c = empty\n")
    assert text.split("\n") == [
        "  after #a full",
        "  after #b full",
        "  after #c full",
        "  after #aa full",
        "  after #zz full",
        "",
        "dep #a -> #nowhere full",
        "",
    ]
    round_trip(graph)


def test_a_black_box_differs_from_an_empty_body() -> None:
    round_trip(Graph("g", kernels=[Kernel("box"), Kernel("nothing", roles=())]))


@pytest.mark.parametrize("kind", ["if", "while", "switch", "until"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_any_number_of_bodies(kind: str, count: int) -> None:
    bodies = tuple(Graph(f"body{i}", nodes=[EmptyNode("e")]) for i in range(count))
    round_trip(Graph("g", nodes=[ConditionalNode("c", kind, "flag", bodies)]))


def nested(depth: int) -> Node:
    node: Node = EmptyNode("inner")
    for _ in range(depth):
        node = ChildGraphNode("n", Graph("b", nodes=[node]))
    return node


def test_bodies_nest_to_a_limit() -> None:
    round_trip(Graph("g", nodes=[nested(32)]))
    text = print_graph(Graph("g", nodes=[nested(33)]))
    with pytest.raises(InvalidInput) as caught:
        parse_graph(text)
    assert [d.code for d in caught.value.diagnostics] == ["P10"]


def test_printing_bodies_nested_beyond_the_stack() -> None:
    assert "bodies nested too deeply" in print_graph(Graph("g", nodes=[nested(2000)]))


def test_an_affine_expression_built_by_hand_is_marked() -> None:
    from forerun.ir.nodes import MemsetNode
    from forerun.ir.region import BufferView, Region, Slice

    odd = Slice(Affine(0, (("b", 1), ("a", 1))), Affine(4))
    text = print_graph(Graph("g", nodes=[MemsetNode("n", BufferView("x", Region((odd,))))]))
    with pytest.raises(InvalidInput):
        parse_graph(text)


def test_parts_alone() -> None:
    node = KernelNode("n", "k", (("x", BufferArgument("b")),))
    assert print_node(node) == "node #n = @k(x=%b)"
    assert print_kernel(Kernel("k")) == "kernel @k() opaque"
    assert print_node(ChildGraphNode("c", Graph("body"))) == "node #c = child {\n  graph body\n}"


def test_marks_hold_no_addresses() -> None:
    first, second = (print_graph(Graph("g", nodes=[EmptyNode("n", object())])) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    assert "<object object>" in first

"""DOT files of CUDA graphs: structure is read, nothing is ever proved, and broken ones are refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from time import process_time

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from forerun.captured import CapturedEdge
from forerun.captured.dot import captured_from_dot
from forerun.cli.app import app
from forerun.frontends.captured import import_capture
from forerun.ir.nodes import ChildGraphNode
from forerun.ir.verify import require_valid
from forerun.support.diagnostics import ForerunError, InvalidInput

HEAD = 'digraph dot {\nsubgraph cluster_1 {\nlabel="graph_1" graph[style="dashed"];\n'
VERBOSE = r"""{KERNEL
| {ID | %d (topoId: 3) | %s\<\<\<%s\>\>\>}
| {{node handle | func handle} | {0x000055E7277A5C20 | 0x000055E7270A5A90}}
| {accessPolicyWindow | {base_ptr | num_bytes | hitRatio} | {0x0000000000000000 | 0 | 0.000000}}
| {cooperative | %d}
| {priority | 0}
}"""
COPY = r"""{
MEMCPY
| {{ID | node handle} | {2 (topoId: 1) | 0x000055E7277A6AC0}}
| {kind | DtoD (DEVICE to DEVICE)}
}"""


def node(name: str, label: str, shape: str = "record") -> str:
    return f'"{name}"[style="bold" style="solid" shape="{shape}" label="{label}"];\n'


def kernel(number: int, name: str = "_Z5scalePf", launch: str = "4,128,0", cooperative: int = 0) -> str:
    """As the driver writes it with all flags."""
    return node(f"graph_1_node_{number}", VERBOSE % (number, name, launch, cooperative))


def edge(source: int, target: int, attributes: str = "[headlabel=0]") -> str:
    return f'"graph_1_node_{source}" -> "graph_1_node_{target}" {attributes};\n'


def drawing(*lines: str) -> str:
    return f"{HEAD}{''.join(lines)}}}\n}}\n"


CHAIN = drawing(kernel(0), kernel(1, launch=r"\{16,10,4\},\{32,4\},2048"), node("graph_1_node_2", COPY),
                kernel(3), kernel(4, "_k"), edge(0, 1), edge(1, 2), edge(2, 3), edge(3, 4))  # fmt: skip


def checked(tmp_path: Path, text: str, *more: str) -> tuple[int, str]:
    (tmp_path / "graph.dot").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "graph.dot"), *more])
    return result.exit_code, result.output


def test_nodes_launches_and_edges() -> None:
    graph = captured_from_dot(CHAIN, "graph.dot")
    assert [one.kind for one in graph.nodes] == ["kernel", "kernel", "memcpy", "kernel", "kernel"]
    assert [graph.function_of(graph.nodes[at]).name for at in (0, 1, 4)] == ["_Z5scalePf", "_Z5scalePf", "_k"]
    second = graph.nodes[1]
    assert (second.grid, second.block, second.shared_bytes) == ((16, 10, 4), (32, 4, 1), 2048)
    assert graph.edges == tuple(CapturedEdge(at, at + 1) for at in range(4))
    assert graph.remarks == ()
    require_valid(import_capture(graph).graph)


def test_without_flags_shapes_and_subgraphs_tell_what_nodes_are() -> None:
    text = (
        drawing(
            node("graph_1_node_0", "0\n_Z5scalePf\n", "octagon"),
            node("graph_1_node_1", "1\ngraph_2\n", "rectangle"),
            node("graph_1_node_2", "2\ngraph_2\n", "octagon"),
            node("graph_1_node_3", "3\nHOST\n", "octagon"),
            node("graph_1_node_4", "4\nEMPTY\n", "ellipse"),
            edge(0, 1, ""),
        )[:-2]
        + 'subgraph cluster_2 {\nlabel="graph_2"\n"graph_2_node_0"[shape="octagon" label="0\n_k\n"];\n}\n}'
    )
    graph = captured_from_dot(text, "graph.dot")
    assert [one.kind for one in graph.nodes] == ["kernel", "graph", "kernel", "kernel", "empty"]
    child = import_capture(graph).graph.nodes["n1"]
    assert isinstance(child, ChildGraphNode)
    assert len(child.body) == 1
    assert graph.function_of(graph.nodes[1].body.nodes[0]).name == "_k"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ("", "full"), ("[headlabel=3]", "full"), ('[label="from_port=0"]', "full"), ("[from_port=1]", "programmatic"),
        ('[label="PROGRAMMATIC"]', "programmatic"), ('[style="dotted"]', "other"), ('[label="from_port=7"]', "other"),
        ('[label="from_port=2, to_port=0"]', "programmatic"),
    ],
)  # fmt: skip
def test_what_an_edge_that_says_more_orders_is_not_known(attributes: str, kind: str) -> None:
    (found,) = captured_from_dot(drawing(kernel(0), kernel(1), edge(0, 1, attributes)), "graph.dot").edges
    assert found.kind == kind


def test_the_bound_counts_kernels_behind_kernels(tmp_path: Path) -> None:
    status, output = checked(tmp_path, CHAIN)
    assert status == 3
    assert output.startswith("unsupported")
    assert "kernels that start when a kernel before them has ended: 2; " in output
    assert "at the most 2 to 3 us" in output
    cooperative = drawing(kernel(0, cooperative=1), kernel(1), edge(0, 1))
    assert "A7" not in checked(tmp_path, cooperative)[1]


def test_nothing_is_ever_proved(tmp_path: Path) -> None:
    for text in (drawing(kernel(0)), drawing(node("a", "0\nEMPTY\n")), drawing(kernel(0), kernel(1)), CHAIN):
        status, output = checked(tmp_path, text, "--json")
        told = json.loads(output)
        assert (status, told["status"], told["findings"][0]["code"]) == (3, "unsupported", "A5")


def test_programmatic_edges_are_told(tmp_path: Path) -> None:
    _, output = checked(tmp_path, drawing(kernel(0), kernel(1), edge(0, 1, "[from_port=1]")), "--json")
    told = json.loads(output)
    assert told["dependencies"]["programmatic"] == 1
    assert [(one["code"], one["where"]) for one in told["advice"]] == [("A6", "n1")]


def test_what_needs_more_than_structure_is_refused(tmp_path: Path) -> None:
    (tmp_path / "graph.dot").write_text(CHAIN, encoding="utf-8")
    name = str(tmp_path / "graph.dot")
    for command in (["opt", name, "-p", "insert-pdl"], ["check", name, name]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        assert "a DOT file holds nodes and edges, and not what kernels do" in result.output


def nested(depth: int) -> str:
    """Graphs that have the next one twice as a child."""
    graphs = (
        f'subgraph {{ label="graph_{at}"; a{at}[label="0 graph_{at + 1}"]; b{at}[label="1 graph_{at + 1}"]; }}'
        for at in range(1, depth + 1)
    )
    return f'digraph dot {{ {" ".join(graphs)} subgraph {{ label="graph_{depth + 1}"; c[label="0 EMPTY"]; }} }}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "graph.dot:1:1: a directed graph begins with 'digraph'"),
        ("graph x { a -- b }", "begins with 'digraph'"),
        ("digraph dot {\n}", "draws no node"),
        ("digraph {", "a name is missing"),
        ("digraph { a } b", "the graph has ended here"),
        ('digraph {\n a [label="x', "graph.dot:2:11: this cannot be read"),
        ("digraph { a -> ; }", "a name is missing"),
        ("digraph { a [x=1 }", "a name is missing"),
        ("digraph { a [label=<b>] }", "this cannot be read"),
        ("digraph {" + "{" * 100 + "a" + "}" * 101, "nested more than 64 deep"),
        (drawing(kernel(0), kernel(1), edge(0, 1), edge(1, 0)), "have a cycle"),
        (drawing(kernel(0), edge(0, 0)), "have a cycle"),
        (drawing(node("a", "0\ngraph_1\n", "rectangle")), "graph_1 is a child graph of itself"),
        (nested(6), ""),
        (nested(16), "more than 100,000 nodes"),
        (nested(40), "nested more than 16 deep"),
    ],
)
def test_broken_and_hostile_files(tmp_path: Path, text: str, message: str) -> None:
    status, output = checked(tmp_path, text)
    assert status == (2 if message else 3)
    assert message in " ".join(output.split())


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    other = 'subgraph cluster_2 {\nlabel="graph_2"\n"x"[shape="octagon" label="0 _k"];\n}\n"graph_1_node_0" -> "x";\n}'
    _, output = checked(tmp_path, drawing(kernel(0))[:-2] + other)
    assert "1 edges lead from one graph to another, and were left out" in output
    assert "1 nodes stand in graphs that no child graph node names" in output


def test_names_cannot_break_the_text(tmp_path: Path) -> None:
    status, output = checked(tmp_path, drawing(kernel(0, "\x1b[2K@x(\u202e) "), kernel(1, "é" * 999)))
    assert status == 3
    assert "\x1b" not in output


@pytest.mark.parametrize("part", ['"', "\\", "| ", "a[", "/*", "#", "{", "|<<<", "from_port="])
def test_long_files_take_no_longer_than_their_length(part: str) -> None:
    begin = process_time()
    for text in (part * 100_000, drawing(node("a", (part * 100_000).replace('"', "")))):
        with suppress(InvalidInput):
            captured_from_dot(text, "graph.dot")
    assert process_time() - begin < 10


_WORDS = ('"', "a", "{", "}", "[", "]", "=", ";", "->", "\n", " ", "\\", "label", "subgraph", "graph_1", "1")


@given(st.lists(st.sampled_from(_WORDS)).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    for tried in (text, "digraph {" + text + "}"):
        try:
            captured_from_dot(tried, "graph.dot")
            event("read")
        except ForerunError:
            event("refused")

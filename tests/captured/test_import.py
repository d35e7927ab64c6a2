"""Captured graphs as graphs of the IR: what is known of kernels, what passes make of it, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forerun.captured import CapturedEdge, CapturedGraph, CapturedNode, MemoryRange, Transfer, save_capture
from forerun.cli.app import app
from forerun.frontends.captured import ImportedGraph, import_capture
from forerun.frontends.captured_advice import advice
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Wait
from forerun.ir.nodes import EmptyNode, EventWaitNode, HostCallbackNode, KernelNode, MemcpyNode, MemsetNode
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.verify import require_valid
from forerun.passes.infra.manager import PassManager
from forerun.support.diagnostics import InvalidInput
from tests.captured.samples import BLOCKS, SCALE, SIZE, captured, chain, kernel, launch

PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"


def kernel_of(graph: Graph, node: str) -> Kernel:
    found = graph.nodes[node]
    assert isinstance(found, KernelNode)
    return graph.kernels[found.kernel]


def early(graph: Graph, node: str) -> list[str]:
    """The phases before the wait of a node."""
    steps = kernel_of(graph, node).phases and (kernel_of(graph, node).roles or ())[0].steps
    wait = next((i for i, step in enumerate(steps) if isinstance(step, Wait)), 0)
    return [step.name for step in steps[:wait] if isinstance(step, Phase)]


def rewritten(graph: CapturedGraph) -> Graph:
    found = import_capture(graph).graph
    require_valid(found)
    return PassManager(PIPELINE).run(found).graph


def test_weights_are_loaded_ahead_of_the_wait() -> None:
    after = rewritten(chain())
    assert after.count_dependencies() == {"full": 0, "programmatic": 1, "launch_order": 0}
    assert early(after, "n1") == ["load_p0"]
    assert check(after).proved


def test_the_text_of_an_imported_graph_is_complete() -> None:
    graph = import_capture(chain()).graph
    assert parse_graph(print_graph(graph)) == graph


def test_what_another_node_writes_is_no_weight() -> None:
    nodes = [launch(0, "w0", "x", "w1"), launch(0, "w1", "y", "z")]
    after = rewritten(captured([kernel("scale", *SCALE)], nodes))
    assert early(after, "n1") == ["load_p1"]


def test_what_a_kernel_stores_itself_is_not_loaded_ahead() -> None:
    """Its text may store before it loads: the same bytes through another parameter."""
    own = ("st.global.u32 [%rd6], 7;", "ld.global.u32 %r2, [%rd5];", "st.global.u32 [%rd6+4], %r2;")
    nodes = [launch(0, "w0", "x", "y"), launch(0, "w1", "z", "z")]
    assert early(rewritten(captured([kernel("scale", *own)], nodes)), "n1") == []
    nodes = [launch(0, "w0", "x", "y"), launch(0, "w1", "x", "z")]
    assert early(rewritten(captured([kernel("scale", *own)], nodes)), "n1") == ["load_p1"]


def test_a_node_that_cannot_be_made_again_keeps_its_code() -> None:
    graph = chain()
    nodes = (graph.nodes[0], replace(graph.nodes[1], unsupported=("its priority cannot be read",)))
    found = import_capture(replace(graph, nodes=nodes))
    assert found.reasons["n1"].startswith("its priority cannot be read")
    assert rewritten(replace(graph, nodes=nodes)).count_dependencies()["programmatic"] == 0


def test_what_is_loaded_with_an_index_of_the_node_before_stays() -> None:
    gather = ("ld.global.u32 %r2, [%rd5];", "mad.wide.u32 %rd8, %r2, 4, %rd1;", "ld.global.u32 %r3, [%rd8];",
              "st.global.u32 [%rd6], %r3;")  # fmt: skip
    graph = chain(*gather)
    after = rewritten(graph)
    # The phase may move, since nobody writes the table; its load cannot: the address is not known there.
    assert early(after, "n1") == ["load_p0"]
    from forerun.runtime.cuda.codegen.foreign import follow_body

    text = next(iter(graph.texts.values())).text
    assert follow_body(text, kernel_of(after, "n1"), "scale").early_loads == 0


STRUCT = ".param .align 8 .b8 s[24]"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("ld.global.u64 %rd8, [%rd4];", "ld.global.u32 %r2, [%rd8];"), "a pointer that is not a parameter"),
        (("@%p1 bra $L;", "griddepcontrol.wait;", "$L:"), "it waits on some ways only"),
        (("$L:", "ld.acquire.gpu.global.u32 %r2, [%rd4];", "setp.eq.u32 %p1, %r2, 0;", "@%p1 bra $L;"), "in a loop"),
        (("$L:", "atom.global.add.u32 %r2, [%rd4], 1;", "setp.eq.u32 %p1, %r2, 0;", "@%p1 bra $L;"), "in a loop"),
        (("call.uni unknown, ();",), "these may access anything"),
        (("bra $A;", "$B:", "bra $A;", "$A:", "@%p1 bra $B;", "unheard.of %r1;"), "these may access anything"),
    ],
)
def test_kernels_of_which_not_all_is_known(lines: tuple[str, ...], reason: str) -> None:
    found = import_capture(chain(*lines))
    assert reason in found.reasons["n0"]
    assert kernel_of(found.graph, "n0").has_fixed_code
    after = PassManager(PIPELINE).run(found.graph).graph
    assert after.count_dependencies()["programmatic"] == 0


def test_a_pointer_in_a_struct() -> None:
    text = kernel("scale", *SCALE, parameters=f".param .u64 w, {STRUCT}, .param .u64 x, .param .u64 y")
    struct = b"\0" * 8 + BLOCKS["x"].to_bytes(8, "little") + b"\0" * 8
    graph = captured([text], [launch(0, "w0", struct, "x", "y")])
    graph = replace(graph, functions=(replace(graph.functions[0], parameters=((0, 8), (8, 24), (32, 8), (40, 8))),))
    assert "is a struct, in which pointers may be" in import_capture(graph).reasons["n0"]


def test_other_parameters_than_the_loaded_function_has() -> None:
    graph = captured([kernel("scale", *SCALE)], [launch(0, "w0", "x")])
    graph = replace(graph, functions=(replace(graph.functions[0], parameters=((0, 8), (8, 8))),))
    assert "not those of the loaded function" in import_capture(graph).reasons["n0"]


@pytest.mark.parametrize("kind", ["managed", "host", "free"])
def test_memory_that_others_may_write(kind: str) -> None:
    graph = chain()
    memory = tuple(replace(one, kind=kind) if one.name == "w1" else one for one in graph.memory)
    found = import_capture(replace(graph, memory=memory))
    assert "n1" in found.reasons
    assert "n0" not in found.reasons
    assert [argument for argument, _ in kernel_arguments(found, "n1")] == ["everything"]


def kernel_arguments(found: ImportedGraph, node: str) -> tuple[tuple[str, object], ...]:
    made = found.graph.nodes[node]
    assert isinstance(made, KernelNode)
    return made.arguments


def test_without_text_and_image_a_kernel_may_do_anything() -> None:
    found = import_capture(chain(opened=False))
    assert found.reasons["n0"] == "its PTX is not known; its machine code cannot be looked at"
    assert check(found.graph).proved
    assert rewritten(chain(opened=False)).count_dependencies()["full"] == 1


def test_a_function_that_must_keep_its_code() -> None:
    found = import_capture(chain(), fixed={0: "it spills"})
    assert found.reasons["n1"].startswith("it spills")


def test_other_nodes() -> None:
    copy = Transfer(BLOCKS["x"], BLOCKS["y"], 64, 1, 64)
    nodes = [
        CapturedNode("memcpy", transfer=copy),
        CapturedNode("memset", transfer=Transfer(None, BLOCKS["y"] + 8, 16, 1, 16, 0x3F800000, 4)),
        CapturedNode("memcpy", transfer=replace(copy, rows=2, extent=256)),
        CapturedNode("memcpy", transfer=replace(copy, destination=BLOCKS["y"] + SIZE - 8)),
        CapturedNode("empty"),
        CapturedNode("host"),
        CapturedNode("wait_event"),
        CapturedNode("batch_mem_op"),
    ]
    found = import_capture(captured([], nodes))
    require_valid(found.graph)
    kinds = [type(node) for node in found.graph]
    assert kinds == [
        MemcpyNode, MemsetNode, KernelNode, KernelNode, EmptyNode, HostCallbackNode, EventWaitNode, KernelNode,
    ]  # fmt: skip
    fill = found.graph.nodes["n1"]
    assert isinstance(fill, MemsetNode)
    assert fill.value == 0x3F800000
    assert found.graph.buffers[fill.destination.buffer].shape == (4,)
    assert sorted(found.reasons) == ["n2", "n3", "n7"]


@pytest.mark.parametrize("kind", ["host", "managed"])
@pytest.mark.parametrize("edge", ["", "full"])
def test_a_function_of_the_host_uses_what_the_host_reaches(edge: str, kind: str) -> None:
    """A copy to the host, and a function that is given what was copied: an edge between them is needed."""
    copy = CapturedNode("memcpy", transfer=Transfer(BLOCKS["x"], BLOCKS["y"], 64, 1, 64))
    made = captured([], [copy, CapturedNode("host")])
    memory = tuple(replace(one, kind=kind) if one.name == "y" else one for one in made.memory)
    edges = (CapturedEdge(0, 1, edge),) if edge else ()  # type: ignore[arg-type]
    found = import_capture(replace(made, memory=memory, edges=edges))
    require_valid(found.graph)
    assert found.reasons == {"n1": "what a function of the host touches is not known"}
    assert check(found.graph).proved == (edge == "full")


@pytest.mark.parametrize("kind", ["device", "free"])
def test_a_function_of_the_host_uses_nothing_of_the_device(kind: str) -> None:
    fill = CapturedNode("memset", transfer=Transfer(None, BLOCKS["y"], 16, 1, 16, 0, 4))
    made = captured([], [fill, CapturedNode("host")])
    memory = tuple(replace(one, kind=kind) if one.name == "y" else one for one in made.memory)
    found = import_capture(replace(made, memory=memory))
    assert not found.reasons
    assert check(found.graph).proved


def test_functions_of_the_host_are_one_kernel() -> None:
    made = captured([], [CapturedNode("host"), CapturedNode("host")])
    memory = tuple(replace(one, kind="host") for one in made.memory)
    found = import_capture(replace(made, memory=memory, edges=(CapturedEdge(0, 1, "full"),)))
    require_valid(found.graph)
    assert list(found.graph.kernels) == ["host_function"]
    assert check(found.graph).proved


def test_a_race_between_captured_nodes() -> None:
    graph = captured([kernel("scale", *SCALE)], [launch(0, "w0", "x", "y"), launch(0, "w1", "y", "z")], [])
    verdict = check(import_capture(graph).graph)
    assert verdict.status == "refuted"
    assert "RAW" in str(verdict.findings[0])


def test_a_programmatic_edge_whose_target_never_waits_is_a_race() -> None:
    graph = replace(chain(), edges=(CapturedEdge(0, 1, "programmatic", 1),))
    assert check(import_capture(graph).graph).status == "refuted"
    waiting = replace(chain("griddepcontrol.wait;", *SCALE), edges=(CapturedEdge(0, 1, "programmatic", 1),))
    assert check(import_capture(waiting).graph).proved
    # A wait of some threads orders nothing for the others.
    some = replace(chain("@%p1 griddepcontrol.wait;", *SCALE), edges=(CapturedEdge(0, 1, "programmatic", 1),))
    assert check(import_capture(some).graph).status == "refuted"
    # The weights may be loaded before.
    late = replace(chain(SCALE[0], "griddepcontrol.wait;", *SCALE[1:]), edges=(CapturedEdge(0, 1, "programmatic", 1),))
    assert check(import_capture(late).graph).proved


def test_nodes_are_listed_after_those_that_they_depend_on() -> None:
    graph = captured([kernel("scale", *SCALE)], [launch(0, "w1", "y", "z"), launch(0, "w0", "x", "y")],
                     [CapturedEdge(1, 0)])  # fmt: skip
    assert list(import_capture(graph).graph.nodes) == ["n1", "n0"]


def test_nothing_at_all() -> None:
    assert len(import_capture(CapturedGraph(())).graph) == 0
    require_valid(import_capture(CapturedGraph((), memory=(MemoryRange(16, 4),))).graph)


def test_check_takes_a_folder(tmp_path: Path) -> None:
    save_capture(replace(chain(), edges=()), tmp_path / "capture")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "capture")])
    assert result.exit_code == 1
    assert "RAW race" in result.output


def advised(graph: CapturedGraph) -> list[str]:
    return [f"{one.code} {one.location.name}" for one in advice(import_capture(graph).graph)]


PROGRAMMATIC = (CapturedEdge(0, 1, "programmatic", 1),)
TRIGGER = "griddepcontrol.launch_dependents;"


@pytest.mark.parametrize(
    ("lines", "edges", "expected"),
    [
        (SCALE, None, ["A4 captured"]),
        (SCALE, PROGRAMMATIC, ["A1 n0 -> n1"]),
        (("@%p1 griddepcontrol.wait;", *SCALE), PROGRAMMATIC, ["A1 n0 -> n1"]),
        (("griddepcontrol.wait;", *SCALE), PROGRAMMATIC, ["A2 n0"]),
        (("griddepcontrol.wait;", *SCALE), None, ["A2 n0", "A2 n1", "A4 captured"]),
        ((*SCALE, TRIGGER), None, ["A3 n0", "A3 n1", "A4 captured"]),
        ((*SCALE[:3], TRIGGER, SCALE[3]), None, ["A4 captured"]),
        (("$L:", TRIGGER, *SCALE, "@%p1 bra $L;"), None, ["A4 captured"]),
    ],
)
def test_advice(lines: tuple[str, ...], edges: tuple[CapturedEdge, ...] | None, expected: list[str]) -> None:
    graph = chain(*lines)
    assert advised(graph if edges is None else replace(graph, edges=edges)) == expected


def test_what_pdl_could_bring() -> None:
    (found,) = advice(import_capture(chain()).graph)
    assert found.message.startswith("1 of 1 full dependencies between kernels can become programmatic, which saves")
    (found,) = advice(import_capture(chain(opened=False)).graph)
    assert "0 of 1" in found.message
    assert "no PTX to put one into" in found.message


def test_check_prints_the_advice(tmp_path: Path) -> None:
    save_capture(chain(), tmp_path / "capture")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "capture")])
    assert result.exit_code == 0
    assert "note[A4]" in result.output
    told = CliRunner().invoke(app, ["check", "--json", str(tmp_path / "capture")])
    assert [one["code"] for one in json.loads(told.output)["advice"]] == ["A4"]


def test_blocks_of_one_name_are_different_buffers() -> None:
    graph = chain()
    for name in ("w", "everything"):
        buffers = import_capture(
            replace(graph, memory=tuple(replace(m, name=name) for m in graph.memory))
        ).graph.buffers
        whole = [buffer for buffer in buffers.values() if buffer.size >= SIZE]
        assert {buffer.offset for buffer in whole} == {at - min(BLOCKS.values()) for at in BLOCKS.values()}
        assert len(whole) == 1 + len(BLOCKS)
        assert buffers["everything"].size > SIZE


@pytest.mark.parametrize("edges", [((0, 1), (1, 0)), ((0, 0),)])
def test_edges_that_have_a_cycle(edges: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InvalidInput, match="have a cycle"):
        import_capture(replace(chain(), edges=tuple(CapturedEdge(*edge) for edge in edges)))


def test_texts_that_are_not_there_and_names_that_they_do_not_have() -> None:
    graph = chain()
    assert import_capture(replace(graph, texts={})).reasons["n0"].startswith("its PTX is not known")
    other = replace(graph, functions=(replace(graph.functions[0], name=""),))
    found = import_capture(other)
    assert found.reasons["n0"].startswith("its PTX has no kernel of its name")
    require_valid(found.graph)


def test_a_copy_of_nothing() -> None:
    found = import_capture(captured([], [CapturedNode("memcpy", transfer=Transfer(BLOCKS["x"], BLOCKS["y"], 0, 0))]))
    assert [type(node) for node in found.graph] == [EmptyNode]
    require_valid(found.graph)


@pytest.mark.parametrize("ports", [(1, 0), (2, 0), (3, 0), (0, 1)])
def test_a_full_edge_of_another_port_does_not_order_what_is_stored(ports: tuple[int, int]) -> None:
    graph = chain()
    assert check(import_capture(graph).graph).proved
    assert not check(import_capture(replace(graph, edges=(CapturedEdge(0, 1, "full", *ports),))).graph).proved


@pytest.mark.parametrize("line", ["mov.u32 %r4, 1+2*3;", "bra NOWHERE;", "?"])
def test_a_kernel_whose_text_cannot_be_read_may_do_anything(line: str) -> None:
    """The kernel with that PTX is treated strictly; the program's other kernels are not affected."""
    graph = captured(
        [kernel("scale", *SCALE), kernel("odd", line, *SCALE)], [launch(0, "w0", "x", "y"), launch(1, "w1", "y", "z")]
    )
    found = import_capture(graph)
    assert list(found.reasons) == ["n1"]
    assert found.reasons["n1"].startswith("its PTX cannot be read: ")
    assert [name for name, _ in kernel_arguments(found, "n1")] == ["everything"]
    assert check(found.graph).proved

"""Wrong things are refused, and the reason is told: the edge stays full, or the load stays behind the wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forerun.captured import CapturedEdge, CapturedGraph, CapturedNode, MemoryRange, save_capture
from forerun.cli.app import app
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.external.reasons import reasons_of
from forerun.frontends.captured import ImportedGraph, import_capture
from forerun.ir.graph import Graph
from forerun.ir.kernel import Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import check
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.codegen.foreign import follow_body
from tests.captured.samples import BLOCKS, SCALE, captured, chain, kernel, launch

PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"
WAIT = "griddepcontrol.wait;"
STRUCT = ".param .u64 w, .param .align 8 .b8 s[24], .param .u64 x, .param .u64 y"


def rewritten(graph: CapturedGraph) -> tuple[ImportedGraph, Graph]:
    found = import_capture(graph)
    after = PassManager(PIPELINE).run(found.graph).graph
    assert check(after).proved
    return found, after


def programmatic(graph: Graph) -> int:
    return graph.count_dependencies()["programmatic"]


def early_loads(captured: CapturedGraph, after: Graph, node: str) -> int:
    """How many loads the text of a node has before its wait."""
    found = after.nodes[node]
    assert isinstance(found, KernelNode)
    text = next(iter(captured.texts.values())).text
    return follow_body(text, after.kernels[found.kernel], "scale").early_loads


def test_what_may_be_rewritten_is() -> None:
    """The others differ from this chain by the thing that is wrong with them."""
    found, after = rewritten(chain())
    assert programmatic(after) == 1
    assert early_loads(found.captured, after, "n1") == 1
    assert reasons_of(found, after) == {"scale": "loaded after the wait: p1, which another node may write"}


KEEP_THEIR_EDGES: dict[str, tuple[Sequence[str], str]] = {
    "a wait in a branch": (("@%p1 bra $L;", WAIT, "$L:", *SCALE), "it waits on some ways only"),
    "a wait in one warp": (("setp.lt.u32 %p1, %r1, 32;", f"@%p1 {WAIT}", *SCALE), "it waits on some ways only"),
    "a return before the wait": (
        ("setp.gt.u32 %p1, %r1, 64;", "@%p1 ret;", WAIT, *SCALE), "it waits on some ways only",
    ),
    "a loop that polls": (
        ("$L:", "ld.volatile.global.u32 %r2, [%rd4];", "setp.eq.u32 %p1, %r2, 0;", "@%p1 bra $L;", *SCALE),
        "in a loop, which may wait for others",
    ),
    "a loop that takes a lock": (
        ("$L:", "atom.global.cas.b32 %r2, [%rd4], 0, 1;", "setp.ne.u32 %p1, %r2, 0;", "@%p1 bra $L;", *SCALE),
        "in a loop, which may wait for others",
    ),
    "a pointer from memory": (
        ("ld.global.u64 %rd8, [%rd4];", "ld.global.u32 %r3, [%rd8];", "st.global.u32 [%rd6], %r3;"),
        "a pointer that is not a parameter",
    ),
    "a pointer from bits": (
        ("xor.b64 %rd8, %rd4, %rd5;", "ld.global.u32 %r3, [%rd8];", "st.global.u32 [%rd6], %r3;"),
        "a pointer that is not a parameter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lines_and_reason", KEEP_THEIR_EDGES.values(), ids=KEEP_THEIR_EDGES)
def test_edges_that_stay_full(lines_and_reason: tuple[Sequence[str], str]) -> None:
    lines, reason = lines_and_reason
    found, after = rewritten(chain(*lines))
    assert programmatic(after) == 0
    assert reason in reasons_of(found, after)["scale"]


def test_a_pointer_hidden_in_a_struct() -> None:
    """It points to what the first node writes, and the second node loads through it."""
    lines = ("ld.param.u64 %rd8, [s+8];", "ld.global.u32 %r2, [%rd8];", "st.global.u32 [%rd6], %r2;")
    struct = b"\0" * 8 + BLOCKS["y"].to_bytes(8, "little") + b"\0" * 8
    nodes = [launch(0, "w0", bytes(24), "x", "y"), launch(0, "w1", struct, "x", "z")]
    graph = captured([kernel("scale", *lines, parameters=STRUCT)], nodes)
    layout = ((0, 8), (8, 24), (32, 8), (40, 8))
    graph = replace(graph, functions=(replace(graph.functions[0], parameters=layout),))
    found, after = rewritten(graph)
    assert programmatic(after) == 0
    assert "is a struct, in which pointers may be" in reasons_of(found, after)["scale"]


def test_an_index_that_the_node_before_wrote() -> None:
    """The table is a weight, but which of its elements are loaded is known only after the wait."""
    gather = ("ld.global.u32 %r2, [%rd5];", "mad.wide.u32 %rd8, %r2, 4, %rd1;", "ld.global.u32 %r3, [%rd8];",
              "st.global.u32 [%rd6], %r3;")  # fmt: skip
    graph = chain(*gather)
    found, after = rewritten(graph)
    assert early_loads(graph, after, "n1") == 0
    node = after.nodes["n1"]
    assert isinstance(node, KernelNode)
    told = reasons_of(found, after, {node.kernel: MadeCode(b"", 0)})["scale"]
    assert "no load is ahead of the wait: their addresses or guards are known only after it" in told
    assert "loaded after the wait: p1, which another node may write" in told


def test_a_weight_that_another_node_writes() -> None:
    # Not the node before but the one before that, whose completion the wait is the first to see.
    nodes = [launch(0, "w0", "x", "w1"), launch(0, "w0", "x", "y"), launch(0, "w1", "x", "z")]
    found, after = rewritten(captured([kernel("scale", *SCALE)], nodes))
    assert "p0, which another node may write" in reasons_of(found, after)["scale"]
    assert early_loads(found.captured, after, "n2") == 1  # x alone
    # The same bytes under another address.
    inside = (BLOCKS["w1"] + 256).to_bytes(8, "little")
    found, after = rewritten(
        captured([kernel("scale", *SCALE)], [launch(0, "w0", "x", inside), launch(0, "w1", "x", "z")])
    )
    assert "p0, which another node may write" in reasons_of(found, after)["scale"]


def test_a_weight_that_the_kernel_itself_writes_before() -> None:
    own = ("st.global.u32 [%rd6], 7;", "ld.global.u32 %r2, [%rd5];", "st.global.u32 [%rd6+4], %r2;")
    nodes = [launch(0, "w0", "x", "y"), launch(0, "w1", "z", "z")]
    found, after = rewritten(captured([kernel("scale", *own)], nodes))
    assert "p1, which the kernel itself may write" in reasons_of(found, after)["scale"]


@pytest.mark.parametrize("kind", ["managed", "host", "free"])
def test_a_weight_that_others_than_the_graph_may_write(kind: str) -> None:
    graph = chain()
    memory = tuple(replace(one, kind=kind) if one.name == "w1" else one for one in graph.memory)
    found, after = rewritten(replace(graph, memory=memory))
    assert programmatic(after) == 0
    assert "does not point" in reasons_of(found, after)["scale"]


def test_a_weight_in_two_mappings() -> None:
    """Memory that nobody knows may be anybody's."""
    graph = chain()
    memory = tuple(one for one in graph.memory if one.name != "w1")
    found, after = rewritten(replace(graph, memory=memory))
    assert programmatic(after) == 0
    assert "scale" in reasons_of(found, after)


def test_other_nodes_than_kernels_are_named_by_kind_and_name() -> None:
    graph = captured([], [CapturedNode("batch_mem_op")])
    found, after = rewritten(graph)
    (told,) = reasons_of(found, after).items()
    assert told == ("batch_mem_op n0", "what a node of the kind 'batch_mem_op' touches is not known")


def test_a_graph_whose_edges_lack_order_is_refused() -> None:
    found = import_capture(replace(chain(), edges=(CapturedEdge(0, 1, "programmatic", 1),)))
    verdict = check(found.graph)
    assert verdict.status == "refuted"


def test_opt_tells_what_holds_a_graph_back(tmp_path: Path) -> None:
    save_capture(chain("@%p1 bra $L;", WAIT, "$L:", *SCALE), tmp_path / "capture")
    result = CliRunner().invoke(app, ["opt", str(tmp_path / "capture"), "--pipeline", PIPELINE])
    assert result.exit_code == 0
    assert "note: scale: it waits on some ways only" in result.stderr
    assert "it waits" not in result.stdout


def test_opt_takes_the_passes_of_captures_where_none_are_named(tmp_path: Path) -> None:
    folder = str(save_capture(chain(*SCALE), tmp_path / "capture"))
    unnamed, named = (
        CliRunner().invoke(app, ["opt", folder, *words]) for words in ((), ("--pipeline", CAPTURED_PIPELINE))
    )
    assert (unnamed.exit_code, unnamed.stdout) == (0, named.stdout)
    assert "programmatic" in unnamed.stdout


def test_nothing_holds_an_empty_graph_back() -> None:
    found, after = rewritten(CapturedGraph((), memory=(MemoryRange(16, 4),)))
    assert reasons_of(found, after) == {}


def test_reasons_look_at_the_steps_that_stay() -> None:
    found, after = rewritten(chain())
    node = after.nodes["n1"]
    assert isinstance(node, KernelNode)
    assert after.kernels[node.kernel].has(Wait)
    refused = MadeCode(b"", 1, ("it spills 4 bytes",))
    assert "stronger code was refused: it spills 4 bytes" in reasons_of(found, after, {node.kernel: refused})["scale"]
    assert "its new code is not fit" not in reasons_of(found, after, {}, {"scale": "it spills"})["scale"]
    assert reasons_of(found, after, {}, {"scale": "it spills"})["scale"].startswith("it spills; loaded after")

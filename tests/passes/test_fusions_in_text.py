"""What fused nodes stand for survives in the text, so that a whole pipeline is proved from two files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import event, given

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.graph import Graph
from forerun.ir.nodes import EmptyNode, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.fused import claims
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.verify import verify
from forerun.passes.fuse_kernels import FuseKernels, fused
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.support.diagnostics import InternalError
from tests.passes.fusion_programs import RULES, fusible_programs

SMALL = LlamaConfig("tiny", 2, 64, 2, 1, 32, 96, 128, 64)
PROGRAMS = fusible_programs().filter(lambda graph: not verify(graph))
AFTER_FUSION = "infer-dependencies,insert-pdl,hoist-loads,plan-memory,reduce-edges"


def read_again(graph: Graph) -> Graph:
    """The graph as another process would know it."""
    found = parse_graph(print_graph(graph))
    assert found == graph
    assert found.delta is None
    return found


@given(PROGRAMS)
def test_whole_pipelines_are_proved_from_texts(graph: Graph) -> None:
    middle = fused(graph, RULES, PassContext(FuseKernels()))
    after = read_again(PassManager(AFTER_FUSION).run(middle).graph)
    event(f"fused: {bool(claims(after))}")
    event(f"something stays: {any(p in after.nodes for ps in claims(after).values() for p in ps)}")
    verdict = certify(read_again(graph), after)
    assert verdict.proved, verdict.findings


def test_fast_is_proved_of_a_decode_step() -> None:
    before = decode_graph(SMALL, splits=4, argmax_parts=2)
    after = read_again(PassManager("fuse-kernels," + AFTER_FUSION).run(before).graph)
    assert len(claims(after)) > 6
    assert certify(before, after).proved


def test_claims_are_checked_not_believed() -> None:
    before = decode_graph(SMALL)
    after = PassManager("fuse-kernels," + AFTER_FUSION).run(before).graph
    name, parts = next((name, parts) for name, parts in claims(after).items() if len(parts) > 2)
    node = after.nodes[name]
    assert isinstance(node, KernelNode)
    for wrong, status in ((parts[:-1], "refuted"), ((), "unsupported"), ((*parts, "stranger"), "unsupported")):
        edit = after.edit()
        edit.replace_node(replace(node, fuses=wrong))
        verdict = certify(before, read_again(edit.commit()))
        assert verdict.status == status, (wrong, verdict.findings)


def test_a_node_that_fuses_fused_nodes_names_the_first_ones() -> None:
    text = """
        forerun 1 graph g
        buffer %x : f32[4] input buffer %a : f32[4] temp buffer %b : f32[4] temp buffer %y : f32[4] output
        kernel @k(x: f32[4], y: f32[4]) { role all { phase run reads x writes y } }
    """
    first = parse_graph(text + "node #a = @k(x=%x, y=%a) node #b = @k(x=%a, y=%b) node #c = @k(x=%b, y=%y)")
    edit = first.edit()
    edit.add_node(parse_graph(text + "node #ab = @k(x=%x, y=%b)").nodes["ab"], before="c")
    edit.record_fusion("ab", ("a", "b"))
    for gone in "ab":
        edit.remove_node(gone)
    second = read_again(edit.commit())
    edit = second.edit()
    edit.add_node(parse_graph(text + "node #abc = @k(x=%x, y=%y)").nodes["abc"])
    edit.record_fusion("abc", ("ab", "c"))
    for gone in ("ab", "c"):
        edit.remove_node(gone)
    third = read_again(edit.commit())
    assert claims(third) == {"abc": ("a", "b", "c")}
    assert certify(first, third).proved
    assert certify(second, third).proved


def test_only_kernel_nodes_stand_for_others() -> None:
    edit = Graph("g", nodes=[EmptyNode("a")]).edit()
    with pytest.raises(InternalError, match="node 'a' launches no kernel"):
        edit.record_fusion("a", ("b",))

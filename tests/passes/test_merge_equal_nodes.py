"""``merge-equal-nodes`` keeps the values of random programs, and what comes after it is proved, too."""

from __future__ import annotations

from hypothesis import event, given

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.fused import claims
from forerun.ir.verify import verify
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.merge_equal_nodes import MergeEqualNodes
from forerun.testing import assert_same_outputs
from tests.passes.repeated_programs import repeated_programs

PROGRAMS = repeated_programs().filter(lambda graph: not verify(graph))


@given(PROGRAMS)
def test_what_is_merged_is_valid_proved_and_computes_the_same(graph: Graph) -> None:
    context = PassContext(MergeEqualNodes())
    after = MergeEqualNodes().apply(graph, context)
    gone = sorted(set(graph.nodes) - set(after.nodes))
    event(f"merged: {len(gone)}")
    assert context.statistics["nodes_merged"] == len(gone)
    assert (after is graph) == (not gone)
    if after is graph:
        return
    assert not verify(after)
    assert set(gone) < {part for parts in claims(after).values() for part in parts}
    assert after.delta is not None
    assert set(gone) <= set(after.delta.nodes)
    verdict = certify(graph, after)
    assert verdict.proved, [str(finding) for finding in verdict.findings]
    assert_same_outputs(graph, after, seeds=(0, 1))


@given(PROGRAMS)
def test_other_passes_follow(graph: Graph) -> None:
    result = PassManager("merge-equal-nodes,infer-dependencies,insert-pdl,plan-memory,reduce-edges").run(graph)
    assert not {record.verdict for record in result.summary.passes} & {"refuted", "unsupported"}
    assert_same_outputs(graph, result.graph, seeds=(0, 1))


@given(PROGRAMS)
def test_changes_can_be_made_one_by_one(graph: Graph) -> None:
    every = PassContext(MergeEqualNodes())
    MergeEqualNodes().apply(graph, every)
    one = PassContext(MergeEqualNodes(), limit=1)
    after = MergeEqualNodes().apply(graph, one)
    assert len(graph) - len(after) == min(every.statistics["nodes_merged"], 1)
    assert all(isinstance(graph.nodes[name], KernelNode) for name in set(graph.nodes) - set(after.nodes))

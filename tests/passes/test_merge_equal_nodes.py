"""``merge-equal-nodes`` keeps the values of random programs, and what comes after it is proved, too."""

from __future__ import annotations

from itertools import combinations

from hypothesis import assume, event, given
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.fused import claims
from forerun.ir.refinement.merged import Merge
from forerun.ir.verify import verify
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.merge_equal_nodes import MergeEqualNodes, _apply
from forerun.support.diagnostics import InternalError
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


@given(PROGRAMS, st.data())
def test_certificates_prove_no_merge_that_computes_something_else(graph: Graph, data: st.DataObject) -> None:
    """Any two nodes, right or wrong: what is proved gives the same values."""
    launched = [name for name, node in graph.nodes.items() if isinstance(node, KernelNode)]
    pairs = [(a, b) for a, b in combinations(launched, 2) if _kernel(graph, a) == _kernel(graph, b)]
    assume(pairs)
    merge = Merge(graph, *data.draw(st.sampled_from(pairs)))
    edit = graph.edit()
    try:
        _apply(edit, merge)
    except InternalError:  # the node that goes would read, or write again, what it writes
        assert merge.refusal()
        return
    after = edit.commit()
    status = "invalid" if verify(after) else certify(graph, after).status
    event(f"{status}, {'may' if not merge.refusal() else 'may not'} be merged")
    assert (status == "proved") == (not merge.refusal())
    if status == "proved":
        assert_same_outputs(graph, after, seeds=(0, 1, 2))


def _kernel(graph: Graph, name: str) -> str:
    node = graph.nodes[name]
    assert isinstance(node, KernelNode)
    return node.kernel

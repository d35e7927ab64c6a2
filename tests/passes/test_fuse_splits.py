"""``fuse-splits``: what it makes of random programs is valid, proved and computes the same."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import MemcpyNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.verify import verify
from forerun.passes.fuse_splits import FuseSplits
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.splits.order import splits
from forerun.passes.splits.versions import far_uses, settled
from forerun.support.diagnostics import InvalidInput
from forerun.testing import assert_same_outputs
from tests.passes.placed_programs import placed_programs, streamed_programs

PROGRAMS = (placed_programs() | streamed_programs()).filter(lambda g: not verify(g) and certify(g, g).proved)


@given(PROGRAMS, st.sampled_from([0, 1, 2]))
def test_what_it_makes_is_valid_proved_and_computes_the_same(graph: Graph, slots: int) -> None:
    subject = FuseSplits(slots=slots)
    context = PassContext(subject)
    after = subject.apply(graph, context)
    copies = set(after.nodes) - set(graph.nodes)
    event(f"copies: {len(copies)}")
    assert all(isinstance(after.nodes[name], MemcpyNode) for name in copies)
    assert len(copies) == context.statistics["copies_added"]
    assert not verify(after), verify(after)
    verdict = certify(graph, after)
    assert verdict.proved, [str(finding) for finding in verdict.findings]
    assert not far_uses(after)
    assert len(splits(after)) <= len(splits(settled(graph)))
    assert len(splits(after)) == context.statistics["splits"]
    assert_same_outputs(graph, after, seeds=(0, 1, 2, 3))


@given(PROGRAMS)
def test_a_second_application_changes_nothing(graph: Graph) -> None:
    subject = FuseSplits()
    after = subject.apply(graph, PassContext(subject))
    assert subject.apply(after, PassContext(subject)) is after


@given(PROGRAMS)
def test_other_passes_follow(graph: Graph) -> None:
    result = PassManager("fuse-splits,insert-pdl,hoist-loads,plan-memory,reduce-edges").run(graph)
    assert not {record.verdict for record in result.summary.passes} & {"refuted", "unsupported"}
    whole = certify(graph, result.graph)
    assert whole.proved, [str(finding) for finding in whole.findings]
    assert_same_outputs(graph, result.graph, seeds=(0, 1))


@given(PROGRAMS, st.data())
def test_certificates_prove_no_wrong_copies(graph: Graph, data: st.DataObject) -> None:
    """A copy less, or one that goes the other way: what is proved gives the same values."""
    subject = FuseSplits()
    after = subject.apply(graph, PassContext(subject))
    copies = sorted(set(after.nodes) - set(graph.nodes))
    if not copies:
        return
    changed = data.draw(st.sampled_from(copies))
    edit = after.edit()
    node = edit.node(changed)
    assert isinstance(node, MemcpyNode)
    if data.draw(st.booleans()):
        edit.replace_node(MemcpyNode(changed, node.destination, node.source, node.place))
    else:
        edit.remove_node(changed)
    wrong = subject.apply(edit.commit(), PassContext(subject)) if data.draw(st.booleans()) else edit.commit()
    wrong = PassManager("infer-dependencies", []).run(wrong).graph
    status = "invalid" if verify(wrong) else certify(graph, wrong).status
    event(status)
    if status == "proved":
        assert_same_outputs(graph, wrong, seeds=(0, 1, 2))


def test_options_are_checked() -> None:
    with pytest.raises(InvalidInput, match="slots is -1"):
        FuseSplits(slots=-1)

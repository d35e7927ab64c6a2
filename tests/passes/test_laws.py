"""Every pass keeps the laws on random programs. tests/wrong has wrong passes, which the laws catch."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.verify import verify
from forerun.passes.hoist_loads import HoistLoads
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.infra.base import Pass
from forerun.passes.reduce_edges import ReduceEdges
from tests.passes.laws import applied, broken_law, input_of, lost_meaning, subjects, weakened
from tests.programs import Style, programs
from tests.strategies import portion
from tests.wrong.passes import WRONG_PASSES, WrongPass

pytestmark = pytest.mark.slow

CHAINS = programs(Style(chain=True, most_nodes=5, events=True))

# Kernels without waits of their own: insert-pdl puts these first, and hoist-loads has something to do.
HOISTABLE = programs(Style(chain=True, waits=False, opaque=False, most_nodes=6, events=True))

# What neither moves memory nor makes graphs that are not valid.
COMPARABLE = [wrong for wrong in WRONG_PASSES if "memory" not in wrong.subject.changes and wrong.law != "valid"]


@pytest.mark.parametrize("subject", subjects(), ids=str)
@given(chain=CHAINS)
def test_laws(subject: Pass, chain: Graph) -> None:
    graph = input_of(subject.name, chain)
    event(f"changes the graph: {applied(subject, graph) is not graph}")
    assert broken_law(subject, graph) is None
    verdict = certify(graph, applied(subject, graph))
    assert verdict.proved, verdict.findings


@given(HOISTABLE, st.booleans())
def test_laws_where_loads_are_hoisted(chain: Graph, full_edges: bool) -> None:
    subject, graph = HoistLoads(full_edges), input_of("hoist-loads", chain)
    after = applied(subject, graph)
    added = after.count_dependencies()["full"] - graph.count_dependencies()["full"]
    event(f"changes the graph: {after is not graph}, adds full dependencies: {added > 0}")
    assert full_edges or not added
    assert broken_law(subject, graph) is None
    assert broken_law(ReduceEdges(), after) is None
    assert certify(graph, after).proved


@given(CHAINS, st.lists(st.sampled_from(subjects(but="memory nodes")), min_size=2, max_size=4))
def test_laws_in_any_order(graph: Graph, passes: list[Pass]) -> None:
    for subject in passes:
        assert broken_law(subject, graph) is None, str(subject)
        graph = applied(subject, graph)


@given(CHAINS)
def test_laws_where_some_kernels_never_wait(chain: Graph) -> None:
    graph = weakened(applied(InferDependencies(), chain))
    event(f"programmatic: {graph.count_dependencies()['programmatic']}")
    for subject in subjects(but="memory nodes"):
        assert broken_law(subject, graph) is None, str(subject)


@settings(portion(400))
@given(wrong=st.sampled_from(COMPARABLE), chain=st.one_of(CHAINS, HOISTABLE))
def test_certificates_agree_with_the_laws_on_wrong_passes(wrong: WrongPass, chain: Graph) -> None:
    subject = wrong.subject
    for graph in (input_of(subject.name, chain), weakened(applied(InferDependencies(), chain))):
        after = applied(subject, graph)
        if not verify(after):
            lost, verdict = lost_meaning(graph, after), certify(graph, after)
            event(f"{'wrong' if lost else 'right'}: {verdict.status}")
            assert verdict.proved == (lost is None), (wrong.name, lost, verdict.findings)

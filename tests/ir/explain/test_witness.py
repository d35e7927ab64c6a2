"""Witnesses are legal schedules in which the accesses meet; repairs do what they say."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from forerun.ir.explain import drain_witness, witness
from forerun.ir.explain.witness import WitnessStep, prerequisites
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, Phase, Step, Wait
from forerun.ir.semantics import check, order_under
from forerun.ir.types import DependencyKind
from tests.programs import Style, event_graph, programs
from tests.strategies import portion
from tests.three_kernels import graph_of_bodies

FULL, PROGRAMMATIC = DependencyKind.FULL, DependencyKind.PROGRAMMATIC
READ: tuple[Step, ...] = (Phase("load", reads=(Access("b"),)),)
WRITE: tuple[Step, ...] = (Phase("store", writes=(Access("b"),)),)
WAIT: tuple[Step, ...] = (Wait(),)


def is_legal(graph: Graph, schedule: Sequence[WitnessStep]) -> bool:
    """Whether every event comes after all that the rules put before it, and every access after its begin."""
    events = event_graph(graph)
    done: set[tuple[str, str]] = set()
    for step in schedule:
        if step.access is not None:
            if ("S" if step.access.early else "W", step.node) not in done or ("C", step.node) in done:
                return False
            continue
        this = step.event, step.node
        if this in done or (this in events and not set(events.predecessors(this)) <= done):
            return False
        done.add(this)
    return True


def on_a_chain(graph: Graph, first: str, last: str, chain: Sequence[Dependency]) -> bool:
    if not chain:
        return not nx.has_path(graph.topology, first, last)
    links = [d.source for d in chain] == [first, *(d.target for d in chain[:-1])] and chain[-1].target == last
    return links and all(graph.dependency(*d.pair) == d for d in chain)


@given(programs(Style(fences=True)), st.sampled_from([(), ("H6",), ("H8",), ("H6", "H8")]))
def test_a_witness_is_a_legal_schedule_that_ends_with_the_accesses(graph: Graph, assumptions: tuple[str, ...]) -> None:
    verdict = check(graph, assumptions)
    assume(verdict.races)
    order = order_under(graph, assumptions)
    for race in verdict.races[:4]:
        found = witness(graph, race, assumptions)
        assert is_legal(graph, found.schedule)
        assert [step.access for step in found.schedule[-2:]] == [race.later, race.earlier]
        assert found.steps[-2:] == found.schedule[-2:]
        happened = [(step.event, step.node) for step in found.schedule[:-2]]
        for number, this in enumerate(happened):
            assert set(prerequisites(graph, order, this)) <= set(happened[:number])
        assert ("C", race.earlier.node) not in happened
        shown = {race.earlier.node, race.later.node, *(d.target for d in found.chain)}
        assert [step for step in found.schedule if step.node in shown] == list(found.steps)
        assert on_a_chain(graph, race.earlier.node, race.later.node, found.chain)
        assert found.missing in str(found)
        event(f"chain of {len(found.chain)}; because {found.reason.split(chr(39))[0]}")


@settings(portion(25), suppress_health_check=[HealthCheck.filter_too_much])  # few programs have such nodes
@given(programs())
def test_an_undrained_node_outlives_the_sinks(graph: Graph) -> None:
    names = check(graph).undrained
    assume(names)
    for name in names:
        found = drain_witness(graph, name)
        assert is_legal(graph, found.schedule)
        happened = [(step.event, step.node) for step in found.schedule]
        sinks = {("C", sink) for sink in graph.nodes if not graph.outgoing(sink)}
        assert sinks <= set(happened)
        assert ("C", name) not in happened
        assert ("S", name) in happened
        assert on_a_chain(graph, name, found.nodes[-1], found.chain)
        assert found.reason


def test_the_text_of_a_witness() -> None:
    graph = graph_of_bodies(((WRITE,), ((Wait(),),), (READ,)), (PROGRAMMATIC, None, PROGRAMMATIC))
    (race,) = check(graph).races
    assert str(witness(graph, race)).splitlines() == [
        "a schedule that nothing prevents:",
        "    1  'n0' starts",
        "    2  'n2' starts",
        ">   3  'n2' reads %b bytes [0, 4) in phase 'load'",
        ">   4  'n0' writes %b bytes [0, 4) in phase 'store'",
        "missing: C_n0 -> S_n2",
        "chain: n0 -programmatic-> n1 -programmatic-> n2",
        "because the dependency 'n1' -> 'n2' is programmatic, and 'n2' never waits",
    ]


def test_the_reasons() -> None:
    def reason(*bodies: tuple[Step, ...], kinds: tuple[DependencyKind | None, ...]) -> str:
        graph = graph_of_bodies(tuple((body,) for body in bodies), kinds)
        return witness(graph, check(graph).races[0]).reason

    assert reason(WRITE, READ, kinds=(None,)) == "no dependency leads from 'n0' to 'n1'"
    assert "orders the starts at best" in reason(WRITE, WAIT + READ, kinds=(DependencyKind.LAUNCH_ORDER,))
    assert "no wait of 'n1' certainly comes before phase 'load'" in reason(WRITE, READ + WAIT, kinds=(PROGRAMMATIC,))
    skipped = reason(WRITE, (), WAIT + READ, kinds=(PROGRAMMATIC, None, FULL))
    assert "'n1' never waits, so 'n1' may be complete before 'n0' is" in skipped


def test_steps_of_other_nodes_are_left_out() -> None:
    graph = graph_of_bodies((((),), (WRITE,), (WAIT + READ,)), (FULL, None, None))
    found = witness(graph, check(graph).races[0])
    assert {step.node for step in found.steps} == {"n1", "n2"}
    assert {step.node for step in found.schedule} == {"n0", "n1", "n2"}
    assert "2 steps of other nodes left out" in str(found)

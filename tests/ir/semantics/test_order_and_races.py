"""The event order and the race check against explicit event graphs and all pairs of accesses."""

from __future__ import annotations

import networkx as nx
from hypothesis import event, given

from forerun.ir.graph import Graph
from forerun.ir.semantics import NodeAccess, check, conflicts, event_order
from forerun.ir.verify import verify
from tests.programs import Style, all_conflicts, before, completions, programs, races, undrained


# Drawing a program takes longer than judging it, so one is judged in all ways.
@given(programs())
def test_a_random_program_is_valid_and_its_order_and_verdict_are_right(graph: Graph) -> None:
    assert verify(graph) == []
    order_is_reachability_of_events(graph)
    verdict_is_that_of_all_pairs(graph)


def order_is_reachability_of_events(graph: Graph) -> None:
    order, reached = event_order(graph), completions(graph)
    for u in graph.nodes:
        for v in graph.nodes:
            if u != v:
                assert order.completes_before_start(u, v) == (("S", v) in reached[u])
                assert order.completes_before_wait(u, v) == (("W", v) in reached[u])
                assert order.completes_before_completion(u, v) == (("C", v) in reached[u])
    assert order.undrained(graph) == undrained(graph)


def hull(graph: Graph, access: NodeAccess) -> tuple[int, int]:
    """The bytes of an access for all values of what they depend on; all of the view where a value has no bounds."""
    view, ends = graph.buffers[access.buffer], []
    for end, terms, choose in (
        (access.bytes.start, access.bytes.start_terms, min),
        (access.bytes.stop, access.bytes.stop_terms, max),
    ):
        bounds = [graph.buffers[name.strip("%").partition("[")[0]].bounds for name, _ in terms]
        if None in bounds:
            return view.offset, view.stop
        sizes = [size for _, size in terms]
        ends.append(end + sum(choose(size * b for b in given or ()) for size, given in zip(sizes, bounds, strict=True)))
    return ends[0], ends[1]


def known(graph: Graph, a: NodeAccess, b: NodeAccess) -> bool:
    """Whether two accesses certainly happen, to bytes that are known or may be the same."""
    if not all(access.certain and access.bytes.exact for access in (a, b)):
        return False
    (first, last), (other_first, other_last) = hull(graph, a), hull(graph, b)
    return max(first, other_first) < min(last, other_last)


def verdict_is_that_of_all_pairs(graph: Graph) -> None:
    found, left = races(graph), undrained(graph)
    verdict = check(graph)
    event(verdict.status)
    assert verdict.proved == (not found and not left)
    if verdict.status == "unsupported":
        assert any(not known(graph, a, b) for a, b in found)
    reported = {d.location.name for d in verdict.findings if d.code == "R1"}
    assert reported <= {b.node for _, b in found} | {a.node for a, _ in found}


@given(programs(Style(chain=True)))
def test_direct_conflicts_order_all_conflicts(graph: Graph) -> None:
    """If out(a) comes before in(b) for every direct conflict, it does for every conflict."""
    direct: nx.DiGraph = nx.DiGraph()
    direct.add_nodes_from(graph.nodes)
    direct.add_edges_from((c.earlier.node, c.later.node) for c in conflicts(graph))
    for a, b in all_conflicts(graph):
        assert nx.has_path(direct, a.node, b.node)


@given(programs(Style(chain=True, waits=False)))
def test_a_chain_of_full_dependencies_is_proved(graph: Graph) -> None:
    assert check(graph).proved
    reached = completions(graph)
    assert all(before(reached, a, b) for a, b in all_conflicts(graph))

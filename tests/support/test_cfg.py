"""Control-flow graphs: what networkx says of dominators, and what paths say of all else."""

from __future__ import annotations

import networkx as nx
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.support.cfg import FlowGraph, Loop, reach


@st.composite
def flow_graphs(draw: st.DrawFn) -> FlowGraph:
    size = draw(st.integers(1, 9))
    nodes = st.integers(0, size - 1)
    successors = tuple(tuple(draw(st.lists(nodes, max_size=3, unique=True))) for _ in range(size))
    return FlowGraph(successors, draw(st.frozensets(nodes, max_size=2)))


def digraph(graph: FlowGraph) -> nx.DiGraph:
    found = nx.DiGraph([(node, after) for node, targets in enumerate(graph.successors) for after in targets])
    found.add_nodes_from(range(len(graph.successors)))
    return found


def dominators_of_networkx(graph: nx.DiGraph, begin: int, size: int) -> tuple[int | None, ...]:
    found = dict(nx.immediate_dominators(graph, begin))
    found.pop(begin, None)
    return tuple(found.get(node) for node in range(size))


@given(flow_graphs())
def test_dominators(graph: FlowGraph) -> None:
    size = len(graph.successors)
    assert graph.immediate_dominators == dominators_of_networkx(digraph(graph), 0, size)
    assert set(graph.order) == reach([0], graph.successors.__getitem__) == nx.descendants(digraph(graph), 0) | {0}


@given(flow_graphs())
def test_post_dominators(graph: FlowGraph) -> None:
    size = len(graph.successors)
    paths = digraph(graph)
    leaves = {node for node in paths if not paths.out_degree(node)} | graph.exits
    leaves |= {node for node in range(size) if not (nx.descendants(paths, node) | {node}) & leaves}
    paths.add_edges_from((node, size) for node in leaves)
    expected = dominators_of_networkx(paths.reverse(), size, size)
    assert graph.immediate_post_dominators == tuple(None if node == size else node for node in expected)


@given(flow_graphs())
def test_a_node_dominates_what_cannot_be_reached_without_it(graph: FlowGraph) -> None:
    for first in graph.order:
        without = set() if first == 0 else reach([0], lambda n: (t for t in graph.successors[n] if t != first))  # noqa: B023
        for second in graph.order:
            assert graph.dominates(first, second) == (second not in without)


@given(flow_graphs())
def test_loops(graph: FlowGraph) -> None:
    reached = digraph(graph).subgraph(graph.order)
    event(f"loops: {len(graph.loops)}, reducible: {graph.is_reducible}")
    for loop in graph.loops:
        assert all(loop.header in graph.successors[latch] for latch in loop.latches)
        assert all(graph.dominates(loop.header, node) for node in loop.nodes)
        assert nx.is_strongly_connected(reached.subgraph(loop.nodes))
    # Without the edges back to their headers, a reducible graph has no cycle; another one has.
    forward = nx.DiGraph(reached)
    forward.remove_edges_from((latch, loop.header) for loop in graph.loops for latch in loop.latches)
    assert nx.is_directed_acyclic_graph(forward) == graph.is_reducible


@given(flow_graphs())
def test_a_branch_controls_what_only_some_of_its_ways_must_come_to(graph: FlowGraph) -> None:
    """After Ferrante et al.: some successor is post-dominated by the node (or is it), the branch is not."""

    def after(node: int | None) -> set[int]:
        found = set()
        while node is not None:
            found.add(node)
            node = graph.immediate_post_dominators[node]
        return found

    for branch in graph.order:
        targets = graph.successors[branch]
        if len(targets) + (branch in graph.exits) < 2:
            continue
        for node in range(len(graph.successors)):
            must = any(node in after(target) for target in targets)
            assert (branch in graph.controllers[node]) == (must and node not in after(branch) - {branch})


def test_a_loop_in_a_loop() -> None:
    graph = FlowGraph(((1,), (2,), (2, 3), (1, 4), ()))
    assert graph.loops == (Loop(1, frozenset({1, 2, 3}), (3,)), Loop(2, frozenset({2}), (2,)))
    assert graph.controllers == (frozenset(), frozenset({3}), frozenset({2, 3}), frozenset({3}), frozenset())


def test_nothing() -> None:
    assert FlowGraph(()).order == FlowGraph(()).immediate_dominators == FlowGraph(()).loops == ()


def test_a_long_chain_needs_no_recursion() -> None:
    graph = FlowGraph((*((node + 1,) for node in range(5000)), ()))
    assert graph.immediate_dominators[5000] == 4999
    assert graph.dominates(0, 5000)

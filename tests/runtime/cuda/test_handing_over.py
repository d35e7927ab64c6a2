"""Which copies the kernel that hands over makes itself, and what then comes before and after it."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemcpyNode
from forerun.ir.types import DependencyKind
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_COPIES
from forerun.runtime.cuda.emit.handing_over import HandOver, with_copies_taken
from forerun.runtime.cuda.emit.segments import joined, one_after_the_other, segments_of
from tests.runtime.cuda.graphs import I32
from tests.runtime.cuda.test_splitting import two_sequences


def taken(graph: Graph) -> tuple[Graph, Graph, Mapping[str, HandOver]]:
    segments = segments_of(graph, apart=True)
    part = joined(graph, segments)
    return part, *with_copies_taken(graph, part, [s.nodes[0] for s in segments if s.is_host])


def placed(builder: GraphBuilder) -> Graph:
    return PassManager('place{host="#host*"},splits').run(builder.build()).graph


def around_one_host_node(size: int, extra: int = 0) -> Graph:
    """A kernel of the host between two of the device; it adds up ``extra`` more buffers of the device."""
    builder = GraphBuilder("around")
    x = builder.input("x", I32, (size,))
    sources = []
    for number in range(1 + extra):
        given = sources[-1] if sources else x
        sources.append(builder.temp(f"t{number}", I32, (size,)))
        builder.launch(KERNELS["add_i32"], a=given, b=given, y=sources[-1], node=f"before{number}")
    total = sources[0]
    for number, source in enumerate(sources):
        y = builder.temp(f"sum{number}", I32, (size,))
        builder.launch(KERNELS["add_i32"], a=total, b=source, y=y, node=f"host{number}")
        total = y
    builder.launch(KERNELS["add_i32"], a=total, b=total, y=builder.output("y", I32, (size,)), node="last")
    return placed(builder)


def test_small_copies_are_made_by_the_kernel() -> None:
    part, made, handed = taken(around_one_host_node(64))
    assert sum(isinstance(node, MemcpyNode) for node in part) == 2
    assert not any(isinstance(node, MemcpyNode) for node in made)
    (work,) = handed.values()
    assert ([m.size for m in work.before], [m.size for m in work.after]) == ([256], [256])
    assert {(d.source, d.target, d.kind) for d in made.dependencies} == {
        ("before0", "host0", DependencyKind.PROGRAMMATIC),
        ("host0", "last", DependencyKind.FULL),
    }


def test_copies_between_two_sequences_are_made_too() -> None:
    """That segments of the device follow each other does not tie the copies down."""
    graph = two_sequences()
    segments = segments_of(graph, apart=True)
    _, made, handed = taken(graph)
    ordered = one_after_the_other(made, segments)
    assert [(len(work.before), len(work.after)) for work in handed.values()] == [(1, 1), (1, 1)]
    found = nx.transitive_closure_dag(nx.DiGraph((d.source, d.target) for d in ordered.dependencies))
    assert found.has_edge("first0", "first1")
    assert found.has_edge("first1", "last0")
    assert not found.has_edge("host0", "first1")
    assert not found.has_edge("first1", "host0")


def test_large_copies_stay_nodes() -> None:
    part, made, handed = taken(around_one_host_node(1 << 15))
    assert handed == {"host0": HandOver()}
    assert set(made.nodes) == set(part.nodes)
    assert all(d.kind is DependencyKind.FULL for d in made.dependencies)


def test_more_copies_than_it_can_make_stay_nodes() -> None:
    part, made, handed = taken(around_one_host_node(64, extra=HAND_OVER_COPIES + 2))
    (work,) = handed.values()
    assert len(work.before) + len(work.after) == HAND_OVER_COPIES
    copies = [sum(isinstance(node, MemcpyNode) for node in graph) for graph in (part, made)]
    assert copies[0] - copies[1] == HAND_OVER_COPIES


def test_a_copy_that_others_need_too_stays_a_node() -> None:
    """What the first host node gives is copied once, and two kernels of the device use it; one waits for more."""
    builder = GraphBuilder("shared")
    x = builder.input("x", I32, (8,))
    here, first, second = (builder.temp(name, I32, (8,)) for name in ("here", "first", "second"))
    builder.launch(KERNELS["add_i32"], a=x, b=x, y=here, node="n0")
    builder.launch(KERNELS["add_i32"], a=here, b=here, y=first, node="host0")
    builder.launch(KERNELS["add_i32"], a=first, b=here, y=second, node="n1")
    builder.launch(KERNELS["add_i32"], a=second, b=here, y=builder.temp("third", I32, (8,)), node="host1")
    builder.launch(KERNELS["add_i32"], a="third", b=first, y=builder.output("y", I32, (8,)), node="n2")
    graph = placed(builder)
    part, made, handed = taken(graph)
    for move in (m for work in handed.values() for m in (*work.before, *work.after)):
        around = {d.source for d in part.incoming(move.path)} | {d.target for d in part.outgoing(move.path)}
        assert around & set(handed)
        assert move.path not in made.nodes
    before, after = (
        nx.transitive_closure_dag(nx.DiGraph((d.source, d.target) for d in one.dependencies)) for one in (part, made)
    )
    kept = set(made.nodes)
    assert {edge for edge in before.edges if kept.issuperset(edge)} <= set(after.edges), "nothing lost its order"
    moved = [m.path for work in handed.values() for m in (*work.before, *work.after)]
    assert len(moved) == len(set(moved))
    names = list(made.nodes)
    assert all(names.index(d.source) < names.index(d.target) for d in made.dependencies)

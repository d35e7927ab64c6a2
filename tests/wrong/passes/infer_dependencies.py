"""Wrong passes that infer dependencies."""

from __future__ import annotations

from collections.abc import Callable

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import MemsetNode
from forerun.ir.semantics import Conflict, conflicts
from forerun.ir.types import DependencyKind
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.infra.base import PassContext
from forerun.passes.insert_pdl import can_overlap
from tests.wrong.wrong_pass import both_are_kernels, weakened_where, wrong_pass

__all__: list[str] = []


def _inferred(graph: Graph, wanted: Callable[[Conflict], bool], kind: DependencyKind = DependencyKind.FULL) -> Graph:
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(graph) if wanted(c)}
    edit = graph.edit()
    for present in graph.dependencies:
        edit.remove_dependency(*present.pair)
    for pair in pairs:
        edit.set_dependency(Dependency(*pair, kind=kind))
    return edit.commit()


@wrong_pass("race", "two writes of the same bytes need no order")
def ignores_waw(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.kind != "WAW")


@wrong_pass("race", "a read needs no order after the write")
def ignores_raw(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.kind != "RAW")


@wrong_pass("race", "buffers conflict by name: memory that an arena uses again is forgotten")
def compares_names(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.buffer == c.later.buffer)


@wrong_pass("race", "only neighbours in launch order are ordered")
def sees_neighbours_only(graph: Graph) -> Graph:
    place = {name: i for i, name in enumerate(graph.nodes)}
    return _inferred(graph, lambda c: place[c.later.node] == place[c.earlier.node] + 1)


@wrong_pass("race", "fills are taken to write nothing")
def forgets_fills(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: not isinstance(graph.nodes[c.earlier.node], MemsetNode))


@wrong_pass("race", "black boxes are taken to touch nothing")
def forgets_black_boxes(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.certain and c.later.certain)


@wrong_pass("race", "scalars from memory are constants, so rows at loaded positions are not compared")
def forgets_symbolic_rows(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.bytes.is_constant and c.later.bytes.is_constant)


@wrong_pass("race", "a node is ordered after the last of its predecessors only")
def keeps_the_last_edge(graph: Graph) -> Graph:
    right = InferDependencies().apply(graph, PassContext(InferDependencies()))
    edit = right.edit()
    for name in right.nodes:
        for dependency in right.incoming(name)[:-1]:
            edit.remove_dependency(*dependency.pair)
    return edit.commit()


@wrong_pass("race", "launch-order edges are thought to be enough between kernels")
def trusts_launch_order(graph: Graph) -> Graph:
    right = InferDependencies().apply(graph, PassContext(InferDependencies()))
    return weakened_where(
        right, DependencyKind.LAUNCH_ORDER, lambda graph, d: all(can_overlap(graph, n) for n in d.pair)
    )


@wrong_pass("drained", "edges without a hazard become programmatic, and nobody waits")
def weakens_what_has_no_hazard(graph: Graph) -> Graph:
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(graph)}
    return weakened_where(
        graph, DependencyKind.PROGRAMMATIC, lambda graph, d: d.pair not in pairs and both_are_kernels(graph, d)
    )


@wrong_pass("race", "infers dependencies from reads after writes and writes after writes only")
def ignores_war(graph: Graph) -> Graph:
    wanted = {(c.earlier.node, c.later.node) for c in conflicts(graph) if c.kind != "WAR"}
    edit = graph.edit()
    for present in graph.dependencies:
        edit.remove_dependency(*present.pair)
    for pair in wanted:
        edit.set_dependency(Dependency(*pair))
    return edit.commit()

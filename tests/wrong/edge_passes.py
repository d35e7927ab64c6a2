"""Wrong passes that infer, weaken and reduce dependencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import networkx as nx

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Phase, Role, Wait
from forerun.ir.nodes import KernelNode, MemsetNode
from forerun.ir.semantics import Conflict, conflicts
from forerun.ir.types import DependencyKind
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.infra.base import PassContext
from forerun.passes.insert_pdl import InsertPdl, can_overlap, with_waits
from forerun.passes.reduce_edges import ReduceEdges
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []


# infer-dependencies


def _inferred(graph: Graph, wanted: Callable[[Conflict], bool], kind: DependencyKind = DependencyKind.FULL) -> Graph:
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(graph) if wanted(c)}
    edit = graph.edit()
    for present in graph.dependencies:
        edit.remove_dependency(*present.pair)
    for pair in pairs:
        edit.set_dependency(Dependency(*pair, kind=kind))
    return edit.commit()


@wrong_pass("infer-dependencies", "race", "two writes of the same bytes need no order")
def ignores_waw(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.kind != "WAW")


@wrong_pass("infer-dependencies", "race", "a read needs no order after the write")
def ignores_raw(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.kind != "RAW")


@wrong_pass("infer-dependencies", "race", "buffers conflict by name: memory that an arena uses again is forgotten")
def compares_names(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.buffer == c.later.buffer)


@wrong_pass("infer-dependencies", "race", "only neighbours in launch order are ordered")
def sees_neighbours_only(graph: Graph) -> Graph:
    place = {name: i for i, name in enumerate(graph.nodes)}
    return _inferred(graph, lambda c: place[c.later.node] == place[c.earlier.node] + 1)


@wrong_pass("infer-dependencies", "race", "fills are taken to write nothing")
def forgets_fills(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: not isinstance(graph.nodes[c.earlier.node], MemsetNode))


@wrong_pass("infer-dependencies", "race", "black boxes are taken to touch nothing")
def forgets_black_boxes(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.certain and c.later.certain)


@wrong_pass(
    "infer-dependencies", "race", "scalars from memory are constants, so rows at loaded positions are not compared"
)
def forgets_symbolic_rows(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.bytes.is_constant and c.later.bytes.is_constant)


@wrong_pass("infer-dependencies", "race", "a node is ordered after the last of its predecessors only")
def keeps_the_last_edge(graph: Graph) -> Graph:
    right = InferDependencies().apply(graph, PassContext(InferDependencies()))
    edit = right.edit()
    for name in right.nodes:
        for dependency in right.incoming(name)[:-1]:
            edit.remove_dependency(*dependency.pair)
    return edit.commit()


@wrong_pass("infer-dependencies", "race", "launch-order edges are thought to be enough between kernels")
def trusts_launch_order(graph: Graph) -> Graph:
    right = InferDependencies().apply(graph, PassContext(InferDependencies()))
    return _weakened(right, DependencyKind.LAUNCH_ORDER, lambda graph, d: all(can_overlap(graph, n) for n in d.pair))


# insert-pdl


def _weakened(graph: Graph, kind: DependencyKind, where: Callable[[Graph, Dependency], bool]) -> Graph:
    edit = graph.edit()
    for d in graph.dependencies:
        if where(graph, d):
            edit.set_dependency(replace(d, kind=kind))
    return edit.commit()


def _programmatic(
    graph: Graph,
    body: Callable[[tuple[Role, ...]], tuple[Role, ...]],
    where: Callable[[Graph, Dependency], bool] = lambda graph, d: True,
    end: str = "target",
) -> Graph:
    """Programmatic dependencies between kernels with bodies, and another body for each target without a wait."""
    edit = graph.edit()
    changed: set[str] = set()
    early = {c.later.node for c in conflicts(graph) if c.later.early and _waits(graph, c.later.node)}
    for d in graph.dependencies:
        if all(can_overlap(graph, name) for name in d.pair) and where(graph, d) and d.target not in early:
            edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
            changed.add(d.target if end == "target" else d.source)
    for name in changed:
        node = graph.nodes[name]
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        if not kernel.has(Wait) and kernel.roles:
            variant = edit.kernel_variant(kernel, body(kernel.roles), "pdl")
            edit.replace_node(replace(node, kernel=variant.name))
    return edit.commit()


def _waits(graph: Graph, name: str) -> bool:
    node = graph.nodes[name]
    return isinstance(node, KernelNode) and graph.kernels[node.kernel].has(Wait)


def _with_wait(role: Role, at: int) -> Role:
    return replace(role, steps=(*role.steps[:at], Wait(), *role.steps[at:]))


def _first(role: Role, test: Callable[[Phase], object]) -> int:
    found = (i for i, step in enumerate(role.steps) if isinstance(step, Phase) and test(step))
    return next(found, len(role.steps))


@wrong_pass("insert-pdl", "race", "one warp waits for all")
def first_role_waits(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: (_with_wait(roles[0], 0), *roles[1:]))


@wrong_pass("insert-pdl", "race", "the wait comes last")
def waits_at_the_end(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(role, len(role.steps)) for role in roles))


@wrong_pass("insert-pdl", "race", "the wait guards the loads, and stores before it are forgotten")
def waits_before_the_first_read(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(r, _first(r, lambda p: p.reads)) for r in roles))


@wrong_pass("insert-pdl", "race", "the wait guards the stores, and loads before it are forgotten")
def waits_before_the_first_write(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(r, _first(r, lambda p: p.writes)) for r in roles))


@wrong_pass("insert-pdl", "race", "the wait is given to the source of the edge")
def waits_at_the_wrong_end(graph: Graph) -> Graph:
    return _programmatic(graph, with_waits, end="source")


@wrong_pass("insert-pdl", "valid", "copies and fills get programmatic edges as well")
def programmatic_everywhere(graph: Graph) -> Graph:
    return _weakened(graph, DependencyKind.PROGRAMMATIC, lambda graph, d: True)


@wrong_pass("insert-pdl", "valid", "kernels that wait get a second wait")
def waits_twice(graph: Graph) -> Graph:
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            edit.replace_node(
                replace(node, kernel=edit.kernel_variant(kernel, with_waits(kernel.roles or ()), "pdl").name)
            )
    return edit.commit()


@wrong_pass("infer-dependencies", "drained", "edges without a hazard become programmatic, and nobody waits")
def weakens_what_has_no_hazard(graph: Graph) -> Graph:
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(graph)}
    return _weakened(graph, DependencyKind.PROGRAMMATIC, lambda graph, d: d.pair not in pairs and _both(graph, d))


@wrong_pass("insert-pdl", "race", "a write after a read gets a programmatic edge without a wait")
def trusts_war(graph: Graph) -> Graph:
    kinds: dict[tuple[str, str], set[str]] = {}
    for c in conflicts(graph):
        kinds.setdefault((c.earlier.node, c.later.node), set()).add(c.kind)
    return _programmatic(graph, lambda roles: roles, lambda graph, d: kinds.get(d.pair) == {"WAR"})


# reduce-edges


def _reduced(graph: Graph, implied: Callable[[Dependency], bool]) -> Graph:
    edit = graph.edit()
    for d in graph.dependencies:
        if implied(d):
            edit.remove_dependency(*d.pair)
    return edit.commit()


@wrong_pass("reduce-edges", "race", "a programmatic edge is dropped behind any other path")
def drops_programmatic_behind_paths(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    return _reduced(graph, lambda d: d.kind is DependencyKind.PROGRAMMATIC and d.pair not in kept)


@wrong_pass("reduce-edges", "race", "a full edge is dropped behind a path of programmatic ones")
def drops_full_behind_paths(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    return _reduced(graph, lambda d: d.kind is DependencyKind.FULL and d.pair not in kept)


@wrong_pass("reduce-edges", "race", "one edge into each node is kept, the last")
def keeps_one_edge(graph: Graph) -> Graph:
    return _reduced(graph, lambda d: graph.incoming(d.target)[-1].pair != d.pair)


@wrong_pass("reduce-edges", "race", "edges whose only reason is a write after a read are dropped")
def drops_war_edges(graph: Graph) -> Graph:
    return _reduced(graph, lambda d: bool(d.hazards) and {h.kind for h in d.hazards} == {"WAR"})


def _both(graph: Graph, d: Dependency) -> bool:
    return all(isinstance(graph.nodes[name], KernelNode) for name in d.pair)


@wrong_pass("reduce-edges", "race", "reduces, and then makes programmatic what is left")
def reduces_and_weakens(graph: Graph) -> Graph:
    right = ReduceEdges().apply(graph, PassContext(ReduceEdges()))
    return _weakened(right, DependencyKind.PROGRAMMATIC, _both)


@wrong_pass("insert-pdl", "body", "adds a role that only waits at every run")
def adds_a_role_each_time(graph: Graph) -> Graph:
    right = InsertPdl().apply(graph, PassContext(InsertPdl()))
    edit = right.edit()
    for node in right:
        if isinstance(node, KernelNode) and right.kernels[node.kernel].roles and not _has_barrier(right, node):
            kernel = right.kernels[node.kernel]
            roles = (*(kernel.roles or ()), Role(f"w{len(kernel.roles or ())}", (Wait(),)))
            edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "more").name))
    edit.drop_unused_kernels()
    return edit.commit()


def _has_barrier(graph: Graph, node: KernelNode) -> bool:
    return graph.kernels[node.kernel].has(Barrier)

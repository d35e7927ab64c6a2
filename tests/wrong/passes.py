"""Wrong passes: each looks like one of the real ones and lacks a condition. The list is data; the laws must kill all.

The twins of ``tests/passes/twins.py`` are of the same kind; there are more of them here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import networkx as nx

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Step, Wait
from forerun.ir.nodes import BufferArgument, KernelNode, MemsetNode
from forerun.ir.semantics import Conflict, conflicts, event_order
from forerun.ir.types import DependencyKind
from forerun.passes.base import Pass, PassContext
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.insert_pdl import InsertPdl, can_overlap, with_waits
from forerun.passes.reduce_edges import ReduceEdges

__all__ = ["WRONG_PASSES", "WrongPass"]


@dataclass(frozen=True)
class WrongPass:
    """A wrong pass: what is wrong with it, the pass itself, and the law that it must be caught by."""

    name: str
    wrong: str
    law: str
    subject: Pass


WRONG_PASSES: list[WrongPass] = []

_Rewrite = Callable[[Graph], Graph]


def _wrong(stage: str, law: str, wrong: str) -> Callable[[_Rewrite], _Rewrite]:
    """Adds a function to the list, as a pass that gets what the real pass of that name gets."""

    def add(rewrite: _Rewrite) -> _Rewrite:
        def apply(self: Pass, graph: Graph, context: PassContext) -> Graph:
            return rewrite(graph)

        name = rewrite.__name__.replace("_", "-")
        cls = dataclass(frozen=True)(type(name, (Pass,), {"name": stage, "apply": apply, "__module__": __name__}))
        WRONG_PASSES.append(WrongPass(name, wrong, law, cls()))
        return rewrite

    return add


# infer-dependencies


def _inferred(graph: Graph, wanted: Callable[[Conflict], bool], kind: DependencyKind = DependencyKind.FULL) -> Graph:
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(graph) if wanted(c)}
    edit = graph.edit()
    for present in graph.dependencies:
        edit.remove_dependency(*present.pair)
    for pair in pairs:
        edit.set_dependency(Dependency(*pair, kind=kind))
    return edit.commit()


@_wrong("infer-dependencies", "race", "two writes of the same bytes need no order")
def ignores_waw(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.kind != "WAW")


@_wrong("infer-dependencies", "race", "a read needs no order after the write")
def ignores_raw(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.kind != "RAW")


@_wrong("infer-dependencies", "race", "buffers conflict by name: memory that an arena uses again is forgotten")
def compares_names(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.buffer == c.later.buffer)


@_wrong("infer-dependencies", "race", "only neighbours in launch order are ordered")
def sees_neighbours_only(graph: Graph) -> Graph:
    place = {name: i for i, name in enumerate(graph.nodes)}
    return _inferred(graph, lambda c: place[c.later.node] == place[c.earlier.node] + 1)


@_wrong("infer-dependencies", "race", "fills are taken to write nothing")
def forgets_fills(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: not isinstance(graph.nodes[c.earlier.node], MemsetNode))


@_wrong("infer-dependencies", "race", "black boxes are taken to touch nothing")
def forgets_black_boxes(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.certain and c.later.certain)


@_wrong("infer-dependencies", "race", "scalars from memory are constants, so rows at loaded positions are not compared")
def forgets_symbolic_rows(graph: Graph) -> Graph:
    return _inferred(graph, lambda c: c.earlier.bytes.is_constant and c.later.bytes.is_constant)


@_wrong("infer-dependencies", "race", "a node is ordered after the last of its predecessors only")
def keeps_the_last_edge(graph: Graph) -> Graph:
    right = InferDependencies().apply(graph, PassContext(InferDependencies()))
    edit = right.edit()
    for name in right.nodes:
        for dependency in right.incoming(name)[:-1]:
            edit.remove_dependency(*dependency.pair)
    return edit.commit()


@_wrong("infer-dependencies", "race", "launch-order edges are thought to be enough between kernels")
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


@_wrong("insert-pdl", "race", "one warp waits for all")
def first_role_waits(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: (_with_wait(roles[0], 0), *roles[1:]))


@_wrong("insert-pdl", "race", "the wait comes last")
def waits_at_the_end(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(role, len(role.steps)) for role in roles))


@_wrong("insert-pdl", "race", "the wait guards the loads, and stores before it are forgotten")
def waits_before_the_first_read(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(r, _first(r, lambda p: p.reads)) for r in roles))


@_wrong("insert-pdl", "race", "the wait guards the stores, and loads before it are forgotten")
def waits_before_the_first_write(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(r, _first(r, lambda p: p.writes)) for r in roles))


@_wrong("insert-pdl", "race", "the wait is given to the source of the edge")
def waits_at_the_wrong_end(graph: Graph) -> Graph:
    return _programmatic(graph, with_waits, end="source")


@_wrong("insert-pdl", "valid", "copies and fills get programmatic edges as well")
def programmatic_everywhere(graph: Graph) -> Graph:
    return _weakened(graph, DependencyKind.PROGRAMMATIC, lambda graph, d: True)


@_wrong("insert-pdl", "valid", "kernels that wait get a second wait")
def waits_twice(graph: Graph) -> Graph:
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            edit.replace_node(
                replace(node, kernel=edit.kernel_variant(kernel, with_waits(kernel.roles or ()), "pdl").name)
            )
    return edit.commit()


@_wrong("infer-dependencies", "drained", "edges without a hazard become programmatic, and nobody waits")
def weakens_what_has_no_hazard(graph: Graph) -> Graph:
    pairs = {(c.earlier.node, c.later.node) for c in conflicts(graph)}
    return _weakened(graph, DependencyKind.PROGRAMMATIC, lambda graph, d: d.pair not in pairs and _both(graph, d))


@_wrong("insert-pdl", "race", "a write after a read gets a programmatic edge without a wait")
def trusts_war(graph: Graph) -> Graph:
    kinds: dict[tuple[str, str], set[str]] = {}
    for c in conflicts(graph):
        kinds.setdefault((c.earlier.node, c.later.node), set()).add(c.kind)
    return _programmatic(graph, lambda roles: roles, lambda graph, d: kinds.get(d.pair) == {"WAR"})


# hoist-loads


def _hoisted(graph: Graph, may_move: Callable[[Kernel, KernelNode, Role, Phase], bool], past: bool = False) -> Graph:
    """Phases that may move go ahead of the first wait of their role; never past a barrier, unless told."""
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            roles = tuple(_moved(kernel, node, role, may_move, past) for role in kernel.roles or ())
            if roles != kernel.roles:
                edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "hoisted").name))
    edit.drop_unused_kernels()
    return edit.commit()


def _moved(
    kernel: Kernel,
    node: KernelNode,
    role: Role,
    may_move: Callable[[Kernel, KernelNode, Role, Phase], bool],
    past: bool,
) -> Role:
    at = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), None)
    if at is None:
        return role
    ahead: list[Step] = []
    rest: list[Step] = []
    barrier = False
    for step in role.steps[at + 1 :]:
        barrier = barrier or (isinstance(step, Barrier) and not past)
        moves = not barrier and isinstance(step, Phase) and may_move(kernel, node, role, step)
        (ahead if moves else rest).append(step)
    return replace(role, steps=(*role.steps[:at], *ahead, role.steps[at], *rest))


def _is_load(phase: Phase) -> bool:
    return bool(phase.reads) and not phase.writes


def _raw(graph: Graph, counts: Callable[[Conflict], bool]) -> set[tuple[str, str]]:
    """(node, phase) of the reads that some writer which counts holds back."""
    return {(c.later.node, c.later.phase) for c in conflicts(graph) if c.kind == "RAW" and counts(c)}


def _held(graph: Graph, counts: Callable[[Conflict], bool]) -> Callable[[Kernel, KernelNode, Role, Phase], bool]:
    blocked = _raw(graph, counts)
    return lambda kernel, node, role, phase: (
        _is_load(phase)
        and not phase.takes
        and not _reads_own_stores(graph, kernel, node, phase)
        and (node.name, phase.name) not in blocked
    )


def _reads_own_stores(graph: Graph, kernel: Kernel, node: KernelNode, phase: Phase) -> bool:
    bound = {n: x.buffer for n, x in node.arguments if isinstance(x, BufferArgument)}
    stored = {graph.buffers[bound[a.parameter]].allocation for p in kernel.phases for a in p.writes}
    return any(graph.buffers[bound[a.parameter]].allocation in stored for a in phase.reads)


@_wrong("hoist-loads", "race", "only the last kernel before is asked (two hops)")
def asks_the_last_source(graph: Graph) -> Graph:
    place = {name: i for i, name in enumerate(graph.nodes)}
    last = {
        name: max(graph.incoming(name), key=lambda d: place[d.source]).pair
        for name in graph.nodes
        if graph.incoming(name)
    }
    return _hoisted(graph, _held(graph, lambda c: last.get(c.later.node) == (c.earlier.node, c.later.node)))


@_wrong("hoist-loads", "race", "complete before the wait is taken for complete before the start")
def takes_wait_for_start(graph: Graph) -> Graph:
    order = event_order(graph)
    return _hoisted(graph, _held(graph, lambda c: not order.completes_before_wait(c.earlier.node, c.later.node)))


@_wrong("hoist-loads", "race", "writers are found by the name of the buffer")
def asks_for_names(graph: Graph) -> Graph:
    return _hoisted(graph, _held(graph, lambda c: c.earlier.buffer == c.later.buffer))


@_wrong("hoist-loads", "race", "rows at loaded positions count as past rows")
def takes_rows_for_past_rows(graph: Graph) -> Graph:
    return _hoisted(graph, _held(graph, lambda c: c.earlier.bytes.is_constant and c.later.bytes.is_constant))


@_wrong("hoist-loads", "valid", "a phase moves ahead of the one that gives what it takes")
def forgets_locals(graph: Graph) -> Graph:
    blocked = _raw(graph, lambda c: True)

    def may_move(kernel: Kernel, node: KernelNode, role: Role, phase: Phase) -> bool:
        return bool(phase.takes) and not phase.writes and (node.name, phase.name) not in blocked

    return _hoisted(graph, may_move)


@_wrong("hoist-loads", "race", "stores move with the loads")
def hoists_stores(graph: Graph) -> Graph:
    blocked = _raw(graph, lambda c: True)
    return _hoisted(graph, lambda kernel, node, role, phase: not phase.takes and (node.name, phase.name) not in blocked)


@_wrong("hoist-loads", "body", "a load moves past stores of its own kernel to the same bytes")
def forgets_own_stores(graph: Graph) -> Graph:
    blocked = _raw(graph, lambda c: True)
    return _hoisted(
        graph,
        lambda kernel, node, role, phase: (
            _is_load(phase) and not phase.takes and (node.name, phase.name) not in blocked
        ),
    )


@_wrong("hoist-loads", "race", "the wait moves down to the first store")
def sinks_the_wait(graph: Graph) -> Graph:
    return _hoisted(graph, lambda kernel, node, role, phase: _is_load(phase) and not phase.takes)


@_wrong("hoist-loads", "body", "a wait with no phase behind it is dropped")
def drops_last_waits(graph: Graph) -> Graph:
    return _rewaited(graph, lambda role: role.steps[:-1] if isinstance(role.steps[-1], Wait) else role.steps)


@_wrong("hoist-loads", "race", "the wait of a kernel that stores nothing is dropped")
def drops_waits_of_readers(graph: Graph) -> Graph:
    def without(role: Role) -> tuple[Step, ...]:
        reads_only = not any(phase.writes for phase in role.phases)
        return tuple(step for step in role.steps if not (reads_only and isinstance(step, Wait)))

    return _rewaited(graph, without)


def _rewaited(graph: Graph, steps: Callable[[Role], tuple[Step, ...]]) -> Graph:
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            roles = tuple(replace(role, steps=steps(role)) for role in kernel.roles or ())
            if roles != kernel.roles:
                edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "changed").name))
    edit.drop_unused_kernels()
    return edit.commit()


# reduce-edges


def _reduced(graph: Graph, implied: Callable[[Dependency], bool]) -> Graph:
    edit = graph.edit()
    for d in graph.dependencies:
        if implied(d):
            edit.remove_dependency(*d.pair)
    return edit.commit()


@_wrong("reduce-edges", "race", "a programmatic edge is dropped behind any other path")
def drops_programmatic_behind_paths(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    return _reduced(graph, lambda d: d.kind is DependencyKind.PROGRAMMATIC and d.pair not in kept)


@_wrong("reduce-edges", "race", "a full edge is dropped behind a path of programmatic ones")
def drops_full_behind_paths(graph: Graph) -> Graph:
    kept = set(nx.transitive_reduction(graph.topology).edges)
    return _reduced(graph, lambda d: d.kind is DependencyKind.FULL and d.pair not in kept)


@_wrong("reduce-edges", "race", "one edge into each node is kept, the last")
def keeps_one_edge(graph: Graph) -> Graph:
    return _reduced(graph, lambda d: graph.incoming(d.target)[-1].pair != d.pair)


@_wrong("reduce-edges", "race", "edges whose only reason is a write after a read are dropped")
def drops_war_edges(graph: Graph) -> Graph:
    return _reduced(graph, lambda d: bool(d.hazards) and {h.kind for h in d.hazards} == {"WAR"})


def _both(graph: Graph, d: Dependency) -> bool:
    return all(isinstance(graph.nodes[name], KernelNode) for name in d.pair)


@_wrong("reduce-edges", "race", "reduces, and then makes programmatic what is left")
def reduces_and_weakens(graph: Graph) -> Graph:
    right = ReduceEdges().apply(graph, PassContext(ReduceEdges()))
    return _weakened(right, DependencyKind.PROGRAMMATIC, _both)


@_wrong("insert-pdl", "body", "adds a role that only waits at every run")
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

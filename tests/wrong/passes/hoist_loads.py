"""Wrong passes that move loads and waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Step, Wait
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.semantics import Conflict, accesses, conflicts, event_order
from forerun.passes.hoist_loads import HoistLoads, complete_long_ago, hoisted, own_hazards, pending_writers
from forerun.passes.infra.base import PassContext
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []


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
        and not phase.uses
        and not _reads_own_stores(graph, kernel, node, phase)
        and (node.name, phase.name) not in blocked
    )


def _reads_own_stores(graph: Graph, kernel: Kernel, node: KernelNode, phase: Phase) -> bool:
    bound = {n: x.buffer for n, x in node.arguments if isinstance(x, BufferArgument)}
    stored = {graph.buffers[bound[a.parameter]].allocation for p in kernel.phases for a in p.writes}
    return any(graph.buffers[bound[a.parameter]].allocation in stored for a in phase.reads)


@wrong_pass("race", "only the last kernel before is asked (two hops)")
def asks_the_last_source(graph: Graph) -> Graph:
    place = {name: i for i, name in enumerate(graph.nodes)}
    last = {
        name: max(graph.incoming(name), key=lambda d: place[d.source]).pair
        for name in graph.nodes
        if graph.incoming(name)
    }
    return _hoisted(graph, _held(graph, lambda c: last.get(c.later.node) == (c.earlier.node, c.later.node)))


@wrong_pass("race", "complete before the wait is taken for complete before the start")
def takes_wait_for_start(graph: Graph) -> Graph:
    order = event_order(graph)
    return _hoisted(graph, _held(graph, lambda c: not order.completes_before_wait(c.earlier.node, c.later.node)))


@wrong_pass("race", "writers are found by the name of the buffer")
def asks_for_names(graph: Graph) -> Graph:
    return _hoisted(graph, _held(graph, lambda c: c.earlier.buffer == c.later.buffer))


@wrong_pass("race", "rows at loaded positions count as past rows")
def takes_rows_for_past_rows(graph: Graph) -> Graph:
    return _hoisted(graph, _held(graph, lambda c: c.earlier.bytes.is_constant and c.later.bytes.is_constant))


@wrong_pass("valid", "a phase moves ahead of the one that defines what it uses")
def forgets_locals(graph: Graph) -> Graph:
    blocked = _raw(graph, lambda c: True)

    def may_move(kernel: Kernel, node: KernelNode, role: Role, phase: Phase) -> bool:
        return bool(phase.uses) and not phase.writes and (node.name, phase.name) not in blocked

    return _hoisted(graph, may_move)


@wrong_pass("race", "stores move with the loads")
def hoists_stores(graph: Graph) -> Graph:
    blocked = _raw(graph, lambda c: True)
    return _hoisted(graph, lambda kernel, node, role, phase: not phase.uses and (node.name, phase.name) not in blocked)


@wrong_pass("body", "a load moves past stores of its own kernel to the same bytes")
def forgets_own_stores(graph: Graph) -> Graph:
    blocked = _raw(graph, lambda c: True)
    return _hoisted(
        graph,
        lambda kernel, node, role, phase: _is_load(phase) and not phase.uses and (node.name, phase.name) not in blocked,
    )


@wrong_pass("race", "the wait moves down to the first store")
def sinks_the_wait(graph: Graph) -> Graph:
    return _hoisted(graph, lambda kernel, node, role, phase: _is_load(phase) and not phase.uses)


@wrong_pass("body", "a wait with no phase behind it is dropped")
def drops_last_waits(graph: Graph) -> Graph:
    return _rewaited(graph, lambda role: role.steps[:-1] if isinstance(role.steps[-1], Wait) else role.steps)


@wrong_pass("race", "the wait of a kernel that stores nothing is dropped")
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


@wrong_pass("race", "hoists loads without asking who writes what they read")
def hoists_everything(graph: Graph) -> Graph:
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            roles = tuple(_loads_first(role) for role in kernel.roles or ())
            if roles != kernel.roles:
                edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "hoisted").name))
    edit.drop_unused_kernels()
    return edit.commit()


@wrong_pass("body", "hoists loads that no other node holds back, past the kernel's own writes")
def ignores_own_writes(graph: Graph) -> Graph:
    edit = graph.edit()
    pending = pending_writers(graph, event_order(graph))
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            roles = [replace(r, steps=hoisted(r, set(pending.get(node.name, ())))[0]) for r in kernel.roles or ()]
            if tuple(roles) != kernel.roles:
                edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, tuple(roles), "hoisted").name))
    edit.drop_unused_kernels()
    return edit.commit()


@wrong_pass("race", "hoists loads of what was written long ago, and forgets the full dependency")
def adds_no_full_edge(graph: Graph) -> Graph:
    edit = HoistLoads().apply(graph, PassContext(HoistLoads())).edit()
    for pair in [d.pair for d in graph.dependencies]:
        edit.set_dependency(graph.dependency(*pair) or Dependency(*pair))
    for node in graph:
        for d in edit.incoming(node.name):
            if graph.dependency(*d.pair) is None:
                edit.remove_dependency(*d.pair)
    return edit.commit()


@wrong_pass("race", "adds the full dependency from the first writer, not from the last")
def adds_full_edge_from_the_first(graph: Graph) -> Graph:
    order, place = event_order(graph), list(graph.nodes).index
    edit = graph.edit()
    for name, phases in pending_writers(graph, order).items():
        node = graph.nodes[name]
        affordable = complete_long_ago(graph, order, name)
        assert isinstance(node, KernelNode)
        blocked = {p for p, found in phases.items() if not all(affordable >> place(w) & 1 for w in found)}
        kernel = graph.kernels[node.kernel]
        roles = tuple(replace(r, steps=hoisted(r, blocked)[0]) for r in kernel.roles or ())
        if roles != (kernel.roles or ()):
            edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "hoisted").name))
            for phase in phases.keys() - blocked:
                edit.add_dependency(Dependency(min(phases[phase], key=place), name))
    edit.drop_unused_kernels()
    return edit.commit()


@wrong_pass("events", "hoists loads that no writer holds back, over event nodes")
def crosses_events(graph: Graph) -> Graph:
    edit = graph.edit()
    writes = {c.earlier.node for c in conflicts(graph)}
    pending = pending_writers(graph, event_order(graph))
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            blocked = {phase for phase, found in pending.get(node.name, {}).items() if writes & set(found)}
            blocked |= own_hazards(kernel, accesses(graph)[node.name])
            roles = tuple(replace(r, steps=hoisted(r, blocked)[0]) for r in kernel.roles or ())
            if roles != kernel.roles:
                edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "hoisted").name))
    edit.drop_unused_kernels()
    return edit.commit()


def _loads_first(role: Role) -> Role:
    waits = [i for i, step in enumerate(role.steps) if isinstance(step, Wait)]
    if not waits:
        return role
    ahead: list[Step] = []
    rest: list[Step] = []
    for step in role.steps[waits[0] + 1 :]:
        loads = isinstance(step, Phase) and step.reads and not step.writes and not step.uses
        (ahead if loads else rest).append(step)
    return replace(role, steps=(*role.steps[: waits[0]], *ahead, Wait(), *rest))

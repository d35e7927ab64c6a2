"""``hoist-loads``: phases that cannot depend on the sources move ahead of the wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import ClassVar

from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Step, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import EventOrder, NodeAccess, accesses, conflicts, event_order
from forerun.ir.semantics.alike import ones
from forerun.ir.semantics.event_nodes import event_nodes
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register

__all__ = [
    "HoistLoads",
    "complete_long_ago",
    "fewest_sources",
    "hoisted",
    "own_hazards",
    "pending_writers",
    "started_early",
]

MOST_WRITERS = 64
"""If more nodes than this write what a phase reads, only the last of them are looked at."""

Pending = Mapping[str, Mapping[str, Collection[Hazard]]]
"""For the phases of one node, by name: the nodes that they need complete and that may not be at the start, and why."""


@register
@dataclass(frozen=True)
class HoistLoads(Pass):
    """Moves phases that only load independent data ahead of the kernel's wait.

    A phase may move if it writes nothing, uses only locals defined before the wait, and for every node that may
    write bytes that it reads (scalars and page tables included) and comes earlier in launch order, that node's
    completion reaches the start of the kernel (docs/pdl.md, "Events"); programmatic dependencies do not count. The
    same holds for event nodes, which nothing may cross. Bytes that the kernel itself writes earlier in its body hold a
    phase back too, and so does a barrier. Earlier replays are complete at the start (H7). Only kernels whose
    body the compiler writes, or that are given as PTX, are changed, and only those with programmatic in-edges:
    the others start late anyway.

    Where such a writer is complete long before, it only lacks the order: a cache row that an earlier step of the same
    graph appended, say. Then a full dependency from the last such writer gives the order, and costs nothing. Long
    before is before the completion of all nodes that the kernel waits for in any case.
    """

    name: ClassVar[str] = "hoist-loads"
    changes: ClassVar[frozenset[str]] = frozenset({"bodies", "dependencies"})
    statistics: ClassVar[Mapping[str, str]] = {
        "phases_hoisted": "phases moved ahead of a wait",
        "phases_held": "phases without writes that had to stay behind it",
        "full_dependencies_added": "full dependencies, new or in place of others, from nodes complete long before",
    }

    full_edges: bool = option(True, help="add full dependencies from writers that are complete long before")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with kernels that load before they wait, in the bodies of its nodes, too."""
        return rewrite_all(graph, context, self._hoisted)

    def _hoisted(self, graph: Graph, context: PassContext) -> Graph:
        order = event_order(graph)
        edit = graph.edit()
        for node, kernel, writers in started_early(graph, order):
            blocked = self._held_back(graph, order, node.name, writers) if writers else set[str]()
            blocked |= own_hazards(kernel, accesses(graph)[node.name])
            roles = tuple(self._hoist(role, blocked, context) for role in kernel.roles or ())
            if roles != kernel.roles:
                variant = edit.kernel_variant(kernel, roles, "hoisted")
                edit.replace_node(replace(node, kernel=variant.name))
                moved = _ahead(roles) - _ahead(kernel.roles or ())
                for dependency in _full_dependencies(order, node.name, [writers.get(phase, {}) for phase in moved]):
                    edit.add_dependency(dependency)
                    context.count("full_dependencies_added")
        return edit.commit()

    def _held_back(self, graph: Graph, order: EventOrder, node: str, writers: Pending) -> set[str]:
        """The phases that need what a full dependency gives only at a price."""
        affordable = complete_long_ago(graph, order, node) if self.full_edges else 0
        return {p for p, found in writers.items() if not all(affordable >> order.position[w] & 1 for w in found)}

    def _hoist(self, role: Role, blocked: set[str], context: PassContext) -> Role:
        steps, moved, held = hoisted(role, blocked, context.should_apply)
        context.observe("phases_held", held)
        if moved:
            context.count("phases_hoisted", moved)
        return replace(role, steps=steps) if moved else role


def hoisted(
    role: Role, blocked: set[str], allow: Callable[[], bool] = lambda: True
) -> tuple[tuple[Step, ...], int, int]:
    """Move what may move ahead of a role's wait, keeping its order; ``allow`` is asked before each move.

    Returns:
        The steps, how many phases moved, and how many phases without writes stayed between the wait and the first
        barrier after it.
    """
    at = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), None)
    if at is None:
        return role.steps, 0, 0
    given = {name for step in role.steps[:at] if isinstance(step, Phase) for name in step.defines}
    late = {name for step in role.steps[at:] if isinstance(step, Phase) for name in step.defines}
    moved: list[Step] = []
    stay: list[Step] = []
    held, barrier = 0, False
    for step in role.steps[at + 1 :]:
        barrier = barrier or isinstance(step, Barrier)
        if barrier or not isinstance(step, Phase) or step.writes or not step.reads:
            stay.append(step)
        elif step.name not in blocked and not set(step.uses) & (late - given) and allow():
            moved.append(step)
            given.update(step.defines)
        else:
            held += 1
            stay.append(step)
    return (*role.steps[:at], *moved, role.steps[at], *stay), len(moved), held


def _ahead(roles: Iterable[Role]) -> set[str]:
    """The phases ahead of the waits of their roles, and those of roles that never wait."""
    ahead = (step for role in roles for step in takewhile(lambda step: not isinstance(step, Wait), role.steps))
    return {step.name for step in ahead if isinstance(step, Phase)}


# What holds phases back


def started_early(graph: Graph, order: EventOrder) -> Iterator[tuple[KernelNode, Kernel, Pending]]:
    """The nodes that programmatic dependencies start early and whose code may be changed, in the graph's order.

    Each comes with its kernel, and with what its phases need that may be incomplete at its start.
    """
    early = {d.target for d in graph.dependencies if d.kind is DependencyKind.PROGRAMMATIC}
    pending = pending_writers(graph, order, early)
    for node in graph:
        if isinstance(node, KernelNode) and node.name in early:
            kernel = graph.kernels[node.kernel]
            if not kernel.has_fixed_code and not kernel.is_black_box:
                yield node, kernel, pending.get(node.name, {})


def pending_writers(graph: Graph, order: EventOrder, among: Collection[str] | None = None) -> dict[str, Pending]:
    """For each node, or each of some, the phases that need more than is complete at its start.

    They need the writers of the bytes that they read, and the event nodes that come before the node. Where very many
    nodes write the same bytes, those are enough whose completion comes before no other one's.
    """
    among = graph.nodes if among is None else among
    pending: dict[str, dict[str, dict[str, set[Hazard]]]] = {}
    names = list(graph.nodes)
    for clash in conflicts(graph).clashes:
        reader = clash.later
        for alike, nodes in () if reader.write or reader.node not in among else clash.earlier:
            missing = nodes & ~(order.before_start[order.position[reader.node]] >> alike.base)
            if missing.bit_count() > MOST_WRITERS:
                missing = order.last_of(missing << alike.base) >> alike.base
            for at in ones(missing):
                phases = pending.setdefault(reader.node, {}).setdefault(reader.phase, {})
                phases.setdefault(names[alike.base + at], set()).add(Hazard("RAW", reader.buffer))
    crossed = sum(1 << order.position[event] for event in event_nodes(graph))
    for name, found in accesses(graph).items() if crossed else ():
        if name not in among:
            continue
        at = order.position[name]
        for event in ones(order.last_of(crossed & order.before_wait[at] & ~order.before_start[at])):
            for access in found:
                pending.setdefault(name, {}).setdefault(access.phase, {}).setdefault(names[event], set())
    return dict(pending)


def own_hazards(kernel: Kernel, found: tuple[NodeAccess, ...]) -> set[str]:
    """The phases that read bytes which another phase of the kernel may write before."""
    place = {phase.name: (role.name, i) for role in kernel.roles or () for i, phase in enumerate(role.phases)}
    blocked = set()
    for read in (access for access in found if not access.write):
        for write in (access for access in found if access.write and access.overlaps(read)):
            role, position = place[read.phase]
            writer_role, writer_position = place[write.phase]
            after = writer_role == role and writer_position >= position
            if not after:
                blocked.add(read.phase)
    return blocked


# Full dependencies


def complete_long_ago(graph: Graph, order: EventOrder, node: str) -> int:
    """The nodes that are complete before the last programmatic sources of a node are, as a set of launch positions.

    The last sources are those that are not before another one. A full dependency from a node that is before them all
    delays the start by nothing that matters: what those sources do is still to come.
    """
    sources = [order.position[d.source] for d in graph.incoming(node) if d.kind is DependencyKind.PROGRAMMATIC]
    last = [u for u in sources if not any(order.before_completion[w] >> u & 1 for w in sources)]
    common = order.before_completion[last[0]] if last else 0
    for source in last[1:]:
        common &= order.before_completion[source]
    return common


def fewest_sources(order: EventOrder, needed: Iterable[str]) -> list[str]:
    """Those of some nodes whose completion comes before no other one's: full dependencies from them are enough."""
    found = sorted(needed, key=order.position.__getitem__)
    return [u for u in found if not any(order.completes_before_completion(u, w) for w in found)]


def _full_dependencies(
    order: EventOrder, node: str, needed: Iterable[Mapping[str, Collection[Hazard]]]
) -> list[Dependency]:
    """The full dependencies that phases which move ahead of the wait need."""
    hazards: dict[str, set[Hazard]] = {}
    for writers in needed:
        for writer, found in writers.items():
            hazards.setdefault(writer, set()).update(found)
    sources = fewest_sources(order, hazards)
    return [Dependency(source, node, hazards=tuple(sorted(hazards[source]))) for source in sources]

"""``hoist-loads``: phases that cannot depend on the sources move ahead of the wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Step, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import EventOrder, NodeAccess, accesses, conflicts, event_order
from forerun.ir.types import DependencyKind
from forerun.passes.base import Pass, PassContext
from forerun.passes.registry import register

__all__ = ["HoistLoads", "hoisted", "pending_writers"]


@register
@dataclass(frozen=True)
class HoistLoads(Pass):
    """Moves phases that only load independent data ahead of the kernel's wait.

    A phase may move if it writes nothing, takes only locals that are given before the wait, and for every node that may
    write bytes that it reads (scalars and page tables included) and comes earlier in launch order, that node's
    completion reaches the start of the kernel (PDL.md, "Events and order"); programmatic dependencies do not count.
    Bytes that the kernel itself writes earlier in its body hold a phase back too, and so does a barrier. Earlier
    replays are complete at the start (H7). Only kernels with programmatic in-edges are changed: the others start late
    anyway.
    """

    name: ClassVar[str] = "hoist-loads"
    statistics: ClassVar[Mapping[str, str]] = {
        "phases_hoisted": "phases moved ahead of a wait",
        "phases_held": "phases without writes that had to stay behind it",
    }

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with bodies that load before they wait."""
        order = event_order(graph)
        pending = pending_writers(graph, order)
        edit = graph.edit()
        for node in graph:
            if not isinstance(node, KernelNode) or not _starts_early(graph, node.name):
                continue
            kernel = graph.kernels[node.kernel]
            blocked = pending.get(node.name, set()) | _own_hazards(kernel, accesses(graph)[node.name])
            roles = tuple(self._hoist(role, blocked, context) for role in kernel.roles or ())
            if roles != kernel.roles:
                variant = edit.kernel_variant(kernel, roles, "hoisted")
                edit.replace_node(replace(node, kernel=variant.name))
        edit.drop_unused_kernels()
        return edit.commit()

    def _hoist(self, role: Role, blocked: set[str], context: PassContext) -> Role:
        steps, moved, held = hoisted(role, blocked, context.should_apply)
        context.observe("phases_held", held)
        if moved:
            context.count("phases_hoisted", moved)
        return replace(role, steps=steps) if moved else role


def hoisted(
    role: Role, blocked: set[str], allow: Callable[[], bool] = lambda: True
) -> tuple[tuple[Step, ...], int, int]:
    """Move what may move ahead of a role's wait, keeping its order.

    Args:
        role: Any role.
        blocked: Names of phases that must stay where they are.
        allow: Asked before each move.

    Returns:
        The steps, how many phases moved, and how many phases without writes stayed between the wait and the first
        barrier after it.
    """
    at = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), None)
    if at is None:
        return role.steps, 0, 0
    given = {name for step in role.steps[:at] if isinstance(step, Phase) for name in step.gives}
    late = {name for step in role.steps[at:] if isinstance(step, Phase) for name in step.gives}
    moved: list[Step] = []
    stay: list[Step] = []
    held, barrier = 0, False
    for step in role.steps[at + 1 :]:
        barrier = barrier or isinstance(step, Barrier)
        if barrier or not isinstance(step, Phase) or step.writes or not step.reads:
            stay.append(step)
        elif step.name not in blocked and not set(step.takes) & (late - given) and allow():
            moved.append(step)
            given.update(step.gives)
        else:
            held += 1
            stay.append(step)
    return (*role.steps[:at], *moved, role.steps[at], *stay), len(moved), held


def _starts_early(graph: Graph, node: str) -> bool:
    return any(d.kind is DependencyKind.PROGRAMMATIC for d in graph.incoming(node))


def pending_writers(graph: Graph, order: EventOrder) -> dict[str, set[str]]:
    """For each node the phases that read bytes of which some writer may not be complete at the node's start."""
    pending: dict[str, set[str]] = {}
    for conflict in conflicts(graph):
        writer, reader = conflict.earlier, conflict.later
        if conflict.kind == "RAW" and not order.completes_before_start(writer.node, reader.node):
            pending.setdefault(reader.node, set()).add(reader.phase)
    return pending


def _own_hazards(kernel: Kernel, found: tuple[NodeAccess, ...]) -> set[str]:
    """The phases that read bytes which another phase of the kernel may write before."""
    place = {phase.name: (role.name, i) for role in kernel.roles or () for i, phase in enumerate(role.phases)}
    blocked = set()
    for read in (access for access in found if not access.write):
        for write in (access for access in found if access.write and access.allocation == read.allocation):
            role, position = place[read.phase]
            writer_role, writer_position = place[write.phase]
            after = writer_role == role and writer_position >= position
            if not after and write.bytes.overlaps(read.bytes):
                blocked.add(read.phase)
    return blocked

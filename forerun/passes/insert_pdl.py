"""``insert-pdl``: programmatic dependencies, with the waits and triggers that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import EventOrder, accesses, conflicts, event_order
from forerun.ir.semantics.event_nodes import event_nodes
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register

__all__ = ["InsertPdl", "can_overlap", "convertible_dependencies", "with_trigger", "with_waits"]

TriggerPosition = Literal["start", "after-wait", "end", "none"]


@register
@dataclass(frozen=True)
class InsertPdl(Pass):
    """Makes full dependencies between kernels programmatic where that is legal, and adds waits and triggers.

    A target that has no wait gets one at the start of every role, so that all its accesses stay after the completion
    of its sources. A target that accesses conflicting bytes before its wait keeps the full dependencies that make the
    other node complete at its start (or an event node that it may not cross), and no others; where there is a choice,
    the oldest sources stay full, since they are complete first. Black boxes (which never wait), kernels that are given
    as machine code without a wait (docs/pdl.md, rule 13), kernels with grid-wide barriers and cooperative launches
    (whose CTAs must all be resident; rule 12), nodes on the host, and nodes on different devices keep theirs too.
    """

    name: ClassVar[str] = "insert-pdl"
    changes: ClassVar[frozenset[str]] = frozenset({"bodies", "dependencies"})
    statistics: ClassVar[Mapping[str, str]] = {
        "dependencies_converted": "full dependencies made programmatic",
        "dependencies_kept": "full dependencies that had to stay full",
        "waits_inserted": "nodes whose kernel got a wait",
        "triggers_inserted": "nodes whose kernel got a trigger",
    }

    trigger: TriggerPosition = option(
        "start",
        help="where sources let dependents start: at their start, after their wait, before their last store, at exit",
    )

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with programmatic dependencies, in bodies, too."""
        return rewrite_all(graph, context, self._converted)

    def _converted(self, graph: Graph, context: PassContext) -> Graph:
        converted = [d for d in convertible_dependencies(graph) if context.should_apply()]
        full = graph.count_dependencies()[str(DependencyKind.FULL)]
        context.observe("dependencies_kept", full - len(converted))
        edit = graph.edit()
        waits = {d.target for d in converted}
        triggers = {d.source for d in converted}
        for dependency in converted:
            edit.set_dependency(replace(dependency, kind=DependencyKind.PROGRAMMATIC))
            context.count("dependencies_converted")
        variants: dict[tuple[str, bool, bool], str] = {}
        for node in graph:
            if isinstance(node, KernelNode) and (node.name in waits or node.name in triggers):
                kernel = graph.kernels[node.kernel]
                wait = node.name in waits and not kernel.has(Wait)
                may_trigger = self.trigger != "none" and not kernel.has(Trigger) and not kernel.has_fixed_code
                trigger = node.name in triggers and may_trigger
                context.count("waits_inserted", wait)
                context.count("triggers_inserted", trigger)
                key = kernel.name, wait, trigger
                if key not in variants:
                    roles = with_waits(kernel.roles or ()) if wait else kernel.roles or ()
                    roles = with_trigger(roles, self.trigger) if trigger else roles
                    same = roles == kernel.roles
                    variants[key] = kernel.name if same else edit.kernel_variant(kernel, roles, "pdl").name
                edit.replace_node(replace(node, kernel=variants[key]))
        return edit.commit()


def can_overlap(graph: Graph, node: str) -> bool:
    """Whether a node may be an end of a programmatic dependency: a device's kernel with a body and no grid barrier."""
    found = graph.nodes[node]
    if not isinstance(found, KernelNode) or found.place.kind == "host" or found.launch.cooperative:
        return False
    kernel = graph.kernels[found.kernel]
    if kernel.is_black_box:
        return False
    return not any(isinstance(step, Barrier) and step.scope == "grid" for _, _, step in kernel.steps())


def _kernel_pair(graph: Graph, dependency: Dependency) -> bool:
    source, target = (graph.nodes[name] for name in dependency.pair)
    if not all(can_overlap(graph, name) for name in dependency.pair) or source.place != target.place:
        return False
    kernel = graph.kernels[target.kernel] if isinstance(target, KernelNode) else None
    return kernel is not None and (kernel.has(Wait) or not kernel.has_fixed_code)


def convertible_dependencies(graph: Graph) -> list[Dependency]:
    """The full dependencies that can all be made programmatic together, if targets without a wait get one."""
    order = event_order(graph)
    candidates: dict[str, list[Dependency]] = {}
    for dependency in graph.dependencies:
        if dependency.kind is DependencyKind.FULL and _kernel_pair(graph, dependency):
            candidates.setdefault(dependency.target, []).append(dependency)
    for target, needed in _needed_at_start(graph, order).items():
        if target in candidates:
            kept = _kept_full(graph, order, target, candidates[target], needed)
            candidates[target] = [d for d in candidates[target] if d not in kept]
    return [dependency for found in candidates.values() for dependency in found]


def _needed_at_start(graph: Graph, order: EventOrder) -> dict[str, int]:
    """For the nodes that wait already, the nodes that their accesses before the wait need complete at the start.

    Sets of launch positions. Nodes that are not complete at the start even now (a race) are left out.
    """
    waiting = {name for name, kernel in graph.kernels.items() if kernel.has(Wait)}
    needed = {node.name: 0 for node in graph if isinstance(node, KernelNode) and node.kernel in waiting}
    for clash in conflicts(graph).clashes:
        if clash.later.early and clash.later.node in needed:
            for alike, nodes in clash.earlier:
                needed[clash.later.node] |= nodes << alike.base
    crossed = sum(1 << order.position[event] for event in event_nodes(graph))
    for name in needed if crossed else ():
        if any(access.early for access in accesses(graph)[name]):
            needed[name] |= crossed
    return {name: found & order.before_start[order.position[name]] for name, found in needed.items() if found}


def _kept_full(
    graph: Graph, order: EventOrder, target: str, candidates: list[Dependency], needed: int
) -> list[Dependency]:
    """A smallest choice of the candidates that must stay full; none of them can be spared.

    What is before the completion of a source stays so when dependencies become programmatic, since their targets wait
    (H4).
    """

    def complete(dependencies: Iterable[Dependency]) -> int:
        found = 0
        for dependency in dependencies:
            source = order.position[dependency.source]
            found |= order.before_completion[source] | 1 << source
        return found

    others = [d for d in graph.incoming(target) if d.kind is DependencyKind.FULL and d not in candidates]
    kept = sorted(candidates, key=lambda d: order.position[d.source])
    for dependency in reversed(kept.copy()):
        rest = [d for d in kept if d is not dependency]
        if not needed & ~complete([*others, *rest]):
            kept = rest
    return kept


def with_waits(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """The roles, each waiting first."""
    return tuple(replace(role, steps=(Wait(), *role.steps)) for role in roles)


def with_trigger(roles: tuple[Role, ...], position: TriggerPosition) -> tuple[Role, ...]:
    """The roles with one trigger.

    One is enough: the first thread that triggers counts for its CTA (docs/pdl.md, rule 2).

    Args:
        roles: A body without triggers.
        position: ``start``: first step of the first role; ``after-wait``: after the first wait, or at the start if
            there is none; ``end``: before the last phase that writes, or at the start if none does.
    """
    which, at = 0, 0
    for i, role in enumerate(roles):
        for j, step in enumerate(role.steps):
            if position == "after-wait" and isinstance(step, Wait):
                return _inserted(roles, i, j + 1)
            if position == "end" and isinstance(step, Phase) and step.writes:
                which, at = i, j
    return _inserted(roles, which, at)


def _inserted(roles: tuple[Role, ...], which: int, at: int) -> tuple[Role, ...]:
    steps: tuple[Step, ...] = roles[which].steps
    changed = replace(roles[which], steps=(*steps[:at], Trigger(), *steps[at:]))
    return (*roles[:which], changed, *roles[which + 1 :])

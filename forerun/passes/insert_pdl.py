"""``insert-pdl``: programmatic dependencies, with the waits and triggers that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import conflicts
from forerun.ir.types import DependencyKind
from forerun.passes.base import Pass, PassContext, option
from forerun.passes.registry import register

__all__ = ["InsertPdl", "can_overlap", "with_trigger", "with_waits"]

TriggerPosition = Literal["start", "after-wait", "end", "none"]


@register
@dataclass(frozen=True)
class InsertPdl(Pass):
    """Makes full dependencies between kernels programmatic where that is legal, and adds waits and triggers.

    A target that has no wait gets one at the start of every role, so that all its accesses stay after the completion
    of its sources. A target that accesses conflicting bytes before its wait keeps its full dependencies, because only
    those are complete at its start. Black boxes (which never wait), kernels with grid-wide barriers and cooperative
    launches (whose CTAs must all be resident; PDL.md, rule 12), and nodes on different devices keep theirs too.
    """

    name: ClassVar[str] = "insert-pdl"
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
        """The graph with programmatic dependencies."""
        convertible = [d for d in graph.dependencies if d.kind is DependencyKind.FULL and _kernel_pair(graph, d)]
        hindered = _early_conflicts(graph)
        converted = [d for d in convertible if d.target not in hindered and context.should_apply()]
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
                trigger = node.name in triggers and self.trigger != "none" and not kernel.has(Trigger)
                context.count("waits_inserted", wait)
                context.count("triggers_inserted", trigger)
                key = kernel.name, wait, trigger
                if key not in variants:
                    roles = self._body(kernel.roles or (), wait, trigger)
                    same = roles == kernel.roles
                    variants[key] = kernel.name if same else edit.kernel_variant(kernel, roles, "pdl").name
                edit.replace_node(replace(node, kernel=variants[key]))
        edit.drop_unused_kernels()
        return edit.commit()

    def _body(self, roles: tuple[Role, ...], wait: bool, trigger: bool) -> tuple[Role, ...]:
        if wait:
            roles = with_waits(roles)
        return with_trigger(roles, self.trigger) if trigger else roles


def can_overlap(graph: Graph, node: str) -> bool:
    """Whether a node may be an end of a programmatic dependency: a kernel with a body and no grid-wide barrier."""
    found = graph.nodes[node]
    if not isinstance(found, KernelNode) or found.launch.cooperative:
        return False
    kernel = graph.kernels[found.kernel]
    if kernel.is_black_box:
        return False
    return not any(isinstance(step, Barrier) and step.scope == "grid" for _, _, step in kernel.steps())


def _kernel_pair(graph: Graph, dependency: Dependency) -> bool:
    if not all(can_overlap(graph, name) for name in dependency.pair):
        return False
    return graph.nodes[dependency.source].place == graph.nodes[dependency.target].place


def _early_conflicts(graph: Graph) -> set[str]:
    """The nodes that already wait, yet access bytes before it that an earlier node may still be using."""
    waiting = {name for name, kernel in graph.kernels.items() if kernel.has(Wait)}
    nodes = {node.name for node in graph if isinstance(node, KernelNode) and node.kernel in waiting}
    return {c.later.node for c in conflicts(graph) if c.later.early and c.later.node in nodes}


def with_waits(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """The roles, each waiting first."""
    return tuple(replace(role, steps=(Wait(), *role.steps)) for role in roles)


def with_trigger(roles: tuple[Role, ...], position: TriggerPosition) -> tuple[Role, ...]:
    """The roles with one trigger. One is enough: the first thread that triggers counts for its CTA (PDL.md, rule 2).

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

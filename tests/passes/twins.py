"""Wrong twins: passes that look like the real ones and lack one condition. The laws must catch each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import networkx as nx

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Phase, Role, Step, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import accesses, conflicts, event_order
from forerun.ir.types import DependencyKind
from forerun.passes.hoist_loads import HoistLoads, complete_long_ago, hoisted, own_hazards, pending_writers
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.insert_pdl import can_overlap, with_waits

__all__ = ["TWINS", "CrossesEvents", "IgnoresOwnWrites"]


@dataclass(frozen=True)
class IgnoresWar(Pass):
    """Infers dependencies from reads after writes and writes after writes only."""

    name: ClassVar[str] = "infer-dependencies"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        wanted = {(c.earlier.node, c.later.node) for c in conflicts(graph) if c.kind != "WAR"}
        edit = graph.edit()
        for present in graph.dependencies:
            edit.remove_dependency(*present.pair)
        for pair in wanted:
            edit.set_dependency(Dependency(*pair))
        return edit.commit()


@dataclass(frozen=True)
class NeverWaits(Pass):
    """Makes dependencies programmatic and forgets the waits."""

    name: ClassVar[str] = "insert-pdl"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for d in graph.dependencies:
            if all(can_overlap(graph, name) for name in d.pair):
                edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
        return edit.commit()


@dataclass(frozen=True)
class TrustsPresentWaits(Pass):
    """Adds waits only to kernels without any, and believes that a kernel that waits somewhere waits early enough."""

    name: ClassVar[str] = "insert-pdl"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for d in graph.dependencies:
            target = graph.nodes[d.target]
            if all(can_overlap(graph, name) for name in d.pair) and isinstance(target, KernelNode):
                edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
                kernel = graph.kernels[target.kernel]
                if not kernel.has(Wait) and kernel.roles:
                    variant = edit.kernel_variant(kernel, with_waits(kernel.roles), "pdl")
                    edit.replace_node(replace(target, kernel=variant.name))
        return edit.commit()


@dataclass(frozen=True)
class KeepsTheOldest(Pass):
    """Keeps one full dependency, from the oldest source, for the accesses before a present wait."""

    name: ClassVar[str] = "insert-pdl"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for node in graph:
            if isinstance(node, KernelNode) and can_overlap(graph, node.name):
                kernel = graph.kernels[node.kernel]
                if not kernel.has(Wait):
                    edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, _waiting(kernel), "pdl").name))
                spared = sorted(graph.incoming(node.name), key=lambda d: list(graph.nodes).index(d.source))
                for d in spared[1:] if kernel.has(Wait) else spared:
                    if can_overlap(graph, d.source):
                        edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
        edit.drop_unused_kernels()
        return edit.commit()


def _waiting(kernel: Kernel) -> tuple[Role, ...]:
    return with_waits(kernel.roles or ())


@dataclass(frozen=True)
class HoistsEverything(Pass):
    """Hoists loads without asking who writes what they read."""

    name: ClassVar[str] = "hoist-loads"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for node in graph:
            if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
                kernel = graph.kernels[node.kernel]
                roles = tuple(_loads_first(role) for role in kernel.roles or ())
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


@dataclass(frozen=True)
class IgnoresOwnWrites(Pass):
    """Hoists loads that no other node holds back, past the kernel's own writes."""

    name: ClassVar[str] = "hoist-loads"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
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


@dataclass(frozen=True)
class AddsNoFullEdge(Pass):
    """Hoists loads of what was written long ago, and forgets the full dependency."""

    name: ClassVar[str] = "hoist-loads"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = HoistLoads().apply(graph, PassContext(HoistLoads())).edit()
        for pair in [d.pair for d in graph.dependencies]:
            edit.set_dependency(graph.dependency(*pair) or Dependency(*pair))
        for node in graph:
            for d in edit.incoming(node.name):
                if graph.dependency(*d.pair) is None:
                    edit.remove_dependency(*d.pair)
        return edit.commit()


@dataclass(frozen=True)
class AddsFullEdgeFromTheFirst(Pass):
    """Adds the full dependency from the first writer, not from the last."""

    name: ClassVar[str] = "hoist-loads"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
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


@dataclass(frozen=True)
class CrossesEvents(Pass):
    """Hoists loads that no writer holds back, over event nodes."""

    name: ClassVar[str] = "hoist-loads"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
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


@dataclass(frozen=True)
class ReducesAsIfFull(Pass):
    """Reduces transitively, whatever the kinds of the dependencies."""

    name: ClassVar[str] = "reduce-edges"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        kept = set(nx.transitive_reduction(graph.topology).edges)
        edit = graph.edit()
        for dependency in graph.dependencies:
            if dependency.pair not in kept:
                edit.remove_dependency(*dependency.pair)
        return edit.commit()


TWINS: tuple[Pass, ...] = (
    IgnoresWar(),
    NeverWaits(),
    TrustsPresentWaits(),
    KeepsTheOldest(),
    HoistsEverything(),
    IgnoresOwnWrites(),
    AddsNoFullEdge(),
    AddsFullEdgeFromTheFirst(),
    CrossesEvents(),
    ReducesAsIfFull(),
)

"""``apply-tuning``: what was measured before is chosen again, without measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Role, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register
from forerun.passes.infra.tuning import Choice, TriggerChoice, Tuning, group_of, groups_of, read_tuning
from forerun.passes.insert_pdl import with_trigger
from forerun.support.diagnostics import Location

__all__ = ["ApplyTuning", "apply_tuning", "moved_triggers"]


@register
@dataclass(frozen=True)
class ApplyTuning(Pass):
    """Applies the choices of a tuning file, which ``forerun.tune`` wrote.

    Choices are made for groups of nodes: those that run the same code on buffers of the same types and shapes. Choices
    for groups that the graph does not have are left out, with a remark. So are all, with a warning, if the file was
    measured on another GPU, with another driver or by another version. Without a file, what was measured for such a
    graph on such a GPU is looked for. It belongs at the end of a pipeline, where it was measured.
    """

    name: ClassVar[str] = "apply-tuning"
    keeps_bits: ClassVar[bool] = False
    changes: ClassVar[frozenset[str]] = frozenset({"bodies", "dependencies", "launches"})
    statistics: ClassVar[Mapping[str, str]] = {
        "launches_changed": "nodes with another launch",
        "triggers_moved": "nodes that trigger elsewhere",
        "hoists_undone": "nodes whose phases went back behind the wait",
        "dependencies_made_full": "programmatic dependencies made full",
    }

    file: str = option("", help="the tuning file; empty for what is known of such graphs on this GPU", file=True)
    gpu: str = option("", help="the GPU that the graph is for; empty applies the file whatever GPU it is of")
    driver: str = option("", help="the CUDA release of its driver; empty for any")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with the choices of the file."""
        place, present = Location("graph", graph.name), groups_of(graph)
        if not self.file:
            known = context.assessor.known_tuning(present)
            if known is None:
                context.remark("nothing was measured for such a graph on this GPU", place)
                return graph
            path, tuning = known
            context.remark(f"tuned by {path.name}, measured on {tuning.gpu} with driver {tuning.driver}", place)
            return apply_tuning(graph, tuning, context)
        tuning = read_tuning(self.file)
        misfit = tuning.misfit(self.gpu, self.driver)
        if misfit:
            context.warn(f"the tuning file {self.file} is left out: {misfit}", place)
            return graph
        for group in tuning.choices:
            if group not in present:
                context.remark(f"no node is of the group {group}, which the tuning file has", place)
        return apply_tuning(graph, tuning, context)


def apply_tuning(graph: Graph, tuning: Tuning, context: PassContext) -> Graph:
    """The graph, and the bodies in it, with the choices of a tuning that are for groups of its nodes."""
    return rewrite_all(graph, context, lambda body, inner: _applied(body, tuning, inner))


def _applied(graph: Graph, tuning: Tuning, context: PassContext) -> Graph:
    groups = {node.name: group_of(graph, node) for node in graph if isinstance(node, KernelNode)}
    edit = graph.edit()
    for node in graph:
        choice = tuning.choices.get(groups.get(node.name, ""))
        if isinstance(node, KernelNode) and choice is not None:
            _relaunch(edit, graph.kernels[node.kernel], node, choice, tuning.tolerance, context)
            _rebody(edit, graph.kernels[node.kernel], node.name, choice, context)
    for dependency in graph.dependencies:
        choice = tuning.choices.get(groups.get(dependency.target, ""))
        if choice is None or dependency.kind is not DependencyKind.PROGRAMMATIC:
            continue
        if groups.get(dependency.source) in choice.full_from and context.should_apply():
            edit.set_dependency(replace(dependency, kind=DependencyKind.FULL))
            context.count("dependencies_made_full")
    return edit.commit()


def _relaunch(
    edit: GraphEdit, kernel: Kernel, node: KernelNode, choice: Choice, tolerance: float, context: PassContext
) -> None:
    launch = choice.launch
    if launch is None or launch == node.launch or node.launch.cooperative:
        return
    refusal = "it declares none" if kernel.launches is None else kernel.launches.refusal(launch)
    if refusal:
        message = f"keeps its launch, since '{kernel.name}' does not accept the tuned one: {refusal}"
        context.remark(message, Location("node", node.name))
        return
    if context.should_apply():
        edit.replace_node(replace(node, launch=launch))
        context.count("launches_changed")
        context.tolerate(tolerance)


def _rebody(edit: GraphEdit, kernel: Kernel, name: str, choice: Choice, context: PassContext) -> None:
    if kernel.roles is None or kernel.has_foreign_code:
        return
    roles = kernel.roles
    if not choice.hoist:
        roles = tuple(_waiting_first(role) for role in roles)
    if choice.trigger is not None and _has_plain_triggers(kernel):
        roles = moved_triggers(roles, choice.trigger)
    if roles == kernel.roles or not context.should_apply():
        return
    variant = edit.kernel_variant(kernel, roles, "tuned")
    node = edit.node(name)
    assert isinstance(node, KernelNode)
    edit.replace_node(replace(node, kernel=variant.name))
    hoists = any(_waiting_first(role) != role for role in kernel.roles)
    context.count("hoists_undone", hoists and not choice.hoist)
    context.count("triggers_moved", choice.trigger is not None and _triggers(roles) != _triggers(kernel.roles))


def _waiting_first(role: Role) -> Role:
    """The role with its wait before all phases; other steps stay where they are."""
    at = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), None)
    first = next((i for i, step in enumerate(role.steps) if isinstance(step, Phase)), None)
    if at is None or first is None or first > at:
        return role
    steps = (*role.steps[:first], Wait(), *role.steps[first:at], *role.steps[at + 1 :])
    return replace(role, steps=steps)


def _has_plain_triggers(kernel: Kernel) -> bool:
    """Whether there is a trigger to move; fenced ones order data, so they stay."""
    found = [step for _, _, step in kernel.steps() if isinstance(step, Trigger)]
    return bool(found) and not any(trigger.fenced for trigger in found)


def moved_triggers(roles: tuple[Role, ...], position: TriggerChoice) -> tuple[Role, ...]:
    """The roles with one trigger, there instead of where they have theirs."""
    bare = (tuple(step for step in role.steps if not isinstance(step, Trigger)) for role in roles)
    return with_trigger(tuple(replace(role, steps=steps) for role, steps in zip(roles, bare, strict=True)), position)


def _triggers(roles: tuple[Role, ...]) -> list[tuple[str, int]]:
    return [(role.name, i) for role in roles for i, step in enumerate(role.steps) if isinstance(step, Trigger)]

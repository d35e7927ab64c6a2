"""What each function of a captured graph gets: code with a wait, with early loads, with a trigger, or its own.

All combinations are weaker than the strongest graph that passes made: what is certified for that holds for them, and
the one that is kept is certified itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from forerun.captured.graph import CapturedGraph
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Role, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.ir.walk import bodies_in

__all__ = [
    "ORDERS",
    "TARGETS",
    "TRIGGERS",
    "Choice",
    "Choices",
    "Order",
    "Target",
    "TriggerAt",
    "chosen_graph",
    "functions_of",
    "prefetching",
    "with_bodies_of",
    "with_waits_first",
]

Order: TypeAlias = Literal["captured", "hazards"]
"""Which nodes come after which: as captured; or only where one must see, or not disturb, what another does."""

ORDERS: tuple[Order, ...] = ("captured", "hazards")

Target: TypeAlias = Literal["keep", "wait", "ahead", "prefetch"]
TriggerAt: TypeAlias = Literal["none", "start", "after-wait"]

TARGETS: tuple[Target, ...] = ("keep", "wait", "ahead", "prefetch")
TRIGGERS: tuple[TriggerAt, ...] = ("none", "start", "after-wait")


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of the nodes that launch a function.

    Attributes:
        target: As targets of dependencies: ``keep`` their code and full dependencies; ``wait`` at their entry behind
            programmatic ones; or load ``ahead`` of that wait what the strongest graph does; or ``prefetch`` that into
            L2 before the wait, and load it after.
        trigger: As sources of programmatic dependencies: where they let dependents start; ``none`` is at their end, or
            where their author put it, which can only move to the ``start``.
    """

    target: Target = "ahead"
    trigger: TriggerAt = "none"


Choices: TypeAlias = Mapping[int, Choice]
"""By the number of the function in the captured graph."""


def prefetching(choices: Choices) -> frozenset[int]:
    """The functions that prefetch."""
    return frozenset(number for number, one in choices.items() if one.target == "prefetch")


def functions_of(captured: CapturedGraph, names: tuple[str, ...]) -> Mapping[str, int]:
    """The number of the function that each kernel node launches, by the node's name."""
    return {name: node.function for name, node in zip(names, captured.nodes, strict=True) if node.function >= 0}


def chosen_graph(before: Graph, strongest: Graph, functions: Mapping[str, int], choices: Choices) -> Graph:
    """The captured graph with what was chosen.

    Args:
        before: The captured graph, in one of the orders, with full dependencies where it was captured with such.
        strongest: What passes made of that, with no triggers: every dependency programmatic that can be, every load
            ahead that may be.
        functions: The function of each kernel node.
        choices: For each function; those that are not named get what :class:`Choice` is by default.
    """
    edit = before.edit()
    sources = set()
    for dependency in strongest.dependencies:
        own = choices.get(functions.get(dependency.target, -1), Choice())
        if own.target != "keep" and dependency.kind is not before_kind(before, dependency.pair):
            edit.set_dependency(replace(dependency, hazards=()))
            sources.add(dependency.source)
    variants: dict[tuple[str, tuple[Role, ...]], str] = {}
    for node in before:
        if not isinstance(node, KernelNode) or node.name not in functions:
            continue
        kernel, strong = before.kernels[node.kernel], _kernel(strongest, node.name)
        roles = _roles(kernel, strong, choices.get(functions[node.name], Choice()), node.name in sources)
        if roles is not None and roles != kernel.roles:
            key = kernel.name, roles
            if key not in variants:
                variants[key] = edit.kernel_variant(kernel, roles, "pdl").name
            edit.replace_node(replace(node, kernel=variants[key]))
    return edit.commit()


def waiting_first(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """A body that waits before all else; a wait of its own moves there."""
    return (Wait(), *(step for step in steps if not isinstance(step, Wait)))


def with_waits_first(graph: Graph) -> Graph:
    """The graph with kernels that wait before all else, where they wait after something and their code can change.

    Early loads of their authors may rest on the order in which a stream starts kernels, which is not proved.
    """
    edit = graph.edit()
    variants: dict[str, str] = {}
    for node in graph:
        if not isinstance(node, KernelNode):
            continue
        kernel = graph.kernels[node.kernel]
        if kernel.roles is None or kernel.has_fixed_code or not kernel.has(Wait):
            continue
        roles = tuple(replace(role, steps=waiting_first(role.steps)) for role in kernel.roles)
        if roles != kernel.roles:
            if kernel.name not in variants:
                variants[kernel.name] = edit.kernel_variant(kernel, roles, "pdl").name
            edit.replace_node(replace(node, kernel=variants[kernel.name]))
    return edit.commit()


def with_bodies_of(before: Graph, after: Graph) -> Graph:
    """What passes made, with child graphs as they were captured: their nodes cannot be found in a clone.

    Whoever uses it certifies it.
    """
    changed = [node for node in before if bodies_in(node) and after.nodes[node.name] != node]
    if not changed:
        return after
    edit = after.edit()
    for node in changed:
        edit.replace_node(node)
    return edit.commit()


def before_kind(graph: Graph, pair: tuple[str, str]) -> DependencyKind | None:
    """The kind of a dependency; ``None`` if it is not there."""
    found = graph.dependency(*pair)
    return None if found is None else found.kind


def _kernel(graph: Graph, name: str) -> Kernel:
    node = graph.nodes[name]
    assert isinstance(node, KernelNode)
    return graph.kernels[node.kernel]


def _roles(kernel: Kernel, strong: Kernel, choice: Choice, is_source: bool) -> tuple[Role, ...] | None:
    if kernel.roles is None or kernel.has_fixed_code:
        return kernel.roles
    (role,) = kernel.roles
    steps: tuple[Step, ...] = role.steps
    if choice.target != "keep" and strong.has(Wait) and strong.roles:
        steps = waiting_first(steps) if choice.target == "wait" else strong.roles[0].steps
    if choice.trigger == "start" and kernel.has(Trigger) and kernel.has(Wait):
        steps = (Trigger(), *(step for step in steps if not isinstance(step, Trigger)))
    elif is_source and choice.trigger != "none" and not kernel.has(Trigger):
        wait = next((i for i, step in enumerate(steps) if isinstance(step, Wait)), -1)
        at = wait + 1 if choice.trigger == "after-wait" else 0
        steps = (*steps[:at], Trigger(), *steps[at:])
    return (replace(role, steps=steps),)

"""Choices for the functions of a captured graph: wait, early loads or prefetches, trigger, or their own code.

Every combination is weaker than the strongest graph that the passes make, so a certificate of that one covers it. The
combination that is kept is also certified itself.
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
"""The order of nodes: as captured, or only the dependencies that hazards between their accesses require."""

ORDERS: tuple[Order, ...] = ("captured", "hazards")

Target: TypeAlias = Literal["keep", "wait", "ahead", "prefetch"]
TriggerAt: TypeAlias = Literal["none", "start", "after-wait"]

TARGETS: tuple[Target, ...] = ("keep", "wait", "ahead", "prefetch")
TRIGGERS: tuple[TriggerAt, ...] = ("none", "start", "after-wait")


@dataclass(frozen=True, slots=True)
class Choice:
    """The code of all nodes that launch one function.

    Attributes:
        target: How they depend on other nodes. ``keep``: unchanged code and full dependencies; ``wait``: programmatic
            dependencies, with a wait at their entry; ``ahead``: the same, with the loads of the strongest graph ahead
            of the wait; ``prefetch``: the same, with these bytes prefetched into L2 before the wait and loaded after.
        trigger: Where they let dependents of programmatic dependencies start. ``none``: at their end, or at a trigger
            of their own, which can only move to the ``start``; ``after-wait``: directly after the wait.
    """

    target: Target = "ahead"
    trigger: TriggerAt = "none"


Choices: TypeAlias = Mapping[int, Choice]
"""Choices by the number of the function in the captured graph."""


def prefetching(choices: Choices) -> frozenset[int]:
    """The functions whose choice is to prefetch."""
    return frozenset(number for number, one in choices.items() if one.target == "prefetch")


def functions_of(captured: CapturedGraph, names: tuple[str, ...]) -> Mapping[str, int]:
    """The number of the function that each kernel node launches, by the node's name."""
    return {name: node.function for name, node in zip(names, captured.nodes, strict=True) if node.function >= 0}


def chosen_graph(before: Graph, strongest: Graph, functions: Mapping[str, int], choices: Choices) -> Graph:
    """Apply choices to the captured graph.

    Args:
        before: The captured graph in one of the orders.
        strongest: The result of the passes on it, without triggers: all possible dependencies programmatic, all
            possible loads ahead of the wait.
        functions: The function of each kernel node, by the node's name.
        choices: The choice of each function; :class:`Choice` by default.
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
    """The steps with a wait at the front; an existing wait moves there."""
    return (Wait(), *(step for step in steps if not isinstance(step, Wait)))


def with_waits_first(graph: Graph) -> Graph:
    """Move the existing waits of kernels to the front, where their code can change.

    Loads ahead of a kernel's own wait may rely on the order in which a stream starts kernels, which cannot be proved.
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
    """The result of passes with child graphs restored as captured, since their nodes cannot be found in a clone.

    The caller has to certify the result.
    """
    changed = [node for node in before if bodies_in(node) and after.nodes[node.name] != node]
    if not changed:
        return after
    edit = after.edit()
    for node in changed:
        edit.replace_node(node)
    return edit.commit()


def before_kind(graph: Graph, pair: tuple[str, str]) -> DependencyKind | None:
    """The kind of a dependency; ``None`` if the graph does not have it."""
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

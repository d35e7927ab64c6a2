"""Whether a group rule states what a fused node claims, with what was prepared for it."""

from __future__ import annotations

from collections import Counter

from forerun.ir.graph import Graph
from forerun.ir.grouping import Group, GroupReplacement, GroupRule, Launched, group_rules
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import BufferArgument, KernelNode

__all__ = ["is_stated_by_groups"]


def is_stated_by_groups(before: Graph, after: Graph, node: KernelNode, parts: tuple[str, ...]) -> bool:
    """Whether a rule puts just this node, and one that prepares for it, in the place of just these launches.

    Args:
        before: The graph before.
        after: The graph after.
        node: A node of it that is new.
        parts: The nodes of before that it is said to stand for.
    """
    nodes = [before.nodes.get(part) for part in parts]
    launches = tuple(part for part in nodes if isinstance(part, KernelNode))
    if not launches or len(launches) < len(nodes):
        return False
    group = Group(before, launches)
    for rule in group_rules().values():
        known = {kernel.name: kernel for kernel in rule.kernels}
        if all(before.kernels.get(part.kernel) == known.get(part.kernel, ()) for part in launches):
            return any(_is_made(rule, group, after, node, one) for one in after if isinstance(one, KernelNode))
    return False


def _is_made(rule: GroupRule, group: Group, after: Graph, node: KernelNode, preparing: KernelNode) -> bool:
    settings = rule.settings(preparing)
    made = rule.replace(group, settings) if settings is not None else None
    if not isinstance(made, GroupReplacement):
        return False
    names: dict[str, str] = {}
    pairs = (made.preparation.launched, preparing), (made.launched, node)
    if not all(_is_launch(after, launched, one, names) for launched, one in pairs):
        return False
    for wanted in made.preparation.buffers:
        found = after.buffers[names[wanted.name]]
        if (found.dtype, found.shape, found.contents) != (wanted.dtype, wanted.shape, wanted.contents):
            return False
    return len(set(names.values())) == len(names)


def _is_launch(after: Graph, launched: Launched, node: KernelNode, names: dict[str, str]) -> bool:
    """Whether a node launches a kernel, or one with its phases moved, on these arguments; notes the buffers' names."""
    if not _is_same_code(after.kernels[node.kernel], launched.kernel):
        return False
    for parameter in launched.kernel.parameters:
        value, bound = launched.arguments[parameter.name], node.argument(parameter.name)
        if isinstance(value, str) and isinstance(bound, BufferArgument):
            if names.setdefault(value, bound.buffer) != bound.buffer:
                return False
        elif value != bound:
            return False
    return True


def _is_same_code(kernel: Kernel, made: Kernel) -> bool:
    same = (kernel.parameters, kernel.implementations) == (made.parameters, made.implementations)
    return same and Counter(kernel.phases) == Counter(made.phases)

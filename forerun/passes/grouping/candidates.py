"""Groups of launches over the parts of one batch, and what keeps a group from being one node."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from forerun.ir.graph import Graph
from forerun.ir.grouping import Group, GroupReplacement, GroupRule, GroupSettings, Launched, Rejection
from forerun.ir.nodes import Argument, BufferArgument, KernelNode
from forerun.ir.region import WHOLE
from forerun.ir.semantics import accesses
from forerun.ir.semantics.access import is_event
from forerun.ir.semantics.binding import NodeAccess
from forerun.ir.semantics.byteset import bytes_of
from forerun.ir.types import DependencyKind

__all__ = ["Candidate", "candidates", "found_groups", "is_undisturbed"]


@dataclass(frozen=True)
class Candidate:
    """A group that one node may replace, at the place of its last launch."""

    rule: GroupRule
    group: Group
    replacement: GroupReplacement

    @property
    def names(self) -> tuple[str, ...]:
        """The launches, in launch order."""
        return tuple(node.name for node in self.group.nodes)

    @property
    def last(self) -> KernelNode:
        """The launch whose place the new node gets."""
        return self.group.nodes[-1]


def candidates(
    graph: Graph, rules: Iterable[GroupRule], settings: GroupSettings
) -> tuple[list[Candidate], list[tuple[Group, str]]]:
    """What may be replaced, in the order of the groups' last launches; and the other groups, each with the reason."""
    found: list[Candidate] = []
    refused: list[tuple[Group, str]] = []
    for rule in rules:
        for group in found_groups(graph, rule):
            made = rule.replace(group, settings)
            reason = made.reason if isinstance(made, Rejection) else _obstacle(graph, group, made)
            if reason or isinstance(made, Rejection):
                refused.append((group, reason))
            else:
                found.append(Candidate(rule, group, made))
    place = {name: position for position, name in enumerate(graph.nodes)}
    return sorted(found, key=lambda candidate: place[candidate.last.name]), refused


def found_groups(graph: Graph, rule: GroupRule) -> list[Group]:
    """The launches of a rule's kernels that are bound alike, but for what says which part of a batch each is for."""
    groups: dict[Hashable, list[KernelNode]] = {}
    known = {kernel.name for kernel in rule.kernels if graph.kernels.get(kernel.name) == kernel}
    for node in graph:
        if isinstance(node, KernelNode) and node.kernel in known and not node.fuses:
            groups.setdefault((node.kernel, node.place, _shared(rule, node)), []).append(node)
    return [Group(graph, tuple(nodes)) for nodes in groups.values()]


def _shared(rule: GroupRule, node: KernelNode) -> tuple[tuple[str, Argument], ...]:
    return tuple(pair for pair in node.arguments if pair[0] not in rule.own)


# What is in the way


def _obstacle(graph: Graph, group: Group, made: GroupReplacement) -> str:
    """Why a group cannot be one node at the place of its last launch; empty if it can."""
    return (
        _shares_writes(group)
        or _is_loosely_ordered(graph, group)
        or _misaligned(graph, made.launched)
        or _misaligned(graph, made.preparation.launched)
        or _in_between(graph, group)
    )


def _shares_writes(group: Group) -> str:
    table = accesses(group.graph)
    for number, node in enumerate(group.nodes):
        for other in group.nodes[:number]:
            if any(a.conflicts(b) for a in table[other.name] for b in table[node.name]):
                return f"'{other.name}' and '{node.name}' touch the same bytes, and one of them writes"
    return ""


def _is_loosely_ordered(graph: Graph, group: Group) -> str:
    for node in group.nodes:
        around = (*graph.incoming(node.name), *graph.outgoing(node.name))
        if any(dependency.kind is not DependencyKind.FULL for dependency in around):
            return f"dependencies of '{node.name}' are not full; run it before passes that loosen them"
    return ""


def _misaligned(graph: Graph, launched: Launched) -> str:
    for parameter in launched.kernel.buffer_parameters:
        value = launched.arguments[parameter.name]
        buffer = graph.buffers[value.buffer] if isinstance(value, BufferArgument) else None
        if buffer is not None and buffer.offset % parameter.alignment:
            return f"%{buffer.name} does not begin at a multiple of {parameter.alignment} bytes"
    return ""


def _in_between(graph: Graph, group: Group) -> str:
    """What comes between the launches and the last one, and may not come before them."""
    names, table = [*graph.nodes], accesses(graph)
    own = {node.name for node in group.nodes}
    last = names.index(group.nodes[-1].name)
    for node in group.nodes[:-1]:
        for other in names[names.index(node.name) + 1 : last]:
            if other in own:
                continue
            if is_event(graph.nodes[other]):
                return f"'{other}' lies in between, before which '{node.name}' must be complete"
            clash = next(_clashes(table[node.name], table[other]), None)
            if clash is not None:
                return f"'{other}' {clash.verb} %{clash.buffer} in between"
    return ""


def _clashes(first: Sequence[NodeAccess], second: Sequence[NodeAccess]) -> Iterator[NodeAccess]:
    return (b for a in first for b in second if a.conflicts(b))


def is_undisturbed(graph: Graph, launched: Launched, between: Iterable[str]) -> bool:
    """Whether what a preparing node reads stays as it is while some nodes run."""
    bound = [value for value in launched.arguments.values() if not isinstance(value, str)]
    views = [graph.buffers[value.buffer] for value in bound if isinstance(value, BufferArgument)]
    table: Mapping[str, Sequence[NodeAccess]] = accesses(graph)
    for name in between:
        if is_event(graph.nodes[name]):
            return False
        for access in table[name]:
            if access.write and any(
                view.allocation == access.allocation
                and access.bytes.overlaps(bytes_of(replace(view, index=None), WHOLE))
                for view in views
            ):
                return False
    return True

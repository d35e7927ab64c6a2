"""Puts replacements in the place of matches, with the dependencies that run through them."""

from __future__ import annotations

from collections.abc import Iterable

from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.nodes import Argument, KernelNode
from forerun.ir.types import BufferRole
from forerun.passes.fusion.def_use import DefUse
from forerun.passes.fusion.legality import Candidate

__all__ = ["reconnect", "splice", "staying"]


def staying(graph: Graph, def_use: DefUse, candidates: Iterable[Candidate]) -> set[str]:
    """The nodes that are recomputed, but have to stay.

    What they write is seen outside the replay, or read by a node that is not replaced, or does not recompute them.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        for name in candidate.names:
            groups.setdefault(name, []).append(candidate)
    stay: set[str] = set()
    for name in sorted(groups, key=def_use.place.__getitem__, reverse=True):
        if not all(name in candidate.recomputed for candidate in groups[name]):
            continue
        buffers = {buffer for candidate in groups[name] for buffer in candidate.dropped_writes(name)}
        if any(graph.buffers[buffer].role is not BufferRole.TEMP for buffer in buffers):
            stay.add(name)
        readers = {reader for buffer in buffers for reader in def_use.readers.get((name, buffer), ())}
        if any(r in stay or not groups.get(r) or any(name not in c.names for c in groups[r]) for r in readers):
            stay.add(name)
    return stay


def splice(edit: GraphEdit, candidate: Candidate, place: dict[str, int], stay: set[str], done: set[str]) -> str:
    """Replace a match; returns the name of the new node.

    ``place`` has positions in launch order; the new node gets that of the last one that it replaces. Nodes that stay,
    and those that others have removed already (``done``), are not removed.
    """
    last = candidate.names[-1]
    node = _node(edit, candidate)
    gone = [name for name in candidate.names if name not in stay and name not in done]
    place[node.name] = place[last]
    edit.set_kernel(candidate.replacement.kernel)
    edit.add_node(node, before=last)
    reconnect(edit, node.name, gone, place)
    for name in gone:
        edit.remove_node(name)
    edit.record_fusion(node.name, candidate.names)
    return node.name


def _node(edit: GraphEdit, candidate: Candidate) -> KernelNode:
    match, new = candidate.match, candidate.replacement
    last = match.nodes[candidate.pattern[-1].name]
    bound: list[tuple[str, Argument]] = []
    for parameter in new.kernel.parameters:
        value = new.variables[parameter.name]
        bound.append((parameter.name, match.arguments[value] if isinstance(value, str) else value))
    name, number = f"{last.name}.fused", 2
    while name in edit:
        name, number = f"{last.name}.fused{number}", number + 1
    return KernelNode(name, new.kernel.name, tuple(bound), new.launch, last.place)


def reconnect(edit: GraphEdit, new: str, gone: list[str], place: dict[str, int]) -> None:
    """Dependencies of the nodes become those of the new one; what comes in between keeps what ran through them."""
    sources: dict[str, dict[str, tuple[Hazard, ...]]] = {}
    for name in gone:
        found = sources.setdefault(name, {})
        for dependency in edit.incoming(name):
            through = sources.get(dependency.source)
            found.update({dependency.source: dependency.hazards} if through is None else dict.fromkeys(through, ()))
    for name in gone:
        for source, hazards in sources[name].items():
            edit.add_dependency(Dependency(source, new, hazards=hazards))
        for dependency in edit.outgoing(name):
            target = dependency.target
            if target in sources:
                continue
            if place[target] > place[new]:
                edit.add_dependency(Dependency(new, target, hazards=dependency.hazards))
            else:
                for source in sources[name]:
                    edit.add_dependency(Dependency(source, target))

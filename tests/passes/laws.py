"""What every pass must keep, decided by slow and literal means; and the runs that the laws are tried on."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import combinations, permutations

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Wait
from forerun.ir.nodes import EventRecordNode, EventWaitNode, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.types import BufferRole, DependencyKind
from forerun.ir.verify import verify
from forerun.ir.walk import bodies_in
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.named_pipelines import NAMED_PIPELINES
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.registry import builtin
from forerun.passes.insert_pdl import can_overlap
from forerun.support.options import specs
from tests.passes.changed_parts import changed_parts
from tests.programs import all_conflicts, completions, races, undrained

__all__ = ["applied", "broken_law", "input_of", "levels_of", "lost_meaning", "subjects", "weakened"]

_PREPARED = "infer-dependencies,insert-pdl"
"""What comes before a pass that no named pipeline has."""


def subjects(*, but: str = "", options: bool = True) -> list[Pass]:
    """forerun's own passes that need no file.

    Args:
        but: Parts that the passes may not change, with spaces between them.
        options: Whether there is one with each choice of an option, too, and not only with the defaults.
    """
    found: list[Pass] = []
    for cls in builtin().values():
        declared = specs(cls)
        if not cls.changes & set(but.split()) and not any(spec.is_file for spec in declared):
            others = [cls(**{spec.name: choice}) for spec in declared for choice in (spec.choices or {}).values()]
            found += dict.fromkeys([cls(), *(others if options else ())])
    return found


@functools.cache
def stage_of(name: str) -> tuple[Pass, ...]:
    """The passes before the one of that name in the first named pipeline that has it, as far as these keep the nodes
    and their memory: the laws compare node by node, byte by byte."""
    for text in NAMED_PIPELINES.values():
        passes = Pipeline.parse(text).passes
        names = [subject.name for subject in passes]
        if name in names:
            before = passes[: names.index(name)]
            return tuple(subject for subject in before if not subject.changes & {"memory", "nodes"})
    return Pipeline.parse(_PREPARED).passes


def applied(subject: Pass, graph: Graph) -> Graph:
    """The graph after a pass."""
    return subject.apply(graph, PassContext(subject))


def input_of(name: str, chain: Graph) -> Graph:
    """What the pass of that name gets when the passes before it have run on a chain."""
    return functools.reduce(lambda graph, subject: applied(subject, graph), stage_of(name), chain)


def weakened(graph: Graph) -> Graph:
    """As many full dependencies as possible made programmatic with no wait added, so that some kernels never wait."""
    for dependency in graph.dependencies:
        if all(can_overlap(graph, name) for name in dependency.pair):
            edit = graph.edit()
            edit.set_dependency(replace(dependency, kind=DependencyKind.PROGRAMMATIC))
            candidate = edit.commit()
            if not races(candidate) and not undrained(candidate):
                graph = candidate
    return graph


def broken_law(subject: Pass, graph: Graph) -> str | None:
    """The first law that a pass breaks on a race-free, drained, valid graph; ``None`` if it keeps them all."""
    after = applied(subject, graph)
    if verify(after):
        return f"valid: {verify(after)[0]}"
    undeclared = changed_parts(graph, after) - subject.changes
    if undeclared:
        return f"declared: it does not say that it changes {', '.join(sorted(undeclared))}"
    if "nodes" in subject.changes:
        return None if certify(graph, after).proved else f"proved: {certify(graph, after).findings[0]}"
    levels = zip(levels_of(graph), levels_of(after), strict=True)
    broken = next(filter(None, (_broken_at_a_level(*level) for level in levels)), None)
    if broken:
        return broken
    if subject.idempotent and applied(subject, after) != after:
        return "idempotent: a second application changes the graph again"
    return None


def levels_of(graph: Graph) -> list[Graph]:
    """The graph, and all bodies in it as graphs with its tables."""
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    found = [graph]
    for node in graph:
        for body in bodies_in(node):
            found += levels_of(Graph(body.name, *tables, body, body.dependencies))
    return found


def _broken_at_a_level(graph: Graph, after: Graph) -> str | None:
    lost = lost_meaning(graph, after)
    if lost:
        return lost
    for name in graph.nodes:
        if _waits(_kernel(after, name)) < _waits(_kernel(graph, name)):
            return f"body of {name}: a wait disappeared"
    return None


def lost_meaning(graph: Graph, after: Graph) -> str | None:
    """What a rewrite that keeps the nodes and their order breaks of the meaning; ``None`` if it keeps all of it."""
    if races(after):
        return f"race: {races(after)[0]}"
    if undrained(after):
        return f"drained: {undrained(after)}"
    if _sights(graph) != _sights(after):
        return "flow: some read sees another write"
    after = _with_places_of(graph, after)
    if _pairs(graph) != _pairs(after):
        return "conflicts: some access appeared or disappeared"
    for name in graph.nodes:
        swapped = _swapped(_kernel(graph, name), _kernel(after, name), accesses(graph)[name])
        if swapped:
            return f"body of {name}: {swapped}"
    crossed = (_around_events(graph) - _around_events(after)) if _has_events(graph) else set()
    return f"events: {min(map(str, crossed))} is not kept" if crossed else None


def _with_places_of(graph: Graph, after: Graph) -> Graph:
    """The graph after with the buffers where they were before."""
    if graph.buffers == after.buffers:
        return after
    tables = graph.allocations.values(), graph.buffers.values(), after.kernels.values()
    return Graph(after.name, *tables, after, after.dependencies)


def _sights(graph: Graph) -> set[tuple[object, ...]]:
    """Which write each byte of each read of a temporary sees in launch order, and who writes it in its own node.

    Bytes that a write may leave out, and bytes that were not written before, are known by what was there before: the
    place of the byte, so that no temporary that is read unwritten may move or share it.
    """
    last: dict[tuple[str, int], object] = {}
    found: set[tuple[object, ...]] = set()
    for name, touched in accesses(graph).items():
        for a in sorted(touched, key=lambda a: a.write):
            view = graph.buffers.get(a.buffer)
            if view is None or view.role is not BufferRole.TEMP or not a.bytes.is_constant:
                continue
            for byte in range(a.bytes.start, a.bytes.stop):
                where = a.allocation, byte
                if not a.write:
                    writes = (b for b in touched if _writes(b, where))
                    own = frozenset((b.buffer, byte - graph.buffers[b.buffer].offset) for b in writes)
                    found.add((name, a.phase, a.buffer, byte - view.offset, last.get(where, where), own))
                elif a.certain and a.bytes.exact and not a.bytes.levels:
                    last[where] = name, a.buffer, byte - view.offset
                else:
                    last[where] = name, a.buffer, byte - view.offset, last.get(where, where)
    return found


def _writes(access: NodeAccess, where: tuple[str, int]) -> bool:
    return access.write and access.allocation == where[0] and access.bytes.overlaps(ByteSet(where[1], where[1] + 1))


def _has_events(graph: Graph) -> bool:
    return any(isinstance(node, EventRecordNode | EventWaitNode) for node in graph)


def _around_events(graph: Graph) -> set[tuple[object, ...]]:
    """What is complete before each event node starts, and which accesses begin after it."""
    reached = completions(graph)
    found: set[tuple[object, ...]] = set()
    for event in (n.name for n in graph if isinstance(n, EventRecordNode | EventWaitNode)):
        found |= {("before", event, name) for name in graph.nodes if ("S", event) in reached[name]}
        for accessed in accesses(graph).values():
            found |= {
                ("after", event, *_what(a)) for a in accessed if ("S" if a.early else "W", a.node) in reached[event]
            }
    return found


def _pairs(graph: Graph) -> set[tuple[object, object]]:
    """The conflicting pairs in launch order, whether before or after waits."""
    return {(_what(a), _what(b)) for a, b in all_conflicts(graph)}


def _what(access: NodeAccess) -> tuple[object, ...]:
    return access.node, access.phase, access.allocation, access.bytes, access.write


def _kernel(graph: Graph, name: str) -> Kernel | None:
    node = graph.nodes[name]
    return graph.kernels[node.kernel] if isinstance(node, KernelNode) else None


def _swapped(before: Kernel | None, after: Kernel | None, found: tuple[NodeAccess, ...]) -> str | None:
    """Whether two phases of a role changed order although one depends on the other through locals or memory."""
    if before is None or after is None or before.roles is None or after.roles is None:
        return None
    if [role.name for role in before.roles] != [role.name for role in after.roles]:
        return "roles changed"
    for old, new in zip(before.roles, after.roles, strict=True):
        if {p.name for p in old.phases} != {p.name for p in new.phases}:
            return f"phases of role {old.name} changed"
        place = {phase.name: i for i, phase in enumerate(new.phases)}
        for first, second in combinations(old.phases, 2):
            if place[first.name] > place[second.name] and _depends(first, second, found):
                return f"{second.name} moved ahead of {first.name}, which it depends on"
    old_barriers, new_barriers = _barriers_before(before), _barriers_before(after)
    for first, second in permutations(before.phases, 2):
        separated = old_barriers[first.name] < old_barriers[second.name]
        if separated and new_barriers[first.name] >= new_barriers[second.name] and _depends(first, second, found):
            return f"the barrier between {first.name} and {second.name} disappeared"
    return None


def _barriers_before(kernel: Kernel) -> dict[str, int]:
    """How many barriers a role passes before each phase."""
    found: dict[str, int] = {}
    for role in kernel.roles or ():
        for i, step in enumerate(role.steps):
            if isinstance(step, Phase):
                found[step.name] = sum(isinstance(s, Barrier) for s in role.steps[:i])
    return found


def _waits(kernel: Kernel | None) -> int:
    return 0 if kernel is None else sum(isinstance(step, Wait) for _, _, step in kernel.steps())


def _depends(first: Phase, second: Phase, found: tuple[NodeAccess, ...]) -> bool:
    """Whether the second phase takes what the first gives, or both touch bytes that one of them writes."""
    if set(first.defines) & set(second.uses):
        return True
    pairs = [(a, b) for a in found for b in found if (a.phase, b.phase) == (first.name, second.name)]
    pairs = [(a, b) for a, b in pairs if a.write or b.write]
    return any(a.allocation == b.allocation and a.bytes.overlaps(b.bytes) for a, b in pairs)

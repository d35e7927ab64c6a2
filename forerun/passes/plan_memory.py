"""``plan-memory``: temporaries that are never in use at the same time share bytes of one arena."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from networkx.utils import UnionFind

from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.semantics import EventOrder, NodeAccess, event_order
from forerun.ir.semantics.alike import ones
from forerun.ir.semantics.reaching_writes import EXPOSED, ReachingWrites, reaching_writes
from forerun.ir.types import BufferRole, Place
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.registry import register
from forerun.support.diagnostics import Location

__all__ = ["Coalesced", "PlanMemory", "best_fit", "coalesced", "interference", "planned"]

_NAME = "arena"
_NAMED = 4


@register
@dataclass(frozen=True)
class PlanMemory(Pass):
    """Puts temporaries into one arena, where those that are never in use at the same time share bytes.

    One takes over the bytes of another only if all nodes that use the other are complete before any access of the one
    begins, by the rules that hold between programmatic dependencies (docs/pdl.md): no dependency is added, and no race.
    Placed are the largest first, each in the smallest gap that it fits between those that are in use at its time.
    Views through which data flows from one to the other move together. Temporaries of which not every use is known,
    such as those of bodies and black boxes, and those that are read before they are written, stay where they are. If
    the arena would not be smaller than the allocations that it replaces, nothing changes.
    """

    name: ClassVar[str] = "plan-memory"
    changes: ClassVar[frozenset[str]] = frozenset({"memory"})
    statistics: ClassVar[Mapping[str, str]] = {
        "buffers_moved": "temporaries that got another place",
        "buffers_kept": "temporaries that had to stay where they were",
        "bytes_before": "bytes of the allocations that arenas replaced",
        "bytes_after": "bytes of the arenas",
    }

    limit: int = option(256, help="keep a temporary in its place if more than this many others are in use at its time")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with temporaries in an arena for each device."""
        groups = coalesced(graph)
        others = interference([unit for unit in groups if not unit.reason], event_order(graph), self.limit)
        kept = [unit for unit in groups if unit.name not in others]
        _remark_kept(graph, kept, f"more than {self.limit} others are in use at its time", context)
        context.observe("buffers_kept", sum(len(unit.buffers) for unit in kept))
        return planned(graph, [unit for unit in groups if unit.name in others], others, context)


@dataclass(slots=True)
class Coalesced:
    """Temporaries that move together, since what is written through one is read through another.

    Attributes:
        reason: Why they may not move; empty if they may.
        users: The launch positions of the nodes that use them, ascending.
        start: Where what moves begins in the allocation: a multiple of the alignment.
        size: How many bytes move.
    """

    buffers: list[Buffer]
    reason: str = ""
    users: list[int] = field(default_factory=list)
    accesses: list[NodeAccess] = field(default_factory=list)
    start: int = field(init=False, default=0)
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        # What moves keeps its address modulo the alignment of allocations.
        self.start = min(buffer.offset for buffer in self.buffers) // ALLOCATION_ALIGNMENT * ALLOCATION_ALIGNMENT
        self.size = _aligned(max(buffer.stop for buffer in self.buffers) - self.start)

    @property
    def name(self) -> str:
        """That of the first buffer."""
        return self.buffers[0].name

    @property
    def allocation(self) -> str:
        """Where all of them lie."""
        return self.buffers[0].allocation

    def overlaps(self, other: Coalesced) -> bool:
        """Whether some buffer of the one shares bytes with some of the other."""
        pairs = ((a, b) for a in self.buffers for b in other.buffers if a.allocation == b.allocation)
        return any(a.offset < b.stop and b.offset < a.stop for a, b in pairs)


def coalesced(graph: Graph) -> list[Coalesced]:
    """All temporaries, by what moves together; in the order of the first buffers."""
    known = reaching_writes(graph)
    sets = _connected(known)
    groups: dict[str, list[Buffer]] = {}
    for buffer in graph.buffers.values():
        if buffer.role is BufferRole.TEMP:
            groups.setdefault(sets[buffer.name], []).append(buffer)
    found = [_coalesced(graph, buffers, known) for buffers in groups.values()]
    _keep_beside(found)
    return found


def _coalesced(graph: Graph, buffers: list[Buffer], known: ReachingWrites) -> Coalesced:
    uses = [known.uses[buffer.name] for buffer in buffers]
    users = uses[0].users if len(uses) == 1 else sorted({user for use in uses for user in use.users})
    found = [access for use in uses for access in use.accesses]
    return Coalesced(buffers, _reason(graph, buffers, known), users, found)


def _connected(known: ReachingWrites) -> UnionFind:
    """Buffers through which data flows from one to the other, in one set."""
    sets = UnionFind()
    for read in known.reads:
        for source in read.sources:
            if source is not None and source[1] != read.access.buffer:
                sets.union(read.access.buffer, source[1])
    return sets


def _reason(graph: Graph, buffers: list[Buffer], known: ReachingWrites) -> str:
    allocation = buffers[0].allocation
    if graph.allocations[allocation].place.kind != "device":
        return "it is on the host"
    if allocation in known.unknown:
        return known.unknown[allocation]
    return EXPOSED if any(buffer.name in known.exposed for buffer in buffers) else ""


def _keep_beside(found: Iterable[Coalesced]) -> None:
    """Keep what shares bytes with something that is read before it is written, and so may hold what is read."""
    exposed: dict[str, list[Coalesced]] = {}
    for unit in found:
        if unit.reason:
            exposed.setdefault(unit.allocation, []).append(unit)
    for unit in found if exposed else ():
        if not unit.reason and any(unit.overlaps(other) for other in exposed.get(unit.allocation, ())):
            unit.reason = "it shares bytes with one that stays"


def interference(movable: Iterable[Coalesced], order: EventOrder, limit: int) -> dict[str, list[str]]:
    """For each unit the others that may be in use at its time, by name.

    Of two units, the one that is used first in launch order cannot come after the other. So for each unit these are, of
    those that are used first before it, the ones that are still used from then on, and the ones that earlier nodes use
    which may not be complete. In a graph that is more deep than wide they are few. Units with more others (or nodes
    that may not be complete) than the limit are left out.
    """
    found: dict[str, list[str]] = {}
    users: dict[int, list[str]] = {}
    in_use: list[Coalesced] = []
    for unit in sorted(movable, key=lambda unit: unit.users[:1]):
        if not unit.users:
            found[unit.name] = []
            continue
        begin = unit.users[0]
        in_use = [other for other in in_use if other.users[-1] >= begin]
        pending = ~_complete(unit, order) & ((1 << begin) - 1)
        if len(in_use) + pending.bit_count() > limit:
            continue
        near = {other.name: None for other in in_use}
        for position in ones(pending):
            near.update(dict.fromkeys(users.get(position, ())))
        found[unit.name] = list(near)
        for name in near:
            found[name].append(unit.name)
        in_use.append(unit)
        for user in unit.users:
            users.setdefault(user, []).append(unit.name)
    return found


def _complete(unit: Coalesced, order: EventOrder) -> int:
    """The nodes that are complete, for certain, before any access of a unit begins; a bit set.

    An access begins at S of its node, or at W if it is after the wait (docs/pdl.md, "Events").
    """
    found = -1
    for access in unit.accesses:
        found &= (order.before_start if access.early else order.before_wait)[order.position[access.node]]
    return found


def planned(graph: Graph, found: Iterable[Coalesced], others: Mapping[str, list[str]], context: PassContext) -> Graph:
    """The graph with units in an arena for each device; ``others`` are those with which a unit may share no byte."""
    places: dict[Place, list[Coalesced]] = {}
    for unit in found:
        places.setdefault(graph.allocations[unit.allocation].place, []).append(unit)
    for place in sorted(places, key=str):
        graph = _placed(graph, place, places[place], best_fit(places[place], others), context)
    return graph


def best_fit(found: Iterable[Coalesced], others: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Where each unit lies in an arena: the largest first, each in the smallest gap that it fits.

    Others, by the name of a unit, are those with which it may share no byte.

    Example:
        >>> from forerun.ir.types import DType
        >>> buffers = (Buffer(n, DType.F32, (k,), BufferRole.TEMP, n) for n, k in (("a", 9), ("b", 99), ("c", 9)))
        >>> best_fit([Coalesced([buffer]) for buffer in buffers], {"a": ["b"], "b": ["a", "c"], "c": ["b"]})
        {'b': 0, 'a': 512, 'c': 512}
    """
    ranges: dict[str, tuple[int, int]] = {}
    for size, unit in sorted(((unit.size, unit) for unit in found), key=lambda pair: -pair[0]):
        at = _best_gap(sorted(ranges[other] for other in others[unit.name] if other in ranges), size)
        ranges[unit.name] = at, at + size
    return {name: start for name, (start, _) in ranges.items()}


def _best_gap(taken: Iterable[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap of that size between taken ranges; after all of them if there is none."""
    end, best, room = 0, -1, 0
    for start, stop in taken:
        gap = start - end
        if gap >= size and (best < 0 or gap < room):
            best, room = end, gap
        end = max(end, stop)
    return end if best < 0 else best


def _aligned(size: int) -> int:
    return -(-size // ALLOCATION_ALIGNMENT) * ALLOCATION_ALIGNMENT


def _placed(
    graph: Graph, place: Place, found: Sequence[Coalesced], at: Mapping[str, int], context: PassContext
) -> Graph:
    """The graph with units at some places of an arena, if that is smaller than the allocations that it empties."""
    here = Location("graph", graph.name)
    before, after = _sizes(graph, found, at)
    if after >= before:
        context.remark(f"{place}: an arena of {after} bytes would replace {before} bytes: left as it is", here)
        return graph
    granted = [unit for unit in found if context.should_apply()]
    if len(granted) < len(found):
        found = granted
        before, after = _sizes(graph, found, at)
    arena = _arena_name(graph)
    edit = graph.edit()
    for unit in found:
        for buffer in unit.buffers:
            edit.set_buffer(replace(buffer, allocation=arena, offset=at[unit.name] + buffer.offset - unit.start))
    kept = {buffer.allocation for buffer in edit.buffers.values()}
    for name in dict.fromkeys(unit.allocation for unit in found):
        if name not in kept:
            edit.remove_allocation(name)
    if found:
        edit.set_allocation(Allocation(arena, after, place))
        context.remark(f"{place}: {before} bytes of allocations became {after} bytes in ${arena}", here)
    context.count("buffers_moved", len(edit.delta.buffers))
    context.observe("bytes_before", before)
    context.observe("bytes_after", after)
    return edit.commit()


def _sizes(graph: Graph, found: Iterable[Coalesced], at: Mapping[str, int]) -> tuple[int, int]:
    """Bytes of the allocations that hold nothing but these units, and of an arena that holds them."""
    sizes = {unit.name: unit.size for unit in found}
    moved = {buffer.name for unit in found for buffer in unit.buffers}
    kept = {buffer.allocation for buffer in graph.buffers.values() if buffer.name not in moved}
    emptied = {graph.buffers[name].allocation for name in sizes} - kept
    before = sum(_aligned(graph.allocations[name].size) for name in emptied)
    return before, max((at[name] + size for name, size in sizes.items()), default=0)


def _arena_name(graph: Graph) -> str:
    """A name that no allocation has."""
    name, number = _NAME, 2
    while name in graph.allocations:
        name, number = f"{_NAME}{number}", number + 1
    return name


def _remark_kept(graph: Graph, kept: Iterable[Coalesced], otherwise: str, context: PassContext) -> None:
    """One remark for each reason, with some of the buffers."""
    groups: dict[str, list[str]] = {}
    for unit in kept:
        groups.setdefault(unit.reason or otherwise, []).extend(f"%{buffer.name}" for buffer in unit.buffers)
    for why, names in groups.items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        context.remark(f"stays: {shown}: {why}", Location("graph", graph.name))

"""Which writes the reads of temporaries see, in launch order, and what is not known of it.

The nodes of a graph are taken one by one in launch order. A read sees, for each of its bytes, the last write there by
an earlier node, and what its own node writes there (nothing is assumed of the order of accesses within a node). A write
that need not touch all bytes of its set is seen together with what was there before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from forerun.ir.analysis import Analysis
from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import AllocNode, FreeNode, Node
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.types import BufferRole
from forerun.ir.walk import bodies_in

__all__ = ["BODY", "EXPOSED", "MANAGED", "UNKNOWN", "ReachingWrite", "ReachingWrites", "SeenWrites", "reaching_writes"]

BODY = "a body of a node uses it"
MANAGED = "an allocation node manages its memory"
UNKNOWN = "not all that is read and written in its allocation is known exactly"
EXPOSED = "it is read where nothing is known to have been written"

ReachingWrite: TypeAlias = tuple[int, str, int] | None
"""A write that is seen: launch position of its node, the buffer that it goes through, and how far the reader's view
begins after that buffer; ``None`` for what was there before the replay."""


@dataclass(frozen=True, slots=True)
class SeenWrites:
    """What one read sees.

    Attributes:
        parts: Its bytes, counted from the start of its buffer, in ranges ``(start, stop, sources)``; neighbours differ.
        own: Writes of its own node to the same bytes.
    """

    access: NodeAccess
    parts: tuple[tuple[int, int, tuple[ReachingWrite, ...]], ...]
    own: tuple[ReachingWrite, ...]

    @property
    def sources(self) -> set[ReachingWrite]:
        """All writes that it may see."""
        return {*self.own, *(source for _, _, sources in self.parts for source in sources)}


@dataclass(slots=True)
class Use:
    """The nodes that use a temporary, as ascending launch positions, and all their accesses of it."""

    users: list[int] = field(default_factory=list)
    accesses: list[NodeAccess] = field(default_factory=list)

    def add(self, position: int, access: NodeAccess) -> None:
        """Note an access of the node at some position, which no later node comes before."""
        if not self.users or self.users[-1] != position:
            self.users.append(position)
        self.accesses.append(access)


@dataclass(frozen=True, slots=True)
class ReachingWrites:
    """Which writes the reads of a graph's temporaries see.

    Attributes:
        uses: For each of them, by name.
        reads: What is known of their reads, in launch order.
        unknown: Why it is not known which writes the reads in an allocation see, by allocation.
        exposed: Those that are read where nothing is known to have been written.
    """

    uses: Mapping[str, Use]
    reads: tuple[SeenWrites, ...]
    unknown: Mapping[str, str]
    exposed: frozenset[str]


class _Bytes:
    """For the bytes of one allocation, the writes that are seen there: segments, by their first byte."""

    def __init__(self) -> None:
        self._starts = [0]
        self._seen: list[tuple[ReachingWrite, ...]] = [(None,)]

    def write(self, start: int, stop: int, source: ReachingWrite, *, whole: bool) -> None:
        """Note a write, with the offset of its buffer in the place of a displacement."""
        if start >= stop:
            return
        first, last = self._split(start), self._split(stop)
        position = source[0] if source else -1
        kept = [s for seen in self._seen[first:last] for s in seen if not whole or (s and s[0] == position)]
        if whole and not kept:
            self._starts[first:last] = [start]
            self._seen[first:last] = [(source,)]
            return
        for i in range(first, last):
            before = [s for s in self._seen[i] if not whole or (s and s[0] == position)]
            self._seen[i] = tuple(dict.fromkeys([*before, source]))

    def read(self, start: int, stop: int, offset: int) -> tuple[tuple[int, int, tuple[ReachingWrite, ...]], ...]:
        """What a read through a buffer at some offset sees."""
        first, last = bisect_right(self._starts, start) - 1, bisect_left(self._starts, stop)
        found: list[tuple[int, int, tuple[ReachingWrite, ...]]] = []
        for i in range(first, last):
            end = min(stop, self._starts[i + 1]) if i + 1 < len(self._starts) else stop
            begin = max(start, self._starts[i]) - offset
            sources = tuple(s and (s[0], s[1], offset - s[2]) for s in self._seen[i])
            if found and found[-1][2] == sources:
                begin = found.pop()[0]
            found.append((begin, end - offset, sources))
        return tuple(found)

    def _split(self, at: int) -> int:
        """The number of the segment that begins at a byte, made if there is none."""
        i = bisect_left(self._starts, at)
        if i == len(self._starts) or self._starts[i] != at:
            self._starts.insert(i, at)
            self._seen.insert(i, self._seen[i - 1])
        return i


def _find_reaching_writes(graph: Graph) -> ReachingWrites:
    views = {buffer.name: buffer for buffer in graph.buffers.values() if buffer.role is BufferRole.TEMP}
    uses = {name: Use() for name in views}
    unknown: dict[str, str] = {}
    reads: list[SeenWrites] = []
    memory: defaultdict[str, _Bytes] = defaultdict(_Bytes)
    for position, (name, touched) in enumerate(accesses(graph).items()):
        special = _special(graph.nodes[name])
        known: list[tuple[NodeAccess, Buffer]] = []
        for access in touched:
            view = views.get(access.buffer) if special is not MANAGED else None
            if view is None:
                if special is MANAGED or not _stays_inside(access, graph.buffers.get(access.buffer)):
                    unknown.setdefault(access.allocation, special or UNKNOWN)
                continue
            uses[view.name].add(position, access)
            if special or not access.certain or not _stays_inside(access, view):
                unknown.setdefault(access.allocation, special or UNKNOWN)
            else:
                known.append((access, view))
        writes = [(access, view) for access, view in known if access.write]
        for access, view in known:
            if not access.write:
                parts = memory[access.allocation].read(access.bytes.start, access.bytes.stop, view.offset)
                reads.append(SeenWrites(access, parts, _own(access, view, writes, position) if writes else ()))
        for access, view in writes:
            where = access.bytes
            whole = access.definite and not where.levels
            memory[access.allocation].write(where.start, where.stop, (position, view.name, view.offset), whole=whole)
    exposed = frozenset(r.access.buffer for r in reads if any(None in sources for _, _, sources in r.parts))
    return ReachingWrites(uses, tuple(reads), unknown, exposed)


def _special(node: Node) -> str:
    if isinstance(node, AllocNode | FreeNode):
        return MANAGED
    return BODY if bodies_in(node) else ""


def _stays_inside(access: NodeAccess, view: Buffer | None) -> bool:
    """Whether it is known that an access reaches nothing of its allocation but its own buffer."""
    where = access.bytes
    if view is None or where.start_terms or where.stop_terms:
        return False
    return view.offset <= where.start <= where.stop <= view.stop


def _own(
    read: NodeAccess, view: Buffer, writes: Iterable[tuple[NodeAccess, Buffer]], position: int
) -> tuple[ReachingWrite, ...]:
    near = (b for a, b in writes if a.overlaps(read))
    return tuple(dict.fromkeys((position, b.name, view.offset - b.offset) for b in near))


reaching_writes = Analysis({"nodes", "kernels", "buffers", "allocations"}, _find_reaching_writes)
"""What flows through the temporaries of a graph, at the graph's own level: bodies of its nodes are not looked into."""

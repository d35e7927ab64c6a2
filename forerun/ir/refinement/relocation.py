"""Where temporaries lie: whether a graph means the same after they moved.

A rewrite may put temporaries at other places, such that several share bytes. *Undone* is the graph after with the
places of before. C17 says that each read of a temporary sees the same writes in both, node by node in launch order; so
each node of the one computes what it computes in the other. That launch order is what happens is the race check's
matter (:mod:`forerun.ir.semantics.races`), on the bytes as they are shared after. Undone need not be race-free: nobody
runs it.

What is proved is about one replay. A temporary is not read before it is written (C17), so nothing is handed from one
replay to the next, and replays do not overlap (H7, for drained graphs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.semantics.access import accesses
from forerun.ir.semantics.reaching_writes import EXPOSED, ReachingWrite, SeenWrites, reaching_writes
from forerun.ir.types import BufferRole

__all__ = ["Misread", "misreads", "moved", "undone"]


@dataclass(frozen=True, slots=True)
class Misread:
    """A read that is not known to see what it saw; ``node`` is empty if it is about a buffer as a whole."""

    node: str
    buffer: str
    message: str
    certain: bool = False


def moved(before: Graph, after: Graph) -> frozenset[str]:
    """The temporaries that are the same but for their place, on the same device."""
    if before.buffers == after.buffers:
        return frozenset()
    pairs = ((old, after.buffers.get(name)) for name, old in before.buffers.items())
    return frozenset(old.name for old, new in pairs if new not in (None, old) and _only_moved(before, after, old))


def _only_moved(before: Graph, after: Graph, old: Buffer) -> bool:
    new = after.buffers[old.name]
    if old.role is not BufferRole.TEMP or replace(new, allocation=old.allocation, offset=old.offset) != old:
        return False
    was, now = before.allocations.get(old.allocation), after.allocations.get(new.allocation)
    return was is not None and now is not None and was.place == now.place and was.place.kind == "device"


def undone(before: Graph, after: Graph, names: frozenset[str]) -> Graph:
    """The graph after, with some temporaries where they were, and the allocations that only they need as they were.

    Allocations that hold nothing but such temporaries may come, go, and change their size. All others stay as they are
    after, so that :mod:`~forerun.ir.refinement.rules` sees what differs.
    """
    edit = after.edit()
    for name in names:
        edit.set_buffer(before.buffers[name])
    for name in _own_allocations(before, names) | _own_allocations(after, names):
        if name in before.allocations:
            edit.set_allocation(before.allocations[name])
        else:
            edit.remove_allocation(name)
    result = edit.commit()
    if list(before.nodes) == list(after.nodes) and all(_table(before, n) == _table(result, n) for n in _ACCESSED):
        accesses.keep(result, accesses(before))
        reaching_writes.keep(result, reaching_writes(before))
    return result


_ACCESSED = ("nodes", "kernels", "buffers", "allocations")


def _table(graph: Graph, name: str) -> dict[str, object]:
    return dict(getattr(graph, name))


def _own_allocations(graph: Graph, names: frozenset[str]) -> set[str]:
    others = {b.allocation for b in graph.buffers.values() if b.name not in names}
    return {graph.buffers[name].allocation for name in names} - others


def misreads(old: Graph, after: Graph, names: frozenset[str]) -> Iterator[Misread]:
    """The reads of temporaries that are not known to see the same writes (C17).

    They are compared with the graph with the places of before (:func:`undone`); ``names`` are those that moved.
    """
    unclear: set[str] = set()
    for graph in (old, after):
        for name, why in _unclear(graph, names).items():
            if name not in unclear:
                unclear.add(name)
                yield Misread("", name, f"shares memory with temporaries that moved, or has moved itself, but {why}")
    known, now = reaching_writes(old).reads, reaching_writes(after).reads
    if len(known) != len(now):
        yield Misread("", min(names), "moved, and other reads than before are known exactly")
        return
    for before, read in zip(known, now, strict=True):
        if (before.parts != read.parts or before.own != read.own) and read.access.buffer not in unclear:
            yield _misread(after, before, read)


def _unclear(graph: Graph, names: frozenset[str]) -> dict[str, str]:
    """The temporaries of which it matters what is not known, with the reasons."""
    found, known = dict[str, str](), reaching_writes(graph)
    moved_views: dict[str, list[Buffer]] = {}
    for name in sorted(names):
        view = graph.buffers[name]
        moved_views.setdefault(view.allocation, []).append(view)
        if view.allocation in known.unknown:
            found[name] = known.unknown[view.allocation]
    for name in sorted(known.exposed):
        view = graph.buffers[name]
        near = (other for other in moved_views.get(view.allocation, ()))
        if any(other.offset < view.stop and view.offset < other.stop for other in near):
            found.setdefault(name, EXPOSED)
    return found


def _misread(after: Graph, before: SeenWrites, read: SeenWrites) -> Misread:
    """A read that sees other writes; certain if it is known which, on both sides."""
    access, nodes = read.access, list(after.nodes)
    for start, stop, sources in read.parts:
        for old_start, old_stop, old in before.parts:
            if old_start < stop and start < old_stop and old != sources:
                known = all(len(seen) == 1 and seen[0] is not None for seen in (old, sources))
                new, certain = sources[-1], known and _is_plain(read) and _is_plain(before)
                reach = f"[{max(start, old_start)}, {min(stop, old_stop)})"
                message = f"reads bytes {reach} of %{access.buffer} as {_spell(new, nodes)}; before the move, as "
                return Misread(access.node, access.buffer, message + _spell(old[-1], nodes), certain)
    message = f"reads %{access.buffer}, and writes the same bytes through another buffer than before the move"
    return Misread(access.node, access.buffer, message)


def _is_plain(read: SeenWrites) -> bool:
    """Whether a read touches all of its bytes, and only earlier nodes write them."""
    return read.access.bytes.exact and not read.access.bytes.levels and not read.own


def _spell(source: ReachingWrite, nodes: list[str]) -> str:
    return "they were before the replay" if source is None else f"'{nodes[source[0]]}' wrote them through %{source[1]}"

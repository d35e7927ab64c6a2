"""Fused nodes: whether a new node does, in terms of accesses, what the nodes do that it is said to stand for.

A node carries the claim (:attr:`forerun.ir.nodes.KernelNode.fuses`); here it is checked. That the new kernel computes
from the same bytes what the old ones compute is the statement of a fusion rule, with a tolerance, and tested on values.

Why C3 and C12 to C16 suffice. Put, in the place of each fused node, the nodes that it stands for, in their order, with
copies of their own of whatever they write and it does not. By C12 and C13 the fused node reads the bytes that these
read from outside. By C3, where an access of a fused node has the places of all accesses that it stands for, each of
them is on the same side of every conflicting access as before; so each sees the same bytes. A write that no fused node
makes is read by nobody outside of groups that recompute it, directly or through other writes in between (C1: the direct
conflicts of before, as in :mod:`~forerun.ir.refinement.certificate`). A write that is made is made once (C14). And what
the old nodes compute depends on what they hand to each other, not on where that lies: no byte is written twice, or read
first (C16). So there is also nothing that the order of the kernels protected and the fused one would not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from forerun.ir.declaration import contradiction, runs_code_of
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.binding import unversioned
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.semantics.hazards import Conflict, conflicts, is_certain
from forerun.ir.semantics.order import EventOrder
from forerun.ir.types import BufferRole

__all__ = ["Fused", "Problem", "claims", "is_temporary"]

Fusions = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding: its rule, the new node that it is about (or an old one that is gone), and a sentence."""

    code: str
    node: str
    message: str
    certain: bool = False


def claims(graph: Graph) -> Fusions:
    """For each node of a graph that claims to stand for others, bodies left out, the names of those."""
    return {node.name: node.fuses for node in graph if isinstance(node, KernelNode) and node.fuses}


class Fused:
    """The fused nodes of a rewrite of a verified graph.

    Nodes that were there before are left out of ``fusions``: what an earlier edit claimed. What is done to ``scratch``
    memory is for :mod:`~forerun.ir.refinement.scratch` to judge.
    """

    def __init__(self, before: Graph, after: Graph, fusions: Fusions, scratch: frozenset[str] = frozenset()) -> None:
        self.before, self.after, self.scratch = before, after, scratch
        self.problems: list[Problem] = []
        present = claims(before)
        claimed = {
            f: _parts(parts, before, present)
            for f, parts in fusions.items()
            if f in after.nodes and f not in before.nodes
        }
        self.groups = {f: parts for f, parts in claimed.items() if self._is_known(f, parts)}
        self.owners: dict[str, list[str]] = {}
        for fused, parts in self.groups.items():
            for part in parts:
                self.owners.setdefault(part, []).append(fused)

    def _is_known(self, fused: str, parts: tuple[str, ...]) -> bool:
        """C15: whether the claim is about nodes of which everything is known."""
        for reason in _unknown(self.before, self.after, fused, parts):
            self.problems.append(Problem("C15", fused, reason))
            return False
        return True

    def check(self) -> Iterator[Problem]:
        """Everything but C3 and C5."""
        yield from self.problems
        for fused, parts in self.groups.items():
            yield from self._redefines(fused)
            yield from self._reads(fused, parts)
            yield from self._new_writes(fused, parts)
            yield from self._reused(fused, parts)
        for part in self.owners:
            yield from self._old_writes(part)

    # Order

    def places(self, access: NodeAccess) -> tuple[int, ...]:
        """Where before had what an access of after stands for, as positions in launch order; empty if nowhere."""
        place = self._place
        if access.node not in self.groups:
            return (place[access.node],) if access.node in place else ()
        return self._origins[access.node].get((access.allocation, access.bytes, access.write), ())

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.before.nodes)}

    @cached_property
    def _origins(self) -> dict[str, dict[tuple[str, ByteSet, bool], tuple[int, ...]]]:
        """For each fused node, and each of its accesses, the places of the accesses that it stands for."""
        found: dict[str, dict[tuple[str, ByteSet, bool], tuple[int, ...]]] = {}
        for fused, parts in self.groups.items():
            old = [*self._outside(parts), *(a for a in self._of(parts) if a.write)]
            own = found.setdefault(fused, {})
            for access in self._own(fused):
                known = {self._place[a.node] for a in old if a.write == access.write and _meet(a, access)}
                own[access.allocation, access.bytes, access.write] = tuple(sorted(known))
        return found

    def crossings(self, events: Iterable[str], old: EventOrder, new: EventOrder) -> Iterator[tuple[str, str, str]]:
        """C5: the event nodes that a fused node crosses, the node, and a sentence about it."""
        for event in events:
            for fused, parts in self.groups.items():
                before = any(old.completes_before_start(part, event) for part in parts)
                if before and not new.completes_before_start(fused, event):
                    yield event, fused, f"may not be complete when event node '{event}' starts, as what it stands for"
                after = any(old.completes_before_wait(event, part) for part in parts)
                if after and not self._follows(fused, event, new):
                    yield event, fused, f"may begin before event node '{event}' is complete; what it stands for did not"

    def _follows(self, fused: str, event: str, new: EventOrder) -> bool:
        if new.completes_before_start(event, fused):
            return True
        early = any(access.early for access in accesses(self.after)[fused])
        return not early and new.completes_before_wait(event, fused)

    # Accesses

    def _of(self, parts: Iterable[str]) -> list[NodeAccess]:
        return [access for part in parts for access in accesses(self.before)[part]]

    def _own(self, fused: str) -> list[NodeAccess]:
        """What a fused node accesses, but for scratch memory."""
        return [access for access in accesses(self.after)[fused] if access.allocation not in self.scratch]

    def _inside(self, parts: tuple[str, ...], read: NodeAccess) -> bool | None:
        """Whether a read sees only what the nodes themselves have written; ``None`` if it sees that and more."""
        sources = self._sources.get(read, [])
        own = [write for write in sources if write.node in parts]
        if not own:
            return False
        covering = [self._place[write.node] for write in own if write.definite and write.bytes.covers(read.bytes)]
        others = [self._place[write.node] for write in sources if write.node not in parts]
        return True if covering and max(others, default=-1) < max(covering) else None

    def _outside(self, parts: tuple[str, ...]) -> list[NodeAccess]:
        """The reads of what others have written."""
        return [a for a in self._of(parts) if not a.write and self._inside(parts, a) is not True]

    @cached_property
    def _sources(self) -> dict[NodeAccess, list[NodeAccess]]:
        """The writes that the reads of old nodes see."""
        found: dict[NodeAccess, list[NodeAccess]] = {}
        for clash in conflicts(self.before).clashes:
            if not clash.later.write and clash.later.node in self.owners:
                found.setdefault(clash.later, []).extend(conflict.earlier for conflict in clash.conflicts())
        return found

    @cached_property
    def _readers(self) -> dict[NodeAccess, list[NodeAccess]]:
        """The reads that see the writes of old nodes."""
        found: dict[NodeAccess, list[NodeAccess]] = {}
        owned = sum(1 << self._place[part] for part in self.owners)
        for clash in conflicts(self.before).clashes if owned else ():
            for alike, nodes in () if clash.later.write else clash.earlier:
                for _, write in alike.of(nodes & owned >> alike.base):
                    found.setdefault(write, []).append(clash.later)
        return found

    # Rules

    def _redefines(self, fused: str) -> Iterator[Problem]:
        """C11."""
        node = self.after.nodes[fused]
        assert isinstance(node, KernelNode)
        kernel = self.after.kernels[node.kernel]
        declared = [old for old in self.before.kernels.values() if runs_code_of(kernel, old)]
        clashes = [contradiction(kernel, old) for old in declared]
        if clashes and all(clashes):
            yield Problem("C11", fused, f"kernel '{kernel.name}' contradicts '{declared[0].name}': {clashes[0]}", True)

    def _reads(self, fused: str, parts: tuple[str, ...]) -> Iterator[Problem]:
        """C12 and C13."""
        own = [access for access in self._own(fused) if not access.write]
        outside = self._outside(parts)
        together = [*outside, *_joined(outside)]
        for read in outside:
            if self._inside(parts, read) is None:
                message = f"'{read.node}' reads %{read.buffer} in part from nodes that it is fused with"
                yield Problem("C15", fused, message)
            elif not any(_covers(new, read) for new in own):
                message = f"does not read %{read.buffer} bytes {read.bytes}, which '{read.node}' reads"
                yield Problem("C12", fused, message, certain=not any(_meet(new, read) for new in own))
        for new in own:
            if not any(_covers(read, new) for read in together):
                known = any(not a.write and _meet(a, new) for a in self._of(parts))
                message = f"reads %{new.buffer} bytes {new.bytes}, which nothing that it stands for reads from others"
                yield Problem("C13", fused, message, certain=not known)

    def _new_writes(self, fused: str, parts: tuple[str, ...]) -> Iterator[Problem]:
        """C2."""
        old = [access for access in self._of(parts) if access.write]
        together = [*old, *_joined(old)]
        for new in self._own(fused):
            if new.write and not any(_covers(write, new) for write in together):
                message = f"the write of '{fused}' to %{new.buffer} bytes {new.bytes} is new"
                certain = not any(_meet(write, new) for write in old) and not is_temporary(self.before, new)
                yield Problem("C2", fused, message, certain)

    def _old_writes(self, part: str) -> Iterator[Problem]:
        """C1 and C14."""
        stays = part in self.after.nodes
        for write in (access for access in accesses(self.before)[part] if access.write):
            made = {f: a for f in self.owners[part] for a in accesses(self.after)[f] if a.write and _meet(a, write)}
            if len(made) + stays > 1:
                names = ", ".join(f"'{name}'" for name in [*made, *([part] if stays else [])])
                certain = all(_plain(access).meets(_plain(write)) is True for access in made.values())
                message = f"%{write.buffer}, which '{part}' wrote, is written by {names}"
                yield Problem("C14", next(iter(made)), message, certain)
            elif not stays and not any(_covers(access, write) for access in made.values()):
                yield from self._lost(part, write, in_part=bool(made))

    def _lost(self, part: str, write: NodeAccess, *, in_part: bool) -> Iterator[Problem]:
        """C1 for a write that nobody makes any more, or of which it is not known that all of it is made."""
        spelled = f"the write of '{part}' to %{write.buffer} bytes {write.bytes} is lost"
        if not is_temporary(self.before, write):
            yield Problem("C1", part, spelled, not in_part)
        for read in self._readers.get(write, []):
            groups = [self.groups[owner] for owner in self.owners.get(read.node, [])]
            gone = read.node not in self.after.nodes
            if not (gone and groups and all(part in group for group in groups)):
                certain = is_certain(self.before, Conflict(write, read))
                yield Problem("C1", part, f"{spelled}, but '{read.node}' reads them", certain)

    def _clashes(self, parts: tuple[str, ...]) -> Iterator[tuple[NodeAccess, NodeAccess]]:
        """The pairs of a write and another access of old nodes to the same bytes, but for handing something on."""
        found = self._of(parts)
        for i, write in enumerate(found):
            for j, other in enumerate(found if write.write else ()):
                handed_on = not other.write and self._place[other.node] > self._place[write.node]
                twice = other.write and j <= i
                if not handed_on and not twice and _meet(write, other):
                    yield write, other

    def _reused(self, fused: str, parts: tuple[str, ...]) -> Iterator[Problem]:
        """C16."""
        for write, other in self._clashes(parts):
            verb = "written twice" if other.write else f"read by '{other.node}'"
            message = (
                f"stands for '{write.node}', which writes %{write.buffer} bytes {write.bytes}, but they are {verb}"
            )
            yield Problem("C16", fused, message)


def is_temporary(graph: Graph, access: NodeAccess) -> bool:
    """Whether the bytes are seen by nobody outside the replay; other views of them have the same role."""
    buffer = graph.buffers.get(access.buffer)
    return buffer is not None and buffer.role is BufferRole.TEMP


def _parts(names: tuple[str, ...], before: Graph, present: Fusions) -> tuple[str, ...]:
    """The nodes of before that a claim is about: what it names, or a node there that stands for some of that."""
    inside = {part: fused for fused, parts in present.items() if set(parts) <= set(names) for part in parts}
    if not inside:
        return names
    return tuple(dict.fromkeys(name if name in before.nodes else inside.get(name, name) for name in names))


def _unknown(before: Graph, after: Graph, fused: str, parts: tuple[str, ...]) -> Iterator[str]:
    node = after.nodes[fused]
    old = [before.nodes.get(part) for part in parts]
    if not isinstance(node, KernelNode) or not parts or len(set(parts)) < len(parts):
        yield "is said to stand for others, but is not a kernel node, or stands for none, or for one of them twice"
    for name, part in zip(parts, old, strict=True):
        if not isinstance(part, KernelNode):
            yield f"is said to stand for '{name}', which is not a kernel node of before"
        elif part.place != node.place:
            yield f"stands for '{name}', which is at another place"
        elif name in after.nodes and not _is_kept(part, before, after):
            yield f"stands for '{name}', which has changed"
        elif any(not access.definite for access in accesses(before)[name]):
            yield f"stands for '{name}', whose accesses are not known exactly"
    if any(not access.definite for access in accesses(after)[fused]):
        yield "stands for others, but its accesses are not known exactly"


def _is_kept(part: KernelNode, before: Graph, after: Graph) -> bool:
    """Whether a node is the same after, but for the order of what its kernel does (which C4 judges)."""
    node = after.nodes[part.name]
    if node == part or not isinstance(node, KernelNode):
        return node == part
    old, new = before.kernels[part.kernel], after.kernels[node.kernel]
    return replace(node, kernel=part.kernel) == part and Counter(old.phases) == Counter(new.phases)


def _plain(access: NodeAccess) -> ByteSet:
    """The bytes, where a scalar that is written in the graph is named alike in all phases that load it.

    What they load is the same: the loads are accesses too, and on the same side of every write (C3).
    """
    return unversioned(access.bytes)


def _joined(found: Iterable[NodeAccess]) -> list[NodeAccess]:
    """Accesses of bytes of which the ones begin where the others end, as one access of all of them."""
    begins = {(a.allocation, a.bytes.start, a.bytes.start_terms): a for a in map(_unnamed, found) if _is_span(a)}
    joined = []
    for first in begins.values():
        last, seen = first, {first}
        while (after := begins.get((last.allocation, last.bytes.stop, last.bytes.stop_terms))) not in (None, *seen):
            assert after is not None
            last = after
            seen.add(last)
        if last is not first:
            whole = replace(first.bytes, stop=last.bytes.stop, stop_terms=last.bytes.stop_terms)
            joined.append(replace(first, bytes=whole))
    return joined


def _unnamed(access: NodeAccess) -> NodeAccess:
    return replace(access, bytes=_plain(access))


def _is_span(access: NodeAccess) -> bool:
    """Whether an access touches all bytes from its first one to its last one, however many these are."""
    return access.definite and not access.bytes.levels


def _covers(access: NodeAccess, other: NodeAccess) -> bool:
    return access.allocation == other.allocation and _plain(access).covers(_plain(other))


def _meet(access: NodeAccess, other: NodeAccess) -> bool:
    return access.allocation == other.allocation and _plain(access).overlaps(_plain(other))

"""Scratch memory: new buffers in which new nodes prepare what nodes that stand for others use.

Nothing is claimed but what the latter stand for (:attr:`forerun.ir.nodes.KernelNode.fuses`). A *preparing* node is
new, stands for nothing, and writes scratch memory alone: temporaries and state in new allocations, which no node of
before knows. Here it is checked who does what there. Then the graph before is taken with that memory, the graph after
with empty nodes for those that prepare, and what a fused node does to scratch memory is its own affair.

Why this suffices. Scratch memory is written by its preparing node alone, all of it that others read, before they do;
or by fused nodes alone. So what a fused node finds there follows from the bytes that the preparing node read, and from
what fused nodes left. The former are bytes that the fused node reads as well, with the same values, since nobody writes
them in between. So the result still is a function of what the nodes that it stands for read. Which one is the statement
of a rule, as ever with fused nodes; and what a kernel leaves for its next run (a counter that is 0 again) is, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import EmptyNode, KernelNode
from forerun.ir.semantics.access import NodeAccess, accesses, is_event
from forerun.ir.semantics.event_nodes import event_nodes
from forerun.ir.semantics.order import event_order
from forerun.ir.types import BufferRole

__all__ = ["Scratch", "without_scratch"]


@dataclass(frozen=True)
class Scratch:
    """The scratch memory of a rewrite of a verified graph.

    Attributes:
        after: The graph after.
        fused: Its new nodes that stand for others.
        memory: The allocations that are scratch memory.
        constants: New allocations of declared contents.
    """

    after: Graph
    fused: tuple[str, ...]
    memory: frozenset[str]
    constants: frozenset[str]

    @cached_property
    def preparing(self) -> tuple[str, ...]:
        """The nodes that write scratch memory alone, and stand for nothing."""
        found = []
        for node in self.after:
            writes = [a for a in accesses(self.after)[node.name] if a.write]
            is_new = isinstance(node, KernelNode) and node.name not in self.fused
            if is_new and writes and all(a.allocation in self.memory for a in writes):
                found.append(node.name)
        return tuple(found)

    def wrong(self) -> Iterator[tuple[str, str]]:
        """C23: nodes, each with a sentence about what is not right."""
        yield from self._strangers()
        for name in self.preparing:
            yield from self._preparation(name)
        for allocation in sorted(self.memory):
            yield from self._handed_on(allocation)

    @cached_property
    def _place(self) -> Mapping[str, int]:
        return {name: position for position, name in enumerate(self.after.nodes)}

    def _strangers(self) -> Iterator[tuple[str, str]]:
        known = {*self.preparing, *self.fused}
        for name, found in accesses(self.after).items():
            for access in found:
                if access.allocation in self.memory and name not in known:
                    yield name, f"{access.verb} %{access.buffer}, which is scratch memory of other nodes"

    def _preparation(self, name: str) -> Iterator[tuple[str, str]]:
        """What a preparing node reads: nothing but what those who use its work read, too, and find unchanged."""
        own = accesses(self.after)[name]
        if not all(access.definite for access in own):
            yield name, "prepares scratch memory, but what it accesses is not known exactly"
        reads = [a for a in own if not a.write and a.allocation not in self.constants]
        for user in self._users(name):
            theirs = [a for a in accesses(self.after)[user] if not a.write and a.allocation not in self.memory]
            for read in reads:
                if not any(a.allocation == read.allocation and a.bytes.covers(read.bytes) for a in theirs):
                    what = f"reads %{read.buffer} bytes {read.bytes}"
                    yield name, f"{what}, which '{user}', for which it prepares, does not"
            yield from ((name, message) for message in self._disturbances(name, user, reads))

    def _disturbances(self, name: str, user: str, reads: Collection[NodeAccess]) -> Iterator[str]:
        """How what a preparing node reads could differ from what its user would find there."""
        for between in [*self.after.nodes][self._place[name] + 1 : self._place[user]]:
            if is_event(self.after.nodes[between]):
                yield f"prepares for '{user}' across '{between}', until which others may write what both read"
            writes = (a for a in accesses(self.after)[between] if a.write)
            if any(write.overlaps(read) for write in writes for read in reads):
                yield f"'{between}' writes what it reads before '{user}', for which it prepares"
        order = event_order(self.after)
        for event in event_nodes(self.after):
            if order.completes_before_start(event, user) and not order.completes_before_start(event, name):
                yield f"may begin before '{event}' is complete, and '{user}', for which it prepares, may not"

    def _users(self, name: str) -> tuple[str, ...]:
        """The fused nodes that read what a node prepares."""
        written = [a for a in accesses(self.after)[name] if a.write]
        table = accesses(self.after)
        return tuple(f for f in self.fused if any(not a.write and any(map(a.overlaps, written)) for a in table[f]))

    def _handed_on(self, allocation: str) -> Iterator[tuple[str, str]]:
        """Who reads scratch memory finds there what its one preparing node has written in this replay."""
        found = [a for each in accesses(self.after).values() for a in each if a.allocation == allocation]
        writers = dict.fromkeys(a.node for a in found if a.write)
        makers = [name for name in writers if name in self.preparing]
        if makers and len(writers) > 1:
            yield makers[0], f"prepares ${allocation}, but {', '.join(repr(w) for w in writers)} write it"
        elif makers:
            written = [a for a in found if a.write]
            yield from self._unprepared(makers[0], written, [a for a in found if not a.write])

    def _unprepared(
        self, maker: str, written: Collection[NodeAccess], reads: Collection[NodeAccess]
    ) -> Iterator[tuple[str, str]]:
        for read in reads:
            if self._place[read.node] <= self._place[maker]:
                yield read.node, f"reads %{read.buffer} before '{maker}' prepares it"
            elif not any(write.bytes.covers(read.bytes) for write in written):
                yield read.node, f"reads %{read.buffer} bytes {read.bytes}, of which '{maker}' prepares a part"


def without_scratch(
    before: Graph, after: Graph, claims: Mapping[str, tuple[str, ...]]
) -> tuple[Graph, Graph, frozenset[str], list[tuple[str, str]]]:
    """The graphs without what is prepared in scratch memory.

    Args:
        before: The graph before.
        after: The graph after.
        claims: The nodes that nodes of after are said to stand for.

    Returns:
        The graph before, with the scratch memory; the graph after, with empty nodes for those that prepare; the
        allocations; and nodes that do something else with them than they may, each with a sentence.
    """
    fused = tuple(name for name in claims if name in after.nodes and name not in before.nodes)
    new = _new_memory(before, after) if fused else {}
    memory = frozenset(name for name, views in new.items() if all(b.role in _SCRATCH for b in views))
    if not memory:
        return before, after, frozenset(), []
    constants = frozenset(name for name, views in new.items() if all(b.contents is not None for b in views))
    scratch = Scratch(after, fused, memory, constants)
    known, undone = before.edit(), after.edit()
    for name in (*memory, *constants):
        known.set_allocation(after.allocations[name])
        for buffer in new[name]:
            known.set_buffer(buffer)
    for name in scratch.preparing:
        if name not in before.nodes:
            undone.replace_node(EmptyNode(name, after.nodes[name].place))
    return known.commit(), undone.commit(), memory, list(scratch.wrong())


_SCRATCH = {BufferRole.TEMP, BufferRole.STATE}


def _new_memory(before: Graph, after: Graph) -> dict[str, list[Buffer]]:
    """The allocations of after that before does not have, with their buffers, if none of these is one of before."""
    found: dict[str, list[Buffer]] = {}
    for buffer in after.buffers.values():
        if buffer.allocation not in before.allocations:
            found.setdefault(buffer.allocation, []).append(buffer)
    return {name: views for name, views in found.items() if not any(b.name in before.buffers for b in views)}

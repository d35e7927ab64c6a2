"""Copies of launch parameters in a captured graph that need not be repeated in each replay.

That a source stays as it is, and that the program writes nothing to the destination between replays, is the caller's
word (``optimize(..., fold_params=True)``); nothing that can be read says so. Who is able to write a source is asked,
and memory that other processes share is never taken for constant. Everything within the graph is checked here, and so
is the source, whenever that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forerun.ir.semantics.access import accesses
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.types import DependencyKind

if TYPE_CHECKING:
    from forerun.captured.graph import Transfer
    from forerun.frontends.captured import ImportedGraph

__all__ = ["FoldedCopies", "folded_copies"]


@dataclass(frozen=True, slots=True)
class FoldedCopies:
    """Which copies of a captured graph go.

    Attributes:
        contents: What each of them brings, by the number of its node.
        kept: Why other copies from the host stay, by their names.
    """

    contents: Mapping[int, bytes] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def folded_copies(imported: ImportedGraph, recorded: Mapping[int, bytes]) -> FoldedCopies:
    """The copies whose effect is the same if their destination is written once, before the first replay.

    Args:
        imported: The captured graph, and its meaning.
        recorded: What small copies from the host bring, by the number of the node.
    """
    known = _Known(imported, recorded)
    contents: dict[int, bytes] = {}
    kept: dict[str, str] = {}
    for number, data in recorded.items():
        reason = known.refusal(number)
        if reason:
            kept[imported.names[number]] = reason
        else:
            contents[number] = data
    return FoldedCopies(contents, kept)


class _Known:
    """What the nodes of a captured graph are known to touch, in launch order."""

    def __init__(self, imported: ImportedGraph, recorded: Mapping[int, bytes]) -> None:
        self.imported = imported
        self.base = imported.captured.memory[0].address if imported.captured.memory else 0
        self.sizes = {number: len(data) for number, data in recorded.items()}
        copies = {imported.names[number]: number for number in recorded}
        self.touched: list[tuple[str, ByteSet, bool]] = []
        for name, found in accesses(imported.graph).items():
            if name in copies:
                # Memory that the driver does not know makes it a node that may do anything to the checks; but it is
                # known what it writes.
                self.touched.append((name, self.bytes_of(self.transfer(copies[name]).destination, copies[name]), True))
            else:
                self.touched += [(name, a.bytes, a.write) for a in found if a.allocation == "memory"]
        self.has_host_calls = any(node.kind == "host" for node in imported.captured.all_nodes())

    def transfer(self, number: int) -> Transfer:
        """What a copy copies."""
        transfer = self.imported.captured.nodes[number].transfer
        assert transfer is not None
        return transfer

    def bytes_of(self, address: int, number: int) -> ByteSet:
        """As many bytes as a copy copies, as imported graphs have them: counted from the first block."""
        return ByteSet(address - self.base, address - self.base + self.sizes[number])

    def refusal(self, number: int) -> str:
        """Why a copy must stay; empty if it need not."""
        graph, name, transfer = self.imported.graph, self.imported.names[number], self.transfer(number)
        recorded = self.imported.captured.host_sources.get(number)
        if recorded is not None and recorded.writers == "processes":
            return "other processes may write its source"
        if recorded is not None and recorded.changed:
            return "its source does not hold any more what it held when it was captured"
        if any(d.kind is not DependencyKind.FULL for d in (*graph.incoming(name), *graph.outgoing(name))):
            return "its dependencies are not full"
        if self.has_host_calls:
            return "a host function of the graph may write its source"
        memory = self.imported.captured.memory_at(transfer.destination)
        if memory is None or memory.kind != "device" or transfer.destination + self.sizes[number] > memory.stop:
            return "its destination is not memory of the device that the driver knows"
        source = self.bytes_of(transfer.source or 0, number)
        destination = self.bytes_of(transfer.destination, number)
        is_before = True
        for other, where, write in self.touched:
            if other == name:
                is_before = False
            elif write and where.overlaps(source):
                return f"'{other}' may write its source"
            elif where.overlaps(destination) and (write or is_before):
                return f"'{other}' may {'write' if write else 'read'} its destination{'' if write else ' before'}"
        return ""

"""The table in which a kernel with checks counts: its layout, what it holds at first, and what it says afterwards."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from forerun.ptx.accesses import Access

__all__ = [
    "KEPT",
    "Block",
    "Fault",
    "Instrumented",
    "Root",
    "TableReport",
    "Wrong",
    "block_at",
    "count_at",
    "fault_at",
    "kept_at",
]

KEPT = 4
"""How many accesses of each fault are kept with their addresses."""

Fault: TypeAlias = Literal["outside", "wrong side"]
"""What the summary may be wrong about: the memory, or the side of the wait."""

_FAULTS: tuple[Fault, ...] = ("outside", "wrong side")
_FIRST = 8 * len(_FAULTS)
_BLOCKS = _FIRST + 16 * KEPT * len(_FAULTS)


def fault_at(fault: Fault) -> int:
    """Where the table counts a fault, in bytes. A word for each comes first."""
    return 8 * _FAULTS.index(fault)


def kept_at(fault: Fault) -> int:
    """Where it keeps the first accesses with a fault: for each the number of its site, and its address."""
    return _FIRST + 16 * KEPT * _FAULTS.index(fault)


def block_at(root: int) -> int:
    """Where it holds the block of a root: address and size."""
    return _BLOCKS + 16 * root


def count_at(site: int, roots: int) -> int:
    """Where it counts how often a site is executed, behind the blocks of all roots."""
    return _BLOCKS + 16 * roots + 8 * site


class Root(NamedTuple):
    """A pointer in the parameters: the parameter, and where in it the pointer lies."""

    parameter: str
    offset: int = 0


class Block(NamedTuple):
    """Memory: its first byte, and how many there are."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """An access of which the summary is wrong: what is wrong, which access, and the address."""

    fault: Fault
    access: Access
    address: int

    def __str__(self) -> str:
        return f"{self.fault}: {self.access}, address {self.address:#x}"


@dataclass(frozen=True)
class TableReport:
    """What a table holds after launches.

    Attributes:
        executed: How many threads executed each access.
        counted: How often the summary was wrong, by what was wrong.
        first: The first few of these.
    """

    executed: tuple[int, ...]
    counted: Mapping[Fault, int]
    first: tuple[Wrong, ...]


@dataclass(frozen=True)
class Instrumented:
    """A text with checks.

    Attributes:
        text: PTX. Its kernel has the address of a table as one more parameter.
        parameters: The names of the others, in their order.
        roots: The pointers whose blocks must be in the table.
        sites: The accesses that are checked.
        unclaimed: Those among them of which the summary does not say which memory they access: their side of the wait
            alone is checked.
    """

    text: str = field(repr=False)
    parameters: tuple[str, ...]
    roots: tuple[Root, ...]
    sites: tuple[Access, ...]
    unclaimed: int

    @property
    def table_bytes(self) -> int:
        """The size of the table; it begins at a multiple of 16."""
        return count_at(len(self.sites), len(self.roots))

    def table(self, blocks: Mapping[Root, Block]) -> bytes:
        """The table before the first launch. A pointer without a block points to nothing that may be accessed."""
        words = [word for root in self.roots for word in blocks.get(root, Block(0, 0))]
        return struct.pack(f"<{_BLOCKS}x{len(words)}Q{8 * len(self.sites)}x", *words)

    def report(self, table: bytes) -> TableReport:
        """What a table says."""
        words = struct.unpack(f"<{self.table_bytes // 8}Q", table)
        counted = dict(zip(_FAULTS, words, strict=False))
        executed = words[len(words) - len(self.sites) :]
        return TableReport(executed, counted, tuple(self._first(words, counted)))

    def _first(self, words: Sequence[int], counted: Mapping[Fault, int]) -> Iterator[Wrong]:
        for fault in _FAULTS:
            begin = kept_at(fault) // 8
            for at in range(begin, begin + 2 * min(counted[fault], KEPT), 2):
                yield Wrong(fault, self.sites[words[at]], words[at + 1])

"""The memory of a captured graph as buffers: blocks of the program's allocators, and parts of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from forerun.captured.graph import MemoryRange, range_at
from forerun.frontends.captured_kernels import EVERYTHING
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.types import BufferRole, DType

__all__ = ["CapturedMemory", "identifier"]


class CapturedMemory:
    """One allocation, in which blocks are buffers, and what nodes access of them.

    Args:
        ranges: The blocks, by their addresses; they do not overlap.

    Attributes:
        allocation: From the first block to the end of the last.
        buffers: By name: that of all memory, the blocks, and the parts that were asked for.
    """

    def __init__(self, ranges: Sequence[MemoryRange]) -> None:
        known = ranges or (MemoryRange(0, 1),)
        self._base = known[0].address
        self._ranges = ranges
        self.allocation = Allocation("memory", known[-1].stop - self._base)
        self.buffers: dict[str, Buffer] = {}
        self._parts: dict[tuple[int, int, DType], str] = {}
        self._new(EVERYTHING, self._base, self.allocation.size)
        self._blocks = {
            memory.address: self._new(identifier(memory.name) or f"m{number}", memory.address, memory.size)
            for number, memory in enumerate(ranges)
        }

    def _new(self, stem: str, address: int, size: int, dtype: DType = DType.U8) -> str:
        """The name of a new buffer: its own, unless that is taken. Two buffers are never one."""
        name = stem
        while name in self.buffers:
            name = f"{name}_{len(self.buffers)}"
        shape = (size // dtype.itemsize,)
        self.buffers[name] = Buffer(name, dtype, shape, BufferRole.STATE, "memory", address - self._base)
        return name

    def around(self, address: int) -> MemoryRange | None:
        """The block around an address."""
        return range_at(self._ranges, address)

    def block(self, memory: MemoryRange) -> str:
        """The buffer that is a block."""
        return self._blocks[memory.address]

    def part(self, address: int, size: int, dtype: DType = DType.U8) -> str | None:
        """The buffer of some bytes of one block; ``None`` if they do not lie in one."""
        memory = self.around(address)
        if memory is None or address + size > memory.stop or size % dtype.itemsize:
            return None
        key = address, size, dtype
        if key not in self._parts:
            stem = f"{self.block(memory)}_{address - memory.address}_{size}"
            self._parts[key] = self._new(stem if dtype is DType.U8 else f"{stem}_{dtype}", address, size, dtype)
        return self._parts[key]

    def has(self, pointer: int, start: int, stop: int) -> bool:
        """Whether all bytes from one to another, counted from a pointer, lie in the block that it points into."""
        memory = self.around(pointer)
        return memory is not None and memory.address <= pointer + start and pointer + stop <= memory.stop

    def reached(self, pointer: int, span: tuple[int, int] | None) -> str | None:
        """The buffer of what is accessed through a pointer; ``None`` if it does not point to memory of the device.

        An access stays in the block that its pointer points into (docs/captured-graphs.md, "What it rests on").

        Args:
            pointer: An address.
            span: The first byte, and that behind the last, counted from there; ``None`` if they are not known.
        """
        memory = self.around(pointer)
        if memory is None or memory.kind != "device":
            return None
        if span is None or pointer + span[0] < 0:
            return self.block(memory)
        start, stop = max(pointer + span[0], memory.address), min(pointer + span[1], memory.stop)
        if start >= stop or (start, stop) == (memory.address, memory.stop):
            return self.block(memory)
        return self.part(start, stop - start)


def identifier(name: str) -> str:
    """A name as the text form has them, not too long."""
    plain = re.sub(r"\W", "_", name)[:60].strip("_")
    return f"_{plain}" if plain[:1].isdigit() else plain

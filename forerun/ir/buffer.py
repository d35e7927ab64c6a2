"""Memory: allocations, and buffers as typed views of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forerun.ir.types import DEVICE0, BufferRole, DType, Place

__all__ = ["ALLOCATION_ALIGNMENT", "Allocation", "Buffer", "Paged", "Ragged"]

ALLOCATION_ALIGNMENT = 256
"""Bytes. Targets that run CUDA C++ put allocations at multiples of this, as ``cuMemAlloc`` does; of memory that the
caller gives they require what kernels need of it."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """A contiguous piece of memory that buffers are views of: ``size`` bytes on a device, or on the host."""

    name: str
    size: int
    place: Place = DEVICE0


@dataclass(frozen=True, slots=True)
class Paged:
    """The first dimension of the buffer is pages; ``table`` (a buffer that every access reads) maps to them."""

    table: str
    page_size: int


@dataclass(frozen=True, slots=True)
class Ragged:
    """The first dimension is the concatenation of rows of unequal length; ``offsets`` is their index pointer."""

    offsets: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """A typed, dense, row-major view of an allocation.

    Attributes:
        name: Unique among the buffers of a graph.
        shape: Extent of each dimension, in elements.
        allocation: Name of the allocation that it views.
        offset: Byte offset of its first element in the allocation.
        index: How its first dimension is indexed when it is paged or ragged; an access to it then reads the index
            buffer too, and its extent is unknown (strictly: the whole view).
        bounds: Inclusive range of the values of an integer buffer, as promised by who writes it. Targets check it for
            inputs; it serves range checks of regions, and proves nothing about conflicts.
        contents: The bytes that a weight has in every replay, if the graph says so (verifier rules M9 and F5); little-
            endian, row-major. The value of any other weight is given when the graph is loaded.
        ascending: Whether no element of an integer buffer is below the one before it, as an index pointer's are. That
            is promised by the caller, who alone writes it (M10, F6); targets check it. Two regions between elements of
            one such buffer are known to be disjoint if their indices are.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    role: BufferRole
    allocation: str
    offset: int = 0
    index: Paged | Ragged | None = None
    bounds: tuple[int, int] | None = None
    contents: bytes | None = None
    ascending: bool = False

    @property
    def needs_value(self) -> bool:
        """Whether it is a weight whose value is given when the graph is loaded."""
        return self.role is BufferRole.WEIGHT and self.contents is None

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.count * self.dtype.itemsize

    @property
    def index_buffer(self) -> str:
        """The page table or the index pointer; empty if it has neither."""
        if self.index is None:
            return ""
        return self.index.table if isinstance(self.index, Paged) else self.index.offsets

    @property
    def stop(self) -> int:
        """The first byte of the allocation after the view."""
        return self.offset + self.size

"""The buffers that random graphs are about: they share bytes in every way that buffers can."""

from __future__ import annotations

from collections.abc import Collection

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.contents import bytes_of_numbers
from forerun.ir.types import DEVICE0, HOST, BufferRole, DType
from forerun.testing.kernel_strategy import WIDTH

__all__ = [
    "CHOICES",
    "CONSTANT",
    "DTYPES",
    "FILLABLE",
    "HOSTED",
    "READABLE",
    "TEMPORARIES",
    "WRITABLE",
    "allocations_of",
    "buffer",
    "buffers_of",
    "overlap",
]

DTYPES = (DType.I32, DType.F32, DType.I8)
"""Element types of graphs; what is computed are whole numbers, and compared bit by bit."""

_ARENA = {"s0": 0, "s1": 2, "s2": 4, "s3": 8}
"""State in one allocation, by its first element: ``s1`` overlaps ``s0`` and ``s2``, ``s3`` stands alone."""

_RAW = "raw"
"""Single bytes of the arena: the last of ``s0``, some in the middle of ``s1``, the first of ``s2``."""

TEMPORARIES = ("t0", "t1")

READABLE = (*_ARENA, "x", "w", *TEMPORARIES)
"""Buffers that a node may read: state, an input, a weight, temporaries."""

WRITABLE = (*_ARENA, *TEMPORARIES, "y")
"""Buffers that a node may write: state, temporaries, an output."""

HOSTED = ("h0", "h1")
"""State in host memory: what host calls read and write, and what copies may."""

CONSTANT = "k"
"""A constant in host memory, which copies read: the graph says what it holds."""

CHOICES = ("row", "c")
"""One integer: an input, and state that only fills write. Scalars are loaded from them, and they are conditions."""

FILLABLE = (*WRITABLE, _RAW, "c")
"""Buffers that a fill may write."""

_ROLES = {
    "x": BufferRole.INPUT,
    "w": BufferRole.WEIGHT,
    CONSTANT: BufferRole.WEIGHT,
    "t0": BufferRole.TEMP,
    "t1": BufferRole.TEMP,
    "y": BufferRole.OUTPUT,
    "h0": BufferRole.STATE,
    "h1": BufferRole.STATE,
    "row": BufferRole.INPUT,
    "c": BufferRole.STATE,
}
_ORDER = (*_ARENA, _RAW, *_ROLES)


def buffer(name: str, dtype: DType) -> Buffer:
    """The buffer of that name in graphs of an element type.

    Example:
        >>> s0, raw = buffer("s0", DType.I32), buffer("raw", DType.I32)
        >>> (s0.offset, s0.stop), (raw.offset, raw.stop), raw.dtype
        ((0, 16), (14, 18), <DType.I8: ('i8', 1, False, True)>)
    """
    if name in _ARENA:
        return Buffer(name, dtype, (WIDTH,), BufferRole.STATE, "arena", dtype.itemsize * _ARENA[name])
    if name == _RAW:
        return Buffer(name, DType.I8, (4,), BufferRole.STATE, "arena", 7 * dtype.itemsize // 2)
    if name in CHOICES:
        return Buffer(name, DType.I32, (1,), _ROLES[name], name, bounds=(0, WIDTH - 1))
    if name == CONSTANT:
        return Buffer(name, dtype, (WIDTH,), _ROLES[name], name, contents=_contents(dtype))
    return Buffer(name, dtype, (WIDTH,), _ROLES[name], name)


def _contents(dtype: DType) -> bytes:
    """Small whole numbers, which differ from those that other buffers hold."""
    return bytes_of_numbers(dtype, range(101, 101 + WIDTH))


def buffers_of(names: Collection[str], dtype: DType) -> list[Buffer]:
    """The buffers of those names, in the order in which graphs declare them."""
    return [buffer(name, dtype) for name in _ORDER if name in names]


def allocations_of(buffers: Collection[Buffer]) -> list[Allocation]:
    """The memory under some buffers."""
    sizes: dict[str, int] = {}
    for present in buffers:
        sizes[present.allocation] = max(sizes.get(present.allocation, 0), present.stop)
    return [Allocation(name, size, HOST if name in (*HOSTED, CONSTANT) else DEVICE0) for name, size in sizes.items()]


def overlap(first: str, second: str) -> bool:
    """Whether two buffers share bytes, whatever the element type."""
    a, b = buffer(first, DType.I32), buffer(second, DType.I32)
    return a.allocation == b.allocation and a.offset < b.stop and b.offset < a.stop

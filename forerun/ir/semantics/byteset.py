"""Byte sets of allocations: what a region of a buffer is in memory, when two overlap, when one covers another."""

from __future__ import annotations

from dataclasses import dataclass

from forerun.ir.affine import Affine, affine
from forerun.ir.buffer import Buffer
from forerun.ir.region import Region, Slice

__all__ = ["ByteSet", "bytes_of"]

MAX_RUNS = 1 << 16
"""Strided sets with more runs than this are compared by their hulls (which only ever adds overlaps)."""

_Terms = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ByteSet:
    """Bytes of one allocation: a hull ``[start, stop)`` with symbolic ends, and how the bytes lie in it.

    An end is its constant plus ``*_terms``, symbols with coefficients as in :class:`forerun.ir.affine.Affine`. Two
    ends can be compared exactly if and only if their terms are equal.

    Attributes:
        start: Constant part of the first byte.
        stop: Constant part of the byte after the last.
        start_terms: Symbolic part of ``start``.
        stop_terms: Symbolic part of ``stop``.
        run: Bytes of each contiguous run, for a strided set; 0 if the hull itself is meant.
        levels: ``(count, stride in bytes)`` from the outermost, for a strided set.
        exact: Whether the set is these bytes precisely, rather than some of them.
    """

    start: int
    stop: int
    start_terms: _Terms = ()
    stop_terms: _Terms = ()
    run: int = 0
    levels: tuple[tuple[int, int], ...] = ()
    exact: bool = True

    def moved(self, distance: int) -> ByteSet:
        """The same set that many bytes further on."""
        if not distance:
            return self
        start, stop = self.start + distance, self.stop + distance
        return ByteSet(start, stop, self.start_terms, self.stop_terms, self.run, self.levels, self.exact)

    @property
    def is_constant(self) -> bool:
        """Whether the hull has no symbols."""
        return not self.start_terms and not self.stop_terms

    def overlaps(self, other: ByteSet) -> bool:
        """Whether some byte may be in both; exact unless symbols or very many runs prevent it."""
        if self.stop_terms == other.start_terms and self.stop <= other.start:
            return False
        if other.stop_terms == self.start_terms and other.stop <= self.start:
            return False
        if self.is_empty or other.is_empty:
            return False
        if not (self.levels or other.levels) or self.start_terms != other.start_terms:
            return True
        return _runs_overlap(self, other)

    def covers(self, other: ByteSet) -> bool:
        """Whether every byte of ``other`` is certainly in this set."""
        if other.is_empty:
            return True
        if not self.exact:
            return False
        if self.levels:
            return self == other
        return (
            self.start_terms == other.start_terms
            and self.stop_terms == other.stop_terms
            and self.start <= other.start
            and other.stop <= self.stop
        )

    @property
    def is_empty(self) -> bool:
        """Whether it certainly has no bytes."""
        return self.start_terms == self.stop_terms and self.stop <= self.start

    def _runs(self) -> list[int] | None:
        """The constant parts of the runs' first bytes, sorted; ``None`` if there are too many."""
        starts = [self.start]
        for count, stride in self.levels:
            if len(starts) * count > MAX_RUNS:
                return None
            starts = [start + i * stride for start in starts for i in range(count)]
        return starts

    def __str__(self) -> str:
        start = Affine(self.start, self.start_terms)
        stop = Affine(self.stop, self.stop_terms)
        return f"[{start}, {stop})" + (f" in runs of {self.run}" if self.levels else "")


def _runs_overlap(a: ByteSet, b: ByteSet) -> bool:
    runs_a, runs_b = a._runs(), b._runs()
    if runs_a is None or runs_b is None:
        return True
    # A set without levels is one run as long as its hull (only its constant ends count: the caller compared terms).
    if (not a.levels and a.stop_terms != a.start_terms) or (not b.levels and b.stop_terms != b.start_terms):
        return True
    length_a = a.run if a.levels else a.stop - a.start
    length_b = b.run if b.levels else b.stop - b.start
    i = j = 0
    while i < len(runs_a) and j < len(runs_b):
        if runs_a[i] + length_a <= runs_b[j]:
            i += 1
        elif runs_b[j] + length_b <= runs_a[i]:
            j += 1
        else:
            return True
    return False


def bytes_of(buffer: Buffer, region: Region) -> ByteSet:
    """The bytes of its allocation that a region of a buffer is.

    Args:
        buffer: The view; a paged or ragged buffer yields all its bytes, inexactly, for any region.
        region: Bounds in elements of the buffer; symbols stay symbols.
    """
    if region.is_whole:
        return ByteSet(buffer.offset, buffer.stop)
    if buffer.index is not None or len(region.slices) > len(buffer.shape):
        return ByteSet(buffer.offset, buffer.stop, exact=False)
    if any(s is not None and _is_empty(s) for s in region.slices):
        return ByteSet(buffer.offset, buffer.offset)
    first, *inner = region.slices
    if first is not None and all(s is None for s in inner):
        return _rows(buffer, first)
    return _box(buffer, region)


def _is_empty(bounds: Slice) -> bool:
    return bounds.start.terms == bounds.stop.terms and bounds.stop.constant <= bounds.start.constant


def _rows(buffer: Buffer, rows: Slice) -> ByteSet:
    """A slice of the first dimension alone is contiguous."""
    row = buffer.size // buffer.shape[0]
    start, stop = rows.start * row, rows.stop * row
    return ByteSet(buffer.offset + start.constant, buffer.offset + stop.constant, start.terms, stop.terms)


def _box(buffer: Buffer, region: Region) -> ByteSet:
    """Collapse a box, from the innermost dimension out, into a hull and strided levels."""
    stride = buffer.dtype.itemsize
    start, length = affine(buffer.offset), affine(stride)
    run: int | None = stride
    levels: list[tuple[int, int]] = []
    contiguous, exact = True, True
    for axis in reversed(range(len(buffer.shape))):
        extent = buffer.shape[axis]
        bounds = region.slices[axis] if axis < len(region.slices) else None
        first = bounds.start if bounds is not None else affine(0)
        count = bounds.stop - bounds.start if bounds is not None else affine(extent)
        start = start + first * stride
        if contiguous:
            length = count * stride
            run = count.constant * stride if count.is_constant else None
            contiguous = count == affine(extent)
        elif count == affine(1):
            pass
        else:
            length = length + (count - 1) * stride
            exact = exact and count.is_constant and run is not None
            levels.append((count.constant, stride))
        stride *= extent
    stop = start + length
    if not levels:
        return ByteSet(start.constant, stop.constant, start.terms, stop.terms)
    if not exact or run is None:
        return ByteSet(start.constant, stop.constant, start.terms, stop.terms, exact=False)
    return ByteSet(start.constant, stop.constant, start.terms, stop.terms, run, tuple(reversed(levels)))

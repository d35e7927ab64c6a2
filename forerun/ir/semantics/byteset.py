"""Byte sets of allocations: what a region of a buffer is in memory, when two overlap, when one covers another."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from forerun.ir.affine import Affine, affine
from forerun.ir.buffer import Buffer
from forerun.ir.region import Region, Slice
from forerun.ir.semantics.ascending import not_above
from forerun.ir.semantics.strides import UNBOUNDED, Levels, contains, meet

__all__ = ["ByteSet", "bytes_of"]

_Terms = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ByteSet:
    """Bytes of one allocation: a hull ``[start, stop)`` with symbolic ends, and how the bytes lie in it.

    An end is its constant plus ``*_terms``, symbols with coefficients as in :class:`forerun.ir.affine.Affine`. Two
    ends can be compared exactly if and only if their terms are equal. Those with elements of one buffer that ascends
    can be ordered, too (:mod:`forerun.ir.semantics.ascending`).

    Attributes:
        start: Constant part of the first byte.
        stop: Constant part of the byte after the last.
        start_terms: Symbolic part of ``start``.
        stop_terms: Symbolic part of ``stop``.
        run: Bytes of each contiguous run, for a strided set; 0 if the hull itself is meant.
        levels: ``(count, stride in bytes)`` from the outermost, for a strided set; a count may be
            :data:`~forerun.ir.semantics.strides.UNBOUNDED` if the set is not exact.
        exact: Whether the set is these bytes precisely, rather than some of them.
    """

    start: int
    stop: int
    start_terms: _Terms = ()
    stop_terms: _Terms = ()
    run: int = 0
    levels: Levels = ()
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
        """Whether some byte may be in both: all that is not known to be disjoint overlaps."""
        if self._ends_before(other) or other._ends_before(self):
            return False
        if self.is_empty or other.is_empty:
            return False
        if not (self.levels or other.levels) and self.start_terms == other.start_terms:
            return True
        return self._meets(other) is not False

    def _ends_before(self, other: ByteSet) -> bool:
        """Whether its hull is known to end where the other one's begins, or before."""
        return not_above(self.stop, self.stop_terms, other.start, other.start_terms)

    def meets(self, other: ByteSet) -> bool | None:
        """Whether some byte is in both; ``None`` if that is not known.

        It is not where ends with different symbols are compared, where a set is not exact, and where deciding it would
        take too long (:mod:`forerun.ir.semantics.strides`).
        """
        if self._ends_before(other) or other._ends_before(self):
            return False
        if self.is_empty or other.is_empty:
            return False
        return self._meets(other)

    def _meets(self, other: ByteSet) -> bool | None:
        """Whether some byte is in both sets, whose hulls are not known to be apart; ``None`` if that is not known."""
        known = self.is_known and other.is_known and self.start_terms == other.start_terms
        if self.start_terms == other.start_terms and not (self.levels or other.levels):
            return True if known else None
        if not (self._has_runs and other._has_runs):
            return None
        distance, levels = other.start - self.start, other.levels
        if self.start_terms != other.start_terms:
            # As if all were read and written that any values of the symbols name.
            anywhere = _multiples(self.start_terms, other.start_terms)
            if gcd(*(stride for _, stride in anywhere)) < self._run + other._run:
                return None  # some values bring them together, as far as arithmetic can tell
            distance -= sum(UNBOUNDED // 2 * stride for _, stride in anywhere)
            levels = (*anywhere, *levels)
        found = meet(self.levels, self._run, levels, other._run, distance)
        return found if known or not found else None

    @property
    def is_known(self) -> bool:
        """Whether it is known which bytes these are, but for where the set starts."""
        return self.exact and self.start_terms == self.stop_terms

    @property
    def _has_runs(self) -> bool:
        """Whether it is known how long its runs are; a set without levels is one run."""
        return bool(self.levels) or self.start_terms == self.stop_terms

    @property
    def _run(self) -> int:
        return self.run if self.levels else self.stop - self.start

    def covers(self, other: ByteSet) -> bool:
        """Whether every byte of ``other`` is certainly in this set."""
        if other.is_empty:
            return True
        if not self.exact or not not_above(self.start, self.start_terms, other.start, other.start_terms):
            return False
        if not not_above(other.stop, other.stop_terms, self.stop, self.stop_terms):
            return False
        if not self.levels:
            return True
        if self.start_terms != other.start_terms or self.stop_terms != other.stop_terms:
            return False
        inner = (other.levels, other.run) if other.levels else ((), other.stop - other.start)
        return self == other or contains(self.levels, self.run, *inner, other.start - self.start)

    @property
    def is_empty(self) -> bool:
        """Whether it certainly has no bytes."""
        return self.start_terms == self.stop_terms and self.stop <= self.start

    def __str__(self) -> str:
        start = Affine(self.start, self.start_terms)
        stop = Affine(self.stop, self.stop_terms)
        return f"[{start}, {stop})" + (f" in runs of {self.run}" if self.levels else "")


def _multiples(terms: _Terms, other: _Terms) -> Levels:
    """The difference of two ends' symbolic parts, for any values of the symbols, from some lowest value on."""
    difference = dict(other)
    for symbol, coefficient in terms:
        difference[symbol] = difference.get(symbol, 0) - coefficient
    return tuple((UNBOUNDED, abs(coefficient)) for coefficient in difference.values() if coefficient)


def bytes_of(buffer: Buffer, region: Region) -> ByteSet:
    """The bytes of its allocation that a region of a buffer is; symbols in its bounds stay symbols.

    A paged or ragged buffer yields all its bytes, inexactly, for any region.
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
            exact = exact and count.is_constant
            levels.append((count.constant if count.is_constant else UNBOUNDED, stride))
        stride *= extent
    stop = start + length
    if not levels:
        return ByteSet(start.constant, stop.constant, start.terms, stop.terms)
    if run is None:
        return ByteSet(start.constant, stop.constant, start.terms, stop.terms, exact=False)
    return ByteSet(start.constant, stop.constant, start.terms, stop.terms, run, tuple(reversed(levels)), exact)

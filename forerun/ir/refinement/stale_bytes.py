"""Ranges of bytes that may not hold what they should."""

from __future__ import annotations

__all__ = ["StaleBytes"]


class StaleBytes:
    """Ranges of bytes, of one version of a buffer, that may not be what they should be.

    Example:
        >>> stale = StaleBytes([(0, 100)])
        >>> stale.remove(10, 20)
        >>> stale.add(90, 120)
        >>> stale.ranges, stale.meets(10, 20)
        ([(0, 10), (20, 120)], False)
    """

    def __init__(self, ranges: list[tuple[int, int]] | None = None) -> None:
        self.ranges = ranges or []

    def meets(self, start: int, stop: int) -> bool:
        """Whether some byte of a range is stale."""
        return any(a < stop and start < b for a, b in self.ranges)

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The stale parts of a range."""
        return [(max(a, start), min(b, stop)) for a, b in self.ranges if a < stop and start < b]

    def remove(self, start: int, stop: int) -> None:
        """A range is no longer stale."""
        pieces = [piece for a, b in self.ranges for piece in ((a, min(b, start)), (max(a, stop), b))]
        self.ranges = [(a, b) for a, b in dict.fromkeys(pieces) if a < b]

    def add(self, start: int, stop: int) -> None:
        """A range is stale."""
        if start >= stop:
            return
        apart = [(a, b) for a, b in self.ranges if b < start or stop < a]
        near = [(a, b) for a, b in self.ranges if not (b < start or stop < a)]
        joined = min([start, *(a for a, _ in near)]), max([stop, *(b for _, b in near)])
        self.ranges = sorted([*apart, joined])

"""Regions of buffers: one slice a dimension, with affine bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forerun.ir.affine import Affine, AffineLike, affine

__all__ = ["WHOLE", "BufferView", "Region", "Slice", "region"]


@dataclass(frozen=True, slots=True)
class Slice:
    """The half-open range ``start:stop`` of one dimension, in elements."""

    start: Affine
    stop: Affine

    def substitute(self, values: Mapping[str, AffineLike]) -> Slice:
        """The same slice with symbols replaced."""
        return Slice(self.start.substitute(values), self.stop.substitute(values))

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"


@dataclass(frozen=True, slots=True)
class Region:
    """A box of a buffer: slices of its leading dimensions; dimensions that are not named are whole.

    ``Region()`` (also :data:`WHOLE`) is the whole buffer. ``None`` for a slice is the whole of that dimension.
    """

    slices: tuple[Slice | None, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether no dimension is restricted."""
        return all(s is None for s in self.slices)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols in the bounds, sorted, each once."""
        found = {name for s in self.slices if s is not None for name in (*s.start.symbols, *s.stop.symbols)}
        return tuple(sorted(found))

    def substitute(self, values: Mapping[str, AffineLike]) -> Region:
        """The same region with symbols replaced."""
        return Region(tuple(None if s is None else s.substitute(values) for s in self.slices))

    def __str__(self) -> str:
        return "[" + ", ".join(":" if s is None else str(s) for s in self.slices) + "]" if self.slices else ""


WHOLE = Region()


def region(*bounds: tuple[AffineLike, AffineLike] | None) -> Region:
    """A region from ``(start, stop)`` pairs, one a leading dimension; ``None`` is the whole dimension.

    Example:
        >>> str(region(("pos", affine("pos") + 1), None))
        '[pos:pos + 1, :]'
    """
    return Region(tuple(None if b is None else Slice(affine(b[0]), affine(b[1])) for b in bounds))


@dataclass(frozen=True, slots=True)
class BufferView:
    """A region of a named buffer, as copies, fills and host calls name it."""

    buffer: str
    region: Region = WHOLE

    def __str__(self) -> str:
        return f"%{self.buffer}{self.region}"

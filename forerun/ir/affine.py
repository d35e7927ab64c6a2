"""Affine integer expressions: the bounds of regions, in terms of scalar parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Affine", "AffineLike", "affine"]

AffineLike: TypeAlias = "Affine | int | str"


@dataclass(frozen=True, slots=True)
class Affine:
    """``constant + sum(coefficient * symbol)`` over the integers.

    Attributes:
        constant: The part without a symbol.
        terms: ``(symbol, coefficient)`` pairs, sorted by symbol, no coefficient zero. Use :func:`affine`, ``+``,
            ``-`` and ``*`` rather than writing terms by hand.

    Example:
        >>> position = affine("pos")
        >>> str(4 * position + 8)
        '4*pos + 8'
        >>> (position + 1 - position).constant
        1
    """

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether no symbol occurs."""
        return not self.terms

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that occur, sorted."""
        return tuple(symbol for symbol, _ in self.terms)

    def __add__(self, other: AffineLike) -> Affine:
        other = affine(other)
        if not other.terms:
            return Affine(self.constant + other.constant, self.terms)
        if not self.terms:
            return Affine(self.constant + other.constant, other.terms)
        sums = dict(self.terms)
        for symbol, coefficient in other.terms:
            sums[symbol] = sums.get(symbol, 0) + coefficient
        terms = tuple(sorted((s, c) for s, c in sums.items() if c))
        return Affine(self.constant + other.constant, terms)

    __radd__ = __add__

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: AffineLike) -> Affine:
        return self + affine(other) * -1

    def __rsub__(self, other: AffineLike) -> Affine:
        return affine(other) - self

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(self.constant * factor, tuple((s, c * factor) for s, c in self.terms))

    __rmul__ = __mul__

    def substitute(self, values: Mapping[str, AffineLike]) -> Affine:
        """Replace every symbol that ``values`` names; the others stay."""
        if not self.terms:
            return self
        result = Affine(self.constant)
        for symbol, coefficient in self.terms:
            result = result + affine(values.get(symbol, symbol)) * coefficient
        return result

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The integer value.

        Raises:
            KeyError: If a symbol has no value.
        """
        return self.constant + sum(coefficient * values[symbol] for symbol, coefficient in self.terms)

    def bounds(self, ranges: Mapping[str, tuple[int, int]]) -> tuple[int | None, int | None]:
        """The least and greatest value when each symbol lies in its inclusive range; ``None`` is unbounded."""
        low = high = self.constant
        for symbol, coefficient in self.terms:
            if symbol not in ranges:
                return None, None
            least, greatest = sorted(coefficient * end for end in ranges[symbol])
            low, high = low + least, high + greatest
        return low, high

    def __str__(self) -> str:
        parts = [(c, symbol if abs(c) == 1 else f"{abs(c)}*{symbol}") for symbol, c in self.terms]
        if self.constant or not parts:
            parts.append((self.constant, str(abs(self.constant))))
        (sign, first), *rest = parts
        return ("-" if sign < 0 else "") + first + "".join(f" {'-' if c < 0 else '+'} {text}" for c, text in rest)


def affine(value: AffineLike) -> Affine:
    """An :class:`Affine` from an integer, a symbol, or an :class:`Affine`."""
    if isinstance(value, Affine):
        return value
    if isinstance(value, str):
        return Affine(0, ((value, 1),))
    return Affine(int(value))

"""Elements of buffers that ascend, such as index pointers: which of two ends that depend on them comes first.

An end is a constant plus elements with coefficients. If no element is below the one before it, the difference of two
ends is never negative where, for each buffer, the coefficients of its elements sum to 0 and, from any element to the
last one, to no less than 0 (Abel's summation by parts: the difference is the sum of these sums, each times the
distance of an element from the one before it). Where the constants are equal that is not only enough, but needed, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate

__all__ = ["ASCENDING", "ascending_element", "ascends", "not_above"]

ASCENDING = "@ascending"
"""What the names of such elements end with; see :func:`forerun.ir.semantics.binding.symbol_values`."""

_Terms = tuple[tuple[str, int], ...]


@lru_cache(maxsize=1 << 12)
def ascending_element(symbol: str) -> tuple[str, int] | None:
    """The buffer and the index of an element of a buffer that ascends; ``None`` for any other symbol.

    Example:
        >>> ascending_element("%pointers[4]@ascending"), ascending_element("%pos[0]")
        (('pointers', 4), None)
    """
    if not symbol.endswith(ASCENDING):
        return None
    buffer, _, index = symbol.removesuffix(ASCENDING).removeprefix("%").rpartition("[")
    return buffer, int(index.removesuffix("]"))


def not_above(low: int, low_terms: _Terms, high: int, high_terms: _Terms) -> bool:
    """Whether the first end is known not to exceed the second one, whatever the elements are.

    Example:
        >>> first, second = (("%p[1]@ascending", 8),), (("%p[3]@ascending", 8),)
        >>> not_above(0, first, 0, second), not_above(0, second, 0, first), not_above(1, first, 0, second)
        (True, False, False)
    """
    return low <= high and (low_terms == high_terms or _rises(low_terms, high_terms))


def ascends(values: Mapping[str, int]) -> bool:
    """Whether values of symbols are ones that they can have together."""
    found: dict[str, list[tuple[int, int]]] = {}
    for symbol, value in values.items():
        element = ascending_element(symbol)
        if element is not None:
            found.setdefault(element[0], []).append((element[1], value))
    return all(_in_order(value for _, value in sorted(pairs)) for pairs in found.values())


def _in_order(values: Iterable[int]) -> bool:
    known = list(values)
    return known == sorted(known)


@lru_cache(maxsize=1 << 12)
def _rises(low_terms: _Terms, high_terms: _Terms) -> bool:
    """Whether the symbolic part of the first end never exceeds that of the second one."""
    difference = dict(high_terms)
    for symbol, coefficient in low_terms:
        difference[symbol] = difference.get(symbol, 0) - coefficient
    by_buffer: dict[str, dict[int, int]] = {}
    for symbol, coefficient in difference.items():
        element = ascending_element(symbol)
        if element is not None:
            by_buffer.setdefault(element[0], {})[element[1]] = coefficient
        elif coefficient:
            return False
    for coefficients in by_buffer.values():
        sums = list(accumulate(coefficient for _, coefficient in sorted(coefficients.items(), reverse=True)))
        if min(sums) < 0 or sums[-1] != 0:
            return False
    return True

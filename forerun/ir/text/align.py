"""Alignment of two sequences of names, most of which occur once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise

__all__ = ["anchors"]


def anchors(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of positions of the same item, both increasing, as many as there can be.

    Items that occur several times are told apart by their count from the start. Patience sorting; O(n log n).

    Example:
        >>> anchors("abcd", "acxbd")
        [(0, 0), (2, 1), (3, 4)]
    """
    place = {item: position for position, item in enumerate(_numbered(after))}
    pairs = [(i, place[item]) for i, item in enumerate(_numbered(before)) if item in place]
    return pairs if all(j < m for (_, j), (_, m) in pairwise(pairs)) else _longest_increasing(pairs)


def _numbered(items: Iterable[Hashable]) -> Iterator[Hashable]:
    """The items; those that came before with a count."""
    seen: dict[Hashable, int] = {}
    for item in items:
        count = seen[item] = seen.get(item, -1) + 1
        yield (item, count) if count else item


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest sub-list whose second numbers increase."""
    tails: list[int] = []  # the least second number that ends an increasing list of each length
    ends: list[int] = []  # the pair that it belongs to
    previous: list[int] = []
    for number, (_, position) in enumerate(pairs):
        length = bisect_left(tails, position)
        previous.append(ends[length - 1] if length else -1)
        if length == len(tails):
            tails.append(position)
            ends.append(number)
        else:
            tails[length], ends[length] = position, number
    chain = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chain.append(pairs[number])
        number = previous[number]
    return chain[::-1]

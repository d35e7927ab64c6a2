"""Strided sets of integers by arithmetic: whether two meet, and whether one contains another, however many runs.

A set is a sum of levels: ``start + i * stride`` with ``0 <= i < count`` for each level, and a run of consecutive
integers at each of these places. Two sets meet if a sum of bounded multiples of their strides lies in an interval. That
is decided by dividing by common factors, by taking steps that are no longer than the interval together, by a floor sum
for two strides, and by trying the values of the largest stride for more. Levels of nested strides, as the regions of
one buffer have, take a few steps each; in general the question is a knapsack, so the effort is bounded, and the answer
may be "not known".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import gcd
from typing import TypeAlias

__all__ = ["UNBOUNDED", "Levels", "contains", "meet"]

Levels: TypeAlias = tuple[tuple[int, int], ...]
"""``(count, stride)``, with positive strides; the order matters to :func:`contains` alone: from the outermost."""

UNBOUNDED = 1 << 80
"""A count that stands for "as many as there may be": far more than bytes, or values of a scalar."""

MAX_STEPS = 1000
"""How many partial sums are looked at before the answer is "not known"."""

MAX_LEVELS = 64
"""With more levels than this nothing is tried."""


def meet(first: Levels, run: int, second: Levels, other_run: int, distance: int) -> bool | None:
    """Whether two sets have an integer in common; ``None`` if that would take too long to find out.

    The first starts at 0, the other one at ``distance``; their runs are at least 1 long.
    """
    if not first and not second:
        return -other_run < distance < run
    return None if len(first) + len(second) > MAX_LEVELS else _meet(first, run, second, other_run, distance)


@lru_cache(maxsize=1 << 14)
def _meet(first: Levels, run: int, second: Levels, other_run: int, distance: int) -> bool | None:
    # A sum of the first minus a sum of the second lies in (distance - run, distance + other_run). Counting the second
    # one's multiples down from their highest makes all terms of the sum positive.
    highest = sum((count - 1) * stride for count, stride in second)
    low, high = distance - run + 1 + highest, distance + other_run - 1 + highest
    return _Search().reaches((*first, *second), low, high)


class _Search:
    """Whether a sum of bounded multiples lies in an interval, in a bounded number of steps."""

    def __init__(self) -> None:
        self._steps = 0
        self._known: dict[tuple[Levels, int, int], bool | None] = {}

    def reaches(self, levels: Levels, low: int, high: int) -> bool | None:
        """Whether ``low <= sum(v * stride) <= high`` for some ``0 <= v < count`` of each level."""
        reduced = _reduced(levels, low, high)
        if isinstance(reduced, bool):
            return reduced
        if reduced not in self._known:
            self._steps += 1
            if self._steps > MAX_STEPS:
                return None
            self._known[reduced] = None
            self._known[reduced] = self._try(*reduced)
        return self._known[reduced]

    def _try(self, levels: Levels, low: int, high: int) -> bool | None:
        (count, stride), *others = levels
        rest = tuple(others)
        reach = sum((n - 1) * s for n, s in rest)
        least, most = max(0, -((reach - low) // stride)), min(count - 1, high // stride)
        divisor = gcd(*(s for _, s in rest))
        matches = _Matches(stride, divisor, low, high)
        if len(rest) == 1:
            # The interval is shorter than either stride, so a multiple of the other stride in it is in its range.
            return matches.count(least, most + 1) > 0
        found: bool | None = False
        for value in matches.between(least, most + 1):
            result = self.reaches(rest, low - value * stride, high - value * stride)
            if result:
                return True
            if result is None:
                found = None
                if self._steps > MAX_STEPS:
                    break
        return found


def _reduced(levels: Levels, low: int, high: int) -> bool | tuple[Levels, int, int]:
    """The answer, or an equal question, whose strides descend, exceed the interval and have no common divisor."""
    counts: dict[int, int] = {}
    for count, stride in levels:
        if count > 1:
            counts[stride] = counts.get(stride, 1) + count - 1
    strides = sorted(counts, reverse=True)
    scale = 1
    while True:
        if low > high or high < 0 or low > sum((counts[s * scale] - 1) * s for s in strides):
            return False
        while strides and strides[-1] <= high - low + 1:
            stride = strides.pop()
            low -= (counts[stride * scale] - 1) * stride
        if not strides:
            return low <= 0 <= high
        divisor = gcd(*strides)
        if divisor == 1:
            return tuple((counts[s * scale], s) for s in strides), low, high
        scale *= divisor
        strides = [s // divisor for s in strides]
        low, high = -(-low // divisor), high // divisor


class _Matches:
    """The values for which ``[low - value * stride, high - value * stride]`` has a multiple of a divisor."""

    def __init__(self, stride: int, divisor: int, low: int, high: int) -> None:
        self._stride, self._divisor, self._high = stride % divisor, divisor, high
        self._length = high - low + 1

    def count(self, first: int, last: int) -> int:
        """How many of ``first <= value < last`` match."""
        if first >= last:
            return 0
        if self._length >= self._divisor:
            return last - first
        # Counted down from the last, the numbers high - value * stride ascend.
        at, n = self._high - (last - 1) * self._stride, last - first
        below = _floor_sum(n, self._divisor, self._stride, at - self._length)
        return _floor_sum(n, self._divisor, self._stride, at) - below

    def between(self, first: int, last: int) -> Iterator[int]:
        """Those of ``first <= value < last`` that match: from the middle up, then the others."""
        middle = (first + last) // 2
        for start, stop in ((middle, last), (first, middle)):
            while (value := self._next(start, stop)) is not None:
                yield value
                start = value + 1

    def _next(self, first: int, last: int) -> int | None:
        """The first that matches, by bisection over how many do."""
        if not self.count(first, last):
            return None
        step = 1
        while not self.count(first, min(first + step, last)):
            step *= 2
        low, high = first + step // 2, min(first + step, last)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.count(low, middle) else (middle, high)
        return low


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """The sum of ``(a * i + b) // m`` for ``0 <= i < n``, in as many steps as Euclid's algorithm for a and m.

    As in the AtCoder Library's ``floor_sum`` (https://github.com/atcoder/ac-library), where it is derived.
    """
    total = 0
    while n > 0:
        total += (n - 1) * n // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        end = a * n + b
        if end < m:
            break
        n, b = divmod(end, m)
        m, a = a, m
    return total


# One set in another


def contains(levels: Levels, run: int, inner: Levels, inner_run: int, distance: int) -> bool:
    """Whether a set is known to contain another; false if it does not, or if that would take too long to find out.

    The set starts at 0, the inner one at ``distance``; levels are from the outermost, and runs at least 1 long.
    """
    if len(levels) + len(inner) > MAX_LEVELS:
        return False
    plain, length = _joined(levels, run)
    return _Containment().holds(plain, length, *_joined(inner, inner_run), distance)


def _joined(levels: Levels, run: int) -> tuple[Levels, int]:
    """The same set with descending strides, and runs that touch as one; levels of one element are left out."""
    found: list[tuple[int, int]] = []
    for count, stride in sorted((level for level in levels if level[0] > 1), key=lambda level: level[1]):
        if not found and stride <= run:
            run += (count - 1) * stride
        elif found and stride == found[-1][0] * found[-1][1]:
            found[-1] = found[-1][0] * count, found[-1][1]
        else:
            found.append((count, stride))
    return tuple(reversed(found)), run


def _length(levels: Iterable[tuple[int, int]], run: int) -> int:
    return sum((count - 1) * stride for count, stride in levels) + run


class _Containment:
    def __init__(self) -> None:
        self._steps = 0

    def holds(self, outer: Levels, run: int, inner: Levels, inner_run: int, start: int) -> bool:
        """Whether the outer set, at 0, is seen to contain the inner one."""
        self._steps += 1
        stop = start + _length(inner, inner_run)
        if start < 0 or stop > _length(outer, run) or self._steps > MAX_STEPS:
            return False
        if not outer:
            return True
        (_, stride), *others = outer
        rest = tuple(others)
        if _length(rest, run) > stride:
            return (outer, run, start) == (inner, inner_run, 0)  # parts of it overlap: it is not looked into
        first = start // stride
        if (stop - 1) // stride == first:
            return self.holds(rest, run, inner, inner_run, start - first * stride)
        if not inner:
            return False
        # The outer set repeats with its stride; so only as many parts of the inner one have to be looked at as lie
        # differently in that. None of them leaves the outer one's ends.
        (count, step), *parts = inner
        period = stride // gcd(stride, step)
        return all(self.holds(outer, run, tuple(parts), inner_run, start + i * step) for i in range(min(count, period)))

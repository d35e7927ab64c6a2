"""Unified diffs of graphs. Lines are matched by the element that they declare, so large graphs take no longer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise

from forerun.ir.graph import Graph
from forerun.ir.text.printer import Line, graph_lines
from forerun.ir.text.spelling import quote
from forerun.support.collection import collection_paused

__all__ = ["anchors", "diff_graphs"]

_Step = tuple[str, Line]
_OWNERS = ("node", "kernel", "buffer", "allocation", "graph")


def diff_graphs(before: Graph, after: Graph, *, labels: tuple[str, str] = ("before", "after"), context: int = 2) -> str:
    """A unified diff of the text forms of two graphs; empty if the texts are equal.

    Lines end with a line feed. Each hunk is headed by the element that its first change is in.

    Args:
        before: The old graph.
        after: The new graph.
        labels: What the header calls them.
        context: How many unchanged lines to show around changes.

    Example:
        >>> from forerun.ir.nodes import EmptyNode
        >>> one, two = EmptyNode("one"), EmptyNode("two")
        >>> print(diff_graphs(Graph("g", nodes=[one]), Graph("g", nodes=[one, two]), context=1), end="")
        --- before
        +++ after
        @@ -4 +4,2 @@ node two
         node #one = empty
        +node #two = empty
    """
    if before is after:
        return ""
    with collection_paused():
        old, new = list(graph_lines(before)), list(graph_lines(after))
        if old == new:
            return ""
        return "".join([f"--- {labels[0]}\n+++ {labels[1]}\n", *_hunks(_steps(old, new), context)])


def _steps(before: list[Line], after: list[Line]) -> list[_Step]:
    """The lines of both, in order, with ``-``, ``+`` or a space before each."""
    steps: list[_Step] = []
    i = j = 0
    keys = [[(kind, name) for kind, name, _ in lines] for lines in (before, after)]
    for next_i, next_j in [*anchors(*keys), (len(before), len(after))]:
        steps += [("-", line) for line in before[i:next_i]]
        steps += [("+", line) for line in after[j:next_j]]
        if next_i < len(before):
            old, new = before[next_i], after[next_j]
            steps += [(" ", new)] if old[2] == new[2] else [("-", old), ("+", new)]
        i, j = next_i + 1, next_j + 1
    return steps


def _hunks(steps: list[_Step], context: int) -> Iterator[str]:
    """The changes with the lines around them; those that are close together share a hunk."""
    old = new = 1
    done = 0
    for start, stop in _ranges(steps, context):
        old += sum(sign != "+" for sign, _ in steps[done:start])
        new += sum(sign != "-" for sign, _ in steps[done:start])
        body = steps[start:stop]
        removed = sum(sign != "+" for sign, _ in body)
        added = sum(sign != "-" for sign, _ in body)
        head = f"@@ -{_range(old, removed)} +{_range(new, added)} @@{_owner(steps, start, stop)}\n"
        yield head + "".join([f"{sign}{line[2]}\n" for sign, line in body])
        old, new, done = old + removed, new + added, stop


def _ranges(steps: list[_Step], context: int) -> Iterator[tuple[int, int]]:
    start = stop = -1
    for number, (sign, _) in enumerate(steps):
        if sign == " ":
            continue
        if stop < 0:
            start = max(number - context, 0)
        elif number - context > stop:
            yield start, stop
            start = number - context
        stop = min(number + context + 1, len(steps))
    yield start, stop


def _range(first: int, count: int) -> str:
    """As ``diff -u`` writes it: an empty range is named by the line before it."""
    return str(first) if count == 1 else f"{first if count else first - 1},{count}"


def _owner(steps: list[_Step], start: int, stop: int) -> str:
    """The element that the first change is in: its line is that one or the closest above."""
    changes = [number for number in range(start, stop) if steps[number][0] != " "]
    change = next((number for number in changes if steps[number][1][0] != "blank"), changes[0])
    kind, name, _ = next(steps[number][1] for number in range(change, -1, -1) if steps[number][1][0] in _OWNERS)
    return f" {kind} {name if name.isprintable() else quote(name)}".rstrip()


# Alignment of two sequences of names, most of which occur once


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

"""Layered layout of one card: ranks from the edges, few crossings, straight lines.

The steps of Sugiyama, Tagawa and Toda (1981): longest-path ranks, a dummy for every rank that an edge passes, ordering
by barycenters, and positions by isotonic regression. Wires that come from the card above enter at ports on the top
border, wires to the card below leave at ports on the bottom border; port positions depend on their number alone, so
that neighbouring cards meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["NODE_HEIGHT", "NODE_WIDTH", "Layout", "Point", "lay_out", "port_positions"]

NODE_WIDTH = 132.0
NODE_HEIGHT = 32.0
RANK_HEIGHT = 56.0
PORT_HEIGHT = 24.0
GAP = 14.0
PORT_GAP = 26.0
PORTS_WIDTH = 640.0
SWEEPS = 8

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are. The origin is the middle of the top border; y grows downwards.

    Attributes:
        centers: Middle of each node.
        routes: For each edge the points that it passes, from the source's lower border to the target's upper border.
        from_top: The same for each ``(wire, target)``, from the top border.
        to_bottom: The same for each wire to the bottom, from its source.
        left: Everything lies right of it.
        right: Everything lies left of it.
        height: The lower border.
    """

    centers: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]
    from_top: tuple[tuple[Point, ...], ...]
    to_bottom: tuple[tuple[Point, ...], ...]
    left: float
    right: float
    height: float


@dataclass(slots=True)
class _Item:
    """A node, a port, or a dummy: what takes room in a rank."""

    rank: int
    width: float
    fixed: bool = False
    x: float = 0.0


def port_positions(count: int) -> list[float]:
    """The x of each of ``count`` ports, around the middle."""
    gap = min(PORT_GAP, PORTS_WIDTH / max(count, 1))
    return [(i - (count - 1) / 2) * gap for i in range(count)]


def lay_out(
    count: int, edges: Sequence[tuple[int, int]], tops: Sequence[Sequence[int]] = (), bottoms: Sequence[int] = ()
) -> Layout:
    """Lay out ``count`` nodes.

    Args:
        count: Nodes are ``0 .. count - 1``, in a topological order of ``edges``.
        edges: ``(source, target)``, ``source < target``.
        tops: For each wire at the top border, its targets.
        bottoms: For each wire at the bottom border, its source.
    """
    ranks = _ranks(count, edges)
    last = max(ranks, default=0) + 1
    items = [_Item(rank, NODE_WIDTH) for rank in ranks]
    top_ports = _add_ports(items, 0, len(tops))
    bottom_ports = _add_ports(items, last, len(bottoms))
    links = [
        *((source, target) for source, target in edges),
        *((port, target) for port, targets in zip(top_ports, tops, strict=True) for target in targets),
        *((source, port) for source, port in zip(bottoms, bottom_ports, strict=True)),
    ]
    chains = [_chain(items, source, target) for source, target in links]
    above, below = _neighbours(len(items), chains)
    rows = _ordered_rows(items, above, below, last)
    _place(items, rows, above, below)
    return _finished(items, chains, count, len(edges), len(bottoms), top_height=PORT_HEIGHT if tops else GAP)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest path from a source, from 1; nodes without a source move down to just above their first target."""
    ranks = [1] * count
    has_source = [False] * count
    for source, target in sorted(edges):
        ranks[target] = max(ranks[target], ranks[source] + 1)
        has_source[target] = True
    first_use: dict[int, int] = {}
    for source, target in edges:
        first_use[source] = min(first_use.get(source, ranks[target]), ranks[target])
    return [r if has_source[v] else first_use.get(v, r + 1) - 1 for v, r in enumerate(ranks)]


def _add_ports(items: list[_Item], rank: int, count: int) -> range:
    begin = len(items)
    items += [_Item(rank, PORT_GAP - GAP, fixed=True, x=x) for x in port_positions(count)]
    return range(begin, begin + count)


def _chain(items: list[_Item], source: int, target: int) -> list[int]:
    """The items that a link runs through; adds the dummies."""
    dummies = range(items[source].rank + 1, items[target].rank)
    begin = len(items)
    items += [_Item(rank, 8.0) for rank in dummies]
    return [source, *range(begin, begin + len(dummies)), target]


def _neighbours(count: int, chains: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for chain in chains:
        for upper, lower in pairwise(chain):
            below[upper].append(lower)
            above[lower].append(upper)
    return above, below


def _ordered_rows(
    items: Sequence[_Item], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]], last: int
) -> list[list[int]]:
    """The items of each rank from left to right: the best order that sweeps by barycenters come by."""
    rows: list[list[int]] = [[] for _ in range(last + 1)]
    for number, item in enumerate(items):
        rows[item.rank].append(number)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        _sweep(items, rows, above if downwards else below, downwards)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _sweep(items: Sequence[_Item], rows: list[list[int]], neighbours: Sequence[Sequence[int]], downwards: bool) -> None:
    place = {number: i for row in rows for i, number in enumerate(row)}
    for row in rows if downwards else reversed(rows):
        if row and not items[row[0]].fixed:
            keys = {n: _mean([place[m] for m in neighbours[n]], place[n]) for n in row}
            row.sort(key=keys.__getitem__)
            place.update((number, i) for i, number in enumerate(row))


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(rows: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {number: i for i, number in enumerate(lower)}
        ends = [end for number in upper for end in sorted(place[m] for m in below[number])]
        total += sum(earlier > later for i, later in enumerate(ends) for earlier in ends[:i])
    return total


def _place(
    items: Sequence[_Item], rows: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]
) -> None:
    """Give each item its x: near its neighbours, in the order of the row, with room between."""
    for row in rows:
        _spread(items, row, [0.0] * len(row), [1.0] * len(row))
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            sides = [(above if downwards else below)[n] or (below if downwards else above)[n] for n in row]
            wanted = [_mean([items[m].x for m in side], items[n].x) for n, side in zip(row, sides, strict=True)]
            weights = [1.0 if items[n].width == NODE_WIDTH else 4.0 for n in row]
            _spread(items, row, wanted, weights)


def _spread(items: Sequence[_Item], row: Sequence[int], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """The least-squares positions that keep the order and the gaps (pool adjacent violators)."""
    if not row or items[row[0]].fixed:
        return
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (items[left].width + items[right].width) / 2 + GAP)
    blocks: list[tuple[float, float, int]] = []
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, total, size = want - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, weight_before, size_before = blocks.pop()
            mean = (mean * total + before * weight_before) / (total + weight_before)
            total, size = total + weight_before, size + size_before
        blocks.append((mean, total, size))
    level = [mean for mean, _, size in blocks for _ in range(size)]
    for number, offset, mean in zip(row, offsets, level, strict=True):
        items[number].x = mean + offset


def _finished(
    items: Sequence[_Item], chains: Sequence[Sequence[int]], count: int, edges: int, bottoms: int, top_height: float
) -> Layout:
    lowest = max((item.rank for item in items[:count]), default=0)
    height = top_height + lowest * RANK_HEIGHT - (RANK_HEIGHT - NODE_HEIGHT) + (PORT_HEIGHT if bottoms else GAP)

    def middle(number: int) -> Point:
        item = items[number]
        return item.x, top_height + (item.rank - 1) * RANK_HEIGHT + NODE_HEIGHT / 2

    def route(chain: Sequence[int]) -> tuple[Point, ...]:
        points: list[Point] = []
        for number in chain:
            x, y = middle(number)
            if items[number].fixed:
                points.append((x, 0.0 if items[number].rank == 0 else height))
            else:
                points += [(x, y - NODE_HEIGHT / 2), (x, y + NODE_HEIGHT / 2)]
        begin = 0 if items[chain[0]].fixed else 1
        return tuple(points[begin:] if items[chain[-1]].fixed else points[begin:-1])

    routes = [route(chain) for chain in chains]
    split = len(routes) - bottoms
    return Layout(
        centers=tuple(middle(n) for n in range(count)),
        routes=tuple(routes[:edges]),
        from_top=tuple(routes[edges:split]),
        to_bottom=tuple(routes[split:]),
        left=min((item.x - item.width / 2 for item in items), default=0.0) - GAP,
        right=max((item.x + item.width / 2 for item in items), default=0.0) + GAP,
        height=height,
    )

"""Folding: cut a long launch order into segments, so that repeated layers are drawn once.

Names differ from layer to layer by a number (``blk.0.attn_q``, ``blk.1.attn_q``), so with digits masked a layered model
is a sequence with long periodic stretches. Each period of such a stretch becomes a segment of its own.
"""

from __future__ import annotations

import os.path
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Segment", "fold", "mask"]

UNFOLDED = 24
"""The most nodes of a graph that is drawn in one piece."""
LONGEST_UNIT = 64
"""The most nodes in one repeated unit; longer periods would not fit on a screen."""
SHORTEST_UNIT = 6
"""Shorter periods are taken several times, to give units of at least that many nodes, unless each names a layer."""
CHUNK = 40
"""Stretches without repeats are cut into pieces of at most that many nodes."""

_DIGITS = re.compile(r"\d+")
_PREFIX = re.compile(r"^.*\d[^A-Za-z0-9]*[./:_-]")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the launch order that is drawn as one card.

    Attributes:
        title: What to call it: the layer's name, or its first and last node.
        nodes: The node names, in launch order.
        prefix: What all names begin with, and labels inside the card may leave out.
        run: Which stretch of repeated units it belongs to; ``None`` for a piece that is not repeated.
    """

    title: str
    nodes: tuple[str, ...]
    prefix: str = ""
    run: int | None = None

    def label(self, node: str) -> str:
        """The node's name without what the title says already."""
        return node.removeprefix(self.prefix)


@dataclass(frozen=True, slots=True)
class _Run:
    """``count`` units of ``period`` nodes each, from index ``start``."""

    start: int
    period: int
    count: int

    @property
    def stop(self) -> int:
        return self.start + self.period * self.count

    @property
    def saved(self) -> int:
        return self.period * (self.count - 1)


def mask(name: str) -> str:
    """The name with each number replaced by ``#``.

    Example:
        >>> mask("blk.12.attn_q")
        'blk.#.attn_q'
    """
    return _DIGITS.sub("#", name)


def fold(names: Sequence[str]) -> list[Segment]:
    """Cut node names in launch order into segments; together they are all names, in order.

    Example:
        >>> names = ["embed", *(f"blk.{i}.{n}" for i in range(30) for n in "abcdef"), "argmax"]
        >>> [s.title for s in fold(names)][:3]
        ['embed', 'blk.0', 'blk.1']
    """
    if len(names) <= UNFOLDED:
        return [_piece(names)] if names else []
    segments: list[Segment] = []
    done = 0
    for number, run in enumerate(_select(_find_runs(names))):
        segments += _pieces(names[done : run.start])
        for unit in range(run.count):
            start = run.start + unit * run.period
            segments.append(_unit(names[start : start + run.period], number, unit))
        done = run.stop
    return segments + _pieces(names[done:])


def _pieces(names: Sequence[str]) -> list[Segment]:
    return [_piece(names[start : start + CHUNK]) for start in range(0, len(names), CHUNK)]


def _piece(names: Sequence[str]) -> Segment:
    return Segment(names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}", tuple(names))


def _unit(names: Sequence[str], run: int, number: int) -> Segment:
    prefix = _common_prefix(names)
    title = prefix.rstrip("./:_-") if prefix else f"repeat {number + 1}: {names[0]} … {names[-1]}"
    return Segment(title, tuple(names), prefix, run)


def _common_prefix(names: Sequence[str]) -> str:
    """The longest common beginning that contains a number and ends at a separator."""
    found = _PREFIX.match(os.path.commonprefix(list(names)))  # noqa: RUF071 - characters are meant
    return found.group() if found else ""


def _find_runs(names: Sequence[str]) -> list[_Run]:
    """All periodic stretches of the masked names, over the likely periods; short units must be layers."""
    numbers: dict[str, int] = {}
    labels = [numbers.setdefault(mask(name), len(numbers)) for name in names]
    runs = (
        _aligned(names, start, stop, period)
        for period in _likely_periods(labels)
        for start, stop in _periodic_stretches(labels, period)
    )
    return [run for run in runs if run.period >= SHORTEST_UNIT or _has_layers(names, run)]


def _has_layers(names: Sequence[str], run: _Run) -> bool:
    """Whether each unit has a name of its own, such as ``blk.7``."""
    found = {_common_prefix(names[start : start + run.period]) for start in range(run.start, run.stop, run.period)}
    return len(found - {""}) == run.count


def _likely_periods(labels: Sequence[int], limit: int = 16) -> list[int]:
    """The commonest distances between a label and its next few occurrences, and multiples of the short ones."""
    places: dict[int, list[int]] = defaultdict(list)
    distances: Counter[int] = Counter()
    for place, label in enumerate(labels):
        for earlier in places[label][-4:]:
            distance = place - earlier
            times = -(-SHORTEST_UNIT // distance)
            if distance * times <= LONGEST_UNIT:
                distances.update({distance, distance * times} - {1})
        places[label].append(place)
    return [period for period, _ in distances.most_common(limit)]


def _periodic_stretches(labels: Sequence[int], period: int) -> list[tuple[int, int]]:
    """Maximal ``(start, stop)`` in which every label equals the one a period later; at least two periods long."""
    found = []
    start = 0
    for place in range(len(labels) - period + 1):
        if place < len(labels) - period and labels[place] == labels[place + period]:
            continue
        if place - start >= period:
            found.append((start, place + period))
        start = place + 1
    return found


def _aligned(names: Sequence[str], start: int, stop: int, period: int) -> _Run:
    """Units of the stretch, begun where most of them have a common prefix (so that a unit is a layer)."""

    def units(offset: int) -> range:
        return range(start + offset, stop - period + 1, period)

    def quality(offset: int) -> tuple[int, int, int]:
        named = sum(bool(_common_prefix(names[unit : unit + period])) for unit in units(offset))
        return named, len(units(offset)), -offset

    best = max(range(min(period, stop - start - 2 * period + 1)), key=quality)
    return _Run(start + best, period, len(units(best)))


def _select(runs: list[_Run]) -> list[_Run]:
    """The runs that save most and do not overlap, by place."""
    chosen: list[_Run] = []
    for run in sorted(runs, key=lambda r: (-r.saved, r.period)):
        if run.count >= 2 and all(run.stop <= other.start or other.stop <= run.start for other in chosen):
            chosen.append(run)
    return sorted(chosen, key=lambda r: r.start)

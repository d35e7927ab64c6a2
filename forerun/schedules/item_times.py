"""When the items of a schedule ran, and where: what a persistent kernel has recorded of one replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.schedules.schedule import Item, Schedule
from forerun.schedules.tasks import Integers
from forerun.support.diagnostics import InvalidInput

__all__ = ["RECORD_WORDS", "ItemTimes", "item_times"]

RECORD_WORDS = 4
"""Words of a record: when an item began and ended, in nanoseconds; the SM; the CTA."""


@dataclass(frozen=True, eq=False)
class ItemTimes:
    """The times of one replay. An item begins when its CTA turns to it, and ends when its results are written.

    Attributes:
        items: The items, in the order of the schedule.
        begin: When each began, in nanoseconds since the first one did ``[N]``.
        end: When each ended ``[N]``.
        sm: Where ``[N]``.
        cta: In which CTA of the grid ``[N]``.
        line: From which work list of that CTA ``[N]``; items of two lists run at the same time.
        ctas: CTAs of the grid; those without items count as idle.
    """

    items: list[Item]
    begin: Integers
    end: Integers
    sm: Integers
    cta: Integers
    line: Integers
    ctas: int

    @property
    def busy(self) -> Integers:
        """Nanoseconds in which each CTA had an item ``[CTAs]``; a time in which it had two counts once."""
        order = np.lexsort((self.begin, self.cta))
        cta = self.cta[order]
        apart = cta * (self.span + 1)  # so that a later CTA begins after all ends of those before it
        begin, end = self.begin[order] + apart, self.end[order] + apart
        before = np.concatenate(([0], np.maximum.accumulate(end)[:-1])) if len(end) else end
        return np.bincount(cta, np.maximum(0, end - np.maximum(begin, before)), self.ctas).astype(np.int64)

    @property
    def span(self) -> int:
        """Nanoseconds from the first beginning to the last end."""
        return int(self.end.max(initial=0))

    @property
    def balance(self) -> float:
        """The busy time of the busiest CTA over the mean of all; 1 is perfect, and is returned if none was busy."""
        busy = self.busy
        return float(busy.max() / busy.mean()) if busy.any() else 1.0

    @property
    def idle_share(self) -> float:
        """Which part of their time CTAs had no item, from the first beginning to the last end."""
        return 1 - float(self.busy.sum()) / (self.ctas * self.span) if self.span else 0.0

    @property
    def between(self) -> Integers:
        """Nanoseconds from the end of each item to the beginning of the next one of its list: the cost of the queue."""
        order = np.lexsort((self.begin, self.line, self.cta))
        lists = np.stack((self.cta, self.line))[:, order]
        same = (lists[:, 1:] == lists[:, :-1]).all(axis=0)
        found: Integers = (self.begin[order][1:] - self.end[order][:-1])[same]
        return found

    def rows(self) -> Iterator[tuple[Item, int, int, int, int]]:
        """Each item with its beginning, end, SM and CTA."""
        arrays = (array.tolist() for array in (self.begin, self.end, self.sm, self.cta))
        return zip(self.items, *arrays, strict=True)

    def summary(self) -> dict[str, float]:
        """Balance, idle share, and the cost of the queue: the median time between items, and its share of the busy."""
        between, busy = self.between, int(self.busy.sum())
        return {
            "items": len(self.items),
            "span (us)": self.span / 1e3,
            "balance": self.balance,
            "idle share": self.idle_share,
            "queue (ns an item)": float(np.median(between)) if len(between) else 0.0,
            "queue share": float(between.sum()) / busy if busy else 0.0,
        }

    def samples(self, block: int) -> dict[int, list[tuple[int, float]]]:
        """Blocks and nanoseconds of each item, by the size of its tile: what fitted_costs makes costs of.

        Args:
            block: Positions of a block.
        """
        found: dict[int, list[tuple[int, float]]] = {}
        for item, time in zip(self.items, self.end - self.begin, strict=True):
            if time > 0:
                found.setdefault(item.size, []).append((-(-(item.end - item.begin) // block), float(time)))
        return found

    def to_json(self) -> dict[str, Any]:
        """The form that the report reads."""
        items = [
            {
                "name": f"owner {item.owner}, lane {item.lane}, tile {item.tile}, {item.begin} to {item.end}",
                "split": item.slot >= 0,
                "begin": begin,
                "end": end,
                "sm": sm,
                "cta": cta,
            }
            for item, begin, end, sm, cta in self.rows()
        ]
        return {"format": "forerun item times 1", "ctas": self.ctas, "summary": self.summary(), "items": items}


def item_times(schedule: Schedule, records: NDArray[np.int64]) -> ItemTimes:
    """The times that a kernel has recorded. Its CTAs have a share of each work list, or one share each.

    Args:
        schedule: What it worked off.
        records: ``[items, 4]``; what is behind the items in use is not looked at.

    Raises:
        InvalidInput: If the shape or the type is another one, or an item has no times, or a CTA out of range.
    """
    count = int(schedule.counts[0])
    shape = np.shape(records)
    is_of_words = len(shape) == 2 and shape[0] >= count and shape[1] == RECORD_WORDS
    if not (isinstance(records, np.ndarray) and is_of_words and records.dtype == np.int64):
        raise InvalidInput(f"item times: {count} items need records of int64 [{count}, {RECORD_WORDS}], not {shape}")
    begin, end, sm, cta = records[:count].T
    shares = np.repeat(np.arange(schedule.capacity.ctas), np.diff(schedule.pointers))[:count]
    ctas = schedule.capacity.ctas // schedule.capacity.lines
    if (cta >= ctas).any():
        ctas = schedule.capacity.ctas
    bad = (begin <= 0) | (end < begin) | (sm < 0) | (cta < 0) | (cta >= ctas)
    if bad.any():
        which = int(np.argmax(bad))
        message = f"item times: item {which} has the record {records[which].tolist()}"
        raise InvalidInput(message, hint="begin, end, SM and CTA; was this the schedule of the last replay?")
    first = begin.min(initial=np.iinfo(np.int64).max) if count else 0
    return ItemTimes(schedule.all_items(), begin - first, end - first, sm, cta, shares // ctas, ctas)

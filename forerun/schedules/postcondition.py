"""What must be true of a schedule, whoever made it: runners are proved from it, and it is checked batch by batch.

Nothing here knows how a schedule is made, so it judges one that was read back from a device as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from forerun.schedules.cuts import CutRule
from forerun.schedules.schedule import Item, Schedule
from forerun.schedules.status import Status
from forerun.schedules.tasks import Key, Tasks
from forerun.support.diagnostics import Refuted

__all__ = ["RULES", "Violation", "assert_postcondition", "first_violation"]

RULES = {
    "S1": "the status is known, and counts lie within the capacity; with an error there is nothing to do",
    "S2": "the pointers of CTAs begin at 0, do not decrease, and end at the number of items",
    "S3": "an item names a task of the batch, and lies within its axis",
    "S4": "the axis of each task is covered once",
    "S5": "an item has a slot and a counter in use if its task is split, and none if it is not",
    "S6": "no two items have the same slot",
    "S7": "a counter belongs to one task, and counts the number of its splits",
    "S8": "the slots of a task follow each other in the order of its axis, from the first one of its counter",
    "S9": "the splits of a request are those that it has alone",
}
"""The rules by id; docs/schedules.md lists them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The first rule that does not hold.

    Attributes:
        rule: Its id in :data:`RULES`.
        message: What was found.
        item: The index of an item that shows it, or -1.
    """

    rule: str
    message: str
    item: int = -1

    def __str__(self) -> str:
        place = f"item {self.item}: " if self.item >= 0 else ""
        return f"{self.rule} ({RULES[self.rule]}): {place}{self.message}"


def first_violation(schedule: Schedule, tasks: Tasks, invariant: CutRule | None = None) -> Violation | None:
    """The first rule that a schedule breaks, or ``None``.

    ``O(items log items)``, and with ``invariant`` as much again for each owner. Only what is in use is read.

    Args:
        schedule: The schedule.
        tasks: The tasks of its batch; they are not read if the status is an error.
        invariant: The rule that cut it, if it is to be batch-invariant (S9);
            :func:`~forerun.schedules.schedule.rule_within` returns it.
    """
    return next(_violations(schedule, tasks, invariant), None)


def assert_postcondition(schedule: Schedule, tasks: Tasks, invariant: CutRule | None = None) -> None:
    """Raise if :func:`first_violation` finds one.

    Raises:
        Refuted: With the rule and what was found.
    """
    found = first_violation(schedule, tasks, invariant)
    if found is not None:
        raise Refuted(f"the schedule does not hold: {found}")


def _violations(schedule: Schedule, tasks: Tasks, invariant: CutRule | None) -> Iterator[Violation]:
    """Violations rule by rule; later rules rely on earlier ones, so only the first one is certain."""
    yield from _counts(schedule)
    yield from _pointers(schedule)
    if schedule.finding.status.is_error:
        return
    items = schedule.all_items()
    lengths = dict(zip(tasks.keys(), zip(tasks.size.tolist(), tasks.length.tolist(), strict=True), strict=True))
    yield from _bounds(items, lengths)
    parts = _parts(items)
    yield from _cover(items, parts, lengths)
    yield from _use(schedule, items, parts)
    yield from _slots(items)
    yield from _counters(schedule, items, parts)
    yield from _order(schedule, items, parts)
    if invariant is not None:
        yield from _alone(schedule, items, parts, tasks, invariant)


def _counts(schedule: Schedule) -> Iterator[Violation]:
    if int(schedule.status[0]) not in list(Status):
        yield Violation("S1", f"{schedule.status[0]} is not a status")
    most = schedule.capacity.items, schedule.capacity.partials, schedule.capacity.counters
    for name, count, capacity in zip(("items", "slots", "counters"), schedule.counts.tolist(), most, strict=True):
        if not 0 <= count <= capacity:
            yield Violation("S1", f"{count} {name}, and room for {capacity}")
        elif count and schedule.finding.status.is_error:
            yield Violation("S1", f"{count} {name} in spite of {schedule.finding.status.name}")


def _pointers(schedule: Schedule) -> Iterator[Violation]:
    pointers, count = schedule.pointers.tolist(), int(schedule.counts[0])
    if len(pointers) != schedule.capacity.ctas + 1 or pointers[0] != 0 or pointers[-1] != count:
        yield Violation("S2", f"{len(pointers) - 1} CTAs take items {pointers[0]} to {pointers[-1]} of {count}")
    for cta, (begin, end) in enumerate(pairwise(pointers)):
        if begin > end:
            yield Violation("S2", f"CTA {cta} takes items {begin} to {end}")


def _bounds(items: list[Item], lengths: dict[Key, tuple[int, int]]) -> Iterator[Violation]:
    for i, item in enumerate(items):
        size, length = lengths.get(item[:3], (-1, -1))
        if item.size != size:
            yield Violation("S3", f"owner, lane, tile and size {item[:4]} are not a task of the batch", i)
        elif not 0 <= item.begin < item.end <= length:
            yield Violation("S3", f"positions {item.begin} to {item.end} of {length}", i)


def _parts(items: list[Item]) -> dict[Key, list[int]]:
    """The items of each task, in the order of its axis."""
    parts: dict[Key, list[int]] = {}
    for i in sorted(range(len(items)), key=lambda i: (items[i].begin, items[i].end)):
        parts.setdefault(items[i][:3], []).append(i)
    return parts


def _cover(items: list[Item], parts: dict[Key, list[int]], lengths: dict[Key, tuple[int, int]]) -> Iterator[Violation]:
    for key, (_, length) in lengths.items():
        covered = 0
        for i in parts.get(key, []):
            if items[i].begin != covered:
                word = "not covered" if items[i].begin > covered else "covered twice"
                bounds = sorted((items[i].begin, covered))
                yield Violation("S4", f"positions {bounds[0]} to {bounds[1]} of task {key} are {word}", i)
            covered = items[i].end
        if covered != length:
            yield Violation("S4", f"positions {covered} to {length} of task {key} are not covered")


def _use(schedule: Schedule, items: list[Item], parts: dict[Key, list[int]]) -> Iterator[Violation]:
    _, slots, counters = schedule.counts.tolist()
    for mine in parts.values():
        for i in mine:
            slot, counter = items[i].slot, items[i].counter
            if len(mine) == 1 and (slot, counter) != (-1, -1):
                yield Violation("S5", f"slot {slot} and counter {counter}, but the task is not split", i)
            elif len(mine) > 1 and not (0 <= slot < slots and 0 <= counter < counters):
                yield Violation("S5", f"slot {slot} of {slots}, counter {counter} of {counters}", i)


def _slots(items: list[Item]) -> Iterator[Violation]:
    seen: dict[int, int] = {}
    for i, item in enumerate(items):
        if item.slot >= 0 and seen.setdefault(item.slot, i) != i:
            yield Violation("S6", f"slot {item.slot} is that of item {seen[item.slot]}", i)


def _counters(schedule: Schedule, items: list[Item], parts: dict[Key, list[int]]) -> Iterator[Violation]:
    seen: dict[int, Key] = {}
    for key, mine in parts.items():
        if len(mine) == 1:
            continue
        for i in mine:
            counter = items[i].counter
            if counter != items[mine[0]].counter:
                yield Violation(
                    "S7", f"counter {counter}, but {items[mine[0]].counter} for other splits of the task", i
                )
            elif seen.setdefault(counter, key) != key:
                yield Violation("S7", f"counter {counter} is that of task {seen[counter]}", i)
            elif schedule.counters[counter, 1] != len(mine):
                counted = schedule.counters[counter, 1]
                yield Violation("S7", f"counter {counter} waits for {counted} splits of {len(mine)}", i)


def _order(schedule: Schedule, items: list[Item], parts: dict[Key, list[int]]) -> Iterator[Violation]:
    for mine in parts.values():
        for part, i in enumerate(mine if len(mine) > 1 else []):
            expected = int(schedule.counters[items[i].counter, 0]) + part
            if items[i].slot != expected:
                yield Violation("S8", f"split {part} has slot {items[i].slot} instead of {expected}", i)


def _alone(
    schedule: Schedule, items: list[Item], parts: dict[Key, list[int]], tasks: Tasks, rule: CutRule
) -> Iterator[Violation]:
    for owner in sorted(set(tasks.owner.tolist())):
        mine = tasks.of_owner(owner)
        pieces, keys = rule.cut(mine, schedule.capacity.ctas), mine.keys()
        begins: dict[Key, list[int]] = {key: [] for key in keys}
        for task, begin in zip(pieces.task.tolist(), (pieces.begin * mine.block[pieces.task]).tolist(), strict=True):
            begins[keys[task]].append(begin)
        for key, expected in begins.items():
            found = [items[i].begin for i in parts[key]]
            if found != expected:
                yield Violation("S9", f"task {key} begins at {found}, and alone at {expected}", parts[key][0])

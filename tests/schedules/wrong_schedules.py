"""Wrong ways to make a schedule, each with the rule of the postcondition that it breaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forerun.schedules.cuts import Chunks
from forerun.schedules.policies import prefix_sums
from tests.schedules.batches import copied

SLOT, COUNTER = 6, 7


def dropping(items, ctas):
    """A policy that takes the first item twice, and the last one never."""
    order, pointers = prefix_sums(items, ctas)
    return np.append(order[:-1], order[0]), pointers


def leaving_out(items, ctas):
    """A policy whose last CTA ends one item too early."""
    order, pointers = prefix_sums(items, ctas)
    return order, np.append(pointers[:-1], pointers[-1] - 1)


def backwards(items, ctas):
    """A policy whose pointers decrease."""
    order, pointers = prefix_sums(items, ctas)
    return order, np.concatenate((pointers[:1], pointers[-2:0:-1], pointers[-1:]))


@dataclass(frozen=True)
class ByTheBatch(Chunks):
    """Cuts by the cost of the whole batch, and says that it does not."""

    is_invariant = True


def split_items(schedule):
    """The items of the first task that is split, in the order of its axis, and one of another if there is one."""
    items = schedule.all_items()
    split = sorted((i for i, item in enumerate(items) if item.slot >= 0), key=lambda i: items[i].slot)
    first = [i for i in split if items[i].counter == items[split[0]].counter]
    return first, next((i for i in split if items[i].counter != items[split[0]].counter), first[0])


def overlapping(schedule):
    (_, second, *_), _ = split_items(schedule)
    schedule.items[second, 4] -= 1


def with_a_gap(schedule):
    (_, second, *_), _ = split_items(schedule)
    schedule.items[second, 4] += 1


def past_the_end(schedule):
    first, _ = split_items(schedule)
    schedule.items[first[-1], 5] += 1


def before_the_start(schedule):
    (first, *_), _ = split_items(schedule)
    schedule.items[first, 4] = -1


def too_short(schedule):
    first, _ = split_items(schedule)
    schedule.items[first[-1], 5] -= 1


def last_item_left_out(schedule):
    schedule.counts[0] -= 1
    schedule.pointers[-1] -= 1


def of_another_tile(schedule):
    schedule.items[0, 2] += 50


def of_another_size(schedule):
    schedule.items[0, 3] = 32


def empty_item(schedule):
    schedule.items[0, 5] = schedule.items[0, 4]


def slot_reused(schedule):
    (first, second, *_), _ = split_items(schedule)
    schedule.items[second, SLOT] = schedule.items[first, SLOT]


def slot_of_another_task(schedule):
    (first, *_), other = split_items(schedule)
    schedule.items[other, SLOT] = schedule.items[first, SLOT]


def slot_behind_the_count(schedule):
    (first, *_), _ = split_items(schedule)
    schedule.items[first, SLOT] = schedule.counts[1]


def no_slot(schedule):
    (first, *_), _ = split_items(schedule)
    schedule.items[first, SLOT] = -1


def slot_without_a_split(schedule):
    whole = next(i for i, item in enumerate(schedule.all_items()) if item.slot < 0)
    schedule.items[whole, SLOT] = 0


def counter_reused(schedule):
    (first, *_), other = split_items(schedule)
    items = schedule.items
    items[items[:, COUNTER] == items[other, COUNTER], COUNTER] = items[first, COUNTER]


def two_counters_of_a_task(schedule):
    (_, second, *_), other = split_items(schedule)
    schedule.items[second, COUNTER] = schedule.items[other, COUNTER]


def counts_one_too_few(schedule):
    schedule.counters[0, 1] -= 1


def counts_one_too_many(schedule):
    schedule.counters[0, 1] += 1


def splits_out_of_order(schedule):
    (first, second, *_), _ = split_items(schedule)
    schedule.items[[first, second], SLOT] = schedule.items[[second, first], SLOT]


def first_slot_of_another(schedule):
    schedule.counters[0, 0] += 1


def more_items_than_room(schedule):
    schedule.counts[0] = schedule.capacity.items + 1


def work_in_spite_of_an_error(schedule):
    schedule.status[0] = 9


POLICIES = {dropping: "S4", leaving_out: "S2", backwards: "S2"}

CHANGES = {
    overlapping: "S4",
    with_a_gap: "S4",
    past_the_end: "S3",
    before_the_start: "S3",
    too_short: "S4",
    last_item_left_out: "S4",
    of_another_tile: "S3",
    of_another_size: "S3",
    empty_item: "S3",
    slot_reused: "S6",
    slot_of_another_task: "S6",
    slot_behind_the_count: "S5",
    no_slot: "S5",
    slot_without_a_split: "S5",
    counter_reused: "S7",
    two_counters_of_a_task: "S7",
    counts_one_too_few: "S7",
    counts_one_too_many: "S7",
    splits_out_of_order: "S8",
    first_slot_of_another: "S8",
    more_items_than_room: "S1",
    work_in_spite_of_an_error: "S1",
}


def changed(schedule, change):
    """A copy with the change."""
    found = copied(schedule)
    change(found)
    return found

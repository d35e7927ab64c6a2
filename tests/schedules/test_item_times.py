"""Times of items, from made-up records."""

from __future__ import annotations

import numpy as np
import pytest

from forerun.schedules.attention import KV_BLOCK, Attention, attention_batch
from forerun.schedules.calibration import fitted_costs
from forerun.schedules.item_times import ItemTimes, item_times
from forerun.schedules.schedule import Schedule, capacity_for, make_schedule
from forerun.support.diagnostics import InvalidInput

FAMILY = Attention(heads=4, kv_heads=2, head_size=8, page_size=16, cache_pages=99)
ORIGIN = 1_700_000_000_000_000_000


def two_ctas() -> Schedule:
    """Two requests of two heads on two CTAs: two items each."""
    capacity = capacity_for(FAMILY, requests=2, rows=2, pages=20, ctas=2)
    schedule = make_schedule(FAMILY, attention_batch(FAMILY, capacity, [1, 1], [128, 128]), capacity)
    assert schedule.pointers.tolist() == [0, 2, 4]
    return schedule


def made_up() -> ItemTimes:
    """CTA 0 is busy for 100 and 300 ns, with 20 between; CTA 1 for 50 and 150 ns, with 40 between."""
    schedule = two_ctas()
    records = np.zeros((len(schedule.items), 4), np.int64)
    records[:4] = [[0, 100, 7, 0], [120, 420, 7, 0], [10, 60, 3, 1], [100, 250, 3, 1]]
    records[:4, :2] += ORIGIN
    return item_times(schedule, records)


def test_the_summary_is_of_all_ctas():
    times = made_up()
    assert times.busy.tolist() == [400, 200]
    assert times.span == 420
    assert times.balance == pytest.approx(400 / 300)
    assert times.idle_share == pytest.approx(1 - 600 / 840)
    assert sorted(times.between.tolist()) == [20, 40]
    assert times.summary()["queue (ns an item)"] == 30
    assert times.summary()["queue share"] == pytest.approx(60 / 600)


def test_a_time_with_an_item_of_each_list_counts_once():
    family = Attention(heads=2, kv_heads=1, head_size=64, page_size=16, cache_pages=99)
    capacity = capacity_for(family, requests=2, rows=300, pages=60, ctas=1)
    schedule = make_schedule(family, attention_batch(family, capacity, [1, 256], [64, 256]), capacity)
    assert (capacity.lines, capacity.ctas) == (2, 2)
    first, count = schedule.pointers[1:].tolist()
    records = np.zeros((len(schedule.items), 4), np.int64)
    records[:first, :2] = [[100 * i + 1, 100 * i + 91] for i in range(first)]
    records[first:count, :2] = [[100 * i + 51, 100 * i + 111] for i in range(count - first)]
    times = item_times(schedule, records)
    assert min(first, count - first) >= 1
    assert max(first, count - first) >= 2
    assert times.ctas == 1
    assert times.line.tolist() == [0] * first + [1] * (count - first)
    covered = {at for begin, end in records[:count, :2].tolist() for at in range(begin, end)}
    assert times.busy.tolist() == [len(covered)]
    assert times.idle_share == pytest.approx(1 - len(covered) / times.span)
    assert set(times.between.tolist()) <= {10, 40}


def test_a_cta_without_items_is_idle():
    capacity = capacity_for(FAMILY, requests=1, rows=1, pages=20, ctas=4)
    schedule = make_schedule(FAMILY, attention_batch(FAMILY, capacity, [1], [64]), capacity)
    records = np.full((len(schedule.items), 4), 5, np.int64)
    records[:2] = [[5, 15, 0, 0], [5, 15, 1, 1]]
    times = item_times(schedule, records)
    assert (times.balance, times.idle_share) == (2.0, 0.5)


def test_nothing_to_do():
    schedule = two_ctas()
    schedule.counts[:] = 0
    times = item_times(schedule, np.zeros((0, 4), np.int64))
    assert times.summary() == {
        "items": 0,
        "span (us)": 0.0,
        "balance": 1.0,
        "idle share": 0.0,
        "queue (ns an item)": 0.0,
        "queue share": 0.0,
    }


def test_costs_are_fitted_to_the_times():
    """Items of one block take 100 ns, of three 200: 50 an item, and 50 a block."""
    capacity = capacity_for(FAMILY, requests=2, rows=2, pages=20, ctas=1)
    schedule = make_schedule(FAMILY, attention_batch(FAMILY, capacity, [1, 1], [64, 192]), capacity)
    records = np.zeros((len(schedule.items), 4), np.int64)
    for item, blocks in enumerate((1, 1, 3, 3)):
        records[item, :2] = 1, 51 + 50 * blocks
    costs = fitted_costs(item_times(schedule, records).samples(KV_BLOCK))
    assert (costs[16].fixed, costs[16].per_block) == (64, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.astype(np.int32), "need records of int64"),
        (lambda r: r[:2], "need records of int64"),
        (lambda r: r[:, :3], "need records of int64"),
        (lambda r: r * (np.arange(len(r)) != 1)[:, None], r"item 1 has the record \[0, 0, 0, 0\]"),
        (lambda r: r * np.array([1, 0, 1, 1]), "item 0 has the record"),
        (lambda r: r + np.array([0, 0, 0, 2]), "item 0 has the record"),
        (lambda r: r - np.array([0, 0, 5, 0]), "item 2 has the record"),
    ],
)
def test_records_that_are_no_times_are_refused(change, message):
    schedule = two_ctas()
    records = np.zeros((len(schedule.items), 4), np.int64)
    records[:4] = [[1, 9, 7, 0], [2, 9, 7, 0], [1, 6, 3, 1], [1, 2, 3, 1]]
    with pytest.raises(InvalidInput, match=message):
        item_times(schedule, change(records))

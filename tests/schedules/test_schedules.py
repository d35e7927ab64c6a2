"""Schedules of random ragged batches: the postcondition, the bounds, the balance."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace

import numpy as np
from hypothesis import event, example, given
from hypothesis import strategies as st

from forerun.schedules.attention import KV_BLOCK, Attention, attention_batch
from forerun.schedules.balance import imbalance, loads
from forerun.schedules.cuts import Chunks, Invariant, Shares, Whole
from forerun.schedules.policies import CLASSES, POLICIES, _least_loaded, classes_of, longest_first
from forerun.schedules.postcondition import assert_postcondition, first_violation
from forerun.schedules.schedule import POISON, capacity_for, make_schedule
from forerun.schedules.status import Status
from forerun.schedules.tasks import Tasks
from tests.schedules.batches import CTAS, CUTS, FAMILY, POLICY, lengths

LARGE = replace(FAMILY, cache_pages=10**6)


def scheduled(made, cuts, ctas, policy="prefix-sums", family=LARGE):
    """A schedule in a capacity that has room for nothing but this batch's sums."""
    queries, kv = made
    pages = sum(-(-n // family.page_size) for n in kv)
    capacity = capacity_for(family, len(kv), max(1, sum(queries)), pages, ctas, cuts)
    batch = attention_batch(family, capacity, queries, kv)
    return make_schedule(family, batch, capacity, POLICIES[policy], cuts), family.tasks(batch)


@given(lengths(8, 3000), CUTS, CTAS, POLICY)
def test_the_postcondition_holds_within_the_stated_bounds(made, cuts, ctas, policy):
    schedule, tasks = scheduled(made, cuts, ctas, policy)
    assert schedule.finding.status is Status.OK
    assert first_violation(schedule, tasks, cuts if cuts.is_invariant else None) is None
    event(f"{type(cuts).__name__}: {'split' if schedule.counts[1] else 'whole'}")
    assert (schedule.items[schedule.counts[0] :] == POISON).all()
    assert (schedule.counters[schedule.counts[2] :] == POISON).all()
    arrays = (schedule.status, schedule.counts, schedule.pointers, schedule.items, schedule.counters)
    assert all(array.dtype == np.int32 for array in arrays)
    assert sum(array.nbytes for array in arrays) == schedule.capacity.schedule_bytes


@given(lengths(), st.sampled_from([(4, 2), (1, 1), (8, 1), (6, 2)]))
@example(([16, 17, 64, 65, 128, 129, 0], [16, 50, 64, 65, 200, 129, 3]), (1, 1))
@example(([4, 5, 16, 17, 32, 33], [16, 50, 64, 65, 200, 129]), (8, 2))
def test_tasks_are_the_tiles_of_the_definition(made, heads):
    family = Attention(*heads, head_size=8, page_size=4, cache_pages=2000)
    tasks = scheduled(made, Whole(), 3, family=family)[1]
    expected = []
    for request, (q, kv) in enumerate(zip(*made, strict=True)):
        packed = q * family.group
        size = 16 if packed <= 16 else 64 if packed <= 64 else 128
        for head, tile in itertools.product(range(family.kv_heads), range(-(-packed // size))):
            rows = [p // family.group for p in range(packed) if p // size == tile]
            expected.append((request, head, tile, size, kv - q + max(rows) + 1))
    found = zip(tasks.owner, tasks.lane, tasks.tile, tasks.size, tasks.length, strict=True)
    assert list(found) == expected


@given(lengths(8, 3000), CTAS)
def test_prefix_sums_over_shares_are_within_two_blocks_of_the_mean(made, ctas):
    schedule, tasks = scheduled(made, Shares(), ctas)
    if len(tasks):
        largest = int((tasks.fixed + tasks.per_block).max())
        assert loads(schedule, tasks).max() <= tasks.cost.sum() / ctas + 2 * largest + 1


@given(lengths(8, 3000), CTAS, st.sampled_from([Shares(), Invariant(64)]))
def test_each_line_is_dealt_to_a_half_of_the_shares(made, ctas, cuts):
    """Large tiles to the first half, small ones to the second, each within two blocks and an item of the mean."""
    queries, kv = made
    capacity = capacity_for(FAMILY, len(kv), len(kv) + max(1, sum(queries)), sum(kv) + 1, ctas, cuts)
    batch = attention_batch(FAMILY, capacity, queries, kv)
    schedule, tasks = make_schedule(FAMILY, batch, capacity, cuts=cuts), FAMILY.tasks(batch)
    assert capacity.ctas == 2 * ctas
    found = loads(schedule, tasks)
    for line, half in ((0, range(ctas)), (1, range(ctas, 2 * ctas))):
        items = [item for cta in half for item in schedule.of_cta(cta)]
        assert {item.size > 16 for item in items} <= {line == 0}
        assert sum(found[half]) == sum(cost(tasks, item) for item in items)
        if isinstance(cuts, Shares) and len(items):
            mine = tasks.size > 16 if line == 0 else tasks.size == 16
            largest = int((tasks.fixed + tasks.per_block)[mine].max())
            assert found[half].max() <= tasks.cost[mine].sum() / ctas + 2 * largest + 1
    means = [found[:ctas].mean(), found[ctas:].mean()]
    assert (found <= imbalance(schedule, tasks) * np.repeat(means, ctas) + 1e-6).all()
    owners = [item.owner for item in schedule.all_items() if item.size == 16]
    assert owners == sorted(owners, reverse=True)


@given(lengths(8, 3000), CTAS, CUTS)
def test_longest_first_keeps_its_bound(made, ctas, cuts):
    """Graham's: the mean and an item more; and a quarter, by which costs of a class differ, of what is of the class."""
    schedule, tasks = scheduled(made, cuts, ctas, "longest-first")
    found, lines = loads(schedule, tasks), schedule.capacity.lines
    is_small = tasks.size == 16
    for cta in range(ctas * lines):
        costs = np.array([cost(tasks, item) for item in schedule.of_cta(cta)], np.int64)
        if not len(costs):
            continue
        mine = np.ones(len(tasks), np.bool_) if lines == 1 else is_small == (cta >= ctas)
        kinds = classes_of(np.append(costs, tasks.cost[mine].max()), CLASSES // lines)[:-1]
        assert kinds.tolist() == sorted(kinds)
        last = costs[kinds == kinds[-1]]
        rounding = len(tasks) + last.max() / 32  # of the mean up to an integer, and of loads to parts of it
        mean = found[cta // ctas * ctas :][:ctas].mean()
        assert found[cta] <= mean + last.max() + 0.25 * last.sum() + rounding


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(1, 60), st.integers(1, 50))
def test_items_of_one_cost_go_to_the_least_loaded(loads_before, count, cost):
    """As a heap deals them, but for loads that differ by less than a 32nd of an item."""
    units = [(load - min(loads_before)) * 32 // cost for load in loads_before]
    heap = [(load // 32, load % 32, cta) for cta, load in enumerate(units)]
    heapq.heapify(heap)
    wanted = [0] * len(heap)
    for _ in range(count):
        whole, part, cta = heap[0]
        wanted[cta] += 1
        heapq.heapreplace(heap, (whole + 1, part, cta))
    assert _least_loaded(np.array(loads_before), count, cost).tolist() == wanted


def cost(tasks: Tasks, item) -> int:
    task = tasks.keys().index(item[:3])
    return int(tasks.fixed[task] + tasks.per_block[task] * -(-(item.end - item.begin) // tasks.block[task]))


@given(st.data(), st.integers(2, 8), st.sampled_from([("prefix-sums", Shares()), ("longest-first", Chunks())]))
def test_twenty_tasks_a_cta_are_within_a_twentieth_in_any_order(data, ctas, chosen):
    """From two blocks a task on; a block is the least that can be dealt."""
    policy, cuts = chosen
    kv = st.integers(KV_BLOCK + 1, 6000)
    requests = data.draw(st.lists(kv, min_size=20 * ctas, max_size=20 * ctas))
    family = Attention(2, 1, 8, 64, 10**6)
    schedule, tasks = scheduled(([1] * len(requests), requests), cuts, ctas, policy, family)
    assert imbalance(schedule, tasks) <= 1.05


@given(st.permutations(range(40)), st.sampled_from([("prefix-sums", Shares()), ("longest-first", Chunks(20))]))
def test_long_requests_in_any_order_are_within_a_twentieth(order, chosen):
    policy, cuts = chosen
    kv = [64 * 2 ** (i % 8) for i in range(40)]
    family = Attention(8, 2, 8, 64, 10**6)
    schedule, tasks = scheduled(([1] * 40, [kv[i] for i in order]), cuts, 4, policy, family)
    assert imbalance(schedule, tasks) <= 1.05


@given(lengths(), CTAS, POLICY)
def test_invariant_splits_are_those_of_the_request_alone(made, ctas, policy):
    schedule, tasks = scheduled(made, Invariant(KV_BLOCK), ctas, policy)
    for request, (q, kv) in enumerate(zip(*made, strict=True)):
        if q:
            alone = scheduled(([q], [kv]), Invariant(KV_BLOCK), 1)[0]
            mine = sorted(item[1:6] for item in schedule.all_items() if item.owner == request)
            assert mine == sorted(item[1:6] for item in alone.all_items())
    assert_postcondition(schedule, tasks, Invariant(KV_BLOCK))


def test_a_thousand_requests_and_one():
    for count in (1, 1024):
        family = Attention(8, 1, 64, 16, 10**6)
        kv = np.random.default_rng(0).integers(1, 5000, count).tolist()
        schedule, tasks = scheduled(([1] * count, kv), Shares(), 132, family=family)
        assert_postcondition(schedule, tasks)
        assert schedule.counts[0] <= count + 131


@given(lengths(8, 3000), CUTS, CTAS)
def test_tasks_that_cannot_be_split_are_not(made, cuts, ctas):
    tasks = scheduled(made, Whole(), ctas)[1]
    movable = np.arange(len(tasks)) % 2 == 0
    items = cuts.cut(replace(tasks, can_split=movable), ctas)
    assert np.bincount(items.task, minlength=len(tasks))[~movable].tolist() == [1] * int((~movable).sum())
    assert items.edges[-1] >= tasks.cost.sum()  # cuts may add fixed costs
    assert (np.diff(items.edges) > 0).all()


def test_the_bounds_are_those_of_the_docs():
    """A group of 2 on 2 KV heads: 4 requests, 40 rows; 80 packed rows have no second tile of 128. Six shares."""
    sizes = {Whole(): (8, 0), Shares(): (13, 10), Chunks(5): (8 + 30, 60), Invariant(32): (8 + 10, 18)}
    for cuts, expected in sizes.items():
        capacity = capacity_for(FAMILY, requests=4, rows=40, pages=40, ctas=3, cuts=cuts)
        assert (capacity.items, capacity.partials) == expected
    one_line = capacity_for(FAMILY, requests=4, rows=4, pages=40, ctas=3)
    assert (one_line.items, one_line.partials, one_line.ctas, one_line.lines) == (8 + 2, 4, 3, 1)
    assert capacity_for(FAMILY, requests=4, rows=2, pages=40, ctas=3, cuts=Whole()).items == 4
    assert capacity_for(FAMILY, requests=4, rows=66, pages=40, ctas=3, cuts=Whole()).items == 2 * (4 + 1)


def test_requests_without_rows_have_no_items():
    schedule, tasks = scheduled(([0, 0], [5, 7]), Shares(), 3)
    assert schedule.counts.tolist() == [0, 0, 0]
    assert schedule.pointers.tolist() == [0] * 4
    assert imbalance(schedule, tasks) == 1.0
    assert_postcondition(schedule, tasks)


def test_ties_go_to_ctas_that_are_not_neighbours():
    _, tasks = scheduled(([1] * 4, [64] * 4), Whole(), 3)
    order, pointers = longest_first(Whole().cut(tasks.on_lines(1), 3), 3)
    assert order.tolist() == [0, 1, 2, 6, 7, 3, 4, 5]
    assert pointers.tolist() == [0, 3, 5, 8]

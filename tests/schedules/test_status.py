"""Bad batches get a status word and an error, and nothing behind the actual counts is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.schedules.attention import Attention, AttentionBatch, attention_batch
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import Chunks, Invariant, Shares, Whole
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.schedule import POISON, capacity_for, make_schedule
from forerun.schedules.status import Finding, Status, raise_for
from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import ForerunError, InvalidInput
from tests.schedules.batches import CTAS, CUTS, FAMILY, lengths

CAPACITY = capacity_for(FAMILY, requests=4, rows=20, pages=40, ctas=3)


def batch(**changes):
    good = attention_batch(FAMILY, CAPACITY, [1, 3], [9, 5])
    arrays = {name: getattr(good, name).copy() for name in ("query_pointers", "kv_lengths", "page_pointers", "pages")}
    requests = changes.pop("requests", 2)
    for name, (index, value) in changes.items():
        arrays[name][index] = value
    return AttentionBatch(requests, **arrays)


BAD = {
    "no requests": ({"requests": 0}, Status.NO_REQUESTS, -1),
    "a negative number of requests": ({"requests": -5}, Status.NO_REQUESTS, -1),
    "more requests than the capacity": ({"requests": 5}, Status.TOO_MANY_REQUESTS, -1),
    "absurdly many requests": ({"requests": 2**31 - 1}, Status.TOO_MANY_REQUESTS, -1),
    "rows that do not begin at 0": ({"query_pointers": (0, 1)}, Status.BAD_POINTERS, 0),
    "rows that decrease": ({"query_pointers": (2, 0)}, Status.BAD_POINTERS, 1),
    "pages that decrease": ({"page_pointers": (1, 7)}, Status.BAD_POINTERS, 1),
    "a negative pointer": ({"page_pointers": (1, -(2**31))}, Status.BAD_POINTERS, 0),
    "more rows than the capacity": ({"query_pointers": (2, 21)}, Status.TOO_MANY_ROWS, -1),
    "more pages than the capacity": ({"page_pointers": (2, 41)}, Status.TOO_MANY_PAGES, -1),
    "a negative length": ({"kv_lengths": (1, -1)}, Status.BAD_LENGTH, 1),
    "a query longer than its KV": ({"kv_lengths": (1, 2)}, Status.QUERY_LONGER_THAN_KV, 1),
    "a KV longer than its pages": ({"kv_lengths": (0, 13)}, Status.TOO_FEW_PAGES, 0),
    "the longest KV there is": ({"kv_lengths": (1, 2**31 - 1)}, Status.TOO_FEW_PAGES, 1),
    "a page behind the cache": ({"pages": (3, 600)}, Status.BAD_PAGE, 1),
    "a negative page": ({"pages": (1, -1)}, Status.BAD_PAGE, 0),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_batch_gets_its_status_and_nothing_to_do(name):
    changes, status, where = BAD[name]
    schedule = make_schedule(FAMILY, batch(**changes), CAPACITY)
    assert schedule.finding == Finding(status, where)
    assert not schedule.counts.any()
    assert not schedule.pointers.any()
    assert (schedule.items == POISON).all()
    with pytest.raises(InvalidInput, match=status.meaning):
        raise_for(schedule.finding)


def test_every_status_of_attention_is_asked_for():
    tested = {status for _, status, _ in BAD.values()}
    assert tested == set(Status) - {Status.OK, Status.UNSPLIT, Status.TOO_MANY_ITEMS, Status.TOO_MUCH_WORK}
    assert all(status.meaning for status in Status)


def test_a_good_batch_raises_nothing():
    schedule = make_schedule(FAMILY, batch(), CAPACITY)
    raise_for(schedule.finding)
    raise_for(Finding(Status.UNSPLIT))
    assert schedule.finding == Finding()


def test_pages_that_are_reserved_ahead_are_not_looked_at():
    assert make_schedule(FAMILY, batch(page_pointers=(2, 40)), CAPACITY).finding == Finding()


@given(lengths(), CUTS, CTAS, st.integers(-(2**31), 2**31 - 1))
def test_nothing_behind_the_counts_is_read(made, cuts, ctas, poison):
    queries, kv = made
    capacity = capacity_for(FAMILY, 8, 2000, 1000, ctas, cuts)
    right = attention_batch(FAMILY, capacity, queries, kv)
    other = AttentionBatch(
        right.requests,
        *(
            np.where(array == POISON, np.int32(poison), array).astype(np.int32)
            for array in (right.query_pointers, right.kv_lengths, right.page_pointers, right.pages)
        ),
    )
    first, second = (make_schedule(FAMILY, each, capacity, cuts=cuts) for each in (right, other))
    assert first.finding.status is Status.OK
    for name in ("status", "counts", "pointers", "items", "counters"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


@given(lengths(), st.sampled_from([Shares(), Chunks(4)]), st.integers(0, 6))
def test_what_does_not_fit_runs_unsplit(made, cuts, partials):
    roomy = capacity_for(FAMILY, 8, 2000, 1000, 5, cuts)
    small = replace(roomy, partials=partials)
    batch = attention_batch(FAMILY, roomy, *made)
    wanted = make_schedule(FAMILY, batch, roomy, cuts=cuts)
    schedule = make_schedule(FAMILY, batch, small, cuts=cuts)
    if wanted.counts[1] <= partials:
        assert np.array_equal(schedule.items, wanted.items)
        assert schedule.finding.status is Status.OK
    else:
        assert schedule.counts.tolist() == [len(FAMILY.tasks(batch)), 0, 0]
        assert schedule.finding.status is Status.UNSPLIT


def test_items_that_do_not_fit_are_not_split():
    roomy = capacity_for(FAMILY, 4, 20, 400, 3)
    batch = attention_batch(FAMILY, roomy, [1, 3], [900, 500])
    assert make_schedule(FAMILY, batch, roomy).counts.tolist() == [6, 4, 2]
    small = replace(roomy, items=4)
    schedule = make_schedule(FAMILY, batch, small)
    assert schedule.finding.status is Status.UNSPLIT
    assert schedule.counts.tolist() == [4, 0, 0]


def test_whole_tasks_that_do_not_fit_are_an_error():
    small = Capacity(4, 20, 40, 3, items=3, partials=0)
    schedule = make_schedule(FAMILY, batch(), small)
    assert schedule.finding.status is Status.TOO_MANY_ITEMS
    assert schedule.counts.tolist() == [0, 0, 0]


def test_more_work_than_can_be_counted_is_an_error():
    dear = {tile: Costs(0, 2**16) for tile in (16, 64, 128)}
    family = Attention(1, 1, 8, 2**30, 4, dear)
    capacity = capacity_for(family, 1, 1, 2, 3)
    schedule = make_schedule(family, attention_batch(family, capacity, [1], [2**31 - 1]), capacity)
    assert schedule.finding.status is Status.TOO_MUCH_WORK


def test_one_long_request_does_not_decide_for_the_others():
    """Under Invariant a capacity without room for the worst batch never splits: no request depends on another."""
    roomy = capacity_for(FAMILY, 4, 20, 200, 3, Invariant(64))
    small = Capacity(4, 20, 200, 3, roomy.items, roomy.partials - 1)
    for kv in ([100], [100, 300]):
        batch = attention_batch(FAMILY, roomy, [1] * len(kv), kv)
        assert make_schedule(FAMILY, batch, roomy, cuts=Invariant(64)).finding.status is Status.OK
        schedule = make_schedule(FAMILY, batch, small, cuts=Invariant(64))
        assert schedule.finding.status is Status.UNSPLIT
        assert schedule.counts[1] == 0


EXPERTS = ExpertGemv(experts=3, outputs=70, columns=300)
EXPERT_CAPACITY = capacity_for(EXPERTS, requests=3, rows=20, ctas=4)


@pytest.mark.parametrize(
    ("pointers", "status", "where"),
    [
        ([0, 0, 0, 0], Status.NO_REQUESTS, -1),
        ([1, 2, 3, 4], Status.BAD_POINTERS, 0),
        ([0, 5, 4, 6], Status.BAD_POINTERS, 1),
        ([0, 5, 5, 21], Status.TOO_MANY_ROWS, -1),
        ([0, 5, 5, 20], Status.OK, -1),
    ],
)
def test_pointers_of_experts(pointers, status, where):
    batch = ExpertBatch(np.array([*pointers, POISON], np.int32))
    assert make_schedule(EXPERTS, batch, EXPERT_CAPACITY).finding == Finding(status, where)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AttentionBatch(None, *[np.zeros(3, np.int32)] * 4),
        lambda: AttentionBatch(1, *[np.zeros(3, np.int64)] * 4),
        lambda: AttentionBatch(1, *[[0, 1, 2]] * 4),
        lambda: make_schedule(FAMILY, None, CAPACITY),
        lambda: make_schedule(FAMILY, AttentionBatch(1, *[np.zeros(3, np.int32)] * 4), CAPACITY),
        lambda: make_schedule(EXPERTS, None, EXPERT_CAPACITY),
        lambda: make_schedule(EXPERTS, ExpertBatch(np.zeros(3, np.int32)), EXPERT_CAPACITY),
        lambda: ExpertBatch(np.zeros((2, 2), np.int32)),
        lambda: ExpertGemv(0, 1, 1),
        lambda: attention_batch(FAMILY, CAPACITY, [1], [1, 2]),
        lambda: attention_batch(FAMILY, CAPACITY, [1] * 5, [1] * 5),
        lambda: Attention(3, 2, 8, 4, 10),
        lambda: Attention(2, 2, 8, 0, 10),
        lambda: Attention(2, 2, 8, 4, 10, {16: Costs(1, 1)}),
        lambda: Costs(-1, 1),
        lambda: Costs(0, 0),
        lambda: Costs(0, 1.5),
        lambda: Chunks(0),
        lambda: Invariant(None),
        lambda: Capacity(1, 1, 1, 0, 1, 0),
        lambda: Capacity(1, 1, 1, 2**16, 1, 0),
        lambda: Capacity(1, 1, 1, True, 1, 0),
        lambda: make_schedule(FAMILY, batch(), CAPACITY, lambda items, ctas: (np.arange(2), np.arange(2))),
        lambda: make_schedule(
            FAMILY, batch(), CAPACITY, lambda items, ctas: (np.arange(len(items)) + 1, np.zeros(ctas + 1, int))
        ),
        lambda: attention_batch(FAMILY, CAPACITY, [1], [2**31]),
        lambda: attention_batch(FAMILY, CAPACITY, [0.5], [1]),
        lambda: attention_batch(FAMILY, CAPACITY, [None], [1]),
    ],
)
def test_wrong_arguments_are_errors_of_forerun(make):
    with pytest.raises(ForerunError):
        make()


def test_whole_tasks_that_were_asked_for_are_not_a_fallback():
    assert make_schedule(FAMILY, batch(), CAPACITY, cuts=Whole()).finding.status is Status.OK

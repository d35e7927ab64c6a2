"""Schedules run in adversarial orders: the results are those of the definition, and the same bits in every order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.schedules.attention import Attention
from forerun.schedules.attention_runner import AttentionRunner
from forerun.schedules.cuts import Chunks, Invariant, Shares, Whole
from forerun.schedules.execution import Arrive, Load, Store, every_execution, execute, run_item
from forerun.schedules.schedule import capacity_for, make_schedule
from forerun.schedules.status import Status
from forerun.support.diagnostics import InvalidInput
from tests.schedules import wrong_schedules
from tests.schedules.batches import (
    ADVERSARY,
    CTAS,
    CUTS,
    FAMILY,
    POLICY,
    Values,
    adversary,
    attention_by_definition,
    lengths,
    make_case,
    random_values,
)


def run(case, choose, workspace=None, program=run_item):
    runner = case.runner()
    execute(case.schedule, runner, workspace or case.workspace(), choose, program)
    return runner.y[: sum(len(q) for q in case.values.queries)]


@given(lengths(4), CUTS, CTAS, POLICY, ADVERSARY)
def test_any_order_gives_the_attention_of_the_definition(made, cuts, ctas, policy, choose):
    values = random_values(*made)
    case = make_case(values, cuts=cuts, ctas=ctas, policy=policy)
    found = run(case, choose)
    event("split" if case.schedule.counts[1] else "whole")
    np.testing.assert_allclose(found, attention_by_definition(values), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("cuts", [Whole(), Invariant(64)])
@pytest.mark.parametrize("large", [slice(64, 500), slice(0, 64), slice(0, 500)])
def test_large_scores_do_not_overflow(cuts, large):
    """Scores of about 140, beyond what exp takes in f32, in the later splits, in the first one, and everywhere."""
    values = random_values([1], [500])
    values.queries[0][:] = 10
    values.keys[0][:] *= 0.01
    values.keys[0][large] += 5
    found = run(make_case(values, cuts=cuts), adversary([3, 1]))
    np.testing.assert_allclose(found, attention_by_definition(values), rtol=1e-3, atol=1e-3)


@given(lengths(4), CUTS, CTAS, POLICY, ADVERSARY, ADVERSARY)
def test_all_orders_give_the_same_bits(made, cuts, ctas, policy, first, second):
    case = make_case(random_values(*made), cuts=cuts, ctas=ctas, policy=policy)
    assert run(case, first).tobytes() == run(case, second).tobytes()


@given(lengths(3), lengths(3), st.integers(0, 5), CTAS, POLICY, ADVERSARY)
def test_invariant_results_do_not_depend_on_other_requests(mine, others, before, ctas, policy, choose):
    """The same request alone, and between others, on other pages, gives the same bits."""
    queries, kv = mine
    values, around = random_values([queries[0]], [kv[0]], seed=1), random_values(*others, seed=2)
    at = min(before, len(others[0]))
    both = Values(
        *(
            [*getattr(around, name)[:at], *getattr(values, name), *getattr(around, name)[at:]]
            for name in ("queries", "keys", "values")
        )
    )
    capacity = capacity_for(FAMILY, 8, 1000, 1000, ctas, Invariant(64))
    alone = make_case(values, cuts=Invariant(64), capacity=capacity)
    between = make_case(both, cuts=Invariant(64), capacity=capacity, policy=policy, seed=3)
    first = sum(len(q) for q in around.queries[:at])
    found = run(between, choose)[first : first + queries[0]]
    assert found.tobytes() == run(alone, adversary([0])).tobytes()


@given(st.lists(lengths(3), min_size=2, max_size=4), st.sampled_from([Shares(), Chunks(4)]), CTAS, ADVERSARY)
def test_one_workspace_serves_all_batches_of_a_capacity(batches, cuts, ctas, choose):
    """Captured once, replayed over changing batches: nobody resets slots or counters in between."""
    capacity = capacity_for(FAMILY, 8, 1000, 1000, ctas, cuts)
    workspace = make_case(random_values(*batches[0]), cuts=cuts, capacity=capacity).workspace()
    for made in batches:
        values = random_values(*made)
        found = run(make_case(values, cuts=cuts, capacity=capacity), choose, workspace)
        np.testing.assert_allclose(found, attention_by_definition(values), rtol=2e-5, atol=2e-5)
        assert not any(workspace.counters)


def tiny(kv=(128,), ctas=2, family=None):
    family = family or Attention(heads=1, kv_heads=1, head_size=4, page_size=64, cache_pages=20)
    values = random_values([1] * len(kv), list(kv), seed=4, family=family)
    return make_case(values, cuts=Invariant(64), ctas=ctas, family=family), attention_by_definition(values, family)


@pytest.mark.parametrize(("kv", "ctas"), [((128,), 2), ((128, 64), 2), pytest.param((192,), 3, marks=pytest.mark.slow)])
def test_every_order_of_a_tiny_schedule(kv, ctas):
    case, expected = tiny(kv, ctas)
    assert case.schedule.counts[1] > 0
    found = list(every_execution(lambda choose: run(case, choose).tobytes()))
    assert len(found) > 10
    assert set(found) == {found[0]}
    np.testing.assert_allclose(run(case, adversary([])), expected, rtol=2e-5, atol=2e-5)


def variant(*, release=True, acquire=True, waits=True, by_arrival=False, wraps=True):
    """The program of :func:`run_item`, and wrong ones."""
    arrivals = {}

    def program(item, runner, counters):
        part = runner.compute(item)
        if item.slot < 0:
            runner.finish(item, [part])
            return
        first, splits = counters[item.counter].tolist()
        slots = list(range(first, first + splits))
        yield Store(item.slot, part)
        before = yield Arrive(item.counter, splits if wraps else 10**6, release=release, acquire=acquire)
        arrivals.setdefault(item.counter, []).append(item.slot)
        if before == splits - 1 or not waits:
            if by_arrival:
                slots = arrivals[item.counter]
            parts = []
            for slot in slots:
                parts.append((yield Load(slot)))
            runner.finish(item, parts)

    return program


WRONG = {
    "no release": {"release": False},
    "no acquire": {"acquire": False},
    "nobody waits for the counter": {"waits": False},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_missing_fence_or_counter_gives_a_wrong_result_in_some_order(name):
    case, expected = tiny()
    results = every_execution(lambda choose: run(case, choose, program=variant(**WRONG[name])))
    verdicts = {np.allclose(found, expected, rtol=2e-5, atol=2e-5) for found in results}
    assert verdicts == {False, True}, "such a fault is not seen in every order"
    right = every_execution(lambda choose: run(case, choose, program=variant()))
    assert all(np.allclose(found, expected, rtol=2e-5, atol=2e-5) for found in right)


def test_a_merge_in_the_order_of_arrival_gives_other_bits():
    case, _ = tiny((320,), 5)
    orders = [adversary(np.random.default_rng(seed).integers(0, 60, 30).tolist()) for seed in range(30)]
    assert len({run(case, choose, program=variant(by_arrival=True)).tobytes() for choose in orders}) > 1


def test_a_counter_that_nobody_resets_fails_in_the_second_replay():
    case, expected = tiny()
    workspace = case.workspace()
    wrong = variant(wraps=False)
    np.testing.assert_allclose(run(case, adversary([]), workspace, wrong), expected, rtol=2e-5, atol=2e-5)
    assert np.isnan(run(case, adversary([]), workspace, wrong)).all()


def test_a_stale_slot_of_an_earlier_replay_is_seen_where_a_fence_is_missing():
    """What an unfenced merge reads need not be NaN: it is a plausible number of the replay before."""
    case, expected = tiny()
    other = make_case(random_values([1], [128], seed=9, family=case.family), cuts=Invariant(64), family=case.family)

    def second_replay(choose):
        workspace = case.workspace()
        run(other, adversary([]), workspace)
        return run(case, choose, workspace, variant(acquire=False))

    wrong = [found for found in every_execution(second_replay) if not np.allclose(found, expected, atol=2e-5)]
    assert wrong
    assert any(np.isfinite(found).all() for found in wrong)


@pytest.mark.parametrize(
    "change",
    [
        wrong_schedules.counter_reused,
        wrong_schedules.slot_reused,
        wrong_schedules.slot_of_another_task,
        wrong_schedules.counts_one_too_few,
        wrong_schedules.counts_one_too_many,
        wrong_schedules.overlapping,
    ],
    ids=lambda change: change.__name__,
)
def test_a_wrong_schedule_gives_a_wrong_result_in_some_order(change):
    case, expected = tiny((128, 128), 2)
    case.schedule = wrong_schedules.changed(case.schedule, change)
    results = every_execution(lambda choose: run(case, choose))
    assert not all(np.allclose(found, expected, rtol=2e-5, atol=2e-5) for found in results)


def test_two_stores_to_one_slot_may_wait_together():
    case, expected = tiny((256,), 1)
    case.schedule = wrong_schedules.changed(case.schedule, wrong_schedules.slot_reused)
    found = run(case, adversary([0]), program=variant(release=False))
    assert not np.allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_a_batch_with_an_error_runs_nothing():
    case = make_case(random_values([1], [5]))
    case.batch.pages[1] = FAMILY.cache_pages
    schedule = make_schedule(FAMILY, case.batch, case.schedule.capacity)
    assert schedule.finding.status is Status.BAD_PAGE
    runner = case.runner()
    execute(schedule, runner, case.workspace(), adversary([]))
    assert np.isnan(runner.y).all()


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_arrays_of_other_shapes_are_refused(wrong):
    case = make_case(random_values([1], [5]))
    memory = list(case.memory)
    memory[wrong] = memory[wrong][..., :-1]
    with pytest.raises(InvalidInput):
        AttentionRunner(FAMILY, case.batch, *memory)


def test_too_few_query_rows_are_refused():
    case = make_case(random_values([3], [5]))
    with pytest.raises(InvalidInput, match="q has 2 rows"):
        AttentionRunner(FAMILY, case.batch, case.memory[0][:2], *case.memory[1:])

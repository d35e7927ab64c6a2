"""Wrong schedules break the rule that is named, and a rule is broken by each of its wrong schedules."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.schedules.attention import attention_batch
from forerun.schedules.cuts import Invariant, Shares
from forerun.schedules.postcondition import RULES, assert_postcondition, first_violation
from forerun.schedules.schedule import capacity_for, make_schedule
from forerun.support.diagnostics import Refuted
from tests.documents import ROOT
from tests.schedules import wrong_schedules
from tests.schedules.batches import FAMILY, make_case, random_values
from tests.schedules.wrong_schedules import CHANGES, POLICIES, ByTheBatch, changed

LENGTHS = [1, 1, 1, 20], [700, 30, 900, 300]


def case(**options):
    return make_case(random_values(*LENGTHS), ctas=5, **{"cuts": Shares(), **options})


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_wrong_schedule_is_found(change):
    right = case()
    assert first_violation(right.schedule, right.tasks) is None
    found = first_violation(changed(right.schedule, change), right.tasks)
    assert found is not None
    assert found.rule == CHANGES[change], str(found)
    with pytest.raises(Refuted, match=found.rule):
        assert_postcondition(changed(right.schedule, change), right.tasks)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_a_wrong_policy_is_found(policy):
    right = case()
    schedule = make_schedule(FAMILY, right.batch, right.schedule.capacity, policy)
    found = first_violation(schedule, right.tasks)
    assert found is not None
    assert found.rule == POLICIES[policy], str(found)


def test_splits_that_depend_on_other_requests_are_found():
    rule = ByTheBatch(4)
    wrong = case(cuts=rule)
    assert first_violation(wrong.schedule, wrong.tasks) is None
    assert first_violation(wrong.schedule, wrong.tasks, rule).rule == "S9"
    assert first_violation(wrong.schedule, wrong.tasks, Invariant(64)).rule == "S9"


def test_every_rule_has_a_wrong_schedule_and_a_line_in_the_docs():
    assert {*CHANGES.values(), *POLICIES.values(), "S9"} == set(RULES)
    page = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| (S\d) \| (.*) \|$", page, re.MULTILINE)) == RULES


@given(st.data())
def test_any_other_word_is_found(data):
    """A single word that differs from a right schedule's is always found, whatever it is."""
    right = case()
    schedule = right.schedule
    count = int(schedule.counts[0])
    array, index = data.draw(
        st.one_of(
            st.tuples(st.just("items"), st.tuples(st.integers(0, count - 1), st.integers(0, 7))),
            st.tuples(st.just("counters"), st.tuples(st.integers(0, int(schedule.counts[2]) - 1), st.integers(0, 1))),
            st.tuples(st.just("pointers"), st.tuples(st.sampled_from([0, schedule.capacity.ctas]))),
            st.tuples(st.just("counts"), st.tuples(st.just(0))),
        )
    )
    old = int(getattr(schedule, array)[index])
    near = st.integers(old - 3, old + 3) | st.integers(-(2**31), 2**31 - 1)
    new = data.draw(near.filter(lambda value: value != old))

    def change(copy):
        getattr(copy, array)[index] = new

    assert first_violation(changed(schedule, change), right.tasks) is not None


def test_the_first_item_that_shows_it_is_named():
    right = case()
    found = first_violation(changed(right.schedule, wrong_schedules.of_another_tile), right.tasks)
    assert found.item == 0
    assert str(found).startswith("S3 (an item names a task of the batch, and lies within its axis): item 0: ")


def test_a_schedule_with_an_error_holds_only_if_it_does_nothing():
    capacity = capacity_for(FAMILY, 2, 4, 10, 3)
    batch = attention_batch(FAMILY, capacity, [2], [1])
    schedule = make_schedule(FAMILY, batch, capacity)
    assert schedule.finding.status.is_error
    assert first_violation(schedule, None) is None
    schedule.pointers[-1] = 1
    assert first_violation(schedule, None).rule == "S2"


def test_an_unknown_status_word_is_found():
    right = case()
    wrong = changed(right.schedule, lambda copy: copy.status.__setitem__(0, np.int32(55)))
    assert first_violation(wrong, right.tasks).rule == "S1"

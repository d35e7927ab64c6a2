"""The graph of a schedule's tasks is proved for every batch, and wrong flags, fences and counters are found in it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.schedules.cuts import Shares, Whole
from forerun.schedules.postcondition import first_violation
from forerun.schedules.schedule import make_schedule
from forerun.schedules.task_graph import Arrivals, prove_tasks, task_graph
from forerun.support.diagnostics import InvalidInput
from tests.schedules import wrong_schedules
from tests.schedules.batches import CTAS, CUTS, POLICY, Case, copied, lengths, make_case, random_values
from tests.schedules.wrong_schedules import changed, split_items

LENGTHS = [1, 1, 1, 20], [700, 30, 900, 300]

FLAGS = ["slot_reused", "slot_of_another_task", "no_slot", "counter_reused", "two_counters_of_a_task"]
FLAGS += ["counts_one_too_few", "counts_one_too_many", "first_slot_of_another"]
"""The wrong schedules whose flags or slots are wrong."""


def case(**options: object) -> Case:
    return make_case(random_values(*LENGTHS), ctas=5, **{"cuts": Shares(), **options})


@given(lengths(), CUTS, CTAS, POLICY)
@settings(max_examples=25)
def test_tasks_are_proved_for_every_batch(made, cuts, ctas, policy) -> None:  # type: ignore[no-untyped-def]
    right = make_case(random_values(*made), cuts=cuts, ctas=ctas, policy=policy)
    verdict = prove_tasks(right.schedule, right.tasks)
    split = int(right.schedule.counts[2])
    event(f"split: {split > 0}")
    assert verdict.proved, verdict.findings
    graph = task_graph(right.schedule, right.tasks)
    assert len(graph) == int(right.schedule.counts[0]) + split
    for arrivals in (Arrivals(release=False), Arrivals(acquire=False), Arrivals(reset=False)):
        assert prove_tasks(right.schedule, right.tasks, arrivals).status == ("refuted" if split else "proved")


@pytest.mark.parametrize("name", FLAGS)
def test_wrong_flags_are_refuted(name: str) -> None:
    change = getattr(wrong_schedules, name)
    right = case()
    wrong = changed(right.schedule, change)
    verdict = prove_tasks(wrong, right.tasks)
    assert verdict.status == "refuted"
    assert first_violation(wrong, right.tasks) is not None


def test_an_item_of_no_task_is_refused() -> None:
    right = case()
    with pytest.raises(InvalidInput, match="of the schedule has task"):
        task_graph(changed(right.schedule, wrong_schedules.of_another_tile), right.tasks)


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_one_wrong_word_of_flags_is_refuted_or_harmless(seed: int) -> None:
    """What is proved in spite of it: a slot that nobody uses, and slots in another order, which is no race."""
    chooser, right = Random(seed), case()
    wrong = copied(right.schedule)
    item, counter = chooser.randrange(int(wrong.counts[0])), chooser.randrange(int(wrong.counts[2]))
    places = [(wrong.items, item, 6), (wrong.items, item, 7)]
    places += [(wrong.counters, counter, 0), (wrong.counters, counter, 1)]
    array, row, column = chooser.choice(places)
    array[row, column] = chooser.randint(-1, 4)
    violation = first_violation(wrong, right.tasks)
    try:
        verdict = prove_tasks(wrong, right.tasks).status
    except InvalidInput:
        verdict = "none"
    event(f"{violation.rule if violation else 'right'}: {verdict}")
    assert (verdict == "proved") or violation is not None
    assert verdict != "proved" or violation is None or violation.rule in ("S5", "S8")


def test_a_race_of_a_merge_names_its_slot() -> None:
    right = case()
    verdict = prove_tasks(right.schedule, right.tasks, Arrivals(release=False))
    assert "reads %slot0" in str(verdict.findings[0])


def test_a_task_without_a_result_is_named() -> None:
    right = case(cuts=Whole())
    wrong = changed(right.schedule, wrong_schedules.last_item_left_out)
    verdict = prove_tasks(wrong, right.tasks)
    assert [finding.code for finding in verdict.findings] == ["F3"]


def test_the_graph_is_one_like_any_other() -> None:
    right = case()
    graph = task_graph(right.schedule, right.tasks)
    assert check(graph).proved
    assert parse_graph(print_graph(graph)) == graph
    first, _ = split_items(right.schedule)
    merges = [name for name in graph.nodes if name.startswith("merge")]
    assert len(merges) == int(right.schedule.counts[2])
    assert len(list(graph.incoming(merges[0]))) >= min(2, len(first))


def test_a_bad_batch_has_no_tasks() -> None:
    right = case()
    right.batch.kv_lengths[0] = -1
    schedule = make_schedule(right.family, right.batch, right.schedule.capacity)
    with pytest.raises(InvalidInput, match="a schedule with status BAD_LENGTH has no tasks"):
        task_graph(schedule, right.tasks)

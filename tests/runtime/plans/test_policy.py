"""The policy, in simulation: never much slower than the best of the strategies that need not decide."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plan_traces import Simulation, Step, World, pure, ratios, recorded, with_policy
from forerun.runtime.plans import Choice, Costs, Offer, Policy

H200, SLOW = World(), World(build=1.5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "name"), [(H200, "H200"), (SLOW, "instantiation a hundred times as slow")])
def test_it_is_never_more_than_three_percent_slower(world: World, name: str) -> None:
    for label, (ratio, best, p99) in ratios(world).items():
        assert ratio <= 1.03, f"{name}, {label}: {ratio:.3f} of {best}, p99 {p99}"


def choices(policy: Policy, world: World, steps: list[Step]) -> list[Choice]:
    simulation, found = Simulation(world), []
    for step in steps:
        offer = Offer(step.shape, step.nodes, simulation.changed(step), can_stream=True, variant=step.variant)
        found.append(policy.choose(offer))
        before, replay = simulation.do(found[-1], step)
        if found[-1] in (Choice.BUILD, Choice.UPDATE):
            policy.note(found[-1], offer, before, step.differing if found[-1] is Choice.UPDATE else None)
        policy.note(Choice.STREAM if found[-1] is Choice.STREAM else Choice.REUSE, offer, replay)
    return found


def new_policy(**costs: float) -> Policy:
    return Policy(lambda: 0.0, Costs(**costs))


def test_a_single_use_is_launched_on_the_stream_and_what_comes_again_becomes_a_plan() -> None:
    steps = [Step("once"), *[Step("decode")] * 4]
    assert choices(new_policy(), H200, steps) == ["stream", "stream", "build", "reuse", "reuse"]


def test_the_first_plan_of_all_is_for_what_time_is_lost_on() -> None:
    """Its price is a guess: a shape that comes again now and then is not worth finding out what it takes."""
    rare = [Step("again" if i % 100 == 0 else f"step {i}") for i in range(5000)]
    assert set(choices(new_policy(), H200, rare)) == {"stream"}
    # Once the price is known, what was lost on a shape is enough.
    assert choices(new_policy(), H200, [Step("decode")] * 4 + rare).count(Choice.BUILD) == 2


def test_the_recorded_generation() -> None:
    steps = recorded(4821)
    assert len({step.shape for step in steps}) == 2019
    assert {step.nodes for step in steps} == {716, 829, 849}
    lengths = [int(step.shape.split()[2]) for step in steps]
    grown = sum(after == before + 1 for before, after in pairwise(lengths))
    assert grown == len(steps) - 24  # each of the 24 batches begins with a prefill
    for world in (H200, SLOW):
        best = min(sum(times) for _, times in pure(world, steps))
        assert sum(with_policy(world, steps)) <= 1.03 * best


def test_a_graph_of_few_nodes_stays_on_the_stream() -> None:
    few = [Step("few", nodes=2, device=0.0)] * 50
    assert set(choices(new_policy(), H200, few)) == {"stream"}


def test_without_streams_there_is_always_a_plan() -> None:
    policy = new_policy()
    assert policy.choose(Offer("a", 10)) is Choice.BUILD
    assert policy.choose(Offer("a", 10, 0)) is Choice.REUSE
    assert policy.choose(Offer("a", 10, 3)) is Choice.UPDATE


def test_changes_that_go_on_stop_causing_builds_and_plans_come_back() -> None:
    burst = [Step(f"shape {i // 3}") for i in range(600)]  # each shape three times: a plan never pays
    policy = new_policy()
    found = choices(policy, H200, [*burst, *[Step("decode")] * 60])
    assert found[:300].count(Choice.BUILD) > found[300:600].count(Choice.BUILD)
    assert found[300:600].count(Choice.BUILD) <= 3
    assert policy.patience > 1
    assert found[-30:] == [Choice.REUSE] * 30


def test_a_second_plan_is_only_for_graphs_that_come_again() -> None:
    in_turn = choices(new_policy(), H200, [Step("decode", i % 2) for i in range(200)])
    assert in_turn.count(Choice.BUILD) == 2
    assert in_turn[-50:] == [Choice.REUSE] * 50
    never = choices(new_policy(), H200, [Step("decode", i) for i in range(2000)])
    assert never.count(Choice.BUILD) == 1


def test_time_is_measured_by_the_clock_that_is_given() -> None:
    now = [0.0]
    policy = Policy(lambda: now[0])
    offer = Offer("a", 100, can_stream=True)
    with policy.timed(Choice.BUILD, offer):
        now[0] += 50.0
    for _ in range(100):
        assert policy.choose(offer) is Choice.STREAM  # half a second a node is too much


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_it_chooses_can_be_done(data: st.DataObject) -> None:
    steps = data.draw(
        st.lists(
            st.builds(Step, st.sampled_from("abc"), st.integers(0, 3), st.integers(1, 2000), st.integers(1, 3000)),
            min_size=1,
            max_size=60,
        )
    )
    times = with_policy(H200, steps)
    assert len(times) == len(steps)
    assert all(time > 0 for time in times)
    worst = max(sum(times) for _, times in pure(H200, steps))
    assert sum(times) <= 2.5 * worst

"""The search: with made-up times, since what it must guarantee does not depend on what is measured."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.kernel import Phase, Trigger, Wait
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import KernelNode, Launch
from forerun.ir.semantics import check
from forerun.passes.infra.tuning import Choice, Tuning
from forerun.support.diagnostics import ForerunError, Unsupported
from forerun.tuner import Search, Trial
from forerun.tuner.moves import group_facts, joint_moves, moves
from tests.tuner.tuning_samples import FakeClock, arbitrary_seconds, launched_grids, tuned_decode

pytestmark = pytest.mark.slow


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), budget=st.sampled_from([0.5, 3.0, 1000.0]))
def test_never_slower_than_the_start_and_within_the_budget(seed: int, budget: float) -> None:
    start, seconds = tuned_decode(), arbitrary_seconds(seed)
    clock = FakeClock(seconds, 0.001)
    result = Search(clock.measure, budget=budget, rounds=1, sweeps=1, clock=clock).run(start)
    event(f"kept {sum(trial.verdict == 'kept' for trial in result.trials) > 0}, finished {result.finished}")
    assert seconds(result.graph) <= seconds(start)
    assert result.tuned <= result.untuned
    assert clock.now - 100 <= budget
    assert result.seconds == pytest.approx(clock.now - 100)
    assert check(result.graph).status == check(start).status
    assert (result.graph is start) == (not result.tuning.choices)


def test_the_same_measurements_give_the_same_result() -> None:
    def found() -> tuple[object, ...]:
        clock = FakeClock(arbitrary_seconds(3), 0.001)
        result = Search(clock.measure, budget=3, rounds=1, sweeps=1, clock=clock).run(tuned_decode())
        return result.tuning, result.trials, result.tuned

    assert found() == found()


def test_a_separable_optimum_is_found() -> None:
    """Every node wants 264 CTAs and a trigger at its end, and no dependency to be programmatic."""

    def seconds(graph: Graph) -> float:
        total = 0.0
        for node in graph:
            assert isinstance(node, KernelNode)
            steps = [step for _, _, step in graph.kernels[node.kernel].steps()]
            programmatic = sum(str(d.kind) == "programmatic" for d in graph.incoming(node.name))
            early = bool(steps) and isinstance(steps[0], Trigger)
            total += 1e-6 * (10 + abs(node.launch.grid[0] - 264) / 100 + early + programmatic)
        return total

    start = tuned_decode()
    result = Search(seconds, rounds=1, budget=1e9).run(start)
    assert result.finished
    wide = {name for name, ctas in launched_grids(start).items() if ctas > 1}
    assert wide
    assert {launched_grids(result.graph)[name] for name in wide} == {264}
    assert not any(str(d.kind) == "programmatic" for d in result.graph.dependencies)
    sources = {d.source for d in start.dependencies if str(d.kind) == "programmatic"}
    for node in result.graph:
        assert isinstance(node, KernelNode)
        steps = [step for _, _, step in result.graph.kernels[node.kernel].steps()]
        if node.name in sources and isinstance(steps[0], Phase | Wait):
            position = next(i for i, step in enumerate(steps) if isinstance(step, Trigger))
            assert position > 0


def test_what_is_no_faster_is_undone() -> None:
    result = Search(lambda graph: 1e-3, rounds=2, budget=1e9, sweeps=2).run(tuned_decode())
    assert result.graph is tuned_decode()
    assert result.finished
    assert {trial.verdict for trial in result.trials} == {"undone"}
    assert (result.untuned, result.tuned, result.tuning.choices) == (1e-3, 1e-3, {})
    tried = [(trial.group, trial.what) for trial in result.trials]
    assert len(tried) == len(set(tried))


def test_a_win_that_does_not_last_is_given_up() -> None:
    """Candidates look faster, until the last comparison."""
    start, calls = tuned_decode(), itertools.count()

    def seconds(graph: Graph) -> float:
        late = next(calls) > 400
        return 1e-3 if (graph is start) != late else 0.9e-3

    result = Search(seconds, rounds=1, budget=1e9, sweeps=1).run(start)
    assert any(trial.verdict == "kept" for trial in result.trials)
    if result.trials[-1].verdict == "undone":
        assert result.graph is start
        assert result.tuning.choices == {}
    assert result.tuned <= result.untuned


def test_wrong_results_are_refused_before_anything_is_measured() -> None:
    start = tuned_decode()
    measured: list[Graph] = []

    def seconds(graph: Graph) -> float:
        measured.append(graph)
        return 1e-3 if graph is start else 1e-6

    search = Search(
        seconds, lambda graph, reference: "%logits differs" if reference else "", budget=1e9, rounds=1, sweeps=1
    )
    result = search.run(start)
    refused = [trial for trial in result.trials if trial.verdict == "refused"]
    assert refused
    assert all(trial.reason == "%logits differs" for trial in refused)
    assert not any("trigger" in trial.what for trial in result.trials if trial.verdict == "kept")
    assert "refused: %logits differs" in str(refused[0])
    nothing = Search(seconds, lambda graph, reference: "all differs", budget=1e9, rounds=1, sweeps=1).run(start)
    assert nothing.graph is start


def test_what_cannot_be_run_is_refused_and_a_dead_device_ends_it() -> None:
    start = tuned_decode()

    class Dead(ForerunError):
        is_sticky = True

    for error, ends in ((Unsupported("too much shared memory"), False), (Dead("illegal address"), True)):

        def seconds(graph: Graph, error: ForerunError = error) -> float:
            if graph is not start:
                raise error
            return 1e-3

        search = Search(seconds, budget=1e9, rounds=1, sweeps=1)
        if ends:
            with pytest.raises(Dead):
                search.run(start)
        else:
            result = search.run(start)
            assert {trial.reason for trial in result.trials if trial.verdict == "refused"} == {"too much shared memory"}
            assert {trial.verdict for trial in result.trials} <= {"refused", "undone"}
            assert result.graph is start


def test_progress_is_told() -> None:
    told: list[tuple[str, float, float]] = []
    clock = FakeClock(arbitrary_seconds(1), 0.01)
    search = Search(clock.measure, budget=2.0, rounds=1, clock=clock)
    search.progress = lambda trial, gone, budget: told.append((str(trial), gone, budget))
    result = search.run(tuned_decode())
    assert len(told) == len(result.trials) > 3
    assert [gone for _, gone, _ in told] == sorted(gone for _, gone, _ in told)
    assert {budget for _, _, budget in told} == {2.0}


def test_what_was_chosen_before_is_tried_first() -> None:
    seconds = arbitrary_seconds(5)
    first = Search(seconds, budget=1e9, rounds=1, sweeps=1).run(tuned_decode())
    other = {"of another graph": Choice(trigger="end")}
    known = Tuning("GPU", choices={**first.tuning.choices, **other})
    again = Search(seconds, budget=1e9, rounds=1, sweeps=1).run(tuned_decode(), known)
    assert (again.trials[0].what, again.trials[0].verdict) == ("what was chosen before", "kept")
    assert seconds(again.graph) <= seconds(first.graph)
    assert (again.tuning.gpu, again.tuning.choices["of another graph"]) == ("GPU", Choice(trigger="end"))


def test_what_was_chosen_before_is_left_if_it_is_wrong_or_slow() -> None:
    start = tuned_decode()
    before = Search(arbitrary_seconds(5), budget=1e9, rounds=1, sweeps=1).run(start).tuning.choices
    assert before
    known = Tuning(choices={**before, "of another graph": Choice(trigger="end")})
    slow = Search(lambda graph: 1e-3 if graph is start else 2e-3, budget=1e9, rounds=1, sweeps=1).run(start, known)
    wrong = Search(lambda graph: 1e-3, lambda graph, _: "%y differs", budget=1e9, rounds=1, sweeps=1).run(start, known)
    for result, verdict in ((slow, "undone"), (wrong, "refused")):
        assert (result.trials[0].what, result.trials[0].verdict) == ("what was chosen before", verdict)
        assert result.graph is start
        assert set(result.tuning.choices) == {"of another graph"}

    # Nor is it tried if there is no time.
    clock = FakeClock(arbitrary_seconds(5), 0.001)
    untried = Search(clock.measure, budget=0.001, clock=clock).run(start, known)
    assert (untried.trials, untried.graph, set(untried.tuning.choices)) == ((), start, {"of another graph"})


def test_one_change_in_all_groups_is_tried_where_one_group_alone_loses() -> None:
    """The graph is fast if all grids are the same, and slow in between: no step of one group wins."""
    start = tuned_decode()

    def seconds(graph: Graph) -> float:
        now, then = launched_grids(graph), launched_grids(start)
        changed = [name for name, ctas in then.items() if ctas > 1 and now[name] != ctas]
        wanted = [name for name, ctas in then.items() if ctas > 1 and now[name] == 264]
        wide = [name for name, ctas in then.items() if ctas > 1]
        return 0.9e-3 if len(wanted) == len(wide) else 1e-3 + 1e-6 * len(changed)

    result = Search(seconds, rounds=1, budget=1e9, sweeps=1).run(start)
    assert result.tuned == 0.9e-3
    kept = [trial for trial in result.trials if trial.verdict == "kept"]
    assert kept[0].what == "264 CTAs"
    assert kept[0].group.endswith(" groups")


def test_joint_moves_are_those_that_several_groups_have() -> None:
    facts = group_facts(tuned_decode())
    found = list(joint_moves(facts, Tuning()))
    assert len({move.what for move in found}) == len(found) > 3
    for move in found:
        assert len(move.choices) > 1
        changed = Tuning(choices=move.choices)
        assert all(changed.choice(group) != Choice() for group in move.choices)
        assert move.keeps_bits == all(choice.launch is None for choice in move.choices.values())


def test_clusters_keep_their_number() -> None:
    facts = next(iter(group_facts(tuned_decode()).values()))
    clustered = replace(facts, launch=Launch((64, 1, 1), (128, 1, 1), cluster=(8, 1, 1)))
    launches = [move.choice.launch for move in moves(clustered, Choice()) if move.choice.launch is not None]
    found = {launch.cluster[0]: launch.grid[0] for launch in launches if launch.cluster is not None}
    assert found[4] == 32
    assert found[16] == 128
    assert {launch.block[0] for launch in launches} >= {64, 256}


def test_noise_is_not_kept() -> None:
    """Times that vary by 0.5 % at random, whatever is measured: hardly anything is kept, and nothing in the end."""
    chooser = random.Random(7)
    result = Search(lambda graph: chooser.gauss(1e-3, 5e-6), budget=1e9, sweeps=1).run(tuned_decode())
    kept = [trial for trial in result.trials if trial.verdict == "kept" and trial.group]
    assert len(kept) <= len(result.trials) // 50


def test_what_is_kept_is_confirmed_and_what_is_tried_was_prepared() -> None:
    start, prepared, tried = tuned_decode(), [], []
    seconds = arbitrary_seconds(2)

    def same(graph: Graph, reference: Graph | None) -> str:
        tried.append(seconds(graph))
        return ""

    search = Search(seconds, same, budget=1e9, rounds=1, sweeps=1)
    search.prepare = lambda graphs: prepared.extend(map(seconds, graphs))
    assert any(trial.verdict == "kept" for trial in search.run(start).trials)
    assert set(tried) <= set(prepared)
    search.confirm = lambda graph: "two replays are not the same"
    result = search.run(start)
    assert result.graph is start
    assert {trial.reason for trial in result.trials if trial.verdict == "refused"} == {"two replays are not the same"}


def test_the_heaviest_groups_come_first() -> None:
    trials = Search(lambda graph: 1e-3, rounds=1, budget=1e9, sweeps=1).run(tuned_decode()).trials
    facts = group_facts(tuned_decode())
    order = [group for group in dict.fromkeys(trial.group for trial in trials) if group in facts]
    weights = [facts[group].weight for group in order]
    assert weights == sorted(weights, reverse=True)


def test_moves_are_different_and_change_something() -> None:
    for facts in group_facts(tuned_decode()).values():
        found = list(moves(facts, Choice()))
        assert len({move.what for move in found}) == len(found)
        assert all(move.choice != Choice() for move in found)
        assert all(move.keeps_bits == (move.choice.launch is None) for move in found)


def test_only_launches_that_the_kernel_accepts_are_tried() -> None:
    for facts in group_facts(tuned_decode()).values():
        accepted = facts.kernel.launches
        assert accepted is not None
        launches = [move.choice.launch for move in moves(facts, Choice()) if move.choice.launch is not None]
        assert launches
        assert not any(accepted.refusal(launch) for launch in launches)
        narrow = replace(facts.kernel, launches=Launches(block=Span(*facts.launch.block[:1] * 2)))
        blocks = [m.choice.launch.block for m in moves(replace(facts, kernel=narrow), Choice()) if m.choice.launch]
        assert set(blocks) <= {facts.launch.block}
        silent = replace(facts, kernel=replace(facts.kernel, launches=None))
        assert all(move.choice.launch is None for move in moves(silent, Choice()))


def test_a_trial_in_brief_leaves_out_shapes() -> None:
    trial = Trial("pkg:add.cu#add(a: f32[8], y: f32[8])", "trigger at end", "kept", 2e-6, 1e-6)
    assert trial.brief == "add: trigger at end: 2.0 -> 1.0 us, kept"
    assert Trial("7 groups", "x", "refused", reason="no").brief == "7 groups: x: refused: no"

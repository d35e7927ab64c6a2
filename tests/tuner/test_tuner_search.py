"""The search: with made-up times, since what it must guarantee does not depend on what is measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.ir.diagnostics import ForerunError, Unsupported
from forerun.ir.graph import Graph
from forerun.ir.kernel import Phase, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import check
from forerun.passes.tuning import Choice, Tuning
from forerun.tuner import Search
from forerun.tuner.moves import group_facts, moves
from tests.tuner.tuning_samples import FakeClock, arbitrary_seconds, launched_grids, tuned_decode


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

    search = Search(seconds, lambda graph, exact: "%logits differs" if exact else "", budget=1e9, rounds=1, sweeps=1)
    result = search.run(start)
    refused = [trial for trial in result.trials if trial.verdict == "refused"]
    assert refused
    assert all(trial.reason == "%logits differs" for trial in refused)
    assert not any("trigger" in trial.what for trial in result.trials if trial.verdict == "kept")
    assert "refused: %logits differs" in str(refused[0])
    nothing = Search(seconds, lambda graph, exact: "all differs", budget=1e9, rounds=1, sweeps=1).run(start)
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


def test_the_search_starts_where_a_tuning_is() -> None:
    seconds = arbitrary_seconds(5)
    first = Search(seconds, budget=1e9, rounds=1, sweeps=1).run(tuned_decode())
    again = Search(seconds, budget=1e9, rounds=1, sweeps=1).run(tuned_decode(), Tuning(choices=first.tuning.choices))
    assert seconds(again.graph) <= seconds(first.graph)


def test_moves_are_different_and_change_something() -> None:
    for facts in group_facts(tuned_decode()).values():
        found = list(moves(facts, Choice()))
        assert len({move.what for move in found}) == len(found)
        assert all(move.choice != Choice() for move in found)
        assert all(move.keeps_bits == (move.choice.launch is None) for move in found)

"""A cache of captures: which optimized graph a capture gets, and that each replay is exactly that of the capture."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import forerun
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.runtime.plans import Choice, Costs, Offer, Policy
from forerun.support.diagnostics import ForerunError, InvalidInput
from tests.external.captures import OTHER, Program, Spec, changes, program, specs
from tests.runtime.cuda.capture.fake import handle

FIRST, SECOND, FILL = Spec(), Spec(blocks=("w1", "y", "z")), Spec(0, factor=7)
CHAIN = [FIRST, SECOND, FILL]


def cache(**options: Any) -> forerun.CaptureCache:
    return forerun.CaptureCache(pipeline=CAPTURED_PIPELINE, **options)


def launched(found: Program) -> tuple[Any, ...]:
    """What the last replay launched."""
    executable = [call[1] for call in found.cuda.calls if call[0] == "cuGraphLaunch"][-1]
    return found.cuda.state(executable)


def from_scratch(found: Program, captured: Any) -> tuple[Any, ...] | type[Exception]:
    """What optimizing a capture makes; or the error with which it is refused."""
    try:
        with forerun.optimize(captured, pipeline=CAPTURED_PIPELINE) as graph:
            return found.cuda.state(graph._rewritten.clone.executable)
    except ForerunError as error:
        return type(error)


class Captures:
    """Captures of a program, whose graphs are all still there: the fake driver has the nodes of one at a time."""

    def __init__(self, found: Program, kept: forerun.CaptureCache) -> None:
        self.found, self.kept = found, kept
        self.all: list[tuple[Any, list[Spec]]] = []

    def add(self, nodes: list[Spec]) -> int:
        self.all.append((self.found.capture(nodes), nodes))
        return len(self.all) - 1

    def replay(self, number: int) -> None:
        captured, nodes = self.all[number]
        self.found.put(nodes, first=min(map(int, captured.handles.nodes)))
        self.kept.replay(captured, stream=4)


class Scripted(Policy):
    """Builds or updates as it is told, where both can be done."""

    def __init__(self, builds: list[bool]) -> None:
        super().__init__(lambda: 0.0)
        self.builds = builds

    def choose(self, offer: Offer) -> Choice:
        assert not offer.can_stream
        if offer.changed == 0:
            return Choice.REUSE
        return Choice.BUILD if offer.changed is None or (self.builds and self.builds.pop()) else Choice.UPDATE


@given(st.data())
def test_a_replay_launches_what_optimizing_from_scratch_makes(data: st.DataObject) -> None:
    with program() as found:
        policy = Scripted(data.draw(st.lists(st.booleans(), max_size=4)))
        nodes, expected = data.draw(specs()), list[Any]()
        with cache(most=data.draw(st.integers(1, 3)), policy=policy) as kept:
            captures = Captures(found, kept)
            for _ in range(data.draw(st.integers(1, 6))):
                if expected and data.draw(st.booleans()):
                    number = data.draw(st.integers(0, len(expected) - 1))
                else:
                    nodes = data.draw(changes(nodes)) if expected else nodes
                    number = captures.add(nodes)
                    expected.append(from_scratch(found, captures.all[number][0]))
                if isinstance(expected[number], type):
                    with pytest.raises(expected[number]):
                        captures.replay(number)
                    continue
                captures.replay(number)
                assert launched(found) == expected[number]
            event(f"evicted: {kept.statistics.evicted > 0}, {[str(choice) for choice in kept.statistics.choices]}")
        assert captures.all[0][0].driver.handles.live() == ()


def test_a_graph_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with program() as found, cache() as kept:
        monkeypatch.setattr("forerun.runtime.cuda.capture.session._latest", found.session)
        read = found.session.graph
        reads: list[Any] = []
        monkeypatch.setattr(found.session, "graph", lambda source: reads.append(source) or read(source))
        found.put(CHAIN)
        graph = handle(3)
        for _ in range(3):
            kept.replay(graph, stream=4)
        assert (len(reads), len(kept), kept.statistics.choices) == (1, 1, {"build": 1, "reuse": 2})
        kept.replay(handle(3), stream=4)  # another object, which may be another graph under the same handle
        kept.replay(3, stream=4)
        kept.replay(3, stream=4)
        assert (len(reads), len(kept)) == (4, 1)


def test_captures_that_run_the_same_share_an_optimized_graph() -> None:
    with program() as found, cache() as kept:
        for _ in range(3):
            kept.replay(found.capture(CHAIN), stream=4)
        assert (len(kept), kept.statistics.choices) == (1, {"build": 1, "reuse": 2})
        kept.replay(found.capture([FIRST, replace(SECOND, factor=9), FILL]), stream=4)
        assert (len(kept), kept.statistics.choices["update"]) == (1, 1)
        assert list(kept.statistics.recent) == ["optimized", "parameters: parameter 4 changed at n1"]
        (graph,) = kept.graphs
        assert "n1" in graph.graph.nodes


def test_what_an_update_cannot_set_is_another_graph() -> None:
    with program() as found, cache() as kept:
        for nodes in (CHAIN, [FIRST, replace(SECOND, function=OTHER), FILL], [FIRST, SECOND], CHAIN):
            kept.replay(found.capture(nodes), stream=4)
        assert (len(kept), kept.statistics.choices) == (3, {"build": 3, "reuse": 1})


def test_the_graph_that_differs_least_is_changed() -> None:
    with program() as found, cache(policy=Scripted([True])) as kept:
        kept.replay(found.capture(CHAIN), stream=4)
        kept.replay(found.capture([replace(FIRST, factor=5), replace(SECOND, factor=5), FILL]), stream=4)
        far, near = kept.graphs
        kept.replay(found.capture([replace(FIRST, factor=5), replace(SECOND, factor=6), FILL]), stream=4)
        assert kept.graphs == (far, near)
        assert kept.statistics.recent[-1] == "parameters: parameter 4 changed at n1"
        kept.replay(found.capture([FIRST, SECOND, FILL]), stream=4)
        assert kept.graphs == (near, far)


def test_captures_that_come_again_get_graphs_of_their_own() -> None:
    """By a clock that an update takes a second of, and a build two; the replays of either are nothing beside."""
    now = [0.0]
    policy = Policy(lambda: now[0], Costs(build=2.0, update=1.0, replay=0.0, launch=0.0))
    with program() as found, pytest.MonkeyPatch.context() as patch, cache(policy=policy) as kept:
        update, build = forerun.OptimizedGraph.update, forerun.optimize

        def spent(seconds: float, work: Any) -> Any:
            return lambda *args, **options: (now.__setitem__(0, now[0] + seconds), work(*args, **options))[1]

        patch.setattr(forerun.OptimizedGraph, "update", spent(1.0, update))
        patch.setattr("forerun.external.cache.optimize", spent(2.0, build))
        captures = Captures(found, kept)
        for factor in (1, 2):
            captures.add([replace(FIRST, factor=factor), SECOND])
        for number in range(20):
            captures.replay(number % 2)
        assert len(kept) == 2
        assert kept.statistics.choices["build"] == 2
        assert kept.statistics.choices["update"] < 5


def test_the_least_recently_used_goes() -> None:
    with program() as found, cache(most=2) as kept:
        captures = Captures(found, kept)
        for nodes in ([FIRST], CHAIN[:2], CHAIN):
            captures.add(nodes)
        for number in (0, 1, 0, 2):
            captures.replay(number)
        assert [len(graph.graph) for graph in kept.graphs] == [1, 3]
        assert kept.statistics.evicted == 1
        assert len(found.cuda.executables) == 2
    assert not found.cuda.executables
    assert captures.all[0][0].driver.handles.live() == ()


def test_what_is_refused_changes_nothing() -> None:
    with program() as found, cache(most=1) as kept:
        good = found.capture([FIRST, SECOND])
        kept.replay(good, stream=4)
        before = launched(found)
        found.put([FIRST, SECOND], first=9001)
        found.cuda.edges.clear()
        with pytest.raises(forerun.Refuted):
            kept.replay(found.session.graph(handle(77)), stream=4)
        kept.replay(good, stream=4)
        assert launched(found) == before
        calls = Counter(call[0] for call in found.cuda.calls)
        assert (len(kept), calls["cuGraphInstantiate"]) == (1, 1)


def test_wrong_uses() -> None:
    for most in (0, -1, True, None, "8", 1.5):
        with pytest.raises(InvalidInput, match=f"a number of captures, not {most!r}"):
            cache(most=most)
    with program() as found:
        kept = cache()
        with pytest.raises(InvalidInput, match="is not a CUDA graph"):
            kept.replay("graph")
        kept.close()
        kept.close()
        with pytest.raises(InvalidInput, match="the cache of captures is closed"):
            kept.replay(found.capture(CHAIN))
        with pytest.raises(InvalidInput, match="is closed"), kept:
            pytest.fail("it is closed")
        assert (len(kept), kept.graphs) == (0, ())

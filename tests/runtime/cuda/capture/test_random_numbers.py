"""Clones of torch's graphs draw the random numbers that torch's own replay draws, or are refused."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from typing import Any

import pytest

import forerun
from forerun.captured.graph import CapturedNode, MemoryRange
from forerun.runtime.cuda.capture import memory as memories
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.random_numbers import GeneratorAdvance, may_draw, random_numbers, state_words
from forerun.runtime.cuda.capture.restored import _Source
from forerun.runtime.cuda.capture.saved_memory import SavedMemory
from forerun.runtime.cuda.capture.session import CaptureSession, LiveCapture
from forerun.runtime.cuda.driver.driver import Driver
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.captured.samples import BLOCKS, SIZE, captured, kernel
from tests.runtime.cuda.capture.fake_random import (
    OFFSET,
    OUTPUT,
    SEED,
    FakeGenerator,
    RandomCuda,
    State,
    TorchGraph,
    fake_torch,
)


def live(cuda: RandomCuda, source: Any) -> LiveCapture:
    return CaptureSession(ImageRecorder(), NvrtcRecorder(), Driver(cuda), started_late=False).graph(source)


def observed(cuda: RandomCuda, graph: TorchGraph, *defaults: FakeGenerator) -> tuple[GeneratorAdvance, ...]:
    found = live(cuda, graph)
    with SavedMemory(found.driver, [MemoryRange(OUTPUT, SIZE)]) as memory:
        advances = random_numbers(found, memory, plain=5, torch=fake_torch(*defaults))
    assert found.driver.handles.live() == ()
    return advances


def test_seed_offset_and_increment_are_observed() -> None:
    cuda, state = RandomCuda(), State(seed=7, offset=100)
    advances = observed(cuda, TorchGraph(cuda, [state]), FakeGenerator(State(1, 4)), FakeGenerator(state))
    (found,) = advances
    assert (found.increment, found.seeds, found.offsets) == (8, (SEED,), (OFFSET,))
    # Neither the program's generators nor its memory are other than before.
    assert (state.seed, state.offset) == (7, 100)
    assert cuda.memory[OUTPUT] == 33


def test_a_clone_draws_what_torch_draws() -> None:
    cuda, state = RandomCuda(), State(seed=(1 << 64) - 3, offset=(1 << 33) + 4)
    graph = TorchGraph(cuda, [state])
    generator = FakeGenerator(state)
    (found,) = observed(cuda, graph, generator)
    expected = []
    for _ in range(3):
        graph.replay()
        expected.append((cuda.memory[OUTPUT], state.offset))
    state.offset = (1 << 33) + 4
    # The graph draws from the state that it was captured with, whatever the default generator becomes.
    generator.graphsafe_set_state(FakeGenerator(State(0, 0)))
    for value in expected:
        found.prepare(Driver(cuda), stream=9)
        cuda.run()
        assert (cuda.memory[OUTPUT], state.offset) == value


def test_what_draws_nothing_is_left_alone() -> None:
    cuda, state = RandomCuda(), State(5, 8)
    assert observed(cuda, TorchGraph(cuda, [state], increment=0), FakeGenerator(state)) == ()
    assert (state.seed, state.offset) == (5, 8)


def test_results_that_are_never_the_same_are_not_random_numbers() -> None:
    cuda, state, count = RandomCuda(), State(5, 8), itertools.count()

    def atomics() -> None:
        cuda.memory[OUTPUT] = next(count)

    cuda.after_launch = atomics
    assert observed(cuda, TorchGraph(cuda, [state], increment=0), FakeGenerator(state)) == ()
    (found,) = observed(cuda, TorchGraph(cuda, [state]), FakeGenerator(state))
    assert found.increment == 8


def test_another_generator_is_refused() -> None:
    cuda, own = RandomCuda(), State(5, 8)
    with pytest.raises(Unsupported, match="may draw from another generator") as caught:
        observed(cuda, TorchGraph(cuda, [own]), FakeGenerator(State(1, 0)))
    assert "draw them before the graph" in str(caught.value)


def test_what_cannot_be_found_is_refused() -> None:
    cuda, state = RandomCuda(), State(5, 8)
    cuda.add_kernel(1, 7, *(BLOCKS[name].to_bytes(8, "little") for name in ("x", "z", "y")))
    with pytest.raises(Unsupported, match="no parameter points to the seed and the offset"):
        observed(cuda, TorchGraph(cuda, [state]), FakeGenerator(state))
    assert (state.seed, state.offset) == (5, 8)


def test_a_clone_that_stores_something_else_is_refused() -> None:
    cuda, state = RandomCuda(), State(5, 8)
    graph = TorchGraph(cuda, [state])
    own = graph.replay

    def replay() -> None:
        own()
        cuda.memory[OUTPUT] ^= 1  # something that only torch's replay does

    graph.replay = replay  # type: ignore[method-assign]
    with pytest.raises(Unsupported, match="a clone with the same seeds and offsets stores something else"):
        observed(cuda, graph, FakeGenerator(state))


def test_where_states_may_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    at = BLOCKS["x"]
    places = {
        "small": at,
        "second": at + 520,
        "large": at + 1024,
        "gone": at + 4096,
        "odd": at + 4,
        "none": BLOCKS["z"],
    }
    blocks = [
        {"address": at, "size": 512, "requested_size": 8, "state": "active_allocated"},
        {"address": at + 512, "size": 512, "requested_size": 16, "state": "active_allocated"},
        {"address": at + 1024, "size": 3072, "requested_size": 3000, "state": "active_allocated"},
        {"address": at + 4096, "size": 512, "requested_size": 8, "state": "inactive"},
    ]
    segment = {"address": at, "total_size": SIZE, "blocks": blocks}
    monkeypatch.setattr("forerun.runtime.cuda.capture.random_numbers.torch_segments", lambda: [segment])
    values = tuple(place.to_bytes(8, "little") for place in places.values())
    struct = b"".join(values)
    graph = captured([kernel("scale")], [CapturedNode("kernel", 0, parameters=(struct,))])
    assert state_words(graph) == (places["small"], places["second"], places["none"])
    body = CapturedNode("graph", body=graph)
    assert state_words(captured([], [body])) == state_words(graph)


def test_segments_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert memories.torch_segments() == []


def test_a_restored_graph_draws_nothing_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, state = RandomCuda(), State(seed=3, offset=12)
    monkeypatch.setitem(sys.modules, "torch", fake_torch(FakeGenerator(state)))
    found = live(cuda, TorchGraph(cuda, [state]))
    assert may_draw(found)
    assert not may_draw(replace(found, source=_Source(handle=3)))


def test_an_optimized_graph_draws_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, state = RandomCuda(), State(seed=3, offset=12)
    graph = TorchGraph(cuda, [state])
    monkeypatch.setitem(sys.modules, "torch", fake_torch(FakeGenerator(state)))
    found = live(cuda, graph)
    with forerun.optimize(found, pipeline="insert-pdl") as optimized:
        assert (state.seed, state.offset) == (3, 12)
        graph.replay()
        expected = cuda.memory[OUTPUT], state.offset
        state.offset = 12
        optimized.replay()
        assert (cuda.memory[OUTPUT], state.offset) == expected
        # Nothing is advanced for a replay that is refused.
        graph.reset()
        with pytest.raises(InvalidInput, match="was reset"):
            optimized.replay()
        # The driver may give the handle out again: the pool tells the captures apart.
        graph.raw.append(3)
        optimized.replay()
        graph.number += 1
        with pytest.raises(InvalidInput, match="was reset"):
            optimized.replay()
        assert state.offset == expected[1] + 8
    assert found.driver.handles.live() == ()


def test_an_optimize_that_is_refused_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = RandomCuda()
    graph = TorchGraph(cuda, [State(5, 8)])
    monkeypatch.setitem(sys.modules, "torch", fake_torch(FakeGenerator(State(1, 0))))
    found = live(cuda, graph)
    with pytest.raises(Unsupported, match="another generator"):
        forerun.optimize(found, pipeline="insert-pdl")
    assert found.driver.handles.live() == ()

"""Constants of several plans under load: any sequence of graphs, calls that fail, little memory, several threads."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.plans import PlanCache
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.faults import Faults
from tests.runtime.cuda.support import attempt, on_fake
from tests.runtime.plans.constants import (
    TARGETS,
    added,
    expected,
    in_memory,
    on_device,
    run,
    uploading,
    wanted_by,
)
from tests.runtime.plans.fake import UpdatableCuda, fake_gpu
from tests.runtime.plans.test_cache import PLENTY, plans_only
from tests.strategies import portion

VALUES_OF_THREADS = ((0, 1), (1, 2), (2, 3), (3, 0), (0, 1, 2, 3))
VALUES = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from([2, 4, 80]), VALUES, st.booleans()),
        st.tuples(st.just("evict"), st.integers(0, 1)),
        st.tuples(st.just("hold"), st.integers(0, 3)),
        st.tuples(st.just("drop")),
    ),
    max_size=12,
)


def follow(target: str, steps: Any) -> None:
    held: list[Any] = []
    kept: set[bytes] = set()
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        for step in steps:
            match step:
                case "run", count, values, folded:
                    graph = (uploading if folded else added)(count, *values)
                    assert run(cache, graph) == expected(graph, *values)
                case "evict", least:
                    while len(cache) > least:
                        assert cache._kept._evict_one()
                case "hold", number if cache._kept.entries and target == "cuda":
                    plan = cache._kept.entries[number % len(cache)].plan
                    name, data = next(iter(on_device(plan.graph).items()))
                    held.append(plan.buffer(name))
                    kept.add(data)
                case ("drop",):
                    held.clear()
                    kept.clear()
                case _:
                    pass
            cache._kept._sources.sweep()
            assert in_memory(cache) == wanted_by(cache) | kept
            least = sum(map(len, in_memory(cache)))
            assert cache.constant_bytes >= least
            if target == "reference":
                assert cache.constant_bytes == least
            if not in_memory(cache):
                assert cache.constant_bytes == 0
        event(f"shared: {cache.statistics.constants.shared > 0}, evicted: {cache.statistics.evicted > 0}")
    assert cache.constant_bytes == 0


@settings(deadline=None)
@given(STEPS)
def test_any_sequence_on_the_reference_target(steps: Any) -> None:
    follow("reference", steps)


@settings(portion(40), deadline=None)
@given(STEPS)
def test_any_sequence_on_a_gpu(steps: Any) -> None:
    with pytest.MonkeyPatch.context() as patch, fake_gpu(patch) as (api, own):
        follow("cuda", steps)
        gc.collect()
        assert (api.leaks(), own.handles.live()) == ({}, ())


# What goes wrong


def exercise() -> None:
    """Graphs that share some constants, one after the other, of which the first is thrown away."""
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        for values in ((1, 2), (2, 3), (3, 1, 4)):
            assert run(cache, added(4, *values)) == [i + sum(values) for i in range(4)]
            while len(cache) > 1:
                assert cache._kept._evict_one()
        assert in_memory(cache) == wanted_by(cache)


def test_every_call_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    api = UpdatableCuda()
    faults = Faults(api)
    with on_fake(monkeypatch, faults) as own:
        exercise()
        calls = list(faults.names)
        for number, name in enumerate(calls, 1):
            own.release_contexts()
            faults.arm(number)
            error = attempt(exercise)
            assert error is None or isinstance(error, CudaError | Unsupported), (name, error)
            faults.arm(0)
            del error
            gc.collect()
            assert (api.leaks(), own.handles.live()) == ({}, ()), f"call {number}, {name}"
        exercise()
    assert len(calls) > 100


def test_constants_that_there_is_no_room_for(api: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        run(cache, added(4, 1))
        api.capacity = api._used() + ALLOCATION_ALIGNMENT
        with pytest.raises(CudaError, match="768 bytes were asked for constants"):
            run(cache, added(4, 1, 2, 3, 4))
        assert in_memory(cache) == wanted_by(cache)
        assert cache.statistics.constants.uploaded == 16
        api.capacity = PLENTY
        assert run(cache, added(4, 1, 2, 3, 4)) == expected(added(4, 1), 10)


@pytest.mark.parametrize("target", TARGETS)
def test_many_graphs_stay_within_the_budget(target: str, request: pytest.FixtureRequest) -> None:
    """Each has a constant that no other one has, and one of its neighbour's."""
    if target == "cuda":
        request.getfixturevalue("api")
    with PlanCache(target, budget=20_000 if target == "cuda" else 400, policy=plans_only()) as cache:
        for number in range(60):
            graph = uploading(1 + number // 10, number, number + 1)
            assert run(cache, graph) == expected(graph, 2 * number + 1)
            assert cache.size_bytes <= cache.budget
            assert in_memory(cache) == wanted_by(cache)
        assert cache.statistics.evicted > 30
        assert cache.statistics.constants.shared > 0


def test_threads_on_one_cache() -> None:
    graphs = [added(4, *values) for values in VALUES_OF_THREADS]
    wanted = [expected(graph, *values) for graph, values in zip(graphs, VALUES_OF_THREADS, strict=True)]
    wrong: list[object] = []
    with PlanCache(budget=400, policy=plans_only()) as cache:

        def work(seed: int) -> None:
            try:
                for which in np.random.default_rng(seed).integers(0, len(graphs), 30):
                    cache.expected_bytes(graphs[which])
                    if run(cache, graphs[which]) != wanted[which]:
                        wrong.append(which)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        cache._kept._sources.sweep()
        assert in_memory(cache) == wanted_by(cache)

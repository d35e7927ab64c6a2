"""Constants of several plans: equal contents lie in memory once, exactly as long as a plan uses them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.ir.graph import Graph
from forerun.ir.nodes import MemcpyNode
from forerun.ir.types import DEVICE0
from forerun.kernels.builtin import KERNELS
from forerun.passes.fold_params import FoldParams
from forerun.passes.infra.base import PassContext
from forerun.runtime.constants import HeldConstant, SharedConstants
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.plans import Choice, Plan, PlanCache
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda.faults import Faults
from tests.runtime.cuda.support import attempt, on_fake
from tests.runtime.plans.fake import UpdatableCuda, fake_gpu
from tests.runtime.plans.test_cache import PLENTY, plans_only
from tests.strategies import portion

TARGETS = ("reference", "cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[UpdatableCuda]:
    with fake_gpu(monkeypatch) as (api, driver):
        yield api
        gc.collect()
        assert (api.leaks(), driver.handles.live()) == ({}, ())


def added(count: int, *values: int, name: str = "k") -> Graph:
    """``y = x + v0 + v1 + ...``, where each number is a constant array of as many elements on the device."""
    builder = forerun.GraphBuilder(f"batch of {count}")
    before, y = builder.input("x", "i32", count), builder.output("y", "i32", count)
    for number, value in enumerate(values):
        after = y if number + 1 == len(values) else builder.temp(f"t{number}", "i32", count)
        constant = builder.constant(f"{name}{number}", "i32", [value] * count, place=DEVICE0)
        builder.launch(KERNELS["add_i32"], a=before, b=constant, y=after)
        before = after
    return builder.build()


def uploading(count: int, *values: int) -> Graph:
    """The same, of constants on the host that are copied before each launch, without these copies."""
    builder = forerun.GraphBuilder(f"batch of {count}")
    before, y = builder.input("x", "i32", count), builder.output("y", "i32", count)
    for number, value in enumerate(values):
        after = y if number + 1 == len(values) else builder.temp(f"t{number}", "i32", count)
        builder.constant(f"k{number}", "i32", [value] * count)
        builder.copy(f"k{number}", builder.temp(f"p{number}", "i32", count))
        builder.launch(KERNELS["add_i32"], a=before, b=f"p{number}", y=after)
        before = after
    folded = FoldParams().apply(builder.build(), PassContext(FoldParams()))
    assert not [node for node in folded if isinstance(node, MemcpyNode)]
    return folded


def on_device(graph: Graph) -> dict[str, bytes]:
    """What a graph's constants on the device hold, by name."""
    places = {name: one.place.kind for name, one in graph.allocations.items()}
    found = (b for b in graph.buffers.values() if places[b.allocation] == "device")
    return {b.name: b.contents for b in found if b.contents is not None}


def contents(graph: Graph) -> set[bytes]:
    """What a graph's constants on the device hold."""
    return set(on_device(graph).values())


def run(cache: PlanCache | Plan, graph: Graph) -> list[int]:
    inputs = {"x": np.arange(graph.buffers["x"].count, dtype=np.int32)}
    return (cache.run(graph, inputs) if isinstance(cache, PlanCache) else cache.run(inputs))["y"].tolist()  # type: ignore[no-any-return]


def expected(graph: Graph, *values: int) -> list[int]:
    return [i + sum(values) for i in range(graph.buffers["x"].count)]


def wanted_by(cache: PlanCache) -> set[bytes]:
    """What the plans of a cache use."""
    return set().union(*(contents(entry.plan.graph) for entry in cache._kept.entries))


def in_memory(cache: PlanCache) -> frozenset[bytes]:
    return cache._kept._sources.constants()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [added, uploading])
def test_equal_constants_of_two_graphs_are_brought_once(target: str, make: Any, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("gpu")
    first, second = make(4, 10, 20), make(4, 20, 30, 10)
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        assert run(cache, first) == expected(first, 10, 20)
        assert (cache.statistics.constants.uploaded, cache.statistics.constants.shared) == (32, 0)
        assert run(cache, second) == expected(second, 60)
        assert (cache.statistics.constants.uploaded, cache.statistics.constants.shared) == (48, 32)
        assert in_memory(cache) == wanted_by(cache)
        assert len(in_memory(cache)) == 3
        assert cache.constant_bytes == (48 if target == "reference" else 3 * ALLOCATION_ALIGNMENT)
        assert run(cache, first) == expected(first, 30)
    assert cache.constant_bytes == 0


@pytest.mark.parametrize("target", TARGETS)
def test_one_name_may_stand_for_other_constants(target: str, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("gpu")
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        for value in (1, 2, 1, 3):
            assert run(cache, added(4, value)) == expected(added(4, value), value)


@pytest.mark.parametrize("target", TARGETS)
def test_a_name_may_be_a_weight_here_and_a_constant_there(target: str, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("gpu")
    builder = forerun.GraphBuilder("weighted")
    x, y, weight = builder.input("x", "i32", 4), builder.output("y", "i32", 4), builder.weight("k0", "i32", 4)
    builder.launch(KERNELS["add_i32"], a=x, b=weight, y=y)
    weighted = builder.build()
    weights = {"k0": np.full(4, 5, np.int32)}
    with PlanCache(target, weights=weights, budget=PLENTY, policy=plans_only()) as cache:
        for graph, value in ((weighted, 5), (added(4, 7), 7), (weighted, 5), (added(4, 8), 8)):
            assert run(cache, graph) == expected(graph, value)


@pytest.mark.parametrize("target", TARGETS)
def test_a_plan_brings_constants_that_stay_only_once(target: str, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("gpu")
    with Plan(added(4, 1, 2), target) as plan:
        before = plan.size_bytes
        plan.update(added(4, 2, 3))
        assert run(plan, plan.graph) == expected(plan.graph, 5)
        assert plan._sources.constants() == contents(plan.graph)
        assert (plan._sources.statistics.uploaded, plan._sources.statistics.shared) == (48, 16)
        assert plan.size_bytes >= before


def test_a_closed_plan_leaves_arrays_of_its_constants_alone(gpu: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        run(cache, added(4, 9))
        (entry,) = cache._kept.entries
        array = entry.plan.buffer("k0")
        capsule = entry.plan.buffer("k0").__dlpack__(stream=-1)
        del entry
        assert cache._kept._evict_one()
        run(cache, added(4, 1, 2))
        assert array.numpy().tolist() == [9] * 4
        assert in_memory(cache) == wanted_by(cache) | {np.full(4, 9, np.int32).tobytes()}
        del array
        gc.collect()
        assert len(in_memory(cache)) == 3  # the capsule has it
        del capsule
        gc.collect()
        assert in_memory(cache) == wanted_by(cache)


@pytest.mark.parametrize("target", TARGETS)
def test_a_closed_program_holds_no_constants(target: str, request: pytest.FixtureRequest) -> None:
    """Although somebody holds the program itself: a traceback, say."""
    if target == "cuda":
        request.getfixturevalue("gpu")
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        run(cache, added(4, 1, 2))
        program = cache._kept.entries[0].plan._program
        assert cache._kept._evict_one()
        assert (in_memory(cache), cache.constant_bytes) == (frozenset(), 0)
        assert program is not None


def test_arrays_of_constants_outlive_the_cache(gpu: UpdatableCuda) -> None:
    cache = PlanCache("cuda", budget=PLENTY, policy=plans_only())
    run(cache, added(4, 9))
    array = cache._kept.entries[0].plan.buffer("k0")
    cache.close()
    cache.close()
    assert array.numpy().tolist() == [9] * 4


def test_a_budget_without_room_for_what_others_hold(gpu: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        run(cache, added(4, 1, 2))
        array = cache._kept.entries[0].plan.buffer("k0")
        cache.budget = cache.expected_bytes(added(4, 3, 4)) + ALLOCATION_ALIGNMENT
        with pytest.raises(InvalidInput, match="are taken by what others use"):
            run(cache, added(4, 3, 4))
        assert array.numpy().tolist() == [1] * 4


def test_a_constant_of_the_callers_own_is_refused_as_before() -> None:
    graph = added(4, 1)
    for wrong in (np.full(4, 1, np.int32), HeldConstant(bytes(16), np.zeros(16, np.uint8))):
        with pytest.raises(InvalidInput, match="the graph says what it holds"):
            forerun.ReferenceTarget().load(graph, {"k0": wrong})
        with pytest.raises(InvalidInput, match="the graph says what it holds"):
            Plan(graph, weights={"k0": wrong})


def test_nothing_is_made_for_graphs_without_constants() -> None:
    shared = SharedConstants(SimpleNamespace(constant_alignment=1))  # type: ignore[arg-type]  # not asked for memory
    builder = forerun.GraphBuilder("plain")
    builder.launch(KERNELS["copy_i32"], x=builder.input("x", "i32", 4), y=builder.output("y", "i32", 4))
    graph = builder.build()
    assert (shared.hold(graph), shared.missing_bytes(graph), shared.size_bytes) == ({}, 0, 0)
    shared.sweep()
    shared.close()
    shared.close()


def test_a_target_that_shares_nothing() -> None:
    class Alone:
        name = "alone"

        def load(self, graph: Graph, weights: Any) -> Any:
            return forerun.ReferenceTarget().load(graph, weights)

    with PlanCache(Alone(), budget=PLENTY) as cache:
        for value in (1, 2, 1):
            assert run(cache, added(4, value)) == expected(added(4, value), value)
        assert (cache.constant_bytes, in_memory(cache), cache.statistics.constants.uploaded) == (0, frozenset(), 0)


def test_a_cache_that_is_forgotten_gives_everything_back(gpu: UpdatableCuda) -> None:
    cache = PlanCache("cuda", budget=PLENTY, policy=plans_only())
    run(cache, added(4, 1, 2))
    del cache
    gc.collect()
    assert gpu.leaks() == {}


def test_graphs_that_run_once(gpu: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY) as cache:
        for values in ((1, 2), (2, 3), (1, 2)):
            assert run(cache, added(4, *values)) == expected(added(4, *values), *values)
        assert Choice.STREAM in cache.statistics.choices
        assert (cache.statistics.constants.uploaded, in_memory(cache)) == (48, wanted_by(cache))


# Any sequence

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


def test_constants_that_there_is_no_room_for(gpu: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        run(cache, added(4, 1))
        gpu.capacity = gpu._used() + ALLOCATION_ALIGNMENT
        with pytest.raises(CudaError, match="768 bytes were asked for constants"):
            run(cache, added(4, 1, 2, 3, 4))
        assert in_memory(cache) == wanted_by(cache)
        assert cache.statistics.constants.uploaded == 16
        gpu.capacity = PLENTY
        assert run(cache, added(4, 1, 2, 3, 4)) == expected(added(4, 1), 10)


@pytest.mark.parametrize("target", TARGETS)
def test_many_graphs_stay_within_the_budget(target: str, request: pytest.FixtureRequest) -> None:
    """Each has a constant that no other one has, and one of its neighbour's."""
    if target == "cuda":
        request.getfixturevalue("gpu")
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

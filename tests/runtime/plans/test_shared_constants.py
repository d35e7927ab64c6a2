"""Constants of several plans: equal contents lie in memory once, exactly as long as a plan uses them."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.ir.graph import Graph
from forerun.kernels.builtin import KERNELS
from forerun.runtime.constants import HeldConstant, SharedConstants
from forerun.runtime.plans import Choice, Plan, PlanCache
from forerun.support.diagnostics import InvalidInput
from tests.runtime.plans.constants import (
    TARGETS,
    added,
    contents,
    expected,
    in_memory,
    run,
    uploading,
    wanted_by,
)
from tests.runtime.plans.fake import UpdatableCuda
from tests.runtime.plans.test_cache import PLENTY, plans_only


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [added, uploading])
def test_equal_constants_of_two_graphs_are_brought_once(target: str, make: Any, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("api")
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
        request.getfixturevalue("api")
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        for value in (1, 2, 1, 3):
            assert run(cache, added(4, value)) == expected(added(4, value), value)


@pytest.mark.parametrize("target", TARGETS)
def test_a_name_may_be_a_weight_here_and_a_constant_there(target: str, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("api")
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
        request.getfixturevalue("api")
    with Plan(added(4, 1, 2), target) as plan:
        before = plan.size_bytes
        plan.update(added(4, 2, 3))
        assert run(plan, plan.graph) == expected(plan.graph, 5)
        assert plan._sources.constants() == contents(plan.graph)
        assert (plan._sources.statistics.uploaded, plan._sources.statistics.shared) == (48, 16)
        assert plan.size_bytes >= before


def test_a_closed_plan_leaves_arrays_of_its_constants_alone(api: UpdatableCuda) -> None:
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
        request.getfixturevalue("api")
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        run(cache, added(4, 1, 2))
        program = cache._kept.entries[0].plan._program
        assert cache._kept._evict_one()
        assert (in_memory(cache), cache.constant_bytes) == (frozenset(), 0)
        assert program is not None


def test_arrays_of_constants_outlive_the_cache(api: UpdatableCuda) -> None:
    cache = PlanCache("cuda", budget=PLENTY, policy=plans_only())
    run(cache, added(4, 9))
    array = cache._kept.entries[0].plan.buffer("k0")
    cache.close()
    cache.close()
    assert array.numpy().tolist() == [9] * 4


def test_a_budget_without_room_for_what_others_hold(api: UpdatableCuda) -> None:
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


def test_a_cache_that_is_forgotten_gives_everything_back(api: UpdatableCuda) -> None:
    cache = PlanCache("cuda", budget=PLENTY, policy=plans_only())
    run(cache, added(4, 1, 2))
    del cache
    gc.collect()
    assert api.leaks() == {}


def test_graphs_that_run_once(api: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY) as cache:
        for values in ((1, 2), (2, 3), (1, 2)):
            assert run(cache, added(4, *values)) == expected(added(4, *values), *values)
        assert Choice.STREAM in cache.statistics.choices
        assert (cache.statistics.constants.uploaded, in_memory(cache)) == (48, wanted_by(cache))

"""Caches of plans: which plan a graph gets, within a budget, from many threads, with state that goes on."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode
from forerun.runtime.plans import Choice, Costs, Offer, Plan, PlanCache, Policy
from forerun.runtime.plans.plan import memory_bytes
from forerun.support.diagnostics import InvalidInput, Refuted, Unsupported
from tests.runtime.cuda.support import loop, rich
from tests.runtime.plans.fake import NODE_BYTES, UpdatableCuda
from tests.runtime.plans.samples import N, chain, decode, scale, total, with_argument, with_edge, with_launch
from tests.strategies import portion

X = {"x": [1, 2, 3, 4]}
PLENTY = 1 << 24


class PlansOnly(Policy):
    """Launches nothing on the stream."""

    def choose(self, offer: Offer) -> Choice:
        return super().choose(replace(offer, can_stream=False))


def plans_only() -> Policy:
    return PlansOnly(time.perf_counter)


def sized(count: int, factor: int = 2) -> Graph:
    builder = forerun.GraphBuilder(f"sized {count}")
    x, y = builder.input("x", "i32", count), builder.output("y", "i32", count)
    builder.launch(scale, x=x, s=factor, y=y, node="n")
    return builder.build()


def run(cache: PlanCache, graph: Graph) -> list[int]:
    count = graph.buffers["x"].count
    return cache.run(graph, {"x": np.arange(count, dtype=np.int32)})["y"].tolist()  # type: ignore[no-any-return]


def test_graphs_of_equal_structure_share_a_plan() -> None:
    with PlanCache(budget=PLENTY) as cache:
        base = chain([1, 2, 3])
        for graph in (base, base, chain([1, 2, 3]), chain([1, 2, 3], names="k")):
            assert run(cache, graph) == [0, 6, 12, 18]
        assert run(cache, with_argument(base, "n1", "s", 4)) == [0, 12, 24, 36]
        assert len(cache) == 1
        assert cache.statistics.choices == {Choice.BUILD: 1, Choice.REUSE: 3, Choice.UPDATE: 1}
        assert list(cache.statistics.recent) == [
            "chain: instantiated: first use",
            "chain: parameters: argument 's' changed at n1",
        ]


def test_the_least_recently_used_plan_gives_way() -> None:
    sizes = [memory_bytes(sized(count)) for count in (100, 101, 102)]
    with PlanCache(budget=sum(sizes[1:]) + 200) as cache:
        for count in (100, 101, 100, 102):
            run(cache, sized(count))
        assert cache.statistics.evicted == 1
        assert cache.size_bytes <= cache.budget
        run(cache, sized(100))
        assert cache.statistics.choices[Choice.BUILD] == 3  # 101 has gone, 100 had been used since
        run(cache, sized(101))
        assert cache.statistics.choices[Choice.BUILD] == 4


def test_a_budget_that_is_smaller_than_one_plan() -> None:
    with PlanCache(budget=100) as cache:
        expected = cache.expected_bytes(sized(1000))
        assert expected >= 8000
        with pytest.raises(InvalidInput, match=f"takes about {expected} bytes, the budget is 100"):
            run(cache, sized(1000))
        assert len(cache) == 0
        assert run(cache, sized(4)) == [0, 2, 4, 6]
    for wrong in (0, -1, 1.5, None):
        with pytest.raises(InvalidInput, match="is a number of bytes"):
            PlanCache(budget=wrong)  # type: ignore[arg-type]


def test_a_closed_cache_says_so() -> None:
    cache = PlanCache(budget=PLENTY)
    run(cache, sized(4))
    cache.close()
    cache.close()
    for use in (lambda: run(cache, sized(4)), cache.__enter__, lambda: cache.launch(sized(4))):
        with pytest.raises(InvalidInput, match="the plan cache is closed"):
            use()
    with pytest.raises(InvalidInput, match="the plan cache is closed"):
        cache.read("cache")


def test_what_is_wrong_changes_nothing() -> None:
    with PlanCache(budget=PLENTY) as cache:
        base = chain([1, 2, 3])
        run(cache, base)
        with pytest.raises(Refuted):
            run(cache, with_edge(base, "n0", "n1", None))
        with pytest.raises(InvalidInput):
            run(cache, with_argument(base, "n1", "s", 1.5))
        with pytest.raises(InvalidInput, match="made of a Graph"):
            cache.run("graph")  # type: ignore[arg-type]
        with pytest.raises(Unsupported, match="needs a GPU"):
            cache.launch(base)
        assert run(cache, base) == [0, 6, 12, 18]


def totals(last: int) -> Graph:
    builder = forerun.GraphBuilder("totals")
    cache, y = builder.state("cache", "i32", (16, N)), builder.output("y", "i32", N)
    builder.launch(total, cache=cache, first=0, last=last, y=y, node="total")
    return builder.build()


@pytest.mark.parametrize("target", ["reference", "cuda"])
def test_state_is_the_same_in_all_plans(target: str, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("api")
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        with pytest.raises(InvalidInput, match="no graph so far has state 'cache'"):
            cache.read("cache")
        for row in range(4):
            assert cache.run(decode(row), {"x": [row] * N})["y"].tolist() == [sum(range(row + 1))] * N
            assert cache.run(totals(row + 1))["y"].tolist() == [sum(range(row + 1))] * N
        assert cache.read("cache")[:, 0].tolist() == [0, 1, 2, 3] + [0] * 12
        assert len(cache) == 2


@pytest.mark.parametrize("target", ["reference", "cuda"])
def test_state_outlives_the_plan_that_had_it(target: str, request: pytest.FixtureRequest) -> None:
    if target == "cuda":
        request.getfixturevalue("api")
    with PlanCache(target, budget=PLENTY, policy=plans_only()) as cache:
        cache.run(decode(0), {"x": [5] * N})
        cache.budget = cache.size_bytes + cache.expected_bytes(sized(2000))
        run(cache, sized(2000))
        cache.budget = cache.size_bytes
        run(cache, sized(1900))
        assert cache.statistics.evicted >= 1
        assert cache.read("cache")[0].tolist() == [5] * N
        cache.budget = PLENTY
        assert cache.run(decode(1), {"x": [6] * N})["y"].tolist() == [11] * N


def test_eight_threads_on_one_cache() -> None:
    graphs = [chain([1, 2, factor]) for factor in range(4)] + [sized(4, factor) for factor in (5, 6)]
    wanted = [[2 * factor * i for i in range(4)] for factor in range(4)] + [[f * i for i in range(4)] for f in (5, 6)]
    errors: list[object] = []
    with PlanCache(budget=400) as cache:

        def work(seed: int) -> None:
            order = np.random.default_rng(seed).integers(0, len(graphs), 40)
            try:
                for which in order:
                    found = run(cache, graphs[which])
                    if found != wanted[which]:
                        errors.append((which, found))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert cache.size_bytes <= 400
        assert sum(cache.statistics.choices.values()) == 8 * 40


@settings(portion(30), deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=12), st.sampled_from([150, 400, PLENTY]))
def test_any_sequence_of_graphs(requests: list[tuple[int, int]], budget: int) -> None:
    with PlanCache(budget=budget) as cache:
        for length, factor in requests:
            assert run(cache, chain([factor] * length)) == [factor**length * i for i in range(4)]


# On a GPU


def test_what_is_in_flight_is_neither_changed_nor_thrown_away(api: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        base = chain([1, 2, 3])
        api.hold = True
        cache.launch(base)
        executables = set(api.executables)
        cache.launch(base)  # the same plan again: the driver orders the two
        assert set(api.executables) == executables
        cache.launch(chain([1, 2, 4]))  # it cannot be changed now, so there is another one
        assert set(api.executables) > executables
        assert cache.statistics.waited == 0
        cache.budget = cache.size_bytes
        cache.launch(sized(4))
        assert cache.statistics.waited == 1
        assert cache.statistics.evicted >= 1
        cache.synchronize()
        assert cache.size_bytes <= cache.budget


def test_the_size_of_executables_is_told_before_the_next_is_built(api: UpdatableCuda) -> None:
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        cache.launch(chain([1, 2, 3]))
        cache.synchronize()
        expected = cache.expected_bytes(chain([1] * 10))
        assert expected >= memory_bytes(chain([1] * 10)) + 10 * NODE_BYTES
        cache.budget = expected - 1
        with pytest.raises(InvalidInput, match="takes about"):
            cache.launch(chain([1] * 10))


def test_streams_are_ordered_where_plans_share_state(api: UpdatableCuda) -> None:
    first, second = api.new_stream(), api.new_stream()
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        api.hold = True
        cache.launch(decode(0), first)
        cache.launch(totals(1), second)
        assert [stream for stream, _ in api.waits if stream in (first, second)] == [second]
        cache.launch(chain([1, 2]), first)  # has nothing in common with them
        assert [stream for stream, _ in api.waits if stream in (first, second)] == [second]
        cache.synchronize()
    api.streams -= {first, second}


def test_a_run_waits_for_launches_that_use_the_same_state(api: UpdatableCuda) -> None:
    stream = api.new_stream()
    with PlanCache("cuda", budget=PLENTY, policy=plans_only()) as cache:
        cache.run(totals(1))
        api.hold = True
        cache.launch(decode(0), stream)
        (flying,) = [entry.plan for entry in cache._kept.entries if entry.plan.in_flight]
        cache.run(totals(1))
        assert not flying.in_flight
    api.streams.remove(stream)


# On the stream


def test_a_single_use_makes_no_executable(api: UpdatableCuda) -> None:
    base, weights = rich(), {"w": np.full(8, 100, np.int32)}
    inputs = {"x": np.arange(8, dtype=np.int32)}
    with Plan(base, "cuda", weights=weights) as plan, PlanCache("cuda", weights=weights, budget=PLENTY) as cache:
        executables = len(api.executables)
        for _ in range(2):
            wanted, found = plan.run(inputs), cache.run(base, inputs)
            assert found.keys() == wanted.keys()
            for name in wanted:
                np.testing.assert_array_equal(found[name], wanted[name])
        assert cache.statistics.choices[Choice.STREAM] >= 1
        assert len(api.executables) <= executables + 1
        np.testing.assert_array_equal(cache.read("total"), plan.read("total"))


def test_what_comes_again_becomes_a_plan(api: UpdatableCuda) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1e-3
        return now[0]

    graph = chain([3, *[1] * 59])
    with PlanCache("cuda", budget=PLENTY, policy=Policy(clock, Costs(build=1e-6, launch=1e-6))) as cache:
        for _ in range(6):
            assert run(cache, graph) == [0, 3, 6, 9]
        assert cache.statistics.choices[Choice.BUILD] == 1
        assert cache.statistics.choices[Choice.REUSE] >= 3
        assert len(api.executables) == 1


def test_what_cannot_be_launched_on_a_stream() -> None:
    target = forerun.CudaTarget()
    inner = chain([1, 2])
    edit = inner.edit()
    for name in inner.nodes:
        edit.remove_node(name)
    edit.add_node(ChildGraphNode("child", inner.without_tables()))
    assert target.can_stream(edit.commit())
    assert target.can_stream(rich())
    assert not target.can_stream(loop())
    assert not target.can_stream(with_launch(inner, "n0", cluster=(1, 1, 1)))
    assert not target.can_stream(with_launch(inner, "n0", cooperative=True))


def test_child_graphs_on_the_stream(api: UpdatableCuda) -> None:
    inner = chain([3, 5])
    edit = inner.edit()
    for name in inner.nodes:
        edit.remove_node(name)
    edit.add_node(ChildGraphNode("child", inner.without_tables()))
    program = forerun.CudaTarget().load_streamed(edit.commit(), {})
    assert program.run(X)["y"].tolist() == [15, 30, 45, 60]
    program.close()


# Policy


def test_a_policy_may_be_given() -> None:
    class AlwaysBuild(Policy):
        def choose(self, offer: object) -> Choice:
            return Choice.BUILD

    with PlanCache(budget=PLENTY, policy=AlwaysBuild(lambda: 0.0)) as cache:
        run(cache, chain([1, 2]))
        run(cache, chain([1, 2]))
        assert cache.statistics.choices == {Choice.BUILD: 2}

"""Plans on a GPU: whose memory it is, replays in flight, and ends in every order."""

from __future__ import annotations

import gc
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.plans import Plan, Way
from forerun.support.diagnostics import InvalidInput
from tests.runtime.plans.fake import NODE_BYTES, Array, UpdatableCuda
from tests.runtime.plans.samples import N, chain, decode, with_launch

X = {"x": [1, 2, 3, 4]}


def y_of(plan: Plan) -> list[int]:
    return plan.run(X)["y"].tolist()  # type: ignore[no-any-return]


def program(plan: Plan) -> Any:
    return plan._program


# Memory


def test_state_and_weights_stay_where_they_are(api: UpdatableCuda) -> None:
    with Plan(decode(0), "cuda") as plan:
        plan.run(X)
        address = plan.buffer("cache").address
        used = len(api.memory)
        for row in range(1, 6):
            plan.update(with_launch(decode(row), "append", grid=(row + 1, 1, 1)))
            assert plan.last.way is Way.INSTANTIATED
            plan.run(X)
            assert plan.buffer("cache").address == address
            assert len(api.memory) <= used + 1
        assert plan.run(X)["y"].tolist() == [6, 12, 18, 24]


def test_the_size_is_measured(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2, 3]), "cuda") as plan:
        memory = sum(map(len, api.memory.values())) + sum(map(len, api.pinned.values()))
        assert memory > 0
        assert plan.size_bytes >= 3 * NODE_BYTES + sum(map(len, api.memory.values()))
        assert plan.size_bytes <= 3 * NODE_BYTES + memory


def test_memory_that_was_freed(api: UpdatableCuda) -> None:
    array = Array(api)
    base = chain([1, 2])
    with Plan(base, "cuda", memory={"y": array}) as plan:
        plan.run(X)
        assert np.frombuffer(api.memory[array.address], np.int32).tolist() == [2, 4, 6, 8]
        del api.memory[array.address]
        with pytest.raises(InvalidInput, match="was freed, and the program still uses it"):
            plan.update(chain([1, 3]))
        assert plan.graph is base


def test_the_end_of_the_process_gives_everything_back() -> None:
    program = """
import atexit

seen = []
atexit.register(lambda: print(seen[0].leaks(), seen[0].retained))  # after what is registered later
import pytest
from tests.runtime.plans.fake import Array, NODE_BYTES, UpdatableCuda, fake_gpu
from tests.runtime.plans.samples import chain
from forerun.runtime.plans import Plan, PlanCache

guard = fake_gpu(pytest.MonkeyPatch())
api, _ = guard.__enter__()
seen.append(api)
plan = Plan(chain([1, 2]), "cuda")
cache = PlanCache("cuda", budget=1 << 20)
cache.launch(chain([1, 2, 3]))
api.hold = True
plan.launch()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert found.stderr == ""
    assert found.stdout == "{} 0\n"


# In flight, contexts, destruction


def test_a_plan_in_flight_is_not_updated(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2]), "cuda") as plan:
        api.hold = True
        plan.launch()
        assert plan.in_flight
        assert plan.update(chain([1, 2])).way is Way.REUSED  # nothing changes
        before = plan.graph
        with pytest.raises(InvalidInput, match="is in flight, so it cannot become another graph"):
            plan.update(chain([1, 3]))
        assert plan.graph is before
        plan.synchronize()
        assert not plan.in_flight
        assert plan.update(chain([1, 3])).way is Way.PARAMETERS


def test_launches_on_streams_of_others_are_in_flight_too(api: UpdatableCuda) -> None:
    stream = api.new_stream()
    with Plan(chain([1, 2]), "cuda") as plan:
        api.hold = True
        plan.launch(SimpleNamespace(cuda_stream=stream))
        assert plan.in_flight
        api.pending.clear()
        assert not plan.in_flight
        plan.launch(1)
    api.streams.remove(stream)


def test_a_stream_of_another_context(api: UpdatableCuda) -> None:
    stream = api.new_stream()
    api.foreign_streams.add(stream)
    with Plan(chain([1, 2]), "cuda") as plan:
        launches = len(api.launches)
        with pytest.raises(InvalidInput, match="belongs to another context than the program"):
            plan.launch(stream)
        api.streams.remove(stream)
        api.foreign_streams.clear()
        with pytest.raises(InvalidInput, match="cannot be used"):
            plan.launch(stream)
        assert len(api.launches) == launches
        assert y_of(plan) == [2, 4, 6, 8]


@pytest.mark.parametrize("order", ["plan", "graph", "stream", "context", "array", "collected", "sticky"])
def test_destruction_in_every_order(api: UpdatableCuda, order: str) -> None:
    stream = api.new_stream()
    plan = Plan(decode(1), "cuda")
    plan.update(with_launch(decode(2), "append", grid=(2, 1, 1)))
    plan.update(decode(3))
    array = plan.buffer("cache")
    api.hold = True
    plan.launch(stream)
    match order:
        case "plan":
            plan.close()
            assert array.numpy().shape == (16, N)
        case "graph":
            plan.graph = None  # type: ignore[assignment]
            plan.close()
        case "stream":
            api.streams.remove(stream)
            plan.close()
        case "context":
            api.current = 0  # another library took its context from this thread
            plan.close()
        case "array":
            del array
            plan.close()
        case "sticky":
            api.sticky = api.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
            with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
                plan.close()
            del array, plan
            gc.collect()
            for table in (api.executables, api.graphs, api.modules, api.memory, api.pinned, api.events, api.streams):
                table.clear()  # they went with the context
            api.sticky = None
    api.streams.discard(stream)

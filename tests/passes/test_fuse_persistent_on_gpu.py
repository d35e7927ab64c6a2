"""What ``fuse-persistent`` makes, on a GPU: the results of the launches that it replaces, for batches of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

import forerun
from forerun.kernels.persistent.checked_replays import CheckedReplays
from forerun.schedules.attention import Attention
from forerun.schedules.capacity import Capacity
from forerun.schedules.status import Status
from tests.kernels.persistent.grouped import case_of, grouped_graph, run
from tests.schedules.batches import attention_by_definition

pytestmark = pytest.mark.gpu

ROOM = Capacity(requests=8, rows=600, pages=300, ctas=132, items=1, partials=0)
GROUPS = ((0, 5), (5, 3))
LAYERS = 2


@pytest.mark.parametrize("cuts", ["shares", "invariant"])
@pytest.mark.parametrize("heads", [(28, 4, 128, 16), (14, 2, 64, 64)])
def test_results_are_those_of_the_launches(heads: tuple[int, int, int, int], cuts: str) -> None:
    family = Attention(*heads, cache_pages=320)
    graph = grouped_graph(GROUPS, LAYERS, family, ROOM)
    pipeline = f"fuse-persistent{{cuts={cuts}}},infer-dependencies,insert-pdl,hoist-loads,reduce-edges"
    chooser = np.random.default_rng(0)
    with forerun.compile(graph, "cuda", "exact") as plain, forerun.compile(graph, "cuda", pipeline) as fused:
        for seed in range(6):
            queries = [int(chooser.choice([0, 1, 1, 2])) for _ in range(5)]
            queries += [int(chooser.integers(0, 150)) for _ in range(chooser.integers(0, 4))]
            kv = [q + int(chooser.integers(not q, 400)) for q in queries]
            case, rows = case_of(queries, kv, seed, family, ROOM), sum(queries)
            expected = attention_by_definition(case.values, family)
            for _ in range(2):
                apart, together = run(plain, case, LAYERS), run(fused, case, LAYERS)
                for layers in (apart, together):
                    assert np.abs(layers[0][:rows] - expected).max(initial=0) < 0.02
                    assert all(np.array_equal(y[:rows], layers[0][:rows]) for y in layers)
            assert not fused.read("schedule.arrived").any()
            assert fused.read("schedule.status").tolist() == [0, -1]
        case = case_of([1, 2, 1, 0, 1, 90], [300, 9, 700, 0, 1, 350], 9, family, ROOM)
        run(fused, case, LAYERS, CheckedReplays(fused))
        case.batch.kv_lengths[1] = -1
        run(fused, case, LAYERS)
        assert fused.read("schedule.status").tolist() == [Status.BAD_LENGTH, 1]

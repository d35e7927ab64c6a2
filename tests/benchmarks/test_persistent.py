"""What the benchmark of the persistent kernel launches can be built, and its edits of the source still apply."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.persistent_checks import SHAPES
from benchmarks.persistent_experts import CHOSEN, launches_graph, plan_experts, rows_of_experts
from benchmarks.persistent_experts import SHAPES as EXPERTS
from benchmarks.persistent_programs import VARIANTS, graph_of, plan, random_requests, skewed
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import Source


@pytest.mark.parametrize("label", VARIANTS)
def test_variants_are_kernels_of_their_own(label: str) -> None:
    variant = VARIANTS[label]
    found, _ = units(graph_of(plan((28, 4, 128, 16), 4, 4, 64, 64, ctas=variant.ctas), "sa", variant))
    sources = [unit.source for unit in found if isinstance(unit.source, Source)]
    assert sum(variant.edit[1] in text for source in sources for _, text in source.headers) >= 1
    assert found[1].launch.grid == (variant.ctas, 1, 1)


def test_all_shapes_make_graphs() -> None:
    for shapes, policy, cuts in SHAPES:
        assert len(graph_of(plan(shapes, 4, 40, 64, 64, policy, cuts), "sas")) == 3


def test_lengths_are_what_the_docstring_says() -> None:
    requests = random_requests(np.random.default_rng(0), 400, 120_000, 4096, True)
    assert len(requests) > 300
    assert all(1 <= q <= kv <= 32768 for q, kv in requests)
    assert sum(-(-kv // 16) for _, kv in requests) <= 120_000
    assert sum(kv for _, kv in skewed()) == 471191


def test_experts_side_by_side_wait_for_the_call_before() -> None:
    counts = [2, 0, 1] + [0] * 29
    graph = launches_graph(plan_experts(EXPERTS["down"]), counts, 90, side_by_side=True, calls=2)
    ends = {(each.source, each.target) for each in graph.dependencies}
    calls = [[f"call{call}.{expert}" for expert in (0, 2)] for call in (0, 1)]
    assert all((node, "join") not in ends for node in calls[1])
    paths = {(a, b) for a in calls[0] for b in calls[1] if any((a, j) in ends and (j, b) in ends for j in graph.nodes)}
    assert len(paths) == 4
    assert not {(a, b) for call in calls for a in call for b in call} & ends


def test_the_router_is_skewed() -> None:
    counts = rows_of_experts(64)
    assert sum(counts) == 64 * CHOSEN
    assert max(counts) > 2 * 64 * CHOSEN / len(counts)

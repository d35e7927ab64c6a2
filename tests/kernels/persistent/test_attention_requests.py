"""Attention of groups of requests: NumPy and CUDA C++ against the definition, and that groups are disjoint."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.semantics import check
from forerun.ir.types import DType
from forerun.kernels.persistent.attention_requests import BATCH, declare, launch_for, launch_requests
from forerun.passes.infra.manager import PassManager
from forerun.support.diagnostics import InvalidInput
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.kernels.persistent.grouped import FAMILY, REQUESTS, ROWS, case_of, declare_batch, grouped_graph, run
from tests.schedules.batches import attention_by_definition

GROUPS = ((4, 2), (0, 1), (1, 3))


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    queries = draw(
        st.lists(st.sampled_from([1, 1, 0, 3, 7]), min_size=1, max_size=REQUESTS).filter(lambda q: sum(q) <= 36)
    )
    return queries, [q + draw(st.integers(0 if q else 1, 25)) for q in queries]


@given(batches(), st.integers(0, 99))
@settings(max_examples=15)
def test_groups_compute_attention_in_any_order(batch: tuple[list[int], list[int]], seed: int) -> None:
    case = case_of(*batch, seed)
    graph = PassManager("infer-dependencies").run(grouped_graph(GROUPS)).graph
    assert not graph.dependencies
    assert check(graph).proved
    with forerun.compile(graph, forerun.ReferenceTarget("adversarial", seed), "") as program:
        (y,) = run(program, case)
    rows = sum(batch[0])
    assert np.abs(y[:rows] - attention_by_definition(case.values, FAMILY)).max(initial=0) < 0.02


def test_overlapping_groups_are_ordered() -> None:
    graph = PassManager("infer-dependencies").run(grouped_graph(((0, 4), (3, 3)))).graph
    assert [d.pair for d in graph.dependencies] == [("layer0.0", "layer0.1")]


def test_requests_before_the_first_are_refused() -> None:
    builder = forerun.GraphBuilder("none")
    with pytest.raises(InvalidInput, match="requests -1 to 1 are none of a batch"):
        launch_requests(builder, declare_batch(builder, 4, 4, 4), -1, 2, "n", launch_for(4, 1))


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_on_the_cpu(tmp_path) -> None:  # type: ignore[no-untyped-def]
    shapes = {
        "q": (ROWS, FAMILY.heads, FAMILY.head_size),
        "y": (ROWS, FAMILY.heads, FAMILY.head_size),
        **dict.fromkeys(
            ("k_cache", "v_cache"), (FAMILY.cache_pages, FAMILY.page_size, FAMILY.kv_heads, FAMILY.head_size)
        ),
    }
    case = case_of([1, 0, 9, 1, 1, 7], [30, 4, 9, 1, 17, 12], 3)
    shapes |= {name: getattr(case.batch, name).shape for name in BATCH}
    kernel = CpuKernel(tmp_path, declare(DType.BF16), shapes, launch_for(5, FAMILY.heads), first=2, count=3)
    arrays = {name: getattr(case.batch, name) for name in BATCH}
    arrays |= {
        name: part.astype(ml_dtypes.bfloat16)
        for name, part in zip(("q", "k_cache", "v_cache"), case.memory, strict=True)
    }
    y = np.full(shapes["y"], np.nan, ml_dtypes.bfloat16)
    begin, end = (int(case.batch.query_pointers[i]) for i in (2, 5))
    kernel({**arrays, "y": y}, begin=begin, end=end)
    expected = attention_by_definition(case.values, FAMILY)
    assert np.abs(y[begin:end].astype(np.float32) - expected[begin:end]).max() < 0.02
    assert np.isnan(y[:begin].astype(np.float32)).all()
    assert np.isnan(y[end:].astype(np.float32)).all()

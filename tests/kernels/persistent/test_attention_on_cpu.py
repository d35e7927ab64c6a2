"""The CUDA C++ of the persistent attention kernel, run on the CPU, against attention by its definition.

Pages lie anywhere; what no request has is NaN, and copies are made as late as they may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.persistent import attention, attention_schedule
from forerun.schedules.attention import Attention
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.item_times import RECORD_WORDS, item_times
from forerun.schedules.schedule import capacity_for
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.schedules.batches import Case, attention_by_definition, make_case, random_values

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]


@dataclass(frozen=True)
class Config:
    """What a kernel is compiled for."""

    family: Attention
    cuts: CutRule
    policy: str = "prefix-sums"
    ctas: int = 3
    grid: int = 3
    warps: int = 4
    shared: int = 120_000
    dtype: DType = DType.BF16
    recorded: bool = False

    @property
    def capacity(self) -> Capacity:
        """Room for 8 requests."""
        return capacity_for(self.family, 8, 60, 400, self.ctas, self.cuts)


def family(heads: int, kv_heads: int, head_size: int, page_size: int) -> Attention:
    return Attention(heads, kv_heads, head_size, page_size, cache_pages=450)


CONFIGS = {
    "group 7": Config(family(7, 1, 128, 16), Shares()),
    "group 8, pages of 64, grid of 2, eight warps": Config(family(8, 1, 64, 64), Shares(), grid=2, warps=8),
    "group 3, two warps": Config(family(6, 2, 64, 16), Shares(), warps=2, shared=60_000),
    "group 4, invariant": Config(family(4, 1, 128, 16), Invariant(64), "longest-first", ctas=5, grid=5),
    "heads that warpgroups do not take, pages of 4, f16": Config(
        family(4, 2, 32, 4), Shares(), warps=16, shared=60_000, dtype=DType.F16
    ),
    "round robin, pages of 5": Config(family(2, 2, 64, 5), Whole(), "round-robin", warps=2, shared=60_000),
    "one warp, long items": Config(family(1, 1, 16, 16), Shares(), ctas=1, grid=1, warps=1, shared=20_000),
    "warpgroups": Config(family(7, 1, 128, 16), Shares(), warps=16, shared=230_912),
    "warpgroups, f16, pages of 64": Config(
        family(6, 2, 64, 64), Shares(), "longest-first", warps=16, shared=130_000, dtype=DType.F16
    ),
    "deep rings, many items": Config(family(1, 1, 16, 16), Invariant(64), ctas=1, grid=1, warps=2, shared=60_000),
}


class Compiled:
    """A kernel, and the counters that stay between its replays."""

    def __init__(self, config: Config, folder) -> None:
        capacity = config.capacity
        shapes = {**attention_schedule.buffer_shapes(capacity), **attention.buffer_shapes(config.family, capacity)}
        shapes["records"] = (capacity.items, RECORD_WORDS)
        kernel = attention.declare(config.dtype, recorded=config.recorded)
        self.config = config
        self.shapes = {p.name: shapes[p.name] for p in kernel.buffer_parameters}
        launch = Launch((config.grid, 1, 1), (32 * config.warps, 1, 1), config.shared)
        self.kernel = CpuKernel(folder, kernel, self.shapes, launch, slots=self.shapes["partial"][0])
        self.arrived = np.zeros(self.shapes["arrived"], np.int32)

    def __call__(self, case: Case) -> np.ndarray:
        kind = ml_dtypes.bfloat16 if self.config.dtype is DType.BF16 else np.float16
        arrays = {
            name: getattr(case.batch, name) for name in ("query_pointers", "kv_lengths", "page_pointers", "pages")
        }
        for name in ("status", "counts", "pointers", "items", "counters"):
            arrays[name] = np.resize(getattr(case.schedule, name), self.shapes[name]).astype(np.int32)
        for name, memory in zip(("q", "k_cache", "v_cache"), case.memory, strict=True):
            arrays[name] = memory.astype(kind)
        for name in ("partial", "statistics"):
            arrays[name] = np.full(self.shapes[name], np.nan, np.float32)
        y = np.full(self.shapes["y"], np.nan, kind)
        if self.config.recorded:
            arrays["records"] = self.records = np.zeros(self.shapes["records"], np.int64)
        self.kernel({**arrays, "arrived": self.arrived, "y": y})
        assert not self.arrived.any()
        return y.astype(np.float32)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    return {name: Compiled(config, tmp_path_factory.mktemp("attention")) for name, config in CONFIGS.items()}


def rounded(values, config: Config):
    kind = ml_dtypes.bfloat16 if config.dtype is DType.BF16 else np.float16
    for part in (values.queries, values.keys, values.values):
        part[:] = [array.astype(kind).astype(np.float32) for array in part]
    return values


def case_of(config: Config, queries: list[int], kv: list[int], seed: int = 0) -> Case:
    values = rounded(random_values(queries, kv, seed, config.family), config)
    case = make_case(
        values, policy=config.policy, cuts=config.cuts, family=config.family, capacity=config.capacity, seed=seed
    )
    assert not case.schedule.finding.status.is_error
    return case


@st.composite
def lengths(draw) -> tuple[list[int], list[int]]:
    queries = draw(
        st.lists(st.one_of(st.just(1), st.integers(0, 20)), min_size=1, max_size=4).filter(lambda q: sum(q) < 57)
    )
    return queries, [q + draw(st.integers(0 if q else 1, 150)) for q in queries]


@pytest.mark.parametrize("name", CONFIGS)
def test_results_are_those_of_the_definition(name: str, compiled: dict[str, Compiled]) -> None:
    run = compiled[name]

    @settings(max_examples=8)
    @given(lengths(), st.integers(0, 99))
    @example(([8, 14], [135, 135]), 14)  # loaders are the last to go on for a while
    def holds(made: tuple[list[int], list[int]], seed: int) -> None:
        case = case_of(run.config, *made, seed)
        y, rows = run(case), sum(made[0])
        expected = attention_by_definition(case.values, run.config.family)
        assert np.abs(y[:rows] - expected).max(initial=0) < 0.02
        assert np.isnan(y[rows:]).all()

    holds()


def test_a_request_has_the_same_bits_alone(compiled: dict[str, Compiled]) -> None:
    run = compiled["group 4, invariant"]
    queries, kv = [1, 9, 1], [200, 150, 400]
    case = case_of(run.config, queries, kv)
    together = run(case)
    for request, begin in enumerate(np.cumsum([0, *queries[:-1]])):
        alone = case_of(run.config, [queries[request]], [kv[request]])
        alone.values.queries[0][:] = case.values.queries[request]
        alone.values.keys[0][:] = case.values.keys[request]
        alone.values.values[0][:] = case.values.values[request]
        alone = make_case(
            alone.values,
            policy="longest-first",
            cuts=run.config.cuts,
            family=run.config.family,
            capacity=run.config.capacity,
            seed=7,
        )
        assert np.array_equal(run(alone)[: queries[request]], together[begin : begin + queries[request]])


def test_a_long_request_is_put_together_from_many_splits(compiled: dict[str, Compiled]) -> None:
    run = compiled["group 4, invariant"]
    case = case_of(run.config, [1, 1], [900, 1])
    assert case.schedule.counters[0, 1] == 15
    assert np.abs(run(case)[:2] - attention_by_definition(case.values, run.config.family)).max() < 0.02


def test_pages_of_more_steps_than_a_warp_has_lanes(compiled: dict[str, Compiled]) -> None:
    run = compiled["one warp, long items"]
    case = case_of(run.config, [1, 1, 20], [1700, 513, 1300])
    assert not case.schedule.counts[1]
    assert np.abs(run(case)[:22] - attention_by_definition(case.values, run.config.family)).max() < 0.02


def test_more_items_than_are_looked_up_at_once(compiled: dict[str, Compiled]) -> None:
    run = compiled["deep rings, many items"]
    case = case_of(run.config, [1] * 5, [1000, 900, 64 * 16, 1, 800])
    assert case.schedule.counts[0] > 48
    assert np.abs(run(case)[:5] - attention_by_definition(case.values, run.config.family)).max() < 0.02


def test_each_item_is_recorded_where_it_ran(tmp_path) -> None:
    config = Config(family(2, 2, 32, 16), Shares(), grid=6, warps=1, shared=30_000, recorded=True)
    run = Compiled(config, tmp_path)
    case = case_of(config, [1, 3, 1], [100, 40, 300])
    y = run(case)
    assert np.abs(y[:5] - attention_by_definition(case.values, config.family)).max() < 0.02
    count, pointers = int(case.schedule.counts[0]), case.schedule.pointers
    assert (run.records[count:] == 0).all()
    times = item_times(case.schedule, run.records)
    assert times.cta.tolist() == times.sm.tolist() == [cta for cta in range(6) for _ in range(*pointers[cta : cta + 2])]
    assert (times.end > times.begin).all()
    assert (times.between > 0).all()
    for cta in range(6):  # the last item comes first
        first, stop = pointers[cta : cta + 2]
        assert first == stop or first + np.argmin(times.begin[first:stop]) == stop - 1


def test_warpgroups_change_between_small_and_large_tiles(compiled: dict[str, Compiled]) -> None:
    run = compiled["warpgroups"]
    queries, kv = [1, 20, 3, 1], [100, 160, 64, 50]
    case = case_of(run.config, queries, kv)
    items = case.schedule.all_items()
    assert {item.size for item in items} == {16, 64, 128}
    assert any(item.slot >= 0 and item.size == 128 for item in items)
    assert np.abs(run(case)[:25] - attention_by_definition(case.values, run.config.family)).max() < 0.02


@pytest.mark.parametrize(("queries", "kv"), [([9], [1408]), ([1, 9, 2], [700, 1088, 600])])
def test_large_tiles_go_round_their_rings_alone_and_beside_small_ones(
    queries: list[int], kv: list[int], compiled: dict[str, Compiled]
) -> None:
    run = compiled["warpgroups"]
    case = case_of(run.config, queries, kv)
    for cta in range(run.config.grid):
        blocks = sum(-(-(item.end - item.begin) // 64) for item in case.schedule.of_cta(cta) if item.size > 16)
        assert blocks > 3 + 2 * (1 not in queries)  # more than are in a ring
    small = [any(item.size == 16 for item in case.schedule.of_cta(3 + cta)) for cta in range(3)]
    assert small == [1 in queries] * 3
    rows = sum(queries)
    assert np.abs(run(case)[:rows] - attention_by_definition(case.values, run.config.family)).max() < 0.02


def test_a_bad_batch_writes_nothing(compiled: dict[str, Compiled]) -> None:
    run = compiled["group 7"]
    case = case_of(run.config, [1], [64])
    for array in (case.schedule.counts, case.schedule.pointers):
        array[:] = 0
    case.schedule.status[:] = 9, 0
    assert np.isnan(run(case)).all()

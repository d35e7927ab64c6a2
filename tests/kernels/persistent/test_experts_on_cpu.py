"""The CUDA C++ of schedules and products of experts' rows, run on the CPU.

Schedules are those of NumPy, bit by bit. Products are those of the definition; weights of experts without rows and what
is behind the batch are NaN, and copies are made as late as they may be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.persistent import expert_rows, expert_schedule, expert_tiles
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import POISON, Schedule, capacity_for, make_schedule
from forerun.schedules.status import Finding, Status
from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import InvalidInput
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]

FAMILY = ExpertGemv(experts=4, outputs=40, columns=144)
MANY = ExpertGemv(experts=40, outputs=333, columns=4096, costs=Costs(7, 2))
ROWS = 40


@dataclass(frozen=True)
class Config:
    """What a schedule is compiled for, with small CTAs so that most loops go round."""

    family: ExpertGemv
    capacity: Capacity
    policy: str = "prefix-sums"
    cuts: CutRule | None = None
    threads: int = 32


def room(family: ExpertGemv = FAMILY, ctas: int = 5, rows: int = 200) -> Capacity:
    return capacity_for(family, family.experts, rows, 0, ctas)


SCHEDULES = {
    "shares": Config(FAMILY, room()),
    "many experts, more CTAs than tasks": Config(MANY, room(MANY, 60), threads=64),
    "whole, round robin": Config(MANY, room(MANY), "round-robin", Whole()),
    "few slots": Config(MANY, replace(room(MANY), partials=5)),
    "few items": Config(FAMILY, replace(room(), items=9)),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[Config, CpuKernel]:
    """Kernels that are compiled already."""
    return {}


def require_same(kernels: dict[Config, CpuKernel], config: Config, pointers: list[int], folder) -> Finding:
    """The arrays that the kernel writes over poison are those of NumPy."""
    shapes = expert_schedule.buffer_shapes(config.family, config.capacity)
    if config not in kernels:
        scalars = expert_schedule.scalars_of(config.family, config.capacity, config.policy, config.cuts)
        launch = replace(expert_schedule.launch_for(config.family, config.capacity), grid=(2, 1, 1))
        launch = replace(launch, block=(config.threads, 1, 1))
        kernels[config] = CpuKernel(folder.mktemp("schedule"), expert_schedule.KERNEL, shapes, launch, **scalars)
    arrays = {name: np.full(shape, POISON, np.int32) for name, shape in shapes.items()}
    arrays["row_pointers"][:] = pointers
    batch = ExpertBatch(arrays["row_pointers"].copy())
    kernels[config](arrays)
    wanted = make_schedule(config.family, batch, config.capacity, POLICIES[config.policy], config.cuts)
    for name in ("status", "counts", "pointers", "items", "counters"):
        expected = getattr(wanted, name)
        assert np.array_equal(arrays[name][: len(expected)], expected), name
    return wanted.finding


@st.composite
def row_pointers(draw, config: Config) -> list[int]:
    """Right pointers, and some in which one number is another one."""
    experts = config.family.experts
    rows = draw(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 40)), min_size=experts, max_size=experts))
    found = np.cumsum([0, *rows]).tolist()
    if draw(st.booleans()):
        number = draw(st.one_of(st.integers(-2, 9), st.sampled_from([201, 2**31 - 1, -(2**31)])))
        found[draw(st.integers(0, experts))] = number
    return found


@pytest.mark.parametrize("name", [name for name in SCHEDULES if not name.startswith("few")])
def test_schedules_are_those_of_numpy(name: str, kernels, tmp_path_factory) -> None:
    config = SCHEDULES[name]

    @given(row_pointers(config))
    def holds(pointers: list[int]) -> None:
        event(require_same(kernels, config, pointers, tmp_path_factory).status.name)

    holds()


@pytest.mark.parametrize(
    ("name", "pointers", "finding"),
    [
        ("shares", [0, 0, 0, 0, 0], Finding(Status.NO_REQUESTS)),
        ("shares", [1, 2, 3, 4, 5], Finding(Status.BAD_POINTERS, 0)),
        ("shares", [0, 2, 1, 0, 5], Finding(Status.BAD_POINTERS, 1)),
        ("shares", [0, 2, 1, 300, 201], Finding(Status.BAD_POINTERS, 1)),
        ("shares", [0, 2, 2, 2, 201], Finding(Status.TOO_MANY_ROWS)),
        ("shares", [0, 2, 2, 2, 200], Finding()),
        ("few items", [0, 40, 80, 112, 113], Finding(Status.UNSPLIT)),
        ("few items", [0, 40, 80, 128, 129], Finding(Status.TOO_MANY_ITEMS)),
        ("few slots", [0] * 40 + [41], Finding(Status.UNSPLIT)),
    ],
)
def test_bad_batches_get_their_status(name: str, pointers, finding: Finding, kernels, tmp_path_factory) -> None:
    assert require_same(kernels, SCHEDULES[name], pointers, tmp_path_factory) == finding


def test_costs_beyond_the_limit_are_refused(kernels, tmp_path_factory) -> None:
    """Groups of 2^24 blocks of 2^16: 2^40 are one of them."""
    family = ExpertGemv(4, 2**28, 16, Costs(0, 2**16))
    config = Config(family, room(family))
    assert require_same(kernels, config, [0, 0, 0, 16, 16], tmp_path_factory) == Finding()
    assert require_same(kernels, config, [0, 0, 0, 17, 17], tmp_path_factory) == Finding(Status.TOO_MUCH_WORK)


@dataclass(frozen=True)
class Products:
    """What products are compiled for."""

    family: ExpertGemv = FAMILY
    ctas: int = 3
    grid: int = 3
    warps: int = 4
    stages: int = 3
    dtype: DType = DType.BF16

    @property
    def kind(self) -> type:
        """The type of rows and weights."""
        return np.float16 if self.dtype is DType.F16 else ml_dtypes.bfloat16

    @property
    def launch(self) -> Launch:
        """With shared memory for that many stages."""
        rows, columns = self.family.rows, self.family.columns
        needed = rows * (columns // 8 | 1) * 16 + 2 * self.warps * rows * 20 * 4 + self.stages * self.warps * 2048
        return Launch((self.grid, 1, 1), (32 * self.warps, 1, 1), needed)


PRODUCTS = {
    "bf16": Products(),
    "f16, grid of 2, a step for some warps": Products(ctas=5, grid=2, dtype=DType.F16),
    "groups of eight, one warp": Products(ExpertGemv(2, 17, 3600), warps=1, stages=4),
}


class Compiled:
    """The persistent kernel."""

    def __init__(self, products: Products, folder) -> None:
        self.products = products
        self.capacity = Capacity(products.family.experts, ROWS, 0, products.ctas, items=40, partials=40)
        self.shapes = {
            **expert_schedule.buffer_shapes(products.family, self.capacity),
            **expert_tiles.buffer_shapes(products.family, self.capacity),
        }
        kernel = expert_tiles.declare(products.dtype)
        shapes = {p.name: self.shapes[p.name] for p in kernel.buffer_parameters}
        self.kernel = CpuKernel(folder.mktemp("products"), kernel, shapes, products.launch)

    def values(self, counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Weights, and rows sorted by expert; NaN where no row needs any."""
        chooser = np.random.default_rng(seed)
        w, x = (np.full(self.shapes[name], np.nan, self.products.kind) for name in ("w", "x"))
        for expert, count in enumerate(counts):
            weights = chooser.standard_normal(w.shape[1:]).astype(w.dtype)
            if count:
                w[expert] = weights
        x[: sum(counts)] = chooser.standard_normal((sum(counts), x.shape[1])).astype(x.dtype)
        return w, x

    def schedule(self, counts: list[int], policy: str = "prefix-sums", cuts: CutRule | None = None) -> Schedule:
        batch = ExpertBatch(np.cumsum([0, *counts]).astype(np.int32))
        return make_schedule(self.products.family, batch, self.capacity, POLICIES[policy], cuts)

    def __call__(self, counts: list[int], w: np.ndarray, x: np.ndarray, schedule: Schedule) -> np.ndarray:
        pointers = np.cumsum([0, *counts]).astype(np.int32)
        y = np.full(self.shapes["y"], np.nan, np.float32)
        arrays = {"w": w, "x": x, "row_pointers": pointers, "pointers": schedule.pointers, "items": schedule.items}
        self.kernel({**arrays, "y": y})
        assert np.isnan(y[sum(counts) :]).all()
        return y[: sum(counts)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    return {name: Compiled(products, tmp_path_factory) for name, products in PRODUCTS.items()}


def by_definition(counts: list[int], w: np.ndarray, x: np.ndarray) -> np.ndarray:
    expert = np.repeat(np.arange(len(counts)), counts)
    return np.einsum("rnk,rk->rn", w.astype(np.float64)[expert], x[: sum(counts)].astype(np.float64))


@pytest.mark.parametrize("name", ["bf16", "f16, grid of 2, a step for some warps"])
def test_products_are_those_of_the_definition(name: str, compiled: dict[str, Compiled]) -> None:
    run = compiled[name]

    @settings(max_examples=6)
    @example([0, 17, 0, 3], 0, "prefix-sums", Shares())
    @given(
        st.lists(st.integers(0, 10), min_size=4, max_size=4).filter(any),
        st.integers(0, 99),
        st.sampled_from(["prefix-sums", "round-robin"]),
        st.sampled_from([Shares(), Whole()]),
    )
    def holds(counts: list[int], seed: int, policy: str, cuts: CutRule) -> None:
        w, x = run.values(counts, seed)
        found = run(counts, w, x, run.schedule(counts, policy, cuts))
        np.testing.assert_allclose(found, by_definition(counts, w, x), rtol=1e-5, atol=1e-4)

    holds()


def test_long_rows_are_in_groups_of_eight(compiled: dict[str, Compiled]) -> None:
    run, counts = compiled["groups of eight, one warp"], [1, 9]
    w, x = run.values(counts)
    assert {item.size for item in run.schedule(counts).all_items()} == {8}
    found = run(counts, w, x, run.schedule(counts))
    np.testing.assert_allclose(found, by_definition(counts, w, x), rtol=1e-4, atol=1e-3)


def test_bits_depend_neither_on_the_schedule_nor_on_other_rows(compiled: dict[str, Compiled]) -> None:
    run, counts = compiled["bf16"], [9, 0, 20, 3]
    w, x = run.values(counts)
    together = run(counts, w, x, run.schedule(counts))
    for cuts, policy in ((Whole(), "round-robin"), (Invariant(16), "longest-first")):
        other = run.schedule(counts, policy, cuts)
        assert other.items.tolist() != run.schedule(counts).items.tolist()
        assert run(counts, w, x, other).tobytes() == together.tobytes()
    alone = x.copy()
    alone[0] = x[9 + 7]
    assert run([0, 0, 1, 0], w, alone, run.schedule([0, 0, 1, 0])).tobytes() == together[9 + 7].tobytes()


def test_a_launch_for_each_expert_has_the_same_bits(compiled: dict[str, Compiled], tmp_path) -> None:
    run, counts = compiled["bf16"], [2, 0, 19, 1]
    w, x = run.values(counts)
    together, pointers = run(counts, w, x, run.schedule(counts)), np.cumsum([0, *counts])
    shapes = {name: run.shapes[name] for name in ("w", "x", "y")}
    y = np.full(run.shapes["y"], np.nan, np.float32)
    kernel = CpuKernel(tmp_path, expert_rows.declare(), shapes, run.products.launch, expert=2)
    kernel({"w": w, "x": x, "y": y}, begin=int(pointers[2]), end=int(pointers[3]))
    assert y[2:21].tobytes() == together[2:21].tobytes()
    assert np.isnan(y[:2]).all()
    assert np.isnan(y[21:]).all()


def test_a_bad_batch_writes_nothing(compiled: dict[str, Compiled]) -> None:
    run = compiled["bf16"]
    w, x = run.values([1, 1, 1, 1])
    nothing = run.schedule([30, 30, 1, 1])
    assert nothing.finding.status is Status.TOO_MANY_ROWS
    assert np.isnan(run([1, 1, 1, 1], w, x, nothing)).all()


def test_what_is_not_made_on_the_device_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not made for experts"):
        expert_schedule.scalars_of(FAMILY, room(), cuts=Invariant())
    with pytest.raises(InvalidInput, match="policy 'longest-first' is not made"):
        expert_schedule.scalars_of(FAMILY, room(), "longest-first")
    with pytest.raises(InvalidInput, match="too large for a schedule"):
        expert_schedule.launch_for(FAMILY, room(ctas=1025))
    with pytest.raises(InvalidInput, match="products of 100 columns are not supported"):
        expert_tiles.launch_for(ExpertGemv(4, 64, 100), 132)
    with pytest.raises(InvalidInput, match="8 rows of 16384 columns do not fit"):
        expert_tiles.launch_for(ExpertGemv(4, 64, 16384), 132)
    with pytest.raises(InvalidInput, match="f32 are not multiplied here"):
        expert_rows.declare(DType.F32)

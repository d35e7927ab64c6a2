"""The CUDA C++ that makes schedules, run on the CPU: bit by bit what NumPy makes, for right and for bad batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from forerun.ir.nodes import Launch
from forerun.kernels.persistent import attention_schedule
from forerun.kernels.persistent.attention_schedule import buffer_shapes, launch_for, scalars_of
from forerun.schedules.attention import Attention, AttentionBatch, attention_batch
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import Chunks, CutRule, Invariant, Whole
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import POISON, capacity_for, make_schedule
from forerun.schedules.status import Status
from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import InvalidInput
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.schedules.test_status import BAD

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]

FAMILY = Attention(heads=4, kv_heads=2, head_size=1, page_size=4, cache_pages=600)
THREES = Attention(heads=3, kv_heads=1, head_size=1, page_size=16, cache_pages=90)
DEAR = replace(FAMILY, costs={16: Costs(0, 1), 64: Costs(2**16, 2**16), 128: Costs(7, 3)})


@dataclass(frozen=True)
class Config:
    """What a kernel is compiled for, with small CTAs so that most loops go round."""

    family: Attention
    capacity: Capacity
    policy: str = "prefix-sums"
    cuts: CutRule | None = None
    threads: int = 32
    grid: int = 2


def room(family: Attention = FAMILY, ctas: int = 5, cuts: CutRule | None = None) -> Capacity:
    return capacity_for(family, 8, 400, 700, ctas, cuts)


CONFIGS = {
    "shares": Config(FAMILY, room()),
    "shares of one line": Config(FAMILY, replace(room(), rows=8, lines=1)),
    "shares of one line, many rows": Config(FAMILY, replace(room(), lines=1)),
    "shares of one CTA": Config(FAMILY, room(ctas=1)),
    "shares of many CTAs": Config(FAMILY, room(ctas=30), threads=64),
    "shares, groups of three": Config(THREES, room(THREES)),
    "shares, dear tiles": Config(DEAR, room(DEAR), threads=64),
    "shares, few slots": Config(FAMILY, replace(room(), partials=3)),
    "shares, few items": Config(FAMILY, replace(room(), items=9)),
    "shares, longest first": Config(FAMILY, room(), "longest-first"),
    "whole, round robin": Config(FAMILY, room(cuts=Whole()), "round-robin", Whole()),
    "whole, prefix sums": Config(FAMILY, room(cuts=Whole()), "prefix-sums", Whole()),
    "invariant": Config(FAMILY, room(cuts=Invariant(64)), "prefix-sums", Invariant(64), 64),
    "invariant, dear tiles": Config(DEAR, room(DEAR, cuts=Invariant(100)), "prefix-sums", Invariant(100)),
    "invariant, longest first": Config(FAMILY, room(ctas=17, cuts=Invariant(64)), "longest-first", Invariant(64), 64),
    "invariant, round robin": Config(THREES, room(THREES, cuts=Invariant(20)), "round-robin", Invariant(20)),
    "invariant without room": Config(FAMILY, room(), "prefix-sums", Invariant(64)),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CpuKernel]:
    """Kernels that are compiled already; see :func:`made`."""
    return {}


def made(kernels: dict[str, CpuKernel], config: Config, batch: AttentionBatch, folder) -> dict[str, np.ndarray]:
    """The arrays that the kernel writes over poison."""
    scalars = scalars_of(config.family, config.capacity, config.policy, config.cuts)
    shapes = buffer_shapes(config.capacity)
    key = str(config)
    if key not in kernels:
        launch = Launch((config.grid, 1, 1), (config.threads, 1, 1), launch_for(config.capacity, scalars).shared_bytes)
        place = folder.mktemp("schedule")
        kernels[key] = CpuKernel(place, attention_schedule.declare(scalars), shapes, launch, **scalars)
    arrays = {name: np.full(shape, POISON, np.int32) for name, shape in shapes.items()}
    arrays["requests"][:] = batch.requests
    for name in ("query_pointers", "kv_lengths", "page_pointers", "pages"):
        arrays[name][:] = getattr(batch, name)
    kernels[key](arrays)
    return arrays


def require_same(arrays: dict[str, np.ndarray], config: Config, batch: AttentionBatch) -> Status:
    wanted = make_schedule(config.family, batch, config.capacity, POLICIES[config.policy], config.cuts)
    for name in ("status", "counts", "pointers", "items", "counters"):
        expected = getattr(wanted, name)
        assert np.array_equal(arrays[name][: len(expected)], expected), name
    assert (arrays["counters"][len(wanted.counters) :] == POISON).all()
    return wanted.finding.status


@st.composite
def batches(draw, config: Config) -> AttentionBatch:
    """Right batches, and some in which one number is another one; pages may be reserved ahead of need."""
    capacity = config.capacity
    query = st.one_of(st.just(1), st.integers(0, 200))
    queries = draw(st.lists(query, min_size=1, max_size=capacity.requests))
    assume(sum(queries) <= capacity.rows)
    kv = [q + draw(st.integers(0 if q else 1, 300)) for q in queries]
    found = attention_batch(config.family, capacity, queries, kv)
    if draw(st.booleans()):
        return found
    array = draw(st.sampled_from([found.query_pointers, found.kv_lengths, found.page_pointers, found.pages]))
    number = draw(st.one_of(st.integers(-2, 9), st.sampled_from([600, 701, 2**31 - 1, -(2**31)])))
    array[draw(st.integers(0, min(len(queries), len(array) - 1)))] = number
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_schedules_are_those_of_numpy(name: str, kernels, tmp_path_factory) -> None:
    config = CONFIGS[name]

    @given(batches(config))
    def holds(batch: AttentionBatch) -> None:
        arrays = made(kernels, config, batch, tmp_path_factory)
        event(require_same(arrays, config, batch).name)

    holds()


@pytest.mark.parametrize("name", BAD)
def test_bad_batches_get_their_status(name: str, kernels, tmp_path_factory) -> None:
    config = Config(FAMILY, Capacity(4, 20, 40, 3, 10, 4))
    changes, status, where = BAD[name]
    changes = dict(changes)
    batch = attention_batch(FAMILY, config.capacity, [1, 3], [9, 5])
    batch = replace(batch, requests=changes.pop("requests", 2))
    for array, (index, value) in changes.items():
        getattr(batch, array)[index] = value
    arrays = made(kernels, config, batch, tmp_path_factory)
    assert arrays["status"].tolist() == [status, where]
    require_same(arrays, config, batch)


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (Config(FAMILY, room()), Status.OK),
        (Config(FAMILY, replace(room(), partials=1)), Status.UNSPLIT),
        (Config(FAMILY, replace(room(), items=5)), Status.UNSPLIT),
        (Config(FAMILY, replace(room(), items=4)), Status.UNSPLIT),
        (Config(FAMILY, replace(room(), items=3)), Status.TOO_MANY_ITEMS),
        (Config(FAMILY, room(), cuts=Invariant(64)), Status.UNSPLIT),
    ],
)
def test_what_does_not_fit(config: Config, status: Status, kernels, tmp_path_factory) -> None:
    batch = attention_batch(FAMILY, config.capacity, [1, 3], [900, 500])
    arrays = made(kernels, config, batch, tmp_path_factory)
    assert require_same(arrays, config, batch) is status


def test_costs_beyond_the_limit_are_refused(kernels, tmp_path_factory) -> None:
    """Tiles of 2^16 a block: 2^40 are 2^24 blocks, and pages are as long as they like."""
    costs = {tile: Costs(0, 2**16) for tile in (16, 64, 128)}
    family = Attention(2, 2, 1, 2**24, 10, costs)
    config = Config(family, Capacity(4, 10, 64, 3, 50, 4))
    found = []
    for length in (2**29 - 64, 2**29, 2**29 + 1):
        batch = attention_batch(family, config.capacity, [1], [length], pages=[0] * 33)
        found.append(require_same(made(kernels, config, batch, tmp_path_factory), config, batch))
    assert found == [Status.OK, Status.OK, Status.TOO_MUCH_WORK]


def test_all_of_many_pages_are_looked_at(kernels, tmp_path_factory) -> None:
    """A thread of 32 looks at four times eight at once."""
    config = Config(FAMILY, capacity_for(FAMILY, 2, 8, 2800, 3))
    for index in (0, 1023, 1024, 1500, 2047, 2048, 2746, 2747):
        pages = [index % 600 for index in range(2748)]
        pages[index] = 600
        batch = attention_batch(FAMILY, config.capacity, [1, 1], [8000, 2992], pages)
        arrays = made(kernels, config, batch, tmp_path_factory)
        require_same(arrays, config, batch)
        assert arrays["status"].tolist() == [Status.BAD_PAGE, int(index >= 2000)]


def test_reserved_pages_may_be_anything(kernels, tmp_path_factory) -> None:
    config = CONFIGS["shares"]
    batch = attention_batch(FAMILY, config.capacity, [1, 3], [9, 5])
    batch.page_pointers[2] = 40
    arrays = made(kernels, config, batch, tmp_path_factory)
    assert require_same(arrays, config, batch) is Status.OK


@given(st.lists(st.integers(1, 30), min_size=8, max_size=8), st.integers(0, 5))
@example([1, 1, 1, 1, 1, 1, 1, 30], 0)
def test_longest_first_with_ties(kernels, tmp_path_factory, blocks: list[int], same: int) -> None:
    config = CONFIGS["invariant, longest first"]
    kv = [min(64 * (blocks[0] if i < same else b), 340) for i, b in enumerate(blocks)]
    batch = attention_batch(FAMILY, config.capacity, [1] * 8, kv)
    require_same(made(kernels, config, batch, tmp_path_factory), config, batch)


@pytest.mark.parametrize("blocks", [30, 150, 325])
def test_one_long_request_among_many_short_ones(blocks: int, kernels, tmp_path_factory) -> None:
    """The other CTA gets all the short ones, or as many more as make up for the long one."""
    costs = {16: Costs(2, 4), 64: Costs(8, 4), 128: Costs(8, 4)}
    family = Attention(heads=1, kv_heads=1, head_size=1, page_size=64, cache_pages=600, costs=costs)
    config = Config(family, capacity_for(family, 101, 101, 600, 2, Whole()), "longest-first", Whole(), 32, 1)
    batch = attention_batch(family, config.capacity, [1] * 101, [9] * 40 + [64 * blocks] + [9] * 60)
    arrays = made(kernels, config, batch, tmp_path_factory)
    assert require_same(arrays, config, batch) is Status.OK
    first, stop = (int(x) for x in arrays["pointers"][1:])
    counts = sorted((first, stop - first))
    difference = (2 + 4 * blocks) // 6  # short ones that are as dear as the long one
    assert abs(counts[1] - counts[0] + 1 - min(99, difference)) <= 2


def test_what_is_not_made_on_the_device_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not made on the device"):
        scalars_of(FAMILY, room(), cuts=Chunks())
    with pytest.raises(InvalidInput, match="unknown policy 'shortest-first'"):
        scalars_of(FAMILY, room(), "shortest-first")
    with pytest.raises(InvalidInput, match="packed rows"):
        scalars_of(FAMILY, replace(room(), rows=2**30))
    with pytest.raises(InvalidInput, match="pages"):
        buffer_shapes(replace(room(), pages=0))
    large = replace(room(), items=20_000)
    with pytest.raises(InvalidInput, match="too large for a schedule that is made on the device"):
        launch_for(large, scalars_of(FAMILY, large, "longest-first"))
    many = replace(room(), ctas=1026)
    with pytest.raises(InvalidInput, match="at most 1024 CTAs, not of 1026"):
        launch_for(many, scalars_of(FAMILY, many))

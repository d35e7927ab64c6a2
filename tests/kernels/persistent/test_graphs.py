"""A graph that makes the schedule and works it off: captured once, replayed with any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forerun
from forerun.ir.graph import Graph
from forerun.kernels.persistent import attention
from forerun.kernels.persistent.ragged_attention import BATCH, RaggedAttention
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import Source, compile_units, missing_toolchain
from forerun.schedules.attention import Attention, attention_batch
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.item_times import item_times
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import capacity_for, make_schedule
from forerun.schedules.status import Status
from tests.schedules.batches import Case, attention_by_definition, lengths, make_case, random_values

MISSING = missing_toolchain()

RULES = {
    "prefix-sums": Shares(),
    "longest-first": Invariant(64),
    "round-robin": Whole(),
}


def ragged(policy: str = "prefix-sums", heads: tuple[int, int, int, int] = (4, 2, 64, 16)) -> RaggedAttention:
    family = Attention(*heads, cache_pages=300)
    return RaggedAttention(family, capacity_for(family, 8, 900, 300, 5, RULES[policy]), policy, RULES[policy])


def graph_of(made: RaggedAttention) -> Graph:
    builder = forerun.GraphBuilder("ragged")
    buffers = {**made.batch(builder), **made.values(builder), **made.workspace(builder)}
    made.schedule(builder, buffers)
    made.attend(builder, buffers)
    return builder.build()


def case_of(made: RaggedAttention, queries: list[int], kv: list[int], seed: int = 0) -> Case:
    values = random_values(queries, kv, seed, made.family)
    for part in (values.queries, values.keys, values.values):
        part[:] = [array.astype(ml_dtypes.bfloat16).astype(np.float32) for array in part]
    return make_case(values, policy=made.policy, cuts=made.cuts, family=made.family, capacity=made.capacity, seed=seed)


def run(program: Any, case: Case) -> np.ndarray:
    """The results of a replay; what is behind the batch is poisoned, as it is in the case."""
    q, k, v = (memory.astype(ml_dtypes.bfloat16) for memory in case.memory)
    program.write("k_cache", k)
    program.write("v_cache", v)
    batch = {name: getattr(case.batch, name) for name in BATCH[1:]}
    found = program(requests=np.array([case.batch.requests], np.int32), q=q, **batch)
    return found["y"].astype(np.float32)


def require_right(program: Any, made: RaggedAttention, case: Case) -> None:
    rows = sum(len(q) for q in case.values.queries)
    y = run(program, case)
    assert np.abs(y[:rows] - attention_by_definition(case.values, made.family)).max(initial=0) < 0.02
    wanted = make_schedule(made.family, case.batch, made.capacity, POLICIES[made.policy], made.cuts)
    assert program.read("status").tolist() == wanted.status.tolist()
    assert program.read("counts").tolist() == wanted.counts.tolist()
    assert program.read("pointers").tolist() == wanted.pointers.tolist()
    count = int(wanted.counts[0])
    assert np.array_equal(program.read("items")[:count], wanted.items[:count])
    assert not program.read("arrived").any()


@pytest.mark.parametrize("policy", RULES)
def test_all_batches_run_through_one_program(policy: str) -> None:
    made = ragged(policy)
    with forerun.compile(graph_of(made), "reference{schedule=adversarial,seed=1}") as program:

        @given(lengths(6, 200), st.integers(0, 9))
        def holds(batch: tuple[list[int], list[int]], seed: int) -> None:
            require_right(program, made, case_of(made, *batch, seed))

        holds()


def test_the_reference_records_items_one_behind_the_other() -> None:
    made = replace(ragged(), recorded=True)
    with forerun.compile(graph_of(made)) as program:
        case = case_of(made, [1, 20, 1], [700, 100, 1])
        require_right(program, made, case)
        times = item_times(case.schedule, program.read("records"))
    assert times.begin.tolist() == list(range(len(times.items)))
    assert (times.end - times.begin == 1).all()
    assert times.busy.tolist() == np.diff(case.schedule.pointers).tolist()


def test_a_bad_batch_is_told_by_the_status() -> None:
    made = ragged()
    with forerun.compile(graph_of(made)) as program:
        case = case_of(made, [1], [100])
        case.batch.pages[2] = 300
        assert np.isnan(run(program, case)).all()
        assert program.read("status").tolist() == [Status.BAD_PAGE, 0]
        require_right(program, made, case_of(made, [1], [100]))


def test_the_kernel_waits_for_the_schedule() -> None:
    graph = PassManager("exact").run(graph_of(ragged())).graph
    (dependency,) = graph.dependencies
    assert dependency.kind.value == "programmatic"
    kernel = graph.kernels[graph.nodes["attention"].kernel]
    assert [getattr(step, "name", "wait") for _, _, step in kernel.steps()] == ["wait", "attend"]


def test_room_for_prefill_gets_warpgroups() -> None:
    family = Attention(4, 2, 64, 16, cache_pages=300)
    threads = {rows: attention.launch_for(capacity_for(family, 8, rows, 300, 5)).block[0] for rows in (7, 8, 9)}
    assert threads == {7: 256, 8: 256, 9: 512}


@pytest.mark.slow
@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize("heads", [(28, 4, 128, 16), (14, 2, 64, 64), (24, 8, 128, 16)])
def test_machine_code(heads: tuple[int, int, int, int]) -> None:
    """Tensor cores, whose products are awaited late, copies without registers, and no spills where they compute."""
    found, _ = units(graph_of(ragged(heads=heads)))
    facts = {}
    for unit, cubin in zip(
        found, compile_units([u.source for u in found if isinstance(u.source, Source)]), strict=True
    ):
        facts[unit.entry] = cubin.entries[unit.entry]
    for entry, each in facts.items():
        assert each.spill_store_bytes <= (64 if "persistent" in entry else 0), entry
        assert not any(instruction.constant for instruction in each.instructions), entry
    assert facts["attention_schedule_two_lines_kernel"].registers <= 128
    opcodes = [instruction.opcode for instruction in facts["attention_persistent_bf16_kernel"].instructions]
    for product in ("HMMA", "HGMMA"):
        places = [place for place, opcode in enumerate(opcodes) if opcode.startswith(product)]
        assert not any(opcode.startswith(("LDL", "STL")) for opcode in opcodes[places[0] : places[-1]])
    steps = heads[2] // 16  # of 16 elements; a product each for scores, and one for values
    assert sum(opcode.startswith("HMMA.16816.F32.BF16") for opcode in opcodes) == 2 * steps
    assert sum(opcode.startswith("LDSM.16.M88.4") for opcode in opcodes) == steps
    assert sum(opcode.startswith("LDSM.16.MT88.4") for opcode in opcodes) == steps
    assert any(opcode.startswith("LDGSTS") for opcode in opcodes)
    # The first block's scores, and those of the others with the values of the one before; the last block's values.
    assert sum(opcode.startswith("HGMMA") for opcode in opcodes) == 2 * steps + 2 * 4
    # Both branches after the weights wait for these: a wait in front of the branch would come before the weights.
    assert sum(opcode.startswith("WARPGROUP.DEPBAR") for opcode in opcodes) == 5
    if heads[2] == 128:  # with 64, all roles have what they need from the start
        assert sum(opcode.startswith("USETMAXREG") for opcode in opcodes) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [(28, 4, 128, 16), (14, 2, 64, 64), (24, 8, 128, 16), (16, 2, 128, 64)])
@pytest.mark.parametrize("policy", RULES)
def test_on_a_gpu(policy: str, heads: tuple[int, int, int, int]) -> None:
    made = ragged(policy, heads)
    with forerun.compile(graph_of(made), "cuda") as program:
        chooser = np.random.default_rng(0)
        for seed in range(20):
            queries = [
                int(chooser.choice([0, 1, 1, 1, chooser.integers(1, 100)])) for _ in range(chooser.integers(1, 9))
            ]
            kv = [q + int(chooser.integers(not q, 400)) for q in queries]
            require_right(program, made, case_of(made, queries, kv, seed))


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("cuts", [Shares(), Invariant(), Whole()])
def test_large_schedules_on_a_gpu(policy: str, cuts: CutRule) -> None:
    """As NumPy makes them, on 132 CTAs, for a few requests and for many."""
    family = Attention(28, 4, 128, 16, cache_pages=40_000)
    made = RaggedAttention(family, capacity_for(family, 600, 8000, 40_000, 132, cuts), policy, cuts)
    builder = forerun.GraphBuilder("schedule")
    made.schedule(builder, {**made.batch(builder), **made.workspace(builder)})
    chooser = np.random.default_rng(0)
    with forerun.compile(builder.build(), "cuda") as program:
        for count in (1, 3, 40, 128, 600):
            kv = np.exp(chooser.uniform(0, 8, count)).astype(int) + 1
            queries = [int(min(q, chooser.choice([1, 1, 1, 30]))) for q in kv]
            batch = attention_batch(family, made.capacity, queries, kv.tolist())
            program(requests=np.array([count], np.int32), **{name: getattr(batch, name) for name in BATCH[1:]})
            wanted = make_schedule(family, batch, made.capacity, POLICIES[policy], cuts)
            assert wanted.finding.status is Status.OK
            assert program.read("pointers").tolist() == wanted.pointers.tolist()
            items, slots, counters = wanted.counts.tolist()
            assert program.read("counts").tolist() == [items, slots, counters]
            assert np.array_equal(program.read("items")[:items], wanted.items[:items])
            assert np.array_equal(program.read("counters")[:counters], wanted.counters[:counters])


@pytest.mark.gpu
def test_items_are_recorded_on_a_gpu() -> None:
    made = replace(ragged(), recorded=True)
    with forerun.compile(graph_of(made), "cuda") as program:
        for seed, (queries, kv) in enumerate([([1, 40, 1], [700, 300, 1]), ([1] * 8, [150] * 8)]):
            case = case_of(made, queries, kv, seed)
            require_right(program, made, case)
            times = item_times(case.schedule, program.read("records"))
            shares = np.repeat(np.arange(made.capacity.ctas), np.diff(case.schedule.pointers))
            assert (times.line * times.ctas + times.cta).tolist() == shares.tolist()
            assert (times.between >= 0).all()
            assert 0 < times.span < 10**9


@pytest.mark.gpu
def test_bits_do_not_change_between_replays_on_a_gpu() -> None:
    made = ragged()
    with forerun.compile(graph_of(made), "cuda{delays=3}") as program:
        case = case_of(made, [1, 40, 1, 1], [700, 300, 1, 900])
        first = run(program, case)[:43]
        assert all(np.array_equal(run(program, case)[:43], first) for _ in range(20))

"""A graph that makes the schedule of rows of experts and works it off: captured once, replayed with any batch."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.graph import Graph
from forerun.kernels.persistent import expert_tiles
from forerun.kernels.persistent.expert_rows import launch_expert
from forerun.kernels.persistent.ragged_experts import RaggedExperts
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import Source, compile_units, missing_toolchain
from forerun.schedules.cuts import CutRule, Shares, Whole
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.policies import POLICIES
from forerun.schedules.schedule import capacity_for, make_schedule
from forerun.schedules.status import Status

MISSING = missing_toolchain()

RULES: dict[str, CutRule] = {"prefix-sums": Shares(), "round-robin": Whole()}


def ragged(policy: str = "prefix-sums", shape: tuple[int, int, int] = (4, 72, 96), ctas: int = 5) -> RaggedExperts:
    family = ExpertGemv(*shape)
    return RaggedExperts(family, capacity_for(family, family.experts, 60, 0, ctas), policy, RULES[policy])


def graph_of(made: RaggedExperts) -> Graph:
    builder = forerun.GraphBuilder("experts")
    buffers = {**made.batch(builder), **made.values(builder), **made.workspace(builder)}
    made.schedule(builder, buffers)
    made.multiply(builder, buffers)
    return builder.build()


def graph_of_launches(made: RaggedExperts) -> Graph:
    builder = forerun.GraphBuilder("launches")
    buffers = {**made.batch(builder), **made.values(builder)}
    launch = expert_tiles.launch_for(made.family, 5)
    for expert in range(made.family.experts):
        launch_expert(builder, buffers, expert, f"expert{expert}", launch)
    return builder.build()


def run(program: Any, made: RaggedExperts, counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The results of the batch's rows, and what they are by definition; what is behind the batch is NaN."""
    chooser, shapes = np.random.default_rng(seed), made.shapes()
    w = chooser.standard_normal(shapes["w"]).astype(ml_dtypes.bfloat16)
    x = np.full(shapes["x"], np.nan, ml_dtypes.bfloat16)
    x[: sum(counts)] = chooser.standard_normal((sum(counts), shapes["x"][1]))
    program.write("w", w)
    pointers = np.cumsum([0, *counts]).astype(np.int32)
    y = program(row_pointers=pointers, x=x)["y"][: sum(counts)].copy()
    expert = np.repeat(np.arange(len(counts)), counts)
    products = [w[e].astype(np.float32) @ row.astype(np.float32) for e, row in zip(expert, x, strict=False)]
    return y, np.array(products, np.float32).reshape(y.shape)


def require_right(program: Any, made: RaggedExperts, counts: list[int], seed: int = 0) -> None:
    y, expected = run(program, made, counts, seed)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)
    batch = ExpertBatch(np.cumsum([0, *counts]).astype(np.int32))
    wanted = make_schedule(made.family, batch, made.capacity, POLICIES[made.policy], made.cuts)
    for name in ("status", "counts", "pointers"):
        assert program.read(name).tolist() == getattr(wanted, name).tolist()
    items = int(wanted.counts[0])
    assert np.array_equal(program.read("items")[:items], wanted.items[:items])


COUNTS = st.lists(st.integers(0, 15), min_size=4, max_size=4).filter(any)


@pytest.mark.parametrize("policy", RULES)
def test_all_batches_run_through_one_program(policy: str) -> None:
    made = ragged(policy)
    with forerun.compile(graph_of(made), "reference{schedule=adversarial,seed=1}") as program:

        @settings(max_examples=10)
        @given(COUNTS, st.integers(0, 9))
        def holds(counts: list[int], seed: int) -> None:
            require_right(program, made, counts, seed)

        holds()


def test_a_bad_batch_is_told_by_the_status() -> None:
    made = ragged()
    with forerun.compile(graph_of(made)) as program:
        x = np.zeros(made.shapes()["x"], ml_dtypes.bfloat16)
        y = program(row_pointers=np.array([0, 5, 4, 6, 9], np.int32), x=x)["y"]
        assert np.isnan(y).all()
        assert program.read("status").tolist() == [Status.BAD_POINTERS, 1]
        require_right(program, made, [5, 0, 1, 20])


def test_launches_of_experts_have_the_same_bits() -> None:
    made, counts = ragged(), [5, 0, 1, 20]
    with forerun.compile(graph_of(made)) as one, forerun.compile(graph_of_launches(made)) as many:
        assert run(one, made, counts)[0].tobytes() == run(many, made, counts)[0].tobytes()


@pytest.mark.slow
@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_machine_code() -> None:
    """Tensor cores, copies without registers, rows by the copy engine, and no spills."""
    found, _ = units(graph_of(ragged(shape=(32, 2880, 2880), ctas=132)))
    sources = [unit.source for unit in found if isinstance(unit.source, Source)]
    facts = {u.entry: cubin.entries[u.entry] for u, cubin in zip(found, compile_units(sources), strict=True)}
    assert [(each.stack_bytes, each.spill_store_bytes) for each in facts.values()] == [(0, 0), (0, 0)]
    opcodes = [instruction.opcode for instruction in facts["expert_tiles_bf16_kernel"].instructions]
    # A stage is four steps of 16 columns: for up to 16 rows, with eight products, and for up to 8.
    assert sum(opcode.startswith("HMMA.16816.F32.BF16") for opcode in opcodes) == 8 + 4
    assert sum(opcode.startswith("LDSM.16.M88.4") for opcode in opcodes) == 8 + 6
    assert any(opcode.startswith("LDGSTS") for opcode in opcodes)
    assert any(opcode.startswith("UBLKCP") for opcode in opcodes)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", RULES)
@pytest.mark.parametrize("shape", [(8, 2880, 2880), (4, 720, 144), (3, 100, 7168)])
def test_on_a_gpu(policy: str, shape: tuple[int, int, int]) -> None:
    made, chooser = ragged(policy, shape, ctas=132), np.random.default_rng(0)
    launches = graph_of_launches(made)
    with forerun.compile(graph_of(made), "cuda{delays=3}") as one, forerun.compile(launches, "cuda") as many:
        for seed in range(4):
            counts = (chooser.multinomial(chooser.integers(1, 61), chooser.dirichlet([0.5] * shape[0]))).tolist()
            require_right(one, made, counts, seed)
            assert run(one, made, counts, seed)[0].tobytes() == run(many, made, counts, seed)[0].tobytes()

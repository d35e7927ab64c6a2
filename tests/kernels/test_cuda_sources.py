"""What the kernels compile to: no spills, two CTAs an SM, and hoisted loads that stay ahead of the wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import pytest

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LLAMA_3_2_1B, QWEN2_5_0_5B, SMOLLM2_135M, LlamaConfig
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.codegen.specialise import Unit, units
from forerun.runtime.toolchain import EntryFacts, Source, compile_units, missing_toolchain
from tests.kernels.cuda_cases import small_cases
from tests.kernels.on_cpu.runner import unit_of

MISSING = missing_toolchain()
pytestmark = [pytest.mark.slow, pytest.mark.toolchain, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

REGISTERS_OF_AN_SM = 65536


def step_of(config: LlamaConfig, dtype: DType, cache_dtype: DType, splits: int) -> Graph:
    """One layer of a model, through the pipeline `exact`."""
    graph = decode_graph(
        replace(config, layers=1), dtype=dtype, cache_dtype=cache_dtype, splits=splits, argmax_parts=128
    )
    return PassManager("exact").run(graph).graph


GRAPHS = {
    "smollm2": step_of(SMOLLM2_135M, DType.BF16, DType.F32, 42),
    "smollm2_f32": step_of(SMOLLM2_135M, DType.F32, DType.F32, 1),
    "llama": step_of(LLAMA_3_2_1B, DType.BF16, DType.BF16, 16),
    "llama_f16": step_of(LLAMA_3_2_1B, DType.F16, DType.F16, 1),
    "llama_128": step_of(replace(LLAMA_3_2_1B, heads=16, kv_heads=4, head_size=128), DType.BF16, DType.BF16, 16),
    "qwen2_5": step_of(QWEN2_5_0_5B, DType.BF16, DType.BF16, 32),
}


def compiled(found: list[Unit]) -> Iterator[tuple[Unit, EntryFacts]]:
    sources = [unit.source for unit in found if isinstance(unit.source, Source)]
    for unit, cubin in zip(found, compile_units(sources), strict=True):
        yield unit, cubin.entries[unit.entry]


def loads_around_the_wait(facts: EntryFacts) -> tuple[list[str], list[str]]:
    """Opcodes of the loads before and after the wait."""
    kinds = [instruction.kind for instruction in facts.instructions]
    wait = kinds.index("wait")
    loads = [i for i, kind in enumerate(kinds) if kind == "load"]
    opcodes = [instruction.opcode for instruction in facts.instructions]
    return [opcodes[i] for i in loads if i < wait], [opcodes[i] for i in loads if i > wait]


@pytest.mark.parametrize("model", GRAPHS)
def test_kernels_of_models_fit_beside_their_neighbours_and_load_early(model: str) -> None:
    found, _ = units(GRAPHS[model])
    assert len(found) >= 10
    hoisted = set()
    for unit, facts in compiled(found):
        threads = prod(unit.launch.block)
        assert facts.stack_bytes == facts.spill_store_bytes == 0, unit.entry
        assert 2 * threads * facts.registers <= REGISTERS_OF_AN_SM, unit.entry
        assert not any(instruction.constant for instruction in facts.instructions), unit.entry
        if "_hoisted" in unit.entry:
            early, late = loads_around_the_wait(facts)
            assert early, unit.entry
            hoisted.add(unit.entry.partition("_pdl")[0])
            if unit.entry.startswith("gemv"):
                # All weights, 16 bytes at a time; activations go to shared memory.
                assert set(early) == {"LDG.E.NA.128"}, unit.entry
                assert set(late) == {"LDGSTS.E.BYPASS.128"}, unit.entry
                assert 3 * threads * facts.registers <= REGISTERS_OF_AN_SM, unit.entry
            if unit.entry.startswith("attention"):
                assert early.count("LDG.E.NA.128") >= 8, unit.entry
    assert {name.partition("_bf16")[0].partition("_f16")[0] for name in hoisted} >= {"gemv", "rmsnorm", "rope_append"}


def test_a_warp_has_up_to_16_kb_of_weights_in_registers() -> None:
    found, nodes = units(GRAPHS["llama"])
    facts = list(compiled(found))
    for name, count in {"blk.0.attn_q": 32, "blk.0.attn_k": 8, "blk.0.ffn_down": 32, "output": 32}.items():
        early, _ = loads_around_the_wait(facts[nodes[name]][1])
        assert len(early) == count, name


def test_every_shape_and_launch_compiles() -> None:
    found = [unit_of(case.kernel, case.shapes, case.launch, **case.constants) for case in small_cases()]
    for unit, facts in compiled(found):
        assert facts.registers <= 255
        assert not any(instruction.constant for instruction in facts.instructions), unit.entry

"""The machine code of models' decode steps keeps what the passes chose: no hoist is lost, no neighbour is shut out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LLAMA_3_2_1B, QWEN2_5_0_5B, SMOLLM2_135M, LlamaConfig
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.passes.hoist_loads import hoisted
from forerun.passes.infra.manager import PassManager
from forerun.passes.insert_pdl import with_trigger, with_waits
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.sass.inspection import inspect_code, prove_code
from forerun.runtime.cuda.sass.proof import prove_unit
from forerun.runtime.toolchain import EntryFacts, Source, compile_units, missing_toolchain
from forerun.testing import assert_hoists_survive
from tests.kernels.cuda_cases import small_cases
from tests.kernels.on_cpu.runner import unit_of

MISSING = missing_toolchain()
pytestmark = [pytest.mark.slow, pytest.mark.toolchain, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

MODELS = {config.name: config for config in (LLAMA_3_2_1B, QWEN2_5_0_5B, SMOLLM2_135M)}


def step_of(config: LlamaConfig, pipeline: str, dtype: DType = DType.BF16) -> Graph:
    """One layer of a model, through a pipeline."""
    one = replace(config, layers=1)
    return (
        PassManager(pipeline).run(decode_graph(one, dtype=dtype, cache_dtype=dtype, splits=16, argmax_parts=128)).graph
    )


@pytest.mark.parametrize(
    "pipeline", ["exact", "fast", "fuse-kernels,infer-dependencies,insert-pdl{trigger=end},hoist-loads"]
)
@pytest.mark.parametrize("model", MODELS)
def test_hoists_of_models_survive(model: str, pipeline: str) -> None:
    proofs = assert_hoists_survive(step_of(MODELS[model], pipeline), at_least=6)
    assert all(proof.unplaced == 0 for proof in proofs)


@pytest.mark.parametrize("pipeline", ["exact", "fast"])
def test_neighbours_fit_beside_each_other(pipeline: str) -> None:
    """Except for the fused down projection, whose rings take 192 KB on purpose (``projection_add.launch_for``)."""
    graph = step_of(LLAMA_3_2_1B, pipeline)
    found = inspect_code(graph, build_code(graph, "sm_90"), "sm_90", 132)
    assert found.occupancy is not None
    assert found.occupancy.edges
    shut_out = [(edge.source, edge.target) for edge in found.occupancy.edges if edge.overlap == "none"]
    down = "blk.0.ffn_residual.fused"
    assert shut_out == ([("blk.0.ffn_act.fused", down), (down, "argmax_partial.fused")] if pipeline == "fast" else [])


def with_wait_at(facts: EntryFacts, index: int) -> EntryFacts:
    """The same image with its wait elsewhere: instead of the instruction at an index."""
    code = list(facts.instructions)
    at = next(i for i, instruction in enumerate(code) if instruction.kind == "wait")
    code[index] = replace(code[index], opcode=code[at].opcode, text=code[at].text, source=code[at].source, targets=())
    code[at] = replace(code[at], opcode="NOP", text="NOP")
    return replace(facts, instructions=tuple(code))


@pytest.mark.parametrize("pipeline", ["exact", "fast"])
@pytest.mark.parametrize("model", MODELS)
def test_a_wait_elsewhere_would_be_noticed(model: str, pipeline: str) -> None:
    """The images of real kernels, with the wait moved by as little as changes what it orders."""
    graph = step_of(MODELS[model], pipeline)
    code = build_code(graph, "sm_90")
    moved = 0
    for unit, kernel, facts in zip(code.units, code.kernel_of, code.entries, strict=True):
        assert facts is not None
        proof = prove_unit(graph.kernels[kernel], unit, facts)
        if not proof.hoisted:
            continue
        moved += 1
        loads = [i for i, instruction in enumerate(facts.instructions) if instruction.kind in ("load", "bulk")]
        at = next(i for i, instruction in enumerate(facts.instructions) if instruction.kind == "wait")
        last, first = max(i for i in loads if i < at), min(i for i in loads if i > at)
        above = prove_unit(graph.kernels[kernel], unit, with_wait_at(facts, last - 1))
        assert "S3" in {finding.code for finding in above.lost}, kernel
        below = prove_unit(graph.kernels[kernel], unit, with_wait_at(facts, first + 1))
        assert "S2" in {finding.code for finding in below.findings}, kernel
    assert moved >= 5


def test_no_kernel_raises_a_false_alarm() -> None:
    """Every kernel at every shape and launch of the tests, waiting first but for what may be hoisted."""
    made = []
    for case in small_cases():
        roles = tuple(replace(role, steps=hoisted(role, set())[0]) for role in with_waits(case.kernel.roles or ()))
        kernel = case.kernel.with_roles(f"{case.kernel.name}.early", with_trigger(roles, "end"))
        made.append((case, kernel, unit_of(kernel, case.shapes, case.launch, **case.constants)))
    sources = [unit.source for _, _, unit in made if isinstance(unit.source, Source)]
    for (case, kernel, unit), cubin in zip(made, compile_units(sources), strict=True):
        proof = prove_unit(kernel, unit, cubin.entries[unit.entry])
        assert proof.findings == (), case.name


def test_instrumented_kernels_keep_their_order_too() -> None:
    graph = step_of(SMOLLM2_135M, "fast")
    proofs = prove_code(graph, build_code(graph, "sm_90", delays=True, timeline=True))
    assert all(proof.findings == () for proof in proofs.values())

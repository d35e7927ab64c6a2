"""What the batched kernels compile to: loads ahead of the wait, tensor cores, neighbours that fit on an SM."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from forerun.frontends.llama_config import LLAMA_3_2_1B, SMOLLM2_135M
from forerun.ir.kernel import Kernel, Role, Trigger, Wait
from forerun.kernels.batched.sequences import Sequences
from forerun.runtime.cuda.codegen.specialise import Unit
from forerun.runtime.toolchain import EntryFacts, Source, compile_units, missing_toolchain
from tests.kernels.batched.batched_cases import cases_of_model, few_cases
from tests.kernels.cuda_cases import Case
from tests.kernels.on_cpu.runner import unit_of
from tests.kernels.test_fast_sources import (
    REGISTERS_OF_AN_SM,
    RESERVED,
    SHARED_OF_AN_SM,
    reads,
    registers,
    require_clean,
)

MISSING = missing_toolchain()
pytestmark = [pytest.mark.slow, pytest.mark.toolchain, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

EARLY = {"load_weights", "load_scale", "load_table", "load_past"}
CASES = {
    "llama": list(cases_of_model(LLAMA_3_2_1B, Sequences(8), 511)),
    "smollm2": list(cases_of_model(SMOLLM2_135M, Sequences(1, 4), 511)),
}


def hoisted(kernel: Kernel) -> Kernel:
    """The kernel as passes leave it: triggers at once, and waits after all that may stand before."""
    early = tuple(phase for phase in kernel.phases if phase.name in EARLY)
    late = tuple(phase for phase in kernel.phases if phase.name not in EARLY)
    return kernel.with_roles(f"{kernel.name}.hoisted", (Role("all", (Trigger(), *early, Wait(), *late)),))


def compiled(cases: list[Case]) -> Iterator[tuple[Case, Unit, EntryFacts]]:
    found = [unit_of(hoisted(case.kernel), case.shapes, case.launch, **case.constants) for case in cases]
    cubins = compile_units([unit.source for unit in found if isinstance(unit.source, Source)])
    for case, unit, cubin in zip(cases, found, cubins, strict=True):
        yield case, unit, cubin.entries[unit.entry]


@pytest.mark.parametrize("model", CASES)
def test_weights_are_on_their_way_before_the_wait_and_tiles_are_overwritten_after_their_sums(model: str) -> None:
    for case, unit, facts in compiled(CASES[model]):
        require_clean(unit, facts)
        early = reads(facts, early=True)
        if case.kernel.name.startswith("batched_attention"):
            assert early["LDG.E.NA.128"] >= 8
            continue
        assert early["UBLKCP.S.G"] == 1
        opcodes = [instruction.opcode for instruction in facts.instructions]
        late = opcodes[opcodes.index("ACQBULK") :]
        products = [at for at, opcode in enumerate(late) if opcode.startswith("HMMA.16816.F32.BF16")]
        steps = -(-case.shapes["x"][1] // 32 // 8) if case.launch.cluster is None else 8
        assert len(products) == 2 * min(8, steps)
        copies = [at for at, opcode in enumerate(late) if opcode.startswith("UBLKCP")]
        if not copies:  # a ring that holds all tiles
            continue
        fence = max(at for at, opcode in enumerate(late[: copies[0]]) if opcode.startswith("FENCE.VIEW.ASYNC"))
        sums = [at for at, opcode in enumerate(late[:fence]) if opcode.startswith("STS")]
        assert products[-1] < sums[-1] < fence < copies[0]


@pytest.mark.parametrize("model", CASES)
def test_each_kernel_fits_beside_the_next_one(model: str) -> None:
    qkv, attention, output, gate_up, down, head = compiled(CASES[model])
    chain = [qkv, attention, output, gate_up, down, qkv, attention, output, gate_up, down, head]
    for (_, unit, facts), (_, after, after_facts) in pairwise(chain):
        assert registers(unit, facts) + registers(after, after_facts) <= REGISTERS_OF_AN_SM, (unit.entry, after.entry)
        taken = sum(RESERVED + u.launch.shared_bytes + f.shared_bytes for u, f in ((unit, facts), (after, after_facts)))
        assert taken <= SHARED_OF_AN_SM, (unit.entry, after.entry)


def test_every_shape_and_launch_compiles() -> None:
    for _, unit, facts in compiled(list(few_cases())):
        assert facts.spill_store_bytes == facts.spill_load_bytes == 0, unit.entry

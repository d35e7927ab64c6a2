"""What the batched kernels compile to: loads ahead of the wait, tensor cores, neighbours that fit on an SM."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forerun.frontends.llama_config import LLAMA_3_2_1B
from forerun.ir.kernel import Kernel, Role, Trigger, Wait
from forerun.kernels.batched.sequences import Sequences
from forerun.runtime.cuda.codegen.specialise import Unit
from forerun.runtime.toolchain import EntryFacts, Source, compile_units, missing_toolchain
from tests.kernels.batched.batched_cases import cases_of_model
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


def hoisted(kernel: Kernel) -> Kernel:
    """The kernel as passes leave it: triggers at once, and waits after all that may stand before."""
    early = tuple(phase for phase in kernel.phases if phase.name in EARLY)
    late = tuple(phase for phase in kernel.phases if phase.name not in EARLY)
    return kernel.with_roles(f"{kernel.name}.hoisted", (Role("all", (Trigger(), *early, Wait(), *late)),))


@pytest.fixture(scope="module")
def llama() -> list[tuple[Case, Unit, EntryFacts]]:
    """The kernels of a layer of Llama-3.2-1B and the head, for eight sequences."""
    cases = list(cases_of_model(LLAMA_3_2_1B, Sequences(8), 511))
    found = [unit_of(hoisted(case.kernel), case.shapes, case.launch, **case.constants) for case in cases]
    cubins = compile_units([unit.source for unit in found if isinstance(unit.source, Source)])
    facts = [cubin.entries[unit.entry] for unit, cubin in zip(found, cubins, strict=True)]
    return list(zip(cases, found, facts, strict=True))


def test_earlier_rows_and_weights_are_loaded_before_the_wait(llama: list[tuple[Case, Unit, EntryFacts]]) -> None:
    for case, unit, facts in llama:
        require_clean(unit, facts)
        early = reads(facts, early=True)
        is_attention = case.kernel.name.startswith("batched_attention")
        assert early["LDG.E.NA.128"] >= 8 if is_attention else early["UBLKCP.S.G"] == 1, unit.entry


def test_tiles_are_multiplied_by_tensor_cores_and_overwritten_after_their_sums(
    llama: list[tuple[Case, Unit, EntryFacts]],
) -> None:
    refilled = 0
    for case, unit, facts in llama:
        opcodes = [instruction.opcode for instruction in facts.instructions]
        late = opcodes[opcodes.index("ACQBULK") :]
        products = [at for at, opcode in enumerate(late) if opcode.startswith("HMMA.16816.F32.BF16")]
        # Of attention eight with keys and eight with values, for each of two spans.
        assert len(products) == (32 if case.kernel.name.startswith("batched_attention") else 16)
        copies = [at for at, opcode in enumerate(late) if opcode.startswith("UBLKCP")]
        if not copies:
            continue
        fence = max(at for at, opcode in enumerate(late[: copies[0]]) if opcode.startswith("FENCE.VIEW.ASYNC"))
        sums = max(at for at, opcode in enumerate(late[:fence]) if opcode.startswith("STS"))
        assert products[-1] < sums < fence < copies[0], unit.entry
        refilled += 1
    assert refilled >= 3


def test_each_kernel_fits_beside_the_next_one(llama: list[tuple[Case, Unit, EntryFacts]]) -> None:
    """But for the head, which comes once: its rings are deeper instead."""
    qkv, attention, output, gate_up, down, _ = llama
    chain = [qkv, attention, output, gate_up, down, qkv]
    for (_, unit, facts), (_, after, after_facts) in pairwise(chain):
        assert registers(unit, facts) + registers(after, after_facts) <= REGISTERS_OF_AN_SM, (unit.entry, after.entry)
        taken = sum(RESERVED + u.launch.shared_bytes + f.shared_bytes for u, f in ((unit, facts), (after, after_facts)))
        assert taken <= SHARED_OF_AN_SM, (unit.entry, after.entry)

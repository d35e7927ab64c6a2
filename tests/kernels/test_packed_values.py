"""The CUDA C++ that reads quantised blocks, run on a GPU, and what it compiles to."""

from __future__ import annotations

import pytest

from forerun.runtime.toolchain import missing_toolchain
from tests.kernels.cuda_cases import Case
from tests.kernels.packed_cases import packed_cases, packed_cases_of_models
from tests.kernels.test_cuda_values import require_values
from tests.kernels.test_fast_sources import (
    RESERVED,
    SHARED_OF_AN_SM,
    compiled,
    reads,
    require_clean,
    require_refilled_after_sums,
)

MISSING = missing_toolchain()


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*packed_cases(), *packed_cases_of_models()], ids=str)
def test_values_are_those_of_numpy(case: Case) -> None:
    require_values(case, "cuda")


@pytest.mark.slow
@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_blocks_are_copied_ahead_of_the_wait_and_after_sums_in_shared_memory_for_two_kernels() -> None:
    gate_up, down = list(packed_cases_of_models())[2:4]
    shared = 0
    for _, unit, facts in compiled([gate_up, down]):
        require_clean(unit, facts)
        assert reads(facts, early=True)["UBLKCP.S.G"] >= 1
        opcodes = [instruction.opcode for instruction in facts.instructions]
        require_refilled_after_sums(opcodes[opcodes.index("ACQBULK") :])
        shared += RESERVED + unit.launch.shared_bytes + facts.shared_bytes
    assert shared <= SHARED_OF_AN_SM
    assert 2 * (RESERVED + gate_up.launch.shared_bytes) > SHARED_OF_AN_SM

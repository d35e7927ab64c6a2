"""Balanced launches, run on the CPU: wherever the CTAs run, each share is dealt once, and values are the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forerun.runtime.cuda import codegen
from forerun.runtime.cuda.balance import Balance
from forerun.runtime.cuda.codegen import TICKET
from tests.kernels.cuda_cases import Case
from tests.kernels.fast_cases import few_cases
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel, unit_of

PLACES: dict[str, Callable[[int], list[int]]] = {
    "one CTA an SM": lambda ctas: [(5 * i + 3) % ctas for i in range(ctas)],
    "all on fast SMs": lambda ctas: [0] * ctas,
    "none on a fast SM": lambda ctas: [1] * ctas,
    "SMs without a number in the mask": lambda ctas: [500 + i for i in range(ctas)],
}


def streaming_cases() -> list[Case]:
    """Of each kernel that streams rows, those with several CTAs."""
    return [case for case in few_cases() if case.kernel.name[:9] != "attention" and case.launch.grid[0] > 2]


def balance_for(case: Case) -> Balance:
    ctas = case.launch.grid[0]
    return Balance(ctas, tuple(range(0, ctas, 3)), 140)


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen, "LEAST_BYTES", 0)


@pytest.mark.skipif(COMPILER is None, reason="there is no g++")
@pytest.mark.parametrize("case", streaming_cases(), ids=str)
def test_values_are_the_same_bits_wherever_the_ctas_run(case: Case, tmp_path: Path) -> None:
    plain = CpuKernel(tmp_path / "plain", case.kernel, case.shapes, case.launch, **case.constants)
    balanced = CpuKernel(
        tmp_path / "balanced", case.kernel, case.shapes, case.launch, balance_for(case), **case.constants
    )
    expected = case.operands(1)
    plain(expected, **case.loaded[0])
    for place in PLACES.values():
        balanced.place(place(case.launch.grid[0]))
        found = case.operands(1)
        balanced(found, **case.loaded[0])
        assert balanced.ticket.value == 0, "the next replay finds the ticket as this one did"
        for name in case.written:
            assert found[name].tobytes() == expected[name].tobytes()


def test_there_are_cases_of_every_kernel() -> None:
    stems = {case.kernel.implementations[0].entry for case in streaming_cases()}
    assert stems == {"norm_qkv_rope", "norm_qkv_bias_rope", "norm_gate_up", "projection_add", "norm_head"}


def test_small_shares_and_other_grids_are_not_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    case = streaming_cases()[0]
    balance = balance_for(case)
    unit = unit_of(case.kernel, case.shapes, case.launch, balance, **case.constants)
    assert unit.slots[-1].parameter == TICKET
    monkeypatch.setattr(codegen, "LEAST_BYTES", 1 << 20)
    unit = unit_of(case.kernel, case.shapes, case.launch, balance, **case.constants)
    assert TICKET not in [slot.parameter for slot in unit.slots]

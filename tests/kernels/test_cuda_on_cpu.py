"""The CUDA C++ of the kernels, run on the CPU, against the NumPy functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.cuda_cases import Case, small_cases
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel

pytestmark = pytest.mark.slow


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.parametrize("case", list(small_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    kernel = CpuKernel(tmp_path, case.kernel, case.shapes, case.launch, **case.constants)
    for seed, loaded in enumerate(case.loaded):
        operands = case.operands(seed)
        expected = case.expected(operands, loaded)
        kernel(operands, **loaded)
        case.compare({name: operands[name] for name in case.written}, expected)

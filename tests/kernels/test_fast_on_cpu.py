"""The CUDA C++ of the fused kernels, run on the CPU, against the NumPy functions.

Copies are made as late as they may be, and what they overwrite is rubbish from the moment on that they begin.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.cuda_cases import Case
from tests.kernels.fast_cases import few_cases
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel

pytestmark = pytest.mark.slow


def require_values(case: Case, folder: Path) -> None:
    """Run the case, compiled in a folder, and compare."""
    kernel = CpuKernel(folder, case.kernel, case.shapes, case.launch, **case.constants)
    for seed, loaded in enumerate(case.loaded):
        operands = case.operands(seed)
        expected = case.expected(operands, loaded)
        kernel(operands, **loaded)
        case.compare({name: operands[name] for name in case.written}, expected)


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.parametrize("case", list(few_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    require_values(case, tmp_path)

"""The CUDA C++ of the batched kernels, run on the CPU, against the NumPy functions, and each vector against it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.batched.batched_cases import few_cases
from tests.kernels.cuda_cases import Case
from tests.kernels.on_cpu.runner import COMPILER
from tests.kernels.test_fast_on_cpu import require_values

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="there is no g++")]


@pytest.mark.parametrize("case", list(few_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    require_values(case, tmp_path)

"""The CUDA C++ of the batched kernels, run on the CPU, against the NumPy functions, and each vector against it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.batched.batched_cases import few_cases
from tests.kernels.cuda_cases import Case
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.kernels.test_fast_on_cpu import require_values

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="there is no g++")]


@pytest.mark.parametrize("case", list(few_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    require_values(case, tmp_path)


def test_a_vector_has_the_bits_that_it_has_alone(tmp_path: Path) -> None:
    """Whichever of the vectors it is: the order of sums is that of columns, and no sum has two vectors."""
    case = next(case for case in few_cases() if case.name.startswith("batched_projection-bf16-2-"))
    operands = case.operands(0)
    together = {name: array.copy() for name, array in operands.items()}
    CpuKernel(tmp_path / "two", case.kernel, case.shapes, case.launch)(together)
    one = {name: shape if name == "w" else (1, *shape[1:]) for name, shape in case.shapes.items()}
    alone = CpuKernel(tmp_path / "one", case.kernel, one, case.launch)
    for number in range(2):
        arrays = {name: a.copy() if name == "w" else a[number : number + 1].copy() for name, a in operands.items()}
        alone(arrays)
        np.testing.assert_array_equal(arrays["y"][0], together["y"][number])

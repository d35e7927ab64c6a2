"""The CUDA C++ of the fused kernels, run on a GPU, against the NumPy functions."""

from __future__ import annotations

import pytest

from tests.kernels.cuda_cases import Case
from tests.kernels.fast_cases import every_case, few_cases
from tests.kernels.test_cuda_values import require_values


@pytest.mark.parametrize("case", list(few_cases()), ids=str)
def test_the_graphs_compute_this_on_the_reference_target(case: Case) -> None:
    require_values(case, "reference")


@pytest.mark.gpu
@pytest.mark.parametrize("case", list(every_case()), ids=str)
def test_values_are_those_of_numpy(case: Case) -> None:
    require_values(case, "cuda")

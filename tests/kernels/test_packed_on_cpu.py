"""The CUDA C++ that reads quantised blocks, run on the CPU, against the NumPy functions, which widen each weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forerun.ir.nodes import Launch
from forerun.kernels import projection_add
from forerun.kernels.packing import Q4_0, packed
from tests.kernels.blocks_of_files import random_blocks
from tests.kernels.cuda_cases import Case
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.kernels.packed_cases import packed_cases
from tests.kernels.test_fast_on_cpu import require_values

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="there is no g++")]


@pytest.mark.parametrize("case", list(packed_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    require_values(case, tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_the_vector_is_not_finite_in_the_products(bad: float, tmp_path: Path) -> None:
    chooser, columns = np.random.default_rng(0), 512
    w = packed(random_blocks(Q4_0, 4, columns, chooser), Q4_0)
    arrays = {"w": w, "x": chooser.normal(size=columns).astype(np.float32)}
    arrays |= {name: np.zeros(4, np.float32) for name in ("residual", "y")}
    arrays["x"][77] = bad
    shapes = {name: array.shape for name, array in arrays.items()}
    CpuKernel(tmp_path, projection_add.declare(Q4_0), shapes, Launch((1, 1, 1), (64, 1, 1), 8000))(arrays)
    assert not np.isfinite(arrays["y"]).any()

"""The CUDA C++ that reads quantised blocks, run on the CPU, against the NumPy functions, which widen each weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forerun.ir.nodes import Launch
from forerun.kernels import projection_add
from forerun.kernels.packing import Q4_0, packed
from forerun.runtime.cuda.codegen import sources
from tests.kernels.blocks_of_files import random_blocks
from tests.kernels.cuda_cases import Case
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel
from tests.kernels.packed_cases import packed_cases
from tests.kernels.test_fast_on_cpu import require_values

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")]


@pytest.mark.parametrize("case", list(packed_cases()), ids=str)
def test_values_are_those_of_numpy(case: Case, tmp_path: Path) -> None:
    require_values(case, tmp_path)


def test_the_vector_may_be_kept_in_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant of benchmarks/quantised_variants.py."""
    case = next(case for case in packed_cases() if case.name == "projection_add-q4_k-9x14336")
    read = sources.read_source

    def edited(location: str) -> bytes:
        text = read(location).replace(b"vector_in_registers = false", b"vector_in_registers = true")
        return text.replace(b"rows_at_once = 2", b"rows_at_once = 4")

    monkeypatch.setattr(sources, "read_source", edited)
    sources.included.cache_clear()
    try:
        headers = dict(sources.included("forerun.kernels.cuda:projection_add.cu"))
        assert "vector_in_registers = true" in headers["packed_rows.cuh"]
        require_values(case, tmp_path)
    finally:
        sources.included.cache_clear()


def test_what_is_not_finite_in_the_vector_is_not_finite_in_the_products(tmp_path: Path) -> None:
    chooser, columns = np.random.default_rng(0), 512
    w = packed(random_blocks(Q4_0, 4, columns, chooser), Q4_0)
    arrays = {"w": w, "x": chooser.normal(size=columns).astype(np.float32)}
    arrays |= {name: np.zeros(4, np.float32) for name in ("residual", "y")}
    shapes = {name: array.shape for name, array in arrays.items()}
    kernel = CpuKernel(tmp_path, projection_add.declare(Q4_0), shapes, Launch((1, 1, 1), (64, 1, 1), 8000))
    for bad in (np.nan, np.inf):
        arrays["x"][77], arrays["y"] = bad, np.zeros(4, np.float32)
        kernel(arrays)
        assert not np.isfinite(arrays["y"]).any()

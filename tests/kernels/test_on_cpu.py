"""The CPU's stand-in for the GPU notices what would be wrong there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forerun.ir.kernel import Implementation
from forerun.ir.nodes import Launch
from forerun.ir.trust import vouch
from forerun.kernels import silu_mul
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel, NotCompiledError

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")

SUM = """
struct Locals {};
__device__ __forceinline__ void activate(const Arguments& a, Locals&) {
    const int i = threadIdx.x;
    %s
}
"""


def run(folder: Path, statements: str, header: str = "") -> np.ndarray:
    """The sum of two vectors of 64, as the statements make it."""
    source = folder / "sum.cu"
    source.write_text(header + SUM % statements)
    vouch(source)
    kernel = replace(silu_mul.KERNEL, implementations=(Implementation("cuda", str(source), "sum"),))
    on_cpu = CpuKernel(folder / "built", kernel, dict.fromkeys(("gate", "up", "y"), (64,)), Launch(block=(64, 1, 1)))
    arrays = {"gate": np.arange(64, dtype=np.float32), "up": np.ones(64, np.float32), "y": np.zeros(64, np.float32)}
    on_cpu(arrays)
    return arrays["y"]


def test_threads_take_turns_at_barriers_and_exchange_values(tmp_path: Path) -> None:
    statements = """
        __shared__ float shared[64];
        shared[63 - i] = load_global(a.gate + i) + load_global(a.up + i);
        __syncthreads();
        a.y[i] = __shfl_xor_sync(~0u, shared[i], 1);
    """
    expected = (np.arange(64)[::-1] + 1).reshape(-1, 2)[:, ::-1].reshape(-1)
    assert run(tmp_path, statements).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ("a.y[i] = load_global(a.gate + i + 1);", "1 reads outside of the buffers"),
        ("load16(a.gate + 1);", "64 reads outside of the buffers, or not aligned"),
        ("a.y[i + 1] = 1.0f;", "writes beside y"),
        ("if (i == 0) __syncthreads();", "the threads wait for each other for ever"),
        ("if (i < 40) warp_sum(1.0f);", "the threads wait for each other for ever"),
    ],
)
def test_faults_are_noticed(tmp_path: Path, statements: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        run(tmp_path, statements)


def test_what_the_stand_in_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotCompiledError) as caught:
        run(tmp_path, "a.y[i] = __vadd2(1, 2) + __nv_mystery(3.0f);")
    first = str(caught.value).splitlines()[0]
    assert first.endswith("its stand-in in tests/kernels/on_cpu lacks them: __vadd2, __nv_mystery")


def test_warps_vote_shuffle_and_add(tmp_path: Path) -> None:
    statements = """
        __shared__ int sum;
        if (i == 0) sum = 0;
        __syncthreads();
        atomicAdd(&sum, 1);
        __syncthreads();
        a.y[i] = sum + __shfl_down_sync(~0u, i, 1) + __shfl_up_sync(~0u, i, 1, 16) + __shfl_sync(~0u, i, 3) +
                 100 * __popc(__ballot_sync(~0u, i % 4 == 0)) + 1000 * __any_sync(~0u, i == 40);
    """
    lane, i = np.arange(64) % 32, np.arange(64)
    expected = 64 + np.where(lane < 31, i + 1, i) + np.where(lane % 16 > 0, i - 1, i) + (i - lane + 3) + 800
    assert run(tmp_path, statements).tolist() == (expected + 1000 * (i >= 32)).tolist()


def test_headers_of_halves_are_replaced(tmp_path: Path) -> None:
    statements = "a.y[i] = __half2float(__hadd(__float2half(load_global(a.gate + i)), __half(0.5f)));"
    assert run(tmp_path, statements, '#include "cuda_fp16.h"').tolist() == (np.arange(64) + 0.5).tolist()


def test_a_missing_barrier_shows(tmp_path: Path) -> None:
    statements = """
        __shared__ float shared[64];
        shared[i] = load_global(a.gate + i);
        a.y[i] = shared[63 - i];
    """
    assert run(tmp_path, statements).tolist() != list(range(63, -1, -1))

"""Graphs and functions of torch, optimized on a GPU; kernels of NVRTC in a graph of one's own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.runtime.toolchain.nvrtc import compile_to_ptx
from forerun.runtime.toolchain.unit import Source

pytestmark = pytest.mark.gpu

PROGRAMS = Path(__file__).with_name("gpu_programs.py")
PARTS = [
    "graph_bits", "no_random_numbers", "callable_bits", "wrapped_function", "random_numbers", "other_generator",
    "after_reset", "changed_parameters", "other_captures", "remembered",
]  # fmt: skip

SCALE = """
extern "C" __global__ void __launch_bounds__(128)
scale(const float* __restrict__ w, const float* __restrict__ x, float* __restrict__ y, int n) {
  const int i = blockIdx.x * 128 + threadIdx.x;
  if (i < n) y[i] = w[i] * x[i] + 1.0f;
}
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the programs did, in a process of their own."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("cache")
    done = subprocess.run(
        [sys.executable, str(PROGRAMS)], capture_output=True, text=True, check=False,
        env={**os.environ, "FORERUN_CACHE_DIR": str(folder)}, timeout=300,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("part", PARTS)
def test_programs_of_torch(outcomes: dict[str, Any], part: str) -> None:
    assert outcomes[part]["ok"], outcomes[part]["error"]


def test_a_kernel_of_nvrtc_in_a_graph_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    text, _ = compile_to_ptx(Source("scale.cu", SCALE), "sm_90", (), ())
    made = forerun.foreign_kernel(text, "w: f32[N], x: f32[N], y: f32[N], n: scalar i32", fills=["y"])
    assert not made.reason
    size = 1000
    builder = forerun.GraphBuilder("own")
    x, y = builder.input("x", "f32", size), builder.output("y", "f32", size)
    between = builder.temp("between", "f32", size)
    for number, (source, target) in enumerate(((x, between), (between, y))):
        weight = builder.input(f"w{number}", "f32", size)
        builder.launch(made, launch=made.launch(8, threads=128), w=weight, x=source, y=target, n=size)
    generator = np.random.default_rng(0)
    given = {name: generator.random(size, dtype=np.float32) for name in ("x", "w0", "w1")}
    with forerun.compile(builder.build(), "cuda", pipeline="exact") as program:
        found = np.asarray(program(**given)["y"])
    expected = given["w1"] * (given["w0"] * given["x"] + 1) + 1
    np.testing.assert_allclose(found, expected, rtol=1e-6)

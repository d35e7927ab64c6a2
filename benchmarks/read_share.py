"""Decode steps of several models by default launches, without any tuning, as a share of what reading their bytes takes.

Bytes are those of the weights and of the KV rows up to the position; read bandwidth is measured in the same process.
Before anything is timed, tokens and logits are compared with those of PyTorch in f32 on the same weights and rows, with
poisoned outputs. Needs a GPU.

    python benchmarks/read_share.py --models llama-3.2-1b:511,llama-3.2-1b:32767,llama-3.2-3b:511
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import Metric, bootstrap_median, write_result
from llama_step import Setting
from torch_llama import DecodeModel

import forerun
from forerun.frontends.llama_config import LlamaConfig, shape_named, weight_shapes
from forerun.measure.bandwidth import read_bandwidth
from forerun.runtime.cuda import CudaTarget

MODELS = (
    *("llama-3.2-1b:159", "llama-3.2-1b:511", "llama-3.2-1b:2047", "llama-3.2-1b:8191", "llama-3.2-1b:32767"),
    *("llama-3.2-3b:511", "llama-3.1-8b:511", "mistral-7b:511", "qwen3-8b:511", "qwen2.5-0.5b:511"),
)
STEPS = 4
SAMPLES = 15
REPLAYS = 10
TOLERANCE = 1e-2
"""Relative L2 of logits after some steps: new KV rows are bf16 here, and f32 there."""


def bytes_of_step(config: LlamaConfig, rows: int) -> int:
    """The bytes that a step must read: matrices in bf16, all else in f32, and KV rows in bf16."""
    weights = sum(
        int(np.prod(shape)) * (2 if len(shape) == 2 else 4)
        for name, shape in weight_shapes(config)
        if config.tied or name != "token_embd.weight"
    )
    return weights + 2 * 2 * config.layers * rows * config.kv_heads * config.head_size


@torch.no_grad()
def torch_answers(setting: Setting, context: int, position: int) -> tuple[list[int], np.ndarray]:
    """Tokens of all steps and the last logits, by f32 PyTorch."""
    model = DecodeModel(setting.config, setting.weights, context, dtype=torch.float32)
    for layer, block in enumerate(model.blocks):
        for cache in ("k_cache", "v_cache"):
            getattr(block, cache).copy_(setting.rows[f"blk.{layer}.{cache}"][:context].transpose(0, 1)[None])
    token, tokens = torch.tensor([11], device="cuda"), []
    for step in range(STEPS):
        token, logits = model(token, torch.tensor([position + step], device="cuda"))
        tokens.append(int(token))
    return tokens, logits.double().cpu().numpy()


def check(setting: Setting, program: forerun.Executable, context: int, position: int) -> float:
    """The relative L2 error of the last logits; nothing is timed if it is too large, or tokens differ.

    The last token may be another one whose logit in f32 is as near to the greatest as the error allows.
    """
    tokens, expected = torch_answers(setting, context, position)
    setting.fill(program)
    torch.from_dlpack(program.buffer("logits")).fill_(float("nan"))
    torch.cuda.synchronize()
    found = program.run({"token": [11], "position": [position]})
    error = float(np.linalg.norm(found["logits"] - expected) / np.linalg.norm(expected))
    assert error < TOLERANCE, f"relative L2 error {error:.1e}"
    *first, last = found["next_token"].tolist()
    assert first == tokens[:-1], f"tokens {found['next_token']} and {tokens}"
    assert expected.max() - expected.flat[last] <= 2 * error * np.abs(expected).max(), f"tokens {last} and {tokens[-1]}"
    return error


def measure(setting: Setting, name: str, position: int, read: float) -> dict[str, Metric]:
    """Microseconds of a step, and the share of the read bandwidth."""
    context = max(1024, position + 257)
    with setting.compile(setting.graph(STEPS, context), "fast") as program:
        error = check(setting, program, context, position)
        program.seconds_per_replay(REPLAYS)
        times = [1e6 * program.seconds_per_replay(REPLAYS) / STEPS for _ in range(SAMPLES)]
    us, ideal = bootstrap_median(times, "us"), 1e6 * bytes_of_step(setting.config, position + STEPS // 2) / read
    share = Metric(ideal / us.value, "ratio", ideal / us.high, ideal / us.low)
    print(f"{name:24} {us.value:8.1f} us {100 * share.value:5.1f} % of read, error {error:.1e}", flush=True)
    return {f"{name}.step_us": us, f"{name}.share": share, f"{name}.error": Metric(error, "ratio", error, error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="shapes and positions, such as llama-3.2-1b:511")
    wanted = [item.rpartition(":") for item in parser.parse_args().models.split(",")]
    read = read_bandwidth(CudaTarget())
    metrics = {"read_gbps": Metric(read / 1e9, "GB/s", read / 1e9, read / 1e9)}
    setting: Setting | None = None
    for shape, _, place in wanted:
        if setting is None or setting.config is not shape_named(shape):
            setting = None
            torch.cuda.empty_cache()
            setting = Setting.of(shape, max(int(at) + 257 for other, _, at in wanted if other == shape) + 1024)
        metrics |= measure(setting, f"{shape}.pos{int(place) + 1}", int(place), read)
        write_result("read_share", metrics)


if __name__ == "__main__":
    main()

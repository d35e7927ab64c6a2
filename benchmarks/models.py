"""Models that nobody tuned by hand: Qwen2.5-0.5B against ``torch.compile``, SmolLM2 against itself without passes.

- Qwen2.5-0.5B (q/k/v biases, 14 heads): one bf16 step at position 511 against a compiled step in a CUDA graph.
- SmolLM2-135M: tokens a second of the while-loop graph, which decodes on the device until its limit, with the pipeline
  ``fast`` against the same graph without passes.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import Metric, bootstrap_median, bootstrap_median_ratio, write_result
from llama_step import Setting, launching, measure_against_torch, pairs

from forerun.frontends.decode import generation_graph
from forerun.ir.types import DType
from forerun.kernels import norm_head

LIMIT = 128
POSITION = 64


def measure_loop(pipeline: str, rounds: int) -> dict[str, Metric]:
    """Both loops choose the same tokens; then they are timed in turns."""
    stream = torch.cuda.Stream()
    setting = Setting.of("smollm2-135m", 512)
    graph = generation_graph(
        setting.config,
        limit=LIMIT,
        eot=-1,
        context=512,
        dtype=DType.BF16,
        cache_dtype=DType.BF16,
        splits=32,
        argmax_parts=norm_head.PARTS,
    )
    inputs = {"limit": [LIMIT]}
    with setting.compile(graph, pipeline) as fast, setting.compile(graph, "") as plain:
        for program in (fast, plain):
            setting.fill(program)
        found, expected = (p.run({"token": [11], "position": [POSITION], **inputs}) for p in (fast, plain))
        assert found["count"] == expected["count"] == LIMIT
        same = int((found["tokens"] == expected["tokens"]).sum())
        print(f"{same} of {LIMIT} tokens are the same")
        assert np.array_equal(found["tokens"][:8], expected["tokens"][:8]), "the first tokens differ"
        with launching(fast, stream, POSITION, inputs) as a, launching(plain, stream, POSITION, inputs) as b:
            ours, theirs = pairs(a, b, stream, rounds, 2)
    return {
        "smollm2.tokens_per_second": bootstrap_median([1e6 * LIMIT / us for us in ours], "tokens/s"),
        "smollm2.tokens_per_second_no_passes": bootstrap_median([1e6 * LIMIT / us for us in theirs], "tokens/s"),
        "smollm2.speedup_vs_no_passes": bootstrap_median_ratio(theirs, ours),
        "smollm2.same_tokens": Metric(same, "tokens", same, same),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="fast")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-torch", action="store_true")
    arguments = parser.parse_args()
    metrics = measure_loop(arguments.pipeline, arguments.rounds)
    write_result("models", metrics)
    if not arguments.no_torch:
        setting = Setting.of("qwen2.5-0.5b", 1024)
        metrics |= measure_against_torch(setting, "qwen2_5_0_5b", arguments.pipeline, {}, arguments.rounds)
        write_result("models", metrics)


if __name__ == "__main__":
    main()

"""Repeated decode steps: bit-identical with and without the passes that do not change arithmetic.

SmolLM2's shapes with random bf16 weights. Both programs take the same random token at the same position, step after
step, around the KV cache again and again; logits and choice are compared after every step, all KV rows at the end. Then
the same with pseudo-random delays in the kernels of the rewritten graph.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import Metric, write_result

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import SMOLLM2_135M
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.types import BufferRole, DType

CONTEXT = 256


def compare(steps: int, target: str, weights: dict[str, np.ndarray], seed: int) -> int:
    """How many steps differ; a difference in the KV rows at the end counts as one."""
    graph = decode_graph(SMOLLM2_135M, context=CONTEXT, dtype=DType.BF16, splits=32, argmax_parts=64)
    chooser = np.random.default_rng(seed)
    with (
        forerun.compile(graph, target="cuda", pipeline=None, weights=weights) as plain,
        forerun.compile(graph, target=target, pipeline="exact", weights=weights) as rewritten,
    ):
        assert rewritten.graph != plain.graph, "the passes did nothing"
        different = 0
        for step in range(steps):
            inputs = {"token": [int(chooser.integers(SMOLLM2_135M.vocabulary))], "position": [step % CONTEXT]}
            expected, found = plain.run(inputs), rewritten.run(inputs)
            different += any(not np.array_equal(expected[name], found[name]) for name in expected)
        states = [buffer.name for buffer in graph.buffers.values() if buffer.role is BufferRole.STATE]
        return different + any(not np.array_equal(plain.read(name), rewritten.read(name)) for name in states)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--delayed", type=int, default=500, help="steps with delays in the kernels")
    options = parser.parse_args()
    weights = dict(RandomWeights(SMOLLM2_135M, DType.BF16))
    plain = compare(options.steps, "cuda", weights, seed=1)
    delayed = compare(options.delayed, "cuda{delays=5}", weights, seed=2)

    def count(value: int) -> Metric:
        return Metric(value, "steps", value, value)

    metrics = {
        "identity.decode_steps": count(options.steps),
        "identity.decode_mismatches": count(plain),
        "identity.delayed_decode_steps": count(options.delayed),
        "identity.delayed_decode_mismatches": count(delayed),
    }
    write_result("identity_decode", metrics)
    return int(plain + delayed > 0)


if __name__ == "__main__":
    raise SystemExit(main())

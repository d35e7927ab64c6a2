"""Decode steps and the loop around them on a GPU, against the reference target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama import ROPE_FREQUENCIES, LlamaConfig, rope_frequencies
from forerun.frontends.llama_config import LLAMA_3_2_1B, QWEN2_5_0_5B, SMOLLM2_135M
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.runtime.dtypes import numpy_dtype
from tests.tiny_gguf import TINY, tiny_weights

pytestmark = pytest.mark.gpu

TOKENS = [295, 268, 7, 270, 41, 276, 278, 90]
WIDE = replace(TINY, name="wide", width=136, heads=6, kv_heads=2, head_size=64, hidden=320, tied=False)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "parts": {"splits": 5, "argmax_parts": 9},
    "bf16": {"dtype": DType.BF16, "cache_dtype": DType.BF16, "splits": 3},
    "f16": {"dtype": DType.F16, "cache_dtype": DType.F16},
}


def weights_of(config: LlamaConfig, dtype: DType) -> Mapping[str, np.ndarray]:
    weights = {
        name: values.astype(numpy_dtype(dtype)) if values.ndim == 2 else values
        for name, values in tiny_weights(config).items()
    }
    return weights | {ROPE_FREQUENCIES: rope_frequencies(config)}


def logits_of(graph: Graph, weights: Mapping[str, np.ndarray], target: str, pipeline: str | None) -> np.ndarray:
    rows = []
    with forerun.compile(graph, target=target, pipeline=pipeline, weights=weights) as executable:
        for position, token in enumerate(TOKENS):
            outputs = executable.run({"token": [token], "position": [position]})
            assert outputs["next_token"][0] == outputs["logits"].argmax()
            rows.append(np.array(outputs["logits"]))
    return np.stack(rows)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("config", [TINY, WIDE], ids=lambda config: config.name)
def test_logits_are_those_of_the_reference(config: LlamaConfig, options: str) -> None:
    graph = decode_graph(config, context=16, **OPTIONS[options])
    weights = weights_of(config, OPTIONS[options].get("dtype", DType.F32))
    expected = logits_of(graph, weights, "reference", None)
    plain = logits_of(graph, weights, "cuda", None)
    short = "cache_dtype" in OPTIONS[options]
    np.testing.assert_allclose(plain, expected, rtol=0.0, atol=(1e-2 if short else 1e-5) * np.abs(expected).max())
    np.testing.assert_array_equal(logits_of(graph, weights, "cuda", "exact"), plain)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_loop_chooses_what_single_steps_choose(options: str) -> None:
    limit, weights = 20, weights_of(TINY, OPTIONS[options].get("dtype", DType.F32))
    chosen = [TOKENS[0]]
    with forerun.compile(decode_graph(TINY, context=32, **OPTIONS[options]), target="cuda", weights=weights) as step:
        for position in range(limit):
            chosen.append(int(step.run({"token": [chosen[-1]], "position": [position]})["next_token"][0]))
    for eot in (-1, chosen[6]):
        expected = chosen[1:] if eot < 0 else chosen[1 : chosen.index(eot, 1) + 1]
        graph = generation_graph(TINY, context=32, limit=limit, eot=eot, **OPTIONS[options])
        with forerun.compile(graph, target="cuda", weights=weights) as loop:
            outputs = loop.run({"token": [TOKENS[0]], "position": [0], "limit": [limit]})
        count = int(outputs["count"][0])
        assert outputs["tokens"].tolist() == expected + [0] * (limit - len(expected))
        assert count == len(expected)


@pytest.mark.parametrize("shape", [LLAMA_3_2_1B, QWEN2_5_0_5B, SMOLLM2_135M], ids=lambda config: config.name)
def test_fused_steps_of_real_shapes_repeat_bit_for_bit(shape: LlamaConfig) -> None:
    """A race shows in large kernels only: rings that are refilled, neighbours that are resident together."""
    config = replace(shape, layers=4, vocabulary=4096)
    options = {"dtype": DType.BF16, "cache_dtype": DType.BF16, "splits": 8, "argmax_parts": 132}
    graph = decode_graph(config, context=256, **options)
    weights = dict(RandomWeights(config, DType.BF16))
    inputs = [{"token": [7 * position], "position": [position]} for position in range(48)]
    with forerun.compile(graph, target="cuda", pipeline=None, weights=weights) as plain:
        expected = [plain.run(step)["logits"] for step in inputs]
    for target in ("cuda", "cuda{delays=3}"):
        with forerun.compile(graph, target=target, pipeline="fast", weights=weights) as fast:
            first = [fast.run(step)["logits"] for step in inputs]
            for logits, wanted in zip(first, expected, strict=True):
                assert np.linalg.norm(logits - wanted) <= 1e-2 * np.linalg.norm(wanted)
            for _ in range(20):
                for step, logits in zip(inputs, first, strict=True):
                    np.testing.assert_array_equal(fast.run(step)["logits"], logits)

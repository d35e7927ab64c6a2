"""SmolLM2 on the reference target against a plain NumPy loop: same weights, same prompt, same tokens.

The denominator is the decode loop that one writes by hand: one function, lists of key and value rows, no graph.

Each position of a generation is timed in the order A B B A, and a round's ratio is that of the sums over its positions.
So the two sides take turns every few dozen milliseconds, and whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from common import bootstrap_median, bootstrap_median_ratio, timed, write_result
from numpy.typing import NDArray

import forerun
from forerun.compiler import Executable
from forerun.frontends.decode import decode_graph
from forerun.frontends.fetch import fetch_smollm2
from forerun.frontends.generate import generate
from forerun.frontends.llama import LlamaConfig, LlamaModel

PROMPT = "The capital of France is"
NEW_TOKENS = 24

Array = NDArray[np.float32]


class NumpyLoop:
    """Greedy decode with NumPy alone."""

    def __init__(self, config: LlamaConfig, weights: Mapping[str, Array]) -> None:
        self.config = config
        self.weights = dict(weights)
        exponents = -np.arange(0, config.head_size, 2) / config.head_size
        self.frequencies = (config.rope_base**exponents).astype(np.float32)
        self.keys: list[list[Array]] = []
        self.values: list[list[Array]] = []

    def reset(self) -> None:
        self.keys = [[] for _ in range(self.config.layers)]
        self.values = [[] for _ in range(self.config.layers)]

    def generate(self, prompt: list[int], count: int) -> list[int]:
        self.reset()
        for position, token in enumerate(prompt):
            logits = self.step(token, position)
        tokens = [int(logits.argmax())]
        while len(tokens) < count:
            logits = self.step(tokens[-1], len(prompt) + len(tokens) - 1)
            tokens.append(int(logits.argmax()))
        return tokens

    def step(self, token: int, position: int) -> Array:
        config, weights = self.config, self.weights
        x = weights["token_embd.weight"][token].copy()
        for layer in range(config.layers):
            w = {name: weights[f"blk.{layer}.{name}.weight"] for name in _NAMES}
            h = self.norm(x, w["attn_norm"])
            q = self.rotated((w["attn_q"] @ h).reshape(config.heads, -1), position)
            self.keys[layer].append(self.rotated((w["attn_k"] @ h).reshape(config.kv_heads, -1), position))
            self.values[layer].append((w["attn_v"] @ h).reshape(config.kv_heads, -1))
            x = x + w["attn_output"] @ self.attention(q, layer).reshape(-1)
            h = self.norm(x, w["ffn_norm"])
            gate = w["ffn_gate"] @ h
            x = x + w["ffn_down"] @ (gate / (1 + np.exp(-gate)) * (w["ffn_up"] @ h))
        return weights["token_embd.weight"] @ self.norm(x, weights["output_norm.weight"])

    def forget(self) -> None:
        """Undo the last step, so that it can be run again."""
        for rows in (*self.keys, *self.values):
            rows.pop()

    def attention(self, q: Array, layer: int) -> Array:
        group = self.config.heads // self.config.kv_heads
        keys = np.repeat(np.stack(self.keys[layer]), group, 1)
        values = np.repeat(np.stack(self.values[layer]), group, 1)
        scores = np.einsum("hd,thd->ht", q, keys) / np.sqrt(np.float32(self.config.head_size))
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        return np.einsum("ht,thd->hd", shares, values)

    def norm(self, x: Array, w: Array) -> Array:
        return x / np.sqrt((x * x).mean() + np.float32(self.config.norm_epsilon)) * w

    def rotated(self, x: Array, position: int) -> Array:
        cosine, sine = np.cos(np.float32(position) * self.frequencies), np.sin(np.float32(position) * self.frequencies)
        even, odd = x[:, 0::2], x[:, 1::2]
        result = np.empty_like(x)
        result[:, 0::2], result[:, 1::2] = even * cosine - odd * sine, even * sine + odd * cosine
        return result


_NAMES = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]


def time_round(executable: Executable, loop: NumpyLoop, tokens: list[int]) -> tuple[float, float]:
    """Mean seconds a step of forerun and of the loop, over one feed of all tokens, each position timed A B B A."""
    loop.reset()
    ours = theirs = 0.0

    def step(position: int) -> int:
        inputs = {"token": [tokens[position]], "position": [position]}
        return int(executable.run(inputs)["next_token"][0])

    for position, token in enumerate(tokens):
        ours += timed(lambda at=position: step(at))
        theirs += timed(lambda fed=token, at=position: loop.step(fed, at).argmax())
        loop.forget()
        theirs += timed(lambda fed=token, at=position: loop.step(fed, at).argmax())
        ours += timed(lambda at=position: step(at))
    return ours / (2 * len(tokens)), theirs / (2 * len(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="generations that are timed (default 12)")
    parser.add_argument("--model", type=Path, help="a tied GGUF model; by default SmolLM2, fetched")
    options = parser.parse_args()
    model = LlamaModel.open(options.model or fetch_smollm2())
    prompt = model.tokenizer.encode(PROMPT)
    loop = NumpyLoop(model.config, model.weights)
    graph = decode_graph(model.config, context=len(prompt) + NEW_TOKENS)
    with forerun.compile(graph, target="reference", weights=model.weights) as executable:
        expected = loop.generate(prompt, NEW_TOKENS)
        found = generate(executable, model.tokenizer, PROMPT, NEW_TOKENS).tokens
        assert list(found) == expected, f"tokens differ: {found} and {expected}"
        tokens = [*prompt, *expected[:-1]]
        rounds = [time_round(executable, loop, tokens) for _ in range(options.rounds)]
    ours, theirs = zip(*rounds, strict=True)
    metrics = {
        "reference.smollm2_vs_numpy": bootstrap_median_ratio(ours, theirs),
        "reference.smollm2_ms_per_token": bootstrap_median([1e3 * seconds for seconds in ours], "ms"),
        "numpy.smollm2_ms_per_token": bootstrap_median([1e3 * seconds for seconds in theirs], "ms"),
    }
    print(f"wrote {write_result('smollm2_reference', metrics)}")


if __name__ == "__main__":
    main()

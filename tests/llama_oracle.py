"""The Llama architecture from its definition, for whole sequences, in f64: no cache, no kernels, no steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forerun.frontends.llama import ROPE_FREQUENCIES, LlamaConfig

__all__ = ["all_logits"]


def all_logits(config: LlamaConfig, weights: Mapping[str, np.ndarray], tokens: Sequence[int]) -> np.ndarray:
    """Logits after each token of the sequence: ``[len(tokens), vocabulary]``."""
    w = {name: np.asarray(values, np.float64) for name, values in weights.items()}
    x = w["token_embd.weight"][list(tokens)]
    for layer in range(config.layers):
        x = x + _attention(config, w, f"blk.{layer}", _norm(config, x, w[f"blk.{layer}.attn_norm.weight"]))
        x = x + _feed_forward(w, f"blk.{layer}", _norm(config, x, w[f"blk.{layer}.ffn_norm.weight"]))
    matrix = w["token_embd.weight" if config.tied else "output.weight"]
    return _norm(config, x, w["output_norm.weight"]) @ matrix.T


def _norm(config: LlamaConfig, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.norm_epsilon) * scale


def _feed_forward(w: Mapping[str, np.ndarray], block: str, x: np.ndarray) -> np.ndarray:
    gate, up = x @ w[f"{block}.ffn_gate.weight"].T, x @ w[f"{block}.ffn_up.weight"].T
    return (gate / (1 + np.exp(-gate)) * up) @ w[f"{block}.ffn_down.weight"].T


def _attention(config: LlamaConfig, w: Mapping[str, np.ndarray], block: str, x: np.ndarray) -> np.ndarray:
    q, k, v = (_project(w, f"{block}.attn_{part}", x, config.head_size) for part in "qkv")
    if config.head_norms:
        q, k = (_norm(config, heads, w[f"{block}.attn_{part}_norm.weight"]) for part, heads in (("q", q), ("k", k)))
    q, k = (_rotate(heads, w[ROPE_FREQUENCIES]) for heads in (q, k))
    k, v = (np.repeat(heads, config.heads // config.kv_heads, axis=1) for heads in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(config.head_size)
    scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", shares, v).reshape(len(x), -1) @ w[f"{block}.attn_output.weight"].T


def _project(w: Mapping[str, np.ndarray], name: str, x: np.ndarray, head_size: int) -> np.ndarray:
    return (x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)).reshape(len(x), -1, head_size)


def _rotate(heads: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Adjacent pairs as complex numbers, turned by the position's angle."""
    pairs = heads[..., 0::2] + 1j * heads[..., 1::2]
    turned = pairs * np.exp(1j * np.arange(len(heads))[:, None, None] * frequencies)
    return np.stack((turned.real, turned.imag), axis=-1).reshape(heads.shape)

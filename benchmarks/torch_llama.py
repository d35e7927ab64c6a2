"""A Llama-architecture model in PyTorch, on the weights of our decode graph: the outside program to compare with.

Two faces of the same arithmetic: :func:`prefill` (all positions at once, f32, for right answers) and
:class:`DecodeModel` (one token over a static KV cache, for ``torch.compile`` and CUDA graphs).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  its usual name

from forerun.frontends.llama import ROPE_FREQUENCIES, LlamaConfig, rope_frequencies, weight_shapes
from forerun.frontends.random_weights import DEVIATION

__all__ = ["DecodeModel", "draw_weights", "prefill"]


def draw_weights(config: LlamaConfig, device: str = "cuda", seed: int = 0) -> dict[str, Tensor]:
    """Random f32 weights on a device: normal with deviation 0.02; norms are one plus such values."""
    generator = torch.Generator(device).manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in weight_shapes(config):
        if name == ROPE_FREQUENCIES:
            weights[name] = torch.from_numpy(rope_frequencies(config)).to(device)
            continue
        values = torch.randn(shape, generator=generator, device=device) * DEVIATION
        weights[name] = values + 1 if name.endswith("norm.weight") else values
    return weights


def prefill(config: LlamaConfig, weights: Mapping[str, Tensor], tokens: Tensor, keep: Tensor) -> Tensor:
    """Logits at the positions ``keep`` of a causal pass over ``tokens`` (i64[T]), in the weights' own type.

    Returns:
        Tensor of shape (len(keep), vocabulary).
    """
    x = weights["token_embd.weight"][tokens]
    positions = torch.arange(len(tokens), device=tokens.device)
    for layer in range(config.layers):
        w = _block(weights, layer)
        h = _norm(x, w["attn_norm.weight"], config.norm_epsilon)
        q, k, v = (_heads(config, w, part, h) for part in "qkv")
        if config.head_norms:
            q, k = (_norm(h, w[f"attn_{n}_norm.weight"], config.norm_epsilon) for n, h in (("q", q), ("k", k)))
        q, k = (_rotated(part, weights[ROPE_FREQUENCIES], positions) for part in (q, k))
        groups = config.heads // config.kv_heads
        k, v = (part.repeat_interleave(groups, 1) for part in (k, v))
        attended = F.scaled_dot_product_attention(
            q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), is_causal=True
        )
        x = x + attended.transpose(0, 1).flatten(1) @ w["attn_output.weight"].T
        h = _norm(x, w["ffn_norm.weight"], config.norm_epsilon)
        x = x + (F.silu(h @ w["ffn_gate.weight"].T) * (h @ w["ffn_up.weight"].T)) @ w["ffn_down.weight"].T
    x = _norm(x[keep], weights["output_norm.weight"], config.norm_epsilon)
    return x @ weights["token_embd.weight" if config.tied else "output.weight"].T


class DecodeModel(nn.Module):
    """One greedy decode step over a static KV cache, written as people write it for ``torch.compile``.

    Args:
        config: The shapes.
        weights: As :func:`draw_weights` gives them; converted to ``dtype``. Gate and up, and q, k and v, are one
            matrix each.
        context: Rows of the KV caches.
        dtype: Type of weights, activations and caches.
    """

    def __init__(
        self, config: LlamaConfig, weights: Mapping[str, Tensor], context: int, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__()
        self.config = config
        cast = {name: value.to(dtype) for name, value in weights.items() if name != ROPE_FREQUENCIES}
        self.embedding = nn.Parameter(cast["token_embd.weight"], requires_grad=False)
        self.head = self.embedding if config.tied else nn.Parameter(cast["output.weight"], requires_grad=False)
        self.final_norm = nn.Parameter(cast["output_norm.weight"], requires_grad=False)
        self.blocks = nn.ModuleList(_DecodeBlock(config, _block(cast, i), context) for i in range(config.layers))
        device = self.embedding.device
        angles = torch.arange(context, device=device)[:, None] * weights[ROPE_FREQUENCIES].to(device)[None]
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())
        self.register_buffer("mask", torch.ones(context, context, dtype=torch.bool, device=device).tril())

    def forward(self, token: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """The next token (i64[1]) and the logits, for a token and its position (i64[1] each)."""
        x = self.embedding[token]
        cosine, sine, mask = self.cosine[position], self.sine[position], self.mask[position]
        for block in self.blocks:
            x = block(x, position, cosine, sine, mask)
        logits = F.linear(_norm(x, self.final_norm, self.config.norm_epsilon), self.head)[0]
        return logits.argmax(-1, keepdim=True), logits


class _DecodeBlock(nn.Module):
    def __init__(self, config: LlamaConfig, w: Mapping[str, Tensor], context: int) -> None:
        super().__init__()
        self.config = config

        def fixed(value: Tensor) -> nn.Parameter:
            return nn.Parameter(value, requires_grad=False)

        self.attn_norm, self.ffn_norm = fixed(w["attn_norm.weight"]), fixed(w["ffn_norm.weight"])
        self.qkv = fixed(torch.cat([w[f"attn_{part}.weight"] for part in "qkv"]))
        self.bias = fixed(torch.cat([w[f"attn_{part}.bias"] for part in "qkv"])) if config.attention_bias else None
        self.head_norms = [fixed(w[f"attn_{part}_norm.weight"]) for part in "qk"] if config.head_norms else None
        self.output = fixed(w["attn_output.weight"])
        self.gate_up = fixed(torch.cat([w["ffn_gate.weight"], w["ffn_up.weight"]]))
        self.down = fixed(w["ffn_down.weight"])
        shape = (1, config.kv_heads, context, config.head_size)
        self.register_buffer("k_cache", torch.zeros(shape, dtype=self.qkv.dtype, device=self.qkv.device))
        self.register_buffer("v_cache", torch.zeros(shape, dtype=self.qkv.dtype, device=self.qkv.device))

    def forward(self, x: Tensor, position: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        config = self.config
        h = _norm(x, self.attn_norm, config.norm_epsilon)
        queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        q, k, v = F.linear(h, self.qkv, self.bias).split((queries, keys, keys), -1)
        q, k = q.view(1, config.heads, config.head_size), k.view(1, config.kv_heads, config.head_size)
        if self.head_norms is not None:
            q, k = (_norm(heads, w, config.norm_epsilon) for heads, w in zip((q, k), self.head_norms, strict=True))
        q, k = _turn(q, cosine, sine), _turn(k, cosine, sine)
        v = v.view(1, config.kv_heads, config.head_size)
        self.k_cache.index_copy_(2, position, k.transpose(0, 1)[None])
        self.v_cache.index_copy_(2, position, v.transpose(0, 1)[None])
        attended = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None], self.k_cache, self.v_cache, attn_mask=mask[None, None], enable_gqa=True
        )
        x = x + F.linear(attended.flatten(1).view(1, -1), self.output)
        gate, up = F.linear(_norm(x, self.ffn_norm, config.norm_epsilon), self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down)


def _block(weights: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    prefix = f"blk.{layer}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _norm(x: Tensor, w: Tensor, epsilon: float) -> Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + epsilon)).to(x.dtype) * w


def _heads(config: LlamaConfig, w: Mapping[str, Tensor], part: str, h: Tensor) -> Tensor:
    y = h @ w[f"attn_{part}.weight"].T
    if config.attention_bias:
        y = y + w[f"attn_{part}.bias"]
    return y.view(len(h), -1, config.head_size)


def _rotated(x: Tensor, frequencies: Tensor, positions: Tensor) -> Tensor:
    angles = positions[:, None] * frequencies[None]
    return _turn(x, angles.cos(), angles.sin())


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate adjacent pairs; ``x`` is (T, heads, head_size), the angles' functions are (T, head_size / 2)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosine[:, None], sine[:, None]
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1)
    return turned.flatten(-2).to(x.dtype)

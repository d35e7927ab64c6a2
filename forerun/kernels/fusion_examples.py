"""Small graphs in which the fusion rules of this package apply, of random sizes: what their tests run on."""

from __future__ import annotations

from random import Random
from typing import Any

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.kernels import (
    add,
    argmax_merge,
    argmax_partial,
    attention,
    attention_merge,
    attention_split,
    gemv,
    head_norm,
    rmsnorm,
    rope_append,
    silu_mul,
)

__all__ = ["attention_cluster", "norm_gate_up", "norm_head", "norm_qkv_rope", "projection_add"]

_F32 = DType.F32


def norm_qkv_rope(random: Random) -> Graph:
    """A norm, three projections, with biases, norms of heads or neither, and RoPE."""
    builder, width, dtype = GraphBuilder("qkv"), 8 * random.randint(1, 6), _dtype(random)
    kv_heads, size, rows, cache = random.randint(1, 2), 2 * random.randint(1, 4), random.randint(2, 5), _dtype(random)
    heads = kv_heads * random.randint(1, 3)
    own = random.choice(("", "bias", "norm"))
    normed = _norm(builder, builder.input("x", _F32, (width,)), width)
    projected = {}
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        vector = _gemv(builder, name, normed, (count * size, width), dtype)
        if own == "bias":
            given = builder.weight(f"{name}_bias", _F32, (count * size,))
            vector = _add(builder, f"{name}_biased", given, vector, count * size)
        shape = count, size
        projected[name] = builder.buffer(f"{name}.heads", _F32, shape, BufferRole.TEMP, allocation=vector)
        if own == "norm" and name != "v":
            projected[name] = _head_norm(builder, name, projected[name], shape)
    position = builder.input("position", DType.I32, (1,), bounds=(0, rows - 1))
    for name in ("k_cache", "v_cache"):
        builder.state(name, cache, (rows, kv_heads, size))
    builder.launch(
        rope_append.declare(cache),
        node="rope",
        q=projected["q"],
        k=projected["k"],
        v=projected["v"],
        frequencies=builder.weight("frequencies", _F32, (size // 2,)),
        q_out=builder.output("q_out", _F32, (heads, size)),
        k_cache="k_cache",
        v_cache="v_cache",
        pos=ScalarLoad(position),
    )
    return builder.build()


def norm_gate_up(random: Random) -> Graph:
    """A norm, two projections, and SwiGLU."""
    builder, width, dtype = GraphBuilder("gate_up"), 8 * random.randint(1, 6), _dtype(random)
    rows = random.randint(1, 40)
    normed = _norm(builder, builder.input("x", _F32, (width,)), width)
    gate, up = (_gemv(builder, name, normed, (rows, width), dtype) for name in ("gate", "up"))
    builder.launch(silu_mul.KERNEL, node="act", gate=gate, up=up, y=builder.output("y", _F32, (rows,)))
    return builder.build()


def projection_add(random: Random) -> Graph:
    """A projection, and a residual before or after it."""
    builder, width, dtype = GraphBuilder("projection"), 8 * random.randint(1, 6), _dtype(random)
    rows = random.randint(1, 40)
    product = _gemv(builder, "project", builder.input("x", _F32, (width,)), (rows, width), dtype)
    summands = [builder.input("residual", _F32, (rows,)), product]
    random.shuffle(summands)
    builder.launch(add.KERNEL, node="add", a=summands[0], b=summands[1], y=builder.output("y", _F32, (rows,)))
    return builder.build()


def norm_head(random: Random) -> Graph:
    """A norm, the projection to logits, and the greatest in two kernels."""
    builder, width, dtype = GraphBuilder("head"), 8 * random.randint(1, 6), _dtype(random)
    rows = random.randint(1, 60)
    parts = random.randint(1, rows)
    normed = _norm(builder, builder.input("x", _F32, (width,)), width)
    matrix, logits = builder.weight("w", dtype, (rows, width)), builder.output("logits", _F32, (rows,))
    builder.launch(gemv.declare(dtype), node="project", w=matrix, x=normed, y=logits)
    best, place = builder.temp("best", _F32, (parts,)), builder.temp("place", DType.I32, (parts,))
    builder.launch(argmax_partial.KERNEL, node="choose", logits=logits, best=best, place=place, parts=parts)
    token = builder.output("token", DType.I32, (1,))
    builder.launch(argmax_merge.KERNEL, node="merge", best=best, place=place, token=token, index=0)
    return builder.build()


def attention_cluster(random: Random) -> Graph:
    """Attention over a KV cache, in one kernel or in parts."""
    builder, cache = GraphBuilder("attention"), _dtype(random)
    kv_heads, size, rows = random.randint(1, 2), 8 * 2 ** random.randint(0, 2), random.randint(2, 9)
    heads, splits = kv_heads * random.randint(1, 3), random.randint(1, 3)
    q, y = builder.input("q", _F32, (heads, size)), builder.output("y", _F32, (heads, size))
    for name in ("k_cache", "v_cache"):
        builder.state(name, cache, (rows, kv_heads, size))
    position = ScalarLoad(builder.input("position", DType.I32, (1,), bounds=(0, rows - 1)))
    caches: dict[str, Any] = {"q": q, "k_cache": "k_cache", "v_cache": "v_cache", "pos": position}
    if splits == 1:
        builder.launch(attention.declare(cache), node="attention", **caches, y=y)
        return builder.build()
    partial = builder.temp("partial", _F32, (splits, heads, size))
    statistics = builder.temp("statistics", _F32, (splits, heads, 2))
    builder.launch(
        attention_split.declare(cache),
        node="attention",
        **caches,
        partial=partial,
        statistics=statistics,
        splits=splits,
    )
    builder.launch(attention_merge.KERNEL, node="merge", partial=partial, statistics=statistics, y=y)
    return builder.build()


def _dtype(random: Random) -> DType:
    return random.choice((DType.F32, DType.BF16, DType.F16))


def _norm(builder: GraphBuilder, x: str, width: int) -> str:
    y = builder.temp("normed", _F32, (width,))
    builder.launch(rmsnorm.KERNEL, node="norm", x=x, w=builder.weight("scale", _F32, (width,)), y=y, eps=1e-5)
    return y


def _gemv(builder: GraphBuilder, name: str, x: str, shape: tuple[int, int], dtype: DType) -> str:
    y = builder.temp(f"{name}.out", _F32, (shape[0],))
    builder.launch(gemv.declare(dtype), node=name, w=builder.weight(f"{name}.weight", dtype, shape), x=x, y=y)
    return y


def _head_norm(builder: GraphBuilder, name: str, x: str, shape: tuple[int, int]) -> str:
    y, w = builder.temp(f"{name}.normed", _F32, shape), builder.weight(f"{name}_scale", _F32, shape[1:])
    launch = head_norm.launch_for(shape[0])
    builder.launch(head_norm.KERNEL, node=f"norm_{name}", launch=launch, x=x, w=w, y=y, eps=1e-5)
    return y


def _add(builder: GraphBuilder, name: str, a: str, b: str, count: int) -> str:
    y = builder.temp(f"{name}.out", _F32, (count,))
    builder.launch(add.KERNEL, node=name, a=a, b=b, y=y)
    return y

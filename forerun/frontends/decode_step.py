"""Emits the kernels of one decode step; :mod:`~forerun.frontends.decode` makes graphs of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forerun.frontends.llama_config import ROPE_FREQUENCIES, LlamaConfig, weight_shapes
from forerun.ir.builder import GraphBuilder
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch, ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.kernels import (
    add,
    argmax,
    argmax_merge,
    argmax_partial,
    attention,
    attention_merge,
    attention_split,
    embedding,
    gemv,
    head_norm,
    packed_embedding,
    packed_gemv,
    rmsnorm,
    rope_append,
    silu_mul,
)
from forerun.kernels.packing import Packing
from forerun.kernels.shapes import elementwise_launch
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["Choices", "StepEmitter"]

_FLOATS = (DType.F32, DType.BF16, DType.F16)


@dataclass(frozen=True, slots=True)
class Choices:
    """What is open once the model is known; see :func:`~forerun.frontends.decode.decode_graph`."""

    dtype: DType = DType.F32
    cache_dtype: DType = DType.F32
    splits: int = 1
    argmax_parts: int = 1
    packings: Mapping[str, Packing] = field(default_factory=dict)

    def require_valid(self, config: LlamaConfig) -> None:
        """Check them.

        Raises:
            InvalidInput: If one is out of range.
        """
        for what, dtype in (("matrices", self.dtype), ("caches", self.cache_dtype)):
            if dtype not in _FLOATS:
                raise InvalidInput(f"{what} of type {dtype} are not supported", hint="f32, f16 and bf16 are")
        if self.splits < 1:
            raise InvalidInput(f"splits {self.splits} is out of range", hint="1 or more")
        if not 1 <= self.argmax_parts <= config.vocabulary:
            hint = f"from 1 to the vocabulary, {config.vocabulary}"
            raise InvalidInput(f"argmax_parts {self.argmax_parts} is out of range", hint=hint)
        shapes = dict(weight_shapes(config))
        for name, packing in self.packings.items():
            if len(shapes.get(name, ())) != 2:
                message = f"'{name}' is packed, but is not a matrix of the model"
                raise InvalidInput(message, hint=did_you_mean(name, shapes))
            packing.row_bytes(shapes[name][1])


class StepEmitter:
    """Declares weights, and caches of ``rows`` rows, in a builder, and emits steps. A node's result is ``NODE.out``.

    Raises:
        InvalidInput: If a choice is out of range.
    """

    def __init__(self, builder: GraphBuilder, config: LlamaConfig, choices: Choices, rows: int) -> None:
        choices.require_valid(config)
        self.builder = builder
        self.config = config
        self.choices = choices
        self.rope_append = rope_append.declare(choices.cache_dtype)
        self.attention = attention.declare(choices.cache_dtype)
        self.attention_split = attention_split.declare(choices.cache_dtype)
        self._prefix = ""
        for name, shape in weight_shapes(config):
            builder.weight(name, *self._stored(name, shape))
        for layer in range(config.layers):
            for cache in ("k_cache", "v_cache"):
                builder.state(f"blk.{layer}.{cache}", choices.cache_dtype, (rows, config.kv_heads, config.head_size))

    def emit(
        self, token: ScalarLoad, position: ScalarLoad, chosen: str, index: int, *, logits: str = "", prefix: str = ""
    ) -> None:
        """Emit all kernels of one step.

        Args:
            token: Which token to feed.
            position: Where it stands.
            chosen: An i32 buffer for the greedy choice.
            index: The choice's place there.
            logits: A buffer for the logits; by default a temp.
            prefix: Of the names of nodes and temps.
        """
        config = self.config
        self._prefix = prefix
        x = self._embed(token)
        for layer in range(config.layers):
            x = self._attention_block(f"blk.{layer}", x, position)
            x = self._feed_forward_block(f"blk.{layer}", x)
        x = self._norm("output_norm", x)
        logits = logits or self._vector("output", config.vocabulary)
        matrix = "token_embd.weight" if config.tied else "output.weight"
        self._gemv("output", matrix, x, logits, (config.vocabulary, config.width))
        self._choose(logits, chosen, index)

    def _attention_block(self, block: str, x: str, position: ScalarLoad) -> str:
        config = self.config
        normed = self._norm(f"{block}.attn_norm", x)
        queries = self._normalized_heads(f"{block}.attn_q", normed, config.heads)
        keys = self._normalized_heads(f"{block}.attn_k", normed, config.kv_heads)
        values = self._project(f"{block}.attn_v", normed, config.kv_heads)
        rotated = self._rope_append(block, queries, keys, values, position)
        attend = self._attention if self.choices.splits == 1 else self._split_attention
        attended = attend(block, rotated, position)
        y = self._matvec(f"{block}.attn_output", attended, config.width, config.heads * config.head_size)
        return self._add(f"{block}.attn_residual", x, y, config.width)

    def _feed_forward_block(self, block: str, x: str) -> str:
        config = self.config
        normed = self._norm(f"{block}.ffn_norm", x)
        gate = self._matvec(f"{block}.ffn_gate", normed, config.hidden, config.width)
        up = self._matvec(f"{block}.ffn_up", normed, config.hidden, config.width)
        hidden = self._vector(f"{block}.ffn_act", config.hidden)
        self._launch(silu_mul.KERNEL, f"{block}.ffn_act", elementwise_launch(config.hidden), gate=gate, up=up, y=hidden)
        y = self._matvec(f"{block}.ffn_down", hidden, config.width, config.hidden)
        return self._add(f"{block}.ffn_residual", x, y, config.width)

    def _embed(self, token: ScalarLoad) -> str:
        width, table = self.config.width, "token_embd.weight"
        y = self._vector("token_embd", width)
        packing = self.choices.packings.get(table)
        kernel = embedding.declare(self.choices.dtype) if packing is None else packed_embedding.declare(packing)
        self._launch(kernel, "token_embd", elementwise_launch(width), table=table, y=y, token=token)
        return y

    def _norm(self, node: str, x: str) -> str:
        width = self.config.width
        y, launch = self._vector(node, width), rmsnorm.launch_for(width)
        self._launch(rmsnorm.KERNEL, node, launch, x=x, w=f"{node}.weight", y=y, eps=self.config.norm_epsilon)
        return y

    def _project(self, node: str, x: str, heads: int) -> str:
        """A projection into heads, with its bias if the model has one; the result is seen as a matrix."""
        count = heads * self.config.head_size
        y = self._matvec(node, x, count, self.config.width)
        if self.config.attention_bias:
            y = self._add(f"{node}_bias", f"{node}.bias", y, count)
        return self._by_head(y, heads)

    def _normalized_heads(self, node: str, x: str, heads: int) -> str:
        """A projection into heads, which are normalized if the model does that."""
        config, projected = self.config, self._project(node, x, heads)
        if not config.head_norms:
            return projected
        y = self._by_head(self._vector(f"{node}_norm", heads * config.head_size), heads)
        arguments = {"x": projected, "w": f"{node}_norm.weight", "y": y, "eps": config.norm_epsilon}
        self._launch(head_norm.KERNEL, f"{node}_norm", head_norm.launch_for(heads), **arguments)
        return y

    def _matvec(self, node: str, x: str, rows: int, columns: int) -> str:
        y = self._vector(node, rows)
        self._gemv(node, f"{node}.weight", x, y, (rows, columns))
        return y

    def _gemv(self, node: str, matrix: str, x: str, y: str, shape: tuple[int, int]) -> None:
        dtype, packing = self.choices.dtype, self.choices.packings.get(matrix)
        if packing is None:
            kernel, launch = gemv.declare(dtype), gemv.launch_for(*shape, dtype)
        else:
            kernel, launch = packed_gemv.declare(packing), packed_gemv.launch_for(shape[0])
        self._launch(kernel, node, launch, w=matrix, x=x, y=y)

    def _stored(self, name: str, shape: tuple[int, ...]) -> tuple[DType, tuple[int, ...]]:
        """The elements of a weight's buffer, and its shape."""
        packing = self.choices.packings.get(name)
        if packing is not None:
            return DType.U8, (shape[0], packing.row_bytes(shape[1]))
        return self.choices.dtype if len(shape) == 2 else DType.F32, shape

    def _rope_append(self, block: str, q: str, k: str, v: str, position: ScalarLoad) -> str:
        config = self.config
        rotated = self._vector(f"{block}.rope_append", config.heads * config.head_size)
        matrix = self._by_head(rotated, config.heads)
        self._launch(
            self.rope_append,
            f"{block}.rope_append",
            rope_append.launch_for(config.heads, config.kv_heads, config.head_size),
            q=q,
            k=k,
            v=v,
            frequencies=ROPE_FREQUENCIES,
            q_out=matrix,
            **_caches(block, position),
        )
        return matrix

    def _attention(self, block: str, q: str, position: ScalarLoad) -> str:
        config = self.config
        y = self._vector(f"{block}.attention", config.heads * config.head_size)
        launch, matrix = attention.launch_for(config.heads), self._by_head(y, config.heads)
        self._launch(self.attention, f"{block}.attention", launch, q=q, y=matrix, **_caches(block, position))
        return y

    def _split_attention(self, block: str, q: str, position: ScalarLoad) -> str:
        config, splits = self.config, self.choices.splits
        node = f"{block}.attention"
        parts = {
            "partial": self._temp(f"{node}.partial", DType.F32, (splits, config.heads, config.head_size)),
            "statistics": self._temp(f"{node}.statistics", DType.F32, (splits, config.heads, 2)),
        }
        launch = attention_split.launch_for(config.kv_heads, splits)
        self._launch(self.attention_split, node, launch, q=q, **parts, splits=splits, **_caches(block, position))
        y = self._vector(f"{node}_merge", config.heads * config.head_size)
        launch, matrix = attention_merge.launch_for(config.heads, config.head_size), self._by_head(y, config.heads)
        self._launch(attention_merge.KERNEL, f"{node}_merge", launch, **parts, y=matrix)
        return y

    def _choose(self, logits: str, chosen: str, index: int) -> None:
        parts = self.choices.argmax_parts
        if parts == 1:
            self._launch(argmax.KERNEL, "argmax", argmax.LAUNCH, logits=logits, token=chosen, index=index)
            return
        found = {
            "best": self._temp("argmax.best", DType.F32, (parts,)),
            "place": self._temp("argmax.place", DType.I32, (parts,)),
        }
        launch = argmax_partial.launch_for(parts)
        self._launch(argmax_partial.KERNEL, "argmax_partial", launch, logits=logits, **found, parts=parts)
        self._launch(argmax_merge.KERNEL, "argmax", argmax_merge.launch_for(parts), **found, token=chosen, index=index)

    def _add(self, node: str, a: str, b: str, count: int) -> str:
        y = self._vector(node, count)
        self._launch(add.KERNEL, node, elementwise_launch(count), a=a, b=b, y=y)
        return y

    def _launch(self, kernel: Kernel, node: str, launch: Launch, **arguments: Any) -> None:
        self.builder.launch(kernel, node=f"{self._prefix}{node}", launch=launch, **arguments)

    def _temp(self, name: str, dtype: DType, shape: tuple[int, ...]) -> str:
        return self.builder.temp(f"{self._prefix}{name}", dtype, shape)

    def _vector(self, node: str, count: int) -> str:
        return self._temp(f"{node}.out", DType.F32, (count,))

    def _by_head(self, vector: str, heads: int) -> str:
        """A view of a vector with a row for each head, ``[heads, head_size]``."""
        name = f"{vector.removesuffix('.out')}.heads"
        shape = heads, self.config.head_size
        return self.builder.buffer(name, DType.F32, shape, BufferRole.TEMP, allocation=vector)


def _caches(block: str, position: ScalarLoad) -> dict[str, Any]:
    return {"k_cache": f"{block}.k_cache", "v_cache": f"{block}.v_cache", "pos": position}

"""The decode step of a Llama-architecture model as a graph of small, separate kernels in stream order."""

from __future__ import annotations

from dataclasses import replace

from forerun.frontends.llama import ROPE_FREQUENCIES, SMOLLM2_135M, LlamaConfig, weight_shapes
from forerun.ir.builder import GraphBuilder
from forerun.ir.diagnostics import InvalidInput
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.kernels import add, argmax, attention, embedding, gemv, rmsnorm, rope_append, silu_mul
from forerun.kernels.shapes import elementwise_launch

__all__ = ["decode_graph", "synthetic_decode_graph"]

_DEFAULT_CONTEXT = 1024


def decode_graph(
    config: LlamaConfig,
    *,
    context: int | None = None,
    steps: int = 1,
    dtype: DType = DType.F32,
    name: str | None = None,
) -> Graph:
    """The graph of one decode step, or of several greedy ones.

    Inputs are ``token`` (i32[1], the token to feed) and ``position`` (i32[1], where it stands); outputs are
    ``next_token`` (i32[steps], the greedy choices) and ``logits`` (f32[vocabulary], of the last step). State is
    ``blk.N.k_cache`` and ``blk.N.v_cache`` (f32[context, kv_heads, head_size]). Weights are named as in GGUF; see
    :func:`~forerun.frontends.llama.weight_shapes`.

    Args:
        config: The model's shapes.
        context: Rows of the KV caches; by default what the model was trained for, at most 1,024.
        steps: How many tokens one replay decodes; each step feeds the one before's choice.
        dtype: Type of matrices and embedding table. Norms, biases, activations and caches are f32.
        name: The graph's name; by default the model's, with ``_decode``.

    Returns:
        A verified graph whose nodes each depend on the one before.

    Raises:
        InvalidInput: If ``context`` or ``steps`` is out of range.

    Example:
        >>> tiny = LlamaConfig("tiny", 1, 8, 2, 1, 4, 16, 32, 64)
        >>> decode_graph(tiny, context=16)
        <Graph tiny_decode: 18 nodes, 17 dependencies, 39 buffers>
    """
    rows = min(config.context_length, _DEFAULT_CONTEXT) if context is None else context
    if not 1 <= rows <= config.context_length:
        limit = config.context_length
        raise InvalidInput(
            f"context {rows} is out of range", hint=f"model '{config.name}' has positions 0 to {limit - 1}"
        )
    if not 1 <= steps <= rows:
        raise InvalidInput(f"steps {steps} is out of range", hint=f"from 1 to the context, {rows}")
    emitter = _Emitter(config, rows, steps, dtype, name or f"{config.name}_decode")
    for step in range(steps):
        emitter.step(step)
    return emitter.builder.build()


def synthetic_decode_graph(nodes: int, *, steps: int = 1, context: int = 1024) -> Graph:
    """A decode graph of SmolLM2's shapes with at least ``nodes`` nodes (at most 14 a step more), for benchmarks.

    Args:
        nodes: How large.
        steps: Over how many decode steps they are spread; more steps, fewer layers.
        context: Rows of the KV caches.
    """
    per_step = -(-nodes // steps)
    layers = max(1, -(-(per_step - _NODES_BESIDE_LAYERS) // _NODES_PER_LAYER))
    config = replace(SMOLLM2_135M, name="synthetic", layers=layers)
    return decode_graph(config, steps=steps, context=context)


_NODES_PER_LAYER = 14
_NODES_BESIDE_LAYERS = 4


class _Emitter:
    """Emits the kernels of a step. A node's result is the temp ``NODE.out``."""

    def __init__(self, config: LlamaConfig, context: int, steps: int, dtype: DType, name: str) -> None:
        self.config = config
        self.steps = steps
        self.builder = GraphBuilder(name)
        self.embedding = embedding.declare(dtype)
        self.gemv = gemv.declare(dtype)
        self._prefix = ""
        self._declare(context, dtype)

    def _declare(self, context: int, dtype: DType) -> None:
        config, builder = self.config, self.builder
        tokens = (0, config.vocabulary - 1)
        builder.input("token", DType.I32, (1,), bounds=tokens)
        builder.input("position", DType.I32, (1,), bounds=(0, context - self.steps))
        builder.buffer("next_token", DType.I32, (self.steps,), BufferRole.OUTPUT, bounds=tokens)
        builder.output("logits", DType.F32, (config.vocabulary,))
        for name, shape in weight_shapes(config):
            builder.weight(name, dtype if len(shape) == 2 else DType.F32, shape)
        for layer in range(config.layers):
            for cache in ("k_cache", "v_cache"):
                builder.state(f"blk.{layer}.{cache}", DType.F32, (context, config.kv_heads, config.head_size))

    def step(self, step: int) -> None:
        """All kernels of one decode step."""
        config = self.config
        self._prefix = f"step.{step}." if self.steps > 1 else ""
        position = ScalarLoad("position", 0, step)
        token = ScalarLoad("next_token", step - 1) if step else ScalarLoad("token")
        x = self._embed(token)
        for layer in range(config.layers):
            x = self._attention_block(f"blk.{layer}", x, position)
            x = self._feed_forward_block(f"blk.{layer}", x)
        x = self._norm("output_norm", x)
        last = step == self.steps - 1
        logits = "logits" if last else self._vector("output", config.vocabulary)
        matrix = "token_embd.weight" if config.tied else "output.weight"
        self._gemv("output", matrix, x, logits, config.vocabulary)
        node = f"{self._prefix}argmax"
        self.builder.launch(
            argmax.KERNEL, node=node, launch=argmax.LAUNCH, logits=logits, token="next_token", index=step
        )

    def _attention_block(self, block: str, x: str, position: ScalarLoad) -> str:
        config = self.config
        normed = self._norm(f"{block}.attn_norm", x)
        queries = self._project(f"{block}.attn_q", normed, config.heads)
        keys = self._project(f"{block}.attn_k", normed, config.kv_heads)
        values = self._project(f"{block}.attn_v", normed, config.kv_heads)
        rotated = self._rope_append(block, queries, keys, values, position)
        attended = self._attention(block, rotated, position)
        y = self._matvec(f"{block}.attn_output", attended, config.width)
        return self._add(f"{block}.attn_residual", x, y, config.width)

    def _feed_forward_block(self, block: str, x: str) -> str:
        config = self.config
        normed = self._norm(f"{block}.ffn_norm", x)
        gate = self._matvec(f"{block}.ffn_gate", normed, config.hidden)
        up = self._matvec(f"{block}.ffn_up", normed, config.hidden)
        hidden = self._vector(f"{block}.ffn_act", config.hidden)
        self.builder.launch(
            silu_mul.KERNEL,
            node=f"{self._prefix}{block}.ffn_act",
            launch=elementwise_launch(config.hidden),
            gate=gate,
            up=up,
            y=hidden,
        )
        y = self._matvec(f"{block}.ffn_down", hidden, config.width)
        return self._add(f"{block}.ffn_residual", x, y, config.width)

    def _embed(self, token: ScalarLoad) -> str:
        width = self.config.width
        y = self._vector("token_embd", width)
        self.builder.launch(
            self.embedding,
            node=f"{self._prefix}token_embd",
            launch=elementwise_launch(width),
            table="token_embd.weight",
            y=y,
            token=token,
        )
        return y

    def _norm(self, node: str, x: str) -> str:
        config = self.config
        y = self._vector(node, config.width)
        self.builder.launch(
            rmsnorm.KERNEL,
            node=f"{self._prefix}{node}",
            launch=rmsnorm.launch_for(config.width),
            x=x,
            w=f"{node}.weight",
            y=y,
            eps=config.norm_epsilon,
        )
        return y

    def _project(self, node: str, x: str, heads: int) -> str:
        """A projection into heads, with its bias if the model has one; the result is seen as a matrix."""
        count = heads * self.config.head_size
        y = self._matvec(node, x, count)
        if self.config.attention_bias:
            y = self._add(f"{node}_bias", f"{node}.bias", y, count)
        return self._by_head(y, heads)

    def _matvec(self, node: str, x: str, rows: int) -> str:
        y = self._vector(node, rows)
        self._gemv(node, f"{node}.weight", x, y, rows)
        return y

    def _gemv(self, node: str, matrix: str, x: str, y: str, rows: int) -> None:
        self.builder.launch(self.gemv, node=f"{self._prefix}{node}", launch=gemv.launch_for(rows), w=matrix, x=x, y=y)

    def _rope_append(self, block: str, q: str, k: str, v: str, position: ScalarLoad) -> str:
        config = self.config
        rotated = self._vector(f"{block}.rope_append", config.heads * config.head_size)
        matrix = self._by_head(rotated, config.heads)
        self.builder.launch(
            rope_append.KERNEL,
            node=f"{self._prefix}{block}.rope_append",
            launch=rope_append.launch_for(config.heads, config.kv_heads, config.head_size),
            q=q,
            k=k,
            v=v,
            frequencies=ROPE_FREQUENCIES,
            q_out=matrix,
            k_cache=f"{block}.k_cache",
            v_cache=f"{block}.v_cache",
            pos=position,
        )
        return matrix

    def _attention(self, block: str, q: str, position: ScalarLoad) -> str:
        config = self.config
        y = self._vector(f"{block}.attention", config.heads * config.head_size)
        self.builder.launch(
            attention.KERNEL,
            node=f"{self._prefix}{block}.attention",
            launch=attention.launch_for(config.heads, config.head_size),
            q=q,
            k_cache=f"{block}.k_cache",
            v_cache=f"{block}.v_cache",
            y=self._by_head(y, config.heads),
            pos=position,
        )
        return y

    def _add(self, node: str, a: str, b: str, count: int) -> str:
        y = self._vector(node, count)
        self.builder.launch(add.KERNEL, node=f"{self._prefix}{node}", launch=elementwise_launch(count), a=a, b=b, y=y)
        return y

    def _vector(self, node: str, count: int) -> str:
        return self.builder.temp(f"{self._prefix}{node}.out", DType.F32, (count,))

    def _by_head(self, vector: str, heads: int) -> str:
        """The same bytes as rows, one a head."""
        name = f"{vector.removesuffix('.out')}.heads"
        shape = heads, self.config.head_size
        return self.builder.buffer(name, DType.F32, shape, BufferRole.TEMP, allocation=vector)

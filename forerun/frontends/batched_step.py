"""Batched decode steps of a Llama-architecture model that read the weights once for a few sequences.

Each sequence has its own position, and one or more tokens from there on; speculative decoding verifies several. The
result of a token does not depend on the other sequences, bit for bit. Tensor cores multiply the matrices, with f32
activations rounded to about 2^-18 of each element.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from forerun.frontends.llama_config import ROPE_FREQUENCIES, LlamaConfig, weight_shapes
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch, ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.kernels import attention_cluster
from forerun.kernels.batched import attention, gate_up, halves, head, projection, qkv_rope, tokens
from forerun.kernels.batched.sequences import Sequences
from forerun.kernels.batched.stream import require_short
from forerun.kernels.shapes import elementwise_launch
from forerun.support.diagnostics import InvalidInput

__all__ = ["batched_decode_graph"]


def batched_decode_graph(
    config: LlamaConfig,
    sequences: Sequences,
    *,
    context: int,
    steps: int = 1,
    dtype: DType = DType.BF16,
    cache_dtype: DType = DType.BF16,
    name: str | None = None,
) -> Graph:
    """Build the graph of one decode step for several sequences, or of several greedy steps.

    Inputs are ``token`` (i32[1, B]: the tokens to feed, those of each sequence contiguous) and ``position``
    (i32[sequences]: the position of each sequence's first token). Outputs are ``next_token`` (i32[steps, B]: the
    greedy choice after each token) and ``logits`` (f32[B, vocabulary], of the last step). State is ``blk.N.k_cacheS``
    and ``blk.N.v_cacheS`` ([context, kv_heads, head_size]) for each sequence S. Weights are named as in GGUF.

    Args:
        config: The model's shapes; models with biases are refused.
        sequences: The number of sequences and of tokens of each; at most 8 tokens in all.
        context: The number of rows of each KV cache.
        steps: The number of decode steps in one replay; more than one requires one token per sequence.
        dtype: Type of matrices and embedding table: bf16 or f16. All else is f32.
        cache_dtype: Type of the KV caches.
        name: The graph's name; by default the model's, with ``_batched``.

    Returns:
        A verified graph whose nodes each depend on the one before.

    Raises:
        InvalidInput: If an argument is out of range, or does not fit the model.

    Example:
        >>> tiny = LlamaConfig("tiny", 1, 16, 2, 1, 8, 16, 32, 64)
        >>> batched_decode_graph(tiny, Sequences(3), context=16)
        <Graph tiny_batched: 8 nodes, 7 dependencies, 36 buffers>
    """
    _require_valid(config, sequences, context, steps, _Types(dtype, cache_dtype))
    builder = GraphBuilder(name or f"{config.name}_batched")
    emitter = _BatchedEmitter(builder, config, sequences, _Types(dtype, cache_dtype), context)
    emitter.declare(steps)
    for step in range(steps):
        emitter.emit(step, prefix=f"step.{step}." if steps > 1 else "", last=step == steps - 1)
    return builder.build()


def _require_valid(config: LlamaConfig, sequences: Sequences, context: int, steps: int, types: _Types) -> None:
    require_short(types.matrices)
    if config.attention_bias:
        message = f"model '{config.name}' has biases, which a batched decode step does not support"
        raise InvalidInput(message, hint="decode one sequence at a time, or use a ragged step")
    if config.head_norms:
        message = f"model '{config.name}' normalizes heads, which a batched decode step does not support"
        raise InvalidInput(message, hint="decode one sequence at a time")
    if not 1 <= context <= config.context_length:
        hint = f"model '{config.name}' has positions 0 to {config.context_length - 1}"
        raise InvalidInput(f"context {context} is out of range", hint=hint)
    if steps < 1 or sequences.tokens + steps - 1 > context:
        hint = f"it is at least 1, and the tokens of all steps must fit in the context, {context}"
        raise InvalidInput(f"steps {steps} is out of range", hint=hint)
    if steps > 1 and sequences.tokens > 1:
        message = f"{steps} steps of {sequences.tokens} tokens of a sequence are not supported"
        raise InvalidInput(message, hint="with several tokens of a sequence, set steps=1")
    if not attention_cluster.fits(config.heads, config.kv_heads, config.head_size, types.caches):
        heads = f"{config.heads} query and {config.kv_heads} KV heads of {config.head_size} elements"
        hint = f"rows of 16, 32, ... or 512 bytes in caches of {types.caches}, and at most 8 query heads for a KV head"
        raise InvalidInput(f"{heads} are not supported", hint=hint)
    for columns in (config.width, config.heads * config.head_size, config.hidden):
        if columns % 8:
            message = f"matrices of {columns} columns are not supported"
            raise InvalidInput(message, hint="the number of columns has to be a multiple of 8")


@dataclass(frozen=True, slots=True)
class _Types:
    """The types of matrices and of caches."""

    matrices: DType
    caches: DType


@dataclass(frozen=True, slots=True)
class _Stream:
    """The buffers of the residual stream: what a projection adds to, and what the next kernel normalizes."""

    y: str
    halves: str
    squares: str


class _BatchedEmitter:
    """Declares the buffers of steps, and emits their nodes."""

    def __init__(
        self, builder: GraphBuilder, config: LlamaConfig, sequences: Sequences, types: _Types, context: int
    ) -> None:
        self.builder, self.config, self.sequences, self.types, self.context = builder, config, sequences, types, context
        self.vectors = sequences.vectors
        self.parts = min(head.PARTS, config.vocabulary)
        self._prefix = ""
        self._step = 0

    def declare(self, steps: int) -> None:
        """Declare inputs, outputs, weights, and KV caches."""
        config, builder, sequences = self.config, self.builder, self.sequences
        ids, last = (0, config.vocabulary - 1), self.context - sequences.tokens - steps + 1
        builder.input("token", DType.I32, (1, self.vectors), bounds=ids)
        builder.input("position", DType.I32, (sequences.count,), bounds=(0, last))
        builder.buffer("next_token", DType.I32, (steps, self.vectors), BufferRole.OUTPUT, bounds=ids)
        builder.output("logits", DType.F32, (self.vectors, config.vocabulary))
        for weight, shape in weight_shapes(config):
            builder.weight(weight, self.types.matrices if len(shape) == 2 else DType.F32, shape)
        rows = self.context, config.kv_heads, config.head_size
        for layer in range(config.layers):
            for cache in sequences.caches:
                builder.state(f"blk.{layer}.{cache}", self.types.caches, rows)

    def emit(self, step: int, *, prefix: str, last: bool) -> None:
        """Emit all nodes of a step."""
        self._prefix, self._step = prefix, step
        x = self._embed()
        for layer in range(self.config.layers):
            after = f"blk.{layer + 1}.attn_norm" if layer + 1 < self.config.layers else "output_norm"
            x = self._attention_block(f"blk.{layer}", x)
            x = self._feed_forward_block(f"blk.{layer}", x, f"{after}.weight")
        self._choose(x, "logits" if last else self._rows("output", self.config.vocabulary))

    def _embed(self) -> _Stream:
        stream = self._stream("token_embd")
        given = {"tokens": "next_token", "index": self._step - 1} if self._step else {"tokens": "token", "index": 0}
        kernel = tokens.declare_embedding(self.types.matrices)
        launch = elementwise_launch(self.vectors * self.config.width // halves.EIGHT)
        scale = "blk.0.attn_norm.weight"
        self._launch(kernel, "token_embd", launch, table="token_embd.weight", scale=scale, **asdict(stream), **given)
        return stream

    def _attention_block(self, block: str, x: _Stream) -> _Stream:
        config, node = self.config, f"{block}.attn_qkv"
        queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
        q = self._temp(f"{node}.heads", DType.F32, (self.vectors, config.heads, config.head_size))
        attended = self._halves(f"{block}.attention", queries)
        caches: dict[str, Any] = {cache: f"{block}.{cache}" for cache in self.sequences.caches}
        for number, position in enumerate(self.sequences.positions):
            caches[position] = ScalarLoad("position", number, self._step)
        self._launch(
            qkv_rope.declare(self.types.matrices, self.types.caches, self.sequences),
            node,
            qkv_rope.launch_for(queries, keys, config.width, self.vectors),
            x=x.halves,
            squares=x.squares,
            **{f"w_{part}": f"{block}.attn_{part}.weight" for part in "qkv"},
            frequencies=ROPE_FREQUENCIES,
            q_out=q,
            tokens=self.sequences.tokens,
            eps=config.norm_epsilon,
            **caches,
        )
        launch = attention.launch_for(config.kv_heads, self.context, config.head_size, self.vectors)
        kernel = attention.declare(self.types.caches, self.sequences, self.types.matrices)
        self._launch(kernel, f"{block}.attention", launch, q=q, y=attended, **caches)
        return self._project(f"{block}.attn_output", attended, x.y, queries, f"{block}.ffn_norm.weight")

    def _feed_forward_block(self, block: str, x: _Stream, scale: str) -> _Stream:
        config, node = self.config, f"{block}.ffn_gate_up"
        hidden = self._halves(node, config.hidden)
        self._launch(
            gate_up.declare(self.types.matrices),
            node,
            gate_up.launch_for(config.hidden, config.width, self.vectors),
            x=x.halves,
            squares=x.squares,
            w_gate=f"{block}.ffn_gate.weight",
            w_up=f"{block}.ffn_up.weight",
            y=hidden,
            eps=config.norm_epsilon,
        )
        return self._project(f"{block}.ffn_down", hidden, x.y, config.hidden, scale)

    def _project(self, node: str, x: str, residual: str, columns: int, scale: str) -> _Stream:
        """Emit a projection into the residual stream; ``scale`` is the weight of the norm that comes next."""
        stream, launch = self._stream(node), projection.launch_for(self.config.width, columns, self.vectors)
        given = {"w": f"{node}.weight", "x": x, "residual": residual, "scale": scale}
        self._launch(projection.declare(self.types.matrices), node, launch, **given, **asdict(stream))
        return stream

    def _choose(self, x: _Stream, logits: str) -> None:
        config, parts = self.config, self.parts
        best = self._temp("output.best", DType.F32, (self.vectors, parts))
        place = self._temp("output.place", DType.I32, (self.vectors, parts))
        self._launch(
            head.declare(self.types.matrices),
            "output",
            head.launch_for(config.vocabulary, config.width, self.vectors, parts),
            x=x.halves,
            squares=x.squares,
            w="token_embd.weight" if config.tied else "output.weight",
            logits=logits,
            best_value=best,
            best_index=place,
            eps=config.norm_epsilon,
            parts=parts,
        )
        launch = tokens.choose_launch_for(parts, self.vectors)
        self._launch(tokens.CHOOSE, "argmax", launch, best=best, place=place, token="next_token", index=self._step)

    def _launch(self, kernel: Kernel, node: str, launch: Launch, **arguments: Any) -> None:
        self.builder.launch(kernel, node=f"{self._prefix}{node}", launch=launch, **arguments)

    def _temp(self, name: str, dtype: DType, shape: tuple[int, ...]) -> str:
        return self.builder.temp(f"{self._prefix}{name}", dtype, shape)

    def _rows(self, node: str, width: int) -> str:
        return self._temp(f"{node}.out", DType.F32, (self.vectors, width))

    def _halves(self, node: str, width: int) -> str:
        return self._temp(f"{node}.halves", self.types.matrices, halves.shape_of(self.vectors, width))

    def _stream(self, node: str) -> _Stream:
        squares = self._temp(f"{node}.squares", DType.F32, (self.vectors, self.config.width // halves.EIGHT))
        return _Stream(self._rows(node, self.config.width), self._halves(node, self.config.width), squares)

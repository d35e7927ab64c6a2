"""The decode step of a Llama-architecture model as a graph of small, separate kernels in stream order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from forerun.frontends.decode_step import Choices, StepEmitter
from forerun.frontends.llama import SMOLLM2_135M, LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import ConditionalNode, MemcpyNode, MemsetNode, Node, ScalarLoad
from forerun.ir.region import BufferView
from forerun.ir.types import BufferRole, DType
from forerun.ir.verify import require_valid
from forerun.kernels import advance
from forerun.kernels.packing import Packing
from forerun.support.diagnostics import InvalidInput

__all__ = ["DEFAULT_CONTEXT", "decode_graph", "generation_graph", "synthetic_decode_graph"]

DEFAULT_CONTEXT = 1024
"""Positions if nobody asks for others, and the model has as many."""


def decode_graph(
    config: LlamaConfig,
    *,
    context: int | None = None,
    steps: int = 1,
    dtype: DType = DType.F32,
    cache_dtype: DType = DType.F32,
    splits: int = 1,
    argmax_parts: int = 1,
    packings: Mapping[str, Packing] | None = None,
    name: str | None = None,
) -> Graph:
    """The graph of one decode step, or of several greedy ones.

    Inputs are ``token`` (i32[1], the token to feed) and ``position`` (i32[1], where it stands); outputs are
    ``next_token`` (i32[steps], the greedy choices) and ``logits`` (f32[vocabulary], of the last step). State is
    ``blk.N.k_cache`` and ``blk.N.v_cache`` ([context, kv_heads, head_size]). Weights are named as in GGUF; see
    :func:`~forerun.frontends.llama.weight_shapes`.

    Args:
        config: The model's shapes.
        context: Rows of the KV caches; by default what the model was trained for, at most 1,024.
        steps: How many tokens one replay decodes; each step feeds the one before's choice.
        dtype: Type of matrices and embedding table. Norms, biases and activations are f32.
        cache_dtype: Type of the KV caches.
        splits: Parts of the KV cache that are attended to at once, and merged by a kernel of its own if more than 1.
        argmax_parts: Parts of the vocabulary that are searched at once, and merged.
        packings: Which matrices are rows of quantised blocks, by name, as :attr:`LlamaWeights.packings` says of a file.
        name: The graph's name; by default the model's, with ``_decode``.

    Returns:
        A verified graph whose nodes each depend on the one before.

    Raises:
        InvalidInput: If an argument is out of range.

    Example:
        >>> tiny = LlamaConfig("tiny", 1, 8, 2, 1, 4, 16, 32, 64)
        >>> decode_graph(tiny, context=16)
        <Graph tiny_decode: 18 nodes, 17 dependencies, 39 buffers>
        >>> decode_graph(tiny, context=16, splits=4, argmax_parts=2)
        <Graph tiny_decode: 20 nodes, 19 dependencies, 43 buffers>
    """
    rows = _rows(config, context)
    if not 1 <= steps <= rows:
        raise InvalidInput(f"steps {steps} is out of range", hint=f"from 1 to the context, {rows}")
    builder = GraphBuilder(name or f"{config.name}_decode")
    tokens = (0, config.vocabulary - 1)
    builder.input("token", DType.I32, (1,), bounds=tokens)
    builder.input("position", DType.I32, (1,), bounds=(0, rows - steps))
    builder.buffer("next_token", DType.I32, (steps,), BufferRole.OUTPUT, bounds=tokens)
    builder.output("logits", DType.F32, (config.vocabulary,))
    emitter = StepEmitter(builder, config, Choices(dtype, cache_dtype, splits, argmax_parts, packings or {}), rows)
    for step in range(steps):
        emitter.emit(
            ScalarLoad("next_token", step - 1) if step else ScalarLoad("token"),
            ScalarLoad("position", 0, step),
            "next_token",
            step,
            logits="logits" if step == steps - 1 else "",
            prefix=f"step.{step}." if steps > 1 else "",
        )
    return builder.build()


def generation_graph(
    config: LlamaConfig,
    *,
    limit: int,
    eot: int,
    context: int | None = None,
    dtype: DType = DType.F32,
    cache_dtype: DType = DType.F32,
    splits: int = 1,
    argmax_parts: int = 1,
    packings: Mapping[str, Packing] | None = None,
    name: str | None = None,
) -> Graph:
    """The graph that decodes greedily until it chooses the end token: a loop on the device around one step.

    Inputs are ``token`` (i32[1], the first token to feed), ``position`` (i32[1], where it stands) and ``limit``
    (i32[1], how many tokens to choose at most). Outputs are ``tokens`` (i32[limit], the choices; zeros after them) and
    ``count`` (i32[1], how many there are, the end token included). It also stops when no position is left. State and
    weights are those of :func:`decode_graph`. A prompt is fed by replays with a limit of 1, one for each of its tokens
    but the last.

    Args:
        config: The model's shapes.
        limit: The greatest limit, which is the extent of ``tokens``.
        eot: The token that ends generation; -1 for none.
        context: As for :func:`decode_graph`, like all that follows.
        dtype: Type of matrices and embedding table.
        cache_dtype: Type of the KV caches.
        splits: Parts of the KV cache that are attended to at once.
        argmax_parts: Parts of the vocabulary that are searched at once.
        packings: Which matrices are rows of quantised blocks.
        name: The graph's name; by default the model's, with ``_generation``.

    Returns:
        A verified graph; the step is the body of its ``while`` node ``decode``.

    Raises:
        InvalidInput: If an argument is out of range.

    Example:
        >>> tiny = LlamaConfig("tiny", 1, 8, 2, 1, 4, 16, 32, 64)
        >>> graph = generation_graph(tiny, context=16, limit=8, eot=2)
        >>> graph.nodes["decode"].bodies[0]
        <Graph step: 19 nodes, 18 dependencies, 0 buffers>
    """
    rows = _rows(config, context)
    if not 1 <= limit <= rows:
        raise InvalidInput(f"limit {limit} is out of range", hint=f"from 1 to the context, {rows}")
    if not -1 <= eot < config.vocabulary:
        raise InvalidInput(f"eot {eot} is not a token", hint=f"from 0 to {config.vocabulary - 1}, or -1 for none")
    builder = GraphBuilder(name or f"{config.name}_generation")
    _declare_loop(builder, config, rows, limit)
    emitter = StepEmitter(builder, config, Choices(dtype, cache_dtype, splits, argmax_parts, packings or {}), rows)
    emitter.emit(ScalarLoad("step.token"), ScalarLoad("step.position"), "chosen", 0)
    builder.launch(
        advance.KERNEL,
        node="advance",
        launch=advance.LAUNCH,
        chosen="chosen",
        tokens="tokens",
        count="count",
        token="step.token",
        position="step.position",
        running="running",
        index=ScalarLoad("count"),
        limit=ScalarLoad("limit"),
        end=eot,
        context=rows,
    )
    return _looped(builder.build(verify=False))


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


def _rows(config: LlamaConfig, context: int | None) -> int:
    """How many rows the caches have."""
    rows = min(config.context_length, DEFAULT_CONTEXT) if context is None else context
    if not 1 <= rows <= config.context_length:
        limit = config.context_length
        raise InvalidInput(
            f"context {rows} is out of range", hint=f"model '{config.name}' has positions 0 to {limit - 1}"
        )
    return rows


def _declare_loop(builder: GraphBuilder, config: LlamaConfig, rows: int, limit: int) -> None:
    """What the loop takes and gives, and what a step hands to the next."""
    tokens, positions = (0, config.vocabulary - 1), (0, rows - 1)
    builder.input("token", DType.I32, (1,), bounds=tokens)
    builder.input("position", DType.I32, (1,), bounds=positions)
    builder.input("limit", DType.I32, (1,), bounds=(1, limit))
    builder.buffer("tokens", DType.I32, (limit,), BufferRole.OUTPUT, bounds=tokens)
    builder.output("count", DType.I32, (1,))
    builder.buffer("step.token", DType.I32, (1,), BufferRole.TEMP, bounds=tokens)
    builder.buffer("step.position", DType.I32, (1,), BufferRole.TEMP, bounds=positions)
    builder.buffer("chosen", DType.I32, (1,), BufferRole.TEMP, bounds=tokens)
    builder.temp("running", DType.I32, (1,))


def _looped(step: Graph) -> Graph:
    """The nodes of a step as the body of a loop that begins with what the caller gives."""
    body = Graph("step", nodes=step, dependencies=step.dependencies)
    nodes: tuple[Node, ...] = (
        MemcpyNode("first_token", BufferView("token"), BufferView("step.token")),
        MemcpyNode("first_position", BufferView("position"), BufferView("step.position")),
        MemsetNode("no_tokens", BufferView("tokens")),
        MemsetNode("no_count", BufferView("count")),
        MemsetNode("start", BufferView("running"), 1),
        ConditionalNode("decode", "while", "running", (body,)),
    )
    chain = [Dependency(source.name, target.name) for source, target in pairwise(nodes)]
    tables = step.allocations.values(), step.buffers.values(), step.kernels.values()
    graph = Graph(step.name, *tables, nodes, chain)
    require_valid(graph)
    return graph

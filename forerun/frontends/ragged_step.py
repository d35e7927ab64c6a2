"""A step of a Llama-architecture model for a ragged batch: some requests prefill, some decode, all lengths differ.

The graph is captured once for a capacity; each replay reads from memory which requests there are, how many rows each
has, and where its pages lie. One schedule, made on the device, serves the attention of all layers. What is computed for
a request does not depend on the others, bit by bit: sums over columns are chains in the order of columns, and the
attention is cut by the request alone (:class:`~forerun.schedules.cuts.Invariant`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forerun.frontends.llama_config import ROPE_FREQUENCIES, LlamaConfig, weight_shapes
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.types import BufferRole, DType
from forerun.kernels.persistent.ragged_attention import RaggedAttention
from forerun.kernels.ragged import (
    argmax_rows,
    batch_rows,
    gather_rows,
    matmul_rows,
    rmsnorm_rows,
    rope_append_rows,
    silu_mul_rows,
)
from forerun.kernels.ragged.shapes import require_short
from forerun.schedules.attention import Attention
from forerun.schedules.cuts import Invariant
from forerun.schedules.schedule import capacity_for
from forerun.support.diagnostics import InvalidInput

__all__ = ["CUTS", "RaggedCapacity", "ragged_step_graph", "require_heads_for_gpu"]

CUTS = Invariant(256)
"""How attention is cut: by the length of each request, whatever the batch."""


@dataclass(frozen=True, slots=True)
class RaggedCapacity:
    """What a graph has room for.

    Attributes:
        requests: Requests of a batch.
        rows: Tokens that a step feeds, of all requests together.
        context: Positions of each request.
        page_size: Positions of a page of the KV caches.
        ctas: CTAs of the attention; 132 fill an H200.
    """

    requests: int
    rows: int
    context: int
    page_size: int = 16
    ctas: int = 132

    def require_valid(self, config: LlamaConfig) -> None:
        """Check it.

        Raises:
            InvalidInput: If a number is out of range.
        """
        for name in ("requests", "rows", "context", "page_size", "ctas"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} {getattr(self, name)} is out of range", hint="1 or more")
        if self.rows < self.requests:
            raise InvalidInput(f"{self.rows} rows are too few for {self.requests} requests", hint="each needs one")
        if config.head_norms:
            message = f"model '{config.name}' normalizes heads, which a ragged step does not support"
            raise InvalidInput(message, hint="decode one sequence at a time")
        if self.context > config.context_length:
            hint = f"model '{config.name}' has positions 0 to {config.context_length - 1}"
            raise InvalidInput(f"context {self.context} is out of range", hint=hint)

    @property
    def pages(self) -> int:
        """Pages of a request."""
        return -(-self.context // self.page_size)


def ragged_step_graph(
    config: LlamaConfig, capacity: RaggedCapacity, *, dtype: DType = DType.F16, name: str | None = None
) -> Graph:
    """The graph of one step for any batch within a capacity.

    Inputs, all i32: ``tokens`` [rows], those of the requests one behind the other; ``requests`` [1], their number;
    ``query_pointers`` [requests + 1], where the tokens of each begin; ``kv_lengths`` [requests], positions of each with
    this step's; ``page_pointers`` [requests + 1] and ``pages`` [requests * pages], the pages of each. Outputs:
    ``next_token`` (i32[requests], the greedy choice after the last token of each), ``logits`` (f32[requests,
    vocabulary], of the same tokens), and ``answers`` (i32[1], for how many requests; 0 if ``status`` says that the
    batch is bad). State: ``blk.N.k_cache`` and ``blk.N.v_cache`` ([pages, page_size, kv_heads, head_size]), and what
    :class:`~forerun.kernels.persistent.ragged_attention.RaggedAttention` keeps. Weights are named as in GGUF.

    Args:
        config: The model's shapes.
        capacity: The largest batch.
        dtype: Type of matrices, caches, and of what is multiplied; bf16 or f16. The residual stream is f32.
        name: The graph's name; by default the model's, with ``_ragged``.

    Returns:
        A verified graph whose nodes each depend on the one before.

    Raises:
        InvalidInput: If the capacity or the type does not fit the model.

    Example:
        >>> tiny = LlamaConfig("tiny", 1, 16, 2, 1, 8, 16, 32, 64)
        >>> ragged_step_graph(tiny, RaggedCapacity(requests=2, rows=8, context=16, ctas=4))
        <Graph tiny_ragged: 19 nodes, 18 dependencies, 53 buffers>
    """
    capacity.require_valid(config)
    require_short(dtype)
    builder = GraphBuilder(name or f"{config.name}_ragged")
    _RaggedEmitter(builder, config, capacity, dtype).emit()
    return builder.build()


def require_heads_for_gpu(config: LlamaConfig) -> None:
    """Check what the attention of a ragged batch asks of heads on a GPU; the reference target takes all.

    Raises:
        InvalidInput: If heads have another number of elements than 16, 32, 64 or 128.
    """
    if config.head_size not in (16, 32, 64, 128):
        message = (
            f"model '{config.name}' has heads of {config.head_size} elements, which ragged batches on a GPU cannot have"
        )
        raise InvalidInput(message, hint="16, 32, 64 and 128 are supported; give one --prompt, or --target reference")


class _RaggedEmitter:
    """Declares all buffers of a step, and emits its nodes."""

    def __init__(self, builder: GraphBuilder, config: LlamaConfig, capacity: RaggedCapacity, dtype: DType) -> None:
        self.builder, self.config, self.capacity, self.dtype = builder, config, capacity, dtype
        pages = capacity.requests * capacity.pages
        family = Attention(config.heads, config.kv_heads, config.head_size, capacity.page_size, pages)
        sizes = capacity_for(family, capacity.requests, capacity.rows, pages, capacity.ctas, CUTS)
        self.attention = RaggedAttention(family, sizes, cuts=CUTS, dtype=dtype)
        self.matmul, self.matmul_add = matmul_rows.declare(dtype), matmul_rows.declare_add(dtype)
        self.matmul_bias = matmul_rows.declare_bias(dtype)
        for weight, shape in weight_shapes(config):
            builder.weight(weight, dtype if len(shape) == 2 else DType.F32, shape)
        self.batch = self._declare_batch()
        self.workspace = self.attention.workspace(builder, "attention.")
        self._declare_rows()

    def _declare_batch(self) -> dict[str, str]:
        """What the caller gives, by parameter of the schedule, and what it gets."""
        capacity, builder, shapes = self.capacity, self.builder, self.attention.shapes()
        bounds = {"requests": (1, capacity.requests), "kv_lengths": (0, capacity.context)}
        bounds |= dict.fromkeys(("query_pointers",), (0, capacity.rows))
        pages = shapes["pages"][0]
        bounds |= {"page_pointers": (0, pages), "pages": (0, pages - 1)}
        found = {name: builder.input(name, DType.I32, shapes[name], bounds=bounds[name]) for name in bounds}
        tokens = (0, self.config.vocabulary - 1)
        builder.input("tokens", DType.I32, (capacity.rows,), bounds=tokens)
        builder.buffer("next_token", DType.I32, (capacity.requests,), BufferRole.OUTPUT, bounds=tokens)
        builder.output("logits", DType.F32, (capacity.requests, self.config.vocabulary))
        builder.output("answers", DType.I32, (1,))
        return found

    def _declare_rows(self) -> None:
        """Caches, and what is computed for each row; the layers share it."""
        config, rows, builder = self.config, self.capacity.rows, self.builder
        shapes = self.attention.shapes()
        for layer in range(config.layers):
            for cache in ("k_cache", "v_cache"):
                builder.state(f"blk.{layer}.{cache}", self.dtype, shapes[cache])
        builder.temp("rows", DType.I32, (1,))
        for name, count in (("positions", rows), ("places", rows), ("last", self.capacity.requests)):
            builder.temp(name, DType.I32, (count,))
        for name, dtype, width in (
            ("x", DType.F32, config.width),
            ("attended.x", DType.F32, config.width),
            ("normed", self.dtype, config.width),
            ("gate", DType.F32, config.hidden),
            ("up", DType.F32, config.hidden),
            ("hidden", self.dtype, config.hidden),
        ):
            builder.temp(name, dtype, (rows, width))
        for name, dtype, heads in (
            ("q", DType.F32, config.heads),
            ("k", DType.F32, config.kv_heads),
            ("v", DType.F32, config.kv_heads),
            ("rotated", self.dtype, config.heads),
            ("attended", self.dtype, config.heads),
        ):
            builder.temp(name, dtype, (rows, heads * config.head_size))
            shape = (rows, heads, config.head_size)
            builder.buffer(f"{name}.heads", dtype, shape, BufferRole.TEMP, allocation=name)
        for name, dtype in (("last.x", DType.F32), ("last.normed", self.dtype)):
            builder.temp(name, dtype, (self.capacity.requests, config.width))

    def emit(self) -> None:
        """Emit all nodes."""
        config, capacity = self.config, self.capacity
        self.attention.schedule(self.builder, {**self.batch, **self.workspace})
        self._launch(
            batch_rows.KERNEL,
            "batch_rows",
            batch_rows.launch_for(capacity.requests, capacity.rows),
            **self.batch,
            status=self.workspace["status"],
            page_size=capacity.page_size,
            most_rows=capacity.rows,
            **{name: name for name in ("rows", "answers", "positions", "places", "last")},
        )
        self._gather("token_embd", "rows", "tokens", "token_embd.weight", "x", capacity.rows)
        for layer in range(config.layers):
            self._attention_block(f"blk.{layer}")
            self._feed_forward_block(f"blk.{layer}")
        self._gather("last_rows", "answers", "last", "x", "last.x", capacity.requests)
        self._norm("output_norm", "answers", "last.x", "last.normed", capacity.requests)
        matrix = "token_embd.weight" if config.tied else "output.weight"
        shape = capacity.requests, config.vocabulary, config.width
        self._matmul("output", "answers", "last.normed", matrix, "logits", shape)
        launch = argmax_rows.launch_for(capacity.requests)
        self._launch(argmax_rows.KERNEL, "argmax", launch, rows="answers", logits="logits", token="next_token")

    def _attention_block(self, block: str) -> None:
        config, rows = self.config, self.capacity.rows
        self._norm(f"{block}.attn_norm", "rows", "x", "normed", rows)
        for part, heads in (("q", config.heads), ("k", config.kv_heads), ("v", config.kv_heads)):
            bias = f"{block}.attn_{part}.bias" if config.attention_bias else None
            shape = rows, heads * config.head_size, config.width
            self._matmul(
                f"{block}.attn_{part}", "rows", "normed", f"{block}.attn_{part}.weight", part, shape, bias=bias
            )
        caches = {name: f"{block}.{name}" for name in ("k_cache", "v_cache")}
        self._launch(
            rope_append_rows.declare(self.dtype),
            f"{block}.rope_append",
            rope_append_rows.launch_for(rows, config.heads, config.kv_heads, config.head_size),
            **{name: name for name in ("rows", "positions", "places")},
            **{name: f"{name}.heads" for name in ("q", "k", "v")},
            frequencies=ROPE_FREQUENCIES,
            q_out="rotated.heads",
            **caches,
        )
        buffers = {**self.batch, **self.workspace, **caches, "q": "rotated.heads", "y": "attended.heads"}
        self.attention.attend(self.builder, buffers, f"{block}.attention")
        shape = rows, config.width, config.heads * config.head_size
        matrix = f"{block}.attn_output.weight"
        self._matmul(f"{block}.attn_output", "rows", "attended", matrix, "attended.x", shape, residual="x")

    def _feed_forward_block(self, block: str) -> None:
        config, rows = self.config, self.capacity.rows
        self._norm(f"{block}.ffn_norm", "rows", "attended.x", "normed", rows)
        for part in ("gate", "up"):
            shape = rows, config.hidden, config.width
            self._matmul(f"{block}.ffn_{part}", "rows", "normed", f"{block}.ffn_{part}.weight", part, shape)
        launch, names = silu_mul_rows.launch_for(rows, config.hidden), ("rows", "gate", "up")
        kernel = silu_mul_rows.declare(self.dtype)
        self._launch(kernel, f"{block}.ffn_act", launch, **{name: name for name in names}, y="hidden")
        shape = rows, config.width, config.hidden
        matrix = f"{block}.ffn_down.weight"
        self._matmul(f"{block}.ffn_down", "rows", "hidden", matrix, "x", shape, residual="attended.x")

    def _gather(self, node: str, rows: str, index: str, table: str, y: str, count: int) -> None:
        kernel = gather_rows.declare(self.dtype if table.endswith(".weight") else DType.F32)
        launch = gather_rows.launch_for(count, self.config.width)
        self._launch(kernel, node, launch, rows=rows, index=index, table=table, y=y)

    def _norm(self, node: str, rows: str, x: str, y: str, count: int) -> None:
        launch = rmsnorm_rows.launch_for(count, self.config.width)
        values: dict[str, Any] = {"w": f"{node}.weight", "y": y, "eps": self.config.norm_epsilon}
        self._launch(rmsnorm_rows.declare(self.dtype), node, launch, rows=rows, x=x, **values)

    def _matmul(
        self, node: str, rows: str, x: str, w: str, y: str, shape: tuple[int, int, int], **added: str | None
    ) -> None:
        """A product, plus ``residual`` or ``bias`` if one is given; the shape is rows, outputs, inputs."""
        given = {name: buffer for name, buffer in added.items() if buffer is not None}
        kernel = self.matmul_add if "residual" in given else self.matmul_bias if given else self.matmul
        self._launch(kernel, node, matmul_rows.launch_for(*shape), rows=rows, x=x, w=w, y=y, **given)

    def _launch(self, kernel: Kernel, node: str, launch: Launch, **arguments: Any) -> None:
        self.builder.launch(kernel, node=node, launch=launch, **arguments)

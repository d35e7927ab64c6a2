"""Attention of a ragged batch in a graph: a node that makes the schedule, and one that works it off.

The graph is captured once for a capacity. Each replay reads the batch from memory: the number of requests, pointers,
lengths and pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forerun.ir.builder import GraphBuilder
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.persistent import attention, attention_schedule
from forerun.kernels.ragged.shapes import require_short
from forerun.schedules.attention import Attention
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule
from forerun.schedules.item_times import RECORD_WORDS

__all__ = ["BATCH", "RaggedAttention"]

BATCH = ("requests", "query_pointers", "kv_lengths", "page_pointers", "pages")
"""The parameters that say what the batch is."""

_SCHEDULE = ("status", "counts", "pointers", "items", "counters")


@dataclass(frozen=True)
class RaggedAttention:
    """What both nodes are made for.

    Attributes:
        family: Heads, pages, and the costs of tiles.
        capacity: The largest batch; its CTAs are those of the persistent kernel.
        policy: A name of :data:`~forerun.schedules.policies.POLICIES`.
        cuts: How tasks are cut; ``Shares()`` by default.
        dtype: Of queries, KV cache and results.
        recorded: Whether the persistent kernel writes when each item began and ended, in the state ``records``.

    Raises:
        InvalidInput: If the type is not bf16 or f16.
    """

    family: Attention
    capacity: Capacity
    policy: str = "prefix-sums"
    cuts: CutRule | None = None
    dtype: DType = DType.BF16
    recorded: bool = False

    def __post_init__(self) -> None:
        require_short(self.dtype)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all buffers, by parameter."""
        batch = attention_schedule.buffer_shapes(self.capacity)
        return {**batch, **attention.buffer_shapes(self.family, self.capacity)}

    def batch(self, builder: GraphBuilder) -> dict[str, str]:
        """Declare the batch as inputs, by parameter."""
        shapes = self.shapes()
        return {name: builder.input(name, DType.I32, shapes[name]) for name in BATCH}

    def values(self, builder: GraphBuilder) -> dict[str, str]:
        """Declare the queries as input, the KV cache as state, and the results as output, by parameter."""
        shapes = self.shapes()
        found = {"q": builder.input("q", self.dtype, shapes["q"])}
        for name in ("k_cache", "v_cache"):
            found[name] = builder.state(name, self.dtype, shapes[name])
        return {**found, "y": builder.output("y", self.dtype, shapes["y"])}

    def workspace(self, builder: GraphBuilder, prefix: str = "") -> dict[str, str]:
        """Declare the schedule and the partial results, by parameter.

        The schedule is state, so that its status can be read after a replay.
        """
        shapes = self.shapes()
        found = {name: builder.state(prefix + name, DType.I32, shapes[name]) for name in (*_SCHEDULE, "arrived")}
        if self.recorded:
            records = (self.capacity.items, RECORD_WORDS)
            found["records"] = builder.state(prefix + "records", DType.I64, records)
        for name in ("partial", "statistics"):
            found[name] = builder.temp(prefix + name, DType.F32, shapes[name])
        return found

    def schedule(self, builder: GraphBuilder, buffers: dict[str, str], node: str = "schedule") -> str:
        """Launch the kernel that makes the schedule; ``buffers`` are by parameter.

        Raises:
            InvalidInput: If the capacity is too large for it, or the policy or the cuts are not made on the device.
        """
        scalars = attention_schedule.scalars_of(self.family, self.capacity, self.policy, self.cuts)
        launch = attention_schedule.launch_for(self.capacity, scalars)
        arguments: dict[str, Any] = {**{name: buffers[name] for name in (*BATCH, *_SCHEDULE)}, **scalars}
        return builder.launch(attention_schedule.declare(scalars), node=node, launch=launch, **arguments)

    def attend(
        self,
        builder: GraphBuilder,
        buffers: dict[str, str],
        node: str = "attention",
        launch: Launch | None = None,
        kernel: Kernel | None = None,
    ) -> str:
        """Launch the persistent kernel.

        Args:
            builder: Of the graph.
            buffers: The buffers by parameter.
            node: The node's name.
            launch: Another grid, or other rings, than the kernel's own choice.
            kernel: Another kernel with the same parameters.
        """
        kernel = kernel or attention.declare(self.dtype, recorded=self.recorded)
        arguments: dict[str, Any] = {p.name: buffers[p.name] for p in kernel.buffer_parameters}
        slots = self.shapes()["partial"][0]
        launch = launch or attention.launch_for(self.capacity)
        return builder.launch(kernel, node=node, launch=launch, slots=slots, **arguments)

"""Products of a batch of rows of experts in a graph: a node that makes the schedule, and one that works it off.

The graph is captured once for a capacity. Each replay reads from memory which rows each expert has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forerun.ir.builder import GraphBuilder
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.persistent import expert_schedule, expert_tiles
from forerun.schedules.capacity import Capacity
from forerun.schedules.cuts import CutRule
from forerun.schedules.expert_gemv import ExpertGemv

__all__ = ["RaggedExperts"]

_SCHEDULE = ("status", "counts", "pointers", "items", "counters")


@dataclass(frozen=True)
class RaggedExperts:
    """What both nodes are made for.

    Attributes:
        family: Experts, the shape of their weights, and the costs of a group of rows.
        capacity: The largest batch; its CTAs are those of the persistent kernel.
        policy: ``prefix-sums`` or ``round-robin``.
        cuts: ``Shares()`` by default, or ``Whole()``.
        dtype: Of rows and weights; results are f32.
    """

    family: ExpertGemv
    capacity: Capacity
    policy: str = "prefix-sums"
    cuts: CutRule | None = None
    dtype: DType = DType.BF16

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all buffers, by parameter."""
        batch = expert_schedule.buffer_shapes(self.family, self.capacity)
        return {**batch, **expert_tiles.buffer_shapes(self.family, self.capacity)}

    def batch(self, builder: GraphBuilder) -> dict[str, str]:
        """Declare the batch as input, by parameter: where the rows of each expert begin, and the number of all rows."""
        return {"row_pointers": builder.input("row_pointers", DType.I32, self.shapes()["row_pointers"])}

    def values(self, builder: GraphBuilder) -> dict[str, str]:
        """Declare the rows, sorted by expert, as input, the weights as state, the results as output, by parameter."""
        shapes = self.shapes()
        found = {"x": builder.input("x", self.dtype, shapes["x"]), "w": builder.state("w", self.dtype, shapes["w"])}
        return {**found, "y": builder.output("y", DType.F32, shapes["y"])}

    def workspace(self, builder: GraphBuilder, prefix: str = "") -> dict[str, str]:
        """Declare the schedule, by parameter, as state, so that its status can be read after a replay."""
        shapes = self.shapes()
        return {name: builder.state(prefix + name, DType.I32, shapes[name]) for name in _SCHEDULE}

    def schedule(self, builder: GraphBuilder, buffers: dict[str, str], node: str = "schedule") -> str:
        """Launch the kernel that makes the schedule; ``buffers`` are by parameter.

        Raises:
            InvalidInput: If the capacity is too large for it, or the policy or the cuts are not made on the device.
        """
        scalars = expert_schedule.scalars_of(self.family, self.capacity, self.policy, self.cuts)
        launch = expert_schedule.launch_for(self.family, self.capacity)
        arguments: dict[str, Any] = {**{name: buffers[name] for name in ("row_pointers", *_SCHEDULE)}, **scalars}
        return builder.launch(expert_schedule.KERNEL, node=node, launch=launch, **arguments)

    def multiply(
        self, builder: GraphBuilder, buffers: dict[str, str], node: str = "experts", launch: Launch | None = None
    ) -> str:
        """Launch the persistent kernel; ``launch`` may have another grid, or other rings, than its own choice.

        Raises:
            InvalidInput: If the kernel has no room for the rows of a group, or the type is neither bf16 nor f16.
        """
        kernel = expert_tiles.declare(self.dtype)
        arguments: dict[str, Any] = {p.name: buffers[p.name] for p in kernel.buffer_parameters}
        launch = launch or expert_tiles.launch_for(self.family, self.capacity.ctas)
        return builder.launch(kernel, node=node, launch=launch, **arguments)

"""What each node, or each kernel, moved in which time: rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from forerun.ir.graph import Graph
from forerun.ir.walk import kernel_nodes
from forerun.measure.traffic import Traffic, traffic_of
from forerun.runtime.timeline import Timeline

__all__ = ["Row", "by_kernel", "node_rows", "total"]


@dataclass(frozen=True, slots=True)
class Row:
    """A node, or several.

    Attributes:
        label: The node, or the kernel of the nodes.
        kernel: The kernel.
        nodes: How many they are.
        traffic: What they must move.
        share: Nanoseconds of the step that they account for; over all nodes the sum is the step.
        work: Nanoseconds from the first wait that returned to the last end, summed over the nodes.
        gap: Idle nanoseconds directly before the nodes started, summed over the nodes.
        overlap: Nanoseconds for which the nodes ran beside earlier ones, summed over the nodes.
    """

    label: str
    kernel: str
    nodes: int
    traffic: Traffic
    share: int
    work: int
    gap: int
    overlap: int

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return 1e9 * self.traffic.total / self.share if self.share else 0.0

    def to_json(self, ceiling: float) -> dict[str, Any]:
        """As docs/seeing-a-step.md describes it."""
        return {
            "label": self.label,
            "kernel": self.kernel,
            "nodes": self.nodes,
            "bytes": self.traffic.total,
            "weight_bytes": self.traffic.weights,
            "state_bytes": self.traffic.state,
            "activation_bytes": self.traffic.activations,
            "share_us": self.share / 1e3,
            "work_us": self.work / 1e3,
            "gap_us": self.gap / 1e3,
            "overlap_us": self.overlap / 1e3,
            "gbs": self.bandwidth / 1e9,
            "of_ceiling": self.bandwidth / ceiling if ceiling else None,
        }


def node_rows(graph: Graph, timeline: Timeline, read: Callable[[str], NDArray[Any]]) -> list[Row]:
    """A row for each node of a timeline, in its order.

    ``read`` gives the value of a buffer that sizes of accesses depend on; it is asked once for each.
    """
    values: dict[str, NDArray[Any]] = {}

    def known(buffer: str) -> NDArray[Any]:
        if buffer not in values:
            values[buffer] = read(buffer)
        return values[buffer]

    nodes = dict(kernel_nodes(graph))
    rows = []
    for times in timeline.nodes:
        traffic = traffic_of(graph, nodes[times.name], known)
        share, work = timeline.shares[times.name], times.ends - times.works
        gap, overlap = timeline.gap(times), timeline.overlap(times)
        rows.append(Row(times.name, times.kernel, 1, traffic, share, work, gap, overlap))
    return rows


def by_kernel(rows: Iterable[Row]) -> list[Row]:
    """One row for each kernel, the one with the largest share first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kernel, []).append(row)
    return sorted((total(kernel, group) for kernel, group in groups.items()), key=lambda row: -row.share)


def total(label: str, rows: Iterable[Row]) -> Row:
    """The sum of some rows."""
    found = list(rows)
    kernels = {row.kernel for row in found}
    kernel = kernels.pop() if len(kernels) == 1 else ""
    traffic = sum((row.traffic for row in found), Traffic())
    counts = {name: sum(getattr(row, name) for row in found) for name in ("nodes", "share", "work", "gap", "overlap")}
    return Row(label, kernel, traffic=traffic, **counts)

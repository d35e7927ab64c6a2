"""How long a step takes with its nodes at some places: bytes over rates, and what a border costs.

Each node takes the bytes that it touches over its place's rate. Each place does one node at a time, in launch order;
the link, too, carries one copy at a time. A node starts when its sources are complete, and when what they wrote at
another place has come over the link, whose every copy costs a border's time first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.ir.semantics import accesses
from forerun.ir.types import Place
from forerun.passes.infer_dependencies import hazard_dependencies

__all__ = ["Rates", "Step"]


@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine does: gigabytes a second of the host's memory, of a device's, and of the link; microseconds."""

    host: float
    device: float
    link: float
    border: float

    def seconds(self, place: Place, size: int) -> float:
        """How long a node of a place takes for the bytes that it touches."""
        return _over(size, self.host if place.kind == "host" else self.device)


class Step:
    """A graph whose time can be asked for with its nodes at various places.

    Args:
        graph: A valid graph.
        rates: Of the machine.
        times: Seconds of nodes that were measured, by name and by kind of place; others are modelled.
    """

    def __init__(self, graph: Graph, rates: Rates, times: Mapping[tuple[str, str], float] | None = None) -> None:
        self.rates = rates
        self.names = list(graph.nodes)
        self.bytes = {name: _touched(graph, name) for name in self.names}
        self.times = times or {}
        self._sources: dict[str, list[tuple[str, int]]] = {name: [] for name in self.names}
        for (source, target), dependency in hazard_dependencies(graph).items():
            moved = {hazard.buffer for hazard in dependency.hazards if hazard.kind == "RAW"}
            size = sum(graph.buffers[name].size for name in moved if name in graph.buffers)
            self._sources[target].append((source, size))

    def seconds(self, places: Mapping[str, Place]) -> float:
        """The time of the step, with each node at a place."""
        free: dict[Place, float] = {}
        end: dict[str, float] = {}
        arrived: dict[tuple[str, Place], float] = {}
        link = 0.0
        for name in self.names:
            place, start = places[name], free.get(places[name], 0.0)
            for source, size in self._sources[name]:
                ready = end[source]
                if size and places[source] != place:
                    if (source, place) not in arrived:
                        link = max(link, ready) + self.rates.border * 1e-6 + _over(size, self.rates.link)
                        arrived[source, place] = link
                    ready = arrived[source, place]
                start = max(start, ready)
            end[name] = free[place] = start + self.seconds_of(name, place)
        return max(end.values(), default=0.0)

    def seconds_of(self, name: str, place: Place) -> float:
        """The time of one node at a place."""
        measured = self.times.get((name, place.kind))
        return self.rates.seconds(place, self.bytes[name]) if measured is None else measured


def _over(size: int, rate: float) -> float:
    """Seconds for some bytes at some gigabytes a second; at a rate of 0 they never come."""
    return size / (1e9 * rate) if rate else math.inf


def _touched(graph: Graph, name: str) -> int:
    """Bytes that a node touches, each buffer once; of ranges that are not known, all that they may be."""
    most: dict[str, int] = {}
    for access in accesses(graph)[name]:
        buffer = graph.buffers.get(access.buffer)
        if buffer is not None:
            size = access.bytes.stop - access.bytes.start if access.bytes.is_constant else buffer.size
            most[access.buffer] = max(most.get(access.buffer, 0), size)
    return sum(most.values())

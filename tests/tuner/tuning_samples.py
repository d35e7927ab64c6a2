"""Graphs to tune, and clocks and times that are made up."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LlamaConfig
from forerun.ir.graph import Graph
from forerun.ir.kernel import Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.tuning import group_of

__all__ = [
    "TINY",
    "CountingClock",
    "FakeClock",
    "arbitrary_seconds",
    "decode",
    "launched_grids",
    "tuned_decode",
    "without_launches",
]

TINY = LlamaConfig("tiny", 2, 8, 2, 1, 4, 16, 32, 64)


@cache
def decode() -> Graph:
    """A decode step of a tiny model, before its passes."""
    return decode_graph(TINY, context=16, splits=2)


@cache
def tuned_decode() -> Graph:
    """The same after the default passes."""
    return PassManager("exact").run(decode()).graph


def arbitrary_seconds(seed: int) -> Callable[[Graph], float]:
    """A time for each graph that depends on everything that tuning may change, node by node."""

    def seconds(graph: Graph) -> float:
        total = 0.0
        for node in graph:
            assert isinstance(node, KernelNode)
            kernel = graph.kernels[node.kernel]
            steps = [type(step).__name__ for _, _, step in kernel.steps()]
            kinds = sorted(str(d.kind) for d in graph.incoming(node.name))
            text = f"{seed} {group_of(graph, node)} {node.launch} {steps} {kinds}"
            total += 1e-6 * (1 + zlib.crc32(text.encode()) % 1000 / 1000)
        return total

    return seconds


def launched_grids(graph: Graph) -> dict[str, int]:
    """The number of CTAs of each node."""
    return {node.name: node.launch.grid[0] for node in graph if isinstance(node, KernelNode)}


def without_launches(graph: Graph) -> list[tuple[str, int, int, int]]:
    """Of each node: its name, its waits and triggers, and its programmatic dependencies."""
    found = []
    for node in graph:
        assert isinstance(node, KernelNode)
        steps = [step for _, _, step in graph.kernels[node.kernel].steps()]
        waits, triggers = (sum(isinstance(step, kind) for step in steps) for kind in (Wait, Trigger))
        programmatic = sum(d.kind is DependencyKind.PROGRAMMATIC for d in graph.incoming(node.name))
        found.append((node.name, waits, triggers, programmatic))
    return found


class FakeClock:
    """A clock that only measuring moves."""

    def __init__(self, seconds: Callable[[Graph], float], cost: float) -> None:
        self.now = 100.0
        self.cost = cost
        self.measured = 0
        self._seconds = seconds

    def __call__(self) -> float:
        return self.now

    def measure(self, graph: Graph) -> float:
        """A measurement, which takes its time."""
        self.now += self.cost
        self.measured += 1
        return self._seconds(graph)


class CountingClock:
    """A clock on which each look at it takes a hundredth of a second: a budget in seconds is one of looks."""

    def __init__(self) -> None:
        self._looks = 0

    def __call__(self) -> float:
        self._looks += 1
        return self._looks / 100

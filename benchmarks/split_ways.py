"""Programs for ``splits.py`` and their times: one program, launched in each of the ways that there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

import forerun
from benchmarks.common import Metric
from benchmarks.split_models import Shapes, weights_of
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.measured_splits import MeasuredSplits
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["MODES", "OURS", "PLACED", "Bench", "Ways"]

PLACED = 'place{host="host.*"},splits'

MODES = ("graph", "signals", "plans", "synchronous", "measured")
OURS = "measured"
"""What the metrics are of; the three others are told."""


class Bench:
    """Programs on a target, and their times."""

    def __init__(self, target: str, shapes: Shapes, repeats: int, seconds: float = 60.0) -> None:
        self.target, self.shapes, self.repeats, self.seconds = target, shapes, repeats, seconds
        self.metrics: dict[str, Metric] = {}
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def program(self, graph: Graph, passes: str, mode: str) -> Any:
        """A program, whose graph is launched in one of the ways."""
        target = self.target if self.target != "cuda" else f"cuda{{splits={mode},prove=false}}"
        return forerun.compile(graph, target, pipeline=passes, weights=weights_of(graph))

    def step(self, program: Any, graph: Graph) -> Callable[[], object]:
        """What runs one step and waits; inputs and outputs stay where they are."""
        given = [b for b in graph.buffers.values() if b.role is BufferRole.INPUT]
        inputs = {b.name: np.ones(b.shape, numpy_dtype(b.dtype)) for b in given}
        for _ in range(4):
            program.run(inputs)
        if self.target != "cuda":
            return lambda: program.run(inputs)

        def once() -> None:
            program.launch()
            program.synchronize()

        return once

    def ways(self, graph: Graph, passes: str = PLACED) -> Ways:
        """A program with work for the host, to be launched in each of the ways."""
        with mock.patch("forerun.runtime.cuda.loading.HostCalls", _TimedCalls):
            return Ways(self, self.program(graph, passes, OURS), graph)

    def samples(self, steps: Mapping[str, Callable[[], object]], times: int = 1) -> dict[str, list[float]]:
        """Microseconds of each of some steps, by turns there and back; of short steps several times as many."""
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(times * self.repeats):
            for name in (*steps, *reversed(steps)):
                begin = time.perf_counter()
                steps[name]()
                found[name].append(1e6 * (time.perf_counter() - begin))
        return found


class _TimedCalls(HostCalls):
    """Host calls that note when they began and ended, though kernels of the device do not."""

    def __init__(self) -> None:
        super().__init__()
        self.times = {}


class Ways:
    """One program, and its steps in each of the ways that ``cuda{splits=measured}`` knows, and in that one."""

    def __init__(self, bench: Bench, program: Any, graph: Graph) -> None:
        self.close, self._calls = program.close, getattr(program._program, "_calls", None)
        step, loaded = bench.step(program, graph), program._program
        measured: MeasuredSplits | None = getattr(loaded, "_measured", None)
        self.steps: dict[str, Callable[[], object]] = dict.fromkeys(MODES, step)
        self.fastest = OURS
        if measured is None:
            return
        while not measured.chosen:
            step()
        self.fastest = measured.chosen
        best = {name: f"{1e6 * min(seconds[1:]):.0f} us" for name, seconds in measured._seconds.items()}
        bench.say(f"  {OURS} goes the way {measured.chosen} of {best}")
        outputs = [b.name for b in graph.buffers.values() if b.role is BufferRole.OUTPUT]
        ways = {name: SimpleNamespace(launch=way) for name, way in measured._ways.items()} | {OURS: measured}

        def in_one_way(way: object) -> None:
            loaded._split = way
            step()

        self.steps = {name: partial(in_one_way, ways[name]) for name in MODES}
        found = set()
        for step_in_one_way in self.steps.values():
            step_in_one_way()
            found.add(b"".join(program.read(name).tobytes() for name in outputs))
        bench.say(f"  bit-identical over {', '.join(MODES)}: {len(found) == 1}")

    def host_us(self) -> float:
        """Microseconds for which the host worked in the last step: calls of one job overlap."""
        total, end = 0, 0
        for begin, ended in sorted(self._calls.times.values() if self._calls else ()):
            total += max(0, ended - max(begin, end))
            end = max(end, ended)
        return total / 1e3

    def samples(self, repeats: int) -> dict[str, list[tuple[float, float]]]:
        """Microseconds of steps in each of the ways, by turns there and back, and of the host's work in each."""
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in self.steps}
        for _ in range(repeats):
            for name in (*self.steps, *reversed(self.steps)):
                begin = time.perf_counter()
                self.steps[name]()
                found[name].append((1e6 * (time.perf_counter() - begin), self.host_us()))
        return found

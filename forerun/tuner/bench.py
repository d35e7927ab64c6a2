"""Measures graphs on a target, several at a time on the same weights, and compares what they compute."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.runtime.base import Program, Target
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["Bench", "usual_inputs"]

_LOADED = 2
"""Graphs that stay loaded, besides the first: the best one and the one that is tried."""
_SECONDS_A_MEASUREMENT = 0.005
_MOST_REPLAYS = 1000


def usual_inputs(graph: Graph) -> dict[str, NDArray[Any]]:
    """Values for all inputs: the middle of their bounds, or random numbers (always the same)."""
    chooser = np.random.default_rng(0)
    found = {}
    for buffer in graph.buffers.values():
        if buffer.role is BufferRole.INPUT:
            if buffer.dtype.is_float:
                value: NDArray[Any] = chooser.normal(size=buffer.shape)
            else:
                low, high = buffer.bounds or (0, 0)
                value = np.full(buffer.shape, (low + high) // 2)
            found[buffer.name] = value.astype(numpy_dtype(buffer.dtype))
    return found


class Bench:
    """Loads graphs that have the same buffers, and replays them.

    Args:
        target: Where.
        weights: By name. They are loaded once: later graphs use the memory of the first.
        inputs: By name; what results are compared and times are measured with.
        tolerance: How far results may be from the first graph's, as the relative L2 norm of a buffer.
    """

    def __init__(
        self, target: Target, weights: Mapping[str, ArrayLike], inputs: Mapping[str, ArrayLike], tolerance: float
    ) -> None:
        self.target = target
        self.inputs = inputs
        self.tolerance = tolerance
        self._weights: Mapping[str, Any] = weights
        self._programs: OrderedDict[int, tuple[Graph, Program]] = OrderedDict()
        self._first: Program | None = None
        self._expected: dict[str, NDArray[Any]] = {}
        self._state: dict[str, NDArray[Any]] = {}
        self._replays: dict[int, int] = {}

    def seconds(self, graph: Graph) -> float:
        """Seconds of one replay, the mean of as many as take some milliseconds."""
        program = self._program(graph)
        count = self._replays.get(id(graph))
        if count is None:
            once = max(_seconds(program, 3), 1e-7)  # the first replays also warm up
            count = self._replays[id(graph)] = min(_MOST_REPLAYS, max(3, math.ceil(_SECONDS_A_MEASUREMENT / once)))
        return _seconds(program, count)

    def same_results(self, graph: Graph, exact: bool) -> str:
        """Why outputs and state after a replay are not those of the first graph; empty if they are."""
        for name, value in self._results(self._program(graph), graph).items():
            wrong = _difference(value, self._expected[name], 0.0 if exact else self.tolerance)
            if wrong:
                return f"%{name} {wrong}"
        return ""

    def _results(self, program: Program, graph: Graph) -> dict[str, NDArray[Any]]:
        program.reset()
        for name, value in self._state.items():
            program.write(name, value)
        results = dict(program.run(self.inputs))
        for buffer in graph.buffers.values():
            if buffer.role is BufferRole.STATE:
                results[buffer.name] = program.read(buffer.name)
        return results

    def _program(self, graph: Graph) -> Program:
        known = self._programs.get(id(graph))
        if known is not None:
            self._programs.move_to_end(id(graph))
            return known[1]
        program = self.target.load(graph, self._weights)
        self._programs[id(graph)] = graph, program
        if self._first is None:
            self._first = program
            self._weights = _shared(program, graph, self._weights)
            self._state = _random_state(graph)
            self._expected = self._results(program, graph)
        elif len(self._programs) > _LOADED + 1:
            self._close_one()
        program.run(self.inputs)
        return program

    def _close_one(self) -> None:
        """Close the program that was not used for longest, and is not the first, whose weights all use."""
        for key, (_, program) in self._programs.items():
            if program is not self._first:
                del self._programs[key]
                self._replays.pop(key, None)
                program.close()
                return

    def close(self) -> None:
        """Give everything back."""
        programs = [program for _, program in self._programs.values()]
        self._programs.clear()
        for program in reversed(programs):
            program.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _random_state(graph: Graph) -> dict[str, NDArray[Any]]:
    """Values for state such as KV caches, always the same: with zeros there, much that is wrong would look right."""
    chooser = np.random.default_rng(1)
    found = {}
    for buffer in graph.buffers.values():
        if buffer.role is BufferRole.STATE and buffer.dtype.is_float:
            value = chooser.standard_normal(buffer.shape, np.float32) / 2
            found[buffer.name] = value.astype(numpy_dtype(buffer.dtype))
    return found


def _seconds(program: Program, count: int) -> float:
    timed = getattr(program, "seconds_per_replay", None)
    if timed is not None:
        return float(timed(count))
    launch, synchronize = getattr(program, "launch", None), getattr(program, "synchronize", None)
    if launch is None or synchronize is None:
        raise TypeError(f"a {type(program).__name__} cannot be timed")
    began = time.perf_counter()
    for _ in range(count):
        launch()
    synchronize()
    return (time.perf_counter() - began) / count


def _shared(program: Program, graph: Graph, weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights where the program has them, or as they were given."""
    place = getattr(program, "buffer", None)
    if place is None:
        return weights
    return {b.name: place(b.name) for b in graph.buffers.values() if b.role is BufferRole.WEIGHT}


def _difference(found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> str:
    if found.tobytes() == expected.tobytes():
        return ""
    if tolerance == 0.0 or found.dtype.kind in "iu":
        count = np.count_nonzero(found.view(np.uint8) != expected.view(np.uint8)) if found.ndim else 1
        return f"differs ({count} bytes)"
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norm = float(np.linalg.norm(b.ravel())) or 1.0
    distance = float(np.linalg.norm((a - b).ravel())) / norm
    return "" if distance <= tolerance else f"differs by {distance:.2g} of its norm, more than {tolerance:.2g}"

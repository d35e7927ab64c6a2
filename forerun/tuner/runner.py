"""Measures graphs on a target, several at a time on the same weights, and compares what they compute."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.measure.step import relative_l2
from forerun.runtime.device import DeviceProgram, DeviceTarget
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["Runner", "usual_inputs"]

_LOADED = 2
"""Graphs that stay loaded, besides the first: the best one and the one that is tried."""
_SECONDS_A_MEASUREMENT = 0.005
_MOST_REPLAYS = 1000
_REPEATS = 3
"""Replays whose results must be the same before a graph is kept: a race shows as a difference sometimes only."""


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


class Runner:
    """Loads graphs that have the same buffers, and replays them.

    What is only tried is loaded without the proof of its machine code, which takes longer than all the rest; what is
    kept is loaded again, and proved.

    Args:
        target: Where.
        weights: By name. They are loaded once: later graphs use the memory of the first.
        inputs: By name; what results are compared and times are measured with.
        tolerance: How far results may be from the first graph's, as the relative L2 norm of a buffer.
    """

    def __init__(
        self, target: DeviceTarget, weights: Mapping[str, ArrayLike], inputs: Mapping[str, ArrayLike], tolerance: float
    ) -> None:
        self.target = target
        self._trying = target.without_proof()
        self.inputs = inputs
        self.tolerance = tolerance
        self._weights: Mapping[str, Any] = weights
        self._programs: OrderedDict[int, tuple[Graph, DeviceProgram]] = OrderedDict()
        self._first: DeviceProgram | None = None
        self._expected: dict[str, NDArray[Any]] = {}
        self._found: dict[int, dict[str, NDArray[Any]]] = {}
        self._state: dict[str, NDArray[Any]] = {}
        self._replays: dict[int, int] = {}

    def seconds(self, graph: Graph) -> float:
        """Seconds of one replay, the mean of as many as take some milliseconds."""
        program = self._program(graph)
        count = self._replays.get(id(graph))
        if count is None:
            once = max(program.seconds_per_replay(3), 1e-7)  # the first replays also warm up
            count = self._replays[id(graph)] = min(_MOST_REPLAYS, max(3, math.ceil(_SECONDS_A_MEASUREMENT / once)))
        return program.seconds_per_replay(count)

    def prepare(self, graphs: Sequence[Graph]) -> None:
        """Compile what these graphs need, many kernels at a time, before they are tried one by one."""
        self.target.precompile(graphs)

    def same_results(self, graph: Graph, reference: Graph | None = None) -> str:
        """Why outputs and state after a replay are not what they should be; empty if they are.

        Args:
            graph: What is replayed.
            reference: A graph that must give the same bit by bit; without one, they must be near to the first graph's.
        """
        expected = self._expected if reference is None else self._results_of(reference)
        tolerance = self.tolerance if reference is None else 0.0
        wrong = _first_difference(self._results_of(graph), expected, tolerance)
        if wrong:
            self._forget(id(graph))
        return wrong

    def confirm(self, graph: Graph) -> str:
        """Why a graph that was tried cannot be kept; empty if it can.

        It is loaded once more, with the proof of its machine code, and must give the same bit by bit in all replays.

        Raises:
            ForerunError: If it is not proved.
        """
        expected = self._results_of(graph)
        self._forget(id(graph))
        self._keep(graph, self.target.load(graph, self._weights))
        for _ in range(_REPEATS):
            wrong = _first_difference(self._results(self._program(graph), graph), expected, 0.0)
            if wrong:
                self._forget(id(graph))
                return f"two replays are not the same, so there is a race: {wrong}"
        return ""

    def _results_of(self, graph: Graph) -> dict[str, NDArray[Any]]:
        """The results of a graph's first replay."""
        program = self._program(graph)
        if id(graph) not in self._found:
            self._found[id(graph)] = self._results(program, graph)
        return self._found[id(graph)]

    def _results(self, program: DeviceProgram, graph: Graph) -> dict[str, NDArray[Any]]:
        program.reset()
        for name, value in self._state.items():
            program.write(name, value)
        results = dict(program.run(self.inputs))
        for buffer in graph.buffers.values():
            if buffer.role is BufferRole.STATE:
                results[buffer.name] = program.read(buffer.name)
        return results

    def _program(self, graph: Graph) -> DeviceProgram:
        known = self._programs.get(id(graph))
        if known is not None:
            self._programs.move_to_end(id(graph))
            return known[1]
        if self._first is not None:
            return self._keep(graph, self._trying.load(graph, self._weights))
        program = self._first = self.target.load(graph, self._weights)
        self._programs[id(graph)] = graph, program
        self._weights = _shared(program, graph)
        self._state = _random_state(graph)
        self._expected = self._found[id(graph)] = self._results(program, graph)
        return program

    def _keep(self, graph: Graph, program: DeviceProgram) -> DeviceProgram:
        self._programs[id(graph)] = graph, program
        if len(self._programs) > _LOADED + 1:
            self._close_one()
        program.run(self.inputs)
        return program

    def _close_one(self) -> None:
        """Close the program that was not used for longest, and is not the first, whose weights all use."""
        key = next((key for key, (_, program) in self._programs.items() if program is not self._first), None)
        if key is not None:
            self._forget(key)

    def _forget(self, key: int) -> None:
        if self._programs[key][1] is self._first:
            return
        _, program = self._programs.pop(key)
        self._replays.pop(key, None)
        self._found.pop(key, None)
        program.close()

    def close(self) -> None:
        """Give everything back."""
        programs = [program for _, program in self._programs.values()]
        self._programs.clear()
        for program in reversed(programs):
            program.close()

    def __enter__(self) -> Runner:
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


def _shared(program: DeviceProgram, graph: Graph) -> Mapping[str, Any]:
    """The weights where the program has them."""
    return {b.name: program.buffer(b.name) for b in graph.buffers.values() if b.role is BufferRole.WEIGHT}


def _first_difference(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], tolerance: float) -> str:
    for name, value in found.items():
        wrong = _difference(value, expected[name], tolerance)
        if wrong:
            return f"%{name} {wrong}"
    return ""


def _difference(found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> str:
    if found.shape == expected.shape and np.array_equal(_bytes_of(found), _bytes_of(expected)):
        return ""
    if tolerance == 0.0 or found.dtype.kind in "iu":
        count = np.count_nonzero(_bytes_of(found) != _bytes_of(expected))
        return f"differs ({count} bytes)"
    distance = relative_l2(found, expected)
    return "" if distance <= tolerance else f"differs by {distance:.2g} of its norm, more than {tolerance:.2g}"


def _bytes_of(value: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)

"""Measures graphs on a target, several at a time on the same weights, and compares what they compute."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(eq=False)
class _Loaded:
    """A graph that is loaded, the results of its first replay, and how many replays are a measurement."""

    graph: Graph
    program: DeviceProgram
    results: dict[str, NDArray[Any]] | None = None
    replays: int = 0


class Runner:
    """Loads graphs that have the same buffers, and replays them.

    What is only tried is loaded without the proof of its machine code, which takes longer than all the rest; what is
    kept is loaded again, and proved.

    Weights are loaded once: later graphs use the memory of the first. ``tolerance`` is how far results may be from the
    first graph's, as the relative L2 norm of a buffer.
    """

    def __init__(
        self, target: DeviceTarget, weights: Mapping[str, ArrayLike], inputs: Mapping[str, ArrayLike], tolerance: float
    ) -> None:
        self.target = target
        self._trying = target.without_proof()
        self.inputs = inputs
        self.tolerance = tolerance
        self._weights: Mapping[str, Any] = weights
        self._loaded: OrderedDict[int, _Loaded] = OrderedDict()
        self._first: _Loaded | None = None
        self._expected: dict[str, NDArray[Any]] = {}
        self._state: dict[str, NDArray[Any]] = {}

    def seconds(self, graph: Graph) -> float:
        """Seconds of one replay, the mean of as many as take some milliseconds."""
        loaded = self._load(graph)
        if not loaded.replays:
            once = max(loaded.program.seconds_per_replay(3), 1e-7)  # the first replays also warm up
            loaded.replays = min(_MOST_REPLAYS, max(3, math.ceil(_SECONDS_A_MEASUREMENT / once)))
        return loaded.program.seconds_per_replay(loaded.replays)

    def prepare(self, graphs: Sequence[Graph]) -> None:
        """Compile what these graphs need, many kernels at a time, before they are tried one by one."""
        self.target.precompile(graphs)

    def same_results(self, graph: Graph, reference: Graph | None = None) -> str:
        """Why outputs and state after a replay are not what they should be; empty if they are.

        A reference must give the same bit by bit; without one, they must be near to the first graph's.
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
        loaded = self._keep(graph, self.target.load(graph, self._weights))
        for _ in range(_REPEATS):
            wrong = _first_difference(self._results(loaded), expected, 0.0)
            if wrong:
                self._forget(id(graph))
                return f"two replays are not the same, so there is a race: {wrong}"
        return ""

    def _results_of(self, graph: Graph) -> dict[str, NDArray[Any]]:
        """The results of a graph's first replay."""
        loaded = self._load(graph)
        if loaded.results is None:
            loaded.results = self._results(loaded)
        return loaded.results

    def _results(self, loaded: _Loaded) -> dict[str, NDArray[Any]]:
        program = loaded.program
        program.reset()
        for name, value in self._state.items():
            program.write(name, value)
        results = dict(program.run(self.inputs))
        for buffer in loaded.graph.buffers.values():
            if buffer.role is BufferRole.STATE:
                results[buffer.name] = program.read(buffer.name)
        return results

    def _load(self, graph: Graph) -> _Loaded:
        known = self._loaded.get(id(graph))
        if known is not None:
            self._loaded.move_to_end(id(graph))
            return known
        if self._first is not None:
            return self._keep(graph, self._trying.load(graph, self._weights))
        first = _Loaded(graph, self.target.load(graph, self._weights))
        self._first = self._loaded[id(graph)] = first
        weights = (buffer.name for buffer in graph.buffers.values() if buffer.needs_value)
        self._weights = {name: first.program.buffer(name) for name in weights}
        self._state = _random_state(graph)
        self._expected = first.results = self._results(first)
        return first

    def _keep(self, graph: Graph, program: DeviceProgram) -> _Loaded:
        loaded = self._loaded[id(graph)] = _Loaded(graph, program)
        if len(self._loaded) > _LOADED + 1:
            # What was not used for longest, and is not the first, whose weights all use.
            self._forget(next(key for key, other in self._loaded.items() if other is not self._first))
        program.run(self.inputs)
        return loaded

    def _forget(self, key: int) -> None:
        if self._loaded[key] is not self._first:
            self._loaded.pop(key).program.close()

    def close(self) -> None:
        """Give everything back."""
        while self._loaded:
            self._loaded.popitem()[1].program.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
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

"""Runs a test many times and counts the replays in which something came out of order.

Every replay stores new values: its number, and which node stored. What has to come out is what comes out of a serial
replay on the reference target, so a value that is too old, or too new, shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.graph import Graph
from forerun.runtime.litmus import notation
from forerun.runtime.litmus.notation import LitmusTest, Observation, graph_of
from forerun.runtime.reference import ReferenceTarget
from forerun.runtime.toolchain import Progress

__all__ = ["Counts", "LitmusProgram", "LitmusRunner", "measure"]

_PER_REPLAY = 16
"""Values of a replay: ``_PER_REPLAY * replay + 1`` for the first node that stores, and so on."""

_WARM_UP = 1
"""Replays that are not looked at: each value has its predecessor, and everything is loaded, after one."""

_UNWRITTEN = (0, -1)
"""What memory holds that nobody wrote: state begins as zeros, the reference target poisons outputs."""

Values = NDArray[np.int32]


class LitmusProgram(Protocol):
    """A test's graph, ready to run."""

    def run(self, inputs: Mapping[str, ArrayLike]) -> Mapping[str, NDArray[Any]]:
        """Replay once; the outputs as the host reads them right after the launch."""
        ...

    def settle(self) -> None:
        """Return when nothing runs any more, drained or not."""
        ...

    def read(self, buffer: str) -> NDArray[Any]:
        """What a buffer holds now."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class LitmusRunner(Protocol):
    """Where litmus tests run."""

    def prepare(self, graphs: Sequence[Graph], progress: Progress | None = None) -> None:
        """Do what can be done for many graphs at once.

        Args:
            graphs: Graphs that will be opened.
            progress: Called with how much is done, and how much there is.
        """
        ...

    def open(self, graph: Graph) -> LitmusProgram:
        """Make a graph ready to run."""
        ...


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted.

    Attributes:
        runs: Replays in which there was something to look at.
        violated: Those of them in which some value was not the one of a serial replay.
        foreign: Those of them in which some value was one that nobody ever stored: a fault of the test, not of the GPU.
    """

    runs: int
    violated: int = 0
    foreign: int = 0


def measure(test: LitmusTest, bench: LitmusRunner, runs: int) -> Counts:
    """Run a test as often as ``runs`` says."""
    graph, wanted = graph_of(test), _Wanted(test)
    counts = np.zeros(3, np.int64)
    program = bench.open(graph)
    try:
        for replay in range(1, runs + _WARM_UP + 1):
            outputs = program.run(wanted.inputs(replay))
            program.settle()
            if replay > _WARM_UP:
                counts += np.any(
                    [wanted.judge(o, replay, outputs, program) for o in notation.observations(test)], axis=0
                )
    finally:
        program.close()
    return Counts(*counts.tolist())


class _Wanted:
    """What a test puts in, and what a serial replay makes of it."""

    def __init__(self, test: LitmusTest) -> None:
        self._test = test
        self._writers = notation.writers(test)
        self._serial = self._of_serial_replays(graph_of(test))

    def inputs(self, replay: int) -> dict[str, Values]:
        """The values that each node stores in a replay."""
        first = _PER_REPLAY * replay + 1
        cells = self._test.cells
        names = map(notation.fresh_buffer, self._writers)
        return {name: np.full(cells, first + i, np.int32) for i, name in enumerate(names)}

    def judge(
        self, observation: Observation, replay: int, outputs: Mapping[str, NDArray[Any]], program: LitmusProgram
    ) -> tuple[bool, bool, bool]:
        """What one observation of a replay adds to the :class:`Counts`: looked at, violated, foreign."""
        seen = program.read(observation.buffer) if observation.node else outputs[observation.buffer]
        wrong = seen != self._expected(observation.buffer, replay)
        given = notation.given_buffer(self._test, observation)
        if given is None:
            return True, bool(wrong.any()), self._has_foreign(seen, replay)
        there = program.read(given) == self._expected(given, replay)
        return bool(there.any()), bool((wrong & there).any()), self._has_foreign(seen, replay)

    def _of_serial_replays(self, graph: Graph) -> Mapping[str, Values]:
        """The outputs of the first replay that is looked at."""
        program = ReferenceTarget().load(graph, {})
        outputs: Mapping[str, Values] = {}
        for replay in range(1, _WARM_UP + 2):
            outputs = program.run(self.inputs(replay))
        program.close()
        return outputs

    def _expected(self, buffer: str, replay: int) -> Values:
        """What was stored in that replay, or some replays before it, is newer by as much in later ones."""
        serial = self._serial[buffer]
        later = serial + np.int32(_PER_REPLAY * (replay - _WARM_UP - 1))
        return np.where(np.isin(serial, _UNWRITTEN), serial, later)

    def _has_foreign(self, seen: NDArray[Any], replay: int) -> bool:
        """Whether some value is of no writer, or of a replay that is still to come."""
        number, writer = np.divmod(seen - 1, _PER_REPLAY)
        stored = (number >= 1) & (number <= replay) & (writer < len(self._writers))
        return bool((~stored & ~np.isin(seen, _UNWRITTEN)).any())

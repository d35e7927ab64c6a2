"""What a target with a GPU can do beyond any target: time replays, tell its name, judge and compile ahead.

Targets of other packages that can be tuned derive from :class:`DeviceTarget`, and their programs from
:class:`DeviceProgram`; what they leave out has a harmless default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from forerun.ir.graph import Graph
from forerun.runtime.base import Program, Target
from forerun.support.diagnostics import Diagnostic

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["DeviceProgram", "DeviceTarget"]


@runtime_checkable
class DeviceProgram(Program, Protocol):
    """A graph that was loaded on a GPU."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the machine code, by the name of the entry."""
        return {}

    @property
    def remarks(self) -> Sequence[Diagnostic]:
        """What the target found in the machine code, for people."""
        return ()

    def launch(self, stream: Any = None) -> None:
        """Enqueue one replay, on the program's own stream or another one, and return at once."""
        ...

    def synchronize(self) -> None:
        """Wait for all replays that were launched."""
        ...

    def seconds_per_replay(self, count: int = 1) -> float:
        """Replay that often, back to back, and tell how long one takes, by the clock of the GPU."""
        ...

    def timeline(self) -> Any:
        """When the kernels of the last replay did what: a :class:`~forerun.runtime.timeline.Timeline`."""
        ...

    def buffer(self, name: str) -> Any:
        """The memory of a buffer, for other libraries to use in place."""
        ...


@runtime_checkable
class DeviceTarget(Target, Protocol):
    """A target that has a clock."""

    def load(
        self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None = None
    ) -> DeviceProgram:
        """As for any target.

        Args:
            graph: A valid graph.
            weights: By name; arrays on the device are used in place.
            memory: Arrays of the caller's, by the names of inputs, outputs and state that are to live there.
        """
        ...

    def identity(self) -> tuple[str, str]:
        """The GPU's name, and the release of its driver: what measured choices hold for.

        Raises:
            Unsupported: If there is no GPU.
        """
        ...

    def multiprocessors(self) -> int:
        """How many streaming multiprocessors the GPU has."""
        ...

    def assess(self, candidates: Sequence[Graph]) -> tuple[int, str]:
        """The first of some graphs, strongest first, that survives the assembler, and why not an earlier one."""
        return 0, ""

    def precompile(self, graphs: Sequence[Graph]) -> int:
        """Compile the kernels of some graphs, all processors at once, so that loading them takes no compiler.

        What does not compile is left out: loading the graph says why.

        Returns:
            How many kernels there were.
        """
        return 0

    def without_proof(self) -> DeviceTarget:
        """The same target, for graphs that are only tried: without the proof of their machine code."""
        return self

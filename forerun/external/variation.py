"""Programs that vary: their replays leave other bytes although memory was the same before; and where that begins.

Such a program cannot be compared bit by bit with what was made of it, unless one knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forerun.external.subject import Subject
from forerun.external.trials import Prepare, Trials

__all__ = ["Variation", "find_variation"]


@dataclass(frozen=True, slots=True)
class Variation:
    """Where a program begins to vary.

    Attributes:
        node: The first node, in launch order, after which memory was not the same in all replays.
        kernel: Its kernel's name in the image; empty for other nodes.
        step: The step whose inputs show it.
        differing: In how many replays of the nodes up to this one memory was not as after the first.
        replays: How many there were.
    """

    node: str
    kernel: str
    step: int
    differing: int
    replays: int

    def __str__(self) -> str:
        what = f"{self.node} ({self.kernel})" if self.kernel else self.node
        return f"{what} varies: {self.differing} of {self.replays} replays differ, with the inputs of step {self.step}"


def find_variation(
    graph: Any, prepare: Prepare | None = None, *, steps: int = 100, replays: int = 8, thorough: int = 100
) -> Variation | None:
    """The node with which the replays of a program's own graph begin to differ; ``None`` if they were all the same.

    The graph is replayed some times for each step. If that differs, the graph of its first nodes alone is, with ever
    other numbers of them, until the last of these nodes is found. A node that stores other bytes that later nodes store
    over is found as well, as long as it is among the last of some of these graphs.

    Args:
        graph: What :func:`forerun.optimize` returned or takes; the program's own graph is looked at.
        prepare: Puts the inputs of a step into the program's buffers, given the step's number.
        steps: How many inputs are tried at the most.
        replays: How often the whole graph is replayed for each.
        thorough: How often the graphs of the first nodes are.

    Raises:
        InvalidInput: If it is not a graph.
        Unsupported: If its kernels were not seen, or no clone of it can be made, or it writes nothing that is known.
        CudaError: If the driver fails.
    """
    subject = Subject.of(graph)
    captured = subject.live.graph
    order = captured.launch_order()
    with Trials(subject.live, subject.imported, prepare) as trials:
        for step in range(steps):
            trials.start(step)
            if trials.varying(frozenset(), replays):
                break
        else:
            return None

        def differing(count: int) -> int:
            return trials.varying(frozenset(order[count:]), thorough)

        count = _first(lambda count: bool(differing(count)), len(order))
        number = order[count - 1]
        node = captured.nodes[number]
        kernel = captured.function_of(node).name if node.function >= 0 else ""
        return Variation(subject.imported.names[number], kernel, step, differing(count), thorough)


def _first(varies: Callable[[int], bool], most: int) -> int:
    """The smallest number for which something holds, if it holds for all from there on up to the most."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if varies(middle) else (middle + 1, high)
    return low

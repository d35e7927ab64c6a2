"""Finds the first node whose output is not finite: a serial replay that looks at what each node wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.demands import require_vouched
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.ir.verify import require_valid
from forerun.runtime.reference.bind import bind_graph
from forerun.runtime.reference.bound import BoundGraph, BoundKernel, BoundNode, BoundPhase
from forerun.runtime.reference.memory import Memory
from forerun.runtime.reference.serial import SerialReplay, Step

__all__ = ["first_not_finite"]

_LOOP_LIMIT = 10_000
_MAXIMA = "statistics"
"""Buffers of this name hold maxima, which are -inf over nothing (:mod:`forerun.kernels.attention_split`)."""


def first_not_finite(
    graph: Graph,
    weights: Mapping[str, ArrayLike],
    state: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, ArrayLike],
) -> str | None:
    """What is not finite first in a replay: a weight, or what a node writes.

    ``state`` is what state buffers hold before the replay.

    Returns:
        Words for it, such as ``node 'output' writes nan to buffer 'logits' at [3]``; ``None`` if all is finite.

    Raises:
        InvalidInput: If a value does not fit, or the graph asks for code that nobody vouches for.
        Unsupported: If a kernel is a black box, or a phase has no reference function.
    """
    require_valid(graph)
    require_vouched(graph, sources=False)
    memory = Memory(graph, weights)
    for name, buffer in graph.buffers.items():
        if buffer.role is BufferRole.WEIGHT and (found := _described(memory.buffers[name].array)):
            return f"weight '{name}' holds {found}"
    for name, value in state.items():
        memory.buffers[name].array[...] = value
    replay = _WatchedReplay(bind_graph(graph, memory))
    memory.set_inputs(inputs)
    memory.poison()
    with np.errstate(all="ignore"):
        replay()
    return replay.found


class _WatchedReplay(SerialReplay):
    """A serial replay that remembers words for the first value that is not finite."""

    def __init__(self, graph: BoundGraph) -> None:
        self.found: str | None = None
        super().__init__(graph, _LOOP_LIMIT)

    def _node_steps(self, node: BoundNode) -> Iterator[Step]:
        yield from super()._node_steps(node)
        # Copies and fills make no such values out of others, so kernels are all that is looked at.
        if isinstance(node, BoundKernel):
            phases = [step for role in node.roles for step in role if isinstance(step, BoundPhase) and step.writes]

            def look() -> None:
                self._look(node.name, phases)

            self._places[look] = f"node '{node.name}'"
            yield look

    def _look(self, node: str, phases: list[BoundPhase]) -> None:
        if self.found is not None:
            return
        for phase in phases:
            loaded = [source.element.item() + source.offset for source in phase.loads]
            for reach in phase.writes:
                name = reach.memory.buffer.name
                words = _described(reach.at(loaded), maxima=name.endswith(_MAXIMA))
                if words:
                    self.found = f"node '{node}' writes {words} to buffer '{name}'"
                    return


def _described(values: NDArray[Any], *, maxima: bool = False) -> str:
    """The first value that is not finite and where it is; empty if there is none."""
    if values.dtype.kind in "iub":
        return ""
    with np.errstate(all="ignore"):
        numbers = values.astype(np.float64, copy=False)
    wrong = ~np.isfinite(numbers)
    if maxima:
        wrong &= numbers != -np.inf
    if not wrong.any():
        return ""
    place = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"{numbers[place]} at [{', '.join(str(int(at)) for at in place)}]"

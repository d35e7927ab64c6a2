"""The reference target: runs graphs in NumPy, in serial order or under adversarial schedules."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.demands import require_vouched
from forerun.ir.graph import Graph
from forerun.ir.parameters import with_values
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.updatable import Way
from forerun.runtime.reference.adversarial import Machine, count_actions
from forerun.runtime.reference.bind import bind_graph, rebind_nodes
from forerun.runtime.reference.bound import BoundGraph
from forerun.runtime.reference.memory import BufferMemory, HostConstants, Memory
from forerun.runtime.reference.saving import ranges_to_save, undone_by_failure
from forerun.runtime.reference.schedule import Action, Schedule
from forerun.runtime.reference.serial import SerialReplay
from forerun.runtime.reference.strategies import Recorded, Strategy, strategy_for
from forerun.runtime.values import state_array
from forerun.support.diagnostics import InvalidInput, did_you_mean
from forerun.support.option_text import format_item
from forerun.support.options import check_values, non_default_texts, option

__all__ = ["ReferenceProgram", "ReferenceTarget"]

_SERIAL, _ADVERSARIAL, _RECORDED = "serial", "adversarial", "recorded"


@dataclass(frozen=True)
class ReferenceTarget:
    """Runs the NumPy functions of the phases; needs no GPU.

    Args:
        schedule: ``serial`` (launch order), ``adversarial`` (any order that the strict event model allows, drawn from
            ``seed``), a :class:`Schedule`, or the path of one that was saved, ending in ``.json``. A recorded schedule
            brings its own ``h6``.
        seed: Which adversarial schedules are drawn. Every replay of a program draws its own.
        h6: Whether a secondary starts only after its primary's trigger (docs/pdl.md, H6); off in the strict model.
        loop_limit: How many rounds a ``while`` node may take.

    Raises:
        InvalidInput: If an option is wrong, or the saved schedule cannot be read.

    Example:
        >>> str(ReferenceTarget("adversarial", seed=3))
        'reference{schedule=adversarial,seed=3}'
    """

    name: ClassVar[str] = "reference"
    constant_alignment: ClassVar[int] = 1

    schedule: str = option(_SERIAL, help="serial, adversarial, or the file of a saved schedule (.json)")
    seed: int = option(0, help="which adversarial schedules are drawn")
    h6: bool = option(False, help="a secondary starts only after its primary's trigger")
    loop_limit: int = option(10_000, help="how many rounds a while node may take")
    recorded: Schedule | None = field(default=None, init=False, repr=False)
    """The schedule to replay, if one was given."""

    def __init__(
        self, schedule: str | Path | Schedule = _SERIAL, seed: int = 0, h6: bool = False, loop_limit: int = 10_000
    ) -> None:
        schedule = str(schedule) if isinstance(schedule, Path) else schedule
        recorded = schedule if isinstance(schedule, Schedule) else None
        if isinstance(schedule, str) and schedule.endswith(".json"):
            recorded = Schedule.load(schedule)
        values = {
            "schedule": _RECORDED if isinstance(schedule, Schedule) else schedule,
            "seed": seed,
            "h6": h6 if recorded is None else recorded.h6,
            "loop_limit": loop_limit,
            "recorded": recorded,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)
        check_values(self, "target 'reference'")
        if recorded is None and schedule not in (_SERIAL, _ADVERSARIAL):
            hint = did_you_mean(str(schedule), (_SERIAL, _ADVERSARIAL)) + " files of schedules end in .json"
            raise InvalidInput(f"target 'reference': no schedule '{schedule}'", hint=hint)

    def load(self, graph: Graph, weights: Mapping[str, ArrayLike]) -> ReferenceProgram:
        """Check a graph, lay out its memory and find its functions.

        Raises:
            InvalidInput: If the graph is not valid, a weight does not fit, a function cannot be found, or nobody
                vouches for it.
            Unsupported: If a kernel is a black box, or a phase has no reference function.
        """
        from forerun.ir.verify import require_valid

        require_valid(graph)
        require_vouched(graph, sources=False)
        return ReferenceProgram(graph, weights, self)

    def constant_memory(self) -> HostConstants:
        """Memory for constants that programs have in common."""
        return HostConstants()

    def __str__(self) -> str:
        return format_item(self.name, non_default_texts(self))


class ReferenceProgram:
    """A graph on the reference target. Made by :meth:`ReferenceTarget.load`.

    Attributes:
        last_schedule: The order of events of the last replay, also of one that failed; ``None`` before the first, and
            for the serial schedule.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, ArrayLike], target: ReferenceTarget) -> None:
        self.last_schedule: Schedule | None = None
        self._target = target
        self._replays = 0
        self._running = threading.Lock()
        self._graph = graph
        self._is_assigned = False
        self._is_serial = target.recorded is None and target.schedule == _SERIAL
        self._serial: SerialReplay | None = None
        self._loaded: tuple[Memory, BoundGraph] | None = None
        self._to_save = ranges_to_save(graph)
        self._bind(Memory(graph, weights))

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """Replay the graph once; see :class:`forerun.runtime.base.Program`."""
        memory, graph = self._open()
        with self._alone():
            memory.set_inputs(inputs)
            memory.poison()
            return self._replayed(memory, graph)

    def _replayed(self, memory: Memory, graph: BoundGraph) -> dict[str, NDArray[Any]]:
        with undone_by_failure(memory, self._to_save):
            if not self._is_serial:
                return self._adversarial(memory, graph)
            if self._serial is None:
                self._serial = SerialReplay(graph, self._target.loop_limit)
            self._serial()
            return memory.outputs()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nothing else runs or changes the program: no other thread, and none of the functions that it calls."""
        if not self._running.acquire(blocking=False):
            hint = "functions that it calls must leave it alone, and threads run programs of their own, or one by one"
            raise InvalidInput("the program is running", hint=hint)
        try:
            yield
        finally:
            self._running.release()

    def assign(self, values: Mapping[str, int | float]) -> None:
        """Give named constants other values; see :class:`forerun.runtime.base.AdjustableProgram`."""
        memory, _ = self._open()
        with self._alone():
            self._assign(memory, values)

    def _assign(self, memory: Memory, values: Mapping[str, int | float]) -> None:
        self._graph, self._is_assigned = with_values(self._graph, values), True
        self._bind(memory)

    def _bind(self, memory: Memory) -> None:
        bound = bind_graph(self._graph, memory)
        self._serial = SerialReplay(bound, self._target.loop_limit) if self._is_serial else None
        self._loaded = memory, bound

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a buffer of any role holds now; see :class:`forerun.runtime.base.Program`."""
        return self._buffer(buffer).array.copy()

    def write(self, buffer: str, value: ArrayLike) -> None:
        """Set a state buffer; see :class:`forerun.runtime.base.Program`."""
        memory = self._buffer(buffer)
        with self._alone():
            memory.array[...] = state_array(memory.buffer, value)

    def reset(self) -> None:
        """Set all state to zeros; adversarial schedules are drawn as after loading."""
        memory, _ = self._open()
        with self._alone():
            memory.reset()
            self._replays = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of memory, the caller's weights apart."""
        return 0 if self._loaded is None else self._loaded[0].size_bytes

    def watch(self) -> None:
        """Nothing to do: replays are over when :meth:`run` returns."""

    def require_memory(self) -> None:
        """Nothing to do: arrays of NumPy live as long as somebody uses them."""

    def is_in_flight(self) -> bool:
        """Whether it is running: in another thread, or the caller is a function that it calls."""
        return self._running.locked()

    def wait_for(self, other: object, stream: Any = None) -> None:
        """Nothing to do: replays are over when :meth:`run` returns."""

    def update_in_place(self, graph: Graph, difference: Difference) -> tuple[Way, str]:
        """Bind the nodes that changed; see :class:`forerun.runtime.plans.UpdatableProgram`."""
        memory, bound = self._open()
        self._graph, self._to_save = graph, ranges_to_save(graph)
        if self._is_assigned:
            self._is_assigned = False
            self._bind(memory)  # nodes that are the same in both graphs may have other values now
            return Way.PARAMETERS, ""
        positions = dict.fromkeys(change.position for change in difference.nodes)
        self._loaded = memory, rebind_nodes(bound, graph, memory, positions)
        self._serial = None
        return Way.PARAMETERS, ""

    def close(self) -> None:
        """Give back the memory. Closing twice is fine."""
        if self._loaded is not None:
            self._loaded[0].let_go()
        self._loaded = self._serial = None

    def _buffer(self, name: str) -> BufferMemory:
        buffers = self._open()[0].buffers
        if name not in buffers:
            raise InvalidInput(f"no buffer '{name}'", hint=did_you_mean(str(name), buffers, sigil="%"))
        return buffers[name]

    def _open(self) -> tuple[Memory, BoundGraph]:
        if self._loaded is None:
            raise InvalidInput("the program is closed", hint="load or compile the graph again")
        return self._loaded

    def _adversarial(self, memory: Memory, graph: BoundGraph) -> dict[str, NDArray[Any]]:
        target, replay = self._target, self._replays
        self._replays += 1
        name, strategy, seed = self._strategy(graph, replay)
        actions: list[Action] = []
        outputs: dict[str, NDArray[Any]] = {}
        machine = Machine(
            graph,
            strategy,
            actions.append,
            h6=target.h6,
            loop_limit=target.loop_limit,
            on_end=lambda: outputs.update(memory.outputs()),
        )
        try:
            # Functions may see poison here; what they make of it is the finding, not their warnings.
            with np.errstate(all="ignore"):
                machine.run()
        finally:
            self.last_schedule = Schedule(graph.name, seed, replay, name, target.h6, tuple(actions))
        if isinstance(strategy, Recorded) and strategy.left:
            raise InvalidInput(f"the graph ended, but {strategy.left} actions of the schedule are left")
        return outputs

    def _strategy(self, graph: BoundGraph, replay: int) -> tuple[str, Strategy, int]:
        recorded = self._target.recorded
        if recorded is not None:
            return recorded.strategy, Recorded(recorded.actions), recorded.seed
        name, strategy = strategy_for(self._target.seed, replay, count_actions(graph))
        return name, strategy, self._target.seed

"""What the runtime's tests share: short ways to write kernels, and every schedule of a small graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.region import WHOLE, Region
from forerun.ir.trust import vouch
from forerun.ir.types import DependencyKind, DType
from forerun.runtime.reference import ReferenceTarget, Schedule
from forerun.runtime.reference.adversarial import Machine
from forerun.runtime.reference.bind import bind_graph
from forerun.runtime.reference.memory import Memory
from forerun.runtime.reference.schedule import Action
from forerun.support.diagnostics import ForerunError

FUNCTIONS = "tests.runtime.functions"
vouch(FUNCTIONS)
F32, I32 = DType.F32, DType.I32
FULL, PROGRAMMATIC, LAUNCH_ORDER = DependencyKind.FULL, DependencyKind.PROGRAMMATIC, DependencyKind.LAUNCH_ORDER


def phase(name: str, function: str, *, reads: Any = (), writes: Any = (), **more: Any) -> Phase:
    """A phase whose reads and writes are names of parameters, or ``(name, region)`` pairs."""
    return Phase(name, _accesses(reads), _accesses(writes), reference=f"{FUNCTIONS}:{function}", **more)


def _accesses(given: Any) -> tuple[Access, ...]:
    pairs = [(item, WHOLE) if isinstance(item, str) else item for item in given]
    return tuple(Access(name, region if isinstance(region, Region) else WHOLE) for name, region in pairs)


def vector_kernel(name: str, parameters: str, *steps: Step, dtype: DType = I32, scalars: str = "") -> Kernel:
    """A kernel of one role on one-dimensional buffers of any size; names are separated by spaces."""
    buffers = tuple(BufferParameter(p, dtype, (None,)) for p in parameters.split())
    numbers = tuple(ScalarParameter(s, I32) for s in scalars.split())
    return Kernel(name, (*buffers, *numbers), (Role("all", steps),))


def body(text: str) -> Kernel:
    """A kernel from its steps in order: ``L`` loads ``x``, ``S`` stores that to ``y``, ``W`` waits, ``T`` triggers."""
    steps: dict[str, Step] = {
        "L": phase("load", "keep", reads=["x"], defines=("kept",)),
        "S": phase("store", "keep", writes=["y"], uses=("kept",)),
        "W": Wait(),
        "T": Trigger(),
        "B": Barrier(),
    }
    return vector_kernel(f"k_{text}", "x y", *(steps[letter] for letter in text))


def with_kinds(graph: Graph, kind: DependencyKind, *pairs: tuple[str, str]) -> Graph:
    """The graph with these dependencies of that kind."""
    edit = graph.edit()
    for source, target in pairs:
        edit.set_dependency(Dependency(source, target, kind))
    return edit.commit()


def serial(graph: Graph, inputs: Mapping[str, Any], weights: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The outputs of one serial replay."""
    return ReferenceTarget().load(graph, weights or {}).run(inputs)


def adversarial(
    graph: Graph, inputs: Mapping[str, Any], seed: int, weights: Mapping[str, Any] | None = None, **options: Any
) -> tuple[dict[str, Any], Schedule]:
    """The outputs of one adversarial replay, and its schedule."""
    program = ReferenceTarget("adversarial", seed=seed, **options).load(graph, weights or {})
    outputs = program.run(inputs)
    assert program.last_schedule is not None
    return outputs, program.last_schedule


class _Enumerating:
    """A strategy that follows a list of choices, then always takes the first, and notes how many there were."""

    def __init__(self, prefix: list[int], split: bool) -> None:
        self.prefix = prefix
        self.taken: list[tuple[int, int]] = []
        self.split = split
        self.ready: list[Action] = []

    def add(self, action: Action, order: int) -> None:
        self.ready.append(action)

    def take(self) -> Action:
        at = len(self.taken)
        choice = self.prefix[at] if at < len(self.prefix) else 0
        self.taken.append((choice, len(self.ready)))
        return self.ready.pop(choice)

    def splits(self, flush: Action) -> bool:
        return self.split

    def nested(self, count: int) -> _Enumerating:
        raise AssertionError("bodies are not enumerated")


def every_outcome(
    graph: Graph, inputs: Mapping[str, Any], output: str, *, h6: bool = False, split: bool = False
) -> set[tuple[int, ...]]:
    """The values of an output under every schedule of a small graph."""
    memory = Memory(graph, {})
    bound = bind_graph(graph, memory)
    found: set[tuple[int, ...]] = set()

    def run(prefix: list[int]) -> list[tuple[int, int]]:
        strategy = _Enumerating(prefix, split)
        memory.set_inputs(inputs)
        memory.poison()
        memory.reset()

        def note() -> None:
            found.add(tuple(memory.outputs()[output].tolist()))

        Machine(bound, strategy, lambda action: None, h6=h6, loop_limit=10, on_end=note).run()
        return strategy.taken

    for _ in _depth_first(run):
        pass
    return found


def _depth_first(run: Any) -> Iterator[None]:
    prefix: list[int] | None = []
    while prefix is not None:
        taken = run(prefix)
        yield
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        prefix = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


def message_of(action: Any) -> str:
    """The message of the error that a call raises."""
    try:
        action()
    except ForerunError as error:
        return str(error)
    raise AssertionError("nothing was raised")


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def builder(name: str = "g") -> GraphBuilder:
    return GraphBuilder(name)

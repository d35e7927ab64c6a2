"""Paths through a kernel's instructions: what may run before what. Where a branch is unknown, all paths are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from forerun.runtime.toolchain.instruction import Instruction
from forerun.support.cfg import FlowGraph, reach

__all__ = ["after", "before", "flow_graph", "reachable"]

# A return goes to where a call is followed, and from a call one goes there anyway.
_ENDS = frozenset({"EXIT", "RET", "KILL"})
_COMPUTED = frozenset({"BRX", "BRXU", "JMX", "JMXU"})
_JUMPS = frozenset({"BRA", "JMP"})
# They name the place where threads meet again; control goes on behind them.
_NAME_A_MEETING_POINT = frozenset({"BSSY", "BMOV"})


def flow_graph(steps: Sequence[Instruction]) -> FlowGraph:
    """The control flow of a kernel, an instruction a node, by their indices in the order of their offsets."""
    place = {step.offset: index for index, step in enumerate(steps)}
    ways = [dict.fromkeys(_successors(index, step, place)) for index, step in enumerate(steps)]
    last = len(steps)
    leaves = (index for index, step in enumerate(steps) if last in ways[index] or _name(step) in _ENDS)
    return FlowGraph(tuple(tuple(index for index in way if index < last) for way in ways), frozenset(leaves))


def before(steps: Sequence[Instruction], stops: Callable[[Instruction], bool]) -> frozenset[int]:
    """The indices of what a thread may execute without having executed a stop; stops are not among them.

    A predicated stop stops nobody, because some threads may pass it.
    """
    successors = flow_graph(steps).successors
    stop = {index for index, step in enumerate(steps) if stops(step)}
    end = {index for index in stop if not steps[index].predicated}
    return frozenset(reach(range(min(len(steps), 1)), lambda i: () if i in end else successors[i]) - stop)


def after(steps: Sequence[Instruction], marks: Callable[[Instruction], bool]) -> frozenset[int]:
    """The indices of what a thread may execute once it has executed a mark."""
    graph = flow_graph(steps)
    begins = (next_ for index in graph.order if marks(steps[index]) for next_ in graph.successors[index])
    return frozenset(reach(begins, graph.successors.__getitem__))


def reachable(steps: Sequence[Instruction]) -> frozenset[int]:
    """The indices of what a thread may execute at all."""
    return frozenset(flow_graph(steps).order)


def _name(step: Instruction) -> str:
    return step.opcode.partition(".")[0]


def _successors(index: int, step: Instruction, place: Mapping[int, int]) -> Iterator[int]:
    name = _name(step)
    targets = [place[target] for target in step.targets if target in place]
    if name in _COMPUTED:
        yield from targets or place.values()
    elif name not in _ENDS and name not in _NAME_A_MEETING_POINT:
        yield from targets
    if step.predicated or not _never_goes_on(name, step):
        yield index + 1


def _never_goes_on(name: str, step: Instruction) -> bool:
    """Whether an instruction that is executed is never followed by the next one."""
    if name in _JUMPS:  # some have a condition among their operands: BRA.U UP0, label
        return bool(step.targets) and "," not in step.text
    return name in _ENDS or name in _COMPUTED

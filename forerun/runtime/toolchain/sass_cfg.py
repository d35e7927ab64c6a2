"""Paths through a kernel's instructions: what may run before what. Where a branch is unknown, all paths are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from forerun.support.cfg import reach

__all__ = ["Step", "after", "before", "reachable"]

# A return goes to where a call is followed, and from a call one goes there anyway.
_ENDS = frozenset({"EXIT", "RET", "KILL"})
_COMPUTED = frozenset({"BRX", "BRXU", "JMX", "JMXU"})
_JUMPS = frozenset({"BRA", "JMP"})
# They name the place where threads meet again; control goes on behind them.
_NAME_A_MEETING_POINT = frozenset({"BSSY", "BMOV"})


class Step(Protocol):
    """What must be known of an instruction."""

    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def opcode(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def targets(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def predicated(self) -> bool: ...  # noqa: D102


def before(steps: Sequence[Step], stops: Callable[[Step], bool]) -> frozenset[int]:
    """The indices of what a thread may execute without having executed a stop; stops are not among them.

    A predicated stop stops nobody, because some threads may pass it.

    Args:
        steps: A kernel's instructions in the order of their offsets.
        stops: Whether an instruction is one.
    """
    return frozenset(index for index in _walk(steps, stops) if not stops(steps[index]))


def after(steps: Sequence[Step], marks: Callable[[Step], bool]) -> frozenset[int]:
    """The indices of what a thread may execute once it has executed a mark.

    Args:
        steps: A kernel's instructions in the order of their offsets.
        marks: Whether an instruction is one.
    """
    place = _places(steps)
    found = [index for index in reachable(steps) if marks(steps[index])]
    begins = [next_ for index in found for next_ in _successors(index, steps[index], place)]
    return frozenset(_walk(steps, lambda step: False, begins))


def reachable(steps: Sequence[Step]) -> frozenset[int]:
    """The indices of what a thread may execute at all."""
    return frozenset(_walk(steps, lambda step: False))


def _places(steps: Sequence[Step]) -> dict[int, int]:
    return {step.offset: index for index, step in enumerate(steps)}


def _walk(steps: Sequence[Step], stops: Callable[[Step], bool], begins: Sequence[int] = (0,)) -> set[int]:
    place = _places(steps)

    def following(index: int) -> Iterable[int]:
        if index >= len(steps) or (stops(steps[index]) and not steps[index].predicated):
            return ()
        return _successors(index, steps[index], place)

    return reach(begins, following) - {len(steps)}


def _successors(index: int, step: Step, place: Mapping[int, int]) -> Iterator[int]:
    name = step.opcode.partition(".")[0]
    targets = [place[target] for target in step.targets if target in place]
    if name in _COMPUTED:
        yield from targets or place.values()
    elif name not in _ENDS and name not in _NAME_A_MEETING_POINT:
        yield from targets
    if step.predicated or not _never_goes_on(name, step):
        yield index + 1


def _never_goes_on(name: str, step: Step) -> bool:
    """Whether an instruction that is executed is never followed by the next one."""
    if name in _JUMPS:  # some have a condition among their operands: BRA.U UP0, label
        return bool(step.targets) and "," not in step.text
    return name in _ENDS or name in _COMPUTED

"""What registers hold when control first comes to an instruction, as instructions that can be executed earlier."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.opcodes import COMPUTING, uses, writes
from forerun.ptx.operands import Immediate, Register
from forerun.support.cfg import Loop

__all__ = ["Slicer", "trip_count"]

_OF_OTHER_LANES = frozenset({"activemask", "elect", "match", "mma", "movmatrix", "redux", "shfl", "vote", "wmma"})
"""They compute with registers of other threads, which must be there at the same time."""

_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    **dict.fromkeys(("lt", "lo"), operator.lt),
    **dict.fromkeys(("le", "ls"), operator.le),
    **dict.fromkeys(("gt", "hi"), operator.gt),
    **dict.fromkeys(("ge", "hs"), operator.ge),
    "ne": operator.ne,
    "eq": operator.eq,
}
_MOST_TURNS = 4096


@dataclass(frozen=True)
class Slicer:
    """Finds slices of a function.

    Attributes:
        flow: Its control flow.
        definitions: The instructions that write each register, by its name without the component.
    """

    flow: ControlFlow
    definitions: dict[str, list[int]]

    @classmethod
    def of(cls, flow: ControlFlow) -> Slicer:
        """The slicer of a function."""
        found: dict[str, list[int]] = {}
        for index in sorted(flow.reached):
            for register in writes(flow.instructions[index]):
                found.setdefault(_stem(register), []).append(index)
        return cls(flow, found)

    def first(self, registers: Iterable[Register], at: int) -> tuple[int, ...] | None:
        """What gives registers the values that they have when a thread comes to an instruction for the first time.

        Args:
            registers: Special registers count as constants.
            at: The instruction.

        Returns:
            Instructions, in their order, that depend on nothing but parameters and special registers; ``None`` if
            there are no such: a value is loaded, comes from other threads, or depends on the way to the instruction.
        """
        found: set[int] = set()
        waiting = [(register, at) for register in registers]
        while waiting:
            register, use = waiting.pop()
            definition = self.definition(register, use)
            if definition is None:
                if self.is_declared(register):
                    return None
                continue
            if definition in found:
                continue
            one = self.flow.instructions[definition]
            if not self._can_be_executed_earlier(definition):
                return None
            found.add(definition)
            waiting += [(needed, definition) for needed in uses(one)]
        return tuple(sorted(found))

    def is_declared(self, register: Register) -> bool:
        """Whether it is a register of the function, and not a special one."""
        return bool(self.flow.types.get(_stem(register)))

    def _can_be_executed_earlier(self, index: int) -> bool:
        one = self.flow.instructions[index]
        if one.guard is not None:
            return False
        if one.opcode.startswith("ld.param"):
            return True
        return one.base in COMPUTING and one.base not in _OF_OTHER_LANES

    def definition(self, register: Register, use: int) -> int | None:
        """The last definition on every way to the first arrival at a use; ``None`` if there is not one alone."""
        defined = self.definitions.get(_stem(register), [])
        before = [index for index in defined if index != use and self.flow.dominates(index, use)]
        if not before:
            return None
        last = max(before, key=lambda index: sum(self.flow.dominates(other, index) for other in before))
        others = (index for index in defined if index not in before)
        # What only comes after the use has no effect on the first arrival.
        return last if all(self.flow.dominates(use, index) for index in others) else None


def trip_count(slicer: Slicer, loop: Loop) -> int | None:
    """How often the body of a loop is executed if it is entered; ``None`` if that is not a constant of the text.

    For loops with one way out, at their end, that count a register up or down from one constant to another.
    """
    flow = slicer.flow
    if len(loop.latches) != 1:
        return None
    leaving = [n for n in loop.nodes if any(after not in loop.nodes for after in flow.graph.successors[n])]
    branch = flow.branch_of(loop.latches[0])
    if leaving != [loop.latches[0]] or branch.base != "bra" or branch.guard is None:
        return None
    at = flow.blocks[loop.latches[0]][-1]
    inside = range(flow.blocks[loop.header].start, at)
    compared = [i for i in slicer.definitions.get(branch.guard.register.name, []) if i in inside]
    if len(compared) != 1 or flow.instructions[compared[0]].base != "setp":
        return None
    one = flow.instructions[compared[0]]
    match one.parts, one.operands:
        case ("setp", relation, kind), (_, Register() as counter, Immediate() as bound) if (
            relation in _COMPARE and kind[1:].isdigit() and kind[0] in "su"
        ):
            pass
        case _:
            return None
    start, step = _counted(slicer, counter, loop, compared[0])
    if start is None or step is None or not isinstance(bound.value, int):
        return None
    bits, holds = int(kind[1:]), _COMPARE[relation]
    for turn in range(1, _MOST_TURNS + 1):
        goes_on = holds(_as(start + turn * step, bits, kind[0]), _as(bound.value, bits, kind[0]))
        if goes_on == branch.guard.negated:
            return turn
    return None


def _counted(slicer: Slicer, counter: Register, loop: Loop, use: int) -> tuple[int | None, int | None]:
    """The constant that a register begins with, and what each turn adds before the use."""
    flow = slicer.flow
    start = step = None
    for index in slicer.definitions.get(counter.name, []):
        one = flow.instructions[index]
        is_inside = flow.block_of[index] in loop.nodes
        match one.base, one.operands:
            case "mov", (_, Immediate() as value) if not is_inside and start is None and one.guard is None:
                start = value.value
            case "add", (_, Register() as own, Immediate() as value) if (
                is_inside and step is None and own == counter and one.guard is None and flow.dominates(index, use)
            ):
                step = value.value
            case _:
                return None, None
    whole = isinstance(start, int) and isinstance(step, int)
    return (start, step) if whole else (None, None)  # type: ignore[return-value]


def _as(number: int, bits: int, kind: str) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if kind == "s" and number >> (bits - 1) else number


def _stem(register: Register) -> str:
    return register.name.partition(".")[0]

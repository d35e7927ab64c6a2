"""What registers hold when control first comes to an instruction, as instructions that can be executed earlier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.opcodes import COMPUTING, uses, writes
from forerun.ptx.operands import Register
from forerun.support.cfg import reach

__all__ = ["Slicer"]

_OF_OTHER_LANES = frozenset({"activemask", "elect", "match", "mma", "movmatrix", "redux", "shfl", "vote", "wmma"})
"""They compute with registers of other threads, which must be there at the same time."""

_OF_THE_CARRY = frozenset({"addc", "madc", "subc"})
"""They read the carry flag, which the instruction before has left."""

_CHANGING = ("%clock", "%globaltimer", "%pm", "%smid", "%warpid")
"""Special registers that may hold something else later (PTX ISA, "Special Registers")."""


@dataclass(frozen=True)
class Slicer:
    """Finds slices of a function.

    Attributes:
        flow: Its control flow.
        definitions: The instructions that write each register, by its name without the component.
    """

    flow: ControlFlow
    definitions: dict[str, list[int]]
    _again: dict[tuple[int, int], bool] = field(default_factory=dict, compare=False, repr=False)

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
            registers: Special registers count as constants, but for clocks and counters, and where a thread runs.
            at: The instruction.

        Returns:
            Instructions, in their order, that depend on nothing but parameters and special registers; ``None`` if
            there are no such: a value is loaded, comes from other threads or a clock, or depends on the way to the
            instruction, of which the turns of a loop are a part.
        """
        found: set[int] = set()
        waiting = [(register, at) for register in registers]
        while waiting:
            register, use = waiting.pop()
            definition = self.definition(register, use)
            if definition is None:
                if self.is_declared(register) or register.name.startswith(_CHANGING):
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
        return one.base in COMPUTING and one.base not in _OF_OTHER_LANES | _OF_THE_CARRY

    def definition(self, register: Register, use: int) -> int | None:
        """The last definition on every way to the first arrival at a use; ``None`` if there is not one alone."""
        defined = self.definitions.get(_stem(register), [])
        before = [index for index in defined if index != use and self.flow.dominates(index, use)]
        if not before:
            return None
        last = max(before, key=lambda index: sum(self.flow.dominates(other, index) for other in before))
        others = (index for index in defined if index not in before)
        # What only comes after the use has no effect on the first arrival.
        is_alone = all(self.flow.dominates(use, index) for index in others)
        return last if is_alone and not self._may_come_again(last, use) else None

    def _may_come_again(self, index: int, use: int) -> bool:
        """Whether an instruction may be executed several times before the first arrival at a use that it dominates."""
        own, other = self.flow.block_of[index], self.flow.block_of[use]
        if own != other and (own, other) not in self._again:
            after = self.flow.graph.successors
            self._again[own, other] = own in reach(after[own], lambda block: () if block == other else after[block])
        return own != other and self._again[own, other]


def _stem(register: Register) -> str:
    return register.name.partition(".")[0]

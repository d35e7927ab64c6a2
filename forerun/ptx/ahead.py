"""Loads that are issued earlier than they were written: at the front of a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from forerun.ptx.accesses import Access
from forerun.ptx.cfg import ControlFlow, may_follow
from forerun.ptx.opcodes import type_bits, uses, writes
from forerun.ptx.operands import Immediate, Register, with_registers
from forerun.ptx.slices import Slicer
from forerun.ptx.syntax import Declaration, Declarator, Guard, Instruction, Statement
from forerun.support.cfg import Loop

__all__ = ["Ahead", "move_loads", "statements"]

_ORDERED = frozenset({"volatile", "relaxed", "acquire", "mmio", "cv"})
"""Loads that may wait for what others write, or must see it."""


@dataclass
class Ahead:
    """What is executed at the front of a kernel, and what takes the place of moved loads.

    Attributes:
        slicer: Of the kernel.
        stem: With which names of its own begin, and none of the kernel's.
        declarations: Registers of its own.
        front: Instructions for the front, each after those that it depends on.
        instead: For instructions of the kernel, by number, what stands in their place.
        ends: For loops, by the number of their last instruction, what stands before it.
        moved: How many loads moved, or are prefetched.
    """

    slicer: Slicer
    stem: str = "ahead"
    declarations: list[Declaration] = field(default_factory=list)
    front: list[Instruction] = field(default_factory=list)
    instead: dict[int, list[Statement]] = field(default_factory=dict)
    ends: dict[int, list[Statement]] = field(default_factory=dict)
    moved: int = 0
    _copies: dict[tuple[int, str], Register] = field(default_factory=dict)
    _first: dict[int, Register] = field(default_factory=dict)

    def new(self, type_: str) -> Register:
        """A register that is not used elsewhere."""
        register = Register(f"%{self.stem}{len(self.declarations)}")
        self.declarations.append(Declaration(".reg", (type_,), (Declarator(register.name),)))
        return register

    def can_have(self, registers: Iterable[Register], use: int) -> bool:
        """Whether registers can have at the front what they hold at the first arrival at a use."""
        return self.slicer.first(registers, use) is not None

    def register(self, register: Register, use: int) -> Register:
        """Where the front has what a register holds at the first arrival at a use; special registers stay."""
        if not self.slicer.is_declared(register):
            return register
        definition = self.slicer.definition(register, use)
        assert definition is not None, "can_have() was asked"
        if (definition, register.name) not in self._copies:
            self._copy(definition)
        return self._copies[definition, register.name]

    def _copy(self, index: int) -> None:
        one = self.slicer.flow.instructions[index]
        read = {register: self.register(register, index) for register in uses(one)}
        made = {register: self.new(self.slicer.flow.types[register.name]) for register in writes(one)}
        self._copies |= {(index, register.name): copy for register, copy in made.items()}
        first, *rest = one.operands
        operands = [with_registers(first, lambda own: made.get(own, own))]
        operands += [with_registers(operand, lambda own: read.get(own, own)) for operand in rest]
        self.front.append(Instruction(one.opcode, tuple(operands)))

    def first_turn(self, loop: Loop) -> Register:
        """A predicate that holds in the first turn of a loop only."""
        if loop.header not in self._first:
            flow = self.slicer.flow
            predicate = self.new(".pred")
            self._first[loop.header] = predicate
            self.front.append(Instruction("setp.eq.u32", (predicate, Immediate("0"), Immediate("0"))))
            last = flow.blocks[loop.latches[0]][-1]
            self.ends.setdefault(last, []).append(
                Instruction("setp.ne.u32", (predicate, Immediate("0"), Immediate("0")))
            )
        return self._first[loop.header]


def move_loads(ahead: Ahead, accesses: Sequence[Access], most: int | None = None, *, prefetch: bool = False) -> None:
    """Move loads to the front, as far as every thread executes them for certain, and their addresses are known there.

    Of a load in a loop the first turn moves. Where loads stay, and are only prefetched into the L2 cache, they need no
    registers from there on.

    Args:
        ahead: Of the kernel; it takes what moves.
        accesses: Loads of what nothing that may still run writes.
        most: How many move at the most: the first ones; ``None`` is all that can.
        prefetch: Whether they are prefetched, and stay where they are.
    """
    slicer = ahead.slicer
    certain = _certain(slicer.flow)
    calls = [index for index in slicer.flow.reached if slicer.flow.instructions[index].base == "call"]
    for access in accesses:
        one = slicer.flow.instructions[access.index]
        block = slicer.flow.block_of[access.index]
        loops = [loop for loop in slicer.flow.graph.loops if block in loop.nodes]
        is_simple = one.base == "ld" and not _ORDERED & set(one.parts) and access.kind == "read"
        is_plain = not any("@" in register.name for register in (*writes(one), *uses(one)))
        # What is called may end the thread.
        is_certain = block in certain and not may_follow(slicer.flow, calls, [access.index])
        can_move = is_simple and is_plain and is_certain and ahead.can_have(uses(one), access.index)
        if most is not None and ahead.moved >= most:
            break
        if can_move and prefetch and access.space == "global":
            _prefetch(ahead, access.index, one)
        elif can_move and not prefetch and all(len(loop.latches) == 1 for loop in loops) and len(loops) <= 1:
            _move(ahead, access.index, one, loops)


def _prefetch(ahead: Ahead, index: int, one: Instruction) -> None:
    at_front = partial(ahead.register, use=index)
    guard = None if one.guard is None else replace(one.guard, register=at_front(one.guard.register))
    ahead.front.append(Instruction("prefetch.global.L2", (with_registers(one.operands[1], at_front),), guard))
    ahead.moved += 1


def _certain(flow: ControlFlow) -> frozenset[int]:
    """The blocks that every thread comes to."""
    found: list[int] = []
    block: int | None = 0
    while block is not None:
        found.append(block)
        block = flow.graph.immediate_post_dominators[block]
    return frozenset(found)


def _move(ahead: Ahead, index: int, one: Instruction, loops: Sequence[Loop]) -> None:
    """Load at the front; where the load was, its registers get what was loaded."""
    flow = ahead.slicer.flow
    at_front = partial(ahead.register, use=index)
    guard = None if one.guard is None else replace(one.guard, register=at_front(one.guard.register))
    results = {register: ahead.new(flow.types[register.name]) for register in writes(one)}
    first, *rest = one.operands
    operands = [with_registers(first, lambda own: results.get(own, own)), *(with_registers(o, at_front) for o in rest)]
    opcode = ".".join(part for part in one.parts if part != "nc")
    if guard is not None:
        # What is not loaded must hold something, or ptxas may take it for anything.
        ahead.front += [_zero(copy, flow.types[own.name]) for own, copy in results.items()]
    ahead.front.append(Instruction(opcode, tuple(operands), guard))
    ahead.moved += 1
    moves: list[Statement] = []
    load: list[Statement] = []
    within = one.guard
    if loops:
        within, later = _turns(ahead, loops[0], one.guard, moves)
        load = [replace(one, guard=later, opcode=opcode)]
    for own, copy in results.items():
        moves.append(Instruction(f"mov.b{_bits(flow.types[own.name])}", (own, copy), within))
    ahead.instead[index] = [*moves, *load]


def _turns(ahead: Ahead, loop: Loop, guard: Guard | None, before: list[Statement]) -> tuple[Guard, Guard]:
    """Guards for the first turn of a loop, and for all others, both under the guard that was there."""
    is_first = ahead.first_turn(loop)
    if guard is None:
        return Guard(is_first), Guard(is_first, negated=True)
    own = guard.register
    if guard.negated:
        own = ahead.new(".pred")
        before.append(Instruction("not.pred", (own, guard.register)))
    other, now, later = (ahead.new(".pred") for _ in range(3))
    before += [
        Instruction("not.pred", (other, is_first)),
        Instruction("and.pred", (now, own, is_first)),
        Instruction("and.pred", (later, own, other)),
    ]
    return Guard(now), Guard(later)


def _zero(register: Register, type_: str) -> Instruction:
    return Instruction(f"mov.b{_bits(type_)}", (register, Immediate("0")))


def _bits(type_: str) -> int:
    return type_bits(type_.removeprefix("."))


def statements(ahead: Ahead, flow: ControlFlow, body: Sequence[Statement]) -> Iterator[Statement]:
    """The body with what takes the place of moved loads."""
    number = {position: index for index, position in enumerate(flow.positions)}
    for position, one in enumerate(body):
        index = number.get(position, -1)
        yield from ahead.ends.get(index, ())
        yield from ahead.instead.get(index, (one,))

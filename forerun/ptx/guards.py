"""What guards and branches say of numbers: linear inequalities that hold where an instruction is executed.

A predicate counts if its definition dominates its use and is the only one, or stands before it in the same block. Then
no value that both the comparison and the use refer to has changed in between: what dominates the comparison would have
to be executed again, and the comparison with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from forerun.ptx.cfg import ENDS, ControlFlow
from forerun.ptx.opcodes import writes
from forerun.ptx.operands import Register
from forerun.ptx.syntax import Instruction
from forerun.ptx.values import Term, Value

__all__ = ["Comparison", "Guards", "Linear", "always", "below", "inequalities", "relation_of", "stays_in"]

_MOST = 32
"""How many comparisons are kept for a place: the nearest."""

_OPPOSITE = {"lt": "ge", "ge": "lt", "le": "gt", "gt": "le", "eq": "ne", "ne": "eq"}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


@dataclass(frozen=True)
class Linear:
    """A sum of whole numbers, not modulo anything."""

    terms: Mapping[Term, int]
    constant: int

    @classmethod
    def of(cls, value: Value) -> Linear:
        """A value's sum with its signs, to which the value is congruent."""
        return cls({term: value.signed(factor) for term, factor in value.terms}, value.signed(value.constant))

    def plus(self, other: Linear, times: int = 1) -> Linear:
        """The sum with a multiple of another."""
        terms = dict(self.terms)
        for term, factor in other.terms.items():
            terms[term] = terms.get(term, 0) + times * factor
        return Linear({t: f for t, f in terms.items() if f}, self.constant + times * other.constant)

    def without(self, term: Term) -> tuple[int, Linear]:
        """The coefficient of a term, and the rest."""
        rest = {own: factor for own, factor in self.terms.items() if own is not term}
        return self.terms.get(term, 0), Linear(rest, self.constant)

    @property
    def low(self) -> int:
        """What it is at least."""
        return self.constant + sum(factor * term.high for term, factor in self.terms.items() if factor < 0)

    @property
    def high(self) -> int:
        """What it is at most."""
        return self.constant + sum(factor * term.high for term, factor in self.terms.items() if factor > 0)

    def highest(self, known: Iterable[Linear]) -> int:
        """What it is at most where some other sums are 0 or less."""
        found, best, rest = self, self.high, list(known)
        while True:
            # Where L <= 0, this is at most itself minus a positive multiple of L.
            less = [(found.plus(one, -times), one) for one in rest for times in _multiples(found, one)]
            least = min(less, key=lambda pair: pair[0].high, default=None)
            if least is None or least[0].high >= best:
                return best
            found, best = least[0], least[0].high
            rest.remove(least[1])

    def lowest(self, known: Iterable[Linear]) -> int:
        """What it is at least where some other sums are 0 or less."""
        return -Linear({}, 0).plus(self, -1).highest(known)


def _multiples(one: Linear, other: Linear) -> set[int]:
    """Multiples of another sum that cancel a term."""
    shared = ((one.terms[term], factor) for term, factor in other.terms.items() if term in one.terms)
    return {own // factor for own, factor in shared if own % factor == 0 and own // factor > 0}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison that holds, or does not.

    Attributes:
        setp: The index of the instruction.
        holds: Which of the two.
    """

    setp: int
    holds: bool


class Guards:
    """Finds the comparisons that decide whether an instruction is executed.

    Args:
        flow: The control flow of a kernel.
    """

    def __init__(self, flow: ControlFlow) -> None:
        self._flow = flow
        self._written: dict[str, list[int]] = {}
        for index in sorted(flow.reached):
            for register in writes(flow.instructions[index]):
                self._written.setdefault(register.name, []).append(index)
        self._known: dict[int, tuple[Comparison, ...]] = {}

    def instruction(self, index: int) -> Instruction:
        """An instruction of the kernel."""
        return self._flow.instructions[index]

    def of(self, index: int) -> tuple[Comparison, ...]:
        """What holds whenever an instruction is executed."""
        guard = self._flow.instructions[index].guard
        own = () if guard is None else tuple(self.of_predicate(guard.register, not guard.negated, index))
        return (*own, *self.of_block(self._flow.block_of[index]))[:_MOST]

    def of_predicate(self, register: Register, holds: bool, use: int) -> Iterator[Comparison]:
        """What follows from a predicate being true, or false, where it is used."""
        waiting = [(register, holds, use)]
        while waiting:
            register, holds, use = waiting.pop()
            index = self.definition(register, use)
            if index is None:
                continue
            one = self._flow.instructions[index]
            read = [operand for operand in one.operands[1:] if isinstance(operand, Register)]
            match one.base:
                case "setp":
                    yield Comparison(index, holds)
                case "mov":
                    waiting += [(operand, holds, index) for operand in read]
                case "not":
                    waiting += [(operand, not holds, index) for operand in read]
                case "and" if holds:
                    waiting += [(operand, True, index) for operand in read]
                case "or" if not holds:
                    waiting += [(operand, False, index) for operand in read]

    def definition(self, register: Register, use: int) -> int | None:
        """The instruction that gave a predicate the value that it has at a use."""
        flow = self._flow
        begin = flow.blocks[flow.block_of[use]].start
        written = self._written.get(register.name, [])
        index = max((at for at in written if begin <= at < use), default=written[0] if len(written) == 1 else None)
        if index is None or index == use or not flow.dominates(index, use):
            return None
        one = flow.instructions[index]
        return index if one.guard is None and one.operands[0] == register else None

    def of_block(self, block: int) -> tuple[Comparison, ...]:
        """What holds whenever control comes to a block, by the branches on the way there."""
        above: list[int] = []
        at: int | None = block
        while at is not None and at not in self._known:
            above.append(at)
            at = self._flow.graph.immediate_dominators[at]
        found = () if at is None else self._known[at]
        for one in reversed(above):
            found = self._known[one] = (*self._of_edge(one), *found)[:_MOST]
        return found

    def _of_edge(self, block: int) -> Iterator[Comparison]:
        """What a branch says, if it is the only way to a block."""
        before = self._flow.graph.predecessors[block]
        if len(before) != 1 or block == 0:
            return
        holds = self.taken(before[0], block)
        last = self._flow.branch_of(before[0])
        if holds is not None and last.guard is not None:
            yield from self.of_predicate(last.guard.register, holds, self._flow.blocks[before[0]][-1])

    def taken(self, block: int, after: int) -> bool | None:
        """Whether a block's last predicate is true if control goes on to a certain block; ``None`` if that is open."""
        last, successors = self._flow.branch_of(block), self._flow.graph.successors[block]
        if last.guard is None or after not in successors:
            return None
        if last.base in ENDS:
            return last.guard.negated
        if last.base != "bra" or len(successors) != 2:
            return None
        return (successors[0] == after) != last.guard.negated


def relation_of(one: Instruction, holds: bool) -> str:
    """The relation that a ``setp`` says to be so; empty if it is not known."""
    relation = _UNSIGNED.get(one.parts[1], one.parts[1])
    return relation if holds else _OPPOSITE.get(relation, "")


def below(one: Instruction, holds: bool, left: Linear, right: Linear) -> tuple[Linear, ...]:
    """What a comparison of two sums says, as sums that are 0 or less."""
    less, more, step = left.plus(right, -1), right.plus(left, -1), Linear({}, 1)
    match relation_of(one, holds):
        case "lt":
            return (less.plus(step),)
        case "le":
            return (less,)
        case "gt":
            return (more.plus(step),)
        case "ge":
            return (more,)
        case "eq":
            return less, more
        case "ne" if less.low == 0:
            return (more.plus(step),)
        case "ne" if less.high == 0:
            return (less.plus(step),)
    return ()


def inequalities(one: Instruction, holds: bool, left: Value, right: Value) -> tuple[Linear, ...]:
    """What a comparison says, as sums that are 0 or less; nothing if what it compares may have overflowed."""
    first, second = Linear.of(left), Linear.of(right)
    if not all(stays_in(one, left.bits, side.low, side.high) for side in (first, second)):
        return ()
    return below(one, holds, first, second)


def always(one: Instruction, left: Value, right: Value) -> bool | None:
    """Whether a comparison holds for all values of its terms; ``None`` if it depends on them, as far as is seen."""
    for holds in (True, False):
        # It holds if what its opposite says of the two cannot be.
        said = inequalities(one, not holds, left, right)
        if any(each.low > 0 for each in said):
            return holds
    return None


def stays_in(one: Instruction, bits: int, low: int, high: int) -> bool:
    """Whether numbers between two are what an instruction of some bits takes them for."""
    least = -(1 << (bits - 1)) if one.parts[-1][0] == "s" else 0
    return least <= low and high < least + (1 << bits)

"""Where addresses come from: the value of every address of a function, down to parameters, and what it points into.

One walk over the blocks, in an order in which all that dominates a block comes before it. Registers that are written
once have one value; the others have one at each place, with a term (``phi``) where paths that leave different values
meet, and at the head of each loop that writes them. Loops that are entered in several places are not analysed: all is
unknown then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.evaluate import Evaluator
from forerun.ptx.opcodes import type_bits, writes
from forerun.ptx.operands import Address, Immediate, Operand, Register, Sum, Symbol, Vector, registers_of
from forerun.ptx.syntax import Declaration, Function, Instruction
from forerun.ptx.values import Term, Terms, Value
from forerun.support.cfg import Loop

__all__ = ["Provenance", "provenance"]

# Greatest values (CUDA C++ Programming Guide, "Compute Capabilities"); all others change, or are not known.
_SPECIAL = {
    **{f"%tid.{axis}": limit for axis, limit in zip("xyz", (1023, 1023, 63), strict=True)},
    **{f"%ntid.{axis}": limit for axis, limit in zip("xyz", (1024, 1024, 64), strict=True)},
    **{f"%ctaid.{axis}": limit for axis, limit in zip("xyz", (2**31 - 2, 65534, 65534), strict=True)},
    **{f"%nctaid.{axis}": limit for axis, limit in zip("xyz", (2**31 - 1, 65535, 65535), strict=True)},
    **{f"%{name}.{axis}": 2**31 - 1 for name in ("cluster_ctaid", "clusterid", "nclusterid") for axis in "xyz"},
    "%cluster_ctarank": 2**31 - 1,
    "%laneid": 31,
}


_MOST_TERMS = 64
"""Longer sums count as results that are not known, so that time stays in proportion to the text."""


@dataclass(frozen=True)
class Provenance:
    """The values of addresses.

    Attributes:
        addresses: The value of the address in each operand that is one, by the index of the instruction and the number
            of the operand, as far as they are known.
        terms: All terms, operands before what is made of them.
        pointers: Terms that are certainly pointers.
        incoming: For each ``phi``, the values that paths bring to it; ``None`` stands for one that is not known.
        turns: For each ``phi`` that grows by the same in each turn of a loop, what it is then; and for each operation
            on such.
        comparisons: What each ``setp`` of whole numbers compares, by its index, as far as that is known.
    """

    addresses: Mapping[tuple[int, int], Value]
    terms: tuple[Term, ...]
    pointers: frozenset[Term]
    incoming: Mapping[Term, tuple[Value | None, ...]]
    turns: Mapping[Term, Value]
    comparisons: Mapping[int, tuple[Value, Value]]

    def expanded(self, value: Value) -> Value:
        """The value with numbers of turns for what grows in loops."""
        return _replaced(value, self.turns)


def provenance(function: Function, flow: ControlFlow) -> Provenance:
    """Where the addresses of a function come from.

    Args:
        function: A kernel. The parameters of a device function are not known.
        flow: Its control flow.
    """
    if not flow.graph.is_reducible:
        return Provenance({}, (), frozenset(), {}, {}, {})
    walk = _Walk(function, flow)
    walk.run()
    made = walk.terms.made
    pointers, turns = frozenset(walk.pointers), _turns(walk)
    return Provenance(walk.addresses, made, pointers, walk.incoming, turns, walk.comparisons)


Known = dict[str, Value | None]


class _Walk:
    """The walk, and what it has found."""

    def __init__(self, function: Function, flow: ControlFlow) -> None:
        self.flow = flow
        self.terms = Terms()
        self.pointers: set[Term] = set()
        # A parameter of a call may hide one of the entry.
        hidden = {n.name for one in function.body or () if isinstance(one, Declaration) for n in one.names}
        parameters = [one for one in function.parameters or () if function.is_entry and one.name not in hidden]
        self.evaluator = Evaluator(self.terms, {one.name: one.bytes for one in parameters}, self.pointers)
        self.special = _limits(function)
        self.bits = {name: _bits(type_) for name, type_ in flow.types.items()}
        self.definition, self.several = _definitions(flow)
        self.once: Known = {}
        self.known: Known = {}
        self.left: dict[int, Known] = {}
        self.addresses: dict[tuple[int, int], Value] = {}
        self.incoming: dict[Term, tuple[Value | None, ...]] = {}
        self.phis: dict[Term, tuple[int, str]] = {}
        self.comparisons: dict[int, tuple[Value, Value]] = {}
        for one in parameters:
            if one.is_pointer and one.bytes == 8:
                self.pointers.add(self.terms.term("param", one.name, 64))

    def run(self) -> None:
        """Look at every instruction that is reached, once."""
        written = self._written_in_loops()
        for block in self.flow.graph.order:
            self.known = self._entered(block, written.get(block, frozenset()))
            for index in self.flow.blocks[block]:
                self._step(index, self.flow.instructions[index])
            self.left[block] = self.known
        for phi, (block, register) in self.phis.items():
            before = [self.left[b] for b in self.flow.graph.predecessors[block] if b in self.left]
            entered = [None] if block == 0 else []
            self.incoming[phi] = (*entered, *(known.get(register) for known in before))

    def _written_in_loops(self) -> Mapping[int, frozenset[str]]:
        found = {}
        for loop in self.flow.graph.loops:
            indices = (index for block in loop.nodes for index in self.flow.blocks[block])
            names = {_stem(r.name) for index in indices for r in writes(self.flow.instructions[index])}
            found[loop.header] = frozenset(names & self.several)
        return found

    def _entered(self, block: int, in_loop: frozenset[str]) -> Known:
        """What registers that are written in several places hold when control enters a block."""
        before = [self.left[b] for b in self.flow.graph.predecessors[block] if b in self.left]
        if not before:
            return {}
        found = dict(before[0])
        for name in {name for known in before for name in known} | in_loop:
            values = [known.get(name) for known in before]
            if name in in_loop or any(value != values[0] for value in values) or block == 0:
                found[name] = self._phi(block, name)
        return found

    def _phi(self, block: int, register: str) -> Value | None:
        bits = self.bits.get(register, 0)
        if not bits:
            return None
        phi = self.terms.term("phi", f"{block}:{register}", bits)
        self.phis[phi] = (block, register)
        return Value(bits, ((phi, 1),))

    def _step(self, index: int, one: Instruction) -> None:
        for number, operand in enumerate(one.operands):
            if isinstance(operand, Address):
                value = self._address(operand, index)
                if value is not None:
                    self.addresses[index, number] = value
        if one.base == "setp":
            self._compare(index, one)
        if not writes(one):
            return
        results = self.evaluator.result(one, index, lambda operand, bits: self.read(operand, bits, index)) or ()
        first = one.operands[0]
        for number, target in enumerate(first.items if isinstance(first, Vector) else (first,)):
            for register in registers_of(target):
                is_whole = target == Register(_stem(register.name)) and number < len(results)
                self._write(index, one, _stem(register.name), results[number] if is_whole else None)

    def _compare(self, index: int, one: Instruction) -> None:
        kind = one.parts[-1]
        if len(one.parts) != 3 or len(one.operands) != 3 or kind[0] not in "bsu" or not kind[1:].isdigit():
            return
        left, right = (self.read(operand, type_bits(kind), index) for operand in one.operands[1:])
        if left is not None and right is not None:
            self.comparisons[index] = left, right

    def _write(self, index: int, one: Instruction, name: str, result: Value | None) -> None:
        bits = self.bits.get(name, 0)
        if not bits:
            return
        if result is None or result.bits != bits or len(result.terms) > _MOST_TERMS:
            result = self.terms.value("result", f"{index}:{name}", bits)
        if name not in self.several:
            self.once[name] = result
        elif one.guard is None:
            self.known[name] = result
        else:
            kept = self.known.get(name) or self.terms.value("result", f"{index}:{name} before", bits)
            term = self.terms.term("select", f"{index}:{name}", bits, operands=(result, kept))
            self.known[name] = Value(bits, ((term, 1),))

    # Reading

    def _address(self, operand: Address, index: int) -> Value | None:
        base, offset = operand.base, operand.offset
        if base is None or offset is None:
            return None
        bits = (self.bits.get(base.name, 0) or 64) if isinstance(base, Register) else 64
        value = self.read(base, bits, index)
        return None if value is None else value.plus(Value(bits, (), offset & (1 << bits) - 1))

    def read(self, operand: Operand, bits: int, index: int) -> Value | None:
        """What an operand of an instruction is worth, with that many bits; ``None`` if it is not a whole number."""
        match operand:
            case Immediate():
                value = operand.value
                return Value(bits, (), value & (1 << bits) - 1) if isinstance(value, int) else None
            case Symbol("WARP_SZ"):
                return Value(bits, (), 32)
            case Symbol():
                return self.terms.value("variable", operand.name, bits)
            case Register():
                return self._register(operand.name, bits, index)
            case Sum():
                return self._sum(operand, bits, index)
        return None

    def _sum(self, operand: Sum, bits: int, index: int) -> Value | None:
        left, right = self.read(operand.left, bits, index), self.read(operand.right, bits, index)
        if left is None or right is None:
            return None
        return left.plus(right) if operand.sign == "+" else left.minus(right)

    def _register(self, name: str, bits: int, index: int) -> Value | None:
        if name in self.special and not self.flow.types.get(_stem(name)):
            limit = self.special[name]
            value = Value(32, (), -limit - 1) if limit < 0 else self.terms.value("special", name, 32, high=limit)
            return value.to(bits) if bits <= 32 else None
        own = self.bits.get(name, 0)
        if own < bits or not own:
            return None
        if name in self.several:
            value = self.known.get(name) or self.terms.value("result", f"{index}:{name} read", own)
        elif name in self.once and self.flow.dominates(self.definition[name], index):
            value = self.once[name] or self.terms.value("result", name, own)
        else:
            value = self.terms.value("result", f"{index}:{name} read", own)
        return value.to(bits)


def _definitions(flow: ControlFlow) -> tuple[dict[str, int], frozenset[str]]:
    """Where each register is written; and which are written in several places, or under a guard."""
    definition, times = {}, Counter[str]()
    for index, one in enumerate(flow.instructions):
        for register in writes(one):
            name = _stem(register.name)
            definition[name] = index
            times[name] += 1 if one.guard is None else 2
    return definition, frozenset(name for name, count in times.items() if count > 1)


def _limits(function: Function) -> dict[str, int]:
    """The greatest value of each special register; what is known for certain is ``-1`` minus the value."""
    limits = dict(_SPECIAL)
    most, exact = function.directive(".maxntid"), function.directive(".reqntid")
    if most:
        for axis in "xyz":
            limits[f"%tid.{axis}"] = min(limits[f"%tid.{axis}"], max(prod(most) - 1, 0))
    if exact:
        for axis, size in zip("xyz", (*exact, 1, 1), strict=False):
            limits[f"%tid.{axis}"] = size - 1 if size > 1 else -1
            limits[f"%ntid.{axis}"] = -1 - size
    return limits


def _bits(type_: str) -> int:
    """The bits of a register that holds a whole number; 0 for others."""
    return type_bits(type_[1:]) if type_[1:2] in ("b", "s", "u") and type_[2:].isdigit() else 0


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _turns(walk: _Walk) -> Mapping[Term, Value]:
    """Registers that grow by the same in each turn of a loop, and operations on them, with numbers of turns in them."""
    found: dict[Term, Value] = {}
    headers = {loop.header: loop for loop in walk.flow.graph.loops}
    # Operands come before what is made of them, and what a loop begins with before what it makes of it.
    for term in walk.terms.made:
        if term.kind == "phi" and walk.phis[term][0] in headers:
            grown = _growth(walk, term, headers[walk.phis[term][0]])
            if grown is not None:
                found[term] = _replaced(grown, found)
        elif term.kind == "op":
            operands = tuple(_replaced(operand, found) for operand in term.operands)
            if operands != term.operands and all(len(one.terms) <= _MOST_TERMS for one in operands):
                found[term] = walk.terms.op(term.name, term.bits, *operands, high=term.high, mask=term.mask)
    return found


def _replaced(value: Value, turns: Mapping[Term, Value]) -> Value:
    """The value with other sums for terms; terms of other bits than its own only where that is one term again."""
    found = {}
    for term, _ in value.terms:
        other = turns.get(term)
        if other is not None and (term.bits == value.bits or other.single is not None):
            found[term] = other.to(value.bits) if other.single is not None else other
    return value.replaced(found) if found else value


def _growth(walk: _Walk, phi: Term, loop: Loop) -> Value | None:
    """What a register holds at the head of a loop that adds the same to it in each turn: begin + step * turns."""
    before = [b for b in walk.flow.graph.predecessors[loop.header] if b in walk.left]
    pairs = list(zip(before, walk.incoming[phi][-len(before) :], strict=True))
    begins = {value for b, value in pairs if b not in loop.nodes} | ({None} if loop.header == 0 else set())
    own = Value(phi.bits, ((phi, 1),))
    steps = {None if value is None else value.minus(own) for b, value in pairs if b in loop.nodes}
    if len(begins) != 1 or len(steps) != 1:
        return None
    (begin,), (step,) = begins, steps
    if begin is None or step is None or not _is_constant(step):
        return None
    return begin.plus(walk.terms.product(step, walk.terms.value("turn", str(loop.header), phi.bits)))


def _is_constant(value: Value) -> bool:
    return all(term.kind in ("param", "special", "variable") for term, _ in value.terms)

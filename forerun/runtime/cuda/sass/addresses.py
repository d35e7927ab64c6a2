"""Which parameter a load reads through, followed back through the registers of its address.

ptxas keeps lines imprecisely where it merges code: of two equal predicated loads, one may get the line of the other. So
where the line says that a phase loads, but the address comes from a parameter that this phase does not read, the phase
that reads it is the one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from forerun.ir.kernel import Phase
from forerun.runtime.cuda.codegen.unit import Slot
from forerun.runtime.toolchain import EntryFacts, Instruction

__all__ = ["Provenance", "parameters_read"]

_REGISTER = re.compile(r"\bU?R\d+\b")
_ADDRESS = re.compile(r"\[(U?R\d+)(?:\.64|\.U32|\.reuse)*[^\]]*\]")
_DESCRIPTOR = re.compile(r"desc\[UR\d+\]")
_CONSTANT = re.compile(r"c\[0x0\]\[(0x[0-9a-f]+)\]")
_PREDICATE = re.compile(r"^@!?U?P[T\d]\w*\s+")
# Where parameters begin in constant bank 0: on sm_90, and on sm_100 and later.
_BASES = (0x380, 0x210)
_STEPS = 400


def parameters_read(phase: Phase) -> frozenset[str]:
    """The parameters that a phase may read through: of its regions, and of scalars in memory."""
    symbols = {name for access in (*phase.reads, *phase.writes) for name in access.region.symbols}
    return frozenset({access.parameter for access in phase.reads} | symbols | set(phase.scalars))


@dataclass(frozen=True)
class _Definition:
    """An instruction that sets registers."""

    index: int
    always: bool
    sources: tuple[str, ...]
    constants: tuple[int, ...]


class Provenance:
    """Follows addresses back to parameters, in the order of the code."""

    def __init__(self, facts: EntryFacts, slots: Sequence[Slot]) -> None:
        self._code = facts.instructions
        self._parameters = _offsets(facts, slots)
        self._definitions: dict[str, list[_Definition]] = {}
        for index, instruction in enumerate(self._code):
            for register, definition in _definitions(index, instruction):
                self._definitions.setdefault(register, []).append(definition)

    def parameters(self, index: int) -> frozenset[str]:
        """The parameters from which the address of a load is made; empty if that cannot be told."""
        text = _DESCRIPTOR.sub("", self._code[index].text)
        found = _ADDRESS.findall(text)
        if not found:
            return frozenset()
        waiting, seen, offsets = [(found[-1], index)], set[tuple[str, int]](), set[int]()
        while waiting and len(seen) < _STEPS:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            for definition in self._reaching(*place):
                offsets.update(definition.constants)
                waiting += [(source, definition.index) for source in definition.sources]
        return frozenset(self._parameters[offset] for offset in offsets if offset in self._parameters)

    def _reaching(self, register: str, before: int) -> Iterator[_Definition]:
        """What may have set a register last: back to one that is not predicated."""
        for definition in reversed(self._definitions.get(register, [])):
            if definition.index < before:
                yield definition
                if definition.always:
                    return


def _offsets(facts: EntryFacts, slots: Sequence[Slot]) -> Mapping[int, str]:
    """The parameters that hold addresses, by their offset in constant bank 0."""
    places, end = [], 0
    for slot in slots:
        end = -(-end // slot.size) * slot.size
        places.append((end, slot))
        end += slot.size
    base = next((base for base in _BASES if facts.constant_bytes >= base + end), _BASES[-1])
    return {base + at: slot.parameter for at, slot in places if slot.kind in ("pointer", "address")}


def _definitions(index: int, instruction: Instruction) -> Iterator[tuple[str, _Definition]]:
    """The registers that an instruction sets. A value that is loaded from memory does not count as an address."""
    text = _PREDICATE.sub("", instruction.text)
    opcode, _, rest = text.partition(" ")
    operands = [operand.strip() for operand in rest.split(",")]
    target = next(filter(None, (re.fullmatch(r"(U?R)(\d+)", operand) for operand in operands[:2])), None)
    if target is None or instruction.kind in ("store", "branch", "barrier"):
        return
    width = 4 if ".128" in opcode else 2 if ".64" in opcode or "WIDE" in opcode or opcode.startswith("CS2R") else 1
    others = ",".join(operands[operands.index(target[0]) + 1 :])
    loads = instruction.kind in ("load", "bulk") or opcode.startswith(("LDS", "LDL", "ATOM", "SHFL"))
    sources = () if loads else tuple(_REGISTER.findall(others))
    constants = () if loads else tuple(int(offset, 16) for offset in _CONSTANT.findall(others))
    name, number = target.groups()
    for part in range(width):
        # Only the lower half of a 64-bit constant is looked up: that is where a parameter begins.
        kept = constants if part == 0 else ()
        yield f"{name}{int(number) + part}", _Definition(index, not instruction.predicated, sources, kept)

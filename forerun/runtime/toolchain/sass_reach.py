"""Through which pointers among its parameters a kernel's machine code accesses global memory.

Forward abstract interpretation of the registers, to a fixpoint. A value is a set of alternatives, since ways meet:

- a number: no pointer, and nothing from memory;
- rooted: a sum with a pointer that a parameter holds. As in C++, a pointer plus a number stays in what it points into;
- tainted: from memory, from other lanes, from bits of a pointer, or not understood. It may be any address.

A sum with several pointers may be an address through each. Where one is subtracted, the difference may be a number, and
a tainted value that is added to it the pointer. That returns go behind relative calls is taken for granted.
"""

from __future__ import annotations

import heapq
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from forerun.runtime.toolchain.elf import sections
from forerun.runtime.toolchain.facts import EntryFacts, Instruction
from forerun.runtime.toolchain.sass_cfg import flow_graph
from forerun.support.cfg import FlowGraph

__all__ = ["Linked", "Reach", "linked_of", "reach_of"]

# A value in bits: its alternatives, and what is true of a rooted one; from the fifth bit on, whose pointers it is made of.
_NUMBER, _TAINTED, _SUBTRACTS, _WITH_TAINTED = 1, 2, 4, 8
_FIRST = 4
_PRIVATE, _LINKED = 1 << _FIRST, 2 << _FIRST  # addresses in the module: of variables of its own, and others
_PARAMETERS = _FIRST + 2

_SUMS = frozenset(
    [
        "MOV",
        "UMOV",
        "MOV32I",
        "IADD",
        "IADD3",
        "IADD32I",
        "UIADD3",
        "UIADD",
        "VIADD",
        "UVIADD",
        "IMAD",
        "UIMAD",
        "LEA",
        "ULEA",
        "R2UR",
        "UR2UR",
    ]
)
_CHOICES = frozenset({"SEL", "USEL", "FSEL", "UFSEL"})
_NUMBERS = frozenset(
    ["S2R", "S2UR", "CS2R", "CS2UR", "LEPC", "ULEPC", "VOTE", "VOTEU", "ELECT", "B2R", "BMOV", "GETLMEMBASE"]
)
_CONSTANTS = frozenset({"LDC", "ULDC", "LDCU"})
_LOADS = frozenset(
    [
        "LD",
        "LDG",
        "LDGMC",
        "LDS",
        "LDSM",
        "LDL",
        "ATOM",
        "ATOMG",
        "ATOMS",
        "SHFL",
        "MATCH",
        "REDUX",
        "CREDUX",
        "MOVM",
        "SYNCS",
        "LDTM",
        "QSPC",
    ]
)
_BITS = frozenset(
    [
        "LOP3",
        "ULOP3",
        "LOP",
        "LOP32I",
        "SHF",
        "USHF",
        "SHL",
        "SHR",
        "USHL",
        "USHR",
        "PRMT",
        "UPRMT",
        "SGXT",
        "USGXT",
        "BMSK",
        "UBMSK",
        "BREV",
        "UBREV",
        "FLO",
        "UFLO",
        "POPC",
        "UPOPC",
        "IABS",
        "UIABS",
        "IMNMX",
        "UIMNMX",
        "VIMNMX",
        "UVIMNMX",
        "VIMNMX3",
        "UVIMNMX3",
        "VIADDMNMX",
        "UVIADDMNMX",
        "VABSDIFF",
        "VABSDIFF4",
        "IDP",
        "IDP4A",
        "P2R",
        "UP2UR",
        "FADD",
        "FADD2",
        "FADD32I",
        "FFMA",
        "FFMA2",
        "FFMA32I",
        "FMUL",
        "FMUL2",
        "FMUL32I",
        "FMNMX",
        "FMNMX3",
        "FSWZADD",
        "FSET",
        "UFADD",
        "UFFMA",
        "UFMUL",
        "UFMNMX",
        "UFSET",
        "HADD2",
        "HADD2_32I",
        "HFMA2",
        "HFMA2_32I",
        "HMUL2",
        "HMUL2_32I",
        "HMNMX2",
        "HSET2",
        "DADD",
        "DFMA",
        "DMUL",
        "DMNMX",
        "MUFU",
        "F2F",
        "F2I",
        "F2FP",
        "F2IP",
        "FRND",
        "I2F",
        "I2FP",
        "I2I",
        "I2IP",
        "UF2F",
        "UF2I",
        "UF2FP",
        "UFRND",
        "UI2F",
        "UI2FP",
        "UI2I",
        "UI2IP",
    ]
)
_MATRIX = frozenset(["HMMA", "IMMA", "BMMA", "DMMA", "QMMA", "OMMA", "HGMMA", "IGMMA", "BGMMA", "QGMMA"])
# They set no register, whatever stands first.
_SET_NOTHING = frozenset(
    [
        "ST",
        "STG",
        "STL",
        "STS",
        "STSM",
        "STAS",
        "STTM",
        "RED",
        "REDG",
        "REDAS",
        "BRA",
        "BRX",
        "BRXU",
        "JMP",
        "JMX",
        "JMXU",
        "RET",
        "CALL",
        "EXIT",
        "KILL",
        "BPT",
        "RTT",
        "CCTL",
        "CCTLL",
        "CCTLT",
        "BAR",
        "WARPSYNC",
        "NANOSLEEP",
        "R2P",
        "R2B",
        "DEPBAR",
        "MEMBAR",
        "ERRBAR",
        "CGAERRBAR",
        "BSSY",
        "BSYNC",
        "BREAK",
        "YIELD",
        "NOP",
        "ISETP",
        "FSETP",
        "HSETP2",
        "DSETP",
        "UISETP",
        "UFSETP",
        "PSETP",
        "PLOP3",
        "UPLOP3",
        "FCHK",
        "PREEXIT",
        "ACQBULK",
        "LDGSTS",
        "LDGDEPBAR",
        "SETLMEMBASE",
        "SETCTAID",
        "USETMAXREG",
        "UCGABAR_ARV",
        "UCGABAR_WAIT",
        "WARPGROUP",
        "ENDCOLLECTIVE",
        "BMOV",
        "UTMACCTL",
        "UTMAPF",
        "UTMACMDFLUSH",
        "UBLKPF",
    ]
)
_READS = frozenset(["LD", "LDG", "LDGSTS", "LDGMC", "ATOM", "ATOMG", "RED", "REDG"])
_WRITES = frozenset(["ST", "STG", "ATOM", "ATOMG", "RED", "REDG"])
_DOUBLE = frozenset(["DADD", "DFMA", "DMUL", "DMNMX"])
_INDIRECT = re.compile(r"UTMA(LDG|STG|REDG)|UBLK(CP|RED)|TEX|TLD|TLD4|TXD|TMML|SULD|SUST|SURED|SUATOM")

_GUARD = re.compile(r"@!?U?P\w+\s+")
_REGISTER = re.compile(r"([-~|]*)(U?R)(\d+|Z)\|?(?:\.\w+)*")
_PREDICATE = re.compile(r"!?U?P(\d|T)")
_CONSTANT = re.compile(
    r"([-~|]*)c\[0x([0-9a-f]+)\]\[(?:(U?R(?:\d+|Z))(?:\.\w+)*)?\+?(?:(-?)0x([0-9a-f]+))?\]\|?(?:\.\w+)*"
)
_ADDRESS = re.compile(r"(?:desc\[\w+\])?\[([^\]]*)\]")
_TERM = re.compile(r"(U?R)(\d+|Z)((?:\.\w+)*)")
_UNIFORM = 256  # the place of UR0; that of R0 is 0
_PLACES = 512


@dataclass(frozen=True, slots=True)
class Linked:
    """What stands in constant bank 4, where a linked module has the addresses of its variables and functions.

    Attributes:
        calls: Whether all functions there are the driver's, and none touches memory of the program.
        variables: Where the addresses of variables stand that only code of the module can name.
    """

    calls: bool = False
    variables: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """The global memory that a kernel may access.

    Attributes:
        reads: Where in its parameters the pointers are through which it may read.
        writes: Those through which it may write.
        unknown: Why it may access anything; empty if it does not.
    """

    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    unknown: str = ""


def reach_of(facts: EntryFacts, pointers: frozenset[int], base: int, linked: Linked | None = None) -> Reach:
    """What a kernel may access through its parameters.

    A read of a variable that only the module can name is none: who writes it is unknown for it.

    Args:
        facts: The kernel's instructions.
        pointers: Where in its parameters the 64-bit words are that may hold addresses of memory, in bytes.
        base: Where the parameters begin in constant bank 0: 0x210 for ``sm_90``, 0x380 since ``sm_100``.
        linked: What is known of constant bank 4; by default, nothing is.
    """
    words = sorted(pointers)
    reader = _Reader({base + at: 1 << _PARAMETERS + number for number, at in enumerate(words)}, linked or Linked())
    steps = [reader.step(instruction) for instruction in facts.instructions]
    reads = writes = 0
    for index, state in _states(steps, _ways(facts.instructions)):
        step = steps[index]
        roots, reason = _accessed(step, state, reader.linked)
        if reason:
            return Reach(unknown=f"'{facts.instructions[index].text}' {reason}")
        reads |= roots if step.reads else 0
        writes |= roots if step.writes else 0
    named = ({at for number, at in enumerate(words) if found >> _PARAMETERS + number & 1} for found in (reads, writes))
    return Reach(*map(frozenset, named))


def linked_of(code: bytes) -> Linked:
    """What stands in constant bank 4 of a cubin, after its relocations.

    Raises:
        ValueError: If this is not a cubin.
    """
    found = sections(code)
    table, names = found.get(".symtab", b""), found.get(".strtab", b"")
    variables, calls = set(), True
    for at, info, _ in struct.iter_unpack("<QQq", found.get(".rela.nv.constant4", b"")):
        name, kind, _, section, _, _ = struct.unpack_from("<IBBHQQ", table, (info >> 32) * 24)
        if kind == 1:  # STB_LOCAL, STT_OBJECT
            variables.add(at)
        elif kind & 0xF != 1:
            calls &= section == 0 and names[name : names.find(b"\0", name)] in (b"__assertfail", b"vprintf")
    return Linked(calls and ".rel.nv.constant4" not in found, frozenset(variables))


def _sum(first: int, second: int) -> int:
    """The value of a sum: each alternative of one with each of the other."""
    roots = (first | second) >> _FIRST << _FIRST
    found = (first | second) & (_SUBTRACTS | _WITH_TAINTED) | roots
    found |= first & second & _NUMBER
    found |= (first & second | first & second << 1 | first << 1 & second) & _TAINTED
    if roots and ((first >> _FIRST and second & _TAINTED) or (second >> _FIRST and first & _TAINTED)):
        found |= _WITH_TAINTED
    return found


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a value comes from: a register, or else it is fixed; and what becomes of it."""

    place: int
    fixed: int = _NUMBER
    is_bits: bool = False
    is_subtracted: bool = False

    def value(self, state: Sequence[int]) -> int:
        """What it is in a state of the registers."""
        found = self.fixed if self.place < 0 else state[self.place]
        if found >> _FIRST:
            if self.is_bits:
                return found & _NUMBER | _TAINTED
            if self.is_subtracted:
                return found | _SUBTRACTS
        return found


@dataclass(frozen=True, slots=True)
class _Effect:
    """A register that is set: to a sum, or to one of several values; or that may keep what it has."""

    target: int
    sources: tuple[_Source, ...]
    is_choice: bool = False
    keeps: bool = False

    def value(self, state: Sequence[int]) -> int:
        found = state[self.target] if self.keeps else 0
        if self.is_choice:
            for source in self.sources:
                found |= source.value(state)
            return found
        total = _NUMBER
        for source in self.sources:
            total = _sum(total, source.value(state))
        return found | total


@dataclass(frozen=True, slots=True)
class _Step:
    """An instruction: what it sets, the halves of the address that it accesses, and what makes that unknown."""

    effects: tuple[_Effect, ...] = ()
    halves: tuple[tuple[_Source, ...], ...] = ()
    reads: bool = False
    writes: bool = False
    calls: int | None = None
    reason: str = ""


_TAINT = _Source(-1, _TAINTED)
_NONE = _Source(-1)


@lru_cache(4096)
def _operands(rest: str) -> tuple[str, ...]:
    return tuple(operand for operand in map(str.strip, rest.split(",")) if operand)


@lru_cache(4096)
def _place(operand: str) -> int | None:
    """The place of a register; -1 for one that is constant, ``None`` if the operand is none."""
    found = _REGISTER.fullmatch(operand)
    if found is None:
        return None
    return -1 if found[3] == "Z" else int(found[3]) + (_UNIFORM if found[2] == "UR" else 0)


class _Reader:
    """Reads instructions.

    Args:
        words: The roots of the words in constant bank 0 that hold pointers.
        linked: What is known of constant bank 4.
    """

    def __init__(self, words: Mapping[int, int], linked: Linked) -> None:
        self.linked = linked
        self._words = words
        self._any_word = _NUMBER | sum(words.values())

    def step(self, instruction: Instruction) -> _Step:
        """What an instruction does to registers and global memory."""
        name, *modifiers = instruction.opcode.split(".")
        rest = _GUARD.sub("", instruction.text, count=1).partition(" ")[2]
        operands = _operands(rest)
        if (name == "CALL" and not instruction.targets) or (name in ("BRA", "JMP") and not instruction.targets):
            register = None if "ABS" not in modifiers or not operands else _place(operands[0])
            return _Step(calls=-1 if register is None else register)
        if _INDIRECT.fullmatch(name):
            return _Step(reason="accesses memory through a descriptor or in bulk")
        reads, writes = name in _READS, name in _WRITES or (name == "CCTL" and any("DML" in m for m in modifiers))
        halves = _halves(operands) if reads or writes else ()
        effects = tuple(self._effects(name, modifiers, operands, instruction.predicated))
        return _Step(effects, halves, reads, writes)

    def _effects(self, name: str, modifiers: list[str], operands: tuple[str, ...], keeps: bool) -> Iterator[_Effect]:
        if name in _SET_NOTHING:
            return
        plain = [operand for operand in operands if not _PREDICATE.fullmatch(operand)]
        target = _place(plain[0]) if plain else None
        if target is None or (target < 0 and not name.startswith("LD")):
            return
        width = _width(name, modifiers)
        if name in _LOADS:
            for operand in plain:  # of 32 bytes, two halves
                if (place := _place(operand)) is None:
                    break
                yield from (_Effect(place + i, (_TAINT,), False, keeps) for i in range(width if place >= 0 else 0))
            return
        for part in range(width):
            sources, known = self._sources(name, modifiers, plain[1:], part), name in _KNOWN
            yield _Effect(target + part, sources, name in _CHOICES, keeps or not known)

    def _sources(self, name: str, modifiers: list[str], operands: list[str], part: int) -> tuple[_Source, ...]:
        """What a part of the target is made of."""
        if name in _NUMBERS:
            return (_NONE,)
        if name in _CONSTANTS:
            return (self._source(operands[0], part, "64" in modifiers),) if operands else (_TAINT,)
        if name not in _SUMS and name not in _CHOICES and name not in _BITS:
            return (_TAINT,)
        is_wide = "64" in modifiers
        if name in _BITS or "OR" in modifiers:
            found = [self._source(operand, at) for operand in operands for at in range(1 + is_wide)]
            return tuple(_Source(s.place, s.fixed, is_bits=True) for s in found)
        bits = _scaled(name, modifiers, operands)
        found = [
            self._source(operand, part if is_wide or ("WIDE" in modifiers and at == 2) else 0)
            for at, operand in enumerate(operands)
        ]
        return tuple(_Source(s.place, s.fixed, at in bits, s.is_subtracted) for at, s in enumerate(found))

    def _source(self, operand: str, part: int, is_word: bool = False) -> _Source:
        register = _place(operand)
        is_subtracted = operand.startswith(("-", "~"))
        if register is not None:
            return _Source(register + part if register >= 0 else -1, is_subtracted=is_subtracted)
        found = _CONSTANT.fullmatch(operand)
        if found is not None:
            bank, index = int(found[2], 16), found[3] or "RZ"
            offset = int((found[4] or "") + (found[5] or "0"), 16)
            fixed = self._constant(bank, offset + 4 * part, part) if _place(index) == -1 else self._any(bank, is_word)
            return _Source(-1, fixed, is_subtracted=is_subtracted)
        return _TAINT if "[" in operand else _NONE

    def _constant(self, bank: int, offset: int, part: int) -> int:
        """What a half of a word in a constant bank is. In bank 2 are numbers of the compiler."""
        if bank == 4:
            return _PRIVATE if offset - 4 * part in self.linked.variables else _LINKED
        if bank != 0:
            return _NUMBER if bank == 2 else _TAINTED
        root = self._words.get(offset) or self._words.get(offset - 4)
        is_inside = any(offset - at in self._words for at in range(1, 8))
        return root or (_TAINTED if is_inside else _NUMBER)

    def _any(self, bank: int, is_word: bool) -> int:
        """What a word in a constant bank is whose place is not known."""
        if bank == 2:
            return _NUMBER
        return {0: self._any_word, 4: _LINKED}.get(bank, _TAINTED) if is_word else _TAINTED


_KNOWN = _SUMS | _CHOICES | _NUMBERS | _CONSTANTS | _BITS


def _width(name: str, modifiers: list[str]) -> int:
    """How many registers an instruction sets."""
    if name == "LDTM":
        count = next((int(m[1:]) for m in modifiers if re.fullmatch(r"x\d+", m)), 1)
        return count * next((4 if "256" in m else 2 for m in modifiers if re.search("256bit|128bit", m)), 1)
    if name in _MATRIX:
        shape = next((re.fullmatch(r"\d+x(\d+)x\d+", m) for m in modifiers if "x" in m), None)
        return int(shape[1]) // 2 if shape else 2 if modifiers[1:2] == ["F16"] else 4
    if name in _DOUBLE or "WIDE" in modifiers or (name.startswith("CS2") and "32" not in modifiers):
        return 2
    if name in ("F2F", "I2F", "F2I", "UF2I", "UI2F"):
        return 2 if next((m for m in modifiers if m[1:].isdigit() or m == "BF16"), "")[1:] == "64" else 1
    if name == "LDSM":
        return int(modifiers[-1]) if modifiers[-1] in ("2", "4") else 1
    if name in _KNOWN or name in _LOADS:
        return (
            8
            if "256" in modifiers and name in _CONSTANTS
            else next((int(m) // 32 for m in modifiers if m in ("64", "128")), 4 if "256" in modifiers else 1)
        )
    return 4


def _scaled(name: str, modifiers: list[str], operands: list[str]) -> frozenset[int]:
    """Which operands are not added as they are, but multiplied or shifted."""
    if name in ("IMAD", "UIMAD"):
        if "HI" in modifiers:
            return frozenset({0, 1, 2})
        return frozenset(at for at in (0, 1) if operands[1 - at : 2 - at] not in (["0x1"], ["1"]))
    return frozenset(range(len(operands))) - {1} if name in ("LEA", "ULEA") else frozenset()


def _halves(operands: tuple[str, ...]) -> tuple[tuple[_Source, ...], ...]:
    """What the two halves of the global address are made of: of several addresses, it is the last."""
    address = next((found for operand in reversed(operands) if (found := _ADDRESS.match(operand))), None)
    lower, upper = [], []
    for kind, number, suffix in _TERM.findall(address[1] if address else ""):
        if number == "Z":
            continue
        place = int(number) + (_UNIFORM if kind == "UR" else 0)
        lower.append(_Source(place))
        if "U32" not in suffix and "S32" not in suffix:
            upper.append(_Source(place + 1))
    return tuple(lower), tuple(upper)


def _accessed(step: _Step, state: Sequence[int], linked: Linked) -> tuple[int, str]:
    """The roots of the address that an instruction accesses, or why it may be anywhere."""
    if step.calls is not None:
        is_harmless = linked.calls and step.calls >= 0 and state[step.calls] & ~_NUMBER == _LINKED
        return 0, "" if is_harmless else "goes to code that is not the kernel's"
    if not step.halves:
        return 0, step.reason
    roots = 0
    for number, half in enumerate(step.halves):
        total = _NUMBER
        for source in half:
            total = _sum(total, source.value(state))
        if total & _TAINTED or (total & _SUBTRACTS and total & _WITH_TAINTED):
            return 0, "accesses an address that may come from memory, or from bits of a pointer"
        if number == 0 and not total >> _FIRST:
            return 0, "accesses an address that comes from no pointer"
        roots |= total >> _FIRST << _FIRST
    if roots & _LINKED or (roots & _PRIVATE and step.writes):
        return 0, "accesses a variable of its module"
    return roots, ""


def _ways(instructions: Sequence[Instruction]) -> FlowGraph:
    """The control flow, returns included: they go behind all relative calls."""
    graph = flow_graph(instructions)
    names = [instruction.opcode.partition(".")[0] for instruction in instructions]
    behind = tuple(
        index + 1
        for index, instruction in enumerate(instructions[:-1])
        if names[index] == "CALL" and instruction.targets
    )
    ways = (way + behind if name == "RET" else way for way, name in zip(graph.successors, names, strict=True))
    return FlowGraph(tuple(tuple(dict.fromkeys(way)) for way in ways))


def _blocks(graph: FlowGraph) -> Mapping[int, range]:
    """Instructions that follow each other without other ways in or out, by the first of them."""
    begins = sorted(
        index
        for index in graph.order
        if index == 0 or graph.predecessors[index] != (index - 1,) or len(graph.successors[index - 1]) != 1
    )
    reached = set(graph.order)
    found = {}
    for begin, limit in zip(begins, [*begins[1:], len(graph.successors)], strict=True):
        end = begin + 1
        while end < limit and end in reached:
            end += 1
        found[begin] = range(begin, end)
    return found


def _states(steps: Sequence[_Step], graph: FlowGraph) -> Iterator[tuple[int, Sequence[int]]]:
    """Each instruction that may be executed and accesses memory, and the registers before it, at the fixpoint."""
    blocks = _blocks(graph)
    rank = {index: number for number, index in enumerate(graph.order)}
    before: dict[int, list[int]] = {0: [_NUMBER] * _PLACES} if steps else {}
    waiting = [(0, 0)] if steps else []
    while waiting:
        _, begin = heapq.heappop(waiting)
        state = before[begin].copy()
        for index in blocks[begin]:
            _execute(steps[index], state)
        for target in graph.successors[blocks[begin][-1]]:
            old = before.get(target)
            new = state if old is None else [a | b for a, b in zip(old, state, strict=True)]
            if new != old:
                before[target] = new.copy()
                if (rank[target], target) not in waiting:
                    heapq.heappush(waiting, (rank[target], target))
    for begin in sorted(before):
        state = before[begin]
        for index in blocks[begin]:
            yield index, state
            _execute(steps[index], state)


def _execute(step: _Step, state: list[int]) -> None:
    values = [effect.value(state) for effect in step.effects]
    for effect, value in zip(step.effects, values, strict=True):
        state[effect.target] = value

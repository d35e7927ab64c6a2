"""Through which pointers among its parameters a kernel's machine code accesses global memory.

Forward abstract interpretation of the registers, to a fixpoint. A value is a set of alternatives, since ways meet:

- a number: no pointer, and nothing from memory;
- rooted: a sum with a pointer that a parameter holds. As in C++, a pointer plus a number stays in what it points into;
- tainted: from memory, from other lanes, from bits of a pointer, or not understood. It may be any address.

A sum with several pointers may be an address through each. Where one is subtracted, the difference may be a number, and
a tainted value that is added to it the pointer. A parameter whose place is in a register may be a number, or any of the
pointers. Taken for granted: accesses through null pointers are not executed, returns go behind relative calls, and a
product with such a parameter is a number.
"""

from __future__ import annotations

import heapq
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from forerun.runtime.toolchain.elf import sections
from forerun.runtime.toolchain.facts import EntryFacts, Instruction
from forerun.runtime.toolchain.sass_cfg import flow_graph
from forerun.support.cfg import FlowGraph

__all__ = ["Linked", "Reach", "linked_of", "reach_of"]

# A value in bits: its alternatives (a word that is 0 is told apart from other numbers); what is true of a rooted one;
# what that is made of: variables of the module, what else is linked, half of some parameter, and the pointers.
_NUMBER, _TAINTED, _NULL, _SUBTRACTS, _WITH_TAINTED = 1, 2, 4, 8, 16
_PRIVATE, _LINKED, _SOME_HALF, _FIRST = 32, 64, 128, 8
_NUMBERS, _ROOTS = _NUMBER | _NULL, -32

_KINDS = {
    "sum": r"U?(MOV|MOV32I|IADD|IADD3|IADD32I|VIADD|IMAD|LEA|R2UR|UR2UR)",
    "choice": r"U?F?SEL",
    "constant": r"U?LDCU?",
    "load": r"LD|LDG|LDGMC|LDS|LDSM|LDL|LDTM|ATOM[GS]?|SHFL|MATCH|C?REDUX|MOVM|SYNCS|QSPC",
    "number": r"S2U?R|CS2U?R|U?LEPC|VOTEU?|ELECT|B2R|BMOV|GETLMEMBASE",
    "matrix": r"[HIBDQOG]{1,2}MMA",
    "float": r"U?[FHD](ADD|FMA|MUL|MNMX|SWZADD|SET)[23]?(_?32I)?|MUFU|U?FRND|U?[FI]2[FI]P?",
    "bits": r"U?(LOP3?|LOP32I|SHF|SHL|SHR|PRMT|SGXT|BMSK|BREV|FLO|POPC|IABS|P2R|UP2UR)|U?V?I(MNMX3?|ADDMNMX)"
    r"|VABSDIFF4?|IDP(4A)?",
    # What stands first is not set.
    "nothing": r"ST[GLS]?|STSM|STAS|STTM|RED|REDG|REDAS|BRXU?|JMXU?|BRA|JMP|RET|CALL|EXIT|KILL|BPT|RTT|CCTL[LT]?|BAR"
    r"|FENCE|WARPSYNC|NANOSLEEP|R2B|R2P|DEPBAR|MEMBAR|ERRBAR|CGAERRBAR|BSSY|BSYNC|BREAK|YIELD|NOP|U?[IFHDP]SETP2?|U?PLOP3"
    r"|FCHK|PREEXIT|ACQBULK|LDGSTS|LDGDEPBAR|SETLMEMBASE|SETCTAID|USETMAXREG|UCGABAR_\w+|WARPGROUP|UTMACCTL|UTMAPF"
    r"|UBLKPF|UTMACMDFLUSH|ENDCOLLECTIVE",
}
_READS = re.compile(r"LD|LDG|LDGSTS|LDGMC|ATOMG?|REDG?")
_WRITES = re.compile(r"STG?|ATOMG?|REDG?")
_DESCRIBED = re.compile(r"UTMA(LDG|STG|REDG)|UBLK(CP|RED)|TEX|TLD4?|TXD|TMML|SULD|SUST|SURED|SUATOM")

_GUARD = re.compile(r"@(!?U?P\w+)\s+")
_REGISTER = re.compile(r"[-~|]*(U?R)(\d+|Z)\|?(?:\.\w+)*")
_PREDICATE = re.compile(r"!?(U?P[\dTR])")
_CONSTANT = re.compile(
    r"[-~|]*c\[0x([0-9a-f]+)\]\[(?:(U?R(?:\d+|Z))(?:\.\w+)*)?\+?(-?)(?:0x([0-9a-f]+))?\]\|?(?:\.\w+)*"
)
_ADDRESS = re.compile(r"(?:desc\[\w+\])?\[([^\]]*)\]")
_TERM = re.compile(r"(U?R\d+)((?:\.\w+)*)")
_UNIFORM, _PLACES = 256, 512  # the place of UR0, that of R0 being 0; and how many there are


@dataclass(frozen=True, slots=True)
class Linked:
    """What stands in constant bank 4, where a module has the addresses of its variables and functions.

    Attributes:
        calls: Whether all functions there are the driver's, and none of them touches memory of the program.
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


def reach_of(
    facts: EntryFacts,
    pointers: frozenset[int],
    base: int,
    nulls: frozenset[int] = frozenset(),
    linked: Linked | None = None,
) -> Reach:
    """What a kernel may access through its parameters.

    To read a variable that only the module can name is no access; a kernel that writes one may access anything.

    Args:
        facts: The kernel's instructions.
        pointers: Where in its parameters the 64-bit words are that may hold addresses of memory, in bytes.
        base: Where the parameters begin in constant bank 0: 0x210 for ``sm_90``, 0x380 since ``sm_100``.
        nulls: Where the 64-bit words are that are 0 at all launches in question; they may be null pointers.
        linked: What is known of constant bank 4; by default, nothing is.
    """
    words = {base + at: 1 << _FIRST + number for number, at in enumerate(sorted(pointers))}
    reader = _Reader({**{base + at: _NULL for at in nulls - pointers}, **words}, linked or Linked())
    steps = [reader.step(instruction) for instruction in facts.instructions]
    reads = writes = 0
    for index, state in _states(steps, _ways(facts.instructions)):
        roots, reason = _accessed(steps[index], state, reader.linked)
        if reason:
            return Reach(unknown=f"'{facts.instructions[index].text}' {reason}")
        roots |= -1 << _FIRST if roots & _SOME_HALF else 0
        reads |= roots if steps[index].reads else 0
        writes |= roots if steps[index].writes else 0
    read, written = (frozenset(at - base for at, bit in words.items() if bit & roots) for roots in (reads, writes))
    return Reach(read, written)


def linked_of(code: bytes) -> Linked:
    """What stands in constant bank 4 of a cubin, after its relocations.

    Raises:
        ValueError: If this is not a cubin.
    """
    found = sections(code)
    table, names = found.get(".symtab", b""), found.get(".strtab", b"")
    variables, calls = set(), ".rel.nv.constant4" not in found
    for at, info, _ in struct.iter_unpack("<QQq", found.get(".rela.nv.constant4", b"")):
        name, kind, _, section, _, _ = struct.unpack_from("<IBBHQQ", table, (info >> 32) * 24)
        if kind == 1:  # STB_LOCAL, STT_OBJECT
            variables.add(at)
        elif kind & 0xF != 1:
            calls &= section == 0 and names[name : names.find(b"\0", name)] in (b"__assertfail", b"vprintf")
    return Linked(calls, frozenset(variables))


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a value comes from: a register, or it is fixed; and what is done with it.

    ``how`` is empty for what is added as it is, ``minus``, ``times`` (or a floating-point operation), or ``bits``.
    """

    place: int = -1
    fixed: int = _NUMBER
    how: str = ""

    def value(self, state: Sequence[int]) -> int:
        """What becomes of it in a state of the registers."""
        found = self.fixed if self.place < 0 else state[self.place]
        if self.how == "minus":
            return found | _SUBTRACTS if found & _ROOTS else found
        if not self.how:
            return found
        half = found & _SOME_HALF
        is_tainted = found & (_TAINTED | _ROOTS & ~_SOME_HALF)
        kept = half if self.how == "bits" else 0
        return kept | (_NUMBER if half or found & _NUMBERS else 0) | (_TAINTED if is_tainted else 0)


def _sum(sources: Sequence[_Source], state: Sequence[int]) -> int:
    """The value of a sum: each alternative of each with each of the others."""
    total = _NUMBER
    for source in sources:
        other = source.value(state)
        found = total & other & (_NUMBERS | _TAINTED) | (total | other) & (_ROOTS | _SUBTRACTS | _WITH_TAINTED)
        for one, two in ((total, other), (other, total)):
            found |= _NULL if one & _NULL and two & _NUMBER else 0
            found |= _TAINTED if one & _TAINTED and two & _NUMBERS else 0
            found |= _WITH_TAINTED if one & _TAINTED and two & _ROOTS else 0
        total = found
    return total


@dataclass(frozen=True, slots=True)
class _Effect:
    """A register that is set to a sum, or to one of several values."""

    target: int
    sources: tuple[_Source, ...]
    is_choice: bool = False

    def value(self, state: Sequence[int]) -> int:
        """What it is set to, from a state of the registers."""
        if not self.is_choice:
            return _sum(self.sources, state)
        found = 0
        for source in self.sources:
            found |= source.value(state)
        return found


@dataclass(frozen=True, slots=True)
class _Step:
    """An instruction: what it sets, and the halves of the address that it accesses.

    It may go to other code, whose address a register has (none: -1), or be unknown for a reason. It is executed under a
    predicate, or always, and may set predicates (``PR`` are all).
    """

    effects: tuple[_Effect, ...] = ()
    halves: tuple[tuple[_Source, ...], ...] = ()
    reads: bool = False
    writes: bool = False
    calls: int | None = None
    reason: str = ""
    guard: str = ""
    predicates: frozenset[str] = frozenset()

    def may_set(self, guard: str) -> bool:
        """Whether it may set the predicate that a guard names."""
        return guard.lstrip("!") in self.predicates or "PR" in self.predicates


@lru_cache
def _kind(name: str) -> str:
    return next((kind for kind, names in _KINDS.items() if re.fullmatch(names, name)), "other")


@lru_cache(4096)
def _place(operand: str) -> int | None:
    """The place of a register; -1 for one that is constant, ``None`` if the operand is none."""
    found = _REGISTER.fullmatch(operand)
    if found is None:
        return None
    return -1 if found[2] == "Z" else int(found[2]) + (_UNIFORM if found[1] == "UR" else 0)


class _Reader:
    """Reads instructions.

    Args:
        words: What the words in constant bank 0 are that hold pointers, or nothing.
        linked: What is known of constant bank 4.
    """

    def __init__(self, words: Mapping[int, int], linked: Linked) -> None:
        self.linked = linked
        self._words = words

    def step(self, instruction: Instruction) -> _Step:
        """What an instruction does to registers and global memory."""
        name, *modifiers = instruction.opcode.split(".")
        guard = _GUARD.match(instruction.text)
        rest = instruction.text[guard.end() if guard else 0 :].partition(" ")[2]
        operands = [operand for operand in map(str.strip, rest.split(",")) if operand]
        found = _Step(guard=guard[1] if guard and instruction.predicated else "")
        if name in ("CALL", "BRA", "JMP") and not instruction.targets:
            register = _place(operands[0]) if "ABS" in modifiers and operands else None
            return replace(found, calls=-1 if register is None else register, predicates=frozenset({"PR"}))
        if _DESCRIBED.fullmatch(name):
            return replace(found, reason="accesses memory in bulk, or through a descriptor")
        reads = _READS.fullmatch(name) is not None
        writes = _WRITES.fullmatch(name) is not None or (name == "CCTL" and "DML2" in modifiers)
        return replace(
            found,
            effects=tuple(self._effects(name, modifiers, operands)),
            halves=_halves(operands) if reads or writes else (),
            reads=reads,
            writes=writes,
            predicates=_predicates(_kind(name), operands),
        )

    def _effects(self, name: str, modifiers: list[str], operands: list[str]) -> Iterator[_Effect]:
        kind, width = _kind(name), _width(name, modifiers)
        plain = [operand for operand in operands if not _PREDICATE.fullmatch(operand)]
        if kind == "load":
            for operand in plain if name.startswith("LD") else plain[:1]:  # two if it loads 32 bytes
                if (place := _place(operand)) is None:
                    break
                yield from (_Effect(place + part, (_TAINT,)) for part in range(width if place >= 0 else 0))
        target = _place(plain[0]) if plain and kind not in ("load", "nothing") else None
        for part in range(0 if target is None or target < 0 else width):
            at = (target or 0) + part
            if kind in ("other", "matrix"):
                yield _Effect(at, (_Source(at), _TAINT), is_choice=True)
            else:
                yield _Effect(at, tuple(self._sources(kind, name, modifiers, plain[1:], part)), kind == "choice")

    def _sources(self, kind: str, name: str, modifiers: list[str], operands: list[str], part: int) -> Iterator[_Source]:
        """What a part of the target is made of."""
        is_wide = "64" in modifiers
        if kind == "constant":
            is_short = not {"U8", "S8", "U16", "S16"}.isdisjoint(modifiers)
            yield self._source(operands[0], part, 16 if is_short else 64 if is_wide else 32) if operands else _TAINT
        elif kind in ("bits", "float") or "OR" in modifiers:
            found = (self._source(operand, half) for operand in operands for half in range(1 + is_wide))
            yield from (replace(source, how="times" if kind == "float" else "bits") for source in found)
        elif kind != "number":
            scaled = _scaled(name, modifiers, operands)
            for at, operand in enumerate(operands):
                source = self._source(operand, part if is_wide or ("WIDE" in modifiers and at == 2) else 0)
                yield replace(source, how="times") if at in scaled else source

    def _source(self, operand: str, half: int, bits: int = 32) -> _Source:
        """A half of an operand; of a constant, as many bits."""
        place, how = _place(operand), "minus" if operand.startswith(("-", "~")) else ""
        if place is not None:
            return _Source(place + half if place >= 0 else -1, how=how)
        found = _CONSTANT.fullmatch(operand)
        if found is None:
            return _TAINT if "[" in operand or "@" in operand else _Source()
        bank, offset = int(found[1], 16), int(found[3] + (found[4] or "0"), 16)
        is_constant = found[2] is None or _place(found[2]) == -1
        return _Source(-1, self._constant(bank, offset, half) if is_constant else _indexed(bank, bits), how)

    def _constant(self, bank: int, offset: int, half: int) -> int:
        """What a half of a word in a constant bank is. In bank 2 are numbers of the compiler."""
        if bank != 0:
            word = (offset + 4 * half) // 8 * 8
            return {2: _NUMBER, 4: _PRIVATE if word in self.linked.variables else _LINKED}.get(bank, _TAINTED)
        offset += 4 * half
        found = self._words.get(offset) or self._words.get(offset - 4)
        is_inside = any(self._words.get(offset - at, 0) & _ROOTS for at in range(1, 8))
        return found or (_TAINTED if is_inside else _NUMBER)


_TAINT = _Source(fixed=_TAINTED)


def _indexed(bank: int, bits: int) -> int:
    """What stands in a constant bank where a register says."""
    if bank in (0, 2):
        return _NUMBER | (_SOME_HALF if bank == 0 and bits >= 32 else 0)
    return _LINKED if bank == 4 and bits == 64 else _TAINTED


def _width(name: str, modifiers: list[str]) -> int:
    """How many registers an instruction sets."""
    kind = _kind(name)
    if name == "LDTM":
        count = next((int(one[1:]) for one in modifiers if re.fullmatch(r"x\d+", one)), 1)
        return count * next((4 if "256" in one else 2 for one in modifiers if re.search("256bit|128bit", one)), 1)
    if kind == "matrix":
        shape = next((found for one in modifiers if (found := re.fullmatch(r"\d+x(\d+)x\d+", one))), None)
        return int(shape[1]) // 2 if shape else 4
    if re.fullmatch("U?[FI]2[FI]|U?FRND", name):
        result = next((one for one in modifiers if re.fullmatch(r"B?[FSU]\d+", one)), "")
        return 2 if result.endswith("64") else 1
    if name == "LDSM":
        return int(modifiers[-1]) if modifiers[-1] in ("2", "4") else 1
    if kind == "other" or "128" in modifiers or "256" in modifiers:
        return 8 if "256" in modifiers and kind == "constant" else 4
    is_pair = re.fullmatch(r"D\w+|F\w+2", name) if kind == "float" else name[:3] == "CS2" and "32" not in modifiers
    return 2 if is_pair or {"64", "WIDE"} & set(modifiers) else 1


def _scaled(name: str, modifiers: list[str], operands: list[str]) -> frozenset[int]:
    """Which operands are not added as they are, but multiplied or shifted."""
    if name.endswith("LEA"):
        return frozenset(range(len(operands))) - {1}
    if not name.endswith("IMAD"):
        return frozenset()
    if "HI" in modifiers:
        return frozenset({0, 1, 2})
    return frozenset(at for at in (0, 1) if operands[1 - at : 2 - at] not in (["0x1"], ["1"]))


def _predicates(kind: str, operands: list[str]) -> frozenset[str]:
    """The predicates that an instruction may set: those before its sources."""
    if kind == "other" or (operands and operands[0] in ("PR", "UPR")):
        return frozenset({"PR"})
    found, has_target = set(), False
    for operand in operands:
        if predicate := _PREDICATE.fullmatch(operand):
            found.add(predicate[1])
        elif has_target or _place(operand) is None:
            break
        has_target |= predicate is None
    return frozenset(found)


def _halves(operands: list[str]) -> tuple[tuple[_Source, ...], ...]:
    """What the halves of the global address are made of; of several addresses, it is the last."""
    address = next((found for operand in reversed(operands) if (found := _ADDRESS.match(operand))), None)
    terms = [(_place(register) or 0, suffix) for register, suffix in _TERM.findall(address[1] if address else "")]
    upper = (_Source(place + 1) for place, suffix in terms if "U32" not in suffix and "S32" not in suffix)
    return tuple(_Source(place) for place, _ in terms), tuple(upper)


def _accessed(step: _Step, state: Sequence[int], linked: Linked) -> tuple[int, str]:
    """What the address is made of that an instruction accesses, or why it may be any."""
    if step.calls is not None:
        is_harmless = linked.calls and step.calls >= 0 and state[step.calls] & ~_NUMBER == _LINKED
        return 0, "" if is_harmless else "goes to code that is not the kernel's"
    if not step.halves:
        return 0, step.reason
    lower, upper = (_sum(half, state) for half in step.halves)
    if any(half & _TAINTED or (half & _SUBTRACTS and half & _WITH_TAINTED) for half in (lower, upper)):
        return 0, "accesses an address that may come from memory, or from bits of a pointer"
    if not lower & ~_NUMBER:
        return 0, ""  # a null pointer: no thread comes here
    roots = (lower | upper) & _ROOTS
    if roots & _LINKED or (roots & _PRIVATE and step.writes):
        return 0, "accesses a variable of its module"
    return roots, ""


def _ways(instructions: Sequence[Instruction]) -> FlowGraph:
    """The control flow, with the returns: they go behind all relative calls, and nothing else does."""
    names = [one.opcode.partition(".")[0] for one in instructions]
    calls = [at for at, one in enumerate(instructions[:-1]) if names[at] == "CALL" and one.targets]
    ways = dict(enumerate(flow_graph(instructions).successors))
    if "RET" in names:
        ways |= {at: tuple(to for to in ways[at] if to != at + 1) for at in calls if not instructions[at].predicated}
    behind = tuple(at + 1 for at in calls)
    ways |= {at: tuple(dict.fromkeys((*ways[at], *behind))) for at, name in enumerate(names) if name == "RET"}
    return FlowGraph(tuple(ways.values()))


def _blocks(graph: FlowGraph) -> Mapping[int, range]:
    """Instructions that follow each other without other ways in or out, by the first of them."""
    begin, found = 0, {}
    for index in sorted(graph.order):
        if index == 0 or graph.predecessors[index] != (index - 1,) or len(graph.successors[index - 1]) != 1:
            begin = index
        found[begin] = range(begin, index + 1)
    return found


class _Registers:
    """What registers hold, whatever the predicates are; and if that holds under which one was set."""

    def __init__(self, values: Sequence[int], guarded: Mapping[int, tuple[str, int]]) -> None:
        self.values = list(values)
        self.guarded = dict(guarded)

    def seen_by(self, step: _Step) -> Sequence[int]:
        """What they hold when an instruction is executed."""
        if not step.guard or not self.guarded:
            return self.values
        found = self.values.copy()
        for place, (guard, value) in self.guarded.items():
            found[place] = value if guard == step.guard else found[place]
        return found

    def execute(self, step: _Step) -> None:
        """What they hold after it."""
        seen = self.seen_by(step)
        for effect, value in [(effect, effect.value(seen)) for effect in step.effects]:
            guard, other = self.guarded.pop(effect.target, ("", 0))
            if step.guard:
                is_other_case = guard != step.guard and guard.lstrip("!") == step.guard.lstrip("!")
                self.guarded[effect.target] = step.guard, value
                value |= other if is_other_case else self.values[effect.target]
            self.values[effect.target] = value
        if step.predicates and self.guarded:
            kept = {at: (guard, value) for at, (guard, value) in self.guarded.items() if not step.may_set(guard)}
            self.guarded = kept

    def join(self, other: _Registers) -> bool:
        """Makes them those of either way; whether that changes them."""
        values = [one | two for one, two in zip(self.values, other.values, strict=True)]
        guarded = {
            at: (guard, value | other.guarded[at][1])
            for at, (guard, value) in self.guarded.items()
            if at in other.guarded and other.guarded[at][0] == guard
        }
        is_changed = values != self.values or guarded != self.guarded
        self.values, self.guarded = values, guarded
        return is_changed


def _states(steps: Sequence[_Step], graph: FlowGraph) -> Iterator[tuple[int, Sequence[int]]]:
    """Each instruction that may be executed, and what it sees in the registers, at the fixpoint."""
    blocks = _blocks(graph)
    rank = {index: number for number, index in enumerate(graph.order)}
    before = {0: _Registers([_NUMBER] * _PLACES, {})} if steps else {}
    waiting = list(before)  # ranks
    while waiting:
        begin = graph.order[heapq.heappop(waiting)]
        after = _Registers(before[begin].values, before[begin].guarded)
        for index in blocks[begin]:
            after.execute(steps[index])
        for target in graph.successors[blocks[begin][-1]]:
            is_new = target not in before
            is_changed = before.setdefault(target, _Registers(after.values, after.guarded)).join(after)
            if (is_new or is_changed) and rank[target] not in waiting:
                heapq.heappush(waiting, rank[target])
    for begin in sorted(before):
        for index in blocks[begin]:
            yield index, before[begin].seen_by(steps[index])
            before[begin].execute(steps[index])

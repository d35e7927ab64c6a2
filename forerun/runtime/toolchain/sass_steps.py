"""What machine instructions do to values in registers that addresses are made of; see :mod:`.sass_reach`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from forerun.runtime.toolchain.instruction import Instruction

__all__ = [
    "FIRST",
    "LINKED",
    "NULL",
    "NUMBER",
    "PLACES",
    "PRIVATE",
    "ROOTS",
    "SOME_HALF",
    "SUBTRACTS",
    "TAINTED",
    "WITH_TAINTED",
    "Effect",
    "Linked",
    "Reader",
    "Source",
    "Step",
    "sum_of",
]

# A value in bits: its alternatives (a word that is 0 is told apart from other numbers); what is true of a rooted one;
# what that is made of: variables of the module, what else is linked, half of some parameter, and the pointers.
NUMBER, TAINTED, NULL, SUBTRACTS, WITH_TAINTED = 1, 2, 4, 8, 16
PRIVATE, LINKED, SOME_HALF, FIRST = 32, 64, 128, 8
_NUMBERS, ROOTS = NUMBER | NULL, -32

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
_UNIFORM, PLACES = 256, 512  # the place of UR0, that of R0 being 0; and how many there are


@dataclass(frozen=True, slots=True)
class Linked:
    """What stands in constant bank 4, where a module has the addresses of its variables and functions.

    Attributes:
        calls: Whether all functions there are the driver's, and none of them touches memory of the program.
        variables: Where the addresses of variables stand that only code of the module can name.
    """

    calls: bool = False
    variables: frozenset[int] = frozenset()


@dataclass(slots=True)  # not frozen: large kernels have 100,000
class Source:
    """Where a value comes from: a register, or it is fixed; and what is done with it.

    ``how`` is empty for what is added as it is, ``minus``, ``times`` (or a floating-point operation), or ``bits``.
    """

    place: int = -1
    fixed: int = NUMBER
    how: str = ""

    def value(self, state: Sequence[int]) -> int:
        """What becomes of it in a state of the registers."""
        found = self.fixed if self.place < 0 else state[self.place]
        if self.how == "minus":
            return found | SUBTRACTS if found & ROOTS else found
        if not self.how:
            return found
        half = found & SOME_HALF
        is_tainted = found & (TAINTED | ROOTS & ~SOME_HALF)
        kept = half if self.how == "bits" else 0
        return kept | (NUMBER if half or found & _NUMBERS else 0) | (TAINTED if is_tainted else 0)


def sum_of(sources: Sequence[Source], state: Sequence[int]) -> int:
    """The value of a sum: each alternative of each with each of the others."""
    total = NUMBER
    for source in sources:
        other = source.value(state)
        if NUMBER in (total, other):  # the other of both
            total = other if total == NUMBER else total
            continue
        found = total & other & (_NUMBERS | TAINTED) | (total | other) & (ROOTS | SUBTRACTS | WITH_TAINTED)
        for one, two in ((total, other), (other, total)):
            found |= NULL if one & NULL and two & NUMBER else 0
            found |= TAINTED if one & TAINTED and two & _NUMBERS else 0
            found |= WITH_TAINTED if one & TAINTED and two & ROOTS else 0
        total = found
    return total


@dataclass(slots=True)  # not frozen: large kernels have 100,000
class Effect:
    """A register that is set to a sum, or to one of several values."""

    target: int
    sources: tuple[Source, ...]
    is_choice: bool = False

    def value(self, state: Sequence[int]) -> int:
        """What it is set to, from a state of the registers."""
        if not self.is_choice:
            return sum_of(self.sources, state)
        found = 0
        for source in self.sources:
            found |= source.value(state)
        return found


@dataclass(slots=True)  # not frozen: large kernels have 100,000
class Step:
    """An instruction: what it sets, and the halves of the address that it accesses.

    It may go to other code, whose address a register has (none: -1), or be unknown for a reason. It is executed under a
    predicate, or always, and may set predicates (``PR`` are all).
    """

    effects: tuple[Effect, ...] = ()
    halves: tuple[tuple[Source, ...], ...] = ()
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


@dataclass(frozen=True, slots=True)
class _Opcode:
    """What an opcode alone tells.

    ``width`` is how many registers it sets; ``touches`` whether it reads and whether it writes global memory.
    """

    name: str
    modifiers: tuple[str, ...]
    kind: str
    width: int
    touches: tuple[bool, bool]
    is_described: bool

    @property
    def is_wide(self) -> bool:
        return "64" in self.modifiers


@lru_cache(4096)
def _opcode(text: str) -> _Opcode:
    name, *modifiers = text.split(".")
    reads = _READS.fullmatch(name) is not None
    writes = _WRITES.fullmatch(name) is not None or (name == "CCTL" and "DML2" in modifiers)
    is_described = _DESCRIBED.fullmatch(name) is not None
    return _Opcode(name, tuple(modifiers), _kind(name), _width(name, modifiers), (reads, writes), is_described)


@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand as it is written.

    Attributes:
        text: All of it.
        place: Of a register; -1 for one that is constant, ``None`` if it is none.
        predicate: The predicate that it is, or nothing.
        how: What is done with it.
        constant: Bank and offset if it is a word of a constant bank, and whether a register moves the offset.
    """

    text: str
    place: int | None
    predicate: str
    how: str
    constant: tuple[int, int, bool] | None


@lru_cache(1 << 15)
def _operand(text: str) -> _Operand:
    """Programs have few different operands, and many instructions."""
    predicate = _PREDICATE.fullmatch(text)
    how = "minus" if text.startswith(("-", "~")) else ""
    found = _CONSTANT.fullmatch(text)
    constant = None
    if found is not None:
        is_indexed = found[2] is not None and _place(found[2]) != -1
        constant = int(found[1], 16), int(found[3] + (found[4] or "0"), 16), is_indexed
    return _Operand(text, _place(text), predicate[1] if predicate else "", how, constant)


@lru_cache(4096)
def _place(operand: str) -> int | None:
    """The place of a register; -1 for one that is constant, ``None`` if the operand is none."""
    found = _REGISTER.fullmatch(operand)
    if found is None:
        return None
    return -1 if found[2] == "Z" else int(found[2]) + (_UNIFORM if found[1] == "UR" else 0)


class Reader:
    """Reads instructions.

    Args:
        words: What the words in constant bank 0 are that hold pointers, or nothing.
        linked: What is known of constant bank 4.
    """

    def __init__(self, words: Mapping[int, int], linked: Linked) -> None:
        self.linked = linked
        self._words = words

    def step(self, instruction: Instruction) -> Step:
        """What an instruction does to registers and global memory."""
        code = _opcode(instruction.opcode)
        guard = _GUARD.match(instruction.text)
        rest = instruction.text[guard.end() if guard else 0 :].partition(" ")[2]
        operands = [_operand(stripped) for text in rest.split(",") if (stripped := text.strip())]
        guarded = guard[1] if guard and instruction.predicated else ""
        if code.name in ("CALL", "BRA", "JMP") and not instruction.targets:
            register = operands[0].place if "ABS" in code.modifiers and operands else None
            calls = -1 if register is None else register
            return Step(calls=calls, guard=guarded, predicates=_ALL_PREDICATES)
        if code.is_described:
            return Step(reason="accesses memory in bulk, or through a descriptor", guard=guarded)
        reads, writes = code.touches
        halves = _halves(operands) if reads or writes else ()
        predicates = _predicates(code.kind, operands)
        return Step(tuple(self._effects(code, operands)), halves, reads, writes, None, "", guarded, predicates)

    def _effects(self, code: _Opcode, operands: list[_Operand]) -> Iterator[Effect]:
        plain = [operand for operand in operands if not operand.predicate]
        if code.kind == "load":
            for operand in plain if code.name.startswith("LD") else plain[:1]:  # two if it loads 32 bytes
                place = operand.place
                if place is None:
                    break
                yield from (Effect(place + part, (_TAINT,)) for part in range(code.width if place >= 0 else 0))
        target = plain[0].place if plain and code.kind not in ("load", "nothing") else None
        for part in range(0 if target is None or target < 0 else code.width):
            at = (target or 0) + part
            if code.kind in ("other", "matrix"):
                yield Effect(at, (Source(at), _TAINT), is_choice=True)
            else:
                yield Effect(at, tuple(self._sources(code, plain[1:], part)), code.kind == "choice")

    def _sources(self, code: _Opcode, operands: list[_Operand], part: int) -> Iterator[Source]:
        """What a part of the target is made of."""
        kind, modifiers = code.kind, code.modifiers
        if kind == "constant":
            is_short = not {"U8", "S8", "U16", "S16"}.isdisjoint(modifiers)
            bits = 16 if is_short else 64 if code.is_wide else 32
            yield self._source(operands[0], part, bits) if operands else _TAINT
        elif kind in ("bits", "float") or "OR" in modifiers:
            how = "times" if kind == "float" else "bits"
            yield from (self._source(one, half, how=how) for one in operands for half in range(1 + code.is_wide))
        elif kind != "number":
            scaled = _scaled(code, operands)
            for at, operand in enumerate(operands):
                half = part if code.is_wide or ("WIDE" in modifiers and at == 2) else 0
                yield self._source(operand, half, how="times" if at in scaled else "")

    def _source(self, operand: _Operand, half: int, bits: int = 32, how: str = "") -> Source:
        """A half of an operand; of a constant, as many bits; and what is done with it, if that is not only its sign."""
        if operand.place is not None:
            return Source(operand.place + half if operand.place >= 0 else -1, how=how or operand.how)
        if operand.constant is None:
            return Source(fixed=TAINTED if "[" in operand.text or "@" in operand.text else NUMBER, how=how)
        bank, offset, is_indexed = operand.constant
        found = _indexed(bank, bits) if is_indexed else self._constant(bank, offset, half)
        return Source(-1, found, how or operand.how)

    def _constant(self, bank: int, offset: int, half: int) -> int:
        """What a half of a word in a constant bank is. In bank 2 are numbers of the compiler."""
        if bank != 0:
            word = (offset + 4 * half) // 8 * 8
            return {2: NUMBER, 4: PRIVATE if word in self.linked.variables else LINKED}.get(bank, TAINTED)
        offset += 4 * half
        found = self._words.get(offset) or self._words.get(offset - 4)
        is_inside = any(self._words.get(offset - at, 0) & ROOTS for at in range(1, 8))
        return found or (TAINTED if is_inside else NUMBER)


_TAINT = Source(fixed=TAINTED)
_ALL_PREDICATES = frozenset({"PR"})


def _indexed(bank: int, bits: int) -> int:
    """What stands in a constant bank where a register says."""
    if bank in (0, 2):
        return NUMBER | (SOME_HALF if bank == 0 and bits >= 32 else 0)
    return LINKED if bank == 4 and bits == 64 else TAINTED


def _width(name: str, modifiers: Sequence[str]) -> int:
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


def _scaled(code: _Opcode, operands: Sequence[_Operand]) -> frozenset[int]:
    """Which operands are not added as they are, but multiplied or shifted."""
    if code.name.endswith("LEA"):
        return frozenset(range(len(operands))) - {1}
    if not code.name.endswith("IMAD"):
        return frozenset()
    if "HI" in code.modifiers:
        return frozenset({0, 1, 2})
    return frozenset(at for at in (0, 1) if [one.text for one in operands[1 - at : 2 - at]] not in (["0x1"], ["1"]))


def _predicates(kind: str, operands: Sequence[_Operand]) -> frozenset[str]:
    """The predicates that an instruction may set: those before its sources."""
    if kind == "other" or (operands and operands[0].text in ("PR", "UPR")):
        return _ALL_PREDICATES
    found, has_target = set(), False
    for operand in operands:
        if operand.predicate:
            found.add(operand.predicate)
        elif has_target or operand.place is None:
            break
        else:
            has_target = True
    return frozenset(found)


def _halves(operands: Sequence[_Operand]) -> tuple[tuple[Source, ...], ...]:
    """What the halves of the global address are made of; of several addresses, it is the last."""
    address = next((found for operand in reversed(operands) if (found := _ADDRESS.match(operand.text))), None)
    terms = [(_place(register) or 0, suffix) for register, suffix in _TERM.findall(address[1] if address else "")]
    upper = (Source(place + 1) for place, suffix in terms if "U32" not in suffix and "S32" not in suffix)
    return tuple(Source(place) for place, _ in terms), tuple(upper)

"""A machine for PTX on whole numbers, one thread at a time, and programs for it: the oracle of the analyses."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hypothesis import strategies as st

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.opcodes import writes
from forerun.ptx.operands import Address, Immediate, Operand, Register, Symbol, Vector
from forerun.ptx.syntax import Instruction
from forerun.ptx.values import Term, Value

__all__ = ["Thread", "programs"]


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def extended(value: int, type_: str) -> int:
    bits = int(type_[1:])
    return signed(value, bits) if type_[0] == "s" else value & (1 << bits) - 1


BINARY: Mapping[str, Callable[[int, int], int]] = {
    "add": int.__add__,
    "sub": int.__sub__,
    "mul": int.__mul__,
    "and": int.__and__,
    "or": int.__or__,
    "xor": int.__xor__,
    "min": min,
    "max": max,
    "rem": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1) if b else 0,
    "div": lambda a, b: abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1) if b else 0,
    "mul.hi": lambda a, b: a * b >> 32,
    "shl": lambda a, b: a << min(b, 64),
    "shr": lambda a, b: a >> min(b, 64),
    "sar": lambda a, b: a >> min(b, 64),
}


@dataclass
class Thread:
    """One thread: where it is told what special registers and parameters are, and what it has seen so far."""

    flow: ControlFlow
    special: Mapping[str, int]
    parameters: Mapping[str, int]
    registers: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # by the names of terms
    turns: dict[int, int] = field(default_factory=dict)
    trace: list[tuple[int, tuple[tuple[str, int], ...]]] = field(default_factory=list)

    def run(self, at_access: Callable[[Thread, int, int], None], *, most: int = 3000) -> None:
        """Run to the end, or that many steps; tell of each address: instruction, operand."""
        block, steps = 0, 0
        while block is not None and steps < most:
            for name, value in self.registers.items():
                self.seen[f"phi {block}:{name}"] = value
            written = []
            for index in self.flow.blocks[block]:
                steps += 1
                one = self.flow.instructions[index]
                for name, value in self.registers.items():
                    self.seen[f"{index}:{name} read"] = self.seen[f"{index}:{name} before"] = value
                if one.base in ("bra", "ret"):
                    continue
                for number, operand in enumerate(one.operands):
                    if isinstance(operand, Address) and isinstance(operand.base, Register) and self.passes(one):
                        at_access(self, index, number)
                if self.passes(one):
                    self.execute(one, index)
                for name in (register.name for register in writes(one)):
                    self.seen[f"{index}:{name}"] = self.seen[str(index)] = self.registers.get(name, 0)
                    written.append((name, self.registers.get(name, 0)))
            self.trace.append((block, tuple(written)))
            block = self.next_block(block)

    def next_block(self, block: int) -> int | None:
        last = self.flow.branch_of(block)
        after = self.flow.graph.successors[block]
        if last.base == "ret" and self.passes(last):
            return None
        if not after:
            return None
        target = after[0] if last.base == "bra" and self.passes(last) else after[-1]
        for loop in self.flow.graph.loops:
            if loop.header == target:
                self.turns[target] = self.turns[target] + 1 if block in loop.nodes else 0
        return target

    def passes(self, one: Instruction) -> bool:
        if one.guard is None:
            return True
        return bool(self.registers.get(one.guard.register.name, 0)) != one.guard.negated

    def value(self, operand: Operand) -> int:
        match operand:
            case Immediate():
                assert isinstance(operand.value, int)
                return operand.value
            case Register():
                return self.special[operand.name] if operand.name in self.special else self.registers[operand.name]
            case Vector():
                return sum(self.value(item) << 32 * number for number, item in enumerate(operand.items))
        raise AssertionError(operand)

    def execute(self, one: Instruction, index: int) -> None:
        base, types = one.base, [part for part in one.parts if part[0] in "bsu" and part[1:].isdigit()]
        if base == "st":
            return
        if base == "ld":
            address = one.operands[1]
            assert isinstance(address, Address)
            loaded = self.parameters[str(address.base)] if isinstance(address.base, Symbol) else index * 77
            self.write(one.operands[0], loaded)
            return
        types = types or ["u1"]  # of predicates
        values = [extended(self.value(o), types[-1]) for o in one.operands[1:3]]
        bits = int(types[-1][1:])
        match base:
            case "mov":
                self.write(one.operands[0], self.value(one.operands[1]), bits)
            case "cvta":
                self.write(one.operands[0], values[0])
            case "cvt":
                self.write(one.operands[0], values[0], int(types[0][1:]))
            case "setp":
                self.write(one.operands[0], int(getattr(operator, one.parts[1])(*values)))
            case "selp":
                self.write(one.operands[0], values[0] if self.value(one.operands[3]) else values[1], bits)
            case "mad":
                wide = 2 * bits if "wide" in one.parts else bits
                self.write(one.operands[0], values[0] * values[1] + self.value(one.operands[3]), wide)
            case "shl" | "shr":
                values[1] = self.value(one.operands[2]) & 0xFFFFFFFF
                self.write(one.operands[0], BINARY[base](*values), bits)
            case "neg" | "not":
                self.write(one.operands[0], -values[0] - (base == "not"), bits)
            case _:
                base = "mul.hi" if "hi" in one.parts else base
                self.write(one.operands[0], BINARY[base](*values), 2 * bits if "wide" in one.parts else bits)

    def write(self, target: Operand, value: int, bits: int = 64) -> None:
        if isinstance(target, Vector):
            for number, item in enumerate(target.items):
                if isinstance(item, Register):
                    self.write(item, value >> 32 * number, 32)
            return
        assert isinstance(target, Register)
        own = int(self.flow.types[target.name][2:]) if self.flow.types[target.name] != ".pred" else 1
        self.registers[target.name] = value & (1 << min(bits, own)) - 1

    # What terms are now

    def of(self, value: Value) -> int:
        return (sum(self.of_term(term) * factor for term, factor in value.terms) + value.constant) % (1 << value.bits)

    def of_term(self, term: Term) -> int:
        found = self._of_term(term) % (1 << term.bits)
        assert found <= term.high, term
        assert not found & ~term.mask, term
        return found

    def _of_term(self, term: Term) -> int:
        if term.kind == "param":
            return self.parameters[term.name]
        if term.kind == "special":
            return self.special[term.name]
        if term.kind == "turn":
            return self.turns[int(term.name)]
        if term.kind != "op":
            return self.seen[f"phi {term.name}" if term.kind == "phi" else term.name]
        operands = [self.of(operand) for operand in term.operands]
        for operand, number in zip(term.operands, operands, strict=True):
            low, high = operand.interval
            assert not number & ~operand.mask, operand
            first = low + (number - low) % (1 << operand.bits)
            assert first <= high, operand
        name, _, type_ = term.name.rpartition(".") if "." in term.name else (term.name, "", "")
        if name in ("zext", "sext"):
            return signed(operands[0], int(type_)) if name == "sext" else operands[0]
        if name == "sar" or type_.startswith("s"):
            operands[0] = signed(operands[0], term.bits)
            if name in ("min", "max", "div", "rem", "mul.hi"):
                operands[1] = signed(operands[1], term.bits)
        return BINARY[name](*operands)


# Programs

SHORT = ["%r0", "%r1", "%r2", "%tid.x", "%ctaid.x", "%ntid.x"]
NUMBERS = ["0", "1", "-1", "3", "4", "5", "31", "96", "508", "1024", "-8", "65535", "0x7fffffff", "0x80000000"]
LONG = ["%rd0", "%rd1", "%rd2"]
HEAD = """\
.version 9.0
.target sm_90
.entry k(.param .u64 .ptr .global a, .param .u64 b, .param .u32 n)
{
\t.reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .pred %p<3>; .reg .b32 %c<9>;
\tld.param.u64 %rd0, [a];
\tld.param.u64 %rd1, [b];
\tcvta.to.global.u64 %rd1, %rd1;
\tmov.u64 %rd2, 0;
\tld.param.u32 %r0, [n];
\tmov.u32 %r1, %tid.x;
\tmov.u32 %r2, %ctaid.x;
\tsetp.lt.u32 %p0, %r1, 2;
\tsetp.eq.u32 %p1, %r2, 0;
"""


FIELDS = {
    "arithmetic": ["add", "sub", "mul.lo", "min", "max"],
    "logic": ["and", "or", "xor"],
    "guard": ["", "", "", "@%p0 ", "@!%p1 "],
    "sign": ["s", "u"],
    "to": SHORT[:3],
    "short": SHORT,
    "either": SHORT + NUMBERS,
    "long": LONG,
    "distance": ["1", "2", "5", "7", "31", "40", "%r2"],
    "addend": [*LONG, "16", "-4"],
    "predicate": ["%p0", "%p1"],
}
INSTRUCTIONS = [
    *["<guard><arithmetic>.<sign>32 <to>, <short>, <either>", "<guard><logic>.b32 <to>, <short>, <either>"] * 3,
    *["<guard>shl.b32 <to>, <short>, <distance>", "<guard>shr.<sign>32 <to>, <short>, <distance>"] * 2,
    "<guard>mad.lo.s32 <to>, <short>, <either>, <short>",
    "<guard>rem.u32 <to>, <short>, 12",
    "<guard>selp.b32 <to>, <short>, <either>, <predicate>",
    "<guard>neg.s32 <to>, <short>",
    "<guard>not.b32 <to>, <short>",
    "<guard>cvt.u32.u64 <to>, <long>",
    "setp.lt.<sign>32 <predicate>, <short>, <either>",
    "<guard>mul.wide.<sign>32 <long>, <short>, <either>",
    "<guard>mad.wide.<sign>32 <long>, <short>, <either>, <long>",
    "<guard>cvt.<sign>64.<sign>32 <long>, <short>",
    "<guard>add.s64 <long>, <long>, <addend>",
    "<guard>sub.s64 <long>, <long>, <long>",
    "<guard>shl.b64 <long>, <long>, 2",
    "<guard>selp.b64 <long>, <long>, <long>, <predicate>",
    "<guard>mov.b64 <long>, {<short>, <short>}",
    "<guard>mov.b64 {%r0, %r1}, <long>",
    "<guard>mov.b64 {_, <to>}, <long>",
    "<guard>ld.global.u32 <to>, [<long>+4]",
    "<guard>st.global.u32 [<long>+-8], <short>",
]


@st.composite
def instructions(draw: st.DrawFn) -> str:
    """One instruction, under a guard at times."""
    one = draw(st.sampled_from(INSTRUCTIONS))
    sign = draw(st.sampled_from(FIELDS["sign"]))
    one = one.replace("<sign>", sign)
    return "\t" + re.sub(r"<(\w+)>", lambda match: draw(st.sampled_from(FIELDS[match[1]])), one) + ";\n"


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A kernel with branches and loops that end."""
    labels = iter(range(1000))
    counters = iter(range(9))

    def several(depth: int) -> Iterator[str]:
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from(["one", "one", "one", "if", "loop", "early"])) if depth < 3 else "one"
            label = f"$L{next(labels)}"
            counter = next(counters, None) if kind == "loop" else None
            if kind == "if":
                yield f"\t@{draw(st.sampled_from(['%p0', '!%p0', '%p1']))} bra {label};\n"
                yield from several(depth + 1)
                if draw(st.booleans()):
                    yield f"\tbra {label}e;\n{label}:\n"
                    yield from several(depth + 1)
                    yield f"{label}e:\n"
                else:
                    yield f"{label}:\n"
            elif counter is not None:
                yield f"\tmov.u32 %c{counter}, 0;\n{label}:\n"
                yield from several(depth + 1)
                yield f"\tst.global.u32 [%rd{draw(st.integers(0, 2))}], %r0;\n"
                yield f"\tadd.s64 %rd{draw(st.integers(0, 2))}, %rd{draw(st.integers(0, 2))}, 24;\n"
                limit = draw(st.sampled_from(["2", "3", "%tid.x", "%ctaid.x"]))
                yield f"\tadd.s32 %c{counter}, %c{counter}, 1;\n\tsetp.lt.u32 %p2, %c{counter}, {limit};\n"
                yield f"\t@%p2 bra {label};\n"
            elif kind == "early" and depth:
                yield "\t@%p0 ret;\n"
            else:
                one = draw(instructions())
                yield one
                written = re.search(r"%r\d", one.partition(".")[2])
                if written:  # look at what it leaves there
                    yield f"\tcvt.u64.u32 %rd3, {written[0]};\n\tst.global.u32 [%rd3], %r0;\n"

    return HEAD + "".join(several(0)) + "\tst.global.u32 [%rd0], %r0;\n\tst.global.u32 [%rd1], %r1;\n\tret;\n}\n"

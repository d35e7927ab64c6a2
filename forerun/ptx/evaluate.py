"""What one instruction makes of integers: sums where it is one, else an operation or a result that is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from forerun.ptx.opcodes import COMPUTING, type_bits
from forerun.ptx.operands import Address, Operand, Symbol, Vector
from forerun.ptx.syntax import Instruction
from forerun.ptx.values import Term, Terms, Value

__all__ = ["Evaluator"]

Read = Callable[[Operand, int], Value | None]
"""What an operand is worth, with that many bits; ``None`` if it is not a whole number."""

# Each depends on more than its operands: lanes, carries, predicates, or several results.
_NOT_OPERATIONS = frozenset(
    [
        "activemask",
        "addc",
        "createpolicy",
        "elect",
        "getctarank",
        "istypep",
        "isspacep",
        "madc",
        "mapa",
        "match",
        "mma",
        "movmatrix",
        "redux",
        "set",
        "setp",
        "shfl",
        "slct",
        "stacksave",
        "subc",
        "testp",
        "vote",
        "wmma",
    ]
)


class Evaluator:
    """Evaluates the instructions of one entry.

    Args:
        terms: Where terms are made.
        parameters: The bytes of each parameter of the entry, by name.
        pointers: Gets the terms that are certainly pointers: those that ``cvta`` takes.
    """

    def __init__(self, terms: Terms, parameters: Mapping[str, int], pointers: set[Term]) -> None:
        self.terms = terms
        self.parameters = parameters
        self.pointers = pointers

    def result(self, one: Instruction, index: int, read: Read) -> tuple[Value | None, ...] | None:
        """What the instruction leaves in the registers of its first operand; ``None`` if that is not known."""
        types = [part for part in one.parts[1:] if type_bits(part)]
        is_whole = all(part[0] in "bsu" and part[1:].isdigit() for part in types)
        if one.opcode.startswith("ld.param"):
            return self._parameter(one, types, read)
        if not types or not is_whole or ".sat" in one.opcode or ".cc" in one.opcode:
            return None
        bits = type_bits(types[-1])
        if one.base == "mov" and len(one.operands) == 2:
            return self._moved(one, bits, read)
        values = [read(operand, bits) for operand in one.operands[1:]]
        found = self._computed(one, index, types, values, read)
        return None if found is None else (found,)

    def _computed(
        self, one: Instruction, index: int, types: list[str], values: list[Value | None], read: Read
    ) -> Value | None:
        bits, parts, terms = type_bits(types[-1]), one.parts, self.terms
        is_signed = types[-1][0] == "s"
        match one.base, values:
            case "cvt", [Value() as a]:
                return self._converted(a, types)
            case "cvta", [Value() as a]:
                return self._generic(one, a)
            case "add", [Value() as a, Value() as b]:
                return a.plus(b)
            case "sub", [Value() as a, Value() as b]:
                return a.minus(b)
            case "neg", [Value() as a]:
                return a.times(-1)
            case "not", [Value() as a]:
                return a.times(-1).plus(Value(bits, (), (1 << bits) - 1))
            case (("and" | "or" | "xor"), [Value() as a, Value() as b]):
                return terms.combined(one.base, a, b)
            case "mul" | "mad", [Value() as a, Value() as b, *_] if "wide" in parts:
                wide = terms.sign_extended if is_signed else terms.zero_extended
                product = terms.product(wide(a, 2 * bits), wide(b, 2 * bits))
                return self._added(product, one, read)
            case "mul" | "mad", [Value() as a, Value() as b, *_] if "lo" in parts:
                return self._added(terms.product(a, b), one, read)
            case (("shl" | "shr"), [Value() as a, _]):
                return self._shifted(one, a, read(one.operands[2], 32), is_signed)
            case "selp", [Value() as a, Value() as b, *_]:
                if a == b:
                    return a
                return Value(bits, ((terms.term("select", str(index), bits, operands=(a, b)), 1),))
        return self._operation(one, bits, values)

    def _operation(self, one: Instruction, bits: int, values: list[Value | None]) -> Value | None:
        known = [value for value in values if value is not None]
        if one.base not in COMPUTING or one.base in _NOT_OPERATIONS or len(known) < len(values) or "wide" in one.parts:
            return None
        last = known[-1].known
        high = None
        if one.base == "rem" and "s" not in one.parts[-1] and last:
            high = last - 1
        elif one.base == "bfe" and "s" not in one.parts[-1] and last is not None:
            high = (1 << min(last & 255, bits)) - 1
        elif one.base == "min" and "s" not in one.parts[-1]:
            high = min((value.interval[1] for value in known if value.interval[0] >= 0), default=None)
        return self.terms.op(one.opcode, bits, *known, high=high)

    def _added(self, product: Value, one: Instruction, read: Read) -> Value | None:
        if one.base == "mul":
            return product
        last = read(one.operands[3], product.bits) if len(one.operands) > 3 else None
        return None if last is None else product.plus(last)

    def _shifted(self, one: Instruction, a: Value, by: Value | None, is_signed: bool) -> Value | None:
        if by is None:
            return None
        distance = by.known
        if distance is None:
            return self.terms.op(one.opcode, a.bits, a, by)
        distance = min(distance, a.bits)
        if one.base == "shl":
            return a.times(1 << distance)
        low, high = a.interval
        if is_signed and not (low >= 0 and high < 1 << (a.bits - 1)):
            return self.terms.op("sar", a.bits, a, Value(a.bits, (), distance))
        return self.terms.shifted_right(a, distance)

    def _converted(self, a: Value, types: list[str]) -> Value | None:
        if len(types) != 2:
            return None
        target, source = type_bits(types[0]), type_bits(types[1])
        if target <= source:
            return a.to(target)
        return self.terms.sign_extended(a, target) if types[1][0] == "s" else self.terms.zero_extended(a, target)

    def _generic(self, one: Instruction, a: Value) -> Value | None:
        """Generic addresses of global memory are those in its window, so they stay as they are."""
        parts = one.parts
        is_to = parts[1] == "to"
        space = parts[2 if is_to else 1].partition("::")[0]
        if space == "global":
            if a.single is not None:
                self.pointers.add(a.single)
            return a
        if not is_to:
            return Value(a.bits, ((self.terms.term("generic", space, a.bits, operands=(a,)), 1),))
        term = a.single
        if term is not None and term.kind == "generic" and term.name == space:
            return term.operands[0]
        return self.terms.op(one.opcode, a.bits, a)

    def _parameter(self, one: Instruction, types: list[str], read: Read) -> tuple[Value | None, ...] | None:
        place = self._parameter_at(one.operands[1], read) if len(one.operands) > 1 else None
        if place is None:
            return None
        (name, begin), bits = place, type_bits(types[-1]) if types else 0
        targets = one.operands[0].items if isinstance(one.operands[0], Vector) else (one.operands[0],)
        end = begin + bits // 8 * len(targets)
        if name not in self.parameters or not 0 <= begin < end <= self.parameters[name]:
            return None
        if not types[-1][1:].isdigit() or types[-1][0] == "f" or bits < 16:
            return None
        steps = range(begin, end, bits // 8)
        return tuple(self.terms.value("param", name, bits, offset=offset) for offset in steps)

    def _parameter_at(self, address: Operand, read: Read) -> tuple[str, int] | None:
        """The name of a parameter, and the distance from its begin, where an address says both: in a register, too."""
        if not isinstance(address, Address) or address.base is None or address.offset is None:
            return None
        if isinstance(address.base, Symbol):
            return address.base.name, address.offset
        match read(address.base, 64):
            case Value(64, ((Term("variable", name), 1),), constant) as value:
                return name, value.signed(constant) + address.offset
        return None

    def _moved(self, one: Instruction, bits: int, read: Read) -> tuple[Value | None, ...] | None:
        target, source = one.operands[0], one.operands[1]
        count = max((len(operand.items) for operand in (target, source) if isinstance(operand, Vector)), default=1)
        part = bits // count
        if part not in (8, 16, 32, 64, 128):
            return None
        if isinstance(target, Vector):
            whole = read(source, bits)
            if whole is None:
                return None
            return tuple(self.terms.shifted_right(whole, i * part).to(part) for i in range(len(target.items)))
        if isinstance(source, Vector):
            pieces = [read(item, part) for item in source.items]
            found = Value(bits)
            for number, piece in enumerate(pieces):
                if piece is None:
                    return None
                found = found.plus(self.terms.zero_extended(piece, bits).times(1 << number * part))
            return (found,)
        return (read(source, bits),)

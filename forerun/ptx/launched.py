"""Values at one launch: grid, block, scalar parameters and numbers of turns put into sums, which then say more.

What may overflow at some launch often cannot at this one: ``sext.32(1024*%ctaid.x + %tid.x)`` is its operand when the
grid is small. So sums are made once more, from the bottom, with the limits that the launch gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from forerun.ptx.provenance import Provenance
from forerun.ptx.values import Term, Terms, Value, summed

__all__ = ["AtLaunch", "LaunchedValues"]

_MOST_TERMS = 64
"""Longer sums count as unknown, as in :mod:`forerun.ptx.provenance`."""


@dataclass(frozen=True)
class AtLaunch:
    """What is fixed when a kernel is launched.

    Attributes:
        grid: CTAs in x, y and z.
        block: Threads of a CTA in x, y and z.
        parameters: The bytes of parameters, by name; those that are not there are unknown.
    """

    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    parameters: Mapping[str, bytes] = field(default_factory=dict)

    def special(self, name: str) -> tuple[int, int] | None:
        """The least and the greatest value of a special register; ``None`` if the launch does not say."""
        register, _, axis = name.partition(".")
        sizes = {"%tid": self.block, "%ntid": self.block, "%ctaid": self.grid, "%nctaid": self.grid}.get(register)
        if sizes is None or axis not in ("x", "y", "z"):
            return None
        size = sizes["xyz".index(axis)]
        return (size, size) if register in ("%ntid", "%nctaid") else (0, size - 1)


class LaunchedValues:
    """Makes values at a launch.

    Args:
        provenance: Of the kernel.
        launch: The launch.
        turns: How often each loop goes back to its header at most, by header, as far as that is known.
    """

    def __init__(self, provenance: Provenance, launch: AtLaunch, turns: Mapping[int, int]) -> None:
        self._provenance = provenance
        self._launch = launch
        self._turns = turns
        self._terms = Terms()
        self._found: dict[Term, Value] = {}
        self._constant: set[Term] = set()
        self._registers: dict[Term, str] = {}

    def value(self, value: Value) -> Value:
        """A value of the kernel at this launch; congruent to it modulo 2 to its bits."""
        waiting = [term for term, _ in value.terms]
        while waiting:
            term = waiting[-1]
            needed = [one for one in parts_of(term, self._provenance) if one not in self._found]
            if term in self._found or not needed:
                self._found.setdefault(waiting.pop(), self._made(term))
            else:
                waiting += needed
        return self._sum(value)

    def is_constant(self, term: Term) -> bool:
        """Whether a term of such a value is the same for a thread from its start to its end."""
        return term in self._constant

    def register(self, term: Term) -> str | None:
        """The special register that a term of such a value is; ``None`` if it is something else."""
        return self._registers.get(term)

    def _sum(self, value: Value) -> Value:
        if not value.terms:
            return value
        constant, factors = value.constant, dict[Term, int]()
        for term, factor in value.terms:
            own = self._found[term]
            if own.bits != value.bits:
                # A term is a number of its own bits, whatever the sum around it has.
                own = own.to(value.bits) if value.bits < own.bits else self._terms.zero_extended(own, value.bits)
            constant += own.constant * factor
            for part, times in own.terms:
                factors[part] = factors.get(part, 0) + times * factor
        return summed(value.bits, factors, constant)

    def _made(self, term: Term) -> Value:
        found = self._known(term)
        if found is None or len(found.terms) > _MOST_TERMS:
            found = self._unknown(term)
        if term.kind in ("special", "param") or (term.kind == "op" and self._is_of_constants(term)):
            self._constant.update(part for part, _ in found.terms)
        return found

    def _is_of_constants(self, term: Term) -> bool:
        return all(self.is_constant(part) for operand in term.operands for part, _ in self._sum(operand).terms)

    def _unknown(self, term: Term, high: int | None = None) -> Value:
        most = term.high if high is None else min(term.high, high)
        name = f"{term.kind} {term.serial}"
        return Value(term.bits, ((self._terms.term("result", name, term.bits, high=most, mask=term.mask), 1),))

    def _known(self, term: Term) -> Value | None:
        match term.kind:
            case "param":
                data = self._launch.parameters.get(term.name, b"")[term.offset : term.offset + term.bits // 8]
                return Value(term.bits, (), int.from_bytes(data, "little")) if len(data) * 8 == term.bits else None
            case "special":
                limits = self._launch.special(term.name)
                if limits is None:
                    return None
                least, most = limits
                if least == most:
                    return Value(term.bits, (), least)
                found = self._unknown(term, most)
                self._registers[found.terms[0][0]] = term.name
                return found
            case "turn":
                return Value(term.bits, ((self._turn(term), 1),))
            case "phi" if term in self._provenance.turns:
                return self._sum(self._provenance.turns[term])
            case "phi" | "select":
                return self._one_of(term)
            case "op":
                return self._operation(term, [self._sum(operand) for operand in term.operands])
        return None

    def _turn(self, term: Term) -> Term:
        """The number of turns of a loop: one term, whatever the bits, if it is limited."""
        most = self._turns.get(int(term.name))
        return self._terms.term("turn", term.name, term.bits if most is None else 32, high=most)

    def _one_of(self, term: Term) -> Value | None:
        """What is one of several values, or unknown if one of them is."""
        brought = self._provenance.incoming.get(term, term.operands)
        if _is_recurrent(term, self._provenance) or any(value is None for value in brought):
            return None
        values = [self._sum(value) for value in brought if value is not None]
        if term.kind == "select" and all(value == values[0] for value in values):
            return values[0]
        limits = [value.interval for value in values]
        fits = all(low >= 0 and high < 1 << term.bits for low, high in limits)
        return self._unknown(term, max(high for _, high in limits)) if fits else None

    def _operation(self, term: Term, operands: list[Value]) -> Value:
        terms, bits, name = self._terms, term.bits, term.name
        words = name.split(".")
        match words[0], operands:
            case "zext", [a]:
                return terms.zero_extended(a, bits)
            case "sext", [a]:
                return terms.sign_extended(a, bits)
            case "mul", [a, b] if name == "mul":
                return terms.product(a, b)
            case (("and" | "or" | "xor"), [a, b]) if name == words[0]:
                return terms.combined(name, a, b)
            case (("shl" | "shr" | "sar"), [a, b]) if b.known is not None:
                distance = min(b.known, bits)
                if words[0] == "shl":
                    return a.times(1 << distance)
                low, high = a.interval
                is_signed = words[0] == "sar" or words[-1] == f"s{bits}"
                if not is_signed or (low >= 0 and high < 1 << (bits - 1)):
                    return terms.shifted_right(a, distance)
        low, high = _limits(words, bits, [operand.interval for operand in operands])
        if low == high:
            return Value(bits, (), low)
        return terms.op(name, bits, *operands, high=min(high, term.high), mask=term.mask)


def _limits(words: list[str], bits: int, operands: list[tuple[int, int]]) -> tuple[int, int]:
    """Between which numbers the result of an operation lies, whose operands are sums in some intervals."""
    full = 0, (1 << bits) - 1
    kind = words[-1]
    if len(operands) != 2 or kind not in (f"s{bits}", f"u{bits}"):
        return full
    most = 1 << (bits - 1 if kind[0] == "s" else bits)
    (low, high), (low_2, high_2) = operands
    if min(low, low_2) < 0 or max(high, high_2) >= most:
        return full
    match words[:-1]:
        case ["min"]:
            return min(low, low_2), min(high, high_2)
        case ["max"]:
            return max(low, low_2), max(high, high_2)
        case ["mul", "hi"]:
            return low * low_2 >> bits, high * high_2 >> bits
        case ["div"] if low_2 > 0:
            return low // high_2, high // low_2
        case ["rem"] if low_2 > 0:
            if low == high and low_2 == high_2:
                return low % low_2, low % low_2
            return 0, min(high, high_2 - 1)
    return full


def _is_recurrent(term: Term, provenance: Provenance) -> bool:
    """Whether what a register holds may depend on what it held before, in a loop."""
    # What a join brings together was made before it; what a loop brings back was made after its header's phi.
    brought = provenance.incoming.get(term, ())
    return any(part.serial >= term.serial for value in brought if value is not None for part, _ in value.terms)


def parts_of(term: Term, provenance: Provenance) -> Iterator[Term]:
    """The terms that a term is made of."""
    if term in provenance.turns and term.kind == "phi":
        yield from (one for one, _ in provenance.turns[term].terms)
    elif not _is_recurrent(term, provenance):
        for value in provenance.incoming.get(term, term.operands):
            yield from () if value is None else (one for one, _ in value.terms)

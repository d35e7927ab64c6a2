"""What a register holds, as a sum: coefficients times terms, plus a constant, modulo 2 to the number of bits.

A term stands for a whole number that is not negative: a parameter, a special register, what an instruction made that
is not a sum, or what a loop or a join leaves in a register. Terms are made once for what they say, and compared by
identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, count

__all__ = ["Term", "Terms", "Value", "summed"]

_DEPTH = 5
_MOST_SHOWN = 8


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """A whole number that is not known.

    Attributes:
        kind: ``param`` and ``variable`` (an address) have a name. ``special``: a special register. ``op``: the
            operation ``name`` of operands. ``generic``: the generic address of an address in the space ``name``.
            ``select``: one of the operands. ``phi``: what a register holds when control enters a block; ``name`` is
            ``block:register``. ``turn``: how often a loop went back to its header (block ``name``) since it was
            entered. ``result``: what the instruction ``name`` (its index, and a register) left there.
        name: As the kind has it.
        bits: 32 or 64, say; the number is less than 2 to that.
        high: The greatest number that it may be.
        mask: The bits that may be 1.
        offset: Bytes from the start of a parameter.
        operands: Of ``op``, ``generic`` and ``select``.
        serial: When it was made.
    """

    kind: str
    name: str
    bits: int
    high: int
    mask: int
    offset: int = 0
    operands: tuple[Value, ...] = ()
    serial: int = 0

    def __str__(self) -> str:
        return self.text(_DEPTH)

    def text(self, depth: int) -> str:
        """The term with operations in it as deep as asked for; what is deeper is ``...``."""
        if self.kind in ("param", "variable", "special"):
            return f"{self.name}+{self.offset}" if self.offset else self.name
        inner = ", ".join(one.text(depth - 1) for one in self.operands) if self.operands else self.name
        return f"{self.name}({inner})" if self.kind == "op" else f"{self.kind}({inner})"


@dataclass(frozen=True, slots=True)
class Value:
    """A sum.

    Attributes:
        bits: It counts modulo 2 to this.
        terms: Each with its coefficient, which is not 0 and less than 2 to the bits; in the order of their making.
        constant: What is added.
    """

    bits: int
    terms: tuple[tuple[Term, int], ...] = ()
    constant: int = 0

    def __str__(self) -> str:
        return self.text(_DEPTH)

    def text(self, depth: int) -> str:
        """The sum, operations as deep as asked for."""
        if depth < 0:
            return "..."
        shown = self.terms[:_MOST_SHOWN]
        pieces = [_product(self.signed(factor), term.text(depth)) for term, factor in shown]
        pieces += ["+..."] if len(shown) < len(self.terms) else []
        if self.constant or not pieces:
            pieces.append(f"{self.signed(self.constant):+}")
        return "".join(pieces).removeprefix("+")

    def signed(self, number: int) -> int:
        """A number modulo 2 to the bits, as a number with a sign."""
        return number - (1 << self.bits) if number >> (self.bits - 1) else number

    @property
    def single(self) -> Term | None:
        """The term, if the sum is nothing but one."""
        return self.terms[0][0] if len(self.terms) == 1 and self.terms[0][1] == 1 and not self.constant else None

    @property
    def known(self) -> int | None:
        """The number, if the sum is nothing but a constant."""
        return None if self.terms else self.constant

    def plus(self, other: Value) -> Value:
        """The sum of two."""
        factors = dict(self.terms)
        for term, factor in other.terms:
            factors[term] = factors.get(term, 0) + factor
        return summed(self.bits, factors, self.constant + other.constant)

    def times(self, factor: int) -> Value:
        """The product with a number."""
        return summed(self.bits, {term: own * factor for term, own in self.terms}, self.constant * factor)

    def minus(self, other: Value) -> Value:
        """The difference of two."""
        return self.plus(other.times(-1))

    def to(self, bits: int) -> Value:
        """The lowest bits; or the same sum with more bits, which is right only if it never leaves the fewer."""
        return summed(bits, {term: self.signed(own) for term, own in self.terms}, self.signed(self.constant))

    @property
    def interval(self) -> tuple[int, int]:
        """Between which numbers the sum lies, with coefficients that have a sign, before it is taken modulo."""
        low = high = self.signed(self.constant)
        for term, factor in self.terms:
            own = self.signed(factor)
            low += min(own * term.high, 0)
            high += max(own * term.high, 0)
        return low, high

    @property
    def mask(self) -> int:
        """The bits that may be 1."""
        full = (1 << self.bits) - 1
        masks = [self.constant] if self.constant else []
        masks += [_mask_of_product(term, factor) & full for term, factor in self.terms]
        if all(not one & before for one, before in zip(masks[1:], accumulate(masks, int.__or__), strict=False)):
            return _union(masks)
        lowest = _union(masks) & -_union(masks)
        low, high = self.interval
        top = (1 << high.bit_length()) - 1 if low >= 0 and high <= full else full
        return top & ~(lowest - 1)

    def replaced(self, terms: Mapping[Term, Value]) -> Value:
        """The value with sums in place of some terms; each sum has as many bits as the value."""
        found = Value(self.bits, tuple(pair for pair in self.terms if pair[0] not in terms), self.constant)
        for term, factor in self.terms:
            if term in terms:
                found = found.plus(terms[term].times(factor))
        return found


class Terms:
    """Makes terms; the same for the same."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Term] = {}
        self._serial = count()

    @property
    def made(self) -> tuple[Term, ...]:
        """All of them; what a term has as operands was made before it."""
        return tuple(self._made.values())

    def term(
        self,
        kind: str,
        name: str,
        bits: int,
        *,
        high: int | None = None,
        mask: int | None = None,
        offset: int = 0,
        operands: tuple[Value, ...] = (),
    ) -> Term:
        """A term; the limits count only when it is made."""
        key = (kind, name, bits, offset, operands)
        found = self._made.get(key)
        if found is None:
            full = (1 << bits) - 1
            mask = full if mask is None else mask & full
            high = min(full if high is None else high, mask)
            mask &= (1 << high.bit_length()) - 1
            found = Term(kind, name, bits, high, mask, offset, operands, next(self._serial))
            self._made[key] = found
        return found

    def value(self, kind: str, name: str, bits: int, *, high: int | None = None, offset: int = 0) -> Value:
        """The sum that is one term without operands."""
        return Value(bits, ((self.term(kind, name, bits, high=high, offset=offset), 1),))

    def op(self, name: str, bits: int, *operands: Value, high: int | None = None, mask: int | None = None) -> Value:
        """The sum that is one operation."""
        return Value(bits, ((self.term("op", name, bits, high=high, mask=mask, operands=operands), 1),))

    def zero_extended(self, value: Value, bits: int) -> Value:
        """A value with more bits; zeros come in front."""
        if value.known is not None:
            return Value(bits, (), value.known)
        low, high = value.interval
        if low >= 0 and high < 1 << value.bits:
            return value.to(bits)
        return self.op(f"zext.{value.bits}", bits, value, high=(1 << value.bits) - 1, mask=value.mask)

    def sign_extended(self, value: Value, bits: int) -> Value:
        """A value with more bits; its sign comes in front."""
        low, high = value.interval
        half = 1 << (value.bits - 1)
        if -half <= low and high < half:
            return value.to(bits)
        return self.op(f"sext.{value.bits}", bits, value)

    def combined(self, name: str, first: Value, second: Value) -> Value:
        """``and``, ``or`` or ``xor``."""
        if name == "and":
            return self._and(first, second)
        if not first.mask & second.mask:
            return first.plus(second)  # no bit is set twice
        mask = first.mask | second.mask
        return self._commuting(name, first, second, lambda a, b: a | b if name == "or" else a ^ b, mask)

    def _and(self, first: Value, second: Value) -> Value:
        for value, other in ((first, second), (second, first)):
            if other.known is not None and not value.mask & ~other.known:
                return value
        mask = first.mask & second.mask
        if not mask:
            return Value(first.bits)
        return self._commuting("and", first, second, int.__and__, mask)

    def _commuting(
        self, name: str, first: Value, second: Value, compute: Callable[[int, int], int], mask: int
    ) -> Value:
        if first.known is not None and second.known is not None:
            return Value(first.bits, (), compute(first.known, second.known))
        return self.op(name, first.bits, first, second, mask=mask)

    def product(self, first: Value, second: Value) -> Value:
        """The lowest bits of a product."""
        for value, other in ((first, second), (second, first)):
            if other.known is not None:
                return value.times(other.known)
        low, high = first.interval
        low_2, high_2 = second.interval
        limit = high * high_2 if low >= 0 and low_2 >= 0 and high * high_2 < 1 << first.bits else None
        ordered = sorted((first, second), key=lambda value: [(t.serial, factor) for t, factor in value.terms])
        return self.op("mul", first.bits, *ordered, high=limit)

    def shifted_right(self, value: Value, distance: int) -> Value:
        """A value without its lowest bits, zeros in front."""
        low, high = value.interval
        if value.known is not None:
            return Value(value.bits, (), value.known >> distance)
        if low < 0 or high >= 1 << value.bits:
            high = (1 << value.bits) - 1
        amount = Value(value.bits, (), distance)
        return self.op("shr", value.bits, value, amount, high=high >> distance, mask=value.mask >> distance)


def summed(bits: int, factors: Mapping[Term, int], constant: int) -> Value:
    """The sum of terms with coefficients, and a constant."""
    full = (1 << bits) - 1
    pairs = [(term, factor & full) for term, factor in factors.items() if factor & full]
    if len(pairs) > 1:
        pairs.sort(key=lambda pair: pair[0].serial)
    return Value(bits, tuple(pairs), constant & full)


def _mask_of_product(term: Term, factor: int) -> int:
    """The bits that may be 1 in a term times a number; more than the number of bits, if it is longer."""
    if factor & (factor - 1) == 0:
        return term.mask * factor
    lowest = (term.mask & -term.mask) * (factor & -factor)
    return ((1 << (term.high * factor).bit_length()) - 1) & ~(lowest - 1)


def _union(masks: list[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def _product(factor: int, term: str) -> str:
    if factor in (1, -1):
        return f"{'+' if factor > 0 else '-'}{term}"
    return f"{factor:+}*{term}"

"""Values of all threads of a launch at once, as arrays: what sums are, and where predicates hold.

An array has a dimension for each register that tells threads apart (``%tid.x`` to ``%ctaid.z``) and one for the turns
of each loop. It is 1 long in those that the value does not depend on, so values of one register stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forerun.ptx.guards import Guards, always, relation_of
from forerun.ptx.launched import AtLaunch
from forerun.ptx.limits import Limits
from forerun.ptx.operands import Immediate, Operand, Register
from forerun.ptx.paths import Decision, Paths
from forerun.ptx.values import Term, Value

__all__ = ["Lanes", "Numbers", "Truth"]

Numbers: TypeAlias = npt.NDArray[np.uint64]
Truth: TypeAlias = npt.NDArray[np.bool_]
_Signed: TypeAlias = npt.NDArray[np.int64]

REGISTERS = tuple(f"%{name}.{axis}" for name in ("tid", "ctaid") for axis in "xyz")
MOST = 1 << 20
"""Elements of an array; what would be larger counts as unknown."""
_MOST_LOOPS = 16


class Lanes:
    """Computes values at one launch.

    Args:
        limits: The launch's.
        launch: The launch.
        guards: The kernel's predicates.
        paths: Its control flow.
        most: How many numbers may be computed.

    Attributes:
        computed: How many were, about.
    """

    def __init__(self, limits: Limits, launch: AtLaunch, guards: Guards, paths: Paths, most: int) -> None:
        self._limits = limits
        self._guards = guards
        self._paths = paths
        sizes = [*launch.block, *launch.grid]
        turns = {header: limits.turns(header) for header in sorted(paths.loops)}
        limited = {header: most + 1 for header, most in turns.items() if most is not None and most < MOST}
        self._headers = list(limited)[:_MOST_LOOPS]
        sizes += [limited[header] for header in self._headers]
        self._sizes = tuple(sizes)
        self._axes: Mapping[str, int] = {name: axis for axis, name in enumerate((*REGISTERS, *map(str, self._headers)))}
        self._found: dict[Term, Numbers | None] = {}
        self._decided: dict[Decision, Truth | None] = {}
        self._most = most
        self.computed = 0

    def is_inside(self, found: npt.NDArray[np.generic], headers: frozenset[int]) -> bool:
        """Whether an array depends on turns of some loops at most."""
        return all(
            size == 1 or header in headers
            for header, size in zip(self._headers, found.shape[len(REGISTERS) :], strict=True)
        )

    # Sums

    def constant(self, value: Value) -> int:
        """What a sum of the kernel is but for what differs between threads."""
        found = self._limits.value(value)
        return found.signed(found.constant)

    def summands(self, value: Value) -> list[Numbers] | None:
        """What differs between threads in a sum of the kernel, modulo 2 to the 64; ``None`` if that is not known."""
        if value.bits != 64:
            return None
        found = []
        for term, factor in self._limits.value(value).terms:
            numbers = self._term(term)
            if numbers is None or not self.has_room(numbers):
                return None
            found.append(numbers * np.uint64(factor))
        return found

    def _sum(self, value: Value) -> Numbers | None:
        """A sum of terms of the launch, modulo 2 to its bits."""
        found: Numbers = np.full((1,) * len(self._sizes), value.constant, np.uint64)
        for term, factor in value.terms:
            numbers = self._term(term)
            if numbers is None or not self.has_room(found, numbers):
                return None
            found = found + numbers * np.uint64(factor)
        return found & np.uint64((1 << value.bits) - 1)

    def has_room(self, *arrays: npt.NDArray[np.generic]) -> bool:
        """Whether arrays can be combined."""
        return self.may_compute(prod(map(max, zip(*(one.shape for one in arrays), strict=True))))

    def may_compute(self, size: int) -> bool:
        """Whether another number of them may be computed; they count."""
        if size > MOST or self.computed + size > self._most:
            return False
        self.computed += size
        return True

    def _term(self, term: Term) -> Numbers | None:
        waiting = [term]
        while waiting:
            one = waiting[-1]
            parts = [part for operand in one.operands for part, _ in operand.terms if part not in self._found]
            if one in self._found or not parts:
                waiting.pop()
                if one not in self._found:
                    self._found[one] = self._made(one)
            else:
                waiting += parts
        return self._found[term]

    def _made(self, term: Term) -> Numbers | None:
        if term.kind == "op":
            operands = [self._sum(operand) for operand in term.operands]
            known = [one for one in operands if one is not None]
            if len(known) < len(operands) or not self.has_room(*known):
                return None
            return _operation(term, known)
        name = term.name if term.kind == "turn" else self._limits.register(term)
        axis = None if name is None else self._axes.get(name)
        if axis is None or self._sizes[axis] > MOST:
            return None
        shape = [1] * len(self._sizes)
        shape[axis] = self._sizes[axis]
        return np.arange(self._sizes[axis], dtype=np.uint64).reshape(shape)

    # Predicates

    def decided(self, decision: Decision) -> Truth | None:
        """Where a predicate is what it must be; ``None`` if that is not known."""
        if decision not in self._decided:
            found = self._predicate(decision.register, decision.use, 0)
            self._decided[decision] = found if found is None or decision.holds else ~found
        return self._decided[decision]

    def _predicate(self, register: Register, use: int, depth: int) -> Truth | None:
        index = self._guards.definition(register, use)
        if index is None or depth > 16:
            return None
        one = self._guards.instruction(index)
        if one.base == "setp":
            return self._compared(index)
        found = [self._truth(operand, index, depth + 1) for operand in one.operands[1:]]
        known = [truth for truth in found if truth is not None]
        if len(known) < len(found) or not self.has_room(*known):
            return None
        match one.base, known:
            case "mov", [a]:
                return a
            case "not", [a]:
                return ~a
            case "and", [a, b]:
                return a & b
            case "or", [a, b]:
                return a | b
            case "xor", [a, b]:
                return a ^ b
        return None

    def _truth(self, operand: Operand, use: int, depth: int) -> Truth | None:
        match operand:
            case Register():
                return self._predicate(operand, use, depth)
            case Immediate(value=int() as value):
                return np.full((1,) * len(self._sizes), value != 0)
        return None

    def _compared(self, index: int) -> Truth | None:
        pair = self._limits.compared(index)
        if pair is None:
            return None
        one, bits = self._guards.instruction(index), pair[0].bits
        holds = always(one, *pair)
        if holds is not None:
            return np.full((1,) * len(self._sizes), holds)
        left, right = self._sum(pair[0]), self._sum(pair[1])
        compare = _COMPARISONS.get(relation_of(one, True))
        if left is None or right is None or compare is None or not self.has_room(left, right):
            return None
        return compare(_signed(left, bits), _signed(right, bits)) if one.parts[-1][0] == "s" else compare(left, right)

    def turns(self, header: int) -> tuple[Truth | None, bool]:
        """Which turns of a loop are certainly begun by a thread that enters it, and whether no others are.

        ``None`` if its turns are not limited. Then nothing that depends on them is known.
        """
        if header not in self._headers:
            return None, True
        axis = len(REGISTERS) + self._headers.index(header)
        decision = self._paths.going_on(header)
        goes_on = None if decision is None else self.decided(decision)
        first = np.zeros([size if at == axis else 1 for at, size in enumerate(self._sizes)], np.bool_)
        is_known = (
            goes_on is not None
            and self.is_inside(goes_on, self._paths.around(header))
            and self.has_room(goes_on, first)
        )
        if goes_on is None or not is_known:
            goes_on = first
        shape = list(goes_on.shape)
        shape[axis] = self._sizes[axis]
        begun = np.ones(shape, np.bool_)
        again = np.logical_and.accumulate(np.broadcast_to(goes_on, shape), axis=axis)
        before: list[slice] = [slice(None)] * axis
        begun[(*before, slice(1, None))] = again[(*before, slice(None, -1))]
        return begun, is_known


# Operations


def _signed(numbers: Numbers, bits: int) -> _Signed:
    half = np.uint64(1 << (bits - 1))
    return ((numbers ^ half) - half).view(np.int64)


_COMPARISONS: Mapping[str, Callable[..., Truth]] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def _operation(term: Term, operands: list[Numbers]) -> Numbers | None:
    """The result of an operation on whole numbers that are not negative; ``None`` if it is not known."""
    bits, (name, *words) = term.bits, term.name.split(".")
    full = np.uint64((1 << bits) - 1)
    kind = words[-1] if words else ""
    match name, operands:
        case "zext", [a]:
            return a
        case "sext", [a]:
            return _signed(a, int(kind)).view(np.uint64) & full
        case "mul", [a, b] if not words:
            return a * b & full
        case "mul", [a, b] if words == ["hi", "u32"]:
            return a * b >> np.uint64(32)
        case "and", [a, b]:
            return a & b
        case "or", [a, b]:
            return a | b
        case "xor", [a, b]:
            return a ^ b
        case (("shl" | "shr" | "sar"), [a, b]) if b.size == 1 and b.item() < bits:
            if name == "shl":
                return a << b & full
            is_signed = name == "sar" or kind == f"s{bits}"
            return (_signed(a, bits) >> b.view(np.int64)).view(np.uint64) & full if is_signed else a >> b
        case "bfe", [a, b, c] if b.size == c.size == 1 and 0 < c.item() <= bits - min(b.item(), bits):
            field = a >> b & np.uint64((1 << c.item()) - 1)
            return _signed(field, c.item()).view(np.uint64) & full if kind[0] == "s" else field
        case (("min" | "max" | "div" | "rem"), [a, b]) if words in ([f"s{bits}"], [f"u{bits}"]):
            return _ordered(name, bits, kind, a, b)
    return None


def _ordered(name: str, bits: int, kind: str, a: Numbers, b: Numbers) -> Numbers | None:
    """Operations that take numbers for what they are; only for such as have no sign."""
    half = np.uint64(1 << (bits - 1))
    if kind[0] == "s" and (bool((a >= half).any()) or bool((b >= half).any())):
        return None
    match name:
        case "min":
            return np.minimum(a, b)
        case "max":
            return np.maximum(a, b)
    if not b.all():
        return None
    return a // b if name == "div" else a % b

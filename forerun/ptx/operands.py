"""Operands of PTX instructions as values; ``str`` of each is its usual spelling (PTX ISA, "Instruction Operands")."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

__all__ = [
    "Address",
    "Atom",
    "Group",
    "Immediate",
    "Item",
    "Operand",
    "Pair",
    "Prefixed",
    "Register",
    "Sum",
    "Symbol",
    "Vector",
    "registers_of",
    "with_registers",
]


@dataclass(frozen=True, slots=True)
class Register:
    """A register, declared or special, with its component if it has one: ``%r1``, ``%tid.x``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, parameter, function or label; ``_`` for a result that nobody wants."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number as it is spelled: ``-4``, ``0x1F``, ``0f3F800000`` (the bits of a float), ``1.5``."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def value(self) -> int | float:
        """The number. Octal and binary numbers count; ``U`` only says that the number has no sign.

        Example:
            >>> Immediate("0f3F800000").value, Immediate("-0x10").value, Immediate("010").value
            (1.0, -16, 8)
        """
        sign, digits = (-1, self.text[1:]) if self.text.startswith("-") else (1, self.text)
        kind = digits[:2].lower()
        if kind in ("0f", "0d"):
            layout = ">f" if kind == "0f" else ">d"
            return sign * float(struct.unpack(layout, bytes.fromhex(digits[2:]))[0])
        if kind != "0x" and any(letter in digits for letter in ".eE"):
            return sign * float(digits)
        digits = digits.rstrip("U")
        if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
            return sign * int(digits, 8)
        return sign * int(digits, 0)


Atom = Register | Symbol | Immediate


@dataclass(frozen=True, slots=True)
class Prefixed:
    """``!%p1``, or ``-%r1``."""

    sign: str
    operand: Atom

    def __str__(self) -> str:
        return f"{self.sign}{self.operand}"


@dataclass(frozen=True, slots=True)
class Sum:
    """``%rd1+4``, ``symbol+-8``: something and a distance, which ``sign`` adds or takes away."""

    left: Atom
    sign: str
    right: Atom

    def __str__(self) -> str:
        return f"{self.left}{self.sign}{self.right}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two results: ``%p1|%p2``."""

    first: Atom
    second: Atom

    def __str__(self) -> str:
        return f"{self.first}|{self.second}"


Item = Atom | Prefixed | Sum | Pair


@dataclass(frozen=True, slots=True)
class Vector:
    """``{%r1, %r2}``."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"{{{', '.join(map(str, self.items))}}}"


@dataclass(frozen=True, slots=True)
class Address:
    """``[%rd1+4]``; for tensors with coordinates: ``[%rd1, {%r1, %r2}]``."""

    items: tuple[Item | Vector, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.items))}]"

    @property
    def base(self) -> Atom | None:
        """What the address begins with; ``None`` if that is more than a register, a symbol or a number."""
        first = self.items[0]
        if isinstance(first, Sum):
            return first.left
        return first if isinstance(first, Atom) else None

    @property
    def offset(self) -> int | None:
        """The bytes that are added to the base; ``None`` if they are not a whole number.

        Example:
            >>> Address((Sum(Register("%rd1"), "+", Immediate("-8")),)).offset
            -8
        """
        first = self.items[0]
        if not isinstance(first, Sum):
            return 0
        value = first.right.value if isinstance(first.right, Immediate) else None
        if not isinstance(value, int):
            return None
        return value if first.sign == "+" else -value


@dataclass(frozen=True, slots=True)
class Group:
    """The results or the arguments of a call: ``(%r1, param0)``."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


Operand = Item | Vector | Address | Group


def registers_of(operand: Operand) -> Iterator[Register]:
    """The registers in an operand, from left to right."""
    match operand:
        case Register():
            yield operand
        case Vector() | Address() | Group():
            for item in operand.items:
                yield from registers_of(item)
        case Prefixed():
            yield from registers_of(operand.operand)
        case Sum():
            yield from registers_of(operand.left)
            yield from registers_of(operand.right)
        case Pair():
            yield from registers_of(operand.first)
            yield from registers_of(operand.second)
        case _:
            pass


def with_registers(operand: Operand, rename: Callable[[Register], Register]) -> Operand:
    """An operand with other registers."""
    match operand:
        case Register():
            return rename(operand)
        case Vector() | Address() | Group():
            return replace(operand, items=tuple(with_registers(item, rename) for item in operand.items))  # type: ignore[misc]
        case Prefixed():
            return replace(operand, operand=with_registers(operand.operand, rename))  # type: ignore[arg-type]
        case Sum():
            left, right = with_registers(operand.left, rename), with_registers(operand.right, rename)
            return replace(operand, left=left, right=right)  # type: ignore[arg-type]
        case Pair():
            first, second = with_registers(operand.first, rename), with_registers(operand.second, rename)
            return replace(operand, first=first, second=second)  # type: ignore[arg-type]
    return operand

"""Words to operands. The grammar has no recursion, so that no text can exhaust the stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from forerun.ptx.lexer import IMMEDIATE, NAME
from forerun.ptx.operands import (
    Address,
    Atom,
    Group,
    Immediate,
    Item,
    Operand,
    Pair,
    Prefixed,
    Register,
    Sum,
    Symbol,
    Vector,
)

__all__ = ["Misread", "OperandParser"]

_T = TypeVar("_T")


class Misread(Exception):
    """A word that is not understood.

    Attributes:
        number: Of the word, from 0.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.message = message


class OperandParser:
    """Reads the operands of one instruction after the other.

    Args:
        is_register: Whether a name without ``%`` is that of a register here.
    """

    def __init__(self, is_register: Callable[[str], bool]) -> None:
        self._is_register = is_register
        self._words: Sequence[str] = ()
        self._at = 0
        self._known: dict[str, Atom] = {}  # registers and numbers come again and again

    def parse(self, words: Sequence[str]) -> tuple[Operand, ...]:
        """The operands.

        Raises:
            Misread: If a word is not understood.
        """
        if not words:
            return ()
        self._words, self._at = words, 0
        found = [self._operand()]
        while self._at < len(words):
            self._expect(",")
            found.append(self._operand())
        return tuple(found)

    def _operand(self) -> Operand:
        match self._word():
            case "[":
                return Address(self._list("[", "]", self._coordinate))
            case "{":
                return self._vector()
            case "(":
                if self._word(1) == ")":
                    self._at += 2
                    return Group(())
                return Group(self._list("(", ")", self._item))
        return self._item()

    def _coordinate(self) -> Item | Vector:
        return self._vector() if self._word() == "{" else self._item()

    def _vector(self) -> Vector:
        return Vector(self._list("{", "}", self._item))

    def _list(self, opening: str, closing: str, read: Callable[[], _T]) -> tuple[_T, ...]:
        self._expect(opening)
        found = [read()]
        while self._word() == ",":
            self._at += 1
            found.append(read())
        self._expect(closing)
        return tuple(found)

    def _item(self) -> Item:
        word = self._word()
        if word in ("!", "-"):
            self._at += 1
            operand = self._atom()
            if word == "-" and isinstance(operand, Immediate):
                return self._sum(Immediate(f"-{operand.text}"))
            return Prefixed(word, operand)
        return self._sum(self._atom())

    def _sum(self, left: Atom) -> Item:
        sign = self._word()
        if sign == "|":
            self._at += 1
            return Pair(left, self._atom())
        if sign not in ("+", "-"):
            return left
        self._at += 1
        if self._word() == "-":
            self._at += 1
            right = self._atom()
            if not isinstance(right, Immediate):
                raise Misread(self._at - 1, f"expected a number after '{sign}-'")
            return Sum(left, sign, Immediate(f"-{right.text}"))
        return Sum(left, sign, self._atom())

    def _atom(self) -> Atom:
        word = self._word()
        found = self._known.get(word)
        if found is None:
            found = self._read_atom(word)
        self._at += 1
        return found

    def _read_atom(self, word: str) -> Atom:
        if word.startswith("%"):
            if len(word) == 1:
                raise Misread(self._at, "expected the name of a register after '%'")
            return self._known.setdefault(word, Register(word))
        if IMMEDIATE.fullmatch(word):
            return self._known.setdefault(word, Immediate(word))
        if NAME.fullmatch(word):
            return Register(word) if self._is_register(word) else Symbol(word)
        if word[:1].isdigit():
            raise Misread(self._at, f"'{word}' is not a number of PTX")
        raise Misread(self._at, f"expected an operand, found '{word}'" if word else "expected an operand")

    def _expect(self, word: str) -> None:
        found = self._word()
        if found != word:
            raise Misread(self._at, f"expected '{word}', found '{found}'" if found else f"expected '{word}'")
        self._at += 1

    def _word(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._words[at] if at < len(self._words) else ""

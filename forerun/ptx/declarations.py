"""Words to declarations, parameters and directives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from forerun.ptx.lexer import WHOLE
from forerun.ptx.operand_parser import Misread
from forerun.ptx.operands import Immediate
from forerun.ptx.syntax import SPACES, Declaration, Declarator, Directive

__all__ = ["LINE_DIRECTIVES", "LINKAGE", "STATEMENT_DIRECTIVES", "parse_declaration", "parse_head", "split_head"]

LINKAGE = (".extern", ".visible", ".weak", ".common")
STATEMENT_DIRECTIVES = (".pragma", ".branchtargets", ".calltargets", ".callprototype", ".alias")
"""Directives that end with a semicolon."""

_WORD = r"[\w$.]+"
LINE_DIRECTIVES = {
    ".version": r"\.version\s+\d{1,3}\.\d{1,3}",
    ".target": rf"\.target\s+{_WORD}(?:\s*,\s*{_WORD})*",
    ".address_size": r"\.address_size\s+(?:32|64)",
    ".file": r'\.file\s+\d+\s+"[^"\n]*"(?:\s*,\s*\d+\s*,\s*\d+)?',
    ".loc": r"\.loc\s+\d+\s+\d+\s+\d+"
    rf"(?:\s*,\s*function_name\s+{_WORD}(?:\s*\+\s*\d+)?\s*,\s*inlined_at\s+\d+\s+\d+\s+\d+)?",
}
"""Directives without a semicolon: how each looks."""

_NAME = re.compile(r"[A-Za-z_$%][\w$]*", re.ASCII)
_MODIFIER = re.compile(r"\.[a-z]\w*(?:::\w+)*", re.ASCII)
_HEAD_DIRECTIVE = re.compile(r"\.[a-z]\w*", re.ASCII)


class _Cursor:
    """Words, one after the other."""

    def __init__(self, words: Sequence[str], at: int = 0, stop: int | None = None) -> None:
        self.words = words
        self.at = at
        self.stop = len(words) if stop is None else stop

    @property
    def word(self) -> str:
        return self.words[self.at] if self.at < self.stop else ""

    def next(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    def take(self, word: str) -> bool:
        """Whether it is the next word, which is then behind."""
        if self.word != word:
            return False
        self.at += 1
        return True

    def expect(self, what: str, pattern: re.Pattern[str]) -> str:
        if not pattern.fullmatch(self.word):
            self.fail(f"expected {what}")
        return self.next()

    def number(self, what: str) -> int:
        return int(Immediate(self.expect(what, WHOLE)).value)

    def require(self, word: str) -> None:
        if not self.take(word):
            self.fail(f"expected '{word}'")

    def fail(self, message: str) -> None:
        raise Misread(self.at, f"{message}, found '{self.word}'" if self.word else message)


def parse_declaration(words: Sequence[str]) -> Declaration:
    """A declaration, without its semicolon.

    Raises:
        Misread: If a word is not understood.
    """
    cursor = _Cursor(words)
    found = _declaration(cursor, many=True)
    if cursor.word:
        cursor.fail("expected ',' or ';'")
    return found


def _declaration(cursor: _Cursor, *, many: bool) -> Declaration:
    linkage = []
    while cursor.word in LINKAGE:
        linkage.append(cursor.next())
    if cursor.word not in SPACES:
        cursor.fail("expected a state space")
    space, modifiers = cursor.next(), []
    while _MODIFIER.fullmatch(cursor.word):
        modifiers.append(cursor.next())
        if modifiers[-1] == ".align":
            modifiers.append(cursor.expect("an alignment", WHOLE))
        elif cursor.word == "(":  # .attribute(.managed)
            modifiers += _until_closed(cursor)
    names = [_declarator(cursor)]
    while many and cursor.take(","):
        names.append(_declarator(cursor))
    return Declaration(space, tuple(modifiers), tuple(names), tuple(linkage))


def _until_closed(cursor: _Cursor) -> list[str]:
    found, depth = [], 0
    while cursor.word:
        depth += (cursor.word in "({") - (cursor.word in ")}")
        found.append(cursor.next())
        if depth <= 0:
            return found
    cursor.fail("a bracket is not closed")
    return found


def _declarator(cursor: _Cursor) -> Declarator:
    name = cursor.expect("a name", _NAME)
    count = None
    if cursor.take("<"):
        count = cursor.number("a number of registers")
        cursor.require(">")
    dimensions: list[int | None] = []
    while cursor.take("["):
        dimensions.append(None if cursor.word == "]" else cursor.number("a size"))
        cursor.require("]")
    initial: list[str] = []
    if cursor.take("="):
        while cursor.word and cursor.word != ",":
            initial += _until_closed(cursor) if cursor.word in "({" else [cursor.next()]
        if not initial:
            cursor.fail("expected a value")
    return Declarator(name, count, tuple(dimensions), tuple(initial))


# Heads of functions


def split_head(words: Sequence[str]) -> tuple[tuple[str, ...], str, int]:
    """Linkage and kind of a function, and how many words that are."""
    count = 0
    while words[count] in LINKAGE:
        count += 1
    return tuple(words[:count]), words[count], count + 1


Head = tuple[tuple[Declaration, ...], str, tuple[Declaration, ...] | None, tuple[Directive, ...]]


def parse_head(words: Sequence[str], at: int) -> Head:
    """Returned values, name, parameters and directives of a function.

    Args:
        words: All words before the body, or before the semicolon.
        at: The number of the word after ``.entry`` or ``.func``.

    Raises:
        Misread: If a word is not understood.
    """
    cursor = _Cursor(words, at)
    returns = _parameters(cursor) if cursor.word == "(" else ()
    name = cursor.expect("the name of a function", _NAME)
    parameters = _parameters(cursor) if cursor.word == "(" else None
    directives = []
    while cursor.word:
        found = [cursor.expect("a directive", _HEAD_DIRECTIVE)]
        while cursor.word and not _HEAD_DIRECTIVE.fullmatch(cursor.word):
            found.append(cursor.next())
        directives.append(Directive(tuple(found)))
    return returns, name, parameters, tuple(directives)


def _parameters(cursor: _Cursor) -> tuple[Declaration, ...]:
    cursor.require("(")
    if cursor.take(")"):
        return ()
    found = [_declaration(cursor, many=False)]
    while cursor.take(","):
        found.append(_declaration(cursor, many=False))
    cursor.require(")")
    return tuple(found)

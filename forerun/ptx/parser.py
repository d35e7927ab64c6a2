"""Text to a PTX module. Each statement is cut out by one pattern; its words are then read one by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from forerun.ptx.declarations import (
    LINE_DIRECTIVES,
    LINKAGE,
    STATEMENT_DIRECTIVES,
    parse_declaration,
    parse_head,
    split_head,
)
from forerun.ptx.lexer import HEAD, INSTRUCTION, LABEL, SECTION, SPACE, UNTIL_SEMICOLON, fault, place_of, words
from forerun.ptx.operand_parser import Misread, OperandParser
from forerun.ptx.operands import Register
from forerun.ptx.syntax import (
    SPACES,
    Brace,
    Declaration,
    Directive,
    Function,
    Guard,
    Instruction,
    Label,
    Module,
    Section,
    Statement,
    TopLevel,
)
from forerun.support.collection import collection_paused
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["parse_module"]

_T = TypeVar("_T")
_LINES = {name: re.compile(pattern, re.ASCII) for name, pattern in LINE_DIRECTIVES.items()}
_DIRECTIVE = re.compile(r"\.[A-Za-z_]\w*", re.ASCII)
_WORD_AT = re.compile(r'[\w$%.:]+|"[^"\n]*"?|\S', re.ASCII)
_TOP_LEVEL = (*LINKAGE, *SPACES, *STATEMENT_DIRECTIVES, *LINE_DIRECTIVES, ".entry", ".func", ".section")


def parse_module(text: str, name: str = "<ptx>") -> Module:
    r"""Read a text of PTX. What :func:`~forerun.ptx.printer.print_module` makes of it is the same text.

    Args:
        text: As NVRTC, nvcc and Triton write it; zero bytes at its end, as in images, are white space.
        name: Its name in messages.

    Raises:
        InvalidInput: If a piece is not understood. The diagnostic has line and column; a note shows the line.

    Example:
        >>> module = parse_module(".version 9.0\n.target sm_90\n.entry k() { ret; }")
        >>> str(module), module.entry("k").body
        ('PTX 9.0 for sm_90: k', (Instruction(opcode='ret', operands=(), guard=None),))
    """
    with collection_paused():
        return _Parser(text, name).module()


class _Parser:
    """A position in a text."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text.rstrip("\0")
        self.zeros = text[len(self.text) :]
        self.name = name
        self.at = 0
        self.line = 1
        self.counted = 0
        self.scopes: list[dict[str, int | None]] = []
        self.operands = OperandParser(self._is_register)

    def module(self) -> Module:
        """All of it."""
        found: list[TopLevel] = []
        leading = self._space()
        while self.at < len(self.text):
            found.append(self._top_level(leading))
            leading = self._space()
        return Module(tuple(found), leading + self.zeros)

    def _top_level(self, leading: str) -> TopLevel:
        match = _DIRECTIVE.match(self.text, self.at)
        word = match[0] if match else ""
        if word in _LINES:
            return self._line_directive(word, leading)
        if word in STATEMENT_DIRECTIVES:
            return self._directive(leading)
        if word == ".section":
            return self._section(leading)
        if word in LINKAGE or word in (".entry", ".func"):
            head = self._match(HEAD, "a declaration that does not end: expected ';' or '{'")
            found = words(head[0])
            if ".entry" in found or ".func" in found:
                return self._function(head, found, leading)
        elif word not in SPACES:
            raise self._fault_here("expected a directive or a declaration", did_you_mean(word, _TOP_LEVEL))
        return self._declaration(leading)

    # Statements that stand at both levels

    def _line_directive(self, word: str, leading: str) -> Directive:
        found = self._match(_LINES[word], f"'{word}' is followed by something else than it takes")
        return self._finish(
            found, Directive(tuple(words(found[0])), leading=leading, spelling=found[0], line=self.line)
        )

    def _directive(self, leading: str) -> Directive:
        found = self._match(UNTIL_SEMICOLON, "a directive that does not end: expected ';'")
        return self._finish(
            found, Directive(tuple(words(found[0])), leading=leading, spelling=found[0], line=self.line)
        )

    def _declaration(self, leading: str) -> Declaration:
        found = self._match(UNTIL_SEMICOLON, "a declaration that does not end: expected ';'")
        read = self._read(found, lambda: parse_declaration(words(found[0][:-1])))
        names = Declaration(
            read.space, read.modifiers, read.names, read.linkage, leading=leading, spelling=found[0], line=self.line
        )
        return self._finish(found, names)

    def _section(self, leading: str) -> Section:
        found = self._match(SECTION, "a section is not closed, or has no name")
        read = Section(found["name"], found["body"], leading=leading, spelling=found[0], line=self.line)
        return self._finish(found, read)

    # Functions

    def _function(self, head: re.Match[str], found: list[str], leading: str) -> Function:
        linkage, kind, count = self._read(head, lambda: _checked_split(found))
        returns, name, parameters, directives = self._read(head, lambda: parse_head(found[:-1], count))
        line = self.line
        self._finish(head, None)
        body, closing = None, None
        if found[-1] == "{":
            self.scopes = [{}]
            for one in (*returns, *(parameters or ())):
                self._declare(one)
            body, closing = self._body(head.start())
        spelled = {"leading": leading, "spelling": head[0]}
        return Function(kind, name, parameters, returns, directives, body, linkage, closing, line=line, **spelled)

    def _body(self, start: int) -> tuple[tuple[Statement, ...], str]:
        found: list[Statement] = []
        append = found.append
        text, size = self.text, len(self.text)
        while True:
            leading = self._space()
            if self.at >= size:
                raise fault(text, self.name, start, start + 1, "a function is not closed: expected '}'")
            character = text[self.at]
            if character == ".":
                append(self._statement_directive(leading))
            elif character == "{" or character == "}":
                if character == "{":
                    self.scopes.append({})
                else:
                    self.scopes.pop()
                    if not self.scopes:
                        self.at += 1
                        return tuple(found), leading
                append(Brace(character, leading=leading, spelling=character, line=self.line))
                self.at += 1
            else:
                append(self._instruction_or_label(leading))

    def _statement_directive(self, leading: str) -> Statement:
        match = _DIRECTIVE.match(self.text, self.at)
        word = match[0] if match else ""
        if word in _LINES:
            return self._line_directive(word, leading)
        if word in STATEMENT_DIRECTIVES:
            return self._directive(leading)
        if word in SPACES or word in LINKAGE:
            found = self._declaration(leading)
            self._declare(found)
            return found
        known = (*SPACES, *STATEMENT_DIRECTIVES, ".loc")
        raise self._fault_here("expected a declaration or a directive", did_you_mean(word, known))

    def _instruction_or_label(self, leading: str) -> Instruction | Label:
        found = INSTRUCTION.match(self.text, self.at)
        if found is None:
            label = self._match(LABEL, "expected a statement that ends with ';', or a label")
            return self._finish(label, Label(label[1], leading=leading, spelling=label[0], line=self.line))
        negated, guard, opcode, operands = found.groups()
        try:
            read = self.operands.parse(words(operands))
        except Misread as misread:
            start, stop = place_of(self.text, *found.span("operands"), misread.number)
            raise fault(self.text, self.name, start, stop, misread.message) from None
        instruction = Instruction(
            opcode,
            read,
            None if guard is None else Guard(Register(guard), negated == "!"),
            leading=leading,
            spelling=found[0],
            line=self.line,
        )
        self.at = found.end()
        return instruction

    # Names of registers

    def _declare(self, declaration: Declaration) -> None:
        if declaration.space == ".reg":
            self.scopes[-1].update((one.name, one.count) for one in declaration.names)

    def _is_register(self, name: str) -> bool:
        name = name.partition(".")[0]
        stem = name.rstrip("0123456789")
        digits = name[len(stem) :]
        for scope in self.scopes:
            count = scope.get(stem) if digits else None
            if scope.get(name, 0) is None or (count is not None and int(digits) < count):
                return True
        return False

    # The position

    def _space(self) -> str:
        match = SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return match[0] if match else ""

    def _match(self, pattern: re.Pattern[str], message: str) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise self._fault_here(message)
        return found

    def _finish(self, found: re.Match[str], read: _T) -> _T:
        """Go behind what was read."""
        self.at = found.end()
        return read

    def _read(self, found: re.Match[str], read: Callable[[], _T]) -> _T:
        """What the words of a match mean; or the error at the word that has no meaning."""
        try:
            return read()
        except Misread as misread:
            start, stop = place_of(self.text, *found.span(), misread.number)
            raise fault(self.text, self.name, start, stop, misread.message) from None

    def _fault_here(self, message: str, hint: str = "") -> InvalidInput:
        word = _WORD_AT.match(self.text, self.at)
        stop = word.end() if word else self.at + 1
        return fault(self.text, self.name, self.at, stop, message, hint)


def _checked_split(found: list[str]) -> tuple[tuple[str, ...], str, int]:
    """Linkage, kind and their number of words, if the words begin so."""
    linkage, kind, count = split_head(found)
    if kind not in (".entry", ".func"):
        raise Misread(count - 1, f"expected '.entry' or '.func', found '{kind}'")
    return linkage, kind, count

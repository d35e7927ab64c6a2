"""The grammar of the text form as docs/text-format.md states it, and which of its constructs a text uses.

The grammar is read from the page, so whatever is added there is asked for here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from forerun.ir.text.lexer import END, Lexer

__all__ = ["Construct", "Grammar", "grammar_of_page"]

_PAGE = Path(__file__).parents[2] / "docs" / "text-format.md"
_EBNF = re.compile(r'"[^"]*"|[A-Za-z]+|[={}()\[\]|,;]')
_COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKENS = {
    "WORD": rf"[A-Za-z_][\w.]*|{_STRING}",
    "NAME": rf"[\w./-]+|{_STRING}",
    "STRING": _STRING,
    "NATURAL": r"\d\w*",
}
_NUMBER = re.compile(r"\d\w*(?:\.\d\w*)?(?:[eE][+-]?\d+)?|inf|nan")


@dataclass(frozen=True, order=True)
class Construct:
    """A quoted word, or an alternative that is one token or rule, in a rule of the grammar."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(frozen=True)
class _Word:
    construct: Construct
    text: str


@dataclass(frozen=True)
class _Reference:
    name: str


@dataclass(frozen=True)
class _Sequence:
    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class _Choice:
    """Alternatives; those that are one reference are constructs of their own."""

    options: tuple[_Part, ...]
    constructs: tuple[Construct | None, ...]


@dataclass(frozen=True)
class _Repeated:
    """What may be left out; if ``often``, it may occur any number of times."""

    part: _Part
    often: bool


_Part: TypeAlias = "_Word | _Reference | _Sequence | _Choice | _Repeated"
_Found: TypeAlias = tuple[int, tuple[Construct, ...]] | None


class _Reader:
    """Reads the EBNF block, by recursive descent."""

    def __init__(self, text: str) -> None:
        self.tokens = _EBNF.findall(_COMMENT.sub("", text))
        self.at = 0
        self.rule = ""

    def rules(self) -> Iterator[tuple[str, _Part]]:
        while self.at < len(self.tokens):
            self.rule = self.take()
            assert self.take() == "=", self.rule
            yield self.rule, self.choice()
            assert self.take() == ";", self.rule

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def choice(self) -> _Part:
        options = [self.sequence()]
        while self.tokens[self.at] == "|":
            self.take()
            options.append(self.sequence())
        if len(options) == 1:
            return options[0]
        lone = [Construct(self.rule, part.name) if isinstance(part, _Reference) else None for part in options]
        return _Choice(tuple(options), tuple(lone))

    def sequence(self) -> _Part:
        parts = [self.part()]
        while self.tokens[self.at] not in "|)]};":
            if self.tokens[self.at] == ",":
                self.take()
            else:
                parts.append(self.part())
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def part(self) -> _Part:
        token = self.take()
        if token in ("(", "[", "{"):
            inner = self.choice()
            assert self.take() == {"(": ")", "[": "]", "{": "}"}[token], self.rule
            return inner if token == "(" else _Repeated(inner, token == "{")
        if token[0] == '"':
            return _Word(Construct(self.rule, token), token[1:-1])
        assert token.isidentifier(), (self.rule, token)
        return _Reference(token)


class Grammar:
    """Rules by name."""

    def __init__(self, text: str) -> None:
        self.rules = dict(_Reader(text).rules())
        self.constructs = sorted(self._constructs())

    def used_by(self, text: str) -> set[Construct]:
        """The constructs that a text uses; it is one that the grammar allows."""
        tokens = _tokens(text)
        found = _Matcher(self.rules, tokens).match(_Reference("text"), 0)
        assert found is not None, f"the grammar of docs/text-format.md does not allow:\n{text}"
        assert found[0] == len(tokens), f"the grammar ends at {tokens[found[0] : found[0] + 8]}:\n{text}"
        return set(found[1])

    def _constructs(self) -> set[Construct]:
        found: set[Construct] = set()
        left = [part for name, part in self.rules.items() if not name.isupper()]
        while left:
            match left.pop():
                case _Word(construct):
                    found.add(construct)
                case _Sequence(parts):
                    left += parts
                case _Choice(options, lone):
                    left += options
                    found |= {construct for construct in lone if construct is not None}
                case _Repeated(part):
                    left.append(part)
        return found


class _Matcher:
    """Matches tokens with rules: of alternatives the longest, of those the one with a word of its own."""

    def __init__(self, rules: dict[str, _Part], tokens: list[str]) -> None:
        self.rules = rules
        self.tokens = tokens

    def match(self, part: _Part, at: int) -> _Found:
        match part:
            case _Word(construct, text):
                return (at + 1, (construct,)) if self.tokens[at : at + 1] == [text] else None
            case _Reference(name):
                return self.token(name, at) if name.isupper() else self.match(self.rules[name], at)
            case _Sequence(parts):
                return self.sequence(parts, at)
            case _Choice(options, lone):
                return self.choice(options, lone, at)
            case _Repeated(inner, often):
                return self.repeated(inner, at, often)

    def sequence(self, parts: tuple[_Part, ...], at: int) -> _Found:
        used: list[Construct] = []
        for part in parts:
            found = self.match(part, at)
            if found is None:
                return None
            at = found[0]
            used += found[1]
        return at, tuple(used)

    def choice(self, options: tuple[_Part, ...], lone: tuple[Construct | None, ...], at: int) -> _Found:
        best: _Found = None
        for option, construct in zip(options, lone, strict=True):
            found = self.match(option, at)
            if found is not None and (
                best is None or found[0] > best[0] or (found[0] == best[0] and construct is None)
            ):
                best = found[0], (*found[1], *([] if construct is None else [construct]))
        return best

    def repeated(self, part: _Part, at: int, often: bool) -> _Found:
        used: list[Construct] = []
        while (found := self.match(part, at)) is not None and found[0] > at:
            at = found[0]
            used += found[1]
            if not often:
                break
        return at, tuple(used)

    def token(self, name: str, at: int) -> _Found:
        """A token of a kind that the page describes in words, or a name with its sigil."""
        sign = self.tokens[at : at + 1] == ["-"] and name in ("INTEGER", "NUMBER")
        if name == "NUMBER":
            return self.number(at + sign)
        rule = self.rules.get(name)
        pattern = _TOKENS["NATURAL" if name == "INTEGER" else name] if rule is None else _with_sigil(rule)
        token = self.tokens[at + sign : at + sign + 1]
        return (at + sign + 1, ()) if token and re.fullmatch(pattern, token[0], re.ASCII) else None

    def number(self, at: int) -> _Found:
        """A number; a NaN may show its payload."""
        token = "".join(self.tokens[at : at + 1])
        if not _NUMBER.fullmatch(token):
            return None
        return (at + 4, ()) if token == "nan" and self.tokens[at + 1 : at + 2] == ["("] else (at + 1, ())


def _with_sigil(rule: _Part) -> str:
    assert isinstance(rule, _Sequence)
    sigil, name = rule.parts
    assert isinstance(sigil, _Word)
    assert isinstance(name, _Reference)
    return f"{re.escape(sigil.text)}(?:{_TOKENS[name.name]})"


def _tokens(text: str) -> list[str]:
    lexer, tokens = Lexer(text, "drawn"), list[str]()
    lexer.seek(0)
    while lexer.token != END:
        tokens.append(lexer.token)
        lexer.advance()
    return tokens


def grammar_of_page() -> Grammar:
    """The grammar in docs/text-format.md."""
    blocks = re.findall(r"^```ebnf\n(.*?)^```", _PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    return Grammar(blocks[0])

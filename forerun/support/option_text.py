"""The text of named choices with options: ``name{key=value,key="other value"},name``.

Pipelines and targets are written in it. The grammar (white space between tokens is ignored)::

    items  = [ item { "," item } ]
    item   = name [ "{" [ option { "," option } ] "}" ]
    option = key "=" value
    value  = bare | quoted          # quoted: a JSON string
    bare   = one or more characters other than white space , { } = " '

What names, keys and values mean is for :mod:`forerun.support.options` and its callers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from forerun.support.diagnostics import Diagnostic, InvalidInput, Location
from forerun.support.escaping import is_visible, masked, visible

__all__ = [
    "ItemText",
    "OptionText",
    "OptionTextError",
    "Span",
    "format_item",
    "format_value",
    "parse_item",
    "parse_items",
]

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_BARE = re.compile(r"[^\s,{}=\"']+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.+\-/:@%*~]+")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the text: where it starts (an index) and how long it is."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class OptionText:
    """One ``key=value``. ``quoted`` tells ``"none"`` from ``none``."""

    key: str
    value: str
    quoted: bool
    key_span: Span
    value_span: Span


@dataclass(frozen=True, slots=True)
class ItemText:
    """One ``name{...}``."""

    name: str
    options: tuple[OptionText, ...]
    span: Span


@dataclass(eq=False)
class OptionTextError(InvalidInput):
    """A pipeline or a target is written wrongly; printed with a caret under the place.

    Attributes:
        text: What the diagnostics' lines and columns count in.
    """

    text: str = field(default="")

    @classmethod
    def of(cls, what: str, text: str, findings: Iterable[tuple[str, str, Span, str]]) -> OptionTextError:
        """An error with one diagnostic for each ``(code, message, span, hint)``."""
        diagnostics = tuple(
            Diagnostic(code, message, _location(what, text, span), hint) for code, message, span, hint in findings
        )
        return cls(f"bad {what}", diagnostics, text=text)

    def __str__(self) -> str:
        return "\n".join((f"{self.message}:", *(self._draw(d) for d in self.diagnostics)))

    def _draw(self, diagnostic: Diagnostic) -> str:
        place = diagnostic.location
        line = self.text.split("\n")[place.line - 1]
        # A long pipeline is cut around the place, so that the caret stays on the screen.
        start = max(0, place.column - 1 - 60)
        shown = masked(line[start : start + 120])
        caret = " " * (place.column - 1 - start) + "^" * max(1, min(place.length, 120))
        hint = f"\n  hint: {visible(diagnostic.hint)}" if diagnostic.hint else ""
        return f"  {shown}\n  {caret}\n  {diagnostic.severity}[{diagnostic.code}]: {visible(diagnostic.message)}{hint}"


def parse_items(text: str, what: str = "pipeline") -> tuple[ItemText, ...]:
    r"""All items of a text; ``what`` it is, messages say.

    Raises:
        OptionTextError: If the text does not follow the grammar.

    Example:
        >>> [(item.name, len(item.options)) for item in parse_items('a,b{n=3, file="x y"}')]
        [('a', 0), ('b', 2)]
    """
    return _Parser(text, what).items()


def parse_item(text: str, what: str) -> ItemText:
    """The only item of a text.

    Raises:
        OptionTextError: If the text does not follow the grammar, or holds no item, or more than one.
    """
    parser = _Parser(text, what)
    items = parser.items()
    if not items:
        parser.fail(f"a {what} is missing", Span(0, 1))
    if len(items) > 1:
        parser.fail(f"one {what} is expected, this is another", items[1].span)
    return items[0]


def format_item(name: str, options: Mapping[str, str]) -> str:
    """The text of an item; option values are as :func:`format_value` and the like return them."""
    inside = ",".join(f"{key}={value}" for key, value in options.items())
    return f"{name}{{{inside}}}" if inside else name


def format_value(value: str, *, quote: bool = False) -> str:
    """A value as text: bare where it can be read back so, else a JSON string in printable characters on one line."""
    if not quote and _PLAIN.fullmatch(value):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if is_visible(c) else json.dumps(c)[1:-1] for c in quoted)


def _location(what: str, text: str, span: Span) -> Location:
    line = text.count("\n", 0, span.start) + 1
    column = span.start - (text.rfind("\n", 0, span.start) + 1) + 1
    return Location("text", what, line, column, span.length)


class _Parser:
    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self.advance(0)

    def fail(self, message: str, span: Span, hint: str = "") -> NoReturn:
        raise OptionTextError.of(self.what, self.text, [("O1", message, span, hint)])

    def items(self) -> tuple[ItemText, ...]:
        if self.at_end():
            return ()
        items = [self.item()]
        while self.take(","):
            items.append(self.item())
        if not self.at_end():
            self.fail(f"'{self.text[self.position]}' is not expected here", self.here(), "items are joined by commas")
        return tuple(items)

    def item(self) -> ItemText:
        name, span = self.token(_NAME, "a name")
        options: list[OptionText] = []
        opening = self.here()
        if self.take("{") and not self.take("}"):
            options.append(self.option())
            while self.take(","):
                options.append(self.option())
            if not self.take("}"):
                self.fail("this brace is not closed", opening, "options end with '}'")
        self.reject_repeats(options)
        return ItemText(name, tuple(options), span)

    def option(self) -> OptionText:
        key, key_span = self.token(_KEY, "an option's name")
        if not self.take("="):
            self.fail(f"option '{key}' has no value", key_span, f"write {key}=VALUE")
        start = self.position
        if self.text.startswith('"', start):
            value, span = self.quoted()
            return OptionText(key, value, True, key_span, span)
        value, span = self.token(_BARE, f"a value for option '{key}'")
        return OptionText(key, value, False, key_span, span)

    def quoted(self) -> tuple[str, Span]:
        found = _QUOTED.match(self.text, self.position)
        if found is None:
            self.fail("this quote is not closed", self.here())
        span = Span(found.start(), len(found.group()))
        try:
            value = json.loads(found.group(), strict=False)
        except ValueError:
            self.fail("this is not a valid JSON string", span, 'escapes are \\" \\\\ \\n \\t \\uXXXX')
        self.advance(found.end())
        return str(value), span

    def reject_repeats(self, options: list[OptionText]) -> None:
        seen: set[str] = set()
        for option in options:
            key = option.key.replace("_", "-")
            if key in seen:
                self.fail(f"option '{option.key}' is given twice", option.key_span)
            seen.add(key)

    def token(self, pattern: re.Pattern[str], what: str) -> tuple[str, Span]:
        found = pattern.match(self.text, self.position)
        if found is None:
            is_single = self.text.startswith("'", self.position)
            hint = "values are quoted with double quotes" if is_single else ""
            self.fail(f"{what} is missing here", self.here(), hint)
        self.advance(found.end())
        return found.group(), Span(found.start(), len(found.group()))

    def take(self, character: str) -> bool:
        if not self.text.startswith(character, self.position):
            return False
        self.advance(self.position + 1)
        return True

    def here(self) -> Span:
        return Span(self.position, 1)

    def advance(self, position: int) -> None:
        """Go to a position, and past the white space there."""
        found = _SPACE.match(self.text, position)
        self.position = found.end() if found else position

    def at_end(self) -> bool:
        return self.position >= len(self.text)

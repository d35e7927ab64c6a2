"""Reads words and values: names, numbers, places, regions. Each method leaves the position after what it read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from sys import intern
from typing import Any, NoReturn, TypeVar

from forerun.ir.affine import Affine
from forerun.ir.region import WHOLE, BufferView, Region, Slice
from forerun.ir.text.lexer import END, Fault, Lexer
from forerun.ir.text.spelling import MAX_HEXADECIMAL, MAX_ITEMS, MAX_NAN, QUIET_NAN, SyntaxProblem, nan, unquote
from forerun.ir.text.value_reader import PLACE_KINDS, affine_text
from forerun.ir.types import HOST, DType, Place
from forerun.support.diagnostics import Diagnostic, did_you_mean
from forerun.support.escaping import is_visible

__all__ = ["Reader"]

_T = TypeVar("_T")

_DTYPES = {str(dtype): dtype for dtype in DType}
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_DIGITS = frozenset("0123456789")
_SIGILS = {
    "%": "a buffer such as %x",
    "$": "an allocation such as $x",
    "@": "a kernel such as @f",
    "#": "a node such as #n",
}
_QUOTES = 'names with unusual characters are written in quotes: %"..."'
_MAX_DIGITS = 1000  # Python converts up to 4300, in quadratic time
_SHOWN = 40


class Reader(Lexer):
    """Values of the text form, and the errors about them.

    Attributes:
        statement: The number of the token that began the current statement; what it is about comes next.
    """

    statement = 0

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text, name)
        self._references: dict[str, str] = {}

    # Errors

    def fail(self, expected: str, hint: str = "") -> NoReturn:
        """End the statement: something else stands here than what is expected."""
        token, ordinal = self.token, self.ordinal
        self._fail_on_its_own(token, ordinal)
        start, stop = self.span(ordinal)
        if token == END:
            self.fault("P5", f"expected {expected}, but the text ends", start, stop, hint)
        before = self.span(ordinal - 1)[1] if ordinal > self.statement else start
        if "\n" in self.text[before:start]:
            self.fault("P5", f"expected {expected}, but the line ends", before, before + 1, hint)
        self.fault("P5", f"expected {expected}, found {_shown(token)}", start, stop, hint)

    def _fail_on_its_own(self, token: str, ordinal: int) -> None:
        """Faults of tokens that are wrong wherever they stand."""
        if token.startswith('!"'):
            self.fault_at(ordinal, "P10", f"a value without a textual form was printed here: {_shown(token[2:-1])}")
        if token and token[0] in '"%$#@' and '"' in token[:2]:
            self._unquoted(token, ordinal)
        if len(token) == 1 and (token in "`'?;~^&|<>\\" or not token.isascii()):
            hint = "" if token.isascii() else _QUOTES
            self.fault_at(ordinal, "P2", f"the character {_shown(token)} has no meaning outside quotes", hint)

    def fault_at(self, ordinal: int, code: str, message: str, hint: str = "", *, fatal: bool = False) -> NoReturn:
        """End the statement with a diagnostic about a token."""
        self.fault(code, message, *self.span(ordinal), hint, fatal=fatal)

    def fault(self, code: str, message: str, start: int, stop: int, hint: str = "", *, fatal: bool = False) -> NoReturn:
        """End the statement with a diagnostic about a piece of a line."""
        raise Fault(Diagnostic(code, message, self.location(start, stop), hint), start, fatal=fatal)

    def unknown(self, what: str, valid: Iterable[str]) -> NoReturn:
        """End the statement: the word here is none of the valid ones."""
        valid = list(valid)
        if self.token[:1] not in _LETTERS:
            self.fail(f"{'an' if what[0] in 'aeiou' else 'a'} {what} ({', '.join(valid)})")
        hint = did_you_mean(self.token, valid)
        self.fault_at(self.ordinal, "P6", f"unknown {what} {_shown(self.token)}", hint)

    # Words

    def expect(self, token: str) -> None:
        """Read a token that must stand here."""
        if self.token != token:
            self.fail(f"'{token}'")
        self.token = self.following()

    def accept(self, token: str) -> bool:
        """Read a token if it stands here."""
        if self.token != token:
            return False
        self.token = self.following()
        return True

    def one_of(self, what: str, words: Mapping[str, _T]) -> _T:
        """Read a word of a closed set; returns what it stands for."""
        found = words.get(self.token)
        if found is None:
            self.unknown(what, words)
        self.token = self.following()
        return found

    def keyword_or_string(self, what: str, words: Iterable[str]) -> str:
        """Read one of the known words, or any other text in quotes."""
        if self.token in words:
            return self.word(what)
        if self.token[:1] != '"':
            self.unknown(what, words)
        return self.string(what)

    def word(self, what: str) -> str:
        """Read a name without a sigil, plain or in quotes."""
        token = self.token
        if token[:1] in _LETTERS:
            self.token = self.following()
            return intern(token)
        return self.string(what)

    def string(self, what: str) -> str:
        """Read a string in quotes."""
        if self.token[:1] != '"':
            self.fail(what)
        text = self._unquoted(self.token, self.ordinal)
        self.advance()
        return text

    def reference(self, sigil: str) -> str:
        """Read a name with its sigil."""
        token = self.token
        if token[:1] != sigil:
            self.fail(_SIGILS[sigil])
        name = self._references.get(token)
        if name is None:
            name = self._references[token] = self._name(token)
        self.token = self.following()
        return name

    def _name(self, reference: str) -> str:
        if len(reference) == 1:
            self.fault_at(self.ordinal, "P5", f"expected a name right after '{reference}'", _QUOTES)
        return self._unquoted(reference, self.ordinal) if reference[1] == '"' else intern(reference[1:])

    def _unquoted(self, token: str, ordinal: int) -> str:
        quoted = token[token.index('"') :]
        try:
            return unquote(quoted)
        except SyntaxProblem as problem:
            start, stop = self.span(ordinal)
            if problem.offset:
                start = stop - len(quoted) + problem.offset
                stop = start + 2
            self.fault("P3", str(problem), start, stop)

    def several(self, item: Callable[[], _T]) -> tuple[_T, ...]:
        """Read one or more items with commas between them."""
        found = [item()]
        while self.token == ",":
            if len(found) == MAX_ITEMS:
                self.fault_at(self.ordinal, "P9", f"more than {MAX_ITEMS} items", fatal=True)
            self.token = self.following()
            found.append(item())
        return tuple(found)

    def enclosed(self, opening: str, item: Callable[[], _T], closing: str) -> tuple[_T, ...]:
        """Read items in brackets; there may be none."""
        self.expect(opening)
        if self.accept(closing):
            return ()
        found = self.several(item)
        if self.token != closing:
            self.fail(f"',' or '{closing}'")
        self.token = self.following()
        return found

    def parenthesised(self, item: Callable[[], _T]) -> _T:
        """Read an item in parentheses."""
        self.expect("(")
        found = item()
        self.expect(")")
        return found

    def clauses(self, known: Mapping[str, tuple[str, Callable[[Any], Any]]], why_once: str = "") -> dict[str, Any]:
        """Read clauses in any order, each of them once: what they say, by field.

        Known has for each keyword the field, and how the reader reads what comes after it; ``why_once`` ends the
        message about a clause that is given twice.
        """
        fields: dict[str, Any] = {}
        while (clause := known.get(self.token)) is not None:
            field, read = clause
            if field in fields:
                self.fault_at(self.ordinal, "P11", f"'{self.token}' is given twice{why_once}")
            self.advance()
            fields[field] = read(self)
        return fields

    # Numbers

    def natural(self) -> int:
        """Read an integer without a sign."""
        token = self.token
        if token[:1] not in _DIGITS:
            self.fail("an integer")
        if token.isdigit() and len(token) <= _MAX_DIGITS:
            self.token = self.following()
            return int(token)
        return self._long_natural(token)

    def _long_natural(self, token: str) -> int:
        if token.isdigit() or len(token) > MAX_HEXADECIMAL:
            message = f"an integer of more than {_MAX_DIGITS} decimal or {MAX_HEXADECIMAL} hexadecimal digits"
            self.fault_at(self.ordinal, "P4", message)
        try:
            value = int(token, 16) if token[:2] in ("0x", "0X") and "_" not in token else None
        except ValueError:
            value = None
        if value is None:
            self.fault_at(self.ordinal, "P4", f"expected an integer, found {_shown(token)}")
        self.advance()
        return value

    def integer(self) -> int:
        """Read an integer."""
        token = self.token
        if token[:1] in _DIGITS and token.isdigit() and len(token) <= _MAX_DIGITS:
            self.token = self.following()
            return int(token)
        return -self.natural() if self.accept("-") else self.natural()

    def summand(self) -> int:
        """Read ``+ 3`` or ``- 3`` if one of them stands here; else zero."""
        if self.token == "-":
            return self.integer()
        return self.natural() if self.accept("+") else 0

    def number(self) -> int | float:
        """Read an integer or a float."""
        if not self.accept("-"):
            return self._magnitude()
        return -self._magnitude()

    def _magnitude(self) -> int | float:
        token = self.token
        if token == "inf":
            self.advance()
            return math.inf
        if token == "nan":
            self.advance()
            return self._nan()
        if token.isdigit() or token[:2] in ("0x", "0X") or token[:1] not in _DIGITS:
            return self.natural()
        try:
            value = float(token) if "_" not in token else math.inf
        except ValueError:
            value = math.inf
        if math.isinf(value):
            self.fault_at(self.ordinal, "P4", f"malformed or too large number {_shown(token)}")
        self.advance()
        return value

    def _nan(self) -> float:
        """Read the payload of a NaN, if one stands here."""
        payload = QUIET_NAN
        if self.accept("("):
            ordinal = self.ordinal
            payload = self.natural()
            if not 0 < payload <= MAX_NAN:
                self.fault_at(ordinal, "P4", f"the payload of a NaN is from 1 to {MAX_NAN:#x}")
            self.expect(")")
        return nan(payload)

    # Types and places

    def dtype(self) -> DType:
        """Read an element type."""
        return self.one_of("element type", _DTYPES)

    def place(self) -> Place:
        """Read ``host`` or ``device:0``."""
        kind = self.keyword_or_string("place", PLACE_KINDS)
        if kind == HOST.kind and self.token != ":":
            return HOST
        self.expect(":")
        return Place(kind, self.integer())

    # Regions

    def view(self) -> BufferView:
        """Read ``%a[0:4]``."""
        return BufferView(self.reference("%"), self.region())

    def region(self) -> Region:
        """Read ``[pos:pos + 1, :]`` if a bracket stands here; else the region is whole."""
        if self.token != "[":
            return WHOLE
        slices = self.enclosed("[", self._slice, "]")
        return Region(slices)

    def _slice(self) -> Slice | None:
        if self.token == ":":
            self.advance()
            return None
        start = self._affine()
        if self.token != ":":
            one = f"one element is written {affine_text(start)}:{affine_text(start + 1)}"
            self.fail("':'", one if self.token in ("]", ",") else "")
        self.advance()
        return Slice(start, self._affine())

    def _affine(self) -> Affine:
        sign = -1 if self.accept("-") else 1
        constant = count = 0
        terms: dict[str, int] = {}
        while True:
            symbol, factor = self._term()
            if symbol is None:
                constant += sign * factor
            else:
                terms[symbol] = terms.get(symbol, 0) + sign * factor
            if self.token != "+" and self.token != "-":
                break
            count += 1
            if count == MAX_ITEMS:
                self.fault_at(self.ordinal, "P9", f"a sum of more than {MAX_ITEMS} terms", fatal=True)
            sign = 1 if self.token == "+" else -1
            self.advance()
        if not terms:
            return Affine(constant)
        return Affine(constant, tuple(sorted((symbol, factor) for symbol, factor in terms.items() if factor)))

    def _term(self) -> tuple[str | None, int]:
        if self.token[:1] not in _DIGITS:
            return self.word("an integer or the name of a scalar"), 1
        factor = self.natural()
        return (self.word("the name of a scalar"), factor) if self.accept("*") else (None, factor)


def _shown(token: str) -> str:
    """A token within a message."""
    text = token if len(token) <= _SHOWN else token[:_SHOWN] + "..."
    return "'" + "".join(c if is_visible(c) else "?" for c in text) + "'"

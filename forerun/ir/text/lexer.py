"""Text to tokens, a few lines at a time, so that neither time nor memory depends on what follows an error.

A token is a plain string; its first character says what it is. Where it stands is worked out only when somebody asks:
tokens are numbered, and the window of lines that holds a number is lexed again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from operator import length_hint

from forerun.ir.text.spelling import MAX_LINE
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["END", "Fault", "Lexer"]

END = ""
"""The token after the last."""

_WINDOW = 1 << 16
_SPACE = r"[ \t\r\n]*+(?://[^\n]*+[ \t\r\n]*+)*+"
_STRING = r'"(?:[^"\\\n]++|\\[^\n])*+"?'
_REFERENCE = rf"[%$#@](?:\w(?:[\w.]|[/-](?=\w))*+|{_STRING})?"
_NUMBER = r"0[xX]\w*+|\d\w*+(?:\.\d\w*+)?(?:(?<=[eE])[+-]\d+)?"
# The last alternative takes any character, so that nothing is ever skipped; \Z stops the search for a token in space.
_TOKEN = re.compile(rf"{_SPACE}([A-Za-z_][\w.]*+|{_REFERENCE}|{_NUMBER}|->|\.\.|!?{_STRING}|[^ \t\r\n]|\Z)", re.ASCII)
_LINE_START = re.compile(r"[ \t\r]*")


class Fault(Exception):
    """Ends the statement that is being parsed; ``fatal`` ends the parse."""

    def __init__(self, diagnostic: Diagnostic, offset: int, *, fatal: bool = False) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic
        self.offset = offset
        self.fatal = fatal


class Lexer:
    """A position in a text, whose name is for locations; call :meth:`seek` to begin.

    Attributes:
        token: The token at the position; :data:`END` at the end of the text.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.token = END
        self._tokens: list[str] = []
        self._rest: Iterator[str] = iter(self._tokens)
        self._first = 0
        self._windows = [(0, 0)]
        self.following: Callable[[], str] = lambda: END

    @property
    def ordinal(self) -> int:
        """The number of the token at the position."""
        return self._first + len(self._tokens) - length_hint(self._rest) - 1

    def advance(self) -> None:
        """Go to the next token. In hot places, write what this does."""
        self.token = self.following()

    def seek(self, offset: int) -> None:
        """Go to the token at or after an offset. Numbers of tokens keep growing."""
        # A chain over the windows' own iterators runs at the speed of C; see ``ordinal`` for where it stands.
        self.following = chain.from_iterable(self._lex(offset)).__next__
        self.token = self.following()

    def close(self) -> None:
        """Let go of the tokens ahead, whose source refers back to this object."""
        self.following = lambda: END

    def _lex(self, start: int) -> Iterator[Iterator[str]]:
        """The tokens of the lines from an offset on, a window at a time; then :data:`END` for ever."""
        while start < len(self.text):
            stop = self._window_stop(start)
            tokens = _TOKEN.findall(self.text, start, stop)
            while tokens and not tokens[-1]:
                tokens.pop()
            if tokens:
                self._begin(tokens)
                self._windows.append((self._first, start))
                yield self._rest
            start = stop
        self._begin([END])
        self._rest = iter(())
        yield repeat(END)

    def _begin(self, tokens: list[str]) -> None:
        self._first, self._tokens, self._rest = self.ordinal + 1, tokens, iter(tokens)

    def _window_stop(self, start: int) -> int:
        """Whole lines of about the size of a window."""
        stop = self.text.rfind("\n", start, start + _WINDOW) + 1
        if stop:
            return stop
        stop = self.text.find("\n", start + _WINDOW)
        stop = len(self.text) if stop < 0 else stop + 1
        if stop - start > MAX_LINE:
            location = self.location(start, start + 1)
            raise Fault(Diagnostic("P9", f"the line is longer than {MAX_LINE} characters", location), start, fatal=True)
        return stop

    # Places

    def span(self, ordinal: int) -> tuple[int, int]:
        """Start and stop of a token as offsets in the text."""
        first, start = self._windows[bisect_right(self._windows, (ordinal, len(self.text))) - 1]
        stop = start
        for number, match in enumerate(_TOKEN.finditer(self.text, start), first):
            if number == ordinal and match[1]:
                return match.span(1)
            if not match[1]:
                break
            stop = match.end(1)
        return stop, stop + 1  # just after the last token

    def location(self, start: int, stop: int) -> Location:
        """The place of a piece of one line."""
        line = self.line_of(start)
        column = start - self.text.rfind("\n", 0, start)
        return Location("text", self.name, line, column, max(stop - start, 1))

    def line_of(self, offset: int) -> int:
        """The one-based number of the line that holds an offset."""
        return self.text.count("\n", 0, offset) + 1

    def tokens_from(self, start: int) -> Iterator[tuple[int, str]]:
        """The tokens of the window from an offset on, with their offsets."""
        matches = _TOKEN.finditer(self.text, start, min(start + _WINDOW, len(self.text)))
        return ((match.start(1), match[1]) for match in matches if match[1])

    def begins_line(self, offset: int) -> bool:
        """Whether only space stands before an offset in its line."""
        start = self.text.rfind("\n", 0, offset) + 1
        return _LINE_START.fullmatch(self.text, start, offset) is not None

"""Words of PTX, the places of mistakes, and the patterns that cut a text into statements (PTX ISA, "Syntax")."""

from __future__ import annotations

import re

from forerun.support.diagnostics import Diagnostic, InvalidInput, Location
from forerun.support.excerpt import draw_in_text

__all__ = [
    "HEAD",
    "IMMEDIATE",
    "INSTRUCTION",
    "LABEL",
    "NAME",
    "SECTION",
    "SPACE",
    "UNTIL_SEMICOLON",
    "WHOLE",
    "fault",
    "place_of",
    "words",
]

_COMMENT = r"//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/"
_SPACE = rf"\s*+(?:(?:{_COMMENT})\s*+)*+"
_STRING = r'"[^"\n]*+"'
_NAME = r"[A-Za-z_$%][\w$]*+(?:(?:\.|::)\w++)*+"
_NUMBER = r"0[xX][0-9A-Fa-f]++U?|0[bB][01]++U?|0[fFdD][0-9A-Fa-f]++|\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?U?"
_NO_SEMICOLON = rf'(?:[^;/"]++|{_COMMENT}|{_STRING}|/(?![/*]))*+'
# Longer ones than 128 bits need are none.
_WHOLE = r"(?:0[xX][0-9A-Fa-f]{1,32}|0[bB][01]{1,128}|0[0-7]{0,43}|[1-9]\d{0,38})"

SPACE = re.compile(_SPACE)
NAME = re.compile(_NAME, re.ASCII)
WHOLE = re.compile(_WHOLE, re.ASCII)
LABEL = re.compile(rf"([A-Za-z_$%][\w$]*+){_SPACE}:(?!:)", re.ASCII)
IMMEDIATE = re.compile(
    rf"{_WHOLE}U?|0[fF][0-9A-Fa-f]{{8}}|0[dD][0-9A-Fa-f]{{16}}|\d++\.\d*+(?:[eE][+-]?\d++)?|\d++[eE][+-]?\d++", re.ASCII
)
INSTRUCTION = re.compile(
    rf"(?:@\s*+(?P<negated>!?)\s*+(?P<guard>{_NAME}){_SPACE})?"
    rf"(?P<opcode>[a-z]\w*+(?:(?:\.|::)\w++)*+)(?=[\s;/{{(\[])(?!\s*+:)(?P<operands>{_NO_SEMICOLON});",
    re.ASCII,
)
# In the head of a function, a pragma has a semicolon of its own.
HEAD = re.compile(rf'(?:[^;{{/"]++|{_COMMENT}|{_STRING}(?:\s*+;)?|/(?![/*]))*+[;{{]')
UNTIL_SEMICOLON = re.compile(rf"{_NO_SEMICOLON};")
SECTION = re.compile(
    rf'\.section\s++(?P<name>\.?[\w$.]++)\s*+\{{(?P<body>(?:[^}}/"]++|{_COMMENT}|{_STRING}|/(?![/*]))*+)\}}', re.ASCII
)
# Any other character is a word of its own, so that nothing is skipped; \Z ends the search in space.
_WORD = re.compile(rf"{_SPACE}({_NAME}|\.[A-Za-z_]\w*+(?:::\w++)*+|{_NUMBER}|{_STRING}|\S|\Z)", re.ASCII)


def words(text: str) -> list[str]:
    """The words of a text, without white space and comments.

    Example:
        >>> words("ld.global.u32 {%r1}, [%rd1 + 4]; // x")
        ['ld.global.u32', '{', '%r1', '}', ',', '[', '%rd1', '+', '4', ']', ';']
    """
    found = _WORD.findall(text)
    while found and not found[-1]:
        found.pop()
    return found


def place_of(text: str, start: int, stop: int, number: int) -> tuple[int, int]:
    """Start and stop of a word, by its number among those of ``text[start:stop]``; after the last, just behind it."""
    end = start
    for index, match in enumerate(_WORD.finditer(text, start, stop)):
        if index == number and match[1]:
            return match.span(1)
        end = match.end(1) if match[1] else end
    return end, end + 1


def fault(text: str, name: str, start: int, stop: int, message: str, hint: str = "") -> InvalidInput:
    """The error for a piece of a text that is not understood. Its note shows the line."""
    line = text.count("\n", 0, start) + 1
    begin = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start)
    stop = min(stop, len(text) if end < 0 else end)
    location = Location("text", name, line, start - begin + 1, max(stop - start, 1))
    diagnostic = Diagnostic("PTX1", message, location, hint)
    error = InvalidInput(f"cannot read {name} as PTX", (diagnostic,))
    error.add_note(draw_in_text(diagnostic, text))
    return error

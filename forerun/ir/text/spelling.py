"""How single words are spelled: names, strings and numbers, for the printer and the parser alike."""

from __future__ import annotations

import numbers
import operator
import re
import struct
import sys
from functools import lru_cache

from forerun.support.escaping import is_visible

__all__ = [
    "BYTE_ORDER_MARK",
    "FORMAT_VERSION",
    "MAX_ERRORS",
    "MAX_HEXADECIMAL",
    "MAX_ITEMS",
    "MAX_LINE",
    "MAX_NAN",
    "MAX_NESTING",
    "MAX_RANK",
    "MAX_SHAPE_BITS",
    "MAX_TEXT",
    "QUIET_NAN",
    "SyntaxProblem",
    "integer",
    "nan",
    "number",
    "quote",
    "reference",
    "unprintable",
    "unquote",
    "word",
]

FORMAT_VERSION = 1
# Python refuses to write integers of more than 4,300 digits, wherever they turn up: in messages, JSON, printed graphs.
# The text form bounds them itself, by MAX_HEXADECIMAL and MAX_SHAPE_BITS; what arithmetic makes of them is about twice
# as long at most, and is written in milliseconds. So Python's bound is raised to that (not if it is higher, or off).
_MAX_WRITTEN_DIGITS = 50_000
if 0 < sys.get_int_max_str_digits() < _MAX_WRITTEN_DIGITS:
    sys.set_int_max_str_digits(_MAX_WRITTEN_DIGITS)

BYTE_ORDER_MARK = "\ufeff"

# Bounds on what is parsed, far beyond any graph that a GPU could run (20,000 nodes take about 10 million characters).
# The printer marks what goes beyond MAX_NESTING and MAX_HEXADECIMAL.
MAX_TEXT = 1 << 26
MAX_LINE = 1 << 24
MAX_ITEMS = 1 << 17
MAX_RANK = 1 << 10
MAX_HEXADECIMAL = 1 << 12
MAX_SHAPE_BITS = 1 << 16
MAX_NESTING = 32
MAX_ERRORS = 20

# After a sigil a name may begin with a digit and hold '/' and '-' between word characters; other words may not.
_is_plain_reference = re.compile(r"\w(?:[\w.]|[/-](?=\w))*+", re.ASCII).fullmatch
_is_plain_word = re.compile(r"[A-Za-z_][\w.]*+", re.ASCII).fullmatch
_is_closed = re.compile(r'"(?:[^"\\\n]++|\\[^\n])*+"').fullmatch
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_SIMPLE = {"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_SPELLED = {meaning: "\\" + letter for letter, meaning in _SIMPLE.items()}
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

# The payloads of NaNs of 64 bits (IEEE 754): the mantissa is not zero, and its first bit says that the NaN is quiet.
MAX_NAN = (1 << 52) - 1
QUIET_NAN = 1 << 51
_INFINITY = 0x7FF << 52
_MAX_UNPRINTABLE = 200
_MAX_DECIMAL_BITS = 64


class SyntaxProblem(ValueError):
    """A word that has no meaning; ``offset`` is where in the word."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


def reference(sigil: str, name: object) -> str:
    """A name after its sigil, quoted if it is not plain.

    Example:
        >>> print(reference("%", "blk.0/q-weight"), reference("#", "two words"))
        %blk.0/q-weight #"two words"
    """
    return _reference(sigil, name) if type(name) is str else unprintable(name)


# A name occurs many times in a graph, and looking it up takes a quarter of the time of matching it.
@lru_cache(maxsize=1 << 16)
def _reference(sigil: str, name: str) -> str:
    return sigil + name if _is_plain_reference(name) else sigil + quote(name)


def word(name: object, known: tuple[str, ...] = ()) -> str:
    """A name without a sigil, quoted if it is not plain, or if ``known`` lists the plain ones and it is not there."""
    return _word(name, known) if type(name) is str else unprintable(name)


@lru_cache(maxsize=1 << 12)
def _word(name: str, known: tuple[str, ...]) -> str:
    plain = name in known if known else _is_plain_word(name) and name != "_"
    return name if plain else quote(name)


def quote(text: object) -> str:
    r"""A string between quotes, on one line, with everything that does not print escaped.

    Example:
        >>> print(quote('say "hi"\n'))
        "say \"hi\"\n"
    """
    if type(text) is not str:
        return unprintable(text)
    if is_visible(text) and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_spell, text)) + '"'


def _spell(character: str) -> str:
    if character in _SPELLED:
        return _SPELLED[character]
    if is_visible(character):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(token: str) -> str:
    """What a quoted string means.

    Raises:
        SyntaxProblem: If the string is not closed or an escape is unknown.
    """
    if not _is_closed(token):
        raise SyntaxProblem("the string is not closed on its line")
    return _ESCAPE.sub(_unescape, token[1:-1]) if "\\" in token else token[1:-1]


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits is None:
        if match[4] in _SIMPLE:
            return _SIMPLE[match[4]]
        raise SyntaxProblem(f"unknown escape '\\{_spell(match[4])}'", match.start() + 1)
    if int(digits, 16) > 0x10FFFF:
        raise SyntaxProblem("no such character", match.start() + 1)
    return chr(int(digits, 16))


def integer(value: object) -> str:
    """An integer: decimal, or hexadecimal beyond 64 bits (Python bounds the length of decimal conversions)."""
    if type(value) is not int:
        if not isinstance(value, numbers.Integral):
            return unprintable(value)
        value = operator.index(value)
    if value.bit_length() <= _MAX_DECIMAL_BITS:
        return str(value)
    return hex(value) if value.bit_length() <= 4 * (MAX_HEXADECIMAL - len("0x")) else unprintable(value)


def number(value: object) -> str:
    """An integer or a float; a float always has a point, an exponent, or is ``inf`` or a NaN with its sign and payload.

    Example:
        >>> print(number(3), number(3.0), number(1e-05), number(float("-inf")), number(float("nan")))
        3 3.0 1e-05 -inf nan
    """
    if type(value) is float:
        return repr(value) if value == value else _nan(value)
    return integer(value)


def _nan(value: float) -> str:
    """``nan``, which is what arithmetic makes; any other NaN with its payload, ``-nan(0x8000000000001)``."""
    bits = int.from_bytes(struct.pack(">d", value), "big")
    sign, payload = "-" if bits >> 63 else "", bits & MAX_NAN
    return f"{sign}nan" if payload == QUIET_NAN else f"{sign}nan({payload:#x})"


def nan(payload: int) -> float:
    """The positive NaN of a payload."""
    value: float = struct.unpack(">d", (_INFINITY | payload).to_bytes(8, "big"))[0]
    return value


def unprintable(value: object) -> str:
    """A mark for a value that a field of its kind cannot hold; it draws attention, and does not parse."""
    try:
        text = _ADDRESS.sub("", repr(value))
    except Exception as error:  # a foreign __repr__ may raise anything, and printing is total
        text = f"{type(value).__name__} whose repr raises {type(error).__name__}"
    return "!" + quote(text if len(text) <= _MAX_UNPRINTABLE else text[:_MAX_UNPRINTABLE] + "...")

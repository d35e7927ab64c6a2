r"""What comes from files, shown harmlessly: no character of a name may move the cursor, reorder a line, or hide.

Escaped are the control characters (C0, DEL, C1), all format characters (bidirectional overrides and isolates,
zero-width characters, tags), line and paragraph separators, lone surrogates, and letters that are drawn as nothing.
Unicode Technical Report 36 and "Trojan Source" (CVE-2021-42574) say what they are abused for.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["FILLERS", "is_visible", "json_text", "masked", "visible", "visible_lines"]

FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Letters and marks that are drawn as nothing, though Python counts them as printable."""

# Written out, as looking at each of 1.1 million characters takes longer than most commands; a test compares.
_FORMAT = (
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff"
)
_HOSTILE = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff{_FORMAT}{FILLERS}]")
_HOSTILE_BUT_LINES = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\ud800-\udfff{_FORMAT}{FILLERS}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""A text that is to stand within one line: every character that controls, reorders or hides is escaped.

    Example:
        >>> print(visible("a\x1b[2K\rproved"), visible("two\nlines"), visible("\u202eback"))
        a\x1b[2K\rproved two\nlines \u202eback
    """
    return _HOSTILE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """A text of several lines: like :func:`visible`, but line feeds and tabs stay."""
    return _HOSTILE_BUT_LINES.sub(_escape, text)


def masked(text: str) -> str:
    """Like :func:`visible`, but each character stays one character, so that carets stay under what they point at."""
    if is_visible(text):
        return text
    return "".join(c if is_visible(c) else " " if c in "\t\r\n" else "?" for c in text)


def is_visible(text: str) -> bool:
    """Whether a text can be shown as it is, on one line."""
    return text.isprintable() and (text.isascii() or _HOSTILE.search(text) is None)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON that stays readable: ``\uXXXX`` only for characters that would control, reorder or hide.

    Example:
        >>> print(json_text({"name": "caf\u00e9 \u202e"}))
        {"name": "café \u202e"}
    """
    return _HOSTILE_BUT_LINES.sub(_escape_in_json, json.dumps(value, indent=indent, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_in_json(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]

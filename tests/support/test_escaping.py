"""What comes from files is shown harmlessly: every character that controls, reorders or hides is escaped."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.ir.text.spelling import quote, unquote
from forerun.support.diagnostics import Diagnostic, InvalidInput, Location
from forerun.support.escaping import FILLERS, is_visible, json_text, masked, visible, visible_lines

HOSTILE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_every_character_that_unicode_calls_control_format_or_separator_is_escaped() -> None:
    missed = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in HOSTILE_CATEGORIES and visible(chr(code)) == chr(code)
    ]
    assert missed == []


def test_what_is_read_stays_as_it_is() -> None:
    for text in ("plain", "blk.0/q-weight", "é ü ß 中文 日本語 हिन्दी العربية \u05d0\u05d1", "a\\b", '"quoted"', "👍🏽"):
        assert visible(text) == visible_lines(text) == masked(text) == text
        assert json.loads(json_text(text)) == text
        assert text in json_text([text]) or "\\" in text or '"' in text


@pytest.mark.parametrize("filler", FILLERS)
def test_letters_that_are_drawn_as_nothing_are_escaped_and_survive_the_text_form(filler: str) -> None:
    assert visible(f"a{filler}b") == f"a\\u{ord(filler):04x}b"
    assert unquote(quote(f"a{filler}b")) == f"a{filler}b"
    assert filler not in quote(f"a{filler}b")


@given(st.text(st.characters(exclude_categories=())))
def test_any_text(text: str) -> None:
    shown, lines, one_each = visible(text), visible_lines(text), masked(text)
    assert not {unicodedata.category(c) for c in shown} & HOSTILE_CATEGORIES
    assert not {unicodedata.category(c) for c in lines if c not in "\n\t"} & HOSTILE_CATEGORIES
    assert (visible(shown), visible_lines(lines)) == (shown, lines)
    assert len(one_each) == len(text)
    assert is_visible(one_each)
    written = json_text({"key": text}, indent=1)
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # what JSON does to pairs
    assert json.loads(written) == {"key": joined}
    written.encode()  # no lone surrogate is left


def test_errors_and_diagnostics_as_text_are_harmless() -> None:
    found = Diagnostic("X1", "node a\x1b[2J\nproved: it is fine", Location("node", "\u202eb\rproved"), "do\x9bthis")
    text = str(InvalidInput("file \x1b]0;title\x07", (found,), "try \u2066this"))
    assert text.splitlines() == [
        r"file \x1b]0;title\x07",
        r"error[X1]: node \u202eb\rproved: node a\x1b[2J\nproved: it is fine",
        r"  hint: do\x9bthis",
        r"hint: try \u2066this",
    ]

"""The grammar of ``name{key=value}``, and options declared as fields of dataclasses."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.support.diagnostics import InternalError, InvalidInput
from forerun.support.option_text import OptionTextError, format_item, format_value, parse_item, parse_items
from forerun.support.options import build, check_values, describe, non_default_texts, option, specs, value_for_json


class Colour(enum.Enum):
    RED = "red"
    DARK_BLUE = (0, 0, 128)


@dataclass(frozen=True)
class Everything:
    flag: bool = option(False, help="a switch")
    count: int = option(3, help="how many")
    ratio: float = option(0.5, help="how much")
    text: str = option("", help="what to say")
    mode: Literal["fast", "slow", "none"] = option("fast", help="how")
    colour: Colour = option(Colour.RED, help="which")
    maybe_text: str | None = option(None, help="perhaps a text")
    maybe_mode: Literal["a", "none"] | None = option(None, help="perhaps a mode")
    max_count: int | None = option(None, help="perhaps a bound")


@dataclass(frozen=True)
class Lengthy:
    policy: Literal["prefix-sums", "longest-first", "round-robin"] = option("prefix-sums", help="which one")
    ctas: int = option(1, help="how many")


everything = st.builds(
    Everything,
    flag=st.booleans(),
    count=st.integers(),
    ratio=st.floats(allow_nan=False),
    text=st.text(),
    mode=st.sampled_from(["fast", "slow", "none"]),
    colour=st.sampled_from(Colour),
    maybe_text=st.none() | st.text() | st.just("none"),
    maybe_mode=st.sampled_from(["a", "none", None]),
    max_count=st.none() | st.integers(),
)


def rebuilt(text: str) -> Everything:
    value, findings = build(Everything, parse_item(text, "thing"))
    assert not findings
    assert value is not None
    return value


@given(everything)
def test_values_come_back_from_their_text(value: Everything) -> None:
    text = format_item("everything", non_default_texts(value))
    event("with quotes" if '"' in text else "bare")
    assert rebuilt(text) == value
    assert text.isprintable()


@given(st.text())
def test_any_value_survives_quoting(value: str) -> None:
    (item,) = parse_items(f"a{{k={format_value(value)}}}")
    assert item.options[0].value == value


@given(st.text(alphabet="ab{}=,\"\\ \n'1-:é"))
def test_any_text_parses_or_is_located(text: str) -> None:
    error = error_of(text)
    event("accepted" if error is None else "rejected")
    if error is None:
        assert all(item.name for item in parse_items(text))
        return
    (diagnostic,) = error.diagnostics
    line = text.split("\n")[diagnostic.location.line - 1]
    assert 1 <= diagnostic.location.column <= len(line) + 1
    assert "^" in str(error)


def error_of(text: str) -> OptionTextError | None:
    try:
        parse_items(text)
    except OptionTextError as error:
        return error
    return None


def test_white_space_is_free() -> None:
    items = parse_items(' a {\n x = 1 ,\ty="2 3" } ,b ')
    assert [(i.name, [(o.key, o.value, o.quoted) for o in i.options]) for i in items] == [
        ("a", [("x", "1", False), ("y", "2 3", True)]),
        ("b", []),
    ]


def test_no_text_is_no_items() -> None:
    assert parse_items(" \n ") == ()
    assert parse_items("a{}")[0].options == ()


@pytest.mark.parametrize(
    ("text", "message", "line", "column", "hint"),
    [
        ("a b", "'b' is not expected here", 1, 3, "items are joined by commas"),
        ("a,", "a name is missing here", 1, 3, ""),
        ("a,,b", "a name is missing here", 1, 3, ""),
        ("a{x}", "option 'x' has no value", 1, 3, "write x=VALUE"),
        ("a{x=}", "a value for option 'x' is missing here", 1, 5, ""),
        ("a{x='1'}", "a value for option 'x' is missing here", 1, 5, "values are quoted with double quotes"),
        ("a{x=1", "this brace is not closed", 1, 2, "options end with '}'"),
        ("a{x=1,}", "an option's name is missing here", 1, 7, ""),
        ('a{x="1}', "this quote is not closed", 1, 5, ""),
        (r'a{x="\q"}', "this is not a valid JSON string", 1, 5, r"escapes are \" \\ \n \t \uXXXX"),
        ("a,\n b{x=1,x=2}", "option 'x' is given twice", 2, 8, ""),
        ("a{x-y=1,x_y=2}", "option 'x_y' is given twice", 1, 9, ""),
        ("{", "a name is missing here", 1, 1, ""),
    ],
)
def test_syntax_errors_are_located(text: str, message: str, line: int, column: int, hint: str) -> None:
    with pytest.raises(OptionTextError) as caught:
        parse_items(text)
    (diagnostic,) = caught.value.diagnostics
    place = diagnostic.location
    assert (diagnostic.code, diagnostic.message, diagnostic.hint) == ("O1", message, hint)
    assert (place.kind, place.name, place.line, place.column) == ("text", "pipeline", line, column)


def test_errors_are_drawn_with_a_caret() -> None:
    with pytest.raises(OptionTextError) as caught:
        parse_items("first,\nsecond{x=1 y=2}", "target")
    assert str(caught.value) == (
        "bad target:\n  second{x=1 y=2}\n        ^\n  error[O1]: this brace is not closed\n  hint: options end with '}'"
    )


def test_the_line_around_the_caret_is_cut() -> None:
    with pytest.raises(OptionTextError) as caught:
        parse_items("a," * 10_000 + "?")
    drawn = str(caught.value).splitlines()
    assert max(map(len, drawn)) < 130
    assert drawn[1][drawn[2].index("^")] == "?"


def test_a_huge_text_is_rejected_fast() -> None:
    with pytest.raises(OptionTextError):
        parse_items("{" * 1_000_000)


def test_one_item_is_one_item() -> None:
    assert parse_item("reference{seed=3}", "target").name == "reference"
    with pytest.raises(OptionTextError, match="a target is missing"):
        parse_item(" ", "target")
    with pytest.raises(OptionTextError, match="one target is expected, this is another") as caught:
        parse_item("a,b", "target")
    assert caught.value.diagnostics[0].location.column == 3


@pytest.mark.parametrize(
    ("text", "code", "message", "column", "hint"),
    [
        ("e{cuont=1}", "O3", "'e' has no option 'cuont'", 3, "did you mean 'count'?"),
        ("e{flag=yes}", "O4", "option 'flag' cannot be 'yes'", 8, "it accepts true or false"),
        ("e{count=many}", "O4", "option 'count' cannot be 'many'", 9, "it accepts an integer"),
        ("e{ratio=nan}", "O4", "option 'ratio' cannot be 'nan'", 9, "it accepts a number"),
        ("e{mode=fats}", "O4", "option 'mode' cannot be 'fats'", 8,
         "did you mean 'fast'? it accepts one of fast, slow, none"),
        ("e{mode=unlike}", "O4", "option 'mode' cannot be 'unlike'", 8, "it accepts one of fast, slow, none"),
        ("e{colour=green}", "O4", "option 'colour' cannot be 'green'", 10, "it accepts red or dark_blue"),
        ('e{max_count="none"}', "O4", "option 'max_count' cannot be 'none'", 13, "it accepts an integer, or none"),
        ("e{count=" + "9" * 5000 + "}", "O4", "option 'count' cannot be '" + "9" * 60 + "...'", 9,
         "it accepts an integer"),
    ],
)  # fmt: skip
def test_wrong_options_say_what_is_accepted(text: str, code: str, message: str, column: int, hint: str) -> None:
    item = parse_item(text, "thing")
    value, findings = build(Everything, item)
    assert value is None
    assert [(f[0], f[1], f[3]) for f in findings] == [(code, message, hint)]
    assert findings[0][2].start == column - 1


def test_all_wrong_options_are_told() -> None:
    _, findings = build(Everything, parse_item("e{a=1,count=b,flag=c}", "thing"))
    assert [f[0] for f in findings] == ["O3", "O4", "O4"]


@dataclass(frozen=True)
class Needy:
    file: str = option(help="where it lies")


def test_required_options_are_required() -> None:
    _, findings = build(Needy, parse_item("needy", "thing"))
    assert [(f[0], f[1], f[3]) for f in findings] == [("O5", "'needy' needs option 'file'", "where it lies")]
    assert build(Needy, parse_item("needy{file=x}", "thing")) == (Needy("x"), [])
    assert non_default_texts(Needy("x")) == {"file": "x"}


def test_underscores_and_hyphens_are_one() -> None:
    assert rebuilt("e{max-count=1}") == rebuilt("e{max_count=1}") == Everything(max_count=1)
    assert non_default_texts(Everything(max_count=1)) == {"max-count": "1"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flag": 1}, "it: option 'flag' cannot be 1\nhint: it accepts true or false"),
        ({"count": True}, "it: option 'count' cannot be True\nhint: it accepts an integer"),
        ({"count": None}, "it: option 'count' cannot be None\nhint: it accepts an integer"),
        ({"ratio": math.nan}, "it: option 'ratio' cannot be nan\nhint: it accepts a number"),
        ({"mode": "x"}, "it: option 'mode' cannot be 'x'\nhint: it accepts one of fast, slow, none"),
        ({"colour": "red"}, "it: option 'colour' cannot be 'red'\nhint: it accepts red or dark_blue"),
    ],
)
def test_values_set_in_python_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_values(Everything(**values), "it")  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_whole_number_is_a_number() -> None:
    check_values(Everything(ratio=2), "it")
    assert rebuilt(format_item("e", non_default_texts(Everything(ratio=2)))).ratio == 2.0


def test_help_derives_from_the_declaration() -> None:
    assert describe(Everything)[:2] == [
        "flag=true|false         a switch (default: false)",
        "count=int               how many (default: 3)",
    ]
    assert describe(Everything)[-2] == "maybe-mode=a|none|none  perhaps a mode (default: none)"
    assert describe(Lengthy) == [
        "policy=prefix-sums|longest-first|round-robin",
        "          which one (default: prefix-sums)",
        "ctas=int  how many (default: 1)",
    ]
    assert describe(Needy) == ["file=str  where it lies (required)"]


def test_json_values() -> None:
    assert [value_for_json(v) for v in (Colour.RED, Colour.DARK_BLUE, True, 1, 0.5, "x", None)] == [
        "red",
        "dark_blue",
        True,
        1,
        0.5,
        "x",
        None,
    ]


@dataclass(frozen=True)
class OfListType:
    names: list[str] = option(None, help="")


@dataclass(frozen=True)
class WrongDefault:
    count: int = option("three", help="")


@dataclass(frozen=True)
class Ambiguous:
    which: Literal["1", 1] = option(1, help="")


class Undecorated(Everything):
    pass


@pytest.mark.parametrize(
    ("declaring", "message"),
    [
        (OfListType, "option 'names' of OfListType: an option cannot be of type list[str]"),
        (WrongDefault, "option 'count' of WrongDefault: the default 'three' is not an integer"),
        (Ambiguous, "option 'which' of Ambiguous: two of its values have the same text"),
        (Undecorated, "Undecorated is not a dataclass"),
    ],
)
def test_wrong_declarations_are_told_to_their_author(declaring: type, message: str) -> None:
    with pytest.raises(InternalError) as caught:
        specs(declaring)
    assert caught.value.message == message


def test_types_of_options_must_be_importable() -> None:
    class Local(enum.Enum):
        A = "a"

    @dataclass(frozen=True)
    class Declaring:
        which: Local = option(Local.A, help="")

    with pytest.raises(InternalError, match="name 'Local' is not defined"):
        specs(Declaring)

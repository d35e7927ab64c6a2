"""Every syntax error: its code, the exact caret line, the message and the hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from forerun.ir.text import draw, parse_graph, parser
from forerun.support.diagnostics import Diagnostic, InvalidInput, Severity

HEAD = "forerun 1\ngraph g\n"


CASES = Path(__file__).with_name("syntax_errors.txt").read_text(encoding="utf-8").strip().split("\n\n")[1:]


def errors(text: str | bytes) -> list[Diagnostic]:
    """The diagnostics of a text that does not parse."""
    with pytest.raises(InvalidInput) as caught:
        parse_graph(text, "x.fir")
    assert caught.value.message.startswith("cannot read x.fir: ")
    assert all(d.location.kind == "text" and d.location.name == "x.fir" for d in caught.value.diagnostics)
    return list(caught.value.diagnostics)


def carets(found: Diagnostic) -> str:
    return " " * (found.location.column - 1) + "^" * found.location.length


@pytest.mark.parametrize("case", CASES, ids=[case.split("\n")[1].strip() for case in CASES])
def test_statement(case: str) -> None:
    _, line, *_ = case.split("\n")
    statement = line.removeprefix("    ")
    (found,) = errors(f"{HEAD}{statement}\n")
    assert found.location.line == 3
    drawn = [f"{found.code} {found.message}", line, f"    {carets(found)}"]
    assert "\n".join([*drawn, *([f"    hint: {found.hint}"] if found.hint else [])]) == case
    assert f"3 | {statement}\n  | {carets(found)}" in draw([found], f"{HEAD}{statement}\n")


# Each is a whole text; the caret line is that of the line that the second field numbers.
TEXTS = {
    "P1 empty": ("", 1, "^", "P1", "this is not the text form of a graph"),
    "P1 only a comment": ("// nothing\n", 1, "^", "P1", "this is not the text form of a graph"),
    "P1 another format": ('{"nodes": []}', 1, "^", "P1", "this is not the text form of a graph"),
    "P1 version": ("forerun 2\ngraph g\n", 1, "        ^", "P1", "this version of the text form is not known"),
    "P1 no graph": ("forerun 1\nbuffer %x : f32[1] temp\n", 2, "^^^^^^", "P1", "expected 'graph' and a name"),
    "P5 no name": ("forerun 1\ngraph\n", 2, "     ^", "P5", "expected the name of the graph, but the text ends"),
    "P5 line ends": (
        f"{HEAD}node #a = @k(x=%x\nnode #b = empty\n",
        3,
        "                 ^",
        "P5",
        "expected ',' or ')', but the line ends",
    ),
    "P5 after without node": (
        f"{HEAD}node #a = empty\nalloc $a : 1\n  after #b\n",
        5,
        "  ^^^^^",
        "P5",
        "'after' stands without the node that it is about",
    ),
    "P2 in a string": (f'{HEAD}buffer %"a\tb\x07" : f32[1] temp', 3, "            ^", "P2", "U+0007"),
    "P2 in a comment": (f"{HEAD}// a\0b\n", 3, "    ^", "P2", "U+0000"),
    "P2 carriage return": (f"{HEAD}node #a = empty\rnode #b = empty", 3, "               ^", "P2", "U+000D"),
    "P2 surrogate": (f"{HEAD}// \ud800\n", 3, "   ^", "P2", "U+D800"),
    "P8 role": (
        f"{HEAD}kernel @k() {{\n  role main {{\n    wait\nnode #a = empty\n",
        6,
        "^^^^",
        "P8",
        "'}' is missing: role main (line 4) is still open",
    ),
    "P6 kernel without its sigil": (
        f"{HEAD}kernel @gemv() opaque\nnode #a = gemv()\n",
        4,
        "          ^^^^",
        "P6",
        "unknown kind of node 'gemv'",
    ),
    "P8 body": (
        f"{HEAD}node #a = child {{\n  graph b\n",
        4,
        "         ^",
        "P8",
        "'}' is missing: node #a (line 3) is still open",
    ),
    "P1 body": (
        f"{HEAD}node #a = child {{\n  node #b = empty\n}}\n",
        4,
        "  ^^^^",
        "P1",
        "expected 'graph' and a name",
    ),
    "P6 renamed": (
        f"{HEAD}kernel @k() {{\n  role main {{\n    phase p takes a\n  }}\n}}\n",
        5,
        "            ^^^^^",
        "P6",
        "unknown statement 'takes'",
    ),
    "P11 phase": (
        f"{HEAD}kernel @k() {{\n  role main {{\n    phase p reads a uses b reads c\n  }}\n}}\n",
        5,
        "                           ^^^^^",
        "P11",
        "'reads' is given twice; a phase has one list of each",
    ),
    "P6 step": (
        f"{HEAD}kernel @k() {{\n  role main {{\n    triger\n  }}\n}}\n",
        5,
        "    ^^^^^^",
        "P6",
        "unknown statement 'triger'",
    ),
    "P5 phase": (
        f"{HEAD}kernel @k() {{\n  role main {{\n    phase p reads 3\n  }}\n}}\n",
        5,
        "                  ^",
        "P5",
        "expected the name of a parameter, found '3'",
    ),
    "P4 digits": (f"{HEAD}alloc $a : {'9' * 1001}\n", 3, " " * 11 + "^" * 1001, "P4", "more than 1000 decimal"),
    "P4 hexadecimal digits": (f"{HEAD}alloc $a : 0x{'9' * 4095}\n", 3, " " * 11 + "^" * 4097, "P4", "4096 hexadecimal"),
    "P4 a huge index": (
        f"{HEAD}node #a = fill %a[0x{'9' * 4095}]\n",
        3,
        " " * 18 + "^" * 4097,
        "P4",
        "4096 hexadecimal",
    ),
    "P5 a large index": (f"{HEAD}node #a = fill %a[0x{'9' * 4090}]\n", 3, " " * 4110 + "^", "P5", "expected ':'"),
    "P9 dimensions": (
        f"{HEAD}buffer %a : u8[1{',1' * 1024}] temp\n",
        3,
        "       ^^",
        "P9",
        "more than 1024 dimensions",
    ),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text(text: tuple[str, int, str, str, str]) -> None:
    content, line, expected, code, message = text
    found = errors(content)[0]
    assert (found.code, found.location.line, carets(found)) == (code, line, expected)
    assert message in found.message


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("allocation $a", "alloc $a : 1", "alloc $a : 2"),
        ("buffer %a", "buffer %a : u8[1] temp", "buffer %a : u8[2] temp at $b"),
        ("allocation $a", "alloc $a : 1", "buffer %a : u8[1] temp"),
        ("allocation $a", "buffer %a : u8[1] temp", "alloc $a : 1"),
        ("kernel @a", "kernel @a() opaque", "kernel @a() {\n}"),
        ("node #a", "node #a = empty", "node #a = empty on host"),
        ("dependency #a -> #b", "dep #a -> #b", "dep #a -> #b programmatic"),
        ('node #"a b"', 'node #"a b" = empty', 'node #"a b" = empty'),
    ],
)
def test_declared_twice(kind: str, first: str, second: str) -> None:
    error, note = errors(f"{HEAD}{first}\n\n{second}\n")
    assert (error.code, error.severity, error.location.line) == ("P7", Severity.ERROR, 5)
    assert error.message == f"{kind} is declared twice; first in line 3"
    assert (note.code, note.severity, note.location.line) == ("P7", Severity.NOTE, 3)
    assert error.location.column == second.index(second.split()[1]) + 1
    assert note.location.column == first.index(first.split()[1]) + 1
    assert ("'at'" in error.hint) == kind.startswith("allocation")


def test_a_second_dependency_of_a_pair() -> None:
    error, note = errors(f"{HEAD}node #a = empty\nnode #b = empty\n  after #a\n  after #a full\n")
    assert (carets(error), error.location.line, note.location.line) == ("        ^^", 6, 5)


def test_bytes_that_are_not_utf8() -> None:
    (found,) = errors(f"{HEAD}// \u00e9 ".encode() + b"\xff\n")
    assert (found.code, found.location.line, carets(found)) == ("P2", 3, "     ^")
    assert "0xff" in found.message


def test_all_errors_at_once() -> None:
    lines = [
        "alloc a",
        "buffer %b : f32",
        "kernel @k() {",
        "  role r {",
        "    frob",
        "  }",
        "}",
        "node #n = x",
        "  after",
    ]
    found = errors(HEAD + "\n".join(lines))
    assert [(d.code, d.location.line) for d in found] == [("P5", 3), ("P5", 4), ("P6", 7), ("P6", 10), ("P5", 11)]


def test_an_error_in_a_header_does_not_hide_what_follows_its_body() -> None:
    text = f"{HEAD}kernel @k(x) {{\n  role main {{\n    wait\n  }}\n}}\nnode #a = nothing\n"
    assert [(d.code, d.location.line) for d in errors(text)] == [("P5", 3), ("P6", 8)]
    text = f"{HEAD}node #l = until %c {{\n  graph b\n  node #a = nothing\n}}\nnode #a = nothing\n"
    assert [(d.code, d.location.line) for d in errors(text)] == [("P6", 3), ("P6", 7)]


def test_an_error_in_a_body_stays_there() -> None:
    text = f"{HEAD}node #l = while %c {{\n  graph b\n  node #a = x\n  node #b = y\n}}\n  after #z w\nnode #a = x\n"
    assert [d.location.line for d in errors(text)] == [5, 6, 8, 9]


def test_a_block_that_is_not_closed_after_an_error_in_it() -> None:
    text = f"{HEAD}kernel @k() {{\n  role r {{\n    frob\nnode #a = nothing\n"
    assert [(d.code, d.location.line) for d in errors(text)] == [("P6", 5), ("P8", 6), ("P6", 6)]


def test_a_kernel_without_its_sigil_is_offered() -> None:
    (found,) = errors(f"{HEAD}kernel @gemv() opaque\nnode #a = gemv()\n")
    assert found.hint == "did you mean '@gemv'?"


def test_twenty_errors_are_enough() -> None:
    found = errors(HEAD + "frob\nnode #a = x\n" * 30)
    assert [d.severity for d in found] == [Severity.ERROR] * 20 + [Severity.NOTE]
    assert found[-1].message == "too many errors; the rest is not read"


def test_too_deep() -> None:
    found = errors(HEAD + "node #a = child { graph b\n" * 33)
    assert [d.code for d in found] == ["P9"]
    assert "deeper than 32" in found[0].message


def test_a_text_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "MAX_TEXT", 20)
    assert [d.code for d in errors(HEAD + "// much more")] == ["P9"]


@pytest.mark.parametrize("first", [0, 5])
def test_a_line_that_is_too_long(first: int) -> None:
    (found,) = errors(HEAD + "// a comment\n" * first + "[" * (1 << 24) + "\n")
    assert (found.code, found.location.line) == ("P9", 3 + first)


def test_what_is_not_an_error() -> None:
    text = "\ufeffforerun 1\r\n\r\n// a comment\r\ngraph g // another\r\n\tnode #a = empty\r\n  after #b // later\r\n"
    graph = parse_graph(text.encode(), "x.fir")
    assert (graph.name, list(graph.nodes), graph.dependencies[0].pair) == ("g", ["a"], ("b", "a"))
    assert parse_graph("forerun 1 graph g node #a = empty node #b = empty after #a") == parse_graph(
        HEAD + "node #a = empty\nnode #b = empty\n  after #a\n"
    )

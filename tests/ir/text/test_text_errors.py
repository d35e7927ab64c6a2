"""Every syntax error: its code, the exact caret line, the message and the hint."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from forerun.ir.diagnostics import Diagnostic, InvalidInput, Severity
from forerun.ir.text import draw, parse_graph, parser

HEAD = "forerun 1\ngraph g\n"


class Case(NamedTuple):
    code: str
    line: str
    carets: str
    message: str
    hint: str = ""


CASES = [
    Case(
        "P5",
        "buffer x : f32[4] temp",
        "       ^",
        "expected a buffer such as %x, found 'x'",
    ),
    Case(
        "P5",
        "buffer % : f32[4] temp",
        "       ^",
        "expected a name right after '%'",
        'names with unusual characters are written in quotes: %"..."',
    ),
    Case(
        "P5",
        "buffer %x f32[4] temp",
        "          ^^^",
        "expected ':', found 'f32'",
    ),
    Case(
        "P6",
        "buffer %x : float[4] temp",
        "            ^^^^^",
        "unknown element type 'float'",
        "valid names: f64, f32, f16, bf16, i64, i32, i16, i8 and 4 more",
    ),
    Case(
        "P5",
        "buffer %x : 32[4] temp",
        "            ^^",
        "expected an element type (f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8), found '32'",
    ),
    Case(
        "P5",
        "buffer %x : f32 temp",
        "                ^^^^",
        "expected '[', found 'temp'",
    ),
    Case(
        "P5",
        "buffer %x : f32[4 temp",
        "                  ^^^^",
        "expected ',' or ']', found 'temp'",
    ),
    Case(
        "P5",
        "buffer %x : f32[4,] temp",
        "                  ^",
        "expected an integer, found ']'",
    ),
    Case(
        "P5",
        "buffer %x : f32[N] temp",
        "                ^",
        "expected an integer, found 'N'",
    ),
    Case(
        "P4",
        "buffer %x : f32[4.5] temp",
        "                ^^^",
        "expected an integer, found '4.5'",
    ),
    Case(
        "P4",
        "buffer %x : f32[0x] temp",
        "                ^^",
        "expected an integer, found '0x'",
    ),
    Case(
        "P5",
        "buffer %x : f32[4]",
        "                  ^",
        "expected a buffer role (input, output, weight, state, temp, param), but the text ends",
    ),
    Case(
        "P6",
        "buffer %x : f32[4] tmp",
        "                   ^^^",
        "unknown buffer role 'tmp'",
        "did you mean 'temp'?",
    ),
    Case(
        "P5",
        "buffer %x : f32[4] temp at %a",
        "                           ^^",
        "expected an allocation such as $x, found '%a'",
    ),
    Case(
        "P5",
        "buffer %x : f32[4] temp at $a + x",
        "                                ^",
        "expected an integer, found 'x'",
    ),
    Case(
        "P11",
        "buffer %x : f32[4] temp at $a on host",
        "                              ^^",
        "a buffer 'at' an allocation lives where the allocation does",
    ),
    Case(
        "P6",
        "buffer %x : f32[4] temp on gpu:0",
        "                           ^^^",
        "unknown place 'gpu'",
        "valid names: device, host",
    ),
    Case(
        "P5",
        "buffer %x : f32[4] temp on device",
        "                                 ^",
        "expected ':', but the text ends",
    ),
    Case(
        "P5",
        "buffer %x : f32[4] temp in 0-4",
        "                            ^",
        "expected '..', found '-'",
    ),
    Case(
        "P5",
        "buffer %x : f32[4] temp paged(%t)",
        "                                ^",
        "expected ',', found ')'",
    ),
    Case(
        "P5",
        "buffer %x : f32[4] temp ragged(t)",
        "                               ^",
        "expected a buffer such as %x, found 't'",
    ),
    Case(
        "P3",
        'buffer %"x : f32[4] temp',
        "       ^^^^^^^^^^^^^^^^^",
        "the string is not closed on its line",
    ),
    Case(
        "P3",
        'buffer %"\\q" : f32[4] temp',
        "         ^^",
        "unknown escape '\\q'",
    ),
    Case(
        "P3",
        'buffer %"\\Uffffffff" : f32[4] temp',
        "         ^^",
        "no such character",
    ),
    Case(
        "P5",
        "buffer %é : f32[4] temp",
        "       ^",
        "expected a name right after '%'",
        'names with unusual characters are written in quotes: %"..."',
    ),
    Case(
        "P5",
        "alloc $a 5",
        "         ^",
        "expected ':', found '5'",
    ),
    Case(
        "P5",
        "alloc $a : size",
        "           ^^^^",
        "expected an integer, found 'size'",
    ),
    Case(
        "P4",
        "alloc $a : 12345678901234567890e",
        "           ^^^^^^^^^^^^^^^^^^^^^",
        "expected an integer, found '12345678901234567890e'",
    ),
    Case(
        "P5",
        "kernel k() opaque",
        "       ^",
        "expected a kernel such as @f, found 'k'",
    ),
    Case(
        "P5",
        "kernel @k(x) opaque",
        "           ^",
        "expected ':', found ')'",
    ),
    Case(
        "P5",
        "kernel @k(x: f32[N) opaque",
        "                  ^",
        "expected ',' or ']', found ')'",
    ),
    Case(
        "P5",
        "kernel @k(x: f32[*]) opaque",
        "                 ^",
        "expected an integer, a name, or _, found '*'",
    ),
    Case(
        "P5",
        "kernel @k(n: scalar) opaque",
        "                   ^",
        "expected an element type (f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8), found ')'",
    ),
    Case(
        "P5",
        "kernel @k()",
        "           ^",
        "expected '{' and a body, 'opaque', or an implementation such as cuda(\"file\", \"entry\"), but the text ends",
    ),
    Case(
        "P5",
        "kernel @k() cuda",
        "                ^",
        "expected '(', but the text ends",
    ),
    Case(
        "P5",
        'kernel @k() cuda("f") opaque',
        "                    ^",
        "expected ',', found ')'",
    ),
    Case(
        "P5",
        'kernel @k() cuda("f", g) opaque',
        "                      ^",
        "expected the entry in quotes, found 'g'",
    ),
    Case(
        "P6",
        'kernel @k() opaque cuda("f", "g"), cubn("f", "g")',
        "                                   ^^^^",
        "unknown language 'cubn'",
        "did you mean 'cubin'?",
    ),
    Case(
        "P5",
        "node a = empty",
        "     ^",
        "expected a node such as #n, found 'a'",
    ),
    Case(
        "P5",
        "node #a empty",
        "        ^^^^^",
        "expected '=', found 'empty'",
    ),
    Case(
        "P6",
        "node #a = emty",
        "          ^^^^",
        "unknown kind of node 'emty'",
        "did you mean 'empty'?",
    ),
    Case(
        "P5",
        'node #a = "empty"',
        "          ^^^^^^^",
        "expected a kind of node (copy, fill, host, empty, alloc, free, event_record, event_wait, child, if, while, switch, @kernel), found '\"empty\"'",
    ),
    Case(
        "P5",
        "node #a = @k",
        "            ^",
        "expected '(', but the text ends",
    ),
    Case(
        "P5",
        "node #a = @k(x)",
        "              ^",
        "expected '=', found ')'",
    ),
    Case(
        "P5",
        "node #a = @k(x=y)",
        "               ^",
        "expected a buffer, a number, or load(%buffer[0]), found 'y'",
        "a buffer is written %y",
    ),
    Case(
        "P5",
        "node #a = @k(x=%y z=%w)",
        "                  ^",
        "expected ',' or ')', found 'z'",
    ),
    Case(
        "P5",
        "node #a = @k(x=1.2.3)",
        "                  ^",
        "expected ',' or ')', found '.'",
    ),
    Case(
        "P4",
        "node #a = @k(x=1_000)",
        "               ^^^^^",
        "malformed number '1_000'",
    ),
    Case(
        "P4",
        "node #a = @k(x=0xfg)",
        "               ^^^^",
        "expected an integer, found '0xfg'",
    ),
    Case(
        "P5",
        "node #a = @k(x=load(%p))",
        "                      ^",
        "expected '[', found ')'",
    ),
    Case(
        "P5",
        "node #a = @k(x=load(%p[0] * 2))",
        "                          ^",
        "expected ')', found '*'",
    ),
    Case(
        "P5",
        "node #a = @k(x=load(3[0]))",
        "                    ^",
        "expected a buffer such as %x, found '3'",
    ),
    Case(
        "P5",
        "node #a = @k() grid(1, 2, 3, 4)",
        "                   ^",
        "expected 1 to 3 extents, found 4",
    ),
    Case(
        "P5",
        "node #a = @k() grid()",
        "                   ^",
        "expected 1 to 3 extents, found 0",
    ),
    Case(
        "P5",
        "node #a = @k() grid(x)",
        "                    ^",
        "expected an integer, found 'x'",
    ),
    Case(
        "P11",
        "node #a = @k() grid(1) grid(1)",
        "                       ^^^^",
        "'grid' is given twice",
    ),
    Case(
        "P5",
        "node #a = @k() shared",
        "                     ^",
        "expected '(', but the text ends",
    ),
    Case(
        "P5",
        "node #a = copy %a %b",
        "                  ^^",
        "expected '->', found '%b'",
    ),
    Case(
        "P5",
        "node #a = copy %a[0] -> %b",
        "                   ^",
        "expected ':', found ']'",
        "one element is written 0:1",
    ),
    Case(
        "P5",
        "node #a = copy %a[0:] -> %b",
        "                    ^",
        "expected an integer or the name of a scalar, found ']'",
    ),
    Case(
        "P5",
        "node #a = copy %a[0:4 -> %b",
        "                      ^^",
        "expected ',' or ']', found '->'",
    ),
    Case(
        "P5",
        "node #a = copy %a[2*3:4] -> %b",
        "                    ^",
        "expected the name of a scalar, found '3'",
    ),
    Case(
        "P5",
        "node #a = fill %a",
        "                 ^",
        "expected 'with', but the text ends",
    ),
    Case(
        "P4",
        "node #a = fill %a with 1.5",
        "                       ^^^",
        "expected an integer, found '1.5'",
    ),
    Case(
        "P5",
        "node #a = host f",
        "               ^",
        "expected the function in quotes, \"module:function\", found 'f'",
    ),
    Case(
        "P5",
        'node #a = host "m:f" reads a',
        "                           ^",
        "expected a buffer such as %x, found 'a'",
    ),
    Case(
        "P5",
        "node #a = alloc %a",
        "                ^^",
        "expected an allocation such as $x, found '%a'",
    ),
    Case(
        "P5",
        "node #a = event_record e",
        "                       ^",
        "expected the event in quotes, found 'e'",
    ),
    Case(
        "P5",
        "node #a = conditional until %c {",
        "                      ^^^^^",
        "expected the kind in quotes, found 'until'",
    ),
    Case(
        "P5",
        "node #a = while c {",
        "                ^",
        "expected a buffer such as %x, found 'c'",
    ),
    Case(
        "P5",
        "node #a = child graph b",
        "                ^^^^^",
        "expected '{', found 'graph'",
    ),
    Case(
        "P10",
        'node #a = !"None"',
        "          ^^^^^^^",
        "a value without a textual form was printed here: 'None'",
    ),
    Case(
        "P10",
        'node #a = empty on !"None"',
        "                   ^^^^^^^",
        "a value without a textual form was printed here: 'None'",
    ),
    Case(
        "P2",
        "node #a = empty; node #b = empty",
        "               ^",
        "the character ';' has no meaning outside quotes",
    ),
    Case(
        "P5",
        "after #a full",
        "^^^^^",
        "'after' stands without the node that it is about",
    ),
    Case(
        "P5",
        "dep #a #b",
        "       ^^",
        "expected '->', found '#b'",
    ),
    Case(
        "P5",
        "dep #a -> b",
        "          ^",
        "expected a node such as #n, found 'b'",
    ),
    Case(
        "P6",
        "dep #a -> #b programatic",
        "             ^^^^^^^^^^^",
        "unknown dependency kind or hazard 'programatic'",
        "did you mean 'programmatic'?",
    ),
    Case(
        "P6",
        "dep #a -> #b full RAWW %x",
        "                  ^^^^",
        "unknown dependency kind or hazard 'RAWW'",
        "did you mean 'RAW'?",
    ),
    Case(
        "P5",
        "dep #a -> #b full RAW x",
        "                      ^",
        "expected a buffer such as %x, found 'x'",
    ),
    Case(
        "P8",
        "}",
        "^",
        "'}' closes nothing",
    ),
    Case(
        "P6",
        "frob #x",
        "^^^^",
        "unknown statement 'frob'",
        "valid names: alloc, buffer, kernel, node, after, dep",
    ),
    Case(
        "P6",
        "nod #x = empty",
        "^^^",
        "unknown statement 'nod'",
        "did you mean 'node'?",
    ),
    Case(
        "P5",
        "%x : f32",
        "^^",
        "expected a statement (alloc, buffer, kernel, node, after, dep), found '%x'",
    ),
]


def errors(text: str | bytes) -> list[Diagnostic]:
    """The diagnostics of a text that does not parse."""
    with pytest.raises(InvalidInput) as caught:
        parse_graph(text, "x.fir")
    assert caught.value.message.startswith("cannot read x.fir: ")
    assert all(d.location.kind == "text" and d.location.name == "x.fir" for d in caught.value.diagnostics)
    return list(caught.value.diagnostics)


def carets(found: Diagnostic) -> str:
    return " " * (found.location.column - 1) + "^" * found.location.length


@pytest.mark.parametrize("case", CASES, ids=[case.line for case in CASES])
def test_statement(case: Case) -> None:
    (found,) = errors(f"{HEAD}{case.line}\n")
    assert (found.code, found.message, found.hint) == (case.code, case.message, case.hint)
    assert (found.location.line, carets(found)) == (3, case.carets)
    assert f"3 | {case.line}\n  | {case.carets}" in draw([found], f"{HEAD}{case.line}\n")


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
    "P11 phase": (
        f"{HEAD}kernel @k() {{\n  role main {{\n    phase p reads a takes b reads c\n  }}\n}}\n",
        5,
        "                            ^^^^^",
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
    "P4 digits": (f"{HEAD}alloc $a : {'9' * 1001}\n", 3, " " * 11 + "^" * 1001, "P4", "more than 1000 decimal digits"),
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
    assert error.location.column == note.location.column == second.index(second.split()[1]) + 1
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
    found = errors(HEAD + "alloc a\n" * first + "[" * (1 << 24) + "\n")
    assert [d.code for d in found] == ["P5"] * first + ["P9"]


def test_what_is_not_an_error() -> None:
    text = "\ufeffforerun 1\r\n\r\n// a comment\r\ngraph g // another\r\n\tnode #a = empty\r\n  after #b // known later\r\n"
    graph = parse_graph(text.encode(), "x.fir")
    assert (graph.name, list(graph.nodes), graph.dependencies[0].pair) == ("g", ["a"], ("b", "a"))
    assert parse_graph("forerun 1 graph g node #a = empty node #b = empty after #a") == parse_graph(
        HEAD + "node #a = empty\nnode #b = empty\n  after #a\n"
    )

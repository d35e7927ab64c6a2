"""Diagnostics are drawn under the right line of the right text, literally."""

from __future__ import annotations

import pytest

from forerun.ir.graph import Graph
from forerun.ir.nodes import EmptyNode, HostCallbackNode, KernelNode
from forerun.ir.region import BufferView
from forerun.ir.text import SourceMap, draw, locate, parse_graph, parse_graph_with_locations, print_graph
from forerun.support.diagnostics import Diagnostic, InvalidInput, Location, Severity

TEXT = """forerun 1
graph g   // the whole
alloc $arena : 64 on device:0
buffer %h : f32[4] temp at $arena
buffer %"two words" : f32[4] temp at $arena + 16

kernel @gemv(x: f32[N], y: f32[N]) {
  role main {
    phase load reads x defines tile
    wait
    phase dot uses tile writes y[0:4]
  }
}
node #first = fill %h with 0
node #second = @gemv(x=%h, y=%"two words") grid(72)
  after #first full RAW %h
node #loop = while %h {
  graph body
  node #inner = copy %h -> %"two words"
  node #other = copy %h -> %h
    after #inner full
}
"""

# The location, and the line and the columns (one-based, inclusive) that are underlined in TEXT.
PLACES = [
    (Location("graph", "g"), 2, (1, 22)),
    (Location("allocation", "arena"), 3, (7, 12)),
    (Location("buffer", "h"), 4, (8, 9)),
    (Location("buffer", "two words"), 5, (8, 19)),
    (Location("buffer", "two words", detail="$arena"), 5, (38, 43)),
    (Location("kernel", "gemv"), 7, (8, 12)),
    (Location("kernel", "gemv", detail="N"), 7, (21, 21)),
    (Location("kernel", "gemv", detail="tile"), 9, (32, 35)),
    (Location("kernel", "gemv", detail="nowhere"), 7, (8, 12)),
    (Location("phase", "gemv.dot"), 11, (5, 13)),
    (Location("phase", "gemv.dot", detail="y"), 11, (32, 32)),
    (Location("phase", "gemv.dot", detail="x"), 11, (5, 13)),
    (Location("node", "first"), 14, (6, 11)),
    (Location("node", "second", detail="%h"), 15, (24, 25)),
    (Location("node", "second", detail="RAW"), 16, (21, 23)),
    (Location("node", "second", detail="@gemv"), 15, (16, 20)),
    (Location("dependency", "first -> second"), 16, (9, 14)),
    (Location("node", "loop"), 17, (6, 10)),
    (Location("node", "loop", detail="%h"), 17, (20, 21)),
    (Location("node", "loop/inner"), 19, (8, 13)),
    (Location("node", "inner"), 19, (8, 13)),
    (Location("dependency", "inner -> other"), 21, (11, 16)),
    (Location("text", "x.fir", 10, 5, 4), 10, (5, 8)),
]


@pytest.mark.parametrize("given", ["text", "map"])
@pytest.mark.parametrize("place", PLACES, ids=[f"{place[0]} {place[0].detail}" for place in PLACES])
def test_places(place: tuple[Location, int, tuple[int, int]], given: str) -> None:
    location, number, (first, last) = place
    source = TEXT if given == "text" else parse_graph_with_locations(TEXT, "x.fir")[1]
    drawn = draw([Diagnostic("T1", "wrong", location)], source)
    margin = " " * len(str(number + 1))
    line = f"{number:>{len(margin)}} | {TEXT.splitlines()[number - 1]}"
    assert f"\n{line}\n{margin} | {' ' * (first - 1)}{'^' * (last - first + 1)}" in drawn
    name = "x.fir" if given == "map" or location.kind == "text" else "<text>"
    assert f"\n{margin}--> {name}:{number}:{first}\n" in drawn


@pytest.mark.parametrize("place", PLACES[1:-1], ids=[f"{place[0]} {place[0].detail}" for place in PLACES[1:-1]])
def test_places_in_the_printed_form(place: tuple[Location, int, tuple[int, int]]) -> None:
    location, number, (first, last) = place
    graph = parse_graph(TEXT)
    drawn = draw([Diagnostic("T1", "wrong", location)], graph).split("\n")
    at = next(i for i, line in enumerate(drawn) if set(line) == {" ", "|", "^"})
    columns = slice(drawn[at].index("^"), drawn[at].rindex("^") + 1)
    assert drawn[at - 1][columns] == TEXT.splitlines()[number - 1][first - 1 : last]
    assert drawn[at - 1].partition(" | ")[2] in print_graph(graph).split("\n")


def test_a_drawing() -> None:
    source = parse_graph_with_locations(TEXT, "x.fir")[1]
    found = [
        Diagnostic("N1", "no kernel 'gemv'", Location("node", "second", detail="@gemv"), "did you mean '@gemm'?"),
        Diagnostic("G2", "no such node", Location("node", "nowhere"), severity=Severity.WARNING),
        Diagnostic("G2", "begins here", Location("graph", "g"), severity=Severity.NOTE),
    ]
    assert draw(found, source) == (
        "error[N1]: node second: no kernel 'gemv'\n"
        "  --> x.fir:15:16\n"
        "   |\n"
        "14 | node #first = fill %h with 0\n"
        '15 | node #second = @gemv(x=%h, y=%"two words") grid(72)\n'
        "   |                ^^^^^\n"
        "16 |   after #first full RAW %h\n"
        "   = hint: did you mean '@gemm'?\n"
        "\n"
        "warning[G2]: node nowhere: no such node\n"
        "\n"
        "note[G2]: graph g: begins here\n"
        " --> x.fir:2:1\n"
        "  |\n"
        "1 | forerun 1\n"
        "2 | graph g   // the whole\n"
        "  | ^^^^^^^^^^^^^^^^^^^^^^\n"
        "3 | alloc $arena : 64 on device:0"
    )


def test_a_syntax_error() -> None:
    text = "forerun 1\ngraph g\nnode #a = emty\n"
    with pytest.raises(InvalidInput) as caught:
        parse_graph(text, "a.fir")
    assert draw(caught.value.diagnostics, text) == (
        "error[P6]: unknown kind of node 'emty'\n"
        " --> a.fir:3:11\n"
        "  |\n"
        "2 | graph g\n"
        "3 | node #a = emty\n"
        "  |           ^^^^\n"
        "  = hint: did you mean 'empty'?"
    )


def test_the_end_of_a_text() -> None:
    text = "forerun 1\ngraph g\nnode #a ="
    with pytest.raises(InvalidInput) as caught:
        parse_graph(text)
    assert draw(caught.value.diagnostics, text).endswith("3 | node #a =\n  |          ^")


def underlined(count: int, at: int) -> list[str]:
    """The lines drawn for one of many arguments of a node."""
    arguments = tuple(BufferView(f"argument{i}") for i in range(count))
    graph = Graph("g", nodes=[HostCallbackNode("n", "m:f", arguments)])
    return draw([Diagnostic("T1", "wrong", Location("node", "n", detail=f"%argument{at}"))], graph).split("\n")


@pytest.mark.parametrize("at", [0, 4, 5, 6, 50, 98, 99])
def test_long_lines_are_cut_around_the_carets(at: int) -> None:
    *_, line, carets = underlined(100, at)
    assert len(line) <= 100
    assert line[carets.index("^") : carets.rindex("^") + 1] == f"%argument{at}"
    assert line.endswith("...") == (at < 97)
    assert line.startswith("4 | ...") == (at > 4)


def test_carets_never_run_over() -> None:
    graph = Graph("g", nodes=[EmptyNode("n" * 500)])
    *_, line, carets = draw([Diagnostic("T1", "wrong", Location("node", "n" * 500))], graph).split("\n")
    assert len(carets) < len(line) == 100


def test_wide_and_unprintable_characters() -> None:
    text = 'forerun 1\ngraph g\n\tnode #"\u4e2d\u6587" = \u0301x // \x07'
    drawn = draw([Diagnostic("P5", "odd\x1b[31m", Location("text", "t", 3, 13, 3))], text)
    assert drawn.split("\n")[0] == "error[P5]: odd?[31m"
    assert drawn.split("\n")[-2:] == ['3 |  node #"\u4e2d\u6587" = \u0301x // ?', "  |               ^^"]


def test_many_are_counted() -> None:
    found = [Diagnostic("T1", str(i), Location("node", "none")) for i in range(25)]
    assert draw(found, Graph("g")).split("\n\n")[-2:] == ["error[T1]: node none: 19", "... and 5 more"]
    assert "more" not in draw(found, Graph("g"), limit=25)
    assert draw([], Graph("g")) == ""


def test_a_text_that_does_not_parse_still_serves() -> None:
    found = [Diagnostic("P1", "wrong", Location("text", "t", 2, 1)), Diagnostic("N1", "wrong", Location("node", "n"))]
    assert draw(found, "forerun 1\nnonsense").split("\n\n")[1] == "error[N1]: node n: wrong"


def test_an_allocation_without_a_line_is_shown_at_its_buffer() -> None:
    text = "forerun 1\ngraph g\nbuffer %x : f32[0] temp\n"
    drawn = draw([Diagnostic("M1", "has 0 bytes", Location("allocation", "x"))], text)
    assert drawn.endswith("3 | buffer %x : f32[0] temp\n  |        ^^")


def test_lines_of_a_source() -> None:
    source = SourceMap("t", "\ufeffa\r\nb\n", {})
    assert [source.text_of(line) for line in (0, 1, 2, 3, 4)] == [None, "a", "b", "", None]
    assert source.line(Location("text", "t", 9)) is None


def test_marked_elements_are_found() -> None:
    graph = Graph("g", nodes=[KernelNode("a", "k", None), EmptyNode("b")])  # type: ignore[arg-type]
    assert [locate(graph).line(Location("node", name)) for name in "ab"] == [4, 5]

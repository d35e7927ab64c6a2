# ruff: noqa: SIM905 - words in rows read better than a list of strings
"""Whatever the parser is given, it returns a graph or raises InvalidInput."""

from __future__ import annotations

import re

from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.text import draw, parse_graph, print_graph
from forerun.ir.text.parser import CODES
from forerun.support.diagnostics import InvalidInput, Severity
from tests.strategies import graphs, portion

HEAD = "forerun 1\ngraph g\n"
WORDS = [
    *"forerun 1 graph alloc buffer kernel node after dep role phase wait trigger barrier grid".split(),
    *"reads writes uses defines scalars async ref opaque cuda ptx scalar f32 i32 temp input at on in".split(),
    *"align launches any block shared cluster step nan(3) launches".split(),
    *"paged ragged device host copy fill with empty free event_record event_wait child if else while".split(),
    *"switch case conditional load inf nan full programmatic RAW WAW %x $x @x #x x _".split(),
    *"0 1 -1 0x10 1.5 1e-5 9a { } ( ) [ ] : , = + - * -> .. . // ? \u00e9".split(),
    *['""', '"a b"', '"open', '!"mark"', "\n", "\t", "\\"],
]
LINES = st.sampled_from(
    ["\n", "\nnode #x =", "\nbuffer %x : f32[4] temp", "\nkernel @x(", "\nrole x {", "\nphase x", "}"]
)
SPLIT = re.compile(r'"(?:[^"\\\n]|\\.)*"|[%$#@]?\w+|\s+|.')


def parse(text: str | bytes) -> Graph | None:
    """The graph; ``None`` after checking the errors."""
    try:
        graph = parse_graph(text, "x.fir")
    except InvalidInput as error:
        check(error, text)
        return None
    again = print_graph(graph)
    assert parse_graph(again) == graph
    assert print_graph(parse_graph(again)) == again
    return graph


def check(error: InvalidInput, text: str | bytes) -> None:
    assert 1 <= sum(d.severity is Severity.ERROR for d in error.diagnostics) <= 20
    lines = (text if isinstance(text, str) else text.decode(errors="replace")).split("\n")
    for found in error.diagnostics:
        assert found.code in CODES
        assert 1 <= found.location.line <= len(lines)
        assert 1 <= found.location.column <= len(lines[found.location.line - 1]) + 1
    event(f"first error: {error.diagnostics[0].code}")
    drawn = draw(error.diagnostics, "\n".join(lines))
    assert all(line.isprintable() for line in drawn.split("\n"))


@portion(60)
@given(text=st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from('forerun1 \n{}[]()%#"\\/')))
def test_any_text(text: str) -> None:
    parse(text)
    parse(HEAD + text)


@portion(60)
@given(data=st.binary())
def test_any_bytes(data: bytes) -> None:
    parse(data)
    parse(HEAD.encode() + data)


@portion(100)
@given(start=st.sampled_from(WORDS[3:8]), words=st.lists(st.sampled_from(WORDS) | LINES, max_size=30))
def test_any_words(start: str, words: list[str]) -> None:
    parse(f"{HEAD}{start} {' '.join(words)}")


@portion(60)
@given(graph=graphs(), data=st.data())
def test_valid_texts_with_mutations(graph: Graph, data: st.DataObject) -> None:
    tokens = SPLIT.findall(print_graph(graph))
    for _ in range(data.draw(st.integers(1, 3))):
        at, other = (data.draw(st.integers(0, len(tokens) - 1)) for _ in range(2))
        match data.draw(st.sampled_from(["delete", "duplicate", "swap", "replace", "cut"])):
            case "delete":
                tokens[at] = ""
            case "duplicate":
                tokens[at] = f"{tokens[at]} {tokens[at]}"
            case "swap":
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case "replace":
                tokens[at] = data.draw(st.sampled_from(WORDS))
            case "cut":
                tokens = tokens[: max(at, 1)]
    event(f"still valid: {parse(''.join(tokens)) is not None}")

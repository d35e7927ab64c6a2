"""docs/text-format.md is right: its example, its grammar and its tables."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from forerun.ir.nodes import Node
from forerun.ir.text import parse_graph, print_graph, spelling
from forerun.ir.text.parser import CODES
from forerun.support.diagnostics import InvalidInput
from tests.strategies import portion

PAGE = (Path(__file__).parents[3] / "docs" / "text-format.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_example_is_what_the_printer_writes() -> None:
    example = block("forerun")
    bare = re.sub(r" *//.*", "", example)
    assert print_graph(parse_graph(example)) == bare


def test_the_example_has_every_kind_of_node() -> None:
    kinds = {type(node).__name__ for node in parse_graph(block("forerun"))}
    assert kinds == {kind.__name__ for kind in Node.__args__}


def test_the_grammar_defines_what_it_uses() -> None:
    rules = re.sub(r'\(\*.*?\*\)|"[^"]*"', " ", block("ebnf"))
    defined = re.findall(r"(\w+) +=", rules)
    used = set(re.findall(r"\w+", rules))
    assert len(defined) == len(set(defined))
    assert used == {*defined, "NAME", "WORD", "STRING", "NATURAL", "INTEGER", "NUMBER"}


WORDS = {
    "NAME": st.sampled_from(["x", "blk.0/q-w", '"two words"']) | st.integers(0, 99).map(str),
    "WORD": st.sampled_from(["x", "y", "n_1", "reads", "inf", '"two words"', '"_"']),
    "STRING": st.sampled_from(['""', '"m:f"', r'"\"\\\x41\u00e9"']),
    "NATURAL": st.sampled_from(["0", "7", "4096", "0xff"]),
    "INTEGER": st.sampled_from(["0", "7", "-1", "4096", "0x10"]),
    "NUMBER": st.sampled_from(["0", "-3", "1.5", "1e-05", "-inf", "nan"]),
}


def sentences(grammar: str) -> st.SearchStrategy[str]:
    """What the first rule of a grammar derives, with one word for each of :data:`WORDS`."""
    tokens = re.findall(r'"[^"]*"|\w+|[][(){}|;=]', re.sub(r"\(\*.*?\*\)", "", grammar))
    rules = dict(WORDS)
    first = tokens[0]
    while tokens:
        name = tokens.pop(0)
        assert tokens.pop(0) == "="
        rules[name] = choice(tokens, rules, "" if name.isupper() else " ")
        assert tokens.pop(0) == ";"
    return rules[first]


def choice(tokens: list[str], rules: dict[str, st.SearchStrategy[str]], space: str) -> st.SearchStrategy[str]:
    options = [sequence(tokens, rules, space)]
    while tokens[0] == "|":
        tokens.pop(0)
        options.append(sequence(tokens, rules, space))
    return st.one_of(options)


def sequence(tokens: list[str], rules: dict[str, st.SearchStrategy[str]], space: str) -> st.SearchStrategy[str]:
    parts: list[st.SearchStrategy[str]] = []
    while tokens[0] not in ("|", ";", ")", "]", "}"):
        token = tokens.pop(0)
        if token.startswith('"'):
            parts.append(st.just(token[1:-1]))
        elif token in ("(", "[", "{"):
            inner = choice(tokens, rules, space)
            tokens.pop(0)
            repeated = st.lists(inner, max_size=4).map("\n".join)
            parts.append({"(": inner, "[": st.just("") | inner, "{": repeated}[token])
        else:
            parts.append(st.deferred(lambda token=token: rules[token]))
    return st.tuples(*parts).map(space.join)


@settings(portion(100), suppress_health_check=[HealthCheck.too_slow])
@given(text=sentences(block("ebnf")))
def test_the_parser_reads_what_the_grammar_derives(text: str) -> None:
    codes = refused(text)
    assert codes <= {"P7", "P11"}
    event(f"declared or given twice: {bool(codes)}")
    if not codes:
        graph = parse_graph(text)
        event(f"nodes: {len(graph)}")
        assert parse_graph(print_graph(graph)) == graph


def refused(text: str) -> set[str]:
    """The codes of the errors in a text."""
    try:
        parse_graph(text)
    except InvalidInput as error:
        return {found.code for found in error.diagnostics}
    return set()


def test_the_table_of_errors() -> None:
    assert dict(re.findall(r"^\| (P\d+) \| (.*) \|$", PAGE, re.MULTILINE)) == CODES


def test_the_limits() -> None:
    characters = f"{spelling.MAX_TEXT >> 20} Mi characters, {spelling.MAX_LINE >> 20} Mi in one line"
    others = (
        f"{spelling.MAX_ITEMS:,} items in a list, {spelling.MAX_RANK:,} dimensions, bodies {spelling.MAX_NESTING} deep"
    )
    assert f"The limits (P9): {characters}, {others}." in PAGE

"""Markup: what is not markup is escaped."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from forerun.report.markup import Markup, embed_json, join, number, tag

EVIL = "</script><img src=x onerror=\"alert('1')\">&amp;"


def test_children_and_attributes_are_escaped():
    element = tag("p", EVIL, title=EVIL)
    assert "<img" not in element
    assert element.count("<") == 2
    assert element.count('"') == 2


def test_markup_is_kept():
    assert tag("p", tag("b", "x"), "<") == "<p><b>x</b>&lt;</p>"
    assert isinstance(join("a", Markup("<br>")), Markup)


def test_attribute_names_and_values():
    element = tag("a", class_="c", data_e="1,2", http_equiv="x", open=True, hidden=False, id=None, width=2.50)
    assert element == '<a class="c" data-e="1,2" http-equiv="x" open width="2.5"></a>'


@given(st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_embedded_json_closes_no_script_and_means_the_same(value):
    text = embed_json([value, EVIL])
    assert "<" not in text
    assert json.loads(text) == [value, EVIL]


def test_numbers_are_short():
    assert [number(x) for x in (1.0, 0.25, -3.04, 100)] == ["1", "0.2", "-3", "100"]

"""The picture of items, from made-up times."""

from __future__ import annotations

import json
import re

import pytest

from forerun.report import ITEMS_FILE, write_report
from forerun.report.items import draw_items, read_items
from forerun.report.load import load_dump
from forerun.support.diagnostics import InvalidInput
from tests.report.test_report_page import read
from tests.report.test_report_strip import folder
from tests.schedules.test_item_times import made_up

__all__ = ["folder"]


@pytest.fixture
def with_items(folder):
    (folder / ITEMS_FILE).write_text(json.dumps(made_up().to_json()))
    return folder


def test_the_page_shows_the_items(with_items):
    page = write_report(with_items).read_text()
    reader = read(page)
    assert "items" in reader.ids
    assert not reader.external
    text = " ".join(reader.text)
    assert "4 items on 2 CTAs in 0.4 us; the busiest CTA 1.333 of the mean, idle 28.6 %, 30 ns between items" in text
    (with_items / ITEMS_FILE).unlink()
    assert "Items of the schedule" not in write_report(with_items).read_text()


def test_bars_stand_at_their_times(with_items):
    drawn = draw_items(read_items(load_dump(with_items)))
    groups = re.findall(r'<g class="span"><title>(.*?)</title><rect ([^>]*)/>', drawn, re.DOTALL)
    assert len(groups) == 4
    found = []
    for title, rect in groups:
        given = dict(re.findall(r'([\w-]+)="([^"]*)"', rect))
        found.append((title.split("\n")[1], float(given["x"]), float(given["width"]), given["y"], given["class"]))
    scale = (1180 - 56) / 420
    for (where, x, width, y, kind), (begin, end, sm) in zip(
        found, [(0, 100, 7), (120, 420, 7), (10, 60, 3), (100, 250, 3)], strict=True
    ):
        assert where.startswith(f"SM {sm}, ")
        assert x == pytest.approx(56 + begin * scale, abs=0.1)
        assert width == pytest.approx((end - begin) * scale - 0.4, abs=0.1)
        assert (y, kind) == ("1" if sm == 3 else "8", "work")


def test_splits_have_a_colour_of_their_own(with_items):
    told = made_up().to_json()
    told["items"][2]["split"] = True
    (with_items / ITEMS_FILE).write_text(json.dumps(told))
    drawn = draw_items(read_items(load_dump(with_items)))
    assert [drawn.count(f'height="6" class="{kind}"') for kind in ("work", "early")] == [3, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "'format' is 'other'"),
        ({"ctas": 0}, "ctas"),
        ({"summary": {}}, "balance"),
        ({"items": [{"name": "a", "sm": 0, "cta": 0, "begin": 5, "end": 4, "split": False}]}, "end"),
    ],
)
def test_damaged_files_are_bad_input(with_items, change, message):
    (with_items / ITEMS_FILE).write_text(json.dumps({**made_up().to_json(), **change}))
    with pytest.raises(InvalidInput, match=message):
        write_report(with_items)

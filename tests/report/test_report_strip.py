"""The strip of one step, from made-up timelines."""

from __future__ import annotations

import json
import re

import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.passes.instrument import default_instruments
from forerun.report import TIMELINE_FILE, write_report
from forerun.report.load import load_dump
from forerun.report.strip import _label, draw_step, read_step
from forerun.support.diagnostics import InvalidInput
from tests.measure.steps import made_up
from tests.report.test_report_page import read


@pytest.fixture
def folder(tmp_path):
    builder = GraphBuilder("g")
    x, y = builder.input("x", DType.F32, (8,)), builder.output("y", DType.F32, (8,))
    builder.launch(KERNELS["copy_f32"], x=x, y=y)
    PassManager("", default_instruments(tmp_path)).run(builder.build())
    (tmp_path / TIMELINE_FILE).write_text(json.dumps(made_up().to_json()))
    return tmp_path


def test_the_page_shows_the_step(folder):
    page = write_report(folder).read_text()
    reader = read(page)
    assert "step" in reader.ids
    assert not reader.external
    text = " ".join(reader.text)
    assert "3.0 us from the first start to the last end; 3 kernels, up to 2 at once; 1.2 us of them early" in text
    (folder / TIMELINE_FILE).unlink()
    without = write_report(folder).read_text()
    assert "One step" not in without
    assert len(without) < len(page)


def bars(drawn):
    """By kernel: the rectangles with class, left and right end, and the rest."""
    found = {}
    for group in re.findall(r'<g class="span">(.*?)</g>', drawn, re.DOTALL):
        title = re.search(r"<title>(.*?)</title>", group, re.DOTALL)
        assert title is not None
        rects = []
        for rect in re.findall(r"<rect ([^>]*)/>", group):
            given = dict(re.findall(r'([\w-]+)="([^"]*)"', rect))
            left = float(given["x"])
            rects.append((given["class"], left, left + float(given["width"]), float(given["y"])))
        found[title[1].split("\n")[0]] = title[1], rects, "trigger" in group
    return found


def test_bars_stand_at_their_times(folder):
    step = read_step(load_dump(folder))
    assert step is not None
    found = bars(draw_step(step))
    assert list(found) == ["a", "b", "c"]
    scale = found["c"][1][-1][2] / 3000
    for name, times in {"a": (0, 0, 1100), "b": (900, 1150, 2500), "c": (1500, 2550, 3000)}.items():
        title, rects, triggers = found[name]
        kinds = [kind for kind, *_ in rects]
        assert kinds == (["work"] if name == "a" else ["early", "work"])
        ends = [rects[0][1], *(right for _, _, right, _ in rects)]
        wanted = [times[0], *times[-len(rects) :]]
        assert ends == pytest.approx([time * scale for time in wanted], abs=0.2)
        assert triggers == (name != "c")
        assert f"ends at {times[2] / 1e3:.2f} us" in title
    heights = {name: rects[0][3] for name, (_, rects, _) in found.items()}
    assert heights["a"] == heights["c"] < heights["b"]


def test_long_steps_are_drawn_in_bounded_width(folder):
    told = made_up().to_json()
    a = told["nodes"][0]
    told["nodes"] = [
        {**a, "name": f"layer.{i}.<x>", "start": [i * 10], "end": [i * 10 + 9], "lane": 0} for i in range(3000)
    ]
    told["nanoseconds"] = 30_000
    (folder / TIMELINE_FILE).write_text(json.dumps(told))
    drawn = draw_step(read_step(load_dump(folder)))
    widths = [float(w) for w in re.findall(r'<svg [^>]*?width="([\d.]+)"', drawn)]
    assert max(widths) <= 9100
    assert "<x>" not in drawn
    assert drawn.count("when") < 200
    read(write_report(folder).read_text())


def test_labels_are_the_last_parts_that_fit():
    labels = [_label("blk.12.ffn_down.fused", 6.7 * fits + 1) for fits in (30, 15, 14, 8, 7, 0, -5)]
    assert labels == ["blk.12.ffn_down", "blk.12.ffn_down", "12.ffn_down", "ffn_down", "", "", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "it must be an object, not a list"),
        ('{"format": "other"}', "'format' is 'other', and this forerun reads"),
        (
            '{"format": "forerun timeline 1", "nanoseconds": 1, "nodes": [{"name": "a"}]}',
            r"'nodes\[0\].start': it is missing",
        ),
        ('{"format": "forerun timeline 1", "nodes": [{"name": "a", "start": [0], "end": [1]}]}', "nanoseconds"),
    ],
)
def test_damaged_files_are_bad_input(folder, text, message):
    (folder / TIMELINE_FILE).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        write_report(folder)

"""Each kernel against the ceiling, from made-up measurements."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.measure.node_table import by_kernel, node_rows
from forerun.passes.infra.manager import PassManager
from forerun.passes.instrument import default_instruments
from forerun.report import BENCH_FILE, write_report
from forerun.report.bench import Bench, Kernel, Pipeline, draw_bench, read_bench
from forerun.report.load import load_dump
from forerun.support.diagnostics import InvalidInput
from tests.measure.steps import chain, made_up
from tests.report.test_report_page import read

CEILING = 100.0


def measurement() -> dict[str, object]:
    """As ``forerun bench`` writes it, for a step of three kernels."""
    rows = node_rows(chain(), made_up(), lambda name: np.zeros(8))
    step = {"value": 2.5, "low": 2.4, "high": 2.7, "unit": "us"}
    return {
        "format": "forerun bench 1",
        "gpu": "GPU",
        "position": 7,
        "pipelines": [{"pipeline": "reduce-edges", "step_us": step}],
        "speedup": None,
        "read_bandwidth_gbs": CEILING,
        "kernels": [row.to_json(CEILING * 1e9) for row in by_kernel(rows)],
    }


@pytest.fixture
def folder(tmp_path):
    builder = GraphBuilder("g")
    x, y = builder.input("x", DType.F32, (8,)), builder.output("y", DType.F32, (8,))
    builder.launch(KERNELS["copy_f32"], x=x, y=y)
    PassManager("", default_instruments(tmp_path)).run(builder.build())
    (tmp_path / BENCH_FILE).write_text(json.dumps(measurement()))
    return tmp_path


def kernel(label: str, share: float, *, weights: int = 0, state: int = 0, activations: int = 0) -> Kernel:
    return Kernel(label, 1, weights, state, activations, share, share, 0.0, 0.0)


def bench(*kernels: Kernel) -> Bench:
    return Bench("GPU", None, (Pipeline("", 1.0, 1.0, 1.0),), 0.0, CEILING, kernels)


def towers(drawn: str) -> list[tuple[float, float, dict[str, tuple[float, float]]]]:
    """For each kernel: left end and width in per cent, and the top and height of each coloured part in pixels."""
    picture = re.search(r'<div class="picture wide">(.*?)</div>', drawn, re.DOTALL)
    assert picture is not None
    found = []
    for inner in ET.fromstring(picture[1]).findall("svg"):
        parts = {
            rect.attrib["class"]: (float(rect.get("y", 0)), float(rect.attrib["height"])) for rect in inner.iter("rect")
        }
        found.append((float(inner.attrib["x"][:-1]), float(inner.attrib["width"][:-1]), parts))
    return found


def test_the_page_tells_what_bench_prints(folder):
    page = write_report(folder).read_text()
    reader = read(page)
    assert not reader.external
    assert "bench" in reader.ids
    text = " ".join(" ".join(reader.text).split())
    assert "GPU, position 7" in text
    assert "2.5 us a step (2.4 to 2.7): reduce-edges" in text
    for row in measurement()["kernels"]:
        cells = f"{row['label']} {row['share_us']:,.1f}"
        assert cells in text
    (folder / BENCH_FILE).unlink()
    assert "against the ceiling" not in write_report(folder).read_text()


def test_width_is_the_part_of_the_step_and_height_the_bandwidth():
    # 6 us at 50 GB/s, of which two thirds are weights; 2 us at the ceiling.
    slow = kernel("slow", 6.0, weights=200_000, state=100_000)
    first, second = towers(draw_bench(bench(slow, kernel("full", 2.0, activations=200_000))))
    assert (first[:2], second[:2]) == ((0.0, 75.0), (75.0, 25.0))
    room, bottom = first[2]["room"][1], sum(first[2]["room"])
    assert first[2]["weights"][1] == pytest.approx(room / 3, abs=0.2)
    assert first[2]["state"][1] == pytest.approx(room / 6, abs=0.2)
    assert sum(first[2]["weights"]) == pytest.approx(bottom, abs=0.2)
    assert sum(first[2]["state"]) == pytest.approx(first[2]["weights"][0], abs=0.2)
    assert second[2]["activations"] == pytest.approx(second[2]["room"], abs=0.2)


def test_what_is_above_the_ceiling_is_cut_and_its_number_is_told():
    drawn = draw_bench(bench(kernel("cached", 1.0, activations=900_000)))
    ((_, _, parts),) = towers(drawn)
    top, height = parts["activations"]
    assert (top, height) == (0.0, pytest.approx(sum(parts["room"]), abs=0.2))
    assert " 900%" in drawn


@pytest.mark.parametrize(
    "given",
    [
        bench(),
        bench(kernel("none", 0.0)),
        replace(bench(kernel("k", 1.0, weights=5)), ceiling=0.0),
        replace(bench(kernel("k", 1e300, weights=1 << 62), kernel("l", 1e300)), ceiling=1e-300),
    ],
)
def test_measurements_of_nothing_are_drawn(given):
    assert len(towers(draw_bench(given))) == len(given.kernels)
    read(draw_bench(given))


def test_names_cannot_inject_markup(folder):
    evil = "</script><img src=x onerror=alert(1)>\x1b[2K\u202e"
    told = measurement()
    told["gpu"] = told["pipelines"][0]["pipeline"] = evil
    for row in told["kernels"]:
        row["label"] = evil
    (folder / BENCH_FILE).write_text(json.dumps(told))
    page = write_report(folder).read_text()
    assert "img" not in read(page).tags
    assert not set("\x1b\u202e") & set(page)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "'format' is 'other', and this forerun reads"),
        ({"kernels": [3]}, r"'kernels\[0\]': it must be an object"),
        ({"kernels": [{"label": "k", "nodes": -1}]}, r"'kernels\[0\].nodes': it is -1"),
        ({"read_bandwidth_gbs": "fast"}, "'read_bandwidth_gbs': it must be a number"),
        ({"pipelines": [{"pipeline": "p"}]}, r"'pipelines\[0\].step_us'"),
    ],
)
def test_damaged_files_are_bad_input(folder, change, message):
    (folder / BENCH_FILE).write_text(json.dumps({**measurement(), **change}))
    with pytest.raises(InvalidInput, match=message):
        read_bench(load_dump(folder))
